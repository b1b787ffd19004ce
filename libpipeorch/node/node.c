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

#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include <pipeorch/error.h>

#define ROUNDS_MAX 16 /* of one turn, before the loop looks at the sockets again */

uint64_t po__node_now(struct po__node *n)
{
    return uv_now(&n->loop);
}

/* ---- what the replica tells ---- */

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    (void)term;
    return po__commit_apply(arg, index, data, len, token);
}

static void on_dropped(void *arg, void *token)
{
    po__commit_dropped(arg, token);
}

static int on_snapshot_begin(void *arg)
{
    return po__model_snapshot_begin(((struct po__node *)arg)->model);
}

static int on_snapshot_step(void *arg, struct po__buf *out, size_t budget_bytes)
{
    return po__model_snapshot_step(((struct po__node *)arg)->model, out, budget_bytes);
}

static void on_snapshot_abort(void *arg)
{
    po__model_snapshot_abort(((struct po__node *)arg)->model);
}

static int on_restore_begin(void *arg, uint64_t index)
{
    struct po__node *n = arg;
    po__model_close(n->restoring);
    n->restoring = NULL;
    n->restoring_index = index;
    return po__model_open(&n->restoring, &n->app);
}

static int on_restore_chunk(void *arg, const void *data, size_t len)
{
    return po__model_restore_chunk(((struct po__node *)arg)->restoring, data, len);
}

static int on_restore_end(void *arg)
{
    struct po__node *n = arg;
    int rv = po__model_restore_end(n->restoring);
    if (rv)
        return rv;
    po__model_close(n->model);
    n->model = n->restoring;
    n->restoring = NULL;
    po__model_set_index(n->model, n->restoring_index);
    return 0;
}

/* From the first own entry on, the leader's clock goes on from the highest stamp of its
 * predecessors, at the pace of the monotonic clock: it neither jumps with the wall clock nor goes
 * back. */
static void start_clock(struct po__node *n)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t wall = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
    uint64_t last = po__model_now_ms(n->model);
    n->clock_base_ms = wall > last ? wall : last;
    n->clock_base_mono = po__node_now(n);
    n->last_stamp_ms = n->clock_base_ms;
}

static void lose_leadership(struct po__node *n)
{
    struct po__tree_node *node;
    n->ready = false;
    po__stage_drop(n);
    po__sessions_clear(n);
    while ((node = po__tree_first(&n->waits))) {
        struct po__call *c = po__container_of(node, struct po__call, by_wait);
        po__wait_remove(n, c);
        po__call_retry(n, c);
    }
}

static void on_role(void *arg, int role, uint64_t leader_id, uint64_t term, bool leader_ready)
{
    struct po__node *n = arg;
    bool news =
        role != n->role || leader_id != n->leader_id || term != n->term || leader_ready != n->ready;
    n->role = role;
    n->leader_id = leader_id;
    n->term = term;
    if (n->ready && !leader_ready)
        lose_leadership(n);
    if (!n->ready && leader_ready) {
        n->ready = true;
        start_clock(n);
        if (po__sessions_start(n))
            po__warn(&n->log, "node.memory",
                     "out of memory for worker sessions: silent workers may stay online until they "
                     "poll");
        po__members_sync(n);
        po__info(&n->log, "raft.leader", "leader of term %llu", (unsigned long long)term);
    } else if (news && leader_id && role == PO_ROLE_FOLLOWER) {
        po__info(&n->log, "raft.follower", "follows node %llu in term %llu",
                 (unsigned long long)leader_id, (unsigned long long)term);
    }
    n->redispatch = n->redispatch || news;
}

static void on_fault(void *arg, int code, const char *message)
{
    struct po__node *n = arg;
    if (n->fault)
        return;
    n->fault = code ? code : PO_EFAULT;
    snprintf(n->fault_message, sizeof n->fault_message, "%s",
             message && *message ? message : po_strerror(code));
    n->ready = false;
    n->leader_id = 0;
    po__error(&n->log, "node.fault", "the node stopped: %s", n->fault_message);
}

