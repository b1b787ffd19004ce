/* Opening zones, and the question that they answer. */
#include "zone_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"

bool po__zone_name_ok(struct po__slice name)
{
    size_t part = 0; /* length of the part that we are in */
    bool dots = true;
    if (name.len > PO__ZONE_NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (c == '/') {
            if (dots) /* "", ".", ".." */
                return false;
            part = 0;
            dots = true;
            continue;
        }
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '+' || c == '-' || c == '.'))
            return false;
        part++;
        dots = dots && c == '.';
    }
    return part > 0 && !dots;
}

static struct po__zone *make(char *why, size_t why_len)
{
    struct po__zone *z = po__calloc(1, sizeof *z);
    if (!z)
        snprintf(why, why_len, "out of memory for a time zone");
    return z;
}

int po__zone_parse(struct po__zone **zone, const void *data, size_t len, char *why, size_t why_len)
{
    struct po__zone *z = make(why, why_len);
    if (!z)
        return PO_ENOMEM;
    int rv = po__tzif_read(z, data, len, why, why_len);
    if (rv)
        po__zone_close(z);
    else
        *zone = z;
    return rv;
}

void po__zone_close(struct po__zone *z)
{
    if (!z)
        return;
    po__free(z->at_s);
    po__free(z->offset_s);
    po__free(z);
}

/* The whole file; a longer one than any zone's is none. */
static int read_file(const char *path, uint8_t *data, size_t *len, char *why, size_t why_len)
{
    FILE *f = fopen(path, "rbe");
    if (!f) {
        int err = errno;
        bool missing = err == ENOENT || err == ENOTDIR;
        snprintf(why, why_len, "%s: %s", path, missing ? "no such file" : "cannot be opened");
        return missing ? PO_ENOTFOUND : PO_EIO;
    }
    *len = fread(data, 1, PO__ZONE_FILE_MAX_BYTES + 1, f);
    int rv = ferror(f) ? PO_EIO : *len > PO__ZONE_FILE_MAX_BYTES ? PO_ECORRUPT : 0;
    fclose(f);
    if (rv)
        snprintf(why, why_len, "%s: %s", path,
                 rv == PO_EIO ? "cannot be read" : "is longer than the file of any time zone");
    return rv;
}

static int read_zone(struct po__zone **zone, const char *path, char *why, size_t why_len)
{
    char problem[128];
    size_t len = 0;
    uint8_t *data = po__malloc(PO__ZONE_FILE_MAX_BYTES + 1);
    if (!data) {
        snprintf(why, why_len, "out of memory for a time zone");
        return PO_ENOMEM;
    }
    int rv = read_file(path, data, &len, why, why_len);
    if (!rv && (rv = po__zone_parse(zone, data, len, problem, sizeof problem)))
        snprintf(why, why_len, "%s: %s", path, problem);
    po__free(data);
    return rv;
}

/* A rule that says 0 for ever. */
static int open_utc(struct po__zone **zone, char *why, size_t why_len)
{
    struct po__zone *z = make(why, why_len);
    if (!z)
        return PO_ENOMEM;
    z->ruled = true;
    z->rule_from_s = INT64_MIN;
    *zone = z;
    return 0;
}

int po__zone_open(struct po__zone **zone, const char *dir, struct po__slice name, char *why,
                  size_t why_len)
{
    char path[PATH_MAX], problem[PATH_MAX + 160];
    if (po__slice_eq(name, po__str("UTC")))
        return open_utc(zone, why, why_len);
    dir = dir && *dir ? dir : PO__ZONE_DIR;
    if (!po__zone_name_ok(name)) {
        snprintf(why, why_len,
                 "\"%.*s\" is not the name of a time zone; expected UTC or an IANA name such as "
                 "Europe/Berlin",
                 (int)(name.len > PO__ZONE_NAME_MAX_BYTES ? PO__ZONE_NAME_MAX_BYTES : name.len),
                 name.data);
        return PO_EINVAL;
    }
    if ((size_t)snprintf(path, sizeof path, "%s/%.*s", dir, (int)name.len, name.data) >=
        sizeof path) {
        snprintf(why, why_len, "the path of the time zones' directory is too long");
        return PO_EINVAL;
    }
    int rv = read_zone(zone, path, problem, sizeof problem);
    if (rv == PO_ENOTFOUND)
        snprintf(why, why_len,
                 "no time zone \"%.*s\" is known: there is no such file in %.256s, where zones are "
                 "looked for; expected UTC or an IANA name such as Europe/Berlin (package tzdata)",
                 (int)name.len, name.data, dir);
    else if (rv)
        snprintf(why, why_len, "%s", problem);
    return rv;
}

/* The span of a table alone: index of the first change behind at_s. */
static uint32_t behind(const struct po__zone *z, int64_t at_s)
{
    uint32_t low = 0, high = z->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (z->at_s[middle] <= at_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct po__zone_span table_span(const struct po__zone *z, int64_t at_s)
{
    uint32_t i = behind(z, at_s);
    struct po__zone_span s = {.from_s = i ? z->at_s[i - 1] : INT64_MIN,
                              .to_s = i < z->count ? z->at_s[i] : INT64_MAX,
                              .offset_s = z->offset_s[i],
                              .before_s = z->offset_s[i ? i - 1 : 0]};
    return s;
}

struct po__zone_span po__zone_span(const struct po__zone *z, int64_t at_s)
{
    struct po__zone_span s;
    if (!z->ruled)
        return table_span(z, at_s);
    if (at_s < z->rule_from_s) {
        s = table_span(z, at_s);
        if (s.to_s > z->rule_from_s)
            s.to_s = z->rule_from_s;
        return s;
    }
    s = po__tz_rule_span(&z->rule, at_s);
    if (s.from_s <= z->rule_from_s && z->rule_from_s != INT64_MIN) { /* it took over in this span */
        bool change = z->count && z->at_s[z->count - 1] == z->rule_from_s;
        s.from_s = z->rule_from_s;
        s.before_s = z->offset_s[change ? z->count - 1 : z->count];
    }
    return s;
}
