/* A worker endpoint on a loop and a thread of its own, as a node has one. Calls may be answered
 * from any thread: the answer is carried to the loop. */
#ifndef PO__TEST_HOST_H
#define PO__TEST_HOST_H

#include "wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "net/worker_endpoint.h"

struct host {
    struct po__endpoint *e;
    char address[PO_ADDRESS_MAX_BYTES + 1];
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t prepare;
    pthread_t thread;
    pthread_mutex_t lock; /* for what follows */
    struct po__list answers;
    bool severing, closing;
};

struct host_answer {
    struct po__list link;
    struct po__endpoint_call *call;
    size_t len; /* SIZE_MAX: dropped */
    char data[];
};

static inline void host_closed(void *arg)
{
    struct host *h = arg;
    h->e = NULL;
    uv_close((uv_handle_t *)&h->wake, NULL);
    uv_close((uv_handle_t *)&h->prepare, NULL);
}

static inline void host_turn(uv_prepare_t *prepare)
{
    struct host *h = prepare->data;
    struct po__list mine, *l;
    po__list_init(&mine);
    pthread_mutex_lock(&h->lock);
    while ((l = po__list_pop(&h->answers)))
        po__list_push(&mine, l);
    bool severing = h->severing, closing = h->closing;
    h->severing = false;
    pthread_mutex_unlock(&h->lock);
    if (severing)
        po__endpoint_sever(h->e);
    while ((l = po__list_pop(&mine))) {
        struct host_answer *a = (struct host_answer *)(void *)l;
        if (a->len == SIZE_MAX)
            po__endpoint_drop(a->call);
        else
            po__endpoint_answer(a->call, a->data, a->len);
        free(a);
    }
    po__endpoint_flush(h->e);
    if (closing) {
        uv_prepare_stop(prepare);
        po__endpoint_close(h->e, host_closed, h);
    }
}

static inline void host_wake(uv_async_t *wake)
{
    (void)wake;
}

static inline void *host_run(void *arg)
{
    struct host *h = arg;
    uv_run(&h->loop, UV_RUN_DEFAULT);
    return NULL;
}

static inline int host_open(struct host *h, const struct po__endpoint_opts *opts, char *error,
                            size_t error_len)
{
    int rv = po__endpoint_open(&h->e, opts, error, error_len);
    if (rv) {
        h->e = NULL;
        return rv;
    }
    strcpy(h->address, po__endpoint_address(h->e));
    pthread_mutex_init(&h->lock, NULL);
    po__list_init(&h->answers);
    h->severing = h->closing = false;
    assert_int_equal(uv_loop_init(&h->loop), 0);
    assert_int_equal(uv_async_init(&h->loop, &h->wake, host_wake), 0);
    uv_prepare_init(&h->loop, &h->prepare);
    h->prepare.data = h;
    uv_prepare_start(&h->prepare, host_turn);
    if (po__endpoint_start(h->e, &h->loop, error, error_len))
        fail_msg("%s", error);
    assert_int_equal(pthread_create(&h->thread, NULL, host_run, h), 0);
    return 0;
}

static inline void host_post(struct host *h, struct po__endpoint_call *call, const void *data,
                             size_t len)
{
    struct host_answer *a = malloc(sizeof *a + (len == SIZE_MAX ? 0 : len));
    a->call = call;
    a->len = len;
    if (len != SIZE_MAX && len)
        memcpy(a->data, data, len);
    pthread_mutex_lock(&h->lock);
    po__list_push(&h->answers, &a->link);
    pthread_mutex_unlock(&h->lock);
    uv_async_send(&h->wake);
}

static inline void host_answer(struct host *h, struct po__endpoint_call *call, const void *data,
                               size_t len)
{
    host_post(h, call, data, len);
}

static inline void host_drop(struct host *h, struct po__endpoint_call *call)
{
    host_post(h, call, NULL, SIZE_MAX);
}

static inline void host_sever(struct host *h)
{
    pthread_mutex_lock(&h->lock);
    h->severing = true;
    pthread_mutex_unlock(&h->lock);
    uv_async_send(&h->wake);
}

/* Every call has been answered or dropped. Returns when the endpoint is closed. */
static inline void host_close(struct host *h)
{
    pthread_mutex_lock(&h->lock);
    h->closing = true;
    pthread_mutex_unlock(&h->lock);
    uv_async_send(&h->wake);
    pthread_join(h->thread, NULL);
    assert_int_equal(uv_loop_close(&h->loop), 0);
    pthread_mutex_destroy(&h->lock);
}

#endif
