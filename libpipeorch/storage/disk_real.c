/* The real disk: a directory, files below it by descriptor, one thread per channel.
 *
 * Writes with PO__FILE_DIRECT use O_DIRECT, so that a log write costs one device write and leaves
 * nothing in the page cache. Some file systems refuse it, at open (tmpfs) or only at the first
 * write: both fall back to ordinary writes, which are as durable and merely slower.
 * PO__FILE_DURABLE is O_DSYNC: for a write into allocated, written space the kernel issues one
 * write with FUA, where write + fdatasync would be two round trips to the device. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "disk.h"
#include "disk_channel.h"

#define NAME_MAX_BYTES 64

struct real {
    struct po__disk disk;
    int dir_fd;
    int lock_fd; /* -1: not locked */
    struct po__disk_done done;
    struct po__disk_channel_thread channels[PO__CHANNELS];
    bool readonly;
    char path[]; /* for messages */
};

struct po__file {
    struct real *real; /* for messages; not touched by close, which may come after destroy */
    int fd;
    bool direct;
    char name[NAME_MAX_BYTES];
};

static struct real *real_of(struct po__disk *d)
{
    return po__container_of(d, struct real, disk);
}

/* Leaves "call path/name: errno text" for the calling thread; returns the code. */
static int fail(struct real *r, const char *call, const char *name, int error)
{
    char *text = po__disk_channel_error();
    char reason[96];
    if (!text)
        text = r->disk.last_error;
    /* The GNU strerror_r: thread-safe, and returns the text, which need not be in the buffer. */
    snprintf(text, PO__DISK_ERROR_BYTES, "%s %.120s%s%s: %s (errno %d)", call, r->path,
             *name ? "/" : "", name, strerror_r(error, reason, sizeof reason), error);
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return PO_ENOSPACE;
    case ENOMEM:
        return PO_ENOMEM;
    case ENOENT:
        return PO_ENOTFOUND;
    case EEXIST:
        return PO_EEXISTS;
    default:
        return PO_EIO;
    }
}

/* Without leaving a trace in the file's times, where the system lets us. */
static int open_to_look(struct real *r, const char *name)
{
    int fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOATIME);
    return fd < 0 && errno == EPERM ? openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC) : fd;
}

static int real_lock(struct po__disk *d, const char *name)
{
    struct real *r = real_of(d);
    char pid[24] = "";
    int fd = r->readonly ? open_to_look(r, name)
                         : openat(r->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && r->readonly && errno == ENOENT)
        return 0; /* no process ever had it, or it is a copy */
    if (fd < 0)
        return fail(r, "open", name, errno);
    int rv;
    do
        rv = flock(fd, LOCK_EX | LOCK_NB);
    while (rv && errno == EINTR);
    if (rv) {
        int error = errno;
        rv = fail(r, "flock", name, error);
        if (error == EWOULDBLOCK) {
            ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
            pid[n > 0 ? n : 0] = '\0';
            snprintf(d->last_error, sizeof d->last_error,
                     "%.160s/%s is locked by another process (pid %d); stop it, or use another "
                     "directory",
                     r->path, name, atoi(pid));
            rv = PO_ELOCKED;
        }
        close(fd);
        return rv;
    }
    r->lock_fd = fd;
    if (r->readonly)
        return 0;
    /* The pid only helps the message above; the lock holds without it. */
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n) {
        rv = fail(r, "write", name, errno);
        close(fd);
        r->lock_fd = -1;
        return rv;
    }
    return 0;
}

static int real_list(struct po__disk *d, int (*cb)(void *arg, const char *name), void *arg)
{
    struct real *r = real_of(d);
    int fd = openat(r->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(r, "open", "", errno);
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int error = errno;
        close(fd);
        return fail(r, "opendir", "", error);
    }
    int rv = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            if (errno)
                rv = fail(r, "readdir", "", errno);
            break;
        }
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        rv = cb(arg, e->d_name);
        if (rv)
            break;
    }
    closedir(dir);
    return rv;
}

