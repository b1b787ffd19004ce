#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/node.h>
#include "base/crc32c.h"
#include "consensus/le.h"
#include "sim.h"

/* ---- randomness ---- */

uint64_t sim_random(struct sim *s, uint64_t low, uint64_t high)
{
    return po__rng_range(&s->random, low, high);
}

bool sim_percent(struct sim *s, double percent)
{
    return po__rng_percent(&s->random, percent);
}

/* ---- events ---- */

struct frame {
    uint64_t from, to;
    size_t len;
    uint8_t bytes[];
};

void sim_at(struct sim *s, uint64_t us, enum sim_event_kind kind, struct sim_node *n,
            uint64_t value)
{
    po__events_push(&s->events,
                    (struct po__event){.us = us,
                                       .kind = (int)kind,
                                       .who = n ? (unsigned)(n - s->nodes) : SIM_NODES_MAX,
                                       .stamp = n ? n->incarnation : 0,
                                       .value = value});
}

/* ---- a node's surroundings; arg is this ---- */

static struct sim *the_sim; /* one at a time: callbacks carry only their node */

static void crash_inside(struct sim *s, struct sim_node *n)
{
    if (n->dying || !s->chaos || !sim_percent(s, s->crash_percent))
        return;
    s->stats.crashes_inside++;
    n->dying = true;
    po__disk_sim_cut(n->medium);
}

/* What is sent of a snapshot was damaged before it was put into a frame, as by bad memory: the
 * frame's own checksum is right. */
static void damage(struct sim *s, struct frame *x)
{
    struct po__msg m;

    if (x->bytes[5] != PO__MSG_SNAPSHOT || !s->chaos || !sim_percent(s, s->damage_percent) ||
        po__wire_decode(&m, x->bytes, x->len))
        return;
    if (m.snapshot.data_len) {
        size_t at = (size_t)((const uint8_t *)m.snapshot.data - x->bytes);
        x->bytes[at + sim_random(s, 0, m.snapshot.data_len - 1)] ^=
            (uint8_t)(1u << sim_random(s, 0, 7));
        po__le32_put(x->bytes + 8,
                     po__crc32c(po__crc32c(0, x->bytes, 8), x->bytes + 12, x->len - 12));
        s->stats.damaged++;
        sim_note(s, NULL, "a piece of a snapshot is damaged on its way from %llu to %llu", x->from,
                 x->to);
    }
    po__msg_fini(&m);
}

static void on_send(void *arg, uint64_t peer, struct po__frame *f)
{
    struct sim *s = the_sim;
    struct sim_node *n = arg;

    crash_inside(s, n);
    s->stats.messages++;
    if (n->dying || peer > s->count || s->blocked[n->id][peer] || sim_percent(s, s->loss_percent)) {
        s->stats.lost++;
        po__frame_unref(f);
        return;
    }
    unsigned copies = sim_percent(s, s->duplicate_percent) ? 2 : 1;
    s->stats.duplicated += copies - 1;
    for (unsigned c = 0; c < copies; c++) {
        struct frame *x = malloc(sizeof *x + f->bytes);
        if (!x)
            oracle_fail(s, "no memory left");
        x->from = n->id;
        x->to = peer;
        x->len = 0;
        for (uint32_t i = 0; i < f->parts_count; i++) {
            memcpy(x->bytes + x->len, f->parts[i].data, f->parts[i].len);
            x->len += f->parts[i].len;
        }
        if (c == 0)
            damage(s, x);
        if (x->len != f->bytes)
            oracle_fail(s, "a frame says %u bytes and has %zu", f->bytes, x->len);
        uint64_t us =
            s->now_us + s->far_us[n->id][peer] + sim_random(s, s->delay_min_us, s->delay_max_us);
        if (c > 0 || (!s->ordered && sim_percent(s, s->late_percent)))
            us += sim_random(s, 1000, 400000);
        if (s->ordered && c == 0) {
            if (us <= s->link_last_us[n->id][peer])
                us = s->link_last_us[n->id][peer] + 1;
            s->link_last_us[n->id][peer] = us;
        }
        s->link_queued[n->id][peer] += x->len;
        po__events_push(
            &s->events,
            (struct po__event){.us = us, .kind = SIM_FRAME, .who = SIM_NODES_MAX, .data = x});
    }
    po__frame_unref(f);
}

