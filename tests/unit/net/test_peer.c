/* The peer transport over real loopback sockets: several nodes on one loop, and strangers with
 * plain sockets. */
#include "loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "net/address.h"
#include "net/peer_internal.h"

struct node {
    uv_loop_t *loop;
    struct po__peers *peers;
    struct po__peer_hello hello;
    char address[64];
    unsigned hellos, downs, gones, frames, frames_at_gone, logged_refusals;
    size_t bytes;
    uint64_t last_from, last_call_id, last_hello_incarnation;
    enum po__peer_channel last_chan;
    uint8_t last[64];
    size_t last_len;
    bool refuse, closed;
    unsigned refusals;
    uint64_t refused_by;
    int refused_code;
    char refused_why[64];
    char last_log[1100];
};

static int on_hello(void *arg, const struct po__peer_hello *peer, char *why, size_t why_len)
{
    struct node *n = arg;
    n->hellos++;
    n->last_hello_incarnation = peer->incarnation;
    if (n->refuse)
        snprintf(why, why_len, "this test refuses it");
    return n->refuse ? PO_EREMOVED : 0;
}

static void on_refused(void *arg, uint64_t peer_id, int code, const char *why)
{
    struct node *n = arg;
    n->refusals++;
    n->refused_by = peer_id;
    n->refused_code = code;
    snprintf(n->refused_why, sizeof n->refused_why, "%s", why);
}

static void on_frame(void *arg, uint64_t peer_id, enum po__peer_channel chan, const void *data,
                     size_t len)
{
    struct node *n = arg;
    n->frames++;
    n->bytes += len;
    n->last_from = peer_id;
    n->last_chan = chan;
    n->last_len = len;
    memcpy(n->last, data, len < sizeof n->last ? len : sizeof n->last);
    if (chan != PO__CHAN_RAFT)
        n->last_call_id = po__peer_call_id(data);
}

static void on_down(void *arg, uint64_t peer_id)
{
    struct node *n = arg;
    (void)peer_id;
    n->downs++;
}

static void on_gone(void *arg, uint64_t peer_id)
{
    struct node *n = arg;
    assert_true(peer_id == 1 || peer_id == 2);
    n->gones++;
    n->frames_at_gone = n->frames;
}

static void on_log(void *arg, const struct po_log_event *ev)
{
    struct node *n = arg;
    if (getenv("PO_TEST_LOG"))
        fprintf(stderr, "node %llu: %s: %s\n", (unsigned long long)n->hello.node_id, ev->id,
                ev->message);
    if (strcmp(ev->id, "peer.refused") == 0) {
        n->logged_refusals++;
        snprintf(n->last_log, sizeof n->last_log, "%s", ev->message);
    }
}

static void node_open(struct node *n, uv_loop_t *loop, uint64_t id, const char *listen)
{
    char error[512] = "";
    if (!n->hello.node_id) {
        n->hello = (struct po__peer_hello){.node_id = id, .incarnation = id * 1000 + 1};
        memset(n->hello.cluster_id, 7, sizeof n->hello.cluster_id);
        snprintf(n->hello.name, sizeof n->hello.name, "n%llu", (unsigned long long)id);
    }
    n->loop = loop;
    n->closed = false;
    struct po__peers_opts opts = {.loop = loop,
                                  .listen = listen,
                                  .self = n->hello,
                                  .log = {.cb = on_log, .arg = n, .level = PO_LOG_DEBUG},
                                  .hello = on_hello,
                                  .frame = on_frame,
                                  .down = on_down,
                                  .gone = on_gone,
                                  .refused = on_refused,
                                  .arg = n};
    int rv = po__peers_open(&n->peers, &opts, error, sizeof error);
    if (rv)
        fail_msg("%s: %s", po_err_name(rv), error);
    bool v6 = listen && listen[0] == '[';
    snprintf(n->address, sizeof n->address, v6 ? "[::1]:%u" : "127.0.0.1:%u",
             po__peers_port(n->peers));
}

