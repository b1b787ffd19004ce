/* The replicated state machine: workers, capabilities, tasks, pipelines, runs, members,
 * application commands. PURE.
 *
 * The same commands in the same order give the same state, results and effects on every node: no
 * clock, no random numbers, no I/O, no iteration in pointer order. Scheduling happens inside
 * apply: whatever changes what can run (submit, completion, registration, status) also assigns,
 * in the same command. Time is the leader's stamp in the entry, never decreasing.
 *
 * Assignment: a pending task (per capability: highest priority first, then oldest first; a level of
 * priority is worth PO__AGEING_MS of waiting, so nothing starves) goes to an online worker that
 * offers its capability, satisfies its placement, and has a free slot of it and the resources. Of
 * those it goes, unless the placement prefers otherwise, to the one that runs the fewest tasks;
 * among equals one in the task's zone; among those the one that was assigned longest ago. Where
 * workers share slots or resources among their capabilities, these take turns in the same order. A
 * task with a concurrency key waits until its key has room, and holds up nobody else meanwhile.
 *
 * Fencing token of a grant: max(last token + 1, index of the entry). Strictly increasing over
 * all grants of the cluster.
 *
 * One thread. Functions that can run out of memory return PO_ENOMEM; after that the model must
 * not be used for anything but po__model_close (the node stops). */
#ifndef PO__MODEL_H
#define PO__MODEL_H

#include "../base/list.h"
#include "../base/tree.h"
#include "command.h"

#define PO__WORKERS_MAX          100000
#define PO__WORKERS_MAX_BYTES    (UINT64_C(1) << 30) /* memory of their registrations */
#define PO__TASKS_UNFINISHED_MAX 2000000             /* pending, scheduled or running */
#define PO__TASKS_FINISHED_MAX                                                                     \
    100000 /* kept for queries and for their idempotency key; the oldest go first */
#define PO__TASKS_FINISHED_MAX_BYTES                                                               \
    (64u * 1024 * 1024)                              /* payload bytes of finished tasks, likewise */
#define PO__TASKS_MAX_BYTES      (UINT64_C(2) << 30) /* payload bytes of unfinished tasks */
#define PO__TASKS_DEAD_MAX       20000 /* failed tasks kept beside them, for `retry`; likewise */
#define PO__TASKS_DEAD_MAX_BYTES (64u * 1024 * 1024)
#define PO__CLASSES_MAX          4096 /* different placements of unfinished tasks of one capability */
#define PO__GATES_MAX            65536  /* concurrency keys in use */
#define PO__AGEING_MS            600000 /* one level of priority is worth so much waiting */
#define PO__PIPELINES_MAX        1024
#define PO__RUNS_ACTIVE_MAX      10000
#define PO__RUNS_FINISHED_MAX    1000
/* Beside PO__RUNS_FINISHED_MAX runs as many child runs are kept. Of runs of graphs: */
#define PO__RUN_MAX_BYTES  (4u * 1024 * 1024)  /* outputs that one keeps */
#define PO__RUNS_MAX_BYTES (UINT64_C(1) << 30) /* outputs and params of those under way */
#define PO__RUNS_FINISHED_MAX_BYTES                                                                \
    (64u * 1024 * 1024)           /* and of those that are finished: the oldest go first */
#define PO__RUN_DEPTH_MAX   8     /* pipelines that run as steps of each other */
#define PO__CACHE_MAX       10000 /* results of steps that are kept for equal inputs */
#define PO__CACHE_MAX_BYTES (64u * 1024 * 1024) /* inputs and outputs of those */
/* Application commands whose idempotency key and result are kept */
#define PO__APP_KEYS_MAX 65536
/* Result bytes of those, likewise; the oldest go first */
#define PO__APP_KEYS_MAX_BYTES (16u * 1024 * 1024)

#define PO__SCHEDULES_MAX      1024
#define PO__SCHEDULE_RUNS_KEPT 10 /* runs of one schedule that it remembers */
/* A tick decided so much later is still on time: as long as a change of leaders may take */
#define PO__SCHEDULE_ON_TIME_MS 10000

