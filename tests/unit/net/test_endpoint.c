/* The worker endpoint, asked by plain nng REQ sockets and by strangers. */
#include "wait.h"

#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/worker_endpoint.h"

#define PARKED_MAX 2048

/* Answers "echo..." with itself, drops "drop...", parks everything else. */
struct server {
    struct po__endpoint *e;
    pthread_mutex_t lock;
    struct po__endpoint_call *parked[PARKED_MAX];
    unsigned parked_count;
    atomic_uint requests, closed;
    atomic_ullong last_conn, last_closed;
};

static void on_request(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                       size_t len)
{
    struct server *s = arg;
    atomic_store(&s->last_conn, conn);
    if (len >= 4 && memcmp(data, "echo", 4) == 0) {
        void *copy = malloc(len);
        memcpy(copy, data, len);
        po__endpoint_answer(call, copy, len);
        free(copy);
    } else if (len >= 4 && memcmp(data, "drop", 4) == 0) {
        po__endpoint_drop(call);
    } else {
        pthread_mutex_lock(&s->lock);
        s->parked[s->parked_count++] = call;
        pthread_mutex_unlock(&s->lock);
    }
    atomic_fetch_add(&s->requests, 1);
}

static void on_closed(void *arg, uint64_t conn)
{
    struct server *s = arg;
    atomic_store(&s->last_closed, conn);
    atomic_fetch_add(&s->closed, 1);
}

static int open_on(struct server *s, const char *listen, char *error, size_t error_len)
{
    struct po__endpoint_opts opts = {
        .listen = listen, .request = on_request, .closed = on_closed, .arg = s};
    return po__endpoint_open(&s->e, &opts, error, error_len);
}

static int setup(void **state)
{
    struct server *s = calloc(1, sizeof *s);
    char error[512];
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(open_on(s, "127.0.0.1:0", error, sizeof error), 0);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct server *s = *state;
    po__endpoint_stop(s->e);
    for (unsigned i = 0; i < s->parked_count; i++)
        po__endpoint_answer(s->parked[i], "stopped", 7);
    po__endpoint_close(s->e);
    free(s);
    return 0;
}

static nng_socket client(const struct server *s)
{
    nng_socket q;
    char url[256];
    snprintf(url, sizeof url, "tcp://%s", po__endpoint_address(s->e));
    assert_int_equal(nng_req0_open(&q), 0);
    assert_int_equal(nng_socket_set_ms(q, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE), 0);
    assert_int_equal(nng_dial(q, url, NULL, 0), 0);
    return q;
}

static void ask(nng_socket q, const void *data, size_t len)
{
    assert_int_equal(nng_send(q, (void *)data, len, 0), 0);
}

static void expect(nng_socket q, const void *data, size_t len)
{
    char *answer;
    size_t n;
    assert_int_equal(nng_socket_set_ms(q, NNG_OPT_RECVTIMEO, WAIT_GUARD_MS), 0);
    assert_int_equal(nng_recv(q, &answer, &n, NNG_FLAG_ALLOC), 0);
    assert_int_equal(n, len);
    assert_memory_equal(answer, data, len);
    nng_free(answer, n);
}

static void answers_requests(void **state)
{
    struct server *s = *state;
    nng_socket q = client(s);
    assert_memory_equal(po__endpoint_address(s->e), "127.0.0.1:", 10);
    assert_string_not_equal(po__endpoint_address(s->e), "127.0.0.1:0");
    for (unsigned i = 0; i < 100; i++) {
        ask(q, "echo me", 7);
        expect(q, "echo me", 7);
    }
    nng_close(q);
    wait_until(atomic_load(&s->closed) == 1);
    assert_true(atomic_load(&s->last_closed) == atomic_load(&s->last_conn));
}

static void parked_requests_are_answered_from_another_thread(void **state)
{
    struct server *s = *state;
    nng_socket q = client(s);
    nng_ctx ctxs[40];
    nng_aio *aios[40];
    for (unsigned i = 0; i < 40; i++) {
        nng_msg *m;
        assert_int_equal(nng_ctx_open(&ctxs[i], q), 0);
        assert_int_equal(nng_aio_alloc(&aios[i], NULL, NULL), 0);
        assert_int_equal(nng_msg_alloc(&m, 0), 0);
        nng_msg_append(m, "park", 4);
        nng_aio_set_msg(aios[i], m);
        nng_ctx_send(ctxs[i], aios[i]);
        nng_aio_wait(aios[i]);
        nng_aio_set_timeout(aios[i], WAIT_GUARD_MS);
        nng_ctx_recv(ctxs[i], aios[i]);
    }
    wait_until(atomic_load(&s->requests) == 40);
    for (unsigned i = 40; i-- > 0;) { /* in another order than they came */
        char text[16];
        po__endpoint_answer(s->parked[i], text, (size_t)snprintf(text, sizeof text, "a%u", i));
    }
    s->parked_count = 0;
    for (unsigned i = 0; i < 40; i++) {
        nng_aio_wait(aios[i]);
        assert_int_equal(nng_aio_result(aios[i]), 0);
        nng_msg_free(nng_aio_get_msg(aios[i]));
        nng_aio_free(aios[i]);
        nng_ctx_close(ctxs[i]);
    }
    nng_close(q);
}

