/* fork and exec by hand, because posix_spawn cannot ask for PR_SET_PDEATHSIG: a worker that is
 * killed must not leave its commands running. Between fork and exec the child makes only
 * async-signal-safe calls (other threads may have held any lock), and it reports the errno of a
 * failed step through a close-on-exec pipe that a successful exec closes. */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <linux/close_range.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"

enum step { STEP_SETUP, STEP_CWD, STEP_EXEC };

struct report {
    int step;
    int error;
};

/* The pipes of one start; [0] is read from, [1] written to. */
struct pipes {
    int in[2], out[2], err[2], progress[2], report[2];
};

static void close_if(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_pair(int pair[2])
{
    close_if(&pair[0]);
    close_if(&pair[1]);
}

static void pipes_close(struct pipes *p)
{
    close_pair(p->in);
    close_pair(p->out);
    close_pair(p->err);
    close_pair(p->progress);
    close_pair(p->report);
}

static int pipes_open(struct pipes *p, bool progress)
{
    *p = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    if (pipe2(p->in, O_CLOEXEC) || pipe2(p->out, O_CLOEXEC) || pipe2(p->err, O_CLOEXEC) ||
        (progress && pipe2(p->progress, O_CLOEXEC)) || pipe2(p->report, O_CLOEXEC)) {
        int error = errno;
        pipes_close(p);
        return error;
    }
    return 0;
}

_Noreturn static void child_fail(int report, enum step step)
{
    struct report r = {step, errno};
    ssize_t ignored = write(report, &r, sizeof r); /* the parent sees the exit anyway */
    (void)ignored;
    _exit(127);
}

/* A descriptor that must become 0..3 may sit there already or on another's place: move all out of
 * the way first. */
static int out_of_the_way(int fd)
{
    return fd > SPAWN_PROGRESS_FD ? fd : fcntl(fd, F_DUPFD_CLOEXEC, SPAWN_PROGRESS_FD + 1);
}

static int default_signals(void)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl,
                  NULL); /* fails for SIGKILL, SIGSTOP and the C library's own: no matter */
    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void child(const struct pipes *p, pid_t parent, char *const *argv,
                            char *const *envp, const char *cwd)
{
    int report = out_of_the_way(p->report[1]);
    int in = out_of_the_way(p->in[0]), out = out_of_the_way(p->out[1]);
    int err = out_of_the_way(p->err[1]);
    bool tells = p->progress[1] >= 0;
    int progress = tells ? out_of_the_way(p->progress[1]) : -1;
    if (report < 0 || in < 0 || out < 0 || err < 0 || (tells && progress < 0) || setpgid(0, 0))
        child_fail(report, STEP_SETUP);
    guard_add(getpid());
    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        child_fail(report, STEP_SETUP);
    if (getppid() != parent) /* it died before the line above */
        _exit(127);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(err, STDERR_FILENO) < 0 || (tells && dup2(progress, SPAWN_PROGRESS_FD) < 0) ||
        default_signals())
        child_fail(report, STEP_SETUP);
    if (cwd && chdir(cwd))
        child_fail(report, STEP_CWD);
    close_range(tells ? SPAWN_PROGRESS_FD + 1 : STDERR_FILENO + 1, ~0u,
                CLOSE_RANGE_CLOEXEC); /* whatever a library forgot to mark */
    environ = (char **)envp;          /* execvp searches the PATH that the command is given */
    execvp(argv[0], argv);
    child_fail(report, STEP_EXEC);
}

/* Waits until the exec has happened or failed. Returns 0 or an errno. */
static int await_exec(int fd, const char **what)
{
    static const char *const steps[] = {
        [STEP_SETUP] = "setting up the process",
        [STEP_CWD] = "entering its working directory",
        [STEP_EXEC] = "executing it",
    };
    struct report r;
    ssize_t n;
    do
        n = read(fd, &r, sizeof r);
    while (n < 0 && errno == EINTR);
    if (n != sizeof r)
        return 0;
    *what = steps[r.step];
    return r.error;
}

static void nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

int spawn(struct spawned *c, char *const *argv, char *const *envp, const char *cwd, bool progress,
          const char **what)
{
    struct pipes p;
    sigset_t all, before;
    *what = "opening pipes";
    int error = pipes_open(&p, progress);
    if (error)
        return error;
    pid_t parent = getpid();
    /* No handler of ours may run in the child before its signals are reset. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->pid = fork();
    if (c->pid == 0)
        child(&p, parent, argv, envp, cwd);
    error = c->pid < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    *what = "starting a process";
    if (error)
        goto err_after_pipes;
    close_if(&p.in[0]);
    close_if(&p.out[1]);
    close_if(&p.err[1]);
    close_if(&p.progress[1]);
    close_if(&p.report[1]);
    error = await_exec(p.report[0], what);
    if (error)
        goto err_after_fork;
    *what = "watching the process";
    c->pidfd = pidfd_open(c->pid, 0);
    if (c->pidfd < 0 && errno != ENOSYS) {
        error = errno;
        goto err_after_fork;
    }
    nonblocking(p.in[1]);
    nonblocking(p.out[0]);
    nonblocking(p.err[0]);
    if (progress)
        nonblocking(p.progress[0]);
    c->in = take(&p.in[1]);
    c->out = take(&p.out[0]);
    c->err = take(&p.err[0]);
    c->progress = take(&p.progress[0]);
    pipes_close(&p);
    return 0;
err_after_fork:
    kill(c->pid, SIGKILL);
    guard_remove(c->pid);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ;
err_after_pipes:
    pipes_close(&p);
    return error;
}
