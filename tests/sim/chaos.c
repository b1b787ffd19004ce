#include <stdlib.h>
#include <string.h>

#include <pipeorch/node.h>
#include "sim.h"

#define CHAOS_US 12000000

/* ---- clients ---- */

static void propose(struct sim *s, struct sim_node *n)
{
    struct po__proposal p;
    uint64_t command = s->next_command;
    size_t len = sizeof command + (size_t)sim_random(s, 0, s->command_bytes_max);

    if (command >= SIM_COMMAND_MAX || po__proposal_alloc(&p, len))
        return;
    memset(p.payload, (int)(command & 0xff), len);
    memcpy(p.payload, &command, sizeof command);
    n->proposals++;
    int rv =
        po__replica_propose(n->replica, &p, len, (void *)(uintptr_t)command, sim_node_ms(s, n));
    if (rv) {
        n->proposals--;
        po__proposal_free(&p);
    } else {
        s->next_command++;
        s->stats.commands++;
    }
}

static void clients(struct sim *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        for (uint64_t k = sim_random(s, 1, 4); k > 0 && n->alive && n->role == PO_ROLE_LEADER;
             k--) {
            propose(s, n);
            sim_settle(s, n);
        }
    }
}

struct pending_read {
    struct sim *s;
    struct sim_node *n;
    uint64_t acked_before;
};

static void read_done(void *arg, int code, uint64_t index)
{
    struct pending_read *r = arg;

    if (code == 0 && !r->n->dying) {
        r->s->stats.reads++;
        oracle_read(r->s, r->n, index, r->acked_before);
    } else {
        r->s->stats.reads_failed++;
    }
    free(r);
}

static void reads(struct sim *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        if (!n->alive || n->role != PO_ROLE_LEADER)
            continue;
        struct pending_read *r = malloc(sizeof *r);
        if (!r)
            oracle_fail(s, "no memory left");
        *r = (struct pending_read){s, n, oracle_acked_index()};
        if (po__replica_read(n->replica, read_done, r, sim_node_ms(s, n)))
            free(r);
        sim_settle(s, n);
    }
}

/* ---- administrators ---- */

struct change {
    struct sim *s;
    struct sim_node *n;
    uint64_t incarnation;
};

static void change_done(void *arg, int code, uint64_t index)
{
    struct change *c = arg;

    sim_note(c->s, c->n, "the change ended with -%llu at %llu", (unsigned long long)-code, index);
    c->n->changing = false;
    c->s->stats.changes += code == 0;
    free(c);
}

static int change_server(struct sim *s, struct sim_node *n, struct change *c, uint64_t now)
{
    const struct po__conf *conf = &n->replica->servers;
    const struct po__conf_server *v = &conf->servers[sim_random(s, 0, conf->count - 1)];
    unsigned what = (unsigned)sim_random(s, 0, s->growth ? 5 : 9);

    if (what <= 3) {
        struct sim_node *other = &s->nodes[sim_random(s, 0, s->count - 1)];
        if (!po__conf_find(conf, other->id))
            return po__replica_add_spare(n->replica, other->id, other->address, change_done, c,
                                         now);
    }
    if (v->role == PO__SPARE && what != 9)
        return po__replica_set_role(n->replica, v->id, PO__STANDBY, change_done, c, now);
    if (v->role == PO__STANDBY && what != 9)
        return po__replica_set_role(n->replica, v->id, PO__VOTER, change_done, c, now);
    if (v->role == PO__VOTER && what < 8)
        return PO_ESTATE;
    if (what == 8)
        return po__replica_set_role(n->replica, v->id, sim_percent(s, 50) ? PO__STANDBY : PO__SPARE,
                                    change_done, c, now);
    return po__replica_remove(n->replica, v->id, change_done, c, now);
}

