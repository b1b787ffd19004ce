/* Schemas of capabilities at the door of the log: registrations outside of the subset, inputs and
 * results that break them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node.h"
#include "polls.h"

static char dir[64];
static uint32_t retry_ms; /* of what is submitted */
static po_node *node;
static po_client *client;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    char error[512];
    (void)state;
    retry_ms = 0;
    strcpy(dir, "/tmp/po-schemas.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    struct po_node_opts o = {
        .size = sizeof o, .name = "solo", .data_dir = dir, .bootstrap = 1, .election_ms = 100};
    if (po_node_start(&node, &o, error, sizeof error))
        return -1;
    client = po_node_client(node);
    return po_node_wait_leader(node, 10000);
}

static int teardown(void **state)
{
    (void)state;
    po_node_stop(node);
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Of one label and one capability, test:do. */
static int register_worker(const char *id, const char *version, const char *label,
                           const char *input_schema, const char *output_schema)
{
    struct po_capability cap = {.size = sizeof cap,
                                .name = "test:do",
                                .version = version,
                                .input_schema = input_schema,
                                .output_schema = output_schema,
                                .max_concurrency = 2};
    struct po_label disk = {"disk", label};
    struct po_worker_info w = {.size = sizeof w,
                               .id = id,
                               .incarnation = 1,
                               .heartbeat_ms = 60000,
                               .labels = &disk,
                               .labels_count = 1,
                               .capabilities = &cap,
                               .capabilities_count = 1};
    return po_register_worker(client, &w, NULL);
}

static int submit(const char *capability, const char *input, const struct po_placement *p,
                  const char *key, uint64_t *id)
{
    struct po_task_opts t = {.size = sizeof t,
                             .capability = capability,
                             .input = input,
                             .input_len = strlen(input),
                             .retry_ms = retry_ms,
                             .placement = p};
    struct po_call_opts o = {.size = sizeof o, .key = key, .key_len = key ? strlen(key) : 0};
    return po_submit_task(client, &t, &o, id);
}

static void said(const char *words)
{
    if (!strstr(po_client_error(), words))
        fail_msg("\"%s\" is not in: %s", words, po_client_error());
}

static void test_registrations(void **state)
{
    (void)state;
    static const char pattern[] = "{\"properties\": {\"a\": {\"pattern\": \"^a\"}}}";
    assert_int_equal(register_worker("w1", NULL, "x", pattern, NULL), PO_EINVAL);
    said("worker w1: input_schema of test:do, at /properties/a/pattern: pattern is not supported");
    assert_int_equal(register_worker("w1", NULL, "x", "{}", "{\"typ\": \"object\"}"), PO_EINVAL);
    said("worker w1: output_schema of test:do, at /typ: typ is no keyword");
    said("the nearest is type");
    assert_int_equal(register_worker("w1", NULL, "x", "7", NULL), PO_EINVAL);
    said("at the top level: a schema is an object");
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_WORKERS};
    char *json = NULL;
    assert_int_equal(po_query(client, &q, NULL, &json), 0);
    assert_null(strstr(json, "\"w1\"")); /* nothing of it entered the log */
    po_free(json);
    assert_int_equal(register_worker("w1", NULL, "x", "{\"type\": \"object\"}", "true"), 0);
}

