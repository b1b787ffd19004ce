#include "outputs.h"

#include <stdio.h>
#include <stdlib.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "../codec/template.h"

/* A graph whose templates are looked at. */
struct view {
    const struct po__graph *g;
    struct po__graph_step *steps;
    json_t *outputs; /* capability -> placeholder */
    /* while they are evaluated */
    struct po__buf *results; /* of each step; empty: it has none */
    struct po__buf params, list;
    struct po__slice item;
    char *error;
    size_t error_len;
};

static uint32_t find(const struct view *v, struct po__slice name)
{
    uint32_t i = 0;
    while (i < v->g->steps_count && !po__slice_eq(v->steps[i].name, name))
        i++;
    return i;
}

static char *key_of(struct po__slice s)
{
    return po__strndup(s.data, s.len);
}

/* ---- placeholders ---- */

/* What a reference asks of a value: the parts of a path from one on, and at its end perhaps an
 * array whose elements have the parts of another one. */
struct demand {
    const struct po__path *path, *item;
    bool list;
};

/* `value` (owned; may be NULL) as it must be to have what is demanded. NULL: no memory. */
static json_t *grown(json_t *value, const struct demand *d, unsigned part)
{
    const struct po__path_part *p = part < d->path->count ? &d->path->parts[part] : NULL;
    json_t *child;
    if (!p && !d->list)
        return value ? value : json_integer(1);
    if (p && p->name.data) {
        char *key = key_of(p->name);
        if (!json_is_object(value)) {
            json_decref(value);
            value = json_object();
        }
        child = key ? grown(json_incref(json_object_get(value, key)), d, part + 1) : NULL;
        if (!child || json_object_set_new(value, key, child)) {
            json_decref(value);
            value = NULL;
        }
        po__free(key);
        return value;
    }
    size_t index = p ? p->index : 0;
    if (!json_is_array(value)) {
        json_decref(value);
        value = json_array();
    }
    while (value && index <= PO__SIM_OUTPUT_INDEX_MAX && json_array_size(value) <= index)
        if (json_array_append_new(value, json_integer(1)))
            break;
    const struct demand inner = {.path = d->item};
    if (p)
        child = grown(json_incref(json_array_get(value, index)), d, part + 1);
    else
        child = d->item ? grown(json_incref(json_array_get(value, 0)), &inner, 1)
                        : json_incref(json_array_get(value, 0));
    if (!child || json_array_set_new(value, index, child)) {
        json_decref(value);
        value = NULL;
    }
    return value;
}

/* A path that begins with steps.NAME.output asks something of that step's capability. */
static int demand(struct view *v, const struct po__path *path, bool list,
                  const struct po__path *item)
{
    if (!po__path_part_is(path, 0, "steps") || path->count < 3 ||
        !po__path_part_is(path, 2, "output"))
        return 0;
    uint32_t at = find(v, path->parts[1].name);
    if (at == v->g->steps_count || v->steps[at].capability.len == 0)
        return 0;
    struct demand d = {.path = path, .item = item, .list = list};
    unsigned part = 3;
    if (v->steps[at].map.len && path->count > part) {
        part++; /* the element of the array that a map's output is */
    } else if (v->steps[at].map.len) {
        if (!item)
            return 0;
        d = (struct demand){.path = item};
        part = 1;
    }
    char *capability = key_of(v->steps[at].capability);
    json_t *value =
        capability ? grown(json_incref(json_object_get(v->outputs, capability)), &d, part) : NULL;
    int rv = value && json_object_set_new(v->outputs, capability, value) == 0 ? 0 : PO_ENOMEM;
    po__free(capability);
    return rv;
}

struct walk {
    struct view *v;
    const struct po__graph_step *step; /* NULL: the output of the pipeline */
    bool is_map;                       /* it is the map's own template */
    const struct po__path *item;       /* the map's reference is walked for one to an element */
    struct po__slice condition;        /* empty: it is a template */
};

static bool is_reference(struct po__slice template)
{
    return po__json_type(template) == PO__JSON_STRING;
}

/* Whether the reference at offset is what len() counts. */
static bool is_counted(struct po__slice condition, size_t offset)
{
    static const char before[] = "len(";
    size_t left = sizeof before - 1, n = offset < condition.len ? offset : condition.len;
    while (n-- > 0 && left > 0) {
        char c = condition.data[n];
        if (c == before[left - 1])
            left--;
        else if (!strchr(" \t\r\n${", c))
            return false;
    }
    return left == 0;
}

