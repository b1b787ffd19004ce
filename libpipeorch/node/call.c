/* Calls: requests under way, from their arrival to their one answer. */
#include "internal.h"

#include <pipeorch/error.h>

struct po__call *po__call_new(size_t len, enum po__call_origin origin)
{
    struct po__call *c = po__malloc(sizeof *c + len);
    if (!c)
        return NULL;
    memset(c, 0, sizeof *c);
    po__list_init(&c->mail.link);
    po__list_init(&c->link);
    po__list_init(&c->all);
    po__tree_node_init(&c->by_forward);
    po__tree_node_init(&c->by_wait);
    c->origin = origin;
    c->refs = 1;
    c->len = len;
    c->mail.bytes = sizeof *c + len;
    return c;
}

/* What a timeout or a lost leader means depends on whether the request changes anything, and
 * whether it may be repeated. */
static uint32_t classify(struct po__call *c)
{
    struct po__request req;
    if (c->origin == PO__FROM_APPLY) /* po__node_apply and po__node_read_barrier said so */
        return 0;
    if (po__request_decode(c->data, c->len, &req))
        return 0; /* dispatch answers it */
    c->type = req.type;
    c->mutating = req.type == PO__REQ_COMMAND || req.type == PO__REQ_BATCH ||
                  req.type == PO__REQ_MEMBER ||
                  (req.type == PO__REQ_POLL && req.poll.done_count > 0);
    c->repeatable = po__request_repeatable(&req);
    c->stale_ms = req.type == PO__REQ_QUERY ? req.query.stale_ms : 0;
    return req.timeout_ms;
}

void po__call_admit(struct po__node *n, struct po__call *c)
{
    uint32_t timeout_ms = classify(c);
    if (c->origin != PO__FROM_APPLY)
        c->deadline_ms = timeout_ms;
    if (c->deadline_ms == 0 || c->deadline_ms > PO_TIMEOUT_MAX_MS)
        c->deadline_ms = PO__CALL_DEFAULT_MS;
    c->deadline_ms += po__node_now(n);
    c->node = n;
    po__list_push(&n->calls, &c->all);
    n->calls_count++;
    if (n->calls_count > PO__CALLS_MAX)
        po__call_error(n, c, PO_EBUSY, "the node has too many calls under way; retry later");
    else
        po__dispatch(n, c);
}

static void free_results(struct po__call *c)
{
    for (uint32_t i = 0; i < c->results_count; i++) {
        po__free(c->results[i].message);
        po__free(c->results[i].data);
    }
    po__free(c->results);
    c->results = NULL;
    c->results_count = 0;
}

void po__call_unref(struct po__call *c)
{
    PO_INVARIANT(c->refs > 0);
    if (--c->refs)
        return;
    PO_INVARIANT(c->answered);
    free_results(c);
    po__buf_fini(&c->keyed);
    po__free(c);
}

/* Out of every structure that it may wait in. */
static void detach(struct po__node *n, struct po__call *c)
{
    po__list_remove(&c->link);
    po__list_remove(&c->all);
    po__forward_remove(n, c);
    po__wait_remove(n, c);
    po__watch_remove(n, c);
    n->calls_count--;
}

/* Common end of a call: returns false if it was answered before. The caller delivers, then drops
 * the reference. */
static bool finish(struct po__node *n, struct po__call *c)
{
    if (c->answered)
        return false;
    c->answered = true;
    detach(n, c);
    return true;
}

/* Refusals say that nothing was done. That is not known of a call which was sent before. */
static bool is_refusal(int code)
{
    return code == PO_EBUSY || code == PO_ENOMEM || code == PO_ETIMEDOUT || code == PO_ENOLEADER ||
           code == PO_ECLOSED || code == PO_EFAULT;
}

static void deliver(struct po__node *n, struct po__call *c, int code, const void *resp, size_t len)
{
    if (c->origin == PO__FROM_PEER) {
        /* A reply that cannot be sent (the connection is gone, or its queue full) is lost. If the
         * connection ends the asking node asks again; else its call ends at its deadline, as
         * unknown. */
        (void)n->net->forward(n->net->arg, c->peer.peer_id, true, c->peer.call_id, resp, len);
    } else {
        c->to.answer(c->to.arg, code, resp, len);
    }
}

void po__call_answer(struct po__node *n, struct po__call *c, int code, const char *message,
                     uint64_t index, struct po__slice body, uint32_t body_fields)
{
    if (!finish(n, c))
        return;
    if (c->origin == PO__FROM_APPLY) {
        struct po_result r = {
            .size = sizeof r, .code = code, .index = index, .message = message ? message : ""};
        c->apply.cb(c->apply.arg, &r);
    } else {
        const char *leader = code == PO_ENOTLEADER ? po__leader_worker_address(n) : "";
        po__buf_reset(&n->out);
        po__response_begin(&n->out, code, po__str(message ? message : ""), po__str(leader), index,
                           body_fields);
        po__buf_append(&n->out, body.data, body.len);
        if (n->out.err) { /* out of memory: a small answer may still fit */
            int err = n->out.err;
            po__buf_reset(&n->out);
            po__response_begin(&n->out, err, po__str("the answer does not fit into memory"),
                               po__str(""), index, 0);
        }
        deliver(n, c, n->out.err, n->out.data, n->out.err ? 0 : n->out.len);
    }
    po__call_unref(c);
}

void po__call_answer_read(struct po__node *n, struct po__call *c, const struct po_result *r)
{
    PO_PRE(c->origin == PO__FROM_APPLY);
    if (!finish(n, c))
        return;
    c->apply.cb(c->apply.arg, r);
    po__call_unref(c);
}

