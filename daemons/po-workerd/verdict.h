/* What the end of a command means for its task. */
#ifndef PO_WORKERD_VERDICT_H
#define PO_WORKERD_VERDICT_H

#include <pipeorch/types.h>
#include "capabilities.h"
#include "runner.h"

enum verdict {
    VERDICT_SUCCEEDED,
    VERDICT_RETRY, /* the attempt failed; another one may succeed */
    VERDICT_FINAL, /* the task failed: trying again would give the same */
};

/* error: empty for success, else UTF-8 that ends with the end of standard error. limit_ms: for
 * the text. */
enum verdict verdict_of(const struct runner_result *result, const struct command *command,
                        uint64_t limit_ms, char error[PO_ERROR_TEXT_MAX_BYTES + 1]);

#endif
