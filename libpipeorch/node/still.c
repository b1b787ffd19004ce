/* See still.h. The thread stands inside a callback of its loop, asleep on `cond`. */
#include "still.h"

#include <pipeorch/error.h>

static void on_ask(uv_async_t *ask)
{
    struct po__still *s = ask->data;
    pthread_mutex_lock(&s->lock);
    s->standing = true;
    pthread_cond_broadcast(&s->cond);
    while (s->visitors || (s->paused && !s->over))
        pthread_cond_wait(&s->cond, &s->lock);
    s->standing = false;
    pthread_mutex_unlock(&s->lock);
}

int po__still_init(struct po__still *s, uv_loop_t *loop)
{
    *s = (struct po__still){.visitors = 0};
    if (pthread_mutex_init(&s->lock, NULL))
        return PO_ENOMEM;
    if (pthread_cond_init(&s->cond, NULL))
        goto err_after_lock;
    if (uv_async_init(loop, &s->ask, on_ask))
        goto err_after_cond;
    s->ask.data = s;
    return 0;

err_after_cond:
    pthread_cond_destroy(&s->cond);
err_after_lock:
    pthread_mutex_destroy(&s->lock);
    return PO_ENOMEM;
}

void po__still_fini(struct po__still *s)
{
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
}

void po__still_end(struct po__still *s)
{
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

/* Under the lock: the handle is not closed before the end. */
static void knock(struct po__still *s)
{
    if (!s->standing && !s->over)
        uv_async_send(&s->ask);
}

int po__still_pause(struct po__still *s, bool paused)
{
    pthread_mutex_lock(&s->lock);
    s->paused = paused;
    pthread_cond_broadcast(&s->cond);
    if (paused)
        knock(s);
    while (s->paused && !s->standing && !s->over) /* unless it is resumed again meanwhile */
        pthread_cond_wait(&s->cond, &s->lock);
    int rv = s->over ? PO_ECLOSED : 0;
    pthread_mutex_unlock(&s->lock);
    return rv;
}

int po__still_enter(struct po__still *s)
{
    pthread_mutex_lock(&s->lock);
    s->visitors++;
    knock(s);
    while ((!s->standing || s->inside) && !s->over)
        pthread_cond_wait(&s->cond, &s->lock);
    int rv = s->over ? PO_ECLOSED : 0;
    if (rv) {
        s->visitors--;
        pthread_cond_broadcast(&s->cond);
    } else {
        s->inside = true;
    }
    pthread_mutex_unlock(&s->lock);
    return rv;
}

void po__still_leave(struct po__still *s)
{
    pthread_mutex_lock(&s->lock);
    s->inside = false;
    s->visitors--;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}
