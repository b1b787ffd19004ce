/* sim */
#include <pipeorch/sim.h>

#include <stdlib.h>
#include <string.h>

#include "../common/files.h"
#include "ctl.h"
#include "spec/spec.h"
#include "table.h"

static int read_file(const struct ctl *ctl, const char *path, struct po__buf *text)
{
    char why[256];
    if (file_read(text, path, PO__SPEC_MAX_BYTES, why, sizeof why))
        return EXIT_DONE;
    return ctl_usage(ctl, "%s: %s", path, why);
}

static void print_runs(const json_t *runs, int *rv)
{
    struct table t;
    size_t i, k;
    const json_t *run, *step;
    table_open(&t, "RUN|STATE|MS|ATTEMPTS|SLOWEST STEP|ITS MS");
    json_array_foreach(runs, i, run)
    {
        json_int_t attempts = 0, slowest_ms = -1;
        const char *slowest = "";
        json_array_foreach(json_object_get(run, "steps"), k, step)
        {
            json_int_t ms = elapsed_ms(step, "started_ms", "finished_ms");
            attempts += number_of(step, "attempts");
            if (ms > slowest_ms) {
                slowest_ms = ms;
                slowest = text_of(step, "name");
            }
        }
        table_json(&t, json_object_get(run, "id"));
        table_text(&t, text_of(run, "state"));
        table_number(&t, elapsed_ms(run, "started_ms", "finished_ms"));
        table_number(&t, attempts);
        table_text(&t, slowest);
        table_number(&t, slowest_ms);
    }
    if (table_close(&t, stdout))
        *rv = -1;
}

static void print_counts(const json_t *counts, int *rv)
{
    struct table t;
    const char *key;
    json_t *value;
    table_open(&t, "WHAT HAPPENED|HOW OFTEN");
    json_object_foreach((json_t *)counts, key, value)
    {
        table_text(&t, key);
        table_json(&t, value);
    }
    if (table_close(&t, stdout))
        *rv = -1;
}

static int print_report(const struct ctl *ctl, const json_t *r)
{
    const char *failure = text_of(r, "failure");
    int rv = 0;
    if (ctl_json(ctl))
        return ctl_print_json(r);
    print_runs(json_object_get(r, "runs"), &rv);
    putchar('\n');
    print_counts(json_object_get(r, "counts"), &rv);
    printf("\nseed %lld, %s, %lld nodes: %lld ms of virtual time; %s\n",
           (long long)number_of(r, "seed"), text_of(r, "faults"), (long long)number_of(r, "nodes"),
           (long long)number_of(r, "virtual_ms"),
           *failure ? "a promise was broken:" : "nothing was lost");
    print_text(stdout, "failure", failure);
    return ctl_out(ctl, rv);
}

/* Exit code: did every run succeed, and was every promise kept? */
static int verdict(const json_t *r)
{
    size_t i;
    const json_t *run;
    int rv = json_is_true(json_object_get(r, "kept")) ? EXIT_DONE : EXIT_REFUSED;
    json_array_foreach(json_object_get(r, "runs"), i,
                       run) if (strcmp(text_of(run, "state"), "succeeded") != 0) rv = EXIT_REFUSED;
    return rv;
}

static int simulate(struct ctl *ctl, const struct po_sim_opts *o)
{
    char error[4096], *text = NULL;
    int rv = po_sim_run(o, &text, error, sizeof error);
    if (rv)
        return ctl_usage(ctl, "%s", *error ? error : po_strerror(rv));
    json_t *r = json_loads(text, 0, NULL);
    po_free(text);
    if (!r)
        return ctl_fail(ctl, PO_ENOMEM);
    rv = print_report(ctl, r);
    if (rv == EXIT_DONE)
        rv = verdict(r);
    json_decref(r);
    return rv;
}

static int sim(struct ctl *ctl)
{
    const struct poctl_settings *s = ctl->s;
    struct po__buf pipeline = {0}, workers = {0}, params = {0};
    const char *params_text = NULL;
    if (!s->pipeline)
        return ctl_usage(ctl, "--pipeline is missing; give the file of the pipeline");
    int rv = read_file(ctl, s->pipeline, &pipeline);
    if (rv == EXIT_DONE && s->workers)
        rv = read_file(ctl, s->workers, &workers);
    if (rv == EXIT_DONE)
        rv = ctl_payload(ctl, "params", s->params, s->params_file, &params, &params_text);
    if (rv == EXIT_DONE) {
        struct po_sim_opts o = {.size = sizeof o,
                                .pipeline = (const char *)pipeline.data,
                                .pipeline_len = pipeline.len,
                                .params = params_text,
                                .workers = s->workers ? (const char *)workers.data : NULL,
                                .workers_len = workers.len,
                                .faults = s->faults,
                                .seed = s->seed,
                                .nodes = (uint32_t)s->nodes,
                                .runs = (uint32_t)s->runs};
        rv = simulate(ctl, &o);
    }
    po__buf_fini(&pipeline);
    po__buf_fini(&workers);
    po__buf_fini(&params);
    return rv;
}

const struct verb sim_verbs[] = {
    {"sim", NULL, "pipeline workers faults seed nodes runs params params_file",
     "Run a pipeline on a simulated cluster and say what would have happened: failovers, retries, "
     "run time, anything lost. The control nodes are the real ones, on simulated clocks, disks and "
     "networks; workers take as long as their file says, and outputs are what it says, or else "
     "placeholders with the parts that the pipeline's templates name. No real time passes, and "
     "the same seed tells the same story. "
     "Presets of --faults: none; lan: a local network, nodes and workers die now and then; "
     "three-clouds: zones 50, 75 and 125 ms of round trip apart, links fail; disk: stalls, power "
     "cuts, errors, wrong reads; memory: allocations fail; chaos: everything at once.",
     sim, true},
    {0},
};
