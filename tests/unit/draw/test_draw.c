/* Pictures of pipelines: golden ones for the usual shapes, and for any shape that each line can be
 * followed to where it should go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "draw/draw.h"

static json_t *answer; /* the graph of the test at hand borrows from it */
static struct po__drawing graph;
static struct po__buf out;

static int tidy(void **state)
{
    (void)state;
    po__draw_fini(&graph);
    po__buf_fini(&out);
    json_decref(answer);
    answer = NULL;
    return 0;
}

static int read_graph(const char *text)
{
    json_error_t e;
    tidy(NULL);
    answer = json_loads(text, 0, &e);
    if (!answer)
        fail_msg("%s", e.text);
    return po__draw_read(&graph, answer);
}

static const char *text_of(unsigned columns)
{
    po__buf_fini(&out);
    assert_int_equal(po__draw_text(&out, &graph, columns), 0);
    po__buf_append(&out, "", 1);
    return (const char *)out.data;
}

static void draws(const char *json, unsigned columns, const char *expected)
{
    assert_int_equal(read_graph(json), 0);
    assert_string_equal(text_of(columns), expected);
}

/* ---- golden pictures ---- */

static void test_chain(void **state)
{
    (void)state;
    draws("{\"name\": \"c\", \"steps\": ["
          "{\"name\": \"ingest\", \"capability\": \"ingest:csv\", \"next_node\": \"clean\"},"
          "{\"name\": \"clean\", \"capability\": \"clean:energy\", \"next_node\": \"report\"},"
          "{\"name\": \"report\", \"capability\": \"report:x\", \"next_node\": null}]}",
          80,
          " ╭─────────────╮\n"
          " │ ingest      │\n"
          " │ ingest:csv  │\n"
          " ╰──────┬──────╯\n"
          "        ▼\n"
          "╭───────────────╮\n"
          "│ clean         │\n"
          "│ clean:energy  │\n"
          "╰───────┬───────╯\n"
          "        ▼\n"
          "  ╭───────────╮\n"
          "  │ report    │\n"
          "  │ report:x  │\n"
          "  ╰───────────╯\n");
}

static void test_diamond(void **state)
{
    (void)state;
    draws("{\"name\": \"d\", \"steps\": ["
          "{\"name\": \"a\", \"capability\": \"do:a\", \"depends_on\": []},"
          "{\"name\": \"b\", \"capability\": \"do:b\", \"depends_on\": [\"a\"]},"
          "{\"name\": \"c\", \"capability\": \"do:c\", \"depends_on\": [\"a\"]},"
          "{\"name\": \"d\", \"capability\": \"do:d\", \"depends_on\": [\"b\", \"c\"]}]}",
          80,
          "      ╭───────╮\n"
          "      │ a     │\n"
          "      │ do:a  │\n"
          "      ╰───┬───╯\n"
          "    ┌─────┴─────┐\n"
          "    ▼           ▼\n"
          "╭───────╮   ╭───────╮\n"
          "│ b     │   │ c     │\n"
          "│ do:b  │   │ do:c  │\n"
          "╰───┬───╯   ╰───┬───╯\n"
          "    └─────┬─────┘\n"
          "          ▼\n"
          "      ╭───────╮\n"
          "      │ d     │\n"
          "      │ do:d  │\n"
          "      ╰───────╯\n");
}

static const char fan[] =
    "{\"name\": \"f\", \"steps\": [{\"name\": \"start\", \"capability\": \"split:it\"},"
    "{\"name\": \"w1\", \"capability\": \"do:it\", \"depends_on\": [\"start\"]},"
    "{\"name\": \"w2\", \"capability\": \"do:it\", \"depends_on\": [\"start\"]},"
    "{\"name\": \"w3\", \"capability\": \"do:it\", \"depends_on\": [\"start\"]},"
    "{\"name\": \"w4\", \"capability\": \"do:it\", \"depends_on\": [\"start\"]},"
    "{\"name\": \"w5\", \"capability\": \"do:it\", \"depends_on\": [\"start\"]},"
    "{\"name\": \"join\", \"capability\": \"join:all\", \"depends_on\": "
    "[\"w1\", \"w2\", \"w3\", \"w4\", \"w5\"]}]}";

