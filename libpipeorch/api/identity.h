/* Who a node is: the identity of its data directory, decided at bootstrap and checked ever after.
 */
#ifndef PO__API_IDENTITY_H
#define PO__API_IDENTITY_H

#include <pipeorch/node.h>
#include "../storage/store.h"

/* Bootstrap an empty directory as the options ask, or check that they fit the one that is there.
 * advertise: this node's peer address ("" without peers). 0, PO_ENOTBOOTSTRAPPED, PO_EIDENTITY,
 * PO_EINVAL, or the store's error; error says why. */
int po__identity_settle(struct po__identity *id, struct po__store *store,
                        const struct po_node_opts *opts, const char *advertise, char *error,
                        size_t error_len);

#endif
