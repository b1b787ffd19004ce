/* The one door to <raft.h>: core*.c drive the library, guard.c looks into its state, nothing else
 * includes this.
 *
 * Guards must read and in two places write fields of struct raft (there is no accessor for the
 * follower's idea of its leader, or for raising the term of a sole voter), which is why a second
 * file sees them. */
#ifndef PO__CORE_RAFT_H
#define PO__CORE_RAFT_H

#include <raft.h>

#include "conf.h"

/* Tests only: bit n switches guard n off, to show that its test fails without it. */
extern unsigned po__guards_off;
#define PO__GUARD(n) (1u << (n))

/* 1. Rewrite an AppendEntries that begins below our snapshot so that it begins at it. *skip:
 * entries to leave out. */
void po__guard_append_below_snapshot(const struct raft *r, struct raft_append_entries *ae,
                                     unsigned *skip);

/* 2. Make a rejection that is older than what the peer has acknowledged harmless. */
void po__guard_stale_rejection(const struct raft *r, raft_id peer,
                               struct raft_append_entries_result *result);

/* 3. Is `id` the only voter of this configuration? Then it takes a new term, with its own vote,
 * before it may lead. */
bool po__guard_sole_voter(const struct po__conf *conf, uint64_t id);
/* The same at run time: true if a RAFT_TIMEOUT at `now` would make this follower leader by itself;
 * its term and vote are then raised in r and must be made durable before the step. */
bool po__guard_sole_voter_timeout(struct raft *r, raft_time now);
/* The third way in: a TimeoutNow makes a sole voter leader in its present term. Drop it. */
bool po__guard_sole_voter_timeout_now(const struct raft *r);

/* 4. May a CHANGE be submitted now? Only on a leader that has committed an entry of its own term,
 * with no change under way. */
bool po__guard_change_allowed(const struct raft *r, raft_index own_term_committed, unsigned count);

/* 5. How many of entries[from..count) may be given to the core in one RECEIVE: up to the next
 * CHANGE that is not first. */
unsigned po__guard_append_run(const struct raft_entry *entries, unsigned from, unsigned count);
/* A CHANGE about to be received proves that an earlier one in our log is committed (one at a time).
 * Returns the index of that one, for which RAFT_CONFIGURATION must be emitted first, or 0.
 * own_prev_term: term of our entry at ae's prev index, 0 if none. */
raft_index po__guard_change_proven(const struct raft *r, const struct raft_append_entries *ae,
                                   raft_term own_prev_term);

/* 6. A denied pre-vote is answered with our own term when that is higher. */
void po__guard_prevote_denial(const struct raft *r, struct raft_message *m);

/* 7. A node that is no voter in its own configuration answers RequestVote as if it were, and
 * forgets a leader that it has not heard of for an election timeout. Wrap the step in begin/end. */
struct po__guard_nonvoter {
    bool active, forgot;
    struct raft_configuration configuration; /* the real one, while the step runs */
    struct raft_server self;
    raft_id leader;
};
void po__guard_nonvoter_begin(struct po__guard_nonvoter *g, struct raft *r, raft_time last_append,
                              raft_time now);
void po__guard_nonvoter_end(struct po__guard_nonvoter *g, struct raft *r);

/* 8. Drop the result of a vote that we no longer run for. */
bool po__guard_drop_vote_result(const struct raft *r);
/* Around the step that may elect us: the first entry of the term goes with the announcement. */
uint64_t po__guard_first_entry_begin(struct raft *r);
void po__guard_first_entry_end(struct raft *r, uint64_t commit);

/* 9. Skip telling the core about a snapshot of ours that an install has overtaken. */
bool po__guard_skip_snapshot(const struct raft *r, raft_index index);

/* 10. When to wake up next, given when the last RAFT_TIMEOUT was stepped (UINT64_MAX: never). */
#define PO__TIMEOUT_FLOOR_MS 5
uint64_t po__guard_timeout(uint64_t timeout, uint64_t last_step);

/* 11. The commit index never falls. */
uint64_t po__guard_commit(uint64_t seen, uint64_t core);

/* 12. Must the log be discarded at load? last: index of its last record (first - 1 if empty);
 * term_at_snapshot: of its record at the snapshot's index, 0 if it has none. */
bool po__guard_discard_log(uint64_t snapshot_index, uint64_t snapshot_term, uint64_t first,
                           uint64_t last, uint64_t term_at_snapshot);

/* 13. A candidate whose time is up asks first again (pre-vote), and deposes nobody. */
void po__guard_candidate_timeout(struct raft *r, raft_time now);

/* Not numbered: one term has one leader. An AppendEntries or InstallSnapshot of our own term while
 * we lead would make the core write a follower's fields over its leader state (its check is an
 * assert). */
bool po__guard_other_leader(const struct raft *r, const struct raft_message *m);

/* Not numbered: the answer to a leader of an earlier term carries a last_log_index that was never
 * set (recv_append_entries.c:44, recv_install_snapshot.c:32 jump past it). Only its term matters:
 * send zero, not our stack. */
void po__guard_answer_to_past(bool past, struct raft_message *m);

#endif
