/* Queries about pipelines and their runs. */
#include "query.h"

int po__query_pipelines(const struct po__model *m, const struct po__query *q, struct po__buf *b)
{
    struct po__page p;
    po__page_begin(&p, q);
    for (const struct po__def *d = po__pipeline_after(m, q->name); d;
         d = po__pipeline_after(m, d->name)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_name = d->name;
        p.count++;
        if (d->graph) {
            po__put_graph_head(&p.items, d);
            continue;
        }
        po__mpw_map(&p.items, 4);
        po__kv_time(&p.items, "defined_ms", d->defined_ms);
        po__kv_text(&p.items, "name", d->name);
        po__kv_text(&p.items, "start_node", d->start_node);
        po__kv_uint(&p.items, "steps_count", d->steps_count);
    }
    po__mpw_map(b, 2);
    po__page_next_name(&p, b);
    po__page_items(&p, b, "pipelines");
    return 0;
}

int po__query_pipeline(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                       const char **message)
{
    const struct po__def *d = po__pipeline_find(m, q->name);
    if (!d) {
        *message = "no such pipeline is defined";
        return PO_ENOTFOUND;
    }
    if (d->graph) {
        po__put_graph(b, d);
        return 0;
    }
    po__mpw_map(b, 4);
    po__kv_time(b, "defined_ms", d->defined_ms);
    po__kv_text(b, "name", d->name);
    po__kv_text(b, "start_node", d->start_node);
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, d->steps_count);
    for (uint32_t i = 0; i < d->steps_count; i++) {
        const struct po__step *s = &d->chain[i];
        po__mpw_map(b, 6);
        po__kv_uint(b, "attempts_max",
                    s->attempts_max ? s->attempts_max : PO__TASK_ATTEMPTS_DEFAULT);
        po__kv_text(b, "capability", s->capability);
        po__kv_text(b, "config", s->config);
        po__kv_text(b, "name", s->name);
        po__kv_text(b, "next_node", s->next_node);
        po__kv_uint(b, "timeout_ms", s->timeout_ms ? s->timeout_ms : PO__TASK_TIMEOUT_DEFAULT_MS);
    }
    return 0;
}

/* A step that is under way is described by its task, one that is over by its record, one to come by
 * its definition. */
static struct po__step_run step_now(const struct po__model *m, const struct po__run *r, uint32_t i)
{
    struct po__step_run s = {0};
    if (i < r->started_count)
        s = r->steps[i];
    const struct po__task *t = s.task_id && !s.finished_ms ? po__task_find(m, s.task_id) : NULL;
    if (t) {
        s.state = t->state;
        s.attempts = t->attempt;
        s.started_ms = t->granted_ms;
        s.origin = t->origin;
        s.error = t->error;
    }
    return s;
}

void po__put_chain_steps(const struct po__model *m, const struct po__run *r, struct po__buf *b)
{
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, r->def->steps_count);
    for (uint32_t i = 0; i < r->def->steps_count; i++) {
        struct po__step_run s = step_now(m, r, i);
        po__mpw_map(b, 10);
        po__kv_uint(b, "attempts", s.attempts);
        po__kv_text(b, "capability", r->def->chain[i].capability);
        po__kv_text(b, "error", s.error);
        po__kv_time(b, "finished_ms", s.finished_ms);
        po__kv_text(b, "name", r->def->chain[i].name);
        po__kv_time(b, "started_ms", s.started_ms);
        po__kv_word(b, "state", po__task_word(s.state));
        po__kv_time(b, "task_id", s.task_id);
        po__kv_text(b, "worker_id", s.origin ? s.origin->id : po__slice(NULL, 0));
        po__kv_text(b, "zone", s.origin ? s.origin->zone : po__slice(NULL, 0));
    }
}

static void put_run(const struct po__model *m, const struct po__run *r, struct po__buf *b,
                    bool whole)
{
    po__mpw_map(b, 7 + (whole ? 3 : 0));
    po__kv_text(b, "error", r->error);
    po__kv_time(b, "finished_ms", r->finished_ms);
    po__kv_uint(b, "id", r->id);
    if (whole)
        po__kv_text(b, "params", r->params);
    po__kv_text(b, "pipeline", r->def->name);
    if (whole)
        po__kv_text(b, "result", po__run_result(m, r));
    po__kv_time(b, "started_ms", r->started_ms);
    po__kv_word(b, "state", po__run_word(r->state));
    if (whole)
        po__put_chain_steps(m, r, b);
    po__kv_text(b, "zone", r->zone);
}

int po__query_run(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                  const char **message)
{
    const struct po__run *r = po__run_find(m, q->id);
    if (!r) {
        *message = "no such run; it never existed, or it was finished long ago and forgotten";
        return PO_ENOTFOUND;
    }
    if (r->more)
        return po__query_run_more(m, q, r, b, message);
    put_run(m, r, b, true);
    return 0;
}

/* 0: any state; UINT32_MAX: no such state. */
static uint32_t state_named(struct po__slice word)
{
    if (word.len == 0)
        return 0;
    for (uint32_t s = PO_RUN_RUNNING; s <= PO_RUN_CANCELLED; s++)
        if (po__slice_eq(word, po__str(po__run_word(s))))
            return s;
    return UINT32_MAX;
}

/* name: only of this pipeline; name2: only in this state. */
int po__query_runs(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                   const char **message)
{
    struct po__page p;
    uint32_t state = state_named(q->name2);
    if (state == UINT32_MAX) {
        *message = "unknown state of runs; expected running, succeeded, failed or cancelled";
        return PO_EINVAL;
    }
    po__page_begin(&p, q);
    for (const struct po__run *r = po__run_after(m, q->id); r; r = po__run_after(m, r->id)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_id = r->id;
        if ((q->name.len && !po__slice_eq(q->name, r->def->name)) || (state && r->state != state))
            continue;
        if (r->more)
            po__put_run_line(m, r, &p.items);
        else
            put_run(m, r, &p.items, false);
        p.count++;
    }
    po__mpw_map(b, 2);
    po__page_next_id(&p, b);
    po__page_items(&p, b, "runs");
    return 0;
}
