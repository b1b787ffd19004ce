/* Why a task waits (EXPLAIN), who was turned down and for what (ROUTE with a placement), and
 * whether a token still counts (FENCE). */
#include "answer.h"

static int explain(uint64_t id)
{
    return ask(PO_QUERY_EXPLAIN, id, "", "", 0);
}

/* The only task wants what x says, and h is the only worker: its reason and its sentence. */
static void expect_reason(const struct host *h, uint32_t status, const struct wish *x,
                          const char *part)
{
    world_close(&w);
    world_open(&w, NULL);
    assert_int_equal(do_host(&w, h), 0);
    if (status)
        assert_int_equal(do_status(&w, h->id, 0, status), 0);
    assert_int_equal(do_wish_task(&w, "a:x", x), 0);
    assert_int_equal(po__model_task(w.m, w.result.id)->state, PO_TASK_PENDING);
    assert_int_equal(explain(w.result.id), 0);
    expect_part(part);
    expect_part(
        "state=pending waits_for=worker why=it is the next of its kind; no worker can take it now");
}

static void test_every_reason(void **state)
{
    (void)state;
    const struct host plain = {.id = "w1", .zone = "aws", .caps = "a:x@1.2.3"};
    const struct host other = {.id = "w1", .caps = "b:y"};
    const struct host gpu = {.id = "w1", .caps = "a:x!"};
    const struct host labelled = {.id = "w1", .caps = "a:x", .labels = "disk=hdd os=linux"};
    expect_reason(&other, 0, NULL, "{reason=capability why=it does not offer a:x worker_id=w1}");
    expect_reason(&plain, PO_WORKER_OFFLINE, NULL,
                  "{reason=offline why=the worker is offline worker_id=w1}");
    expect_reason(&plain, PO_WORKER_DRAINING, NULL,
                  "{reason=draining why=the worker drains: it takes nothing new worker_id=w1}");
    expect_reason(&plain, 0, &(struct wish){.zone = "gcp"},
                  "{reason=zone why=zone is aws; gcp is asked for worker_id=w1}");
    expect_reason(&plain, 0, &(struct wish){.gpu = PO__GPU_REQUIRED},
                  "{reason=gpu why=it runs without a gpu; that is required worker_id=w1}");
    expect_reason(&gpu, 0, &(struct wish){.gpu = PO__GPU_FORBIDDEN},
                  "{reason=gpu why=it runs on a gpu; that is forbidden worker_id=w1}");
    expect_reason(&plain, 0, &(struct wish){.range = "^1.3"},
                  "{reason=version why=version 1.2.3 is not in ^1.3 worker_id=w1}");
    expect_reason(&labelled, 0, &(struct wish){.labels = "os disk=nvme"},
                  "{reason=label why=label disk is \"hdd\"; = \"nvme\" is asked for worker_id=w1}");
    expect_reason(&labelled, 0, &(struct wish){.labels = "disk!=hdd"},
                  "{reason=label why=label disk is \"hdd\"; != \"hdd\" is asked for worker_id=w1}");
    expect_reason(&labelled, 0, &(struct wish){.labels = "arch=arm"},
                  "{reason=label why=label arch is missing; = \"arm\" is asked for worker_id=w1}");
    expect_reason(&labelled, 0, &(struct wish){.labels = "arch"},
                  "{reason=label why=label arch must be there worker_id=w1}");
    expect_reason(&labelled, 0, &(struct wish){.labels = "!os"},
                  "{reason=label why=label os must not be there worker_id=w1}");
    expect_reason(&plain, 0, &(struct wish){.resources = "gpus=1"},
                  "{reason=resource why=1 of gpus are asked for; 0 of 0 are free worker_id=w1}");
}

