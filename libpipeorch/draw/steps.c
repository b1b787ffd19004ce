/* From an answer to a graph, and what all drawings share: the form of texts and states. */
#include "draw.h"

#include <pipeorch/error.h>
#include <string.h>
#include "../base/alloc.h"

/* ---- texts ---- */

static bool is_wide(uint32_t c)
{
    static const uint32_t ranges[][2] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf},   {0xac00, 0xd7a3},
                                         {0xf900, 0xfaff}, {0xfe30, 0xfe6f},   {0xff00, 0xff60},
                                         {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};
    for (unsigned i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

/* What neither a terminal nor XML takes. */
static bool is_odd(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0xd800 && c <= 0xdfff) || c == 0xfffe ||
           c == 0xffff || c > 0x10ffff;
}

const char *po__draw_char(const char *text, uint32_t *c, unsigned *columns)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned more = *p < 0x80 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : *p >= 0xc0 ? 1 : 0;
    *c = more == 3 ? *p & 7u : more == 2 ? *p & 15u : more == 1 ? *p & 31u : *p;
    for (p++; more && (*p & 0xc0) == 0x80; more--)
        *c = *c << 6 | (*p++ & 63u);
    if (more || is_odd(*c))
        *c = '?';
    *columns = is_wide(*c) ? 2 : 1;
    return (const char *)p;
}

static unsigned encode(char b[4], uint32_t c)
{
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = n; i-- > 1; c >>= 6)
        b[i] = (char)(0x80 | (c & 63u));
    b[0] = (char)(first[n] | c);
    return n;
}

void po__draw_put_char(struct po__buf *out, uint32_t c)
{
    char b[4];
    po__buf_append(out, b, encode(b, c));
}

unsigned po__draw_cut(char text[PO__DRAW_CUT_BYTES], struct po__draw_line line)
{
    const char *p = line.prefix ? line.prefix : "", *rest = line.text ? line.text : "";
    unsigned used = 0, kept = 0, columns;
    size_t len = 0, kept_len = 0;
    uint32_t c;
    for (; *p || *rest; used += columns) {
        if (!*p) {
            p = rest;
            rest = "";
        }
        p = po__draw_char(p, &c, &columns);
        if (used + columns > PO__DRAW_LINE_MAX_CHARS) { /* what is kept leaves room for the mark */
            len = kept_len + encode(text + kept_len, 0x2026);
            used = kept + 1;
            break;
        }
        len += encode(text + len, c);
        if (used + columns < PO__DRAW_LINE_MAX_CHARS) {
            kept = used + columns;
            kept_len = len;
        }
    }
    text[len] = '\0';
    return used;
}

unsigned po__draw_box_columns(const struct po__draw_node *n)
{
    char text[PO__DRAW_CUT_BYTES];
    unsigned most = po__draw_cut(text, (struct po__draw_line){n->name, NULL}) + (n->state ? 2 : 0);
    for (unsigned i = 0; i < n->lines_count; i++) {
        unsigned columns = po__draw_cut(text, n->lines[i]);
        most = columns > most ? columns : most;
    }
    return most;
}

const char *po__draw_mark(const char *state)
{
    static const char *const marks[][2] = {{"succeeded", "✓"}, {"failed", "✗"},  {"running", "▶"},
                                           {"cancelled", "⊘"}, {"pending", "○"}, {"scheduled", "○"},
                                           {"skipped", "↷"},   {"waiting", "·"}, {"", "·"}};
    for (unsigned i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strcmp(state, marks[i][0]) == 0)
            return marks[i][1];
    return "?";
}

/* ---- steps ---- */

#define SEEN_BYTES (PO__DRAW_NODES_MAX * PO__DRAW_NODES_MAX / 8)

struct reading {
    struct po__drawing *g;
    const json_t *steps;
    uint8_t *seen; /* a bit for each pair of nodes that has its edge */
    bool linked;   /* some step says what it follows, or what follows it */
};

/* "" if it is missing or no text. */
static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static int find(const struct po__drawing *g, const char *name, unsigned *n)
{
    for (*n = 0; *n < g->nodes_count; ++*n)
        if (strcmp(g->nodes[*n].name, name) == 0)
            return 0;
    return PO_EINVAL;
}

