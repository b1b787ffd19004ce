#include "replica_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <pipeorch/node.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "heap.h"

/* ---- faults, entering and leaving ---- */

void po__fault(struct po__replica *r, int code, const char *fmt, ...)
{
    va_list args;

    if (r->fault)
        return;
    r->fault = code;
    va_start(args, fmt);
    vsnprintf(r->fault_message, sizeof r->fault_message, fmt, args);
    va_end(args);
    po__error(&r->o.log, "raft.fault", "%s", r->fault_message);
}

void po__check_core(struct po__replica *r, int rv)
{
    if (rv && po__core_role(r->core) == PO_ROLE_STOPPED)
        po__fault(r, rv, "%s", po__core_error(r->core));
}

static void drop_pending(struct po__replica *r)
{
    while (r->pending_count) {
        void *token = r->pending[r->pending_head].token;
        r->pending_head = (r->pending_head + 1) % r->o.inflight_max;
        r->pending_count--;
        r->o.state->dropped(r->o.state_arg, token);
    }
}

static void tell_role(struct po__replica *r)
{
    int role = po__core_role(r->core);
    uint64_t leader = po__core_leader(r->core), term = po__core_term(r->core);

    if (role == r->told.role && leader == r->told.leader && term == r->told.term &&
        r->ready == r->told.ready)
        return;
    r->told.role = role;
    r->told.leader = leader;
    r->told.term = term;
    r->told.ready = r->ready;
    r->o.state->role_changed(r->o.state_arg, role, leader, term, r->ready);
}

int po__enter(struct po__replica *r, uint64_t now_ms)
{
    PO_PRE(!r->settling); /* not from a callback */
    if (now_ms > r->now_ms)
        r->now_ms = now_ms;
    if (!r->fault && po__heap_exhausted())
        po__fault(r, PO_ENOMEM,
                  "the process has no memory left: this node stopped itself before its data could "
                  "suffer; free memory and restart the process");
    if (!r->fault && po__store_broken(r->o.store))
        po__fault(r, po__store_broken(r->o.store), "the store is broken: see its own message");
    return r->fault ? po__leave(r, PO_EFAULT) : 0;
}

int po__leave(struct po__replica *r, int rv)
{
    if (!r->fault) {
        tell_role(r);
        return rv;
    }
    if (!r->fault_told) {
        r->fault_told = true;
        r->ready = false;
        po__snapshot_stop(r);
        drop_pending(r);
        po__membership_lost(r, PO_EFAULT);
        po__reads_stop(r, PO_EFAULT);
        r->o.state->fault(r->o.state_arg, r->fault, r->fault_message);
    }
    return PO_EFAULT;
}

bool po__is_leader(const struct po__replica *r)
{
    return po__core_role(r->core) == PO_ROLE_LEADER;
}

const char *po__peer_address(const struct po__replica *r, uint64_t id)
{
    const struct po__conf_server *s = po__conf_find(&r->servers, id);
    return s ? s->address
             : "?"; /* a leader that we do not know yet: the core wants a text, nobody reads it */
}

/* ---- sending ---- */

static void send_frame(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    if (!r->o.transport)
        return;
    struct po__frame *f = po__wire_encode(m, &r->log);
    if (f) /* out of memory is a lost message: everything is sent again */
        r->o.transport->send(r->o.transport_arg, peer, f);
}

/* The core counts entries, networks count bytes: what does not fit into one frame goes into
 * several, what does not fit into the window stays here, and the peer's next answer brings the core
 * back to it. */
