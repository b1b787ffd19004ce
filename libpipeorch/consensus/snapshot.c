/* Snapshots: taking our own, sending one to a peer that is too far behind, receiving one.
 *
 * Taking: the state gives slices as of the moment of begin while entries go on being applied; each
 * tick moves one slice to the store, which writes in the background. Once it is durable, the core
 * and the log let go of what it covers.
 *
 * Sending: the core asks for a snapshot again and again (with every heartbeat that is rejected
 * meanwhile); one transfer per peer runs at a time. Chunks leave while the peer's queue and the
 * unacknowledged window are short; lost ones are sent again from the last acknowledged byte.
 *
 * Receiving: bytes go to the store as they come, long before the core knows. Only a whole, checked
 * snapshot is announced to the core, so a sender that dies half-way costs nothing: the node keeps
 * its log and its vote. When the core takes it: make it durable -> discard the log -> restore the
 * state, slice by slice -> tell the core. A crash in between leaves either the old state or the
 * new. */
#include "replica_impl.h"

#include <string.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/crc32c.h"

#define RETRY_MS 1000 /* after a failure that passes: store busy, no memory */

/* ---- taking ---- */

static void take_abort(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;

    if (t->state == PO__TAKE_IDLE)
        return;
    if (t->state == PO__TAKE_WRITING && !t->last)
        r->o.state->snapshot_abort(r->o.state_arg);
    if (t->writer)
        po__store_snapshot_abort(t->writer);
    po__buf_fini(&t->buf);
    t->writer = NULL;
    t->last = false;
    t->state = PO__TAKE_IDLE;
    r->applied_bytes += t->bytes;
}

static void take_failed(struct po__replica *r, int code, const char *doing)
{
    take_abort(r);
    r->take.retry_at_ms = r->now_ms + RETRY_MS;
    if (code == PO_EBUSY || code == PO_ENOMEM)
        po__warn(&r->o.log, "raft.snapshot", "snapshot given up while %s: %s; trying again later",
                 doing, po_strerror(code));
    else
        po__fault(r, code, "a snapshot failed while %s: %s", doing, po_strerror(code));
}

static void take_begin(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;
    const struct po__log_slot *s = po__log_get(&r->log, r->applied);
    int rv;

    if (!s || r->conf.index == 0)
        return;
    memset(&t->meta, 0, sizeof t->meta);
    t->meta.index = r->applied;
    t->meta.term = s->rec->term;
    t->meta.conf_index = r->conf.index;
    t->meta.conf_len = r->conf.len;
    memcpy(t->meta.conf, r->conf.bytes, r->conf.len);
    rv = r->o.state->snapshot_begin(r->o.state_arg);
    if (rv) {
        take_failed(r, rv, "beginning");
        return;
    }
    rv = po__store_snapshot_begin(r->o.store, &t->writer, &t->meta);
    if (rv) {
        r->o.state->snapshot_abort(r->o.state_arg);
        take_failed(r, rv, "opening it");
        return;
    }
    t->state = PO__TAKE_WRITING;
    t->bytes = r->applied_bytes;
    r->applied_bytes = 0;
    po__buf_init(&t->buf, 0);
}

static void take_done(void *arg, uint64_t token)
{
    struct po__replica *r = arg;
    PO_INVARIANT(r->take.state == PO__TAKE_FINISHING && token == r->take.meta.index);
    r->take.writer = NULL; /* the store's own again */
    r->take.state = PO__TAKE_DURABLE;
}

static void take_write(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;
    int rv;

    if (po__store_snapshot_queued(t->writer) >= PO__SNAPSHOT_QUEUED_BYTES)
        return;
    if (t->buf.len == 0 && !t->last) {
        rv = r->o.state->snapshot_step(r->o.state_arg, &t->buf, PO__SNAPSHOT_SLICE_BYTES);
        if (rv < 0 || t->buf.err) {
            take_failed(r, rv < 0 ? rv : t->buf.err, "serialising the state");
            return;
        }
        t->last = rv == 1;
    }
    if (t->buf.len) {
        rv = po__store_snapshot_write(t->writer, t->buf.data, t->buf.len);
        if (rv == PO_EBUSY)
            return; /* the slice stays in buf */
        if (rv) {
            take_failed(r, rv, "writing");
            return;
        }
        po__buf_reset(&t->buf);
    }
    if (!t->last)
        return;
    rv = po__store_snapshot_finish(t->writer, take_done, r);
    if (rv)
        take_failed(r, rv, "finishing");
    else
        t->state = PO__TAKE_FINISHING;
}

