/* The capabilities file: checked as a whole, every problem listed with its place, then kept for the
 * life of the worker. */
#ifndef PO_WORKERD_CAPABILITIES_H
#define PO_WORKERD_CAPABILITIES_H

#include <pipeorch/types.h>
#include "../common/task_env.h"
#include "spec/spec.h"

#define COMMANDS_AT_ONCE_MAX  1024 /* of one worker: the sum of max_concurrency */
#define COMMAND_ARGS_MAX      256  /* program included */
#define COMMAND_ARG_MAX_BYTES 4096
#define COMMAND_ENV_MAX       128 /* variables that a capability sets */
#define FINAL_CODES_MAX       64

struct command {
    struct po_capability capability; /* for po_worker_handle */
    char **argv;
    char **envp; /* what its tasks inherit; the variables of task_env.h are added for each */
    unsigned envp_count;
    char *cwd;
    uint32_t timeout_ms;   /* 0: the task's own */
    bool final_codes[256]; /* exit codes that fail the task at once */
    char *input_schema, *output_schema;
};

struct capabilities {
    json_t *root; /* strings of commands, labels and resources live here */
    struct command *commands;
    unsigned count;
    struct po_label labels[PO_LABELS_MAX];
    unsigned labels_count;
    struct po_resource resources[PO_RESOURCES_MAX];
    unsigned resources_count;
    uint32_t slots; /* tasks at once over all capabilities; 0: only their own limits count */
};

/* Reads and checks `path`; inherited is the environment that commands start from (those of
 * task_env.h are left out). Returns 0, PO_EINVAL (d->problems lists what is wrong), PO_ENOMEM. */
int capabilities_load(struct capabilities *c, struct po__doc *d, const char *path,
                      char **inherited);
void capabilities_fini(struct capabilities *c);

#endif
