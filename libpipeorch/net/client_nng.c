/* The engine of a network client.
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
 * `maybe`. Sending it again is safe (its bytes carry its idempotency key), but if its deadline
 * passes the outcome is unknown and said so. A refusal that says that nothing was done (not the
 * leader, busy) leaves `maybe` as it was.
 *
 * Threads: nng's threads bring answers, the channel's own thread watches the deadlines; both run
 * callbacks, one at a time
 * (`callbacks` is held meanwhile), and never with `lock` held. */
#include <pipeorch/client.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "../base/alloc.h"
#include "address.h"
#include "client_internal.h"
#include "peer.h"

#define CALLS_MAX 65536 /* a call's id has 16 bits of slot and 15 of generation */
#define TRY_MS    5000  /* without an answer for so long, the request is sent to another node */
#define TRY_GRACE_MS                                                                               \
    3000 /* the same for requests that a node parks, beyond the time for which it may */
#define BACKOFF_MIN_MS 10 /* doubles with each try */
#define BACKOFF_MAX_MS 500
#define REDIRECTS_FREE 3 /* redirects in a row that are followed at once */
#define PATIENCE_MS                                                                                \
    1000 /* wait so long for the first connection to an address that a redirect named */
#define REFUSAL_MAX_BYTES 1024 /* a refusal is kept for the caller if it is not longer */

enum { CALL_READY, CALL_SENT, CALL_BACKOFF };

struct call {
    struct po__list link;     /* READY: channel->ready; SENT: lane->calls; finished: a local list */
    struct po__tree_node due; /* in channel->due, by due_ms and id */
    uint64_t due_ms;
    uint64_t deadline_ms;
    uint32_t id;
    int state;
    struct po__lane *lane; /* SENT */
    bool read_only;
    bool parks;          /* the node may take its time: WAIT and POLL */
    bool busy_is_answer; /* PO_EBUSY is about what was asked (a route), not about the node */
    bool maybe;          /* may have been executed */
    bool connected;      /* some connection took it */
    uint32_t try_ms;
    unsigned tries;
    uint8_t *refusal; /* the last one */
    size_t refusal_len;
    po__call_cb cb;
    void *arg;
    size_t len;
    uint8_t bytes[];
};

struct slot {
    struct call *call;
    uint16_t generation;
};

struct po__nng_channel {
    struct po__channel base;
    struct po__logger log;
    char name[PO_NAME_MAX_BYTES + 1];
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread has something earlier to do */
    pthread_mutex_t callbacks;
    pthread_t thread;
    bool closing;
    struct po__target *targets[PO__TARGETS_MAX];
    unsigned targets_count, given_count, current;
    uint64_t patience_until_ms; /* `current` may still be connecting; 0: no patience */
    unsigned lanes_max;         /* of one target */
    struct slot *slots;
    uint32_t *free_slots; /* a stack */
    uint32_t slots_count, free_count;
    struct po__list ready;
    struct po__tree due;
    uint64_t random;
};

static _Thread_local struct po__nng_channel *calling_back;

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct call *call_of(struct po__list *l)
{
    return po__container_of(l, struct call, link);
}

/* ---- time ---- */

static int due_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct call *x = po__container_of(a, struct call, due);
    const struct call *y = po__container_of(b, struct call, due);
    if (x->due_ms != y->due_ms)
        return x->due_ms < y->due_ms ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static struct call *first_due(struct po__nng_channel *ch)
{
    struct po__tree_node *n = po__tree_first(&ch->due);
    return n ? po__container_of(n, struct call, due) : NULL;
}

/* The call is looked at again at `at_ms`, or at its deadline. */
static void set_due(struct po__nng_channel *ch, struct call *c, uint64_t at_ms)
{
    if (po__tree_linked(&c->due))
        po__tree_remove(&ch->due, &c->due);
    c->due_ms = at_ms < c->deadline_ms ? at_ms : c->deadline_ms;
    PO_INVARIANT(po__tree_insert(&ch->due, &c->due, due_cmp) == NULL);
    if (first_due(ch) == c)
        pthread_cond_signal(&ch->wake);
}

