/* A control node: the production core over a simulated disk and clock.
 *
 * A crash is a cut of its disk's power: every later call to the disk fails, what it sends and
 * answers goes nowhere, and when the call under way has returned, the remains are torn down as a
 * process that exits would be. What of the disk survives is drawn at power-on. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../consensus/heap.h"
#include "checks.h"

#define SEGMENT_BYTES  (64 * 1024)
#define SNAPSHOT_BYTES (48 * 1024)
#define TRAILING_BYTES (16 * 1024)
#define TURN_SOON_US   200 /* how long what came waits for company, at most */
#define RESTART_MIN_US 20000
#define RESTART_MAX_US 4000000

/* ---- clock ---- */

uint64_t po__control_ms(const struct po__simnode *n)
{
    return (uint64_t)(n->anchor_ms + (double)(n->world->now_us - n->anchor_us) * n->rate / 1000);
}

void po__control_set_rate(struct po__simnode *n, double rate)
{
    n->anchor_ms += (double)(n->world->now_us - n->anchor_us) * n->rate / 1000;
    n->anchor_us = n->world->now_us;
    n->rate = rate;
}

/* When its clock shows ms. */
static uint64_t us_of(const struct po__simnode *n, uint64_t ms)
{
    double us = ((double)ms - n->anchor_ms) * 1000 / n->rate;
    return us <= 0 ? 0 : n->anchor_us + (uint64_t)us + 1;
}

/* ---- what the core is given ---- */

static uint64_t env_now(void *arg)
{
    return po__control_ms(arg);
}

static uint64_t env_wall(void *arg)
{
    struct po__simnode *n = arg;
    return PO__SIM_WALL_MS + n->world->now_us / 1000 + (uint64_t)n->skew_ms;
}

static int env_random(void *arg, void *bytes, size_t len)
{
    struct po__simnode *n = arg;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)po__world_random(n->world, 0, 255);
    return 0;
}

static void env_wake(void *arg)
{
    struct po__simnode *n = arg;
    po__control_turn_by(n, n->world->now_us + po__world_random(n->world, 0, TURN_SOON_US));
}

static bool env_on_thread(void *arg)
{
    (void)arg;
    return true; /* there is no other */
}

static void env_applied(void *arg, uint64_t index)
{
    po__checks_applied(arg, index);
}

static void env_applying(void *arg, uint64_t index, const struct po__cmd *cmd)
{
    po__checks_applying(arg, index, cmd);
}

static void on_log(void *arg, const struct po_log_event *e)
{
    struct po__simnode *n = arg;
    struct po__world *w = n->world;
    if (w->opts.log.cb)
        w->opts.log.cb(w->opts.log.arg, e);
}

static struct po__logger logger(struct po__simnode *n)
{
    int level = n->world->opts.log.level ? n->world->opts.log.level : PO_LOG_INFO;
    return (struct po__logger){on_log, n, level, n->name};
}

static void on_store_fault(void *arg, int code, const char *message)
{
    (void)arg, (void)code, (void)message; /* the replica learns it from the store, and stops */
}

/* Each job takes its time; those of one channel finish in order whatever is drawn. */
static void on_submit(void *arg, struct po__disk *d, enum po__disk_channel c)
{
    struct po__simnode *n = arg;
    struct po__world *w = n->world;
    uint64_t us = w->now_us + po__world_random(w, 80, w->opts.preset->disk_max_us);
    (void)d;
    if (us < n->stalled_us)
        us = n->stalled_us;
    po__world_at(w, us, PO__EV_DISK, n->place, n->incarnation, c, NULL);
}

/* ---- death ---- */

bool po__control_died(struct po__simnode *n)
{
    n->dying = n->dying || po__disk_sim_is_off(n->medium);
    return n->dying;
}

void po__control_die_perhaps(struct po__simnode *n)
{
    struct po__world *w = n->world;
    if (n->dying || !w->chaos || !po__world_percent(w, w->opts.preset->inside_percent))
        return;
    w->stats.crashes_inside++;
    n->dying = true;
    po__disk_sim_cut(n->medium);
}

static void bury(struct po__simnode *n)
{
    struct po__world *w = n->world;
    n->dying = true;
    po__disk_sim_cut(n->medium);
    if (n->core) {
        po__node_core_stop(n->core);
        po__node_core_free(n->core);
    } else if (n->store) {
        po__store_close(n->store);
    }
    n->core = NULL;
    n->store = NULL;
    n->disk = NULL;
    po__disk_sim_power_on(n->medium, po__world_random(w, 1, UINT32_MAX));
    po__disk_sim_misread_at(n->medium, 0, false);
    n->alive = false;
    n->incarnation++;
    n->turn_us = UINT64_MAX;
    n->memory_fails_in = 0;
    n->paused_us = n->ready_us = 0;
    po__peers_lost(n);
}

