/* Semantic versions and ranges, against a table that another implementation made (semver/table.js),
 * and what no table says: what is malformed, and numbers beyond 64 bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "model/command.h"
#include "semver/table.inc"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* A copy of exactly that size on the heap, so that a checker sees reads behind it. */
static bool range_ok(const char *text)
{
    size_t len = strlen(text);
    char *copy = test_malloc(len + 1);
    memcpy(copy, text, len);
    bool ok = po__range_ok(po__slice(copy, len));
    test_free(copy);
    return ok;
}

static bool has(const char *range, const char *version)
{
    return po__range_has(po__str(range), po__str(version));
}

static void test_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(table_versions); i++) {
        int expected = 0;
        assert_true(po__semver_ok(po__str(table_versions[i])));
        for (size_t k = i; k < COUNT(table_versions); k++) { /* the table is in order */
            expected = k > i && table_order[k - 1] < 0 ? -1 : expected;
            assert_true(k == i || table_order[k - 1] <= 0);
            int c = po__semver_cmp(po__str(table_versions[i]), po__str(table_versions[k]));
            int d = po__semver_cmp(po__str(table_versions[k]), po__str(table_versions[i]));
            if ((c > 0) - (c < 0) != expected || (d > 0) - (d < 0) != -expected)
                fail_msg("%s against %s: %d and %d, expected %d", table_versions[i],
                         table_versions[k], c, d, expected);
        }
    }
}

static void test_ranges(void **state)
{
    (void)state;
    unsigned wrong = 0;
    assert_true(COUNT(table_ranges) > 250);
    for (size_t i = 0; i < COUNT(table_ranges); i++) {
        const char *range = table_ranges[i].range;
        if (!range_ok(range))
            fail_msg("\"%s\" was refused", range);
        assert_int_equal(strlen(table_ranges[i].has), COUNT(table_versions));
        for (size_t k = 0; k < COUNT(table_versions); k++) {
            bool expected = table_ranges[i].has[k] == '1';
            if (has(range, table_versions[k]) == expected)
                continue;
            print_error("\"%s\" %s %s\n", range, expected ? "lacks" : "has", table_versions[k]);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(has("* || 1.0.0-rc.1", "1.0.0-rc.1")); /* npm stops reading at the '*' */
}

/* Among them forms that npm reads and we do not: a "v" or "=v" in front, hyphens, "~>", tabs. */
static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "^",          "~",       ">",
        ">=",         "<",       "=",
        "^^1",        "=>1",     "~>1.2",
        "== 1",       "<>1",     "1.2.3.4",
        "1.",         ".1",      "1..2",
        "1.2.",       "01.2.3",  "1.02",
        "1.2.03",     "v1.2.3",  "=v1",
        "1.2.3-",     "1.2.3+",  "1.2.3-01",
        "1.2.3-a..b", "1.2.3-.", "1.2-alpha",
        "1.x-alpha",  "*-alpha", "1.2.3-a_b",
        "x.1",        "1.x.3",   "*.1",
        "1 - 2",      "1.2.3 -", "|",
        "1|2",        "1 | 2",   "1 |",
        "1 ||| 2",    "1,2",     "1;2",
        "a",          "latest",  "1.2.3a",
        "-1",         "+1",      "1.2.3 ^",
        "\t1",        "1\n",     "1.2.3-\xc3\xa4",
        "1x",         "x1",      "**",
        ">1<2",
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        if (range_ok(bad[i]))
            fail_msg("\"%s\" was accepted", bad[i]);
    assert_false(po__range_ok(po__slice("1\0", 2)));
    char longest[PO_NAME_MAX_BYTES + 2];
    memset(longest, '1', sizeof longest);
    assert_true(po__range_ok(po__slice(longest, PO_NAME_MAX_BYTES)));
    assert_false(po__range_ok(po__slice(longest, PO_NAME_MAX_BYTES + 1)));
}

/* Numbers beyond 64 bits are all the same largest one; there is nothing behind it. */
static void test_overflow(void **state)
{
    (void)state;
    static const char max[] = "18446744073709551615.0.0", below[] = "18446744073709551614.9.9";
    static const char above[] = "99999999999999999999999999.0.0";
    assert_true(po__semver_cmp(po__str(below), po__str(max)) < 0);
    assert_int_equal(po__semver_cmp(po__str(max), po__str(above)), 0);
    assert_true(has("^18446744073709551615", max));
    assert_true(has("~18446744073709551615.0", max));
    assert_true(has("18446744073709551615", above));
    assert_true(has("<=18446744073709551615", above));
    assert_false(has(">18446744073709551615", above));
    assert_false(has("<18446744073709551615", max));
    assert_true(has("<18446744073709551615", below));
    assert_false(has("^18446744073709551614", max));
    assert_true(has("^0.18446744073709551615", "0.18446744073709551615.1"));
    assert_true(has("^0.0.18446744073709551615", "0.0.18446744073709551615"));
    assert_true(po__semver_cmp(po__str("1.0.0-99999999999999999999"),
                               po__str("1.0.0-100000000000000000000")) < 0); /* no limit there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
