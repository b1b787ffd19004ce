/* The picture for a terminal. Every character cell is either a character of a text, or a set of
 * directions in which lines leave it; what is drawn over it adds to that set, and at the end each
 * set becomes its box-drawing character. Where lines cross that have nothing to do with each other,
 * the vertical one is drawn through. */
#include "draw.h"

#include <pipeorch/error.h>
#include <string.h>
#include "../base/alloc.h"
#include "../base/assert.h"

#define UP         1u
#define DOWN       2u
#define LEFT       4u
#define RIGHT      8u
#define DASHED     16u
#define BOX        32u        /* round corners */
#define SKIP       UINT32_MAX /* the right half of a wide character */
#define GAP        3          /* columns between boxes */
#define AREA_MAX   (4u << 20) /* characters */
#define INDENT_MAX 10         /* layers, in lists */

struct spot {
    uint32_t c; /* 0: lines */
    uint8_t lines;
};

struct canvas {
    const struct po__drawing *g;
    struct po__draw_layout l;
    struct po__draw_routes *routes; /* below each layer but the last */
    int *top, *height;              /* of each layer */
    struct spot *spots;
    int columns, rows;
};

/* ---- boxes ---- */

static int box_width(const struct po__draw_node *n)
{
    return (int)((po__draw_box_columns(n) + 4) | 1); /* odd: there is a middle */
}

static int box_height(const struct po__draw_node *n)
{
    return (int)n->lines_count + 3;
}

static struct spot *at(struct canvas *v, int row, int column)
{
    PO_INVARIANT(row >= 0 && row < v->rows && column >= 0 && column < v->columns);
    return &v->spots[(size_t)row * (size_t)v->columns + (size_t)column];
}

static void line(struct canvas *v, int row, int column, unsigned lines)
{
    at(v, row, column)->lines |= (uint8_t)lines;
}

static void text(struct canvas *v, int row, int column, struct po__draw_line t)
{
    char cut[PO__DRAW_CUT_BYTES];
    po__draw_cut(cut, t);
    for (const char *p = cut; *p;) {
        uint32_t c;
        unsigned width;
        p = po__draw_char(p, &c, &width);
        at(v, row, column++)->c = c;
        if (width == 2)
            at(v, row, column++)->c = SKIP;
    }
}

static void box(struct canvas *v, unsigned node)
{
    const struct po__draw_node *n = &v->g->nodes[node];
    const struct po__draw_cell *c = &v->l.cells[node];
    int half = c->width / 2, row = v->top[c->layer], bottom = row + box_height(n) - 1;
    for (int x = c->x - half; x < c->x + half; x++)
        for (int k = 0; k < 2; k++) {
            line(v, k ? bottom : row, x, RIGHT | BOX);
            line(v, k ? bottom : row, x + 1, LEFT | BOX);
        }
    for (int y = row; y < bottom; y++)
        for (int k = -1; k <= 1; k += 2) {
            line(v, y, c->x + k * half, DOWN | BOX);
            line(v, y + 1, c->x + k * half, UP | BOX);
        }
    text(v, row + 1, c->x - half + 2, (struct po__draw_line){n->name, ""});
    if (n->state) {
        unsigned columns;
        po__draw_char(po__draw_mark(n->state), &at(v, row + 1, c->x + half - 2)->c, &columns);
    }
    for (unsigned i = 0; i < n->lines_count; i++)
        text(v, row + 2 + (int)i, c->x - half + 2, n->lines[i]);
}

/* ---- lines ---- */

static void down(struct canvas *v, int x, int from, int to, unsigned dashed)
{
    for (int y = from; y < to; y++) {
        line(v, y, x, DOWN | dashed);
        line(v, y + 1, x, UP | dashed);
    }
}

/* What leaves a cell of this layer: from its lower side, a node's box or a passing line. */
static int lower_end(const struct canvas *v, unsigned cell)
{
    int top = v->top[v->l.cells[cell].layer];
    return cell < v->g->nodes_count ? top + box_height(&v->g->nodes[cell]) - 1 : top;
}

static bool belongs(const struct canvas *v, unsigned layer, unsigned net, int x)
{
    const struct po__draw_routes *r = &v->routes[layer];
    const struct po__draw_link *k = v->l.links + v->l.links_at[layer];
    for (unsigned i = 0; i < v->l.links_at[layer + 1] - v->l.links_at[layer]; i++)
        if (r->ends[i].net == net && (v->l.cells[k[i].from].x == x || r->ends[i].x == x))
            return true;
    return false;
}

