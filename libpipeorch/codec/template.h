/* Templates and conditions: how a pipeline's definition refers to values that exist when it runs.
 *
 * What is written here is frozen: running pipelines depend on it.
 *
 * Templates. A template is any JSON text. Inside its strings, `${path}` is a reference.
 *   - A string that is one reference and nothing else is replaced by the value, of any type.
 *   - In any other string the value becomes part of the text: a string as it is, every other value
 *     as its JSON text without white space.
 *   - Of dollars before a `{`, each two are one dollar; if one is left, it begins a reference.
 *     So `$${a}` is the text `${a}`, and `$$${a}` is a dollar and then the value. All
 *     other dollars, and all other braces, stand for themselves.
 *   - Keys of objects are not templates. Values that were put in are not looked at again.
 * The rendered text has no white space outside of strings. A string without a reference or `$${` is
 * copied byte for byte, as are numbers; a string with one is written anew with po__json_string().
 *
 * Paths. `root.name[3]["any key"]`: a name, then any number of parts: `.name`; `["key"]`, where the
 * key is a JSON string; `[3]`, a decimal number without leading zeros, at most
 * PO__PATH_INDEX_MAX. A name is [A-Za-z0-9_-]+, and the first one begins with a letter or `_`.
 * Blanks may stand between `${` and the path and between the path and `}`, not inside of it.
 * The first parts name a value that the caller has (its resolver says which, and how many parts it
 * took); the others walk into it: `.name` and `["name"]` to the first member of an object with that
 * key, `[3]` to the fourth element of an array. What is not there is an error, never null.
 *
 * Conditions. An expression with a boolean value:
 *
 *     or         = and, { "||", and } ;
 *     and        = comparison, { "&&", comparison } ;
 *     comparison = unary, [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ), unary ] ;
 *     unary      = "!", unary | operand ;
 *     operand    = "(", or, ")" | string | number | "true" | "false" | "null"
 *                | "exists", "(", path, ")" | "len", "(", path, ")" | path ;
 *     path       = as above | "${", as above, "}" ;
 *
 * Blanks, tabs and line breaks may stand between tokens. Strings and numbers are JSON's.
 *   - "==" and "!=" compare any two values: of different types they are not equal; otherwise as
 *     po__json_equal() has it (numbers by exact decimal value).
 *   - "<", "<=", ">", ">=" compare two numbers, or two strings byte by byte. Other types are an
 *     error.
 *   - "&&", "||", "!" and the whole want booleans; any other type is an error. The right side of
 *     "&&" and "||" is evaluated only if the left one does not decide.
 *   - exists(path): true if every part of the path is there, false if one is not (the resolver said
 *     PO_ENOTFOUND, no such member or element, or a part of something that has no parts).
 *   - len(path): the number of an array's elements, an object's members or a string's code points.
 *     Other types are an error.
 *   - true, false, null, and exists and len before a `(`, are these words; written in `${}`
 *     they are paths.
 *   - A wrong type that the text alone tells (`5 && a`, `len(a) < "x"`) is an error wherever
 *     it stands, also on a right side that is not evaluated.
 *
 * Everything is pure and deterministic, and takes time proportional to the text and to the values
 * that it names (but for comparing objects, which is bounded, see po__json_equal()). */
#ifndef PO__TEMPLATE_H
#define PO__TEMPLATE_H

#include "json_value.h"

#define PO__PATH_MAX_BYTES           512 /* one path as written */
#define PO__PATH_PARTS_MAX           32  /* names, keys and indexes of one path */
#define PO__PATH_INDEX_MAX           999999999
#define PO__TEMPLATE_ERROR_MAX_BYTES 384  /* of a sentence, with its NUL; longer is cut */
#define PO__CONDITION_MAX_BYTES      4096 /* of one condition */
#define PO__CONDITION_DEPTH_MAX      32   /* parentheses and "!" inside of each other */

/* What was wrong. text is a sentence for people; offset counts bytes from the start of the template
 * or of the condition to where it was found. */
