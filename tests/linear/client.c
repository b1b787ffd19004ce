/* Clients of the control plane over the network, recording what they see (control.h), and a worker
 * for the tasks: each end that it gives to an attempt is an operation too, whose outcome it never
 * learns.
 *
 * SIGUSR1: start nothing new, look at everything once more, say so in PREFIX.done. SIGTERM: stop.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control.h"

#define THREADS_MAX    16
#define FINAL_LIMIT_MS 20000
#define WORK_MAX_MS    150

static struct {
    const char *prefix, *addresses, *name;
    uint64_t seed, think_us, threads;
} options = {.think_us = 20000, .threads = 3};

static po_client *client;
static po_worker *worker;
static struct linear_history history;
static _Atomic(bool) finishing;

/* ---- the worker ---- */

static void work(void *arg, po_task *task)
{
    static _Atomic(uint64_t) stream;
    struct linear_random r = linear_random(options.seed, linear_now_ns() + stream++);
    char key[LINEAR_TEXT_MAX_BYTES], result[64];
    size_t len;
    (void)arg;
    const char *input = po_task_input(task, &len);
    uint64_t token = po_task_token(task), dice = linear_below(&r, 20);
    snprintf(key, sizeof key, "%.*s", len > 2 ? (int)len - 2 : 0, input + 1); /* a JSON string */
    usleep((useconds_t)linear_below(&r, WORK_MAX_MS * 1000));
    int n = snprintf(result, sizeof result, "\"token %llu\"", (unsigned long long)token);
    if (dice == 0) { /* to be tried again */
        po_task_fail(task, "not this time", 1);
    } else if (dice == 1) {
        linear_call(&history, "task", "fail", key, token, po_task_attempt(task));
        snprintf(result, sizeof result, "token %llu", (unsigned long long)token);
        po_task_fail(task, result, 0);
    } else {
        linear_call(&history, "task", "complete", key, token, po_task_attempt(task));
        if (po_task_complete(task, result, (size_t)n)) {
            fputs("a result was refused before it was sent\n", stderr);
            exit(1);
        }
    }
}

static void *run_worker(void *arg)
{
    int *rv = arg;
    *rv = po_worker_run(worker);
    return NULL;
}

/* ---- the process ---- */

static void *use(void *arg)
{
    struct linear_random r = linear_random(options.seed, linear_now_ns() + (uintptr_t)arg);
    uint64_t seen[LINEAR_WORKERS] = {0};
    while (!finishing) {
        linear_control_use(&r, seen);
        usleep((useconds_t)linear_below(&r, 2 * options.think_us + 1));
    }
    return NULL;
}

static void log_event(void *arg, const struct po_log_event *event)
{
    (void)arg;
    fprintf(stderr, "%llu.%03llu %d %s %s\n", (unsigned long long)(event->time_ms / 1000),
            (unsigned long long)(event->time_ms % 1000), event->level, event->id, event->message);
}

static void finish(pthread_t *threads)
{
    char path[512];
    finishing = true;
    for (uint64_t i = 0; i < options.threads; i++)
        pthread_join(threads[i], NULL);
    const char *lost = linear_control_look(linear_now_ns() + FINAL_LIMIT_MS * UINT64_C(1000000));
    if (lost) {
        fprintf(stderr, "%s could not be read at the end\n", lost);
        exit(1);
    }
    snprintf(path, sizeof path, "%s.done", options.prefix);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    close(fd);
}

static int parse(int argc, char **argv)
{
    static const struct option known[] = {{"addresses", 1, 0, 'a'},
                                          {"name", 1, 0, 'n'},
                                          {"history", 1, 0, 'h'},
                                          {"seed", 1, 0, 's'},
                                          {"threads", 1, 0, 't'},
                                          {"think-us", 1, 0, 'u'},
                                          {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'a':
            options.addresses = optarg;
            break;
        case 'n':
            options.name = optarg;
            break;
        case 'h':
            options.prefix = optarg;
            break;
        case 's':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.threads = strtoull(optarg, NULL, 10);
            break;
        case 'u':
            options.think_us = strtoull(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    if (options.addresses && options.name && options.prefix && options.threads <= THREADS_MAX)
        return 0;
    fputs("usage: linear_client --addresses H:P,... --name N --history PREFIX --seed S\n"
          "    [--threads T] [--think-us U]\n",
          stderr);
    return 2;
}

static int open_all(void)
{
    char error[512];
    struct po_client_opts copts = {.size = sizeof copts, .log = {.cb = log_event}};
    struct po_worker_opts wopts = {.size = sizeof wopts,
                                   .id = options.name,
                                   .addresses = options.addresses,
                                   .heartbeat_ms = 300,
                                   .log = {.cb = log_event}};
    struct po_capability offer = {
        .size = sizeof offer, .name = LINEAR_CAPABILITY, .max_concurrency = 4};
    int rv = po_client_open(&client, options.addresses, &copts);
    if (rv)
        return fprintf(stderr, "client: %s\n", po_strerror(rv)), 1;
    rv = po_worker_open(&worker, &wopts, error, sizeof error);
    if (rv)
        return fprintf(stderr, "worker: %s\n", error), 1;
    return po_worker_handle(worker, &offer, work, NULL) != 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX], working;
    sigset_t signals;
    int worker_rv = 0, rv = parse(argc, argv);
    if (rv)
        return rv;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* every thread inherits it */
    linear_open(&history, options.prefix);
    rv = open_all();
    if (rv)
        return rv;
    linear_control_init(client, &history, options.name);
    if (pthread_create(&working, NULL, run_worker, &worker_rv))
        return perror("pthread_create"), 1;
    for (uintptr_t i = 0; i < options.threads; i++)
        if (pthread_create(&threads[i], NULL, use, (void *)i))
            return perror("pthread_create"), 1;
    for (;;) {
        int sig = sigwaitinfo(&signals, NULL);
        if (sig == SIGUSR1 && !finishing)
            finish(threads);
        if (sig == SIGTERM)
            break;
    }
    if (!finishing) {
        finishing = true;
        for (uint64_t i = 0; i < options.threads; i++)
            pthread_join(threads[i], NULL);
    }
    po_worker_stop(worker);
    pthread_join(working, NULL);
    po_worker_close(worker);
    po_client_close(client);
    return worker_rv != 0;
}
