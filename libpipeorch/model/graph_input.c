/* What the templates and conditions of a step see, and the inputs made of it.
 *
 *   params                      of the run
 *   steps.NAME.output           of a step that is over; if it did not succeed, it and its parts are
 *                               null in inputs, whose step has said by its join that it can do
 *                               without, and not there elsewhere: a run without its output fails
 *   steps.NAME.state            "succeeded", "failed", "skipped"
 *   steps.NAME.error            a text, or null
 *   run.id .pipeline .key .scheduled_ms
 *   item, index                 of a map's element */
#include "impl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "../codec/template.h"

struct held { /* a value that is not kept as JSON: made when it is asked for */
    struct held *next;
    char text[];
};

struct view {
    struct po__model *m;
    struct po__run *r;
    uint32_t item;
    struct po__slice value; /* of the element */
    uint64_t seen_bytes;
    struct held *held;
    bool absent_is_null; /* see steps.NAME.output above */
};

static const char *const state_texts[] = {
    [PO__STEP_WAITING] = "\"waiting\"",     [PO__STEP_RUNNING] = "\"running\"",
    [PO__STEP_SUCCEEDED] = "\"succeeded\"", [PO__STEP_FAILED] = "\"failed\"",
    [PO__STEP_SKIPPED] = "\"skipped\"",     [PO__STEP_CANCELLED] = "\"cancelled\"",
};

static int hold(struct view *v, const struct po__buf *b, struct po__slice *value)
{
    struct held *h = b->err ? NULL : po__malloc(sizeof *h + b->len + 1);
    if (!h) {
        po__oom(v->m);
        return PO_ENOMEM;
    }
    memcpy(h->text, b->data, b->len);
    h->next = v->held;
    v->held = h;
    *value = po__slice(h->text, b->len);
    return 0;
}

static int hold_number(struct view *v, uint64_t n, struct po__slice *value)
{
    struct po__buf b = {0};
    po__buf_printf(&b, "%" PRIu64, n);
    int rv = hold(v, &b, value);
    po__buf_fini(&b);
    return rv;
}

static int hold_string(struct view *v, struct po__slice s, struct po__slice *value)
{
    struct po__buf b = {0};
    po__json_string(&b, s);
    int rv = hold(v, &b, value);
    po__buf_fini(&b);
    return rv;
}

static void view_fini(struct view *v)
{
    while (v->held) {
        struct held *h = v->held;
        v->held = h->next;
        po__free(h);
    }
    v->m->run_work_bytes += v->seen_bytes;
}

/* ---- the roots ---- */

static int resolve_step(struct view *v, const struct po__path *path, unsigned *taken,
                        struct po__slice *value, struct po__template_error *e)
{
    const struct po__def *def = v->r->def;
    struct po__slice name = path->count > 2 ? path->parts[1].name : po__slice(NULL, 0);
    uint32_t at = po__named_find(def->graph->by_name, def->steps_count, name);
    if (at == UINT32_MAX)
        return PO_ENOTFOUND;
    const struct po__step_state *s = &v->r->more->steps[at];
    *taken = 3;
    if (po__path_part_is(path, 2, "state")) {
        *value = po__str(state_texts[s->state]);
        return 0;
    }
    if (po__path_part_is(path, 2, "error")) {
        *value = po__str("null");
        return s->error.len ? hold_string(v, s->error, value) : 0;
    }
    if (s->output.len) {
        *value = po__json_root(s->output);
        return 0;
    }
    if (v->absent_is_null) {
        *taken = path->count;
        *value = po__str("null");
        return 0;
    }
    po__template_fail(e, "steps.%.*s.output is not there: the step is %s", (int)name.len, name.data,
                      state_texts[s->state]);
    return PO_ENOTFOUND;
}

static int resolve_run(struct view *v, const struct po__path *path, unsigned *taken,
                       struct po__slice *value)
{
    const struct po__run *r = v->r;
    *taken = 2;
    if (path->count < 2)
        return PO_ENOTFOUND;
    if (po__path_part_is(path, 1, "id"))
        return hold_number(v, r->id, value);
    if (po__path_part_is(path, 1, "pipeline"))
        return hold_string(v, r->def->name, value);
    *value = po__str("null");
    if (po__path_part_is(path, 1, "scheduled_ms"))
        return r->more->scheduled_ms ? hold_number(v, r->more->scheduled_ms, value) : 0;
    if (po__path_part_is(path, 1, "key")) /* bytes; a text if they are one */
        return r->key.len && po__utf8_ok(r->key) ? hold_string(v, r->key, value) : 0;
    return PO_ENOTFOUND;
}

