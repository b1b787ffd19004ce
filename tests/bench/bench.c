#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double bench_rss_mib(pid_t pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = atol(line + 6);
    if (f)
        fclose(f);
    return (double)kib / 1024.0;
}

void bench_hist_reset(struct bench_hist *h)
{
    memset(h, 0, sizeof *h);
}

void bench_hist_add(struct bench_hist *h, uint64_t ns)
{
    const unsigned sub = BENCH_SUB_BITS;
    if (ns < 1)
        ns = 1;
    unsigned e = 63u - (unsigned)__builtin_clzll(ns);
    uint64_t i =
        e < sub ? ns : ((uint64_t)(e - sub + 1) << sub) + ((ns >> (e - sub)) & ((1u << sub) - 1));
    h->buckets[i]++;
    h->count++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

double bench_hist_us(const struct bench_hist *h, double quantile)
{
    const unsigned sub = BENCH_SUB_BITS;
    uint64_t rank = (uint64_t)(quantile * (double)h->count), seen = 0;
    for (unsigned i = 0; i < sizeof h->buckets / sizeof *h->buckets; i++) {
        seen += h->buckets[i];
        if (seen <= rank)
            continue;
        unsigned e = i >> sub;
        double ns = e == 0 ? i
                           : ((double)((1u << sub) + (i & ((1u << sub) - 1))) + 0.5) *
                                 (double)(UINT64_C(1) << (e - 1));
        return ns / 1000.0;
    }
    return (double)h->max_ns / 1000.0;
}

struct prober {
    const char *dir;
    unsigned number;
    struct bench_hist hist;
};

/* Overwrites a zeroed file, block by block, each write durable when it returns. */
static void *probe(void *arg)
{
    enum { WRITES = 2000, BLOCK = 4096 };
    struct prober *p = arg;
    char path[512];
    void *buf;
    snprintf(path, sizeof path, "%s/disk-probe-%u", p->dir, p->number);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || posix_memalign(&buf, BLOCK, BLOCK)) {
        perror("disk probe");
        exit(1);
    }
    memset(buf, 0, BLOCK);
    for (int i = 0; i < WRITES; i++)
        if (pwrite(fd, buf, BLOCK, (off_t)i * BLOCK) != BLOCK)
            exit(1);
    fsync(fd);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0)
        fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC); /* a file system without O_DIRECT */
    for (int i = 0; i < WRITES; i++) {
        uint64_t t = bench_now_ns();
        memset(buf, i, BLOCK);
        if (pwrite(fd, buf, BLOCK, (off_t)i * BLOCK) != BLOCK) {
            perror("disk probe");
            exit(1);
        }
        bench_hist_add(&p->hist, bench_now_ns() - t);
    }
    close(fd);
    unlink(path);
    free(buf);
    return NULL;
}

struct bench_disk bench_disk_write(const char *dir, unsigned writers)
{
    struct prober *probers = calloc(writers, sizeof *probers);
    pthread_t *threads = calloc(writers, sizeof *threads);
    struct bench_disk d = {0};
    if (!probers || !threads)
        exit(1);
    for (unsigned i = 0; i < writers; i++) {
        probers[i].dir = dir;
        probers[i].number = i;
        if (pthread_create(&threads[i], NULL, probe, &probers[i]))
            exit(1);
    }
    for (unsigned i = 0; i < writers; i++) {
        pthread_join(threads[i], NULL);
        d.p50_us += bench_hist_us(&probers[i].hist, 0.5) / writers;
        d.p99_us += bench_hist_us(&probers[i].hist, 0.99) / writers;
    }
    free(threads);
    free(probers);
    return d;
}

/* ---- cluster ---- */

struct shared {          /* one page seen by all processes */
    atomic_int led;      /* somebody runs the load */
    atomic_int finished; /* all stop */
    atomic_int failed;
};

/* Distinct free ports: all are held until the last is found. */
void bench_free_ports(int *ports, unsigned count)
{
    int fds[16];
    for (unsigned i = 0; i < count; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&a, sizeof a) ||
            getsockname(fds[i], (struct sockaddr *)&a, &len)) {
            perror("free port");
            exit(1);
        }
        ports[i] = ntohs(a.sin_port);
    }
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

void bench_print_log(void *arg, const struct po_log_event *e)
{
    (void)arg;
    fprintf(stderr, "%llu.%03llu %s %s %s\n", (unsigned long long)(e->time_ms / 1000),
            (unsigned long long)(e->time_ms % 1000), e->name ? e->name : "", e->id, e->message);
}

static void run_node(unsigned i, const struct bench_cluster *c, const struct po_member *members,
                     const char *worker_address, struct shared *sh,
                     const struct po_state_machine *sm,
                     int (*lead)(po_node *, const struct bench_cluster *, void *), void *arg)
{
    char error[512], dir[300];
    po_node *node;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(dir, sizeof dir, "%s/%s", c->dir, members[i].name);
    struct po_node_opts o = {.size = sizeof o,
                             .name = members[i].name,
                             .data_dir = dir,
                             .listen = members[i].address,
                             .worker_listen = worker_address,
                             .bootstrap = 1,
                             .members = members,
                             .members_count = 3,
                             .state_machine = sm,
                             .log = {bench_print_log, NULL, PO_LOG_WARN}};
    int rv = po_node_start(&node, &o, error, sizeof error);
    if (rv) {
        fprintf(stderr, "%s: %s: %s\n", members[i].name, po_err_name(rv), error);
        atomic_store(&sh->failed, 1);
        exit(1);
    }
    while (!atomic_load(&sh->finished) && !atomic_load(&sh->failed)) {
        struct po_node_status st = {.size = sizeof st};
        int none = 0;
        po_node_status(node, &st);
        if (st.role == PO_ROLE_LEADER && atomic_compare_exchange_strong(&sh->led, &none, 1)) {
            rv = lead(node, c, arg);
            if (rv)
                atomic_store(&sh->failed, 1);
            atomic_store(&sh->finished, 1);
        }
        usleep(20000);
    }
    po_node_stop(node);
    exit(rv ? 1 : 0);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void bench_remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int bench_cluster_run(const char *base, const struct po_state_machine *sm,
                      int (*lead)(po_node *node, const struct bench_cluster *c, void *arg),
                      void *arg)
{
    struct bench_cluster c;
    struct po_member members[3];
    char peer[3][32], workers[3][32];
    static const char *const names[3] = {"bench-1", "bench-2", "bench-3"};
    snprintf(c.dir, sizeof c.dir, "%s/bench.XXXXXX", base ? base : ".");
    if (!mkdtemp(c.dir)) {
        perror(c.dir);
        return 1;
    }
    struct shared *sh =
        mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    int ports[6];
    bench_free_ports(ports, 6);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(peer[i], sizeof peer[i], "127.0.0.1:%d", ports[i]);
        snprintf(workers[i], sizeof workers[i], "127.0.0.1:%d", ports[3 + i]);
        members[i] = (struct po_member){names[i], peer[i]};
    }
    snprintf(c.worker_addresses, sizeof c.worker_addresses, "%s,%s,%s", workers[0], workers[1],
             workers[2]);
    for (unsigned i = 0; i < 3; i++) {
        c.pids[i] = fork();
        if (c.pids[i] == 0)
            run_node(i, &c, members, workers[i], sh, sm, lead, arg);
    }
    int bad = 0, status;
    while (wait(&status) > 0)
        if (!WIFEXITED(status) || WEXITSTATUS(status)) {
            bad = 1;
            atomic_store(&sh->failed, 1);
        }
    bench_remove_tree(c.dir);
    return bad;
}
