/* Snapshots and the bounds of the store's queues, on the simulated disk. */
#include "sim_store.h"

struct world {
    struct fixture *fx;
    struct po__disk_sim *m;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    uint64_t last = 1;
    w->fx = calloc(1, sizeof *w->fx);
    w->m = po__disk_sim_new(1);
    assert_int_equal(sim_open(w->fx, w->m), 0);
    assert_int_equal(sim_bootstrap(w->fx), 0);
    assert_int_equal(store_recover(w->fx), 0);
    sim_run(w->fx);
    assert_int_equal(sim_append_to(w->fx, &last, 30, 1, 100), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    po__store_close(w->fx->store);
    po__disk_sim_free(w->m);
    free(w->fx);
    free(w);
    return 0;
}

static unsigned count_files(const struct po__disk_sim *m, const char *prefix)
{
    unsigned n = 0;
    for (unsigned i = 0; i < po__disk_sim_files(m); i++)
        n += !strncmp(po__disk_sim_file_name(m, i), prefix, strlen(prefix));
    return n;
}

static struct po__snapshot_writer *begin(struct world *w, uint64_t index)
{
    struct po__snapshot_writer *sw;
    struct po__snapshot_meta meta = {.index = index, .term = 1};
    assert_int_equal(po__store_snapshot_begin(w->fx->store, &sw, &meta), 0);
    return sw;
}

static void test_reader_outlives_its_snapshot(void **state)
{
    struct world *w = *state;
    struct po__snapshot_reader *r;
    struct po__snapshot_meta meta;
    uint8_t byte, whole[10];
    assert_int_equal(po__store_snapshot_open(w->fx->store, &r, &meta), PO_ENOTFOUND);
    assert_int_equal(sim_snapshot(w->fx, 5, 1), 0);
    assert_int_equal(po__store_snapshot_open(w->fx->store, &r, &meta), 0);
    assert_int_equal(meta.conf_len, 4);
    assert_int_equal(meta.conf_index, 1);
    assert_int_equal(sim_snapshot(w->fx, 9, 1), 0);
    assert_int_equal(count_files(w->m, "snap-"), 1);
    for (uint64_t at = 0; at < SNAPSHOT_BYTES; at += 1009) {
        assert_int_equal(po__store_snapshot_read(r, at, &byte, 1), 0);
        assert_int_equal(byte, (uint8_t)(5 + at * at));
    }
    assert_int_equal(po__store_snapshot_read(r, SNAPSHOT_BYTES - 5, whole, 10), PO_EINVAL);
    assert_int_equal(po__store_snapshot_read(r, SNAPSHOT_BYTES, whole, 0), 0);
    po__store_snapshot_close(r);
    assert_int_equal(sim_read_snapshot(w->fx, 9), 0);
}

static void test_lower_index_does_not_replace(void **state)
{
    struct world *w = *state;
    uint64_t own = 0, installed = 0;
    struct po__snapshot_writer *third;
    struct po__snapshot_meta meta = {.index = 30, .term = 1};
    struct po__snapshot_writer *a = begin(w, 10), *b = begin(w, 20);
    assert_int_equal(po__store_snapshot_begin(w->fx->store, &third, &meta), PO_EBUSY);
    assert_int_equal(po__store_snapshot_write(a, "own", 3), 0);
    assert_int_equal(po__store_snapshot_write(b, "installed", 9), 0);
    assert_int_equal(po__store_snapshot_finish(b, on_snapshot_done, &installed), 0);
    assert_int_equal(po__store_snapshot_finish(a, on_snapshot_done, &own), 0);
    sim_run(w->fx);
    assert_int_equal(installed, 20);
    assert_int_equal(own, 10);
    assert_int_equal(count_files(w->m, "snap-"), 1);
    assert_int_equal(count_files(w->m, "tmp-snap"), 0);
    struct po__snapshot_reader *r;
    assert_int_equal(po__store_snapshot_open(w->fx->store, &r, &meta), 0);
    assert_int_equal(meta.index, 20);
    assert_int_equal(meta.size_bytes, 9);
    po__store_snapshot_close(r);
}

static void test_abort(void **state)
{
    struct world *w = *state;
    static uint8_t data[600000];
    uint64_t done = 0;
    struct po__snapshot_writer *a = begin(w, 10);
    po__store_snapshot_abort(a); /* before anything was written */
    a = begin(w, 11);
    assert_int_equal(po__store_snapshot_write(a, data, sizeof data), 0);
    po__store_snapshot_abort(a); /* frames under way */
    sim_run(w->fx);
    assert_int_equal(count_files(w->m, "tmp-snap"), 0);
    assert_int_equal(count_files(w->m, "snap-"), 0);
    a = begin(w, 12);
    assert_int_equal(po__store_snapshot_finish(a, on_snapshot_done, &done), 0);
    po__store_snapshot_abort(a); /* still waits for its turn: dropped */
    sim_run(w->fx);
    assert_int_equal(done, 0);
    assert_int_equal(count_files(w->m, "tmp-snap"), 0);
    assert_int_equal(sim_snapshot(w->fx, 13, 1), 0);
}

static void test_declared_size_and_sum(void **state)
{
    struct world *w = *state;
    struct po__snapshot_writer *sw;
    uint64_t done = 0;
    struct po__snapshot_meta meta = {.index = 10, .term = 1, .size_bytes = 9, .crc = 0xe3069283u};
    for (int good = 0; good < 2; good++) {
        assert_int_equal(po__store_snapshot_begin(w->fx->store, &sw, &meta), 0);
        assert_int_equal(po__store_snapshot_write(sw, good ? "123456789" : "12345678x", 9), 0);
        int rv = po__store_snapshot_finish(sw, on_snapshot_done, &done);
        assert_int_equal(rv, good ? 0 : PO_ECORRUPT);
        if (rv)
            po__store_snapshot_abort(sw);
        sim_run(w->fx);
        assert_int_equal(done, good ? 10 : 0);
    }
}

static void test_snapshot_queue_is_bounded(void **state)
{
    struct world *w = *state;
    static uint8_t data[1 << 20];
    struct po__snapshot_writer *sw = begin(w, 10);
    unsigned accepted = 0;
    while (po__store_snapshot_write(sw, data, sizeof data) == 0)
        assert_true(++accepted < 10);
    assert_int_equal(po__store_snapshot_write(sw, data, sizeof data), PO_EBUSY);
    assert_true(po__store_snapshot_queued(sw) > 0);
    sim_run(w->fx);
    assert_int_equal(po__store_snapshot_queued(sw), 0);
    assert_int_equal(po__store_snapshot_write(sw, data, sizeof data), 0);
    po__store_snapshot_abort(sw);
    sim_run(w->fx);
}

static void test_log_queue_is_bounded(void **state)
{
    struct world *w = *state;
    uint64_t last = 30;
    int rv;
    w->fx->durable_count = 0;
    while ((rv = append(w->fx, last + 1, 1, 0, 1000000)) == 0) {
        last++;
        po__store_flush(w->fx->store);
        assert_true(po__store_queued_bytes(w->fx->store) <= PO__STORE_QUEUE_MAX_BYTES);
    }
    assert_int_equal(rv, PO_EBUSY);
    assert_true(last > 55);
    sim_run(w->fx); /* segments are smaller than these records: each one gets its own, longer */
    assert_int_equal(po__store_queued_bytes(w->fx->store), 0);
    assert_int_equal(w->fx->durable_count, last - 30);
    assert_int_equal(append(w->fx, last + 1, 1, 0, 100), 0);
}

/* Everything queued behind a write goes together in the next one. */
static void test_group_write(void **state)
{
    struct world *w = *state;
    w->fx->durable_count = 0;
    assert_int_equal(append(w->fx, 31, 1, 0, 50), 0);
    po__store_flush(w->fx->store);
    for (uint64_t i = 32; i < 60; i++) {
        assert_int_equal(append(w->fx, i, 1, 0, 50), 0);
        po__store_flush(w->fx->store);
    }
    assert_true(po__disk_sim_step(w->fx->disk, PO__CHANNEL_LOG));
    assert_int_equal(w->fx->durable_count, 0); /* never inside the call */
    po__store_poll(w->fx->store);
    assert_int_equal(w->fx->durable_count, 1);
    assert_true(po__disk_sim_step(w->fx->disk, PO__CHANNEL_LOG));
    po__store_poll(w->fx->store);
    assert_int_equal(w->fx->durable_count, 29);
    assert_false(po__disk_sim_busy(w->fx->disk, PO__CHANNEL_LOG));
}

/* A node that joins has no first record; its log may begin anywhere after an installed snapshot. */
static void test_join(void **state)
{
    (void)state;
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__disk_sim *m = po__disk_sim_new(1);
    assert_int_equal(sim_open(fx, m), 0);
    assert_int_equal(store_recover(fx), PO_ENOTBOOTSTRAPPED);
    assert_int_equal(po__store_bootstrap(fx->store, &test_identity, 0, NULL), 0);
    assert_int_equal(store_recover(fx), 0);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, 0);
    sim_run(fx);
    assert_int_equal(sim_snapshot(fx, 1000, 7), 0);
    po__store_reset_log(fx->store, 1001);
    assert_int_equal(append(fx, 1001, 7, 0, 100), 0);
    po__store_flush(fx->store);
    sim_run(fx);
    po__store_close(fx->store);
    assert_int_equal(sim_open(fx, m), 0);
    assert_int_equal(store_recover(fx), 0);
    assert_int_equal(fx->recovery.snapshot.index, 1000);
    assert_int_equal(fx->recovery.first_index, 1001);
    assert_int_equal(fx->recovery.last_index, 1001);
    po__store_close(fx->store);
    po__disk_sim_free(m);
    free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reader_outlives_its_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lower_index_does_not_replace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abort, setup, teardown),
        cmocka_unit_test_setup_teardown(test_declared_size_and_sum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_group_write, setup, teardown),
        cmocka_unit_test(test_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
