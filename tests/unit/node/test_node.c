/* One node through the public interface: durability over restarts, idempotency keys, reads, tasks
 * and workers in-process, the end of a node with calls under way, and refused options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/node_internal.h"
#include "node/channel.h"
#include "node/node.h"
#include "polls.h"

static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-node.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* An append-only text: what was applied, in order. */
struct text {
    char bytes[4096];
    size_t len;
    int fail; /* apply returns it */
};

static int text_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                      size_t *result_len)
{
    struct text *t = arg;
    (void)index;
    if (t->fail || t->len + len > sizeof t->bytes)
        return -1;
    memcpy(t->bytes + t->len, cmd, len);
    t->len += len;
    *result_len = (size_t)snprintf(result, 32, "%zu", t->len);
    return 0;
}

static int text_snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    struct text *t = arg;
    return write(ctx, t->bytes, t->len);
}

static int text_restore(void *arg, const void *data, size_t len)
{
    struct text *t = arg;
    if (len > sizeof t->bytes)
        return -1;
    if (len)
        memcpy(t->bytes, data, len);
    t->len = len;
    return 0;
}

static struct text text;
static const struct po_state_machine machine = {sizeof machine, &text, text_apply, text_snapshot,
                                                text_restore};

static po_node *start(const struct po_state_machine *sm)
{
    po_node *node = NULL;
    char error[512];
    memset(&text, 0, sizeof text);
    struct po_node_opts o = {.size = sizeof o,
                             .name = "solo",
                             .data_dir = dir,
                             .bootstrap = 1,
                             .state_machine = sm,
                             .election_ms = 100};
    int rv = po_node_start(&node, &o, error, sizeof error);
    if (rv)
        print_error("%s: %s\n", po_err_name(rv), error);
    assert_int_equal(rv, 0);
    assert_int_equal(po_node_wait_leader(node, 10000), 0);
    return node;
}

static void apply_ok(po_node *node, const char *cmd, const char *key, const char *expected)
{
    char result[64];
    size_t len = sizeof result;
    struct po_call_opts o = {.size = sizeof o, .key = key, .key_len = key ? strlen(key) : 0};
    assert_int_equal(po_apply(node, cmd, strlen(cmd), &o, result, &len), 0);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(result, expected, len);
}

static void test_restart_keeps_everything(void **state)
{
    (void)state;
    po_node *node = start(&machine);
    apply_ok(node, "one ", NULL, "4");
    apply_ok(node, "two ", "k1", "8");
    apply_ok(node, "two ", "k1", "8"); /* the same key: applied once, answered the same */
    po_node_stop(node);

    node = start(&machine);
    assert_int_equal(po_read_barrier(node, NULL), 0);
    assert_int_equal(text.len, 8);
    assert_memory_equal(text.bytes, "one two ", 8);
    apply_ok(node, "two ", "k1", "8"); /* the key survived too */
    apply_ok(node, "three", NULL, "13");
    po_node_stop(node);
}

