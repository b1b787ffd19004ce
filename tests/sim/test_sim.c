/* Runs seeds of the simulator:
 *
 *   test_sim [--seeds FIRST LAST] [--profile NAME] [--trace] [--twice] [--without GUARD]...
 *
 * A failure prints what broke, the state of every node, the last events, and the command that
 * replays it. --trace prints every event. --twice runs every seed two times and compares their
 * events. --profile makes
 * rare conditions frequent: growth, late, snapshots, members. --without switches a guard of
 * consensus/guard.c off, to see what it is for. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

extern unsigned po__guards_off;
extern const char *po__assert_failure;

#define SEEDS_DEFAULT 200

static char replay[1024];

static void replay_add(const char *text)
{
    size_t len = strlen(replay);
    snprintf(replay + len, sizeof replay - len, "%s%s", len ? " " : "", text);
}

/* A broken assertion or a wild pointer of the product is a finding like any other. The process is
 * lost, so that the report is not made of calls that are safe in a handler does not matter. */
static void on_abort(int number)
{
    char what[600];

    signal(number, SIG_DFL);
    snprintf(what, sizeof what, "the process got signal %d%s%s", number,
             *po__assert_failure ? ": " : "", po__assert_failure);
    if (sim_running)
        oracle_report(sim_running, what);
    _exit(1);
}

static void usage(const char *name)
{
    fprintf(stderr,
            "usage: %s [--seeds FIRST LAST] [--profile growth|late|snapshots|members] [--trace] "
            "[--twice] [--without GUARD]...\n",
            name);
    exit(2);
}

static void print_stats(uint64_t first, uint64_t last, const struct sim_stats *t)
{
#define N(field) (unsigned long long)t->field
    printf("seeds %llu..%llu passed, %.2f simulated hours: events %llu, frames %llu (lost %llu, "
           "twice %llu, damaged %llu), crashes %llu (inside a call %llu), starts %llu, partitions "
           "%llu, disk "
           "stalls %llu, elections %llu, commands %llu (acknowledged %llu, unknown %llu), reads "
           "%llu (failed %llu), snapshots %llu, installs %llu, membership changes %llu, transfers "
           "%llu, connections ended for nothing %llu, processes gone %llu (untrue %llu), elections "
           "hinted %llu, healthy leaders tried %llu (deposed %llu)\n",
           (unsigned long long)first, (unsigned long long)last, (double)t->simulated_us / 3.6e9,
           N(events), N(messages), N(lost), N(duplicated), N(damaged), N(crashes),
           N(crashes_inside), N(restarts), N(partitions), N(stalls), N(elections), N(commands),
           N(acked), N(unknown), N(reads), N(reads_failed), N(snapshots), N(installs), N(changes),
           N(transfers), N(closes_spurious), N(gone), N(gone_wrong), N(hinted), N(healthy),
           N(deposed));
#undef N
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = SEEDS_DEFAULT;
    bool verbose = false, twice = false;
    struct sim_stats t = {0};

    replay_add(argv[0]);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            twice = true;
        } else if (strcmp(argv[i], "--profile") == 0 && i + 1 < argc &&
                   chaos_profile(argv[i + 1])) {
            replay_add(argv[i]);
            replay_add(argv[++i]);
        } else if (strcmp(argv[i], "--without") == 0 && i + 1 < argc) {
            replay_add(argv[i]);
            replay_add(argv[++i]);
            po__guards_off |= 1u << strtoul(argv[i], NULL, 10) % 32;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            first = strtoull(argv[i + 1], NULL, 10);
            last = strtoull(argv[i + 2], NULL, 10);
            i += 2;
        } else {
            usage(argv[0]);
        }
    }
    oracle_replay_with(replay);
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    signal(SIGFPE, on_abort);
    for (uint64_t seed = first; seed <= last; seed++) {
        uint64_t hash = sim_run(seed, verbose, &t);
        if (twice && sim_run(seed, verbose, &t) != hash) {
            printf("FAILED seed %llu: its two runs differ: something came from outside\n",
                   (unsigned long long)seed);
            return 1;
        }
    }
    print_stats(first, last, &t);
    return 0;
}
