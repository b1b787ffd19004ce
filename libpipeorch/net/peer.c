/* The transport as a whole. See peer.h for what it promises and peer_internal.h for its parts.
 *
 * One timer serves all deadlines: there are at most PO__PEERS_MAX dials and
 * PO__PENDING_CONNECTIONS_MAX handshakes to look at, so scanning them when it fires is cheaper than
 * a timer handle for each. Steady traffic never touches it. */
#include "peer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "address.h"
#include "peer_internal.h"

#define LISTEN_BACKLOG 128

/* ---- the table of peers ---- */

struct po__peer *po__peers_find(struct po__peers *p, uint64_t id)
{
    for (unsigned i = 0; i < PO__PEERS_MAX; i++)
        if (p->peers[i].used && p->peers[i].id == id)
            return &p->peers[i];
    return NULL;
}

struct po__peer *po__peers_find_or_add(struct po__peers *p, uint64_t id)
{
    struct po__peer *peer = po__peers_find(p, id);
    for (unsigned i = 0; !peer && i < PO__PEERS_MAX; i++) {
        if (p->peers[i].used)
            continue;
        peer = &p->peers[i];
        *peer = (struct po__peer){.used = true, .id = id};
    }
    return peer;
}

void po__peer_lost(struct po__peer *peer, struct po__peers *p, uint64_t lived_ms)
{
    if (!peer->wanted) {
        peer->used = false; /* connected by its own will, and gone */
        return;
    }
    uint64_t now = uv_now(p->loop);
    peer->lost = true;
    if (lived_ms > PO__HELLO_MS)
        peer->failures = 0;
    if (peer->redialled_ms == 0 || now - peer->redialled_ms >= PO__REDIAL_MS) {
        /* Is its process gone, or only the connection? Who waits for the answer may be a cluster
         * without a leader. */
        peer->redialled_ms = now ? now : 1;
        peer->redials = PO__REDIALS_MAX;
        peer->dial_at_ms = now;
        po__peers_arm(p);
        return;
    }
    po__peer_dial_later(peer, p); /* short lives lengthen the backoff: no storm of handshakes */
}

static const struct po__server *server_of(const struct po__server *servers, unsigned count,
                                          uint64_t id)
{
    for (unsigned i = 0; i < count; i++)
        if (servers[i].id == id)
            return &servers[i];
    return NULL;
}

static void want(struct po__peers *p, const struct po__server *server)
{
    struct po__peer *peer = po__peers_find_or_add(p, server->id);
    if (!peer) {
        po__error(&p->opts.log, "peer.table", "no room to connect to node %llu: at most %d peers",
                  (unsigned long long)server->id, PO__PEERS_MAX);
        return;
    }
    if (!peer->wanted || strcmp(peer->address, server->address) != 0) {
        if (peer->dial)
            po__peer_dial_abandon(peer->dial);
        snprintf(peer->address, sizeof peer->address, "%s", server->address);
        peer->failures = 0;
        peer->dial_at_ms = 0;
    }
    peer->wanted = true;
}

void po__peers_set(struct po__peers *p, const struct po__server *servers, unsigned count)
{
    if (p->closing)
        return;
    for (unsigned i = 0; i < PO__PEERS_MAX; i++) {
        struct po__peer *peer = &p->peers[i];
        if (!peer->used || server_of(servers, count, peer->id))
            continue;
        if (peer->dial)
            po__peer_dial_abandon(peer->dial);
        peer->wanted = false;
        peer->used = peer->up != NULL; /* it may still have to hear that it was removed */
    }
    for (unsigned i = 0; i < count; i++)
        if (servers[i].id != p->opts.self.node_id)
            want(p, &servers[i]);
    po__peers_arm(p);
}

/* ---- time ---- */

uint64_t po__peers_random(struct po__peers *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random;
}

static bool must_dial(const struct po__peers *p, const struct po__peer *peer)
{
    return peer->used && peer->wanted && !peer->up && !peer->dial && !po__peers_is_cut(p, peer->id);
}

static bool has_deadline(const struct po__peer_conn *c)
{
    return c->state == PO__CONN_CONNECTING || c->state == PO__CONN_HELLO;
}

