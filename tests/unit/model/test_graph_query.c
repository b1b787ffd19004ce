/* What is answered about graphs and their runs, and what watchers are told of them. */
#include "graph_fixture.h"

#include "answer.h"

static const struct gparam params[] = {{"n", PO__PARAM_INTEGER, true, NULL}};
static const struct gstep leaf[] = {{.name = "x", .work = "b:y", .input = "1"}};

static void define_all(void)
{
    static const struct po__extra extra = {.priority = 3, .retry_ms = 700, .retry_max_ms = 800};
    static const struct gstep steps[] = {
        {.name = "a", .work = "a:x", .config = "{\"c\":1}", .extra = &extra},
        {.name = "m",
         .work = "a:x",
         .needs = "a",
         .map = "[1,2]",
         .input = "\"${item}\"",
         .on_failure = PO__ON_FAILURE_CONTINUE,
         .cache = true,
         .cache_ms = 50},
        {.name = "sub", .work = "leaf", .needs = "a", .when = "params.n > 0"},
        {.name = "end", .work = "a:x", .needs = "m sub", .join = PO__JOIN_ALL_DONE}};
    do_register(&w, "w1", 1, "aws", "a:x b:y", 9);
    DEFINE(&w, "leaf", leaf);
    assert_int_equal(define_graph(&w, "p", steps, 4, params, 1, "[\"${steps.m.output}\"]"), 0);
}

static void test_pipelines(void **state)
{
    (void)state;
    define_all();
    assert_int_equal(ask(PO_QUERY_PIPELINES, 0, "", "", 0), 0);
    expect(
        "{next=nil pipelines=[{defined_ms=1000000 label=nil name=leaf start_node=nil steps_count=1 "
        "version=1},{defined_ms=1000000 label=nil name=p start_node=nil steps_count=4 "
        "version=2}]}");
    assert_int_equal(ask(PO_QUERY_PIPELINE, 0, "p", "", 0), 0);
    expect_part("{defined_ms=1000000 label=nil name=p output=[\"${steps.m.output}\"] "
                "params=[{default=nil name=n required=true type=integer}] start_node=nil steps=[");
    expect_part(
        "{attempts_max=3 cache=false cache_ms=nil capability=a:x concurrency_key=nil "
        "config={\"c\":1} depends_on=[] input=nil join=all_succeeded map=nil map_parallel=nil "
        "name=a on_failure=fail pipeline=nil placement=nil priority=3 retry_max_ms=800 "
        "retry_ms=700 timeout_ms=600000 when=nil}");
    expect_part("{attempts_max=3 cache=true cache_ms=50 capability=a:x concurrency_key=nil "
                "config=nil depends_on=[a] input=\"${item}\" join=all_succeeded map=[1,2] "
                "map_parallel=256 name=m on_failure=continue ");
    expect_part(
        "capability=nil concurrency_key=nil config=nil depends_on=[a] input=nil "
        "join=all_succeeded map=nil map_parallel=nil name=sub on_failure=fail pipeline=leaf ");
    expect_part("depends_on=[m,sub] input=nil join=all_done ");
}

static void test_runs(void **state)
{
    (void)state;
    define_all();
    do_start(&w, "key", "p", "{\"n\":1}", "aws", 4);
    w.now_ms += 5;
    complete_step(&w, 1, "a", "\"A\"");
    finish_task(&w, step_of(&w, 1, "m")->map->items[0].id, "10", NULL);
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    expect_part(
        "{error=nil finished_ms=nil id=1 key=key label=nil params={\"n\":1} parent_run_id=nil "
        "pipeline=p priority=4 result=nil resumed_from=nil scheduled_ms=nil "
        "started_ms=1000000 state=running steps=[{attempts=1 cached=false capability=a:x "
        "child_run_id=nil depends_on=[] error=nil finished_ms=1000005 items=nil "
        "join=all_succeeded map=nil name=a output=\"A\" output_bytes=3 pipeline=nil "
        "reused=false started_ms=1000000 state=succeeded task_id=1 when=nil worker_id=w1 "
        "zone=aws},");
    expect_part(
        "items={failed=0 running=1 succeeded=1 total=2} join=all_succeeded map=[1,2] name=m ");
    expect_part("child_run_id=2 depends_on=[a] error=nil finished_ms=nil items=nil "
                "join=all_succeeded map=nil name=sub output=nil output_bytes=0 pipeline=leaf ");
    expect_part("name=end output=nil output_bytes=0 pipeline=nil reused=false started_ms=nil "
                "state=waiting task_id=nil when=nil worker_id=nil zone=nil}] version=2 zone=aws}");
    assert_int_equal(ask(PO_QUERY_RUN, 1, "m", "", 0), 0);
    expect_part("params=nil ");
    expect_part("steps=[{attempts=1 ");
    assert_int_equal(ask(PO_QUERY_RUN, 1, "q", "", 0), PO_ENOTFOUND);
    assert_int_equal(ask(PO_QUERY_RUN, 2, "", "", 0), 0);
    expect_part("id=2 key=nil label=nil params={} parent_run_id=1 pipeline=leaf ");
    do_run_cancel(&w, 1);
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    expect_part("state=cancelled task_id=nil when=nil worker_id=nil zone=nil}] version=2");
    do_resume(&w, "", 1, "");
    assert_int_equal(ask(PO_QUERY_RUN, 3, "", "", 0), 0);
    expect_part("resumed_from=1 ");
    expect_part("name=a output=\"A\" output_bytes=3 pipeline=nil reused=true ");
}

