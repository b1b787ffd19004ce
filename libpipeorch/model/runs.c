/* Runs of pipelines. A run has at most one task at a time: that of its current step. The end of
 * that task and the start of the next one are one command, so there is no state "between steps"
 * that a crash could expose.
 *
 * The input of a step is put together from JSON texts that were checked when they entered the log:
 *   {"pipeline":"energy","run_id":7,"step":"clean","params":...,"config":...,"input":<result of the
 * previous step>} */
#include "impl.h"

#include <inttypes.h>
#include <stdio.h>

#include "../codec/json.h"

static int id_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(po__container_of(a, struct po__run, by_id)->id,
                       po__container_of(b, struct po__run, by_id)->id);
}

static int id_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, po__container_of(n, struct po__run, by_id)->id);
}

static int finished_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__run *x = po__container_of(a, struct po__run, finished);
    const struct po__run *y = po__container_of(b, struct po__run, finished);
    int c = po__cmp_u64(x->finished_ms, y->finished_ms);
    return c ? c : po__cmp_u64(x->id, y->id);
}

static int key_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key,
                         po__container_of(n, struct po__run, by_key)->key);
}

static int key_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return key_key(&po__container_of(a, struct po__run, by_key)->key, b);
}

struct po__run *po__run_find(const struct po__model *m, uint64_t id)
{
    struct po__tree_node *n = po__tree_find(&m->runs, &id, id_key);
    return n ? po__container_of(n, struct po__run, by_id) : NULL;
}

struct po__run *po__run_after(const struct po__model *m, uint64_t id)
{
    uint64_t from = id + 1;
    struct po__tree_node *n =
        id == UINT64_MAX ? NULL : po__tree_lower_bound(&m->runs, &from, id_key);
    return n ? po__container_of(n, struct po__run, by_id) : NULL;
}

struct po__run *po__run_keyed(const struct po__model *m, struct po__slice key)
{
    struct po__tree_node *n = key.len ? po__tree_find(&m->run_keys, &key, key_key) : NULL;
    return n ? po__container_of(n, struct po__run, by_key) : NULL;
}

int po__model_run_state(const struct po__model *m, uint64_t run_id)
{
    struct po__run *r = po__run_find(m, run_id);
    return r ? (int)r->state : 0;
}

int po__model_run_next(const struct po__model *m, uint64_t id, struct po__run_info *info)
{
    const struct po__run *r = po__run_after(m, id);
    if (r)
        *info = (struct po__run_info){
            .id = r->id, .state = r->state, .pipeline = r->def->name, .error = r->error};
    return r != NULL;
}

/* ---- objects ---- */

static bool more_needed(const struct po__run_spec *spec)
{
    return spec->def->graph || spec->priority || spec->scheduled_ms || spec->parent ||
           spec->resumed_from;
}

static int make_more(struct po__run *r, const struct po__run_spec *spec)
{
    struct po__run_more *more = po__calloc(1, sizeof *more);
    if (!more)
        return PO_ENOMEM;
    *more = (struct po__run_more){.run = r,
                                  .parent = spec->parent,
                                  .parent_step = spec->parent_step,
                                  .parent_item = spec->parent_item,
                                  .depth = spec->depth,
                                  .priority = spec->priority,
                                  .scheduled_ms = spec->scheduled_ms,
                                  .resumed_from = spec->resumed_from};
    po__tree_node_init(&more->todo);
    r->more = more;
    return spec->def->graph ? po__graph_make(r) : 0;
}

struct po__run *po__run_new(struct po__model *m, const struct po__run_spec *spec)
{
    struct po__slice params = spec->params.len ? spec->params : po__str("null");
    struct po__run *r = po__calloc(1, sizeof *r + params.len + spec->zone.len + spec->key.len + 3);
    if (!r) {
        po__oom(m);
        return NULL;
    }
    char *at = r->text;
    r->epoch = m->snap.epoch;
    r->state = PO_RUN_RUNNING;
    r->def = spec->def;
    r->params = po__put(&at, params);
    r->zone = po__put(&at, spec->zone);
    r->key = po__put(&at, spec->key);
    r->def->refs++;
    po__tree_node_init(&r->by_id);
    po__tree_node_init(&r->by_key);
    po__tree_node_init(&r->finished);
    if (!spec->def->graph)
        r->steps = po__calloc(spec->def->steps_count, sizeof *r->steps);
    if ((!spec->def->graph && !r->steps) || (more_needed(spec) && make_more(r, spec))) {
        po__run_free(m, r);
        po__oom(m);
        return NULL;
    }
    return r;
}

/* Children do not push the runs that people started out of the history. */
static struct po__tree *finished_tree(struct po__model *m, const struct po__run *r)
{
    return r->more && r->more->parent ? &m->children_finished : &m->runs_finished;
}

