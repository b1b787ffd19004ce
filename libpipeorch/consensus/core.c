/* Driving libraft: one step and its work, the core's life, every event but messages. */
#include "core_impl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include <pipeorch/node.h>
#include "../base/alloc.h"
#include "../base/assert.h"

#define CATCH_UP_ROUNDS 10

/* Dead cores. Their memory cannot be trusted enough to be freed; here it stays reachable, so that
 * leak checkers stay useful. */
static _Atomic(struct po__core *) graveyard;

/* ---- configurations ---- */

/* Our decoder has accepted these bytes, so the library's can only fail for memory, which the heap
 * rules out. */
void po__core_conf_decode(struct raft_configuration *to, const void *data, size_t len)
{
    struct raft_buffer buf = {(void *)data, len};
    struct po__conf check;

    PO_INVARIANT(po__conf_decode(&check, data, len) == 0);
    PO_INVARIANT(raft_configuration_decode(&buf, to) == 0);
}

static void metadata_fill(struct raft_snapshot_metadata *to, const struct po__snapshot_meta *meta)
{
    to->index = meta->index;
    to->term = meta->term;
    to->configuration_index = meta->conf_index;
    po__core_conf_decode(&to->configuration, meta->conf, meta->conf_len);
}

/* ---- one step ---- */

static int die(struct po__core *c, int code, const char *what)
{
    c->dead = true;
    snprintf(c->error, sizeof c->error, "%s", what);
    return code;
}

/* Errors after which the core goes on; everything else kills it. */
static int classify(struct po__core *c, const struct raft_event *e, int rv)
{
    static const char *const names[] = {[RAFT_START] = "start",
                                        [RAFT_RECEIVE] = "receive",
                                        [RAFT_PERSISTED_ENTRIES] = "persisted entries",
                                        [RAFT_PERSISTED_SNAPSHOT] = "persisted snapshot",
                                        [RAFT_CONFIGURATION] = "configuration",
                                        [RAFT_SNAPSHOT] = "snapshot",
                                        [RAFT_TIMEOUT] = "timeout",
                                        [RAFT_SUBMIT] = "submit",
                                        [RAFT_CATCH_UP] = "catch-up",
                                        [RAFT_TRANSFER] = "transfer"};
    char text[256];

    if (e->type == RAFT_SUBMIT && rv == RAFT_NOTLEADER)
        return PO_ENOTLEADER;
    if (e->type == RAFT_SUBMIT && rv == RAFT_NOSPACE)
        return PO_EBUSY;
    if (e->type == RAFT_SUBMIT && rv == RAFT_CANTCHANGE && e->submit.n == 1)
        return PO_ESTATE;
    if (e->type == RAFT_TRANSFER && rv == RAFT_NOTLEADER)
        return PO_ENOTLEADER;
    if (e->type == RAFT_TRANSFER && (rv == RAFT_NOTFOUND || rv == RAFT_BADID))
        return PO_ENOTFOUND;
    snprintf(
        text, sizeof text,
        rv == RAFT_SHUTDOWN
            ? "consensus: %s: the leader's log contradicts entries that are committed here (%d); "
              "this node's or the leader's data is damaged: do not restart it before that is "
              "understood"
            : "consensus: the step '%s' failed with libraft error %d",
        names[e->type], rv);
    return die(c, PO_EFAULT, text);
}

/* The barrier that the core makes for a new leader is not one of ours: its memory is the library's.
 */
static int append_barrier(struct po__core *c, uint64_t index, const struct raft_entry *e)
{
    struct po__block *b = po__block_new(PO__REC_BYTES(e->buf.len));
    if (!b)
        return PO_ENOMEM;
    struct po__rec *rec = (void *)b->data;
    *rec = (struct po__rec){
        .len = (uint32_t)e->buf.len, .index = index, .term = e->term, .type = e->type};
    memcpy(rec + 1, e->buf.base, e->buf.len);
    po__rec_seal(rec);
    struct po__core_entry entry = {b, rec};
    int rv = c->ops->append(c->arg, &entry, 1);
    po__block_unref(b);
    return rv;
}

