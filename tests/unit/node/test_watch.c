/* Watching one node: what is answered at once, what is parked and until when, and that a node which
 * starts again derives the same events at the same positions. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "one_node.h"

#define EVENTS_MAX 64

static char dir[64];
static uint64_t snapshot_bytes;

static int setup(void **state)
{
    (void)state;
    snapshot_bytes = 1 << 20;
    strcpy(dir, "/tmp/po-watch.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return remove_folder(dir);
}

static po_client *client_of(struct po__node *node)
{
    struct po__channel *ch;
    po_client *client;
    assert_int_equal(po__channel_local(&ch, node), 0);
    assert_int_equal(po__client_over(&client, ch), 0);
    return client;
}

static uint64_t submit(po_client *client, const char *input)
{
    struct po_task_opts t = {
        .size = sizeof t, .capability = "a:x", .input = input, .input_len = strlen(input)};
    uint64_t id = 0;
    assert_int_equal(po_submit_task(client, &t, NULL, &id), 0);
    return id;
}

/* ---- requests ---- */

struct answer {
    sem_t came;
    int code;
    char message[256];
    bool gone;
    struct po__watch_pos end;
    uint32_t count;
    struct {
        struct po__watch_pos at;
        uint64_t time_ms, id;
        uint32_t kind;
    } events[EVENTS_MAX];
};

static int read_body(struct answer *a, const struct po__response *resp)
{
    struct po__mpr r;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    a->gone = po__mpr_bool(&r);
    a->end.index = po__mpr_uint(&r, UINT64_MAX);
    a->end.position = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    a->count = po__mpr_array(&r, EVENTS_MAX);
    for (uint32_t i = 0; i < a->count; i++) {
        struct po__watch_event e;
        po__watch_event_decode(&r, &e);
        a->events[i].at = e.at;
        a->events[i].time_ms = e.time_ms;
        a->events[i].id = e.event.id;
        a->events[i].kind = e.event.kind;
    }
    return po__mpr_end(&r);
}

static void take(void *arg, int code, const void *data, size_t len)
{
    struct answer *a = arg;
    struct po__response resp = {0};
    code = code ? code : po__response_decode(data, len, &resp);
    code = code ? code : resp.code;
    snprintf(a->message, sizeof a->message, "%.*s", (int)resp.message.len,
             resp.message.len ? resp.message.data : "");
    a->code = code ? code : read_body(a, &resp);
    sem_post(&a->came);
}

static void send_request(struct po__node *node, const struct po__request *req, uint64_t conn,
                         struct answer *a)
{
    struct po__buf b;
    memset(a, 0, sizeof *a);
    sem_init(&a->came, 0, 0);
    po__buf_init(&b, 0);
    po__request_watch(&b, req);
    assert_int_equal(
        po__node_request(node, b.data, b.len, conn == 0, conn, (struct po__reply_to){take, a}), 0);
    po__buf_fini(&b);
}

static void await(struct answer *a)
{
    sem_wait(&a->came);
    sem_destroy(&a->came);
}

static bool is_answered(struct answer *a)
{
    int waiting = 0;
    sem_getvalue(&a->came, &waiting);
    return waiting != 0;
}

static struct po__request watch(uint64_t after_index, uint32_t after_position, uint32_t wait_ms)
{
    struct po__request req = {.timeout_ms = 20000};
    req.watch.after_index = after_index;
    req.watch.after_position = after_position;
    req.watch.wait_ms = wait_ms;
    return req;
}

static struct answer ask(struct po__node *node, struct po__request req)
{
    static struct answer a;
    send_request(node, &req, 0, &a);
    await(&a);
    return a;
}

/* From `from` on, without waiting. */
static struct answer ask_all(struct po__node *node, uint64_t from)
{
    struct answer a = ask(node, watch(from, 0, 0));
    assert_int_equal(a.code, 0);
    return a;
}

/* ---- tests ---- */

