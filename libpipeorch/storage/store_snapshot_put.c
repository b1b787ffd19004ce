/* A snapshot written in one go, on the caller's thread, outside of any store: the same bytes as
 * store_snapshot.c writes in the background. */
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"
#include "store_internal.h"

struct put {
    const struct po__disk_ops *ops;
    struct po__file *file;
    struct po__snapshot_meta *meta;
    struct po__aligned memory; /* one frame */
    uint64_t offset, frames_count;
    int (*read)(void *arg, void *buf, size_t *len);
    void *arg;
};

void po__snap_name_of(char name[64], const struct po__snapshot_meta *meta)
{
    po__snap_name(name, meta->index, meta->term);
}

static int put_header(struct put *p, const uint8_t *cluster_id)
{
    struct po__fmt_snapshot *h = (struct po__fmt_snapshot *)(void *)p->memory.data;
    memset(h, 0, sizeof *h);
    memcpy(h->cluster_id, cluster_id, sizeof h->cluster_id);
    h->index = p->meta->index;
    h->term = p->meta->term;
    h->conf_index = p->meta->conf_index;
    h->conf_len = p->meta->conf_len;
    memcpy(h->conf, p->meta->conf, p->meta->conf_len);
    po__fmt_seal(h, sizeof *h, PO__MAGIC_SNAPSHOT);
    p->offset = PO__SNAPSHOT_HEADER_BYTES;
    return p->ops->write(p->file, h, sizeof *h, 0);
}

/* Fill a frame from the source and write it; *last if the content ends in it. */
static int put_frame(struct put *p, bool *last)
{
    struct po__fmt_frame *h = (struct po__fmt_frame *)(void *)p->memory.data;
    uint8_t *content = p->memory.data + sizeof *h;
    size_t len = 0;
    for (;;) {
        size_t n = PO__FRAME_CONTENT_BYTES - len;
        int rv = n ? p->read(p->arg, content + len, &n) : 0;
        if (rv)
            return rv;
        *last = len < PO__FRAME_CONTENT_BYTES && n == 0;
        if (n == 0)
            break;
        len += n;
    }
    if (len == 0)
        return 0;
    *h = (struct po__fmt_frame){.magic = PO__MAGIC_FRAME,
                                .number = p->frames_count++,
                                .index = p->meta->index,
                                .len = (uint32_t)len};
    h->crc = po__crc32c(0, &h->number, sizeof *h - offsetof(struct po__fmt_frame, number) + len);
    size_t bytes = po__block_round(sizeof *h + len);
    memset(content + len, 0, bytes - sizeof *h - len);
    p->meta->crc = po__crc32c(p->meta->crc, content, len);
    p->meta->size_bytes += len;
    int rv = p->ops->write(p->file, p->memory.data, bytes, p->offset);
    p->offset += bytes;
    return rv;
}

static int put_footer(struct put *p)
{
    struct po__fmt_footer *ft = (struct po__fmt_footer *)(void *)p->memory.data;
    memset(ft, 0, sizeof *ft);
    ft->index = p->meta->index;
    ft->term = p->meta->term;
    ft->size_bytes = p->meta->size_bytes;
    ft->crc = p->meta->crc;
    po__fmt_seal(ft, sizeof *ft, PO__MAGIC_FOOTER);
    return p->ops->write(p->file, ft, sizeof *ft, p->offset);
}

int po__snapshot_put(struct po__disk *d, const char *name, const uint8_t *cluster_id,
                     struct po__snapshot_meta *meta, int (*read)(void *arg, void *buf, size_t *len),
                     void *arg)
{
    struct put p = {.ops = d->ops, .meta = meta, .read = read, .arg = arg};
    bool last = false;
    PO_PRE(meta->index > 0 && meta->conf_len <= PO__SNAPSHOT_CONF_MAX_BYTES);
    meta->size_bytes = 0;
    meta->crc = 0;
    if (po__aligned_alloc(&p.memory, PO__FRAME_BYTES))
        return PO_ENOMEM;
    int rv = d->ops->unlink(d, name); /* a longer one may be left over */
    if (rv == 0 || rv == PO_ENOTFOUND)
        rv = d->ops->open(d, &p.file, name, PO__FILE_CREATE);
    if (rv)
        goto err_after_alloc;
    rv = put_header(&p, cluster_id);
    while (!rv && !last)
        rv = put_frame(&p, &last);
    if (!rv)
        rv = put_footer(&p);
    if (!rv)
        rv = d->ops->sync(p.file);
    d->ops->close(p.file);
err_after_alloc:
    po__aligned_free(&p.memory);
    return rv;
}
