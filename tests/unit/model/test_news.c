/* What watchers are told: one line for each event of a command, in order, and nothing for commands
 * that change nothing. */
#include "fixture.h"

#include <pipeorch/watch.h>

static struct world w;
static char told[8192];
static size_t told_len;

static const char *const words[] = {
    [PO_WATCH_TASK_SUBMITTED] = "submitted",
    [PO_WATCH_TASK_GRANTED] = "granted",
    [PO_WATCH_TASK_RETRY] = "retry",
    [PO_WATCH_TASK_LOST] = "lost",
    [PO_WATCH_TASK_FINISHED] = "finished",
    [PO_WATCH_TASK_REVIVED] = "revived",
    [PO_WATCH_WORKER_REGISTERED] = "registered",
    [PO_WATCH_WORKER_STATUS] = "status",
    [PO_WATCH_WORKER_GONE] = "gone",
    [PO_WATCH_PIPELINE_DEFINED] = "defined",
    [PO_WATCH_RUN_STARTED] = "run",
    [PO_WATCH_STEP_STARTED] = "step",
    [PO_WATCH_STEP_FINISHED] = "stepped",
    [PO_WATCH_RUN_FINISHED] = "ran",
    [PO_WATCH_LEADER] = "leader",
    [PO_WATCH_MEMBER_CHANGED] = "member",
    [PO_WATCH_MEMBER_GONE] = "removed",
};

static void put_text(const char *sign, struct po__slice s)
{
    if (s.len)
        told_len += (size_t)snprintf(told + told_len, sizeof told - told_len, " %s%.*s", sign,
                                     (int)s.len, s.data);
}

static void put_number(char sign, uint64_t n)
{
    if (n)
        told_len += (size_t)snprintf(told + told_len, sizeof told - told_len, " %c%llu", sign,
                                     (unsigned long long)n);
}

/* granted #1 of run 2, attempt 3, token 4, state 5, worker, name, step, error:
 * "granted #1 r2 a3 t4 =5 @worker name /step !error;" */
static void on_event(void *arg, const struct po__news *e)
{
    assert_ptr_equal(arg, &w);
    told_len += (size_t)snprintf(told + told_len, sizeof told - told_len, "%s", words[e->kind]);
    put_number('#', e->id);
    put_number('r', e->run_id);
    put_number('a', e->attempt);
    put_number('t', e->token);
    put_number('=', e->state);
    put_text("@", e->worker);
    put_text("", e->name);
    put_text("/", e->step);
    put_text("!", e->error);
    told_len += (size_t)snprintf(told + told_len, sizeof told - told_len, "; ");
}

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    w.fx.event = on_event;
    w.fx.event_arg = &w;
    w.index = 99;
    told_len = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static void expect_told(int line, const char *expected)
{
    told[told_len] = '\0';
    if (strcmp(told, expected) != 0)
        fail_msg("line %d: told \"%s\", expected \"%s\"", line, told, expected);
    told_len = 0;
}
#define EXPECT(text) expect_told(__LINE__, text)

static void test_tasks_and_workers(void **state)
{
    (void)state;
    assert_int_equal(do_submit(&w, "k", "a:x", "1", "", 2, 60000), 0); /* 100 */
    EXPECT("submitted #1 =1 a:x; ");
    assert_int_equal(do_submit(&w, "k", "a:x", "1", "", 2, 60000), 0); /* a repeat: 101 */
    EXPECT("");
    assert_int_equal(do_register(&w, "w1", 1, "aws", "a:x", 1), 0); /* 102 */
    EXPECT("registered =1 @w1; granted #1 a1 t102 =3 @w1 a:x; ");
    assert_int_equal(do_fail(&w, 1, 102, "w1", "it broke", true), 0);
    EXPECT("retry #1 a1 t102 =2 @w1 a:x !it broke; ");
    assert_int_equal(do_fail(&w, 1, 102, "w1", "it broke", true), 0); /* a repeat */
    assert_int_equal(do_complete(&w, 1, 7, "w1", "1"), PO_ESTALE);
    EXPECT("");
    w.now_ms += 60000;
    assert_int_equal(do_tick(&w), 0); /* 106 */
    EXPECT("granted #1 a2 t106 =3 @w1 a:x; ");
    assert_int_equal(do_status(&w, "w1", 1, PO_WORKER_OFFLINE), 0);
    EXPECT("lost #1 a2 t106 =1 @w1 a:x; status =2 @w1; ");
    assert_int_equal(do_status(&w, "w1", 1, PO_WORKER_OFFLINE), 0);
    EXPECT("");
    assert_int_equal(do_status(&w, "w1", 1, PO_WORKER_ONLINE), 0); /* 109 */
    EXPECT("status =1 @w1; granted #1 a3 t109 =3 @w1 a:x; ");
    assert_int_equal(do_complete(&w, 1, 109, "w1", "42"), 0);
    EXPECT("finished #1 a3 t109 =4 @w1 a:x; ");
    assert_int_equal(do_deregister(&w, "w1", 1), 0);
    EXPECT("gone @w1; ");
}

