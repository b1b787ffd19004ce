/* Tasks that the host takes.
 *
 * They wait in the worker's queue like those of handler threads and begin by the same rules; only
 * who begins them differs. The descriptor and the condition say the same: there may be something.
 * Both are raised with the lock, and lowered by the take that finds nothing more, so nobody sleeps
 * while there is something. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/deadline.h"
#include "call.h"
#include "out.h"
#include "worker_internal.h"

int po__worker_pull_init(struct po_worker *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->pull, &attr);
    pthread_condattr_destroy(&attr);
    po__list_init(&w->lost);
    w->pull_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->pull_fd < 0 ? PO_ENOMEM : 0;
}

void po__worker_pull_fini(struct po_worker *w)
{
    pthread_cond_destroy(&w->pull);
    if (w->pull_fd >= 0)
        close(w->pull_fd);
}

void po__worker_raise(struct po_worker *w)
{
    uint64_t one = 1;
    pthread_cond_signal(&w->pull);
    if (w->phase == PO__WORKER_STOPPED)
        pthread_cond_broadcast(&w->pull);
    if (w->pull_raised)
        return;
    w->pull_raised = true;
    if (write(w->pull_fd, &one, sizeof one) != sizeof one)
        PO_INVARIANT(!"an eventfd at 0 takes a 1");
}

/* After a take that left nothing. Stays up when it is all over, for whoever polls. */
static void lower(struct po_worker *w)
{
    uint64_t counter;
    if (!w->pull_raised || w->phase == PO__WORKER_STOPPED)
        return;
    w->pull_raised = false;
    if (read(w->pull_fd, &counter, sizeof counter) < 0)
        PO_INVARIANT(!"an eventfd that was written can be read");
}

void po__worker_tell_lost(struct po_task *t)
{
    po__list_remove(&t->lost);
    po__list_push(&t->plane->worker->lost, &t->lost);
    po__worker_raise(t->plane->worker);
}

static struct po_grant grant_of(const struct po_worker *w, struct po_task *t, int what)
{
    struct po_grant g = {.what = what,
                         .capability = (uint32_t)(t->offered - w->offered),
                         .task = t,
                         .id = t->id,
                         .token = t->token,
                         .attempt = t->attempt,
                         .timeout_ms = t->timeout_ms};
    if (what == PO_GRANT_LOST)
        return g;
    g.input = t->input;
    g.input_len = t->input_len;
    g.checkpoint = t->checkpoint_len ? t->checkpoint : NULL;
    g.checkpoint_len = t->checkpoint_len;
    return g;
}

/* With the lock, given up while an input is compared with its schema. */
static void take(struct po_worker *w, struct po__rows *rows)
{
    struct po__list *l;
    struct po_task *t = NULL;
    while (!po__rows_full(rows) && (l = po__list_pop(&w->lost))) {
        const struct po_grant g =
            grant_of(w, po__container_of(l, struct po_task, lost), PO_GRANT_LOST);
        po__rows_add(rows, &g, sizeof g);
    }
    while (!po__rows_full(rows) && (t = po__worker_next_task(w, true))) {
        po__worker_give_slot(t);
        if (t->offered->capability.input_schema) {
            pthread_mutex_unlock(&w->lock);
            bool allowed = po__worker_input_allowed(t);
            pthread_mutex_lock(&w->lock);
            if (!allowed)
                continue;
        }
        const struct po_grant g = grant_of(w, t, PO_GRANT_TASK);
        po__rows_add(rows, &g, sizeof g);
    }
    if (po__list_empty(&w->lost) && !po__worker_next_task(w, true))
        lower(w);
    else
        pthread_cond_signal(&w->pull); /* there is more, for another one that waits */
}

int po_worker_take(po_worker *w, struct po_grant *grants, size_t max, uint32_t timeout_ms,
                   size_t *count)
{
    struct po__rows rows;
    if (!w || timeout_ms > PO_TIMEOUT_MAX_MS)
        return po__client_fail(PO_EINVAL, "the worker is NULL, or timeout_ms is %u; expected 0..%d",
                               timeout_ms, PO_TIMEOUT_MAX_MS);
    int rv = po__rows_begin(&rows, grants, max, count, "po_grant");
    if (rv)
        return rv;
    struct timespec until = po__time_after(timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        take(w, &rows);
        if (*count || waited == ETIMEDOUT || timeout_ms == 0 || w->phase == PO__WORKER_STOPPED)
            break;
        waited = pthread_cond_timedwait(&w->pull, &w->lock, &until);
    }
    bool over = w->phase == PO__WORKER_STOPPED;
    pthread_mutex_unlock(&w->lock);
    if (*count)
        return 0;
    return over ? po__client_fail(PO_ECLOSED, "the worker has ended")
                : po__client_fail(PO_ETIMEDOUT, "there is no task to take");
}

int po_worker_fd(const po_worker *w)
{
    return w ? w->pull_fd : -1;
}
