/* Dates of the proleptic Gregorian calendar as days since 1970-01-01. Pure arithmetic. */
#ifndef PO__CIVIL_H
#define PO__CIVIL_H

#include <stdint.h>

#define PO__DAY_S INT64_C(86400)

struct po__date {
    int64_t year;
    int month, day; /* 1..12, 1..31 */
};

int64_t po__date_to_days(int64_t year, int month, int day);
struct po__date po__date_of_days(int64_t days);
int po__weekday_of_days(int64_t days); /* 0: Sunday .. 6 */
int po__days_in_month(int64_t year, int month);

/* Division that rounds down, also below zero. */
int64_t po__floor_div(int64_t a, int64_t b);

#endif
