/* The connections of a client's channel: to nng, to those who do not speak, speak nonsense, or die
 * in the middle of a word. */
#include "asker.h"
#include "fake_node.h"
#include "raw.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdio.h>

#define CALLS_MAX 64

struct world {
    struct fake_node good;
    int listener;     /* of a server by hand */
    char address[64]; /* its own */
    char both[400];   /* it first, then the good one */
    struct po__channel *ch;
    struct answer answers[CALLS_MAX];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(w->listener, 16), 0);
    assert_int_equal(getsockname(w->listener, (struct sockaddr *)&sa, &len), 0);
    snprintf(w->address, sizeof w->address, "127.0.0.1:%u", ntohs(sa.sin_port));
    fake_open(&w->good, "127.0.0.1:0");
    snprintf(w->both, sizeof w->both, "%s,%s", w->address, w->good.host.address);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (w->ch)
        w->ch->ops->close(w->ch);
    fake_close(&w->good);
    if (w->listener >= 0)
        close(w->listener);
    free(w);
    return 0;
}

static void open_channel(struct world *w, const char *addresses)
{
    struct po__logger log = {0};
    assert_int_equal(po__channel_net(&w->ch, addresses, CALLS_MAX, &log), 0);
}

static void call(struct world *w, unsigned i, const struct po__buf *req, uint32_t timeout_ms)
{
    w->answers[i] = (struct answer){0};
    assert_int_equal(
        w->ch->ops->call(w->ch, req->data, req->len, timeout_ms, on_answer, &w->answers[i]), 0);
}

static void expect_answer(struct world *w, unsigned i, int code)
{
    wait_until(atomic_load(&w->answers[i].done));
    assert_int_equal(w->answers[i].code, code);
    if (code == 0)
        assert_int_equal(w->answers[i].resp_code, 0);
}

static void expect_service(struct world *w)
{
    struct po__buf req = submit();
    call(w, 0, &req, 15000);
    expect_answer(w, 0, 0);
    po__buf_fini(&req);
}

