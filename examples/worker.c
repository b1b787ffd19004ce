/* A worker in C: offers text:upper and text:count to a running cluster.
 *
 *   cc worker.c $(pkg-config --cflags --libs pipeorch) -o worker && ./worker
 * 127.0.0.1:7201,127.0.0.1:7202 poctl task submit text:upper --input '"hello"' --wait */
#include <ctype.h>
#include <pipeorch/pipeorch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static po_worker *worker;

static void on_signal(int sig)
{
    (void)sig;
    po_worker_stop(worker); /* async-signal-safe: finishes what runs, deregisters, returns from
                               po_worker_run */
}

static void upper(void *arg, po_task *task)
{
    size_t len;
    const char *in = po_task_input(task, &len);
    char *out = malloc(len ? len : 1);
    int escaped = 0; /* a JSON string stays one: what follows a backslash is left alone */
    (void)arg;
    for (size_t i = 0; out && i < len; i++) {
        out[i] = escaped ? in[i] : (char)toupper((unsigned char)in[i]);
        escaped = !escaped && in[i] == '\\';
    }
    if (len < 2 || in[0] != '"')
        po_task_fail(task, "input: expected a JSON string, as \"hello\"",
                     0); /* bad input does not become good by a retry */
    else if (!out || po_task_complete(task, out, len))
        po_task_fail(task, "out of memory", 1);
    free(out);
}

static void count(void *arg, po_task *task)
{
    char result[64];
    size_t len;
    (void)arg;
    po_task_input(task, &len);
    int n = snprintf(result, sizeof result, "{\"bytes\": %zu, \"attempt\": %u}", len,
                     po_task_attempt(task));
    if (po_task_complete(task, result, (size_t)n))
        po_task_fail(task, "out of memory", 1);
}

int main(int argc, char **argv)
{
    char error[256];
    struct po_worker_opts opts = {.size = sizeof opts, .id = "worker-c", .zone = "local"};
    struct po_capability caps[] = {
        {.size = sizeof *caps, .name = "text:upper", .max_concurrency = 4},
        {.size = sizeof *caps, .name = "text:count", .max_concurrency = 4}};
    opts.addresses = argc > 1 ? argv[1] : "127.0.0.1:7201";
    int rv = po_worker_open(&worker, &opts, error, sizeof error);
    if (rv)
        return fprintf(stderr, "%s: %s\n", po_err_name(rv), error), 1;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    rv = po_worker_handle(worker, &caps[0], upper, NULL);
    if (rv == 0)
        rv = po_worker_handle(worker, &caps[1], count, NULL);
    if (rv == 0)
        rv = po_worker_run(worker);
    if (rv)
        fprintf(stderr, "worker: %s\n", po_strerror(rv));
    po_worker_close(worker);
    return rv != 0;
}
