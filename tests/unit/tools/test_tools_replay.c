/* Time travel: whatever index one asks for, the state is that of the model that applied the same
 * commands up to there; events say what each of them did. */
#include "model/sched.h"

#include <jansson.h>
#include <string.h>

#include "consensus/replica.h"
#include "sim/disk_sim.h"
#include "tools/replay.h"
#include "tools/replay_events.h"

#define ENTRIES_MAX 400

/* The application, as replay has it. */
static int app_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                     size_t *result_len)
{
    (void)arg, (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    return 0;
}

static int app_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len), void *ctx)
{
    (void)arg, (void)write, (void)ctx;
    return 0;
}

static int app_restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

static const struct po_state_machine app = {
    .size = sizeof app, .apply = app_apply, .snapshot = app_snapshot, .restore = app_restore};

/* A node that runs: what its model applies is in its log. */
struct node {
    struct po__disk_sim *medium;
    struct po__disk *disk;
    struct po__store *store;
    struct world w;
    uint64_t durable;
    uint64_t digests[ENTRIES_MAX]; /* by index */
};
static struct node n;
static struct po__replay replay; /* too big for the stack */

static void on_durable(void *arg, uint64_t token)
{
    *(uint64_t *)arg = token;
}

static void poll_store(void *store)
{
    po__store_poll(store);
}

static int ignore(void *arg, const struct po__rec *r)
{
    (void)arg, (void)r;
    return 0;
}

static int node_start(void **state)
{
    struct po__identity id = {.directory_id = "directory", .node_id = 1, .name = "cp1"};
    struct po__server servers[] = {{1, "127.0.0.1:1", PO__VOTER}, {2, "127.0.0.1:2", PO__VOTER}};
    struct po__store_opts opts = {.segment_bytes = 32768, .segments_spare = 1};
    static struct po__recovery recovery;
    struct po__rec *first;
    char error[512];
    (void)state;
    memset(&n, 0, sizeof n);
    n.medium = po__disk_sim_new(1);
    po__disk_sim_attach(n.medium, &n.disk);
    assert_int_equal(po__store_open(&n.store, n.disk, &opts, error, sizeof error), 0);
    assert_int_equal(po__replica_bootstrap_record(&first, servers, 2), 0);
    assert_int_equal(po__store_bootstrap(n.store, &id, 1, first), 0);
    assert_int_equal(po__store_recover(n.store, &recovery, ignore, NULL, error, sizeof error), 0);
    assert_int_equal(po__store_set_vote(n.store, 2, 1), 0);
    free(first);
    world_open(&n.w, &app);
    n.digests[0] = digest(n.w.m);
    po__model_set_index(n.w.m, 1);
    n.digests[1] = digest(n.w.m);
    n.w.index = 1; /* the first configuration */
    return 0;
}

static void node_stop(void)
{
    po__store_close(n.store);
    n.store = NULL;
}

static int node_end(void **state)
{
    (void)state;
    if (n.store)
        node_stop();
    world_close(&n.w);
    po__disk_sim_free(n.medium);
    return 0;
}

/* The command that the world applied last becomes the entry of its index. */
static void put_log(void)
{
    struct po__buf b = {0};
    po__entry_begin(&b, n.w.now_ms);
    po__mpw_raw(&b, po__buf_slice(&n.w.bytes));
    po__entry_finish(&b, 0, 1);
    assert_int_equal(b.err, 0);
    struct po__rec *rec = calloc(1, PO__REC_BYTES(b.len));
    *rec = (struct po__rec){.len = (uint32_t)b.len, .index = n.w.index, .term = 2, .type = 1};
    memcpy(rec + 1, b.data, b.len);
    po__rec_seal(rec);
    assert_int_equal(po__store_append(n.store, rec, on_durable, &n.durable, n.w.index), 0);
    po__store_flush(n.store);
    po__disk_sim_run(n.disk, poll_store, n.store);
    assert_int_equal(n.durable, n.w.index);
    free(rec);
    po__buf_fini(&b);
    assert_true(n.w.index < ENTRIES_MAX);
    n.digests[n.w.index] = digest(n.w.m);
}