static int resolve_root(struct view *v, const struct po__path *path, unsigned *taken,
                        struct po__slice *value, struct po__template_error *e)
{
    *taken = 1;
    if (po__path_part_is(path, 0, "params")) {
        *value = po__json_root(v->r->params);
        return 0;
    }
    if (po__path_part_is(path, 0, "steps"))
        return resolve_step(v, path, taken, value, e);
    if (po__path_part_is(path, 0, "run"))
        return resolve_run(v, path, taken, value);
    if (v->item == PO__NO_ITEM)
        return PO_ENOTFOUND;
    if (po__path_part_is(path, 0, "item")) {
        *value = v->value;
        return 0;
    }
    return po__path_part_is(path, 0, "index") ? hold_number(v, v->item, value) : PO_ENOTFOUND;
}

static int resolve(void *arg, const struct po__path *path, unsigned *taken, struct po__slice *value,
                   struct po__template_error *e)
{
    struct view *v = arg;
    int rv = resolve_root(v, path, taken, value, e);
    if (rv)
        return rv;
    v->seen_bytes += (uint64_t)value->len * (path->count - *taken + 1); /* each part looks anew */
    if (v->seen_bytes <= PO__TEMPLATE_WORK_MAX_BYTES)
        return 0;
    po__template_fail(e, "it looks at more than %u bytes of params and outputs",
                      PO__TEMPLATE_WORK_MAX_BYTES);
    return PO_ETOOBIG;
}

/* ---- texts ---- */

static int fail(struct po__error_text *e, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct po__error_text *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap); /* whatever is put in is short enough */
    va_end(ap);
    return code;
}

/* A template into out, at most PO_PAYLOAD_MAX_BYTES. */
static int render(struct view *v, struct po__slice text, const char *what, struct po__buf *out,
                  struct po__error_text *e)
{
    const struct po__scope scope = {resolve, v};
    struct po__template_error why = {.text = ""};
    po__buf_reset(out);
    out->max_bytes = PO_PAYLOAD_MAX_BYTES;
    int rv = po__template_render(out, text, &scope, &why);
    out->max_bytes = 0;
    v->seen_bytes += out->len;
    if (rv == PO_ENOMEM)
        po__oom(v->m);
    if (rv == PO_ETOOBIG && out->err)
        return fail(e, rv, "%s: it has more than %d bytes; pass a reference to the data instead",
                    what, PO_PAYLOAD_MAX_BYTES);
    return rv ? fail(e, rv, "%s: %s", what, why.text) : 0;
}

int po__graph_when(struct po__model *m, struct po__run *r, uint32_t step, bool *yes,
                   struct po__error_text *e)
{
    struct view v = {.m = m, .r = r, .item = PO__NO_ITEM};
    const struct po__scope scope = {resolve, &v};
    struct po__slice text = r->def->graph->nodes[step].step.when;
    struct po__template_error why = {.text = ""};
    *yes = true;
    int rv = text.len ? po__condition_eval(yes, text, &scope, &why) : 0;
    view_fini(&v);
    if (rv == PO_ENOMEM)
        po__oom(m);
    return rv ? fail(e, rv, "when: %s", why.text) : 0;
}

int po__graph_list(struct po__model *m, struct po__run *r, uint32_t step, struct po__buf *out,
                   struct po__error_text *e)
{
    struct view v = {.m = m, .r = r, .item = PO__NO_ITEM};
    struct po__slice text = r->def->graph->nodes[step].step.map;
    int rv = render(&v, text, "map", out, e);
    view_fini(&v);
    if (rv)
        return rv;
    struct po__slice list = po__json_root(po__buf_slice(out));
    if (po__json_type(list) == PO__JSON_ARRAY)
        return 0;
    text = po__utf8_cut(text, PO__PATH_MAX_BYTES);
    return fail(e, PO_EINVAL, "map: %.*s is %s, expected an array", (int)text.len, text.data,
                po__json_a_type(list));
}

