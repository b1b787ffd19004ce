/* The shape of a graph: which step comes after which.
 *
 * Edges come from depends_on and from next_node; both mean the same. The shape is only judged when
 * every name is sound: otherwise one typo would be reported as a cascade of steps that never run.
 */
#include "graph_doc.h"

#include <pipeorch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include "../base/alloc.h"
#include "../base/assert.h"

#define NO_STEP PO__GDOC_NO_STEP

/* ---- names ---- */

/* Steps without a usable name stay out of the index: they are reported already. */
static int index_names(struct po__gdoc *g)
{
    for (uint32_t i = 0; i < g->count; i++) {
        const char *name = po__gdoc_string(g->v[i].json, "name");
        if (!name)
            continue;
        const json_t *first = json_object_get(g->index, name);
        if (first) {
            char at[PO__SPEC_POINTER_MAX_BYTES];
            po__gdoc_step_pointer(at, i, "name");
            po__doc_problem(g->d, at,
                            "step \"%s\" is already defined at /steps/%lld; names must be unique",
                            name, (long long)json_integer_value(first));
        } else if (json_object_set_new(g->index, name, json_integer((json_int_t)i))) {
            return PO_ENOMEM;
        }
        g->v[i].name = name;
    }
    return 0;
}

void po__gdoc_unknown_step(const struct po__gdoc *g, const char *name, char *out, size_t len)
{
    const char **names = po__calloc(g->count, sizeof *names);
    unsigned n = 0;
    for (uint32_t i = 0; names && i < g->count; i++)
        if (g->v[i].name)
            names[n++] = g->v[i].name;
    const char *near = names ? po__nearest(name, names, n) : NULL;
    if (near)
        snprintf(out, len, "no step is named \"%.128s\"; did you mean \"%s\"?", name, near);
    else
        snprintf(out, len, "no step is named \"%.128s\"; add it or correct the name", name);
    po__free(names);
}

uint32_t po__gdoc_resolve(struct po__gdoc *g, const char *pointer, const char *name)
{
    char what[PO__SPEC_PROBLEM_MAX_BYTES];
    const json_t *found = json_object_get(g->index, name);
    if (found)
        return (uint32_t)json_integer_value(found);
    po__gdoc_unknown_step(g, name, what, sizeof what);
    po__doc_problem(g->d, pointer, "%s", what);
    return NO_STEP;
}

/* ---- edges ---- */

static void edge_pointer(char out[PO__SPEC_POINTER_MAX_BYTES], const struct po__gedge *e)
{
    char key[32];
    snprintf(key, sizeof key, "depends_on/%d", e->entry);
    po__gdoc_step_pointer(out, e->step, e->entry < 0 ? "next_node" : key);
}

static void set_before(struct po__gdoc *g, uint32_t before, uint32_t after)
{
    const size_t words = (g->count + 63) / 64;
    g->before[after * words + before / 64] |= (uint64_t)1 << (before % 64);
}

/* Adds what `name` refers to. Both ends of an edge may name it; one of them may not do so twice. */
static void add_edge(struct po__gdoc *g, uint32_t step, int32_t entry, const char *name)
{
    struct po__gedge e = {.step = step, .entry = entry};
    char at[PO__SPEC_POINTER_MAX_BYTES];
    edge_pointer(at, &e);
    uint32_t other = po__gdoc_resolve(g, at, name);
    if (other == NO_STEP)
        return;
    e.before = entry < 0 ? step : other;
    e.after = entry < 0 ? other : step;
    bool known = po__gdoc_precedes(g, e.before, e.after);
    for (uint32_t i = g->edges_count; known && i-- > 0 && g->edges[i].step == step;)
        if (g->edges[i].entry >= 0 && g->edges[i].before == other)
            po__doc_problem(g->d, at, "step \"%s\" is named twice; once is enough", name);
    set_before(g, e.before, e.after);
    if (!known)
        g->edges[g->edges_count++] = e;
}

