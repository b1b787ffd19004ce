/* What version 0.2 wrote of graphs is readable for ever and means the same: its log entries and its
 * snapshot give one and the same state, whose digest is known.
 *
 * With MODEL_GOLDEN_DIR set, the files are written there instead: for a new format only. */
#include "graph_fixture.h"
#include "hex.h"

#pragma GCC diagnostic ignored "-Woverlength-strings" /* files, not literals of a program */

static const char entries[] =
#include "golden/v0.2-graph-entries.inc"
    ;
static const char whole[] =
#include "golden/v0.2-graph-snapshot.inc"
    ;
#include "golden/v0.2-graph-digest.inc"

/* Steps of every kind. */
static void define(FILE *f, struct world *w)
{
    static const struct gparam params[] = {{"n", PO__PARAM_INTEGER, true, NULL},
                                           {"list", PO__PARAM_ARRAY, false, "[1,{\"two\":2}]"}};
    static const struct gstep child[] = {{.name = "only",
                                          .work = "b:y",
                                          .input = "\"${params.n}\"",
                                          .cache = true,
                                          .cache_ms = 9000}};
    static const struct po__extra extra = {.priority = 3, .retry_ms = 700};
    static const struct gstep steps[] = {
        {.name = "fetch", .work = "a:x", .config = "{\"c\":1}", .attempts = 2, .timeout_ms = 5000},
        {.name = "each",
         .work = "b:y",
         .needs = "fetch",
         .map = "\"${params.list}\"",
         .parallel = 1,
         .input = "{\"item\":\"${item}\",\"i\":\"${index}\",\"of\":\"${steps.fetch.output}\"}",
         .extra = &extra,
         .on_failure = PO__ON_FAILURE_CONTINUE},
        {.name = "sub", .work = "child", .needs = "fetch", .input = "{\"n\":\"${params.n}\"}"},
        {.name = "odd", .work = "a:x", .needs = "fetch", .when = "params.n == 3"},
        {.name = "join", .work = "a:x", .needs = "each sub odd", .join = PO__JOIN_ANY_SUCCEEDED},
        {.name = "clean", .work = "a:x", .needs = "join", .join = PO__JOIN_ALL_DONE}};
    static const char *const caps[] = {"a:x", "b:y"};
    define_graph(w, "child", child, 1, params, 1, NULL), record(f, w);
    define_graph(w, "p", steps, 6, params, 2, "{\"all\":\"${steps.each.output}\"}"), record(f, w);
    do_define(w, "chain", caps, 2, ""), record(f, w);
}

static void end(FILE *f, struct world *w, uint64_t id, const char *result, const char *error)
{
    finish_task(w, id, result, error);
    record(f, w);
    w->now_ms += 3;
}

static void history(FILE *f, struct world *w)
{
    do_register(w, "w1", 1, "aws", "a:x b:y", 3), record(f, w);
    do_register(w, "w2", 1, "gcp", "b:y", 1), record(f, w);
    define(f, w);
    do_start(w, "r1", "p", "{\"n\":2}", "gcp", 5), record(f, w); /* 1, and its child 2: succeed */
    end(f, w, 1, "[1]", NULL);
    end(f, w, task_of(w, 2, "only"), "\"made\"", NULL);
    end(f, w, 2, "\"e0\"", NULL);
    end(f, w, 4, NULL, "second element");
    end(f, w, task_of(w, 1, "join"), "{\"j\":1}", NULL);
    end(f, w, task_of(w, 1, "clean"), "null", NULL);
    do_start(w, "r3", "p", "{\"n\":3,\"list\":[]}", "", 0), record(f, w); /* 3: fails */
    end(f, w, task_of(w, 3, "fetch"), "{}", NULL);
    end(f, w, task_of(w, 3, "odd"), NULL, "odd indeed");
    do_resume(w, "r5", 3, ""), record(f, w);           /* under way, mostly reused */
    do_run(w, "", "p", "{\"n\":7}", ""), record(f, w); /* cancelled, with its child */
    end(f, w, task_of(w, 7, "fetch"), "0", NULL);
    do_run_cancel(w, 7), record(f, w);
    do_run(w, "", "p", "{\"n\":2,\"list\":[1,2,3]}", ""), record(f, w); /* in the middle of a map */
    end(f, w, task_of(w, 9, "fetch"), "true", NULL);                    /* its child is cached */
    end(f, w, run_of(w, 9)->more->steps[1].map->items[0].id, "\"first\"", NULL);
    do_start(w, "", "chain", "[1]", "", 2), record(f, w); /* a chain with more, resumed */
    end(f, w, run_of(w, 11)->steps[0].task_id, "1", NULL);
    do_run_cancel(w, 11), record(f, w);
    do_resume(w, "r12", 11, ""), record(f, w);
    do_tick(w), record(f, w);
}

