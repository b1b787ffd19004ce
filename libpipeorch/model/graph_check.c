/* What can be said about a graph without the state: names, ranges, structure, and every reference
 * of its templates and conditions. A step may look at steps that come before it on every path that
 * leads to it, because no other is over for sure when it starts. */
#include "command.h"

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../codec/template.h"
#include "refuse.h"

#define WORDS (PO_STEPS_MAX / 64)

struct check {
    struct po__refusal out;
    const struct po__graph *g;
    struct po__graph_step *steps; /* steps_count of them */
    struct po__named *sorted;     /* the steps by name */
    uint64_t (*before)[WORDS];    /* for each step: the steps that come before it */
    struct po__param params[PO__GRAPH_PARAMS_MAX];
};

/* ---- params ---- */

static int check_param(const struct check *c, uint32_t i)
{
    const struct po__param *p = &c->params[i];
    if (!po__name_ok(p->name))
        return po__refuse(&c->out, PO_EINVAL,
                          "param \"%.*s\" is not a name; expected 1..%d characters of "
                          "A-Z a-z 0-9 . _ -",
                          PO__SHOWN(p->name), PO_NAME_MAX_BYTES);
    for (uint32_t k = 0; k < i; k++)
        if (po__slice_eq(p->name, c->params[k].name))
            return po__refuse(&c->out, PO_EINVAL, "param \"%.*s\" is declared twice",
                              PO__SHOWN(p->name));
    if (!po__param_type_word(p->type))
        return po__refuse(&c->out, PO_EINVAL, "param \"%.*s\": unknown type %u", PO__SHOWN(p->name),
                          p->type);
    if (p->value.len == 0)
        return 0;
    if (p->required)
        return po__refuse(&c->out, PO_EINVAL,
                          "param \"%.*s\" is required and has a default; drop one of them",
                          PO__SHOWN(p->name));
    if (!po__json_ok(p->value))
        return po__refuse(&c->out, PO_EINVAL, "param \"%.*s\": the default is not a JSON text",
                          PO__SHOWN(p->name));
    if (!po__param_fits(p->type, po__json_root(p->value)))
        return po__refuse(&c->out, PO_EINVAL, "param \"%.*s\": the default is %s, expected %s",
                          PO__SHOWN(p->name), po__json_a_type(po__json_root(p->value)),
                          po__param_type_word(p->type));
    return 0;
}

static int check_params(struct check *c)
{
    struct po__mpr r;
    uint32_t n = c->g->params_count;
    po__mpr_init(&r, c->g->params.data, c->g->params.len);
    if (n > PO__GRAPH_PARAMS_MAX || (n && po__mpr_array(&r, PO__GRAPH_PARAMS_MAX) != n))
        return po__refuse(&c->out, PO_EINVAL, "%u params are declared; at most %d are allowed", n,
                          PO__GRAPH_PARAMS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (po__param_decode(&r, &c->params[i]))
            return po__refuse(&c->out, PO_EINVAL, "param %u is malformed", i + 1);
        int rv = check_param(c, i);
        if (rv)
            return rv;
    }
    return 0;
}

/* ---- references ---- */

struct place { /* of a template */
    const struct check *c;
    uint32_t step; /* UINT32_MAX: the output of the pipeline */
    bool in_map;   /* item and index are there */
};

static int ref_step(const struct place *p, const struct po__path *path,
                    struct po__template_error *e)
{
    struct po__slice name = path->count > 1 ? path->parts[1].name : po__slice(NULL, 0);
    if (path->count < 3 || !name.data ||
        !(po__path_part_is(path, 2, "output") || po__path_part_is(path, 2, "state") ||
          po__path_part_is(path, 2, "error"))) {
        po__template_fail(e, "expected steps.NAME.output, steps.NAME.state or steps.NAME.error");
        return PO_EINVAL;
    }
    uint32_t at = po__named_find(p->c->sorted, p->c->g->steps_count, name);
    if (at == UINT32_MAX) {
        po__template_fail(e, "\"%.*s\" names no step", PO__SHOWN(name));
        return PO_EINVAL;
    }
    if (p->step != UINT32_MAX && !(p->c->before[p->step][at / 64] >> (at % 64) & 1)) {
        po__template_fail(e, "step \"%.*s\" does not come before this one; name it in depends_on",
                          PO__SHOWN(name));
        return PO_EINVAL;
    }
    return 0;
}

