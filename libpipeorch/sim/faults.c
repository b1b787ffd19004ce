#include "checks.h"

#include <string.h>

#include <pipeorch/error.h>

#define MS(x) ((uint64_t)(x)*1000)

/* Weights: [kind] = how often among the others. */
#define CALM_FAULTS                                                                                \
    [PO__FAULT_CRASH] = 4, [PO__FAULT_CRASH_LEADER] = 3, [PO__FAULT_ISOLATE] = 1,                  \
    [PO__FAULT_HEAL] = 3, [PO__FAULT_WORKER_CRASH] = 3, [PO__FAULT_WORKER_ZOMBIE] = 2,             \
    [PO__FAULT_PAUSE] = 2

static const struct po__preset presets[] = {
    {.name = "none",
     .what = "nothing goes wrong; a local network, fast disks",
     .election_ms = 300,
     .heartbeat_ms = 50,
     .zone_us = {250, 250, 250},
     .local_us = 250,
     .jitter_us = 100,
     .disk_max_us = 500},
    {.name = "lan",
     .what = "a local network; now and then a node or a worker dies, or is cut off",
     .election_ms = 300,
     .heartbeat_ms = 50,
     .zone_us = {250, 250, 250},
     .local_us = 250,
     .jitter_us = 500,
     .drift_percent = 0.01,
     .skew_ms = 50,
     .disk_max_us = 1000,
     .inside_percent = 0.005,
     .fault_us = MS(2000),
     .weights = {CALM_FAULTS, [PO__FAULT_STALL] = 1}},
    {.name = "three-clouds",
     .what = "three zones, 50, 75 and 125 ms of round trip apart; links fail and flap",
     .election_ms = 1000,
     .heartbeat_ms = 100,
     .zone_us = {25000, 37500, 62500},
     .local_us = 500,
     .jitter_us = 5000,
     .drift_percent = 0.02,
     .skew_ms = 500,
     .disk_max_us = 3000,
     .inside_percent = 0.005,
     .fault_us = MS(3000),
     .weights = {CALM_FAULTS, [PO__FAULT_PARTITION] = 2, [PO__FAULT_FLAP] = 3,
                 [PO__FAULT_WEATHER] = 2, [PO__FAULT_SLOW] = 2, [PO__FAULT_STALL] = 1}},
    {.name = "disk",
     .what = "disks: stalls, power cuts inside writes, errors, no space, wrong reads",
     .election_ms = 300,
     .heartbeat_ms = 50,
     .zone_us = {250, 250, 250},
     .local_us = 250,
     .jitter_us = 1000,
     .drift_percent = 1,
     .skew_ms = 100,
     .disk_max_us = 20000,
     .inside_percent = 0.05,
     .fault_us = MS(600),
     .weights = {[PO__FAULT_CUT] = 6,
                 [PO__FAULT_CRASH] = 2,
                 [PO__FAULT_CRASH_ALL] = 2,
                 [PO__FAULT_STALL] = 3,
                 [PO__FAULT_EIO] = 3,
                 [PO__FAULT_FULL] = 3,
                 [PO__FAULT_MISREAD] = 4,
                 [PO__FAULT_WORKER_CRASH] = 1}},
    {.name = "memory",
     .what = "allocations of the nodes fail",
     .election_ms = 300,
     .heartbeat_ms = 50,
     .zone_us = {250, 250, 250},
     .local_us = 250,
     .jitter_us = 500,
     .drift_percent = 1,
     .skew_ms = 100,
     .disk_max_us = 2000,
     .inside_percent = 0.01,
     .fault_us = MS(400),
     .weights = {[PO__FAULT_MEMORY] = 12,
                 [PO__FAULT_CRASH] = 1,
                 [PO__FAULT_WORKER_ZOMBIE] = 1,
                 [PO__FAULT_WORKER_CRASH] = 1}},
    {.name = "chaos",
     .what = "everything at once, far worse than any place to run in",
     .election_ms = 300,
     .heartbeat_ms = 50,
     .zone_us = {1000, 2000, 4000},
     .local_us = 300,
     .jitter_us = 8000,
     .drift_percent = 15,
     .skew_ms = 20000,
     .disk_max_us = 20000,
     .inside_percent = 0.1,
     .fault_us = MS(500),
     .weights = {[PO__FAULT_CRASH] = 4,
                 [PO__FAULT_CRASH_LEADER] = 3,
                 [PO__FAULT_CRASH_ALL] = 1,
                 [PO__FAULT_CUT] = 4,
                 [PO__FAULT_PARTITION] = 3,
                 [PO__FAULT_ISOLATE] = 3,
                 [PO__FAULT_FLAP] = 2,
                 [PO__FAULT_HEAL] = 5,
                 [PO__FAULT_WEATHER] = 3,
                 [PO__FAULT_SLOW] = 1,
                 [PO__FAULT_STALL] = 2,
                 [PO__FAULT_PAUSE] = 4,
                 [PO__FAULT_EIO] = 1,
                 [PO__FAULT_FULL] = 1,
                 [PO__FAULT_MISREAD] = 1,
                 [PO__FAULT_MEMORY] = 1,
                 [PO__FAULT_WORKER_CRASH] = 3,
                 [PO__FAULT_WORKER_ZOMBIE] = 4,
                 [PO__FAULT_CLOCK] = 2}},
};

