/* Placements and extras of tasks: their encoding, and what is refused before it reaches the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "model/command.h"
#include "samples.h"

#define SAMPLE_SUBMIT_MORE 23

static struct po__cmd cmd, copy;

static int decode(const struct po__buf *b)
{
    struct po__mpr r;
    memset(&copy, 0xa5, sizeof copy);
    po__mpr_init(&r, b->data, b->len);
    int rv = po__cmd_decode(&r, &copy, true);
    return rv ? rv : po__mpr_end(&r);
}

/* What it holds points into steps. */
static struct po__extra extra_of_sample(struct po__buf *steps)
{
    struct po__extra e;
    po__buf_reset(steps);
    sample_extra(steps);
    assert_int_equal(po__extra_decode(po__buf_slice(steps), &e), 0);
    return e;
}

static void expect_extra(const struct po__extra *e, const char *part)
{
    char message[300] = "";
    assert_int_equal(po__extra_check(e, message, sizeof message), part ? PO_EINVAL : 0);
    if (part && !strstr(message, part))
        fail_msg("\"%s\" does not say \"%s\"", message, part);
}

static void test_check_extra(void **state)
{
    (void)state;
    struct po__buf steps = {0};
#define EXTRA(field, value, part)                                                                  \
    do {                                                                                           \
        struct po__extra e = extra_of_sample(&steps);                                              \
        e.field = value;                                                                           \
        expect_extra(&e, part);                                                                    \
    } while (0)
    EXTRA(priority, 0, NULL);
    EXTRA(priority, PO_PRIORITY_MAX + 1, "priority is 10");
    EXTRA(run_at_ms, PO__TIME_MAX_MS + 1, "out of range");
    EXTRA(deadline_ms, PO__TIME_MAX_MS + 1, "out of range");
    EXTRA(deadline_ms, UINT64_C(1795000000000), "it could never run");
    EXTRA(deadline_ms, 0, NULL);
    EXTRA(retry_ms, 5001, "not above the second");
    EXTRA(retry_max_ms, PO__ATTEMPT_MAX_MS + 1, "retry_max_ms 86400001");
    EXTRA(keep_ms, PO__KEEP_MAX_MS + 1, "keep_ms");
    EXTRA(gate, po__str(""), "no concurrency key that it is for");
    EXTRA(gate, po__str("a b"), "\"a b\" is not a name");
    EXTRA(rate_ms, 0, "10 per 0 ms");
    EXTRA(rate_max, 0, "0 per 1000 ms");
    EXTRA(rate_max, PO__RATE_MAX + 1, "1000001 per 1000 ms");
    EXTRA(rate_ms, PO__RATE_PERIOD_MAX_MS + 1, "per 86400001 ms");
    EXTRA(placement, po__str("\xc1"), "the placement cannot be read");
    struct po__extra e = extra_of_sample(&steps);
    e.rate_max = 1001, e.rate_ms = 1, expect_extra(&e, "at most 1000 per ms");
    e.rate_max = 1000, expect_extra(&e, NULL);
    e.gate_max = e.rate_max = e.rate_ms = 0, expect_extra(&e, "has no limit");
    po__buf_fini(&steps);
}

static void expect_placement(const struct po__placement *p, const char *part)
{
    char message[300] = "";
    assert_int_equal(po__placement_check(p, message, sizeof message), part ? PO_EINVAL : 0);
    if (part && !strstr(message, part))
        fail_msg("\"%s\" does not say \"%s\"", message, part);
}

static void test_check_placement(void **state)
{
    (void)state;
    struct po__placement p = {0};
    static char big[PO__LABEL_MAX_BYTES + 1];
    memset(big, 'k', sizeof big);
    expect_placement(&p, NULL);
    p.range = po__str("^^1"), expect_placement(&p, "\"^^1\" is not a range of versions");
    p.range = po__str("1"), p.zone = po__str("a b"), expect_placement(&p, "required zone \"a b\"");
    p.zone = po__str(""), p.gpu = 3, expect_placement(&p, "gpu is 3");
    p.gpu = 0, p.prefer = 4, expect_placement(&p, "prefer 4");
    p.prefer = 0, p.labels_count = PO_PLACEMENT_LABELS_MAX + 1, expect_placement(&p, "17 labels");
    p.labels_count = 1, expect_placement(&p, "empty or too long");
    p.labels[0].key = po__slice(big, sizeof big), expect_placement(&p, "empty or too long");
    p.labels[0].key.len--, expect_placement(&p, NULL);
    p.labels[0].op = PO__LABEL_ABSENT + 1, expect_placement(&p, "unknown operator 4");
    p.labels[0].op = PO__LABEL_ABSENT, p.labels[0].value = po__str("v"),
    expect_placement(&p, "no value may be given");
}

