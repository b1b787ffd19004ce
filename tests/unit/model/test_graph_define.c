/* Definitions of graphs: their encoding, and what is refused before it reaches the log. */
#include "graph_fixture.h"

static struct po__cmd cmd;
static struct po__buf steps_bytes, params_bytes;

static int teardown(void **state)
{
    (void)state;
    po__buf_fini(&steps_bytes);
    po__buf_fini(&params_bytes);
    return 0;
}

static void expect(int code, const char *part)
{
    char message[512];
    int rv = po__cmd_check(&cmd, message, sizeof message);
    if (rv != code || (part && !strstr(message, part)))
        fail_msg("%d \"%s\" instead of %d \"%s\"", rv, message, code, part ? part : "");
}

static void refuse_param(struct gparam a, struct gparam b, const char *part)
{
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    const struct gparam params[] = {a, b};
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", one, 1, params, b.name ? 2 : 1, NULL);
    expect(part ? PO_EINVAL : 0, part);
}

static void test_params(void **state)
{
    (void)state;
    const struct gparam none = {0};
    refuse_param((struct gparam){"x", PO__PARAM_ANY, false, NULL}, none, NULL);
    refuse_param((struct gparam){"x y", PO__PARAM_ANY, false, NULL}, none, "not a name");
    refuse_param((struct gparam){"x", 7, false, NULL}, none, "unknown type 7");
    refuse_param((struct gparam){"x", 0, true, "1"}, none, "required and has a default");
    refuse_param((struct gparam){"x", 0, false, "{"}, none, "not a JSON text");
    refuse_param((struct gparam){"x", PO__PARAM_INTEGER, false, " 1e3 "}, none,
                 "the default is a number, expected integer");
    refuse_param((struct gparam){"x", 0, false, NULL}, (struct gparam){"x", 0, false, NULL},
                 "declared twice");
}

/* The last of these steps is the one that is wrong. */
static void refuse_step(struct gstep s, const char *part)
{
    const struct gparam params[] = {{"p", PO__PARAM_ANY, false, NULL}};
    struct gstep steps[] = {{.name = "a", .work = "a:x"},
                            {.name = "beside", .work = "a:x"},
                            {.name = "b", .work = "b:y", .needs = "a"},
                            s};
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", steps, 4, params, 1, NULL);
    expect(part ? PO_EINVAL : 0, part);
}

static void test_steps(void **state)
{
    (void)state;
    struct po__placement place = {.range = po__str("1.x.y.z")};
    struct po__buf bytes = {0};
    po__placement_encode(&bytes, &place);
    const struct po__extra bad = {.placement = po__buf_slice(&bytes)}, timed = {.run_at_ms = 5},
                           fine = {.priority = 3, .retry_ms = 10};
    refuse_step((struct gstep){.name = "x", .work = "a:x", .extra = &fine}, NULL);
    refuse_step((struct gstep){.name = "", .work = "a:x"}, "step name \"\" is not a name");
    refuse_step((struct gstep){.name = "x", .work = ""}, "a capability or a pipeline");
    refuse_step((struct gstep){.name = "x", .work = "A:x"}, "capability \"A:x\" is malformed");
    refuse_step((struct gstep){.name = "x", .work = "no name"},
                "pipeline \"no name\" is not a name");
    refuse_step((struct gstep){.name = "x", .work = "p", .config = "1"}, "runs a pipeline");
    refuse_step((struct gstep){.name = "x", .work = "p", .attempts = 1}, "runs a pipeline");
    refuse_step((struct gstep){.name = "x", .work = "p", .extra = &fine}, "runs a pipeline");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .extra = &bad},
                "not a range of versions");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .extra = &timed}, "a point in time");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .join = 3}, "unknown join 3");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .on_failure = 2}, "on_failure 2");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .parallel = 2}, "map_parallel is 2");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .map = "[]", .parallel = 1025},
                "map_parallel is 1025");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .attempts = 101}, "attempts_max is 101");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .timeout_ms = 99}, "timeout_ms is 99");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .cache = true}, "cache needs an input");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .cache_ms = 1}, "without cache");
    refuse_step((struct gstep){.name = "x", .work = "a:x", .config = "{"}, "config is not");
    refuse_step((struct gstep){.name = "a", .work = "a:x"}, "step \"a\" is defined twice");
    po__buf_fini(&bytes);
}

