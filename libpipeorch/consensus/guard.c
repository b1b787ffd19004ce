/* The guards around libraft's core, 0.22.1.
 *
 * Each was found by simulation or by a directed case to break safety, liveness or memory when
 * missing (tests/unit/consensus/test_guard.c shows each of them). Places are given as file:line of
 * the library's sources. They read its state directly: there is no other way to see what it is
 * about to do. */
#include "core_raft.h"

#include <string.h>

unsigned po__guards_off;

static bool on(unsigned guard)
{
    return !(po__guards_off & PO__GUARD(guard));
}

static unsigned voters(const struct raft_configuration *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n; i++)
        n += c->servers[i].role == RAFT_VOTER;
    return n;
}

static bool is_voter(const struct raft_configuration *c, raft_id id)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->servers[i].id == id)
            return c->servers[i].role == RAFT_VOTER;
    return false;
}

static bool in_log(const struct raft *r, raft_index index)
{
    return index > r->trail.offset && index <= raft_last_index((struct raft *)r);
}

/* replication.c:604,685 look up the term of the previous entry; below the snapshot the answer is
 * "none", so the entries that follow look new: they are appended again from there (reading out of
 * bounds, or truncating what is committed). Everything up to a snapshot is committed and equal on
 * all nodes, so the message may as well begin there. */
void po__guard_append_below_snapshot(const struct raft *r, struct raft_append_entries *ae,
                                     unsigned *skip)
{
    raft_index snapshot = r->trail.snapshot.index;

    *skip = 0;
    if (!on(1) || r->snapshot.installing || snapshot == 0 || ae->prev_log_index >= snapshot ||
        in_log(r, ae->prev_log_index))
        return;
    raft_index below = snapshot - ae->prev_log_index;
    *skip = below < ae->n_entries ? (unsigned)below : ae->n_entries;
    ae->prev_log_index = snapshot;
    ae->prev_log_term = r->trail.snapshot.term;
    ae->n_entries -= *skip;
}

/* progress.c:373: a probing leader takes a delayed rejection at its word and moves next_index to or
 * below match_index; the difference of the two is unsigned and wraps. A rejection of something the
 * peer has already acknowledged is old news. */
void po__guard_stale_rejection(const struct raft *r, raft_id peer,
                               struct raft_append_entries_result *result)
{
    raft_index match;

    if (!on(2) || r->state != RAFT_LEADER || result->rejected == 0 ||
        result->term != r->current_term || raft_match_index(r, peer, &match) != 0)
        return;
    if (result->rejected <= match) {
        result->rejected = 0;
        result->last_log_index = 0;
    }
}

/* convert.c:129 makes the only voter leader at once, in the term it happens to be in. That term may
 * have had another leader, or our vote for one: two leaders in one term, and committed entries that
 * differ. */
bool po__guard_sole_voter(const struct po__conf *conf, uint64_t id)
{
    return on(3) && po__conf_voters(conf) == 1 && po__conf_is_voter(conf, id);
}

static bool sole_voter(const struct raft *r)
{
    return on(3) && voters(&r->configuration) == 1 && is_voter(&r->configuration, r->id);
}

bool po__guard_sole_voter_timeout(struct raft *r, raft_time now)
{
    if (r->state != RAFT_FOLLOWER || !sole_voter(r) || r->snapshot.installing ||
        r->last_stored < raft_last_index(r) || now < raft_timeout(r))
        return false;
    r->current_term++;
    r->voted_for = r->id;
    return true;
}

bool po__guard_sole_voter_timeout_now(const struct raft *r)
{
    return sole_voter(r);
}

/* timeout.c:97 lets a candidate that is not elected stand again without a pre-vote, and with the
 * right to depose a leader if it was once told to take over. A node that is cut off, or was removed
 * and does not know it, raises its term with every timeout, and each of its requests that gets
 * through deposes a healthy leader. The results of the votes of before are told apart by their term
 * and their pre-vote flag (recv_request_vote_result.c:62,72). */
void po__guard_candidate_timeout(struct raft *r, raft_time now)
{
    if (!on(13) || r->state != RAFT_CANDIDATE || now < raft_timeout(r))
        return;
    r->candidate_state.in_pre_vote = r->pre_vote;
    r->candidate_state.disrupt_leader = false;
}

/* Before an entry of the own term is committed, a leader does not know which configuration counts:
 * one that an earlier leader left uncommitted may still win, and two changes in flight have no
 * majority in common. */
bool po__guard_change_allowed(const struct raft *r, raft_index own_term_committed, unsigned count)
{
    if (!on(4))
        return true;
    return r->state == RAFT_LEADER && own_term_committed > 0 && count == 1 &&
           r->configuration_uncommitted_index == 0 && r->leader_state.promotee_id == 0;
}

/* replication.c:851 gives every CHANGE of a batch the index of the batch's first entry. */
unsigned po__guard_append_run(const struct raft_entry *entries, unsigned from, unsigned count)
{
    unsigned end = from + 1;
    while (end < count && !(on(5) && entries[end].type == RAFT_CHANGE))
        end++;
    return end - from;
}

