/* The environment and the config file. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "files.h"
#include "spec/spec.h"
#include "task_env.h"

#define PREFIX "PO_"

void opt__variable(char *out, size_t len, const char *name)
{
    snprintf(out, len, PREFIX "%s", name);
    for (; *out; out++)
        *out = (char)toupper((unsigned char)*out);
}

static bool in_env(const struct opt *o)
{
    return !(o->flags & OPT_FLAG_ONLY) || (o->flags & OPT_ENV_TOO);
}

static int find_variable(const struct opt_tool *tool, const char *name)
{
    for (unsigned i = 0; i < tool->count; i++) {
        char variable[64];
        opt__variable(variable, sizeof variable, tool->options[i].name);
        if (in_env(&tool->options[i]) && strcmp(variable, name) == 0)
            return (int)i;
    }
    return -1;
}

static const struct opt_tool *const tools[] = {&controld_tool, &workerd_tool, &poctl_tool};
#define TOOLS (sizeof tools / sizeof *tools)

static bool known_elsewhere(const char *name)
{
    static const char *const task[] = {
#define X(id, text) text,
        TASK_ENV(X)
#undef X
    };
    for (unsigned i = 0; i < sizeof task / sizeof *task; i++)
        if (strcmp(name, task[i]) == 0)
            return true;
    for (unsigned i = 0; i < TOOLS; i++)
        if (find_variable(tools[i], name) >= 0 ||
            (tools[i]->config_file && strcmp(name, PREFIX "CONFIG") == 0))
            return true;
    return false;
}

static void unknown_variable(struct opt_run *run, const char *place, const char *name)
{
    char variables[OPT_OPTIONS_MAX + 1][64];
    const char *names[OPT_OPTIONS_MAX + 1];
    unsigned n = 0;
    for (unsigned i = 0; i < run->tool->count; i++) {
        if (!in_env(&run->tool->options[i]))
            continue;
        opt__variable(variables[n], sizeof variables[n], run->tool->options[i].name);
        names[n] = variables[n];
        n++;
    }
    if (run->tool->config_file)
        names[n++] = PREFIX "CONFIG";
    /* Compared without the prefix: four letters in common with everything would make everything
     * near. */
    const char *bare[OPT_OPTIONS_MAX + 1];
    for (unsigned i = 0; i < n; i++)
        bare[i] = names[i] + strlen(PREFIX);
    const char *near = po__nearest(name + strlen(PREFIX), bare, n);
    if (near)
        opt__problem(run, place, "unknown variable; did you mean " PREFIX "%s?", near);
    else
        opt__problem(run, place,
                     "unknown variable; names beginning with " PREFIX
                     " are reserved for pipeorch; unset it (%s --help lists the known ones)",
                     run->tool->name);
}

static void take_config(struct opt_run *run, const char *place, const char *path)
{
    if (!*path)
        opt__problem(run, place, "is empty");
    else if (!run->config)
        run->config = path;
}

void opt__read_env(struct opt_run *run, char **envp)
{
    for (; *envp; envp++) {
        const char *eq = strchr(*envp, '=');
        if (!eq || strncmp(*envp, PREFIX, strlen(PREFIX)) != 0)
            continue;
        char name[128], place[OPT_PLACE_MAX_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)(eq - *envp), *envp);
        snprintf(place, sizeof place, "environment variable %s", name);
        int i = find_variable(run->tool, name);
        if (i >= 0)
            opt__take(run, (unsigned)i, OPT_ENV, place, eq + 1);
        else if (run->tool->config_file && strcmp(name, PREFIX "CONFIG") == 0)
            take_config(run, place, eq + 1);
        else if (!known_elsewhere(name))
            unknown_variable(run, place, name);
    }
}

/* ---- config file ---- */

/* The value as text, as it would stand behind a flag. false: not a type that the option can have.
 */
