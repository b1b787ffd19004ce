/* Random graphs, random ends of their tasks, workers that come and go: after each command the whole
 * state is checked, and a second replica agrees. Snapshots are taken in slices meanwhile and must
 * be those of the moment they began; what is restored from one takes the second replica's place. A
 * failure names its seed. */
#include "graph_fixture.h"

static uint64_t seed;

static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % n);
}

static const char *const workers[] = {"w1", "w2", "w3"};
static const char *const versions[] = {"1.0.0", "1.2.0", "2.0.0-rc.1", "2.0.0"};
static const char *const caps[] = {"a:x", "b:y", "c:z"};
static const char *const pipelines[] = {"p1", "p2", "p3", "chain"};
static const char *const names[] = {"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"};

struct pair {
    struct world a, b; /* a takes the snapshots */
    struct po__buf steps, params;
    uint64_t incarnation;
};

static void replay_on_b(struct pair *p)
{
    p->b.fx.count = 0;
    p->b.now_ms = p->a.now_ms;
    p->b.index = p->a.index;
    assert_int_equal(
        po__model_apply(p->b.m, p->a.index, p->a.now_ms, &p->a.decoded, &p->b.result, &p->b.fx), 0);
    assert_int_equal(p->b.result.code, p->a.result.code);
    assert_int_equal(p->b.result.id, p->a.result.id);
    assert_string_equal(p->b.result.message, p->a.result.message);
    assert_int_equal(p->b.fx.count, p->a.fx.count);
    for (size_t i = 0; i < p->a.fx.count; i++) {
        const struct po__fx *x = &p->a.fx.items[i], *y = &p->b.fx.items[i];
        assert_true(x->type == y->type && x->id == y->id && x->token == y->token &&
                    x->worker == y->worker);
    }
    world_check(&p->a);
}

static void worker_command(struct pair *p)
{
    const char *id = workers[pick(3)];
    const struct po__worker *w = po__model_worker(p->a.m, po__str(id));
    if (w && pick(6) == 0) {
        do_deregister(&p->a, id, 0);
        return;
    }
    if (w && pick(3) == 0) {
        do_status(&p->a, id, 0, 1 + pick(3));
        return;
    }
    p->a.cmd.type = PO__CMD_WORKER_REGISTER;
    p->a.cmd.worker_register.id = po__str(id);
    p->a.cmd.worker_register.address = po__str("10.0.0.1:1");
    p->a.cmd.worker_register.zone = po__str(pick(2) ? "aws" : "gcp");
    p->a.cmd.worker_register.incarnation = w && pick(2) ? w->incarnation : ++p->incarnation;
    p->a.cmd.worker_register.heartbeat_ms = 1000;
    p->a.cmd.worker_register.labels_count = 0;
    p->a.cmd.worker_register.caps_count = 3;
    for (int i = 0; i < 3; i++)
        p->a.cmd.worker_register.caps[i] = (struct po__cap){.name = po__str(caps[i]),
                                                            .version = po__str(versions[pick(4)]),
                                                            .max_concurrency = 1 + pick(4)};
    apply(&p->a);
}

/* Steps whose templates name what may or may not be there. A pipeline has those behind it in the
 * list for steps. */
