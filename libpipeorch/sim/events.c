#include "events.h"

#include <stdbool.h>
#include <stdlib.h>

#include "../base/assert.h"

void *po__sim_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    PO_INVARIANT(p != NULL);
    return p;
}

void *po__sim_grow(void *p, size_t bytes)
{
    void *q = realloc(p, bytes);
    PO_INVARIANT(q != NULL);
    return q;
}

static bool before(const struct po__event *a, const struct po__event *b)
{
    return a->us != b->us ? a->us < b->us : a->number < b->number;
}

void po__events_push(struct po__events *q, struct po__event e)
{
    if (q->count == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 256;
        q->heap = po__sim_grow(q->heap, q->cap * sizeof *q->heap);
    }
    e.number = q->made++;
    size_t i = q->count++;
    for (size_t up; i > 0 && before(&e, &q->heap[up = (i - 1) / 2]); i = up)
        q->heap[i] = q->heap[up];
    q->heap[i] = e;
}

struct po__event po__events_pop(struct po__events *q)
{
    PO_PRE(q->count > 0);
    struct po__event top = q->heap[0], e = q->heap[--q->count];
    size_t i = 0, down;
    while ((down = 2 * i + 1) < q->count) {
        if (down + 1 < q->count && before(&q->heap[down + 1], &q->heap[down]))
            down++;
        if (!before(&q->heap[down], &e))
            break;
        q->heap[i] = q->heap[down];
        i = down;
    }
    q->heap[i] = e;
    return top;
}

void po__events_fini(struct po__events *q)
{
    free(q->heap);
    *q = (struct po__events){0};
}
