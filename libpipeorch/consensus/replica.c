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

void po__drop_pending(struct po__replica *r)
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
        po__drop_pending(r);
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
        po__hint_pong(r, peer_id, m.ping.sequence);
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
        po__hint_tick(r);
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
    t = earlier(t, po__hint_deadline(r));
    t = earlier(t, po__snapshot_deadline(r));
    t = earlier(t, po__membership_deadline(r));
    return earlier(t, po__reads_deadline(r));
}

/* ---- status ---- */

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
        .membership_busy =
            r->change.state != PO__CHANGE_IDLE || po__core_uncommitted_conf(r->core) != 0,
        .transferee = po__is_leader(r) ? po__core_transferee(r->core) : 0,
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
