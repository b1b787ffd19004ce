/* Tasks: assignment, every transition, and the races between workers, leases and time. */
#include "fixture.h"

static struct world w;

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

static void expect_message(const char *part)
{
    if (!strstr(w.result.message, part))
        fail_msg("\"%s\" does not say \"%s\"", w.result.message, part);
}

/* One task, granted to w1. */
static const struct po__task *granted(uint32_t attempts_max, uint32_t timeout_ms)
{
    assert_int_equal(do_register(&w, "w1", 5, "aws", "a:x", 4), 0);
    assert_int_equal(do_submit(&w, "", "a:x", "1", "", attempts_max, timeout_ms), 0);
    const struct po__task *t = task(w.result.id);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    return t;
}

static void test_submit_waits_for_a_worker(void **state)
{
    (void)state;
    assert_int_equal(do_submit(&w, "k", "a:x", "", "", 0, 0), 0);
    uint64_t id = w.result.id;
    assert_int_equal(id, 1);
    assert_int_equal(w.fx.count, 0);
    const struct po__task *t = task(id);
    assert_int_equal(t->state, PO_TASK_PENDING);
    assert_true(po__slice_eq(t->input, po__str("null")));
    assert_int_equal(t->attempts_max, PO__TASK_ATTEMPTS_DEFAULT);
    assert_int_equal(t->timeout_ms, PO__TASK_TIMEOUT_DEFAULT_MS);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);

    w.index = 99; /* the token of a grant is at least the index of its entry */
    assert_int_equal(do_register(&w, "w1", 5, "", "a:x b:y", 1), 0);
    const struct po__fx *fx = effect(&w, PO__FX_ASSIGNED);
    assert_int_equal(fx->id, id);
    assert_int_equal(fx->token, 100);
    assert_int_equal(fx->worker, 1);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    assert_int_equal(t->attempt, 1);
    assert_int_equal(t->token, 100);
    assert_string_equal(t->worker->id, "w1");
    assert_string_equal(t->worker->zone, "default");
    assert_true(t->deadline_ms == w.now_ms + PO__TASK_TIMEOUT_DEFAULT_MS);
    assert_true(po__model_next_due_ms(w.m) == t->deadline_ms);
}

static void test_idempotency_key(void **state)
{
    (void)state;
    assert_int_equal(do_submit(&w, "k", "a:x", "1", "", 0, 0), 0);
    assert_int_equal(do_submit(&w, "k", "a:x", "1", "", 0, 0), 0);
    assert_int_equal(w.result.id, 1);
    assert_int_equal(do_submit(&w, "k", "a:x", "2", "", 0, 0), PO_EEXISTS);
    assert_int_equal(w.result.id, 1);
    assert_int_equal(do_submit(&w, "k", "b:x", "1", "", 0, 0), PO_EEXISTS);
    assert_int_equal(do_submit(&w, "j", "a:x", "1", "", 0, 0), 0);
    assert_int_equal(w.result.id, 2);
    assert_int_equal(do_submit(&w, "", "a:x", "1", "", 0, 0), 0);
    assert_int_equal(do_submit(&w, "", "a:x", "1", "", 0, 0), 0);
    assert_int_equal(w.result.id, 4);
}

static void test_least_loaded_then_zone_then_longest_idle(void **state)
{
    (void)state;
    const struct po__worker *chosen[6];
    do_register(&w, "w1", 1, "aws", "a:x", 8);
    do_register(&w, "w2", 1, "gcp", "a:x", 8);
    do_register(&w, "w3", 1, "aws", "a:x", 8);
    static const char *const zones[6] = {"gcp", "", "aws", "gcp", "azure", ""};
    static const char *const expected[6] = {"w2", "w1", "w3", "w2", "w1", "w3"};
    for (unsigned i = 0; i < 6; i++) {
        do_submit(&w, "", "a:x", "1", zones[i], 0, 0);
        chosen[i] = task(w.result.id)->worker;
        assert_string_equal(chosen[i]->id, expected[i]);
    }
    /* all run two; w3 was assigned last, but it is less loaded after this */
    const struct po__task *t = task(6);
    do_complete(&w, 6, t->token, "w3", "1");
    do_submit(&w, "", "a:x", "1", "gcp", 0, 0); /* load comes before zone */
    assert_string_equal(task(w.result.id)->worker->id, "w3");
}

