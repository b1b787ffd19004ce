#include "attempt.h"

#include <pipeorch/client.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../common/logging.h"
#include "base/alloc.h"
#include "progress.h"
#include "spawn.h"
#include "verdict.h"

/* The lease must outlive the killing of a command that ran out of time, or the report of the
 * timeout would come too late to be accepted: the command is told a little before the lease ends,
 * and the lease extended by the time that the killing may take. */
#define TIMEOUT_MARGIN_MAX_MS 250
#define KILLING_MS            (RUNNER_GRACE_MS + 2000)

static atomic_bool shutting_down;

struct attempt {
    po_task *task;
    const struct command *command;
    uint64_t began_ms;
    uint64_t limit_ms;  /* from there on, without the margin */
    uint64_t extend_ms; /* asked for since it was last looked; 0: nothing */
    bool own_limit; /* the capability's limit is the smaller one, the lease lasts longer anyway */
    bool complained;
    struct progress progress;
};

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void attempt_shut_down(void)
{
    atomic_store(&shutting_down, true);
}

static enum runner_stop should_stop(void *arg)
{
    const struct attempt *a = arg;
    if (po_task_cancelled(a->task))
        return RUNNER_CANCELLED;
    return atomic_load(&shutting_down) ? RUNNER_SHUTDOWN : RUNNER_GO_ON;
}

static void timed_out(void *arg)
{
    const struct attempt *a = arg;
    if (!a->own_limit) /* should the lease be lost already, the cluster requeues the task itself */
        po_task_extend(a->task, KILLING_MS);
}

/* ---- how far it is ---- */

/* How long the command may run from now on, gone_ms after its start, its lease lasting lease_ms
 * more. */
static uint64_t time_limit(struct attempt *a, uint64_t gone_ms, uint64_t lease_ms)
{
    uint64_t margin = lease_ms / 20 < TIMEOUT_MARGIN_MAX_MS ? lease_ms / 20 : TIMEOUT_MARGIN_MAX_MS;
    uint64_t own = a->command->timeout_ms, own_left = own > gone_ms ? own - gone_ms : 1;
    a->own_limit = own && own_left < lease_ms - margin;
    a->limit_ms = a->own_limit ? own : gone_ms + lease_ms;
    return a->own_limit ? own_left : lease_ms - margin;
}

static void on_wrong_line(void *arg, unsigned number, const char *why)
{
    struct attempt *a = arg;
    if (a->complained) /* one command in a loop must not fill the log */
        return;
    a->complained = true;
    po__warn(logging(), "workerd.progress",
             "%s task %llu attempt %u: line %u of its progress is ignored, and others like it: "
             "%.512s",
             po_task_capability(a->task), (unsigned long long)po_task_id(a->task),
             po_task_attempt(a->task), number, why);
}

static void on_line(void *arg, const struct progress_line *line)
{
    struct attempt *a = arg;
    int rv = 0;
    if (line->extend_ms) {
        rv = po_task_extend(a->task, line->extend_ms);
        a->extend_ms = rv ? a->extend_ms : line->extend_ms;
    }
    if (!rv && (line->thousandths != PO_PROGRESS_UNCHANGED || line->checkpoint))
        rv = po_task_checkpoint(a->task, line->thousandths, line->checkpoint, line->checkpoint_len);
    if (rv)
        on_wrong_line(a, a->progress.lines, po_strerror(rv));
}

static uint64_t on_progress(void *arg, const char *data, size_t len)
{
    struct attempt *a = arg;
    a->extend_ms = 0;
    progress_feed(&a->progress, data, len);
    return a->extend_ms ? time_limit(a, now_ms() - a->began_ms, a->extend_ms) : 0;
}

/* ---- the answer ---- */

static void answer(po_task *task, enum verdict verdict, const struct po__buf *output,
                   const char *error)
{
    uint64_t id = po_task_id(task);
    int rv = verdict == VERDICT_SUCCEEDED ? po_task_complete(task, output->data, output->len)
                                          : po_task_fail(task, error, verdict == VERDICT_RETRY);
    if (rv == 0)
        return;
    /* The task is still ours. Without an answer it would keep its slot until the lease ends. Output
     * that breaks its schema may be right the next time; so the leader has it, too. */
    bool schema = rv == PO_EINVAL;
    const char *why = schema ? po_client_error() : po_strerror(rv);
    po__error(logging(), "workerd.answer", "the result of task %llu cannot be sent: %s (%s)",
              (unsigned long long)id, why, po_err_name(rv));
    if (verdict == VERDICT_SUCCEEDED)
        po_task_fail(task, why, schema || po_err_retryable(rv));
}

/* ---- the command ---- */

struct environment {
    char values[TASK_ENV_COUNT][PO_NAME_MAX_BYTES + 64];
    char **list; /* inherited ones first */
    unsigned count;
};