static int real_open(struct po__disk *d, struct po__file **out, const char *name, int flags)
{
    struct real *r = real_of(d);
    PO_PRE(strlen(name) < NAME_MAX_BYTES && !strchr(name, '/'));
    struct po__file *f = po__malloc(sizeof *f);
    if (!f)
        return fail(r, "open", name, ENOMEM);
    *f = (struct po__file){.real = r, .direct = flags & PO__FILE_DIRECT};
    memcpy(f->name, name, strlen(name) + 1);
    int o = O_RDWR | O_CLOEXEC | (flags & PO__FILE_CREATE ? O_CREAT : 0) |
            (flags & PO__FILE_EXCL ? O_EXCL : 0) | (flags & PO__FILE_DURABLE ? O_DSYNC : 0);
    do
        f->fd = r->readonly ? open_to_look(r, name)
                            : openat(r->dir_fd, name, o | (f->direct ? O_DIRECT : 0), 0600);
    while (f->fd < 0 && errno == EINTR);
    f->direct = f->direct && !r->readonly;
    if (f->fd < 0 && f->direct && errno == EINVAL) {
        f->direct = false;
        /* The refused attempt may have created the file (the check comes last in some kernels). */
        f->fd = openat(r->dir_fd, name, o & ~O_EXCL, 0600);
    }
    if (f->fd < 0) {
        int rv = fail(r, "open", name, errno);
        po__free(f);
        return rv;
    }
    *out = f;
    return 0;
}

static void real_close(struct po__file *f)
{
    close(f->fd);
    po__free(f);
}

static int real_size(struct po__file *f, uint64_t *bytes)
{
    struct stat st;
    if (fstat(f->fd, &st))
        return fail(f->real, "fstat", f->name, errno);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static int real_read(struct po__file *f, void *buf, size_t len, uint64_t offset)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(f->fd, (char *)buf + at, len - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* the end of the file is an error too: the caller knows the size */
            return fail(f->real, "pread", f->name, n < 0 ? errno : ENODATA);
        at += (size_t)n;
    }
    return 0;
}

/* O_DIRECT was accepted at open but not for this write: go on without it. */
static bool drop_direct(struct po__file *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (!f->direct || flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT))
        return false;
    f->direct = false;
    return true;
}

static int real_write(struct po__file *f, const void *buf, size_t len, uint64_t offset)
{
    PO_PRE(!f->direct || (((uintptr_t)buf | len | offset) & (PO__DISK_ALIGN - 1)) == 0);
    for (size_t at = 0; at < len;) {
        ssize_t n = pwrite(f->fd, (const char *)buf + at, len - at, (off_t)(offset + at));
        if (n < 0 && (errno == EINTR || (errno == EINVAL && drop_direct(f))))
            continue;
        if (n <= 0)
            return fail(f->real, "pwrite", f->name, n < 0 ? errno : EIO);
        at += (size_t)n;
        /* A short direct write may end inside a block, where the next one could not begin. */
        if (at < len && f->direct)
            at &= ~(size_t)(PO__DISK_ALIGN - 1);
    }
    return 0;
}

static int real_sync(struct po__file *f)
{
    int rv;
    if (f->real->readonly)
        return 0;
    do
        rv = fsync(f->fd);
    while (rv && errno == EINTR);
    return rv ? fail(f->real, "fsync", f->name, errno) : 0;
}

static int real_rename(struct po__disk *d, const char *from, const char *to)
{
    struct real *r = real_of(d);
    if (r->readonly)
        return fail(r, "rename", from, EROFS);
    return renameat(r->dir_fd, from, r->dir_fd, to) ? fail(r, "rename", from, errno) : 0;
}

static int real_unlink(struct po__disk *d, const char *name)
{
    struct real *r = real_of(d);
    if (r->readonly)
        return fail(r, "unlink", name, EROFS);
    return unlinkat(r->dir_fd, name, 0) ? fail(r, "unlink", name, errno) : 0;
}

static int real_sync_dir(struct po__disk *d)
{
    struct real *r = real_of(d);
    int rv;
    if (r->readonly)
        return 0;
    do
        rv = fsync(r->dir_fd);
    while (rv && errno == EINTR);
    return rv ? fail(r, "fsync", "", errno) : 0;
}

