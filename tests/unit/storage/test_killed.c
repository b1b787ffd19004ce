/* A process is killed inside a call and its successor finds what the call left visible but not
 * durable. Whatever the successor reported from it must survive a power cut: it may have been
 * acknowledged on the strength of the report. */
#include "sim_store.h"

#define OUTCOMES 8

struct kill {
    struct po__disk_sim *medium;
    unsigned points;
};

static void open_and_recover(struct fixture *fx, struct po__disk_sim *m)
{
    memset(fx, 0, sizeof *fx);
    assert_int_equal(sim_open(fx, m), 0);
    struct po__identity id;
    if (po__store_identity(fx->store, &id))
        assert_int_equal(store_recover(fx), 0);
}

/* The successor opens the medium as it looks now, then the power goes, then a third one opens it.
 */
static void on_change(void *arg, const char *call, const char *name)
{
    (void)name;
    struct kill *k = arg;
    if (!strcmp(call, "write")) /* on this disk it is not visible before it has returned */
        return;
    struct fixture *second = malloc(sizeof *second), *third = malloc(sizeof *third);
    assert_non_null(second);
    assert_non_null(third);
    k->points++;
    for (uint64_t seed = 1; seed <= OUTCOMES; seed++) {
        struct po__disk_sim *m = po__disk_sim_clone(k->medium);
        struct po__identity id;
        open_and_recover(second, m);
        int bootstrapped = po__store_identity(second->store, &id);
        po__store_close(second->store);
        po__disk_sim_power_on(m, seed);
        open_and_recover(third, m);
        assert_int_equal(po__store_identity(third->store, &id), bootstrapped);
        po__store_close(third->store);
        assert_int_equal(third->recovery.term, second->recovery.term);
        assert_int_equal(third->recovery.vote, second->recovery.vote);
        assert_int_equal(third->recovery.snapshot.index, second->recovery.snapshot.index);
        assert_int_equal(third->recovery.first_index, second->recovery.first_index);
        assert_int_equal(third->recovery.last_index, second->recovery.last_index);
        po__disk_sim_free(m);
    }
    free(second);
    free(third);
}

static void test_what_was_recovered_stays(void **state)
{
    (void)state;
    struct fixture *fx = calloc(1, sizeof *fx);
    struct kill k = {.medium = po__disk_sim_new(1)};
    uint64_t last = 1;
    assert_non_null(fx);
    assert_int_equal(sim_open(fx, k.medium), 0);
    po__disk_sim_on_change(k.medium, on_change, &k);
    assert_int_equal(sim_bootstrap(fx), 0);
    assert_int_equal(store_recover(fx), 0);
    assert_int_equal(po__store_set_vote(fx->store, 2, 7), 0);
    assert_int_equal(sim_append_to(fx, &last, 12, 2, 6000), 0);
    assert_int_equal(sim_snapshot(fx, 8, 2), 0);
    assert_int_equal(sim_append_to(fx, &last, 16, 2, 6000), 0);
    assert_int_equal(sim_snapshot(fx, 14, 2), 0);
    po__disk_sim_on_change(k.medium, NULL, NULL);
    assert_true(k.points > 10);
    po__store_close(fx->store);
    po__disk_sim_free(k.medium);
    free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_recovered_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
