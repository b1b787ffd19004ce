/* Snapshots handed out to clients, piece by piece: what a backup of a running cluster is made of.
 *
 * The point in time is linearizable: a ReadIndex round confirms that this node leads, and then a
 * snapshot is needed whose index is not below what is applied now. If the newest one on disk is
 * older, the replica takes one (in slices, while commands go on; see model/snapshot.c). Pieces are
 * then read from its file, one frame per request: the node thread does no more for a backup than it
 * does for a follower that is too far behind. The reader keeps its file, so all pieces are of one
 * snapshot even when newer ones replace it.
 *
 * A stream is soft state of one leadership. A client that meets another leader, or comes too late,
 * is told PO_ESTALE and begins anew: pieces of two snapshots are never mixed. */
#include "internal.h"

#include <pipeorch/error.h>

/* One frame of the file, so that a piece costs one read (pieces begin where frames do). */
#define PIECE_MAX_BYTES ((size_t)256 * 1024 - 32)

static void stream_close(struct po__stream *s)
{
    if (s->id)
        po__store_snapshot_close(s->reader);
    *s = (struct po__stream){0};
}

static struct po__stream *stream_find(struct po__node *n, uint64_t id)
{
    for (unsigned i = 0; i < PO__STREAMS_MAX; i++)
        if (n->streams[i].id == id)
            return &n->streams[i];
    return NULL;
}

static void answer_piece(struct po__node *n, struct po__call *c, struct po__stream *s,
                         uint64_t offset, bool first)
{
    struct po__snapshot_piece p = {
        .stream = s->id, .size_bytes = s->meta.size_bytes, .first = first};
    uint64_t left = s->meta.size_bytes - offset;
    size_t len = left < PIECE_MAX_BYTES ? (size_t)left : PIECE_MAX_BYTES;
    po__buf_reset(&n->tasks);
    int rv = po__buf_reserve(&n->tasks, len + 1);
    if (rv == 0)
        rv = po__store_snapshot_read(s->reader, offset, n->tasks.data, len);
    if (rv) {
        stream_close(s);
        po__call_error(n, c, rv, "the snapshot cannot be read back on this node");
        return;
    }
    p.data = po__slice(n->tasks.data, len);
    if (first) {
        p.index = s->meta.index;
        p.term = s->meta.term;
        p.time_ms = n->env.wall_ms(n->env.arg);
        p.conf_index = s->meta.conf_index;
        p.conf = po__slice(s->meta.conf, s->meta.conf_len);
        p.cluster_id = po__slice(n->identity.cluster_id, sizeof n->identity.cluster_id);
        p.node_name = po__str(n->identity.name);
    }
    s->used_ms = po__node_now(n);
    po__buf_reset(&n->body);
    po__snapshot_piece_encode(&n->body, &p);
    if (n->body.err)
        po__call_error(n, c, n->body.err, NULL);
    else
        po__call_answer(n, c, 0, "", s->meta.index, po__buf_slice(&n->body),
                        PO__SNAPSHOT_PIECE_FIELDS);
}

static int stream_open(struct po__node *n, struct po__stream *s)
{
    int rv = po__store_snapshot_open(n->store, &s->reader, &s->meta);
    if (rv)
        return rv;
    /* Ids of different leaders must differ: a stream of one is none of another. */
    rv = n->env.random(n->env.arg, &s->id, sizeof s->id);
    s->id |= 1; /* 0 is no stream */
    if (rv) {
        po__store_snapshot_close(s->reader);
        *s = (struct po__stream){0};
    }
    return rv;
}

/* The snapshot that the call waited for is there. */
static void begin_stream(struct po__node *n, struct po__call *c)
{
    struct po__stream *s = stream_find(n, 0);
    if (!s) {
        po__call_error(n, c, PO_EBUSY, "other snapshots are being saved; try again later");
        return;
    }
    int rv = stream_open(n, s);
    if (rv)
        po__call_error(n, c, rv, "the snapshot cannot be opened on this node");
    else
        answer_piece(n, c, s, 0, true);
}

void po__stream_confirmed(struct po__node *n, struct po__call *c)
{
    /* Of a cluster that did nothing yet, there is a snapshot from the first entry on. */
    uint64_t index = po__model_index(n->model);
    c->wait_id = index ? index : 1;
    po__replica_want_snapshot(n->replica, c->wait_id);
    po__list_push(&n->snapshot_waits, &c->link);
}

void po__stream_request(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    if (req->snapshot.stream == 0) {
        po__read_barrier(n, c); /* goes on in po__stream_confirmed */
        return;
    }
    struct po__stream *s = stream_find(n, req->snapshot.stream);
    if (!s)
        po__call_error(n, c, PO_ESTALE,
                       "this node does not hand out that snapshot (any more): the leader changed, "
                       "or it was not asked for in time; begin anew");
    else if (req->snapshot.offset > s->meta.size_bytes)
        po__call_error(n, c, PO_EINVAL, "the offset is behind the end of the snapshot");
    else
        answer_piece(n, c, s, req->snapshot.offset, false);
}

static void answer_waiting(struct po__node *n)
{
    struct po__replica_status st;
    struct po__list *it;
    if (po__list_empty(&n->snapshot_waits))
        return;
    po__replica_status(n->replica, &st);
    /* In order of their indexes: each was confirmed after the one before it. */
    while ((it = po__list_first(&n->snapshot_waits))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        if (st.snapshot_index < c->wait_id)
            return;
        begin_stream(n, c); /* takes it out of the list */
    }
}

void po__streams_tick(struct po__node *n, uint64_t now)
{
    for (unsigned i = 0; i < PO__STREAMS_MAX; i++)
        if (n->streams[i].id && now >= n->streams[i].used_ms + PO__STREAM_IDLE_MS)
            stream_close(&n->streams[i]);
    if (n->ready)
        answer_waiting(n);
}

uint64_t po__streams_deadline(const struct po__node *n)
{
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; i < PO__STREAMS_MAX; i++)
        if (n->streams[i].id && n->streams[i].used_ms + PO__STREAM_IDLE_MS < at)
            at = n->streams[i].used_ms + PO__STREAM_IDLE_MS;
    return at;
}

void po__streams_clear(struct po__node *n)
{
    struct po__list *it;
    for (unsigned i = 0; i < PO__STREAMS_MAX; i++)
        stream_close(&n->streams[i]);
    while ((it = po__list_first(&n->snapshot_waits))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        po__list_remove(&c->link);
        po__call_retry(n, c);
    }
}
