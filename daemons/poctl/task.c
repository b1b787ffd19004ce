/* task submit, show, wait, cancel, explain, retry, list; fence */
#include <stdlib.h>
#include <string.h>

#include "../common/files.h"
#include "base/assert.h"
#include "demand.h"
#include "table.h"

static void task_row(struct table *t, const json_t *task)
{
    json_int_t ms = elapsed_ms(task, "created_ms", "finished_ms");
    table_json(t, json_object_get(task, "id"));
    table_text(t, text_of(task, "capability"));
    table_text(t, text_of(task, "state"));
    table_text(t, text_of(task, "worker_id"));
    table_text(t, text_of(task, "zone"));
    table_json(t, json_object_get(task, "attempts"));
    if (ms < 0)
        table_text(t, "-");
    else
        table_number(t, ms);
    table_json(t, json_object_get(task, "run_id"));
}

static const char heads[] = "TASK|CAPABILITY|STATE|WORKER|ZONE|ATTEMPTS|MS|RUN";

/* How far it is, until it is there. */
static void print_progress(const json_t *task)
{
    const json_t *progress = json_object_get(task, "progress");
    long long thousandths = (long long)json_integer_value(progress);
    long long bytes = (long long)number_of(task, "checkpoint_bytes");
    if (strcmp(text_of(task, "state"), "succeeded") == 0)
        return;
    if (json_is_integer(progress))
        printf("progress: %lld.%lld %%\n", thousandths / 10, thousandths % 10);
    if (bytes)
        printf("checkpoint: %lld bytes\n", bytes);
}

static int print_task(const struct ctl *ctl, const json_t *task)
{
    struct table t;
    if (ctl_json(ctl))
        return ctl_print_json(task);
    table_open(&t, heads);
    task_row(&t, task);
    int rv = table_close(&t, stdout);
    print_progress(task);
    print_value("input", json_object_get(task, "input"));
    print_value("result", json_object_get(task, "result"));
    return ctl_out(ctl, rv);
}

static int ask_task(const struct ctl *ctl, uint64_t id, json_t **task)
{
    return ctl_ask(ctl, (struct po_query){.what = PO_QUERY_TASK, .id = id}, NULL, task);
}

static int show(struct ctl *ctl)
{
    uint64_t id;
    json_t *task;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = ask_task(ctl, id, &task);
    if (rv)
        return rv;
    rv = print_task(ctl, task);
    if (!rv && !ctl_json(ctl))
        print_text(stdout, "error", text_of(task, "error"));
    json_decref(task);
    return rv;
}

/* The end of a task that was waited for: success, or why not. */
static int verdict(const struct ctl *ctl, const json_t *task)
{
    const char *state = text_of(task, "state"), *worker = text_of(task, "worker_id");
    if (strcmp(state, "succeeded") == 0)
        return EXIT_DONE;
    fprintf(stderr, "poctl %s: task %lld (%s) %s", ctl->verb->words,
            (long long)number_of(task, "id"), text_of(task, "capability"), state);
    if (*worker)
        fprintf(stderr, " on worker %s in zone %s", worker, text_of(task, "zone"));
    fprintf(stderr, " after %lld of %lld attempts", (long long)number_of(task, "attempts"),
            (long long)number_of(task, "attempts_max"));
    if (*text_of(task, "error")) {
        fputs(": ", stderr);
        print_clean(stderr, text_of(task, "error"), true);
    }
    fputc('\n', stderr);
    return EXIT_REFUSED;
}

static int wait_for(const struct ctl *ctl, uint64_t id)
{
    struct po_call_opts opts = ctl_wait_opts(ctl);
    json_t *task;
    int rv = po_task_wait(ctl->client, id, &opts, NULL);
    if (rv)
        return ctl_fail(ctl, rv);
    rv = ask_task(ctl, id, &task);
    if (rv)
        return rv;
    rv = print_task(ctl, task);
    if (!rv)
        rv = verdict(ctl, task);
    json_decref(task);
    return rv;
}

static int wait_task(struct ctl *ctl)
{
    uint64_t id;
    return ctl_id(ctl, &id) ? wait_for(ctl, id) : EXIT_USAGE;
}

