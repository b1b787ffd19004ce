/* bench_failover: from the kill -9 of the leading process to the first command that the next leader
 * commits; three nodes on loopback, each a process with durable data.
 *
 *   bench_failover [--trials N] [--dir D] [--election MS] [--verbose]
 *
 * A trial: all three nodes follow one leader and have applied the same; a moment drawn from one
 * heartbeat passes; the leader is killed; once the kernel has reaped it, both others submit a
 * command, which therefore only another leader can commit. What counts is the time from before the
 * kill to the first of the two answers. Then the killed node is started again. One JSON line for
 * each of 1000/100 and 150/15 ms election timeout and heartbeat, with the closed-connection hint
 * and without; *_x are multiples of the election timeout. */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODES      3
#define TRIALS_MAX 1000
#define PAUSE_MS                                                                                   \
    1200              /* between kills: a lost peer is dialled at once no more than once a second  \
                       */
#define LOST_MS 60000 /* a trial that takes longer failed */

struct seen { /* what a node shows of itself, several times in a heartbeat */
    _Atomic uint64_t leader_id, id, applied, commit;
    _Atomic int fresh; /* set by the node, cleared by the parent */
};

struct shared {
    struct seen nodes[NODES];
    sem_t go[NODES];
    _Atomic uint64_t committed_ns; /* the first answer of this trial; 0: none yet */
    atomic_int failed;
};

static struct shared *sh;
static char dir[256], peer[NODES][32];
static struct po_member members[NODES];
static const char *const names[NODES] = {"bench-1", "bench-2", "bench-3"};
static uint32_t election_ms, heartbeat_ms;
static int hint_off, verbose;
static pid_t pids[NODES];

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    (void)arg, (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    return 0;
}

static int snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    (void)arg;
    return write(ctx, "x", 1);
}

static int restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

/* ---- a node's process ---- */

struct prober {
    po_node *node;
    sem_t *go;
};

static void *probe(void *arg)
{
    struct prober *p = arg;
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = LOST_MS};
    for (;;) {
        while (sem_wait(p->go))
            ;
        int rv = po_apply(p->node, "probe", 5, &opts, NULL, NULL);
        uint64_t now = bench_now_ns(), none = 0;
        if (rv == 0)
            atomic_compare_exchange_strong(&sh->committed_ns, &none, now);
        else
            fprintf(stderr, "the command of a trial: %s\n", po_err_name(rv));
    }
    return NULL;
}

_Noreturn static void run_node(unsigned i)
{
    static struct po_state_machine sm = {sizeof sm, NULL, apply, snapshot, restore};
    char error[512], data[300];
    struct prober p = {.go = &sh->go[i]};
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(data, sizeof data, "%s/%s", dir, names[i]);
    struct po_node_opts o = {.size = sizeof o,
                             .name = names[i],
                             .data_dir = data,
                             .listen = members[i].address,
                             .bootstrap = 1,
                             .members = members,
                             .members_count = NODES,
                             .election_ms = election_ms,
                             .heartbeat_ms = heartbeat_ms,
                             .segment_bytes = 1 << 20,
                             .state_machine = &sm,
                             .failover_hint_off = hint_off,
                             .log = {bench_print_log, NULL, verbose ? PO_LOG_INFO : PO_LOG_ERROR}};
    int rv = po_node_start(&p.node, &o, error, sizeof error);
    if (rv || pthread_create(&thread, NULL, probe, &p)) {
        fprintf(stderr, "%s: %s: %s\n", names[i], po_err_name(rv), error);
        atomic_store(&sh->failed, 1);
        exit(1);
    }
    for (;;) {
        struct po_node_status st = {.size = sizeof st};
        po_node_status(p.node, &st);
        atomic_store(&sh->nodes[i].id, st.id);
        atomic_store(&sh->nodes[i].leader_id, st.leader_id);
        atomic_store(&sh->nodes[i].applied, st.applied_index);
        atomic_store(&sh->nodes[i].commit, st.commit_index);
        atomic_store(&sh->nodes[i].fresh, 1);
        usleep(5000);
    }
}

/* ---- the parent ---- */

static void start(unsigned i)
{
    fflush(NULL);
    while (sem_trywait(&sh->go[i]) == 0)
        ;
    atomic_store(&sh->nodes[i].leader_id, 0);
    pids[i] = fork();
    if (pids[i] == 0)
        run_node(i);
}

/* Its index once all three follow one leader, know it, and have applied the same; -1 after LOST_MS.
 */
