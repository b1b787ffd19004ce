/* The node's turn, its beginning and its end, without a thread: see core.h.
 *
 * Everything happens in the turn, after whatever came since the last one (mail, peers' frames,
 * disk jobs, a deadline). So work that came together is handled together, and nothing waits for a
 * timer. */
#include "internal.h"

#include <pipeorch/error.h>

#define ROUNDS_MAX 16 /* of one turn, before the owner looks at the sockets again */

uint64_t po__node_now(struct po__node *n)
{
    return n->env.now_ms(n->env.arg);
}

bool po__node_on_thread(const struct po__node *n)
{
    return n->env.on_thread(n->env.arg);
}

static size_t take_mail(struct po__node *n)
{
    struct po__list mail, *it;
    po__list_init(&mail);
    size_t count = po__mailbox_take(&n->mailbox, &mail);
    while ((it = po__list_pop(&mail))) {
        struct po__mail *m = po__container_of(it, struct po__mail, link);
        m->deliver(n, m);
    }
    return count;
}

static void leader_ticks(struct po__node *n, uint64_t now)
{
    po__sessions_tick(n, now);
    po__watch_tick(n);
    po__schedules_tick(n);
    if (!n->tick_staged && po__model_next_due_ms(n->model) <= po__stamp_ms(n)) {
        n->cmd.type = PO__CMD_TICK;
        n->tick_staged = po__stage_command(n, &n->cmd, NULL, 0) == 0;
    }
}

static void sweep(struct po__node *n, uint64_t now)
{
    if (now < n->next_sweep_ms)
        return;
    n->next_sweep_ms = now + PO__SWEEP_MS;
    po__calls_sweep(n, now);
    n->redispatch = n->redispatch || !po__list_empty(&n->leaderless);
}

static void run_fault(struct po__node *n)
{
    if (!n->fault || n->fault_handled)
        return;
    n->fault_handled = true;
    po__status_publish(n); /* who is told of the fault must find it in the status */
    po__lose_leadership(n);
    po__calls_fail_all(n, PO_EFAULT, PO_EUNKNOWN, n->fault_message);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_turn(struct po__node *n, uint64_t now)
{
    uint64_t at = n->fault ? UINT64_MAX : po__replica_deadline_ms(n->replica);
    if (n->calls_count)
        at = min_u64(at, n->next_sweep_ms);
    if (n->redispatch || po__mailbox_count(&n->mailbox))
        at = now; /* the rounds are used up, or the flush made news: nobody else wakes us for it */
    at = min_u64(at, po__members_deadline(n));
    if (n->ready) {
        at = min_u64(at, min_u64(po__sessions_deadline(n), po__streams_deadline(n)));
        at = min_u64(at, po__schedules_deadline(n, now));
        uint64_t due = po__model_next_due_ms(n->model), stamp = po__stamp_ms(n);
        if (due != UINT64_MAX && !n->tick_staged)
            at = min_u64(at, due > stamp ? now + (due - stamp) : now);
    }
    return at;
}

uint64_t po__node_turn(struct po__node *n)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t now = po__node_now(n);
        n->level_reached = 0;
        size_t mail = take_mail(n);
        sweep(n, now);
        if (n->redispatch) {
            n->redispatch = false;
            po__forward_leader_changed(n);
        }
        if (!n->fault)
            po__store_poll(n->store);
        if (n->ready)
            leader_ticks(n, now);
        po__stage_propose(n);
        if (!n->fault)
            po__replica_tick(n->replica, now);
        po__members_tick(n, now);
        run_fault(n);
        po__streams_tick(n, now);
        if (n->ready) {
            po__sessions_answer(n);
            po__watches_answer(n);
        }
        if (mail == 0 && !n->redispatch && po__mailbox_count(&n->mailbox) == 0)
            break;
    }
    if (n->net)
        n->net->flush(n->net->arg);
    po__status_publish(n);
    return next_turn(n, po__node_now(n));
}

/* ---- beginning and end ---- */

static void signal_mail(void *arg)
{
    struct po__node *n = arg;
    n->env.wake(n->env.arg);
}

int po__node_core_create(struct po__node **out, const struct po__node_env *env)
{
    int rv = PO_ENOMEM;
    struct po__node *n = po__calloc(1, sizeof *n);
    if (!n)
        return PO_ENOMEM;
    n->env = *env;
    n->peers = po__calloc(PO_MEMBERS_MAX, sizeof *n->peers);
    if (!n->peers || po__mailbox_init(&n->mailbox, signal_mail, n))
        goto err_after_node;
    if (pthread_mutex_init(&n->status_lock, NULL))
        goto err_after_mailbox;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rv = pthread_cond_init(&n->status_cond, &attr) ? PO_ENOMEM : 0;
    pthread_condattr_destroy(&attr);
    if (rv)
        goto err_after_lock;
    po__list_init(&n->calls);
    po__list_init(&n->leaderless);
    po__list_init(&n->freshness.waiting);
    po__list_init(&n->batches);
    po__list_init(&n->dirty);
    po__list_init(&n->polls_ready);
    po__list_init(&n->snapshot_waits);
    po__list_init(&n->changes.waiting);
    po__list_init(&n->changes.transferred);
    po__watch_init(n);
    n->role = PO_ROLE_FOLLOWER;
    *out = n;
    return 0;

err_after_lock:
    pthread_mutex_destroy(&n->status_lock);
err_after_mailbox:
    po__mailbox_fini(&n->mailbox);
err_after_node:
    po__free(n->peers);
    po__free(n);
    return rv;
}