static const char *const kind_names[PO__FAULT_KINDS] = {
    [PO__FAULT_CRASH] = "crash",
    [PO__FAULT_CRASH_LEADER] = "crash of the leader",
    [PO__FAULT_CRASH_ALL] = "crash of several",
    [PO__FAULT_CUT] = "power cut soon",
    [PO__FAULT_PARTITION] = "partition",
    [PO__FAULT_ISOLATE] = "isolation",
    [PO__FAULT_FLAP] = "flapping link",
    [PO__FAULT_HEAL] = "links whole",
    [PO__FAULT_WEATHER] = "network weather",
    [PO__FAULT_SLOW] = "slow links",
    [PO__FAULT_PAUSE] = "pause",
    [PO__FAULT_STALL] = "disk stall",
    [PO__FAULT_EIO] = "disk error soon",
    [PO__FAULT_FULL] = "disk full soon",
    [PO__FAULT_MISREAD] = "wrong read soon",
    [PO__FAULT_MEMORY] = "out of memory soon",
    [PO__FAULT_WORKER_CRASH] = "worker crash",
    [PO__FAULT_WORKER_ZOMBIE] = "zombie",
    [PO__FAULT_CLOCK] = "clock",
};

const char *po__fault_name(enum po__fault_kind kind)
{
    return kind_names[kind];
}

const struct po__preset *po__preset_at(unsigned i)
{
    return i < sizeof presets / sizeof *presets ? &presets[i] : NULL;
}

