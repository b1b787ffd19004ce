/* Layers, order and places, after Sugiyama: a node stands one layer below its last predecessor;
 * edges that pass layers get a place in each of them; the places of a layer are sorted by the
 * middle of their neighbours, up and down, and the order with the fewest crossings is kept; then
 * each is moved as near to the middle of its neighbours as the others let it. Whole numbers only.
 */
#include "draw.h"

#include <pipeorch/error.h>
#include <stdlib.h>
#include <string.h>
#include "../base/alloc.h"

#define SWEEPS       8
#define FINE         256 /* parts of a unit in which places are computed */
#define PASSING_PULL 4   /* long lines are straight rather than short ones */

/* ---- layers ---- */

int po__draw_layers(const struct po__drawing *g, unsigned *layers, unsigned *count)
{
    unsigned *waits = po__calloc(g->nodes_count + 1, sizeof *waits), done = 0;
    *count = 0;
    if (!waits)
        return PO_ENOMEM;
    for (unsigned i = 0; i < g->edges_count; i++)
        waits[g->edges[i].to]++;
    memset(layers, 0, g->nodes_count * sizeof *layers);
    for (unsigned moved = 1; moved;) { /* a node at a time, in the order of the definition */
        moved = 0;
        for (unsigned n = 0; n < g->nodes_count; n++) {
            if (waits[n] != 0)
                continue;
            waits[n] = UINT32_MAX;
            moved++;
            done++;
            *count = layers[n] + 1 > *count ? layers[n] + 1 : *count;
            for (unsigned i = 0; i < g->edges_count; i++) {
                const struct po__draw_edge *e = &g->edges[i];
                if (e->from != n)
                    continue;
                waits[e->to]--;
                if (layers[e->to] < layers[n] + 1)
                    layers[e->to] = layers[n] + 1;
            }
        }
    }
    po__free(waits);
    return done == g->nodes_count ? 0 : PO_EINVAL;
}

static int count_cells(struct po__draw_layout *l, const struct po__drawing *g,
                       const unsigned *layers)
{
    size_t links = 0;
    for (unsigned i = 0; i < g->edges_count; i++) {
        links += layers[g->edges[i].to] - layers[g->edges[i].from];
        if (links > PO__DRAW_EDGES_MAX)
            return PO_ETOOBIG;
    }
    l->links_count = (unsigned)links;
    l->cells_count = g->nodes_count + l->links_count - g->edges_count;
    return l->cells_count > PO__DRAW_CELLS_MAX ? PO_ETOOBIG : 0;
}

static int allocate(struct po__draw_layout *l)
{
    l->cells = po__calloc(l->cells_count + 1, sizeof *l->cells);
    l->links = po__calloc(l->links_count + 1, sizeof *l->links);
    l->order = po__calloc(l->cells_count + 1, sizeof *l->order);
    l->layer_at = po__calloc(l->layers_count + 2, sizeof *l->layer_at);
    l->links_at = po__calloc(l->layers_count + 2, sizeof *l->links_at);
    return l->cells && l->links && l->order && l->layer_at && l->links_at ? 0 : PO_ENOMEM;
}

/* Cells and links of each layer, by counting. */
static void fill(struct po__draw_layout *l, const struct po__drawing *g, const unsigned *layers,
                 const int *widths, int pass)
{
    unsigned next = g->nodes_count;
    for (unsigned n = 0; n < g->nodes_count; n++)
        l->cells[n] = (struct po__draw_cell){.layer = layers[n], .width = widths[n]};
    for (unsigned i = 0; i < g->edges_count; i++)
        for (unsigned k = layers[g->edges[i].from]; k < layers[g->edges[i].to]; k++) {
            l->links_at[k + 1]++;
            if (k > layers[g->edges[i].from])
                l->cells[next++] = (struct po__draw_cell){.layer = k, .width = pass};
        }
    for (unsigned c = 0; c < l->cells_count; c++)
        l->layer_at[l->cells[c].layer + 1]++;
    for (unsigned k = 0; k < l->layers_count; k++) {
        l->layer_at[k + 1] += l->layer_at[k];
        l->links_at[k + 1] += l->links_at[k];
    }
}