static void test_slots_and_order(void **state)
{
    (void)state;
    do_register(&w, "w1", 1, "aws", "a:x", 2);
    for (int i = 0; i < 5; i++)
        do_submit(&w, "", "a:x", "1", "", 0, 0);
    assert_int_equal(task(2)->state, PO_TASK_RUNNING);
    assert_int_equal(task(3)->state, PO_TASK_PENDING);
    do_complete(&w, 2, task(2)->token, "w1",
                "1"); /* frees one slot: the oldest pending task gets it in the same command */
    assert_int_equal(effect(&w, PO__FX_ASSIGNED)->id, 3);
    assert_int_equal(task(4)->state, PO_TASK_PENDING);
    assert_int_equal(po__model_worker(w.m, po__str("w1"))->running, 2);
}

static void test_complete_once(void **state)
{
    (void)state;
    const struct po__task *t = granted(0, 0);
    uint64_t token = t->token;
    assert_int_equal(do_complete(&w, t->id, token + 1, "w1", "1"), PO_ESTALE);
    assert_int_equal(do_complete(&w, t->id, token, "w2", "1"), PO_ESTALE);
    assert_int_equal(do_complete(&w, 77, token, "w1", "1"), PO_ESTALE);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    w.now_ms += 5;
    assert_int_equal(do_complete(&w, t->id, token, "w1", "[1]"), 0);
    assert_int_equal(effect(&w, PO__FX_TASK_FINISHED)->id, t->id);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 0);
    assert_int_equal(t->state, PO_TASK_SUCCEEDED);
    assert_true(po__slice_eq(t->result, po__str("[1]")));
    assert_true(t->deadline_ms == w.now_ms);
    assert_int_equal(do_complete(&w, t->id, token, "w1", "[2]"),
                     0); /* repeated: accepted once, the first result stands */
    assert_int_equal(w.fx.count, 0);
    assert_true(po__slice_eq(t->result, po__str("[1]")));
    assert_int_equal(do_fail(&w, t->id, token, "w1", "no", true), PO_ESTALE);
    assert_int_equal(do_extend(&w, t->id, token, "w1", 1000), PO_ESTALE);
    assert_int_equal(do_cancel(&w, t->id), PO_ESTATE);
}

static void test_failures_are_retried_with_growing_delay(void **state)
{
    (void)state;
    const struct po__task *t = granted(4, 0);
    uint64_t delay = PO__RETRY_DELAY_MIN_MS;
    for (uint32_t attempt = 1; attempt < 4; attempt++, delay *= 2) {
        uint64_t token = t->token;
        assert_int_equal(t->attempt, attempt);
        assert_int_equal(do_fail(&w, t->id, token, "w1", "try again", true), 0);
        assert_int_equal(t->state, PO_TASK_SCHEDULED);
        assert_true(t->deadline_ms == w.now_ms + delay);
        assert_true(po__slice_eq(t->error, po__str("try again")));
        assert_int_equal(do_fail(&w, t->id, token, "w1", "try again", true), 0); /* repeated */
        assert_int_equal(do_complete(&w, t->id, token, "w1", "1"), PO_ESTALE);
        w.now_ms = t->deadline_ms - 1;
        do_tick(&w);
        assert_int_equal(t->state, PO_TASK_SCHEDULED);
        w.now_ms++;
        do_tick(&w);
        assert_int_equal(t->state, PO_TASK_RUNNING); /* due, pending, assigned: one command */
        assert_true(t->token > token);
        assert_int_equal(do_fail(&w, t->id, token, "w1", "late", true), PO_ESTALE);
    }
    assert_int_equal(do_fail(&w, t->id, t->token, "w1", "enough", true), 0);
    assert_int_equal(t->state, PO_TASK_FAILED);
    assert_int_equal(t->attempt, 4);
    assert_true(po__slice_eq(t->error, po__str("enough")));
    assert_int_equal(effects(&w, PO__FX_TASK_FINISHED), 1);
}

