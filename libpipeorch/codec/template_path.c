/* Paths: taking them apart, walking into values, and saying what is there instead. */
#include "template.h"

#include <stdarg.h>
#include <stdio.h>

#include <pipeorch/error.h>
#include "../base/assert.h"
#include "../base/nearest.h"
#include "utf8.h"

#define SHOWN_PATH_MAX_BYTES 120 /* of a path, in a sentence */
#define SHOWN_NAME_MAX_BYTES 40  /* of a member's name */
#define SHOWN_NAMES_MAX      5   /* names listed */
#define NEAR_NAMES_MAX       32  /* names among which the nearest is looked for */

void po__template_fail(struct po__template_error *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof e->text) /* the last character may be cut */
        e->text[po__utf8_cut(po__slice(e->text, sizeof e->text), sizeof e->text - 4).len] = '\0';
}

/* ---- parsing ---- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

struct parser {
    struct po__path *path;
    const char *start, *p, *end;
    struct po__buf
        keys; /* over path->names: as long as the path itself at most, so it never grows */
    struct po__template_error *e;
};

static int bad(struct parser *in, const char *why)
{
    in->e->offset = (size_t)(in->p - in->start);
    po__template_fail(in->e, "%s", why);
    return PO_EINVAL;
}

static int add(struct parser *in, const char *from, struct po__slice name, size_t index)
{
    struct po__path *path = in->path;
    if (in->p - in->start > PO__PATH_MAX_BYTES)
        return bad(in, "the path is too long");
    if (path->count == PO__PATH_PARTS_MAX)
        return bad(in, "the path has too many parts");
    path->parts[path->count++] =
        (struct po__path_part){po__slice(from, (size_t)(in->p - from)), name, index};
    return 0;
}

static int parse_name(struct parser *in, const char *from)
{
    const char *name = in->p;
    while (in->p < in->end && name_char(*in->p))
        in->p++;
    if (in->p == name)
        return bad(in, from == name ? "a path begins with a name"
                                    : "after the dot, a name is missing; write [\"...\"] for a key "
                                      "of other characters than letters, digits, _ and -");
    return add(in, from, po__slice(name, (size_t)(in->p - name)), 0);
}

/* in->p is at the quote. */
static int parse_key(struct parser *in, const char *from)
{
    const char *token = in->p, *p = token + 1;
    while (p < in->end && *p != '"')
        p += *p == '\\' ? 2 : 1;
    if (p >= in->end)
        return bad(in, "the key has no closing quote");
    struct po__slice string = po__slice(token, (size_t)(p + 1 - token));
    if (string.len > PO__PATH_MAX_BYTES)
        return bad(in, "the path is too long");
    if (!po__json_ok(string))
        return bad(in, "the key is not a JSON string");
    in->p = p + 1;
    if (in->p == in->end || *in->p != ']')
        return bad(in, "after the key, ] is missing");
    in->p++;
    size_t at = in->keys.len;
    if (po__json_decode(&in->keys, string))
        return bad(in, "the path is too long");
    return add(in, from, po__slice(in->keys.data + at, in->keys.len - at), 0);
}

static int parse_index(struct parser *in, const char *from)
{
    const char *digits = in->p;
    size_t index = 0;
    while (in->p < in->end && *in->p >= '0' && *in->p <= '9' && index <= PO__PATH_INDEX_MAX)
        index = index * 10 + (size_t)(*in->p++ - '0');
    if (in->p == digits)
        return bad(in, "after [, a number from 0 or a key in double quotes is missing");
    if (index > PO__PATH_INDEX_MAX || (*digits == '0' && in->p - digits > 1))
        return bad(in, "an index is a number up to 999999999 without leading zeros");
    if (in->p == in->end || *in->p != ']')
        return bad(in, "after the index, ] is missing");
    in->p++;
    return add(in, from, (struct po__slice){NULL, 0}, index);
}

static int parse_part(struct parser *in)
{
    const char *from = in->p;
    if (*in->p++ == '.')
        return parse_name(in, from);
    return in->p < in->end && *in->p == '"' ? parse_key(in, from) : parse_index(in, from);
}

int po__path_parse(struct po__path *path, struct po__slice text, size_t *used,
                   struct po__template_error *e)
{
    struct parser in = {.path = path,
                        .start = text.data,
                        .p = text.data,
                        .end = text.data + text.len,
                        .keys = {.data = (uint8_t *)path->names,
                                 .cap = sizeof path->names,
                                 .max_bytes = sizeof path->names},
                        .e = e};
    path->count = 0;
    if (text.len > 0 && (*text.data == '-' || (*text.data >= '0' && *text.data <= '9')))
        return bad(&in, "a path begins with a letter or _");
    int rv = parse_name(&in, in.p);
    while (!rv && in.p < in.end && (*in.p == '.' || *in.p == '['))
        rv = parse_part(&in);
    if (rv)
        return rv;
    path->text = po__slice(text.data, (size_t)(in.p - text.data));
    if (used)
        *used = path->text.len;
    else if (in.p < in.end)
        return bad(&in,
                   "the path goes on with a character that belongs to none; write [\"...\"] for "
                   "a key of other characters than letters, digits, _ and -");
    return 0;
}

