/* What a transport learns of the processes behind its connections, as net/peer.c does on sockets.
 *
 * A process that ends closes its connections; so does, at times, a network in which nobody died.
 * Either way the other end dials anew. What it meets there a round trip later counts: nobody who
 * listens, or another incarnation, means that the process is gone; the same incarnation, or silence
 * behind a partition, means nothing. Some runs are told untruths (SIM_LIE), which may cost them
 * elections and must cost nothing else. */
#include <pipeorch/node.h>
#include "sim.h"

#define HEALTHY_ROUNDS 8

/* value of CLOSED and CONFIRM: who was at the other end, and which process of it */
static uint64_t end_of(const struct sim_node *n, uint64_t incarnation)
{
    return incarnation << 8 | n->id;
}

static bool reachable(const struct sim *s, uint64_t a, uint64_t b)
{
    return !s->blocked[a][b] && !s->blocked[b][a];
}

void peers_closed(struct sim *s, struct sim_node *n)
{
    /* A crash has counted the incarnation up already: the one that was connected is the one before
     */
    uint64_t was = n->alive ? n->incarnation : n->incarnation - 1;

    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *other = &s->nodes[i];
        if (other == n || !other->alive)
            continue;
        uint64_t us = s->now_us + s->far_us[n->id][other->id] +
                      sim_random(s, s->delay_min_us, s->delay_max_us);
        if (us <= s->link_last_us[n->id][other->id]) /* after all that was sent before */
            us = s->link_last_us[n->id][other->id] + 1;
        sim_at(s, us, SIM_CLOSED, other, end_of(n, was));
    }
}

/* `to` has dialled anew. */
static void confirm(struct sim *s, struct sim_node *to, uint64_t value)
{
    struct sim_node *peer = &s->nodes[(value & 0xff) - 1];

    if (!reachable(s, to->id, peer->id) || (peer->alive && peer->incarnation == value >> 8))
        return;
    s->stats.gone++;
    s->stats.hinted +=
        s->hint && to->role == PO_ROLE_FOLLOWER && po__core_leader(to->replica->core) == peer->id;
    po__replica_peer_gone(to->replica, peer->id, sim_node_ms(s, to));
    sim_settle(s, to);
}

static void lie(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);
    uint64_t told = sim_random(s, 1, (1u << s->count) - 1);

    if (!s->chaos)
        return;
    sim_at(s, s->now_us + sim_random(s, 100000, 3000000), SIM_LIE, NULL, 0);
    for (unsigned i = 0; leader && i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        if (!(told >> i & 1) || n == leader || !n->alive)
            continue;
        s->stats.gone_wrong++;
        po__replica_peer_gone(n->replica, leader->id, sim_node_ms(s, n));
        sim_settle(s, n);
    }
}

void peers_event(struct sim *s, enum sim_event_kind kind, struct sim_node *n, uint64_t value)
{
    if (kind == SIM_LIE) {
        lie(s);
    } else if (n->alive && kind == SIM_CLOSED) {
        uint64_t rtt = 2 * s->far_us[n->id][value & 0xff] +
                       sim_random(s, 2 * s->delay_min_us, 2 * s->delay_max_us);
        sim_at(s, s->now_us + rtt, SIM_CONFIRM, n, value);
    } else if (n->alive) {
        confirm(s, n, value);
    }
}

void peers_healthy(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);

    for (int i = 0; i < HEALTHY_ROUNDS; i++) {
        uint64_t term = leader->term;
        s->stats.closes_spurious++;
        s->stats.healthy++;
        peers_closed(s, leader);
        sim_run_until(s, s->now_us + sim_random(s, 100000, 2 * SIM_ELECTION_MS * 1000));
        if (leader->role == PO_ROLE_LEADER && leader->term == term)
            continue;
        s->stats.deposed++;
        oracle_fail(s, "%llu led term %llu in health, and was deposed when connections ended",
                    (unsigned long long)leader->id, (unsigned long long)term);
    }
}
