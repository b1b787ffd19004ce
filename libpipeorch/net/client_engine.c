/* The engine of a network client: calls on their way.
 *
 * Every call is kept with its bytes until it is answered or its deadline passes:
 *
 *     call() ──▶ READY ──▶ SENT ──▶ answered
 *                  ▲  ▲      │
 *                  │  └──────┤ redirected, connection lost, no answer in time
 *                  └─BACKOFF◀┘ nobody leads, busy, or redirected too often
 *
 * All calls go to `current`, the target that is believed to lead: a redirect moves it, an answer
 * keeps it, a lost connection or a silence moves it on. So what one call learns serves all, and the
 * leader is remembered between calls. All given addresses are kept connected, so that moving on
 * costs nothing.
 *
 * A call whose request was handed to a connection and got no answer may have been executed:
 * `maybe`. It is sent again if that is safe (po__request_repeatable: its bytes carry its
 * idempotency key); otherwise, or if its deadline passes, the outcome is unknown and said so. A
 * refusal that says that nothing was done (not the leader, busy) leaves `maybe` as it was.
 *
 * What is given to a connection leaves at the end of the turn, in one write with all else. If the
 * connection ends, a request whose last byte the network has not taken is known not to have been
 * executed: a node acts on whole requests only.
 *
 * Everything here runs on the channel's thread, callbacks included, hence one at a time. Only those
 * of the calls that closing interrupts run on the thread that closes, after the other has ended. */
#include <pipeorch/client.h>
#include <time.h>

#include "../base/alloc.h"
#include "client_internal.h"

#define TRY_MS            5000 /* without an answer for so long, the request is sent elsewhere */
#define TRY_GRACE_MS      3000 /* the same for requests that a node parks, beyond the time it may */
#define TRY_MEMBER_MS     15000 /* changes of the members may take long, and may be repeated */
#define BACKOFF_MIN_MS    10    /* doubles with each try */
#define BACKOFF_MAX_MS    500
#define REDIRECTS_FREE    3    /* redirects in a row that are followed at once */
#define PATIENCE_MS       1000 /* for the first connection to an address that a redirect named */
#define REFUSAL_MAX_BYTES 1024 /* a refusal is kept for the caller if it is not longer */
#define ROUNDS_MAX        16   /* of one turn, before the loop looks at the sockets again */

static _Thread_local struct po__net_channel *calling_back;

uint64_t po__net_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct po__net_call *call_of(struct po__list *l)
{
    return po__container_of(l, struct po__net_call, link);
}

/* ---- time ---- */

static int due_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__net_call *x = po__container_of(a, struct po__net_call, due);
    const struct po__net_call *y = po__container_of(b, struct po__net_call, due);
    if (x->due_ms != y->due_ms)
        return x->due_ms < y->due_ms ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static struct po__net_call *first_due(struct po__net_channel *ch)
{
    struct po__tree_node *n = po__tree_first(&ch->due);
    return n ? po__container_of(n, struct po__net_call, due) : NULL;
}

/* The call is looked at again at `at_ms`, or at its deadline. */
static void set_due(struct po__net_channel *ch, struct po__net_call *c, uint64_t at_ms)
{
    if (po__tree_linked(&c->due))
        po__tree_remove(&ch->due, &c->due);
    c->due_ms = at_ms < c->deadline_ms ? at_ms : c->deadline_ms;
    PO_INVARIANT(po__tree_insert(&ch->due, &c->due, due_cmp) == NULL);
}

uint64_t po__net_random(struct po__net_channel *ch)
{
    ch->random ^= ch->random << 13;
    ch->random ^= ch->random >> 7;
    ch->random ^= ch->random << 17;
    return ch->random;
}

