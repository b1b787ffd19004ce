/* Schedules in virtual time: whole nodes, whose leaders die or freeze around the ticks. Each tick
 * of the whole time has exactly one run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "model/impl.h"
#include "sim/checks.h"

#define MINUTE_MS  UINT64_C(60000)
#define FAILOVERS  20
#define SEEDS      40
#define CATCH_UP   (4 * MINUTE_MS)
#define TICKS_MAX  64
#define STEP_US    10000
#define ANSWER_MS  5000
#define PATIENCE_S 60 /* of virtual time, for a leader or an answer */

/* Clocks that are seconds apart: the next leader's may be behind. */
static const struct po__preset calm = {.name = "calm",
                                       .election_ms = 1000,
                                       .heartbeat_ms = 200,
                                       .zone_us = {2000, 3000, 4000},
                                       .local_us = 250,
                                       .jitter_us = 500,
                                       .drift_percent = 0.05,
                                       .skew_ms = 3000,
                                       .disk_max_us = 4000};

static struct po__world *w;

static void ok(void)
{
    if (po__world_failure(w))
        fail_msg("at %.3f s: %s", (double)w->now_us / 1e6, po__world_failure(w));
}

static void pass_us(uint64_t us)
{
    po__world_run_until(w, w->now_us + us);
    ok();
}

static struct po__simnode *await_leader(void)
{
    uint64_t until_us = w->now_us + PATIENCE_S * UINT64_C(1000000);
    struct po__simnode *leader;
    while (!(leader = po__world_leader(w))) {
        assert_true(w->now_us < until_us);
        pass_us(STEP_US);
    }
    return leader;
}

static uint64_t stamp_of(struct po__simnode *n)
{
    return po__stamp_ms(n->core);
}

/* ---- commands ---- */

static struct {
    bool came;
    int code;
    uint64_t id;
    char message[512];
} answer;

static void on_answer(void *arg, int code, const void *resp, size_t len)
{
    struct po__response r;
    (void)arg;
    answer.came = true;
    answer.code = code;
    if (code == 0 && po__response_decode(resp, len, &r) == 0) {
        struct po__mpr body;
        answer.code = r.code;
        snprintf(answer.message, sizeof answer.message, "%.*s", (int)r.message.len, r.message.data);
        po__mpr_init(&body, r.body.data, r.body.len);
        answer.id = r.code ? 0 : po__mpr_uint(&body, UINT64_MAX);
    }
}

static int command(const struct po__cmd *cmd)
{
    struct po__buf b = {0};
    struct po__simnode *leader = await_leader();
    po__request_command(&b, ANSWER_MS, cmd);
    memset(&answer, 0, sizeof answer);
    assert_int_equal(po__node_request(leader->core, b.data, b.len, true, 0,
                                      (struct po__reply_to){on_answer, NULL}),
                     0);
    po__buf_fini(&b);
    for (unsigned i = 0; !answer.came && i < PATIENCE_S * 1000000u / STEP_US; i++)
        pass_us(STEP_US);
    assert_true(answer.came);
    return answer.code;
}

/* One step for which there is no worker: runs stay, and can be counted. */
static void define_pipeline(void)
{
    struct po__buf steps = {0};
    struct po__cmd cmd = {.type = PO__CMD_PIPELINE_DEFINE};
    po__mpw_array(&steps, 1);
    po__step_encode(&steps,
                    &(struct po__step){.name = po__str("s"), .capability = po__str("no:body")});
    cmd.pipeline.name = po__str("p");
    cmd.pipeline.start_node = po__str("s");
    cmd.pipeline.steps = po__buf_slice(&steps);
    cmd.pipeline.steps_count = 1;
    assert_int_equal(command(&cmd), 0);
    po__buf_fini(&steps);
}

static struct po__cmd definition(const char *name, const char *cron, const char *zone)
{
    struct po__cmd cmd = {.type = PO__CMD_SCHEDULE_DEFINE};
    cmd.schedule.name = po__str(name);
    cmd.schedule.pipeline = po__str("p");
    cmd.schedule.cron = po__str(cron);
    cmd.schedule.time_zone = po__str(zone);
    cmd.schedule.catch_up_ms = (uint32_t)CATCH_UP;
    return cmd;
}

static uint64_t define(const char *name, const char *cron)
{
    struct po__cmd cmd = definition(name, cron, "UTC");
    int rv = command(&cmd);
    if (rv)
        fail_msg("%s", answer.message);
    return po__model_schedule(await_leader()->core->model, po__str(name))->generation;
}

/* ---- worlds ---- */

static void open_world(uint64_t seed, unsigned voters)
{
    w = po__world_new(&(struct po__world_opts){.seed = seed, .preset = &calm, .voters = voters});
    po__world_begin(w);
    define_pipeline();
}

static void close_world(void)
{
    ok();
    po__world_free(w);
    w = NULL;
}

