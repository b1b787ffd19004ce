/* Where tasks run: what turns a worker down, which of the others is preferred, and what changes
 * when workers do. */
#include "sched.h"

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

#define HOST(...) assert_int_equal(do_host(&w, &(struct host){__VA_ARGS__}), 0)

static uint64_t submit(const char *cap, const struct wish *x)
{
    assert_int_equal(do_wish_task(&w, cap, x), 0);
    return w.result.id;
}
#define SUBMIT(cap, ...) submit(cap, &(struct wish){__VA_ARGS__})

static const struct po__task *task(uint64_t id)
{
    const struct po__task *t = po__model_task(w.m, id);
    assert_non_null(t);
    return t;
}

/* worker NULL: it waits. */
static void expect_on(uint64_t id, const char *worker)
{
    const struct po__task *t = task(id);
    if (worker ? !t->worker || strcmp(t->worker->id, worker) != 0 : t->state != PO_TASK_PENDING)
        fail_msg("task %llu has state %u on %s, expected %s", (unsigned long long)id, t->state,
                 t->worker ? t->worker->id : "nobody", worker ? worker : "that it waits");
}

static void complete(uint64_t id)
{
    const struct po__task *t = task(id);
    assert_int_equal(t->state, PO_TASK_RUNNING);
    assert_int_equal(do_complete(&w, id, t->token, t->worker->id, "1"), 0);
}

/* ---- hard demands ---- */

static void test_demands(void **state)
{
    (void)state;
    static const struct host host = {.id = "w1",
                                     .zone = "aws",
                                     .caps = "a:x@1.2.3*99!",
                                     .labels = "disk=nvme spot= os=linux",
                                     .resources = "gpus=2"};
    static const struct {
        struct wish wish;
        bool fits;
    } cases[] = {
        {{.range = "^1.2"}, true},
        {{.range = "1.2.3"}, true},
        {{.range = "~1.3"}, false},
        {{.range = "<1 || 1.2.3"}, true},
        {{.zone = "aws"}, true},
        {{.zone = "gcp"}, false},
        {{.zone = "default"}, false},
        {{.gpu = PO__GPU_REQUIRED}, true},
        {{.gpu = PO__GPU_FORBIDDEN}, false},
        {{.labels = "disk=nvme"}, true},
        {{.labels = "disk=hdd"}, false},
        {{.labels = "arch=arm"}, false},
        {{.labels = "disk!=hdd"}, true},
        {{.labels = "disk!=nvme"}, false},
        {{.labels = "arch!=arm"}, true}, /* missing is unequal */
        {{.labels = "spot"}, true},      /* there, and empty */
        {{.labels = "arch"}, false},
        {{.labels = "!arch"}, true},
        {{.labels = "!spot"}, false},
        {{.labels = "disk=nvme os=linux spot !arch"}, true},
        {{.labels = "disk=nvme os=mac"}, false},
        {{.resources = "gpus=2"}, true},
        {{.resources = "gpus=3"}, false},
        {{.resources = "gpus=1 fpga=1"}, false},
        {{.range = "1.x", .zone = "aws", .gpu = 1, .labels = "os", .resources = "gpus=1"}, true},
        {{.range = "1.x", .zone = "aws", .gpu = 1, .labels = "!os", .resources = "gpus=1"}, false},
    };
    assert_int_equal(do_host(&w, &host), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t id = submit("a:x", &cases[i].wish);
        if ((task(id)->state == PO_TASK_RUNNING) != cases[i].fits)
            fail_msg("case %zu: state %u", i, task(id)->state);
        if (cases[i].fits)
            complete(id);
    }
}

/* Tasks of one capability take from what those of another need. */
static void test_resources_are_shared(void **state)
{
    (void)state;
    HOST("w1", .caps = "a:x*9 b:y*9", .resources = "gpus=4 mem=10");
    uint64_t a = SUBMIT("a:x", .resources = "gpus=3"),
             b = SUBMIT("b:y", .resources = "gpus=2 mem=1");
    uint64_t c = SUBMIT("b:y", .resources = "gpus=1 mem=9"),
             d = SUBMIT("a:x", .resources = "mem=2");
    uint64_t e = SUBMIT("a:x", 0); /* takes nothing, so it is not in the way of anything */
    expect_on(a, "w1");
    expect_on(b, NULL);
    expect_on(c, "w1"); /* of another class: b does not stop it */
    expect_on(d, NULL);
    expect_on(e, "w1");
    complete(a); /* of a:x; b of b:y gets its gpus, d still lacks memory */
    expect_on(b, "w1");
    expect_on(d, NULL);
    complete(c);
    expect_on(d, "w1");
}

