#include "disk_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "base/assert.h"

#define NAME_BYTES 64
#define SECTOR     512u
#define BLOCK      4096u

/* A write that a power cut may still undo. */
struct pending {
    struct pending *next;
    uint64_t offset;
    size_t len;
    uint8_t data[];
};

struct bytes {
    uint8_t *data;
    size_t len, cap;
};

struct inode {
    unsigned refs;      /* names (visible, durable, in pending changes) and open handles */
    struct inode *twin; /* while cloning */
    struct bytes now, durable;
    struct pending *pending, **pending_tail;
};

struct entry {
    char name[NAME_BYTES];
    struct inode *inode;
};

struct names {
    struct entry *entries;
    unsigned count, cap;
};

enum change_kind { CREATE, RENAME, UNLINK };

struct change { /* of names, not yet followed by sync_dir */
    enum change_kind kind;
    char from[NAME_BYTES], to[NAME_BYTES];
    struct inode *inode;
};

struct disk_sim {
    uint64_t rng;
    struct names now, durable;
    struct change *changes;
    unsigned changes_count, changes_cap;
    unsigned attached;
    struct sim *locked_by;
    uint64_t calls, fail_at, cut_at;
    int fail_code;
    bool off;
    disk_sim_call_hook on_change;
    void *on_change_arg;
};

struct sim {
    struct po__disk disk;
    struct disk_sim *medium;
    struct po__list queue[PO__CHANNELS];
    struct po__list done;
    disk_sim_submit_hook on_submit;
    void *on_submit_arg;
};

