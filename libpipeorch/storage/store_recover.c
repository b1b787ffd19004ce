/* Recovery: what is durable, in the order in which it was written, and nothing that cannot be
 * trusted.
 *
 * Two walks over the log. The first one checks every batch and finds where the log ends, where its
 * last reset is, and whether it fits the snapshot; the second one hands the records out. One walk
 * could not know in time that everything it reports is void. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "store_internal.h"
#include "store_scan.h"

struct numbers {
    struct po__buf wal;  /* uint64_t each */
    struct po__buf snap; /* index and term each */
};

static int note_file(void *arg, const char *name)
{
    struct numbers *n = arg;
    uint64_t pair[2];
    if (po__wal_parse(name, &pair[0]))
        return po__buf_append(&n->wal, pair, sizeof pair[0]);
    if (po__snap_parse(name, &pair[0], &pair[1]))
        return po__buf_append(&n->snap, pair, sizeof pair);
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* The newest snapshot is the current one: it got its name when it was complete and durable. So it
 * must be sound; falling back to an older one would silently lose what the log no longer holds. */
static int load_snapshot(struct po__store *s, const struct po__buf *found, char *error,
                         size_t error_len)
{
    char name[PO__FILE_NAME_BYTES];
    uint64_t newest[2] = {0, 0};
    const uint64_t *pairs = (const uint64_t *)(const void *)found->data;
    size_t count = found->len / sizeof newest;
    for (size_t i = 0; i < count; i++)
        if (pairs[2 * i] > newest[0] || (pairs[2 * i] == newest[0] && pairs[2 * i + 1] > newest[1]))
            memcpy(newest, &pairs[2 * i], sizeof newest);
    if (count == 0)
        return 0;
    struct po__file *f;
    po__snap_name(name, newest[0], newest[1]);
    int rv = s->ops->open(s->disk, &f, name, 0);
    if (!rv) {
        rv = po__snapshot_load_meta(s, f, &s->snapshot);
        if (!rv && (s->snapshot.index != newest[0] || s->snapshot.term != newest[1])) {
            snprintf(s->disk->last_error, sizeof s->disk->last_error,
                     "%s: holds the snapshot of index %llu, term %llu", name,
                     (unsigned long long)s->snapshot.index, (unsigned long long)s->snapshot.term);
            rv = PO_ECORRUPT;
        }
        if (!rv)
            rv = po__snapshot_verify(s, f, &s->snapshot);
        s->ops->close(f);
    }
    if (rv)
        return po__store_open_error(s, rv, name, error, error_len);
    for (size_t i = 0; i < count && !rv; i++) {
        if (!memcmp(&pairs[2 * i], newest, sizeof newest))
            continue;
        po__snap_name(name, pairs[2 * i], pairs[2 * i + 1]);
        rv = s->ops->unlink(s->disk, name);
    }
    if (!rv && count > 1)
        rv = s->ops->sync_dir(s->disk);
    return rv ? po__store_open_error(s, rv, "removing old snapshots", error, error_len) : 0;
}

/* Open wal-<number> and believe nothing before its header proves that it is ours and in its place.
 */
static int load_segment(struct po__scan *sc, uint64_t number)
{
    struct po__store *s = sc->store;
    char name[PO__FILE_NAME_BYTES];
    struct po__segment *seg;
    int rv = po__segment_alloc(&seg, number, s);
    if (rv) {
        snprintf(sc->error, sc->error_len, "reading the log: out of memory");
        return rv;
    }
    po__list_push(&s->segments, &seg->link);
    po__wal_name(name, number);
    rv = s->ops->open(s->disk, &seg->file, name, PO__FILE_DIRECT | PO__FILE_DURABLE);
    if (!rv)
        rv = s->ops->size(seg->file, &seg->size_bytes);
    seg->size_bytes &= ~(uint64_t)(PO__BLOCK_BYTES - 1);
    if (!rv && seg->size_bytes < PO__BLOCK_BYTES)
        return po__scan_corrupt(sc, seg, 0, "shorter than its header");
    if (!rv)
        rv = s->ops->read(seg->file, s->header_block.data, PO__BLOCK_BYTES, 0);
    if (rv)
        return po__store_open_error(s, rv, "opening the log", sc->error, sc->error_len);
    const struct po__fmt_wal *w = (const struct po__fmt_wal *)(const void *)s->header_block.data;
    rv = po__fmt_check(w, sizeof *w, PO__MAGIC_WAL);
    if (rv == PO_EVERSION) {
        snprintf(sc->error, sc->error_len,
                 "%s: format version %u, this program knows up to %d; use the program that wrote "
                 "it, or a later one",
                 name, (unsigned)w->head.version, PO__FORMAT_VERSION);
        return rv;
    }
    if (rv || w->epoch != po__fmt_epoch(w->directory_id, w->number))
        return po__scan_corrupt(sc, seg, 0, "damaged header");
    if (memcmp(w->cluster_id, s->identity.cluster_id, sizeof w->cluster_id) != 0 ||
        memcmp(w->directory_id, s->identity.directory_id, sizeof w->directory_id) != 0 ||
        w->node_id != s->identity.node_id) {
        snprintf(
            sc->error, sc->error_len,
            "%s: belongs to another node, cluster or directory (node id %llu) than the "
            "identity file beside it (node id %llu); files of different directories were mixed",
            name, (unsigned long long)w->node_id, (unsigned long long)s->identity.node_id);
        return PO_EIDENTITY;
    }
    if (w->number != number)
        return po__scan_corrupt(sc, seg, 0, "its header holds another segment's number");
    return 0;
}

static int load_segments(struct po__scan *sc, struct po__buf *found)
{
    uint64_t *numbers = (uint64_t *)(void *)found->data;
    size_t count = found->len / sizeof *numbers;
    if (count == 0) {
        snprintf(sc->error, sc->error_len,
                 "the directory is bootstrapped but holds no log (wal-*); "
                 "remove this node from the cluster and rejoin with an empty directory");
        return PO_ECORRUPT;
    }
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < count; i++) {
        int rv = load_segment(sc, numbers[i]);
        if (rv)
            return rv;
        if (i && numbers[i] != numbers[i - 1] + 1)
            return po__scan_corrupt(sc, po__store_active(sc->store), 0,
                                    "the log segment before this one is missing");
    }
    sc->store->number_next = numbers[count - 1] + 1;
    return 0;
}