static void write_files(void **state)
{
    (void)state;
    const char *dir = getenv("MODEL_GOLDEN_DIR");
    struct world w;
    struct po__buf bytes = {0};
    FILE *f = open_in(dir, "v0.2-graph-entries.inc");
    world_open(&w, NULL);
    history(f, &w);
    fclose(f);
    snapshot(w.m, &bytes);
    f = open_in(dir, "v0.2-graph-snapshot.inc");
    hex(f, bytes.data, bytes.len);
    fclose(f);
    f = open_in(dir, "v0.2-graph-digest.inc");
    fprintf(f, "#define GRAPH_DIGEST 0x%016llxULL\n", (unsigned long long)digest(w.m));
    fclose(f);
    po__buf_fini(&bytes);
    world_close(&w);
}

static void test_entries(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(apply_entries(w.m, entries, NULL), 0);
    world_check(&w);
    assert_true(digest(w.m) == GRAPH_DIGEST);
    expect_run(&w, 1, PO_RUN_SUCCEEDED);
    expect_text(result_of(&w, 1), "{\"all\":[\"e0\",null]}");
    expect_run(&w, 3, PO_RUN_FAILED);
    expect_step(&w, 9, "each", PO__STEP_RUNNING);
    assert_true(step_of(&w, 10, "only")->cached && step_of(&w, 5, "fetch")->reused);
    world_close(&w);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    expect_snapshot(&w, whole, GRAPH_DIGEST);
    world_close(&w);
}

/* Nothing in a snapshot is believed: with any byte changed it gives a state whose relations hold,
 * or it is refused. */
static void test_a_changed_byte(void **state)
{
    (void)state;
    struct po__buf bytes = {0};
    const char *at = whole;
    unhex_line(&at, &bytes);
    unsigned refused = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        static const uint8_t changes[] = {0x01, 0x80, 0xff};
        for (size_t k = 0; k < sizeof changes; k++) {
            struct world w;
            world_open(&w, NULL);
            bytes.data[i] ^= changes[k];
            int rv = restore(w.m, bytes.data, bytes.len, 1 << 20);
            bytes.data[i] ^= changes[k];
            assert_true(rv == 0 || rv == PO_ECORRUPT || rv == PO_EVERSION);
            refused += rv != 0;
            world_close(&w);
        }
    }
    assert_true(refused > bytes.len);
    po__buf_fini(&bytes);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct po__buf bytes = {0};
    const char *at = whole;
    unhex_line(&at, &bytes);
    for (uint64_t n = 1;; n++) {
        struct world w;
        world_open(&w, NULL);
        po__alloc_fail_at(n);
        int rv = restore(w.m, bytes.data, bytes.len, 500);
        po__alloc_fail_at(0);
        world_close(&w);
        if (!rv)
            break;
        assert_int_equal(rv, PO_ENOMEM);
    }
    po__buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest writing[] = {cmocka_unit_test(write_files)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_a_changed_byte),
        cmocka_unit_test(test_no_memory),
    };
    if (getenv("MODEL_GOLDEN_DIR"))
        return cmocka_run_group_tests(writing, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
