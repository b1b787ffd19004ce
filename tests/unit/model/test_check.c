/* The whole-state check itself: every number that it relies on is falsified once, and it must say
 * so. And the bound on workers, which needs as many of them. */
#include "sched.h"

#include "model/impl.h"

static struct world w;

static int setup(void **state)
{
    static const char *const caps[] = {"a:x", "b:y"};
    (void)state;
    world_open(&w, NULL);
    do_register(&w, "w1", 1, "aws", "a:x b:y", 3);
    do_register(&w, "w2", 1, "gcp", "a:x", 1);
    do_submit(&w, "k", "a:x", "1", "", 0, 0);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    do_submit(&w, "", "a:x", "1", "", 0, 0);
    do_complete(&w, 1, po__model_task(w.m, 1)->token, po__model_task(w.m, 1)->worker->id, "1");
    do_submit(&w, "", "none:here", "1", "", 0, 0);
    do_define(&w, "p", caps, 2, "");
    do_run(&w, "r", "p", "1", "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close(&w);
    return 0;
}

static void expect_broken(const char *what)
{
    char message[300] = "";
    if (po__model_check(w.m, message, sizeof message) != -1)
        fail_msg("%s was falsified and the check saw nothing", what);
    if (strlen(message) < 10)
        fail_msg("%s: \"%s\" is not a sentence", what, message);
}

#define FALSIFY(lvalue, wrong)                                                                     \
    do {                                                                                           \
        __typeof__(lvalue) was = (lvalue);                                                         \
        (lvalue) = (wrong);                                                                        \
        expect_broken(#lvalue);                                                                    \
        (lvalue) = was;                                                                            \
        world_check(&w);                                                                           \
    } while (0)

static void test_schedules(void **state)
{
    (void)state;
    do_schedule(&w, "t", "@daily", PO_OVERLAP_ALLOW, 0, false);
    do_schedule(&w, "s", "* * * * *", PO_OVERLAP_ALLOW, 0, false);
    w.now_ms += 1000;
    do_fire(&w, "s", w.result.id, w.now_ms, 0);
    struct po__schedule *s = (struct po__schedule *)po__model_schedule(w.m, po__str("s"));
    FALSIFY(s->generation, w.m->last_token + 1);
    FALSIFY(s->generation, 0);
    FALSIFY(s->since_ms, w.now_ms + 1);
    FALSIFY(s->last_fire_ms, w.now_ms + 1);
    FALSIFY(s->last_fire_ms, 0);
    FALSIFY(s->fired, 0);
    FALSIFY(s->error_ms, 1);
    FALSIFY(s->error, po__str("it did not"));
    FALSIFY(s->runs_count, 2);
    FALSIFY(s->runs_count, PO__SCHEDULE_RUNS_KEPT + 1);
    FALSIFY(s->runs[0].run_id, w.m->next_run);
    FALSIFY(s->runs[0].run_id, 0);
    FALSIFY(s->runs[0].fire_ms, s->last_fire_ms + 1);
    FALSIFY(s->name, po__str("t"));
    FALSIFY(w.m->schedules.count, 3);
}

static void test_tasks(void **state)
{
    (void)state;
    struct po__task *done = po__task_find(w.m, 1), *running = po__task_find(w.m, 2),
                    *pending = po__task_find(w.m, 4);
    FALSIFY(done->state, PO_TASK_FAILED);
    FALSIFY(done->outcome, PO__OUTCOME_NONE);
    FALSIFY(done->result.len, done->result.len + 1);
    FALSIFY(done->deadline_ms, w.now_ms + 1);
    FALSIFY(running->state, PO_TASK_SCHEDULED);
    FALSIFY(running->worker, NULL);
    FALSIFY(running->token, w.m->last_token + 1);
    FALSIFY(running->attempt, 0);
    FALSIFY(running->attempts_max, 0);
    FALSIFY(running->timeout_ms, 1);
    FALSIFY(running->lost, 5);
    FALSIFY(running->created_ms, w.now_ms + 1);
    FALSIFY(running->run_id, 1);
    FALSIFY(running->deadline_ms, UINT64_MAX);
    FALSIFY(pending->state, 0);
    FALSIFY(pending->origin, done->origin);
    FALSIFY(w.m->unfinished_bytes, 0);
    FALSIFY(w.m->finished_bytes, 0);
    FALSIFY(w.m->tasks_count[PO_TASK_PENDING], 0);
    FALSIFY(w.m->task_keys.count, 0);
    FALSIFY(w.m->next_task, 2);
    FALSIFY(w.m->due.count, 1);
    FALSIFY(w.m->finished.count, 0);
}

static void test_workers(void **state)
{
    (void)state;
    struct po__worker *x = (struct po__worker *)po__model_worker(w.m, po__str("w1"));
    struct po__offer *o = &x->offers[0];
    FALSIFY(x->running, 0);
    FALSIFY(x->number, 77);
    FALSIFY(x->status, PO_WORKER_OFFLINE);
    FALSIFY(x->incarnation, 0);
    FALSIFY(x->last_token, 0);
    FALSIFY(x->last_token, UINT64_MAX);
    FALSIFY(x->bytes, 0);
    FALSIFY(o->running, 3);
    FALSIFY(o->slots, 0);
    FALSIFY(o->group->offers_count, 9);
    FALSIFY(o->cap->refs, 1);
    FALSIFY(o->cap->offers.count, 9);
    FALSIFY(o->cap->free.count, 9);
    FALSIFY(w.m->workers_online, 0);
    FALSIFY(w.m->workers_bytes, 0);
    FALSIFY(w.m->last_token, 1);
}

static void test_runs(void **state)
{
    (void)state;
    struct po__run *r = po__run_find(w.m, 1);
    FALSIFY(r->state, PO_RUN_FAILED);
    FALSIFY(r->started_count, 0);
    FALSIFY(r->started_count, 3);
    FALSIFY(r->steps[0].task_id, 1);
    FALSIFY(r->steps[0].finished_ms, 1);
    FALSIFY(r->steps[0].state, PO_TASK_FAILED);
    FALSIFY(r->def->refs, 1);
    FALSIFY(r->def->number, 9);
    FALSIFY(w.m->runs_active, 0);
    FALSIFY(w.m->next_run, 1);
    FALSIFY(w.m->err, PO_ENOMEM);
}

static void test_pending_beside_free_slots(void **state)
{
    (void)state;
    struct po__capability *none = po__cap_find(w.m, po__str("none:here"));
    struct po__capability *free = po__cap_find(w.m, po__str("b:y"));
    FALSIFY(none->free, free->free);
}

/* Classes, lanes and gates: a task runs and one waits for each of two keys, two wait for room. */
static void test_queues(void **state)
{
    (void)state;
    const struct wish one = {.gate = "db", .gate_max = 1, .deadline_ms = w.now_ms + 1000};
    const struct wish rate = {.gate = "api", .rate_max = 1, .rate_ms = 1000};
    do_host(&w, &(struct host){.id = "w3", .caps = "q:q*2 r:r*9", .resources = "gpus=2"});
    do_wish_task(&w, "q:q", &(struct wish){.resources = "gpus=2"});
    do_wish_task(&w, "q:q", &(struct wish){.resources = "gpus=1"});
    do_wish_task(&w, "q:q", &(struct wish){.resources = "gpus=1"});
    do_wish_task(&w, "r:r", &one);
    do_wish_task(&w, "r:r", &one);
    do_wish_task(&w, "r:r", &rate);
    do_wish_task(&w, "r:r", &rate);
    do_wish_task(&w, "r:r", NULL);
    struct po__task *last = po__task_find(w.m, w.result.id),
                    *head = po__task_find(w.m, last->id - 6);
    do_fail(&w, last->id, last->token, "w3", "no", false); /* a dead letter */
    struct po__task *behind = po__task_find(w.m, head->id + 1);
    struct po__task *gated = po__task_find(w.m, head->id + 3);
    struct po__lane *lane = head->lane, *shut = gated->lane;
    struct po__class *cls = lane->cls;
    struct po__gate *db = po__gate_find(w.m, po__str("db")),
                    *api = po__gate_find(w.m, po__str("api"));
    struct po__worker *x = (struct po__worker *)po__model_worker(w.m, po__str("w3"));
    FALSIFY(head->rank_ms, behind->rank_ms + 1);
    FALSIFY(head->lane, shut);
    FALSIFY(lane->cls, shut->cls);
    FALSIFY(lane->refs, 1);
    FALSIFY(lane->head.id, 1);
    FALSIFY(cls->head.id, 1);
    FALSIFY(cls->blocked, false);
    FALSIFY(cls->cap, shut->cls->cap);
    FALSIFY(cls->unfinished_count, 9);
    FALSIFY(cls->ready.count, 0);
    FALSIFY(cls->cap->pending_count, 0);
    FALSIFY(cls->cap->classes_active, 0);
    FALSIFY(cls->cap->blocked.count, 0);
    FALSIFY(cls->cap->waiting.count, 1);
    FALSIFY(x->stocks[0].used, 1);
    FALSIFY(x->slots, 1);
    FALSIFY(w.m->workers_sharing, 0);
    FALSIFY(db->open, true);
    FALSIFY(db->running, 2);
    FALSIFY(db->refs, 0);
    FALSIFY(db->max, 9); /* shut for no reason */
    FALSIFY(db->number, 0);
    FALSIFY(api->due_ms, 0);
    FALSIFY(api->open, true);
    FALSIFY(api->full_us, api->full_us + 1);
    FALSIFY(w.m->gates.count, 1);
    FALSIFY(w.m->timers.count, 1);
    FALSIFY(w.m->dead_bytes, 9);
    FALSIFY(w.m->dead.count, 0);
    FALSIFY(last->modern, false);
}

/* Without making two million tasks: the counters say that they are there. */
static void test_tasks_are_bounded(void **state)
{
    (void)state;
    const struct po__task *t = po__task_find(w.m, 2);
    w.unchecked = true;
    assert_int_equal(do_wish_task(&w, "c:z", NULL), 0);
    uint64_t dead = w.result.id;
    do_cancel(&w, dead);
    uint64_t bytes = w.m->unfinished_bytes, pending = w.m->tasks_count[PO_TASK_PENDING];
    w.m->unfinished_bytes = PO__TASKS_MAX_BYTES;
    assert_int_equal(do_submit(&w, "", "c:z", "1", "", 0, 0), PO_EQUOTA);
    assert_int_equal(do_wish_task(&w, "c:z", NULL), PO_EQUOTA);
    assert_int_equal(do_retry(&w, dead), PO_EQUOTA);
    assert_int_equal(do_checkpoint(&w, 2, t->token, t->worker->id, 5, "data", 100), PO_EQUOTA);
    assert_true(!t->more); /* nothing of it was taken */
    assert_int_equal(do_checkpoint(&w, 2, t->token, t->worker->id, 5, NULL, 100), 0);
    w.m->unfinished_bytes = bytes;
    w.m->tasks_count[PO_TASK_PENDING] = PO__TASKS_UNFINISHED_MAX;
    assert_int_equal(do_wish_task(&w, "c:z", NULL), PO_EQUOTA);
    assert_int_equal(do_retry(&w, dead), PO_EQUOTA);
    w.m->tasks_count[PO_TASK_PENDING] = pending;
    assert_int_equal(do_retry(&w, dead), 0);
    world_check(&w);
}

static void test_workers_are_bounded(void **state)
{
    (void)state;
    char id[16];
    w.unchecked = true;
    for (uint32_t i = 2; i < PO__WORKERS_MAX; i++) {
        snprintf(id, sizeof id, "x%u", i);
        assert_int_equal(do_register(&w, id, 1, "aws", "a:x", 1), 0);
    }
    assert_int_equal(do_register(&w, "one-more", 1, "aws", "a:x", 1), PO_EQUOTA);
    assert_int_equal(do_register(&w, "w1", 2, "aws", "a:x", 1), 0); /* a known one may come again */
    assert_int_equal(do_deregister(&w, "w2", 0), 0);
    assert_int_equal(do_register(&w, "one-more", 1, "aws", "a:x", 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_schedules),
        TEST(test_tasks),
        TEST(test_workers),
        TEST(test_runs),
        TEST(test_pending_beside_free_slots),
        TEST(test_workers_are_bounded),
        TEST(test_queues),
        TEST(test_tasks_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