static void take_snapshot(bool trim)
{
    static struct po__snapshot_meta meta;
    struct po__snapshot_writer *sw;
    struct po__buf b = {0};
    struct po__conf conf = {0};
    uint64_t done = 0;
    assert_int_equal(po__conf_add(&conf, 1, "127.0.0.1:1", PO__VOTER), 0);
    assert_int_equal(po__conf_add(&conf, 2, "127.0.0.1:2", PO__VOTER), 0);
    meta = (struct po__snapshot_meta){.index = n.w.index, .term = 2, .conf_index = 1};
    meta.conf_len = (uint32_t)po__conf_encode(&conf, meta.conf);
    snapshot(n.w.m, &b);
    assert_int_equal(po__store_snapshot_begin(n.store, &sw, &meta), 0);
    assert_int_equal(po__store_snapshot_write(sw, b.data, b.len), 0);
    assert_int_equal(po__store_snapshot_finish(sw, on_durable, &done), 0);
    po__disk_sim_run(n.disk, poll_store, n.store);
    assert_int_equal(done, n.w.index);
    if (trim)
        po__store_trim(n.store, n.w.index);
    po__disk_sim_run(n.disk, poll_store, n.store);
    po__buf_fini(&b);
}

/* ---- a busy life ---- */

static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static const struct po__task *some_running(void)
{
    unsigned skip = draw(5);
    const struct po__task *t = NULL, *found = NULL;
    uint64_t id = 0;
    while ((t = po__model_task_next(n.w.m, id))) {
        id = t->id;
        if (t->state == PO_TASK_RUNNING) {
            found = t;
            if (skip-- == 0)
                break;
        }
    }
    return found;
}

static void do_something(unsigned i)
{
    static const char *const workers[] = {"w1", "w2", "w3"};
    static const char *const caps[] = {"a:b", "c:d"};
    const char *w = workers[draw(3)];
    const struct po__task *t = some_running();
    char key[16];
    snprintf(key, sizeof key, "key-%u", i);
    n.w.now_ms += draw(300);
    switch (draw(18)) {
    case 14:
        do_host(&n.w, &(struct host){w, .caps = "a:b*2 c:d", .resources = "gpus=2", .slots = 2});
        break;
    case 15:
        do_wish_task(&n.w, caps[draw(2)],
                     &(struct wish){.key = key,
                                    .priority = draw(5),
                                    .run_at_ms = draw(2) ? n.w.now_ms + 900 : 0,
                                    .resources = draw(2) ? "gpus=1" : NULL,
                                    .gate = "gate",
                                    .gate_max = 1 + draw(2)});
        break;
    case 16:
        if (t)
            do_checkpoint(&n.w, t->id, t->token, t->origin->id.data, draw(1000), "\"half\"", 0);
        else
            do_tick(&n.w);
        break;
    case 17:
        do_retry(&n.w, 1 + draw(20));
        break;
    case 0:
        do_register(&n.w, w, 1 + draw(3), draw(2) ? "aws" : "gcp", "a:b c:d", 1 + draw(2));
        break;
    case 1:
        do_status(&n.w, w, 0, PO_WORKER_ONLINE + draw(3));
        break;
    case 2:
        do_define(&n.w, "p", caps, 2, "{}");
        break;
    case 3:
        do_run(&n.w, key, "p", "{}", "");
        break;
    case 4:
        do_app(&n.w, key, "data");
        break;
    case 5:
        do_cancel(&n.w, 1 + draw(20));
        break;
    case 6:
    case 7:
        n.w.now_ms += 700;
        do_tick(&n.w);
        break;
    case 8:
        do_member(&n.w, 2, "cp2", "0123456789abcdef");
        break;
    case 9:
        do_deregister(&n.w, w, 0);
        break;
    case 10:
    case 11:
        if (t && draw(3))
            do_complete(&n.w, t->id, t->token, t->origin->id.data, "\"done\"");
        else
            do_complete(&n.w, 1 + draw(9), 3, w, "1");
        break;
    case 12:
        if (t)
            do_fail(&n.w, t->id, t->token, t->origin->id.data, "no luck", draw(3) > 0);
        else
            do_tick(&n.w);
        break;
    default:
        do_submit(&n.w, key, caps[draw(2)], "1", "", 2, 500);
        break;
    }
    put_log();
}

