/* Concurrency keys: how many tasks of a key run, how many start in a period, and when keys come and
 * go. */
#include "answer.h"

static uint64_t submit(const char *cap, const struct wish *x)
{
    assert_int_equal(do_wish_task(&w, cap, x), 0);
    return w.result.id;
}
#define SUBMIT(cap, ...) submit(cap, &(struct wish){__VA_ARGS__})

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

static void complete(uint64_t id)
{
    const struct po__task *t = task(id);
    assert_int_equal(do_complete(&w, id, t->token, t->worker->id, "1"), 0);
}

static uint64_t running(void)
{
    struct po__model_counts c;
    po__model_counts(w.m, &c);
    return c.tasks_running;
}

/* Time goes on by so much, with a tick if one is due: a leader proposes none otherwise. */
static void pass(uint64_t ms)
{
    w.now_ms += ms;
    if (po__model_next_due_ms(w.m) <= w.now_ms)
        do_tick(&w);
}

/* ---- how many run ---- */

static void test_max(void **state)
{
    (void)state;
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*9 b:y*9"});
    /* of two capabilities and two placements, one key */
    uint64_t a = SUBMIT("a:x", .gate = "db", .gate_max = 2);
    uint64_t b = SUBMIT("b:y", .gate = "db", .gate_max = 2);
    uint64_t c = SUBMIT("a:x", .gate = "db", .gate_max = 2, .labels = "!gone");
    uint64_t d = SUBMIT("b:y", .gate = "db", .gate_max = 2, .priority = 9);
    uint64_t e = SUBMIT("a:x", 0), f = SUBMIT("a:x", .gate = "other", .gate_max = 1);
    expect_state(a, PO_TASK_RUNNING);
    expect_state(b, PO_TASK_RUNNING);
    expect_state(c, PO_TASK_PENDING);
    expect_state(d, PO_TASK_PENDING);
    expect_state(e, PO_TASK_RUNNING); /* they hold up nobody */
    expect_state(f, PO_TASK_RUNNING);
    complete(e);
    expect_state(c, PO_TASK_PENDING);
    complete(a);
    assert_int_equal(task(c)->state == PO_TASK_RUNNING, task(d)->state == PO_TASK_PENDING);
    complete(b);
    expect_state(c, PO_TASK_RUNNING);
    expect_state(d, PO_TASK_RUNNING);
}

/* However an attempt ends, its key has room again. */
static void test_every_end_leaves(void **state)
{
    (void)state;
    const struct wish one = {.gate = "db", .gate_max = 1, .timeout_ms = 1000, .attempts_max = 1};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*9 b:y*9"});
    for (unsigned i = 0; i < 8; i++)
        submit("a:x", &one);
    expect_state(1, PO_TASK_RUNNING);
    complete(1);
    expect_state(2, PO_TASK_RUNNING);
    do_fail(&w, 2, task(2)->token, "w1", "no", false);
    expect_state(3, PO_TASK_RUNNING);
    do_cancel(&w, 3);
    expect_state(4, PO_TASK_RUNNING);
    pass(1000); /* timed out */
    expect_state(5, PO_TASK_RUNNING);
    do_status(&w, "w1", 0, PO_WORKER_OFFLINE);
    do_status(&w, "w1", 0, PO_WORKER_ONLINE);
    assert_int_equal(task(5)->lost, 1);
    assert_int_equal(running(), 1);
    do_host(&w, &(struct host){.id = "w1", .caps = "b:y*9"}); /* no a:x any more: lost */
    assert_int_equal(running(), 0);
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*9"});
    assert_int_equal(running(), 1);
    do_deregister(&w, "w1", 0);
    do_host(&w, &(struct host){.id = "w2", .caps = "a:x*9"});
    assert_int_equal(running(), 1);
    while (running())
        for (uint64_t id = 5; id <= 8; id++)
            if (task(id)->state == PO_TASK_RUNNING)
                complete(id);
    expect_state(8, PO_TASK_SUCCEEDED);
}

