/* One node, its client and a worker in one process, without a callback of our own: outcomes, events
 * and log lines come out of a completion queue, and tasks are pulled. Conditions are polled; one
 * that does not come within GUARD_MS never comes. */
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#include "place.h"

#define MANY 3000

static po_queue *queue;

static bool readable(int fd, int timeout_ms)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    return poll(&pfd, 1, timeout_ms) == 1;
}

static struct po_queue_item take_one(po_queue *q)
{
    struct po_queue_item item = {.size = sizeof item};
    size_t count;
    CHECK(readable(po_queue_fd(q), GUARD_MS));
    CHECK(po_queue_take(q, &item, 1, 0, &count) == 0 && count == 1);
    return item;
}

static uint64_t submit(struct place *p, const char *capability, const char *input)
{
    struct po_task_opts t = {.size = sizeof t, .capability = capability};
    uint64_t id;
    t.input = input;
    t.input_len = strlen(input);
    t.retry_ms = 1;
    CHECK(po_submit_task(p->client, &t, &patient, &id) == 0);
    return id;
}

/* ---- results ---- */

static void test_results(struct place *p)
{
    struct po_query good = {.size = sizeof good, .what = PO_QUERY_STATUS},
                    bad = {.size = sizeof bad, .what = PO_QUERY_TASK, .id = 999};
    po_ticket *ticket;
    struct po_queue_item item;
    CHECK(!readable(po_queue_fd(queue), 0));
    CHECK(po_queue_ticket(queue, 7, &ticket) == 0);
    CHECK(po_query_async(p->client, &good, NULL, po_queue_on_result, ticket) == 0);
    item = take_one(queue);
    CHECK(item.what == PO_ITEM_RESULT && item.code == 0 && item.tag == 7 && item.index > 0);
    CHECK(item.len == strlen(item.data) && strstr(item.data, "\"leader"));
    CHECK(po_queue_ticket(queue, 8, &ticket) == 0);
    CHECK(po_query_async(p->client, &bad, NULL, po_queue_on_result, ticket) == 0);
    item = take_one(queue);
    CHECK(item.code == PO_ENOTFOUND && item.tag == 8 && *item.message && !item.data);
    CHECK(!readable(po_queue_fd(queue), 0));
    /* What was not accepted never comes. */
    bad.what = 1000;
    CHECK(po_queue_ticket(queue, 9, &ticket) == 0);
    CHECK(po_query_async(p->client, &bad, NULL, po_queue_on_result, ticket) == PO_EINVAL);
    po_ticket_drop(ticket);
    size_t count = 1;
    item.size = sizeof item;
    CHECK(po_queue_take(queue, &item, 1, 1, &count) == PO_ETIMEDOUT && count == 0);
}

static void test_bound(struct place *p)
{
    const struct po_queue_opts opts = {.size = sizeof opts, .items_max = 2};
    const struct po_query q = {.size = sizeof q, .what = PO_QUERY_STATUS};
    po_queue *small;
    po_ticket *a, *b, *c;
    struct po_queue_item items[4] = {{.size = sizeof items[0]}};
    size_t count;
    CHECK(po_queue_open(&small, &opts) == 0);
    CHECK(po_queue_ticket(small, 1, &a) == 0 && po_queue_ticket(small, 2, &b) == 0);
    CHECK(po_queue_ticket(small, 3, &c) == PO_EBUSY);
    CHECK(po_query_async(p->client, &q, NULL, po_queue_on_result, a) == 0);
    CHECK(po_query_async(p->client, &q, NULL, po_queue_on_result, b) == 0);
    for (size_t got = 0; got < 2; got += count) {
        CHECK(po_queue_ticket(small, 3, &c) == PO_EBUSY); /* until they are taken */
        CHECK(po_queue_take(small, items, 1, GUARD_MS, &count) == 0);
        if (got == 0) {
            CHECK(po_queue_ticket(small, 3, &c) == 0);
            po_ticket_drop(c);
            CHECK(po_queue_ticket(small, 4, &c) == 0); /* stays out when the queue is closed */
        }
    }
    CHECK(po_query_async(p->client, &q, NULL, po_queue_on_result, c) == 0);
    po_queue_close(small); /* its result has nowhere to go */
}

