/* One attempt of a task: from the task's properties to the command, from its end to the answer. */
#ifndef PO_WORKERD_ATTEMPT_H
#define PO_WORKERD_ATTEMPT_H

#include <pipeorch/worker.h>
#include "capabilities.h"

/* What the handler of a capability is given. */
struct attempt_context {
    const struct command *command;
    const char *worker_id;
};

/* po_task_handler: runs the command and answers the task. arg: struct attempt_context, valid until
 * po_worker_run returned. */
void attempt_handle(void *arg, po_task *task);

/* From now on commands that run are ended and their attempts handed back to the cluster. Any
 * thread. */
void attempt_shut_down(void);

#endif
