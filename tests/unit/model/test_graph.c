/* Runs of graphs: order, joins, conditions, templates, failures, sub-pipelines, cancellation. Every
 * transition is one command. */
#include "graph_fixture.h"

#include "codec/json.h"

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

/* a -> (b, c) -> d */
static const struct gstep diamond[] = {
    {.name = "a", .work = "a:x"},
    {.name = "b", .work = "b:y", .needs = "a"},
    {.name = "c", .work = "c:z", .needs = "a", .config = "{\"k\":1}"},
    {.name = "d", .work = "a:x", .needs = "b c"},
};

static void test_a_diamond(void **state)
{
    (void)state;
    DEFINE(&w, "p", diamond);
    assert_int_equal(do_run(&w, "k", "p", "", ""), 0);
    assert_int_equal(w.result.id, 1);
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 1);
    expect_text(input_of(&w, 1, "a"),
                "{\"pipeline\":\"p\",\"run_id\":1,\"step\":\"a\",\"params\":{},"
                "\"config\":null,\"input\":null}");
    complete_step(&w, 1, "a", "[1]"); /* and both behind it start in the same command */
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 2);
    expect_has(input_of(&w, 1, "b"), "\"config\":null,\"input\":[1]}");
    expect_has(input_of(&w, 1, "c"), "\"config\":{\"k\":1},\"input\":[1]}");
    complete_step(&w, 1, "c", "\"C\"");
    expect_step(&w, 1, "d", PO__STEP_WAITING);
    swap_by_snapshot(&w);
    complete_step(&w, 1, "b", "\"B\"");
    expect_has(input_of(&w, 1, "d"), "\"input\":{\"b\":\"B\",\"c\":\"C\"}}");
    complete_step(&w, 1, "d", "{\"done\":true}");
    assert_int_equal(effect(&w, PO__FX_RUN_FINISHED)->id, 1);
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 1), "{\"done\":true}"); /* of the only last step */
    assert_int_equal(do_run_cancel(&w, 1), PO_ESTATE);
    assert_int_equal(do_run(&w, "k", "p", "{}", ""), 0); /* a repeat */
    assert_int_equal(w.result.id, 1);
    assert_int_equal(do_start(&w, "k", "p", "null", "", 3), 0);
    assert_int_equal(w.result.id, 1);
    assert_null(po__model_task(w.m, 5));
}

static void test_outputs_of_several_ends(void **state)
{
    (void)state;
    static const struct gstep fork[] = {{.name = "a", .work = "a:x"},
                                        {.name = "b", .work = "b:y"},
                                        {.name = "c", .work = "c:z", .when = "false"}};
    DEFINE(&w, "p", fork);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "b", "2");
    complete_step(&w, 1, "a", "1");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 1), "{\"a\":1,\"b\":2,\"c\":null}");
    assert_int_equal(define_graph(&w, "q", fork, 3, NULL, 0,
                                  "{\"sum\":[\"${steps.a.output}\",\"${steps.b.output.n}\"]}"),
                     0);
    do_run(&w, "", "q", "", "");
    complete_step(&w, 2, "a", "1");
    complete_step(&w, 2, "b", "{\"n\":\"x\"}");
    expect_text(result_of(&w, 2), "{\"sum\":[1,\"x\"]}");
    do_run(&w, "", "q", "", "");
    complete_step(&w, 3, "a", "1");
    complete_step(&w, 3, "b", "{}");
    expect_run(&w, 3, PO_RUN_FAILED);
    expect_has(run_of(&w, 3)->error, "output: ");
    expect_has(run_of(&w, 3)->error, "steps.b.output");
}