static void test_references(void **state)
{
    (void)state;
#define REFUSE(field, text, part)                                                                  \
    refuse_step((struct gstep){.name = "x", .work = "c:z", .needs = "b", .field = text}, part)
    REFUSE(input,
           "[\"${steps.a.output.x[3]}\",\"${steps.b.state}\",\"${params.p.q}\",\"${run.id}\"]",
           NULL);
    REFUSE(input, "[", "step \"x\": input, byte 0: it is not a JSON text");
    REFUSE(input, "\"${steps.a.output\"", "step \"x\": input, byte ");
    REFUSE(input, "\"${steps.a}\"", "expected steps.NAME.output");
    REFUSE(input, "\"${steps.a.outputs}\"", "expected steps.NAME.output");
    REFUSE(input, "\"${steps.z.output}\"", "\"z\" names no step");
    REFUSE(input, "\"${steps.x.output}\"", "does not come before this one");
    REFUSE(input, "\"${steps.beside.output}\"", "\"beside\" does not come before this one");
    REFUSE(input, "\"${params.q}\"", "no param");
    REFUSE(input, "\"${item}\"", "only in the input of a step with a map");
    REFUSE(input, "\"${run.name}\"", "expected run.id");
    REFUSE(input, "\"${env.HOME}\"", "expected a path of params");
    REFUSE(when, "steps.a.output.n > 1 && exists(steps.b.output)", NULL);
    REFUSE(when, "steps.a.output.n >", "when, byte");
    REFUSE(when, "steps.beside.output", "does not come before this one");
    REFUSE(map, "\"${index}\"", "only in the input");
    REFUSE(map, "\"${steps.a.output}\"", NULL);
#undef REFUSE
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", one, 1, NULL, 0, "\"${steps.a.output}\"");
    expect(0, NULL);
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", one, 1, NULL, 0, "\"${steps.b.output}\"");
    expect(PO_EINVAL, "output, byte 3: \"b\" names no step");
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p q", one, 1, NULL, 0, NULL);
    expect(PO_EINVAL, "pipeline name \"p q\"");
}

/* What the fixture would not write. */
static void test_positions(void **state)
{
    static const struct {
        uint32_t needs[2], count;
        const char *part;
    } cases[] = {{{0}, 1, NULL},
                 {{1}, 1, "positions below its own"},
                 {{2}, 1, "positions below its own"},
                 {{0, 0}, 2, "positions below its own, increasing"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct po__buf needs = {0};
        struct po__graph_step s = {.name = po__str("a"), .capability = po__str("a:x")};
        po__buf_reset(&steps_bytes);
        po__mpw_array(&steps_bytes, 2);
        po__graph_step_encode(&steps_bytes, &s);
        po__depends_encode(&needs, cases[i].needs, cases[i].count);
        s.name = po__str("b");
        s.depends = po__buf_slice(&needs);
        s.depends_count = cases[i].count;
        po__graph_step_encode(&steps_bytes, &s);
        cmd.type = PO__CMD_PIPELINE_DEFINE_GRAPH;
        cmd.graph = (struct po__graph){
            .name = po__str("p"), .steps = po__buf_slice(&steps_bytes), .steps_count = 2};
        expect(cases[i].part ? PO_EINVAL : 0, cases[i].part);
        po__mpw_nil(&steps_bytes);
        cmd.graph.steps = po__buf_slice(&steps_bytes);
        expect(PO_EINVAL, cases[i].part ? NULL : "bytes follow");
        cmd.graph.steps_count = 1;
        expect(PO_EINVAL, "steps_count does not match");
        cmd.graph.steps_count = 0;
        expect(PO_EINVAL, "number of steps is 0");
        po__buf_fini(&needs);
    }
}

/* As many steps and dependencies as are allowed, and one more. */
static void test_bounds(void **state)
{
    (void)state;
    static struct gstep steps[PO_STEPS_MAX];
    static char names[PO_STEPS_MAX][8], needs[PO_STEPS_MAX * 6], config[PO__PIPELINE_MAX_BYTES];
    for (uint32_t i = 0; i < PO_STEPS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "s%u", i);
        steps[i] = (struct gstep){.name = names[i], .work = "a:x"};
    }
    for (uint32_t i = 0; i < 33; i++)
        snprintf(needs + strlen(needs), 8, "%ss%u", i ? " " : "", i);
    for (uint32_t i = 33; i < 529; i++)
        steps[i].needs = needs; /* 496 * 33 */
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", steps, PO_STEPS_MAX, NULL, 0, NULL);
    expect(0, NULL);
    for (uint32_t i = 529; i < 600; i++)
        steps[i].needs = needs;
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", steps, PO_STEPS_MAX, NULL, 0, NULL);
    expect(PO_EINVAL, "more than 16384 dependencies");
    memset(config, ' ', sizeof config - 1);
    config[0] = '1';
    steps[0].config = config;
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", steps, 1, NULL, 0, NULL);
    expect(PO_ETOOBIG, "at most 524288 are allowed");
}

