/* The worker endpoint on nng raw REP, in the clear.
 *
 * Raw REP hands out every request with its SP header (connection id and request ids, 8 bytes for a
 * direct client) and sends whatever message carries such a header. So a request that waits for
 * hours costs its message and nothing else: no context, no thread. The answer is written into the
 * request's own message, whose header leads it back. nng drops messages with a malformed SP header,
 * and those above RECVMAXSZ, with their connection.
 *
 * Receiving: RECV_AIOS operations are always posted, so as many requests can be in callbacks at
 * once. Sending: answers come from any thread and leave through SEND_AIOS pooled operations; while
 * all are busy, answers wait in a list. The list is bounded because every call is counted from its
 * arrival until its answer has left: at CALLS_MAX, or at CALLS_MAX_BYTES of requests held, new
 * requests are answered with PO_EBUSY at once and never reach the owner.
 *
 * nng queues 64 answers for each connection and silently drops those beyond. Our own clients never
 * have more than that under way on one connection (client_nng.c); others must expect a lost answer,
 * as always.
 *
 * Locking: `lock` protects the pools, the counters and the list of answers; it is never held while
 * nng or the owner is called, because nng may run a completion callback inside nng_send_aio.
 * `callbacks` is held for reading while a callback of the owner runs, so that po__endpoint_stop can
 * wait for all of them. After the stop requests are answered here, with PO_ECLOSED. */
#include "worker_endpoint.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/list.h"
#include "address.h"
#include "nng_close.h"
#include "peer.h"

#define RECV_AIOS       4
#define SEND_AIOS       128
#define QUEUE_MSGS      8192         /* nng's own queues: RECVBUF and SENDBUF, messages */
#define CALLS_MAX       65536        /* requests without an answer that has left */
#define CALLS_MAX_BYTES (256u << 20) /* bytes of those requests */
#define CONNECTIONS_MAX 32768
#define QUIET_MS        20   /* no request for so long: quiet enough to close the socket */
#define QUIET_MAX_MS    1000 /* and do not wait longer than this for it */
#define RETRY_MS        100  /* pause after a receive that failed for want of memory */

struct po__endpoint_call {
    struct po__list link; /* in `answers` or `free_calls` */
    struct po__endpoint *endpoint;
    nng_msg *msg; /* the request; becomes the answer */
    size_t request_bytes;
};

struct recv_op {
    struct po__endpoint *endpoint;
    nng_aio *aio;
    bool pausing;
};

struct send_op {
    struct po__list link; /* in `idle_sends` */
    struct po__endpoint *endpoint;
    nng_aio *aio;
    struct po__endpoint_call *call;
};

struct po__endpoint {
    struct po__endpoint_opts opts; /* listen is not kept */
    nng_socket socket;
    char address[PO_ADDRESS_MAX_BYTES + 8];
    pthread_mutex_t lock;
    struct po__list idle_sends;
    struct po__list answers; /* calls whose answer waits for an idle send */
    struct po__list free_calls;
    size_t calls_count, calls_bytes;
    bool closing;
    atomic_bool stopped;
    pthread_rwlock_t callbacks;
    atomic_ullong request_ms; /* when the last request came after the stop */
    atomic_uint connections;
    struct recv_op recvs[RECV_AIOS];
    struct send_op sends[SEND_AIOS];
    struct po__buf busy;   /* the encoded answer to requests beyond the bounds */
    struct po__buf closed; /* and to those that come after the stop */
};

/* ---- calls ---- */

/* NULL: the bounds are reached, or no memory. Takes over msg on success. */
static struct po__endpoint_call *call_new(struct po__endpoint *e, nng_msg *msg, bool bounded)
{
    size_t bytes = nng_msg_len(msg);
    pthread_mutex_lock(&e->lock);
    bool full =
        bounded && (e->calls_count >= CALLS_MAX || e->calls_bytes + bytes > CALLS_MAX_BYTES);
    struct po__list *l = full ? NULL : po__list_pop(&e->free_calls);
    if (!full) {
        e->calls_count++;
        e->calls_bytes += bytes;
    }
    pthread_mutex_unlock(&e->lock);
    if (full)
        return NULL;
    struct po__endpoint_call *call =
        l ? po__container_of(l, struct po__endpoint_call, link) : po__malloc(sizeof *call);
    if (!call) {
        pthread_mutex_lock(&e->lock);
        e->calls_count--;
        e->calls_bytes -= bytes;
        pthread_mutex_unlock(&e->lock);
        return NULL;
    }
    *call = (struct po__endpoint_call){.endpoint = e, .msg = msg, .request_bytes = bytes};
    po__list_init(&call->link);
    return call;
}