static void administrators(struct sim *s)
{
    struct sim_node *n = sim_leader(s);

    if (!n)
        return;
    if (sim_percent(s, 10)) {
        s->stats.transfers += po__replica_transfer(n->replica, 0, sim_node_ms(s, n)) == 0;
        sim_settle(s, n);
        return;
    }
    if (!s->membership || n->changing || !n->ready)
        return;
    struct change *c = malloc(sizeof *c);
    if (!c)
        oracle_fail(s, "no memory left");
    *c = (struct change){s, n, n->incarnation};
    n->changing = true;
    int rv = PO_ESTATE; /* most things that could be done make no sense at any one moment */
    for (int tries = 0; tries < 6 && rv && !n->dying && n->role == PO_ROLE_LEADER; tries++)
        rv = change_server(s, n, c, sim_node_ms(s, n));
    if (rv) {
        n->changing = false;
        free(c);
    } else if (sim_percent(s, s->growth
                                  ? 50
                                  : 25)) { /* the moments around a CHANGE are the dangerous ones */
        sim_at(s, s->now_us + sim_random(s, 0, 30000), SIM_KILL, n, 0);
    }
    sim_settle(s, n);
}

/* ---- faults ---- */

static void isolate(struct sim *s, uint64_t id)
{
    uint64_t mode = sim_random(s, 0, 2); /* nothing out, nothing in, neither */

    s->stats.partitions++;
    for (uint64_t i = 1; i <= s->count; i++) {
        if (i == id)
            continue;
        s->blocked[id][i] |= mode != 1;
        s->blocked[i][id] |= mode != 0;
    }
}

static void split(struct sim *s)
{
    uint64_t side = sim_random(s, 0, (1u << s->count) - 1);

    s->stats.partitions++;
    for (unsigned i = 0; i < s->count; i++)
        for (unsigned j = 0; j < s->count; j++)
            s->blocked[i + 1][j + 1] = (side >> i & 1) != (side >> j & 1);
}

/* The leader is cut off. In some runs the others take its process for gone, and elect another one
 * while it still believes to lead. */
static void depose(struct sim *s, struct sim_node *leader)
{
    isolate(s, leader->id);
    for (unsigned i = 0; s->lying && i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        if (n == leader || !n->alive)
            continue;
        s->stats.gone_wrong++;
        po__replica_peer_gone(n->replica, leader->id, sim_node_ms(s, n));
        sim_settle(s, n);
    }
}

static void fault(struct sim *s)
{
    struct sim_node *any = &s->nodes[sim_random(s, 0, s->count - 1)], *leader = sim_leader(s);

    if (sim_percent(s, 10)) { /* connections end, the processes live on */
        s->stats.closes_spurious++;
        peers_closed(s, sim_percent(s, 70) && leader ? leader : any);
        return;
    }
    if (sim_percent(s, 5)) { /* the power goes everywhere at once */
        for (unsigned i = 0; i < s->count; i++)
            sim_crash(s, &s->nodes[i], true);
        return;
    }
    switch (sim_random(s, 0, s->disk_crashes ? 14 : 11)) {
    case 12:
    case 13:
        sim_cut_soon(s, any);
        break;
    case 14:
        if (leader)
            sim_cut_soon(s, leader);
        break;
    case 0:
    case 1:
        sim_crash(s, any, true);
        break;
    case 2:
        if (leader)
            sim_crash(s, leader, true);
        break;
    case 3:
        split(s);
        break;
    case 4:
        if (leader)
            depose(s, leader);
        break;
    case 5:
        s->blocked[any->id][sim_random(s, 1, s->count)] = true;
        s->blocked[any->id][any->id] = false;
        break;
    case 6:
        isolate(s, any->id);
        break;
    case 7:
    case 8:
        memset(s->blocked, 0, sizeof s->blocked);
        break;
    case 9:
        s->stats.stalls++;
        any->stalled_us = s->now_us + sim_random(s, 200000, 3000000);
        break;
    case 10:
        s->loss_percent = sim_percent(s, 50) ? 0.5 : (double)sim_random(s, 0, 25);
        s->duplicate_percent = (double)sim_random(s, 0, 10);
        s->delay_max_us =
            sim_percent(s, 70) ? sim_random(s, 1000, 10000) : sim_random(s, 10000, 150000);
        break;
    default:
        for (uint64_t k = sim_random(s, 1, s->count); k > 0; k--)
            sim_crash(s, &s->nodes[sim_random(s, 0, s->count - 1)], true);
    }
}

