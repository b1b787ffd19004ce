/* What few tasks have: a deadline, a time to be forgotten, waits between attempts, a concurrency
 * key, progress and a checkpoint. It stands beside the task, so that a million tasks without any
 * of it do not pay for it.
 *
 * The timer of a task is one node with one meaning at a time: its deadline while it is unfinished,
 * the end of its keeping afterwards. */
#include "impl.h"

static struct po__more *timed(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__more, timer);
}

static int timer_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    int c = po__cmp_u64(timed(a)->timer_ms, timed(b)->timer_ms);
    return c ? c : po__cmp_u64(timed(a)->task->id, timed(b)->task->id);
}

bool po__more_needed(const struct po__extra *e)
{
    return e->priority || e->run_at_ms || e->deadline_ms || e->retry_ms || e->retry_max_ms ||
           e->gate.len || e->keep_ms;
}

struct po__more *po__more_get(struct po__model *m, struct po__task *t)
{
    if (t->more)
        return t->more;
    struct po__more *more = po__calloc(1, sizeof *more);
    if (!more) {
        po__oom(m);
        return NULL;
    }
    more->task = t;
    more->progress = PO__PROGRESS_NONE;
    po__tree_node_init(&more->timer);
    return t->more = more;
}

void po__more_free(struct po__more *more)
{
    if (!more)
        return;
    po__free((void *)more->checkpoint.data);
    po__free(more);
}

void po__more_unlink(struct po__model *m, struct po__task *t)
{
    if (t->more && po__tree_linked(&t->more->timer))
        po__tree_remove(&m->timers, &t->more->timer);
}

void po__more_link(struct po__model *m, struct po__task *t)
{
    struct po__more *more = t->more;
    if (!more)
        return;
    bool finished = t->state >= PO_TASK_SUCCEEDED;
    if (finished ? !more->extra.keep_ms : !more->extra.deadline_ms)
        return;
    more->timer_ms = finished ? t->deadline_ms + more->extra.keep_ms : more->extra.deadline_ms;
    PO_INVARIANT(!po__tree_insert(&m->timers, &more->timer, timer_cmp));
}

bool po__more_tick(struct po__model *m)
{
    struct po__tree_node *n = po__tree_first(&m->timers);
    struct po__task *t = n ? timed(n)->task : NULL;
    if (!t || t->more->timer_ms > m->now_ms)
        return false;
    po__touch_task(m, t);
    if (t->state >= PO_TASK_SUCCEEDED)
        po__task_drop(m, t);
    else
        po__task_expired(m, t);
    return true;
}

struct po__slice po__model_checkpoint(const struct po__task *t)
{
    return t->more ? t->more->checkpoint : po__slice(NULL, 0);
}

void po__task_extra(const struct po__task *t, struct po__extra *e)
{
    *e = t->more ? t->more->extra : (struct po__extra){0};
    e->placement = t->lane->cls->placement;
    if (t->lane->gate)
        e->gate = t->lane->gate->name;
}
