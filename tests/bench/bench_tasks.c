/* bench_tasks: whole task cycles (submitted, handed to a worker process over TCP, completed) on
 * three durable nodes on loopback, with four worker processes.
 *
 *   bench_tasks [--tasks N] [--dir D]
 *
 * Three measures, one JSON line each: "warm" (one task at a time on an idle cluster, submit until
 * its result is known, beside one commit in the same run), "unbatched" (each poll and completion
 * carries one task) and "batched" (up to 64). A cycle counts when its completion is committed. */
#include "bench.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 4

static long tasks = 20000;
static const char *dir = NULL;

struct measure {
    const char *name;
    uint32_t batch_max, concurrency;
    long outstanding_max; /* submitted and not finished */
    long count;
};

/* ---- workers ---- */

static void nothing(void *arg, po_task *task)
{
    (void)arg;
    if (po_task_complete(task, "null", 4))
        po_task_fail(task, "cannot complete", 1);
}

static po_worker *worker;

static void on_term(int sig)
{
    (void)sig;
    po_worker_stop(worker);
}

static void run_worker(const char *addresses, const struct measure *m, unsigned i)
{
    char id[32], error[256];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(id, sizeof id, "w-%s-%u", m->name, i);
    struct po_worker_opts o = {.size = sizeof o,
                               .id = id,
                               .addresses = addresses,
                               .batch_max = m->batch_max,
                               .threads = 1};
    struct po_capability cap = {
        .size = sizeof cap, .name = "bench:nothing", .max_concurrency = m->concurrency};
    int rv = po_worker_open(&worker, &o, error, sizeof error);
    if (rv == 0)
        rv = po_worker_handle(worker, &cap, nothing, NULL);
    signal(SIGTERM, on_term);
    if (rv == 0)
        rv = po_worker_run(worker);
    if (rv)
        fprintf(stderr, "%s: %s\n", id, po_err_name(rv));
    po_worker_close(worker);
    exit(rv != 0);
}

/* ---- load ---- */

static uint64_t number(const char *json, const char *key)
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *p = strstr(json, pattern);
    return p ? strtoull(p + strlen(pattern), NULL, 10) : 0;
}

struct counts {
    uint64_t online, unfinished;
};

static int ask(po_client *client, struct counts *c)
{
    char *json = NULL;
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_STATUS};
    int rv = po_query(client, &q, NULL, &json);
    if (rv) {
        fprintf(stderr, "status: %s: %s\n", po_err_name(rv), po_client_error());
        return rv;
    }
    c->online = number(json, "workers_online");
    c->unfinished = number(json, "tasks_pending") + number(json, "tasks_running") +
                    number(json, "tasks_scheduled");
    po_free(json);
    return 0;
}

static _Atomic long submitted, submit_errors;

static void on_submitted(void *arg, const struct po_result *r)
{
    (void)arg;
    if (r->code)
        atomic_fetch_add(&submit_errors, 1);
    atomic_fetch_add(&submitted, 1);
}

/* Keep about outstanding_max tasks unfinished until count were submitted, then wait until none is
 * left. */
static int flood(po_client *client, const struct measure *m, double *elapsed)
{
    struct po_task_opts t = {.size = sizeof t, .capability = "bench:nothing"};
    struct counts c = {0};
    long sent = 0;
    atomic_store(&submitted, 0);
    uint64_t start = bench_now_ns();
    while (sent < m->count || c.unfinished) {
        if (ask(client, &c))
            return 1;
        long room = m->outstanding_max - (long)c.unfinished - (sent - atomic_load(&submitted));
        for (; room > 0 && sent < m->count; room--, sent++) {
            int rv = po_submit_task_async(client, &t, NULL, on_submitted, NULL);
            if (rv == PO_EBUSY)
                break;
            if (rv)
                return 1;
        }
        if (sent == m->count && !c.unfinished && atomic_load(&submitted) < sent)
            c.unfinished = 1;
        usleep(500);
    }
    *elapsed = (double)(bench_now_ns() - start) / 1e9;
    return atomic_load(&submit_errors) != 0;
}

/* One commit on the idle cluster: the same path as a submit, without a worker. */
static void ignore(void *arg, const struct po_result *r)
{
    (void)r;
    atomic_store((atomic_int *)arg, 1);
}

static int one_commit(po_client *client, uint64_t *ns)
{
    atomic_int done = 0;
    struct po_task_opts t = {.size = sizeof t, .capability = "bench:nobody"};
    uint64_t start = bench_now_ns();
    int rv = po_submit_task_async(client, &t, NULL, ignore, &done);
    while (rv == 0 && !atomic_load(&done))
        usleep(1);
    *ns = bench_now_ns() - start;
    return rv;
}

