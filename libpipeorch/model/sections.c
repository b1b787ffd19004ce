/* The sections of a snapshot that are trees, seen alike: a node, its key, its epoch, its object. */
#include "impl.h"

/* In the order of the stream. */
static const uint8_t order[] = {PO__SECTION_HEADER,   PO__SECTION_MEMBERS, PO__SECTION_WORKERS,
                                PO__SECTION_DEFS,     PO__SECTION_RUNS,    PO__SECTION_GATES,
                                PO__SECTION_TASKS,    PO__SECTION_CACHE,   PO__SECTION_SCHEDULES,
                                PO__SECTION_APP_KEYS, PO__SECTION_APP,     PO__SECTION_END};

uint32_t po__section_rank(uint32_t section)
{
    for (uint32_t i = 0; i < sizeof order; i++)
        if (order[i] == section)
            return i + 1;
    return 0;
}

uint32_t po__section_next(uint32_t section)
{
    PO_PRE(section != PO__SECTION_END);
    return order[po__section_rank(section)];
}

bool po__section_is_tree(uint32_t section)
{
    uint32_t rank = po__section_rank(section);
    return rank > po__section_rank(PO__SECTION_HEADER) &&
           rank < po__section_rank(PO__SECTION_APP_KEYS);
}

struct po__tree_node *po__section_after(const struct po__model *m, enum po__section section,
                                        uint64_t key)
{
    struct po__task *t;
    struct po__run *r;
    switch (section) {
    case PO__SECTION_MEMBERS:
        return po__member_after(m, key);
    case PO__SECTION_WORKERS:
        return po__worker_after_number(m, key);
    case PO__SECTION_DEFS:
        return po__def_after(m, key);
    case PO__SECTION_RUNS:
        r = po__run_after(m, key);
        return r ? &r->by_id : NULL;
    case PO__SECTION_GATES:
        return po__gate_after(m, key);
    case PO__SECTION_SCHEDULES:
        return po__schedule_after_generation(m, key);
    case PO__SECTION_CACHE:
        return po__cached_after(m, key);
    default:
        PO_INVARIANT(section == PO__SECTION_TASKS);
        t = po__task_after(m, key);
        return t ? &t->by_id : NULL;
    }
}

void *po__section_object(enum po__section section, struct po__tree_node *n, uint64_t *key,
                         uint32_t **epoch)
{
    struct po__member *mb;
    struct po__worker *w;
    struct po__def *d;
    struct po__run *r;
    struct po__gate *g;
    struct po__schedule *s;
    struct po__cached *c;
    struct po__task *t;
    switch (section) {
    case PO__SECTION_MEMBERS:
        mb = po__container_of(n, struct po__member, by_id);
        *key = mb->info.node_id;
        *epoch = &mb->epoch;
        return mb;
    case PO__SECTION_WORKERS:
        w = po__container_of(n, struct po__worker, by_number);
        *key = w->number;
        *epoch = &w->epoch;
        return w;
    case PO__SECTION_DEFS:
        d = po__container_of(n, struct po__def, by_number);
        *key = d->number;
        *epoch = &d->epoch;
        return d;
    case PO__SECTION_RUNS:
        r = po__container_of(n, struct po__run, by_id);
        *key = r->id;
        *epoch = &r->epoch;
        return r;
    case PO__SECTION_GATES:
        g = po__container_of(n, struct po__gate, by_number);
        *key = g->number;
        *epoch = &g->epoch;
        return g;
    case PO__SECTION_SCHEDULES:
        s = po__container_of(n, struct po__schedule, by_generation);
        *key = s->generation;
        *epoch = &s->epoch;
        return s;
    case PO__SECTION_CACHE:
        c = po__container_of(n, struct po__cached, by_id);
        *key = c->id;
        *epoch = &c->epoch;
        return c;
    default:
        PO_INVARIANT(section == PO__SECTION_TASKS);
        t = po__container_of(n, struct po__task, by_id);
        *key = t->id;
        *epoch = &t->epoch;
        return t;
    }
}

struct po__tree_node *po__section_node(enum po__section section, void *object)
{
    switch (section) {
    case PO__SECTION_MEMBERS:
        return &((struct po__member *)object)->by_id;
    case PO__SECTION_WORKERS:
        return &((struct po__worker *)object)->by_number;
    case PO__SECTION_DEFS:
        return &((struct po__def *)object)->by_number;
    case PO__SECTION_RUNS:
        return &((struct po__run *)object)->by_id;
    case PO__SECTION_GATES:
        return &((struct po__gate *)object)->by_number;
    case PO__SECTION_SCHEDULES:
        return &((struct po__schedule *)object)->by_generation;
    case PO__SECTION_CACHE:
        return &((struct po__cached *)object)->by_id;
    default:
        PO_INVARIANT(section == PO__SECTION_TASKS);
        return &((struct po__task *)object)->by_id;
    }
}