static void send_append(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__msg part = *m;
    uint32_t left = m->append.count;
    size_t queued = r->o.transport ? r->o.transport->queued_bytes(r->o.transport_arg, peer) : 0;

    do {
        size_t bytes = 0;
        part.append.count = 0;
        while (part.append.count < left && part.append.count < PO__WIRE_RECORDS_MAX &&
               bytes < PO__APPEND_FRAME_BYTES && queued + bytes < PO__APPEND_WINDOW_BYTES) {
            uint64_t index = part.append.prev_index + 1 + part.append.count;
            const struct po__log_slot *s = po__log_get(&r->log, index);
            PO_INVARIANT(s);
            bytes += PO__REC_BYTES(s->rec->len);
            part.append.count++;
        }
        send_frame(r, peer, &part);
        if (part.append.count == 0)
            return;
        left -= part.append.count;
        queued += bytes;
        part.append.prev_index += part.append.count;
        part.append.prev_term = po__log_get(&r->log, part.append.prev_index)->rec->term;
    } while (left && queued < PO__APPEND_WINDOW_BYTES);
}

void po__send(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    if (m->type == PO__MSG_APPEND)
        send_append(r, peer, m);
    else
        send_frame(r, peer, m);
}

/* ---- the work of a step (struct po__core_ops) ---- */

static int on_vote(void *arg, uint64_t term, uint64_t vote)
{
    struct po__replica *r = arg;
    return po__store_set_vote(r->o.store, term, vote);
}

static void on_role(void *arg)
{
    struct po__replica *r = arg;

    r->ready = false;
    po__core_own_term_committed(r->core, 0);
    r->barrier_needed = po__is_leader(r);
    po__info(&r->o.log, "raft.role", "%s in term %llu",
             po__is_leader(r)                              ? "leader"
             : po__core_role(r->core) == PO_ROLE_CANDIDATE ? "candidate"
                                                           : "follower",
             (unsigned long long)po__core_term(r->core));
}

static void write_done(void *arg, uint64_t token)
{
    struct po__replica *r = arg;
    if (token > r->write_durable)
        r->write_durable = token;
}

static int on_append(void *arg, const struct po__core_entry *entries, unsigned count)
{
    struct po__replica *r = arg;
    uint64_t first = entries[0].rec->index;

    PO_INVARIANT(first <= po__log_last(&r->log) + 1);
    if (first <= r->applied) {
        po__fault(r, PO_ECORRUPT,
                  "the leader's log contradicts the entry %llu, which is committed here: its data "
                  "or ours is damaged; "
                  "do not restart this node before that is understood",
                  (unsigned long long)first);
        return PO_ECORRUPT;
    }
    if (first <= po__log_last(&r->log)) {
        po__log_truncate(&r->log, first);
        r->servers_stale = true;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct po__rec *rec = entries[i].rec;
        po__log_append(&r->log, entries[i].block, rec, ++r->write_last);
        int rv = po__store_append(r->o.store, rec, write_done, r, r->write_last);
        if (rv)
            return rv;
        r->servers_stale |= rec->type == 3;
        if (po__is_leader(r) && rec->term == po__core_term(r->core))
            r->barrier_needed = false;
    }
    if (po__is_leader(r)) /* on its way to the disk before it is on its way to the peers */
        po__store_flush(r->o.store);
    return 0;
}

static void on_install(void *arg)
{
    struct po__replica *r = arg;
    r->servers_stale = true;
    po__snapshot_installing(r);
}

static void on_send(void *arg, uint64_t peer, const struct po__msg *m)
{
    struct po__replica *r = arg;
    if (m->type == PO__MSG_SNAPSHOT)
        po__snapshot_wanted(r, peer);
    else
        po__send(r, peer, m);
}

/* ---- applying ---- */

static void *take_token(struct po__replica *r, uint64_t index)
{
    struct po__pending *p = &r->pending[r->pending_head];

    if (r->pending_count == 0 || p->index != index)
        return NULL;
    r->pending_head = (r->pending_head + 1) % r->o.inflight_max;
    r->pending_count--;
    return p->token;
}