static void come_back(struct po__simnode *n, uint64_t max_us)
{
    struct po__world *w = n->world;
    po__world_at(w, w->now_us + po__world_random(w, RESTART_MIN_US, max_us), PO__EV_RESTART,
                 n->place, n->incarnation, 0, NULL);
}

void po__control_crash(struct po__simnode *n, bool restart)
{
    if (!n->alive)
        return;
    po__world_trace(n->world, "crashes", n->name, 0);
    n->world->stats.crashes++;
    bury(n);
    if (restart)
        come_back(n, RESTART_MAX_US);
}

/* The heap of libraft's core is the process's, not the node's: once its reserve is touched, every
 * replica stops, and a host would end. So all die, and the next process has memory again. */
static void all_starved(struct po__world *w)
{
    if (!po__heap_exhausted())
        return;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct po__simnode *n = &w->nodes[i];
        n->starved = true;
        po__control_crash(n, true);
    }
    po__heap_reset_for_tests();
}

/* ---- life ---- */

void po__control_turn_by(struct po__simnode *n, uint64_t us)
{
    struct po__world *w = n->world;
    if (us < w->now_us)
        us = w->now_us;
    if (us < n->paused_us)
        us = n->paused_us;
    if (n->turn_us <= us)
        return;
    n->turn_us = us;
    po__world_at(w, us, PO__EV_TURN, n->place, n->incarnation, ++n->turn_stamp, NULL);
}

void po__control_turn(struct po__simnode *n)
{
    struct po__world *w = n->world;
    uint64_t at = UINT64_MAX;
    n->turn_us = UINT64_MAX;
    if (!po__control_died(n)) {
        if (n->memory_fails_in)
            po__alloc_fail_at(n->memory_fails_in);
        at = po__node_turn(n->core);
        if (n->memory_fails_in) {
            n->starved = n->starved || po__alloc_count() >= n->memory_fails_in;
            po__alloc_fail_at(0);
            n->memory_fails_in = 0;
        }
    }
    if (po__control_died(n)) {
        po__world_trace(w, "crashes inside a call", n->name, 0);
        w->stats.crashes++;
        bury(n);
        come_back(n, RESTART_MAX_US);
    } else if (n->core->fault) {
        po__world_trace(w, "stops with a fault, code -%llu", n->name, (uint64_t)-n->core->fault);
        po__checks_fault(n, n->core->fault, n->core->fault_message);
        bury(n);
        come_back(n, RESTART_MAX_US);
    } else {
        po__checks_turn(n);
        if (at != UINT64_MAX)
            po__control_turn_by(n, at <= po__control_ms(n) ? w->now_us + 30 : us_of(n, at));
    }
    all_starved(w);
}

void po__control_disk(struct po__simnode *n, enum po__disk_channel c)
{
    if (n->alive && po__disk_sim_step(n->disk, c))
        po__control_turn_by(n, n->world->now_us);
}

int po__control_store(struct po__simnode *n, char *error, size_t error_len)
{
    struct po__store_opts opts = {.segment_bytes = SEGMENT_BYTES,
                                  .segments_spare = 1,
                                  .log = logger(n),
                                  .fault = on_store_fault,
                                  .arg = n};
    po__disk_sim_attach(n->medium, &n->disk);
    po__disk_sim_on_submit(n->disk, on_submit, n);
    int rv = po__store_open(&n->store, n->disk, &opts, error, error_len);
    if (rv)
        n->store = NULL;
    return rv;
}

/* What was drawn for this start; once. */
static void hurt_start(struct po__simnode *n)
{
    struct po__world *w = n->world;
    if (n->next_start == PO_ECORRUPT)
        po__disk_sim_misread_at(n->medium, po__world_random(w, 1, 24), po__world_percent(w, 50));
    else if (n->next_start)
        po__disk_sim_fail_at(n->medium, po__world_random(w, 1, 60), n->next_start);
    n->hurt = n->next_start != 0;
    n->next_start = 0;
}

