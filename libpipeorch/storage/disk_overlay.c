#include "disk_overlay.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "rewrite.h"
#include "store_format.h"

#define PAGE_BYTES PO__BLOCK_BYTES

struct page { /* changed bytes of a file */
    struct page *next;
    uint64_t offset; /* a multiple of PAGE_BYTES */
    uint8_t data[PAGE_BYTES];
};

/* A file: one of the base, with changed pages, or a new one. */
struct inode {
    struct po__list link;  /* in the overlay's inodes */
    struct po__file *base; /* NULL: a new file */
    char base_name[PO__FILE_NAME_BYTES];
    uint64_t base_bytes, bytes;
    struct page *pages; /* in no order: there are few, and each read looks at all */
};

struct name { /* that differs from the base, or was opened */
    struct po__list link;
    char name[PO__FILE_NAME_BYTES];
    struct inode *inode; /* NULL: removed */
};

struct po__overlay {
    struct po__disk disk;
    struct po__disk *base;
    struct po__list inodes, names, jobs;
    size_t pages_bytes;
    bool attached, locked;
};

struct po__file {
    struct po__overlay *ov;
    struct inode *inode;
};

static struct po__overlay *overlay_of(struct po__disk *d)
{
    return po__container_of(d, struct po__overlay, disk);
}

/* The base's text becomes ours. */
static int pass(struct po__overlay *ov, int rv)
{
    if (rv)
        snprintf(ov->disk.last_error, sizeof ov->disk.last_error, "%s", ov->base->last_error);
    return rv;
}

static int fail(struct po__overlay *ov, int code, const char *what, const char *name)
{
    snprintf(ov->disk.last_error, sizeof ov->disk.last_error, "%s %s: %s", what, name,
             po_strerror(code));
    return code;
}

/* ---- names ---- */

static struct name *name_find(struct po__overlay *ov, const char *name)
{
    struct po__list *l;
    po__list_each(l, &ov->names)
    {
        struct name *n = po__container_of(l, struct name, link);
        if (!strcmp(n->name, name))
            return n;
    }
    return NULL;
}

/* Give a name to an inode, or remove it. */
static int name_set(struct po__overlay *ov, const char *name, struct inode *inode)
{
    struct name *n = name_find(ov, name);
    if (!n) {
        n = po__calloc(1, sizeof *n);
        if (!n)
            return fail(ov, PO_ENOMEM, "open", name);
        memcpy(n->name, name, strlen(name));
        po__list_push(&ov->names, &n->link);
    }
    n->inode = inode;
    return 0;
}

static struct inode *inode_new(struct po__overlay *ov)
{
    struct inode *i = po__calloc(1, sizeof *i);
    if (i)
        po__list_push(&ov->inodes, &i->link);
    return i;
}

/* The file of this name: one that we know, or one of the base. */
static int lookup(struct po__overlay *ov, const char *name, struct inode **out)
{
    struct po__file *base = NULL;
    struct name *n = name_find(ov, name);
    *out = n ? n->inode : NULL;
    if (n)
        return n->inode ? 0 : fail(ov, PO_ENOTFOUND, "open", name);
    int rv = ov->base->ops->open(ov->base, &base, name, 0);
    if (rv)
        return pass(ov, rv);
    struct inode *i = inode_new(ov);
    if (!i) {
        ov->base->ops->close(base);
        return fail(ov, PO_ENOMEM, "open", name);
    }
    i->base = base;
    memcpy(i->base_name, name, strlen(name));
    rv = ov->base->ops->size(base, &i->base_bytes);
    i->bytes = i->base_bytes;
    *out = i;
    return rv ? pass(ov, rv) : name_set(ov, name, i);
}

struct lister {
    struct po__overlay *ov;
    int (*cb)(void *arg, const char *name);
    void *arg;
};

static int list_base(void *arg, const char *name)
{
    struct lister *l = arg;
    return strlen(name) < PO__FILE_NAME_BYTES && name_find(l->ov, name) ? 0 : l->cb(l->arg, name);
}

static int ov_list(struct po__disk *d, int (*cb)(void *arg, const char *name), void *arg)
{
    struct lister lister = {overlay_of(d), cb, arg};
    struct po__list *l;
    int rv = lister.ov->base->ops->list(lister.ov->base, list_base, &lister);
    if (rv)
        return pass(lister.ov, rv);
    po__list_each(l, &lister.ov->names)
    {
        struct name *n = po__container_of(l, struct name, link);
        rv = n->inode ? cb(arg, n->name) : 0;
        if (rv)
            return rv;
    }
    return 0;
}

