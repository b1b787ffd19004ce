/* Which node is asked. All calls go to `current`; what one of them learns about it serves all. */
#include "../base/alloc.h"
#include "client_internal.h"

/* Index of the target with this address, added if it is new; -1: no room or no memory. */
int po__target_index(struct po__net_channel *ch, struct po__slice address)
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
    t->channel = ch;
    po__list_init(&t->calls);
    ch->targets[ch->targets_count] = t;
    ch->changed = true; /* it is dialled in the next round */
    return (int)ch->targets_count++;
}

/* `from` does not serve: move on to the next target, one that is connected if there is one. */
void po__target_move_on(struct po__net_channel *ch, const struct po__target *from)
{
    PO_INVARIANT(ch->targets_count > 0);
    if (ch->targets[ch->current] != from)
        return; /* another call has noticed before */
    ch->patience_until_ms = 0;
    for (unsigned step = 1; step <= ch->targets_count; step++) {
        unsigned i = (ch->current + step) % ch->targets_count;
        if (ch->targets[i]->up) {
            ch->current = i;
            return;
        }
    }
    ch->current = (ch->current + 1) % ch->targets_count;
}

struct po__target *po__target_for_call(struct po__net_channel *ch, uint64_t now)
{
    struct po__target *t = ch->targets[ch->current];
    if (!t->up) {
        if (now < ch->patience_until_ms)
            return NULL;
        po__target_move_on(ch, t);
        t = ch->targets[ch->current];
    }
    return t->up && t->calls_count < PO__TARGET_CALLS_MAX ? t : NULL;
}