static void test_templates(void **state)
{
    (void)state;
    static const struct gparam params[] = {{"year", PO__PARAM_INTEGER, true, NULL},
                                           {"name", PO__PARAM_STRING, false, "\"x y\""}};
    static const struct gstep steps[] = {
        {.name = "a",
         .work = "a:x",
         .input = "{\"y\":\"${params.year}\",\"t\":\"<${params.name}>\"}"},
        {.name = "b",
         .work = "b:y",
         .needs = "a",
         .when = "steps.a.output.rows > 0",
         .input = "{\"r\":\"${steps.a.output.rows}\",\"s\":\"${steps.a.state}\",\"e\":\"${steps.a."
                  "error}\",\"run\":\"${run.id}\",\"p\":\"${run.pipeline}\",\"key\":\"${run.key}\","
                  "\"at\":\"${run.scheduled_ms}\"}"},
    };
    assert_int_equal(define_graph(&w, "p", steps, 2, params, 2, NULL), 0);
    assert_int_equal(do_run(&w, "key", "p", "{\"year\":2018}", ""), 0);
    expect_text(input_of(&w, 1, "a"), "{\"y\":2018,\"t\":\"<x y>\"}");
    complete_step(&w, 1, "a", "{\"rows\":7}");
    expect_text(input_of(&w, 1, "b"),
                "{\"r\":7,\"s\":\"succeeded\",\"e\":null,\"run\":1,\"p\":\"p\","
                "\"key\":\"key\",\"at\":null}");
    do_run(&w, "", "p", "{\"year\":1}", ""); /* no rows: b is skipped */
    complete_step(&w, 2, "a", "{\"rows\":0}");
    expect_step(&w, 2, "b", PO__STEP_SKIPPED);
    expect_run(&w, 2, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 2), "");
    do_run(&w, "", "p", "{\"year\":1}", ""); /* the condition cannot be evaluated */
    complete_step(&w, 3, "a", "{\"rows\":\"many\"}");
    expect_run(&w, 3, PO_RUN_FAILED);
    expect_has(run_of(&w, 3)->error, "step \"b\": when: ");
    do_run(&w, "", "p", "{\"year\":1}", "");
    complete_step(&w, 4, "a", "{}");
    expect_has(run_of(&w, 4)->error, "step \"b\": when: ");
    expect_has(run_of(&w, 4)->error, "rows");
}

static void test_params(void **state)
{
    (void)state;
    static const struct gparam params[] = {
        {"s", PO__PARAM_STRING, true, NULL},   {"n", PO__PARAM_NUMBER, false, "1.5"},
        {"i", PO__PARAM_INTEGER, false, NULL}, {"b", PO__PARAM_BOOLEAN, false, NULL},
        {"o", PO__PARAM_OBJECT, false, NULL},  {"a", PO__PARAM_ARRAY, false, NULL},
        {"any", PO__PARAM_ANY, false, "[1]"}};
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    assert_int_equal(define_graph(&w, "p", one, 1, params, 7, NULL), 0);
    assert_int_equal(do_run(&w, "k", "p", " { \"b\" : true, \"s\":\"\\u00e9\" } ", ""), 0);
    expect_text(run_of(&w, 1)->params,
                "{\"s\":\"\\u00e9\",\"n\":1.5,\"i\":null,\"b\":true,\"o\":null,"
                "\"a\":null,\"any\":[1]}");
    assert_int_equal(do_run(&w, "k", "p", "{\"s\":\"\\u00e9\",\"b\":true,\"n\":1.5}", ""), 0);
    assert_int_equal(w.result.id, 1); /* the same params, after all */
    assert_int_equal(do_run(&w, "k", "p", "{\"s\":\"z\"}", ""), PO_EEXISTS);
    assert_int_equal(do_run(&w, "k", "p", "{}", ""), PO_EEXISTS);
    assert_int_equal(do_run(&w, "", "p",
                            "{\"n\":\"1\",\"i\":1.0,\"b\":0,\"o\":[],\"a\":{},\"q\":1,\"n\":2}",
                            ""),
                     PO_EINVAL);
    assert_string_equal(
        w.result.message,
        "param \"q\" is not declared; param \"n\" is given twice; param \"s\" is "
        "required (string); param \"n\" is a string, expected number; param \"i\" is "
        "a number, expected integer; param \"b\" is a number, expected boolean; param "
        "\"o\" is an array, expected object; param \"a\" is an object, expected "
        "array");
    assert_int_equal(do_run(&w, "", "p", "[]", ""), PO_EINVAL);
    assert_string_equal(w.result.message, "params is an array, expected an object");
    assert_int_equal(do_run(&w, "", "p", "", ""), PO_EINVAL);
    assert_int_equal(do_run(&w, "", "p", "{\"s\":\"1\",\"i\":null,\"n\":null}", ""), PO_EINVAL);
    assert_string_equal(w.result.message, "param \"n\" is null, expected number");
    assert_int_equal(do_start(&w, "", "p", "{\"s\":\"1\",\"i\":null,\"any\":null}", "", 0), 0);
    expect_has(run_of(&w, 2)->params, "\"any\":null}");
    assert_int_equal(do_run(&w, "", "nope", "", ""), PO_ENOTFOUND);
}

