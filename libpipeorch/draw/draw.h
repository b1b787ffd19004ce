/* Pipelines as pictures: for the terminal, as Graphviz dot, as SVG. The same graph gives the same
 * bytes, whatever draws it.
 *
 *   steps.c   an answer about a pipeline or a run, or a document -> a drawing
 *   layout.c  layers, order and places, in whatever unit the widths have
 *   text.c    box-drawing characters, or an indented list if it does not fit
 *   route.c   the lines between two layers of such a drawing
 *   dot.c, svg.c */
#ifndef PO__DRAW_H
#define PO__DRAW_H

#include <jansson.h>
#include <pipeorch/types.h>
#include "../base/buf.h"

#define PO__DRAW_NODES_MAX      PO_STEPS_MAX
#define PO__DRAW_EDGES_MAX      65536
#define PO__DRAW_CELLS_MAX      32768 /* nodes, and the places where edges pass other layers */
#define PO__DRAW_LINES_MAX      5
#define PO__DRAW_LINE_MAX_CHARS 40 /* columns shown of a line of text */

/* All texts are borrowed: UTF-8, of whatever characters. */
struct po__draw_line {
    const char *prefix, *text; /* shown one behind the other */
};

struct po__draw_node {
    const char *name;
    struct po__draw_line lines[PO__DRAW_LINES_MAX]; /* below the name */
    unsigned lines_count;
    const char *state; /* a word ("running"), "" for one that has not begun, NULL: no states */
};

struct po__draw_edge {
    unsigned from, to; /* numbers of nodes */
    bool dashed;
    const char *label; /* NULL: none; not drawn in a terminal */
};

struct po__drawing {
    const char *name;
    struct po__draw_node *nodes;
    struct po__draw_edge *edges;
    unsigned nodes_count, edges_count;
};

/* Of an answer of PO_QUERY_PIPELINE or PO_QUERY_RUN, from which the graph borrows. 0, PO_EINVAL (a
 * step that does not exist is named, or nothing is there), PO_ETOOBIG, PO_ENOMEM. */
int po__draw_read(struct po__drawing *g, const json_t *answer);
void po__draw_fini(struct po__drawing *g);

/* Append the picture. 0, PO_EINVAL (a cycle), PO_ETOOBIG (too many edges pass too many layers; not
 * for dot), PO_ENOMEM. po__draw_text draws a list if the picture would be wider than `columns`, or
 * too tangled. */
int po__draw_text(struct po__buf *out, const struct po__drawing *g, unsigned columns);
int po__draw_dot(struct po__buf *out, const struct po__drawing *g);
int po__draw_svg(struct po__buf *out, const struct po__drawing *g);

/* ---- for the files of the drawing ---- */

/* A place in a layer: of node i is cell i; behind the nodes come those where edges pass. */
struct po__draw_cell {
    unsigned layer, place; /* place: from the left */
    int width, x;          /* x: of its middle */
};

struct po__draw_link { /* a piece of an edge, from one layer to the next */
    unsigned from, to; /* cells */
    unsigned edge;
};

struct po__draw_layout {
    struct po__draw_cell *cells;
    struct po__draw_link *links; /* by layer of from, then by edge */
    unsigned *order;             /* cells, layer by layer from left to right */
    unsigned *layer_at;          /* layers_count + 1: where each begins in order */
    unsigned *links_at;          /* likewise in links */
    unsigned cells_count, links_count, layers_count;
    int width; /* of the whole */
};

/* widths: of each node; pass: of a passing edge; gap: between two neighbours. */
int po__draw_layout(struct po__draw_layout *l, const struct po__drawing *g, const int *widths,
                    int pass, int gap);
void po__draw_layout_fini(struct po__draw_layout *l);
/* The layer of each node: one behind its last predecessor. PO_EINVAL: a cycle. */
int po__draw_layers(const struct po__drawing *g, unsigned *layers, unsigned *count);

/* The lines between layer i and the next one. */
struct po__draw_net { /* lines that may join: of one source, or to one target */
    unsigned key;     /* a cell; the lowest bit of `into` says which it is */
    bool into;        /* key is the target */
    bool dashed;      /* all of its edges are */
    int lo, hi;       /* columns that it spans */
    int row;          /* of its horizontal line; -1: it is straight */
};
struct po__draw_routes {
    struct po__draw_net *nets;
    struct po__draw_end {
        unsigned net;
        int x; /* column in which it ends: lines that do not join end side by side */
    } * ends;  /* of each link of the gap */
    unsigned nets_count;
    int rows;
};
/* 0, PO_ENOMEM, PO_ETOOBIG (lines would lie on each other). */
int po__draw_route(struct po__draw_routes *r, const struct po__drawing *g,
                   const struct po__draw_layout *l, unsigned layer);
void po__draw_routes_fini(struct po__draw_routes *r);

/* One character of a text, and how many columns it takes (1 or 2); control characters become '?'.
 * Returns the text behind it. */
const char *po__draw_char(const char *text, uint32_t *c, unsigned *columns);
void po__draw_put_char(struct po__buf *out, uint32_t c);
/* The line as it is shown: at most PO__DRAW_LINE_MAX_CHARS columns, odd characters replaced.
 * Returns its columns; text may be NULL. */
#define PO__DRAW_CUT_BYTES (4 * PO__DRAW_LINE_MAX_CHARS + 4)
unsigned po__draw_cut(char text[PO__DRAW_CUT_BYTES], struct po__draw_line line);
/* Columns that the text of a node's box takes, with its mark. */
unsigned po__draw_box_columns(const struct po__draw_node *n);
/* A mark for a state, one column wide, and the word itself for people who cannot see it. */
const char *po__draw_mark(const char *state);

#endif
