/* watch.h over a channel that records each request and answers it from a script, or when the test
 * does. */
#include "wait.h"

#include <pipeorch/watch.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "node/channel.h"
#include "node/watch_ring.h"

#define SCRIPT_MAX 8

struct fake {
    struct po__channel base;
    po_client *client;
    struct po__request req; /* the last one; its texts: */
    char worker[32], pipeline[32];
    unsigned calls;
    int refuse;                        /* what call() returns */
    struct po__buf script[SCRIPT_MAX]; /* the answers to come; then they are the test's to give */
    int codes[SCRIPT_MAX];             /* of the channel, instead */
    unsigned script_count, script_at;
    bool calling_back;
    po__call_cb cb; /* of the request that is not answered */
    void *arg;
};

static void give_answer(struct fake *f, po__call_cb cb, void *arg)
{
    const unsigned i = f->script_at++;
    f->calling_back = true;
    if (f->codes[i])
        cb(arg, f->codes[i], NULL, 0);
    else
        cb(arg, 0, f->script[i].data, f->script[i].len);
    f->calling_back = false;
}

static void keep(char *to, size_t to_len, struct po__slice s)
{
    snprintf(to, to_len, "%.*s", (int)s.len, s.len ? s.data : "");
}

static int fake_call(struct po__channel *ch, const void *data, size_t len, uint32_t timeout_ms,
                     po__call_cb cb, void *arg)
{
    struct fake *f = (struct fake *)ch;
    if (f->refuse)
        return f->refuse;
    f->calls++;
    assert_int_equal(po__request_decode(data, len, &f->req), 0);
    assert_int_equal(f->req.type, PO__REQ_WATCH);
    assert_true(f->req.watch.wait_ms < timeout_ms && timeout_ms == f->req.timeout_ms);
    keep(f->worker, sizeof f->worker, f->req.watch.worker);
    keep(f->pipeline, sizeof f->pipeline, f->req.watch.pipeline);
    if (f->script_at < f->script_count) {
        give_answer(f, cb, arg);
    } else {
        assert_null(f->cb); /* one request at a time */
        f->cb = cb;
        f->arg = arg;
    }
    return 0;
}

/* The request that waits is answered with what was scripted since. */
static void answer_now(struct fake *f)
{
    po__call_cb cb = f->cb;
    assert_non_null(cb);
    f->cb = NULL;
    give_answer(f, cb, f->arg);
}

static int fake_on_thread(struct po__channel *ch)
{
    return ((struct fake *)ch)->calling_back;
}

static void fake_close(struct po__channel *ch)
{
    struct fake *f = (struct fake *)ch;
    if (f->cb)
        f->cb(f->arg, PO_ECLOSED, NULL, 0);
    f->cb = NULL;
}

static const struct po__channel_ops ops = {fake_call, fake_on_thread, fake_close};

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof *f);
    f->base.ops = &ops;
    assert_int_equal(po__client_over(&f->client, &f->base), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fake *f = *state;
    po_client_close(f->client);
    for (unsigned i = 0; i < SCRIPT_MAX; i++)
        po__buf_fini(&f->script[i]);
    free(f);
    return 0;
}

/* ---- answers ---- */

static struct po__buf *script(struct fake *f)
{
    assert_true(f->script_count < SCRIPT_MAX);
    return &f->script[f->script_count++];
}

/* `count` events, of tasks first_task.., at index:1, index:2.. */
static void script_events(struct fake *f, bool gone, uint64_t end_index, uint32_t end_position,
                          uint64_t index, uint64_t first_task, uint32_t count)
{
    struct po__buf *b = script(f);
    po__response_begin(b, 0, po__str(""), po__str(""), 77, PO__WATCH_ANSWER_FIELDS);
    po__mpw_bool(b, gone);
    po__mpw_uint(b, end_index);
    po__mpw_uint(b, end_position);
    po__mpw_array(b, count);
    for (uint32_t i = 0; i < count; i++) {
        struct po__watch_event e = {.at = {index, i + 1}, .time_ms = 5};
        e.event = (struct po__news){.kind = PO_WATCH_TASK_GRANTED,
                                    .attempt = 1,
                                    .state = PO_TASK_RUNNING,
                                    .id = first_task + i,
                                    .token = 70,
                                    .worker = po__str("w1"),
                                    .name = po__str("a:x")};
        po__watch_event_encode(b, &e);
    }
}

static void script_error(struct fake *f, int code, const char *message)
{
    po__response_begin(script(f), code, po__str(message), po__str(""), 0, 0);
}

