/* The thread of po_worker_run: it keeps time and changes the phase.
 *
 *   IDLE ──▶ RUN ──▶ DRAIN ──▶ STOPPED
 *                      ▲
 *                      └── po_worker_stop
 *
 * Draining tells the control planes so, lets handlers that run finish, delivers their answers, and
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
    [PO__WORKER_IDLE] = PO__TO(PO__WORKER_RUN) | PO__TO(PO__WORKER_STOPPED),
    [PO__WORKER_RUN] = PO__TO(PO__WORKER_DRAIN) | PO__TO(PO__WORKER_STOPPED),
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

void po__worker_sleep_until(struct po_worker *w, uint64_t at_ms)
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

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Both planes: what is due, and when to look again. */
static uint64_t step(struct po_worker *w)
{
    uint64_t at_ms = po__worker_keep_leases(w);
    po__plane_step(&w->cluster);
    po__plane_step(&w->local);
    at_ms = earlier(at_ms, po__plane_due_ms(&w->cluster));
    return earlier(at_ms, po__plane_due_ms(&w->local));
}

/* ---- serving ---- */

/* What makes it useless to go on: the cluster refuses this worker, or the node inside of it, on
 * which it depends, stopped. */
static int fatal(struct po_worker *w)
{
    if (w->cluster.fatal)
        return po__client_fail(w->cluster.fatal, "%s", w->cluster.fatal_message);
    if (w->local.fatal && !w->addresses)
        return po__client_fail(w->local.fatal, "%s", w->local.fatal_message);
    return 0;
}

static int serve(struct po_worker *w)
{
    int rv = 0;
    while (!rv && !atomic_load(&w->stop)) {
        if (po__standalone_wanted(w)) {
            rv = po__standalone_start(w);
            if (rv && w->addresses) {
                po__error(&w->log, "worker.standalone", "%s; only the cluster is served",
                          po_client_error());
                rv = 0;
            }
            continue;
        }
        po__standalone_step(w);
        uint64_t at_ms = earlier(step(w), po__standalone_due_ms(w));
        rv = fatal(w);
        if (!rv && !atomic_load(&w->stop))
            po__worker_sleep_until(w, at_ms);
    }
    return rv;
}

/* ---- draining ---- */

static void drain(struct po_worker *w)
{
    struct po__plane *planes[] = {&w->cluster, &w->local};
    uint64_t until_ms = po__worker_now_ms() + w->drain_ms;
    po__fsm_move(&w->phase, PO__WORKER_DRAIN, allowed);
    for (int i = 0; i < 2; i++)
        if (planes[i]->phase == PO__PLANE_SERVE)
            po__plane_drain(planes[i]);
    for (;;) {
        uint64_t at_ms = step(w);
        if ((po__plane_drained(&w->cluster) && po__plane_drained(&w->local)) ||
            po__worker_now_ms() >= until_ms)
            break;
        po__worker_sleep_until(w, earlier(at_ms, until_ms));
    }
    if (w->in_handler_count)
        po__warn(&w->log, "worker.drain",
                 "%u tasks did not finish within %u ms; the cluster gives "
                 "them to others",
                 w->in_handler_count, w->drain_ms);
}

static void say_goodbye(struct po_worker *w)
{
    uint64_t until_ms = po__worker_now_ms() + PO__WORKER_GOODBYE_MS;
    po__plane_leave(&w->cluster);
    po__plane_leave(&w->local);
    for (;;) {
        uint64_t at_ms = step(w);
        if (w->cluster.phase == PO__PLANE_LEFT && w->local.phase == PO__PLANE_LEFT)
            return;
        if (po__worker_now_ms() >= until_ms)
            break;
        po__worker_sleep_until(w, earlier(at_ms, until_ms));
    }
    if (w->cluster.phase == PO__PLANE_LEAVE && w->cluster.registered)
        po__warn(&w->log, "worker.deregister",
                 "worker %s got no answer to its deregistration; it is found out offline by its "
                 "silence",
                 w->id);
    po__plane_left(&w->cluster);
    po__plane_left(&w->local);
}

/* Tasks whose handlers still run learn that nobody waits for them. */
static void give_up_tasks(struct po__plane *p)
{
    for (struct po__tree_node *n = po__tree_first(&p->tasks); n; n = po__tree_next(n))
        atomic_store(&po__container_of(n, struct po_task, by_token)->cancelled, 1);
}

static int open_channel(struct po_worker *w, struct po__channel **channel)
{
    *channel = NULL;
    if (!w->addresses)
        return 0;
    int rv = po__channel_net(channel, w->addresses, PO__WORKER_CALLS_MAX, &w->log);
    return rv ? po__client_fail(rv, "worker %s cannot set up connections to %s: %s", w->id,
                                w->addresses, po_strerror(rv))
              : 0;
}

/* Nothing is said any more; what the planes still answer is only put away. */
static void close_planes(struct po_worker *w, struct po__channel *channel)
{
    po__standalone_end(w);
    po__fsm_move(&w->phase, PO__WORKER_STOPPED, allowed);
    give_up_tasks(&w->cluster);
    give_up_tasks(&w->local);
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->changed);
    po__worker_raise(w);
    pthread_mutex_unlock(&w->lock);
    if (channel)
        channel->ops->close(channel); /* its callbacks take the lock */
    pthread_mutex_lock(&w->lock);
}

int po_worker_run(po_worker *w)
{
    struct po__channel *channel;
    if (!w || w->offered_count == 0 || w->phase != PO__WORKER_IDLE)
        return po__client_fail(PO_EINVAL,
                               "the worker is NULL, has no capability, or was run before");
    int rv = open_channel(w, &channel);
    if (rv) {
        pthread_mutex_lock(&w->lock); /* those who wait for it to be ready are told */
        po__fsm_move(&w->phase, PO__WORKER_STOPPED, allowed);
        pthread_cond_broadcast(&w->changed);
        po__worker_raise(w);
        pthread_mutex_unlock(&w->lock);
        return rv;
    }
    rv = po__worker_start_threads(w);
    if (rv)
        po__client_fail(rv, "worker %s cannot start its threads", w->id);
    pthread_mutex_lock(&w->lock);
    w->incarnation = new_incarnation();
    po__fsm_move(&w->phase, PO__WORKER_RUN, allowed);
    if (channel)
        po__plane_open(&w->cluster, channel);
    if (!rv)
        rv = serve(w);
    if (!rv || w->local.phase != PO__PLANE_CLOSED)
        drain(w);
    say_goodbye(w);
    close_planes(w, channel);
    pthread_mutex_unlock(&w->lock);
    return rv;
}
