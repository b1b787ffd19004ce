/* A worker against a fake cluster that speaks the whole conversation: registration, sessions,
 * numbered tasks, verdicts, revocations; and that loses answers, sessions and registrations when a
 * test says so. */
#include "host.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pipeorch/client.h>
#include <pipeorch/worker.h>
#include "api/worker_internal.h"

#define TASKS_MAX 4096

enum { T_NONE, T_PENDING, T_OFFERED, T_OVER, T_REVOKED };

struct cluster {
    struct host host;
    pthread_mutex_t lock;
    bool registered, session, stale;
    uint64_t incarnation;
    unsigned registrations, resyncs, deregistrations, draining, polls;
    bool deaf; /* registrations get no answer */
    struct po__endpoint_call *unheard;
    unsigned beats;                 /* heartbeats answered */
    struct po__worker_load load;    /* of the last poll or heartbeat */
    unsigned lose;                  /* so many of the next answers to polls are lost on the way */
    unsigned undecided;             /* so many of the next verdicts are PO_EUNKNOWN */
    unsigned offers_of[TASKS_MAX];  /* how often a task was handed out */
    unsigned results_of[TASKS_MAX]; /* verdicts 0 given, repeats included */
    int state[TASKS_MAX];           /* of task i; its id is i + 1, its token i + 101 */
    uint64_t seq_of[TASKS_MAX], next_seq;
    bool revoke[TASKS_MAX];
    unsigned tasks, failures, extensions, largest_batch;
    bool old;                         /* knows no checkpoints */
    unsigned checkpoints, left_first; /* those before the failure of their attempt */
    uint64_t last_flag;
    char last_error[256], last_result[256];
    struct po__endpoint_call *parked;
};

/* ---- the cluster ---- */

static void respond(struct cluster *c, struct po__endpoint_call *call, int code,
                    const char *message)
{
    struct po__buf b = {0};
    po__response_begin(&b, code, po__str(message), po__str(""), 5, 2);
    po__mpw_uint(&b, 0);
    po__mpw_bin(&b, po__slice("", 0));
    host_answer(&c->host, call, b.data, b.len);
    po__buf_fini(&b);
}

static int decide(struct cluster *c, const struct po__done *d)
{
    uint64_t i = d->task_id - 1;
    if (c->undecided) {
        c->undecided--;
        return PO_EUNKNOWN;
    }
    if (i >= c->tasks || d->token != i + 101 || c->state[i] == T_REVOKED)
        return PO_ESTALE;
    if (d->kind == PO__DONE_EXTEND) {
        c->extensions++;
        c->last_flag = d->flag;
        return 0;
    }
    if (d->kind == PO__DONE_CHECKPOINT) {
        c->checkpoints++;
        c->left_first += c->state[i] == T_OFFERED;
        return 0;
    }
    c->results_of[i]++;
    if (c->state[i] == T_OVER)
        return 0; /* a repeat */
    c->state[i] = T_OVER;
    c->failures += d->kind == PO__DONE_FAIL;
    c->last_flag = d->flag;
    snprintf(d->kind == PO__DONE_FAIL ? c->last_error : c->last_result, sizeof c->last_error,
             "%.*s", (int)d->payload.len, d->payload.data);
    return 0;
}

static void take_held(struct cluster *c, const struct po__request *req)
{
    struct po__mpr r;
    for (unsigned i = 0; i < c->tasks; i++)
        if (c->state[i] == T_OFFERED)
            c->state[i] = T_PENDING; /* unless it is held */
    po__mpr_init(&r, req->poll.held.data, req->poll.held.len);
    for (uint32_t n = po__mpr_array(&r, PO__POLL_HELD_MAX); n; n--) {
        uint64_t i = po__mpr_uint(&r, UINT64_MAX) - 101;
        assert_true(i < c->tasks);
        if (c->state[i] == T_PENDING) {
            c->state[i] = T_OFFERED;
            c->seq_of[i] = 0;
        } else {
            c->revoke[i] = true;
        }
    }
    c->session = true;
    c->next_seq = 1;
    c->resyncs++;
}