static void test_slots_of_a_worker(void **state)
{
    (void)state;
    HOST("w1", .caps = "a:x*2 b:y*2", .slots = 3);
    uint64_t a = SUBMIT("a:x", 0), b = SUBMIT("a:x", 0), c = SUBMIT("a:x", 0);
    uint64_t d = SUBMIT("b:y", 0), e = SUBMIT("b:y", 0);
    expect_on(b, "w1");
    expect_on(c, NULL); /* no slot of the capability */
    expect_on(d, "w1");
    expect_on(e, NULL); /* no slot of the worker */
    complete(a);        /* c and e both could have it, c is of the capability that comes first */
    expect_on(c, "w1");
    expect_on(e, NULL);
    complete(b);
    expect_on(e, "w1");
}

/* One capability has more to do than the worker can, the other does not starve. */
static void test_capabilities_take_turns(void **state)
{
    (void)state;
    uint64_t a[4], b[4];
    for (unsigned i = 0; i < 4; i++) {
        a[i] = SUBMIT("a:x", 0);
        b[i] = SUBMIT("b:y", 0);
    }
    uint64_t urgent = SUBMIT("b:y", .priority = 1);
    HOST("w1", .caps = "a:x*9 b:y*9", .slots = 1);
    expect_on(urgent, "w1");
    complete(urgent);
    for (unsigned i = 0; i < 4; i++) { /* in the order in which they came */
        expect_on(a[i], "w1");
        complete(a[i]);
        expect_on(b[i], "w1");
        complete(b[i]);
    }
}

/* A task that nobody has room for holds up only those that ask for the same. */
static void test_no_head_of_line(void **state)
{
    (void)state;
    HOST("cpu", .caps = "a:x");
    uint64_t big = SUBMIT("a:x", .gpu = PO__GPU_REQUIRED, .priority = 9);
    uint64_t small = SUBMIT("a:x", 0);
    expect_on(big, NULL);
    expect_on(small, "cpu");
}

/* ---- preferences ---- */

static void test_balance_is_the_default(void **state)
{
    (void)state;
    HOST("w1", .zone = "aws", .caps = "a:x*9");
    HOST("w2", .zone = "gcp", .caps = "a:x*9");
    HOST("w3", .zone = "gcp", .caps = "a:x*9");
    expect_on(SUBMIT("a:x", .near = "gcp"), "w2"); /* all are idle: the zone, then the order */
    expect_on(SUBMIT("a:x", .near = "gcp"), "w3");
    expect_on(SUBMIT("a:x", .near = "gcp"), "w1"); /* load goes before the zone */
    expect_on(SUBMIT("a:x", 0), "w2");             /* the one that waited longest */
    assert_int_equal(do_submit(&w, "", "a:x", "1", "aws", 0, 0), 0);
    expect_on(w.result.id, "w1"); /* the older form is no different */
    expect_on(SUBMIT("a:x", .labels = "!gone", .near = "aws"), "w3"); /* nor are choosy tasks */
}

static void test_spread(void **state)
{
    (void)state;
    HOST("a1", .zone = "aws", .caps = "a:x*9 b:y*9");
    HOST("g1", .zone = "gcp", .caps = "a:x*9 b:y*9");
    HOST("g2", .zone = "gcp", .caps = "a:x*9");
    HOST("z1", .zone = "azure", .caps = "a:x*1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD, .near = "gcp"), "g1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD), "a1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD), "z1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD, .near = "aws"),
              "g2");                                             /* load of the worker */
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD), "a1"); /* gcp runs two, azure is full */
    for (int i = 0; i < 3; i++)
        SUBMIT("b:y", .zone = "aws"); /* of another capability: does not count for the zone */
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD, .near = "aws"), "g1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_SPREAD), "a1"); /* two in aws, three in gcp */
}

static void test_binpack(void **state)
{
    (void)state;
    HOST("w1", .zone = "aws", .caps = "a:x*3");
    HOST("w2", .zone = "gcp", .caps = "a:x*3");
    HOST("w3", .zone = "gcp", .caps = "a:x*3");
    uint64_t first = SUBMIT("a:x", .prefer = PO__PREFER_BINPACK, .near = "gcp");
    const char *on = task(first)->worker->id;
    assert_string_equal(task(first)->worker->zone, "gcp");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_BINPACK, .near = "aws"), on); /* load first */
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_BINPACK), on);
    uint64_t next = SUBMIT("a:x", .prefer = PO__PREFER_BINPACK, .near = "aws"); /* it is full */
    expect_on(next, "w1");
    complete(first);
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_BINPACK), on); /* two there, one on w1 */
}

