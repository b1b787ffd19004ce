/* The thread of po_worker_run: it keeps time and changes the phase.
 *
 *   IDLE ──▶ REGISTER ──▶ SERVE ──▶ DRAIN ──▶ STOPPED
 *               ▲           │         ▲
 *               └───────────┘         └── po_worker_stop
 *          the cluster does not
 *          know us any more
 *
 * Draining tells the cluster so, lets handlers that run finish, delivers their answers, and
 * deregisters: what was not started or not finished is requeued in that commit. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "call.h"
#include "worker_internal.h"

static const uint32_t allowed[] = {
    [PO__WORKER_IDLE] = PO__TO(PO__WORKER_REGISTER) | PO__TO(PO__WORKER_STOPPED),
    [PO__WORKER_REGISTER] =
        PO__TO(PO__WORKER_SERVE) | PO__TO(PO__WORKER_DRAIN) | PO__TO(PO__WORKER_STOPPED),
    [PO__WORKER_SERVE] =
        PO__TO(PO__WORKER_REGISTER) | PO__TO(PO__WORKER_DRAIN) | PO__TO(PO__WORKER_STOPPED),
    [PO__WORKER_DRAIN] = PO__TO(PO__WORKER_STOPPED),
    [PO__WORKER_STOPPED] = 0,
};

/* Larger for every start of a worker anywhere in time, as long as the clock does not go back by
 * more than it ran, and strictly larger than the previous one of this process even then. */
static uint64_t new_incarnation(void)
{
    static _Atomic uint64_t last;
    struct timespec ts;
    uint32_t low = 0;
    clock_gettime(CLOCK_REALTIME, &ts);
    uint64_t ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
    if (getrandom(&low, sizeof low, 0) != sizeof low)
        low = (uint32_t)ts.tv_nsec;
    uint64_t next = ms << 20 | (low & 0xfffff), previous = atomic_load(&last);
    do {
        if (next <= previous)
            next = previous + 1;
    } while (!atomic_compare_exchange_weak(&last, &previous, next));
    return next;
}

/* Sleeps until at_ms or until something wakes the thread. Called with the lock, which it gives up
 * meanwhile. */
static void sleep_until(struct po_worker *w, uint64_t at_ms)
{
    struct pollfd pfd = {.fd = w->event_fd, .events = POLLIN};
    uint64_t count, now = po__worker_now_ms();
    int timeout_ms = -1;
    if (at_ms != UINT64_MAX)
        timeout_ms = at_ms <= now ? 0 : at_ms - now > 60000 ? 60000 : (int)(at_ms - now);
    w->sleeping_until_ms = at_ms;
    pthread_mutex_unlock(&w->lock);
    if (poll(&pfd, 1, timeout_ms) > 0 && read(w->event_fd, &count, sizeof count) < 0 &&
        errno != EAGAIN)
        po__warn(&w->log, "worker.wake", "reading the wake-up counter failed");
    pthread_mutex_lock(&w->lock);
    w->sleeping_until_ms = 0;
}

/* ---- commands of the worker itself: one at a time ---- */

static void on_command(void *arg, int code, const void *data, size_t len)
{
    struct po_worker *w = arg;
    struct po__response resp = {0};
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    pthread_mutex_lock(&w->lock);
    w->call_under_way = false;
    w->call_code = code;
    snprintf(w->call_message, sizeof w->call_message, "%.*s", (int)resp.message.len,
             resp.message.len ? resp.message.data : "");
    if (code && !w->call_message[0])
        snprintf(w->call_message, sizeof w->call_message, "%s", po_strerror(code));
    po__worker_wake(w);
    pthread_mutex_unlock(&w->lock);
}

static int send_command(struct po_worker *w, const struct po__cmd *cmd, uint32_t timeout_ms,
                        po__call_cb cb)
{
    struct po__buf request;
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_command(&request, timeout_ms, cmd);
    int rv = request.err;
    if (!rv)
        rv = w->channel->ops->call(w->channel, request.data, request.len, timeout_ms, cb, w);
    po__buf_fini(&request);
    return rv;
}

