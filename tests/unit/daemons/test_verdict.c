#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "po-workerd/verdict.h"

static char *argv[] = {(char *)"prog", NULL};
static struct command command = {.argv = argv};
static char error[PO_ERROR_TEXT_MAX_BYTES + 1];

static struct runner_result ended(enum runner_end end, int code, const char *out, const char *err)
{
    struct runner_result r = {
        .end = end, .code = code, .what = "executing it", .err_len = strlen(err)};
    memcpy(r.err, err, r.err_len);
    po__buf_append(&r.output, out, strlen(out));
    assert_int_equal(r.output.err, 0);
    return r;
}

static void expect(struct runner_result r, enum verdict verdict, const char *text)
{
    assert_int_equal(verdict_of(&r, &command, 1500, error), verdict);
    assert_string_equal(error, text);
    runner_result_fini(&r);
}

static void every_end_has_its_verdict(void **state)
{
    (void)state;
    command.final_codes[65] = true;
    expect(ended(RUNNER_EXITED, 0, "{\"a\": 1}\n", "noise"), VERDICT_SUCCEEDED, "");
    expect(ended(RUNNER_EXITED, 0, "", ""), VERDICT_FINAL,
           "the command wrote no result to standard output; it must write one JSON text, \"null\" "
           "if there is "
           "nothing to say");
    expect(ended(RUNNER_EXITED, 0, "hello", "x\n"), VERDICT_FINAL,
           "the command's standard output (5 bytes) is not one JSON text; it begins with: hello; "
           "standard error:\nx");
    expect(ended(RUNNER_EXITED, 65, "", "row 7, column 2: bad\nsecond line\n"), VERDICT_FINAL,
           "exit code 65; standard error:\nrow 7, column 2: bad\nsecond line");
    expect(ended(RUNNER_EXITED, 1, "", "\n"), VERDICT_RETRY, "exit code 1");
    expect(ended(RUNNER_SIGNALLED, SIGSEGV, "", ""), VERDICT_RETRY, "killed by signal 11 (SEGV)");
    expect(ended(RUNNER_TIMED_OUT, 0, "", "slow"), VERDICT_RETRY,
           "took longer than its limit of 1500 ms and was killed; standard error:\nslow");
    expect(ended(RUNNER_STOPPED, RUNNER_CANCELLED, "", ""), VERDICT_RETRY, "cancelled");
    expect(ended(RUNNER_TOO_BIG, 0, "", ""), VERDICT_FINAL,
           "the command wrote more than 1048576 bytes to standard output; keep what is larger "
           "as an artifact: write it to a file and return its place");
    expect(ended(RUNNER_NOT_STARTED, 2, "", ""), VERDICT_RETRY,
           "the command \"prog\" could not run: executing it: No such file or directory");
}

static void error_text_is_bounded_and_clean(void **state)
{
    (void)state;
    struct runner_result r = ended(RUNNER_EXITED, 1, "", "");
    r.err_len = RUNNER_STDERR_MAX_BYTES;
    r.err_cut = true;
    for (size_t i = 0; i < r.err_len; i++)
        r.err[i] = i % 50 == 49 ? '\n' : (char)('a' + i % 26);
    assert_int_equal(verdict_of(&r, &command, 0, error), VERDICT_RETRY);
    static const char head[] = "exit code 1; standard error ends with:\n";
    assert_memory_equal(error, head, sizeof head - 1);
    assert_true(strlen(error) > PO_ERROR_TEXT_MAX_BYTES - 60);
    assert_int_equal(strcspn(error + sizeof head - 1, "\n"), 49); /* it begins with a whole line */
    r = ended(RUNNER_EXITED, 1, "", "a\x1b[0m\xff");
    verdict_of(&r, &command, 0, error);
    assert_string_equal(error, "exit code 1; standard error:\na?[0m?");
    r = ended(RUNNER_EXITED, 1, "", "");
    r.err_len = RUNNER_STDERR_MAX_BYTES; /* one long line of two-byte characters, beginning in the
                                            middle of one */
    r.err_cut = true;
    for (size_t i = 0; i < r.err_len; i++)
        r.err[i] = i % 2 ? '\xc3' : '\xa9';
    r.err[r.err_len - 1] = '.';
    verdict_of(&r, &command, 0, error);
    assert_null(strchr(error, '?'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_end_has_its_verdict),
        cmocka_unit_test(error_text_is_bounded_and_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
