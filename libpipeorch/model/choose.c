/* Which worker a task gets: what turns a worker down, and the best of those that are left.
 *
 * Zone, version and gpu are decided once per group of offers; labels and resources per worker, in
 * the order of the group, until one fits. So a task without demands costs a look at the first of a
 * tree, one with demands on zone, version or gpu a look at each group, and only one that demands
 * labels or resources walks over workers that have room but do not suit it. */
#include "impl.h"

const struct po__stock *po__stock_of(const struct po__worker *w, struct po__slice name)
{
    for (uint32_t i = 0; i < w->stocks_count; i++)
        if (po__slice_eq(w->stocks[i].name, name))
            return &w->stocks[i];
    return NULL;
}

struct po__slice po__label_of(const struct po__worker *w, struct po__slice key, bool *present)
{
    for (uint32_t i = 0; i < w->labels_count; i++) {
        *present = po__slice_eq(w->label_pairs[i].key, key);
        if (*present)
            return w->label_pairs[i].value;
    }
    *present = false;
    return po__slice(NULL, 0);
}

static bool label_fits(const struct po__worker *w, const struct po__label_wish *wish)
{
    bool present;
    struct po__slice value = po__label_of(w, wish->key, &present);
    switch (wish->op) {
    case PO__LABEL_EQUAL:
        return present && po__slice_eq(value, wish->value);
    case PO__LABEL_UNEQUAL:
        return !present || !po__slice_eq(value, wish->value);
    case PO__LABEL_PRESENT:
        return present;
    default:
        return !present;
    }
}

static bool resource_fits(const struct po__worker *w, const struct po__resource *want)
{
    const struct po__stock *s = po__stock_of(w, want->name);
    return s && s->amount >= s->used && s->amount - s->used >= want->amount;
}

static enum po__misfit group_misfit(const struct po__placement *p, const struct po__group *g)
{
    if (p->zone.len && !po__slice_eq(p->zone, g->zone))
        return PO__MISFIT_ZONE;
    if (p->gpu && (p->gpu == PO__GPU_REQUIRED) != g->gpu)
        return PO__MISFIT_GPU;
    return p->range.len && !po__range_has(p->range, g->version) ? PO__MISFIT_VERSION : PO__FITS;
}

static enum po__misfit label_misfit(const struct po__placement *p, const struct po__worker *w,
                                    uint32_t *which)
{
    for (*which = 0; *which < p->labels_count; ++*which)
        if (!label_fits(w, &p->labels[*which]))
            return PO__MISFIT_LABEL;
    return PO__FITS;
}

static enum po__misfit resource_misfit(const struct po__placement *p, const struct po__worker *w,
                                       uint32_t *which)
{
    for (*which = 0; *which < p->resources_count; ++*which)
        if (!resource_fits(w, &p->resources[*which]))
            return PO__MISFIT_RESOURCE;
    return PO__FITS;
}

enum po__misfit po__misfit(const struct po__placement *p, const struct po__offer *o,
                           uint32_t *which)
{
    const struct po__worker *w = o->worker;
    *which = 0;
    if (w->status != PO_WORKER_ONLINE)
        return w->status == PO_WORKER_DRAINING ? PO__MISFIT_DRAINING : PO__MISFIT_OFFLINE;
    enum po__misfit why = group_misfit(p, o->group);
    why = why ? why : label_misfit(p, w, which);
    if (why)
        return why;
    if (o->running >= o->slots)
        return PO__MISFIT_SLOTS;
    if (w->slots && w->running >= w->slots)
        return PO__MISFIT_WORKER_SLOTS;
    return resource_misfit(p, w, which);
}

static const struct po__offer *newer(const struct po__offer *a, const struct po__offer *b)
{
    return !b || po__semver_cmp(a->version, b->version) > 0 ? a : b;
}

/* Offers of a group have the same version: one of each is looked at, unless labels tell them apart.
 */