static void start_command(struct po_worker *w, const struct po__cmd *cmd, uint32_t timeout_ms)
{
    w->call_under_way = true;
    int rv = send_command(w, cmd, timeout_ms, on_command);
    if (rv) {
        w->call_under_way = false;
        w->call_code = rv;
        snprintf(w->call_message, sizeof w->call_message, "%s", po_strerror(rv));
    }
}

static int start_registration(struct po_worker *w)
{
    struct po_capability caps[PO_CAPABILITIES_MAX];
    for (size_t i = 0; i < w->offered_count; i++)
        caps[i] = w->offered[i].capability;
    struct po_worker_info info = {.size = sizeof info,
                                  .id = w->id,
                                  .address = w->address,
                                  .zone = w->zone,
                                  .incarnation = w->incarnation,
                                  .heartbeat_ms = w->heartbeat_ms,
                                  .labels = w->labels,
                                  .labels_count = w->labels_count,
                                  .capabilities = caps,
                                  .capabilities_count = w->offered_count,
                                  .resources = w->resources,
                                  .resources_count = w->resources_count,
                                  .slots = w->slots_limit};
    struct po__cmd cmd;
    char message[512];
    int rv = po__register_command(&cmd, &info);
    if (rv)
        return rv;
    rv = po__cmd_check(&cmd, message, sizeof message);
    if (rv)
        return po__client_fail(rv, "%s", message);
    start_command(w, &cmd, PO__WORKER_CALL_MS);
    return 0;
}

/* Registers, however long that takes. 0, or what makes trying again useless; stops trying when the
 * worker is to stop. */
static int do_register(struct po_worker *w)
{
    while (!atomic_load(&w->stop)) {
        int rv = start_registration(w);
        if (rv)
            return rv;
        while (w->call_under_way && !atomic_load(&w->stop))
            sleep_until(w, UINT64_MAX);
        if (w->call_under_way)
            return 0;
        rv = w->call_code;
        if (rv == 0) {
            po__info(&w->log, "worker.registered", "worker %s (zone %s) is registered", w->id,
                     w->zone);
            return 0;
        }
        if (rv == PO_ESTALE || rv == PO_EINVAL || rv == PO_ETOOBIG || rv == PO_EVERSION ||
            rv == PO_EPROTO)
            return po__client_fail(rv, "worker %s cannot be registered: %s", w->id,
                                   w->call_message);
        po__warn(&w->log, "worker.register", "worker %s is not registered yet: %s", w->id,
                 w->call_message);
        uint64_t again_ms = po__worker_now_ms() + PO__WORKER_REGISTER_RETRY_MS;
        while (!atomic_load(&w->stop) && po__worker_now_ms() < again_ms)
            sleep_until(w, again_ms);
    }
    return 0;
}

/* ---- phases ---- */

void po__worker_unknown(struct po_worker *w)
{
    po__info(&w->log, "worker.unknown", "the cluster does not know worker %s", w->id);
    if (w->phase == PO__WORKER_SERVE)
        po__fsm_move(&w->phase, PO__WORKER_REGISTER, allowed);
    else if (w->phase == PO__WORKER_DRAIN)
        w->fatal = PO_ENOTREGISTERED; /* nobody waits for the answers, and there is nothing to
                                         deregister */
    po__worker_wake(w);
}

static int serve(struct po_worker *w)
{
    while (!atomic_load(&w->stop) && !w->fatal) {
        if (w->phase == PO__WORKER_REGISTER) {
            int rv = do_register(w);
            if (rv)
                return rv;
            if (atomic_load(&w->stop))
                break;
            w->resync = true;
            w->poll_at_ms = 0;
            po__fsm_move(&w->phase, PO__WORKER_SERVE, allowed);
        }
        po__worker_poll(w);
        sleep_until(w, po__worker_poll_due_ms(w));
    }
    if (w->fatal)
        return po__client_fail(w->fatal,
                               "worker %s was taken over: another process registered this "
                               "id with a newer incarnation; ids must be unique",
                               w->id);
    return 0;
}

static bool drained(const struct po_worker *w)
{
    return w->in_handler_count == 0 && po__list_empty(&w->done) &&
           po__list_empty(&w->carrying.sent);
}