static void node_closed(void *arg)
{
    ((struct node *)arg)->closed = true;
}

static bool is_closed(void *arg)
{
    return ((struct node *)arg)->closed;
}

static void node_close(struct node *n)
{
    po__peers_close(n->peers, node_closed, n);
    loop_until(n->loop, is_closed, n);
    n->peers = NULL;
}

struct pair {
    uv_loop_t loop;
    struct node a, b; /* ids 1 and 2 */
};

static void connect_nodes(struct node *from, const struct node *to)
{
    struct po__server s = {.id = to->hello.node_id, .address = to->address};
    po__peers_set(from->peers, &s, 1);
}

static bool both_up(void *arg)
{
    struct pair *t = arg;
    return po__peers_up(t->a.peers, t->b.hello.node_id) &&
           po__peers_up(t->b.peers, t->a.hello.node_id);
}

static int setup(void **state)
{
    struct pair *t = calloc(1, sizeof *t);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    node_open(&t->a, &t->loop, 1, "127.0.0.1:0");
    node_open(&t->b, &t->loop, 2, "127.0.0.1:0");
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct pair *t = *state;
    if (t->a.peers)
        node_close(&t->a);
    if (t->b.peers)
        node_close(&t->b);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t->loop), 0); /* no handle was left behind */
    free(t);
    return 0;
}

static struct po__frame *frame_of(const void *data, size_t len)
{
    return po__peer_frame_copy(NULL, 0, data, len);
}

static bool b_has_frame(void *arg)
{
    return ((struct pair *)arg)->b.frames > 0;
}

static bool a_has_frame(void *arg)
{
    return ((struct pair *)arg)->a.frames > 0;
}

static void one_dial_serves_both_directions(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    assert_int_equal(t->b.last_hello_incarnation, 1001);
    po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, frame_of("hello", 5));
    loop_until(&t->loop, b_has_frame, t);
    assert_int_equal(t->b.last_from, 1);
    assert_int_equal(t->b.last_chan, PO__CHAN_RAFT);
    assert_memory_equal(t->b.last, "hello", 5);
    assert_int_equal(
        po__peers_send_bytes(t->b.peers, 1, PO__CHAN_FORWARD, 0x1122334455667788, "question", 8),
        0);
    po__peers_flush(t->b.peers);
    loop_until(&t->loop, a_has_frame, t);
    assert_int_equal(t->a.last_chan, PO__CHAN_FORWARD);
    assert_true(t->a.last_call_id == 0x1122334455667788);
    assert_int_equal(t->a.last_len, 16);
    assert_memory_equal(t->a.last + 8, "question", 8);
}

/* Both dial at the same time, many times: they always end with one connection each, the same one.
 */
static void simultaneous_dials_leave_one_connection(void **state)
{
    struct pair *t = *state;
    for (unsigned round = 0; round < 30; round++) {
        t->a.frames = t->b.frames = 0;
        connect_nodes(&t->a, &t->b);
        connect_nodes(&t->b, &t->a);
        loop_until(&t->loop, both_up, t);
        /* A frame in each direction; sent again if the resolution dropped it. */
        while (!t->a.frames || !t->b.frames) {
            po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, frame_of("x", 1));
            po__peers_send(t->b.peers, 1, PO__CHAN_RAFT, frame_of("y", 1));
            uv_run(&t->loop, UV_RUN_ONCE);
            loop_until(&t->loop, both_up, t);
        }
        node_close(&t->a);
        node_close(&t->b);
        node_open(&t->a, &t->loop, 1, "127.0.0.1:0");
        node_open(&t->b, &t->loop, 2, "127.0.0.1:0");
    }
}

