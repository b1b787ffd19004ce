/* Pipelines that are graphs, for tests: written as arrays of steps that name those before them. */
#ifndef PO__TEST_GRAPH_FIXTURE_H
#define PO__TEST_GRAPH_FIXTURE_H

#include "fixture.h"
#include "model/impl.h"

struct gstep {
    const char *name;
    const char *work;  /* "verb:name", or the name of a pipeline */
    const char *needs; /* names of earlier steps, separated by spaces; NULL: none */
    const char *input, *when, *map, *config;
    uint32_t join, on_failure, parallel, attempts, timeout_ms;
    bool cache;
    uint64_t cache_ms;
    const struct po__extra *extra;
};

struct gparam {
    const char *name;
    uint32_t type;
    bool required;
    const char *value;
};

static inline uint32_t gneeds(const struct gstep *steps, uint32_t i, uint32_t *positions)
{
    uint32_t n = 0;
    for (const char *p = steps[i].needs; p && *p;) {
        size_t len = strcspn(p, " ");
        for (uint32_t k = 0; k < i; k++)
            if (strlen(steps[k].name) == len && !memcmp(steps[k].name, p, len))
                positions[n++] = k;
        p += len + (p[len] == ' ');
    }
    for (uint32_t a = 1; a < n; a++) /* increasing */
        for (uint32_t b = a; b > 0 && positions[b] < positions[b - 1]; b--) {
            uint32_t swap = positions[b];
            positions[b] = positions[b - 1];
            positions[b - 1] = swap;
        }
    return n;
}

static inline void gput_step(struct po__buf *b, const struct gstep *steps, uint32_t i)
{
    const struct gstep *g = &steps[i];
    struct po__buf needs = {0}, extra = {0};
    uint32_t positions[PO_STEPS_MAX];
    struct po__graph_step s = {.name = po__str(g->name)};
    if (g->work && strchr(g->work, ':'))
        s.capability = po__str(g->work);
    else
        s.pipeline = po__str(g->work);
    s.depends_count = gneeds(steps, i, positions);
    po__depends_encode(&needs, positions, s.depends_count);
    s.depends = po__buf_slice(&needs);
    s.when = po__str(g->when);
    s.map = po__str(g->map);
    s.input = po__str(g->input);
    s.config = po__str(g->config);
    s.join = g->join;
    s.on_failure = g->on_failure;
    s.map_parallel = g->parallel;
    s.attempts_max = g->attempts;
    s.timeout_ms = g->timeout_ms;
    s.cache = g->cache;
    s.cache_ms = g->cache_ms;
    if (g->extra)
        po__extra_encode(&extra, g->extra);
    s.extra = po__buf_slice(&extra);
    po__graph_step_encode(b, &s);
    po__buf_fini(&needs);
    po__buf_fini(&extra);
}

static inline void gput_params(struct po__buf *b, const struct gparam *params, uint32_t n)
{
    po__mpw_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        struct po__param p = {po__str(params[i].name), params[i].type, params[i].required,
                              po__str(params[i].value)};
        po__param_encode(b, &p);
    }
}

/* Fills cmd; steps and params hold its bytes. */
static inline void graph_cmd(struct po__cmd *cmd, struct po__buf *steps_bytes,
                             struct po__buf *params_bytes, const char *name,
                             const struct gstep *steps, uint32_t n, const struct gparam *params,
                             uint32_t params_count, const char *output)
{
    po__buf_reset(steps_bytes);
    po__buf_reset(params_bytes);
    po__mpw_array(steps_bytes, n);
    for (uint32_t i = 0; i < n; i++)
        gput_step(steps_bytes, steps, i);
    gput_params(params_bytes, params, params_count);
    cmd->type = PO__CMD_PIPELINE_DEFINE_GRAPH;
    cmd->graph = (struct po__graph){.name = po__str(name),
                                    .output = po__str(output),
                                    .params = po__buf_slice(params_bytes),
                                    .params_count = params_count,
                                    .steps = po__buf_slice(steps_bytes),
                                    .steps_count = n};
}

static inline int define_graph(struct world *w, const char *name, const struct gstep *steps,
                               uint32_t n, const struct gparam *params, uint32_t params_count,
                               const char *output)
{
    struct po__buf bytes = {0};
    graph_cmd(&w->cmd, &w->steps, &bytes, name, steps, n, params, params_count, output);
    int rv = apply(w);
    po__buf_fini(&bytes);
    return rv;
}

#define DEFINE(w, name, steps)                                                                     \
    assert_int_equal(define_graph(w, name, steps, sizeof(steps) / sizeof *(steps), NULL, 0, NULL), \
                     0)

