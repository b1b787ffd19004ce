/* Application commands: applied once per key, and what is kept of them. */
#include "fixture.h"

static struct world w;
static struct journal j;
static struct po_state_machine sm;

static int setup(void **state)
{
    (void)state;
    memset(&j, 0, sizeof j);
    sm = journal_machine(&j);
    world_open(&w, &sm);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static void expect_data(const char *text)
{
    assert_true(po__slice_eq(w.result.data, po__str(text)));
}

static void test_once_per_key(void **state)
{
    (void)state;
    assert_int_equal(do_app(&w, "", "ab"), 0);
    expect_data("2");
    assert_int_equal(do_app(&w, "", "ab"), 0);
    expect_data("4");
    assert_int_equal(do_app(&w, "k", "c"), 0);
    expect_data("5");
    assert_int_equal(do_app(&w, "l", "c"), 0);
    expect_data("6");
    assert_int_equal(do_app(&w, "k", "c"), 0); /* repeated: the answer of then */
    expect_data("5");
    assert_int_equal(j.len, 6);
    assert_memory_equal(j.text, "ababcc", 6);
}

static void test_oldest_keys_are_forgotten(void **state)
{
    (void)state;
    char key[16];
    w.unchecked = true;
    for (int i = 0; i < PO__APP_KEYS_MAX + 10; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        do_app(&w, key, "x");
    }
    size_t len = j.len;
    do_app(&w, "key-10", "x"); /* the oldest that is kept */
    expect_data("11");
    assert_int_equal(j.len, len);
    do_app(&w, "key-9", "x"); /* forgotten: applied again, and key-10 goes for it */
    assert_int_equal(j.len, len + 1);
    do_app(&w, "key-10", "x");
    assert_int_equal(j.len, len + 2);
    world_check(&w);
}

static int big_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                     size_t *result_len)
{
    (void)arg;
    (void)index;
    (void)len;
    memset(result, *(const char *)cmd, *result_len);
    return 0;
}

static void test_results_are_bounded_in_bytes(void **state)
{
    (void)state;
    char key[16];
    sm.apply = big_apply;
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        do_app(&w, key, i % 2 ? "a" : "b");
        assert_int_equal(w.result.data.len, PO_PAYLOAD_MAX_BYTES);
    }
    do_app(&w, "key-39", "z");
    assert_int_equal(w.result.data.data[77], 'a');
    do_app(&w, "key-24", "z");
    assert_int_equal(w.result.data.data[77], 'b'); /* 16 MiB are kept: 24..39 */
    do_app(&w, "key-23", "z");
    assert_int_equal(w.result.data.data[77], 'z');
}

static void stops(struct world *x, int code)
{
    x->cmd.type = PO__CMD_APP;
    x->cmd.app.key = po__str("");
    x->cmd.app.data = po__str("x");
    assert_int_equal(po__model_apply(x->m, ++x->index, 1, &x->cmd, NULL, NULL), code);
    assert_int_equal(po__model_apply(x->m, ++x->index, 1, &x->cmd, NULL, NULL),
                     code); /* and for good */
}

static int too_long_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                          size_t *result_len)
{
    (void)arg;
    (void)index;
    (void)cmd;
    (void)len;
    (void)result;
    *result_len = PO_PAYLOAD_MAX_BYTES + 1;
    return 0;
}

static void test_faults_stop_the_node(void **state)
{
    (void)state;
    struct world x;
    j.broken = true;
    assert_int_equal(po__model_snapshot_begin(w.m), PO_EFAULT);
    stops(&w, PO_EFAULT);
    world_open(&x, NULL);
    stops(&x, PO_EFAULT);
    world_close(&x);
    sm.apply = too_long_apply;
    world_open(&x, &sm);
    stops(&x, PO_EFAULT);
    world_close(&x);
}

static void test_followers_need_no_result(void **state)
{
    (void)state;
    struct world x;
    struct journal k = {.len = 0};
    struct po_state_machine s = journal_machine(&k);
    world_open(&x, &s);
    do_app(&w, "k", "abc");
    assert_int_equal(po__model_apply(x.m, w.index, w.now_ms, &w.decoded, NULL, NULL), 0);
    assert_true(digest(w.m) == digest(x.m));
    world_close(&x);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_once_per_key),
        TEST(test_oldest_keys_are_forgotten),
        TEST(test_results_are_bounded_in_bytes),
        TEST(test_faults_stop_the_node),
        TEST(test_followers_need_no_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
