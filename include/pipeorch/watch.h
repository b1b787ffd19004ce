/* What happens in a cluster, event by event. SPDX-License-Identifier: MIT
 *
 * Events are derived from the log: each has a position, the index of its log entry and its number
 * within the entry (from 1 on), and every node derives the same event at the same position. A watch
 * gives them in the order of their positions, each once and none left out, and goes on by itself at
 * the next leader when one is lost. Only what is committed is shown.
 *
 * Nodes keep the latest events in memory only (at most PO_WATCH_EVENTS_MAX). Who asks for older
 * ones gets the event PO_WATCH_GONE first: how far the history is lost. Nothing is left out without
 * it.
 *
 * Threads: one thread at a time uses a watch; po_watch_close() may be called from another one once
 * po_watch_start() was called. Close watches before their client. Ownership: all inputs are copied
 * before return; the strings of an event are the watch's, valid until the next event is asked for
 * (in a callback: until it returns). */
#ifndef PIPEORCH_WATCH_H
#define PIPEORCH_WATCH_H

#include <pipeorch/client.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PO_WATCH_EVENTS_MAX 131072 /* events that a node keeps, in at most 16 MiB */

/* Kinds of events. Later releases add kinds: skip those that you do not know. */
#define PO_WATCH_GONE              1  /* not derived from the log: history is lost, see below */
#define PO_WATCH_TASK_SUBMITTED    2  /* task_id, run_id, capability, state (pending, scheduled) */
#define PO_WATCH_TASK_GRANTED      3  /* and attempt, token, worker_id */
#define PO_WATCH_TASK_RETRY        4  /* the attempt failed (error), another one follows */
#define PO_WATCH_TASK_LOST         5  /* the attempt's worker is lost, another one follows */
#define PO_WATCH_TASK_FINISHED     6  /* state: succeeded, failed (error), cancelled */
#define PO_WATCH_TASK_REVIVED      7  /* after its end it gets all its attempts once more */
#define PO_WATCH_WORKER_REGISTERED 8  /* worker_id, state; anew or again */
#define PO_WATCH_WORKER_STATUS     9  /* worker_id, state */
#define PO_WATCH_WORKER_GONE       10 /* worker_id */
#define PO_WATCH_PIPELINE_DEFINED  11 /* pipeline */
#define PO_WATCH_RUN_STARTED       12 /* run_id, pipeline */
#define PO_WATCH_STEP_STARTED      13 /* run_id, pipeline, step, task_id */
#define PO_WATCH_STEP_FINISHED     14 /* and state (that of its task, or skipped), error */
#define PO_WATCH_RUN_FINISHED      15 /* run_id, pipeline, state, error */
#define PO_WATCH_LEADER            16 /* node_id, name, term: it leads from here on */
#define PO_WATCH_MEMBER_CHANGED    17 /* node_id, name: its record is new or changed */
#define PO_WATCH_MEMBER_GONE       18 /* node_id */

/* Sets of kinds, for po_watch_opts.kinds. */
#define PO_WATCH_BIT(kind) (UINT64_C(1) << (kind))
#define PO_WATCH_TASKS                                                                             \
    (PO_WATCH_BIT(PO_WATCH_TASK_SUBMITTED) | PO_WATCH_BIT(PO_WATCH_TASK_GRANTED) |                 \
     PO_WATCH_BIT(PO_WATCH_TASK_RETRY) | PO_WATCH_BIT(PO_WATCH_TASK_LOST) |                        \
     PO_WATCH_BIT(PO_WATCH_TASK_FINISHED) | PO_WATCH_BIT(PO_WATCH_TASK_REVIVED))
#define PO_WATCH_WORKERS                                                                           \
    (PO_WATCH_BIT(PO_WATCH_WORKER_REGISTERED) | PO_WATCH_BIT(PO_WATCH_WORKER_STATUS) |             \
     PO_WATCH_BIT(PO_WATCH_WORKER_GONE))
#define PO_WATCH_RUNS                                                                              \
    (PO_WATCH_BIT(PO_WATCH_PIPELINE_DEFINED) | PO_WATCH_BIT(PO_WATCH_RUN_STARTED) |                \
     PO_WATCH_BIT(PO_WATCH_STEP_STARTED) | PO_WATCH_BIT(PO_WATCH_STEP_FINISHED) |                  \
     PO_WATCH_BIT(PO_WATCH_RUN_FINISHED))
#define PO_WATCH_MEMBERS                                                                           \
    (PO_WATCH_BIT(PO_WATCH_LEADER) | PO_WATCH_BIT(PO_WATCH_MEMBER_CHANGED) |                       \
     PO_WATCH_BIT(PO_WATCH_MEMBER_GONE))

typedef struct po_watch po_watch;