static void ipv6_and_names_work(void **state)
{
    struct pair *t = *state;
    node_close(&t->b);
    node_open(&t->b, &t->loop, 2, "[::1]:0");
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    node_close(&t->b);
    /* A name with several addresses, of which only some answer: "localhost" is ::1 and 127.0.0.1 on
     * most machines. */
    node_open(&t->b, &t->loop, 2, "127.0.0.1:0");
    snprintf(t->b.address, sizeof t->b.address, "localhost:%u", po__peers_port(t->b.peers));
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
}

static bool a_saw_down(void *arg)
{
    return ((struct pair *)arg)->a.downs > 0;
}

static void reconnects_to_a_restarted_peer(void **state)
{
    struct pair *t = *state;
    char listen[64];
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    snprintf(listen, sizeof listen, "%s", t->b.address);
    node_close(&t->b);
    loop_until(&t->loop, a_saw_down, t);
    assert_false(po__peers_up(t->a.peers, 2));
    assert_int_equal(po__peers_send_bytes(t->a.peers, 2, PO__CHAN_FORWARD, 1, "", 0),
                     PO_EUNREACHABLE);
    po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, frame_of("lost", 4));
    assert_int_equal(po__peers_dropped(t->a.peers, 2), 1);
    t->b.hello.incarnation++;
    node_open(&t->b, &t->loop, 2, listen); /* past the old connections in TIME_WAIT */
    loop_until(&t->loop, both_up, t);
    assert_int_equal(t->a.last_hello_incarnation, t->b.hello.incarnation);
}

static void second_listener_on_a_port_is_refused(void **state)
{
    struct pair *t = *state;
    char error[512], expected[128];
    struct po__peers *p = NULL;
    struct po__peers_opts opts = {.loop = &t->loop,
                                  .listen = t->a.address,
                                  .self = {.node_id = 9},
                                  .hello = on_hello,
                                  .frame = on_frame,
                                  .down = on_down,
                                  .arg = &t->a};
    assert_int_equal(po__peers_open(&p, &opts, error, sizeof error), PO_EADDR);
    snprintf(expected, sizeof expected, "address in use: %s", t->a.address);
    assert_non_null(strstr(error, expected));
    assert_non_null(strstr(error, "another process listens there"));
    opts.listen = "192.0.2.1:7000"; /* no address of this machine, and not loopback */
    assert_int_equal(po__peers_open(&p, &opts, error, sizeof error), PO_EREFUSED);
    assert_non_null(strstr(error, "insecure"));
    opts.insecure = true;
    assert_int_equal(po__peers_open(&p, &opts, error, sizeof error), PO_EADDR);
}

static bool a_logged_refusal(void *arg)
{
    return ((struct pair *)arg)->a.logged_refusals > 0;
}

static void another_cluster_is_refused(void **state)
{
    struct pair *t = *state;
    node_close(&t->b);
    t->b.hello.cluster_id[0]++;
    node_open(&t->b, &t->loop, 2, "127.0.0.1:0");
    connect_nodes(&t->b, &t->a);
    loop_until(&t->loop, a_logged_refusal, t);
    assert_non_null(strstr(t->a.last_log, "another cluster"));
    assert_false(po__peers_up(t->a.peers, 2));
    assert_int_equal(t->a.hellos, 0); /* the owner is not even asked */
}

static void own_identity_is_refused(void **state)
{
    struct pair *t = *state;
    node_close(&t->b);
    t->b.hello.node_id = 1;
    node_open(&t->b, &t->loop, 1, "127.0.0.1:0");
    struct po__server s = {.id = 3, .address = t->a.address};
    po__peers_set(t->b.peers, &s, 1);
    loop_until(&t->loop, a_logged_refusal, t);
    assert_non_null(strstr(t->a.last_log, "second node with this identity"));
}

static bool a_was_asked_twice(void *arg)
{
    return ((struct pair *)arg)->a.hellos >= 2;
}