static int plain_connect(const struct server *s)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    sa.sin_port = htons((uint16_t)atoi(strchr(po__endpoint_address(s->e), ':') + 1));
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static void large_requests_pass_and_larger_ones_do_not(void **state)
{
    struct server *s = *state;
    size_t max = PO__REQUEST_MAX_BYTES - 64;
    char *big = calloc(1, max), bytes[64];
    memcpy(big, "echo", 4);
    nng_socket q = client(s);
    assert_int_equal(nng_socket_set_size(q, NNG_OPT_RECVMAXSZ, 0), 0);
    ask(q, big, max);
    expect(q, big, max);
    nng_close(q);
    free(big);
    /* By hand: nng 1.5.2 hangs in nng_close if its connection ends while a message leaves. */
    unsigned char larger[16] = "\0SP\0\0\x30\0\0";
    for (unsigned i = 0; i < 8; i++)
        larger[8 + i] = (unsigned char)((uint64_t)(PO__REQUEST_MAX_BYTES + 64) >> (56 - 8 * i));
    int fd = plain_connect(s);
    assert_int_equal(write(fd, larger, sizeof larger), (ssize_t)sizeof larger);
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
    wait_until(atomic_load(&s->closed) >= 2);
    assert_int_equal(atomic_load(&s->requests), 1);
}

static void strangers_do_no_harm(void **state)
{
    struct server *s = *state;
    static const struct {
        const char *data;
        size_t len;
    } inputs[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\0SP\0\0\x30\0\0"
         "\0\0\0\0\0\0\0\x02hi",
         18}, /* shorter than a request id */
        {"\0SP\0\0\x30\0\0"
         "\0\0\0\0\0\0\0\x04\0\0\0\1",
         20}, /* a request id that never ends */
        {"\0SP\0\0\x30\0\0"
         "\xff\xff\xff\xff\xff\xff\xff\xff",
         16},                    /* a length of 2^64 - 1 */
        {"\0SP\0\0\x10\0\0", 8}, /* another protocol */
    };
    for (unsigned i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        int fd = plain_connect(s);
        char bytes[64];
        assert_int_equal(write(fd, inputs[i].data, inputs[i].len), (ssize_t)inputs[i].len);
        while (read(fd, bytes, sizeof bytes) > 0) /* nng's own 8 bytes, then the end */
            ;
        close(fd);
    }
    assert_int_equal(atomic_load(&s->requests), 0);
    nng_socket q = client(s);
    ask(q, "echo", 4);
    expect(q, "echo", 4);
    nng_close(q);
}

static void taken_and_wrong_addresses_are_explained(void **state)
{
    struct server *s = *state, other = {0};
    char error[512], expected[300];
    assert_int_equal(open_on(&other, po__endpoint_address(s->e), error, sizeof error), PO_EADDR);
    snprintf(expected, sizeof expected, "address in use: %s", po__endpoint_address(s->e));
    assert_non_null(strstr(error, expected));
    assert_int_equal(open_on(&other, "127.0.0.1", error, sizeof error), PO_EADDR);
    assert_non_null(strstr(error, "the port is missing"));
    assert_int_equal(open_on(&other, "no-such-host.invalid:1", error, sizeof error), PO_EADDR);
}

static void ipv6_works(void **state)
{
    struct server *s = *state, v6 = {0};
    char error[512];
    (void)s;
    assert_int_equal(open_on(&v6, "[::1]:0", error, sizeof error), 0);
    assert_memory_equal(po__endpoint_address(v6.e), "[::1]:", 6);
    nng_socket q = client(&v6);
    ask(q, "echo", 4);
    expect(q, "echo", 4);
    nng_close(q);
    po__endpoint_close(v6.e);
}

static void stopping_ends_callbacks(void **state)
{
    struct server *s = *state;
    nng_socket q = client(s);
    ask(q, "park", 4);
    wait_until(atomic_load(&s->requests) == 1);
    po__endpoint_stop(s->e);
    po__endpoint_answer(s->parked[0], "late", 4); /* still leaves */
    s->parked_count = 0;
    expect(q, "late", 4);
    ask(q, "park", 4);
    int fd = plain_connect(s); /* refused at the door */
    char bytes[64];
    assert_int_equal(write(fd, "\0SP\0\0\x30\0\0", 8), 8);
    while (read(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
    nng_close(q);
    assert_int_equal(atomic_load(&s->requests), 1);
    assert_int_equal(atomic_load(&s->closed), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(answers_requests),
        T(parked_requests_are_answered_from_another_thread),
        T(large_requests_pass_and_larger_ones_do_not),
        T(strangers_do_no_harm),
        T(taken_and_wrong_addresses_are_explained),
        T(ipv6_works),
        T(stopping_ends_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
