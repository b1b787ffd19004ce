/* A leader gives leadership away without failing a single call.
 *
 *   IDLE ──▶ SETTLING ──▶ TRANSFERRING ──▶ (another leads)
 *     ◀──────────┴──────────────┘ nobody took over in time
 *
 * SETTLING: nothing more is proposed, what is in flight commits and is answered. Without this pause
 * a proposal could change hands with leadership, and its outcome would be unknown. What comes
 * meanwhile is staged as under load. TRANSFERRING: the chosen voter, which has every entry, is told
 * to run for election at once. When this node loses leadership the stage is empty of outcomes: its
 * calls were never proposed, and go to the next leader as if they had just come (local and
 * forwarded ones by themselves, those of clients by a redirect).
 *
 * From the order to the next leader's first commit: half a round trip for the order, one for the
 * votes, one for its first entry. */
#include "internal.h"

#include <pipeorch/error.h>

static uint64_t pick(struct po__node *n)
{
    struct po__members_view v;
    struct po__member_info info;
    uint64_t best = 0, best_match = 0;
    bool best_preferred = false;
    po__members_view(n, &v);
    for (unsigned i = 0; i < v.count; i++) {
        const struct po__server *sv = &v.servers[i];
        if (sv->role != PO__VOTER || sv->id == n->identity.node_id || !po__members_up(n, sv->id))
            continue;
        bool known = po__model_member(n->model, sv->id, &info);
        uint64_t match = po__replica_match(n->replica, sv->id);
        bool preferred =
            known && n->prefer_zone[0] && po__slice_eq(info.zone, po__str(n->prefer_zone));
        if (known && info.wish == PO__WISH_STANDBY)
            continue; /* it would have to hand over itself */
        if (best && (match < best_match || (match == best_match && preferred <= best_preferred)))
            continue;
        best = sv->id;
        best_match = match;
        best_preferred = preferred;
    }
    return best;
}

int po__handover_begin(struct po__node *n, uint64_t target)
{
    struct po__handover *h = &n->handover;
    struct po__replica_status st;
    po__replica_status(n->replica, &st);
    if (h->state != PO__HANDOVER_IDLE || st.membership_busy || st.transferee)
        return PO_EBUSY;
    if (!target)
        target = pick(n);
    if (!target)
        return PO_EREFUSED;
    *h = (struct po__handover){.state = PO__HANDOVER_SETTLING,
                               .target = target,
                               .deadline_ms = po__node_now(n) + 2 * (uint64_t)n->opts.election_ms};
    po__info(&n->log, "member.handover", "hands leadership over to node %llu",
             (unsigned long long)target);
    n->redispatch = true; /* another round of this turn goes on with it */
    return 0;
}

static void give_up(struct po__node *n, const char *why)
{
    po__warn(&n->log, "member.handover",
             "node %llu did not take over: %s; this node goes on leading",
             (unsigned long long)n->handover.target, why);
    n->handover.state = PO__HANDOVER_IDLE;
    n->changes.look = true;
}

void po__handover_tick(struct po__node *n, uint64_t now)
{
    struct po__handover *h = &n->handover;
    struct po__replica_status st;
    if (h->state == PO__HANDOVER_SETTLING) {
        if (po__replica_inflight(n->replica) == 0) {
            int rv = po__replica_transfer(n->replica, h->target, now);
            if (rv)
                give_up(n, po_strerror(rv));
            else
                h->state = PO__HANDOVER_TRANSFERRING;
        } else if (now >= h->deadline_ms) {
            give_up(n, "what was under way did not commit in time");
        }
        return;
    }
    if (h->state != PO__HANDOVER_TRANSFERRING)
        return;
    po__replica_status(n->replica, &st);
    if (st.transferee == 0)
        give_up(n, "it did not win an election within an election timeout");
}

void po__handover_lost(struct po__node *n)
{
    n->handover.state = PO__HANDOVER_IDLE;
}
