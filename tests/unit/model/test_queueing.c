/* When tasks run, and what becomes of them: priorities, times, waits between attempts, dead
 * letters, retries, checkpoints. */
#include "answer.h"

static uint64_t submit(const struct wish *x)
{
    assert_int_equal(do_wish_task(&w, "a:x", x), 0);
    return w.result.id;
}
#define SUBMIT(...) submit(&(struct wish){__VA_ARGS__})

static const struct po__task *task(uint64_t id)
{
    const struct po__task *t = po__model_task(w.m, id);
    assert_non_null(t);
    return t;
}

static void expect_state(uint64_t id, uint32_t state)
{
    if (task(id)->state != state)
        fail_msg("task %llu has state %u, expected %u", (unsigned long long)id, task(id)->state,
                 state);
}

static void expect_error(uint64_t id, const char *error)
{
    assert_true(po__slice_eq(task(id)->error, po__str(error)));
}

static void complete(uint64_t id)
{
    const struct po__task *t = task(id);
    assert_int_equal(do_complete(&w, id, t->token, t->worker->id, "1"), 0);
}

static void fails(uint64_t id, bool retryable)
{
    const struct po__task *t = task(id);
    assert_int_equal(do_fail(&w, id, t->token, t->worker->id, "it failed", retryable), 0);
}

static void worker(uint32_t slots)
{
    assert_int_equal(do_register(&w, "w1", 1, "", "a:x", slots), 0);
}

/* Lets the worker run one after the other; the order in which they went, as text. */
static const char *order(void)
{
    static char went[256];
    size_t at = 0;
    went[0] = '\0';
    worker(1);
    for (const struct po__worker *p = po__model_worker(w.m, po__str("w1")); p->running;) {
        uint64_t id = po__container_of(p->tasks.next, struct po__task, worker_link)->id;
        at += (size_t)snprintf(went + at, sizeof went - at, "%s%llu", at ? " " : "",
                               (unsigned long long)id);
        complete(id);
    }
    return went;
}

/* ---- order ---- */

static void test_priority(void **state)
{
    (void)state;
    SUBMIT(0);
    SUBMIT(.priority = 3);
    SUBMIT(.priority = 9);
    SUBMIT(.priority = 3, .labels = "!gone");            /* placements do not matter */
    SUBMIT(.priority = 9, .gate = "key", .gate_max = 5); /* nor do keys */
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    assert_string_equal(order(), "3 5 2 4 1 6");
}

static void test_ageing(void **state)
{
    (void)state;
    SUBMIT(0);
    w.now_ms += PO__AGEING_MS - 1;
    SUBMIT(.priority = 1); /* a level is worth more than the age of the first */
    SUBMIT(.priority = 0);
    w.now_ms += 1;
    SUBMIT(.priority = 1); /* exactly worth it: the older goes first */
    w.now_ms += 1;
    SUBMIT(.priority = 1); /* less */
    SUBMIT(.priority = 9);
    assert_string_equal(order(), "6 2 1 4 5 3");
}

static void test_run_at(void **state)
{
    (void)state;
    uint64_t later = SUBMIT(.run_at_ms = w.now_ms + 100), past = SUBMIT(.run_at_ms = 1);
    uint64_t now = SUBMIT(.run_at_ms = w.now_ms);
    expect_state(later, PO_TASK_SCHEDULED);
    expect_state(past, PO_TASK_PENDING);
    expect_state(now, PO_TASK_PENDING);
    assert_true(po__model_next_due_ms(w.m) == w.now_ms + 100);
    w.now_ms += 99;
    do_tick(&w);
    expect_state(later, PO_TASK_SCHEDULED);
    uint64_t before = SUBMIT(0); /* younger, but due earlier */
    w.now_ms += 1;
    do_tick(&w);
    expect_state(later, PO_TASK_PENDING);
    assert_int_equal(before, 4);
    SUBMIT(0); /* due at the same time: by id */
    assert_string_equal(order(), "2 3 4 1 5");
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);
}

/* ---- deadlines ---- */

