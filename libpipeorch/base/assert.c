#include "assert.h"

#include <stdio.h>
#include <stdlib.h>

/* Kept where a core dump shows it; the library prints nothing. */
static char last_failure[512];
const char *po__assert_failure = last_failure;

void po__assert_fail(const char *kind, const char *expr, const char *file, int line)
{
    snprintf(last_failure, sizeof last_failure, "%s:%d: %s failed: %s", file, line, kind, expr);
    abort();
}