static void live(unsigned commands)
{
    do_register(&n.w, "w1", 1, "aws", "a:b c:d", 2);
    put_log();
    for (unsigned i = 1; i < commands; i++)
        do_something(i);
}

/* ---- going back ---- */

static int go_to(uint64_t until, char *error, size_t error_len)
{
    struct po__disk *disk;
    po__disk_sim_attach(n.medium, &disk);
    int rv = po__replay_init_disk(&replay, disk, error, error_len);
    return rv ? rv : po__replay_run(&replay, UINT64_MAX, until, NULL, NULL, NULL, error, error_len);
}

static void check_index(uint64_t i)
{
    char error[1024] = "";
    int rv = go_to(i, error, sizeof error);
    if (rv)
        fail_msg("%llu: %s: %s", (unsigned long long)i, po_err_name(rv), error);
    assert_int_equal(replay.index, i);
    assert_int_equal(digest(replay.content.model), n.digests[i]);
    assert_int_equal(replay.conf.count, i ? 2 : 0);
    po__replay_fini(&replay);
}

static void refused(uint64_t until, const char *expected)
{
    char error[1024] = "";
    assert_int_equal(go_to(until, error, sizeof error), PO_EINVAL);
    if (!strstr(error, expected))
        fail_msg("%s: \"%s\" expected", error, expected);
    po__replay_fini(&replay);
}

static void test_every_index(void **state)
{
    (void)state;
    seed = 1;
    live(250);
    node_stop();
    for (uint64_t i = 0; i <= n.w.index; i++)
        check_index(i);
    refused(n.w.index + 1, "the log ends with the entry 251; there is no 252");
}

static void test_before_a_snapshot_while_the_log_is_whole(void **state)
{
    (void)state;
    seed = 2;
    live(120);
    take_snapshot(false);
    for (unsigned i = 0; i < 40; i++)
        do_something(1000 + i);
    node_stop();
    for (uint64_t i = 0; i <= n.w.index; i += i < 100 ? 7 : 1)
        check_index(i);
}

static void test_a_cut_log_says_where_it_begins(void **state)
{
    (void)state;
    char text[128];
    seed = 3;
    live(120);
    take_snapshot(true);
    uint64_t snap = n.w.index;
    for (unsigned i = 0; i < 40; i++)
        do_something(1000 + i);
    node_stop();
    for (uint64_t i = snap; i <= n.w.index; i++)
        check_index(i);
    snprintf(text, sizeof text,
             "does not reach back to 50: the state can be had as of %llu, where the snapshot was "
             "taken, to %llu",
             (unsigned long long)snap, (unsigned long long)n.w.index);
    refused(50, text);
    refused(snap - 1, "does not reach back");
}

static void test_damage_is_named(void **state)
{
    (void)state;
    char error[1024] = "";
    seed = 4;
    live(30);
    node_stop();
    const char *wal = NULL;
    for (unsigned i = 0; i < po__disk_sim_files(n.medium) && !wal; i++) {
        const char *name = po__disk_sim_file_name(n.medium, i);
        wal = name && !strncmp(name, "wal-", 4) ? name : NULL;
    }
    assert_non_null(wal);
    po__disk_sim_flip(n.medium, wal, 3 * 4096 + 100, 3); /* in the middle of the log */
    assert_int_equal(go_to(UINT64_MAX, error, sizeof error), PO_ECORRUPT);
    assert_non_null(strstr(error, wal));
    po__replay_fini(&replay);
}

/* ---- questions ---- */