/* ---- watches and logs ---- */

static void test_watch(struct place *p)
{
    struct po_watch_opts opts = {.size = sizeof opts, .kinds = PO_WATCH_TASKS};
    struct po_task_opts *tasks = calloc(MANY, sizeof *tasks);
    static struct po_queue_item items[64];
    po_watch *watch;
    po_ticket *ticket;
    uint64_t index = 0;
    uint32_t position = 0;
    size_t count, seen = 0;
    CHECK(tasks && po_watch_open(&watch, p->client, &opts, &patient) == 0);
    CHECK(po_queue_watch(queue, 21, watch, &ticket) == 0);
    for (size_t i = 0; i < MANY; i++)
        tasks[i] = (struct po_task_opts){.size = sizeof *tasks, .capability = "nobody:does"};
    CHECK(po_submit_tasks(p->client, tasks, MANY, &patient, NULL, NULL) == 0);
    free(tasks);
    items[0].size = sizeof items[0];
    while (seen < MANY) { /* more than wait at a time: the watch stands still, and goes on */
        CHECK(po_queue_take(queue, items, 64, GUARD_MS, &count) == 0);
        for (size_t i = 0; i < count; i++, seen++) {
            CHECK(items[i].what == PO_ITEM_EVENT && items[i].tag == 21 && items[i].code == 0);
            CHECK(strstr(items[i].data, "\"event\": \"task_submitted\""));
            CHECK(items[i].index > index ||
                  (items[i].index == index && items[i].position > position));
            index = items[i].index;
            position = items[i].position;
        }
    }
    /* What came before the watch was closed stays; what happens later does not come. */
    submit(p, "nobody:does", "1");
    CHECK(readable(po_queue_fd(queue), GUARD_MS));
    po_ticket_drop(ticket);
    submit(p, "nobody:does", "1");
    CHECK(po_queue_take(queue, items, 64, 0, &count) == 0 && count == 1 && items[0].tag == 21);
    CHECK(po_queue_take(queue, items, 64, 1, &count) == PO_ETIMEDOUT);
}

/* A watch whose source ends tells so, and where it came to. */
static void test_watch_ends(struct place *p)
{
    struct po_queue_item item;
    po_client *client;
    po_watch *watch;
    po_ticket *ticket;
    CHECK(po_client_open(&client, p->address, NULL) == 0);
    CHECK(po_watch_open(&watch, client, NULL, &patient) == 0);
    CHECK(po_queue_watch(queue, 22, watch, &ticket) == 0);
    po_client_close(client);
    item = take_one(queue);
    CHECK(item.what == PO_ITEM_EVENT && item.tag == 22 && item.code == PO_ECLOSED &&
          item.index > 0);
    po_ticket_drop(ticket);
}

static void test_log(void)
{
    static struct po_queue_item items[PO_QUEUE_STREAM_MAX + 8];
    const struct po_log_event e = {.size = sizeof e,
                                   .level = PO_LOG_WARN,
                                   .time_ms = 5,
                                   .id = "a.b",
                                   .name = "n",
                                   .message = "text"};
    po_ticket *ticket;
    size_t count;
    CHECK(po_queue_log(queue, 31, &ticket) == 0);
    for (size_t i = 0; i < PO_QUEUE_STREAM_MAX + 3; i++)
        po_queue_on_log(ticket, &e);
    items[0].size = sizeof items[0];
    CHECK(po_queue_take(queue, items, PO_QUEUE_STREAM_MAX + 8, 0, &count) == 0);
    CHECK(count == PO_QUEUE_STREAM_MAX && items[0].lost == 0 && items[0].code == PO_LOG_WARN);
    CHECK(strcmp(items[1].data, "text") == 0 && strcmp(items[1].message, "a.b") == 0 &&
          strcmp(items[1].name, "n") == 0 && items[1].tag == 31);
    po_queue_on_log(ticket, &e);
    po_queue_on_log(ticket, &e);
    CHECK(po_queue_take(queue, items, 8, 0, &count) == 0 && count == 2);
    CHECK(items[0].lost == 3 && items[1].lost == 0);
    po_ticket_drop(ticket);
}

