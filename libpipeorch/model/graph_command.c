/* Encoding and decoding of pipelines that are graphs. */
#include "command.h"

#include <stdlib.h>

#define PARAM_FIELDS 4
#define STEP_FIELDS  16

static const char *const param_words[] = {"any",     "string", "number", "integer",
                                          "boolean", "object", "array"};
static const char *const join_words[] = {"all_succeeded", "all_done", "any_succeeded"};
static const char *const on_failure_words[] = {"fail", "continue"};

#define COUNT(words) (sizeof(words) / sizeof *(words))

static uint32_t named(const char *const *words, size_t count, struct po__slice word)
{
    for (uint32_t i = 0; i < count; i++)
        if (po__slice_eq(po__str(words[i]), word))
            return i;
    return UINT32_MAX;
}

const char *po__param_type_word(uint32_t type)
{
    return type < COUNT(param_words) ? param_words[type] : NULL;
}

const char *po__join_word(uint32_t join)
{
    return join < COUNT(join_words) ? join_words[join] : NULL;
}

const char *po__on_failure_word(uint32_t on_failure)
{
    return on_failure < COUNT(on_failure_words) ? on_failure_words[on_failure] : NULL;
}

uint32_t po__param_type_named(struct po__slice word)
{
    return named(param_words, COUNT(param_words), word);
}

uint32_t po__join_named(struct po__slice word)
{
    return named(join_words, COUNT(join_words), word);
}

uint32_t po__on_failure_named(struct po__slice word)
{
    return named(on_failure_words, COUNT(on_failure_words), word);
}

static int by_name(const void *a, const void *b)
{
    return po__slice_cmp(((const struct po__named *)a)->name, ((const struct po__named *)b)->name);
}

void po__named_sort(struct po__named *items, uint32_t count)
{
    qsort(items, count, sizeof *items, by_name);
}

uint32_t po__named_find(const struct po__named *items, uint32_t count, struct po__slice name)
{
    struct po__named key = {.name = name};
    const struct po__named *found = bsearch(&key, items, count, sizeof *items, by_name);
    return found ? found->at : UINT32_MAX;
}

/* ---- encode ---- */

void po__param_encode(struct po__buf *buf, const struct po__param *p)
{
    po__mpw_array(buf, PARAM_FIELDS);
    po__mpw_str(buf, p->name);
    po__mpw_uint(buf, p->type);
    po__mpw_bool(buf, p->required);
    po__mpw_str(buf, p->value);
}

void po__depends_encode(struct po__buf *buf, const uint32_t *positions, uint32_t count)
{
    po__mpw_array(buf, count);
    for (uint32_t i = 0; i < count; i++)
        po__mpw_uint(buf, positions[i]);
}

static void encode_depends(struct po__buf *buf, const struct po__graph_step *s)
{
    uint32_t positions[PO_STEPS_MAX] = {0};
    if (s->depends_count == 0)
        po__mpw_array(buf, 0);
    else if (s->depends_count > PO_STEPS_MAX || po__depends_decode(s, positions))
        buf->err = buf->err ? buf->err : PO_EPROTO;
    else
        po__depends_encode(buf, positions, s->depends_count);
}

/* In its one form, whichever it came in. */
static void encode_extra(struct po__buf *buf, struct po__slice bytes)
{
    const struct po__extra none = {0};
    if (bytes.len)
        po__extra_recode(buf, bytes);
    else
        po__extra_encode(buf, &none);
}

void po__graph_step_encode(struct po__buf *buf, const struct po__graph_step *s)
{
    po__mpw_array(buf, STEP_FIELDS);
    po__mpw_str(buf, s->name);
    po__mpw_str(buf, s->capability);
    po__mpw_str(buf, s->pipeline);
    encode_depends(buf, s);
    po__mpw_uint(buf, s->join);
    po__mpw_str(buf, s->when);
    po__mpw_str(buf, s->map);
    po__mpw_uint(buf, s->map_parallel);
    po__mpw_str(buf, s->input);
    po__mpw_str(buf, s->config);
    po__mpw_uint(buf, s->attempts_max);
    po__mpw_uint(buf, s->timeout_ms);
    po__mpw_uint(buf, s->on_failure);
    po__mpw_bool(buf, s->cache);
    po__mpw_uint(buf, s->cache_ms);
    encode_extra(buf, s->extra);
}

static void encode_params(struct po__buf *buf, const struct po__graph *g)
{
    struct po__mpr r;
    struct po__param p;
    po__mpw_array(buf, g->params_count);
    po__mpr_init(&r, g->params.data, g->params.len);
    if (g->params_count)
        po__mpr_array(&r, PO__GRAPH_PARAMS_MAX);
    for (uint32_t i = 0; i < g->params_count; i++) {
        if (po__param_decode(&r, &p)) {
            buf->err = buf->err ? buf->err : PO_EPROTO;
            return;
        }
        po__param_encode(buf, &p);
    }
}

