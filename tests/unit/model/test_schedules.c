/* Schedules: what becomes of each tick that a leader proposes. */
#include "fixture.h"

#define MINUTE 60000u

static struct world w;
static uint64_t generation;
static const char *const chain[] = {"a:x"};

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    w.now_ms = 10 * MINUTE;
    assert_int_equal(do_define(&w, "p", chain, 1, ""), 0);
    assert_int_equal(do_schedule(&w, "s", "* * * * *", PO_OVERLAP_ALLOW, MINUTE, false), 0);
    generation = w.result.id;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static const struct po__schedule *schedule(void)
{
    const struct po__schedule *s = po__model_schedule(w.m, po__str("s"));
    assert_non_null(s);
    return s;
}

static void counts(unsigned fired, unsigned skipped, unsigned late, unsigned refused)
{
    const struct po__schedule *s = schedule();
    assert_int_equal(s->fired, fired);
    assert_int_equal(s->skipped, skipped);
    assert_int_equal(s->late, late);
    assert_int_equal(s->refused, refused);
}

static uint64_t runs(void)
{
    struct po__model_counts c;
    po__model_counts(w.m, &c);
    return c.runs_running + c.runs_finished;
}

static void test_a_tick_starts_a_run(void **state)
{
    (void)state;
    w.now_ms = 11 * MINUTE + 7;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    assert_int_equal(w.result.id, 1);
    assert_int_equal(effect(&w, PO__FX_SCHEDULE)->id, generation);
    const struct po__task *t = po__model_task(w.m, 1);
    assert_non_null(strstr(t->input.data, "\"params\":{\"n\":1}"));
    assert_true(po__slice_eq(t->zone, po__str("aws")));
    const struct po__schedule *s = schedule();
    assert_int_equal(s->last_fire_ms, 11 * MINUTE);
    assert_int_equal(s->runs_count, 1);
    assert_int_equal(s->runs[0].run_id, 1);
    assert_int_equal(s->runs[0].fire_ms, 11 * MINUTE);
    /* the key of the run is made of the schedule's generation and the tick */
    char key[64];
    snprintf(key, sizeof key, "schedule/%llu/%u", (unsigned long long)generation, 11 * MINUTE);
    assert_int_equal(do_run(&w, key, "p", "{\"n\":1}", "aws"), 0);
    assert_int_equal(w.result.id, 1);
    counts(1, 0, 0, 0);
}

static void test_once(void **state)
{
    (void)state;
    w.now_ms = 12 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE, 0), 0);
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(effects(&w, PO__FX_SCHEDULE), 1); /* whoever waits for it is told */
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_fire(&w, "s", generation + 1, 12 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_fire(&w, "t", generation, 12 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE + 1, 0), PO_EINVAL); /* to come */
    assert_int_equal(runs(), 1);
    counts(1, 0, 0, 0);
}

/* Two leaders, one of which does not know yet that it is none, propose the ticks of two hours: each
 * computes them from the state that it has seen, which may be behind, and its clock may be wrong.
 * Proposals arrive in any order, and some never. Each tick has one run, and none is passed over. */
static void test_two_leaders(void **state)
{
    (void)state;
    uint64_t rng = 88172645463325252u, proposed = 0, last = 130;
    unsigned per_tick[131] = {0};
    for (unsigned tick = 11; tick <= last;) {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        unsigned old_view = tick - (unsigned)(rng % 3); /* the deposed leader is up to 2 behind */
        w.now_ms = tick * (uint64_t)MINUTE + (rng >> 8) % 5000;
        bool by_new = rng >> 20 & 1, by_old = rng >> 21 & 1, new_first = rng >> 22 & 1;
        for (int turn = 0; turn < 2; turn++) {
            bool newer = (turn == 0) == new_first;
            unsigned at = newer ? tick : old_view;
            if (!(newer ? by_new : by_old) || at < 11)
                continue;
            proposed++;
            int rv = do_fire(&w, "s", generation, (uint64_t)at * MINUTE, 0);
            assert_true(rv == 0 || rv == PO_ESTALE);
            per_tick[at] += rv == 0;
        }
        if (schedule()->last_fire_ms == tick * (uint64_t)MINUTE)
            tick++;
    }
    for (unsigned tick = 11; tick <= last; tick++)
        assert_int_equal(per_tick[tick], 1);
    assert_true(proposed > last - 10);
    assert_int_equal(runs(), last - 10);
    counts((unsigned)last - 10, 0, 0, 0);
    assert_int_equal(schedule()->runs_count, PO__SCHEDULE_RUNS_KEPT);
    assert_int_equal(schedule()->runs[PO__SCHEDULE_RUNS_KEPT - 1].fire_ms, last * MINUTE);
}