static int place(struct po__draw_layout *l, const struct po__drawing *g, const unsigned *layers)
{
    unsigned *filled = po__calloc(l->layers_count + 1, sizeof *filled), next = g->nodes_count;
    if (!filled)
        return PO_ENOMEM;
    for (unsigned c = 0; c < l->cells_count; c++) {
        unsigned k = l->cells[c].layer;
        l->cells[c].place = filled[k]++;
        l->order[l->layer_at[k] + l->cells[c].place] = c;
    }
    memset(filled, 0, l->layers_count * sizeof *filled);
    for (unsigned i = 0; i < g->edges_count; i++) {
        unsigned last = layers[g->edges[i].to], at = g->edges[i].from;
        for (unsigned k = layers[at]; k < last; k++) {
            unsigned to = k + 1 == last ? g->edges[i].to : next++;
            l->links[l->links_at[k] + filled[k]++] = (struct po__draw_link){at, to, i};
            at = to;
        }
    }
    po__free(filled);
    return 0;
}

/* ---- order ---- */

struct sorted {
    int64_t key;
    unsigned place, cell;
};

static int compare(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

struct order {
    struct po__draw_layout *l;
    struct sorted *sorted;
    int64_t *sum, *weight; /* of each cell's neighbours */
    unsigned *best;
    uint64_t *tree; /* of counts, for crossings */
};

/* Sort a layer by the middle of the neighbours above (down) or below. */
static void sort_layer(struct order *o, unsigned layer, bool down)
{
    struct po__draw_layout *l = o->l;
    unsigned at = l->layer_at[layer], n = l->layer_at[layer + 1] - at,
             gap = down ? layer - 1 : layer;
    for (unsigned i = 0; i < n; i++)
        o->sum[l->order[at + i]] = o->weight[l->order[at + i]] = 0;
    for (unsigned i = l->links_at[gap]; i < l->links_at[gap + 1]; i++) {
        unsigned self = down ? l->links[i].to : l->links[i].from;
        unsigned other = down ? l->links[i].from : l->links[i].to;
        o->sum[self] += l->cells[other].place;
        o->weight[self]++;
    }
    for (unsigned i = 0; i < n; i++) {
        unsigned c = l->order[at + i];
        int64_t key = o->weight[c] ? o->sum[c] * FINE / o->weight[c] : (int64_t)i * FINE;
        o->sorted[i] = (struct sorted){key, i, c};
    }
    qsort(o->sorted, n, sizeof *o->sorted, compare);
    for (unsigned i = 0; i < n; i++) {
        l->order[at + i] = o->sorted[i].cell;
        l->cells[o->sorted[i].cell].place = i;
    }
}

/* Pairs of links of one gap that cross: inversions of their ends when sorted by their beginnings.
 */
static uint64_t crossings_of(struct order *o, unsigned gap)
{
    struct po__draw_layout *l = o->l;
    unsigned at = l->links_at[gap], n = l->links_at[gap + 1] - at;
    unsigned below = l->layer_at[gap + 2] - l->layer_at[gap + 1];
    uint64_t found = 0, before = 0;
    for (unsigned i = 0; i < n; i++)
        o->sorted[i] = (struct sorted){l->cells[l->links[at + i].from].place,
                                       l->cells[l->links[at + i].to].place, 0};
    qsort(o->sorted, n, sizeof *o->sorted, compare);
    memset(o->tree, 0, (below + 1) * sizeof *o->tree);
    for (unsigned i = 0; i < n; i++, before++) {
        uint64_t not_right = 0;
        for (unsigned k = o->sorted[i].place + 1; k; k &= k - 1)
            not_right += o->tree[k];
        found += before - not_right;
        for (unsigned k = o->sorted[i].place + 1; k <= below; k += k & -k)
            o->tree[k]++;
    }
    return found;
}

static uint64_t crossings(struct order *o)
{
    uint64_t found = 0;
    for (unsigned k = 0; k + 1 < o->l->layers_count; k++)
        found += crossings_of(o, k);
    return found;
}

static void sort_all(struct order *o)
{
    struct po__draw_layout *l = o->l;
    size_t bytes = l->cells_count * sizeof *l->order;
    uint64_t fewest = crossings(o), now;
    memcpy(o->best, l->order, bytes);
    for (unsigned sweep = 0; sweep < SWEEPS && fewest; sweep++) {
        for (unsigned k = 1; k < l->layers_count; k++)
            sort_layer(o, k, true);
        for (unsigned k = l->layers_count - 1; k-- > 0;)
            sort_layer(o, k, false);
        now = crossings(o);
        if (now < fewest) {
            fewest = now;
            memcpy(o->best, l->order, bytes);
        }
    }
    memcpy(l->order, o->best, bytes);
    for (unsigned k = 0; k < l->layers_count; k++)
        for (unsigned i = l->layer_at[k]; i < l->layer_at[k + 1]; i++)
            l->cells[l->order[i]].place = i - l->layer_at[k];
}

static int order(struct po__draw_layout *l)
{
    unsigned most = l->cells_count > l->links_count ? l->cells_count : l->links_count;
    struct order o = {.l = l,
                      .sorted = po__calloc(most + 1, sizeof *o.sorted),
                      .sum = po__calloc(l->cells_count + 1, sizeof *o.sum),
                      .weight = po__calloc(l->cells_count + 1, sizeof *o.weight),
                      .best = po__calloc(l->cells_count + 1, sizeof *o.best),
                      .tree = po__calloc(l->cells_count + 2, sizeof *o.tree)};
    bool ok = o.sorted && o.sum && o.weight && o.best && o.tree;
    if (ok)
        sort_all(&o);
    po__free(o.sorted);
    po__free(o.sum);
    po__free(o.weight);
    po__free(o.best);
    po__free(o.tree);
    return ok ? 0 : PO_ENOMEM;
}

/* ---- places ---- */

/* Neighbours that want to stand nearer to each other than they may: they move together, to the mean
 * of where they want to be. Sums are of wishes less the room that those to the left need. */
struct group {
    int64_t sum, count;
    unsigned first;
};

struct placing {
    struct po__draw_layout *l;
    int64_t *x, *sum, *weight, *room;
    struct group *groups;
    unsigned nodes; /* cells below it are nodes */
    int gap;
};

static int64_t mean(const struct group *g)
{
    int64_t q = g->sum / g->count;
    return q * g->count > g->sum ? q - 1 : q; /* downwards, also below zero */
}

static void settle_layer(struct placing *p, unsigned layer)
{
    struct po__draw_layout *l = p->l;
    unsigned at = l->layer_at[layer], n = l->layer_at[layer + 1] - at, groups = 0;
    int64_t room = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned c = l->order[at + i];
        if (i)
            room += ((int64_t)l->cells[l->order[at + i - 1]].width + l->cells[c].width) * FINE / 2 +
                    (int64_t)p->gap * FINE;
        p->room[c] = room;
        int64_t wish = p->weight[c] ? p->sum[c] / p->weight[c] : p->x[c];
        struct group g = {wish - room, 1, i};
        while (groups && mean(&p->groups[groups - 1]) > mean(&g)) {
            groups--;
            g.sum += p->groups[groups].sum;
            g.count += p->groups[groups].count;
            g.first = p->groups[groups].first;
        }
        p->groups[groups++] = g;
    }
    for (unsigned k = 0; k < groups; k++) {
        unsigned end = k + 1 < groups ? p->groups[k + 1].first : n;
        for (unsigned i = p->groups[k].first; i < end; i++)
            p->x[l->order[at + i]] = mean(&p->groups[k]) + p->room[l->order[at + i]];
    }
}

