/* The in-process channel: calls of a node's own client go to its mailbox; nothing is encoded twice.
 */
#include "internal.h"

#include <pipeorch/error.h>

struct local {
    struct po__channel ch;
    struct po__node *node;
};

struct local_call {
    po__call_cb cb;
    void *arg;
};

static void answered(void *arg, int code, const void *resp, size_t len)
{
    struct local_call *lc = arg;
    po__call_cb cb = lc->cb;
    void *cb_arg = lc->arg;
    po__free(lc);
    cb(cb_arg, code, code ? NULL : resp, code ? 0 : len);
}

static int local_call(struct po__channel *ch, const void *req, size_t len, uint32_t timeout_ms,
                      po__call_cb cb, void *arg)
{
    struct local *l = po__container_of(ch, struct local, ch);
    struct local_call *lc = po__malloc(sizeof *lc);
    (void)timeout_ms; /* the request carries it */
    if (!lc)
        return PO_ENOMEM;
    *lc = (struct local_call){cb, arg};
    int rv = po__node_request(l->node, req, len, true, 0, (struct po__reply_to){answered, lc});
    if (rv)
        po__free(lc);
    return rv;
}

static int local_on_callback_thread(struct po__channel *ch)
{
    return po__node_on_thread(po__container_of(ch, struct local, ch)->node);
}

static void local_close(struct po__channel *ch)
{
    po__free(po__container_of(ch, struct local, ch));
}

int po__channel_local(struct po__channel **ch, struct po__node *n)
{
    static const struct po__channel_ops ops = {local_call, local_on_callback_thread, local_close};
    struct local *l = po__malloc(sizeof *l);
    if (!l)
        return PO_ENOMEM;
    *l = (struct local){.ch = {&ops}, .node = n};
    *ch = &l->ch;
    return 0;
}
