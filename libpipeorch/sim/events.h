/* What will happen, ordered by virtual time: a binary heap. Events of one instant come in the order
 * in which they were made, so a run is a function of its seed. */
#ifndef PO__SIM_EVENTS_H
#define PO__SIM_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct po__event {
    uint64_t us;     /* when */
    uint64_t number; /* of its making; set by push */
    int kind;
    unsigned who;   /* an index of the kind's own meaning */
    uint64_t stamp; /* incarnation or generation of `who`: a later one makes the event void */
    uint64_t value;
    void *data; /* owned by whoever pops the event */
};

struct po__events {
    struct po__event *heap;
    size_t count, cap;
    uint64_t made;
};

void po__events_push(struct po__events *q, struct po__event e);
struct po__event po__events_pop(struct po__events *q); /* the next; there is one */
static inline uint64_t po__events_next_us(const struct po__events *q)
{
    return q->count ? q->heap[0].us : UINT64_MAX;
}
void po__events_fini(struct po__events *q); /* `data` of what is left is the caller's business */

/* Memory of the simulator itself: not counted, never failing under the hook of base/alloc.h (which
 * is there to starve the nodes, not the world around them). Out of memory aborts. */
void *po__sim_alloc(size_t bytes); /* zeroed */
void *po__sim_grow(void *p, size_t bytes);

#endif
