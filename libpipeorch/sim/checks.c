/* What must hold in a simulated world: see checks.h.
 *
 * The tables are flat and as long as a run may get; a run that outgrows one is told so, not
 * checked less. */
#include "checks.h"

#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"
#include "../consensus/heap.h"

#define TERMS_MAX       65536
#define NUMBERS_MAX     65536
#define INVARIANT_EVERY 32      /* entries between two whole-state checks of one node */
#define OFFLINE_MAX_US  7000000 /* three heartbeats, slow clocks, slow disks, and pauses */
#define U(x)            ((unsigned long long)(x))

struct po__checks {
    uint64_t digest_at[PO__SIM_INDEX_MAX]; /* state after this entry, 0: not seen */
    uint64_t events_at[PO__SIM_INDEX_MAX]; /* those of this entry, 0: not seen */
    struct po__buf events;                 /* scratch */
    uint8_t leader_of[TERMS_MAX];          /* place + 1 */
    uint64_t acked;                        /* highest index whose caller was told so */
    uint64_t acked_at_election[PO__SIM_NODES_MAX];
    uint64_t ready_us[PO__SIM_NODES_MAX];         /* since when it serves as a leader */
    unsigned offline_at_ready[PO__SIM_NODES_MAX]; /* workers */
    uint64_t acked_id[2][NUMBERS_MAX]; /* of each key of tasks and of runs; 0: not acked */
    uint8_t acked_app[PO__SIM_APP_MAX];
    uint64_t token_task[PO__SIM_INDEX_MAX]; /* who was granted it */
    struct {
        uint64_t token; /* highest granted */
        uint32_t attempt;
        uint64_t accepted; /* token of the accepted result */
    } tasks[PO__SIM_TASKS_MAX];
    uint64_t entries;
    unsigned last_leader;
};

void po__checks_begin(struct po__world *w)
{
    w->checks = po__sim_alloc(sizeof *w->checks);
}

void po__checks_free(struct po__world *w)
{
    if (w->checks)
        po__buf_fini(&w->checks->events);
    free(w->checks);
    w->checks = NULL;
}

/* ---- nodes ---- */

static void check_model(struct po__simnode *n, uint64_t index)
{
    char why[256] = "";
    if (po__model_check(n->core->model, why, sizeof why))
        po__world_fail(n->world, "the state of %s at index %llu is broken: %s", n->name, U(index),
                       why);
}

/* A digest costs as much as the state is big. Large states are looked at after some entries only:
 * the same ones on every node, since states and indexes are equal. */
static bool worth_a_digest(const struct po__model *m, uint64_t index)
{
    struct po__model_counts c;
    po__model_counts(m, &c);
    uint64_t tasks = c.tasks_pending + c.tasks_running + c.tasks_scheduled + c.tasks_finished;
    return index % (1 + tasks / 8) == 0;
}

/* Whoever watches may go on at another node: the events of an entry are the same everywhere. */
static void check_events(struct po__simnode *n, uint64_t index)
{
    struct po__checks *k = n->world->checks;
    const struct po__watch_ring *r = &n->core->watch.ring;
    struct po__watch_pos pos = {index, 0};
    if (po__watch_pos_cmp(pos, r->kept) < 0)
        return; /* no memory for all of them, by the world's own doing */
    po__buf_reset(&k->events);
    uint32_t count = po__watch_ring_read(r, &pos, &(struct po__watch_filter){0}, UINT32_MAX,
                                         SIZE_MAX, &k->events);
    if (k->events.err)
        return;
    uint64_t seen = (uint64_t)(count + 1) << 32 | po__crc32c(0, k->events.data, k->events.len);
    if (k->events_at[index] && k->events_at[index] != seen)
        po__world_fail(n->world, "%s differs from others in the events of index %llu", n->name,
                       U(index));
    k->events_at[index] = seen;
}

