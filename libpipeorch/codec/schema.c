/* Validation goes through the schema's members in their order and stops at the first rule that is
 * broken. Nothing is kept between values: a schema is read again for each, which is cheap for what
 * schemas are (a screenful), and needs no second representation. Work is counted in the bytes that
 * are looked at; a fault (too much work, no memory) ends everything. */
#include "schema_run.h"

#include <pipeorch/error.h>
#include "../base/nearest.h"

#define NEAR_NAMES_MAX 32

/* What a schema has that other keywords need to know. An empty slice: it has not. */
struct siblings {
    struct po__slice properties, additional, prefix_items, items;
    struct po__slice contains, min_contains, max_contains;
    struct po__slice if_, then, else_;
};

static bool valid(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                  const struct po__where *at);

static bool valid_quietly(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                          const struct po__where *at)
{
    r->quiet++;
    bool ok = valid(r, schema, value, at);
    r->quiet--;
    return ok;
}

/* ---- the same value ---- */

static bool all_of(struct po__schema_run *r, struct po__slice schemas, struct po__slice value,
                   const struct po__where *at)
{
    struct po__json_iter it;
    for (po__json_iter(&it, schemas); !it.object && po__json_next(&it);)
        if (!valid(r, it.value, value, at))
            return false;
    return true;
}

/* How many schemas of the list allow the value; beyond `enough` it is not counted. */
static size_t count_valid(struct po__schema_run *r, struct po__slice schemas,
                          struct po__slice value, const struct po__where *at, size_t enough)
{
    struct po__json_iter it;
    size_t n = 0;
    for (po__json_iter(&it, schemas); n < enough && !r->fault && po__json_next(&it);)
        n += valid_quietly(r, it.value, value, at);
    return n;
}

static bool any_of(struct po__schema_run *r, struct po__slice schemas, struct po__slice value,
                   const struct po__where *at)
{
    struct po__shown shown;
    if (po__json_type(schemas) != PO__JSON_ARRAY)
        return true;
    return count_valid(r, schemas, value, at, 1) == 1 ||
           PO__SCHEMA_FAIL(r, at, "anyOf", "%s is allowed by none of the %zu schemas",
                           po__schema_show(&shown, value), po__json_count(schemas));
}

static bool one_of(struct po__schema_run *r, struct po__slice schemas, struct po__slice value,
                   const struct po__where *at)
{
    struct po__shown shown;
    if (po__json_type(schemas) != PO__JSON_ARRAY)
        return true;
    size_t n = count_valid(r, schemas, value, at, 2);
    return n == 1 ||
           PO__SCHEMA_FAIL(r, at, "oneOf", "%s is allowed by %s of the %zu schemas, not by one",
                           po__schema_show(&shown, value), n ? "more than one" : "none",
                           po__json_count(schemas));
}

static bool not_(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                 const struct po__where *at)
{
    struct po__shown shown;
    return !valid_quietly(r, schema, value, at) ||
           PO__SCHEMA_FAIL(r, at, "not", "%s is what the schema excludes",
                           po__schema_show(&shown, value));
}

static bool reference(struct po__schema_run *r, struct po__slice ref, struct po__slice value,
                      const struct po__where *at)
{
    struct po__slice target;
    if (po__json_type(ref) != PO__JSON_STRING)
        return true;
    int rv = po__schema_ref(&r->refs, ref, &target, &r->work);
    if (rv < 0)
        return po__schema_fault(r, at, rv);
    return rv == 0 || valid(r, target, value, at);
}

/* ---- arrays ---- */

static bool is_false(struct po__slice schema)
{
    return schema.len == 5 && *schema.data == 'f';
}