static json_t *ask(struct po_query query)
{
    struct po__buf json = {0};
    char error[512] = "";
    json_error_t e;
    query.size = sizeof query;
    int rv = po__replay_query(&replay, &query, &json, error, sizeof error);
    if (rv)
        fail_msg("%s: %s", po_err_name(rv), error);
    json_t *a = json_loadb((const char *)json.data, json.len, 0, &e);
    assert_non_null(a);
    po__buf_fini(&json);
    return a;
}

static json_int_t number(const json_t *a, const char *key)
{
    assert_true(json_is_integer(json_object_get(a, key)));
    return json_integer_value(json_object_get(a, key));
}

/* A task that fails, waits, is tried again and succeeds; a run of two steps; a zombie. */
static void story(void)
{
    static const char *const caps[] = {"a:b", "a:b"};
    do_register(&n.w, "w1", 1, "aws", "a:b", 1); /* 2 */
    put_log();
    do_submit(&n.w, "k", "a:b", "[1]", "", 3, 5000); /* 3: task 1, token 3 */
    put_log();
    do_fail(&n.w, 1, 3, "w1", "no luck", true); /* 4 */
    put_log();
    n.w.now_ms += 500;
    do_tick(&n.w); /* 5: token 5 */
    put_log();
    do_status(&n.w, "w1", 1, PO_WORKER_OFFLINE); /* 6: lost */
    put_log();
    do_register(&n.w, "w1", 2, "aws", "a:b", 1); /* 7: token 7 */
    put_log();
    do_complete(&n.w, 1, 5, "w1", "2"); /* 8: refused */
    put_log();
    do_complete(&n.w, 1, 7, "w1", "2"); /* 9 */
    put_log();
    do_complete(&n.w, 1, 7, "w1", "2"); /* 10: a repeat */
    put_log();
    do_define(&n.w, "p", caps, 2, ""); /* 11 */
    put_log();
    do_run(&n.w, "r", "p", "{}", ""); /* 12: run 1, task 2 */
    put_log();
    do_complete(&n.w, 2, 12, "w1", "3"); /* 13: task 3 */
    put_log();
    n.w.now_ms += 5000000;
    do_tick(&n.w); /* 14: its time is up */
    put_log();
    do_app(&n.w, "x", "data"); /* 15 */
    put_log();
    do_run_cancel(&n.w, 1); /* 16 */
    put_log();
}

static void test_questions(void **state)
{
    (void)state;
    static const struct {
        uint64_t until;
        const char *task;
    } states[] = {
        {3, "running"}, {4, "scheduled"}, {5, "running"}, {6, "pending"}, {9, "succeeded"}};
    char error[512];
    story();
    node_stop();
    for (unsigned i = 0; i < sizeof states / sizeof *states; i++) {
        assert_int_equal(go_to(states[i].until, error, sizeof error), 0);
        json_t *a = ask((struct po_query){.what = PO_QUERY_TASK, .id = 1});
        assert_int_equal(number(a, "index"), states[i].until);
        assert_int_equal(number(a, "term"), 2);
        assert_true(number(a, "time_ms") >= 1000000);
        assert_string_equal(json_string_value(json_object_get(a, "state")), states[i].task);
        json_decref(a);
        po__replay_fini(&replay);
    }
    assert_int_equal(go_to(UINT64_MAX, error, sizeof error), 0);
    json_t *a = ask((struct po_query){.what = PO_QUERY_STATUS});
    assert_int_equal(number(a, "index"), 16);
    assert_int_equal(number(a, "last_index"), 16);
    assert_int_equal(number(a, "first_index"), 0);
    assert_int_equal(number(a, "tasks_finished"), 3);
    assert_int_equal(number(a, "runs_finished"), 1);
    assert_int_equal(json_array_size(json_object_get(a, "members")), 2);
    assert_true(json_is_null(json_object_get(a, "leader")));
    json_decref(a);
    struct po__buf notes = {0};
    po__replay_notes(&replay, &notes);
    po__buf_append(&notes, "", 1);
    assert_non_null(strstr((char *)notes.data, "1 commands of the application are left out"));
    assert_non_null(strstr((char *)notes.data, "committed for certain up to 0"));
    po__buf_fini(&notes);
    a = ask((struct po_query){.what = PO_QUERY_ROUTE, .name = "a:b"});
    assert_string_equal(json_string_value(json_object_get(a, "worker_id")), "w1");
    json_decref(a);
    struct po__buf json = {0};
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_ROUTE, .name = "a:b@>=3"};
    assert_int_equal(po__replay_query(&replay, &q, &json, error, sizeof error), PO_ENOCAPABILITY);
    q.name = "a:b@oops";
    assert_int_equal(po__replay_query(&replay, &q, &json, error, sizeof error), PO_EINVAL);
    assert_non_null(strstr(error, "oops"));
    q = (struct po_query){.size = sizeof q, .what = PO_QUERY_TASK, .id = 99};
    assert_int_equal(po__replay_query(&replay, &q, &json, error, sizeof error), PO_ENOTFOUND);
    assert_non_null(strstr(error, "no such task"));
    po__replay_fini(&replay);
}