/* Durable: forget what it covers, but for the trailing entries. */
static void take_finish(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;
    uint64_t keep = po__log_count_back(&r->log, t->meta.index, r->o.trailing_bytes);
    bool skipped = false;

    t->state = PO__TAKE_IDLE;
    t->last = false;
    po__buf_fini(&t->buf);
    po__check_core(r, po__core_snapshot(r->core, r->now_ms, &t->meta, keep, &skipped));
    if (r->fault || skipped)
        return;
    r->snapshot_index = t->meta.index;
    /* A snapshot may overtake the log on its way to a slow disk. What it covers is durable by it:
     * after a crash the shorter log is discarded and this is where we go on. The writes that come
     * late concern nobody. */
    if (po__core_stored(r->core) < t->meta.index)
        po__check_core(r, po__core_persisted(r->core, r->now_ms, t->meta.index));
    po__log_trim(&r->log, t->meta.index - keep);
    po__store_trim(r->o.store, t->meta.index - keep);
    po__info(&r->o.log, "raft.snapshot", "snapshot at %llu, %llu entries kept behind it",
             (unsigned long long)t->meta.index, (unsigned long long)keep);
}

static void take_tick(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;

    if (t->state == PO__TAKE_IDLE && r->applied_bytes >= r->o.snapshot_bytes &&
        r->in.state <= PO__IN_RECEIVING && r->now_ms >= t->retry_at_ms)
        take_begin(r);
    if (t->state == PO__TAKE_WRITING)
        take_write(r);
    if (t->state == PO__TAKE_DURABLE)
        take_finish(r);
}

/* ---- sending ---- */

static void out_close(struct po__snapshot_out *o)
{
    if (o->reader)
        po__store_snapshot_close(o->reader);
    *o = (struct po__snapshot_out){0};
}

static struct po__snapshot_out *out_find(struct po__replica *r, uint64_t peer)
{
    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++)
        if (r->out[i].peer == peer)
            return &r->out[i];
    return NULL;
}

void po__snapshot_wanted(struct po__replica *r, uint64_t peer)
{
    struct po__snapshot_out *o = out_find(r, peer);

    if (o && o->reader)
        return;
    if (o && r->now_ms < o->quiet_until_ms && po__core_match(r->core, peer) < o->meta.index)
        return; /* it has that one and is busy installing it */
    if (!o)
        o = out_find(r, 0);
    if (!o)
        return; /* every member has a slot; an ended transfer to a former one frees its own soon */
    out_close(o);
    int rv = po__store_snapshot_open(r->o.store, &o->reader, &o->meta);
    if (rv) {
        po__warn(&r->o.log, "raft.snapshot", "cannot read the snapshot for a peer: %s",
                 po_strerror(rv));
        o->reader = NULL;
        return;
    }
    o->peer = peer;
    o->term = po__core_term(r->core);
    o->progress_ms = o->sent_ms = r->now_ms;
    po__info(&r->o.log, "raft.snapshot", "sending the snapshot at %llu (%llu bytes) to %llu",
             (unsigned long long)o->meta.index, (unsigned long long)o->meta.size_bytes,
             (unsigned long long)peer);
}

static int out_send_chunk(struct po__replica *r, struct po__snapshot_out *o, uint8_t *buf)
{
    uint64_t left = o->meta.size_bytes - o->sent;
    size_t len = left < PO__SNAPSHOT_CHUNK_MAX_BYTES ? (size_t)left : PO__SNAPSHOT_CHUNK_MAX_BYTES;
    struct po__msg m = {.type = PO__MSG_SNAPSHOT, .term = o->term};

    int rv = len ? po__store_snapshot_read(o->reader, o->sent, buf, len) : 0;
    if (rv)
        return rv;
    m.snapshot.index = o->meta.index;
    m.snapshot.last_term = o->meta.term;
    m.snapshot.conf_index = o->meta.conf_index;
    m.snapshot.conf = o->meta.conf;
    m.snapshot.conf_len = o->meta.conf_len;
    m.snapshot.size_bytes = o->meta.size_bytes;
    m.snapshot.crc = o->meta.crc;
    m.snapshot.offset = o->sent;
    m.snapshot.data = buf;
    m.snapshot.data_len = (uint32_t)len;
    po__send(r, o->peer, &m);
    o->sent += len;
    o->sent_ms = r->now_ms;
    o->begun = true; /* an empty snapshot is one empty chunk */
    return 0;
}

static bool out_room(const struct po__replica *r, const struct po__snapshot_out *o)
{
    return (o->sent < o->meta.size_bytes || !o->begun) &&
           o->sent - o->acked < PO__SNAPSHOT_WINDOW_BYTES &&
           r->o.transport->queued_bytes(r->o.transport_arg, o->peer) < PO__SNAPSHOT_PEER_BYTES;
}