static void test_late(void **state)
{
    (void)state;
    const uint64_t limit = MINUTE + PO__SCHEDULE_ON_TIME_MS;
    assert_int_equal(po__schedule_late_after_ms(schedule()), limit);
    w.now_ms = 11 * MINUTE + limit; /* just in time: may not be passed over */
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 1), PO_EINVAL);
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    counts(1, 0, 0, 0);
    w.now_ms = 12 * MINUTE + limit + 1; /* one too many; the proposal did not know */
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE, 0), 0);
    counts(1, 0, 1, 0);
    w.now_ms = 99 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 90 * MINUTE, 78), 0);
    counts(1, 0, 79, 0);
    assert_int_equal(do_fire(&w, "s", generation, 89 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_fire(&w, "s", generation, 98 * MINUTE, 0), 0);
    counts(2, 0, 79, 0);
    assert_int_equal(runs(), 2);
}

static void test_overlap(void **state)
{
    (void)state;
    assert_int_equal(do_schedule(&w, "s", "* * * * *", PO_OVERLAP_SKIP, MINUTE, false), 0);
    generation = w.result.id;
    do_register(&w, "w1", 1, "aws", "a:x", 4);
    w.now_ms = 11 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    w.now_ms = 12 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE, 0), 0);
    counts(1, 1, 0, 0);
    assert_int_equal(do_complete(&w, 1, po__model_task(w.m, 1)->token, "w1", "1"), 0);
    w.now_ms = 13 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 13 * MINUTE, 0), 0);
    counts(2, 1, 0, 0);
    assert_int_equal(do_schedule(&w, "s", "* * * * *", PO_OVERLAP_ALLOW, MINUTE, false), 0);
    w.now_ms = 14 * MINUTE;
    assert_int_equal(do_fire(&w, "s", w.result.id, 14 * MINUTE, 0), 0);
    counts(3, 1, 0, 0);
}

static void test_a_run_that_cannot_start(void **state)
{
    (void)state;
    w.cmd.type = PO__CMD_SCHEDULE_DEFINE;
    w.cmd.schedule.pipeline = po__str("nope");
    assert_int_equal(apply(&w), 0); /* the pipeline may come later */
    generation = w.result.id;
    w.now_ms = 11 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), PO_ENOTFOUND);
    counts(0, 0, 0, 1);
    assert_non_null(strstr(schedule()->error.data, "no pipeline \"nope\""));
    assert_int_equal(schedule()->error_ms, 11 * MINUTE);
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), PO_ESTALE); /* it was decided */
    assert_int_equal(do_define(&w, "nope", chain, 1, ""), 0);
    w.now_ms = 12 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 12 * MINUTE, 0), 0);
    counts(1, 0, 0, 1);
}

