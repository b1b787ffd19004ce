#include "buf.h"

#include <stdarg.h>
#include <stdio.h>

#include <pipeorch/error.h>
#include "alloc.h"

void po__buf_init(struct po__buf *b, size_t max_bytes)
{
    *b = (struct po__buf){.max_bytes = max_bytes};
}

void po__buf_fini(struct po__buf *b)
{
    po__free(b->data);
    *b = (struct po__buf){.max_bytes = b->max_bytes};
}

void po__buf_reset(struct po__buf *b)
{
    b->len = 0;
    b->err = 0;
}

int po__buf_reserve(struct po__buf *b, size_t extra_bytes)
{
    size_t max = b->max_bytes ? b->max_bytes : PO__BUF_MAX_BYTES;
    if (b->err)
        return b->err;
    if (extra_bytes > max || b->len > max - extra_bytes)
        return b->err = PO_ETOOBIG;
    if (b->cap - b->len >= extra_bytes)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < b->len + extra_bytes)
        cap *= 2;
    uint8_t *data = po__realloc(b->data, cap);
    if (!data)
        return b->err = PO_ENOMEM;
    b->data = data;
    b->cap = cap;
    return 0;
}

int po__buf_append(struct po__buf *b, const void *data, size_t len)
{
    int rv = po__buf_reserve(b, len);
    if (rv)
        return rv;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

int po__buf_printf(struct po__buf *b, const char *fmt, ...)
{
    char small[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0)
        return b->err = PO_EINVAL;
    if ((size_t)n < sizeof small)
        return po__buf_append(b, small, (size_t)n);
    int rv = po__buf_reserve(b, (size_t)n + 1);
    if (rv)
        return rv;
    va_start(ap, fmt);
    vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}