static int do_append(struct po__core *c, const struct raft_update *u)
{
    uint64_t index = u->entries.index;
    int rv;

    if (u->entries.batch == &c->raft.barrier) {
        rv = append_barrier(c, index, &c->raft.barrier);
    } else {
        PO_INVARIANT(c->given_count >= u->entries.n);
        const struct po__core_entry *e = c->given + (c->given_count - u->entries.n);
        PO_INVARIANT(e[0].rec->index == index);
        rv = c->ops->append(c->arg, e, u->entries.n);
    }
    raft_free(u->entries.batch[0].batch);
    return rv;
}

static void do_send(struct po__core *c, struct raft_message *from)
{
    struct po__msg m = {0};

    po__guard_prevote_denial(&c->raft, from);
    po__guard_answer_to_past(c->answers_past, from);
    switch (from->type) {
    case RAFT_APPEND_ENTRIES:
        m.type = PO__MSG_APPEND;
        m.term = from->append_entries.term;
        m.append.prev_index = from->append_entries.prev_log_index;
        m.append.prev_term = from->append_entries.prev_log_term;
        m.append.commit = from->append_entries.leader_commit;
        m.append.count = from->append_entries.n_entries;
        break;
    case RAFT_APPEND_ENTRIES_RESULT:
        m.type = PO__MSG_APPEND_RESULT;
        m.term = from->append_entries_result.term;
        m.append_result.rejected = from->append_entries_result.rejected;
        m.append_result.last_index = from->append_entries_result.last_log_index;
        break;
    case RAFT_REQUEST_VOTE:
        m.type = PO__MSG_VOTE;
        m.term = from->request_vote.term;
        m.vote.candidate = from->request_vote.candidate_id;
        m.vote.last_index = from->request_vote.last_log_index;
        m.vote.last_term = from->request_vote.last_log_term;
        m.vote.disrupt_leader = from->request_vote.disrupt_leader;
        m.vote.pre_vote = from->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        m.type = PO__MSG_VOTE_RESULT;
        m.term = from->request_vote_result.term;
        m.vote_result.granted = from->request_vote_result.vote_granted;
        m.vote_result.pre_vote = from->request_vote_result.pre_vote;
        break;
    case RAFT_INSTALL_SNAPSHOT:
        m.type = PO__MSG_SNAPSHOT;
        m.term = from->install_snapshot.term;
        m.snapshot.index = from->install_snapshot.last_index;
        m.snapshot.last_term = from->install_snapshot.last_term;
        break;
    case RAFT_TIMEOUT_NOW:
        m.type = PO__MSG_TIMEOUT_NOW;
        m.term = from->timeout_now.term;
        m.timeout_now.last_index = from->timeout_now.last_log_index;
        m.timeout_now.last_term = from->timeout_now.last_log_term;
        break;
    }
    c->ops->send(c->arg, from->server_id, &m);
}

/* What raft_step asks for, in the order that safety asks for. */
static int do_update(struct po__core *c, const struct raft_update *u)
{
    int rv;

    if (u->flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) {
        rv = c->ops->vote(c->arg, c->raft.current_term, c->raft.voted_for);
        if (rv)
            return die(c, rv, "consensus: term and vote could not be made durable");
    }
    if (u->flags & (RAFT_UPDATE_STATE))
        c->ops->role(c->arg);
    if (u->flags & (RAFT_UPDATE_ENTRIES)) {
        rv = do_append(c, u);
        if (rv)
            return die(c, rv, "consensus: entries could not be queued to the log");
    }
    if (u->flags & (RAFT_UPDATE_SNAPSHOT)) {
        raft_configuration_close((struct raft_configuration *)&u->snapshot.metadata.configuration);
        raft_free(u->snapshot.chunk.base);
        c->ops->install(c->arg);
    }
    if (u->flags & (RAFT_UPDATE_MESSAGES))
        for (unsigned i = 0; i < u->messages.n; i++)
            do_send(c, &u->messages.batch[i]);
    c->answers_past = false;
    c->commit = po__guard_commit(c->commit, raft_commit_index(&c->raft));
    c->ops->settled(c->arg);
    return c->dead ? PO_EFAULT : 0;
}

