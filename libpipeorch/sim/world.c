/* Virtual time: the loop over events, and the course of a run.
 *
 *   chaos      clients, workers and faults, for opts.chaos_us (with a pipeline: until it is done)
 *   healing    all faults end; a leader must be there within LEADER_TIMEOUTS election timeouts
 *   draining   clients finish; every task and run must end before opts.limit_us
 *   settling   followers catch up; then checks.c looks at everything */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define LEADER_TIMEOUTS 10 /* election timeouts after healing within which there is a leader */
#define STEP_US         10000
#define SETTLE_US       4000000

uint64_t po__world_random(struct po__world *w, uint64_t low, uint64_t high)
{
    return po__rng_range(&w->rng, low, high);
}

bool po__world_percent(struct po__world *w, double percent)
{
    return po__rng_percent(&w->rng, percent);
}

void po__world_fail(struct po__world *w, const char *fmt, ...)
{
    va_list args;
    if (w->failed)
        return;
    w->failed = true;
    va_start(args, fmt);
    vsnprintf(w->failure, sizeof w->failure, fmt, args);
    va_end(args);
}

const char *po__world_failure(const struct po__world *w)
{
    return w->failed ? w->failure : NULL;
}

void po__world_at(struct po__world *w, uint64_t us, enum po__event_kind kind, unsigned who,
                  uint64_t stamp, uint64_t value, void *data)
{
    po__events_push(
        &w->events,
        (struct po__event){
            .us = us, .kind = (int)kind, .who = who, .stamp = stamp, .value = value, .data = data});
}

/* ---- events ---- */

static void node_event(struct po__world *w, const struct po__event *e)
{
    struct po__simnode *n = &w->nodes[e->who];
    if (n->incarnation != e->stamp)
        return; /* of a process that is dead */
    switch (e->kind) {
    case PO__EV_TURN:
        if (n->alive && e->value == n->turn_stamp)
            po__control_turn(n);
        break;
    case PO__EV_DISK:
        po__control_disk(n, (enum po__disk_channel)e->value);
        break;
    case PO__EV_RESTART:
        po__control_start(n);
        break;
    default: /* PO__EV_CLOSED */
        if (n->alive && !po__control_died(n))
            (void)po__node_conn_closed(n->core, e->value); /* not told: missed by heartbeats */
    }
}

static void fault_event(struct po__world *w)
{
    if (!w->chaos)
        return;
    uint64_t mean = w->opts.preset->fault_us;
    po__faults_strike(w);
    po__world_at(w, w->now_us + po__world_random(w, mean / 5, mean * 2), PO__EV_FAULT, 0, 0, 0,
                 NULL);
}

static void dispatch(struct po__world *w, struct po__event *e)
{
    w->now_us = e->us;
    w->stats.events++;
    switch (e->kind) {
    case PO__EV_FRAME:
        po__peers_frame(w, e->data);
        break;
    case PO__EV_LINK:
        po__peers_link(w, e->value);
        break;
    case PO__EV_ARRIVE:
        po__simcall_arrive(e->data);
        break;
    case PO__EV_RETURN:
        po__simcall_return(w, e->data);
        break;
    case PO__EV_TIMEOUT:
        po__simcall_timeout(e->data);
        break;
    case PO__EV_WORKER:
        if (w->workers[e->who].stamp == e->stamp)
            po__worker_event(w, e->who, e->value);
        break;
    case PO__EV_CLIENT:
        if (w->clients[e->who].stamp == e->stamp)
            po__client_event(w, e->who);
        break;
    case PO__EV_JOIN:
        po__joiner_event(&w->nodes[e->who]);
        break;
    case PO__EV_ADMIN:
        po__administrator_event(w);
        break;
    case PO__EV_UPGRADE:
        po__upgrade_event(&w->nodes[e->who]);
        break;
    case PO__EV_FAULT:
        fault_event(w);
        break;
    default:
        node_event(w, e);
    }
}

bool po__world_stopped(const struct po__world *w)
{
    return w->opts.stop && __atomic_load_n(w->opts.stop, __ATOMIC_RELAXED);
}

void po__world_run_until(struct po__world *w, uint64_t us)
{
    if (po__world_stopped(w))
        po__world_fail(w, "stopped by the caller");
    while (!w->failed && po__events_next_us(&w->events) <= us) {
        struct po__event e = po__events_pop(&w->events);
        dispatch(w, &e);
    }
    if (!w->failed)
        w->now_us = us;
}

/* ---- the course of a run ---- */

static void lay_network(struct po__world *w)
{
    const struct po__preset *p = w->opts.preset;
    static const unsigned between[3][3] = {{0, 0, 1}, {0, 0, 2}, {1, 2, 0}};
    for (unsigned i = 0; i < PO__SIM_PLACES_MAX; i++)
        for (unsigned j = 0; j < PO__SIM_PLACES_MAX; j++)
            w->net.links[i][j].delay_us = i == j           ? 1
                                          : i % 3 == j % 3 ? p->local_us
                                                           : p->zone_us[between[i % 3][j % 3]];
    w->net.rng = &w->rng;
    w->net.jitter_us = p->jitter_us;
}