static void on_servers(void *arg, const struct po__server *servers, unsigned count)
{
    (void)arg;
    for (unsigned i = 0; i < count; i++) {
        char expected[16];
        snprintf(expected, sizeof expected, "node-%llu", (unsigned long long)servers[i].id);
        if (strcmp(servers[i].address, expected) != 0)
            oracle_fail(the_sim, "server %llu has the address %s",
                        (unsigned long long)servers[i].id, servers[i].address);
    }
}

static size_t on_queued_bytes(void *arg, uint64_t peer)
{
    return peer <= SIM_NODES_MAX ? the_sim->link_queued[((struct sim_node *)arg)->id][peer] : 0;
}

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    struct sim *s = the_sim;
    struct sim_node *n = arg;
    uint64_t command, before = n->machine.index;

    if (len < sizeof command)
        oracle_fail(s, "command of %zu bytes at %llu", len, (unsigned long long)index);
    memcpy(&command, data, sizeof command);
    machine_apply(&n->machine, index, command);
    sim_note(s, n, "applies %llu of term %llu: command %llu", index, term, command);
    oracle_applied(s, n, before, index, term, command);
    if (!token)
        return 0;
    if (token != (void *)(uintptr_t)command)
        oracle_fail(s, "index %llu was reported with the token of another command",
                    (unsigned long long)index);
    n->proposals--;
    crash_inside(s, n);
    if (n->dying)
        return 0; /* nobody hears of it */
    s->stats.acked++;
    sim_note(s, n, "command %llu is acknowledged", command);
    oracle_acked(s, index, command);
    return 0;
}

static void on_dropped(void *arg, void *token)
{
    (void)token;
    ((struct sim_node *)arg)->proposals--;
    the_sim->stats.unknown++;
}

static int on_snapshot_begin(void *arg)
{
    struct sim_node *n = arg;
    if (n->snapshot.active)
        oracle_fail(the_sim, "two snapshots at once on %llu", (unsigned long long)n->id);
    n->snapshot =
        (struct machine_snapshot){n->machine, 0, machine_snapshot_size(&n->machine), true};
    the_sim->stats.snapshots++;
    return 0;
}

static int on_snapshot_step(void *arg, struct po__buf *out, size_t budget_bytes)
{
    struct sim_node *n = arg;
    (void)budget_bytes; /* far below what the replica asks for, so that there are many slices */
    size_t slice = n->snapshot.size / 4 + 1;
    return machine_snapshot_step(&n->snapshot, out,
                                 (size_t)sim_random(the_sim, slice / 2, 2 * slice));
}

static void on_snapshot_abort(void *arg)
{
    ((struct sim_node *)arg)->snapshot.active = false;
}

static int on_restore_begin(void *arg, uint64_t index)
{
    struct sim_node *n = arg;
    n->restore = (struct machine_restore){.index = index};
    return 0;
}

static int on_restore_chunk(void *arg, const void *data, size_t len)
{
    return machine_restore_chunk(&((struct sim_node *)arg)->restore, data, len);
}

static int on_restore_end(void *arg)
{
    struct sim_node *n = arg;
    int rv = machine_restore_end(&n->restore, &n->machine);

    if (rv)
        oracle_fail(the_sim, "a damaged snapshot reached the state of %llu",
                    (unsigned long long)n->id);
    if (n->replica)
        the_sim->stats.installs++;
    oracle_restored(the_sim, n, n->restore.index);
    return 0;
}

static void on_role(void *arg, int role, uint64_t leader_id, uint64_t term, bool ready)
{
    struct sim *s = the_sim;
    struct sim_node *n = arg;

    if (role != PO_ROLE_FOLLOWER)
        oracle_stands(term);
    if (n->dying)
        return;
    sim_note(s, n, "role %llu, leader %llu, term %llu, ready %llu", (unsigned long long)role,
             leader_id, term, ready);
    if (term < n->term)
        oracle_fail(s, "the term of %llu fell from %llu to %llu", (unsigned long long)n->id,
                    (unsigned long long)n->term, (unsigned long long)term);
    if (role == PO_ROLE_LEADER && (n->role != PO_ROLE_LEADER || n->term != term))
        oracle_leader(s, n, term);
    if (role == PO_ROLE_LEADER && ready && !n->ready && n->replica)
        oracle_ready(s, n);
    n->role = role;
    n->term = term;
    n->ready = ready;
}