/* ---- pulling ---- */

static void start_worker(struct place *p)
{
    struct po_capability plain = {.size = sizeof plain, .name = "pull:plain", .max_concurrency = 3},
                         strict = {.size = sizeof strict,
                                   .name = "pull:strict",
                                   .input_schema = "{\"type\": \"integer\"}",
                                   .output_schema = "{\"type\": \"integer\"}"};
    struct po_grant grant = {.size = sizeof grant};
    size_t count;
    open_worker(p, (struct po_worker_opts){0});
    CHECK(po_worker_handle(p->worker, &plain, NULL, NULL) == 0);
    CHECK(po_worker_handle(p->worker, &strict, NULL, NULL) == 0);
    CHECK(po_worker_take(p->worker, &grant, 1, 0, &count) == PO_ETIMEDOUT);
    run_worker(p);
    CHECK(po_worker_wait_ready(p->worker, GUARD_MS) == 0);
}

static struct po_grant pull(struct place *p)
{
    struct po_grant g = {.size = sizeof g};
    size_t count;
    CHECK(po_worker_take(p->worker, &g, 1, GUARD_MS, &count) == 0 && count == 1);
    return g;
}

static void finished(struct place *p, uint64_t id, int state, const char *result)
{
    struct po_task_info info = {.size = sizeof info};
    CHECK(po_task_wait(p->client, id, &patient, &info) == 0);
    CHECK(info.state == state);
    CHECK(!result || (info.result && strcmp(info.result, result) == 0));
    po_free(info.result);
    po_free(info.error);
}

static void test_pull(struct place *p)
{
    struct po_grant grants[8] = {{.size = sizeof grants[0]}};
    uint64_t ids[5];
    size_t count, got = 0;
    for (size_t i = 0; i < 5; i++)
        ids[i] = submit(p, "pull:plain", "[1]");
    while (got < 3) {
        struct po_grant some[8] = {{.size = sizeof some[0]}};
        CHECK(readable(po_worker_fd(p->worker), GUARD_MS));
        CHECK(po_worker_take(p->worker, some, 8, 0, &count) == 0);
        memcpy(grants + got, some, count * sizeof some[0]);
        got += count;
    }
    CHECK(got == 3); /* as many as its concurrency allows */
    CHECK(!readable(po_worker_fd(p->worker), 0));
    CHECK(po_worker_take(p->worker, grants + 3, 1, 0, &count) == PO_EINVAL); /* no size */
    for (size_t i = 0; i < 3; i++) {
        CHECK(grants[i].what == PO_GRANT_TASK && grants[i].capability == 0 &&
              grants[i].attempt == 1);
        CHECK(grants[i].id == ids[i] && grants[i].input_len == 3 && grants[i].token);
        CHECK(strcmp(grants[i].input, "[1]") == 0 && grants[i].checkpoint == NULL);
        CHECK(po_task_complete(grants[i].task, "2", 1) == 0);
    }
    for (size_t i = 3; i < 5; i++) {
        struct po_grant g = pull(p);
        CHECK(po_task_checkpoint(g.task, 500, "half", 4) == 0);
        CHECK(po_task_fail(g.task, "again", 1) == 0);
    }
    for (size_t i = 3; i < 5; i++) {
        struct po_grant g = pull(p);
        CHECK(g.attempt == 2 && g.checkpoint_len == 4 && memcmp(g.checkpoint, "half", 4) == 0);
        CHECK(po_task_complete(g.task, "2", 1) == 0);
    }
    for (size_t i = 0; i < 5; i++)
        finished(p, ids[i], PO_TASK_SUCCEEDED, "2");
}