static void answer_poll(struct cluster *c, struct po__endpoint_call *call,
                        const struct po__request *req, const struct po__buf *verdicts,
                        uint32_t verdicts_count)
{
    struct po__buf b = {0}, tasks = {0}, revoked = {0};
    uint32_t tasks_count = 0, revoked_count = 0;
    for (unsigned i = 0; i < c->tasks && tasks_count < req->poll.tasks_max; i++) {
        bool again = c->state[i] == T_OFFERED && c->seq_of[i] > req->poll.ack_seq;
        if (c->state[i] != T_PENDING && !again)
            continue;
        if (!again)
            c->seq_of[i] = c->next_seq++;
        c->state[i] = T_OFFERED;
        c->offers_of[i]++;
        struct po__task_offer t = {.seq = c->seq_of[i],
                                   .task_id = i + 1,
                                   .token = i + 101,
                                   .attempt = 1,
                                   .timeout_ms = 60000,
                                   .capability = po__str("do:it"),
                                   .input = po__str("{\"n\":1}")};
        po__task_offer_encode(&tasks, &t);
        tasks_count++;
    }
    for (unsigned i = 0; i < c->tasks; i++)
        if (c->revoke[i]) {
            c->revoke[i] = false;
            po__mpw_uint(&revoked, i + 101);
            revoked_count++;
        }
    po__response_begin(&b, 0, po__str(""), po__str(""), 5, 3);
    po__mpw_array(&b, verdicts_count);
    po__mpw_raw(&b, po__buf_slice(verdicts));
    po__mpw_array(&b, tasks_count);
    po__mpw_raw(&b, po__buf_slice(&tasks));
    po__mpw_array(&b, revoked_count);
    po__mpw_raw(&b, po__buf_slice(&revoked));
    host_answer(&c->host, call, b.data, b.len);
    po__buf_fini(&b);
    po__buf_fini(&tasks);
    po__buf_fini(&revoked);
}

static bool has_news(const struct cluster *c)
{
    for (unsigned i = 0; i < c->tasks; i++)
        if (c->state[i] == T_PENDING || c->revoke[i])
            return true;
    return false;
}

static void replace_parked(struct cluster *c, struct po__endpoint_call *call)
{
    static const struct po__buf none;
    static const struct po__request nothing = {.type = PO__REQ_POLL}; /* tasks_max 0 */
    if (c->parked)
        answer_poll(c, c->parked, &nothing, &none, 0);
    c->parked = call;
}

static void on_poll(struct cluster *c, struct po__endpoint_call *call,
                    const struct po__request *req)
{
    struct po__buf verdicts = {0};
    struct po__mpr r;
    c->polls++;
    if (c->stale || req->poll.incarnation != c->incarnation) {
        respond(c, call, PO_ESTALE, "taken over");
        return;
    }
    if (!c->registered) {
        respond(c, call, PO_ENOTREGISTERED, "who are you");
        return;
    }
    if (!c->session && !req->poll.resync) {
        respond(c, call, PO_ESTATE, "no session");
        return;
    }
    if (req->poll.resync)
        take_held(c, req);
    po__mpr_init(&r, req->poll.done.data, req->poll.done.len);
    uint32_t count = po__mpr_array(&r, PO__POLL_TASKS_MAX);
    if (count > c->largest_batch)
        c->largest_batch = count;
    bool unread = false;
    for (uint32_t i = 0; i < count; i++) {
        struct po__done d;
        assert_int_equal(po__done_decode(&r, &d), 0);
        unread = unread || (c->old && d.kind == PO__DONE_CHECKPOINT);
        po__mpw_int(&verdicts, unread ? PO_EPROTO : decide(c, &d));
    }
    if (c->lose) { /* all of it happened, but the answer is lost with its connection's patience */
        c->lose--;
        respond(c, call, PO_EUNKNOWN, "lost");
    } else if (!count && !has_news(c) && req->poll.wait_ms) {
        replace_parked(c, call);
    } else {
        replace_parked(c, NULL);
        answer_poll(c, call, req, &verdicts, count);
    }
    po__buf_fini(&verdicts);
}

