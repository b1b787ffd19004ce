/* Appending to the log: one write in flight, everything that arrives meanwhile goes together in the
 * next one.
 *
 * Records are copied once, straight into an aligned batch buffer. Two standard buffers are enough
 * in normal operation: one in flight, one filling; a third exists so that neither a full buffer nor
 * a reset needs an allocation. When the disk falls behind, further ones are allocated, up to
 * PO__STORE_QUEUE_MAX_BYTES.
 *
 * The checksum is computed on the channel's thread, not by the owner. */
#include <string.h>

#include <pipeorch/error.h>
#include "store_internal.h"

#define POOL_BATCHES 3
#define HEADER_BYTES sizeof(struct po__fmt_batch)

static struct po__fmt_batch *header_of(struct po__batch *b)
{
    return (struct po__fmt_batch *)(void *)b->memory.data;
}

static void batch_free(struct po__batch *b)
{
    po__aligned_free(&b->memory);
    po__free(b->entries);
    po__free(b);
}

static struct po__batch *batch_alloc(struct po__store *s, size_t cap, uint32_t entries_max)
{
    struct po__batch *b = po__calloc(1, sizeof *b);
    if (!b)
        return NULL;
    po__list_init(&b->link);
    b->store = s;
    b->cap = cap;
    b->entries = po__malloc(entries_max * sizeof *b->entries);
    if (!b->entries || po__aligned_alloc(&b->memory, cap)) {
        batch_free(b);
        return NULL;
    }
    return b;
}

/* Big enough for one record of `bytes`; empty. */
static struct po__batch *batch_get(struct po__store *s, size_t bytes)
{
    struct po__batch *b;
    if (HEADER_BYTES + bytes > PO__BATCH_BYTES) {
        b = batch_alloc(s, po__block_round(HEADER_BYTES + bytes), 1);
        if (b)
            b->closed = true; /* room for this record only */
    } else if (!po__list_empty(&s->pool)) {
        b = po__container_of(po__list_pop(&s->pool), struct po__batch, link);
    } else {
        b = batch_alloc(s, PO__BATCH_BYTES, PO__BATCH_RECORDS_MAX);
    }
    if (!b)
        return NULL;
    memset(header_of(b), 0, HEADER_BYTES);
    b->len = HEADER_BYTES;
    return b;
}

static void batch_put(struct po__batch *b)
{
    struct po__store *s = b->store;
    if (!b->standard) {
        batch_free(b);
        return;
    }
    b->closed = false;
    b->low = b->last = 0;
    b->entries_count = 0;
    po__list_push_front(&s->pool, &b->link);
}

int po__wal_init(struct po__store *s)
{
    for (int i = 0; i < POOL_BATCHES; i++) {
        struct po__batch *b = batch_alloc(s, PO__BATCH_BYTES, PO__BATCH_RECORDS_MAX);
        if (!b)
            return PO_ENOMEM;
        b->standard = true;
        po__list_push(&s->pool, &b->link);
    }
    s->sequence_next = 1;
    return 0;
}

void po__wal_fini(struct po__store *s)
{
    struct po__list *l;
    while ((l = po__list_pop(&s->pool)) || (l = po__list_pop(&s->queue)))
        batch_free(po__container_of(l, struct po__batch, link));
    if (s->in_flight)
        batch_free(s->in_flight);
    s->in_flight = NULL;
}

static int batch_work(struct po__disk_job *job)
{
    struct po__batch *b = po__container_of(job, struct po__batch, job);
    size_t bytes = po__block_round(b->len);
    memset(b->memory.data + b->len, 0, bytes - b->len);
    po__fmt_batch_seal(header_of(b));
    return b->store->ops->write(b->segment->file, b->memory.data, bytes, b->offset);
}

/* What the segments hold that a restart would still need. Only durable batches count: forgetting
 * records because of a truncation that is still on its way could leave a hole. */
static void batch_account(struct po__store *s, struct po__batch *b)
{
    struct po__list *l;
    bool reset = header_of(b)->flags & PO__BATCH_RESET;
    po__list_each(l, &s->segments)
    {
        struct po__segment *seg = po__container_of(l, struct po__segment, link);
        if (reset)
            seg->max_index = 0;
        else if (b->low && seg->max_index >= b->low)
            seg->max_index = b->low - 1;
    }
    if (b->low)
        b->segment->max_index = b->last;
    if (reset) {
        s->resets_pending--;
        po__segments_retire(s, 0);
    }
}

static void batch_done(struct po__disk_job *job, int status)
{
    struct po__batch *b = po__container_of(job, struct po__batch, job);
    struct po__store *s = b->store;
    s->in_flight = NULL;
    s->queued_bytes -= b->len;
    if (status || s->broken) {
        batch_put(b);
        if (status)
            po__store_fail(s, status, "writing the log");
        return;
    }
    batch_account(s, b);
    s->writes_done++;
    po__segments_wrote(s, po__block_round(b->len));
    if (s->flush_wanted) /* before the callbacks: the disk need not wait for them */
        po__wal_start(s);
    for (uint32_t i = 0; i < b->entries_count && !s->broken; i++)
        if (b->entries[i].cb)
            b->entries[i].cb(b->entries[i].arg, b->entries[i].token);
    batch_put(b);
}

