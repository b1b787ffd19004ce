/* Random commands of scheduling, those of older clusters among them, over a few workers,
 * capabilities, placements and concurrency keys. Each grant is judged by an oracle (oracle.h). A
 * second model gets the same commands and is now and then replaced by one that was restored from a
 * snapshot: what is not in a snapshot must not decide anything. Snapshots taken in slices are those
 * of the moment in which they began.
 *
 * Seeds from argv[1] to argv[2] for longer runs; a failure names its seed. */
#include "oracle.h"

#define COMMANDS 700

static uint64_t seed;
static struct oracle oracle;
static struct world a, b;
static uint64_t incarnations;

static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % n);
}

static bool one_in(uint32_t n)
{
    return pick(n) == 0;
}

/* ---- workers ---- */

static void describe(struct ohost *h, bool more)
{
    h->zone = pick(3);
    h->labels = more ? pick(6) : 0;
    h->gpus = more ? pick(4) : 0;
    h->mem = more ? pick(5) : 0;
    h->slots = more && one_in(2) ? 1 + pick(4) : 0;
    memset(h->offers, 0, sizeof h->offers);
    unsigned always = pick(O_CAPS), slots = 1 + pick(3);
    for (unsigned c = 0; c < O_CAPS; c++) {
        if (c != always && one_in(3))
            continue;
        h->offers[c].slots = more ? 1 + pick(3) : slots;
        h->offers[c].version = more ? pick(5) : 4;
        h->offers[c].gpu = more && one_in(2);
    }
}

static int tell(const char *id, const struct ohost *h, bool more, uint64_t incarnation)
{
    char caps[128] = "", resources[64] = "";
    unsigned slots = 0;
    for (unsigned c = 0; c < O_CAPS; c++) {
        size_t at = strlen(caps);
        if (!h->offers[c].slots)
            continue;
        slots = h->offers[c].slots;
        if (more)
            snprintf(caps + at, sizeof caps - at, "%s%s@%s*%u%s", at ? " " : "", o_caps[c],
                     o_versions[h->offers[c].version], h->offers[c].slots,
                     h->offers[c].gpu ? "!" : "");
        else
            snprintf(caps + at, sizeof caps - at, "%s%s", at ? " " : "", o_caps[c]);
    }
    if (!more)
        return do_register(&a, id, incarnation, o_zones[h->zone], caps, slots);
    if (h->gpus)
        snprintf(resources, sizeof resources, "gpus=%u ", h->gpus);
    if (h->mem)
        snprintf(resources + strlen(resources), sizeof resources - strlen(resources), "mem=%u",
                 h->mem);
    return do_host(&a, &(struct host){.id = id,
                                      .zone = o_zones[h->zone],
                                      .caps = caps,
                                      .labels = o_labels[h->labels],
                                      .resources = resources,
                                      .slots = h->slots,
                                      .incarnation = incarnation});
}

static void register_host(unsigned i)
{
    struct ohost *h = &oracle.hosts[i], told = *h;
    bool more = !one_in(3), newer = !h->known || one_in(4);
    uint64_t incarnation = newer ? ++incarnations : h->incarnation;
    describe(&told, more);
    assert_int_equal(tell(o_hosts[i], &told, more, incarnation), 0);
    if (h->known && newer)
        o_lose(&oracle, i, false);
    if (!h->known || newer || h->status == PO_WORKER_OFFLINE)
        told.status = PO_WORKER_ONLINE;
    if (!h->known)
        told.last_token = 0;
    told.known = true;
    told.incarnation = incarnation;
    told.number = a.result.id;
    *h = told;
    o_lose(&oracle, i, true);
}

static void worker_command(void)
{
    unsigned i = pick(O_HOSTS);
    struct ohost *h = &oracle.hosts[i];
    uint32_t status = 1 + pick(3);
    if (!h->known || one_in(3)) {
        register_host(i);
    } else if (one_in(4)) {
        assert_int_equal(do_deregister(&a, o_hosts[i], 0), 0);
        o_lose(&oracle, i, false);
        h->known = false;
    } else {
        assert_int_equal(do_status(&a, o_hosts[i], 0, status), 0);
        h->status = status;
        if (status == PO_WORKER_OFFLINE)
            o_lose(&oracle, i, false);
    }
}

/* ---- tasks ---- */

