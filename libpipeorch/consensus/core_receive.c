/* Messages into the core: translated, guarded, and for AppendEntries cut into runs (guard 5). */
#include "core_impl.h"

#include "../base/alloc.h"
#include "../base/assert.h"
#include <pipeorch/error.h>

static void message_fill(struct raft_message *to, uint64_t peer, const char *address,
                         const struct po__msg *m)
{
    *to = (struct raft_message){.server_id = peer, .server_address = address};
    switch (m->type) {
    case PO__MSG_VOTE:
        to->type = RAFT_REQUEST_VOTE;
        to->request_vote = (struct raft_request_vote){
            .version = 2,
            .term = m->term,
            .candidate_id = m->vote.candidate,
            .last_log_index = m->vote.last_index,
            .last_log_term = m->vote.last_term,
            .disrupt_leader = m->vote.disrupt_leader,
            .pre_vote = m->vote.pre_vote,
        };
        break;
    case PO__MSG_VOTE_RESULT:
        to->type = RAFT_REQUEST_VOTE_RESULT;
        to->request_vote_result = (struct raft_request_vote_result){
            .version = 2,
            .term = m->term,
            .vote_granted = m->vote_result.granted,
            .pre_vote = m->vote_result.pre_vote,
            .capacity = PO__CORE_CAPACITY,
        };
        break;
    case PO__MSG_APPEND_RESULT:
        to->type = RAFT_APPEND_ENTRIES_RESULT;
        to->append_entries_result = (struct raft_append_entries_result){
            .version = 1,
            .term = m->term,
            .rejected = m->append_result.rejected,
            .last_log_index = m->append_result.last_index,
            .capacity = PO__CORE_CAPACITY,
        };
        break;
    case PO__MSG_TIMEOUT_NOW:
        to->type = RAFT_TIMEOUT_NOW;
        to->timeout_now = (struct raft_timeout_now){
            .version = 1,
            .term = m->term,
            .last_log_index = m->timeout_now.last_index,
            .last_log_term = m->timeout_now.last_term,
        };
        break;
    default:
        PO_PRE(!"a message of the core's");
    }
}

/* The leader whose process is gone (hint.c) is none while a vote is asked for, and is afterwards
 * what it was. Returns whom to put back. */
static raft_id mask_gone(struct po__core *c)
{
    raft_id gone = c->gone;

    if (gone == 0 || c->raft.state != RAFT_FOLLOWER ||
        c->raft.follower_state.current_leader.id != gone)
        return 0;
    c->raft.follower_state.current_leader.id = 0;
    return gone;
}

static void unmask_gone(struct po__core *c, raft_id gone)
{
    if (gone && c->raft.state == RAFT_FOLLOWER && c->raft.follower_state.current_leader.id == 0)
        c->raft.follower_state.current_leader.id = gone;
}

static void heard_of_leader(struct po__core *c, uint64_t now)
{
    c->last_append_ms = now;
    c->gone = 0;
}

static int receive_step(struct po__core *c, uint64_t now, struct raft_message *m)
{
    struct raft_event e = {.type = RAFT_RECEIVE, .receive.message = m};
    struct po__guard_nonvoter guard = {0};
    struct raft_update u;

    if (m->type != RAFT_REQUEST_VOTE && m->type != RAFT_REQUEST_VOTE_RESULT)
        return po__core_step(c, now, &e);
    po__core_begin(c, now, &e, &u);
    if (m->type == RAFT_REQUEST_VOTE_RESULT) {
        uint64_t commit = po__guard_first_entry_begin(&c->raft);
        int elected = raft_step(&c->raft, &e, &u);
        po__guard_first_entry_end(&c->raft, commit);
        return po__core_finish(c, &e, elected, &u);
    }
    raft_id gone = mask_gone(c);
    po__guard_nonvoter_begin(&guard, &c->raft, c->last_append_ms, now);
    int rv = raft_step(&c->raft, &e, &u);
    po__guard_nonvoter_end(&guard, &c->raft);
    unmask_gone(c, gone);
    return po__core_finish(c, &e, rv, &u);
}

/* One run of entries in one step. entries is the caller's array, reused. */
static int append_step(struct po__core *c, uint64_t now, struct raft_message *m,
                       struct raft_entry *entries, const struct po__core_entry *given,
                       unsigned count)
{
    void *batch = count ? raft_malloc(1) : NULL; /* the core insists on owning one per message */

    for (unsigned i = 0; i < count; i++)
        entries[i].batch = batch;
    m->append_entries.entries = count ? entries : NULL;
    m->append_entries.n_entries = count;
    c->given = given;
    c->given_count = count;
    int rv = receive_step(c, now, m);
    c->given = NULL;
    c->given_count = 0;
    return rv;
}

/* Term of our entry at index as the log and the snapshot know it, 0 if neither does. */
static raft_term term_at(const struct po__core *c, const struct po__log *log, uint64_t index)
{
    const struct po__log_slot *s = po__log_get(log, index);
    if (s)
        return s->rec->term;
    return index == c->raft.trail.snapshot.index ? c->raft.trail.snapshot.term : 0;
}