static int ref_param(const struct place *p, const struct po__path *path,
                     struct po__template_error *e)
{
    if (path->count == 1)
        return 0;
    struct po__slice name = path->parts[1].name;
    for (uint32_t i = 0; name.data && i < p->c->g->params_count; i++)
        if (po__slice_eq(p->c->params[i].name, name))
            return 0;
    po__template_fail(e, "no param \"%.*s\" is declared", PO__SHOWN(path->parts[1].text));
    return PO_EINVAL;
}

static int ref(void *arg, const struct po__path *path, size_t offset, struct po__template_error *e)
{
    const struct place *p = arg;
    (void)offset;
    if (po__path_part_is(path, 0, "steps"))
        return ref_step(p, path, e);
    if (po__path_part_is(path, 0, "params"))
        return ref_param(p, path, e);
    if (po__path_part_is(path, 0, "item") || po__path_part_is(path, 0, "index")) {
        if (p->in_map)
            return 0;
        po__template_fail(e, "item and index are there only in the input of a step with a map");
        return PO_EINVAL;
    }
    if (po__path_part_is(path, 0, "run")) {
        if (path->count == 2 &&
            (po__path_part_is(path, 1, "id") || po__path_part_is(path, 1, "pipeline") ||
             po__path_part_is(path, 1, "key") || po__path_part_is(path, 1, "scheduled_ms")))
            return 0;
        po__template_fail(e, "expected run.id, run.pipeline, run.key or run.scheduled_ms");
        return PO_EINVAL;
    }
    po__template_fail(e, "expected a path of params, steps, run, or in a map of item or index");
    return PO_EINVAL;
}

static int bad_text(const struct check *c, uint32_t step, const char *field, int code,
                    const struct po__template_error *e)
{
    if (code == PO_ENOMEM)
        return po__refuse(&c->out, PO_ENOMEM, "out of memory");
    if (step == UINT32_MAX)
        return po__refuse(&c->out, code, "%s, byte %zu: %s", field, e->offset, e->text);
    return po__refuse(&c->out, code, "step \"%.*s\": %s, byte %zu: %s",
                      PO__SHOWN(c->steps[step].name), field, e->offset, e->text);
}

static int check_template(const struct check *c, uint32_t step, const char *field,
                          struct po__slice text, bool in_map)
{
    struct place p = {c, step, in_map};
    struct po__template_error e = {
        .text = "it is not a JSON text; a template is one, with ${...} inside of its strings"};
    if (text.len && !po__json_ok(text))
        return bad_text(c, step, field, PO_EINVAL, &e);
    int rv = text.len ? po__template_refs(text, ref, &p, &e) : 0;
    return rv ? bad_text(c, step, field, rv, &e) : 0;
}

/* ---- steps ---- */

static int check_work(const struct check *c, const struct po__graph_step *s)
{
    struct po__extra extra = {0};
    char why[256] = "";
    bool has_extra = s->extra.len > 1; /* more than the empty array */
    if ((s->capability.len == 0) == (s->pipeline.len == 0))
        return po__refuse(&c->out, PO_EINVAL,
                          "step \"%.*s\": expected a capability or a pipeline, not both",
                          PO__SHOWN(s->name));
    if (s->pipeline.len) {
        if (!po__name_ok(s->pipeline))
            return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": pipeline \"%.*s\" is not a name",
                              PO__SHOWN(s->name), PO__SHOWN(s->pipeline));
        if (s->config.len || s->attempts_max || s->timeout_ms || s->cache || has_extra)
            return po__refuse(
                &c->out, PO_EINVAL,
                "step \"%.*s\" runs a pipeline, whose own steps say how they run: drop "
                "config, attempts, timeout, cache and placement",
                PO__SHOWN(s->name));
        return 0;
    }
    if (!po__capability_ok(s->capability))
        return po__refuse(&c->out, PO_EINVAL,
                          "step \"%.*s\": capability \"%.*s\" is malformed; expected \"verb:name\"",
                          PO__SHOWN(s->name), PO__SHOWN(s->capability));
    if (s->extra.len && po__extra_decode(s->extra, &extra))
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": the placement cannot be read",
                          PO__SHOWN(s->name));
    int rv = po__extra_check(&extra, why, sizeof why);
    if (rv)
        return po__refuse(&c->out, rv, "step \"%.*s\": %s", PO__SHOWN(s->name), why);
    if (extra.run_at_ms || extra.deadline_ms)
        return po__refuse(&c->out, PO_EINVAL,
                          "step \"%.*s\" names a point in time, but every run is at another one",
                          PO__SHOWN(s->name));
    return 0;
}

