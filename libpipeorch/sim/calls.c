/* What workers and clients ask of a node: there and back.
 *
 * A call is one try: the bytes travel, arrive twice or not at all, are handed to the node as its
 * endpoint would hand them, and the answer travels back the same way. The caller is told exactly
 * once: by the first answer, or by its own clock. Trying again, somewhere else, is its business. */
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define GIVE_UP_US 2000000 /* after the timeout that the node was given */

struct answer {
    struct po__simcall *call;
    int code;
    bool has;
    size_t len;
    uint8_t bytes[];
};

static void unref(struct po__simcall *c)
{
    if (--c->refs)
        return;
    free(c->extra);
    free(c);
}

struct po__simcall *po__simcall_make(struct po__world *w, unsigned from, unsigned node,
                                     const void *data, size_t len, uint32_t timeout_ms,
                                     po__simcall_done done)
{
    struct po__simcall *c = po__sim_alloc(sizeof *c + len);
    c->world = w;
    c->refs = 1;
    c->from = from;
    c->node = node;
    c->timeout_ms = timeout_ms;
    c->done = done;
    c->len = len;
    memcpy(c->data, data, len);
    return c;
}

void po__simcall_send(struct po__simcall *c)
{
    struct po__world *w = c->world;
    uint64_t at[PO__SIM_COPIES_MAX];
    c->started_us = w->now_us;
    c->started_acked = po__checks_acked_index(w);
    w->stats.calls++;
    unsigned copies = po__simnet_send(&w->net, c->from, c->node, c->len, c->local, w->now_us, at);
    w->stats.calls_lost += copies == 0;
    for (unsigned i = 0; i < copies; i++) {
        c->refs++;
        po__world_at(w, at[i], PO__EV_ARRIVE, 0, 0, 0, c);
    }
    /* The reference of the maker becomes the timeout's. */
    po__world_at(w, w->now_us + (uint64_t)c->timeout_ms * 1000 + GIVE_UP_US, PO__EV_TIMEOUT, 0, 0,
                 0, c);
}

static void send_back(struct po__simcall *c, int code, const void *resp, size_t len)
{
    struct po__world *w = c->world;
    uint64_t at[PO__SIM_COPIES_MAX];
    unsigned copies = po__simnet_send(&w->net, c->node, c->from, len, c->local, w->now_us, at);
    for (unsigned i = 0; i < copies; i++) {
        struct answer *a = po__sim_alloc(sizeof *a + len);
        *a = (struct answer){c, code, true, len};
        if (len)
            memcpy(a->bytes, resp, len);
        c->refs++;
        po__world_at(w, at[i], PO__EV_RETURN, 0, 0, 0, a);
    }
}

/* From the node, on its thread. A dying one answers nobody. */
static void answered(void *arg, int code, const void *resp, size_t len)
{
    struct po__simcall *c = arg;
    struct po__simnode *n = &c->world->nodes[c->node];
    po__control_die_perhaps(n);
    if (!n->dying && (code == 0 || code == PO_EUNKNOWN))
        send_back(c, code, resp, code ? 0 : len);
    else if (!n->dying)
        send_back(c, PO_EUNREACHABLE, NULL, 0);
    unref(c);
}

/* Of an application command: in the form of a response, so that callers read one form. */
static void applied(void *arg, const struct po_result *r)
{
    struct po__buf b;
    po__buf_init(&b, 4096);
    po__response_begin(&b, r->code, po__str(r->message), po__str(""), r->index, 0);
    answered(arg, b.err ? PO_EUNKNOWN : 0, b.data, b.err ? 0 : b.len);
    po__buf_fini(&b);
}

void po__simcall_arrive(struct po__simcall *c)
{
    struct po__world *w = c->world;
    struct po__simnode *n = &w->nodes[c->node];
    if (po__simnet_blocked(&w->net, c->from, c->node)) {
        unref(c);
        return;
    }
    int rv = PO_EUNREACHABLE;
    if (n->alive && !po__control_died(n)) {
        c->refs++;
        if (c->apply)
            rv = po__node_apply(n->core, c->data + c->key_len, c->len - c->key_len,
                                po__slice(c->data, c->key_len), c->timeout_ms, applied, c);
        else
            rv = po__node_request(n->core, c->data, c->len, c->local, c->conn,
                                  (struct po__reply_to){answered, c});
        if (rv)
            c->refs--; /* no answer will come */
    }
    if (rv)
        send_back(c, PO_EUNREACHABLE, NULL, 0); /* refused: nothing was done */
    unref(c);
}

static void finish(struct po__simcall *c, int code, const void *resp, size_t len)
{
    if (c->finished)
        return;
    c->finished = true;
    c->done(c->world, c, code, resp, len);
}

void po__simcall_return(struct po__world *w, void *data)
{
    struct answer *a = data;
    struct po__simcall *c = a->call;
    if (!po__simnet_blocked(&w->net, c->node, c->from))
        finish(c, a->code, a->code ? NULL : a->bytes, a->len);
    free(a);
    unref(c);
}

void po__simcall_timeout(struct po__simcall *c)
{
    finish(c, PO_EUNKNOWN, NULL, 0);
    unref(c);
}

void po__simcall_drop(struct po__world *w, struct po__event *e)
{
    if (e->kind == PO__EV_FRAME) {
        po__peers_drop(w, e->data);
    } else if (e->kind == PO__EV_RETURN) {
        unref(((struct answer *)e->data)->call);
        free(e->data);
    } else if (e->kind == PO__EV_ARRIVE || e->kind == PO__EV_TIMEOUT) {
        unref(e->data);
    }
}