static void apply_one(struct po__replica *r, const struct po__rec *rec)
{
    int rv = 0;

    r->applied_bytes += PO__REC_BYTES(rec->len);
    if (rec->type == 1) {
        void *token = take_token(r, rec->index);
        rv = r->o.state->apply(r->o.state_arg, rec->index, rec->term, po__rec_payload(rec),
                               rec->len, token);
        if (rv)
            po__fault(r, rv, "the state machine refused the committed entry %llu: %s",
                      (unsigned long long)rec->index, po_strerror(rv));
    }
    r->applied = rec->index;
    if (po__is_leader(r) && rec->term == po__core_term(r->core) && !r->ready) {
        r->ready = true;
        po__core_own_term_committed(r->core, rec->index);
    }
    if (rec->type == 3) {
        r->conf.index = rec->index;
        r->conf.len = rec->len;
        memcpy(r->conf.bytes, po__rec_payload(rec), rec->len);
        r->servers_stale = true;
        po__check_core(
            r, po__core_configuration(r->core, r->now_ms, rec->index, r->conf.bytes, r->conf.len));
        po__membership_applied(r, rec->index);
    }
}

/* What is committed is in the log, except while a snapshot replaces it. */
static void apply_committed(struct po__replica *r)
{
    while (!r->fault && !po__core_installing(r->core) && r->applied < po__core_commit(r->core)) {
        const struct po__log_slot *s = po__log_get(&r->log, r->applied + 1);
        PO_INVARIANT(s);
        struct po__block *keep = po__block_ref(s->block);
        apply_one(r, s->rec);
        po__block_unref(keep);
    }
}

static void tell_servers(struct po__replica *r)
{
    struct po__server list[PO_MEMBERS_MAX];
    struct po__conf conf;

    if (!r->servers_stale)
        return;
    r->servers_stale = false;
    po__core_conf(r->core, &conf);
    if (po__conf_equal(&conf, &r->servers))
        return;
    r->servers = conf;
    for (unsigned i = 0; i < r->servers.count; i++)
        list[i] = (struct po__server){r->servers.servers[i].id, r->servers.servers[i].address,
                                      r->servers.servers[i].role};
    if (r->o.transport)
        r->o.transport->servers(r->o.transport_arg, list, r->servers.count);
}

static void submit_barrier(struct po__replica *r)
{
    uint64_t zero = 0, index;

    r->barrier_needed = false;
    int rv = po__submit(r, 2, &zero, sizeof zero, &index);
    if (rv && !r->fault)
        po__fault(r, rv, "a new leader could not append its first entry: %s", po_strerror(rv));
}

/* Runs after each step; steps made in here do not run it again, the loops below see their results.
 */
static void on_settled(void *arg)
{
    struct po__replica *r = arg;

    if (r->settling)
        return;
    r->settling = true;
    if (!po__is_leader(r)) {
        drop_pending(r);
        po__reads_lost(r);
        po__membership_lost(r, PO_ENOTLEADER);
    }
    tell_servers(r);
    apply_committed(r);
    if (!r->fault && r->barrier_needed && po__is_leader(r))
        submit_barrier(r);
    apply_committed(r);
    tell_servers(r);
    if (!r->fault)
        po__reads_applied(r);
    r->settling = false;
}

static const struct po__core_ops core_ops = {on_vote,    on_role, on_append,
                                             on_install, on_send, on_settled};

/* ---- appending our own ---- */

int po__reserve(struct po__replica *r, size_t entries_count)
{
    return po__log_reserve(&r->log, entries_count + 1); /* one more: a step may make us leader */
}

/* Seal and submit the record in `block`, whose len and type are set. */
static int submit_block(struct po__replica *r, struct po__block *block, uint64_t *index)
{
    struct po__rec *rec = (void *)block->data;
    struct po__core_entry entry = {block, rec};

    if (po__reserve(r, 1))
        return PO_ENOMEM;
    rec->index = *index = po__core_last(r->core) + 1;
    rec->term = po__core_term(r->core);
    rec->reserved = 0;
    po__rec_seal(rec);
    int rv = po__core_submit(r->core, r->now_ms, &entry);
    po__check_core(r, rv);
    return rv;
}