/* All nodes that run have applied the same. */
static void settle(void)
{
    pass_us(UINT64_C(5000000));
    for (unsigned i = 0; i < w->nodes_count; i++)
        assert_int_equal(po__model_index(w->nodes[i].core->model),
                         po__model_index(await_leader()->core->model));
}

/* How many runs each tick has, by the keys of the runs; *total: of all runs of that generation. */
static void count_runs(const struct po__model *m, uint64_t generation, uint64_t first_ms,
                       uint64_t period_ms, unsigned *per_tick, unsigned *total, uint64_t *late_ms)
{
    char prefix[64];
    size_t len =
        (size_t)snprintf(prefix, sizeof prefix, "schedule/%llu/", (unsigned long long)generation);
    *total = 0;
    *late_ms = 0;
    memset(per_tick, 0, TICKS_MAX * sizeof *per_tick);
    for (const struct po__run *r = NULL; (r = po__run_after(m, r ? r->id : 0));) {
        if (r->key.len <= len || memcmp(r->key.data, prefix, len) != 0)
            continue;
        uint64_t fire_ms = strtoull(r->key.data + len, NULL, 10);
        uint64_t tick = (fire_ms - first_ms) / period_ms;
        assert_true(fire_ms >= first_ms && (fire_ms - first_ms) % period_ms == 0);
        assert_true(tick < TICKS_MAX);
        per_tick[tick]++;
        ++*total;
        assert_true(r->started_ms >= fire_ms);
        if (r->started_ms - fire_ms > *late_ms)
            *late_ms = r->started_ms - fire_ms;
    }
}

static uint64_t tick_behind(uint64_t ms, uint64_t period_ms)
{
    return ms / period_ms * period_ms + period_ms;
}

/* On every node. */
static void each_tick_once(const char *name, uint64_t generation, uint64_t since_ms,
                           uint64_t until_ms, uint64_t period_ms)
{
    unsigned per_tick[TICKS_MAX], total;
    uint64_t late_ms, first_ms = tick_behind(since_ms, period_ms);
    unsigned expected = (unsigned)((until_ms - first_ms) / period_ms) + 1;
    for (unsigned i = 0; i < w->nodes_count; i++) {
        const struct po__model *m = w->nodes[i].core->model;
        const struct po__schedule *s = po__model_schedule(m, po__str(name));
        count_runs(m, generation, first_ms, period_ms, per_tick, &total, &late_ms);
        for (unsigned t = 0; t < expected; t++)
            if (per_tick[t] != 1)
                fail_msg("seed %llu, node %u, %s: tick %u of %u has %u runs",
                         (unsigned long long)w->opts.seed, i, name, t, expected, per_tick[t]);
        assert_int_equal(total, expected);
        assert_int_equal(s->fired, expected);
        assert_int_equal(s->late + s->skipped + s->refused, 0);
        assert_true(late_ms <= po__schedule_late_after_ms(s));
    }
}

/* ---- the leader goes at each tick ---- */

/* Let time pass until the leader's clock is offset_us from the tick (before it: negative). */
static struct po__simnode *approach(uint64_t tick_ms, int64_t offset_us)
{
    struct po__simnode *leader = await_leader();
    while (stamp_of(leader) + 1000 < tick_ms) {
        pass_us(500000);
        leader = await_leader();
    }
    int64_t rest_us = ((int64_t)tick_ms - (int64_t)stamp_of(leader)) * 1000 + offset_us;
    if (rest_us > 0)
        pass_us((uint64_t)rest_us);
    return await_leader();
}

/* Dead, it comes back within seconds. Frozen, it comes back and goes on as if it still led, with
 * all that it was about to do; should nobody have taken its place by then, it dies after all. */
static void depose(struct po__simnode *leader)
{
    uint64_t term = leader->core->term, until_us = w->now_us + UINT64_C(9000000);
    if (po__world_percent(w, 60))
        po__control_crash(leader, true);
    else
        leader->paused_us = w->now_us + po__world_random(w, 2500000, 8000000);
    while (await_leader()->core->term == term) {
        pass_us(STEP_US);
        if (w->now_us >= until_us)
            po__control_crash(await_leader(), true);
    }
}

