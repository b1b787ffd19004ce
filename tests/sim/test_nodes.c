/* Runs seeds of the simulator of whole nodes:
 *   test_nodes [--operate] [--seeds FIRST LAST] [--faults PRESET] [--trace]
 *
 * With --operate an administrator changes the members while it runs, and some nodes are of an older
 * release at first. Without --faults each seed draws its preset and its shape. Some seeds run twice
 * and must take the same course. A failure prints the seed, the last events and how to replay it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/checks.h"

#define SEEDS_DEFAULT 40
#define TWICE_EVERY   20 /* seeds of which one is run twice */

static const struct po__simcap caps[] = {
    {"work:plain", 4, 1, 120, 5},
    {"work:odd", 2, 5, 400, 15},
};

struct shape {
    unsigned voters, joiners;
};

static struct shape draw_shape(struct po__rng *r)
{
    static const struct shape shapes[] = {{1, 0}, {3, 0}, {3, 0}, {3, 0}, {4, 0},
                                          {5, 0}, {1, 2}, {3, 2}, {7, 0}};
    return shapes[po__rng_range(r, 0, sizeof shapes / sizeof *shapes - 1)];
}

/* An administrator, and founders that are upgraded one after the other. */
static void draw_operators(struct po__rng *r, struct po__world_opts *o)
{
    static const struct shape shapes[] = {{1, 0}, {2, 0}, {2, 0}, {3, 0}, {3, 0},
                                          {4, 0}, {5, 0}, {1, 2}, {3, 2}};
    struct shape shape = shapes[po__rng_range(r, 0, sizeof shapes / sizeof *shapes - 1)];
    o->voters = shape.voters;
    o->joiners = shape.joiners;
    o->administrator = true;
    if (po__rng_percent(r, 70))
        o->old_nodes = (unsigned)po__rng_range(r, 1, (1u << shape.voters) - 1);
}

static const struct po__preset *draw_preset(struct po__rng *r)
{
    static const char *const names[] = {"lan", "three-clouds", "disk", "memory", "chaos", "chaos"};
    return po__preset_find(names[po__rng_range(r, 0, sizeof names / sizeof *names - 1)]);
}

static void print_line(void *arg, const char *line)
{
    fprintf(arg, "%s\n", line);
}

static void print_log(void *arg, const struct po_log_event *e)
{
    const struct po__world *const *w = arg;
    fprintf(stderr, "[%11.6f] %s: %s: %s\n", *w ? (double)(*w)->now_us / 1e6 : 0, e->name, e->id,
            e->message);
}

static bool operate;

static void report(const struct po__world *w, uint64_t seed, const char *preset)
{
    printf("last events:\n");
    po__trace_each(&w->trace, print_line, stdout);
    printf("FAILED seed %llu (%s, %u nodes) at %.6f s: %s\n", (unsigned long long)seed,
           w->opts.preset->name, w->nodes_count, (double)w->now_us / 1e6, po__world_failure(w));
    printf("replay: build/tests/sim/test_nodes%s --seeds %llu %llu%s%s --trace\n",
           operate ? " --operate" : "", (unsigned long long)seed, (unsigned long long)seed,
           preset ? " --faults " : "", preset ? preset : "");
}

