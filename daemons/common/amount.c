#include "amount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool amount_read(const char *text, uint64_t *amount)
{
    static const char *const suffixes[] = {"", "KiB", "MiB", "GiB", "TiB"};
    char *end;
    if (text[0] < '0' || text[0] > '9') /* strtoull would take signs and spaces */
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno)
        return false;
    for (unsigned i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (strcmp(end, suffixes[i]) != 0)
            continue;
        *amount = v << (10 * i);
        return *amount >> (10 * i) == v;
    }
    return false;
}
