/* params: what a run can be given. */
#include "graph_doc.h"

#include <stdio.h>

static const struct po__doc_key param_keys[] = {
    {"type", PO__DOC_STRING, false, 1},
    {"required", PO__DOC_BOOL, false},
    {"default", PO__DOC_ANY, false},
    {"description", PO__DOC_STRING, false, 0, 4096},
};

static const char *const types[] = {"any",     "string", "number", "integer",
                                    "boolean", "object", "array"};
#define TYPES (sizeof types / sizeof *types)

static void check_type(struct po__gdoc *g, const char *pointer, const char *word)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    const char *near = po__nearest(word, types, TYPES);
    po__doc_pointer_key(at, pointer, "type");
    if (near)
        po__doc_problem(g->d, at, "\"%.64s\" is no type; did you mean \"%s\"?", word, near);
    else
        po__doc_problem(g->d, at,
                        "\"%.64s\" is no type; write string, number, integer, boolean, object, "
                        "array or any",
                        word);
}

static void check_default(struct po__gdoc *g, const char *pointer, const json_t *param,
                          uint32_t type, struct po__slice value)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__doc_pointer_key(at, pointer, "default");
    if (value.len && type != UINT32_MAX && !po__param_fits(type, value)) {
        bool fraction = type == PO__PARAM_INTEGER && po__json_type(value) == PO__JSON_NUMBER;
        po__doc_problem(g->d, at, "is %s, but the param's type is %s",
                        fraction ? "a number with a fraction or exponent" : po__json_a_type(value),
                        po__param_type_word(type));
    }
    if (value.len && json_is_true(json_object_get(param, "required")))
        po__doc_problem(g->d, at,
                        "a required param is always given, so its default is never used; leave out "
                        "one of the two");
}

int po__gdoc_params(struct po__gdoc *g)
{
    json_t *params = json_object_get(g->root, "params"), *param;
    struct po__slice texts = po__gdoc_text(po__json_root(g->d->text), "params");
    const char *name;
    char at[PO__SPEC_POINTER_MAX_BYTES];
    if (json_object_size(params) > PO__GRAPH_PARAMS_MAX)
        po__doc_problem(g->d, "/params", "has %zu params; at most %d are allowed",
                        json_object_size(params), PO__GRAPH_PARAMS_MAX);
    json_object_foreach(params, name, param)
    {
        po__doc_pointer_key(at, "/params", name);
        if (!po__name_ok(po__str(name)))
            po__doc_problem(
                g->d, at, "\"%.128s\" is not a name; use letters, digits, '.', '_' and '-'", name);
        po__doc_object(g->d, at, param, param_keys, sizeof param_keys / sizeof *param_keys);
        const char *word = po__gdoc_string(param, "type");
        uint32_t type = word ? po__param_type_named(po__str(word)) : PO__PARAM_ANY;
        if (word && type == UINT32_MAX)
            check_type(g, at, word);
        check_default(g, at, param, type, po__gdoc_text(po__gdoc_text(texts, name), "default"));
    }
    return 0;
}
