/* bench_tasks: whole task cycles (submitted, handed to a worker process over TCP, completed) on
 * three durable nodes on loopback, with four worker processes.
 *
 *   bench_tasks [--tasks N] [--dir D]
 *
 * One JSON line each: "warm" (one task at a time on an idle cluster, submit until its result is
 * known, beside one commit in the same run), "chain" (a run of 40 steps, likewise), "unbatched"
 * (each poll and completion carries one task), "batched" (up to 64), and "mixed": batched, and
 * every task asks for something: a range of versions, resources, a priority, a concurrency key. A
 * cycle counts when its completion is committed. share_min is the part that the worker with the
 * fewest tasks got, in units of an equal share: 1 is perfectly fair. */
#include "bench.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
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
    int mixed; /* tasks ask for more than the essentials */
};

/* ---- workers ---- */

static _Atomic unsigned long handled;

static void nothing(void *arg, po_task *task)
{
    (void)arg;
    atomic_fetch_add(&handled, 1);
    if (po_task_complete(task, "null", 4))
        po_task_fail(task, "cannot complete", 1);
}

static po_worker *worker;

static void on_term(int sig)
{
    (void)sig;
    po_worker_stop(worker);
}

/* Left for the process that measures. */
static int write_handled(const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return 1;
    int rv = fprintf(f, "%lu\n", atomic_load(&handled)) < 0;
    return fclose(f) || rv;
}

