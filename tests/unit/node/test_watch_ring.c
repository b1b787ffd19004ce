/* The ring of events: order, filters, bounds, and what is said of history that is gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "node/watch_ring.h"

static struct po__watch_ring ring;
static struct po__buf out;
static const struct po__watch_filter everything;

static int setup(void **state)
{
    (void)state;
    po__watch_ring_init(&ring);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    po__watch_ring_reset(&ring, 0);
    assert_int_equal(ring.count, 0);
    po__buf_fini(&out);
    return 0;
}

static struct po__watch_pos pos(uint64_t index, uint32_t position)
{
    return (struct po__watch_pos){index, position};
}

static void add(uint64_t index, uint32_t position, uint32_t kind, uint64_t id)
{
    const struct po__news e = {.kind = kind, .id = id, .name = po__str("a:x")};
    po__watch_ring_add(&ring, pos(index, position), 1000 + index, &e);
}

static uint32_t read_from(struct po__watch_pos *from, const struct po__watch_filter *f,
                          uint32_t limit)
{
    po__buf_reset(&out);
    uint32_t n = po__watch_ring_read(&ring, from, f, limit, SIZE_MAX, &out);
    assert_int_equal(out.err, 0);
    return n;
}

/* The n-th of the events that were read. */
static struct po__watch_event read_event(unsigned n)
{
    struct po__watch_event e = {0};
    struct po__mpr r;
    po__mpr_init(&r, out.data, out.len);
    for (unsigned i = 0; i <= n; i++)
        assert_int_equal(po__watch_event_decode(&r, &e), 0);
    return e;
}

static void expect_pos(struct po__watch_pos p, uint64_t index, uint32_t position)
{
    if (po__watch_pos_cmp(p, pos(index, position)) != 0)
        fail_msg("%llu:%u, expected %llu:%u", (unsigned long long)p.index, p.position,
                 (unsigned long long)index, position);
}

static void test_what_was_added_is_read(void **state)
{
    (void)state;
    static const struct po__news full = {.kind = PO_WATCH_STEP_FINISHED,
                                         .attempt = 3,
                                         .state = 5,
                                         .id = UINT64_MAX,
                                         .run_id = 4,
                                         .token = 70000,
                                         .worker = {"w1", 2},
                                         .name = {"energy", 6},
                                         .step = {"clean", 5},
                                         .error = {"row 3", 5}};
    struct po__watch_pos p = pos(1, 0);
    assert_int_equal(read_from(&p, &everything, 10), 0);
    expect_pos(p, 1, 0);
    po__watch_ring_add(&ring, pos(5, 1), 123456, &full);
    add(5, 2, PO_WATCH_TASK_SUBMITTED, 9);
    assert_int_equal(read_from(&p, &everything, 10), 2);
    expect_pos(p, 5, 2);
    struct po__watch_event e = read_event(0);
    expect_pos(e.at, 5, 1);
    assert_int_equal(e.time_ms, 123456);
    assert_int_equal(e.event.kind, full.kind);
    assert_int_equal(e.event.attempt, 3);
    assert_int_equal(e.event.state, 5);
    assert_true(e.event.id == UINT64_MAX);
    assert_int_equal(e.event.run_id, 4);
    assert_int_equal(e.event.token, 70000);
    assert_true(po__slice_eq(e.event.worker, full.worker));
    assert_true(po__slice_eq(e.event.name, full.name));
    assert_true(po__slice_eq(e.event.step, full.step));
    assert_true(po__slice_eq(e.event.error, full.error));
    e = read_event(1);
    expect_pos(e.at, 5, 2);
    assert_int_equal(e.event.worker.len, 0);

    p = pos(5, 1); /* behind the first one */
    assert_int_equal(read_from(&p, &everything, 10), 1);
    assert_int_equal(read_event(0).event.id, 9);
    p = pos(5, 0); /* the whole entry */
    assert_int_equal(read_from(&p, &everything, 1), 1);
    expect_pos(p, 5, 1);
    po__watch_ring_advance(&ring, 8); /* entries without events count as looked at */
    assert_int_equal(read_from(&p, &everything, 10), 1);
    expect_pos(p, 9, 0);
    po__watch_ring_advance(&ring, 7);
    expect_pos(ring.end, 9, 0);
}