#define PO__TASK_ATTEMPTS_DEFAULT   3
#define PO__TASK_TIMEOUT_DEFAULT_MS 600000
#define PO__RETRY_DELAY_MIN_MS      500 /* before attempt 2; doubles for each further attempt */
#define PO__RETRY_DELAY_MAX_MS      60000

struct po__model; /* opaque outside model/; state.h has the objects */

/* The application's state machine behind PO__CMD_APP; NULL functions when there is none (an APP
 * command then stops the node). */
struct po__app {
    const struct po_state_machine *sm;
};

/* What the leader must do because a command was applied. */
enum po__fx_type {
    PO__FX_ASSIGNED = 1, /* task granted to worker: hand it out */
    PO__FX_REVOKED, /* worker lost the lease of task (cancelled, timed out, requeued): tell it */
    PO__FX_TASK_FINISHED,  /* answer those who wait for the task */
    PO__FX_RUN_FINISHED,   /* answer those who wait for the run */
    PO__FX_WORKER_CHANGED, /* registered, status changed, new incarnation */
    PO__FX_WORKER_GONE,    /* deregistered */
    PO__FX_MEMBER,         /* member information changed */
    PO__FX_SCHEDULE,       /* id: generation of one that was defined, deleted, or ticked */
};

struct po__fx {
    enum po__fx_type type;
    uint64_t id;     /* task id, run id, member id */
    uint64_t token;  /* ASSIGNED, REVOKED */
    uint64_t worker; /* worker number (po__worker.number), 0 if none; numbers are never reused */
};

/* What those who watch are told (watch.h has the kinds and what each of them says). Texts are valid
 * during the call only. Unlike effects, events are complete: whoever keeps them needs no state. */
struct po__news {
    uint32_t kind; /* PO_WATCH_* */
    uint32_t attempt, state;
    uint64_t id; /* task, or node */
    uint64_t run_id;
    uint64_t token;          /* of the attempt; LEADER: its term */
    struct po__slice worker; /* its id */
    struct po__slice name;   /* capability, pipeline, or the node's name */
    struct po__slice step;
    struct po__slice error; /* at most PO__NEWS_ERROR_MAX_BYTES */
};
#define PO__NEWS_ERROR_MAX_BYTES 256

struct po__effects { /* grows; reused from entry to entry */
    struct po__fx *items;
    size_t count, cap;
    /* Told of each event as it happens, in the middle of the command; NULL: nobody watches. */
    void (*event)(void *arg, const struct po__news *e);
    void *event_arg;
};
void po__effects_fini(struct po__effects *fx);

/* Result of one command, for its caller. */
struct po__cmd_result {
    int code;              /* 0 or PO_E* : the command's own outcome (it is committed either way) */
    uint64_t id;           /* task id, run id, worker number; 0 */
    struct po__slice data; /* application result; valid until the next apply */
    const char *message;   /* static or model-owned sentence for code != 0; valid until the next
                              apply; never NULL */
};

int po__model_open(struct po__model **m, const struct po__app *app);
void po__model_close(struct po__model *m);

/* Apply one checked command (po__cmd_check passed). index: of its entry; now_ms: of its entry.
 * result and fx may be NULL (followers). Returns 0, or what must stop the node: PO_ENOMEM,
 * PO_EFAULT (application apply failed or is missing). */
int po__model_apply(struct po__model *m, uint64_t index, uint64_t now_ms, const struct po__cmd *cmd,
                    struct po__cmd_result *result, struct po__effects *fx);

/* Time (in leader milliseconds) at which a TICK would change something: the next retry or
 * attempt deadline; UINT64_MAX: none. */
uint64_t po__model_next_due_ms(const struct po__model *m);
uint64_t po__model_now_ms(const struct po__model *m); /* highest now_ms applied */
uint64_t po__model_index(
    const struct po__model *m); /* last applied index (also set by po__model_set_index) */