static void call_free(struct po__endpoint_call *call)
{
    struct po__endpoint *e = call->endpoint;
    nng_msg_free(call->msg);
    pthread_mutex_lock(&e->lock);
    e->calls_count--;
    e->calls_bytes -= call->request_bytes;
    po__list_push_front(&e->free_calls, &call->link);
    pthread_mutex_unlock(&e->lock);
}

/* ---- answers ---- */

/* Starts sends as long as there is an answer and an idle operation. */
static void pump(struct po__endpoint *e)
{
    for (;;) {
        pthread_mutex_lock(&e->lock);
        struct send_op *op = NULL;
        if (!e->closing && !po__list_empty(&e->answers) && !po__list_empty(&e->idle_sends)) {
            op = po__container_of(po__list_pop(&e->idle_sends), struct send_op, link);
            op->call = po__container_of(po__list_pop(&e->answers), struct po__endpoint_call, link);
        }
        pthread_mutex_unlock(&e->lock);
        if (!op)
            return;
        nng_aio_set_msg(op->aio, op->call->msg);
        nng_send_aio(e->socket, op->aio);
    }
}

static void on_sent(void *arg)
{
    struct send_op *op = arg;
    struct po__endpoint *e = op->endpoint;
    struct po__endpoint_call *call = op->call;
    op->call = NULL;
    if (nng_aio_result(op->aio) == 0)
        call->msg = NULL; /* nng's now; nng_msg_free(NULL) is a no-op */
    call_free(call);
    pthread_mutex_lock(&e->lock);
    po__list_push(&e->idle_sends, &op->link);
    bool more = !po__list_empty(&e->answers);
    pthread_mutex_unlock(&e->lock);
    if (more)
        pump(e);
}

void po__endpoint_answer(struct po__endpoint_call *call, const void *data, size_t len)
{
    struct po__endpoint *e = call->endpoint;
    nng_msg_clear(call->msg);
    if (nng_msg_append(call->msg, data, len)) {
        po__error(&e->opts.log, "worker.memory", "out of memory for an answer of %zu bytes", len);
        call_free(call); /* the client asks again */
        return;
    }
    pthread_mutex_lock(&e->lock);
    po__list_push(&e->answers, &call->link);
    pthread_mutex_unlock(&e->lock);
    pump(e);
}

void po__endpoint_drop(struct po__endpoint_call *call)
{
    call_free(call);
}

/* ---- requests ---- */

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Answers a request without bothering the owner. */
static void answer_alone(struct po__endpoint *e, nng_msg *msg, const struct po__buf *answer)
{
    nng_msg_clear(msg);
    struct po__endpoint_call *call = call_new(e, msg, false);
    if (call)
        po__endpoint_answer(call, answer->data, answer->len);
    else
        nng_msg_free(msg);
}

static void on_request(struct po__endpoint *e, nng_msg *msg)
{
    if (nng_msg_header_len(msg) < 2 * sizeof(uint32_t)) { /* no way back to its sender */
        nng_msg_free(msg);
        return;
    }
    pthread_rwlock_rdlock(&e->callbacks);
    bool stopped = atomic_load(&e->stopped);
    struct po__endpoint_call *call = stopped ? NULL : call_new(e, msg, true);
    if (call) {
        uint64_t conn = (uint64_t)nng_pipe_id(nng_msg_get_pipe(msg));
        e->opts.request(e->opts.arg, call, conn, nng_msg_body(msg), nng_msg_len(msg));
    }
    pthread_rwlock_unlock(&e->callbacks);
    if (stopped)
        atomic_store(&e->request_ms, now_ms());
    if (!call)
        answer_alone(e, msg, stopped ? &e->closed : &e->busy);
}