static int check_numbers(const struct check *c, const struct po__graph_step *s)
{
    if (!po__join_word(s->join) || !po__on_failure_word(s->on_failure))
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": unknown join %u or on_failure %u",
                          PO__SHOWN(s->name), s->join, s->on_failure);
    if (s->map_parallel && (s->map.len == 0 || s->map_parallel > PO__MAP_PARALLEL_MAX))
        return po__refuse(&c->out, PO_EINVAL,
                          "step \"%.*s\": map_parallel is %u; expected 0..%d, and a map",
                          PO__SHOWN(s->name), s->map_parallel, PO__MAP_PARALLEL_MAX);
    if (s->attempts_max > PO__ATTEMPTS_MAX)
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": attempts_max is %u; expected 0..%d",
                          PO__SHOWN(s->name), s->attempts_max, PO__ATTEMPTS_MAX);
    if (s->timeout_ms && (s->timeout_ms < PO__ATTEMPT_MIN_MS || s->timeout_ms > PO__ATTEMPT_MAX_MS))
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": timeout_ms is %u; expected %d..%d",
                          PO__SHOWN(s->name), s->timeout_ms, PO__ATTEMPT_MIN_MS,
                          PO__ATTEMPT_MAX_MS);
    if (s->cache_ms && !s->cache)
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": cache_ms without cache",
                          PO__SHOWN(s->name));
    if (s->cache_ms > PO__KEEP_MAX_MS)
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": cache_ms is %llu; expected 0..%llu",
                          PO__SHOWN(s->name), (unsigned long long)s->cache_ms,
                          (unsigned long long)PO__KEEP_MAX_MS);
    if (s->cache && s->input.len == 0)
        return po__refuse(
            &c->out, PO_EINVAL,
            "step \"%.*s\": cache needs an input template; the default input holds the "
            "id of the run, so no two are equal",
            PO__SHOWN(s->name));
    return 0;
}

/* The positions that step i depends on, and with them all that comes before it. */
static int check_depends(struct check *c, uint32_t i, uint32_t *edges)
{
    const struct po__graph_step *s = &c->steps[i];
    uint32_t positions[PO_STEPS_MAX];
    if (s->depends_count > PO_STEPS_MAX || po__depends_decode(s, positions))
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": its dependencies are malformed",
                          PO__SHOWN(s->name));
    *edges += s->depends_count;
    if (*edges > PO__GRAPH_EDGES_MAX)
        return po__refuse(&c->out, PO_EINVAL, "the steps have more than %d dependencies",
                          PO__GRAPH_EDGES_MAX);
    for (uint32_t k = 0; k < s->depends_count; k++) {
        uint32_t at = positions[k];
        if (at >= i || (k && at <= positions[k - 1]))
            return po__refuse(&c->out, PO_EINVAL,
                              "step \"%.*s\": dependencies are positions below its own, increasing",
                              PO__SHOWN(s->name));
        c->before[i][at / 64] |= UINT64_C(1) << (at % 64);
        for (uint32_t w = 0; w < WORDS; w++)
            c->before[i][w] |= c->before[at][w];
    }
    return 0;
}

static int check_texts(const struct check *c, uint32_t i)
{
    const struct po__graph_step *s = &c->steps[i];
    struct place p = {c, i, false};
    struct po__template_error e = {.text = ""};
    int rv = s->when.len ? po__condition_check(s->when, ref, &p, &e) : 0;
    if (rv)
        return bad_text(c, i, "when", rv, &e);
    if (s->config.len && !po__json_ok(s->config))
        return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\": config is not a JSON text",
                          PO__SHOWN(s->name));
    rv = check_template(c, i, "map", s->map, false);
    return rv ? rv : check_template(c, i, "input", s->input, s->map.len > 0);
}