static void test_retry_delay_is_bounded(void **state)
{
    (void)state;
    const struct po__task *t = granted(PO__ATTEMPTS_MAX, 0);
    for (int i = 0; i < 20; i++) {
        do_fail(&w, t->id, t->token, "w1", "", true);
        assert_true(t->deadline_ms - w.now_ms <= PO__RETRY_DELAY_MAX_MS);
        w.now_ms = t->deadline_ms;
        do_tick(&w);
    }
    do_fail(&w, t->id, t->token, "w1", "", true);
    assert_true(t->deadline_ms - w.now_ms == PO__RETRY_DELAY_MAX_MS);
}

static void test_success_after_failure_clears_the_error(void **state)
{
    (void)state;
    const struct po__task *t = granted(0, 0);
    do_fail(&w, t->id, t->token, "w1", "once", true);
    w.now_ms = t->deadline_ms;
    do_tick(&w);
    do_complete(&w, t->id, t->token, "w1", "");
    assert_int_equal(t->state, PO_TASK_SUCCEEDED);
    assert_int_equal(t->error.len, 0);
    assert_true(po__slice_eq(t->result, po__str("null")));
}

static void test_not_retryable_fails_at_once(void **state)
{
    (void)state;
    const struct po__task *t = granted(3, 0);
    uint64_t token = t->token;
    assert_int_equal(do_fail(&w, t->id, token, "w1", "bad input", false), 0);
    assert_int_equal(t->state, PO_TASK_FAILED);
    assert_int_equal(t->attempt, 1);
    assert_int_equal(do_fail(&w, t->id, token, "w1", "bad input", false), 0); /* repeated */
    assert_int_equal(w.fx.count, 0);
}

static void test_timeout_and_late_completion(void **state)
{
    (void)state;
    const struct po__task *t = granted(2, 1000);
    uint64_t first = t->token;
    w.now_ms = t->deadline_ms;
    do_tick(&w);
    assert_int_equal(t->state, PO_TASK_SCHEDULED);
    assert_true(po__slice_eq(t->error, po__str("timed out after 1000 ms")));
    assert_int_equal(effect(&w, PO__FX_REVOKED)->token, first);
    assert_int_equal(effect(&w, PO__FX_REVOKED)->worker, 1);
    assert_int_equal(do_complete(&w, t->id, first, "w1", "1"), PO_ESTALE); /* a zombie */
    expect_message("not its lease");
    assert_int_equal(do_fail(&w, t->id, first, "w1", "late", true), PO_ESTALE);
    w.now_ms = t->deadline_ms;
    do_tick(&w);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    assert_int_equal(do_complete(&w, t->id, first, "w1", "1"), PO_ESTALE);
    w.now_ms = t->deadline_ms;
    do_tick(&w);
    assert_int_equal(t->state, PO_TASK_FAILED);
}

static void test_extend(void **state)
{
    (void)state;
    const struct po__task *t = granted(1, 1000);
    w.now_ms += 900;
    assert_int_equal(do_extend(&w, t->id, t->token + 1, "w1", 5000), PO_ESTALE);
    assert_int_equal(do_extend(&w, t->id, t->token, "w1", 5000), 0);
    assert_true(t->deadline_ms == w.now_ms + 5000);
    assert_int_equal(do_extend(&w, t->id, t->token, "w1", 5000),
                     0); /* again: now + 5000, not more */
    assert_true(t->deadline_ms == w.now_ms + 5000);
    w.now_ms += 4999;
    do_tick(&w);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    w.now_ms += 1;
    do_tick(&w);
    assert_int_equal(t->state, PO_TASK_FAILED);
}