static void wish(struct placing *p, unsigned layer, bool down)
{
    struct po__draw_layout *l = p->l;
    unsigned gap = down ? layer - 1 : layer;
    for (unsigned i = l->layer_at[layer]; i < l->layer_at[layer + 1]; i++)
        p->sum[l->order[i]] = p->weight[l->order[i]] = 0;
    for (unsigned i = l->links_at[gap]; i < l->links_at[gap + 1]; i++) {
        unsigned self = down ? l->links[i].to : l->links[i].from;
        unsigned other = down ? l->links[i].from : l->links[i].to;
        int64_t pull = (self < p->nodes ? 1 : PASSING_PULL) * (other < p->nodes ? 1 : PASSING_PULL);
        p->sum[self] += pull * p->x[other];
        p->weight[self] += pull;
    }
    settle_layer(p, layer);
}

static void settle(struct placing *p)
{
    struct po__draw_layout *l = p->l;
    int64_t left = INT64_MAX;
    for (unsigned k = 0; k < l->layers_count; k++)
        settle_layer(p, k); /* nobody wishes anything yet: side by side */
    for (unsigned sweep = 0; sweep < SWEEPS; sweep++) {
        for (unsigned k = 1; k < l->layers_count; k++)
            wish(p, k, true);
        for (unsigned k = l->layers_count - 1; k-- > 0;)
            wish(p, k, false);
    }
    for (unsigned c = 0; c < l->cells_count; c++) {
        int64_t edge = p->x[c] - (int64_t)l->cells[c].width * FINE / 2;
        left = edge < left ? edge : left;
    }
    for (unsigned c = 0; c < l->cells_count; c++) {
        struct po__draw_cell *cell = &l->cells[c];
        cell->x = (int)((p->x[c] - left + FINE / 2 - 1) / FINE);
        if (cell->x + (cell->width + 1) / 2 > l->width)
            l->width = cell->x + (cell->width + 1) / 2;
    }
}