static void script_code(struct fake *f, int code)
{
    f->codes[f->script_count++] = code;
}

/* ---- looks ---- */

static po_watch *open_at(struct fake *f, uint64_t index, uint32_t position)
{
    struct po_watch_opts o = {.size = sizeof o, .after_index = index, .after_position = position};
    po_watch *w = NULL;
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), 0);
    return w;
}

static void expect_asked(const struct fake *f, unsigned calls, uint64_t index, uint32_t position)
{
    assert_int_equal(f->calls, calls);
    assert_int_equal(f->req.watch.after_index, index);
    assert_int_equal(f->req.watch.after_position, position);
}

static void expect_position(po_watch *w, uint64_t index, uint32_t position)
{
    uint64_t i;
    uint32_t p;
    po_watch_position(w, &i, &p);
    assert_int_equal(i, index);
    assert_int_equal(p, position);
}

static void expect_task(po_watch *w, uint64_t task)
{
    struct po_watch_event e = {.size = sizeof e};
    assert_int_equal(po_watch_next(w, 5000, &e), 0);
    assert_int_equal(e.task_id, task);
}

static int next_code(po_watch *w, uint32_t timeout_ms)
{
    struct po_watch_event e = {.size = sizeof e};
    return po_watch_next(w, timeout_ms, &e);
}

/* ---- tests ---- */

static void from_now_on_is_settled_by_opening(void **state)
{
    struct fake *f = *state;
    po_watch *w = NULL;
    script_events(f, false, 10, 2, 0, 0, 0);
    assert_int_equal(po_watch_open(&w, f->client, NULL, NULL), 0);
    expect_asked(f, 1, 0, 0);
    expect_position(w, 10, 2);
    assert_int_equal(next_code(w, 0), PO_ETIMEDOUT);
    expect_asked(f, 2, 10, 2);
    po_watch_close(w); /* while it is asked: the answer is the end of it */

    script_code(f, PO_EUNREACHABLE);
    script_code(f, PO_EFAULT);
    f->script_at = 1;
    f->cb(f->arg, PO_ETIMEDOUT, NULL, 0);
    f->cb = NULL;
    assert_int_equal(po_watch_open(&w, f->client, NULL, NULL), PO_EFAULT);
    struct po_call_opts soon = {.size = sizeof soon, .timeout_ms = 1};
    assert_int_equal(po_watch_open(&w, f->client, NULL, &soon), PO_ETIMEDOUT);
}

static void events_come_in_order_and_once(void **state)
{
    struct fake *f = *state;
    struct po_watch_opts o = {.size = sizeof o,
                              .after_index = 3,
                              .kinds = PO_WATCH_TASKS,
                              .task_id = 4,
                              .run_id = 5,
                              .worker_id = "w1",
                              .pipeline = "energy"};
    struct po_watch_event e = {.size = sizeof e};
    po_watch *w = NULL;
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), 0);
    assert_int_equal(f->calls, 0);
    script_events(f, false, 12, 0, 10, 21, 2);
    assert_int_equal(po_watch_next(w, 1000, &e), 0);
    expect_asked(f, 1, 3, 0);
    assert_int_equal(f->req.watch.kinds, PO_WATCH_TASKS);
    assert_int_equal(f->req.watch.task_id, 4);
    assert_int_equal(f->req.watch.run_id, 5);
    assert_string_equal(f->worker, "w1");
    assert_string_equal(f->pipeline, "energy");
    assert_int_equal(e.kind, PO_WATCH_TASK_GRANTED);
    assert_int_equal(e.index, 10);
    assert_int_equal(e.position, 1);
    assert_int_equal(e.time_ms, 5);
    assert_int_equal(e.task_id, 21);
    assert_int_equal(e.token, 70);
    assert_int_equal(e.state, PO_TASK_RUNNING);
    assert_string_equal(e.worker_id, "w1");
    assert_string_equal(e.capability, "a:x");
    assert_string_equal(e.pipeline, "");
    assert_string_equal(e.error, "");
    expect_position(w, 10, 1);
    expect_task(w, 22);
    assert_int_equal(f->calls, 1);
    expect_position(w, 12, 0); /* the node looked further */

    assert_int_equal(next_code(w, 1), PO_ETIMEDOUT);
    assert_int_equal(next_code(w, 1), PO_ETIMEDOUT); /* it is asked already */
    expect_asked(f, 2, 12, 0);
    script_events(f, false, 20, 0, 0, 0, 0);
    answer_now(f); /* nothing yet, and looked further */
    expect_position(w, 20, 0);
    script_events(f, false, 21, 0, 20, 23, 1);
    expect_task(w, 23);
    expect_asked(f, 3, 20, 0);

    /* a caller of an older version, whose struct ends earlier */
    struct po_watch_event old = {.size = offsetof(struct po_watch_event, task_id)};
    script_events(f, false, 23, 0, 22, 24, 1);
    assert_int_equal(po_watch_next(w, 1000, &old), 0);
    assert_int_equal(old.index, 22);
    assert_int_equal(old.task_id, 0);
    assert_int_equal(old.size, offsetof(struct po_watch_event, task_id));
    po_watch_close(w);
}

