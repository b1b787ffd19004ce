#include "rewrite.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "store_format.h"

#define TMP_NAME      "tmp-" PO__REWRITE_NAME
#define MAGIC_REWRITE UINT64_C(0x3130525745504f50) /* "POPEWR01" */

struct fmt_journal { /* the checksum covers the whole file */
    struct po__fmt_head head;
    uint64_t bytes; /* of the file */
    uint32_t count; /* of the changes that follow */
    uint32_t reserved;
};

struct fmt_change {
    uint32_t op;
    uint32_t len; /* bytes of data after this header, which is padded to a multiple of 8 */
    uint64_t offset;
    char name[PO__FILE_NAME_BYTES];
    char to[PO__FILE_NAME_BYTES];
};

static struct fmt_journal *journal_of(struct po__buf *b)
{
    return (struct fmt_journal *)(void *)b->data;
}

static size_t padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

static int absent_is_fine(int rv)
{
    return rv == PO_ENOTFOUND ? 0 : rv;
}

void po__rewrite_begin(struct po__buf *journal)
{
    struct fmt_journal h = {0};
    po__buf_init(journal, PO__REWRITE_MAX_BYTES);
    po__buf_append(journal, &h, sizeof h);
}

void po__rewrite_add(struct po__buf *journal, enum po__rewrite_op op, const char *name,
                     const char *to, uint64_t offset, const void *data, size_t len)
{
    struct fmt_change c = {.op = op, .len = (uint32_t)len, .offset = offset};
    PO_PRE(strlen(name) < sizeof c.name && (!to || strlen(to) < sizeof c.to));
    memcpy(c.name, name, strlen(name));
    if (to)
        memcpy(c.to, to, strlen(to));
    po__buf_append(journal, &c, sizeof c);
    po__buf_append(journal, data, len);
    po__buf_append(journal, "\0\0\0\0\0\0\0", (8 - len % 8) % 8);
    if (!journal->err)
        journal_of(journal)->count++;
}

int po__rewrite_commit(struct po__disk *d, struct po__buf *journal)
{
    const struct po__disk_ops *ops = d->ops;
    struct po__file *f;
    if (journal->err)
        return journal->err;
    journal_of(journal)->bytes = journal->len;
    po__fmt_seal(journal->data, journal->len, MAGIC_REWRITE);
    int rv = absent_is_fine(ops->unlink(d, TMP_NAME)); /* a longer one may be left over */
    if (!rv)
        rv = ops->open(d, &f, TMP_NAME, PO__FILE_CREATE);
    if (rv)
        return rv;
    rv = ops->write(f, journal->data, journal->len, 0);
    if (!rv)
        rv = ops->sync(f);
    ops->close(f);
    if (!rv)
        rv = ops->rename(d, TMP_NAME, PO__REWRITE_NAME);
    return rv ? rv : ops->sync_dir(d);
}

/* ---- carrying it out ---- */

/* Each file is opened for each change of it: changes are few, and their order is kept. */
static int write_change(struct po__disk *d, const struct fmt_change *c)
{
    const struct po__disk_ops *ops = d->ops;
    struct po__file *f;
    int rv = ops->open(d, &f, c->name, c->op == PO__REWRITE_CREATE ? PO__FILE_CREATE : 0);
    if (rv)
        return rv;
    if (c->len)
        rv = ops->write(f, c + 1, c->len, c->offset);
    if (!rv)
        rv = ops->sync(f);
    ops->close(f);
    return rv;
}

static int do_change(struct po__disk *d, const struct fmt_change *c)
{
    switch (c->op) {
    case PO__REWRITE_RENAME: /* absent: an interrupted attempt did it */
        return absent_is_fine(d->ops->rename(d, c->name, c->to));
    case PO__REWRITE_REMOVE:
        return absent_is_fine(d->ops->unlink(d, c->name));
    case PO__REWRITE_CREATE: {
        int rv = absent_is_fine(d->ops->unlink(d, c->name));
        return rv ? rv : write_change(d, c);
    }
    case PO__REWRITE_WRITE:
        return write_change(d, c);
    default:
        return PO_EVERSION;
    }
}

static bool name_ok(const char name[PO__FILE_NAME_BYTES])
{
    return memchr(name, 0, PO__FILE_NAME_BYTES) && !strchr(name, '/');
}

static int redo(struct po__disk *d, const uint8_t *data, size_t len)
{
    const struct fmt_journal *h = (const struct fmt_journal *)(const void *)data;
    size_t at = sizeof *h;
    int rv = 0;
    for (uint32_t i = 0; i < h->count && !rv; i++) {
        const struct fmt_change *c = (const struct fmt_change *)(const void *)(data + at);
        if (len - at < sizeof *c || len - at - sizeof *c < padded(c->len) || !name_ok(c->name) ||
            !name_ok(c->to)) {
            snprintf(d->last_error, sizeof d->last_error, "malformed change at offset %zu", at);
            return PO_ECORRUPT;
        }
        rv = do_change(d, c);
        at += sizeof *c + padded(c->len);
    }
    return rv;
}

static int load(struct po__disk *d, struct po__file *f, uint8_t **data, size_t *len)
{
    uint64_t bytes = 0;
    int rv = d->ops->size(f, &bytes);
    *data = NULL;
    if (rv)
        return rv;
    snprintf(d->last_error, sizeof d->last_error,
             "damaged (%llu bytes); go back to the copy of the directory that was made before it "
             "was changed",
             (unsigned long long)bytes);
    if (bytes < sizeof(struct fmt_journal) || bytes > PO__REWRITE_MAX_BYTES)
        return PO_ECORRUPT;
    *len = (size_t)bytes;
    *data = po__malloc(*len);
    if (!*data)
        return PO_ENOMEM;
    rv = d->ops->read(f, *data, *len, 0);
    if (!rv)
        rv = po__fmt_check(*data, *len, MAGIC_REWRITE);
    return rv;
}

int po__rewrite_finish(struct po__disk *d, char *error, size_t error_len)
{
    const struct po__disk_ops *ops = d->ops;
    uint8_t *data = NULL;
    size_t len = 0;
    struct po__file *f;
    int rv = ops->open(d, &f, PO__REWRITE_NAME, 0);
    if (rv == PO_ENOTFOUND)
        return 0;
    if (!rv) {
        rv = load(d, f, &data, &len);
        ops->close(f);
    }
    if (!rv)
        rv = redo(d, data, len);
    po__free(data);
    if (!rv)
        rv = ops->sync_dir(d);
    if (!rv)
        rv = ops->unlink(d, PO__REWRITE_NAME);
    if (!rv)
        rv = ops->sync_dir(d);
    if (rv)
        snprintf(error, error_len, PO__REWRITE_NAME ": finishing an interrupted change: %s",
                 rv == PO_EVERSION ? "it is of a newer format version" : d->last_error);
    return rv;
}