struct po__template_error {
    size_t offset;
    char text[PO__TEMPLATE_ERROR_MAX_BYTES];
};
void po__template_fail(struct po__template_error *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A path, taken apart. It points into itself: not to be copied. */
struct po__path_part {
    struct po__slice text; /* as written, with its `.` or brackets */
    struct po__slice name; /* of a name or key: decoded. Of an index: empty, data NULL */
    size_t index;          /* of an index */
};
struct po__path {
    struct po__slice text; /* as written, without the braces */
    unsigned count;        /* 1.. */
    struct po__path_part parts[PO__PATH_PARTS_MAX];
    char names[PO__PATH_MAX_BYTES]; /* the decoded keys */
};

/* Parse the path that text begins with. *used is its length; used NULL: text must be a path and
 * nothing else. 0 or PO_EINVAL with e (offset counts from text.data). The path borrows from text,
 * which is any bytes. */
int po__path_parse(struct po__path *path, struct po__slice text, size_t *used,
                   struct po__template_error *e);
bool po__path_part_is(const struct po__path *path, unsigned part, const char *name);
/* `parts` first parts of the path, as written. */
struct po__slice po__path_head(const struct po__path *path, unsigned parts);

/* Where the values are. resolve gives the value that the first parts of a path name, and in *taken
 * how many parts (1..path->count) that were; the rest is walked by the caller of it. *value points
 * into a text that po__json_ok accepted, which must stay until the call that resolves has returned.
 * It returns 0; PO_ENOTFOUND: nothing is there (exists() is false, all else fails with
 * PO_ENOTFOUND); any other code: everything stops and returns it. On failure it may say why with
 * po__template_fail; if it does not, a sentence is made of the path. */
struct po__scope {
    int (*resolve)(void *arg, const struct po__path *path, unsigned *taken, struct po__slice *value,
                   struct po__template_error *e);
    void *arg;
};

/* The value that a path names. 0, PO_ENOTFOUND (e: the first part that is not there, and what is;
 * offset counts from path->text), or the resolver's code. */
int po__path_value(struct po__slice *value, const struct po__path *path,
                   const struct po__scope *scope, struct po__template_error *e);

/* Append the rendered template to out (out->max_bytes bounds it). The appended text is one that
 * po__json_ok accepts. On failure out holds a part of it. 0, PO_EINVAL (syntax), PO_ENOTFOUND,
 * PO_ETOOBIG (too long, or with a value in its place deeper than PO__JSON_DEPTH_MAX), PO_ENOMEM, or
 * the resolver's code. */
int po__template_render(struct po__buf *out, struct po__slice text, const struct po__scope *scope,
                        struct po__template_error *e);

/* Every reference of a template or condition, in the order of the text. offset: where the path
 * stands in the text. A callback that returns non-zero ends the walk, which then returns that; it
 * may have said why with po__template_fail. */
typedef int (*po__ref_fn)(void *arg, const struct po__path *path, size_t offset,
                          struct po__template_error *e);
/* 0, PO_EINVAL (syntax), PO_ENOMEM, or the callback's code. ref may be NULL: only the syntax is
 * checked. */
int po__template_refs(struct po__slice text, po__ref_fn ref, void *arg,
                      struct po__template_error *e);

/* The syntax of a condition, and its references. 0, PO_EINVAL, PO_ETOOBIG
 * (PO__CONDITION_MAX_BYTES), or the callback's code. text is any bytes. */
int po__condition_check(struct po__slice text, po__ref_fn ref, void *arg,
                        struct po__template_error *e);
/* 0 and *result; PO_EINVAL (syntax, or a type that the operator does not take); PO_ENOTFOUND;
 * PO_ETOOBIG (the condition is too long, or comparing took more than PO__JSON_WORK_MAX); or the
 * resolver's code. */
int po__condition_eval(bool *result, struct po__slice text, const struct po__scope *scope,
                       struct po__template_error *e);

#endif
