/* Taking a snapshot of our own; see snapshot.c. */
#include "replica_impl.h"

#include <string.h>

#include "../base/assert.h"

#define RETRY_MS 1000 /* after a failure that passes: store busy, no memory */

void po__take_abort(struct po__replica *r)
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
    po__take_abort(r);
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

/* Enough log to be worth it, or asked for. */
static bool take_due(const struct po__replica *r)
{
    return r->applied_bytes >= r->o.snapshot_bytes ||
           (r->take.wanted > r->snapshot_index && r->applied >= r->take.wanted);
}

void po__replica_want_snapshot(struct po__replica *r, uint64_t index)
{
    PO_PRE(index <= r->applied);
    if (index > r->take.wanted)
        r->take.wanted = index;
}

void po__take_tick(struct po__replica *r)
{
    struct po__snapshot_take *t = &r->take;

    if (t->state == PO__TAKE_IDLE && take_due(r) && r->in.state <= PO__IN_RECEIVING &&
        r->now_ms >= t->retry_at_ms)
        take_begin(r);
    if (t->state == PO__TAKE_WRITING)
        take_write(r);
    if (t->state == PO__TAKE_DURABLE)
        take_finish(r);
}

uint64_t po__take_deadline(const struct po__replica *r)
{
    const struct po__snapshot_take *t = &r->take;

    if (t->state == PO__TAKE_DURABLE)
        return 0;
    if (t->state == PO__TAKE_WRITING && t->buf.len == 0 &&
        po__store_snapshot_queued(t->writer) < PO__SNAPSHOT_QUEUED_BYTES)
        return 0;
    if (t->state == PO__TAKE_IDLE && take_due(r) && r->in.state <= PO__IN_RECEIVING &&
        po__log_get(&r->log, r->applied))
        return t->retry_at_ms;
    return UINT64_MAX;
}