static struct otask *new_task(uint64_t id)
{
    if (id != oracle.last_id + 1) /* a repeat */
        return NULL;
    assert_true(id < O_TASKS);
    struct otask *t = &oracle.tasks[++oracle.last_id];
    *t = (struct otask){.id = id,
                        .known = true,
                        .state = PO_TASK_PENDING,
                        .created = oracle.now_ms,
                        .attempts_max = PO__TASK_ATTEMPTS_DEFAULT,
                        .timeout = PO__TASK_TIMEOUT_DEFAULT_MS,
                        .host = -1};
    return t;
}

static void submit_old(void)
{
    struct otask *t, want = {.cap = pick(O_CAPS), .near = pick(3)};
    char key[8];
    snprintf(key, sizeof key, "k%u", pick(300));
    want.attempts_max = pick(4);
    want.timeout = 100 + pick(3000);
    if (do_submit(&a, one_in(2) ? key : "", o_caps[want.cap], "1", o_zones[want.near],
                  want.attempts_max, want.timeout) ||
        !(t = new_task(a.result.id)))
        return;
    t->cap = want.cap;
    t->near = want.near;
    t->timeout = want.timeout;
    if (want.attempts_max)
        t->attempts_max = want.attempts_max;
}

static void demand(struct otask *t, struct wish *x)
{
    *t = (struct otask){.cap = pick(O_CAPS), .near = pick(3), .modern = true};
    if (one_in(2)) { /* few different placements, so that classes have many tasks */
        static const struct otask usual[] = {{.gpu = PO__GPU_REQUIRED},
                                             {.gpu = PO__GPU_FORBIDDEN, .range = 1},
                                             {.labels = 1},
                                             {.gpus = 1},
                                             {.prefer = PO__PREFER_BINPACK},
                                             {.prefer = PO__PREFER_SPREAD}};
        const struct otask *u = &usual[pick(6)];
        t->gpu = u->gpu;
        t->range = u->range;
        t->labels = u->labels;
        t->gpus = u->gpus;
        t->prefer = u->prefer;
    } else {
        t->range = one_in(3) ? pick(6) : 0;
        t->zone = one_in(4) ? 1 + pick(2) : 0;
        t->gpu = one_in(3) ? pick(3) : 0;
        t->prefer = pick(4);
        t->labels = one_in(3) ? pick(6) : 0;
        t->gpus = one_in(3) ? pick(3) : 0;
        t->mem = one_in(3) ? pick(3) : 0;
    }
    *x = (struct wish){.range = o_ranges[t->range],
                       .zone = o_zones[t->zone],
                       .gpu = t->gpu,
                       .prefer = t->prefer,
                       .labels = o_demands[t->labels],
                       .near = o_zones[t->near]};
}

static void time_and_key(struct otask *t, struct wish *x)
{
    t->priority = x->priority = one_in(2) ? pick(10) : 0;
    t->run_at = x->run_at_ms = one_in(5) ? oracle.now_ms - 200 + pick(2000) : 0;
    t->deadline = x->deadline_ms = one_in(5) ? oracle.now_ms + 2000 + pick(3000) : 0;
    t->keep = x->keep_ms = one_in(4) ? 1 + pick(2000) : 0;
    t->retry_ms = x->retry_ms = one_in(4) ? 1 + pick(1000) : 0;
    t->retry_max_ms = x->retry_max_ms = one_in(4) ? 1000 + pick(1000) : 0;
    t->gate = one_in(2) ? pick(O_GATES) : 0;
    if (!t->gate)
        return;
    x->gate = o_gates[t->gate];
    x->gate_max = one_in(2) ? 1 + pick(3) : 0;
    if (!x->gate_max || one_in(2)) {
        x->rate_max = 1 + pick(3);
        x->rate_ms = 1 + pick(1000);
    }
}

static void limit_gate(const struct otask *t, const struct wish *x)
{
    struct ogate *g = &oracle.gates[t->gate];
    uint64_t most = oracle.now_ms * 1000 + (uint64_t)x->rate_ms * 1000;
    g->max = x->gate_max;
    g->rate_max = x->rate_max;
    g->rate_ms = x->rate_ms;
    if (g->rate_max && g->full_us > most) /* an empty bucket of the new size */
        g->full_us = most;
    o_gate_look(&oracle, t->gate);
}