/* ---- events ---- */

struct heard {
    char words[4096]; /* "index:event ..." */
    size_t len;
    const char *find; /* a text that one line must have */
    unsigned found;
};

static int hear(void *arg, const char *line, size_t len)
{
    struct heard *h = arg;
    json_error_t e;
    json_t *a = json_loadb(line, len, 0, &e);
    assert_non_null(a);
    h->len += (size_t)snprintf(h->words + h->len, sizeof h->words - h->len, "%lld:%s ",
                               (long long)number(a, "index"),
                               json_string_value(json_object_get(a, "event")));
    assert_true(h->len < sizeof h->words);
    h->found += h->find && strstr(line, h->find) != NULL;
    json_decref(a);
    return 0;
}

static int events(struct po__tool_events which, struct heard *h, char *error, size_t error_len)
{
    struct po__disk *disk;
    po__disk_sim_attach(n.medium, &disk);
    int rv = po__replay_init_disk(&replay, disk, error, error_len);
    rv = rv ? rv : po__replay_events(&replay, &which, hear, h, error, error_len);
    po__replay_fini(&replay);
    return rv;
}

static void tells(struct po__tool_events which, const char *expected, const char *find)
{
    static struct heard h;
    char error[512] = "";
    h = (struct heard){.find = find};
    which.until = which.until ? which.until : UINT64_MAX;
    int rv = events(which, &h, error, sizeof error);
    if (rv)
        fail_msg("%s: %s", po_err_name(rv), error);
    assert_string_equal(h.words, expected);
    if (find && !h.found)
        fail_msg("no line has: %s", find);
}

static void test_events(void **state)
{
    (void)state;
    story();
    node_stop();
    tells((struct po__tool_events){.task_id = 1},
          "3:task_submitted 3:task_granted 4:attempt_failed 5:task_due 5:task_granted "
          "6:attempt_lost 7:task_granted 8:refused 9:task_succeeded 10:repeated ",
          "attempt failed: no luck; it is tried again in 500 ms");
    tells((struct po__tool_events){.task_id = 1, .from = 5, .until = 6},
          "5:task_due 5:task_granted 6:attempt_lost ",
          "\\\"w1\\\" lost the lease with token 5: the worker went offline; it waits for a worker");
    tells((struct po__tool_events){.run_id = 1},
          "12:run_started 12:task_submitted 12:task_granted 13:task_succeeded 13:task_submitted "
          "13:task_granted 14:attempt_timed_out 16:task_cancelled 16:run_cancelled ",
          "lost the lease with token 13: its time is up; it is tried again in 500 ms");
    tells((struct po__tool_events){.worker_id = "w1", .until = 8},
          "2:worker_registered 3:task_granted 4:attempt_failed 5:task_granted 6:worker_offline "
          "6:attempt_lost 7:worker_registered 7:task_granted 8:refused ",
          "result refused: task 1: token 5 of worker \\\"w1\\\" is not its lease");
    tells((struct po__tool_events){.from = 11},
          "11:pipeline_defined 12:run_started 12:task_submitted 12:task_granted "
          "13:task_succeeded 13:task_submitted 13:task_granted 14:attempt_timed_out "
          "15:application 16:task_cancelled 16:run_cancelled ",
          "pipeline \\\"p\\\" has 2 steps now");
    tells((struct po__tool_events){.until = 2}, "1:term 1:members 2:term 2:worker_registered ",
          "nodes of the cluster: 2, of them voters: 2");
    tells((struct po__tool_events){.worker_id = "nobody"}, "", NULL);
}