static void test_limit_changes(void **state)
{
    (void)state;
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*9"});
    for (unsigned i = 0; i < 4; i++)
        SUBMIT("a:x", .gate = "db", .gate_max = 1, .key = i == 3 ? "k" : NULL);
    assert_int_equal(running(), 1);
    SUBMIT("a:x", .gate = "db", .gate_max = 3); /* 5: now the key has room for three */
    assert_int_equal(running(), 3);
    expect_state(3, PO_TASK_RUNNING);
    SUBMIT("a:x", .gate = "db", .gate_max = 9, .key = "k"); /* a repeat says nothing */
    assert_int_equal(running(), 3);
    SUBMIT("a:x", .gate = "db", .gate_max = 2); /* 6: who runs goes on running */
    assert_int_equal(running(), 3);
    complete(1);
    assert_int_equal(running(), 2);
    complete(2);
    assert_int_equal(running(), 2);
    expect_state(4, PO_TASK_RUNNING);
    SUBMIT("a:x", .gate = "db", .rate_max = 1000, .rate_ms = 1); /* 7: as many as like to */
    assert_int_equal(running(), 5);
}

/* ---- how many start ---- */

static void keep_waiting(unsigned n, const struct wish *x)
{
    for (unsigned i = 0; i < n; i++)
        submit("a:x", x);
}

static void test_rate_to_the_millisecond(void **state)
{
    (void)state;
    const struct wish rate = {.gate = "api", .rate_max = 4, .rate_ms = 1000};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*99"});
    keep_waiting(12, &rate);
    assert_int_equal(running(), 4); /* a full bucket at once */
    assert_true(po__model_next_due_ms(w.m) == w.now_ms + 250);
    pass(249);
    assert_int_equal(running(), 4);
    pass(1);
    assert_int_equal(running(), 5);
    pass(250);
    assert_int_equal(running(), 6);
    for (uint64_t id = 1; id <= 6; id++)
        complete(id); /* ends give nothing back */
    assert_int_equal(running(), 0);
    pass(600); /* late by 100: that is not lost */
    assert_int_equal(running(), 2);
    pass(150);
    assert_int_equal(running(), 3);
    pass(5000);
    assert_int_equal(running(), 6); /* the last three */
    keep_waiting(5, &rate);         /* the bucket filled up meanwhile, less those three */
    assert_int_equal(running(), 7);
}

/* What a bucket of n tokens that fills in so many ms allows at most, and what an eager scheduler
 * makes of it: counted over every span that begins with a full bucket. */
static void count_starts(uint32_t n, uint32_t ms, unsigned span_ms)
{
    const struct wish rate = {.gate = "api", .rate_max = n, .rate_ms = ms};
    world_close(&w);
    world_open(&w, NULL);
    w.unchecked = true;
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*1024"});
    uint64_t may = n + (uint64_t)span_ms * n / ms, token_us = ((uint64_t)ms * 1000 + n - 1) / n;
    keep_waiting((unsigned)may + 5, &rate);
    for (unsigned at = 0; at <= span_ms; at++) {
        uint64_t most = n + (uint64_t)at * n / ms, least = (uint64_t)at * 1000 / token_us;
        if (running() > most || running() < least || (at == 0 && running() > n))
            fail_msg("%u per %u ms: %llu started after %u ms, expected %llu..%llu", n, ms,
                     (unsigned long long)running(), at, (unsigned long long)least,
                     (unsigned long long)most);
        pass(1);
    }
    world_check(&w);
}

static void test_rate_bounds(void **state)
{
    (void)state;
    count_starts(1, 1, 50);
    count_starts(3, 10, 200);
    count_starts(7, 13, 200);
    count_starts(1, 333, 1000);
    count_starts(100, 7, 40);
    count_starts(600, 1, 0); /* more than one per microsecond and a half: never above it */
    count_starts(400, 1, 0);
    count_starts(999, 1, 0);
    count_starts(1000, 1, 0);
}

static void test_rate_and_max(void **state)
{
    (void)state;
    const struct wish both = {.gate = "api", .gate_max = 2, .rate_max = 3, .rate_ms = 300};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*99"});
    keep_waiting(8, &both);
    assert_int_equal(running(), 2);
    complete(1);
    assert_int_equal(running(), 2); /* the third token */
    complete(2);
    assert_int_equal(running(), 1); /* no token */
    pass(100);
    assert_int_equal(running(), 2);
    pass(10000);
    assert_int_equal(running(), 2); /* tokens, but no room */
    complete(3);
    complete(4);
    assert_int_equal(running(), 2);
}

