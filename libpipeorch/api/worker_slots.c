/* When a task begins: handler threads and slots.
 *
 * A control plane hands out no more tasks than there are slots. Two of them know nothing of each
 * other: together they may hand out twice as many, so that a task begins only when there really is
 * a slot, in the order of their coming. While it waits, its lease is renewed, and once more when it
 * begins: it has all of its time. Resources cannot be shared like that, because a task in hand does
 * not say what it takes: a worker that declares any finishes what its own node gave it before it
 * begins what the cluster did. */
#include "../base/alloc.h"
#include "worker_internal.h"

void po__worker_release_slot(struct po_task *t)
{
    struct po_worker *w = t->plane->worker;
    w->in_handler_count--;
    t->plane->in_handler_count--;
    t->offered->in_handler_count--;
    if (po__list_empty(&w->queue))
        return;
    if (w->resources_count && t->plane->in_handler_count == 0)
        pthread_cond_broadcast(&w->work); /* the last one of a plane lets many begin */
    else
        pthread_cond_signal(&w->work);
    po__worker_raise(w);
}

/* ---- leases of tasks that wait ---- */

/* Out of memory: tried again in the other half of the lease. */
static void renew(struct po_task *t, uint64_t now)
{
    struct po__outcome_out *o = po__worker_outcome(t, PO__DONE_EXTEND, t->timeout_ms, NULL, 0);
    t->renew_ms = now + t->timeout_ms / (o ? 2 : 4);
    if (!o)
        return;
    t->renewed = true;
    po__worker_say_extend(t->plane, o);
}

uint64_t po__worker_keep_leases(struct po_worker *w)
{
    uint64_t now = po__worker_now_ms(), due = UINT64_MAX;
    struct po__list *it;
    if (!po__plane_converses(&w->cluster) || !po__plane_converses(&w->local))
        return due;
    po__list_each(it, &w->queue)
    {
        struct po_task *t = po__container_of(it, struct po_task, link);
        if (now >= t->renew_ms)
            renew(t, now);
        due = t->renew_ms < due ? t->renew_ms : due;
    }
    return due;
}

/* ---- handler threads ---- */

static bool may_begin(const struct po_worker *w, const struct po_task *t)
{
    const struct po__offered *o = t->offered;
    bool local_lives = !w->local.fatal && w->local.phase < PO__PLANE_LEAVE;
    if (w->resources_count && t->plane == &w->cluster && local_lives && w->local.tasks.count)
        return false;
    if (w->resources_count && t->plane == &w->local && w->cluster.in_handler_count)
        return false;
    return o->in_handler_count < o->capability.max_concurrency &&
           (!w->slots_limit || w->in_handler_count < w->slots_limit);
}

struct po_task *po__worker_next_task(const struct po_worker *w, bool pulled)
{
    struct po__list *it;
    if (w->phase != PO__WORKER_RUN)
        return NULL;
    po__list_each(it, &w->queue)
    {
        struct po_task *t = po__container_of(it, struct po_task, link);
        if ((t->offered->handler == NULL) == pulled && may_begin(w, t))
            return t;
    }
    return NULL;
}

void po__worker_give_slot(struct po_task *t)
{
    struct po_worker *w = t->plane->worker;
    po__list_remove(&t->link);
    po__fsm_move(&t->state, PO__TASK_IN_HANDLER, po__task_moves);
    w->in_handler_count++;
    t->plane->in_handler_count++;
    t->offered->in_handler_count++;
    if (t->renewed)
        renew(t, po__worker_now_ms());
}

static void *handler_thread(void *arg)
{
    struct po_worker *w = arg;
    struct po_task *t = NULL;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->threads_end && !(t = po__worker_next_task(w, false)))
            pthread_cond_wait(&w->work, &w->lock);
        if (w->threads_end)
            break;
        po__worker_give_slot(t);
        const struct po__offered *o = t->offered;
        pthread_mutex_unlock(&w->lock);
        if (po__worker_input_allowed(t))
            o->handler(o->arg, t); /* t may be gone when it returns */
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* As many as handlers may run at a time. */
static unsigned threads_wanted(const struct po_worker *w)
{
    unsigned most = w->slots_limit ? w->slots_limit : UINT32_MAX, sum = 0;
    for (size_t i = 0; i < w->offered_count; i++)
        if (w->offered[i].handler)
            sum += w->offered[i].capability.max_concurrency;
    most = most < PO__WORKER_THREADS_DEFAULT_MAX ? most : PO__WORKER_THREADS_DEFAULT_MAX;
    return sum && w->threads_max ? w->threads_max : sum < most ? sum : most;
}

int po__worker_start_threads(struct po_worker *w)
{
    unsigned count = threads_wanted(w);
    if (count == 0)
        return 0;
    w->threads = po__calloc(count, sizeof *w->threads);
    if (!w->threads)
        return PO_ENOMEM;
    for (; w->threads_count < count; w->threads_count++)
        if (pthread_create(&w->threads[w->threads_count], NULL, handler_thread, w))
            break;
    if (w->threads_count == 0)
        return PO_ENOMEM;
    if (w->threads_count < count)
        po__warn(&w->log, "worker.threads", "only %u of %u handler threads could be started",
                 w->threads_count, count);
    return 0;
}

void po__worker_end_threads(struct po_worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->threads_end = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->threads_count; i++)
        pthread_join(w->threads[i], NULL);
    po__free(w->threads);
    w->threads = NULL;
    w->threads_count = 0;
}
