/* Pipeline documents, and the check of those that are a chain; graph.c has the others.
 *
 * Three passes, so that all problems of a file come at once: the fields of each object, then the
 * names (duplicates, dangling references), then the shape of the chain. The shape is only judged
 * when the names are sound: otherwise one typo would be reported as a cascade of unreachable steps.
 */
#include "graph_doc.h"

#include <pipeorch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include "../base/alloc.h"

#define NO_STEP UINT32_MAX

/* One step while the shape is checked. */
struct vertex {
    const char *name;
    uint32_t next; /* index of its next_node, or NO_STEP */
    uint32_t predecessor;
    uint32_t visited; /* number of the walk that came here first, from 1; 0: none did */
    bool on_cycle;
    bool reached;
};

struct check {
    struct po__doc *d;
    json_t *steps;
    json_t *index; /* step name -> its index */
    struct vertex *v;
    uint32_t count;
};

static void check_name(struct po__doc *d, const char *pointer, struct po__slice name)
{
    if (name.len && name.len <= PO_NAME_MAX_BYTES && !po__name_ok(name))
        po__doc_problem(d, pointer, "\"%.*s\" is not a name; use letters, digits, '.', '_' and '-'",
                        (int)name.len, name.data);
}

static void check_step_fields(struct po__doc *d, json_t *step, size_t i)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__gdoc_step_pointer(at, i, NULL);
    po__gdoc_step_keys(d, at, step);
    if (json_is_object(step) && !json_object_get(step, "capability"))
        po__doc_problem(d, at, "the key \"capability\" is missing; it must be a string");
    po__gdoc_step_pointer(at, i, "name");
    check_name(d, at, po__gdoc_slice(step, "name"));
    struct po__slice cap = po__gdoc_slice(step, "capability");
    po__gdoc_step_pointer(at, i, "capability");
    if (cap.len && cap.len <= PO_NAME_MAX_BYTES && !po__capability_ok(cap))
        po__doc_problem(d, at,
                        "\"%.*s\" is not a capability; write \"verb:name\", each part of a-z, 0-9, "
                        "'.', '_' and '-'",
                        (int)cap.len, cap.data);
}

/* Returns false if out of memory. Steps without a usable name stay out of the index: they are
 * reported already. */
static bool index_names(struct check *c)
{
    size_t i;
    json_t *step;
    json_array_foreach(c->steps, i, step)
    {
        const char *name = po__gdoc_string(step, "name");
        if (!name)
            continue;
        const json_t *first = json_object_get(c->index, name);
        if (first) {
            char at[PO__SPEC_POINTER_MAX_BYTES];
            po__gdoc_step_pointer(at, i, "name");
            po__doc_problem(c->d, at,
                            "step \"%s\" is already defined at /steps/%lld; names must be unique",
                            name, (long long)json_integer_value(first));
        } else if (json_object_set_new(c->index, name, json_integer((json_int_t)i))) {
            return false;
        }
        c->v[i].name = name;
    }
    return true;
}

/* The index of the step that `name` refers to; a problem and NO_STEP if there is none. */
static uint32_t resolve(struct check *c, const char *pointer, const char *name)
{
    const json_t *found = json_object_get(c->index, name);
    if (found)
        return (uint32_t)json_integer_value(found);
    const char **names = po__calloc(c->count, sizeof *names);
    unsigned n = 0;
    for (uint32_t i = 0; names && i < c->count; i++)
        if (c->v[i].name)
            names[n++] = c->v[i].name;
    const char *near = names ? po__nearest(name, names, n) : NULL;
    if (near)
        po__doc_problem(c->d, pointer, "no step is named \"%s\"; did you mean \"%s\"?", name, near);
    else
        po__doc_problem(c->d, pointer, "no step is named \"%s\"; add it or correct the name", name);
    po__free(names);
    return NO_STEP;
}

static void resolve_next(struct check *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const char *next = po__gdoc_string(json_array_get(c->steps, i), "next_node");
        char at[PO__SPEC_POINTER_MAX_BYTES];
        po__gdoc_step_pointer(at, i, "next_node");
        c->v[i].next = next ? resolve(c, at, next) : NO_STEP;
    }
}

static void report_cycle(struct check *c, uint32_t first)
{
    char names[PO__SPEC_PROBLEM_MAX_BYTES / 2];
    size_t len = 0;
    uint32_t i = first, last;
    do {
        if (len < sizeof names - 1)
            len += (size_t)snprintf(names + len, sizeof names - len, "%s -> ", c->v[i].name);
        c->v[i].on_cycle = true;
        last = i;
        i = c->v[i].next;
    } while (i != first);
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__gdoc_step_pointer(at, last, "next_node");
    po__doc_problem(c->d, at, "the steps form a cycle: %s%s; a pipeline must come to an end",
                    len < sizeof names ? names : "a long chain -> ", c->v[first].name);
}

/* Each step has at most one successor, so a walk that meets its own trail has found a cycle. */
static void find_cycles(struct check *c)
{
    for (uint32_t start = 0; start < c->count; start++) {
        uint32_t i = start;
        while (i != NO_STEP && !c->v[i].visited) {
            c->v[i].visited = start + 1;
            i = c->v[i].next;
        }
        if (i != NO_STEP && c->v[i].visited == start + 1 && !c->v[i].on_cycle)
            report_cycle(c, i);
    }
}