/* The next spare becomes the segment that is written to. False: none is ready, the write waits for
 * it. */
static bool roll(struct po__store *s)
{
    struct po__list *l = po__list_pop(&s->spares);
    if (!l)
        return false;
    s->spares_count--;
    po__list_push(&s->segments, l);
    po__segments_maintain(s);
    return true;
}

void po__wal_start(struct po__store *s)
{
    if (s->broken || s->in_flight || po__list_empty(&s->queue))
        return;
    struct po__batch *b = po__container_of(s->queue.next, struct po__batch, link);
    struct po__segment *seg = po__store_active(s);
    size_t bytes = po__block_round(b->len);
    if (seg->end + bytes > seg->size_bytes && seg->end > PO__BLOCK_BYTES) {
        if (!roll(s)) {
            po__segments_maintain(s);
            return;
        }
        seg = po__store_active(s);
    }
    po__list_remove(&b->link);
    struct po__fmt_batch *h = header_of(b);
    h->epoch = seg->epoch;
    h->sequence = s->sequence_next++;
    h->len = (uint32_t)(b->len - HEADER_BYTES);
    b->closed = true;
    b->segment = seg;
    b->offset = seg->end;
    seg->end += bytes;
    if (seg->end > seg->size_bytes) /* one record longer than a segment: the file grows */
        seg->size_bytes = seg->end;
    s->in_flight = b;
    s->flush_wanted = !po__list_empty(&s->queue);
    b->job.work = batch_work;
    b->job.done = batch_done;
    s->ops->submit(s->disk, PO__CHANNEL_LOG, &b->job);
}

/* A batch that begins a new log takes its place behind everything queued. */
static struct po__batch *batch_open(struct po__store *s, size_t bytes)
{
    struct po__batch *b = batch_get(s, bytes);
    if (!b)
        return NULL;
    if (s->reset_wanted) {
        header_of(b)->flags = PO__BATCH_RESET;
        header_of(b)->reset_next = s->reset_next;
        s->reset_wanted = false;
    }
    s->queued_bytes += b->len;
    po__list_push(&s->queue, &b->link);
    return b;
}

/* The batch at the end of the queue, if a record of `bytes` may join it. */
static struct po__batch *batch_with_room(struct po__store *s, size_t bytes)
{
    if (po__list_empty(&s->queue) || s->reset_wanted)
        return NULL;
    struct po__batch *b = po__container_of(s->queue.prev, struct po__batch, link);
    size_t segment_room = (size_t)(s->opts.segment_bytes - PO__BLOCK_BYTES);
    if (b->closed || b->entries_count == PO__BATCH_RECORDS_MAX || b->len + bytes > b->cap ||
        b->len + bytes > segment_room)
        return NULL;
    return b;
}

int po__store_append(struct po__store *s, const struct po__rec *r, po__store_cb cb, void *arg,
                     uint64_t token)
{
    if (s->broken)
        return s->broken;
    PO_PRE(s->recovered && r->len <= PO__RECORD_MAX_BYTES && r->index > 0);
    PO_PRE(s->log_empty || r->index <= s->last_index + 1);
    size_t bytes = PO__REC_BYTES(r->len);
    if (s->queued_bytes + bytes > PO__STORE_QUEUE_MAX_BYTES)
        return PO_EBUSY;
    struct po__batch *b = batch_with_room(s, bytes);
    if (!b)
        b = batch_open(s, bytes);
    if (!b)
        return PO_ENOMEM;
    memcpy(b->memory.data + b->len, r, bytes);
    b->len += bytes;
    s->queued_bytes += bytes;
    if (!b->low || r->index < b->low)
        b->low = r->index;
    b->last = r->index;
    b->entries[b->entries_count++] = (struct po__batch_entry){.cb = cb, .arg = arg, .token = token};
    s->last_index = r->index;
    s->log_empty = false;
    return 0;
}

void po__store_flush(struct po__store *s)
{
    if (s->broken)
        return;
    PO_PRE(s->recovered);
    /* A reset that no record follows is written too; out of memory, it waits for the next flush or
     * record. */
    if (s->reset_wanted)
        batch_open(s, 0);
    s->flush_wanted = true;
    po__wal_start(s);
}

size_t po__store_queued_bytes(const struct po__store *s)
{
    return s->queued_bytes;
}

void po__store_reset_log(struct po__store *s, uint64_t next_index)
{
    if (s->broken)
        return;
    PO_PRE(s->recovered);
    if (!s->reset_wanted)
        s->resets_pending++;
    s->reset_wanted = true;
    s->reset_next = next_index;
    s->last_index = next_index - 1;
    s->log_empty = true;
}