static int ov_open(struct po__disk *d, struct po__file **out, const char *name, int flags)
{
    struct po__overlay *ov = overlay_of(d);
    struct inode *inode = NULL;
    PO_PRE(strlen(name) < PO__FILE_NAME_BYTES);
    int rv = lookup(ov, name, &inode);
    if (rv == PO_ENOTFOUND && flags & PO__FILE_CREATE) {
        inode = inode_new(ov);
        rv = inode ? name_set(ov, name, inode) : fail(ov, PO_ENOMEM, "open", name);
    } else if (rv == 0 && flags & PO__FILE_EXCL) {
        rv = fail(ov, PO_EEXISTS, "open", name);
    }
    if (rv)
        return rv;
    struct po__file *f = po__malloc(sizeof *f);
    if (!f)
        return fail(ov, PO_ENOMEM, "open", name);
    *f = (struct po__file){ov, inode};
    *out = f;
    return 0;
}

static void ov_close(struct po__file *f)
{
    po__free(f);
}

static int ov_rename(struct po__disk *d, const char *from, const char *to)
{
    struct inode *inode;
    int rv = lookup(overlay_of(d), from, &inode);
    if (!rv)
        rv = name_set(overlay_of(d), to, inode);
    return rv ? rv : name_set(overlay_of(d), from, NULL);
}

static int ov_unlink(struct po__disk *d, const char *name)
{
    struct inode *inode;
    int rv = lookup(overlay_of(d), name, &inode);
    return rv ? rv : name_set(overlay_of(d), name, NULL);
}

/* ---- bytes ---- */

static int ov_size(struct po__file *f, uint64_t *bytes)
{
    *bytes = f->inode->bytes;
    return 0;
}

static int ov_read(struct po__file *f, void *buf, size_t len, uint64_t offset)
{
    struct inode *i = f->inode;
    if (offset > i->bytes || len > i->bytes - offset)
        return fail(f->ov, PO_EIO, "read behind the end of", i->base_name);
    size_t of_base = offset >= i->base_bytes        ? 0
                     : i->base_bytes - offset < len ? (size_t)(i->base_bytes - offset)
                                                    : len;
    int rv = of_base ? f->ov->base->ops->read(i->base, buf, of_base, offset) : 0;
    if (rv)
        return pass(f->ov, rv);
    memset((uint8_t *)buf + of_base, 0, len - of_base);
    for (const struct page *p = i->pages; p; p = p->next) {
        uint64_t from = p->offset > offset ? p->offset : offset;
        uint64_t to = p->offset + PAGE_BYTES < offset + len ? p->offset + PAGE_BYTES : offset + len;
        if (from < to)
            memcpy((uint8_t *)buf + (from - offset), p->data + (from - p->offset),
                   (size_t)(to - from));
    }
    return 0;
}

/* The page at this offset, with what the file has there. */
static int page_at(struct po__file *f, uint64_t offset, struct page **out)
{
    struct inode *i = f->inode;
    for (*out = i->pages; *out; *out = (*out)->next)
        if ((*out)->offset == offset)
            return 0;
    if (f->ov->pages_bytes + PAGE_BYTES > PO__OVERLAY_MAX_BYTES)
        return fail(f->ov, PO_ENOSPACE, "too many changes: write", i->base_name);
    struct page *p = po__calloc(1, sizeof *p);
    if (!p)
        return fail(f->ov, PO_ENOMEM, "write", i->base_name);
    size_t there = offset >= i->bytes               ? 0
                   : i->bytes - offset < PAGE_BYTES ? (size_t)(i->bytes - offset)
                                                    : PAGE_BYTES;
    int rv = there ? ov_read(f, p->data, there, offset) : 0;
    if (rv) {
        po__free(p);
        return rv;
    }
    p->offset = offset;
    p->next = i->pages;
    i->pages = p;
    f->ov->pages_bytes += PAGE_BYTES;
    *out = p;
    return 0;
}

static int ov_write(struct po__file *f, const void *buf, size_t len, uint64_t offset)
{
    const uint8_t *in = buf;
    while (len) {
        uint64_t start = offset & ~(uint64_t)(PAGE_BYTES - 1);
        size_t skip = (size_t)(offset - start), n = PAGE_BYTES - skip;
        struct page *p;
        int rv = page_at(f, start, &p);
        if (rv)
            return rv;
        n = n < len ? n : len;
        memcpy(p->data + skip, in, n);
        in += n;
        offset += n;
        len -= n;
        if (offset > f->inode->bytes)
            f->inode->bytes = offset;
    }
    return 0;
}

static int ov_sync(struct po__file *f)
{
    (void)f;
    return 0;
}

static int ov_sync_dir(struct po__disk *d)
{
    (void)d;
    return 0;
}

/* ---- the rest ---- */

static int ov_lock(struct po__disk *d, const char *name)
{
    struct po__overlay *ov = overlay_of(d);
    if (ov->locked) /* by a user before this one */
        return 0;
    int rv = pass(ov, ov->base->ops->lock(ov->base, name));
    ov->locked = rv == 0;
    return rv;
}