/* More problems than the message has room for are counted. */
static void test_many_wrong_params(void **state)
{
    (void)state;
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    char params[4096] = "{", *at = params + 1;
    DEFINE(&w, "p", one);
    for (int i = 0; i < 60; i++)
        at += sprintf(at, "%s\"unknown_%d\":%d", i ? "," : "", i, i);
    sprintf(at, "}");
    assert_int_equal(do_run(&w, "", "p", params, ""), PO_EINVAL);
    assert_non_null(strstr(w.result.message, "param \"unknown_0\" is not declared; "));
    assert_non_null(strstr(w.result.message, " more"));
    assert_null(po__model_task(w.m, 1));
}

static void test_joins(void **state)
{
    (void)state;
    static const struct gstep steps[] = {
        {.name = "ok", .work = "a:x"},
        {.name = "bad", .work = "b:y", .on_failure = PO__ON_FAILURE_CONTINUE},
        {.name = "off", .work = "c:z", .when = "1 == 2"},
        {.name = "all", .work = "a:x", .needs = "ok bad"},
        {.name = "any", .work = "a:x", .needs = "ok bad off", .join = PO__JOIN_ANY_SUCCEEDED},
        {.name = "none", .work = "a:x", .needs = "bad off", .join = PO__JOIN_ANY_SUCCEEDED},
        {.name = "done",
         .work = "a:x",
         .needs = "bad off all",
         .join = PO__JOIN_ALL_DONE,
         .input = "[\"${steps.bad.state}\",\"${steps.bad.error}\",\"${steps.off.state}\","
                  "\"${steps.off.output}\",\"of ${steps.bad.output.rows[3]}\"]"},
        {.name = "seen",
         .work = "a:x",
         .needs = "off",
         .join = PO__JOIN_ALL_DONE,
         .when = "exists(steps.off.output)"},
        {.name = "behind", .work = "a:x", .needs = "all none"},
    };
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    expect_step(&w, 1, "off", PO__STEP_SKIPPED);
    fail_step(&w, 1, "bad", "no \"such\" file");
    expect_step(&w, 1, "none", PO__STEP_SKIPPED);
    expect_step(&w, 1, "any", PO__STEP_WAITING);
    expect_step(&w, 1, "done", PO__STEP_WAITING); /* all is not over */
    complete_step(&w, 1, "ok", "1");
    expect_step(&w, 1, "all", PO__STEP_SKIPPED);
    expect_step(&w, 1, "behind", PO__STEP_SKIPPED);
    expect_has(input_of(&w, 1, "any"), "\"input\":{\"ok\":1,\"bad\":null,\"off\":null}}");
    expect_text(input_of(&w, 1, "done"),
                "[\"failed\",\"no \\\"such\\\" file\",\"skipped\",null,\"of null\"]");
    expect_step(&w, 1, "seen", PO__STEP_SKIPPED); /* what is null there is not there to ask for */
    complete_step(&w, 1, "done", "1");
    complete_step(&w, 1, "any", "2");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 1), "{\"any\":2,\"done\":1,\"seen\":null,\"behind\":null}");
}

static void test_a_failure_ends_the_run(void **state)
{
    (void)state;
    DEFINE(&w, "p", diamond);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "a", "1");
    uint64_t other = task_of(&w, 1, "c");
    fail_step(&w, 1, "b", "row 7: not a number");
    expect_run(&w, 1, PO_RUN_FAILED); /* with what else was under way, in the same command */
    expect_text(run_of(&w, 1)->error, "step \"b\": row 7: not a number");
    assert_int_equal(po__model_task(w.m, other)->state, PO_TASK_CANCELLED);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 1);
    expect_step(&w, 1, "c", PO__STEP_CANCELLED);
    expect_step(&w, 1, "d", PO__STEP_WAITING);
    assert_int_equal(do_run_cancel(&w, 1), PO_ESTATE);
    swap_by_snapshot(&w);
}

static void test_cancel(void **state)
{
    (void)state;
    DEFINE(&w, "p", diamond);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "a", "1");
    assert_int_equal(do_run_cancel(&w, 1), 0);
    expect_run(&w, 1, PO_RUN_CANCELLED);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    assert_int_equal(effects(&w, PO__FX_RUN_FINISHED), 1);
    assert_int_equal(do_run_cancel(&w, 1), 0);
    assert_int_equal(w.fx.count, 0);
    do_run(&w, "", "p", "", "");
    assert_int_equal(do_cancel(&w, task_of(&w, 2, "a")), 0); /* as with chains */
    expect_run(&w, 2, PO_RUN_CANCELLED);
    expect_has(run_of(&w, 2)->error, "step \"a\": task 4 was cancelled");
}

