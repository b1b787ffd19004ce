/* Pipelines that are graphs in readable form: steps by name, and with the names of those before
 * them. */
#include <pipeorch/error.h>
#include "../model/command.h"
#include "out.h"

static void params(struct po__buf *b, const struct po__graph *g)
{
    struct po__mpr r;
    struct po__param p;
    po__mpr_init(&r, g->params.data, g->params.len);
    uint32_t n = po__mpr_array(&r, PO__GRAPH_PARAMS_MAX);
    po__mpw_cstr(b, "params");
    po__mpw_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        if (po__param_decode(&r, &p))
            p = (struct po__param){.name = po__str("malformed")};
        const char *word = po__param_type_word(p.type);
        po__mpw_map(b, 4);
        po__out_text(b, "name", p.name);
        po__out_cstr(b, "type", word ? word : "unknown");
        po__out_bool(b, "required", p.required);
        po__out_text(b, "default", p.value);
    }
}

static void depends(struct po__buf *b, const struct po__graph_step *s,
                    const struct po__slice *names, uint32_t count)
{
    uint32_t positions[PO_STEPS_MAX];
    uint32_t n = po__depends_decode(s, positions) ? 0 : s->depends_count;
    po__mpw_cstr(b, "depends_on");
    po__mpw_array(b, n);
    for (uint32_t k = 0; k < n; k++)
        po__mpw_str(b, positions[k] < count ? names[positions[k]] : po__str("malformed"));
}

static void step(struct po__buf *b, const struct po__graph_step *s, const struct po__slice *names,
                 uint32_t count)
{
    const char *join = po__join_word(s->join), *on_failure = po__on_failure_word(s->on_failure);
    po__mpw_map(b, 16);
    po__out_text(b, "name", s->name);
    po__out_text(b, "capability", s->capability);
    po__out_text(b, "pipeline", s->pipeline);
    depends(b, s, names, count);
    po__out_cstr(b, "join", join ? join : "unknown");
    po__out_text(b, "when", s->when);
    po__out_text(b, "map", s->map);
    po__out_uint(b, "map_parallel", s->map_parallel);
    po__out_text(b, "input", s->input);
    po__out_text(b, "config", s->config);
    po__out_uint(b, "attempts_max", s->attempts_max);
    po__out_uint(b, "timeout_ms", s->timeout_ms);
    po__out_cstr(b, "on_failure", on_failure ? on_failure : "unknown");
    po__out_bool(b, "cache", s->cache);
    po__out_uint(b, "cache_ms", s->cache_ms);
    po__mpw_cstr(b, "extra");
    po__describe_extra(b, s->extra);
}

/* The fields behind the type. */
void po__describe_graph(struct po__buf *b, const struct po__graph *g)
{
    struct po__mpr r;
    struct po__graph_step s;
    struct po__slice names[PO_STEPS_MAX];
    po__out_text(b, "name", g->name);
    po__out_text(b, "version", g->version);
    params(b, g);
    po__out_text(b, "output", g->output);
    po__mpr_init(&r, g->steps.data, g->steps.len);
    uint32_t n = po__mpr_array(&r, PO_STEPS_MAX);
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        if (po__graph_step_decode(&r, &s))
            s = (struct po__graph_step){.name = po__str("malformed"), .extra = po__str("\x90")};
        names[i] = s.name;
        step(b, &s, names, i);
    }
}