static void on_command(struct cluster *c, struct po__endpoint_call *call, struct po__slice body)
{
    struct po__mpr r;
    struct po__cmd cmd;
    int code = 0;
    po__mpr_init(&r, body.data, body.len);
    assert_int_equal(po__cmd_decode(&r, &cmd, false), 0);
    if (cmd.type == PO__CMD_WORKER_REGISTER) {
        c->registrations++;
        if (c->deaf) {
            c->unheard = call;
            c->incarnation = cmd.worker_register.incarnation;
            return;
        }
        code = c->stale ? PO_ESTALE : 0;
        c->registered = !code;
        c->session = false;
        c->incarnation = cmd.worker_register.incarnation;
        assert_true(po__slice_eq(cmd.worker_register.id, po__str("w1")));
        assert_int_equal(cmd.worker_register.caps_count, 1);
    } else if (cmd.type == PO__CMD_WORKER_STATUS) {
        c->draining += cmd.worker_status.status == PO_WORKER_DRAINING;
    } else {
        assert_int_equal(cmd.type, PO__CMD_WORKER_DEREGISTER);
        c->deregistrations++;
        c->registered = false;
    }
    respond(c, call, code, code ? "refused" : "");
}

static void on_request(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                       size_t len)
{
    struct cluster *c = arg;
    struct po__request req;
    (void)conn;
    assert_int_equal(po__request_decode(data, len, &req), 0);
    pthread_mutex_lock(&c->lock);
    if (req.poll.has_load && req.type != PO__REQ_COMMAND)
        c->load = req.poll.load;
    if (req.type == PO__REQ_POLL) {
        on_poll(c, call, &req);
    } else if (req.type == PO__REQ_HEARTBEAT) {
        c->beats++;
        respond(c, call, c->registered ? 0 : PO_ENOTREGISTERED, "");
    } else {
        on_command(c, call, req.body);
    }
    pthread_mutex_unlock(&c->lock);
}

static void on_closed(void *arg, uint64_t conn)
{
    (void)arg, (void)conn;
}

/* ---- the worker ---- */

struct fixture {
    struct cluster c;
    po_worker *worker;
    pthread_t thread;
    int run_code;
    bool running;
    atomic_uint begun, handled, cancelled_seen;
    atomic_int hold; /* handlers wait while it is set */
    atomic_int mode;
    _Atomic(po_task *) kept;
    struct po_capability cap; /* what it offers: what is not set has its default */
};

enum { COMPLETE, FAIL, KEEP };

static void handler(void *arg, po_task *task)
{
    struct fixture *f = arg;
    size_t len;
    atomic_fetch_add(&f->begun, 1);
    assert_string_equal(po_task_input(task, &len), "{\"n\":1}");
    assert_int_equal(len, 7);
    assert_string_equal(po_task_capability(task), "do:it");
    assert_int_equal(po_task_token(task), po_task_id(task) + 100);
    while (atomic_load(&f->hold) && !po_task_cancelled(task))
        wait_pause();
    atomic_fetch_add(&f->cancelled_seen, (unsigned)po_task_cancelled(task));
    atomic_fetch_add(&f->handled, 1); /* before the answer, on which tests wait */
    int mode = atomic_load(&f->mode);
    if (mode == KEEP) {
        atomic_store(&f->kept, task);
    } else if (mode == FAIL) {
        assert_int_equal(po_task_fail(task, "b\xff\x64", 0), 0);
    } else {
        assert_int_equal(po_task_complete(task, "not json", 8), PO_EINVAL); /* still ours */
        assert_int_equal(po_task_complete(task, "{\"ok\":true}", 11), 0);
    }
}

static void *run(void *arg)
{
    struct fixture *f = arg;
    f->run_code = po_worker_run(f->worker);
    return NULL;
}

static void start(struct fixture *f, uint32_t concurrency, uint32_t drain_ms)
{
    char error[256] = "";
    struct po_worker_opts opts = {.size = sizeof opts,
                                  .id = "w1",
                                  .addresses = f->c.host.address,
                                  .heartbeat_ms = 1000,
                                  .drain_ms = drain_ms};
    struct po_capability cap = f->cap;
    cap.size = sizeof cap;
    cap.name = "do:it";
    cap.max_concurrency = concurrency;
    assert_int_equal(po_worker_open(&f->worker, &opts, error, sizeof error), 0);
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), 0);
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), PO_EEXISTS);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    f->running = true;
}

