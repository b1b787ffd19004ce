/* In-process calls on a node that does not lead: they travel to the leader over the peer connection
 * and are asked again, with the same idempotency key, when leader or connection change. Calls from
 * the network are redirected instead. */
#include "internal.h"

#include <pipeorch/error.h>

#define KEY_BYTES 16

static int forward_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    uint64_t x = po__container_of(a, struct po__call, by_forward)->forward_id;
    uint64_t y = po__container_of(b, struct po__call, by_forward)->forward_id;
    return (x > y) - (x < y);
}

static int forward_key_cmp(const void *key, const struct po__tree_node *node)
{
    uint64_t x = *(const uint64_t *)key,
             y = po__container_of(node, struct po__call, by_forward)->forward_id;
    return (x > y) - (x < y);
}

void po__forward_remove(struct po__node *n, struct po__call *c)
{
    if (po__tree_linked(&c->by_forward))
        po__tree_remove(&n->forwarded, &c->by_forward);
}

/* An application command leaves this node: as a request, with a key that makes repeating it safe.
 */
static int make_keyed(struct po__node *n, struct po__call *c)
{
    uint8_t key[KEY_BYTES];
    struct po__mpr r;
    po__mpr_init(&r, c->data, c->len);
    int rv = po__cmd_decode(&r, &n->cmd, true);
    PO_INVARIANT(rv == 0); /* we encoded it */
    if (n->cmd.app.key.len == 0) {
        rv = n->env.random(n->env.arg, key, sizeof key);
        if (rv)
            return rv;
        n->cmd.app.key = po__slice(key, sizeof key);
    }
    uint64_t now = po__node_now(n), left = c->deadline_ms > now ? c->deadline_ms - now : 1;
    po__request_command(&c->keyed, (uint32_t)left, &n->cmd);
    rv = c->keyed.err;
    if (rv)
        po__buf_fini(&c->keyed);
    else
        c->repeatable = true;
    return rv;
}

static void send_to_leader(struct po__node *n, struct po__call *c)
{
    if (c->origin == PO__FROM_APPLY && c->type == PO__REQ_COMMAND && c->keyed.len == 0) {
        int rv = make_keyed(n, c);
        if (rv) {
            po__call_error(n, c, rv, NULL);
            return;
        }
    }
    const void *data = c->keyed.len ? c->keyed.data : c->data;
    size_t len = c->keyed.len ? c->keyed.len : c->len;
    c->forward_id = ++n->next_forward_id;
    c->forward_peer = n->leader_id;
    if (n->net->forward(n->net->arg, n->leader_id, false, c->forward_id, data, len)) {
        po__list_push(&n->leaderless,
                      &c->link); /* the connection is down or full: with the next sweep */
        return;
    }
    c->sent = true;
    PO_INVARIANT(po__tree_insert(&n->forwarded, &c->by_forward, forward_cmp) == NULL);
}

void po__forward(struct po__node *n, struct po__call *c)
{
    po__list_remove(&c->link);
    if (n->role == PO_ROLE_FOLLOWER && n->leader_id && n->net)
        send_to_leader(n, c);
    else
        po__list_push(&n->leaderless, &c->link);
}

/* A call that a deposed leader has not answered is asked again: it may hang, or be cut off, without
 * its connection ending. */
static void recall(struct po__node *n)
{
    struct po__tree_node *node = n->leader_id ? po__tree_first(&n->forwarded) : NULL;
    while (node) {
        struct po__call *c = po__container_of(node, struct po__call, by_forward);
        node = po__tree_next(node);
        if (c->forward_peer == n->leader_id)
            continue;
        po__forward_remove(n, c);
        po__call_retry(n, c);
    }
}

void po__forward_leader_changed(struct po__node *n)
{
    struct po__list waiting, *it;
    recall(n);
    po__list_init(&waiting);
    while ((it = po__list_pop(&n->leaderless)))
        po__list_push(&waiting, it);
    while ((it = po__list_pop(&waiting)))
        po__dispatch(n, po__container_of(it, struct po__call, link));
}

