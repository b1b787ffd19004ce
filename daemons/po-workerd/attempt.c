#include "attempt.h"

#include <pipeorch/client.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../common/logging.h"
#include "base/alloc.h"
#include "verdict.h"

/* The lease must outlive the killing of a command that ran out of time, or the report of the
 * timeout would come too late to be accepted: the command is told a little before the lease ends,
 * and the lease extended by the time that the killing may take. */
#define TIMEOUT_MARGIN_MAX_MS 250
#define KILLING_MS            (RUNNER_GRACE_MS + 2000)

static atomic_bool shutting_down;

struct attempt {
    po_task *task;
    bool own_limit; /* the capability's limit is the smaller one, the lease lasts longer anyway */
};

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

static bool build_environment(struct environment *e, const struct attempt_context *c,
                              const po_task *task)
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
    return true;
}

static uint32_t time_limit(struct attempt *a, const struct command *command)
{
    uint32_t lease = po_task_timeout_ms(a->task);
    uint32_t margin = lease / 20 < TIMEOUT_MARGIN_MAX_MS ? lease / 20 : TIMEOUT_MARGIN_MAX_MS;
    a->own_limit = command->timeout_ms && command->timeout_ms < lease - margin;
    return a->own_limit ? command->timeout_ms : lease - margin;
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

void attempt_handle(void *arg, po_task *task)
{
    const struct attempt_context *c = arg;
    struct attempt a = {.task = task};
    struct environment env;
    if (!build_environment(&env, c, task)) {
        answer(task, VERDICT_RETRY, NULL, "the worker is out of memory");
        return;
    }
    struct runner_spec spec = {
        .argv = c->command->argv,
        .envp = env.list,
        .cwd = c->command->cwd,
        .output_max_bytes = PO_PAYLOAD_MAX_BYTES,
        .timeout_ms = time_limit(&a, c->command),
        .stop = should_stop,
        .timed_out = timed_out,
        .arg = &a,
    };
    spec.input = po_task_input(task, &spec.input_len);
    uint32_t limit_ms = a.own_limit ? c->command->timeout_ms : po_task_timeout_ms(task);
    struct runner_result result;
    char error[PO_ERROR_TEXT_MAX_BYTES + 1];
    runner_run(&spec, &result);
    enum verdict verdict = verdict_of(&result, c->command, limit_ms, error);
    log_end(task, c, verdict, error);
    answer(task, verdict, &result.output, error);
    runner_result_fini(&result);
    po__free(env.list);
}