static inline int do_start(struct world *w, const char *key, const char *pipeline,
                           const char *params, const char *zone, uint32_t priority)
{
    w->cmd.type = PO__CMD_RUN_START_MORE;
    w->cmd.run_start.key = po__str(key);
    w->cmd.run_start.pipeline = po__str(pipeline);
    w->cmd.run_start.params = po__str(params);
    w->cmd.run_start.zone = po__str(zone);
    w->cmd.run_start.priority = priority;
    return apply(w);
}

static inline int do_resume(struct world *w, const char *key, uint64_t run, const char *from)
{
    w->cmd.type = PO__CMD_RUN_RESUME;
    w->cmd.run_resume.key = po__str(key);
    w->cmd.run_resume.run_id = run;
    w->cmd.run_resume.from_step = po__str(from);
    return apply(w);
}

/* ---- looking at runs ---- */

static inline struct po__run *run_of(const struct world *w, uint64_t id)
{
    struct po__run *r = po__run_find(w->m, id);
    assert_non_null(r);
    return r;
}

static inline const struct po__step_state *step_of(const struct world *w, uint64_t run,
                                                   const char *name)
{
    const struct po__run *r = run_of(w, run);
    uint32_t at = po__named_find(r->def->graph->by_name, r->def->steps_count, po__str(name));
    assert_true(at != UINT32_MAX);
    return &r->more->steps[at];
}

static inline void expect_text(struct po__slice s, const char *text)
{
    if (!po__slice_eq(s, po__str(text)))
        fail_msg("\"%.*s\" instead of \"%s\"", (int)s.len, s.len ? s.data : "", text);
}

static inline void expect_has(struct po__slice s, const char *part)
{
    if (!s.len || !memmem(s.data, s.len, part, strlen(part)))
        fail_msg("\"%.*s\" does not hold \"%s\"", (int)s.len, s.len ? s.data : "", part);
}

static inline void expect_step(const struct world *w, uint64_t run, const char *name,
                               uint32_t state)
{
    const struct po__step_state *s = step_of(w, run, name);
    if (s->state != state)
        fail_msg("step %s of run %llu is %u instead of %u (%.*s)", name, (unsigned long long)run,
                 s->state, state, (int)s->error.len, s->error.len ? s->error.data : "");
}

static inline void expect_run(const struct world *w, uint64_t run, uint32_t state)
{
    const struct po__run *r = run_of(w, run);
    if (r->state != state)
        fail_msg("run %llu is %u instead of %u (%.*s)", (unsigned long long)run, r->state, state,
                 (int)r->error.len, r->error.len ? r->error.data : "");
}

static inline uint64_t task_of(const struct world *w, uint64_t run, const char *name)
{
    uint64_t id = step_of(w, run, name)->id;
    assert_non_null(po__model_task(w->m, id));
    return id;
}

static inline void finish_task(struct world *w, uint64_t id, const char *result, const char *error)
{
    const struct po__task *t = po__model_task(w->m, id);
    char worker[PO_NAME_MAX_BYTES + 1];
    assert_non_null(t);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    snprintf(worker, sizeof worker, "%s", t->worker->id);
    if (error)
        assert_int_equal(do_fail(w, id, t->token, worker, error, false), 0);
    else
        assert_int_equal(do_complete(w, id, t->token, worker, result), 0);
}

static inline void complete_step(struct world *w, uint64_t run, const char *name,
                                 const char *result)
{
    finish_task(w, task_of(w, run, name), result, NULL);
}

static inline void fail_step(struct world *w, uint64_t run, const char *name, const char *error)
{
    finish_task(w, task_of(w, run, name), NULL, error);
}

static inline struct po__slice input_of(const struct world *w, uint64_t run, const char *name)
{
    return po__model_task(w->m, task_of(w, run, name))->input;
}

static inline struct po__slice result_of(const struct world *w, uint64_t run)
{
    return po__run_result(w->m, run_of(w, run));
}

/* The same state, restored from a snapshot. */
static inline void swap_by_snapshot(struct world *w)
{
    struct po__buf bytes = {0};
    uint64_t before = digest(w->m);
    snapshot(w->m, &bytes);
    po__model_close(w->m);
    assert_int_equal(po__model_open(&w->m, NULL), 0);
    assert_int_equal(restore(w->m, bytes.data, bytes.len, 1 << 16), 0);
    world_check(w);
    assert_true(digest(w->m) == before);
    po__buf_fini(&bytes);
}

#endif
