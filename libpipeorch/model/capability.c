/* Capabilities and the index from which the scheduler takes the best worker.
 *
 * Per capability, the offers that have a free slot stand in order (tasks their worker runs, its
 * latest grant, its number): the first is the least loaded, among equals the one that waited
 * longest. The same order is kept per zone. "Least loaded, among equals one in the task's zone" is
 * then a comparison of two firsts, and everything is O(log offers).
 *
 * The load of a worker is part of the key of all its offers, so they leave the trees before it
 * changes and come back after: O(capabilities of this worker * log offers) for each grant and each
 * end of an attempt. */
#include "impl.h"

static struct po__capability *cap_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__capability, by_name);
}

static struct po__cap_zone *zone_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__cap_zone, by_name);
}

static int cap_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(cap_of(a)->name, cap_of(b)->name);
}

static int cap_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, cap_of(n)->name);
}

static int zone_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(zone_of(a)->name, zone_of(b)->name);
}

static int zone_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, zone_of(n)->name);
}

static int load_cmp(const struct po__offer *a, const struct po__offer *b)
{
    int c = po__cmp_u64(a->load_running, b->load_running);
    c = c ? c : po__cmp_u64(a->load_token, b->load_token);
    return c ? c : po__cmp_u64(a->load_number, b->load_number);
}

static int free_any_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return load_cmp(po__container_of(a, struct po__offer, free_any),
                    po__container_of(b, struct po__offer, free_any));
}

static int free_zone_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return load_cmp(po__container_of(a, struct po__offer, free_zone),
                    po__container_of(b, struct po__offer, free_zone));
}

static int by_worker_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(po__container_of(a, struct po__offer, by_worker)->worker->number,
                       po__container_of(b, struct po__offer, by_worker)->worker->number);
}

struct po__capability *po__cap_find(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_find(&m->caps, &name, cap_key);
    return n ? cap_of(n) : NULL;
}

struct po__capability *po__cap_after(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_lower_bound(&m->caps, &name, cap_key);
    if (n && name.len && po__slice_eq(cap_of(n)->name, name))
        n = po__tree_next(n);
    return n ? cap_of(n) : NULL;
}

struct po__capability *po__cap_get(struct po__model *m, struct po__slice name)
{
    struct po__capability *cap = po__cap_find(m, name);
    if (!cap) {
        cap = po__calloc(1, sizeof *cap + name.len + 1);
        if (!cap) {
            po__oom(m);
            return NULL;
        }
        char *at = cap->text;
        cap->name = po__put(&at, name);
        po__list_init(&cap->dirty);
        po__tree_insert(&m->caps, &cap->by_name, cap_cmp);
    }
    cap->refs++;
    return cap;
}

void po__cap_put(struct po__model *m, struct po__capability *cap)
{
    PO_INVARIANT(cap->refs > 0);
    if (--cap->refs)
        return;
    PO_INVARIANT(!cap->pending.root && !cap->offers.root && !cap->zones.root);
    po__list_remove(&cap->dirty);
    po__tree_remove(&m->caps, &cap->by_name);
    po__free(cap);
}

static struct po__cap_zone *zone_get(struct po__model *m, struct po__capability *cap,
                                     struct po__slice name)
{
    struct po__tree_node *n = po__tree_find(&cap->zones, &name, zone_key);
    struct po__cap_zone *z = n ? zone_of(n) : NULL;
    if (!z) {
        z = po__calloc(1, sizeof *z + name.len + 1);
        if (!z) {
            po__oom(m);
            return NULL;
        }
        char *at = z->text;
        z->name = po__put(&at, name);
        po__tree_insert(&cap->zones, &z->by_name, zone_cmp);
    }
    z->offers_count++;
    return z;
}

int po__offer_attach(struct po__model *m, struct po__offer *o, struct po__worker *w,
                     struct po__slice name)
{
    po__tree_node_init(&o->free_any);
    po__tree_node_init(&o->free_zone);
    po__tree_node_init(&o->by_worker);
    o->worker = w;
    o->cap = po__cap_get(m, name);
    if (!o->cap)
        return PO_ENOMEM;
    o->zone = zone_get(m, o->cap, w->origin->zone);
    if (!o->zone) {
        po__cap_put(m, o->cap);
        o->cap = NULL;
        return PO_ENOMEM;
    }
    PO_INVARIANT(!po__tree_insert(&o->cap->offers, &o->by_worker, by_worker_cmp));
    return 0;
}

void po__offer_detach(struct po__model *m, struct po__offer *o)
{
    PO_INVARIANT(!po__tree_linked(&o->free_any));
    po__tree_remove(&o->cap->offers, &o->by_worker);
    if (--o->zone->offers_count == 0) {
        po__tree_remove(&o->cap->zones, &o->zone->by_name);
        po__free(o->zone);
    }
    po__cap_put(m, o->cap);
    o->cap = NULL;
}

struct po__offer *po__offer_of(const struct po__worker *w, const struct po__capability *cap)
{
    for (uint32_t i = 0; i < w->offers_count; i++)
        if (w->offers[i].cap == cap)
            return &w->offers[i];
    return NULL;
}

void po__offers_unlink(struct po__worker *w)
{
    for (uint32_t i = 0; i < w->offers_count; i++) {
        struct po__offer *o = &w->offers[i];
        if (!po__tree_linked(&o->free_any))
            continue;
        po__tree_remove(&o->cap->free, &o->free_any);
        po__tree_remove(&o->zone->free, &o->free_zone);
    }
}

void po__offers_link(struct po__worker *w)
{
    if (w->status != PO_WORKER_ONLINE)
        return;
    for (uint32_t i = 0; i < w->offers_count; i++) {
        struct po__offer *o = &w->offers[i];
        if (o->running >= o->slots)
            continue;
        o->load_running = w->running;
        o->load_token = w->last_token;
        o->load_number = w->number;
        PO_INVARIANT(!po__tree_insert(&o->cap->free, &o->free_any, free_any_cmp));
        PO_INVARIANT(!po__tree_insert(&o->zone->free, &o->free_zone, free_zone_cmp));
    }
}

struct po__offer *po__offer_best(const struct po__capability *cap, struct po__slice zone)
{
    struct po__tree_node *n = po__tree_first(&cap->free);
    if (!n)
        return NULL;
    struct po__offer *best = po__container_of(n, struct po__offer, free_any);
    if (zone.len == 0 || po__slice_eq(best->zone->name, zone))
        return best;
    n = po__tree_find(&cap->zones, &zone, zone_key);
    n = n ? po__tree_first(&zone_of(n)->free) : NULL;
    if (!n)
        return best;
    struct po__offer *near = po__container_of(n, struct po__offer, free_zone);
    return near->worker->running == best->worker->running ? near : best;
}
