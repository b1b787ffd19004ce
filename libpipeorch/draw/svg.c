/* SVG without anything from outside: boxes in layers, curves between them, a colour for each state.
 */
#include "draw.h"

#include <pipeorch/error.h>
#include "../base/alloc.h"

/* Pixels; the picture scales. */
#define CHAR_WIDTH  8
#define LINE_HEIGHT 18
#define PADDING     12 /* inside of boxes, and around the picture */
#define NODE_GAP    28
#define LAYER_GAP   52
#define PASS_WIDTH  12
#define ARROW       3 /* that the line ends before its box: the arrow's head */

static const char style[] = "<style>"
                            "text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#1f2933}"
                            ".n{font-weight:bold}"
                            "rect{fill:#f5f7fa;stroke:#52606d;stroke-width:1.5}"
                            "path{fill:none;stroke:#52606d;stroke-width:1.5}"
                            "marker path{fill:#52606d;stroke:none}"
                            ".dashed{stroke-dasharray:6 4}"
                            ".l{font-size:11px;text-anchor:middle}"
                            ".succeeded{fill:#d8f0dc;stroke:#2f855a}"
                            ".failed{fill:#fbd5d5;stroke:#c53030}"
                            ".running{fill:#d6e6fb;stroke:#2b6cb0}"
                            ".cancelled{fill:#e4e4e4;stroke:#718096}"
                            ".pending,.scheduled{fill:#fdf1c7;stroke:#b7791f}"
                            ".skipped{fill:#ffffff;stroke:#a0aec0;stroke-dasharray:4 3}"
                            ".none,.waiting{fill:#ffffff;stroke:#a0aec0}"
                            "</style>\n";

struct svg {
    struct po__buf *out;
    const struct po__drawing *g;
    struct po__draw_layout l;
    int *top, *height;      /* of each layer */
    unsigned *next, *first; /* the cell behind a passing one; the first cell of each edge */
    int total;              /* height of all */
};

static void put(struct po__buf *out, const char *s)
{
    while (*s) {
        uint32_t c;
        unsigned columns;
        s = po__draw_char(s, &c, &columns);
        if (c == '&')
            po__buf_printf(out, "&amp;");
        else if (c == '<')
            po__buf_printf(out, "&lt;");
        else if (c == '>')
            po__buf_printf(out, "&gt;");
        else if (c == '"')
            po__buf_printf(out, "&quot;");
        else
            po__draw_put_char(out, c);
    }
}

static int box_height(const struct po__draw_node *n)
{
    return LINE_HEIGHT * (int)(n->lines_count + 1) + PADDING;
}

static void put_text(struct svg *s, int x, int y, const char *kind, struct po__draw_line line)
{
    char cut[PO__DRAW_CUT_BYTES];
    po__buf_printf(s->out, "<text x=\"%d\" y=\"%d\"%s>", x, y, kind);
    po__draw_cut(cut, line);
    put(s->out, cut);
    po__buf_printf(s->out, "</text>");
}

static void put_node(struct svg *s, unsigned i)
{
    const struct po__draw_node *n = &s->g->nodes[i];
    const struct po__draw_cell *c = &s->l.cells[i];
    int x = c->x - c->width / 2 + PADDING, y = s->top[c->layer];
    po__buf_printf(s->out, "<g><title>");
    put(s->out, n->name);
    if (n->state) {
        po__buf_printf(s->out, ": ");
        put(s->out, *n->state ? n->state : "not begun");
    }
    po__buf_printf(s->out, "</title><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"8\"", x,
                   y, c->width, box_height(n));
    if (n->state) {
        po__buf_printf(s->out, " class=\"");
        put(s->out, *n->state ? n->state : "none");
        po__buf_printf(s->out, "\"");
    }
    po__buf_printf(s->out, "/>");
    put_text(s, x + PADDING, y + LINE_HEIGHT, " class=\"n\"", (struct po__draw_line){n->name, ""});
    if (n->state)
        put_text(s, x + c->width - PADDING - CHAR_WIDTH, y + LINE_HEIGHT, "",
                 (struct po__draw_line){po__draw_mark(n->state), ""});
    for (unsigned k = 0; k < n->lines_count; k++)
        put_text(s, x + PADDING, y + LINE_HEIGHT * (int)(k + 2), "", n->lines[k]);
    po__buf_printf(s->out, "</g>\n");
}