/* One encoding for one meaning, whoever encoded it, and none for no demand. */
static void test_extra_is_canonical(void **state)
{
    (void)state;
    struct po__buf placement = {0}, a = {0}, b = {0};
    struct po__extra e = {0};
    struct po__placement p = {.labels_count = 2, .resources_count = 2}, q;
    p.labels[0] = (struct po__label_wish){po__str("a"), po__str("1"), PO__LABEL_EQUAL};
    p.labels[1] = (struct po__label_wish){po__str("b"), po__str("2"), PO__LABEL_UNEQUAL};
    p.resources[0] = (struct po__resource){po__str("c"), 3};
    p.resources[1] = (struct po__resource){po__str("d"), 4};
    po__placement_encode(&placement, &p);
    e.placement = po__buf_slice(&placement);
    po__extra_encode(&a, &e);
    /* [priority in a longer form than it needs; labels and resources the other way round] */
    static const char foreign[] = "\x96\xa0\xa0\x00\x00\x92\x93\xa1\x62\xa1\x32\x01\x93\xa1\x61\xa1"
                                  "\x31\x00\x82\xa1\x64\x04\xa1\x63\xcd\x00\x03";
    e.placement = po__slice(foreign, sizeof foreign - 1);
    memset(&cmd, 0, sizeof cmd);
    cmd.type = PO__CMD_TASK_SUBMIT_MORE;
    cmd.submit.capability = po__str("a:x");
    po__extra_encode(&b, &e);
    cmd.submit.extra = po__buf_slice(&b);
    assert_int_equal(po__placement_decode(e.placement, &q), 0);
    po__buf_reset(&placement);
    po__cmd_encode(&placement, &cmd);
    assert_int_equal(decode(&placement), 0);
    assert_true(po__slice_eq(copy.submit.extra, po__buf_slice(&a)));
    /* nothing is asked for, at length */
    po__buf_reset(&b);
    e = (struct po__extra){.placement = po__str("\x96\xa0\xa0\x00\x00\x90\x80")};
    e.placement.len = 7; /* it holds NULs */
    po__extra_encode(&b, &e);
    cmd.submit.extra = po__buf_slice(&b);
    po__buf_reset(&placement);
    po__cmd_encode(&placement, &cmd);
    assert_int_equal(decode(&placement), 0);
    assert_true(po__slice_eq(copy.submit.extra, po__str("\x90")));
    cmd.submit.extra = po__str("\xc1");
    po__buf_reset(&placement);
    po__cmd_encode(&placement, &cmd);
    assert_int_equal(placement.err, PO_EPROTO);
    po__buf_fini(&placement);
    po__buf_fini(&a);
    po__buf_fini(&b);
}

/* An extra is cut off nowhere, and has all of its fields or none. */
static void test_malformed_extra(void **state)
{
    (void)state;
    struct po__buf a = {0};
    struct po__extra e;
    struct po__placement p;
    sample_extra(&a);
    for (size_t n = 0; n < a.len; n++)
        assert_int_equal(po__extra_decode(po__slice(a.data, n), &e), PO_EPROTO);
    assert_int_equal(po__extra_decode(po__buf_slice(&a), &e), 0);
    struct po__slice bytes = e.placement;
    for (size_t n = 1; n < bytes.len; n++)
        assert_int_equal(po__placement_decode(po__slice(bytes.data, n), &p), PO_EPROTO);
    assert_int_equal(po__placement_decode(po__slice(NULL, 0), &p), 0);
    assert_true(po__placement_empty(&p));
    po__buf_append(&a, "\0", 1);
    assert_int_equal(po__extra_decode(po__buf_slice(&a), &e), PO_EPROTO);
    assert_int_equal(po__extra_decode(po__str("\x91\x01"), &e), PO_EPROTO);
    assert_int_equal(po__extra_decode(po__str("\x90"), &e), 0);
    po__buf_fini(&a);
}

static void test_extra_without_memory(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    sample(&cmd, SAMPLE_SUBMIT_MORE, &steps);
    for (uint64_t n = 1;; n++) {
        struct po__buf b = {0};
        po__alloc_fail_at(n);
        po__cmd_encode(&b, &cmd);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(b.err, failed ? PO_ENOMEM : 0);
        po__buf_fini(&b);
        if (!failed)
            break;
    }
    po__buf_fini(&steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_extra),          cmocka_unit_test(test_check_placement),
        cmocka_unit_test(test_extra_is_canonical),   cmocka_unit_test(test_malformed_extra),
        cmocka_unit_test(test_extra_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
