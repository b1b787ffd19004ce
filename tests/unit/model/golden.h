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

static inline int apply_golden(struct po__model *m, struct po__effects *fx)
{
    return apply_entries(m, golden_entries, fx);
}

#endif