static void verticals(struct canvas *v, unsigned layer)
{
    const struct po__draw_routes *r = &v->routes[layer];
    int first = v->top[layer] + v->height[layer];
    for (unsigned i = v->l.links_at[layer]; i < v->l.links_at[layer + 1]; i++) {
        const struct po__draw_link *k = &v->l.links[i];
        const struct po__draw_end *to = &r->ends[i - v->l.links_at[layer]];
        const struct po__draw_net *n = &r->nets[to->net];
        unsigned dashed = v->g->edges[k->edge].dashed ? DASHED : 0;
        int end = v->top[layer + 1] - 1, bend = n->row < 0 ? end : first + n->row;
        bool arrow = k->to < v->g->nodes_count;
        down(v, v->l.cells[k->from].x, lower_end(v, k->from), bend, n->dashed ? DASHED : 0);
        if (!arrow) /* it passes the layer */
            down(v, to->x, bend, v->top[layer + 1], dashed);
        else
            down(v, to->x, bend, end, dashed);
        if (arrow)
            at(v, end, to->x)->c = 0x25bc;
    }
}

static void horizontals(struct canvas *v, unsigned layer)
{
    const struct po__draw_routes *r = &v->routes[layer];
    for (unsigned i = 0; i < r->nets_count; i++) {
        const struct po__draw_net *n = &r->nets[i];
        int y = v->top[layer] + v->height[layer] + n->row;
        unsigned dashed = n->dashed ? DASHED : 0;
        for (int x = n->lo; n->row >= 0 && x <= n->hi; x++) {
            if (at(v, y, x)->lines & (UP | DOWN) && !belongs(v, layer, i, x))
                continue;
            line(v, y, x, (x > n->lo ? LEFT : 0) | (x < n->hi ? RIGHT : 0) | dashed);
        }
    }
}

/* ---- the whole ---- */

static int measure(struct canvas *v)
{
    unsigned layers = v->l.layers_count;
    v->top = po__calloc(layers + 1, sizeof *v->top);
    v->height = po__calloc(layers + 1, sizeof *v->height);
    v->routes = po__calloc(layers + 1, sizeof *v->routes);
    if (!v->top || !v->height || !v->routes)
        return PO_ENOMEM;
    for (unsigned n = 0; n < v->g->nodes_count; n++) {
        int h = box_height(&v->g->nodes[n]), *most = &v->height[v->l.cells[n].layer];
        *most = h > *most ? h : *most;
    }
    for (unsigned k = 0; k < layers; k++) {
        v->top[k] = v->rows;
        v->rows += v->height[k];
        if (k + 1 == layers)
            break;
        int rv = po__draw_route(&v->routes[k], v->g, &v->l, k);
        if (rv)
            return rv;
        v->rows += v->routes[k].rows + 1;
    }
    v->columns = v->l.width;
    return (size_t)v->rows * (size_t)v->columns > AREA_MAX ? PO_ETOOBIG : 0;
}

static void draw(struct canvas *v)
{
    for (unsigned n = 0; n < v->g->nodes_count; n++)
        box(v, n);
    for (unsigned c = v->g->nodes_count; c < v->l.cells_count; c++) {
        unsigned k = v->l.cells[c].layer;
        unsigned dashed = 0;
        for (unsigned i = v->l.links_at[k]; i < v->l.links_at[k + 1]; i++)
            if (v->l.links[i].from == c && v->g->edges[v->l.links[i].edge].dashed)
                dashed = DASHED;
        down(v, v->l.cells[c].x, v->top[k], v->top[k] + v->height[k] - 1, dashed);
    }
    for (unsigned k = 0; k + 1 < v->l.layers_count; k++)
        verticals(v, k);
    for (unsigned k = 0; k + 1 < v->l.layers_count; k++)
        horizontals(v, k);
}

