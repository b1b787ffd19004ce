/* A client's channel over the network: its operations, its thread, opening and closing. How calls
 * travel is in client_engine.c.
 *
 * Other threads only put calls into the inbox and wake the loop; its prepare callback runs the
 * engine's turn after whatever woke it, before it sleeps. The hand-over is under the lock: what
 * uv_async_send orders is not for other threads' memory to rely on.
 *
 * Closing waits for the thread, and the thread for libuv: everything is closed at once, except a
 * name that is being resolved at that moment, which takes as long as the system's resolver may. */
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "../base/alloc.h"
#include "address.h"
#include "client_internal.h"
#include "peer.h"

#define CALLS_MAX 65536 /* a call's id has 16 bits of slot and 15 of generation */

static struct po__net_channel *channel_of(struct po__channel *base)
{
    return po__container_of(base, struct po__net_channel, base);
}

/* ---- operations ---- */

static int hand_in(struct po__net_channel *ch, struct po__net_call *c)
{
    int rv = 0;
    pthread_mutex_lock(&ch->lock);
    if (ch->closing)
        rv = PO_ECLOSED;
    else if (ch->calls_count == ch->calls_max)
        rv = PO_EBUSY;
    if (rv == 0) {
        bool first = po__list_empty(&ch->inbox);
        ch->calls_count++;
        po__list_push(&ch->inbox, &c->link);
        /* A callback's thread looks again before it sleeps. */
        if (first && !po__net_calling_back(ch))
            uv_async_send(&ch->wake);
    }
    pthread_mutex_unlock(&ch->lock);
    return rv;
}

static int channel_call(struct po__channel *base, const void *req, size_t len, uint32_t timeout_ms,
                        po__call_cb cb, void *arg)
{
    if (len > PO__REQUEST_MAX_BYTES)
        return PO_ETOOBIG;
    struct po__net_call *c = po__calloc(1, sizeof *c + len);
    if (!c)
        return PO_ENOMEM;
    memcpy(c->bytes, req, len);
    c->len = len;
    c->cb = cb;
    c->arg = arg;
    c->deadline_ms = po__net_now_ms() + timeout_ms;
    c->state = PO__CALL_NEW;
    po__list_init(&c->link);
    int rv = po__net_call_classify(c);
    if (rv == 0)
        rv = hand_in(channel_of(base), c);
    if (rv)
        po__free(c);
    return rv;
}

static int channel_on_callback_thread(struct po__channel *base)
{
    return po__net_calling_back(channel_of(base));
}

/* ---- the thread ---- */

static void close_handles(struct po__net_channel *ch)
{
    ch->stopped = true;
    for (unsigned i = 0; i < ch->targets_count; i++)
        po__target_close(ch->targets[i], "this client closes");
    uv_close((uv_handle_t *)&ch->wake, NULL);
    uv_close((uv_handle_t *)&ch->prepare, NULL);
    uv_close((uv_handle_t *)&ch->timer, NULL);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct po__net_channel *ch = prepare->data;
    pthread_mutex_lock(&ch->lock);
    bool closing = ch->closing;
    pthread_mutex_unlock(&ch->lock);
    if (closing)
        close_handles(ch);
    else
        po__net_turn(ch);
}

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the turn that follows does the work */
}

/* The host's signals are not this thread's, and a peer that is gone is an error code, not a
 * SIGPIPE: libuv writes without MSG_NOSIGNAL. */
