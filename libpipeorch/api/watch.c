/* A watch: one request after the other, each for what is behind the answer of the one before.
 *
 * Requests are short long polls (SLICE_MS), so that a leader that hangs is noticed. An answer is
 * kept as it came, and events are taken out of it one by one; the next request leaves when it is
 * used up, so a slow caller holds one answer, not a queue. Nothing but the position carries over
 * from one request to the next, which is why a failover, a lost answer or an error is nothing but
 * the same question once more.
 *
 * The watch is shared by its user and by the request under way, which cannot be called back:
 * closing leaves it to the one that ends last. `lock` protects everything below it; it is not held
 * while a callback runs or a request is handed over. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/deadline.h"
#include "call.h"
#include "out.h"
#include "watch_event.h"
#include "watch_internal.h"

#define SLICE_MS 3000
#define GRACE_MS 7000 /* for a leader to be found, beyond the slice */

struct po_watch {
    struct po__channel *channel;
    struct po__request request; /* the next one; its texts are `worker` and `pipeline` */
    char worker[PO_NAME_MAX_BYTES + 1], pipeline[PO_NAME_MAX_BYTES + 1];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned refs;
    bool closed;
    bool asking;
    int error;                   /* of the last request; taken by whoever looks */
    char *message;               /* its sentence; NULL: none */
    struct po__watch_pos seen;   /* all up to here was given */
    struct po__watch_pos before; /* `seen`, before the event that was given last */
    bool gone;                   /* the marker is to be given, as of `seen` */
    uint8_t *answer;             /* with events that are not given yet */
    struct po__mpr reader;
    uint32_t left;
    struct po__watch_pos answer_end; /* when they are all given */
    po_watch_cb cb;                  /* NULL: events wait for po_watch_next */
    void *arg;
    bool calling; /* cb runs, on this thread: */
    pthread_t caller;

    struct po__watch_texts texts; /* of the event that was given last */
};

/* ---- life ---- */

static void unref(struct po_watch *w) /* with the lock, which it gives up */
{
    bool last = --w->refs == 0;
    pthread_mutex_unlock(&w->lock);
    if (!last)
        return;
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    po__free(w->message);
    po__free(w->answer);
    po__free(w);
}

static int init_sync(struct po_watch *w)
{
    pthread_condattr_t attr;
    if (pthread_mutex_init(&w->lock, NULL))
        return PO_ENOMEM;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rv = pthread_cond_init(&w->changed, &attr) ? PO_ENOMEM : 0;
    pthread_condattr_destroy(&attr);
    if (rv)
        pthread_mutex_destroy(&w->lock);
    return rv;
}

static int take_name(char *to, struct po__slice *s, const char *text, const char *field)
{
    struct po__slice name = po__str(text);
    if (name.len && !po__name_ok(name))
        return po__client_fail(PO_EINVAL,
                               "%s \"%.64s\" is no name; expected 1..%d of A-Z a-z 0-9 . _ -",
                               field, text, PO_NAME_MAX_BYTES);
    snprintf(to, PO_NAME_MAX_BYTES + 1, "%.*s", (int)name.len, name.len ? text : "");
    *s = po__str(to);
    return 0;
}

static int take_opts(struct po_watch *w, const struct po_watch_opts *opts)
{
    struct po_watch_opts o;
    const uint64_t known = PO_WATCH_BIT(PO_WATCH_GONE) | PO_WATCH_TASKS | PO_WATCH_WORKERS |
                           PO_WATCH_RUNS | PO_WATCH_MEMBERS;
    int rv = po__read_struct(&o, sizeof o, opts, "po_watch_opts");
    if (rv)
        return rv;
    if (o.kinds & ~known)
        return po__client_fail(PO_EINVAL, "kinds has bits of no kind of event; use PO_WATCH_BIT");
    if (o.after_index == 0 && o.after_position)
        return po__client_fail(PO_EINVAL, "after_position is %u of entry 0; give after_index, too",
                               o.after_position);
    rv = take_name(w->worker, &w->request.watch.worker, o.worker_id, "worker_id");
    rv = rv ? rv : take_name(w->pipeline, &w->request.watch.pipeline, o.pipeline, "pipeline");
    w->request.type = PO__REQ_WATCH;
    w->request.timeout_ms = SLICE_MS + GRACE_MS;
    w->request.watch.kinds = o.kinds;
    w->request.watch.task_id = o.task_id;
    w->request.watch.run_id = o.run_id;
    w->seen = (struct po__watch_pos){o.after_index, o.after_position};
    return rv;
}

/* ---- answers ---- */

static int read_answer(struct po_watch *w, const struct po__response *resp)
{
    struct po__mpr r;
    if (resp->body_fields < PO__WATCH_ANSWER_FIELDS)
        return PO_EPROTO;
    w->answer = po__memdup(resp->body.data, resp->body.len);
    if (!w->answer)
        return PO_ENOMEM;
    po__mpr_init(&r, w->answer, resp->body.len);
    w->gone = po__mpr_bool(&r);
    w->answer_end.index = po__mpr_uint(&r, UINT64_MAX);
    w->answer_end.position = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    w->left = po__mpr_array(&r, PO__WATCH_LIMIT_MAX);
    w->reader = r;
    return r.err;
}