/* Reasons that others' leases make. */
static void test_reasons_of_use(void **state)
{
    (void)state;
    do_host(&w,
            &(struct host){.id = "w1", .caps = "a:x*2 b:y*2", .resources = "gpus=3", .slots = 3});
    do_wish_task(&w, "a:x", &(struct wish){.resources = "gpus=2"});
    do_wish_task(&w, "a:x", &(struct wish){.resources = "gpus=2"}); /* 2 */
    assert_int_equal(explain(2), 0);
    expect(
        "{capability=a:x id=2 next=nil state=pending waits_for=worker why=it is the next of its "
        "kind; no worker can take it now workers=[{reason=resource why=2 of gpus are asked for; 1 "
        "of 3 are free worker_id=w1}]}");
    do_wish_task(&w, "a:x", NULL); /* 3: runs */
    do_wish_task(&w, "a:x", NULL); /* 4 */
    do_wish_task(&w, "a:x", NULL); /* 5 */
    assert_int_equal(explain(4), 0);
    expect_part("{reason=slots why=2 of 2 slots of the capability are taken worker_id=w1}");
    assert_int_equal(explain(5), 0);
    expect_part("waits_for=worker why=no worker can take it now, and task 4 of the same kind is "
                "ahead ");
    do_wish_task(&w, "b:y", NULL); /* 6: runs; the worker is full */
    do_wish_task(&w, "b:y", NULL); /* 7 */
    assert_int_equal(explain(7), 0);
    expect_part("{reason=worker_slots why=3 of 3 slots of the worker are taken worker_id=w1}");
}

static void test_keys_and_times(void **state)
{
    (void)state;
    const struct wish one = {.gate = "db", .gate_max = 1};
    const struct wish rate = {.gate = "api", .rate_max = 1, .rate_ms = 250};
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x*8"});
    do_wish_task(&w, "a:x", &one);
    do_wish_task(&w, "a:x", &one);
    assert_int_equal(explain(1), 0);
    expect("{capability=a:x id=1 next=nil state=running waits_for=nil why=it runs on w1 since its "
           "attempt 1 was granted workers=[]}");
    assert_int_equal(explain(2), 0);
    expect(
        "{capability=a:x id=2 next=nil state=pending waits_for=key why=concurrency key db: 1 of 1 "
        "tasks run workers=[{reason=fits why=it has room: 1 of 8 slots are taken worker_id=w1}]}");
    do_wish_task(&w, "a:x", &rate);
    do_wish_task(&w, "a:x", &rate);
    assert_int_equal(explain(4), 0);
    expect_part("waits_for=key why=concurrency key api: its rate of 1 per 250 ms is used up until "
                "1000250 workers=[{reason=fits ");
    do_wish_task(&w, "a:x", &(struct wish){.run_at_ms = 1000500});
    assert_int_equal(explain(5), 0);
    expect(
        "{capability=a:x id=5 next=nil state=scheduled waits_for=time why=it waits for its time at "
        "1000500 workers=[]}");
    do_fail(&w, 1, po__model_task(w.m, 1)->token, "w1", "no", true);
    assert_int_equal(explain(1), 0);
    expect_part("state=scheduled waits_for=time why=it waits for its next attempt at 1000");
    do_cancel(&w, 5);
    assert_int_equal(explain(5), 0);
    expect_part("state=cancelled waits_for=nil why=it is finished: cancelled workers=[]}");
    assert_int_equal(explain(6), PO_ENOTFOUND);
}

static void test_pages(void **state)
{
    (void)state;
    char id[8];
    for (unsigned i = 1; i <= 5; i++) {
        snprintf(id, sizeof id, "w%u", i);
        do_host(&w, &(struct host){.id = id, .caps = "b:y"});
    }
    do_wish_task(&w, "a:x", NULL);
    assert_int_equal(ask(PO_QUERY_EXPLAIN, 1, "", "", 2), 0);
    expect_part("next=w2 ");
    assert_int_equal(ask(PO_QUERY_EXPLAIN, 1, "w2", "", 2), 0);
    expect_part("next=w4 ");
    expect_part("worker_id=w3},");
    assert_int_equal(ask(PO_QUERY_EXPLAIN, 1, "w4", "", 2), 0);
    expect_part("next=nil ");
    expect_part("workers=[{reason=capability why=it does not offer a:x worker_id=w5}]}");
}

static int route(const struct wish *x)
{
    struct po__buf b = {0};
    struct po__placement p;
    placement_of(&p, x);
    po__placement_encode(&b, &p);
    const struct po__query q = {.what = PO_QUERY_ROUTE,
                                .name = po__str("a:x"),
                                .name2 = text_of(x->near),
                                .placement = po__buf_slice(&b)};
    int rv = ask_query(&q);
    po__buf_fini(&b);
    return rv;
}

