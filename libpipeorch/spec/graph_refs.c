/* Templates and conditions of a graph: their syntax, and whether what they name will be there.
 *
 * A step may look at what its direct and indirect predecessors left; of all others it is not known
 * whether they are over. The pipeline's output comes last and may look at every step. */
#include "graph_doc.h"

#include <pipeorch/error.h>
#include <stdio.h>

/* Where a reference stands. */
struct place {
    struct po__gdoc *g;
    uint32_t step;    /* PO__GDOC_NO_STEP: the output of the pipeline */
    bool element;     /* evaluated for each element of a map */
    const char *text; /* in the document: what offsets count from; NULL: not known */
    char pointer[PO__SPEC_POINTER_MAX_BYTES];
};

#define problem(p, offset, ...)                                                                    \
    po__doc_problem_at((p)->g->d, (p)->pointer, (p)->text ? (p)->text + (offset) : NULL,           \
                       __VA_ARGS__)

/* "; did you mean X?" or the words that there are. */
static void suggest(char *out, size_t len, const char *given, const char *const *names,
                    unsigned count, const char *otherwise)
{
    const char *near = po__nearest(given, names, count);
    if (near)
        snprintf(out, len, "did you mean \"%s\"?", near);
    else
        snprintf(out, len, "%s", otherwise);
}

static void part_text(char out[PO_NAME_MAX_BYTES + 1], const struct po__path *path, unsigned part)
{
    struct po__slice s =
        path->parts[part].name.data ? path->parts[part].name : path->parts[part].text;
    snprintf(out, PO_NAME_MAX_BYTES + 1, "%.*s", (int)s.len, s.data);
}

/* ---- what can be named ---- */

static void check_param(struct place *p, const struct po__path *path, size_t offset)
{
    json_t *params = json_object_get(p->g->root, "params"), *value;
    const char *names[PO__GRAPH_PARAMS_MAX], *name;
    char given[PO_NAME_MAX_BYTES + 1], hint[2 * PO_NAME_MAX_BYTES];
    unsigned n = 0;
    if (path->count < 2)
        return;
    part_text(given, path, 1);
    if (path->parts[1].name.data && json_object_get(params, given))
        return;
    json_object_foreach(params, name, value)
    {
        if (n < PO__GRAPH_PARAMS_MAX)
            names[n++] = name;
    }
    suggest(hint, sizeof hint, given, names, n, "declare it in \"params\"");
    problem(p, offset, "no param is named \"%s\"; %s", given, hint);
}

static void check_run(struct place *p, const struct po__path *path, size_t offset)
{
    static const char *const whats[] = {"id", "pipeline", "key", "scheduled_ms"};
    char given[PO_NAME_MAX_BYTES + 1] = "", hint[2 * PO_NAME_MAX_BYTES];
    for (unsigned i = 0; path->count == 2 && i < sizeof whats / sizeof *whats; i++)
        if (po__path_part_is(path, 1, whats[i]))
            return;
    if (path->count > 1)
        part_text(given, path, 1);
    suggest(hint, sizeof hint, given, whats, sizeof whats / sizeof *whats,
            "a run has id, pipeline, key and scheduled_ms");
    problem(p, offset, "\"%.*s\" is not a value; %s", (int)path->text.len, path->text.data, hint);
}

static void check_before(struct place *p, uint32_t step, const char *name, const char *what,
                         size_t offset)
{
    if (p->step == PO__GDOC_NO_STEP || !p->g->shaped)
        return;
    if (step == p->step)
        problem(p, offset, "a step cannot use its own %s", what);
    else if (!po__gdoc_precedes(p->g, step, p->step))
        problem(p, offset, "steps.%s.%s is not there yet: add \"%s\" to depends_on", name, what,
                name);
}

static void check_step(struct place *p, const struct po__path *path, size_t offset)
{
    static const char *const whats[] = {"output", "state", "error"};
    char name[PO_NAME_MAX_BYTES + 1], what[PO_NAME_MAX_BYTES + 1] = "";
    char hint[2 * PO_NAME_MAX_BYTES];
    if (path->count < 2 || !path->parts[1].name.data) {
        problem(p, offset, "which step? write steps.NAME.output");
        return;
    }
    part_text(name, path, 1);
    const json_t *found = json_object_get(p->g->index, name);
    if (!found) {
        char what_is_wrong[PO__SPEC_PROBLEM_MAX_BYTES];
        po__gdoc_unknown_step(p->g, name, what_is_wrong, sizeof what_is_wrong);
        problem(p, offset, "%s", what_is_wrong);
        return;
    }
    if (path->count > 2)
        part_text(what, path, 2);
    for (unsigned i = 0; i < sizeof whats / sizeof *whats; i++) {
        if (path->count > 2 && po__path_part_is(path, 2, whats[i])) {
            check_before(p, (uint32_t)json_integer_value(found), name, whats[i], offset);
            return;
        }
    }
    suggest(hint, sizeof hint, what, whats, sizeof whats / sizeof *whats,
            "a step has output, state and error");
    problem(p, offset, "\"steps.%s%s%s\" is not a value; %s", name, *what ? "." : "", what, hint);
}