static void stop(struct fixture *f)
{
    if (!f->running)
        return;
    po_worker_stop(f->worker);
    pthread_join(f->thread, NULL);
    f->running = false;
}

static unsigned probe(struct fixture *f, unsigned *field)
{
    pthread_mutex_lock(&f->c.lock);
    unsigned v = *field;
    pthread_mutex_unlock(&f->c.lock);
    return v;
}

static unsigned over(struct fixture *f)
{
    unsigned n = 0;
    pthread_mutex_lock(&f->c.lock);
    for (unsigned i = 0; i < f->c.tasks; i++)
        n += f->c.state[i] == T_OVER;
    pthread_mutex_unlock(&f->c.lock);
    return n;
}

/* New tasks; wakes the parked poll. */
static void submit(struct fixture *f, unsigned count)
{
    struct cluster *c = &f->c;
    static const struct po__buf none;
    struct po__request req = {.type = PO__REQ_POLL};
    pthread_mutex_lock(&c->lock);
    assert_true(c->tasks + count <= TASKS_MAX);
    for (; count; count--)
        c->state[c->tasks++] = T_PENDING;
    req.poll.tasks_max = 64;
    req.poll.ack_seq =
        UINT64_MAX; /* only new ones: what was handed out is repeated to real polls */
    if (c->parked) {
        answer_poll(c, c->parked, &req, &none, 0);
        c->parked = NULL;
    }
    pthread_mutex_unlock(&c->lock);
}

/* Answers the parked poll, so that the next one learns what has changed. */
static void kick(struct fixture *f)
{
    pthread_mutex_lock(&f->c.lock);
    replace_parked(&f->c, NULL);
    pthread_mutex_unlock(&f->c.lock);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char error[512];
    struct po__endpoint_opts opts = {
        .listen = "127.0.0.1:0", .request = on_request, .closed = on_closed, .arg = &f->c};
    pthread_mutex_init(&f->c.lock, NULL);
    assert_int_equal(host_open(&f->c.host, &opts, error, sizeof error), 0);
    f->c.next_seq = 1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 0);
    stop(f);
    po_worker_close(f->worker);
    if (f->c.unheard)
        host_drop(&f->c.host, f->c.unheard);
    if (f->c.parked)
        host_drop(&f->c.host, f->c.parked);
    host_close(&f->c.host);
    free(f);
    return 0;
}

/* ---- tests ---- */

static void tasks_are_executed_and_answered(void **state)
{
    struct fixture *f = *state;
    start(f, 1, 0);
    for (unsigned i = 1; i <= 20; i++) {
        submit(f, 1);
        wait_until(over(f) == i);
    }
    assert_string_equal(f->c.last_result, "{\"ok\":true}");
    assert_int_equal(probe(f, &f->c.registrations), 1);
    assert_int_equal(probe(f, &f->c.resyncs), 1);
    stop(f);
    assert_int_equal(f->run_code, 0);
    assert_int_equal(f->c.deregistrations, 1);
    assert_int_equal(atomic_load(&f->handled), 20);
}

static void one_round_trip_per_task_when_there_is_always_one(void **state)
{
    struct fixture *f = *state;
    start(f, 1, 0);
    wait_until(probe(f, &f->c.resyncs) == 1);
    pthread_mutex_lock(&f->c.lock);
    unsigned before = f->c.polls;
    pthread_mutex_unlock(&f->c.lock);
    /* The fake hands out as many as the poll allows, so this is one answer with all, then
     * completions in order. */
    submit(f, 60);
    wait_until(over(f) == 60);
    unsigned polls = probe(f, &f->c.polls) - before;
    assert_in_range(polls, 1, 60 + 5);
}

static void answers_travel_in_batches(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start(f, 32, 0);
    submit(f, 32);
    wait_until(probe(f, &f->c.resyncs) == 1);
    for (unsigned i = 0; i < 32; i++)
        wait_until(probe(f, &f->c.offers_of[i]) > 0);
    atomic_store(&f->hold, 0);
    wait_until(over(f) == 32);
    assert_true(probe(f, &f->c.largest_batch) > 1);
    assert_int_equal(atomic_load(&f->handled), 32);
}

