/* The whole-state check of classes, lanes and gates. See check.c. */
#include "impl.h"

#include <inttypes.h>

static int check_lane(const struct po__checker *c, const struct po__class *cls,
                      const struct po__lane *l, uint64_t *pending)
{
    const struct po__task *before = NULL;
    bool ready = l->tasks.count && (!l->gate || l->gate->open);
    if (l->cls != cls || l->refs < l->tasks.count || l->refs == 0)
        return po__broken(c, "capability %s: a lane is not its class's", cls->cap->name.data);
    for (struct po__tree_node *n = po__tree_first(&l->tasks); n; n = po__tree_next(n)) {
        const struct po__task *t = po__container_of(n, struct po__task, queue);
        if (t->lane != l || t->cap != cls->cap || t->state != PO_TASK_PENDING)
            return po__broken(c, "task %" PRIu64 " of state %u waits in a lane", t->id, t->state);
        const struct po__rank rank = po__rank_of(t);
        const struct po__rank last = before ? po__rank_of(before) : rank;
        if (before && po__rank_cmp(&last, &rank) >= 0)
            return po__broken(c, "task %" PRIu64 " is out of order in its lane", t->id);
        if (!before && ready && po__rank_cmp(&rank, &l->head))
            return po__broken(c, "task %" PRIu64 " is not the head that its lane shows", t->id);
        before = t;
        ++*pending;
    }
    return ready == po__tree_linked(&l->ready)
               ? 0
               : po__broken(c, "capability %s: a lane is ready or not, against its gate",
                            cls->cap->name.data);
}

/* A class that has something to run is blocked, and nobody has room for it. */
static int check_class(const struct po__checker *c, const struct po__class *cls, uint64_t *pending)
{
    uint64_t ready = 0, refs = 0;
    const char *cap = cls->cap->name.data;
    for (struct po__tree_node *n = po__tree_first(&cls->lanes); n; n = po__tree_next(n)) {
        const struct po__lane *l = po__container_of(n, struct po__lane, by_gate);
        if (check_lane(c, cls, l, pending))
            return -1;
        ready += po__tree_linked(&l->ready);
        refs += l->refs;
    }
    if (ready != cls->ready.count || cls->unfinished_count > refs)
        return po__broken(c, "capability %s: %" PRIu64 " lanes are ready, counted %" PRIu64, cap,
                          ready, cls->ready.count);
    if ((ready > 0) != po__tree_linked(&cls->queue) || (ready && !cls->blocked))
        return po__broken(c, "capability %s: a class is queued or blocked wrongly", cap);
    if (!ready)
        return 0;
    const struct po__task *t = po__class_head(cls);
    const struct po__rank rank = po__rank_of(t);
    if (po__rank_cmp(&rank, &cls->head))
        return po__broken(c, "capability %s: task %" PRIu64 " is not the head of its class", cap,
                          t->id);
    if (po__choose(cls->cap, cls->place, t->zone))
        return po__broken(c, "capability %s: task %" PRIu64 " is pending while a slot is free", cap,
                          t->id);
    return 0;
}

int po__check_queues(const struct po__checker *c, const struct po__capability *cap)
{
    uint64_t pending = 0, queued = 0, active = 0;
    for (struct po__tree_node *n = po__tree_first(&cap->classes); n; n = po__tree_next(n)) {
        const struct po__class *cls = po__container_of(n, struct po__class, by_placement);
        if (cls->cap != cap || check_class(c, cls, &pending))
            return cls->cap == cap ? -1 : po__broken(c, "a class is not its capability's");
        queued += po__tree_linked(&cls->queue);
        active += cls->unfinished_count > 0;
    }
    if (pending != cap->pending_count || cap->waiting.count || queued != cap->blocked.count ||
        active != cap->classes_active)
        return po__broken(c, "capability %s: %" PRIu64 " tasks are pending, counted %" PRIu64,
                          cap->name.data, pending, cap->pending_count);
    return 0;
}

#define COUNT_MAX 10000000 /* keys times tasks that are due */

static uint64_t running_of(const struct po__model *m, const struct po__gate *g)
{
    uint64_t running = 0;
    if (m->gates.count * m->due.count > COUNT_MAX)
        return g->running;
    for (struct po__tree_node *n = po__tree_first(&m->due); n; n = po__tree_next(n)) {
        const struct po__task *t = po__container_of(n, struct po__task, queue);
        running += t->state == PO_TASK_RUNNING && t->lane->gate == g;
    }
    return running;
}

static int check_gate(const struct po__checker *c, const struct po__gate *g)
{
    uint64_t running = running_of(c->m, g);
    if (po__gate_find(c->m, g->name) != g || g->number == 0 || g->lanes.count != g->refs)
        return po__broken(c, "concurrency key %s is not found, or its lanes are not counted",
                          g->name.data);
    if (running != g->running)
        return po__broken(c, "concurrency key %s: %" PRIu64 " tasks run, counted %u", g->name.data,
                          running, g->running);
    bool full = g->max && g->running >= g->max, timed = g->due_ms != 0;
    if (timed != po__tree_linked(&g->due) || (!g->refs && !timed) || (g->open && full) ||
        (g->open && g->refs && timed) || (!g->open && !full && !timed))
        return po__broken(c, "concurrency key %s is open or due wrongly", g->name.data);
    if (g->rate_max && g->full_us > (c->m->now_ms + g->rate_ms) * 1000)
        return po__broken(c, "concurrency key %s: its bucket is more than empty", g->name.data);
    return 0;
}

int po__check_gates(const struct po__checker *c)
{
    const struct po__model *m = c->m;
    for (struct po__tree_node *n = po__tree_first(&m->gates); n; n = po__tree_next(n))
        if (check_gate(c, po__container_of(n, struct po__gate, by_name)))
            return -1;
    if (m->gates.count != m->gates_by_number.count || m->gates.count > PO__GATES_MAX)
        return po__broken(c, "%" PRIu64 " concurrency keys, numbered %" PRIu64, m->gates.count,
                          m->gates_by_number.count);
    return 0;
}