/* A disk call that failed for want of power: the process has died inside it. */
static bool died(struct sim_node *n)
{
    n->dying |= po__disk_sim_is_off(n->medium);
    return n->dying;
}

static void on_fault(void *arg, int code, const char *message)
{
    struct sim_node *n = arg;
    if (!died(n))
        oracle_fail(the_sim, "%llu stopped with %s: %s", (unsigned long long)n->id,
                    po_err_name(code), message);
}

static void on_log(void *arg, const struct po_log_event *e)
{
    struct sim_node *n = arg;
    trace_text(the_sim, n, e->id, e->message);
}

static const struct po__transport_ops transport = {on_send, on_servers, on_queued_bytes};
static const struct po__state_ops state = {
    on_apply,         on_dropped,       on_snapshot_begin, on_snapshot_step, on_snapshot_abort,
    on_restore_begin, on_restore_chunk, on_restore_end,    on_role,          on_fault};

/* ---- nodes ---- */

uint64_t sim_node_ms(const struct sim *s, const struct sim_node *n)
{
    return n->base_ms + (uint64_t)((double)s->now_us * n->rate / 1000);
}

static void store_fault(void *arg, int code, const char *message)
{
    struct sim_node *n = arg;
    if (!died(n))
        oracle_fail(the_sim, "the store of %llu: %s: %s", (unsigned long long)n->id,
                    po_err_name(code), message);
}

/* Each job takes its time; those of one channel finish in order. */
static void on_submit(void *arg, struct po__disk *d, enum po__disk_channel c)
{
    struct sim *s = the_sim;
    struct sim_node *n = arg;
    uint64_t us = s->now_us + sim_random(s, 100, s->disk_max_us);

    (void)d;
    if (c == PO__CHANNEL_LOG && us < n->stalled_us)
        us = n->stalled_us;
    sim_at(s, us, SIM_DISK, n, c);
}

static bool store_open(struct sim *s, struct sim_node *n)
{
    struct po__store_opts opts = {.segment_bytes = SIM_SEGMENT_BYTES,
                                  .segments_spare = 1,
                                  .log = {on_log, n, PO_LOG_DEBUG, n->address},
                                  .fault = store_fault,
                                  .arg = n};
    char error[256] = "";

    po__disk_sim_attach(n->medium, &n->disk);
    po__disk_sim_on_submit(n->disk, on_submit, n);
    int rv = po__store_open(&n->store, n->disk, &opts, error, sizeof error);
    if (rv)
        n->store = NULL;
    if (rv && !died(n))
        oracle_fail(s, "the directory of %llu cannot be opened: %s: %s", (unsigned long long)n->id,
                    po_err_name(rv), error);
    return rv == 0;
}

static void bury(struct sim *s, struct sim_node *n)
{
    po__disk_sim_cut(n->medium);
    po__replica_stop(n->replica);
    n->replica = NULL;
    if (n->store)
        po__store_close(n->store);
    n->store = NULL;
    n->disk = NULL;
    if (sim_percent(s, 40)) /* only the process dies: caches live on */
        po__disk_sim_killed(n->medium);
    else
        po__disk_sim_power_on(n->medium, sim_random(s, 1, UINT32_MAX));
    n->alive = n->ready = false;
    n->role = 0;
    n->incarnation++;
    peers_closed(s, n);
    if (n->proposals)
        oracle_fail(s, "%u proposals of %llu were neither applied nor dropped", n->proposals,
                    (unsigned long long)n->id);
}

void sim_crash(struct sim *s, struct sim_node *n, bool restart)
{
    if (!n->alive)
        return;
    sim_note(s, n, "crashes", 0);
    s->stats.crashes++;
    n->dying = true;
    bury(s, n);
    if (restart)
        sim_at(s, s->now_us + sim_random(s, 20000, 4000000), SIM_RESTART, n, 0);
}