static int settled(void)
{
    for (int ms = 0; ms < LOST_MS && !atomic_load(&sh->failed); ms += 10) {
        int leader = -1, fresh = 1, same = 1;
        for (unsigned i = 0; i < NODES; i++)
            atomic_store(&sh->nodes[i].fresh, 0);
        usleep(10000);
        const struct seen *first = &sh->nodes[0];
        for (unsigned i = 0; i < NODES; i++) {
            const struct seen *n = &sh->nodes[i];
            fresh &= atomic_load(&n->fresh);
            same &= n->leader_id && n->leader_id == first->leader_id &&
                    n->applied == first->commit && n->commit == first->commit;
            if (n->id == first->leader_id)
                leader = (int)i;
        }
        if (fresh && same && leader >= 0)
            return leader;
    }
    return -1;
}

/* Milliseconds, or -1. */
static double trial(void)
{
    int leader = settled();
    if (leader < 0)
        return -1;
    usleep((useconds_t)(PAUSE_MS * 1000 + rand() % (int)(heartbeat_ms * 1000)));
    if (settled() != leader)
        return trial(); /* it changed meanwhile: a loaded machine */
    atomic_store(&sh->committed_ns, 0);
    uint64_t killed_ns = bench_now_ns();
    kill(pids[leader], SIGKILL);
    if (waitpid(pids[leader], NULL, 0) != pids[leader])
        return -1;
    for (int i = 0; i < NODES; i++)
        if (i != leader)
            sem_post(&sh->go[i]);
    for (int ms = 0; ms < LOST_MS && !atomic_load(&sh->committed_ns); ms++)
        usleep(1000);
    uint64_t committed_ns = atomic_load(&sh->committed_ns);
    start((unsigned)leader);
    double ms = committed_ns ? (double)(committed_ns - killed_ns) / 1e6 : -1;
    if (verbose)
        fprintf(stderr, "trial: %s killed, %.1f ms\n", names[leader], ms);
    return ms;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void prepare(const char *base)
{
    int ports[NODES];
    snprintf(dir, sizeof dir, "%s/bench.XXXXXX", base);
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    memset(sh, 0, sizeof *sh);
    bench_free_ports(ports, NODES);
    for (unsigned i = 0; i < NODES; i++) {
        snprintf(peer[i], sizeof peer[i], "127.0.0.1:%d", ports[i]);
        members[i] = (struct po_member){names[i], peer[i]};
        if (sem_init(&sh->go[i], 1, 0))
            exit(1);
    }
    for (unsigned i = 0; i < NODES; i++)
        start(i);
}

static int measure(const char *base, int trials)
{
    static double ms[TRIALS_MAX];
    int count = 0;
    prepare(base);
    while (count < trials && (ms[count] = trial()) >= 0)
        count++;
    for (unsigned i = 0; i < NODES; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    bench_remove_tree(dir);
    if (count < trials)
        return fprintf(stderr, "trial %d of %d had no outcome in %d ms\n", count + 1, trials,
                       LOST_MS),
               1;
    qsort(ms, (size_t)count, sizeof *ms, by_value);
    double median = (ms[(count - 1) / 2] + ms[count / 2]) / 2, worst = ms[count - 1];
    printf("{\"bench\":\"failover\",\"where\":\"loopback\",\"election_ms\":%u,\"heartbeat_ms\":%u,"
           "\"hint\":%s,\"trials\":%d,\"median_ms\":%.1f,\"worst_ms\":%.1f,\"median_x\":%.3f,"
           "\"worst_x\":%.3f}\n",
           election_ms, heartbeat_ms, hint_off ? "false" : "true", count, median, worst,
           median / election_ms, worst / election_ms);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static const uint32_t timings[][2] = {{1000, 100}, {150, 15}};
    const char *base = ".";
    int trials = 30, rv = 0;
    uint32_t only_ms = 0;
    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--trials") == 0)
            trials = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--dir") == 0)
            base = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--election") == 0)
            only_ms = (uint32_t)atoi(argv[++i]);
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = 1;
        else
            trials = 0;
    }
    if (trials < 1 || trials > TRIALS_MAX)
        return fprintf(stderr,
                       "usage: bench_failover [--trials 1..%d] [--dir D] [--election 1000|150] "
                       "[--verbose]\n",
                       TRIALS_MAX),
               2;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    srand((unsigned)getpid());
    for (unsigned t = 0; t < 2 && !rv; t++) {
        if (only_ms && only_ms != timings[t][0])
            continue;
        for (hint_off = 0; hint_off <= 1 && !rv; hint_off++) {
            election_ms = timings[t][0];
            heartbeat_ms = timings[t][1];
            rv = measure(base, trials);
        }
    }
    return rv;
}
