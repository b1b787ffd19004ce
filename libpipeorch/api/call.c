#include "call.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "../base/alloc.h"
#include "../base/assert.h"

static _Thread_local char error_text[PO__CLIENT_ERROR_MAX_BYTES];

const char *po_client_error(void)
{
    return error_text;
}

int po__client_fail(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(error_text, sizeof error_text, fmt, ap);
    va_end(ap);
    return code;
}

int po__read_struct(void *dst, size_t dst_size, const void *src, const char *what)
{
    size_t size;
    memset(dst, 0, dst_size);
    if (!src)
        return 0;
    memcpy(&size, src, sizeof size);
    if (size < sizeof size || size > 64 * 1024)
        return po__client_fail(PO_EINVAL, "%s: its size is %zu; set it to sizeof(struct %s)", what,
                               size, what);
    memcpy(dst, src, size < dst_size ? size : dst_size);
    return 0;
}

static int read_opts(struct po_call_opts *o, const struct po_call_opts *opts)
{
    int rv = po__read_struct(o, sizeof *o, opts, "po_call_opts");
    if (rv)
        return rv;
    if (o->timeout_ms == 0)
        o->timeout_ms = PO__CALL_TIMEOUT_DEFAULT_MS;
    if (o->timeout_ms > PO_TIMEOUT_MAX_MS)
        return po__client_fail(PO_EINVAL, "timeout_ms is %u; expected 1..%d, or 0 for %d",
                               o->timeout_ms, PO_TIMEOUT_MAX_MS, PO__CALL_TIMEOUT_DEFAULT_MS);
    if (o->key && (o->key_len < 1 || o->key_len > PO_KEY_MAX_BYTES))
        return po__client_fail(PO_EINVAL, "the idempotency key has %zu bytes; expected 1..%d",
                               o->key_len, PO_KEY_MAX_BYTES);
    return 0;
}

/* ---- preparing ---- */

static int begin(struct po__call *call, uint32_t type, const struct po_call_opts *opts)
{
    struct po_call_opts o;
    int rv = read_opts(&o, opts);
    *call = (struct po__call){.type = type, .timeout_ms = o.timeout_ms};
    po__buf_init(&call->request, PO__REQUEST_MAX_BYTES);
    return rv;
}

static int finish(struct po__call *call)
{
    int rv = call->request.err;
    if (!rv)
        return 0;
    po__buf_fini(&call->request);
    return po__client_fail(rv,
                           rv == PO_ETOOBIG ? "the request needs more than %d bytes"
                                            : "out of memory for a request of up to %d bytes",
                           PO__REQUEST_MAX_BYTES);
}

int po__call_key(struct po__slice *key, uint8_t drawn[PO__DRAWN_KEY_BYTES],
                 const struct po_call_opts *opts)
{
    struct po_call_opts o;
    int rv = read_opts(&o, opts);
    if (rv)
        return rv;
    if (o.key) {
        *key = po__slice(o.key, o.key_len);
        return 0;
    }
    if (getrandom(drawn, PO__DRAWN_KEY_BYTES, 0) != PO__DRAWN_KEY_BYTES)
        return po__client_fail(PO_EIO, "no random bytes for an idempotency key; give one");
    *key = po__slice(drawn, PO__DRAWN_KEY_BYTES);
    return 0;
}

int po__call_command(struct po__call *call, const struct po__cmd *cmd,
                     const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_COMMAND, opts);
    if (!rv) {
        char message[512];
        rv = po__cmd_check(cmd, message, sizeof message);
        if (rv)
            po__client_fail(rv, "%s", message);
    }
    if (rv)
        return rv;
    po__request_command(&call->request, call->timeout_ms, cmd);
    return finish(call);
}

int po__call_batch(struct po__call *call, struct po__slice commands, uint32_t count,
                   const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_BATCH, opts);
    if (rv)
        return rv;
    po__request_batch(&call->request, call->timeout_ms, commands, count);
    return finish(call);
}