raft_index po__guard_change_proven(const struct raft *r, const struct raft_append_entries *ae,
                                   raft_term own_prev_term)
{
    raft_index uncommitted = r->configuration_uncommitted_index;

    if (!on(5) || r->state != RAFT_FOLLOWER || r->snapshot.installing || uncommitted == 0 ||
        ae->n_entries == 0 || ae->entries[0].type != RAFT_CHANGE || ae->term < r->current_term ||
        uncommitted > ae->prev_log_index || own_prev_term != ae->prev_log_term)
        return 0;
    return uncommitted;
}

/* recv_request_vote.c:116 answers a denied pre-vote with the candidate's term, so a candidate that
 * is behind never learns of the higher one and asks for ever. */
void po__guard_prevote_denial(const struct raft *r, struct raft_message *m)
{
    struct raft_request_vote_result *v = &m->request_vote_result;

    if (on(6) && m->type == RAFT_REQUEST_VOTE_RESULT && v->pre_vote && !v->vote_granted &&
        r->current_term > v->term)
        v->term = r->current_term;
}

/* election.c:208 and timeout.c:52: a node that does not know yet that it votes refuses a candidate
 * whose configuration needs that vote, and, having no election of its own, keeps a dead leader for
 * ever and refuses because of that. Granting is safe: a candidate counts only voters of its own
 * configuration, and the log comparison is unchanged. */
void po__guard_nonvoter_begin(struct po__guard_nonvoter *g, struct raft *r, raft_time last_append,
                              raft_time now)
{
    *g = (struct po__guard_nonvoter){0};
    if (!on(7) || r->state != RAFT_FOLLOWER || is_voter(&r->configuration, r->id))
        return;
    g->active = true;
    g->configuration = r->configuration;
    g->self = (struct raft_server){.id = r->id, .address = r->address, .role = RAFT_VOTER};
    r->configuration.servers = &g->self;
    r->configuration.n = 1;
    if (now - last_append >= r->election_timeout) {
        g->forgot = true;
        g->leader = r->follower_state.current_leader.id;
        r->follower_state.current_leader.id = 0;
    }
}

void po__guard_nonvoter_end(struct po__guard_nonvoter *g, struct raft *r)
{
    if (!g->active)
        return;
    r->configuration = g->configuration;
    if (g->forgot && r->state == RAFT_FOLLOWER && r->follower_state.current_leader.id == 0)
        r->follower_state.current_leader.id = g->leader;
}

/* recv_request_vote_result.c:32 reads candidate_state before it has checked that there is one. */
bool po__guard_drop_vote_result(const struct raft *r)
{
    return on(8) && r->state != RAFT_CANDIDATE;
}

/* convert.c:208: a new leader appends its first entry in the step that elects it only if its log
 * goes beyond what it knows to be committed. Otherwise a driver can append one only after the empty
 * message that announces the leader has left, and until that is answered the core sends nothing
 * more: a whole round trip until the term's first commit, for nothing. So for this one step the
 * core's commit index is one less. Nobody acts on it: followers take the maximum, and so do we. */
uint64_t po__guard_first_entry_begin(struct raft *r)
{
    uint64_t commit = r->commit_index;
    if (r->state == RAFT_CANDIDATE && commit > 0 && commit == raft_last_index(r))
        r->commit_index--;
    return commit;
}

void po__guard_first_entry_end(struct raft *r, uint64_t commit)
{
    if (r->commit_index < commit)
        r->commit_index = commit;
}

/* trail.c:369: the snapshot's entry is no longer in the log that the install began to replace; the
 * trail's offset would go back, and commits with it. */
bool po__guard_skip_snapshot(const struct raft *r, raft_index index)
{
    return on(9) && (r->snapshot.installing || index <= r->trail.snapshot.index);
}

/* raft.c:603: a demoted server's last_send never moves again, so the leader's timeout lies in the
 * past for ever and the loop spins. A timer that fell due after the last step is not postponed. */
uint64_t po__guard_timeout(uint64_t timeout, uint64_t last_step)
{
    if (on(10) && last_step != UINT64_MAX && timeout <= last_step)
        return last_step + PO__TIMEOUT_FLOOR_MS;
    return timeout;
}

/* replication.c:812 takes min(leader_commit, last new entry), which may be below what is committed
 * here already. */
uint64_t po__guard_commit(uint64_t seen, uint64_t core)
{
    return on(11) && core < seen ? seen : core;
}

/* A crash between "snapshot installed" and "log reset" leaves a log that ends below the snapshot or
 * belongs to another history. */
bool po__guard_discard_log(uint64_t snapshot_index, uint64_t snapshot_term, uint64_t first,
                           uint64_t last, uint64_t term_at_snapshot)
{
    if (!on(12) || snapshot_index == 0)
        return false;
    return last < snapshot_index || first > snapshot_index + 1 ||
           (term_at_snapshot != 0 && term_at_snapshot != snapshot_term);
}

bool po__guard_other_leader(const struct raft *r, const struct raft_message *m)
{
    raft_term term = m->type == RAFT_APPEND_ENTRIES     ? m->append_entries.term
                     : m->type == RAFT_INSTALL_SNAPSHOT ? m->install_snapshot.term
                                                        : 0;
    return r->state == RAFT_LEADER && term == r->current_term;
}

void po__guard_answer_to_past(bool past, struct raft_message *m)
{
    if (past && m->type == RAFT_APPEND_ENTRIES_RESULT)
        m->append_entries_result.last_log_index = 0;
}