static void test_local(void **state)
{
    (void)state;
    HOST("w1", .zone = "aws", .caps = "a:x*2");
    HOST("w2", .zone = "gcp", .caps = "a:x*9");
    for (int i = 0; i < 2; i++)
        expect_on(SUBMIT("a:x", .prefer = PO__PREFER_LOCAL, .near = "aws"), "w1");
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_LOCAL, .near = "aws"),
              "w2"); /* rather than wait */
    complete(1);
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_LOCAL, .near = "aws"), "w1"); /* though busier */
    expect_on(SUBMIT("a:x", .prefer = PO__PREFER_LOCAL), "w2");                /* near nothing */
}

/* ---- workers change ---- */

static void test_registrations_unblock(void **state)
{
    (void)state;
    uint64_t any = SUBMIT("a:x", 0), gpu = SUBMIT("a:x", .gpu = PO__GPU_REQUIRED);
    uint64_t old = SUBMIT("a:x", .range = "<1"), nvme = SUBMIT("a:x", .labels = "disk=nvme");
    HOST("w1", .caps = "a:x*1", .labels = "disk=nvme");
    expect_on(any, "w1"); /* the oldest of those that it suits */
    HOST("w2", .caps = "a:x@0.9.0*1");
    expect_on(old, "w2");
    expect_on(nvme, NULL);
    HOST("w3", .caps = "a:x*1!");
    expect_on(gpu, "w3");
    complete(gpu);
    expect_on(nvme, NULL);                               /* w3 has no such label */
    HOST("w3", .caps = "a:x*1!", .labels = "disk=nvme"); /* has it now, the same incarnation */
    expect_on(nvme, "w3");
}

static void test_drain_offline_deregister(void **state)
{
    (void)state;
    HOST("w1", .caps = "a:x*2", .resources = "gpus=2");
    uint64_t a = SUBMIT("a:x", .resources = "gpus=1"), b = SUBMIT("a:x", .resources = "gpus=2");
    expect_on(a, "w1");
    assert_int_equal(do_status(&w, "w1", 0, PO_WORKER_DRAINING), 0);
    complete(a); /* gpus are free, but the worker drains */
    expect_on(b, NULL);
    assert_int_equal(do_status(&w, "w1", 0, PO_WORKER_ONLINE), 0);
    expect_on(b, "w1");
    assert_int_equal(do_status(&w, "w1", 0, PO_WORKER_OFFLINE), 0);
    expect_on(b, NULL);
    assert_int_equal(task(b)->lost, 1);
    assert_int_equal(do_status(&w, "w1", 0, PO_WORKER_ONLINE), 0);
    expect_on(b, "w1"); /* what it took came back when it was lost */
    assert_int_equal(do_deregister(&w, "w1", 0), 0);
    expect_on(b, NULL);
    HOST("w2", .caps = "a:x", .resources = "gpus=2");
    expect_on(b, "w2");
}

/* The same incarnation registers again while it runs tasks. */
static void test_registered_with_less(void **state)
{
    (void)state;
    HOST("w1", .caps = "a:x*3 b:y*1", .labels = "disk=nvme", .resources = "gpus=4", .slots = 4);
    uint64_t a = SUBMIT("a:x", .labels = "disk=nvme", .resources = "gpus=2");
    uint64_t b = SUBMIT("a:x", .range = "1.0.0"), c = SUBMIT("a:x", 0), d = SUBMIT("b:y", 0);
    uint64_t more = SUBMIT("a:x", .resources = "gpus=1");
    expect_on(d, "w1");
    expect_on(more, NULL);
    /* fewer slots of a:x: the newest lease goes; another version and no label: leases stay */
    HOST("w1", .caps = "a:x@2.0.0*2 b:y*1", .resources = "gpus=1", .slots = 2);
    expect_on(a, "w1");
    expect_on(b, "w1");
    expect_on(c, NULL);
    expect_on(d, "w1"); /* three leases, two slots of the worker: it just takes no more */
    assert_int_equal(task(c)->lost, 1);
    complete(d);
    complete(b);
    expect_on(c, "w1");    /* has no demands, and a slot is free */
    expect_on(more, NULL); /* two gpus are taken of one */
    complete(c);
    expect_on(more, NULL);
    complete(a);
    expect_on(more, "w1");
    complete(more);
    b = SUBMIT("b:y", 0);
    expect_on(b, "w1");
    HOST("w1", .caps = "a:x*1"); /* does not offer b:y any more */
    expect_on(b, NULL);
    expect_on(SUBMIT("a:x", .resources = "gpus=1"), NULL); /* nor has it gpus */
    HOST("w1", .caps = "a:x*1 b:y*1", .resources = "gpus=1");
    expect_on(b, "w1");
}