void po__forward_peer_down(struct po__node *n, uint64_t peer_id)
{
    struct po__tree_node *node = po__tree_first(&n->forwarded);
    while (node) {
        struct po__call *c = po__container_of(node, struct po__call, by_forward);
        node = po__tree_next(node);
        if (c->forward_peer != peer_id)
            continue;
        po__forward_remove(n, c);
        po__call_retry(n, c);
    }
}

static void applied_here(void *arg, int code, uint64_t index)
{
    struct po__call *c = arg;
    if (!c->answered) {
        if (code)
            po__call_error(c->node, c, code, NULL);
        else
            po__call_answer(c->node, c, 0, "", index, po__slice(NULL, 0), 0);
    }
    po__call_unref(c);
}

/* The leader confirmed a read at resp->index: wait until this node has applied it. */
static void barrier_confirmed(struct po__node *n, struct po__call *c, uint64_t index)
{
    c->refs++;
    int rv = po__replica_wait_applied(n->replica, index, applied_here, c);
    if (rv == 0)
        return;
    po__call_unref(c);
    po__call_error(n, c, rv, NULL);
}

/* The other node does not lead any more. That it stops or failed is no news for our caller: this
 * node lives, and the next leader will do. */
static bool leader_gone(int code)
{
    return code == PO_ENOTLEADER || code == PO_ENOLEADER || code == PO_ECLOSED || code == PO_EFAULT;
}

static void forward_reply(struct po__node *n, uint64_t peer_id, uint64_t call_id, const void *data,
                          size_t len)
{
    struct po__tree_node *node = po__tree_find(&n->forwarded, &call_id, forward_key_cmp);
    struct po__call *c = node ? po__container_of(node, struct po__call, by_forward) : NULL;
    struct po__response resp;
    if (!c || c->forward_peer != peer_id)
        return; /* answered or asked again meanwhile */
    po__forward_remove(n, c);
    if (po__response_decode(data, len, &resp)) {
        po__call_error(n, c, PO_EUNKNOWN, "the leader's answer cannot be read");
        return;
    }
    if (resp.code == PO_ENOTLEADER || resp.code == PO_ENOLEADER)
        c->sent = c->sent && c->repeatable; /* said of what must not be repeated, it is certain */
    if (leader_gone(resp.code))             /* nothing was done, or repeating it is safe */
        po__call_retry(n, c);
    else if (c->type == PO__REQ_BARRIER && c->origin == PO__FROM_APPLY && resp.code == 0)
        barrier_confirmed(n, c, resp.index);
    else
        po__call_relay(n, c, resp.code, data, len);
}

static void forwarded_request(struct po__node *n, uint64_t peer_id, uint64_t call_id,
                              const void *data, size_t len)
{
    struct po__call *c = n->calls_count < PO__CALLS_MAX ? po__call_new(len, PO__FROM_PEER) : NULL;
    if (!c) { /* tell it, so that it need not wait */
        po__buf_reset(&n->out);
        po__response_begin(&n->out, PO_EBUSY, po__str("the leader has too many calls under way"),
                           po__str(""), 0, 0);
        if (!n->out.err)
            (void)n->net->forward(n->net->arg, peer_id, true, call_id, n->out.data, n->out.len);
        return;
    }
    memcpy(c->data, data, len);
    c->peer.peer_id = peer_id;
    c->peer.call_id = call_id;
    po__call_admit(n, c);
}

void po__node_peer_forward(struct po__node *n, uint64_t peer_id, bool reply, uint64_t call_id,
                           const void *data, size_t len)
{
    if (n->stopping)
        return;
    if (reply)
        forward_reply(n, peer_id, call_id, data, len);
    else
        forwarded_request(n, peer_id, call_id, data, len);
}

const char *po__leader_worker_address(struct po__node *n)
{
    struct po__member_info info;
    static const char none[] = "";
    if (n->leader_id == n->identity.node_id)
        return n->worker_address;
    for (unsigned i = 0; i < n->peers_count; i++)
        if (n->peers[i].node_id == n->leader_id)
            return n->peers[i].worker_address;
    if (n->leader_id && po__model_member(n->model, n->leader_id, &info) &&
        info.worker_address.len < sizeof n->leader_address) {
        memcpy(n->leader_address, info.worker_address.data, info.worker_address.len);
        n->leader_address[info.worker_address.len] = '\0';
        return n->leader_address;
    }
    return none;
}
