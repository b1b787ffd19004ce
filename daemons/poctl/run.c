#include "run.h"

#include <stdlib.h>
#include <string.h>

/* ---- runs ---- */

static void duration(struct table *t, const json_t *object)
{
    json_int_t ms = elapsed_ms(object, "started_ms", "finished_ms");
    if (ms < 0)
        table_text(t, "-");
    else
        table_number(t, ms);
}

void run_row(struct table *t, const json_t *run)
{
    char started[UTC_BYTES];
    table_json(t, json_object_get(run, "id"));
    table_text(t, text_of(run, "pipeline"));
    if (*text_of(run, "label"))
        table_text(t, text_of(run, "label"));
    else
        table_json(t, json_object_get(run, "version"));
    table_text(t, text_of(run, "state"));
    table_text(t, utc_of(started, json_object_get(run, "started_ms")));
    duration(t, run);
    table_text(t, text_of(run, "zone"));
}

static void chain_steps(struct table *t, const json_t *steps)
{
    size_t i;
    const json_t *step;
    table_open(t, "STEP|CAPABILITY|STATE|WORKER|ZONE|ATTEMPTS|MS|TASK");
    json_array_foreach(steps, i, step)
    {
        table_text(t, text_of(step, "name"));
        table_text(t, text_of(step, "capability"));
        table_text(t, text_of(step, "state"));
        table_text(t, text_of(step, "worker_id"));
        table_text(t, text_of(step, "zone"));
        table_json(t, json_object_get(step, "attempts"));
        duration(t, step);
        table_json(t, json_object_get(step, "task_id"));
    }
}

static void state_cell(struct table *t, const json_t *step)
{
    char text[64];
    const char *mark = json_is_true(json_object_get(step, "reused"))   ? ", reused"
                       : json_is_true(json_object_get(step, "cached")) ? ", cached"
                                                                       : "";
    snprintf(text, sizeof text, "%s%s", text_of(step, "state"), mark);
    table_text(t, text);
}

/* How far a map has come: "7/10", "7/10, 2 failed". */
static void items_cell(struct table *t, const json_t *items)
{
    char text[96] = "";
    json_int_t failed = number_of(items, "failed");
    if (json_is_object(items))
        snprintf(text, sizeof text, "%lld/%lld", (long long)number_of(items, "succeeded"),
                 (long long)number_of(items, "total"));
    if (failed)
        snprintf(text + strlen(text), sizeof text - strlen(text), ", %lld failed",
                 (long long)failed);
    table_text(t, text);
}

static void what_cell(struct table *t, const json_t *step)
{
    char text[PO_NAME_MAX_BYTES + 16];
    const char *pipeline = text_of(step, "pipeline");
    snprintf(text, sizeof text, "pipeline %s", pipeline);
    table_text(t, *pipeline ? text : text_of(step, "capability"));
}

static void graph_steps(struct table *t, const json_t *steps)
{
    size_t i;
    const json_t *step;
    table_open(t, "STEP|RUNS|STATE|ITEMS|WORKER|ZONE|ATTEMPTS|MS|TASK|CHILD RUN");
    json_array_foreach(steps, i, step)
    {
        table_text(t, text_of(step, "name"));
        what_cell(t, step);
        state_cell(t, step);
        items_cell(t, json_object_get(step, "items"));
        table_text(t, text_of(step, "worker_id"));
        table_text(t, text_of(step, "zone"));
        table_json(t, json_object_get(step, "attempts"));
        duration(t, step);
        table_json(t, json_object_get(step, "task_id"));
        table_json(t, json_object_get(step, "child_run_id"));
    }
}

/* The steps of graphs say what they depend on. */
static bool is_graph(const json_t *object)
{
    return json_object_get(json_array_get(json_object_get(object, "steps"), 0), "depends_on") !=
           NULL;
}

static void print_origin(const char *what, const json_t *run, const char *key)
{
    if (number_of(run, key))
        printf("%s run %lld\n", what, (long long)number_of(run, key));
}

static void print_errors(const json_t *steps)
{
    size_t i;
    const json_t *step;
    json_array_foreach(steps, i, step)
    {
        char title[PO_NAME_MAX_BYTES + 32];
        snprintf(title, sizeof title, "error of step \"%s\"", text_of(step, "name"));
        if (strcmp(text_of(step, "state"), "failed") == 0)
            print_text(stdout, title, text_of(step, "error"));
    }
}

