/* Writing snapshots, in the background: frames on the slow channel while the owner goes on with its
 * log.
 *
 * A snapshot is `tmp-snap-<n>` until it is complete and durable; then it gets its name, and only a
 * durable name makes it current. Older ones are removed after that, so at every instant at least
 * one sound snapshot has a name. Two may be written at once (our own, and one received); the ends
 * are taken one after the other, and the one with the lower index never replaces the higher one: it
 * is dropped, since what it covers is covered. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"
#include "store_internal.h"

struct frame_job {
    struct po__disk_job job;
    struct po__list link; /* in the writer's frames */
    struct po__snapshot_writer *writer;
    struct po__aligned memory;
    uint64_t offset;
    size_t len; /* content bytes */
};

enum writer_state { WRITING, FINISH_WAITING, FINISHING, CLEANING, ABORTING };

struct po__snapshot_writer {
    struct po__list link;
    struct po__store *store;
    enum writer_state state;
    char tmp_name[PO__FILE_NAME_BYTES];
    char name[PO__FILE_NAME_BYTES];
    char old_name[PO__FILE_NAME_BYTES]; /* of the snapshot that it replaces; empty: none */
    bool superseded;
    struct po__file *file;          /* opened and used by jobs only */
    struct po__snapshot_meta given; /* as the caller said at begin */
    struct po__aligned header;
    struct po__aligned footer;
    struct frame_job *frame; /* being filled */
    uint64_t frames_count;
    uint64_t offset; /* of the next frame */
    uint64_t size_bytes;
    uint32_t crc;
    size_t queued_bytes; /* content bytes in frames not yet written */
    struct po__list frames;
    struct po__disk_job job; /* begin, finish, clean-up, abort: one at a time */
    bool job_busy;
    bool abort_wanted;
    po__store_cb cb;
    void *arg;
};

static struct po__snapshot_writer *writer_of(struct po__disk_job *job)
{
    return po__container_of(job, struct po__snapshot_writer, job);
}

static void frame_free(struct frame_job *f)
{
    if (!f)
        return;
    po__aligned_free(&f->memory);
    po__free(f);
}

static void writer_free(struct po__snapshot_writer *w)
{
    struct po__store *s = w->store;
    struct po__list *l;
    while ((l = po__list_pop(&w->frames)))
        frame_free(po__container_of(l, struct frame_job, link));
    frame_free(w->frame);
    if (w->file)
        s->ops->close(w->file);
    po__aligned_free(&w->header);
    po__aligned_free(&w->footer);
    po__list_remove(&w->link);
    s->writers_count--;
    if (s->finishing == w)
        s->finishing = NULL;
    po__free(w);
}

void po__snapshots_fini(struct po__store *s)
{
    struct po__list *l;
    while ((l = po__list_first(&s->writers)))
        writer_free(po__container_of(l, struct po__snapshot_writer, link));
}

static void submit(struct po__snapshot_writer *w, int (*work)(struct po__disk_job *job),
                   void (*done)(struct po__disk_job *job, int status))
{
    PO_INVARIANT(!w->job_busy);
    w->job_busy = true;
    w->job.work = work;
    w->job.done = done;
    w->store->ops->submit(w->store->disk, PO__CHANNEL_SLOW, &w->job);
}

/* Begin */

static int begin_work(struct po__disk_job *job)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    int rv = s->ops->open(s->disk, &w->file, w->tmp_name, PO__FILE_CREATE | PO__FILE_DIRECT);
    return rv ? rv : s->ops->write(w->file, w->header.data, PO__SNAPSHOT_HEADER_BYTES, 0);
}

static void go_on(struct po__snapshot_writer *w);

static void begin_done(struct po__disk_job *job, int status)
{
    struct po__snapshot_writer *w = writer_of(job);
    w->job_busy = false;
    if (status)
        po__store_fail(w->store, status, "writing a snapshot");
    go_on(w);
}

static void fill_header(struct po__snapshot_writer *w)
{
    struct po__fmt_snapshot *h = (struct po__fmt_snapshot *)(void *)w->header.data;
    memcpy(h->cluster_id, w->store->identity.cluster_id, sizeof h->cluster_id);
    h->index = w->given.index;
    h->term = w->given.term;
    h->conf_index = w->given.conf_index;
    h->conf_len = w->given.conf_len;
    memcpy(h->conf, w->given.conf, w->given.conf_len);
    po__fmt_seal(h, sizeof *h, PO__MAGIC_SNAPSHOT);
}