static void drop_answer(struct po_watch *w)
{
    po__free(w->answer);
    w->answer = NULL;
    w->left = 0;
    w->gone = false;
}

static void set_error(struct po_watch *w, int code, struct po__slice message)
{
    w->error = code;
    po__free(w->message);
    w->message = message.len ? po__strndup(message.data, message.len) : NULL;
}

static void take_answer(struct po_watch *w, int code, const void *data, size_t len)
{
    struct po__response resp = {0};
    drop_answer(w);
    code = code ? code : po__response_decode(data, len, &resp);
    if (code == 0 && (resp.code == PO_ECLOSED || resp.code == PO_ENOTLEADER))
        code = PO_ENOLEADER; /* that node ends, or leads no more: another will lead */
    code = code ? code : resp.code;
    code = code ? code : read_answer(w, &resp);
    if (code) {
        drop_answer(w);
        set_error(w, code, resp.message);
    } else if (w->left == 0 && !w->gone) {
        w->seen = w->answer_end;
        drop_answer(w);
    }
}

/* The next event that came and was not given. False: there is none; w->error may say why. */
static bool take_event(struct po_watch *w, struct po_watch_event *e)
{
    struct po__watch_event raw = {.event.kind = PO_WATCH_GONE};
    if (w->gone) {
        raw.at = w->answer_end;
        w->gone = false;
    } else if (w->left == 0) {
        return false;
    } else {
        w->left--;
        if (po__watch_event_decode(&w->reader, &raw)) {
            drop_answer(w);
            set_error(w, PO_EPROTO, po__str("the node sent an event that cannot be read"));
            return false;
        }
    }
    po__watch_event_public(&raw, &w->texts, e);
    w->before = w->seen;
    w->seen = w->left ? raw.at : w->answer_end;
    if (w->left == 0)
        drop_answer(w);
    return true;
}

/* ---- requests ---- */

/* No leader for the moment, or none that answered. */
static bool passes(int code)
{
    return code == PO_ETIMEDOUT || code == PO_ENOLEADER || code == PO_ENOTLEADER ||
           code == PO_EUNREACHABLE || code == PO_EUNKNOWN;
}

static void on_answer(void *arg, int code, const void *resp, size_t len);

/* With the lock, which is released meanwhile. 0, or the watch has the error. */
static void ask(struct po_watch *w)
{
    struct po__buf b;
    struct po__request req = w->request;
    req.watch.after_index = w->seen.index;
    req.watch.after_position = w->seen.position;
    req.watch.wait_ms = SLICE_MS;
    w->asking = true;
    w->refs++;
    pthread_mutex_unlock(&w->lock);
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_watch(&b, &req);
    int rv = b.err;
    if (rv == 0)
        rv = w->channel->ops->call(w->channel, b.data, b.len, req.timeout_ms, on_answer, w);
    po__buf_fini(&b);
    pthread_mutex_lock(&w->lock);
    if (rv) {
        w->asking = false;
        w->refs--; /* the caller has one */
        set_error(w, rv, po__slice(NULL, 0));
    }
}

/* Gives all that came to the callback. With the lock, released while it runs. */
static void call_back(struct po_watch *w)
{
    struct po_watch_event e;
    int code = 0;
    w->calling = true;
    w->caller = pthread_self();
    while (!w->closed && w->cb && code == 0) {
        po_watch_cb cb = w->cb;
        bool event = take_event(w, &e);
        if (!event && w->error == 0)
            break;
        if (!event && passes(w->error)) {
            w->error = 0;
            break;
        }
        if (!event) {
            code = w->error;
            w->error = 0;
            w->cb = NULL;
        }
        void *cb_arg = w->arg;
        pthread_mutex_unlock(&w->lock);
        cb(cb_arg, code, event ? &e : NULL);
        pthread_mutex_lock(&w->lock);
    }
    w->calling = false;
    pthread_cond_broadcast(&w->changed);
}

static void on_answer(void *arg, int code, const void *resp, size_t len)
{
    struct po_watch *w = arg;
    pthread_mutex_lock(&w->lock);
    w->asking = false;
    take_answer(w, code, resp, len);
    pthread_cond_broadcast(&w->changed);
    while (w->cb && !w->closed && !w->asking) {
        call_back(w);
        if (w->cb && !w->closed && !w->asking)
            ask(w); /* if it is not accepted, the callback is told */
    }
    unref(w);
}

/* ---- waiting ---- */

static int fail(struct po_watch *w, int code)
{
    return po__client_fail(code, "%s", w->message ? w->message : po_strerror(code));
}

/* Wait until `done` is true of the watch, an error says that it will not be, or time is over. */
static int wait_for(struct po_watch *w, uint32_t timeout_ms,
                    bool (*done)(struct po_watch *w, void *arg), void *arg)
{
    struct timespec until = po__time_after(timeout_ms);
    int last = 0, rv = 0;
    while (!done(w, arg)) {
        int code = w->error;
        w->error = 0;
        if (code && !passes(code))
            return fail(w, code);
        last = code ? code : last;
        if (rv == ETIMEDOUT)
            return last && last != PO_ETIMEDOUT ? fail(w, last)
                                                : po__client_fail(PO_ETIMEDOUT, "nothing happened");
        if (!w->asking)
            ask(w);
        if (!w->error && w->asking)
            rv = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    }
    return 0;
}

