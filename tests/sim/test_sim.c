/* Runs seeds of the simulator: test_sim [--seeds FIRST LAST] [--trace] [--without GUARD]...
 *
 * Prints the seed that failed and how to replay it. --without switches a guard of consensus/guard.c
 * off, to see what it is for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

extern unsigned po__guards_off;

#define SEEDS_DEFAULT 200

int main(int argc, char **argv)
{
    uint64_t first = 1, last = SEEDS_DEFAULT;
    bool verbose = false;
    struct sim_stats t = {0};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--without") == 0 && i + 1 < argc) {
            po__guards_off |= 1u << strtoul(argv[++i], NULL, 10) % 32;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            first = strtoull(argv[i + 1], NULL, 10);
            last = strtoull(argv[i + 2], NULL, 10);
            i += 2;
        } else {
            fprintf(stderr, "usage: %s [--seeds FIRST LAST] [--trace] [--without GUARD]\n",
                    argv[0]);
            return 2;
        }
    }
    for (uint64_t seed = first; seed <= last; seed++)
        sim_run(seed, verbose, &t);
#define N(field) (unsigned long long)t.field
    printf("seeds %llu..%llu passed: events %llu, frames %llu (lost %llu, twice %llu), crashes "
           "%llu (inside a call %llu), "
           "starts %llu, partitions %llu, disk stalls %llu, elections %llu, commands %llu "
           "(acknowledged %llu, unknown %llu), "
           "reads %llu (failed %llu), snapshots %llu, installs %llu, membership changes %llu, "
           "transfers %llu, connections ended for nothing %llu, processes gone %llu (untrue %llu), "
           "elections hinted %llu, healthy leaders tried %llu (deposed %llu)\n",
           (unsigned long long)first, (unsigned long long)last, N(events), N(messages), N(lost),
           N(duplicated), N(crashes), N(crashes_inside), N(restarts), N(partitions), N(stalls),
           N(elections), N(commands), N(acked), N(unknown), N(reads), N(reads_failed), N(snapshots),
           N(installs), N(changes), N(transfers), N(closes_spurious), N(gone), N(gone_wrong),
           N(hinted), N(healthy), N(deposed));
    return 0;
}
