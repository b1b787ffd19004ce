#include "out.h"

#include <string.h>

#include "call.h"

static size_t size_of(const void *to)
{
    size_t size = 0;
    if (to)
        memcpy(&size, to, sizeof size);
    return size;
}

int po__out_check(const void *to, const char *what)
{
    return size_of(to) >= sizeof(size_t)
               ? 0
               : po__client_fail(PO_EINVAL,
                                 "%s is NULL or its size is not set; set it to sizeof(struct %s)",
                                 what, what);
}

void po__out_write(void *to, const void *from, size_t from_size)
{
    size_t size = size_of(to);
    memcpy((char *)to + sizeof size, (const char *)from + sizeof size,
           (size < from_size ? size : from_size) - sizeof size);
}

int po__rows_begin(struct po__rows *rows, void *first, size_t max, size_t *count, const char *what)
{
    int rv = po__out_check(first, what);
    if (rv)
        return rv;
    if (!count || max < 1)
        return po__client_fail(PO_EINVAL,
                               "the place for the number of struct %s is NULL, or at most 0 are "
                               "asked for",
                               what);
    *rows = (struct po__rows){.first = first, .size = size_of(first), .max = max, .count = count};
    *count = 0;
    return 0;
}

void po__rows_add(struct po__rows *rows, const void *row, size_t row_size)
{
    char *to = rows->first + (*rows->count)++ * rows->size;
    memcpy(to, &rows->size, sizeof rows->size);
    po__out_write(to, row, row_size);
}
