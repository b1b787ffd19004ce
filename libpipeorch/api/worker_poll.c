/* The conversation with a control plane (node/request.h has its rules).
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
static uint32_t load(struct po__plane *p, struct po__poll *poll)
{
    struct po__list *l;
    uint32_t count = 0;
    size_t bytes = 0;
    while (count < p->worker->batch_max && (l = po__list_first(&p->done))) {
        struct po__outcome_out *o = po__container_of(l, struct po__outcome_out, link);
        if (o->life != p->life) { /* for a cluster that is no more */
            po__worker_outcome_over(o);
            continue;
        }
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
static void unload(struct po__plane *p, struct po__poll *poll)
{
    while (!po__list_empty(&poll->sent)) {
        struct po__list *last = poll->sent.prev;
        po__list_remove(last);
        po__list_push_front(&p->done, last);
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

/* The first task of this life; those of earlier ones come before it. */
static struct po__tree_node *first_held(const struct po__plane *p, uint32_t *count)
{
    struct po__tree_node *n = po__tree_first(&p->tasks);
    *count = (uint32_t)p->tasks.count;
    for (; n && po__container_of(n, struct po_task, by_token)->life != p->life; --*count)
        n = po__tree_next(n);
    return n;
}

static void encode_held(struct po__buf *b, const struct po__plane *p, bool resync)
{
    uint32_t count;
    struct po__tree_node *n = first_held(p, &count);
    po__mpw_array(b, resync ? count : 0);
    for (; resync && n; n = po__tree_next(n))
        po__mpw_uint(b, po__container_of(n, struct po_task, by_token)->token);
}

static int send_poll(struct po__plane *p, struct po__poll *poll, uint32_t wait_ms)
{
    const struct po_worker *w = p->worker;
    struct po__buf request, held = {0}, done = {0};
    uint32_t count = poll == &p->carrying ? load(p, poll) : 0;
    encode_held(&held, p, poll->resync);
    encode_done(&done, poll, count);
    struct po__request req = {.type = PO__REQ_POLL, .timeout_ms = PO__WORKER_CALL_MS};
    req.poll.worker_id = po__str(w->id);
    req.poll.incarnation = w->incarnation;
    req.poll.resync = poll->resync;
    req.poll.ack_seq = p->ack_seq;
    req.poll.wait_ms = wait_ms;
    req.poll.tasks_max = w->batch_max;
    req.poll.held = po__buf_slice(&held);
    req.poll.done = po__buf_slice(&done);
    req.poll.has_load = true;
    po__worker_load(p, &req.poll.load);
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_poll(&request, &req);
    int rv = held.err ? held.err : done.err ? done.err : request.err;
    poll->session = p->session;
    poll->under_way = true; /* the answer may come before the call returns; it waits for our lock */
    if (!rv)
        rv = p->channel->ops->call(p->channel, request.data, request.len,
                                   wait_ms + PO__WORKER_CALL_MS, on_poll, poll);
    if (rv) {
        poll->under_way = false;
        unload(p, poll);
    }
    po__buf_fini(&request);
    po__buf_fini(&held);
    po__buf_fini(&done);
    return rv;
}

static void send_carrying(struct po__plane *p)
{
    p->carrying.resync = p->resync;
    if (p->resync) {
        p->session++;
        p->ack_seq = 0;
        memset(p->seen, 0, sizeof p->seen);
        p->resync = false;
    }
    if (send_poll(p, &p->carrying, 0)) {
        p->resync |= p->carrying.resync;
        p->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
    }
}

/* When the parked poll should leave: nothing else is under way. UINT64_MAX: not now. */
static uint64_t park_at_ms(const struct po__plane *p)
{
    if (p->parked.under_way || p->carrying.under_way || p->resync)
        return UINT64_MAX;
    return p->unanswered_count >= p->worker->slots ? p->polled_ms + PO__WORKER_BUSY_POLL_MS : 0;
}

static bool has_to_say(const struct po__plane *p)
{
    return !p->carrying.under_way && (p->resync || !po__list_empty(&p->done));
}

void po__worker_poll(struct po__plane *p)
{
    if (!po__plane_converses(p))
        return;
    if (p->poll_at_ms) {
        if (po__worker_now_ms() < p->poll_at_ms)
            return;
        p->poll_at_ms = 0;
    }
    if (has_to_say(p)) {
        send_carrying(p);
        return;
    }
    uint64_t at_ms = park_at_ms(p);
    if (at_ms == UINT64_MAX || (at_ms && po__worker_now_ms() < at_ms))
        return;
    if (send_poll(p, &p->parked, p->worker->heartbeat_ms))
        p->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
}

uint64_t po__worker_poll_due_ms(const struct po__plane *p)
{
    if (!po__plane_converses(p))
        return UINT64_MAX;
    uint64_t at_ms = has_to_say(p) ? 0 : park_at_ms(p);
    return at_ms != UINT64_MAX && p->poll_at_ms > at_ms ? p->poll_at_ms : at_ms;
}

void po__worker_wake_if_due(struct po__plane *p)
{
    if (po__worker_poll_due_ms(p) < p->worker->sleeping_until_ms)
        po__worker_wake(p->worker);
}

/* ---- answers ---- */

/* The cluster could not decide: ask again. */
static bool undecided(int code)
{
    return code == PO_EBUSY || code == PO_EUNKNOWN || code == PO_ENOLEADER ||
           code == PO_ENOTLEADER || code == PO_ECLOSED || code == PO_ETIMEDOUT || code == PO_ENOMEM;
}

static void on_verdict(struct po__plane *p, struct po__outcome_out *o, int code)
{
    if (code == PO_ESTALE && o->life == p->life &&
        (o->kind == PO__DONE_EXTEND || o->kind == PO__DONE_CHECKPOINT))
        po__worker_revoke(p, o->token);
    if (code)
        po__info(&p->worker->log, "worker.refused", "%s of task %llu (token %llu) was refused: %s",
                 o->kind == PO__DONE_COMPLETE ? "the result"
                 : o->kind == PO__DONE_FAIL   ? "the failure"
                 : o->kind == PO__DONE_EXTEND ? "more time"
                                              : "the checkpoint",
                 (unsigned long long)o->task_id, (unsigned long long)o->token, po_strerror(code));
    po__worker_outcome_over(o);
}

static void read_verdicts(struct po__plane *p, struct po__poll *poll, struct po__mpr *r)
{
    struct po__list again;
    bool unread = false; /* it does not know checkpoints, and read nothing behind the first */
    uint32_t count = po__mpr_array(r, PO__POLL_TASKS_MAX);
    po__list_init(&again);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        int code = (int)po__mpr_int(r);
        struct po__list *l = r->err ? NULL : po__list_pop(&poll->sent);
        if (!l)
            break;
        struct po__outcome_out *o = po__container_of(l, struct po__outcome_out, link);
        if (undecided(code) || (unread && o->kind != PO__DONE_CHECKPOINT)) {
            po__list_push(&again, l);
        } else {
            unread = unread || (code == PO_EPROTO && o->kind == PO__DONE_CHECKPOINT);
            on_verdict(p, o, code);
        }
    }
    if (!po__list_empty(&again))
        p->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
    for (struct po__list *l; (l = po__list_pop(&again));)
        po__list_push(&poll->sent, l);
    unload(p, poll);
}

static uint8_t *seen_byte(struct po__plane *p, uint64_t seq)
{
    return &p->seen[seq % PO__WORKER_SEQ_WINDOW / 8];
}

static void read_tasks(struct po__plane *p, struct po__mpr *r, bool current)
{
    uint32_t count = po__mpr_array(r, PO__POLL_TASKS_MAX);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        struct po__task_offer t;
        if (po__task_offer_decode(r, &t) || !current)
            continue;
        uint8_t bit = (uint8_t)(1 << t.seq % 8);
        if (t.seq <= p->ack_seq || t.seq - p->ack_seq > PO__WORKER_SEQ_WINDOW ||
            (*seen_byte(p, t.seq) & bit))
            continue; /* repeated; or too far ahead, and repeated later */
        if (po__worker_take(p, &t)) {
            po__error(&p->worker->log, "worker.memory",
                      "out of memory for task %llu; it is asked for again",
                      (unsigned long long)t.task_id);
            continue;
        }
        *seen_byte(p, t.seq) |= bit;
        while (*seen_byte(p, p->ack_seq + 1) & 1 << (p->ack_seq + 1) % 8) {
            *seen_byte(p, p->ack_seq + 1) &= (uint8_t) ~(1 << (p->ack_seq + 1) % 8);
            p->ack_seq++;
        }
    }
}

