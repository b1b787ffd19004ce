/* The node's thread: a libuv loop that owns a core (core.h) and takes its turns.
 *
 * The turn runs as a libuv prepare callback: after whatever the last poll brought (wakeups, peers'
 * frames, timers) and before the loop sleeps.
 *
 * Ending: po__node_destroy wakes the thread; the next turn answers every call, stops the replica,
 * closes the network and then the loop's own handles; uv_run returns when the last of them is
 * closed. */
#include "core.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include <pipeorch/error.h>
#include "channel.h"
#include "internal.h"
#include "still.h"

struct thread {
    struct po__node *core;
    struct po__node_net *net; /* while it is open */
    uv_loop_t loop;
    uv_async_t mail_async, disk_async;
    uv_prepare_t prepare;
    uv_timer_t timer;
    struct po__still still;
    uv_thread_t thread;
    bool started, ended;
    pthread_t id; /* written by the thread before `running` */
    _Atomic(bool) running;
    _Atomic(bool) stop_asked;
    _Atomic(bool) crashed; /* before stop_asked */
};

static struct thread *thread_of(const struct po__node *n)
{
    return n->env.arg;
}

/* ---- what the core needs ---- */

static uint64_t env_now(void *arg)
{
    return uv_now(&((struct thread *)arg)->loop);
}

static uint64_t env_exact(void *arg)
{
    uv_loop_t *loop = &((struct thread *)arg)->loop;
    uv_update_time(loop);
    return uv_now(loop);
}