static void out_tick_one(struct po__replica *r, struct po__snapshot_out *o)
{
    uint64_t resend_ms = 5 * (uint64_t)r->o.heartbeat_ms,
             give_up_ms = 20 * (uint64_t)r->o.election_ms;
    uint8_t *buf;
    int rv = 0;

    if (!o->reader) {
        if (r->now_ms >= o->quiet_until_ms)
            out_close(o);
        return;
    }
    if (!po__is_leader(r) || po__core_term(r->core) != o->term || !r->o.transport ||
        !po__conf_find(&r->servers, o->peer) || r->now_ms - o->progress_ms >= give_up_ms) {
        out_close(o);
        return;
    }
    if (r->now_ms - o->sent_ms >= resend_ms) {
        o->sent = o->acked;
        o->begun = false;
    }
    if (!out_room(r, o))
        return;
    buf = po__malloc(PO__SNAPSHOT_CHUNK_MAX_BYTES);
    if (!buf)
        return;
    do
        rv = out_send_chunk(r, o, buf);
    while (rv == 0 && o->sent < o->meta.size_bytes && out_room(r, o));
    po__free(buf);
    if (rv == PO_ENOMEM)
        return;
    if (rv)
        po__fault(r, rv, "the snapshot at %llu cannot be read back: %s",
                  (unsigned long long)o->meta.index, po_strerror(rv));
}

void po__snapshot_ack(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__snapshot_out *o = out_find(r, peer);

    if (!o || !o->reader || m->snapshot_ack.index != o->meta.index ||
        m->snapshot_ack.last_term != o->meta.term)
        return;
    if (m->snapshot_ack.refused || m->snapshot_ack.offset > o->meta.size_bytes) {
        out_close(o); /* the core asks again if it is still needed */
        return;
    }
    if (m->snapshot_ack.offset < o->acked)
        o->sent = m->snapshot_ack.offset; /* it began anew, after a restart */
    o->acked = m->snapshot_ack.offset;
    if (o->sent < o->acked)
        o->sent = o->acked;
    o->progress_ms = r->now_ms;
    if (o->acked < o->meta.size_bytes)
        return;
    po__store_snapshot_close(o->reader);
    o->reader = NULL;
    o->quiet_until_ms =
        r->now_ms + 2 * (uint64_t)r->o.election_ms; /* it needs time to install it */
}

/* ---- receiving ---- */

static void in_abort(struct po__replica *r)
{
    if (r->in.writer)
        po__store_snapshot_abort(r->in.writer);
    if (r->in.reader)
        po__store_snapshot_close(r->in.reader);
    r->in = (struct po__snapshot_in){.state = PO__IN_IDLE};
}

static void in_answer(struct po__replica *r, uint64_t peer, const struct po__msg *m,
                      uint64_t offset, bool refused)
{
    struct po__msg ack = {.type = PO__MSG_SNAPSHOT_ACK, .term = po__core_term(r->core)};
    ack.snapshot_ack.index = m->snapshot.index;
    ack.snapshot_ack.last_term = m->snapshot.last_term;
    ack.snapshot_ack.offset = offset;
    ack.snapshot_ack.refused = refused;
    po__send(r, peer, &ack);
}

static void in_meta(struct po__snapshot_meta *meta, const struct po__msg *m)
{
    memset(meta, 0, sizeof *meta);
    meta->index = m->snapshot.index;
    meta->term = m->snapshot.last_term;
    meta->conf_index = m->snapshot.conf_index;
    meta->conf_len = m->snapshot.conf_len;
    memcpy(meta->conf, m->snapshot.conf, m->snapshot.conf_len);
    meta->size_bytes = m->snapshot.size_bytes;
    meta->crc = m->snapshot.crc;
}

static bool in_same(const struct po__snapshot_in *in, const struct po__msg *m)
{
    return in->meta.index == m->snapshot.index && in->meta.term == m->snapshot.last_term &&
           in->meta.size_bytes == m->snapshot.size_bytes && in->meta.crc == m->snapshot.crc;
}

/* Whole and checked, or not needed: let the core decide and answer its leader. */
static int in_offer(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__snapshot_meta *meta = &r->in.meta;
    bool wanted = false;

    in_meta(meta, m);
    if (po__reserve(r, 0))
        return PO_ENOMEM;
    int rv = po__core_receive_snapshot(r->core, r->now_ms, peer, po__peer_address(r, peer), m->term,
                                       meta, &wanted);
    po__check_core(r, rv);
    if (rv == 0)
        in_answer(r, peer, m, m->snapshot.size_bytes, false);
    if (!wanted && r->in.state == PO__IN_RECEIVING)
        in_abort(r);
    return rv;
}

