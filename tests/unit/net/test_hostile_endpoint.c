/* The worker endpoint and those who do it harm, or come to harm: strangers, slow readers, peers
 * that vanish in the middle of a message, floods, and its own end. */
#include "host.h"
#include "raw.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#define PARKED_MAX 16384
#define ANSWER_MAX (1u << 20)

struct server {
    struct host host;
    pthread_mutex_t lock;
    struct po__endpoint_call *parked[PARKED_MAX];
    unsigned parked_count;
    atomic_uint requests, closed, refusals;
    atomic_ullong last_conn;
    atomic_bool full; /* a line said that too many connections are there */
    char *bytes;      /* ANSWER_MAX */
};

/* Answers "echo..." with itself, parks everything else. */
static void on_request(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                       size_t len)
{
    struct server *s = arg;
    assert_true(conn != 0);
    atomic_store(&s->last_conn, conn);
    if (len >= 4 && memcmp(data, "echo", 4) == 0) {
        po__endpoint_answer(call, data, len);
    } else {
        pthread_mutex_lock(&s->lock);
        assert_true(s->parked_count < PARKED_MAX);
        s->parked[s->parked_count++] = call;
        pthread_mutex_unlock(&s->lock);
    }
    atomic_fetch_add(&s->requests, 1);
}

static void on_closed(void *arg, uint64_t conn)
{
    (void)conn;
    atomic_fetch_add(&((struct server *)arg)->closed, 1);
}

static void on_log(void *arg, const struct po_log_event *event)
{
    struct server *s = arg;
    if (strcmp(event->id, "worker.refused") == 0)
        atomic_fetch_add(&s->refusals, 1);
    if (strstr(event->message, "connections already") ||
        strstr(event->message, "too many connections"))
        atomic_store(&s->full, true);
}

static int setup(void **state)
{
    struct server *s = calloc(1, sizeof *s);
    char error[512];
    struct po__endpoint_opts opts = {.listen = "127.0.0.1:0",
                                     .log = {.cb = on_log, .arg = s, .level = PO_LOG_WARN},
                                     .request = on_request,
                                     .closed = on_closed,
                                     .arg = s};
    s->bytes = calloc(1, ANSWER_MAX);
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(host_open(&s->host, &opts, error, sizeof error), 0);
    *state = s;
    return 0;
}

static void answer_parked(struct server *s, size_t len)
{
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->parked_count; i++)
        host_answer(&s->host, s->parked[i], s->bytes, len);
    s->parked_count = 0;
    pthread_mutex_unlock(&s->lock);
}

static int teardown(void **state)
{
    struct server *s = *state;
    answer_parked(s, 1);
    host_close(&s->host);
    free(s->bytes);
    free(s);
    return 0;
}

/* It serves as before. */
static void expect_service(struct server *s)
{
    char body[8];
    uint32_t id = 0;
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    raw_send(fd, 77, "echo", 4);
    assert_int_equal(raw_recv(fd, &id, body, sizeof body), 4);
    assert_int_equal(id, 77);
    assert_memory_equal(body, "echo", 4);
    close(fd);
}

static void strangers_are_closed(void **state)
{
    struct server *s = *state;
    static const struct {
        const char *data;
        size_t len;
    } inputs[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\0SP\0\0\x10\0\0", 8},                                  /* another protocol */
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\0\0\x02hi", 18},             /* shorter than a request id */
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\0\0\x04\0\0\0\1", 20},       /* a request id that never ends */
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\0\0\0", 16},                 /* nothing at all */
        {"\0SP\0\0\x30\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16}, /* a length of 2^64 - 1 */
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\x40\1\0", 16}, /* one that is a little too long */
    };
    for (unsigned i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        int fd = raw_connect(s->host.address);
        raw_write(fd, inputs[i].data, inputs[i].len);
        raw_expect_end(fd);
        close(fd);
    }
    assert_int_equal(atomic_load(&s->requests), 0);
    assert_true(atomic_load(&s->refusals) > 0);
    expect_service(s);
}

static void silence_is_not_waited_for_for_ever(void **state)
{
    struct server *s = *state;
    int mute = raw_connect(s->host.address), half = raw_connect(s->host.address);
    raw_write(half, "\0SP", 3);
    raw_expect_end(mute);
    raw_expect_end(half);
    close(mute);
    close(half);
    assert_int_equal(atomic_load(&s->closed), 0); /* they never were connections of the owner's */
    expect_service(s);
}

static void messages_arrive_in_any_pieces(void **state)
{
    struct server *s = *state;
    uint8_t stream[PO__SP_HELLO_BYTES + 2 * (PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES + 5)],
        *p = stream;
    char body[8];
    uint32_t id = 0;
    po__sp_hello(p, PO__SP_REQ);
    p += PO__SP_HELLO_BYTES;
    for (uint32_t i = 0; i < 2; i++) {
        po__sp_length(p, PO__SP_ID_BYTES + 5);
        po__sp_put_id(p + PO__SP_LENGTH_BYTES, i | PO__SP_REQUEST_ID_BIT);
        memcpy(p + PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES, i ? "echo1" : "echo0", 5);
        p += PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES + 5;
    }
    for (size_t cut = 0; cut <= sizeof stream; cut++) {
        int fd = raw_connect(s->host.address);
        uint8_t hello[PO__SP_HELLO_BYTES];
        assert_true(raw_read(fd, hello, sizeof hello));
        raw_write(fd, stream, cut);
        raw_write(fd, stream + cut, sizeof stream - cut);
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(raw_recv(fd, &id, body, sizeof body), 5);
            assert_int_equal(id, i);
            assert_int_equal(body[4], '0' + (int)i);
        }
        close(fd);
    }
}

