#include "alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Counts down to the allocation that a test wants to fail; 0 when no test runs. */
static atomic_uint_fast64_t fail_at;
static atomic_uint_fast64_t counted;

static int must_fail(void)
{
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) == 0)
        return 0;
    uint64_t n = atomic_fetch_add(&counted, 1) + 1;
    return n == atomic_load(&fail_at);
}

void po__alloc_fail_at(uint64_t n)
{
    atomic_store(&counted, 0);
    atomic_store(&fail_at, n);
}

uint64_t po__alloc_count(void)
{
    return atomic_load(&counted);
}

void *po__malloc(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *po__calloc(size_t count, size_t size)
{
    /* Checked here, not left to calloc: sanitizers abort the process there instead of returning
     * NULL. */
    if (size && count > SIZE_MAX / size)
        return NULL;
    return must_fail() ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *po__realloc(void *ptr, size_t size)
{
    return must_fail() ? NULL : realloc(ptr, size ? size : 1);
}

void po__free(void *ptr)
{
    free(ptr);
}

void *po__memdup(const void *src, size_t len)
{
    void *p = po__malloc(len);
    if (p && len)
        memcpy(p, src, len);
    return p;
}

char *po__strndup(const char *src, size_t len)
{
    char *p = po__malloc(len + 1);
    if (!p)
        return NULL;
    if (len)
        memcpy(p, src, len);
    p[len] = '\0';
    return p;
}
