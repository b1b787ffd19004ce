/* Every call fails once, every allocation fails once: an error is returned or the store breaks,
 * once and for good; nothing that was reported durable is lost, nothing leaks or crashes. */
#include "sim_store.h"

struct progress {
    uint64_t durable; /* highest index reported */
    uint64_t term, vote;
    uint64_t snapshot;
    bool bootstrapped;
};

static int script_writes(struct fixture *fx, struct progress *p)
{
    uint64_t last = 1;
    int rv = sim_append_to(fx, &last, 12, 2, 5000);
    p->durable = fx->durable_token > p->durable ? fx->durable_token : p->durable;
    if (rv)
        return rv;
    rv = po__store_set_vote(fx->store, 2, 3);
    if (rv)
        return rv;
    p->term = 2;
    p->vote = 3;
    rv = sim_snapshot(fx, 10, 2);
    if (rv)
        return rv;
    p->snapshot = 10;
    po__store_trim(fx->store, 10);
    sim_run(fx);
    rv = sim_append_to(fx, &last, 30, 2, 3000);
    p->durable = fx->durable_token > p->durable ? fx->durable_token : p->durable;
    if (rv)
        return rv;
    rv = sim_snapshot(fx, 28, 2);
    if (rv)
        return rv;
    p->snapshot = 28;
    po__store_trim(fx->store, 28);
    po__store_reset_log(fx->store, 29);
    last = p->durable = fx->durable_token = 28; /* records above the snapshot are given up */
    po__store_flush(fx->store);
    sim_run(fx);
    rv = sim_append_to(fx, &last, 33, 2, 100);
    p->durable = fx->durable_token > p->durable ? fx->durable_token : p->durable;
    return rv ? rv : sim_read_snapshot(fx, 28);
}

/* Open, do everything, close. The first error. */
static int script(struct fixture *fx, struct po__disk_sim *m, struct progress *p)
{
    fx->spares = 1;
    int rv = sim_open(fx, m);
    if (rv) {
        assert_null(fx->store);
        assert_true(fx->error[0] != '\0');
        assert_int_equal(fx->faults, 0);
        return rv;
    }
    rv = sim_bootstrap(fx);
    if (!rv) {
        p->bootstrapped = true;
        p->durable = p->term = 1;
        rv = store_recover(fx);
        if (rv) {
            assert_true(fx->error[0] != '\0');
            assert_int_equal(fx->faults, 0);
        }
    }
    if (!rv)
        rv = script_writes(fx, p);
    if (!rv)
        rv = po__store_broken(fx->store);
    assert_int_equal(fx->faults, po__store_broken(fx->store) ? 1 : 0);
    if (fx->faults) { /* for good, and everybody is told */
        struct po__snapshot_writer *w;
        struct po__snapshot_meta meta = {.index = 50, .term = 2};
        int code = po__store_broken(fx->store);
        unsigned durable = fx->durable_count;
        assert_int_equal(fx->fault_code, code);
        assert_int_equal(append(fx, 34, 2, 0, 100), code);
        assert_int_equal(po__store_set_vote(fx->store, 77, 1), code);
        assert_int_equal(po__store_snapshot_begin(fx->store, &w, &meta), code);
        po__store_flush(fx->store);
        po__store_trim(fx->store, 33);
        sim_run(fx);
        assert_int_equal(fx->durable_count, durable);
        assert_int_equal(fx->faults, 1);
    }
    po__store_close(fx->store);
    return rv;
}

/* After the fault: start again, with a sound disk. */
static void check_after(struct po__disk_sim *m, const struct progress *p, uint64_t seed)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__identity id;
    po__disk_sim_power_on(m, seed);
    assert_int_equal(sim_open(fx, m), 0);
    int there = po__store_identity(fx->store, &id);
    if (p->bootstrapped)
        assert_true(there);
    if (there) {
        int rv = store_recover(fx);
        if (rv)
            fail_msg("seed %u: %s: %s", (unsigned)seed, po_err_name(rv), fx->error);
        assert_true(fx->recovery.last_index >= p->durable);
        assert_true(fx->recovery.term >= p->term);
        assert_true(fx->recovery.term > p->term || fx->recovery.vote >= p->vote);
        assert_true(fx->recovery.snapshot.index >= p->snapshot);
    }
    po__store_close(fx->store);
    free(fx);
}

static void fail_each_call(int code)
{
    uint64_t n = 0, calls;
    do {
        struct fixture *fx = calloc(1, sizeof *fx);
        struct po__disk_sim *m = po__disk_sim_new(1);
        struct progress p = {0};
        po__disk_sim_fail_at(m, ++n, code);
        int rv = script(fx, m, &p);
        calls = po__disk_sim_calls(m);
        if (rv != (n <= calls ? code : 0))
            fail_msg("call %u of %u: %s, expected %s (%s)", (unsigned)n, (unsigned)calls,
                     po_err_name(rv), po_err_name(code), fx->fault_text);
        check_after(m, &p, n);
        po__disk_sim_free(m);
        free(fx);
    } while (n <= calls);
    assert_true(n > 100);
}

static void test_every_call_fails(void **state)
{
    (void)state;
    fail_each_call(PO_EIO);
}

static void test_disk_full_at_every_call(void **state)
{
    (void)state;
    fail_each_call(PO_ENOSPACE);
}

