/* What the leader does for the members by itself, one step at a time, as often as it looks:
 *
 *   1. drop the records of those who are members no more;
 *   2. connected spare -> standby; standby that has caught up -> voter; voter who is to be a
 * standby
 *      -> standby: what the wishes say (model/command.h);
 *   3. hand leadership to the preferred zone.
 *
 * Which standby first? That of the zone with the fewest voters, so that voters spread over the
 * zones by themselves; among equals the lowest id. One voter alone is not made two: two voters
 * survive the loss of neither. The first newcomer waits until a second one has caught up, and both
 * are promoted back to back (or until it is promoted by hand).
 *
 * The preferred zone is damped twice: a leader lets five election timeouts pass before it hands
 * over at all, and each node doubles the time until it hands over again, so that a voter of the
 * preferred zone that cannot keep leadership does not pull it to and fro. */
#include "internal.h"

#include <pipeorch/error.h>

#define LAG_MAX             256  /* entries; a standby this close may vote */
#define FAILED_MS           1000 /* after a change that failed */
#define PREFER_FIRST        5    /* election timeouts in office before */
#define PREFER_AGAIN        20   /* election timeouts between; doubles */
#define PREFER_AGAIN_MAX_MS UINT64_C(600000)
#define PREFER_FORGET_MS    UINT64_C(1200000) /* without a hand-over for so long: begin anew */

bool po__members_up(const struct po__node *n, uint64_t id)
{
    for (unsigned i = 0; i < n->peers_count; i++)
        if (n->peers[i].node_id == id)
            return n->peers[i].up;
    return id == n->identity.node_id;
}

static uint64_t lag(struct po__node *n, uint64_t id)
{
    struct po__replica_status st;
    uint64_t match = po__replica_match(n->replica, id);
    po__replica_status(n->replica, &st);
    return st.last_index > match ? st.last_index - match : 0;
}

static struct po__slice zone_of(struct po__node *n, uint64_t id)
{
    struct po__member_info info;
    if (id == n->identity.node_id)
        return po__str(n->zone);
    return po__model_member(n->model, id, &info) ? info.zone : po__slice(NULL, 0);
}

/* ---- records ---- */

static bool drop_a_record(struct po__node *n, const struct po__members_view *v)
{
    struct po__member_info info;
    if (po__level_held_back(n, v, PO__LEVEL_WISHES, 0))
        return false; /* the upgraded node's record makes us look again */
    for (uint64_t id = 0; po__model_member_next(n->model, id, &info); id = info.node_id) {
        if (po__members_server(v, info.node_id))
            continue;
        po__members_wish(n, info.node_id, PO__WISH_GONE);
        return true;
    }
    return false;
}

/* ---- roles ---- */

enum step { STEP_NONE, STEP_STANDBY, STEP_VOTER, STEP_DEMOTE };

/* What is to be done for this member now. */
static enum step next_step(struct po__node *n, const struct po__members_view *v,
                           const struct po__server *sv, bool *open)
{
    struct po__member_info info;
    if (!po__model_member(n->model, sv->id, &info))
        return STEP_NONE; /* has not joined yet; joining makes us look again */
    if (sv->role == PO__VOTER)
        return info.wish == PO__WISH_STANDBY && v->voters > 2 ? STEP_DEMOTE : STEP_NONE;
    if (sv->role == PO__STANDBY && info.wish == PO__WISH_STANDBY)
        return STEP_NONE;
    *open = true;
    if (!po__members_up(n, sv->id))
        return STEP_NONE;
    if (sv->role == PO__SPARE)
        return STEP_STANDBY;
    return lag(n, sv->id) <= LAG_MAX ? STEP_VOTER : STEP_NONE;
}

/* Both are candidates for a vote: does a come before b? */
static bool before(struct po__node *n, const struct po__members_view *v, const struct po__server *a,
                   const struct po__server *b)
{
    unsigned in_a = 0, in_b = 0;
    for (unsigned i = 0; i < v->count; i++) {
        if (v->servers[i].role != PO__VOTER)
            continue;
        struct po__slice zone = zone_of(n, v->servers[i].id);
        in_a += po__slice_eq(zone, zone_of(n, a->id));
        in_b += po__slice_eq(zone, zone_of(n, b->id));
    }
    return in_a != in_b ? in_a < in_b : a->id < b->id;
}

static bool wants_vote_now(struct po__node *n, uint64_t id)
{
    struct po__member_info info;
    return po__model_member(n->model, id, &info) && info.wish == PO__WISH_VOTER_NOW;
}

static void change_role(struct po__node *n, const struct po__server *sv, int role)
{
    static const char *const names[] = {
        [PO__STANDBY] = "standby", [PO__VOTER] = "voter", [PO__SPARE] = "spare"};
    n->changes.about = sv->id;
    if (po__members_set_role(n, sv->id, role))
        po__info(&n->log, "member.role", "node %llu at %s: from %s to %s",
                 (unsigned long long)sv->id, sv->address, names[sv->role], names[role]);
}

