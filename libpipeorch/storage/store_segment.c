/* Segments: making them ready ahead of time, rolling over to them, and getting rid of them.
 *
 * A write into space that was written before is one device write; into fresh space the file system
 * must first allocate and journal. So segments are filled with zeros before use, in the background,
 * and two ready ones (spares) wait: `wal-<n+1>`, `wal-<n+2>`, complete with header, so that rolling
 * over costs nothing but changing a pointer. Only if a burst outruns the zero-fill do writes wait
 * in their queue for the next spare; the owner's thread never waits.
 *
 * One task at a time, each a chain of jobs on the slow channel:
 *   make     tmp-segment: zeros in chunks of 64 KiB, header, sync; rename to wal-<number>; sync the
 * directory recycle  rename wal-<old> to tmp-segment, sync the directory (now the old name can
 * never come back), new header, sync; rename to wal-<number>; sync the directory remove   unlink,
 * sync the directory Numbers have no gaps: segments appear in order at the upper end and disappear
 * in order at the lower end, each step durable before the next begins.
 *
 * The zero-fill is throttled: a device that is flooded answers log writes 100 times slower. While
 * the log is busy, two bytes may be zeroed per byte logged (so zeroing always keeps ahead of
 * logging); when it is idle, or a write waits for a spare, chunks follow each other one at a time.
 */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "store_internal.h"

#define TMP_NAME            "tmp-segment"
#define ZERO_PER_LOGGED     2
#define CREDIT_MAX_BYTES    (4 * PO__ZERO_CHUNK_BYTES)
#define FIRST_SEGMENT_BYTES ((uint64_t)1 << 20) /* made while the caller of bootstrap waits */

int po__segment_alloc(struct po__segment **out, uint64_t number, const struct po__store *s)
{
    struct po__segment *seg = po__calloc(1, sizeof *seg);
    if (!seg)
        return PO_ENOMEM;
    po__list_init(&seg->link);
    seg->number = number;
    seg->epoch = po__fmt_epoch(s->identity.directory_id, number);
    seg->end = PO__BLOCK_BYTES;
    *out = seg;
    return 0;
}

void po__segment_free(struct po__store *s, struct po__segment *seg)
{
    if (!seg)
        return;
    if (seg->file)
        s->ops->close(seg->file);
    po__free(seg);
}

void po__segment_header(const struct po__store *s, void *block, uint64_t number)
{
    struct po__fmt_wal *w = block;
    memset(w, 0, sizeof *w);
    memcpy(w->cluster_id, s->identity.cluster_id, sizeof w->cluster_id);
    memcpy(w->directory_id, s->identity.directory_id, sizeof w->directory_id);
    w->node_id = s->identity.node_id;
    w->number = number;
    w->epoch = po__fmt_epoch(s->identity.directory_id, number);
    po__fmt_seal(w, sizeof *w, PO__MAGIC_WAL);
}

static struct po__store *store_of(struct po__disk_job *job)
{
    struct po__segment_task *t = po__container_of(job, struct po__segment_task, job);
    return po__container_of(t, struct po__store, task);
}

static void task_submit(struct po__store *s, int (*work)(struct po__disk_job *job),
                        void (*done)(struct po__disk_job *job, int status))
{
    s->task.running = true;
    s->task.job.work = work;
    s->task.job.done = done;
    s->ops->submit(s->disk, PO__CHANNEL_SLOW, &s->task.job);
}

/* Common end of making and recycling: the segment is in place and becomes a spare. */
static void spare_done(struct po__disk_job *job, int status)
{
    struct po__store *s = store_of(job);
    s->task.running = false;
    if (status) {
        po__store_fail(s, status, "preparing a log segment");
        return;
    }
    struct po__segment *seg = s->task.segment;
    s->task.segment = NULL;
    po__list_push(&s->spares, &seg->link);
    s->spares_count++;
    if (s->flush_wanted)
        po__wal_start(s);
    po__segments_maintain(s);
}

/* Make */

static int make_zero_work(struct po__disk_job *job)
{
    struct po__store *s = store_of(job);
    struct po__segment_task *t = &s->task;
    int rv = 0;
    if (!t->tmp)
        rv = s->ops->open(s->disk, &t->tmp, TMP_NAME, PO__FILE_CREATE | PO__FILE_DIRECT);
    size_t len = PO__ZERO_CHUNK_BYTES;
    if (t->segment->size_bytes - t->offset < len)
        len = (size_t)(t->segment->size_bytes - t->offset);
    if (!rv)
        rv = s->ops->write(t->tmp, s->zeros.data, len, t->offset);
    if (!rv)
        t->offset += len;
    return rv;
}