static void on_received(void *arg)
{
    struct recv_op *op = arg;
    struct po__endpoint *e = op->endpoint;
    int rv = nng_aio_result(op->aio);
    bool was_pausing = op->pausing;
    op->pausing = false;
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED)
        return; /* po__endpoint_stop, _close */
    if (rv == 0 && !was_pausing) {
        nng_msg *msg = nng_aio_get_msg(op->aio);
        nng_aio_set_msg(op->aio, NULL);
        on_request(e, msg);
    } else if (rv) {
        po__warn(&e->opts.log, "worker.receive", "receiving failed: %s", nng_strerror(rv));
        op->pausing = true;
        nng_sleep_aio(RETRY_MS, op->aio);
        return;
    }
    nng_recv_aio(e->socket, op->aio);
}

/* ---- connections ---- */

static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct po__endpoint *e = arg;
    if (ev == NNG_PIPE_EV_ADD_PRE) {
        if (atomic_fetch_add(&e->connections, 1) >= CONNECTIONS_MAX || atomic_load(&e->stopped))
            nng_pipe_close(pipe);
        return;
    }
    atomic_fetch_sub(&e->connections, 1);
    pthread_rwlock_rdlock(&e->callbacks);
    if (!atomic_load(&e->stopped))
        e->opts.closed(e->opts.arg, (uint64_t)nng_pipe_id(pipe));
    pthread_rwlock_unlock(&e->callbacks);
}

/* ---- opening and closing ---- */

static int set_options(nng_socket s)
{
    int rv = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, PO__REQUEST_MAX_BYTES);
    if (!rv)
        rv = nng_socket_set_int(s, NNG_OPT_RECVBUF, QUEUE_MSGS);
    if (!rv)
        rv = nng_socket_set_int(s, NNG_OPT_SENDBUF, QUEUE_MSGS);
    return rv;
}

/* Binds, and notes the address with its real port. 0 or an nng error. */
static int start_listening(struct po__endpoint *e, const char *address)
{
    char url[PO_ADDRESS_MAX_BYTES + 16], host[PO_ADDRESS_MAX_BYTES + 1],
        port_text[PO__ADDRESS_PORT_MAX_BYTES + 1], error[1];
    nng_listener listener;
    int port = 0;
    snprintf(url, sizeof url, "tcp://%s", address);
    int rv = nng_listener_create(&listener, e->socket, url);
    if (rv)
        return rv;
    nng_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true);
    nng_listener_set_bool(listener, NNG_OPT_TCP_KEEPALIVE, true);
    rv = nng_listener_start(listener, 0);
    if (!rv)
        rv = nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);
    if (rv)
        return rv;
    po__address_parse(address, host, sizeof host, port_text, sizeof port_text, error,
                      sizeof error); /* was checked before */
    snprintf(e->address, sizeof e->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
    return 0;
}

static int alloc_ops(struct po__endpoint *e)
{
    for (unsigned i = 0; i < RECV_AIOS; i++) {
        e->recvs[i].endpoint = e;
        if (nng_aio_alloc(&e->recvs[i].aio, on_received, &e->recvs[i]))
            return PO_ENOMEM;
    }
    for (unsigned i = 0; i < SEND_AIOS; i++) {
        e->sends[i].endpoint = e;
        if (nng_aio_alloc(&e->sends[i].aio, on_sent, &e->sends[i]))
            return PO_ENOMEM;
        po__list_push(&e->idle_sends, &e->sends[i].link);
    }
    return 0;
}

static void free_ops(struct po__endpoint *e)
{
    for (unsigned i = 0; i < RECV_AIOS; i++)
        nng_aio_free(e->recvs[i].aio); /* waits for its callback; NULL is allowed */
    for (unsigned i = 0; i < SEND_AIOS; i++)
        nng_aio_free(e->sends[i].aio);
}

static void endpoint_free(struct po__endpoint *e)
{
    struct po__list *l;
    free_ops(e);
    while ((l = po__list_pop(&e->free_calls)))
        po__free(po__container_of(l, struct po__endpoint_call, link));
    po__buf_fini(&e->busy);
    po__buf_fini(&e->closed);
    pthread_rwlock_destroy(&e->callbacks);
    pthread_mutex_destroy(&e->lock);
    po__free(e);
}

static struct po__endpoint *endpoint_new(const struct po__endpoint_opts *opts)
{
    struct po__endpoint *e = po__calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->opts = *opts;
    e->opts.listen = NULL;
    pthread_mutex_init(&e->lock, NULL);
    pthread_rwlock_init(&e->callbacks, NULL);
    po__list_init(&e->idle_sends);
    po__list_init(&e->answers);
    po__list_init(&e->free_calls);
    po__response_begin(&e->busy, PO_EBUSY,
                       po__str("the node has too many requests under way; try again later"),
                       po__str(""), 0, 0);
    po__response_begin(&e->closed, PO_ECLOSED, po__str("the node is stopping; ask another one"),
                       po__str(""), 0, 0);
    if (alloc_ops(e) || e->busy.err || e->closed.err) {
        endpoint_free(e);
        return NULL;
    }
    return e;
}

