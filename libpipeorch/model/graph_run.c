/* The engine of runs that are graphs: see graph_run.h for how a run goes from event to event. */
#include "impl.h"

#include <inttypes.h>
#include <stdio.h>

static struct po__step_state *step_of(const struct po__run *r, uint32_t i)
{
    return &r->more->steps[i];
}

static const struct po__graph_node *node_of(const struct po__run *r, uint32_t i)
{
    return &r->def->graph->nodes[i];
}

/* ---- the list of runs that have something to do ---- */

static struct po__run *todo_run(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__run_more, todo)->run;
}

static int todo_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(todo_run(a)->id, todo_run(b)->id);
}

void po__graph_todo(struct po__model *m, struct po__run *r)
{
    struct po__tree_node *n = &r->more->todo;
    bool work = po__graph_has_work(r);
    if (work && !po__tree_linked(n))
        PO_INVARIANT(!po__tree_insert(&m->runs_todo, n, todo_cmp));
    else if (!work && po__tree_linked(n))
        po__tree_remove(&m->runs_todo, n);
}

void po__graph_start(struct po__model *m, struct po__run *r)
{
    for (uint32_t i = 0; i < r->def->steps_count; i++)
        po__graph_mark(r, i);
    po__graph_todo(m, r);
    po__news_run(m, PO_WATCH_RUN_STARTED, r);
}

/* ---- ends ---- */

void po__graph_end(struct po__model *m, struct po__run *r, uint32_t state, struct po__slice error)
{
    if (r->more->ending)
        return;
    r->more->ending = state;
    if (error.len)
        po__run_set_error(m, &r->error, error);
    po__graph_todo(m, r);
}

void po__graph_end_with_step(struct po__model *m, struct po__run *r, uint32_t step, uint32_t state,
                             struct po__slice why)
{
    char text[PO_NAME_MAX_BYTES + PO__STEP_ERROR_MAX_BYTES + 32];
    struct po__slice name = node_of(r, step)->step.name;
    why = po__utf8_cut(why, PO__STEP_ERROR_MAX_BYTES);
    snprintf(text, sizeof text, "step \"%.*s\": %.*s", (int)name.len, name.data, (int)why.len,
             why.data);
    po__graph_end(m, r, state, po__str(text));
}

/* Those behind the step have one thing less to wait for. */
static void release_feeds(struct po__run *r, uint32_t step)
{
    const struct po__graph_node *n = node_of(r, step);
    bool bad = step_of(r, step)->state != PO__STEP_SUCCEEDED;
    for (uint32_t k = 0; k < n->feeds_count; k++) {
        struct po__step_state *s = step_of(r, n->feeds[k]);
        s->needs_left--;
        s->needs_bad += bad;
        if (s->needs_left == 0)
            po__graph_mark(r, n->feeds[k]);
    }
}

/* Its run ends, and nobody waits for it. */
static void step_cancelled(struct po__model *m, struct po__run *r, uint32_t step)
{
    struct po__step_state *s = step_of(r, step);
    s->state = PO__STEP_CANCELLED;
    s->finished_ms = m->now_ms;
    r->more->left--;
    po__news_graph_step(m, PO_WATCH_STEP_FINISHED, r, step);
    release_feeds(r, step);
    po__graph_mark(r, step);
}

void po__graph_step_over(struct po__model *m, struct po__run *r, uint32_t step,
                         const struct po__ending *e)
{
    struct po__step_state *s = step_of(r, step);
    const struct po__graph_step *d = &node_of(r, step)->step;
    const char *full = NULL;
    struct po__slice error =
        po__utf8_cut(e->error, PO__STEP_ERROR_MAX_BYTES); /* counted like an output */
    bool kept = po__graph_keep(m, r, &s->output, e->output, &full) &&
                po__graph_keep(m, r, &s->error, error, &full);
    s->state = !kept || e->state == PO__STEP_CANCELLED ? PO__STEP_FAILED : e->state;
    s->finished_ms = m->now_ms;
    s->started_ms = e->started_ms;
    s->attempts = e->attempts;
    s->id = e->id;
    s->cached = e->cached;
    s->origin = e->origin;
    if (s->origin)
        s->origin->refs++;
    r->more->left--;
    if (m->err)
        return;
    po__news_graph_step(m, PO_WATCH_STEP_FINISHED, r, step);
    release_feeds(r, step);
    po__graph_mark(r, step);
    if (!kept)
        po__graph_end_with_step(m, r, step, PO_RUN_FAILED, po__str(full));
    else if (s->state == PO__STEP_FAILED && d->on_failure == PO__ON_FAILURE_FAIL)
        po__graph_end_with_step(
            m, r, step, e->state == PO__STEP_CANCELLED ? PO_RUN_CANCELLED : PO_RUN_FAILED, error);
}

