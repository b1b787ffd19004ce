/* The exported functions of member.h: each is one MEMBER request, which names a goal and may be
 * repeated, or a query. */
#include <pipeorch/member.h>

#include "../net/address.h"
#include "../net/peer.h"
#include "call.h"

int po_member_list(po_client *client, const struct po_call_opts *opts, char **json)
{
    const struct po_query query = {.size = sizeof query, .what = PO_QUERY_MEMBERS};
    return po_query(client, &query, opts, json);
}

int po_member_list_async(po_client *client, const struct po_call_opts *opts, po_result_cb cb,
                         void *arg)
{
    const struct po_query query = {.size = sizeof query, .what = PO_QUERY_MEMBERS};
    return po_query_async(client, &query, opts, cb, arg);
}

/* Waits; *id (may be NULL) receives the answer's node id. */
static int ask(po_client *client, const struct po__member_request *m,
               const struct po_call_opts *opts, uint64_t *id)
{
    struct po__call call;
    struct po__outcome out;
    int rv = po__call_member(&call, m, opts);
    rv = rv ? rv : po__call_wait(client, &call, &out);
    if (rv)
        return rv;
    if (id)
        *id = out.id;
    po__outcome_fini(&out);
    return 0;
}

static int start(po_client *client, const struct po__member_request *m,
                 const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = po__call_member(&call, m, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int add_request(struct po__member_request *m, const char *address)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], why[256];
    *m = (struct po__member_request){.op = PO__MEMBER_ADD};
    if (!address)
        return po__client_fail(PO_EINVAL, "the address of the new node is NULL");
    if (po__address_parse(address, host, sizeof host, port, sizeof port, why, sizeof why))
        return po__client_fail(PO_EINVAL, "the address of the new node: %s", why);
    m->address = po__str(address);
    return 0;
}

int po_member_add(po_client *client, const char *address, const struct po_call_opts *opts,
                  uint64_t *node_id)
{
    struct po__member_request m;
    int rv = add_request(&m, address);
    return rv ? rv : ask(client, &m, opts, node_id);
}

int po_member_add_async(po_client *client, const char *address, const struct po_call_opts *opts,
                        po_result_cb cb, void *arg)
{
    struct po__member_request m;
    int rv = add_request(&m, address);
    return rv ? rv : start(client, &m, opts, cb, arg);
}

static int id_request(struct po__member_request *m, uint32_t op, uint64_t node_id)
{
    *m = (struct po__member_request){.op = op, .node_id = node_id};
    return node_id || op == PO__MEMBER_TRANSFER
               ? 0
               : po__client_fail(PO_EINVAL, "the node id is 0; ids begin with 1");
}

int po_member_promote(po_client *client, uint64_t node_id, const struct po_call_opts *opts)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_PROMOTE, node_id);
    return rv ? rv : ask(client, &m, opts, NULL);
}

int po_member_promote_async(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                            po_result_cb cb, void *arg)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_PROMOTE, node_id);
    return rv ? rv : start(client, &m, opts, cb, arg);
}

int po_member_demote(po_client *client, uint64_t node_id, const struct po_call_opts *opts)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_DEMOTE, node_id);
    return rv ? rv : ask(client, &m, opts, NULL);
}

int po_member_demote_async(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                           po_result_cb cb, void *arg)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_DEMOTE, node_id);
    return rv ? rv : start(client, &m, opts, cb, arg);
}

int po_member_remove(po_client *client, uint64_t node_id, const struct po_call_opts *opts)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_REMOVE, node_id);
    return rv ? rv : ask(client, &m, opts, NULL);
}

int po_member_remove_async(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                           po_result_cb cb, void *arg)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_REMOVE, node_id);
    return rv ? rv : start(client, &m, opts, cb, arg);
}

int po_member_transfer(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                       uint64_t *leader_id)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_TRANSFER, node_id);
    return rv ? rv : ask(client, &m, opts, leader_id);
}

int po_member_transfer_async(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                             po_result_cb cb, void *arg)
{
    struct po__member_request m;
    int rv = id_request(&m, PO__MEMBER_TRANSFER, node_id);
    return rv ? rv : start(client, &m, opts, cb, arg);
}