void po__core_begin(struct po__core *c, uint64_t now, struct raft_event *e, struct raft_update *u)
{
    PO_PRE(now >= c->raft.now);
    e->time = now;
    e->capacity = PO__CORE_CAPACITY;
    memset(u, 0, sizeof *u);
}

int po__core_finish(struct po__core *c, const struct raft_event *e, int rv,
                    const struct raft_update *u)
{
    return rv ? classify(c, e, rv) : do_update(c, u);
}

int po__core_step(struct po__core *c, uint64_t now, struct raft_event *e)
{
    struct raft_update u;

    po__core_begin(c, now, e, &u);
    return po__core_finish(c, e, raft_step(&c->raft, e, &u), &u);
}

/* ---- life ---- */

int po__core_create(struct po__core **core, const struct po__core_opts *opts)
{
    struct po__core *c = po__calloc(1, sizeof *c);
    if (!c)
        return PO_ENOMEM;
    c->ops = opts->ops;
    c->arg = opts->arg;
    c->last_timeout_ms = UINT64_MAX;
    if (raft_init(&c->raft, NULL, NULL, opts->id, opts->address)) {
        po__free(c);
        return PO_ENOMEM;
    }
    c->raft.tracer = NULL;
    raft_seed(&c->raft, (unsigned)(opts->seed ^ (opts->seed >> 32)));
    c->election_ms = opts->election_ms;
    raft_set_election_timeout(&c->raft, opts->election_ms);
    raft_set_heartbeat_timeout(&c->raft, opts->heartbeat_ms);
    /* How soon the core asks again for a snapshot that has not arrived. Short, because the one it
     * waits for may have been overtaken by a newer one meanwhile, and then nothing else makes it
     * ask; a transfer under way is not disturbed by it. */
    raft_set_install_snapshot_timeout(&c->raft, opts->election_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, PO__INFLIGHT_ENTRIES);
    raft_set_capacity_threshold(&c->raft, 0);
    raft_set_max_catch_up_rounds(&c->raft, CATCH_UP_ROUNDS);
    raft_set_max_catch_up_round_duration(&c->raft, 10 * opts->election_ms);
    *core = c;
    return 0;
}

void po__core_destroy(struct po__core *c)
{
    if (!c)
        return;
    if (c->dead) {
        c->buried = atomic_load(&graveyard);
        while (!atomic_compare_exchange_weak(&graveyard, &c->buried, c))
            ;
        return;
    }
    raft_close(&c->raft, NULL);
    po__free(c);
}

/* The library frees this array and its batch if the step fails, so both are of its heap; the
 * payloads stay in the log's blocks. */
static struct raft_entry *start_entries(const struct po__log *log)
{
    struct raft_entry *entries = raft_calloc(log->count, sizeof *entries);
    void *batch = raft_malloc(1);
    for (size_t i = 0; i < log->count; i++) {
        const struct po__rec *rec = po__log_get(log, log->first + i)->rec;
        entries[i].term = rec->term;
        entries[i].type = (enum raft_entry_type)rec->type;
        entries[i].buf.base = (void *)po__rec_payload(rec);
        entries[i].buf.len = rec->len;
        entries[i].batch = batch;
    }
    return entries;
}

bool po__core_discard_log(const struct po__snapshot_meta *snapshot, const struct po__log *log)
{
    const struct po__log_slot *s = po__log_get(log, snapshot->index);
    return po__guard_discard_log(snapshot->index, snapshot->term, log->first, po__log_last(log),
                                 s ? s->rec->term : 0);
}

/* Guard 3 at start: the configuration that counts is the last one in the log, committed or not,
 * else the snapshot's. */