static void history_that_is_gone_is_an_event(void **state)
{
    struct fake *f = *state;
    struct po_watch_event e = {.size = sizeof e};
    po_watch *w = open_at(f, 3, 1);
    script_events(f, true, 50, 3, 0, 0, 0);
    script_events(f, false, 52, 0, 51, 9, 1);
    assert_int_equal(po_watch_next(w, 1000, &e), 0);
    assert_int_equal(e.kind, PO_WATCH_GONE);
    assert_int_equal(e.index, 50);
    assert_int_equal(e.position, 3);
    expect_task(w, 9);
    expect_asked(f, 2, 50, 3);
    po_watch_close(w);
}

static void lost_leaders_are_waited_out(void **state)
{
    struct fake *f = *state;
    po_watch *w = open_at(f, PO_WATCH_OLDEST, 0);
    script_error(f, PO_ENOLEADER, "no leader is known");
    script_code(f, PO_ETIMEDOUT);
    script_code(f, PO_EUNREACHABLE);
    script_events(f, false, 12, 0, 10, 1, 2);
    expect_task(w, 1);
    expect_asked(f, 4, PO_WATCH_OLDEST, 0);
    expect_task(w, 2);
    script_code(f, PO_EUNREACHABLE); /* for as long as the caller waits */
    assert_int_equal(next_code(w, 1), PO_EUNREACHABLE);
    expect_position(w, 12, 0);
    script_events(f, false, 14, 0, 13, 3, 1);
    answer_now(f);
    expect_task(w, 3);
    po_watch_close(w);
}

static void other_errors_are_the_callers(void **state)
{
    struct fake *f = *state;
    po_watch *w = open_at(f, 3, 0);
    script_error(f, PO_EBUSY, "as many as allowed");
    assert_int_equal(next_code(w, 1000), PO_EBUSY);
    assert_string_equal(po_client_error(), "as many as allowed");
    f->refuse = PO_ECLOSED;
    assert_int_equal(next_code(w, 1000), PO_ECLOSED);
    f->refuse = 0;
    struct po__buf *b = script(f); /* no answer to a watch */
    po__response_begin(b, 0, po__str(""), po__str(""), 1, 0);
    assert_int_equal(next_code(w, 1000), PO_EPROTO);
    script_events(f, false, 12, 0, 10, 1, 2);
    f->script[2].data[f->script[2].len - 1] = 0xc1; /* the second event is broken */
    f->script[2].len--;
    po__mpw_nil(&f->script[2]);
    script_events(f, false, 12, 0, 10, 1, 2);
    expect_task(w, 1);
    assert_int_equal(next_code(w, 1000), PO_EPROTO);
    expect_asked(f, 3, 3, 0);
    script_events(f, false, 12, 0, 11, 2, 1);
    f->script_at = 4;
    expect_task(w, 2); /* asked for again, behind the last good one */
    expect_asked(f, 4, 10, 1);
    po_watch_close(w);
}