static void test_defining_anew(void **state)
{
    (void)state;
    w.now_ms = 11 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    assert_int_equal(do_schedule(&w, "s", "* * * * *", PO_OVERLAP_ALLOW, MINUTE, false), 0);
    assert_int_equal(w.result.id, generation); /* the same again is the same */
    w.now_ms = 12 * MINUTE + 5;
    assert_int_equal(do_schedule(&w, "s", "@hourly", PO_OVERLAP_ALLOW, MINUTE, true), 0);
    uint64_t paused = w.result.id;
    assert_true(paused > generation);
    assert_int_equal(effect(&w, PO__FX_SCHEDULE)->id, paused);
    counts(1, 0, 0, 0); /* its history stays */
    w.now_ms = 13 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 13 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_fire(&w, "s", paused, 13 * MINUTE, 0), PO_ESTATE);
    w.now_ms = 14 * MINUTE + 1;
    assert_int_equal(do_schedule(&w, "s", "@hourly", PO_OVERLAP_ALLOW, MINUTE, false), 0);
    generation = w.result.id; /* nothing of the pause is made up for */
    assert_int_equal(po__schedule_decided_ms(schedule()), 14 * MINUTE + 1);
    assert_int_equal(do_fire(&w, "s", generation, 14 * MINUTE, 0), PO_ESTALE);
    assert_int_equal(do_unschedule(&w, "s"), 0);
    assert_int_equal(effects(&w, PO__FX_SCHEDULE), 1);
    assert_int_equal(do_unschedule(&w, "s"), PO_ENOTFOUND);
    assert_null(po__model_schedule(w.m, po__str("s")));
    w.now_ms = 15 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 15 * MINUTE, 0), PO_ESTALE);
    /* another one of the same name is another one */
    assert_int_equal(do_schedule(&w, "s", "@hourly", PO_OVERLAP_ALLOW, MINUTE, false), 0);
    assert_true(w.result.id > generation);
    counts(0, 0, 0, 0);
}

/* Params are changed while a tick is due: it is fired, with the new ones. Not so if the times are
 * changed, or if it is paused in between. */
static void test_defining_anew_at_a_tick(void **state)
{
    (void)state;
    w.now_ms = 11 * MINUTE + 3;
    w.cmd.type = PO__CMD_SCHEDULE_DEFINE; /* as in setup, but: */
    w.cmd.schedule.params = po__str("2");
    assert_int_equal(apply(&w), 0);
    assert_true(w.result.id > generation);
    generation = w.result.id;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    assert_non_null(strstr(po__model_task(w.m, 1)->input.data, "\"params\":2"));
    w.now_ms = 12 * MINUTE + 3;
    do_schedule(&w, "s", "*/2 * * * *", PO_OVERLAP_ALLOW, MINUTE, false);
    assert_int_equal(do_fire(&w, "s", w.result.id, 12 * MINUTE, 0), PO_ESTALE);
    w.now_ms = 13 * MINUTE + 3;
    do_schedule(&w, "s", "*/2 * * * *", PO_OVERLAP_ALLOW, MINUTE, true);
    do_schedule(&w, "s", "*/2 * * * *", PO_OVERLAP_ALLOW, MINUTE, false);
    assert_int_equal(do_fire(&w, "s", w.result.id, 13 * MINUTE, 0), PO_ESTALE);
    counts(1, 0, 0, 0);
}

static void test_pause_and_resume(void **state)
{
    (void)state;
    assert_int_equal(do_pause(&w, "t", true), PO_ENOTFOUND);
    w.now_ms = 11 * MINUTE + 1; /* a tick is due, but not decided yet */
    assert_int_equal(do_pause(&w, "s", true), 0);
    assert_int_equal(effect(&w, PO__FX_SCHEDULE)->id, generation);
    assert_int_equal(do_pause(&w, "s", true), 0);
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), PO_ESTATE);
    w.now_ms = 13 * MINUTE + 1;
    assert_int_equal(do_pause(&w, "s", false), 0);
    w.now_ms += 5;
    assert_int_equal(do_pause(&w, "s", false), 0); /* again is nothing new */
    assert_int_equal(schedule()->since_ms, 13 * MINUTE + 1);
    assert_int_equal(do_fire(&w, "s", generation, 13 * MINUTE, 0), PO_ESTALE);
    w.now_ms = 14 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 14 * MINUTE, 0), 0);
    counts(1, 0, 0, 0);
}

