/* What the options of poctl set. */
#ifndef PO_POCTL_SETTINGS_H
#define PO_POCTL_SETTINGS_H

#include "../common/options.h"

struct poctl_settings {
    const char *controllers, *output, *zone, *input, *input_file, *params, *params_file, *key,
        *state, *pipeline, *workers, *faults;
    const char *data_dir, *worker, *graph;
    const char *dir, *name, *members, *cluster_id, *backup, *address;
    uint64_t stale, timeout, attempts, timeout_ms, after, limit, seed, nodes, runs;
    const char *require_zone, *gpu, *prefer, *labels, *resources, *run_at, *deadline,
        *concurrency_key, *rate, *batch, *from_step;
    uint64_t priority, retry_delay, retry_delay_max, concurrency, keep, token;
    uint64_t accept_data_loss, from, to, until, task, run;
    const char *kinds, *resume;
    bool wait, force;
    /* schedule define */
    const char *cron, *time_zone, *overlap;
    uint64_t catch_up;
    bool paused;
};

#endif