static void failovers(uint64_t seed)
{
    open_world(seed, 3);
    uint64_t minutely = define("minutely", "* * * * *"), other = define("other", "*/5 * * * *");
    const struct po__model *m = await_leader()->core->model;
    uint64_t minutely_ms = po__model_schedule(m, po__str("minutely"))->since_ms;
    uint64_t other_ms = po__model_schedule(m, po__str("other"))->since_ms;
    uint64_t tick_ms = tick_behind(stamp_of(await_leader()), MINUTE_MS);
    for (unsigned i = 0; i < FAILOVERS; i++, tick_ms += MINUTE_MS) {
        /* Most of them within the few milliseconds in which the tick is staged, written, sent,
         * committed and applied. */
        int64_t around_us = po__world_percent(w, 80) ? 12000 : 400000;
        int64_t offset_us = (int64_t)po__world_random(w, 0, (uint64_t)(2 * around_us)) - around_us;
        struct po__simnode *leader = approach(tick_ms, offset_us);
        depose(leader);
    }
    struct po__simnode *leader = approach(tick_ms, 30000000);
    uint64_t until_ms = tick_ms;
    assert_true(stamp_of(leader) < until_ms + MINUTE_MS);
    settle();
    each_tick_once("minutely", minutely, minutely_ms, until_ms, MINUTE_MS);
    each_tick_once("other", other, other_ms, until_ms, 5 * MINUTE_MS);
    close_world();
}

static void test_each_tick_once_through_20_failovers(void **state)
{
    (void)state;
    const char *only = getenv("SCHEDULE_SEED");
    uint64_t from = only ? strtoull(only, NULL, 10) : 1, to = only ? from : SEEDS;
    for (uint64_t seed = from; seed <= to; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        failovers(seed);
    }
}

/* ---- nobody is there ---- */

static void stop_all(void)
{
    for (unsigned i = 0; i < w->nodes_count; i++)
        po__control_crash(&w->nodes[i], false);
}

static void start_all(void)
{
    for (unsigned i = 0; i < w->nodes_count; i++)
        po__control_start(&w->nodes[i]);
}

/* The cluster is down for a time that is not too long: every tick is made up for. */
static void test_downtime_is_caught_up(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        open_world(seed, seed == 1 ? 1 : 3);
        uint64_t g = define("minutely", "* * * * *");
        uint64_t since_ms =
            po__model_schedule(await_leader()->core->model, po__str("minutely"))->since_ms;
        uint64_t tick_ms = tick_behind(stamp_of(await_leader()), MINUTE_MS);
        approach(tick_ms, 30000000);
        stop_all();
        pass_us(3 * MINUTE_MS * 1000); /* with this, and clocks apart, below the limit */
        start_all();
        uint64_t now_ms = stamp_of(await_leader());
        pass_us(2000000);
        settle();
        each_tick_once("minutely", g, since_ms, now_ms / MINUTE_MS * MINUTE_MS, MINUTE_MS);
        close_world();
    }
}

/* Down for longer: what is too late is passed over and counted, the rest is made up for, and none
 * is both or neither. */
static void test_downtime_that_is_too_long(void **state)
{
    (void)state;
    unsigned per_tick[TICKS_MAX], total;
    uint64_t late_ms;
    open_world(7, 3);
    uint64_t g = define("minutely", "* * * * *");
    uint64_t since_ms =
        po__model_schedule(await_leader()->core->model, po__str("minutely"))->since_ms;
    approach(tick_behind(stamp_of(await_leader()), MINUTE_MS), 30000000);
    stop_all();
    pass_us(20 * MINUTE_MS * 1000);
    start_all();
    uint64_t back_ms = stamp_of(await_leader());
    pass_us(2000000);
    settle();
    uint64_t first_ms = tick_behind(since_ms, MINUTE_MS);
    unsigned expected = (unsigned)((back_ms - first_ms) / MINUTE_MS) + 1;
    const struct po__model *m = await_leader()->core->model;
    const struct po__schedule *s = po__model_schedule(m, po__str("minutely"));
    count_runs(m, g, first_ms, MINUTE_MS, per_tick, &total, &late_ms);
    assert_int_equal(s->fired, total);
    assert_int_equal(s->fired + s->late, expected);
    assert_true(late_ms <= CATCH_UP + PO__SCHEDULE_ON_TIME_MS);
    for (unsigned t = 0; t < expected; t++) {
        bool before = t == 0, /* it fired before all went down */
            late = !before &&
                   back_ms - (first_ms + t * MINUTE_MS) > CATCH_UP + PO__SCHEDULE_ON_TIME_MS + 5000;
        bool in_time = back_ms - (first_ms + t * MINUTE_MS) < CATCH_UP;
        if (late)
            assert_int_equal(per_tick[t], 0);
        if (before || in_time)
            assert_int_equal(per_tick[t], 1);
    }
    assert_true(s->late >= 14 && s->fired >= 4);
    close_world();
}

/* ---- definitions ---- */

static void refused(struct po__cmd cmd, int code, const char *says)
{
    assert_int_equal(command(&cmd), code);
    if (!strstr(answer.message, says))
        fail_msg("\"%s\" does not say \"%s\"", answer.message, says);
}

