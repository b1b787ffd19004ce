/* A directory seen by tools: its segments, its records, and its cluster id everywhere. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "store_internal.h"
#include "store_scan.h"

/* ---- segments ---- */

struct segment_walk {
    struct po__scan *scan;
    struct po__segment_info *infos;
    size_t count;
    uint64_t first_number;
};

static int count_record(void *arg, const struct po__scan_position *at, const struct po__rec *r)
{
    struct segment_walk *w = arg;
    struct po__segment_info *i = &w->infos[at->segment->number - w->first_number];
    if (!i->records++) {
        i->first_index = r->index;
        i->first_term = r->term;
    }
    i->last_index = r->index;
    i->last_term = r->term;
    return 0;
}

static int count_batch(void *arg, const struct po__scan_position *at, const struct po__fmt_batch *b)
{
    struct segment_walk *w = arg;
    struct po__segment_info *i = &w->infos[at->segment->number - w->first_number];
    i->batches++;
    i->end_bytes = at->offset + po__block_round(sizeof *b + b->len);
    return po__scan_records(w->scan, at, b, count_record, w);
}

static size_t list_length(const struct po__list *head)
{
    const struct po__list *l;
    size_t n = 0;
    po__list_each(l, head) n++;
    return n;
}

static void note_segments(struct segment_walk *w, const struct po__list *list, bool spare)
{
    const struct po__list *l;
    po__list_each(l, list)
    {
        const struct po__segment *seg = po__container_of(l, struct po__segment, link);
        w->infos[w->count++] = (struct po__segment_info){.number = seg->number,
                                                         .size_bytes = seg->size_bytes,
                                                         .end_bytes = PO__BLOCK_BYTES,
                                                         .spare = spare};
    }
}

static struct po__scan_position log_start(struct po__store *s)
{
    struct po__segment *oldest = po__container_of(s->segments.next, struct po__segment, link);
    return (struct po__scan_position){oldest, PO__BLOCK_BYTES};
}

int po__store_each_segment(struct po__store *s,
                           int (*cb)(void *arg, const struct po__segment_info *info), void *arg,
                           char *error, size_t error_len)
{
    PO_PRE(s->recovered);
    struct po__scan sc;
    struct po__scan_position at = log_start(s);
    struct segment_walk w = {.scan = &sc, .first_number = at.segment->number};
    size_t count = list_length(&s->segments) + list_length(&s->spares);
    int rv = po__scan_init(&sc, s, error, error_len);
    if (rv)
        return rv;
    w.infos = po__calloc(count, sizeof *w.infos);
    if (!w.infos) {
        snprintf(error, error_len, "out of memory for %zu segments", count);
        rv = PO_ENOMEM;
        goto out;
    }
    note_segments(&w, &s->segments, false);
    note_segments(&w, &s->spares, true);
    rv = po__scan_walk(&sc, &at, count_batch, &w);
    for (size_t i = 0; i < w.count && !rv; i++)
        rv = cb(arg, &w.infos[i]);
out:
    po__free(w.infos);
    po__scan_fini(&sc);
    return rv;
}

/* ---- records that count ---- */

/* A record with an index not above the one before it voids all earlier ones from that index on; a
 * reset voids all. `at` is its ordinal. Kept with both fields increasing: an event voids what those
 * before it with a higher index voided, and more. */
struct truncation {
    uint64_t at, index;
};

struct record_walk {
    struct po__scan *scan;
    struct po__buf truncations;
    uint64_t ordinal, last_index;
    size_t next; /* second walk: the first truncation behind the ordinal */
    int (*cb)(void *arg, const struct po__rec *r, uint64_t segment, uint64_t offset);
    void *arg;
};

static struct truncation *truncations(struct record_walk *w, size_t *count)
{
    *count = w->truncations.len / sizeof(struct truncation);
    return (struct truncation *)(void *)w->truncations.data;
}

static int truncate_at(struct record_walk *w, uint64_t index)
{
    size_t count;
    struct truncation *t = truncations(w, &count), fresh = {w->ordinal, index};
    while (count && t[count - 1].index >= index)
        count--;
    w->truncations.len = count * sizeof *t;
    return po__buf_append(&w->truncations, &fresh, sizeof fresh);
}

static int learn_record(void *arg, const struct po__scan_position *at, const struct po__rec *r)
{
    struct record_walk *w = arg;
    (void)at;
    int rv = r->index <= w->last_index ? truncate_at(w, r->index) : 0;
    w->last_index = r->index;
    w->ordinal++;
    return rv;
}

static int learn_batch(void *arg, const struct po__scan_position *at, const struct po__fmt_batch *b)
{
    struct record_walk *w = arg;
    if (b->flags & PO__BATCH_RESET) {
        int rv = truncate_at(w, 0);
        if (rv)
            return rv;
        w->last_index = 0;
    }
    return po__scan_records(w->scan, at, b, learn_record, w);
}

