/* Log entries and a snapshot as released versions wrote them. Never regenerate a released file; add
 * one per format. */
#ifndef PO__TEST_GOLDEN_H
#define PO__TEST_GOLDEN_H

#include "hex.h"

/* One entry per line, hex. */
static const char golden_entries[] =
#include "golden/v0.1-entries.inc"
    ;
static const char golden_snapshot[] =
#include "golden/v0.1-snapshot.inc"
    ;
#include "golden/v0.1-digest.inc"

/* Of scheduling: what came with version 0.2. */
static const char golden_tasks_entries[] =
#include "golden/v0.2-tasks-entries.inc"
    ;
static const char golden_tasks_snapshot[] =
#include "golden/v0.2-tasks-snapshot.inc"
    ;
#include "golden/v0.2-tasks-digest.inc"

/* Every entry in order. Returns 0, or the first return of po__model_apply that is not. */
static inline int apply_entries(struct po__model *m, const char *entries, struct po__effects *fx)
{
    static struct po__cmd cmd;
    struct po__buf entry = {0};
    struct po__entry_reader er;
    uint64_t index = 0;
    int rv = 0;
    for (const char *at = entries; *at && !rv;) {
        unhex_line(&at, &entry);
        if (entry.err) {
            rv = entry.err;
            break;
        }
        assert_int_equal(po__entry_open(&er, entry.data, entry.len), 0);
        index++;
        while (!rv && po__entry_next(&er, &cmd) == 1)
            rv = po__model_apply(m, index, er.now_ms, &cmd, NULL, fx);
        assert_int_equal(rv ? 0 : po__mpr_end(&er.r), 0);
    }
    po__buf_fini(&entry);
    return rv;
}

static inline int apply_golden(struct po__model *m, struct po__effects *fx)
{
    return apply_entries(m, golden_entries, fx);
}

#endif
