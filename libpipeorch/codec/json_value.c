/* Values are found again and again by skipping over what stands before them. That is cheap: what is
 * inside of a value is not parsed to skip it, only its strings and brackets are seen. */
#include "json_value.h"

#include <pipeorch/error.h>

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && blank(*p))
        p++;
    return p;
}

/* p is at the opening quote; behind the closing one, which is the first with an even number of
 * backslashes before it. */
static const char *skip_string(const char *p, const char *end)
{
    const char *from = ++p, *quote;
    while (p < end && (quote = memchr(p, '"', (size_t)(end - p))) != NULL) {
        size_t backslashes = 0;
        while (quote - backslashes > from && quote[-(ptrdiff_t)backslashes - 1] == '\\')
            backslashes++;
        p = quote + 1;
        if (backslashes % 2 == 0)
            return p;
        from = p;
    }
    return end;
}

static const char *skip_nested(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            p = skip_string(p, end);
            continue;
        }
        p++;
        if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && --depth == 0)
            break;
    }
    return p;
}

static const char *skip_value(const char *p, const char *end)
{
    if (p < end && *p == '"')
        return skip_string(p, end);
    if (p < end && (*p == '[' || *p == '{'))
        return skip_nested(p, end);
    while (p < end && *p != ',' && *p != ']' && *p != '}' && !blank(*p))
        p++;
    return p;
}

struct po__slice po__json_root(struct po__slice text)
{
    const char *p = text.data, *end = text.data + text.len;
    p = skip_blanks(p, end);
    while (end > p && blank(end[-1]))
        end--;
    return po__slice(p, (size_t)(end - p));
}

enum po__json_type po__json_type(struct po__slice value)
{
    switch (value.len ? *value.data : 'n') {
    case 'n':
        return PO__JSON_NULL;
    case 't':
    case 'f':
        return PO__JSON_BOOLEAN;
    case '"':
        return PO__JSON_STRING;
    case '[':
        return PO__JSON_ARRAY;
    case '{':
        return PO__JSON_OBJECT;
    default:
        return PO__JSON_NUMBER;
    }
}

const char *po__json_type_name(enum po__json_type type)
{
    static const char *const names[] = {"null", "boolean", "number", "string", "array", "object"};
    return names[type];
}

const char *po__json_a_type(struct po__slice value)
{
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};
    return names[po__json_type(value)];
}

bool po__json_is_true(struct po__slice value)
{
    return value.len == 4 && *value.data == 't';
}

/* ---- members and elements ---- */

void po__json_iter(struct po__json_iter *it, struct po__slice value)
{
    *it = (struct po__json_iter){.p = value.data, .end = value.data + value.len};
    if (value.len < 2 || (*value.data != '[' && *value.data != '{')) {
        it->p = it->end;
        return;
    }
    it->object = *value.data == '{';
    it->p++;
    it->end--; /* the closing bracket */
}

bool po__json_next(struct po__json_iter *it)
{
    const char *p = skip_blanks(it->p, it->end);
    if (p == it->end)
        return false;
    if (it->object) {
        const char *key = p;
        p = skip_string(p, it->end);
        it->key = po__slice(key, (size_t)(p - key));
        p = skip_blanks(p, it->end);
        p = skip_blanks(p < it->end ? p + 1 : p, it->end); /* the colon */
    }
    const char *value = p;
    p = skip_value(p, it->end);
    it->value = po__slice(value, (size_t)(p - value));
    p = skip_blanks(p, it->end);
    it->p = p < it->end ? p + 1 : p; /* the comma */
    it->index = it->next++;
    return true;
}

bool po__json_member(struct po__slice object, struct po__slice key, struct po__slice *value)
{
    struct po__json_iter it;
    for (po__json_iter(&it, object); po__json_next(&it);)
        if (it.object && po__json_string_is(it.key, key)) {
            *value = it.value;
            return true;
        }
    return false;
}

bool po__json_element(struct po__slice array, size_t index, struct po__slice *value)
{
    struct po__json_iter it;
    for (po__json_iter(&it, array); po__json_next(&it);)
        if (it.index == index) {
            *value = it.value;
            return true;
        }
    return false;
}

size_t po__json_count(struct po__slice value)
{
    struct po__json_iter it;
    po__json_iter(&it, value);
    while (po__json_next(&it))
        ;
    return it.next;
}

/* ---- strings ---- */

/* What is left of a token between its quotes, read in runs: as many bytes as stand for themselves,
 * or the bytes of one escape. */
struct runs {
    const char *p, *end;
    const char *run;
    size_t len;
    char escape[4];
};

