/* A borrowed run of bytes. Does not own; valid as long as what it points into. */
#ifndef PO__SLICE_H
#define PO__SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct po__slice {
    const char *data;
    size_t len;
};

static inline struct po__slice po__slice(const void *data, size_t len)
{
    return (struct po__slice){(const char *)data, len};
}

static inline struct po__slice po__str(const char *s)
{
    return (struct po__slice){s, s ? strlen(s) : 0};
}

/* Byte order, shorter first on a common prefix: the order of every string key in the replicated
 * state. */
static inline int po__slice_cmp(struct po__slice a, struct po__slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.data, b.data, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static inline bool po__slice_eq(struct po__slice a, struct po__slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

#endif