int run_print(const struct ctl *ctl, const json_t *run)
{
    const json_t *steps = json_object_get(run, "steps");
    struct table t;
    if (ctl_json(ctl))
        return ctl_print_json(run);
    table_open(&t, RUN_HEADS);
    run_row(&t, run);
    int rv = table_close(&t, stdout);
    print_origin("goes on from", run, "resumed_from");
    print_origin("is a step of", run, "parent_run_id");
    putchar('\n');
    if (is_graph(run))
        graph_steps(&t, steps);
    else
        chain_steps(&t, steps);
    if (table_close(&t, stdout))
        rv = -1;
    print_value("params", json_object_get(run, "params"));
    print_value("result", json_object_get(run, "result"));
    if (is_graph(run))
        print_errors(steps);
    return ctl_out(ctl, rv);
}

/* The step at which the run of a chain came to its end without success. */
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

int run_verdict(const struct ctl *ctl, const json_t *run)
{
    const char *state = text_of(run, "state");
    const json_t *step = is_graph(run) ? NULL : last_step(run); /* a graph's error names its step */
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

/* ---- definitions ---- */

static void chain_definition(struct table *t, const json_t *steps)
{
    size_t i;
    const json_t *step;
    table_open(t, "STEP|CAPABILITY|NEXT|ATTEMPTS MAX|TIMEOUT MS");
    json_array_foreach(steps, i, step)
    {
        table_text(t, text_of(step, "name"));
        table_text(t, text_of(step, "capability"));
        table_text(t, text_of(step, "next_node"));
        table_json(t, json_object_get(step, "attempts_max"));
        table_json(t, json_object_get(step, "timeout_ms"));
    }
}

static void json_cell(struct table *t, const json_t *value)
{
    char *text =
        value && !json_is_null(value) ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    table_text(t, text);
    free(text); /* jansson's allocator */
}

static void graph_definition(struct table *t, const json_t *steps)
{
    size_t i;
    const json_t *step;
    table_open(t, "STEP|RUNS|DEPENDS ON|JOIN|WHEN|MAP|ATTEMPTS MAX|TIMEOUT MS");
    json_array_foreach(steps, i, step)
    {
        const char *join = text_of(step, "join");
        table_text(t, text_of(step, "name"));
        what_cell(t, step);
        table_json(t, json_object_get(step, "depends_on"));
        table_text(t, strcmp(join, "all_succeeded") == 0 ? "" : join);
        table_text(t, text_of(step, "when"));
        json_cell(t, json_object_get(step, "map"));
        table_json(t, json_object_get(step, "attempts_max"));
        table_json(t, json_object_get(step, "timeout_ms"));
    }
}

static int print_params(const json_t *params)
{
    struct table t;
    size_t i;
    const json_t *p;
    table_open(&t, "PARAM|TYPE|REQUIRED|DEFAULT");
    json_array_foreach(params, i, p)
    {
        table_text(&t, text_of(p, "name"));
        table_text(&t, text_of(p, "type"));
        table_json(&t, json_object_get(p, "required"));
        json_cell(&t, json_object_get(p, "default"));
    }
    int rv = table_close(&t, stdout);
    putchar('\n');
    return rv;
}

int definition_print(const struct ctl *ctl, const json_t *pipeline)
{
    const json_t *steps = json_object_get(pipeline, "steps");
    struct table t;
    int rv = 0;
    if (ctl_json(ctl))
        return ctl_print_json(pipeline);
    if (!is_graph(pipeline)) {
        printf("pipeline %s, starts with %s\n\n", text_of(pipeline, "name"),
               text_of(pipeline, "start_node"));
        chain_definition(&t, steps);
        return ctl_out(ctl, table_close(&t, stdout));
    }
    const char *label = text_of(pipeline, "label");
    printf("pipeline %s%s%s\n\n", text_of(pipeline, "name"), *label ? ", version " : "", label);
    if (json_array_size(json_object_get(pipeline, "params")))
        rv = print_params(json_object_get(pipeline, "params"));
    graph_definition(&t, steps);
    if (table_close(&t, stdout))
        rv = -1;
    print_value("output", json_object_get(pipeline, "output"));
    return ctl_out(ctl, rv);
}
