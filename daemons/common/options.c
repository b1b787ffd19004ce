/* The order of reading: defaults, then the flags (they name the config file), then file and
 * environment. Since flags are read before the sources that they override, a value is stored only
 * if nothing stronger was stored already; it is checked anyway. */
#include "options.h"

#include <pipeorch/version.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/assert.h"
#include "spec/spec.h"

static int find(const struct opt_tool *tool, const char *name)
{
    for (unsigned i = 0; i < tool->count; i++)
        if (strcmp(tool->options[i].name, name) == 0)
            return (int)i;
    return -1;
}

void opt__kebab(char *out, size_t len, const char *name)
{
    snprintf(out, len, "%s", name);
    for (; *out; out++)
        if (*out == '_')
            *out = '-';
}

void opt__problem(struct opt_run *run, const char *place, const char *fmt, ...)
{
    char what[PO__SPEC_PROBLEM_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (run->problems_count++)
        po__buf_append(&run->problems, "\n", 1);
    po__buf_printf(&run->problems, "%s: %s", place, what);
}

void opt_problem(struct opt_run *run, const char *name, const char *fmt, ...)
{
    char what[PO__SPEC_PROBLEM_MAX_BYTES], flag[64], place[OPT_PLACE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    opt__kebab(flag, sizeof flag, name);
    int i = find(run->tool, name);
    if (i >= 0 && run->values[i].place)
        snprintf(place, sizeof place, "%s", run->values[i].place);
    else
        snprintf(place, sizeof place, "--%s", flag);
    opt__problem(run, place, "%s", what);
}

bool opt_given(const struct opt_run *run, const char *name)
{
    int i = find(run->tool, name);
    return i >= 0 && run->values[i].given;
}

/* One value from one source. What a stronger source gave stays, but the weaker value must be right
 * too. */
void opt__take(struct opt_run *run, unsigned index, enum opt_source source, const char *place,
               const char *text)
{
    char why[PO__SPEC_PROBLEM_MAX_BYTES - 64];
    bool weaker = run->values[index].given && run->values[index].source > source;
    if (weaker) {
        uint64_t settings[OPT_SETTINGS_MAX_BYTES / sizeof(uint64_t)] = {0};
        struct opt_run trial = {.tool = run->tool, .settings = settings};
        if (!opt__store(&trial, index, text, why, sizeof why))
            opt__problem(run, place, "%s", why);
        po__free(trial.values[index].text);
        return;
    }
    if (!opt__store(run, index, text, why, sizeof why))
        opt__problem(run, place, "%s", why);
    if (source == OPT_DEFAULT)
        return;
    po__free(run->values[index].place);
    run->values[index].place = po__strndup(place, strlen(place));
    run->values[index].source = source;
    run->values[index].given = true;
}

/* ---- flags ---- */

/* Returns true if the flag was probably meant to have a value. */
static bool unknown_flag(struct opt_run *run, const char *place, const char *name)
{
    const char *names[OPT_OPTIONS_MAX + 3];
    unsigned n = 0;
    for (; n < run->tool->count; n++)
        names[n] = run->tool->options[n].name;
    names[n++] = "help";
    names[n++] = "version";
    if (run->tool->config_file)
        names[n++] = "config";
    const char *near = po__nearest(name, names, n);
    char flag[64];
    if (!near) {
        opt__problem(run, place, "unknown flag; %s --help lists them", run->tool->name);
        return false;
    }
    opt__kebab(flag, sizeof flag, near);
    opt__problem(run, place, "unknown flag; did you mean --%s?", flag);
    int meant = find(run->tool, near);
    return meant >= 0 ? run->tool->options[meant].type != OPT_BOOL : strcmp(near, "config") == 0;
}

static int find_flag(const struct opt_tool *tool, const char *name, size_t len)
{
    for (unsigned i = 0; i < tool->count; i++) {
        char flag[64];
        opt__kebab(flag, sizeof flag, tool->options[i].name);
        if (strlen(flag) == len && strncmp(flag, name, len) == 0)
            return (int)i;
    }
    return -1;
}

static int find_letter(const struct opt_tool *tool, char letter)
{
    for (unsigned i = 0; i < tool->count; i++)
        if (tool->options[i].letter == letter)
            return (int)i;
    return -1;
}

struct flag {
    const char *arg;   /* as written */
    size_t name_len;   /* of arg after the dashes */
    const char *name;  /* within arg */
    const char *value; /* after '=', NULL: none */
    int index;         /* in the table, -1: not there */
    char place[OPT_PLACE_MAX_BYTES];
};

static void split_flag(struct flag *f, const struct opt_tool *tool, const char *arg,
                       unsigned position)
{
    const char *eq = strchr(arg, '=');
    size_t shown = eq ? (size_t)(eq - arg) : strlen(arg);
    f->arg = arg;
    f->name = arg + (arg[1] == '-' ? 2 : 1);
    f->name_len = shown - (size_t)(f->name - arg);
    f->value = eq ? eq + 1 : NULL;
    f->index = arg[1] == '-'      ? find_flag(tool, f->name, f->name_len)
               : f->name_len == 1 ? find_letter(tool, f->name[0])
                                  : -1;
    snprintf(f->place, sizeof f->place, "argument %u, %.*s", position,
             (int)(shown < 128 ? shown : 128), arg);
}

static bool is(const struct flag *f, const char *name)
{
    return strlen(name) == f->name_len && strncmp(name, f->name, f->name_len) == 0;
}

/* Is its first word meant? So it is if no argument, or another flag, follows. */
static bool is_bare(const struct opt_tool *tool, const struct flag *f, const char *next)
{
    return f->index >= 0 && !f->value && tool->options[f->index].flags & OPT_BARE &&
           (!next || next[0] == '-');
}

/* Returns how many arguments the flag used: 1, or 2 with a value of its own. */
static unsigned read_flag(struct opt_run *run, char **argv, unsigned position)
{
    struct flag f;
    split_flag(&f, run->tool, argv[position], position);
    if (f.index < 0 && !f.value && (is(&f, "help") || is(&f, "h"))) {
        run->help = true;
        return 1;
    }
    if (f.index < 0 && !f.value && is(&f, "version")) {
        run->version = true;
        return 1;
    }
    bool config = f.index < 0 && run->tool->config_file && is(&f, "config");
    if (f.index < 0 && !config) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)f.name_len, f.name);
        bool wants_value = unknown_flag(run, f.place, name);
        const char *next = argv[position + 1];
        return wants_value && !f.value && next && next[0] != '-' ? 2 : 1;
    }
    unsigned used = 1;
    char first[32];
    if (!f.value && !config && run->tool->options[f.index].type == OPT_BOOL)
        f.value = "true";
    if (is_bare(run->tool, &f, argv[position + 1])) {
        const char *words = run->tool->options[f.index].values;
        snprintf(first, sizeof first, "%.*s", (int)strcspn(words, "|"), words);
        f.value = first;
    }
    if (!f.value) {
        f.value = argv[position + 1];
        used = 2;
    }
    if (!f.value) {
        opt__problem(run, f.place, "a value must follow");
        return 1;
    }
    if (config ? run->config != NULL : run->values[f.index].given)
        opt__problem(run, f.place, "is given twice; remove one");
    else if (config && !*f.value)
        opt__problem(run, f.place, "is empty");
    else if (config)
        run->config = f.value;
    else
        opt__take(run, (unsigned)f.index, OPT_FLAG, f.place, f.value);
    return used;
}