static void test_route(void **state)
{
    (void)state;
    do_host(&w,
            &(struct host){.id = "gpu", .zone = "aws", .caps = "a:x@1.2.0*2!", .labels = "k=1"});
    do_host(&w, &(struct host){.id = "old", .zone = "gcp", .caps = "a:x@0.9.0*2"});
    do_host(&w, &(struct host){.id = "off", .zone = "aws", .caps = "a:x@1.2.0*2"});
    do_host(&w, &(struct host){.id = "drain", .zone = "aws", .caps = "a:x@1.2.0*2"});
    do_host(&w, &(struct host){.id = "full", .zone = "gcp", .caps = "a:x@1.0.0", .slots = 1});
    do_host(&w, &(struct host){.id = "wide", .zone = "gcp", .caps = "a:x@1.0.0*4 b:y", .slots = 1});
    do_wish_task(&w, "a:x", &(struct wish){.range = "1.0.0"}); /* full, which is first */
    do_wish_task(&w, "b:y", NULL);                             /* wide */
    do_status(&w, "off", 0, PO_WORKER_OFFLINE);
    do_status(&w, "drain", 0, PO_WORKER_DRAINING);
    assert_int_equal(route(&(struct wish){.gpu = PO__GPU_REQUIRED, .near = "gcp"}), 0);
    expect(
        "{address=10.0.0.1:1 candidates=1 capability=a:x free_slots=2 running=0 "
        "turned_down={draining=1 gpu=3 offline=1} version=1.2.0 why=the least loaded of 1 that fit "
        "(balance): it runs 0, not in the preferred zone worker_id=gpu zone=aws}");
    assert_int_equal(route(&(struct wish){.range = ">=1", .labels = "!k"}), PO_EBUSY);
    assert_int_equal(route(&(struct wish){.range = ">=2"}), PO_ENOCAPABILITY);
    assert_string_equal(message, "no online worker that offers this capability satisfies the "
                                 "version range and the placement; relax them, or register one");
    assert_int_equal(
        route(&(struct wish){.range = "0.9 || 1", .zone = "gcp", .prefer = PO__PREFER_BINPACK}), 0);
    expect_part("turned_down={draining=1 offline=1 slots=1 worker_slots=1 zone=1} version=0.9.0 "
                "why=the most loaded that has room of 1 that fit (binpack): it runs 0 ");
    assert_int_equal(route(&(struct wish){.labels = "!k", .prefer = PO__PREFER_SPREAD}), 0);
    expect_part("turned_down={draining=1 label=1 offline=1 slots=1 worker_slots=1} ");
    expect_part("why=in the zone with the fewest tasks of 1 that fit (spread)");
    assert_int_equal(route(&(struct wish){.range = "^^1"}), PO_EINVAL);
    const struct po__query bad = {
        .what = PO_QUERY_ROUTE, .name = po__str("a:x"), .placement = po__str("\xc1")};
    assert_int_equal(ask_query(&bad), PO_EINVAL);
}

static int fence(uint64_t id, uint64_t token)
{
    const struct po__query q = {.what = PO_QUERY_FENCE, .id = id, .token = token};
    return ask_query(&q);
}

static void test_fence(void **state)
{
    (void)state;
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x"});
    assert_int_equal(fence(1, 1), PO_ESTALE);
    do_wish_task(&w, "a:x", &(struct wish){.timeout_ms = 5000});
    uint64_t token = po__model_task(w.m, 1)->token;
    assert_int_equal(fence(1, token), 0);
    expect("{attempt=1 deadline_ms=1005000 token=2 worker_id=w1}");
    assert_int_equal(fence(1, token + 1), PO_ESTALE);
    assert_int_equal(fence(1, 0), PO_ESTALE);
    do_host(&w, &(struct host){.id = "w1", .caps = "a:x", .incarnation = 2}); /* lost, and anew */
    assert_int_equal(fence(1, token), PO_ESTALE);
    token = po__model_task(w.m, 1)->token;
    assert_int_equal(fence(1, token), 0);
    expect_part("{attempt=2 ");
    do_fail(&w, 1, token, "w1", "no", true); /* scheduled: nobody holds it */
    assert_int_equal(fence(1, token), PO_ESTALE);
    w.now_ms += PO__RETRY_DELAY_MAX_MS;
    do_tick(&w);
    token = po__model_task(w.m, 1)->token;
    assert_int_equal(fence(1, token), 0);
    do_complete(&w, 1, token, "w1", "1");
    assert_int_equal(fence(1, token), PO_ESTALE);
    assert_non_null(strstr(message, "stop, and leave no side effects"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_reason), TEST(test_reasons_of_use), TEST(test_keys_and_times),
        TEST(test_pages),        TEST(test_route),          TEST(test_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