struct po__file {
    struct sim *sim; /* not touched by close */
    struct inode *inode;
    int flags;
    char name[NAME_BYTES];
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static uint64_t draw(uint64_t *rng) /* splitmix64 */
{
    uint64_t z = (*rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Bytes and inodes */

static void bytes_write(struct bytes *b, const uint8_t *data, size_t len, uint64_t offset)
{
    size_t end = (size_t)offset + len;
    if (end > b->cap) {
        size_t cap = b->cap ? b->cap : BLOCK;
        while (cap < end)
            cap *= 2;
        b->data = must(realloc(b->data, cap));
        b->cap = cap;
    }
    if (end > b->len) {
        memset(b->data + b->len, 0, end - b->len);
        b->len = end;
    }
    memcpy(b->data + offset, data, len);
}

static struct inode *inode_new(void)
{
    struct inode *i = must(calloc(1, sizeof *i));
    i->pending_tail = &i->pending;
    return i;
}

static void inode_drop_pending(struct inode *i)
{
    while (i->pending) {
        struct pending *p = i->pending;
        i->pending = p->next;
        free(p);
    }
    i->pending_tail = &i->pending;
}

static struct inode *inode_ref(struct inode *i)
{
    i->refs++;
    return i;
}

static void inode_unref(struct inode *i)
{
    if (--i->refs)
        return;
    inode_drop_pending(i);
    free(i->now.data);
    free(i->durable.data);
    free(i);
}

static void inode_add_pending(struct inode *i, const uint8_t *data, size_t len, uint64_t offset)
{
    struct pending *p = must(malloc(sizeof *p + len));
    *p = (struct pending){.offset = offset, .len = len};
    memcpy(p->data, data, len);
    *i->pending_tail = p;
    i->pending_tail = &p->next;
}

/* The last pending write becomes durable alone. Older ones that it covers must not come back over
 * it. */
static void inode_commit_last(struct inode *i)
{
    struct pending **link = &i->pending;
    while ((*link)->next)
        link = &(*link)->next;
    struct pending *last = *link;
    for (struct pending *p = i->pending; p != last; p = p->next) {
        uint64_t from = p->offset > last->offset ? p->offset : last->offset;
        uint64_t p_end = p->offset + p->len, last_end = last->offset + last->len;
        uint64_t to = p_end < last_end ? p_end : last_end;
        if (from < to)
            memcpy(p->data + (from - p->offset), last->data + (from - last->offset),
                   (size_t)(to - from));
    }
    bytes_write(&i->durable, last->data, last->len, last->offset);
    *link = NULL;
    i->pending_tail = link;
    free(last);
}

static void inode_sync(struct inode *i)
{
    for (struct pending *p = i->pending; p; p = p->next)
        bytes_write(&i->durable, p->data, p->len, p->offset);
    inode_drop_pending(i);
}

/* Each pending write survives in whole, not at all, or in parts; a sector that was being written
 * may be neither old nor new. */
static void inode_decide(struct inode *i, uint64_t *rng)
{
    unsigned mode = (unsigned)(draw(rng) % 5); /* 4: also garbage */
    for (struct pending *p = i->pending; p; p = p->next) {
        if (mode == 0)
            continue;
        size_t unit = mode == 1 ? p->len : mode == 3 ? BLOCK : SECTOR;
        for (size_t at = 0; at < p->len; at += unit) {
            size_t len = p->len - at < unit ? p->len - at : unit;
            uint64_t fate = draw(rng);
            if (mode == 4 && fate % 16 == 0)
                memset(p->data + at, (int)(fate >> 8 & 0xff), len);
            if (mode == 1 || fate & 1 || (mode == 4 && fate % 16 == 0))
                bytes_write(&i->durable, p->data + at, len, p->offset + at);
        }
    }
    inode_drop_pending(i);
    i->now.len = 0;
    if (i->durable.len)
        bytes_write(&i->now, i->durable.data, i->durable.len, 0);
}

/* Names */

static struct entry *names_find(const struct names *n, const char *name)
{
    for (unsigned i = 0; i < n->count; i++)
        if (!strcmp(n->entries[i].name, name))
            return &n->entries[i];
    return NULL;
}

static void names_remove(struct names *n, const char *name)
{
    struct entry *e = names_find(n, name);
    if (!e)
        return;
    inode_unref(e->inode);
    *e = n->entries[--n->count];
}

static void names_set(struct names *n, const char *name, struct inode *inode)
{
    inode_ref(inode);
    names_remove(n, name);
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 16;
        n->entries = must(realloc(n->entries, n->cap * sizeof *n->entries));
    }
    struct entry *e = &n->entries[n->count++];
    snprintf(e->name, sizeof e->name, "%s", name);
    e->inode = inode;
}

static void names_clear(struct names *n)
{
    while (n->count)
        inode_unref(n->entries[--n->count].inode);
}

static void change_apply(struct names *n, const struct change *c)
{
    struct entry *e = names_find(n, c->from);
    bool was_there = e && e->inode == c->inode;
    switch (c->kind) {
    case CREATE:
        names_set(n, c->from, c->inode);
        break;
    case RENAME:
        names_set(n, c->to, c->inode);
        if (was_there)
            names_remove(n, c->from);
        break;
    case UNLINK:
        if (was_there)
            names_remove(n, c->from);
        break;
    }
}

static void changes_clear(struct disk_sim *m)
{
    while (m->changes_count)
        inode_unref(m->changes[--m->changes_count].inode);
}

static void change_add(struct disk_sim *m, enum change_kind kind, const char *from, const char *to,
                       struct inode *inode)
{
    if (m->changes_count == m->changes_cap) {
        m->changes_cap = m->changes_cap ? m->changes_cap * 2 : 16;
        m->changes = must(realloc(m->changes, m->changes_cap * sizeof *m->changes));
    }
    struct change *c = &m->changes[m->changes_count++];
    *c = (struct change){.kind = kind, .inode = inode_ref(inode)};
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
}

static void names_decide(struct disk_sim *m, uint64_t *rng)
{
    /* 0: none, 1: all, 2: those up to some instant, 3: any (file systems without a journal) */
    unsigned mode = (unsigned)(draw(rng) % 4);
    unsigned prefix = m->changes_count ? (unsigned)(draw(rng) % (m->changes_count + 1)) : 0;
    for (unsigned i = 0; i < m->changes_count; i++)
        if (mode == 1 || (mode == 2 && i < prefix) || (mode == 3 && (draw(rng) & 1)))
            change_apply(&m->durable, &m->changes[i]);
    changes_clear(m);
    names_clear(&m->now);
    for (unsigned i = 0; i < m->durable.count; i++)
        names_set(&m->now, m->durable.entries[i].name, m->durable.entries[i].inode);
}

/* The medium */

struct disk_sim *disk_sim_new(uint64_t seed)
{
    struct disk_sim *m = must(calloc(1, sizeof *m));
    m->rng = seed;
    return m;
}

void disk_sim_free(struct disk_sim *m)
{
    if (!m)
        return;
    PO_PRE(m->attached == 0);
    changes_clear(m);
    names_clear(&m->now);
    names_clear(&m->durable);
    free(m->now.entries);
    free(m->durable.entries);
    free(m->changes);
    free(m);
}

static struct inode *inode_twin(struct inode *i)
{
    if (i->twin)
        return i->twin;
    struct inode *t = i->twin = inode_new();
    if (i->now.len)
        bytes_write(&t->now, i->now.data, i->now.len, 0);
    if (i->durable.len)
        bytes_write(&t->durable, i->durable.data, i->durable.len, 0);
    for (struct pending *p = i->pending; p; p = p->next)
        inode_add_pending(t, p->data, p->len, p->offset);
    return t;
}

struct disk_sim *disk_sim_clone(const struct disk_sim *m)
{
    struct disk_sim *c = disk_sim_new(m->rng);
    for (unsigned i = 0; i < m->now.count; i++)
        names_set(&c->now, m->now.entries[i].name, inode_twin(m->now.entries[i].inode));
    for (unsigned i = 0; i < m->durable.count; i++)
        names_set(&c->durable, m->durable.entries[i].name, inode_twin(m->durable.entries[i].inode));
    for (unsigned i = 0; i < m->changes_count; i++) {
        const struct change *h = &m->changes[i];
        change_add(c, h->kind, h->from, h->to, inode_twin(h->inode));
    }
    for (unsigned i = 0; i < m->now.count; i++)
        m->now.entries[i].inode->twin = NULL;
    for (unsigned i = 0; i < m->durable.count; i++)
        m->durable.entries[i].inode->twin = NULL;
    for (unsigned i = 0; i < m->changes_count; i++)
        m->changes[i].inode->twin = NULL;
    return c;
}

void disk_sim_power_on(struct disk_sim *m, uint64_t seed)
{
    PO_PRE(m->attached == 0);
    uint64_t rng = seed;
    for (unsigned i = 0; i < 8; i++) /* neighbouring seeds differ from the first draw on */
        draw(&rng);
    names_decide(m, &rng);
    for (unsigned i = 0; i < m->now.count; i++)
        inode_decide(m->now.entries[i].inode, &rng);
    m->off = false;
    m->cut_at = m->fail_at = 0;
}

uint64_t disk_sim_calls(const struct disk_sim *m)
{
    return m->calls;
}

void disk_sim_fail_at(struct disk_sim *m, uint64_t n, int code)
{
    m->fail_at = n ? m->calls + n : 0;
    m->fail_code = code;
}

void disk_sim_cut_at(struct disk_sim *m, uint64_t n)
{
    m->cut_at = n ? m->calls + n : 0;
}

void disk_sim_cut(struct disk_sim *m)
{
    m->off = true;
}

bool disk_sim_is_off(const struct disk_sim *m)
{
    return m->off;
}

void disk_sim_on_change(struct disk_sim *m, disk_sim_call_hook hook, void *arg)
{
    m->on_change = hook;
    m->on_change_arg = arg;
}

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
    struct disk_sim *m = s->medium;
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
    struct disk_sim *m = s->medium;
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
    struct disk_sim *m = s->medium;
    bool cut;
    PO_PRE(strlen(name) < NAME_BYTES);
    int rv = enter(s, "open", name, &cut);
    if (rv)
        return rv;
    struct po__file *f = po__malloc(sizeof *f);
    if (!f)
        return fail(s, "open", name, PO_ENOMEM);
    struct entry *e = names_find(&m->now, name);
    if (e && flags & PO__FILE_CREATE && flags & PO__FILE_EXCL)
        rv = fail(s, "open", name, PO_EEXISTS);
    else if (!e && !(flags & PO__FILE_CREATE))
        rv = fail(s, "open", name, PO_ENOTFOUND);
    else if (!e) {
        struct inode *inode = inode_new();
        names_set(&m->now, name, inode);
        change_add(m, CREATE, name, "", inode);
        e = names_find(&m->now, name);
        rv = under_way(s, "open", name, cut);
    }
    if (rv) {
        po__free(f);
        return rv;
    }
    *f = (struct po__file){.sim = s, .inode = inode_ref(e->inode), .flags = flags};
    memcpy(f->name, name, strlen(name) + 1);
    *out = f;
    return 0;
}

static void sim_close(struct po__file *f)
{
    inode_unref(f->inode);
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

static int sim_read(struct po__file *f, void *buf, size_t len, uint64_t offset)
{
    check_alignment(f, buf, len, offset);
    int rv = enter_read(f->sim, "read", f->name);
    if (rv)
        return rv;
    if (offset + len > f->inode->now.len)
        return fail(f->sim, "read beyond the end of", f->name, PO_EIO);
    memcpy(buf, f->inode->now.data + offset, len);
    return 0;
}

static int sim_write(struct po__file *f, const void *buf, size_t len, uint64_t offset)
{
    bool cut;
    check_alignment(f, buf, len, offset);
    int rv = enter(f->sim, "write", f->name, &cut);
    if (rv && f->sim->medium->off)
        return rv;
    inode_add_pending(f->inode, buf, len, offset); /* a failed write may have done anything */
    if (rv)
        return rv;
    rv = under_way(f->sim, "write", f->name, cut);
    if (rv)
        return rv;
    bytes_write(&f->inode->now, buf, len, offset);
    if (f->flags & PO__FILE_DURABLE)
        inode_commit_last(f->inode);
    return 0;
}

static int sim_sync(struct po__file *f)
{
    bool cut;
    int rv = enter(f->sim, "sync", f->name, &cut);
    if (!rv)
        rv = under_way(f->sim, "sync", f->name, cut);
    if (!rv)
        inode_sync(f->inode);
    return rv;
}

static int sim_rename(struct po__disk *d, const char *from, const char *to)
{
    struct sim *s = sim_of(d);
    struct disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "rename", from, &cut);
    if (rv)
        return rv;
    struct entry *e = names_find(&m->now, from);
    if (!e)
        return fail(s, "rename", from, PO_ENOTFOUND);
    change_add(m, RENAME, from, to, e->inode);
    change_apply(&m->now, &m->changes[m->changes_count - 1]);
    return under_way(s, "rename", from, cut);
}

static int sim_unlink(struct po__disk *d, const char *name)
{
    struct sim *s = sim_of(d);
    struct disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "unlink", name, &cut);
    if (rv)
        return rv;
    struct entry *e = names_find(&m->now, name);
    if (!e)
        return fail(s, "unlink", name, PO_ENOTFOUND);
    change_add(m, UNLINK, name, "", e->inode);
    names_remove(&m->now, name);
    return under_way(s, "unlink", name, cut);
}