int po__call_query(struct po__call *call, const struct po__query *query,
                   const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_QUERY, opts);
    if (rv)
        return rv;
    po__request_query(&call->request, call->timeout_ms, query);
    return finish(call);
}

int po__call_wait_for(struct po__call *call, uint32_t kind, uint64_t id,
                      const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_WAIT, opts);
    if (!rv && id == 0)
        rv = po__client_fail(PO_EINVAL, "the id to wait for is 0; ids begin with 1");
    call->wait_kind = kind;
    call->wait_id = id;
    return rv; /* each slice encodes its own request */
}

int po__call_heartbeat(struct po__call *call, const char *worker_id, uint64_t incarnation,
                       const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_HEARTBEAT, opts);
    if (!rv && (!worker_id || !po__name_ok(po__str(worker_id))))
        rv = po__client_fail(PO_EINVAL,
                             "the worker id is missing or no name; expected 1..%d of A-Z a-z 0-9 "
                             ". _ -",
                             PO_NAME_MAX_BYTES);
    if (!rv && incarnation == 0)
        rv = po__client_fail(PO_EINVAL,
                             "the incarnation of worker %s is 0; give the one that it "
                             "registered with",
                             worker_id);
    if (rv)
        return rv;
    po__request_heartbeat(&call->request, call->timeout_ms, po__str(worker_id), incarnation, NULL);
    return finish(call);
}

int po__call_snapshot(struct po__call *call, uint64_t stream, uint64_t offset,
                      const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_SNAPSHOT, opts);
    if (rv)
        return rv;
    po__request_snapshot(&call->request, call->timeout_ms, stream, offset);
    return finish(call);
}

int po__call_member(struct po__call *call, const struct po__member_request *m,
                    const struct po_call_opts *opts)
{
    int rv = begin(call, PO__REQ_MEMBER, opts);
    if (rv)
        return rv;
    /* A node that says how far it got is worth more than our own "no answer": it gets less time. */
    uint32_t spare_ms = call->timeout_ms / 10 < 500 ? call->timeout_ms / 10 : 500;
    po__request_member(&call->request, call->timeout_ms - spare_ms, m);
    return finish(call);
}

/* ---- running ---- */

/* A call under way. Completed in one place, complete(). */
struct running {
    po_client *client;
    struct po__call call;
    uint64_t deadline_ms; /* WAIT */
    po_result_cb cb;
    void *arg;
};

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void complete(struct running *r, const struct po_result *result)
{
    r->cb(r->arg, result);
    po__buf_fini(&r->call.request);
    po__free(r);
}

static void complete_with(struct running *r, int code)
{
    char message[256];
    snprintf(message, sizeof message, "%s (waited up to %u ms)", po_strerror(code),
             r->call.timeout_ms);
    struct po_result result = {.size = sizeof result, .code = code, .message = message};
    complete(r, &result);
}

static void on_response(void *arg, int code, const void *resp, size_t len);

/* Sends the request; for WAIT the next slice of it. */
static int send_request(struct running *r)
{
    struct po__channel *ch = r->client->channel;
    uint32_t timeout_ms = r->call.timeout_ms;
    if (r->call.type == PO__REQ_WAIT) {
        uint64_t now = now_ms();
        timeout_ms = now < r->deadline_ms ? (uint32_t)(r->deadline_ms - now) : 1;
        po__buf_reset(&r->call.request);
        po__request_wait(&r->call.request,
                         timeout_ms < PO__WAIT_SLICE_MS ? timeout_ms : PO__WAIT_SLICE_MS,
                         r->call.wait_kind, r->call.wait_id);
        if (r->call.request.err)
            return r->call.request.err;
    }
    return ch->ops->call(ch, r->call.request.data, r->call.request.len, timeout_ms, on_response, r);
}