static void *run(void *arg)
{
    struct po__net_channel *ch = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    po__callback_thread_begin();
    uv_run(&ch->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* ---- closing ---- */

static void free_channel(struct po__net_channel *ch)
{
    for (unsigned i = 0; i < ch->targets_count; i++)
        po__free(ch->targets[i]);
    pthread_mutex_destroy(&ch->lock);
    po__free(ch->slots);
    po__free(ch->free_slots);
    po__free(ch);
}

static void close_loop(struct po__net_channel *ch)
{
    uv_run(&ch->loop, UV_RUN_DEFAULT); /* what is closing, if the thread has not seen to it */
    PO_INVARIANT(uv_loop_close(&ch->loop) == 0);
}

static void channel_close(struct po__channel *base)
{
    struct po__net_channel *ch = channel_of(base);
    PO_PRE(!po__net_calling_back(ch));
    pthread_mutex_lock(&ch->lock);
    ch->closing = true;
    uv_async_send(&ch->wake);
    pthread_mutex_unlock(&ch->lock);
    pthread_join(ch->thread, NULL);
    close_loop(ch);
    po__net_abandon(ch);
    free_channel(ch);
}

static const struct po__channel_ops ops = {
    .call = channel_call,
    .on_callback_thread = channel_on_callback_thread,
    .close = channel_close,
};

/* ---- opening ---- */

static int add_addresses(struct po__net_channel *ch, const char *addresses)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[512];
    struct po__slice s;
    while (po__address_next(&addresses, &s)) {
        char text[PO_ADDRESS_MAX_BYTES + 1];
        if (s.len >= sizeof text)
            return PO_EADDR;
        memcpy(text, s.data, s.len);
        text[s.len] = '\0';
        if (po__address_parse(text, host, sizeof host, port, sizeof port, error, sizeof error)) {
            po__error(&ch->log, "client.address", "%s", error);
            return PO_EADDR;
        }
        if (ch->targets_count == PO__TARGETS_MAX)
            return PO_EINVAL;
        if (po__target_index(ch, po__str(text)) < 0)
            return PO_ENOMEM;
    }
    return ch->targets_count ? 0 : PO_EADDR;
}

static struct po__net_channel *channel_new(uint32_t calls_max, const struct po__logger *log)
{
    struct po__net_channel *ch = po__calloc(1, sizeof *ch);
    if (!ch)
        return NULL;
    ch->base.ops = &ops;
    ch->log = *log;
    if (log->name) {
        snprintf(ch->name, sizeof ch->name, "%s", log->name);
        ch->log.name = ch->name;
    }
    po__list_init(&ch->inbox);
    po__list_init(&ch->ready);
    if (getrandom(&ch->random, sizeof ch->random, 0) != sizeof ch->random || !ch->random)
        ch->random = po__net_now_ms() + 1; /* only for jitter */
    pthread_mutex_init(&ch->lock, NULL);
    ch->slots = po__calloc(calls_max, sizeof *ch->slots);
    ch->free_slots = po__calloc(calls_max, sizeof *ch->free_slots);
    if (!ch->slots || !ch->free_slots) {
        free_channel(ch);
        return NULL;
    }
    ch->calls_max = ch->free_count = calls_max;
    for (uint32_t i = 0; i < calls_max; i++)
        ch->free_slots[i] = calls_max - 1 - i;
    return ch;
}

/* 0 or PO_ENOMEM (then there is no loop). */
static int open_loop(struct po__net_channel *ch)
{
    if (uv_loop_init(&ch->loop))
        return PO_ENOMEM;
    if (uv_async_init(&ch->loop, &ch->wake, on_wake)) {
        uv_loop_close(&ch->loop);
        return PO_ENOMEM;
    }
    uv_prepare_init(&ch->loop, &ch->prepare);
    uv_timer_init(&ch->loop, &ch->timer);
    ch->prepare.data = ch;
    uv_prepare_start(&ch->prepare, on_prepare);
    return 0;
}

int po__channel_net(struct po__channel **out, const char *addresses, uint32_t calls_max,
                    const struct po__logger *log)
{
    if (!addresses || calls_max == 0 || calls_max > CALLS_MAX)
        return PO_EINVAL;
    struct po__net_channel *ch = channel_new(calls_max, log);
    if (!ch)
        return PO_ENOMEM;
    int rv = add_addresses(ch, addresses);
    if (rv == 0)
        rv = open_loop(ch);
    if (rv == 0 && pthread_create(&ch->thread, NULL, run, ch)) {
        close_handles(ch);
        close_loop(ch);
        rv = PO_ENOMEM;
    }
    if (rv) {
        free_channel(ch);
        return rv;
    }
    *out = &ch->base;
    return 0;
}