static void owner_can_refuse_and_is_asked_again(void **state)
{
    struct pair *t = *state;
    t->a.refuse = true;
    connect_nodes(&t->b, &t->a);
    loop_until(&t->loop, a_was_asked_twice, t);
    assert_non_null(strstr(t->a.last_log, "this test refuses it"));
    assert_false(po__peers_up(t->b.peers, 1));
    t->a.refuse = false;
    loop_until(&t->loop, both_up, t);
    /* It was told who refused it and why: once, though it asked again and again. */
    assert_int_equal(t->b.refusals, 1);
    assert_int_equal(t->b.refused_by, 1);
    assert_int_equal(t->b.refused_code, PO_EREMOVED);
    assert_string_equal(t->b.refused_why, "this test refuses it");
}

static bool b_was_refused(void *arg)
{
    return ((struct pair *)arg)->b.refusals > 0;
}

static void a_connected_peer_can_be_told_that_it_is_refused(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->b, &t->a);
    loop_until(&t->loop, both_up, t);
    po__peers_refuse(t->a.peers, 2, PO_EREMOVED, "gone");
    loop_until(&t->loop, b_was_refused, t);
    assert_int_equal(t->b.refused_by, 1);
    assert_int_equal(t->b.refused_code, PO_EREMOVED);
    assert_string_equal(t->b.refused_why, "gone");
    assert_true(po__peers_up(t->b.peers, 1)); /* the conclusion is its owner's */
}

static void wrong_node_at_an_address_is_not_taken(void **state)
{
    struct pair *t = *state;
    struct po__server s = {.id = 5, .address = t->b.address};
    po__peers_set(t->a.peers, &s, 1);
    while (t->b.hellos < 2) /* it dials again and again */
        uv_run(&t->loop, UV_RUN_ONCE);
    assert_false(po__peers_up(t->a.peers, 5));
    assert_false(po__peers_up(t->a.peers, 2));
}

/* ---- strangers ---- */

