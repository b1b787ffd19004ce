/* The grammars of names. Spelt out by hand: no locale, no regular expression engine, the same
 * answer everywhere. */
#include "command.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

bool po__name_ok(struct po__slice name)
{
    if (name.len == 0 || name.len > PO_NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (!is_alpha(c) && !is_digit(c) && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

bool po__capability_ok(struct po__slice name)
{
    size_t part = 0, colons = 0; /* length of the part that we are in */
    if (name.len > PO_NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (c == ':') {
            if (part == 0 || ++colons > 1)
                return false;
            part = 0;
        } else if (is_lower(c) || is_digit(c) || c == '_' || c == '.' || c == '-') {
            part++;
        } else {
            return false;
        }
    }
    return colons == 1 && part > 0;
}

/* A number without a leading zero; *at moves behind it. */
static bool semver_number(struct po__slice v, size_t *at)
{
    size_t from = *at;
    while (*at < v.len && is_digit(v.data[*at]))
        ++*at;
    return *at > from && (*at == from + 1 || v.data[from] != '0');
}

/* Dot-separated identifiers up to `stop` (0: the end). In a pre-release, numeric ones have no
 * leading zero. */
static bool semver_identifiers(struct po__slice v, size_t *at, char stop, bool pre)
{
    for (;;) {
        size_t from = *at;
        bool numeric = true;
        while (*at < v.len &&
               (is_alpha(v.data[*at]) || is_digit(v.data[*at]) || v.data[*at] == '-'))
            numeric = is_digit(v.data[(*at)++]) && numeric;
        size_t n = *at - from;
        if (n == 0 || (pre && numeric && n > 1 && v.data[from] == '0'))
            return false;
        if (*at == v.len || (stop && v.data[*at] == stop))
            return true;
        if (v.data[(*at)++] != '.')
            return false;
    }
}

bool po__semver_ok(struct po__slice v)
{
    size_t at = 0;
    if (v.len > PO_NAME_MAX_BYTES)
        return false;
    for (int i = 0; i < 3; i++) {
        if (i > 0 && (at == v.len || v.data[at++] != '.'))
            return false;
        if (!semver_number(v, &at))
            return false;
    }
    if (at < v.len && v.data[at] == '-') {
        at++;
        if (!semver_identifiers(v, &at, '+', true))
            return false;
    }
    if (at < v.len && v.data[at] == '+') {
        at++;
        if (!semver_identifiers(v, &at, 0, false))
            return false;
    }
    return at == v.len;
}
