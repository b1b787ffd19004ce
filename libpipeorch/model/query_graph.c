/* What is answered about pipelines that are graphs, and about runs that have more than those of the
 * first release. The answer about a run is bounded: where all outputs together are too much for one
 * answer they are left out, and each can be asked for by the name of its step. */
#include "query.h"

#define BRIEF_ERROR_MAX_BYTES 128

static struct po__slice none(void)
{
    return po__slice(NULL, 0);
}

/* ---- pipelines ---- */

static void put_param(struct po__buf *b, const struct po__param *p)
{
    po__mpw_map(b, 4);
    po__kv_text(b, "default", p->value);
    po__kv_text(b, "name", p->name);
    po__kv_bool(b, "required", p->required);
    po__kv_word(b, "type", po__param_type_word(p->type));
}

static void put_depends(struct po__buf *b, const struct po__def *d, uint32_t i)
{
    const struct po__graph_node *n = &d->graph->nodes[i];
    po__mpw_cstr(b, "depends_on");
    po__mpw_array(b, n->needs_count);
    for (uint32_t k = 0; k < n->needs_count; k++)
        po__mpw_str(b, d->graph->nodes[n->needs[k]].step.name);
}

static void put_step(struct po__buf *b, const struct po__def *d, uint32_t i)
{
    const struct po__graph_step *s = &d->graph->nodes[i].step;
    struct po__extra extra = {0};
    struct po__placement place = {0};
    bool task = s->capability.len > 0;
    PO_INVARIANT(s->extra.len == 0 || po__extra_decode(s->extra, &extra) == 0);
    PO_INVARIANT(po__placement_decode(extra.placement, &place) == 0);
    po__mpw_map(b, 20);
    po__kv_uint(b, "attempts_max",
                s->attempts_max ? s->attempts_max
                : task          ? PO__TASK_ATTEMPTS_DEFAULT
                                : 1);
    po__kv_bool(b, "cache", s->cache);
    po__kv_time(b, "cache_ms", s->cache_ms);
    po__kv_text(b, "capability", s->capability);
    po__kv_text(b, "concurrency_key", extra.gate);
    po__kv_text(b, "config", s->config);
    put_depends(b, d, i);
    po__kv_text(b, "input", s->input);
    po__kv_word(b, "join", po__join_word(s->join));
    po__kv_text(b, "map", s->map);
    po__kv_time(b, "map_parallel",
                s->map.len == 0   ? 0
                : s->map_parallel ? s->map_parallel
                                  : PO__MAP_PARALLEL);
    po__kv_text(b, "name", s->name);
    po__kv_word(b, "on_failure", po__on_failure_word(s->on_failure));
    po__kv_text(b, "pipeline", s->pipeline);
    po__kv_placement(b, &place);
    po__kv_uint(b, "priority", extra.priority);
    po__kv_time(b, "retry_max_ms", extra.retry_max_ms);
    po__kv_time(b, "retry_ms", extra.retry_ms);
    po__kv_time(b, "timeout_ms",
                s->timeout_ms ? s->timeout_ms
                : task        ? PO__TASK_TIMEOUT_DEFAULT_MS
                              : 0);
    po__kv_text(b, "when", s->when);
}

void po__put_graph_head(struct po__buf *b, const struct po__def *d)
{
    po__mpw_map(b, 6);
    po__kv_time(b, "defined_ms", d->defined_ms);
    po__kv_text(b, "label", d->graph->version);
    po__kv_text(b, "name", d->name);
    po__kv_text(b, "start_node", none());
    po__kv_uint(b, "steps_count", d->steps_count);
    po__kv_uint(b, "version", d->number);
}

void po__put_graph(struct po__buf *b, const struct po__def *d)
{
    const struct po__def_graph *g = d->graph;
    po__mpw_map(b, 8);
    po__kv_time(b, "defined_ms", d->defined_ms);
    po__kv_text(b, "label", g->version);
    po__kv_text(b, "name", d->name);
    po__kv_text(b, "output", g->output);
    po__mpw_cstr(b, "params");
    po__mpw_array(b, g->params_count);
    for (uint32_t i = 0; i < g->params_count; i++)
        put_param(b, &g->declared[i]);
    po__kv_text(b, "start_node", none());
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, d->steps_count);
    for (uint32_t i = 0; i < d->steps_count; i++)
        put_step(b, d, i);
    po__kv_uint(b, "version", d->number);
}

/* ---- runs ---- */

/* How much of a run is shown. */
struct shown {
    const struct po__model *m;
    const struct po__run *r;
    bool brief;    /* without outputs, params and result, and with the starts of errors */
    uint32_t only; /* this step; UINT32_MAX: all */
};

static struct po__slice error_shown(const struct shown *v, struct po__slice error)
{
    return v->brief ? po__utf8_cut(error, BRIEF_ERROR_MAX_BYTES) : error;
}

/* What had not begun when its run ended never will. */
static const char *step_word(const struct po__run *r, uint32_t state)
{
    static const char *const words[] = {NULL,     "waiting", "running",  "succeeded",
                                        "failed", "skipped", "cancelled"};
    if (state == PO__STEP_WAITING && r->state != PO_RUN_RUNNING)
        return "cancelled";
    return words[state];
}