/* Time alone opens nothing: a tick does, or whatever else looks at the key. */
static void test_what_opens(void **state)
{
    (void)state;
    const struct wish rate = {.gate = "api", .rate_max = 1, .rate_ms = 100};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*99"});
    keep_waiting(3, &rate);
    w.now_ms += 100;
    do_submit(&w, "", "b:y", "1", "", 0, 0); /* has nothing to do with it */
    assert_int_equal(running(), 1);
    assert_true(po__model_next_due_ms(w.m) == w.now_ms);
    do_tick(&w);
    assert_int_equal(running(), 2);
    w.now_ms += 100;
    keep_waiting(1, &rate); /* a submission with the key */
    assert_int_equal(running(), 3);
    w.now_ms += 100;
    complete(1); /* and an end */
    assert_int_equal(running(), 3);
}

static void test_rate_changes(void **state)
{
    (void)state;
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*99"});
    const struct wish daily = {.gate = "api", .rate_max = 1, .rate_ms = 86400000};
    const struct wish quick = {.gate = "api", .rate_max = 2, .rate_ms = 1000};
    keep_waiting(2, &daily);
    assert_int_equal(running(), 1);
    keep_waiting(2, &quick); /* an empty bucket, not one that is empty for a day */
    assert_int_equal(running(), 1);
    pass(500);
    assert_int_equal(running(), 2);
    pass(500);
    assert_int_equal(running(), 3);
    keep_waiting(1, &daily); /* the other way round it is full when it would have been */
    pass(999);
    assert_int_equal(running(), 3);
    pass(1);
    assert_int_equal(running(), 4);
    SUBMIT("a:x", .gate = "api", .gate_max = 9); /* no rate any more */
    assert_int_equal(running(), 6);
    assert_true(po__model_next_due_ms(w.m) != UINT64_MAX); /* their leases */
}

/* ---- keys come and go ---- */

static void test_rates_are_remembered(void **state)
{
    (void)state;
    const struct wish rate = {.gate = "api", .rate_max = 2, .rate_ms = 1000, .keep_ms = 1};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*99"});
    keep_waiting(2, &rate);
    uint64_t full = w.now_ms + 1000;
    complete(1);
    complete(2);
    pass(1); /* both tasks are forgotten, and nobody names the key */
    assert_null(po__model_task(w.m, 2));
    assert_true(po__model_next_due_ms(w.m) == full);
    keep_waiting(1, &rate);
    assert_int_equal(running(), 0); /* the tokens are gone all the same */
    pass(499);
    assert_int_equal(running(), 1);
    complete(3);
    pass(1);
    assert_true(po__model_next_due_ms(w.m) == full + 500);
    pass(1499);
    assert_true(po__model_next_due_ms(w.m) == UINT64_MAX); /* the key is forgotten, too */
    keep_waiting(3, &rate);
    assert_int_equal(running(), 2);
}

static void test_limit_of_keys(void **state)
{
    (void)state;
    char key[24];
    struct wish x = {.gate = key, .gate_max = 1, .keep_ms = 1};
    w.unchecked = true;
    for (unsigned i = 0; i < PO__GATES_MAX; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        submit("a:x", &x);
    }
    snprintf(key, sizeof key, "one-more");
    assert_int_equal(do_wish_task(&w, "a:x", &x), PO_EQUOTA);
    assert_non_null(strstr(w.result.message, "65536 concurrency keys are in use"));
    snprintf(key, sizeof key, "key-7");
    submit("a:x", &x); /* one that is known */
    SUBMIT("a:x", 0);
    do_cancel(&w, 1); /* is kept, and so is its key */
    snprintf(key, sizeof key, "one-more");
    assert_int_equal(do_wish_task(&w, "a:x", &x), PO_EQUOTA);
    pass(1);
    submit("a:x", &x);
    world_check(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_max),
        TEST(test_every_end_leaves),
        TEST(test_limit_changes),
        TEST(test_rate_to_the_millisecond),
        TEST(test_rate_bounds),
        TEST(test_rate_and_max),
        TEST(test_what_opens),
        TEST(test_rate_changes),
        TEST(test_rates_are_remembered),
        TEST(test_limit_of_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
