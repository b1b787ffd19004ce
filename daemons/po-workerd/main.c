/* po-workerd: one worker as a process. A second thread waits for the stop signal: po_worker_run
 * holds the main one.
 *
 * A stop goes in two steps: the library stops taking tasks at once and waits for those that run;
 * after --drain-ms their commands are ended. Those attempts are not answered: when the library's
 * own wait (longer by HAND_BACK_MS) is over, it deregisters, and the cluster gives them to others.
 */
#include <errno.h>
#include <pipeorch/client.h>
#include <pipeorch/worker.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../common/logging.h"
#include "../common/service.h"
#include "attempt.h"
#include "base/alloc.h"
#include "guard.h"
#include "runner.h"
#include "settings.h"

#define HAND_BACK_MS                                                                               \
    (RUNNER_GRACE_MS + 500) /* ending the commands: they are over before others begin */
#define EXIT_SPARE_MS 2250  /* beyond both: to say goodbye; then the process ends itself */
#define WAIT_MS       200
#define READY_LOOK_MS 20 /* how often it is looked whether the worker is registered */

enum { EXIT_OK = 0, EXIT_FAULT = 1, EXIT_USAGE = 2 };

struct stopper {
    pthread_t thread;
    po_worker *worker;
    uint32_t drain_ms;
    bool ready;
    atomic_bool done; /* po_worker_run has returned */
};

/* Sleeps in slices so that the main thread never waits long for this one. */
static void drain(struct stopper *s)
{
    for (uint32_t waited = 0; waited < s->drain_ms && !atomic_load(&s->done);) {
        uint32_t slice = s->drain_ms - waited < WAIT_MS ? s->drain_ms - waited : WAIT_MS;
        if (service_wait_stop(slice)) {
            po__warn(logging(), "workerd.stop", "second signal: ending running commands now");
            return;
        }
        waited += slice;
    }
}

/* Ready is who can be given work. */
static void look_ready(struct stopper *s)
{
    char address[PO_ADDRESS_MAX_BYTES + 1];
    if (s->ready || po_worker_wait_ready(s->worker, 0))
        return;
    s->ready = true;
    if (po_worker_standalone_address(s->worker, address, sizeof address))
        po__info(logging(), "workerd.ready", "registered with the cluster");
    else
        po__info(logging(), "workerd.ready", "standalone, clients at %s", address);
    service_notify("READY=1");
}

static void *stopper_main(void *arg)
{
    struct stopper *s = arg;
    int sig = 0;
    while (!sig && !atomic_load(&s->done)) {
        look_ready(s);
        sig = service_wait_stop(s->ready ? WAIT_MS : READY_LOOK_MS);
    }
    if (!sig)
        return NULL;
    po__info(logging(), "workerd.stop", "draining on SIG%s", sigabbrev_np(sig));
    service_notify("STOPPING=1");
    service_exit_within(s->drain_ms + HAND_BACK_MS + EXIT_SPARE_MS);
    po_worker_stop(s->worker);
    drain(s);
    attempt_shut_down();
    return NULL;
}

static int standalone_mode(const struct workerd_settings *s)
{
    switch (s->standalone ? s->standalone[1] : 'u') {
    case 'l':
        return PO_STANDALONE_ALWAYS;
    case 'e':
        return PO_STANDALONE_NEVER;
    default:
        return PO_STANDALONE_AUTO;
    }
}

static int open_worker(po_worker **worker, const struct workerd_settings *s,
                       const struct capabilities *c, struct attempt_context *contexts)
{
    uint32_t threads = 0;
    for (unsigned i = 0; i < c->count; i++) {
        uint32_t n = c->commands[i].capability.max_concurrency;
        threads += n ? n : 1;
    }
    if (c->slots && threads > c->slots)
        threads = c->slots;
    struct po_worker_opts opts = {
        .size = sizeof opts,
        .id = s->id,
        .addresses = s->controllers,
        .zone = s->zone,
        .address = s->address,
        .labels = c->labels,
        .labels_count = c->labels_count,
        .resources = c->resources,
        .resources_count = c->resources_count,
        .slots = c->slots,
        .heartbeat_ms = (uint32_t)s->heartbeat_ms,
        .threads = threads, /* at most COMMANDS_AT_ONCE_MAX */
        .drain_ms = (uint32_t)s->drain_ms + HAND_BACK_MS,
        .log = logging_opts(),
        .standalone = standalone_mode(s),
        .standalone_dir = s->standalone_dir,
        .standalone_listen = s->standalone_listen,
        .insecure = s->insecure,
    };
    char error[512];
    int rv = po_worker_open(worker, &opts, error, sizeof error);
    if (rv) {
        po__error(logging(), "workerd.start", "%s (%s)", error, po_err_name(rv));
        return rv;
    }
    for (unsigned i = 0; i < c->count; i++) {
        contexts[i] = (struct attempt_context){.command = &c->commands[i], .worker_id = s->id};
        rv = po_worker_handle(*worker, &c->commands[i].capability, attempt_handle, &contexts[i]);
        if (rv) {
            po__error(logging(), "workerd.start", "capability %s is refused: %s (%s)",
                      c->commands[i].capability.name, po_strerror(rv), po_err_name(rv));
            po_worker_close(*worker);
            return rv;
        }
    }
    return 0;
}

