/* Grants and their end. Every command that may let something run marks the capabilities concerned;
 * when it is done, each of them hands the first of its tasks to the best of the workers that have
 * room, until no task is left that anybody has room for.
 *
 * A class of tasks (queue.c) for which nobody has room is blocked. It stays so until some worker
 * has room that it had not: then that worker, and nobody else, can have room for it. So the blocked
 * classes are looked at once, in order of rank, for that one worker, and only until it is full
 * again: a busy cluster never searches. If several workers have new room, which ticks and losses
 * bring about, all classes wait to be looked at as if they were new. Between two commands every
 * class that has something to run is blocked, and for none of them anybody has room:
 * po__model_check looks whether that is so. */
#include "impl.h"

void po__cap_dirty(struct po__model *m, struct po__capability *cap)
{
    if (po__list_empty(&cap->dirty))
        po__list_push(&m->dirty, &cap->dirty);
}

/* ---- leases ---- */

void po__lease_count(struct po__task *t, struct po__worker *w, struct po__offer *o, int sign)
{
    const struct po__placement *p = t->lane->cls->place;
    w->running += (uint32_t)sign;
    o->running += (uint32_t)sign;
    o->group->running += (uint32_t)sign;
    for (uint32_t i = 0; i < p->resources_count; i++) {
        struct po__stock *s = (struct po__stock *)po__stock_of(w, p->resources[i].name);
        if (s && sign > 0)
            s->used += p->resources[i].amount;
        else if (s)
            s->used -= p->resources[i].amount;
    }
}

void po__lease_bind(struct po__task *t, struct po__worker *w, struct po__offer *o)
{
    t->worker = w;
    po__lease_count(t, w, o, 1);
    po__list_push(&w->tasks, &t->worker_link);
}

static void grant(struct po__model *m, struct po__task *t, struct po__offer *o)
{
    struct po__worker *w = o->worker;
    po__touch_task(m, t);
    po__touch_worker(m, w);
    m->last_token = m->last_token + 1 > m->index ? m->last_token + 1 : m->index;
    po__task_move(m, t, PO_TASK_RUNNING, m->now_ms + t->timeout_ms);
    t->attempt++;
    t->token = m->last_token;
    t->outcome = PO__OUTCOME_NONE;
    if (!t->granted_ms)
        t->granted_ms = m->now_ms;
    if (t->origin != w->origin) {
        po__origin_put(m, t->origin);
        t->origin = w->origin;
        t->origin->refs++;
    }
    po__offers_unlink(w);
    po__lease_bind(t, w, o);
    w->last_token = t->token;
    po__offers_link(w);
    if (t->lane->gate)
        po__gate_enter(m, t->lane->gate);
    po__fx(m, PO__FX_ASSIGNED, t->id, t->token, w->number);
    po__news_task(m, PO_WATCH_TASK_GRANTED, t);
}

/* The attempt is over: its slot is free. The caller moves the task out of RUNNING. revoke: the
 * worker does not know it yet. */
void po__lease_release(struct po__model *m, struct po__task *t, bool revoke)
{
    struct po__worker *w = t->worker;
    struct po__offer *o = po__offer_of(w, t->cap);
    bool shared = w->slots || t->lane->cls->place->resources_count; /* room for all its offers */
    PO_INVARIANT(o && o->running > 0 && w->running > 0);
    po__offers_unlink(w);
    po__lease_count(t, w, o, -1);
    po__offers_link(w);
    po__list_remove(&t->worker_link);
    t->worker = NULL;
    if (t->lane->gate)
        po__gate_leave(m, t->lane->gate);
    po__worker_freed(m, w, shared ? NULL : o);
    if (revoke)
        po__fx(m, PO__FX_REVOKED, t->id, t->token, w->number);
}

/* ---- who is looked at again ---- */

static struct po__class *queued(struct po__tree_node *n)
{
    return n ? po__container_of(n, struct po__class, queue) : NULL;
}

void po__worker_freed(struct po__model *m, struct po__worker *w, struct po__offer *only)
{
    for (uint32_t i = 0; i < w->offers_count; i++) {
        struct po__offer *o = &w->offers[i];
        if (only && o != only)
            continue;
        if (po__tree_linked(&o->free_any)) {
            o->cap->freed_many = o->cap->freed_many || (o->cap->freed && o->cap->freed != o);
            o->cap->freed = o;
        }
        po__cap_dirty(m, o->cap);
    }
}

