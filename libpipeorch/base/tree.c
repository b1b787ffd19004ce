/* AVL with parent pointers: removal and iteration need no stack and no key, and the worst case
 * stays logarithmic, which a hash table's growth step or a randomised tree would not promise inside
 * apply. */
#include "tree.h"

void po__tree_node_init(struct po__tree_node *n)
{
    *n = (struct po__tree_node){.parent = n};
}

int po__tree_linked(const struct po__tree_node *n)
{
    return n->parent != n;
}

static void replace_child(struct po__tree *t, struct po__tree_node *parent,
                          struct po__tree_node *old, struct po__tree_node *new)
{
    if (!parent)
        t->root = new;
    else if (parent->left == old)
        parent->left = new;
    else
        parent->right = new;
    if (new)
        new->parent = parent;
}

/* The child `up` on the given side takes n's place. Balances are the caller's business. */
static void rotate(struct po__tree *t, struct po__tree_node *n, struct po__tree_node *up)
{
    replace_child(t, n->parent, n, up);
    if (n->left == up) {
        n->left = up->right;
        if (n->left)
            n->left->parent = n;
        up->right = n;
    } else {
        n->right = up->left;
        if (n->right)
            n->right->parent = n;
        up->left = n;
    }
    n->parent = up;
}

/* n's balance is -2 or +2: restore it. Returns the new root of this subtree. */
static struct po__tree_node *rebalance(struct po__tree *t, struct po__tree_node *n)
{
    int side = n->balance > 0 ? 1 : -1;
    struct po__tree_node *c = side > 0 ? n->right : n->left;
    if (c->balance == -side) { /* inner grandchild is the higher: double rotation */
        struct po__tree_node *g = side > 0 ? c->left : c->right;
        rotate(t, c, g);
        rotate(t, n, g);
        n->balance = g->balance == side ? -side : 0;
        c->balance = g->balance == -side ? side : 0;
        g->balance = 0;
        return g;
    }
    rotate(t, n, c);
    if (c->balance == 0) { /* only after a removal */
        n->balance = side;
        c->balance = -side;
    } else {
        n->balance = c->balance = 0;
    }
    return c;
}

struct po__tree_node *po__tree_insert(struct po__tree *t, struct po__tree_node *n, po__tree_cmp cmp)
{
    struct po__tree_node *parent = NULL, **link = &t->root;
    int c = 0;
    while (*link) {
        parent = *link;
        c = cmp(n, parent);
        if (c == 0)
            return parent;
        link = c < 0 ? &parent->left : &parent->right;
    }
    *n = (struct po__tree_node){.parent = parent};
    *link = n;
    t->count++;
    for (struct po__tree_node *child = n; parent; child = parent, parent = parent->parent) {
        parent->balance += parent->left == child ? -1 : 1;
        if (parent->balance == 0)
            break;
        if (parent->balance < -1 || parent->balance > 1) {
            rebalance(t, parent);
            break;
        }
    }
    return NULL;
}

void po__tree_remove(struct po__tree *t, struct po__tree_node *n)
{
    PO_PRE(po__tree_linked(n));
    struct po__tree_node *parent; /* where a subtree became one lower */
    int delta;                    /* what that adds to its balance */
    if (n->left && n->right) {
        struct po__tree_node *s = n->right;
        while (s->left)
            s = s->left;
        if (s->parent == n) {
            parent = s;
            delta = -1;
        } else {
            parent = s->parent;
            delta = 1;
            replace_child(t, parent, s, s->right);
            s->right = n->right;
            s->right->parent = s;
        }
        s->left = n->left;
        s->left->parent = s;
        s->balance = n->balance;
        replace_child(t, n->parent, n, s);
    } else {
        struct po__tree_node *child = n->left ? n->left : n->right;
        parent = n->parent;
        delta = parent && parent->left == n ? 1 : -1;
        replace_child(t, parent, n, child);
    }
    po__tree_node_init(n);
    t->count--;
    while (parent) {
        parent->balance += delta;
        if (parent->balance == 1 || parent->balance == -1)
            break;
        if (parent->balance != 0) {
            parent = rebalance(t, parent);
            if (parent->balance != 0)
                break;
        }
        struct po__tree_node *up = parent->parent;
        delta = up && up->left == parent ? 1 : -1;
        parent = up;
    }
}

struct po__tree_node *po__tree_find(const struct po__tree *t, const void *key, po__tree_key_cmp cmp)
{
    struct po__tree_node *n = t->root;
    while (n) {
        int c = cmp(key, n);
        if (c == 0)
            return n;
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

struct po__tree_node *po__tree_lower_bound(const struct po__tree *t, const void *key,
                                           po__tree_key_cmp cmp)
{
    struct po__tree_node *n = t->root, *best = NULL;
    while (n) {
        if (cmp(key, n) <= 0) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return best;
}

struct po__tree_node *po__tree_first(const struct po__tree *t)
{
    struct po__tree_node *n = t->root;
    while (n && n->left)
        n = n->left;
    return n;
}

struct po__tree_node *po__tree_last(const struct po__tree *t)
{
    struct po__tree_node *n = t->root;
    while (n && n->right)
        n = n->right;
    return n;
}

struct po__tree_node *po__tree_next(const struct po__tree_node *n)
{
    if (n->right) {
        struct po__tree_node *m = n->right;
        while (m->left)
            m = m->left;
        return m;
    }
    struct po__tree_node *up = n->parent;
    while (up && up->right == n) {
        n = up;
        up = up->parent;
    }
    return up;
}

struct po__tree_node *po__tree_prev(const struct po__tree_node *n)
{
    if (n->left) {
        struct po__tree_node *m = n->left;
        while (m->right)
            m = m->right;
        return m;
    }
    struct po__tree_node *up = n->parent;
    while (up && up->left == n) {
        n = up;
        up = up->parent;
    }
    return up;
}
