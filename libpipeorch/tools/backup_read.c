#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/crc32c.h"
#include "backup_format.h"

struct reader {
    const char *path;
    int fd;
    uint64_t bytes, offset; /* of the file; read so far */
    EVP_MD_CTX *digest;
    struct po__backup_info *info;
    char *error;
    size_t error_len;
    union {
        struct po__fmt_backup header;
        struct po__fmt_backup_end footer;
        struct {
            struct po__fmt_frame head;
            uint8_t content[PO__FRAME_CONTENT_BYTES];
        } frame;
    };
};

static int damaged(struct reader *r, uint64_t offset, const char *what)
{
    snprintf(r->error, r->error_len,
             "%s: %s, at offset %llu of %llu bytes; the backup cannot be used, take another copy",
             r->path, what, (unsigned long long)offset, (unsigned long long)r->bytes);
    return PO_ECORRUPT;
}

static int get(struct reader *r, void *buf, size_t len, const char *what)
{
    if (r->bytes - r->offset < len) {
        snprintf(r->error, r->error_len,
                 "%s: cut off: it ends at %llu bytes, inside of the %s that begins at offset %llu",
                 r->path, (unsigned long long)r->bytes, what, (unsigned long long)r->offset);
        return PO_ECORRUPT;
    }
    for (size_t at = 0; at < len;) {
        ssize_t n = read(r->fd, (char *)buf + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            char reason[96];
            snprintf(r->error, r->error_len, "read %s: %s", r->path,
                     n < 0 ? strerror_r(errno, reason, sizeof reason) : "it became shorter");
            return PO_EIO;
        }
        at += (size_t)n;
    }
    r->offset += len;
    return 0;
}

static int sum(struct reader *r, const void *data, size_t len)
{
    if (EVP_DigestUpdate(r->digest, data, len))
        return 0;
    snprintf(r->error, r->error_len, "%s: out of memory", r->path);
    return PO_ENOMEM;
}

static int newer(struct reader *r, uint32_t version)
{
    snprintf(
        r->error, r->error_len,
        "%s: format version %u, this program knows up to %d; use the program that wrote it, or "
        "a later one",
        r->path, (unsigned)version, PO__BACKUP_VERSION);
    return PO_EVERSION;
}

static int read_header(struct reader *r)
{
    const struct po__fmt_backup *h = &r->header;
    struct po__backup_info *i = r->info;
    int rv = get(r, &r->header, sizeof *h, "header");
    if (rv)
        return rv;
    if (h->head.magic != PO__MAGIC_BACKUP)
        return damaged(r, 0, "not a backup, or its first bytes are damaged");
    rv = po__fmt_check(h, sizeof *h, PO__MAGIC_BACKUP);
    if (rv == PO_EVERSION)
        return newer(r, h->head.version);
    if (rv || h->conf_len > sizeof h->conf || !h->index || !memchr(h->node_name, 0, 129))
        return damaged(r, 0, "damaged header");
    *i = (struct po__backup_info){.source = h->source,
                                  .time_ms = h->time_ms,
                                  .committed_index = h->committed_index,
                                  .file_bytes = r->bytes,
                                  .snapshot = {.index = h->index,
                                               .term = h->term,
                                               .conf_index = h->conf_index,
                                               .conf_len = h->conf_len}};
    memcpy(i->cluster_id, h->cluster_id, sizeof i->cluster_id);
    snprintf(i->node_name, sizeof i->node_name, "%.128s", (const char *)h->node_name);
    memcpy(i->snapshot.conf, h->conf, h->conf_len);
    return sum(r, h, sizeof *h);
}

