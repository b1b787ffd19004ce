/* Reading cron expressions. */
#include "cron.h"

#include <stdarg.h>
#include <stdio.h>

#include <pipeorch/error.h>

#define FIELDS     5
#define WORD_SHOWN 32 /* bytes of what was found that a message shows */

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const struct field {
    const char *name;
    unsigned min, max;
    const char *words; /* three letters each, for min and what follows */
    const char *expected;
} fields[FIELDS] = {
    {"minute", 0, 59, "", "0..59"},
    {"hour", 0, 23, "", "0..23"},
    {"day of month", 1, 31, "", "1..31"},
    {"month", 1, 12, "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", "1..12 or JAN..DEC"},
    {"day of week", 0, 7, "SUNMONTUEWEDTHUFRISAT", "0..7 (0 and 7: Sunday) or SUN..SAT"},
};

static const struct {
    const char *word, *text;
} shorthands[] = {
    {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@weekly", "0 0 * * 0"},
    {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
};

struct reader {
    char *why;
    size_t why_len;
};

static bool refuse(const struct reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static bool refuse(const struct reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->why_len)
        vsnprintf(r->why, r->why_len, fmt, ap);
    va_end(ap);
    return false;
}

static bool refuse_field(const struct reader *r, int f, struct po__slice found)
{
    return refuse(
        r,
        "cron field %d (%s): \"%.*s\" is not understood; expected %s, a range a-b, *, one "
        "of these with a step as in */5, or a list of them with commas",
        f + 1, fields[f].name, (int)(found.len > WORD_SHOWN ? WORD_SHOWN : found.len), found.data,
        fields[f].expected);
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static bool same_word(struct po__slice s, const char *word, size_t len)
{
    bool same = s.len == len;
    for (size_t i = 0; i < s.len && same; i++)
        same = upper(s.data[i]) == upper(word[i]);
    return same;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* What is in front of the separator, which is dropped; *rest is what follows. */
static struct po__slice until(struct po__slice *rest, char separator)
{
    size_t n = 0;
    while (n < rest->len && rest->data[n] != separator)
        n++;
    struct po__slice part = po__slice(rest->data, n);
    n += n < rest->len;
    *rest = po__slice(rest->data + n, rest->len - n);
    return part;
}

static bool has(struct po__slice s, char c)
{
    return s.len && memchr(s.data, c, s.len) != NULL;
}

static bool number(struct po__slice s, unsigned *v)
{
    *v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9' || *v > 99)
            return false;
        *v = *v * 10 + (unsigned)(s.data[i] - '0');
    }
    return s.len > 0;
}

static bool value(int f, struct po__slice s, unsigned *v)
{
    const char *words = fields[f].words;
    for (unsigned i = 0; words[3 * i]; i++) {
        if (same_word(s, words + 3 * i, 3)) {
            *v = fields[f].min + i;
            return true;
        }
    }
    return number(s, v) && *v >= fields[f].min && *v <= fields[f].max;
}

/* *, a, a-b; *single: it was a value alone. */
static bool range(int f, struct po__slice s, unsigned *from, unsigned *to, bool *single)
{
    *single = false;
    if (po__slice_eq(s, po__str("*"))) {
        *from = fields[f].min;
        *to = f == WEEKDAY ? 6 : fields[f].max;
        return true;
    }
    *single = !has(s, '-');
    struct po__slice rest = s, first = until(&rest, '-');
    if (!value(f, first, from) || (!*single && !value(f, rest, to)))
        return false;
    if (*single)
        *to = *from;
    else if (f == WEEKDAY && *to == 0 && *from > 0)
        *to = 7; /* SAT-SUN */
    return true;
}

static bool read_part(const struct reader *r, int f, struct po__slice part, uint64_t *bits)
{
    unsigned from, to, step = 1;
    bool single, stepped = has(part, '/');
    struct po__slice steps = part, base = until(&steps, '/');
    if (!range(f, base, &from, &to, &single))
        return refuse_field(r, f, part);
    if (from > to)
        return refuse(r, "cron field %d (%s): the range \"%.*s\" goes backwards; write it as two",
                      f + 1, fields[f].name, (int)base.len, base.data);
    if (stepped && (!number(steps, &step) || step == 0 || step > fields[f].max))
        return refuse(r, "cron field %d (%s): the step \"%.*s\" is not understood; expected 1..%u",
                      f + 1, fields[f].name, (int)(steps.len > WORD_SHOWN ? WORD_SHOWN : steps.len),
                      steps.data, fields[f].max);
    if (stepped && single)
        return refuse(r,
                      "cron field %d (%s): \"%.*s\" has a step behind a single value; expected a "
                      "range, as in %u-%u/%u",
                      f + 1, fields[f].name, (int)part.len, part.data, from, fields[f].max, step);
    for (unsigned v = from; v <= to; v += step)
        *bits |= UINT64_C(1) << (f == WEEKDAY && v == 7 ? 0 : v);
    return true;
}

static bool read_field(const struct reader *r, int f, struct po__slice text, uint64_t *bits)
{
    struct po__slice rest = text;
    *bits = 0;
    if (text.data[text.len - 1] == ',')
        return refuse_field(r, f, text);
    while (rest.len)
        if (!read_part(r, f, until(&rest, ','), bits))
            return false;
    return true;
}

/* Cuts the text at spaces; how many words there are. */
static unsigned split(struct po__slice text, struct po__slice *words, unsigned max)
{
    unsigned n = 0;
    for (size_t i = 0; i < text.len;) {
        size_t from = i;
        while (i < text.len && !is_space(text.data[i]))
            i++;
        if (i > from) {
            if (n < max)
                words[n] = po__slice(text.data + from, i - from);
            n++;
        }
        while (i < text.len && is_space(text.data[i]))
            i++;
    }
    return n;
}

/* Some month must have one of the days: with days of the week alone there always is one. */
static bool days_exist(const struct reader *r, const struct po__cron *c)
{
    if (c->either_day)
        return true;
    for (int month = 1; month <= 12; month++) {
        int length = month == 2                                              ? 29
                     : month == 4 || month == 6 || month == 9 || month == 11 ? 30
                                                                             : 31;
        uint64_t there = (UINT64_C(2) << length) - 2;
        if ((c->months >> month & 1) && (c->days & there))
            return true;
    }
    return refuse(r, "cron: none of the months in field 4 has a day of field 3, so it would never "
                     "fire; expected a date that exists");
}

int po__cron_parse(struct po__cron *cron, struct po__slice text, char *why, size_t why_len)
{
    const struct reader r = {why, why_len};
    struct po__slice words[FIELDS];
    uint64_t bits[FIELDS];
    if (text.len > PO__CRON_MAX_BYTES) {
        refuse(&r, "cron has %zu bytes; at most %d are allowed", text.len, PO__CRON_MAX_BYTES);
        return PO_EINVAL;
    }
    unsigned n = split(text, words, FIELDS);
    for (size_t i = 0; n == 1 && i < sizeof shorthands / sizeof *shorthands; i++)
        if (same_word(words[0], shorthands[i].word, strlen(shorthands[i].word)))
            return po__cron_parse(cron, po__str(shorthands[i].text), why, why_len);
    if (n != FIELDS) {
        refuse(&r,
               "cron has %u field%s; expected 5: minute, hour, day of month, month, day of week; "
               "or @hourly, @daily, @weekly, @monthly or @yearly",
               n, n == 1 ? "" : "s");
        return PO_EINVAL;
    }
    for (int f = 0; f < FIELDS; f++)
        if (!read_field(&r, f, words[f], &bits[f]))
            return PO_EINVAL;
    *cron =
        (struct po__cron){.minutes = bits[MINUTE],
                          .hours = (uint32_t)bits[HOUR],
                          .days = (uint32_t)bits[DAY],
                          .months = (uint32_t)bits[MONTH],
                          .weekdays = (uint32_t)bits[WEEKDAY],
                          .either_day = words[DAY].data[0] != '*' && words[WEEKDAY].data[0] != '*'};
    return days_exist(&r, cron) ? 0 : PO_EINVAL;
}