static void test_retries_timeouts_and_lost_workers(void **state)
{
    (void)state;
    static const struct gstep one[] = {
        {.name = "a", .work = "a:x", .attempts = 2, .timeout_ms = 1000},
        {.name = "b", .work = "b:y", .needs = "a"}};
    DEFINE(&w, "p", one);
    do_run(&w, "", "p", "", "");
    const struct po__task *t = po__model_task(w.m, 1);
    assert_int_equal(do_fail(&w, 1, t->token, "w1", "again", true), 0);
    expect_step(&w, 1, "a", PO__STEP_RUNNING);
    w.now_ms = po__model_next_due_ms(w.m);
    do_tick(&w);
    do_deregister(&w, "w1", 0);
    expect_step(&w, 1, "a", PO__STEP_RUNNING);
    do_register(&w, "w2", 1, "gcp", "a:x b:y", 1);
    swap_by_snapshot(&w);
    t = po__model_task(w.m, 1);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    assert_int_equal(do_complete(&w, 1, t->token, "w2", "1"), 0);
    assert_int_equal(step_of(&w, 1, "a")->attempts, 3);
    expect_text(step_of(&w, 1, "a")->origin->id, "w2");
    assert_string_equal(po__model_task(w.m, 2)->zone.data,
                        "gcp"); /* where the step before it ran */
    do_run(&w, "", "p", "", "");
    for (int i = 0; i < 8 && po__model_run_state(w.m, 2) == PO_RUN_RUNNING; i++) {
        w.now_ms = po__model_next_due_ms(w.m);
        do_tick(&w);
    }
    expect_run(&w, 2, PO_RUN_FAILED);
    expect_has(run_of(&w, 2)->error, "step \"a\": timed out after 1000 ms");
}

static void test_what_a_step_asks_for(void **state)
{
    (void)state;
    struct po__placement place = {.range = po__str("^2"), .gpu = PO__GPU_ANY};
    struct po__buf bytes = {0};
    po__placement_encode(&bytes, &place);
    const struct po__extra extra = {.placement = po__buf_slice(&bytes), .priority = 7};
    const struct gstep steps[] = {{.name = "a", .work = "a:x", .extra = &extra},
                                  {.name = "b", .work = "b:y"}};
    DEFINE(&w, "p", steps);
    assert_int_equal(do_start(&w, "", "p", "", "", 4), 0);
    assert_int_equal(po__model_task(w.m, 1)->state, PO_TASK_PENDING); /* w1 has version 1.0.0 */
    assert_int_equal(po__model_task(w.m, 1)->more->extra.priority, 7);
    assert_int_equal(po__model_task(w.m, 2)->more->extra.priority, 4); /* the run's */
    swap_by_snapshot(&w);
    assert_int_equal(po__model_task(w.m, 1)->more->extra.priority, 7);
    po__buf_fini(&bytes);
}

static void test_inputs_are_bounded(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES + 1];
    static const struct gstep steps[] = {{.name = "a", .work = "a:x"},
                                         {.name = "b", .work = "b:y", .needs = "a"}};
    static const struct gstep told[] = {
        {.name = "a", .work = "a:x"},
        {.name = "b", .work = "b:y", .needs = "a", .input = "[\"${steps.a.output}\"]"}};
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    DEFINE(&w, "p", steps);
    DEFINE(&w, "q", told);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "a", big);
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_has(run_of(&w, 1)->error, "step \"b\": input: ");
    expect_has(run_of(&w, 1)->error, "more than 1048576 bytes");
    do_run(&w, "", "q", "", "");
    complete_step(&w, 2, "a", big);
    expect_run(&w, 2, PO_RUN_FAILED);
    expect_has(run_of(&w, 2)->error, "step \"b\": input: ");
    expect_has(run_of(&w, 2)->error, "more than 1048576 bytes");
}

