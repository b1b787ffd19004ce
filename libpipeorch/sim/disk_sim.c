#include "disk_medium.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"

struct sim {
    struct po__disk disk;
    struct po__disk_sim *medium;
    struct po__list queue[PO__CHANNELS];
    struct po__list done;
    po__disk_sim_submit_hook on_submit;
    void *on_submit_arg;
};

struct po__file {
    struct sim *sim; /* not touched by close */
    struct inode *inode;
    int flags;
    char name[NAME_BYTES];
};

/* Calls */

static struct sim *sim_of(const struct po__disk *d)
{
    return (struct sim *)((char *)d - offsetof(struct sim, disk));
}

static int fail(struct sim *s, const char *call, const char *name, int code)
{
    snprintf(s->disk.last_error, sizeof s->disk.last_error, "%s %s: simulated %s", call, name,
             po_err_name(code));
    return code;
}

/* Each fallible call begins here. 0, or the injected code; *cut: the power goes while the call is
 * under way. */
static int enter(struct sim *s, const char *call, const char *name, bool *cut)
{
    struct po__disk_sim *m = s->medium;
    *cut = false;
    if (m->off)
        return fail(s, call, name, PO_EIO);
    m->calls++;
    if (m->calls == m->fail_at)
        return fail(s, call, name, m->fail_code);
    *cut = m->calls == m->cut_at;
    return 0;
}

/* A change is under way: tell the hook, and let the power go. */
static int under_way(struct sim *s, const char *call, const char *name, bool cut)
{
    struct po__disk_sim *m = s->medium;
    if (m->on_change)
        m->on_change(m->on_change_arg, call, name);
    if (cut)
        m->off = true;
    return m->off ? fail(s, call, name, PO_EIO) : 0;
}

/* A call that changes nothing. */
static int enter_read(struct sim *s, const char *call, const char *name)
{
    bool cut;
    int rv = enter(s, call, name, &cut);
    if (!rv && cut) {
        s->medium->off = true;
        rv = fail(s, call, name, PO_EIO);
    }
    return rv;
}

static int sim_lock(struct po__disk *d, const char *name)
{
    struct sim *s = sim_of(d);
    int rv = enter_read(s, "lock", name);
    if (rv)
        return rv;
    if (s->medium->locked_by)
        return fail(s, "lock", name, PO_ELOCKED);
    s->medium->locked_by = s;
    return 0;
}

static int sim_list(struct po__disk *d, int (*cb)(void *arg, const char *name), void *arg)
{
    struct sim *s = sim_of(d);
    int rv = enter_read(s, "list", "");
    for (unsigned i = 0; !rv && i < s->medium->now.count; i++)
        rv = cb(arg, s->medium->now.entries[i].name);
    return rv;
}

static int sim_open(struct po__disk *d, struct po__file **out, const char *name, int flags)
{
    struct sim *s = sim_of(d);
    struct po__disk_sim *m = s->medium;
    bool cut;
    PO_PRE(strlen(name) < NAME_BYTES);
    int rv = enter(s, "open", name, &cut);
    if (rv)
        return rv;
    struct po__file *f = po__malloc(sizeof *f);
    if (!f)
        return fail(s, "open", name, PO_ENOMEM);
    struct entry *e = po__medium_names_find(&m->now, name);
    if (e && flags & PO__FILE_CREATE && flags & PO__FILE_EXCL)
        rv = fail(s, "open", name, PO_EEXISTS);
    else if (!e && !(flags & PO__FILE_CREATE))
        rv = fail(s, "open", name, PO_ENOTFOUND);
    else if (!e) {
        struct inode *inode = po__medium_inode_new();
        po__medium_names_set(&m->now, name, inode);
        po__medium_change_add(m, CREATE, name, "", inode);
        e = po__medium_names_find(&m->now, name);
        rv = under_way(s, "open", name, cut);
    }
    if (rv) {
        po__free(f);
        return rv;
    }
    *f = (struct po__file){.sim = s, .inode = po__medium_inode_ref(e->inode), .flags = flags};
    memcpy(f->name, name, strlen(name) + 1);
    *out = f;
    return 0;
}

static void sim_close(struct po__file *f)
{
    po__medium_inode_unref(f->inode);
    po__free(f);
}