static void runs_init(struct runs *r, struct po__slice string)
{
    *r = (struct runs){.p = string.data, .end = string.data};
    if (string.len >= 2) {
        r->p = string.data + 1;
        r->end = string.data + string.len - 1;
    }
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char h = (unsigned char)p[i];
        v = v << 4 | ((h <= '9' ? h - (unsigned)'0' : (h | 0x20) - (unsigned)'a' + 10) & 15);
    }
    return v;
}

static size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[n] | c);
    return n;
}

/* p is behind "\u". */
static size_t unescape_unit(struct runs *r)
{
    if (r->end - r->p < 4)
        return r->p = r->end, 0;
    uint32_t c = hex4(r->p);
    r->p += 4;
    if (c >= 0xd800 && c <= 0xdbff && r->end - r->p >= 6) {
        c = 0x10000 + ((c & 0x3ff) << 10 | (hex4(r->p + 2) & 0x3ff));
        r->p += 6;
    }
    return utf8_put(r->escape, c);
}

static bool runs_next(struct runs *r)
{
    if (r->p >= r->end)
        return false;
    if (*r->p != '\\') {
        const char *stop = memchr(r->p, '\\', (size_t)(r->end - r->p));
        r->run = r->p;
        r->p = stop ? stop : r->end;
        r->len = (size_t)(r->p - r->run);
        return true;
    }
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    r->p++;
    char e = r->p < r->end ? *r->p++ : '\\';
    const char *known = e ? strchr(from, e) : NULL;
    r->escape[0] = known ? to[known - from] : e;
    r->len = e == 'u' ? unescape_unit(r) : 1;
    r->run = r->escape;
    return true;
}

int po__json_decode(struct po__buf *b, struct po__slice string)
{
    struct runs r;
    runs_init(&r, string);
    while (runs_next(&r))
        po__buf_append(b, r.run, r.len);
    return b->err;
}

size_t po__json_token_offset(struct po__slice string, size_t decoded)
{
    struct runs r;
    runs_init(&r, string);
    for (;;) {
        const char *from = r.p;
        if (!runs_next(&r))
            return (size_t)(from - string.data);
        if (decoded < r.len)
            return (size_t)(from - string.data) + (r.run == r.escape ? 0 : decoded);
        decoded -= r.len;
    }
}

bool po__json_string_is(struct po__slice string, struct po__slice text)
{
    struct runs r;
    runs_init(&r, string);
    while (runs_next(&r)) {
        if (r.len > text.len || memcmp(r.run, text.data, r.len) != 0)
            return false;
        text.data += r.len;
        text.len -= r.len;
    }
    return text.len == 0;
}

int po__json_string_cmp(struct po__slice a, struct po__slice b)
{
    struct runs x, y;
    if (po__slice_eq(a, b))
        return 0;
    runs_init(&x, a);
    runs_init(&y, b);
    for (;;) {
        bool more_x = x.len > 0 || runs_next(&x), more_y = y.len > 0 || runs_next(&y);
        if (!more_x || !more_y)
            return more_x - more_y;
        size_t n = x.len < y.len ? x.len : y.len;
        int c = memcmp(x.run, y.run, n);
        if (c)
            return c;
        x.run += n;
        x.len -= n;
        y.run += n;
        y.len -= n;
    }
}

size_t po__json_string_length(struct po__slice string)
{
    struct runs r;
    size_t length = 0;
    runs_init(&r, string);
    while (runs_next(&r))
        for (size_t i = 0; i < r.len; i++)
            length += ((unsigned char)r.run[i] & 0xc0) != 0x80;
    return length;
}

uint64_t po__json_string_hash(struct po__slice string)
{
    struct runs r;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    runs_init(&r, string);
    while (runs_next(&r))
        for (size_t i = 0; i < r.len; i++)
            h = (h ^ (unsigned char)r.run[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- compact ---- */

/* Runs without white space are copied at once. Depth is counted by brackets. */
unsigned po__json_compact(struct po__buf *b, struct po__slice value)
{
    const char *p = value.data, *end = value.data + value.len, *from = p;
    unsigned depth = 0, deepest = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            p = skip_string(p, end);
            continue;
        }
        if (blank(c)) {
            po__buf_append(b, from, (size_t)(p - from));
            p = from = skip_blanks(p, end);
            continue;
        }
        if (c == '[' || c == '{')
            deepest = ++depth > deepest ? depth : deepest;
        else if (c == ']' || c == '}')
            depth--;
        p++;
    }
    po__buf_append(b, from, (size_t)(end - from));
    return deepest;
}
