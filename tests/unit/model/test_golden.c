/* What version 0.1 wrote is readable for ever and means the same: its log entries and its snapshot
 * give one and the same state, whose digest is known.
 *
 * With MODEL_GOLDEN_DIR set, the files are written there instead: for a new format only. */
#include "golden.h"

static struct journal j;
static struct po_state_machine sm;

/* Every type of command, and objects in every state. */
static void history(FILE *f, struct world *w)
{
    static const char *const caps[] = {"a:x", "b:y", "a:x"};
    uint64_t t;
#define STEP(call) (call, record(f, w), w->now_ms += 3)
#define TOKEN(id)  po__model_task(w->m, id)->token
    STEP(do_member(w, 1, "cp-aws-1", "0123456789abcdef"));
    STEP(do_member(w, 2, "cp-gcp-1", "fedcba9876543210"));
    STEP(do_register(w, "worker-aws-1", 11, "aws", "a:x b:y", 2));
    STEP(do_register(w, "worker-gcp-1", 12, "gcp", "a:x", 1));
    STEP(do_register(w, "worker-old", 13, "", "b:y", 1));
    STEP(do_submit(w, "k1", "a:x", "{\"n\":1}", "gcp", 0, 0)); /* 1: succeeds */
    STEP(do_submit(w, "k2", "a:x", "[2]", "", 2, 5000));       /* 2: scheduled after a failure */
    STEP(do_submit(w, "", "b:y", "3", "", 1, 1000));           /* 3: fails */
    STEP(do_submit(w, "", "b:y", "4", "", 0, 0));              /* 4: loses its worker */
    STEP(do_submit(w, "k5", "c:z", "5", "azure", 0, 0));       /* 5: pending for ever */
    STEP(do_submit(w, "", "c:z", "6", "", 0, 0));              /* 6: cancelled */
    STEP(do_define(w, "energy", caps, 3, "{\"c\":1}"));
    STEP(do_run(w, "r1", "energy", "{\"year\":2018}", "aws")); /* 1: succeeds */
    STEP(do_complete(w, 1, TOKEN(1), "worker-gcp-1", "\"r\""));
    STEP(do_fail(w, 2, TOKEN(2), po__model_task(w->m, 2)->worker->id, "try again", true));
    STEP(
        do_fail(w, 3, TOKEN(3), po__model_task(w->m, 3)->worker->id, "row 7: not a number", false));
    STEP(do_cancel(w, 6));
    STEP(do_deregister(w, "worker-old", 13));
    t = 7;
    for (int i = 0; i < 3; i++, t++) {
        assert_int_equal(po__model_task(w->m, t)->state, PO_TASK_RUNNING);
        STEP(do_complete(w, t, TOKEN(t), po__model_task(w->m, t)->worker->id, "[1,2]"));
    }
    STEP(do_run(w, "", "energy", "", ""));    /* 2: running, with the old definition */
    STEP(do_run(w, "r3", "energy", "1", "")); /* 3: cancelled */
    STEP(do_define(w, "energy", caps, 2, ""));
    STEP(do_run_cancel(w, 3));
    STEP(do_status(w, "worker-gcp-1", 0, PO_WORKER_DRAINING));
    STEP(do_register(w, "worker-aws-1", 14, "aws", "a:x b:y", 3));
    STEP(do_extend(w, 4, TOKEN(4), "worker-aws-1", 60000));
    STEP(do_app(w, "app-1", "hello "));
    STEP(do_app(w, "", "world"));
    STEP(do_tick(w));
#undef STEP
#undef TOKEN
}

static void write_files(const char *dir)
{
    struct world w;
    struct po__buf bytes = {0};
    FILE *f = open_in(dir, "v0.1-entries.inc");
    world_open(&w, &sm);
    history(f, &w);
    fclose(f);
    snapshot(w.m, &bytes);
    f = open_in(dir, "v0.1-snapshot.inc");
    hex(f, bytes.data, bytes.len);
    fclose(f);
    f = open_in(dir, "v0.1-digest.inc");
    fprintf(f, "#define GOLDEN_DIGEST 0x%016llxULL\n", (unsigned long long)digest(w.m));
    fclose(f);
    po__buf_fini(&bytes);
    world_close(&w);
}

static void test_entries(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, &sm);
    assert_int_equal(apply_golden(w.m, NULL), 0);
    world_check(&w);
    assert_true(digest(w.m) == GOLDEN_DIGEST);
    world_close(&w);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, &sm);
    expect_snapshot(&w, golden_snapshot, GOLDEN_DIGEST);
    assert_memory_equal(j.text, "hello world", 11);
    world_close(&w);
}

static int setup(void **state)
{
    (void)state;
    memset(&j, 0, sizeof j);
    sm = journal_machine(&j);
    return 0;
}

int main(void)
{
    const char *dir = getenv("MODEL_GOLDEN_DIR");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_entries, setup),
        cmocka_unit_test_setup(test_snapshot, setup),
    };
    if (dir) {
        setup(NULL);
        write_files(dir);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
