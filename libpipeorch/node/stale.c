/* Reads of this node's own state, leader or not, with a bound on its age.
 *
 * An answer with staleness S contains everything that was acknowledged to anybody, anywhere in the
 * cluster, up to S milliseconds before it was made. S is the difference of two readings of this
 * node's own monotonic clock, so that no other machine's clock and no estimate of a delay enters
 * it: the node notes the time, asks the leader for a confirmation (a ReadIndex round, shared with
 * all reads that wait there; no log entry), and when the answer has come and its index is applied
 * here, whatever was acknowledged by the time noted is in the state. A message of the leader that
 * comes by itself proves less: it may have been on its way for any time, and its sender deposed
 * since.
 *
 * Confirmations are asked for by need: when the state is older than a read allows, and ahead of
 * that when it is older than half of it, so that a busy reader does not wait. At most one is under
 * way. A node that cannot get one answers from what it has until the bound is reached, and says
 * PO_ESTALE_READ from then on. A read that waits is given up (PO_ESTALE_READ) with the first
 * confirmation that was begun after it came and failed, or came too late to satisfy it. */
#include "internal.h"

#include <pipeorch/client.h>
#include <pipeorch/error.h>

static uint64_t exact_now(struct po__node *n)
{
    return n->env.exact_ms ? n->env.exact_ms(n->env.arg) : po__node_now(n);
}

/* UINT64_MAX: it was never confirmed. */
static uint64_t age_ms(struct po__node *n)
{
    uint64_t now = exact_now(n);

    if (!n->freshness.known)
        return UINT64_MAX;
    return now > n->freshness.at_ms ? now - n->freshness.at_ms : 0;
}

static uint64_t applied_index(const struct po__node *n)
{
    struct po__replica_status st;

    po__replica_status(n->replica, &st);
    return st.applied_index;
}

static void answer(struct po__node *n, struct po__call *c, uint64_t age)
{
    struct po__request req;

    if (c->type == PO__REQ_QUERY) {
        int rv = po__request_decode(c->data, c->len, &req);
        PO_INVARIANT(rv == 0); /* it was decoded when it came */
        po__read_answer(n, c, &req.query, applied_index(n), (uint32_t)age);
        return;
    }
    struct po_result r = {.size = sizeof r,
                          .index = applied_index(n),
                          .message = "",
                          .term = n->term,
                          .staleness_ms = (uint32_t)age};
    po__call_answer_read(n, c, &r);
}

static void refuse(struct po__node *n, struct po__call *c)
{
    char message[512], age_text[32] = "never confirmed";
    uint64_t age = age_ms(n);

    if (age != UINT64_MAX)
        snprintf(age_text, sizeof age_text, "%llu ms old", (unsigned long long)age);
    snprintf(message, sizeof message,
             "the state of node %s is %s, at most %u ms are allowed, and no leader confirms it: is "
             "the node cut off, or a majority down? Ask another node, or allow more",
             n->identity.name, age_text, c->stale_ms);
    po__call_error(n, c, PO_ESTALE_READ, message);
}

/* A confirmation ended: whom does it serve, and whom did it fail? */
static void serve_waiting(struct po__node *n)
{
    struct po__freshness *f = &n->freshness;
    struct po__list waiting, *it;

    po__list_init(&waiting);
    while ((it = po__list_pop(&f->waiting)))
        po__list_push(&waiting, it);
    while ((it = po__list_pop(&waiting))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        uint64_t age = age_ms(n);
        if (age <= c->stale_ms)
            answer(n, c, age);
        else if (c->stale_round <= f->round)
            refuse(n, c);
        else
            po__list_push(&f->waiting, &c->link);
    }
}

static void ask(struct po__node *n);

static void confirmed(void *arg, const struct po_result *r)
{
    struct po__node *n = arg;
    struct po__freshness *f = &n->freshness;

    f->asking = false;
    if (r->code == 0 && (!f->known || f->asked_ms > f->at_ms)) {
        f->known = true;
        f->at_ms = f->asked_ms;
    }
    if (n->stopping || n->fault)
        return; /* whoever waits is told with all other calls */
    serve_waiting(n);
    if (!f->asking && !po__list_empty(&f->waiting))
        ask(n);
}

/* A barrier of the node's own: as an application's, it goes to the leader wherever that is, and
 * comes back when its index is applied here. */
static void ask(struct po__node *n)
{
    struct po__freshness *f = &n->freshness;
    struct po__buf b;

    f->asking = true;
    f->asked_ms = exact_now(n);
    f->round++;
    po__buf_init(&b, 64);
    po__request_barrier(&b, n->opts.election_ms);
    struct po__call *c = b.err ? NULL : po__call_new(b.len, PO__FROM_APPLY);
    if (c)
        memcpy(c->data, b.data, b.len);
    po__buf_fini(&b);
    if (!c) {
        struct po_result failed = {.size = sizeof failed, .code = PO_ENOMEM};
        confirmed(n, &failed);
        return;
    }
    c->type = PO__REQ_BARRIER;
    c->repeatable = true;
    c->deadline_ms = n->opts.election_ms;
    c->apply.cb = confirmed;
    c->apply.arg = n;
    po__call_admit(n, c);
}

void po__stale_read(struct po__node *n, struct po__call *c)
{
    struct po__freshness *f = &n->freshness;
    uint64_t age = age_ms(n);
    uint32_t bound_ms = c->stale_ms;

    if (age <= bound_ms) {
        answer(n, c, age);
        if (age > bound_ms / 2 && !f->asking)
            ask(n);
        return;
    }
    c->stale_round = f->round + 1;
    po__list_push(&f->waiting, &c->link);
    if (!f->asking)
        ask(n);
}

void po__stale_expired(struct po__node *n, struct po__call *c)
{
    refuse(n, c);
}
