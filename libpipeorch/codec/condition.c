/* A recursive descent over the text, which is short: each evaluation parses it again. The same code
 * checks a condition and evaluates it; what is not evaluated (all of it in a check, a right side
 * that does not count) has no value, only a type where the text alone tells it. */
#include "template.h"

#include <stdio.h>

#include <pipeorch/error.h>
#include "utf8.h"

#define SHOWN_MAX_BYTES 60

/* A boolean, number or string has json, unless it is not evaluated. */
struct value {
    struct po__slice json; /* data NULL: not evaluated */
    char digits[24];       /* what len() gives has its text here; json is not set then */
    size_t digits_len;
    bool known; /* the type, at least */
    enum po__json_type type;
};

struct parser {
    const char *start, *p, *end;
    const struct po__scope *scope; /* NULL: this is a check */
    po__ref_fn ref;
    void *arg;
    struct po__template_error *e;
    unsigned depth;
    uint64_t work;
    struct po__path path;
};

static int parse_or(struct parser *in, bool live, struct value *v);

static struct po__slice text_of(const struct value *v)
{
    return v->digits_len ? po__slice(v->digits, v->digits_len) : v->json;
}

static void set_json(struct value *v, struct po__slice json)
{
    *v = (struct value){.json = json, .known = true, .type = po__json_type(json)};
}

/* value: 1 or 0; -1 if it is not evaluated. */
static void set_boolean(struct value *v, int value)
{
    *v = (struct value){.known = true, .type = PO__JSON_BOOLEAN};
    if (value >= 0)
        v->json = po__str(value ? "true" : "false");
}

static int fail_at(struct parser *in, const char *at, const char *why)
{
    in->e->offset = (size_t)(at - in->start);
    po__template_fail(in->e, "%s", why);
    return PO_EINVAL;
}

/* ---- tokens ---- */

static void blanks(struct parser *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
        in->p++;
}

static bool at(const struct parser *in, const char *token)
{
    size_t len = strlen(token);
    return (size_t)(in->end - in->p) >= len && memcmp(in->p, token, len) == 0;
}

static bool eat(struct parser *in, const char *token)
{
    blanks(in);
    if (!at(in, token))
        return false;
    in->p += strlen(token);
    blanks(in);
    return true;
}

/* ---- operands ---- */

static int parse_string(struct parser *in, struct value *v)
{
    const char *from = in->p++;
    while (in->p < in->end && *in->p != '"')
        in->p += *in->p == '\\' && in->end - in->p > 1 ? 2 : 1;
    if (in->p == in->end)
        return fail_at(in, from, "the string has no closing quote");
    in->p++;
    struct po__slice token = po__slice(from, (size_t)(in->p - from));
    if (!po__json_ok(token))
        return fail_at(in, from, "the string is not a JSON string");
    set_json(v, token);
    return 0;
}

static int parse_number(struct parser *in, struct value *v)
{
    const char *from = in->p;
    while (in->p < in->end &&
           (*in->p == '-' || *in->p == '+' || *in->p == '.' || *in->p == '_' ||
            (*in->p >= '0' && *in->p <= '9') || ((*in->p | 0x20) >= 'a' && (*in->p | 0x20) <= 'z')))
        in->p++;
    struct po__slice token = po__slice(from, (size_t)(in->p - from));
    if (!po__json_ok(token))
        return fail_at(in, from, "the number is not written as in JSON");
    set_json(v, token);
    return 0;
}

/* The path at in->p into in->path, seen by the caller. */
static int parse_path(struct parser *in, size_t *offset)
{
    size_t used = 0;
    bool braces = eat(in, "${");
    *offset = (size_t)(in->p - in->start);
    int rv = po__path_parse(&in->path, po__slice(in->p, (size_t)(in->end - in->p)), &used, in->e);
    if (rv) {
        in->e->offset += *offset;
        return rv;
    }
    in->p += used;
    if (braces && !eat(in, "}"))
        return fail_at(in, in->p, "after the path, } is missing");
    return 0;
}