static int stranger_connect(const struct node *n)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(po__peers_port(n->peers))};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static bool hung_up(void *arg)
{
    char byte;
    ssize_t n = read(*(int *)arg, &byte, 1);
    assert_int_not_equal(n, 1); /* a stranger is told nothing */
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void expect_hang_up(struct pair *t, const void *data, size_t len)
{
    int fd = stranger_connect(&t->a);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    loop_until(&t->loop, hung_up, &fd);
    close(fd);
}

static size_t sealed(uint8_t *out, uint8_t chan, const void *data, size_t len)
{
    uint32_t length = (uint32_t)len + 1;
    memcpy(out, &length, 4); /* the machines that run this test are little endian */
    out[8] = chan;
    memcpy(out + 9, data, len);
    uint32_t crc = po__crc32c(po__crc32c(0, out, 4), out + 8, length);
    memcpy(out + 4, &crc, 4);
    return len + 9;
}

static size_t sealed_hello(uint8_t *out, const struct po__peer_hello *hello)
{
    struct po__buf b = {0};
    po__peer_hello_encode(&b, hello);
    size_t n = sealed(out, PO__CHAN_HELLO, b.data, b.len);
    po__buf_fini(&b);
    return n;
}

static void garbage_from_strangers_is_refused(void **state)
{
    struct pair *t = *state;
    uint8_t bytes[4096], payload[2048] = {0};
    struct po__peer_hello hello = t->b.hello;
    expect_hang_up(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
    expect_hang_up(t, "\0\0\0\0\0\0\0\0\0", 9);                     /* length 0 */
    expect_hang_up(t, "\xff\xff\xff\xff\0\0\0\0\0", 9);             /* 4 GiB */
    expect_hang_up(t, "\x01\x10\0\0\0\0\0\0\0", 9);                 /* more than a hello may have */
    expect_hang_up(t, bytes, sealed(bytes, PO__CHAN_RAFT, "x", 1)); /* a frame before the hello */
    expect_hang_up(t, bytes, sealed(bytes, PO__CHAN_HELLO, payload, 0));
    expect_hang_up(t, bytes, sealed(bytes, PO__CHAN_HELLO, payload, sizeof payload));
    expect_hang_up(t, bytes, sealed(bytes, PO__CHAN_HELLO, "\x92\x02\x01", 3)); /* version 2 */
    expect_hang_up(t, bytes, sealed(bytes, PO__CHAN_HELLO, "\xdd\xff\xff\xff\xff", 5));
    size_t n = sealed_hello(bytes, &hello);
    for (size_t bit = 0; bit < 8 * n; bit += 37) { /* a flipped bit anywhere */
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int fd = stranger_connect(&t->a);
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        shutdown(fd, SHUT_WR); /* a longer length leaves it waiting for more */
        loop_until(&t->loop, hung_up, &fd);
        close(fd);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(t->a.hellos, 0);
    assert_int_equal(t->a.frames, 0);
    connect_nodes(&t->b, &t->a); /* and the node is as well as before */
    loop_until(&t->loop, both_up, t);
}

/* Says hello as node `id` over a plain socket and waits for the answer. */
static bool answered(void *arg)
{
    char bytes[1024];
    return read(*(int *)arg, bytes, sizeof bytes) > 9;
}

static int impostor(struct pair *t, uint64_t id)
{
    uint8_t bytes[4096];
    struct po__peer_hello hello = t->b.hello;
    hello.node_id = id;
    int fd = stranger_connect(&t->a);
    size_t n = sealed_hello(bytes, &hello);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    loop_until(&t->loop, answered, &fd);
    assert_true(po__peers_up(t->a.peers, id));
    return fd;
}

static void malformed_frames_of_a_peer_close_its_connection(void **state)
{
    struct pair *t = *state;
    uint8_t bytes[256];
    for (unsigned i = 0; i < 5; i++) {
        int fd = impostor(t, 2);
        size_t n = sealed(bytes, PO__CHAN_RAFT, "payload", 7);
        if (i == 0)
            bytes[12] ^= 1; /* checksum */
        else if (i == 1)
            memcpy(bytes, "\x02\x00\x40\x00", 4); /* 4 MiB + 2: channel and one byte too many... */
        else if (i == 2)
            n = sealed(bytes, 4, "payload", 7); /* no such channel */
        else if (i == 3)
            n = sealed(bytes, PO__CHAN_FORWARD, "payload", 7); /* too short for a call id */
        else
            n = sealed(bytes, PO__CHAN_HELLO, "payload", 7); /* a second hello */
        if (i == 1)
            memcpy(bytes, "\x0a\x00\x40\x00", 4); /* one more than a frame with a call id */
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        loop_until(&t->loop, hung_up, &fd);
        assert_int_equal(t->a.downs, i + 1);
        assert_int_equal(t->a.frames, 0);
        assert_false(po__peers_up(t->a.peers, 2));
        close(fd);
    }
}

static void new_connection_of_a_peer_replaces_the_old(void **state)
{
    struct pair *t = *state;
    int first = impostor(t, 2), second = impostor(t, 2);
    loop_until(&t->loop, hung_up, &first);
    assert_true(po__peers_up(t->a.peers, 2));
    assert_int_equal(t->a.downs, 1);
    close(first);
    close(second);
}

static void silent_strangers_are_bounded(void **state)
{
    struct pair *t = *state;
    int fds[PO__PENDING_CONNECTIONS_MAX + 8];
    unsigned count = sizeof fds / sizeof *fds, gone = 0;
    for (unsigned i = 0; i < count; i++)
        fds[i] = stranger_connect(&t->a);
    for (unsigned i = 0; i < 8; i++) /* the first ones made room */
        loop_until(&t->loop, hung_up, &fds[i]);
    connect_nodes(&t->b, &t->a); /* while the others still sit there */
    loop_until(&t->loop, both_up, t);
    for (unsigned i = 8; i < count; i++) {
        char byte;
        gone += read(fds[i], &byte, 1) >= 0 || errno != EAGAIN;
    }
    assert_in_range(gone, 0, 1);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

static void more_peers_than_the_table_holds_are_refused(void **state)
{
    struct pair *t = *state;
    int fds[PO__PEERS_MAX];
    uint8_t bytes[4096];
    for (unsigned i = 0; i < PO__PEERS_MAX; i++)
        fds[i] = impostor(t, 100 + i);
    struct po__peer_hello hello = t->b.hello;
    hello.node_id = 500;
    int fd = stranger_connect(&t->a);
    size_t n = sealed_hello(bytes, &hello);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    loop_until(&t->loop, hung_up, &fd);
    close(fd);
    for (unsigned i = 0; i < PO__PEERS_MAX; i++)
        close(fds[i]);
}

/* ---- volume ---- */

struct counted_frame {
    struct po__frame frame;
    struct po__slice *parts;
    unsigned *live;
};

static void free_counted(struct po__frame *f)
{
    struct counted_frame *cf = po__container_of(f, struct counted_frame, frame);
    --*cf->live;
    free(cf->parts);
    free(cf);
}

/* One block, cut into `parts` parts. */
static struct po__frame *counted(const void *block, size_t len, unsigned parts, unsigned *live)
{
    struct counted_frame *cf = calloc(1, sizeof *cf);
    cf->parts = calloc(parts, sizeof *cf->parts);
    for (unsigned i = 0; i < parts; i++) {
        size_t from = len * i / parts, to = len * (i + 1) / parts;
        cf->parts[i] = po__slice((const char *)block + from, to - from);
    }
    cf->frame = (struct po__frame){.refs = 1,
                                   .bytes = (uint32_t)len,
                                   .parts_count = parts,
                                   .parts = cf->parts,
                                   .free = free_counted};
    cf->live = live;
    ++*live;
    return &cf->frame;
}

struct volume {
    struct pair *t;
    unsigned frames, live;
};

static bool volume_arrived(void *arg)
{
    struct volume *v = arg;
    return v->t->b.frames == v->frames && v->live == 0;
}

static void large_frames_arrive_whole_and_references_end(void **state)
{
    struct pair *t = *state;
    size_t len = PO__FRAME_MAX_BYTES;
    char *block = malloc(len);
    struct volume v = {.t = t};
    for (size_t i = 0; i < len; i++)
        block[i] = (char)(i * 31 >> 3);
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    static const unsigned parts[] = {1, 7, 1000, 5000, 3}; /* more parts than one writev takes */
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++, v.frames++)
        po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, counted(block, len - i, parts[i], &v.live));
    po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, counted(block, 0, 1, &v.live)); /* empty */
    v.frames++;
    assert_true(po__peers_queued_bytes(t->a.peers, 2) > 4 * len);
    po__peers_flush(t->a.peers);
    loop_until(&t->loop, volume_arrived, &v);
    assert_int_equal(po__peers_queued_bytes(t->a.peers, 2), 0);
    assert_true(t->b.bytes == 5 * len - 10);
    assert_int_equal(t->a.downs + t->b.downs, 0);
    free(block);
}

static void queue_is_bounded_when_the_peer_does_not_read(void **state)
{
    struct pair *t = *state;
    size_t len = 1024 * 1024;
    char *block = calloc(1, len);
    unsigned live = 0, sent = 0;
    int fd = impostor(t, 2); /* never reads again */
    while (po__peers_dropped(t->a.peers, 2) == 0) {
        po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, counted(block, len, 1, &live));
        po__peers_flush(t->a.peers);
        assert_true(po__peers_queued_bytes(t->a.peers, 2) <= PO__PEER_QUEUE_MAX_BYTES);
        assert_true(++sent < 200);
    }
    assert_int_equal(po__peers_send_bytes(t->a.peers, 2, PO__CHAN_FORWARD, 1, block, len),
                     PO_EBUSY);
    assert_true(live <= PO__PEER_QUEUE_MAX_BYTES / len);
    assert_true(po__peers_up(t->a.peers, 2));
    close(fd);
    while (live) /* the connection ends, and with it the references */
        uv_run(&t->loop, UV_RUN_ONCE);
    free(block);
}

