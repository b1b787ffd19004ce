/* What other files of api/ do with a node beyond the public interface. */
#ifndef PO__API_NODE_INTERNAL_H
#define PO__API_NODE_INTERNAL_H

#include <pipeorch/node.h>

void po__api_node_end(po_node *node);                         /* as po__node_end */
int po__api_node_finish_only(po_node *node, const char *why); /* as po__node_finish_only */

#endif