static uint64_t backoff_ms(struct po__net_channel *ch, unsigned tries)
{
    uint64_t ms = BACKOFF_MIN_MS;
    for (unsigned i = 1; i < tries && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return ms / 2 + po__net_random(ch) % (ms / 2 + 1);
}

/* ---- calls ---- */

static struct po__net_call *find_call(struct po__net_channel *ch, uint32_t id)
{
    uint32_t index = id & 0xffff;
    if (index >= ch->calls_max)
        return NULL;
    struct po__net_call *c = ch->slots[index].call;
    return c && c->id == id ? c : NULL;
}

static void leave_target(struct po__net_call *c)
{
    if (c->state == PO__CALL_SENT)
        c->target->calls_count--;
    c->target = NULL;
    po__list_remove(&c->link);
}

/* Ends the bookkeeping; the call belongs to who called this. */
static void detach(struct po__net_channel *ch, struct po__net_call *c)
{
    leave_target(c);
    po__tree_remove(&ch->due, &c->due);
    ch->slots[c->id & 0xffff].call = NULL;
    ch->free_slots[ch->free_count++] = c->id & 0xffff;
    pthread_mutex_lock(&ch->lock);
    ch->calls_count--;
    pthread_mutex_unlock(&ch->lock);
}

/* It may have been executed and must not be executed twice: the next round finishes it, as if
 * its deadline had passed. */
static bool given_up(struct po__net_channel *ch, struct po__net_call *c)
{
    if (!c->maybe || c->repeatable)
        return false;
    leave_target(c);
    c->state = PO__CALL_BACKOFF;
    c->deadline_ms = 0;
    set_due(ch, c, 0);
    ch->changed = true;
    return true;
}

static void make_ready(struct po__net_channel *ch, struct po__net_call *c)
{
    if (given_up(ch, c))
        return;
    leave_target(c);
    c->state = PO__CALL_READY;
    po__list_push(&ch->ready, &c->link);
    set_due(ch, c, c->deadline_ms);
    ch->changed = true;
}

static void back_off(struct po__net_channel *ch, struct po__net_call *c, uint64_t now)
{
    if (given_up(ch, c))
        return;
    leave_target(c);
    c->state = PO__CALL_BACKOFF;
    set_due(ch, c, now + backoff_ms(ch, ++c->tries));
}

/* Gives what is ready to the connection, as long as there is room. */
static void pump(struct po__net_channel *ch, uint64_t now)
{
    struct po__list *l;
    while ((l = po__list_first(&ch->ready))) {
        struct po__net_call *c = call_of(l);
        struct po__target *t = po__target_for_call(ch, now);
        uint8_t id[PO__SP_ID_BYTES];
        if (!t)
            return;
        po__sp_put_id(id, c->id | PO__SP_REQUEST_ID_BIT);
        int rv =
            po__sp_conn_queue(&t->link->sp, po__slice(id, sizeof id), po__slice(c->bytes, c->len));
        if (rv == PO_EBUSY) { /* there is room again when something has left */
            po__sp_conn_flush(&t->link->sp);
            ch->changed |= t->up && po__sp_conn_waiting_bytes(&t->link->sp) == 0;
            return;
        }
        if (rv) {
            back_off(ch, c, now);
            continue;
        }
        po__list_remove(&c->link);
        c->state = PO__CALL_SENT;
        c->connected = true;
        c->target = t;
        c->sent_to = t->link->sp.queued_bytes;
        t->calls_count++;
        po__list_push(&t->calls, &c->link);
        set_due(ch, c, now + c->try_ms);
    }
}

/* Runs the callback and frees the call. */
static void finish(struct po__net_channel *ch, struct po__net_call *c, int code, const void *resp,
                   size_t len)
{
    struct po__net_channel *outer = calling_back;
    calling_back = ch;
    c->cb(c->arg, code, resp, len);
    calling_back = outer;
    ch->changed = true; /* it may have handed in another call */
    po__free(c->refusal);
    po__free(c);
}

/* What to tell the caller of a call that got no answer in time (or whose channel closes). */
static void finish_unanswered(struct po__net_channel *ch, struct po__net_call *c, bool closing)
{
    if (c->maybe && !c->read_only)
        finish(ch, c, PO_EUNKNOWN, NULL, 0);
    else if (closing)
        finish(ch, c, PO_ECLOSED, NULL, 0);
    else if (c->refusal)
        finish(ch, c, 0, c->refusal, c->refusal_len);
    else
        finish(ch, c, c->connected ? PO_ETIMEDOUT : PO_EUNREACHABLE, NULL, 0);
}

/* ---- answers ---- */

static void redirected(struct po__net_channel *ch, struct po__net_call *c, struct po__slice leader,
                       uint64_t now)
{
    const struct po__target *from = c->target;
    int i = leader.len ? po__target_index(ch, leader) : -1;
    struct po__target *to = i >= 0 ? ch->targets[i] : NULL;
    /* A leader that we lost the connection to is the one that just died: the others do not know
     * yet. */
    bool reachable = to && to != from && (to->up || !to->was_up);
    if (!reachable) {
        po__target_move_on(ch, from);
        back_off(ch, c, now);
        return;
    }
    if (ch->current != (unsigned)i) {
        po__debug(&ch->log, "client.leader", "%s says that %s leads", from->address, to->address);
        ch->current = (unsigned)i;
        ch->patience_until_ms = to->up ? 0 : now + PATIENCE_MS;
    }
    if (c->tries++ < REDIRECTS_FREE)
        make_ready(ch, c);
    else
        back_off(ch, c, now);
}

/* Whether the answer is one for the caller. If not, the call was put on its way again. */
static bool is_final(struct po__net_channel *ch, struct po__net_call *c,
                     const struct po__response *resp, uint64_t now)
{
    struct po__target *from = c->target;
    switch (resp->code) {
    case PO_ENOTLEADER:
        redirected(ch, c, resp->leader_address, now);
        return false;
    case PO_EUNKNOWN:
        c->maybe = true;
        po__target_move_on(ch, from);
        break;
    case PO_ENOLEADER:
    case PO_ECLOSED:
    case PO_EFAULT:
        po__target_move_on(ch, from);
        break;
    case PO_EBUSY:
        if (c->busy_is_answer)
            return true;
        break;
    case PO_ETIMEDOUT:
        if (c->parks)
            return true;
        break;
    default:
        return true;
    }
    back_off(ch, c, now);
    return false;
}

static void keep_refusal(struct po__net_call *c, const void *data, size_t len)
{
    po__free(c->refusal);
    c->refusal = len <= REFUSAL_MAX_BYTES ? po__memdup(data, len) : NULL;
    c->refusal_len = c->refusal ? len : 0;
}

void po__net_on_reply(struct po__target *t, uint32_t id, struct po__slice answer)
{
    struct po__net_channel *ch = t->channel;
    struct po__response resp;
    uint64_t now = po__net_now_ms();
    int rv = po__response_decode(answer.data, answer.len, &resp);
    struct po__net_call *c = find_call(ch, id);
    if (c && c->state == PO__CALL_SENT && c->target == t) {
        if (rv) {
            po__warn(&ch->log, "client.answer", "%s sent a malformed answer of %zu bytes",
                     t->address, answer.len);
            c->maybe = true;
            po__target_move_on(ch, t);
            back_off(ch, c, now);
            c = NULL;
        } else if (!is_final(ch, c, &resp, now)) {
            keep_refusal(c, answer.data, answer.len);
            c = NULL;
        }
    } else if (c && (rv || resp.code != 0)) {
        /* An answer to an earlier try counts as well, unless it would only be a reason to try
         * again. */
        c = NULL;
    }
    if (c) {
        detach(ch, c);
        finish(ch, c, 0, answer.data, answer.len);
    }
    ch->changed = true; /* there may be room again */
}

void po__net_on_up(struct po__target *t)
{
    t->channel->changed = true;
}

void po__net_on_down(struct po__target *t, uint64_t taken_bytes)
{
    struct po__net_channel *ch = t->channel;
    struct po__list *l;
    while ((l = po__list_first(&t->calls))) {
        struct po__net_call *c = call_of(l);
        c->maybe = c->maybe || c->sent_to <= taken_bytes;
        make_ready(ch, c);
    }
    po__target_move_on(ch, t);
}

/* ---- the turn: what is due ---- */

/* Something of this call is due. True: its deadline passed, and it was detached. */
static bool call_due(struct po__net_channel *ch, struct po__net_call *c, uint64_t now)
{
    if (c->state ==
        PO__CALL_SENT) { /* no answer in time: earlier refusals explain nothing any more */
        c->maybe = true;
        po__free(c->refusal);
        c->refusal = NULL;
    }
    if (now >= c->deadline_ms) {
        detach(ch, c);
        return true;
    }
    if (c->state == PO__CALL_SENT) {
        po__debug(&ch->log, "client.silence", "no answer from %s in %u ms", c->target->address,
                  c->try_ms);
        po__target_move_on(ch, c->target);
    }
    make_ready(ch, c);
    return false;
}

static void expire(struct po__net_channel *ch, uint64_t now)
{
    struct po__net_call *c;
    struct po__list over, *l;
    po__list_init(&over);
    while ((c = first_due(ch)) && c->due_ms <= now)
        if (call_due(ch, c, now))
            po__list_push(&over, &c->link);
    while ((l = po__list_pop(&over)))
        finish_unanswered(ch, call_of(l), false);
}

/* A call that was handed in: it gets the id under which its answer is found. */
static void begin_call(struct po__net_channel *ch, struct po__net_call *c)
{
    PO_INVARIANT(ch->free_count > 0); /* calls_max bounds both */
    uint32_t index = ch->free_slots[--ch->free_count];
    struct po__call_slot *slot = &ch->slots[index];
    slot->generation = (slot->generation + 1) & 0x7fff;
    slot->call = c;
    c->id = (uint32_t)slot->generation << 16 | index;
    po__tree_node_init(&c->due);
    make_ready(ch, c);
}

static void take_inbox(struct po__net_channel *ch)
{
    struct po__list taken, *l;
    po__list_init(&taken);
    pthread_mutex_lock(&ch->lock);
    while ((l = po__list_pop(&ch->inbox)))
        po__list_push(&taken, l);
    pthread_mutex_unlock(&ch->lock);
    while ((l = po__list_pop(&taken)))
        begin_call(ch, call_of(l));
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* the turn that follows does the work */
}

static void arm(struct po__net_channel *ch)
{
    uint64_t at_ms = UINT64_MAX, now = po__net_now_ms();
    struct po__net_call *c = first_due(ch);
    if (c)
        at_ms = c->due_ms;
    if (!po__list_empty(&ch->ready) && ch->patience_until_ms && ch->patience_until_ms < at_ms)
        at_ms = ch->patience_until_ms;
    for (unsigned i = 0; i < ch->targets_count; i++) {
        const struct po__target *t = ch->targets[i];
        if (!t->up && !t->resolving && t->due_ms < at_ms)
            at_ms = t->due_ms;
    }
    if (ch->changed)
        at_ms = now; /* the rounds are used up */
    uv_update_time(&ch->loop);
    if (at_ms == UINT64_MAX)
        uv_timer_stop(&ch->timer);
    else
        uv_timer_start(&ch->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

void po__net_turn(struct po__net_channel *ch)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        uint64_t now = po__net_now_ms();
        ch->changed = false;
        take_inbox(ch);
        expire(ch, now);
        if (ch->patience_until_ms && now >= ch->patience_until_ms)
            ch->patience_until_ms = 0;
        pump(ch, now);
        for (unsigned i = 0; i < ch->targets_count; i++)
            po__target_tend(ch->targets[i], now);
        if (!ch->changed)
            break;
    }
    arm(ch);
}

/* ---- beginning and end ---- */

/* How long this request may go unanswered before it is sent elsewhere, and what its silence means.
 */
int po__net_call_classify(struct po__net_call *c)
{
    struct po__request req;
    int rv = po__request_decode(c->bytes, c->len, &req);
    if (rv)
        return rv;
    bool member = req.type == PO__REQ_MEMBER;
    c->read_only = req.type != PO__REQ_COMMAND && req.type != PO__REQ_BATCH && !member;
    c->repeatable = po__request_repeatable(&req);
    c->parks =
        req.type == PO__REQ_WAIT || req.type == PO__REQ_POLL || req.type == PO__REQ_WATCH || member;
    c->busy_is_answer = req.type == PO__REQ_QUERY && req.query.what == PO_QUERY_ROUTE;
    c->try_ms = TRY_MS;
    if (c->parks) {
        uint32_t parked_ms = req.type == PO__REQ_POLL    ? req.poll.wait_ms
                             : req.type == PO__REQ_WATCH ? req.watch.wait_ms
                                                         : req.timeout_ms;
        c->try_ms = (parked_ms < PO_TIMEOUT_MAX_MS ? parked_ms : PO_TIMEOUT_MAX_MS) + TRY_GRACE_MS;
        if (member && c->try_ms > TRY_MEMBER_MS)
            c->try_ms = TRY_MEMBER_MS;
    }
    return 0;
}

void po__net_abandon(struct po__net_channel *ch)
{
    struct po__net_call *c;
    take_inbox(ch);
    while ((c = first_due(ch))) {
        detach(ch, c);
        finish_unanswered(ch, c, true);
    }
}

bool po__net_calling_back(const struct po__net_channel *ch)
{
    return calling_back == ch;
}
