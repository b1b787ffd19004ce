/* The store on the real disk: what goes in comes out again, and what must be refused is. */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static int setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    real_path(fx);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    real_remove(fx);
    free(fx);
    return 0;
}

static void open_new(struct fixture *fx)
{
    struct po__rec *first = make_record(1, 1, 0, 40);
    struct po__identity id;
    assert_int_equal(real_disk(fx), 0);
    assert_int_equal(store_open(fx, SEGMENT_BYTES), 0);
    assert_int_equal(po__store_identity(fx->store, &id), 0);
    assert_int_equal(po__store_bootstrap(fx->store, &test_identity, 1, first), 0);
    assert_int_equal(po__store_bootstrap(fx->store, &test_identity, 1, first), PO_EEXISTS);
    assert_int_equal(store_recover(fx), 0);
    assert_int_equal(fx->recovery.term, 1);
    assert_int_equal(fx->recovery.vote, 0);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, 1);
    free(first);
}

static int reopen(struct fixture *fx)
{
    assert_int_equal(real_disk(fx), 0);
    int rv = store_open(fx, SEGMENT_BYTES);
    if (rv)
        return rv;
    rv = store_recover(fx);
    if (rv) {
        po__store_close(fx->store);
        fx->store = NULL;
    }
    return rv;
}

static void wait_durable(struct fixture *fx, unsigned count)
{
    po__store_flush(fx->store);
    while (fx->durable_count < count)
        real_wait(fx);
    assert_int_equal(fx->durable_count, count);
}

static void test_append_and_recover(void **state)
{
    struct fixture *fx = *state;
    struct po__identity id;
    open_new(fx);
    for (uint64_t i = 2; i <= 300; i++) {
        assert_int_equal(append(fx, i, 2, 0, (uint32_t)(8 + i * 13 % 3000)), 0);
        if (i % 7 == 0)
            po__store_flush(fx->store);
    }
    wait_durable(fx, 299);
    assert_int_equal(fx->durable_token, 300);
    assert_int_equal(po__store_queued_bytes(fx->store), 0);
    assert_int_equal(po__store_set_vote(fx->store, 9, 3), 0);
    po__store_close(fx->store);

    assert_int_equal(reopen(fx), 0);
    assert_int_equal(po__store_identity(fx->store, &id), 1);
    assert_memory_equal(&id, &test_identity, sizeof id);
    assert_int_equal(fx->recovery.term, 9);
    assert_int_equal(fx->recovery.vote, 3);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, 300);
    assert_int_equal(fx->found.first, 1);
    assert_int_equal(fx->found.last, 300);

    /* Truncate, go on, and find only that. */
    fx->durable_count = 0;
    assert_int_equal(append(fx, 100, 3, 5, 64), 0);
    assert_int_equal(append(fx, 101, 3, 5, 2000000), 0);
    wait_durable(fx, 2);
    po__store_close(fx->store);
    assert_int_equal(reopen(fx), 0);
    assert_int_equal(fx->recovery.last_index, 101);
    assert_int_equal(fx->found.term[100], 3);
    assert_int_equal(fx->found.term[99], 2);
    po__store_close(fx->store);
    assert_int_equal(fx->faults, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_append_and_recover, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