static void submit_new(void)
{
    struct otask want, *t;
    struct wish x;
    char key[8], resources[32] = "";
    demand(&want, &x);
    time_and_key(&want, &x);
    if (want.gpus)
        snprintf(resources, sizeof resources, "gpus=%u ", want.gpus);
    if (want.mem)
        snprintf(resources + strlen(resources), sizeof resources - strlen(resources), "mem=%u",
                 want.mem);
    x.resources = resources;
    snprintf(key, sizeof key, "k%u", pick(300));
    x.key = one_in(3) ? key : NULL;
    want.attempts_max = x.attempts_max = 1 + pick(3);
    want.timeout = x.timeout_ms = 100 + pick(3000);
    if (do_wish_task(&a, o_caps[want.cap], &x) || !(t = new_task(a.result.id)))
        return;
    want.id = t->id;
    want.created = t->created;
    want.known = true;
    want.host = -1;
    want.state = want.run_at > oracle.now_ms ? PO_TASK_SCHEDULED : PO_TASK_PENDING;
    want.due = want.run_at;
    *t = want;
    if (t->gate)
        limit_gate(t, &x);
}

static struct otask *some_task(uint32_t state)
{
    struct otask *found = NULL;
    unsigned n = 0;
    O_EACH(&oracle, t)
    if ((!state || t->state == state) && one_in(++n))
        found = t;
    return found;
}

/* A worker, alive or zombie, speaks. */
static void answer(void)
{
    struct otask *t = some_task(one_in(8) ? 0 : PO_TASK_RUNNING);
    if (!t || !t->token) {
        submit_old();
        return;
    }
    bool stale = t->host < 0 || one_in(10);
    uint64_t token = t->token - (stale && t->host >= 0);
    const char *worker = o_hosts[t->host >= 0 ? (unsigned)t->host : pick(O_HOSTS)];
    uint32_t extend_ms = one_in(2) ? 100 + pick(3000) : 0;
    bool retryable = !one_in(4);
    switch (pick(8)) {
    case 0:
    case 1:
        do_fail(&a, t->id, token, worker, "it failed", retryable);
        if (!stale)
            o_attempt_failed(&oracle, t, retryable);
        break;
    case 2:
        do_extend(&a, t->id, token, worker, extend_ms ? extend_ms : 100);
        if (!stale)
            t->due = oracle.now_ms + (extend_ms ? extend_ms : 100);
        break;
    case 3:
        do_checkpoint(&a, t->id, token, worker, pick(1100), one_in(2) ? "half way" : NULL,
                      extend_ms);
        if (!stale && extend_ms)
            t->due = oracle.now_ms + extend_ms;
        break;
    default:
        do_complete(&a, t->id, token, worker, "\"done\"");
        if (!stale)
            o_release(&oracle, t, PO_TASK_SUCCEEDED);
    }
}

static void end_or_retry(void)
{
    struct otask *t = some_task(0);
    bool cancel = one_in(2);
    int rv = t ? cancel ? do_cancel(&a, t->id) : do_retry(&a, t->id) : do_cancel(&a, 9999);
    if (!cancel && t && t->deadline && t->deadline <= oracle.now_ms && t->state > PO_TASK_SUCCEEDED)
        assert_int_equal(rv, PO_ESTATE);
    if (rv || (cancel ? o_finished(t) : !o_finished(t)))
        return;
    if (cancel) {
        o_release(&oracle, t, PO_TASK_CANCELLED);
        return;
    }
    t->forgiven = t->attempt;
    t->lost = 0;
    t->modern = true;
    t->state = t->run_at > oracle.now_ms ? PO_TASK_SCHEDULED : PO_TASK_PENDING;
    t->due = t->run_at;
}

/* ---- runs: their tasks come when they come ---- */

static void run_command(void)
{
    const char *chain[2] = {o_caps[pick(O_CAPS)], o_caps[pick(O_CAPS)]};
    if (one_in(3)) {
        do_define(&a, "p", chain, 2, "");
    } else if (one_in(3)) {
        uint64_t id = 1 + pick(20);
        if (!do_run_cancel(&a, id))
            O_EACH(&oracle, t)
        if (t->run_id == id && !o_finished(t))
            o_release(&oracle, t, PO_TASK_CANCELLED);
    } else {
        do_run(&a, "", "p", "1", o_zones[pick(3)]);
    }
}