static void removed_peer_stays_until_it_leaves(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    po__peers_set(t->a.peers, NULL, 0);
    assert_true(po__peers_up(t->a.peers, 2));
    node_close(&t->b);
    loop_until(&t->loop, a_saw_down, t);
    assert_false(po__peers_up(t->a.peers, 2));
}

static bool a_saw_gone(void *arg)
{
    return ((struct pair *)arg)->a.gones > 0;
}

/* A process that ends is told apart from a connection that ends, by dialling again. */
static void end_of_a_process_is_confirmed(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    po__peers_send(t->b.peers, 1, PO__CHAN_RAFT, frame_of("last word", 9));
    po__peers_flush(t->b.peers);
    node_close(&t->b);
    loop_until(&t->loop, a_saw_gone, t);
    assert_int_equal(t->a.downs, 1);
    assert_int_equal(t->a.frames_at_gone, 1); /* after all that it had sent */
    /* Refused again and again: told once. */
    struct po__peer *peer = po__peers_find(t->a.peers, 2);
    for (uint32_t failures = peer->failures; peer->failures < failures + 3;)
        uv_run(&t->loop, UV_RUN_ONCE);
    assert_int_equal(t->a.gones, 1);
}

static void end_of_a_connection_is_no_end_of_a_process(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    for (int i = 0; i < 2; i++) { /* the second time the redial waits for the backoff */
        unsigned downs = t->a.downs;
        po__peer_conn_close(po__peers_find(t->a.peers, 2)->up, "the network had a moment");
        assert_int_equal(t->a.downs, downs + 1);
        loop_until(&t->loop, both_up, t);
    }
    assert_int_equal(t->a.gones, 0);
    assert_int_equal(t->b.gones, 0);
}