static int give_record(void *arg, const struct po__scan_position *at, const struct po__rec *r)
{
    struct record_walk *w = arg;
    size_t count;
    const struct truncation *t = truncations(w, &count);
    while (w->next < count && t[w->next].at <= w->ordinal)
        w->next++;
    w->ordinal++;
    /* Of the later truncations the next one reaches back furthest. */
    if (w->next < count && t[w->next].index <= r->index)
        return 0;
    return w->cb(w->arg, r, at->segment->number, at->offset);
}

static int give_batch(void *arg, const struct po__scan_position *at, const struct po__fmt_batch *b)
{
    struct record_walk *w = arg;
    return po__scan_records(w->scan, at, b, give_record, w);
}

int po__store_each_record(struct po__store *s,
                          int (*cb)(void *arg, const struct po__rec *r, uint64_t segment,
                                    uint64_t offset),
                          void *arg, char *error, size_t error_len)
{
    PO_PRE(s->recovered);
    struct po__scan sc;
    struct record_walk w = {.scan = &sc, .cb = cb, .arg = arg};
    if (s->reset_wanted) /* recovery found the whole log void */
        return 0;
    int rv = po__scan_init(&sc, s, error, error_len);
    if (rv)
        return rv;
    po__buf_init(&w.truncations, 0);
    struct po__scan_position at = log_start(s);
    rv = po__scan_walk(&sc, &at, learn_batch, &w);
    if (!rv) {
        w.ordinal = 0;
        sc.sequence = 0;
        at = log_start(s);
        rv = po__scan_walk(&sc, &at, give_batch, &w);
    }
    if (rv == PO_ENOMEM)
        snprintf(error, error_len, "reading the log: out of memory");
    po__buf_fini(&w.truncations);
    po__scan_fini(&sc);
    return rv;
}

/* ---- cluster id ---- */

struct rebrand {
    struct po__disk *disk;
    struct po__buf names;
    const uint8_t *cluster_id;
};

static int note_branded(void *arg, const char *name)
{
    struct rebrand *r = arg;
    uint64_t n, m;
    if (strlen(name) >= PO__FILE_NAME_BYTES ||
        (strcmp(name, "identity") != 0 && !po__wal_parse(name, &n) &&
         !po__snap_parse(name, &n, &m)))
        return 0;
    return po__buf_append(&r->names, name, strlen(name) + 1);
}

/* The first structure of the file has a cluster id right behind its head, whatever it is. */
_Static_assert(offsetof(struct po__fmt_identity, cluster_id) == sizeof(struct po__fmt_head) &&
                   offsetof(struct po__fmt_wal, cluster_id) == sizeof(struct po__fmt_head) &&
                   offsetof(struct po__fmt_snapshot, cluster_id) == sizeof(struct po__fmt_head),
               "the cluster id comes first");

static int rebrand_file(struct rebrand *r, const char *name)
{
    const struct po__disk_ops *ops = r->disk->ops;
    uint64_t n, m;
    bool snapshot = po__snap_parse(name, &n, &m);
    size_t bytes = snapshot ? PO__SNAPSHOT_HEADER_BYTES : PO__BLOCK_BYTES;
    uint64_t magic = snapshot                  ? PO__MAGIC_SNAPSHOT
                     : po__wal_parse(name, &n) ? PO__MAGIC_WAL
                                               : PO__MAGIC_IDENTITY;
    struct po__aligned block;
    struct po__file *f;
    if (po__aligned_calloc(&block, bytes))
        return PO_ENOMEM;
    int rv = ops->open(r->disk, &f, name, 0);
    if (rv)
        goto err_after_alloc;
    rv = ops->read(f, block.data, bytes, 0);
    if (!rv)
        rv = po__fmt_check(block.data, bytes, magic);
    if (!rv) {
        memcpy(block.data + sizeof(struct po__fmt_head), r->cluster_id, PO__CLUSTER_ID_BYTES);
        po__fmt_seal(block.data, bytes, magic);
        rv = ops->write(f, block.data, bytes, 0);
    }
    ops->close(f);
err_after_alloc:
    po__aligned_free(&block);
    return rv;
}

int po__store_rebrand(struct po__disk *d, const uint8_t cluster_id[PO__CLUSTER_ID_BYTES],
                      char *error, size_t error_len)
{
    struct rebrand r = {.disk = d, .cluster_id = cluster_id};
    int rv = d->ops->list(d, note_branded, &r);
    for (size_t at = 0; at < r.names.len && !rv;) {
        const char *name = (const char *)r.names.data + at;
        rv = rebrand_file(&r, name);
        if (rv)
            snprintf(error, error_len, "%s: %s", name,
                     rv == PO_EIO ? d->last_error : po_strerror(rv));
        at += strlen(name) + 1;
    }
    po__buf_fini(&r.names);
    return rv;
}
