/* The params of a run: what was declared meets what was given. */
#include "graph.h"

#include <stdarg.h>
#include <stdio.h>

#include "../codec/json_value.h"
#include "../codec/utf8.h"

static bool is_integer_literal(struct po__slice number)
{
    for (size_t i = 0; i < number.len; i++)
        if (number.data[i] == '.' || number.data[i] == 'e' || number.data[i] == 'E')
            return false;
    return true;
}

bool po__param_fits(uint32_t type, struct po__slice value)
{
    enum po__json_type is = po__json_type(value);
    switch (type) {
    case PO__PARAM_STRING:
        return is == PO__JSON_STRING;
    case PO__PARAM_NUMBER:
        return is == PO__JSON_NUMBER;
    case PO__PARAM_INTEGER:
        return is == PO__JSON_NUMBER && is_integer_literal(value);
    case PO__PARAM_BOOLEAN:
        return is == PO__JSON_BOOLEAN;
    case PO__PARAM_OBJECT:
        return is == PO__JSON_OBJECT;
    case PO__PARAM_ARRAY:
        return is == PO__JSON_ARRAY;
    default:
        return true;
    }
}

/* Problems, one behind the other; those that have no room are counted. */
struct problems {
    char *message;
    size_t message_len, used;
    unsigned count, left_out;
};

#define TAIL_BYTES          24 /* room kept for "; and 1000000 more" */
#define KEY_SHOWN_MAX_BYTES 64

#define SHOWN(s) (int)po__utf8_cut(s, KEY_SHOWN_MAX_BYTES).len, (s).data

static void problem(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct problems *p, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    if (p->count++ && p->used + len + 2 + TAIL_BYTES >= p->message_len) {
        p->left_out++;
        return;
    }
    if (p->message_len <= p->used)
        return;
    p->used += (size_t)snprintf(p->message + p->used, p->message_len - p->used, "%s%s",
                                p->count > 1 ? "; " : "", text);
}

static int concluded(struct problems *p)
{
    if (p->left_out && p->used < p->message_len)
        snprintf(p->message + p->used, p->message_len - p->used, "; and %u more", p->left_out);
    return p->count ? PO_EINVAL : 0;
}

/* The given members in the order of the declarations; *given stays empty where there is none. */
static void sort_out(struct po__slice object, const struct po__param *declared, uint32_t n,
                     struct po__slice *given, struct problems *p)
{
    struct po__json_iter it;
    for (po__json_iter(&it, object); po__json_next(&it);) {
        uint32_t i = 0;
        while (i < n && !po__json_string_is(it.key, declared[i].name))
            i++;
        if (i == n)
            problem(p, "param %.*s is not declared", SHOWN(it.key));
        else if (given[i].len)
            problem(p, "param \"%.*s\" is given twice", SHOWN(declared[i].name));
        else
            given[i] = it.value;
    }
}

/* What the run gets for one param. Null stands for a param that may be left out and has no default:
 * it is what the run would get without. */
static struct po__slice chosen(const struct po__param *d, struct po__slice given,
                               struct problems *p)
{
    bool may_be_null = !d->required && d->value.len == 0;
    if (given.len == 0) {
        if (d->required)
            problem(p, "param \"%.*s\" is required (%s)", SHOWN(d->name),
                    po__param_type_word(d->type));
        return d->value.len ? po__json_root(d->value) : po__str("null");
    }
    if (!po__param_fits(d->type, given) && !(may_be_null && po__json_type(given) == PO__JSON_NULL))
        problem(p, "param \"%.*s\" is %s, expected %s", SHOWN(d->name), po__json_a_type(given),
                po__param_type_word(d->type));
    return given;
}

int po__params_fill(struct po__buf *out, const struct po__param *declared, uint32_t n,
                    struct po__slice text, char *message, size_t message_len)
{
    struct problems p = {.message = message, .message_len = message_len};
    struct po__slice given[PO__GRAPH_PARAMS_MAX] = {{0}};
    struct po__slice object = po__json_root(text.len ? text : po__str("{}"));
    if (po__json_type(object) == PO__JSON_NULL)
        object = po__str("{}");
    if (po__json_type(object) != PO__JSON_OBJECT) {
        problem(&p, "params is %s, expected an object", po__json_a_type(object));
        return concluded(&p);
    }
    sort_out(object, declared, n, given, &p);
    po__buf_append(out, "{", 1);
    for (uint32_t i = 0; i < n; i++) {
        struct po__slice value = chosen(&declared[i], given[i], &p);
        if (i)
            po__buf_append(out, ",", 1);
        po__json_string(out, declared[i].name);
        po__buf_append(out, ":", 1);
        po__json_compact(out, value);
    }
    po__buf_append(out, "}", 1);
    if (!p.count && !out->err && !po__json_ok(po__buf_slice(out)))
        problem(&p, "the params are more than %d arrays and objects deep", PO__JSON_DEPTH_MAX);
    return p.count ? concluded(&p) : out->err;
}