static int configuration_step(struct po__core *c, uint64_t now, uint64_t index,
                              const struct po__log *log)
{
    const struct po__log_slot *s = po__log_get(log, index);
    PO_INVARIANT(s && s->rec->type == RAFT_CHANGE);
    return po__core_configuration(c, now, index, po__rec_payload(s->rec), s->rec->len);
}

static int receive_append(struct po__core *c, uint64_t now, struct raft_message *m,
                          const struct po__msg *from, const struct po__log *log)
{
    struct raft_append_entries *ae = &m->append_entries;
    unsigned skip, count = from->append.count;
    struct raft_entry *entries = NULL;
    struct po__core_entry *given = NULL;
    int rv = 0;

    m->type = RAFT_APPEND_ENTRIES;
    *ae = (struct raft_append_entries){.version = 1,
                                       .term = from->term,
                                       .prev_log_index = from->append.prev_index,
                                       .prev_log_term = from->append.prev_term,
                                       .leader_commit = from->append.commit,
                                       .n_entries = count};
    if (po__guard_other_leader(&c->raft, m))
        return PO_EPROTO;
    c->answers_past = ae->term < c->raft.current_term;
    if (!c->answers_past)
        heard_of_leader(c, now);
    po__guard_append_below_snapshot(&c->raft, ae, &skip);
    count -= skip;
    if (count == 0)
        return append_step(c, now, m, NULL, NULL, 0);

    entries = po__calloc(count, sizeof *entries);
    given = po__calloc(count, sizeof *given);
    if (!entries || !given) {
        rv = PO_ENOMEM;
        goto out;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct po__rec *rec = from->append.recs[skip + i];
        given[i] = (struct po__core_entry){from->append.block, rec};
        entries[i].term = rec->term;
        entries[i].type = (enum raft_entry_type)rec->type;
        entries[i].buf.base = (void *)po__rec_payload(rec);
        entries[i].buf.len = rec->len;
    }
    const uint64_t prev_index = ae->prev_log_index, prev_term = ae->prev_log_term;
    for (unsigned at = 0, run; at < count && rv == 0; at += run) {
        run = po__guard_append_run(entries, at, count);
        ae->prev_log_index = prev_index + at;
        ae->prev_log_term = at ? entries[at - 1].term : prev_term;
        ae->entries = entries + at;
        ae->n_entries = run;
        uint64_t proven =
            po__guard_change_proven(&c->raft, ae, term_at(c, log, ae->prev_log_index));
        if (proven)
            rv = configuration_step(c, now, proven, log);
        if (rv == 0)
            rv = append_step(c, now, m, entries + at, given + at, run);
    }
out:
    po__free(entries);
    po__free(given);
    return rv;
}

int po__core_receive(struct po__core *c, uint64_t now, uint64_t peer, const char *address,
                     const struct po__msg *m, const struct po__log *log)
{
    struct raft_message rm = {.server_id = peer, .server_address = address};

    if (c->dead)
        return PO_EFAULT;
    if (m->type == PO__MSG_APPEND)
        return receive_append(c, now, &rm, m, log);
    message_fill(&rm, peer, address, m);
    if (m->type == PO__MSG_VOTE && m->vote.candidate != peer)
        return PO_EPROTO;
    if (m->type == PO__MSG_VOTE_RESULT && po__guard_drop_vote_result(&c->raft))
        return 0;
    if (m->type == PO__MSG_TIMEOUT_NOW && po__guard_sole_voter_timeout_now(&c->raft))
        return 0;
    if (m->type == PO__MSG_APPEND_RESULT)
        po__guard_stale_rejection(&c->raft, peer, &rm.append_entries_result);
    return receive_step(c, now, &rm);
}

int po__core_receive_snapshot(struct po__core *c, uint64_t now, uint64_t peer, const char *address,
                              uint64_t term, const struct po__snapshot_meta *meta, bool *wanted)
{
    struct raft_message m = {
        .type = RAFT_INSTALL_SNAPSHOT, .server_id = peer, .server_address = address};

    *wanted = false;
    if (c->dead)
        return PO_EFAULT;
    m.install_snapshot = (struct raft_install_snapshot){.version = 0,
                                                        .term = term,
                                                        .last_index = meta->index,
                                                        .last_term = meta->term,
                                                        .conf_index = meta->conf_index};
    if (po__guard_other_leader(&c->raft, &m))
        return PO_EPROTO;
    if (c->raft.snapshot.installing) /* the core would keep, and lose, what we give it */
        return 0;
    po__core_conf_decode(&m.install_snapshot.conf, meta->conf, meta->conf_len);
    m.install_snapshot.data.base = raft_malloc(1); /* the content is in the store */
    m.install_snapshot.data.len = 1;
    c->answers_past = term < c->raft.current_term;
    if (!c->answers_past)
        heard_of_leader(c, now);
    int rv = receive_step(c, now, &m);
    *wanted = c->raft.snapshot.installing;
    return rv;
}