static void test_what_the_leader_refuses(void **state)
{
    (void)state;
    open_world(1, 1);
    refused(definition("s", "61 * * * *", "UTC"), PO_EINVAL, "cron field 1 (minute): \"61\"");
    refused(definition("s", "0 0 31 2 *", "UTC"), PO_EINVAL, "would never fire");
    refused(definition("s", "* * * * *", "Europe/Atlantis"), PO_EINVAL,
            "no time zone \"Europe/Atlantis\" is known");
    refused(definition("s", "* * * * *", "../../etc/passwd"), PO_EINVAL,
            "is not the name of a time zone");
    struct po__cmd fire = {.type = PO__CMD_SCHEDULE_FIRE, .schedule_fire = {po__str("s"), 1, 1, 0}};
    refused(fire, PO_EREFUSED, "the nodes' own");
    assert_null(po__model_schedule(await_leader()->core->model, po__str("s")));
    struct po__cmd berlin = definition("s", "0 3 * * *", "Europe/Berlin");
    assert_int_equal(command(&berlin), 0);
    close_world();
}

/* A leader lacks the file of the zone: the ticks wait, and none is lost. */
static void test_a_zone_that_is_missing(void **state)
{
    (void)state;
    open_world(2, 1);
    struct po__cmd cmd = definition("s", "* * * * *", "Europe/Berlin");
    assert_int_equal(command(&cmd), 0);
    struct po__node *core = await_leader()->core;
    const struct po__schedule *s = po__model_schedule(core->model, po__str("s"));
    uint64_t since_ms = s->since_ms, generation = s->generation;
    snprintf(core->time_zone_dir, sizeof core->time_zone_dir, "/nowhere");
    po__schedules_clear(core);        /* as after an election */
    pass_us(150 * UINT64_C(1000000)); /* two ticks or three */
    assert_int_equal(s->fired, 0);
    struct po__ticks ticks = {.wanted = PO__QUERY_TICKS_MAX};
    po__schedule_ticks(core, s, &ticks);
    assert_int_equal(ticks.count, 0);
    core->time_zone_dir[0] = '\0';
    pass_us(MINUTE_MS * 1000 + 2000000);
    uint64_t until_ms = stamp_of(await_leader()) / MINUTE_MS * MINUTE_MS;
    each_tick_once("s", generation, since_ms, until_ms, MINUTE_MS);
    close_world();
}

/* Paused, it is silent, and nothing of that time is made up for; changed at a tick, it loses none;
 * deleted, it ends. */
static void test_its_life(void **state)
{
    (void)state;
    open_world(3, 3);
    uint64_t first = define("s", "* * * * *");
    struct po__simnode *leader = await_leader();
    uint64_t tick_ms = tick_behind(stamp_of(leader), MINUTE_MS);
    approach(tick_ms, 2000000);
    struct po__cmd cmd = {.type = PO__CMD_SCHEDULE_CHANGE,
                          .schedule_change = {po__str("s"), PO__SCHEDULE_PAUSE}};
    assert_int_equal(command(&cmd), 0);
    approach(tick_ms + 3 * MINUTE_MS, 2000000);
    const struct po__schedule *s = po__model_schedule(await_leader()->core->model, po__str("s"));
    assert_int_equal(s->fired, 1);
    cmd.schedule_change.change = PO__SCHEDULE_RESUME;
    assert_int_equal(command(&cmd), 0);
    pass_us(2000000);
    s = po__model_schedule(await_leader()->core->model, po__str("s"));
    assert_int_equal(s->fired, 1);
    /* other params, defined over and over around a tick */
    uint64_t next_ms = tick_ms + 4 * MINUTE_MS;
    char params[16];
    for (int i = -5; i < 5; i++) {
        approach(next_ms, i * 3000);
        snprintf(params, sizeof params, "%d", i);
        cmd = definition("s", "* * * * *", "UTC");
        cmd.schedule.params = po__str(params);
        assert_int_equal(command(&cmd), 0);
    }
    pass_us(2000000);
    s = po__model_schedule(await_leader()->core->model, po__str("s"));
    assert_true(s->generation > first);
    assert_int_equal(s->fired, 2);
    assert_int_equal(s->last_fire_ms, next_ms);
    struct po__cmd gone = {.type = PO__CMD_SCHEDULE_CHANGE,
                           .schedule_change = {po__str("s"), PO__SCHEDULE_DELETE}};
    assert_int_equal(command(&gone), 0);
    assert_int_equal(command(&gone), PO_ENOTFOUND);
    approach(next_ms + 2 * MINUTE_MS, 1000000);
    struct po__model_counts c;
    po__model_counts(await_leader()->core->model, &c);
    assert_int_equal(c.runs_running, 2);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tick_once_through_20_failovers),
        cmocka_unit_test(test_downtime_is_caught_up),
        cmocka_unit_test(test_downtime_that_is_too_long),
        cmocka_unit_test(test_what_the_leader_refuses),
        cmocka_unit_test(test_a_zone_that_is_missing),
        cmocka_unit_test(test_its_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
