/* As test_golden.c, for the commands of scheduling and what they leave in the state: version 0.2.
 *
 * With MODEL_GOLDEN_TASKS_DIR set, the files are written there instead: for a new format only. */
#include "golden.h"
#include "sched.h"

static uint64_t token_of(struct world *w, uint64_t id)
{
    return po__model_task(w->m, id)->token;
}

/* STEP records the command that was just applied. */
#define STEP(call) (call, record(f, w), w->now_ms += 3)

static void workers_and_placements(FILE *f, struct world *w)
{
    STEP(do_host(w, &(struct host){.id = "gpu-1",
                                   .zone = "aws",
                                   .caps = "a:x@1.2.0*3! b:y@2.0.0-rc.1*2",
                                   .labels = "disk=nvme os=linux",
                                   .resources = "gpus=2 memory_bytes=64000",
                                   .slots = 4,
                                   .incarnation = 21}));
    STEP(do_host(w,
                 &(struct host){.id = "cpu-1", .zone = "gcp", .caps = "a:x@1.3.0*2", .slots = 2}));
    STEP(do_register(w, "old-1", 5, "gcp", "a:x b:y", 1));
    STEP(do_wish_task(w, "a:x", NULL)); /* 1: of the newer form, and asks for nothing */
    STEP(do_wish_task(w, "a:x",
                      &(struct wish){.range = "^1.2 <1.3",
                                     .zone = "aws",
                                     .labels = "disk=nvme !spot os!=mac os",
                                     .resources = "gpus=1 memory_bytes=1000",
                                     .gpu = PO__GPU_REQUIRED,
                                     .prefer = PO__PREFER_BINPACK,
                                     .priority = 9,
                                     .key = "k2",
                                     .near = "gcp",
                                     .timeout_ms = 60000})); /* 2: runs on gpu-1 */
    STEP(do_wish_task(w, "a:x",
                      &(struct wish){.gpu = PO__GPU_FORBIDDEN,
                                     .prefer = PO__PREFER_SPREAD,
                                     .attempts_max = 1}));                       /* 3 */
    STEP(do_wish_task(w, "a:x", &(struct wish){.range = ">=3", .priority = 2})); /* 4: waits */
    STEP(do_wish_task(w, "a:x", &(struct wish){.range = ">=3", .key = "k5"}));   /* 5: waits */
    STEP(do_wish_task(w, "b:y", &(struct wish){.resources = "gpus=3"}));         /* 6: waits */
    STEP(do_wish_task(w, "b:y", &(struct wish){.prefer = PO__PREFER_LOCAL, .near = "aws"})); /* 7 */
}

static void times_and_keys(FILE *f, struct world *w)
{
    const struct wish one = {.gate = "db", .gate_max = 1, .keep_ms = 40};
    const struct wish rate = {.gate = "api", .rate_max = 2, .rate_ms = 700};
    STEP(do_wish_task(w, "b:y", &one));  /* 8: runs */
    STEP(do_wish_task(w, "b:y", &one));  /* 9: waits for its key */
    STEP(do_wish_task(w, "a:x", &rate)); /* 10: runs */
    STEP(do_wish_task(w, "a:x", &rate)); /* 11 */
    STEP(do_wish_task(w, "a:x", &rate)); /* 12: waits for its rate */
    STEP(do_wish_task(w, "a:x", &(struct wish){.run_at_ms = w->now_ms + 100000})); /* 13 */
    STEP(do_wish_task(w, "c:z", &(struct wish){.deadline_ms = w->now_ms + 10}));   /* 14: expires */
    STEP(
        do_wish_task(w, "c:z", &(struct wish){.deadline_ms = w->now_ms + 1000000})); /* 15: waits */
    STEP(do_submit(w, "k16", "b:y", "16", "", 1, 1000)); /* 16: of the older form */
}

