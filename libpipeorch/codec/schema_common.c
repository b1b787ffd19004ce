/* Keywords by name, references, places, and whether values differ. */
#include "schema_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <pipeorch/error.h>
#include "utf8.h"

/* clang-format off */
#define NAME(text) text, sizeof text - 1
const struct po__keyword_info po__keywords[PO__KEYWORDS_COUNT] = {
    {NAME("$comment"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("$defs"), PO__KW_DEFS, PO__SHAPE_SCHEMA_MAP, false},
    {NAME("$id"), PO__KW_ID, PO__SHAPE_ID, false},
    {NAME("$ref"), PO__KW_REF, PO__SHAPE_REF, true},
    {NAME("$schema"), PO__KW_SCHEMA, PO__SHAPE_DRAFT, false},
    {NAME("additionalProperties"), PO__KW_ADDITIONAL_PROPERTIES, PO__SHAPE_SCHEMA, false},
    {NAME("allOf"), PO__KW_ALL_OF, PO__SHAPE_SCHEMA_LIST, true},
    {NAME("anyOf"), PO__KW_ANY_OF, PO__SHAPE_SCHEMA_LIST, true},
    {NAME("const"), PO__KW_CONST, PO__SHAPE_ANY, false},
    {NAME("contains"), PO__KW_CONTAINS, PO__SHAPE_SCHEMA, false},
    {NAME("contentEncoding"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("contentMediaType"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("default"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("dependentRequired"), PO__KW_DEPENDENT_REQUIRED, PO__SHAPE_NAMES_MAP, false},
    {NAME("deprecated"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("description"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("else"), PO__KW_ELSE, PO__SHAPE_SCHEMA, true},
    {NAME("enum"), PO__KW_ENUM, PO__SHAPE_VALUES, false},
    {NAME("examples"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("exclusiveMaximum"), PO__KW_EXCLUSIVE_MAXIMUM, PO__SHAPE_NUMBER, false},
    {NAME("exclusiveMinimum"), PO__KW_EXCLUSIVE_MINIMUM, PO__SHAPE_NUMBER, false},
    {NAME("format"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("if"), PO__KW_IF, PO__SHAPE_SCHEMA, true},
    {NAME("items"), PO__KW_ITEMS, PO__SHAPE_SCHEMA, false},
    {NAME("maxContains"), PO__KW_MAX_CONTAINS, PO__SHAPE_COUNT, false},
    {NAME("maxItems"), PO__KW_MAX_ITEMS, PO__SHAPE_COUNT, false},
    {NAME("maxLength"), PO__KW_MAX_LENGTH, PO__SHAPE_COUNT, false},
    {NAME("maxProperties"), PO__KW_MAX_PROPERTIES, PO__SHAPE_COUNT, false},
    {NAME("maximum"), PO__KW_MAXIMUM, PO__SHAPE_NUMBER, false},
    {NAME("minContains"), PO__KW_MIN_CONTAINS, PO__SHAPE_COUNT, false},
    {NAME("minItems"), PO__KW_MIN_ITEMS, PO__SHAPE_COUNT, false},
    {NAME("minLength"), PO__KW_MIN_LENGTH, PO__SHAPE_COUNT, false},
    {NAME("minProperties"), PO__KW_MIN_PROPERTIES, PO__SHAPE_COUNT, false},
    {NAME("minimum"), PO__KW_MINIMUM, PO__SHAPE_NUMBER, false},
    {NAME("multipleOf"), PO__KW_MULTIPLE_OF, PO__SHAPE_DIVISOR, false},
    {NAME("not"), PO__KW_NOT, PO__SHAPE_SCHEMA, true},
    {NAME("oneOf"), PO__KW_ONE_OF, PO__SHAPE_SCHEMA_LIST, true},
    {NAME("prefixItems"), PO__KW_PREFIX_ITEMS, PO__SHAPE_SCHEMA_LIST, false},
    {NAME("properties"), PO__KW_PROPERTIES, PO__SHAPE_SCHEMA_MAP, false},
    {NAME("propertyNames"), PO__KW_PROPERTY_NAMES, PO__SHAPE_SCHEMA, false},
    {NAME("readOnly"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("required"), PO__KW_REQUIRED, PO__SHAPE_NAMES, false},
    {NAME("then"), PO__KW_THEN, PO__SHAPE_SCHEMA, true},
    {NAME("title"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
    {NAME("type"), PO__KW_TYPE, PO__SHAPE_TYPE, false},
    {NAME("uniqueItems"), PO__KW_UNIQUE_ITEMS, PO__SHAPE_BOOLEAN, false},
    {NAME("writeOnly"), PO__KW_ANNOTATION, PO__SHAPE_ANY, false},
};
/* clang-format on */

static int by_name(const void *key, const void *info)
{
    const struct po__keyword_info *k = info;
    return po__slice_cmp(*(const struct po__slice *)key, po__slice(k->name, k->len));
}

const struct po__keyword_info *po__keyword_find(struct po__slice key)
{
    struct po__slice name = po__slice(key.data + 1, key.len - 2);
    if (!memchr(name.data, '\\', name.len))
        return bsearch(&name, po__keywords, PO__KEYWORDS_COUNT, sizeof *po__keywords, by_name);
    for (size_t i = 0; i < PO__KEYWORDS_COUNT; i++)
        if (po__json_string_is(key, po__str(po__keywords[i].name)))
            return &po__keywords[i];
    return NULL;
}

/* ---- types ---- */

bool po__schema_type_known(struct po__slice name)
{
    for (enum po__json_type t = PO__JSON_NULL; t <= PO__JSON_OBJECT; t++)
        if (po__json_string_is(name, po__str(po__json_type_name(t))))
            return true;
    return po__json_string_is(name, po__str("integer"));
}

bool po__schema_type_is(struct po__slice name, struct po__slice value)
{
    enum po__json_type type = po__json_type(value);
    if (po__json_string_is(name, po__str(po__json_type_name(type))))
        return true;
    return type == PO__JSON_NUMBER && po__json_string_is(name, po__str("integer")) &&
           po__json_is_integer(value);
}

/* ---- references ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NAME of "#/$defs/NAME" in place: percent-encoding, then ~0 and ~1. false: not of that form. */
static bool decode_name(char *text, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < *len; i++) {
        char c = text[i];
        if (c == '%') {
            if (*len - i < 3 || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
                return false;
            c = (char)(hex(text[i + 1]) << 4 | hex(text[i + 2]));
            i += 2;
        }
        text[n++] = c;
    }
    *len = n;
    n = 0;
    for (size_t i = 0; i < *len; i++) {
        char c = text[i];
        if (c == '/')
            return false;
        if (c == '~') {
            if (++i == *len || (text[i] != '0' && text[i] != '1'))
                return false;
            c = text[i] == '0' ? '~' : '/';
        }
        text[n++] = c;
    }
    *len = n;
    return true;
}

static bool find_ref(struct po__slice root, struct po__slice ref, struct po__slice *schema)
{
    static const char prefix[] = "#/$defs/";
    char text[PO__SCHEMA_POINTER_MAX_BYTES];
    struct po__slice defs;
    struct po__buf b = {.data = (uint8_t *)text, .cap = sizeof text, .max_bytes = sizeof text};
    if (po__json_string_is(ref, po__str("#"))) {
        *schema = root;
        return true;
    }
    if (po__json_decode(&b, ref) || b.len < sizeof prefix - 1 ||
        memcmp(text, prefix, sizeof prefix - 1) != 0)
        return false;
    size_t len = b.len - (sizeof prefix - 1);
    char *name = text + sizeof prefix - 1;
    return decode_name(name, &len) && po__json_member(root, po__str("$defs"), &defs) &&
           po__json_member(defs, po__slice(name, len), schema);
}

int po__schema_ref(struct po__schema_refs *refs, struct po__slice ref, struct po__slice *schema,
                   uint64_t *work)
{
    size_t slot = (size_t)(ref.data - refs->root.data) % PO__SCHEMA_REFS_KEPT;
    if (refs->kept[slot].ref == ref.data) {
        *schema = refs->kept[slot].schema;
        return 1;
    }
    if (*work < 2 * refs->root.len) { /* $defs is looked for, and looked through */
        *work = 0;
        return PO_ETOOBIG;
    }
    *work -= 2 * refs->root.len;
    if (!find_ref(refs->root, ref, schema))
        return 0;
    refs->kept[slot].ref = ref.data;
    refs->kept[slot].schema = *schema;
    return 1;
}

/* ---- errors ---- */

const char *po__schema_place(const struct po__schema_error *e)
{
    return e->pointer[0] ? e->pointer : "the top level";
}

void po__schema_say(char *out, size_t len, const char *what, struct po__slice capability,
                    struct po__slice version, const struct po__schema_error *e)
{
    snprintf(out, len, "%s of %.*s %.*s %s at %s: %s%s%s%s", what, (int)capability.len,
             capability.data, (int)version.len, version.data,
             e->rule[0] ? "breaks its schema" : "cannot be validated", po__schema_place(e), e->text,
             e->rule[0] ? " (" : "", e->rule, e->rule[0] ? ")" : "");
}

/* Room for `len` more bytes of a pointer, or none left at all. */
static void pointer_put(char *out, size_t *len, struct po__slice text)
{
    size_t room = PO__SCHEMA_POINTER_MAX_BYTES - 1 - *len;
    struct po__slice fits = po__utf8_cut(text, room);
    memcpy(out + *len, fits.data, fits.len);
    *len += fits.len;
}

/* The key as in a pointer: ~ and / escaped, and decoded. */
static void pointer_key(char *out, size_t *len, struct po__slice key)
{
    char decoded[PO__SCHEMA_POINTER_MAX_BYTES];
    struct po__slice raw = po__slice(key.data + 1, key.len - 2);
    if (memchr(key.data, '\\', key.len)) {
        struct po__buf b = {
            .data = (uint8_t *)decoded, .cap = sizeof decoded, .max_bytes = sizeof decoded};
        po__json_decode(&b, key);
        raw = po__buf_slice(&b); /* of a longer key, a part */
    }
    size_t from = 0;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.data[i] != '~' && raw.data[i] != '/')
            continue;
        pointer_put(out, len, po__slice(raw.data + from, i - from));
        pointer_put(out, len, po__str(raw.data[i] == '~' ? "~0" : "~1"));
        from = i + 1;
    }
    pointer_put(out, len, po__slice(raw.data + from, raw.len - from));
}

static void pointer_of(char *out, const struct po__where *at)
{
    const struct po__where *path[PO__SCHEMA_POINTER_MAX_BYTES / 2];
    size_t depth = 0, len = 0, skip = 0;
    for (const struct po__where *w = at; w && w->up; w = w->up)
        depth++;
    if (depth > sizeof path / sizeof *path) /* the rest would not fit in any case */
        skip = depth - sizeof path / sizeof *path;
    depth -= skip;
    for (size_t i = depth; at && at->up; at = at->up) {
        if (skip > 0)
            skip--;
        else
            path[--i] = at;
    }
    for (size_t i = 0; i < depth; i++) {
        char index[24];
        pointer_put(out, &len, po__str("/"));
        if (path[i]->key.data) {
            pointer_key(out, &len, path[i]->key);
        } else {
            snprintf(index, sizeof index, "%zu", path[i]->index);
            pointer_put(out, &len, po__str(index));
        }
    }
    out[len] = '\0';
}

void po__schema_fail(struct po__schema_error *e, const struct po__where *at, const char *rule,
                     const char *fmt, ...)
{
    va_list ap;
    pointer_of(e->pointer, at);
    snprintf(e->rule, sizeof e->rule, "%s", rule);
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof e->text) /* the last character may be cut */
        e->text[po__utf8_cut(po__slice(e->text, sizeof e->text), sizeof e->text - 4).len] = '\0';
}

const char *po__schema_show(struct po__shown *shown, struct po__slice value)
{
    struct po__slice cut = po__utf8_cut(value, sizeof shown->text - 4);
    snprintf(shown->text, sizeof shown->text, "%.*s%s", (int)cut.len, cut.data,
             cut.len < value.len ? "..." : "");
    return shown->text;
}

/* ---- different values ---- */

struct entry {
    uint64_t hash;
    size_t index;
    struct po__slice value;
};

static int by_hash(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int distinct(const struct entry *entries, size_t count, size_t pair[2], uint64_t *work)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = i; k > 0 && entries[k - 1].hash == entries[i].hash; k--) {
            int rv = po__json_equal(entries[k - 1].value, entries[i].value, work);
            pair[0] = entries[k - 1].index;
            pair[1] = entries[i].index;
            if (rv)
                return rv == 1 ? 0 : rv;
        }
    return 1;
}

/* Few are compared in place: most objects of a schema are small. */
#define FEW 16

static bool collect(struct po__slice container, struct po__buf *b, uint64_t *work)
{
    struct po__json_iter it;
    for (po__json_iter(&it, container); po__json_next(&it) && *work > 0;) {
        struct po__slice value = it.object ? it.key : it.value;
        struct entry entry = {po__json_hash(value, work), it.index, value};
        po__buf_append(b, &entry, sizeof entry);
    }
    return b->err == 0 && *work > 0;
}

int po__schema_distinct(struct po__slice container, size_t pair[2], uint64_t *work)
{
    struct entry few[FEW];
    struct po__buf b = {0};
    size_t count = po__json_count(container);
    if (count < 2)
        return 1;
    if (count <= FEW)
        b = (struct po__buf){.data = (uint8_t *)few, .cap = sizeof few, .max_bytes = sizeof few};
    int rv = !collect(container, &b, work) ? (b.err ? b.err : PO_ETOOBIG) : 1;
    if (rv == 1 && b.data) {
        qsort(b.data, count, sizeof(struct entry), by_hash);
        rv = distinct((const struct entry *)(const void *)b.data, count, pair, work);
    }
    if (count > FEW)
        po__buf_fini(&b);
    return rv;
}