static void test_an_event_is_read_whole_or_not(void **state)
{
    (void)state;
    struct po__watch_event e;
    struct po__mpr r;
    struct po__watch_pos p = pos(1, 0);
    add(2, 1, PO_WATCH_TASK_GRANTED, 300);
    assert_int_equal(read_from(&p, &everything, 1), 1);
    for (size_t n = 0; n < out.len; n++) {
        po__mpr_init(&r, out.data, n);
        assert_int_equal(po__watch_event_decode(&r, &e), PO_EPROTO);
    }
    out.data[0]++; /* a newer node's, with a field behind those known here */
    po__mpw_cstr(&out, "more");
    po__mpr_init(&r, out.data, out.len);
    assert_int_equal(po__watch_event_decode(&r, &e), 0);
    assert_int_equal(po__mpr_end(&r), 0);
    assert_int_equal(e.event.id, 300);
}

static void test_filters(void **state)
{
    (void)state;
    const struct po__news events[] = {
        {.kind = PO_WATCH_TASK_SUBMITTED, .id = 1, .name = po__str("a:x")},
        {.kind = PO_WATCH_TASK_GRANTED, .id = 1, .worker = po__str("w1"), .name = po__str("a:x")},
        {.kind = PO_WATCH_LEADER, .id = 1, .token = 3, .name = po__str("p")},
        {.kind = PO_WATCH_WORKER_GONE, .worker = po__str("w1")},
        {.kind = PO_WATCH_RUN_STARTED, .run_id = 1, .name = po__str("p")},
        {.kind = PO_WATCH_STEP_STARTED, .id = 2, .run_id = 1, .name = po__str("p")},
        {.kind = PO_WATCH_TASK_FINISHED, .id = 2, .run_id = 1, .worker = po__str("w10")},
        {.kind = PO_WATCH_PIPELINE_DEFINED, .name = po__str("p")},
    };
    const struct {
        struct po__watch_filter f;
        unsigned bits; /* which of the events */
    } cases[] = {
        {{0}, 0xff},
        {{.kinds = PO_WATCH_TASKS}, 0x43},
        {{.kinds = PO_WATCH_WORKERS}, 0x08},
        {{.kinds = PO_WATCH_RUNS}, 0xb0},
        {{.kinds = PO_WATCH_MEMBERS}, 0x04},
        {{.kinds = PO_WATCH_TASKS | PO_WATCH_MEMBERS, .task_id = 1}, 0x03},
        {{.task_id = 1}, 0x03}, /* a node's id is no task's */
        {{.task_id = 2}, 0x60},
        {{.run_id = 1}, 0x70},
        {{.worker = po__str("w1")}, 0x0a},
        {{.worker = po__str("w")}, 0},
        {{.pipeline = po__str("p")}, 0xb0},
        {{.run_id = 1, .task_id = 2, .worker = po__str("w10")}, 0x40},
    };
    for (uint32_t i = 0; i < 8; i++)
        po__watch_ring_add(&ring, pos(7, i + 1), 1, &events[i]);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct po__watch_pos p = pos(1, 0);
        unsigned bits = 0;
        uint32_t n = read_from(&p, &cases[c].f, 100);
        for (uint32_t i = 0; i < n; i++)
            bits |= 1u << (read_event(i).at.position - 1);
        if (bits != cases[c].bits)
            fail_msg("case %zu: events %#x, expected %#x", c, bits, cases[c].bits);
        expect_pos(p, 7, 8); /* looked at, wanted or not */
    }
}

/* In steps of any size, everything is read once. */
static void test_limits(void **state)
{
    (void)state;
    enum { COUNT = 3000 }; /* several chunks */
    for (uint32_t i = 0; i < COUNT; i++)
        add(10 + i / 3, 1 + i % 3, i % 2 ? PO_WATCH_TASK_GRANTED : PO_WATCH_TASK_SUBMITTED, i);
    const struct po__watch_filter half = {.kinds = PO_WATCH_BIT(PO_WATCH_TASK_GRANTED)};
    const uint32_t steps[] = {1, 7, 999, 100000};
    for (unsigned s = 0; s < 4; s++) {
        struct po__watch_pos p = pos(1, 0);
        uint64_t next = 1;
        uint32_t n;
        while ((n = read_from(&p, &half, steps[s])) != 0)
            for (uint32_t i = 0; i < n; i++, next += 2)
                if (i == 0 || i == n - 1)
                    assert_int_equal(read_event(i).event.id, next);
        assert_int_equal(next, COUNT + 1);
    }
    struct po__watch_pos p = pos(1, 0);
    po__buf_reset(&out);
    assert_int_equal(po__watch_ring_read(&ring, &p, &everything, 1000, 1, &out),
                     1); /* at least one */
    po__buf_reset(&out);
    uint32_t n = po__watch_ring_read(&ring, &p, &everything, 1000, 500, &out);
    assert_true(n > 1 && out.len >= 500 && out.len < 600);
    assert_int_equal(read_event(n - 1).event.id, n);
    po__buf_reset(&out);
    assert_int_equal(po__watch_ring_read(&ring, &p, &everything, 1, 500, &out), 1);
    assert_int_equal(read_event(0).event.id, n + 1);
}