static void attempts(FILE *f, struct world *w)
{
    STEP(do_checkpoint(w, 2, token_of(w, 2), "gpu-1", 250, "row 1000", 90000));
    STEP(do_fail(w, 2, token_of(w, 2), "gpu-1", "preempted", true)); /* keeps what it has */
    STEP(do_fail(w, 3, token_of(w, 3), po__model_task(w->m, 3)->worker->id, "bad input", false));
    STEP(do_complete(w, 8, token_of(w, 8), po__model_task(w->m, 8)->worker->id, "8"));
    STEP(do_cancel(w, 13));
    STEP(do_retry(w, 13)); /* scheduled again */
    STEP(do_cancel(w, 4));
    STEP(do_tick(w)); /* 14 has expired */
    STEP(do_checkpoint(w, 9, token_of(w, 9), po__model_task(w->m, 9)->worker->id, 1001, NULL, 0));
    STEP(do_fail(w, 16, token_of(w, 16), po__model_task(w->m, 16)->worker->id, "once", false));
    STEP(do_retry(w, 16)); /* it is of the newer form from now on */
    STEP(do_status(w, "cpu-1", 0, PO_WORKER_DRAINING));
    STEP(do_host(w, &(struct host){.id = "gpu-1",
                                   .zone = "aws",
                                   .caps = "a:x@1.3.0 b:y@2.0.0*2",
                                   .resources = "gpus=1",
                                   .slots = 2,
                                   .incarnation = 21})); /* with less than it had */
    w->now_ms += 500;
    STEP(do_tick(w)); /* 8 is forgotten, the rate has a token, waits are over */
    STEP(do_retry(w, 3));
    STEP(
        do_wish_task(w, "a:x", &(struct wish){.gate = "mail", .rate_max = 1, .rate_ms = 86400000}));
}

static void write_files(const char *dir)
{
    struct world world, *w = &world;
    struct po__buf bytes = {0};
    FILE *f = open_in(dir, "v0.2-tasks-entries.inc");
    world_open(w, NULL);
    workers_and_placements(f, w);
    times_and_keys(f, w);
    attempts(f, w);
    fclose(f);
    snapshot(w->m, &bytes);
    f = open_in(dir, "v0.2-tasks-snapshot.inc");
    hex(f, bytes.data, bytes.len);
    fclose(f);
    f = open_in(dir, "v0.2-tasks-digest.inc");
    fprintf(f, "#define GOLDEN_TASKS_DIGEST 0x%016llxULL\n", (unsigned long long)digest(w->m));
    fclose(f);
    po__buf_fini(&bytes);
    world_close(w);
}

static void test_entries(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(apply_entries(w.m, golden_tasks_entries, NULL), 0);
    world_check(&w);
    assert_true(digest(w.m) == GOLDEN_TASKS_DIGEST);
    world_close(&w);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    expect_snapshot(&w, golden_tasks_snapshot, GOLDEN_TASKS_DIGEST);
    world_close(&w);
}

/* The files show what they are for: something of each kind is in the state. */
static void test_what_is_in_it(void **state)
{
    (void)state;
    struct world w;
    struct po__model_counts c;
    world_open(&w, NULL);
    assert_int_equal(apply_entries(w.m, golden_tasks_entries, NULL), 0);
    po__model_counts(w.m, &c);
    assert_true(c.tasks_pending && c.tasks_scheduled && c.tasks_running && c.tasks_finished);
    assert_null(po__model_task(w.m, 8)); /* it was to be kept for 40 ms */
    assert_int_equal(po__model_task(w.m, 13)->state, PO_TASK_SCHEDULED);
    assert_int_equal(po__model_task(w.m, 14)->state, PO_TASK_FAILED);
    assert_int_equal(po__model_task(w.m, 12)->state, PO_TASK_PENDING);
    assert_int_equal(po__model_task(w.m, 2)->attempt, 1);
    assert_true(po__model_next_due_ms(w.m) != UINT64_MAX);
    world_close(&w);
}

int main(void)
{
    const char *dir = getenv("MODEL_GOLDEN_TASKS_DIR");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_what_is_in_it),
    };
    if (dir) {
        write_files(dir);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