static void failures_carry_their_text(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->mode, FAIL);
    start(f, 1, 0);
    submit(f, 1);
    wait_until(over(f) == 1);
    assert_int_equal(f->c.failures, 1);
    assert_int_equal(f->c.last_flag, 0);
    assert_string_equal(f->c.last_error, "b?d"); /* whatever a program printed */
}

static void offer_schemas(struct fixture *f, const char *input, const char *output)
{
    f->cap.input_schema = input;
    f->cap.output_schema = output;
}

static void inputs_that_break_the_schema_reach_no_handler(void **state)
{
    struct fixture *f = *state;
    offer_schemas(f, "{\"properties\": {\"n\": {\"minimum\": 2}}}", NULL);
    start(f, 1, 0);
    submit(f, 1);
    wait_until(over(f) == 1);
    assert_int_equal(f->c.failures, 1);
    assert_int_equal(f->c.last_flag, 0); /* no other attempt would do better */
    assert_string_equal(f->c.last_error, "input of do:it 1.0.0 breaks its schema at /n: 1 is below "
                                         "the minimum 2 (minimum)");
    assert_int_equal(atomic_load(&f->begun), 0);
    stop(f);
    assert_int_equal(f->run_code, 0);
}

static void results_that_break_the_schema_are_the_handlers_to_answer(void **state)
{
    struct fixture *f = *state;
    offer_schemas(f, "{\"required\": [\"n\"]}", "{\"properties\": {\"ok\": {\"const\": true}}}");
    atomic_store(&f->mode, KEEP);
    start(f, 1, 0);
    submit(f, 1);
    wait_until(atomic_load(&f->kept) != NULL);
    po_task *task = atomic_load(&f->kept);
    assert_int_equal(po_task_complete(task, "{\"ok\":false}", 12), PO_EINVAL);
    assert_string_equal(po_client_error(), "output of do:it 1.0.0 breaks its schema at /ok: false "
                                           "is not true (const)");
    assert_int_equal(over(f), 0);
    assert_int_equal(po_task_complete(task, "{\"ok\":true}", 11), 0);
    wait_until(over(f) == 1);
    assert_string_equal(f->c.last_result, "{\"ok\":true}");
    assert_int_equal(f->c.failures, 0);
}

/* Answers to polls that carried results get lost: the results are repeated, the tasks are not. */
static void lost_answers_lose_nothing_and_repeat_nothing(void **state)
{
    struct fixture *f = *state;
    start(f, 4, 0);
    for (unsigned round = 1; round <= 10; round++) {
        pthread_mutex_lock(&f->c.lock);
        f->c.lose = round % 3;
        f->c.undecided = round % 2;
        pthread_mutex_unlock(&f->c.lock);
        submit(f, 4);
        wait_until(over(f) == 4 * round);
    }
    wait_until(probe(f, &f->c.lose) == 0);
    stop(f);
    assert_int_equal(atomic_load(&f->handled), 40);
}

static void new_leader_is_told_what_is_held(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start(f, 8, 0);
    submit(f, 4);
    for (unsigned i = 0; i < 4; i++)
        wait_until(probe(f, &f->c.offers_of[i]) == 1);
    pthread_mutex_lock(&f->c.lock);
    f->c.session = false; /* a new leader: it knows no session */
    pthread_mutex_unlock(&f->c.lock);
    kick(f);
    wait_until(probe(f, &f->c.resyncs) == 2);
    submit(f, 2);
    atomic_store(&f->hold, 0);
    wait_until(over(f) == 6);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(f->c.seq_of[i], 0); /* the new session had no reason to hand it out */
    stop(f);
    assert_int_equal(atomic_load(&f->handled), 6);
}

static void unknown_worker_registers_again(void **state)
{
    struct fixture *f = *state;
    start(f, 2, 0);
    submit(f, 1);
    wait_until(over(f) == 1);
    pthread_mutex_lock(&f->c.lock);
    f->c.registered = f->c.session = false;
    pthread_mutex_unlock(&f->c.lock);
    kick(f);
    wait_until(probe(f, &f->c.registrations) == 2);
    submit(f, 1);
    wait_until(over(f) == 2);
}