static void put_items(struct po__buf *b, const struct po__step_state *s)
{
    const struct po__map_run *map = s->map;
    po__mpw_cstr(b, "items");
    if (!map && !s->items_total) {
        po__mpw_nil(b);
        return;
    }
    po__mpw_map(b, 4);
    po__kv_uint(b, "failed", map ? map->failed : s->items_failed);
    po__kv_uint(b, "running", map ? map->running : 0);
    po__kv_uint(b, "succeeded", map ? map->succeeded : s->items_succeeded);
    po__kv_uint(b, "total", map ? map->total : s->items_total);
}

/* A step that is under way is described by its task, one that is over by its record. */
static struct po__step_state step_now(const struct shown *v, uint32_t i)
{
    struct po__step_state s = v->r->more->steps[i];
    bool task = v->r->def->graph->nodes[i].step.capability.len > 0;
    const struct po__task *t =
        s.state == PO__STEP_RUNNING && task && s.id ? po__task_find(v->m, s.id) : NULL;
    if (t) {
        s.attempts = t->attempt;
        s.started_ms = t->granted_ms;
        s.origin = t->origin;
        s.error = t->error;
    }
    return s;
}

static void put_graph_step(struct po__buf *b, const struct shown *v, uint32_t i)
{
    const struct po__graph_step *d = &v->r->def->graph->nodes[i].step;
    struct po__step_state s = step_now(v, i);
    bool child = d->pipeline.len > 0;
    po__mpw_map(b, 21);
    po__kv_uint(b, "attempts", s.attempts);
    po__kv_bool(b, "cached", s.cached);
    po__kv_text(b, "capability", d->capability);
    po__kv_time(b, "child_run_id", child ? s.id : 0);
    put_depends(b, v->r->def, i);
    po__kv_text(b, "error", error_shown(v, s.error));
    po__kv_time(b, "finished_ms", s.finished_ms);
    put_items(b, &s);
    po__kv_word(b, "join", po__join_word(d->join));
    po__kv_text(b, "map", d->map);
    po__kv_text(b, "name", d->name);
    po__kv_text(b, "output", v->brief ? none() : s.output);
    po__kv_uint(b, "output_bytes", s.output.len);
    po__kv_text(b, "pipeline", d->pipeline);
    po__kv_bool(b, "reused", s.reused);
    po__kv_time(b, "started_ms", s.started_ms);
    po__kv_word(b, "state", step_word(v->r, s.state));
    po__kv_time(b, "task_id", child ? 0 : s.id);
    po__kv_text(b, "when", d->when);
    po__kv_text(b, "worker_id", s.origin ? s.origin->id : none());
    po__kv_text(b, "zone", s.origin ? s.origin->zone : none());
}

static void put_steps(struct po__buf *b, const struct shown *v)
{
    uint32_t n = v->r->def->steps_count;
    if (!v->r->def->graph) {
        po__put_chain_steps(v->m, v->r, b);
        return;
    }
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, v->only == UINT32_MAX ? n : 1);
    for (uint32_t i = 0; i < n; i++)
        if (v->only == UINT32_MAX || v->only == i)
            put_graph_step(b, v, i);
}

static void put_run(struct po__buf *b, const struct shown *v, bool whole)
{
    const struct po__run *r = v->r;
    bool with_texts = !v->brief && v->only == UINT32_MAX;
    po__mpw_map(b, whole ? 17 : 14);
    po__kv_text(b, "error", error_shown(v, r->error));
    po__kv_time(b, "finished_ms", r->finished_ms);
    po__kv_uint(b, "id", r->id);
    po__kv_text(b, "key", po__utf8_ok(r->key) ? r->key : none());
    po__kv_text(b, "label", r->def->graph ? r->def->graph->version : none());
    if (whole)
        po__kv_text(b, "params", with_texts ? r->params : none());
    po__kv_time(b, "parent_run_id", r->more->parent);
    po__kv_text(b, "pipeline", r->def->name);
    po__kv_uint(b, "priority", r->more->priority);
    if (whole)
        po__kv_text(b, "result", with_texts ? po__run_result(v->m, r) : none());
    po__kv_time(b, "resumed_from", r->more->resumed_from);
    po__kv_time(b, "scheduled_ms", r->more->scheduled_ms);
    po__kv_time(b, "started_ms", r->started_ms);
    po__kv_word(b, "state", po__run_word(r->state));
    if (whole)
        put_steps(b, v);
    po__kv_uint(b, "version", r->def->number);
    po__kv_text(b, "zone", r->zone);
}

void po__put_run_line(const struct po__model *m, const struct po__run *r, struct po__buf *b)
{
    put_run(b, &(struct shown){.m = m, .r = r, .only = UINT32_MAX}, false);
}

int po__query_run_more(const struct po__model *m, const struct po__query *q,
                       const struct po__run *r, struct po__buf *b, const char **message)
{
    struct shown v = {.m = m, .r = r, .only = UINT32_MAX};
    size_t from = b->len;
    if (q->name.len && r->def->graph) {
        v.only = po__named_find(r->def->graph->by_name, r->def->steps_count, q->name);
        if (v.only == UINT32_MAX) {
            *message = "the run has no step of that name";
            return PO_ENOTFOUND;
        }
    }
    put_run(b, &v, true);
    if (b->err || b->len - from <= PO__QUERY_RUN_MAX_BYTES)
        return 0;
    b->len = from;
    v.brief = true;
    put_run(b, &v, true);
    return 0;
}