static void test_cancel(void **state)
{
    (void)state;
    const struct po__task *t = granted(0, 0);
    uint64_t token = t->token;
    assert_int_equal(do_cancel(&w, 99), PO_ENOTFOUND);
    assert_int_equal(do_cancel(&w, t->id), 0);
    assert_int_equal(t->state, PO_TASK_CANCELLED);
    assert_int_equal(effect(&w, PO__FX_REVOKED)->token, token);
    assert_int_equal(effects(&w, PO__FX_TASK_FINISHED), 1);
    assert_int_equal(po__model_worker(w.m, po__str("w1"))->running, 0);
    assert_int_equal(do_complete(&w, t->id, token, "w1", "1"), PO_ESTALE);
    assert_int_equal(do_fail(&w, t->id, token, "w1", "x", true), PO_ESTALE);
    assert_int_equal(do_cancel(&w, t->id), 0); /* repeated */
    assert_int_equal(w.fx.count, 0);

    do_submit(&w, "", "b:none", "1", "", 0, 0); /* pending */
    uint64_t pending = w.result.id;
    assert_int_equal(do_cancel(&w, pending), 0);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 0);
    do_submit(&w, "", "a:x", "1", "", 0, 0); /* scheduled */
    uint64_t scheduled = w.result.id;
    do_fail(&w, scheduled, task(scheduled)->token, "w1", "x", true);
    token = task(scheduled)->token;
    assert_int_equal(do_cancel(&w, scheduled), 0);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);
    assert_int_equal(do_fail(&w, scheduled, token, "w1", "x", true),
                     PO_ESTALE); /* the cancel has the last word */
}

/* A task whose workers keep dying: not its fault, but not for ever either. */
static void test_poison_task(void **state)
{
    (void)state;
    do_submit(&w, "", "a:x", "1", "", 2, 0);
    const struct po__task *t = task(1);
    unsigned deaths = 0;
    while (t->state != PO_TASK_FAILED) {
        char id[16];
        snprintf(id, sizeof id, "w%u", ++deaths);
        assert_true(deaths <= 2 + 16);
        do_register(&w, id, 1, "aws", "a:x", 1);
        assert_int_equal(t->state, PO_TASK_RUNNING);
        assert_int_equal(t->attempt, deaths);
        do_status(&w, id, 1, PO_WORKER_OFFLINE);
    }
    assert_int_equal(deaths, 2 + 16);
    assert_true(po__slice_eq(
        t->error,
        po__str("18 attempts ended with the loss of their worker (the last on \"w18\"); not "
                "tried again")));
}

static void test_lost_attempts_do_not_use_up_retries(void **state)
{
    (void)state;
    const struct po__task *t = granted(2, 0);
    for (int i = 0; i < 5; i++) {
        do_status(&w, "w1", 0, PO_WORKER_OFFLINE);
        assert_int_equal(t->state, PO_TASK_PENDING);
        do_status(&w, "w1", 0, PO_WORKER_ONLINE);
        assert_int_equal(t->state, PO_TASK_RUNNING);
    }
    assert_int_equal(t->attempt, 6);
    do_fail(&w, t->id, t->token, "w1", "x", true);
    assert_int_equal(t->state, PO_TASK_SCHEDULED); /* the first failure of two */
    assert_true(t->deadline_ms == w.now_ms + PO__RETRY_DELAY_MIN_MS);
}

static void test_requeued_task_goes_first(void **state)
{
    (void)state;
    const struct po__task *t = granted(0, 0);
    do_status(&w, "w1", 0, PO_WORKER_OFFLINE);
    do_submit(&w, "", "a:x", "2", "", 0, 0);
    do_register(&w, "w2", 1, "aws", "a:x", 1);
    assert_int_equal(effect(&w, PO__FX_ASSIGNED)->id, t->id);
    assert_string_equal(t->worker->id, "w2");
}

