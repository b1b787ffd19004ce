#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/crc32c.h"
#include "backup_format.h"

#define PATH_MAX_BYTES 4096

struct po__backup_writer {
    char path[PATH_MAX_BYTES], tmp[PATH_MAX_BYTES + 32];
    bool overwrite;
    int fd;
    EVP_MD_CTX *digest;
    uint64_t index, frames_count, size_bytes;
    char *error; /* the caller's */
    size_t error_len, len;
    struct po__fmt_frame frame; /* being filled: `len` bytes of content */
    uint8_t content[PO__FRAME_CONTENT_BYTES];
};

static int fail(struct po__backup_writer *w, const char *call, const char *path, int error)
{
    char reason[96];
    snprintf(w->error, w->error_len, "%s %s: %s", call, path,
             strerror_r(error, reason, sizeof reason));
    return error == ENOSPC || error == EDQUOT || error == EFBIG ? PO_ENOSPACE
           : error == EEXIST                                    ? PO_EEXISTS
           : error == ENOENT                                    ? PO_ENOTFOUND
                                                                : PO_EIO;
}

static int exists(struct po__backup_writer *w)
{
    snprintf(w->error, w->error_len, "%s exists already; give another name, or allow to replace it",
             w->path);
    return PO_EEXISTS;
}

static int put(struct po__backup_writer *w, const void *data, size_t len)
{
    const char *p = data;
    if (!EVP_DigestUpdate(w->digest, data, len)) {
        snprintf(w->error, w->error_len, "%s: out of memory", w->path);
        return PO_ENOMEM;
    }
    while (len) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(w, "write", w->tmp, n < 0 ? errno : EIO);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int put_header(struct po__backup_writer *w, const struct po__backup_info *info)
{
    struct po__fmt_backup *h = po__calloc(1, sizeof *h);
    if (!h) {
        snprintf(w->error, w->error_len, "%s: out of memory", w->path);
        return PO_ENOMEM;
    }
    memcpy(h->cluster_id, info->cluster_id, sizeof h->cluster_id);
    h->index = info->snapshot.index;
    h->term = info->snapshot.term;
    h->committed_index = info->committed_index;
    h->time_ms = info->time_ms;
    h->conf_index = info->snapshot.conf_index;
    h->conf_len = info->snapshot.conf_len;
    h->source = info->source;
    memcpy(h->node_name, info->node_name, strlen(info->node_name));
    memcpy(h->conf, info->snapshot.conf, info->snapshot.conf_len);
    po__fmt_seal(h, sizeof *h, PO__MAGIC_BACKUP);
    int rv = put(w, h, sizeof *h);
    po__free(h);
    return rv;
}

static void writer_free(struct po__backup_writer *w)
{
    if (w->fd >= 0)
        close(w->fd);
    EVP_MD_CTX_free(w->digest);
    po__free(w);
}

int po__backup_create(struct po__backup_writer **out, const char *path, bool overwrite,
                      const struct po__backup_info *info, char *error, size_t error_len)
{
    PO_PRE(path);
    struct po__backup_writer *w = po__calloc(1, sizeof *w);
    int rv = PO_ENOMEM;
    snprintf(error, error_len, "%s: out of memory", path);
    if (!w)
        return rv;
    w->error = error;
    w->error_len = error_len;
    w->overwrite = overwrite;
    w->index = info->snapshot.index;
    w->fd = -1;
    w->digest = EVP_MD_CTX_new();
    if (!w->digest || !EVP_DigestInit_ex(w->digest, EVP_sha256(), NULL))
        goto err_after_alloc;
    if (strlen(path) >= sizeof w->path) {
        snprintf(error, error_len, "the file's name has %zu bytes; at most %d are allowed",
                 strlen(path), PATH_MAX_BYTES - 1);
        rv = PO_EINVAL;
        goto err_after_alloc;
    }
    memcpy(w->path, path, strlen(path) + 1);
    snprintf(w->tmp, sizeof w->tmp, "%s.tmp-%ld", path, (long)getpid());
    if (!overwrite && access(path, F_OK) == 0) {
        rv = exists(w);
        goto err_after_alloc;
    }
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    rv = w->fd < 0 ? fail(w, "create", w->tmp, errno) : put_header(w, info);
    if (rv == 0) {
        *out = w;
        return 0;
    }
    if (w->fd >= 0)
        unlink(w->tmp);
err_after_alloc:
    writer_free(w);
    return rv;
}

static int put_frame(struct po__backup_writer *w)
{
    struct po__fmt_frame *h = &w->frame;
    h->magic = PO__MAGIC_FRAME;
    h->number = w->frames_count++;
    h->index = w->index;
    h->len = (uint32_t)w->len;
    h->reserved = 0;
    h->crc = po__crc32c(0, &h->number, sizeof *h - offsetof(struct po__fmt_frame, number));
    h->crc = po__crc32c(h->crc, w->content, w->len);
    int rv = put(w, h, sizeof *h);
    if (!rv)
        rv = put(w, w->content, w->len);
    w->len = 0;
    return rv;
}

int po__backup_write(struct po__backup_writer *w, const void *data, size_t len)
{
    const uint8_t *p = data;
    w->size_bytes += len;
    while (len) {
        size_t n = sizeof w->content - w->len;
        n = n < len ? n : len;
        memcpy(w->content + w->len, p, n);
        w->len += n;
        p += n;
        len -= n;
        int rv = w->len == sizeof w->content ? put_frame(w) : 0;
        if (rv)
            return rv;
    }
    return 0;
}

static int put_footer(struct po__backup_writer *w)
{
    struct po__fmt_backup_end f = {.size_bytes = w->size_bytes};
    if (!EVP_DigestFinal_ex(w->digest, f.digest, NULL) ||
        !EVP_DigestInit_ex(w->digest, EVP_sha256(), NULL)) {
        snprintf(w->error, w->error_len, "%s: out of memory", w->path);
        return PO_ENOMEM;
    }
    po__fmt_seal(&f, sizeof f, PO__MAGIC_BACKUP_END);
    return put(w, &f, sizeof f);
}

/* The name must survive a crash as the bytes do. */
static int sync_folder(struct po__backup_writer *w)
{
    char folder[PATH_MAX_BYTES];
    const char *slash = strrchr(w->path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - w->path + 1) : 1,
             slash ? w->path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(w, "open", folder, errno);
    int rv = fsync(fd) ? fail(w, "fsync", folder, errno) : 0;
    close(fd);
    return rv;
}

static int put_in_place(struct po__backup_writer *w)
{
    if (w->overwrite)
        return rename(w->tmp, w->path) ? fail(w, "rename", w->tmp, errno) : 0;
    if (link(w->tmp, w->path)) /* unlike rename, never replaces */
        return errno == EEXIST ? exists(w) : fail(w, "link", w->path, errno);
    return unlink(w->tmp) ? fail(w, "unlink", w->tmp, errno) : 0;
}

int po__backup_finish(struct po__backup_writer *w)
{
    int rv = w->len ? put_frame(w) : 0;
    if (!rv)
        rv = put_footer(w);
    if (!rv && fsync(w->fd))
        rv = fail(w, "fsync", w->tmp, errno);
    if (!rv)
        rv = put_in_place(w);
    if (!rv)
        rv = sync_folder(w);
    else
        unlink(w->tmp);
    writer_free(w);
    return rv;
}

void po__backup_abort(struct po__backup_writer *w)
{
    if (!w)
        return;
    unlink(w->tmp);
    writer_free(w);
}
