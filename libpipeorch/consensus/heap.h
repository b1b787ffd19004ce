/* Memory for libraft's core: ours, with a reserve.
 *
 * The core swallows failed allocations and then uses what it does not have. So it never sees one
 * fail: when the system has no more memory, it is served from a reserve set aside at start, and
 * every replica of the process stops itself at its next safe point (the end of the step under way)
 * with PO_ENOMEM. The host process lives on.
 *
 * A step of one replica needs a few kilobytes; the reserve serves one step of many replicas, on as
 * many threads. */
#ifndef PO__HEAP_H
#define PO__HEAP_H

#include <stdbool.h>
#include <stddef.h>

#define PO__HEAP_RESERVE_BYTES ((size_t)1 << 20)

/* po__heap_install is declared in replica.h. */
bool po__heap_exhausted(void);       /* the reserve has been touched; stays true */
void po__heap_reset_for_tests(void); /* forget that; only when no replica exists */

#endif
