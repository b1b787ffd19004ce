/* Fan-out: a task, or a child run, for each element of a list. */
#include "graph_fixture.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    do_register(&w, "w1", 1, "aws", "a:x b:y", 1024);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static const struct gparam list_param[] = {{"list", PO__PARAM_ARRAY, true, NULL}};

static void define_map(const char *name, const struct gstep *steps, uint32_t n)
{
    assert_int_equal(define_graph(&w, name, steps, n, list_param, 1, NULL), 0);
}

/* {"list":[0,1,...]} */
static const char *numbers(int count)
{
    static char text[16 * 12000];
    char *at = text + sprintf(text, "{\"list\":[");
    for (int i = 0; i < count; i++)
        at += sprintf(at, "%s%d", i ? "," : "", i);
    sprintf(at, "]}");
    return text;
}

static const struct po__map_run *map_of(uint64_t run, const char *step)
{
    return step_of(&w, run, step)->map;
}

static void test_elements_and_their_order(void **state)
{
    (void)state;
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "\"${params.list}\"",
                                          .input = "{\"v\":\"${item.v}\",\"i\":\"${index}\"}",
                                          .parallel = 2},
                                         {.name = "sum", .work = "b:y", .needs = "m"}};
    define_map("p", steps, 2);
    do_run(&w, "", "p", "{\"list\":[{\"v\":\"a\"},{\"v\":[1]},{\"v\":null}]}", "");
    assert_int_equal(map_of(1, "m")->total, 3);
    assert_int_equal(map_of(1, "m")->running, 2);
    expect_text(po__model_task(w.m, 1)->input, "{\"v\":\"a\",\"i\":0}");
    expect_text(po__model_task(w.m, 2)->input, "{\"v\":[1],\"i\":1}");
    finish_task(&w, 2, "\"second\"", NULL); /* and the third starts in the same command */
    expect_text(po__model_task(w.m, 3)->input, "{\"v\":null,\"i\":2}");
    swap_by_snapshot(&w);
    assert_int_equal(map_of(1, "m")->succeeded, 1);
    finish_task(&w, 3, "{\"n\":3}", NULL);
    finish_task(&w, 1, "1", NULL);
    expect_text(step_of(&w, 1, "m")->output, "[1,\"second\",{\"n\":3}]");
    assert_int_equal(step_of(&w, 1, "m")->items_succeeded, 3);
    assert_int_equal(step_of(&w, 1, "m")->attempts, 3);
    expect_has(input_of(&w, 1, "sum"), "\"input\":[1,\"second\",{\"n\":3}]}");
    complete_step(&w, 1, "sum", "1");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
}

static void test_the_default_input(void **state)
{
    (void)state;
    static const struct gstep steps[] = {
        {.name = "a", .work = "b:y"},
        {.name = "m", .work = "a:x", .needs = "a", .map = "[\"x\",\"${steps.a.output}\"]"}};
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "a", "{}");
    expect_text(po__model_task(w.m, 3)->input,
                "{\"pipeline\":\"p\",\"run_id\":1,\"step\":\"m\",\"params\":{},\"config\":null,"
                "\"input\":{},\"item\":{},\"index\":1}");
    expect_has(po__model_task(w.m, 2)->input, "\"item\":\"x\",\"index\":0}");
}

