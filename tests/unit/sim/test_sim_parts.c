/* The parts of a simulated world: order of events, links, the trace, a disk that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "sim/disk_sim.h"
#include "sim/events.h"
#include "sim/network.h"
#include "sim/trace.h"

static void test_events_come_in_order(void **state)
{
    (void)state;
    struct po__events q = {0};
    struct po__rng r;
    po__rng_init(&r, 1);
    for (unsigned i = 0; i < 1000; i++)
        po__events_push(&q, (struct po__event){.us = po__rng_range(&r, 0, 50), .value = i});
    uint64_t us = 0, number = 0;
    for (unsigned i = 0; i < 1000; i++) {
        struct po__event e = po__events_pop(&q);
        assert_true(e.us > us || (e.us == us && (i == 0 || e.number > number)));
        us = e.us;
        number = e.number;
    }
    assert_int_equal(po__events_next_us(&q), UINT64_MAX);
    po__events_fini(&q);
}

static struct po__simnet net;
static struct po__rng rng;

static void reset_net(void)
{
    memset(&net, 0, sizeof net);
    po__rng_init(&rng, 7);
    net.rng = &rng;
}

static void test_links_are_one_way(void **state)
{
    (void)state;
    uint64_t at[PO__SIM_COPIES_MAX];
    reset_net();
    po__simnet_block(&net, 1, 2, true);
    assert_int_equal(po__simnet_send(&net, 1, 2, 10, true, 0, at), 0);
    assert_int_equal(po__simnet_send(&net, 2, 1, 10, true, 0, at), 1);
    po__simnet_heal(&net);
    assert_int_equal(po__simnet_send(&net, 1, 2, 10, true, 0, at), 1);
}

static void test_order_and_width(void **state)
{
    (void)state;
    uint64_t at[PO__SIM_COPIES_MAX], last = 0;
    reset_net();
    net.jitter_us = 5000;
    net.links[0][1].delay_us = 100;
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(po__simnet_send(&net, 0, 1, 10, false, i * 10, at), 1);
        assert_true(at[0] > last && at[0] >= i * 10 + 100);
        last = at[0];
    }
    net.bytes_per_ms = 10;
    assert_int_equal(po__simnet_send(&net, 1, 0, 1000, false, 0, at), 1);
    assert_true(at[0] >= 100000);
    assert_int_equal(po__simnet_send(&net, 1, 0, 1000, false, 0, at), 1);
    assert_true(at[0] >= 200000); /* it waited for the first */
}

static void test_loss_and_copies(void **state)
{
    (void)state;
    uint64_t at[PO__SIM_COPIES_MAX];
    unsigned lost = 0, twice = 0;
    reset_net();
    net.loss_percent = 20;
    net.duplicate_percent = 20;
    for (unsigned i = 0; i < 1000; i++) {
        unsigned copies = po__simnet_send(&net, 0, 1, 1, false, 0, at);
        lost += copies == 0;
        twice += copies == 2;
        assert_int_equal(po__simnet_send(&net, 0, 1, 1, true, 0, at), 1);
    }
    assert_in_range(lost, 150, 250);
    assert_in_range(twice, 100, 220);
}

struct lines {
    unsigned count;
    char first[PO__TRACE_LINE_MAX_BYTES];
};

static void count_line(void *arg, const char *line)
{
    struct lines *l = arg;
    if (l->count++ == 0)
        snprintf(l->first, sizeof l->first, "%s", line);
}

static void test_trace_keeps_the_last(void **state)
{
    (void)state;
    static struct po__trace a, b;
    struct lines l = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        po__trace_add(&a, i, "%s: step %llu", "x", i, 0, 0, 0, 0);
        po__trace_add(&b, i, "%s: step %llu", "x", i + (i == 3), 0, 0, 0, 0);
    }
    po__trace_each(&a, count_line, &l);
    assert_int_equal(l.count, PO__TRACE_ENTRIES);
    assert_string_equal(l.first, "[   0.000800] x: step 800");
    assert_true(a.hash != b.hash); /* though the difference is no longer kept */
}

static void test_a_wrong_read_is_wrong_once(void **state)
{
    (void)state;
    for (int misdirected = 0; misdirected < 2; misdirected++) {
        struct po__disk_sim *m = po__disk_sim_new(1);
        struct po__disk *d;
        struct po__file *f;
        static uint8_t data[2 * PO__DISK_ALIGN], got[PO__DISK_ALIGN];
        memset(data, 1, PO__DISK_ALIGN);
        memset(data + PO__DISK_ALIGN, 2, PO__DISK_ALIGN);
        po__disk_sim_attach(m, &d);
        assert_int_equal(d->ops->open(d, &f, "file", PO__FILE_CREATE), 0);
        assert_int_equal(d->ops->write(f, data, sizeof data, 0), 0);
        po__disk_sim_misread_at(m, 2, misdirected);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(d->ops->read(f, got, sizeof got, 0), 0);
            assert_int_equal(memcmp(got, data, sizeof got) != 0, i == 1);
        }
        assert_int_equal(po__disk_sim_misreads(m), 1);
        d->ops->close(f);
        d->ops->destroy(d);
        po__disk_sim_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_in_order),
        cmocka_unit_test(test_links_are_one_way),
        cmocka_unit_test(test_order_and_width),
        cmocka_unit_test(test_loss_and_copies),
        cmocka_unit_test(test_trace_keeps_the_last),
        cmocka_unit_test(test_a_wrong_read_is_wrong_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
