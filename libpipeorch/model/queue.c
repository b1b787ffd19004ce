/* Where pending tasks wait.
 *
 *   capability ── class ── lane ── tasks
 *                (one placement)  (one concurrency key, or none)
 *
 * Tasks of a class ask for the same places, so if there is no room for the first of them there is
 * none for any: a class as a whole is either waiting to be looked at or blocked (assign.c). Within
 * a class there is one lane for each concurrency key, and one for the tasks without a key. A lane
 * is ready while it has tasks and its key has room; a key that is used up takes its lanes out,
 * however many tasks they hold, and puts them back in O(log n) each.
 *
 * Everything is in order of rank: when a task was (or may be) due, less PO__AGEING_MS for each
 * level of its priority. That is strict priority among tasks of an age, and ageing, in one number
 * that never changes. A ready lane and a queued class carry the rank of their first task. */
#include "impl.h"

static struct po__class *class_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__class, by_placement);
}

static struct po__lane *lane_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__lane, by_gate);
}

static struct po__task *task_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__task, queue);
}

int po__rank_cmp(const struct po__rank *a, const struct po__rank *b)
{
    int c = po__cmp_u64(a->rank_ms, b->rank_ms); /* of their own type: signed */
    return c ? c : po__cmp_u64(a->id, b->id);
}

static int task_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__rank x = po__rank_of(task_of(a)), y = po__rank_of(task_of(b));
    return po__rank_cmp(&x, &y);
}

static int ready_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__rank_cmp(&po__container_of(a, struct po__lane, ready)->head,
                        &po__container_of(b, struct po__lane, ready)->head);
}

static int queue_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__rank_cmp(&po__container_of(a, struct po__class, queue)->head,
                        &po__container_of(b, struct po__class, queue)->head);
}

static int placement_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, class_of(n)->placement);
}

static int placement_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return placement_key(&class_of(a)->placement, b);
}

static struct po__slice gate_name(const struct po__gate *g)
{
    return g ? g->name : po__slice(NULL, 0);
}

static int by_gate_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, gate_name(lane_of(n)->gate));
}

static int by_gate_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__slice name = gate_name(lane_of(a)->gate);
    return by_gate_key(&name, b);
}

/* Lanes of a gate, in an order that has nothing to do with when they were made. */
static int in_gate_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__class *x = po__container_of(a, struct po__lane, in_gate)->cls;
    const struct po__class *y = po__container_of(b, struct po__lane, in_gate)->cls;
    int c = po__slice_cmp(x->cap->name, y->cap->name);
    return c ? c : po__slice_cmp(x->placement, y->placement);
}

/* ---- objects ---- */

const struct po__class *po__class_find(const struct po__model *m, struct po__slice capability,
                                       struct po__slice placement)
{
    const struct po__capability *cap = po__cap_find(m, capability);
    struct po__tree_node *n = cap ? po__tree_find(&cap->classes, &placement, placement_key) : NULL;
    return n ? class_of(n) : NULL;
}

/* A decoded placement takes more than a kilobyte; most classes have none. */
static struct po__class *class_make(struct po__slice placement)
{
    static const struct po__placement empty;
    size_t decoded = placement.len ? sizeof(struct po__placement) : 0;
    struct po__class *c = po__calloc(1, sizeof *c + decoded + placement.len + 1);
    if (!c)
        return NULL;
    struct po__placement *place = (struct po__placement *)(void *)c->text;
    char *at = c->text + decoded;
    c->placement = po__put(&at, placement);
    c->place = decoded ? place : &empty;
    if (decoded)
        PO_INVARIANT(po__placement_decode(c->placement, place) == 0);
    po__tree_node_init(&c->queue);
    return c;
}

static struct po__class *class_get(struct po__model *m, struct po__slice capability,
                                   struct po__slice placement)
{
    struct po__class *c = (struct po__class *)po__class_find(m, capability, placement);
    if (c)
        return c;
    c = class_make(placement);
    if (!c || !(c->cap = po__cap_get(m, capability))) {
        po__free(c);
        po__oom(m);
        return NULL;
    }
    po__tree_insert(&c->cap->classes, &c->by_placement, placement_cmp);
    return c;
}

static void class_free_if_unused(struct po__model *m, struct po__class *c)
{
    if (c->lanes.root)
        return;
    PO_INVARIANT(!po__tree_linked(&c->queue) && !c->unfinished_count);
    po__tree_remove(&c->cap->classes, &c->by_placement);
    po__cap_put(m, c->cap);
    po__free(c);
}