/* Founded anew, it gives out the very token again that is in hand here. */
static void leases_of_a_cluster_that_forgot_us_are_nobodys(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->mode, KEEP);
    start(f, 2, 0);
    submit(f, 1);
    wait_until(atomic_load(&f->kept));
    po_task *old = atomic_exchange(&f->kept, NULL);
    pthread_mutex_lock(&f->c.lock);
    f->c.registered = f->c.session = false;
    f->c.state[0] = T_PENDING;
    pthread_mutex_unlock(&f->c.lock);
    kick(f);
    wait_until(atomic_load(&f->kept)); /* the same id and token, another task */
    po_task *new = atomic_load(&f->kept);
    assert_ptr_not_equal(old, new);
    assert_int_equal(po_task_token(old), po_task_token(new));
    assert_true(po_task_cancelled(old));
    assert_false(po_task_cancelled(new));
    assert_int_equal(po_task_extend(old, 12345), 0);
    assert_int_equal(po_task_complete(old, "\"old\"", 5), 0);
    assert_int_equal(po_task_complete(new, "\"new\"", 5), 0);
    wait_until(over(f) == 1);
    stop(f);
    assert_string_equal(f->c.last_result, "\"new\"");
    assert_int_equal(f->c.results_of[0], 1);
    assert_int_equal(f->c.extensions, 0);
}

static void fail_behind_a_checkpoint(struct fixture *f)
{
    atomic_store(&f->mode, KEEP);
    start(f, 1, 0);
    submit(f, 1);
    wait_until(atomic_load(&f->kept));
    po_task *task = atomic_load(&f->kept);
    pthread_mutex_lock(&f->c.lock);
    f->c.undecided = 1;
    pthread_mutex_unlock(&f->c.lock);
    /* The first is asked again a little later: the others gather behind it. */
    assert_int_equal(po_task_extend(task, 12345), 0);
    wait_until(probe(f, &f->c.undecided) == 0);
    assert_int_equal(po_task_checkpoint(task, 400, "left", 4), 0);
    assert_int_equal(po_task_fail(task, "stumbled", 1), 0);
    wait_until(over(f) == 1);
    assert_int_equal(f->c.failures, 1);
    assert_string_equal(f->c.last_error, "stumbled");
}

static void a_failure_does_not_overtake_its_checkpoint(void **state)
{
    struct fixture *f = *state;
    fail_behind_a_checkpoint(f);
    assert_int_equal(f->c.checkpoints, 1);
    assert_int_equal(f->c.left_first, 1);
}

static void a_failure_behind_a_checkpoint_that_is_not_known_is_told_again(void **state)
{
    struct fixture *f = *state;
    f->c.old = true;
    fail_behind_a_checkpoint(f);
    assert_int_equal(f->c.checkpoints, 0);
}

static void revoked_tasks_are_cancelled(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start(f, 1, 0); /* the second task waits for the only thread */
    submit(f, 2);
    wait_until(atomic_load(&f->begun) == 1);
    pthread_mutex_lock(&f->c.lock);
    for (unsigned i = 0; i < 2; i++) {
        f->c.state[i] = T_REVOKED;
        f->c.revoke[i] = true;
    }
    pthread_mutex_unlock(&f->c.lock);
    kick(f);
    wait_until(atomic_load(&f->cancelled_seen) == 1); /* the handler saw it and gave up */
    atomic_store(&f->hold, 0);
    submit(f, 1);
    wait_until(over(f) == 1);
    assert_int_equal(atomic_load(&f->handled), 2); /* the waiting one never began */
    assert_int_equal(f->c.results_of[0] + f->c.results_of[1], 0);
}