static void read_revoked(struct po__plane *p, struct po__mpr *r, bool current)
{
    uint32_t count = po__mpr_array(r, PO__POLL_HELD_MAX);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        uint64_t token = po__mpr_uint(r, UINT64_MAX);
        if (!r->err && current)
            po__worker_revoke(p, token);
    }
}

static int on_accepted(struct po__plane *p, struct po__poll *poll, const struct po__response *resp)
{
    struct po__mpr r;
    bool current = poll->session == p->session;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    read_verdicts(p, poll, &r);
    read_tasks(p, &r, current);
    read_revoked(p, &r, current);
    return r.err;
}

/* The poll as a whole was refused, or nobody answered it. */
static void on_refused(struct po__plane *p, struct po__poll *poll, int code,
                       struct po__slice message)
{
    bool current = poll->session == p->session;
    unload(p, poll);
    if (!current)
        return;
    p->resync |= poll->resync;
    switch (code) {
    case PO_ESTATE:
        p->resync = true;
        if (!poll->resync)
            return;
        break; /* again and again would spin */
    case PO_ENOTREGISTERED:
        po__plane_unknown(p);
        return;
    case PO_ESTALE:
        po__plane_fail(p, PO_ESTALE,
                       "worker %s was taken over: another process registered this id with a newer "
                       "incarnation; ids must be unique",
                       p->worker->id);
        return;
    case PO_EFAULT:
        if (p == &p->worker->local) {
            po__plane_fail(p, PO_EFAULT, "the control node of this worker stopped: %.*s",
                           (int)message.len, message.len ? message.data : "");
            return;
        }
        break;
    case PO_ETIMEDOUT:
        if (poll == &p->parked)
            return; /* nothing to do in all that time */
        break;
    default:
        break;
    }
    po__info(&p->worker->log, "worker.poll", "no answer to a poll: %s%s%.*s", po_strerror(code),
             message.len ? ": " : "", (int)message.len, message.len ? message.data : "");
    p->poll_at_ms = po__worker_now_ms() + PO__WORKER_RETRY_MS;
}

static void on_poll(void *arg, int code, const void *data, size_t len)
{
    struct po__poll *poll = arg;
    struct po__plane *p = poll->plane;
    struct po_worker *w = p->worker;
    struct po__response resp = {0};
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    pthread_mutex_lock(&w->lock);
    bool over = p->phase >= PO__PLANE_LEFT;
    poll->under_way = false;
    p->polled_ms = po__worker_now_ms();
    if (over)
        unload(p, poll);
    else if (code == 0)
        code = on_accepted(p, poll, &resp);
    if (code && !over)
        on_refused(p, poll, code, resp.message);
    po__worker_poll(p);
    if (p->phase >= PO__PLANE_DRAIN)
        po__worker_wake(w);
    else
        po__worker_wake_if_due(p);
    pthread_mutex_unlock(&w->lock);
}
