/* poctl: finds the command among the words, checks that its options belong to it, opens a client,
 * executes. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "ctl.h"
#include "replay.h"
#include "spec/spec.h"

static const struct verb *const groups[] = {
    cluster_verbs, member_verbs, task_verbs,   pipeline_verbs, schedule_verbs,
    backup_verbs,  sim_verbs,    replay_verbs, watch_verbs,    worker_verbs};
#define GROUPS    (sizeof groups / sizeof *groups)
#define VERBS_MAX 64

static const char common_options[] = "controllers output timeout";

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += len)
        if ((p == list || p[-1] == ' ') && (p[len] == '\0' || p[len] == ' '))
            return true;
    return false;
}

/* How many of the words given, from this one on, spell this command; 0: it is another one. */
static unsigned matches(const struct verb *v, const struct opt_run *run, unsigned from)
{
    const char *p = v->words;
    unsigned n = from;
    while (*p) {
        size_t len = strcspn(p, " ");
        if (n == run->words_count || strlen(run->words[n]) != len ||
            memcmp(run->words[n], p, len) != 0)
            return 0;
        n++;
        p += len + (p[len] == ' ');
    }
    return v->alone && run->words_count > n ? 0 : n;
}

static const struct verb *find_from(const struct opt_run *run, unsigned from, unsigned *words)
{
    for (unsigned g = 0; g < GROUPS; g++)
        for (const struct verb *v = groups[g]; v->words; v++)
            if ((*words = matches(v, run, from)) != 0)
                return v;
    return NULL;
}

/* Behind "replay" stands a command of its own, or any other that only asks. */
static const struct verb *find_verb(const struct opt_run *run, unsigned *words)
{
    const struct verb *v = find_from(run, 0, words);
    if (v || run->words_count < 2 || strcmp(run->words[0], "replay") != 0)
        return v;
    v = find_from(run, 1, words);
    return v ? replay_of(v) : NULL;
}

/* The commands of a group ("task") if its name is all that is right, else the nearest command. */
static void unknown_command(struct opt_run *run)
{
    char given[256], known[512] = "";
    const char *names[VERBS_MAX];
    unsigned n = 0;
    size_t len = 0;
    snprintf(given, sizeof given, "%.100s%s%.100s", run->words[0], run->words_count > 1 ? " " : "",
             run->words_count > 1 ? run->words[1] : "");
    for (unsigned g = 0; g < GROUPS; g++) {
        for (const struct verb *v = groups[g]; v->words && n < VERBS_MAX; v++) {
            size_t first = strcspn(v->words, " ");
            names[n++] = v->words;
            if (v->words[first] && strlen(run->words[0]) == first &&
                strncmp(v->words, run->words[0], first) == 0 && len < sizeof known)
                len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "",
                                        v->words + first + 1);
        }
    }
    if (strcmp(run->words[0], "replay") == 0) {
        opt__problem(run, given,
                     "unknown command; behind replay stands events, or a command that only asks, "
                     "as replay task show");
        return;
    }
    const char *near = po__nearest(given, names, n);
    if (!near)
        near = po__nearest(run->words[0], names, n);
    if (near)
        opt__problem(run, given, "unknown command; did you mean %s?", near);
    else if (len)
        opt__problem(run, given, "unknown command; %s has the commands %s", run->words[0], known);
    else
        opt__problem(run, given, "unknown command; poctl --help lists them");
}

static void check_options(struct opt_run *run, const struct verb *v)
{
    for (unsigned i = 0; i < run->tool->count; i++) {
        const char *name = run->tool->options[i].name;
        if (run->values[i].given && run->values[i].source == OPT_FLAG &&
            !has_word(common_options, name) && !has_word(v->options, name))
            opt_problem(run, name, "is no option of poctl %s; poctl %s --help lists them", v->words,
                        v->words);
    }
}

static void check_words(struct opt_run *run, const struct verb *v, unsigned words)
{
    unsigned wanted = words + (v->argument != NULL);
    if (run->words_count < wanted && !v->optional)
        opt__problem(run, v->words, "%s is missing; write poctl %s %s", v->argument, v->words,
                     v->argument);
    for (unsigned i = wanted; i < run->words_count; i++)
        opt__problem(run, v->words, "\"%.64s\" is one argument too many", run->words[i]);
}

static int print_help(const struct opt_run *run, const struct verb *v)
{
    struct po__buf page = {0};
    po__buf_printf(&page, "Usage: poctl %s%s%s%s [OPTION...]\n\n", v->words,
                   v->argument ? v->optional ? " [" : " " : "", v->argument ? v->argument : "",
                   v->optional ? "]" : "");
    opt_help_text(&page, v->help, 0);
    po__buf_printf(&page, "\nOptions:\n");
    for (unsigned i = 0; i < run->tool->count; i++) {
        const struct opt *o = &run->tool->options[i];
        if (has_word(v->options, o->name) ||
            (has_word(common_options, o->name) && !(v->offline && strcmp(o->name, "output") != 0)))
            opt_help_option(&page, o);
    }
    bool ok = !page.err && fwrite(page.data, 1, page.len, stdout) == page.len && !fflush(stdout);
    po__buf_fini(&page);
    return ok ? EXIT_DONE : EXIT_REFUSED;
}

static bool is_offline(const struct ctl *ctl, const struct verb *v)
{
    return v->offline || (v->offline_with && opt_given(ctl->run, v->offline_with));
}

static int execute(struct ctl *ctl)
{
    if (is_offline(ctl, ctl->verb))
        return ctl->verb->execute(ctl);
    struct po_client_opts opts = {.size = sizeof opts, .name = "poctl"};
    int rv = po_client_open(&ctl->client, ctl->s->controllers, &opts);
    if (rv)
        return ctl_fail(ctl, rv);
    rv = ctl->verb->execute(ctl);
    po_client_close(ctl->client);
    return rv;
}

static const struct verb *check(struct ctl *ctl)
{
    struct opt_run *run = ctl->run;
    unsigned words = 0;
    const struct verb *v = run->words_count ? find_verb(run, &words) : NULL;
    if (!run->words_count) {
        opt__problem(run, "no command", "poctl --help lists the commands");
    } else if (!v) {
        unknown_command(run);
    } else {
        check_words(run, v, words);
        check_options(run, v);
        if (!is_offline(ctl, v) && !opt_given(run, "controllers"))
            opt_problem(run, "controllers", "is missing; give the flag or PO_CONTROLLERS");
        if (ctl->s->key && strlen(ctl->s->key) > PO_KEY_MAX_BYTES)
            opt_problem(run, "key", "has %zu bytes; at most %d are allowed", strlen(ctl->s->key),
                        PO_KEY_MAX_BYTES);
        ctl->arg = v->argument && run->words_count > words ? run->words[words] : NULL;
    }
    return v;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct poctl_settings s = {0};
    struct opt_run run;
    struct ctl ctl = {.run = &run, .s = &s};
    unsigned words;
    opt_read(&run, &poctl_tool, &s, argv, environ);
    int code;
    if (run.help && run.words_count && (ctl.verb = find_verb(&run, &words)) != NULL) {
        code = print_help(&run, ctl.verb);
    } else {
        if (!run.help && !run.version)
            ctl.verb = check(&ctl);
        code = opt_finish(&run);
        if (code < 0) {
            PO_INVARIANT(ctl.verb); /* an unknown command is a problem */
            code = execute(&ctl);
        }
    }
    opt_fini(&run);
    return code;
}