static int check_ref(void *arg, const struct po__path *path, size_t offset,
                     struct po__template_error *e)
{
    static const char *const roots[] = {"params", "steps", "run", "item", "index"};
    struct place *p = arg;
    char root[PO_NAME_MAX_BYTES + 1], hint[2 * PO_NAME_MAX_BYTES];
    (void)e;
    part_text(root, path, 0);
    if (strcmp(root, "params") == 0) {
        check_param(p, path, offset);
    } else if (strcmp(root, "steps") == 0) {
        check_step(p, path, offset);
    } else if (strcmp(root, "run") == 0) {
        check_run(p, path, offset);
    } else if (strcmp(root, "item") == 0 || strcmp(root, "index") == 0) {
        if (!p->element)
            problem(p, offset,
                    "\"%s\" is there for each element of a map: only in the \"input\" of a step "
                    "with \"map\"",
                    root);
    } else {
        suggest(hint, sizeof hint, root, roots, sizeof roots / sizeof *roots,
                "a reference begins with params, steps, run, item or index");
        problem(p, offset, "nothing is named \"%s\"; %s", root, hint);
    }
    return 0; /* on to the next one */
}

/* ---- where references stand ---- */

static int syntax(struct place *p, int rv, const struct po__template_error *e)
{
    if (rv == PO_ENOMEM)
        return rv;
    if (rv)
        problem(p, e->offset, "%s", e->text);
    return 0;
}

/* The pointer of a member or element. One that is too long is cut, as everywhere. */
static int descend(struct place *p, const struct po__json_iter *it)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    struct po__buf key = {0};
    if (it->object) {
        po__json_decode(&key, it->key);
        po__buf_append(&key, "", 1);
        if (key.err)
            return PO_ENOMEM;
        po__doc_pointer_key(at, p->pointer, (const char *)key.data);
        po__buf_fini(&key);
    } else {
        po__doc_pointer_index(at, p->pointer, it->index);
    }
    memcpy(p->pointer, at, sizeof at);
    return 0;
}

/* Each string of the template by itself, so that the pointer names it. */
static int check_template(struct place *p, struct po__slice value)
{
    struct po__template_error e;
    struct po__json_iter it;
    const size_t len = strlen(p->pointer);
    int rv = 0;
    if (po__json_type(value) == PO__JSON_STRING) {
        p->text = value.data;
        return syntax(p, po__template_refs(value, check_ref, p, &e), &e);
    }
    for (po__json_iter(&it, value); !rv && po__json_next(&it);) {
        rv = descend(p, &it);
        rv = rv ? rv : check_template(p, it.value);
        p->pointer[len] = '\0';
    }
    return rv;
}

/* A condition is a text inside of a string. Its places are the document's as long as nothing in it
 * is escaped. */
static int check_condition(struct place *p, const json_t *json, struct po__slice value)
{
    struct po__template_error e;
    struct po__slice text = po__slice(json_string_value(json), json_string_length(json));
    p->text = memchr(value.data, '\\', value.len) ? NULL : value.data + 1;
    int rv = po__condition_check(text, check_ref, p, &e);
    if (rv && rv != PO_ENOMEM) {
        size_t left = text.len - e.offset, shown = left < 24 ? left : 24;
        if (left)
            problem(p, e.offset, "at \"%.*s\", character %zu of the condition: %s", (int)shown,
                    text.data + e.offset, e.offset + 1, e.text);
        else
            problem(p, e.offset, "at the end of the condition: %s", e.text);
        rv = 0;
    }
    return rv;
}

/* A map is an array, or one reference and nothing else: a text with more in it is no array. */
static void check_map(struct place *p, struct po__slice value)
{
    if (po__json_type(value) != PO__JSON_STRING)
        return;
    struct po__slice inner = po__slice(value.data + 1, value.len - 2);
    const char *end = inner.len ? memchr(inner.data, '}', inner.len) : NULL;
    if (inner.len < 3 || memcmp(inner.data, "${", 2) != 0 || end != inner.data + inner.len - 1) {
        p->text = value.data;
        problem(p, 0,
                "is a text; a map needs an array, or one reference to an array and nothing "
                "else, such as \"${params.files}\"");
    }
}

static int check_step_texts(struct po__gdoc *g, uint32_t i)
{
    struct place p = {.g = g, .step = i};
    const struct po__slice text = g->v[i].text;
    const json_t *when = json_object_get(g->v[i].json, "when");
    struct po__slice map = po__gdoc_text(text, "map"), input = po__gdoc_text(text, "input");
    int rv = 0;
    if (json_is_string(when)) {
        po__gdoc_step_pointer(p.pointer, i, "when");
        rv = check_condition(&p, when, po__gdoc_text(text, "when"));
    }
    if (!rv && map.len) {
        po__gdoc_step_pointer(p.pointer, i, "map");
        check_map(&p, map);
        rv = check_template(&p, map);
    }
    if (!rv && input.len) {
        p.element = map.len > 0;
        po__gdoc_step_pointer(p.pointer, i, "input");
        rv = check_template(&p, input);
    }
    return rv;
}

int po__gdoc_refs(struct po__gdoc *g)
{
    int rv = 0;
    for (uint32_t i = 0; !rv && i < g->count; i++)
        if (json_is_object(g->v[i].json))
            rv = check_step_texts(g, i);
    struct po__slice output = po__gdoc_text(g->text, "output");
    if (!rv && output.len) {
        struct place p = {.g = g, .step = PO__GDOC_NO_STEP, .pointer = "/output"};
        rv = check_template(&p, output);
    }
    return rv;
}
