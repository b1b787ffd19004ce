/* bench_reads: reads beside writes, on three durable nodes on loopback.
 *
 *   bench_reads [--seconds S] [--dir D] [--window W] [--writes W] [--stale-ms MS]
 *
 * While --writes commands of 128 bytes are kept outstanding through po_apply_async at the leader,
 * --window reads are kept outstanding there too. One JSON line per kind of read:
 *   barrier     po_read_barrier_async at the leader: linearizable, the application's own state
 *   stale       po_read_stale_async at the leader, at most --stale-ms old
 *   query       po_query_async of one task over the network, linearizable, from the leader
 *   query-stale the same from a follower, at most --stale-ms old
 * and one of the writes alone, to see what the reads cost them. */
#include "bench.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_BYTES 128
#define WINDOW_MAX    4096

static double seconds = 3;
static const char *dir = NULL;
static long window = 64, writes = 16, stale_ms = 100;

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    (void)index, (void)cmd, (void)result;
    *(uint64_t *)arg += len;
    *result_len = 0;
    return 0;
}

static int snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    return write(ctx, arg, sizeof(uint64_t));
}

static int restore(void *arg, const void *data, size_t len)
{
    memset(arg, 0, sizeof(uint64_t));
    if (len == sizeof(uint64_t))
        memcpy(arg, data, len);
    return 0;
}

struct load {
    po_node *node;
    po_client *client;
    uint64_t task_id;
    int (*submit)(struct load *l, po_result_cb cb, void *arg);
    struct bench_hist hist; /* touched by the one thread of the callbacks */
    atomic_int measuring, stopping, outstanding;
    _Atomic uint64_t errors;
    _Atomic uint32_t staleness_max_ms;
};

struct request {
    struct load *load;
    uint64_t begun_ns;
};

static int submit_write(struct load *l, po_result_cb cb, void *arg)
{
    uint8_t command[COMMAND_BYTES] = {1};
    return po_apply_async(l->node, command, sizeof command, NULL, cb, arg);
}

static int submit_barrier(struct load *l, po_result_cb cb, void *arg)
{
    return po_read_barrier_async(l->node, NULL, cb, arg);
}

static int submit_stale(struct load *l, po_result_cb cb, void *arg)
{
    return po_read_stale_async(l->node, (uint32_t)stale_ms, NULL, cb, arg);
}

static int submit_query(struct load *l, po_result_cb cb, void *arg)
{
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = l->task_id};
    return po_query_async(l->client, &q, NULL, cb, arg);
}

static int submit_query_stale(struct load *l, po_result_cb cb, void *arg)
{
    struct po_query q = {
        .size = sizeof q, .what = PO_QUERY_TASK, .id = l->task_id, .stale_ms = (uint32_t)stale_ms};
    return po_query_async(l->client, &q, NULL, cb, arg);
}

static void done(void *arg, const struct po_result *res)
{
    struct request *r = arg;
    struct load *l = r->load;
    uint64_t now = bench_now_ns();
    if (res->code)
        atomic_fetch_add(&l->errors, 1);
    else if (atomic_load_explicit(&l->measuring, memory_order_relaxed))
        bench_hist_add(&l->hist, now - r->begun_ns);
    if (res->staleness_ms > atomic_load(&l->staleness_max_ms))
        atomic_store(&l->staleness_max_ms, res->staleness_ms);
    r->begun_ns = now;
    if (atomic_load_explicit(&l->stopping, memory_order_relaxed) || l->submit(l, done, r))
        atomic_fetch_sub(&l->outstanding, 1);
}

static int begin(struct load *l, struct request *requests, long count)
{
    for (long i = 0; i < count; i++) {
        requests[i] = (struct request){l, bench_now_ns()};
        atomic_fetch_add(&l->outstanding, 1);
        if (l->submit(l, done, &requests[i]))
            return 1;
    }
    return 0;
}

static void drain(struct load *l)
{
    atomic_store(&l->stopping, 1);
    while (atomic_load(&l->outstanding) > 0)
        usleep(1000);
}

