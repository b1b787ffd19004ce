/* Calls that a follower forwards, against leaders played by the test: frames, replies and silence
 * are put in on the node thread, what the node sends is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/identity.h"
#include "consensus/wire.h"
#include "node/node.h"

static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-forward.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Node 1 of three, its network, and what the test wants done on its thread. */
struct stand {
    struct po__node *node;
    struct po__node_net net;
    uv_async_t async;
    void (*closed)(void *arg);
    void *closed_arg;
    sem_t asked,
        done; /* a job is handed over, is done (libuv's own hand-over is unknown to TSan) */
    uint64_t peer, term, reply_id; /* of the job */
    int reply_code;
    uint64_t reply_index;
    atomic_uint forwards; /* calls sent to a leader; the last one: */
    uint64_t forward_peer, forward_id;
    atomic_int answers, code;                        /* of the call under test */
    atomic_uint read_index, read_term, staleness_ms; /* of a read */
};

/* ---- the network: nothing but a record of it ---- */

static void send_nothing(void *arg, uint64_t peer_id, struct po__frame *frame)
{
    (void)arg, (void)peer_id;
    po__frame_unref(frame);
}

static void no_servers(void *arg, const struct po__server *servers, unsigned count)
{
    (void)arg, (void)servers, (void)count;
}

static size_t nothing_queued(void *arg, uint64_t peer_id)
{
    (void)arg, (void)peer_id;
    return 0;
}

static int record_forward(void *arg, uint64_t peer_id, bool reply, uint64_t call_id,
                          const void *data, size_t len)
{
    struct stand *s = arg;
    (void)data, (void)len;
    if (!reply) {
        s->forward_peer = peer_id;
        s->forward_id = call_id;
        atomic_fetch_add(&s->forwards, 1);
    }
    return 0;
}

static void no_flush(void *arg)
{
    (void)arg;
}

static void on_async_closed(uv_handle_t *h)
{
    struct stand *s = h->data;
    s->closed(s->closed_arg);
}

static void close_net(void *arg, void (*closed)(void *arg), void *closed_arg)
{
    struct stand *s = arg;
    s->closed = closed;
    s->closed_arg = closed_arg;
    uv_close((uv_handle_t *)&s->async, on_async_closed);
}

/* One job: a heartbeat of leader `peer`, or its reply to a call. */
static void on_job(uv_async_t *a)
{
    struct stand *s = a->data;
    sem_wait(&s->asked);
    if (s->reply_id) {
        struct po__buf b = {0};
        po__response_begin(&b, s->reply_code, po__str(""), po__str(""), s->reply_index, 2);
        po__mpw_uint(&b, 0);
        po__mpw_bin(&b, po__slice("", 0));
        po__node_peer_forward(s->node, s->peer, true, s->reply_id, b.data, b.len);
        po__buf_fini(&b);
    } else {
        struct po__msg m = {.type = PO__MSG_APPEND, .term = s->term};
        m.append.prev_index = m.append.prev_term = m.append.commit = 1; /* the bootstrap record */
        struct po__log log;
        po__log_init(&log, 1);
        struct po__frame *f = po__wire_encode(&m, &log);
        assert_non_null(f);
        uint8_t bytes[256];
        size_t len = 0;
        for (unsigned i = 0; i < f->parts_count; i++) {
            memcpy(bytes + len, f->parts[i].data, f->parts[i].len);
            len += f->parts[i].len;
        }
        assert_int_equal(po__node_peer_frame(s->node, s->peer, bytes, len), 0);
        po__frame_unref(f);
        po__log_fini(&log);
    }
    sem_post(&s->done);
}

static int open_net(void *arg, uv_loop_t *loop, struct po__node *node, char *error,
                    size_t error_len)
{
    struct stand *s = arg;
    (void)node, (void)error, (void)error_len;
    s->async.data = s;
    return uv_async_init(loop, &s->async, on_job);
}

