/* Structs of the caller that are filled in: they begin with their size, and may be of an older,
 * shorter version than ours. */
#ifndef PO__OUT_H
#define PO__OUT_H

#include <stdbool.h>
#include <stddef.h>

/* Is there one, with its size set? 0 or PO_EINVAL with a sentence; `what` names the struct. */
int po__out_check(const void *to, const char *what);

/* Copies as much as the caller knows; his size stays. */
void po__out_write(void *to, const void *from, size_t from_size);

/* An array of them, of which the first says the size of all, filled from the front. */
struct po__rows {
    char *first;
    size_t size, max;
    size_t *count;
};

/* 0 with *count 0; or PO_EINVAL with a sentence. */
int po__rows_begin(struct po__rows *rows, void *first, size_t max, size_t *count, const char *what);
void po__rows_add(struct po__rows *rows, const void *row, size_t row_size);

static inline bool po__rows_full(const struct po__rows *rows)
{
    return *rows->count == rows->max;
}

#endif