/* false: it failed, and said so. */
static bool run(uint64_t seed, const char *preset, bool trace, struct po__world_stats *total,
                uint64_t *hash)
{
    struct po__rng r;
    struct po__simworker workers[4];
    struct po__world *w = NULL;
    po__rng_init(&r, seed ^ UINT64_C(0x5EED));
    struct shape shape = draw_shape(&r);
    struct po__world_opts o = {.seed = seed,
                               .preset = draw_preset(&r),
                               .hint = po__rng_percent(&r, 70),
                               .voters = shape.voters,
                               .joiners = shape.joiners,
                               .workers_count = (unsigned)po__rng_range(&r, 2, 4),
                               .workers = workers,
                               .clients = (unsigned)po__rng_range(&r, 1, 4),
                               .operations = (unsigned)po__rng_range(&r, 40, 250),
                               .chaos_us = po__rng_range(&r, 4000000, 12000000),
                               .limit_us = 400000000};
    if (preset)
        o.preset = po__preset_find(preset);
    if (trace)
        o.log = (struct po_log_opts){print_log, &w, PO_LOG_DEBUG};
    memset(workers, 0, sizeof workers);
    for (unsigned i = 0; i < o.workers_count; i++) {
        snprintf(workers[i].id, sizeof workers[i].id, "worker-%u", i + 1);
        snprintf(workers[i].zone, sizeof workers[i].zone, "zone-%u", i % 3);
        workers[i].caps = caps;
        workers[i].caps_count = i == 0 ? 2 : (unsigned)po__rng_range(&r, 1, 2);
    }
    if (operate)
        draw_operators(&r, &o);
    w = po__world_new(&o);
    if (trace) {
        w->trace.echo = print_line;
        w->trace.echo_arg = stderr;
    }
    po__world_run(w);
    bool ok = !po__world_failure(w);
    if (!ok)
        report(w, seed, preset);
    *hash = w->trace.hash;
    uint64_t *to = (uint64_t *)total;
    const uint64_t *from = (const uint64_t *)&w->stats;
    for (size_t i = 0; i < sizeof *total / sizeof *to; i++)
        to[i] += from[i];
    po__world_free(w);
    return ok;
}

static void print_stats(const struct po__world_stats *t, uint64_t first, uint64_t last)
{
#define N(field) (unsigned long long)t->field
    printf("seeds %llu..%llu passed: %.2f simulated hours, events %llu, frames %llu (lost %llu), "
           "calls %llu (lost %llu, unknown %llu), faults %llu, crashes %llu (inside a call %llu), "
           "starts %llu, disk faults %llu (wrong reads %llu, stopped by one %llu), memory %llu, "
           "partitions %llu, elections %llu, failovers %llu, acknowledged %llu, reads %llu, "
           "grants %llu, completed %llu, failed %llu, stale %llu, workers: crashes %llu, zombies "
           "%llu; members: changes %llu, refused %llu, held back by an old release %llu, upgrades "
           "%llu\n",
           (unsigned long long)first, (unsigned long long)last, (double)t->virtual_ms / 3.6e6,
           N(events), N(frames), N(frames_lost), N(calls), N(calls_lost), N(unknown), N(faults),
           N(crashes), N(crashes_inside), N(starts), N(disk_faults), N(misreads),
           N(misreads_caught), N(memory_faults), N(partitions), N(elections), N(failovers),
           N(acked), N(reads), N(granted), N(completed), N(failed), N(stale), N(worker_crashes),
           N(zombies), N(changes), N(changes_refused), N(changes_held_back), N(upgrades));
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = SEEDS_DEFAULT, hash, again;
    const char *preset = NULL;
    bool trace = false;
    struct po__world_stats t = {0}, ignored = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--operate") == 0) {
            operate = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--faults") == 0 && i + 1 < argc &&
                   po__preset_find(argv[i + 1])) {
            preset = argv[++i];
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            first = strtoull(argv[i + 1], NULL, 10);
            last = strtoull(argv[i + 2], NULL, 10);
            i += 2;
        } else {
            fprintf(stderr,
                    "usage: %s [--operate] [--seeds FIRST LAST] [--faults PRESET] [--trace]\n",
                    argv[0]);
            return 2;
        }
    }
    for (uint64_t seed = first; seed <= last; seed++) {
        if (!run(seed, preset, trace, &t, &hash))
            return 1;
        if ((seed - first) % TWICE_EVERY == 0 && last > first) {
            if (!run(seed, preset, false, &ignored, &again))
                return 1;
            if (hash != again) {
                printf("FAILED seed %llu: it took another course the second time\n",
                       (unsigned long long)seed);
                return 1;
            }
        }
    }
    print_stats(&t, first, last);
    return 0;
}
