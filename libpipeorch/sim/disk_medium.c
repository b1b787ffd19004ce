#include "disk_medium.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/assert.h"

#define SECTOR 512u
#define BLOCK  4096u

void *po__medium_must(void *p)
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

void po__medium_bytes_write(struct bytes *b, const uint8_t *data, size_t len, uint64_t offset)
{
    size_t end = (size_t)offset + len;
    if (end > b->cap) {
        size_t cap = b->cap ? b->cap : BLOCK;
        while (cap < end)
            cap *= 2;
        b->data = po__medium_must(realloc(b->data, cap));
        b->cap = cap;
    }
    if (end > b->len) {
        memset(b->data + b->len, 0, end - b->len);
        b->len = end;
    }
    memcpy(b->data + offset, data, len);
}

struct inode *po__medium_inode_new(void)
{
    struct inode *i = po__medium_must(calloc(1, sizeof *i));
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

struct inode *po__medium_inode_ref(struct inode *i)
{
    i->refs++;
    return i;
}

void po__medium_inode_unref(struct inode *i)
{
    if (--i->refs)
        return;
    inode_drop_pending(i);
    free(i->now.data);
    free(i->durable.data);
    free(i);
}

void po__medium_inode_add_pending(struct inode *i, const uint8_t *data, size_t len, uint64_t offset)
{
    struct pending *p = po__medium_must(malloc(sizeof *p + len));
    *p = (struct pending){.offset = offset, .len = len};
    memcpy(p->data, data, len);
    *i->pending_tail = p;
    i->pending_tail = &p->next;
}

/* The last pending write becomes durable alone. Older ones that it covers must not come back over
 * it. */
void po__medium_inode_commit_last(struct inode *i)
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
    po__medium_bytes_write(&i->durable, last->data, last->len, last->offset);
    *link = NULL;
    i->pending_tail = link;
    free(last);
}

void po__medium_inode_sync(struct inode *i)
{
    for (struct pending *p = i->pending; p; p = p->next)
        po__medium_bytes_write(&i->durable, p->data, p->len, p->offset);
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
                po__medium_bytes_write(&i->durable, p->data + at, len, p->offset + at);
        }
    }
    inode_drop_pending(i);
    i->now.len = 0;
    if (i->durable.len)
        po__medium_bytes_write(&i->now, i->durable.data, i->durable.len, 0);
}

/* Names */

struct entry *po__medium_names_find(const struct names *n, const char *name)
{
    for (unsigned i = 0; i < n->count; i++)
        if (!strcmp(n->entries[i].name, name))
            return &n->entries[i];
    return NULL;
}

void po__medium_names_remove(struct names *n, const char *name)
{
    struct entry *e = po__medium_names_find(n, name);
    if (!e)
        return;
    po__medium_inode_unref(e->inode);
    *e = n->entries[--n->count];
}

void po__medium_names_set(struct names *n, const char *name, struct inode *inode)
{
    po__medium_inode_ref(inode);
    po__medium_names_remove(n, name);
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 16;
        n->entries = po__medium_must(realloc(n->entries, n->cap * sizeof *n->entries));
    }
    struct entry *e = &n->entries[n->count++];
    snprintf(e->name, sizeof e->name, "%s", name);
    e->inode = inode;
}

static void names_clear(struct names *n)
{
    while (n->count)
        po__medium_inode_unref(n->entries[--n->count].inode);
}

void po__medium_change_apply(struct names *n, const struct change *c)
{
    struct entry *e = po__medium_names_find(n, c->from);
    bool was_there = e && e->inode == c->inode;
    switch (c->kind) {
    case CREATE:
        po__medium_names_set(n, c->from, c->inode);
        break;
    case RENAME:
        po__medium_names_set(n, c->to, c->inode);
        if (was_there)
            po__medium_names_remove(n, c->from);
        break;
    case UNLINK:
        if (was_there)
            po__medium_names_remove(n, c->from);
        break;
    }
}

void po__medium_changes_clear(struct po__disk_sim *m)
{
    while (m->changes_count)
        po__medium_inode_unref(m->changes[--m->changes_count].inode);
}

