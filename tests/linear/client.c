/* Clients of the control plane over the network, and a worker for what they submit, all of them
 * recording what they saw:
 *
 *   tasks     submitted under keys, again under the same keys, cancelled, looked at one by one and
 *             in lists; each end that the worker gives to an attempt is an operation too, whose
 *             outcome it never learns
 *   registry  a few workers registered, deregistered and routed to by everyone at once
 *
 * SIGUSR1: start nothing new, look at every recent task and worker once more, say so in
 * PREFIX.done. SIGTERM: stop. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record.h"

#define CAPABILITY     "linear:work"
#define WORKERS        4 /* in the registry under test */
#define THREADS_MAX    16
#define RECENT         256 /* tasks that threads come back to */
#define TIMEOUT_MIN_MS 300
#define TIMEOUT_MAX_MS 3000
#define FINAL_LIMIT_MS 20000
#define ATTEMPT_MS     2000
#define ATTEMPTS_MAX   100   /* attempts that are lost never make a task fail */
#define HEARTBEAT_MS   60000 /* of the workers under test: none goes offline by itself */
#define WORK_MAX_MS    150

static struct {
    const char *prefix, *addresses, *name;
    uint64_t seed, think_us, threads;
} options = {.think_us = 20000, .threads = 3};

static po_client *client;
static po_worker *worker;
static struct linear_history history;
static _Atomic(bool) finishing;

static struct po_call_opts some_timeout(struct linear_random *r)
{
    struct po_call_opts o = {.size = sizeof o};
    o.timeout_ms = TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS - TIMEOUT_MIN_MS);
    return o;
}

/* The value of "name": NUMBER or "name": "word" in an answer; NULL if it is not there. */
static const char *member(const char *json, const char *name)
{
    char quoted[LINEAR_TEXT_MAX_BYTES];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(json, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static uint64_t number(const char *json, const char *name)
{
    const char *at = member(json, name);
    return at ? strtoull(at, NULL, 10) : 0;
}

static void word(char *out, size_t cap, const char *json, const char *name)
{
    const char *at = member(json, name);
    *out = '\0';
    if (at && *at == '"')
        snprintf(out, cap, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

/* ---- tasks ---- */

static struct {
    pthread_mutex_t lock;
    uint64_t count; /* keys ever used by this process */
    struct recent {
        uint64_t number, id; /* id 0: no submission was answered yet */
    } ring[RECENT];
} recent = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void key_of(char *key, uint64_t n)
{
    snprintf(key, LINEAR_TEXT_MAX_BYTES, "%s-%llu", options.name, (unsigned long long)n);
}

static uint64_t fresh_key(void)
{
    pthread_mutex_lock(&recent.lock);
    uint64_t n = recent.count++;
    recent.ring[n % RECENT] = (struct recent){n, 0};
    pthread_mutex_unlock(&recent.lock);
    return n;
}

static bool recent_at(uint64_t back, struct recent *out)
{
    pthread_mutex_lock(&recent.lock);
    bool found = back < recent.count && back < RECENT;
    if (found)
        *out = recent.ring[(recent.count - 1 - back) % RECENT];
    pthread_mutex_unlock(&recent.lock);
    return found;
}

static void learn(uint64_t n, uint64_t id)
{
    pthread_mutex_lock(&recent.lock);
    if (recent.ring[n % RECENT].number == n)
        recent.ring[n % RECENT].id = id;
    pthread_mutex_unlock(&recent.lock);
}

static void submit(struct linear_random *r, uint64_t n)
{
    char key[LINEAR_TEXT_MAX_BYTES], input[LINEAR_TEXT_MAX_BYTES + 4];
    uint64_t id = 0;
    struct po_call_opts opts = some_timeout(r);
    key_of(key, n);
    opts.key = key;
    opts.key_len = strlen(key);
    struct po_task_opts task = {.size = sizeof task,
                                .capability = CAPABILITY,
                                .input = input,
                                .input_len = (size_t)snprintf(input, sizeof input, "\"%s\"", key),
                                .attempts_max = ATTEMPTS_MAX,
                                .timeout_ms = ATTEMPT_MS};
    uint64_t op = linear_call(&history, "task", "submit", key, 0, 0);
    int rv = po_submit_task(client, &task, &opts, &id);
    if (rv == PO_EUNKNOWN)
        return;
    if (rv) {
        linear_refused(&history, op);
        return;
    }
    learn(n, id);
    linear_return(&history, op, &(struct linear_outcome){.value = id});
}

static void cancel(struct linear_random *r, const struct recent *t)
{
    char key[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = some_timeout(r);
    key_of(key, t->number);
    uint64_t op = linear_call(&history, "task", "cancel", key, t->id, 0);
    int rv = po_task_cancel(client, t->id, &opts);
    if (rv == PO_EUNKNOWN)
        return;
    if (rv == 0 || rv == PO_ESTATE || rv == PO_ENOTFOUND)
        linear_return(&history, op, &(struct linear_outcome){.code = rv});
    else
        linear_refused(&history, op);
}

/* Which attempt ended the task: the worker wrote its token into the result or the error. */
static uint64_t ended_by(const char *json)
{
    const char *at = strstr(json, "token ");
    return at ? strtoull(at + 6, NULL, 10) : 0;
}

static int show(const struct recent *t, uint32_t timeout_ms)
{
    char key[LINEAR_TEXT_MAX_BYTES], status[LINEAR_TEXT_MAX_BYTES], *json = NULL;
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = t->id};
    key_of(key, t->number);
    uint64_t op = linear_call(&history, "task", "show", key, t->id, 0);
    int rv = po_query(client, &q, &opts, &json);
    if (rv == PO_ENOTFOUND) {
        linear_return(&history, op, &(struct linear_outcome){.code = rv});
        return 0;
    }
    if (rv) {
        linear_refused(&history, op);
        return rv;
    }
    word(status, sizeof status, json, "state");
    linear_return(&history, op,
                  &(struct linear_outcome){.value = ended_by(json),
                                           .version = number(json, "attempts"),
                                           .state = status});
    po_free(json);
    return 0;
}

/* A list of one: the first task after the id before. */
static void list(struct linear_random *r, const struct recent *t)
{
    char key[LINEAR_TEXT_MAX_BYTES], status[LINEAR_TEXT_MAX_BYTES], *json = NULL;
    struct po_call_opts opts = some_timeout(r);
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASKS, .id = t->id - 1, .limit = 1};
    key_of(key, t->number);
    uint64_t op = linear_call(&history, "task", "list", key, t->id, 0);
    if (po_query(client, &q, &opts, &json)) {
        linear_refused(&history, op);
        return;
    }
    word(status, sizeof status, json, "state");
    bool listed = number(json, "id") == t->id;
    linear_return(&history, op,
                  &(struct linear_outcome){.code = listed ? 0 : PO_ENOTFOUND,
                                           .version = number(json, "attempts"),
                                           .state = status});
    po_free(json);
}

static void use_tasks(struct linear_random *r)
{
    struct recent t;
    uint64_t dice = linear_below(r, 100);
    if (dice < 25) {
        submit(r, fresh_key());
        return;
    }
    if (!recent_at(linear_below(r, 12), &t))
        return;
    if (dice < 40 || t.id == 0)
        submit(r, t.number); /* again */
    else if (dice < 50)
        cancel(r, &t);
    else if (dice < 60)
        list(r, &t);
    else
        (void)show(&t, TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS));
}

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

/* ---- the registry ---- */

static void names(uint64_t i, char *id, char *capability)
{
    snprintf(id, LINEAR_TEXT_MAX_BYTES, "w%llu", (unsigned long long)i);
    snprintf(capability, LINEAR_TEXT_MAX_BYTES, "registry:w%llu", (unsigned long long)i);
}

static void note(uint64_t op, int rv)
{
    if (rv == 0 || rv == PO_ESTALE || rv == PO_ENOTFOUND)
        linear_return(&history, op, &(struct linear_outcome){.code = rv});
    else if (rv != PO_EUNKNOWN)
        linear_refused(&history, op);
}

static void enroll(struct linear_random *r, uint64_t i)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES], address[32];
    uint64_t incarnation = linear_now_ns();
    struct po_call_opts opts = some_timeout(r);
    names(i, id, capability);
    snprintf(address, sizeof address, "%llu", (unsigned long long)incarnation);
    struct po_capability offer = {.size = sizeof offer, .name = capability};
    struct po_worker_info info = {.size = sizeof info,
                                  .id = id,
                                  .address = address,
                                  .incarnation = incarnation,
                                  .heartbeat_ms = HEARTBEAT_MS,
                                  .capabilities = &offer,
                                  .capabilities_count = 1};
    uint64_t op = linear_call(&history, "registry", "register", id, incarnation, 0);
    note(op, po_register_worker(client, &info, &opts));
}

