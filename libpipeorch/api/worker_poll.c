/* The conversation with the cluster (node/request.h has its rules).
 *
 * At most two polls are under way. One carries answers of tasks (or the resync) and is answered at
 * once; while it is under way further answers gather, so that a busy worker sends them in batches
 * by itself. The other, sent when nothing else is under way, carries nothing and is parked by the
 * node until there is work. While all slots are taken it is held back for a moment: the next answer
 * will bring a poll anyway, and a task then costs one round trip.
 *
 * Nothing is lost with a message: answers that got no verdict are sent again, tasks are numbered by
 * the node and handed out again until acknowledged, and a node that knows no session with us (a new
 * leader) is told what we hold. */
#include <time.h>

#include "../base/assert.h"
#include "worker_internal.h"

static void on_poll(void *arg, int code, const void *resp, size_t len);

uint64_t po__worker_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- sending ---- */

/* Moves answers to the poll, as many as one message may carry. */
static uint32_t load(struct po_worker *w, struct po__poll *poll)
{
    struct po__list *l;
    uint32_t count = 0;
    size_t bytes = 0;
    while (count < w->batch_max && (l = po__list_first(&w->done))) {
        struct po__outcome_out *o = po__container_of(l, struct po__outcome_out, link);
        if (count && bytes + o->len > PO__WORKER_DONE_MAX_BYTES)
            break;
        po__list_remove(l);
        po__list_push(&poll->sent, l);
        bytes += o->len;
        count++;
    }
    return count;
}

/* Puts the answers of a poll back in front, in their order. */
static void unload(struct po_worker *w, struct po__poll *poll)
{
    while (!po__list_empty(&poll->sent)) {
        struct po__list *last = poll->sent.prev;
        po__list_remove(last);
        po__list_push_front(&w->done, last);
    }
}

static void encode_done(struct po__buf *b, const struct po__poll *poll, uint32_t count)
{
    struct po__list *it;
    po__mpw_array(b, count);
    po__list_each(it, &poll->sent)
    {
        const struct po__outcome_out *o = po__container_of(it, struct po__outcome_out, link);
        struct po__done d = {.task_id = o->task_id,
                             .token = o->token,
                             .kind = o->kind,
                             .payload = po__slice(o->payload, o->len),
                             .flag = o->flag};
        po__done_encode(b, &d);
    }
}

static void encode_held(struct po__buf *b, const struct po_worker *w, bool resync)
{
    po__mpw_array(b, resync ? (uint32_t)w->tasks.count : 0);
    for (struct po__tree_node *n = resync ? po__tree_first(&w->tasks) : NULL; n;
         n = po__tree_next(n))
        po__mpw_uint(b, po__container_of(n, struct po_task, by_token)->token);
}

static int send_poll(struct po_worker *w, struct po__poll *poll, uint32_t wait_ms)
{
    struct po__buf request, held = {0}, done = {0};
    uint32_t count = poll == &w->carrying ? load(w, poll) : 0;
    encode_held(&held, w, poll->resync);
    encode_done(&done, poll, count);
    struct po__request req = {.type = PO__REQ_POLL, .timeout_ms = PO__WORKER_CALL_MS};
    req.poll.worker_id = po__str(w->id);
    req.poll.incarnation = w->incarnation;
    req.poll.resync = poll->resync;
    req.poll.ack_seq = w->ack_seq;
    req.poll.wait_ms = wait_ms;
    req.poll.tasks_max = w->batch_max;
    req.poll.held = po__buf_slice(&held);
    req.poll.done = po__buf_slice(&done);
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_poll(&request, &req);
    int rv = held.err ? held.err : done.err ? done.err : request.err;
    poll->session = w->session;
    poll->under_way = true; /* the answer may come before the call returns; it waits for our lock */
    if (!rv)
        rv = w->channel->ops->call(w->channel, request.data, request.len,
                                   wait_ms + PO__WORKER_CALL_MS, on_poll, poll);
    if (rv) {
        poll->under_way = false;
        unload(w, poll);
    }
    po__buf_fini(&request);
    po__buf_fini(&held);
    po__buf_fini(&done);
    return rv;
}

