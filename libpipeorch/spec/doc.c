#include "spec.h"

#include <pipeorch/error.h>
#include <stdarg.h>
#include <stdio.h>
#include "../codec/json.h"

/* One problem is one line and arrives in terminals and logs: control characters of the input must
 * not get there. */
static void neutralise(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

static void add_line(struct po__doc *d, unsigned line, unsigned column, const char *pointer,
                     char *what)
{
    d->count++;
    if (d->count > PO__SPEC_PROBLEMS_MAX) {
        if (d->count == PO__SPEC_PROBLEMS_MAX + 1)
            po__buf_printf(&d->problems, "\nmore problems were found; correct these first");
        return;
    }
    neutralise(what);
    if (d->count > 1)
        po__buf_append(&d->problems, "\n", 1);
    if (d->file)
        po__buf_printf(&d->problems, "%s:", d->file);
    if (line)
        po__buf_printf(&d->problems, "%u:%u:", line, column);
    if (d->file || line)
        po__buf_append(&d->problems, " ", 1);
    if (pointer && *pointer) {
        char shown[PO__SPEC_POINTER_MAX_BYTES];
        snprintf(shown, sizeof shown, "%s", pointer);
        neutralise(shown);
        po__buf_printf(&d->problems, "%s: ", shown);
    }
    po__buf_printf(&d->problems, "%s", what);
}

void po__doc_problem_at(struct po__doc *d, const char *pointer, const char *where, const char *fmt,
                        ...)
{
    char what[PO__SPEC_PROBLEM_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    unsigned line = 0, column = 0;
    if (d->text.len && d->count < PO__SPEC_PROBLEMS_MAX && where)
        po__doc_place(d->text, where, &line, &column);
    else if (d->text.len && pointer && d->count < PO__SPEC_PROBLEMS_MAX)
        po__doc_locate(d->text, pointer, &line, &column);
    add_line(d, line, column, pointer, what);
}

/* jansson's words, where they would speak of its own interface to somebody who wrote a file. */
static const char *syntax_problem(const json_error_t *e, size_t len)
{
    if (len == 0)
        return "the document is empty";
    switch (json_error_code(e)) {
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a string contains \\u0000, which is not allowed";
    default:
        return e->text;
    }
}

/* Nesting of a text that may not be valid JSON; jansson recurses, so this is asked first. */
static bool too_deep(const char *json, size_t len)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = json[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > PO__JSON_DEPTH_MAX)
                return true;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return false;
}

json_t *po__doc_parse(struct po__doc *d, const char *json, size_t len)
{
    d->text = po__slice(NULL, 0);
    if (len > PO__SPEC_MAX_BYTES) {
        po__doc_problem(d, "", "the document has %zu bytes; at most %d are allowed", len,
                        PO__SPEC_MAX_BYTES);
        return NULL;
    }
    if (too_deep(json, len)) {
        po__doc_problem(d, "", "the document nests deeper than %d levels", PO__JSON_DEPTH_MAX);
        return NULL;
    }
    json_error_t e = {.line = 1, .column = 1};
    json_t *root =
        len == 0 ? NULL : json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!root) {
        char what[PO__SPEC_PROBLEM_MAX_BYTES];
        if (json_error_code(&e) == json_error_out_of_memory)
            d->problems.err = PO_ENOMEM;
        snprintf(what, sizeof what, "not valid JSON: %s", syntax_problem(&e, len));
        add_line(d, e.line > 0 ? (unsigned)e.line : 1, e.column > 0 ? (unsigned)e.column : 1, NULL,
                 what);
        return NULL;
    }
    d->text = po__slice(json, len);
    return root;
}

int po__spec_json_ok(const void *data, size_t len)
{
    return po__json_ok(po__slice(data, len));
}

void po__doc_pointer_key(char out[PO__SPEC_POINTER_MAX_BYTES], const char *pointer, const char *key)
{
    size_t n = (size_t)snprintf(out, PO__SPEC_POINTER_MAX_BYTES, "%s/", pointer);
    for (; *key && n + 3 < PO__SPEC_POINTER_MAX_BYTES; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n < PO__SPEC_POINTER_MAX_BYTES ? n : PO__SPEC_POINTER_MAX_BYTES - 1] = '\0';
}