static int accept_one(struct world *w)
{
    int fd = accept(w->listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

static struct po__buf response(void)
{
    struct po__buf b = {0};
    po__response_begin(&b, 0, po__str(""), po__str(""), 5, 2);
    po__mpw_uint(&b, 7);
    po__mpw_bin(&b, po__slice("", 0));
    return b;
}

/* ---- nng ---- */

static void nng_answers(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit(), resp = response();
    nng_socket rep;
    nng_listener listener;
    char address[64];
    int port;
    assert_int_equal(nng_rep0_open(&rep), 0);
    assert_int_equal(nng_socket_set_size(rep, NNG_OPT_RECVMAXSZ, 0), 0);
    assert_int_equal(nng_listen(rep, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    open_channel(w, address);
    for (unsigned i = 0; i < CALLS_MAX; i++)
        call(w, i, &req, 15000);
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        char *got;
        size_t len;
        assert_int_equal(nng_recv(rep, &got, &len, NNG_FLAG_ALLOC), 0);
        assert_int_equal(len, req.len);
        assert_memory_equal(got, req.data, len);
        nng_free(got, len);
        assert_int_equal(nng_send(rep, resp.data, resp.len, 0), 0);
    }
    for (unsigned i = 0; i < CALLS_MAX; i++)
        expect_answer(w, i, 0);
    w->ch->ops->close(w->ch);
    w->ch = NULL;
    nng_close(rep);
    po__buf_fini(&req);
    po__buf_fini(&resp);
}

/* ---- those who do not serve ---- */

/* A listener whose process hangs accepts connections all the same. */
static void who_says_no_hello_is_not_asked(void **state)
{
    struct world *w = *state;
    open_channel(w, w->both);
    int fd = accept_one(w);
    for (unsigned i = 0; i < 20; i++)
        expect_service(w);
    assert_int_equal(atomic_load(&w->good.requests), 20);
    close(fd);
}

static void nonsense_is_not_believed(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *bytes;
        size_t len;
    } inputs[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", 28},
        {"\0SP\0\0\x30\0\0", 8},                          /* a requester, too */
        {"\0SP\0\0\x31\0\0\xff\0\0\0\0\0\0\0", 16},       /* a length */
        {"\0SP\0\0\x31\0\0\0\0\0\0\0\0\0\2hi", 18},       /* too short for an id */
        {"\0SP\0\0\x31\0\0\0\0\0\0\0\0\0\4\0\0\0\1", 20}, /* no id that ends */
    };
    open_channel(w, w->both);
    for (unsigned i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        int fd = accept_one(w);
        raw_write(fd, inputs[i].bytes, inputs[i].len);
        raw_expect_end(fd);
        close(fd);
        expect_service(w);
    }
}

/* Answers to questions that nobody asked. */
static void unasked_answers_are_ignored(void **state)
{
    struct world *w = *state;
    struct po__buf resp = response(), req = submit();
    char got[4096];
    uint32_t id = 0;
    open_channel(w, w->address);
    int fd = accept_one(w);
    raw_greet(fd, PO__SP_REP);
    for (uint32_t i = 0; i < 100; i++)
        raw_send(fd, i * 0x10001u, resp.data, resp.len);
    call(w, 0, &req, 15000);
    assert_int_equal(raw_recv(fd, &id, got, sizeof got), req.len);
    assert_memory_equal(got, req.data, req.len);
    assert_int_equal(atomic_load(&w->answers[0].done), 0);
    raw_send(fd, id, resp.data, resp.len);
    raw_send(fd, id, resp.data, resp.len);
    expect_answer(w, 0, 0);
    close(fd);
    po__buf_fini(&resp);
    po__buf_fini(&req);
}

/* ---- those who die ---- */

/* In the middle of an answer of 4 MiB, several times: the same bytes are asked again. */
static void node_dies_in_the_middle_of_an_answer(void **state)
{
    struct world *w = *state;
    struct po__buf resp = response(), req = submit();
    char got[4096], *big = calloc(1, PO__REQUEST_MAX_BYTES);
    uint32_t id = 0;
    open_channel(w, w->address);
    call(w, 0, &req, 60000);
    for (unsigned i = 0; i < 5; i++) {
        int fd = accept_one(w);
        raw_greet(fd, PO__SP_REP);
        assert_int_equal(raw_recv(fd, &id, got, sizeof got), req.len);
        assert_memory_equal(got, req.data, req.len);
        if (i == 4) {
            raw_send(fd, id, resp.data, resp.len);
            expect_answer(w, 0, 0);
        } else {
            raw_head(fd, id, PO__REQUEST_MAX_BYTES);
            raw_write(fd, big, i * 1000000 + 1);
        }
        close(fd);
    }
    free(big);
    po__buf_fini(&resp);
    po__buf_fini(&req);
}

/* It takes a few bytes of what is sent, and dies. What it cannot have seen whole it cannot have
 * executed: nothing about that is unknown. */
static void what_never_left_is_not_unknown(void **state)
{
    struct world *w = *state;
    struct po__buf req = {0};
    struct po__cmd cmd = {.type = PO__CMD_TASK_SUBMIT};
    char *input = malloc(1u << 20);
    uint8_t head[PO__SP_LENGTH_BYTES];
    memset(input, 'x', 1u << 20);
    cmd.submit.key = po__str("the-key");
    cmd.submit.capability = po__str("do:it");
    cmd.submit.input = po__slice(input, 1u << 20);
    po__request_command(&req, 5000, &cmd);
    assert_int_equal(req.err, 0);
    open_channel(w, w->address);
    int fd = accept_one(w);
    raw_greet(fd, PO__SP_REP);
    for (unsigned i = 0; i < 24; i++)
        call(w, i, &req, 1500);
    assert_true(raw_read(fd, head, sizeof head)); /* it is on its way */
    close(w->listener);
    w->listener = -1;
    close(fd);
    for (unsigned i = 0; i < 24; i++) {
        wait_until(atomic_load(&w->answers[i].done));
        int code = w->answers[i].code;
        assert_true(code == PO_EUNKNOWN || code == PO_ETIMEDOUT || code == PO_EUNREACHABLE);
    }
    assert_int_not_equal(w->answers[23].code, PO_EUNKNOWN); /* beyond any socket's buffers */
    free(input);
    po__buf_fini(&req);
}

/* A whole request was taken: it may have been executed. */
static void what_left_is_unknown(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit();
    char got[4096];
    uint32_t id = 0;
    open_channel(w, w->address);
    int fd = accept_one(w);
    raw_greet(fd, PO__SP_REP);
    call(w, 0, &req, 1500);
    assert_int_equal(raw_recv(fd, &id, got, sizeof got), req.len);
    close(w->listener);
    w->listener = -1;
    close(fd);
    expect_answer(w, 0, PO_EUNKNOWN);
    po__buf_fini(&req);
}

/* More than a socket takes, to one who reads late: everything arrives, in order. */
static void large_requests_wait_for_a_slow_node(void **state)
{
    struct world *w = *state;
    struct po__buf resp = response(), req = {0};
    struct po__cmd cmd = {.type = PO__CMD_TASK_SUBMIT};
    size_t size = 3u << 20;
    char *input = malloc(size), *got = malloc(PO__REQUEST_MAX_BYTES);
    uint32_t id = 0;
    for (size_t i = 0; i < size; i++)
        input[i] = (char)('a' + i % 23);
    cmd.submit.key = po__str("the-key");
    cmd.submit.capability = po__str("do:it");
    cmd.submit.input = po__slice(input, size);
    po__request_command(&req, 5000, &cmd);
    open_channel(w, w->address);
    for (unsigned i = 0; i < 16; i++) /* 48 MiB: more than one connection's queue holds */
        call(w, i, &req, 60000);
    int fd = accept_one(w);
    raw_greet(fd, PO__SP_REP);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(raw_recv(fd, &id, got, PO__REQUEST_MAX_BYTES), req.len);
        assert_memory_equal(got, req.data, req.len);
        raw_send(fd, id, resp.data, resp.len);
    }
    for (unsigned i = 0; i < 16; i++)
        expect_answer(w, i, 0);
    close(fd);
    free(input);
    free(got);
    po__buf_fini(&resp);
    po__buf_fini(&req);
}

/* ---- threads, and the end ---- */

struct caller {
    pthread_t thread;
    struct po__channel *ch;
    unsigned failed;
};

static void *ask_many_times(void *arg)
{
    struct caller *c = arg;
    struct po__buf req = submit();
    for (unsigned i = 0; i < 200; i++) {
        struct answer a = {0};
        if (c->ch->ops->call(c->ch, req.data, req.len, 15000, on_answer, &a)) {
            c->failed++;
            continue;
        }
        while (!atomic_load(&a.done))
            wait_pause();
        c->failed += a.code != 0 || a.resp_code != 0;
    }
    po__buf_fini(&req);
    return NULL;
}

static void many_threads_ask_at_once(void **state)
{
    struct world *w = *state;
    struct caller callers[8] = {0};
    open_channel(w, w->good.host.address);
    for (unsigned i = 0; i < 8; i++) {
        callers[i].ch = w->ch;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, ask_many_times, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].failed, 0);
    }
    assert_int_equal(atomic_load(&w->good.requests), 1600);
}

static void closing_never_waits_for_a_connection(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit();
    for (unsigned i = 0; i < 50; i++) {
        open_channel(w, i % 2 ? w->both : w->address);
        for (unsigned k = 0; k < i % 5; k++)
            call(w, k, &req, 60000);
        if (i % 3 == 0)
            wait_pause();
        w->ch->ops->close(w->ch);
        w->ch = NULL;
        for (unsigned k = 0; k < i % 5; k++)
            assert_int_equal(atomic_load(&w->answers[k].done), 1);
    }
    po__buf_fini(&req);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nng_answers),
        T(who_says_no_hello_is_not_asked),
        T(nonsense_is_not_believed),
        T(unasked_answers_are_ignored),
        T(node_dies_in_the_middle_of_an_answer),
        T(what_never_left_is_not_unknown),
        T(what_left_is_unknown),
        T(large_requests_wait_for_a_slow_node),
        T(many_threads_ask_at_once),
        T(closing_never_waits_for_a_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