static void dismiss(struct linear_random *r, uint64_t i, uint64_t incarnation)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = some_timeout(r);
    names(i, id, capability);
    uint64_t op = linear_call(&history, "registry", "deregister", id, incarnation, 0);
    note(op, po_deregister_worker(client, id, incarnation, &opts));
}

static int route(uint64_t i, uint32_t timeout_ms, uint64_t *incarnation)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    struct po_route_info info = {.size = sizeof info};
    names(i, id, capability);
    uint64_t op = linear_call(&history, "registry", "route", id, 0, 0);
    int rv = po_route(client, capability, NULL, &opts, &info);
    if (rv && rv != PO_ENOCAPABILITY) {
        linear_refused(&history, op);
        return rv;
    }
    *incarnation = rv ? 0 : strtoull(info.address, NULL, 10);
    linear_return(&history, op, &(struct linear_outcome){.code = rv, .value = *incarnation});
    return 0;
}

static void use_registry(struct linear_random *r, uint64_t seen[WORKERS])
{
    uint64_t i = linear_below(r, WORKERS), dice = linear_below(r, 100);
    if (dice < 25)
        enroll(r, i);
    else if (dice < 35)
        dismiss(r, i, 0);
    else if (dice < 45 && seen[i])
        dismiss(r, i, seen[i]);
    else
        (void)route(i, TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS), &seen[i]);
}

/* ---- the process ---- */

static void *use(void *arg)
{
    struct linear_random r = linear_random(options.seed, linear_now_ns() + (uintptr_t)arg);
    uint64_t seen[WORKERS] = {0};
    while (!finishing) {
        if (linear_below(&r, 3) < 2)
            use_tasks(&r);
        else
            use_registry(&r, seen);
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

static void too_late(uint64_t until, const char *what)
{
    if (linear_now_ns() < until)
        return;
    fprintf(stderr, "%s could not be read at the end\n", what);
    exit(1);
}

static void finish(pthread_t *threads)
{
    char path[512];
    uint64_t until = linear_now_ns() + FINAL_LIMIT_MS * UINT64_C(1000000), ignored;
    struct recent t;
    finishing = true;
    for (uint64_t i = 0; i < options.threads; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t i = 0; i < WORKERS; i++)
        while (route(i, 1000, &ignored))
            too_late(until, "a worker's route");
    for (uint64_t i = 0; recent_at(i, &t); i++)
        while (t.id && show(&t, 1000))
            too_late(until, "a task");
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
    struct po_capability offer = {.size = sizeof offer, .name = CAPABILITY, .max_concurrency = 4};
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
