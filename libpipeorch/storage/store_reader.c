/* Reading snapshots. A reader keeps its open file, so a newer snapshot may take its place
 * meanwhile. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"
#include "store_internal.h"

struct po__snapshot_reader {
    struct po__store *store;
    struct po__file *file;
    struct po__snapshot_meta meta;
    uint64_t frame; /* number of the frame in memory; UINT64_MAX: none */
    uint8_t data[PO__FRAME_BYTES];
};

static int corrupt(struct po__store *s, uint64_t offset, const char *text)
{
    snprintf(s->disk->last_error, sizeof s->disk->last_error,
             "damaged snapshot: %s, at offset %llu; remove this node from the cluster and rejoin "
             "with an empty directory",
             text, (unsigned long long)offset);
    return PO_ECORRUPT;
}

static uint64_t frames_of(uint64_t size_bytes)
{
    return (size_bytes + PO__FRAME_CONTENT_BYTES - 1) / PO__FRAME_CONTENT_BYTES;
}

static size_t frame_len(const struct po__snapshot_meta *meta, uint64_t frame)
{
    uint64_t left = meta->size_bytes - frame * PO__FRAME_CONTENT_BYTES;
    return left < PO__FRAME_CONTENT_BYTES ? (size_t)left : PO__FRAME_CONTENT_BYTES;
}

/* Where the footer of a snapshot of this size must be. */
static uint64_t footer_offset(uint64_t size_bytes)
{
    uint64_t full = size_bytes / PO__FRAME_CONTENT_BYTES;
    size_t rest = (size_t)(size_bytes % PO__FRAME_CONTENT_BYTES);
    uint64_t end = PO__SNAPSHOT_HEADER_BYTES + full * PO__FRAME_BYTES;
    return rest ? end + po__block_round(sizeof(struct po__fmt_frame) + rest) : end;
}

static int check_meta(struct po__store *s, const struct po__fmt_snapshot *h,
                      const struct po__fmt_footer *ft, uint64_t file_bytes)
{
    int rv = po__fmt_check(h, sizeof *h, PO__MAGIC_SNAPSHOT);
    if (!rv)
        rv = po__fmt_check(ft, sizeof *ft, PO__MAGIC_FOOTER);
    if (rv == PO_EVERSION) {
        snprintf(s->disk->last_error, sizeof s->disk->last_error,
                 "snapshot of a newer format version, this program knows up to %d; use the program "
                 "that wrote it, or a later one",
                 PO__FORMAT_VERSION);
        return rv;
    }
    if (rv)
        return corrupt(s, 0, "header or footer");
    if (memcmp(h->cluster_id, s->identity.cluster_id, sizeof h->cluster_id) != 0) {
        snprintf(s->disk->last_error, sizeof s->disk->last_error,
                 "snapshot of another cluster than the identity file beside it");
        return PO_EIDENTITY;
    }
    if (ft->index != h->index || ft->term != h->term || h->conf_len > sizeof h->conf ||
        footer_offset(ft->size_bytes) + PO__BLOCK_BYTES != file_bytes)
        return corrupt(s, file_bytes, "header and footer contradict each other");
    return 0;
}

int po__snapshot_load_meta(struct po__store *s, struct po__file *f, struct po__snapshot_meta *meta)
{
    struct po__aligned memory;
    uint64_t bytes = 0;
    int rv = s->ops->size(f, &bytes);
    if (rv)
        return rv;
    if (bytes < PO__SNAPSHOT_HEADER_BYTES + PO__BLOCK_BYTES || bytes % PO__BLOCK_BYTES)
        return corrupt(s, bytes, "the file ends too early");
    if (po__aligned_alloc(&memory, PO__SNAPSHOT_HEADER_BYTES + PO__BLOCK_BYTES))
        return PO_ENOMEM;
    const struct po__fmt_snapshot *h = (const struct po__fmt_snapshot *)(const void *)memory.data;
    const struct po__fmt_footer *ft = (const struct po__fmt_footer *)(const void *)(h + 1);
    rv = s->ops->read(f, memory.data, PO__SNAPSHOT_HEADER_BYTES, 0);
    if (!rv)
        rv = s->ops->read(f, memory.data + PO__SNAPSHOT_HEADER_BYTES, PO__BLOCK_BYTES,
                          bytes - PO__BLOCK_BYTES);
    if (!rv)
        rv = check_meta(s, h, ft, bytes);
    if (!rv) {
        *meta = (struct po__snapshot_meta){
            .index = h->index,
            .term = h->term,
            .conf_index = h->conf_index,
            .conf_len = h->conf_len,
            .size_bytes = ft->size_bytes,
            .crc = ft->crc,
        };
        memcpy(meta->conf, h->conf, h->conf_len);
    }
    po__aligned_free(&memory);
    return rv;
}

