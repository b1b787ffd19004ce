/* How runs begin, of chains and of graphs, whoever asks: a command, a tick of a schedule, a step of
 * another run; and the commands about runs. */
#include "impl.h"

#include <inttypes.h>

bool po__runs_full(struct po__model *m)
{
    if (m->runs_active >= PO__RUNS_ACTIVE_MAX)
        po__refuse(m, PO_EQUOTA,
                   "%d runs are under way, which is the limit; retry when some are done",
                   PO__RUNS_ACTIVE_MAX);
    else if (m->runs_bytes >= PO__RUNS_MAX_BYTES)
        po__refuse(m, PO_EQUOTA,
                   "the runs that are under way keep %" PRIu64 " bytes of params and outputs, the "
                   "limit is %" PRIu64 "; retry when some are done",
                   m->runs_bytes, PO__RUNS_MAX_BYTES);
    else
        return false;
    return true;
}

/* What a run of that definition has for params: those of a chain are handed through, those of a
 * graph are declared. False: refused, or no memory. */
static bool fit_params(struct po__model *m, const struct po__def *def, struct po__slice *params)
{
    struct po__buf *b = &m->params;
    char why[PO__MESSAGE_MAX_BYTES - 64];
    if (!def->graph)
        return true;
    po__buf_reset(b);
    b->max_bytes = PO_PAYLOAD_MAX_BYTES;
    int rv = po__params_fill(b, def->graph->declared, def->graph->params_count, *params, why,
                             sizeof why);
    if (rv == PO_ENOMEM)
        po__oom(m);
    else if (rv == PO_ETOOBIG)
        po__refuse(m, rv, "the params with their defaults have more than %d bytes",
                   PO_PAYLOAD_MAX_BYTES);
    else if (rv)
        po__refuse(m, rv, "%s", why);
    *params = po__buf_slice(b);
    return rv == 0;
}

void po__run_enter(struct po__model *m, struct po__run *r)
{
    r->id = m->next_run++;
    r->started_ms = m->now_ms;
    PO_INVARIANT(po__run_link(m, r));
}

struct po__run *po__run_begin(struct po__model *m, const struct po__run_spec *given)
{
    struct po__run_spec spec = *given;
    if (po__runs_full(m) || !fit_params(m, spec.def, &spec.params))
        return NULL;
    struct po__run *r = po__run_new(m, &spec);
    if (!r)
        return NULL;
    if (spec.def->graph) {
        po__run_enter(m, r);
        po__graph_start(m, r);
        return r;
    }
    r->id = m->next_run; /* its first task names it */
    if (!po__run_go_on(m, r, NULL)) {
        po__run_free(m, r);
        return NULL;
    }
    po__run_enter(m, r);
    return r;
}

/* ---- commands ---- */

/* The run that a repeated start means; NULL: it is none. */
static struct po__run *repeated(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__slice params = cmd->run_start.params.len ? cmd->run_start.params : po__str("null");
    struct po__run *r = po__run_keyed(m, cmd->run_start.key);
    if (!r)
        return NULL;
    m->result.id = r->id;
    bool same = po__slice_eq(r->def->name, cmd->run_start.pipeline) &&
                !(r->more && r->more->resumed_from) && fit_params(m, r->def, &params) &&
                po__slice_eq(r->params, params);
    if (!same && !m->err)
        po__refuse(m, PO_EEXISTS,
                   "the idempotency key belongs to run %" PRIu64
                   " of another pipeline or with other params",
                   r->id);
    return r;
}

void po__run_start(struct po__model *m, const struct po__cmd *cmd, uint64_t scheduled_ms)
{
    struct po__slice name = cmd->run_start.pipeline;
    const struct po__run_spec spec = {
        .def = po__pipeline_find(m, name),
        .params = cmd->run_start.params,
        .zone = cmd->run_start.zone,
        .key = cmd->run_start.key,
        .priority = cmd->run_start.priority,
        .scheduled_ms = scheduled_ms,
    };
    if (repeated(m, cmd))
        return;
    if (!spec.def) {
        po__refuse(m, PO_ENOTFOUND, "no pipeline \"%.*s\" is defined", (int)name.len, name.data);
        return;
    }
    struct po__run *r = po__run_begin(m, &spec);
    if (r)
        m->result.id = r->id;
}

void po__cmd_run_start(struct po__model *m, const struct po__cmd *cmd)
{
    po__run_start(m, cmd, 0);
}

/* One that is running. */
void po__run_cancel(struct po__model *m, struct po__run *r, struct po__slice why)
{
    if (r->def->graph) {
        po__touch_run(m, r);
        po__graph_end(m, r, PO_RUN_CANCELLED, why);
        return;
    }
    struct po__task *t = po__task_find(m, r->steps[r->started_count - 1].task_id);
    PO_INVARIANT(t);
    po__task_cancel(m, t); /* which cancels its run */
}

void po__cmd_run_cancel(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__run *r = po__run_find(m, cmd->run_cancel.run_id);
    m->result.id = cmd->run_cancel.run_id;
    if (!r)
        po__refuse(m, PO_ENOTFOUND, "no run %" PRIu64 " is known", cmd->run_cancel.run_id);
    else if (r->state == PO_RUN_RUNNING)
        po__run_cancel(m, r, po__slice(NULL, 0));
    else if (r->state != PO_RUN_CANCELLED) /* a repeated cancel is answered 0 */
        po__refuse(m, PO_ESTATE, "run %" PRIu64 " is finished already", r->id);
}

bool po__model_run_key_known(const struct po__model *m, struct po__slice key)
{
    return po__run_keyed(m, key) != NULL;
}