static void arm(struct sim *s, struct sim_node *n)
{
    uint64_t deadline = po__replica_deadline_ms(n->replica), us;

    n->timer++;
    if (deadline == UINT64_MAX)
        us = s->now_us + 1000000;
    else if (deadline <= sim_node_ms(s, n))
        us = s->now_us + 30;
    else
        us = (uint64_t)((double)(deadline - n->base_ms) * 1000 / n->rate) + 1000;
    sim_at(s, us > s->now_us ? us : s->now_us + 30, SIM_TIMER, n, n->timer);
}

void sim_settle(struct sim *s, struct sim_node *n)
{
    if (!died(n))
        po__store_poll(n->store);
    if (!died(n))
        po__replica_tick(n->replica, sim_node_ms(s, n));
    if (died(n)) {
        sim_note(s, n, "crashes inside a call", 0);
        s->stats.crashes++;
        bury(s, n);
        sim_at(s, s->now_us + sim_random(s, 20000, 4000000), SIM_RESTART, n, 0);
        return;
    }
    oracle_settled(s, n);
    arm(s, n);
}

void sim_cut_soon(struct sim *s, struct sim_node *n)
{
    if (n->alive && !po__disk_sim_is_off(n->medium))
        po__disk_sim_cut_at(n->medium, sim_random(s, 1, 30));
}

void sim_start(struct sim *s, struct sim_node *n)
{
    char error[256] = "";

    if (n->alive)
        return;
    n->alive = true;
    n->dying = false;
    n->changing = false;
    n->base_ms += sim_random(s, 0, 50);
    machine_init(&n->machine);
    n->snapshot.active = false;
    s->stats.restarts++;
    if (!store_open(s, n)) {
        bury(s, n);
        sim_at(s, s->now_us + sim_random(s, 20000, 1000000), SIM_RESTART, n, 0);
        return;
    }
    struct po__replica_opts opts = {.store = n->store,
                                    .transport = &transport,
                                    .transport_arg = n,
                                    .state = &state,
                                    .state_arg = n,
                                    .log = {on_log, n, PO_LOG_DEBUG, n->address},
                                    .id = n->id,
                                    .address = n->address,
                                    .election_ms = s->election_ms,
                                    .heartbeat_ms = s->heartbeat_ms,
                                    .snapshot_bytes = s->snapshot_bytes,
                                    .trailing_bytes = s->trailing_bytes,
                                    .seed = sim_random(s, 1, UINT32_MAX),
                                    .hint = s->hint,
                                    .inflight_max = s->inflight_max};
    int rv = po__replica_start(&n->replica, &opts, sim_node_ms(s, n), error, sizeof error);
    if (rv && !died(n))
        oracle_fail(s, "%llu does not start: %s: %s", (unsigned long long)n->id, po_err_name(rv),
                    error);
    if (rv) {
        n->replica = NULL;
        bury(s, n);
        sim_at(s, s->now_us + sim_random(s, 20000, 1000000), SIM_RESTART, n, 0);
        return;
    }
    sim_note(s, n, "started as incarnation %llu", n->incarnation);
    oracle_started(s, n);
    sim_settle(s, n);
}

void sim_boot(struct sim *s, unsigned voters, unsigned others)
{
    struct po__server servers[SIM_NODES_MAX];
    struct po__rec *first;

    the_sim = s;
    s->count = voters + others;
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        n->id = i + 1;
        snprintf(n->address, sizeof n->address, "node-%u", i + 1);
        n->rate = SIM_RATE_MIN + (double)sim_random(s, 0, 300) / 1000;
        n->base_ms = sim_random(s, 1000, 100000);
        n->medium = po__disk_sim_new(sim_random(s, 1, UINT32_MAX));
        servers[i] = (struct po__server){n->id, n->address, PO__VOTER};
    }
    if (po__replica_bootstrap_record(&first, servers, voters))
        oracle_fail(s, "no first record");
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        struct po__identity id = {.node_id = n->id};
        snprintf(id.name, sizeof id.name, "%s", n->address);
        id.cluster_id[0] = 1;
        id.directory_id[0] = (uint8_t)n->id;
        if (!store_open(s, n) ||
            po__store_bootstrap(n->store, &id, i < voters ? 1 : 0, i < voters ? first : NULL))
            oracle_fail(s, "%s cannot be bootstrapped", n->address);
        po__store_close(n->store);
        po__disk_sim_power_on(n->medium, 1);
    }
    po__free(first);
    for (unsigned i = 0; i < s->count; i++)
        sim_start(s, &s->nodes[i]);
}