static void test_inputs(void **state)
{
    (void)state;
    static const char small[] = "{\"properties\": {\"n\": {\"maximum\": 10}}}";
    static const char great[] = "{\"properties\": {\"n\": {\"maximum\": 100}}}";
    uint64_t id;
    assert_int_equal(submit("test:do", "{\"n\": 5000}", NULL, NULL, &id), 0); /* nobody knows */
    assert_int_equal(register_worker("old", "1.0.0", "slow", great, NULL), 0);
    assert_int_equal(submit("test:do", "{\"n\": 50}", NULL, NULL, &id), 0);
    assert_int_equal(submit("test:do", "{\"n\": 500}", NULL, NULL, &id), PO_EINVAL);
    said("input of test:do 1.0.0 breaks its schema at /n: 500 is above the maximum 100 (maximum)");

    /* the highest version counts, of those that the request allows */
    assert_int_equal(register_worker("new", "1.10.0", "fast", small, NULL), 0);
    assert_int_equal(register_worker("newer", "1.9.0", "fast", "{\"type\": \"null\"}", NULL), 0);
    assert_int_equal(submit("test:do", "{\"n\": 50}", NULL, NULL, &id), PO_EINVAL);
    said("input of test:do 1.10.0 breaks");
    assert_int_equal(submit("test:do@~1.0", "{\"n\": 50}", NULL, NULL, &id), 0);
    assert_int_equal(submit("test:do@<1.10", "{\"n\": 5}", NULL, NULL, &id), PO_EINVAL);
    said("input of test:do 1.9.0 breaks its schema at the top level");
    assert_int_equal(submit("test:do@^2", "{\"n\": 5000}", NULL, NULL, &id), 0); /* nobody yet */
    const struct po_label_wish slow = {"disk", "slow", PO_LABEL_EQUAL};
    const struct po_placement there = {.size = sizeof there, .labels = &slow, .labels_count = 1};
    assert_int_equal(submit("test:do", "{\"n\": 50}", &there, NULL, &id), 0);
    assert_int_equal(submit("test:do", "{\"n\": 101}", &there, NULL, &id), PO_EINVAL);
    said("input of test:do 1.0.0 breaks");

    /* workers leave: those that are left count */
    assert_int_equal(po_deregister_worker(client, "new", 0, NULL), 0);
    assert_int_equal(po_deregister_worker(client, "newer", 0, NULL), 0);
    assert_int_equal(submit("test:do", "{\"n\": 50}", NULL, NULL, &id), 0);
    assert_int_equal(submit("test:do", "{\"n\": 101}", NULL, NULL, &id), PO_EINVAL);
}

/* Two workers of one version, in one zone: what one of them says counts as long as it is there. */
static void test_equal_versions(void **state)
{
    (void)state;
    uint64_t id;
    assert_int_equal(register_worker("a", "1.0.0", "x", "{\"type\": \"null\"}", NULL), 0);
    assert_int_equal(register_worker("b", "1.0.0", "x", "{\"type\": \"string\"}", NULL), 0);
    assert_int_equal(submit("test:do", "\"x\"", NULL, NULL, &id), PO_EINVAL);
    assert_int_equal(po_deregister_worker(client, "a", 0, NULL), 0);
    assert_int_equal(submit("test:do", "\"x\"", NULL, NULL, &id), 0);
    assert_int_equal(register_worker("b", "1.0.0", "x", "{\"type\": \"number\"}", NULL), 0);
    assert_int_equal(submit("test:do", "\"x\"", NULL, NULL, &id), PO_EINVAL);
    assert_int_equal(po_deregister_worker(client, "b", 0, NULL), 0);
    assert_int_equal(submit("test:do", "\"x\"", NULL, NULL, &id), 0);
}

/* What was accepted stays accepted, whatever is registered later. */
static void test_repeated_submissions(void **state)
{
    (void)state;
    uint64_t first, again;
    assert_int_equal(submit("test:do", "1", NULL, "k", &first), 0);
    assert_int_equal(register_worker("w", NULL, "x", "{\"type\": \"string\"}", NULL), 0);
    assert_int_equal(submit("test:do", "1", NULL, "k", &again), 0);
    assert_int_equal(first, again);
    assert_int_equal(submit("test:do", "1", NULL, "l", &again), PO_EINVAL);
}

static void test_batches(void **state)
{
    (void)state;
    assert_int_equal(register_worker("w", NULL, "x", "{\"type\": \"string\"}", NULL), 0);
    struct po_task_opts tasks[3];
    static const char *const inputs[] = {"\"a\"", "7", "\"c\""};
    uint64_t ids[3] = {0};
    int codes[3] = {1, 1, 1};
    for (int i = 0; i < 3; i++)
        tasks[i] = (struct po_task_opts){.size = sizeof *tasks,
                                         .capability = "test:do",
                                         .input = inputs[i],
                                         .input_len = strlen(inputs[i])};
    assert_int_equal(po_submit_tasks(client, tasks, 3, NULL, ids, codes), PO_EINVAL);
    said("breaks its schema at the top level: 7 is a number");
    assert_true(codes[0] == 0 && codes[1] == PO_EINVAL && codes[2] == 0);
    assert_true(ids[0] && ids[2]);
}

/* ---- results ---- */

static struct answer answer;

static struct poll_answer done_with(const struct po__task_offer *t, const char *result)
{
    struct po__request q = poll_request("w", 1);
    struct po__buf done = {0};
    struct po__done d = {.task_id = t->task_id,
                         .token = t->token,
                         .kind = PO__DONE_COMPLETE,
                         .payload = po__str(result)};
    po__mpw_array(&done, 1);
    po__done_encode(&done, &d);
    q.poll.ack_seq = t->seq;
    q.poll.done = po__buf_slice(&done);
    q.poll.done_count = 1;
    q.poll.tasks_max = 0; /* tasks come with polls of their own */
    send_poll(po__client_channel(client), &answer, &q);
    struct poll_answer p = read_poll(&answer);
    assert_int_equal(p.code, 0);
    po__buf_fini(&done);
    return p;
}