static void test_an_end_and_what_follows(void **state)
{
    (void)state;
    do_register(&w, "w1", 1, "aws", "a:x", 1); /* 100 */
    do_submit(&w, "", "a:x", "1", "", 1, 1000);
    do_submit(&w, "", "a:x", "2", "", 1, 1000);
    EXPECT("registered =1 @w1; submitted #1 =1 a:x; granted #1 a1 t101 =3 @w1 a:x; "
           "submitted #2 =1 a:x; ");
    w.now_ms += 1000;
    do_tick(&w); /* 103: the end of one attempt makes room for the next task's, in one entry */
    EXPECT("finished #1 a1 t101 =5 @w1 a:x !timed out after 1000 ms; "
           "granted #2 a1 t103 =3 @w1 a:x; ");
    do_cancel(&w, 2);
    EXPECT("finished #2 a1 t103 =6 @w1 a:x; ");
    w.cmd.type = PO__CMD_TASK_RETRY;
    w.cmd.retry.task_id = 2;
    assert_int_equal(apply(&w), 0); /* 105 */
    EXPECT("revived #2 a1 t103 =1 @w1 a:x; granted #2 a2 t105 =3 @w1 a:x; ");
    do_register(&w, "w1", 2, "aws", "a:x", 1); /* 106: a new life */
    EXPECT("lost #2 a2 t105 =1 @w1 a:x; registered =1 @w1; granted #2 a3 t106 =3 @w1 a:x; ");
}

/* A long error is told by its beginning, of whole characters. */
static void test_long_error(void **state)
{
    (void)state;
    char error[600], expected[600];
    memset(error, 'e', PO__NEWS_ERROR_MAX_BYTES - 1);
    strcpy(error + PO__NEWS_ERROR_MAX_BYTES - 1, "\xc3\xa4 and so on"); /* a letter of two bytes */
    do_register(&w, "w1", 1, "aws", "a:x", 1);
    do_submit(&w, "", "a:x", "1", "", 1, 1000); /* 101 */
    told_len = 0;
    do_fail(&w, 1, 101, "w1", error, true);
    snprintf(expected, sizeof expected, "finished #1 a1 t101 =5 @w1 a:x !%.*s; ",
             PO__NEWS_ERROR_MAX_BYTES - 1, error);
    EXPECT(expected);
    do_submit(&w, "", "a:x", "1", "", 1, 1000); /* 103 */
    told_len = 0;
    do_fail(&w, 2, 103, "w1", error + 1, true); /* now it fits */
    snprintf(expected, sizeof expected, "finished #2 a1 t103 =5 @w1 a:x !%.*s; ",
             PO__NEWS_ERROR_MAX_BYTES, error + 1);
    EXPECT(expected);
}

static void test_runs(void **state)
{
    (void)state;
    static const char *const two[] = {"a:x", "a:x"};
    do_define(&w, "p", two, 2, "");
    EXPECT("defined p; ");
    do_define(&w, "p", two, 2, ""); /* the same again */
    EXPECT("");
    do_register(&w, "w1", 1, "aws", "a:x", 1); /* 102 */
    told_len = 0;
    do_run(&w, "k", "p", "1", ""); /* 103 */
    EXPECT("submitted #1 r1 =1 a:x; run r1 =1 p; step #1 r1 =1 p /s1; "
           "granted #1 r1 a1 t103 =3 @w1 a:x; ");
    do_complete(&w, 1, 103, "w1", "1"); /* 104 */
    EXPECT("finished #1 r1 a1 t103 =4 @w1 a:x; stepped #1 r1 a1 t103 =4 @w1 p /s1; "
           "submitted #2 r1 =1 a:x; step #2 r1 =1 p /s2; granted #2 r1 a1 t104 =3 @w1 a:x; ");
    do_fail(&w, 2, 104, "w1", "no", false);
    EXPECT("finished #2 r1 a1 t104 =5 @w1 a:x !no; stepped #2 r1 a1 t104 =5 @w1 p /s2 !no; "
           "ran r1 =3 p !step \"s2\": no; ");
    do_run(&w, "", "p", "1", ""); /* 106 */
    told_len = 0;
    do_run_cancel(&w, 2);
    EXPECT("finished #3 r2 a1 t106 =6 @w1 a:x; stepped #3 r2 a1 t106 =6 @w1 p /s1; ran r2 =4 p; ");
}

/* Who leads is told, and changes nothing. */
static void test_nodes(void **state)
{
    (void)state;
    do_member(&w, 7, "cp1", "0123456789abcdef");
    EXPECT("member #7 cp1; ");
    uint64_t before = digest(w.m);
    w.cmd.type = PO__CMD_LEADER;
    w.cmd.leader.node_id = 7;
    w.cmd.leader.term = 3;
    w.index--; /* the index is part of the state */
    assert_int_equal(apply(&w), 0);
    EXPECT("leader #7 t3 cp1; ");
    assert_int_equal(w.fx.count, 0);
    assert_true(digest(w.m) == before);
    w.cmd.leader.node_id = 8; /* whose record is on its way */
    assert_int_equal(apply(&w), 0);
    EXPECT("leader #8 t3; ");
    do_wish(&w, 7, PO__WISH_STANDBY);
    do_wish(&w, 7, PO__WISH_GONE);
    EXPECT("member #7 cp1; removed #7; ");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_tasks_and_workers),
        TEST(test_an_end_and_what_follows),
        TEST(test_long_error),
        TEST(test_runs),
        TEST(test_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