/* ---- assignment ---- */

static bool before(const struct po__class *a, const struct po__class *b)
{
    return po__rank_cmp(&a->head, &b->head) < 0;
}

static int head_key(const void *key, const struct po__tree_node *n)
{
    return po__rank_cmp(key, &po__container_of(n, struct po__class, queue)->head);
}

/* The first of the blocked classes that has not been looked at, that the freed offer has room for,
 * and that goes before `waiting` (NULL: none waits). */
static struct po__class *unblocked(struct po__capability *cap, const struct po__class *waiting)
{
    uint32_t which;
    if (!cap->freed || !po__tree_linked(&cap->freed->free_any))
        return NULL;
    struct po__class *c = queued(po__tree_lower_bound(&cap->blocked, &cap->looked_at, head_key));
    for (; c && (!waiting || before(c, waiting)); c = queued(po__tree_next(&c->queue))) {
        cap->looked_at = c->head; /* room only shrinks now: who was turned down stays so */
        if (!po__misfit(c->place, cap->freed, &which))
            return c;
    }
    return NULL;
}

/* The class whose first task is to go next, and the offer that it gets; NULL: there is none that
 * anybody has room for. */
static struct po__class *next_class(struct po__capability *cap, struct po__offer **o)
{
    for (;;) {
        struct po__class *waiting = queued(po__tree_first(&cap->waiting));
        struct po__class *c = unblocked(cap, waiting);
        *o = cap->freed;
        if (c || !waiting)
            return c;
        *o = po__choose(cap, waiting->place, po__class_head(waiting)->zone);
        if (*o)
            return waiting;
        po__class_block(waiting, true);
    }
}

static struct po__capability *next_dirty(struct po__model *m)
{
    struct po__list *l = po__list_pop(&m->dirty);
    struct po__capability *cap = l ? po__container_of(l, struct po__capability, dirty) : NULL;
    struct po__class *c;
    if (!cap)
        return NULL;
    cap->looked_at = (struct po__rank){INT64_MIN, 0};
    if (cap->freed_many)
        cap->freed = NULL;
    while (cap->freed_many && (c = queued(po__tree_first(&cap->blocked))))
        po__class_block(c, false);
    cap->freed_many = false;
    return cap;
}

static int turn_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__rank_cmp(&po__container_of(a, struct po__capability, turn)->turn_rank,
                        &po__container_of(b, struct po__capability, turn)->turn_rank);
}

static void take_turn(struct po__tree *turns, struct po__capability *cap, const struct po__class *c)
{
    if (!c) {
        cap->freed = NULL;
        return;
    }
    cap->turn_rank = c->head;
    PO_INVARIANT(!po__tree_insert(turns, &cap->turn, turn_cmp));
}

/* Workers share room among their capabilities: the capabilities go by the rank of what is next in
 * each, or one that always has tasks would leave nothing to the others. What is next can only
 * become later while others take their turns. */
static void assign_in_turns(struct po__model *m)
{
    struct po__tree turns = {0};
    struct po__capability *cap;
    struct po__tree_node *n;
    struct po__offer *o;
    while ((cap = next_dirty(m)))
        take_turn(&turns, cap, next_class(cap, &o));
    while (!m->err && (n = po__tree_first(&turns))) {
        cap = po__container_of(n, struct po__capability, turn);
        po__tree_remove(&turns, n);
        struct po__class *c = next_class(cap, &o);
        if (c && po__rank_cmp(&c->head, &cap->turn_rank) == 0) {
            grant(m, po__class_head(c), o);
            c = next_class(cap, &o);
        }
        take_turn(&turns, cap, c);
    }
}

/* Nobody shares: each capability by itself, in the order in which they were marked. It decides
 * nothing but the order of tokens, and is that of the first release. */
static void assign_each(struct po__model *m)
{
    struct po__capability *cap;
    struct po__class *c;
    struct po__offer *o;
    while ((cap = next_dirty(m))) {
        while (!m->err && (c = next_class(cap, &o)))
            grant(m, po__class_head(c), o);
        cap->freed = NULL;
    }
}

void po__assign_all(struct po__model *m)
{
    if (m->workers_sharing)
        assign_in_turns(m);
    else
        assign_each(m);
}
