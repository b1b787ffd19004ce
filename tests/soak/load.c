/* Load for the soak test, and the judge of what became of it: tasks and runs, each started under a
 * key until its id is known, waited for until it is finished, and compared with what it must have
 * become. A task that is refused for good, fails, disappears, or changes its result afterwards is
 * an error.
 *
 * SIGUSR1: start nothing new, finish what was started, look at every finished task once more, print
 * one line of JSON, end. Exit code 0 if there was no error. */
#include <getopt.h>
#include <inttypes.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS      16     /* tasks under way at most */
#define TASKS_MAX    90000  /* the cluster keeps 100,000 finished ones */
#define CALL_MS      3000   /* one try */
#define STUCK_MS     180000 /* a task or run that is not finished by then is lost */
#define RUN_EVERY_MS 1000
#define ATTEMPTS_MAX 100 /* workers are killed: attempts get lost */
#define ATTEMPT_MS   5000
#define RESULT_MAX   160
#define ERRORS_SHOWN 20

static const char pipeline[] =
    "{\"name\":\"soak\",\"start_node\":\"one\",\"steps\":["
    "{\"name\":\"one\",\"capability\":\"soak:work\",\"next_node\":\"two\",\"attempts_max\":100},"
    "{\"name\":\"two\",\"capability\":\"soak:work\",\"next_node\":\"three\",\"attempts_max\":100},"
    "{\"name\":\"three\",\"capability\":\"soak:work\",\"attempts_max\":100}]}";

static po_client *client;
static const char *instance;
static uint64_t pause_us;
static _Atomic(bool) finishing;
static _Atomic(uint64_t) next_task, finished, runs, unknown, errors;

static struct outcome {
    uint64_t id;
    char result[RESULT_MAX];
} outcomes[TASKS_MAX];

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