static int collect_edges(struct po__gdoc *g)
{
    size_t most = g->count, k;
    json_t *entry;
    for (uint32_t i = 0; i < g->count; i++)
        most += json_array_size(json_object_get(g->v[i].json, "depends_on"));
    g->edges = po__calloc(most, sizeof *g->edges);
    if (!g->edges)
        return PO_ENOMEM;
    for (uint32_t i = 0; i < g->count; i++) {
        const char *next = po__gdoc_string(g->v[i].json, "next_node");
        json_array_foreach(json_object_get(g->v[i].json, "depends_on"), k, entry)
        {
            if (json_is_string(entry) && json_string_length(entry))
                add_edge(g, i, (int32_t)k, json_string_value(entry));
        }
        if (next)
            add_edge(g, i, -1, next);
    }
    return 0;
}

/* ---- the order ---- */

static int edge_cmp(const void *a, const void *b)
{
    const struct po__gedge *x = a, *y = b;
    if (x->before != y->before)
        return x->before < y->before ? -1 : 1;
    return (x->after > y->after) - (x->after < y->after);
}

uint32_t po__gdoc_first_edge(const struct po__gdoc *g, uint32_t step)
{
    uint32_t low = 0, high = g->edges_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (g->edges[middle].before < step)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Puts the steps into g->order, of those that are ready always the first of the document. What is
 * left over depends on a cycle; waits[i] is then not 0. Returns how many there are in order. */
static uint32_t sort_steps(struct po__gdoc *g, uint32_t *waits)
{
    uint32_t done = 0, i;
    for (i = 0; i < g->edges_count; i++)
        waits[g->edges[i].after]++;
    for (i = 0; i < g->count;) {
        if (waits[i]) {
            i++;
            continue;
        }
        uint32_t next = i + 1;
        waits[i] = NO_STEP; /* taken */
        g->order[done++] = i;
        for (uint32_t e = po__gdoc_first_edge(g, i); e < g->edges_count && g->edges[e].before == i;
             e++)
            if (--waits[g->edges[e].after] == 0 && g->edges[e].after < next)
                next = g->edges[e].after;
        i = next;
    }
    return done;
}

/* Also of steps on cycles, which then come before themselves. */
static void close_over(struct po__gdoc *g)
{
    const size_t words = (g->count + 63) / 64;
    for (uint32_t k = 0; k < g->count; k++)
        for (uint32_t i = 0; i < g->count; i++)
            if (po__gdoc_precedes(g, k, i))
                for (size_t word = 0; word < words; word++)
                    g->before[i * words + word] |= g->before[k * words + word];
}

/* ---- cycles ---- */

static const struct po__gedge *edge_between(const struct po__gdoc *g, uint32_t before,
                                            uint32_t after)
{
    uint32_t e = po__gdoc_first_edge(g, before);
    while (g->edges[e].before != before || g->edges[e].after != after)
        e++;
    return &g->edges[e];
}

/* trail[0..count) is a cycle walked against its direction; it is told from its first step of the
 * document on, and blamed on the edge that comes back to it. */
static void report_cycle(struct po__gdoc *g, const uint32_t *trail, uint32_t count)
{
    char names[PO__SPEC_PROBLEM_MAX_BYTES / 2], at[PO__SPEC_POINTER_MAX_BYTES];
    size_t len = 0;
    uint32_t first = 0;
    PO_PRE(count > 0);
    for (uint32_t k = 1; k < count; k++)
        if (trail[k] < trail[first])
            first = k;
    for (uint32_t k = 0; k < count && len < sizeof names; k++)
        len += (size_t)snprintf(names + len, sizeof names - len, "%s -> ",
                                g->v[trail[(first + count - k) % count]].name);
    edge_pointer(at, edge_between(g, trail[(first + 1) % count], trail[first]));
    po__doc_problem(g->d, at, "the steps form a cycle: %s%s; a pipeline must come to an end",
                    len < sizeof names ? names : "a long chain -> ", g->v[trail[first]].name);
}

/* A step before `step` that waits for a cycle as well; there is one. */
static uint32_t waiting_before(const struct po__gdoc *g, const uint32_t *waits, uint32_t step)
{
    uint32_t i = 0;
    while (waits[i] == NO_STEP || !po__gdoc_precedes(g, i, step))
        i++;
    return i;
}

/* Each step that is left has a predecessor that is left, so walking back comes to a cycle. */
static int find_cycles(struct po__gdoc *g, const uint32_t *waits)
{
    uint32_t *trail = po__calloc(g->count, sizeof *trail);
    uint32_t *seen = po__calloc(g->count, sizeof *seen); /* place on the trail, from 1 */
    if (!trail || !seen) {
        po__free(trail);
        po__free(seen);
        return PO_ENOMEM;
    }
    uint32_t len = 0;
    for (uint32_t start = 0; start < g->count; start++) {
        uint32_t from = len, i = start;
        if (waits[start] == NO_STEP)
            continue;
        while (!seen[i]) {
            trail[len++] = i;
            seen[i] = len;
            i = waiting_before(g, waits, i);
        }
        if (seen[i] > from) /* on this walk's own trail, not on an earlier one */
            report_cycle(g, trail + seen[i] - 1, len - (seen[i] - 1));
    }
    po__free(trail);
    po__free(seen);
    return 0;
}

/* ---- what never runs ---- */

static bool is_root(const struct po__gdoc *g, uint32_t step)
{
    const size_t words = (g->count + 63) / 64;
    for (size_t word = 0; word < words; word++)
        if (g->before[step * words + word])
            return false;
    return true;
}

/* With a start_node everything begins with it; without, with each step that waits for none. */
static void check_start(struct po__gdoc *g, const char *start_node, uint32_t start)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    if (!is_root(g, start)) {
        po__doc_problem(g->d, "/start_node",
                        "step \"%s\" depends on other steps, so nothing could start; name a step "
                        "that depends on none, or leave start_node out",
                        start_node);
        return;
    }
    for (uint32_t i = 0; i < g->count; i++) {
        if (i == start || !is_root(g, i))
            continue;
        po__gdoc_step_pointer(at, i, NULL);
        po__doc_problem(g->d, at,
                        "step \"%s\" can never run: no path leads to it from start_node \"%s\"; "
                        "give it depends_on, remove it, or leave start_node out",
                        g->v[i].name, start_node);
    }
}