/* Whatever is forgotten, what is left has no gap, and `kept` says where it begins. */
static void check_kept(uint64_t last)
{
    struct po__watch_pos p = ring.kept;
    uint64_t expected = p.index + 1, count = 0;
    uint32_t n;
    while ((n = read_from(&p, &everything, 10000)) != 0) {
        struct po__mpr r;
        po__mpr_init(&r, out.data, out.len);
        for (uint32_t i = 0; i < n; i++, expected++, count++) {
            struct po__watch_event e;
            assert_int_equal(po__watch_event_decode(&r, &e), 0);
            assert_int_equal(e.at.index, expected);
        }
    }
    assert_int_equal(expected, last + 1);
    assert_int_equal(count, ring.count);
}

static void test_bounds(void **state)
{
    (void)state;
    uint64_t index = 1;
    for (; ring.kept.index == 1; index++) /* small ones: their number is the bound */
        add(index + 1, 1, PO_WATCH_TASK_SUBMITTED, index);
    assert_true(ring.count <= PO_WATCH_EVENTS_MAX && ring.count > PO_WATCH_EVENTS_MAX * 9 / 10);
    check_kept(index);
    static char error[PO__NEWS_ERROR_MAX_BYTES + 1];
    memset(error, 'e', PO__NEWS_ERROR_MAX_BYTES);
    const struct po__news big = {.kind = PO_WATCH_TASK_RETRY,
                                 .worker = po__str("a worker of some name"),
                                 .error = po__str(error)};
    for (int i = 0; i < 200000; i++) /* large ones: their bytes */
        po__watch_ring_add(&ring, pos(++index, 1), 1, &big);
    assert_true(ring.chunks_count * PO__WATCH_CHUNK_BYTES <= PO__WATCH_RING_MAX_BYTES);
    assert_true(ring.count * (sizeof big + sizeof error) > PO__WATCH_RING_MAX_BYTES / 2);
    check_kept(index);
    po__watch_ring_reset(&ring, 5000000);
    expect_pos(ring.kept, 5000001, 0);
    expect_pos(ring.end, 5000001, 0);
    add(5000001, 1, PO_WATCH_TASK_SUBMITTED, 1);
    struct po__watch_pos p = ring.kept;
    assert_int_equal(read_from(&p, &everything, 10), 1);
}

static void test_no_memory(void **state)
{
    (void)state;
    add(2, 1, PO_WATCH_TASK_SUBMITTED, 1);
    while (ring.chunks_count == 1 && ring.end.position < 5000) {
        po__alloc_fail_at(1); /* none is needed but for the next chunk */
        add(2, ring.end.position + 1, PO_WATCH_TASK_SUBMITTED, 1);
        po__alloc_fail_at(0);
    }
    assert_int_equal(ring.count, 0); /* said, not hidden */
    expect_pos(ring.kept, ring.end.index, ring.end.position);
    add(3, 1, PO_WATCH_TASK_SUBMITTED, 2);
    struct po__watch_pos p = ring.kept;
    assert_int_equal(read_from(&p, &everything, 10), 1);
    assert_int_equal(read_event(0).event.id, 2);

    po__buf_fini(&out);
    p = ring.kept;
    po__alloc_fail_at(1);
    po__watch_ring_read(&ring, &p, &everything, 10, SIZE_MAX, &out);
    po__alloc_fail_at(0);
    assert_int_equal(out.err, PO_ENOMEM);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_added_is_read),
        TEST(test_an_event_is_read_whole_or_not),
        TEST(test_filters),
        TEST(test_limits),
        TEST(test_bounds),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
