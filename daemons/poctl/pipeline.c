/* pipeline validate, define, run, show, wait, cancel, list, runs */
#include <ctype.h>
#include <string.h>

#include "../common/files.h"
#include "ctl.h"
#include "graph.h"
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

static void duration(struct table *t, const json_t *object)
{
    json_int_t ms = elapsed_ms(object, "started_ms", "finished_ms");
    if (ms < 0)
        table_text(t, "-");
    else
        table_number(t, ms);
}

static void run_row(struct table *t, const json_t *run)
{
    table_json(t, json_object_get(run, "id"));
    table_text(t, text_of(run, "pipeline"));
    table_text(t, text_of(run, "state"));
    duration(t, run);
    table_text(t, text_of(run, "zone"));
}

static const char run_heads[] = "RUN|PIPELINE|STATE|MS|PREFERRED ZONE";

static int print_run(const struct ctl *ctl, const json_t *run)
{
    struct table t;
    size_t i;
    const json_t *step;
    if (ctl_json(ctl))
        return ctl_print_json(run);
    table_open(&t, run_heads);
    run_row(&t, run);
    int rv = table_close(&t, stdout);
    putchar('\n');
    table_open(&t, "STEP|CAPABILITY|STATE|WORKER|ZONE|ATTEMPTS|MS|TASK");
    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        table_text(&t, text_of(step, "name"));
        table_text(&t, text_of(step, "capability"));
        table_text(&t, text_of(step, "state"));
        table_text(&t, text_of(step, "worker_id"));
        table_text(&t, text_of(step, "zone"));
        table_json(&t, json_object_get(step, "attempts"));
        duration(&t, step);
        table_json(&t, json_object_get(step, "task_id"));
    }
    if (table_close(&t, stdout))
        rv = -1;
    print_value("params", json_object_get(run, "params"));
    print_value("result", json_object_get(run, "result"));
    return ctl_out(ctl, rv);
}

/* The step at which a run came to its end without success. */
static const json_t *last_step(const json_t *run)
{
    size_t i;
    const json_t *step, *last = NULL;
    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        if (json_is_string(json_object_get(step, "state")))
            last = step;
    }
    return last;
}

static int verdict(const struct ctl *ctl, const json_t *run)
{
    const char *state = text_of(run, "state");
    const json_t *step = last_step(run);
    if (strcmp(state, "succeeded") == 0)
        return EXIT_DONE;
    fprintf(stderr, "poctl %s: run %lld of %s %s", ctl->verb->words,
            (long long)number_of(run, "id"), text_of(run, "pipeline"), state);
    if (step) {
        long long attempts = (long long)number_of(step, "attempts");
        fprintf(stderr, " at step \"%s\"", text_of(step, "name"));
        if (*text_of(step, "worker_id"))
            fprintf(stderr, " on worker %s in zone %s", text_of(step, "worker_id"),
                    text_of(step, "zone"));
        fprintf(stderr, " after %lld attempt%s", attempts, attempts == 1 ? "" : "s");
    }
    const char *error =
        step && *text_of(step, "error") ? text_of(step, "error") : text_of(run, "error");
    if (*error) {
        fputs(": ", stderr);
        print_clean(stderr, error, true);
    }
    fputc('\n', stderr);
    return EXIT_REFUSED;
}

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
    rv = print_run(ctl, run);
    if (!rv)
        rv = verdict(ctl, run);
    json_decref(run);
    return rv;
}

static int wait_run(struct ctl *ctl)
{
    uint64_t id;
    return ctl_id(ctl, &id) ? wait_for(ctl, id) : EXIT_USAGE;
}

static int start_with(const struct ctl *ctl, const char *params)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id = 0;
    int rv = po_run_start(ctl->client, ctl->arg, params, ctl->s->zone, &opts, &id);
    if (rv)
        return ctl_fail(ctl, rv);
    if (ctl->s->wait) {
        fprintf(stderr, "run %llu started\n", (unsigned long long)id);
        return wait_for(ctl, id);
    }
    printf(ctl_json(ctl) ? "{\"id\": %llu}\n" : "%llu\n", (unsigned long long)id);
    return ctl_out(ctl, 0);
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
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = po_run_cancel(ctl->client, id, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

/* ---- definitions ---- */

static int print_definition(const struct ctl *ctl, const json_t *pipeline)
{
    struct table t;
    size_t i;
    const json_t *step;
    if (ctl_json(ctl))
        return ctl_print_json(pipeline);
    printf("pipeline %s, starts with %s\n\n", text_of(pipeline, "name"),
           text_of(pipeline, "start_node"));
    table_open(&t, "STEP|CAPABILITY|NEXT|ATTEMPTS MAX|TIMEOUT MS");
    json_array_foreach(json_object_get(pipeline, "steps"), i, step)
    {
        table_text(&t, text_of(step, "name"));
        table_text(&t, text_of(step, "capability"));
        table_text(&t, text_of(step, "next_node"));
        table_json(&t, json_object_get(step, "attempts_max"));
        table_json(&t, json_object_get(step, "timeout_ms"));
    }
    return ctl_out(ctl, table_close(&t, stdout));
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
    rv = ctl->s->graph ? graph_show(ctl, a) : digits ? print_run(ctl, a) : print_definition(ctl, a);
    if (!rv && digits && !ctl->s->graph && !ctl_json(ctl))
        print_text(stdout, "error", text_of(a, "error"));
    json_decref(a);
    return rv;
}

static int list(struct ctl *ctl)
{
    json_t *a, *p;
    size_t i;
    int rv = ctl_ask(ctl, (struct po_query){.what = PO_QUERY_PIPELINES}, "pipelines", &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
        json_decref(a);
        return rv;
    }
    struct table t;
    table_open(&t, "PIPELINE|STEPS|STARTS WITH");
    json_array_foreach(json_object_get(a, "pipelines"), i, p)
    {
        table_text(&t, text_of(p, "name"));
        table_json(&t, json_object_get(p, "steps_count"));
        table_text(&t, text_of(p, "start_node"));
    }
    json_decref(a);
    return ctl_out(ctl, table_close(&t, stdout));
}

static int runs(struct ctl *ctl)
{
    json_t *a, *r;
    size_t i;
    struct po_query q = {
        .what = PO_QUERY_RUNS, .id = ctl->s->after, .limit = (uint32_t)ctl->s->limit};
    int rv = ctl_ask(ctl, q, NULL, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
        json_decref(a);
        return rv;
    }
    struct table t;
    table_open(&t, run_heads);
    json_array_foreach(json_object_get(a, "runs"), i, r) run_row(&t, r);
    rv = ctl_out(ctl, table_close(&t, stdout));
    if (number_of(a, "next"))
        fprintf(stderr, "there may be more: add --after %lld\n", (long long)number_of(a, "next"));
    json_decref(a);
    return rv;
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
    {"pipeline run", "NAME", "params params_file zone key wait",
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
    {"pipeline cancel", "RUN_ID", "", "Cancel a run and the task of its current step.", cancel},
    {"pipeline list", NULL, "stale", "Show all defined pipelines.", list},
    {"pipeline runs", NULL, "after limit stale", "Show runs in order of their ids.", runs},
    {NULL},
};