/* The stack of ids of seven routers and the requester comes back as it was. */
static void ids_are_returned_unchanged(void **state)
{
    struct server *s = *state;
    uint8_t head[PO__SP_LENGTH_BYTES + PO__SP_IDS_MAX_BYTES + 4], back[sizeof head];
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    po__sp_length(head, PO__SP_IDS_MAX_BYTES + 4);
    for (uint32_t i = 0; i < PO__SP_IDS_MAX; i++)
        po__sp_put_id(head + PO__SP_LENGTH_BYTES + i * PO__SP_ID_BYTES,
                      i * 1000 + 3 + (i + 1 == PO__SP_IDS_MAX ? PO__SP_REQUEST_ID_BIT : 0));
    memcpy(head + sizeof head - 4, "echo", 4);
    raw_write(fd, head, sizeof head);
    assert_true(raw_read(fd, back, sizeof back));
    assert_memory_equal(head, back, sizeof head);
    close(fd);
}

/* Cut off in the middle of a large request, again and again: what nng did not survive. */
static void peers_die_in_the_middle_of_requests(void **state)
{
    struct server *s = *state;
    for (unsigned i = 0; i < 50; i++) {
        int fd = raw_connect(s->host.address);
        raw_greet(fd, PO__SP_REQ);
        raw_head(fd, i, PO__REQUEST_MAX_BYTES);
        for (unsigned k = 0; k < i % 4; k++)
            raw_write(fd, s->bytes, 300000);
        if (i % 2) /* a reset instead of an orderly end */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                       sizeof(struct linger));
        close(fd);
    }
    wait_until(atomic_load(&s->closed) == 50);
    assert_int_equal(atomic_load(&s->requests), 0);
    expect_service(s);
}

static void peers_die_in_the_middle_of_answers(void **state)
{
    struct server *s = *state;
    for (unsigned i = 0; i < 20; i++) {
        int fd = raw_connect(s->host.address);
        raw_greet(fd, PO__SP_REQ);
        for (uint32_t k = 0; k < 8; k++)
            raw_send(fd, k, "park", 4);
        wait_until(atomic_load(&s->requests) == 8 * (i + 1));
        answer_parked(s, ANSWER_MAX);
        char byte;
        assert_true(raw_read(fd, &byte, 1));
        close(fd);
    }
    wait_until(atomic_load(&s->closed) == 20);
    expect_service(s);
}

/* Answers to a connection that has ended vanish; the calls are the owner's until then. */
static void late_answers_vanish(void **state)
{
    struct server *s = *state;
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    for (uint32_t k = 0; k < 100; k++)
        raw_send(fd, k, "park", 4);
    wait_until(atomic_load(&s->requests) == 100);
    close(fd);
    wait_until(atomic_load(&s->closed) == 1);
    answer_parked(s, 100);
    expect_service(s);
}

/* It asks, and never reads: its answers may fill so much memory and no more. Others are served. */
static void who_never_reads_is_disconnected(void **state)
{
    struct server *s = *state;
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    for (uint32_t k = 0; k < 64; k++)
        raw_send(fd, k, "park", 4);
    wait_until(atomic_load(&s->requests) == 64);
    answer_parked(s, ANSWER_MAX);
    expect_service(s);
    wait_until(atomic_load(&s->closed) >= 1);
    close(fd);
    expect_service(s);
}

