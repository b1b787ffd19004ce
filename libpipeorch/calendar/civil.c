/* Years are counted from March here, so that the leap day is the last of a year and the lengths of
 * the months follow one formula. An era is 400 years, after which the calendar repeats. */
#include "civil.h"

#include <stdbool.h>

#define ERA_YEARS 400
#define ERA_DAYS  146097
#define EPOCH     719468 /* days from 0000-03-01 to 1970-01-01 */

int64_t po__floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

int64_t po__date_to_days(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = po__floor_div(y, ERA_YEARS), of_era = y - era * ERA_YEARS;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH;
}

struct po__date po__date_of_days(int64_t days)
{
    int64_t era = po__floor_div(days + EPOCH, ERA_DAYS);
    int64_t of_era = days + EPOCH - era * ERA_DAYS;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    struct po__date d = {.month = (int)(m < 10 ? m + 3 : m - 9),
                         .day = (int)(of_year - (153 * m + 2) / 5 + 1)};
    d.year = y + era * ERA_YEARS + (d.month <= 2);
    return d;
}

int po__weekday_of_days(int64_t days)
{
    int64_t w = (days + 4) % 7; /* 1970-01-01 was a Thursday */
    return (int)(w < 0 ? w + 7 : w);
}

int po__days_in_month(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}
