/* Requests and responses: every field survives, cut or foreign bytes are refused, appended fields
 * are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "node/request.h"
#include "samples.h"

static struct po__buf b;
static struct po__request req;

/* The request in b decodes whole, not when cut anywhere, and also with a field appended. */
static void check(void)
{
    assert_int_equal(b.err, 0);
    for (size_t n = 0; n < b.len; n++) {
        void *cut = po__memdup(b.data, n);
        assert_int_equal(po__request_decode(cut, n, &req), PO_EPROTO);
        po__free(cut);
    }
    b.data[0]++;
    po__mpw_nil(&b);
    assert_int_equal(po__request_decode(b.data, b.len, &req), 0);
    b.data[0]--;
    b.len--;
    assert_int_equal(po__request_decode(b.data, b.len, &req), 0);
}

static void expect_load(const struct po__worker_load *l)
{
    const struct po__worker_load *got = &req.poll.load;
    assert_true(req.poll.has_load);
    assert_int_equal(got->running, l->running);
    assert_int_equal(got->queued, l->queued);
    assert_int_equal(got->cpu_load_centi, l->cpu_load_centi);
    assert_int_equal(got->memory_used_bytes, l->memory_used_bytes);
    assert_int_equal(got->memory_available_bytes, l->memory_available_bytes);
    assert_int_equal(got->rtt_us, l->rtt_us);
    assert_int_equal(got->rtt_min_us, l->rtt_min_us);
}

static void test_simple_requests(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    static struct po__cmd cmd, copy;
    struct po__mpr r;
    sample(&cmd, 5, &steps);
    po__buf_reset(&b);
    po__request_command(&b, 1234, &cmd);
    check();
    assert_int_equal(req.type, PO__REQ_COMMAND);
    assert_int_equal(req.timeout_ms, 1234);
    po__mpr_init(&r, req.body.data, req.body.len);
    assert_int_equal(po__cmd_decode(&r, &copy, false), 0);
    assert_int_equal(po__mpr_end(&r), 0);
    assert_true(po__slice_eq(copy.submit.input, cmd.submit.input));

    po__buf_reset(&b);
    po__request_begin(&b, PO__REQ_BATCH, 5, 1);
    po__mpw_array(&b, 2);
    po__cmd_encode(&b, &cmd);
    po__cmd_encode(&b, &cmd);
    check();
    po__mpr_init(&r, req.body.data, req.body.len);
    assert_int_equal(po__mpr_array(&r, PO__BATCH_MAX), 2);

    po__buf_reset(&b);
    po__request_query(
        &b, 7, &(struct po__query){6, UINT64_MAX, po__str("running"), po__str("x"), 1000, 250});
    check();
    assert_int_equal(req.query.what, 6);
    assert_true(req.query.id == UINT64_MAX);
    assert_true(po__slice_eq(req.query.name, po__str("running")));
    assert_true(po__slice_eq(req.query.name2, po__str("x")));
    assert_int_equal(req.query.limit, 1000);
    assert_int_equal(req.query.stale_ms, 250);

    po__buf_reset(&b); /* of a client that knows no stale reads: linearizable */
    po__request_begin(&b, PO__REQ_QUERY, 7, 5);
    po__mpw_uint(&b, 6);
    po__mpw_uint(&b, 1);
    po__mpw_cstr(&b, "");
    po__mpw_cstr(&b, "");
    po__mpw_uint(&b, 10);
    assert_int_equal(po__request_decode(b.data, b.len, &req), 0);
    assert_int_equal(req.query.limit, 10);
    assert_int_equal(req.query.stale_ms, 0);

    po__buf_reset(&b);
    po__request_wait(&b, 7, 2, 99);
    check();
    assert_int_equal(req.wait.kind, 2);
    assert_int_equal(req.wait.id, 99);

    po__buf_reset(&b);
    po__request_heartbeat(&b, 7, po__str("w"), 5, NULL);
    check();
    assert_true(po__slice_eq(req.poll.worker_id, po__str("w")));
    assert_int_equal(req.poll.incarnation, 5);

    /* A heartbeat with what came later, with nil for it, and with what is yet to come. */
    struct po__worker_load load = {1, 2, 345, 1000, 70000, 250, 90};
    po__buf_reset(&b);
    po__request_heartbeat(&b, 7, po__str("w"), 5, &load);
    check();
    expect_load(&load);
    po__buf_reset(&b);
    po__request_begin(&b, PO__REQ_HEARTBEAT, 7, 4);
    po__mpw_cstr(&b, "w");
    po__mpw_uint(&b, 5);
    po__mpw_nil(&b);
    po__mpw_cstr(&b, "later still");
    assert_int_equal(po__request_decode(b.data, b.len, &req), 0);
    assert_false(req.poll.has_load);

    po__buf_reset(&b);
    struct po__request watch = {.timeout_ms = 7};
    watch.watch.after_index = UINT64_MAX - 1;
    watch.watch.after_position = 3;
    watch.watch.limit = 4;
    watch.watch.wait_ms = 5000;
    watch.watch.kinds = 0x46;
    watch.watch.task_id = 6;
    watch.watch.run_id = 8;
    watch.watch.worker = po__str("w");
    watch.watch.pipeline = po__str("p");
    po__request_watch(&b, &watch);
    check();
    assert_int_equal(req.type, PO__REQ_WATCH);
    assert_int_equal(req.timeout_ms, 7);
    assert_true(req.watch.after_index == UINT64_MAX - 1);
    assert_int_equal(req.watch.after_position, 3);
    assert_int_equal(req.watch.limit, 4);
    assert_int_equal(req.watch.wait_ms, 5000);
    assert_int_equal(req.watch.kinds, 0x46);
    assert_int_equal(req.watch.task_id, 6);
    assert_int_equal(req.watch.run_id, 8);
    assert_true(po__slice_eq(req.watch.worker, po__str("w")));
    assert_true(po__slice_eq(req.watch.pipeline, po__str("p")));

    po__buf_reset(&b);
    po__request_barrier(&b, 7);
    check();
    assert_int_equal(req.type, PO__REQ_BARRIER);
    po__buf_fini(&steps);
    po__buf_fini(&b);
}

