/* What a handler is given, and what it gives back, satisfies the schemas that it was offered with.
 *
 * The leader checks, too, but when a task is submitted it may know other versions than that which
 * runs it in the end, and the inputs of pipeline steps are made later. */
#include "../codec/schema.h"
#include "worker_internal.h"

#define VERSION_DEFAULT "1.0.0"

int po__worker_validate(const struct po_task *t, const char *what, const char *schema,
                        struct po__slice value, char *message, size_t message_len)
{
    const struct po_capability *c = &t->offered->capability;
    struct po__schema_error e;
    if (!schema || !*schema)
        return 0;
    int rv = po__schema_validate(po__str(schema), value, &e);
    if (rv)
        po__schema_say(message, message_len, what, po__str(c->name),
                       po__str(c->version ? c->version : VERSION_DEFAULT), &e);
    return rv;
}

bool po__worker_input_allowed(struct po_task *t)
{
    char why[PO__WORKER_SENTENCE_MAX_BYTES];
    int rv = po__worker_validate(t, "input", t->offered->capability.input_schema,
                                 po__slice(t->input, t->input_len), why, sizeof why);
    if (rv == 0)
        return true;
    po__warn(&t->plane->worker->log, "worker.schema", "task %llu: %s", (unsigned long long)t->id,
             why);
    if (po_task_fail(t, why, rv == PO_ENOMEM))
        po__error(&t->plane->worker->log, "worker.schema",
                  "out of memory for the answer of task %llu; its lease will expire",
                  (unsigned long long)t->id);
    return false;
}
