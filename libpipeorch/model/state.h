/* The objects of the replicated state, for those who read them (node, queries, snapshot). Only
 * model/ writes them. Readers use the documented fields; those below "model/ only" are the
 * model's own business. */
#ifndef PO__STATE_H
#define PO__STATE_H

#include "model.h"

struct po__worker {
    struct po__tree_node by_id, by_number;
    uint64_t number; /* assigned at first registration, never reused */
    uint64_t incarnation;
    const char *id, *address, *zone; /* NUL-terminated */
    uint32_t heartbeat_ms;
    uint32_t status;       /* PO_WORKER_* */
    uint32_t running;      /* tasks it runs */
    struct po__list tasks; /* of po__task.worker_link, in order of grant */

    /* model/ only */
    uint32_t epoch;
    uint32_t offers_count;
    uint64_t last_token; /* of its latest grant, 0: none; decides who waited longest */
    uint64_t bytes;      /* of its registration, as counted against PO__WORKERS_MAX_BYTES */
    struct po__origin *origin;
    struct po__offer *offers; /* sorted by capability name */
    struct po__stock *stocks; /* sorted by name */
    struct po__label_pair {
        struct po__slice key, value;
    } * label_pairs; /* sorted by key */
    uint32_t stocks_count, labels_count;
    uint32_t slots;          /* tasks at a time over all capabilities; 0: no such limit */
    bool more;               /* registered with REGISTER_MORE */
    char *text;              /* one block: what address, labels and the offers' slices point into */
    struct po__slice labels; /* canonical msgpack map */
};

/* Fields stand in the order in which walks over the indexes touch them. */
struct po__task {
    struct po__tree_node by_id;
    uint64_t id;
    uint64_t deadline_ms; /* running: of the attempt; scheduled: when it becomes pending; finished:
                             when it finished */
    struct po__tree_node queue; /* model/ only: pending: of its capability; scheduled, running: due;
                                   finished: in order of end */
    uint32_t state;             /* PO_TASK_* */
    uint32_t attempt;
    uint64_t token;              /* of the current or last grant */
    struct po__worker *worker;   /* running: who runs it */
    struct po__list worker_link; /* running: in po__worker.tasks */
    uint32_t attempts_max, timeout_ms;
    uint64_t run_id; /* 0: no pipeline */
    struct po__slice capability, input, result, error, zone,
        key; /* owned by the task or its run; result or error may be empty */
    uint64_t created_ms;
    uint64_t granted_ms; /* of its first attempt; 0: none yet */

    /* model/ only */
    struct po__tree_node by_key; /* linked if it has a key */
    uint64_t key_hash;
    struct po__lane *lane;
    struct po__capability *cap; /* of the lane */
    struct po__more *more;      /* NULL: nothing unusual */
    int64_t rank_ms;
    struct po__origin *origin; /* worker of the current or last attempt; NULL: none yet */
    uint32_t epoch;
    uint16_t lost;   /* attempts that ended with their worker; no fault of the task */
    uint8_t outcome; /* what ended the last attempt, as far as a worker may repeat it */
    bool modern;     /* submitted with an extra, if only an empty one */
};

/* Who executed an attempt; outlives the worker's registration. Shared by all that ran there. */
struct po__origin {
    struct po__tree_node by_name;
    uint64_t refs;
    struct po__slice id, zone; /* NUL-terminated */
    char text[];
};

struct po__schedule_run {
    uint64_t fire_ms, run_id;
};

struct po__schedule {
    struct po__tree_node by_name, by_generation;
    uint64_t generation; /* another whenever it is defined anew; never reused */
    uint64_t
        since_ms; /* it has no ticks up to here: when its times were defined, or it was resumed */
    uint64_t last_fire_ms; /* the latest tick that was decided, whatever became of it; 0: none */
    struct po__slice name, pipeline, cron, time_zone, params, zone; /* NUL-terminated */
    uint32_t overlap;                                               /* PO_OVERLAP_* */
    uint32_t catch_up_ms;
    bool paused;

