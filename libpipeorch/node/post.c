/* What other threads may do with a node: post to its mailbox, and look at its published status. */
#include "internal.h"

#include <pipeorch/error.h>

#include "../base/deadline.h"

const struct po__identity *po__node_identity(const struct po__node *n)
{
    return &n->identity;
}

void po__node_status(struct po__node *n, struct po_node_status *st)
{
    size_t size = st->size;
    pthread_mutex_lock(&n->status_lock);
    memcpy(st, &n->status, size < sizeof n->status ? size : sizeof n->status);
    pthread_mutex_unlock(&n->status_lock);
    st->size = size;
}

int po__node_wait_leader(struct po__node *n, uint32_t timeout_ms)
{
    struct timespec until = po__time_after(timeout_ms);
    int rv = 0;
    pthread_mutex_lock(&n->status_lock);
    n->watchers++;
    while (!n->closed && n->status.role != PO_ROLE_STOPPED && !n->status.leader_id && rv == 0)
        rv = pthread_cond_timedwait(&n->status_cond, &n->status_lock, &until);
    rv = n->closed                           ? PO_ECLOSED
         : n->status.role == PO_ROLE_STOPPED ? PO_EFAULT
         : n->status.leader_id               ? 0
                                             : PO_ETIMEDOUT;
    if (--n->watchers == 0 && n->closed)
        pthread_cond_broadcast(&n->status_cond); /* po__node_destroy waits for the last one */
    pthread_mutex_unlock(&n->status_lock);
    return rv;
}

/* ---- mail ---- */

static void deliver_call(void *node, struct po__mail *mail)
{
    struct po__node *n = node;
    struct po__call *c = po__container_of(mail, struct po__call, mail);
    if (n->stopping) { /* never admitted: answered by hand */
        c->answered = true;
        if (c->origin == PO__FROM_APPLY) {
            struct po_result r = {
                .size = sizeof r, .code = PO_ECLOSED, .message = "the node is stopping"};
            c->apply.cb(c->apply.arg, &r);
        } else {
            c->to.answer(c->to.arg, PO_ECLOSED, NULL, 0);
        }
        po__call_unref(c);
        return;
    }
    po__call_admit(n, c);
}

static int post_call(struct po__node *n, struct po__call *c)
{
    c->mail.deliver = deliver_call;
    int rv = po__mailbox_post(&n->mailbox, &c->mail);
    if (rv)
        po__free(c);
    return rv;
}

int po__node_request(struct po__node *n, const void *data, size_t len, bool local, uint64_t conn,
                     struct po__reply_to to)
{
    if (len > PO__REQUEST_MAX_BYTES)
        return PO_ETOOBIG;
    struct po__call *c = po__call_new(len, local ? PO__FROM_LOCAL : PO__FROM_ENDPOINT);
    if (!c)
        return PO_ENOMEM;
    memcpy(c->data, data, len);
    c->to = to;
    c->conn = conn;
    return post_call(n, c);
}

int po__node_apply(struct po__node *n, const void *cmd, size_t len, struct po__slice key,
                   uint32_t timeout_ms, po_result_cb cb, void *arg)
{
    /* [type, key, data]: a few bytes of headers around the data */
    struct po__cmd app = {.type = PO__CMD_APP};
    app.app.key = key;
    app.app.data = po__slice(cmd, len);
    struct po__call *c = po__call_new(len + key.len + 32, PO__FROM_APPLY);
    if (!c)
        return PO_ENOMEM;
    struct po__buf b = {.data = c->data, .cap = c->len, .max_bytes = c->len};
    po__cmd_encode(&b, &app);
    PO_INVARIANT(b.err == 0 && b.data == c->data);
    c->len = b.len;
    c->type = PO__REQ_COMMAND;
    c->mutating = true;
    c->repeatable = key.len > 0;
    c->deadline_ms = timeout_ms;
    c->apply.cb = cb;
    c->apply.arg = arg;
    return post_call(n, c);
}

static int read_barrier(struct po__node *n, uint32_t stale_ms, uint32_t timeout_ms, po_result_cb cb,
                        void *arg)
{
    struct po__buf b;
    po__buf_init(&b, 64);
    po__request_barrier(&b, timeout_ms);
    struct po__call *c = b.err ? NULL : po__call_new(b.len, PO__FROM_APPLY);
    if (c)
        memcpy(c->data, b.data, b.len);
    po__buf_fini(&b);
    if (!c)
        return PO_ENOMEM;
    c->type = PO__REQ_BARRIER;
    c->stale_ms = stale_ms;
    c->repeatable = true;
    c->deadline_ms = timeout_ms;
    c->apply.cb = cb;
    c->apply.arg = arg;
    return post_call(n, c);
}

int po__node_read_barrier(struct po__node *n, uint32_t timeout_ms, po_result_cb cb, void *arg)
{
    return read_barrier(n, 0, timeout_ms, cb, arg);
}

int po__node_read_stale(struct po__node *n, uint32_t stale_ms, uint32_t timeout_ms, po_result_cb cb,
                        void *arg)
{
    PO_PRE(stale_ms > 0);
    return read_barrier(n, stale_ms, timeout_ms, cb, arg);
}

struct conn_closed {
    struct po__mail mail;
    uint64_t conn;
};

static void deliver_conn_closed(void *node, struct po__mail *mail)
{
    struct po__node *n = node;
    struct conn_closed *cc = po__container_of(mail, struct conn_closed, mail);
    if (!n->stopping) {
        po__sessions_conn_closed(n, cc->conn);
        po__watches_conn_closed(n, cc->conn);
    }
    po__free(cc);
}

int po__node_conn_closed(struct po__node *n, uint64_t conn)
{
    struct conn_closed *cc = po__calloc(1, sizeof *cc);
    if (!cc)
        return PO_ENOMEM; /* the worker is missed by its heartbeats instead */
    cc->mail.deliver = deliver_conn_closed;
    cc->conn = conn;
    int rv = po__mailbox_post_always(&n->mailbox, &cc->mail);
    if (rv)
        po__free(cc);
    return rv;
}

int po__node_peer_frame(struct po__node *n, uint64_t peer_id, const void *data, size_t len)
{
    if (n->stopping || n->fault)
        return PO_ECLOSED;
    return po__replica_receive(n->replica, peer_id, data, len, po__node_now(n));
}
