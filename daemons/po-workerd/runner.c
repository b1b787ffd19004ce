/* One poll loop feeds standard input, drains both outputs and watches the process, so that no pipe
 * can fill up while we wait on another. The process is left unreaped until its group has been
 * killed: its id, which is the group's, cannot be reused before.
 *
 *   RUNNING --timeout, stop--> ASKED (SIGTERM) --grace over--> KILLED (SIGKILL) --exit--> done
 *      |  `--too much output-----------------------------------^   ^
 *      `--exit: SIGKILL to what is left of the group; read on until both outputs end or DRAIN_MS
 * are over */
#include "runner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "guard.h"
#include "spawn.h"

#define CHUNK_BYTES 65536
#define DRAIN_MS                                                                                   \
    1000 /* a process that left the group may hold a pipe open; it is not waited for longer */

enum phase { RUNNING, ASKED, KILLED, EXITED };

struct run {
    const struct runner_spec *spec;
    struct runner_result *result;
    struct spawned child;
    enum phase phase;
    uint64_t next_ms; /* when the phase ends by itself */
    size_t fed;       /* bytes of input written */
    bool ended_by_us; /* result->end is decided; the exit status says nothing */
};

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void kill_now(struct run *r)
{
    kill(-r->child.pid, SIGKILL);
    r->phase = KILLED;
    r->next_ms = UINT64_MAX;
}

static void ask(struct run *r, enum runner_end end, int code)
{
    r->result->end = end;
    r->result->code = code;
    r->ended_by_us = true;
    r->phase = ASKED;
    r->next_ms = now_ms() + RUNNER_GRACE_MS;
    kill(-r->child.pid, SIGTERM);
}

static void feed(struct run *r)
{
    while (r->fed < r->spec->input_len) {
        size_t left = r->spec->input_len - r->fed;
        ssize_t n = write(r->child.in, (const char *)r->spec->input + r->fed,
                          left < CHUNK_BYTES ? left : CHUNK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) /* EPIPE: it does not want the rest, which is its right */
            break;
        r->fed += (size_t)n;
    }
    close_fd(&r->child.in);
}

static void keep_output(struct run *r, const char *data, size_t len)
{
    struct po__buf *out = &r->result->output;
    if (r->ended_by_us || po__buf_append(out, data, len) == 0)
        return;
    if (out->err == PO_ENOMEM) {
        r->result->what = "keeping its output";
        r->result->end = RUNNER_NOT_STARTED;
        r->result->code = ENOMEM;
    } else {
        r->result->end = RUNNER_TOO_BIG;
    }
    r->ended_by_us = true;
    if (r->phase != EXITED)
        kill_now(r);
}

static void keep_error(struct runner_result *res, const char *data, size_t len)
{
    size_t max = RUNNER_STDERR_MAX_BYTES;
    if (len >= max) {
        res->err_cut = res->err_cut || len > max || res->err_len > 0;
        memcpy(res->err, data + len - max, max);
        res->err_len = max;
        return;
    }
    if (res->err_len + len > max) {
        size_t drop = res->err_len + len - max;
        memmove(res->err, res->err + drop, res->err_len - drop);
        res->err_len -= drop;
        res->err_cut = true;
    }
    memcpy(res->err + res->err_len, data, len);
    res->err_len += len;
}

static void hear(struct run *r, const char *data, size_t len)
{
    uint64_t more_ms = r->spec->progress(r->spec->arg, data, len);
    if (more_ms && r->phase == RUNNING)
        r->next_ms = now_ms() + more_ms;
}

/* One read of what is there now from one output; closes it at its end. Poll says when there is
 * more: a chatty process must not keep us from the clock. */
static void drain(struct run *r, int *fd)
{
    char chunk[CHUNK_BYTES];
    ssize_t n;
    do
        n = read(*fd, chunk, sizeof chunk);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        close_fd(fd);
    else if (fd == &r->child.out)
        keep_output(r, chunk, (size_t)n);
    else if (fd == &r->child.err)
        keep_error(r->result, chunk, (size_t)n);
    else
        hear(r, chunk, (size_t)n);
}