/* ---- without a template ---- */

static void put(struct po__buf *b, struct po__slice json)
{
    po__buf_append(b, json.len ? json.data : "null", json.len ? json.len : 4);
}

/* The outputs of some steps by name. */
static void put_outputs(struct po__buf *b, const struct po__run *r, const uint32_t *steps,
                        uint32_t count)
{
    po__buf_append(b, "{", 1);
    for (uint32_t k = 0; k < count; k++) {
        if (k)
            po__buf_append(b, ",", 1);
        po__json_string(b, r->def->graph->nodes[steps[k]].step.name);
        po__buf_append(b, ":", 1);
        put(b, r->more->steps[steps[k]].output);
    }
    po__buf_append(b, "}", 1);
}

/* As the steps of a chain have it. */
static void put_default(struct po__buf *b, const struct po__run *r, uint32_t step, uint32_t item,
                        struct po__slice value)
{
    const struct po__graph_node *n = &r->def->graph->nodes[step];
    po__buf_printf(b, "{\"pipeline\":");
    po__json_string(b, r->def->name);
    po__buf_printf(b, ",\"run_id\":%" PRIu64 ",\"step\":", r->id);
    po__json_string(b, n->step.name);
    po__buf_printf(b, ",\"params\":");
    put(b, r->params);
    po__buf_printf(b, ",\"config\":");
    put(b, n->step.config);
    po__buf_printf(b, ",\"input\":");
    if (n->needs_count > 1)
        put_outputs(b, r, n->needs, n->needs_count);
    else
        put(b, n->needs_count ? r->more->steps[n->needs[0]].output : po__slice(NULL, 0));
    if (item != PO__NO_ITEM) {
        po__buf_printf(b, ",\"item\":");
        put(b, value);
        po__buf_printf(b, ",\"index\":%" PRIu32, item);
    }
    po__buf_append(b, "}", 1);
}

int po__graph_input(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                    struct po__slice value, struct po__buf *out, struct po__error_text *e)
{
    const struct po__graph_step *s = &r->def->graph->nodes[step].step;
    if (s->input.len) {
        struct view v = {.m = m, .r = r, .item = item, .value = value, .absent_is_null = true};
        int rv = render(&v, s->input, "input", out, e);
        view_fini(&v);
        return rv;
    }
    po__buf_reset(out);
    out->max_bytes = PO_PAYLOAD_MAX_BYTES;
    if (s->pipeline.len)
        put(out, item == PO__NO_ITEM ? po__str("{}") : value);
    else
        put_default(out, r, step, item, value);
    out->max_bytes = 0;
    m->run_work_bytes += out->len;
    if (out->err == PO_ETOOBIG)
        return fail(e, PO_ETOOBIG,
                    "input: params, config and the outputs before it have more than %d bytes; pass "
                    "a reference to the data instead",
                    PO_PAYLOAD_MAX_BYTES);
    if (out->err)
        po__oom(m);
    return out->err;
}

int po__graph_output(struct po__model *m, struct po__run *r, struct po__buf *out,
                     struct po__error_text *e)
{
    const struct po__def_graph *g = r->def->graph;
    if (g->output.len) {
        struct view v = {.m = m, .r = r, .item = PO__NO_ITEM};
        int rv = render(&v, g->output, "output", out, e);
        view_fini(&v);
        return rv;
    }
    po__buf_reset(out);
    if (g->ends_count == 1)
        return 0;
    uint32_t ends[PO_STEPS_MAX], n = 0;
    for (uint32_t i = 0; i < r->def->steps_count; i++)
        if (g->nodes[i].feeds_count == 0)
            ends[n++] = i;
    out->max_bytes = PO__RUN_MAX_BYTES;
    put_outputs(out, r, ends, n);
    out->max_bytes = 0;
    m->run_work_bytes += out->len;
    if (out->err == PO_ETOOBIG)
        return fail(e, PO_ETOOBIG,
                    "output: the outputs of the last steps have more than %u bytes together; name "
                    "what is wanted in the pipeline's output",
                    PO__RUN_MAX_BYTES);
    if (out->err)
        po__oom(m);
    else if (!po__json_ok(po__buf_slice(out)))
        return fail(e, PO_EINVAL,
                    "output: the outputs of the last steps are too deep for an object");
    return out->err;
}