static void test_fan_out_and_join(void **state)
{
    (void)state;
    draws(fan, 80,
          "                      ╭───────────╮\n"
          "                      │ start     │\n"
          "                      │ split:it  │\n"
          "                      ╰─────┬─────╯\n"
          "    ┌───────────┬───────────┼───────────┬───────────┐\n"
          "    ▼           ▼           ▼           ▼           ▼\n"
          "╭───────╮   ╭───────╮   ╭───────╮   ╭───────╮   ╭───────╮\n"
          "│ w1    │   │ w2    │   │ w3    │   │ w4    │   │ w5    │\n"
          "│ do:it │   │ do:it │   │ do:it │   │ do:it │   │ do:it │\n"
          "╰───┬───╯   ╰───┬───╯   ╰───┬───╯   ╰───┬───╯   ╰───┬───╯\n"
          "    └───────────┴───────────┼───────────┴───────────┘\n"
          "                            ▼\n"
          "                      ╭───────────╮\n"
          "                      │ join      │\n"
          "                      │ join:all  │\n"
          "                      ╰───────────╯\n");
}

static void test_what_is_too_wide_is_a_list(void **state)
{
    (void)state;
    draws(fan, 40,
          "start  split:it\n"
          "  w1  do:it  after start\n"
          "  w2  do:it  after start\n"
          "  w3  do:it  after start\n"
          "  w4  do:it  after start\n"
          "  w5  do:it  after start\n"
          "    join  join:all  after w1, w2, w3, w4, w5\n");
}

/* A condition, an edge past other steps, a step with two different ways in, and wide characters. */
static void test_passing_and_conditional(void **state)
{
    (void)state;
    draws("{\"name\": \"p\", \"steps\": ["
          "{\"name\": \"a\", \"capability\": \"do:a\", \"depends_on\": []},"
          "{\"name\": \"b\", \"capability\": \"\\u6587:\\u6587\", \"depends_on\": [\"a\"], "
          "\"map\": \"${steps.a.output.rows}\"},"
          "{\"name\": \"c\", \"capability\": null, \"pipeline\": \"sub\", \"depends_on\": [\"b\"]},"
          "{\"name\": \"d\", \"capability\": \"do:d\", \"depends_on\": [\"a\", \"c\"], "
          "\"when\": \"${steps.a.output.rows} > 0 && ${params.full} == true\"},"
          "{\"name\": \"e\", \"capability\": \"do:e\", \"depends_on\": [\"a\", \"c\"]}]}",
          80,
          "                                  ╭───────╮\n"
          "                                  │ a     │\n"
          "                                  │ do:a  │\n"
          "                                  ╰───┬───╯\n"
          "                   ┌──────────────────┼──────────────────┐\n"
          "                   ┆                  ▼                  │\n"
          "                   ┆   ╭─────────────────────────────╮   │\n"
          "                   ┆   │ b                           │   │\n"
          "                   ┆   │ 文:文                       │   │\n"
          "                   ┆   │ map ${steps.a.output.rows}  │   │\n"
          "                   ┆   ╰──────────────┬──────────────╯   │\n"
          "                   └┄┄┐               │              ┌───┘\n"
          "                      ┆               ▼              │\n"
          "                      ┆        ╭─────────────╮       │\n"
          "                      ┆        │ c           │       │\n"
          "                      ┆        │ run of sub  │       │\n"
          "                      ┆        ╰──────┬──────╯       │\n"
          "                     ┌┘               │              └┐\n"
          "                     ┆ ┌──────────────┴─────────────┐ │\n"
          "                     ▼ ▼                            ▼ ▼\n"
          "╭───────────────────────────────────────────╮    ╭───────╮\n"
          "│ d                                         │    │ e     │\n"
          "│ do:d                                      │    │ do:e  │\n"
          "│ when ${steps.a.output.rows} > 0 && ${pa…  │    ╰───────╯\n"
          "╰───────────────────────────────────────────╯\n");
}

