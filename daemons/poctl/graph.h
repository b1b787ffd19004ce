/* Pipelines as pictures: for the terminal, as Graphviz dot, as SVG. The same graph gives the same
 * bytes, whatever draws it.
 *
 *   graph_steps.c   an answer about a pipeline or a run -> a graph
 *   graph_layout.c  layers, order and places, in whatever unit the widths have
 *   graph_text.c    box-drawing characters, or an indented list if it does not fit
 *   graph_route.c   the lines between two layers of such a drawing
 *   graph_dot.c, graph_svg.c */
#ifndef PO_POCTL_GRAPH_H
#define PO_POCTL_GRAPH_H

#include <jansson.h>
#include <pipeorch/types.h>
#include "base/buf.h"

#define GRAPH_NODES_MAX      PO_STEPS_MAX
#define GRAPH_EDGES_MAX      65536
#define GRAPH_CELLS_MAX      32768 /* nodes, and the places where edges pass other layers */
#define GRAPH_LINES_MAX      5
#define GRAPH_LINE_MAX_CHARS 40 /* columns shown of a line of text */

/* All texts are borrowed: UTF-8, of whatever characters. */
struct graph_line {
    const char *prefix, *text; /* shown one behind the other */
};

struct graph_node {
    const char *name;
    struct graph_line lines[GRAPH_LINES_MAX]; /* below the name */
    unsigned lines_count;
    const char *state; /* a word ("running"), "" for one that has not begun, NULL: no states */
};

struct graph_edge {
    unsigned from, to; /* numbers of nodes */
    bool dashed;
    const char *label; /* NULL: none; not drawn in a terminal */
};

struct graph {
    const char *name;
    struct graph_node *nodes;
    struct graph_edge *edges;
    unsigned nodes_count, edges_count;
};

/* Of an answer of PO_QUERY_PIPELINE or PO_QUERY_RUN, from which the graph borrows. 0, PO_EINVAL (a
 * step that does not exist is named, or nothing is there), PO_ETOOBIG, PO_ENOMEM. */
int graph_from_answer(struct graph *g, const json_t *answer);
void graph_fini(struct graph *g);

/* Append the picture. 0, PO_EINVAL (a cycle), PO_ETOOBIG (too many edges pass too many layers; not
 * for dot), PO_ENOMEM. graph_text draws a list if the picture would be wider than `columns`, or too
 * tangled. */
int graph_text(struct po__buf *out, const struct graph *g, unsigned columns);
int graph_dot(struct po__buf *out, const struct graph *g);
int graph_svg(struct po__buf *out, const struct graph *g);

/* graph_show.c: the answer as --graph wants it, to stdout; an exit code. */
struct ctl;
int graph_show(const struct ctl *ctl, const json_t *answer);

/* ---- for the files of the drawing ---- */

/* A place in a layer: of node i is cell i; behind the nodes come those where edges pass. */
struct graph_cell {
    unsigned layer, place; /* place: from the left */
    int width, x;          /* x: of its middle */
};

struct graph_link {    /* a piece of an edge, from one layer to the next */
    unsigned from, to; /* cells */
    unsigned edge;
};

struct graph_layout {
    struct graph_cell *cells;
    struct graph_link *links; /* by layer of from, then by edge */
    unsigned *order;          /* cells, layer by layer from left to right */
    unsigned *layer_at;       /* layers_count + 1: where each begins in order */
    unsigned *links_at;       /* likewise in links */
    unsigned cells_count, links_count, layers_count;
    int width; /* of the whole */
};

/* widths: of each node; pass: of a passing edge; gap: between two neighbours. */
int graph_layout(struct graph_layout *l, const struct graph *g, const int *widths, int pass,
                 int gap);
void graph_layout_fini(struct graph_layout *l);
/* The layer of each node: one behind its last predecessor. PO_EINVAL: a cycle. */
int graph_layers(const struct graph *g, unsigned *layers, unsigned *count);

/* The lines between layer i and the next one. */
struct graph_net { /* lines that may join: of one source, or to one target */
    unsigned key;  /* a cell; the lowest bit of `into` says which it is */
    bool into;     /* key is the target */
    bool dashed;   /* all of its edges are */
    int lo, hi;    /* columns that it spans */
    int row;       /* of its horizontal line; -1: it is straight */
};
struct graph_routes {
    struct graph_net *nets;
    struct graph_end {
        unsigned net;
        int x; /* column in which it ends: lines that do not join end side by side */
    } * ends;  /* of each link of the gap */
    unsigned nets_count;
    int rows;
};
/* 0, PO_ENOMEM, PO_ETOOBIG (lines would lie on each other). */
int graph_route(struct graph_routes *r, const struct graph *g, const struct graph_layout *l,
                unsigned layer);
void graph_routes_fini(struct graph_routes *r);

/* One character of a text, and how many columns it takes (1 or 2); control characters become '?'.
 * Returns the text behind it. */
const char *graph_char(const char *text, uint32_t *c, unsigned *columns);
void graph_put_char(struct po__buf *out, uint32_t c);
/* The line as it is shown: at most GRAPH_LINE_MAX_CHARS columns, odd characters replaced. Returns
 * its columns; text may be NULL. */
#define GRAPH_CUT_BYTES (4 * GRAPH_LINE_MAX_CHARS + 4)
unsigned graph_cut(char text[GRAPH_CUT_BYTES], struct graph_line line);
/* Columns that the text of a node's box takes, with its mark. */
unsigned graph_box_columns(const struct graph_node *n);
/* A mark for a state, one column wide, and the word itself for people who cannot see it. */
const char *graph_mark(const char *state);

#endif
