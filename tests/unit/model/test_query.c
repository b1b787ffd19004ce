/* Queries. */
#include "answer.h"

static void test_status(void **state)
{
    (void)state;
    do_member(&w, 3, "cp-1", "0123456789abcdef");
    do_register(&w, "w1", 1, "aws", "a:x", 1);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    assert_int_equal(ask(PO_QUERY_STATUS, 0, "", "", 0), 0);
    expect("{counts={pipelines=0 runs_finished=0 runs_running=0 tasks_finished=0 tasks_pending=1 "
           "tasks_running=1 "
           "tasks_scheduled=0 workers=1 workers_online=1} members=[{feature_level=1 id=3 name=cp-1 "
           "peer_address=peer:1 "
           "worker_address=worker:2 zone=aws}]}");
    assert_int_equal(ask(99, 0, "", "", 0), PO_EINVAL);
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "", "", 1001), PO_EINVAL);
}

static void test_workers_and_capabilities(void **state)
{
    (void)state;
    do_register(&w, "w2", 5, "gcp", "a:x b:y", 2);
    do_register(&w, "w1", 5, "aws", "a:x", 1);
    do_submit(&w, "", "a:x", "1", "gcp", 0, 0);
    do_submit(&w, "", "c:z", "1", "", 0, 0);
    assert_int_equal(ask(PO_QUERY_WORKERS, 0, "", "", 0), 0);
    expect("{next=nil workers=[{address=10.0.0.1:1 capabilities=[{max_concurrency=1 name=a:x "
           "requires_gpu=false running=0 "
           "version=1.0.0}] heartbeat_ms=1000 id=w1 incarnation=5 labels={} load=nil number=2 "
           "resources={} rtt_us=nil "
           "running=0 slots=nil status=online zone=aws},"
           "{address=10.0.0.1:1 capabilities=[{max_concurrency=2 name=a:x requires_gpu=false "
           "running=1 version=1.0.0},"
           "{max_concurrency=2 name=b:y requires_gpu=false running=0 version=1.0.0}] "
           "heartbeat_ms=1000 id=w2 incarnation=5 "
           "labels={} load=nil number=1 resources={} rtt_us=nil running=1 slots=nil status=online "
           "zone=gcp}]}");
    assert_int_equal(ask(PO_QUERY_WORKERS, 0, "", "", 1), 0);
    expect_part("{next=w1 ");
    assert_int_equal(ask(PO_QUERY_WORKERS, 0, "w1", "", 1), 0);
    expect_part("{next=nil ");
    expect_part("id=w2");
    assert_int_equal(ask(PO_QUERY_CAPABILITIES, 0, "", "", 0), 0);
    expect(
        "{capabilities=[{free_slots=2 input_schema=nil kinds=[{input_schema=nil output_schema=nil "
        "requires_gpu=false version=1.0.0 workers=2}] name=a:x output_schema=nil pending=0 "
        "requires_gpu=false running=1 "
        "slots=3 versions=[1.0.0] workers=2 workers_online=2},{free_slots=2 input_schema=nil "
        "kinds=[{input_schema=nil output_schema=nil requires_gpu=false version=1.0.0 workers=1}] "
        "name=b:y output_schema=nil "
        "pending=0 requires_gpu=false running=0 slots=2 versions=[1.0.0] workers=1 "
        "workers_online=1},{free_slots=0 "
        "input_schema=nil kinds=[] name=c:z output_schema=nil pending=1 requires_gpu=false "
        "running=0 "
        "slots=0 versions=[] workers=0 "
        "workers_online=0}] next=nil}");
    assert_int_equal(ask(PO_QUERY_CAPABILITIES, 0, "a:x", "", 1), 0);
    expect_part("name=b:y");
    expect_part("next=b:y}");
}

static void test_route(void **state)
{
    (void)state;
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "bad", "", 0), PO_EINVAL);
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "a:x", "", 0), PO_ENOCAPABILITY);
    do_register(&w, "w1", 5, "aws", "a:x", 1);
    do_register(&w, "w2", 5, "gcp", "a:x", 1);
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "a:x", "gcp", 0), 0);
    expect(
        "{address=10.0.0.1:1 candidates=2 capability=a:x free_slots=1 running=0 turned_down={} "
        "version=1.0.0 why=the least loaded of 2 that fit (balance): it runs 0, in the preferred "
        "zone worker_id=w2 zone=gcp}");
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "a:x", "azure", 0), 0);
    expect_part("worker_id=w1");
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "a:x", "", 0), PO_EBUSY);
    do_status(&w, "w1", 0, PO_WORKER_OFFLINE);
    do_status(&w, "w2", 0, PO_WORKER_OFFLINE);
    assert_int_equal(ask(PO_QUERY_ROUTE, 0, "a:x", "", 0), PO_ENOCAPABILITY);
}

