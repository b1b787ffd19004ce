/* Inside of a zone. For the files of calendar/ only. */
#ifndef PO__ZONE_IMPL_H
#define PO__ZONE_IMPL_H

#include "zone.h"

#define PO__ZONE_OFFSET_MAX_S 93600 /* 26 hours, either way */

/* One of the two days of a year on which the offset changes: what "M3.2.0/2", "J60" and "59/1" say.
 */
struct po__tz_day {
    enum { PO__TZ_MONTH_WEEK, PO__TZ_JULIAN, PO__TZ_DAY } form;
    int month, week, weekday; /* MONTH_WEEK; week 5: the last one */
    int day;                  /* JULIAN: 1..365 without 29 February; DAY: 0..365 with it */
    int32_t time_s;           /* of the day, in the local time until then */
};

/* A POSIX TZ string: how the offset goes on for ever. */
struct po__tz_rule {
    bool dst;
    int32_t std_s, dst_s; /* offsets from UTC, eastwards positive */
    struct po__tz_day begins, ends;
};

bool po__tz_rule_parse(struct po__tz_rule *rule, struct po__slice text);
struct po__zone_span po__tz_rule_span(const struct po__tz_rule *rule, int64_t at_s);

struct po__zone {
    bool ruled; /* from rule_from_s on, `rule` holds */
    int64_t rule_from_s;
    struct po__tz_rule rule;
    uint32_t count; /* changes of the offset before that */
    int64_t *at_s;
    int32_t *offset_s; /* one more: [0] until the first of them, [i + 1] from at_s[i] on */
};

/* tzif.c: fills an empty zone. */
int po__tzif_read(struct po__zone *zone, const uint8_t *data, size_t len, char *why,
                  size_t why_len);

#endif