/* ---- the course of a run ---- */

/* Rare conditions made frequent: what a seed drew otherwise holds but for this. */
static const char *profile;

bool chaos_profile(const char *name)
{
    static const char *const names[] = {"growth", "late", "snapshots", "members"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            profile = names[i];
    return profile != NULL;
}

static void profile_apply(struct sim *s)
{
    if (!profile)
        return;
    if (strcmp(profile, "growth") == 0 || strcmp(profile, "members") == 0) {
        /* The members change without pause, in every direction or in one. */
        s->growth = strcmp(profile, "growth") == 0;
        s->membership = true;
        s->admin_us = sim_random(s, 10000, 150000);
    }
    if (strcmp(profile, "growth") != 0) { /* frames are overtaken by many, and come twice */
        s->ordered = false;
        s->late_percent = (double)sim_random(s, 10, 60);
        s->duplicate_percent = 10;
    }
    if (strcmp(profile, "snapshots") == 0) { /* the log is short, so that who lags gets snapshots */
        s->snapshot_bytes = sim_random(s, 300, 1500);
        s->trailing_bytes = 0;
        s->disk_max_us = 60000;
    }
}

void chaos_draw(struct sim *s)
{
    s->chaos = true;
    s->ordered = sim_percent(s, 40);
    s->loss_percent = 1;
    s->duplicate_percent = 1;
    static const double late_percents[] = {1, 1, 10, 40};
    s->late_percent = late_percents[sim_random(s, 0, 3)];
    s->damage_percent = 15;
    s->election_ms = SIM_ELECTION_MS;
    s->heartbeat_ms = SIM_HEARTBEAT_MS;
    s->delay_min_us = 200;
    s->delay_max_us = 8000;
    static const double crash_percents[] = {0, 0.02, 0.05, 0.2, 0.5};
    s->crash_percent = crash_percents[sim_random(s, 0, 4)];
    s->disk_crashes = sim_percent(s, 60);
    s->disk_max_us = sim_percent(s, 70) ? 6000 : 60000;
    s->snapshot_bytes = sim_random(s, 500, 20000);
    s->trailing_bytes = sim_percent(s, 30) ? 0 : sim_random(s, 0, 8000);
    machine_ballast_per_command = sim_percent(s, 10) ? 8000 : (size_t)sim_random(s, 0, 60);
    s->inflight_max = (uint32_t)sim_random(s, 1, 16);
    s->command_bytes_max = sim_percent(s, 80) ? 64 : 4000;
    s->membership = sim_percent(s, 60);
    s->admin_us = sim_percent(s, 50) ? 400000 : sim_random(s, 30000, 1500000);
    s->growth = sim_percent(s, 25);
    if (s->growth) {
        s->membership = true;
        s->admin_us = sim_random(s, 20000, 400000);
    }
    profile_apply(s);
    s->hint = sim_percent(s, 80);
    s->lying = s->hint && sim_percent(s, 50);
    s->next_command = 1;
}

void chaos_begin(struct sim *s)
{
    sim_at(s, 0, SIM_CLIENT, NULL, 0);
    sim_at(s, 1000, SIM_READ, NULL, 0);
    sim_at(s, 100000, SIM_ADMIN, NULL, 0);
    sim_at(s, 300000, SIM_FAULT, NULL, 0);
    if (s->lying)
        sim_at(s, 400000, SIM_LIE, NULL, 0);
}

void chaos_event(struct sim *s, enum sim_event_kind kind, uint64_t value)
{
    (void)value;
    switch (kind) {
    case SIM_CLIENT:
        clients(s);
        sim_at(s, s->now_us + sim_random(s, 2000, 40000), SIM_CLIENT, NULL, 0);
        break;
    case SIM_READ:
        reads(s);
        sim_at(s, s->now_us + sim_random(s, 5000, 60000), SIM_READ, NULL, 0);
        break;
    case SIM_ADMIN:
        if (s->chaos)
            administrators(s);
        sim_at(s, s->now_us + sim_random(s, s->admin_us / 10, s->admin_us * 2), SIM_ADMIN, NULL, 0);
        break;
    default:
        if (s->chaos) {
            fault(s);
            sim_at(s, s->now_us + sim_random(s, 50000, 1500000), SIM_FAULT, NULL, 0);
        }
    }
}

/* Everything is well again, but for a minority of the voters, which stays down (voters: 0 for
 * everybody is back). */
void chaos_heal(struct sim *s, unsigned voters)
{
    unsigned down = voters ? (voters - 1) / 2 : 0;

    s->chaos = false;
    s->crash_percent = s->loss_percent = s->duplicate_percent = 0;
    s->delay_max_us = s->disk_max_us = 3000;
    s->ordered = true;
    memset(s->blocked, 0, sizeof s->blocked);
    for (unsigned i = 0; i < s->count; i++) {
        s->nodes[i].stalled_us = 0;
        po__disk_sim_cut_at(s->nodes[i].medium, 0);
        s->nodes[i].incarnation += !s->nodes[i].alive; /* its restart comes early */
    }
    for (unsigned first = (unsigned)sim_random(s, 0, s->count - 1), i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[(first + i) % s->count];
        if (i < down && n->alive)
            sim_crash(s, n, false);
        else if (i >= down && !n->alive)
            sim_start(s, n);
    }
}

struct sim *sim_running;

/* Liveness: when nothing is broken any more, there is a leader within ten election timeouts (of
 * clocks that may be this much slower than ours), ready to serve. */
static void leads_soon(struct sim *s)
{
    uint64_t until_us = s->now_us + (uint64_t)(10 * SIM_ELECTION_MS * 1000 / SIM_RATE_MIN);
    struct sim_node *leader = sim_leader(s);

    while (!(leader && leader->ready) && s->now_us < until_us) {
        sim_run_until(s, s->now_us + 10000);
        leader = sim_leader(s);
    }
    if (!leader || !leader->ready)
        oracle_fail(s, "liveness: no leader within ten election timeouts of healing");
}

uint64_t sim_run(uint64_t seed, bool verbose, struct sim_stats *total)
{
    static const unsigned sizes[] = {1, 3, 3, 4, 5};
    static struct sim sim;
    struct sim *s = &sim;

    memset(s, 0, sizeof *s);
    sim_running = s;
    oracle_reset();
    trace_reset();
    s->seed = seed;
    po__rng_init(&s->random, seed);
    s->verbose = verbose;
    chaos_draw(s);
    unsigned voters = s->growth ? 1 : sizes[sim_random(s, 0, 4)];
    sim_boot(s, voters, s->growth ? (unsigned)sim_random(s, 2, 4) : s->membership ? 2 : 0);
    chaos_begin(s);
    sim_run_until(s, CHAOS_US);
    if (!s->membership) { /* the voters are those of the beginning */
        sim_note(s, NULL, "healing, but for %llu voters", (voters - 1) / 2);
        chaos_heal(s, voters);
        leads_soon(s);
    }
    sim_note(s, NULL, "healing", 0);
    chaos_heal(s, 0);
    leads_soon(s);
    uint64_t acked = oracle_acked_index(), healed_us = s->now_us;
    while (oracle_acked_index() < acked + 20 && s->now_us < healed_us + 40000000)
        sim_run_until(s, s->now_us + 20000);
    if (oracle_acked_index() < acked + 20)
        oracle_fail(s, "liveness: no progress for 40 s after healing");
    sim_run_until(s, s->now_us + 3000000);
    s->next_command = SIM_COMMAND_MAX; /* the clients are done */
    sim_run_until(s, s->now_us + 4000000);
    oracle_end(s);
    peers_healthy(s);
    s->stats.simulated_us = s->now_us;
    uint64_t *to = (uint64_t *)total;
    const uint64_t *from = (const uint64_t *)&s->stats;
    for (size_t i = 0; i < sizeof *total / sizeof *to; i++)
        to[i] += from[i];
    sim_free(s);
    sim_running = NULL;
    return s->hash;
}
