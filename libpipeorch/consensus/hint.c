/* The closed-connection hint: an election at once when the leader's process is known to be gone.
 *
 * Raft waits for an election timeout because silence has many causes. The end of a process has few:
 * the kernel closes its connections, and a new connection to its address is refused, or a new
 * process answers there. The transport tells us after it has seen that (po__replica_peer_gone). An
 * end of a connection alone proves nothing and never comes this far: a majority that believed it
 * would depose healthy leaders.
 *
 * What then happens is an ordinary election, only earlier; safety rests on votes, terms and logs as
 * ever, so a hint that is wrong costs an election at most:
 *   - Requests for votes are answered as though the lost leader were none (core_receive.c), until a
 *     leader is heard of again: a message from it, and the hint is forgotten.
 *   - The voters that remain take turns, ranked by id: the k-th waits k times D, because candidates
 *     that stand up together split the vote. D is more than two of the largest round trips among
 * the voters, which is what the election of the one before takes.
 *   - Who is still asking whether it may (pre-vote) asks again after a round trip, then after two,
 *     a few times: the others may learn of the loss later than we did. Asking raises no term.
 *   - A new term ends it, and so does a leader's message. While entries are on their way to our
 * disk it waits: the core does not stand up before.
 *
 * Round trips are measured here, by pings to the other voters with pauses of PROBE_HEARTBEATS
 * heartbeats, so that virtual networks and relays count as they are. The largest counts, and falls
 * slowly. */
#include "replica_impl.h"

#include <pipeorch/node.h>

#define PROBE_HEARTBEATS 10
#define TRIES_MAX        6  /* the first, and five more */
#define TURN_SLACK_MS    20 /* what disks and schedulers add to an election */
#define RETRY_SLACK_MS   3
#define RTT_DECAY        8 /* a measure below the largest takes away an eighth of the difference */
/* Keeps the answers to probes apart from those to reads and to membership changes. */
#define PROBE_SEQUENCE ((uint64_t)1 << 62)

/* ---- round trips ---- */

static struct po__rtt *rtt_of(struct po__hint *h, uint64_t peer)
{
    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++)
        if (h->rtt[i].peer == peer)
            return &h->rtt[i];
    return NULL;
}

/* Those who left the configuration make room for those who came. */
static struct po__rtt *rtt_slot(struct po__replica *r, uint64_t peer)
{
    struct po__rtt *t = rtt_of(&r->hint, peer);

    for (unsigned i = 0; !t && i < PO_MEMBERS_MAX; i++) {
        struct po__rtt *at = &r->hint.rtt[i];
        if (at->peer == 0 || !po__conf_find(&r->servers, at->peer)) {
            *at = (struct po__rtt){.peer = peer};
            t = at;
        }
    }
    return t;
}

static bool measures(const struct po__replica *r)
{
    return r->o.hint && po__conf_is_voter(&r->servers, r->o.id) && po__conf_voters(&r->servers) > 1;
}

static void probe(struct po__replica *r)
{
    struct po__hint *h = &r->hint;
    struct po__msg m = {.type = PO__MSG_PING, .term = po__core_term(r->core)};

    m.ping.sequence = PROBE_SEQUENCE | ++h->probe_sequence;
    h->probe_ms = r->now_ms;
    for (unsigned i = 0; i < r->servers.count; i++)
        if (r->servers.servers[i].role == PO__VOTER && r->servers.servers[i].id != r->o.id)
            po__send(r, r->servers.servers[i].id, &m);
}

/* The answer to an earlier probe says nothing: it is as old as it is. */
void po__hint_pong(struct po__replica *r, uint64_t peer, uint64_t sequence)
{
    struct po__hint *h = &r->hint;
    struct po__rtt *t;

    if (sequence != (PROBE_SEQUENCE | h->probe_sequence) || !po__conf_find(&r->servers, peer))
        return;
    t = rtt_slot(r, peer);
    if (!t)
        return;
    uint64_t ms = r->now_ms - h->probe_ms + 1; /* the clock counts whole milliseconds */
    t->ms = ms >= t->ms ? ms : t->ms - (t->ms - ms) / RTT_DECAY;
}