static void another_incarnation_is_an_end_too(void **state)
{
    struct pair *t = *state;
    struct node second = {0};
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    /* The next process of b says hello before the end of the last one is seen. */
    second.hello = t->b.hello;
    second.hello.incarnation++;
    node_open(&second, &t->loop, 2, "127.0.0.1:0");
    connect_nodes(&second, &t->a);
    loop_until(&t->loop, a_saw_gone, t);
    assert_int_equal(t->a.gones, 1);
    assert_true(po__peers_up(t->a.peers, 2));
    node_close(&second);
}

/* ---- links that tests cut ---- */

static void cut(struct node *n, uint64_t peer_id)
{
    po__peers_cut(n->peers, &peer_id, peer_id ? 1 : 0);
}

/* A third node, whose frames show how far time has gone. */
static bool a_hears_witness(void *arg)
{
    return ((struct pair *)arg)->a.last_from == 3;
}

static void let_time_pass(struct pair *t, struct node *witness)
{
    for (unsigned i = 0; i < 20; i++) {
        t->a.last_from = 0;
        po__peers_send(witness->peers, 1, PO__CHAN_RAFT, frame_of("tick", 4));
        loop_until(&t->loop, a_hears_witness, t);
    }
}

static bool b_has_two(void *arg)
{
    return ((struct pair *)arg)->b.frames == 2;
}

static bool a_hears_b(void *arg)
{
    return ((struct pair *)arg)->a.last_from == 2;
}

