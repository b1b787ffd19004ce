#include "service.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

void service_init(void)
{
    sigset_t set;
    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int service_wait_stop(uint32_t timeout_ms)
{
    sigset_t set;
    stop_signals(&set);
    struct timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000L};
    int sig = sigtimedwait(&set, NULL, &ts);
    return sig > 0 ? sig : 0;
}

static void on_alarm(int sig)
{
    static const char text[] = "stopping took too long; giving up\n";
    (void)sig;
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(1);
}

void service_exit_within(unsigned limit_s)
{
    signal(SIGALRM, on_alarm);
    alarm(limit_s);
}

void service_notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
    sd_notify(
        0, state); /* without NOTIFY_SOCKET it does nothing; its failure is systemd's to notice */
#else
    (void)state;
#endif
}
