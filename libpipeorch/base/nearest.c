#include "nearest.h"

#include <stddef.h>
#include <string.h>

#define NAME_MAX_BYTES 64 /* of the names compared; a longer one is near to nothing */

/* Case and the choice between '-' and '_' are the commonest slips and cost nothing. */
static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return c == '-' ? '_' : c;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edit distance with neighbours swapped as one edit (optimal string alignment). */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb)
{
    unsigned rows[3][NAME_MAX_BYTES + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];
    for (unsigned j = 0; j <= nb; j++)
        last[j] = j;
    for (unsigned i = 1; i <= na; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= nb; j++) {
            unsigned differs = fold(a[i - 1]) != fold(b[j - 1]);
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + differs);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]) && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        unsigned *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[nb];
}

/* The only name that `wrong` begins (three letters at least): an abbreviation. */
static const char *abbreviated(const char *wrong, const char *const *names, unsigned count)
{
    const char *found = NULL;
    size_t len = strlen(wrong);
    for (unsigned i = 0; len >= 3 && i < count; i++) {
        size_t n = 0;
        while (n < len && fold(names[i][n]) == fold(wrong[n]))
            n++;
        if (n < len)
            continue;
        if (found)
            return NULL;
        found = names[i];
    }
    return found;
}

const char *po__nearest(const char *wrong, const char *const *names, unsigned count)
{
    size_t len = strlen(wrong);
    if (len == 0 || len > NAME_MAX_BYTES)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = (unsigned)(len <= 3 ? 1 : len <= 8 ? 2 : 3) + 1;
    for (unsigned i = 0; i < count; i++) {
        size_t n = strlen(names[i]);
        if (n > NAME_MAX_BYTES)
            continue;
        unsigned d = distance(wrong, len, names[i], n);
        if (d < best_distance && d < n) { /* replacing a whole word is no slip */
            best_distance = d;
            best = names[i];
        }
    }
    return best ? best : abbreviated(wrong, names, count);
}
