/* task submit, show, wait, cancel, list */
#include <string.h>

#include "ctl.h"
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

static int print_task(const struct ctl *ctl, const json_t *task)
{
    struct table t;
    if (ctl_json(ctl))
        return ctl_print_json(task);
    table_open(&t, heads);
    task_row(&t, task);
    int rv = table_close(&t, stdout);
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
        .size = sizeof task,
        .capability = ctl->arg,
        .input = input,
        .input_len = input ? strlen(input) : 0,
        .zone = ctl->s->zone,
        .attempts_max = (uint32_t)ctl->s->attempts,
        .timeout_ms = (uint32_t)ctl->s->timeout_ms,
    };
    uint64_t id = 0;
    int rv = po_submit_task(ctl->client, &task, &opts, &id);
    if (rv)
        return ctl_fail(ctl, rv);
    if (ctl->s->wait) {
        fprintf(stderr, "task %llu submitted\n", (unsigned long long)id);
        return wait_for(ctl, id);
    }
    printf(ctl_json(ctl) ? "{\"id\": %llu}\n" : "%llu\n", (unsigned long long)id);
    return ctl_out(ctl, 0);
}

static int submit(struct ctl *ctl)
{
    struct po__buf keep = {0};
    const char *input;
    int rv = ctl_payload(ctl, "input", ctl->s->input, ctl->s->input_file, &keep, &input);
    if (!rv)
        rv = submit_with(ctl, input);
    po__buf_fini(&keep);
    return rv;
}

static int cancel(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = po_task_cancel(ctl->client, id, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

static int list(struct ctl *ctl)
{
    json_t *a, *task;
    size_t i;
    struct po_query q = {.what = PO_QUERY_TASKS,
                         .id = ctl->s->after,
                         .limit = (uint32_t)ctl->s->limit,
                         .name = ctl->s->state};
    int rv = ctl_ask(ctl, q, NULL, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
        json_decref(a);
        return rv;
    }
    struct table t;
    table_open(&t, heads);
    json_array_foreach(json_object_get(a, "tasks"), i, task) task_row(&t, task);
    rv = ctl_out(ctl, table_close(&t, stdout));
    if (number_of(a, "next"))
        fprintf(stderr, "there may be more: add --after %lld\n", (long long)number_of(a, "next"));
    json_decref(a);
    return rv;
}

const struct verb task_verbs[] = {
    {"task submit", "CAPABILITY", "input input_file zone attempts timeout_ms key wait",
     "Submit a durable task for CAPABILITY (verb:name) and print its id. It waits in the queue "
     "until a worker offers the capability. With --wait, wait for the end and show the outcome; "
     "the exit code is 1 if the task did not succeed.",
     submit},
    {"task show", "ID", "stale", "Show one task with its input and its result or error.", show},
    {"task wait", "ID", "",
     "Wait until the task has ended and show it. The exit code is 1 if it did not succeed.",
     wait_task},
    {"task cancel", "ID", "",
     "Cancel a task that has not ended. A worker that runs it is told and ends its command; a "
     "result that comes too late is refused.",
     cancel},
    {"task list", NULL, "state after limit stale",
     "Show tasks in order of their ids: those that have not ended, and the latest that have.",
     list},
    {NULL},
};