static void put_edge(struct svg *s, unsigned i)
{
    const struct po__draw_edge *e = &s->g->edges[i];
    const struct po__draw_cell *c = &s->l.cells[e->from];
    int x = c->x + PADDING, y = s->top[c->layer] + box_height(&s->g->nodes[e->from]);
    int middle_x, middle_y;
    po__buf_printf(s->out, "<path%s marker-end=\"url(#arrow)\" d=\"M%d %d",
                   e->dashed ? " class=\"dashed\"" : "", x, y);
    for (unsigned at = s->first[i];; at = s->next[at]) {
        const struct po__draw_cell *to = &s->l.cells[at];
        bool last = at < s->g->nodes_count;
        int to_x = to->x + PADDING, to_y = s->top[to->layer] - (last ? ARROW : 0);
        po__buf_printf(s->out, " C%d %d %d %d %d %d", x, y + LAYER_GAP / 2, to_x,
                       to_y - LAYER_GAP / 2, to_x, to_y);
        middle_x = (x + to_x) / 2;
        middle_y = (y + to_y) / 2;
        x = to_x;
        y = s->top[to->layer] + s->height[to->layer];
        if (last)
            break;
        po__buf_printf(s->out, " L%d %d", x, y);
    }
    po__buf_printf(s->out, "\"/>\n");
    if (e->label) {
        put_text(s, middle_x, middle_y, " class=\"l\"", (struct po__draw_line){e->label, ""});
        po__buf_append(s->out, "\n", 1);
    }
}

static int measure(struct svg *s)
{
    unsigned layers = s->l.layers_count;
    s->top = po__calloc(layers + 1, sizeof *s->top);
    s->height = po__calloc(layers + 1, sizeof *s->height);
    s->next = po__calloc(s->l.cells_count + 1, sizeof *s->next);
    s->first = po__calloc(s->g->edges_count + 1, sizeof *s->first);
    if (!s->top || !s->height || !s->next || !s->first)
        return PO_ENOMEM;
    for (unsigned n = 0; n < s->g->nodes_count; n++) {
        int h = box_height(&s->g->nodes[n]), *most = &s->height[s->l.cells[n].layer];
        *most = h > *most ? h : *most;
    }
    s->total = PADDING;
    for (unsigned k = 0; k < layers; k++) {
        s->top[k] = s->total;
        s->total += s->height[k] + (k + 1 < layers ? LAYER_GAP : PADDING);
    }
    for (unsigned i = 0; i < s->l.links_count; i++) {
        const struct po__draw_link *k = &s->l.links[i];
        if (k->from < s->g->nodes_count)
            s->first[k->edge] = k->to;
        else
            s->next[k->from] = k->to;
    }
    return 0;
}

static void draw(struct svg *s)
{
    int width = s->l.width + 2 * PADDING;
    po__buf_printf(s->out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                   "height=\"%d\" style=\"max-width:100%%;height:auto\" role=\"img\">\n<title>",
                   width, s->total, width, s->total);
    put(s->out, s->g->name ? s->g->name : "");
    po__buf_printf(s->out, "</title>\n%s", style);
    po__buf_printf(s->out, "<defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"6\" refY=\"5\" "
                           "markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">"
                           "<path d=\"M0 0 L10 5 L0 10 z\"/></marker></defs>\n");
    for (unsigned i = 0; i < s->g->edges_count; i++)
        put_edge(s, i);
    for (unsigned i = 0; i < s->g->nodes_count; i++)
        put_node(s, i);
    po__buf_printf(s->out, "</svg>\n");
}

int po__draw_svg(struct po__buf *out, const struct po__drawing *g)
{
    struct svg s = {.out = out, .g = g};
    int *widths = po__calloc(g->nodes_count + 1, sizeof *widths);
    if (!widths)
        return PO_ENOMEM;
    for (unsigned n = 0; n < g->nodes_count; n++)
        widths[n] = (int)po__draw_box_columns(&g->nodes[n]) * CHAR_WIDTH + 2 * PADDING;
    int rv = po__draw_layout(&s.l, g, widths, PASS_WIDTH, NODE_GAP);
    po__free(widths);
    rv = rv ? rv : measure(&s);
    if (!rv)
        draw(&s);
    po__free(s.top);
    po__free(s.height);
    po__free(s.next);
    po__free(s.first);
    po__draw_layout_fini(&s.l);
    return rv ? rv : out->err;
}