static uint64_t env_wall(void *arg)
{
    struct timespec ts;
    (void)arg;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int env_random(void *arg, void *bytes, size_t len)
{
    (void)arg;
    return getrandom(bytes, len, 0) == (ssize_t)len ? 0 : PO_EIO;
}

static bool env_on_thread(void *arg)
{
    struct thread *t = arg;
    return atomic_load(&t->running) && pthread_equal(pthread_self(), t->id);
}

static void env_wake(void *arg)
{
    struct thread *t = arg;
    if (!env_on_thread(t)) /* the thread itself looks again before it sleeps */
        uv_async_send(&t->mail_async);
}

/* ---- the loop ---- */

static void on_async(uv_async_t *a)
{
    (void)a; /* the turn that follows does the work */
}

static void on_timer(uv_timer_t *t)
{
    (void)t; /* likewise */
}

static void on_handle_closed(uv_handle_t *h)
{
    (void)h;
}

static void close_handles(void *arg)
{
    struct thread *t = arg;
    uv_handle_t *handles[] = {(uv_handle_t *)&t->mail_async, (uv_handle_t *)&t->disk_async,
                              (uv_handle_t *)&t->prepare, (uv_handle_t *)&t->timer,
                              (uv_handle_t *)&t->still.ask};
    for (unsigned i = 0; i < sizeof handles / sizeof *handles; i++)
        if (!uv_is_closing(handles[i]))
            uv_close(handles[i], on_handle_closed);
}

static void stop(struct thread *t)
{
    bool has_net = po__node_core_has_net(t->core);
    if (has_net && atomic_load(&t->crashed) && t->net->sever)
        t->net->sever(t->net->arg);
    po__node_core_stop(t->core);
    uv_prepare_stop(&t->prepare);
    if (has_net)
        t->net->close(t->net->arg, close_handles, t);
    else
        close_handles(t);
}

static void on_prepare(uv_prepare_t *handle)
{
    struct thread *t = handle->data;
    if (atomic_load(&t->stop_asked)) {
        stop(t);
        return;
    }
    uint64_t at = po__node_turn(t->core), now = uv_now(&t->loop);
    if (at == UINT64_MAX)
        uv_timer_stop(&t->timer);
    else
        uv_timer_start(&t->timer, on_timer, at > now ? at - now : 0, 0);
}

void po__node_disk_wakeup(void *node)
{
    uv_async_send(&thread_of(node)->disk_async);
}

/* The host's signals are not this thread's, and a peer that is gone is an error code, not a
 * SIGPIPE: libuv writes without MSG_NOSIGNAL. */
static void thread_main(void *arg)
{
    struct thread *t = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    po__callback_thread_begin();
    t->id = pthread_self();
    atomic_store(&t->running, true);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    atomic_store(&t->running, false);
}

/* ---- beginning and end ---- */

int po__node_create(struct po__node **out)
{
    int rv = PO_ENOMEM;
    struct thread *t = po__calloc(1, sizeof *t);
    if (!t)
        return PO_ENOMEM;
    struct po__node_env env = {.now_ms = env_now,
                               .wall_ms = env_wall,
                               .random = env_random,
                               .wake = env_wake,
                               .on_thread = env_on_thread,
                               .arg = t,
                               .exact_ms = env_exact};
    rv = po__node_core_create(&t->core, &env);
    if (rv)
        goto err_after_thread;
    if (uv_loop_init(&t->loop)) {
        rv = PO_ENOMEM;
        goto err_after_core;
    }
    if (uv_async_init(&t->loop, &t->mail_async, on_async) ||
        uv_async_init(&t->loop, &t->disk_async, on_async) || po__still_init(&t->still, &t->loop)) {
        rv = PO_ENOMEM;
        goto err_after_loop;
    }
    uv_prepare_init(&t->loop, &t->prepare);
    uv_timer_init(&t->loop, &t->timer);
    t->prepare.data = t;
    *out = t->core;
    return 0;

err_after_loop:
    uv_run(&t->loop, UV_RUN_NOWAIT);
    uv_loop_close(&t->loop);
err_after_core:
    po__node_core_stop(t->core);
    po__node_core_free(t->core);
err_after_thread:
    po__free(t);
    return rv;
}

int po__node_start(struct po__node *n, const struct po__node_opts *opts, char *error,
                   size_t error_len)
{
    struct thread *t = thread_of(n);
    t->net = opts->net;
    uv_update_time(&t->loop);
    int rv = po__node_core_open(n, opts, &t->loop, error, error_len);
    if (rv == 0) {
        uv_prepare_start(&t->prepare, on_prepare);
        /* The first turn comes at once, whatever was signalled before. */
        uv_timer_start(&t->timer, on_timer, 0, 0);
        rv = uv_thread_create(&t->thread, thread_main, t) ? PO_ENOMEM : 0;
        t->started = rv == 0;
    }
    if (rv && error_len && error[0] == '\0')
        snprintf(error, error_len, "the node cannot start: %s", po_strerror(rv));
    return rv;
}

void po__node_end(struct po__node *n)
{
    struct thread *t = thread_of(n);
    if (!t->started || t->ended)
        return;
    atomic_store(&t->stop_asked, true);
    po__still_end(&t->still); /* a paused one stops, too */
    uv_async_send(&t->mail_async);
    uv_thread_join(&t->thread);
    t->ended = true;
}

void po__node_crash(struct po__node *n)
{
    atomic_store(&thread_of(n)->crashed, true);
    po__node_end(n);
}

int po__node_pause(struct po__node *n, bool paused)
{
    return po__still_pause(&thread_of(n)->still, paused);
}

int po__node_visit(struct po__node *n)
{
    return po__still_enter(&thread_of(n)->still);
}

void po__node_leave(struct po__node *n)
{
    po__still_leave(&thread_of(n)->still);
}

void po__node_destroy(struct po__node *n)
{
    if (!n)
        return;
    struct thread *t = thread_of(n);
    po__node_end(n);
    if (!t->started) { /* it never ran: close what is open on the caller's thread */
        stop(t);
        uv_run(&t->loop, UV_RUN_DEFAULT);
    }
    PO_INVARIANT(uv_loop_close(&t->loop) == 0);
    po__still_fini(&t->still);
    po__node_core_free(n);
    po__free(t);
}