void po__checks_applied(struct po__simnode *n, uint64_t index)
{
    struct po__world *w = n->world;
    struct po__checks *k = w->checks;
    uint64_t digest;
    if (n->dying)
        return;
    if (index >= PO__SIM_INDEX_MAX) {
        po__world_fail(w, "the run outgrew its tables: index %llu", U(index));
        return;
    }
    if (index <= n->seen_index)
        po__world_fail(w, "%s applied index %llu after %llu", n->name, U(index), U(n->seen_index));
    n->seen_index = index;
    if (n->app.doubled)
        po__world_fail(w, "application command %llu was applied twice on %s", U(n->app.doubled),
                       n->name);
    check_events(n, index);
    if (!worth_a_digest(n->core->model, index) || po__model_digest(n->core->model, &digest))
        return; /* no memory for it, by the world's own doing */
    digest += digest == 0;
    if (k->digest_at[index] && k->digest_at[index] != digest)
        po__world_fail(w, "%s differs from others in its state at index %llu", n->name, U(index));
    k->digest_at[index] = digest;
    if (++k->entries % INVARIANT_EVERY == 0)
        check_model(n, index);
}

/* One that does not know a command stops with a fault, and so does whoever is restored from it. */
void po__checks_applying(struct po__simnode *n, uint64_t index, const struct po__cmd *cmd)
{
    struct po__server servers[PO_MEMBERS_MAX];
    struct po__member_info info;
    if (n->dying || cmd->type != PO__CMD_MEMBER_WISH || !n->core->replica)
        return;
    unsigned count = po__replica_servers(n->core->replica, servers, PO_MEMBERS_MAX);
    for (unsigned i = 0; i < count; i++)
        if (po__model_member(n->core->model, servers[i].id, &info) && info.feature_level < 2)
            po__world_fail(n->world,
                           "%s applies a command of level 2 at index %llu, and the program of node "
                           "id %llu is of level %u",
                           n->name, U(index), U(servers[i].id), info.feature_level);
}

void po__checks_started(struct po__simnode *n)
{
    n->seen_index = n->seen_term = 0;
    n->seen_leader = n->seen_ready = false;
}

static void check_leader(struct po__simnode *n, uint64_t term)
{
    struct po__world *w = n->world;
    struct po__checks *k = w->checks;
    if (term >= TERMS_MAX) {
        po__world_fail(w, "terms run away: %llu", U(term));
        return;
    }
    if (k->leader_of[term] && k->leader_of[term] != n->place + 1)
        po__world_fail(w, "node-%u and %s both lead term %llu", k->leader_of[term], n->name,
                       U(term));
    k->leader_of[term] = (uint8_t)(n->place + 1);
    k->acked_at_election[n->place] = k->acked;
    w->stats.elections++;
    po__world_trace(w, "leads term %llu", n->name, term);
}

static unsigned offline(const struct po__model *m, uint32_t *heartbeat_ms)
{
    const struct po__worker *x = NULL;
    unsigned count = 0;
    *heartbeat_ms = UINT32_MAX;
    while ((x = po__model_worker_next(m, x))) {
        count += x->status == PO_WORKER_OFFLINE;
        if (x->heartbeat_ms < *heartbeat_ms)
            *heartbeat_ms = x->heartbeat_ms;
    }
    return count;
}

/* A new leader has heard of no worker yet, so silence proves nothing to it: nobody is marked
 * offline within a heartbeat (half of one, for clocks that are fast). */
static void check_grace(struct po__simnode *n)
{
    struct po__world *w = n->world;
    struct po__checks *k = w->checks;
    uint32_t heartbeat_ms;
    unsigned now = offline(n->core->model, &heartbeat_ms);
    if (now > k->offline_at_ready[n->place] &&
        w->now_us < k->ready_us[n->place] + (uint64_t)heartbeat_ms * 500)
        po__world_fail(w, "%s marks a worker offline %llu us after it began to lead", n->name,
                       U(w->now_us - k->ready_us[n->place]));
    if (now < k->offline_at_ready[n->place])
        k->offline_at_ready[n->place] = now;
}