static void test_poll(void **state)
{
    (void)state;
    struct po__buf held = {0}, done = {0};
    struct po__mpr r;
    struct po__done d;
    po__mpw_array(&held, 2);
    po__mpw_uint(&held, 1000);
    po__mpw_uint(&held, 70000);
    po__mpw_array(&done, 1);
    po__done_encode(&done, &(struct po__done){3, 70000, PO__DONE_FAIL, po__str("it broke"), 1});
    struct po__request poll = {.timeout_ms = 30000};
    poll.poll.worker_id = po__str("worker-1");
    poll.poll.incarnation = 77;
    poll.poll.resync = true;
    poll.poll.ack_seq = 12;
    poll.poll.wait_ms = 5000;
    poll.poll.tasks_max = 64;
    poll.poll.held = po__buf_slice(&held);
    poll.poll.done = po__buf_slice(&done);
    po__request_poll(&b, &poll);
    check();
    assert_true(req.poll.resync);
    assert_int_equal(req.poll.ack_seq, 12);
    assert_int_equal(req.poll.wait_ms, 5000);
    assert_int_equal(req.poll.tasks_max, 64);
    assert_false(req.poll.has_load);
    assert_int_equal(req.poll.held_count, 2);
    assert_int_equal(req.poll.done_count, 1);
    po__mpr_init(&r, req.poll.done.data, req.poll.done.len);
    po__mpr_array(&r, 1);
    assert_int_equal(po__done_decode(&r, &d), 0);
    assert_int_equal(po__mpr_end(&r), 0);
    assert_int_equal(d.task_id, 3);
    assert_int_equal(d.token, 70000);
    assert_int_equal(d.kind, PO__DONE_FAIL);
    assert_int_equal(d.flag, 1);
    assert_true(po__slice_eq(d.payload, po__str("it broke")));

    po__buf_reset(&b);
    poll.poll.has_load = true;
    poll.poll.load = (struct po__worker_load){.running = 3, .rtt_us = 99};
    poll.poll.held = poll.poll.done = po__slice(NULL, 0);
    po__request_poll(&b, &poll);
    check();
    assert_int_equal(req.poll.held_count, 0);
    assert_int_equal(req.poll.done_count, 0);
    expect_load(&poll.poll.load);

    po__buf_reset(&done);
    po__done_encode(&done, &(struct po__done){3, 70000, 5, po__str(""), 0});
    po__mpr_init(&r, done.data, done.len);
    assert_int_equal(po__done_decode(&r, &d), PO_EPROTO);
    po__buf_fini(&held);
    po__buf_fini(&done);
    po__buf_fini(&b);
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(po__request_decode("\x93\x02\x01\x00", 4, &req), PO_EVERSION);
    assert_int_equal(po__request_decode("\x93\x01\x63\x00", 4, &req), PO_EVERSION);
    assert_int_equal(po__request_decode("\x90", 1, &req), PO_EPROTO);
    assert_int_equal(po__request_decode("\xdd\xff\xff\xff\xff\x01", 6, &req), PO_EPROTO);
    assert_int_equal(po__request_decode("garbage", 7, &req), PO_EPROTO);
    po__request_barrier(&b, 1);
    po__mpw_nil(&b);
    assert_int_equal(po__request_decode(b.data, b.len, &req), PO_EPROTO); /* trailing byte */
    po__buf_fini(&b);
}