void po__medium_change_add(struct po__disk_sim *m, enum change_kind kind, const char *from,
                           const char *to, struct inode *inode)
{
    if (m->changes_count == m->changes_cap) {
        m->changes_cap = m->changes_cap ? m->changes_cap * 2 : 16;
        m->changes = po__medium_must(realloc(m->changes, m->changes_cap * sizeof *m->changes));
    }
    struct change *c = &m->changes[m->changes_count++];
    *c = (struct change){.kind = kind, .inode = po__medium_inode_ref(inode)};
    snprintf(c->from, sizeof c->from, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
}

static void names_decide(struct po__disk_sim *m, uint64_t *rng)
{
    /* 0: none, 1: all, 2: those up to some instant, 3: any (file systems without a journal) */
    unsigned mode = (unsigned)(draw(rng) % 4);
    unsigned prefix = m->changes_count ? (unsigned)(draw(rng) % (m->changes_count + 1)) : 0;
    for (unsigned i = 0; i < m->changes_count; i++)
        if (mode == 1 || (mode == 2 && i < prefix) || (mode == 3 && (draw(rng) & 1)))
            po__medium_change_apply(&m->durable, &m->changes[i]);
    po__medium_changes_clear(m);
    names_clear(&m->now);
    for (unsigned i = 0; i < m->durable.count; i++)
        po__medium_names_set(&m->now, m->durable.entries[i].name, m->durable.entries[i].inode);
}

/* The medium */

struct po__disk_sim *po__disk_sim_new(uint64_t seed)
{
    struct po__disk_sim *m = po__medium_must(calloc(1, sizeof *m));
    m->rng = seed;
    return m;
}

void po__disk_sim_free(struct po__disk_sim *m)
{
    if (!m)
        return;
    PO_PRE(m->attached == 0);
    po__medium_changes_clear(m);
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
    struct inode *t = i->twin = po__medium_inode_new();
    if (i->now.len)
        po__medium_bytes_write(&t->now, i->now.data, i->now.len, 0);
    if (i->durable.len)
        po__medium_bytes_write(&t->durable, i->durable.data, i->durable.len, 0);
    for (struct pending *p = i->pending; p; p = p->next)
        po__medium_inode_add_pending(t, p->data, p->len, p->offset);
    return t;
}

struct po__disk_sim *po__disk_sim_clone(const struct po__disk_sim *m)
{
    struct po__disk_sim *c = po__disk_sim_new(m->rng);
    for (unsigned i = 0; i < m->now.count; i++)
        po__medium_names_set(&c->now, m->now.entries[i].name, inode_twin(m->now.entries[i].inode));
    for (unsigned i = 0; i < m->durable.count; i++)
        po__medium_names_set(&c->durable, m->durable.entries[i].name,
                             inode_twin(m->durable.entries[i].inode));
    for (unsigned i = 0; i < m->changes_count; i++) {
        const struct change *h = &m->changes[i];
        po__medium_change_add(c, h->kind, h->from, h->to, inode_twin(h->inode));
    }
    for (unsigned i = 0; i < m->now.count; i++)
        m->now.entries[i].inode->twin = NULL;
    for (unsigned i = 0; i < m->durable.count; i++)
        m->durable.entries[i].inode->twin = NULL;
    for (unsigned i = 0; i < m->changes_count; i++)
        m->changes[i].inode->twin = NULL;
    return c;
}

void po__disk_sim_power_on(struct po__disk_sim *m, uint64_t seed)
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

void po__disk_sim_killed(struct po__disk_sim *m)
{
    PO_PRE(m->attached == 0);
    /* The write that was under way reached the cache: what is pending must be what is seen. */
    for (unsigned i = 0; i < m->now.count; i++) {
        struct inode *inode = m->now.entries[i].inode;
        for (struct pending *p = inode->pending; p; p = p->next)
            po__medium_bytes_write(&inode->now, p->data, p->len, p->offset);
    }
    m->off = false;
    m->cut_at = m->fail_at = 0;
}

uint64_t po__disk_sim_calls(const struct po__disk_sim *m)
{
    return m->calls;
}

void po__disk_sim_fail_at(struct po__disk_sim *m, uint64_t n, int code)
{
    m->fail_at = n ? m->calls + n : 0;
    m->fail_code = code;
}

void po__disk_sim_misread_at(struct po__disk_sim *m, uint64_t n, bool misdirected)
{
    m->misread_at = n ? m->reads + n : 0;
    m->misdirected = misdirected;
}

uint64_t po__disk_sim_misreads(const struct po__disk_sim *m)
{
    return m->misreads;
}

void po__disk_sim_cut_at(struct po__disk_sim *m, uint64_t n)
{
    m->cut_at = n ? m->calls + n : 0;
}

void po__disk_sim_cut(struct po__disk_sim *m)
{
    m->off = true;
}

bool po__disk_sim_is_off(const struct po__disk_sim *m)
{
    return m->off;
}

void po__disk_sim_on_change(struct po__disk_sim *m, po__disk_sim_call_hook hook, void *arg)
{
    m->on_change = hook;
    m->on_change_arg = arg;
}
