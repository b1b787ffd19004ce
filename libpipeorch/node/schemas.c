/* JSON schemas of capabilities, enforced at the door of the log.
 *
 * The leader does it before a command is staged, with the registrations that it has applied: what
 * is in the log was allowed when it entered, and applying it needs no schema. A worker checks again
 * what it is handed and what it answers (api/worker_task.c), since registrations change.
 *
 * A completion whose result breaks the schema of the worker's own offer enters the log as a failure
 * of the attempt. Whether it does is decided anew when it is repeated, from the same bytes and the
 * same schema: so a repeat is the repeat of that failure, which is answered 0 as the first one was.
 */
#include "internal.h"

#include <pipeorch/error.h>
#include "../codec/schema.h"

static int check_offered(const struct po__cmd *cmd, const struct po__cap *cap, const char *which,
                         struct po__slice schema, char *message, size_t message_len)
{
    struct po__schema_error e;
    const struct po__slice id = cmd->worker_register.id;
    if (schema.len == 0)
        return 0;
    int rv = po__schema_check(schema, &e);
    if (rv)
        snprintf(message, message_len, "worker %.*s: %s of %.*s, at %s: %s", (int)id.len, id.data,
                 which, (int)cap->name.len, cap->name.data, po__schema_place(&e), e.text);
    return rv;
}

static int check_registration(const struct po__cmd *cmd, char *message, size_t message_len)
{
    int rv = 0;
    for (uint32_t i = 0; i < cmd->worker_register.caps_count && !rv; i++) {
        const struct po__cap *cap = &cmd->worker_register.caps[i];
        rv = check_offered(cmd, cap, "input_schema", cap->input_schema, message, message_len);
        if (!rv)
            rv = check_offered(cmd, cap, "output_schema", cap->output_schema, message, message_len);
    }
    return rv;
}

/* 0, or the code of po__schema_validate with a sentence. An empty value is null. */
static int validate(const struct po__schema_of *of, const char *what, struct po__slice value,
                    char *message, size_t message_len)
{
    struct po__schema_error e;
    int rv = po__schema_validate(of->schema, value.len ? value : po__str("null"), &e);
    if (rv)
        po__schema_say(message, message_len, what, of->capability, of->version, &e);
    return rv;
}

static int check_submission(struct po__node *n, const struct po__cmd *cmd, char *message,
                            size_t message_len)
{
    struct po__extra extra = {0};
    struct po__placement place = {0};
    struct po__schema_of of;
    if (po__model_task_by_key(n->model, cmd->submit.key))
        return 0; /* a repeat starts nothing; it is answered with the task that it has started */
    if (cmd->submit.extra.len) /* checked already, both can be read */
        PO_INVARIANT(!po__extra_decode(cmd->submit.extra, &extra) &&
                     !po__placement_decode(extra.placement, &place));
    if (!po__model_input_schema(n->model, cmd->submit.capability, &place, &of))
        return 0;
    return validate(&of, "input", cmd->submit.input, message, message_len);
}

static int check_completion(struct po__node *n, struct po__cmd *cmd, char *message,
                            size_t message_len)
{
    struct po__schema_of of;
    const uint64_t task_id = cmd->complete.task_id, token = cmd->complete.token;
    const struct po__slice worker_id = cmd->complete.worker_id;
    if (!po__model_output_schema(n->model, task_id, token, worker_id, &of))
        return 0;
    int rv = validate(&of, "output", cmd->complete.result, message, message_len);
    if (rv == 0 || rv == PO_ENOMEM)
        return rv;
    cmd->type = PO__CMD_TASK_FAIL;
    cmd->fail.task_id = task_id;
    cmd->fail.token = token;
    cmd->fail.worker_id = worker_id;
    cmd->fail.error = po__str(message);
    cmd->fail.retryable = rv == PO_EINVAL; /* what is too much to be looked at stays so */
    return 0;
}

int po__schemas_enforce(struct po__node *n, struct po__cmd *cmd, char *message, size_t message_len)
{
    switch (cmd->type) {
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        return check_registration(cmd, message, message_len);
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        return check_submission(n, cmd, message, message_len);
    case PO__CMD_TASK_COMPLETE:
        return check_completion(n, cmd, message, message_len);
    default:
        return 0;
    }
}
