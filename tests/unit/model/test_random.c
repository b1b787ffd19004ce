/* Random commands over few workers and tasks, so that every race happens often. After each command
 * the whole state is checked; a second replica must agree, snapshots taken in slices meanwhile must
 * be those of the moment they began, and restoring one must give the same state. A failure names
 * its seed. */
#include "fixture.h"

static uint64_t seed;

static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) % n);
}

static const char *const workers[] = {"w1", "w2", "w3", "w4"};
static const char *const zones[] = {"", "aws", "gcp"};
static const char *const caps[] = {"a:x", "b:y", "c:z"};
static const char *const cap_sets[] = {"a:x", "a:x b:y", "c:z b:y a:x", "b:y"};

struct pair {
    struct world a; /* the one that takes snapshots */
    struct world b;
    struct journal ja, jb;
    struct po_state_machine sa, sb;
    uint64_t seen[128]; /* task id, token pairs that were granted at some time */
    unsigned seen_count;
    uint64_t incarnation;
};

static void replay_on_b(struct pair *p)
{
    char message[512];
    p->b.fx.count = 0;
    p->b.now_ms = p->a.now_ms;
    p->b.index = p->a.index;
    assert_int_equal(
        po__model_apply(p->b.m, p->a.index, p->a.now_ms, &p->a.decoded, &p->b.result, &p->b.fx), 0);
    assert_int_equal(p->b.result.code, p->a.result.code);
    assert_int_equal(p->b.result.id, p->a.result.id);
    assert_true(po__slice_eq(p->b.result.data, p->a.result.data));
    assert_string_equal(p->b.result.message, p->a.result.message);
    assert_int_equal(p->b.fx.count, p->a.fx.count);
    for (size_t i = 0; i < p->a.fx.count; i++) {
        const struct po__fx *x = &p->a.fx.items[i], *y = &p->b.fx.items[i];
        assert_true(x->type == y->type && x->id == y->id && x->token == y->token &&
                    x->worker == y->worker);
    }
    if (po__model_check(p->a.m, message, sizeof message))
        fail_msg("index %llu: %s", (unsigned long long)p->a.index, message);
}

static void remember_grants(struct pair *p)
{
    for (size_t i = 0; i < p->a.fx.count; i++) {
        if (p->a.fx.items[i].type != PO__FX_ASSIGNED)
            continue;
        unsigned at = (p->seen_count++ % 64) * 2;
        p->seen[at] = p->a.fx.items[i].id;
        p->seen[at + 1] = p->a.fx.items[i].token;
    }
}

/* What a worker, alive or zombie, says about a grant. */
static void answer(struct pair *p)
{
    unsigned at = pick(64) * 2;
    uint64_t id = p->seen[at] ? p->seen[at] : 1, token = p->seen[at + 1] ? p->seen[at + 1] : 1;
    const struct po__task *t = po__model_task(p->a.m, id);
    const char *worker = t && t->worker ? t->worker->id : workers[pick(4)];
    char result[400];
    switch (pick(8)) {
    case 0:
    case 1:
        do_fail(&p->a, id, token, worker, "it failed", pick(4) > 0);
        break;
    case 2:
        do_extend(&p->a, id, token, worker, 100 + pick(5000));
        break;
    default:
        snprintf(result, sizeof result, "\"%0*d\"", (int)pick(300) + 1, 7);
        do_complete(&p->a, id, token, worker, result);
    }
}

static void worker_command(struct pair *p)
{
    const char *id = workers[pick(4)];
    const struct po__worker *w = po__model_worker(p->a.m, po__str(id));
    uint64_t incarnation = w ? w->incarnation - (pick(8) == 0) : ++p->incarnation;
    switch (pick(8)) {
    case 0:
        do_deregister(&p->a, id, pick(2) ? 0 : incarnation);
        break;
    case 1:
    case 2:
        do_status(&p->a, id, pick(2) ? 0 : incarnation, 1 + pick(3));
        break;
    case 3:
        incarnation = ++p->incarnation;
        /* fall through */
    default:
        do_register(&p->a, id, incarnation ? incarnation : 1, zones[pick(3)], cap_sets[pick(4)],
                    1 + pick(3));
    }
}

static void pipeline_command(struct pair *p)
{
    static const char *const names[] = {"p", "p2"};
    const char *chain[3] = {caps[pick(3)], caps[pick(3)], caps[pick(3)]};
    char key[8];
    switch (pick(6)) {
    case 0:
        do_define(&p->a, names[pick(2)], chain, 1 + pick(3), pick(2) ? "{\"k\":1}" : "");
        break;
    case 1:
        do_run_cancel(&p->a, 1 + pick(20));
        break;
    default:
        snprintf(key, sizeof key, "r%u", pick(30));
        do_run(&p->a, pick(2) ? key : "", names[pick(2)], "{\"p\":2}", zones[pick(3)]);
    }
}