static void test_deadline(void **state)
{
    (void)state;
    uint64_t at = w.now_ms + 500;
    worker(2);
    uint64_t running = SUBMIT(.deadline_ms = at, .key = "k"), done = SUBMIT(.deadline_ms = at);
    uint64_t pending = SUBMIT(.deadline_ms = at), gated;
    uint64_t scheduled = SUBMIT(.run_at_ms = at - 1, .deadline_ms = at, .attempts_max = 100);
    complete(done);
    expect_state(pending, PO_TASK_RUNNING);
    fails(pending, true); /* waits for its retry, longer than it has */
    SUBMIT(.gate = "key", .gate_max = 1);
    gated = SUBMIT(.gate = "key", .gate_max = 1, .deadline_ms = at);
    assert_true(po__model_next_due_ms(w.m) <= at);
    w.now_ms = at - 1;
    do_tick(&w);
    expect_state(running, PO_TASK_RUNNING);
    expect_state(scheduled, PO_TASK_PENDING);
    w.now_ms = at;
    do_tick(&w);
    expect_state(done, PO_TASK_SUCCEEDED);
    uint64_t expired[] = {running, pending, scheduled, gated};
    for (unsigned i = 0; i < 4; i++) {
        expect_state(expired[i], PO_TASK_FAILED);
        expect_error(expired[i], "not finished by its deadline");
    }
    assert_int_equal(effects(&w, PO__FX_REVOKED), 1); /* the worker of the first is told */
    assert_int_equal(effect(&w, PO__FX_REVOKED)->id, running);
    assert_int_equal(effects(&w, PO__FX_TASK_FINISHED), 4);
    assert_int_equal(do_complete(&w, running, task(running)->token, "w1", "1"), PO_ESTALE);
    assert_int_equal(do_wish_task(&w, "a:x", &(struct wish){.key = "k"}), 0);
    assert_int_equal(w.result.id, running); /* it keeps its key */
}

/* Attempt and task end with the same tick: what counts is that the task is over. */
static void test_deadline_and_timeout(void **state)
{
    (void)state;
    worker(1);
    uint64_t id = SUBMIT(.deadline_ms = w.now_ms + 500, .timeout_ms = 500, .attempts_max = 2);
    w.now_ms += 500;
    do_tick(&w);
    expect_state(id, PO_TASK_FAILED);
    expect_error(id, "not finished by its deadline");
}

/* ---- waits ---- */

static uint64_t wait_of(uint64_t id)
{
    expect_state(id, PO_TASK_SCHEDULED);
    return task(id)->deadline_ms - w.now_ms;
}

static void again(void)
{
    w.now_ms += PO__ATTEMPT_MAX_MS;
    do_tick(&w);
}

static void test_waits_grow(void **state)
{
    (void)state;
    static const uint64_t usual[] = {500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    static const uint64_t own[] = {10, 20, 40, 70, 70, 70, 70, 70, 70};
    worker(9);
    do_submit(&w, "", "a:x", "1", "", 10, PO__ATTEMPT_MAX_MS);
    uint64_t old = w.result.id, modern = SUBMIT(.attempts_max = 10);
    uint64_t asked = SUBMIT(.attempts_max = 10, .retry_ms = 10, .retry_max_ms = 70);
    uint64_t slow = SUBMIT(.attempts_max = 10, .retry_ms = 90000);
    for (unsigned i = 0; i < 9; i++) {
        fails(old, true);
        fails(modern, true);
        fails(asked, true);
        fails(slow, true);
        assert_int_equal(wait_of(old), usual[i]);
        assert_in_range(wait_of(modern), usual[i] / 2, usual[i]);
        assert_in_range(wait_of(asked), own[i] / 2, own[i]);
        assert_in_range(wait_of(slow), 45000,
                        90000); /* above the usual longest: it does not grow */
        again();
    }
    fails(modern, true);
    expect_state(modern, PO_TASK_FAILED);
}

/* Drawn from index and id: everybody draws the same, and nobody waits with the others. */
static void test_waits_differ(void **state)
{
    (void)state;
    struct world twin;
    uint64_t waits[64];
    unsigned same = 0, seen_low = 0, seen_high = 0;
    world_open(&twin, NULL);
    worker(64);
    po__model_apply(twin.m, w.index, w.now_ms, &w.decoded, NULL, NULL);
    for (unsigned i = 0; i < 64; i++) {
        SUBMIT(.retry_ms = 10000);
        po__model_apply(twin.m, w.index, w.now_ms, &w.decoded, NULL, NULL);
    }
    for (unsigned i = 0; i < 64; i++) {
        fails(i + 1, true);
        po__model_apply(twin.m, w.index, w.now_ms, &w.decoded, NULL, NULL);
        waits[i] = wait_of(i + 1);
        assert_true(po__model_task(twin.m, i + 1)->deadline_ms == task(i + 1)->deadline_ms);
        assert_in_range(waits[i], 5000, 10000);
        seen_low += waits[i] < 6250;
        seen_high += waits[i] > 8750;
        for (unsigned k = 0; k < i; k++)
            same += waits[i] == waits[k];
    }
    assert_true(same < 5 && seen_low > 4 && seen_high > 4);
    world_close(&twin);
    /* the same task, failing at another index, waits otherwise */
    unsigned moved = 0;
    for (unsigned shift = 1; shift <= 4; shift++) {
        world_close(&w);
        world_open(&w, NULL);
        worker(1);
        SUBMIT(.retry_ms = 10000);
        w.index += shift;
        fails(1, true);
        moved += wait_of(1) != waits[0];
    }
    assert_true(moved >= 3);
}

static void test_final_error(void **state)
{
    (void)state;
    worker(2);
    uint64_t id = SUBMIT(.attempts_max = 100), timed = SUBMIT(.attempts_max = 1, .timeout_ms = 100);
    fails(id, false);
    expect_state(id, PO_TASK_FAILED);
    expect_error(id, "it failed");
    assert_int_equal(task(id)->attempt, 1);
    again();
    expect_state(timed, PO_TASK_FAILED);
    expect_error(timed, "timed out after 100 ms");
}

/* ---- what is kept ---- */

static void test_keep(void **state)
{
    (void)state;
    worker(4);
    uint64_t brief = SUBMIT(.keep_ms = 100, .key = "k"), dead = SUBMIT(.keep_ms = 50);
    uint64_t usual = SUBMIT(0);
    complete(brief);
    fails(dead, false);
    complete(usual);
    assert_true(po__model_next_due_ms(w.m) == w.now_ms + 50);
    w.now_ms += 50;
    do_tick(&w);
    assert_null(po__model_task(w.m, dead));
    w.now_ms += 49;
    do_tick(&w);
    expect_state(brief, PO_TASK_SUCCEEDED);
    w.now_ms += 1;
    do_tick(&w);
    assert_null(po__model_task(w.m, brief));
    expect_state(usual, PO_TASK_SUCCEEDED);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX);
    assert_true(SUBMIT(.key = "k") > usual); /* its key is free again */
}