static void ov_submit(struct po__disk *d, enum po__disk_channel c, struct po__disk_job *job)
{
    (void)c; /* one after the other keeps the order of each channel */
    po__list_push(&overlay_of(d)->jobs, &job->link);
}

static void ov_poll(struct po__disk *d)
{
    struct po__list *l;
    while ((l = po__list_pop(&overlay_of(d)->jobs))) {
        struct po__disk_job *job = po__container_of(l, struct po__disk_job, link);
        job->status = job->work(job);
        job->done(job, job->status);
    }
}

static void ov_destroy(struct po__disk *d)
{
    struct po__overlay *ov = overlay_of(d);
    while (po__list_pop(&ov->jobs))
        ;
    ov->attached = false;
}

static const struct po__disk_ops overlay_ops = {
    .lock = ov_lock,
    .list = ov_list,
    .open = ov_open,
    .close = ov_close,
    .size = ov_size,
    .read = ov_read,
    .write = ov_write,
    .sync = ov_sync,
    .rename = ov_rename,
    .unlink = ov_unlink,
    .sync_dir = ov_sync_dir,
    .submit = ov_submit,
    .poll = ov_poll,
    .destroy = ov_destroy,
};

int po__overlay_new(struct po__overlay **out, struct po__disk *base)
{
    struct po__overlay *ov = po__calloc(1, sizeof *ov);
    if (!ov) {
        base->ops->destroy(base);
        return PO_ENOMEM;
    }
    ov->disk.ops = &overlay_ops;
    ov->base = base;
    po__list_init(&ov->inodes);
    po__list_init(&ov->names);
    po__list_init(&ov->jobs);
    *out = ov;
    return 0;
}

struct po__disk *po__overlay_attach(struct po__overlay *ov)
{
    PO_PRE(!ov->attached);
    ov->attached = true;
    return &ov->disk;
}

struct po__disk *po__overlay_base(struct po__overlay *ov)
{
    return ov->base;
}

static void inode_free(struct po__overlay *ov, struct inode *i)
{
    struct page *p;
    while ((p = i->pages)) {
        i->pages = p->next;
        po__free(p);
    }
    if (i->base)
        ov->base->ops->close(i->base);
    po__free(i);
}

static void forget(struct po__overlay *ov)
{
    struct po__list *l;
    while ((l = po__list_pop(&ov->names)))
        po__free(po__container_of(l, struct name, link));
    while ((l = po__list_pop(&ov->inodes)))
        inode_free(ov, po__container_of(l, struct inode, link));
    ov->pages_bytes = 0;
}

void po__overlay_free(struct po__overlay *ov)
{
    if (!ov)
        return;
    PO_PRE(!ov->attached);
    forget(ov);
    ov->base->ops->destroy(ov->base);
    po__free(ov);
}

/* ---- commit ---- */

static void add_pages(struct po__buf *journal, const struct name *n)
{
    for (const struct page *p = n->inode->pages; p; p = p->next) {
        uint64_t left = n->inode->bytes - p->offset;
        po__rewrite_add(journal, PO__REWRITE_WRITE, n->name, NULL, p->offset, p->data,
                        left < PAGE_BYTES ? (size_t)left : PAGE_BYTES);
    }
}

static void add_name(struct po__buf *journal, const struct name *n)
{
    if (!n->inode)
        po__rewrite_add(journal, PO__REWRITE_REMOVE, n->name, NULL, 0, NULL, 0);
    else if (!n->inode->base)
        po__rewrite_add(journal, PO__REWRITE_CREATE, n->name, NULL, 0, NULL, 0);
    if (n->inode)
        add_pages(journal, n);
}

static bool renamed(const struct name *n)
{
    return n->inode && n->inode->base && strcmp(n->name, n->inode->base_name) != 0;
}

int po__overlay_commit(struct po__overlay *ov, char *error, size_t error_len)
{
    struct po__buf journal;
    struct po__list *l;
    PO_PRE(!ov->attached && ov->locked);
    po__rewrite_begin(&journal);
    po__list_each(l, &ov->names) /* first: what is removed below may be the former name of these */
    {
        const struct name *n = po__container_of(l, struct name, link);
        if (renamed(n))
            po__rewrite_add(&journal, PO__REWRITE_RENAME, n->inode->base_name, n->name, 0, NULL, 0);
    }
    po__list_each(l, &ov->names)
    {
        const struct name *n = po__container_of(l, struct name, link);
        /* A journal that was carried out in memory is replaced by this one, not removed by it. */
        if (strcmp(n->name, PO__REWRITE_NAME) != 0)
            add_name(&journal, n);
    }
    forget(ov);
    int rv = po__rewrite_commit(ov->base, &journal);
    if (rv)
        snprintf(error, error_len, "writing the journal of the changes: %s",
                 journal.err ? po_strerror(rv) : ov->base->last_error);
    po__buf_fini(&journal);
    return rv ? rv : po__rewrite_finish(ov->base, error, error_len);
}