static int see_path(struct parser *in, size_t offset)
{
    in->e->offset = offset;
    return in->ref ? in->ref(in->arg, &in->path, offset, in->e) : 0;
}

static int value_of_path(struct parser *in, size_t offset, struct po__slice *value)
{
    int rv = po__path_value(value, &in->path, in->scope, in->e);
    if (rv)
        in->e->offset += offset;
    return rv;
}

static int parse_reference(struct parser *in, bool live, struct value *v, size_t offset)
{
    struct po__slice value;
    *v = (struct value){0};
    int rv = see_path(in, offset);
    if (rv || !live)
        return rv;
    rv = value_of_path(in, offset, &value);
    if (!rv)
        set_json(v, value);
    return rv;
}

static int length_of(struct parser *in, size_t offset, struct value *v)
{
    struct po__slice value;
    int rv = value_of_path(in, offset, &value);
    if (rv)
        return rv;
    enum po__json_type type = po__json_type(value);
    if (type < PO__JSON_STRING) {
        struct po__slice shown = po__utf8_cut(in->path.text, SHOWN_MAX_BYTES);
        in->e->offset = offset;
        po__template_fail(in->e, "%.*s is %s; len() takes a string, an array or an object",
                          (int)shown.len, shown.data, po__json_a_type(value));
        return PO_EINVAL;
    }
    size_t length = type == PO__JSON_STRING ? po__json_string_length(value) : po__json_count(value);
    v->digits_len = (size_t)snprintf(v->digits, sizeof v->digits, "%zu", length);
    return 0;
}

/* exists or len; the opening parenthesis is next. */
static int parse_function(struct parser *in, bool live, bool exists, struct value *v)
{
    size_t offset;
    eat(in, "(");
    int rv = parse_path(in, &offset);
    if (rv)
        return rv;
    if (!eat(in, ")"))
        return fail_at(in, in->p, "after the path, ) is missing");
    set_boolean(v, -1);
    if (!exists)
        v->type = PO__JSON_NUMBER;
    rv = see_path(in, offset);
    if (rv || !live)
        return rv;
    if (!exists)
        return length_of(in, offset, v);
    struct po__slice value;
    rv = value_of_path(in, offset, &value);
    if (rv && rv != PO_ENOTFOUND)
        return rv;
    set_boolean(v, rv == 0);
    return 0;
}

static bool is_word(const struct parser *in, const char *word)
{
    return po__slice_eq(in->path.text, po__str(word));
}

/* A bare word: a literal, a function, or a path. */
static int parse_word(struct parser *in, bool live, struct value *v)
{
    size_t offset;
    int rv = parse_path(in, &offset);
    if (rv)
        return rv;
    if (is_word(in, "true") || is_word(in, "false") || is_word(in, "null")) {
        set_json(v, in->path.text);
        return 0;
    }
    if (is_word(in, "exists") || is_word(in, "len")) {
        bool exists = is_word(in, "exists");
        blanks(in);
        if (at(in, "("))
            return parse_function(in, live, exists, v);
    }
    return parse_reference(in, live, v, offset);
}

static int parse_operand(struct parser *in, bool live, struct value *v)
{
    size_t offset;
    blanks(in);
    if (in->p == in->end)
        return fail_at(in, in->p, "the condition ends where a value is due");
    const char *from = in->p;
    if (*from == '"')
        return parse_string(in, v);
    if (*from == '-' || (*from >= '0' && *from <= '9'))
        return parse_number(in, v);
    if (at(in, "${")) {
        int rv = parse_path(in, &offset);
        return rv ? rv : parse_reference(in, live, v, offset);
    }
    if (eat(in, "(")) {
        int rv = parse_or(in, live, v);
        if (!rv && !eat(in, ")"))
            return fail_at(in, in->p, "a ) is missing, or an operator");
        return rv;
    }
    if (*from == '\'')
        return fail_at(in, from, "strings are in double quotes");
    if (*from != '_' && ((*from | 0x20) < 'a' || (*from | 0x20) > 'z'))
        return fail_at(in, from,
                       "a path, a string, a number, true, false, null, exists(path), "
                       "len(path) or a parenthesis is due");
    return parse_word(in, live, v);
}