static void test_lists_that_are_none(void **state)
{
    (void)state;
    static const struct gparam any[] = {{"list", PO__PARAM_ANY, true, NULL}};
    static const struct gstep steps[] = {
        {.name = "m", .work = "a:x", .map = "\"${params.list}\"", .input = "\"${item.v}\""}};
    assert_int_equal(define_graph(&w, "p", steps, 1, any, 1, NULL), 0);
    do_run(&w, "", "p", "{\"list\":[]}", "");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 1), "[]");
    do_run(&w, "", "p", "{\"list\":{\"a\":1}}", "");
    expect_text(run_of(&w, 2)->error,
                "step \"m\": map: \"${params.list}\" is an object, expected an array");
    do_run(&w, "", "p", numbers(PO__MAP_MAX + 1), "");
    expect_text(run_of(&w, 3)->error,
                "step \"m\": map: the array has 10001 elements; at most 10000 are allowed");
    do_run(&w, "", "p", "{\"list\":[{\"v\":1},{}]}", ""); /* the second has no input */
    expect_run(&w, 4, PO_RUN_FAILED);
    expect_has(run_of(&w, 4)->error, "step \"m\": element 1: input: ");
    expect_has(run_of(&w, 4)->error, "item has no member \"v\"");
    assert_int_equal(po__model_task(w.m, 1)->state, PO_TASK_CANCELLED);
}

static void test_a_failed_element(void **state)
{
    (void)state;
    static const struct gstep strict[] = {
        {.name = "m", .work = "a:x", .map = "\"${params.list}\"", .input = "\"${item}\""}};
    static const struct gstep lenient[] = {
        {.name = "m",
         .work = "a:x",
         .map = "\"${params.list}\"",
         .input = "\"${item}\"",
         .on_failure = PO__ON_FAILURE_CONTINUE},
        {.name = "after",
         .work = "b:y",
         .needs = "m",
         .join = PO__JOIN_ALL_DONE,
         .input = "[\"${steps.m.output}\",\"${steps.m.error}\"]"},
        {.name = "never", .work = "b:y", .needs = "m"}};
    define_map("strict", strict, 1);
    define_map("lenient", lenient, 3);
    do_run(&w, "", "strict", numbers(4), "");
    finish_task(&w, 1, "0", NULL);
    finish_task(&w, 3, NULL, "bad row"); /* the rest is cancelled with the run */
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_text(run_of(&w, 1)->error, "step \"m\": element 2: bad row");
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    assert_int_equal(step_of(&w, 1, "m")->items_succeeded, 1);
    assert_int_equal(step_of(&w, 1, "m")->items_failed, 1);
    assert_int_equal(step_of(&w, 1, "m")->items_total, 4);
    do_run(&w, "", "lenient", numbers(3), ""); /* tasks 5..7 */
    finish_task(&w, 6, NULL, "bad row");
    finish_task(&w, 7, NULL, "another");
    swap_by_snapshot(&w);
    finish_task(&w, 5, "\"good\"", NULL);
    expect_step(&w, 2, "m", PO__STEP_FAILED);
    expect_step(&w, 2, "never", PO__STEP_SKIPPED);
    expect_text(input_of(&w, 2, "after"),
                "[[\"good\",null,null],\"2 of 3 elements failed; element 1: bad row\"]");
    complete_step(&w, 2, "after", "1");
    expect_run(&w, 2, PO_RUN_SUCCEEDED);
}

static void test_sub_pipelines(void **state)
{
    (void)state;
    static const struct gparam params[] = {{"n", PO__PARAM_INTEGER, true, NULL}};
    static const struct gstep leaf[] = {{.name = "x", .work = "a:x", .input = "\"${params.n}\""}};
    static const struct gstep steps[] = {
        {.name = "m", .work = "leaf", .map = "\"${params.list}\"", .parallel = 2}};
    assert_int_equal(define_graph(&w, "leaf", leaf, 1, params, 1, NULL), 0);
    define_map("p", steps, 1);
    do_run(&w, "", "p", "{\"list\":[{\"n\":1},{\"n\":2},{\"n\":3}]}", "");
    assert_int_equal(run_of(&w, 3)->more->parent_item, 1);
    expect_text(input_of(&w, 3, "x"), "2");
    complete_step(&w, 3, "x", "\"two\"");
    swap_by_snapshot(&w);
    complete_step(&w, 4, "x", "\"three\"");
    complete_step(&w, 2, "x", "\"one\"");
    expect_text(result_of(&w, 1), "[\"one\",\"two\",\"three\"]");
    do_run(&w, "", "p", "{\"list\":[{\"n\":1},{\"n\":2},{\"n\":3}]}", ""); /* 5: 6, 7 */
    assert_int_equal(do_run_cancel(&w, 5), 0);
    expect_run(&w, 6, PO_RUN_CANCELLED);
    expect_run(&w, 7, PO_RUN_CANCELLED);
    assert_null(po__run_find(w.m, 8));
    do_run(&w, "", "p", "{\"list\":[{\"n\":1},2]}", ""); /* 8: 9, and what is no object */
    expect_run(&w, 8, PO_RUN_FAILED);
    expect_run(&w, 9, PO_RUN_CANCELLED);
    expect_text(run_of(&w, 8)->error,
                "step \"m\": element 1: params is a number, expected an object");
}