__attribute__((format(printf, 1, 2))) static void error(const char *format, ...)
{
    va_list args;
    if (atomic_fetch_add(&errors, 1) >= ERRORS_SHOWN)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* What may pass by itself. Everything else is an error at once. */
static bool passing(int rv)
{
    if (rv == PO_EUNKNOWN)
        unknown++;
    return rv == PO_EUNKNOWN || rv == PO_ETIMEDOUT || rv == PO_ENOLEADER || rv == PO_EBUSY ||
           rv == PO_EUNREACHABLE || rv == PO_ENOTLEADER;
}

/* Calls `once` until it succeeds or the time is up; false: an error, which was counted. */
static bool insist(int (*once)(void *arg), void *arg, const char *what, const char *key)
{
    uint64_t until = now_ms() + STUCK_MS;
    for (;;) {
        int rv = once(arg);
        if (rv == 0)
            return true;
        if (passing(rv) && now_ms() < until)
            continue;
        error("%s of %s: %s (%s)", what, key, po_err_name(rv), po_client_error());
        return false;
    }
}

/* ---- tasks ---- */

struct task {
    char key[64], input[72];
    uint64_t id;
    struct po_task_info info;
};

static int submit(void *arg)
{
    struct task *t = arg;
    struct po_call_opts call = {
        .size = sizeof call, .timeout_ms = CALL_MS, .key = t->key, .key_len = strlen(t->key)};
    struct po_task_opts opts = {.size = sizeof opts,
                                .capability = "soak:work",
                                .input = t->input,
                                .input_len = strlen(t->input),
                                .attempts_max = ATTEMPTS_MAX,
                                .timeout_ms = ATTEMPT_MS};
    return po_submit_task(client, &opts, &call, &t->id);
}

static int wait_task(void *arg)
{
    struct task *t = arg;
    struct po_call_opts call = {.size = sizeof call, .timeout_ms = CALL_MS};
    t->info = (struct po_task_info){.size = sizeof t->info};
    return po_task_wait(client, t->id, &call, &t->info);
}

/* Whether it succeeded with a result made from its own input. */
static bool right(const struct task *t)
{
    const struct po_task_info *i = &t->info;
    return i->state == PO_TASK_SUCCEEDED && i->result && i->result_len < RESULT_MAX &&
           strstr(i->result, t->input);
}

static void one_task(uint64_t number)
{
    struct task t = {.id = 0};
    snprintf(t.key, sizeof t.key, "%s-%" PRIu64, instance, number);
    snprintf(t.input, sizeof t.input, "\"%s\"", t.key);
    if (!insist(submit, &t, "the submission", t.key) || !insist(wait_task, &t, "the end", t.key))
        return;
    if (right(&t)) {
        outcomes[number].id = t.id;
        strcpy(outcomes[number].result, t.info.result);
        finished++;
    } else {
        error("task %" PRIu64 " (%s) ended in state %d after %u attempts: %s", t.id, t.key,
              t.info.state, t.info.attempts, t.info.error ? t.info.error : t.info.result);
    }
    po_free(t.info.result);
    po_free(t.info.error);
}

static void *submit_all(void *arg)
{
    (void)arg;
    while (!finishing) {
        uint64_t number = next_task++;
        if (number >= TASKS_MAX) {
            error("more than %d tasks: the cluster would forget the first ones", TASKS_MAX);
            return NULL;
        }
        one_task(number);
        usleep((useconds_t)pause_us);
    }
    return NULL;
}

/* Nothing that was finished is lost or has become something else. */
static uint64_t look_again(void)
{
    uint64_t same = 0;
    for (uint64_t i = 0; i < TASKS_MAX; i++) {
        struct task t = {.id = outcomes[i].id};
        if (!t.id)
            continue;
        snprintf(t.key, sizeof t.key, "%s-%" PRIu64, instance, i);
        snprintf(t.input, sizeof t.input, "\"%s\"", t.key);
        if (!insist(wait_task, &t, "the second look", t.key))
            continue;
        if (right(&t) && strcmp(t.info.result, outcomes[i].result) == 0)
            same++;
        else
            error("task %" PRIu64 " (%s) had the result %s, and now %s", t.id, t.key,
                  outcomes[i].result, t.info.result ? t.info.result : "none");
        po_free(t.info.result);
        po_free(t.info.error);
    }
    return same;
}

/* ---- runs ---- */

struct run {
    char key[64];
    uint64_t id;
    int state;
};

static int define(void *arg)
{
    (void)arg;
    struct po_call_opts call = {.size = sizeof call, .timeout_ms = CALL_MS};
    return po_pipeline_define(client, pipeline, sizeof pipeline - 1, &call);
}

static int start_run(void *arg)
{
    struct run *r = arg;
    struct po_call_opts call = {
        .size = sizeof call, .timeout_ms = CALL_MS, .key = r->key, .key_len = strlen(r->key)};
    return po_run_start(client, "soak", "1", NULL, &call, &r->id);
}

static int wait_run(void *arg)
{
    struct run *r = arg;
    struct po_call_opts call = {.size = sizeof call, .timeout_ms = CALL_MS};
    return po_run_wait(client, r->id, &call, &r->state, NULL);
}

static void *run_all(void *arg)
{
    (void)arg;
    if (!insist(define, NULL, "the definition", "soak"))
        return NULL;
    for (uint64_t number = 0; !finishing; number++) {
        struct run r = {.id = 0};
        snprintf(r.key, sizeof r.key, "%s-run-%" PRIu64, instance, number);
        if (insist(start_run, &r, "the start", r.key) && insist(wait_run, &r, "the end", r.key)) {
            if (r.state == PO_RUN_SUCCEEDED)
                runs++;
            else
                error("run %" PRIu64 " (%s) ended in state %d", r.id, r.key, r.state);
        }
        usleep(RUN_EVERY_MS * 1000);
    }
    return NULL;
}

/* ---- the process ---- */

int main(int argc, char **argv)
{
    pthread_t threads[THREADS + 1];
    sigset_t signals;
    int sig;
    if (argc != 4 || (pause_us = strtoull(argv[3], NULL, 10)) == 0) {
        fputs("usage: soak_load ADDRESSES INSTANCE PAUSE_US\n", stderr);
        return 2;
    }
    instance = argv[2];
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int rv = po_client_open(&client, argv[1], NULL);
    if (rv)
        return fprintf(stderr, "client: %s\n", po_strerror(rv)), 1;
    for (int i = 0; i <= THREADS; i++)
        if (pthread_create(&threads[i], NULL, i < THREADS ? submit_all : run_all, NULL))
            return perror("pthread_create"), 1;
    sigwait(&signals, &sig);
    finishing = true;
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t begun = next_task, same = look_again();
    po_client_close(client);
    printf("{\"tasks\": %" PRIu64 ", \"finished\": %" PRIu64 ", \"same_at_the_end\": %" PRIu64
           ", \"runs\": %" PRIu64 ", \"unknown_outcomes\": %" PRIu64 ", \"errors\": %" PRIu64 "}\n",
           begun, (uint64_t)finished, same, (uint64_t)runs, (uint64_t)unknown, (uint64_t)errors);
    return errors || finished != begun || same != begun;
}
