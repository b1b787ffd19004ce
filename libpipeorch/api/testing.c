/* The exported functions of testing.h. */
#include <pipeorch/testing.h>

#include <pipeorch/error.h>

#include "../net/peer.h"
#include "../node/node.h"
#include "node_internal.h"

/* NULL: the caller may not do this. */
static struct po__node *core_of(po_node *node)
{
    struct po__node *core = node ? po__api_node_core(node) : NULL;
    return core && !po__node_on_thread(core) ? core : NULL;
}

int po_testing_pause(po_node *node, int paused)
{
    struct po__node *core = core_of(node);
    return core ? po__node_pause(core, paused) : PO_EINVAL;
}

int po_testing_cut(po_node *node, const uint64_t *peer_ids, size_t count)
{
    struct po__node *core = core_of(node);
    if (!core || count > PO_MEMBERS_MAX || (count && !peer_ids))
        return PO_EINVAL;
    for (size_t i = 0; i < count; i++)
        if (peer_ids[i] == 0)
            return PO_EINVAL;
    int rv = po__node_visit(core);
    if (rv)
        return rv;
    struct po__peers *peers = po__api_node_peers(node);
    if (peers)
        po__peers_cut(peers, peer_ids, count);
    po__node_leave(core);
    return 0;
}

int po_testing_crash(po_node *node)
{
    struct po__node *core = core_of(node);
    if (!core)
        return PO_EINVAL;
    po__node_crash(core);
    return 0;
}