bool po__run_link(struct po__model *m, struct po__run *r)
{
    if (po__tree_insert(&m->runs, &r->by_id, id_cmp))
        return false;
    if (r->key.len && po__tree_insert(&m->run_keys, &r->by_key, key_cmp)) {
        po__tree_remove(&m->runs, &r->by_id);
        return false;
    }
    if (r->state == PO_RUN_RUNNING) {
        m->runs_active++;
        m->runs_bytes += po__run_bytes(r);
    } else {
        po__tree_insert(finished_tree(m, r), &r->finished, finished_cmp);
        m->runs_finished_bytes += po__run_bytes(r);
    }
    return true;
}

void po__run_free(struct po__model *m, struct po__run *r)
{
    if (po__tree_linked(&r->by_id)) {
        po__tree_remove(&m->runs, &r->by_id);
        m->runs_active -= r->state == PO_RUN_RUNNING;
        *(r->state == PO_RUN_RUNNING ? &m->runs_bytes : &m->runs_finished_bytes) -=
            po__run_bytes(r);
    }
    if (po__tree_linked(&r->by_key))
        po__tree_remove(&m->run_keys, &r->by_key);
    if (po__tree_linked(&r->finished))
        po__tree_remove(finished_tree(m, r), &r->finished);
    for (uint32_t i = 0; i < r->started_count; i++) {
        po__origin_put(m, r->steps[i].origin);
        po__free((void *)r->steps[i].error.data);
    }
    po__graph_free(m, r->more, r->def->steps_count);
    po__def_put(m, r->def);
    po__free((void *)r->error.data);
    po__free(r->steps);
    po__free(r);
}

/* ---- life ---- */

void po__run_set_error(struct po__model *m, struct po__slice *field, struct po__slice text)
{
    char *copy = po__strndup(text.data, text.len);
    if (!copy) {
        po__oom(m);
        return;
    }
    po__free((void *)field->data);
    *field = po__slice(copy, text.len);
}

static void compose_input(struct po__buf *b, const struct po__run *r, const struct po__step *s,
                          struct po__slice input)
{
    po__buf_reset(b);
    b->max_bytes = 0;
    po__buf_printf(b, "{\"pipeline\":");
    po__json_string(b, r->def->name);
    po__buf_printf(b, ",\"run_id\":%" PRIu64 ",\"step\":", r->id);
    po__json_string(b, s->name);
    po__buf_printf(b, ",\"params\":");
    po__buf_append(b, r->params.data, r->params.len);
    po__buf_printf(b, ",\"config\":");
    po__buf_append(b, s->config.len ? s->config.data : "null", s->config.len ? s->config.len : 4);
    po__buf_printf(b, ",\"input\":");
    po__buf_append(b, input.data, input.len);
    po__buf_append(b, "}", 1);
}

/* Start the next step. False: refused (the command's result says why), or no memory. */
static bool start_step(struct po__model *m, struct po__run *r, struct po__slice input,
                       struct po__slice zone)
{
    const struct po__step *s = &r->def->chain[r->started_count];
    compose_input(&m->scratch, r, s, input);
    if (m->scratch.err) {
        po__oom(m);
        return false;
    }
    if (m->scratch.len > PO_PAYLOAD_MAX_BYTES) {
        po__refuse(m, PO_ETOOBIG,
                   "the input (params, config and the previous result) has %zu bytes, the limit is "
                   "%d; pass a "
                   "reference to the data instead",
                   m->scratch.len, PO_PAYLOAD_MAX_BYTES);
        return false;
    }
    const struct po__task_spec spec = {
        .capability = s->capability,
        .input = po__buf_slice(&m->scratch),
        .zone = zone,
        .attempts_max = s->attempts_max,
        .timeout_ms = s->timeout_ms,
        .run_id = r->id,
        .extra = po__run_extra(m, r, po__slice(NULL, 0)),
    };
    struct po__task *t = m->err ? NULL : po__task_start(m, &spec);
    if (!t)
        return false;
    r->steps[r->started_count++] =
        (struct po__step_run){.task_id = t->id, .state = PO_TASK_PENDING};
    if (!po__tree_linked(&r->by_id)) /* it begins; not always with its first step */
        po__news_run(m, PO_WATCH_RUN_STARTED, r);
    po__news_step(m, PO_WATCH_STEP_STARTED, r, s->name, t);
    return true;
}

void po__run_finish(struct po__model *m, struct po__run *r, uint32_t state)
{
    PO_INVARIANT(r->state == PO_RUN_RUNNING);
    r->state = state;
    r->finished_ms = m->now_ms;
    m->runs_active--;
    m->runs_bytes -= po__run_bytes(r);
    m->runs_finished_bytes += po__run_bytes(r);
    po__tree_insert(finished_tree(m, r), &r->finished, finished_cmp);
    po__fx(m, PO__FX_RUN_FINISHED, r->id, 0, 0);
    po__news_run(m, PO_WATCH_RUN_FINISHED, r);
    if (r->more && r->more->parent)
        po__graph_child_finished(m, r);
}