static void test_what_a_run_keeps_is_bounded(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES - 1000];
    static const struct gstep steps[] = {
        {.name = "a", .work = "a:x", .input = "1"}, {.name = "b", .work = "a:x", .input = "1"},
        {.name = "c", .work = "a:x", .input = "1"}, {.name = "d", .work = "a:x", .input = "1"},
        {.name = "e", .work = "a:x", .input = "1"}, {.name = "f", .work = "a:x", .input = "1"}};
    static const char *const names[] = {"a", "b", "c", "d"};
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    assert_int_equal(define_graph(&w, "p", steps, 6, NULL, 0, "1"), 0);
    do_run(&w, "", "p", "", "");
    for (int i = 0; i < 4; i++)
        complete_step(&w, 1, names[i], big);
    expect_run(&w, 1, PO_RUN_RUNNING);
    complete_step(&w, 1, "e", big);
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_has(run_of(&w, 1)->error,
               "step \"e\": the outputs that the run keeps are more than 4 MiB");
    expect_step(&w, 1, "f", PO__STEP_CANCELLED);
    swap_by_snapshot(&w);
    for (int i = 2; i < 40; i++) { /* finished runs are forgotten when they keep too much */
        do_run(&w, "", "p", "", "");
        for (int k = 0; k < 4; k++)
            complete_step(&w, (uint64_t)i, names[k], big);
        complete_step(&w, (uint64_t)i, "e", "1");
        complete_step(&w, (uint64_t)i, "f", "1");
        expect_run(&w, (uint64_t)i, PO_RUN_SUCCEEDED);
    }
    assert_null(po__run_find(w.m, 1));
    assert_non_null(po__run_find(w.m, 39));
}

/* ---- definitions ---- */

static void test_definitions(void **state)
{
    (void)state;
    static const char *const caps[] = {"a:x"};
    DEFINE(&w, "p", diamond);
    uint64_t first = w.result.id;
    DEFINE(&w, "p", diamond);
    assert_int_equal(w.result.id, first);
    do_run(&w, "", "p", "", "");
    static const struct gstep one[] = {{.name = "a", .work = "a:x"}};
    assert_int_equal(define_graph(&w, "p", one, 1, NULL, 0, "1"), 0);
    assert_true(w.result.id > first);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 2, "a", "1");
    expect_text(result_of(&w, 2), "1");
    assert_int_equal(do_define(&w, "p", caps, 1, ""), 0); /* and a chain again */
    do_run(&w, "", "p", "[1]", "");
    assert_null(run_of(&w, 3)->more);
    complete_step(&w, 1, "a", "1"); /* keeps what it began with */
    complete_step(&w, 1, "b", "1");
    complete_step(&w, 1, "c", "1");
    complete_step(&w, 1, "d", "1");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    swap_by_snapshot(&w);
    assert_int_equal(do_start(&w, "", "p", "[1]", "", 5), 0); /* of a chain, with more */
    assert_int_equal(run_of(&w, 4)->more->priority, 5);
    uint64_t task = run_of(&w, 4)->steps[0].task_id;
    assert_int_equal(po__model_task(w.m, task)->more->extra.priority, 5);
    swap_by_snapshot(&w);
    finish_task(&w, task, "1", NULL);
    expect_run(&w, 4, PO_RUN_SUCCEEDED);
}

/* ---- sub-pipelines ---- */

static const struct gparam child_params[] = {{"n", PO__PARAM_INTEGER, true, NULL}};
static const struct gstep child[] = {{.name = "work", .work = "b:y", .input = "\"${params.n}\""}};
static const struct gstep parent[] = {
    {.name = "a", .work = "a:x"},
    {.name = "sub", .work = "child", .needs = "a", .input = "{\"n\":\"${steps.a.output}\"}"},
    {.name = "last", .work = "c:z", .needs = "sub"},
};

static void define_family(void)
{
    assert_int_equal(define_graph(&w, "child", child, 1, child_params, 1, NULL), 0);
    DEFINE(&w, "parent", parent);
}

static void test_a_sub_pipeline(void **state)
{
    (void)state;
    define_family();
    do_run(&w, "", "parent", "", "");
    complete_step(&w, 1, "a", "5");
    expect_run(&w, 2, PO_RUN_RUNNING); /* the child, and its first step, in the same command */
    assert_int_equal(run_of(&w, 2)->more->parent, 1);
    assert_int_equal(step_of(&w, 1, "sub")->id, 2);
    expect_text(input_of(&w, 2, "work"), "5");
    swap_by_snapshot(&w);
    complete_step(&w, 2, "work", "\"r\"");
    expect_run(&w, 2, PO_RUN_SUCCEEDED); /* and the parent goes on, likewise */
    expect_text(step_of(&w, 1, "sub")->output, "\"r\"");
    expect_has(input_of(&w, 1, "last"), "\"input\":\"r\"}");
    complete_step(&w, 1, "last", "1");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
}

