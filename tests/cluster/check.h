/* What the C tests of whole nodes share: a condition that must hold, patience, and tidying up. */
#ifndef CHECK_H
#define CHECK_H

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <stdio.h>
#include <stdlib.h>

/* Conditions are waited for; one that does not come within this time never comes. */
#ifndef GUARD_MS
#define GUARD_MS 60000
#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s (%s)\n", __FILE__, __LINE__, #condition,          \
                    po_client_error());                                                            \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static const struct po_call_opts patient = {.size = sizeof patient, .timeout_ms = GUARD_MS};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void remove_tree(const char *root)
{
    nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