int po__store_snapshot_begin(struct po__store *s, struct po__snapshot_writer **out,
                             const struct po__snapshot_meta *meta)
{
    if (s->broken)
        return s->broken;
    PO_PRE(s->recovered && meta->index > 0 && meta->conf_len <= PO__SNAPSHOT_CONF_MAX_BYTES);
    if (s->writers_count == PO__SNAPSHOT_WRITERS_MAX)
        return PO_EBUSY;
    struct po__snapshot_writer *w = po__calloc(1, sizeof *w);
    if (!w)
        return PO_ENOMEM;
    w->store = s;
    w->given = *meta;
    po__list_init(&w->frames);
    po__list_push(&s->writers, &w->link);
    s->writers_count++;
    if (po__aligned_calloc(&w->header, PO__SNAPSHOT_HEADER_BYTES) ||
        po__aligned_calloc(&w->footer, PO__BLOCK_BYTES)) {
        writer_free(w);
        return PO_ENOMEM;
    }
    snprintf(w->tmp_name, sizeof w->tmp_name, "tmp-snap-%" PRIu64, s->writer_serial++);
    po__snap_name(w->name, meta->index, meta->term);
    w->offset = PO__SNAPSHOT_HEADER_BYTES;
    fill_header(w);
    submit(w, begin_work, begin_done);
    *out = w;
    return 0;
}

/* Frames */

static int frame_work(struct po__disk_job *job)
{
    struct frame_job *f = po__container_of(job, struct frame_job, job);
    struct po__snapshot_writer *w = f->writer;
    struct po__fmt_frame *h = (struct po__fmt_frame *)(void *)f->memory.data;
    h->crc = po__crc32c(0, &h->number, sizeof *h - offsetof(struct po__fmt_frame, number) + f->len);
    if (!w->file) /* its creation failed */
        return PO_EIO;
    size_t bytes = po__block_round(sizeof *h + f->len);
    memset(f->memory.data + sizeof *h + f->len, 0, bytes - sizeof *h - f->len);
    return w->store->ops->write(w->file, f->memory.data, bytes, f->offset);
}

static void frame_done(struct po__disk_job *job, int status)
{
    struct frame_job *f = po__container_of(job, struct frame_job, job);
    struct po__snapshot_writer *w = f->writer;
    w->queued_bytes -= f->len;
    po__list_remove(&f->link);
    frame_free(f);
    if (status)
        po__store_fail(w->store, status, "writing a snapshot");
    go_on(w);
}

static void frame_submit(struct po__snapshot_writer *w)
{
    struct frame_job *f = w->frame;
    struct po__fmt_frame *h = (struct po__fmt_frame *)(void *)f->memory.data;
    h->magic = PO__MAGIC_FRAME;
    h->number = w->frames_count++;
    h->index = w->given.index;
    h->len = (uint32_t)f->len;
    h->reserved = 0;
    f->offset = w->offset;
    w->offset += po__block_round(sizeof *h + f->len);
    w->frame = NULL;
    f->job.work = frame_work;
    f->job.done = frame_done;
    po__list_push(&w->frames, &f->link);
    w->store->ops->submit(w->store->disk, PO__CHANNEL_SLOW, &f->job);
}

static int frame_open(struct po__snapshot_writer *w, struct po__list *fresh)
{
    struct frame_job *f = po__calloc(1, sizeof *f);
    if (!f)
        return PO_ENOMEM;
    po__list_init(&f->link);
    f->writer = w;
    if (po__aligned_alloc(&f->memory, PO__FRAME_BYTES)) {
        frame_free(f);
        return PO_ENOMEM;
    }
    po__list_push(fresh, &f->link);
    return 0;
}

/* All the memory that `len` more bytes need, before any of them is taken: a refused call leaves
 * nothing behind. */
static int frames_open(struct po__snapshot_writer *w, size_t len, struct po__list *fresh)
{
    size_t room = w->frame ? PO__FRAME_CONTENT_BYTES - w->frame->len : 0;
    po__list_init(fresh);
    for (; room < len; room += PO__FRAME_CONTENT_BYTES) {
        int rv = frame_open(w, fresh);
        if (rv) {
            struct po__list *l;
            while ((l = po__list_pop(fresh)))
                frame_free(po__container_of(l, struct frame_job, link));
            return rv;
        }
    }
    return 0;
}

int po__store_snapshot_write(struct po__snapshot_writer *w, const void *data, size_t len)
{
    struct po__store *s = w->store;
    const uint8_t *p = data;
    struct po__list fresh;
    if (s->broken)
        return s->broken;
    PO_PRE(w->state == WRITING && !w->abort_wanted);
    if (w->queued_bytes && w->queued_bytes + len > PO__SNAPSHOT_QUEUE_MAX_BYTES)
        return PO_EBUSY;
    int rv = frames_open(w, len, &fresh);
    if (rv)
        return rv;
    w->crc = po__crc32c(w->crc, data, len);
    w->size_bytes += len;
    w->queued_bytes += len;
    while (len) {
        if (!w->frame)
            w->frame = po__container_of(po__list_pop(&fresh), struct frame_job, link);
        size_t n = PO__FRAME_CONTENT_BYTES - w->frame->len;
        if (n > len)
            n = len;
        memcpy(w->frame->memory.data + sizeof(struct po__fmt_frame) + w->frame->len, p, n);
        w->frame->len += n;
        p += n;
        len -= n;
        if (w->frame->len == PO__FRAME_CONTENT_BYTES)
            frame_submit(w);
    }
    return 0;
}

