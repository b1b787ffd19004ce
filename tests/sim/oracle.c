/* What must never happen. Each check names the property that it is for. All but liveness are made
 * after every event, on what that event can have changed, so that a run of a second of virtual time
 * costs milliseconds.
 *
 * The five safety properties of the Raft paper (its figure 3) are here by name, with what the
 * product promises on top: nothing acknowledged is lost, nothing is applied twice, reads are
 * linearizable, and a restart finds whatever was reported durable before it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/node.h>
#include "sim.h"
#include "sim_version.h"

#define TERMS_MAX 65536

struct matched { /* an entry seen in some log: index and term determine it and its predecessor's
                    term */
    uint64_t term, term_before; /* before: 0 if never seen */
    uint32_t crc;
    struct matched *next;
};

static struct {
    uint64_t leader_of[TERMS_MAX]; /* id */
    bool stood_for[TERMS_MAX];     /* somebody was a candidate in it */
    struct matched *seen[SIM_INDEX_MAX];
    uint64_t committed_term[SIM_INDEX_MAX]; /* of the entry committed there; 0: none seen */
    uint64_t committed_in[SIM_INDEX_MAX];   /* the term of who first said so */
    uint64_t command_at[SIM_INDEX_MAX];     /* applied; 0: none seen */
    uint64_t digest_at[SIM_INDEX_MAX];
    uint64_t index_of[SIM_COMMAND_MAX]; /* of each command */
    uint64_t acked_at[SIM_COMMAND_MAX]; /* index that its proposer was told; 0: it was not */
    uint64_t acked;                     /* highest index whose proposer was told so */
    uint64_t committed;                 /* highest index */
    uint64_t acked_at_election[SIM_NODES_MAX + 1];
    const char *replay;
} o;

typedef unsigned long long ull;

void oracle_reset(void)
{
    const char *replay = o.replay;

    for (size_t i = 0; i < SIM_INDEX_MAX; i++) {
        while (o.seen[i]) {
            struct matched *m = o.seen[i];
            o.seen[i] = m->next;
            free(m);
        }
    }
    memset(&o, 0, sizeof o);
    o.replay = replay;
}

void oracle_replay_with(const char *command)
{
    o.replay = command;
}

/* ---- the report ---- */

static void describe(struct sim *s, struct sim_node *n)
{
    struct po__replica_status st;

    if (!n->replica) {
        printf("  %llu is down\n", (ull)n->id);
        return;
    }
    po__replica_status(n->replica, &st);
    printf(
        "  %llu: role %d%s leader %llu term %llu snapshot %llu log %llu..%llu stored %llu commit "
        "%llu applied %llu%s, clock %llu ms, next %llu ms, servers",
        (ull)n->id, st.role, st.leader_ready ? " ready" : "", (ull)st.leader_id, (ull)st.term,
        (ull)st.snapshot_index, (ull)n->replica->log.first, (ull)st.last_index,
        (ull)st.stored_index, (ull)st.commit_index, (ull)st.applied_index,
        st.membership_change_pending ? " change pending" : "", (ull)sim_node_ms(s, n),
        (ull)po__replica_deadline_ms(n->replica));
    for (unsigned i = 0; i < n->replica->servers.count; i++)
        printf(" %llu%c", (ull)n->replica->servers.servers[i].id,
               "sV-"[n->replica->servers.servers[i].role]);
    printf("\n");
}

void oracle_report(struct sim *s, const char *what)
{
    printf("FAILED seed %llu at %.6f s: %s\n", (ull)s->seed, (double)s->now_us / 1e6, what);
    printf("version: %s\n", SIM_VERSION);
    for (unsigned i = 0; i < s->count; i++)
        describe(s, &s->nodes[i]);
    trace_print(stdout);
    printf("FAILED seed %llu at %.6f s: %s\n", (ull)s->seed, (double)s->now_us / 1e6, what);
    printf("replay: %s --seeds %llu %llu --trace\n", o.replay, (ull)s->seed, (ull)s->seed);
    fflush(stdout);
}