static int start_replica(struct po__node *n, char *error, size_t error_len)
{
    struct po__replica_opts ro = {.store = n->store,
                                  .transport = n->net ? n->net->transport : NULL,
                                  .transport_arg = n->net ? n->net->arg : NULL,
                                  .state = &po__node_state_ops,
                                  .state_arg = n,
                                  .log = n->log,
                                  .id = n->identity.node_id,
                                  .address = n->peer_address,
                                  .election_ms = n->opts.election_ms,
                                  .heartbeat_ms = n->opts.heartbeat_ms,
                                  .snapshot_bytes = n->opts.snapshot_bytes,
                                  .hint = n->opts.hint,
                                  .trailing_bytes = n->opts.trailing_bytes};
    int rv = n->env.random(n->env.arg, &ro.seed, sizeof ro.seed);
    if (rv) {
        snprintf(error, error_len, "the system's random numbers cannot be read");
        return rv;
    }
    /* Replies to calls of an earlier life of this node may still come: they must meet no call of
     * this one. */
    n->next_forward_id = ro.seed >> 1;
    return po__replica_start(&n->replica, &ro, po__node_now(n), error, error_len);
}

int po__node_core_open(struct po__node *n, const struct po__node_opts *opts, uv_loop_t *loop,
                       char *error, size_t error_len)
{
    n->store = opts->store;
    n->opts = *opts;
    if (n->opts.feature_level == 0)
        n->opts.feature_level = PO__FEATURE_LEVEL;
    n->identity = opts->identity;
    n->log = opts->log;
    n->net = opts->net;
    n->app.sm = opts->state_machine;
    snprintf(n->zone, sizeof n->zone, "%s", opts->zone);
    snprintf(n->peer_address, sizeof n->peer_address, "%s", opts->peer_address);
    snprintf(n->worker_address, sizeof n->worker_address, "%s", opts->worker_address);
    snprintf(n->prefer_zone, sizeof n->prefer_zone, "%s",
             opts->prefer_zone ? opts->prefer_zone : "");
    snprintf(n->time_zone_dir, sizeof n->time_zone_dir, "%s",
             opts->time_zone_dir ? opts->time_zone_dir : "");
    int rv = po__model_open(&n->model, &n->app);
    if (rv == 0 && n->net)
        rv = n->net->open(n->net->arg, loop, n, error, error_len);
    n->net_open = rv == 0 && n->net;
    if (rv == 0)
        rv = start_replica(n, error, error_len);
    if (rv == 0)
        po__status_publish(n);
    return rv;
}

bool po__node_core_has_net(const struct po__node *n)
{
    return n->net_open;
}

/* From now on nobody posts, and nobody is inside env.wake. */
static void refuse_mail(struct po__node *n)
{
    po__mailbox_close(&n->mailbox);
    take_mail(n);
}

void po__node_core_stop(struct po__node *n)
{
    if (n->replica)
        take_mail(n); /* whoever asked before the end is answered as if under way */
    n->stopping = true;
    n->ready = false;
    po__stage_drop(n);
    po__sessions_clear(n);
    po__schedules_clear(n);
    po__streams_clear(n);
    po__calls_fail_all(n, PO_ECLOSED, PO_EUNKNOWN, "the node is stopping");
    po__replica_stop(n->replica); /* drops the proposals in flight; their calls are answered */
    n->replica = NULL;
    /* Its threads wake us: they end before what they signal. */
    po__store_close(n->store);
    n->store = NULL;
    po__status_publish(n);
    refuse_mail(n);
}

/* Those who wait for a leader are told by now; the lock is theirs until they have left. */
static void let_watchers_go(struct po__node *n)
{
    pthread_mutex_lock(&n->status_lock);
    while (n->watchers)
        pthread_cond_wait(&n->status_cond, &n->status_lock);
    pthread_mutex_unlock(&n->status_lock);
}

void po__node_core_free(struct po__node *n)
{
    PO_PRE(n->stopping && !n->replica && !n->store);
    let_watchers_go(n);
    po__model_close(n->restoring);
    po__model_close(n->model);
    po__effects_fini(&n->fx);
    po__watch_fini(n);
    po__buf_fini(&n->stage.bytes);
    po__free(n->stage.slots);
    po__buf_fini(&n->out);
    po__buf_fini(&n->body);
    po__buf_fini(&n->tasks);
    pthread_cond_destroy(&n->status_cond);
    pthread_mutex_destroy(&n->status_lock);
    po__mailbox_fini(&n->mailbox);
    po__free(n->peers);
    po__free(n);
}