static void test_dead_letters(void **state)
{
    (void)state;
    w.unchecked = true;
    worker(1);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    fails(1, false); /* of the older form: no dead letter */
    for (uint64_t id = 2; id <= PO__TASKS_DEAD_MAX + 2; id++)
        fails(SUBMIT(0), false);
    assert_null(po__model_task(w.m, 2)); /* one too many */
    expect_state(3, PO_TASK_FAILED);
    for (uint64_t i = 0; i < PO__TASKS_FINISHED_MAX; i++)
        complete(SUBMIT(0));
    assert_null(po__model_task(w.m, 1)); /* crowded out by successes */
    expect_state(3, PO_TASK_FAILED);     /* which dead letters are not */
    world_check(&w);
    struct po__model_counts c;
    po__model_counts(w.m, &c);
    assert_int_equal(c.tasks_finished, PO__TASKS_FINISHED_MAX + PO__TASKS_DEAD_MAX);
    assert_int_equal(do_retry(&w, 3), 0); /* and one fewer */
    expect_state(3, PO_TASK_RUNNING);
    fails(3, false);
    world_check(&w);
}

static void test_bytes_of_dead_letters(void **state)
{
    (void)state;
    static char big[PO_CHECKPOINT_MAX_BYTES + 1];
    memset(big, 'c', sizeof big - 1);
    unsigned kept = 0, made = 300;
    w.unchecked = true;
    worker(1);
    for (unsigned i = 0; i < made; i++) {
        uint64_t id = SUBMIT(0);
        do_checkpoint(&w, id, task(id)->token, "w1", 0, big, 0);
        fails(id, false);
    }
    for (uint64_t id = 1; id <= made; id++)
        kept += po__model_task(w.m, id) != NULL;
    assert_true(kept < PO__TASKS_DEAD_MAX_BYTES / (sizeof big - 1) && kept > 200);
    expect_state(made, PO_TASK_FAILED);
    world_check(&w);
}

/* ---- retry ---- */

static void test_retry(void **state)
{
    (void)state;
    assert_int_equal(do_retry(&w, 1), PO_ENOTFOUND);
    uint64_t id = SUBMIT(.attempts_max = 2, .retry_ms = 1, .retry_max_ms = 1);
    assert_int_equal(do_retry(&w, id), 0); /* pending: nothing to do, as in the next two */
    worker(1);
    assert_int_equal(do_retry(&w, id), 0);
    expect_state(id, PO_TASK_RUNNING);
    assert_int_equal(task(id)->attempt, 1);
    fails(id, true);
    assert_int_equal(do_retry(&w, id), 0);
    expect_state(id, PO_TASK_SCHEDULED);
    again();
    fails(id, true);
    expect_state(id, PO_TASK_FAILED);
    assert_int_equal(do_retry(&w, id), 0); /* both attempts once more */
    expect_state(id, PO_TASK_RUNNING);
    assert_int_equal(task(id)->attempt, 3);
    fails(id, true);
    assert_in_range(wait_of(id), 1, 1); /* as after a first attempt */
    again();
    fails(id, true);
    expect_state(id, PO_TASK_FAILED);
    assert_int_equal(do_retry(&w, id), 0);
    complete(id);
    assert_int_equal(do_retry(&w, id), PO_ESTATE);
    assert_non_null(strstr(w.result.message, "succeeded"));
    assert_true(po__slice_eq(task(id)->error, po__str("")));
}

