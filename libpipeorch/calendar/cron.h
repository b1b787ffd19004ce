/* When a schedule fires: cron expressions over the local time of a zone. Pure.
 *
 * Five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12 or JAN-DEC), day of
 * week (0-7 or SUN-SAT; 0 and 7 are Sunday). A field is a list, separated by commas, of *, a value,
 * a range a-b, and of these but single values with a step behind them, as in 8-18/2. Or one of
 * @hourly @daily @weekly @monthly @yearly. Names and these words in any case of letters.
 *
 * A day must match day of month, month and day of week; but if neither day field begins with *,
 * one of the two day fields is enough (as in Vixie's cron): "0 0 13 * FRI" is every 13th and every
 * Friday.
 *
 * Local time makes jumps, mostly by an hour twice a year. What that means for a schedule depends on
 * its hours:
 *
 *   - All 24 hours match: it goes by the real time that passes. It fires at each instant at which
 *     local time matches; an hour that is skipped has no ticks, one that comes twice has them
 *     twice. An interval (every quarter of an hour, say) remains what it is.
 *   - Else it goes by the clock on the wall. Each local time that matches fires once: at the first
 *     time if it comes twice; at the jump, that is at the first instant after it, if it is skipped.
 *     All that one jump skips is one tick, and the same tick as one due at that very instant.
 *
 * So "30 2 * * *" fires on each day of the year exactly once, and no schedule ever fires twice at
 * one instant. Where a whole day is skipped (Samoa's 30 December 2011), its ticks are one at the
 * beginning of the next day. */
#ifndef PO__CRON_H
#define PO__CRON_H

#include "zone.h"

#define PO__CRON_MAX_BYTES PO_CRON_MAX_BYTES
/* How far ahead a tick is looked for. The rarest is 29 February on one day of the week: 40 years */
#define PO__CRON_YEARS_MAX 50
/* Later ones there are none: the end of the year 9999 */
#define PO__CRON_END_MS UINT64_C(253402300800000)

struct po__cron { /* bit i: the value i matches */
    uint64_t minutes;
    uint32_t hours, days, months, weekdays;
    bool either_day; /* day of month or day of week is enough */
};

/* 0, or PO_EINVAL: *why says which field, what was found there, and what is expected. */
int po__cron_parse(struct po__cron *cron, struct po__slice text, char *why, size_t why_len);

/* The first tick after after_ms (since 1970). 0, or PO_ENOTFOUND: none within PO__CRON_YEARS_MAX or
 * before PO__CRON_END_MS. */
int po__cron_next(const struct po__cron *cron, const struct po__zone *zone, uint64_t after_ms,
                  uint64_t *fire_ms);

#endif
