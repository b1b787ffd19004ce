/* POSIX TZ strings, as the footers of TZif files have them:
 *
 *   EST5EDT,M3.2.0,M11.1.0    <+1030>-10:30<+11>-11,M10.1.0,M4.1.0    UTC0
 *
 * Offsets count westwards there. A time of day may be from -167 to 167 hours (RFC 8536). */
#include "civil.h"
#include "zone_impl.h"

#define HOUR_S    3600
#define HOURS_MAX 167

struct text {
    const char *p, *end;
    bool bad;
};

static char peek(const struct text *t)
{
    return t->p < t->end ? *t->p : '\0';
}

static bool eat(struct text *t, char c)
{
    bool there = t->p < t->end && *t->p == c;
    t->p += there;
    return there;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int number(struct text *t, int min, int max)
{
    int v = 0;
    const char *from = t->p;
    while (is_digit(peek(t)) && v <= max)
        v = v * 10 + (*t->p++ - '0');
    if (t->p == from || v < min || v > max)
        t->bad = true;
    return v;
}

static void name(struct text *t)
{
    bool quoted = eat(t, '<');
    const char *from = t->p;
    while (is_alpha(peek(t)) || (quoted && (is_digit(peek(t)) || peek(t) == '+' || peek(t) == '-')))
        t->p++;
    if (t->p - from < 3 || (quoted && !eat(t, '>')))
        t->bad = true;
}

/* [+-]hh[:mm[:ss]] in seconds. */
static int32_t clock_time(struct text *t, int hours_max)
{
    bool negative = eat(t, '-');
    if (!negative)
        (void)eat(t, '+');
    int32_t s = number(t, 0, hours_max) * HOUR_S;
    if (eat(t, ':')) {
        s += number(t, 0, 59) * 60;
        if (eat(t, ':'))
            s += number(t, 0, 59);
    }
    return negative ? -s : s;
}

static struct po__tz_day day(struct text *t)
{
    struct po__tz_day d = {.time_s = 2 * HOUR_S};
    if (eat(t, 'M')) {
        d.form = PO__TZ_MONTH_WEEK;
        d.month = number(t, 1, 12);
        t->bad = !eat(t, '.') || t->bad;
        d.week = number(t, 1, 5);
        t->bad = !eat(t, '.') || t->bad;
        d.weekday = number(t, 0, 6);
    } else if (eat(t, 'J')) {
        d.form = PO__TZ_JULIAN;
        d.day = number(t, 1, 365);
    } else {
        d.form = PO__TZ_DAY;
        d.day = number(t, 0, 365);
    }
    if (eat(t, '/'))
        d.time_s = clock_time(t, HOURS_MAX);
    return d;
}

bool po__tz_rule_parse(struct po__tz_rule *rule, struct po__slice text)
{
    struct text t = {text.data, text.data + text.len, false};
    *rule = (struct po__tz_rule){0};
    name(&t);
    rule->std_s = -clock_time(&t, 24);
    if (!t.bad && t.p < t.end) {
        rule->dst = true;
        name(&t);
        rule->dst_s = peek(&t) == ',' ? rule->std_s + HOUR_S : -clock_time(&t, 24);
        t.bad = !eat(&t, ',') || t.bad;
        rule->begins = day(&t);
        t.bad = !eat(&t, ',') || t.bad;
        rule->ends = day(&t);
    }
    return !t.bad && t.p == t.end;
}

/* ---- when ---- */

static int64_t day_of_year(const struct po__tz_day *d, int64_t year)
{
    int64_t first = po__date_to_days(year, 1, 1);
    if (d->form == PO__TZ_DAY)
        return first + d->day;
    if (d->form == PO__TZ_JULIAN) {
        bool behind_leap_day = po__days_in_month(year, 2) == 29 && d->day >= 60;
        return first + d->day - 1 + behind_leap_day;
    }
    first = po__date_to_days(year, d->month, 1);
    int64_t day = first + (d->weekday - po__weekday_of_days(first) + 7) % 7 + 7 * (d->week - 1);
    return day >= first + po__days_in_month(year, d->month) ? day - 7 : day;
}

struct change {
    int64_t at_s;
    int32_t offset_s;
};

#define YEARS                                                                                      \
    4 /* from two before on: one more than needed, where there are two changes at one instant */
#define CHANGES (2 * YEARS)

/* In order of time; of two at one instant the one that holds afterwards comes last: that of summer
 * time, which lasts all year then. */
static void changes_around(const struct po__tz_rule *r, int64_t year, struct change *list)
{
    for (int i = 0; i < CHANGES; i++) {
        int64_t y = year - 2 + i / 2;
        bool ends = i % 2 == 0;
        const struct po__tz_day *d = ends ? &r->ends : &r->begins;
        struct change c = {day_of_year(d, y) * PO__DAY_S + d->time_s - (ends ? r->dst_s : r->std_s),
                           ends ? r->std_s : r->dst_s};
        int at = i;
        for (; at > 0 && (list[at - 1].at_s > c.at_s ||
                          (list[at - 1].at_s == c.at_s && c.offset_s == r->std_s));
             at--)
            list[at] = list[at - 1];
        list[at] = c;
    }
}

struct po__zone_span po__tz_rule_span(const struct po__tz_rule *r, int64_t at_s)
{
    struct po__zone_span s = {INT64_MIN, INT64_MAX, r->std_s, r->std_s};
    struct change list[CHANGES];
    if (!r->dst)
        return s;
    changes_around(r, po__date_of_days(po__floor_div(at_s, PO__DAY_S)).year, list);
    s.offset_s = s.before_s = list[0].offset_s == r->std_s ? r->dst_s : r->std_s;
    for (int i = 0; i < CHANGES && list[i].at_s <= at_s; i++) {
        s.from_s = list[i].at_s;
        s.before_s = i && list[i - 1].at_s == list[i].at_s ? s.before_s : s.offset_s;
        s.offset_s = list[i].offset_s;
    }
    for (int i = CHANGES - 1; i >= 0 && list[i].at_s > at_s; i--)
        s.to_s = list[i].at_s;
    return s;
}
