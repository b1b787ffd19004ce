/* What testing.h does to one node, seen by a client with a plain socket, by callers in the process,
 * and by many threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/client.h>
#include <pipeorch/testing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/query.h"
#include "node/request.h"
#include "raw.h"

#define THREADS 4
#define ROUNDS  200

struct place {
    char dir[32], address[64];
    po_node *node;
    struct po_state_machine sm;
    int inside; /* what the calls of testing.h return to the node's own thread */
};

static const struct po_task_opts task = {.size = sizeof task, .capability = "nobody:home"};

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    struct place *p = arg;
    const uint64_t peer = 2;
    (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    p->inside = po_testing_pause(p->node, 1) == PO_EINVAL &&
                        po_testing_cut(p->node, &peer, 1) == PO_EINVAL &&
                        po_testing_crash(p->node) == PO_EINVAL
                    ? PO_EINVAL
                    : 0;
    return 0;
}

static int snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    (void)arg, (void)write, (void)ctx;
    return 0;
}

static int restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

static void start(struct place *p)
{
    char error[512];
    const struct po_member members[] = {{"here", "127.0.0.1:0"}};
    p->sm = (struct po_state_machine){sizeof p->sm, p, apply, snapshot, restore};
    struct po_node_opts opts = {.size = sizeof opts,
                                .name = "here",
                                .data_dir = p->dir,
                                .bootstrap = 1,
                                .listen = "127.0.0.1:0",
                                .members = members,
                                .members_count = 1,
                                .worker_listen = "127.0.0.1:0",
                                .election_ms = 100,
                                .heartbeat_ms = 20,
                                .state_machine = &p->sm};
    if (po_node_start(&p->node, &opts, error, sizeof error))
        fail_msg("%s", error);
    assert_int_equal(po_node_wait_leader(p->node, WAIT_GUARD_MS), 0);
    assert_int_equal(po_node_worker_address(p->node, p->address, sizeof p->address), 0);
}

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/po-faults-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    start(p);
    *state = p;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct place *p = *state;
    po_node_stop(p->node);
    nftw(p->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(p);
    return 0;
}

static uint64_t submit(struct place *p)
{
    uint64_t id = 0;
    const struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = WAIT_GUARD_MS};
    assert_int_equal(po_submit_task(po_node_client(p->node), &task, &opts, &id), 0);
    return id;
}

static void ask(int fd, uint32_t id, struct po__buf *b)
{
    assert_int_equal(b->err, 0);
    raw_send(fd, id, b->data, b->len);
    po__buf_fini(b);
}

/* A connection with a request that the node has parked: what came behind it was answered. */
static int parked(struct place *p)
{
    struct po__buf wait = {0}, behind = {0};
    const struct po__query q = {.what = PO_QUERY_STATUS};
    uint8_t body[1024];
    uint32_t id = 0;
    int fd = raw_connect(p->address);
    raw_greet(fd, PO__SP_REQ);
    po__request_wait(&wait, WAIT_GUARD_MS, 1 /* a task */, submit(p));
    ask(fd, 1, &wait);
    po__request_query(&behind, WAIT_GUARD_MS, &q);
    ask(fd, 2, &behind);
    assert_true(raw_recv(fd, &id, body, sizeof body) != SIZE_MAX);
    assert_int_equal(id, 2);
    return fd;
}

static void who_stops_answers_and_who_crashes_does_not(void **state)
{
    struct place *p = *state;
    uint8_t body[1024], byte;
    uint32_t id = 0;
    int fd = parked(p);
    po_node_stop(p->node);
    assert_true(raw_recv(fd, &id, body, sizeof body) != SIZE_MAX);
    assert_int_equal(id, 1);
    close(fd);
    start(p);
    fd = parked(p);
    assert_int_equal(po_testing_crash(p->node), 0);
    assert_false(raw_read(fd, &byte, 1));
    close(fd);
}

static void what_was_acknowledged_outlives_a_crash(void **state)
{
    struct place *p = *state;
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = submit(p)};
    char *json = NULL;
    assert_int_equal(po_testing_crash(p->node), 0);
    assert_int_equal(po_query(po_node_client(p->node), &q, NULL, &json), PO_ECLOSED);
    po_node_stop(p->node);
    start(p);
    assert_int_equal(po_query(po_node_client(p->node), &q, NULL, &json), 0);
    po_free(json);
}

static void on_result(void *arg, const struct po_result *r)
{
    assert_int_equal(r->code, 0);
    atomic_store((atomic_bool *)arg, true);
}

static void calls_wait_while_a_node_is_paused(void **state)
{
    struct place *p = *state;
    atomic_bool answered = false;
    struct po_node_status before = {.size = sizeof before}, after = before;
    assert_int_equal(po_testing_pause(p->node, 1), 0);
    po_node_status(p->node, &before);
    assert_int_equal(
        po_submit_task_async(po_node_client(p->node), &task, NULL, on_result, &answered), 0);
    int fd = raw_connect(p->address); /* the system accepts it */
    raw_hello(fd, PO__SP_REQ);
    po_node_status(p->node, &after);
    assert_true(after.applied_index == before.applied_index && after.role == PO_ROLE_LEADER);
    assert_false(atomic_load(&answered));
    assert_int_equal(po_testing_pause(p->node, 0), 0);
    wait_until(atomic_load(&answered));
    assert_int_equal(po_testing_pause(p->node, 0), 0); /* once more is nothing */
    close(fd);
}

static void the_nodes_own_thread_may_not(void **state)
{
    struct place *p = *state;
    assert_int_equal(po_apply(p->node, "x", 1, NULL, NULL, NULL), 0);
    assert_int_equal(p->inside, PO_EINVAL);
}

static void *disturb(void *arg)
{
    struct place *p = arg;
    const uint64_t peers[] = {2, 3};
    for (unsigned i = 0; i < ROUNDS; i++) {
        int rv = i % 3 == 0   ? po_testing_pause(p->node, 1)
                 : i % 3 == 1 ? po_testing_cut(p->node, peers, i % 2)
                              : po_testing_pause(p->node, 0);
        if (rv != 0 && rv != PO_ECLOSED)
            abort();
    }
    return NULL;
}

static void many_threads_disturb_a_node_that_crashes(void **state)
{
    struct place *p = *state;
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, disturb, p), 0);
    assert_int_equal(po_testing_crash(p->node), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(po_testing_pause(p->node, 0), PO_ECLOSED);
    po_node_stop(p->node);
    start(p);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, disturb, p), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(po_testing_pause(p->node, 0), 0);
    submit(p);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(who_stops_answers_and_who_crashes_does_not), T(what_was_acknowledged_outlives_a_crash),
        T(calls_wait_while_a_node_is_paused),          T(the_nodes_own_thread_may_not),
        T(many_threads_disturb_a_node_that_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