size_t po__store_snapshot_queued(const struct po__snapshot_writer *w)
{
    /* What fills the last frame waits for more content, not for the disk. */
    return w->queued_bytes - (w->frame ? w->frame->len : 0);
}

/* Finish */

static int cleanup_work(struct po__disk_job *job)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    if (!w->old_name[0])
        return 0;
    int rv = s->ops->unlink(s->disk, w->old_name);
    return rv ? rv : s->ops->sync_dir(s->disk);
}

static void cleanup_done(struct po__disk_job *job, int status)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    struct po__list *l;
    po__store_cb cb = w->abort_wanted ? NULL : w->cb;
    void *arg = w->arg;
    uint64_t index = w->given.index;
    writer_free(w);
    if (status) {
        po__store_fail(s, status, "removing an old snapshot");
        return;
    }
    if (s->broken)
        return;
    if ((l = po__list_first(&s->writers))) /* the other one, if it waits for its turn */
        go_on(po__container_of(l, struct po__snapshot_writer, link));
    if (cb)
        cb(arg, index);
}

static int finish_work(struct po__disk_job *job)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    if (!w->file)
        return PO_EIO;
    int rv = 0;
    if (!w->superseded) {
        rv = s->ops->write(w->file, w->footer.data, PO__BLOCK_BYTES, w->offset);
        if (!rv)
            rv = s->ops->sync(w->file);
    }
    s->ops->close(w->file);
    w->file = NULL;
    if (!rv)
        rv = w->superseded ? s->ops->unlink(s->disk, w->tmp_name)
                           : s->ops->rename(s->disk, w->tmp_name, w->name);
    return rv ? rv : s->ops->sync_dir(s->disk);
}

static void finish_done(struct po__disk_job *job, int status)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    w->job_busy = false;
    if (status) {
        po__store_fail(s, status, "finishing a snapshot");
        return; /* the writer stays in the list until close */
    }
    if (!w->superseded) {
        if (s->snapshot.index)
            po__snap_name(w->old_name, s->snapshot.index, s->snapshot.term);
        if (!strcmp(w->old_name, w->name)) /* replaced by the rename */
            w->old_name[0] = '\0';
        s->snapshot = w->given;
        s->snapshot.size_bytes = w->size_bytes;
        s->snapshot.crc = w->crc;
    }
    w->state = CLEANING;
    submit(w, cleanup_work, cleanup_done);
}

static void start_finish(struct po__snapshot_writer *w)
{
    struct po__store *s = w->store;
    w->state = FINISHING;
    s->finishing = w;
    w->superseded = w->given.index < s->snapshot.index;
    submit(w, finish_work, finish_done);
}

int po__store_snapshot_finish(struct po__snapshot_writer *w, po__store_cb cb, void *arg)
{
    struct po__store *s = w->store;
    if (s->broken)
        return s->broken;
    PO_PRE(w->state == WRITING && !w->abort_wanted);
    if ((w->given.size_bytes || w->given.crc) &&
        (w->given.size_bytes != w->size_bytes || w->given.crc != w->crc))
        return PO_ECORRUPT;
    w->cb = cb;
    w->arg = arg;
    struct po__fmt_footer *ft = (struct po__fmt_footer *)(void *)w->footer.data;
    ft->index = w->given.index;
    ft->term = w->given.term;
    ft->size_bytes = w->size_bytes;
    ft->crc = w->crc;
    po__fmt_seal(ft, sizeof *ft, PO__MAGIC_FOOTER);
    if (w->frame)
        frame_submit(w);
    w->state = FINISH_WAITING;
    go_on(w);
    return 0;
}

/* Abort */

static int abort_work(struct po__disk_job *job)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    if (!w->file)
        return 0;
    s->ops->close(w->file);
    w->file = NULL;
    return s->ops->unlink(s->disk, w->tmp_name);
}

static void abort_done(struct po__disk_job *job, int status)
{
    struct po__snapshot_writer *w = writer_of(job);
    struct po__store *s = w->store;
    writer_free(w);
    if (status)
        po__store_fail(s, status, "removing an unfinished snapshot");
}

/* The one place where the next stage begins: when nothing of the writer is under way any more. */
static void go_on(struct po__snapshot_writer *w)
{
    struct po__store *s = w->store;
    if (s->broken || w->job_busy || !po__list_empty(&w->frames))
        return;
    if (w->abort_wanted && (w->state == WRITING || w->state == FINISH_WAITING)) {
        w->state = ABORTING;
        submit(w, abort_work, abort_done);
    } else if (w->state == FINISH_WAITING && !s->finishing) {
        start_finish(w);
    }
}

void po__store_snapshot_abort(struct po__snapshot_writer *w)
{
    if (!w)
        return;
    PO_PRE(!w->abort_wanted);
    w->abort_wanted = true; /* a finish under way completes, silently */
    go_on(w);
}
