#include "capabilities.h"

#include <ctype.h>
#include <errno.h>
#include <pipeorch/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/files.h"
#include "base/alloc.h"
#include "schemas.h"
#include "resources.h"

static const struct po__doc_key file_keys[] = {
    {"capabilities", PO__DOC_ARRAY, true},
    {"labels", PO__DOC_OBJECT, false},
    {"resources", PO__DOC_OBJECT, false},
    {"slots", PO__DOC_INT, false, 1, COMMANDS_AT_ONCE_MAX},
    {"description", PO__DOC_STRING, false, 0, 4096},
};

static const struct po__doc_key capability_keys[] = {
    {"name", PO__DOC_STRING, true},
    {"version", PO__DOC_STRING, false, 1},
    {"description", PO__DOC_STRING, false, 0, 4096},
    {"command", PO__DOC_ARRAY, true},
    {"cwd", PO__DOC_STRING, false, 1, 4096},
    {"env", PO__DOC_OBJECT, false},
    {"timeout_ms", PO__DOC_INT, false, 100, 86400000},
    {"max_concurrency", PO__DOC_INT, false, 1, PO_CONCURRENCY_MAX},
    {"requires_gpu", PO__DOC_BOOL, false},
    {"final_exit_codes", PO__DOC_ARRAY, false},
    {"input_schema", PO__DOC_OBJECT, false},
    {"output_schema", PO__DOC_OBJECT, false},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define EX_USAGE_CODE                                                                              \
    64 /* of sysexits.h: bad arguments, bad input; trying again would not help                     \
        */
#define EX_DATAERR_CODE 65

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s && *s ? s : NULL;
}

static json_t *typed(const json_t *o, const char *key, json_type type)
{
    json_t *v = json_object_get(o, key);
    return v && json_typeof(v) == type ? v : NULL;
}

/* ---- checks: one object each ---- */

static void check_texts(struct po__doc *d, const char *at, json_t *cap)
{
    char p[PO__SPEC_POINTER_MAX_BYTES];
    const char *name = text_of(cap, "name"), *version = text_of(cap, "version");
    po__doc_pointer_key(p, at, "name");
    if (name && strlen(name) <= PO_NAME_MAX_BYTES && !po__capability_ok(po__str(name)))
        po__doc_problem(d, p,
                        "\"%s\" is not a capability; write \"verb:name\", each part of a-z, 0-9, "
                        "'.', '_' and '-'",
                        name);
    po__doc_pointer_key(p, at, "version");
    if (version && strlen(version) <= PO_NAME_MAX_BYTES && !po__semver_ok(po__str(version)))
        po__doc_problem(d, p, "\"%s\" is not a semantic version; write it as \"1.0.0\"", version);
}