/* What the first walk learns. */
struct survey {
    struct po__scan *scan;
    struct po__store *store;
    struct po__scan_position
        start;               /* of the batches since the last reset, the resetting one included */
    uint64_t start_sequence; /* the one before it */
    bool empty;
    uint64_t first, last, first_term;
    bool covers_snapshot; /* the log holds the snapshot's index, ... */
    uint64_t term_there;  /* ... with this term */
};

static void survey_reset(struct survey *v)
{
    struct po__list *l;
    v->empty = true;
    v->covers_snapshot = false;
    po__list_each(l, &v->store->segments) po__container_of(l, struct po__segment, link)->max_index =
        0;
}

static int survey_record(struct survey *v, const struct po__scan_position *at,
                         const struct po__rec *r)
{
    struct po__list *l;
    if (!v->empty && r->index > v->last + 1)
        return po__scan_corrupt(v->scan, at->segment, at->offset, "records are missing before it");
    if (v->empty || r->index <= v->first) {
        v->first = r->index;
        v->first_term = r->term;
    }
    if (!v->empty && r->index <= v->last) /* supersedes */
        po__list_each(l, &v->store->segments)
        {
            struct po__segment *seg = po__container_of(l, struct po__segment, link);
            if (seg->max_index >= r->index)
                seg->max_index = r->index - 1;
        }
    v->empty = false;
    v->last = at->segment->max_index = r->index;
    if (r->index <= v->store->snapshot.index)
        v->covers_snapshot = r->index == v->store->snapshot.index;
    if (r->index == v->store->snapshot.index)
        v->term_there = r->term;
    return 0;
}

static int survey_record_cb(void *arg, const struct po__scan_position *at, const struct po__rec *r)
{
    return survey_record(arg, at, r);
}

static int survey_batch(void *arg, const struct po__scan_position *at,
                        const struct po__fmt_batch *b)
{
    struct survey *v = arg;
    if (b->flags & PO__BATCH_RESET) {
        survey_reset(v);
        v->start = *at;
        v->start_sequence = b->sequence - 1;
    }
    return po__scan_records(v->scan, at, b, survey_record_cb, v);
}

struct report {
    struct po__scan *scan;
    int (*cb)(void *arg, const struct po__rec *r);
    void *arg;
};

static int report_record(void *arg, const struct po__scan_position *at, const struct po__rec *r)
{
    (void)at;
    struct report *p = arg;
    int rv = p->cb(p->arg, r);
    if (rv)
        snprintf(p->scan->error, p->scan->error_len, "loading the record of index %llu: %s",
                 (unsigned long long)r->index, po_strerror(rv));
    return rv;
}

static int report_batch(void *arg, const struct po__scan_position *at,
                        const struct po__fmt_batch *b)
{
    struct report *p = arg;
    return po__scan_records(p->scan, at, b, report_record, p);
}

