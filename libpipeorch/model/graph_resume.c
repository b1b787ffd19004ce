/* A new run that takes over what an old one has done. Nothing of the old run changes.
 *
 * Taken over is a step that succeeded or was skipped, that is not the one to begin with, and before
 * which every step is taken over: so nothing is kept that was made from something that will be made
 * anew. */
#include "impl.h"

#include <inttypes.h>

/* ---- graphs ---- */

static bool copy_text(struct po__slice *to, struct po__slice from)
{
    *to = po__slice(from.len ? po__strndup(from.data, from.len) : NULL, from.len);
    return from.len == 0 || to->data;
}

static int take_over(struct po__run *r, uint32_t i, const struct po__step_state *from)
{
    struct po__step_state *s = &r->more->steps[i];
    s->state = from->state;
    s->cached = from->cached;
    s->reused = true;
    s->attempts = from->attempts;
    s->id = from->id;
    s->started_ms = from->started_ms;
    s->finished_ms = from->finished_ms;
    s->items_total = from->items_total;
    s->items_succeeded = from->items_succeeded;
    s->items_failed = from->items_failed;
    s->origin = from->origin;
    if (s->origin)
        s->origin->refs++;
    r->more->bytes += from->output.len + from->error.len;
    bool copied = copy_text(&s->output, from->output);
    return copy_text(&s->error, from->error) && copied ? 0 : PO_ENOMEM;
}

static bool can_take_over(const struct po__run *r, uint32_t i, const struct po__step_state *from)
{
    const struct po__graph_node *n = &r->def->graph->nodes[i];
    if (from->state != PO__STEP_SUCCEEDED && from->state != PO__STEP_SKIPPED)
        return false;
    for (uint32_t k = 0; k < n->needs_count; k++)
        if (!r->more->steps[n->needs[k]].reused)
            return false;
    return true;
}

static struct po__run *resume_graph(struct po__model *m, const struct po__run *old, uint32_t from,
                                    const struct po__run_spec *spec)
{
    struct po__run *r = po__run_new(m, spec);
    int rv = 0;
    if (!r)
        return NULL;
    PO_INVARIANT(r->more && old->more);
    for (uint32_t i = 0; i < r->def->steps_count && !rv; i++)
        if (i != from && can_take_over(r, i, &old->more->steps[i]))
            rv = take_over(r, i, &old->more->steps[i]);
    rv = rv ? rv : po__graph_derive(r);
    if (rv) {
        po__oom(m);
        po__run_free(m, r);
        return NULL;
    }
    po__run_enter(m, r);
    po__graph_start(m, r);
    return r;
}

/* ---- chains ---- */

/* Steps that succeeded before the one to begin with; the outputs of chains are those of their
 * tasks, of which the last one is needed. */
static struct po__run *resume_chain(struct po__model *m, const struct po__run *old, uint32_t from,
                                    const struct po__run_spec *spec)
{
    uint32_t n = 0;
    while (n < old->started_count && n < from && old->steps[n].state == PO_TASK_SUCCEEDED)
        n++;
    const struct po__task *last = n ? po__task_find(m, old->steps[n - 1].task_id) : NULL;
    if (n && !last) {
        po__refuse(m, PO_ENOTFOUND,
                   "the output of step \"%.*s\" of run %" PRIu64
                   " is not kept any more; name the step to run from, or start the pipeline anew",
                   (int)old->def->chain[n - 1].name.len, old->def->chain[n - 1].name.data, old->id);
        return NULL;
    }
    struct po__run *r = po__run_new(m, spec);
    if (!r)
        return NULL;
    for (; r->started_count < n; r->started_count++) {
        struct po__step_run *s = &r->steps[r->started_count];
        *s = old->steps[r->started_count];
        s->error = po__slice(NULL, 0);
        if (s->origin)
            s->origin->refs++;
        if (old->steps[r->started_count].error.len)
            po__run_set_error(m, &s->error, old->steps[r->started_count].error);
    }
    r->more->reused_count = n;
    r->id = m->next_run; /* its next task names it */
    if (m->err || !po__run_go_on(m, r, last)) {
        po__run_free(m, r);
        return NULL;
    }
    po__run_enter(m, r);
    return r;
}

/* ---- the command ---- */

/* The position of the step to begin with; UINT32_MAX: none was named, or (refused) there is none of
 * that name. */
static uint32_t position(struct po__model *m, const struct po__def *d, struct po__slice name)
{
    uint32_t at = UINT32_MAX;
    if (name.len == 0)
        return at;
    if (d->graph)
        at = po__named_find(d->graph->by_name, d->steps_count, name);
    for (uint32_t i = 0; !d->graph && i < d->steps_count && at == UINT32_MAX; i++)
        if (po__slice_eq(d->chain[i].name, name))
            at = i;
    if (at == UINT32_MAX)
        po__refuse(m, PO_EINVAL, "pipeline \"%s\" had no step \"%.*s\" when the run started",
                   d->name.data, (int)name.len, name.data);
    return at;
}

/* The run that is to be resumed; NULL: refused. */
static struct po__run *resumable(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__run *old = po__run_find(m, cmd->run_resume.run_id);
    if (!old)
        po__refuse(m, PO_ENOTFOUND, "no run %" PRIu64 " is known", cmd->run_resume.run_id);
    else if (old->state == PO_RUN_RUNNING)
        po__refuse(m, PO_ESTATE, "run %" PRIu64 " is still running; cancel it first", old->id);
    else if (old->state == PO_RUN_SUCCEEDED && cmd->run_resume.from_step.len == 0)
        po__refuse(m, PO_ESTATE, "run %" PRIu64 " succeeded; name the step to run again from",
                   old->id);
    else if (!po__runs_full(m))
        return old;
    return NULL;
}

static bool repeated(struct po__model *m, const struct po__cmd *cmd)
{
    const struct po__run *r = po__run_keyed(m, cmd->run_resume.key);
    if (!r)
        return false;
    m->result.id = r->id;
    if (!r->more || r->more->resumed_from != cmd->run_resume.run_id)
        po__refuse(m, PO_EEXISTS,
                   "the idempotency key belongs to run %" PRIu64 ", which does not resume run "
                   "%" PRIu64,
                   r->id, cmd->run_resume.run_id);
    return true;
}

void po__cmd_run_resume(struct po__model *m, const struct po__cmd *cmd)
{
    if (repeated(m, cmd))
        return;
    struct po__run *old = resumable(m, cmd);
    if (!old)
        return;
    uint32_t from = position(m, old->def, cmd->run_resume.from_step);
    if (m->result.code)
        return;
    const struct po__run_spec spec = {
        .def = old->def,
        .params = old->params,
        .zone = old->zone,
        .key = cmd->run_resume.key,
        .priority = old->more ? old->more->priority : 0,
        .scheduled_ms = old->more ? old->more->scheduled_ms : 0,
        .resumed_from = old->id,
    };
    struct po__run *r =
        old->def->graph ? resume_graph(m, old, from, &spec) : resume_chain(m, old, from, &spec);
    if (r)
        m->result.id = r->id;
}
