#include "network.h"

#define OVERTAKEN_MAX_US 400000 /* how much later a reordered or doubled message may come */

unsigned po__simnet_send(struct po__simnet *net, unsigned from, unsigned to, size_t bytes,
                         bool stream, uint64_t now_us, uint64_t at_us[PO__SIM_COPIES_MAX])
{
    struct po__simlink *l = &net->links[from][to];
    if (l->blocked || (!stream && po__rng_percent(net->rng, net->loss_percent)))
        return 0;
    uint64_t sent_us = now_us;
    if (net->bytes_per_ms) {
        uint64_t start = l->free_us > now_us ? l->free_us : now_us;
        sent_us = l->free_us = start + bytes * 1000 / net->bytes_per_ms;
    }
    uint64_t at = sent_us + l->delay_us + po__rng_range(net->rng, 0, net->jitter_us);
    if (!stream && po__rng_percent(net->rng, net->reorder_percent)) {
        at += po__rng_range(net->rng, 1000, OVERTAKEN_MAX_US);
    } else {
        if (at <= l->last_us)
            at = l->last_us + 1;
        l->last_us = at;
    }
    at_us[0] = at;
    if (stream || !po__rng_percent(net->rng, net->duplicate_percent))
        return 1;
    at_us[1] = at + po__rng_range(net->rng, 1000, OVERTAKEN_MAX_US);
    return 2;
}

bool po__simnet_blocked(const struct po__simnet *net, unsigned from, unsigned to)
{
    return net->links[from][to].blocked;
}

void po__simnet_block(struct po__simnet *net, unsigned from, unsigned to, bool blocked)
{
    if (from != to)
        net->links[from][to].blocked = blocked;
}

void po__simnet_heal(struct po__simnet *net)
{
    for (unsigned i = 0; i < PO__SIM_PLACES_MAX; i++)
        for (unsigned j = 0; j < PO__SIM_PLACES_MAX; j++)
            net->links[i][j].blocked = false;
    net->loss_percent = net->duplicate_percent = net->reorder_percent = 0;
    net->bytes_per_ms = 0;
}