static void check_ready(struct po__simnode *n)
{
    struct po__world *w = n->world;
    struct po__checks *k = w->checks;
    uint64_t applied = po__model_index(n->core->model);
    if (applied < k->acked_at_election[n->place])
        po__world_fail(w, "%s is ready at index %llu, but %llu was acknowledged before it led",
                       n->name, U(applied), U(k->acked_at_election[n->place]));
    if (k->last_leader && k->last_leader != n->place + 1)
        w->stats.failovers++;
    k->last_leader = n->place + 1;
    uint32_t ignored;
    k->ready_us[n->place] = w->now_us;
    k->offline_at_ready[n->place] = offline(n->core->model, &ignored);
    po__world_trace(w, "is ready at index %llu", n->name, applied);
}

/* What the administrator asks for never leaves one voter of several, nor a wish of it where it is
 * refused. */
static void check_members(struct po__simnode *n)
{
    struct po__world *w = n->world;
    struct po__members_view v;
    struct po__member_info info;
    po__members_view(n->core, &v);
    if (v.voters < (w->opts.voters > 1 ? 2 : 1))
        po__world_fail(w, "%s leads %u voters; there were %u in the beginning", n->name, v.voters,
                       w->opts.voters);
    if (!po__operators_shrink_refused(w))
        return;
    if (v.voters != w->opts.voters || v.count != w->opts.voters)
        po__world_fail(w, "%s leads %u voters of %u members, though no change may succeed", n->name,
                       v.voters, v.count);
    for (uint64_t id = 0; po__model_member_next(n->core->model, id, &info); id = info.node_id)
        if (info.wish == PO__WISH_STANDBY)
            po__world_fail(w, "%.*s is to be a standby, which was refused", (int)info.name.len,
                           info.name.data);
}

void po__checks_turn(struct po__simnode *n)
{
    struct po__world *w = n->world;
    uint64_t term = n->core->term, index = po__model_index(n->core->model);
    bool leads = n->core->role == PO_ROLE_LEADER;
    if (term < n->seen_term)
        po__world_fail(w, "the term of %s fell from %llu to %llu", n->name, U(n->seen_term),
                       U(term));
    if (leads && (!n->seen_leader || term != n->seen_term))
        check_leader(n, term);
    if (n->core->ready && !n->seen_ready)
        check_ready(n);
    else if (n->core->ready)
        check_grace(n);
    if (n->core->ready && n->core->last_stamp_ms < po__model_now_ms(n->core->model))
        po__world_fail(w, "the clock of %s, which leads, went back: %llu after %llu", n->name,
                       U(n->core->last_stamp_ms), U(po__model_now_ms(n->core->model)));
    if (n->core->ready && w->opts.administrator)
        check_members(n);
    n->ready_us = !n->core->ready ? 0 : n->ready_us ? n->ready_us : w->now_us;
    n->seen_term = term;
    n->seen_leader = leads;
    n->seen_ready = n->core->ready;
    if (index > n->seen_index) { /* a snapshot was restored, or an entry without commands */
        uint64_t digest;
        struct po__checks *k = w->checks;
        n->seen_index = index;
        if (index < PO__SIM_INDEX_MAX && k->digest_at[index] &&
            po__model_digest(n->core->model, &digest) == 0 &&
            digest + (digest == 0) != k->digest_at[index])
            po__world_fail(w, "the snapshot that %s restored differs at index %llu", n->name,
                           U(index));
        check_model(n, index);
    }
}

void po__checks_fault(struct po__simnode *n, int code, const char *message)
{
    struct po__world *w = n->world;
    bool disk = code == PO_EIO || code == PO_ENOSPACE || code == PO_ECORRUPT ||
                code == PO_EVERSION || code == PO_EFAULT;
    if (code == PO_ENOMEM && (n->starved || po__heap_exhausted()))
        return;
    if (n->starved && code == PO_EFAULT)
        return;
    if (disk && n->hurt) {
        w->stats.misreads_caught += code == PO_ECORRUPT;
        return;
    }
    po__world_fail(w, "%s stopped with %s: %s", n->name, po_err_name(code), message);
}

/* ---- answers ---- */