void po__doc_pointer_index(char out[PO__SPEC_POINTER_MAX_BYTES], const char *pointer, size_t index)
{
    snprintf(out, PO__SPEC_POINTER_MAX_BYTES, "%s/%zu", pointer, index);
}

static const char *type_name(enum po__doc_type type)
{
    static const char *const names[] = {
        [PO__DOC_STRING] = "a string",    [PO__DOC_INT] = "an integer",
        [PO__DOC_BOOL] = "true or false", [PO__DOC_OBJECT] = "an object",
        [PO__DOC_ARRAY] = "an array",     [PO__DOC_ANY] = "any value",
    };
    return names[type];
}

static const char *value_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction or exponent";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static bool type_ok(const json_t *v, enum po__doc_type type)
{
    switch (type) {
    case PO__DOC_STRING:
        return json_is_string(v);
    case PO__DOC_INT:
        return json_is_integer(v);
    case PO__DOC_BOOL:
        return json_is_boolean(v);
    case PO__DOC_OBJECT:
        return json_is_object(v);
    case PO__DOC_ARRAY:
        return json_is_array(v);
    case PO__DOC_ANY:
        return true;
    }
    return false;
}

static void check_value(struct po__doc *d, const char *pointer, const json_t *v,
                        const struct po__doc_key *k)
{
    if (!type_ok(v, k->type)) {
        po__doc_problem(d, pointer, "must be %s, not %s", type_name(k->type), value_name(v));
        return;
    }
    if (k->type == PO__DOC_INT) {
        json_int_t i = json_integer_value(v);
        if (i < k->min || i > k->max)
            po__doc_problem(d, pointer, "is %lld; must be %lld to %lld", (long long)i,
                            (long long)k->min, (long long)k->max);
    } else if (k->type == PO__DOC_STRING) {
        json_int_t len = (json_int_t)json_string_length(v);
        json_int_t min = k->required && k->min == 0 ? 1 : k->min;
        json_int_t max = k->max ? k->max : PO_NAME_MAX_BYTES;
        if (k->required && len == 0)
            po__doc_problem(d, pointer, "is empty; give it a value");
        else if (len == 0 && min)
            po__doc_problem(d, pointer, "is empty; give it a value, or leave it out");
        else if (len < min || len > max)
            po__doc_problem(d, pointer, "has %lld bytes; must have %lld to %lld", (long long)len,
                            (long long)min, (long long)max);
    } else if (k->required && ((json_is_object(v) && json_object_size(v) == 0) ||
                               (json_is_array(v) && json_array_size(v) == 0))) {
        po__doc_problem(d, pointer, "is empty; it needs at least one entry");
    }
}

static const struct po__doc_key *find_key(const struct po__doc_key *keys, unsigned count,
                                          const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static void unknown_key(struct po__doc *d, const char *pointer, const char *name,
                        const struct po__doc_key *keys, unsigned count)
{
    const char *names[64];
    unsigned n = 0;
    for (; n < count && n < sizeof names / sizeof *names; n++)
        names[n] = keys[n].name;
    const char *near = po__nearest(name, names, n);
    if (near) {
        po__doc_problem(d, pointer, "unknown key \"%.64s\"; did you mean \"%s\"?", name, near);
        return;
    }
    char known[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < count && len < sizeof known - 1; i++)
        len +=
            (size_t)snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "", keys[i].name);
    po__doc_problem(d, pointer, "unknown key \"%.64s\"; known keys are %s", name, known);
}

unsigned po__doc_object(struct po__doc *d, const char *pointer, json_t *object,
                        const struct po__doc_key *keys, unsigned count)
{
    unsigned before = d->count;
    if (!json_is_object(object)) {
        po__doc_problem(d, pointer, "must be an object, not %s", value_name(object));
        return d->count - before;
    }
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        char at[PO__SPEC_POINTER_MAX_BYTES];
        po__doc_pointer_key(at, pointer, name);
        const struct po__doc_key *k = find_key(keys, count, name);
        if (k)
            check_value(d, at, value, k);
        else
            unknown_key(d, at, name, keys, count);
    }
    for (unsigned i = 0; i < count; i++)
        if (keys[i].required && !json_object_get(object, keys[i].name))
            po__doc_problem(d, pointer, "the key \"%s\" is missing; it must be %s", keys[i].name,
                            type_name(keys[i].type));
    return d->count - before;
}
