/* Graph pipelines: documents that use more than the chain of pipeline.c.
 *
 * The passes go on from what is simple to what leans on it, and all problems come at once: fields,
 * params, the shape of the graph, and at last what templates refer to, which only the shape can
 * tell to be there in time. */
#include "graph_doc.h"

#include <pipeorch/error.h>
#include <stdio.h>
#include "../base/alloc.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- reading the document ---- */

void po__gdoc_step_pointer(char out[PO__SPEC_POINTER_MAX_BYTES], size_t i, const char *key)
{
    snprintf(out, PO__SPEC_POINTER_MAX_BYTES, key ? "/steps/%zu/%s" : "/steps/%zu", i, key);
}

const char *po__gdoc_string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s && *s ? s : NULL;
}

struct po__slice po__gdoc_slice(const json_t *object, const char *key)
{
    const json_t *s = json_object_get(object, key);
    return json_is_string(s) ? po__slice(json_string_value(s), json_string_length(s))
                             : po__slice("", 0);
}

uint64_t po__gdoc_number(const json_t *object, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(object, key));
    return v > 0 ? (uint64_t)v : 0;
}

struct po__slice po__gdoc_text(struct po__slice object, const char *key)
{
    struct po__slice v;
    return po__json_member(object, po__str(key), &v) ? v : po__slice("", 0);
}

/* ---- which documents are graphs ---- */

bool po__spec_is_graph(const json_t *root)
{
    static const char *const keys[] = {"version", "params", "service_registry", "output"};
    static const char *const step_keys[] = {"pipeline", "depends_on",   "join",  "when",
                                            "map",      "map_parallel", "input", "retry",
                                            "priority", "placement",    "cache", "on_failure"};
    size_t i;
    const json_t *step;
    if (!json_is_object(root) || !json_is_array(json_object_get(root, "steps")))
        return false;
    if (!json_object_get(root, "start_node"))
        return true;
    for (unsigned k = 0; k < COUNT(keys); k++)
        if (json_object_get(root, keys[k]))
            return true;
    json_array_foreach(json_object_get(root, "steps"), i, step)
    {
        for (unsigned k = 0; k < COUNT(step_keys); k++)
            if (json_object_get(step, step_keys[k]))
                return true;
        if (memchr(po__gdoc_slice(step, "capability").data, '@',
                   po__gdoc_slice(step, "capability").len))
            return true;
    }
    return false;
}

/* ---- capabilities ---- */

static bool split(struct po__slice text, struct po__slice *capability, struct po__slice *range)
{
    const char *sign = text.len ? memchr(text.data, '@', text.len) : NULL;
    *capability = sign ? po__slice(text.data, (size_t)(sign - text.data)) : text;
    *range = sign ? po__slice(sign + 1, text.len - capability->len - 1) : po__slice("", 0);
    return po__capability_ok(*capability) && (!sign || (range->len && po__range_ok(*range)));
}

/* An alias is a name without a colon. */
static void unknown_alias(const struct po__gdoc *g, const char *pointer, struct po__slice text)
{
    json_t *aliases = json_object_get(g->root, "service_registry");
    const char *names[PO_STEPS_MAX], *key;
    unsigned n = 0;
    json_t *value;
    char alias[PO_NAME_MAX_BYTES + 1];
    snprintf(alias, sizeof alias, "%.*s", (int)text.len, text.data);
    json_object_foreach(aliases, key, value)
    {
        if (n < COUNT(names))
            names[n++] = key;
    }
    const char *near = po__nearest(alias, names, n);
    if (near)
        po__doc_problem(g->d, pointer,
                        "no alias \"%s\" stands in service_registry; did you mean \"%s\"?", alias,
                        near);
    else
        po__doc_problem(g->d, pointer,
                        "\"%s\" is neither a capability nor an alias; write \"verb:name\", or add "
                        "\"%s\" to service_registry",
                        alias, alias);
}

static void malformed(const struct po__gdoc *g, const char *pointer, struct po__slice text,
                      struct po__slice capability, struct po__slice range)
{
    if (!po__capability_ok(capability))
        po__doc_problem(g->d, pointer,
                        "\"%.*s\" is not a capability; write \"verb:name\" or \"verb:name@^1.2\", "
                        "each part of a-z, 0-9, '.', '_' and '-'",
                        (int)text.len, text.data);
    else
        po__doc_problem(g->d, pointer,
                        "\"%.*s\" is not a range of versions; write such as \"^1.2\", \"~1.2.3\" "
                        "or \">=1.2 <2\"",
                        (int)range.len, range.data);
}

bool po__gdoc_capability(const struct po__gdoc *g, const char *pointer, struct po__slice text,
                         struct po__slice *capability, struct po__slice *range)
{
    if (text.len == 0 || text.len > PO_NAME_MAX_BYTES)
        return false; /* reported with the fields */
    if (split(text, capability, range))
        return true;
    if (!po__name_ok(text)) {
        if (pointer)
            malformed(g, pointer, text, *capability, *range);
        return false;
    }
    char alias[PO_NAME_MAX_BYTES + 1];
    snprintf(alias, sizeof alias, "%.*s", (int)text.len, text.data);
    json_t *aliases = json_object_get(g->root, "service_registry");
    if (json_object_get(aliases, alias)) /* what it stands for is judged where it stands */
        return split(po__gdoc_slice(aliases, alias), capability, range);
    if (pointer)
        unknown_alias(g, pointer, text);
    return false;
}