static void on_response(void *arg, int code, const void *resp, size_t len)
{
    struct running *r = arg;
    char message[PO__CLIENT_ERROR_MAX_BYTES];
    struct po__buf json = {0};
    struct po_result result;
    if (code) {
        complete_with(r, code);
        return;
    }
    code = po__result_decode(&r->call, resp, len, &result, &json, message, sizeof message);
    if (code == PO_ETIMEDOUT && r->call.type == PO__REQ_WAIT && now_ms() < r->deadline_ms) {
        int rv = send_request(r); /* the next slice; if it is accepted, r is its callback's */
        if (rv)
            complete_with(r, rv);
    } else {
        complete(r, &result);
    }
    po__buf_fini(&json);
}

static int refuse(struct po__call *call, int code, const char *why)
{
    po__buf_fini(&call->request);
    return po__client_fail(code, "%s", why);
}

int po__call_start(po_client *client, struct po__call *call, po_result_cb cb, void *arg)
{
    if (!client || !cb)
        return refuse(call, PO_EINVAL, "the client or the callback is NULL");
    struct running *r = po__malloc(sizeof *r);
    if (!r)
        return refuse(call, PO_ENOMEM, "out of memory for a call");
    *r = (struct running){.client = client,
                          .call = *call,
                          .deadline_ms = now_ms() + call->timeout_ms,
                          .cb = cb,
                          .arg = arg};
    int rv = send_request(r);
    if (rv) {
        po__buf_fini(&r->call.request);
        po__free(r);
        return po__client_fail(rv, "the call was not accepted: %s", po_strerror(rv));
    }
    return 0;
}

/* ---- waiting ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done;
    struct po__outcome out;
    char message[PO__CLIENT_ERROR_MAX_BYTES];
};

static void on_result(void *arg, const struct po_result *result)
{
    struct waiter *w = arg;
    w->out.code = result->code;
    w->out.id = result->id;
    w->out.index = result->index;
    if (result->code) {
        snprintf(w->message, sizeof w->message, "%s", result->message);
    } else {
        w->out.data = po__strndup(result->data, result->len);
        w->out.len = result->len;
        if (!w->out.data) {
            w->out.code = PO_ENOMEM;
            snprintf(w->message, sizeof w->message, "out of memory for an answer of %zu bytes",
                     result->len);
        }
    }
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(
        &w->done_cond); /* with the lock: the waiter's memory goes when it is free */
    pthread_mutex_unlock(&w->lock);
}

int po__call_wait(po_client *client, struct po__call *call, struct po__outcome *out)
{
    struct waiter w = {.done = false};
    if (!client)
        return refuse(call, PO_EINVAL, "the client is NULL");
    if (client->channel->ops->on_callback_thread(client->channel))
        return refuse(call, PO_EINVAL,
                      "a blocking call was made in a callback, which it would wait for; use the "
                      "_async form there");
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.done_cond, NULL);
    int rv = po__call_start(client, call, on_result, &w);
    if (!rv) {
        pthread_mutex_lock(&w.lock);
        while (!w.done)
            pthread_cond_wait(&w.done_cond, &w.lock);
        pthread_mutex_unlock(&w.lock);
        rv = w.out.code;
        if (rv)
            po__client_fail(rv, "%s", w.message);
        if (!rv && out)
            *out = w.out;
        else
            po__free(w.out.data);
    }
    pthread_cond_destroy(&w.done_cond);
    pthread_mutex_destroy(&w.lock);
    return rv;
}

int po__call_wait_id(po_client *client, struct po__call *call, uint64_t *id)
{
    struct po__outcome out = {0};
    int rv = po__call_wait(client, call, &out);
    if (rv)
        return rv;
    if (id)
        *id = out.id;
    po__outcome_fini(&out);
    return 0;
}

void po__outcome_fini(struct po__outcome *out)
{
    po__free(out->data);
    out->data = NULL;
}
