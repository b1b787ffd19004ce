/* The connection to a target.
 *
 *   waiting ──▶ resolving ──▶ connecting ──▶ hello ──▶ up
 *      ▲            │             │  ▲ next    │        │
 *      └────────────┴─────────────┴──┴─────────┴────────┘  after a doubling, jittered pause
 *
 * Every target is kept connected, so that moving to it costs nothing. The name is resolved for each
 * dial, because its addresses change while a cluster lives; literal addresses do not wait for
 * libuv's resolver threads. All addresses are tried in the resolver's order. An address counts as
 * reached when its hello has come: a listener whose process does not run accepts, too. */
#include <stdio.h>

#include "../base/alloc.h"
#include "address.h"
#include "client_internal.h"
#include "peer.h"

#define MESSAGE_MAX_BYTES (PO__REQUEST_MAX_BYTES + PO__SP_IDS_MAX_BYTES)

static struct po__link *link_of(struct po__sp_conn *sp)
{
    return po__container_of(sp, struct po__link, sp);
}

static uint64_t pause_ms(struct po__net_channel *ch, unsigned failures)
{
    uint64_t ms = PO__RECONNECT_MIN_MS;
    for (unsigned i = 1; i < failures && ms < PO__RECONNECT_MAX_MS; i++)
        ms *= 2;
    if (ms > PO__RECONNECT_MAX_MS)
        ms = PO__RECONNECT_MAX_MS;
    return ms / 2 + po__net_random(ch) % (ms / 2 + 1);
}

static void dial_ended(struct po__target *t)
{
    if (t->addresses)
        uv_freeaddrinfo(t->addresses);
    t->addresses = t->next_address = NULL;
}

static void failed(struct po__target *t, const char *why)
{
    struct po__net_channel *ch = t->channel;
    dial_ended(t);
    t->due_ms = po__net_now_ms() + pause_ms(ch, ++t->failures);
    /* The first failure is news; that it goes on is not. */
    po__log(&ch->log, t->failures == 1 ? PO_LOG_INFO : PO_LOG_DEBUG, "client.unreachable",
            "%s: %s; trying again", t->address, why);
}

static void connect_next(struct po__target *t, const char *why);

/* ---- events of the connection ---- */

static void on_greeted(struct po__sp_conn *sp)
{
    struct po__target *t = link_of(sp)->target;
    dial_ended(t);
    t->up = t->was_up = true;
    t->up_ms = po__net_now_ms();
    po__debug(&t->channel->log, "client.up", "connected with %s (%s)", t->address, sp->remote);
    po__net_on_up(t);
}

static void on_message(struct po__sp_conn *sp, struct po__slice message)
{
    size_t ids_len = po__sp_ids_len(message);
    if (ids_len != PO__SP_ID_BYTES) {
        po__sp_conn_close(sp, "an answer of %zu bytes does not begin with a request's id",
                          message.len);
        return;
    }
    po__net_on_reply(link_of(sp)->target, po__sp_get_id(message.data) & ~PO__SP_REQUEST_ID_BIT,
                     po__slice(message.data + ids_len, message.len - ids_len));
}

static void on_received(struct po__sp_conn *sp)
{
    (void)sp;
}

static void on_written(struct po__sp_conn *sp)
{
    link_of(sp)->channel->changed = true; /* there may be room again */
}

/* A connection that was up is dialled again after the pause of the failures before it, unless it
 * lived: a node that accepts and breaks off at once is not asked in a loop. */
static void lost(struct po__target *t, const struct po__sp_conn *sp, const char *why)
{
    struct po__net_channel *ch = t->channel;
    uint64_t now = po__net_now_ms();
    t->up = false;
    if (now - t->up_ms > PO__DIAL_MS)
        t->failures = 0;
    t->due_ms = now + pause_ms(ch, ++t->failures);
    if (!ch->stopped)
        po__info(&ch->log, "client.down", "connection with %s (%s) ended: %s", t->address,
                 sp->remote, why);
    po__net_on_down(t, po__sp_conn_taken_bytes(sp));
}

static void on_down(struct po__sp_conn *sp, const char *why)
{
    struct po__link *link = link_of(sp);
    struct po__target *t = link->target;
    link->target = NULL;
    t->link = NULL;
    if (t->up)
        lost(t, sp, why);
    else
        connect_next(t, why);
}

static void on_freed(struct po__sp_conn *sp)
{
    po__free(link_of(sp));
}

static const struct po__sp_conn_ops link_ops = {
    .greeted = on_greeted,
    .message = on_message,
    .received = on_received,
    .written = on_written,
    .down = on_down,
    .freed = on_freed,
};

/* ---- dialling ---- */

static struct po__link *link_new(struct po__target *t)
{
    struct po__net_channel *ch = t->channel;
    struct po__link *link = po__calloc(1, sizeof *link);
    if (!link || po__sp_conn_init(&link->sp, &ch->loop, &link_ops, PO__SP_REQ, MESSAGE_MAX_BYTES,
                                  ch->read_memory)) {
        po__free(link);
        return NULL;
    }
    link->channel = ch;
    link->target = t;
    return link;
}

/* The address before, if there was one, failed for the reason `why`. */
static void connect_next(struct po__target *t, const char *why)
{
    struct addrinfo *ai = t->next_address;
    if (t->channel->stopped) {
        dial_ended(t);
        return;
    }
    struct po__link *link = ai ? link_new(t) : NULL;
    if (!link) {
        failed(t, ai ? "out of memory" : why);
        return;
    }
    t->next_address = ai->ai_next;
    t->link = link;
    t->due_ms = po__net_now_ms() + PO__DIAL_MS;
    int rv = po__sp_conn_connect(&link->sp, ai->ai_addr);
    if (rv)
        po__sp_conn_close(&link->sp, "%s", uv_strerror(rv)); /* goes on with the next one */
}

static void resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addresses)
{
    struct po__target *t = req->data;
    t->resolving = false;
    t->addresses = t->next_address = addresses;
    t->channel->changed = true;
    connect_next(t, status ? uv_strerror(status) : "the name has no address");
}

static void dial(struct po__target *t)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[512];
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (po__address_parse(t->address, host, sizeof host, port, sizeof port, error, sizeof error)) {
        failed(t, error);
        return;
    }
    if (getaddrinfo(host, port, &hints, &t->addresses) == 0) {
        t->next_address = t->addresses;
        connect_next(t, "");
        return;
    }
    t->addresses = NULL;
    hints.ai_flags = AI_NUMERICSERV;
    t->resolve.data = t;
    int rv = uv_getaddrinfo(&t->channel->loop, &t->resolve, resolved, host, port, &hints);
    t->resolving = rv == 0;
    if (rv)
        failed(t, uv_strerror(rv));
}

void po__target_tend(struct po__target *t, uint64_t now)
{
    if (t->link && t->up)
        po__sp_conn_flush(&t->link->sp);
    else if (t->resolving || now < t->due_ms)
        return;
    else if (t->link)
        po__sp_conn_close(&t->link->sp, "no answer in %d ms", PO__DIAL_MS);
    else
        dial(t);
}

void po__target_close(struct po__target *t, const char *why)
{
    if (t->resolving)
        uv_cancel((uv_req_t *)&t->resolve); /* if it runs already, the loop waits for its end */
    if (t->link)
        po__sp_conn_close(&t->link->sp, "%s", why);
}