static int warm(po_client *client, double disk_us)
{
    enum { ROUNDS = 1000 };
    struct bench_hist *cycle = calloc(1, sizeof *cycle), *commit = calloc(1, sizeof *commit);
    struct po_task_opts t = {.size = sizeof t, .capability = "bench:nothing"};
    int rv = 0;
    for (int i = 0; i < ROUNDS && rv == 0; i++) {
        uint64_t ns, id, start = bench_now_ns();
        rv = po_submit_task(client, &t, NULL, &id);
        if (rv == 0)
            rv = po_task_wait(client, id, NULL, NULL);
        bench_hist_add(cycle, bench_now_ns() - start);
        if (rv == 0)
            rv = one_commit(client, &ns);
        if (rv == 0)
            bench_hist_add(commit, ns);
    }
    printf("{\"bench\":\"tasks\",\"mode\":\"warm\",\"window\":1,\"cycles_per_s\":%.0f,\"p50_us\":%."
           "1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
           "\"commit_p50_us\":%.1f,\"p50_per_commit\":%.2f,\"disk_write_p50_us\":%.1f,\"rss_mib\":%"
           ".1f}\n",
           1e6 / bench_hist_us(cycle, 0.5), bench_hist_us(cycle, 0.5), bench_hist_us(cycle, 0.99),
           bench_hist_us(cycle, 0.999), (double)cycle->max_ns / 1e3, bench_hist_us(commit, 0.5),
           bench_hist_us(cycle, 0.5) / bench_hist_us(commit, 0.5), disk_us,
           bench_rss_mib(getpid()));
    fflush(stdout);
    free(cycle);
    free(commit);
    return rv;
}

static int with_workers(po_client *client, const struct measure *m, const pid_t *pids,
                        double disk_us)
{
    struct counts c = {0};
    double elapsed = 0;
    uint64_t start = bench_now_ns();
    while (c.online < WORKERS) {
        if (ask(client, &c) || bench_now_ns() - start > 20000000000u)
            return 1;
        usleep(10000);
    }
    int rv = strcmp(m->name, "warm") == 0 ? warm(client, disk_us) : flood(client, m, &elapsed);
    if (rv == 0 && elapsed > 0)
        printf("{\"bench\":\"tasks\",\"mode\":\"%s\",\"window\":%ld,\"cycles_per_s\":%.0f,"
               "\"tasks\":%ld,\"workers\":%d,\"batch_max\":%u,"
               "\"disk_write_p50_us\":%.1f,\"rss_mib\":%.1f,\"worker_rss_mib\":%.1f}\n",
               m->name, m->outstanding_max, (double)m->count / elapsed, m->count, WORKERS,
               m->batch_max, disk_us, bench_rss_mib(getpid()), bench_rss_mib(pids[0]));
    fflush(stdout);
    return rv;
}

static int lead(po_node *node, const struct bench_cluster *c, void *arg)
{
    const struct measure *m = arg;
    pid_t pids[WORKERS];
    double disk_us = bench_disk_write(c->dir, 1).p50_us;
    int rv, status;
    char self[4096], count[32];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    for (unsigned i = 0; i < WORKERS;
         i++) { /* a program of their own: a forked child has none of its parent's threads */
        snprintf(count, sizeof count, "%u", i);
        pids[i] = fork();
        if (pids[i] == 0) {
            execl(self, self, "--worker", m->name, count, c->worker_addresses, (char *)NULL);
            _exit(127);
        }
    }
    rv = with_workers(po_node_client(node), m, pids, disk_us);
    for (unsigned i = 0; i < WORKERS; i++)
        kill(pids[i], SIGTERM);
    for (unsigned i = 0; i < WORKERS; i++)
        if (waitpid(pids[i], &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
            rv = 1;
    return rv;
}

int main(int argc, char **argv)
{
    struct measure measures[] = {
        {"warm", 1, 4, 1, 0},
        {"unbatched", 1, 4, 64, 0},
        {"batched", 64, 256, 1024, 0},
    };
    const unsigned measures_count = sizeof measures / sizeof *measures;
    if (argc == 5 && strcmp(argv[1], "--worker") == 0)
        for (unsigned i = 0; i < measures_count; i++)
            if (strcmp(measures[i].name, argv[2]) == 0)
                run_worker(argv[4], &measures[i], (unsigned)atoi(argv[3]));
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--tasks") == 0)
            tasks = atol(argv[i + 1]);
        else if (i + 1 < argc && strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else
            return fprintf(stderr, "usage: bench_tasks [--tasks N] [--dir D]\n"), 2;
    }
    measures[1].count = tasks;
    measures[2].count = tasks * 5;
    int rv = 0;
    for (unsigned i = 0; i < measures_count && rv == 0; i++)
        rv = bench_cluster_run(dir, NULL, lead, &measures[i]);
    return rv;
}