static void do_job(struct stand *s)
{
    sem_post(&s->asked);
    uv_async_send(&s->async);
    sem_wait(&s->done);
}

static void lead(struct stand *s, uint64_t peer, uint64_t term)
{
    s->peer = peer;
    s->term = term;
    s->reply_id = 0;
    do_job(s);
}

static void reply(struct stand *s, uint64_t peer, uint64_t id, int code)
{
    s->peer = peer;
    s->reply_id = id;
    s->reply_code = code;
    s->reply_index = s->reply_index ? s->reply_index : 5;
    do_job(s);
}

/* ---- the node ---- */

static int no_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                    size_t *result_len)
{
    (void)arg, (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    return 0;
}

static const struct po_state_machine machine = {sizeof machine, NULL, no_apply, NULL, NULL};

static uint32_t election_ms = 60000; /* the test says who leads */

static void start(struct stand *s)
{
    static const struct po__transport_ops transport = {send_nothing, no_servers, nothing_queued};
    static const struct po_member founding[] = {
        {"a", "127.0.0.1:1"}, {"b", "127.0.0.1:2"}, {"c", "127.0.0.1:3"}};
    struct po_node_opts po = {.size = sizeof po,
                              .name = "a",
                              .data_dir = dir,
                              .bootstrap = 1,
                              .members = founding,
                              .members_count = 3};
    struct po__store_opts so = {.segment_bytes = 1 << 20};
    struct po__node_opts o = {.zone = "z",
                              .peer_address = founding[0].address,
                              .worker_address = "",
                              .state_machine = &machine,
                              .net = &s->net,
                              .election_ms = election_ms,
                              .heartbeat_ms = 1000,
                              .snapshot_bytes = 1 << 20,
                              .trailing_bytes = 1 << 20};
    struct po__disk *disk;
    char error[512] = "";
    memset(s, 0, sizeof *s);
    s->net = (struct po__node_net){&transport, open_net, record_forward, no_flush, close_net, s};
    sem_init(&s->asked, 0, 0);
    sem_init(&s->done, 0, 0);
    assert_int_equal(po__node_create(&s->node), 0);
    assert_int_equal(po__disk_real(&disk, dir, po__node_disk_wakeup, s->node, error, sizeof error),
                     0);
    assert_int_equal(po__store_open(&o.store, disk, &so, error, sizeof error), 0);
    assert_int_equal(
        po__identity_settle(&o.identity, o.store, &po, founding[0].address, error, sizeof error),
        0);
    assert_int_equal(po__node_start(s->node, &o, error, sizeof error), 0);
}

static void stop(struct stand *s)
{
    po__node_destroy(s->node);
    sem_destroy(&s->asked);
    sem_destroy(&s->done);
}

static void on_result(void *arg, const struct po_result *r)
{
    struct stand *s = arg;
    atomic_store(&s->code, r->code);
    atomic_store(&s->read_index, (unsigned)r->index);
    atomic_store(&s->read_term, (unsigned)r->term);
    atomic_store(&s->staleness_ms, r->staleness_ms);
    atomic_fetch_add(&s->answers, 1);
}

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        for (int await_i = 0; await_i < 20000 && !(condition); await_i++)                          \
            usleep(500);                                                                           \
        assert_true(condition);                                                                    \
    } while (0)

/* A command with a key; it has reached the leader when this returns. */
static void apply(struct stand *s)
{
    unsigned before = atomic_load(&s->forwards);
    assert_int_equal(po__node_apply(s->node, "x", 1, po__str("key"), 60000, on_result, s), 0);
    AWAIT(atomic_load(&s->forwards) == before + 1);
}

