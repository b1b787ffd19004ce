/* bench_zones: from the end of the leader's process to the first entry that the next leader
 * commits, in virtual time: three nodes in three zones, the round trips between them 50, 75 and 125
 * ms.
 *
 *   bench_zones [--trials N]
 *   bench_zones --hand-over N    (a test: fails unless each takes less than three round trips)
 *
 * Election timeout 1000 ms, heartbeat 100 ms, nothing else goes wrong, clients without a pause.
 * Each trial is a seed of its own, and kills whoever leads, so all three places are. One JSON line
 * with the closed-connection hint and one without; *_x are multiples of the election timeout.
 *
 * A hand-over begins as node/handover.c has it begin, with nothing in flight, among zones that are
 * all 100 ms apart, so that the time counts the round trips: half a one for the order, one for the
 * votes, one for the next leader's first entry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/node.h>
#include "sim.h"

#define ELECTION_MS      1000
#define HEARTBEAT_MS     100
#define TRIALS_MAX       10000
#define HAND_OVER_RTT_US 100000
#define LOST_US          60000000 /* a trial that takes longer failed */

/* Round trips between zones, by the sum of two ids. */
static const uint64_t rtt_us[] = {0, 0, 0, 50000, 75000, 125000};

static void prepare(struct sim *s, uint64_t seed, bool hint)
{
    memset(s, 0, sizeof *s);
    oracle_reset();
    trace_reset();
    sim_running = s;
    s->seed = seed;
    po__rng_init(&s->random, seed);
    chaos_draw(s); /* and all that it draws to go wrong is taken back */
    s->chaos = s->lying = s->membership = s->growth = s->disk_crashes = false;
    s->crash_percent = s->loss_percent = s->duplicate_percent = 0;
    s->ordered = true;
    s->delay_min_us = 100;
    s->delay_max_us = 1000;
    s->disk_max_us = 1000;
    s->snapshot_bytes = 1 << 20;
    s->hint = hint;
    s->election_ms = ELECTION_MS;
    s->heartbeat_ms = HEARTBEAT_MS;
    for (unsigned a = 1; a <= 3; a++)
        for (unsigned b = 1; b <= 3; b++)
            s->far_us[a][b] = a == b ? 0 : rtt_us[a + b] / 2;
}

static bool led(struct sim *s)
{
    struct sim_node *leader = sim_leader(s);
    return leader && leader->ready;
}

static void run_until_led(struct sim *s)
{
    uint64_t limit_us = s->now_us + LOST_US;
    while (!led(s)) {
        if (s->now_us > limit_us)
            oracle_fail(s, "no leader in %d s", LOST_US / 1000000);
        sim_run_until(s, s->now_us + 500);
    }
}

/* Milliseconds without a leader that commits. */
static double trial(uint64_t seed, bool hint)
{
    static struct sim sim;
    struct sim *s = &sim;
    prepare(s, seed, hint);
    sim_boot(s, 3, 0);
    sim_at(s, 0, SIM_CLIENT, NULL, 0);
    run_until_led(s);
    /* Long enough for round trips to be measured; within a heartbeat any moment is as likely. */
    sim_run_until(s, s->now_us + 5000000 + sim_random(s, 0, 1000000));
    run_until_led(s);
    uint64_t killed_us = s->now_us;
    sim_crash(s, sim_leader(s), false);
    run_until_led(s);
    double ms = (double)(s->now_us - killed_us) / 1000;
    sim_free(s);
    return ms;
}

/* Round trips from the order to hand over to the next leader's first commit. */
static double hand_over(uint64_t seed)
{
    static struct sim sim;
    struct sim *s = &sim;
    prepare(s, seed, true);
    for (unsigned a = 1; a <= 3; a++)
        for (unsigned b = 1; b <= 3; b++)
            s->far_us[a][b] = a == b ? 0 : HAND_OVER_RTT_US / 2;
    sim_boot(s, 3, 0);
    run_until_led(s);
    sim_run_until(s, s->now_us + 2000000 + sim_random(s, 0, 1000000));
    run_until_led(s);
    struct sim_node *first = sim_leader(s);
    uint64_t begun_us = s->now_us;
    if (po__replica_transfer(first->replica, 0, sim_node_ms(s, first)))
        oracle_fail(s, "node %u cannot hand over", (unsigned)first->id);
    sim_settle(s, first);
    while (sim_leader(s) == first || !led(s)) {
        if (s->now_us > begun_us + LOST_US)
            oracle_fail(s, "nobody took over in %d s", LOST_US / 1000000);
        sim_run_until(s, s->now_us + 500);
    }
    double trips = (double)(s->now_us - begun_us) / HAND_OVER_RTT_US;
    sim_free(s);
    return trips;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int hand_overs(int trials)
{
    double worst = 0;
    for (int i = 0; i < trials; i++) {
        double trips = hand_over((uint64_t)i + 1);
        worst = trips > worst ? trips : worst;
    }
    printf("{\"bench\":\"hand_over\",\"trials\":%d,\"worst_round_trips\":%.2f}\n", trials, worst);
    return worst < 3 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static double ms[TRIALS_MAX];
    if (argc == 3 && strcmp(argv[1], "--hand-over") == 0 && atoi(argv[2]) > 0)
        return hand_overs(atoi(argv[2]));
    int trials = argc == 1                                       ? 300
                 : argc == 3 && strcmp(argv[1], "--trials") == 0 ? atoi(argv[2])
                                                                 : 0;
    if (trials < 1 || trials > TRIALS_MAX)
        return fprintf(stderr, "usage: bench_zones [--trials 1..%d]\n", TRIALS_MAX), 2;
    for (int hint = 1; hint >= 0; hint--) {
        for (int i = 0; i < trials; i++)
            ms[i] = trial((uint64_t)i + 1, hint);
        qsort(ms, (size_t)trials, sizeof *ms, by_value);
        double median = (ms[(trials - 1) / 2] + ms[trials / 2]) / 2, worst = ms[trials - 1];
        printf("{\"bench\":\"failover\",\"where\":\"zones 50/75/125 ms apart\",\"election_ms\":%d,"
               "\"heartbeat_ms\":%d,\"hint\":%s,\"trials\":%d,\"median_ms\":%.1f,\"worst_ms\":%.1f,"
               "\"median_x\":%.3f,\"worst_x\":%.3f}\n",
               ELECTION_MS, HEARTBEAT_MS, hint ? "true" : "false", trials, median, worst,
               median / ELECTION_MS, worst / ELECTION_MS);
        fflush(stdout);
    }
    return 0;
}
