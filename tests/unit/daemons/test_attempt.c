/* Attempts as the library's worker would hand them in; the task functions of the library are played
 * by this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "api/call.h"
#include "common/logging.h"
#include "common/service.h"
#include "po-workerd/attempt.h"
#include "po-workerd/runner.h"

struct po_task {
    const char *input;
    uint32_t timeout_ms;
    int looks_until_cancelled; /* 0: never */
    int looks;
    int complete_code; /* what po_task_complete returns */
    const char *left;  /* by an earlier attempt */
    /* what the attempt did */
    unsigned answers;
    char result[4096], error[PO_ERROR_TEXT_MAX_BYTES + 1];
    int retryable;
    uint32_t extended_ms;
    unsigned checkpoints;
    uint32_t progress;
    char checkpoint[256];
};

uint64_t po_task_id(const po_task *task)
{
    (void)task;
    return 17;
}

uint32_t po_task_attempt(const po_task *task)
{
    (void)task;
    return 2;
}

uint64_t po_task_token(const po_task *task)
{
    (void)task;
    return UINT64_MAX;
}

const char *po_task_capability(const po_task *task)
{
    (void)task;
    return "test:run";
}

const void *po_task_input(const po_task *task, size_t *len)
{
    *len = strlen(task->input);
    return task->input;
}

uint32_t po_task_timeout_ms(const po_task *task)
{
    return task->timeout_ms;
}

int po_task_cancelled(const po_task *task)
{
    po_task *t = (po_task *)task;
    return t->looks_until_cancelled && ++t->looks >= t->looks_until_cancelled;
}

int po_task_complete(po_task *task, const void *result, size_t len)
{
    if (task->complete_code)
        return po__client_fail(task->complete_code, "breaks its schema at the top level");
    assert_true(len < sizeof task->result);
    memcpy(task->result, result, len);
    task->answers++;
    return 0;
}

int po_task_fail(po_task *task, const char *error, int retryable)
{
    assert_true(strlen(error) <= PO_ERROR_TEXT_MAX_BYTES);
    strcpy(task->error, error);
    task->retryable = retryable;
    task->answers++;
    return 0;
}

int po_task_extend(po_task *task, uint32_t extend_ms)
{
    task->extended_ms = extend_ms;
    return 0;
}

int po_task_checkpoint(po_task *task, uint32_t progress, const void *data, size_t len)
{
    assert_int_equal(task->answers, 0);
    task->checkpoints++;
    if (progress != PO_PROGRESS_UNCHANGED)
        task->progress = progress;
    if (data)
        snprintf(task->checkpoint, sizeof task->checkpoint, "%.*s", (int)len, (const char *)data);
    return 0;
}

const void *po_task_checkpoint_data(const po_task *task, size_t *len)
{
    *len = task->left ? strlen(task->left) : 0;
    return task->left;
}

static char *inherited[] = {(char *)"PATH=/usr/bin:/bin", (char *)"OWN=1"};

static po_task attempt(const char *script, po_task task, uint32_t own_timeout_ms)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    struct command command = {.argv = argv,
                              .envp = inherited,
                              .envp_count = 2,
                              .timeout_ms = own_timeout_ms,
                              .capability = {.name = "test:run"}};
    command.final_codes[65] = true;
    struct attempt_context context = {.command = &command, .worker_id = "w1"};
    task.input = task.input ? task.input : "null";
    task.timeout_ms = task.timeout_ms ? task.timeout_ms : 60000;
    attempt_handle(&context, &task);
    return task;
}

static po_task run(const char *script, po_task task, uint32_t own_timeout_ms)
{
    po_task t = attempt(script, task, own_timeout_ms);
    assert_int_equal(t.answers, 1);
    return t;
}

static void input_environment_and_result(void **state)
{
    (void)state;
    po_task t = run("cat; echo \" $OWN $PO_TASK_ID $PO_ATTEMPT $PO_FENCING_TOKEN $PO_CAPABILITY "
                    "$PO_WORKER_ID\\\"\"",
                    (po_task){.input = "\"in"}, 0);
    assert_string_equal(t.result, "\"in 1 17 2 18446744073709551615 test:run w1\"\n");
    assert_string_equal(t.error, "");
}

static void failures(void **state)
{
    (void)state;
    po_task t = run("echo 'row 3, column 2' >&2; exit 65", (po_task){0}, 0);
    assert_string_equal(t.error, "exit code 65; standard error:\nrow 3, column 2");
    assert_int_equal(t.retryable, 0);
    t = run("exit 1", (po_task){0}, 0);
    assert_string_equal(t.error, "exit code 1");
    assert_int_equal(t.retryable, 1);
    t = run("echo no json", (po_task){0}, 0);
    assert_int_equal(t.retryable, 0);
}