static void test_limits_and_misuse(void **state)
{
    (void)state;
    po_node *node = start(&machine);
    static char big[PO_PAYLOAD_MAX_BYTES + 1];
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = PO_TIMEOUT_MAX_MS + 1};
    assert_int_equal(po_apply(node, big, sizeof big, NULL, NULL, NULL), PO_ETOOBIG);
    assert_int_equal(po_apply(node, "x", 0, NULL, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_apply(node, "x", 1, &o, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_apply(NULL, "x", 1, NULL, NULL, NULL), PO_EINVAL);
    po_node_stop(node);

    node = start(NULL); /* no state machine: refused before it enters the log */
    assert_int_equal(po_apply(node, "x", 1, NULL, NULL, NULL), PO_EREFUSED);
    po_node_stop(node);
}

/* A state machine that fails stops its node, and only that: the caller is told, the process lives,
 * other calls get a clear answer. */
static void test_fault_stops_the_node_only(void **state)
{
    (void)state;
    po_node *node = start(&machine);
    apply_ok(node, "fine", NULL, "4");
    text.fail = 1;
    assert_int_equal(po_apply(node, "bad", 3, NULL, NULL, NULL), PO_EUNKNOWN);
    assert_int_equal(po_apply(node, "late", 4, NULL, NULL, NULL), PO_EFAULT);
    struct po_node_status st = {.size = sizeof st};
    assert_int_equal(po_node_status(node, &st), 0);
    assert_int_equal(st.role, PO_ROLE_STOPPED);
    assert_true(strlen(st.message) > 0);
    assert_int_equal(po_node_wait_leader(node, 1000), PO_EFAULT);
    po_node_stop(node);
}

static int start_error(const struct po_node_opts *o, const char *part)
{
    po_node *node = NULL;
    char error[512] = "";
    int rv = po_node_start(&node, o, error, sizeof error);
    assert_null(node);
    if (!strstr(error, part))
        print_error("expected \"%s\" in: %s\n", part, error);
    assert_non_null(strstr(error, part));
    return rv;
}

static void test_refused_options(void **state)
{
    (void)state;
    struct po_member two[] = {{"solo", "127.0.0.1:1"}, {"other", "127.0.0.1:2"}};
    struct po_node_opts good = {.size = sizeof good, .name = "solo", .data_dir = dir}, o = good;
    assert_int_equal(start_error(&o, "bootstrap"), PO_ENOTBOOTSTRAPPED);
    o = good, o.name = "no spaces";
    assert_int_equal(start_error(&o, "name"), PO_EINVAL);
    o = good, o.listen = "nonsense";
    assert_int_equal(start_error(&o, "listen"), PO_EADDR);
    o = good, o.worker_listen = "0.0.0.0:0";
    assert_int_equal(start_error(&o, "insecure"), PO_EREFUSED);
    o = good, o.election_ms = 10;
    assert_int_equal(start_error(&o, "election_ms"), PO_EINVAL);
    o = good, o.segment_bytes = (1 << 20) + 1;
    assert_int_equal(start_error(&o, "segment_bytes"), PO_EINVAL);
    o = good, o.bootstrap = 1, o.members = two, o.members_count = 2;
    assert_int_equal(start_error(&o, "listen"), PO_EINVAL);
    o.listen = "127.0.0.1:9";
    assert_int_equal(start_error(&o, "127.0.0.1:9"), PO_EINVAL);

    po_node_stop(start(&machine)); /* the directory is solo's from now on */
    o = good, o.name = "somebody";
    assert_int_equal(start_error(&o, "solo"), PO_EIDENTITY);
    o = good, o.bootstrap = 1, o.cluster = "another";
    assert_int_equal(start_error(&o, "another"), PO_EIDENTITY);
    po_node *node = start(&machine);
    assert_int_equal(start_error(&good, dir), PO_ELOCKED);
    po_node_stop(node);
}

/* ---- tasks and a worker that speaks the protocol by hand ---- */

static void register_worker(po_client *client, const char *id, uint64_t incarnation)
{
    struct po_capability cap = {.size = sizeof cap, .name = "test:do", .max_concurrency = 2};
    struct po_worker_info w = {.size = sizeof w,
                               .id = id,
                               .incarnation = incarnation,
                               .heartbeat_ms = 60000,
                               .capabilities = &cap,
                               .capabilities_count = 1};
    assert_int_equal(po_register_worker(client, &w, NULL), 0);
}

static uint64_t submit(po_client *client)
{
    struct po_task_opts t = {
        .size = sizeof t, .capability = "test:do", .input = "{\"n\": 1}", .input_len = 8};
    uint64_t id = 0;
    assert_int_equal(po_submit_task(client, &t, NULL, &id), 0);
    assert_true(id > 0);
    return id;
}

static void test_poll_protocol(void **state)
{
    (void)state;
    po_node *node = start(NULL);
    po_client *client = po_node_client(node);
    struct po__channel *ch = po__client_channel(client);
    static struct answer a, b;
    struct po__request q = poll_request("w1", 7);

    send_poll(ch, &a, &q);
    assert_int_equal(read_poll(&a).code, PO_ENOTREGISTERED);
    register_worker(client, "w1", 7);
    send_poll(ch, &a, &q);
    assert_int_equal(read_poll(&a).code, PO_ESTATE); /* the node does not know what it holds */
    q.poll.resync = true;
    send_poll(ch, &a, &q); /* parked */
    uint64_t id = submit(client);
    struct poll_answer p = read_poll(&a);
    assert_int_equal(p.code, 0);
    assert_int_equal(p.tasks, 1);
    assert_int_equal(p.task.task_id, id);
    assert_int_equal(p.task.attempt, 1);
    struct po__task_offer first = p.task;

    /* its reply was lost: a resync that holds nothing gets the task again, with the same token */
    send_poll(ch, &a, &q);
    p = read_poll(&a);
    assert_int_equal(p.tasks, 1);
    assert_int_equal(p.task.token, first.token);

    /* complete; a repeat is accepted again, another token is not */
    struct po__buf done;
    po__buf_init(&done, 0);
    po__mpw_array(&done, 1);
    struct po__done d = {
        .task_id = id, .token = first.token, .kind = PO__DONE_COMPLETE, .payload = po__str("42")};
    po__done_encode(&done, &d);
    q = poll_request("w1", 7);
    q.poll.ack_seq = p.task.seq;
    q.poll.done = po__buf_slice(&done);
    q.poll.done_count = 1;
    for (int i = 0; i < 2; i++) {
        send_poll(ch, &a, &q);
        p = read_poll(&a);
        assert_int_equal(p.code, 0);
        assert_int_equal(p.done_code, 0);
    }
    po__buf_reset(&done);
    po__mpw_array(&done, 1);
    d.token++;
    po__done_encode(&done, &d);
    q.poll.done = po__buf_slice(&done);
    send_poll(ch, &a, &q);
    assert_int_equal(read_poll(&a).done_code, PO_ESTALE);
    struct po_task_info info = {.size = sizeof info};
    assert_int_equal(po_task_wait(client, id, NULL, &info), 0);
    assert_int_equal(info.state, PO_TASK_SUCCEEDED);
    assert_string_equal(info.result, "42");
    assert_string_equal(info.worker_id, "w1");
    po_free(info.result);
    po_free(info.error);

    /* a newer poll replaces the parked one; cancelling tells the worker */
    q = poll_request("w1", 7);
    q.poll.ack_seq = first.seq;
    send_poll(ch, &a, &q);
    send_poll(ch, &b, &q);
    p = read_poll(&a);
    assert_int_equal(p.code, 0);
    assert_int_equal(p.tasks, 0);
    id = submit(client);
    p = read_poll(&b);
    assert_int_equal(p.tasks, 1);
    q.poll.ack_seq = p.task.seq;
    send_poll(ch, &a, &q);
    assert_int_equal(po_task_cancel(client, id, NULL), 0);
    p = read_poll(&a);
    assert_int_equal(p.revoked, 1);

    /* a newer incarnation takes over */
    register_worker(client, "w1", 8);
    send_poll(ch, &a, &q);
    assert_int_equal(read_poll(&a).code, PO_ESTALE);
    po__buf_fini(&done);
    po_node_stop(node);
}

static bool workers_say(po_client *client, const char *word)
{
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_WORKERS};
    char *json = NULL;
    assert_int_equal(po_query(client, &q, NULL, &json), 0);
    bool said = strstr(json, word) != NULL;
    po_free(json);
    return said;
}