static void send_carrying(struct po_worker *w)
{
    w->carrying.resync = w->resync;
    if (w->resync) {
        w->session++;
        w->ack_seq = 0;
        memset(w->seen, 0, sizeof w->seen);
        w->resync = false;
    }
    if (send_poll(w, &w->carrying, 0)) {
        w->resync |= w->carrying.resync;
        w->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
    }
}

/* When the parked poll should leave: nothing else is under way. UINT64_MAX: not now. */
static uint64_t park_at_ms(const struct po_worker *w)
{
    if (w->parked.under_way || w->carrying.under_way || w->resync)
        return UINT64_MAX;
    return w->unanswered_count >= w->slots ? w->polled_ms + PO__WORKER_BUSY_POLL_MS : 0;
}

static bool converses(const struct po_worker *w)
{
    return w->channel && !w->fatal &&
           (w->phase == PO__WORKER_SERVE || w->phase == PO__WORKER_DRAIN);
}

static bool has_to_say(const struct po_worker *w)
{
    return !w->carrying.under_way && (w->resync || !po__list_empty(&w->done));
}

void po__worker_poll(struct po_worker *w)
{
    if (!converses(w))
        return;
    if (w->poll_at_ms) {
        if (po__worker_now_ms() < w->poll_at_ms)
            return;
        w->poll_at_ms = 0;
    }
    if (has_to_say(w)) {
        send_carrying(w);
        return;
    }
    uint64_t at_ms = park_at_ms(w);
    if (at_ms == UINT64_MAX || (at_ms && po__worker_now_ms() < at_ms))
        return;
    if (send_poll(w, &w->parked, w->heartbeat_ms))
        w->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
}

uint64_t po__worker_poll_due_ms(const struct po_worker *w)
{
    if (!converses(w))
        return UINT64_MAX;
    uint64_t at_ms = has_to_say(w) ? 0 : park_at_ms(w);
    return at_ms != UINT64_MAX && w->poll_at_ms > at_ms ? w->poll_at_ms : at_ms;
}

void po__worker_wake_if_due(struct po_worker *w)
{
    if (po__worker_poll_due_ms(w) < w->sleeping_until_ms)
        po__worker_wake(w);
}

/* ---- answers ---- */

/* The cluster could not decide: ask again. */
static bool undecided(int code)
{
    return code == PO_EBUSY || code == PO_EUNKNOWN || code == PO_ENOLEADER ||
           code == PO_ENOTLEADER || code == PO_ECLOSED || code == PO_ETIMEDOUT || code == PO_ENOMEM;
}

static void on_verdict(struct po_worker *w, struct po__outcome_out *o, int code)
{
    if (code == PO_ESTALE && (o->kind == PO__DONE_EXTEND || o->kind == PO__DONE_CHECKPOINT))
        po__worker_revoke(w, o->token);
    if (code)
        po__info(&w->log, "worker.refused", "%s of task %llu (token %llu) was refused: %s",
                 o->kind == PO__DONE_COMPLETE ? "the result"
                 : o->kind == PO__DONE_FAIL   ? "the failure"
                 : o->kind == PO__DONE_EXTEND ? "more time"
                                              : "the checkpoint",
                 (unsigned long long)o->task_id, (unsigned long long)o->token, po_strerror(code));
    po__worker_outcome_over(w, o);
}

static void read_verdicts(struct po_worker *w, struct po__poll *poll, struct po__mpr *r)
{
    struct po__list again;
    uint32_t count = po__mpr_array(r, PO__POLL_TASKS_MAX);
    po__list_init(&again);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        int code = (int)po__mpr_int(r);
        struct po__list *l = r->err ? NULL : po__list_pop(&poll->sent);
        if (!l)
            break;
        if (undecided(code))
            po__list_push(&again, l);
        else
            on_verdict(w, po__container_of(l, struct po__outcome_out, link), code);
    }
    if (!po__list_empty(&again))
        w->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
    for (struct po__list *l; (l = po__list_pop(&again));)
        po__list_push(&poll->sent, l);
    unload(w, poll);
}

