/* Pipelines and runs: one step after the other, each transition one command. */
#include "fixture.h"

#include "codec/json.h"

static struct world w;
static const char *const three[] = {"a:x", "b:y", "a:x"};

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static const struct po__task *task(uint64_t id)
{
    const struct po__task *t = po__model_task(w.m, id);
    assert_non_null(t);
    return t;
}

static void complete(uint64_t id, const char *result)
{
    const struct po__task *t = task(id);
    char worker[16];
    assert_int_equal(t->state, PO_TASK_RUNNING);
    snprintf(worker, sizeof worker, "%s", t->worker->id);
    assert_int_equal(do_complete(&w, id, t->token, worker, result), 0);
}

static void test_a_run_from_step_to_step(void **state)
{
    (void)state;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    do_register(&w, "w2", 1, "gcp", "a:x b:y", 4);
    assert_int_equal(do_define(&w, "energy", three, 3, "{\"c\":true}"), 0);
    assert_int_equal(do_run(&w, "key", "energy", "{\"year\":2018}", "gcp"), 0);
    uint64_t run = w.result.id;
    assert_int_equal(run, 1);
    assert_int_equal(po__model_run_state(w.m, run), PO_RUN_RUNNING);
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 1);
    const struct po__task *t = task(1);
    assert_string_equal(t->worker->id, "w2"); /* the run's zone */
    assert_int_equal(t->run_id, run);
    assert_true(po__slice_eq(
        t->input,
        po__str("{\"pipeline\":\"energy\",\"run_id\":1,\"step\":\"s1\",\"params\":{\"year\":2018},"
                "\"config\":{\"c\":true},\"input\":null}")));

    complete(1, "[1]"); /* and the next step starts in the same command */
    assert_int_equal(effects(&w, PO__FX_TASK_FINISHED), 1);
    assert_int_equal(effects(&w, PO__FX_RUN_FINISHED), 0);
    assert_int_equal(effect(&w, PO__FX_ASSIGNED)->id, 2);
    t = task(2);
    assert_string_equal(t->worker->zone, "gcp"); /* where the step before it ran */
    assert_true(po__slice_eq(t->capability, po__str("b:y")));
    assert_true(po__json_ok(t->input));
    assert_non_null(strstr(t->input.data, "\"step\":\"s2\""));
    assert_non_null(strstr(t->input.data, "\"input\":[1]}"));

    complete(2, "{\"rows\":2}");
    complete(3, "\"done\"");
    assert_int_equal(effect(&w, PO__FX_RUN_FINISHED)->id, run);
    assert_int_equal(po__model_run_state(w.m, run), PO_RUN_SUCCEEDED);
    assert_null(po__model_task(w.m, 4));
    assert_int_equal(do_run_cancel(&w, run), PO_ESTATE);
}

static void test_repeated_start(void **state)
{
    (void)state;
    assert_int_equal(do_run(&w, "k", "nope", "1", ""), PO_ENOTFOUND);
    do_define(&w, "p", three, 1, "");
    do_define(&w, "q", three, 1, "");
    assert_int_equal(do_run(&w, "k", "p", "1", ""), 0);
    assert_int_equal(do_run(&w, "k", "p", "1", ""), 0);
    assert_int_equal(w.result.id, 1);
    assert_null(po__model_task(w.m, 2));
    assert_int_equal(do_run(&w, "k", "p", "2", ""), PO_EEXISTS);
    assert_int_equal(do_run(&w, "k", "q", "1", ""), PO_EEXISTS);
    assert_int_equal(do_run(&w, "", "p", "", ""), 0);
    assert_int_equal(w.result.id, 2);
    assert_non_null(strstr(task(2)->input.data, "\"params\":null,\"config\":null"));
}

static void test_a_run_keeps_its_definition(void **state)
{
    (void)state;
    struct po__model_counts c;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    assert_int_equal(do_define(&w, "p", three, 2, ""), 0);
    uint64_t first = w.result.id;
    assert_int_equal(do_define(&w, "p", three, 2, ""), 0); /* the same again is the same */
    assert_int_equal(w.result.id, first);
    do_run(&w, "", "p", "1", "");
    assert_int_equal(do_define(&w, "p", three, 1, ""), 0);
    assert_true(w.result.id > first);
    po__model_counts(w.m, &c);
    assert_int_equal(c.pipelines, 1);
    do_run(&w, "", "p", "1", "");
    complete(2, "1");
    assert_int_equal(po__model_run_state(w.m, 2), PO_RUN_SUCCEEDED); /* one step */
    complete(1, "1");
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_RUNNING); /* still two */
    complete(3, "1");
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_SUCCEEDED);
}