static int submit_with(const struct ctl *ctl, const char *input)
{
    struct po_call_opts opts = ctl_opts(ctl);
    struct po_task_opts task = {
        .capability = ctl->arg, .input = input, .input_len = input ? strlen(input) : 0};
    struct demand demand = {.labels_text = NULL};
    uint64_t id = 0;
    int rv = demand_read(ctl, &demand, &task);
    if (!rv) {
        int code = po_submit_task(ctl->client, &task, &opts, &id);
        rv = code ? ctl_fail(ctl, code) : EXIT_DONE;
    }
    demand_fini(&demand);
    if (rv)
        return rv;
    if (ctl->s->wait) {
        fprintf(stderr, "task %llu submitted\n", (unsigned long long)id);
        return wait_for(ctl, id);
    }
    printf(ctl_json(ctl) ? "{\"id\": %llu}\n" : "%llu\n", (unsigned long long)id);
    return ctl_out(ctl, 0);
}

/* ---- many ---- */

#define BATCH_MAX_BYTES ((size_t)256 << 20)

struct lines {
    struct po_task_opts *tasks;
    size_t count, cap;
};

/* Every line that is not empty becomes a task like `one`. */
static bool split(struct lines *l, const struct po_task_opts *one, const struct po__buf *text)
{
    const char *at = (const char *)text->data, *end = at + text->len;
    for (const char *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop ? stop : end;
        if (stop == at)
            continue;
        if (l->count == l->cap) {
            size_t cap = l->cap ? l->cap * 2 : 256;
            struct po_task_opts *tasks = realloc(l->tasks, cap * sizeof *tasks);
            if (!tasks)
                return false;
            l->tasks = tasks;
            l->cap = cap;
        }
        l->tasks[l->count] = *one;
        l->tasks[l->count].input = at;
        l->tasks[l->count++].input_len = (size_t)(stop - at);
    }
    return true;
}

static int submit_lines(const struct ctl *ctl, const struct lines *l)
{
    struct po_call_opts opts = ctl_opts(ctl); /* the time is that of one message */
    int rv = EXIT_DONE;
    PO_INVARIANT(l->count > 0);
    uint64_t *ids = calloc(l->count, sizeof *ids);
    int *codes = calloc(l->count, sizeof *codes);
    if (!ids || !codes) {
        rv = ctl_fail(ctl, PO_ENOMEM);
    } else {
        int code = po_submit_tasks(ctl->client, l->tasks, l->count, &opts, ids, codes);
        rv = code ? ctl_fail(ctl, code) : EXIT_DONE;
        for (size_t i = 0; i < l->count; i++)
            printf(codes[i] ? "-\n" : "%llu\n", (unsigned long long)ids[i]);
    }
    free(ids);
    free(codes);
    return rv ? rv : ctl_out(ctl, 0);
}

static int submit_batch(const struct ctl *ctl)
{
    struct po__buf text = {0};
    struct lines l = {NULL, 0, 0};
    struct demand demand = {.labels_text = NULL};
    struct po_task_opts one = {.capability = ctl->arg};
    char why[256];
    int rv = demand_read(ctl, &demand, &one);
    if (!rv && !file_read(&text, ctl->s->batch, BATCH_MAX_BYTES, why, sizeof why))
        rv = ctl_usage(ctl, "%s: %s", ctl->s->batch, why);
    if (!rv && !split(&l, &one, &text))
        rv = ctl_fail(ctl, PO_ENOMEM);
    if (!rv && (l.count == 0 || l.count > PO_TASKS_BATCH_MAX))
        rv = ctl_usage(ctl, "%s: has %zu lines with a task; expected 1..%d", ctl->s->batch, l.count,
                       PO_TASKS_BATCH_MAX);
    rv = rv ? rv : submit_lines(ctl, &l);
    free(l.tasks);
    po__buf_fini(&text);
    demand_fini(&demand);
    return rv;
}