static void test_a_child_that_fails(void **state)
{
    (void)state;
    define_family();
    do_run(&w, "", "parent", "", "");
    complete_step(&w, 1, "a", "5");
    fail_step(&w, 2, "work", "boom");
    expect_run(&w, 1, PO_RUN_FAILED);
    expect_text(run_of(&w, 1)->error,
                "step \"sub\": run 2 of pipeline \"child\" failed: step \"work\": boom");
    do_run(&w, "", "parent", "", "");
    complete_step(&w, 3, "a", "\"five\""); /* not what the child declares */
    expect_run(&w, 3, PO_RUN_FAILED);
    expect_text(run_of(&w, 3)->error, "step \"sub\": param \"n\" is a string, expected integer");
    do_run(&w, "", "parent", "", "");
    complete_step(&w, 4, "a", "1");
    assert_int_equal(do_run_cancel(&w, 5), 0);
    expect_run(&w, 5, PO_RUN_CANCELLED);
    expect_run(&w, 4, PO_RUN_CANCELLED);
    expect_has(run_of(&w, 4)->error, "run 5 of pipeline \"child\" was cancelled");
    static const struct gstep lost[] = {{.name = "a", .work = "nobody"}};
    DEFINE(&w, "lost", lost);
    assert_int_equal(do_run(&w, "", "lost", "", ""), 0);
    expect_has(run_of(&w, 6)->error, "step \"a\": no pipeline \"nobody\" is defined");
}

static void test_cancelling_a_parent_cancels_its_children(void **state)
{
    (void)state;
    static const char *const caps[] = {"b:y", "c:z"};
    static const struct gstep two[] = {{.name = "chain", .work = "chain", .input = "[\"in\"]"},
                                       {.name = "graph", .work = "child", .input = "{\"n\":1}"}};
    define_family();
    do_define(&w, "chain", caps, 2, "");
    DEFINE(&w, "two", two);
    do_run(&w, "", "two", "", "");
    expect_has(po__model_task(w.m, 1)->input, "\"params\":[\"in\"]");
    assert_int_equal(do_run_cancel(&w, 1), 0);
    for (uint64_t id = 1; id <= 3; id++)
        expect_run(&w, id, PO_RUN_CANCELLED);
    assert_int_equal(effects(&w, PO__FX_RUN_FINISHED), 3);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    do_run(&w, "", "two", "", ""); /* 4, with 5 and 6 */
    finish_task(&w, 3, "7", NULL);
    uint64_t last = run_of(&w, 5)->steps[1].task_id;
    swap_by_snapshot(&w);
    finish_task(&w, last, "{\"of\":\"chain\"}", NULL);
    expect_text(step_of(&w, 4, "chain")->output, "{\"of\":\"chain\"}");
    complete_step(&w, 6, "work", "8");
    expect_text(result_of(&w, 4), "{\"chain\":{\"of\":\"chain\"},\"graph\":8}");
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    static const struct gstep again[] = {{.name = "a", .work = "again"}};
    DEFINE(&w, "again", again);
    assert_int_equal(do_run(&w, "", "again", "", ""), 0);
    for (uint64_t id = 1; id <= PO__RUN_DEPTH_MAX + 1; id++)
        expect_run(&w, id, PO_RUN_FAILED);
    assert_null(po__run_find(w.m, PO__RUN_DEPTH_MAX + 2));
    expect_has(run_of(&w, 1)->error, "nested more than 8 deep");
}

/* Thousands of finished children leave the history of runs that people started alone. */
static void test_children_have_a_history_of_their_own(void **state)
{
    (void)state;
    static const struct gstep many[] = {{.name = "m",
                                         .work = "leaf",
                                         .map = "\"${params.list}\"",
                                         .input = "{}",
                                         .parallel = 1024}};
    static const struct gstep leaf[] = {{.name = "x", .work = "a:x", .when = "false"}};
    static const struct gparam list[] = {{"list", PO__PARAM_ARRAY, true, NULL}};
    static char params[2 * 3000 + 64];
    DEFINE(&w, "leaf", leaf);
    assert_int_equal(define_graph(&w, "many", many, 1, list, 1, NULL), 0);
    do_run(&w, "", "leaf", "", "");
    char *at = params + sprintf(params, "{\"list\":[0");
    for (int i = 1; i < 3000; i++)
        at += sprintf(at, ",0");
    sprintf(at, "]}");
    w.unchecked = true;
    do_run(&w, "", "many", params, "");
    for (int i = 0; i < 100 && po__model_next_due_ms(w.m) <= w.now_ms; i++)
        do_tick(&w);
    world_check(&w);
    expect_run(&w, 2, PO_RUN_SUCCEEDED);
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    assert_null(po__run_find(w.m, 3));
    swap_by_snapshot(&w);
}