/* Waits until the one command under way is answered or the time is over. */
static void await_command(struct po_worker *w, uint64_t until_ms)
{
    while (w->call_under_way && po__worker_now_ms() < until_ms)
        sleep_until(w, until_ms);
}

/* That the cluster knows of the drain is a courtesy: it hands out nothing more. Nobody waits for
 * it. */
static void on_draining(void *arg, int code, const void *data, size_t len)
{
    (void)arg, (void)code, (void)data, (void)len;
}

static void drain(struct po_worker *w, bool was_registered)
{
    uint64_t until_ms = po__worker_now_ms() + w->drain_ms;
    struct po__cmd cmd = {.type = PO__CMD_WORKER_STATUS};
    po__fsm_move(&w->phase, PO__WORKER_DRAIN, allowed);
    if (!was_registered)
        return;
    cmd.worker_status.id = po__str(w->id);
    cmd.worker_status.incarnation = w->incarnation;
    cmd.worker_status.status = PO_WORKER_DRAINING;
    if (w->in_handler_count)
        send_command(w, &cmd, w->drain_ms, on_draining);
    while (!drained(w) && !w->fatal && po__worker_now_ms() < until_ms) {
        po__worker_poll(w);
        uint64_t at_ms = po__worker_poll_due_ms(w);
        sleep_until(w, at_ms < until_ms ? at_ms : until_ms);
    }
    if (w->in_handler_count)
        po__warn(&w->log, "worker.drain",
                 "%u tasks did not finish within %u ms; the cluster gives "
                 "them to others",
                 w->in_handler_count, w->drain_ms);
    until_ms = po__worker_now_ms() + PO__WORKER_GOODBYE_MS;
    await_command(w, until_ms);
    if (w->fatal || w->call_under_way)
        return;
    cmd = (struct po__cmd){.type = PO__CMD_WORKER_DEREGISTER};
    cmd.worker_deregister.id = po__str(w->id);
    cmd.worker_deregister.incarnation = w->incarnation;
    start_command(w, &cmd, PO__WORKER_GOODBYE_MS);
    await_command(w, until_ms);
    if (w->call_under_way || w->call_code)
        po__warn(&w->log, "worker.deregister",
                 "worker %s could not deregister; it is found out "
                 "offline by its silence",
                 w->id);
    else
        po__info(&w->log, "worker.deregistered", "worker %s is deregistered", w->id);
}

/* Tasks whose handlers still run learn that nobody waits for them. */
static void give_up_tasks(struct po_worker *w)
{
    for (struct po__tree_node *n = po__tree_first(&w->tasks); n; n = po__tree_next(n))
        atomic_store(&po__container_of(n, struct po_task, by_token)->cancelled, 1);
}

int po_worker_run(po_worker *w)
{
    if (!w || w->offered_count == 0 || w->phase != PO__WORKER_IDLE)
        return po__client_fail(PO_EINVAL,
                               "the worker is NULL, has no capability, or was run before");
    if (atomic_load(&w->stop)) {
        w->phase = PO__WORKER_STOPPED;
        return 0;
    }
    struct po__channel *channel;
    int rv = po__channel_net(&channel, w->addresses, PO__WORKER_CALLS_MAX, &w->log);
    if (rv)
        return po__client_fail(rv, "worker %s cannot set up connections to %s: %s", w->id,
                               w->addresses, po_strerror(rv));
    rv = po__worker_start_threads(w);
    if (rv)
        po__client_fail(rv, "worker %s cannot start its threads", w->id);
    pthread_mutex_lock(&w->lock);
    w->channel = channel;
    w->incarnation = new_incarnation();
    po__fsm_move(&w->phase, PO__WORKER_REGISTER, allowed);
    if (!rv) {
        rv = serve(w);
        if (!rv)
            drain(w, w->phase == PO__WORKER_SERVE || w->session > 0);
    }
    po__fsm_move(&w->phase, PO__WORKER_STOPPED, allowed);
    give_up_tasks(w);
    w->channel = NULL;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    channel->ops->close(channel); /* its callbacks take the lock */
    return rv;
}