/* Another form of the same means the same: fields that a later program adds, a longer number. */
static void test_canonical(void **state)
{
    (void)state;
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    struct po__buf a = {0}, b = {0}, longer = {0};
    static struct po__cmd decoded;
    struct po__mpr r;
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", one, 1, NULL, 0, NULL);
    po__cmd_encode(&a, &cmd);
    /* [[17 instead of 16 fields]]: the head of the step is an array of 16 in three bytes */
    assert_int_equal(steps_bytes.data[0], 0x91);
    assert_int_equal(steps_bytes.data[1], 0xdc);
    assert_int_equal(steps_bytes.data[3], 16);
    po__mpw_array(&longer, 1);
    po__mpw_array(&longer, 17);
    po__buf_append(&longer, steps_bytes.data + 4, steps_bytes.len - 4);
    po__mpw_nil(&longer);
    cmd.graph.steps = po__buf_slice(&longer);
    expect(0, NULL);
    po__cmd_encode(&b, &cmd);
    assert_true(po__slice_eq(po__buf_slice(&a), po__buf_slice(&b)));
    po__buf_reset(&b); /* as it would stand in the log of a later program */
    po__mpw_array(&b, 6);
    po__mpw_uint(&b, PO__CMD_PIPELINE_DEFINE_GRAPH);
    po__mpw_cstr(&b, "p");
    po__mpw_cstr(&b, "");
    po__mpw_array(&b, 0);
    po__mpw_cstr(&b, "");
    po__mpw_raw(&b, po__buf_slice(&longer));
    po__mpr_init(&r, b.data, b.len);
    assert_int_equal(po__cmd_decode(&r, &decoded, true), PO_EVERSION);
    po__mpr_init(&r, b.data, b.len);
    assert_int_equal(po__cmd_decode(&r, &decoded, false), 0);
    assert_int_equal(decoded.graph.steps_count, 1);
    po__buf_fini(&a);
    po__buf_fini(&b);
    po__buf_fini(&longer);
}

static void test_words(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(po__param_type_named(po__str(po__param_type_word(i))), i);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(po__join_named(po__str(po__join_word(i))), i);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(po__on_failure_named(po__str(po__on_failure_word(i))), i);
    assert_null(po__param_type_word(7));
    assert_null(po__join_word(3));
    assert_null(po__on_failure_word(2));
    assert_int_equal(po__join_named(po__str("all")), UINT32_MAX);
}

static void test_no_memory(void **state)
{
    (void)state;
    static const struct gstep two[] = {{.name = "a", .work = "a:x"},
                                       {.name = "b",
                                        .work = "a:x",
                                        .needs = "a",
                                        .when = "steps.a.output == 1",
                                        .input = "\"${steps.a.output}\""}};
    char message[256];
    graph_cmd(&cmd, &steps_bytes, &params_bytes, "p", two, 2, NULL, 0, NULL);
    for (uint64_t n = 1;; n++) {
        po__alloc_fail_at(n);
        int rv = po__cmd_check(&cmd, message, sizeof message);
        po__alloc_fail_at(0);
        if (!rv)
            break;
        assert_int_equal(rv, PO_ENOMEM);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_params), TEST(test_steps),     TEST(test_references), TEST(test_positions),
        TEST(test_bounds), TEST(test_canonical), TEST(test_words),      TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