/* ---- much work ---- */

/* 1,000 skipped steps, one behind the other: no recursion, one command. */
static void test_a_long_chain_of_skips(void **state)
{
    (void)state;
    static struct gstep steps[1000];
    static char names[1000][8];
    for (int i = 0; i < 1000; i++) {
        sprintf(names[i], "s%d", i);
        steps[i] =
            (struct gstep){.name = names[i], .work = "a:x", .needs = i ? names[i - 1] : NULL};
    }
    steps[0].when = "false";
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_step(&w, 1, "s999", PO__STEP_SKIPPED);
    steps[0].when = NULL;
    w.unchecked = true;
    DEFINE(&w, "p", steps);
    do_run(&w, "", "p", "", "");
    for (uint64_t t = 1; t <= 1000; t++)
        finish_task(&w, t, "[1]", NULL);
    world_check(&w);
    expect_run(&w, 2, PO_RUN_SUCCEEDED);
}

/* What does not fit into one command goes on with the next ones, and across a snapshot. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    static struct gstep steps[PO_STEPS_MAX];
    static char names[PO_STEPS_MAX][8];
    for (int i = 0; i < PO_STEPS_MAX; i++) {
        sprintf(names[i], "s%d", i);
        steps[i] = (struct gstep){.name = names[i], .work = "a:x", .input = "1"};
    }
    steps[0] = (struct gstep){.name = names[0], .work = "pair"};
    static const struct gstep pair[] = {{.name = "l", .work = "a:x", .input = "1"},
                                        {.name = "r", .work = "a:x", .input = "1"}};
    DEFINE(&w, "pair", pair);
    DEFINE(&w, "p", steps);
    w.unchecked = true;
    do_run(&w, "", "p", "", "");
    world_check(&w);
    assert_int_equal(po__model_next_due_ms(w.m), w.now_ms); /* the child has not begun */
    expect_step(&w, 2, "l", PO__STEP_WAITING);
    swap_by_snapshot(&w);
    assert_int_equal(po__model_next_due_ms(w.m), w.now_ms);
    do_tick(&w);
    expect_step(&w, 2, "r", PO__STEP_RUNNING);
    assert_true(po__model_next_due_ms(w.m) > w.now_ms);
    assert_int_equal(do_run_cancel(&w, 1), 0); /* more than a command cancels */
    expect_run(&w, 1, PO_RUN_RUNNING);
    assert_int_equal(po__model_next_due_ms(w.m), w.now_ms);
    swap_by_snapshot(&w);
    do_tick(&w);
    world_check(&w);
    expect_run(&w, 1, PO_RUN_CANCELLED);
    expect_run(&w, 2, PO_RUN_CANCELLED);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);
    for (uint64_t t = 1; po__model_task(w.m, t); t++)
        assert_int_equal(po__model_task(w.m, t)->state, PO_TASK_CANCELLED);
}

/* Of the command that was refused, and not of the run that fails behind it. */
static void test_a_refusal_keeps_its_sentence(void **state)
{
    (void)state;
    static const struct gstep bad[] = {{.name = "a", .work = "nobody"}};
    DEFINE(&w, "bad", bad);
    assert_int_equal(do_run(&w, "", "bad", "", ""), 0);
    assert_string_equal(w.result.message, "");
    expect_run(&w, 1, PO_RUN_FAILED);
}

/* ---- the check ---- */

static void expect_broken(const char *part)
{
    char message[512];
    if (!po__model_check(w.m, message, sizeof message) || !strstr(message, part))
        fail_msg("\"%s\" instead of \"%s\"", message, part);
}

#define FALSIFY(field, value, part)                                                                \
    do {                                                                                           \
        __typeof__(field) before = (field);                                                        \
        (field) = (value);                                                                         \
        expect_broken(part);                                                                       \
        (field) = before;                                                                          \
    } while (0)

