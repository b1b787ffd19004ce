/* The fields of a graph's step, each judged by itself. */
#include "graph_doc.h"

#include <stdio.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct po__doc_key step_keys[] = {
    {"name", PO__DOC_STRING, true},
    {"capability", PO__DOC_STRING, false, 1},
    {"pipeline", PO__DOC_STRING, false, 1},
    {"description", PO__DOC_STRING, false, 0, 4096},
    {"depends_on", PO__DOC_ARRAY, false},
    {"next_node", PO__DOC_STRING, false, 1},
    {"join", PO__DOC_STRING, false, 1},
    {"when", PO__DOC_STRING, false, 1, PO__CONDITION_MAX_BYTES},
    {"map", PO__DOC_ANY, false},
    {"map_parallel", PO__DOC_INT, false, 1, PO__MAP_PARALLEL_MAX},
    {"input", PO__DOC_ANY, false},
    {"config", PO__DOC_ANY, false},
    {"timeout_ms", PO__DOC_INT, false, PO__ATTEMPT_MIN_MS, PO__ATTEMPT_MAX_MS},
    {"attempts_max", PO__DOC_INT, false, 1, PO__ATTEMPTS_MAX},
    {"retry", PO__DOC_OBJECT, false},
    {"priority", PO__DOC_INT, false, 0, PO_PRIORITY_MAX},
    {"placement", PO__DOC_OBJECT, false},
    {"cache", PO__DOC_ANY, false},
    {"on_failure", PO__DOC_STRING, false, 1},
};

static const struct po__doc_key retry_keys[] = {
    {"delay_ms", PO__DOC_INT, false, 1, PO__ATTEMPT_MAX_MS},
    {"delay_max_ms", PO__DOC_INT, false, 1, PO__ATTEMPT_MAX_MS},
};

static const struct po__doc_key placement_keys[] = {
    {"zone", PO__DOC_STRING, false, 1},   {"labels", PO__DOC_OBJECT, false},
    {"gpu", PO__DOC_STRING, false, 1},    {"resources", PO__DOC_OBJECT, false},
    {"prefer", PO__DOC_STRING, false, 1},
};

static const struct po__doc_key cache_keys[] = {
    {"ttl_ms", PO__DOC_INT, true, 1, (json_int_t)PO__KEEP_MAX_MS},
};

/* One of the words, or a problem that lists them. */
static void check_word(struct po__doc *d, const char *pointer, const json_t *object,
                       const char *key, const char *const *words, unsigned count)
{
    const char *word = po__gdoc_string(object, key);
    char at[PO__SPEC_POINTER_MAX_BYTES], known[128] = "";
    size_t len = 0;
    if (!word)
        return;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(word, words[i]) == 0)
            return;
        if (len < sizeof known)
            len += (size_t)snprintf(known + len, sizeof known - len, "%s\"%s\"",
                                    i == 0           ? ""
                                    : i + 1 == count ? " or "
                                                     : ", ",
                                    words[i]);
    }
    const char *near = po__nearest(word, words, count);
    po__doc_pointer_key(at, pointer, key);
    if (near)
        po__doc_problem(d, at, "\"%.64s\" is not known; did you mean \"%s\"?", word, near);
    else
        po__doc_problem(d, at, "\"%.64s\" is not known; write %s", word, known);
}

static void check_name(struct po__doc *d, const char *pointer, const json_t *object,
                       const char *key)
{
    struct po__slice name = po__gdoc_slice(object, key);
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__doc_pointer_key(at, pointer, key);
    if (name.len && name.len <= PO_NAME_MAX_BYTES && !po__name_ok(name))
        po__doc_problem(d, at, "\"%.*s\" is not a name; use letters, digits, '.', '_' and '-'",
                        (int)name.len, name.data);
}

/* ---- placement ---- */

static void check_labels(struct po__doc *d, const char *pointer, json_t *labels)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    const char *key;
    json_t *value;
    if (json_object_size(labels) > PO_PLACEMENT_LABELS_MAX)
        po__doc_problem(d, pointer, "has %zu labels; at most %d are allowed",
                        json_object_size(labels), PO_PLACEMENT_LABELS_MAX);
    json_object_foreach(labels, key, value)
    {
        po__doc_pointer_key(at, pointer, key);
        const json_t *text = json_is_object(value) ? json_object_get(value, "not") : value;
        if (!*key || strlen(key) > PO__LABEL_MAX_BYTES)
            po__doc_problem(d, at, "a label has a key of 1 to %d bytes", PO__LABEL_MAX_BYTES);
        if (json_is_boolean(value))
            continue;
        if (!json_is_string(text) || (json_is_object(value) && json_object_size(value) != 1))
            po__doc_problem(d, at,
                            "must be the value that the label has, {\"not\": VALUE}, or true or "
                            "false for a label that is there or is not, whatever its value");
        else if (json_string_length(text) > PO__LABEL_MAX_BYTES)
            po__doc_problem(d, at, "has %zu bytes; must have at most %d", json_string_length(text),
                            PO__LABEL_MAX_BYTES);
    }
}

