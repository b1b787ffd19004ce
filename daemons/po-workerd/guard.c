#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int to_guard = -1;
static pid_t guard_pid;

struct groups {
    pid_t list[GUARD_GROUPS_MAX];
    unsigned count;
};

static void note(struct groups *g, int32_t record)
{
    if (record > 0) {
        if (g->count < GUARD_GROUPS_MAX)
            g->list[g->count++] = record;
        return;
    }
    for (unsigned i = 0; i < g->count; i++) {
        if (g->list[i] == -record) {
            g->list[i] = g->list[--g->count];
            return;
        }
    }
}

/* Records are four bytes and written at once, so a pipe never hands out a part of one. */
_Noreturn static void watch(int from_worker)
{
    static struct groups g;
    int32_t records[256];
    for (;;) {
        ssize_t n = read(from_worker, records, sizeof records);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        for (size_t i = 0; i < (size_t)n / sizeof *records; i++)
            note(&g, records[i]);
    }
    for (unsigned i = 0; i < g.count; i++)
        kill(-g.list[i], SIGKILL);
    _exit(0);
}

_Noreturn static void be_guard(const int pair[2])
{
    close(pair[1]);
    prctl(PR_SET_NAME, "po-workerd-grd");
    setsid(); /* what is sent to the worker's group or terminal is not meant for the guard */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) { /* who reads the worker's output must see its end when the worker ends */
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
    watch(pair[0]);
}

int guard_start(void)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC))
        return errno;
    guard_pid = fork();
    if (guard_pid == 0)
        be_guard(pair);
    int error = guard_pid < 0 ? errno : 0;
    close(pair[0]);
    if (error)
        close(pair[1]);
    else
        to_guard = pair[1];
    return error;
}

static void tell(int32_t record)
{
    ssize_t n = 0;
    while (to_guard >= 0 && (n = write(to_guard, &record, sizeof record)) < 0 && errno == EINTR)
        ;
    (void)n; /* a guard that was killed guards nothing; the commands still get PR_SET_PDEATHSIG */
}

void guard_add(pid_t group)
{
    tell(group);
}

void guard_remove(pid_t group)
{
    tell(-group);
}

void guard_stop(void)
{
    if (to_guard < 0)
        return;
    close(to_guard);
    to_guard = -1;
    while (waitpid(guard_pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
