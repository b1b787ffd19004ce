/* Connections between nodes: made, greeted with a hello, used, lost.
 *
 * One connection per pair, looked after every few milliseconds: it is made when both ends live, can
 * reach each other and one of them wants it, and ends when an end dies or when nothing passed for
 * longer than the pair's patience. A frame belongs to the connection on which it was sent: what
 * arrives after its end is gone, as with TCP. Within a connection the network is worse than TCP: it
 * may lose, double and reorder frames, which the replica has to bear anyway. */
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define LOOK_MIN_US 20000 /* how often a pair's connection is looked after */
#define LOOK_MAX_US 150000

enum channel { RAFT, FORWARD, FORWARD_REPLY };

struct frame {
    unsigned from, to; /* places */
    enum channel channel;
    uint64_t generation, call_id;
    size_t len;
    uint8_t bytes[];
};

static struct po__simpair *pair_of(struct po__world *w, unsigned a, unsigned b)
{
    return a < b ? &w->pairs[a][b] : &w->pairs[b][a];
}

static void send_bytes(struct po__simnode *n, unsigned to, enum channel channel, uint64_t call_id,
                       const struct po__slice *parts, unsigned parts_count, size_t len)
{
    struct po__world *w = n->world;
    uint64_t at[PO__SIM_COPIES_MAX];
    unsigned copies = po__simnet_send(&w->net, n->place, to, len, false, w->now_us, at);
    w->stats.frames++;
    w->stats.frames_lost += copies == 0;
    for (unsigned c = 0; c < copies; c++) {
        struct frame *f = po__sim_alloc(sizeof *f + len);
        *f = (struct frame){n->place, to, channel, pair_of(w, n->place, to)->generation,
                            call_id,  len};
        size_t off = 0;
        for (unsigned i = 0; i < parts_count; off += parts[i++].len)
            if (parts[i].len)
                memcpy(f->bytes + off, parts[i].data, parts[i].len);
        PO_INVARIANT(off == len);
        n->queued_bytes[to] += len;
        po__world_at(w, at[c], PO__EV_FRAME, to, 0, 0, f);
    }
}

/* Where the peer is to be sent to; -1: it is not connected. */
static int way_to(struct po__simnode *n, uint64_t peer_id)
{
    int to = po__place_of(n->world, peer_id);
    bool open = !n->dying && to >= 0 && to != (int)n->place &&
                pair_of(n->world, n->place, (unsigned)to)->up;
    return open ? to : -1;
}

static void transport_send(void *arg, uint64_t peer_id, struct po__frame *f)
{
    struct po__simnode *n = arg;
    po__control_die_perhaps(n);
    int to = way_to(n, peer_id);
    if (to >= 0)
        send_bytes(n, (unsigned)to, RAFT, 0, f->parts, f->parts_count, f->bytes);
    po__frame_unref(f);
}

static void transport_servers(void *arg, const struct po__server *servers, unsigned count)
{
    struct po__simnode *n = arg;
    n->servers = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned place = 0;
        while (place < n->world->nodes_count &&
               strcmp(servers[i].address, n->world->nodes[place].address) != 0)
            place++;
        if (place == n->world->nodes_count) {
            po__world_fail(n->world, "%s has server %llu with the address %s", n->name,
                           (unsigned long long)servers[i].id, servers[i].address);
            return;
        }
        n->servers |= 1u << place;
    }
}

static size_t transport_queued(void *arg, uint64_t peer_id)
{
    struct po__simnode *n = arg;
    int to = po__place_of(n->world, peer_id);
    return to >= 0 ? n->queued_bytes[to] : 0;
}

const struct po__transport_ops po__peers_transport = {transport_send, transport_servers,
                                                      transport_queued};

static int net_open(void *arg, uv_loop_t *loop, struct po__node *core, char *error,
                    size_t error_len)
{
    (void)arg, (void)loop, (void)core, (void)error, (void)error_len;
    return 0;
}

static int net_forward(void *arg, uint64_t peer_id, bool reply, uint64_t call_id, const void *data,
                       size_t len)
{
    struct po__simnode *n = arg;
    struct po__slice part = po__slice(data, len);
    po__control_die_perhaps(n);
    int to = way_to(n, peer_id);
    if (to < 0)
        return PO_EUNREACHABLE;
    send_bytes(n, (unsigned)to, reply ? FORWARD_REPLY : FORWARD, call_id, &part, 1, len);
    return 0;
}

static void net_flush(void *arg)
{
    (void)arg;
}

static void net_close(void *arg, void (*closed)(void *arg), void *closed_arg)
{
    (void)arg;
    closed(closed_arg);
}

void po__peers_net(struct po__simnode *n)
{
    n->net =
        (struct po__node_net){&po__peers_transport, net_open, net_forward, net_flush, net_close, n};
}

/* ---- arrival ---- */

void po__peers_drop(struct po__world *w, void *data)
{
    struct frame *f = data;
    w->nodes[f->from].queued_bytes[f->to] -= f->len;
    free(f);
}