static int check_names(const struct check *c, const struct po__graph_step *s)
{
    if (!po__name_ok(s->name))
        return po__refuse(
            &c->out, PO_EINVAL,
            "step name \"%.*s\" is not a name; expected 1..%d characters of A-Z a-z 0-9 . "
            "_ -",
            PO__SHOWN(s->name), PO_NAME_MAX_BYTES);
    int rv = check_work(c, s);
    return rv ? rv : check_numbers(c, s);
}

static int check_steps(struct check *c)
{
    struct po__mpr r;
    uint32_t n = c->g->steps_count, edges = 0;
    int rv = 0;
    PO_PRE(c->steps && c->sorted);
    po__mpr_init(&r, c->g->steps.data, c->g->steps.len);
    if (po__mpr_array(&r, PO_STEPS_MAX) != n)
        return po__refuse(&c->out, PO_EINVAL, "steps_count does not match the encoded steps");
    for (uint32_t i = 0; i < n && !rv; i++) {
        if (po__graph_step_decode(&r, &c->steps[i]))
            return po__refuse(&c->out, PO_EINVAL, "step %u is malformed", i + 1);
        c->sorted[i] = (struct po__named){c->steps[i].name, i};
        rv = check_names(c, &c->steps[i]);
        rv = rv ? rv : check_depends(c, i, &edges);
    }
    if (!rv && po__mpr_end(&r))
        rv = po__refuse(&c->out, PO_EINVAL, "bytes follow the last of %u steps", n);
    if (rv)
        return rv;
    po__named_sort(c->sorted, n);
    for (uint32_t i = 1; i < n; i++)
        if (po__slice_eq(c->sorted[i - 1].name, c->sorted[i].name))
            return po__refuse(&c->out, PO_EINVAL, "step \"%.*s\" is defined twice",
                              PO__SHOWN(c->sorted[i].name));
    for (uint32_t i = 0; i < n && !rv; i++)
        rv = check_texts(c, i);
    return rv ? rv : check_template(c, UINT32_MAX, "output", c->g->output, false);
}

int po__graph_check(const struct po__graph *g, char *message, size_t message_len)
{
    struct check c = {.out = {message, message_len}, .g = g};
    size_t bytes = g->params.len + g->output.len + g->steps.len;
    if (!po__name_ok(g->name))
        return po__refuse(
            &c.out, PO_EINVAL,
            "pipeline name \"%.*s\" is not a name; expected 1..%d characters of A-Z a-z "
            "0-9 . _ -",
            PO__SHOWN(g->name), PO_NAME_MAX_BYTES);
    if (bytes > PO__PIPELINE_MAX_BYTES)
        return po__refuse(&c.out, PO_ETOOBIG, "the pipeline has %zu bytes; at most %d are allowed",
                          bytes, PO__PIPELINE_MAX_BYTES);
    if (g->version.len > PO__VERSION_MAX_BYTES)
        return po__refuse(&c.out, PO_ETOOBIG,
                          "the label of the version has %zu bytes; at most %d are allowed",
                          g->version.len, PO__VERSION_MAX_BYTES);
    if (g->steps_count == 0 || g->steps_count > PO_STEPS_MAX)
        return po__refuse(&c.out, PO_EINVAL, "number of steps is %u; expected 1..%d",
                          g->steps_count, PO_STEPS_MAX);
    c.steps = po__calloc(g->steps_count, sizeof *c.steps);
    c.sorted = po__calloc(g->steps_count, sizeof *c.sorted);
    c.before = po__calloc(g->steps_count, sizeof *c.before);
    int rv = c.steps && c.sorted && c.before ? check_params(&c)
                                             : po__refuse(&c.out, PO_ENOMEM, "out of memory");
    rv = rv ? rv : check_steps(&c);
    po__free(c.steps);
    po__free(c.sorted);
    po__free(c.before);
    return rv;
}