static int sim_sync_dir(struct po__disk *d)
{
    struct sim *s = sim_of(d);
    struct disk_sim *m = s->medium;
    bool cut;
    int rv = enter(s, "sync_dir", "", &cut);
    if (!rv)
        rv = under_way(s, "sync_dir", "", cut);
    if (rv)
        return rv;
    for (unsigned i = 0; i < m->changes_count; i++)
        change_apply(&m->durable, &m->changes[i]);
    changes_clear(m);
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

void disk_sim_attach(struct disk_sim *m, struct po__disk **d)
{
    struct sim *s = must(calloc(1, sizeof *s));
    s->disk.ops = &sim_ops;
    s->medium = m;
    for (int c = 0; c < PO__CHANNELS; c++)
        po__list_init(&s->queue[c]);
    po__list_init(&s->done);
    m->attached++;
    *d = &s->disk;
}

void disk_sim_on_submit(struct po__disk *d, disk_sim_submit_hook hook, void *arg)
{
    sim_of(d)->on_submit = hook;
    sim_of(d)->on_submit_arg = arg;
}

bool disk_sim_busy(const struct po__disk *d, enum po__disk_channel c)
{
    return !po__list_empty(&sim_of(d)->queue[c]);
}

bool disk_sim_step(struct po__disk *d, enum po__disk_channel c)
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

void disk_sim_run(struct po__disk *d, void (*poll)(void *arg), void *arg)
{
    bool more = true;
    while (more) {
        more = disk_sim_step(d, PO__CHANNEL_LOG);
        more |= disk_sim_step(d, PO__CHANNEL_SLOW);
        poll(arg);
    }
}

/* Looking and damaging */

unsigned disk_sim_files(const struct disk_sim *m)
{
    return m->now.count;
}

const char *disk_sim_file_name(const struct disk_sim *m, unsigned i)
{
    return i < m->now.count ? m->now.entries[i].name : NULL;
}

uint64_t disk_sim_file_size(const struct disk_sim *m, const char *name)
{
    struct entry *e = names_find(&m->now, name);
    return e ? e->inode->now.len : 0;
}

const uint8_t *disk_sim_file_data(const struct disk_sim *m, const char *name)
{
    struct entry *e = names_find(&m->now, name);
    return e ? e->inode->now.data : NULL;
}

void disk_sim_put(struct disk_sim *m, const char *name, uint64_t offset, const void *data,
                  size_t len)
{
    struct entry *e = names_find(&m->now, name);
    PO_PRE(e && offset + len <= e->inode->now.len);
    bytes_write(&e->inode->now, data, len, offset);
    bytes_write(&e->inode->durable, data, len, offset);
}

void disk_sim_flip(struct disk_sim *m, const char *name, uint64_t offset, unsigned bit)
{
    struct entry *e = names_find(&m->now, name);
    PO_PRE(e && offset < e->inode->now.len);
    uint8_t byte = (uint8_t)(e->inode->now.data[offset] ^ (1u << bit));
    disk_sim_put(m, name, offset, &byte, 1);
}

void disk_sim_remove(struct disk_sim *m, const char *name)
{
    char copy[NAME_BYTES]; /* name may be disk_sim_file_name's */
    snprintf(copy, sizeof copy, "%s", name);
    names_remove(&m->now, copy);
    names_remove(&m->durable, copy);
}