int po__submit(struct po__replica *r, uint32_t type, const void *data, size_t len, uint64_t *index)
{
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    if (!b)
        return PO_ENOMEM;
    struct po__rec *rec = (void *)b->data;
    *rec = (struct po__rec){.len = (uint32_t)len, .type = type};
    memcpy(rec + 1, data, len);
    int rv = submit_block(r, b, index);
    po__block_unref(b);
    return rv;
}

static uint64_t log_bytes_max(const struct po__replica *r)
{
    return r->o.trailing_bytes + 4 * r->o.snapshot_bytes + PO__LOG_SLACK_BYTES;
}

static struct po__block *block_of(const struct po__proposal *p)
{
    char *rec = (char *)p->payload - sizeof(struct po__rec);
    return (void *)(rec - offsetof(struct po__block, data));
}

int po__proposal_alloc(struct po__proposal *p, size_t cap)
{
    *p = (struct po__proposal){0};
    if (cap > PO__RECORD_MAX_BYTES)
        return PO_ETOOBIG;
    struct po__block *b = po__block_new(PO__REC_BYTES(cap));
    if (!b)
        return PO_ENOMEM;
    p->payload = (struct po__rec *)(void *)b->data + 1;
    p->cap = cap;
    return 0;
}

void po__proposal_free(struct po__proposal *p)
{
    if (p->payload)
        po__block_unref(block_of(p));
    *p = (struct po__proposal){0};
}

/* The log counts records, so a record must not sit in a block much larger than itself. */
static void proposal_shrink(struct po__proposal *p, size_t len)
{
    size_t bytes = PO__REC_BYTES(len);
    struct po__block *b = block_of(p);

    if (b->bytes / 2 < bytes)
        return;
    b = po__realloc(b, sizeof *b + bytes);
    if (!b)
        return; /* the old block is still whole */
    b->bytes = (uint32_t)bytes;
    p->payload = (struct po__rec *)(void *)b->data + 1;
    p->cap = len;
}

int po__replica_propose(struct po__replica *r, struct po__proposal *p, size_t len, void *token,
                        uint64_t now_ms)
{
    uint64_t index = 0;
    int rv = po__enter(r, now_ms);

    if (rv)
        return rv;
    PO_PRE(p->payload && len <= p->cap);
    if (!po__is_leader(r) || !r->ready)
        return po__leave(r, PO_ENOTLEADER);
    if (r->pending_count == r->o.inflight_max || r->log.bytes > log_bytes_max(r) ||
        po__store_queued_bytes(r->o.store) > PO__STORE_BACKLOG_BYTES)
        return po__leave(r, PO_EBUSY);
    proposal_shrink(p, len);
    struct po__block *b = block_of(p);
    struct po__rec *rec = (void *)b->data;
    *rec = (struct po__rec){.len = (uint32_t)len, .type = 1};
    unsigned at = (r->pending_head + r->pending_count) % r->o.inflight_max;
    r->pending[at] = (struct po__pending){po__core_last(r->core) + 1, token};
    r->pending_count++;
    rv = submit_block(r, b, &index);
    if (rv && !r->fault) {
        r->pending_count--;
        return po__leave(r, rv);
    }
    /* A fault inside the step drops the token with the others: the entry may be on its way to the
     * disk. */
    po__proposal_free(p);
    po__leave(r, 0);
    return 0;
}

unsigned po__replica_inflight(const struct po__replica *r)
{
    return r->pending_count;
}

/* ---- receiving ---- */

/* Without room for entries, the message still says that the leader lives and what is committed. */
static void shed_entries(const struct po__replica *r, struct po__msg *m)
{
    if (r->log.bytes <= log_bytes_max(r) + PO__LOG_SLACK_BYTES &&
        po__store_queued_bytes(r->o.store) <= PO__STORE_BACKLOG_BYTES)
        return;
    m->append.count = 0;
}

