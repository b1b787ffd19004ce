/* Reads and waits: answered from the leader's state once a ReadIndex round has confirmed that it
 * still leads. Reads of a state that may be stale are stale.c's. */
#include "internal.h"

#include <pipeorch/client.h>

static int query_model(struct po__node *n, const struct po__query *q, const char **message)
{
    const struct po__soft soft = {po__session_load, n};
    struct po__query more = *q; /* with what the state does not know */
    more.ticks = po__schedule_ticks;
    more.ticks_arg = n;
    more.soft = &soft;
    return po__model_query(n->model, &more, &n->body, message);
}

void po__read_answer(struct po__node *n, struct po__call *c, const struct po__query *q,
                     uint64_t index, uint32_t staleness_ms)
{
    const char *message = "";
    int rv = 0;
    po__buf_reset(&n->body);
    po__mpw_uint(&n->body, n->term);
    if (q->what == PO_QUERY_STATUS)
        po__status_encode(n, &n->body);
    else if (q->what == PO_QUERY_MEMBERS)
        po__members_encode(n, &n->body);
    else
        rv = query_model(n, q, &message);
    po__mpw_uint(&n->body, staleness_ms);
    if (rv == 0)
        rv = n->body.err;
    if (rv == 0 && n->body.len > PO__REQUEST_MAX_BYTES - 4096) {
        rv = PO_ETOOBIG;
        message =
            "the answer is longer than one message; ask for fewer objects with a smaller limit";
    }
    if (rv)
        po__call_error(n, c, rv, message && *message ? message : NULL);
    else
        po__call_answer(n, c, 0, "", index, po__buf_slice(&n->body), 3);
}

static int wait_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__call *x = po__container_of(a, struct po__call, by_wait);
    const struct po__call *y = po__container_of(b, struct po__call, by_wait);
    if (x->wait_kind != y->wait_kind)
        return x->wait_kind < y->wait_kind ? -1 : 1;
    if (x->wait_id != y->wait_id)
        return x->wait_id < y->wait_id ? -1 : 1;
    return (x->forward_id > y->forward_id) - (x->forward_id < y->forward_id);
}

struct wait_key {
    uint32_t kind;
    uint64_t id;
};

static int wait_key_cmp(const void *key, const struct po__tree_node *node)
{
    const struct wait_key *k = key;
    const struct po__call *c = po__container_of(node, struct po__call, by_wait);
    if (k->kind != c->wait_kind)
        return k->kind < c->wait_kind ? -1 : 1;
    return k->id <= c->wait_id ? -1 : 1; /* for a lower bound: before all of the same id */
}

void po__wait_remove(struct po__node *n, struct po__call *c)
{
    if (po__tree_linked(&c->by_wait))
        po__tree_remove(&n->waits, &c->by_wait);
}

static void answer_wait(struct po__node *n, struct po__call *c)
{
    struct po__query q = {.what = c->wait_kind == 1 ? PO_QUERY_TASK : PO_QUERY_RUN,
                          .id = c->wait_id};
    po__read_answer(n, c, &q, po__model_index(n->model), 0);
}

void po__read_finished(struct po__node *n, uint32_t kind, uint64_t id)
{
    struct wait_key key = {kind, id};
    struct po__tree_node *node;
    while ((node = po__tree_lower_bound(&n->waits, &key, wait_key_cmp))) {
        struct po__call *c = po__container_of(node, struct po__call, by_wait);
        if (c->wait_kind != kind || c->wait_id != id)
            return;
        answer_wait(n, c); /* removes it from the tree */
    }
}

/* 1 finished, 0 not yet, -1 unknown. */
static int finished(const struct po__node *n, uint32_t kind, uint64_t id)
{
    if (kind == 2) {
        int state = po__model_run_state(n->model, id);
        return state == 0 ? -1 : state != PO_RUN_RUNNING;
    }
    const struct po__task *t = po__model_task(n->model, id);
    return t ? t->state == PO_TASK_SUCCEEDED || t->state == PO_TASK_FAILED ||
                   t->state == PO_TASK_CANCELLED
             : -1;
}

static void confirmed_wait(struct po__node *n, struct po__call *c)
{
    switch (finished(n, c->wait_kind, c->wait_id)) {
    case 1:
        answer_wait(n, c);
        break;
    case 0:
        c->forward_id =
            ++n->next_forward_id; /* makes it distinct among those that wait for the same */
        PO_INVARIANT(po__tree_insert(&n->waits, &c->by_wait, wait_cmp) == NULL);
        break;
    default:
        po__call_error(n, c, PO_ENOTFOUND,
                       c->wait_kind == 1
                           ? "no task of this id; finished tasks are kept for a time only"
                           : "no run of this id; finished runs are kept for a time only");
    }
}

/* A ReadIndex round ended. */
static void confirmed(void *arg, int code, uint64_t index)
{
    struct po__call *c = arg;
    struct po__node *n = c->node;
    struct po__request req;
    if (c->answered) {
        /* timed out meanwhile */
    } else if (code) {
        po__call_retry(n, c);
    } else if (c->type == PO__REQ_BARRIER) {
        po__call_answer(n, c, 0, "", index, po__slice(NULL, 0), 0);
    } else if (c->type == PO__REQ_WAIT) {
        confirmed_wait(n, c);
    } else if (c->type == PO__REQ_SNAPSHOT) {
        po__stream_confirmed(n, c);
    } else if (c->type == PO__REQ_WATCH) {
        po__watch_confirmed(n, c);
    } else {
        code = po__request_decode(c->data, c->len, &req);
        PO_INVARIANT(code == 0); /* it was decoded when it came */
        po__read_answer(n, c, &req.query, index, 0);
    }
    po__call_unref(c);
}

static void begin(struct po__node *n, struct po__call *c)
{
    c->refs++;
    int rv = po__replica_read(n->replica, confirmed, c, po__node_now(n));
    if (rv == 0)
        return;
    po__call_unref(c);
    if (rv == PO_ENOTLEADER)
        po__call_retry(n, c);
    else
        po__call_error(n, c, rv, NULL);
}

void po__read_query(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    (void)req;
    begin(n, c);
}

void po__read_wait(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    if (req->wait.kind != 1 && req->wait.kind != 2) {
        po__call_error(n, c, PO_EPROTO, "a wait is for a task (1) or a run (2)");
        return;
    }
    c->wait_kind = req->wait.kind;
    c->wait_id = req->wait.id;
    begin(n, c);
}

void po__read_barrier(struct po__node *n, struct po__call *c)
{
    begin(n, c);
}
