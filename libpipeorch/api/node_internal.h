/* What other files of api/ do with a node beyond the public interface. */
#ifndef PO__API_NODE_INTERNAL_H
#define PO__API_NODE_INTERNAL_H

#include <pipeorch/node.h>

struct po__node;
struct po__peers;

struct po__node *po__api_node_core(po_node *node);
struct po__peers *po__api_node_peers(po_node *node); /* on its thread, or inside po__node_visit;
                                                        NULL: none */
void po__api_node_end(po_node *node);                /* as po__node_end */
int po__api_node_finish_only(po_node *node, const char *why); /* as po__node_finish_only */

#endif
