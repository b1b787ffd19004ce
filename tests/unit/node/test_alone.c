/* A node without others: calls that find no leader, the end of the node with threads and calls that
 * wait, a mailbox that is full, and calls made by callbacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/internal.h"

static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-alone.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static atomic_uint applied_count;
static sem_t in_apply, go_on; /* a command "hold" waits in apply for the test */

static int count_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                       size_t *result_len)
{
    (void)arg, (void)index, (void)result;
    *result_len = 0;
    if (len == 4 && memcmp(cmd, "hold", 4) == 0) {
        sem_post(&in_apply);
        sem_wait(&go_on);
    } else {
        atomic_fetch_add(&applied_count, 1);
    }
    return 0;
}

static int no_snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    (void)arg, (void)write, (void)ctx;
    return 0;
}

static int no_restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

static const struct po_state_machine machine = {sizeof machine, NULL, count_apply, no_snapshot,
                                                no_restore};

static po_node *start(unsigned members_count)
{
    /* Port 1 answers nobody: the others are never there. */
    static const struct po_member founding[] = {
        {"here", "127.0.0.3:1"}, {"there", "127.0.0.1:1"}, {"yonder", "127.0.0.2:1"}};
    static const struct po_member alone = {"here", NULL};
    po_node *node = NULL;
    char error[512] = "";
    struct po_node_opts o = {.size = sizeof o,
                             .name = "here",
                             .data_dir = dir,
                             .bootstrap = 1,
                             .members = members_count > 1 ? founding : &alone,
                             .members_count = members_count,
                             .listen = members_count > 1 ? "127.0.0.1:0" : NULL,
                             .advertise = members_count > 1 ? founding[0].address : NULL,
                             .state_machine = &machine,
                             .election_ms = 100};
    int rv = po_node_start(&node, &o, error, sizeof error);
    if (rv)
        print_error("%s: %s\n", po_err_name(rv), error);
    assert_int_equal(rv, 0);
    return node;
}

/* ---- no leader ---- */

static atomic_uint answers_count, closed_count, done_count;

static void on_answer(void *arg, const struct po_result *r)
{
    (void)arg;
    atomic_fetch_add(&closed_count, r->code == PO_ECLOSED);
    atomic_fetch_add(&done_count, r->code == 0);
    atomic_fetch_add(&answers_count, 1);
}

/* A majority is away: calls are answered at their deadline, and say that nothing was done. */
static void test_no_leader(void **state)
{
    (void)state;
    po_node *node = start(3);
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = 200, .key = "k", .key_len = 1};
    assert_int_equal(po_apply(node, "x", 1, &o, NULL, NULL), PO_ENOLEADER);
    assert_int_equal(
        po_apply(node, "x", 1, &(struct po_call_opts){sizeof o, 200, NULL, 0}, NULL, NULL),
        PO_ENOLEADER);
    assert_int_equal(po_read_barrier(node, &o), PO_ENOLEADER);
    struct po_task_opts t = {.size = sizeof t, .capability = "test:do"};
    assert_int_equal(po_submit_task(po_node_client(node), &t, &o, NULL), PO_ENOLEADER);
    assert_int_equal(po_node_wait_leader(node, 1), PO_ETIMEDOUT);

    /* the end of the node answers what still waits, also callbacks that would wait for long */
    atomic_store(&answers_count, 0);
    atomic_store(&closed_count, 0);
    o.timeout_ms = PO_TIMEOUT_MAX_MS;
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(po_apply_async(node, "y", 1, &o, on_answer, NULL), 0);
    po_node_stop(node);
    assert_int_equal(atomic_load(&answers_count), 50);
    assert_int_equal(atomic_load(&closed_count), 50);
}

static void *watch(void *arg)
{
    return (void *)(intptr_t)po_node_wait_leader(arg, PO_TIMEOUT_MAX_MS);
}

/* Threads that wait for a leader are let go, and have left, before the node is freed. */
static void test_stop_frees_watchers(void **state)
{
    (void)state;
    pthread_t t[4];
    void *rv;
    po_node *node = start(3);
    struct po__node *core = *(struct po__node **)node; /* its first member */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, watch, node), 0);
    for (unsigned inside = 0; inside < 4; sched_yield()) {
        pthread_mutex_lock(&core->status_lock);
        inside = core->watchers;
        pthread_mutex_unlock(&core->status_lock);
    }
    po_node_stop(node);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &rv);
        assert_int_equal((intptr_t)rv, PO_ECLOSED);
    }
}