static void test_a_failing_step_fails_the_run(void **state)
{
    (void)state;
    struct po__buf out = {0};
    const char *message;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    do_define(&w, "p", three, 3, "");
    do_run(&w, "", "p", "1", "");
    complete(1, "1");
    assert_int_equal(do_fail(&w, 2, task(2)->token, "w1", "row 7, column 2: not a number", false),
                     0);
    assert_int_equal(effects(&w, PO__FX_RUN_FINISHED), 1);
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_FAILED);
    struct po__query q = {.what = PO_QUERY_RUN, .id = 1};
    assert_int_equal(po__model_query(w.m, &q, &out, &message), 0);
    static const char error[] = "step \"s2\": row 7, column 2: not a number";
    assert_non_null(memmem(out.data, out.len, error, sizeof error - 1));
    po__buf_fini(&out);
}

static void test_cancel(void **state)
{
    (void)state;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    do_define(&w, "p", three, 3, "");
    do_run(&w, "", "p", "1", "");
    do_run(&w, "", "p", "1", "");
    assert_int_equal(do_run_cancel(&w, 1), 0);
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_CANCELLED);
    assert_int_equal(task(1)->state, PO_TASK_CANCELLED);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 1);
    assert_int_equal(effects(&w, PO__FX_RUN_FINISHED), 1);
    assert_int_equal(do_run_cancel(&w, 1), 0); /* repeated */
    assert_int_equal(w.fx.count, 0);
    assert_int_equal(do_run_cancel(&w, 9), PO_ENOTFOUND);
    assert_int_equal(do_cancel(&w, 2), 0); /* cancelling the task of a step cancels its run */
    assert_int_equal(po__model_run_state(w.m, 2), PO_RUN_CANCELLED);
}

static void test_retry_within_a_step(void **state)
{
    (void)state;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    do_define(&w, "p", three, 1, "");
    do_run(&w, "", "p", "1", "");
    do_fail(&w, 1, task(1)->token, "w1", "again", true);
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_RUNNING);
    w.now_ms = po__model_next_due_ms(w.m);
    do_tick(&w);
    complete(1, "1");
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_SUCCEEDED);
    assert_int_equal(task(1)->attempt, 2);
}

static void test_result_too_big_for_the_next_step(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES + 1];
    struct po__buf out = {0};
    const char *message;
    memset(big, '1', sizeof big - 1);
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    do_define(&w, "p", three, 2, "");
    do_run(&w, "", "p", "1", "");
    assert_int_equal(do_complete(&w, 1, task(1)->token, "w1", big),
                     0); /* accepted: it is the run that cannot go on */
    assert_int_equal(task(1)->state, PO_TASK_SUCCEEDED);
    assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_FAILED);
    struct po__query q = {.what = PO_QUERY_RUN, .id = 1};
    assert_int_equal(po__model_query(w.m, &q, &out, &message), 0);
    static const char part[] = "the limit is 1048576";
    assert_non_null(memmem(out.data, out.len, part, sizeof part - 1));
    po__buf_fini(&out);
    assert_int_equal(do_run(&w, "", "p", big, ""), PO_ETOOBIG); /* params alone */
    assert_int_equal(po__model_run_state(w.m, 2), 0);
}

static void test_bounds(void **state)
{
    (void)state;
    char name[16];
    struct po__model_counts c;
    w.unchecked = true;
    do_register(&w, "w1", 1, "aws", "a:x b:y", 4);
    for (int i = 0; i < PO__PIPELINES_MAX; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_int_equal(do_define(&w, name, three, 1, ""), 0);
    }
    assert_int_equal(do_define(&w, "one-more", three, 1, ""), PO_EQUOTA);
    assert_int_equal(do_define(&w, "p0", three, 2, ""), 0);
    for (int i = 0; i < PO__RUNS_ACTIVE_MAX; i++)
        assert_int_equal(do_run(&w, "", "p1", "1", ""), 0);
    assert_int_equal(do_run(&w, "", "p1", "1", ""), PO_EQUOTA);
    for (uint64_t id = 1; id <= PO__RUNS_FINISHED_MAX + 50; id++)
        assert_int_equal(do_run_cancel(&w, id), 0);
    po__model_counts(w.m, &c);
    assert_int_equal(c.runs_finished, PO__RUNS_FINISHED_MAX);
    assert_int_equal(c.runs_running, PO__RUNS_ACTIVE_MAX - PO__RUNS_FINISHED_MAX - 50);
    assert_int_equal(po__model_run_state(w.m, 50), 0);
    assert_int_equal(po__model_run_state(w.m, 51), PO_RUN_CANCELLED);
    world_check(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_run_from_step_to_step),
        TEST(test_repeated_start),
        TEST(test_a_run_keeps_its_definition),
        TEST(test_a_failing_step_fails_the_run),
        TEST(test_cancel),
        TEST(test_retry_within_a_step),
        TEST(test_result_too_big_for_the_next_step),
        TEST(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