static int see(void *arg, const struct po__path *path, size_t offset, struct po__template_error *e)
{
    const struct walk *w = arg;
    if (w->step && !w->item && po__path_part_is(path, 0, "item") && is_reference(w->step->map)) {
        struct walk inner = {.v = w->v, .step = w->step, .is_map = true, .item = path};
        return po__template_refs(w->step->map, see, &inner, e);
    }
    PO_INVARIANT(!w->is_map || w->step);
    bool list = w->is_map ? is_reference(w->step->map) : is_counted(w->condition, offset);
    return demand(w->v, path, list, w->item);
}

/* Arrays that a map is over have some elements, all alike. */
static int multiply(json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;
    int rv = 0;
    json_object_foreach(value, key, member)
    {
        rv = rv ? rv : multiply(member);
    }
    json_array_foreach(value, i, member)
    {
        rv = rv ? rv : multiply(member);
    }
    while (!rv && json_array_size(value) == 1)
        for (int n = 1; !rv && n < PO__SIM_OUTPUT_ITEMS; n++)
            rv = json_array_append_new(value, json_deep_copy(json_array_get(value, 0))) ? PO_ENOMEM
                                                                                        : 0;
    return rv;
}

static int make_placeholders(struct view *v)
{
    struct po__template_error e;
    int rv = 0;
    for (uint32_t i = 0; !rv && i < v->g->steps_count; i++) {
        struct walk w = {.v = v, .step = &v->steps[i], .condition = v->steps[i].when};
        if (v->steps[i].when.len)
            rv = po__condition_check(v->steps[i].when, see, &w, &e);
        w.condition = po__slice(NULL, 0);
        if (!rv && v->steps[i].input.len)
            rv = po__template_refs(v->steps[i].input, see, &w, &e);
        w.is_map = true;
        if (!rv && v->steps[i].map.len)
            rv = po__template_refs(v->steps[i].map, see, &w, &e);
    }
    struct walk w = {.v = v};
    if (!rv && v->g->output.len)
        rv = po__template_refs(v->g->output, see, &w, &e);
    return rv ? rv : multiply(v->outputs);
}

/* ---- would it go? ---- */

static int resolve(void *arg, const struct po__path *path, unsigned *taken, struct po__slice *value,
                   struct po__template_error *e)
{
    struct view *v = arg;
    (void)e;
    *taken = 1;
    if (po__path_part_is(path, 0, "params")) {
        *value = po__json_root(po__buf_slice(&v->params));
    } else if (po__path_part_is(path, 0, "item") || po__path_part_is(path, 0, "index")) {
        *value = po__path_part_is(path, 0, "item") ? v->item : po__str("0");
    } else if (po__path_part_is(path, 0, "run")) {
        *taken = path->count > 1 ? 2 : 1;
        *value = po__str(po__path_part_is(path, 1, "id") ? "1" : "\"simulated\"");
    } else {
        uint32_t at = path->count > 2 ? find(v, path->parts[1].name) : v->g->steps_count;
        if (at == v->g->steps_count)
            return PO_ENOTFOUND;
        *taken = 3;
        *value = po__path_part_is(path, 2, "state") ? po__str("\"succeeded\"")
                 : po__path_part_is(path, 2, "error")
                     ? po__str("null")
                     : po__json_root(po__buf_slice(&v->results[at]));
    }
    return 0;
}

static int refuse(struct view *v, const struct po__graph_step *s, const char *what, int rv,
                  const struct po__template_error *e)
{
    if (rv == PO_ENOMEM)
        return rv;
    snprintf(v->error, v->error_len,
             "%s%.*s%s%s: %s; simulated workers answer with placeholders: give the capability an "
             "\"output\" in the file of workers, or other params",
             s ? "step \"" : "", s ? (int)s->name.len : 0, s ? s->name.data : "", s ? "\": " : "",
             what, e->text);
    return PO_EINVAL;
}

static int render(struct view *v, const struct po__graph_step *s, const char *what,
                  struct po__slice template, struct po__buf *out)
{
    const struct po__scope scope = {resolve, v};
    struct po__template_error e = {.text = "it is too long"};
    po__buf_reset(out);
    out->max_bytes = PO_PAYLOAD_MAX_BYTES;
    int rv = template.len ? po__template_render(out, template, &scope, &e) : 0;
    return rv ? refuse(v, s, what, rv, &e) : 0;
}