/* Said at both ends, it is still one. */
static int add_edge(struct reading *r, unsigned from, unsigned to)
{
    struct po__drawing *g = r->g;
    size_t bit = (size_t)from * PO__DRAW_NODES_MAX + to;
    const char *when = text_of(json_array_get(r->steps, to), "when");
    if (r->seen[bit / 8] & 1u << bit % 8)
        return 0;
    if (g->edges_count == PO__DRAW_EDGES_MAX)
        return PO_ETOOBIG;
    if ((g->edges_count & (g->edges_count - 1)) == 0) { /* full: at each power of two */
        size_t cap = g->edges_count ? 2 * (size_t)g->edges_count : 1;
        struct po__draw_edge *edges = po__realloc(g->edges, cap * sizeof *edges);
        if (!edges)
            return PO_ENOMEM;
        g->edges = edges;
    }
    r->seen[bit / 8] |= (uint8_t)(1u << bit % 8);
    g->edges[g->edges_count++] =
        (struct po__draw_edge){.from = from, .to = to, .dashed = *when != 0};
    return 0;
}

static void add_line(struct po__draw_node *n, const char *prefix, const json_t *step,
                     const char *key)
{
    const char *text = text_of(step, key);
    if (*text && n->lines_count < PO__DRAW_LINES_MAX)
        n->lines[n->lines_count++] = (struct po__draw_line){prefix, text};
}

static void fill_node(struct po__draw_node *n, const json_t *step)
{
    n->name = text_of(step, "name");
    n->state = json_object_get(step, "state") ? text_of(step, "state") : NULL;
    add_line(n, "", step, "capability");
    add_line(n, "run of ", step, "pipeline");
    add_line(n, "map ", step, "map");
    add_line(n, "when ", step, "when");
    add_line(n, "on ", step, "worker_id");
}

static int add_edges(struct reading *r, unsigned n)
{
    const json_t *step = json_array_get(r->steps, n), *before = json_object_get(step, "depends_on");
    const json_t *name;
    unsigned other = 0;
    size_t i;
    int rv = 0;
    r->linked = r->linked || before || json_object_get(step, "next_node");
    json_array_foreach(before, i, name)
    {
        rv = rv ? rv : find(r->g, json_is_string(name) ? json_string_value(name) : "", &other);
        rv = rv ? rv : add_edge(r, other, n);
    }
    if (!rv && *text_of(step, "next_node")) {
        rv = find(r->g, text_of(step, "next_node"), &other);
        rv = rv ? rv : add_edge(r, n, other);
    }
    return rv;
}

static int read_steps(struct reading *r)
{
    struct po__drawing *g = r->g;
    int rv = 0;
    for (unsigned n = 0; n < g->nodes_count; n++)
        fill_node(&g->nodes[n], json_array_get(r->steps, n));
    for (unsigned n = 0; !rv && n < g->nodes_count; n++)
        rv = add_edges(r, n);
    /* The run of a chain lists its steps in their order and says no more about it. */
    for (unsigned n = 1; !rv && !r->linked && n < g->nodes_count; n++)
        rv = add_edge(r, n - 1, n);
    return rv;
}

int po__draw_read(struct po__drawing *g, const json_t *answer)
{
    struct reading r = {.g = g, .steps = json_object_get(answer, "steps")};
    size_t count = json_array_size(r.steps);
    *g = (struct po__drawing){.name = text_of(answer, "name")};
    if (!*g->name)
        g->name = text_of(answer, "pipeline");
    if (count == 0)
        return PO_EINVAL;
    if (count > PO__DRAW_NODES_MAX)
        return PO_ETOOBIG;
    r.seen = po__calloc(1, SEEN_BYTES);
    g->nodes = po__calloc(count, sizeof *g->nodes);
    g->nodes_count = g->nodes ? (unsigned)count : 0;
    int rv = r.seen && g->nodes ? read_steps(&r) : PO_ENOMEM;
    po__free(r.seen);
    return rv;
}

void po__draw_fini(struct po__drawing *g)
{
    po__free(g->nodes);
    po__free(g->edges);
    *g = (struct po__drawing){0};
}