#define PO_WATCH_OLDEST UINT64_MAX /* as after_index: from the oldest event that is kept */

struct po_watch_opts {
    size_t size;
    /* The watch gives the events behind this position: with the position of an event, those that
     * follow it; with an index and position 0, those of that entry and all later ones. Index 0:
     * what happens from now on. PO_WATCH_OLDEST: all that is kept. */
    uint64_t after_index;
    uint32_t after_position;
    uint64_t kinds; /* PO_WATCH_BIT of the kinds wanted; 0: all. PO_WATCH_GONE always comes */
    /* Only events about these; several: all must fit. 0 or NULL: whatever it is about. */
    uint64_t task_id;
    uint64_t run_id;       /* the run, its steps and their tasks */
    const char *worker_id; /* the worker, and the attempts that it runs or ran */
    const char *pipeline;  /* the pipeline, its runs and their steps */
};

struct po_watch_event {
    size_t size; /* in, for po_watch_next */
    int kind;    /* PO_WATCH_* */
    /* Where it happened. GONE: what is kept goes on behind this position. */
    uint32_t position;
    uint64_t index;
    uint64_t time_ms; /* of the cluster's clock, since 1970; 0: GONE */
    /* What it is about: 0 or "" where that says nothing; strings are never NULL. */
    uint64_t task_id, run_id;
    uint64_t token; /* fencing token of the attempt */
    uint64_t node_id, term;
    uint32_t attempt; /* from 1 on */
    int state; /* after it: PO_TASK_* (tasks, steps), PO_STEP_SKIPPED, PO_RUN_*, PO_WORKER_* */
    const char *worker_id, *capability, *pipeline, *step, *name;
    const char *error; /* the beginning, if it is long */
};

/* Open a watch. opts may be NULL: everything, from now on. `From now on` is what this call settles
 * with the leader: whatever is done after its return is seen. For that it blocks (call says how
 * long, NULL: 10 s) and must not be called in callbacks; with a position it asks nobody. Returns 0,
 * PO_EINVAL, or as po_apply. Any thread. Since 0.2. */
PO_API int po_watch_open(po_watch **watch, po_client *client, const struct po_watch_opts *opts,
                         const struct po_call_opts *call);

/* Wait for the next event, at most timeout_ms (0..PO_TIMEOUT_MAX_MS; 0: only what has come
 * already). Whatever it returns, the next call goes on at the same position: nothing is lost.
 *
 * Returns 0; PO_ETIMEDOUT: nothing happened; PO_EUNREACHABLE, PO_ENOLEADER: nor was there anybody
 * to ask at last; PO_EUNKNOWN: likewise, on the way; PO_ESTATE: the watch calls back
 * (po_watch_start); PO_EBUSY: the leader has as many watches as it allows, retry later; PO_EINVAL,
 * also if the position is ahead of the log: is it another cluster's?; PO_EVERSION: the leader runs
 * a release without watches; PO_ENOMEM; PO_ECLOSED, PO_EFAULT: the client or its node ended.
 * Blocks: not in callbacks. Since 0.2. */
PO_API int po_watch_next(po_watch *watch, uint32_t timeout_ms, struct po_watch_event *event);

/* With code 0: the next event. Otherwise event is NULL, and the watch stands still: what could not
 * be waited out is as for po_watch_next. */
typedef void (*po_watch_cb)(void *arg, int code, const struct po_watch_event *event);

/* Have cb called with each event, in order, one at a time, on the thread that runs the client's
 * callbacks; it must not block. Whether a leader is there is no matter of the callback: the watch
 * waits for one. After a code that is not 0, po_watch_start (also in the callback) goes on at the
 * same position. Returns 0; PO_EINVAL, PO_ESTATE (it runs already), PO_EBUSY, PO_ENOMEM,
 * PO_ECLOSED: cb is not called. Any thread. Since 0.2. */
PO_API int po_watch_start(po_watch *watch, po_watch_cb cb, void *arg);

/* The position behind which the next event will be: that of the last event given, or further, if
 * nothing that is wanted happened since. Open another watch there to go on. Since 0.2. */
PO_API void po_watch_position(po_watch *watch, uint64_t *index, uint32_t *position);

/* Close. After its return the callback does not run, except that it may call this itself. NULL is
 * allowed. Since 0.2. */
PO_API void po_watch_close(po_watch *watch);

/* The event as one line of JSON with what it says: {"index", "position", "time_ms", "event": the
 * kind in small letters ("task_granted"), ...}; states are words. Release with po_free. Returns 0,
 * PO_EINVAL, PO_ENOMEM. Any thread. Since 0.2. */
PO_API int po_watch_event_json(const struct po_watch_event *event, char **json);

#ifdef __cplusplus
}
#endif
#endif
