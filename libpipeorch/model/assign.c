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

static int behind_key(const void *key, const struct po__tree_node *n)
{
    int c = po__rank_cmp(key, &po__container_of(n, struct po__class, queue)->head);
    return c ? c : 1; /* the first that is behind, not at it */
}

/* The first of the blocked classes behind *at that the offer has room for and that goes before
 * `waiting` (NULL: none waits). *at moves on to it, or to the last one that was looked at. */
static struct po__class *unblocked(const struct po__capability *cap, const struct po__offer *o,
                                   struct po__rank *at, const struct po__class *waiting)
{
    uint32_t which;
    if (!o || !po__tree_linked(&o->free_any))
        return NULL;
    struct po__class *c = queued(po__tree_lower_bound(&cap->blocked, at, behind_key));
    for (; c && (!waiting || before(c, waiting)); c = queued(po__tree_next(&c->queue))) {
        *at = c->head;
        if (!po__misfit(c->place, o, &which))
            return c;
    }
    return NULL;
}

static void assign(struct po__model *m, struct po__capability *cap)
{
    struct po__offer *freed = cap->freed_many ? NULL : cap->freed;
    struct po__rank at = {INT64_MIN, 0};
    struct po__class *c;
    while (cap->freed_many && (c = queued(po__tree_first(&cap->blocked))))
        po__class_block(c, false);
    cap->freed_many = false;
    cap->freed = NULL;
    while (!m->err) {
        struct po__class *waiting = queued(po__tree_first(&cap->waiting));
        struct po__offer *o = freed;
        if (!(c = unblocked(cap, freed, &at, waiting))) {
            if (!(c = waiting))
                return;
            o = po__choose(cap, c->place, po__class_head(c)->zone);
        }
        if (o)
            grant(m, po__class_head(c), o);
        else
            po__class_block(c, true);
    }
}

void po__assign_all(struct po__model *m)
{
    struct po__list *l;
    while ((l = po__list_pop(&m->dirty)))
        assign(m, po__container_of(l, struct po__capability, dirty));
}
