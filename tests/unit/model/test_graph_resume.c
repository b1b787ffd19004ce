/* Runs that take over what an earlier run has done. */
#include "graph_fixture.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    do_register(&w, "w1", 1, "aws", "a:x b:y c:z", 64);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

/* a -> (b, c) -> d, and skip beside them */
static const struct gstep steps[] = {
    {.name = "a", .work = "a:x"},
    {.name = "b", .work = "b:y", .needs = "a"},
    {.name = "c", .work = "c:z", .needs = "a"},
    {.name = "skip", .work = "a:x", .needs = "a", .when = "steps.a.output == 0"},
    {.name = "d", .work = "a:x", .needs = "b c skip", .join = PO__JOIN_ANY_SUCCEEDED},
};

static void fail_at_c(void)
{
    DEFINE(&w, "p", steps);
    do_start(&w, "", "p", "", "gcp", 6);
    complete_step(&w, 1, "a", "\"A\"");
    complete_step(&w, 1, "b", "\"B\"");
    fail_step(&w, 1, "c", "no");
    expect_run(&w, 1, PO_RUN_FAILED);
}

static void test_from_the_failed_step(void **state)
{
    (void)state;
    fail_at_c();
    uint64_t task_a = step_of(&w, 1, "a")->id;
    assert_int_equal(do_resume(&w, "key", 1, ""), 0);
    assert_int_equal(w.result.id, 2);
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 1); /* c, and nothing else */
    expect_step(&w, 2, "a", PO__STEP_SUCCEEDED);
    expect_step(&w, 2, "skip", PO__STEP_SKIPPED);
    assert_true(step_of(&w, 2, "a")->reused && step_of(&w, 2, "skip")->reused);
    assert_false(step_of(&w, 2, "c")->reused);
    assert_int_equal(step_of(&w, 2, "a")->id, task_a);
    assert_int_equal(run_of(&w, 2)->more->priority, 6);
    expect_text(run_of(&w, 2)->zone, "gcp");
    expect_has(input_of(&w, 2, "c"), "\"run_id\":2,\"step\":\"c\",\"params\":{},\"config\":null,"
                                     "\"input\":\"A\"}");
    swap_by_snapshot(&w);
    complete_step(&w, 2, "c", "\"C\"");
    expect_has(input_of(&w, 2, "d"), "\"input\":{\"b\":\"B\",\"c\":\"C\",\"skip\":null}}");
    complete_step(&w, 2, "d", "1");
    expect_run(&w, 2, PO_RUN_SUCCEEDED);
    assert_int_equal(do_resume(&w, "key", 1, ""), 0); /* a repeat */
    assert_int_equal(w.result.id, 2);
    assert_int_equal(do_resume(&w, "key", 2, "a"), PO_EEXISTS);
    assert_int_equal(do_run(&w, "key", "p", "", ""), PO_EEXISTS);
}

static void test_from_any_step(void **state)
{
    (void)state;
    fail_at_c();
    do_resume(&w, "", 1, "");
    complete_step(&w, 2, "c", "1");
    complete_step(&w, 2, "d", "1");
    assert_int_equal(do_resume(&w, "", 2, ""), PO_ESTATE); /* it succeeded */
    assert_int_equal(do_resume(&w, "", 2, "x"), PO_EINVAL);
    assert_int_equal(do_resume(&w, "", 9, ""), PO_ENOTFOUND);
    assert_int_equal(do_resume(&w, "", 2, "b"), 0);
    assert_int_equal(do_resume(&w, "", 3, ""), PO_ESTATE); /* it runs */
    assert_true(step_of(&w, 3, "c")->reused);
    expect_step(&w, 3, "d", PO__STEP_WAITING); /* behind b */
    complete_step(&w, 3, "b", "\"B2\"");
    expect_has(input_of(&w, 3, "d"), "\"b\":\"B2\"");
    complete_step(&w, 3, "d", "1");
    assert_int_equal(do_resume(&w, "", 3, "a"), 0); /* everything */
    assert_false(step_of(&w, 4, "c")->reused);
    do_run_cancel(&w, 4);
    assert_int_equal(do_resume(&w, "", 4, ""), 0);
    expect_step(&w, 5, "a", PO__STEP_RUNNING);
}

/* The definition is that of the old run, whatever the pipeline is now. */
static void test_the_definition_stays(void **state)
{
    (void)state;
    static const struct gstep other[] = {{.name = "z", .work = "a:x"}};
    fail_at_c();
    DEFINE(&w, "p", other);
    assert_int_equal(do_resume(&w, "", 1, "c"), 0);
    assert_ptr_equal(run_of(&w, 2)->def, run_of(&w, 1)->def);
    expect_step(&w, 2, "c", PO__STEP_RUNNING);
    swap_by_snapshot(&w);
}

/* What a failed step let go on is made anew, too: it may have seen the failure. */
static void test_behind_a_tolerated_failure(void **state)
{
    (void)state;
    static const struct gstep tolerant[] = {
        {.name = "a", .work = "a:x", .on_failure = PO__ON_FAILURE_CONTINUE},
        {.name = "clean", .work = "b:y", .needs = "a", .join = PO__JOIN_ALL_DONE},
        {.name = "b", .work = "c:z", .needs = "clean"}};
    DEFINE(&w, "p", tolerant);
    do_run(&w, "", "p", "", "");
    fail_step(&w, 1, "a", "no");
    complete_step(&w, 1, "clean", "1");
    fail_step(&w, 1, "b", "no");
    assert_int_equal(do_resume(&w, "", 1, ""), 0);
    expect_step(&w, 2, "a", PO__STEP_RUNNING);
    expect_step(&w, 2, "clean", PO__STEP_WAITING);
}