static bool elements(struct po__schema_run *r, const struct siblings *s, struct po__slice value,
                     const struct po__where *at)
{
    struct po__json_iter it, prefix;
    if ((!s->prefix_items.len && !s->items.len) || po__json_type(value) != PO__JSON_ARRAY)
        return true;
    po__json_iter(&prefix, s->prefix_items);
    for (po__json_iter(&it, value); !r->fault && po__json_next(&it);) {
        const struct po__where here = {at, {NULL, 0}, it.index};
        bool in_prefix = !prefix.object && po__json_next(&prefix);
        if (!in_prefix && !s->items.len)
            return true;
        if (!in_prefix && is_false(s->items))
            return PO__SCHEMA_FAIL(r, &here, "items", "at most %zu elements are allowed", it.index);
        if (!valid(r, in_prefix ? prefix.value : s->items, it.value, &here))
            return false;
    }
    return !r->fault;
}

static bool contains(struct po__schema_run *r, const struct siblings *s, struct po__slice value,
                     const struct po__where *at)
{
    struct po__json_iter it;
    uint64_t min = 1, max = UINT64_MAX, n = 0;
    if (!s->contains.len || po__json_type(value) != PO__JSON_ARRAY)
        return true;
    if (s->min_contains.len && !po__json_u64(s->min_contains, &min))
        min = 1;
    if (s->max_contains.len && !po__json_u64(s->max_contains, &max))
        max = UINT64_MAX;
    for (po__json_iter(&it, value); !r->fault && n <= max && po__json_next(&it);) {
        const struct po__where here = {at, {NULL, 0}, it.index};
        n += valid_quietly(r, s->contains, it.value, &here);
    }
    if (n > max)
        return PO__SCHEMA_FAIL(r, at, "maxContains",
                               "more than %llu elements are of the kind that is counted",
                               (unsigned long long)max);
    return n >= min ||
           PO__SCHEMA_FAIL(r, at, s->min_contains.len ? "minContains" : "contains",
                           "%llu elements are of the kind that is wanted; at least %llu have to be",
                           (unsigned long long)n, (unsigned long long)min);
}

/* ---- objects ---- */

static bool not_allowed(struct po__schema_run *r, const struct siblings *s, struct po__slice key,
                        const struct po__where *at)
{
    struct po__shown shown, names[NEAR_NAMES_MAX];
    const char *list[NEAR_NAMES_MAX];
    unsigned count = 0;
    struct po__json_iter it;
    if (r->quiet)
        return false;
    for (po__json_iter(&it, s->properties); count < NEAR_NAMES_MAX && po__json_next(&it); count++)
        list[count] = po__schema_show(&names[count], po__slice(it.key.data + 1, it.key.len - 2));
    const char *wrong = po__schema_show(&shown, po__slice(key.data + 1, key.len - 2));
    const char *near = po__nearest(wrong, list, count);
    return PO__SCHEMA_FAIL(r, at, "additionalProperties",
                           "no property of that name is allowed%s%s%s",
                           near ? "; the nearest is \"" : "", near ? near : "", near ? "\"" : "");
}

static bool members(struct po__schema_run *r, const struct siblings *s, struct po__slice value,
                    const struct po__where *at)
{
    struct po__json_iter it;
    struct po__schema_cursor properties = {.object = s->properties};
    if ((!s->properties.len && !s->additional.len) || po__json_type(value) != PO__JSON_OBJECT)
        return true;
    po__json_iter(&properties.it, s->properties);
    for (po__json_iter(&it, value); !r->fault && po__json_next(&it);) {
        const struct po__where here = {at, it.key, 0};
        struct po__slice schema;
        bool named = po__schema_find(r, &properties, it.key, &schema, at);
        if (!named && !s->additional.len)
            continue;
        if (!named && is_false(s->additional))
            return not_allowed(r, s, it.key, &here);
        if (!valid(r, named ? schema : s->additional, it.value, &here))
            return false;
    }
    return !r->fault;
}

static bool names(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                  const struct po__where *at)
{
    struct po__json_iter it;
    for (po__json_iter(&it, value); it.object && !r->fault && po__json_next(&it);) {
        const struct po__where here = {at, it.key, 0};
        if (!valid(r, schema, it.key, &here))
            return false;
    }
    return !r->fault;
}