static int run_worker(const struct workerd_settings *s, const struct capabilities *c)
{
    struct attempt_context *contexts = po__calloc(c->count, sizeof *contexts);
    struct stopper stopper = {.drain_ms = (uint32_t)s->drain_ms};
    int code = EXIT_FAULT, rv = contexts ? open_worker(&stopper.worker, s, c, contexts) : PO_ENOMEM;
    if (rv) {
        code = rv == PO_EINVAL || rv == PO_EADDR || rv == PO_EREFUSED ? EXIT_USAGE : EXIT_FAULT;
        goto err_after_contexts;
    }
    rv = pthread_create(&stopper.thread, NULL, stopper_main, &stopper);
    if (rv) {
        po__error(logging(), "workerd.start", "no thread: %s", strerror(rv));
        goto err_after_open;
    }
    po__info(logging(), "workerd.started",
             "pipeorch %s, process %d, %u capabilities, controllers %s", po_version(),
             (int)getpid(), c->count, s->controllers ? s->controllers : "none: standalone");
    rv = po_worker_run(stopper.worker);
    if (rv)
        po__error(logging(), "workerd.fault", "%s (%s)", po_client_error(), po_err_name(rv));
    else
        po__info(logging(), "workerd.stopped", "stopped");
    code = rv ? EXIT_FAULT : EXIT_OK;
    atomic_store(&stopper.done, true);
    pthread_join(stopper.thread, NULL);
err_after_open:
    attempt_shut_down(); /* attempts that were never answered */
    po_worker_close(stopper.worker);
err_after_contexts:
    po__free(contexts);
    return code;
}

/* The capabilities file is checked even if options are wrong: all problems come at once. */
static void load(struct capabilities *c, struct opt_run *run, const struct workerd_settings *s)
{
    if (run->help || run->version || !s->capabilities)
        return;
    struct po__doc d = {0};
    if (capabilities_load(c, &d, s->capabilities, environ) == PO_ENOMEM)
        opt_problem(run, "capabilities", "cannot be kept: out of memory");
    opt_add_problems(run, &d.problems, d.count);
    po__buf_fini(&d.problems);
}

/* What one option alone cannot tell. The endpoint has a default here, because a process has no
 * other way in: whether the worker may be standalone beside a cluster depends on what was given. */
static void check_together(struct opt_run *run, struct workerd_settings *s)
{
    if (run->help || run->version)
        return;
    if (!s->controllers && strcmp(s->standalone, "never") == 0)
        opt_problem(run, "controllers", "is missing; --standalone never needs it");
    if (s->controllers && strcmp(s->standalone, "auto") == 0 &&
        !opt_given(run, "standalone_listen") && !s->standalone_dir)
        s->standalone_listen = NULL;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct workerd_settings s = {0};
    struct capabilities c = {0};
    struct opt_run run;
    service_init();
    opt_read(&run, &workerd_tool, &s, argv, environ);
    check_together(&run, &s);
    load(&c, &run, &s);
    int code = opt_finish(&run);
    if (code < 0 && s.check_config)
        code = EXIT_OK;
    if (code < 0) {
        logging_init(s.log_format, s.log_level, s.id);
        int error = guard_start();
        if (error)
            po__error(logging(), "workerd.start", "no guard process: %s", strerror(error));
        code = error ? EXIT_FAULT : run_worker(&s, &c);
        guard_stop();
    }
    capabilities_fini(&c);
    opt_fini(&run);
    return code;
}