void po__checks_acked(struct po__world *w, enum po__acked_kind kind, uint64_t number, uint64_t id,
                      uint64_t index)
{
    struct po__checks *k = w->checks;
    w->stats.acked++;
    if (index > k->acked)
        k->acked = index;
    if (kind == PO__ACKED_APP) {
        k->acked_app[number] = 1;
        return;
    }
    if (number >= NUMBERS_MAX || id == 0) {
        po__world_fail(w, "key %llu was acknowledged with id %llu", U(number), U(id));
        return;
    }
    uint64_t *known = &k->acked_id[kind][number];
    if (*known && *known != id)
        po__world_fail(w, "key %llu was applied twice: as %llu and as %llu", U(number), U(*known),
                       U(id));
    *known = id;
}

uint64_t po__checks_acked_index(const struct po__world *w)
{
    return w->checks->acked;
}

void po__checks_read(struct po__world *w, uint64_t index, uint64_t acked_before)
{
    if (index < acked_before)
        po__world_fail(w, "a read saw index %llu, but %llu was acknowledged before it was asked",
                       U(index), U(acked_before));
}

void po__checks_granted(struct po__world *w, const struct po__simworker *x, uint64_t task_id,
                        uint64_t token, uint32_t attempt)
{
    struct po__checks *k = w->checks;
    if (task_id >= PO__SIM_TASKS_MAX || token >= PO__SIM_INDEX_MAX) {
        po__world_fail(w, "the run outgrew its tables: task %llu, token %llu", U(task_id),
                       U(token));
        return;
    }
    if (k->token_task[token] && k->token_task[token] != task_id)
        po__world_fail(w, "token %llu was granted for task %llu and, to %s, for task %llu",
                       U(token), U(k->token_task[token]), x->id, U(task_id));
    w->stats.granted += k->token_task[token] == 0;
    k->token_task[token] = task_id;
    uint64_t last = k->tasks[task_id].token;
    uint32_t last_attempt = k->tasks[task_id].attempt;
    if ((token > last && last && attempt <= last_attempt) ||
        (token < last && attempt >= last_attempt) || (token == last && attempt != last_attempt))
        po__world_fail(w, "task %llu: attempt %u has token %llu, attempt %u has token %llu",
                       U(task_id), attempt, U(token), last_attempt, U(last));
    if (token > last) {
        k->tasks[task_id].token = token;
        k->tasks[task_id].attempt = attempt;
    }
}

void po__checks_completed(struct po__world *w, const struct po__simworker *x, uint64_t task_id,
                          uint64_t token)
{
    struct po__checks *k = w->checks;
    uint64_t accepted = k->tasks[task_id].accepted;
    po__world_trace(w, "completed task %llu with token %llu", x->id, task_id, token);
    if (accepted && accepted != token)
        po__world_fail(w, "task %llu has two accepted results: tokens %llu and %llu (%s)",
                       U(task_id), U(accepted), U(token), x->id);
    if (token < k->tasks[task_id].token)
        po__world_fail(w,
                       "task %llu: a result with token %llu of %s was accepted after %llu was "
                       "granted",
                       U(task_id), U(token), x->id, U(k->tasks[task_id].token));
    w->stats.completed += accepted == 0;
    k->tasks[task_id].accepted = token;
}

void po__checks_silent(struct po__world *w, const struct po__simworker *x)
{
    struct po__simnode *leader = po__world_leader(w);
    const struct po__worker *known =
        leader ? po__model_worker(leader->core->model, po__str(x->id)) : NULL;
    /* Only a leader that was in office all the time, and some, is to blame. */
    if (!known || !leader->ready_us || leader->ready_us > x->silent_us ||
        w->now_us < x->silent_us + OFFLINE_MAX_US || known->incarnation != x->incarnation)
        return;
    if (known->status != PO_WORKER_OFFLINE)
        po__world_fail(w, "%s was silent for %llu ms and is not offline", x->id,
                       U((w->now_us - x->silent_us) / 1000));
}

/* ---- the end ---- */

