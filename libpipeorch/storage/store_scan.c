#include "store_scan.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"

int po__scan_init(struct po__scan *sc, struct po__store *s, char *error, size_t error_len)
{
    *sc = (struct po__scan){.store = s, .error = error, .error_len = error_len};
    if (po__aligned_alloc(&sc->window, PO__BATCH_BYTES_MAX)) {
        snprintf(error, error_len, "reading the log: out of memory");
        return PO_ENOMEM;
    }
    return 0;
}

void po__scan_fini(struct po__scan *sc)
{
    po__aligned_free(&sc->window);
}

int po__scan_corrupt(struct po__scan *sc, const struct po__segment *seg, uint64_t offset,
                     const char *text)
{
    char name[PO__FILE_NAME_BYTES];
    po__wal_name(name, seg->number);
    snprintf(sc->error, sc->error_len,
             "%s: %s, at offset %llu; the log cannot be trusted: remove this node from the cluster "
             "and rejoin with an empty directory",
             name, text, (unsigned long long)offset);
    return PO_ECORRUPT;
}

/* len bytes of the segment at offset, both in whole blocks and inside the file. Valid until the
 * next call. */
static int view(struct po__scan *sc, const struct po__segment *seg, uint64_t offset, size_t len,
                uint8_t **data)
{
    PO_INVARIANT(len <= PO__BATCH_BYTES_MAX && offset + len <= seg->size_bytes);
    if (sc->window_segment != seg || offset < sc->window_offset ||
        offset + len > sc->window_offset + sc->window_len) {
        size_t bytes = PO__BATCH_BYTES_MAX;
        if (seg->size_bytes - offset < bytes)
            bytes = (size_t)(seg->size_bytes - offset);
        sc->window_segment = NULL;
        int rv = sc->store->ops->read(seg->file, sc->window.data, bytes, offset);
        if (rv) {
            po__store_open_error(sc->store, rv, "reading the log", sc->error, sc->error_len);
            return rv;
        }
        sc->window_segment = seg;
        sc->window_offset = offset;
        sc->window_len = bytes;
    }
    *data = sc->window.data + (offset - sc->window_offset);
    return 0;
}

static size_t batch_bytes(const struct po__fmt_batch *b)
{
    return po__block_round(sizeof *b + b->len);
}

/* 1 and *b if a batch header of this segment's life is at offset, 0 if not, < 0 on error. Its
 * extent lies inside the file. */
static int header_at(struct po__scan *sc, const struct po__segment *seg, uint64_t offset,
                     const struct po__fmt_batch **b)
{
    uint8_t *data = NULL;
    if (offset + PO__BLOCK_BYTES > seg->size_bytes)
        return 0;
    int rv = view(sc, seg, offset, PO__BLOCK_BYTES, &data);
    PO_INVARIANT(rv <= 0);
    if (rv)
        return rv;
    *b = (const struct po__fmt_batch *)(const void *)data;
    return po__fmt_batch_header_ok(*b, seg->epoch) && (*b)->len <= PO__BATCH_BYTES_MAX &&
           batch_bytes(*b) <= PO__BATCH_BYTES_MAX && offset + batch_bytes(*b) <= seg->size_bytes;
}

/* 1 if the next batch of the log is at this position, whole. */
static int batch_at(struct po__scan *sc, const struct po__scan_position *at,
                    const struct po__fmt_batch **b)
{
    uint8_t *data = NULL;
    int rv = header_at(sc, at->segment, at->offset, b);
    if (rv <= 0)
        return rv;
    if (sc->sequence && (*b)->sequence != sc->sequence + 1)
        return 0;
    rv = view(sc, at->segment, at->offset, batch_bytes(*b), &data);
    PO_INVARIANT(rv <= 0);
    if (rv)
        return rv;
    *b = (const struct po__fmt_batch *)(const void *)data;
    return po__crc32c(0, *b + 1, (*b)->len) == (*b)->crc;
}

static struct po__segment *segment_after(struct po__scan *sc, struct po__segment *seg)
{
    return seg->link.next == &sc->store->segments
               ? NULL
               : po__container_of(seg->link.next, struct po__segment, link);
}

int po__scan_walk(struct po__scan *sc, struct po__scan_position *at, po__scan_cb cb, void *arg)
{
    for (;;) {
        const struct po__fmt_batch *b = NULL;
        struct po__scan_position here = *at;
        int rv = batch_at(sc, &here, &b);
        if (rv == 0 && at->offset > PO__BLOCK_BYTES && segment_after(sc, at->segment)) {
            here.segment = segment_after(sc, at->segment);
            here.offset = PO__BLOCK_BYTES;
            rv = batch_at(sc, &here, &b);
        }
        if (rv <= 0)
            return rv;
        sc->sequence = b->sequence;
        *at = here;
        at->offset += batch_bytes(b);
        rv = cb(arg, &here, b);
        if (rv)
            return rv;
    }
}