/* Closes what is due. Closing may call back and change the list, so it starts over after each. */
static bool close_one_due(struct po__peers *p, uint64_t now)
{
    struct po__list *it;
    po__list_each(it, &p->conns)
    {
        struct po__peer_conn *c = po__container_of(it, struct po__peer_conn, link);
        if (c->state == PO__CONN_CLOSED)
            continue;
        if (c->broken) {
            po__peer_conn_close(c, "write failed");
            return true;
        }
        if (has_deadline(c) && c->deadline_ms <= now) {
            po__peer_conn_close(c,
                                c->state == PO__CONN_HELLO ? "no hello from %s in %d ms"
                                                           : "no answer from %s in %d ms",
                                c->remote,
                                c->state == PO__CONN_HELLO ? PO__HELLO_MS : PO__CONNECT_MS);
            return true;
        }
    }
    return false;
}

static void on_timer(uv_timer_t *timer)
{
    struct po__peers *p = timer->data;
    uint64_t now = uv_now(p->loop);
    while (!p->closing && close_one_due(p, now))
        ;
    for (unsigned i = 0; i < PO__PEERS_MAX && !p->closing; i++)
        if (must_dial(p, &p->peers[i]) && p->peers[i].dial_at_ms <= now)
            po__peer_dial(&p->peers[i], p);
    po__peers_arm(p);
}

void po__peers_arm(struct po__peers *p)
{
    uint64_t due = UINT64_MAX, now = uv_now(p->loop);
    struct po__list *it;
    if (p->closing)
        return;
    for (unsigned i = 0; i < PO__PEERS_MAX; i++)
        if (must_dial(p, &p->peers[i]) && p->peers[i].dial_at_ms < due)
            due = p->peers[i].dial_at_ms;
    po__list_each(it, &p->conns)
    {
        struct po__peer_conn *c = po__container_of(it, struct po__peer_conn, link);
        if (c->state == PO__CONN_CLOSED)
            continue;
        if (c->broken)
            due = 0;
        else if (has_deadline(c) && c->deadline_ms < due)
            due = c->deadline_ms;
    }
    if (due == UINT64_MAX)
        uv_timer_stop(&p->timer);
    else
        uv_timer_start(&p->timer, on_timer, due > now ? due - now : 0, 0);
}

/* ---- links that tests cut ---- */

bool po__peers_is_cut(const struct po__peers *p, uint64_t id)
{
    unsigned i = 0;
    while (i < p->cut_count && p->cut[i] != id)
        i++;
    return i < p->cut_count;
}

void po__peers_cut(struct po__peers *p, const uint64_t *peer_ids, size_t count)
{
    PO_PRE(count <= PO__PEERS_MAX);
    p->cut_count = (unsigned)count;
    if (count)
        memcpy(p->cut, peer_ids, count * sizeof *peer_ids);
    for (unsigned i = 0; i < PO__PEERS_MAX && !p->closing; i++) {
        struct po__peer *peer = &p->peers[i];
        bool cut = po__peers_is_cut(p, peer->id);
        if (!peer->used)
            continue;
        if (cut && peer->dial)
            po__peer_dial_abandon(peer->dial);
        if (peer->up) {
            po__peer_conn_hold(peer->up, cut);
        } else if (!cut) { /* whatever kept it from us may have been the cut */
            peer->failures = 0;
            peer->dial_at_ms = 0;
        }
    }
    if (!p->closing)
        po__peers_arm(p);
}

/* ---- strangers ---- */

void po__peers_log_stranger(struct po__peers *p, const char *remote, const char *why)
{
    uint64_t now = uv_now(p->loop);
    if (p->stranger_log_ms && now - p->stranger_log_ms < PO__STRANGER_LOG_MS) {
        p->strangers_unlogged++;
        return;
    }
    p->stranger_log_ms = now ? now : 1;
    po__warn(&p->opts.log, "peer.refused", "connection from %s refused: %s (%llu more since then)",
             remote, why, (unsigned long long)p->strangers_unlogged);
    p->strangers_unlogged = 0;
}

/* A peer says hello within a round trip, so the oldest silent connection is the least likely to be
 * one. */