/* Every number that is counted rather than recorded is looked at. */
static void test_the_check_sees_falsified_numbers(void **state)
{
    (void)state;
    static const struct gstep mapped[] = {
        {.name = "a", .work = "a:x"},
        {.name = "m", .work = "b:y", .map = "[1,2,3]", .input = "\"${item}\"", .parallel = 2},
        {.name = "sub", .work = "child", .input = "{\"n\":1}"},
        {.name = "z", .work = "a:x", .needs = "a m"}};
    define_family();
    DEFINE(&w, "p", mapped);
    do_run(&w, "", "p", "", "");
    complete_step(&w, 1, "a", "1");
    struct po__run_more *g = run_of(&w, 1)->more;
    struct po__map_run *map = g->steps[1].map;
    FALSIFY(g->left, 7, "steps left");
    FALSIFY(g->bytes, g->bytes + 1, "keeps");
    FALSIFY(g->ready[0], 8, "marked as ready");
    FALSIFY(g->steps[3].needs_left, 2, "step 3 waits for");
    FALSIFY(g->steps[3].needs_bad, 1, "step 3 waits for");
    FALSIFY(g->steps[3].state, PO__STEP_RUNNING, "nothing is under way for step 3");
    FALSIFY(g->steps[0].finished_ms, 0, "state or times of step 0");
    FALSIFY(g->steps[2].id, 1, "nothing is under way for step 2");
    FALSIFY(map->running, 1, "miscounts");
    FALSIFY(map->succeeded, 1, "miscounts");
    FALSIFY(map->items[0].id, 1, "nothing is under way for step 1");
    FALSIFY(map->started, 4, "has 4 of 3 elements");
    FALSIFY(run_of(&w, 2)->more->parent, 2, "which is not its own");
    FALSIFY(w.m->runs_bytes, 0, "counters of what runs keep");
    FALSIFY(w.m->cache.bytes, 1, "kept results");
    struct po__job *j = po__job_find(run_of(&w, 1), true, 2);
    FALSIFY(j->step, 0, "nothing is under way for step 2");
    world_check(&w);
}

/* ---- no memory ---- */

static int one_life(uint64_t fail_at)
{
    struct world x;
    int rv = 0;
    world_open(&x, NULL);
    x.unchecked = true;
    do_register(&x, "w1", 1, "aws", "a:x b:y c:z", 64);
    struct po__buf params = {0};
    static struct po__cmd cmds[5];
    static struct po__buf steps[2];
    graph_cmd(&cmds[0], &steps[0], &params, "child", child, 1, child_params, 1, NULL);
    graph_cmd(&cmds[1], &steps[1], &x.steps, "parent", parent, 3, NULL, 0,
              "[\"${steps.sub.output}\",\"${run.key}\"]");
    cmds[2] = (struct po__cmd){.type = PO__CMD_RUN_START,
                               .run_start = {.key = po__str("k"), .pipeline = po__str("parent")}};
    po__alloc_fail_at(fail_at);
    for (int i = 0; i < 3 && !rv; i++)
        rv = po__model_apply(x.m, ++x.index, x.now_ms, &cmds[i], &x.result, NULL);
    for (uint64_t id = 1; id <= 3 && !rv; id++) {
        cmds[3] = (struct po__cmd){
            .type = PO__CMD_TASK_COMPLETE,
            .complete = {id, po__model_task(x.m, id)->token, po__str("w1"), po__str("5")}};
        rv = po__model_apply(x.m, ++x.index, x.now_ms, &cmds[3], &x.result, NULL);
    }
    po__alloc_fail_at(0);
    if (!rv)
        expect_run(&x, 1, PO_RUN_SUCCEEDED);
    po__buf_fini(&params);
    po__buf_fini(&steps[0]);
    po__buf_fini(&steps[1]);
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
    assert_true(n > 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_diamond),
        TEST(test_outputs_of_several_ends),
        TEST(test_templates),
        TEST(test_params),
        TEST(test_many_wrong_params),
        TEST(test_joins),
        TEST(test_a_failure_ends_the_run),
        TEST(test_cancel),
        TEST(test_retries_timeouts_and_lost_workers),
        TEST(test_what_a_step_asks_for),
        TEST(test_inputs_are_bounded),
        TEST(test_what_a_run_keeps_is_bounded),
        TEST(test_definitions),
        TEST(test_a_sub_pipeline),
        TEST(test_a_child_that_fails),
        TEST(test_cancelling_a_parent_cancels_its_children),
        TEST(test_depth_is_bounded),
        TEST(test_children_have_a_history_of_their_own),
        TEST(test_a_long_chain_of_skips),
        TEST(test_work_is_bounded),
        TEST(test_a_refusal_keeps_its_sentence),
        TEST(test_the_check_sees_falsified_numbers),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
