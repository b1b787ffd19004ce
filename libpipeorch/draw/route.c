/* The lines between two layers, drawn with characters. From each cell a line goes down from the
 * middle of its lower side, then sideways in a row of its own, then down to the cells where it
 * ends. Lines that branch off one cell share their row; so do those that come together in one cell,
 * if they go nowhere else. Rows are given from above: where a line leaves the column that another
 * one enters by, it must turn off first. */
#include "draw.h"

#include <pipeorch/error.h>
#include <stdlib.h>
#include "../base/alloc.h"

#define UNKNOWN  (-1)
#define STRAIGHT (-1)

struct routing {
    struct po__draw_routes *r;
    const struct po__drawing *g;
    const struct po__draw_layout *l;
    const struct po__draw_link *links;
    unsigned count;
    unsigned *out, *in; /* links of the gap at each cell */
    bool *placed;       /* nets */
};

static int column(const struct routing *t, unsigned cell)
{
    return t->l->cells[cell].x;
}

/* Which links share a net: those of one source; those into one target from sources that have no
 * other link. */
static void make_nets(struct routing *t)
{
    struct po__draw_routes *r = t->r;
    for (unsigned i = 0; i < t->count; i++) {
        const struct po__draw_link *k = &t->links[i];
        bool into = t->out[k->from] == 1 && t->in[k->to] > 1;
        unsigned key = into ? k->to : k->from, n = 0;
        while (n < r->nets_count && (r->nets[n].key != key || r->nets[n].into != into))
            n++;
        if (n == r->nets_count)
            r->nets[r->nets_count++] = (struct po__draw_net){
                .key = key, .into = into, .dashed = true, .lo = INT32_MAX, .hi = INT32_MIN};
        r->ends[i].net = n;
        r->nets[n].dashed = r->nets[n].dashed && t->g->edges[k->edge].dashed;
    }
}

/* Nets that end in the cell of link i: how many there are, and how many of them come from further
 * left than that of i. */
static unsigned ends_in_cell(const struct routing *t, unsigned i, unsigned *left)
{
    const struct po__draw_end *ends = t->r->ends;
    unsigned count = 0;
    *left = 0;
    for (unsigned k = 0; k < t->count; k++) {
        bool first = t->links[k].to == t->links[i].to;
        for (unsigned j = 0; j < k && first; j++)
            first = t->links[j].to != t->links[i].to || ends[j].net != ends[k].net;
        if (!first)
            continue;
        int d = column(t, t->links[k].from) - column(t, t->links[i].from);
        count++;
        *left += ends[k].net != ends[i].net && (d < 0 || (d == 0 && ends[k].net < ends[i].net));
    }
    return count;
}

/* Side by side around the middle of the cell, as far as it is wide enough. */
static int end_column(const struct routing *t, unsigned i)
{
    const struct po__draw_cell *c = &t->l->cells[t->links[i].to];
    unsigned left, count = ends_in_cell(t, i, &left);
    int half = c->width / 2 - 1, apart = (int)count - 1 <= half ? 2 : 1;
    int x = apart * (int)left - apart * ((int)count - 1) / 2;
    return c->x + (x < -half ? -half : x > half ? half : x);
}

static void span(struct po__draw_net *n, int x)
{
    n->lo = x < n->lo ? x : n->lo;
    n->hi = x > n->hi ? x : n->hi;
}

static void place_nets(struct routing *t)
{
    struct po__draw_routes *r = t->r;
    for (unsigned i = 0; i < t->count; i++) {
        unsigned first = 0; /* all links of a net that end in one cell end in one column */
        while (r->ends[first].net != r->ends[i].net || t->links[first].to != t->links[i].to)
            first++;
        r->ends[i].x = t->in[t->links[i].to] > 1 ? end_column(t, first) : column(t, t->links[i].to);
        span(&r->nets[r->ends[i].net], column(t, t->links[i].from));
        span(&r->nets[r->ends[i].net], r->ends[i].x);
    }
    for (unsigned n = 0; n < r->nets_count; n++)
        r->nets[n].row = r->nets[n].lo == r->nets[n].hi ? STRAIGHT : 0;
}