static void evict_oldest_pending(struct po__peers *p)
{
    struct po__list *it;
    po__list_each(it, &p->conns)
    {
        struct po__peer_conn *c = po__container_of(it, struct po__peer_conn, link);
        if (c->state == PO__CONN_HELLO && !c->dialled) {
            po__peer_conn_close(c, "too many connections without a hello (%d)",
                                PO__PENDING_CONNECTIONS_MAX);
            return;
        }
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct po__peers *p = listener->data;
    if (status || p->closing)
        return; /* e.g. out of descriptors: libuv sheds the connection */
    if (p->pending_count >= PO__PENDING_CONNECTIONS_MAX)
        evict_oldest_pending(p);
    struct po__peer_conn *c = po__peer_conn_new(p);
    if (!c) {
        po__error(&p->opts.log, "peer.memory", "out of memory for an incoming connection");
        return;
    }
    int rv = uv_accept(listener, (uv_stream_t *)&c->tcp);
    if (rv)
        po__peer_conn_close(c, "accept failed: %s", uv_strerror(rv));
    else
        po__peer_conn_accepted(c);
}

/* ---- sending ---- */

struct copied_frame {
    struct po__frame frame;
    struct po__slice part;
    uint8_t bytes[];
};

static void free_copied(struct po__frame *f)
{
    po__free(po__container_of(f, struct copied_frame, frame));
}

struct po__frame *po__peer_frame_copy(const void *prefix, size_t prefix_len, const void *data,
                                      size_t len)
{
    struct copied_frame *cf = po__malloc(sizeof *cf + prefix_len + len);
    if (!cf)
        return NULL;
    if (prefix_len)
        memcpy(cf->bytes, prefix, prefix_len);
    if (len)
        memcpy(cf->bytes + prefix_len, data, len);
    cf->part = po__slice(cf->bytes, prefix_len + len);
    cf->frame = (struct po__frame){.refs = 1,
                                   .bytes = (uint32_t)(prefix_len + len),
                                   .parts_count = 1,
                                   .parts = &cf->part,
                                   .free = free_copied};
    return &cf->frame;
}

static void on_idle(uv_idle_t *idle)
{
    (void)
        idle; /* being active is its whole work: the loop does not block before the next prepare */
}

static void wake(struct po__peers *p)
{
    if (!uv_is_active((uv_handle_t *)&p->idle))
        uv_idle_start(&p->idle, on_idle);
}

void po__peers_send(struct po__peers *p, uint64_t peer_id, enum po__peer_channel chan,
                    struct po__frame *frame)
{
    struct po__peer *peer = po__peers_find(p, peer_id);
    PO_PRE(chan != PO__CHAN_HELLO && frame->bytes <= PO__FRAME_MAX_BYTES);
    if (p->closing || !peer || !peer->up || po__peer_conn_queue(peer->up, chan, frame)) {
        if (peer)
            peer->dropped++;
        po__frame_unref(frame);
        return;
    }
    wake(p);
}

int po__peers_send_bytes(struct po__peers *p, uint64_t peer_id, enum po__peer_channel chan,
                         uint64_t call_id, const void *data, size_t len)
{
    uint8_t prefix[PO__PEER_CALL_ID_BYTES];
    struct po__peer *peer = po__peers_find(p, peer_id);
    PO_PRE(chan == PO__CHAN_FORWARD || chan == PO__CHAN_FORWARD_REPLY);
    if (len > PO__FRAME_MAX_BYTES)
        return PO_ETOOBIG;
    if (p->closing || !peer || !peer->up)
        return PO_EUNREACHABLE;
    for (unsigned i = 0; i < sizeof prefix; i++)
        prefix[i] = (uint8_t)(call_id >> (8 * i));
    struct po__frame *f = po__peer_frame_copy(prefix, sizeof prefix, data, len);
    if (!f)
        return PO_ENOMEM;
    int rv = po__peer_conn_queue(peer->up, chan, f);
    if (rv) {
        peer->dropped++;
        po__frame_unref(f);
        return rv;
    }
    wake(p);
    return 0;
}

void po__peers_refuse(struct po__peers *p, uint64_t peer_id, int code, const char *why)
{
    struct po__frame *f = p->closing ? NULL : po__peer_refusal(code, why);
    if (f)
        po__peers_send(p, peer_id, PO__CHAN_REFUSED, f);
}

uint64_t po__peer_call_id(const void *data)
{
    const uint8_t *p = data;
    uint64_t id = 0;
    for (unsigned i = 0; i < PO__PEER_CALL_ID_BYTES; i++)
        id |= (uint64_t)p[i] << (8 * i);
    return id;
}

void po__peers_flush(struct po__peers *p)
{
    struct po__list *it;
    while ((it = po__list_first(&p->dirty)))
        po__peer_conn_flush(po__container_of(it, struct po__peer_conn, dirty));
    uv_idle_stop(&p->idle);
}

static void on_prepare(uv_prepare_t *prepare)
{
    po__peers_flush(prepare->data);
}

bool po__peers_up(const struct po__peers *p, uint64_t peer_id)
{
    const struct po__peer *peer = po__peers_find((struct po__peers *)p, peer_id);
    return peer && peer->up && !peer->up->broken;
}

size_t po__peers_queued_bytes(const struct po__peers *p, uint64_t peer_id)
{
    const struct po__peer *peer = po__peers_find((struct po__peers *)p, peer_id);
    return peer && peer->up ? peer->up->out_bytes : 0;
}

uint64_t po__peers_dropped(const struct po__peers *p, uint64_t peer_id)
{
    const struct po__peer *peer = po__peers_find((struct po__peers *)p, peer_id);
    return peer ? peer->dropped : 0;
}

uint16_t po__peers_port(const struct po__peers *p)
{
    return p->port;
}

/* ---- opening and closing ---- */

static void init_handles(struct po__peers *p)
{
    uv_timer_init(p->loop, &p->timer);
    uv_prepare_init(p->loop, &p->prepare);
    uv_idle_init(p->loop, &p->idle);
    uv_tcp_init(p->loop, &p->listener);
    p->timer.data = p->prepare.data = p->listener.data = p->idle.data = p;
    p->open_count = 4;
    uv_prepare_start(&p->prepare, on_prepare);
    uv_unref((uv_handle_t *)&p->prepare);
}

int po__peers_open(struct po__peers **out, const struct po__peers_opts *opts, char *error,
                   size_t error_len)
{
    int fd = -1;
    PO_PRE(opts->hello && opts->frame && opts->down && opts->self.node_id);
    struct po__peers *p = po__calloc(1, sizeof *p);
    if (!p) {
        snprintf(error, error_len, "out of memory for the peer transport");
        return PO_ENOMEM;
    }
    p->loop = opts->loop;
    p->opts = *opts;
    p->random = opts->self.incarnation ^ opts->self.node_id;
    if (!p->random)
        p->random = 1;
    po__list_init(&p->conns);
    po__list_init(&p->dirty);
    int rv =
        opts->listen ? po__address_may_listen(opts->listen, opts->insecure, error, error_len) : 0;
    if (!rv && opts->listen) {
        fd = po__tcp_listen(opts->listen, LISTEN_BACKLOG, &p->port, error, error_len);
        rv = fd < 0 ? PO_EADDR : 0;
    }
    if (rv) {
        po__free(p);
        return rv;
    }
    init_handles(p);
    if (fd >= 0) {
        rv = uv_tcp_open(&p->listener, fd);
        if (rv)
            close(fd);
        else
            rv = uv_listen((uv_stream_t *)&p->listener, LISTEN_BACKLOG, on_connection);
    }
    if (rv) {
        snprintf(error, error_len, "cannot listen on %s: %s", opts->listen, uv_strerror(rv));
        po__peers_close(p, NULL, NULL); /* frees when the loop runs next */
        return PO_EADDR;
    }
    p->opts.listen = NULL;
    *out = p;
    return 0;
}

void po__peers_release(struct po__peers *p)
{
    if (--p->open_count)
        return;
    void (*closed)(void *) = p->closed;
    void *arg = p->closed_arg;
    po__free(p);
    if (closed)
        closed(arg);
}

static void handle_closed(uv_handle_t *handle)
{
    po__peers_release(handle->data);
}

void po__peers_close(struct po__peers *p, void (*closed)(void *arg), void *arg)
{
    PO_PRE(!p->closing);
    p->closing = true;
    p->closed = closed;
    p->closed_arg = arg;
    for (unsigned i = 0; i < PO__PEERS_MAX; i++)
        if (p->peers[i].used && p->peers[i].dial)
            po__peer_dial_abandon(p->peers[i].dial);
    struct po__list *it;
    po__list_each(it, &p->conns)
    {
        struct po__peer_conn *c = po__container_of(it, struct po__peer_conn, link);
        if (c->state != PO__CONN_CLOSED)
            po__peer_conn_close(c, "this node stops");
    }
    uv_close((uv_handle_t *)&p->listener, handle_closed);
    uv_close((uv_handle_t *)&p->timer, handle_closed);
    uv_close((uv_handle_t *)&p->prepare, handle_closed);
    uv_close((uv_handle_t *)&p->idle, handle_closed);
}