static void *write_echoes(void *arg)
{
    char body[65536] = "echo";
    int fd = *(int *)arg;
    for (uint32_t i = 0; i < 400; i++) {
        memcpy(body + 4, &i, sizeof i);
        raw_send(fd, i, body, sizeof body);
    }
    return NULL;
}

/* 25 MiB of answers to one who reads them late: his requests wait, and he gets every answer. */
static void who_reads_late_is_waited_for(void **state)
{
    struct server *s = *state;
    char body[16];
    uint32_t id = 0, last = 0, seen = 0, before;
    pthread_t writer;
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    assert_int_equal(pthread_create(&writer, NULL, write_echoes, &fd), 0);
    do { /* until it has stopped reading from him: nothing moves any more */
        before = atomic_load(&s->requests);
        for (unsigned i = 0; i < 100 && atomic_load(&s->requests) == before; i++)
            wait_pause();
    } while (atomic_load(&s->requests) != before || before == 0);
    assert_true(before < 400);
    expect_service(s);
    for (; seen < 400; seen++) {
        assert_int_equal(raw_recv(fd, &id, body, sizeof body), 65536);
        memcpy(&last, body + 4, sizeof last);
        assert_int_equal(id, seen);
        assert_int_equal(last, seen);
    }
    pthread_join(writer, NULL);
    close(fd);
}

static void requests_beyond_the_bound_are_answered_busy(void **state)
{
    struct server *s = *state;
    char body[256];
    uint32_t id = 0;
    struct po__response r;
    int fd = raw_connect(s->host.address);
    raw_greet(fd, PO__SP_REQ);
    for (uint32_t k = 0; k < 8192; k++)
        raw_send(fd, k, "park", 4);
    wait_until(atomic_load(&s->requests) == 8192);
    raw_send(fd, 9000, "echo", 4);
    size_t len = raw_recv(fd, &id, body, sizeof body);
    assert_int_equal(id, 9000);
    assert_int_equal(po__response_decode(body, len, &r), 0);
    assert_int_equal(r.code, PO_EBUSY);
    expect_service(s); /* another connection has calls of its own */
    answer_parked(s, 4);
    for (unsigned k = 0; k < 8192; k++)
        assert_int_equal(raw_recv(fd, &id, body, sizeof body), 4);
    raw_send(fd, 9001, "echo", 4);
    assert_int_equal(raw_recv(fd, &id, body, sizeof body), 4);
    close(fd);
}

/* ---- floods ---- */

static rlim_t set_descriptors(rlim_t n)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = n < limit.rlim_max ? n : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void silent_connections_make_room(void **state)
{
    struct server *s = *state;
    rlim_t before = set_descriptors(4096);
    int fds[1100];
    for (unsigned i = 0; i < 1100; i++)
        fds[i] = raw_connect(s->host.address);
    wait_until(atomic_load(&s->full));
    expect_service(s);
    for (unsigned i = 0; i < 1100; i++)
        close(fds[i]);
    set_descriptors(before);
}

static void connections_are_bounded(void **state)
{
    struct server *s = *state;
    char error[512], body[8];
    uint32_t id = 0;
    int fds[300];
    unsigned alive = 0;
    struct po__endpoint_opts opts = {.listen = "127.0.0.1:0",
                                     .log = {.cb = on_log, .arg = s, .level = PO_LOG_WARN},
                                     .request = on_request,
                                     .closed = on_closed,
                                     .arg = s};
    struct host small;
    rlim_t before = set_descriptors(328); /* 128 of them are not for connections */
    assert_int_equal(host_open(&small, &opts, error, sizeof error), 0);
    set_descriptors(4096);
    for (unsigned i = 0; i < 300; i++) {
        fds[i] = raw_connect(small.address);
        send(fds[i], "\0SP\0\0\x30\0\0", 8, MSG_NOSIGNAL);
    }
    for (unsigned i = 0; i < 300; i++) { /* the hello of the endpoint, or the end */
        uint8_t hello[PO__SP_HELLO_BYTES];
        alive += raw_read(fds[i], hello, sizeof hello);
    }
    assert_true(atomic_load(&s->full));
    assert_int_equal(alive, 200);
    for (unsigned i = 0; i < 300; i++)
        close(fds[i]);
    wait_until(atomic_load(&s->closed) == 200);
    int fd = raw_connect(small.address);
    raw_greet(fd, PO__SP_REQ);
    raw_send(fd, 1, "echo", 4);
    assert_int_equal(raw_recv(fd, &id, body, sizeof body), 4);
    host_close(&small);
    assert_int_equal(recv(fd, body, 1, 0), 0);
    close(fd);
    set_descriptors(before);
}

