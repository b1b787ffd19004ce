/* Semantic versions (semver.org 2.0.0) and ranges of them, as npm writes ranges, spelt out by hand
 * like the other grammars here.
 *
 * A range is read in one pass and judged at the same time: every comparator becomes an interval
 * [low, high) of versions. Nothing is stored; ranges are short and few, and the scheduler remembers
 * verdicts where it matters. */
#include "command.h"

#include "../base/assert.h"

#define PARTS 3

struct version {
    uint64_t part[PARTS];
    unsigned given;       /* parts that were written as numbers */
    struct po__slice pre; /* without the '-' */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_identifier(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

/* Digits at *at; values beyond 64 bits are as good as the largest. */
static bool read_number(struct po__slice s, size_t *at, uint64_t *value)
{
    size_t from = *at;
    *value = 0;
    for (; *at < s.len && is_digit(s.data[*at]); ++*at) {
        unsigned digit = (unsigned)(s.data[*at] - '0');
        *value = *value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *value * 10 + digit;
    }
    return *at > from && (*at == from + 1 || s.data[from] != '0');
}

static struct po__slice read_identifiers(struct po__slice s, size_t *at)
{
    size_t from = *at;
    while (*at < s.len && (is_identifier(s.data[*at]) || s.data[*at] == '.'))
        ++*at;
    return po__slice(s.data + from, *at - from);
}

/* Dots separate; numeric identifiers of a pre-release have no leading zero. */
static bool identifiers_ok(struct po__slice s, bool pre)
{
    for (size_t at = 0, from = 0; at <= s.len; at++) {
        if (at < s.len && s.data[at] != '.')
            continue;
        bool numeric = true;
        for (size_t i = from; i < at; i++)
            numeric = numeric && is_digit(s.data[i]);
        if (at == from || (pre && numeric && at > from + 1 && s.data[from] == '0'))
            return false;
        from = at + 1;
    }
    return true;
}

/* A version of which parts may be missing, or x, X or *. */
static bool read_partial(struct po__slice s, size_t *at, struct version *v)
{
    bool open = false; /* a wildcard was there: no numbers behind it */
    *v = (struct version){0};
    for (unsigned i = 0; i < PARTS; i++) {
        if (i > 0) {
            if (*at == s.len || s.data[*at] != '.')
                break;
            ++*at;
        }
        if (*at < s.len && (s.data[*at] == 'x' || s.data[*at] == 'X' || s.data[*at] == '*')) {
            open = true;
            ++*at;
        } else if (open || !read_number(s, at, &v->part[i])) {
            return false;
        } else {
            v->given = i + 1;
        }
    }
    if (v->given == PARTS && *at < s.len && s.data[*at] == '-') {
        ++*at;
        v->pre = read_identifiers(s, at);
        if (!identifiers_ok(v->pre, true))
            return false;
    }
    if (v->given == PARTS && *at < s.len && s.data[*at] == '+') {
        ++*at;
        return identifiers_ok(read_identifiers(s, at), false);
    }
    return true;
}

static struct version whole(struct po__slice text)
{
    struct version v;
    size_t at = 0;
    PO_INVARIANT(read_partial(text, &at, &v) && at == text.len && v.given == PARTS);
    return v;
}

/* ---- precedence ---- */

static struct po__slice next_identifier(struct po__slice *rest)
{
    const char *dot = rest->len ? memchr(rest->data, '.', rest->len) : NULL;
    size_t n = dot ? (size_t)(dot - rest->data) : rest->len;
    struct po__slice id = po__slice(rest->data, n);
    *rest = po__slice(rest->data + n + (dot != NULL), rest->len - n - (dot != NULL));
    return id;
}

static bool is_numeric(struct po__slice id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!is_digit(id.data[i]))
            return false;
    return true;
}

static int cmp_identifier(struct po__slice a, struct po__slice b)
{
    bool x = is_numeric(a), y = is_numeric(b);
    if (x != y)
        return x ? -1 : 1;
    if (x && a.len != b.len) /* no leading zeros */
        return a.len < b.len ? -1 : 1;
    return po__slice_cmp(a, b);
}

static int cmp_pre(struct po__slice a, struct po__slice b)
{
    if (!a.len || !b.len) /* a release is above its pre-releases */
        return (a.len == 0) - (b.len == 0);
    while (a.len && b.len) {
        int c = cmp_identifier(next_identifier(&a), next_identifier(&b));
        if (c)
            return c;
    }
    return (a.len > 0) - (b.len > 0);
}

static int cmp(const struct version *a, const struct version *b)
{
    for (unsigned i = 0; i < PARTS; i++)
        if (a->part[i] != b->part[i])
            return a->part[i] < b->part[i] ? -1 : 1;
    return cmp_pre(a->pre, b->pre);
}

int po__semver_cmp(struct po__slice a, struct po__slice b)
{
    struct version x = whole(a), y = whole(b);
    return cmp(&x, &y);
}

/* ---- ranges ---- */

/* The first version behind those that agree with v in its first `parts` parts; false: there is
 * none. The lowest pre-release, so that pre-releases of the bound are behind it, too. */
static bool bump(const struct version *v, unsigned parts, struct version *out)
{
    *out = (struct version){.given = PARTS, .pre = {"0", 1}};
    for (unsigned i = 0; i < parts; i++)
        out->part[i] = v->part[i];
    if (parts == 0 || out->part[parts - 1] == UINT64_MAX)
        return false;
    out->part[parts - 1]++;
    return true;
}

struct comparator {
    char op; /* '=', '<', '>', '^', '~', or 'l', 'g' for <= and >= */
    struct version v;
};

static bool is_operator(char c)
{
    return c == '=' || c == '<' || c == '>' || c == '^' || c == '~';
}

static bool read_comparator(struct po__slice s, size_t *at, struct comparator *c)
{
    c->op = '=';
    if (*at < s.len && is_operator(s.data[*at])) {
        c->op = s.data[(*at)++];
        if (*at < s.len && s.data[*at] == '=' && (c->op == '<' || c->op == '>')) {
            c->op = c->op == '<' ? 'l' : 'g';
            ++*at;
        }
        while (*at < s.len && s.data[*at] == ' ')
            ++*at;
    }
    return read_partial(s, at, &c->v);
}

/* How many leading parts a version must share with that of ^. */
static unsigned caret_parts(const struct version *v)
{
    unsigned i = 0;
    while (i + 1 < v->given && v->part[i] == 0)
        i++;
    return v->given ? i + 1 : 0;
}

static bool holds(const struct comparator *c, const struct version *v)
{
    struct version high;
    bool low = cmp(v, &c->v) >= 0;
    unsigned given = c->v.given;
    switch (c->op) {
    case '<': /* below all that a partial version stands for, its pre-releases included */
        high = c->v;
        high.pre = given == PARTS ? c->v.pre : po__slice("0", 1);
        return given && cmp(v, &high) < 0;
    case 'g':
        return low;
    case '>':
        if (given == PARTS)
            return cmp(v, &c->v) > 0;
        if (!bump(&c->v, given, &high))
            return false;
        high.pre.len = 0; /* from the release on */
        return cmp(v, &high) >= 0;
    case 'l':
        return given == PARTS ? cmp(v, &c->v) <= 0
                              : !bump(&c->v, given, &high) || cmp(v, &high) < 0;
    case '^':
        return low && (!bump(&c->v, caret_parts(&c->v), &high) || cmp(v, &high) < 0);
    case '~':
        return low && (!bump(&c->v, given < 2 ? given : 2, &high) || cmp(v, &high) < 0);
    default:
        if (given == PARTS)
            return cmp(v, &c->v) == 0;
        return low && (!bump(&c->v, given, &high) || cmp(v, &high) < 0);
    }
}

static bool same_release(const struct version *a, const struct version *b)
{
    return a->part[0] == b->part[0] && a->part[1] == b->part[1] && a->part[2] == b->part[2];
}

/* Reads a range; *has: whether v is in it. v NULL: only its form counts. */
static bool read_range(struct po__slice s, const struct version *v, bool *has)
{
    size_t at = 0;
    *has = false;
    for (;;) { /* alternatives */
        bool all = true, admits_pre = v && v->pre.len == 0;
        for (;;) {
            struct comparator c;
            while (at < s.len && s.data[at] == ' ')
                at++;
            if (at == s.len || s.data[at] == '|')
                break;
            if (!read_comparator(s, &at, &c) ||
                (at < s.len && s.data[at] != ' ' && s.data[at] != '|'))
                return false;
            if (!v)
                continue;
            all = all && holds(&c, v);
            admits_pre = admits_pre || (c.v.pre.len && same_release(&c.v, v));
        }
        *has = *has || (all && admits_pre);
        if (at == s.len)
            return true;
        if (at + 1 >= s.len || s.data[at + 1] != '|')
            return false;
        at += 2;
    }
}

bool po__range_ok(struct po__slice range)
{
    bool has;
    return range.len <= PO_NAME_MAX_BYTES && read_range(range, NULL, &has);
}

bool po__range_has(struct po__slice range, struct po__slice version)
{
    struct version v = whole(version);
    bool has;
    PO_INVARIANT(read_range(range, &v, &has));
    return has;
}