static void encode_steps(struct po__buf *buf, const struct po__graph *g)
{
    struct po__mpr r;
    struct po__graph_step s;
    po__mpw_array(buf, g->steps_count);
    po__mpr_init(&r, g->steps.data, g->steps.len);
    po__mpr_array(&r, PO_STEPS_MAX);
    for (uint32_t i = 0; i < g->steps_count; i++) {
        if (po__graph_step_decode(&r, &s)) {
            buf->err = buf->err ? buf->err : PO_EPROTO;
            return;
        }
        po__graph_step_encode(buf, &s);
    }
}

void po__graph_encode(struct po__buf *buf, const struct po__graph *g)
{
    po__mpw_str(buf, g->name);
    po__mpw_str(buf, g->version);
    encode_params(buf, g);
    po__mpw_str(buf, g->output);
    encode_steps(buf, g);
}

/* ---- decode ---- */

static struct po__slice name(struct po__mpr *r)
{
    return po__mpr_str(r, PO_NAME_MAX_BYTES);
}

static struct po__slice text(struct po__mpr *r)
{
    return po__mpr_str(r, PO__PIPELINE_MAX_BYTES);
}

static uint32_t u32(struct po__mpr *r)
{
    return (uint32_t)po__mpr_uint(r, UINT32_MAX);
}

static void decode_param(struct po__mpr *r, struct po__param *p, bool strict, bool *version)
{
    uint32_t extra = po__cmd_fields(r, PARAM_FIELDS, strict, version);
    p->name = name(r);
    p->type = u32(r);
    p->required = po__mpr_bool(r);
    p->value = text(r);
    po__mpr_skip_all(r, extra);
}

int po__param_decode(struct po__mpr *r, struct po__param *p)
{
    bool version = false;
    decode_param(r, p, false, &version);
    return r->err;
}

/* Walked once here, so that whoever holds a decoded step may rely on it. */
static void decode_depends(struct po__mpr *r, struct po__graph_step *s)
{
    const uint8_t *start = r->p;
    s->depends_count = po__mpr_array(r, PO_STEPS_MAX);
    for (uint32_t i = 0; i < s->depends_count && !r->err; i++)
        po__mpr_uint(r, PO_STEPS_MAX - 1);
    s->depends = po__slice(start, (size_t)(r->p - start));
}

int po__depends_decode(const struct po__graph_step *s, uint32_t *positions)
{
    struct po__mpr r;
    if (s->depends_count == 0)
        return 0;
    po__mpr_init(&r, s->depends.data, s->depends.len);
    if (po__mpr_array(&r, PO_STEPS_MAX) != s->depends_count)
        po__mpr_fail(&r);
    for (uint32_t i = 0; i < s->depends_count && !r.err; i++)
        positions[i] = (uint32_t)po__mpr_uint(&r, PO_STEPS_MAX - 1);
    return po__mpr_end(&r);
}

static void decode_step(struct po__mpr *r, struct po__graph_step *s, bool strict, bool *version)
{
    struct po__extra extra;
    uint32_t more = po__cmd_fields(r, STEP_FIELDS, strict, version);
    s->name = name(r);
    s->capability = name(r);
    s->pipeline = name(r);
    decode_depends(r, s);
    s->join = u32(r);
    s->when = text(r);
    s->map = text(r);
    s->map_parallel = u32(r);
    s->input = text(r);
    s->config = text(r);
    s->attempts_max = u32(r);
    s->timeout_ms = u32(r);
    s->on_failure = u32(r);
    s->cache = po__mpr_bool(r);
    s->cache_ms = po__mpr_uint(r, UINT64_MAX);
    s->extra = po__mpr_raw(r);
    if (!r->err && po__extra_decode(s->extra, &extra))
        po__mpr_fail(r);
    po__mpr_skip_all(r, more);
}

int po__graph_step_decode(struct po__mpr *r, struct po__graph_step *s)
{
    bool version = false;
    decode_step(r, s, false, &version);
    return r->err;
}

int po__graph_decode(struct po__mpr *r, struct po__graph *g, bool strict, bool *version)
{
    struct po__param p;
    struct po__graph_step s;
    g->name = name(r);
    g->version = po__mpr_str(r, PO__VERSION_MAX_BYTES);
    const uint8_t *start = r->p;
    g->params_count = po__mpr_array(r, PO__GRAPH_PARAMS_MAX);
    for (uint32_t i = 0; i < g->params_count && !r->err; i++)
        decode_param(r, &p, strict, version);
    g->params = po__slice(start, (size_t)(r->p - start));
    g->output = text(r);
    start = r->p;
    g->steps_count = po__mpr_array(r, PO_STEPS_MAX);
    for (uint32_t i = 0; i < g->steps_count && !r->err; i++)
        decode_step(r, &s, strict, version);
    g->steps = po__slice(start, (size_t)(r->p - start));
    return r->err;
}