void po__peers_frame(struct po__world *w, void *data)
{
    struct frame *f = data;
    struct po__simnode *to = &w->nodes[f->to], *from = &w->nodes[f->from];
    struct po__simpair *p = pair_of(w, f->from, f->to);
    if (to->alive && w->now_us < to->paused_us) { /* it lies in the socket until then */
        po__world_at(w, to->paused_us, PO__EV_FRAME, f->to, 0, 0, f);
        return;
    }
    if (to->alive && p->up && p->generation == f->generation &&
        !po__simnet_blocked(&w->net, f->from, f->to)) {
        if (f->channel == RAFT) {
            int rv = po__node_peer_frame(to->core, from->id, f->bytes, f->len);
            if (rv == PO_EPROTO && !po__control_died(to))
                po__world_fail(w, "%s calls a frame of %s malformed: %zu bytes", to->name,
                               from->name, f->len);
        } else {
            po__node_peer_forward(to->core, from->id, f->channel == FORWARD_REPLY, f->call_id,
                                  f->bytes, f->len);
        }
        po__control_turn_by(to, w->now_us + po__world_random(w, 0, 100));
    }
    po__peers_drop(w, f);
}

/* ---- connections ---- */

static bool greet(struct po__simnode *to, struct po__simnode *from)
{
    char why[512] = "";
    const struct po__identity *id = po__node_identity(from->core);
    struct po__node_peer p = {.node_id = from->id,
                              .name = from->name,
                              .zone = from->zone,
                              .peer_address = from->address,
                              .worker_address = from->worker_address,
                              .directory_id = id->directory_id,
                              .feature_level = from->level};
    int rv = po__node_peer_hello(to->core, &p, why, sizeof why);
    if (rv == PO_EIDENTITY || rv == PO_EREMOVED)
        po__world_fail(to->world, "%s refuses %s: %s", to->name, from->name, why);
    if (rv)
        po__world_trace(to->world, "refuses node %llu with code -%llu", to->name, from->id,
                        (uint64_t)-rv);
    return rv == 0;
}

static void tell_down(struct po__simnode *n, struct po__simnode *other)
{
    if (!n->alive || !n->up[other->place] || n->world->now_us < n->paused_us)
        return;
    n->up[other->place] = false;
    po__node_peer_down(n->core, other->id);
    po__control_turn_by(n, n->world->now_us);
}

/* The process that n was connected to is certainly gone: reconnecting is refused, or another one
 * answers. Said once, after the end of the connection. */
static void tell_gone(struct po__simnode *n, struct po__simnode *other)
{
    struct po__simnet *net = &n->world->net;
    if (!n->alive || n->dying || n->world->now_us < n->paused_us || !n->met[other->place] ||
        (other->alive && other->incarnation == n->met[other->place]) ||
        po__simnet_blocked(net, n->place, other->place) ||
        po__simnet_blocked(net, other->place, n->place))
        return;
    n->met[other->place] = 0;
    po__node_peer_gone(n->core, other->id);
    po__control_turn_by(n, n->world->now_us);
}

static void make_connection(struct po__world *w, struct po__simpair *p, struct po__simnode *a,
                            struct po__simnode *b)
{
    bool wanted = a->servers >> b->place & 1 || b->servers >> a->place & 1;
    if (!wanted || !a->alive || !b->alive || a->dying || b->dying || w->now_us < a->paused_us ||
        w->now_us < b->paused_us || po__simnet_blocked(&w->net, a->place, b->place) ||
        po__simnet_blocked(&w->net, b->place, a->place))
        return;
    tell_down(a, b);
    tell_down(b, a);
    if (!greet(a, b) || !greet(b, a))
        return;
    p->up = a->up[b->place] = b->up[a->place] = true;
    p->generation++;
    a->met[b->place] = b->incarnation;
    b->met[a->place] = a->incarnation;
    p->blocked_us = 0;
    p->patience_us = po__world_random(w, 500000, 8000000);
    po__world_trace(w, "is connected to node %llu", a->name, b->id);
    po__control_turn_by(a, w->now_us);
    po__control_turn_by(b, w->now_us);
}

void po__peers_link(struct po__world *w, uint64_t pair)
{
    struct po__simnode *a = &w->nodes[pair / PO__SIM_NODES_MAX],
                       *b = &w->nodes[pair % PO__SIM_NODES_MAX];
    struct po__simpair *p = pair_of(w, a->place, b->place);
    bool blocked = po__simnet_blocked(&w->net, a->place, b->place) ||
                   po__simnet_blocked(&w->net, b->place, a->place);
    if (p->up && blocked && !p->blocked_us)
        p->blocked_us = w->now_us;
    else if (!blocked)
        p->blocked_us = 0;
    if (p->up && p->blocked_us && w->now_us - p->blocked_us > p->patience_us)
        p->up = false;
    if (!p->up) {
        tell_down(a, b);
        tell_down(b, a);
        tell_gone(a, b);
        tell_gone(b, a);
        make_connection(w, p, a, b);
    }
    po__world_at(w, w->now_us + po__world_random(w, LOOK_MIN_US, LOOK_MAX_US), PO__EV_LINK, 0, 0,
                 pair, NULL);
}

void po__peers_begin(struct po__world *w)
{
    for (unsigned a = 0; a < w->nodes_count; a++)
        for (unsigned b = a + 1; b < w->nodes_count; b++)
            po__world_at(w, w->now_us + po__world_random(w, 0, 5000), PO__EV_LINK, 0, 0,
                         (uint64_t)a * PO__SIM_NODES_MAX + b, NULL);
}

void po__peers_lost(struct po__simnode *n)
{
    for (unsigned i = 0; i < n->world->nodes_count; i++) {
        n->up[i] = false;
        n->met[i] = 0;
        if (i != n->place)
            pair_of(n->world, n->place, i)->up = false;
    }
}