static void check_resources(struct po__doc *d, const char *pointer, json_t *resources)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    const char *key;
    json_t *value;
    if (json_object_size(resources) > PO_RESOURCES_MAX)
        po__doc_problem(d, pointer, "has %zu resources; at most %d are allowed",
                        json_object_size(resources), PO_RESOURCES_MAX);
    json_object_foreach(resources, key, value)
    {
        po__doc_pointer_key(at, pointer, key);
        if (!po__name_ok(po__str(key)))
            po__doc_problem(d, at,
                            "\"%.128s\" is not a resource; write cpu_milli, memory_bytes, gpus, or "
                            "a name of your own",
                            key);
        json_int_t v = json_integer_value(value);
        if (!json_is_integer(value) || v < 1 || (uint64_t)v > PO__RESOURCE_MAX)
            po__doc_problem(d, at, "must be a whole number, 1 to %llu",
                            (unsigned long long)PO__RESOURCE_MAX);
    }
}

static void check_placement(struct po__doc *d, uint32_t i, json_t *placement)
{
    static const char *const gpu[] = {"required", "forbidden"};
    static const char *const prefer[] = {"balance", "spread", "binpack", "local"};
    char at[PO__SPEC_POINTER_MAX_BYTES], below[PO__SPEC_POINTER_MAX_BYTES];
    if (!json_is_object(placement))
        return; /* reported with the step */
    po__gdoc_step_pointer(at, i, "placement");
    po__doc_object(d, at, placement, placement_keys, COUNT(placement_keys));
    check_name(d, at, placement, "zone");
    check_word(d, at, placement, "gpu", gpu, COUNT(gpu));
    check_word(d, at, placement, "prefer", prefer, COUNT(prefer));
    po__doc_pointer_key(below, at, "labels");
    check_labels(d, below, json_object_get(placement, "labels"));
    po__doc_pointer_key(below, at, "resources");
    check_resources(d, below, json_object_get(placement, "resources"));
}

/* ---- the step ---- */

/* What a step of another pipeline has no use for. */
static void check_pipeline_step(struct po__gdoc *g, uint32_t i)
{
    static const char *const keys[] = {"config",   "timeout_ms", "attempts_max", "retry",
                                       "priority", "placement",  "cache"};
    const json_t *step = g->v[i].json;
    char at[PO__SPEC_POINTER_MAX_BYTES];
    for (unsigned k = 0; k < COUNT(keys); k++) {
        po__gdoc_step_pointer(at, i, keys[k]);
        if (json_object_get(step, keys[k]))
            po__doc_problem(g->d, at,
                            "\"%s\" belongs to steps with a capability; this one runs a pipeline, "
                            "whose own steps have it",
                            keys[k]);
    }
    struct po__slice name = po__gdoc_slice(g->root, "name");
    po__gdoc_step_pointer(at, i, NULL);
    check_name(g->d, at, step, "pipeline");
    po__gdoc_step_pointer(at, i, "pipeline");
    if (name.len && po__slice_eq(name, po__gdoc_slice(step, "pipeline")))
        po__doc_problem(g->d, at,
                        "pipeline \"%.*s\" would run itself, without end; name another one",
                        (int)name.len, name.data);
}

static void check_what(struct po__gdoc *g, uint32_t i)
{
    const json_t *step = g->v[i].json;
    bool capability = json_object_get(step, "capability") != NULL;
    bool pipeline = json_object_get(step, "pipeline") != NULL;
    char at[PO__SPEC_POINTER_MAX_BYTES];
    struct po__slice name, range;
    po__gdoc_step_pointer(at, i, NULL);
    if (!capability && !pipeline)
        po__doc_problem(g->d, at,
                        "has nothing to do; give it \"capability\", or \"pipeline\" to run "
                        "another pipeline");
    else if (capability && pipeline)
        po__doc_problem(g->d, at, "has both \"capability\" and \"pipeline\"; leave one out");
    po__gdoc_step_pointer(at, i, "capability");
    if (capability)
        po__gdoc_capability(g, at, po__gdoc_slice(step, "capability"), &name, &range);
    else if (pipeline)
        check_pipeline_step(g, i);
}