/* Segments behind the end of the log are spares. */
static void split_spares(struct po__store *s, struct po__segment *active)
{
    while (po__store_active(s) != active) {
        struct po__list *l = s->segments.prev;
        po__list_remove(l);
        po__list_push_front(&s->spares, l);
        s->spares_count++;
    }
}

/* Does the log belong behind the snapshot? 1 yes, 0 no (it is void), PO_ECORRUPT: there is a hole
 * between them. */
static int fits_snapshot(struct survey *v)
{
    const struct po__snapshot_meta *snap = &v->store->snapshot;
    if (v->empty)
        return 1;
    if (v->first > snap->index + 1)
        return po__scan_corrupt(v->scan, v->start.segment, v->start.offset,
                                "records between the snapshot and the log are missing");
    if (v->last < snap->index)
        return 0;
    if (v->first == snap->index + 1 && v->first_term < snap->term) /* terms never decrease */
        return 0;
    return !v->covers_snapshot || v->term_there == snap->term;
}

static int read_log(struct po__scan *sc, struct po__recovery *rec,
                    int (*cb)(void *arg, const struct po__rec *r), void *arg)
{
    struct po__store *s = sc->store;
    struct po__segment *oldest = po__container_of(s->segments.next, struct po__segment, link);
    struct po__scan_position end = {oldest, PO__BLOCK_BYTES};
    struct survey v = {.scan = sc, .store = s, .start = end, .empty = true};
    struct report p = {sc, cb, arg};
    int rv = po__scan_walk(sc, &end, survey_batch, &v);
    if (!rv)
        rv = po__scan_check_end(sc, &end);
    if (!rv)
        rv = fits_snapshot(&v);
    if (rv < 0)
        return rv;
    bool fits = rv;
    rv = po__scan_cut(sc, &end);
    if (rv)
        return rv;
    /* The last batch may be whole only in a cache: its writer was killed before the device had it.
     * The owner counts everything it gets from here as durable. */
    rv = s->ops->sync(end.segment->file);
    if (rv)
        return po__store_open_error(s, rv, "syncing the log", sc->error, sc->error_len);
    end.segment->end = end.offset;
    s->sequence_next = sc->sequence + 1;
    rec->first_index = s->snapshot.index + 1;
    rec->last_index = s->snapshot.index;
    if (fits && !v.empty) {
        rec->first_index = v.first;
        rec->last_index = v.last;
        sc->sequence = v.start_sequence;
        struct po__scan_position at = v.start;
        rv = po__scan_walk(sc, &at, report_batch, &p);
        if (rv)
            return rv;
        if (at.segment != end.segment || at.offset != end.offset)
            return po__scan_corrupt(sc, at.segment, at.offset, "reads differently the second time");
    }
    s->log_empty = v.empty;
    s->last_index = rec->last_index;
    split_spares(s, end.segment);
    if (!fits) {
        po__warn(&s->opts.log, "store.discard",
                 "the log (%llu..%llu) ends below or contradicts the snapshot of index %llu and is "
                 "discarded",
                 (unsigned long long)v.first, (unsigned long long)v.last,
                 (unsigned long long)s->snapshot.index);
        s->reset_wanted = true;
        s->resets_pending = 1;
        s->reset_next = s->snapshot.index + 1;
        s->log_empty = true;
    }
    return 0;
}

int po__store_recover(struct po__store *s, struct po__recovery *rec,
                      int (*cb)(void *arg, const struct po__rec *r), void *arg, char *error,
                      size_t error_len)
{
    struct numbers found = {0};
    struct po__scan sc = {0};
    PO_PRE(!s->recovered && po__list_empty(&s->segments));
    if (s->broken || !s->has_identity) {
        snprintf(error, error_len, "%s",
                 s->broken ? s->broken_message : "the directory is not bootstrapped");
        return s->broken ? s->broken : PO_ENOTBOOTSTRAPPED;
    }
    int rv = s->ops->list(s->disk, note_file, &found);
    if (rv) {
        po__store_open_error(s, rv, "listing the data directory", error, error_len);
        goto out;
    }
    rv = po__scan_init(&sc, s, error, error_len);
    if (!rv)
        rv = po__meta_open(s, error, error_len);
    if (!rv)
        rv = load_snapshot(s, &found.snap, error, error_len);
    if (!rv)
        rv = load_segments(&sc, &found.wal);
    if (!rv)
        rv = read_log(&sc, rec, cb, arg);
    if (rv)
        goto out;
    rec->term = s->term;
    rec->vote = s->vote;
    rec->snapshot = s->snapshot;
    s->recovered = true;
    po__segments_maintain(s);
out:
    po__scan_fini(&sc);
    po__buf_fini(&found.wal);
    po__buf_fini(&found.snap);
    return rv;
}