/* whole: every edge is known. Cycles are found without that; what never runs would be guessed. */
static int judge(struct po__gdoc *g, uint32_t start, bool whole)
{
    uint32_t *waits = po__calloc(g->count, sizeof *waits);
    int rv = waits ? 0 : PO_ENOMEM;
    if (rv)
        return rv;
    if (g->edges_count > PO__GRAPH_EDGES_MAX)
        po__doc_problem(g->d, "/steps",
                        "the steps depend on each other %u times; at most %d are "
                        "allowed",
                        g->edges_count, PO__GRAPH_EDGES_MAX);
    qsort(g->edges, g->edges_count, sizeof *g->edges, edge_cmp);
    bool cyclic = sort_steps(g, waits) < g->count;
    if (cyclic)
        rv = find_cycles(g, waits);
    if (!rv && whole) {
        close_over(g);
        g->shaped = true;
        if (!cyclic && start != NO_STEP)
            check_start(g, po__gdoc_string(g->root, "start_node"), start);
    }
    po__free(waits);
    return rv;
}

int po__gdoc_shape(struct po__gdoc *g)
{
    const size_t words = (g->count + 63) / 64;
    unsigned problems = g->d->count;
    bool named = true;
    g->index = json_object();
    g->order = po__calloc(g->count, sizeof *g->order);
    g->before = po__calloc(g->count * words, sizeof *g->before);
    if (!g->index || !g->order || !g->before || index_names(g) || collect_edges(g))
        return PO_ENOMEM;
    for (uint32_t i = 0; i < g->count; i++)
        named = named && g->v[i].name;
    const char *start_node = po__gdoc_string(g->root, "start_node");
    uint32_t start = start_node ? po__gdoc_resolve(g, "/start_node", start_node) : NO_STEP;
    return named ? judge(g, start, g->d->count == problems) : 0;
}
