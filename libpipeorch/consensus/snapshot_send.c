/* Sending a snapshot to a peer that is too far behind; see snapshot.c. */
#include "replica_impl.h"

#include "../base/alloc.h"

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

void po__out_tick(struct po__replica *r)
{
    for (unsigned i = 0; i < PO_MEMBERS_MAX && !r->fault; i++)
        if (r->out[i].peer)
            out_tick_one(r, &r->out[i]);
}

uint64_t po__out_deadline(const struct po__replica *r)
{
    uint64_t at = UINT64_MAX;

    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++) {
        const struct po__snapshot_out *o = &r->out[i];
        if (o->peer == 0)
            continue;
        uint64_t next = o->reader ? r->now_ms + r->o.heartbeat_ms / 4 + 1 : o->quiet_until_ms;
        if (o->reader && r->o.transport && out_room(r, o))
            next = 0;
        at = next < at ? next : at;
    }
    return at;
}

void po__out_stop(struct po__replica *r)
{
    for (unsigned i = 0; i < PO_MEMBERS_MAX; i++)
        out_close(&r->out[i]);
}