static void check_depends(struct po__gdoc *g, uint32_t i)
{
    char list[PO__SPEC_POINTER_MAX_BYTES], at[PO__SPEC_POINTER_MAX_BYTES];
    size_t k;
    const json_t *entry;
    po__gdoc_step_pointer(list, i, "depends_on");
    json_array_foreach(json_object_get(g->v[i].json, "depends_on"), k, entry)
    {
        po__doc_pointer_index(at, list, k);
        if (!json_is_string(entry) || json_string_length(entry) == 0)
            po__doc_problem(g->d, at, "must be the name of a step");
    }
}

static void check_map(struct po__gdoc *g, uint32_t i)
{
    const json_t *map = json_object_get(g->v[i].json, "map");
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__gdoc_step_pointer(at, i, "map");
    if (map && !json_is_array(map) && !json_is_string(map))
        po__doc_problem(g->d, at,
                        "must be an array, or a reference to one such as \"${params.files}\"");
    po__gdoc_step_pointer(at, i, "map_parallel");
    if (!map && json_object_get(g->v[i].json, "map_parallel"))
        po__doc_problem(g->d, at,
                        "says how many elements of \"map\" run at a time, but there is "
                        "no \"map\"");
}

/* Null is how "nothing said" is answered, so nothing must be said by leaving it out. */
void po__gdoc_not_null(struct po__doc *d, const char *pointer, const json_t *object,
                       const char *key)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__doc_pointer_key(at, pointer, key);
    if (json_is_null(json_object_get(object, key)))
        po__doc_problem(d, at, "is null; leave it out for the default, or give it a value");
}

static void check_cache(struct po__gdoc *g, uint32_t i)
{
    json_t *cache = json_object_get(g->v[i].json, "cache");
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__gdoc_step_pointer(at, i, "cache");
    if (json_is_object(cache))
        po__doc_object(g->d, at, cache, cache_keys, COUNT(cache_keys));
    else if (cache && !json_is_boolean(cache))
        po__doc_problem(g->d, at, "must be true, false, or {\"ttl_ms\": MILLISECONDS}");
    if (cache && !json_is_false(cache) && !json_object_get(g->v[i].json, "input"))
        po__doc_problem(g->d, at,
                        "has no effect without \"input\": what a step gets by default names its "
                        "run, so no two are equal; give it an input");
}

static void check_retry(struct po__gdoc *g, uint32_t i)
{
    json_t *retry = json_object_get(g->v[i].json, "retry");
    char at[PO__SPEC_POINTER_MAX_BYTES];
    if (!json_is_object(retry))
        return;
    po__gdoc_step_pointer(at, i, "retry");
    po__doc_object(g->d, at, retry, retry_keys, COUNT(retry_keys));
    uint64_t delay = po__gdoc_number(retry, "delay_ms"),
             most = po__gdoc_number(retry, "delay_max_ms");
    if (most && delay > most)
        po__doc_problem(g->d, at, "delay_ms %llu is above delay_max_ms %llu",
                        (unsigned long long)delay, (unsigned long long)most);
}

void po__gdoc_step_keys(struct po__doc *d, const char *pointer, json_t *step)
{
    po__doc_object(d, pointer, step, step_keys, COUNT(step_keys));
}

void po__gdoc_step_fields(struct po__gdoc *g, uint32_t i)
{
    static const char *const joins[] = {"all_succeeded", "all_done", "any_succeeded"};
    static const char *const on_failures[] = {"fail", "continue"};
    char at[PO__SPEC_POINTER_MAX_BYTES];
    json_t *step = g->v[i].json;
    po__gdoc_step_pointer(at, i, NULL);
    po__gdoc_step_keys(g->d, at, step);
    if (!json_is_object(step))
        return;
    check_name(g->d, at, step, "name");
    check_word(g->d, at, step, "join", joins, COUNT(joins));
    check_word(g->d, at, step, "on_failure", on_failures, COUNT(on_failures));
    po__gdoc_not_null(g->d, at, step, "input");
    check_what(g, i);
    check_depends(g, i);
    check_map(g, i);
    check_retry(g, i);
    check_placement(g->d, i, json_object_get(step, "placement"));
    check_cache(g, i);
}