static bool executable(const char *dir, size_t dir_len, const char *program)
{
    char path[8192];
    struct stat st;
    int n = dir_len ? snprintf(path, sizeof path, "%.*s/%s", (int)dir_len, dir, program)
                    : snprintf(path, sizeof path, "%s", program);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

static bool in_path(const char *program, const char *path)
{
    for (const char *p = path; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL)
        if (executable(p, strcspn(p, ":"), program))
            return true;
    return false;
}

static void check_program(struct po__doc *d, const char *pointer, const json_t *cap,
                          const char *program, const char *cwd)
{
    const char *path = text_of(json_object_get(cap, "env"), "PATH");
    if (!path)
        path = getenv("PATH");
    if (program[0] == '/'      ? executable("", 0, program)
        : strchr(program, '/') ? executable(cwd, strlen(cwd), program)
                               : in_path(program, path ? path : "/usr/local/bin:/usr/bin:/bin"))
        return;
    if (strchr(program, '/'))
        po__doc_problem(d, pointer, "\"%.256s\" is no executable file%s%.256s; check the path",
                        program, program[0] == '/' ? "" : " below ", program[0] == '/' ? "" : cwd);
    else
        po__doc_problem(d, pointer, "no program \"%.256s\" is in PATH (%.256s)", program,
                        path ? path : "unset");
}

static void check_command(struct po__doc *d, const char *at, json_t *cap, const char *cwd)
{
    char p[PO__SPEC_POINTER_MAX_BYTES], item[PO__SPEC_POINTER_MAX_BYTES];
    const json_t *command = typed(cap, "command", JSON_ARRAY), *arg;
    size_t i;
    po__doc_pointer_key(p, at, "command");
    if (json_array_size(command) > COMMAND_ARGS_MAX)
        po__doc_problem(d, p, "has %zu words; at most %d are allowed", json_array_size(command),
                        COMMAND_ARGS_MAX);
    json_array_foreach(command, i, arg)
    {
        po__doc_pointer_index(item, p, i);
        if (!json_is_string(arg))
            po__doc_problem(d, item, "must be a string");
        else if (json_string_length(arg) > COMMAND_ARG_MAX_BYTES)
            po__doc_problem(d, item, "has %zu bytes; at most %d are allowed",
                            json_string_length(arg), COMMAND_ARG_MAX_BYTES);
        else if (i == 0 && json_string_length(arg) == 0)
            po__doc_problem(d, item, "is empty; name the program");
        else if (i == 0)
            check_program(d, item, cap, json_string_value(arg), cwd);
    }
}

static bool variable_ok(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    return true;
}

static void check_env(struct po__doc *d, const char *at, json_t *cap)
{
    char p[PO__SPEC_POINTER_MAX_BYTES], item[PO__SPEC_POINTER_MAX_BYTES];
    json_t *env = typed(cap, "env", JSON_OBJECT), *value;
    const char *name;
    po__doc_pointer_key(p, at, "env");
    if (json_object_size(env) > COMMAND_ENV_MAX)
        po__doc_problem(d, p, "has %zu variables; at most %d are allowed", json_object_size(env),
                        COMMAND_ENV_MAX);
    json_object_foreach(env, name, value)
    {
        po__doc_pointer_key(item, p, name);
        if (!variable_ok(name))
            po__doc_problem(d, item, "is not a variable name; use letters, digits and '_'");
        else if (strncmp(name, "PO_", 3) == 0)
            po__doc_problem(d, item, "names beginning with PO_ are reserved; use another one");
        if (!json_is_string(value))
            po__doc_problem(d, item, "must be a string");
    }
}

static void check_codes(struct po__doc *d, const char *at, json_t *cap)
{
    char p[PO__SPEC_POINTER_MAX_BYTES], item[PO__SPEC_POINTER_MAX_BYTES];
    const json_t *codes = typed(cap, "final_exit_codes", JSON_ARRAY), *code;
    size_t i;
    po__doc_pointer_key(p, at, "final_exit_codes");
    if (json_array_size(codes) > FINAL_CODES_MAX)
        po__doc_problem(d, p, "has %zu codes; at most %d are allowed", json_array_size(codes),
                        FINAL_CODES_MAX);
    json_array_foreach(codes, i, code)
    {
        json_int_t n = json_integer_value(code);
        po__doc_pointer_index(item, p, i);
        if (!json_is_integer(code) || n < 1 || n > 255)
            po__doc_problem(d, item, "must be an exit code from 1 to 255");
    }
}

/* The folder that the command starts in: cwd, relative to the folder of the file. */
static char *working_folder(const char *file, const char *cwd)
{
    const char *slash = strrchr(file, '/');
    size_t len = slash ? (size_t)(slash - file) + 1 : 0;
    struct po__buf b = {0};
    if (!cwd || *cwd != '/')
        po__buf_append(&b, len ? file : "./", len ? len : 2);
    if (cwd)
        po__buf_append(&b, cwd, strlen(cwd));
    po__buf_append(&b, "", 1);
    if (b.err)
        po__buf_fini(&b);
    return (char *)b.data;
}

static int check_capability(struct po__doc *d, const char *at, json_t *cap)
{
    po__doc_object(d, at, cap, capability_keys, COUNT(capability_keys));
    if (!json_is_object(cap))
        return 0;
    char *cwd = working_folder(d->file, text_of(cap, "cwd"));
    if (!cwd)
        return PO_ENOMEM;
    struct stat st;
    if (stat(cwd, &st) != 0 || !S_ISDIR(st.st_mode)) {
        char p[PO__SPEC_POINTER_MAX_BYTES];
        po__doc_pointer_key(p, at, "cwd");
        po__doc_problem(d, p, "%.256s is not a folder that can be entered", cwd);
    } else {
        check_command(d, at, cap, cwd);
    }
    po__free(cwd);
    check_texts(d, at, cap);
    check_env(d, at, cap);
    check_codes(d, at, cap);
    return 0;
}

static void check_duplicates(struct po__doc *d, const json_t *caps)
{
    size_t i;
    const json_t *cap;
    json_array_foreach(caps, i, cap)
    {
        const char *name = text_of(cap, "name");
        for (size_t j = 0; name && j < i; j++) {
            const char *other = text_of(json_array_get(caps, j), "name");
            if (!other || strcmp(name, other) != 0)
                continue;
            char p[PO__SPEC_POINTER_MAX_BYTES];
            snprintf(p, sizeof p, "/capabilities/%zu/name", i);
            po__doc_problem(d, p, "\"%s\" is already offered at /capabilities/%zu", name, j);
            break;
        }
    }
}

/* Each slot is a thread of the worker: a task in a slot without one would wait while its time runs.
 */
static void check_slots(struct po__doc *d, const json_t *caps)
{
    size_t i;
    const json_t *cap;
    json_int_t slots = 0;
    json_array_foreach(caps, i, cap)
    {
        const json_t *n = json_object_get(cap, "max_concurrency");
        slots += json_is_integer(n) && json_integer_value(n) <= PO_CONCURRENCY_MAX
                     ? json_integer_value(n)
                     : 1;
    }
    if (slots > COMMANDS_AT_ONCE_MAX)
        po__doc_problem(d, "/capabilities",
                        "max_concurrency adds up to %lld; one worker runs at most %d commands at "
                        "once, so lower some or start another worker",
                        (long long)slots, COMMANDS_AT_ONCE_MAX);
}

static void check_labels(struct po__doc *d, json_t *labels)
{
    const char *key;
    json_t *value;
    if (json_object_size(labels) > PO_LABELS_MAX)
        po__doc_problem(d, "/labels", "has %zu labels; at most %d are allowed",
                        json_object_size(labels), PO_LABELS_MAX);
    json_object_foreach(labels, key, value)
    {
        char p[PO__SPEC_POINTER_MAX_BYTES];
        po__doc_pointer_key(p, "/labels", key);
        if (!po__name_ok(po__str(key)))
            po__doc_problem(d, p, "the key is not a name; use letters, digits, '.', '_' and '-'");
        if (!json_is_string(value) || json_string_length(value) > PO_NAME_MAX_BYTES)
            po__doc_problem(d, p, "must be a string of at most %d bytes", PO_NAME_MAX_BYTES);
    }
}

static int check_file(struct po__doc *d, json_t *root)
{
    po__doc_object(d, "", root, file_keys, COUNT(file_keys));
    const json_t *caps = typed(root, "capabilities", JSON_ARRAY);
    size_t i;
    json_t *cap;
    if (json_array_size(caps) > PO_CAPABILITIES_MAX) {
        po__doc_problem(d, "/capabilities", "has %zu entries; at most %d are allowed",
                        json_array_size(caps), PO_CAPABILITIES_MAX);
        return 0;
    }
    json_array_foreach(caps, i, cap)
    {
        char at[PO__SPEC_POINTER_MAX_BYTES];
        snprintf(at, sizeof at, "/capabilities/%zu", i);
        if (check_capability(d, at, cap) || schemas_check(d, at, i))
            return PO_ENOMEM;
    }
    check_duplicates(d, caps);
    check_slots(d, caps);
    check_labels(d, typed(root, "labels", JSON_OBJECT));
    resources_check(d, typed(root, "resources", JSON_OBJECT));
    return d->problems.err ? PO_ENOMEM : d->count ? PO_EINVAL : 0;
}

/* ---- after the checks: build what the runner needs ---- */

static bool reserved(const char *entry)
{
    static const char *const names[] = {
#define X(id, name) name "=",
        TASK_ENV(X)
#undef X
    };
    for (unsigned i = 0; i < COUNT(names); i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool overridden(json_t *env, const char *entry)
{
    char name[256];
    size_t len = strcspn(entry, "=");
    if (len >= sizeof name)
        return false;
    memcpy(name, entry, len);
    name[len] = '\0';
    return json_object_get(env, name) != NULL;
}

static char *assignment(const char *name, const char *value)
{
    size_t size = strlen(name) + strlen(value) + 2;
    char *s = po__malloc(size);
    if (s)
        snprintf(s, size, "%s=%s", name, value);
    return s;
}

static int build_env(struct command *c, json_t *env, char **inherited)
{
    size_t n = json_object_size(env);
    for (char **e = inherited; *e; e++)
        n++;
    c->envp = po__calloc(n + 1, sizeof *c->envp);
    if (!c->envp)
        return PO_ENOMEM;
    for (char **e = inherited; *e; e++) {
        if (reserved(*e) || overridden(env, *e))
            continue;
        if (!(c->envp[c->envp_count] = po__strndup(*e, strlen(*e))))
            return PO_ENOMEM;
        c->envp_count++;
    }
    const char *name;
    json_t *value;
    json_object_foreach(env, name, value)
    {
        if (!(c->envp[c->envp_count] = assignment(name, json_string_value(value))))
            return PO_ENOMEM;
        c->envp_count++;
    }
    return 0;
}

static int build_command(struct command *c, const json_t *cap, const char *file, char **inherited)
{
    const json_t *words = json_object_get(cap, "command"), *item;
    const json_t *codes = json_object_get(cap, "final_exit_codes");
    size_t i;
    c->cwd = working_folder(file, text_of(cap, "cwd"));
    c->argv = po__calloc(json_array_size(words) + 1, sizeof *c->argv);
    if (!c->cwd || !c->argv)
        return PO_ENOMEM;
    json_array_foreach(words, i, item) c->argv[i] = (char *)json_string_value(item);
    c->final_codes[EX_USAGE_CODE] = c->final_codes[EX_DATAERR_CODE] = codes == NULL;
    json_array_foreach(codes, i, item) c->final_codes[json_integer_value(item)] = true;
    c->timeout_ms = (uint32_t)json_integer_value(json_object_get(cap, "timeout_ms"));
    if (build_env(c, json_object_get(cap, "env"), inherited))
        return PO_ENOMEM;
    c->capability = (struct po_capability){
        .size = sizeof c->capability,
        .name = text_of(cap, "name"),
        .version = text_of(cap, "version"),
        .input_schema = c->input_schema,
        .output_schema = c->output_schema,
        .requires_gpu = json_is_true(json_object_get(cap, "requires_gpu")),
        .max_concurrency = (uint32_t)json_integer_value(json_object_get(cap, "max_concurrency")),
    };
    return 0;
}

static int build(struct capabilities *c, const struct po__doc *d, char **inherited)
{
    const json_t *caps = json_object_get(c->root, "capabilities"), *cap;
    json_t *labels = json_object_get(c->root, "labels"), *value;
    const char *key;
    size_t i;
    c->commands = po__calloc(json_array_size(caps), sizeof *c->commands);
    if (!c->commands)
        return PO_ENOMEM;
    c->count = (unsigned)json_array_size(caps);
    json_array_foreach(caps, i, cap)
    {
        struct command *cmd = &c->commands[i];
        if (schemas_text(&cmd->input_schema, d->text, i, "input_schema") ||
            schemas_text(&cmd->output_schema, d->text, i, "output_schema") ||
            build_command(cmd, cap, d->file, inherited))
            return PO_ENOMEM;
    }
    json_object_foreach(labels, key, value) c->labels[c->labels_count++] =
        (struct po_label){.key = key, .value = json_string_value(value)};
    c->resources_count = resources_build(c->resources, json_object_get(c->root, "resources"));
    c->slots = (uint32_t)json_integer_value(json_object_get(c->root, "slots"));
    return 0;
}

int capabilities_load(struct capabilities *c, struct po__doc *d, const char *path, char **inherited)
{
    struct po__buf text = {0};
    char why[256];
    *c = (struct capabilities){0};
    d->file = path;
    int rv = PO_EINVAL;
    if (!file_read(&text, path, PO__SPEC_MAX_BYTES, why, sizeof why)) {
        po__doc_problem(d, "", "%s", why);
        goto out;
    }
    c->root = po__doc_parse(d, (const char *)text.data, text.len);
    if (c->root)
        rv = check_file(d, c->root);
    if (!rv)
        rv = build(c, d, inherited);
    d->text = po__slice(NULL, 0);
out:
    po__buf_fini(&text);
    if (rv)
        capabilities_fini(c);
    return rv;
}

void capabilities_fini(struct capabilities *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        struct command *cmd = &c->commands[i];
        for (unsigned e = 0; e < cmd->envp_count; e++)
            po__free(cmd->envp[e]);
        po__free(cmd->envp);
        po__free(cmd->argv);
        po__free(cmd->cwd);
        po__free(cmd->input_schema);
        po__free(cmd->output_schema);
    }
    po__free(c->commands);
    json_decref(c->root);
    *c = (struct capabilities){0};
}