/* True: something is still to be done, now or later. */
static bool fulfil_wishes(struct po__node *n, const struct po__members_view *v)
{
    const struct po__server *standby = NULL, *demote = NULL, *vote = NULL;
    unsigned candidates = 0;
    bool open = false, now = false;
    for (unsigned i = 0; i < v->count; i++) {
        const struct po__server *sv = &v->servers[i];
        enum step step = next_step(n, v, sv, &open);
        standby = step == STEP_STANDBY && !standby ? sv : standby;
        demote = step == STEP_DEMOTE && (!demote || sv->id != n->identity.node_id) ? sv : demote;
        if (step != STEP_VOTER)
            continue;
        candidates++;
        bool urgent = wants_vote_now(n, sv->id);
        if (!vote || (urgent && !now) || (urgent == now && before(n, v, sv, vote)))
            vote = sv;
        now = now || urgent;
    }
    if (n->changes.running || n->handover.state != PO__HANDOVER_IDLE)
        return true;
    if (standby)
        change_role(n, standby, PO__STANDBY);
    else if (vote && (v->voters > 1 || candidates > 1 || now))
        change_role(n, vote, PO__VOTER);
    else if (demote && demote->id == n->identity.node_id)
        (void)po__handover_begin(n, 0); /* the next leader demotes this one */
    else if (demote)
        change_role(n, demote, PO__STANDBY);
    return open || demote;
}

void po__members_change_failed(struct po__node *n, int code)
{
    if (code == PO_ENOTLEADER || code == PO_EUNKNOWN || code == PO_ECLOSED || code == PO_EFAULT)
        return; /* not the member's fault */
    n->changes.retry_ms = po__node_now(n) + FAILED_MS;
    po__warn(&n->log, "member.role", "node %llu did not answer or not keep up (%s); trying again",
             (unsigned long long)n->changes.about, po_err_name(code));
}

/* ---- the preferred zone ---- */

void po__members_elected(struct po__node *n)
{
    uint64_t from = po__node_now(n) + (uint64_t)PREFER_FIRST * n->opts.election_ms;
    n->changes.look = true;
    n->changes.retry_ms = 0;
    if (n->changes.prefer_ms < from)
        n->changes.prefer_ms = from;
}

static void prefer_zone(struct po__node *n, const struct po__members_view *v, uint64_t now)
{
    struct po__changes *g = &n->changes;
    uint64_t best = 0;
    if (!n->prefer_zone[0] || strcmp(n->zone, n->prefer_zone) == 0 || now < g->prefer_ms)
        return;
    for (unsigned i = 0; i < v->count && !best; i++) {
        const struct po__server *sv = &v->servers[i];
        if (sv->role == PO__VOTER && po__members_up(n, sv->id) && lag(n, sv->id) <= LAG_MAX &&
            po__slice_eq(zone_of(n, sv->id), po__str(n->prefer_zone)))
            best = sv->id;
    }
    if (!best || po__handover_begin(n, best))
        return;
    if (now - g->preferred_ms > PREFER_FORGET_MS)
        g->prefer_again_ms = 0;
    g->prefer_again_ms =
        g->prefer_again_ms ? g->prefer_again_ms * 2 : (uint64_t)PREFER_AGAIN * n->opts.election_ms;
    if (g->prefer_again_ms > PREFER_AGAIN_MAX_MS)
        g->prefer_again_ms = PREFER_AGAIN_MAX_MS;
    g->preferred_ms = now;
    g->prefer_ms = now + g->prefer_again_ms;
    po__info(&n->log, "member.prefer", "node %llu of the preferred zone %s is to lead",
             (unsigned long long)best, n->prefer_zone);
}

bool po__members_auto(struct po__node *n, uint64_t now)
{
    struct po__members_view v;
    struct po__replica_status st;
    po__members_view(n, &v);
    po__replica_status(n->replica, &st);
    if (st.membership_busy || now < n->changes.retry_ms)
        return true;
    if (drop_a_record(n, &v) || fulfil_wishes(n, &v))
        return true;
    prefer_zone(n, &v, now);
    return n->handover.state != PO__HANDOVER_IDLE;
}

/* ---- the list ---- */

static const char *note(struct po__node *n, const struct po__members_view *v,
                        const struct po__server *sv)
{
    struct po__member_info info;
    if (!po__model_member(n->model, sv->id, &info))
        return sv->role == PO__VOTER ? "never started" : "expected: start it with --join";
    if (sv->role == PO__VOTER)
        return info.wish == PO__WISH_STANDBY ? "is to become a standby" : "";
    if (sv->role == PO__STANDBY && info.wish == PO__WISH_STANDBY)
        return "stays a standby until it is promoted";
    if (!po__members_up(n, sv->id))
        return "not connected: it becomes a voter when it is back";
    if (lag(n, sv->id) > LAG_MAX || sv->role == PO__SPARE)
        return "catching up";
    return v->voters == 1 && info.wish != PO__WISH_VOTER_NOW
               ? "waits for a second standby: one voter grows to three"
               : "about to become a voter";
}

void po__members_encode(struct po__node *n, struct po__buf *out)
{
    struct po__members_view v;
    struct po__replica_status st;
    po__members_view(n, &v);
    po__replica_status(n->replica, &st);
    po__mpw_map(out, 4);
    po__mpw_cstr(out, "change_pending");
    po__mpw_bool(out, st.membership_busy);
    po__mpw_cstr(out, "leader_id");
    po__mpw_uint(out, n->leader_id);
    po__mpw_cstr(out, "members");
    po__mpw_array(out, v.count);
    for (unsigned i = 0; i < v.count; i++)
        po__member_encode(n, &v.servers[i], lag(n, v.servers[i].id), note(n, &v, &v.servers[i]),
                          out);
    po__mpw_cstr(out, "voters");
    po__mpw_uint(out, v.voters);
}
