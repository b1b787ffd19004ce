/* po-controld: one control node as a process. Everything it does is in the library; this file turns
 * options into po_node_opts, signals into po_node_stop, and a fault into an exit code. */
#include <pipeorch/node.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/logging.h"
#include "../common/service.h"
#include "check_dir.h"
#include "settings.h"

#define POLL_MS       100  /* between looks at the node's health */
#define STOP_LIMIT_MS 9000 /* a stop is promised within 10 s */

#define HAND_OVER_MS  5000 /* of those, for the next leader to take over */
#define JOIN_AGAIN_MS 500

enum { EXIT_OK = 0, EXIT_FAULT = 1, EXIT_USAGE = 2, EXIT_REMOVED = 3 };

/* "name=host:port,..." split in place of a copy. The form was checked by the option. */
struct members {
    char text[OPT_VALUE_MAX_BYTES + 1];
    struct po_member list[PO_MEMBERS_MAX];
    size_t count;
};

static void read_members(struct members *m, struct opt_run *run, const struct controld_settings *s)
{
    static const char option[] = "initial_members";
    bool self = false;
    snprintf(m->text, sizeof m->text, "%s", s->initial_members);
    char *rest = m->text, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        if (m->count == PO_MEMBERS_MAX) {
            opt_problem(run, option, "has more than %d members", PO_MEMBERS_MAX);
            return;
        }
        char *eq = strchr(item, '=');
        *eq = '\0';
        for (size_t i = 0; i < m->count; i++) {
            if (strcmp(m->list[i].name, item) == 0)
                opt_problem(run, option, "names \"%s\" twice; names must be unique", item);
            if (strcmp(m->list[i].address, eq + 1) == 0)
                opt_problem(run, option, "gives %s to both \"%s\" and \"%s\"", eq + 1,
                            m->list[i].name, item);
        }
        self = self || (s->name && strcmp(item, s->name) == 0);
        m->list[m->count++] = (struct po_member){.name = item, .address = eq + 1};
    }
    if (s->name && !self)
        opt_problem(run, option, "does not name this node, \"%s\"; all members must be listed",
                    s->name);
    if (m->count > 1 && !s->listen)
        opt_problem(run, "listen", "is missing; a cluster of several nodes needs it");
}

/* What one option alone cannot tell. */
static void check_together(struct opt_run *run, struct controld_settings *s, struct members *m)
{
    if (s->initial_members)
        read_members(m, run, s);
    if (!opt_given(run, "heartbeat_ms") && s->heartbeat_ms > s->election_ms / 3)
        s->heartbeat_ms = s->election_ms / 3;
    if (!opt_given(run, "trailing_bytes") && s->trailing_bytes > s->snapshot_bytes * 4)
        s->trailing_bytes = s->snapshot_bytes * 4;
    if (s->heartbeat_ms > s->election_ms / 3)
        opt_problem(run, "heartbeat_ms", "is %llu; must be at most a third of --election-ms, %llu",
                    (unsigned long long)s->heartbeat_ms, (unsigned long long)s->election_ms / 3);
    if (s->trailing_bytes > s->snapshot_bytes * 4)
        opt_problem(
            run, "trailing_bytes", "is %llu; must be at most four times --snapshot-bytes, %llu",
            (unsigned long long)s->trailing_bytes, (unsigned long long)s->snapshot_bytes * 4);
    if (s->segment_bytes % 4096)
        opt_problem(run, "segment_bytes", "is %llu; must be a multiple of 4096",
                    (unsigned long long)s->segment_bytes);
    if (s->join && s->bootstrap)
        opt_problem(run, "join",
                    "excludes --bootstrap: one becomes a member of a cluster that "
                    "runs, the other founds one");
    if (s->join && !s->listen)
        opt_problem(run, "join", "needs --listen: the members must reach this node");
    if (!s->join && opt_given(run, "join_as"))
        opt_problem(run, "join_as", "needs --join");
    if (s->advertise && !s->listen)
        opt_problem(run, "advertise", "needs --listen");
    if (s->worker_advertise && !s->worker_listen)
        opt_problem(run, "worker_advertise", "needs --worker-listen");
}

static int start_code(int rv)
{
    switch (rv) {
    case PO_EINVAL:
    case PO_EREFUSED:
    case PO_EIDENTITY:
    case PO_EEXISTS:
    case PO_EQUOTA:
    case PO_ENOTBOOTSTRAPPED:
        return EXIT_USAGE;
    default:
        return EXIT_FAULT;
    }
}

/* Clients and workers are not to notice that a leader stops. */
static void hand_over(po_node *node)
{
    service_exit_within(STOP_LIMIT_MS);
    int rv = po_node_hand_over(node, HAND_OVER_MS);
    if (rv)
        po__info(logging(), "controld.stop", "nobody takes over: %s", po_strerror(rv));
}