static int sim_size(struct po__file *f, uint64_t *bytes)
{
    int rv = enter_read(f->sim, "size", f->name);
    if (!rv)
        *bytes = f->inode->now.len;
    return rv;
}

static void check_alignment(const struct po__file *f, const void *buf, size_t len, uint64_t offset)
{
    PO_PRE(!(f->flags & PO__FILE_DIRECT) ||
           (((uintptr_t)buf | len | offset) & (PO__DISK_ALIGN - 1)) == 0);
}

/* What a disk with a fault delivers in place of [offset, offset + len). */
static void misread(struct po__disk_sim *m, const struct inode *inode, uint8_t *buf, size_t len,
                    uint64_t offset)
{
    uint64_t shift = offset >= PO__DISK_ALIGN ? offset - PO__DISK_ALIGN : offset + PO__DISK_ALIGN;
    m->misreads++;
    if (m->misdirected && shift + len <= inode->now.len &&
        memcmp(buf, inode->now.data + shift, len) != 0)
        memcpy(buf, inode->now.data + shift, len);
    else if (len)
        buf[m->misread_at * 2654435761u % len] ^= 0x10;
}

static int sim_read(struct po__file *f, void *buf, size_t len, uint64_t offset)
{
    check_alignment(f, buf, len, offset);
    int rv = enter_read(f->sim, "read", f->name);
    if (rv)
        return rv;
    if (offset + len > f->inode->now.len)
        return fail(f->sim, "read beyond the end of", f->name, PO_EIO);
    memcpy(buf, f->inode->now.data + offset, len);
    if (++f->sim->medium->reads == f->sim->medium->misread_at)
        misread(f->sim->medium, f->inode, buf, len, offset);
    return 0;
}

static int sim_write(struct po__file *f, const void *buf, size_t len, uint64_t offset)
{
    bool cut;
    check_alignment(f, buf, len, offset);
    int rv = enter(f->sim, "write", f->name, &cut);
    if (rv && f->sim->medium->off)
        return rv;
    po__medium_inode_add_pending(f->inode, buf, len,
                                 offset); /* a failed write may have done anything */
    if (rv)
        return rv;
    rv = under_way(f->sim, "write", f->name, cut);
    if (rv)
        return rv;
    po__medium_bytes_write(&f->inode->now, buf, len, offset);
    if (f->flags & PO__FILE_DURABLE)
        po__medium_inode_commit_last(f->inode);
    return 0;
}

static int sim_sync(struct po__file *f)
{
    bool cut;
    int rv = enter(f->sim, "sync", f->name, &cut);
    if (!rv)
        rv = under_way(f->sim, "sync", f->name, cut);
    if (!rv)
        po__medium_inode_sync(f->inode);
    return rv;
}

static int sim_rename(struct po__disk *d, const char *from, const char *to)
{
    struct sim *s = sim_of(d);
    struct po__disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "rename", from, &cut);
    if (rv)
        return rv;
    struct entry *e = po__medium_names_find(&m->now, from);
    if (!e)
        return fail(s, "rename", from, PO_ENOTFOUND);
    po__medium_change_add(m, RENAME, from, to, e->inode);
    po__medium_change_apply(&m->now, &m->changes[m->changes_count - 1]);
    return under_way(s, "rename", from, cut);
}

static int sim_unlink(struct po__disk *d, const char *name)
{
    struct sim *s = sim_of(d);
    struct po__disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "unlink", name, &cut);
    if (rv)
        return rv;
    struct entry *e = po__medium_names_find(&m->now, name);
    if (!e)
        return fail(s, "unlink", name, PO_ENOTFOUND);
    po__medium_change_add(m, UNLINK, name, "", e->inode);
    po__medium_names_remove(&m->now, name);
    return under_way(s, "unlink", name, cut);
}

static int sim_sync_dir(struct po__disk *d)
{
    struct sim *s = sim_of(d);
    struct po__disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "sync_dir", "", &cut);
    if (!rv)
        rv = under_way(s, "sync_dir", "", cut);
    if (rv)
        return rv;
    for (unsigned i = 0; i < m->changes_count; i++)
        po__medium_change_apply(&m->durable, &m->changes[i]);
    po__medium_changes_clear(m);
    return 0;
}

/* Jobs */

