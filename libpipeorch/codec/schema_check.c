/* Is a schema one of the subset? Every part of it is looked at, used or not: who registers a schema
 * learns of its mistakes, not who sends the first value that meets them. */
#include "schema_internal.h"

#include <pipeorch/error.h>
#include "../base/nearest.h"

struct check {
    struct po__schema_refs refs;
    struct po__schema_error *e;
    uint64_t work;
    unsigned depth;
};

static int check_schema(struct check *c, struct po__slice schema, const struct po__where *at);

static const char *const draft = "https://json-schema.org/draft/2020-12/schema";

#define FAIL(c, at, rule, ...) (po__schema_fail((c)->e, at, rule, __VA_ARGS__), PO_EINVAL)

static int too_much(struct check *c, const struct po__where *at, const char *rule, int rv)
{
    if (rv == PO_ENOMEM)
        po__schema_fail(c->e, at, rule, "%s", po_strerror(rv));
    else
        return FAIL(c, at, rule,
                    "the schema is too complicated: checking one value could look at "
                    "more than %llu MiB of it",
                    (unsigned long long)(PO__SCHEMA_WORK_MAX >> 20));
    return rv;
}

/* No two members of the same key, no two equal elements. */
static int check_distinct(struct check *c, struct po__slice value, const struct po__where *at,
                          const char *rule)
{
    size_t pair[2];
    int rv = po__schema_distinct(value, pair, &c->work);
    if (rv == 1)
        return 0;
    if (rv < 0)
        return too_much(c, at, rule, rv);
    return FAIL(c, at, rule, "the %s %zu and %zu (from 0) are the same",
                po__json_type(value) == PO__JSON_OBJECT ? "keys of the members" : "elements",
                pair[0], pair[1]);
}

/* ---- keywords that there are not ---- */

