/* Intrusive ordered map (AVL tree).
 *
 * Nodes live inside the objects; inserting and removing allocate nothing and cannot fail. Iteration
 * is in key order, which is what makes replicated state deterministic. All operations are O(log n).
 * Not thread-safe. */
#ifndef PO__TREE_H
#define PO__TREE_H

#include <stddef.h>
#include <stdint.h>
#include "assert.h"

struct po__tree_node {
    struct po__tree_node *left;
    struct po__tree_node *right;
    struct po__tree_node *parent; /* self when not in a tree, NULL at the root */
    int balance;                  /* height(right) - height(left), -1..1 */
};

/* Order of two nodes: <0, 0, >0. */
typedef int (*po__tree_cmp)(const struct po__tree_node *a, const struct po__tree_node *b);
/* Order of a key and a node: <0 if the key is before the node. */
typedef int (*po__tree_key_cmp)(const void *key, const struct po__tree_node *node);

struct po__tree {
    struct po__tree_node *root;
    uint64_t count;
};

void po__tree_node_init(struct po__tree_node *n);
int po__tree_linked(const struct po__tree_node *n); /* 1 if the node is in a tree */

/* Returns NULL, or the node with an equal key that is already there (nothing is inserted then). */
struct po__tree_node *po__tree_insert(struct po__tree *t, struct po__tree_node *n,
                                      po__tree_cmp cmp);
void po__tree_remove(struct po__tree *t, struct po__tree_node *n); /* n must be in t */

struct po__tree_node *po__tree_find(const struct po__tree *t, const void *key,
                                    po__tree_key_cmp cmp);
/* The first node whose key is not before `key`; NULL if none. */
struct po__tree_node *po__tree_lower_bound(const struct po__tree *t, const void *key,
                                           po__tree_key_cmp cmp);
struct po__tree_node *po__tree_first(const struct po__tree *t);
struct po__tree_node *po__tree_last(const struct po__tree *t);
struct po__tree_node *po__tree_next(const struct po__tree_node *n);
struct po__tree_node *po__tree_prev(const struct po__tree_node *n);

#endif