static void wrong_arguments_are_explained(void **state)
{
    struct fake *f = *state;
    struct po_watch_opts o = {.size = sizeof o, .after_index = 1, .kinds = UINT64_C(1) << 63};
    struct po_watch_event e = {.size = 0};
    po_watch *w = NULL;
    char *json;
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "kinds"));
    o.kinds = 0, o.worker_id = "no name";
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "\"no name\""));
    o.worker_id = NULL, o.after_index = 0, o.after_position = 3;
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), PO_EINVAL);
    o.size = 1;
    assert_int_equal(po_watch_open(&w, f->client, &o, NULL), PO_EINVAL);
    assert_int_equal(po_watch_open(NULL, f->client, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_watch_open(&w, NULL, NULL, NULL), PO_EINVAL);
    f->calling_back = true;
    assert_int_equal(po_watch_open(&w, f->client, NULL, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "callback"));
    assert_null(w);
    w = open_at(f, 1, 0); /* asks nobody */
    assert_int_equal(next_code(w, 0), PO_EINVAL);
    f->calling_back = false;
    assert_int_equal(po_watch_next(w, 0, &e), PO_EINVAL);
    assert_int_equal(next_code(w, PO_TIMEOUT_MAX_MS + 1), PO_EINVAL);
    assert_int_equal(po_watch_next(NULL, 0, &e), PO_EINVAL);
    assert_int_equal(po_watch_start(w, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_watch_event_json(NULL, &json), PO_EINVAL);
    assert_int_equal(f->calls, 0);
    po_watch_close(w);
    po_watch_close(NULL);
}

/* ---- callbacks ---- */

struct got {
    po_watch *w;
    unsigned count;
    uint64_t tasks[8];
    int codes[8];
    uint64_t close_at; /* task */
    bool go_on;        /* after an error */
};

static void on_event(void *arg, int code, const struct po_watch_event *e)
{
    struct got *g = arg;
    assert_true((code == 0) == (e != NULL));
    g->codes[g->count] = code;
    g->tasks[g->count++] = e ? e->task_id : 0;
    if (e && e->task_id == g->close_at)
        po_watch_close(g->w);
    if (code && g->go_on)
        assert_int_equal(po_watch_start(g->w, on_event, g), 0);
}

static void a_callback_gets_what_next_left(void **state)
{
    struct fake *f = *state;
    struct got g = {.w = open_at(f, 3, 0), .close_at = 24};
    script_events(f, false, 12, 0, 10, 21, 3);
    expect_task(g.w, 21);
    script_events(f, false, 12, 0, 11, 22, 1);
    script_error(f, PO_ENOLEADER, ""); /* waited out */
    script_events(f, false, 14, 0, 13, 23, 2);
    assert_int_equal(po_watch_start(g.w, on_event, &g), 0);
    assert_int_equal(g.count, 3); /* and closed by itself */
    assert_int_equal(g.tasks[0], 22);
    assert_int_equal(g.tasks[1], 23);
    assert_int_equal(g.tasks[2], 24);
    expect_asked(f, 4, 12, 0);
    assert_null(f->cb);
}

static void an_error_stops_until_it_is_started_again(void **state)
{
    struct fake *f = *state;
    struct got g = {.w = open_at(f, 3, 0), .go_on = true};
    f->refuse = PO_EBUSY;
    assert_int_equal(po_watch_start(g.w, on_event, &g), PO_EBUSY);
    assert_int_equal(g.count, 0);
    f->refuse = 0;
    script_error(f, PO_EBUSY, "");
    script_events(f, false, 12, 0, 10, 21, 1);
    assert_int_equal(po_watch_start(g.w, on_event, &g), 0);
    assert_int_equal(g.count, 2);
    assert_int_equal(g.codes[0], PO_EBUSY);
    assert_int_equal(g.tasks[1], 21);
    assert_int_equal(po_watch_start(g.w, on_event, &g), PO_ESTATE);
    assert_int_equal(next_code(g.w, 0), PO_ESTATE);
    g.go_on = false;
    script_code(f, PO_ECLOSED);
    answer_now(f);
    assert_int_equal(g.count, 3);
    assert_int_equal(g.codes[2], PO_ECLOSED);
    assert_int_equal(f->calls, 3);
    script_events(f, false, 14, 0, 13, 22, 1);
    expect_task(g.w, 22); /* stopped: events are asked for again */
    expect_asked(f, 4, 12, 0);
    po_watch_close(g.w);
}

struct slow {
    sem_t entered, release;
    atomic_int done;
};

static void slow_event(void *arg, int code, const struct po_watch_event *e)
{
    struct slow *s = arg;
    assert_true(code == 0 && e->task_id == 1);
    sem_post(&s->entered);
    sem_wait(&s->release);
    atomic_store(&s->done, 1);
}

static void *answer_thread(void *f)
{
    answer_now(f);
    return NULL;
}

static void *release_thread(void *arg)
{
    struct slow *s = arg;
    sem_wait(&s->entered);
    wait_pause(); /* the other thread is likely to be in po_watch_close by now; right either way */
    sem_post(&s->release);
    return NULL;
}

static void closing_waits_for_the_callback(void **state)
{
    struct fake *f = *state;
    struct slow s = {.done = 0};
    pthread_t answering, releasing;
    po_watch *w = open_at(f, 3, 0);
    sem_init(&s.entered, 0, 0);
    sem_init(&s.release, 0, 0);
    assert_int_equal(po_watch_start(w, slow_event, &s), 0);
    script_events(f, false, 12, 0, 10, 1, 2);
    assert_int_equal(pthread_create(&answering, NULL, answer_thread, f), 0);
    sem_wait(&s.entered);
    sem_post(&s.entered);
    assert_int_equal(pthread_create(&releasing, NULL, release_thread, &s), 0);
    po_watch_close(w);
    assert_int_equal(atomic_load(&s.done), 1); /* and the second event is not told */
    pthread_join(answering, NULL);
    pthread_join(releasing, NULL);
    sem_destroy(&s.entered);
    sem_destroy(&s.release);
}

/* ---- JSON, and no memory ---- */

static void expect_json(const struct po_watch_event *e, const char *expected)
{
    char *json = NULL;
    assert_int_equal(po_watch_event_json(e, &json), 0);
    assert_string_equal(json, expected);
    po_free(json);
}

static void events_as_json(void **state)
{
    (void)state;
    struct po_watch_event e = {.size = sizeof e,
                               .kind = PO_WATCH_TASK_FINISHED,
                               .index = 17,
                               .position = 3,
                               .time_ms = 5000,
                               .task_id = 12,
                               .attempt = 2,
                               .token = 9,
                               .state = PO_TASK_FAILED,
                               .worker_id = "w1",
                               .capability = "a:x",
                               .pipeline = "",
                               .error = "say \"no\"\n"};
    expect_json(&e, "{\"index\": 17, \"position\": 3, \"time_ms\": 5000, \"event\": "
                    "\"task_finished\", \"task_id\": 12, \"capability\": \"a:x\", \"state\": "
                    "\"failed\", \"attempt\": 2, \"token\": 9, \"worker_id\": \"w1\", \"error\": "
                    "\"say \\\"no\\\"\\u000a\"}");
    struct po_watch_event leader = {.size = sizeof leader,
                                    .kind = PO_WATCH_LEADER,
                                    .index = 1,
                                    .position = 1,
                                    .node_id = 2,
                                    .term = 3,
                                    .name = "cp1"};
    expect_json(&leader, "{\"index\": 1, \"position\": 1, \"event\": \"leader\", \"node_id\": 2, "
                         "\"name\": \"cp1\", \"term\": 3}");
    struct po_watch_event worker = {
        .size = sizeof worker, .kind = PO_WATCH_WORKER_STATUS, .state = PO_WORKER_DRAINING};
    expect_json(&worker, "{\"index\": 0, \"position\": 0, \"event\": \"worker_status\", \"state\": "
                         "\"draining\"}");
    struct po_watch_event newer = {.size = sizeof newer, .kind = 60, .state = 9};
    expect_json(&newer, "{\"index\": 0, \"position\": 0, \"event\": \"kind_60\"}");
}

/* Whichever allocation fails: PO_ENOMEM, and nothing is lost. */
static void every_allocation_may_fail(void **state)
{
    struct fake *f = *state;
    struct po_watch_event e = {.size = sizeof e};
    script_events(f, false, 12, 0, 10, 1, 1);
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        struct po_watch_opts o = {.size = sizeof o, .after_index = 3};
        po_watch *w = NULL;
        char *json = NULL;
        f->script_at = 0;
        po__alloc_fail_at(n);
        int rv = po_watch_open(&w, f->client, &o, NULL);
        rv = rv ? rv : po_watch_next(w, 1000, &e);
        rv = rv ? rv : po_watch_event_json(&e, &json);
        po__alloc_fail_at(0);
        if (rv) {
            assert_int_equal(rv, PO_ENOMEM);
            failures++;
        }
        if (w && rv) { /* with memory, the event is there */
            f->script_at = 0;
            assert_true(next_code(w, 1000) == 0 || e.task_id == 1);
        }
        po_free(json);
        po_watch_close(w);
        if (f->cb)
            f->cb(f->arg, PO_ETIMEDOUT, NULL, 0);
        f->cb = NULL;
        if (rv == 0)
            break;
    }
    assert_true(failures >= 4); /* the watch, the request, the answer, the text */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(from_now_on_is_settled_by_opening), TEST(events_come_in_order_and_once),
        TEST(history_that_is_gone_is_an_event),  TEST(lost_leaders_are_waited_out),
        TEST(other_errors_are_the_callers),      TEST(wrong_arguments_are_explained),
        TEST(a_callback_gets_what_next_left),    TEST(an_error_stops_until_it_is_started_again),
        TEST(closing_waits_for_the_callback),    TEST(events_as_json),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