static const char *instead_of(struct po__slice key)
{
    static const struct {
        const char *name, *instead;
    } known[] = {
        {"pattern", "regular expressions are not supported; write enum, minLength or maxLength"},
        {"patternProperties", "regular expressions are not supported; write properties, "
                              "additionalProperties or propertyNames"},
        {"definitions", "write $defs"},
        {"additionalItems", "write items, beside prefixItems"},
        {"unevaluatedItems", "write items, beside prefixItems"},
        {"unevaluatedProperties", "write additionalProperties, beside properties"},
        {"dependencies", "write dependentRequired, or if and then"},
        {"dependentSchemas", "write if and then"},
        {"$anchor", "write $ref with \"#/$defs/NAME\""},
        {"$dynamicRef", "write $ref with \"#/$defs/NAME\""},
        {"$dynamicAnchor", "write $ref with \"#/$defs/NAME\""},
        {"$recursiveRef", "write $ref with \"#\""},
        {"nullable", "write \"type\": [..., \"null\"]"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (po__json_string_is(key, po__str(known[i].name)))
            return known[i].instead;
    return NULL;
}

static int unknown_keyword(struct check *c, struct po__slice key, const struct po__where *at)
{
    const char *names[PO__KEYWORDS_COUNT], *instead = instead_of(key);
    char name[64];
    struct po__shown shown;
    po__schema_show(&shown, po__slice(key.data + 1, key.len - 2));
    memcpy(name, shown.text, strlen(shown.text) + 1);
    if (instead)
        return FAIL(c, at, name, "%s is not supported: %s", name, instead);
    for (size_t i = 0; i < PO__KEYWORDS_COUNT; i++)
        names[i] = po__keywords[i].name;
    const char *near = po__nearest(name, names, PO__KEYWORDS_COUNT);
    return FAIL(c, at, name, "%s is no keyword of the supported subset of JSON Schema%s%s", name,
                near ? "; the nearest is " : " (draft 2020-12)", near ? near : "");
}

/* ---- values of keywords ---- */

static int check_type_name(struct check *c, struct po__slice name, const struct po__where *at)
{
    static const char list[] =
        "a type is \"null\", \"boolean\", \"integer\", \"number\", \"string\", \"array\" or "
        "\"object\"";
    struct po__shown shown;
    if (po__json_type(name) != PO__JSON_STRING)
        return FAIL(c, at, "type", "%s; here is %s", list, po__json_a_type(name));
    if (!po__schema_type_known(name))
        return FAIL(c, at, "type", "%s; here is %s", list, po__schema_show(&shown, name));
    return 0;
}

static int check_type(struct check *c, struct po__slice value, const struct po__where *at)
{
    struct po__json_iter it;
    if (po__json_type(value) != PO__JSON_ARRAY)
        return check_type_name(c, value, at);
    int rv = check_distinct(c, value, at, "type");
    if (!rv && po__json_count(value) == 0)
        return FAIL(c, at, "type", "the array names no type: nothing would be allowed");
    for (po__json_iter(&it, value); !rv && po__json_next(&it);) {
        const struct po__where here = {at, {NULL, 0}, it.index};
        rv = check_type_name(c, it.value, &here);
    }
    return rv;
}

static int check_names(struct check *c, const char *rule, struct po__slice value,
                       const struct po__where *at)
{
    struct po__json_iter it;
    if (po__json_type(value) != PO__JSON_ARRAY)
        return FAIL(c, at, rule, "%s has an array of names here, not %s", rule,
                    po__json_a_type(value));
    for (po__json_iter(&it, value); po__json_next(&it);) {
        const struct po__where here = {at, {NULL, 0}, it.index};
        if (po__json_type(it.value) != PO__JSON_STRING)
            return FAIL(c, &here, rule, "%s lists names, which are strings; here is %s", rule,
                        po__json_a_type(it.value));
    }
    return check_distinct(c, value, at, rule);
}

static int check_ref(struct check *c, struct po__slice value, const struct po__where *at)
{
    struct po__slice target;
    struct po__shown shown;
    if (po__json_type(value) != PO__JSON_STRING)
        return FAIL(c, at, "$ref", "$ref is a string, not %s", po__json_a_type(value));
    int rv = po__schema_ref(&c->refs, value, &target, &c->work);
    if (rv < 0)
        return too_much(c, at, "$ref", rv);
    if (rv == 0)
        return FAIL(c, at, "$ref",
                    "%s names nothing here; supported are \"#\" and \"#/$defs/NAME\", with NAME in "
                    "the $defs at the top of the schema",
                    po__schema_show(&shown, value));
    return 0;
}

static int check_schema_list(struct check *c, const char *rule, struct po__slice value,
                             const struct po__where *at)
{
    struct po__json_iter it;
    int rv = 0;
    if (po__json_type(value) != PO__JSON_ARRAY || po__json_count(value) == 0)
        return FAIL(c, at, rule, "%s is an array of at least one schema", rule);
    for (po__json_iter(&it, value); !rv && po__json_next(&it);) {
        const struct po__where here = {at, {NULL, 0}, it.index};
        rv = check_schema(c, it.value, &here);
    }
    return rv;
}

static int check_map(struct check *c, const struct po__keyword_info *info, struct po__slice value,
                     const struct po__where *at)
{
    struct po__json_iter it;
    bool schemas = info->shape == PO__SHAPE_SCHEMA_MAP;
    if (po__json_type(value) != PO__JSON_OBJECT)
        return FAIL(c, at, info->name, "%s is an object of %s, not %s", info->name,
                    schemas ? "schemas" : "arrays of names", po__json_a_type(value));
    int rv = check_distinct(c, value, at, info->name);
    for (po__json_iter(&it, value); !rv && po__json_next(&it);) {
        const struct po__where here = {at, it.key, 0};
        rv = schemas ? check_schema(c, it.value, &here)
                     : check_names(c, info->name, it.value, &here);
    }
    return rv;
}

static int check_number(struct check *c, const struct po__keyword_info *info,
                        struct po__slice value, const struct po__where *at)
{
    uint64_t count;
    if (po__json_type(value) != PO__JSON_NUMBER)
        return FAIL(c, at, info->name, "%s is a number, not %s", info->name,
                    po__json_a_type(value));
    if (info->shape == PO__SHAPE_COUNT && !po__json_u64(value, &count))
        return FAIL(c, at, info->name, "%s is a whole number from 0 to 2^64 - 1", info->name);
    if (info->shape == PO__SHAPE_DIVISOR && !po__json_divisor_ok(value))
        return FAIL(c, at, info->name, "%s is above 0 and has at most %d significant digits",
                    info->name, PO__JSON_DIVISOR_DIGITS_MAX);
    return 0;
}

static int check_top_string(struct check *c, const struct po__keyword_info *info,
                            struct po__slice value, const struct po__where *at)
{
    struct po__shown shown;
    if (at->up->up)
        return FAIL(c, at, info->name, "%s is supported at the top of a schema only", info->name);
    if (po__json_type(value) != PO__JSON_STRING)
        return FAIL(c, at, info->name, "%s is a string, not %s", info->name,
                    po__json_a_type(value));
    if (info->shape == PO__SHAPE_DRAFT && !po__json_string_is(value, po__str(draft)))
        return FAIL(c, at, info->name, "%s is not supported; \"%s\" is, or none",
                    po__schema_show(&shown, value), draft);
    return 0;
}

static int check_keyword(struct check *c, const struct po__keyword_info *info,
                         struct po__slice value, const struct po__where *at)
{
    enum po__json_type type = po__json_type(value);
    switch (info->shape) {
    case PO__SHAPE_ANY:
        return 0;
    case PO__SHAPE_BOOLEAN:
        if (type != PO__JSON_BOOLEAN)
            return FAIL(c, at, info->name, "%s is true or false, not %s", info->name,
                        po__json_a_type(value));
        return 0;
    case PO__SHAPE_COUNT:
    case PO__SHAPE_DIVISOR:
    case PO__SHAPE_NUMBER:
        return check_number(c, info, value, at);
    case PO__SHAPE_DRAFT:
    case PO__SHAPE_ID:
        return check_top_string(c, info, value, at);
    case PO__SHAPE_NAMES:
        return check_names(c, info->name, value, at);
    case PO__SHAPE_NAMES_MAP:
    case PO__SHAPE_SCHEMA_MAP:
        return check_map(c, info, value, at);
    case PO__SHAPE_REF:
        return check_ref(c, value, at);
    case PO__SHAPE_SCHEMA:
        if (type == PO__JSON_ARRAY && info->keyword == PO__KW_ITEMS)
            return FAIL(c, at, info->name, "items is one schema; an array of them is prefixItems");
        return check_schema(c, value, at);
    case PO__SHAPE_SCHEMA_LIST:
        return check_schema_list(c, info->name, value, at);
    case PO__SHAPE_TYPE:
        return check_type(c, value, at);
    case PO__SHAPE_VALUES:
        if (type != PO__JSON_ARRAY || po__json_count(value) == 0)
            return FAIL(c, at, info->name, "%s is an array of at least one value", info->name);
        return 0;
    }
    return 0;
}

static int check_schema(struct check *c, struct po__slice schema, const struct po__where *at)
{
    struct po__json_iter it;
    enum po__json_type type = po__json_type(schema);
    if (type == PO__JSON_BOOLEAN)
        return 0;
    if (type != PO__JSON_OBJECT)
        return FAIL(c, at, "", "a schema is an object, true or false; here is %s",
                    po__json_a_type(schema));
    int rv = check_distinct(c, schema, at, "");
    for (po__json_iter(&it, schema); !rv && po__json_next(&it);) {
        const struct po__where here = {at, it.key, 0};
        const struct po__keyword_info *info = po__keyword_find(it.key);
        rv = info ? check_keyword(c, info, it.value, &here) : unknown_keyword(c, it.key, &here);
    }
    return rv;
}

/* ---- schemas that never come to an end ---- */

/* All that is looked at for one and the same value, which a schema that is within itself without
 * going into the value would never finish. Where schemas are many times within each other, the walk
 * becomes long instead, as would every validation. */
static int walk_in_place(struct check *c, struct po__slice schema, const struct po__where *at)
{
    struct po__json_iter it, inner;
    struct po__slice target;
    int rv = 0;
    if (po__json_type(schema) != PO__JSON_OBJECT)
        return 0;
    if (c->work < schema.len + PO__SCHEMA_STEP_BYTES)
        return too_much(c, at, "", PO_ETOOBIG);
    c->work -= schema.len + PO__SCHEMA_STEP_BYTES;
    if (++c->depth > PO__SCHEMA_DEPTH_MAX)
        return FAIL(c, at, "$ref",
                    "the schema refers to itself without going into the value (by "
                    "properties or items), which never ends");
    for (po__json_iter(&it, schema); !rv && po__json_next(&it);) {
        const struct po__keyword_info *info = po__keyword_find(it.key);
        if (!info->in_place)
            continue;
        if (info->keyword == PO__KW_REF)
            rv = po__schema_ref(&c->refs, it.value, &target, &c->work) == 1
                     ? walk_in_place(c, target, at)
                     : too_much(c, at, "$ref", PO_ETOOBIG);
        else if (info->shape == PO__SHAPE_SCHEMA)
            rv = walk_in_place(c, it.value, at);
        else
            for (po__json_iter(&inner, it.value); !rv && po__json_next(&inner);)
                rv = walk_in_place(c, inner.value, at);
    }
    c->depth--;
    return rv;
}

/* A circle goes through what a $ref names: the whole, or one of $defs. */
static int check_ends(struct check *c, const struct po__where *top)
{
    static const char key[] = "\"$defs\"";
    struct po__slice defs;
    struct po__json_iter it;
    int rv = walk_in_place(c, c->refs.root, top);
    if (rv || !po__json_member(c->refs.root, po__str("$defs"), &defs))
        return rv;
    const struct po__where in_defs = {top, {key, sizeof key - 1}, 0};
    for (po__json_iter(&it, defs); !rv && po__json_next(&it);) {
        const struct po__where here = {&in_defs, it.key, 0};
        c->depth = 0;
        rv = walk_in_place(c, it.value, &here);
    }
    return rv;
}

int po__schema_check(struct po__slice schema, struct po__schema_error *e)
{
    static const struct po__where top;
    struct check c = {.refs = {.root = po__json_root(schema)}, .e = e, .work = PO__SCHEMA_WORK_MAX};
    int rv = check_schema(&c, c.refs.root, &top);
    return rv ? rv : check_ends(&c, &top);
}
