/* libraft's memory: when the system has none left, the core is served from the reserve and the
 * replica stops itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <raft.h>

#include "base/alloc.h"
#include "consensus/heap.h"
#include "consensus/replica.h"

static void test_install_is_idempotent(void **state)
{
    (void)state;
    assert_int_equal(po__heap_install(), 0);
    const struct raft_heap *heap = raft_heap_get();
    assert_int_equal(po__heap_install(), 0);
    assert_ptr_equal(raft_heap_get(), heap);
    assert_false(po__heap_exhausted());
}

static void test_ordinary_use(void **state)
{
    (void)state;
    char *p = raft_malloc(10);
    memcpy(p, "123456789", 10);
    p = raft_realloc(p, 100000);
    assert_string_equal(p, "123456789");
    p = raft_realloc(p, 4);
    assert_memory_equal(p, "1234", 4);
    raft_free(p);
    raft_free(NULL);
    uint64_t *z = raft_calloc(100, sizeof *z);
    for (int i = 0; i < 100; i++)
        assert_int_equal(z[i], 0);
    raft_free(z);
    raft_free(raft_malloc(0));
    assert_false(po__heap_exhausted());
}

/* Every kind of allocation, at the moment when there is no memory. */
static void test_the_core_never_sees_null(void **state)
{
    (void)state;
    po__alloc_fail_at(1);
    char *a = raft_malloc(1000);
    po__alloc_fail_at(0);
    assert_non_null(a);
    assert_true(po__heap_exhausted());
    memset(a, 'a', 1000);

    po__alloc_fail_at(1);
    uint8_t *b = raft_calloc(10, 100);
    po__alloc_fail_at(0);
    assert_non_null(b);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b[i], 0);

    char *c = raft_malloc(8); /* moves into the reserve, whole */
    memcpy(c, "1234567", 8);
    po__alloc_fail_at(1);
    c = raft_realloc(c, 12);
    po__alloc_fail_at(0);
    assert_string_equal(c, "1234567");

    c = raft_realloc(c, 5000); /* and out of it again */
    assert_string_equal(c, "1234567");
    a = raft_realloc(a, 2000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(a[i], 'a');
    assert_true(po__heap_exhausted()); /* it stays so */
    raft_free(a);
    raft_free(b);
    raft_free(c);
    po__heap_reset_for_tests();
    assert_false(po__heap_exhausted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_install_is_idempotent),
        cmocka_unit_test(test_ordinary_use),
        cmocka_unit_test(test_the_core_never_sees_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
