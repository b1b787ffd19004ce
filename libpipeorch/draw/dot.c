/* Graphviz: the same nodes and edges, placed by whoever reads it. */
#include "draw.h"

#include <string.h>

/* Between quotation marks, where a backslash begins an escape. */
static void put(struct po__buf *out, const char *s)
{
    while (*s) {
        uint32_t c;
        unsigned columns;
        s = po__draw_char(s, &c, &columns);
        if (c == '"' || c == '\\')
            po__buf_append(out, "\\", 1);
        po__draw_put_char(out, c);
    }
}

static const char *color(const char *state)
{
    static const char *const colors[][2] = {{"succeeded", "#d8f0dc"}, {"failed", "#fbd5d5"},
                                            {"running", "#d6e6fb"},   {"cancelled", "#e4e4e4"},
                                            {"pending", "#fdf1c7"},   {"scheduled", "#fdf1c7"},
                                            {"skipped", "#f0f0f0"}};
    for (unsigned i = 0; state && i < sizeof colors / sizeof *colors; i++)
        if (strcmp(state, colors[i][0]) == 0)
            return colors[i][1];
    return "#ffffff";
}

static void put_node(struct po__buf *out, const struct po__draw_node *n)
{
    po__buf_printf(out, "  \"");
    put(out, n->name);
    po__buf_printf(out, "\" [label=\"");
    put(out, n->name);
    if (n->state && *n->state) {
        po__buf_printf(out, " ");
        put(out, po__draw_mark(n->state));
    }
    for (unsigned i = 0; i < n->lines_count; i++) {
        po__buf_printf(out, "\\n");
        put(out, n->lines[i].prefix ? n->lines[i].prefix : "");
        put(out, n->lines[i].text ? n->lines[i].text : "");
    }
    po__buf_printf(out, "\", fillcolor=\"%s\"];\n", color(n->state));
}

int po__draw_dot(struct po__buf *out, const struct po__drawing *g)
{
    po__buf_printf(out, "digraph \"");
    put(out, g->name ? g->name : "");
    po__buf_printf(out, "\" {\n  node [shape=box, style=\"rounded,filled\", "
                        "fontname=\"monospace\"];\n");
    for (unsigned i = 0; i < g->nodes_count; i++)
        put_node(out, &g->nodes[i]);
    for (unsigned i = 0; i < g->edges_count; i++) {
        const struct po__draw_edge *e = &g->edges[i];
        po__buf_printf(out, "  \"");
        put(out, g->nodes[e->from].name);
        po__buf_printf(out, "\" -> \"");
        put(out, g->nodes[e->to].name);
        po__buf_printf(out, "\"");
        if (e->dashed || e->label) {
            po__buf_printf(out, " [%s%s", e->dashed ? "style=dashed" : "",
                           e->dashed && e->label ? ", " : "");
            if (e->label) {
                po__buf_printf(out, "label=\"");
                put(out, e->label);
                po__buf_printf(out, "\"");
            }
            po__buf_printf(out, "]");
        }
        po__buf_printf(out, ";\n");
    }
    po__buf_printf(out, "}\n");
    return out->err;
}