static uint8_t *seen_byte(struct po_worker *w, uint64_t seq)
{
    return &w->seen[seq % PO__WORKER_SEQ_WINDOW / 8];
}

static void read_tasks(struct po_worker *w, struct po__mpr *r, bool current)
{
    uint32_t count = po__mpr_array(r, PO__POLL_TASKS_MAX);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        struct po__task_offer t;
        if (po__task_offer_decode(r, &t) || !current)
            continue;
        uint8_t bit = (uint8_t)(1 << t.seq % 8);
        if (t.seq <= w->ack_seq || t.seq - w->ack_seq > PO__WORKER_SEQ_WINDOW ||
            (*seen_byte(w, t.seq) & bit))
            continue; /* repeated; or too far ahead, and repeated later */
        if (po__worker_take(w, &t)) {
            po__error(&w->log, "worker.memory",
                      "out of memory for task %llu; it is asked for again",
                      (unsigned long long)t.task_id);
            continue;
        }
        *seen_byte(w, t.seq) |= bit;
        while (*seen_byte(w, w->ack_seq + 1) & 1 << (w->ack_seq + 1) % 8) {
            *seen_byte(w, w->ack_seq + 1) &= (uint8_t) ~(1 << (w->ack_seq + 1) % 8);
            w->ack_seq++;
        }
    }
}

static void read_revoked(struct po_worker *w, struct po__mpr *r, bool current)
{
    uint32_t count = po__mpr_array(r, PO__POLL_HELD_MAX);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        uint64_t token = po__mpr_uint(r, UINT64_MAX);
        if (!r->err && current)
            po__worker_revoke(w, token);
    }
}

static int on_accepted(struct po_worker *w, struct po__poll *poll, const struct po__response *resp)
{
    struct po__mpr r;
    bool current = poll->session == w->session;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    read_verdicts(w, poll, &r);
    read_tasks(w, &r, current);
    read_revoked(w, &r, current);
    return r.err;
}

/* The poll as a whole was refused, or nobody answered it. */
static void on_refused(struct po_worker *w, struct po__poll *poll, int code,
                       struct po__slice message)
{
    bool current = poll->session == w->session;
    unload(w, poll);
    if (!current)
        return;
    w->resync |= poll->resync;
    switch (code) {
    case PO_ESTATE:
        w->resync = true;
        if (!poll->resync)
            return;
        break; /* again and again would spin */
    case PO_ENOTREGISTERED:
        po__worker_unknown(w);
        return;
    case PO_ESTALE:
        w->fatal = PO_ESTALE;
        po__worker_wake(w);
        return;
    case PO_ETIMEDOUT:
        if (poll == &w->parked)
            return; /* nothing to do in all that time */
        break;
    default:
        break;
    }
    po__info(&w->log, "worker.poll", "no answer to a poll: %s%s%.*s", po_strerror(code),
             message.len ? ": " : "", (int)message.len, message.len ? message.data : "");
    w->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
}

static void on_poll(void *arg, int code, const void *data, size_t len)
{
    struct po__poll *poll = arg;
    struct po_worker *w = poll->worker;
    struct po__response resp = {0};
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    pthread_mutex_lock(&w->lock);
    poll->under_way = false;
    w->polled_ms = po__worker_now_ms();
    if (w->phase == PO__WORKER_STOPPED)
        unload(w, poll);
    else if (code == 0)
        code = on_accepted(w, poll, &resp);
    if (code && w->phase != PO__WORKER_STOPPED)
        on_refused(w, poll, code, resp.message);
    po__worker_poll(w);
    if (w->phase == PO__WORKER_DRAIN)
        po__worker_wake(w);
    else
        po__worker_wake_if_due(w);
    pthread_mutex_unlock(&w->lock);
}