static void real_submit(struct po__disk *d, enum po__disk_channel c, struct po__disk_job *job)
{
    PO_PRE(!real_of(d)->readonly);
    po__disk_channel_submit(&real_of(d)->channels[c], job);
}

static void real_poll(struct po__disk *d)
{
    po__disk_done_poll(&real_of(d)->done, d->last_error);
}

static void real_destroy(struct po__disk *d)
{
    struct real *r = real_of(d);
    for (int i = 0; i < PO__CHANNELS; i++)
        po__disk_channel_stop(&r->channels[i]);
    po__disk_done_fini(&r->done);
    if (r->lock_fd >= 0)
        close(r->lock_fd);
    close(r->dir_fd);
    po__free(r);
}

static const struct po__disk_ops real_ops = {
    .lock = real_lock,
    .list = real_list,
    .open = real_open,
    .close = real_close,
    .size = real_size,
    .read = real_read,
    .write = real_write,
    .sync = real_sync,
    .rename = real_rename,
    .unlink = real_unlink,
    .sync_dir = real_sync_dir,
    .submit = real_submit,
    .poll = real_poll,
    .destroy = real_destroy,
};

/* A directory that we made must be found again after a crash: sync its parent. */
static int sync_parent(const char *path)
{
    char parent[PATH_MAX];
    int n = snprintf(parent, sizeof parent, "%s/..", path);
    if (n < 0 || (size_t)n >= sizeof parent)
        return ENAMETOOLONG;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int rv = fsync(fd) ? errno : 0;
    close(fd);
    return rv;
}

int po__disk_real(struct po__disk **d, const char *path, void (*wakeup)(void *arg), void *arg,
                  char *error, size_t error_len)
{
    size_t path_len = strlen(path);
    int rv;
    struct real *r = po__calloc(1, sizeof *r + path_len + 1);
    if (!r) {
        snprintf(error, error_len, "%s: out of memory", path);
        return PO_ENOMEM;
    }
    memcpy(r->path, path, path_len + 1);
    r->disk.ops = &real_ops;
    r->lock_fd = -1;
    if (mkdir(path, 0700) == 0) {
        int e = sync_parent(path);
        if (e) {
            rv = fail(r, "fsync of the parent of", "", e);
            goto err_after_alloc;
        }
    } else if (errno == ENOENT) {
        snprintf(r->disk.last_error, sizeof r->disk.last_error,
                 "%.160s cannot be created: the folder that it should be in does not exist", path);
        rv = PO_EIO;
        goto err_after_alloc;
    } else if (errno != EEXIST) {
        rv = fail(r, "mkdir", "", errno);
        goto err_after_alloc;
    }
    r->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0) {
        rv = fail(r, "open", "", errno);
        goto err_after_alloc;
    }
    po__disk_done_init(&r->done, wakeup, arg);
    for (int i = 0; i < PO__CHANNELS; i++) {
        rv = po__disk_channel_start(&r->channels[i], &r->done);
        if (rv) {
            fail(r, "start a thread for", "", EAGAIN);
            goto err_after_channels;
        }
    }
    *d = &r->disk;
    return 0;

err_after_channels:
    for (int i = 0; i < PO__CHANNELS; i++)
        po__disk_channel_stop(&r->channels[i]);
    po__disk_done_fini(&r->done);
    close(r->dir_fd);
err_after_alloc:
    snprintf(error, error_len, "%s", r->disk.last_error);
    po__free(r);
    return rv;
}

int po__disk_real_readonly(struct po__disk **d, const char *path, char *error, size_t error_len)
{
    size_t path_len = strlen(path);
    struct real *r = po__calloc(1, sizeof *r + path_len + 1);
    if (!r) {
        snprintf(error, error_len, "%s: out of memory", path);
        return PO_ENOMEM;
    }
    memcpy(r->path, path, path_len + 1);
    r->disk.ops = &real_ops;
    r->lock_fd = -1;
    r->readonly = true;
    r->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0) {
        int rv = fail(r, "open", "", errno);
        snprintf(error, error_len, "%s", r->disk.last_error);
        po__free(r);
        return rv;
    }
    po__disk_done_init(&r->done, NULL, NULL);
    *d = &r->disk;
    return 0;
}
