/* The log in memory: ring, references, numbered writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "consensus/log.h"

static struct po__block *block_of(uint64_t index, uint64_t term, uint32_t len)
{
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    assert_non_null(b);
    struct po__rec *r = (void *)b->data;
    *r = (struct po__rec){.len = len, .index = index, .term = term, .type = 1};
    return b;
}

static void put(struct po__log *l, uint64_t index, uint64_t term, uint64_t write)
{
    struct po__block *b = block_of(index, term, 8);
    assert_int_equal(po__log_reserve(l, 1), 0);
    po__log_append(l, b, (struct po__rec *)(void *)b->data, write);
    po__block_unref(b);
}

static void test_ring(void **state)
{
    struct po__log l;
    (void)state;

    po__log_init(&l, 5);
    assert_int_equal(po__log_last(&l), 4);
    assert_null(po__log_get(&l, 4));
    assert_null(po__log_get(&l, 5));
    /* Around the ring many times, growing in between. */
    uint64_t next = 5;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 30 + round; i++, next++)
            put(&l, next, 1, next);
        for (uint64_t i = l.first; i < next; i++)
            assert_int_equal(po__log_get(&l, i)->rec->index, i);
        po__log_trim(&l, next - 20);
        assert_int_equal(l.first, next - 19);
        assert_int_equal(l.count, 19);
        assert_int_equal(l.bytes, 19 * PO__REC_BYTES(8));
    }
    po__log_truncate(&l, next - 5);
    assert_int_equal(po__log_last(&l), next - 6);
    put(&l, next - 5, 2, 99999);
    assert_int_equal(po__log_get(&l, next - 5)->rec->term, 2);
    po__log_trim(&l, next + 100); /* beyond the end: everything */
    assert_int_equal(l.count, 0);
    assert_int_equal(l.bytes, 0);
    po__log_reset(&l, 1000);
    put(&l, 1000, 3, 1);
    assert_int_equal(po__log_last(&l), 1000);
    po__log_fini(&l);
}

/* The completion of a write that was superseded says nothing about what took its place. */
static void test_numbered_writes(void **state)
{
    struct po__log l;
    (void)state;

    po__log_init(&l, 1);
    put(&l, 1, 1, 1);
    put(&l, 2, 1, 2);
    put(&l, 3, 1, 3);
    assert_int_equal(po__log_durable(&l, 0, 0), 0);
    assert_int_equal(po__log_durable(&l, 0, 2), 2);
    po__log_truncate(&l, 2);
    put(&l, 2, 2, 4);
    assert_int_equal(po__log_durable(&l, 0, 3),
                     1); /* 2 and 3 of the old log are durable: who cares */
    assert_int_equal(po__log_durable(&l, 1, 4), 2);
    assert_int_equal(po__log_durable(&l, 2, 100), 2);
    po__log_fini(&l);
}

static void test_count_back(void **state)
{
    struct po__log l;
    (void)state;

    po__log_init(&l, 1);
    for (uint64_t i = 1; i <= 10; i++)
        put(&l, i, 1, i);
    const uint64_t one = PO__REC_BYTES(8);
    assert_int_equal(po__log_count_back(&l, 8, 0), 0);
    assert_int_equal(po__log_count_back(&l, 8, one - 1), 0);
    assert_int_equal(po__log_count_back(&l, 8, one), 1);
    assert_int_equal(po__log_count_back(&l, 8, 3 * one + 1), 3);
    assert_int_equal(po__log_count_back(&l, 8, 1000 * one), 8);
    assert_int_equal(po__log_count_back(&l, 11, 1000 * one), 0);
    po__log_fini(&l);
}

/* Whoever holds a reference can use the record after the log has dropped it. */
static void test_references(void **state)
{
    struct po__log l;
    (void)state;

    po__log_init(&l, 1);
    struct po__block *b = block_of(1, 1, 8);
    assert_int_equal(po__log_reserve(&l, 1), 0);
    po__log_append(&l, b, (struct po__rec *)(void *)b->data, 1);
    assert_int_equal(b->refs, 2);
    po__log_reset(&l, 1);
    assert_int_equal(b->refs, 1);
    assert_int_equal(((struct po__rec *)(void *)b->data)->index, 1);
    po__block_unref(b);
    po__log_fini(&l);
}

static void test_out_of_memory(void **state)
{
    struct po__log l;
    (void)state;

    po__log_init(&l, 1);
    po__alloc_fail_at(1);
    assert_int_equal(po__log_reserve(&l, 1), PO_ENOMEM);
    po__alloc_fail_at(0);
    for (uint64_t i = 1; i <= 64; i++)
        put(&l, i, 1, i);
    po__alloc_fail_at(1);
    assert_int_equal(po__log_reserve(&l, 1), PO_ENOMEM);
    po__alloc_fail_at(0);
    assert_int_equal(po__log_last(&l), 64); /* as it was */
    assert_int_equal(po__log_get(&l, 64)->rec->index, 64);
    po__log_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),          cmocka_unit_test(test_numbered_writes),
        cmocka_unit_test(test_count_back),    cmocka_unit_test(test_references),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
