/* Which node is asked. All calls go to `current`; what one of them learns about it serves all. */
#include "../base/alloc.h"
#include "../base/assert.h"
#include "client_internal.h"

bool po__target_up(const struct po__target *t)
{
    for (unsigned i = 0; i < t->lanes_count; i++)
        if (t->lanes[i]->up)
            return true;
    return false;
}

static int add_lane(struct po__nng_channel *ch, struct po__target *t)
{
    int rv = po__lane_open(&t->lanes[t->lanes_count], ch, t);
    if (rv)
        po__warn(&ch->log, "client.connect", "cannot open a connection to %s: %s", t->address,
                 po_strerror(rv));
    else
        t->lanes_count++;
    return rv;
}

/* Index of the target with this address, added if it is new; -1: no room or no memory. */
int po__target_index(struct po__nng_channel *ch, struct po__slice address)
{
    for (unsigned i = 0; i < ch->targets_count; i++)
        if (po__slice_eq(address, po__str(ch->targets[i]->address)))
            return (int)i;
    if (ch->targets_count == PO__TARGETS_MAX || address.len > PO_ADDRESS_MAX_BYTES)
        return -1;
    struct po__target *t = po__calloc(1, sizeof *t);
    if (!t)
        return -1;
    memcpy(t->address, address.data, address.len);
    if (add_lane(ch, t)) {
        po__free(t);
        return -1;
    }
    ch->targets[ch->targets_count] = t;
    return (int)ch->targets_count++;
}

/* `from` does not serve: move on to the next target, one that is connected if there is one. */
void po__target_move_on(struct po__nng_channel *ch, const struct po__target *from)
{
    PO_INVARIANT(ch->targets_count > 0);
    if (ch->targets[ch->current] != from)
        return; /* another call has noticed before */
    ch->patience_until_ms = 0;
    for (unsigned step = 1; step <= ch->targets_count; step++) {
        unsigned i = (ch->current + step) % ch->targets_count;
        if (po__target_up(ch->targets[i])) {
            ch->current = i;
            return;
        }
    }
    ch->current = (ch->current + 1) % ch->targets_count;
}

/* A connection of the current target with room for a call; NULL: not now, pump() is called again
 * when that changes. */
struct po__lane *po__target_lane(struct po__nng_channel *ch, uint64_t now)
{
    struct po__target *t = ch->targets[ch->current];
    if (!po__target_up(t)) {
        if (now < ch->patience_until_ms)
            return NULL;
        po__target_move_on(ch, t);
        t = ch->targets[ch->current];
    }
    bool connecting = false;
    for (unsigned i = 0; i < t->lanes_count; i++) {
        struct po__lane *lane = t->lanes[i];
        if (lane->up && lane->calls_count < PO__LANE_CALLS_MAX)
            return lane;
        connecting |= !lane->up;
    }
    if (!connecting && t->lanes_count < ch->lanes_max)
        add_lane(ch, t);
    return NULL;
}