/* Largest known round trip to a voter that remains; nobody has answered yet: an unknown network is
 * taken for a slow one. */
static uint64_t largest_rtt(const struct po__replica *r)
{
    uint64_t ms = 0;

    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++) {
        const struct po__rtt *t = &r->hint.rtt[i];
        if (t->peer != r->hint.leader && po__conf_is_voter(&r->servers, t->peer) && t->ms > ms)
            ms = t->ms;
    }
    return ms ? ms : r->o.election_ms / 4;
}

/* ---- the hint ---- */

static unsigned rank(const struct po__replica *r, uint64_t gone)
{
    unsigned below = 0;

    for (unsigned i = 0; i < r->servers.count; i++) {
        const struct po__conf_server *s = &r->servers.servers[i];
        below += s->role == PO__VOTER && s->id != gone && s->id < r->o.id;
    }
    return below;
}

void po__replica_peer_gone(struct po__replica *r, uint64_t peer_id, uint64_t now_ms)
{
    struct po__hint *h = &r->hint;

    if (po__enter(r, now_ms))
        return;
    if (!r->o.hint || peer_id == 0 || po__core_role(r->core) != PO_ROLE_FOLLOWER ||
        po__core_leader(r->core) != peer_id || po__core_gone(r->core) == peer_id) {
        po__leave(r, 0);
        return;
    }
    po__core_leader_gone(r->core, peer_id);
    h->leader = peer_id;
    h->term = po__core_term(r->core);
    h->tries = 0;
    h->armed = po__conf_is_voter(&r->servers, r->o.id);
    unsigned turn = rank(r, peer_id);
    uint64_t rtt = largest_rtt(r);
    h->due_ms = r->now_ms + turn * (2 * rtt + TURN_SLACK_MS);
    po__info(&r->o.log, "raft.hint",
             "the process of node %llu, leader of term %llu, is gone: %s, %llu ms from now",
             (unsigned long long)peer_id, (unsigned long long)h->term,
             h->armed ? "election without waiting for the timeout" : "votes are free",
             (unsigned long long)(h->due_ms - r->now_ms));
    po__leave(r, 0);
}

static void campaign(struct po__replica *r)
{
    struct po__hint *h = &r->hint;
    bool begun;
    int rv = po__core_campaign(r->core, r->now_ms, &begun);

    po__check_core(r, rv);
    if (!begun) {
        h->due_ms = r->now_ms + 2; /* the leader's last word is that fresh */
        return;
    }
    h->armed = ++h->tries < TRIES_MAX;
    h->due_ms = r->now_ms + h->tries * (largest_rtt(r) + RETRY_SLACK_MS);
}

/* Did something end it? A word of a leader has cleared the core's mark. */
static bool ended(const struct po__replica *r)
{
    return po__core_gone(r->core) != r->hint.leader || po__core_term(r->core) != r->hint.term;
}

void po__hint_tick(struct po__replica *r)
{
    struct po__hint *h = &r->hint;

    if (measures(r) && r->now_ms >= po__hint_probe_ms(r))
        probe(r);
    if (!h->armed)
        return;
    if (ended(r)) {
        h->armed = false;
        return;
    }
    if (r->now_ms < h->due_ms)
        return;
    switch (po__core_may_campaign(r->core)) {
    case PO__CAMPAIGN_NOW:
        campaign(r);
        break;
    case PO__CAMPAIGN_LATER:
        break;
    case PO__CAMPAIGN_NO:
        h->armed = false;
    }
}

uint64_t po__hint_probe_ms(const struct po__replica *r)
{
    return r->hint.probe_ms + (uint64_t)PROBE_HEARTBEATS * r->o.heartbeat_ms;
}

uint64_t po__hint_deadline(const struct po__replica *r)
{
    const struct po__hint *h = &r->hint;
    uint64_t at = measures(r) ? po__hint_probe_ms(r) : UINT64_MAX;

    /* What it waits for when it may not stand up yet, a write, wakes the owner by itself. */
    if (h->armed && h->due_ms < at &&
        (r->now_ms < h->due_ms || po__core_may_campaign(r->core) != PO__CAMPAIGN_LATER))
        at = h->due_ms;
    return at;
}