/* The run of a chain: its steps in their order, with their states. */
static void test_states(void **state)
{
    (void)state;
    draws(
        "{\"id\": 7, \"pipeline\": \"p\", \"steps\": ["
        "{\"name\": \"a\", \"capability\": \"do:a\", \"state\": \"succeeded\", \"worker_id\": "
        "\"w1\"},"
        "{\"name\": \"b\", \"capability\": \"do:b\", \"state\": \"failed\", \"worker_id\": \"w2\"},"
        "{\"name\": \"c\", \"capability\": \"do:c\", \"state\": null, \"worker_id\": null}]}",
        80,
        "╭───────╮\n"
        "│ a   ✓ │\n"
        "│ do:a  │\n"
        "│ on w1 │\n"
        "╰───┬───╯\n"
        "    ▼\n"
        "╭───────╮\n"
        "│ b   ✗ │\n"
        "│ do:b  │\n"
        "│ on w2 │\n"
        "╰───┬───╯\n"
        "    ▼\n"
        "╭───────╮\n"
        "│ c   · │\n"
        "│ do:c  │\n"
        "╰───────╯\n");
    assert_string_equal(graph.name, "p");
}

static void test_odd_characters(void **state)
{
    (void)state;
    draws("{\"name\": \"o\\\"<\", \"steps\": [{\"name\": \"a\", \"capability\": "
          "\"x\\u001b[31m\\t\\u009b\","
          "\"when\": \"<&>\\\"\\\\\\u202e\\uffff\", \"state\": \"what\"}]}",
          80,
          "╭───────────────╮\n"
          "│ a           ? │\n"
          "│ x?[31m?\?      │\n"
          "│ when <&>\"\\?\?  │\n"
          "╰───────────────╯\n");
    po__buf_fini(&out);
    assert_int_equal(po__draw_svg(&out, &graph), 0);
    po__buf_append(&out, "", 1);
    assert_non_null(strstr((char *)out.data, "<title>o&quot;&lt;</title>"));
    assert_non_null(strstr((char *)out.data, ">when &lt;&amp;&gt;&quot;\\?\?</text>"));
    assert_null(strstr((char *)out.data, "\x1b"));
    po__buf_fini(&out);
    assert_int_equal(po__draw_dot(&out, &graph), 0);
    po__buf_append(&out, "", 1);
    assert_string_equal((char *)out.data,
                        "digraph \"o\\\"<\" {\n"
                        "  node [shape=box, style=\"rounded,filled\", fontname=\"monospace\"];\n"
                        "  \"a\" [label=\"a ?\\nx?[31m??\\nwhen <&>\\\"\\\\??\", "
                        "fillcolor=\"#ffffff\"];\n}\n");
}

static void test_labels_and_dashes(void **state)
{
    (void)state;
    struct po__draw_node nodes[] = {{.name = "a"}, {.name = "b"}};
    struct po__draw_edge edges[] = {{.from = 0, .to = 1, .dashed = true, .label = "if \"x\" < 3"}};
    struct po__drawing g = {
        .name = "g", .nodes = nodes, .edges = edges, .nodes_count = 2, .edges_count = 1};
    tidy(NULL);
    assert_int_equal(po__draw_dot(&out, &g), 0);
    po__buf_append(&out, "", 1);
    assert_non_null(
        strstr((char *)out.data, "\"a\" -> \"b\" [style=dashed, label=\"if \\\"x\\\" < 3\"];"));
    po__buf_fini(&out);
    assert_int_equal(po__draw_svg(&out, &g), 0);
    po__buf_append(&out, "", 1);
    assert_non_null(strstr((char *)out.data, "<path class=\"dashed\""));
    assert_non_null(strstr((char *)out.data, "class=\"l\">if &quot;x&quot; &lt; 3</text>"));
}