/* A task that is not to run before its time, leaves a checkpoint, fails, and is tried once more. */
static void test_events_of_later_commands(void **state)
{
    (void)state;
    do_host(&n.w, &(struct host){"w1", .caps = "a:b", .slots = 1}); /* 2 */
    put_log();
    do_wish_task(&n.w, "a:b",
                 &(struct wish){.run_at_ms = n.w.now_ms + 700, .attempts_max = 1}); /* 3 */
    put_log();
    n.w.now_ms += 700;
    do_tick(&n.w); /* 4: token 4 */
    put_log();
    do_checkpoint(&n.w, 1, 4, "w1", 500, "\"half\"", 0); /* 5 */
    put_log();
    do_fail(&n.w, 1, 4, "w1", "no luck", true); /* 6 */
    put_log();
    do_retry(&n.w, 1); /* 7: token 7 */
    put_log();
    node_stop();
    tells((struct po__tool_events){.task_id = 1},
          "3:task_submitted 4:task_due 4:task_granted 5:task_checkpoint 6:task_failed "
          "7:task_retried 7:task_granted ",
          "progress 500 of 1000; checkpoint of 6 bytes");
    tells((struct po__tool_events){.task_id = 1, .until = 3}, "3:task_submitted ",
          "not before 700 ms have passed");
}

/* From a snapshot on: what is in it already is not new. */
static void test_events_behind_a_cut(void **state)
{
    (void)state;
    char error[512] = "", expected[256];
    static struct heard h;
    seed = 5;
    live(60);
    take_snapshot(true);
    uint64_t at = n.w.index;
    do_submit(&n.w, "new", "x:y", "1", "", 0, 0);
    put_log();
    node_stop();
    snprintf(expected, sizeof expected, "%llu:task_submitted ", (unsigned long long)at + 1);
    tells((struct po__tool_events){0}, expected, "x:y, at most 3 attempts");
    tells((struct po__tool_events){.from = at + 1}, expected, NULL);
    struct po__tool_events early = {.from = at, .until = UINT64_MAX};
    assert_int_equal(events(early, &h, error, sizeof error), PO_EINVAL);
    assert_non_null(strstr(error, "does not reach back"));
    struct po__tool_events reversed = {.from = at + 1, .until = at};
    assert_int_equal(events(reversed, &h, error, sizeof error), PO_EINVAL);
}

/* Whichever allocation fails, the answer is whole or there is none. */
static void test_out_of_memory(void **state)
{
    (void)state;
    static struct heard whole, h;
    char error[1024];
    unsigned refused_count = 0;
    struct po__tool_events all = {.until = UINT64_MAX};
    story();
    node_stop();
    assert_int_equal(events(all, &whole, error, sizeof error), 0);
    for (uint64_t at = 1;; at++) {
        h = (struct heard){0};
        po__alloc_fail_at(at);
        int rv = events(all, &h, error, sizeof error);
        bool failed = po__alloc_count() >= at;
        po__alloc_fail_at(0);
        if (!failed) {
            assert_int_equal(rv, 0);
            break;
        }
        if (rv == 0)
            assert_string_equal(h.words, whole.words);
        else
            assert_int_equal(rv, PO_ENOMEM);
        refused_count += rv != 0;
    }
    assert_true(refused_count > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_index, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_before_a_snapshot_while_the_log_is_whole, node_start,
                                        node_end),
        cmocka_unit_test_setup_teardown(test_a_cut_log_says_where_it_begins, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_damage_is_named, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_questions, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_events, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_events_of_later_commands, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_events_behind_a_cut, node_start, node_end),
        cmocka_unit_test_setup_teardown(test_out_of_memory, node_start, node_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