static void test_what_a_map_keeps_is_bounded(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES - 1000];
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "\"${params.list}\"",
                                          .input = "\"${item}\"",
                                          .on_failure = PO__ON_FAILURE_CONTINUE}};
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    define_map("p", steps, 1);
    do_run(&w, "", "p", numbers(8), "");
    for (uint64_t t = 1; t <= 4; t++)
        finish_task(&w, t, big, NULL);
    expect_run(&w, 1, PO_RUN_RUNNING);
    finish_task(&w, 5, big, NULL);
    expect_run(&w, 1, PO_RUN_FAILED); /* whatever its steps may do */
    expect_has(run_of(&w, 1)->error,
               "step \"m\": the outputs that the run keeps are more than 4 MiB");
    assert_int_equal(po__model_task(w.m, 8)->state, PO_TASK_CANCELLED);
    swap_by_snapshot(&w);
}

/* 10,000 elements: each end costs the same, however many there are. */
static void test_ten_thousand(void **state)
{
    (void)state;
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "\"${params.list}\"",
                                          .input = "\"${item}\"",
                                          .parallel = 1024}};
    define_map("p", steps, 1);
    w.unchecked = true;
    do_run(&w, "", "p", numbers(PO__MAP_MAX), "");
    do_tick(&w);
    for (uint64_t t = 1; t <= PO__MAP_MAX; t++) {
        finish_task(&w, t, "7", NULL);
        if (t == 3000 || t == 9999)
            swap_by_snapshot(&w);
    }
    world_check(&w);
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    assert_int_equal(result_of(&w, 1).len, 2 * PO__MAP_MAX + 1);
}

/* More is under way than one command cancels: the rest goes with the next ones. */
static void test_a_wide_cancellation(void **state)
{
    (void)state;
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "\"${params.list}\"",
                                          .input = "\"${item}\"",
                                          .parallel = 1024},
                                         {.name = "n",
                                          .work = "b:y",
                                          .map = "\"${params.list}\"",
                                          .input = "\"${item}\"",
                                          .parallel = 1024}};
    define_map("p", steps, 2);
    w.unchecked = true;
    do_run(&w, "", "p", numbers(1000), "");
    while (po__model_next_due_ms(w.m) <= w.now_ms)
        do_tick(&w);
    world_check(&w);
    finish_task(&w, 1, NULL, "no");
    expect_run(&w, 1, PO_RUN_RUNNING);
    expect_step(&w, 1, "m", PO__STEP_FAILED);
    world_check(&w);
    swap_by_snapshot(&w);
    assert_int_equal(po__model_next_due_ms(w.m), w.now_ms);
    uint64_t running = 2000; /* a result that comes now is not needed any more */
    while (po__model_task(w.m, running)->state != PO_TASK_RUNNING)
        running--;
    finish_task(&w, running, "1", NULL);
    world_check(&w);
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_step(&w, 1, "n", PO__STEP_CANCELLED);
    for (uint64_t t = 1; t <= 2000; t++)
        assert_true(po__model_task(w.m, t)->state >= PO_TASK_SUCCEEDED);
    swap_by_snapshot(&w);
}