static int read_frame(struct reader *r, uint64_t number, uint64_t body_end)
{
    struct po__fmt_frame *h = &r->frame.head;
    uint64_t start = r->offset;
    char what[64];
    snprintf(what, sizeof what, "damaged frame %llu", (unsigned long long)number);
    if (body_end - start <= sizeof *h)
        return damaged(r, start, "cut off, or bytes too many");
    size_t expected = body_end - start < PO__FRAME_BYTES ? (size_t)(body_end - start) - sizeof *h
                                                         : PO__FRAME_CONTENT_BYTES;
    int rv = get(r, h, sizeof *h, "frame");
    if (!rv && (h->magic != PO__MAGIC_FRAME || h->number != number ||
                h->index != r->info->snapshot.index || h->len > PO__FRAME_CONTENT_BYTES))
        return damaged(r, start, what);
    if (!rv && h->len != expected)
        return damaged(r, start, "cut off, or bytes are missing behind this frame's beginning");
    if (!rv)
        rv = get(r, r->frame.content, expected, "frame");
    if (rv)
        return rv;
    uint32_t crc = po__crc32c(0, &h->number, sizeof *h - offsetof(struct po__fmt_frame, number));
    if (po__crc32c(crc, r->frame.content, h->len) != h->crc)
        return damaged(r, start, what);
    rv = sum(r, h, sizeof *h);
    return rv ? rv : sum(r, r->frame.content, h->len);
}

static int read_footer(struct reader *r)
{
    struct po__backup_info *i = r->info;
    uint64_t start = r->offset;
    int rv = get(r, &r->footer, sizeof r->footer, "footer");
    if (rv)
        return rv;
    rv = po__fmt_check(&r->footer, sizeof r->footer, PO__MAGIC_BACKUP_END);
    if (rv == PO_EVERSION)
        return newer(r, r->footer.head.version);
    if (rv)
        return damaged(r, start, "damaged footer, or the file is cut off");
    if (!EVP_DigestFinal_ex(r->digest, i->digest, NULL)) {
        snprintf(r->error, r->error_len, "%s: out of memory", r->path);
        return PO_ENOMEM;
    }
    if (r->footer.size_bytes != i->snapshot.size_bytes)
        return damaged(r, start, "content of another size than the footer says");
    if (memcmp(i->digest, r->footer.digest, sizeof i->digest) != 0)
        return damaged(r, start, "the SHA-256 of the file is not the one in its footer");
    return 0;
}

static int read_all(struct reader *r, int (*cb)(void *arg, const void *data, size_t len), void *arg)
{
    int rv = read_header(r);
    if (rv)
        return rv;
    if (r->bytes - r->offset < sizeof r->footer)
        return damaged(r, r->offset, "cut off: no content and no footer");
    uint64_t body_end = r->bytes - sizeof r->footer;
    for (uint64_t number = 0; r->offset < body_end && !rv; number++) {
        rv = read_frame(r, number, body_end);
        if (rv)
            return rv;
        r->info->snapshot.size_bytes += r->frame.head.len;
        r->info->snapshot.crc =
            po__crc32c(r->info->snapshot.crc, r->frame.content, r->frame.head.len);
        rv = cb(arg, r->frame.content, r->frame.head.len);
        if (rv)
            snprintf(r->error, r->error_len, "%s: content of frame %llu: %s", r->path,
                     (unsigned long long)number, po_strerror(rv));
    }
    return rv ? rv : read_footer(r);
}

int po__backup_read(const char *path, struct po__backup_info *info,
                    int (*cb)(void *arg, const void *data, size_t len), void *arg, char *error,
                    size_t error_len)
{
    struct stat st;
    char reason[96];
    int rv = PO_ENOMEM;
    snprintf(error, error_len, "%s: out of memory", path);
    struct reader *r = po__calloc(1, sizeof *r);
    if (!r)
        return rv;
    r->path = path;
    r->info = info;
    r->error = error;
    r->error_len = error_len;
    r->digest = EVP_MD_CTX_new();
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st)) {
        rv = errno == ENOENT ? PO_ENOTFOUND : PO_EIO;
        snprintf(error, error_len, "open %s: %s", path, strerror_r(errno, reason, sizeof reason));
    } else if (!S_ISREG(st.st_mode)) {
        rv = PO_EINVAL;
        snprintf(error, error_len, "%s is not a file", path);
    } else if (r->digest && EVP_DigestInit_ex(r->digest, EVP_sha256(), NULL)) {
        r->bytes = (uint64_t)st.st_size;
        rv = read_all(r, cb, arg);
    }
    if (r->fd >= 0)
        close(r->fd);
    EVP_MD_CTX_free(r->digest);
    po__free(r);
    return rv;
}