/* ---- operators ---- */

static const char *a_type(const struct value *v)
{
    static const char *const samples[] = {"null", "true", "0", "\"\"", "[]", "{}"};
    return po__json_a_type(po__str(samples[v->type]));
}

/* What `from` to `end` says has to be a boolean for `who`. */
static int want_boolean(struct parser *in, const char *from, const char *end, const struct value *v,
                        const char *who)
{
    if (!v->known || v->type == PO__JSON_BOOLEAN)
        return 0;
    while (end > from && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\n' || end[-1] == '\r'))
        end--;
    struct po__slice shown = po__utf8_cut(po__slice(from, (size_t)(end - from)), SHOWN_MAX_BYTES);
    in->e->offset = (size_t)(from - in->start);
    po__template_fail(in->e, "%.*s is %s; %s a boolean: compare it with something", (int)shown.len,
                      shown.data, a_type(v), who);
    return PO_EINVAL;
}

static bool truth(const struct value *v)
{
    return po__json_is_true(v->json);
}

static int parse_unary(struct parser *in, bool live, struct value *v)
{
    blanks(in);
    if (in->depth == PO__CONDITION_DEPTH_MAX)
        return fail_at(in, in->p,
                       "the condition has too many parentheses or ! inside of each other");
    in->depth++;
    int rv;
    if (at(in, "!") && !at(in, "!=")) {
        in->p++;
        blanks(in);
        const char *from = in->p;
        rv = parse_unary(in, live, v);
        if (!rv)
            rv = want_boolean(in, from, in->p, v, "! takes");
        if (!rv)
            set_boolean(v, live ? !truth(v) : -1);
    } else {
        rv = parse_operand(in, live, v);
    }
    in->depth--;
    return rv;
}

enum relation { NONE, EQ, NE, LE, LT, GE, GT };

static enum relation parse_relation(struct parser *in, const char **name)
{
    static const char *const names[] = {"", "==", "!=", "<=", "<", ">=", ">"};
    for (enum relation r = EQ; r <= GT; r++)
        if (eat(in, names[r])) {
            *name = names[r];
            return r;
        }
    return NONE;
}

static int order_types(struct parser *in, const char *from, const char *name, const struct value *a,
                       const struct value *b)
{
    const struct value *known = a->known ? a : b;
    if (!known->known)
        return 0;
    const struct value *other = b->known ? b : a;
    if ((known->type == PO__JSON_NUMBER || known->type == PO__JSON_STRING) &&
        known->type == other->type)
        return 0;
    in->e->offset = (size_t)(from - in->start);
    if (a->known && b->known)
        po__template_fail(in->e, "%s compares two numbers or two strings; here are %s and %s", name,
                          a_type(a), a_type(b));
    else
        po__template_fail(in->e, "%s compares two numbers or two strings; here is %s", name,
                          a_type(known));
    return PO_EINVAL;
}

static int equal(struct parser *in, const char *from, const struct value *a, const struct value *b)
{
    int rv = po__json_equal(text_of(a), text_of(b), &in->work);
    if (rv < 0) {
        in->e->offset = (size_t)(from - in->start);
        po__template_fail(in->e, "%s",
                          rv == PO_ETOOBIG ? "the values are too big and too deep to be compared"
                                           : po_strerror(rv));
    }
    return rv;
}

static int relate(struct parser *in, const char *from, enum relation relation,
                  const struct value *a, const struct value *b)
{
    if (relation <= NE) {
        int rv = equal(in, from, a, b);
        return rv < 0 ? rv : (rv == 1) == (relation == EQ);
    }
    int c = a->type == PO__JSON_NUMBER ? po__json_number_cmp(text_of(a), text_of(b))
                                       : po__json_string_cmp(text_of(a), text_of(b));
    return relation == LT ? c < 0 : relation == LE ? c <= 0 : relation == GT ? c > 0 : c >= 0;
}

static int parse_comparison(struct parser *in, bool live, struct value *v)
{
    struct value right;
    const char *name = NULL;
    blanks(in);
    const char *from = in->p;
    int rv = parse_unary(in, live, v);
    if (rv)
        return rv;
    enum relation relation = parse_relation(in, &name);
    if (relation == NONE)
        return 0;
    rv = parse_unary(in, live, &right);
    if (!rv && relation > NE)
        rv = order_types(in, from, name, v, &right);
    if (rv)
        return rv;
    blanks(in);
    const char *second = in->p;
    if (parse_relation(in, &name) != NONE)
        return fail_at(in, second,
                       "only two values are compared at once; join comparisons with && "
                       "or put one into parentheses");
    rv = live ? relate(in, from, relation, v, &right) : -1;
    if (live && rv < 0)
        return rv;
    set_boolean(v, rv);
    return 0;
}

typedef int (*level)(struct parser *in, bool live, struct value *v);

/* Operands of `next`, joined by && or ||. `decides`: the value that ends the evaluation. */
static int parse_joined(struct parser *in, bool live, struct value *v, level next, const char *name,
                        const char *who, bool decides)
{
    blanks(in);
    const char *from = in->p;
    int rv = next(in, live, v);
    const char *end = in->p;
    bool decided = false;
    while (!rv && eat(in, name)) {
        struct value right;
        rv = want_boolean(in, from, end, v, who);
        decided = decided || (live && !rv && truth(v) == decides);
        from = in->p;
        if (!rv)
            rv = next(in, live && !decided, &right);
        if (!rv)
            rv = want_boolean(in, from, in->p, &right, who);
        if (!rv)
            set_boolean(v, !live ? -1 : decided ? decides : truth(&right));
    }
    return rv;
}

static int parse_and(struct parser *in, bool live, struct value *v)
{
    return parse_joined(in, live, v, parse_comparison, "&&", "&& takes", false);
}

static int parse_or(struct parser *in, bool live, struct value *v)
{
    return parse_joined(in, live, v, parse_and, "||", "|| takes", true);
}

/* ---- the whole ---- */

static int parse_end(struct parser *in)
{
    blanks(in);
    if (in->p == in->end)
        return 0;
    if (*in->p == '=')
        return fail_at(in, in->p, "write == to compare");
    if (*in->p == '&' || at(in, "and"))
        return fail_at(in, in->p, "write && for and");
    if (*in->p == '|' || at(in, "or"))
        return fail_at(in, in->p, "write || for or");
    return fail_at(in, in->p,
                   *in->p == ')' ? "this ) closes nothing"
                                 : "an operator (== != < <= > >= && ||) or the end is due");
}

static int parse(struct parser *in, struct po__slice text, struct value *v)
{
    in->start = in->p = text.data;
    in->end = text.data + text.len;
    in->work = PO__JSON_WORK_MAX;
    in->e->offset = 0;
    in->e->text[0] = '\0';
    if (text.len > PO__CONDITION_MAX_BYTES) {
        po__template_fail(in->e, "a condition has at most %d bytes", PO__CONDITION_MAX_BYTES);
        return PO_ETOOBIG;
    }
    blanks(in);
    if (in->p == in->end)
        return fail_at(in, in->p, "the condition is empty");
    const char *from = in->p;
    int rv = parse_or(in, in->scope != NULL, v);
    if (!rv)
        rv = parse_end(in);
    return rv ? rv : want_boolean(in, from, in->p, v, "a condition is");
}

int po__condition_check(struct po__slice text, po__ref_fn ref, void *arg,
                        struct po__template_error *e)
{
    struct parser in = {.ref = ref, .arg = arg, .e = e};
    struct value v;
    return parse(&in, text, &v);
}

int po__condition_eval(bool *result, struct po__slice text, const struct po__scope *scope,
                       struct po__template_error *e)
{
    struct parser in = {.scope = scope, .e = e};
    struct value v;
    int rv = parse(&in, text, &v);
    if (!rv)
        *result = truth(&v);
    return rv;
}
