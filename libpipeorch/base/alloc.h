/* Allocation with a hook for tests.
 *
 * All layers allocate through these. Sizes are checked by the callers' bounds. NULL means out of
 * memory and is always handled. In tests, po__alloc_fail_at(n) makes the n-th allocation from now
 * fail (1 = the next), 0 switches it off. */
#ifndef PO__ALLOC_H
#define PO__ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *po__malloc(size_t size);
void *po__calloc(size_t count, size_t size); /* overflow-checked */
void *po__realloc(void *ptr, size_t size);
void po__free(void *ptr);
void *po__memdup(const void *src, size_t len); /* len 0 gives a non-NULL pointer */
char *po__strndup(const char *src, size_t len);

/* Tests only; not thread-safe against concurrent allocation. */
void po__alloc_fail_at(uint64_t n);
uint64_t po__alloc_count(void); /* allocations since the last po__alloc_fail_at */

#endif