/* What a step leaves, of a map as often as there are elements. */
static int leave_result(struct view *v, uint32_t i, size_t times)
{
    struct po__buf *b = &v->results[i];
    char *capability = key_of(v->steps[i].capability);
    json_t *value = capability ? json_object_get(v->outputs, capability) : NULL;
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    const char *shown = text ? text : "{\"token\":1}";
    bool lost = !capability || (value && !text);
    if (v->steps[i].map.len)
        po__buf_append(b, "[", 1);
    for (size_t n = 0; n < times; n++)
        po__buf_printf(b, "%s%s", n ? "," : "", shown);
    if (v->steps[i].map.len)
        po__buf_append(b, "]", 1);
    free(text); /* jansson's allocator */
    po__free(capability);
    return lost ? PO_ENOMEM : b->err;
}

static int try_step(struct view *v, uint32_t i)
{
    const struct po__graph_step *s = &v->steps[i];
    const struct po__scope scope = {resolve, v};
    struct po__template_error e = {.text = ""};
    struct po__buf made = {0};
    size_t times = 1;
    bool yes;
    int rv = s->when.len ? po__condition_eval(&yes, s->when, &scope, &e) : 0;
    rv = rv ? refuse(v, s, "when", rv, &e) : render(v, s, "map", s->map, &v->list);
    if (!rv && s->map.len) {
        struct po__slice list = po__json_root(po__buf_slice(&v->list));
        times = po__json_count(list);
        if (po__json_type(list) != PO__JSON_ARRAY) {
            snprintf(e.text, sizeof e.text, "is %s, expected an array", po__json_a_type(list));
            rv = refuse(v, s, "map", PO_EINVAL, &e);
        } else if (times) {
            po__json_element(list, 0, &v->item);
        }
    }
    if (!rv && times)
        rv = render(v, s, "input", s->input, &made);
    po__buf_fini(&made);
    return rv ? rv : leave_result(v, i, times);
}

static int fill_params(struct view *v, struct po__slice params)
{
    struct po__param declared[PO__GRAPH_PARAMS_MAX];
    struct po__mpr r;
    uint32_t n = v->g->params_count;
    po__mpr_init(&r, v->g->params.data, v->g->params.len);
    po__mpr_array(&r, PO__GRAPH_PARAMS_MAX);
    for (uint32_t i = 0; i < n; i++)
        po__param_decode(&r, &declared[i]);
    return r.err ? r.err : po__params_fill(&v->params, declared, n, params, v->error, v->error_len);
}

static int try_all(struct view *v, struct po__slice params)
{
    struct po__buf made = {0};
    v->results = po__calloc(v->g->steps_count, sizeof *v->results);
    int rv = v->results ? fill_params(v, params) : PO_ENOMEM;
    for (uint32_t i = 0; !rv && i < v->g->steps_count; i++)
        rv = try_step(v, i);
    rv = rv ? rv : render(v, NULL, "output", v->g->output, &made);
    po__buf_fini(&made);
    for (uint32_t i = 0; v->results && i < v->g->steps_count; i++)
        po__buf_fini(&v->results[i]);
    po__free(v->results);
    po__buf_fini(&v->params);
    po__buf_fini(&v->list);
    return rv;
}

int po__sim_outputs(json_t **outputs, const struct po__graph *g, json_t *given,
                    struct po__slice params, char *error, size_t error_len)
{
    struct view v = {.g = g, .error = error, .error_len = error_len, .outputs = json_object()};
    struct po__mpr r;
    v.steps = po__calloc(g->steps_count, sizeof *v.steps);
    int rv = v.steps && v.outputs ? 0 : PO_ENOMEM;
    po__mpr_init(&r, g->steps.data, g->steps.len);
    po__mpr_array(&r, PO_STEPS_MAX);
    for (uint32_t i = 0; !rv && i < g->steps_count; i++) {
        rv = po__graph_step_decode(&r, &v.steps[i]);
        if (!rv && v.steps[i].pipeline.len) {
            snprintf(error, error_len,
                     "step \"%.*s\" runs another pipeline; a simulation has only the one that it "
                     "is given",
                     (int)v.steps[i].name.len, v.steps[i].name.data);
            rv = PO_EINVAL;
        }
    }
    rv = rv ? rv : make_placeholders(&v);
    if (!rv && given && json_object_update(v.outputs, given))
        rv = PO_ENOMEM;
    rv = rv ? rv : try_all(&v, params);
    po__free(v.steps);
    *outputs = rv ? NULL : v.outputs;
    if (rv)
        json_decref(v.outputs);
    return rv;
}
