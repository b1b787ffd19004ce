/* Texts to values, the same for every source. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <pipeorch/types.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "model/command.h"

#define TEXT_MAX_BYTES (1024 * 1024)

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit byte_units[] = {{"", 1},          {"B", 1},         {"KiB", 1024},
                                         {"MiB", 1 << 20}, {"GiB", 1 << 30}, {NULL, 0}};
static const struct unit time_units[] = {{"", 1},      {"ms", 1},      {"s", 1000},
                                         {"m", 60000}, {"h", 3600000}, {NULL, 0}};

static bool scaled(const char *text, const struct unit *units, uint64_t *out)
{
    if (!isdigit((unsigned char)*text)) /* strtoull would take signs and spaces */
        return false;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno)
        return false;
    for (; units->suffix; units++)
        if (strcmp(end, units->suffix) == 0)
            return !__builtin_mul_overflow((uint64_t)n, units->factor, out);
    return false;
}

static bool store_number(uint64_t *target, const struct opt *o, const char *text, char *why,
                         size_t why_len)
{
    const struct unit *units = o->type == OPT_BYTES      ? byte_units
                               : o->type == OPT_DURATION ? time_units
                                                         : no_units;
    const char *kind = o->type == OPT_BYTES ? "a number of bytes (as 4096, 64KiB, 16MiB or 1GiB)"
                       : o->type == OPT_DURATION ? "a time (as 500ms, 10s, 5m or 1h)"
                                                 : "a whole number";
    uint64_t value;
    if (scaled(text, units, &value) && value >= o->min && value <= o->max) {
        *target = value;
        return true;
    }
    snprintf(why, why_len, "\"%.64s\" is not %s from %llu to %llu%s", text, kind,
             (unsigned long long)o->min, (unsigned long long)o->max,
             o->type == OPT_DURATION ? " ms" : "");
    return false;
}

static bool store_bool(bool *target, const char *text, char *why, size_t why_len)
{
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0) {
        snprintf(why, why_len, "\"%.64s\" is neither true nor false (1 and 0 are allowed)", text);
        return false;
    }
    *target = yes;
    return true;
}

static bool choice_ok(const char *words, const char *text)
{
    size_t len = strlen(text);
    for (const char *p = words; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, text, len) == 0 && (p[len] == '|' || p[len] == '\0') && len)
            return true;
    return false;
}

/* host:port; only the form: whether the host exists is found out when it is used. */
static bool address_ok(struct po__slice a)
{
    if (!a.data || a.len == 0)
        return false;
    const char *colon = memrchr(a.data, ':', a.len);
    if (!colon || colon == a.data || a.len > PO_ADDRESS_MAX_BYTES)
        return false;
    struct po__slice host = po__slice(a.data, (size_t)(colon - a.data));
    struct po__slice port = po__slice(colon + 1, a.len - host.len - 1);
    bool bracketed = host.data[0] == '[' && host.data[host.len - 1] == ']' && host.len > 2;
    if (!bracketed && memchr(host.data, ':', host.len))
        return false;
    for (size_t i = 0; i < host.len; i++)
        if (!isgraph((unsigned char)host.data[i]) || strchr(",=/", host.data[i]) ||
            (!bracketed && strchr("[]", host.data[i])))
            return false;
    unsigned n = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (!isdigit((unsigned char)port.data[i]) || i >= 5)
            return false;
        n = n * 10 + (unsigned)(port.data[i] - '0');
    }
    return port.len > 0 && n <= 65535;
}

static bool member_ok(struct po__slice m)
{
    const char *eq = m.len ? memchr(m.data, '=', m.len) : NULL;
    if (!eq)
        return false;
    size_t n = (size_t)(eq - m.data);
    return po__name_ok(po__slice(m.data, n)) && address_ok(po__slice(eq + 1, m.len - n - 1));
}

/* The first item of a comma-separated list that is not ok; an empty slice with data if all are. */
static bool list_ok(const char *text, bool (*ok)(struct po__slice), struct po__slice *wrong)
{
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, ",");
        *wrong = po__slice(p, n);
        if (!ok(*wrong))
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

static bool text_ok(const struct opt *o, const char *text, char *why, size_t why_len)
{
    static const char form[] = "host:port, as 127.0.0.1:7101, cp1.example.org:7101 or [::1]:7101";
    struct po__slice wrong;
    switch (o->type) {
    case OPT_NAME:
        if (po__name_ok(po__str(text)))
            return true;
        snprintf(why, why_len,
                 "\"%.140s\" is not a name; use 1 to %d letters, digits, '.', '_' and '-'", text,
                 PO_NAME_MAX_BYTES);
        return false;
    case OPT_CHOICE:
        if (choice_ok(o->values, text))
            return true;
        snprintf(why, why_len, "\"%.64s\" is not one of %s", text, o->values);
        return false;
    case OPT_ADDRESS:
        if (address_ok(po__str(text)))
            return true;
        snprintf(why, why_len, "\"%.128s\" is not an address; write %s", text, form);
        return false;
    case OPT_ADDRESSES:
        if (list_ok(text, address_ok, &wrong))
            return true;
        snprintf(why, why_len, "\"%.*s\" is not an address; write %s, separated by commas",
                 (int)(wrong.len < 128 ? wrong.len : 128), wrong.data, form);
        return false;
    case OPT_MEMBERS:
        if (list_ok(text, member_ok, &wrong))
            return true;
        snprintf(why, why_len,
                 "\"%.*s\" is not a member; write name=host:port, separated by commas",
                 (int)(wrong.len < 128 ? wrong.len : 128), wrong.data);
        return false;
    default:
        return true;
    }
}

bool opt__store(struct opt_run *run, unsigned index, const char *text, char *why, size_t why_len)
{
    const struct opt *o = &run->tool->options[index];
    void *target = (char *)run->settings + o->offset;
    size_t max = o->type == OPT_TEXT ? TEXT_MAX_BYTES : OPT_VALUE_MAX_BYTES;
    size_t len = strlen(text);
    if (len == 0 || len > max) {
        snprintf(why, why_len, len ? "has %zu bytes; at most %zu are allowed" : "is empty", len,
                 max);
        return false;
    }
    switch (o->type) {
    case OPT_BOOL:
        return store_bool(target, text, why, why_len);
    case OPT_UINT:
    case OPT_BYTES:
    case OPT_DURATION:
        return store_number(target, o, text, why, why_len);
    default:
        break;
    }
    if (!text_ok(o, text, why, why_len))
        return false;
    char *copy = po__strndup(text, len);
    if (!copy) {
        snprintf(why, why_len, "cannot be kept: out of memory");
        return false;
    }
    po__free(run->values[index].text);
    run->values[index].text = copy;
    *(const char **)target = copy;
    return true;
}