static void test_quota(void **state)
{
    (void)state;
    char name[16];
    w.unchecked = true;
    for (unsigned i = 1; i < PO__SCHEDULES_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        assert_int_equal(do_schedule(&w, name, "@daily", PO_OVERLAP_ALLOW, 0, false), 0);
    }
    assert_int_equal(do_schedule(&w, "more", "@daily", PO_OVERLAP_ALLOW, 0, false), PO_EQUOTA);
    assert_int_equal(do_schedule(&w, "s1", "@hourly", PO_OVERLAP_ALLOW, 0, false), 0);
    world_check(&w);
}

static int checked(void)
{
    char message[512];
    int rv = po__cmd_check(&w.cmd, message, sizeof message);
    assert_int_equal(rv != 0, message[0] != '\0');
    return rv;
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static char big[PO__SCHEDULE_PARAMS_MAX_BYTES + 2];
    struct po__cmd good = w.cmd; /* that of setup */
    memset(big, ' ', sizeof big);
    big[0] = '1';
    assert_int_equal(good.type, PO__CMD_SCHEDULE_DEFINE);
    assert_int_equal(checked(), 0);
#define REFUSED(field, value, code)                                                                \
    do {                                                                                           \
        w.cmd = good;                                                                              \
        w.cmd.schedule.field = (value);                                                            \
        assert_int_equal(checked(), code);                                                         \
    } while (0)
    REFUSED(name, po__str(""), PO_EINVAL);
    REFUSED(name, po__str("a b"), PO_EINVAL);
    REFUSED(pipeline, po__str(""), PO_EINVAL);
    REFUSED(cron, po__str(""), PO_EINVAL);
    REFUSED(cron, po__str("* *\n"), PO_EINVAL);
    REFUSED(cron, po__slice(big, PO_CRON_MAX_BYTES + 1), PO_ETOOBIG);
    REFUSED(time_zone, po__str(""), PO_EINVAL);
    REFUSED(time_zone, po__str("Z\xc3\xbcrich"), PO_EINVAL);
    REFUSED(time_zone, po__slice(big, PO_TIME_ZONE_MAX_BYTES + 1), PO_ETOOBIG);
    REFUSED(params, po__str("{"), PO_EINVAL);
    REFUSED(params, po__slice(big, PO__SCHEDULE_PARAMS_MAX_BYTES + 1), PO_ETOOBIG);
    REFUSED(params, po__slice(big, PO__SCHEDULE_PARAMS_MAX_BYTES), 0);
    REFUSED(zone, po__str("/"), PO_EINVAL);
    REFUSED(overlap, 2, PO_EINVAL);
    REFUSED(catch_up_ms, PO_CATCH_UP_MAX_MS + 1, PO_EINVAL);
    w.cmd = (struct po__cmd){.type = PO__CMD_SCHEDULE_CHANGE};
    assert_int_equal(checked(), PO_EINVAL);
    w.cmd.schedule_change.name = po__str("s");
    w.cmd.schedule_change.change = PO__SCHEDULE_RESUME + 1;
    assert_int_equal(checked(), PO_EINVAL);
    w.cmd.schedule_change.change = PO__SCHEDULE_RESUME;
    assert_int_equal(checked(), 0);
    w.cmd =
        (struct po__cmd){.type = PO__CMD_SCHEDULE_FIRE, .schedule_fire = {po__str("s"), 1, 0, 0}};
    assert_int_equal(checked(), PO_EINVAL);
    w.cmd.schedule_fire.fire_ms = 1;
    assert_int_equal(checked(), 0);
    w.cmd.schedule_fire.generation = 0;
    assert_int_equal(checked(), PO_EINVAL);
}

/* ---- queries and snapshots ---- */

static void two_ticks(void *arg, const struct po__schedule *s, struct po__ticks *t)
{
    assert_ptr_equal(arg, &w);
    assert_true(po__slice_eq(s->cron, po__str("* * * * *")));
    t->count = t->wanted < 2 ? t->wanted : 2;
    t->at_ms[0] = 77;
    t->at_ms[1] = 78;
}

