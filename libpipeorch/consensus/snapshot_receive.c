/* Receiving a snapshot from the leader, and restoring the state from one; see snapshot.c. */
#include "replica_impl.h"

#include <string.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/crc32c.h"

void po__in_abort(struct po__replica *r)
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
        po__in_abort(r);
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
    po__take_abort(r);
    po__log_reset(&r->log, r->in.meta.index + 1);
    r->in.state = PO__IN_FINISHING;
    int rv = po__store_snapshot_finish(r->in.writer, in_done, r);
    if (rv)
        po__fault(r, rv, "the snapshot from the leader could not be stored: %s", po_strerror(rv));
}

static int in_begin(struct po__replica *r, const struct po__msg *m)
{
    po__in_abort(r);
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
        po__in_abort(r);
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
        po__in_abort(r);
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

void po__in_tick(struct po__replica *r)
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