/* The leader still has a call of the node before its restart, and answers it to the new one. */
static void test_reply_to_an_earlier_life(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    apply(&s);
    uint64_t old = s.forward_id;
    stop(&s);
    assert_int_equal(atomic_load(&s.answers), 1);
    assert_int_equal(atomic_load(&s.code), PO_EUNKNOWN);

    start(&s);
    lead(&s, 2, 3);
    apply(&s);
    reply(&s, 2, old, 0);
    assert_int_equal(atomic_load(&s.answers), 0);
    reply(&s, 3, s.forward_id, 0); /* not who was asked */
    assert_int_equal(atomic_load(&s.answers), 0);
    reply(&s, 2, s.forward_id, 0);
    AWAIT(atomic_load(&s.answers) == 1);
    assert_int_equal(atomic_load(&s.code), 0);
    stop(&s);
}

/* A deposed leader that falls silent keeps nothing: the next one is asked. */
static void test_silent_leader(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    apply(&s);
    assert_int_equal(s.forward_peer, 2);
    uint64_t old = s.forward_id;
    lead(&s, 3, 3);
    AWAIT(atomic_load(&s.forwards) == 2);
    assert_int_equal(s.forward_peer, 3);
    reply(&s, 2, old, PO_EBUSY); /* too late to count */
    assert_int_equal(atomic_load(&s.answers), 0);
    reply(&s, 3, s.forward_id, 0);
    AWAIT(atomic_load(&s.answers) == 1);
    assert_int_equal(atomic_load(&s.code), 0);
    stop(&s);
}

/* That the leader stops is not the end of our caller's node. */
static void test_leader_that_stops(void **state)
{
    static const int codes[] = {PO_ECLOSED, PO_EFAULT, PO_ENOTLEADER, PO_ENOLEADER};
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    apply(&s);
    for (unsigned i = 0; i < 4; i++) {
        reply(&s, 2, s.forward_id, codes[i]);
        AWAIT(atomic_load(&s.forwards) == i + 2);
        assert_int_equal(atomic_load(&s.answers), 0);
    }
    reply(&s, 2, s.forward_id, 0);
    AWAIT(atomic_load(&s.answers) == 1);
    assert_int_equal(atomic_load(&s.code), 0);
    stop(&s);
}

/* "Busy" says that nothing was done. It does, if the call was sent once only. */
static void test_refused_after_a_lost_leader(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    apply(&s);
    reply(&s, 2, s.forward_id, PO_EBUSY);
    AWAIT(atomic_load(&s.answers) == 1);
    assert_int_equal(atomic_load(&s.code), PO_EBUSY);

    apply(&s);
    lead(&s, 3, 3);
    AWAIT(atomic_load(&s.forwards) == 3);
    reply(&s, 3, s.forward_id, PO_EBUSY);
    AWAIT(atomic_load(&s.answers) == 2);
    assert_int_equal(atomic_load(&s.code), PO_EUNKNOWN);
    stop(&s);
}

static void on_answer(void *arg, int code, const void *resp, size_t len)
{
    struct stand *s = arg;
    struct po__response r = {.code = PO_EPROTO};
    if (code == 0)
        (void)po__response_decode(resp, len, &r);
    atomic_store(&s->code, code ? code : r.code);
    atomic_fetch_add(&s->answers, 1);
}

/* A deregistration without a key, as the node's own client sends it. */
static void deregister(struct stand *s)
{
    struct po__buf b = {0};
    struct po__cmd cmd = {.type = PO__CMD_WORKER_DEREGISTER};
    unsigned before = atomic_load(&s->forwards);
    cmd.worker_deregister.id = po__str("w1");
    po__request_command(&b, 60000, &cmd);
    assert_int_equal(
        po__node_request(s->node, b.data, b.len, true, 0, (struct po__reply_to){on_answer, s}), 0);
    po__buf_fini(&b);
    AWAIT(atomic_load(&s->forwards) == before + 1);
}

