/* Intrusive doubly linked list. The head is a node; an unlinked node points to itself after
 * po__list_init. */
#ifndef PO__LIST_H
#define PO__LIST_H

#include <stdbool.h>
#include <stddef.h>

struct po__list {
    struct po__list *next;
    struct po__list *prev;
};

static inline void po__list_init(struct po__list *l)
{
    l->next = l->prev = l;
}

static inline bool po__list_empty(const struct po__list *l)
{
    return l->next == l;
}

static inline void po__list_push(struct po__list *head, struct po__list *node) /* at the back */
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void po__list_push_front(struct po__list *head, struct po__list *node)
{
    po__list_push(head->next, node);
}

static inline void po__list_remove(struct po__list *node) /* safe on an unlinked node */
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    po__list_init(node);
}

static inline struct po__list *po__list_first(const struct po__list *head) /* NULL if empty */
{
    return head->next == head ? NULL : head->next;
}

static inline struct po__list *po__list_pop(struct po__list *head) /* NULL if empty */
{
    struct po__list *n = po__list_first(head);
    if (n)
        po__list_remove(n);
    return n;
}

#define po__list_each(it, head) for ((it) = (head)->next; (it) != (head); (it) = (it)->next)

#endif