static int find_places(struct po__draw_layout *l, unsigned nodes, int gap)
{
    size_t n = l->cells_count + 1;
    struct placing p = {.l = l,
                        .nodes = nodes,
                        .gap = gap,
                        .x = po__calloc(n, sizeof *p.x),
                        .sum = po__calloc(n, sizeof *p.sum),
                        .weight = po__calloc(n, sizeof *p.weight),
                        .room = po__calloc(n, sizeof *p.room),
                        .groups = po__calloc(n, sizeof *p.groups)};
    bool ok = p.x && p.sum && p.weight && p.room && p.groups;
    if (ok)
        settle(&p);
    po__free(p.x);
    po__free(p.sum);
    po__free(p.weight);
    po__free(p.room);
    po__free(p.groups);
    return ok ? 0 : PO_ENOMEM;
}

int po__draw_layout(struct po__draw_layout *l, const struct po__drawing *g, const int *widths,
                    int pass, int gap)
{
    unsigned *layers = po__calloc(g->nodes_count + 1, sizeof *layers);
    *l = (struct po__draw_layout){0};
    int rv = layers ? po__draw_layers(g, layers, &l->layers_count) : PO_ENOMEM;
    rv = rv ? rv : count_cells(l, g, layers);
    rv = rv ? rv : allocate(l);
    if (!rv) {
        fill(l, g, layers, widths, pass);
        rv = place(l, g, layers);
    }
    rv = rv ? rv : order(l);
    rv = rv ? rv : find_places(l, g->nodes_count, gap);
    po__free(layers);
    return rv;
}

void po__draw_layout_fini(struct po__draw_layout *l)
{
    po__free(l->cells);
    po__free(l->links);
    po__free(l->order);
    po__free(l->layer_at);
    po__free(l->links_at);
    *l = (struct po__draw_layout){0};
}
