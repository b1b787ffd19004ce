/* The variables that po-workerd sets for the command of a task. Every program knows them: a task
 * may call poctl. */
#ifndef PO_DAEMONS_TASK_ENV_H
#define PO_DAEMONS_TASK_ENV_H

#define TASK_ENV(X)                                                                                \
    X(TASK_ID, "PO_TASK_ID")                                                                       \
    X(ATTEMPT, "PO_ATTEMPT")                                                                       \
    X(FENCING_TOKEN, "PO_FENCING_TOKEN")                                                           \
    X(CAPABILITY, "PO_CAPABILITY")                                                                 \
    X(WORKER_ID, "PO_WORKER_ID")                                                                   \
    X(PROGRESS_FD, "PO_PROGRESS_FD")                                                               \
    X(CHECKPOINT, "PO_CHECKPOINT")

enum task_env {
#define X(id, name) TASK_ENV_##id,
    TASK_ENV(X)
#undef X
        TASK_ENV_COUNT
};

#endif