static void run_worker(const char *addresses, const struct measure *m, unsigned i, const char *path)
{
    char id[32], error[256];
    const struct po_resource resources[] = {{"cpu_milli", 100000}, {"licences", 10000}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(id, sizeof id, "w-%s-%u", m->name, i);
    struct po_worker_opts o = {.size = sizeof o,
                               .id = id,
                               .addresses = addresses,
                               .batch_max = m->batch_max,
                               .threads = 1,
                               .resources = resources,
                               .resources_count = 2};
    struct po_capability cap = {.size = sizeof cap,
                                .name = "bench:nothing",
                                .version = "1.2.3",
                                .max_concurrency = m->concurrency};
    int rv = po_worker_open(&worker, &o, error, sizeof error);
    if (rv == 0)
        rv = po_worker_handle(worker, &cap, nothing, NULL);
    signal(SIGTERM, on_term);
    if (rv == 0)
        rv = po_worker_run(worker);
    if (rv)
        fprintf(stderr, "%s: %s\n", id, po_err_name(rv));
    po_worker_close(worker);
    exit(write_handled(path) || rv != 0);
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

/* The i-th task of the mixed load: no two neighbours ask for the same. */
static void ask_for_more(struct po_task_opts *t, struct po_placement *p, long i)
{
    static const struct po_resource resources[] = {{"cpu_milli", 10}};
    static const char *const keys[] = {"tenant-0", "tenant-1", "tenant-2", "tenant-3"};
    *p = (struct po_placement){.size = sizeof *p, .version = i % 2 ? "^1.2" : NULL};
    if (i % 3 == 0) {
        p->resources = resources;
        p->resources_count = 1;
    }
    p->prefer = i % 5 == 0 ? PO_PREFER_SPREAD : PO_PREFER_BALANCE;
    t->placement = p;
    t->priority = (uint32_t)(i % (PO_PRIORITY_MAX + 1));
    t->concurrency_key = i % 4 == 0 ? keys[i / 4 % 4] : NULL;
    t->concurrency_max = t->concurrency_key ? 200 : 0;
}

/* Keep about outstanding_max tasks unfinished until count were submitted, then wait until none is
 * left. */
static int flood(po_client *client, const struct measure *m, double *elapsed)
{
    struct po_task_opts t = {.size = sizeof t, .capability = "bench:nothing"};
    struct po_placement place;
    struct counts c = {0};
    long sent = 0;
    atomic_store(&submitted, 0);
    uint64_t start = bench_now_ns();
    while (sent < m->count || c.unfinished) {
        if (ask(client, &c))
            return 1;
        long room = m->outstanding_max - (long)c.unfinished - (sent - atomic_load(&submitted));
        for (; room > 0 && sent < m->count; room--, sent++) {
            if (m->mixed)
                ask_for_more(&t, &place, sent);
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

/* A run of CHAIN steps, from its start until its end is known. */
#define CHAIN 40
static int define_chain(po_client *client)
{
    static char json[CHAIN * 128 + 128];
    size_t n = (size_t)snprintf(json, sizeof json,
                                "{\"name\":\"chain\",\"start_node\":\"s0\",\"steps\":[");
    for (int i = 0; i < CHAIN; i++)
        n += (size_t)snprintf(json + n, sizeof json - n,
                              i + 1 < CHAIN
                                  ? "{\"name\":\"s%d\",\"capability\":\"bench:nothing\","
                                    "\"next_node\":\"s%d\"},"
                                  : "{\"name\":\"s%d\",\"capability\":\"bench:nothing\"}]}",
                              i, i + 1);
    return po_pipeline_define(client, json, n, NULL);
}

static int chain(po_client *client, double disk_us)
{
    enum { ROUNDS = 100 };
    struct bench_hist *run = calloc(1, sizeof *run), *commit = calloc(1, sizeof *commit);
    int rv = define_chain(client), state = 0;
    for (int i = 0; i < ROUNDS && rv == 0; i++) {
        uint64_t ns, id, start = bench_now_ns();
        rv = po_run_start(client, "chain", NULL, NULL, NULL, &id);
        if (rv == 0)
            rv = po_run_wait(client, id, NULL, &state, NULL);
        bench_hist_add(run, bench_now_ns() - start);
        if (rv == 0 && state != PO_RUN_SUCCEEDED)
            rv = 1;
        if (rv == 0)
            rv = one_commit(client, &ns);
        if (rv == 0)
            bench_hist_add(commit, ns);
    }
    printf("{\"bench\":\"tasks\",\"mode\":\"chain\",\"steps\":%d,\"p50_us\":%.1f,\"p99_us\":%.1f,"
           "\"commit_p50_us\":%.1f,\"p50_per_commit\":%.2f,\"disk_write_p50_us\":%.1f}\n",
           CHAIN, bench_hist_us(run, 0.5), bench_hist_us(run, 0.99), bench_hist_us(commit, 0.5),
           bench_hist_us(run, 0.5) / bench_hist_us(commit, 0.5), disk_us);
    fflush(stdout);
    free(run);
    free(commit);
    return rv;
}

static int with_workers(po_client *client, const struct measure *m, double disk_us, double *elapsed)
{
    struct counts c = {0};
    uint64_t start = bench_now_ns();
    while (c.online < WORKERS) {
        if (ask(client, &c) || bench_now_ns() - start > 20000000000u)
            return 1;
        usleep(10000);
    }
    if (strcmp(m->name, "warm") == 0)
        return warm(client, disk_us);
    if (strcmp(m->name, "chain") == 0)
        return chain(client, disk_us);
    return flood(client, m, elapsed);
}

static void count_path(char *path, size_t len, const struct bench_cluster *c, unsigned i)
{
    snprintf(path, len, "%s/worker-%u", c->dir, i);
}

/* The part of the worker that got least, in equal shares; -1: not known. */
static double share_min(const struct bench_cluster *c)
{
    unsigned long least = ULONG_MAX, sum = 0, n;
    for (unsigned i = 0; i < WORKERS; i++) {
        char path[512];
        count_path(path, sizeof path, c, i);
        FILE *f = fopen(path, "r");
        bool known = f && fscanf(f, "%lu", &n) == 1;
        if (f)
            fclose(f);
        if (!known)
            return -1;
        least = n < least ? n : least;
        sum += n;
    }
    return sum ? (double)least * WORKERS / (double)sum : -1;
}

static int lead(po_node *node, const struct bench_cluster *c, void *arg)
{
    const struct measure *m = arg;
    pid_t pids[WORKERS];
    double disk_us = bench_disk_write(c->dir, 1).p50_us;
    int rv, status;
    char self[4096], count[32], path[512];
    double elapsed = 0, worker_rss_mib = 0;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    self[n] = '\0';
    for (unsigned i = 0; i < WORKERS;
         i++) { /* a program of their own: a forked child has none of its parent's threads */
        snprintf(count, sizeof count, "%u", i);
        count_path(path, sizeof path, c, i);
        pids[i] = fork();
        if (pids[i] == 0) {
            execl(self, self, "--worker", m->name, count, c->worker_addresses, path, (char *)NULL);
            _exit(127);
        }
    }
    rv = with_workers(po_node_client(node), m, disk_us, &elapsed);
    worker_rss_mib = bench_rss_mib(pids[0]);
    for (unsigned i = 0; i < WORKERS; i++)
        kill(pids[i], SIGTERM);
    for (unsigned i = 0; i < WORKERS; i++)
        if (waitpid(pids[i], &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
            rv = 1;
    if (rv == 0 && elapsed > 0)
        printf("{\"bench\":\"tasks\",\"mode\":\"%s\",\"window\":%ld,\"cycles_per_s\":%.0f,"
               "\"share_min\":%.2f,\"tasks\":%ld,\"workers\":%d,\"batch_max\":%u,"
               "\"disk_write_p50_us\":%.1f,\"rss_mib\":%.1f,\"worker_rss_mib\":%.1f}\n",
               m->name, m->outstanding_max, (double)m->count / elapsed, share_min(c), m->count,
               WORKERS, m->batch_max, disk_us, bench_rss_mib(getpid()), worker_rss_mib);
    fflush(stdout);
    return rv;
}

int main(int argc, char **argv)
{
    struct measure measures[] = {
        {"warm", 1, 4, 1, 0, 0},        {"chain", 1, 4, 1, 0, 0},
        {"unbatched", 1, 4, 64, 0, 0},  {"batched", 64, 256, 1024, 0, 0},
        {"mixed", 64, 256, 1024, 0, 1},
    };
    const unsigned measures_count = sizeof measures / sizeof *measures;
    if (argc == 6 && strcmp(argv[1], "--worker") == 0)
        for (unsigned i = 0; i < measures_count; i++)
            if (strcmp(measures[i].name, argv[2]) == 0)
                run_worker(argv[4], &measures[i], (unsigned)atoi(argv[3]), argv[5]);
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--tasks") == 0)
            tasks = atol(argv[i + 1]);
        else if (i + 1 < argc && strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else
            return fprintf(stderr, "usage: bench_tasks [--tasks N] [--dir D]\n"), 2;
    }
    measures[2].count = tasks;
    measures[3].count = measures[4].count = tasks * 5;
    int rv = 0;
    for (unsigned i = 0; i < measures_count && rv == 0; i++)
        rv = bench_cluster_run(dir, NULL, lead, &measures[i]);
    return rv;
}
