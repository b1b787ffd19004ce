/* The node thread: its loop, its turn, its beginning and its end.
 *
 * Everything happens in turn(), which runs as a libuv prepare callback: after whatever the last
 * poll brought (wakeups, peers' frames, timers) and before the loop sleeps. So work that came
 * together is handled together, and nothing waits for a timer.
 *
 * Ending: po__node_destroy closes the mailbox and wakes the thread; the next turn answers every
 * call, stops the replica, closes the network and then the loop's own handles; uv_run returns when
 * the last of them is closed. */
#include "internal.h"

#include <sys/random.h>

#include <pipeorch/error.h>

#define ROUNDS_MAX 16 /* of one turn, before the loop looks at the sockets again */
uint64_t po__node_now(struct po__node *n)
{
    return uv_now(&n->loop);
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

static void on_timer(uv_timer_t *t)
{
    (void)t; /* the turn that follows does the work */
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void arm_timer(struct po__node *n, uint64_t now)
{
    uint64_t at = n->fault ? UINT64_MAX : po__replica_deadline_ms(n->replica);
    if (n->calls_count)
        at = min_u64(at, n->next_sweep_ms);
    if (n->redispatch || po__mailbox_count(&n->mailbox))
        at = now; /* the rounds are used up, or the flush made news: nobody else wakes us for it */
    if (n->ready) {
        at = min_u64(at, po__sessions_deadline(n));
        uint64_t due = po__model_next_due_ms(n->model), stamp = po__stamp_ms(n);
        if (due != UINT64_MAX && !n->tick_staged)
            at = min_u64(at, due > stamp ? now + (due - stamp) : now);
    }
    if (at == UINT64_MAX)
        uv_timer_stop(&n->timer);
    else
        uv_timer_start(&n->timer, on_timer, at > now ? at - now : 0, 0);
}

static void on_handle_closed(uv_handle_t *h)
{
    (void)h;
}

static void close_handles(void *arg)
{
    struct po__node *n = arg;
    uv_handle_t *handles[] = {(uv_handle_t *)&n->mail_async, (uv_handle_t *)&n->disk_async,
                              (uv_handle_t *)&n->prepare, (uv_handle_t *)&n->timer};
    for (unsigned i = 0; i < sizeof handles / sizeof *handles; i++)
        if (!uv_is_closing(handles[i]))
            uv_close(handles[i], on_handle_closed);
}

static void stop(struct po__node *n)
{
    n->stopping = true;
    n->ready = false;
    po__stage_drop(n);
    po__sessions_clear(n);
    po__calls_fail_all(n, PO_ECLOSED, PO_EUNKNOWN, "the node is stopping");
    po__replica_stop(n->replica); /* drops the proposals in flight; their calls are answered */
    n->replica = NULL;
    po__store_close(
        n->store); /* its threads wake us: they end before the handle that they signal */
    n->store = NULL;
    po__status_publish(n);
    uv_prepare_stop(&n->prepare);
    if (n->net)
        n->net->close(n->net->arg, close_handles, n);
    else
        close_handles(n);
}

static void turn(uv_prepare_t *handle)
{
    struct po__node *n = handle->data;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t now = po__node_now(n);
        size_t mail = take_mail(n);
        if (atomic_load(&n->stop_asked)) {
            stop(n);
            return;
        }
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
        run_fault(n);
        if (n->ready)
            po__sessions_answer(n);
        if (mail == 0 && !n->redispatch && po__mailbox_count(&n->mailbox) == 0)
            break;
    }
    if (n->net)
        n->net->flush(n->net->arg);
    po__status_publish(n);
    arm_timer(n, po__node_now(n));
}

static void on_async(uv_async_t *a)
{
    (void)a; /* likewise */
}

static void signal_mail(void *arg)
{
    struct po__node *n = arg;
    if (!po__node_on_thread(n)) /* the thread itself looks again before it sleeps */
        uv_async_send(&n->mail_async);
}

void po__node_disk_wakeup(void *node)
{
    uv_async_send(&((struct po__node *)node)->disk_async);
}

/* ---- beginning and end ---- */

int po__node_create(struct po__node **out)
{
    int rv = PO_ENOMEM;
    struct po__node *n = po__calloc(1, sizeof *n);
    if (!n)
        return PO_ENOMEM;
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
    if (uv_loop_init(&n->loop)) {
        rv = PO_ENOMEM;
        goto err_after_cond;
    }
    if (uv_async_init(&n->loop, &n->mail_async, on_async) ||
        uv_async_init(&n->loop, &n->disk_async, on_async)) {
        rv = PO_ENOMEM;
        goto err_after_loop;
    }
    uv_prepare_init(&n->loop, &n->prepare);
    uv_timer_init(&n->loop, &n->timer);
    n->prepare.data = n;
    po__list_init(&n->calls);
    po__list_init(&n->leaderless);
    po__list_init(&n->batches);
    po__list_init(&n->dirty);
    po__list_init(&n->polls_ready);
    n->role = PO_ROLE_FOLLOWER;
    *out = n;
    return 0;

err_after_loop:
    uv_run(&n->loop, UV_RUN_NOWAIT);
    uv_loop_close(&n->loop);
err_after_cond:
    pthread_cond_destroy(&n->status_cond);
err_after_lock:
    pthread_mutex_destroy(&n->status_lock);
err_after_mailbox:
    po__mailbox_fini(&n->mailbox);
err_after_node:
    po__free(n->peers);
    po__free(n);
    return rv;
}

static void thread_main(void *arg)
{
    struct po__node *n = arg;
    n->thread_id = pthread_self();
    atomic_store(&n->thread_running, true);
    uv_run(&n->loop, UV_RUN_DEFAULT);
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
                                  .trailing_bytes = n->opts.trailing_bytes};
    if (getrandom(&ro.seed, sizeof ro.seed, 0) != (ssize_t)sizeof ro.seed) {
        snprintf(error, error_len, "the system's random numbers cannot be read");
        return PO_EIO;
    }
    /* Replies to calls of an earlier life of this node may still come: they must meet no call of
     * this one. */
    n->next_forward_id = ro.seed >> 1;
    uv_update_time(&n->loop);
    return po__replica_start(&n->replica, &ro, po__node_now(n), error, error_len);
}