/* What heartbeats say is told as long as the worker is heard. */
static void test_load_is_told(void **state)
{
    (void)state;
    po_node *node = start(NULL);
    po_client *client = po_node_client(node);
    static struct answer a;
    struct po__request q = poll_request("w1", 7);
    register_worker(client, "w1", 7);
    assert_true(workers_say(client, "\"load\":null"));
    assert_true(workers_say(client, "\"rtt_us\":null"));
    q.poll.resync = true;
    q.poll.wait_ms = 0;
    q.poll.has_load = true;
    q.poll.load = (struct po__worker_load){1, 2, 345, 1000, 0, 250, 90};
    send_poll(po__client_channel(client), &a, &q);
    assert_int_equal(read_poll(&a).code, 0);
    assert_true(workers_say(client, "\"load\":{\"cpu_load_centi\":345,"
                                    "\"memory_available_bytes\":null,\"memory_used_bytes\":1000,"
                                    "\"queued\":2,\"rtt_min_us\":90,\"running\":1}"));
    assert_true(workers_say(client, "\"rtt_us\":250"));
    q.poll.resync = q.poll.has_load = false; /* an older program: what was told before stays */
    send_poll(po__client_channel(client), &a, &q);
    assert_int_equal(read_poll(&a).code, 0);
    assert_true(workers_say(client, "\"rtt_us\":250"));
    po_node_stop(node);
}

static int submit_key(po_client *client, const char *key, uint64_t *id)
{
    struct po_task_opts t = {.size = sizeof t, .capability = "test:do"};
    struct po_call_opts o = {.size = sizeof o, .key = key, .key_len = strlen(key)};
    return po_submit_task(client, &t, &o, id);
}