static void in_done(void *arg, uint64_t token)
{
    struct po__replica *r = arg;
    PO_INVARIANT(r->in.state == PO__IN_FINISHING && token == r->in.meta.index);
    r->in.writer = NULL; /* the store's own again */
    r->in.state = PO__IN_DURABLE;
}

/* From the core, inside in_offer's step: our log is void from here on. */
void po__snapshot_installing(struct po__replica *r)
{
    PO_INVARIANT(r->in.state == PO__IN_RECEIVING && r->in.writer);
    take_abort(r);
    po__log_reset(&r->log, r->in.meta.index + 1);
    r->in.state = PO__IN_FINISHING;
    int rv = po__store_snapshot_finish(r->in.writer, in_done, r);
    if (rv)
        po__fault(r, rv, "the snapshot from the leader could not be stored: %s", po_strerror(rv));
}

static int in_begin(struct po__replica *r, const struct po__msg *m)
{
    in_abort(r);
    in_meta(&r->in.meta, m);
    int rv = po__store_snapshot_begin(r->o.store, &r->in.writer, &r->in.meta);
    if (rv) {
        r->in.writer = NULL;
        return rv;
    }
    r->in.state = PO__IN_RECEIVING;
    return 0;
}

int po__snapshot_chunk(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__snapshot_in *in = &r->in;

    if (m->term < po__core_term(r->core))
        return 0; /* a leader of the past; heartbeats tell it so */
    if (in->state > PO__IN_RECEIVING) {
        if (in_same(in, m))
            in_answer(r, peer, m, m->snapshot.size_bytes, false);
        return 0;
    }
    if (m->snapshot.index <= r->applied) {
        const struct po__log_slot *own = po__log_get(&r->log, m->snapshot.index);
        if (own && own->rec->term != m->snapshot.last_term) {
            po__error(&r->o.log, "raft.snapshot",
                      "%llu sends a snapshot that contradicts the entry %llu, which is committed "
                      "here: its data or "
                      "ours is damaged",
                      (unsigned long long)peer, (unsigned long long)m->snapshot.index);
            return PO_EPROTO;
        }
        in_abort(r);
        return in_offer(r, peer, m);
    }
    if (in->state == PO__IN_IDLE || !in_same(in, m)) {
        if (m->snapshot.offset != 0) {
            in_answer(r, peer, m, 0, false);
            return 0;
        }
        int rv = in_begin(r, m);
        if (rv)
            return rv == PO_EBUSY || rv == PO_ENOMEM ? 0 : rv; /* the sender tries again */
    }
    if (m->snapshot.offset != in->offset) {
        in_answer(r, peer, m, in->offset, false);
        return 0;
    }
    int rv = m->snapshot.data_len
                 ? po__store_snapshot_write(in->writer, m->snapshot.data, m->snapshot.data_len)
                 : 0;
    if (rv == PO_EBUSY || rv == PO_ENOMEM)
        return 0;
    if (rv) {
        po__fault(r, rv, "the snapshot from the leader could not be stored: %s", po_strerror(rv));
        return rv;
    }
    in->crc = po__crc32c(in->crc, m->snapshot.data, m->snapshot.data_len);
    in->offset += m->snapshot.data_len;
    if (in->offset < m->snapshot.size_bytes) {
        in_answer(r, peer, m, in->offset, false);
        return 0;
    }
    if (in->crc != m->snapshot.crc) {
        po__warn(&r->o.log, "raft.snapshot",
                 "the snapshot at %llu arrived damaged (CRC-32C %08x, expected %08x): asking again",
                 (unsigned long long)m->snapshot.index, in->crc, m->snapshot.crc);
        in_abort(r);
        in_answer(r, peer, m, 0, true);
        return 0;
    }
    return in_offer(r, peer, m);
}

/* ---- restoring ---- */

static int restore_slice(struct po__replica *r, struct po__snapshot_reader *reader,
                         uint64_t *offset, uint64_t size)
{
    uint64_t left = size - *offset;
    size_t len = left < PO__SNAPSHOT_SLICE_BYTES ? (size_t)left : PO__SNAPSHOT_SLICE_BYTES;
    if (len == 0)
        return 0;
    void *buf = po__malloc(len);
    if (!buf)
        return PO_ENOMEM;
    int rv = po__store_snapshot_read(reader, *offset, buf, len);
    if (rv == 0)
        rv = r->o.state->restore_chunk(r->o.state_arg, buf, len);
    po__free(buf);
    if (rv == 0)
        *offset += len;
    return rv;
}