__attribute__((format(printf, 3, 4))) static void put(struct environment *e, enum task_env which,
                                                      const char *fmt, ...)
{
    static const char *const names[] = {
#define X(id, name) name,
        TASK_ENV(X)
#undef X
    };
    char *value = e->values[which];
    int used = snprintf(value, sizeof *e->values, "%s=", names[which]);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value + used, sizeof *e->values - (size_t)used, fmt, ap);
    va_end(ap);
    e->list[e->count++] = value;
}

/* checkpoint: a descriptor of ours, or -1. Its file has a name that any process of this user can
 * open, however many processes stand between the command and who reads it. */
static bool build_environment(struct environment *e, const struct attempt_context *c,
                              const po_task *task, int checkpoint)
{
    e->count = c->command->envp_count;
    e->list = po__calloc(e->count + TASK_ENV_COUNT + 1, sizeof *e->list);
    if (!e->list)
        return false;
    memcpy(e->list, c->command->envp, e->count * sizeof *e->list);
    put(e, TASK_ENV_TASK_ID, "%llu", (unsigned long long)po_task_id(task));
    put(e, TASK_ENV_ATTEMPT, "%u", po_task_attempt(task));
    put(e, TASK_ENV_FENCING_TOKEN, "%llu", (unsigned long long)po_task_token(task));
    put(e, TASK_ENV_CAPABILITY, "%s", po_task_capability(task));
    put(e, TASK_ENV_WORKER_ID, "%s", c->worker_id);
    put(e, TASK_ENV_PROGRESS_FD, "%d", SPAWN_PROGRESS_FD);
    if (checkpoint >= 0)
        put(e, TASK_ENV_CHECKPOINT, "/proc/%d/fd/%d", (int)getpid(), checkpoint);
    else
        put(e, TASK_ENV_CHECKPOINT, "/dev/null");
    return true;
}

static void log_end(const po_task *task, const struct attempt_context *c, enum verdict verdict,
                    const char *error)
{
    static const char *const words[] = {"succeeded", "failed", "failed for good"};
    po__log(logging(), verdict == VERDICT_SUCCEEDED ? PO_LOG_INFO : PO_LOG_WARN, "workerd.task",
            "%s task %llu attempt %u %s%s%.512s", c->command->capability.name,
            (unsigned long long)po_task_id(task), po_task_attempt(task), words[verdict],
            *error ? ": " : "", error);
}

/* The worker stops: an attempt without an answer is given to others when the worker deregisters,
 * and is not one of the task's attempts_max, as after a crash. */
static void hand_back(const po_task *task, const struct attempt_context *c)
{
    po__warn(logging(), "workerd.task",
             "%s task %llu attempt %u is handed back: the worker stops before its command has "
             "ended",
             c->command->capability.name, (unsigned long long)po_task_id(task),
             po_task_attempt(task));
}

static void run(struct attempt *a, const struct attempt_context *c, char *const *envp)
{
    struct runner_spec spec = {
        .argv = c->command->argv,
        .envp = envp,
        .cwd = c->command->cwd,
        .output_max_bytes = PO_PAYLOAD_MAX_BYTES,
        .timeout_ms = (uint32_t)time_limit(a, 0, po_task_timeout_ms(a->task)),
        .stop = should_stop,
        .timed_out = timed_out,
        .progress = on_progress,
        .arg = a,
    };
    spec.input = po_task_input(a->task, &spec.input_len);
    struct runner_result result;
    char error[PO_ERROR_TEXT_MAX_BYTES + 1];
    runner_run(&spec, &result);
    progress_end(&a->progress);
    if (result.end == RUNNER_STOPPED && result.code == RUNNER_SHUTDOWN) {
        hand_back(a->task, c);
    } else {
        enum verdict verdict = verdict_of(&result, c->command, a->limit_ms, error);
        log_end(a->task, c, verdict, error);
        answer(a->task, verdict, &result.output, error);
    }
    runner_result_fini(&result);
}

/* What an earlier attempt left, as a file: *fd is -1 if that is nothing. */
static bool open_checkpoint(const po_task *task, int *fd)
{
    size_t len;
    const void *left = po_task_checkpoint_data(task, &len);
    *fd = left ? progress_checkpoint_file(left, len) : -1;
    return !left || *fd >= 0;
}

void attempt_handle(void *arg, po_task *task)
{
    const struct attempt_context *c = arg;
    struct attempt a = {.task = task, .command = c->command, .began_ms = now_ms()};
    struct environment env = {.list = NULL};
    int checkpoint = -1;
    a.progress = (struct progress){.said = on_line, .wrong = on_wrong_line, .arg = &a};
    if (!open_checkpoint(task, &checkpoint)) {
        char why[128];
        snprintf(why, sizeof why, "the worker cannot hand the checkpoint on: %s", strerror(errno));
        answer(task, VERDICT_RETRY, NULL, why);
        return;
    }
    if (build_environment(&env, c, task, checkpoint))
        run(&a, c, env.list);
    else
        answer(task, VERDICT_RETRY, NULL, "the worker is out of memory");
    progress_checkpoint_close(checkpoint);
    po__free(env.list);
}