static void the_lease_is_held_while_an_overdue_command_is_killed(void **state)
{
    (void)state;
    po_task t = run("exec sleep 1000", (po_task){.timeout_ms = 200}, 0);
    assert_string_equal(t.error, "took longer than its limit of 200 ms and was killed");
    assert_int_equal(t.retryable, 1);
    assert_true(t.extended_ms > RUNNER_GRACE_MS);
    t = run("exec sleep 1000", (po_task){.timeout_ms = 60000},
            150); /* its own limit is far from the lease's */
    assert_string_equal(t.error, "took longer than its limit of 150 ms and was killed");
    assert_int_equal(t.extended_ms, 0);
}

static void what_an_earlier_attempt_left_is_found(void **state)
{
    (void)state;
    const char *script = "if [ -s \"$PO_CHECKPOINT\" ]; then sh -c 'cat $PO_CHECKPOINT 3>&-'; "
                         "(echo x >$PO_CHECKPOINT) 2>/dev/null || true; else echo 0; fi";
    po_task t = run(script, (po_task){.left = "{\"row\":400}"}, 0);
    assert_string_equal(t.result, "{\"row\":400}");
    t = run(script, (po_task){0}, 0);
    assert_string_equal(t.result, "0\n");
}

static void progress_and_checkpoints_are_handed_on(void **state)
{
    (void)state;
    po_task t =
        run("echo '{\"progress\": 0.425, \"checkpoint\": {\"row\": 400}}' >&$PO_PROGRESS_FD; "
            "exit 1",
            (po_task){0}, 0);
    assert_string_equal(t.error, "exit code 1");
    assert_int_equal(t.progress, 425);
    assert_string_equal(t.checkpoint, "{\"row\":400}");
    /* What is wrong does not end the attempt; what follows is read. */
    t = run("printf '{\"progress\": 2}\nnonsense\n{\"progress\":1}\n' >&$PO_PROGRESS_FD; echo 5",
            (po_task){0}, 0);
    assert_string_equal(t.result, "5\n");
    assert_int_equal(t.checkpoints, 1);
    assert_int_equal(t.progress, 1000);
}

static void a_command_may_leave_something_when_it_is_ended(void **state)
{
    (void)state;
    po_task t = run("exec 2>/dev/null; trap 'echo {\\\"checkpoint\\\":7} >&3; exit 1' TERM; while "
                    ":; do sleep 0.02; done",
                    (po_task){.timeout_ms = 500}, 0);
    assert_string_equal(t.error, "took longer than its limit of 500 ms and was killed");
    assert_string_equal(t.checkpoint, "7");
}

static void a_command_gets_the_time_that_it_asks_for(void **state)
{
    (void)state;
    po_task t = run("echo '{\"extend_ms\": 60000}' >&$PO_PROGRESS_FD; sleep 0.6; echo 1",
                    (po_task){.timeout_ms = 400}, 0);
    assert_string_equal(t.result, "1\n");
    assert_int_equal(t.extended_ms, 60000);
    /* The limit of the capability is its operator's word. */
    t = run("echo '{\"extend_ms\": 60000}' >&$PO_PROGRESS_FD; exec sleep 1000",
            (po_task){.timeout_ms = 60000}, 300);
    assert_string_equal(t.error, "took longer than its limit of 300 ms and was killed");
}

static void a_cancelled_attempt_is_ended(void **state)
{
    (void)state;
    po_task t = run("exec sleep 1000", (po_task){.looks_until_cancelled = 2}, 0);
    assert_string_equal(t.error, "cancelled");
}

static void a_result_that_cannot_be_sent_still_gives_an_answer(void **state)
{
    (void)state;
    po_task t = run("echo 1", (po_task){.complete_code = PO_ENOMEM}, 0);
    assert_string_equal(t.error, po_strerror(PO_ENOMEM));
    assert_int_equal(t.retryable, 1);
    t = run("echo 1", (po_task){.complete_code = PO_ETOOBIG}, 0);
    assert_int_equal(t.retryable, 0);
    t = run("echo 1", (po_task){.complete_code = PO_EINVAL}, 0); /* its schema does not allow it */
    assert_string_equal(t.error, "breaks its schema at the top level");
    assert_int_equal(t.retryable, 1);
}

static void a_stop_hands_the_attempt_back(void **state)
{
    (void)state;
    attempt_shut_down(); /* for good: keep this test the last */
    po_task t = attempt("exec sleep 1000", (po_task){0}, 0);
    assert_int_equal(t.answers, 0); /* the library tells that nobody has it any more */
}

int main(void)
{
    service_init(); /* as the daemon does: a command may leave its input unread */
    logging_init("text", "error", "test");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_environment_and_result),
        cmocka_unit_test(failures),
        cmocka_unit_test(the_lease_is_held_while_an_overdue_command_is_killed),
        cmocka_unit_test(what_an_earlier_attempt_left_is_found),
        cmocka_unit_test(progress_and_checkpoints_are_handed_on),
        cmocka_unit_test(a_command_may_leave_something_when_it_is_ended),
        cmocka_unit_test(a_command_gets_the_time_that_it_asks_for),
        cmocka_unit_test(a_cancelled_attempt_is_ended),
        cmocka_unit_test(a_result_that_cannot_be_sent_still_gives_an_answer),
        cmocka_unit_test(a_stop_hands_the_attempt_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
