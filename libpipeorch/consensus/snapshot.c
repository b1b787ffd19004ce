/* Snapshots: taking our own, sending one to a peer that is too far behind, receiving one.
 *
 * Taking: the state gives slices as of the moment of begin while entries go on being applied; each
 * tick moves one slice to the store, which writes in the background. Once it is durable, the core
 * and the log let go of what it covers.
 *
 * Sending: the core asks for a snapshot again and again (with every heartbeat that is rejected
 * meanwhile); one transfer per peer runs at a time. Chunks leave while the peer's queue and the
 * unacknowledged window are short; lost ones are sent again from the last acknowledged byte.
 *
 * Receiving: bytes go to the store as they come, long before the core knows. Only a whole, checked
 * snapshot is announced to the core, so a sender that dies half-way costs nothing: the node keeps
 * its log and its vote. When the core takes it: make it durable -> discard the log -> restore the
 * state, slice by slice -> tell the core. A crash in between leaves either the old state or the
 * new. */
#include "replica_impl.h"

void po__snapshot_tick(struct po__replica *r)
{
    po__in_tick(r);
    if (!r->fault)
        po__take_tick(r);
    if (!r->fault)
        po__out_tick(r);
}

uint64_t po__snapshot_deadline(const struct po__replica *r)
{
    uint64_t take = po__take_deadline(r), out = po__out_deadline(r);

    if (r->in.state == PO__IN_DURABLE || r->in.state == PO__IN_RESTORING)
        return 0;
    return take < out ? take : out;
}

void po__snapshot_stop(struct po__replica *r)
{
    po__take_abort(r);
    po__in_abort(r);
    po__out_stop(r);
}
