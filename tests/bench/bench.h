/* What the benchmarks share: clock, latency histogram, this disk's own durable write, a cluster of
 * three processes. */
#ifndef PO__BENCH_H
#define PO__BENCH_H

#include <pipeorch/pipeorch.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t bench_now_ns(void);
double bench_rss_mib(pid_t pid); /* resident memory of a process, 0 if unknown */

/* Log-linear histogram: 64 buckets per power of two, so a quantile is right to about 1.6 %. */
#define BENCH_SUB_BITS 6
struct bench_hist {
    uint64_t count, max_ns;
    uint32_t buckets[64 << BENCH_SUB_BITS];
};
void bench_hist_reset(struct bench_hist *h);
void bench_hist_add(struct bench_hist *h, uint64_t ns);
double bench_hist_us(const struct bench_hist *h, double quantile);

/* Durable 4 KiB writes (O_DIRECT|O_DSYNC into a zeroed file) in dir by so many writers at a time.
 */
struct bench_disk {
    double p50_us, p99_us; /* mean over the writers */
};
struct bench_disk bench_disk_write(const char *dir, unsigned writers);

/* Three control nodes, one process each, with durable data in a fresh folder below `base` (NULL:
 * the current one). Whichever leads calls lead(node, arg) on its main thread, once; when that
 * returns all nodes stop. Returns 0 if it returned 0 and every process ended well. */
struct bench_cluster {
    char dir[256];
    char worker_addresses[256]; /* of the three nodes, comma-separated */
    pid_t pids[3];
};
int bench_cluster_run(const char *base, const struct po_state_machine *sm,
                      int (*lead)(po_node *node, const struct bench_cluster *c, void *arg),
                      void *arg);

/* Its parts, for those who look after their processes themselves. */
void bench_free_ports(int *ports, unsigned count); /* distinct, at most 16 */
void bench_print_log(void *arg, const struct po_log_event *e);
void bench_remove_tree(const char *path);

#endif