    /* What became of its ticks, over all generations of the name. */
    uint64_t fired;   /* a run was started */
    uint64_t skipped; /* an earlier run was still under way */
    uint64_t late;    /* too late to be caught up */
    uint64_t refused; /* the run could not be started: error says why, the last time */
    struct po__slice error;
    uint64_t error_ms; /* the tick of error; 0: none */
    uint32_t runs_count;
    struct po__schedule_run runs[PO__SCHEDULE_RUNS_KEPT]; /* started by it, the latest last */

    /* model/ only */
    uint32_t epoch;
    char text[];
};

struct po__member_info {
    uint64_t node_id;
    struct po__slice name, zone, peer_address, worker_address, directory_id;
    uint32_t feature_level;
    uint32_t wish; /* enum po__wish, never PO__WISH_GONE */
};

const struct po__worker *po__model_worker(const struct po__model *m, struct po__slice id);
const struct po__worker *po__model_worker_by_number(const struct po__model *m, uint64_t number);
const struct po__worker *po__model_worker_next(const struct po__model *m,
                                               const struct po__worker *w); /* NULL starts; by id */
const struct po__task *po__model_task(const struct po__model *m, uint64_t id);
/* The task of the lowest id above `id`; NULL: none. */
const struct po__task *po__model_task_next(const struct po__model *m, uint64_t id);
/* Scheduled and running tasks in order of their deadline_ms; NULL starts, and ends. */
const struct po__task *po__model_task_due(const struct po__model *m, const struct po__task *t);
/* 1 with *info filled if the node id is known, else 0. */
int po__model_member(const struct po__model *m, uint64_t node_id, struct po__member_info *info);
/* Likewise for the member of the lowest id above node_id. */
int po__model_member_next(const struct po__model *m, uint64_t node_id,
                          struct po__member_info *info);
/* What an attempt of the task left for the next one; may be empty. */
struct po__slice po__model_checkpoint(const struct po__task *t);
const struct po__schedule *po__model_schedule(const struct po__model *m, struct po__slice name);
/* The first behind name; "": the first. */
const struct po__schedule *po__model_schedule_after(const struct po__model *m,
                                                    struct po__slice name);
/* Up to here its ticks are decided. */
uint64_t po__schedule_decided_ms(const struct po__schedule *s);
/* A tick that is decided so long after its time is too late. */
uint64_t po__schedule_late_after_ms(const struct po__schedule *s);
/* The task of that idempotency key; NULL also for the empty key. */
const struct po__task *po__model_task_by_key(const struct po__model *m, struct po__slice key);
/* The schema that a task's input or output has to satisfy. false: there is none, or nobody offers
 * the capability. */
struct po__schema_of {
    struct po__slice capability, version, schema;
};
/* Of the highest version among the offers, of workers online or not, that the placement's range,
 * zone, gpu and labels allow. */
bool po__model_input_schema(const struct po__model *m, struct po__slice capability,
                            const struct po__placement *p, struct po__schema_of *out);
/* Of the worker's offer, if the token is that of the task's last attempt and was given to it. */
bool po__model_output_schema(const struct po__model *m, uint64_t task_id, uint64_t token,
                             struct po__slice worker_id, struct po__schema_of *out);
/* Is there a run that was started with this idempotency key? */
bool po__model_run_key_known(const struct po__model *m, struct po__slice key);
/* PO_RUN_* of a run, 0 if unknown. */
int po__model_run_state(const struct po__model *m, uint64_t run_id);
struct po__run_info {
    uint64_t id;
    uint32_t state; /* PO_RUN_* */
    struct po__slice pipeline, error;
};
/* The run of the lowest id above `id`: 1 with *info filled, or 0. */
int po__model_run_next(const struct po__model *m, uint64_t id, struct po__run_info *info);
/* Counts for status and metrics. */
struct po__model_counts {
    uint64_t workers, workers_online, tasks_pending, tasks_scheduled, tasks_running, tasks_finished,
        runs_running, runs_finished, pipelines;
};
void po__model_counts(const struct po__model *m, struct po__model_counts *counts);

#endif