static void what_a_cut_link_held_arrives_late(void **state)
{
    struct pair *t = *state;
    struct node witness = {0};
    node_open(&witness, &t->loop, 3, NULL);
    connect_nodes(&t->a, &t->b);
    connect_nodes(&witness, &t->a);
    loop_until(&t->loop, both_up, t);
    let_time_pass(t, &witness);
    cut(&t->a, 2); /* b knows nothing of it */
    po__peers_send(t->a.peers, 2, PO__CHAN_RAFT, frame_of("one", 3));
    po__peers_send(t->b.peers, 1, PO__CHAN_RAFT, frame_of("back", 4));
    assert_int_equal(po__peers_send_bytes(t->a.peers, 2, PO__CHAN_FORWARD, 7, "two", 3), 0);
    let_time_pass(t, &witness);
    assert_int_equal(t->b.frames, 0);
    assert_int_equal(t->a.last_from, 3);
    assert_true(both_up(t));
    cut(&t->a, 0);
    loop_until(&t->loop, b_has_two, t);
    assert_memory_equal(t->b.last + 8, "two", 3);
    loop_until(&t->loop, a_hears_b, t);
    assert_int_equal(t->a.downs + t->b.downs, 0);
    node_close(&witness);
}

static bool b_failed_twice(void *arg)
{
    const struct po__peer *a = po__peers_find(((struct pair *)arg)->b.peers, 1);
    return a->failures >= 2;
}

static void who_is_cut_off_is_neither_dialled_nor_accepted(void **state)
{
    struct pair *t = *state;
    cut(&t->a, 2);
    connect_nodes(&t->a, &t->b);
    connect_nodes(&t->b, &t->a);
    loop_until(&t->loop, b_failed_twice, t);
    assert_int_equal(t->a.hellos + t->b.hellos, 0);
    assert_int_equal(t->a.logged_refusals, 0);
    cut(&t->a, 0);
    loop_until(&t->loop, both_up, t);
}

static void a_dial_under_way_is_given_up_by_a_cut(void **state)
{
    struct pair *t = *state;
    connect_nodes(&t->a, &t->b);
    while (!po__peers_find(t->a.peers, 2)->dial)
        uv_run(&t->loop, UV_RUN_ONCE);
    cut(&t->a, 2);
    assert_null(po__peers_find(t->a.peers, 2)->dial);
    cut(&t->a, 0);
    loop_until(&t->loop, both_up, t);
}

static void an_end_behind_a_cut_is_seen_when_it_is_healed(void **state)
{
    struct pair *t = *state;
    char listen[64];
    connect_nodes(&t->a, &t->b);
    loop_until(&t->loop, both_up, t);
    snprintf(listen, sizeof listen, "%s", t->b.address);
    cut(&t->a, 2);
    node_close(&t->b);
    assert_true(po__peers_up(t->a.peers, 2));
    assert_int_equal(t->a.downs, 0);
    cut(&t->a, 0);
    loop_until(&t->loop, a_saw_gone, t);
    assert_int_equal(t->a.downs, 1);
    node_open(&t->b, &t->loop, 2, listen);
    loop_until(&t->loop, both_up, t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(one_dial_serves_both_directions),
        T(simultaneous_dials_leave_one_connection),
        T(ipv6_and_names_work),
        T(reconnects_to_a_restarted_peer),
        T(end_of_a_process_is_confirmed),
        T(end_of_a_connection_is_no_end_of_a_process),
        T(another_incarnation_is_an_end_too),
        T(second_listener_on_a_port_is_refused),
        T(another_cluster_is_refused),
        T(own_identity_is_refused),
        T(owner_can_refuse_and_is_asked_again),
        T(a_connected_peer_can_be_told_that_it_is_refused),
        T(wrong_node_at_an_address_is_not_taken),
        T(garbage_from_strangers_is_refused),
        T(malformed_frames_of_a_peer_close_its_connection),
        T(new_connection_of_a_peer_replaces_the_old),
        T(silent_strangers_are_bounded),
        T(more_peers_than_the_table_holds_are_refused),
        T(large_frames_arrive_whole_and_references_end),
        T(queue_is_bounded_when_the_peer_does_not_read),
        T(removed_peer_stays_until_it_leaves),
        T(what_a_cut_link_held_arrives_late),
        T(who_is_cut_off_is_neither_dialled_nor_accepted),
        T(a_dial_under_way_is_given_up_by_a_cut),
        T(an_end_behind_a_cut_is_seen_when_it_is_healed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