static void find_joins(struct check *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t next = c->v[i].next;
        if (next == NO_STEP || c->v[next].on_cycle)
            continue;
        if (c->v[next].predecessor == NO_STEP) {
            c->v[next].predecessor = i;
            continue;
        }
        char at[PO__SPEC_POINTER_MAX_BYTES];
        po__gdoc_step_pointer(at, i, "next_node");
        po__doc_problem(c->d, at,
                        "step \"%s\" already follows step \"%s\"; a pipeline is a chain, each step "
                        "follows one other",
                        c->v[next].name, c->v[c->v[next].predecessor].name);
    }
}

static void find_unreachable(struct check *c, uint32_t start)
{
    for (uint32_t i = start; i != NO_STEP && !c->v[i].reached; i = c->v[i].next)
        c->v[i].reached = true;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->v[i].reached || c->v[i].on_cycle)
            continue;
        char at[PO__SPEC_POINTER_MAX_BYTES];
        po__gdoc_step_pointer(at, i, NULL);
        po__doc_problem(c->d, at,
                        "step \"%s\" can never run: no path leads to it from start_node \"%s\"; "
                        "link it or remove it",
                        c->v[i].name, c->v[start].name);
    }
}

/* 0, or PO_ENOMEM. Problems go to c->d. */
static int check_shape(struct check *c, const char *start_node)
{
    int rv = PO_ENOMEM;
    c->count = (uint32_t)json_array_size(c->steps);
    c->index = json_object();
    c->v = po__calloc(c->count, sizeof *c->v);
    if (!c->index || !c->v)
        goto out;
    for (uint32_t i = 0; i < c->count; i++)
        c->v[i].next = c->v[i].predecessor = NO_STEP;
    unsigned before = c->d->count;
    bool named = true;
    if (!index_names(c))
        goto out;
    resolve_next(c);
    for (uint32_t i = 0; i < c->count; i++)
        named = named && c->v[i].name;
    uint32_t start = start_node ? resolve(c, "/start_node", start_node) : NO_STEP;
    bool whole = c->d->count == before; /* else what never runs would be guessed */
    if (named) {
        find_cycles(c);
        find_joins(c);
        if (whole && start != NO_STEP)
            find_unreachable(c, start);
    }
    rv = 0;
out:
    po__free(c->v);
    json_decref(c->index);
    return rv;
}

static int check_all(struct po__doc *d, json_t *root)
{
    po__gdoc_document_keys(d, root);
    if (!json_is_object(root))
        return 0;
    check_name(d, "/name", po__gdoc_slice(root, "name"));
    json_t *steps = json_object_get(root, "steps");
    if (!json_is_array(steps))
        return 0;
    if (json_array_size(steps) > PO_STEPS_MAX) {
        po__doc_problem(d, "/steps", "has %zu steps; at most %d are allowed",
                        json_array_size(steps), PO_STEPS_MAX);
        return 0;
    }
    size_t i;
    json_t *step;
    json_array_foreach(steps, i, step) check_step_fields(d, step, i);
    struct check c = {.d = d, .steps = steps};
    return check_shape(&c, po__gdoc_string(root, "start_node"));
}

static uint32_t number_of(const json_t *object, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(object, key));
}

static int encode_steps(json_t *array, struct po__buf *out)
{
    po__mpw_array(out, (uint32_t)json_array_size(array));
    size_t i;
    json_t *step;
    json_array_foreach(array, i, step)
    {
        const json_t *config = json_object_get(step, "config");
        char *text = config ? json_dumps(config, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        if (config && !text)
            return PO_ENOMEM;
        struct po__step s = {
            .name = po__gdoc_slice(step, "name"),
            .capability = po__gdoc_slice(step, "capability"),
            .next_node = po__gdoc_slice(step, "next_node"),
            .config = text ? po__str(text) : po__slice("", 0),
            .timeout_ms = number_of(step, "timeout_ms"),
            .attempts_max = number_of(step, "attempts_max"),
        };
        po__step_encode(out, &s);
        free(text); /* jansson's allocator */
    }
    return out->err;
}

int po__spec_pipeline(struct po__doc *d, const char *json, size_t len, struct po__cmd *cmd,
                      json_t **keep, struct po__buf *steps)
{
    *keep = NULL;
    json_t *root = po__doc_parse(d, json, len);
    if (!root)
        return d->problems.err ? PO_ENOMEM : PO_EINVAL;
    if (po__spec_is_graph(root)) {
        int made = po__spec_graph(d, root, cmd, steps);
        *keep = made ? NULL : root;
        if (made)
            json_decref(root);
        return made;
    }
    int rv = check_all(d, root);
    if (!rv && d->problems.err)
        rv = PO_ENOMEM;
    if (!rv && d->count)
        rv = PO_EINVAL;
    if (rv)
        goto err_after_parse;
    json_t *array = json_object_get(root, "steps");
    po__buf_init(steps, PO__PIPELINE_MAX_BYTES);
    rv = encode_steps(array, steps);
    if (rv)
        goto err_after_encode;
    *cmd = (struct po__cmd){.type = PO__CMD_PIPELINE_DEFINE};
    cmd->pipeline.name = po__gdoc_slice(root, "name");
    cmd->pipeline.start_node = po__gdoc_slice(root, "start_node");
    cmd->pipeline.steps = po__buf_slice(steps);
    cmd->pipeline.steps_count = (uint32_t)json_array_size(array);
    *keep = root;
    return 0;
err_after_encode:
    if (rv == PO_ETOOBIG) {
        po__doc_problem(d, "", "the pipeline needs more than %d bytes; move large configs to files",
                        PO__PIPELINE_MAX_BYTES);
        rv = PO_EINVAL;
    }
    po__buf_fini(steps);
err_after_parse:
    json_decref(root);
    return rv;
}
