/* Run the command of one attempt: input on standard input, result from standard output, the end of
 * standard error kept.
 *
 * The command gets a process group of its own. When runner_run returns, the command has been waited
 * for and its whole group is gone, whatever it did: nothing that stayed in the group is left
 * behind. Any number of threads at once. SIGPIPE must be ignored: a command may leave its input
 * unread. */
#ifndef PO_WORKERD_RUNNER_H
#define PO_WORKERD_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

#define RUNNER_STDERR_MAX_BYTES 4096 /* kept of standard error: its end */
#define RUNNER_GRACE_MS         2000 /* between SIGTERM and SIGKILL */
#define RUNNER_LOOK_MS          50   /* how often `stop` is asked */

/* Why a running command is to be ended early. */
enum runner_stop { RUNNER_GO_ON, RUNNER_CANCELLED, RUNNER_SHUTDOWN };

struct runner_spec {
    char *const *argv; /* argv[0] is looked up in PATH if it has no slash */
    char *const *envp;
    const char *cwd; /* NULL: this process's */
    const void *input;
    size_t input_len;
    size_t output_max_bytes;
    uint32_t timeout_ms;
    enum runner_stop (*stop)(void *arg); /* NULL: never */
    void (*timed_out)(void *arg); /* called once, before the command is told; NULL: not wanted */
    /* What the command wrote to SPAWN_PROGRESS_FD, in pieces; also while it is being ended. Returns
     * how long it may run from now on, in ms, 0: as before. NULL: it has no such descriptor. */
    uint64_t (*progress)(void *arg, const char *data, size_t len);
    void *arg;
};

enum runner_end {
    RUNNER_EXITED,    /* code: exit code */
    RUNNER_SIGNALLED, /* code: signal number */
    RUNNER_TIMED_OUT,
    RUNNER_STOPPED,     /* code: enum runner_stop */
    RUNNER_TOO_BIG,     /* more output than output_max_bytes */
    RUNNER_NOT_STARTED, /* code: errno; what: the step that failed */
};

struct runner_result {
    enum runner_end end;
    int code;
    const char *what;
    struct po__buf output;
    char err[RUNNER_STDERR_MAX_BYTES + 1]; /* the end of standard error, NUL-terminated */
    size_t err_len;
    bool err_cut; /* there was more before it */
};

/* result is initialised by the call; release it with runner_result_fini. */
void runner_run(const struct runner_spec *spec, struct runner_result *result);
void runner_result_fini(struct runner_result *result);

#endif