struct po__world *po__world_new(const struct po__world_opts *opts)
{
    PO_PRE(opts->voters >= 1 && opts->voters + opts->joiners <= PO__SIM_NODES_MAX);
    PO_PRE(opts->workers_count <= PO__SIM_WORKERS_MAX && opts->clients <= PO__SIM_CLIENTS_MAX);
    struct po__world *w = po__sim_alloc(sizeof *w);
    w->opts = *opts;
    w->next_number = w->next_app = 1;
    po__rng_init(&w->rng, opts->seed);
    po__checks_begin(w);
    lay_network(w);
    w->nodes_count = opts->voters + opts->joiners;
    w->workers_count = opts->workers_count;
    w->clients_count = opts->clients;
    for (unsigned i = 0; i < w->nodes_count; i++)
        po__control_init(w, i);
    for (unsigned i = 0; i < w->nodes_count; i++)
        if (w->nodes[i].voter)
            po__control_bootstrap(&w->nodes[i]);
        else
            po__joiner_init(&w->nodes[i]);
    for (unsigned i = 0; i < w->workers_count; i++)
        w->workers[i] = opts->workers[i];
    return w;
}

void po__world_begin(struct po__world *w)
{
    for (unsigned i = 0; i < w->nodes_count; i++)
        po__control_start(&w->nodes[i]);
    po__peers_begin(w);
    for (unsigned i = 0; i < w->workers_count; i++)
        po__worker_begin(w, i);
    for (unsigned i = 0; i < w->clients_count; i++)
        po__client_begin(w, i);
    for (unsigned i = w->opts.voters; i < w->nodes_count; i++)
        po__world_at(w, po__world_random(w, 300000, 3000000), PO__EV_JOIN, i, 0, 0, NULL);
    po__operators_begin(w);
    w->chaos = w->opts.preset->fault_us != 0;
    if (w->chaos)
        po__world_at(w, w->opts.preset->fault_us, PO__EV_FAULT, 0, 0, 0, NULL);
}

static bool done(struct po__world *w)
{
    return po__clients_idle(w) && po__checks_quiet(w);
}

static void await_leader(struct po__world *w)
{
    uint64_t healed = w->now_us, bound = LEADER_TIMEOUTS * 1000 * w->opts.preset->election_ms;
    bound = (uint64_t)((double)bound * (1 + w->opts.preset->drift_percent / 100));
    while (!w->failed && !po__world_leader(w) && w->now_us < healed + bound)
        po__world_run_until(w, w->now_us + STEP_US);
    if (!po__world_leader(w))
        po__world_fail(w, "liveness: no leader %llu ms after all was healed",
                       (unsigned long long)bound / 1000);
}

/* Into the trace: the tasks that hang. */
static void note_unfinished(struct po__world *w, const struct po__model *m)
{
    for (uint64_t id = 1; id < PO__SIM_TASKS_MAX; id++) {
        const struct po__task *t = po__model_task(m, id);
        if (t && t->state < PO_TASK_SUCCEEDED)
            po__world_trace(
                w, "hangs: task %llu, state %llu, attempt %llu, token %llu, worker %llu", "task",
                id, t->state, t->attempt, t->token, t->worker ? t->worker->number : 0);
    }
}

static void drain(struct po__world *w)
{
    while (!w->failed && !(done(w) && po__joiners_vote(w)) && w->now_us < w->opts.limit_us)
        po__world_run_until(w, w->now_us + STEP_US);
    if (!w->failed && !done(w)) {
        struct po__simnode *leader = po__world_leader(w);
        struct po__model_counts c = {0};
        if (leader)
            po__model_counts(leader->core->model, &c);
        if (leader)
            note_unfinished(w, leader->core->model);
        po__world_fail(w,
                       "liveness: after %llu s tasks are left: %llu pending, %llu scheduled, %llu "
                       "running; %llu runs; clients are %s",
                       (unsigned long long)w->now_us / 1000000, (unsigned long long)c.tasks_pending,
                       (unsigned long long)c.tasks_scheduled, (unsigned long long)c.tasks_running,
                       (unsigned long long)c.runs_running, po__clients_idle(w) ? "done" : "not");
    }
    if (!w->failed && !po__joiners_vote(w))
        po__world_fail(w, "liveness: %llu of %u nodes that joined may vote",
                       (unsigned long long)w->stats.grown, w->opts.joiners);
}

void po__world_run(struct po__world *w)
{
    po__world_begin(w);
    while (!w->failed && w->now_us < w->opts.chaos_us && !(w->opts.pipeline && done(w)))
        po__world_run_until(w, w->now_us + STEP_US);
    w->stats.virtual_ms = w->now_us / 1000;
    bool pipeline_done = w->opts.pipeline && done(w);
    po__world_trace(w, "is healed", "world", 0);
    if (!w->failed)
        po__faults_heal(w);
    await_leader(w);
    drain(w);
    if (!pipeline_done)
        w->stats.virtual_ms = w->now_us / 1000;
    if (!w->failed)
        po__world_run_until(w, w->now_us + SETTLE_US);
    if (!w->failed)
        po__checks_end(w);
    w->draining = true;
    for (unsigned i = 0; i < w->nodes_count; i++)
        w->stats.misreads += po__disk_sim_misreads(w->nodes[i].medium);
}

void po__world_free(struct po__world *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < w->nodes_count; i++)
        po__control_free(&w->nodes[i]);
    while (w->events.count) {
        struct po__event e = po__events_pop(&w->events);
        po__simcall_drop(w, &e);
    }
    po__events_fini(&w->events);
    for (unsigned i = 0; i < w->clients_count; i++)
        po__buf_fini(&w->clients[i].request);
    po__checks_free(w);
    free(w);
}