static void test_maps_are_taken_over_whole(void **state)
{
    (void)state;
    static const struct gstep map[] = {
        {.name = "m", .work = "a:x", .map = "[1,2]", .input = "\"${item}\""},
        {.name = "b", .work = "b:y", .needs = "m"}};
    DEFINE(&w, "p", map);
    do_run(&w, "", "p", "", "");
    finish_task(&w, 1, "1", NULL);
    finish_task(&w, 2, "2", NULL);
    fail_step(&w, 1, "b", "no");
    assert_int_equal(do_resume(&w, "", 1, ""), 0);
    expect_text(step_of(&w, 2, "m")->output, "[1,2]");
    assert_int_equal(step_of(&w, 2, "m")->items_total, 2);
    expect_has(input_of(&w, 2, "b"), "\"input\":[1,2]}");
}

static void test_chains(void **state)
{
    (void)state;
    static const char *const caps[] = {"a:x", "b:y", "c:z"};
    do_define(&w, "chain", caps, 3, "");
    do_run(&w, "", "chain", "[7]", "gcp");
    finish_task(&w, 1, "\"one\"", NULL);
    finish_task(&w, 2, "\"two\"", NULL);
    finish_task(&w, 3, NULL, "no");
    assert_int_equal(do_resume(&w, "", 1, "s9"), PO_EINVAL);
    assert_int_equal(do_resume(&w, "", 1, ""), 0);
    assert_int_equal(run_of(&w, 2)->more->reused_count, 2);
    expect_has(po__model_task(w.m, 4)->input, "\"step\":\"s3\",\"params\":[7],\"config\":null,"
                                              "\"input\":\"two\"}");
    swap_by_snapshot(&w);
    finish_task(&w, 4, "\"three\"", NULL);
    expect_text(result_of(&w, 2), "\"three\"");
    assert_int_equal(do_resume(&w, "", 2, "s2"), 0);
    expect_has(po__model_task(w.m, 5)->input, "\"input\":\"one\"}");
    do_run_cancel(&w, 3);
    assert_int_equal(do_resume(&w, "", 3, "s1"), 0);
    expect_has(po__model_task(w.m, 6)->input, "\"input\":null}");
    expect_has(po__model_task(w.m, 6)->input, "\"run_id\":4");
}

/* The outputs of a chain are with its tasks, which are not kept for ever. */
static void test_a_chain_whose_tasks_are_gone(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES - 10];
    static const char *const caps[] = {"a:x", "b:y"};
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    do_define(&w, "chain", caps, 2, "");
    do_run(&w, "", "chain", "", "");
    finish_task(&w, 1, "1", NULL);
    finish_task(&w, 2, NULL, "no");
    w.unchecked = true;
    for (uint64_t id = 3; id < 80; id++) {
        do_submit(&w, "", "a:x", "1", "", 0, 0);
        finish_task(&w, id, big, NULL);
    }
    assert_null(po__model_task(w.m, 1));
    assert_int_equal(do_resume(&w, "", 1, ""), PO_ENOTFOUND);
    assert_non_null(strstr(w.result.message, "the output of step \"s1\" of run 1 is not kept"));
    assert_int_equal(do_resume(&w, "", 1, "s1"), 0);
    world_check(&w);
}

static int one_life(uint64_t fail_at, const char *pipeline)
{
    struct world x;
    struct po__buf params = {0};
    static struct po__cmd cmd;
    static const char *const caps[] = {"a:x", "a:x"};
    static const struct gstep two[] = {{.name = "a", .work = "a:x"},
                                       {.name = "b", .work = "a:x", .needs = "a"}};
    world_open(&x, NULL);
    do_register(&x, "w1", 1, "aws", "a:x", 64);
    do_define(&x, "chain", caps, 2, "");
    DEFINE(&x, "graph", two);
    do_run(&x, "", pipeline, "", "");
    finish_task(&x, 1, "1", NULL);
    finish_task(&x, 2, NULL, "no");
    cmd = (struct po__cmd){.type = PO__CMD_RUN_RESUME,
                           .run_resume = {.key = po__str("k"), .run_id = 1}};
    po__alloc_fail_at(fail_at);
    int rv = po__model_apply(x.m, ++x.index, x.now_ms, &cmd, &x.result, NULL);
    po__alloc_fail_at(0);
    if (!rv)
        expect_has(po__model_task(x.m, 3)->input, "\"input\":1}");
    po__buf_fini(&params);
    world_close(&x);
    return rv;
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char *const pipelines[] = {"chain", "graph"};
    for (int i = 0; i < 2; i++) {
        uint64_t n = 1;
        int rv;
        while ((rv = one_life(n, pipelines[i])) != 0) {
            assert_int_equal(rv, PO_ENOMEM);
            n++;
        }
        assert_true(n > 4);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_from_the_failed_step),         TEST(test_from_any_step),
        TEST(test_the_definition_stays),         TEST(test_behind_a_tolerated_failure),
        TEST(test_maps_are_taken_over_whole),    TEST(test_chains),
        TEST(test_a_chain_whose_tasks_are_gone), TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
