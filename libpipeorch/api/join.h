/* Joining a cluster that runs, before the node starts. */
#ifndef PO__JOIN_H
#define PO__JOIN_H

#include <pipeorch/node.h>
#include "../storage/store.h"

#define PO__JOIN_MS 5000 /* of one attempt; the caller repeats it */

/* Gives the empty (or joining) directory behind `store` an identity in the cluster at opts->join,
 * and returns it in *id. Blocks for up to PO__JOIN_MS. 0, or as po_node_start says with a sentence.
 */
int po__join(struct po__identity *id, struct po__store *store, const struct po_node_opts *opts,
             const char *advertise, char *error, size_t error_len);

#endif