/* What was under way: a step, or an element of its map. */
static void part_over(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                      const struct po__ending *e)
{
    if (item == PO__NO_ITEM)
        po__graph_step_over(m, r, step, e);
    else
        po__map_item_over(m, r, step, item, e);
}

static void part_failed(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                        const char *why)
{
    const struct po__ending e = {
        .state = PO__STEP_FAILED, .started_ms = m->now_ms, .error = po__str(why)};
    if (!m->err)
        part_over(m, r, step, item, &e);
}

/* A part that was under way when its run began to end. */
static void part_dropped(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item)
{
    if (item == PO__NO_ITEM)
        step_cancelled(m, r, step);
    else
        po__map_item_dropped(r, step, item);
    po__graph_mark(r, step);
}

/* The job of that task or child run is done. False: nobody waits for its outcome. */
static bool take_job(struct po__model *m, struct po__run *r, bool child, uint64_t id,
                     uint32_t *step, uint32_t *item)
{
    struct po__job *j = po__job_find(r, child, id);
    if (!j) /* of a child: its parent ended and did not wait */
        return false;
    *step = j->step;
    *item = j->item;
    po__touch_run(m, r);
    po__job_drop(r, j);
    if (r->more->ending)
        part_dropped(m, r, *step, *item);
    return !r->more->ending;
}

void po__graph_task_finished(struct po__model *m, struct po__run *r, struct po__task *t)
{
    static const uint32_t states[] = {[PO_TASK_SUCCEEDED] = PO__STEP_SUCCEEDED,
                                      [PO_TASK_FAILED] = PO__STEP_FAILED,
                                      [PO_TASK_CANCELLED] = PO__STEP_CANCELLED};
    char cancelled[64];
    uint32_t step, item;
    PO_INVARIANT(r->state == PO_RUN_RUNNING && po__job_find(r, false, t->id));
    if (!take_job(m, r, false, t->id, &step, &item))
        return;
    struct po__ending e = {.state = states[t->state],
                           .attempts = t->attempt,
                           .id = t->id,
                           .started_ms = t->granted_ms,
                           .origin = t->origin,
                           .output = t->result,
                           .error = t->error};
    if (t->state == PO_TASK_CANCELLED) {
        snprintf(cancelled, sizeof cancelled, "task %" PRIu64 " was cancelled", t->id);
        e.error = po__str(cancelled);
    } else if (t->state == PO_TASK_SUCCEEDED) {
        po__cache_add(m, &node_of(r, step)->step, t);
    }
    part_over(m, r, step, item, &e);
    po__graph_todo(m, r);
}

void po__graph_child_finished(struct po__model *m, struct po__run *child)
{
    static const uint32_t states[] = {[PO_RUN_SUCCEEDED] = PO__STEP_SUCCEEDED,
                                      [PO_RUN_FAILED] = PO__STEP_FAILED,
                                      [PO_RUN_CANCELLED] = PO__STEP_CANCELLED};
    char text[PO__STEP_ERROR_MAX_BYTES + PO_NAME_MAX_BYTES + 64];
    struct po__run *r = po__run_find(m, child->more->parent);
    struct po__slice error = po__utf8_cut(child->error, PO__STEP_ERROR_MAX_BYTES);
    uint32_t step, item;
    if (!r || !take_job(m, r, true, child->id, &step, &item))
        return;
    struct po__ending e = {.state = states[child->state],
                           .id = child->id,
                           .started_ms = child->started_ms,
                           .output = po__run_result(m, child)};
    if (child->state != PO_RUN_SUCCEEDED) {
        snprintf(text, sizeof text, "run %" PRIu64 " of pipeline \"%s\" %s%s%.*s", child->id,
                 child->def->name.data, child->state == PO_RUN_FAILED ? "failed" : "was cancelled",
                 error.len ? ": " : "", (int)error.len, error.len ? error.data : "");
        e.error = po__str(text);
    } else if (e.output.len == 0) {
        e.output = po__str("null");
    }
    part_over(m, r, step, item, &e);
    po__graph_todo(m, r);
}

