/* Results that are kept for equal inputs. */
#include "graph_fixture.h"

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

static void join(const char *id, uint64_t incarnation, const char *version)
{
    w.cmd.type = PO__CMD_WORKER_REGISTER;
    w.cmd.worker_register.id = po__str(id);
    w.cmd.worker_register.address = po__str("10.0.0.1:1");
    w.cmd.worker_register.zone = po__str("aws");
    w.cmd.worker_register.incarnation = incarnation;
    w.cmd.worker_register.heartbeat_ms = 1000;
    w.cmd.worker_register.labels_count = 0;
    w.cmd.worker_register.caps[0] =
        (struct po__cap){.name = po__str("a:x"), .version = po__str(version), .max_concurrency = 4};
    w.cmd.worker_register.caps_count = 1;
    assert_int_equal(apply(&w), 0);
}

static const struct gparam n_param[] = {{"n", PO__PARAM_ANY, true, NULL}};
static const struct gstep one[] = {
    {.name = "a", .work = "a:x", .input = "\"${params.n}\"", .cache = true}};

static uint64_t run(const char *params)
{
    assert_int_equal(do_run(&w, "", "p", params, ""), 0);
    return w.result.id;
}

static void define(const struct gstep *steps, uint32_t n)
{
    assert_int_equal(define_graph(&w, "p", steps, n, n_param, 1, NULL), 0);
}

static void test_a_hit(void **state)
{
    (void)state;
    join("w1", 1, "1.0.0");
    define(one, 1);
    complete_step(&w, run("{\"n\":7}"), "a", "\"seven\"");
    uint64_t second = run("{\"n\":7}");
    expect_run(&w, second, PO_RUN_SUCCEEDED); /* at once */
    assert_null(po__model_task(w.m, 2));
    expect_text(result_of(&w, second), "\"seven\"");
    assert_true(step_of(&w, second, "a")->cached);
    assert_int_equal(step_of(&w, second, "a")->id, 1); /* who made it */
    expect_run(&w, run("{\"n\":8}"), PO_RUN_RUNNING);  /* another input */
    swap_by_snapshot(&w);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_SUCCEEDED);
    do_deregister(&w, "w1", 0);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_RUNNING); /* nobody to say which version it would be */
}

static void test_steps_that_do_not_ask_for_it(void **state)
{
    (void)state;
    static const struct gstep plain[] = {{.name = "a", .work = "a:x", .input = "\"${params.n}\""}};
    join("w1", 1, "1.0.0");
    define(plain, 1);
    complete_step(&w, run("{\"n\":7}"), "a", "1");
    assert_int_equal(w.m->cache.by_id.count, 0);
    define(one, 1);
    complete_step(&w, run("{\"n\":7}"), "a", "2");
    assert_int_equal(w.m->cache.by_id.count, 1);
    define(plain, 1);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_RUNNING);
    fail_step(&w, 3, "a", "no"); /* and failures are not kept */
    define(one, 1);
    fail_step(&w, run("{\"n\":9}"), "a", "no");
    assert_int_equal(w.m->cache.by_id.count, 1);
}

static void test_versions(void **state)
{
    (void)state;
    struct po__placement place = {.range = po__str("^1")};
    struct po__buf bytes = {0};
    po__placement_encode(&bytes, &place);
    const struct po__extra extra = {.placement = po__buf_slice(&bytes)};
    const struct gstep ranged[] = {
        {.name = "a", .work = "a:x", .input = "\"${params.n}\"", .cache = true, .extra = &extra}};
    join("w1", 1, "1.0.0");
    define(one, 1);
    complete_step(&w, run("{\"n\":7}"), "a", "1");
    join("w2", 1, "2.0.0");
    expect_run(&w, run("{\"n\":7}"), PO_RUN_RUNNING); /* a newer version would get it */
    define(ranged, 1);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_SUCCEEDED); /* which this step does not allow */
    define(one, 1);
    do_status(&w, "w2", 0, PO_WORKER_DRAINING);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_SUCCEEDED);
    do_status(&w, "w2", 0, PO_WORKER_ONLINE);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_RUNNING);
    swap_by_snapshot(&w);
    do_status(&w, "w2", 0, PO_WORKER_OFFLINE);
    expect_run(&w, run("{\"n\":7}"), PO_RUN_SUCCEEDED);
    join("w1", 2, "1.1.0"); /* a worker is upgraded */
    expect_run(&w, run("{\"n\":7}"), PO_RUN_RUNNING);
    po__buf_fini(&bytes);
}

static void test_age(void **state)
{
    (void)state;
    static const struct gstep young[] = {
        {.name = "a", .work = "a:x", .input = "\"${params.n}\"", .cache = true, .cache_ms = 100}};
    join("w1", 1, "1.0.0");
    define(young, 1);
    complete_step(&w, run("{\"n\":7}"), "a", "1");
    w.now_ms += 100;
    expect_run(&w, run("{\"n\":7}"), PO_RUN_SUCCEEDED); /* a use does not make it younger */
    w.now_ms += 1;
    uint64_t third = run("{\"n\":7}");
    expect_run(&w, third, PO_RUN_RUNNING);
    complete_step(&w, third, "a", "2"); /* takes the place of the old one */
    assert_int_equal(w.m->cache.by_id.count, 1);
    expect_text(result_of(&w, run("{\"n\":7}")), "2");
}