static int core_open(struct po__simnode *n, char *error, size_t error_len)
{
    struct po__world *w = n->world;
    struct po__node_env env = {.now_ms = env_now,
                               .wall_ms = env_wall,
                               .random = env_random,
                               .wake = env_wake,
                               .on_thread = env_on_thread,
                               .applied = env_applied,
                               .applying = env_applying,
                               .arg = n};
    po__peers_net(n);
    po__simapp_init(n);
    struct po__node_opts no = {.store = n->store,
                               .zone = n->zone,
                               .peer_address = n->address,
                               .worker_address = n->worker_address,
                               .state_machine = &n->machine,
                               .net = &n->net,
                               .log = logger(n),
                               .hint = w->opts.hint,
                               .feature_level = n->level,
                               .election_ms = w->opts.preset->election_ms,
                               .heartbeat_ms = w->opts.preset->heartbeat_ms,
                               .snapshot_bytes = SNAPSHOT_BYTES,
                               .trailing_bytes = TRAILING_BYTES};
    if (po__store_identity(n->store, &no.identity) != 1) {
        snprintf(error, error_len, "the directory has no identity");
        return PO_ENOTBOOTSTRAPPED;
    }
    int rv = po__node_core_create(&n->core, &env);
    if (rv == 0)
        rv = po__node_core_open(n->core, &no, NULL, error, error_len);
    return rv;
}

void po__control_start(struct po__simnode *n)
{
    struct po__world *w = n->world;
    char error[512] = "";
    if (n->alive || n->id == 0)
        return;
    n->alive = true;
    n->dying = n->starved = n->hurt = false;
    n->turn_us = UINT64_MAX;
    n->anchor_ms += (double)po__world_random(w, 0, 50);
    w->stats.starts++;
    po__checks_started(n);
    hurt_start(n);
    int rv = po__control_store(n, error, sizeof error);
    if (rv == 0)
        rv = core_open(n, error, sizeof error);
    if (rv) {
        if (!po__control_died(n)) {
            po__world_trace(w, "does not start, code -%llu", n->name, (uint64_t)-rv);
            po__checks_fault(n, rv, error);
        }
        bury(n);
        come_back(n, RESTART_MAX_US / 4);
        return;
    }
    po__world_trace(w, "started", n->name, 0);
    po__control_turn(n);
}

void po__control_bootstrap(struct po__simnode *n)
{
    struct po__world *w = n->world;
    struct po__server servers[PO__SIM_NODES_MAX];
    struct po__identity id = {.node_id = n->id};
    struct po__rec *first = NULL;
    char error[256] = "";
    unsigned voters = w->opts.voters;
    for (unsigned i = 0; i < voters; i++)
        servers[i] = (struct po__server){i + 1, w->nodes[i].address, PO__VOTER};
    PO_INVARIANT(po__replica_bootstrap_record(&first, servers, voters) == 0);
    snprintf(id.name, sizeof id.name, "%s", n->name);
    id.cluster_id[0] = 1;
    id.directory_id[0] = (uint8_t)n->id;
    if (po__control_store(n, error, sizeof error) || po__store_bootstrap(n->store, &id, 1, first))
        po__world_fail(w, "%s cannot be bootstrapped: %s", n->name, error);
    po__store_close(n->store);
    n->store = NULL;
    po__free(first);
    po__disk_sim_power_on(n->medium, 1);
}

void po__control_init(struct po__world *w, unsigned place)
{
    struct po__simnode *n = &w->nodes[place];
    const struct po__preset *p = w->opts.preset;
    *n = (struct po__simnode){.world = w, .place = place, .incarnation = 1};
    snprintf(n->name, sizeof n->name, "node-%u", place + 1);
    snprintf(n->zone, sizeof n->zone, "zone-%u", place % 3);
    snprintf(n->address, sizeof n->address, "node-%u:7000", place + 1);
    snprintf(n->worker_address, sizeof n->worker_address, "node-%u:7001", place + 1);
    n->voter = place < w->opts.voters;
    n->level = w->opts.old_nodes >> place & 1 ? 1 : PO__FEATURE_LEVEL;
    n->id = n->voter ? place + 1 : 0;
    n->rate = 1 + p->drift_percent / 100 * ((double)po__world_random(w, 0, 2000) / 1000 - 1);
    n->anchor_ms = (double)po__world_random(w, 1000, 100000);
    n->skew_ms = (int64_t)po__world_random(w, 0, 2 * p->skew_ms) - (int64_t)p->skew_ms;
    n->turn_us = UINT64_MAX;
    n->medium = po__disk_sim_new(po__world_random(w, 1, UINT32_MAX));
}

void po__control_free(struct po__simnode *n)
{
    if (n->alive)
        bury(n);
    po__disk_sim_free(n->medium);
}

int po__place_of(const struct po__world *w, uint64_t id)
{
    for (unsigned i = 0; i < w->nodes_count; i++)
        if (id && w->nodes[i].id == id)
            return (int)i;
    return -1;
}

struct po__simnode *po__world_leader(struct po__world *w)
{
    struct po__simnode *leader = NULL;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        struct po__simnode *n = &w->nodes[i];
        if (n->alive && !n->dying && n->core->ready &&
            (!leader || n->core->term > leader->core->term))
            leader = n;
    }
    return leader;
}