/* Rename tmp-segment, whose content is durable, to its number and open it for the log. */
static int put_in_place(struct po__store *s)
{
    char name[PO__FILE_NAME_BYTES];
    struct po__segment *seg = s->task.segment;
    po__wal_name(name, seg->number);
    int rv = s->ops->rename(s->disk, TMP_NAME, name);
    if (!rv)
        rv = s->ops->sync_dir(s->disk);
    if (!rv && !seg->file)
        rv = s->ops->open(s->disk, &seg->file, name, PO__FILE_DIRECT | PO__FILE_DURABLE);
    return rv;
}

static int make_finish_work(struct po__disk_job *job)
{
    struct po__store *s = store_of(job);
    int rv = s->ops->write(s->task.tmp, s->header_block.data, PO__BLOCK_BYTES, 0);
    if (!rv)
        rv = s->ops->sync(s->task.tmp);
    s->ops->close(s->task.tmp);
    s->task.tmp = NULL;
    return rv ? rv : put_in_place(s);
}

static void make_zero_done(struct po__disk_job *job, int status);

static void make_next_chunk(struct po__store *s)
{
    s->task.parked = false;
    s->zero_credit_bytes -=
        s->zero_credit_bytes < PO__ZERO_CHUNK_BYTES ? s->zero_credit_bytes : PO__ZERO_CHUNK_BYTES;
    s->writes_at_chunk = s->writes_done;
    task_submit(s, make_zero_work, make_zero_done);
}

static bool may_zero(const struct po__store *s)
{
    bool idle = !s->in_flight && s->writes_done == s->writes_at_chunk;
    return s->spares_count == 0 || idle || s->zero_credit_bytes >= PO__ZERO_CHUNK_BYTES;
}

static void make_zero_done(struct po__disk_job *job, int status)
{
    struct po__store *s = store_of(job);
    if (status) {
        s->task.running = false;
        po__store_fail(s, status, "preparing a log segment");
    } else if (s->task.offset == s->task.segment->size_bytes) {
        task_submit(s, make_finish_work, spare_done);
    } else if (may_zero(s)) {
        make_next_chunk(s);
    } else {
        s->task.parked = true; /* a spare is ready, and further log writes bring credit */
    }
}

void po__segments_wrote(struct po__store *s, uint64_t bytes)
{
    s->zero_credit_bytes += bytes * ZERO_PER_LOGGED;
    if (s->zero_credit_bytes > CREDIT_MAX_BYTES)
        s->zero_credit_bytes = CREDIT_MAX_BYTES;
    if (s->task.parked && may_zero(s))
        make_next_chunk(s);
}

/* Recycle and remove */

static int recycle_work(struct po__disk_job *job)
{
    struct po__store *s = store_of(job);
    char old[PO__FILE_NAME_BYTES];
    po__wal_name(old, s->task.from);
    int rv = s->ops->rename(s->disk, old, TMP_NAME);
    if (!rv)
        rv = s->ops->sync_dir(s->disk);
    if (!rv)
        rv = s->ops->write(s->task.segment->file, s->header_block.data, PO__BLOCK_BYTES, 0);
    return rv ? rv : put_in_place(s);
}

static int remove_work(struct po__disk_job *job)
{
    struct po__store *s = store_of(job);
    char name[PO__FILE_NAME_BYTES];
    s->ops->close(s->task.segment->file);
    s->task.segment->file = NULL;
    po__wal_name(name, s->task.from);
    int rv = s->ops->unlink(s->disk, name);
    return rv ? rv : s->ops->sync_dir(s->disk);
}

static void remove_done(struct po__disk_job *job, int status)
{
    struct po__store *s = store_of(job);
    s->task.running = false;
    po__segment_free(s, s->task.segment);
    s->task.segment = NULL;
    if (status)
        po__store_fail(s, status, "removing a log segment");
    else
        po__segments_maintain(s);
}

static void start_disposal(struct po__store *s)
{
    struct po__segment *seg = po__container_of(po__list_pop(&s->retired), struct po__segment, link);
    s->task.segment = seg;
    s->task.from = seg->number;
    if (s->spares_count >= s->opts.segments_spare * PO__SPARES_KEPT_FACTOR ||
        seg->size_bytes != s->opts.segment_bytes) {
        task_submit(s, remove_work, remove_done);
        return;
    }
    seg->number = s->number_next++;
    seg->epoch = po__fmt_epoch(s->identity.directory_id, seg->number);
    seg->end = PO__BLOCK_BYTES;
    seg->max_index = 0;
    po__segment_header(s, s->header_block.data, seg->number);
    task_submit(s, recycle_work, spare_done);
}