static uint64_t backoff_ms(struct po__nng_channel *ch, unsigned tries)
{
    uint64_t ms = BACKOFF_MIN_MS;
    for (unsigned i = 1; i < tries && ms < BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    ch->random ^= ch->random << 13;
    ch->random ^= ch->random >> 7;
    ch->random ^= ch->random << 17;
    return ms / 2 + ch->random % (ms / 2 + 1);
}

/* ---- targets ---- */

static bool target_up(const struct po__target *t)
{
    for (unsigned i = 0; i < t->lanes_count; i++)
        if (t->lanes[i]->up)
            return true;
    return false;
}

static int add_lane(struct po__nng_channel *ch, struct po__target *t)
{
    int rv = po__lane_open(&t->lanes[t->lanes_count], ch, t);
    if (rv)
        po__warn(&ch->log, "client.connect", "cannot open a connection to %s: %s", t->address,
                 po_strerror(rv));
    else
        t->lanes_count++;
    return rv;
}

/* Index of the target with this address, added if it is new; -1: no room or no memory. */
static int target_index(struct po__nng_channel *ch, struct po__slice address)
{
    for (unsigned i = 0; i < ch->targets_count; i++)
        if (po__slice_eq(address, po__str(ch->targets[i]->address)))
            return (int)i;
    if (ch->targets_count == PO__TARGETS_MAX || address.len > PO_ADDRESS_MAX_BYTES)
        return -1;
    struct po__target *t = po__calloc(1, sizeof *t);
    if (!t)
        return -1;
    memcpy(t->address, address.data, address.len);
    if (add_lane(ch, t)) {
        po__free(t);
        return -1;
    }
    ch->targets[ch->targets_count] = t;
    return (int)ch->targets_count++;
}

/* `from` does not serve: move on to the next target, one that is connected if there is one. */
static void move_on(struct po__nng_channel *ch, const struct po__target *from)
{
    if (ch->targets[ch->current] != from)
        return; /* another call has noticed before */
    ch->patience_until_ms = 0;
    for (unsigned step = 1; step <= ch->targets_count; step++) {
        unsigned i = (ch->current + step) % ch->targets_count;
        if (target_up(ch->targets[i])) {
            ch->current = i;
            return;
        }
    }
    ch->current = (ch->current + 1) % ch->targets_count;
}

/* A connection of the current target with room for a call; NULL: not now, pump() is called again
 * when that changes. */
static struct po__lane *pick_lane(struct po__nng_channel *ch, uint64_t now)
{
    struct po__target *t = ch->targets[ch->current];
    if (!target_up(t)) {
        if (now < ch->patience_until_ms)
            return NULL;
        move_on(ch, t);
        t = ch->targets[ch->current];
    }
    bool connecting = false;
    for (unsigned i = 0; i < t->lanes_count; i++) {
        struct po__lane *lane = t->lanes[i];
        if (lane->up && lane->calls_count < PO__LANE_CALLS_MAX)
            return lane;
        connecting |= !lane->up;
    }
    if (!connecting && t->lanes_count < ch->lanes_max)
        add_lane(ch, t);
    return NULL;
}

/* ---- calls ---- */

static struct call *find_call(struct po__nng_channel *ch, uint32_t id)
{
    uint32_t index = id & 0xffff;
    if (index >= ch->slots_count)
        return NULL;
    struct call *c = ch->slots[index].call;
    return c && c->id == id ? c : NULL;
}

static void leave_lane(struct call *c)
{
    if (c->state == CALL_SENT)
        c->lane->calls_count--;
    c->lane = NULL;
    po__list_remove(&c->link);
}

/* Ends the bookkeeping; the call belongs to who called this. */
static void detach(struct po__nng_channel *ch, struct call *c)
{
    leave_lane(c);
    po__tree_remove(&ch->due, &c->due);
    ch->slots[c->id & 0xffff].call = NULL;
    ch->free_slots[ch->free_count++] = c->id & 0xffff;
}

static void make_ready(struct po__nng_channel *ch, struct call *c)
{
    leave_lane(c);
    c->state = CALL_READY;
    po__list_push(&ch->ready, &c->link);
    set_due(ch, c, c->deadline_ms);
}

static void back_off(struct po__nng_channel *ch, struct call *c, uint64_t now)
{
    leave_lane(c);
    c->state = CALL_BACKOFF;
    set_due(ch, c, now + backoff_ms(ch, ++c->tries));
}

/* Sends what is ready, as long as there is room. */
static void pump(struct po__nng_channel *ch, uint64_t now)
{
    struct po__list *l;
    while ((l = po__list_first(&ch->ready)) && !ch->closing) {
        struct call *c = call_of(l);
        struct po__lane *lane = pick_lane(ch, now);
        if (!lane)
            return;
        if (po__lane_send(lane, c->id, c->bytes, c->len)) {
            back_off(ch, c, now);
            continue;
        }
        po__list_remove(&c->link);
        c->state = CALL_SENT;
        c->connected = true;
        c->lane = lane;
        lane->calls_count++;
        po__list_push(&lane->calls, &c->link);
        set_due(ch, c, now + c->try_ms);
    }
}

/* Runs the callback and frees the call. Without the lock. */
static void finish(struct po__nng_channel *ch, struct call *c, int code, const void *resp,
                   size_t len)
{
    struct po__nng_channel *outer = calling_back;
    pthread_mutex_lock(&ch->callbacks);
    calling_back = ch;
    c->cb(c->arg, code, resp, len);
    calling_back = outer;
    pthread_mutex_unlock(&ch->callbacks);
    po__free(c->refusal);
    po__free(c);
}

/* What to tell the caller of a call that got no answer in time (or whose channel closes). */
static void finish_unanswered(struct po__nng_channel *ch, struct call *c, bool closing)
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

static void redirected(struct po__nng_channel *ch, struct call *c, struct po__slice leader,
                       uint64_t now)
{
    const struct po__target *from = c->lane->target;
    int i = leader.len ? target_index(ch, leader) : -1;
    struct po__target *to = i >= 0 ? ch->targets[i] : NULL;
    /* A leader that we lost the connection to is the one that just died: the others do not know
     * yet. */
    bool reachable = to && to != from && (target_up(to) || !to->was_up);
    if (!reachable) {
        move_on(ch, from);
        back_off(ch, c, now);
        return;
    }
    if (ch->current != (unsigned)i) {
        po__debug(&ch->log, "client.leader", "%s says that %s leads", from->address, to->address);
        ch->current = (unsigned)i;
        ch->patience_until_ms = target_up(to) ? 0 : now + PATIENCE_MS;
        pthread_cond_signal(&ch->wake);
    }
    if (c->tries++ < REDIRECTS_FREE)
        make_ready(ch, c);
    else
        back_off(ch, c, now);
}

/* Whether the answer is one for the caller. If not, the call was put on its way again. */
static bool is_final(struct po__nng_channel *ch, struct call *c, const struct po__response *resp,
                     uint64_t now)
{
    struct po__target *from = c->lane->target;
    switch (resp->code) {
    case PO_ENOTLEADER:
        redirected(ch, c, resp->leader_address, now);
        return false;
    case PO_EUNKNOWN: /* it may have been executed; the same bytes are safe to repeat */
        c->maybe = true;
        move_on(ch, from);
        break;
    case PO_ENOLEADER:
    case PO_ECLOSED:
    case PO_EFAULT:
        move_on(ch, from);
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

static void keep_refusal(struct call *c, const void *data, size_t len)
{
    po__free(c->refusal);
    c->refusal = len <= REFUSAL_MAX_BYTES ? po__memdup(data, len) : NULL;
    c->refusal_len = c->refusal ? len : 0;
}

void po__channel_on_reply(struct po__lane *lane, uint32_t id, const void *data, size_t len)
{
    struct po__nng_channel *ch = lane->channel;
    struct po__response resp;
    uint64_t now = now_ms();
    int rv = po__response_decode(data, len, &resp);
    pthread_mutex_lock(&ch->lock);
    struct call *c = find_call(ch, id);
    /* An answer to an earlier try counts as well, unless it would only be a reason to try again. */
    if (c && c->state == CALL_SENT && c->lane == lane) {
        if (rv) {
            po__warn(&ch->log, "client.answer", "%s sent a malformed answer of %zu bytes",
                     lane->target->address, len);
            c->maybe = true;
            move_on(ch, lane->target);
            back_off(ch, c, now);
            c = NULL;
        } else if (!is_final(ch, c, &resp, now)) {
            keep_refusal(c, data, len);
            c = NULL;
        }
    } else if (c && (rv || resp.code != 0)) {
        c = NULL;
    }
    if (c)
        detach(ch, c);
    pump(ch, now);
    pthread_mutex_unlock(&ch->lock);
    if (c)
        finish(ch, c, 0, data, len);
}

void po__channel_on_up(struct po__lane *lane, uint32_t pipe)
{
    struct po__nng_channel *ch = lane->channel;
    pthread_mutex_lock(&ch->lock);
    lane->up = true;
    lane->pipe = pipe;
    lane->target->was_up = true;
    pump(ch, now_ms());
    pthread_mutex_unlock(&ch->lock);
}

void po__channel_on_down(struct po__lane *lane, uint32_t pipe)
{
    struct po__nng_channel *ch = lane->channel;
    struct po__list *l;
    pthread_mutex_lock(&ch->lock);
    if (lane->pipe == pipe) {
        lane->up = false;
        lane->pipe = 0;
        while ((l = po__list_first(&lane->calls))) {
            struct call *c = call_of(l);
            c->maybe = true;
            make_ready(ch, c);
        }
        if (!target_up(lane->target))
            move_on(ch, lane->target);
        pump(ch, now_ms());
    }
    pthread_mutex_unlock(&ch->lock);
}

/* ---- the thread: deadlines, retries ---- */

/* Something of this call is due. True: its deadline passed, and it was detached. */
static bool call_due(struct po__nng_channel *ch, struct call *c, uint64_t now)
{
    if (c->state == CALL_SENT) { /* no answer in time: earlier refusals explain nothing any more */
        c->maybe = true;
        po__free(c->refusal);
        c->refusal = NULL;
    }
    if (now >= c->deadline_ms) {
        detach(ch, c);
        return true;
    }
    if (c->state == CALL_SENT) {
        po__debug(&ch->log, "client.silence", "no answer from %s in %u ms",
                  c->lane->target->address, c->try_ms);
        move_on(ch, c->lane->target);
    }
    make_ready(ch, c);
    return false;
}

static void wait_for_work(struct po__nng_channel *ch)
{
    uint64_t at_ms = UINT64_MAX;
    struct call *c = first_due(ch);
    if (c)
        at_ms = c->due_ms;
    if (!po__list_empty(&ch->ready) && ch->patience_until_ms && ch->patience_until_ms < at_ms)
        at_ms = ch->patience_until_ms;
    if (at_ms == UINT64_MAX) {
        pthread_cond_wait(&ch->wake, &ch->lock);
        return;
    }
    struct timespec ts = {.tv_sec = (time_t)(at_ms / 1000),
                          .tv_nsec = (long)(at_ms % 1000) * 1000000};
    pthread_cond_timedwait(&ch->wake, &ch->lock, &ts);
}

static void *run(void *arg)
{
    struct po__nng_channel *ch = arg;
    struct po__list over;
    struct po__list *l;
    po__list_init(&over);
    pthread_mutex_lock(&ch->lock);
    while (!ch->closing) {
        struct call *c;
        uint64_t now = now_ms();
        while ((c = first_due(ch)) && c->due_ms <= now)
            if (call_due(ch, c, now))
                po__list_push(&over, &c->link);
        if (ch->patience_until_ms && now >= ch->patience_until_ms)
            ch->patience_until_ms = 0;
        pump(ch, now);
        if (po__list_empty(&over)) {
            wait_for_work(ch);
            continue;
        }
        pthread_mutex_unlock(&ch->lock);
        while ((l = po__list_pop(&over)))
            finish_unanswered(ch, call_of(l), false);
        pthread_mutex_lock(&ch->lock);
    }
    pthread_mutex_unlock(&ch->lock);
    return NULL;
}

/* ---- the channel's operations ---- */

/* How long this request may go unanswered before it is sent elsewhere, and what its silence means.
 */
static int classify(struct call *c)
{
    struct po__request req;
    int rv = po__request_decode(c->bytes, c->len, &req);
    if (rv)
        return rv;
    c->read_only = req.type != PO__REQ_COMMAND && req.type != PO__REQ_BATCH;
    c->parks = req.type == PO__REQ_WAIT || req.type == PO__REQ_POLL;
    c->busy_is_answer = req.type == PO__REQ_QUERY && req.query.what == PO_QUERY_ROUTE;
    c->try_ms = TRY_MS;
    if (c->parks) {
        uint32_t parked_ms = req.type == PO__REQ_POLL ? req.poll.wait_ms : req.timeout_ms;
        c->try_ms = (parked_ms < PO_TIMEOUT_MAX_MS ? parked_ms : PO_TIMEOUT_MAX_MS) + TRY_GRACE_MS;
    }
    return 0;
}

static int channel_call(struct po__channel *base, const void *req, size_t len, uint32_t timeout_ms,
                        po__call_cb cb, void *arg)
{
    struct po__nng_channel *ch = po__container_of(base, struct po__nng_channel, base);
    uint64_t now = now_ms();
    if (len > PO__REQUEST_MAX_BYTES)
        return PO_ETOOBIG;
    struct call *c = po__calloc(1, sizeof *c + len);
    if (!c)
        return PO_ENOMEM;
    memcpy(c->bytes, req, len);
    c->len = len;
    c->cb = cb;
    c->arg = arg;
    c->deadline_ms = now + timeout_ms;
    c->state = CALL_READY;
    po__tree_node_init(&c->due);
    po__list_init(&c->link);
    int rv = classify(c);
    pthread_mutex_lock(&ch->lock);
    if (!rv && ch->closing)
        rv = PO_ECLOSED;
    if (!rv && ch->free_count == 0)
        rv = PO_EBUSY;
    if (rv) {
        pthread_mutex_unlock(&ch->lock);
        po__free(c);
        return rv;
    }
    uint32_t index = ch->free_slots[--ch->free_count];
    struct slot *slot = &ch->slots[index];
    slot->generation = (slot->generation + 1) & 0x7fff;
    slot->call = c;
    c->id = (uint32_t)slot->generation << 16 | index;
    make_ready(ch, c);
    pump(ch, now);
    pthread_mutex_unlock(&ch->lock);
    return 0;
}

static int channel_on_callback_thread(struct po__channel *base)
{
    return calling_back == po__container_of(base, struct po__nng_channel, base);
}

static void free_channel(struct po__nng_channel *ch)
{
    pthread_mutex_lock(&ch->lock);
    ch->closing = true; /* nothing is sent on sockets that are being closed */
    pthread_mutex_unlock(&ch->lock);
    for (unsigned i = 0; i < ch->targets_count; i++)
        for (unsigned j = 0; j < ch->targets[i]->lanes_count; j++)
            po__lane_stop(ch->targets[i]->lanes[j]);
    for (unsigned i = 0; i < ch->targets_count; i++) {
        for (unsigned j = 0; j < ch->targets[i]->lanes_count; j++)
            po__lane_free(ch->targets[i]->lanes[j]);
        po__free(ch->targets[i]);
    }
    pthread_cond_destroy(&ch->wake);
    pthread_mutex_destroy(&ch->callbacks);
    pthread_mutex_destroy(&ch->lock);
    po__free(ch->slots);
    po__free(ch->free_slots);
    po__free(ch);
}

static void channel_close(struct po__channel *base)
{
    struct po__nng_channel *ch = po__container_of(base, struct po__nng_channel, base);
    struct po__list over;
    struct po__list *l;
    PO_PRE(calling_back != ch);
    po__list_init(&over);
    pthread_mutex_lock(&ch->lock);
    ch->closing = true;
    pthread_cond_signal(&ch->wake);
    pthread_mutex_unlock(&ch->lock);
    pthread_join(ch->thread, NULL);
    pthread_mutex_lock(&ch->lock);
    for (struct call *c; (c = first_due(ch));) {
        c->maybe |= c->state == CALL_SENT;
        detach(ch, c);
        po__list_push(&over, &c->link);
    }
    pthread_mutex_unlock(&ch->lock);
    while ((l = po__list_pop(&over)))
        finish_unanswered(ch, call_of(l), true);
    free_channel(ch);
}

static const struct po__channel_ops ops = {
    .call = channel_call,
    .on_callback_thread = channel_on_callback_thread,
    .close = channel_close,
};

/* ---- opening ---- */

static int add_addresses(struct po__nng_channel *ch, const char *addresses)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[512];
    struct po__slice s;
    while (po__address_next(&addresses, &s)) {
        char text[PO_ADDRESS_MAX_BYTES + 1];
        if (s.len >= sizeof text)
            return PO_EADDR;
        memcpy(text, s.data, s.len);
        text[s.len] = '\0';
        if (po__address_parse(text, host, sizeof host, port, sizeof port, error, sizeof error)) {
            po__error(&ch->log, "client.address", "%s", error);
            return PO_EADDR;
        }
        if (ch->targets_count == PO__TARGETS_MAX)
            return PO_EINVAL;
        if (target_index(ch, po__str(text)) < 0)
            return PO_ENOMEM;
    }
    ch->given_count = ch->targets_count;
    return ch->targets_count ? 0 : PO_EADDR;
}

static void init_sync(struct po__nng_channel *ch)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ch->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&ch->lock, NULL);
    pthread_mutex_init(&ch->callbacks, NULL);
}