/* ---- a full mailbox ---- */

/* The node thread is busy: calls are taken up to the bound, then refused at once; each that was
 * taken is applied. A lone member needs no address. */
static void test_full_mailbox(void **state)
{
    (void)state;
    unsigned taken = 0;
    int rv;
    po_node *node = start(1);
    sem_init(&in_apply, 0, 0);
    sem_init(&go_on, 0, 0);
    assert_int_equal(po_node_wait_leader(node, 10000), 0);
    atomic_store(&answers_count, 0);
    atomic_store(&done_count, 0);
    atomic_store(&applied_count, 0);
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = 120000};
    assert_int_equal(po_apply_async(node, "hold", 4, &o, on_answer, NULL), 0);
    sem_wait(&in_apply);
    while ((rv = po_apply_async(node, "x", 1, &o, on_answer, NULL)) == 0)
        taken++;
    assert_int_equal(rv, PO_EBUSY);
    assert_int_equal(taken, PO__MAILBOX_MAX_COUNT);
    sem_post(&go_on);
    for (int i = 0; i < 60000 && atomic_load(&answers_count) < taken + 1; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&answers_count), taken + 1);
    assert_int_equal(atomic_load(&done_count), taken + 1);
    assert_int_equal(atomic_load(&applied_count), taken);
    po_node_stop(node);
    sem_destroy(&in_apply);
    sem_destroy(&go_on);
}

struct batches {
    atomic_uint answers, done, busy, torn;
};

static void on_batch(void *arg, int code, const void *resp, size_t len)
{
    struct batches *b = arg;
    struct po__response r;
    if (code || po__response_decode(resp, len, &r)) {
        atomic_fetch_add(&b->torn, 1);
    } else if (r.code) {
        atomic_fetch_add(&b->busy, r.code == PO_EBUSY);
    } else {
        struct po__mpr mr;
        po__mpr_init(&mr, r.body.data, r.body.len);
        uint32_t refused = 0, count = po__mpr_array(&mr, PO__BATCH_MAX);
        for (uint32_t i = 0; i < count; i++) {
            po__mpr_array(&mr, 4);
            refused += po__mpr_int(&mr) != 0;
            for (int skip = 0; skip < 3; skip++)
                po__mpr_raw(&mr);
        }
        atomic_fetch_add(mr.err || refused ? &b->torn : &b->done, 1);
    }
    atomic_fetch_add(&b->answers, 1);
}

/* More commands than the stage holds: a batch gets in as a whole, or is refused as a whole. */
static void test_batches_are_not_torn(void **state)
{
    (void)state;
    enum { BATCHES = 15, COMMANDS = 4, BYTES = 1000000 };
    po_node *node = start(1);
    struct po__node *core = *(struct po__node **)node; /* its first member */
    struct batches b = {0};
    struct po__buf request = {0};
    struct po__cmd cmd = {.type = PO__CMD_APP};
    char *payload = calloc(1, BYTES);
    cmd.app.data = po__slice(payload, BYTES);
    po__request_begin(&request, PO__REQ_BATCH, 120000, 1);
    po__mpw_array(&request, COMMANDS);
    for (int i = 0; i < COMMANDS; i++)
        po__cmd_encode(&request, &cmd);
    assert_int_equal(request.err, 0);
    sem_init(&in_apply, 0, 0);
    sem_init(&go_on, 0, 0);
    assert_int_equal(po_node_wait_leader(node, 10000), 0);
    atomic_store(&applied_count, 0);
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = 120000};
    assert_int_equal(po_apply_async(node, "hold", 4, &o, on_answer, NULL), 0);
    sem_wait(&in_apply);
    for (int i = 0; i < BATCHES; i++)
        assert_int_equal(po__node_request(core, request.data, request.len, true, 0,
                                          (struct po__reply_to){on_batch, &b}),
                         0);
    sem_post(&go_on);
    for (int i = 0; i < 60000 && atomic_load(&b.answers) < BATCHES; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&b.answers), BATCHES);
    assert_int_equal(atomic_load(&b.torn), 0);
    assert_true(atomic_load(&b.busy) > 0);
    assert_int_equal(atomic_load(&b.done) + atomic_load(&b.busy), BATCHES);
    assert_int_equal(atomic_load(&applied_count), atomic_load(&b.done) * COMMANDS);
    po_node_stop(node);
    po__buf_fini(&request);
    free(payload);
    sem_destroy(&in_apply);
    sem_destroy(&go_on);
}