int po__node_start(struct po__node *n, const struct po__node_opts *opts, char *error,
                   size_t error_len)
{
    n->store = opts->store;
    n->opts = *opts;
    n->identity = opts->identity;
    n->log = opts->log;
    n->net = opts->net;
    n->app.sm = opts->state_machine;
    snprintf(n->zone, sizeof n->zone, "%s", opts->zone);
    snprintf(n->peer_address, sizeof n->peer_address, "%s", opts->peer_address);
    snprintf(n->worker_address, sizeof n->worker_address, "%s", opts->worker_address);
    int rv = po__model_open(&n->model, &n->app);
    if (rv == 0 && n->net)
        rv = n->net->open(n->net->arg, &n->loop, n, error, error_len);
    n->net_open = rv == 0 && n->net;
    if (rv == 0)
        rv = start_replica(n, error, error_len);
    if (rv == 0) {
        uv_prepare_start(&n->prepare, turn);
        uv_timer_start(&n->timer, on_timer, 0,
                       0); /* the first turn comes at once, whatever was signalled before */
        po__status_publish(n);
        rv = uv_thread_create(&n->thread, thread_main, n) ? PO_ENOMEM : 0;
        n->thread_started = rv == 0;
    }
    if (rv && error_len && error[0] == '\0')
        snprintf(error, error_len, "the node cannot start: %s", po_strerror(rv));
    return rv;
}

/* The thread never ran: close what is open on the caller's thread. */
static void stop_unstarted(struct po__node *n)
{
    po__replica_stop(n->replica);
    n->replica = NULL;
    po__store_close(n->store);
    n->store = NULL;
    uv_prepare_stop(&n->prepare);
    if (n->net_open)
        n->net->close(n->net->arg, close_handles, n);
    else
        close_handles(n);
    uv_run(&n->loop, UV_RUN_DEFAULT);
}

/* Those who wait for a leader are told by now; the lock is theirs until they have left. */
static void let_watchers_go(struct po__node *n)
{
    pthread_mutex_lock(&n->status_lock);
    while (n->watchers)
        pthread_cond_wait(&n->status_cond, &n->status_lock);
    pthread_mutex_unlock(&n->status_lock);
}

/* Mail that came after the last turn. */
static void refuse_mail(struct po__node *n)
{
    po__mailbox_close(&n->mailbox);
    take_mail(n);
}

void po__node_destroy(struct po__node *n)
{
    if (!n)
        return;
    if (n->thread_started) {
        atomic_store(&n->stop_asked, true);
        uv_async_send(&n->mail_async);
        uv_thread_join(&n->thread);
    } else {
        stop_unstarted(n);
    }
    n->stopping = true;
    refuse_mail(n);
    let_watchers_go(n);
    PO_INVARIANT(uv_loop_close(&n->loop) == 0);
    po__model_close(n->restoring);
    po__model_close(n->model);
    po__effects_fini(&n->fx);
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
