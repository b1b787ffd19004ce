/* pipeline validate, define, export, run, resume, show, wait, cancel, list, runs */
#include <ctype.h>
#include <pipeorch/draw.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../common/files.h"
#include "ctl.h"
#include "run.h"
#include "spec/spec.h"
#include "table.h"

static const char *file_name(const struct ctl *ctl)
{
    return strcmp(ctl->arg, "-") == 0 ? "(standard input)" : ctl->arg;
}

/* Reads and checks the document. Every problem goes to stderr, or, if `listed` is given, there: one
 * per line, to be released with po_free. */
static int read_document(const struct ctl *ctl, struct po__buf *text, char **listed)
{
    char why[256], *problems = NULL;
    if (!file_read(text, ctl->arg, PO__SPEC_MAX_BYTES, why, sizeof why))
        return ctl_usage(ctl, "%s: %s", file_name(ctl), why);
    int rv = po_pipeline_validate((const char *)text->data, text->len, file_name(ctl), &problems);
    if (rv == 0)
        return EXIT_DONE;
    if (listed && problems) {
        *listed = problems;
        return EXIT_USAGE;
    }
    print_clean(stderr, problems ? problems : po_strerror(rv), true);
    fputc('\n', stderr);
    po_free(problems);
    return EXIT_USAGE;
}

/* {"valid": ..., "problems": [...]}: problems is empty, or one to a line. */
static int print_verdict(const char *problems)
{
    json_t *list = json_array();
    for (const char *end; *problems; problems = end + (*end == '\n')) {
        end = problems + strcspn(problems, "\n");
        json_array_append_new(list, json_stringn(problems, (size_t)(end - problems)));
    }
    json_t *verdict =
        json_pack("{s:b, s:o}", "valid", json_array_size(list) == 0, "problems", list);
    int rv = verdict ? ctl_print_json(verdict) : EXIT_REFUSED;
    json_decref(verdict);
    return rv;
}

static int validate(struct ctl *ctl)
{
    struct po__buf text = {0};
    char *problems = NULL;
    int rv = read_document(ctl, &text, ctl_json(ctl) ? &problems : NULL);
    if (ctl_json(ctl) && (!rv || problems)) {
        int printed = print_verdict(problems ? problems : "");
        rv = rv ? rv : printed;
    } else if (!rv) {
        printf("%s: valid\n", file_name(ctl));
        rv = ctl_out(ctl, 0);
    }
    po_free(problems);
    po__buf_fini(&text);
    return rv;
}

static int define(struct ctl *ctl)
{
    struct po__buf text = {0};
    struct po_call_opts opts = ctl_opts(ctl);
    int rv = read_document(ctl, &text, NULL);
    if (!rv) {
        int code = po_pipeline_define(ctl->client, (const char *)text.data, text.len, &opts);
        rv = code ? ctl_fail(ctl, code) : EXIT_DONE;
    }
    po__buf_fini(&text);
    return rv;
}

/* ---- runs ---- */

static int ask_run(const struct ctl *ctl, uint64_t id, json_t **run)
{
    return ctl_ask(ctl, (struct po_query){.what = PO_QUERY_RUN, .id = id}, NULL, run);
}

static int wait_for(const struct ctl *ctl, uint64_t id)
{
    struct po_call_opts opts = ctl_wait_opts(ctl);
    json_t *run;
    int rv = po_run_wait(ctl->client, id, &opts, NULL, NULL);
    if (rv)
        return ctl_fail(ctl, rv);
    rv = ask_run(ctl, id, &run);
    if (rv)
        return rv;
    rv = run_print(ctl, run);
    if (!rv)
        rv = run_verdict(ctl, run);
    json_decref(run);
    return rv;
}

static int wait_run(struct ctl *ctl)
{
    uint64_t id;
    return ctl_id(ctl, &id) ? wait_for(ctl, id) : EXIT_USAGE;
}

/* A run that has begun: its id, or, with --wait, its end. */
static int begun(const struct ctl *ctl, uint64_t id)
{
    if (ctl->s->wait) {
        fprintf(stderr, "run %llu started\n", (unsigned long long)id);
        return wait_for(ctl, id);
    }
    printf(ctl_json(ctl) ? "{\"id\": %llu}\n" : "%llu\n", (unsigned long long)id);
    return ctl_out(ctl, 0);
}

static int start_with(const struct ctl *ctl, const char *params)
{
    struct po_call_opts opts = ctl_opts(ctl);
    struct po_run_opts run = {.size = sizeof run,
                              .pipeline = ctl->arg,
                              .params = params,
                              .zone = ctl->s->zone,
                              .priority = (uint32_t)ctl->s->priority};
    uint64_t id = 0;
    int rv = po_run_start_with(ctl->client, &run, &opts, &id);
    return rv ? ctl_fail(ctl, rv) : begun(ctl, id);
}

static int resume(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id, again = 0;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = po_run_resume(ctl->client, id, ctl->s->from_step, &opts, &again);
    return rv ? ctl_fail(ctl, rv) : begun(ctl, again);
}

static int run(struct ctl *ctl)
{
    struct po__buf keep = {0};
    const char *params;
    int rv = ctl_payload(ctl, "params", ctl->s->params, ctl->s->params_file, &keep, &params);
    if (!rv)
        rv = start_with(ctl, params);
    po__buf_fini(&keep);
    return rv;
}

