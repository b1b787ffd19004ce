#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/node.h>
#include "sim.h"

#define TERMS_MAX 65536

struct matched { /* an entry seen in some log: index and term determine it and its predecessor's
                    term */
    uint64_t term, term_before;
    uint32_t crc;
    struct matched *next;
};

static struct {
    uint64_t leader_of[TERMS_MAX]; /* id */
    struct matched *seen[SIM_INDEX_MAX];
    uint64_t command_at[SIM_INDEX_MAX]; /* applied; 0: none seen */
    uint64_t term_at[SIM_INDEX_MAX];
    uint64_t digest_at[SIM_INDEX_MAX];
    uint64_t index_of[SIM_COMMAND_MAX]; /* of each command */
    uint64_t acked;                     /* highest index whose proposer was told so */
    uint64_t applied;                   /* highest index applied anywhere */
    uint64_t acked_at_election[SIM_NODES_MAX + 1];
} o;

void oracle_reset(void)
{
    for (size_t i = 0; i < SIM_INDEX_MAX; i++) {
        while (o.seen[i]) {
            struct matched *m = o.seen[i];
            o.seen[i] = m->next;
            free(m);
        }
    }
    memset(&o, 0, sizeof o);
}

static void describe(struct sim *s, struct sim_node *n)
{
    struct po__replica_status st;

    if (!n->replica) {
        printf("  %llu is down\n", (unsigned long long)n->id);
        return;
    }
    po__replica_status(n->replica, &st);
    printf(
        "  %llu: role %d%s leader %llu term %llu snapshot %llu log %llu..%llu stored %llu commit "
        "%llu applied %llu%s, clock %llu ms, next %llu ms, servers",
        (unsigned long long)n->id, st.role, st.leader_ready ? " ready" : "",
        (unsigned long long)st.leader_id, (unsigned long long)st.term,
        (unsigned long long)st.snapshot_index, (unsigned long long)n->replica->log.first,
        (unsigned long long)st.last_index, (unsigned long long)st.stored_index,
        (unsigned long long)st.commit_index, (unsigned long long)st.applied_index,
        st.membership_change_pending ? " change pending" : "",
        (unsigned long long)sim_node_ms(s, n),
        (unsigned long long)po__replica_deadline_ms(n->replica));
    for (unsigned i = 0; i < n->replica->servers.count; i++)
        printf(" %llu%c", (unsigned long long)n->replica->servers.servers[i].id,
               "sV-"[n->replica->servers.servers[i].role]);
    printf("\n");
}

void oracle_fail(struct sim *s, const char *fmt, ...)
{
    va_list args;

    printf("FAILED seed %llu at %.6f s: ", (unsigned long long)s->seed, (double)s->now_us / 1e6);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    for (unsigned i = 0; i < s->count; i++)
        describe(s, &s->nodes[i]);
    printf("replay: build/tests/sim/test_sim --seeds %llu %llu --trace\n",
           (unsigned long long)s->seed, (unsigned long long)s->seed);
    fflush(stdout);
    exit(1);
}

/* Election safety: one term, one leader. */
void oracle_leader(struct sim *s, struct sim_node *n, uint64_t term)
{
    if (term >= TERMS_MAX)
        oracle_fail(s, "terms run away: %llu", (unsigned long long)term);
    if (o.leader_of[term] && o.leader_of[term] != n->id)
        oracle_fail(s, "election safety: %llu and %llu both lead term %llu",
                    (unsigned long long)o.leader_of[term], (unsigned long long)n->id,
                    (unsigned long long)term);
    o.leader_of[term] = n->id;
    o.acked_at_election[n->id] = o.acked;
    s->stats.elections++;
}

/* Leader completeness: what was acknowledged before it was elected is applied when it is ready. */
void oracle_ready(struct sim *s, struct sim_node *n)
{
    struct po__replica_status st;
    po__replica_status(n->replica, &st);
    if (st.applied_index < o.acked_at_election[n->id])
        oracle_fail(s,
                    "leader completeness: %llu is ready at %llu, but %llu was acknowledged before",
                    (unsigned long long)n->id, (unsigned long long)st.applied_index,
                    (unsigned long long)o.acked_at_election[n->id]);
}