static uint32_t character(const struct spot *s)
{
    static const uint16_t plain[16] = {
        ' ',    0x2502, 0x2502, 0x2502, 0x2500, 0x2518, 0x2510, 0x2524,
        0x2500, 0x2514, 0x250c, 0x251c, 0x2500, 0x2534, 0x252c, 0x253c,
    };
    unsigned lines = s->lines & 15u;
    if (s->c)
        return s->c;
    if (s->lines & BOX && (lines == (DOWN | RIGHT) || lines == (DOWN | LEFT)))
        return lines == (DOWN | RIGHT) ? 0x256d : 0x256e;
    if (s->lines & BOX && (lines == (UP | RIGHT) || lines == (UP | LEFT)))
        return lines == (UP | RIGHT) ? 0x2570 : 0x256f;
    if (s->lines & DASHED && (lines | UP | DOWN) == (UP | DOWN))
        return 0x2506;
    if (s->lines & DASHED && lines == (LEFT | RIGHT))
        return 0x2504;
    return plain[lines];
}

static void print(struct canvas *v, struct po__buf *out)
{
    for (int row = 0; row < v->rows; row++) {
        int end = v->columns;
        while (end > 0 && !at(v, row, end - 1)->c && !(at(v, row, end - 1)->lines & 15u))
            end--;
        for (int x = 0; x < end; x++)
            if (at(v, row, x)->c != SKIP)
                po__draw_put_char(out, character(at(v, row, x)));
        po__buf_append(out, "\n", 1);
    }
}

static int picture(struct canvas *v, struct po__buf *out, unsigned columns)
{
    int *widths = po__calloc(v->g->nodes_count + 1, sizeof *widths);
    if (!widths)
        return PO_ENOMEM;
    for (unsigned n = 0; n < v->g->nodes_count; n++)
        widths[n] = box_width(&v->g->nodes[n]);
    int rv = po__draw_layout(&v->l, v->g, widths, 1, GAP);
    po__free(widths);
    if (!rv && (unsigned)v->l.width > columns)
        rv = PO_ETOOBIG;
    rv = rv ? rv : measure(v);
    if (rv)
        return rv;
    v->spots = po__calloc((size_t)v->rows * (size_t)v->columns, sizeof *v->spots);
    if (!v->spots)
        return PO_ENOMEM;
    draw(v);
    print(v, out);
    return out->err;
}

static void canvas_fini(struct canvas *v)
{
    for (unsigned k = 0; v->routes && k < v->l.layers_count; k++)
        po__draw_routes_fini(&v->routes[k]);
    po__free(v->routes);
    po__free(v->top);
    po__free(v->height);
    po__free(v->spots);
    po__draw_layout_fini(&v->l);
}

/* ---- the list ---- */

static void put_text(struct po__buf *out, const char *s)
{
    while (*s) {
        uint32_t c;
        unsigned columns;
        s = po__draw_char(s, &c, &columns);
        po__draw_put_char(out, c);
    }
}

static void list_node(struct po__buf *out, const struct po__drawing *g, unsigned n, unsigned layer)
{
    const struct po__draw_node *node = &g->nodes[n];
    bool first = true;
    po__buf_printf(out, "%*s", (int)(2 * (layer < INDENT_MAX ? layer : INDENT_MAX)), "");
    if (node->state) {
        put_text(out, po__draw_mark(node->state));
        po__buf_append(out, " ", 1);
    }
    put_text(out, node->name);
    for (unsigned i = 0; i < node->lines_count; i++) {
        po__buf_printf(out, "%s", i ? ", " : "  ");
        put_text(out, node->lines[i].prefix ? node->lines[i].prefix : "");
        put_text(out, node->lines[i].text ? node->lines[i].text : "");
    }
    for (unsigned i = 0; i < g->edges_count; i++) {
        if (g->edges[i].to != n)
            continue;
        po__buf_printf(out, "%s", first ? "  after " : ", ");
        put_text(out, g->nodes[g->edges[i].from].name);
        first = false;
    }
    po__buf_append(out, "\n", 1);
}

static int list(struct po__buf *out, const struct po__drawing *g)
{
    unsigned *layers = po__calloc(g->nodes_count + 1, sizeof *layers), count = 0;
    int rv = layers ? po__draw_layers(g, layers, &count) : PO_ENOMEM;
    for (unsigned k = 0; !rv && k < count; k++)
        for (unsigned n = 0; n < g->nodes_count; n++)
            if (layers[n] == k)
                list_node(out, g, n, k);
    po__free(layers);
    return rv ? rv : out->err;
}

int po__draw_text(struct po__buf *out, const struct po__drawing *g, unsigned columns)
{
    struct canvas v = {.g = g};
    int rv = picture(&v, out, columns);
    canvas_fini(&v);
    return rv == PO_ETOOBIG ? list(out, g) : rv;
}
