/* What happened: the last events of a run for failure reports, and a hash of all of them.
 *
 * A run adds hundreds of thousands of events and prints almost none. So an entry keeps its format
 * and its numbers, and becomes text only when somebody looks. Strings given to %s must outlive the
 * trace (names, literals). */
#ifndef PO__SIM_TRACE_H
#define PO__SIM_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define PO__TRACE_ENTRIES        200 /* kept */
#define PO__TRACE_VALUES         5   /* numbers of one entry */
#define PO__TRACE_LINE_MAX_BYTES 256

struct po__trace_entry {
    uint64_t us;
    const char *what; /* printf format of %s (the actor's name), then of up to
                         PO__TRACE_VALUES times %llu */
    const char *who;
    uint64_t values[PO__TRACE_VALUES];
};

struct po__trace {
    struct po__trace_entry ring[PO__TRACE_ENTRIES];
    uint64_t count;                            /* ever added */
    uint64_t hash;                             /* of all of them: equal for equal runs */
    void (*echo)(void *arg, const char *line); /* every entry, as it comes; NULL: none */
    void *echo_arg;
};

void po__trace_add(struct po__trace *t, uint64_t us, const char *what, const char *who, uint64_t a,
                   uint64_t b, uint64_t c, uint64_t d, uint64_t e);
/* The entries still kept, oldest first. */
void po__trace_each(const struct po__trace *t, void (*line)(void *arg, const char *line),
                    void *arg);

#endif
