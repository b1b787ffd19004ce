/* A checker, not a parser: jansson would build a tree (and allocate some 20 times the text) only to
 * throw it away, for every payload of every command, on the thread of the leader. */
#include "json.h"

#include <stdint.h>

#include "utf8.h"

struct cursor {
    const char *p;
    const char *end;
};

static void space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool eat(struct cursor *c, char wanted)
{
    if (c->p == c->end || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

static bool digits(struct cursor *c)
{
    const char *start = c->p;
    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return c->p > start;
}

static bool number(struct cursor *c)
{
    eat(c, '-');
    if (!eat(c, '0') && !digits(c))
        return false;
    if (eat(c, '.') && !digits(c))
        return false;
    if (eat(c, 'e') || eat(c, 'E')) {
        if (!eat(c, '+'))
            eat(c, '-');
        return digits(c);
    }
    return true;
}

static bool literal(struct cursor *c, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

static int hex_digit(char h)
{
    if (h >= '0' && h <= '9')
        return h - '0';
    h |= 0x20;
    return h >= 'a' && h <= 'f' ? h - 'a' + 10 : -1;
}

/* Four hex digits, or -1. */
static int hex4(struct cursor *c)
{
    int v = 0;
    if (c->end - c->p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(c->p[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    c->p += 4;
    return v;
}

/* After the backslash. U+0000 is refused like a NUL byte, and surrogates must come in pairs: a
 * reader that decodes the text would fail on them later, far from who sent it. */
static bool escape(struct cursor *c)
{
    if (c->p == c->end)
        return false;
    char e = *c->p++;
    if (e != 'u')
        return e != '\0' && strchr("\"\\/bfnrt", e) != NULL;
    int unit = hex4(c);
    if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return false;
    if (unit < 0xd800 || unit > 0xdbff)
        return true;
    if (!eat(c, '\\') || !eat(c, 'u'))
        return false;
    unit = hex4(c);
    return unit >= 0xdc00 && unit <= 0xdfff;
}

static bool string(struct cursor *c)
{
    if (!eat(c, '"'))
        return false;
    while (c->p < c->end) {
        unsigned char ch = (unsigned char)*c->p++;
        if (ch == '"')
            return true;
        if (ch < 0x20 || (ch == '\\' && !escape(c)))
            return false;
    }
    return false;
}

static bool scalar(struct cursor *c)
{
    if (c->p == c->end)
        return false;
    switch (*c->p) {
    case '"':
        return string(c);
    case 't':
        return literal(c, "true");
    case 'f':
        return literal(c, "false");
    case 'n':
        return literal(c, "null");
    default:
        return number(c);
    }
}

/* "key" : */
static bool key(struct cursor *c)
{
    space(c);
    if (!string(c))
        return false;
    space(c);
    return eat(c, ':');
}

bool po__json_ok(struct po__slice text)
{
    struct cursor c = {text.data, text.data + text.len};
    char close[PO__JSON_DEPTH_MAX]; /* what ends each array or object that is open */
    unsigned depth = 0;
    if (text.len == 0 || !po__utf8_ok(text))
        return false;
    for (;;) { /* a value is due */
        space(&c);
        bool object = c.p < c.end && *c.p == '{';
        if (object || (c.p < c.end && *c.p == '[')) {
            char closing = object ? '}' : ']';
            if (depth == PO__JSON_DEPTH_MAX) /* an empty one is a level, too */
                return false;
            c.p++;
            space(&c);
            if (!eat(&c, closing)) {
                if (object && !key(&c))
                    return false;
                close[depth++] = closing;
                continue;
            }
        } else if (!scalar(&c)) {
            return false;
        }
        for (;;) { /* a value is complete */
            space(&c);
            if (depth == 0)
                return c.p == c.end;
            if (eat(&c, ',')) {
                if (close[depth - 1] == '}' && !key(&c))
                    return false;
                break;
            }
            if (!eat(&c, close[depth - 1]))
                return false;
            depth--;
        }
    }
}

void po__json_string(struct po__buf *b, struct po__slice text)
{
    size_t from = 0;
    po__buf_append(b, "\"", 1);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char ch = (unsigned char)text.data[i];
        if (ch >= 0x20 && ch != '"' && ch != '\\')
            continue;
        po__buf_append(b, text.data + from, i - from);
        po__buf_printf(b, ch < 0x20 ? "\\u%04x" : "\\%c", ch);
        from = i + 1;
    }
    po__buf_append(b, text.data + from, text.len - from);
    po__buf_append(b, "\"", 1);
}