/* ---- pictures that are read back ---- */

#define GRID_MAX 512

struct grid {
    uint32_t c[GRID_MAX][GRID_MAX];
    int rows;
};
static struct grid grid;

static void read_grid(const char *text)
{
    memset(&grid, 0, sizeof grid);
    for (int column = 0; *text;) {
        uint32_t c;
        unsigned columns;
        if (*text == '\n') {
            grid.rows++;
            column = 0;
            text++;
            continue;
        }
        text = po__draw_char(text, &c, &columns);
        assert_true(grid.rows < GRID_MAX && column < GRID_MAX);
        grid.c[grid.rows][column++] = c;
    }
}

#define UP    1u
#define DOWN  2u
#define LEFT  4u
#define RIGHT 8u

static unsigned lines_of(uint32_t c)
{
    switch (c) {
    case 0x2502:
    case 0x2506:
        return UP | DOWN;
    case 0x2500:
    case 0x2504:
        return LEFT | RIGHT;
    case 0x250c:
        return DOWN | RIGHT;
    case 0x2510:
        return DOWN | LEFT;
    case 0x2514:
        return UP | RIGHT;
    case 0x2518:
        return UP | LEFT;
    case 0x251c:
        return UP | DOWN | RIGHT;
    case 0x2524:
        return UP | DOWN | LEFT;
    case 0x252c:
        return DOWN | LEFT | RIGHT;
    case 0x2534:
        return UP | LEFT | RIGHT;
    case 0x253c:
        return UP | DOWN | LEFT | RIGHT;
    default:
        return 0;
    }
}

struct frame {
    int top, bottom, left, right;
};

/* Where the box of node n is, from the corners around its name. */
static struct frame find_box(unsigned n)
{
    char name[16];
    int len = snprintf(name, sizeof name, " n%u ", n);
    for (int y = 1; y < grid.rows; y++)
        for (int x = 1; x + len < GRID_MAX; x++) {
            int k = 0;
            while (k < len && grid.c[y][x + k] == (uint32_t)name[k])
                k++;
            if (k < len || grid.c[y - 1][x - 1] != 0x256d)
                continue;
            struct frame f = {y - 1, y, x - 1, x};
            while (grid.c[f.bottom][f.left] != 0x2570)
                f.bottom++;
            while (grid.c[f.top][f.right] != 0x256e)
                f.right++;
            return f;
        }
    fail_msg("there is no box of n%u", n);
    return (struct frame){0};
}

struct tracing {
    struct frame boxes[32];
    unsigned nodes;
    bool seen[GRID_MAX][GRID_MAX][2]; /* entered from above or from aside */
    unsigned reached;                 /* a bit for each node */
};
static struct tracing tracing;

static void arrive(int y, int x)
{
    for (unsigned n = 0; n < tracing.nodes; n++)
        if (tracing.boxes[n].top == y + 1 && x > tracing.boxes[n].left &&
            x < tracing.boxes[n].right) {
            tracing.reached |= 1u << n;
            return;
        }
    fail_msg("an arrow at %d:%d points at nothing", y, x);
}

/* Follow a line that comes into (y, x) in a direction; lines never go up. */
static void follow(int y, int x, unsigned from)
{
    uint32_t c = grid.c[y][x];
    unsigned lines = lines_of(c);
    bool aside = from != UP;
    if (c == 0x25bc) {
        assert_false(aside);
        arrive(y, x);
        return;
    }
    if (tracing.seen[y][x][aside])
        return;
    tracing.seen[y][x][aside] = true;
    if (aside && lines == (UP | DOWN)) { /* below another line: straight on */
        follow(y, from == LEFT ? x + 1 : x - 1, from);
        return;
    }
    if (!(lines & from))
        fail_msg("the line that comes to %d:%d does not go on", y, x);
    if (lines & DOWN)
        follow(y + 1, x, UP);
    if (lines & LEFT && from != LEFT)
        follow(y, x - 1, RIGHT);
    if (lines & RIGHT && from != RIGHT)
        follow(y, x + 1, LEFT);
}