static int cancel(struct ctl *ctl)
{
    return ctl_on_id(ctl, po_run_cancel);
}

/* ---- definitions ---- */

static int export_definition(struct ctl *ctl)
{
    json_t *answer;
    int rv =
        ctl_ask(ctl, (struct po_query){.what = PO_QUERY_PIPELINE, .name = ctl->arg}, NULL, &answer);
    if (rv)
        return rv;
    json_t *document = po__spec_document(answer);
    json_decref(answer);
    rv = document ? ctl_print_json(document) : ctl_fail(ctl, PO_ENOMEM);
    json_decref(document);
    return rv;
}

static unsigned columns(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

/* Show --graph. */
static int draw(const struct ctl *ctl, const json_t *answer)
{
    const char *form = ctl->s->graph;
    char *text = json_dumps(answer, JSON_COMPACT), *picture;
    if (!text)
        return ctl_fail(ctl, PO_ENOMEM);
    int rv = po_draw(text, strlen(text),
                     strcmp(form, "dot") == 0   ? PO_DRAW_DOT
                     : strcmp(form, "svg") == 0 ? PO_DRAW_SVG
                                                : PO_DRAW_TEXT,
                     columns(), &picture);
    free(text);
    if (rv)
        return ctl_fail(ctl, rv);
    fputs(picture, stdout); /* ctl_out tells whether it failed */
    po_free(picture);
    return ctl_out(ctl, 0);
}

/* Digits alone are a run's id; everything else is a pipeline's name. */
static int show(struct ctl *ctl)
{
    bool digits = strspn(ctl->arg, "0123456789") == strlen(ctl->arg);
    uint64_t id = 0;
    json_t *a;
    if (digits && !ctl_id(ctl, &id))
        return EXIT_USAGE;
    if (ctl->s->graph && ctl_json(ctl))
        return ctl_usage(ctl, "--graph draws; it has no form in JSON");
    int rv = digits ? ask_run(ctl, id, &a)
                    : ctl_ask(ctl, (struct po_query){.what = PO_QUERY_PIPELINE, .name = ctl->arg},
                              NULL, &a);
    if (rv)
        return rv;
    rv = ctl->s->graph ? draw(ctl, a) : digits ? run_print(ctl, a) : definition_print(ctl, a);
    if (!rv && digits && !ctl->s->graph && !ctl_json(ctl))
        print_text(stdout, "error", text_of(a, "error"));
    json_decref(a);
    return rv;
}

static void row(struct table *t, const json_t *pipeline)
{
    table_text(t, text_of(pipeline, "name"));
    table_json(t, json_object_get(pipeline, "steps_count"));
    table_text(t, text_of(pipeline, "start_node"));
    table_text(t, text_of(pipeline, "label"));
}

static int list(struct ctl *ctl)
{
    return ctl_list(ctl, (struct po_query){.what = PO_QUERY_PIPELINES}, "pipelines",
                    "PIPELINE|STEPS|STARTS WITH|VERSION", row);
}

static int runs(struct ctl *ctl)
{
    struct po_query q = {.what = PO_QUERY_RUNS,
                         .id = ctl->s->after,
                         .limit = (uint32_t)ctl->s->limit,
                         .name = ctl->arg,
                         .name2 = ctl->s->state};
    return ctl_list(ctl, q, "runs", RUN_HEADS, run_row);
}

const struct verb pipeline_verbs[] = {
    {"pipeline validate", "FILE", "",
     "Check a pipeline document without a cluster. Every problem is listed with its line, column "
     "and JSON pointer; the exit code is then 2.",
     validate, true},
    {"pipeline define", "FILE", "",
     "Check a pipeline document and define it in the cluster, or replace the definition of that "
     "name. Runs under way keep the definition they began with.",
     define},
    {"pipeline export", "NAME", "stale",
     "Print the document that pipeline NAME can be defined with again, as the cluster has it: "
     "without descriptions, and with what aliases stand for.",
     export_definition},
    {"pipeline run", "NAME", "params params_file zone priority key wait",
     "Start a run of a defined pipeline and print its id. With --wait, wait for the end and show "
     "the steps; the exit code is 1 if the run did not succeed.",
     run},
    {"pipeline show", "NAME|RUN_ID", "graph stale",
     "Show the definition of pipeline NAME; or, if digits are given, the run of that id with each "
     "step's state, worker, zone, attempts and milliseconds. With --graph draw the steps: for the "
     "terminal, as Graphviz dot, or as SVG.",
     show},
    {"pipeline wait", "RUN_ID", "",
     "Wait until the run has ended and show it. The exit code is 1 if it did not succeed.",
     wait_run},
    {"pipeline resume", "RUN_ID", "from_step key wait",
     "Start a new run that goes on where a failed or cancelled one ended: what succeeded there is "
     "taken over, everything else runs. With --from-step, that step and all that follow it run "
     "again, of a run that succeeded, too. Prints the new run's id; with --wait, waits for its "
     "end.",
     resume},
    {"pipeline cancel", "RUN_ID", "", "Cancel a run and all of its tasks.", cancel},
    {"pipeline list", NULL, "stale", "Show all defined pipelines.", list},
    {"pipeline runs", "NAME", "state after limit stale",
     "Show runs in order of their ids: of all pipelines, or of one; with --state, only those.",
     runs, .optional = true},
    {NULL},
};