static void explain(int rv, const char *address, char *error, size_t error_len)
{
    if (rv == NNG_EADDRINUSE)
        po__address_bind_error(address, EADDRINUSE, error, error_len);
    else if (rv == NNG_EADDRINVAL)
        po__address_bind_error(address, EADDRNOTAVAIL, error, error_len);
    else if (rv == NNG_EPERM)
        po__address_bind_error(address, EACCES, error, error_len);
    else
        snprintf(error, error_len, "cannot listen on %s: %s", address, nng_strerror(rv));
}

int po__endpoint_open(struct po__endpoint **out, const struct po__endpoint_opts *opts, char *error,
                      size_t error_len)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1];
    PO_PRE(opts->request && opts->closed);
    int rv =
        po__address_parse(opts->listen, host, sizeof host, port, sizeof port, error, error_len);
    if (rv)
        return rv;
    struct po__endpoint *e = endpoint_new(opts);
    if (!e) {
        snprintf(error, error_len, "out of memory for the worker endpoint");
        return PO_ENOMEM;
    }
    rv = nng_rep0_open_raw(&e->socket);
    if (rv) {
        endpoint_free(e);
        snprintf(error, error_len, "cannot open a REP socket: %s", nng_strerror(rv));
        return PO_ENOMEM;
    }
    rv = set_options(e->socket);
    if (!rv)
        rv = nng_pipe_notify(e->socket, NNG_PIPE_EV_ADD_PRE, on_pipe, e);
    if (!rv)
        rv = nng_pipe_notify(e->socket, NNG_PIPE_EV_REM_POST, on_pipe, e);
    if (!rv)
        rv = start_listening(e, opts->listen);
    if (rv) {
        explain(rv, opts->listen, error, error_len);
        atomic_store(&e->stopped, true);
        nng_close(e->socket);
        endpoint_free(e);
        return PO_EADDR;
    }
    for (unsigned i = 0; i < RECV_AIOS; i++)
        nng_recv_aio(e->socket, e->recvs[i].aio);
    *out = e;
    return 0;
}

const char *po__endpoint_address(const struct po__endpoint *e)
{
    return e->address;
}

void po__endpoint_stop(struct po__endpoint *e)
{
    pthread_rwlock_wrlock(&e->callbacks); /* callbacks that run have returned when we have it */
    atomic_store(&e->stopped, true); /* new connections are refused, new requests turned away */
    pthread_rwlock_unlock(&e->callbacks);
    atomic_store(&e->request_ms, now_ms());
}

/* A socket should be quiet when it is closed (nng_close.h): clients that are turned away go
 * elsewhere. */
static void fall_quiet(struct po__endpoint *e)
{
    uint64_t until_ms = now_ms() + QUIET_MAX_MS;
    while (now_ms() - atomic_load(&e->request_ms) < QUIET_MS && now_ms() < until_ms)
        nng_msleep(QUIET_MS / 4);
}

void po__endpoint_close(struct po__endpoint *e)
{
    if (!e)
        return;
    if (!atomic_load(&e->stopped))
        po__endpoint_stop(e);
    fall_quiet(e);
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_mutex_unlock(&e->lock);
    /* In this order: an operation that is posted while nng closes the socket would wait on its
     * freed queue. */
    for (unsigned i = 0; i < RECV_AIOS; i++)
        nng_aio_stop(e->recvs[i].aio);
    for (unsigned i = 0; i < SEND_AIOS; i++)
        nng_aio_stop(e->sends[i].aio);
    if (po__nng_close(e->socket)) {
        po__error(&e->opts.log, "worker.close",
                  "the endpoint did not close within %d ms; its memory is "
                  "left to the process",
                  PO__NNG_CLOSE_MS);
        return;
    }
    while (!po__list_empty(&e->answers))
        call_free(po__container_of(po__list_pop(&e->answers), struct po__endpoint_call, link));
    PO_PRE(e->calls_count == 0); /* every call was answered or dropped */
    endpoint_free(e);
}