static int submit(struct ctl *ctl)
{
    struct po__buf keep = {0};
    const char *input;
    if (ctl->s->batch) {
        if (ctl->s->input || ctl->s->input_file || ctl->s->wait)
            return ctl_usage(ctl, "--batch brings the inputs and prints ids; leave out --input, "
                                  "--input-file and --wait");
        return submit_batch(ctl);
    }
    int rv = ctl_payload(ctl, "input", ctl->s->input, ctl->s->input_file, &keep, &input);
    if (!rv)
        rv = submit_with(ctl, input);
    po__buf_fini(&keep);
    return rv;
}

static int cancel(struct ctl *ctl)
{
    return ctl_on_id(ctl, po_task_cancel);
}

static int retry(struct ctl *ctl)
{
    return ctl_on_id(ctl, po_task_retry);
}

static int fence(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    if (!ctl->s->token)
        return ctl_usage(ctl, "--token is missing; a command of po-workerd finds it in "
                              "PO_FENCING_TOKEN");
    int rv = po_fence_check(ctl->client, id, ctl->s->token, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

static int explain(struct ctl *ctl)
{
    uint64_t id;
    json_t *a, *w;
    size_t i;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = ctl_ask(ctl, (struct po_query){.what = PO_QUERY_EXPLAIN, .id = id}, "workers", &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
        json_decref(a);
        return rv;
    }
    printf("task %llu (%s) is %s: ", (unsigned long long)id, text_of(a, "capability"),
           text_of(a, "state"));
    print_clean(stdout, text_of(a, "why"), true);
    putchar('\n');
    rv = 0;
    if (json_array_size(json_object_get(a, "workers"))) {
        struct table t;
        putchar('\n');
        table_open(&t, "WORKER|TURNED DOWN BY|WHY");
        json_array_foreach(json_object_get(a, "workers"), i, w)
        {
            const char *reason = text_of(w, "reason");
            table_text(&t, text_of(w, "worker_id"));
            table_text(&t, strcmp(reason, "fits") == 0 ? "-" : reason);
            table_text(&t, text_of(w, "why"));
        }
        rv = table_close(&t, stdout);
    }
    json_decref(a);
    return ctl_out(ctl, rv);
}

static int list(struct ctl *ctl)
{
    struct po_query q = {.what = PO_QUERY_TASKS,
                         .id = ctl->s->after,
                         .limit = (uint32_t)ctl->s->limit,
                         .name = ctl->s->state};
    return ctl_list(ctl, q, "tasks", heads, task_row);
}

const struct verb task_verbs[] = {
    {"task submit", "CAPABILITY",
     "input input_file batch zone attempts timeout_ms key wait require_zone gpu labels resources "
     "prefer "
     "priority run_at deadline retry_delay retry_delay_max concurrency_key concurrency rate keep",
     "Submit a durable task for CAPABILITY (verb:name, or verb:name@RANGE with a range of versions "
     "as ^1.2) and print its id. It waits in the queue "
     "until a worker offers the capability. With --wait, wait for the end and show the outcome; "
     "the exit code is 1 if the task did not succeed.",
     submit},
    {"task show", "ID", "stale",
     "Show one task with its progress, its input and its result or error.", show},
    {"task wait", "ID", "",
     "Wait until the task has ended and show it. The exit code is 1 if it did not succeed.",
     wait_task},
    {"task cancel", "ID", "",
     "Cancel a task that has not ended. A worker that runs it is told and ends its command; a "
     "result that comes too late is refused.",
     cancel},
    {"task explain", "ID", "stale",
     "Say what a task waits for; if for a worker, name each worker and what turned it down.",
     explain},
    {"task retry", "ID", "",
     "Give a failed or cancelled task all its attempts once more. Failed tasks are kept apart from "
     "the others for this: task list --state failed.",
     retry},
    {"fence", "ID", "token",
     "Ask whether --token is still the right to act for task ID: exit code 0, or 1 if the lease "
     "was "
     "lost. For scripts, right before they touch something outside.",
     fence},
    {"task list", NULL, "state after limit stale",
     "Show tasks in order of their ids: those that have not ended, and the latest that have.",
     list},
    {NULL},
};