static void test_response(void **state)
{
    (void)state;
    struct po__response resp;
    struct po__task_offer t = {1, 2, 3, 4, 5, 60000, po__str("a:b"), po__str("{}")}, u;
    struct po__mpr r;
    po__response_begin(&b, PO_ENOTLEADER, po__str("ask the leader"), po__str("cp-1:7002"), 42, 2);
    po__mpw_uint(&b, 9);
    po__task_offer_encode(&b, &t);
    for (size_t n = 0; n < b.len; n++) {
        void *cut = po__memdup(b.data, n);
        assert_int_equal(po__response_decode(cut, n, &resp), PO_EPROTO);
        po__free(cut);
    }
    assert_int_equal(po__response_decode(b.data, b.len, &resp), 0);
    assert_int_equal(resp.code, PO_ENOTLEADER);
    assert_true(po__slice_eq(resp.message, po__str("ask the leader")));
    assert_true(po__slice_eq(resp.leader_address, po__str("cp-1:7002")));
    assert_int_equal(resp.index, 42);
    assert_int_equal(resp.body_fields, 2);
    po__mpr_init(&r, resp.body.data, resp.body.len);
    assert_int_equal(po__mpr_uint(&r, 9), 9);
    assert_int_equal(po__task_offer_decode(&r, &u), 0);
    assert_int_equal(po__mpr_end(&r), 0);
    assert_int_equal(u.seq, t.seq);
    assert_int_equal(u.task_id, t.task_id);
    assert_int_equal(u.token, t.token);
    assert_int_equal(u.run_id, t.run_id);
    assert_int_equal(u.attempt, t.attempt);
    assert_int_equal(u.timeout_ms, t.timeout_ms);
    assert_true(po__slice_eq(u.capability, t.capability));
    assert_true(po__slice_eq(u.input, t.input));
    assert_int_equal(po__response_decode("\x95\x01\x05\xa0\xa0\x00", 6, &resp),
                     PO_EPROTO); /* codes are not positive */
    assert_int_equal(po__response_decode("\x95\x02\x00\xa0\xa0\x00", 6, &resp), PO_EVERSION);
    po__buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple_requests),
        cmocka_unit_test(test_poll),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