static int read_frame(struct po__store *s, struct po__file *f, const struct po__snapshot_meta *meta,
                      uint64_t number, void *buf)
{
    struct po__fmt_frame *h = buf;
    size_t len = frame_len(meta, number);
    uint64_t offset = PO__SNAPSHOT_HEADER_BYTES + number * PO__FRAME_BYTES;
    int rv = s->ops->read(f, buf, sizeof *h + len, offset);
    if (rv)
        return rv;
    size_t summed = sizeof *h - offsetof(struct po__fmt_frame, number) + len;
    if (h->magic != PO__MAGIC_FRAME || h->number != number || h->index != meta->index ||
        h->len != len || h->crc != po__crc32c(0, &h->number, summed))
        return corrupt(s, offset, "frame");
    return 0;
}

int po__snapshot_verify(struct po__store *s, struct po__file *f,
                        const struct po__snapshot_meta *meta)
{
    uint32_t crc = 0;
    int rv = 0;
    uint8_t *buf = po__malloc(PO__FRAME_BYTES);
    if (!buf)
        return PO_ENOMEM;
    for (uint64_t i = 0; i < frames_of(meta->size_bytes) && !rv; i++) {
        rv = read_frame(s, f, meta, i, buf);
        if (!rv)
            crc = po__crc32c(crc, buf + sizeof(struct po__fmt_frame), frame_len(meta, i));
    }
    po__free(buf);
    if (!rv && crc != meta->crc)
        rv = corrupt(s, 0, "checksum of the whole");
    return rv;
}

int po__store_snapshot_open(struct po__store *s, struct po__snapshot_reader **out,
                            struct po__snapshot_meta *meta)
{
    char name[PO__FILE_NAME_BYTES];
    if (s->broken)
        return s->broken;
    PO_PRE(s->recovered);
    if (s->snapshot.index == 0)
        return PO_ENOTFOUND;
    struct po__snapshot_reader *r = po__malloc(sizeof *r);
    if (!r)
        return PO_ENOMEM;
    r->store = s;
    r->frame = UINT64_MAX;
    po__snap_name(name, s->snapshot.index, s->snapshot.term);
    int rv = s->ops->open(s->disk, &r->file, name, 0);
    if (rv)
        goto err_after_alloc;
    rv = po__snapshot_load_meta(s, r->file, &r->meta);
    if (rv)
        goto err_after_open;
    *meta = r->meta;
    *out = r;
    return 0;

err_after_open:
    s->ops->close(r->file);
err_after_alloc:
    po__free(r);
    return rv;
}

int po__store_snapshot_read(struct po__snapshot_reader *r, uint64_t offset, void *buf, size_t len)
{
    uint8_t *out = buf;
    if (offset > r->meta.size_bytes || len > r->meta.size_bytes - offset)
        return PO_EINVAL;
    while (len) {
        uint64_t frame = offset / PO__FRAME_CONTENT_BYTES;
        size_t skip = (size_t)(offset % PO__FRAME_CONTENT_BYTES);
        if (frame != r->frame) {
            r->frame = UINT64_MAX;
            int rv = read_frame(r->store, r->file, &r->meta, frame, r->data);
            if (rv)
                return rv;
            r->frame = frame;
        }
        size_t n = frame_len(&r->meta, frame) - skip;
        if (n > len)
            n = len;
        memcpy(out, r->data + sizeof(struct po__fmt_frame) + skip, n);
        out += n;
        offset += n;
        len -= n;
    }
    return 0;
}

void po__store_snapshot_close(struct po__snapshot_reader *r)
{
    if (!r)
        return;
    r->store->ops->close(r->file);
    po__free(r);
}
