/* Calls on the control plane. SPDX-License-Identifier: MIT
 *
 * One set of calls, two ways to reach the cluster: po_client_open() over the network,
 * po_node_client() in-process. Both follow redirects to the leader by themselves and retry until
 * the timeout of the call, as long as that is safe: submissions and starts of runs carry an
 * idempotency key, and what cancels may come twice. Registering, deregistering, setting a worker's
 * status, defining, and what is done to schedules carry none: a repetition that arrives late would
 * undo what others did in between. Those are repeated only if it is certain that nothing was done;
 * otherwise they return PO_EUNKNOWN, and the caller decides.
 *
 * Each blocking call has an _async twin whose callback runs on a thread of the library (the node
 * thread for an in-process client, the client's own thread otherwise) and must not block.
 * Blocking calls must not be made from callbacks. A client may be used from any number of
 * threads, of the process that opened it: a forked child opens its own. Inputs are copied before
 * return. JSON is UTF-8 text.
 *
 * An _async function returns 0, or an error and never calls back: PO_EINVAL, PO_ETOOBIG, PO_EBUSY,
 * PO_ENOMEM, PO_ECLOSED; everything else arrives as the code of its result. "As po_apply" stands
 * for the errors that any call can end with: PO_EINVAL, PO_ETOOBIG, PO_EBUSY, PO_ENOMEM,
 * PO_ETIMEDOUT, PO_ENOLEADER, PO_EUNKNOWN, PO_ECLOSED, PO_EFAULT (node.h says what each asks for),
 * and over the network also PO_EUNREACHABLE: no control node answers at the addresses given; retry,
 * or correct them. */
#ifndef PIPEORCH_CLIENT_H
#define PIPEORCH_CLIENT_H

#include <pipeorch/node.h>
#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct po_client_opts {
    size_t size;
    const char *name;   /* shown in logs; NULL: "client" */
    uint32_t calls_max; /* calls under way at once, beyond it PO_EBUSY; 0: 1024; 1..65536 */
    struct po_log_opts log;
};

/* Open a client for a comma-separated list of control nodes' worker addresses
 * ("host:port,host:port"). Does not wait for a connection. Returns 0, PO_EINVAL, PO_EADDR,
 * PO_ENOMEM. opts may be NULL. Any thread. Since 0.1. */
PO_API int po_client_open(po_client **client, const char *addresses,
                          const struct po_client_opts *opts);

/* Close; calls still waiting complete with PO_ECLOSED or PO_EUNKNOWN. Not from a callback. Waits
 * for no node, but for the system's resolver if it looks up a name at that moment. NULL is allowed.
 * Since 0.1. */
PO_API void po_client_close(po_client *client);

/* The message that belongs to the last non-zero return of a blocking call of this thread (any
 * client). Valid until the thread's next blocking call. Never NULL. Since 0.1. */
PO_API const char *po_client_error(void);

/* Release what a call returned through a char ** argument. NULL is allowed. Any thread. Since
 * 0.1. */
PO_API void po_free(void *ptr);

/* ---- workers ---- */

struct po_worker_info {
    size_t size;
    const char *id;        /* required; unique, [A-Za-z0-9._-]+ */
    const char *address;   /* where the worker can be reached, for information; may be NULL */
    const char *zone;      /* NULL: "default" */
    uint64_t incarnation;  /* changes whenever the worker process starts anew; 0 is refused */
    uint32_t heartbeat_ms; /* promised interval between heartbeats; 0: 5000; 100..60000. Offline
                              after three missed ones */
    const struct po_label *labels;
    size_t labels_count; /* 0..PO_LABELS_MAX */
    const struct po_capability *capabilities;
    size_t capabilities_count;           /* 1..PO_CAPABILITIES_MAX */
    const struct po_resource *resources; /* what it has; tasks that ask for none are not counted */
    size_t resources_count;              /* 0..PO_RESOURCES_MAX */
    uint32_t slots; /* tasks at a time over all capabilities; 0: only their own limits count */
};