int po__channel_nng(struct po__channel **out, const char *addresses, uint32_t calls_max,
                    const struct po__logger *log)
{
    if (!addresses || calls_max == 0 || calls_max > CALLS_MAX)
        return PO_EINVAL;
    struct po__nng_channel *ch = po__calloc(1, sizeof *ch);
    if (!ch)
        return PO_ENOMEM;
    int rv = PO_ENOMEM;
    ch->base.ops = &ops;
    ch->log = *log;
    if (log->name) {
        snprintf(ch->name, sizeof ch->name, "%s", log->name);
        ch->log.name = ch->name;
    }
    init_sync(ch);
    po__list_init(&ch->ready);
    if (getrandom(&ch->random, sizeof ch->random, 0) != sizeof ch->random || !ch->random)
        ch->random = now_ms() + 1; /* only for jitter */
    ch->lanes_max = (calls_max + PO__LANE_CALLS_MAX - 1) / PO__LANE_CALLS_MAX;
    if (ch->lanes_max > PO__LANES_MAX)
        ch->lanes_max = PO__LANES_MAX;
    ch->slots = po__calloc(calls_max, sizeof *ch->slots);
    ch->free_slots = po__calloc(calls_max, sizeof *ch->free_slots);
    if (!ch->slots || !ch->free_slots)
        goto err_after_init;
    ch->slots_count = ch->free_count = calls_max;
    for (uint32_t i = 0; i < calls_max; i++)
        ch->free_slots[i] = calls_max - 1 - i;
    pthread_mutex_lock(&ch->lock); /* connections may come up while the rest is added */
    rv = add_addresses(ch, addresses);
    pthread_mutex_unlock(&ch->lock);
    if (rv)
        goto err_after_init;
    if (pthread_create(&ch->thread, NULL, run, ch)) {
        rv = PO_ENOMEM;
        goto err_after_init;
    }
    *out = &ch->base;
    return 0;

err_after_init:
    free_channel(ch);
    return rv;
}