static void check_registry(struct po__gdoc *g)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    const char *alias;
    json_t *value;
    json_object_foreach(json_object_get(g->root, "service_registry"), alias, value)
    {
        struct po__slice text = po__slice(json_string_value(value), json_string_length(value));
        struct po__slice capability, range;
        po__doc_pointer_key(at, "/service_registry", alias);
        if (!po__name_ok(po__str(alias)))
            po__doc_problem(g->d, at,
                            "\"%.128s\" is not an alias; use letters, digits, '.', '_' and '-'",
                            alias);
        if (!json_is_string(value))
            po__doc_problem(g->d, at,
                            "must be a string, the capability that the alias stands for: "
                            "\"verb:name\" or \"verb:name@^1.2\"");
        else if (text.len > PO_NAME_MAX_BYTES)
            po__doc_problem(g->d, at, "has %zu bytes; must have 1 to %d", text.len,
                            PO_NAME_MAX_BYTES);
        else if (!split(text, &capability, &range))
            malformed(g, at, text, capability, range);
    }
}

/* ---- the document ---- */

static const struct po__doc_key document_keys[] = {
    {"name", PO__DOC_STRING, true},
    {"description", PO__DOC_STRING, false, 0, 4096},
    {"version", PO__DOC_STRING, false, 1, PO__VERSION_MAX_BYTES},
    {"start_node", PO__DOC_STRING, false, 1},
    {"params", PO__DOC_OBJECT, false},
    {"service_registry", PO__DOC_OBJECT, false},
    {"steps", PO__DOC_ARRAY, true},
    {"output", PO__DOC_ANY, false},
};

void po__gdoc_document_keys(struct po__doc *d, json_t *root)
{
    po__doc_object(d, "", root, document_keys, COUNT(document_keys));
}

static void check_name(struct po__gdoc *g, const char *key)
{
    struct po__slice name = po__gdoc_slice(g->root, key);
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__doc_pointer_key(at, "", key);
    if (name.len && name.len <= PO_NAME_MAX_BYTES && !po__name_ok(name))
        po__doc_problem(g->d, at, "\"%.*s\" is not a name; use letters, digits, '.', '_' and '-'",
                        (int)name.len, name.data);
}

static int list_steps(struct po__gdoc *g)
{
    struct po__json_iter it;
    g->text = po__json_root(g->d->text);
    g->steps = json_object_get(g->root, "steps");
    g->count = (uint32_t)json_array_size(g->steps);
    g->v = po__calloc(g->count, sizeof *g->v);
    if (!g->v)
        return PO_ENOMEM;
    for (po__json_iter(&it, po__gdoc_text(g->text, "steps")); po__json_next(&it);)
        g->v[it.index] =
            (struct po__gstep){.json = json_array_get(g->steps, it.index), .text = it.value};
    return 0;
}

static int check(struct po__gdoc *g)
{
    po__gdoc_document_keys(g->d, g->root);
    check_name(g, "name");
    check_name(g, "version");
    check_registry(g);
    po__gdoc_not_null(g->d, "", g->root, "output");
    size_t count = json_array_size(json_object_get(g->root, "steps"));
    if (count > PO_STEPS_MAX)
        po__doc_problem(g->d, "/steps", "has %zu steps; at most %d are allowed", count,
                        PO_STEPS_MAX);
    int rv = po__gdoc_params(g);
    if (rv || count == 0 || count > PO_STEPS_MAX)
        return rv;
    rv = list_steps(g);
    for (uint32_t i = 0; !rv && i < g->count; i++)
        po__gdoc_step_fields(g, i);
    rv = rv ? rv : po__gdoc_shape(g);
    return rv ? rv : po__gdoc_refs(g);
}

/* The model judges once more; what it alone knows is said without a place. */
static int encode(struct po__gdoc *g, struct po__buf *out, struct po__cmd *cmd)
{
    char message[PO__SPEC_PROBLEM_MAX_BYTES];
    int rv = po__gdoc_encode(g, out, cmd);
    if (rv == PO_ETOOBIG)
        po__doc_problem(g->d, "",
                        "the pipeline needs more than %d bytes; move large values to "
                        "files",
                        PO__PIPELINE_MAX_BYTES);
    if (!rv && (rv = po__cmd_check(cmd, message, sizeof message)) != 0 && rv != PO_ENOMEM)
        po__doc_problem(g->d, "", "%s", message);
    return rv;
}

int po__spec_graph(struct po__doc *d, json_t *root, struct po__cmd *cmd, struct po__buf *out)
{
    struct po__gdoc g = {.d = d, .root = root};
    po__buf_init(out, PO__PIPELINE_MAX_BYTES);
    int rv = check(&g);
    if (!rv && !d->problems.err && !d->count)
        rv = encode(&g, out, cmd);
    if (d->problems.err)
        rv = PO_ENOMEM;
    if (rv != PO_ENOMEM && d->count)
        rv = PO_EINVAL;
    if (rv)
        po__buf_fini(out);
    po__free(g.v);
    po__free(g.edges);
    po__free(g.order);
    po__free(g.before);
    json_decref(g.index);
    return rv;
}
