/* bench_apply: commands of 128 bytes through po_apply_async at the leader of three durable nodes on
 * loopback.
 *
 *   bench_apply [--seconds S] [--dir D] [--windows 1,64,1024] [--rate 20000]
 *
 * Closed loop: W commands outstanding, each answer submits the next. Open loop: commands at a given
 * rate, latency counted from the time at which each was due. One JSON line per measure;
 * disk_write_p50_us is this disk's own durable 4 KiB write, measured in the same run;
 * three_writers_*_us are its writes with three writers at a time, which is what three nodes on one
 * disk ask of it. */
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_BYTES 128
#define WINDOW_MAX    65536

static struct bench_disk disk, disk_of_three;

static double seconds = 5;
static const char *dir = NULL, *windows = "1,64,1024";
static long rate = 20000;

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    uint64_t v = 0;
    (void)index, (void)result;
    memcpy(&v, cmd, len < sizeof v ? len : sizeof v);
    *(uint64_t *)arg += v;
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
    struct bench_hist hist;
    atomic_int measuring, stopping, outstanding;
    _Atomic uint64_t errors, next_payload;
};

struct request {
    struct load *load;
    uint64_t due_ns;
};

static int submit(struct request *r, po_result_cb cb)
{
    uint64_t payload[COMMAND_BYTES / 8];
    uint64_t x = atomic_fetch_add(&r->load->next_payload, 1) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (unsigned i = 0; i < COMMAND_BYTES / 8; i++) {
        payload[i] = x;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    }
    return po_apply_async(r->load->node, payload, sizeof payload, NULL, cb, r);
}

static void account(struct request *r, const struct po_result *res)
{
    if (res->code)
        atomic_fetch_add(&r->load->errors, 1);
    else if (atomic_load_explicit(&r->load->measuring, memory_order_relaxed))
        bench_hist_add(&r->load->hist, bench_now_ns() - r->due_ns); /* on the node thread only */
}

static void closed_done(void *arg, const struct po_result *res)
{
    struct request *r = arg;
    account(r, res);
    r->due_ns = bench_now_ns();
    if (atomic_load_explicit(&r->load->stopping, memory_order_relaxed) || submit(r, closed_done))
        atomic_fetch_sub(&r->load->outstanding, 1);
}

static void open_done(void *arg, const struct po_result *res)
{
    struct request *r = arg;
    account(r, res);
    atomic_fetch_sub(&r->load->outstanding, 1);
    free(r);
}

static void drain(struct load *l)
{
    atomic_store(&l->stopping, 1);
    while (atomic_load(&l->outstanding) > 0)
        usleep(1000);
}

static void report(const struct load *l, const char *mode, const char *key, long value,
                   double elapsed, double rss_before)
{
    const struct bench_hist *h = &l->hist;
    struct po_node_status st = {.size = sizeof st};
    po_node_status(l->node, &st);
    printf(
        "{\"bench\":\"apply\",\"mode\":\"%s\",\"%s\":%ld,\"commands_per_s\":%.0f,\"p50_us\":%."
        "1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
        "\"max_us\":%.1f,\"disk_write_p50_us\":%.1f,\"p50_per_disk_write\":%.2f,\"p99_per_disk_"
        "write\":%.2f,\"three_writers_p50_us\":%.1f,\"three_writers_p99_us\":%.1f,\"rss_mib\":%.1f,"
        "\"rss_before_mib\":%.1f,\"log_mib\":%.1f,\"errors\":%llu}\n",
        mode, key, value, (double)h->count / elapsed, bench_hist_us(h, 0.5), bench_hist_us(h, 0.99),
        bench_hist_us(h, 0.999), (double)h->max_ns / 1000.0, disk.p50_us,
        bench_hist_us(h, 0.5) / disk.p50_us, bench_hist_us(h, 0.99) / disk.p50_us,
        disk_of_three.p50_us, disk_of_three.p99_us, bench_rss_mib(getpid()), rss_before,
        (double)st.log_bytes / 1048576.0, (unsigned long long)atomic_load(&l->errors));
    fflush(stdout);
}

static double measure(struct load *l)
{
    usleep(500000); /* warm-up: not measured */
    bench_hist_reset(&l->hist);
    uint64_t t = bench_now_ns();
    atomic_store(&l->measuring, 1);
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&l->measuring, 0);
    return (double)(bench_now_ns() - t) / 1e9;
}

static int closed_loop(po_node *node, long w)
{
    static struct load l;
    static struct request reqs[WINDOW_MAX];
    memset(&l, 0, sizeof l);
    l.node = node;
    double rss = bench_rss_mib(getpid());
    for (long i = 0; i < w; i++) {
        reqs[i] = (struct request){&l, bench_now_ns()};
        atomic_fetch_add(&l.outstanding, 1);
        if (submit(&reqs[i], closed_done))
            return 1;
    }
    double elapsed = measure(&l);
    drain(&l);
    report(&l, "closed", "window", w, elapsed, rss);
    return atomic_load(&l.errors) != 0;
}

static void *open_sender(void *arg)
{
    struct load *l = arg;
    uint64_t due = bench_now_ns(), step = 1000000000u / (uint64_t)rate;
    prctl(PR_SET_TIMERSLACK, 1000UL);
    while (!atomic_load_explicit(&l->stopping, memory_order_relaxed)) {
        for (uint64_t now = bench_now_ns(); due <= now; due += step) {
            struct request *r = malloc(sizeof *r);
            if (!r)
                exit(1);
            *r = (struct request){l, due};
            atomic_fetch_add(&l->outstanding, 1);
            if (submit(r, open_done)) {
                atomic_fetch_add(&l->errors, 1);
                atomic_fetch_sub(&l->outstanding, 1);
                free(r);
            }
        }
        struct timespec ts = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
    }
    return NULL;
}

static int open_loop(po_node *node)
{
    static struct load l;
    pthread_t sender;
    memset(&l, 0, sizeof l);
    l.node = node;
    double rss = bench_rss_mib(getpid());
    if (pthread_create(&sender, NULL, open_sender, &l))
        return 1;
    double elapsed = measure(&l);
    atomic_store(&l.stopping, 1);
    pthread_join(sender, NULL);
    drain(&l);
    report(&l, "open", "rate", rate, elapsed, rss);
    return atomic_load(&l.errors) != 0;
}

static int lead(po_node *node, const struct bench_cluster *c, void *arg)
{
    (void)arg;
    disk = bench_disk_write(c->dir, 1);
    disk_of_three = bench_disk_write(c->dir, 3);
    char *list = strdup(windows), *save = NULL;
    int rv = 0;
    for (char *w = strtok_r(list, ",", &save); w && !rv; w = strtok_r(NULL, ",", &save)) {
        long n = atol(w);
        rv = n < 1 || n > WINDOW_MAX ? 1 : closed_loop(node, n);
    }
    free(list);
    return rv || (rate > 0 && open_loop(node));
}

int main(int argc, char **argv)
{
    uint64_t sum = 0;
    struct po_state_machine sm = {sizeof sm, &sum, apply, snapshot, restore};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
        else if (i + 1 < argc && strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--windows") == 0)
            windows = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--rate") == 0)
            rate = atol(argv[i + 1]);
        else
            return fprintf(stderr, "usage: bench_apply [--seconds S] [--dir D] [--windows "
                                   "1,64,1024] [--rate R|0]\n"),
                   2;
    }
    return bench_cluster_run(dir, &sm, lead, NULL);
}