/* ---- one schema ---- */

static bool condition(struct po__schema_run *r, const struct siblings *s, struct po__slice value,
                      const struct po__where *at)
{
    if (!s->if_.len || (!s->then.len && !s->else_.len))
        return true;
    struct po__slice next = valid_quietly(r, s->if_, value, at) ? s->then : s->else_;
    return !next.len || valid(r, next, value, at);
}

/* Where a keyword goes that is looked at together with others; NULL: it is not one of them. */
static struct po__slice *sibling(struct siblings *s, enum po__keyword keyword)
{
    switch (keyword) {
    case PO__KW_PROPERTIES:
        return &s->properties;
    case PO__KW_ADDITIONAL_PROPERTIES:
        return &s->additional;
    case PO__KW_PREFIX_ITEMS:
        return &s->prefix_items;
    case PO__KW_ITEMS:
        return &s->items;
    case PO__KW_CONTAINS:
        return &s->contains;
    case PO__KW_MIN_CONTAINS:
        return &s->min_contains;
    case PO__KW_MAX_CONTAINS:
        return &s->max_contains;
    case PO__KW_IF:
        return &s->if_;
    case PO__KW_THEN:
        return &s->then;
    case PO__KW_ELSE:
        return &s->else_;
    default:
        return NULL;
    }
}

static bool keyword(struct po__schema_run *r, const struct po__keyword_info *info,
                    struct po__slice rule, struct po__slice value, const struct po__where *at)
{
    switch (info->keyword) {
    case PO__KW_ALL_OF:
        return all_of(r, rule, value, at);
    case PO__KW_ANY_OF:
        return any_of(r, rule, value, at);
    case PO__KW_ONE_OF:
        return one_of(r, rule, value, at);
    case PO__KW_NOT:
        return not_(r, rule, value, at);
    case PO__KW_REF:
        return reference(r, rule, value, at);
    case PO__KW_PROPERTY_NAMES:
        return names(r, rule, value, at);
    default:
        return po__schema_assert(r, info, rule, value, at);
    }
}

static bool valid_object(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                         const struct po__where *at)
{
    struct siblings s = {0};
    struct po__json_iter it;
    for (po__json_iter(&it, schema); !r->fault && po__json_next(&it);) {
        const struct po__keyword_info *info = po__keyword_find(it.key);
        struct po__slice *later = info ? sibling(&s, info->keyword) : NULL;
        if (later)
            *later = it.value;
        else if (info && !keyword(r, info, it.value, value, at))
            return false;
    }
    return !r->fault && members(r, &s, value, at) && elements(r, &s, value, at) &&
           contains(r, &s, value, at) && condition(r, &s, value, at);
}

static bool valid(struct po__schema_run *r, struct po__slice schema, struct po__slice value,
                  const struct po__where *at)
{
    if (r->fault)
        return false;
    if (is_false(schema))
        return PO__SCHEMA_FAIL(r, at, "false", "no value is allowed here");
    if (po__json_type(schema) != PO__JSON_OBJECT)
        return true;
    if (!po__schema_take(r, at, schema.len + value.len + PO__SCHEMA_STEP_BYTES))
        return false;
    r->depth++;
    bool ok = r->depth > PO__SCHEMA_DEPTH_MAX ? po__schema_fault(r, at, PO_ETOOBIG)
                                              : valid_object(r, schema, value, at);
    r->depth--;
    return ok && !r->fault;
}

int po__schema_validate(struct po__slice schema, struct po__slice value, struct po__schema_error *e)
{
    static const struct po__where top;
    struct po__schema_run r = {
        .refs = {.root = po__json_root(schema)}, .e = e, .work = PO__SCHEMA_WORK_MAX};
    bool ok = valid(&r, r.refs.root, po__json_root(value), &top);
    return r.fault ? r.fault : ok ? 0 : PO_EINVAL;
}