static unsigned reached_from(unsigned n)
{
    struct frame f = tracing.boxes[n];
    memset(tracing.seen, 0, sizeof tracing.seen);
    tracing.reached = 0;
    for (int x = f.left + 1; x < f.right; x++)
        if (grid.c[f.bottom][x] == 0x252c)
            follow(f.bottom + 1, x, UP);
    return tracing.reached;
}

static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static json_t *random_pipeline(unsigned nodes)
{
    json_t *steps = json_array();
    char name[16];
    for (unsigned n = 0; n < nodes; n++) {
        json_t *before = json_array();
        unsigned wanted = n ? draw(4) : 0;
        for (unsigned k = 0; k < wanted; k++) {
            snprintf(name, sizeof name, "n%u", draw(n));
            json_array_append_new(before, json_string(name));
        }
        snprintf(name, sizeof name, "n%u", n);
        json_t *step = json_pack("{s:s, s:s, s:o}", "name", name, "capability",
                                 draw(3) ? "do:it" : "do:something-longer", "depends_on", before);
        if (draw(4) == 0)
            json_object_set_new(step, "when", json_string("x > 1"));
        json_array_append_new(steps, step);
    }
    return json_pack("{s:s, s:o}", "name", "r", "steps", steps);
}

static void test_every_line_leads_where_it_should(void **state)
{
    (void)state;
    unsigned pictures = 0;
    seed = 1;
    for (unsigned round = 0; round < 400; round++) {
        unsigned nodes = 2 + draw(15);
        tidy(NULL);
        answer = random_pipeline(nodes);
        assert_int_equal(po__draw_read(&graph, answer), 0);
        const char *text = text_of(400);
        if (!strstr(text, "\u256d"))
            continue; /* a list */
        pictures++;
        read_grid(text);
        tracing.nodes = nodes;
        for (unsigned n = 0; n < nodes; n++)
            tracing.boxes[n] = find_box(n);
        for (unsigned n = 0; n < nodes; n++) {
            unsigned expected = 0;
            for (unsigned i = 0; i < graph.edges_count; i++)
                if (graph.edges[i].from == n)
                    expected |= 1u << graph.edges[i].to;
            if (reached_from(n) != expected)
                fail_msg("round %u: from n%u lines lead to %x, not %x:\n%s", round, n,
                         tracing.reached, expected, text);
        }
    }
    assert_true(pictures > 300);
}

static void test_a_long_chain(void **state)
{
    (void)state;
    json_t *steps = json_array();
    char name[16], next[16];
    for (unsigned n = 0; n < 40; n++) {
        snprintf(name, sizeof name, "n%u", n);
        snprintf(next, sizeof next, "n%u", n + 1);
        json_array_append_new(steps, json_pack("{s:s, s:s, s:s?}", "name", name, "capability",
                                               "do:it", "next_node", n < 39 ? next : NULL));
    }
    tidy(NULL);
    answer = json_pack("{s:s, s:o}", "name", "long", "steps", steps);
    assert_int_equal(po__draw_read(&graph, answer), 0);
    read_grid(text_of(20));
    assert_int_equal(grid.rows, 40 * 4 + 39);
    tracing.nodes = 32; /* as many as it looks for */
    for (unsigned n = 0; n < 32; n++)
        tracing.boxes[n] = find_box(n);
    for (unsigned n = 0; n < 31; n++)
        assert_int_equal(reached_from(n), 1u << (n + 1));
}

/* ---- what cannot be drawn ---- */