/* Callbacks may make calls: a chain of them goes on without anybody else waking the node. */
struct chain {
    po_node *node;
    unsigned left;
    sem_t end;
};

static void next_link(void *arg, const struct po_result *r)
{
    struct chain *c = arg;
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = 60000};
    if (r->code || --c->left == 0 || po_read_barrier_async(c->node, &o, next_link, c))
        sem_post(&c->end);
}

static void test_calls_from_callbacks(void **state)
{
    (void)state;
    struct chain c = {.node = start(1), .left = 1000};
    sem_init(&c.end, 0, 0);
    assert_int_equal(po_node_wait_leader(c.node, 10000), 0);
    assert_int_equal(po_read_barrier_async(c.node, NULL, next_link, &c), 0);
    sem_wait(&c.end);
    assert_int_equal(c.left, 0);
    po_node_stop(c.node);
    sem_destroy(&c.end);
}

/* They would hold up the whole node, and are told so; a thread of the caller's own may. */
struct snapshots {
    po_node *node;
    char file[80], folder[80];
    int save, save_dir, inspect, restore;
    char error[300];
    sem_t end;
};

static void call_snapshots(struct snapshots *s)
{
    struct po_snapshot_save_opts online = {
        .size = sizeof online, .path = s->file, .client = po_node_client(s->node), .overwrite = 1};
    struct po_snapshot_save_opts offline = {
        .size = sizeof offline, .path = s->file, .data_dir = dir, .overwrite = 1};
    struct po_snapshot_restore_opts r = {
        .size = sizeof r, .path = s->file, .data_dir = s->folder, .name = "new"};
    s->save = po_snapshot_save(&online, NULL, s->error, sizeof s->error);
    s->save_dir = po_snapshot_save(&offline, NULL, NULL, 0);
    s->inspect = po_snapshot_inspect(s->file, NULL, NULL, 0);
    s->restore = po_snapshot_restore(&r, NULL, NULL, 0);
}

static void on_barrier(void *arg, const struct po_result *r)
{
    struct snapshots *s = arg;
    (void)r;
    call_snapshots(s);
    sem_post(&s->end);
}

static void test_snapshots_in_callbacks_are_refused(void **state)
{
    (void)state;
    struct snapshots s = {.node = start(1)};
    snprintf(s.file, sizeof s.file, "%s/backup", dir);
    snprintf(s.folder, sizeof s.folder, "%s/restored", dir);
    sem_init(&s.end, 0, 0);
    assert_int_equal(po_node_wait_leader(s.node, 10000), 0);
    assert_int_equal(po_read_barrier_async(s.node, NULL, on_barrier, &s), 0);
    sem_wait(&s.end);
    assert_int_equal(s.save, PO_EINVAL);
    assert_non_null(strstr(s.error, "po_snapshot_save was called in a callback"));
    assert_int_equal(s.save_dir, PO_EINVAL);
    assert_int_equal(s.inspect, PO_EINVAL);
    assert_int_equal(s.restore, PO_EINVAL);
    assert_int_not_equal(access(s.file, F_OK), 0);
    call_snapshots(&s);
    if (s.save)
        fail_msg("%s: %s", po_err_name(s.save), s.error);
    assert_int_equal(s.save_dir, PO_ELOCKED);
    assert_int_equal(s.inspect, 0);
    assert_int_equal(s.restore, 0);
    po_node_stop(s.node);
    sem_destroy(&s.end);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_no_leader),
        TEST(test_stop_frees_watchers),
        TEST(test_full_mailbox),
        TEST(test_batches_are_not_torn),
        TEST(test_calls_from_callbacks),
        TEST(test_snapshots_in_callbacks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