static void test_lists_of_runs(void **state)
{
    (void)state;
    static const char *const caps[] = {"a:x"};
    define_all();
    do_define(&w, "chain", caps, 1, "");
    do_run(&w, "", "p", "{\"n\":0}", "");
    do_run(&w, "", "chain", "", "");
    do_run(&w, "", "leaf", "", "");
    do_run_cancel(&w, 1);
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "", "", 0), 0);
    expect("{next=nil runs=[{error=nil finished_ms=1000000 id=1 key=nil label=nil "
           "parent_run_id=nil pipeline=p "
           "priority=0 resumed_from=nil scheduled_ms=nil started_ms=1000000 state=cancelled "
           "version=2 zone=nil},{error=nil finished_ms=nil id=2 pipeline=chain started_ms=1000000 "
           "state=running zone=nil},{error=nil finished_ms=nil id=3 key=nil label=nil "
           "parent_run_id=nil "
           "pipeline=leaf priority=0 resumed_from=nil scheduled_ms=nil started_ms=1000000 "
           "state=running version=1 zone=nil}]}");
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "chain", "", 0), 0);
    expect_part("{next=nil runs=[{error=nil finished_ms=nil id=2 ");
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "", "cancelled", 0), 0);
    expect_part("runs=[{error=nil finished_ms=1000000 id=1 ");
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "chain", "cancelled", 0), 0);
    expect("{next=nil runs=[]}");
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "", "canceled", 0), PO_EINVAL);
}

/* Outputs that are too much together are named by their size, and given one by one. */
static void test_big_outputs(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES - 1000];
    static const struct gstep four[] = {{.name = "s1", .work = "a:x", .input = "1"},
                                        {.name = "s2", .work = "a:x", .input = "1"},
                                        {.name = "s3", .work = "a:x", .input = "1"},
                                        {.name = "s4", .work = "a:x", .input = "1"}};
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    do_register(&w, "w1", 1, "aws", "a:x", 9);
    assert_int_equal(define_graph(&w, "p", four, 4, NULL, 0, "1"), 0);
    do_run(&w, "", "p", "", "");
    for (uint64_t t = 1; t <= 4; t++)
        finish_task(&w, t, big, NULL);
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    assert_true(out.len < 10000);
    expect_part("output=nil output_bytes=1047575 ");
    assert_int_equal(ask(PO_QUERY_RUN, 1, "s3", "", 0), 0);
    assert_true(out.len > sizeof big - 1);
}

/* ---- watchers ---- */

static char told[2048];

static void on_event(void *arg, const struct po__news *e)
{
    (void)arg;
    static const char *const kinds[] = {[PO_WATCH_RUN_STARTED] = "run",
                                        [PO_WATCH_STEP_STARTED] = "step",
                                        [PO_WATCH_STEP_FINISHED] = "stepped",
                                        [PO_WATCH_RUN_FINISHED] = "ran"};
    if (e->kind < PO_WATCH_RUN_STARTED || e->kind > PO_WATCH_RUN_FINISHED)
        return;
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s r%llu %.*s #%llu =%u; ",
             kinds[e->kind], (unsigned long long)e->run_id, (int)e->step.len,
             e->step.len ? e->step.data : "", (unsigned long long)e->id, e->state);
}

#define TOLD(text) (assert_string_equal(told, text), told[0] = '\0')

static void test_what_watchers_are_told(void **state)
{
    (void)state;
    define_all();
    told[0] = '\0';
    w.fx.event = on_event;
    do_run(&w, "", "p", "{\"n\":0}", "");
    TOLD("run r1  #0 =1; step r1 a #1 =3; ");
    complete_step(&w, 1, "a", "1");
    TOLD("stepped r1 a #1 =4; step r1 m #0 =3; stepped r1 sub #0 =7; ");
    finish_task(&w, 2, "1", NULL);
    TOLD("");
    finish_task(&w, 3, NULL, "no");
    TOLD("stepped r1 m #0 =5; step r1 end #4 =3; ");
    do_run_cancel(&w, 1);
    TOLD("stepped r1 end #4 =6; ran r1  #0 =4; ");
    do_run(&w, "", "p", "{\"n\":1}", "");
    told[0] = '\0';
    complete_step(&w, 2, "a", "1");
    TOLD(
        "stepped r2 a #5 =4; step r2 m #0 =3; run r3  #0 =1; step r2 sub #0 =3; step r3 x #7 =3; ");
}

static void test_ticks_of_schedules(void **state)
{
    (void)state;
    static const struct gstep tick[] = {
        {.name = "a", .work = "a:x", .input = "\"${run.scheduled_ms}\""}};
    do_register(&w, "w1", 1, "aws", "a:x", 9);
    assert_int_equal(define_graph(&w, "p", tick, 1, params, 1, NULL), 0);
    assert_int_equal(do_schedule(&w, "s", "* * * * *", PO_OVERLAP_ALLOW, 60000, false), 0);
    uint64_t generation = w.result.id;
    w.now_ms = 1080000;
    assert_int_equal(do_fire(&w, "s", generation, 1080000, 0), 0);
    expect_text(input_of(&w, 1, "a"), "1080000");
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    expect_part("scheduled_ms=1080000 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pipelines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_of_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_outputs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_watchers_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ticks_of_schedules, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