/* A node that only finishes takes no new work, answers for what it took, and lets it be ended. */
static void test_finish_only(void **state)
{
    (void)state;
    po_node *node = start(NULL);
    po_client *client = po_node_client(node);
    static const char pipeline[] =
        "{\"name\": \"p\", \"start_node\": \"a\", \"steps\": [{\"name\": \"a\", "
        "\"capability\": \"test:do\"}]}";
    uint64_t id = 0, again = 0, run = 0;
    assert_int_equal(submit_key(client, "k1", &id), 0);
    assert_int_equal(po_pipeline_define(client, pipeline, sizeof pipeline - 1, NULL), 0);
    assert_int_equal(po_run_start(client, "p", NULL, NULL, NULL, &run), 0);
    assert_int_equal(po__api_node_finish_only(node, "moved to the moon"), 0);
    assert_int_equal(submit_key(client, "k2", NULL), PO_EREFUSED);
    assert_string_equal(po_client_error(), "moved to the moon");
    assert_int_equal(po_pipeline_define(client, pipeline, sizeof pipeline - 1, NULL), PO_EREFUSED);
    assert_int_equal(po_run_start(client, "p", NULL, NULL, NULL, NULL), PO_EREFUSED);
    assert_int_equal(submit_key(client, "k1", &again), 0);
    assert_int_equal(again, id);
    register_worker(client, "w1", 7); /* who is to finish it may come */
    assert_int_equal(po_task_cancel(client, id, NULL), 0);
    assert_int_equal(po_run_cancel(client, run, NULL), 0);
    po_node_stop(node);
}

/* With a heartbeat before each look, if the worker is to be heard. */
static void await_workers(po_client *client, const char *word, bool heard)
{
    bool said = false;
    for (int i = 0; i < 20000 && !said; i++, usleep(500)) {
        if (heard)
            assert_int_equal(po_heartbeat(client, "w1", 1, NULL), 0);
        said = workers_say(client, word);
    }
    assert_true(said);
}

/* Silence makes a draining worker offline; when it is heard again, it drains. */
static void test_draining_survives_silence(void **state)
{
    (void)state;
    po_node *node = start(NULL);
    po_client *client = po_node_client(node);
    struct po_capability cap = {.size = sizeof cap, .name = "test:do"};
    struct po_worker_info w = {.size = sizeof w,
                               .id = "w1",
                               .incarnation = 1,
                               .heartbeat_ms = 100,
                               .capabilities = &cap,
                               .capabilities_count = 1};
    assert_int_equal(po_register_worker(client, &w, NULL), 0);
    assert_int_equal(po_update_worker_status(client, "w1", PO_WORKER_DRAINING, NULL), 0);
    await_workers(client, "\"offline\"", false);
    await_workers(client, "\"draining\"", true);
    po_node_stop(node);
}

/* ---- many callers, and the end in the middle of them ---- */

static atomic_int answered, accepted;

static void count_answer(void *arg, const struct po_result *r)
{
    (void)arg;
    if (r->code == 0)
        atomic_fetch_add(&accepted, 1);
    atomic_fetch_add(&answered, 1);
}

static void *call_many(void *arg)
{
    po_node *node = arg;
    for (int i = 0; i < 500; i++)
        while (po_apply_async(node, "x", 1, NULL, count_answer, NULL) == PO_EBUSY)
            sched_yield();
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    pthread_t t[4];
    po_node *node = start(&machine);
    atomic_store(&answered, 0);
    atomic_store(&accepted, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, call_many, node), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 20000 && atomic_load(&answered) < 2000; i++)
        usleep(500);
    assert_int_equal(atomic_load(&accepted), 2000);
    po_node_stop(node);
    assert_int_equal(text.len, 2000);
}

static void test_stop_answers_everything(void **state)
{
    (void)state;
    po_node *node = start(&machine);
    atomic_store(&answered, 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(po_apply_async(node, "y", 1, NULL, count_answer, NULL), 0);
    po_node_stop(node);
    assert_int_equal(atomic_load(&answered), 300);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_restart_keeps_everything),
        TEST(test_limits_and_misuse),
        TEST(test_fault_stops_the_node_only),
        TEST(test_refused_options),
        TEST(test_poll_protocol),
        TEST(test_load_is_told),
        TEST(test_finish_only),
        TEST(test_draining_survives_silence),
        TEST(test_many_threads),
        TEST(test_stop_answers_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