static void test_refusals(void **state)
{
    (void)state;
    assert_int_equal(read_graph("{}"), PO_EINVAL);
    assert_int_equal(read_graph("{\"steps\": []}"), PO_EINVAL);
    assert_int_equal(read_graph("{\"steps\": [{\"name\": \"a\", \"next_node\": \"b\"}]}"),
                     PO_EINVAL);
    assert_int_equal(read_graph("{\"steps\": [{\"name\": \"a\", \"depends_on\": [7]}]}"),
                     PO_EINVAL);
    assert_int_equal(read_graph("{\"steps\": [{\"name\": \"a\", \"depends_on\": [\"b\"]},"
                                "{\"name\": \"b\", \"depends_on\": [\"a\"]}]}"),
                     0);
    assert_int_equal(po__draw_text(&out, &graph, 80), PO_EINVAL);
    assert_int_equal(po__draw_svg(&out, &graph), PO_EINVAL);
}

/* As large as it may be: each step after the sixty before it. A list, and dot; no SVG. */
static void test_a_large_tangle(void **state)
{
    (void)state;
    json_t *steps = json_array();
    char name[16];
    for (unsigned n = 0; n < PO__DRAW_NODES_MAX; n++) {
        json_t *before = json_array();
        for (unsigned k = n > 60 ? n - 60 : 0; k < n; k++) {
            snprintf(name, sizeof name, "n%u", k);
            json_array_append_new(before, json_string(name));
        }
        snprintf(name, sizeof name, "n%u", n);
        json_array_append_new(steps, json_pack("{s:s, s:o}", "name", name, "depends_on", before));
    }
    tidy(NULL);
    answer = json_pack("{s:s, s:o}", "name", "tangle", "steps", steps);
    assert_int_equal(po__draw_read(&graph, answer), 0);
    assert_non_null(strstr(text_of(UINT32_MAX), "n3  after n0, n1, n2\n"));
    po__buf_fini(&out);
    assert_int_equal(po__draw_svg(&out, &graph), PO_ETOOBIG);
    assert_int_equal(po__draw_dot(&out, &graph), 0);
    json_array_append_new(steps, json_pack("{s:s}", "name", "more"));
    po__draw_fini(&graph);
    assert_int_equal(po__draw_read(&graph, answer), PO_ETOOBIG);
}

static int draw_all(void)
{
    int rv = po__draw_read(&graph, answer);
    rv = rv ? rv : po__draw_text(&out, &graph, 80);
    rv = rv ? rv : po__draw_svg(&out, &graph);
    return rv ? rv : po__draw_dot(&out, &graph);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    unsigned failures = 0;
    assert_int_equal(read_graph(fan), 0);
    po__draw_fini(&graph);
    for (uint64_t at = 1;; at++) {
        po__alloc_fail_at(at);
        int rv = draw_all();
        bool failed = po__alloc_count() >= at;
        po__alloc_fail_at(0);
        po__draw_fini(&graph);
        po__buf_fini(&out);
        assert_int_equal(rv, failed ? PO_ENOMEM : 0);
        failures += failed;
        if (!failed)
            break;
    }
    assert_true(failures > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_chain, tidy),
        cmocka_unit_test_teardown(test_diamond, tidy),
        cmocka_unit_test_teardown(test_fan_out_and_join, tidy),
        cmocka_unit_test_teardown(test_what_is_too_wide_is_a_list, tidy),
        cmocka_unit_test_teardown(test_passing_and_conditional, tidy),
        cmocka_unit_test_teardown(test_states, tidy),
        cmocka_unit_test_teardown(test_odd_characters, tidy),
        cmocka_unit_test_teardown(test_labels_and_dashes, tidy),
        cmocka_unit_test_teardown(test_every_line_leads_where_it_should, tidy),
        cmocka_unit_test_teardown(test_a_long_chain, tidy),
        cmocka_unit_test_teardown(test_refusals, tidy),
        cmocka_unit_test_teardown(test_a_large_tangle, tidy),
        cmocka_unit_test_teardown(test_out_of_memory, tidy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
