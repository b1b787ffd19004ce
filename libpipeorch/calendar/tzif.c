/* A TZif file of version 2 or later (RFC 8536):
 *
 *   header, data with 32-bit times   skipped: what version 1 had
 *   header, data with 64-bit times   changes of the offset
 *   newline, POSIX TZ string, newline   how it goes on after the last of them
 *
 * A file may come from anywhere, so every count is checked against the bytes that there are. Only
 * offsets are kept; names of zones and which time is called summer time matter to nobody here. */
#include "zone_impl.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"

#define HEADER_BYTES 44
#define TYPE_BYTES   6 /* offset (4), summer time?, name */
#define TYPES_MAX    256
#define CHANGES_MAX  8192
#define TIME_MAX_S   (INT64_C(1) << 60) /* either way: beyond it sums would overflow */

struct head {
    size_t is_ut, is_std, leaps, times, types, chars;
};

struct input {
    const uint8_t *p;
    size_t left;
    char *why;
    size_t why_len;
};

static int corrupt(const struct input *in, const char *what)
{
    snprintf(in->why, in->why_len, "%s; expected a TZif file of version 2 or later (RFC 8536)",
             what);
    return PO_ECORRUPT;
}

static uint64_t big_endian(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

static const uint8_t *take(struct input *in, size_t bytes)
{
    const uint8_t *p = in->p;
    if (bytes > in->left)
        return NULL;
    in->p += bytes;
    in->left -= bytes;
    return p;
}

static int read_head(struct input *in, struct head *h)
{
    const uint8_t *p = take(in, HEADER_BYTES);
    if (!p || memcmp(p, "TZif", 4) != 0)
        return corrupt(in, "not a file of a time zone");
    if (p[4] < '2')
        return corrupt(in, "a file of a time zone of version 1, which ends in 2037");
    size_t *fields[] = {&h->is_ut, &h->is_std, &h->leaps, &h->times, &h->types, &h->chars};
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
        *fields[i] = (size_t)big_endian(p + 20 + 4 * i, 4);
    if (h->times > CHANGES_MAX || h->types < 1 || h->types > TYPES_MAX ||
        h->chars > PO__ZONE_FILE_MAX_BYTES || h->leaps > PO__ZONE_FILE_MAX_BYTES ||
        h->is_std > TYPES_MAX || h->is_ut > TYPES_MAX)
        return corrupt(in, "impossible counts");
    return 0;
}

static int skip_version_1(struct input *in)
{
    struct head h;
    int rv = read_head(in, &h);
    size_t bytes = rv ? 0
                      : h.times * 4 + h.times + h.types * TYPE_BYTES + h.chars + h.leaps * 8 +
                            h.is_std + h.is_ut;
    return rv ? rv : take(in, bytes) ? 0 : corrupt(in, "cut off");
}

/* Type 0 is in force until the first change. Changes that leave the offset as it is are dropped. */
static int read_changes(struct input *in, struct po__zone *z, const struct head *h,
                        const uint8_t *times, const uint8_t *indexes, const uint8_t *types)
{
    int32_t offsets[TYPES_MAX] = {0};
    for (size_t i = 0; i < h->types; i++) {
        offsets[i] = (int32_t)(uint32_t)big_endian(types + i * TYPE_BYTES, 4);
        if (offsets[i] > PO__ZONE_OFFSET_MAX_S || offsets[i] < -PO__ZONE_OFFSET_MAX_S)
            return corrupt(in, "an impossible offset from UTC");
    }
    z->offset_s[0] = offsets[0];
    z->rule_from_s = INT64_MIN;
    for (size_t i = 0; i < h->times; i++) {
        int64_t at = (int64_t)big_endian(times + i * 8, 8);
        if (indexes[i] >= h->types || (i && at <= z->rule_from_s) || at < -TIME_MAX_S ||
            at > TIME_MAX_S)
            return corrupt(in, "changes of the offset out of order");
        z->rule_from_s = at;
        if (offsets[indexes[i]] == z->offset_s[z->count])
            continue;
        z->at_s[z->count++] = at;
        z->offset_s[z->count] = offsets[indexes[i]];
    }
    return 0;
}

static int read_footer(struct input *in, struct po__zone *z)
{
    const uint8_t *end =
        in->left >= 2 && in->p[0] == '\n' ? memchr(in->p + 1, '\n', in->left - 1) : NULL;
    if (!end)
        return corrupt(in, "no footer");
    struct po__slice text = po__slice(in->p + 1, (size_t)(end - in->p - 1));
    z->ruled = text.len > 0;
    if (z->ruled && !po__tz_rule_parse(&z->rule, text))
        return corrupt(in, "a footer that is no POSIX TZ string");
    return 0;
}

int po__tzif_read(struct po__zone *z, const uint8_t *data, size_t len, char *why, size_t why_len)
{
    struct input in = {data, len, why, why_len};
    struct head h;
    int rv = skip_version_1(&in);
    rv = rv ? rv : read_head(&in, &h);
    if (rv)
        return rv;
    if (h.leaps)
        return corrupt(&in, "it counts leap seconds (a zone below \"right/\"), which no clock here "
                            "does");
    const uint8_t *times = take(&in, h.times * 8), *indexes = times ? take(&in, h.times) : NULL;
    const uint8_t *types = indexes ? take(&in, h.types * TYPE_BYTES) : NULL;
    if (!types || !take(&in, h.chars + h.is_std + h.is_ut))
        return corrupt(&in, "cut off");
    z->at_s = po__calloc(h.times + 1, sizeof *z->at_s);
    z->offset_s = po__calloc(h.times + 1, sizeof *z->offset_s);
    if (!z->at_s || !z->offset_s) {
        snprintf(why, why_len, "out of memory for a time zone");
        return PO_ENOMEM;
    }
    rv = read_changes(&in, z, &h, times, indexes, types);
    return rv ? rv : read_footer(&in, z);
}
