/* The worker endpoint, asked by nng: another implementation of the protocol, with and without a
 * router in between. */
#include "host.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARKED_MAX 64

/* Answers "echo..." with itself, drops "drop...", parks everything else. */
struct server {
    struct host host;
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
        po__endpoint_answer(call, data, len);
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
    return host_open(&s->host, &opts, error, error_len);
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
    for (unsigned i = 0; i < s->parked_count; i++)
        host_answer(&s->host, s->parked[i], "stopped", 7);
    host_close(&s->host);
    free(s);
    return 0;
}

static nng_socket client(const struct server *s)
{
    nng_socket q;
    char url[300];
    snprintf(url, sizeof url, "tcp://%s", s->host.address);
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
    assert_memory_equal(s->host.address, "127.0.0.1:", 10);
    assert_string_not_equal(s->host.address, "127.0.0.1:0");
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
        host_answer(&s->host, s->parked[i], text, (size_t)snprintf(text, sizeof text, "a%u", i));
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

static void large_requests_and_answers_pass(void **state)
{
    struct server *s = *state;
    size_t max = PO__REQUEST_MAX_BYTES;
    char *big = malloc(max);
    nng_socket q = client(s);
    for (size_t i = 0; i < max; i++)
        big[i] = (char)(i * 7 + (i >> 12));
    memcpy(big, "echo", 4);
    assert_int_equal(nng_socket_set_size(q, NNG_OPT_RECVMAXSZ, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        ask(q, big, max);
        expect(q, big, max);
    }
    nng_close(q);
    free(big);
}

/* The router pushes an id of its own before the request's; the answer finds its way back. */
static void requests_come_through_a_router(void **state)
{
    struct server *s = *state;
    nng_socket front, back, q;
    nng_listener listener;
    char url[300];
    int port;
    assert_int_equal(nng_rep0_open_raw(&front), 0);
    assert_int_equal(nng_req0_open_raw(&back), 0);
    assert_int_equal(nng_listen(front, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(url, sizeof url, "tcp://%s", s->host.address);
    assert_int_equal(nng_dial(back, url, NULL, 0), 0);
    assert_int_equal(nng_req0_open(&q), 0);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    assert_int_equal(nng_dial(q, url, NULL, 0), 0);
    for (unsigned i = 0; i < 10; i++) { /* a router by hand: one message each way */
        nng_msg *m;
        ask(q, "echo", 4);
        assert_int_equal(nng_recvmsg(front, &m, 0), 0);
        assert_int_equal(nng_sendmsg(back, m, 0), 0);
        assert_int_equal(nng_recvmsg(back, &m, 0), 0);
        assert_int_equal(nng_sendmsg(front, m, 0), 0);
        expect(q, "echo", 4);
    }
    nng_close(q);
    nng_close(back);
    nng_close(front);
}

static void taken_and_wrong_addresses_are_explained(void **state)
{
    struct server *s = *state, other = {0};
    char error[512], expected[300];
    assert_int_equal(open_on(&other, s->host.address, error, sizeof error), PO_EADDR);
    snprintf(expected, sizeof expected, "address in use: %s", s->host.address);
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
    assert_memory_equal(v6.host.address, "[::1]:", 6);
    nng_socket q = client(&v6);
    ask(q, "echo", 4);
    expect(q, "echo", 4);
    nng_close(q);
    host_close(&v6.host);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(answers_requests),
        T(parked_requests_are_answered_from_another_thread),
        T(large_requests_and_answers_pass),
        T(requests_come_through_a_router),
        T(taken_and_wrong_addresses_are_explained),
        T(ipv6_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