/* ---- one turn ---- */

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
    lose_leadership(n);
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
    static const struct po__state_ops ops = {.apply = on_apply,
                                             .dropped = on_dropped,
                                             .snapshot_begin = on_snapshot_begin,
                                             .snapshot_step = on_snapshot_step,
                                             .snapshot_abort = on_snapshot_abort,
                                             .restore_begin = on_restore_begin,
                                             .restore_chunk = on_restore_chunk,
                                             .restore_end = on_restore_end,
                                             .role_changed = on_role,
                                             .fault = on_fault};
    struct po__replica_opts ro = {.store = n->store,
                                  .transport = n->net ? n->net->transport : NULL,
                                  .transport_arg = n->net ? n->net->arg : NULL,
                                  .state = &ops,
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

const struct po__identity *po__node_identity(const struct po__node *n)
{
    return &n->identity;
}

bool po__node_on_thread(const struct po__node *n)
{
    return atomic_load(&n->thread_running) && pthread_equal(pthread_self(), n->thread_id);
}

void po__node_status(struct po__node *n, struct po_node_status *st)
{
    size_t size = st->size;
    pthread_mutex_lock(&n->status_lock);
    memcpy(st, &n->status, size < sizeof n->status ? size : sizeof n->status);
    pthread_mutex_unlock(&n->status_lock);
    st->size = size;
}

int po__node_wait_leader(struct po__node *n, uint32_t timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int rv = 0;
    pthread_mutex_lock(&n->status_lock);
    while (!n->closed && n->status.role != PO_ROLE_STOPPED && !n->status.leader_id && rv == 0)
        rv = pthread_cond_timedwait(&n->status_cond, &n->status_lock, &until);
    rv = n->closed                           ? PO_ECLOSED
         : n->status.role == PO_ROLE_STOPPED ? PO_EFAULT
         : n->status.leader_id               ? 0
                                             : PO_ETIMEDOUT;
    pthread_mutex_unlock(&n->status_lock);
    return rv;
}

/* ---- mail ---- */

static void deliver_call(void *node, struct po__mail *mail)
{
    struct po__node *n = node;
    struct po__call *c = po__container_of(mail, struct po__call, mail);
    if (n->stopping) { /* never admitted: answered by hand */
        c->answered = true;
        if (c->origin == PO__FROM_APPLY) {
            struct po_result r = {
                .size = sizeof r, .code = PO_ECLOSED, .message = "the node is stopping"};
            c->apply.cb(c->apply.arg, &r);
        } else {
            c->to.answer(c->to.arg, PO_ECLOSED, NULL, 0);
        }
        po__call_unref(c);
        return;
    }
    po__call_admit(n, c);
}

static int post_call(struct po__node *n, struct po__call *c)
{
    c->mail.deliver = deliver_call;
    int rv = po__mailbox_post(&n->mailbox, &c->mail);
    if (rv)
        po__free(c);
    return rv;
}

int po__node_request(struct po__node *n, const void *data, size_t len, bool local, uint64_t conn,
                     struct po__reply_to to)
{
    if (len > PO__REQUEST_MAX_BYTES)
        return PO_ETOOBIG;
    struct po__call *c = po__call_new(len, local ? PO__FROM_LOCAL : PO__FROM_ENDPOINT);
    if (!c)
        return PO_ENOMEM;
    memcpy(c->data, data, len);
    c->to = to;
    c->conn = conn;
    return post_call(n, c);
}

int po__node_apply(struct po__node *n, const void *cmd, size_t len, struct po__slice key,
                   uint32_t timeout_ms, po_result_cb cb, void *arg)
{
    /* [type, key, data]: a few bytes of headers around the data */
    struct po__cmd app = {.type = PO__CMD_APP};
    app.app.key = key;
    app.app.data = po__slice(cmd, len);
    struct po__call *c = po__call_new(len + key.len + 32, PO__FROM_APPLY);
    if (!c)
        return PO_ENOMEM;
    struct po__buf b = {.data = c->data, .cap = c->len, .max_bytes = c->len};
    po__cmd_encode(&b, &app);
    PO_INVARIANT(b.err == 0 && b.data == c->data);
    c->len = b.len;
    c->type = PO__REQ_COMMAND;
    c->mutating = true;
    c->repeatable = key.len > 0;
    c->deadline_ms = timeout_ms;
    c->apply.cb = cb;
    c->apply.arg = arg;
    return post_call(n, c);
}

int po__node_read_barrier(struct po__node *n, uint32_t timeout_ms, po_result_cb cb, void *arg)
{
    struct po__buf b;
    po__buf_init(&b, 64);
    po__request_barrier(&b, timeout_ms);
    struct po__call *c = b.err ? NULL : po__call_new(b.len, PO__FROM_APPLY);
    if (c)
        memcpy(c->data, b.data, b.len);
    po__buf_fini(&b);
    if (!c)
        return PO_ENOMEM;
    c->type = PO__REQ_BARRIER;
    c->repeatable = true;
    c->deadline_ms = timeout_ms;
    c->apply.cb = cb;
    c->apply.arg = arg;
    return post_call(n, c);
}

struct conn_closed {
    struct po__mail mail;
    uint64_t conn;
};

static void deliver_conn_closed(void *node, struct po__mail *mail)
{
    struct po__node *n = node;
    struct conn_closed *cc = po__container_of(mail, struct conn_closed, mail);
    if (!n->stopping)
        po__sessions_conn_closed(n, cc->conn);
    po__free(cc);
}

int po__node_conn_closed(struct po__node *n, uint64_t conn)
{
    struct conn_closed *cc = po__calloc(1, sizeof *cc);
    if (!cc)
        return PO_ENOMEM; /* the worker is missed by its heartbeats instead */
    cc->mail.deliver = deliver_conn_closed;
    cc->conn = conn;
    int rv = po__mailbox_post_always(&n->mailbox, &cc->mail);
    if (rv)
        po__free(cc);
    return rv;
}

int po__node_peer_frame(struct po__node *n, uint64_t peer_id, const void *data, size_t len)
{
    if (n->stopping || n->fault)
        return PO_ECLOSED;
    return po__replica_receive(n->replica, peer_id, data, len, po__node_now(n));
}
