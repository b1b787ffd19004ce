/* Snapshots: what must be refused, and running out of memory at every allocation. (That slices
 * equal an immediate snapshot is shown by test_random.c.) The state used is that of the golden
 * entries. */
#include "golden.h"
#include "sched.h"

static struct journal j;
static struct po_state_machine sm;
static struct po__buf bytes;
static const char *entries, *busy_worker; /* that give the state, and a worker of it with leases */

static int setup(void **state)
{
    (void)state;
    memset(&j, 0, sizeof j);
    sm = journal_machine(&j);
    const char *at = golden_snapshot;
    unhex_line(&at, &bytes);
    entries = golden_entries;
    busy_worker = "worker-aws-1";
    return 0;
}

/* The same with gates, placements, checkpoints and dead letters. */
static int setup_tasks(void **state)
{
    (void)state;
    memset(&j, 0, sizeof j);
    sm = journal_machine(&j);
    const char *at = golden_tasks_snapshot;
    unhex_line(&at, &bytes);
    entries = golden_tasks_entries;
    busy_worker = "gpu-1";
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    po__buf_fini(&bytes);
    return 0;
}

/* Restoring from a heap copy of exactly this size, so that a checker sees every read behind it. */
static int try_restore(const uint8_t *data, size_t len, size_t chunk)
{
    struct world w;
    uint8_t *copy = po__memdup(data, len);
    world_open(&w, &sm);
    int rv = restore(w.m, copy, len, chunk);
    if (!rv)
        world_check(&w);
    po__free(copy);
    world_close(&w);
    return rv;
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    for (size_t n = 0; n < bytes.len; n += n < 3000 ? 1 : 37)
        assert_int_equal(try_restore(bytes.data, n, 1 << 20), PO_ECORRUPT);
    assert_int_equal(try_restore(bytes.data, bytes.len, 7), 0);
}

static void test_trailing_bytes(void **state)
{
    (void)state;
    po__buf_append(&bytes, "\0", 1);
    assert_int_equal(try_restore(bytes.data, bytes.len, 1 << 20), PO_ECORRUPT);
}

/* A changed byte is refused, or it gives another state that is whole; nothing else. */
static void test_any_byte_changed(void **state)
{
    (void)state;
    unsigned refused = 0, accepted = 0;
    for (size_t i = 0; i < bytes.len && i < 4000; i++) {
        uint8_t was = bytes.data[i];
        for (unsigned k = 0; k < 3; k++) {
            bytes.data[i] = k == 0 ? was ^ 1 : k == 1 ? was ^ 0x80 : 0xff;
            int rv = try_restore(bytes.data, bytes.len, 1 << 20);
            assert_true(rv == 0 || rv == PO_ECORRUPT || rv == PO_EVERSION || rv == PO_EFAULT);
            refused += rv != 0;
            accepted += rv == 0;
        }
        bytes.data[i] = was;
    }
    assert_true(refused > 1000 && accepted > 100);
}

static void test_version_and_order(void **state)
{
    (void)state;
    /* 4 bytes of length, array of 11, section 1, format 1 */
    assert_int_equal(bytes.data[6], 1);
    bytes.data[6] = 2;
    assert_int_equal(try_restore(bytes.data, bytes.len, 1 << 20), PO_EVERSION);
    bytes.data[6] = 1;
    size_t header = 4 + bytes.data[3];
    assert_int_equal(try_restore(bytes.data + header, bytes.len - header, 1 << 20),
                     PO_ECORRUPT); /* no header */
    struct po__buf twice = {0};
    po__buf_append(&twice, bytes.data, header);
    po__buf_append(&twice, bytes.data, bytes.len);
    assert_int_equal(try_restore(twice.data, twice.len, 1 << 20), PO_ECORRUPT); /* two headers */
    po__buf_fini(&twice);
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(po__model_restore_end(w.m), PO_ECORRUPT); /* nothing at all */
    world_close(&w);
}