/* The next task that is handed to the worker; valid until the next poll. */
static struct po__task_offer next_task(uint64_t ack_seq, bool resync)
{
    struct po__request q = poll_request("w", 1);
    q.poll.resync = resync;
    q.poll.ack_seq = ack_seq;
    struct poll_answer p;
    do { /* an answer without a task: the time that a poll waits was over */
        send_poll(po__client_channel(client), &answer, &q);
        p = read_poll(&answer);
        q.poll.resync = false;
        assert_int_equal(p.code, 0);
    } while (p.tasks == 0);
    return p.task;
}

static void test_results(void **state)
{
    (void)state;
    uint64_t id;
    struct po_task_info info = {.size = sizeof info};
    assert_int_equal(
        register_worker("w", "1.2.0", "x", NULL,
                        "{\"properties\": {\"label\": {\"enum\": [\"cat\", \"dog\"]}}}"),
        0);
    retry_ms = 86400000;
    assert_int_equal(submit("test:do", "1", NULL, NULL, &id), 0);
    struct po__task_offer t = next_task(0, true);

    /* it was heard, and so is its repetition; but the attempt failed, and another word is late */
    for (int i = 0; i < 3; i++)
        assert_int_equal(done_with(&t, "{\"label\": \"cow\"}").done_code, 0);
    assert_int_equal(done_with(&t, "{\"label\": \"cat\"}").done_code, PO_ESTALE);
    assert_int_equal(po_task_cancel(client, id, NULL), 0);

    /* it is tried again as long as it has attempts */
    retry_ms = 1;
    assert_int_equal(submit("test:do", "1", NULL, NULL, &id), 0);
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        struct po__task_offer last = t;
        t = next_task(t.seq, false);
        assert_int_equal(t.task_id, id);
        assert_int_equal(t.attempt, attempt);
        assert_int_equal(done_with(&last, "{\"label\": \"cow\"}").done_code, PO_ESTALE);
        assert_int_equal(done_with(&t, "{\"label\": \"cow\"}").done_code, 0);
    }
    assert_int_equal(po_task_wait(client, id, NULL, &info), 0);
    assert_int_equal(info.state, PO_TASK_FAILED);
    assert_int_equal(info.attempts, 3);
    assert_string_equal(info.error,
                        "output of test:do 1.2.0 breaks its schema at /label: \"cow\" is none of "
                        "[\"cat\", \"dog\"] (enum)");
    po_free(info.result);
    po_free(info.error);

    assert_int_equal(submit("test:do", "1", NULL, NULL, &id), 0);
    t = next_task(t.seq, false);
    for (int i = 0; i < 2; i++)
        assert_int_equal(done_with(&t, "{\"label\": \"cat\"}").done_code, 0);
    /* the cluster has the answer; one that breaks the schema is another word, and too late */
    assert_int_equal(done_with(&t, "{\"label\": \"cow\"}").done_code, PO_ESTALE);
    assert_int_equal(po_task_wait(client, id, NULL, &info), 0);
    assert_int_equal(info.state, PO_TASK_SUCCEEDED);
    assert_string_equal(info.result, "{\"label\": \"cat\"}");
    po_free(info.result);
    po_free(info.error);
}

/* What takes too much work to be validated is refused, and said to be that. */
static void test_too_much_work(void **state)
{
    (void)state;
    char deep[121] = {0};
    uint64_t id;
    memset(deep, '[', 60);
    memset(deep + 60, ']', 60);
    assert_int_equal(
        register_worker("w", NULL, "x",
                        "{\"items\": {\"allOf\": [{\"$ref\": \"#\"}, {\"$ref\": \"#\"}]}}", NULL),
        0);
    assert_int_equal(submit("test:do", deep, NULL, NULL, &id), PO_ETOOBIG);
    said("input of test:do 1.0.0 cannot be validated");
    assert_int_equal(submit("test:do", "[[[1]]]", NULL, NULL, &id), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_registrations),        T(test_inputs),  T(test_equal_versions),
        T(test_repeated_submissions), T(test_batches), T(test_results),
        T(test_too_much_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