static void tasks_may_be_answered_later_and_extended(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->mode, KEEP);
    start(f, 1, 0);
    submit(f, 1);
    wait_until(atomic_load(&f->kept));
    po_task *task = atomic_load(&f->kept);
    assert_int_equal(po_task_extend(task, 99), PO_EINVAL);
    assert_int_equal(po_task_extend(task, 12345), 0);
    wait_until(probe(f, &f->c.extensions) == 1);
    assert_int_equal(f->c.last_flag, 12345);
    assert_int_equal(po_task_complete(task, NULL, 0), 0);
    wait_until(over(f) == 1);
    assert_string_equal(f->c.last_result, "null");
}

static void another_process_with_this_id_ends_the_run(void **state)
{
    struct fixture *f = *state;
    start(f, 1, 0);
    wait_until(probe(f, &f->c.resyncs) == 1);
    pthread_mutex_lock(&f->c.lock);
    f->c.stale = true;
    pthread_mutex_unlock(&f->c.lock);
    kick(f);
    pthread_join(f->thread, NULL);
    f->running = false;
    assert_int_equal(f->run_code, PO_ESTALE);
    assert_int_equal(f->c.deregistrations, 0); /* the id is the other's now */
}

static void draining_finishes_what_runs(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start(f, 1, 10000);
    submit(f, 2);
    wait_until(atomic_load(&f->begun) == 1);
    po_worker_stop(f->worker);
    wait_until(probe(f, &f->c.draining) >= 1);
    atomic_store(&f->hold, 0);
    stop(f);
    assert_int_equal(f->run_code, 0);
    assert_int_equal(atomic_load(&f->handled), 1); /* the second was not begun, but given back */
    assert_int_equal(over(f), 1);
    assert_int_equal(f->c.deregistrations, 1);
}

static void drain_gives_up_after_its_time(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->mode, KEEP);
    start(f, 1, 100);
    submit(f, 1);
    wait_until(atomic_load(&f->kept));
    stop(f);
    assert_int_equal(f->run_code, 0);
    assert_int_equal(f->c.deregistrations, 1);
    assert_int_equal(po_task_cancelled(atomic_load(&f->kept)), 1);
    assert_int_equal(po_task_complete(atomic_load(&f->kept), "1", 1),
                     0); /* too late, but not wrong */
    assert_int_equal(over(f), 0);
}

static void stop_works_when_no_cluster_answers(void **state)
{
    struct fixture *f = *state;
    char error[256];
    struct po_worker_opts opts = {.size = sizeof opts, .id = "w1", .addresses = "127.0.0.1:1"};
    struct po_capability cap = {.size = sizeof cap, .name = "do:it"};
    assert_int_equal(po_worker_open(&f->worker, &opts, error, sizeof error), 0);
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    f->running = true;
    stop(f);
    assert_int_equal(f->run_code, 0);
}

/* An attempt to register that nobody answers is repeated, by the same incarnation. */
static void registration_is_tried_again(void **state)
{
    struct fixture *f = *state;
    f->c.deaf = true;
    start(f, 1, 0);
    wait_until(probe(f, &f->c.registrations) == 1);
    pthread_mutex_lock(&f->c.lock);
    uint64_t first = f->c.incarnation;
    f->c.deaf = false;
    pthread_mutex_unlock(&f->c.lock);
    wait_until(probe(f, &f->c.registrations) == 2);
    submit(f, 1);
    wait_until(over(f) == 1);
    assert_true(f->c.incarnation == first);
}

/* Load and round trips travel with polls and heartbeats; the first measurement is told at once. */
static void heartbeats_carry_load_and_round_trips(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start(f, 2, 0);
    submit(f, 1);
    wait_until(atomic_load(&f->begun) == 1);
    wait_until(probe(f, &f->c.load.rtt_us) > 0 && probe(f, &f->c.load.running) == 1);
    assert_true(probe(f, &f->c.load.rtt_min_us) > 0);
    wait_until(probe(f, &f->c.beats) >= 3); /* one at once, one with what it measured, one later */
    pthread_mutex_lock(&f->c.lock);
    assert_true(f->c.load.memory_available_bytes > 0 && f->c.load.memory_used_bytes > 0);
    pthread_mutex_unlock(&f->c.lock);
    atomic_store(&f->hold, 0);
    wait_until(over(f) == 1);
}