/* Two objects of one name: each byte changed alone would not show it. */
static void test_same_names(void **state)
{
    (void)state;
    static const char *const names[] = {"nB", "gB"}; /* of a worker; of a concurrency key */
    struct world w;
    struct po__buf out = {0};
    world_open(&w, &sm);
    do_host(&w, &(struct host){.id = "nA", .caps = "a:x"});
    do_host(&w, &(struct host){.id = "nB", .caps = "a:x"});
    do_wish_task(&w, "b:y", &(struct wish){.gate = "gA", .gate_max = 1});
    do_wish_task(&w, "b:y", &(struct wish){.gate = "gB", .gate_max = 1});
    for (unsigned n = 0; n < 2; n++) {
        snapshot(w.m, &out);
        assert_int_equal(try_restore(out.data, out.len, 1 << 20), 0);
        for (size_t i = 0; i + 1 < out.len; i++)
            if (memcmp(out.data + i, names[n], 2) == 0)
                out.data[i + 1] = 'A';
        assert_int_equal(try_restore(out.data, out.len, 1 << 20), PO_ECORRUPT);
    }
    po__buf_fini(&out);
    world_close(&w);
}

static void test_application_state(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL); /* a node without the state machine that the snapshot has state of */
    assert_int_equal(restore(w.m, bytes.data, bytes.len, 1 << 20), PO_EFAULT);
    world_close(&w);
    world_open(&w, &sm); /* an empty state is restored as such */
    struct po__buf empty = {0};
    struct world plain;
    world_open(&plain, NULL);
    snapshot(plain.m, &empty);
    j.len = 5;
    assert_int_equal(restore(w.m, empty.data, empty.len, 1 << 20), 0);
    assert_int_equal(j.len, 0);
    po__buf_fini(&empty);
    world_close(&plain);
    world_close(&w);
}

static void test_one_large_application_state(void **state)
{
    (void)state;
    struct world w;
    j.len = 1000;
    memset(j.text, 'x', sizeof j.text);
    world_open(&w, &sm);
    struct po__buf out = {0};
    snapshot(w.m, &out);
    uint64_t before = digest(w.m);
    world_close(&w);
    world_open(&w, &sm);
    memset(&j, 0, sizeof j);
    assert_int_equal(restore(w.m, out.data, out.len, 1000), 0);
    assert_true(digest(w.m) == before);
    assert_int_equal(j.len, 1000);
    po__buf_fini(&out);
    world_close(&w);
}

/* ---- running out of memory ---- */

static void test_apply_without_memory(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (int rv = PO_ENOMEM; rv; n++) {
        struct world w;
        struct po__buf out = {0};
        memset(&j, 0, sizeof j);
        world_open(&w, &sm);
        po__alloc_fail_at(n);
        rv = apply_entries(w.m, entries, &w.fx);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 0);
        po__buf_fini(&out);
        world_close(&w);
    }
    assert_true(n > 50);
}

/* What the golden entries do not have: opening, and a step that fails and takes its run with it. */
static void test_open_without_memory(void **state)
{
    (void)state;
    struct po__model *m = NULL;
    po__alloc_fail_at(1);
    assert_int_equal(po__model_open(&m, NULL), PO_ENOMEM);
    po__alloc_fail_at(0);
    assert_null(m);
}

static void test_failing_step_without_memory(void **state)
{
    (void)state;
    const char *cap = "a:x";
    uint64_t n = 1;
    for (int rv = PO_ENOMEM; rv; n++) {
        struct world w;
        world_open(&w, NULL);
        do_register(&w, "w1", 1, "aws", cap, 1);
        do_define(&w, "p", &cap, 1, "");
        do_run(&w, "", "p", "1", "");
        uint64_t token = po__model_task(w.m, 1)->token;
        w.cmd.type = PO__CMD_TASK_FAIL;
        w.cmd.fail = (__typeof__(w.cmd.fail)){.task_id = 1, .token = token};
        w.cmd.fail.worker_id = po__str("w1");
        w.cmd.fail.error = po__str("row 3: not a number");
        po__alloc_fail_at(n);
        rv = po__model_apply(w.m, ++w.index, w.now_ms, &w.cmd, &w.result, &w.fx);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 0);
        if (!failed)
            assert_int_equal(po__model_run_state(w.m, 1), PO_RUN_FAILED);
        world_close(&w);
    }
    assert_true(n > 3); /* the task's error, the step's, the run's */
}

/* The same while a snapshot is being written: the command may go on, the snapshot fails, the model
 * stays whole. */