void po__call_error(struct po__node *n, struct po__call *c, int code, const char *message)
{
    if (c->uncertain && is_refusal(code)) {
        code = PO_EUNKNOWN;
        message = "the call was under way when its leader was lost, and could not be repeated; it "
                  "may or may not have taken effect";
    }
    po__call_answer(n, c, code, message ? message : po_strerror(code), 0, po__slice(NULL, 0), 0);
}

void po__call_result(struct po__node *n, struct po__call *c, uint64_t index,
                     const struct po__cmd_result *r)
{
    if (c->origin != PO__FROM_APPLY) {
        po__buf_reset(&n->body);
        po__mpw_uint(&n->body, r->id);
        po__mpw_bin(&n->body, r->data);
        if (n->body.err)
            po__call_error(n, c, n->body.err, "the result does not fit into memory");
        else
            po__call_answer(n, c, r->code, r->message, index, po__buf_slice(&n->body), 2);
        return;
    }
    if (!finish(n, c))
        return;
    struct po_result res = {.size = sizeof res,
                            .code = r->code,
                            .id = r->id,
                            .index = index,
                            .data = r->data.len ? r->data.data : NULL,
                            .len = r->data.len,
                            .message = r->message};
    c->apply.cb(c->apply.arg, &res);
    po__call_unref(c);
}

void po__call_relay(struct po__node *n, struct po__call *c, int code, const void *resp, size_t len)
{
    if (c->uncertain && is_refusal(code)) {
        po__call_error(n, c, code, NULL);
        return;
    }
    if (c->origin != PO__FROM_APPLY) {
        if (!finish(n, c))
            return;
        deliver(n, c, 0, resp, len);
        po__call_unref(c);
        return;
    }
    struct po__response r;
    struct po__cmd_result res = {.message = ""};
    char message[512];
    int rv = po__response_decode(resp, len, &r);
    if (rv == 0) {
        res.code = r.code;
        snprintf(message, sizeof message, "%.*s", (int)r.message.len,
                 r.message.data ? r.message.data : "");
        res.message = message;
        if (r.body_fields >= 2) {
            struct po__mpr mr;
            po__mpr_init(&mr, r.body.data, r.body.len);
            res.id = po__mpr_uint(&mr, UINT64_MAX);
            res.data = po__mpr_bin(&mr, PO_PAYLOAD_MAX_BYTES);
            rv = mr.err;
        }
    }
    if (rv) {
        res = (struct po__cmd_result){.code = PO_EUNKNOWN,
                                      .message = "the leader's answer cannot be read"};
        r.index = 0;
    }
    po__call_result(n, c, r.index, &res);
}

void po__call_retry(struct po__node *n, struct po__call *c)
{
    if (c->answered)
        return;
    if (c->sent && c->mutating && !c->repeatable) {
        po__call_error(
            n, c, PO_EUNKNOWN,
            "leadership changed while the command was under way; it may or may not take effect");
    } else if (c->origin == PO__FROM_APPLY || c->origin == PO__FROM_LOCAL) {
        c->uncertain = c->uncertain || (c->sent && c->mutating);
        free_results(c);
        c->pending = 0;
        po__list_remove(&c->link);
        po__list_push(&n->leaderless, &c->link);
    } else if (c->origin == PO__FROM_ENDPOINT && c->sent &&
               (c->type == PO__REQ_COMMAND || c->type == PO__REQ_BATCH)) {
        /* A redirect would say that nothing was done. The client asks again, and knows what to tell
         * its caller if it gets no answer any more. */
        po__call_error(n, c, PO_EUNKNOWN,
                       "leadership changed while the command was under way; repeat it");
    } else {
        po__call_error(n, c,
                       n->leader_id && n->leader_id != n->identity.node_id ? PO_ENOTLEADER
                                                                           : PO_ENOLEADER,
                       NULL);
    }
}

static void time_out(struct po__node *n, struct po__call *c)
{
    if (c->type == PO__REQ_POLL && !c->mutating && n->ready)
        po__session_poll_empty(n, c); /* it was parked */
    else if (c->watching)
        po__watch_expired(n, c);
    else if (c->type == PO__REQ_MEMBER && n->ready)
        po__members_timed_out(n, c);
    else if (c->stale_ms)
        po__stale_expired(n, c);
    else if (c->sent && c->mutating)
        po__call_error(n, c, PO_EUNKNOWN,
                       "no outcome within the timeout; the call may still take effect");
    else if (!n->leader_id && c->type != PO__REQ_WAIT)
        po__call_error(
            n, c, PO_ENOLEADER,
            "no leader was elected within the timeout; is a majority of the control nodes up?");
    else
        po__call_error(n, c, PO_ETIMEDOUT, "no answer within the timeout");
}

void po__calls_sweep(struct po__node *n, uint64_t now)
{
    struct po__list *it = n->calls.next;
    while (it != &n->calls) {
        struct po__call *c = po__container_of(it, struct po__call, all);
        it = it->next;
        if (now >= c->deadline_ms)
            time_out(n, c);
    }
}

void po__calls_fail_all(struct po__node *n, int unsent_code, int sent_code, const char *message)
{
    struct po__list *it;
    while ((it = po__list_first(&n->calls))) {
        struct po__call *c = po__container_of(it, struct po__call, all);
        bool unsure = c->sent && c->mutating;
        if (c->origin == PO__FROM_PEER && (c->repeatable || !unsure))
            po__call_error(n, c, PO_ENOTLEADER, message); /* it asks the next leader */
        else
            po__call_error(n, c, unsure ? sent_code : unsent_code, message);
    }
}