static const struct po__offer *newest(const struct po__capability *cap,
                                      const struct po__placement *p)
{
    const struct po__offer *best = NULL;
    uint32_t which;
    const struct po__tree *tree = p->labels_count ? &cap->offers : &cap->groups;
    for (struct po__tree_node *n = po__tree_first(tree); n; n = po__tree_next(n)) {
        const struct po__offer *o = p->labels_count
                                        ? po__container_of(n, struct po__offer, by_worker)
                                        : po__container_of(n, struct po__group, by_profile)->sample;
        if (!group_misfit(p, o->group) && !label_misfit(p, o->worker, &which))
            best = newer(o, best);
    }
    return best;
}

bool po__model_input_schema(const struct po__model *m, struct po__slice capability,
                            const struct po__placement *p, struct po__schema_of *out)
{
    const struct po__capability *cap = po__cap_find(m, capability);
    const struct po__offer *o = cap ? newest(cap, p) : NULL;
    if (!o || o->input_schema.len == 0)
        return false;
    *out = (struct po__schema_of){cap->name, o->version, o->input_schema};
    return true;
}

/* The first of a group, or its last, that has what the placement wants of a worker. */
static struct po__offer *first_in(const struct po__group *g, const struct po__placement *p,
                                  bool last)
{
    uint32_t which;
    struct po__tree_node *n = last ? po__tree_last(&g->free) : po__tree_first(&g->free);
    for (; n; n = last ? po__tree_prev(n) : po__tree_next(n)) {
        struct po__offer *o = po__container_of(n, struct po__offer, free_group);
        if (!label_misfit(p, o->worker, &which) && !resource_misfit(p, o->worker, &which))
            return o;
    }
    return NULL;
}

struct zone { /* what a walk over the groups found in one zone */
    struct po__slice name;
    struct po__offer *best;
    uint64_t running;
};

static bool better(const struct po__offer *a, const struct po__offer *b, bool last)
{
    return a && (!b || (last ? po__load_cmp(a, b) > 0 : po__load_cmp(a, b) < 0));
}

/* The groups from *n on that are in one zone; *n moves behind them. */
static struct zone look_at_zone(struct po__tree_node **n, const struct po__placement *p, bool last)
{
    struct zone z = {.name = po__container_of(*n, struct po__group, by_profile)->zone};
    for (; *n; *n = po__tree_next(*n)) {
        const struct po__group *g = po__container_of(*n, struct po__group, by_profile);
        if (!po__slice_eq(g->zone, z.name))
            break;
        z.running += g->running;
        struct po__offer *o = group_misfit(p, g) ? NULL : first_in(g, p, last);
        if (better(o, z.best, last))
            z.best = o;
    }
    return z;
}

/* Is zone a to be preferred to b? Both have somebody. */
static bool zone_better(const struct zone *a, const struct zone *b, const struct po__placement *p,
                        struct po__slice preferred)
{
    bool a_near = po__slice_eq(a->name, preferred), b_near = po__slice_eq(b->name, preferred);
    if (p->prefer == PO__PREFER_LOCAL && a_near != b_near)
        return a_near;
    if (p->prefer == PO__PREFER_SPREAD && a->running != b->running)
        return a->running < b->running;
    if (a_near != b_near && a->best->load_running == b->best->load_running)
        return a_near;
    return better(a->best, b->best, p->prefer == PO__PREFER_BINPACK);
}

struct po__offer *po__choose(const struct po__capability *cap, const struct po__placement *p,
                             struct po__slice zone)
{
    struct po__tree_node *n = po__tree_first(&cap->free);
    struct po__offer *first = n ? po__container_of(n, struct po__offer, free_any) : NULL;
    struct zone best = {0};
    if (!first)
        return NULL;
    if (po__placement_empty(p) && (zone.len == 0 || po__slice_eq(first->group->zone, zone)))
        return first;
    for (n = po__tree_first(&cap->groups); n;) {
        struct zone z = look_at_zone(&n, p, p->prefer == PO__PREFER_BINPACK);
        if (z.best && (!best.best || zone_better(&z, &best, p, zone)))
            best = z;
    }
    return best.best;
}