/* Sent again only if the leader said that it did nothing. */
static void test_what_has_no_key(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    deregister(&s);
    reply(&s, 2, s.forward_id, PO_ENOTLEADER);
    AWAIT(atomic_load(&s.forwards) == 2);
    assert_int_equal(atomic_load(&s.answers), 0);
    lead(&s, 3, 3); /* the second one may have been executed */
    AWAIT(atomic_load(&s.answers) == 1);
    assert_int_equal(atomic_load(&s.code), PO_EUNKNOWN);
    assert_int_equal(atomic_load(&s.forwards), 2);
    stop(&s);
}

static void read_stale(struct stand *s, uint32_t stale_ms)
{
    assert_int_equal(po__node_read_stale(s->node, stale_ms, 60000, on_result, s), 0);
}

/* One confirmation serves all reads that wait for it, and those that come while it is fresh. */
static void test_stale_reads(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    read_stale(&s, 60000);
    AWAIT(atomic_load(&s.forwards) == 1);
    read_stale(&s, 50000);
    lead(&s, 2, 2); /* has taken the mail before it; a leader's word alone makes nothing fresh */
    uint64_t asked_ns = uv_hrtime();
    assert_int_equal(atomic_load(&s.answers), 0);
    while (uv_hrtime() < asked_ns + 50000000)
        ;
    s.reply_index = 1; /* applied here */
    reply(&s, 2, s.forward_id, 0);
    AWAIT(atomic_load(&s.answers) == 2);
    assert_int_equal(atomic_load(&s.code), 0);
    assert_int_equal(atomic_load(&s.read_index), 1);
    assert_int_equal(atomic_load(&s.read_term), 2);
    assert_true(atomic_load(&s.staleness_ms) >= 49); /* it runs from the question, not the answer */
    for (int i = 3; i <= 10; i++) {
        read_stale(&s, PO_TIMEOUT_MAX_MS);
        AWAIT(atomic_load(&s.answers) == i);
        assert_int_equal(atomic_load(&s.code), 0);
    }
    assert_int_equal(atomic_load(&s.forwards), 1);
    /* Older than half of what is allowed: answered, and asked for ahead. */
    while (uv_hrtime() < asked_ns + 110000000)
        ;
    read_stale(&s, 200);
    AWAIT(atomic_load(&s.answers) == 11);
    AWAIT(atomic_load(&s.forwards) == 2 || atomic_load(&s.code) == PO_ESTALE_READ);
    stop(&s);
}

/* Nobody confirms: the bound is kept. */
static void test_stale_read_refused(void **state)
{
    (void)state;
    struct stand s;
    election_ms = 300;
    start(&s);
    election_ms = 60000;
    lead(&s, 2, 2);
    read_stale(&s, 5000);
    AWAIT(atomic_load(&s.forwards) == 1);
    AWAIT(atomic_load(&s.answers) == 1); /* silence */
    assert_int_equal(atomic_load(&s.code), PO_ESTALE_READ);
    lead(&s, 3, 3);
    read_stale(&s, 5000);
    AWAIT(atomic_load(&s.forwards) == 2);
    reply(&s, 3, s.forward_id, 0); /* an index that never comes here: confirmed, and not applied */
    AWAIT(atomic_load(&s.answers) == 2);
    assert_int_equal(atomic_load(&s.code), PO_ESTALE_READ);
    stop(&s);
}

/* Reads that wait when the node stops are answered like all calls. */
static void test_stale_read_and_stop(void **state)
{
    (void)state;
    struct stand s;
    start(&s);
    lead(&s, 2, 2);
    read_stale(&s, 5000);
    AWAIT(atomic_load(&s.forwards) == 1);
    stop(&s);
    assert_int_equal(atomic_load(&s.answers), 1);
    assert_int_equal(atomic_load(&s.code), PO_ECLOSED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_reply_to_an_earlier_life), TEST(test_silent_leader),
        TEST(test_leader_that_stops),        TEST(test_refused_after_a_lost_leader),
        TEST(test_what_has_no_key),          TEST(test_stale_reads),
        TEST(test_stale_read_refused),       TEST(test_stale_read_and_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
