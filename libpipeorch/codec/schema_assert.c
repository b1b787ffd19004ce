/* The rules that look at the value alone: its type, its size, what it is equal to, what it has. */
#include "schema_run.h"

#include <pipeorch/error.h>

bool po__schema_fault(struct po__schema_run *r, const struct po__where *at, int code)
{
    if (r->fault)
        return false;
    r->fault = code;
    if (code == PO_ENOMEM)
        po__schema_fail(r->e, at, "", "%s", po_strerror(code));
    else if (r->depth > PO__SCHEMA_DEPTH_MAX)
        po__schema_fail(r->e, at, "",
                        "validating this value takes more than %d schemas inside of "
                        "each other",
                        PO__SCHEMA_DEPTH_MAX);
    else
        po__schema_fail(r->e, at, "",
                        "validating this value means looking at more than %llu MiB; "
                        "send less at once, or use a simpler schema",
                        (unsigned long long)(PO__SCHEMA_WORK_MAX >> 20));
    return false;
}

bool po__schema_take(struct po__schema_run *r, const struct po__where *at, size_t bytes)
{
    if (r->work >= bytes) {
        r->work -= bytes;
        return true;
    }
    r->work = 0;
    return po__schema_fault(r, at, PO_ETOOBIG);
}

bool po__schema_find(struct po__schema_run *r, struct po__schema_cursor *c, struct po__slice key,
                     struct po__slice *found, const struct po__where *at)
{
    const char *start = c->it.p;
    bool wrapped = false;
    for (;;) {
        const char *from = c->it.p;
        if ((wrapped && from >= start) || !po__json_next(&c->it)) {
            if (wrapped)
                return false;
            wrapped = true;
            po__json_iter(&c->it, c->object);
            continue;
        }
        if (!po__schema_take(r, at, (size_t)(c->it.p - from)))
            return false;
        if (c->it.object && po__json_string_cmp(c->it.key, key) == 0) {
            *found = c->it.value;
            return true;
        }
    }
}

/* ---- any type ---- */

static bool equal(struct po__schema_run *r, const struct po__where *at, struct po__slice a,
                  struct po__slice b)
{
    int rv = po__json_equal(a, b, &r->work);
    return rv < 0 ? po__schema_fault(r, at, rv) : rv == 1;
}

static bool type(struct po__schema_run *r, struct po__slice wanted, struct po__slice value,
                 const struct po__where *at)
{
    struct po__json_iter it;
    struct po__shown shown, types;
    bool list = po__json_type(wanted) == PO__JSON_ARRAY;
    if (!list && po__json_type(wanted) != PO__JSON_STRING)
        return true;
    if (!list && po__schema_type_is(wanted, value))
        return true;
    for (po__json_iter(&it, wanted); po__json_next(&it);)
        if (po__json_type(it.value) == PO__JSON_STRING && po__schema_type_is(it.value, value))
            return true;
    return PO__SCHEMA_FAIL(r, at, "type", "%s is %s; expected is %s%s",
                           po__schema_show(&shown, value), po__json_a_type(value),
                           list ? "one of " : "", po__schema_show(&types, wanted));
}

static bool one_of_values(struct po__schema_run *r, struct po__slice values, struct po__slice value,
                          const struct po__where *at)
{
    struct po__json_iter it;
    struct po__shown shown, allowed;
    if (po__json_type(values) != PO__JSON_ARRAY)
        return true;
    for (po__json_iter(&it, values); po__json_next(&it) && !r->fault;)
        if (equal(r, at, it.value, value))
            return true;
    return PO__SCHEMA_FAIL(r, at, "enum", "%s is none of %s", po__schema_show(&shown, value),
                           po__schema_show(&allowed, values));
}

static bool constant(struct po__schema_run *r, struct po__slice wanted, struct po__slice value,
                     const struct po__where *at)
{
    struct po__shown shown, allowed;
    return equal(r, at, wanted, value) ||
           PO__SCHEMA_FAIL(r, at, "const", "%s is not %s", po__schema_show(&shown, value),
                           po__schema_show(&allowed, wanted));
}

/* ---- numbers, lengths, counts ---- */

static bool number(struct po__schema_run *r, const struct po__keyword_info *info,
                   struct po__slice limit, struct po__slice value, const struct po__where *at)
{
    struct po__shown shown, bound;
    const char *text;
    if (po__json_type(value) != PO__JSON_NUMBER || po__json_type(limit) != PO__JSON_NUMBER)
        return true;
    int c = info->keyword == PO__KW_MULTIPLE_OF ? 0 : po__json_number_cmp(value, limit);
    switch (info->keyword) {
    case PO__KW_MINIMUM:
        if (c >= 0)
            return true;
        text = "below the minimum";
        break;
    case PO__KW_MAXIMUM:
        if (c <= 0)
            return true;
        text = "above the maximum";
        break;
    case PO__KW_EXCLUSIVE_MINIMUM:
        if (c > 0)
            return true;
        text = "not above";
        break;
    case PO__KW_EXCLUSIVE_MAXIMUM:
        if (c < 0)
            return true;
        text = "not below";
        break;
    default:
        if (!po__json_divisor_ok(limit) || po__json_is_multiple(value, limit))
            return true;
        text = "no multiple of";
    }
    return PO__SCHEMA_FAIL(r, at, info->name, "%s is %s %s", po__schema_show(&shown, value), text,
                           po__schema_show(&bound, limit));
}