static void test_tick_is_bounded(void **state)
{
    (void)state;
    w.unchecked = true;
    for (int i = 0; i < 5000; i++) {
        if (i % 500 == 0) {
            char id[16];
            snprintf(id, sizeof id, "w%d", i);
            do_register(&w, id, 1, "aws", "a:x", 500);
        }
        do_submit(&w, "", "a:x", "1", "", 1, 100);
    }
    w.now_ms += 100;
    do_tick(&w);
    assert_true(po__model_next_due_ms(w.m) <=
                w.now_ms); /* there is more to do: the leader ticks again */
    do_tick(&w);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);
    struct po__model_counts c;
    po__model_counts(w.m, &c);
    assert_int_equal(c.tasks_finished, 5000);
    assert_int_equal(c.tasks_running, 0);
    world_check(&w);
}

static void test_finished_tasks_are_bounded_in_bytes(void **state)
{
    (void)state;
    static char big[PO_PAYLOAD_MAX_BYTES + 1];
    memset(big, '1', sizeof big - 1);
    struct po__model_counts c;
    for (int i = 0; i < 40; i++) {
        do_submit(&w, "", "a:x", big, "", 0, 0);
        uint64_t id = w.result.id;
        do_register(&w, "w1", 1, "aws", "a:x", 1);
        do_complete(&w, id, task(id)->token, "w1", big);
    }
    po__model_counts(w.m, &c);
    assert_true(c.tasks_finished == PO__TASKS_FINISHED_MAX_BYTES / (2 * PO_PAYLOAD_MAX_BYTES));
    assert_null(po__model_task(w.m, 1)); /* the oldest went first */
    assert_non_null(po__model_task(w.m, 40));
    assert_int_equal(do_complete(&w, 1, 2, "w1", "1"), PO_ESTALE);
}

static void test_time_never_goes_back(void **state)
{
    (void)state;
    do_tick(&w);
    w.now_ms -= 500;
    do_tick(&w);
    assert_true(po__model_now_ms(w.m) == w.now_ms + 500);
    assert_true(po__model_index(w.m) == w.index);
    po__model_set_index(w.m, w.index + 7);
    assert_true(po__model_index(w.m) == w.index + 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* One tick with several things due: capabilities are served in the order in which the tick touched
 * them first, as the first release did; tokens depend on it. */
static void test_order_of_grants_in_one_tick(void **state)
{
    (void)state;
    do_register(&w, "w-x", 1, "aws", "x:x", 1);
    do_register(&w, "w-y", 1, "aws", "y:y", 1);
    do_submit(&w, "", "x:x", "1", "", 0, 60000); /* fails, and comes back at 500 ms */
    do_fail(&w, 1, po__model_task(w.m, 1)->token, "w-x", "again", true);
    do_submit(&w, "", "x:x", "2", "", 1, 3000); /* runs, and times out last */
    do_submit(&w, "", "x:x", "3", "", 0, 60000);
    do_submit(&w, "", "y:y", "4", "", 1, 2000); /* runs, and times out second */
    do_submit(&w, "", "y:y", "5", "", 0, 60000);
    w.now_ms += 10000;
    do_tick(&w);
    assert_int_equal(po__model_task(w.m, 1)->state, PO_TASK_RUNNING);
    assert_int_equal(po__model_task(w.m, 5)->state, PO_TASK_RUNNING);
    assert_true(po__model_task(w.m, 1)->token < po__model_task(w.m, 5)->token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_submit_waits_for_a_worker),
        TEST(test_idempotency_key),
        TEST(test_least_loaded_then_zone_then_longest_idle),
        TEST(test_slots_and_order),
        TEST(test_complete_once),
        TEST(test_failures_are_retried_with_growing_delay),
        TEST(test_retry_delay_is_bounded),
        TEST(test_success_after_failure_clears_the_error),
        TEST(test_not_retryable_fails_at_once),
        TEST(test_timeout_and_late_completion),
        TEST(test_extend),
        TEST(test_cancel),
        TEST(test_poison_task),
        TEST(test_lost_attempts_do_not_use_up_retries),
        TEST(test_requeued_task_goes_first),
        TEST(test_tick_is_bounded),
        TEST(test_finished_tasks_are_bounded_in_bytes),
        TEST(test_time_never_goes_back),
        TEST(test_order_of_grants_in_one_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
