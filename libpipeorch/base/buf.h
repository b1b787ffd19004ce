/* A growable byte buffer with an upper bound.
 *
 * Appending beyond `max_bytes` or out of memory sets a sticky error and leaves the content as it
 * was; check `err` once after a run of appends. Zeroed memory is a valid empty buffer with no bound
 * set (PO__BUF_MAX_BYTES). */
#ifndef PO__BUF_H
#define PO__BUF_H

#include <stdint.h>
#include "slice.h"

#define PO__BUF_MAX_BYTES ((size_t)1 << 30)

struct po__buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max_bytes; /* 0: PO__BUF_MAX_BYTES */
    int err;          /* 0, PO_ENOMEM or PO_ETOOBIG */
};

void po__buf_init(struct po__buf *b, size_t max_bytes);
void po__buf_fini(struct po__buf *b);  /* frees; the buffer is empty and usable again */
void po__buf_reset(struct po__buf *b); /* empties, keeps the memory, clears err */
int po__buf_reserve(struct po__buf *b, size_t extra_bytes);
int po__buf_append(struct po__buf *b, const void *data, size_t len);
int po__buf_printf(struct po__buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline struct po__slice po__buf_slice(const struct po__buf *b)
{
    return po__slice(b->data, b->len);
}

#endif
