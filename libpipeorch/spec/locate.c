/* Where a JSON pointer points, as line and column.
 *
 * jansson keeps no positions, and people look for lines, not pointers. A text that jansson accepted
 * is walked again, only when a problem is reported; the walk trusts the syntax but never leaves the
 * text. */
#include "spec.h"

#include <stdlib.h>

struct walk {
    const char *p;
    const char *end;
};

static void skip_space(struct walk *w)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t' || *w->p == '\n' || *w->p == '\r'))
        w->p++;
}

static bool at(const struct walk *w, char c)
{
    return w->p < w->end && *w->p == c;
}

/* At a quote; the slice includes both quotes. */
static struct po__slice take_string(struct walk *w)
{
    const char *start = w->p++;
    while (w->p < w->end && *w->p != '"')
        w->p += *w->p == '\\' ? 2 : 1;
    if (w->p < w->end)
        w->p++;
    else
        w->p = w->end;
    return po__slice(start, (size_t)(w->p - start));
}

static void skip_value(struct walk *w)
{
    unsigned depth = 0;
    do {
        skip_space(w);
        if (w->p >= w->end)
            return;
        if (*w->p == '"') {
            take_string(w);
        } else if (*w->p == '{' || *w->p == '[') {
            depth++;
            w->p++;
        } else if (*w->p == '}' || *w->p == ']') {
            depth--;
            w->p++;
        } else if (*w->p == ',' || *w->p == ':') {
            w->p++;
        } else {
            while (w->p < w->end && !strchr(",:]} \t\r\n", *w->p))
                w->p++;
        }
    } while (depth);
}

/* The first segment of a pointer, unescaped. Returns what follows it. */
static const char *take_segment(const char *pointer, char out[PO__SPEC_POINTER_MAX_BYTES])
{
    size_t n = 0;
    for (pointer++; *pointer && *pointer != '/'; pointer++) {
        char c = *pointer;
        if (c == '~' && (pointer[1] == '0' || pointer[1] == '1'))
            c = *++pointer == '0' ? '~' : '/';
        if (n < PO__SPEC_POINTER_MAX_BYTES - 1)
            out[n++] = c;
    }
    out[n] = '\0';
    return pointer;
}

static bool key_equals(struct po__slice quoted, const char *key)
{
    if (!memchr(quoted.data, '\\', quoted.len))
        return quoted.len == strlen(key) + 2 && memcmp(quoted.data + 1, key, quoted.len - 2) == 0;
    json_t *s = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY, NULL);
    bool equal = s && strcmp(json_string_value(s), key) == 0;
    json_decref(s);
    return equal;
}

/* Into the object at w, to the value of `key`. *where: the key. */
static bool enter_key(struct walk *w, const char *key, const char **where)
{
    w->p++;
    for (;;) {
        skip_space(w);
        if (!at(w, '"'))
            return false;
        struct po__slice k = take_string(w);
        skip_space(w);
        if (at(w, ':'))
            w->p++;
        if (key_equals(k, key)) {
            *where = k.data;
            return true;
        }
        skip_value(w);
        skip_space(w);
        if (!at(w, ','))
            return false;
        w->p++;
    }
}

static bool enter_index(struct walk *w, const char *segment, const char **where)
{
    unsigned long left = strtoul(segment, NULL, 10);
    w->p++;
    for (;; left--) {
        skip_space(w);
        if (w->p >= w->end || *w->p == ']')
            return false;
        if (left == 0) {
            *where = w->p;
            return true;
        }
        skip_value(w);
        skip_space(w);
        if (!at(w, ','))
            return false;
        w->p++;
    }
}

void po__doc_place(struct po__slice text, const char *where, unsigned *line, unsigned *column)
{
    *line = *column = 1;
    for (const char *p = text.data; p < where; p++) {
        if (*p == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)*p & 0xc0) != 0x80) { /* UTF-8: count characters, not bytes */
            ++*column;
        }
    }
}

void po__doc_locate(struct po__slice text, const char *pointer, unsigned *line, unsigned *column)
{
    struct walk w = {text.data, text.data + text.len};
    skip_space(&w);
    const char *where = w.p;
    bool found = true;
    while (found && *pointer == '/') {
        char segment[PO__SPEC_POINTER_MAX_BYTES];
        pointer = take_segment(pointer, segment);
        skip_space(&w);
        found = at(&w, '{')   ? enter_key(&w, segment, &where)
                : at(&w, '[') ? enter_index(&w, segment, &where)
                              : false;
    }
    po__doc_place(text, where, line, column);
}