/* Register a worker, or register it again. A new incarnation of a known id takes its place and
 * its leases are requeued. This is for embedders that drive a worker themselves; po_worker_run()
 * does all of it. Returns 0, PO_EINVAL, PO_ESTALE (an older incarnation), PO_EQUOTA, or as
 * po_apply. Since 0.1. */
PO_API int po_register_worker(po_client *client, const struct po_worker_info *worker,
                              const struct po_call_opts *opts);
PO_API int po_register_worker_async(po_client *client, const struct po_worker_info *worker,
                                    const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Say that the worker lives. Costs no log entry. Returns 0, PO_ENOTREGISTERED (register again),
 * PO_ESTALE (a newer incarnation took its place). Since 0.1. */
PO_API int po_heartbeat(po_client *client, const char *worker_id, uint64_t incarnation,
                        const struct po_call_opts *opts);
PO_API int po_heartbeat_async(po_client *client, const char *worker_id, uint64_t incarnation,
                              const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Set a worker's status to PO_WORKER_ONLINE or PO_WORKER_DRAINING (it finishes what it runs and
 * gets nothing new). Returns 0, PO_EINVAL (another status), PO_ENOTFOUND, or as po_apply. Since
 * 0.1. */
PO_API int po_update_worker_status(po_client *client, const char *worker_id, int status,
                                   const struct po_call_opts *opts);
PO_API int po_update_worker_status_async(po_client *client, const char *worker_id, int status,
                                         const struct po_call_opts *opts, po_result_cb cb,
                                         void *arg);

/* Remove a worker; its leases are requeued. incarnation 0 removes whichever is registered.
 * Returns 0, PO_ENOTFOUND, PO_ESTALE, or as po_apply. Since 0.1. */
PO_API int po_deregister_worker(po_client *client, const char *worker_id, uint64_t incarnation,
                                const struct po_call_opts *opts);
PO_API int po_deregister_worker_async(po_client *client, const char *worker_id,
                                      uint64_t incarnation, const struct po_call_opts *opts,
                                      po_result_cb cb, void *arg);

struct po_route_info {
    size_t size; /* in */
    char worker_id[PO_NAME_MAX_BYTES + 1];
    char address[PO_ADDRESS_MAX_BYTES + 1];
    char zone[PO_NAME_MAX_BYTES + 1];
    char version[PO_NAME_MAX_BYTES + 1];
    uint32_t running;    /* tasks that it runs */
    uint32_t free_slots; /* of this capability */
    uint64_t index;      /* state that the answer was read from */
    uint32_t candidates; /* workers that fit and have room; this one won. Since 0.2, as `why` */
    char why[512];       /* how the choice fell, in a sentence */
};

/* Which worker would a task for `capability` get now? zone (may be NULL) breaks ties.
 * Linearizable; nothing is reserved. Returns 0, PO_ENOCAPABILITY (none registered or all
 * offline), PO_EBUSY (all offers are full), or as po_apply. Since 0.1. */
PO_API int po_route(po_client *client, const char *capability, const char *zone,
                    const struct po_call_opts *opts, struct po_route_info *route);
/* As po_route; result->data is the JSON of po_query(PO_QUERY_ROUTE). Since 0.1. */
PO_API int po_route_async(po_client *client, const char *capability, const char *zone,
                          const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* What a task would ask for, and where it would rather run. */
struct po_route_opts {
    size_t size;
    const char *capability;               /* "verb:name" or "verb:name@range" */
    const char *zone;                     /* preferred; may be NULL */
    const struct po_placement *placement; /* may be NULL */
};
/* As po_route, with demands. PO_ENOCAPABILITY also if no online worker satisfies them. Since 0.2.
 */
PO_API int po_route_with(po_client *client, const struct po_route_opts *what,
                         const struct po_call_opts *opts, struct po_route_info *route);
PO_API int po_route_with_async(po_client *client, const struct po_route_opts *what,
                               const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* ---- tasks ---- */

struct po_task_opts {
    size_t size;
    const char *capability; /* required, "verb:name" or "verb:name@range"; a worker may register it
                               later */
    const void *input;      /* JSON text; NULL: "null". At most PO_PAYLOAD_MAX_BYTES */
    size_t input_len;
    const char *zone;      /* preferred among equally loaded workers; may be NULL */
    uint32_t attempts_max; /* 0: 3; 1..100 */
    uint32_t timeout_ms;   /* of one attempt; 0: 600000; 100..86400000 */

    /* Since 0.2. They need control nodes of 0.2 throughout; PO_EVERSION otherwise. */
    const struct po_placement *placement; /* where it may run; NULL: anywhere */
    uint32_t priority;    /* 0..PO_PRIORITY_MAX, higher goes first. A level is worth ten minutes of
                             waiting, so nothing waits for ever */
    uint64_t run_at_ms;   /* not before, in milliseconds since 1970; 0: at once */
    uint64_t deadline_ms; /* likewise: it fails if it is not finished by then; 0: none */
    uint32_t retry_ms, retry_max_ms; /* wait before the second attempt, doubled for each further
                                        one up to the second number, less a random part of at most
                                        half; 0: 500 and 60000; up to 86400000 */
    const char *concurrency_key;     /* name that tasks share to be limited together; NULL: none */
    uint32_t concurrency_max;        /* tasks of the key that run at a time; 0: any number */
    uint32_t rate_max, rate_period_ms; /* at most rate_max starts of the key in rate_period_ms
                                          (token bucket); both 0: any; 1..1000000 in 1..86400000 ms.
                                          Of a key, the limits that were submitted last count */
    uint64_t keep_ms; /* forget it so long after its end; 0: kept until others need the room */
};

/* Submit a durable task. *task_id (may be NULL) receives its id. With the same opts->key the
 * same task is answered again. Returns 0, PO_EINVAL (also, since 0.2, an input that breaks the
 * capability's input_schema, see types.h), PO_ETOOBIG, PO_EQUOTA (too many unfinished
 * tasks), or as po_apply. Since 0.1. */
PO_API int po_submit_task(po_client *client, const struct po_task_opts *task,
                          const struct po_call_opts *opts, uint64_t *task_id);
PO_API int po_submit_task_async(po_client *client, const struct po_task_opts *task,
                                const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Submit many tasks: one call, few messages. ids and codes (each of `count` elements, either may be
 * NULL) receive each task's id and its own 0 or error. All elements of `tasks` have the size that
 * the first one says. Each task has an idempotency key of its own, made of opts->key (at most 56
 * bytes here) and its place, so repeating the whole call with the same key and the same tasks is
 * safe. Returns 0 if every task was submitted; else the first error, with po_client_error() naming
 * the first task concerned: look at codes. count: 1..PO_TASKS_BATCH_MAX. Blocking; no order between
 * tasks of one priority beyond that of the array. Since 0.2. */
#define PO_TASKS_BATCH_MAX 100000
PO_API int po_submit_tasks(po_client *client, const struct po_task_opts *tasks, size_t count,
                           const struct po_call_opts *opts, uint64_t *ids, int *codes);

/* Give a failed or cancelled task all its attempts once more (dead letters:
 * po_query(PO_QUERY_TASKS) with the name "failed"). Its deadline, if it had one, must not have
 * passed. Returns 0 (also if it is not finished), PO_ENOTFOUND (never existed, or forgotten),
 * PO_ESTATE (it succeeded, or is a step of a run: resume that), PO_EQUOTA, PO_EVERSION, or as
 * po_apply. Since 0.2. */
PO_API int po_task_retry(po_client *client, uint64_t task_id, const struct po_call_opts *opts);
PO_API int po_task_retry_async(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                               po_result_cb cb, void *arg);

/* For sinks and for workers about to touch one: is this fencing token still the right to act for
 * the task? Linearizable. Returns 0, PO_ESTALE (the lease was lost, given to another attempt, or
 * the task is finished: leave no side effects), or as po_apply. The answer is about the moment of
 * the call; a sink that stores the highest token it has seen, and refuses lower ones, is safe for
 * ever. Since 0.2. */
PO_API int po_fence_check(po_client *client, uint64_t task_id, uint64_t token,
                          const struct po_call_opts *opts);
PO_API int po_fence_check_async(po_client *client, uint64_t task_id, uint64_t token,
                                const struct po_call_opts *opts, po_result_cb cb, void *arg);

struct po_task_info {
    size_t size; /* in */
    uint64_t id;
    int state; /* PO_TASK_* */
    uint32_t attempts;
    char worker_id[PO_NAME_MAX_BYTES + 1]; /* of the current or last attempt */
    char zone[PO_NAME_MAX_BYTES + 1];      /* of that worker */
    char *result;                          /* release with po_free; NULL if none */
    size_t result_len;
    char *error; /* release with po_free; NULL if none */
    uint64_t index;
};

/* Wait until the task is finished (succeeded, failed, cancelled), at most the timeout, and fetch
 * it. info may be NULL; its result and error are the caller's. Returns 0 (look at info->state),
 * PO_ETIMEDOUT, PO_ENOTFOUND, or as po_apply. Since 0.1. */
PO_API int po_task_wait(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                        struct po_task_info *info);
/* As po_task_wait; result->data is the JSON of po_query(PO_QUERY_TASK). Since 0.1. */
PO_API int po_task_wait_async(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                              po_result_cb cb, void *arg);

/* Cancel a task that is not finished; a running attempt is told at its worker's next poll and
 * its result refused. Returns 0 (also if it was cancelled before), PO_ENOTFOUND, PO_ESTATE
 * (succeeded or failed already), or as po_apply. Since 0.1. */
PO_API int po_task_cancel(po_client *client, uint64_t task_id, const struct po_call_opts *opts);
PO_API int po_task_cancel_async(po_client *client, uint64_t task_id,
                                const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* ---- pipelines ---- */

/* Check a pipeline document without a cluster. Returns 0, or PO_EINVAL with *problems set to one
 * problem per line, each with its place ("line:column: /pointer: what was wrong; what to do");
 * release with po_free. file_name (may be NULL) is put in front of each place. Any thread. Since
 * 0.1. */
PO_API int po_pipeline_validate(const char *json, size_t len, const char *file_name,
                                char **problems);

/* Define a pipeline from its JSON document, or replace the definition of that name: runs under way
 * keep theirs. examples/energy/pipeline.json is a chain of steps, examples/fanout/pipeline.json a
 * graph; libpipeorch/spec/README.md lists all that a document can say. Graphs need a cluster whose
 * nodes all run release 0.2 or newer (PO_EVERSION otherwise). Returns 0, PO_EINVAL
 * (po_client_error lists every problem), PO_EQUOTA, or as po_apply. Since 0.1. */
PO_API int po_pipeline_define(po_client *client, const char *json, size_t len,
                              const struct po_call_opts *opts);
PO_API int po_pipeline_define_async(po_client *client, const char *json, size_t len,
                                    const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Start a run. params is JSON text (NULL: "null"): of a chain handed to every step as it is; of a
 * graph an object of the params that it declares (PO_EINVAL names what is missing, unknown or of
 * another type). zone is preferred for the first steps (may be NULL). Returns 0, PO_ENOTFOUND,
 * PO_EINVAL, PO_EQUOTA, or as po_apply. Since 0.1. */
PO_API int po_run_start(po_client *client, const char *pipeline, const char *params,
                        const char *zone, const struct po_call_opts *opts, uint64_t *run_id);
PO_API int po_run_start_async(po_client *client, const char *pipeline, const char *params,
                              const char *zone, const struct po_call_opts *opts, po_result_cb cb,
                              void *arg);

struct po_run_opts {
    size_t size;
    const char *pipeline; /* required */
    const char *params;   /* JSON text, as the pipeline declares its params; NULL: "null" */
    const char *zone;     /* preferred for the first steps; may be NULL */
    uint32_t priority;    /* of all tasks whose step names none; 0..PO_PRIORITY_MAX */
};

/* As po_run_start, with more to choose. A priority needs a cluster whose nodes all run release 0.2
 * or newer (PO_EVERSION otherwise). Returns as po_run_start. Since 0.2. */
PO_API int po_run_start_with(po_client *client, const struct po_run_opts *run,
                             const struct po_call_opts *opts, uint64_t *run_id);
PO_API int po_run_start_with_async(po_client *client, const struct po_run_opts *run,
                                   const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Start a new run that goes on where a finished one, which stays as it is, came to its end: with
 * the same definition and params, and with the outputs of the steps that succeeded. What did not
 * succeed runs, and all that follows it. from_step (may be NULL) names a step that is run again
 * whatever became of it, with all that follows it. *new_run_id (may be NULL) receives the new run's
 * id; with the same opts->key the same run is answered again. Returns 0, PO_EINVAL (no such step),
 * PO_ENOTFOUND (no such run, or an output that is needed is not kept any more), PO_ESTATE (it is
 * still running; or it succeeded and from_step is NULL), PO_EQUOTA, or as po_apply. Needs a cluster
 * whose nodes all run release 0.2 or newer (PO_EVERSION otherwise). Since 0.2. */
PO_API int po_run_resume(po_client *client, uint64_t run_id, const char *from_step,
                         const struct po_call_opts *opts, uint64_t *new_run_id);
PO_API int po_run_resume_async(po_client *client, uint64_t run_id, const char *from_step,
                               const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Cancel a run and all of its tasks. Returns 0 (also if it was cancelled before), PO_ENOTFOUND,
 * PO_ESTATE (succeeded or failed already), or as po_apply. Since 0.1. */
PO_API int po_run_cancel(po_client *client, uint64_t run_id, const struct po_call_opts *opts);
PO_API int po_run_cancel_async(po_client *client, uint64_t run_id, const struct po_call_opts *opts,
                               po_result_cb cb, void *arg);

/* Wait until the run is finished, at most the timeout. *json (may be NULL) receives the JSON of
 * po_query(PO_QUERY_RUN), to be released with po_free; *state (may be NULL) its PO_RUN_*.
 * Returns 0, PO_ETIMEDOUT, PO_ENOTFOUND, or as po_apply. Since 0.1. */
PO_API int po_run_wait(po_client *client, uint64_t run_id, const struct po_call_opts *opts,
                       int *state, char **json);
PO_API int po_run_wait_async(po_client *client, uint64_t run_id, const struct po_call_opts *opts,
                             po_result_cb cb, void *arg);

/* ---- schedules ---- */

/* When a pipeline is run by itself. The cluster starts a run at each tick, exactly once: what
 * leaders, failovers and clocks do in between does not matter. A tick that is due while no leader
 * is there is fired by the next one, in order, if it is not too late by then. */
struct po_schedule_opts {
    size_t size;
    const char *name;     /* required; unique, [A-Za-z0-9._-]+ */
    const char *pipeline; /* required; looked for at each tick, so it may be defined later */
    /* Required: "MINUTE HOUR DAY_OF_MONTH MONTH DAY_OF_WEEK", each a list of *, values, ranges and
     * steps (8-18/2); months and days of the week also as JAN, MON; or @hourly, @daily, @weekly,
     * @monthly, @yearly. If neither day field begins with *, one of them is enough. At most
     * PO_CRON_MAX_BYTES.
     *
     * In the local time of time_zone. A schedule for certain hours fires once for each local time
     * that matches: at the jump if the clocks skip it, at the first time if they show it twice. One
     * for all hours goes by the time that really passes. */
    const char *cron;
    const char *time_zone; /* IANA name, as "Europe/Berlin"; NULL: "UTC" */
    const char *params;    /* of the runs; JSON text of at most 64 KiB; NULL: "null" */
    const char *zone;      /* preferred for the first step, as of po_run_start; may be NULL */
    int overlap;           /* PO_OVERLAP_*: if one of its last 10 runs is still under way */
    /* How late a tick may still be fired; later ones are counted and passed over. 0:
     * PO_CATCH_UP_DEFAULT_MS; 1..PO_CATCH_UP_MAX_MS; PO_CATCH_UP_NONE. Ten seconds more are always
     * granted: a change of leaders is not late. */
    uint32_t catch_up_ms;
    int paused; /* 1: it has no ticks until po_schedule_pause(..., 0, ...) */
};

/* Define a schedule, or replace the one of that name; its history stays. A tick that is due at this
 * moment is not lost, unless cron or time_zone change. Returns 0, PO_EINVAL (po_client_error says
 * which field, what was found, what is expected), PO_ETOOBIG, PO_EQUOTA (1024 schedules),
 * PO_EVERSION (a control node runs an older program), or as po_apply. Since 0.2. */
PO_API int po_schedule_define(po_client *client, const struct po_schedule_opts *schedule,
                              const struct po_call_opts *opts);
PO_API int po_schedule_define_async(po_client *client, const struct po_schedule_opts *schedule,
                                    const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Delete a schedule; runs that it started go on. Returns 0, PO_ENOTFOUND, or as po_apply. Since
 * 0.2. */
PO_API int po_schedule_delete(po_client *client, const char *name, const struct po_call_opts *opts);
PO_API int po_schedule_delete_async(po_client *client, const char *name,
                                    const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* paused 1: a schedule has no ticks from now on. 0: it has them again, from now on; those of the
 * pause are not made up for. Returns 0 (also if it was so before), PO_ENOTFOUND, or as po_apply.
 * Since 0.2. */
PO_API int po_schedule_pause(po_client *client, const char *name, int paused,
                             const struct po_call_opts *opts);
PO_API int po_schedule_pause_async(po_client *client, const char *name, int paused,
                                   const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* ---- queries ---- */

/* What to ask. All answers are JSON objects; every answer has "index", "term" and "staleness_ms"
 * (0: linearizable). */
#define PO_QUERY_STATUS       1 /* cluster: members, leader, counts */
#define PO_QUERY_WORKERS      2
#define PO_QUERY_CAPABILITIES 3
#define PO_QUERY_ROUTE        4 /* name: capability, name2: zone */
#define PO_QUERY_TASK         5 /* id */
#define PO_QUERY_TASKS        6 /* id: after this id; limit; name: a state ("running", ...) */
#define PO_QUERY_PIPELINES    7
#define PO_QUERY_PIPELINE     8  /* name */
#define PO_QUERY_RUN          9  /* id; name: only this step of a graph, with its output */
#define PO_QUERY_RUNS         10 /* id: after this id; limit; name: a pipeline; name2: a state */
#define PO_QUERY_MEMBERS      11 /* see po_member_list in member.h */
#define PO_QUERY_EXPLAIN      12 /* id: a task; name: only after this worker id; limit. Since 0.2 */
#define PO_QUERY_FENCE        13 /* see po_fence_check. Since 0.2 */
#define PO_QUERY_SCHEDULES    14 /* name: only after this name; limit. Since 0.2 */
#define PO_QUERY_SCHEDULE     15 /* name. Since 0.2 */

struct po_query {
    size_t size;
    int what; /* PO_QUERY_* */
    uint64_t id;
    const char *name;
    const char *name2;
    uint32_t limit; /* 0: 100; 1..1000 */
    /* 0: linearizable. 1..PO_TIMEOUT_MAX_MS: any node may answer from its own state if that is at
     * most so old; see below. */
    uint32_t stale_ms;
};

/* Ask for the state of the cluster as JSON text; *json is released with po_free.
 *
 * Linearizable, unless query->stale_ms is set. Then the node that is asked answers, leader or not:
 * an in-process client's is its own node; a client of po_client_open() asks the node that it is
 * connected with, so give it one address to name the node. Such an answer contains everything that
 * was acknowledged to anybody up to its "staleness_ms" before the node made it, and staleness_ms is
 * at most query->stale_ms. It is measured by the monotonic clock of that node alone, from before a
 * leader was asked to confirm; clocks and network delays of others cannot make it too small. (That
 * clock stands still while a machine is suspended; the answer's own way back is not in it.) A node
 * that has not been asked for a while needs one round trip to the leader first; one that hears of
 * no leader answers until the bound is reached, and then PO_ESTALE_READ.
 *
 * Returns 0, PO_EINVAL, PO_ENOTFOUND, PO_ENOCAPABILITY, PO_ESTALE_READ (ask another node, or allow
 * more), or as po_apply. Since 0.1. */
PO_API int po_query(po_client *client, const struct po_query *query,
                    const struct po_call_opts *opts, char **json);
PO_API int po_query_async(po_client *client, const struct po_query *query,
                          const struct po_call_opts *opts, po_result_cb cb, void *arg);

#ifdef __cplusplus
}
#endif
#endif