static void schedule_command(struct pair *p)
{
    static const char *const names[] = {"s1", "s2", "s3"};
    const char *name = names[pick(3)];
    const struct po__schedule *s = po__model_schedule(p->a.m, po__str(name));
    uint64_t generation = s ? s->generation - (pick(8) == 0) : 1;
    switch (pick(8)) {
    case 0:
        do_schedule(&p->a, name, pick(2) ? "* * * * *" : "@hourly", pick(2), pick(3) * 100,
                    pick(6) == 0);
        break;
    case 1:
        do_unschedule(&p->a, name);
        break;
    case 2:
        do_pause(&p->a, name, pick(2));
        break;
    default:
        p->a.now_ms += pick(3) ? 0 : PO__SCHEDULE_ON_TIME_MS + pick(300);
        do_fire(&p->a, name, generation ? generation : 1, p->a.now_ms - pick(2) * pick(20000),
                pick(3) ? 0 : 1 + pick(5));
    }
}

static void any_command(struct pair *p)
{
    char key[8], data[32];
    p->a.now_ms += pick(4) ? 0 : pick(300);
    switch (pick(16)) {
    case 0:
    case 1:
        worker_command(p);
        break;
    case 2:
    case 3:
        pipeline_command(p);
        break;
    case 4:
    case 5:
    case 6:
        snprintf(key, sizeof key, "k%u", pick(200));
        do_submit(&p->a, pick(2) ? key : "", caps[pick(3)], "[1]", zones[pick(3)], pick(4),
                  100 + pick(2000));
        break;
    case 7:
        do_cancel(&p->a, 1 + pick((uint32_t)p->a.index));
        break;
    case 8:
        snprintf(key, sizeof key, "a%u", pick(50));
        snprintf(data, sizeof data, "<%u>", pick(1000));
        do_app(&p->a, pick(3) ? key : "", data);
        break;
    case 9:
        if (po__model_next_due_ms(p->a.m) != UINT64_MAX && pick(2) &&
            po__model_next_due_ms(p->a.m) > p->a.now_ms)
            p->a.now_ms = po__model_next_due_ms(p->a.m);
        do_tick(&p->a);
        break;
    case 10:
        if (pick(3))
            do_member(&p->a, 1 + pick(4), pick(2) ? "n1" : "n2",
                      pick(9) ? "0123456789abcdef" : "fedcba9876543210");
        else
            do_wish(&p->a, 1 + pick(4), pick(PO__WISH_GONE + 1));
        break;
    case 11:
        schedule_command(p);
        break;
    default:
        answer(p);
    }
    remember_grants(p);
    replay_on_b(p);
}

static void open_pair(struct pair *p)
{
    memset(p, 0, sizeof *p);
    p->sa = journal_machine(&p->ja);
    p->sb = journal_machine(&p->jb);
    world_open(&p->a, &p->sa);
    world_open(&p->b, &p->sb);
    p->a.unchecked = p->b.unchecked = true;
}

/* The state of b restored from a's snapshot replaces b. */
static void replace_b(struct pair *p, const struct po__buf *bytes)
{
    static const size_t chunks[] = {1, 3, 64, 1 << 20};
    world_close(&p->b);
    world_open(&p->b, &p->sb);
    assert_int_equal(restore(p->b.m, bytes->data, bytes->len, chunks[pick(4)]), 0);
    world_check(&p->b);
}

static void one_seed(uint64_t s, unsigned commands)
{
    static struct pair p;
    struct po__buf expected = {0}, sliced = {0};
    bool taking = false;
    seed = s * UINT64_C(0x9e3779b97f4a7c15) | 1;
    open_pair(&p);
    for (unsigned i = 0; i < commands; i++) {
        any_command(&p);
        if (i % 64 == 0)
            assert_true(digest(p.a.m) == digest(p.b.m));
        if (!taking && pick(40) == 0) {
            snapshot(p.b.m, &expected); /* the twin, at once */
            po__buf_reset(&sliced);
            assert_int_equal(po__model_snapshot_begin(p.a.m), 0);
            taking = true;
        }
        if (!taking || pick(3))
            continue;
        if (pick(30) == 0) {
            po__model_snapshot_abort(p.a.m);
            taking = false;
        } else if (po__model_snapshot_step(p.a.m, &sliced, 1 + pick(1500)) == 1) {
            taking = false;
            assert_int_equal(sliced.len, expected.len);
            assert_memory_equal(sliced.data, expected.data, sliced.len);
        }
        if (!taking && pick(4) == 0) {
            snapshot(p.a.m, &expected);
            replace_b(&p, &expected);
            assert_true(digest(p.a.m) == digest(p.b.m));
        }
    }
    world_close(&p.a);
    world_close(&p.b);
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
        one_seed(s, 1500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
