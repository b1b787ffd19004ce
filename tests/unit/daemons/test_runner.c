#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/service.h"
#include "po-workerd/guard.h"
#include "po-workerd/runner.h"

static void run_with(struct runner_spec spec, const char *script, struct runner_result *r)
{
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    spec.argv = argv;
    spec.envp = spec.envp ? spec.envp : environ;
    spec.output_max_bytes = spec.output_max_bytes ? spec.output_max_bytes : 1 << 20;
    spec.timeout_ms = spec.timeout_ms ? spec.timeout_ms : 60000;
    runner_run(&spec, r);
}

static void shell(const char *script, struct runner_result *r)
{
    run_with((struct runner_spec){0}, script, r);
}

static void assert_output(const struct runner_result *r, const char *text)
{
    assert_int_equal(r->output.len, strlen(text));
    if (r->output.len)
        assert_memory_equal(r->output.data, text, r->output.len);
}

/* Polls until the process is gone (a killed orphan is reaped by init, some time later). */
static void assert_gone(pid_t pid)
{
    for (int i = 0; i < 2000; i++) {
        char path[64], state = 'X';
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        FILE *f = fopen(path, "re");
        if (!f)
            return;
        int n = fscanf(f, "%*d (%*[^)]) %c", &state);
        fclose(f);
        if (n == 1 && (state == 'Z' || state == 'X'))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    fail_msg("process %d is still there", (int)pid);
}

static void exit_code_output_and_error(void **state)
{
    (void)state;
    struct runner_result r;
    shell("echo out; echo err >&2; exit 3", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_int_equal(r.code, 3);
    assert_output(&r, "out\n");
    assert_string_equal(r.err, "err\n");
    assert_false(r.err_cut);
    runner_result_fini(&r);
    shell("kill -KILL $$", &r);
    assert_int_equal(r.end, RUNNER_SIGNALLED);
    assert_int_equal(r.code, SIGKILL);
    runner_result_fini(&r);
}

static void environment_folder_and_group(void **state)
{
    (void)state;
    struct runner_result r;
    char *envp[] = {(char *)"PATH=/usr/bin:/bin", (char *)"WHO=me", NULL};
    run_with((struct runner_spec){.envp = envp, .cwd = "/usr"},
             "echo $WHO:$HOME; pwd; cut -d' ' -f5 /proc/$$/stat; echo $$", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    int group = 0, pid = -1;
    r.output.data[r.output.len - 1] = '\0';
    assert_int_equal(sscanf((char *)r.output.data, "me:\n/usr\n%d\n%d", &group, &pid), 2);
    assert_int_equal(group, pid);
    runner_result_fini(&r);
}

static void no_descriptor_and_no_signal_state_leaks(void **state)
{
    (void)state;
    struct runner_result r;
    int leaky = dup(0); /* without close-on-exec */
    assert_true(leaky > 2);
    shell("ls /proc/self/fd | wc -l; grep -E 'SigBlk|SigIgn' /proc/self/status | cut -f2", &r);
    assert_output(
        &r, "4\n0000000000000000\n0000000000000000\n"); /* 0, 1, 2 and the one that ls reads */
    close(leaky);
    runner_result_fini(&r);
}

static void large_input_and_output_do_not_block_each_other(void **state)
{
    (void)state;
    size_t len = 1 << 20;
    char *input = malloc(len);
    assert_non_null(input);
    for (size_t i = 0; i < len; i++)
        input[i] = (char)('a' + i % 26);
    struct runner_result r;
    run_with((struct runner_spec){.input = input, .input_len = len}, "tee /dev/stderr", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_int_equal(r.code, 0);
    assert_int_equal(r.output.len, len);
    assert_memory_equal(r.output.data, input, len);
    assert_int_equal(r.err_len, RUNNER_STDERR_MAX_BYTES);
    assert_true(r.err_cut);
    assert_memory_equal(r.err, input + len - RUNNER_STDERR_MAX_BYTES, RUNNER_STDERR_MAX_BYTES);
    runner_result_fini(&r);
    run_with((struct runner_spec){.input = input, .input_len = len}, "exec <&-; echo done",
             &r); /* reads nothing */
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_output(&r, "done\n");
    runner_result_fini(&r);
    free(input);
}

static void too_much_output_is_stopped(void **state)
{
    (void)state;
    struct runner_result r;
    run_with((struct runner_spec){.output_max_bytes = 100000}, "yes", &r);
    assert_int_equal(r.end, RUNNER_TOO_BIG);
    assert_true(r.output.len <= 100000);
    runner_result_fini(&r);
    run_with((struct runner_spec){.output_max_bytes = 3}, "printf abc", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_output(&r, "abc");
    runner_result_fini(&r);
}

static void count_call(void *arg)
{
    ++*(int *)arg;
}

static void timeout_asks_then_kills_the_group(void **state)
{
    (void)state;
    struct runner_result r;
    int calls = 0;
    run_with((struct runner_spec){.timeout_ms = 100, .timed_out = count_call, .arg = &calls},
             "trap 'echo asked >&2; exit 0' TERM; echo up; while :; do sleep 0.02; done", &r);
    assert_int_equal(r.end, RUNNER_TIMED_OUT);
    assert_int_equal(calls, 1);
    runner_result_fini(&r);
    /* Deaf to SIGTERM, and so is its child: both must be gone. */
    run_with((struct runner_spec){.timeout_ms = 500},
             "trap '' TERM; sleep 1000 & echo $!; echo $$; wait; sleep 1000", &r);
    assert_int_equal(r.end, RUNNER_TIMED_OUT);
    int child = 0, self = 0;
    po__buf_append(&r.output, "", 1);
    assert_int_equal(sscanf((char *)r.output.data, "%d\n%d", &child, &self), 2);
    assert_gone(child);
    assert_int_equal(kill(self, 0), -1);
    runner_result_fini(&r);
}

static void what_is_left_of_the_group_is_killed(void **state)
{
    (void)state;
    struct runner_result r;
    shell("sleep 1000 & echo $!", &r); /* it holds both outputs open */
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_int_equal(r.code, 0);
    int child = 0;
    po__buf_append(&r.output, "", 1);
    assert_int_equal(sscanf((char *)r.output.data, "%d", &child), 1);
    assert_gone(child);
    runner_result_fini(&r);
}

static void a_process_that_left_the_group_is_not_waited_for(void **state)
{
    (void)state;
    struct runner_result r;
    shell("setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.3; echo '\"x\"'", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    int child = 0;
    po__buf_append(&r.output, "", 1);
    assert_int_equal(sscanf((char *)r.output.data, "%d", &child), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    runner_result_fini(&r);
}

static enum runner_stop stop_at_third_look(void *arg)
{
    return ++*(int *)arg >= 3 ? RUNNER_CANCELLED : RUNNER_GO_ON;
}

struct heard {
    struct po__buf text;
    uint64_t more_ms;
};

static uint64_t hear(void *arg, const char *data, size_t len)
{
    struct heard *h = arg;
    po__buf_append(&h->text, data, len);
    return h->more_ms;
}

static void progress_is_heard_to_the_end(void **state)
{
    (void)state;
    struct runner_result r;
    struct heard h = {.more_ms = 0};
    struct runner_spec spec = {.progress = hear, .arg = &h};
    run_with(spec, "echo one >&3; echo result; ls /proc/self/fd | wc -l; printf two >&3", &r);
    assert_output(&r, "result\n5\n"); /* 0..3 and the one that ls reads */
    assert_int_equal(h.text.len, 7);
    assert_memory_equal(h.text.data, "one\ntwo", 7);
    runner_result_fini(&r);
    po__buf_fini(&h.text);
    /* A process that left the group and holds the pipe is not waited for. */
    run_with(spec, "setsid sh -c 'echo $$ >&3; exec sleep 1000' >/dev/null 2>&1 & sleep 0.3", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    po__buf_append(&h.text, "", 1);
    assert_int_equal(kill(atoi((char *)h.text.data), SIGKILL), 0);
    runner_result_fini(&r);
    po__buf_fini(&h.text);
}

static void progress_without_end_does_not_stop_the_clock(void **state)
{
    (void)state;
    struct runner_result r;
    struct heard h = {.text.max_bytes = 1 << 20};
    run_with((struct runner_spec){.progress = hear, .arg = &h, .timeout_ms = 200},
             "exec cat /dev/zero >&3", &r);
    assert_int_equal(r.end, RUNNER_TIMED_OUT);
    runner_result_fini(&r);
    po__buf_fini(&h.text);
}

static void progress_may_bring_time(void **state)
{
    (void)state;
    struct runner_result r;
    struct heard h = {.more_ms = 60000};
    run_with((struct runner_spec){.progress = hear, .arg = &h, .timeout_ms = 300},
             "echo more >&3; sleep 0.5; echo done", &r);
    assert_int_equal(r.end, RUNNER_EXITED);
    assert_output(&r, "done\n");
    runner_result_fini(&r);
    po__buf_fini(&h.text);
}

static void a_stop_ends_the_command(void **state)
{
    (void)state;
    struct runner_result r;
    int looks = 0;
    run_with((struct runner_spec){.stop = stop_at_third_look, .arg = &looks}, "sleep 1000", &r);
    assert_int_equal(r.end, RUNNER_STOPPED);
    assert_int_equal(r.code, RUNNER_CANCELLED);
    assert_int_equal(looks, 3);
    runner_result_fini(&r);
}

static void what_cannot_start_is_named(void **state)
{
    (void)state;
    struct runner_result r;
    char *argv[] = {(char *)"no-such-program-anywhere", NULL};
    struct runner_spec spec = {
        .argv = argv, .envp = environ, .timeout_ms = 1000, .output_max_bytes = 10};
    runner_run(&spec, &r);
    assert_int_equal(r.end, RUNNER_NOT_STARTED);
    assert_int_equal(r.code, ENOENT);
    assert_string_equal(r.what, "executing it");
    runner_result_fini(&r);
    spec.cwd = "/nonexistent";
    runner_run(&spec, &r);
    assert_int_equal(r.end, RUNNER_NOT_STARTED);
    assert_string_equal(r.what, "entering its working directory");
    runner_result_fini(&r);
}

/* A process that plays the worker is killed while its command and what that started run. */
static void the_death_of_the_worker_ends_its_groups(void **state)
{
    (void)state;
    int out[2];
    assert_int_equal(pipe(out), 0);
    pid_t worker = fork();
    if (worker == 0) {
        struct runner_result r;
        char script[128];
        if (guard_start())
            _exit(1);
        shell("exit 0", &r); /* comes and goes: its number is not the guard's business any more */
        snprintf(script, sizeof script, "sleep 1000 & echo $! $$ >/proc/%d/fd/%d; wait",
                 (int)getpid(), out[1]);
        shell(script, &r);
        _exit(0);
    }
    assert_true(worker > 0);
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    int grandchild = 0, child = 0;
    assert_int_equal(fscanf(f, "%d %d", &grandchild, &child), 2);
    fclose(f);
    assert_int_equal(kill(worker, SIGKILL), 0);
    assert_int_equal(waitpid(worker, NULL, 0), worker);
    assert_gone(child);
    assert_gone(grandchild);
}

static void no_descriptor_and_no_child_is_left_here(void **state)
{
    (void)state;
    int before = dup(0), after;
    close(before);
    for (int i = 0; i < 20; i++) {
        struct runner_result r;
        shell("cat; exit 1", &r);
        runner_result_fini(&r);
        struct heard h = {.more_ms = 0};
        run_with((struct runner_spec){.progress = hear, .arg = &h}, "echo >&3", &r);
        runner_result_fini(&r);
        po__buf_fini(&h.text);
    }
    after = dup(0);
    close(after);
    assert_int_equal(before, after);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int main(void)
{
    service_init(); /* as the daemon does: blocked and ignored signals must not reach the commands
                     */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_code_output_and_error),
        cmocka_unit_test(environment_folder_and_group),
        cmocka_unit_test(no_descriptor_and_no_signal_state_leaks),
        cmocka_unit_test(large_input_and_output_do_not_block_each_other),
        cmocka_unit_test(too_much_output_is_stopped),
        cmocka_unit_test(timeout_asks_then_kills_the_group),
        cmocka_unit_test(what_is_left_of_the_group_is_killed),
        cmocka_unit_test(a_process_that_left_the_group_is_not_waited_for),
        cmocka_unit_test(progress_is_heard_to_the_end),
        cmocka_unit_test(progress_without_end_does_not_stop_the_clock),
        cmocka_unit_test(progress_may_bring_time),
        cmocka_unit_test(a_stop_ends_the_command),
        cmocka_unit_test(what_cannot_start_is_named),
        cmocka_unit_test(the_death_of_the_worker_ends_its_groups),
        cmocka_unit_test(no_descriptor_and_no_child_is_left_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