/* The elements of a map one by one; 1,000 hits in a row are no recursion. */
static void test_maps_and_chains_of_hits(void **state)
{
    (void)state;
    static const struct gstep map[] = {{.name = "m",
                                        .work = "a:x",
                                        .map = "\"${params.n}\"",
                                        .input = "\"${item}\"",
                                        .cache = true}};
    static struct gstep chain[1000];
    static char names[1000][8];
    join("w1", 1, "1.0.0");
    define(map, 1);
    run("{\"n\":[1,2,1]}");
    finish_task(&w, 1, "\"one\"", NULL);
    finish_task(&w, 2, "\"two\"", NULL);
    finish_task(&w, 3, "\"one again\"", NULL);
    uint64_t second = run("{\"n\":[2,1,3,2]}");
    assert_null(po__model_task(w.m, 5));
    finish_task(&w, 4, "\"three\"", NULL);
    expect_text(result_of(&w, second), "[\"two\",\"one again\",\"three\",\"two\"]");
    for (int i = 0; i < 1000; i++) {
        sprintf(names[i], "s%d", i);
        chain[i] = (struct gstep){.name = names[i],
                                  .work = "a:x",
                                  .needs = i ? names[i - 1] : NULL,
                                  .input = "2",
                                  .cache = true};
    }
    define(chain, 1000);
    expect_run(&w, run("{\"n\":0}"), PO_RUN_SUCCEEDED);
    assert_null(po__model_task(w.m, 5));
}

/* The one that was not used for longest goes first. */
static void test_what_is_kept_is_bounded(void **state)
{
    (void)state;
    char params[64];
    static char big[PO_PAYLOAD_MAX_BYTES - 10];
    memset(big, 'x', sizeof big - 1);
    big[0] = big[sizeof big - 2] = '"';
    join("w1", 1, "1.0.0");
    define(one, 1);
    w.unchecked = true;
    for (int i = 0; i < 63; i++) {
        snprintf(params, sizeof params, "{\"n\":%d}", i);
        w.now_ms++;
        complete_step(&w, run(params), "a", big);
    }
    w.now_ms++;
    expect_run(&w, run("{\"n\":0}"), PO_RUN_SUCCEEDED); /* used again */
    for (int i = 63; i < 66; i++) {
        snprintf(params, sizeof params, "{\"n\":%d}", i);
        w.now_ms++;
        complete_step(&w, run(params), "a", big);
    }
    world_check(&w);
    assert_true(w.m->cache.bytes <= PO__CACHE_MAX_BYTES);
    expect_run(&w, run("{\"n\":0}"), PO_RUN_SUCCEEDED);
    expect_run(&w, run("{\"n\":1}"), PO_RUN_RUNNING);
    swap_by_snapshot(&w);
}

/* A view that is being written holds what was there when it began. */
static void test_snapshots_in_slices(void **state)
{
    (void)state;
    struct po__buf whole = {0}, sliced = {0};
    join("w1", 1, "1.0.0");
    define(one, 1);
    for (int i = 0; i < 5; i++) {
        char params[32];
        snprintf(params, sizeof params, "{\"n\":%d}", i);
        complete_step(&w, run(params), "a", "\"some result\"");
    }
    snapshot(w.m, &whole);
    assert_int_equal(po__model_snapshot_begin(w.m), 0);
    int rv = 0;
    for (int i = 0; rv == 0; i++) {
        char params[32];
        snprintf(params, sizeof params, "{\"n\":%d}", i % 7);
        w.now_ms++;
        uint64_t id = run(params); /* hits, and new results */
        if (run_of(&w, id)->state == PO_RUN_RUNNING)
            complete_step(&w, id, "a", "\"another\"");
        rv = po__model_snapshot_step(w.m, &sliced, 100);
    }
    assert_int_equal(rv, 1);
    assert_int_equal(whole.len, sliced.len);
    assert_memory_equal(whole.data, sliced.data, whole.len);
    po__buf_fini(&whole);
    po__buf_fini(&sliced);
}

static int one_life(uint64_t fail_at)
{
    static struct po__cmd cmd;
    uint64_t id = run("{\"n\":7}");
    const struct po__task *t = po__model_task(w.m, 1);
    cmd = (struct po__cmd){.type = PO__CMD_TASK_COMPLETE,
                           .complete = {1, t->token, po__str("w1"), po__str("5")}};
    po__alloc_fail_at(fail_at);
    int rv = po__model_apply(w.m, ++w.index, w.now_ms, &cmd, &w.result, NULL);
    po__alloc_fail_at(0);
    if (!rv)
        expect_run(&w, id, PO_RUN_SUCCEEDED);
    return rv;
}

static void test_no_memory(void **state)
{
    (void)state;
    uint64_t n = 0;
    int rv;
    do {
        world_close(&w);
        world_open(&w, NULL);
        join("w1", 1, "1.0.0");
        define(one, 1);
        rv = one_life(++n);
        assert_true(rv == 0 || rv == PO_ENOMEM);
    } while (rv);
    assert_true(n > 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_hit),
        TEST(test_steps_that_do_not_ask_for_it),
        TEST(test_versions),
        TEST(test_age),
        TEST(test_maps_and_chains_of_hits),
        TEST(test_what_is_kept_is_bounded),
        TEST(test_snapshots_in_slices),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