static void read_word(struct opt_run *run, const char *word, unsigned position)
{
    char place[OPT_PLACE_MAX_BYTES];
    snprintf(place, sizeof place, "argument %u, \"%.128s\"", position, word);
    if (!run->tool->words)
        opt__problem(run, place, "is no flag; %s takes flags only", run->tool->name);
    else if (run->words_count == OPT_WORDS_MAX)
        opt__problem(run, place, "is one too many; at most %d are allowed", OPT_WORDS_MAX);
    else
        run->words[run->words_count++] = word;
}

static void read_flags(struct opt_run *run, char **argv)
{
    bool flags = true;
    for (unsigned i = 1; argv[0] && argv[i];) {
        if (flags && strcmp(argv[i], "--") == 0) {
            flags = false;
            i++;
        } else if (flags && argv[i][0] == '-' && argv[i][1]) {
            i += read_flag(run, argv, i);
        } else {
            read_word(run, argv[i], i);
            i++;
        }
    }
}

/* ---- all of it ---- */

static void check_required(struct opt_run *run)
{
    for (unsigned i = 0; i < run->tool->count; i++)
        if (run->tool->options[i].flags & OPT_ALONE && run->values[i].given)
            return;
    for (unsigned i = 0; i < run->tool->count; i++) {
        const struct opt *o = &run->tool->options[i];
        if (!(o->flags & OPT_REQUIRED) || run->values[i].given)
            continue;
        char flag[64], variable[64];
        opt__kebab(flag, sizeof flag, o->name);
        opt__variable(variable, sizeof variable, o->name);
        char place[80];
        snprintf(place, sizeof place, "--%s", flag);
        if (run->tool->config_file)
            opt__problem(run, place, "is missing; give the flag, %s, or \"%s\" in the config file",
                         variable, o->name);
        else
            opt__problem(run, place, "is missing; give the flag or %s", variable);
    }
}