static void fail(struct po__model *m, struct po__run *r, const struct po__step *s,
                 struct po__slice why)
{
    char text[PO_NAME_MAX_BYTES + PO_ERROR_TEXT_MAX_BYTES + 64];
    int n = snprintf(text, sizeof text, "step \"%.*s\": %.*s", (int)s->name.len, s->name.data,
                     (int)why.len, why.data);
    po__run_set_error(m, &r->error,
                      po__slice(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1));
    po__run_finish(m, r, PO_RUN_FAILED);
}

bool po__run_go_on(struct po__model *m, struct po__run *r, const struct po__task *last)
{
    return start_step(m, r, last ? last->result : po__str("null"),
                      last ? last->origin->zone : r->zone);
}

/* The next step after `done`, whose result it gets; it should run where that one ran. The outcome
 * of the command that ended `done` stays what it is: if the next step cannot start, it is the run
 * that fails. */
static void go_on(struct po__model *m, struct po__run *r, const struct po__task *done)
{
    struct po__cmd_result saved = m->result;
    const struct po__step *next = &r->def->chain[r->started_count];
    if (!po__run_go_on(m, r, done) && !m->err)
        fail(m, r, next, po__str(m->message));
    m->result = saved;
}

static void record_step(struct po__model *m, struct po__step_run *s, const struct po__task *t)
{
    s->state = t->state;
    s->attempts = t->attempt;
    s->started_ms = t->granted_ms;
    s->finished_ms = m->now_ms;
    s->origin = t->origin;
    if (s->origin)
        s->origin->refs++;
    if (t->error.len)
        po__run_set_error(m, &s->error, t->error);
}

void po__run_task_finished(struct po__model *m, struct po__task *t)
{
    struct po__run *r = po__run_find(m, t->run_id);
    PO_INVARIANT(r);
    if (r->def->graph) {
        po__graph_task_finished(m, r, t);
        return;
    }
    PO_INVARIANT(r->state == PO_RUN_RUNNING && r->steps[r->started_count - 1].task_id == t->id);
    po__touch_run(m, r);
    record_step(m, &r->steps[r->started_count - 1], t);
    if (m->err)
        return;
    po__news_step(m, PO_WATCH_STEP_FINISHED, r, r->def->chain[r->started_count - 1].name, t);
    if (t->state == PO_TASK_CANCELLED)
        po__run_finish(m, r, PO_RUN_CANCELLED);
    else if (t->state == PO_TASK_FAILED)
        fail(m, r, &r->def->chain[r->started_count - 1], t->error);
    else if (r->started_count == r->def->steps_count)
        po__run_finish(m, r, PO_RUN_SUCCEEDED);
    else
        go_on(m, r, t);
}

/* The encoded extra of a task of the run: what its step asks for, and the run's priority where the
 * step has none. Empty: a task as the first release had them. */
struct po__slice po__run_extra(struct po__model *m, const struct po__run *r, struct po__slice step)
{
    struct po__extra extra = {0};
    if (step.len == 0 && !r->more)
        return step;
    PO_INVARIANT(step.len == 0 || po__extra_decode(step, &extra) == 0);
    extra.priority = extra.priority ? extra.priority : r->more->priority;
    po__buf_reset(&m->extra);
    po__extra_encode(&m->extra, &extra);
    if (m->extra.err)
        po__oom(m);
    return po__buf_slice(&m->extra);
}

/* The result of a run, as long as it is kept: of a chain, with the last task. */
struct po__slice po__run_result(const struct po__model *m, const struct po__run *r)
{
    const struct po__task *t = NULL;
    if (r->state != PO_RUN_SUCCEEDED)
        return po__slice(NULL, 0);
    if (r->def->graph)
        return r->more->output.len ? r->more->output : r->more->steps[r->def->graph->end].output;
    t = po__task_find(m, r->steps[r->started_count - 1].task_id);
    return t ? t->result : po__slice(NULL, 0);
}

static void prune(struct po__model *m, struct po__tree *finished)
{
    struct po__run *r = po__container_of(po__tree_first(finished), struct po__run, finished);
    po__touch_run(m, r);
    po__run_free(m, r);
}

void po__runs_prune(struct po__model *m)
{
    while (m->runs_finished.count > PO__RUNS_FINISHED_MAX)
        prune(m, &m->runs_finished);
    while (m->children_finished.count > PO__RUNS_FINISHED_MAX)
        prune(m, &m->children_finished);
    while (m->runs_finished_bytes > PO__RUNS_FINISHED_MAX_BYTES)
        prune(m, m->children_finished.root ? &m->children_finished : &m->runs_finished);
}