bool po__checks_quiet(struct po__world *w)
{
    struct po__simnode *leader = po__world_leader(w);
    struct po__model_counts c;
    if (!leader)
        return false;
    po__model_counts(leader->core->model, &c);
    return c.tasks_pending + c.tasks_scheduled + c.tasks_running + c.runs_running == 0;
}

/* The number in the input of a client's own task. */
static bool number_of(const struct po__task *t, uint64_t *number)
{
    static const char head[] = "{\"n\":";
    if (t->run_id || t->input.len <= sizeof head ||
        memcmp(t->input.data, head, sizeof head - 1) != 0)
        return false;
    *number = strtoull(t->input.data + sizeof head - 1, NULL, 10);
    return *number < NUMBERS_MAX;
}

static void check_tasks(struct po__world *w, const struct po__model *m)
{
    struct po__checks *k = w->checks;
    uint64_t *seen = po__sim_alloc(NUMBERS_MAX * sizeof *seen), number;
    for (uint64_t id = 1; id < PO__SIM_TASKS_MAX; id++) {
        const struct po__task *t = po__model_task(m, id);
        uint64_t accepted = k->tasks[id].accepted;
        if (accepted && (!t || t->state != PO_TASK_SUCCEEDED || t->token != accepted))
            po__world_fail(w, "task %llu: the result with token %llu was accepted and is not there",
                           U(id), U(accepted));
        if (!t || !number_of(t, &number))
            continue;
        if (seen[number])
            po__world_fail(w, "key %llu is there twice: tasks %llu and %llu", U(number),
                           U(seen[number]), U(id));
        seen[number] = id;
    }
    for (number = 0; number < NUMBERS_MAX; number++) {
        uint64_t id = k->acked_id[PO__ACKED_TASK][number];
        if (id && !po__model_task(m, id))
            po__world_fail(w, "task %llu of key %llu was acknowledged and is lost", U(id),
                           U(number));
        id = k->acked_id[PO__ACKED_RUN][number];
        if (id && !po__model_run_state(m, id))
            po__world_fail(w, "run %llu of key %llu was acknowledged and is lost", U(id),
                           U(number));
    }
    free(seen);
}

static void check_node(struct po__simnode *n, struct po__simnode *leader)
{
    struct po__world *w = n->world;
    uint64_t own = 0, theirs = 0;
    if (!n->alive) {
        po__world_fail(w, "liveness: %s is down", n->name);
        return;
    }
    if (po__model_digest(n->core->model, &own) || po__model_digest(leader->core->model, &theirs) ||
        own != theirs || po__model_index(n->core->model) != po__model_index(leader->core->model))
        po__world_fail(w, "liveness: %s is at index %llu, the leader at %llu", n->name,
                       U(po__model_index(n->core->model)), U(po__model_index(leader->core->model)));
    for (uint64_t i = 0; i < PO__SIM_APP_MAX; i++)
        if (w->checks->acked_app[i] && !(n->app.seen[i / 8] >> i % 8 & 1))
            po__world_fail(w, "application command %llu was acknowledged and is lost on %s", U(i),
                           n->name);
    check_model(n, n->seen_index);
}

/* The upgrades are known to everybody. */
static void check_levels(struct po__world *w, const struct po__model *m)
{
    struct po__member_info info;
    for (uint64_t id = 0; po__model_member_next(m, id, &info); id = info.node_id)
        if (info.feature_level != PO__FEATURE_LEVEL)
            po__world_fail(w, "the record of %.*s still says level %u at the end",
                           (int)info.name.len, info.name.data, info.feature_level);
}

void po__checks_end(struct po__world *w)
{
    struct po__simnode *leader = po__world_leader(w);
    if (!leader) {
        po__world_fail(w, "liveness: no leader at the end");
        return;
    }
    check_tasks(w, leader->core->model);
    check_levels(w, leader->core->model);
    for (unsigned i = 0; i < w->nodes_count; i++)
        if (w->nodes[i].voter || leader->servers >> i & 1)
            check_node(&w->nodes[i], leader);
}