/* Reads of one kind (NULL: none) beside the writes. */
static int measure(const char *kind, struct load *read, po_node *node)
{
    static struct load write;
    static struct request read_requests[WINDOW_MAX], write_requests[WINDOW_MAX];
    memset(&write, 0, sizeof write);
    write.node = node;
    write.submit = submit_write;
    if (begin(&write, write_requests, writes) || (read && begin(read, read_requests, window)))
        return 1;
    usleep(300000); /* warm-up: not measured */
    uint64_t t = bench_now_ns();
    atomic_store(&write.measuring, 1);
    if (read)
        atomic_store(&read->measuring, 1);
    usleep((useconds_t)(seconds * 1e6));
    if (read)
        atomic_store(&read->measuring, 0);
    atomic_store(&write.measuring, 0);
    double elapsed = (double)(bench_now_ns() - t) / 1e9;
    if (read)
        drain(read);
    drain(&write);
    printf(
        "{\"bench\":\"reads\",\"kind\":\"%s\",\"window\":%ld,\"reads_per_s\":%.0f,"
        "\"p50_us\":%.1f,\"p99_us\":%.1f,\"staleness_max_ms\":%u,\"writes_window\":%ld,"
        "\"writes_per_s\":%.0f,\"write_p50_us\":%.1f,\"write_p99_us\":%.1f,\"errors\":%llu}\n",
        kind, read ? window : 0, read ? (double)read->hist.count / elapsed : 0,
        read ? bench_hist_us(&read->hist, 0.5) : 0, read ? bench_hist_us(&read->hist, 0.99) : 0,
        read ? atomic_load(&read->staleness_max_ms) : 0, writes, (double)write.hist.count / elapsed,
        bench_hist_us(&write.hist, 0.5), bench_hist_us(&write.hist, 0.99),
        (unsigned long long)(atomic_load(&write.errors) + (read ? atomic_load(&read->errors) : 0)));
    fflush(stdout);
    return atomic_load(&write.errors) != 0 || (read && atomic_load(&read->errors) != 0);
}

/* The address of this node, or of one of the two others. */
static int open_client(po_client **client, po_node *node, const struct bench_cluster *c, bool own)
{
    char mine[PO_ADDRESS_MAX_BYTES + 1], *save = NULL;
    char *list = strdup(c->worker_addresses);
    int rv = list ? po_node_worker_address(node, mine, sizeof mine) : PO_ENOMEM;
    for (char *a = rv ? NULL : strtok_r(list, ",", &save); a; a = strtok_r(NULL, ",", &save)) {
        if ((strcmp(a, mine) == 0) != own)
            continue;
        rv = po_client_open(client, a, NULL);
        break;
    }
    free(list);
    return rv;
}

static int lead(po_node *node, const struct bench_cluster *c, void *arg)
{
    static const struct {
        const char *name;
        int (*submit)(struct load *l, po_result_cb cb, void *arg);
        bool network, own;
    } kinds[] = {
        {"barrier", submit_barrier, false, true},
        {"stale", submit_stale, false, true},
        {"query", submit_query, true, true},
        {"query-stale", submit_query_stale, true, false},
    };
    static struct load l;
    struct po_task_opts task = {.size = sizeof task, .capability = "bench:nobody"};
    uint64_t id;
    (void)arg;
    int rv = po_submit_task(po_node_client(node), &task, NULL, &id);
    if (!rv)
        rv = measure("none", NULL, node);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds && !rv; i++) {
        memset(&l, 0, sizeof l);
        l.node = node;
        l.task_id = id;
        l.submit = kinds[i].submit;
        if (kinds[i].network)
            rv = open_client(&l.client, node, c, kinds[i].own);
        if (!rv)
            rv = measure(kinds[i].name, &l, node);
        po_client_close(l.client);
    }
    return rv;
}

int main(int argc, char **argv)
{
    uint64_t bytes = 0;
    struct po_state_machine sm = {sizeof sm, &bytes, apply, snapshot, restore};
    bool usage = argc % 2 == 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else if (strcmp(argv[i], "--window") == 0)
            window = atol(argv[i + 1]);
        else if (strcmp(argv[i], "--writes") == 0)
            writes = atol(argv[i + 1]);
        else if (strcmp(argv[i], "--stale-ms") == 0)
            stale_ms = atol(argv[i + 1]);
        else
            usage = true;
    }
    if (usage || window < 1 || window > WINDOW_MAX || writes < 1 || writes > WINDOW_MAX ||
        stale_ms < 1 || stale_ms > PO_TIMEOUT_MAX_MS)
        return fprintf(stderr,
                       "usage: bench_reads [--seconds S] [--dir D] [--window 1..%d] "
                       "[--writes 1..%d] [--stale-ms MS]\n",
                       WINDOW_MAX, WINDOW_MAX),
               2;
    return bench_cluster_run(dir, &sm, lead, NULL);
}