/* ---- its own end ---- */

static void answers_leave_before_the_end(void **state)
{
    struct server *s = *state;
    struct server other = {.lock = PTHREAD_MUTEX_INITIALIZER};
    char error[512], body[16];
    uint32_t id = 0;
    struct po__endpoint_opts opts = {
        .listen = "127.0.0.1:0", .request = on_request, .closed = on_closed, .arg = &other};
    assert_int_equal(host_open(&other.host, &opts, error, sizeof error), 0);
    int fd = raw_connect(other.host.address);
    raw_greet(fd, PO__SP_REQ);
    for (uint32_t k = 0; k < 3; k++)
        raw_send(fd, k, "park", 4);
    wait_until(atomic_load(&other.requests) == 3);
    other.bytes = s->bytes;
    answer_parked(&other, 100000);
    host_close(&other.host); /* nobody reads yet: the kernel's buffers have to do, or patience */
    for (uint32_t k = 0; k < 3; k++) {
        assert_int_equal(raw_recv(fd, &id, body, sizeof body), 100000);
        assert_int_equal(id, k);
    }
    raw_expect_end(fd);
    close(fd);
    assert_int_equal(atomic_load(&other.closed), 0);
}

static void severed_connections_end_without_a_word(void **state)
{
    struct server *s = *state;
    char byte;
    int asking = raw_connect(s->host.address), silent = raw_connect(s->host.address);
    raw_greet(asking, PO__SP_REQ);
    raw_send(asking, 1, "park", 4);
    wait_until(atomic_load(&s->requests) == 1);
    host_sever(&s->host);
    assert_false(raw_read(asking, &byte, 1));
    answer_parked(s, 4); /* to nobody */
    while (raw_read(silent, &byte, 1))
        ; /* the hello, if it came so far */
    assert_int_equal(atomic_load(&s->closed), 0);
    assert_int_equal(atomic_load(&s->refusals), 0);
    close(asking);
    close(silent);
}

static void *ask_until_the_end(void *arg)
{
    struct server *s = arg;
    char body[256];
    uint32_t id = 0, k = 0;
    size_t len;
    int fd = raw_connect(s->host.address);
    intptr_t turned_away = 0;
    raw_greet(fd, PO__SP_REQ);
    for (;;) {
        uint8_t m[PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES + 4];
        struct po__response r;
        po__sp_length(m, PO__SP_ID_BYTES + 4);
        po__sp_put_id(m + PO__SP_LENGTH_BYTES, ++k | PO__SP_REQUEST_ID_BIT);
        memcpy(m + PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES, "echo", 4);
        if (send(fd, m, sizeof m, MSG_NOSIGNAL) != sizeof m ||
            (len = raw_recv(fd, &id, body, sizeof body)) == SIZE_MAX)
            break;
        if (len != 4 && po__response_decode(body, len, &r) == 0)
            turned_away += r.code == PO_ECLOSED;
    }
    close(fd);
    return (void *)turned_away;
}

/* Requests that come while it closes are told that nothing was done. */
static void requests_at_the_end_are_turned_away(void **state)
{
    struct server other = {.lock = PTHREAD_MUTEX_INITIALIZER};
    char error[512];
    pthread_t asker;
    void *turned_away;
    struct po__endpoint_opts opts = {
        .listen = "127.0.0.1:0", .request = on_request, .closed = on_closed, .arg = &other};
    (void)state;
    assert_int_equal(host_open(&other.host, &opts, error, sizeof error), 0);
    assert_int_equal(pthread_create(&asker, NULL, ask_until_the_end, &other), 0);
    wait_until(atomic_load(&other.requests) > 10);
    host_close(&other.host);
    pthread_join(asker, &turned_away);
    assert_true((intptr_t)turned_away > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(strangers_are_closed),
        T(silence_is_not_waited_for_for_ever),
        T(messages_arrive_in_any_pieces),
        T(ids_are_returned_unchanged),
        T(peers_die_in_the_middle_of_requests),
        T(peers_die_in_the_middle_of_answers),
        T(late_answers_vanish),
        T(who_never_reads_is_disconnected),
        T(who_reads_late_is_waited_for),
        T(requests_beyond_the_bound_are_answered_busy),
        T(silent_connections_make_room),
        T(connections_are_bounded),
        T(answers_leave_before_the_end),
        T(severed_connections_end_without_a_word),
        T(requests_at_the_end_are_turned_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
