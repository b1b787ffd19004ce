/* The simulator: what would become of your pipeline if everything went wrong.
 * SPDX-License-Identifier: MIT
 *
 * PROVISIONAL. What is declared here may change or go in any release; its symbols carry the
 * version PIPEORCH_PROVISIONAL, and a program that uses them is to be compiled anew for each one.
 *
 * A whole cluster of control nodes runs in the calling thread: the code that a real node runs, on
 * simulated clocks, disks and networks, with simulated workers that take as long as they are told
 * and whose outputs are placeholders. No real time passes, no file is touched, no socket opened.
 * Everything is drawn from the seed: the same arguments give the same report, on every machine. */
#ifndef PIPEORCH_SIM_H
#define PIPEORCH_SIM_H

#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct po_sim_opts {
    size_t size;
    const char *pipeline; /* required; a document as for po_pipeline_define */
    size_t pipeline_len;
    const char *params; /* JSON text handed to every run; NULL: null */
    /* The workers, as JSON: [{"id": "gpu-1", "zone": "aws", "capabilities": [{"name": "train:net",
     * "concurrency": 1, "min_ms": 500, "max_ms": 9000, "failure_percent": 2}]}], at most 32 of at
     * most 16 capabilities. A task takes min_ms to max_ms of virtual time and fails, in a way that
     * may be repeated, in failure_percent of its attempts. A capability may have a "version"
     * (default 1.0.0) and an "output", the JSON value that its tasks result in. Without, results
     * are placeholders, with just the parts that the pipeline's templates name. NULL: three workers
     * that offer everything that the pipeline needs, 100 to 1000 ms, and never fail.
     * PO_EINVAL, with the step, for a pipeline whose templates and conditions cannot be evaluated
     * with these results, that runs other pipelines, or whose placement no such worker meets: they
     * have a zone and versions, but neither labels nor resources. */
    const char *workers;
    size_t workers_len;
    const char *faults; /* name of a preset (po_sim_preset); NULL: "lan" */
    uint64_t seed;
    uint32_t nodes;         /* control nodes, 1..PO_MEMBERS_MAX; 0: 3 */
    uint32_t runs;          /* one after the other, 1..1000; 0: 1 */
    uint32_t limit_s;       /* of virtual time, 10..86400; 0: 3600 */
    struct po_log_opts log; /* what the nodes say; times of its events are not virtual */
    /* Another thread ends the call soon by storing another value than 0 here: PO_ECANCELLED. NULL:
     * nobody does. */
    const int *stop;
};

/* Simulate.
 *
 * Thread: any, one call at a time in a process; not while a node of the same process runs. Blocks
 * for as long as computing takes, usually a second or less. All of opts is borrowed for the call.
 *
 * *report is a JSON object, to be released with po_free:
 *   faults, nodes, seed        as given
 *   kept                       true: every promise of the cluster was kept, nothing was lost
 *   failure                    else what was broken, in a sentence; null
 *   virtual_ms                 how long it took, on the simulated clock
 *   runs                       [as po_query(PO_QUERY_RUN)], where the cluster still knows them
 *   counts                     {acknowledged, attempts, attempts_failed, attempts_stale, crashes,
 *                              disk_faults, elections, failovers, faults, memory_faults,
 *                              messages, messages_lost, outcomes_unknown, partitions,
 *                              restarts, worker_crashes, worker_freezes}
 *   trace                      hash of the course of events: equal for equal courses
 *
 * error (error_len bytes, may be NULL) receives a sentence for a code other than 0: all problems of
 * a document, each with its place. Returns 0 (also when a promise was broken: see kept), PO_EINVAL,
 * PO_ENOTFOUND (no such preset), PO_ECANCELLED (see stop), PO_ENOMEM.
 * Since 0.1. */
PO_API int po_sim_run(const struct po_sim_opts *opts, char **report, char *error, size_t error_len);

/* The i-th preset's name, from 0; NULL: there are no more. *what (may be NULL) is a sentence on
 * what goes wrong in it. Both are static. Thread: any.
 * Since 0.1. */
PO_API const char *po_sim_preset(unsigned i, const char **what);

#ifdef __cplusplus
}
#endif

#endif