static void random_step(struct gstep *s, uint32_t i, uint32_t pipeline, char *needs,
                        size_t needs_len, char (*texts)[128])
{
    static const char *const whens[] = {NULL,           NULL,    NULL,
                                        "params.n > 2", "false", "exists(params.list[1])"};
    static const char *const inputs[] = {"\"${params.n}\"", "{\"n\":\"${params.n}\"}", "[1]"};
    *s = (struct gstep){.name = names[i], .work = caps[pick(3)]};
    needs[0] = '\0';
    for (uint32_t k = 0; k < i; k++)
        if (pick(3) == 0)
            snprintf(needs + strlen(needs), needs_len - strlen(needs), "%s%s", *needs ? " " : "",
                     names[k]);
    s->needs = needs;
    s->join = pick(3) ? 0 : pick(3);
    s->on_failure = pick(2);
    s->when = whens[pick(6)];
    if (pick(3) == 0)
        s->input = inputs[pick(3)];
    s->cache = s->input && pick(2);
    s->attempts = pick(3);
    s->timeout_ms = pick(4) ? 0 : 500;
    if (pick(4) == 0) {
        s->map = pick(3) ? "\"${params.list}\"" : "[1,[],\"${params.n}\"]";
        s->parallel = pick(4);
        s->input = pick(2) ? "[\"${item}\",\"${index}\"]" : s->input;
        s->cache = s->cache && s->input;
    }
    if (pick(6) == 0 && *needs) {
        snprintf(texts[0], sizeof texts[0], "steps.%.2s.state == \"succeeded\"", needs);
        s->when = texts[0];
    }
    if (pick(6) == 0) {
        s->work = pipelines[pipeline + 1 + pick(3 - pipeline)];
        s->input = "{\"n\":\"${params.n}\",\"list\":[\"${params.n}\"]}";
        s->cache = false;
        s->attempts = s->timeout_ms = 0;
    }
}