static int receive_core(struct po__replica *r, uint64_t peer, struct po__msg *m)
{
    size_t count = 0;

    if (m->type == PO__MSG_APPEND) {
        shed_entries(r, m);
        count = m->append.count;
    }
    if (po__reserve(r, count))
        return PO_ENOMEM;
    int rv = po__core_receive(r->core, r->now_ms, peer, po__peer_address(r, peer), m, &r->log);
    po__check_core(r, rv);
    return rv;
}

int po__replica_receive(struct po__replica *r, uint64_t peer_id, const void *data, size_t len,
                        uint64_t now_ms)
{
    struct po__msg m;
    int rv = po__enter(r, now_ms);

    if (rv)
        return rv;
    rv = peer_id == 0 || peer_id == r->o.id ? PO_EPROTO : po__wire_decode(&m, data, len);
    if (rv)
        return po__leave(r, rv);
    switch (m.type) {
    case PO__MSG_SNAPSHOT:
        rv = po__snapshot_chunk(r, peer_id, &m);
        break;
    case PO__MSG_SNAPSHOT_ACK:
        po__snapshot_ack(r, peer_id, &m);
        break;
    case PO__MSG_PING:
        po__reads_ping(r, peer_id, &m);
        break;
    case PO__MSG_PONG:
        po__reads_pong(r, peer_id, &m);
        break;
    default:
        rv = receive_core(r, peer_id, &m);
    }
    po__msg_fini(&m);
    return po__leave(r, rv);
}

/* ---- time ---- */

static void tick_persisted(struct po__replica *r)
{
    if (po__core_installing(r->core))
        return;
    uint64_t stored = po__core_stored(r->core);
    uint64_t durable = po__log_durable(&r->log, stored, r->write_durable);
    if (durable > stored)
        po__check_core(r, po__core_persisted(r->core, r->now_ms, durable));
}