/* ---- one unit of work ---- */

/* Tells what is under way that nobody waits for it any more. A child ends in its own time. */
static void cancel_job(struct po__model *m, struct po__run *r, struct po__job *j)
{
    char why[64];
    uint64_t id = j->id;
    if (!j->child) {
        struct po__task *t = po__task_find(m, id);
        PO_INVARIANT(t);
        po__task_cancel(m, t); /* which drops the job */
        return;
    }
    struct po__run *child = po__run_find(m, id);
    uint32_t step, item;
    PO_INVARIANT(child && child->state == PO_RUN_RUNNING);
    take_job(m, r, true, id, &step, &item);
    snprintf(why, sizeof why, "its parent, run %" PRIu64 ", ended", r->id);
    po__run_cancel(m, child, po__str(why));
}

/* Nothing is under way: what had begun is cancelled, what had not will not. */
static void ended(struct po__model *m, struct po__run *r)
{
    for (uint32_t i = 0; i < r->def->steps_count; i++) {
        if (step_of(r, i)->map)
            po__map_drop(m, r, i);
        if (step_of(r, i)->state == PO__STEP_RUNNING)
            step_cancelled(m, r, i);
    }
    po__run_finish(m, r, r->more->ending);
}

/* Every step is over and none has failed the run. */
static void complete(struct po__model *m, struct po__run *r)
{
    struct po__error_text e;
    const char *full = NULL;
    int rv = po__graph_output(m, r, &m->scratch, &e);
    if (m->err)
        return;
    if (rv) {
        po__graph_end(m, r, PO_RUN_FAILED, po__str(e.text));
    } else if (!po__graph_keep(m, r, &r->more->output, po__buf_slice(&m->scratch), &full)) {
        if (!m->err)
            po__graph_end(m, r, PO_RUN_FAILED, po__str(full));
    } else {
        po__run_finish(m, r, PO_RUN_SUCCEEDED);
    }
}

static void under_way(struct po__model *m, struct po__run *r, bool child, uint64_t id,
                      uint32_t step, uint32_t item)
{
    if (po__job_add(r, child, id, step, item)) {
        po__oom(m);
    } else if (item == PO__NO_ITEM) {
        step_of(r, step)->id = id;
        po__news_graph_step(m, PO_WATCH_STEP_STARTED, r, step);
    } else {
        step_of(r, step)->map->items[item].id = id;
    }
}

static void start_child(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item)
{
    struct po__slice name = node_of(r, step)->step.pipeline;
    char why[PO_NAME_MAX_BYTES + 64];
    struct po__run_spec spec = {
        /* The definition of this moment, not of the parent's start: pipelines are mended one by
         * one, and a parent that was started yesterday should not call what was found broken since.
         * The child keeps what it began with, as every run does. */
        .def = po__pipeline_find(m, name),
        .params = po__buf_slice(&m->scratch),
        .zone = r->zone,
        .priority = r->more->priority,
        .scheduled_ms = r->more->scheduled_ms,
        .parent = r->id,
        .parent_step = step,
        .parent_item = item,
        .depth = r->more->depth + 1,
    };
    if (!spec.def) {
        snprintf(why, sizeof why, "no pipeline \"%.*s\" is defined", (int)name.len, name.data);
        part_failed(m, r, step, item, why);
        return;
    }
    if (spec.depth > PO__RUN_DEPTH_MAX) {
        snprintf(why, sizeof why, "pipelines are nested more than %d deep", PO__RUN_DEPTH_MAX);
        part_failed(m, r, step, item, why);
        return;
    }
    struct po__run *child = po__run_begin(m, &spec);
    if (child)
        under_way(m, r, true, child->id, step, item);
    else
        part_failed(m, r, step, item, m->message);
}

/* Where the first of the steps before it ran that ran at all; where the run is to be otherwise. */
static struct po__slice zone_for(const struct po__run *r, uint32_t step)
{
    const struct po__graph_node *n = node_of(r, step);
    for (uint32_t k = 0; k < n->needs_count; k++)
        if (step_of(r, n->needs[k])->origin)
            return step_of(r, n->needs[k])->origin->zone;
    return r->zone;
}

