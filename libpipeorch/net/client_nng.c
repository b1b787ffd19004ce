/* A client's channel over the network: its operations, opening and closing. How calls travel is in
 * client_engine.c. */
#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "../base/alloc.h"
#include "address.h"
#include "client_internal.h"
#include "nng_close.h"
#include "peer.h"

#define QUIET_MAX_MS  100
#define QUIET_STEP_MS 1
#define CALLS_MAX     65536 /* a call's id has 16 bits of slot and 15 of generation */

static int channel_call(struct po__channel *base, const void *req, size_t len, uint32_t timeout_ms,
                        po__call_cb cb, void *arg)
{
    struct po__nng_channel *ch = po__container_of(base, struct po__nng_channel, base);
    uint64_t now = po__net_now_ms();
    if (len > PO__REQUEST_MAX_BYTES)
        return PO_ETOOBIG;
    struct po__net_call *c = po__calloc(1, sizeof *c + len);
    if (!c)
        return PO_ENOMEM;
    memcpy(c->bytes, req, len);
    c->len = len;
    c->cb = cb;
    c->arg = arg;
    c->deadline_ms = now + timeout_ms;
    int rv = po__net_call_classify(c);
    pthread_mutex_lock(&ch->lock);
    if (!rv && ch->closing)
        rv = PO_ECLOSED;
    if (!rv && ch->free_count == 0)
        rv = PO_EBUSY;
    if (rv) {
        pthread_mutex_unlock(&ch->lock);
        po__free(c);
        return rv;
    }
    uint32_t index = ch->free_slots[--ch->free_count];
    struct po__call_slot *slot = &ch->slots[index];
    slot->generation = (slot->generation + 1) & 0x7fff;
    slot->call = c;
    c->id = (uint32_t)slot->generation << 16 | index;
    po__net_call_begin(ch, c, now);
    pthread_mutex_unlock(&ch->lock);
    return 0;
}

static int channel_on_callback_thread(struct po__channel *base)
{
    return po__net_calling_back(po__container_of(base, struct po__nng_channel, base));
}

/* Waits a moment for the answers that are still to come: a socket should be quiet when it is closed
 * (nng_close.h). */
static void fall_quiet(struct po__nng_channel *ch)
{
    uint64_t until_ms = po__net_now_ms() + QUIET_MAX_MS;
    bool quiet = false;
    while (!quiet && po__net_now_ms() < until_ms) {
        quiet = true;
        pthread_mutex_lock(&ch->lock);
        for (unsigned i = 0; i < ch->targets_count; i++)
            for (unsigned j = 0; j < ch->targets[i]->lanes_count; j++)
                quiet &= ch->targets[i]->lanes[j]->unanswered == 0;
        pthread_mutex_unlock(&ch->lock);
        if (!quiet)
            nng_msleep(QUIET_STEP_MS);
    }
}

static void free_channel(struct po__nng_channel *ch)
{
    int rv = 0;
    pthread_mutex_lock(&ch->lock);
    ch->closing = true; /* nothing is sent on sockets that are being closed */
    pthread_mutex_unlock(&ch->lock);
    fall_quiet(ch);
    for (unsigned i = 0; i < ch->targets_count; i++)
        for (unsigned j = 0; j < ch->targets[i]->lanes_count; j++)
            rv |= po__lane_stop(ch->targets[i]->lanes[j]);
    if (rv) {
        po__error(&ch->log, "client.close",
                  "a connection did not close within %d ms; its memory is "
                  "left to the process",
                  PO__NNG_CLOSE_MS);
        return;
    }
    for (unsigned i = 0; i < ch->targets_count; i++) {
        for (unsigned j = 0; j < ch->targets[i]->lanes_count; j++)
            po__lane_free(ch->targets[i]->lanes[j]);
        po__free(ch->targets[i]);
    }
    pthread_cond_destroy(&ch->wake);
    pthread_mutex_destroy(&ch->callbacks);
    pthread_mutex_destroy(&ch->lock);
    po__free(ch->slots);
    po__free(ch->free_slots);
    po__free(ch);
}

static void channel_close(struct po__channel *base)
{
    struct po__nng_channel *ch = po__container_of(base, struct po__nng_channel, base);
    PO_PRE(!po__net_calling_back(ch));
    pthread_mutex_lock(&ch->lock);
    ch->closing = true;
    pthread_cond_signal(&ch->wake);
    pthread_mutex_unlock(&ch->lock);
    pthread_join(ch->thread, NULL);
    po__net_abandon(ch);
    free_channel(ch);
}

static const struct po__channel_ops ops = {
    .call = channel_call,
    .on_callback_thread = channel_on_callback_thread,
    .close = channel_close,
};

/* ---- opening ---- */

static int add_addresses(struct po__nng_channel *ch, const char *addresses)
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

static void init_sync(struct po__nng_channel *ch)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ch->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&ch->lock, NULL);
    pthread_mutex_init(&ch->callbacks, NULL);
}

int po__channel_nng(struct po__channel **out, const char *addresses, uint32_t calls_max,
                    const struct po__logger *log)
{
    if (!addresses || calls_max == 0 || calls_max > CALLS_MAX)
        return PO_EINVAL;
    struct po__nng_channel *ch = po__calloc(1, sizeof *ch);
    if (!ch)
        return PO_ENOMEM;
    int rv = PO_ENOMEM;
    ch->base.ops = &ops;
    ch->log = *log;
    if (log->name) {
        snprintf(ch->name, sizeof ch->name, "%s", log->name);
        ch->log.name = ch->name;
    }
    init_sync(ch);
    po__list_init(&ch->ready);
    if (getrandom(&ch->random, sizeof ch->random, 0) != sizeof ch->random || !ch->random)
        ch->random = po__net_now_ms() + 1; /* only for jitter */
    ch->lanes_max = (calls_max + PO__LANE_CALLS_MAX - 1) / PO__LANE_CALLS_MAX;
    if (ch->lanes_max > PO__LANES_MAX)
        ch->lanes_max = PO__LANES_MAX;
    ch->slots = po__calloc(calls_max, sizeof *ch->slots);
    ch->free_slots = po__calloc(calls_max, sizeof *ch->free_slots);
    if (!ch->slots || !ch->free_slots)
        goto err_after_init;
    ch->slots_count = ch->free_count = calls_max;
    for (uint32_t i = 0; i < calls_max; i++)
        ch->free_slots[i] = calls_max - 1 - i;
    pthread_mutex_lock(&ch->lock); /* connections may come up while the rest is added */
    rv = add_addresses(ch, addresses);
    pthread_mutex_unlock(&ch->lock);
    if (rv)
        goto err_after_init;
    if (pthread_create(&ch->thread, NULL, po__net_run, ch)) {
        rv = PO_ENOMEM;
        goto err_after_init;
    }
    *out = &ch->base;
    return 0;

err_after_init:
    free_channel(ch);
    return rv;
}