void oracle_fail(struct sim *s, const char *fmt, ...)
{
    char what[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    oracle_report(s, what);
    exit(1);
}

/* ---- leaders ---- */

/* Leader completeness: what was committed in an earlier term is in the log of the leader of a later
 * one, or in its snapshot. */
static void complete(struct sim *s, const struct sim_node *n, uint64_t term)
{
    const struct po__log *log = &n->replica->log;

    for (uint64_t i = log->first; i <= o.committed; i++) {
        const struct po__log_slot *slot = po__log_get(log, i);
        if (o.committed_term[i] == 0 || o.committed_in[i] >= term)
            continue;
        if (!slot || slot->rec->term != o.committed_term[i])
            oracle_fail(s,
                        "leader completeness: %llu leads term %llu, its log has term %llu at %llu, "
                        "but %llu was committed there in term %llu",
                        (ull)n->id, (ull)term, slot ? (ull)slot->rec->term : 0, (ull)i,
                        (ull)o.committed_term[i], (ull)o.committed_in[i]);
    }
}

void oracle_stands(uint64_t term)
{
    if (term < TERMS_MAX)
        o.stood_for[term] = true;
}

/* Election safety: one term, one leader. */
void oracle_leader(struct sim *s, struct sim_node *n, uint64_t term)
{
    if (term >= TERMS_MAX)
        oracle_fail(s, "terms run away: %llu", (ull)term);
    if (o.leader_of[term] && o.leader_of[term] != n->id)
        oracle_fail(s, "election safety: %llu and %llu both lead term %llu", (ull)o.leader_of[term],
                    (ull)n->id, (ull)term);
    o.leader_of[term] = n->id;
    o.acked_at_election[n->id] = o.acked;
    if (n->replica)
        complete(s, n, term);
    s->stats.elections++;
}

/* Acknowledged is never lost: what was acknowledged before it was elected is applied when a leader
 * is ready to serve. */
void oracle_ready(struct sim *s, struct sim_node *n)
{
    struct po__replica_status st;
    po__replica_status(n->replica, &st);
    if (st.applied_index < o.acked_at_election[n->id])
        oracle_fail(s, "acknowledged and lost: %llu is ready at %llu, but %llu was acknowledged",
                    (ull)n->id, (ull)st.applied_index, (ull)o.acked_at_election[n->id]);
}

/* Leader append-only: while it leads, nothing that was in its log is overwritten or removed. A slot
 * written again carries the number of another write. */
static void append_only(struct sim *s, struct sim_node *n)
{
    const struct po__log *log = &n->replica->log;
    struct oracle_node *seen = &n->seen;
    uint64_t last = po__log_last(log);
    const struct po__log_slot *end = po__log_get(log, seen->led_last),
                              *now = po__log_get(log, last);

    if (n->role != PO_ROLE_LEADER) {
        seen->led_term = 0;
        return;
    }
    if (seen->led_term == n->term &&
        (last < seen->led_last || (end && end->write != seen->led_write)))
        oracle_fail(s, "leader append-only: %llu leads term %llu, its log ended at %llu and %s",
                    (ull)n->id, (ull)n->term, (ull)seen->led_last,
                    last < seen->led_last ? "is shorter now" : "that entry was written again");
    seen->led_term = n->term;
    seen->led_last = last;
    seen->led_write = now ? now->write : 0;
}

/* ---- logs ---- */

static void match(struct sim *s, struct sim_node *n, const struct po__rec *rec,
                  uint64_t term_before)
{
    if (rec->index >= SIM_INDEX_MAX)
        oracle_fail(s, "the run outgrew its tables: index %llu", (ull)rec->index);
    for (struct matched *m = o.seen[rec->index]; m; m = m->next) {
        if (m->term != rec->term)
            continue;
        if (m->crc != rec->crc || (m->term_before && term_before && m->term_before != term_before))
            oracle_fail(s, "log matching: index %llu of term %llu differs on %llu", (ull)rec->index,
                        (ull)rec->term, (ull)n->id);
        if (term_before)
            m->term_before = term_before;
        return;
    }
    struct matched *m = calloc(1, sizeof *m);
    if (!m)
        oracle_fail(s, "no memory left");
    *m = (struct matched){rec->term, term_before, rec->crc, o.seen[rec->index]};
    o.seen[rec->index] = m;
}

/* Log matching: if two logs have an entry of the same index and term, they are equal up to it. It
 * is enough that index and term determine the entry and the term of the one before. Writes are
 * numbered and a log is written front to back, so what is new is the end whose numbers are new. */
static void logs_match(struct sim *s, struct sim_node *n)
{
    const struct po__log *log = &n->replica->log;
    uint64_t last = po__log_last(log), i = last, newest = n->seen.write;
    const struct po__log_slot *slot, *before;

    for (; i >= log->first; i--) {
        slot = po__log_get(log, i);
        if (n->seen.compared && slot->write <= n->seen.write)
            break;
        before = po__log_get(log, i - 1);
        match(s, n, slot->rec, before ? before->rec->term : 0);
        if (slot->write > newest)
            newest = slot->write;
    }
    n->seen.compared = true;
    n->seen.write = newest;
}

/* State machine safety, in the log already: an index is committed with one entry. And what is
 * committed stays so: the index does not go back. */
static void commits(struct sim *s, struct sim_node *n)
{
    const struct po__log *log = &n->replica->log;
    uint64_t commit = po__core_commit(n->replica->core), i = n->seen.commit + 1;

    if (po__core_installing(n->replica->core))
        return;
    if (commit < n->seen.commit)
        oracle_fail(s, "the commit index of %llu fell from %llu to %llu", (ull)n->id,
                    (ull)n->seen.commit, (ull)commit);
    for (i = i < log->first ? log->first : i; i <= commit; i++) {
        const struct po__log_slot *slot = po__log_get(log, i);
        if (!slot || i >= SIM_INDEX_MAX)
            oracle_fail(s, "%llu is committed on %llu and not in its log", (ull)i, (ull)n->id);
        if (o.committed_term[i] == 0) {
            o.committed_term[i] = slot->rec->term;
            o.committed_in[i] = n->term;
        } else if (o.committed_term[i] != slot->rec->term) {
            oracle_fail(s,
                        "state machine safety: index %llu is committed with an entry of term %llu "
                        "on %llu, but of term %llu elsewhere",
                        (ull)i, (ull)slot->rec->term, (ull)n->id, (ull)o.committed_term[i]);
        }
    }
    n->seen.commit = commit;
    if (commit > o.committed)
        o.committed = commit;
}

/* ---- durability ---- */

static uint64_t term_of(const struct sim_node *n, uint64_t index)
{
    const struct po__log_slot *slot = po__log_get(&n->replica->log, index);
    return slot ? slot->rec->term : index < SIM_INDEX_MAX ? o.committed_term[index] : 0;
}

/* One vote in a term, and terms only rise, whatever crashes are in between. */
static void votes(struct sim *s, struct sim_node *n, const struct po__replica_status *st)
{
    struct oracle_node *seen = &n->seen;

    if (st->term < seen->term)
        oracle_fail(s, "durability: the term of %llu fell from %llu to %llu", (ull)n->id,
                    (ull)seen->term, (ull)st->term);
    if (st->term == seen->term && seen->vote && st->vote != seen->vote)
        oracle_fail(s, "durability: %llu voted for %llu in term %llu, and now for %llu", (ull)n->id,
                    (ull)seen->vote, (ull)st->term, (ull)st->vote);
    if (st->term < TERMS_MAX && st->vote == n->id)
        o.stood_for[st->term] = true;
    /* Asking whether one may stand (pre-vote) raises no term. */
    if (st->term > seen->term && st->term > 1 && st->term < TERMS_MAX && !o.stood_for[st->term])
        oracle_fail(s, "%llu is in term %llu, for which nobody ever stood", (ull)n->id,
                    (ull)st->term);
    seen->term = st->term;
    seen->vote = st->vote;
}

static void durable(struct sim *s, struct sim_node *n)
{
    struct po__replica_status st;

    po__replica_status(n->replica, &st);
    votes(s, n, &st);
    if (st.snapshot_index < n->seen.snapshot)
        oracle_fail(s, "durability: the snapshot of %llu went back from %llu to %llu", (ull)n->id,
                    (ull)n->seen.snapshot, (ull)st.snapshot_index);
    n->seen.snapshot = st.snapshot_index;
    if (po__core_installing(n->replica->core))
        return;
    n->seen.stored = st.stored_index;
    n->seen.stored_term = term_of(n, st.stored_index);
}

/* What was reported durable is there after a restart. Nothing but an entry of a later term may have
 * taken its place. */
void oracle_started(struct sim *s, struct sim_node *n)
{
    struct oracle_node *seen = &n->seen;
    struct po__replica_status st;

    po__replica_status(n->replica, &st);
    uint64_t term = term_of(n, st.stored_index);
    if (term < seen->stored_term || (term == seen->stored_term && st.stored_index < seen->stored))
        oracle_fail(s,
                    "durability: %llu had stored %llu of term %llu, and restarts at %llu of term "
                    "%llu",
                    (ull)n->id, (ull)seen->stored, (ull)seen->stored_term, (ull)st.stored_index,
                    (ull)term);
    seen->compared = false;
    seen->write = seen->commit = seen->led_term = 0;
}

void oracle_settled(struct sim *s, struct sim_node *n)
{
    logs_match(s, n);
    append_only(s, n);
    commits(s, n);
    durable(s, n);
}

/* ---- the state machine ---- */

/* State machine safety: no two nodes apply different commands at an index, and what they make of
 * them is equal. Nothing is applied twice, on one node or at two indexes. */
void oracle_applied(struct sim *s, struct sim_node *n, uint64_t before, uint64_t index,
                    uint64_t term, uint64_t command)
{
    if (index >= SIM_INDEX_MAX || command == 0 || command >= SIM_COMMAND_MAX)
        oracle_fail(s, "the run outgrew its tables: index %llu, command %llu", (ull)index,
                    (ull)command);
    if (index <= before)
        oracle_fail(s, "applied twice: %llu applies %llu after %llu", (ull)n->id, (ull)index,
                    (ull)before);
    if (o.command_at[index] && o.command_at[index] != command)
        oracle_fail(s,
                    "state machine safety: index %llu is command %llu of term %llu at %llu, but "
                    "%llu elsewhere",
                    (ull)index, (ull)command, (ull)term, (ull)n->id, (ull)o.command_at[index]);
    o.command_at[index] = command;
    if (o.index_of[command] && o.index_of[command] != index)
        oracle_fail(s, "applied twice: command %llu at %llu and at %llu", (ull)command,
                    (ull)o.index_of[command], (ull)index);
    o.index_of[command] = index;
    if (o.digest_at[index] && o.digest_at[index] != n->machine.digest)
        oracle_fail(s, "digests differ: at index %llu, %llu has another state than those before",
                    (ull)index, (ull)n->id);
    o.digest_at[index] = n->machine.digest;
}

/* A snapshot holds the state of its index, not of one before or after it: the state says of which
 * command it is the last, and that is the last one up to the snapshot's index. */
void oracle_restored(struct sim *s, struct sim_node *n, uint64_t index)
{
    uint64_t at = n->machine.index;

    if (at > index)
        oracle_fail(s, "the snapshot of %llu restored on %llu holds the state of %llu", (ull)index,
                    (ull)n->id, (ull)at);
    for (uint64_t i = at + 1; i <= index && i < SIM_INDEX_MAX; i++)
        if (o.command_at[i])
            oracle_fail(s, "the snapshot of %llu restored on %llu lacks command %llu of %llu",
                        (ull)index, (ull)n->id, (ull)o.command_at[i], (ull)i);
    if (at && o.digest_at[at] != n->machine.digest)
        oracle_fail(s, "digests differ: the snapshot of %llu restored on %llu is another state",
                    (ull)index, (ull)n->id);
}

/* ---- clients ---- */

void oracle_acked(struct sim *s, uint64_t index, uint64_t command)
{
    if (o.acked_at[command])
        oracle_fail(s, "command %llu is acknowledged twice: at %llu and at %llu", (ull)command,
                    (ull)o.acked_at[command], (ull)index);
    o.acked_at[command] = index;
    if (index > o.acked)
        o.acked = index;
}

uint64_t oracle_acked_index(void)
{
    return o.acked;
}

/* Linearizable reads: a read sees at least what was acknowledged before it was asked. */
void oracle_read(struct sim *s, struct sim_node *n, uint64_t index, uint64_t acked_before)
{
    struct po__replica_status st;

    po__replica_status(n->replica, &st);
    if (index < acked_before || st.applied_index < index)
        oracle_fail(s, "stale read on %llu: index %llu, applied %llu, acknowledged before it %llu",
                    (ull)n->id, (ull)index, (ull)st.applied_index, (ull)acked_before);
}

/* ---- the end of a run ---- */

/* Acknowledged is never lost: every command whose proposer was told so is in the state of the
 * leader, where it was said to be. The digests say that what a state holds are the commands below
 * its index. */
static void nothing_lost(struct sim *s, const struct sim_node *leader)
{
    uint64_t count = 0;

    for (uint64_t i = 1; i <= leader->machine.index; i++)
        count += o.command_at[i] != 0;
    if (count != leader->machine.commands)
        oracle_fail(
            s, "acknowledged and lost: %llu commands were applied up to %llu, %llu has %llu",
            (ull)count, (ull)leader->machine.index, (ull)leader->id, (ull)leader->machine.commands);
    for (uint64_t c = 1; c < SIM_COMMAND_MAX; c++)
        if (o.acked_at[c] &&
            (o.acked_at[c] != o.index_of[c] || o.acked_at[c] > leader->machine.index))
            oracle_fail(s, "acknowledged and lost: command %llu at %llu; applied at %llu", (ull)c,
                        (ull)o.acked_at[c], (ull)o.index_of[c]);
}

void oracle_end(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);

    if (!leader || !leader->ready)
        oracle_fail(s, "liveness: no leader is ready after healing");
    nothing_lost(s, leader);
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        const struct po__conf_server *c = po__conf_find(&leader->replica->servers, n->id);
        if (!c || c->role == PO__SPARE)
            continue;
        if (n->machine.index < o.acked || n->machine.digest != leader->machine.digest)
            oracle_fail(s, "liveness: %llu (role %d) has applied %llu of %llu, leader %llu",
                        (ull)n->id, c->role, (ull)n->machine.index, (ull)o.acked,
                        (ull)leader->machine.index);
    }
}