static void test_every_allocation_fails(void **state)
{
    (void)state;
    uint64_t n = 0, count;
    do {
        struct fixture *fx = calloc(1, sizeof *fx);
        struct po__disk_sim *m = po__disk_sim_new(1);
        struct progress p = {0};
        po__alloc_fail_at(++n);
        int rv = script(fx, m, &p);
        count = po__alloc_count();
        po__alloc_fail_at(0);
        /* Some are tried again later (a spare segment, a reset without records). */
        if (rv && rv != PO_ENOMEM)
            fail_msg("allocation %u: %s", (unsigned)n, po_err_name(rv));
        check_after(m, &p, n);
        po__disk_sim_free(m);
        free(fx);
    } while (n <= count);
    assert_true(n > 30);
}

/* Opening and recovering a directory that has everything in it: identity, a snapshot, several
 * segments. It fails with the cause in its message, and the next start finds all there is. */
static void fail_recovery(bool memory)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__disk_sim *m = po__disk_sim_new(1);
    struct progress p = {0};
    uint64_t n = 0, count;

    assert_int_equal(script(fx, m, &p), 0);
    do {
        po__disk_sim_power_on(m, ++n);
        memset(fx, 0, sizeof *fx);
        if (memory)
            po__alloc_fail_at(n);
        else
            po__disk_sim_fail_at(m, n, PO_EIO);
        uint64_t calls_before = po__disk_sim_calls(m);
        int rv = sim_open(fx, m);
        if (!rv)
            rv = store_recover(fx);
        count = memory ? po__alloc_count() : po__disk_sim_calls(m) - calls_before;
        po__alloc_fail_at(0);
        po__disk_sim_fail_at(m, 0, 0);
        assert_int_equal(rv, n > count ? 0 : memory ? PO_ENOMEM : PO_EIO);
        /* In our words, or in those of the simulated disk. */
        if (rv && memory && !strstr(fx->error, "memory") && !strstr(fx->error, "PO_ENOMEM"))
            fail_msg("allocation %u: the message is \"%s\"", (unsigned)n, fx->error);
        if (rv && !memory)
            assert_true(fx->error[0] != '\0');
        po__store_close(fx->store);
        check_after(m, &p, n);
    } while (n <= count);
    assert_true(n > (memory ? 5 : 20));
    po__disk_sim_free(m);
    free(fx);
}

static void test_recovery_every_call_fails(void **state)
{
    (void)state;
    fail_recovery(false);
}

static void test_recovery_every_allocation_fails(void **state)
{
    (void)state;
    fail_recovery(true);
}

/* The real disk allocates in two places: for itself, and for each open file. */
static void test_real_disk_without_memory(void **state)
{
    (void)state;
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__file *file;

    real_path(fx);
    po__alloc_fail_at(1);
    assert_int_equal(real_disk(fx), PO_ENOMEM);
    po__alloc_fail_at(0);
    assert_non_null(strstr(fx->error, "memory"));
    assert_int_equal(real_disk(fx), 0);
    po__alloc_fail_at(1);
    assert_int_equal(fx->disk->ops->open(fx->disk, &file, "x", PO__FILE_CREATE), PO_ENOMEM);
    po__alloc_fail_at(0);
    assert_non_null(strstr(fx->disk->last_error, "memory"));
    assert_int_equal(fx->disk->ops->open(fx->disk, &file, "x", 0), PO_ENOTFOUND);
    fx->disk->ops->destroy(fx->disk);
    real_remove(fx);
    free(fx);
}

static void test_folder_in_a_missing_folder(void **state)
{
    (void)state;
    struct po__disk *disk;
    char error[512];
    assert_int_equal(
        po__disk_real(&disk, "/tmp/po-no-such-folder/x", NULL, NULL, error, sizeof error), PO_EIO);
    assert_non_null(strstr(error, "/tmp/po-no-such-folder/x cannot be created"));
}

/* The callbacks end with the fault: what was queued behind it is never reported. */
static void test_failed_write_reports_nothing(void **state)
{
    (void)state;
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__disk_sim *m = po__disk_sim_new(1);
    assert_int_equal(sim_open(fx, m), 0);
    assert_int_equal(sim_bootstrap(fx), 0);
    assert_int_equal(store_recover(fx), 0);
    sim_run(fx);
    assert_int_equal(append(fx, 2, 1, 0, 100), 0);
    po__store_flush(fx->store);
    assert_int_equal(append(fx, 3, 1, 0, 100), 0);
    po__store_flush(fx->store);
    po__disk_sim_fail_at(m, 1, PO_EIO);
    sim_run(fx);
    assert_int_equal(fx->durable_count, 0);
    assert_int_equal(fx->faults, 1);
    assert_int_equal(po__store_broken(fx->store), PO_EIO);
    assert_non_null(strstr(fx->fault_text, "writing the log"));
    assert_non_null(strstr(fx->fault_text, "wal-0000000000000001"));
    po__store_close(fx->store);
    po__disk_sim_free(m);
    free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_disk_full_at_every_call),
        cmocka_unit_test(test_every_allocation_fails),
        cmocka_unit_test(test_recovery_every_call_fails),
        cmocka_unit_test(test_recovery_every_allocation_fails),
        cmocka_unit_test(test_real_disk_without_memory),
        cmocka_unit_test(test_folder_in_a_missing_folder),
        cmocka_unit_test(test_failed_write_reports_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