static void test_parked_until_something_happens(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    po_client *client = client_of(node);
    submit(client, "1");
    struct answer now = ask(node, watch(0, 0, 20000)); /* says at once where "now" is */
    assert_int_equal(now.code, 0);
    assert_int_equal(now.count, 0);
    assert_false(now.gone);

    static struct answer a, other;
    struct po__request req = watch(now.end.index, now.end.position, 20000);
    send_request(node, &req, 0, &a);
    req.watch.kinds = PO_WATCH_RUNS;
    send_request(node, &req, 0, &other);
    uint64_t id = submit(client, "2");
    await(&a);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.events[0].kind, PO_WATCH_TASK_SUBMITTED);
    assert_int_equal(a.events[0].id, id);
    assert_true(a.events[0].time_ms > 0);
    submit(client, "3");
    assert_false(is_answered(&other)); /* none of its kind */
    struct answer more = ask(node, watch(a.end.index, a.end.position, 20000));
    assert_int_equal(more.count, 1);
    assert_int_equal(more.events[0].id, id + 1);
    assert_int_equal(po_task_cancel(client, id, NULL), 0);

    po__node_destroy(node); /* before the client, whose calls then are refused */
    await(&other);
    assert_int_equal(other.code, PO_ECLOSED);
    po_client_close(client);
}

/* What a filter leaves out was looked at: the next request need not look again. */
static void test_nothing_in_time(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    po_client *client = client_of(node);
    uint64_t id = submit(client, "1");
    struct po__request req = watch(1, 0, 60);
    req.watch.task_id = id + 1;
    struct answer a = ask(node, req);
    assert_int_equal(a.code, 0);
    assert_int_equal(a.count, 0);
    struct answer all = ask_all(node, 1);
    assert_true(all.count >= 3); /* member, leader, task */
    assert_true(po__watch_pos_cmp(a.end, all.events[all.count - 1].at) >= 0);
    assert_int_equal(ask_all(node, a.end.index).count, 0);
    submit(client, "2");
    req.watch.after_index = a.end.index;
    req.watch.after_position = a.end.position;
    a = ask(node, req);
    assert_int_equal(a.count, 1);
    req.watch.after_index = PO_WATCH_OLDEST;
    req.watch.task_id = 0;
    req.watch.limit = 2;
    a = ask(node, req);
    assert_int_equal(a.count, 2);
    assert_true(po__watch_pos_cmp(a.end, a.events[1].at) == 0);
    po__node_destroy(node);
    po_client_close(client);
}

static void test_the_same_events_after_a_restart(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    po_client *client = client_of(node);
    for (int i = 0; i < 5; i++)
        submit(client, "1");
    struct answer before = ask_all(node, 1);
    assert_int_equal(before.events[before.count - 1].id, 5);
    po__node_destroy(node);
    po_client_close(client);

    node = start_one(dir, 0, snapshot_bytes, 1); /* the log, once more */
    struct answer after = ask_all(node, 1);
    assert_true(after.count >= before.count); /* and that it leads again */
    assert_memory_equal(after.events, before.events, before.count * sizeof *before.events);
    po__node_destroy(node);
}

static void test_history_that_is_gone(void **state)
{
    (void)state;
    static char input[40000];
    memset(input, '1', sizeof input - 1);
    snapshot_bytes = 64 << 10;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    po_client *client = client_of(node);
    for (int i = 0; i < 12; i++)
        submit(client, input);
    struct answer whole = ask_all(node, 1); /* the snapshots took nothing out of memory */
    assert_false(whole.gone);
    assert_int_equal(whole.events[whole.count - 1].id, 12);
    struct po_node_status st = {.size = sizeof st};
    for (int i = 0; i < 20000 && st.snapshot_index <= 1; i++, usleep(500))
        po__node_status(node, &st);
    assert_true(st.snapshot_index > 1);
    po__node_destroy(node);
    po_client_close(client);

    node = start_one(dir, 0, snapshot_bytes, 1);
    struct answer a = ask(node, watch(1, 0, 20000)); /* at once, although there is nothing yet */
    assert_int_equal(a.code, 0);
    assert_true(a.gone);
    assert_int_equal(a.count, 0);
    assert_true(a.end.index > 1);
    struct answer rest = ask(node, watch(a.end.index, a.end.position, 0));
    assert_false(rest.gone);
    struct answer oldest = ask(node, watch(PO_WATCH_OLDEST, 0, 0));
    assert_false(oldest.gone);
    assert_true(oldest.count >= rest.count);          /* it may have begun to lead in between */
    for (uint32_t i = 0, k = 0; i < whole.count; i++) /* what is left is as it was */
        if (po__watch_pos_cmp(a.end, whole.events[i].at) < 0)
            assert_memory_equal(&rest.events[k++], &whole.events[i], sizeof *whole.events);
    po__node_destroy(node);
}