static void test_retry_of_others(void **state)
{
    (void)state;
    const char *cap = "a:x";
    uint64_t run_at = w.now_ms + 1000;
    uint64_t early = SUBMIT(.run_at_ms = run_at), late = SUBMIT(.deadline_ms = w.now_ms + 10);
    assert_int_equal(do_cancel(&w, early), 0);
    assert_int_equal(do_retry(&w, early), 0);
    expect_state(early, PO_TASK_SCHEDULED); /* not before its time */
    assert_true(task(early)->deadline_ms == run_at);
    w.now_ms += 10;
    do_tick(&w);
    expect_state(late, PO_TASK_FAILED);
    assert_int_equal(do_retry(&w, late), PO_ESTATE);
    assert_non_null(strstr(w.result.message, "had to be finished by 1000010"));
    worker(1);
    do_submit(&w, "", "a:x", "1", "", 1, 0); /* of the older form */
    uint64_t old = w.result.id;
    fails(old, true);
    assert_int_equal(do_retry(&w, old), 0);
    expect_state(old, PO_TASK_RUNNING);
    fails(old, true); /* a dead letter from now on */
    expect_state(old, PO_TASK_FAILED);
    assert_int_equal(do_retry(&w, old), 0);
    complete(old);
    do_define(&w, "p", &cap, 1, "");
    do_run(&w, "", "p", "1", "");
    uint64_t step = old + 1;
    fails(step, false);
    assert_int_equal(do_retry(&w, step), PO_ESTATE);
    assert_non_null(strstr(w.result.message, "belongs to run 1"));
}

/* ---- checkpoints ---- */

/* What is known of it. */
static void expect_left(uint64_t id, const char *progress, unsigned bytes)
{
    char part[64];
    assert_int_equal(ask(PO_QUERY_TASK, id, "", "", 0), 0);
    snprintf(part, sizeof part, " checkpoint_bytes=%u ", bytes);
    expect_part(part);
    snprintf(part, sizeof part, " progress=%s ", progress);
    expect_part(part);
}

static void test_checkpoints(void **state)
{
    (void)state;
    worker(1);
    do_submit(&w, "", "a:x", "1", "", 2, 1000); /* tasks of the older form have them, too */
    uint64_t id = w.result.id, token = task(id)->token, until = task(id)->deadline_ms;
    expect_left(id, "nil", 0);
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 250, "abc", 0), 0);
    expect_left(id, "250", 3);
    assert_true(task(id)->deadline_ms == until);
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 1001, NULL, 5000), 0);
    expect_left(id, "250", 3); /* both as they were */
    assert_true(task(id)->deadline_ms == w.now_ms + 5000);
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 100, NULL, 0), 0);
    expect_left(id, "100", 3);
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 1000, "", 0), 0);
    expect_left(id, "1000", 0); /* an empty one replaces it */
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 500, "half", 0), 0);
    assert_int_equal(do_checkpoint(&w, id, token + 1, "w1", 0, "x", 0), PO_ESTALE);
    assert_int_equal(do_checkpoint(&w, id, token, "w2", 0, "x", 0), PO_ESTALE);
    assert_int_equal(do_checkpoint(&w, 99, token, "w1", 0, "x", 0), PO_ESTALE);
    fails(id, true);
    assert_int_equal(do_checkpoint(&w, id, token, "w1", 0, "x", 0), PO_ESTALE);
    expect_left(id, "500", 4);
    again();
    expect_left(id, "500", 4); /* the next attempt has it */
    fails(id, true);
    expect_state(id, PO_TASK_FAILED);
    expect_left(id, "500", 4);
    assert_int_equal(do_retry(&w, id), 0);
    expect_left(id, "500", 4);
    do_status(&w, "w1", 0, PO_WORKER_OFFLINE); /* lost */
    expect_left(id, "500", 4);
    do_status(&w, "w1", 0, PO_WORKER_ONLINE);
    complete(id);
    expect_left(id, "500", 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_priority),
        TEST(test_ageing),
        TEST(test_run_at),
        TEST(test_deadline),
        TEST(test_deadline_and_timeout),
        TEST(test_waits_grow),
        TEST(test_waits_differ),
        TEST(test_final_error),
        TEST(test_keep),
        TEST(test_dead_letters),
        TEST(test_bytes_of_dead_letters),
        TEST(test_retry),
        TEST(test_retry_of_others),
        TEST(test_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
