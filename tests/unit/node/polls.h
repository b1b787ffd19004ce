/* A worker that speaks the poll protocol by hand, through a channel in the process. */
#ifndef TEST_POLLS_H
#define TEST_POLLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "node/channel.h"
#include "node/request.h"

struct answer {
    atomic_int done;
    int code;
    size_t len;
    uint8_t data[65536];
};

static void take_answer(void *arg, int code, const void *resp, size_t len)
{
    struct answer *a = arg;
    a->code = code;
    a->len = len;
    assert_true(len <= sizeof a->data);
    if (len)
        memcpy(a->data, resp, len);
    atomic_store(&a->done, 1);
}

static void wait_done(atomic_int *done)
{
    for (int i = 0; i < 20000 && !atomic_load(done); i++)
        usleep(500);
    assert_true(atomic_load(done));
}

struct poll_answer {
    int code;
    uint32_t tasks, revoked;
    int done_code;
    struct po__task_offer task; /* the first */
};

static void send_poll(struct po__channel *ch, struct answer *a, const struct po__request *req)
{
    struct po__buf b;
    po__buf_init(&b, 0);
    po__request_poll(&b, req);
    assert_int_equal(b.err, 0);
    atomic_store(&a->done, 0);
    assert_int_equal(ch->ops->call(ch, b.data, b.len, req->timeout_ms, take_answer, a), 0);
    po__buf_fini(&b);
}

static struct poll_answer read_poll(struct answer *a)
{
    struct poll_answer p = {0};
    struct po__response r;
    struct po__mpr m;
    wait_done(&a->done);
    assert_int_equal(a->code, 0);
    assert_int_equal(po__response_decode(a->data, a->len, &r), 0);
    p.code = r.code;
    if (r.code)
        return p;
    po__mpr_init(&m, r.body.data, r.body.len);
    uint32_t done = po__mpr_array(&m, 1024);
    for (uint32_t i = 0; i < done; i++)
        p.done_code = (int)po__mpr_int(&m);
    p.tasks = po__mpr_array(&m, 1024);
    for (uint32_t i = 0; i < p.tasks; i++) {
        struct po__task_offer t;
        assert_int_equal(po__task_offer_decode(&m, &t), 0);
        if (i == 0)
            p.task = t;
    }
    p.revoked = po__mpr_array(&m, 1024);
    for (uint32_t i = 0; i < p.revoked; i++)
        po__mpr_uint(&m, UINT64_MAX);
    assert_int_equal(po__mpr_end(&m), 0);
    return p;
}

static const uint8_t no_items[] = {0x90}; /* an empty msgpack array */

static struct po__request poll_request(const char *id, uint64_t incarnation)
{
    struct po__request q = {.type = PO__REQ_POLL, .timeout_ms = 10000};
    q.poll.worker_id = po__str(id);
    q.poll.incarnation = incarnation;
    q.poll.wait_ms = 5000;
    q.poll.tasks_max = 16;
    q.poll.held = q.poll.done = po__slice(no_items, sizeof no_items);
    return q;
}

#endif