static void test_pull_schema(struct place *p)
{
    uint64_t id = submit(p, "pull:strict", "4");
    struct po_grant g = pull(p);
    CHECK(g.capability == 1 && g.id == id);
    CHECK(po_task_complete(g.task, "\"no\"", 4) == PO_EINVAL); /* still ours */
    CHECK(po_task_complete(g.task, "5", 1) == 0);
    finished(p, id, PO_TASK_SUCCEEDED, "5");
}

static void test_lost(struct place *p)
{
    uint64_t id = submit(p, "pull:plain", "1");
    struct po_grant g = pull(p), lost;
    CHECK(po_task_cancel(p->client, id, &patient) == 0);
    CHECK(readable(po_worker_fd(p->worker), GUARD_MS));
    lost = pull(p);
    CHECK(lost.what == PO_GRANT_LOST && lost.task == g.task && lost.id == id && !lost.input);
    CHECK(lost.token == g.token && po_task_cancelled(g.task));
    CHECK(!readable(po_worker_fd(p->worker), 0)); /* it is told once */
    CHECK(po_task_complete(g.task, NULL, 0) == 0);
    finished(p, id, PO_TASK_CANCELLED, NULL);
    /* One that is answered before anybody looks is not told. */
    id = submit(p, "pull:plain", "1");
    g = pull(p);
    CHECK(po_task_cancel(p->client, id, &patient) == 0);
    CHECK(readable(po_worker_fd(p->worker), GUARD_MS));
    CHECK(po_task_complete(g.task, NULL, 0) == 0);
    id = submit(p, "pull:plain", "3");
    g = pull(p);
    CHECK(g.what == PO_GRANT_TASK && g.id == id);
    CHECK(po_task_complete(g.task, "3", 1) == 0);
    finished(p, id, PO_TASK_SUCCEEDED, "3");
}

static void *pull_to_the_end(void *arg)
{
    struct po_grant g = {.size = sizeof g};
    size_t count;
    int rv;
    while ((rv = po_worker_take(arg, &g, 1, GUARD_MS, &count)) == 0)
        CHECK(po_task_fail(g.task, "unexpected", 0) == 0);
    CHECK(rv == PO_ECLOSED);
    return NULL;
}

static void test_end(struct place *p)
{
    pthread_t threads[3];
    struct po_grant g = {.size = sizeof g};
    size_t count;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, pull_to_the_end, p->worker) == 0);
    po_worker_stop(p->worker);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    pthread_join(p->thread, NULL);
    CHECK(readable(po_worker_fd(p->worker), 0)); /* whoever polls learns it, too */
    CHECK(po_worker_take(p->worker, &g, 1, GUARD_MS, &count) == PO_ECLOSED);
    po_worker_close(p->worker);
}

static void test_sizes(void)
{
    CHECK(po_struct_size("po_task_opts") == sizeof(struct po_task_opts));
    CHECK(po_struct_size("po_grant") == sizeof(struct po_grant));
    CHECK(po_struct_size("po_nothing") == 0 && po_struct_size(NULL) == 0);
}

int main(void)
{
    struct place p = {0};
    test_sizes();
    open_place(&p);
    CHECK(po_queue_open(&queue, NULL) == 0);
    test_results(&p);
    test_bound(&p);
    test_watch(&p);
    test_watch_ends(&p);
    test_log();
    start_worker(&p);
    test_pull(&p);
    test_pull_schema(&p);
    test_lost(&p);
    test_end(&p);
    close_place(&p);
    po_queue_close(queue);
    return 0;
}
