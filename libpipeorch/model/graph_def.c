/* A definition that is a graph, ready to run: its steps decoded, and for each of them those before
 * and those behind it. Made once for each definition. */
#include "impl.h"

static int put_params(struct po__def_graph *g, uint32_t count)
{
    struct po__mpr r;
    g->params_count = count;
    if (count == 0)
        return 0;
    g->declared = po__calloc(count, sizeof *g->declared);
    if (!g->declared)
        return PO_ENOMEM;
    po__mpr_init(&r, g->params.data, g->params.len);
    PO_INVARIANT(po__mpr_array(&r, PO__GRAPH_PARAMS_MAX) == count);
    for (uint32_t i = 0; i < count; i++)
        PO_INVARIANT(po__param_decode(&r, &g->declared[i]) == 0);
    return 0;
}

static int put_nodes(struct po__def *d, struct po__def_graph *g, uint32_t *edges)
{
    struct po__mpr r;
    *edges = 0;
    g->nodes = po__calloc(d->steps_count, sizeof *g->nodes);
    g->by_name = po__calloc(d->steps_count, sizeof *g->by_name);
    if (!g->nodes || !g->by_name)
        return PO_ENOMEM;
    po__mpr_init(&r, d->steps.data, d->steps.len);
    PO_INVARIANT(po__mpr_array(&r, PO_STEPS_MAX) == d->steps_count);
    for (uint32_t i = 0; i < d->steps_count; i++) {
        struct po__graph_step *s = &g->nodes[i].step;
        PO_INVARIANT(po__graph_step_decode(&r, s) == 0);
        g->by_name[i] = (struct po__named){s->name, i};
        *edges += s->depends_count;
    }
    po__named_sort(g->by_name, d->steps_count);
    return 0;
}

/* Each edge stands in `needs` of its end and in `feeds` of its start. */
static int put_edges(struct po__def *d, struct po__def_graph *g, uint32_t edges)
{
    g->edges = po__calloc(2 * (size_t)edges + 1, sizeof *g->edges);
    if (!g->edges)
        return PO_ENOMEM;
    uint32_t *at = g->edges;
    for (uint32_t i = 0; i < d->steps_count; i++) {
        struct po__graph_node *n = &g->nodes[i];
        n->needs = at;
        n->needs_count = n->step.depends_count;
        PO_INVARIANT(po__depends_decode(&n->step, at) == 0);
        for (uint32_t k = 0; k < n->needs_count; k++)
            g->nodes[at[k]].feeds_count++;
        at += n->needs_count;
    }
    for (uint32_t i = 0; i < d->steps_count; i++) {
        struct po__graph_node *n = &g->nodes[i];
        n->feeds = at;
        at += n->feeds_count;
        n->feeds_count = 0;
    }
    for (uint32_t i = 0; i < d->steps_count; i++) {
        const struct po__graph_node *n = &g->nodes[i];
        for (uint32_t k = 0; k < n->needs_count; k++) {
            struct po__graph_node *before = &g->nodes[n->needs[k]];
            before->feeds[before->feeds_count++] = i;
        }
    }
    return 0;
}

int po__def_graph_make(struct po__def *d, const struct po__graph *from)
{
    size_t text = from->version.len + from->params.len + from->output.len + 3;
    struct po__def_graph *g = po__calloc(1, sizeof *g + text);
    uint32_t edges;
    if (!g)
        return PO_ENOMEM;
    d->graph = g;
    char *at = g->text;
    g->version = po__put(&at, from->version);
    g->params = po__put(&at, from->params);
    g->output = po__put(&at, from->output);
    int rv = put_params(g, from->params_count);
    rv = rv ? rv : put_nodes(d, g, &edges);
    rv = rv ? rv : put_edges(d, g, edges);
    if (rv)
        return rv;
    for (uint32_t i = 0; i < d->steps_count; i++) {
        if (g->nodes[i].feeds_count)
            continue;
        g->end = i;
        g->ends_count++;
    }
    return 0;
}

void po__def_graph_free(struct po__def_graph *g)
{
    if (!g)
        return;
    po__free(g->declared);
    po__free(g->nodes);
    po__free(g->by_name);
    po__free(g->edges);
    po__free(g);
}
