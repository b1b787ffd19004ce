/* A stored definition as a document again. */
#include "spec.h"

#include <stdio.h>
#include "../model/model.h"

/* Copies answer[key] to out[as] unless it is null or has the value that stands for nothing said. */
static int copy(json_t *out, const char *as, const json_t *answer, const char *key,
                json_int_t otherwise)
{
    json_t *v = json_object_get(answer, key);
    if (!v || json_is_null(v) || (json_is_integer(v) && json_integer_value(v) == otherwise))
        return 0;
    return json_object_set(out, as, v);
}

static int copy_word(json_t *out, const json_t *answer, const char *key, const char *otherwise)
{
    const char *word = json_string_value(json_object_get(answer, key));
    return !word || strcmp(word, otherwise) == 0 ? 0
                                                 : json_object_set_new(out, key, json_string(word));
}

/* Adds value unless it is empty. Takes it. */
static int add(json_t *out, const char *key, json_t *value)
{
    if (!value)
        return -1;
    if (json_object_size(value) || json_array_size(value) || json_is_string(value))
        return json_object_set_new(out, key, value);
    json_decref(value);
    return 0;
}

/* "key=value", "key!=value", "key", "!key": see query.c. */
static int add_label(json_t *labels, const char *text)
{
    const char *sign = strchr(text, '=');
    bool not = sign && sign > text && sign[-1] == '!';
    char key[PO__LABEL_MAX_BYTES + 1];
    if (!sign)
        return json_object_set_new(labels, text + (*text == '!'), json_boolean(*text != '!'));
    snprintf(key, sizeof key, "%.*s", (int)(sign - text - not ), text);
    return json_object_set_new(labels, key,
                               not ? json_pack("{s:s}", "not", sign + 1) : json_string(sign + 1));
}

static json_t *placement(const json_t *answer)
{
    json_t *out = json_object(), *labels = json_object();
    size_t i;
    const json_t *label;
    int rv = copy_word(out, answer, "zone", "") | copy_word(out, answer, "gpu", "");
    json_array_foreach(json_object_get(answer, "labels"), i, label)
    {
        rv |= add_label(labels, json_string_value(label));
    }
    rv |= add(out, "labels", labels);
    if (json_object_size(json_object_get(answer, "resources")))
        rv |= json_object_set(out, "resources", json_object_get(answer, "resources"));
    rv |= copy_word(out, answer, "prefer", "balance");
    if (!rv)
        return out;
    json_decref(out);
    return NULL;
}

/* "verb:name", with the range of versions if there is one. */
static int add_capability(json_t *out, const json_t *step)
{
    const char *name = json_string_value(json_object_get(step, "capability"));
    const char *range =
        json_string_value(json_object_get(json_object_get(step, "placement"), "version"));
    if (!name)
        return 0;
    return json_object_set_new(out, "capability",
                               range ? json_sprintf("%s@%s", name, range) : json_string(name));
}

static int add_cache(json_t *out, const json_t *step)
{
    json_t *ms = json_object_get(step, "cache_ms");
    if (!json_is_true(json_object_get(step, "cache")))
        return 0;
    return json_object_set_new(
        out, "cache", json_is_integer(ms) ? json_pack("{s:O}", "ttl_ms", ms) : json_true());
}

static json_t *graph_step(const json_t *step)
{
    json_t *out = json_object(), *retry = json_object();
    bool task = json_is_string(json_object_get(step, "capability"));
    int rv = copy(out, "name", step, "name", 0) | add_capability(out, step) |
             copy(out, "pipeline", step, "pipeline", 0);
    if (json_array_size(json_object_get(step, "depends_on")))
        rv |= copy(out, "depends_on", step, "depends_on", 0);
    rv |= copy_word(out, step, "join", "all_succeeded") | copy(out, "when", step, "when", 0) |
          copy(out, "map", step, "map", 0);
    rv |= copy(out, "map_parallel", step, "map_parallel", PO__MAP_PARALLEL) |
          copy(out, "input", step, "input", 0) | copy(out, "config", step, "config", 0);
    if (task)
        rv |= copy(out, "timeout_ms", step, "timeout_ms", PO__TASK_TIMEOUT_DEFAULT_MS) |
              copy(out, "attempts_max", step, "attempts_max", PO__TASK_ATTEMPTS_DEFAULT);
    rv |= copy(retry, "delay_ms", step, "retry_ms", 0) |
          copy(retry, "delay_max_ms", step, "retry_max_ms", 0) | add(out, "retry", retry);
    rv |= copy(out, "priority", step, "priority", 0) |
          add(out, "placement", placement(json_object_get(step, "placement")));
    rv |= add_cache(out, step) | copy_word(out, step, "on_failure", "fail");
    if (!rv)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *chain_step(const json_t *step)
{
    json_t *out = json_object();
    int rv = copy(out, "name", step, "name", 0) | copy(out, "capability", step, "capability", 0) |
             copy(out, "next_node", step, "next_node", 0) | copy(out, "config", step, "config", 0);
    rv |= copy(out, "timeout_ms", step, "timeout_ms", PO__TASK_TIMEOUT_DEFAULT_MS) |
          copy(out, "attempts_max", step, "attempts_max", PO__TASK_ATTEMPTS_DEFAULT);
    if (!rv)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *params(const json_t *list)
{
    json_t *out = json_object();
    size_t i;
    const json_t *p;
    int rv = out ? 0 : -1;
    json_array_foreach(list, i, p)
    {
        json_t *param = json_object();
        rv |= copy_word(param, p, "type", "any") | copy(param, "default", p, "default", 0);
        if (json_is_true(json_object_get(p, "required")))
            rv |= json_object_set_new(param, "required", json_true());
        rv |= json_object_set_new(out, json_string_value(json_object_get(p, "name")), param);
    }
    if (!rv)
        return out;
    json_decref(out);
    return NULL;
}

json_t *po__spec_document(const json_t *answer)
{
    json_t *out = json_object(), *steps = json_array();
    bool chain = json_is_string(json_object_get(answer, "start_node"));
    size_t i;
    const json_t *step;
    int rv = copy(out, "name", answer, "name", 0) | copy(out, "version", answer, "label", 0) |
             copy(out, "start_node", answer, "start_node", 0);
    if (!chain)
        rv |= add(out, "params", params(json_object_get(answer, "params")));
    json_array_foreach(json_object_get(answer, "steps"), i, step)
    {
        rv |= json_array_append_new(steps, chain ? chain_step(step) : graph_step(step));
    }
    rv |= json_object_set_new(out, "steps", steps);
    rv |= copy(out, "output", answer, "output", 0);
    if (!rv)
        return out;
    json_decref(out);
    return NULL;
}