static void define_command(struct pair *p)
{
    static const struct gparam params[] = {{"n", PO__PARAM_INTEGER, true, NULL},
                                           {"list", PO__PARAM_ARRAY, false, "[1,2,3]"}};
    static const char *const outputs[] = {NULL, NULL, "{\"n\":\"${params.n}\"}",
                                          "\"${steps.s0.output}\""};
    const char *chain[3] = {caps[pick(3)], caps[pick(3)], caps[pick(3)]};
    struct gstep steps[10];
    char needs[10][64], texts[10][128];
    uint32_t n = 1 + pick(10), pipeline = pick(3);
    if (pick(6) == 0) {
        do_define(&p->a, "chain", chain, 1 + pick(3), "");
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        random_step(&steps[i], i, pipeline, needs[i], sizeof needs[i], &texts[i]);
    graph_cmd(&p->a.cmd, &p->steps, &p->params, pipelines[pipeline], steps, n, params, 2,
              outputs[pick(4)]);
    apply(&p->a);
}

static void run_command(struct pair *p)
{
    char key[8], params[64];
    uint64_t last = p->a.m->next_run > 1 ? p->a.m->next_run - 1 : 1;
    uint64_t some = last > 12 ? last - pick(12) : 1 + pick((uint32_t)last);
    snprintf(key, sizeof key, "r%u", pick(200));
    switch (pick(8)) {
    case 0:
        do_run_cancel(&p->a, some);
        break;
    case 1:
    case 2:
        do_resume(&p->a, pick(2) ? key : "", some, pick(2) ? names[pick(10)] : "");
        break;
    default:
        snprintf(params, sizeof params, pick(9) ? "{\"n\":%u}" : "{\"m\":%u}", pick(5));
        if (pick(2))
            do_run(&p->a, pick(2) ? key : "", pipelines[pick(4)], params, pick(2) ? "aws" : "");
        else
            do_start(&p->a, pick(2) ? key : "", pipelines[pick(4)], params, "", pick(10));
    }
}

/* The answer of whoever runs the oldest or some other task. */
static void answer(struct pair *p)
{
    static const char *const results[] = {"1", "\"text\"", "{\"n\":1}", "[0]", "null"};
    const struct po__task *t = po__task_after(p->a.m, 0), *chosen = NULL;
    for (uint32_t skip = pick(4); t; t = po__task_after(p->a.m, t->id)) {
        if (t->state != PO_TASK_RUNNING)
            continue;
        chosen = t;
        if (skip-- == 0)
            break;
    }
    if (!chosen) {
        do_tick(&p->a);
        return;
    }
    char worker[PO_NAME_MAX_BYTES + 1];
    snprintf(worker, sizeof worker, "%s", chosen->worker->id);
    if (pick(6) == 0)
        do_fail(&p->a, chosen->id, chosen->token, worker, "it failed", pick(2));
    else
        do_complete(&p->a, chosen->id, chosen->token, worker, results[pick(5)]);
}

static void any_command(struct pair *p)
{
    p->a.now_ms += pick(4) ? 0 : pick(200);
    switch (pick(12)) {
    case 0:
        worker_command(p);
        break;
    case 1:
        define_command(p);
        break;
    case 2:
    case 3:
    case 4:
        run_command(p);
        break;
    case 5:
        if (pick(4) == 0)
            do_cancel(&p->a, 1 + pick((uint32_t)p->a.m->next_task));
        else
            do_tick(&p->a);
        break;
    default:
        answer(p);
    }
    replay_on_b(p);
}

static void replace_b(struct pair *p, const struct po__buf *bytes)
{
    static const size_t chunks[] = {1, 7, 4096, 1 << 20};
    world_close(&p->b);
    world_open(&p->b, NULL);
    assert_int_equal(restore(p->b.m, bytes->data, bytes->len, chunks[pick(4)]), 0);
    world_check(&p->b);
    assert_true(digest(p->a.m) == digest(p->b.m));
}

/* Nothing is left behind that no event will move. */
static void run_out(struct pair *p)
{
    do_register(&p->a, "w1", ++p->incarnation, "aws", "a:x b:y c:z", 64);
    replay_on_b(p);
    for (int i = 0; i < 20000 && p->a.m->runs_active; i++) {
        const struct po__task *t = po__task_after(p->a.m, 0);
        while (t && t->state != PO_TASK_RUNNING)
            t = po__task_after(p->a.m, t->id);
        if (t) {
            do_complete(&p->a, t->id, t->token, t->worker->origin->id.data, "1");
        } else {
            uint64_t due = po__model_next_due_ms(p->a.m);
            assert_true(due != UINT64_MAX);
            p->a.now_ms = due > p->a.now_ms ? due : p->a.now_ms;
            do_tick(&p->a);
        }
        replay_on_b(p);
    }
    assert_int_equal(p->a.m->runs_active, 0);
}

static void one_seed(uint64_t s, unsigned commands)
{
    static struct pair p;
    struct po__buf expected = {0}, sliced = {0};
    bool taking = false;
    seed = s * UINT64_C(0x9e3779b97f4a7c15) | 1;
    memset(&p, 0, sizeof p);
    world_open(&p.a, NULL);
    world_open(&p.b, NULL);
    p.a.unchecked = p.b.unchecked = true;
    for (unsigned i = 0; i < commands; i++) {
        any_command(&p);
        if (i % 64 == 0)
            assert_true(digest(p.a.m) == digest(p.b.m));
        if (!taking && pick(60) == 0) {
            snapshot(p.b.m, &expected); /* the twin, at once */
            po__buf_reset(&sliced);
            assert_int_equal(po__model_snapshot_begin(p.a.m), 0);
            taking = true;
        }
        if (!taking || po__model_snapshot_step(p.a.m, &sliced, 1 + pick(1500)) != 1)
            continue;
        taking = false;
        assert_int_equal(sliced.len, expected.len);
        assert_memory_equal(sliced.data, expected.data, sliced.len);
        if (pick(2)) {
            snapshot(p.a.m, &expected);
            replace_b(&p, &expected);
        }
    }
    po__model_snapshot_abort(p.a.m);
    run_out(&p);
    assert_true(digest(p.a.m) == digest(p.b.m));
    world_close(&p.a);
    world_close(&p.b);
    po__buf_fini(&p.steps);
    po__buf_fini(&p.params);
    po__buf_fini(&expected);
    po__buf_fini(&sliced);
}

static void test_random(void **state)
{
    (void)state;
    const char *only = getenv("MODEL_SEED");
    uint64_t from = only ? strtoull(only, NULL, 10) : 1, to = only ? from : 20;
    for (uint64_t s = from; s <= to; s++) {
        print_message("seed %llu\n", (unsigned long long)s);
        one_seed(s, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