const struct po__preset *po__preset_find(const char *name)
{
    for (unsigned i = 0; i < sizeof presets / sizeof *presets; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

/* ---- links ---- */

/* Workers and clients stay in touch with everybody: who cannot reach the leader is not what a
 * partition of the nodes tests; isolating one node cuts it off from them too. */
static void split(struct po__world *w)
{
    uint64_t side = po__world_random(w, 0, (1u << w->nodes_count) - 1);
    w->stats.partitions++;
    for (unsigned i = 0; i < w->nodes_count; i++)
        for (unsigned j = 0; j < w->nodes_count; j++)
            po__simnet_block(&w->net, i, j, (side >> i & 1) != (side >> j & 1));
}

static void isolate(struct po__world *w, unsigned place)
{
    uint64_t mode = po__world_random(w, 0, 2); /* nothing out, nothing in, neither */
    bool outside = po__world_percent(w, 40);
    w->stats.partitions++;
    for (unsigned i = 0; i < PO__SIM_PLACES_MAX; i++) {
        if (i >= w->nodes_count && !outside)
            break;
        if (mode != 1)
            po__simnet_block(&w->net, place, i, true);
        if (mode != 0)
            po__simnet_block(&w->net, i, place, true);
    }
}

static void heal_links(struct po__world *w)
{
    for (unsigned i = 0; i < PO__SIM_PLACES_MAX; i++)
        for (unsigned j = 0; j < PO__SIM_PLACES_MAX; j++)
            po__simnet_block(&w->net, i, j, false);
    w->net.bytes_per_ms = 0;
}

static void weather(struct po__world *w)
{
    bool bad = po__world_percent(w, 50);
    w->net.loss_percent = bad ? (double)po__world_random(w, 0, 20) : 0.2;
    w->net.duplicate_percent = bad ? (double)po__world_random(w, 0, 10) : 0;
    w->net.reorder_percent = bad ? (double)po__world_random(w, 0, 10) : 0;
    w->net.jitter_us = w->opts.preset->jitter_us * po__world_random(w, 1, bad ? 15 : 2);
}

/* ---- faults ---- */

static void strike_disk(struct po__world *w, struct po__simnode *n, enum po__fault_kind kind)
{
    int code = kind == PO__FAULT_EIO ? PO_EIO : kind == PO__FAULT_FULL ? PO_ENOSPACE : PO_ECORRUPT;
    w->stats.disk_faults += kind != PO__FAULT_CUT;
    if (kind != PO__FAULT_CUT && po__world_percent(w, 50)) { /* most reads are those of a start */
        n->next_start = code;
        po__control_crash(n, true);
        return;
    }
    if (!n->alive || po__disk_sim_is_off(n->medium))
        return;
    n->hurt = kind != PO__FAULT_CUT || n->hurt;
    if (kind == PO__FAULT_CUT)
        po__disk_sim_cut_at(n->medium, po__world_random(w, 1, 30));
    else if (kind == PO__FAULT_MISREAD)
        po__disk_sim_misread_at(n->medium, po__world_random(w, 1, 4), po__world_percent(w, 50));
    else
        po__disk_sim_fail_at(n->medium, po__world_random(w, 1, 30), code);
}

static void strike_node(struct po__world *w, struct po__simnode *n, enum po__fault_kind kind)
{
    switch (kind) {
    case PO__FAULT_CRASH:
    case PO__FAULT_CRASH_LEADER:
        po__control_crash(n, true);
        break;
    case PO__FAULT_CRASH_ALL:
        for (unsigned i = 0; i < w->nodes_count; i++)
            if (po__world_percent(w, 60))
                po__control_crash(&w->nodes[i], true);
        break;
    case PO__FAULT_PAUSE:
        n->paused_us = w->now_us + po__world_random(w, 50000, 3000000);
        break;
    case PO__FAULT_STALL:
        n->stalled_us = w->now_us + po__world_random(w, 100000, 3000000);
        break;
    case PO__FAULT_MEMORY:
        if (n->alive) {
            n->memory_fails_in = po__world_random(w, 1, 60);
            w->stats.memory_faults++;
        }
        break;
    case PO__FAULT_CLOCK:
        po__control_set_rate(n, 1 + w->opts.preset->drift_percent / 100 *
                                        ((double)po__world_random(w, 0, 2000) / 1000 - 1));
        break;
    case PO__FAULT_ISOLATE:
        isolate(w, n->place);
        break;
    default:
        strike_disk(w, n, kind);
    }
}

static enum po__fault_kind draw(struct po__world *w)
{
    const uint8_t *weights = w->opts.preset->weights;
    uint64_t sum = 0;
    for (unsigned k = 0; k < PO__FAULT_KINDS; k++)
        sum += weights[k];
    uint64_t at = po__world_random(w, 0, sum - 1);
    for (unsigned k = 0; k < PO__FAULT_KINDS; k++) {
        if (at < weights[k])
            return (enum po__fault_kind)k;
        at -= weights[k];
    }
    return PO__FAULT_HEAL; /* not reached: the weights sum up */
}

void po__faults_strike(struct po__world *w)
{
    enum po__fault_kind kind = draw(w);
    struct po__simnode *n = &w->nodes[po__world_random(w, 0, w->nodes_count - 1)],
                       *leader = po__world_leader(w);
    struct po__simworker *x =
        w->workers_count ? &w->workers[po__world_random(w, 0, w->workers_count - 1)] : NULL;
    unsigned other = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    if (leader &&
        (kind == PO__FAULT_CRASH_LEADER || po__world_percent(w, kind == PO__FAULT_PAUSE ? 70 : 25)))
        n = leader;
    w->stats.faults++;
    po__world_trace(w, "strikes", po__fault_name(kind), 0);
    switch (kind) {
    case PO__FAULT_PARTITION:
        split(w);
        break;
    case PO__FAULT_FLAP:
        po__simnet_block(&w->net, n->place, other, !po__simnet_blocked(&w->net, n->place, other));
        break;
    case PO__FAULT_HEAL:
        heal_links(w);
        break;
    case PO__FAULT_WEATHER:
        weather(w);
        break;
    case PO__FAULT_SLOW:
        w->net.bytes_per_ms = po__world_percent(w, 50) ? 0 : po__world_random(w, 20, 2000);
        break;
    case PO__FAULT_WORKER_CRASH:
        if (x)
            po__worker_crash(w, x);
        break;
    case PO__FAULT_WORKER_ZOMBIE:
        if (x)
            po__worker_freeze(w, x);
        break;
    default:
        strike_node(w, n, kind);
    }
}

void po__faults_heal(struct po__world *w)
{
    w->chaos = false;
    po__simnet_heal(&w->net);
    w->net.jitter_us = w->opts.preset->jitter_us;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct po__simnode *n = &w->nodes[i];
        n->stalled_us = n->paused_us = 0;
        n->memory_fails_in = 0;
        n->next_start = 0;
        po__disk_sim_cut_at(n->medium, 0);
        po__disk_sim_fail_at(n->medium, 0, 0);
        po__disk_sim_misread_at(n->medium, 0, false);
        if (!n->alive) {
            n->incarnation++; /* its restart has come early */
            po__control_start(n);
        }
    }
    for (unsigned i = 0; i < w->workers_count; i++)
        po__worker_heal(w, &w->workers[i]);
}