void po__model_set_index(struct po__model *m,
                         uint64_t index); /* entries without commands advance the index too */

/* Forget who the control nodes are, for a state that goes on in another cluster. Not while a
 * snapshot is being taken. */
void po__model_forget_members(struct po__model *m);

/* ---- snapshot: canonical bytes, produced in slices while commands go on being applied ----
 * begin freezes a view (cheap); step appends about budget_bytes of it to out; objects changed
 * meanwhile are serialised as they were at begin. Same state => same bytes, on every node,
 * whatever was applied during the steps. One at a time. The application's snapshot function is
 * called in begin (it sees the frozen state) and its bytes held until written. */
int po__model_snapshot_begin(struct po__model *m); /* 0, ENOMEM, EFAULT */
int po__model_snapshot_step(struct po__model *m, struct po__buf *out,
                            size_t budget_bytes); /* 1: done, 0: more, PO_E* */
void po__model_snapshot_abort(struct po__model *m);
/* Restore into an empty model, chunk by chunk (any sizes); every id, reference and bound is
 * checked (PO_ECORRUPT). */
int po__model_restore_chunk(struct po__model *m, const void *data, size_t len);
int po__model_restore_end(
    struct po__model *m); /* 0, PO_ECORRUPT, PO_EVERSION, PO_ENOMEM, PO_EFAULT */
/* CRC of the canonical snapshot: equal state <=> equal digest. Slow; for tests and status. */
int po__model_digest(struct po__model *m, uint64_t *digest);
/* Check every relation of the whole state. 0, or -1 with a sentence. For tests and the
 * simulator. */
int po__model_check(const struct po__model *m, char *message, size_t message_len);

/* ---- queries: see PO_QUERY_* in client.h. Appends one msgpack map (sorted keys) to out. ----
 * Times are leader milliseconds; absent values are nil. States and statuses are words
 * ("running", "online"). STATUS        counts {see po__model_counts}, members [{feature_level,
 * id, name, peer_address, worker_address, zone}];
 *               the node adds the rest
 * WORKERS       next, workers [{address, capabilities [{max_concurrency, name, requires_gpu,
 * running, version}], heartbeat_ms, id,
 *               incarnation, labels {}, load {cpu_load_centi, memory_available_bytes,
 *               memory_used_bytes, queued, rtt_min_us, running}, number, resources {NAME: {amount,
 *               used}}, rtt_us, running, slots, status,
 *               zone}]; name: only after this id; load and rtt_us: as q->soft has them, or nil
 * CAPABILITIES  capabilities [{free_slots, input_schema, kinds [{input_schema, output_schema,
 * requires_gpu, version, workers}], name, output_schema, pending, requires_gpu, running, slots,
 * versions [],
 *               workers, workers_online}], next; name: only after this name
 * ROUTE         address, capability, free_slots, running, version, worker_id, zone TASK
 * attempts, attempts_max, capability, created_ms, deadline_ms, error, finished_ms, granted_ms,
 * id, input,
 *               lost_attempts, preferred_zone, result, run_id, state, timeout_ms, token,
 *                 worker_id, zone
 * TASKS         next, tasks [as TASK, without input and result] PIPELINES     next, pipelines
 * [{defined_ms, name, start_node, steps_count}]; name: only after this name PIPELINE
 * defined_ms, name, start_node, steps [{attempts_max, capability, config, name, next_node,
 * timeout_ms}] RUN           error, finished_ms, id, params, pipeline, result, started_ms,
 * state, steps [{attempts, capability, error,
 *               finished_ms, name, started_ms, state, task_id, worker_id, zone}], zone
 * EXPLAIN       capability, id, next, state, waits_for (time, key, worker), why, workers [{reason,
 * why, worker_id}]; name: only after this worker id
 * FENCE         attempt, deadline_ms, token, worker_id; PO_ESTALE if the token is not the lease
 * RUNS          next, runs [as RUN, without params, result and steps] Lists hold at most `limit`
 * elements and about PO__QUERY_TARGET_BYTES; `next` is what to pass as id (TASKS, RUNS) or name
 * to go on, nil at the end. A list may be shorter than its limit and still have a next.
 *
 * Of graphs, and of runs that have more than those of the first release (query_graph.c):
 * PIPELINES     and label, version (number of the definition)
 * PIPELINE      and label, output, params [{default, name, required, type}], version; steps: cache,
 *               cache_ms, concurrency_key, depends_on [names], input, join, map, map_parallel,
 *               on_failure, pipeline, placement, priority, retry_max_ms, retry_ms, when; no
 * next_node RUN           and key (if it is text), parent_run_id, priority, resumed_from,
 * scheduled_ms, version; steps: cached, child_run_id, depends_on, items {failed, running,
 * succeeded, total}, join, map, output, output_bytes, pipeline, reused, when; state of a step:
 * waiting, running, succeeded, failed, skipped, cancelled. name: only that step. An answer above
 *               PO__QUERY_RUN_MAX_BYTES goes without params, result and outputs
 * RUNS          name: only of that pipeline; name2: only in that state
 *
 * SCHEDULES     next, schedules [as SCHEDULE, without params and runs; the first of next_ms]; name:
 *               only after this name
 * SCHEDULE      catch_up_ms, cron, error, error_ms, fired, last_fire_ms, late, name,
 *               next_ms [], overlap, params, paused, pipeline, refused,
 *               runs [{fire_ms, run_id, state}], since_ms, skipped, time_zone, zone */