struct po__lane *po__lane_get(struct po__model *m, struct po__slice capability,
                              struct po__slice placement, struct po__gate *gate)
{
    const struct po__slice name = gate_name(gate);
    struct po__class *c = class_get(m, capability, placement);
    if (!c)
        return NULL;
    struct po__tree_node *n = po__tree_find(&c->lanes, &name, by_gate_key);
    struct po__lane *l = n ? lane_of(n) : po__calloc(1, sizeof *l);
    if (!l) {
        class_free_if_unused(m, c);
        po__oom(m);
        return NULL;
    }
    if (!n) {
        l->cls = c;
        l->gate = gate;
        po__tree_node_init(&l->ready);
        po__tree_node_init(&l->in_gate);
        po__tree_insert(&c->lanes, &l->by_gate, by_gate_cmp);
        if (gate) {
            po__tree_insert(&gate->lanes, &l->in_gate, in_gate_cmp);
            gate->refs++;
        }
    }
    l->refs++;
    return l;
}

void po__lane_put(struct po__model *m, struct po__lane *l)
{
    struct po__class *c = l->cls;
    if (--l->refs)
        return;
    PO_INVARIANT(!l->tasks.root && !po__tree_linked(&l->ready));
    po__tree_remove(&c->lanes, &l->by_gate);
    if (l->gate) {
        po__tree_remove(&l->gate->lanes, &l->in_gate);
        l->gate->refs--;
        po__gate_unused(m, l->gate);
    }
    po__free(l);
    class_free_if_unused(m, c);
}

/* ---- order ---- */

static struct po__tree *queue_of(struct po__class *c)
{
    return c->blocked ? &c->cap->blocked : &c->cap->waiting;
}

void po__class_block(struct po__class *c, bool blocked)
{
    po__tree_remove(queue_of(c), &c->queue);
    c->blocked = blocked;
    PO_INVARIANT(!po__tree_insert(queue_of(c), &c->queue, queue_cmp));
}

/* After a change of its ready lanes. One that had nothing ready starts as waiting: nobody knows yet
 * whether there is room for it. */
static void requeue(struct po__class *c)
{
    struct po__tree_node *n = po__tree_first(&c->ready);
    bool queued = po__tree_linked(&c->queue);
    if (n && queued &&
        po__rank_cmp(&po__container_of(n, struct po__lane, ready)->head, &c->head) == 0)
        return;
    if (queued)
        po__tree_remove(queue_of(c), &c->queue);
    if (!n || !queued)
        c->blocked = false;
    if (!n)
        return;
    c->head = po__container_of(n, struct po__lane, ready)->head;
    PO_INVARIANT(!po__tree_insert(queue_of(c), &c->queue, queue_cmp));
}

void po__lane_refresh(struct po__model *m, struct po__lane *l)
{
    bool open = !l->gate || l->gate->open, was_ready = po__tree_linked(&l->ready);
    struct po__tree_node *n = open || was_ready ? po__tree_first(&l->tasks) : NULL;
    bool is_ready = n && open;
    struct po__rank head = n ? po__rank_of(task_of(n)) : l->head;
    if (is_ready == was_ready && (!is_ready || po__rank_cmp(&head, &l->head) == 0))
        return;
    if (was_ready)
        po__tree_remove(&l->cls->ready, &l->ready);
    l->head = head;
    if (is_ready)
        PO_INVARIANT(!po__tree_insert(&l->cls->ready, &l->ready, ready_cmp));
    requeue(l->cls);
    if (is_ready && !was_ready)
        po__cap_dirty(m, l->cls->cap);
}

/* Tasks behind its head change nothing about a lane: no need to look for the first of them, which
 * may be one of a million. */
static bool behind_head(const struct po__lane *l, const struct po__task *t)
{
    const struct po__rank rank = po__rank_of(t);
    return po__tree_linked(&l->ready) && po__rank_cmp(&l->head, &rank) < 0;
}

void po__lane_insert(struct po__model *m, struct po__task *t)
{
    PO_INVARIANT(!po__tree_insert(&t->lane->tasks, &t->queue, task_cmp));
    t->cap->pending_count++;
    if (!behind_head(t->lane, t))
        po__lane_refresh(m, t->lane);
}

void po__lane_remove(struct po__model *m, struct po__task *t)
{
    po__tree_remove(&t->lane->tasks, &t->queue);
    t->cap->pending_count--;
    if (!behind_head(t->lane, t))
        po__lane_refresh(m, t->lane);
}

struct po__task *po__class_head(const struct po__class *c)
{
    const struct po__lane *l = po__container_of(po__tree_first(&c->ready), struct po__lane, ready);
    return task_of(po__tree_first(&l->tasks));
}