static void start_make(struct po__store *s)
{
    struct po__segment *seg;
    int rv = po__segment_alloc(&seg, s->number_next, s);
    if (rv) { /* tried again at the next poll; only a write that waits for it cannot wait for ever
               */
        if (s->spares_count == 0)
            po__store_fail(s, rv, "preparing a log segment");
        return;
    }
    s->number_next++;
    seg->size_bytes = s->opts.segment_bytes;
    s->task.segment = seg;
    s->task.offset = 0;
    po__segment_header(s, s->header_block.data, seg->number);
    make_next_chunk(s);
}

void po__segments_maintain(struct po__store *s)
{
    if (s->broken || !s->recovered)
        return;
    if (s->task.parked && may_zero(s))
        make_next_chunk(s);
    if (s->task.running)
        return;
    if (!po__list_empty(&s->retired))
        start_disposal(s);
    else if (s->spares_count < s->opts.segments_spare)
        start_make(s);
}

void po__segments_retire(struct po__store *s, uint64_t index)
{
    for (;;) {
        struct po__segment *oldest = po__container_of(s->segments.next, struct po__segment, link);
        if (oldest == po__store_active(s) || oldest->max_index > index)
            break;
        po__list_remove(&oldest->link);
        po__list_push(&s->retired, &oldest->link);
    }
    po__segments_maintain(s);
}

void po__store_trim(struct po__store *s, uint64_t index)
{
    if (s->broken)
        return;
    PO_PRE(s->recovered);
    /* Until a reset is durable, a crash brings back the log before it, and recovery must still see
     * that it does not belong to the snapshot. The reset then retires all of it. */
    if (s->resets_pending)
        return;
    /* Never more than what the snapshot on disk covers, whatever the caller believes. */
    po__segments_retire(s, index < s->snapshot.index ? index : s->snapshot.index);
}

/* Bootstrap */

static int write_zeros(struct po__store *s, struct po__file *f, uint64_t bytes)
{
    int rv = 0;
    for (uint64_t at = 0; at < bytes && !rv; at += PO__ZERO_CHUNK_BYTES) {
        size_t len =
            bytes - at < PO__ZERO_CHUNK_BYTES ? (size_t)(bytes - at) : PO__ZERO_CHUNK_BYTES;
        rv = s->ops->write(f, s->zeros.data, len, at);
    }
    return rv;
}

/* The content of segment 1: header and, if there is a first record, one batch. */
static int write_first(struct po__store *s, struct po__file *f, const struct po__rec *first)
{
    struct po__aligned block;
    size_t rec_bytes = first ? PO__REC_BYTES(first->len) : 0;
    size_t bytes = po__block_round(sizeof(struct po__fmt_batch) + rec_bytes);
    uint64_t size =
        s->opts.segment_bytes < FIRST_SEGMENT_BYTES ? s->opts.segment_bytes : FIRST_SEGMENT_BYTES;
    if (po__aligned_calloc(&block, bytes))
        return PO_ENOMEM;
    po__segment_header(s, s->header_block.data, 1);
    int rv = write_zeros(s, f, size);
    if (!rv)
        rv = s->ops->write(f, s->header_block.data, PO__BLOCK_BYTES, 0);
    if (!rv && first) {
        struct po__fmt_batch *h = (struct po__fmt_batch *)(void *)block.data;
        h->epoch = po__fmt_epoch(s->identity.directory_id, 1);
        h->sequence = 1;
        h->len = (uint32_t)rec_bytes;
        memcpy(h + 1, first, rec_bytes);
        po__fmt_batch_seal(h);
        rv = s->ops->write(f, block.data, bytes, PO__BLOCK_BYTES);
    }
    po__aligned_free(&block);
    return rv ? rv : s->ops->sync(f);
}

int po__segment_create_first(struct po__store *s, const struct po__rec *first)
{
    struct po__file *f;
    char name[PO__FILE_NAME_BYTES];
    int rv = s->ops->open(s->disk, &f, TMP_NAME, PO__FILE_CREATE | PO__FILE_DIRECT);
    if (rv)
        return rv;
    rv = write_first(s, f, first);
    s->ops->close(f);
    po__wal_name(name, 1);
    if (!rv)
        rv = s->ops->rename(s->disk, TMP_NAME, name);
    return rv ? rv : s->ops->sync_dir(s->disk);
}