/* State machine safety, and nothing twice. */
void oracle_applied(struct sim *s, struct sim_node *n, uint64_t index, uint64_t term,
                    uint64_t command)
{
    if (index >= SIM_INDEX_MAX || command == 0 || command >= SIM_COMMAND_MAX)
        oracle_fail(s, "the run outgrew its tables: index %llu, command %llu",
                    (unsigned long long)index, (unsigned long long)command);
    if (o.command_at[index] && (o.command_at[index] != command || o.term_at[index] != term))
        oracle_fail(s,
                    "state machine safety: index %llu is command %llu of term %llu at %llu, but "
                    "%llu of %llu elsewhere",
                    (unsigned long long)index, (unsigned long long)command,
                    (unsigned long long)term, (unsigned long long)n->id,
                    (unsigned long long)o.command_at[index], (unsigned long long)o.term_at[index]);
    o.command_at[index] = command;
    o.term_at[index] = term;
    if (o.index_of[command] && o.index_of[command] != index)
        oracle_fail(s, "command %llu applied twice: at %llu and %llu", (unsigned long long)command,
                    (unsigned long long)o.index_of[command], (unsigned long long)index);
    o.index_of[command] = index;
    if (index > o.applied)
        o.applied = index;
    if (o.digest_at[index] && o.digest_at[index] != n->machine.digest)
        oracle_fail(s, "digests differ at index %llu on %llu", (unsigned long long)index,
                    (unsigned long long)n->id);
    o.digest_at[index] = n->machine.digest;
}

void oracle_restored(struct sim *s, struct sim_node *n, uint64_t index)
{
    uint64_t at = n->machine.index;

    if (at > index)
        oracle_fail(s, "a snapshot of index %llu holds a state of %llu", (unsigned long long)index,
                    (unsigned long long)at);
    if (at && o.digest_at[at] != n->machine.digest)
        oracle_fail(s, "the snapshot of index %llu restored on %llu differs",
                    (unsigned long long)index, (unsigned long long)n->id);
}

void oracle_acked(struct sim *s, uint64_t index)
{
    (void)s;
    if (index > o.acked)
        o.acked = index;
}

uint64_t oracle_acked_index(void)
{
    return o.acked;
}

/* A linearizable read sees at least what was acknowledged before it was asked. */
void oracle_read(struct sim *s, struct sim_node *n, uint64_t index, uint64_t acked_before)
{
    struct po__replica_status st;

    po__replica_status(n->replica, &st);
    if (index < acked_before || st.applied_index < index)
        oracle_fail(s, "stale read on %llu: index %llu, applied %llu, acknowledged before it %llu",
                    (unsigned long long)n->id, (unsigned long long)index,
                    (unsigned long long)st.applied_index, (unsigned long long)acked_before);
}

static void match(struct sim *s, struct sim_node *n, const struct po__rec *rec,
                  uint64_t term_before)
{
    if (rec->index >= SIM_INDEX_MAX)
        oracle_fail(s, "the run outgrew its tables: index %llu", (unsigned long long)rec->index);
    for (struct matched *m = o.seen[rec->index]; m; m = m->next) {
        if (m->term != rec->term)
            continue;
        if (m->crc != rec->crc || m->term_before != term_before)
            oracle_fail(s, "log matching: index %llu of term %llu differs on %llu",
                        (unsigned long long)rec->index, (unsigned long long)rec->term,
                        (unsigned long long)n->id);
        return;
    }
    struct matched *m = calloc(1, sizeof *m);
    if (!m)
        oracle_fail(s, "no memory left");
    *m = (struct matched){rec->term, term_before, rec->crc, o.seen[rec->index]};
    o.seen[rec->index] = m;
}

/* Log matching. A truncation moves the end back, so what was checked may have been replaced:
 * `checked` follows. */
void oracle_logs(struct sim *s, struct sim_node *n)
{
    const struct po__log *log = &n->replica->log;
    uint64_t last = po__log_last(log), from = n->checked < last ? n->checked + 1 : last;

    /* Look again at a few before: they may have been truncated and written anew since. */
    from = from > 8 ? from - 8 : 1;
    if (from <= log->first)
        from = log->first + 1;
    for (uint64_t i = from; i <= last; i++)
        match(s, n, po__log_get(log, i)->rec, po__log_get(log, i - 1)->rec->term);
    n->checked = last;
}

void oracle_end(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);

    if (!leader || !leader->ready)
        oracle_fail(s, "liveness: no leader is ready after healing");
    for (unsigned i = 0; i < s->count; i++) {
        struct sim_node *n = &s->nodes[i];
        const struct po__conf_server *c = po__conf_find(&leader->replica->servers, n->id);
        if (!c || c->role == PO__SPARE)
            continue;
        if (n->machine.index < o.acked || n->machine.digest != leader->machine.digest)
            oracle_fail(s, "liveness: %llu (role %d) has applied %llu of %llu, leader %llu",
                        (unsigned long long)n->id, c->role, (unsigned long long)n->machine.index,
                        (unsigned long long)o.acked, (unsigned long long)leader->machine.index);
    }
}