static bool answer_has(const struct po__buf *out, const char *key, uint64_t value)
{
    struct po__buf part = {0};
    po__mpw_cstr(&part, key);
    po__mpw_uint(&part, value);
    bool found = memmem(out->data, out->len, part.data, part.len) != NULL;
    po__buf_fini(&part);
    return found;
}

static void test_queries(void **state)
{
    (void)state;
    struct po__buf out = {0}, ticks = {0};
    const char *message;
    struct po__query q = {
        .what = PO_QUERY_SCHEDULE, .name = po__str("s"), .ticks = two_ticks, .ticks_arg = &w};
    w.now_ms = 11 * MINUTE;
    assert_int_equal(do_fire(&w, "s", generation, 11 * MINUTE, 0), 0);
    assert_int_equal(po__model_query(w.m, &q, &out, &message), 0);
    assert_true(answer_has(&out, "fire_ms", 11 * MINUTE));
    assert_true(answer_has(&out, "run_id", 1));
    assert_true(answer_has(&out, "fired", 1));
    assert_true(answer_has(&out, "catch_up_ms", MINUTE));
    po__mpw_cstr(&ticks, "next_ms");
    po__mpw_array(&ticks, 2);
    po__mpw_uint(&ticks, 77);
    po__mpw_uint(&ticks, 78);
    assert_non_null(memmem(out.data, out.len, ticks.data, ticks.len));
    q.name = po__str("t");
    assert_int_equal(po__model_query(w.m, &q, &out, &message), PO_ENOTFOUND);
    /* a list, one at a time; without a hook, no ticks */
    assert_int_equal(do_schedule(&w, "t", "@daily", PO_OVERLAP_SKIP, 0, true), 0);
    q = (struct po__query){.what = PO_QUERY_SCHEDULES, .limit = 1};
    static const char *const names[] = {"s", "t"};
    for (int i = 0; i < 2; i++) {
        po__buf_reset(&out);
        assert_int_equal(po__model_query(w.m, &q, &out, &message), 0);
        po__buf_reset(&ticks);
        po__mpw_cstr(&ticks, "next");
        if (i == 0)
            po__mpw_cstr(&ticks, names[i]);
        else
            po__mpw_nil(&ticks);
        assert_non_null(memmem(out.data, out.len, ticks.data, ticks.len));
        assert_non_null(memmem(out.data, out.len, "next_ms\x90", 8));
        q.name = po__str(names[i]);
    }
    po__buf_fini(&out);
    po__buf_fini(&ticks);
}

static void busy_state(void)
{
    assert_int_equal(do_schedule(&w, "t", "@daily", PO_OVERLAP_SKIP, 0, true), 0);
    for (unsigned i = 11; i < 11 + PO__SCHEDULE_RUNS_KEPT + 2; i++) {
        w.now_ms = i * MINUTE;
        assert_int_equal(do_fire(&w, "s", generation, w.now_ms, 0), 0);
    }
    w.cmd.type = PO__CMD_SCHEDULE_DEFINE;
    w.cmd.schedule.name = po__str("u");
    w.cmd.schedule.pipeline = po__str("nope");
    w.cmd.schedule.cron = w.cmd.schedule.time_zone = po__str("x");
    w.cmd.schedule.params = w.cmd.schedule.zone = po__str("");
    w.cmd.schedule.overlap = w.cmd.schedule.catch_up_ms = 0;
    w.cmd.schedule.paused = false;
    assert_int_equal(apply(&w), 0);
    uint64_t other = w.result.id;
    w.now_ms += MINUTE;
    assert_int_equal(do_fire(&w, "u", other, w.now_ms, 0), PO_ENOTFOUND);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct po__buf a = {0}, b = {0};
    struct world r;
    busy_state();
    snapshot(w.m, &a);
    world_open(&r, NULL);
    assert_int_equal(restore(r.m, a.data, a.len, 5), 0);
    world_check(&r);
    assert_true(digest(r.m) == digest(w.m));
    snapshot(r.m, &b);
    assert_true(po__slice_eq(po__buf_slice(&a), po__buf_slice(&b)));
    const struct po__schedule *s = po__model_schedule(r.m, po__str("s"));
    assert_int_equal(s->generation, generation);
    assert_int_equal(s->fired, PO__SCHEDULE_RUNS_KEPT + 2);
    /* and it goes on where it was */
    r.now_ms = w.now_ms;
    r.index = w.index;
    assert_int_equal(do_fire(&r, "s", generation, s->last_fire_ms, 0), PO_ESTALE);
    assert_int_equal(do_fire(&r, "s", generation, w.now_ms, 0), 0);
    world_close(&r);
    /* a changed byte is refused, or gives a state that is whole */
    unsigned refused = 0;
    for (size_t i = 0; i < a.len; i++) {
        for (unsigned bit = 0; bit < 8; bit += 3) {
            struct po__buf *c = &b;
            po__buf_reset(c);
            po__buf_append(c, a.data, a.len);
            c->data[i] ^= (uint8_t)(1u << bit);
            world_open(&r, NULL);
            int rv = restore(r.m, c->data, c->len, 1 << 20);
            assert_true(rv == 0 || rv == PO_ECORRUPT || rv == PO_EVERSION || rv == PO_EFAULT);
            if (rv == 0)
                world_check(&r);
            refused += rv != 0;
            world_close(&r);
        }
    }
    assert_true(refused > 1000);
    po__buf_fini(&a);
    po__buf_fini(&b);
}

