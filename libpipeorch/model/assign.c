/* Grants and their end. Every command that may let something run marks the capabilities concerned;
 * when it is done, each of them hands its oldest pending tasks to its best free offers. Between two
 * commands no capability has both. */
#include "impl.h"

void po__cap_dirty(struct po__model *m, struct po__capability *cap)
{
    if (po__list_empty(&cap->dirty))
        po__list_push(&m->dirty, &cap->dirty);
}

void po__lease_bind(struct po__task *t, struct po__worker *w, struct po__offer *o)
{
    t->worker = w;
    w->running++;
    o->running++;
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
    po__fx(m, PO__FX_ASSIGNED, t->id, t->token, w->number);
}

static void assign(struct po__model *m, struct po__capability *cap)
{
    for (;;) {
        struct po__tree_node *n = po__tree_first(&cap->pending);
        if (!n)
            return;
        struct po__task *t = po__container_of(n, struct po__task, queue);
        struct po__offer *o = po__offer_best(cap, t->zone);
        if (!o)
            return;
        grant(m, t, o);
    }
}

void po__assign_all(struct po__model *m)
{
    struct po__list *l;
    while ((l = po__list_pop(&m->dirty)))
        assign(m, po__container_of(l, struct po__capability, dirty));
}

/* The attempt is over: its slot is free. The caller moves the task out of RUNNING. revoke: the
 * worker does not know it yet. */
void po__lease_release(struct po__model *m, struct po__task *t, bool revoke)
{
    struct po__worker *w = t->worker;
    struct po__offer *o = po__offer_of(w, t->cap);
    PO_INVARIANT(o && o->running > 0 && w->running > 0);
    po__offers_unlink(w);
    w->running--;
    o->running--;
    po__offers_link(w);
    po__list_remove(&t->worker_link);
    t->worker = NULL;
    po__cap_dirty(m, t->cap);
    if (revoke)
        po__fx(m, PO__FX_REVOKED, t->id, t->token, w->number);
}