static void sim_submit(struct po__disk *d, enum po__disk_channel c, struct po__disk_job *job)
{
    struct sim *s = sim_of(d);
    po__list_push(&s->queue[c], &job->link);
    if (s->on_submit)
        s->on_submit(s->on_submit_arg, d, c);
}

static void sim_poll(struct po__disk *d)
{
    struct sim *s = sim_of(d);
    struct po__list *l;
    while ((l = po__list_pop(&s->done))) {
        struct po__disk_job *job = po__container_of(l, struct po__disk_job, link);
        job->done(job, job->status);
    }
}

static void sim_destroy(struct po__disk *d)
{
    struct sim *s = sim_of(d);
    if (s->medium->locked_by == s)
        s->medium->locked_by = NULL;
    s->medium->attached--;
    free(s);
}

static const struct po__disk_ops sim_ops = {
    .lock = sim_lock,
    .list = sim_list,
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .submit = sim_submit,
    .poll = sim_poll,
    .destroy = sim_destroy,
};

void po__disk_sim_attach(struct po__disk_sim *m, struct po__disk **d)
{
    struct sim *s = po__medium_must(calloc(1, sizeof *s));
    s->disk.ops = &sim_ops;
    s->medium = m;
    for (int c = 0; c < PO__CHANNELS; c++)
        po__list_init(&s->queue[c]);
    po__list_init(&s->done);
    m->attached++;
    *d = &s->disk;
}

void po__disk_sim_on_submit(struct po__disk *d, po__disk_sim_submit_hook hook, void *arg)
{
    sim_of(d)->on_submit = hook;
    sim_of(d)->on_submit_arg = arg;
}

bool po__disk_sim_busy(const struct po__disk *d, enum po__disk_channel c)
{
    return !po__list_empty(&sim_of(d)->queue[c]);
}

bool po__disk_sim_step(struct po__disk *d, enum po__disk_channel c)
{
    struct sim *s = sim_of(d);
    struct po__list *l = po__list_pop(&s->queue[c]);
    if (!l)
        return false;
    struct po__disk_job *job = po__container_of(l, struct po__disk_job, link);
    job->status = job->work(job);
    po__list_push(&s->done, &job->link);
    return true;
}

void po__disk_sim_run(struct po__disk *d, void (*poll)(void *arg), void *arg)
{
    bool more = true;
    while (more) {
        more = po__disk_sim_step(d, PO__CHANNEL_LOG);
        more |= po__disk_sim_step(d, PO__CHANNEL_SLOW);
        poll(arg);
    }
}

/* Looking and damaging */

unsigned po__disk_sim_files(const struct po__disk_sim *m)
{
    return m->now.count;
}

const char *po__disk_sim_file_name(const struct po__disk_sim *m, unsigned i)
{
    return i < m->now.count ? m->now.entries[i].name : NULL;
}

uint64_t po__disk_sim_file_size(const struct po__disk_sim *m, const char *name)
{
    struct entry *e = po__medium_names_find(&m->now, name);
    return e ? e->inode->now.len : 0;
}

const uint8_t *po__disk_sim_file_data(const struct po__disk_sim *m, const char *name)
{
    struct entry *e = po__medium_names_find(&m->now, name);
    return e ? e->inode->now.data : NULL;
}

void po__disk_sim_put(struct po__disk_sim *m, const char *name, uint64_t offset, const void *data,
                      size_t len)
{
    struct entry *e = po__medium_names_find(&m->now, name);
    PO_PRE(e && offset + len <= e->inode->now.len);
    po__medium_bytes_write(&e->inode->now, data, len, offset);
    po__medium_bytes_write(&e->inode->durable, data, len, offset);
}

void po__disk_sim_flip(struct po__disk_sim *m, const char *name, uint64_t offset, unsigned bit)
{
    struct entry *e = po__medium_names_find(&m->now, name);
    PO_PRE(e && offset < e->inode->now.len);
    uint8_t byte = (uint8_t)(e->inode->now.data[offset] ^ (1u << bit));
    po__disk_sim_put(m, name, offset, &byte, 1);
}

void po__disk_sim_remove(struct po__disk_sim *m, const char *name)
{
    char copy[NAME_BYTES]; /* name may be po__disk_sim_file_name's */
    snprintf(copy, sizeof copy, "%s", name);
    po__medium_names_remove(&m->now, copy);
    po__medium_names_remove(&m->durable, copy);
}
