/* The objects of the replicated state, for those who read them (node, queries, snapshot). Only model/ writes them.
 * (Fields that only model/ needs are added here too; readers use what is documented.) */
#ifndef PO__STATE_H
#define PO__STATE_H

#include "model.h"

struct po__worker {
    struct po__tree_node by_id, by_number;
    uint64_t number; /* assigned at first registration, never reused */
    uint64_t incarnation;
    char *id, *address, *zone; /* NUL-terminated */
    uint32_t heartbeat_ms;
    uint32_t status;         /* PO_WORKER_* */
    uint32_t running;        /* tasks it runs */
    struct po__list tasks;   /* of po__task.worker_link, in order of grant */
    /* model/ adds: labels, offers (one per capability), registration index, ... */
    void *priv;
};

struct po__task {
    struct po__tree_node by_id;
    struct po__list worker_link;
    uint64_t id;
    uint32_t state; /* PO_TASK_* */
    uint32_t attempt;
    uint32_t attempts_max, timeout_ms;
    uint64_t token;       /* of the current or last grant */
    uint64_t deadline_ms; /* running: of the attempt; scheduled: when it becomes pending */
    struct po__worker *worker; /* running: who runs it */
    uint64_t run_id;           /* 0: no pipeline */
    struct po__slice capability, input, result, error, zone, key; /* owned by the task or its run; result or error may be empty */
};

struct po__member_info {
    uint64_t node_id;
    struct po__slice name, zone, peer_address, worker_address, directory_id;
    uint32_t feature_level;
};

const struct po__worker *po__model_worker(const struct po__model *m, struct po__slice id);
const struct po__worker *po__model_worker_by_number(const struct po__model *m, uint64_t number);
const struct po__worker *po__model_worker_next(const struct po__model *m, const struct po__worker *w); /* NULL starts; by id */
const struct po__task *po__model_task(const struct po__model *m, uint64_t id);
/* 1 with *info filled if the node id is known, else 0. */
int po__model_member(const struct po__model *m, uint64_t node_id, struct po__member_info *info);
/* PO_RUN_* of a run, 0 if unknown. */
int po__model_run_state(const struct po__model *m, uint64_t run_id);
/* Counts for status and metrics. */
struct po__model_counts {
    uint64_t workers, workers_online, tasks_pending, tasks_scheduled, tasks_running, tasks_finished, runs_running,
        runs_finished, pipelines;
};
void po__model_counts(const struct po__model *m, struct po__model_counts *counts);

#endif