int po__snapshot_restore_now(struct po__replica *r, const struct po__snapshot_meta *meta)
{
    struct po__snapshot_reader *reader;
    struct po__snapshot_meta found;
    uint64_t offset = 0;

    int rv = po__store_snapshot_open(r->o.store, &reader, &found);
    if (rv)
        return rv;
    if (found.index != meta->index)
        rv = PO_ECORRUPT;
    if (rv == 0)
        rv = r->o.state->restore_begin(r->o.state_arg, meta->index);
    while (rv == 0 && offset < found.size_bytes)
        rv = restore_slice(r, reader, &offset, found.size_bytes);
    if (rv == 0)
        rv = r->o.state->restore_end(r->o.state_arg);
    po__store_snapshot_close(reader);
    return rv;
}

static int in_restore_begin(struct po__replica *r)
{
    struct po__snapshot_meta found;

    po__store_reset_log(r->o.store, r->in.meta.index + 1);
    int rv = po__store_snapshot_open(r->o.store, &r->in.reader, &found);
    if (rv)
        return rv;
    if (found.index != r->in.meta.index)
        return PO_ECORRUPT;
    r->in.offset = 0;
    r->in.state = PO__IN_RESTORING;
    return r->o.state->restore_begin(r->o.state_arg, r->in.meta.index);
}

static int in_restore_end(struct po__replica *r)
{
    struct po__snapshot_meta *meta = &r->in.meta;

    int rv = r->o.state->restore_end(r->o.state_arg);
    if (rv)
        return rv;
    r->applied = r->snapshot_index = meta->index;
    r->applied_bytes = 0;
    r->conf.index = meta->conf_index;
    r->conf.len = meta->conf_len;
    memcpy(r->conf.bytes, meta->conf, meta->conf_len);
    r->servers_stale = true;
    po__store_snapshot_close(r->in.reader);
    r->in.reader = NULL;
    r->in.state = PO__IN_IDLE;
    po__info(&r->o.log, "raft.snapshot", "installed the leader's snapshot at %llu",
             (unsigned long long)meta->index);
    po__check_core(r, po__core_installed(r->core, r->now_ms, meta));
    return 0;
}

static void in_tick(struct po__replica *r)
{
    struct po__snapshot_in *in = &r->in;
    int rv = 0;

    if (in->state == PO__IN_DURABLE)
        rv = in_restore_begin(r);
    if (rv == 0 && in->state == PO__IN_RESTORING) {
        rv = restore_slice(r, in->reader, &in->offset, in->meta.size_bytes);
        if (rv == 0 && in->offset == in->meta.size_bytes)
            rv = in_restore_end(r);
    }
    if (rv)
        po__fault(r, rv, "the snapshot at %llu from the leader could not be restored: %s",
                  (unsigned long long)in->meta.index, po_strerror(rv));
}

/* ---- together ---- */

void po__snapshot_tick(struct po__replica *r)
{
    in_tick(r);
    if (!r->fault)
        take_tick(r);
    for (unsigned i = 0; i < PO_MEMBERS_MAX && !r->fault; i++)
        if (r->out[i].peer)
            out_tick_one(r, &r->out[i]);
}

uint64_t po__snapshot_deadline(const struct po__replica *r)
{
    const struct po__snapshot_take *t = &r->take;
    uint64_t at = UINT64_MAX;

    if (r->in.state == PO__IN_DURABLE || r->in.state == PO__IN_RESTORING ||
        t->state == PO__TAKE_DURABLE)
        return 0;
    if (t->state == PO__TAKE_WRITING && t->buf.len == 0 &&
        po__store_snapshot_queued(t->writer) < PO__SNAPSHOT_QUEUED_BYTES)
        return 0;
    if (t->state == PO__TAKE_IDLE && r->applied_bytes >= r->o.snapshot_bytes &&
        r->in.state <= PO__IN_RECEIVING && po__log_get(&r->log, r->applied))
        at = t->retry_at_ms;
    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++) {
        const struct po__snapshot_out *o = &r->out[i];
        if (o->peer == 0)
            continue;
        uint64_t next = o->reader ? r->now_ms + r->o.heartbeat_ms / 4 + 1 : o->quiet_until_ms;
        if (o->reader && out_room(r, o))
            next = 0;
        at = next < at ? next : at;
    }
    return at;
}

void po__snapshot_stop(struct po__replica *r)
{
    take_abort(r);
    in_abort(r);
    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++)
        out_close(&r->out[i]);
}