/* Where the search for later batches begins: behind the extent of the one batch that may rightly be
 * torn at `at`. */
static int skip_torn(struct po__scan *sc, struct po__scan_position *at)
{
    const struct po__fmt_batch *b = NULL;
    int rv = header_at(sc, at->segment, at->offset, &b);
    if (rv <= 0)
        return rv;
    if (sc->sequence && b->sequence != sc->sequence + 1)
        return 0;
    char name[PO__FILE_NAME_BYTES];
    po__wal_name(name, at->segment->number);
    po__warn(&sc->store->opts.log, "store.cut",
             "%s: a write of %zu bytes at offset %llu was torn by a crash before it was reported "
             "durable; it is cut",
             name, batch_bytes(b), (unsigned long long)at->offset);
    at->offset += batch_bytes(b);
    return 0;
}

static int lost_middle(struct po__scan *sc, const struct po__scan_position *end,
                       const struct po__scan_position *later)
{
    char name[PO__FILE_NAME_BYTES], text[192];
    po__wal_name(name, later->segment->number);
    snprintf(text, sizeof text, "damaged here or right behind, since later log exists (%s, %llu)",
             name, (unsigned long long)later->offset);
    return po__scan_corrupt(sc, end->segment, end->offset, text);
}

int po__scan_check_end(struct po__scan *sc, const struct po__scan_position *end)
{
    struct po__scan_position at = *end;
    bool after_end = false; /* at is in the segment that follows the end's */
    int rv = skip_torn(sc, &at);
    while (!rv) {
        uint64_t limit = at.segment->size_bytes;
        if (at.segment != end->segment && !after_end &&
            limit > PO__BLOCK_BYTES + PO__BATCH_BYTES_MAX)
            limit = PO__BLOCK_BYTES +
                    PO__BATCH_BYTES_MAX; /* far behind the end: its beginning is enough */
        for (; at.offset < limit; at.offset += PO__BLOCK_BYTES) {
            const struct po__fmt_batch *b = NULL;
            rv = header_at(sc, at.segment, at.offset, &b);
            if (rv < 0)
                return rv;
            if (rv > 0)
                return lost_middle(sc, end, &at);
        }
        after_end = at.segment == end->segment;
        at.segment = segment_after(sc, at.segment);
        at.offset = PO__BLOCK_BYTES;
        if (!at.segment)
            break;
        /* The log may have rolled over and been torn there. */
        rv = after_end && end->offset > PO__BLOCK_BYTES ? skip_torn(sc, &at) : 0;
    }
    return rv;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int wipe(struct po__scan *sc, const struct po__segment *seg, uint64_t from)
{
    uint64_t to = from + PO__BATCH_BYTES_MAX;
    if (to > seg->size_bytes)
        to = seg->size_bytes;
    while (from < to) {
        uint8_t *data = NULL;
        size_t len = to - from < PO__ZERO_CHUNK_BYTES ? (size_t)(to - from) : PO__ZERO_CHUNK_BYTES;
        int rv = view(sc, seg, from, len, &data);
        if (rv)
            return rv;
        if (!all_zero(data, len)) {
            rv = sc->store->ops->write(seg->file, sc->store->zeros.data, len, from);
            if (rv)
                return po__store_open_error(sc->store, rv, "cutting the log's torn end", sc->error,
                                            sc->error_len);
        }
        from += len;
    }
    return 0;
}

int po__scan_cut(struct po__scan *sc, const struct po__scan_position *end)
{
    struct po__segment *next = segment_after(sc, end->segment);
    int rv = wipe(sc, end->segment, end->offset);
    if (!rv && next)
        rv = wipe(sc, next, PO__BLOCK_BYTES);
    sc->window_segment = NULL;
    return rv;
}

/* Each record of a batch. A sealed batch whose records are malformed was written so. */
int po__scan_records(
    struct po__scan *sc, const struct po__scan_position *at, const struct po__fmt_batch *b,
    int (*cb)(void *arg, const struct po__scan_position *at, const struct po__rec *r), void *arg)
{
    const uint8_t *data = (const uint8_t *)(b + 1);
    for (size_t offset = 0; offset < b->len;) {
        const struct po__rec *r = (const struct po__rec *)(const void *)(data + offset);
        if (po__rec_check(r, b->len - offset) || r->index == 0)
            return po__scan_corrupt(sc, at->segment, at->offset, "malformed record in this batch");
        int rv = cb(arg, at, r);
        if (rv)
            return rv;
        offset += PO__REC_BYTES(r->len);
    }
    return 0;
}