/* Nothing is wrong with this node or its options: the cluster could not be reached, or has no
 * leader just now. */
static bool join_again(const struct controld_settings *s, int rv)
{
    if (!s->join)
        return false;
    switch (rv) {
    case PO_EUNREACHABLE:
    case PO_ETIMEDOUT:
    case PO_ENOLEADER:
    case PO_EUNKNOWN:
    case PO_EBUSY:
        return true;
    default:
        return false;
    }
}

/* *sig: the signal that ended the attempts to join, or 0. */
static int start(po_node **node, const struct po_node_opts *opts, const struct controld_settings *s,
                 int *sig)
{
    char error[1024], said[1024] = "";
    *sig = 0;
    for (;;) {
        int rv = po_node_start(node, opts, error, sizeof error);
        if (rv == 0)
            return 0;
        bool again = join_again(s, rv);
        if (strcmp(error, said) != 0) /* each reason once */
            po__log(logging(), again ? PO_LOG_WARN : PO_LOG_ERROR, "controld.start", "%s (%s)%s",
                    error, po_err_name(rv), again ? "; trying again" : "");
        snprintf(said, sizeof said, "%s", error);
        if (!again || (*sig = service_wait_stop(JOIN_AGAIN_MS)) != 0)
            return rv;
    }
}

/* Until a signal or a fault. */
static int serve(po_node *node)
{
    for (;;) {
        struct po_node_status status = {.size = sizeof status};
        int sig = service_wait_stop(POLL_MS);
        if (sig) {
            po__info(logging(), "controld.stop", "stopping on SIG%s", sigabbrev_np(sig));
            hand_over(node);
            return EXIT_OK;
        }
        if (po_node_status(node, &status) == 0 && status.role == PO_ROLE_STOPPED) {
            if (status.code == PO_EREMOVED) {
                po__error(logging(), "controld.removed", "%s", status.message);
                return EXIT_REMOVED;
            }
            po__error(logging(), "controld.fault", "the node stopped: %s", status.message);
            return EXIT_FAULT;
        }
    }
}

static int run_node(const struct controld_settings *s, const struct members *m)
{
    struct po_node_opts opts = {
        .size = sizeof opts,
        .name = s->name,
        .data_dir = s->data_dir,
        .zone = s->zone,
        .cluster = s->cluster,
        .listen = s->listen,
        .advertise = s->advertise,
        .worker_listen = s->worker_listen,
        .worker_advertise = s->worker_advertise,
        .bootstrap = s->bootstrap,
        .members = m->count ? m->list : NULL,
        .members_count = m->count,
        .insecure = s->insecure,
        .election_ms = (uint32_t)s->election_ms,
        .heartbeat_ms = (uint32_t)s->heartbeat_ms,
        .snapshot_bytes = s->snapshot_bytes,
        .trailing_bytes = s->trailing_bytes,
        .segment_bytes = s->segment_bytes,
        .log = logging_opts(),
        .failover_hint_off = !s->failover_hint,
        .join = s->join,
        .join_standby = s->join && strcmp(s->join_as, "standby") == 0,
        .prefer_zone = s->prefer_zone,
        .time_zone_dir = getenv("TZDIR"),
    };
    po_node *node = NULL;
    char address[PO_ADDRESS_MAX_BYTES + 1];
    int sig, rv = start(&node, &opts, s, &sig);
    if (rv)
        return sig ? EXIT_OK : start_code(rv);
    bool serves = po_node_worker_address(node, address, sizeof address) == 0;
    po__info(logging(), "controld.ready", "pipeorch %s, process %d, %s%s", po_version(),
             (int)getpid(), serves ? "workers and clients at " : "no address for workers",
             serves ? address : "");
    service_notify("READY=1");
    int code = serve(node);
    service_notify("STOPPING=1");
    service_exit_within(STOP_LIMIT_MS);
    po_node_stop(node);
    po__info(logging(), "controld.stopped", "stopped");
    return code;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct controld_settings s = {0};
    static struct members m; /* the strings of the options point here */
    struct opt_run run;
    service_init();
    opt_read(&run, &controld_tool, &s, argv, environ);
    if (!run.help && !run.version && !s.check_dir)
        check_together(&run, &s, &m);
    int code = opt_finish(&run);
    if (code < 0 && s.check_dir)
        code = check_dir(s.check_dir, strcmp(s.log_format, "json") == 0);
    if (code < 0 && s.check_config)
        code = EXIT_OK;
    if (code < 0) {
        logging_init(s.log_format, s.log_level, s.name);
        code = run_node(&s, &m);
    }
    opt_fini(&run);
    return code;
}