#define PO__QUERY_LIMIT_DEFAULT       100
#define PO__QUERY_LIMIT_MAX           1000
#define PO__QUERY_TARGET_BYTES        (1024 * 1024)
#define PO__QUERY_SCAN_MAX            100000 /* objects looked at for one answer */
#define PO__QUERY_PLACEMENT_MAX_BYTES (16 * 1024)
/* Answer about one run: a larger one goes without texts */
#define PO__QUERY_RUN_MAX_BYTES (3u * 1024 * 1024)
#define PO__QUERY_TICKS_MAX     5
struct po__schedule;
struct po__ticks { /* of a schedule, to come; `wanted` of them at most */
    uint64_t at_ms[PO__QUERY_TICKS_MAX];
    uint32_t count, wanted;
};

/* What a worker says with its heartbeats. No part of the state: the leader keeps it (session.c). */
struct po__worker_load {
    uint32_t running, queued; /* tasks in the hands of its handlers, and waiting for one */
    uint32_t cpu_load_centi;  /* its machine's load average of one minute, times 100 */
    uint64_t memory_used_bytes, memory_available_bytes; /* of its machine; 0: unknown */
    uint32_t rtt_us, rtt_min_us; /* round trip: smoothed, and the smallest lately; 0: unknown */
};

/* For queries: what is known beside the state. */
struct po__soft {
    /* Of the worker with this number; NULL: unknown. */
    const struct po__worker_load *(*load)(void *arg, uint64_t worker);
    void *arg;
};

struct po__query {
    int what;
    uint64_t id;
    struct po__slice name, name2;
    uint32_t limit;
    uint32_t stale_ms; /* 0: linearizable. The node's matter (node/stale.c), not the model's */
    struct po__slice placement; /* ROUTE: encoded demands; empty: none */
    uint64_t token;             /* FENCE */
    /* Fills in when a schedule ticks next, which the model cannot know; NULL: left out. */
    void (*ticks)(void *arg, const struct po__schedule *s, struct po__ticks *ticks);
    void *ticks_arg;
    const struct po__soft *soft; /* NULL: nothing */
};
/* Returns 0, PO_EINVAL, PO_ENOTFOUND, PO_ENOCAPABILITY, PO_EBUSY (ROUTE: all offers are full),
 * PO_ENOMEM. *message: static. */
int po__model_query(const struct po__model *m, const struct po__query *q, struct po__buf *out,
                    const char **message);

#endif