static void round_trips_are_smoothed(void **state)
{
    struct po__rtt rtt = {0};
    (void)state;
    assert_int_equal(po__rtt_min_us(&rtt, 1000), 0);
    po__rtt_sample(&rtt, 800, 1000);
    assert_int_equal(rtt.smoothed_us, 800);
    po__rtt_sample(&rtt, 1600, 2000);
    assert_int_equal(rtt.smoothed_us, 900); /* an eighth of the new one */
    assert_int_equal(po__rtt_min_us(&rtt, 2000), 800);
    po__rtt_sample(&rtt, 0, 3000); /* less than the clock shows, and not unknown */
    assert_int_equal(po__rtt_min_us(&rtt, 3000), 1);
    po__rtt_sample(&rtt, 500, 3000 + PO__WORKER_RTT_WINDOW_MS / 2);
    assert_int_equal(po__rtt_min_us(&rtt, 3000 + PO__WORKER_RTT_WINDOW_MS / 2), 1);
    po__rtt_sample(&rtt, 700, 3000 + PO__WORKER_RTT_WINDOW_MS);
    assert_int_equal(po__rtt_min_us(&rtt, 3000 + PO__WORKER_RTT_WINDOW_MS), 500);
    assert_int_equal(po__rtt_min_us(&rtt, 3000 + 3 * PO__WORKER_RTT_WINDOW_MS), 0);
}

static void wrong_options_are_explained(void **state)
{
    struct fixture *f = *state;
    char error[512];
    struct po_worker_opts good = {.size = sizeof good, .id = "w1", .addresses = "a:1"}, o;
    (void)f;
    o = good, o.id = "no spaces";
    assert_int_equal(po_worker_open(&f->worker, &o, error, sizeof error), PO_EINVAL);
    assert_non_null(strstr(error, "no spaces"));
    o = good, o.addresses = "nonsense";
    assert_int_equal(po_worker_open(&f->worker, &o, error, sizeof error), PO_EADDR);
    assert_non_null(strstr(error, "nonsense"));
    o = good, o.heartbeat_ms = 50;
    assert_int_equal(po_worker_open(&f->worker, &o, error, sizeof error), PO_EINVAL);
    assert_non_null(strstr(error, "heartbeat_ms is 50"));
    o = good, o.size = 0;
    assert_int_equal(po_worker_open(&f->worker, &o, error, sizeof error), PO_EINVAL);
    assert_int_equal(po_worker_open(&f->worker, &good, error, sizeof error), 0);
    struct po_capability cap = {.size = sizeof cap, .name = "nocolon"};
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), PO_EINVAL);
    cap.name = "a:b", cap.version = "1";
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), PO_EINVAL);
    cap.version = NULL, cap.input_schema = "{";
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), PO_EINVAL);
    cap.input_schema = NULL, cap.output_schema = "{\"items\": {\"pattern\": \"a\"}}";
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), PO_EINVAL);
    assert_non_null(
        strstr(po_client_error(), "output_schema of capability a:b, at /items/pattern"));
    assert_int_equal(po_worker_run(f->worker), PO_EINVAL); /* nothing to offer */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(tasks_are_executed_and_answered),
        T(one_round_trip_per_task_when_there_is_always_one),
        T(answers_travel_in_batches),
        T(failures_carry_their_text),
        T(inputs_that_break_the_schema_reach_no_handler),
        T(results_that_break_the_schema_are_the_handlers_to_answer),
        T(lost_answers_lose_nothing_and_repeat_nothing),
        T(new_leader_is_told_what_is_held),
        T(unknown_worker_registers_again),
        T(leases_of_a_cluster_that_forgot_us_are_nobodys),
        T(a_failure_does_not_overtake_its_checkpoint),
        T(a_failure_behind_a_checkpoint_that_is_not_known_is_told_again),
        T(revoked_tasks_are_cancelled),
        T(tasks_may_be_answered_later_and_extended),
        T(another_process_with_this_id_ends_the_run),
        T(draining_finishes_what_runs),
        T(drain_gives_up_after_its_time),
        T(stop_works_when_no_cluster_answers),
        T(registration_is_tried_again),
        T(heartbeats_carry_load_and_round_trips),
        T(round_trips_are_smoothed),
        T(wrong_options_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
