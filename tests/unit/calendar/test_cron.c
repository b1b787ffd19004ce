/* Which cron expressions are read, as what, and what is said about the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "calendar/civil.h"
#include "calendar/cron.h"

static void same(const char *a, const char *b)
{
    struct po__cron x, y;
    char why[256] = "";
    if (po__cron_parse(&x, po__str(a), why, sizeof why) ||
        po__cron_parse(&y, po__str(b), why, sizeof why))
        fail_msg("%s | %s: %s", a, b, why);
    assert_true(x.minutes == y.minutes && x.hours == y.hours && x.days == y.days &&
                x.months == y.months && x.weekdays == y.weekdays);
}

static void test_ways_to_write(void **state)
{
    (void)state;
    same("*/5 * * * *", "0-59/5 * * * *");
    same("*/5 * * * *", "0,5,10,15,20,25,30,35,40,45,50,55 0-23 1-31 JAN-dec 0-6");
    same("0 8-18/5 * * *", "0 8,13,18 * * *");
    same("1-3,2-6/2,50 0 * * *", "1,2,3,4,6,50 0 * * *");
    same("0 0 * feb,Aug *", "0 0 * 2,8 *");
    same("0 0 * * SUN", "0 0 * * 0");
    same("0 0 * * 7", "0 0 * * 0");
    same("0 0 * * mon-fri", "0 0 * * 1-5");
    same("0 0 * * SAT-SUN", "0 0 * * 0,6");
    same("0 0 * * 5-7", "0 0 * * 5,6,0");
    same("  0\t0  *  * \t* ", "0 0 * * *");
    same("@hourly", "0 * * * *");
    same("@daily", "0 0 * * *");
    same("@weekly", "0 0 * * SUN");
    same("@monthly", "0 0 1 * *");
    same("@Yearly", "0 0 1 1 *");
}

static void test_either_day(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool either;
    } cases[] = {{"0 0 13 * 5", true},
                 {"0 0 13 * *", false},
                 {"0 0 * * 5", false},
                 {"0 0 */2 * 5", false},
                 {"0 0 1-31 * 5", true}};
    struct po__cron c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(po__cron_parse(&c, po__str(cases[i].text), NULL, 0), 0);
        assert_int_equal(c.either_day, cases[i].either);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "cron has 0 fields; expected 5"},
        {"* * * *", "cron has 4 fields; expected 5"},
        {"* * * * * *", "cron has 6 fields; expected 5"},
        {"* * * * * * * *", "cron has 8 fields; expected 5"},
        {"hourly", "cron has 1 field; expected 5"},
        {"@minutely", "or @hourly"},
        {"60 * * * *", "field 1 (minute): \"60\" is not understood; expected 0..59"},
        {"-1 * * * *", "field 1 (minute): \"-1\""},
        {"* 24 * * *", "field 2 (hour): \"24\" is not understood; expected 0..23"},
        {"* * 0 * *", "field 3 (day of month): \"0\" is not understood; expected 1..31"},
        {"* * 32 * *", "field 3 (day of month): \"32\""},
        {"* * ? * *", "field 3 (day of month): \"?\""},
        {"* * L * *", "field 3 (day of month): \"L\""},
        {"* * * 13 *", "field 4 (month): \"13\" is not understood; expected 1..12 or JAN..DEC"},
        {"* * * JANUARY *", "field 4 (month): \"JANUARY\""},
        {"* * * * 8", "field 5 (day of week): \"8\" is not understood; expected 0..7"},
        {"* * * MON *", "field 4 (month): \"MON\""},
        {"* * * * FRI#2", "field 5 (day of week): \"FRI#2\""},
        {"1, * * * *", "field 1 (minute): \"1,\""},
        {",1 * * * *", "field 1 (minute): \"\" is not understood"},
        {"1,,2 * * * *", "field 1 (minute): \"\" is not understood"},
        {"1- * * * *", "field 1 (minute): \"1-\""},
        {"1-2-3 * * * *", "field 1 (minute): \"1-2-3\""},
        {"5-1 * * * *", "the range \"5-1\" goes backwards"},
        {"* * * * FRI-MON", "the range \"FRI-MON\" goes backwards"},
        {"*/0 * * * *", "the step \"0\" is not understood; expected 1..59"},
        {"*/ * * * *", "the step \"\" is not understood"},
        {"*/x * * * *", "the step \"x\" is not understood"},
        {"* */24 * * *", "the step \"24\" is not understood; expected 1..23"},
        {"5/15 * * * *", "expected a range, as in 5-59/15"},
        {"1.5 * * * *", "field 1 (minute): \"1.5\""},
        {"99999999999999999999 * * * *", "field 1 (minute)"},
        {"** * * * *", "field 1 (minute): \"**\""},
        {"0 0 31 2 *", "would never fire"},
        {"0 0 30 FEB *", "would never fire"},
        {"0 0 31 4,6,9,11 *", "would never fire"},
        {"0 0 31 2 */2", "would never fire"},
    };
    struct po__cron c;
    char why[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        why[0] = '\0';
        assert_int_equal(po__cron_parse(&c, po__str(cases[i].text), why, sizeof why), PO_EINVAL);
        if (!strstr(why, cases[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, why, cases[i].says);
        assert_int_equal(po__cron_parse(&c, po__str(cases[i].text), NULL, 0), PO_EINVAL);
    }
    char longest[PO__CRON_MAX_BYTES + 2];
    memset(longest, ' ', sizeof longest);
    memcpy(longest, "* * * * *", 9);
    assert_int_equal(po__cron_parse(&c, po__slice(longest, PO__CRON_MAX_BYTES), NULL, 0), 0);
    assert_int_equal(
        po__cron_parse(&c, po__slice(longest, PO__CRON_MAX_BYTES + 1), why, sizeof why), PO_EINVAL);
    assert_non_null(strstr(why, "at most 256"));
    /* dates that there are, if rarely */
    assert_int_equal(po__cron_parse(&c, po__str("0 0 29 2 *"), NULL, 0), 0);
    assert_int_equal(po__cron_parse(&c, po__str("0 0 31 2,3 *"), NULL, 0), 0);
    assert_int_equal(po__cron_parse(&c, po__str("0 0 31 2 MON"), NULL, 0), 0);
}

/* Each day of 800 years is the day after the one before it. */
static void test_calendar(void **state)
{
    (void)state;
    int64_t day = po__date_to_days(1600, 1, 1);
    int weekday = po__weekday_of_days(day);
    assert_int_equal(weekday, 6);
    for (int64_t year = 1600; year < 2400; year++) {
        for (int month = 1; month <= 12; month++) {
            for (int d = 1; d <= po__days_in_month(year, month); d++, day++) {
                struct po__date date = po__date_of_days(day);
                assert_true(date.year == year && date.month == month && date.day == d);
                assert_int_equal(po__date_to_days(year, month, d), day);
                assert_int_equal(po__weekday_of_days(day), weekday);
                weekday = (weekday + 1) % 7;
            }
        }
    }
    assert_int_equal(day, po__date_to_days(2400, 1, 1));
    assert_int_equal(po__date_to_days(1970, 1, 1), 0);
    assert_int_equal(po__date_to_days(2025, 3, 30), 20177);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_to_write),
        cmocka_unit_test(test_either_day),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_calendar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