static bool size(struct po__schema_run *r, const struct po__keyword_info *info,
                 struct po__slice limit, struct po__slice value, const struct po__where *at)
{
    enum po__json_type of;
    const char *what;
    bool max = false;
    uint64_t bound;
    switch (info->keyword) {
    case PO__KW_MAX_LENGTH:
        max = true; /* fall through */
    case PO__KW_MIN_LENGTH:
        of = PO__JSON_STRING;
        what = "characters";
        break;
    case PO__KW_MAX_ITEMS:
        max = true; /* fall through */
    case PO__KW_MIN_ITEMS:
        of = PO__JSON_ARRAY;
        what = "elements";
        break;
    case PO__KW_MAX_PROPERTIES:
        max = true; /* fall through */
    default:
        of = PO__JSON_OBJECT;
        what = "members";
    }
    if (po__json_type(value) != of || po__json_type(limit) != PO__JSON_NUMBER ||
        !po__json_u64(limit, &bound) || !po__schema_take(r, at, value.len))
        return !r->fault;
    uint64_t n = of == PO__JSON_STRING ? po__json_string_length(value) : po__json_count(value);
    return (max ? n <= bound : n >= bound) ||
           PO__SCHEMA_FAIL(r, at, info->name, "there are %llu %s; at %s %llu are allowed",
                           (unsigned long long)n, what, max ? "most" : "least",
                           (unsigned long long)bound);
}

/* ---- members and elements ---- */

static bool unique(struct po__schema_run *r, struct po__slice wanted, struct po__slice value,
                   const struct po__where *at)
{
    size_t pair[2];
    if (!po__json_is_true(wanted) || po__json_type(value) != PO__JSON_ARRAY)
        return true;
    int rv = po__schema_distinct(value, pair, &r->work);
    if (rv < 0)
        return po__schema_fault(r, at, rv);
    return rv == 1 ||
           PO__SCHEMA_FAIL(r, at, "uniqueItems", "the elements %zu and %zu (from 0) are the same",
                           pair[0], pair[1]);
}

/* `names` are all members of value. `because`: the member that wants them, or an empty slice. */
static bool has_all(struct po__schema_run *r, const char *rule, struct po__slice names,
                    struct po__slice value, struct po__slice because, const struct po__where *at)
{
    struct po__json_iter it;
    struct po__schema_cursor members = {.object = value};
    struct po__slice found;
    struct po__shown shown, other;
    po__json_iter(&members.it, value);
    for (po__json_iter(&it, names); !it.object && !r->fault && po__json_next(&it);) {
        if (po__json_type(it.value) != PO__JSON_STRING ||
            po__schema_find(r, &members, it.value, &found, at))
            continue;
        return PO__SCHEMA_FAIL(r, at, rule, "%s is missing%s%s", po__schema_show(&shown, it.value),
                               because.len ? "; it goes with " : "",
                               because.len ? po__schema_show(&other, because) : "");
    }
    return !r->fault;
}

static bool required(struct po__schema_run *r, struct po__slice names, struct po__slice value,
                     const struct po__where *at)
{
    return po__json_type(value) != PO__JSON_OBJECT ||
           has_all(r, "required", names, value, (struct po__slice){NULL, 0}, at);
}

static bool dependent_required(struct po__schema_run *r, struct po__slice map,
                               struct po__slice value, const struct po__where *at)
{
    struct po__json_iter it;
    struct po__slice found;
    struct po__schema_cursor members = {.object = value};
    if (po__json_type(value) != PO__JSON_OBJECT)
        return true;
    po__json_iter(&members.it, value);
    for (po__json_iter(&it, map); it.object && !r->fault && po__json_next(&it);)
        if (po__schema_find(r, &members, it.key, &found, at) &&
            !has_all(r, "dependentRequired", it.value, value, it.key, at))
            return false;
    return !r->fault;
}

/* ---- which ---- */

bool po__schema_assert(struct po__schema_run *r, const struct po__keyword_info *info,
                       struct po__slice rule, struct po__slice value, const struct po__where *at)
{
    switch (info->keyword) {
    case PO__KW_TYPE:
        return type(r, rule, value, at);
    case PO__KW_ENUM:
        return one_of_values(r, rule, value, at);
    case PO__KW_CONST:
        return constant(r, rule, value, at);
    case PO__KW_MINIMUM:
    case PO__KW_MAXIMUM:
    case PO__KW_EXCLUSIVE_MINIMUM:
    case PO__KW_EXCLUSIVE_MAXIMUM:
    case PO__KW_MULTIPLE_OF:
        return number(r, info, rule, value, at);
    case PO__KW_MIN_LENGTH:
    case PO__KW_MAX_LENGTH:
    case PO__KW_MIN_ITEMS:
    case PO__KW_MAX_ITEMS:
    case PO__KW_MIN_PROPERTIES:
    case PO__KW_MAX_PROPERTIES:
        return size(r, info, rule, value, at);
    case PO__KW_UNIQUE_ITEMS:
        return unique(r, rule, value, at);
    case PO__KW_REQUIRED:
        return required(r, rule, value, at);
    case PO__KW_DEPENDENT_REQUIRED:
        return dependent_required(r, rule, value, at);
    default:
        return true;
    }
}