void po__replica_tick(struct po__replica *r, uint64_t now_ms)
{
    if (po__enter(r, now_ms))
        return;
    if (po__reserve(r, 0)) {
        po__fault(r, PO_ENOMEM, "no memory for the log: this node stopped itself");
        po__leave(r, 0);
        return;
    }
    tick_persisted(r);
    if (!r->fault && r->now_ms >= po__core_deadline(r->core))
        po__check_core(r, po__core_timeout(r->core, r->now_ms));
    if (!r->fault)
        po__snapshot_tick(r);
    if (!r->fault)
        po__membership_tick(r);
    if (!r->fault)
        po__reads_tick(r);
    po__store_flush(r->o.store);
    po__leave(r, 0);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t po__replica_deadline_ms(const struct po__replica *r)
{
    if (r->fault)
        return UINT64_MAX;
    const struct po__log_slot *next = po__log_get(&r->log, po__core_stored(r->core) + 1);
    if (next && next->write <= r->write_durable && !po__core_installing(r->core))
        return 0;
    uint64_t t = po__core_deadline(r->core);
    t = earlier(t, po__snapshot_deadline(r));
    t = earlier(t, po__membership_deadline(r));
    return earlier(t, po__reads_deadline(r));
}

/* ---- start and stop ---- */

struct recover {
    struct po__replica *r;
    int rv;
    uint64_t index; /* of the record that failed */
};

static int recover_record(void *arg, const struct po__rec *rec)
{
    struct recover *rc = arg;
    struct po__log *log = &rc->r->log;
    struct po__conf conf;

    rc->index = rec->index;
    if (rec->type == 3 && po__conf_decode(&conf, po__rec_payload(rec), rec->len))
        return rc->rv = PO_ECORRUPT;
    /* Below what we have: it supersedes all of it, and what it continued is trimmed already, being
     * covered by the snapshot. */
    if (log->count == 0 || rec->index < log->first)
        po__log_reset(log, rec->index);
    if (rec->index > po__log_last(log) + 1)
        return rc->rv = PO_ECORRUPT;
    po__log_truncate(log, rec->index);
    struct po__block *b = po__block_new(PO__REC_BYTES(rec->len));
    if (!b || po__log_reserve(log, 1)) {
        po__block_unref(b);
        return rc->rv = PO_ENOMEM;
    }
    memcpy(b->data, rec, b->bytes);
    po__log_append(log, b, (const struct po__rec *)(void *)b->data, 0);
    po__block_unref(b);
    return 0;
}

static int recover(struct po__replica *r, struct po__recovery *rec, char *error, size_t error_len)
{
    struct recover rc = {r, 0, 0};
    const struct po__snapshot_meta *snap = &rec->snapshot;

    int rv = po__store_recover(r->o.store, rec, recover_record, &rc, error, error_len);
    if (rc.rv) {
        rv = rc.rv;
        snprintf(error, error_len, "recovery: log record %llu, after %llu..%llu: %s",
                 (unsigned long long)rc.index, (unsigned long long)r->log.first,
                 (unsigned long long)po__log_last(&r->log),
                 rv == PO_ENOMEM ? "no memory left"
                                 : "a malformed configuration, or a gap in the log");
    }
    if (rv)
        return rv;
    if (r->log.count == 0)
        po__log_reset(&r->log, snap->index + 1);
    if (po__core_discard_log(snap, &r->log)) {
        po__warn(&r->o.log, "raft.discard",
                 "the log does not continue the snapshot at %llu and is discarded: a snapshot was "
                 "being installed when this node stopped",
                 (unsigned long long)snap->index);
        po__store_reset_log(r->o.store, snap->index + 1);
        po__log_reset(&r->log, snap->index + 1);
    }
    if (snap->index == 0 && r->log.count && r->log.first != 1) {
        snprintf(error, error_len,
                 "recovery: the log begins at %llu and there is no snapshot of what came before",
                 (unsigned long long)r->log.first);
        return PO_ECORRUPT;
    }
    if (snap->index == 0)
        return 0;
    r->applied = r->snapshot_index = snap->index;
    r->conf.index = snap->conf_index;
    r->conf.len = snap->conf_len;
    struct po__conf conf;
    if (snap->conf_len > PO__CONF_MAX_BYTES || po__conf_decode(&conf, snap->conf, snap->conf_len)) {
        snprintf(error, error_len, "recovery: the snapshot at %llu has a malformed configuration",
                 (unsigned long long)snap->index);
        return PO_ECORRUPT;
    }
    memcpy(r->conf.bytes, snap->conf, snap->conf_len);
    rv = po__snapshot_restore_now(r, snap);
    if (rv)
        snprintf(error, error_len, "recovery: the snapshot at %llu could not be restored: %s",
                 (unsigned long long)snap->index, po_strerror(rv));
    return rv;
}

int po__replica_start(struct po__replica **replica, const struct po__replica_opts *opts,
                      uint64_t now_ms, char *error, size_t error_len)
{
    struct po__recovery *rec = NULL;
    int rv = PO_ENOMEM;

    PO_PRE(opts->id && opts->address && opts->store && opts->state);
    PO_PRE(opts->election_ms > 0 && opts->heartbeat_ms > 0 &&
           opts->inflight_max <= PO__INFLIGHT_MAX);
    PO_PRE(strlen(opts->address) <= PO_ADDRESS_MAX_BYTES);
    snprintf(error, error_len, "no memory left");
    struct po__replica *r = po__calloc(1, sizeof *r);
    if (!r)
        return PO_ENOMEM;
    r->o = *opts;
    r->now_ms = now_ms;
    snprintf(r->address, sizeof r->address, "%s", opts->address);
    r->o.address = r->address;
    if (r->o.inflight_max == 0)
        r->o.inflight_max = PO__INFLIGHT_DEFAULT;
    po__log_init(&r->log, 1);
    po__reads_init(&r->reads);
    r->told.role = -1;
    r->servers_stale = true;
    r->pending = po__calloc(r->o.inflight_max, sizeof *r->pending);
    rec = po__calloc(1, sizeof *rec);
    if (!r->pending || !rec || po__heap_install())
        goto err;
    rv = recover(r, rec, error, error_len);
    if (rv)
        goto err;
    struct po__core_opts co = {.id = opts->id,
                               .address = r->address,
                               .election_ms = opts->election_ms,
                               .heartbeat_ms = opts->heartbeat_ms,
                               .seed = opts->seed,
                               .ops = &core_ops,
                               .arg = r};
    snprintf(error, error_len, "no memory left");
    rv = po__core_create(&r->core, &co);
    if (rv == 0)
        rv = po__reserve(r, 0);
    if (rv)
        goto err;
    rv = po__core_start(r->core, now_ms, rec->term, rec->vote, &rec->snapshot, &r->log);
    po__check_core(r, rv);
    if (r->fault) {
        snprintf(error, error_len, "%s", r->fault_message);
        rv = r->fault;
        goto err;
    }
    po__free(rec);
    *replica = r;
    po__leave(r, 0);
    return 0;

err:
    r->fault_told = true; /* the caller hears of it by the return value */
    po__free(rec);
    po__replica_stop(r);
    return rv;
}

void po__replica_stop(struct po__replica *r)
{
    if (!r)
        return;
    if (!r->fault_told) {
        po__snapshot_stop(r);
        drop_pending(r);
        po__membership_lost(r, PO_ECLOSED);
        po__reads_stop(r, PO_ECLOSED);
    }
    po__core_destroy(r->core);
    po__log_fini(&r->log);
    po__free(r->pending);
    po__free(r);
}

/* ---- status, bootstrap ---- */

void po__replica_status(const struct po__replica *r, struct po__replica_status *st)
{
    *st = (struct po__replica_status){
        .role = r->fault ? PO_ROLE_STOPPED : po__core_role(r->core),
        .leader_ready = r->ready && !r->fault,
        .leader_id = po__core_leader(r->core),
        .term = po__core_term(r->core),
        .vote = po__core_vote(r->core),
        .commit_index = po__core_commit(r->core),
        .applied_index = r->applied,
        .last_index = po__core_last(r->core),
        .stored_index = po__core_stored(r->core),
        .snapshot_index = r->snapshot_index,
        .log_bytes = r->log.bytes,
        .membership_change_pending = po__core_uncommitted_conf(r->core) != 0,
    };
}

unsigned po__replica_servers(const struct po__replica *r, struct po__server *servers, unsigned max)
{
    unsigned n = r->servers.count < max ? r->servers.count : max;
    for (unsigned i = 0; i < n; i++)
        servers[i] = (struct po__server){r->servers.servers[i].id, r->servers.servers[i].address,
                                         r->servers.servers[i].role};
    return r->servers.count;
}

int po__replica_bootstrap_record(struct po__rec **rec, const struct po__server *servers,
                                 unsigned count)
{
    uint8_t bytes[PO__CONF_MAX_BYTES];
    struct po__conf conf = {0};
    int rv;

    *rec = NULL;
    for (unsigned i = 0; i < count; i++) {
        rv = po__conf_add(&conf, servers[i].id, servers[i].address, servers[i].role);
        if (rv)
            return rv;
    }
    if (po__conf_voters(&conf) == 0)
        return PO_EINVAL;
    size_t len = po__conf_encode(&conf, bytes);
    struct po__rec *out = po__calloc(1, PO__REC_BYTES(len));
    if (!out)
        return PO_ENOMEM;
    *out = (struct po__rec){.len = (uint32_t)len, .index = 1, .term = 1, .type = 3};
    memcpy(out + 1, bytes, len);
    po__rec_seal(out);
    *rec = out;
    return 0;
}