static bool ends_at(const struct routing *t, unsigned net, int x)
{
    for (unsigned i = 0; i < t->count; i++)
        if (t->r->ends[i].net == net && t->r->ends[i].x == x)
            return true;
    return false;
}

/* Net a goes down a column, to its row, that b enters from its own row: a's must be the higher one.
 */
static bool is_above(const struct routing *t, unsigned a, unsigned b)
{
    for (unsigned i = 0; i < t->count; i++) {
        int x = column(t, t->links[i].from);
        if (t->r->ends[i].net == a && ends_at(t, b, x) && !ends_at(t, a, x))
            return true;
    }
    return false;
}

static bool is_free(const struct routing *t, const struct po__draw_net *net, int row)
{
    for (unsigned n = 0; n < t->r->nets_count; n++) {
        const struct po__draw_net *o = &t->r->nets[n];
        if (t->placed[n] && o->row == row && net->lo <= o->hi + 1 && o->lo <= net->hi + 1)
            return false;
    }
    return true;
}

/* The first row that net n may have; UNKNOWN: one that must be above it has none yet. */
static int first_row(const struct routing *t, unsigned n)
{
    int row = 0;
    for (unsigned a = 0; a < t->r->nets_count; a++) {
        if (a == n || t->r->nets[a].row == STRAIGHT || !is_above(t, a, n))
            continue;
        if (!t->placed[a])
            return UNKNOWN;
        row = t->r->nets[a].row + 1 > row ? t->r->nets[a].row + 1 : row;
    }
    return row;
}

static int give_rows(struct routing *t)
{
    struct po__draw_routes *r = t->r;
    unsigned left = 0;
    for (unsigned n = 0; n < r->nets_count; n++)
        left += r->nets[n].row != STRAIGHT;
    while (left) {
        unsigned before = left;
        for (unsigned n = 0; n < r->nets_count; n++) {
            int row = t->placed[n] || r->nets[n].row == STRAIGHT ? UNKNOWN : first_row(t, n);
            if (row == UNKNOWN)
                continue;
            while (!is_free(t, &r->nets[n], row))
                row++;
            r->nets[n].row = row;
            t->placed[n] = true;
            r->rows = row + 1 > r->rows ? row + 1 : r->rows;
            left--;
        }
        if (left == before)
            return PO_ETOOBIG; /* each waits for another one */
    }
    return 0;
}

int po__draw_route(struct po__draw_routes *r, const struct po__drawing *g,
                   const struct po__draw_layout *l, unsigned layer)
{
    struct routing t = {.r = r,
                        .g = g,
                        .l = l,
                        .links = l->links + l->links_at[layer],
                        .count = l->links_at[layer + 1] - l->links_at[layer]};
    *r = (struct po__draw_routes){0};
    t.out = po__calloc(l->cells_count + 1, sizeof *t.out);
    t.in = po__calloc(l->cells_count + 1, sizeof *t.in);
    t.placed = po__calloc(t.count + 1, sizeof *t.placed);
    r->nets = po__calloc(t.count + 1, sizeof *r->nets);
    r->ends = po__calloc(t.count + 1, sizeof *r->ends);
    int rv = t.out && t.in && t.placed && r->nets && r->ends ? 0 : PO_ENOMEM;
    if (!rv) {
        for (unsigned i = 0; i < t.count; i++) {
            t.out[t.links[i].from]++;
            t.in[t.links[i].to]++;
        }
        make_nets(&t);
        place_nets(&t);
        rv = give_rows(&t);
    }
    po__free(t.out);
    po__free(t.in);
    po__free(t.placed);
    return rv;
}

void po__draw_routes_fini(struct po__draw_routes *r)
{
    po__free(r->nets);
    po__free(r->ends);
    *r = (struct po__draw_routes){0};
}