static bool starts_alone(const struct po__core *c, const struct po__snapshot_meta *snapshot,
                         const struct po__log *log)
{
    const void *bytes = snapshot->conf;
    size_t len = snapshot->index ? snapshot->conf_len : 0;
    struct po__conf conf;

    for (uint64_t i = po__log_last(log); i >= log->first; i--) {
        const struct po__rec *rec = po__log_get(log, i)->rec;
        if (rec->type == RAFT_CHANGE) {
            bytes = po__rec_payload(rec);
            len = rec->len;
            break;
        }
    }
    return len && po__conf_decode(&conf, bytes, len) == 0 &&
           po__guard_sole_voter(&conf, c->raft.id);
}

int po__core_start(struct po__core *c, uint64_t now, uint64_t term, uint64_t vote,
                   const struct po__snapshot_meta *snapshot, const struct po__log *log)
{
    struct raft_event e = {.type = RAFT_START};
    struct raft_snapshot_metadata metadata = {0};

    PO_PRE(snapshot->index > 0 || log->first == 1);
    PO_PRE(term > 0 || (vote == 0 && snapshot->index == 0 && log->count == 0));
    if (starts_alone(c, snapshot, log)) {
        term++;
        vote = c->raft.id;
        int rv = c->ops->vote(c->arg, term, vote);
        if (rv)
            return die(c, rv, "consensus: term and vote could not be made durable");
    }
    e.start.term = term;
    e.start.voted_for = vote;
    e.start.start_index = log->first;
    if (snapshot->index) {
        metadata_fill(&metadata, snapshot);
        e.start.metadata = &metadata;
    }
    if (log->count) {
        e.start.entries = start_entries(log);
        e.start.n_entries = (unsigned)log->count;
    }
    c->last_append_ms = now;
    void *batch = log->count ? e.start.entries[0].batch : NULL;
    int rv = po__core_step(c, now, &e); /* if it fails, the core has freed the entries already */
    if (!c->dead) {
        raft_free(batch);
        raft_free(e.start.entries);
    }
    return rv;
}

/* ---- other events ---- */

int po__core_installed(struct po__core *c, uint64_t now, const struct po__snapshot_meta *meta)
{
    struct raft_event e = {.type = RAFT_PERSISTED_SNAPSHOT, .persisted_snapshot.last = true};

    if (c->dead)
        return PO_EFAULT;
    PO_PRE(c->raft.snapshot.installing && c->raft.state == RAFT_FOLLOWER);
    metadata_fill(&e.persisted_snapshot.metadata, meta);
    return po__core_step(c, now, &e);
}

int po__core_persisted(struct po__core *c, uint64_t now, uint64_t index)
{
    struct raft_event e = {.type = RAFT_PERSISTED_ENTRIES, .persisted_entries.index = index};

    if (c->dead)
        return PO_EFAULT;
    PO_PRE(!c->raft.snapshot.installing && index > c->raft.last_stored &&
           index <= raft_last_index(&c->raft));
    return po__core_step(c, now, &e);
}

int po__core_timeout(struct po__core *c, uint64_t now)
{
    struct raft_event e = {.type = RAFT_TIMEOUT};

    if (c->dead)
        return PO_EFAULT;
    if (po__guard_sole_voter_timeout(&c->raft, now)) {
        int rv = c->ops->vote(c->arg, c->raft.current_term, c->raft.voted_for);
        if (rv)
            return die(c, rv, "consensus: term and vote could not be made durable");
    }
    po__guard_candidate_timeout(&c->raft, now);
    c->last_timeout_ms = now;
    return po__core_step(c, now, &e);
}

enum po__campaign po__core_may_campaign(const struct po__core *c)
{
    const struct raft *r = &c->raft;
    bool asking = r->state == RAFT_CANDIDATE && r->candidate_state.in_pre_vote;

    if (c->dead || !(r->state == RAFT_FOLLOWER || asking) ||
        raft_role((struct raft *)r) != RAFT_VOTER)
        return PO__CAMPAIGN_NO;
    return r->snapshot.installing || r->last_stored < raft_last_index((struct raft *)r)
               ? PO__CAMPAIGN_LATER
               : PO__CAMPAIGN_NOW;
}

/* The library has no call for this; a timeout with the shortest timer does it. 0 would be a
 * division by zero. The timer is set back before the step's work, in which the next one is drawn.
 */
