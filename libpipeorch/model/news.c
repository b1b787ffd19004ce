/* Events for those who watch: one function per sort of object.
 *
 * They are told through po__effects.event while the command is applied, at the place where it
 * happens, with texts that point into the state: nothing is copied for nobody, and an event is
 * complete although its object may be gone when the command ends. They are derived from the entry
 * alone, so every node derives the same ones in the same order, and they are no part of the state.
 */
#include "impl.h"

static bool watched(const struct po__model *m)
{
    return m->fx && m->fx->event;
}

static void tell(struct po__model *m, const struct po__news *e)
{
    m->fx->event(m->fx->event_arg, e);
}

/* The beginning of an error text, of whole characters. */
static struct po__slice beginning(struct po__slice text)
{
    size_t len = text.len;
    if (len > PO__NEWS_ERROR_MAX_BYTES)
        for (len = PO__NEWS_ERROR_MAX_BYTES; len > 0 && (text.data[len] & 0xc0) == 0x80;)
            len--;
    return po__slice(text.data, len);
}

/* The worker of the attempt that begins or ends, if there was one. */
static struct po__slice worker_of(const struct po__task *t)
{
    return t->origin ? t->origin->id : po__slice(NULL, 0);
}

void po__news_task(struct po__model *m, uint32_t kind, const struct po__task *t)
{
    if (!watched(m))
        return;
    struct po__news e = {.kind = kind,
                         .attempt = t->attempt,
                         .state = t->state,
                         .id = t->id,
                         .run_id = t->run_id,
                         .token = t->token,
                         .worker = worker_of(t),
                         .name = t->capability};
    if (kind == PO_WATCH_TASK_RETRY || kind == PO_WATCH_TASK_FINISHED)
        e.error = beginning(t->error);
    tell(m, &e);
}

void po__news_worker(struct po__model *m, uint32_t kind, const struct po__worker *w)
{
    if (watched(m))
        tell(m, &(struct po__news){.kind = kind,
                                   .state = kind == PO_WATCH_WORKER_GONE ? 0 : w->status,
                                   .worker = w->origin->id});
}

void po__news_node(struct po__model *m, uint32_t kind, uint64_t node_id, uint64_t term)
{
    if (!watched(m))
        return;
    const struct po__member *mb = po__member_find(m, node_id);
    tell(m, &(struct po__news){.kind = kind,
                               .id = node_id,
                               .token = term,
                               .name = mb ? mb->info.name : po__slice(NULL, 0)});
}

void po__news_pipeline(struct po__model *m, struct po__slice name)
{
    if (watched(m))
        tell(m, &(struct po__news){.kind = PO_WATCH_PIPELINE_DEFINED, .name = name});
}

void po__news_run(struct po__model *m, uint32_t kind, const struct po__run *r)
{
    if (watched(m))
        tell(m, &(struct po__news){.kind = kind,
                                   .state = r->state,
                                   .run_id = r->id,
                                   .name = r->def->name,
                                   .error = beginning(r->error)});
}

void po__news_graph_step(struct po__model *m, uint32_t kind, const struct po__run *r, uint32_t step)
{
    static const uint32_t states[] = {[PO__STEP_RUNNING] = PO_TASK_RUNNING,
                                      [PO__STEP_SUCCEEDED] = PO_TASK_SUCCEEDED,
                                      [PO__STEP_FAILED] = PO_TASK_FAILED,
                                      [PO__STEP_SKIPPED] = PO_STEP_SKIPPED,
                                      [PO__STEP_CANCELLED] = PO_TASK_CANCELLED};
    if (!watched(m))
        return;
    const struct po__graph_step *d = &r->def->graph->nodes[step].step;
    const struct po__step_state *s = &r->more->steps[step];
    struct po__news e = {.kind = kind,
                         .attempt = s->attempts,
                         .state = states[s->state],
                         .id = d->capability.len ? s->id : 0,
                         .run_id = r->id,
                         .worker = s->origin ? s->origin->id : po__slice(NULL, 0),
                         .name = r->def->name,
                         .step = d->name,
                         .error = beginning(s->error)};
    tell(m, &e);
}

void po__news_step(struct po__model *m, uint32_t kind, const struct po__run *r,
                   struct po__slice step, const struct po__task *t)
{
    if (!watched(m))
        return;
    struct po__news e = {.kind = kind,
                         .attempt = t->attempt,
                         .state = t->state,
                         .id = t->id,
                         .run_id = r->id,
                         .token = t->token,
                         .worker = worker_of(t),
                         .name = r->def->name,
                         .step = step};
    if (kind == PO_WATCH_STEP_FINISHED)
        e.error = beginning(t->error);
    tell(m, &e);
}