/* An output of full depth fits by itself, but not into an array. */
static void test_outputs_may_be_too_deep(void **state)
{
    (void)state;
    char deep[2 * PO__JSON_DEPTH_MAX + 1];
    static const struct gstep steps[] = {
        {.name = "m", .work = "a:x", .map = "[1]", .input = "\"${item}\""}};
    memset(deep, '[', PO__JSON_DEPTH_MAX);
    memset(deep + PO__JSON_DEPTH_MAX, ']', PO__JSON_DEPTH_MAX);
    deep[2 * PO__JSON_DEPTH_MAX] = '\0';
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    finish_task(&w, 1, deep, NULL);
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_has(run_of(&w, 1)->error, "too deep");
}

/* Nor does it fit beside an element that failed: what is kept can be restored. */
static void test_too_deep_beside_a_failure(void **state)
{
    (void)state;
    char deep[2 * PO__JSON_DEPTH_MAX + 1];
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "[1,2]",
                                          .input = "\"${item}\"",
                                          .attempts = 1,
                                          .on_failure = PO__ON_FAILURE_CONTINUE}};
    memset(deep, '[', PO__JSON_DEPTH_MAX);
    memset(deep + PO__JSON_DEPTH_MAX, ']', PO__JSON_DEPTH_MAX);
    deep[2 * PO__JSON_DEPTH_MAX] = '\0';
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    finish_task(&w, 1, NULL, "spoilt");
    finish_task(&w, 2, deep, NULL);
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    swap_by_snapshot(&w);
}

static int one_life(uint64_t fail_at)
{
    struct world x;
    static struct po__cmd cmds[4];
    struct po__buf params = {0};
    static const struct gstep steps[] = {{.name = "m",
                                          .work = "a:x",
                                          .map = "\"${params.list}\"",
                                          .input = "[\"${item}\",\"${index}\"]",
                                          .parallel = 2}};
    int rv = 0;
    world_open(&x, NULL);
    do_register(&x, "w1", 1, "aws", "a:x", 64);
    graph_cmd(&cmds[0], &x.steps, &params, "p", steps, 1, list_param, 1, NULL);
    cmds[1] = (struct po__cmd){
        .type = PO__CMD_RUN_START,
        .run_start = {.pipeline = po__str("p"), .params = po__str("{\"list\":[1,2,3]}")}};
    po__alloc_fail_at(fail_at);
    for (int i = 0; i < 2 && !rv; i++)
        rv = po__model_apply(x.m, ++x.index, x.now_ms, &cmds[i], &x.result, NULL);
    for (uint64_t id = 1; id <= 3 && !rv; id++) {
        cmds[2] = (struct po__cmd){
            .type = PO__CMD_TASK_COMPLETE,
            .complete = {id, po__model_task(x.m, id)->token, po__str("w1"), po__str("5")}};
        rv = po__model_apply(x.m, ++x.index, x.now_ms, &cmds[2], &x.result, NULL);
    }
    po__alloc_fail_at(0);
    if (!rv)
        expect_text(result_of(&x, 1), "[5,5,5]");
    po__buf_fini(&params);
    world_close(&x);
    return rv;
}

static void test_no_memory(void **state)
{
    (void)state;
    uint64_t n = 1;
    int rv;
    while ((rv = one_life(n)) != 0) {
        assert_int_equal(rv, PO_ENOMEM);
        n++;
    }
    assert_true(n > 30);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_elements_and_their_order),
        TEST(test_the_default_input),
        TEST(test_lists_that_are_none),
        TEST(test_a_failed_element),
        TEST(test_sub_pipelines),
        TEST(test_what_a_map_keeps_is_bounded),
        TEST(test_ten_thousand),
        TEST(test_a_wide_cancellation),
        TEST(test_outputs_may_be_too_deep),
        TEST(test_too_deep_beside_a_failure),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