static void test_tasks(void **state)
{
    (void)state;
    do_submit(&w, "k", "a:x", "{\"i\":1}", "gcp", 0, 0);
    do_submit(&w, "", "b:y", "2", "", 0, 0);
    w.now_ms += 10;
    do_register(&w, "w1", 5, "aws", "a:x", 1);
    do_complete(&w, 1, po__model_task(w.m, 1)->token, "w1", "\"r\"");
    assert_int_equal(ask(PO_QUERY_TASK, 3, "", "", 0), PO_ENOTFOUND);
    assert_int_equal(ask(PO_QUERY_TASK, 1, "", "", 0), 0);
    expect(
        "{attempts=1 attempts_max=3 capability=a:x checkpoint_bytes=0 concurrency_key=nil "
        "created_ms=1000000 deadline_ms=nil due_by_ms=nil error=nil finished_ms=1000010 "
        "granted_ms=1000010 id=1 input={\"i\":1} lost_attempts=0 placement=nil preferred_zone=gcp "
        "priority=0 progress=nil result=\"r\" run_id=nil state=succeeded "
        "timeout_ms=600000 token=3 worker_id=w1 zone=aws}");
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "", "", 0), 0);
    expect_part("{next=nil tasks=[{attempts=1 ");
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "", "", 1), 0);
    expect_part("{next=1 tasks=[");
    assert_int_equal(ask(PO_QUERY_TASKS, 1, "", "", 1), 0);
    expect_part("id=2");
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "pending", "", 1), 0);
    expect_part("id=2");
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "running", "", 1), 0);
    expect("{next=nil tasks=[]}");
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "runing", "", 1), PO_EINVAL);
}

static void test_runs(void **state)
{
    (void)state;
    static const char *const caps[] = {"a:x", "b:y"};
    do_register(&w, "w1", 5, "aws", "a:x", 1);
    do_define(&w, "p", caps, 2, "{\"c\":1}");
    do_run(&w, "", "p", "{\"x\":1}", "");
    w.now_ms += 7;
    do_complete(&w, 1, po__model_task(w.m, 1)->token, "w1", "\"r\"");
    assert_int_equal(ask(PO_QUERY_PIPELINES, 0, "", "", 0), 0);
    expect("{next=nil pipelines=[{defined_ms=1000000 name=p start_node=s1 steps_count=2}]}");
    assert_int_equal(ask(PO_QUERY_PIPELINE, 0, "q", "", 0), PO_ENOTFOUND);
    assert_int_equal(ask(PO_QUERY_PIPELINE, 0, "p", "", 0), 0);
    expect("{defined_ms=1000000 name=p start_node=s1 steps=[{attempts_max=3 capability=a:x "
           "config={\"c\":1} name=s1 "
           "next_node=s2 timeout_ms=600000},{attempts_max=3 capability=b:y config={\"c\":1} "
           "name=s2 next_node=nil "
           "timeout_ms=600000}]}");
    assert_int_equal(ask(PO_QUERY_RUN, 2, "", "", 0), PO_ENOTFOUND);
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    expect("{error=nil finished_ms=nil id=1 params={\"x\":1} pipeline=p result=nil "
           "started_ms=1000000 state=running "
           "steps=[{attempts=1 capability=a:x error=nil finished_ms=1000007 name=s1 "
           "started_ms=1000000 state=succeeded "
           "task_id=1 worker_id=w1 zone=aws},{attempts=0 capability=b:y error=nil finished_ms=nil "
           "name=s2 started_ms=nil "
           "state=pending task_id=2 worker_id=nil zone=nil}] zone=nil}");
    do_register(&w, "w2", 5, "gcp", "b:y", 1);
    do_complete(&w, 2, po__model_task(w.m, 2)->token, "w2", "[3]");
    do_deregister(&w, "w2", 0); /* what it did stays known */
    assert_int_equal(ask(PO_QUERY_RUN, 1, "", "", 0), 0);
    expect_part("result=[3] ");
    expect_part("task_id=2 worker_id=w2 zone=gcp");
    assert_int_equal(ask(PO_QUERY_RUNS, 0, "", "", 0), 0);
    expect("{next=nil runs=[{error=nil finished_ms=1000007 id=1 pipeline=p started_ms=1000000 "
           "state=succeeded zone=nil}]}");
}

/* However much there is, an answer stays within its bounds. */
static void test_answers_are_bounded(void **state)
{
    (void)state;
    static char error[PO_ERROR_TEXT_MAX_BYTES + 1];
    memset(error, 'e', sizeof error - 1);
    do_register(&w, "w1", 5, "aws", "a:x", 1);
    w.unchecked = true;
    for (uint64_t id = 1; id <= 1000; id++) {
        do_submit(&w, "", "a:x", "1", "", 0, 0);
        do_fail(&w, id, po__model_task(w.m, id)->token, "w1", error, false);
    }
    assert_int_equal(ask(PO_QUERY_TASKS, 0, "", "", 1000), 0);
    assert_true(out.len < PO__QUERY_TARGET_BYTES + 2 * PO_ERROR_TEXT_MAX_BYTES);
    expect_part("{next=2"); /* some 250 fit */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status), TEST(test_workers_and_capabilities), TEST(test_route), TEST(test_tasks),
        TEST(test_runs),   TEST(test_answers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