static bool positioned(struct po_watch *w, void *arg)
{
    (void)arg;
    return w->seen.index != 0;
}

static bool got_event(struct po_watch *w, void *arg)
{
    return take_event(w, arg);
}

static int refuse_in_callback(struct po__channel *ch, const char *instead)
{
    return ch->ops->on_callback_thread(ch)
               ? po__client_fail(PO_EINVAL, "this waits, in a callback that it would wait for; %s",
                                 instead)
               : 0;
}

/* ---- the public calls ---- */

static int settle_position(struct po_watch *w, const struct po_call_opts *call)
{
    struct po_call_opts o;
    int rv = po__read_struct(&o, sizeof o, call, "po_call_opts");
    if (!rv && o.timeout_ms > PO_TIMEOUT_MAX_MS)
        rv = po__client_fail(PO_EINVAL, "timeout_ms is %u; expected 1..%d, or 0 for %d",
                             o.timeout_ms, PO_TIMEOUT_MAX_MS, PO__CALL_TIMEOUT_DEFAULT_MS);
    if (rv || w->seen.index)
        return rv;
    rv = refuse_in_callback(w->channel, "open the watch before, or give it a position");
    if (rv)
        return rv;
    pthread_mutex_lock(&w->lock);
    rv = wait_for(w, o.timeout_ms ? o.timeout_ms : PO__CALL_TIMEOUT_DEFAULT_MS, positioned, NULL);
    pthread_mutex_unlock(&w->lock);
    return rv;
}

int po_watch_open(po_watch **out, po_client *client, const struct po_watch_opts *opts,
                  const struct po_call_opts *call)
{
    if (!out || !client)
        return po__client_fail(PO_EINVAL, "the client, or the place for the watch, is NULL");
    struct po_watch *w = po__calloc(1, sizeof *w);
    if (!w || init_sync(w)) {
        po__free(w);
        return po__client_fail(PO_ENOMEM, "out of memory for a watch");
    }
    w->refs = 1;
    w->channel = client->channel;
    int rv = take_opts(w, opts);
    rv = rv ? rv : settle_position(w, call);
    if (rv) {
        po_watch_close(w);
        return rv;
    }
    *out = w;
    return 0;
}

int po_watch_next(po_watch *w, uint32_t timeout_ms, struct po_watch_event *event)
{
    struct po_watch_event e;
    if (!w)
        return po__client_fail(PO_EINVAL, "the watch is NULL");
    int rv = po__out_check(event, "po_watch_event");
    if (rv)
        return rv;
    if (timeout_ms > PO_TIMEOUT_MAX_MS)
        return po__client_fail(PO_EINVAL, "timeout_ms is %u; expected 0..%d", timeout_ms,
                               PO_TIMEOUT_MAX_MS);
    rv = refuse_in_callback(w->channel, "use po_watch_start there");
    if (rv)
        return rv;
    pthread_mutex_lock(&w->lock);
    rv = w->cb ? po__client_fail(PO_ESTATE, "the watch gives its events to a callback")
               : wait_for(w, timeout_ms, got_event, &e);
    pthread_mutex_unlock(&w->lock);
    if (rv == 0)
        po__out_write(event, &e, sizeof e);
    return rv;
}

int po_watch_start(po_watch *w, po_watch_cb cb, void *arg)
{
    if (!w || !cb)
        return po__client_fail(PO_EINVAL, "the watch or the callback is NULL");
    int rv = 0;
    pthread_mutex_lock(&w->lock);
    w->refs++; /* the callback may close the watch before this returns */
    if (w->cb) {
        rv = po__client_fail(PO_ESTATE, "the watch gives its events to a callback already");
    } else {
        w->cb = cb;
        w->arg = arg;
        drop_answer(w); /* what is left of it comes again, behind `seen` */
        /* Answers run the callback. In it, the answer that it was called for goes on. */
        if (!w->asking && !w->calling)
            ask(w);
        rv = w->error && !w->calling && !w->asking ? fail(w, w->error) : 0;
        if (rv) {
            w->cb = NULL;
            w->error = 0;
        }
    }
    unref(w);
    return rv;
}

void po__watch_hold(po_watch *w, bool again)
{
    pthread_mutex_lock(&w->lock);
    w->cb = NULL;
    if (again)
        w->seen = w->before;
    pthread_mutex_unlock(&w->lock);
}

void po_watch_position(po_watch *w, uint64_t *index, uint32_t *position)
{
    pthread_mutex_lock(&w->lock);
    if (index)
        *index = w->seen.index;
    if (position)
        *position = w->seen.position;
    pthread_mutex_unlock(&w->lock);
}

void po_watch_close(po_watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closed = true;
    while (w->calling && !pthread_equal(w->caller, pthread_self()))
        pthread_cond_wait(&w->changed, &w->lock);
    unref(w);
}