bool po__path_part_is(const struct po__path *path, unsigned part, const char *name)
{
    return part < path->count && path->parts[part].name.data &&
           po__slice_eq(path->parts[part].name, po__str(name));
}

struct po__slice po__path_head(const struct po__path *path, unsigned parts)
{
    if (parts == 0)
        return po__slice(path->text.data, 0);
    const struct po__slice last = path->parts[parts - 1].text;
    return po__slice(path->text.data, (size_t)(last.data + last.len - path->text.data));
}

/* ---- walking ---- */

/* The names of an object's members, for a sentence. */
struct names {
    char text[NEAR_NAMES_MAX][SHOWN_NAME_MAX_BYTES + 1];
    const char *list[NEAR_NAMES_MAX];
    unsigned count;
    bool more;
};

/* As they are written; longer ones are cut. */
static void collect(struct names *names, struct po__slice object)
{
    struct po__json_iter it;
    names->count = 0;
    names->more = false;
    for (po__json_iter(&it, object); po__json_next(&it);) {
        if (names->count == NEAR_NAMES_MAX) {
            names->more = true;
            return;
        }
        char *text = names->text[names->count];
        struct po__slice raw =
            po__utf8_cut(po__slice(it.key.data + 1, it.key.len - 2), SHOWN_NAME_MAX_BYTES);
        memcpy(text, raw.data, raw.len);
        text[raw.len] = '\0';
        names->list[names->count++] = text;
    }
}

static void say_missing(struct po__template_error *e, struct po__slice where,
                        struct po__slice object, struct po__slice name)
{
    struct names names;
    char wrong[SHOWN_NAME_MAX_BYTES + 1];
    name = po__utf8_cut(name, SHOWN_NAME_MAX_BYTES);
    memcpy(wrong, name.data, name.len);
    wrong[name.len] = '\0';
    collect(&names, object);
    const char *near = po__nearest(wrong, names.list, names.count);
    if (near) {
        po__template_fail(e, "%.*s has no member \"%s\"; the nearest is \"%s\"", (int)where.len,
                          where.data, wrong, near);
        return;
    }
    char list[SHOWN_NAMES_MAX * (SHOWN_NAME_MAX_BYTES + 4) + 8];
    size_t len = 0;
    for (unsigned i = 0; i < names.count && i < SHOWN_NAMES_MAX; i++)
        len += (size_t)snprintf(list + len, sizeof list - len, "%s\"%s\"", i ? ", " : "",
                                names.list[i]);
    if (names.count == 0)
        snprintf(list, sizeof list, "; it is empty");
    po__template_fail(e, "%.*s has no member \"%s\"%s%s%s", (int)where.len, where.data, wrong,
                      names.count ? "; it has " : "", list,
                      names.more || names.count > SHOWN_NAMES_MAX ? ", ..." : "");
}

static int step(struct po__slice *value, const struct po__path *path, unsigned i,
                struct po__template_error *e)
{
    const struct po__path_part *part = &path->parts[i];
    struct po__slice where = po__utf8_cut(po__path_head(path, i), SHOWN_PATH_MAX_BYTES);
    enum po__json_type type = po__json_type(*value);
    bool index = part->name.data == NULL;
    if (type == PO__JSON_OBJECT && !index && po__json_member(*value, part->name, value))
        return 0;
    if (type == PO__JSON_ARRAY && index && po__json_element(*value, part->index, value))
        return 0;
    e->offset = (size_t)(part->text.data - path->text.data);
    struct po__slice shown = po__utf8_cut(part->text, SHOWN_NAME_MAX_BYTES);
    if (type == PO__JSON_OBJECT && !index)
        say_missing(e, where, *value, part->name);
    else if (type == PO__JSON_ARRAY && index)
        po__template_fail(e, "%.*s is an array of %zu; there is no %.*s (the first is [0])",
                          (int)where.len, where.data, po__json_count(*value), (int)shown.len,
                          shown.data);
    else
        po__template_fail(e, "%.*s is %s; there is no %.*s in it", (int)where.len, where.data,
                          po__json_a_type(*value), (int)shown.len, shown.data);
    return PO_ENOTFOUND;
}

int po__path_value(struct po__slice *value, const struct po__path *path,
                   const struct po__scope *scope, struct po__template_error *e)
{
    unsigned taken = 0;
    e->offset = 0;
    e->text[0] = '\0';
    int rv = scope->resolve(scope->arg, path, &taken, value, e);
    if (rv && !e->text[0]) {
        struct po__slice shown = po__utf8_cut(path->text, SHOWN_PATH_MAX_BYTES);
        po__template_fail(e, "%.*s: %s", (int)shown.len, shown.data,
                          rv == PO_ENOTFOUND ? "there is nothing of that name" : po_strerror(rv));
    }
    if (rv)
        return rv;
    PO_INVARIANT(taken >= 1 && taken <= path->count);
    for (unsigned i = taken; !rv && i < path->count; i++)
        rv = step(value, path, i, e);
    return rv;
}