static void test_ahead_of_the_log(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    struct answer a = ask(node, watch(100000, 0, 20000));
    assert_int_equal(a.code, PO_EINVAL);
    assert_non_null(strstr(a.message, "100000 is ahead of the log"));
    po__node_destroy(node);
}

static void test_as_many_as_are_allowed(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, snapshot_bytes, 1);
    struct answer *parked = calloc(PO__WATCHES_MAX, sizeof *parked);
    assert_non_null(parked);
    struct answer now = ask(node, watch(0, 0, 0));
    struct po__request req = watch(now.end.index + 1, 0, 20000);
    req.watch.after_index = now.end.index;
    req.watch.kinds = PO_WATCH_RUNS;
    for (int i = 0; i < PO__WATCHES_MAX; i++)
        send_request(node, &req, 1 + i % 2, &parked[i]);
    assert_int_equal(ask(node, req).code, PO_EBUSY);
    assert_int_equal(ask(node, watch(1, 0, 0)).code, 0); /* which need not wait */
    assert_int_equal(po__node_conn_closed(node, 2), 0);
    for (int i = 1; i < PO__WATCHES_MAX; i += 2) { /* those of the connection that ended */
        await(&parked[i]);
        assert_int_equal(parked[i].code, PO_ECLOSED);
    }
    req.watch.wait_ms = 1; /* there is room again */
    assert_int_equal(ask(node, req).code, 0);
    po__node_destroy(node);
    for (int i = 0; i < PO__WATCHES_MAX; i += 2) {
        await(&parked[i]);
        assert_int_equal(parked[i].code, PO_ECLOSED);
    }
    free(parked);
}

static unsigned leaders(struct po__node *node)
{
    struct answer a = ask_all(node, 1);
    unsigned n = 0;
    for (uint32_t i = 0; i < a.count; i++)
        n += a.events[i].kind == PO_WATCH_LEADER;
    return n;
}

/* A command that an older member would not know stays away until there is none. */
static void test_leaders_are_told_when_all_know_it(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, PO__LEVEL_WISHES, snapshot_bytes, 1);
    po_client *client = client_of(node);
    submit(client, "1");
    assert_int_equal(leaders(node), 0);
    po__node_destroy(node);
    po_client_close(client);
    node = start_one(dir, 0, snapshot_bytes, 1);
    struct po__request req = watch(1, 0, 20000);
    req.watch.kinds = PO_WATCH_BIT(PO_WATCH_LEADER);
    struct answer a = ask(node, req);
    assert_int_equal(a.count, 1);
    assert_int_equal(a.events[0].id, po__node_identity(node)->node_id);

    struct po__cmd *cmd = calloc(1, sizeof *cmd); /* and nobody else may say who leads */
    struct po__buf b;
    assert_non_null(cmd);
    cmd->type = PO__CMD_LEADER;
    cmd->leader.node_id = cmd->leader.term = 7;
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_command(&b, 10000, cmd);
    free(cmd);
    memset(&a, 0, sizeof a);
    sem_init(&a.came, 0, 0);
    assert_int_equal(
        po__node_request(node, b.data, b.len, true, 0, (struct po__reply_to){take, &a}), 0);
    po__buf_fini(&b);
    await(&a);
    assert_int_equal(a.code, PO_EREFUSED);
    assert_int_equal(leaders(node), 1);
    po__node_destroy(node);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_parked_until_something_happens),
        TEST(test_nothing_in_time),
        TEST(test_the_same_events_after_a_restart),
        TEST(test_history_that_is_gone),
        TEST(test_ahead_of_the_log),
        TEST(test_as_many_as_are_allowed),
        TEST(test_leaders_are_told_when_all_know_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
