/* The next tick. Time is walked span by span, in each of which local time is UTC and a constant, so
 * that within one everything is arithmetic of the calendar; what happens to local time is between
 * them (cron.h says what it means). */
#include <pipeorch/error.h>
#include "civil.h"
#include "cron.h"

#define MINUTES_PER_DAY 1440
#define MINUTE_S        60
#define ALL_HOURS       0xffffffu

static int64_t ceil_div(int64_t a, int64_t b)
{
    return -po__floor_div(-a, b);
}

static bool day_matches(const struct po__cron *c, int64_t days, struct po__date d)
{
    bool day = c->days >> d.day & 1, weekday = c->weekdays >> po__weekday_of_days(days) & 1;
    return c->either_day ? day || weekday : day && weekday;
}

/* The first minute of the day that matches and is not before `from`; -1: none. */
static int minute_of_day(const struct po__cron *c, int from)
{
    for (int m = from; m < MINUTES_PER_DAY; m++) {
        if (!(c->hours >> m / 60 & 1))
            m += 59 - m % 60;
        else if (c->minutes >> m % 60 & 1)
            return m;
    }
    return -1;
}

/* The first local time in [from_s, to_s) that matches. */
static bool first_match(const struct po__cron *c, int64_t from_s, int64_t to_s, int64_t *found_s)
{
    int64_t minute = ceil_div(from_s, MINUTE_S);
    int64_t day = po__floor_div(minute, MINUTES_PER_DAY);
    int from = (int)(minute - day * MINUTES_PER_DAY);
    while (day * PO__DAY_S < to_s) {
        struct po__date d = po__date_of_days(day);
        if (!(c->months >> d.month & 1)) {
            day += po__days_in_month(d.year, d.month) - d.day + 1;
        } else {
            int m = day_matches(c, day, d) ? minute_of_day(c, from) : -1;
            if (m >= 0) {
                *found_s = day * PO__DAY_S + (int64_t)m * MINUTE_S;
                return *found_s < to_s;
            }
            day++;
        }
        from = 0;
    }
    return false;
}

/* The first tick of the span that is not before from_s, which is in it. */
static bool first_tick(const struct po__cron *c, const struct po__zone_span *span, int64_t from_s,
                       int64_t to_s, int64_t *tick_s)
{
    int64_t local_s = from_s + span->offset_s, found_s;
    if (c->hours != ALL_HOURS) { /* by the clock on the wall */
        int64_t reached_s = span->from_s == INT64_MIN ? INT64_MIN : span->from_s + span->before_s;
        if (from_s == span->from_s && reached_s < local_s &&
            first_match(c, reached_s, local_s, &found_s)) { /* skipped */
            *tick_s = from_s;
            return true;
        }
        if (reached_s > local_s && span->before_s > span->offset_s)
            local_s = reached_s; /* it was these times before */
    }
    if (!first_match(c, local_s, to_s + span->offset_s, &found_s))
        return false;
    *tick_s = found_s - span->offset_s;
    return true;
}

int po__cron_next(const struct po__cron *c, const struct po__zone *zone, uint64_t after_ms,
                  uint64_t *fire_ms)
{
    int64_t from_s, end_s, tick_s;
    if (after_ms >= PO__CRON_END_MS)
        return PO_ENOTFOUND;
    from_s = (int64_t)(after_ms / 1000) + 1;
    end_s = from_s + (int64_t)PO__CRON_YEARS_MAX * 366 * PO__DAY_S;
    if (end_s > (int64_t)(PO__CRON_END_MS / 1000))
        end_s = (int64_t)(PO__CRON_END_MS / 1000);
    while (from_s < end_s) {
        struct po__zone_span span = po__zone_span(zone, from_s);
        int64_t to_s = span.to_s < end_s ? span.to_s : end_s;
        if (first_tick(c, &span, from_s, to_s, &tick_s)) {
            *fire_ms = (uint64_t)tick_s * 1000;
            return 0;
        }
        from_s = to_s;
    }
    return PO_ENOTFOUND;
}
