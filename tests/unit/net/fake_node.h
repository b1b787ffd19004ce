/* A node that answers as a test tells it, behind a real endpoint. */
#ifndef PO__TEST_FAKE_NODE_H
#define PO__TEST_FAKE_NODE_H

#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define FAKE_CALLS_MAX 8192

enum fake_mode {
    FAKE_ANSWER,   /* `code`, with id 7 and no data */
    FAKE_REDIRECT, /* PO_ENOTLEADER with `leader` */
    FAKE_PARK,     /* keep the call */
    FAKE_GARBAGE,  /* answer with bytes that are no response */
};

struct fake_node {
    struct host host;
    bool open;
    atomic_int mode, code;
    atomic_int first_code; /* the code of the first `first_count` answers */
    atomic_uint first_count;
    char leader[PO_ADDRESS_MAX_BYTES + 1];
    atomic_uint requests, closed;
    pthread_mutex_t lock;
    struct po__endpoint_call *parked[FAKE_CALLS_MAX];
    unsigned parked_count;
    struct po__buf last; /* the last request */
};

static inline void fake_respond(struct fake_node *n, struct po__endpoint_call *call, int code,
                                const char *message, const char *leader)
{
    struct po__buf b = {0};
    po__response_begin(&b, code, po__str(message), po__str(leader), 5, 2);
    po__mpw_uint(&b, 7);
    po__mpw_bin(&b, po__slice("", 0));
    assert_int_equal(b.err, 0);
    host_answer(&n->host, call, b.data, b.len);
    po__buf_fini(&b);
}

static inline void fake_request(void *arg, struct po__endpoint_call *call, uint64_t conn,
                                const void *data, size_t len)
{
    struct fake_node *n = arg;
    (void)conn;
    pthread_mutex_lock(&n->lock);
    po__buf_reset(&n->last);
    po__buf_append(&n->last, data, len);
    int mode = atomic_load(&n->mode);
    if (mode == FAKE_PARK)
        n->parked[n->parked_count++] = call;
    pthread_mutex_unlock(&n->lock);
    if (mode == FAKE_ANSWER) {
        int code = atomic_load(&n->code);
        if (atomic_load(&n->first_count)) {
            atomic_fetch_sub(&n->first_count, 1);
            code = atomic_load(&n->first_code);
        }
        fake_respond(n, call, code, code ? "the fake node says so" : "", "");
    } else if (mode == FAKE_REDIRECT) {
        fake_respond(n, call, PO_ENOTLEADER, "not the leader", n->leader);
    } else if (mode == FAKE_GARBAGE) {
        host_answer(&n->host, call, "\xc1\xff", 2);
    }
    atomic_fetch_add(&n->requests, 1);
}

static inline void fake_closed(void *arg, uint64_t conn)
{
    struct fake_node *n = arg;
    (void)conn;
    atomic_fetch_add(&n->closed, 1);
}

static inline void fake_open(struct fake_node *n, const char *listen)
{
    char error[512];
    struct po__endpoint_opts opts = {
        .listen = listen, .request = fake_request, .closed = fake_closed, .arg = n};
    pthread_mutex_init(&n->lock, NULL);
    if (host_open(&n->host, &opts, error, sizeof error))
        fail_msg("%s", error);
    n->open = true;
}

static inline unsigned fake_parked(struct fake_node *n)
{
    pthread_mutex_lock(&n->lock);
    unsigned count = n->parked_count;
    pthread_mutex_unlock(&n->lock);
    return count;
}

static inline void fake_answer_parked(struct fake_node *n, int code)
{
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->parked_count; i++)
        fake_respond(n, n->parked[i], code, "", "");
    n->parked_count = 0;
    pthread_mutex_unlock(&n->lock);
}

/* The calls that are parked are dropped. */
static inline void fake_close(struct fake_node *n)
{
    if (!n->open)
        return;
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < n->parked_count; i++)
        host_drop(&n->host, n->parked[i]);
    n->parked_count = 0;
    atomic_store(&n->mode, FAKE_ANSWER); /* what is still read must not be parked */
    pthread_mutex_unlock(&n->lock);
    host_close(&n->host);
    n->open = false;
    po__buf_fini(&n->last);
}

#endif
