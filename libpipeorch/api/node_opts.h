/* The options of po_node_start: defaults filled in, everything checked before anything is opened.
 */
#ifndef PO__API_NODE_OPTS_H
#define PO__API_NODE_OPTS_H

#include <pipeorch/node.h>

/* Fill in the defaults and check. 0, PO_EINVAL, PO_EADDR or PO_EREFUSED with a sentence in error.
 */
int po__node_opts_check(struct po_node_opts *opts, char *error, size_t error_len);

/* Write the sentence and return the code. */
int po__refuse_start(char *error, size_t error_len, int code, const char *what);

#endif