static void test_snapshot_without_memory(void **state)
{
    (void)state;
    unsigned snapshots_failed = 0;
    for (uint64_t n = 1;; n++) {
        struct world w;
        struct po__buf out = {0};
        memset(&j, 0, sizeof j);
        world_open(&w, &sm);
        assert_int_equal(apply_entries(w.m, entries, NULL), 0);
        w.index = po__model_index(w.m);
        po__alloc_fail_at(n);
        int rv = po__model_snapshot_begin(w.m);
        int applied = 0;
        if (!rv) {
            rv = po__model_snapshot_step(w.m, &out, 100);
            w.cmd.type = PO__CMD_WORKER_DEREGISTER; /* changes a worker and its tasks; allocates
                                                       only to save them */
            w.cmd.worker_deregister.id = po__str(busy_worker);
            w.cmd.worker_deregister.incarnation = 0;
            applied = po__model_apply(w.m, ++w.index, w.now_ms, &w.cmd, NULL, NULL);
            while (rv == 0)
                rv = po__model_snapshot_step(w.m, &out, 100);
        }
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(applied, 0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 1);
        world_check(&w);
        po__model_snapshot_abort(w.m);
        snapshot(w.m, &out); /* and the next one works */
        po__buf_fini(&out);
        world_close(&w);
        if (!failed)
            break;
        snapshots_failed++;
    }
    assert_true(snapshots_failed > 10);
}

static void test_restore_without_memory(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (bool failed = true; failed; n++) {
        struct world w;
        world_open(&w, &sm);
        po__alloc_fail_at(n);
        int rv = restore(w.m, bytes.data, bytes.len, 512);
        failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 0);
        world_close(&w);
    }
    assert_true(n > 50);
}

static void query_without_memory(struct po__model *m, const struct po__query *q)
{
    for (uint64_t n = 1;; n++) {
        struct po__buf out = {0};
        const char *message;
        po__alloc_fail_at(n);
        int rv = po__model_query(m, q, &out, &message);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 0);
        po__buf_fini(&out);
        if (!failed)
            break;
    }
}

static void test_query_without_memory(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, &sm);
    assert_int_equal(restore(w.m, bytes.data, bytes.len, 1 << 20), 0);
    for (int what = PO_QUERY_STATUS; what <= PO_QUERY_RUNS; what++) {
        struct po__query q = {.what = what};
        q.id = what == PO_QUERY_TASKS || what == PO_QUERY_RUNS ? 0 : 1;
        if (what == PO_QUERY_PIPELINE)
            q.name = po__str("energy");
        if (what == PO_QUERY_ROUTE)
            q.name = po__str("a:x");
        query_without_memory(w.m, &q);
    }
    world_close(&w);
}

static void test_query_of_tasks_without_memory(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(restore(w.m, bytes.data, bytes.len, 1 << 20), 0);
    for (uint64_t id = 1; id <= 16; id++) {
        const struct po__task *t = po__model_task(w.m, id);
        if (!t)
            continue;
        query_without_memory(w.m, &(struct po__query){.what = PO_QUERY_TASK, .id = id});
        query_without_memory(w.m, &(struct po__query){.what = PO_QUERY_EXPLAIN, .id = id});
        if (t->state == PO_TASK_RUNNING)
            query_without_memory(
                w.m, &(struct po__query){.what = PO_QUERY_FENCE, .id = id, .token = t->token});
    }
    query_without_memory(w.m, &(struct po__query){.what = PO_QUERY_WORKERS});
    query_without_memory(w.m, &(struct po__query){.what = PO_QUERY_TASKS});
    world_close(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TASKS(name)                                                                                \
    {                                                                                              \
#name " (scheduling)", name, setup_tasks, teardown, NULL                                   \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open_without_memory),
        TEST(test_failing_step_without_memory),
        TEST(test_cut_anywhere),
        TEST(test_trailing_bytes),
        TEST(test_any_byte_changed),
        TEST(test_version_and_order),
        TEST(test_same_names),
        TEST(test_application_state),
        TEST(test_one_large_application_state),
        TEST(test_apply_without_memory),
        TEST(test_snapshot_without_memory),
        TEST(test_restore_without_memory),
        TEST(test_query_without_memory),
        TASKS(test_cut_anywhere),
        TASKS(test_trailing_bytes),
        TASKS(test_any_byte_changed),
        TASKS(test_apply_without_memory),
        TASKS(test_snapshot_without_memory),
        TASKS(test_restore_without_memory),
        TASKS(test_query_of_tasks_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