static void on_exit_of_child(struct run *r)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)r->child.pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0)
        return;
    kill(-r->child.pid, SIGKILL);
    if (!r->ended_by_us) {
        r->result->end = info.si_code == CLD_EXITED ? RUNNER_EXITED : RUNNER_SIGNALLED;
        r->result->code = info.si_status;
    }
    r->phase = EXITED;
    r->next_ms = now_ms() + DRAIN_MS;
    close_fd(&r->child.in);
    close_fd(&r->child.pidfd);
}

static void on_time(struct run *r)
{
    enum runner_stop stop;
    switch (r->phase) {
    case RUNNING:
        stop = r->spec->stop ? r->spec->stop(r->spec->arg) : RUNNER_GO_ON;
        if (stop != RUNNER_GO_ON) {
            ask(r, RUNNER_STOPPED, (int)stop);
        } else if (now_ms() >= r->next_ms) {
            if (r->spec->timed_out)
                r->spec->timed_out(r->spec->arg);
            ask(r, RUNNER_TIMED_OUT, 0);
        }
        break;
    case ASKED:
        if (now_ms() >= r->next_ms)
            kill_now(r);
        break;
    case KILLED:
        break;
    case EXITED:
        if (now_ms() >= r->next_ms) {
            close_fd(&r->child.out);
            close_fd(&r->child.err);
        }
        break;
    }
}

static int wait_ms(const struct run *r)
{
    uint64_t now = now_ms();
    uint64_t left = r->next_ms > now ? r->next_ms - now : 0;
    return (int)(left < RUNNER_LOOK_MS ? left : RUNNER_LOOK_MS);
}

static void turn(struct run *r)
{
    struct pollfd fds[5] = {
        {.fd = r->child.in, .events = POLLOUT}, /* poll ignores negative descriptors */
        {.fd = r->child.out, .events = POLLIN},   {.fd = r->child.err, .events = POLLIN},
        {.fd = r->child.pidfd, .events = POLLIN}, {.fd = r->child.progress, .events = POLLIN},
    };
    int n = poll(fds, 5, wait_ms(r));
    if (n > 0) {
        if (fds[0].revents)
            feed(r);
        if (fds[1].revents)
            drain(r, &r->child.out);
        if (fds[2].revents)
            drain(r, &r->child.err);
        if (fds[4].revents)
            drain(r, &r->child.progress);
    }
    if (r->phase != EXITED && (r->child.pidfd < 0 || (n > 0 && fds[3].revents)))
        on_exit_of_child(r);
    on_time(r);
}

void runner_run(const struct runner_spec *spec, struct runner_result *result)
{
    struct run r = {.spec = spec, .result = result, .phase = RUNNING};
    *result = (struct runner_result){.end = RUNNER_NOT_STARTED};
    po__buf_init(&result->output, spec->output_max_bytes);
    result->code =
        spawn(&r.child, spec->argv, spec->envp, spec->cwd, spec->progress != NULL, &result->what);
    if (result->code)
        return;
    r.next_ms = now_ms() + spec->timeout_ms;
    if (spec->input_len == 0)
        close_fd(&r.child.in);
    while (r.phase != EXITED || r.child.out >= 0 || r.child.err >= 0)
        turn(&r);
    if (r.child.progress >= 0) /* all that the command can have left in the pipe */
        drain(&r, &r.child.progress);
    close_fd(&r.child.progress);
    guard_remove(r.child.pid);
    while (waitpid(r.child.pid, NULL, 0) < 0 && errno == EINTR)
        ;
    result->err[result->err_len] = '\0';
}

void runner_result_fini(struct runner_result *result)
{
    po__buf_fini(&result->output);
}