int po__core_campaign(struct po__core *c, uint64_t now, bool *begun)
{
    struct raft_event e = {.type = RAFT_TIMEOUT};
    const unsigned shortest_ms = 1; /* drawn from [1, 2] */
    struct raft_update u;

    *begun = false;
    if (c->dead)
        return PO_EFAULT;
    PO_PRE(po__core_may_campaign(c) == PO__CAMPAIGN_NOW);
    if (now < c->raft.election_timer_start + 2 * shortest_ms)
        return 0;
    *begun = true;
    raft_set_election_timeout(&c->raft, shortest_ms);
    if (po__guard_sole_voter_timeout(&c->raft, now)) {
        int rv = c->ops->vote(c->arg, c->raft.current_term, c->raft.voted_for);
        if (rv)
            return die(c, rv, "consensus: term and vote could not be made durable");
    }
    c->last_timeout_ms = now;
    po__core_begin(c, now, &e, &u);
    int rv = raft_step(&c->raft, &e, &u);
    raft_set_election_timeout(&c->raft, c->election_ms);
    return po__core_finish(c, &e, rv, &u);
}

int po__core_submit(struct po__core *c, uint64_t now, const struct po__core_entry *entry)
{
    const struct po__rec *rec = entry->rec;
    struct raft_entry re = {.term = rec->term, .type = (enum raft_entry_type)rec->type};
    struct raft_event e = {.type = RAFT_SUBMIT, .submit = {&re, 1}};

    if (c->dead)
        return PO_EFAULT;
    if (c->raft.state != RAFT_LEADER)
        return PO_ENOTLEADER;
    PO_PRE(rec->index == raft_last_index(&c->raft) + 1 && rec->term == c->raft.current_term);
    if (rec->type == RAFT_CHANGE &&
        !po__guard_change_allowed(&c->raft, c->own_term_committed, e.submit.n))
        return PO_ESTATE;
    re.buf.base = (void *)po__rec_payload(rec);
    re.buf.len = rec->len;
    re.batch = raft_malloc(1);
    c->given = entry;
    c->given_count = 1;
    int rv = po__core_step(c, now, &e);
    c->given = NULL;
    c->given_count = 0;
    if (rv && !c->dead)
        raft_free(re.batch);
    return rv;
}

int po__core_configuration(struct po__core *c, uint64_t now, uint64_t index, const void *conf,
                           size_t len)
{
    struct raft_event e = {.type = RAFT_CONFIGURATION, .configuration.index = index};

    if (c->dead)
        return PO_EFAULT;
    po__core_conf_decode(&e.configuration.conf, conf, len);
    return po__core_step(c, now, &e);
}

int po__core_snapshot(struct po__core *c, uint64_t now, const struct po__snapshot_meta *meta,
                      uint64_t trailing_count, bool *skipped)
{
    struct raft_event e = {.type = RAFT_SNAPSHOT, .snapshot.trailing = (unsigned)trailing_count};

    if (c->dead)
        return PO_EFAULT;
    PO_PRE(trailing_count <= UINT32_MAX);
    *skipped = po__guard_skip_snapshot(&c->raft, meta->index);
    if (*skipped)
        return 0;
    metadata_fill(&e.snapshot.metadata, meta);
    return po__core_step(c, now, &e);
}

int po__core_catch_up(struct po__core *c, uint64_t now, uint64_t id)
{
    struct raft_event e = {.type = RAFT_CATCH_UP, .catch_up.server_id = id};

    if (c->dead)
        return PO_EFAULT;
    if (c->raft.state != RAFT_LEADER)
        return PO_ENOTLEADER;
    PO_PRE(po__core_catch_up_state(c, id) != PO__CATCH_UP_RUNNING);
    return po__core_step(c, now, &e);
}

int po__core_transfer(struct po__core *c, uint64_t now, uint64_t id)
{
    struct raft_event e = {.type = RAFT_TRANSFER, .transfer.server_id = id};

    return c->dead ? PO_EFAULT : po__core_step(c, now, &e);
}

void po__core_own_term_committed(struct po__core *c, uint64_t index)
{
    c->own_term_committed = index;
}