static unsigned index_of(const char *const *words, unsigned count, struct po__slice word)
{
    for (unsigned i = 0; i < count; i++)
        if (po__slice_eq(po__str(words[i]), word))
            return i;
    fail_msg("%.*s is unknown", (int)word.len, word.data);
    return 0;
}

static void adopt_steps(void)
{
    for (const struct po__task *p; (p = po__model_task(a.m, oracle.last_id + 1));) {
        struct otask *t = new_task(p->id);
        assert_true(p->run_id != 0);
        t->run_id = p->run_id;
        t->cap = index_of(o_caps, O_CAPS, p->capability);
        t->near = index_of(o_zones, 4, p->zone);
    }
}

/* ---- the test ---- */

static void any_command(void)
{
    uint64_t due = po__model_next_due_ms(a.m);
    a.now_ms += one_in(3) ? pick(200) : 0;
    if (one_in(8) && due != UINT64_MAX && due > a.now_ms)
        a.now_ms = due;
    oracle.now_ms = a.now_ms;
    switch (pick(16)) {
    case 0:
    case 1:
        worker_command();
        break;
    case 2:
        submit_old();
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        submit_new();
        break;
    case 7:
        end_or_retry();
        break;
    case 8:
    case 9:
        do_tick(&a);
        o_tick(&oracle);
        break;
    case 10:
        run_command();
        break;
    default:
        answer();
    }
    adopt_steps();
}

static void replay_on_b(void)
{
    b.fx.count = 0;
    assert_int_equal(po__model_apply(b.m, a.index, a.now_ms, &a.decoded, &b.result, &b.fx), 0);
    assert_int_equal(b.result.code, a.result.code);
    assert_int_equal(b.result.id, a.result.id);
    assert_string_equal(b.result.message, a.result.message);
    assert_int_equal(b.fx.count, a.fx.count);
    for (size_t i = 0; i < a.fx.count; i++) {
        const struct po__fx *x = &a.fx.items[i], *y = &b.fx.items[i];
        assert_true(x->type == y->type && x->id == y->id && x->token == y->token &&
                    x->worker == y->worker);
    }
    assert_true(po__model_next_due_ms(a.m) == po__model_next_due_ms(b.m));
}

struct slices {
    struct po__buf expected, sliced;
    bool taking;
};

static void take_slices(struct slices *s)
{
    if (!s->taking && one_in(30)) {
        snapshot(b.m, &s->expected); /* the twin, at once */
        po__buf_reset(&s->sliced);
        assert_int_equal(po__model_snapshot_begin(a.m), 0);
        s->taking = true;
    }
    if (!s->taking || po__model_snapshot_step(a.m, &s->sliced, 1 + pick(2500)) != 1)
        return;
    s->taking = false;
    assert_int_equal(s->sliced.len, s->expected.len);
    assert_memory_equal(s->sliced.data, s->expected.data, s->expected.len);
}

static void replace_b(struct po__buf *bytes)
{
    snapshot(b.m, bytes);
    world_close(&b);
    world_open(&b, NULL);
    assert_int_equal(restore(b.m, bytes->data, bytes->len, 1 << 20), 0);
}

static void one_seed(uint64_t s)
{
    struct slices slices = {0};
    struct po__buf bytes = {0};
    seed = s * UINT64_C(0x9e3779b97f4a7c15) | 1;
    memset(&oracle, 0, sizeof oracle);
    world_open(&a, NULL);
    world_open(&b, NULL);
    oracle.m = a.m;
    for (unsigned i = 0; i < COMMANDS; i++) {
        a.fx.count = 0;
        any_command();
        replay_on_b();
        o_judge(&oracle, &a);
        if (one_in(8))
            assert_true(digest(a.m) == digest(b.m));
        take_slices(&slices);
        if (one_in(20))
            replace_b(&bytes);
    }
    world_close(&a);
    world_close(&b);
    po__buf_fini(&slices.expected);
    po__buf_fini(&slices.sliced);
    po__buf_fini(&bytes);
}

static uint64_t from = 1, to = 8;

static void test_random(void **state)
{
    (void)state;
    for (uint64_t s = from; s <= to; s++) {
        print_message("seed %llu\n", (unsigned long long)s);
        one_seed(s);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    if (argc > 1)
        from = to = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        to = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