bool opt_read(struct opt_run *run, const struct opt_tool *tool, void *settings, char **argv,
              char **envp)
{
    *run = (struct opt_run){.tool = tool, .settings = settings};
    PO_PRE(tool->count <= OPT_OPTIONS_MAX);
    for (unsigned i = 0; i < tool->count; i++) {
        PO_PRE(tool->options[i].offset + sizeof(uint64_t) <= OPT_SETTINGS_MAX_BYTES);
        if (tool->options[i].fallback)
            opt__take(run, i, OPT_DEFAULT, "default", tool->options[i].fallback);
    }
    read_flags(run, argv);
    if (run->help || run->version)
        return true;
    opt__read_env(run, envp);
    if (run->config)
        opt__read_file(run, run->config);
    check_required(run);
    return run->problems_count == 0;
}

void opt_fini(struct opt_run *run)
{
    for (unsigned i = 0; i < OPT_OPTIONS_MAX; i++) {
        po__free(run->values[i].text);
        po__free(run->values[i].place);
    }
    po__buf_fini(&run->problems);
}

void opt_add_problems(struct opt_run *run, const struct po__buf *lines, unsigned count)
{
    if (lines->len) {
        if (run->problems_count)
            po__buf_append(&run->problems, "\n", 1);
        po__buf_append(&run->problems, lines->data, lines->len);
    }
    run->problems_count += count;
}

static int refuse(const struct opt_run *run)
{
    if (run->problems.err)
        fprintf(stderr, "%s: out of memory while listing what is wrong\n", run->tool->name);
    const char *p = (const char *)run->problems.data, *end = p + run->problems.len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        fprintf(stderr, "%s: %.*s\n", run->tool->name, (int)n, p);
        p += n + 1;
    }
    return 2;
}

int opt_finish(struct opt_run *run)
{
    const struct opt_tool *tool = run->tool;
    if (run->version) {
        printf("%s %s\n", tool->name, po_version());
        return fflush(stdout) ? 1 : 0;
    }
    if (run->help) {
        struct po__buf page = {0};
        opt_help(&page, tool);
        bool ok =
            !page.err && fwrite(page.data, 1, page.len, stdout) == page.len && !fflush(stdout);
        po__buf_fini(&page);
        return ok ? 0 : 1;
    }
    return run->problems_count ? refuse(run) : -1;
}