static void start_task(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item)
{
    const struct po__graph_step *d = &node_of(r, step)->step;
    struct po__slice input = po__buf_slice(&m->scratch);
    const struct po__cached *hit = po__cache_find(m, d, input);
    if (hit) {
        const struct po__ending e = {.state = PO__STEP_SUCCEEDED,
                                     .cached = true,
                                     .id = hit->id,
                                     .started_ms = m->now_ms,
                                     .output = hit->output};
        part_over(m, r, step, item, &e);
        return;
    }
    const struct po__task_spec spec = {
        .capability = d->capability,
        .input = input,
        .zone = zone_for(r, step),
        .attempts_max = d->attempts_max,
        .timeout_ms = d->timeout_ms,
        .run_id = r->id,
        .extra = po__run_extra(m, r, d->extra),
    };
    struct po__task *t = m->err ? NULL : po__task_start(m, &spec);
    if (t)
        under_way(m, r, false, t->id, step, item);
    else
        part_failed(m, r, step, item, m->message);
}

void po__graph_start_part(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                          struct po__slice value)
{
    struct po__error_text e;
    int rv = po__graph_input(m, r, step, item, value, &m->scratch, &e);
    if (m->err)
        return;
    if (rv)
        part_failed(m, r, step, item, e.text);
    else if (node_of(r, step)->step.pipeline.len)
        start_child(m, r, step, item);
    else
        start_task(m, r, step, item);
}

static bool join_holds(const struct po__run *r, uint32_t step)
{
    const struct po__graph_node *n = node_of(r, step);
    const struct po__step_state *s = step_of(r, step);
    switch (n->step.join) {
    case PO__JOIN_ALL_SUCCEEDED:
        return s->needs_bad == 0;
    case PO__JOIN_ANY_SUCCEEDED:
        return s->needs_bad < n->needs_count || n->needs_count == 0;
    default:
        return true;
    }
}

/* All that comes before the step is over. */
static void begin_step(struct po__model *m, struct po__run *r, uint32_t step)
{
    static const struct po__ending skipped = {.state = PO__STEP_SKIPPED};
    struct po__step_state *s = step_of(r, step);
    struct po__error_text e;
    bool yes = join_holds(r, step);
    int rv = yes ? po__graph_when(m, r, step, &yes, &e) : 0;
    if (m->err)
        return;
    s->state = PO__STEP_RUNNING;
    s->started_ms = m->now_ms;
    po__graph_mark(r, step);
    if (rv)
        part_failed(m, r, step, PO__NO_ITEM, e.text);
    else if (!yes)
        po__graph_step_over(m, r, step, &skipped);
    else if (node_of(r, step)->step.map.len)
        po__map_open(m, r, step);
    else
        po__graph_start_part(m, r, step, PO__NO_ITEM, po__slice(NULL, 0));
}

static void one_unit(struct po__model *m, struct po__run *r)
{
    uint32_t step = po__graph_first_ready(r);
    if (r->more->ending) {
        struct po__tree_node *n = po__tree_first(&r->more->jobs);
        if (n)
            cancel_job(m, r, po__container_of(n, struct po__job, by_id));
        else
            ended(m, r);
    } else if (step == UINT32_MAX) {
        complete(m, r);
    } else if (step_of(r, step)->map) {
        po__map_next(m, r, step);
    } else {
        begin_step(m, r, step);
    }
}

/* In order of run ids. The outcome of the command that brought this about stays what it is: what
 * cannot start is the run's failure. */
void po__runs_advance(struct po__model *m)
{
    struct po__cmd_result saved = m->result;
    char message[PO__MESSAGE_MAX_BYTES];
    struct po__tree_node *n;
    uint32_t units = 0;
    if (!m->runs_todo.root)
        return;
    memcpy(message, m->message, sizeof message);
    m->run_work_bytes = 0;
    while (!m->err && units++ < PO__RUN_STARTS_MAX && m->run_work_bytes < PO__RUN_WORK_MAX_BYTES &&
           (n = po__tree_first(&m->runs_todo))) {
        struct po__run *r = todo_run(n);
        po__touch_run(m, r);
        one_unit(m, r);
        po__graph_todo(m, r);
    }
    memcpy(m->message, message, sizeof message);
    m->result = saved;
}