static bool value_text(const struct opt *o, const json_t *v, struct po__buf *text)
{
    bool list = o->type == OPT_ADDRESSES || o->type == OPT_MEMBERS;
    bool number = o->type == OPT_UINT || o->type == OPT_BYTES || o->type == OPT_DURATION;
    if (json_is_boolean(v) && o->type == OPT_BOOL)
        po__buf_printf(text, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_integer(v) && number)
        po__buf_printf(text, "%lld", (long long)json_integer_value(v));
    else if (json_is_string(v) && o->type != OPT_BOOL && o->type != OPT_UINT)
        po__buf_printf(text, "%s", json_string_value(v));
    else if (json_is_array(v) && list) {
        size_t i;
        const json_t *item;
        json_array_foreach(v, i, item)
        {
            if (!json_is_string(item))
                return false;
            po__buf_printf(text, "%s%s", i ? "," : "", json_string_value(item));
        }
    } else {
        return false;
    }
    return po__buf_append(text, "", 1) == 0;
}

static const char *wanted(enum opt_type type)
{
    switch (type) {
    case OPT_BOOL:
        return "true or false";
    case OPT_UINT:
        return "an integer";
    case OPT_BYTES:
        return "an integer or a string as \"16MiB\"";
    case OPT_DURATION:
        return "an integer or a string as \"10s\"";
    case OPT_ADDRESSES:
    case OPT_MEMBERS:
        return "a string or an array of strings";
    default:
        return "a string";
    }
}

static void take_key(struct opt_run *run, struct po__doc *d, const char *pointer, unsigned index,
                     const json_t *value)
{
    struct po__buf text = {0};
    const struct opt *o = &run->tool->options[index];
    if (value_text(o, value, &text)) {
        unsigned line, column;
        char place[OPT_PLACE_MAX_BYTES];
        po__doc_locate(d->text, pointer, &line, &column);
        snprintf(place, sizeof place, "%.256s:%u:%u: %.256s", d->file, line, column, pointer);
        opt__take(run, index, OPT_FILE, place, (const char *)text.data);
    } else {
        po__doc_problem(d, pointer, "must be %s", wanted(o->type));
    }
    po__buf_fini(&text);
}

static void take_object(struct opt_run *run, struct po__doc *d, json_t *root)
{
    const char *names[OPT_OPTIONS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < run->tool->count; i++)
        if (!(run->tool->options[i].flags & OPT_FLAG_ONLY))
            names[n++] = run->tool->options[i].name;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        char pointer[PO__SPEC_POINTER_MAX_BYTES];
        po__doc_pointer_key(pointer, "", key);
        unsigned i = 0;
        while (i < run->tool->count && (strcmp(run->tool->options[i].name, key) != 0 ||
                                        run->tool->options[i].flags & OPT_FLAG_ONLY))
            i++;
        if (i < run->tool->count) {
            take_key(run, d, pointer, i, value);
            continue;
        }
        const char *near = po__nearest(key, names, n);
        if (near)
            po__doc_problem(d, pointer, "unknown key \"%.64s\"; did you mean \"%s\"?", key, near);
        else
            po__doc_problem(d, pointer, "unknown key \"%.64s\"; %s --help lists the known ones",
                            key, run->tool->name);
    }
}

void opt__read_file(struct opt_run *run, const char *path)
{
    struct po__buf text = {0};
    char why[256];
    struct po__doc d = {.file = path};
    if (!file_read(&text, path, PO__SPEC_MAX_BYTES, why, sizeof why)) {
        opt__problem(run, path, "%s", why);
        goto out;
    }
    json_t *root = po__doc_parse(&d, (const char *)text.data, text.len);
    if (root && !json_is_object(root))
        po__doc_problem(&d, "", "must be an object: {\"listen\": \"127.0.0.1:7101\", ...}");
    else if (root)
        take_object(run, &d, root);
    json_decref(root);
    opt_add_problems(run, &d.problems, d.count);
out:
    po__buf_fini(&d.problems);
    po__buf_fini(&text);
}
