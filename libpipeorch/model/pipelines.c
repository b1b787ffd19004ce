/* Definitions of pipelines. A definition never changes: defining a pipeline anew makes another one
 * under the same name, and runs hold on to the one they started with. */
#include "impl.h"

#include <stdlib.h>

static struct po__def *numbered(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__def, by_number);
}

static struct po__def *named(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__def, by_name);
}

static int number_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(numbered(a)->number, numbered(b)->number);
}

static int number_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, numbered(n)->number);
}

static int name_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(named(a)->name, named(b)->name);
}

static int name_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, named(n)->name);
}

struct po__def *po__def_find(const struct po__model *m, uint64_t number)
{
    struct po__tree_node *n = po__tree_find(&m->defs, &number, number_key);
    return n ? numbered(n) : NULL;
}

struct po__tree_node *po__def_after(const struct po__model *m, uint64_t number)
{
    uint64_t from = number + 1;
    return number == UINT64_MAX ? NULL : po__tree_lower_bound(&m->defs, &from, number_key);
}

struct po__def *po__pipeline_find(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_find(&m->pipelines, &name, name_key);
    return n ? named(n) : NULL;
}

struct po__def *po__pipeline_after(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_lower_bound(&m->pipelines, &name, name_key);
    if (n && name.len && po__slice_eq(named(n)->name, name))
        n = po__tree_next(n);
    return n ? named(n) : NULL;
}

static int step_order(const void *a, const void *b)
{
    return po__slice_cmp(((const struct po__step *)a)->name, ((const struct po__step *)b)->name);
}

/* Decode the steps and put them into the order of execution. po__cmd_check made sure that they are
 * a chain. */
static int build_chain(struct po__def *d)
{
    struct po__mpr r;
    struct po__step *sorted = po__calloc(d->steps_count, sizeof *sorted);
    d->chain = po__calloc(d->steps_count, sizeof *d->chain);
    if (!sorted || !d->chain) {
        po__free(sorted);
        return PO_ENOMEM;
    }
    po__mpr_init(&r, d->steps.data, d->steps.len);
    PO_INVARIANT(po__mpr_array(&r, PO_STEPS_MAX) == d->steps_count);
    for (uint32_t i = 0; i < d->steps_count; i++)
        PO_INVARIANT(po__step_decode(&r, &sorted[i]) == 0);
    qsort(sorted, d->steps_count, sizeof *sorted, step_order);
    struct po__step key = {.name = d->start_node};
    for (uint32_t i = 0; i < d->steps_count; i++) {
        struct po__step *s = bsearch(&key, sorted, d->steps_count, sizeof *sorted, step_order);
        PO_INVARIANT(s);
        d->chain[i] = *s;
        key.name = s->next_node;
    }
    po__free(sorted);
    return 0;
}

/* What definitions of both kinds have. */
struct said {
    struct po__slice name, start_node, steps;
    uint32_t steps_count;
};

static struct said said(const struct po__cmd *cmd)
{
    if (cmd->type == PO__CMD_PIPELINE_DEFINE_GRAPH)
        return (struct said){cmd->graph.name, po__slice(NULL, 0), cmd->graph.steps,
                             cmd->graph.steps_count};
    return (struct said){cmd->pipeline.name, cmd->pipeline.start_node, cmd->pipeline.steps,
                         cmd->pipeline.steps_count};
}

struct po__def *po__def_make(struct po__model *m, uint64_t number, const struct po__cmd *cmd)
{
    bool is_graph = cmd->type == PO__CMD_PIPELINE_DEFINE_GRAPH;
    struct said c = said(cmd);
    struct po__def *d = po__calloc(1, sizeof *d + c.name.len + c.start_node.len + c.steps.len + 3);
    if (!d) {
        po__oom(m);
        return NULL;
    }
    char *at = d->text;
    d->number = number;
    d->epoch = m->snap.epoch;
    d->steps_count = c.steps_count;
    d->name = po__put(&at, c.name);
    d->start_node = po__put(&at, c.start_node);
    d->steps = po__put(&at, c.steps);
    po__tree_node_init(&d->by_number);
    po__tree_node_init(&d->by_name);
    if (is_graph ? po__def_graph_make(d, &cmd->graph) : build_chain(d)) {
        po__oom(m);
        po__def_free(m, d);
        return NULL;
    }
    return d;
}

bool po__def_link(struct po__model *m, struct po__def *d, bool current)
{
    if (po__tree_insert(&m->defs, &d->by_number, number_cmp))
        return false;
    if (!current)
        return true;
    if (po__tree_insert(&m->pipelines, &d->by_name, name_cmp))
        return false;
    d->refs++;
    return true;
}

void po__def_free(struct po__model *m, struct po__def *d)
{
    if (po__tree_linked(&d->by_name))
        po__tree_remove(&m->pipelines, &d->by_name);
    if (po__tree_linked(&d->by_number))
        po__tree_remove(&m->defs, &d->by_number);
    po__def_graph_free(d->graph);
    po__free(d->chain);
    po__free(d);
}

void po__def_put(struct po__model *m, struct po__def *d)
{
    if (--d->refs)
        return;
    po__touch_def(m, d);
    po__def_free(m, d);
}

static bool same(const struct po__def *d, const struct po__cmd *cmd)
{
    struct said c = said(cmd);
    const struct po__def_graph *g = d->graph;
    if (!po__slice_eq(d->start_node, c.start_node) || !po__slice_eq(d->steps, c.steps))
        return false;
    return !g || (po__slice_eq(g->version, cmd->graph.version) &&
                  po__slice_eq(g->params, cmd->graph.params) &&
                  po__slice_eq(g->output, cmd->graph.output));
}

/* Of either kind: a pipeline may become a graph, and a chain again. */
void po__cmd_pipeline_define(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__def *old = po__pipeline_find(m, said(cmd).name);
    bool is_graph = cmd->type == PO__CMD_PIPELINE_DEFINE_GRAPH;
    if (old && is_graph == (old->graph != NULL) && same(old, cmd)) {
        m->result.id = old->number; /* the same definition again */
        return;
    }
    if (!old && m->pipelines.count >= PO__PIPELINES_MAX) {
        po__refuse(m, PO_EQUOTA, "%d pipelines are defined, which is the limit", PO__PIPELINES_MAX);
        return;
    }
    struct po__def *d = po__def_make(m, m->next_def, cmd);
    if (!d)
        return;
    m->next_def++;
    d->defined_ms = m->now_ms;
    if (old) {
        po__touch_def(m, old);
        po__tree_remove(&m->pipelines, &old->by_name);
        po__def_put(m, old);
    }
    PO_INVARIANT(po__def_link(m, d, true));
    m->result.id = d->number;
    po__news_pipeline(m, d->name);
}
