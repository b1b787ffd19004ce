#include "heap.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "core.h"

/* In front of every allocation: how long it is, so that realloc can move one into the reserve. */
struct piece {
    alignas(max_align_t) size_t bytes;
};

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *reserve; /* set once, before any replica exists */
static atomic_size_t reserve_used;
static atomic_bool exhausted;

static bool in_reserve(const void *ptr)
{
    return (const uint8_t *)ptr >= reserve &&
           (const uint8_t *)ptr < reserve + PO__HEAP_RESERVE_BYTES;
}

/* Pieces of the reserve are never given back: the process is about to stop its replicas. Beyond its
 * end the choice is between undefined behaviour in the core and an abort; see heap.h on why that is
 * not reached. */
static struct piece *from_reserve(size_t bytes)
{
    size_t align = alignof(max_align_t);

    atomic_store(&exhausted, true);
    PO_INVARIANT(bytes <= PO__HEAP_RESERVE_BYTES);
    bytes = (bytes + align - 1) / align * align;
    size_t at = atomic_fetch_add(&reserve_used, bytes);
    PO_INVARIANT(at + bytes <= PO__HEAP_RESERVE_BYTES);
    return (void *)(reserve + at);
}

static void *heap_malloc(size_t size)
{
    PO_PRE(size < SIZE_MAX / 2);
    struct piece *p = po__malloc(sizeof *p + size);
    if (!p)
        p = from_reserve(sizeof *p + size);
    p->bytes = size;
    return p + 1;
}

static void *heap_calloc(size_t count, size_t size)
{
    PO_PRE(size == 0 || count <= SIZE_MAX / 2 / size);
    return memset(heap_malloc(count * size), 0, count * size);
}

static void heap_free(void *ptr)
{
    if (ptr && !in_reserve(ptr))
        po__free((struct piece *)ptr - 1);
}

static void *heap_realloc(void *ptr, size_t size)
{
    void *p = heap_malloc(size);
    if (ptr) {
        size_t old = ((struct piece *)ptr - 1)->bytes;
        memcpy(p, ptr, old < size ? old : size);
        heap_free(ptr);
    }
    return p;
}

int po__heap_install(void)
{
    static const struct po__heap_functions functions = {heap_malloc, heap_calloc, heap_realloc,
                                                        heap_free};
    int rv = 0;

    pthread_mutex_lock(&install_lock);
    if (!reserve) {
        reserve = po__malloc(PO__HEAP_RESERVE_BYTES);
        if (reserve) {
            memset(reserve, 1, PO__HEAP_RESERVE_BYTES); /* really ours, not merely promised */
            po__core_set_heap(&functions);
        } else {
            rv = PO_ENOMEM;
        }
    }
    pthread_mutex_unlock(&install_lock);
    return rv;
}

bool po__heap_exhausted(void)
{
    return atomic_load(&exhausted);
}

void po__heap_reset_for_tests(void)
{
    atomic_store(&reserve_used, 0);
    atomic_store(&exhausted, false);
}