/* From the newer form of a registration to the older one, and back. */
static void test_registered_in_the_older_form(void **state)
{
    (void)state;
    HOST("w1", .caps = "a:x*4", .resources = "gpus=4", .slots = 1);
    uint64_t a = SUBMIT("a:x", .resources = "gpus=3"), b = SUBMIT("a:x", 0);
    expect_on(b, NULL);
    assert_int_equal(do_register(&w, "w1", 1, "", "a:x", 4), 0); /* no limit of its slots now */
    expect_on(a, "w1");
    expect_on(b, "w1");
    uint64_t c = SUBMIT("a:x", .resources = "gpus=1");
    expect_on(c, NULL);
    HOST("w1", .caps = "a:x*4", .resources = "gpus=4", .slots = 3);
    expect_on(c, "w1"); /* a's three are counted again */
    expect_on(SUBMIT("a:x", .resources = "gpus=1"), NULL);
}

/* A new version is rolled out worker by worker: tasks that ask for ^1.2 always find somebody, tasks
 * that ask for the new one as soon as there is one. */
static void test_versions_roll_over(void **state)
{
    (void)state;
    char id[8];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(id, sizeof id, "w%u", i);
        HOST(id, .caps = "a:x@1.2.0*2");
    }
    uint64_t newer = SUBMIT("a:x", .range = ">=1.3");
    expect_on(newer, NULL);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = SUBMIT("a:x", .range = "^1.2");
        assert_int_equal(task(before)->state, PO_TASK_RUNNING);
        snprintf(id, sizeof id, "w%u", i);
        assert_int_equal(do_status(&w, id, 0, PO_WORKER_DRAINING), 0);
        uint64_t during = SUBMIT("a:x", .range = "^1.2");
        assert_int_equal(task(during)->state, PO_TASK_RUNNING);
        assert_string_not_equal(task(during)->worker->id, id);
        HOST(id, .caps = "a:x@1.3.0*2", .incarnation = 2); /* what it ran runs elsewhere, or here */
        assert_int_equal(task(before)->state, PO_TASK_RUNNING);
        assert_int_equal(task(newer)->state, PO_TASK_RUNNING);
        complete(before);
        complete(during);
    }
    expect_on(SUBMIT("a:x", .range = "~1.2"), NULL);
}

/* ---- bounds ---- */

static void test_limit_of_placements(void **state)
{
    (void)state;
    char label[16];
    struct wish x = {.labels = label, .attempts_max = 1};
    w.unchecked = true;
    for (unsigned i = 0; i < PO__CLASSES_MAX; i++) {
        snprintf(label, sizeof label, "k=%u", i);
        submit("a:x", &x);
    }
    world_check(&w);
    snprintf(label, sizeof label, "k=more");
    assert_int_equal(do_wish_task(&w, "a:x", &x), PO_EQUOTA);
    assert_non_null(strstr(w.result.message, "have 4096 different placements"));
    submit("b:y", &x); /* another capability */
    SUBMIT("a:x", 0);  /* without demands there is always room */
    snprintf(label, sizeof label, "k=7");
    submit("a:x", &x); /* one that is known */
    HOST("w1", .caps = "a:x", .labels = "k=9");
    assert_int_equal(do_fail(&w, 10, task(10)->token, "w1", "no", false), 0);
    complete(PO__CLASSES_MAX + 2); /* the one without demands */
    snprintf(label, sizeof label, "k=more");
    submit("a:x", &x); /* k=9 has only a dead letter left, which is not to come back now */
    assert_int_equal(do_retry(&w, 10), PO_EQUOTA);
    assert_int_equal(do_cancel(&w, 1), 0);
    assert_int_equal(do_retry(&w, 10), 0);
    assert_int_equal(do_retry(&w, 1), PO_EQUOTA);
    world_check(&w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_demands),
        TEST(test_resources_are_shared),
        TEST(test_slots_of_a_worker),
        TEST(test_capabilities_take_turns),
        TEST(test_no_head_of_line),
        TEST(test_balance_is_the_default),
        TEST(test_spread),
        TEST(test_binpack),
        TEST(test_local),
        TEST(test_registrations_unblock),
        TEST(test_drain_offline_deregister),
        TEST(test_registered_with_less),
        TEST(test_registered_in_the_older_form),
        TEST(test_versions_roll_over),
        TEST(test_limit_of_placements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
