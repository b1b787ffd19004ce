/* From a sound document to the command. */
#include "graph_doc.h"

#include <pipeorch/error.h>
#include "../base/alloc.h"

/* A value as it was written, without the white space between its tokens. */
static struct po__slice compact(struct po__buf *b, struct po__slice value)
{
    po__buf_reset(b);
    if (value.len)
        po__json_compact(b, value);
    return po__buf_slice(b);
}

static uint32_t place_of(const char *const *words, uint32_t count, const char *word)
{
    for (uint32_t i = 0; word && i < count; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return 0;
}

/* ---- what a task may ask for ---- */

static void fill_labels(struct po__placement *p, json_t *labels)
{
    const char *key;
    json_t *value;
    json_object_foreach(labels, key, value)
    {
        struct po__label_wish *l = &p->labels[p->labels_count++];
        const json_t *text = json_is_object(value) ? json_object_get(value, "not") : value;
        l->key = po__str(key);
        l->value = json_is_string(text)
                       ? po__slice(json_string_value(text), json_string_length(text))
                       : po__slice("", 0);
        l->op = json_is_true(value)     ? PO__LABEL_PRESENT
                : json_is_false(value)  ? PO__LABEL_ABSENT
                : json_is_object(value) ? PO__LABEL_UNEQUAL
                                        : PO__LABEL_EQUAL;
    }
}

static void fill_placement(struct po__placement *p, json_t *placement)
{
    static const char *const gpu[] = {"", "required", "forbidden"};
    static const char *const prefer[] = {"balance", "spread", "binpack", "local"};
    const char *key;
    json_t *value;
    p->zone = po__gdoc_slice(placement, "zone");
    p->gpu = place_of(gpu, 3, po__gdoc_string(placement, "gpu"));
    p->prefer = place_of(prefer, 4, po__gdoc_string(placement, "prefer"));
    fill_labels(p, json_object_get(placement, "labels"));
    json_object_foreach(json_object_get(placement, "resources"), key, value)
    {
        p->resources[p->resources_count++] = (struct po__resource){
            .name = po__str(key), .amount = (uint64_t)json_integer_value(value)};
    }
}

/* The range of versions and the placement, priority and delays; nothing if all are the defaults. */
static struct po__slice encode_extra(struct po__buf *b, const json_t *step, struct po__slice range)
{
    struct po__placement *p = po__calloc(1, sizeof *p);
    struct po__buf placed = {0};
    po__buf_reset(b);
    if (!p) {
        b->err = PO_ENOMEM;
        return po__slice("", 0);
    }
    fill_placement(p, json_object_get(step, "placement"));
    p->range = range;
    if (!po__placement_empty(p))
        po__placement_encode(&placed, p);
    po__free(p);
    const json_t *retry = json_object_get(step, "retry");
    struct po__extra e = {.placement = po__buf_slice(&placed),
                          .priority = (uint32_t)po__gdoc_number(step, "priority"),
                          .retry_ms = (uint32_t)po__gdoc_number(retry, "delay_ms"),
                          .retry_max_ms = (uint32_t)po__gdoc_number(retry, "delay_max_ms")};
    if (e.placement.len || e.priority || e.retry_ms || e.retry_max_ms)
        po__extra_encode(b, &e);
    b->err = b->err ? b->err : placed.err;
    po__buf_fini(&placed);
    return po__buf_slice(b);
}

/* ---- the parts of a definition ---- */

static int encode_params(const struct po__gdoc *g, struct po__buf *out)
{
    json_t *params = json_object_get(g->root, "params"), *param;
    struct po__slice texts = po__gdoc_text(g->text, "params");
    struct po__buf value = {0};
    const char *name;
    po__mpw_array(out, (uint32_t)json_object_size(params));
    json_object_foreach(params, name, param)
    {
        struct po__param p = {.name = po__str(name),
                              .required = json_is_true(json_object_get(param, "required"))};
        if (json_object_get(param, "type"))
            p.type = po__param_type_named(po__gdoc_slice(param, "type"));
        p.value = compact(&value, po__gdoc_text(po__gdoc_text(texts, name), "default"));
        if (value.err)
            out->err = value.err;
        po__param_encode(out, &p);
    }
    po__buf_fini(&value);
    return out->err;
}

/* What a step's slices point into. */
struct scratch {
    struct po__buf depends, map, input, config, extra;
    uint32_t *places; /* of the predecessors of all steps, one step's after the other's */
    uint32_t *from;   /* index of a step -> where its predecessors begin; count + 1 */
};

/* The predecessors' places in the order, increasing: the edges are walked in that order. */
static int list_depends(const struct po__gdoc *g, struct scratch *s)
{
    uint32_t *next = po__calloc(g->count, sizeof *next);
    s->from = po__calloc(g->count + 1, sizeof *s->from);
    s->places = po__calloc(g->edges_count + 1, sizeof *s->places);
    if (!next || !s->from || !s->places) {
        po__free(next);
        return PO_ENOMEM;
    }
    for (uint32_t e = 0; e < g->edges_count; e++)
        s->from[g->edges[e].after + 1]++;
    for (uint32_t i = 0; i < g->count; i++)
        s->from[i + 1] += s->from[i];
    memcpy(next, s->from, g->count * sizeof *next);
    for (uint32_t k = 0; k < g->count; k++)
        for (uint32_t e = po__gdoc_first_edge(g, g->order[k]);
             e < g->edges_count && g->edges[e].before == g->order[k]; e++)
            s->places[next[g->edges[e].after]++] = k;
    po__free(next);
    return 0;
}

static void encode_step(const struct po__gdoc *g, uint32_t i, struct scratch *s,
                        struct po__buf *out)
{
    const json_t *step = g->v[i].json, *cache = json_object_get(step, "cache");
    const struct po__slice text = g->v[i].text;
    struct po__slice range = po__slice("", 0);
    struct po__graph_step e = {.name = po__gdoc_slice(step, "name"),
                               .pipeline = po__gdoc_slice(step, "pipeline"),
                               .depends_count = s->from[i + 1] - s->from[i],
                               .when = po__gdoc_slice(step, "when"),
                               .map = compact(&s->map, po__gdoc_text(text, "map")),
                               .map_parallel = (uint32_t)po__gdoc_number(step, "map_parallel"),
                               .input = compact(&s->input, po__gdoc_text(text, "input")),
                               .config = compact(&s->config, po__gdoc_text(text, "config")),
                               .attempts_max = (uint32_t)po__gdoc_number(step, "attempts_max"),
                               .timeout_ms = (uint32_t)po__gdoc_number(step, "timeout_ms"),
                               .cache = cache && !json_is_false(cache),
                               .cache_ms = po__gdoc_number(cache, "ttl_ms")};
    if (e.pipeline.len == 0)
        po__gdoc_capability(g, NULL, po__gdoc_slice(step, "capability"), &e.capability, &range);
    if (json_object_get(step, "join"))
        e.join = po__join_named(po__gdoc_slice(step, "join"));
    if (json_object_get(step, "on_failure"))
        e.on_failure = po__on_failure_named(po__gdoc_slice(step, "on_failure"));
    po__buf_reset(&s->depends);
    po__depends_encode(&s->depends, s->places + s->from[i], e.depends_count);
    e.depends = po__buf_slice(&s->depends);
    e.extra = encode_extra(&s->extra, step, range);
    int err = s->map.err       ? s->map.err
              : s->input.err   ? s->input.err
              : s->config.err  ? s->config.err
              : s->depends.err ? s->depends.err
                               : s->extra.err;
    if (err)
        out->err = err;
    else
        po__graph_step_encode(out, &e);
}

static int encode_steps(const struct po__gdoc *g, struct po__buf *out)
{
    struct scratch s = {0};
    int rv = list_depends(g, &s);
    po__mpw_array(out, g->count);
    for (uint32_t k = 0; !rv && k < g->count; k++) {
        encode_step(g, g->order[k], &s, out);
        rv = out->err;
    }
    po__buf_fini(&s.depends);
    po__buf_fini(&s.map);
    po__buf_fini(&s.input);
    po__buf_fini(&s.config);
    po__buf_fini(&s.extra);
    po__free(s.places);
    po__free(s.from);
    return rv;
}

/* Params, output and steps one after the other; slices are taken when the buffer moves no more. */
int po__gdoc_encode(const struct po__gdoc *g, struct po__buf *out, struct po__cmd *cmd)
{
    int rv = encode_params(g, out);
    const size_t output = out->len;
    struct po__slice text = po__gdoc_text(g->text, "output");
    if (!rv && text.len)
        po__json_compact(out, text);
    const size_t steps = out->len;
    rv = rv ? rv : out->err;
    rv = rv ? rv : encode_steps(g, out);
    if (rv)
        return rv;
    const char *data = (const char *)out->data;
    *cmd = (struct po__cmd){.type = PO__CMD_PIPELINE_DEFINE_GRAPH};
    cmd->graph = (struct po__graph){
        .name = po__gdoc_slice(g->root, "name"),
        .version = po__gdoc_slice(g->root, "version"),
        .params = po__slice(data, output),
        .output = po__slice(data + output, steps - output),
        .steps = po__slice(data + steps, out->len - steps),
        .params_count = (uint32_t)json_object_size(json_object_get(g->root, "params")),
        .steps_count = g->count};
    return 0;
}