void sim_free(struct sim *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (s->nodes[i].alive) {
            s->nodes[i].dying = true;
            bury(s, &s->nodes[i]);
        }
        po__disk_sim_free(s->nodes[i].medium);
    }
    while (s->events.count)
        free(po__events_pop(&s->events).data);
    po__events_fini(&s->events);
}

struct sim_node *sim_leader(struct sim *s)
{
    struct sim_node *leader = NULL;
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        if (n->alive && n->role == PO_ROLE_LEADER && (!leader || n->term > leader->term))
            leader = n;
    }
    return leader;
}

/* ---- time ---- */

static void deliver(struct sim *s, struct frame *f)
{
    struct sim_node *n = &s->nodes[f->to - 1];

    s->link_queued[f->from][f->to] -= f->len;
    sim_note(s, n, "receives %llu bytes of type %llu from %llu", f->len, f->bytes[5], f->from);
    if (n->alive && !s->blocked[f->from][f->to]) {
        int rv = po__replica_receive(n->replica, f->from, f->bytes, f->len, sim_node_ms(s, n));
        if (rv == PO_EPROTO && !died(n))
            oracle_fail(s, "%llu calls a frame of %llu malformed: %zu bytes of type %u",
                        (unsigned long long)n->id, (unsigned long long)f->from, f->len,
                        f->bytes[5]);
        sim_settle(s, n);
    }
    free(f);
}

/* Liveness: a replica sleeps until something is due. */
static void spins(struct sim *s, struct sim_node *n)
{
    uint64_t second = s->now_us / 1000000;

    if (n->timers_second != second)
        n->timers = 0;
    n->timers_second = second;
    if (++n->timers > SIM_TIMERS_MAX)
        oracle_fail(s, "liveness: %llu asked to be woken %u times within a second",
                    (unsigned long long)n->id, n->timers);
}

static const char *const event_formats[] = {
    [SIM_TIMER] = "its timer",        [SIM_DISK] = "a job of disk channel %llu ends",
    [SIM_RESTART] = "restarts",       [SIM_CLIENT] = "the clients propose",
    [SIM_READ] = "the clients read",  [SIM_FAULT] = "a fault",
    [SIM_ADMIN] = "an administrator", [SIM_KILL] = "is killed",
};

static void dispatch(struct sim *s, struct po__event e)
{
    struct sim_node *n = e.who < SIM_NODES_MAX ? &s->nodes[e.who] : NULL;

    s->now_us = e.us;
    if (s->stats.events++ == SIM_EVENTS_MAX)
        oracle_fail(s, "liveness: %u events and no end", SIM_EVENTS_MAX);
    if (e.kind == SIM_FRAME) {
        deliver(s, e.data);
        return;
    }
    if (n && n->incarnation != e.stamp)
        return;
    if (e.kind != SIM_TIMER || e.value == n->timer)
        sim_note(s, n, event_formats[e.kind], e.value);
    switch ((enum sim_event_kind)e.kind) {
    case SIM_TIMER:
        if (e.value == n->timer) {
            spins(s, n);
            sim_settle(s, n);
        }
        break;
    case SIM_DISK:
        if (n->alive && po__disk_sim_step(n->disk, (enum po__disk_channel)e.value))
            sim_settle(s, n);
        break;
    case SIM_RESTART:
        sim_start(s, n);
        break;
    case SIM_CLOSED:
    case SIM_CONFIRM:
    case SIM_LIE:
        peers_event(s, (enum sim_event_kind)e.kind, n, e.value);
        break;
    case SIM_KILL:
        if (s->chaos)
            sim_crash(s, n, true);
        break;
    default:
        chaos_event(s, (enum sim_event_kind)e.kind, e.value);
    }
}

void sim_run_until(struct sim *s, uint64_t us)
{
    while (po__events_next_us(&s->events) <= us)
        dispatch(s, po__events_pop(&s->events));
    s->now_us = us;
}