/* A state without schedules is written as it always was: no trace of them. */
static void test_none(void **state)
{
    (void)state;
    struct world r;
    struct po__buf a = {0}, b = {0};
    world_open(&r, NULL);
    r.now_ms = w.now_ms;
    do_define(&r, "p", chain, 1, "");
    snapshot(r.m, &a);
    do_schedule(&r, "s", "* * * * *", PO_OVERLAP_ALLOW, 0, false);
    do_unschedule(&r, "s");
    snapshot(r.m, &b);
    assert_int_equal(a.len, b.len); /* the same records; index and last token differ */
    world_close(&r);
    po__buf_fini(&a);
    po__buf_fini(&b);
}

/* Out of memory at each allocation: the model says so, and can be closed. */
static void test_without_memory(void **state)
{
    (void)state;
    for (unsigned which = 0; which < 3; which++) {
        for (uint64_t n = 1;; n++) {
            struct world r;
            world_open(&r, NULL);
            r.now_ms = 10 * MINUTE;
            do_define(&r, "p", chain, 1, "");
            do_schedule(&r, "s", "* * * * *", PO_OVERLAP_ALLOW, 0, false);
            uint64_t g = r.result.id;
            do_schedule(&r, "u", "* * * * *", PO_OVERLAP_ALLOW, 0, false);
            r.cmd.schedule.pipeline = po__str("nope");
            apply(&r);
            uint64_t bad = r.result.id;
            r.now_ms = 11 * MINUTE;
            struct po__cmd c = {
                .type = PO__CMD_SCHEDULE_FIRE,
                .schedule_fire = {po__str(which ? "u" : "s"), which ? bad : g, r.now_ms, 0}};
            if (which == 2) {
                c = r.cmd;
                c.schedule.name = po__str("v");
            }
            po__alloc_fail_at(n);
            int rv = po__model_apply(r.m, ++r.index, r.now_ms, &c, &r.result, &r.fx);
            po__alloc_fail_at(0);
            assert_true(rv == 0 || rv == PO_ENOMEM);
            world_close(&r);
            assert_true(n < 50);
            if (rv == 0)
                break;
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_tick_starts_a_run),
        T(test_once),
        T(test_two_leaders),
        T(test_late),
        T(test_overlap),
        T(test_a_run_that_cannot_start),
        T(test_defining_anew),
        T(test_defining_anew_at_a_tick),
        T(test_pause_and_resume),
        T(test_quota),
        T(test_what_is_refused),
        T(test_queries),
        T(test_snapshot),
        T(test_none),
        T(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
