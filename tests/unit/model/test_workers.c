/* Workers and members: registration, incarnations, status, what becomes of leases. */
#include "fixture.h"

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

static const struct po__worker *worker(const char *id)
{
    return po__model_worker(w.m, po__str(id));
}

static uint32_t state_of(uint64_t task)
{
    return po__model_task(w.m, task)->state;
}

static void submit(const char *cap, unsigned n)
{
    while (n--)
        assert_int_equal(do_submit(&w, "", cap, "1", "", 0, 0), 0);
}

static void test_register(void **state)
{
    (void)state;
    assert_int_equal(do_register(&w, "w1", 7, "aws", "b:y a:x", 2), 0);
    assert_int_equal(w.result.id, 1);
    assert_int_equal(effect(&w, PO__FX_WORKER_CHANGED)->worker, 1);
    const struct po__worker *x = worker("w1");
    assert_int_equal(x->number, 1);
    assert_int_equal(x->incarnation, 7);
    assert_int_equal(x->status, PO_WORKER_ONLINE);
    assert_int_equal(x->heartbeat_ms, 1000);
    assert_string_equal(x->address, "10.0.0.1:1");
    assert_string_equal(x->zone, "aws");
    assert_ptr_equal(po__model_worker_by_number(w.m, 1), x);
    assert_null(po__model_worker_by_number(w.m, 2));
    assert_null(worker("w2"));
    do_register(&w, "w0", 1, "", "a:x", 1);
    assert_string_equal(po__model_worker_next(w.m, NULL)->id, "w0");
    assert_ptr_equal(po__model_worker_next(w.m, worker("w0")), x);
    assert_null(po__model_worker_next(w.m, x));
}

static void test_same_incarnation_again(void **state)
{
    (void)state;
    submit("a:x", 3);
    submit("b:y", 1);
    do_register(&w, "w1", 7, "aws", "a:x b:y", 3);
    assert_int_equal(worker("w1")->running, 4);
    uint64_t before = digest(w.m);
    w.index--; /* the index is part of the state */
    assert_int_equal(do_register(&w, "w1", 7, "aws", "a:x b:y", 3), 0);
    assert_true(digest(w.m) == before);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 0);

    do_register(&w, "w1", 7, "gcp", "a:x", 2); /* b:y dropped, a:x narrowed: the newest leases go */
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    assert_int_equal(state_of(1), PO_TASK_RUNNING);
    assert_int_equal(state_of(2), PO_TASK_RUNNING);
    assert_int_equal(state_of(3), PO_TASK_PENDING);
    assert_int_equal(state_of(4), PO_TASK_PENDING);
    assert_int_equal(worker("w1")->number, 1);
    assert_string_equal(worker("w1")->zone, "gcp");
    assert_int_equal(do_complete(&w, 1, po__model_task(w.m, 1)->token, "w1", "1"), 0);
}

static void test_new_incarnation_takes_over(void **state)
{
    (void)state;
    submit("a:x", 2);
    do_register(&w, "w1", 7, "aws", "a:x", 2);
    uint64_t token = po__model_task(w.m, 1)->token;
    assert_int_equal(do_register(&w, "w1", 6, "aws", "a:x", 2), PO_ESTALE);
    assert_int_equal(do_register(&w, "w1", 8, "aws", "a:x", 2), 0);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 2); /* in the same command, with new tokens */
    assert_int_equal(po__model_task(w.m, 1)->attempt, 2);
    assert_int_equal(do_complete(&w, 1, token, "w1", "1"), PO_ESTALE); /* of the old incarnation */
    assert_int_equal(do_status(&w, "w1", 7, PO_WORKER_OFFLINE), PO_ESTALE);
    assert_int_equal(do_deregister(&w, "w1", 7), PO_ESTALE);
}

static void test_offline_requeues_in_the_same_command(void **state)
{
    (void)state;
    submit("a:x", 2);
    do_register(&w, "w1", 1, "aws", "a:x", 2);
    do_register(&w, "w2", 1, "gcp", "a:x", 1);
    assert_int_equal(do_status(&w, "w1", 1, PO_WORKER_OFFLINE), 0);
    assert_int_equal(worker("w1")->status, PO_WORKER_OFFLINE);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 2);
    assert_int_equal(effects(&w, PO__FX_ASSIGNED), 1); /* w2 has one slot */
    assert_int_equal(effect(&w, PO__FX_ASSIGNED)->id, 1);
    assert_int_equal(state_of(2), PO_TASK_PENDING);
    assert_int_equal(do_status(&w, "w1", 1, PO_WORKER_OFFLINE), 0); /* again: nothing */
    assert_int_equal(w.fx.count, 0);
    do_register(&w, "w1", 1, "aws", "a:x", 2); /* registering brings it back */
    assert_int_equal(worker("w1")->status, PO_WORKER_ONLINE);
    assert_int_equal(state_of(2), PO_TASK_RUNNING);
}

static void test_draining(void **state)
{
    (void)state;
    submit("a:x", 1);
    do_register(&w, "w1", 1, "aws", "a:x", 4);
    assert_int_equal(do_status(&w, "w1", 0, PO_WORKER_DRAINING), 0);
    submit("a:x", 1);
    assert_int_equal(state_of(1), PO_TASK_RUNNING); /* keeps what it has, gets nothing new */
    assert_int_equal(state_of(2), PO_TASK_PENDING);
    do_register(&w, "w1", 1, "aws", "a:x", 4); /* the same process goes on draining */
    assert_int_equal(worker("w1")->status, PO_WORKER_DRAINING);
    assert_int_equal(do_complete(&w, 1, po__model_task(w.m, 1)->token, "w1", "1"), 0);
    assert_int_equal(state_of(2), PO_TASK_PENDING);
    do_register(&w, "w1", 2, "aws", "a:x", 4); /* a new process does not */
    assert_int_equal(state_of(2), PO_TASK_RUNNING);
}

