/* Capabilities, and the offers of workers in the order in which the scheduler wants them.
 *
 * Per capability, the offers that have room stand in order (tasks their worker runs, its latest
 * grant, its number): the first is the least loaded, among equals the one that waited longest. The
 * same order is kept per group of offers that agree in zone, version and gpu, so that what a
 * placement demands of these is decided once per group (choose.c).
 *
 * The load of a worker is part of the key of all its offers, so they leave the trees before it
 * changes and come back after: O(capabilities of this worker * log offers) for each grant and each
 * end of an attempt. */
#include "impl.h"

static struct po__capability *cap_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__capability, by_name);
}

static struct po__group *group_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__group, by_profile);
}

static int cap_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(cap_of(a)->name, cap_of(b)->name);
}

static int cap_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, cap_of(n)->name);
}

struct profile {
    struct po__slice zone, version;
    bool gpu;
};

static int profile_key(const void *key, const struct po__tree_node *n)
{
    const struct profile *p = key;
    const struct po__group *g = group_of(n);
    int c = po__slice_cmp(p->zone, g->zone); /* first: groups of a zone stand together */
    c = c ? c : po__slice_cmp(p->version, g->version);
    return c ? c : (int)p->gpu - (int)g->gpu;
}

static int profile_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__group *g = group_of(a);
    const struct profile p = {g->zone, g->version, g->gpu};
    return profile_key(&p, b);
}

int po__load_cmp(const struct po__offer *a, const struct po__offer *b)
{
    int c = po__cmp_u64(a->load_running, b->load_running);
    c = c ? c : po__cmp_u64(a->load_token, b->load_token);
    return c ? c : po__cmp_u64(a->load_number, b->load_number);
}

static int free_any_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__load_cmp(po__container_of(a, struct po__offer, free_any),
                        po__container_of(b, struct po__offer, free_any));
}

static int free_group_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__load_cmp(po__container_of(a, struct po__offer, free_group),
                        po__container_of(b, struct po__offer, free_group));
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
        po__tree_node_init(&cap->turn);
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
    PO_INVARIANT(!cap->classes.root && !cap->offers.root && !cap->groups.root);
    po__list_remove(&cap->dirty);
    po__tree_remove(&m->caps, &cap->by_name);
    po__free(cap);
}

static struct po__group *group_get(struct po__model *m, struct po__capability *cap,
                                   const struct profile *p)
{
    struct po__tree_node *n = po__tree_find(&cap->groups, p, profile_key);
    struct po__group *g = n ? group_of(n) : NULL;
    if (!g) {
        g = po__calloc(1, sizeof *g + p->zone.len + p->version.len + 2);
        if (!g) {
            po__oom(m);
            return NULL;
        }
        char *at = g->text;
        g->zone = po__put(&at, p->zone);
        g->version = po__put(&at, p->version);
        g->gpu = p->gpu;
        po__tree_insert(&cap->groups, &g->by_profile, profile_cmp);
    }
    g->offers_count++;
    return g;
}

int po__offer_attach(struct po__model *m, struct po__offer *o, struct po__worker *w,
                     struct po__slice name)
{
    const struct profile profile = {w->origin->zone, o->version, o->requires_gpu};
    po__tree_node_init(&o->free_any);
    po__tree_node_init(&o->free_group);
    po__tree_node_init(&o->by_worker);
    o->worker = w;
    o->cap = po__cap_get(m, name);
    if (!o->cap)
        return PO_ENOMEM;
    o->group = group_get(m, o->cap, &profile);
    if (!o->group) {
        po__cap_put(m, o->cap);
        o->cap = NULL;
        return PO_ENOMEM;
    }
    PO_INVARIANT(!po__tree_insert(&o->cap->offers, &o->by_worker, by_worker_cmp));
    if (!o->group->sample)
        o->group->sample = o;
    return 0;
}

/* Of a group that lost its sample and is not empty. */
static struct po__offer *another_sample(const struct po__capability *cap, const struct po__group *g)
{
    struct po__tree_node *n = po__tree_first(&cap->offers);
    while (n && po__container_of(n, struct po__offer, by_worker)->group != g)
        n = po__tree_next(n);
    PO_INVARIANT(n);
    return po__container_of(n, struct po__offer, by_worker);
}

/* Tasks that hold it are the caller's to bind again or to take away. */
void po__offer_detach(struct po__model *m, struct po__offer *o)
{
    PO_INVARIANT(!po__tree_linked(&o->free_any));
    po__tree_remove(&o->cap->offers, &o->by_worker);
    if (o->cap->freed == o)
        o->cap->freed = NULL;
    o->group->running -= o->running;
    o->group->online_count -= o->online;
    o->online = false;
    if (--o->group->offers_count == 0) {
        po__tree_remove(&o->cap->groups, &o->group->by_profile);
        po__free(o->group);
    } else if (o->group->sample == o) {
        o->group->sample = another_sample(o->cap, o->group);
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
        po__tree_remove(&o->group->free, &o->free_group);
    }
}

void po__offers_link(struct po__worker *w)
{
    if (w->status != PO_WORKER_ONLINE || (w->slots && w->running >= w->slots))
        return;
    for (uint32_t i = 0; i < w->offers_count; i++) {
        struct po__offer *o = &w->offers[i];
        if (o->running >= o->slots)
            continue;
        o->load_running = w->running;
        o->load_token = w->last_token;
        o->load_number = w->number;
        PO_INVARIANT(!po__tree_insert(&o->cap->free, &o->free_any, free_any_cmp));
        PO_INVARIANT(!po__tree_insert(&o->group->free, &o->free_group, free_group_cmp));
    }
}

bool po__model_output_schema(const struct po__model *m, uint64_t task_id, uint64_t token,
                             struct po__slice worker_id, struct po__schema_of *out)
{
    const struct po__task *t = po__task_find(m, task_id);
    const struct po__worker *w = po__model_worker(m, worker_id);
    if (!t || !w || t->token != token || !t->origin || !po__slice_eq(t->origin->id, worker_id))
        return false;
    const struct po__offer *o = po__offer_of(w, po__cap_find(m, t->capability));
    if (!o || o->output_schema.len == 0)
        return false;
    *out = (struct po__schema_of){t->capability, o->version, o->output_schema};
    return true;
}

void po__offers_online(struct po__worker *w)
{
    bool online = w->status == PO_WORKER_ONLINE;
    for (uint32_t i = 0; i < w->offers_count; i++) {
        struct po__offer *o = &w->offers[i];
        o->group->online_count += (uint32_t)online - (uint32_t)o->online;
        o->online = online;
    }
}