static void test_deregister(void **state)
{
    (void)state;
    submit("a:x", 1);
    do_register(&w, "w1", 1, "aws", "a:x", 4);
    assert_int_equal(do_deregister(&w, "w9", 0), PO_ENOTFOUND);
    assert_int_equal(do_status(&w, "w9", 0, PO_WORKER_ONLINE), PO_ENOTFOUND);
    assert_int_equal(do_deregister(&w, "w1", 1), 0);
    assert_int_equal(effect(&w, PO__FX_WORKER_GONE)->worker, 1);
    assert_int_equal(effects(&w, PO__FX_REVOKED), 1);
    assert_null(worker("w1"));
    assert_int_equal(state_of(1), PO_TASK_PENDING);
    do_register(&w, "w1", 1, "aws", "a:x", 4);
    assert_int_equal(worker("w1")->number, 2); /* numbers are never reused */
}

static void test_members(void **state)
{
    (void)state;
    struct po__member_info i;
    assert_int_equal(po__model_member(w.m, 1, &i), 0);
    assert_int_equal(do_member(&w, 1, "cp-1", "0123456789abcdef"), 0);
    assert_int_equal(effect(&w, PO__FX_MEMBER)->id, 1);
    assert_int_equal(po__model_member(w.m, 1, &i), 1);
    assert_true(po__slice_eq(i.name, po__str("cp-1")));
    assert_true(po__slice_eq(i.worker_address, po__str("worker:2")));
    assert_int_equal(do_member(&w, 1, "cp-one", "0123456789abcdef"), 0); /* renamed */
    assert_int_equal(do_member(&w, 1, "cp-one", "another16byte-id"), PO_EIDENTITY);
    assert_int_equal(do_member(&w, 2, "cp-one", "0123456789abcdef"), PO_EEXISTS);
    for (uint64_t id = 2; id <= PO_MEMBERS_MAX; id++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", (unsigned)id);
        assert_int_equal(do_member(&w, id, name, "0123456789abcdef"), 0);
    }
    assert_int_equal(do_member(&w, 8, "n8", "0123456789abcdef"), PO_EQUOTA);
}

/* A wish stays with the member, whatever it says of itself, until it is gone; then its name and its
 * place are free again. */
static void test_wishes(void **state)
{
    (void)state;
    struct po__member_info i;
    assert_int_equal(do_wish(&w, 1, PO__WISH_STANDBY), PO_ENOTFOUND);
    assert_int_equal(do_wish(&w, 1, PO__WISH_GONE), 0); /* every new leader may say it again */
    assert_int_equal(do_member(&w, 1, "cp-1", "0123456789abcdef"), 0);
    assert_int_equal(po__model_member(w.m, 1, &i), 1);
    assert_int_equal(i.wish, PO__WISH_VOTER);
    uint64_t before = digest(w.m);
    assert_int_equal(do_wish(&w, 1, PO__WISH_STANDBY), 0);
    assert_int_equal(effect(&w, PO__FX_MEMBER)->id, 1);
    assert_true(digest(w.m) != before);
    assert_int_equal(do_member(&w, 1, "cp-one", "0123456789abcdef"), 0);
    assert_int_equal(po__model_member_next(w.m, 0, &i), 1);
    assert_int_equal(i.wish, PO__WISH_STANDBY);
    assert_int_equal(po__model_member_next(w.m, 1, &i), 0);
    assert_int_equal(do_member(&w, 9, "cp-one", "another16byte-id"), PO_EEXISTS);
    assert_int_equal(do_wish(&w, 1, PO__WISH_GONE), 0);
    assert_int_equal(po__model_member(w.m, 1, &i), 0);
    assert_int_equal(do_member(&w, 9, "cp-one", "another16byte-id"), 0);
}

/* The wish is in the snapshot; without wishes a snapshot is what it was before there were any. */
static void test_wishes_are_in_the_snapshot(void **state)
{
    (void)state;
    struct po__member_info i;
    struct world other;
    for (unsigned wish = PO__WISH_VOTER; wish < PO__WISH_GONE; wish++) {
        struct po__buf bytes = {0};
        assert_int_equal(do_member(&w, 3, "cp-3", "0123456789abcdef"), 0);
        assert_int_equal(do_wish(&w, 3, wish), 0);
        assert_int_equal(po__model_snapshot_begin(w.m), 0);
        assert_int_equal(po__model_snapshot_step(w.m, &bytes, 1 << 20), 1);
        world_open(&other, NULL);
        assert_int_equal(restore(other.m, bytes.data, bytes.len, 5), 0);
        assert_int_equal(po__model_member(other.m, 3, &i), 1);
        assert_int_equal(i.wish, wish);
        world_close(&other);
        po__buf_fini(&bytes);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_register),
        TEST(test_same_incarnation_again),
        TEST(test_new_incarnation_takes_over),
        TEST(test_offline_requeues_in_the_same_command),
        TEST(test_draining),
        TEST(test_deregister),
        TEST(test_members),
        TEST(test_wishes),
        TEST(test_wishes_are_in_the_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
