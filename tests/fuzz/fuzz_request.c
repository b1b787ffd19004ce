/* Requests, and all that a node reads inside them. */
#include "fuzz.h"

#include "../unit/model/samples.h"
#include "node/request.h"

static void read_inside(const struct po__request *req)
{
    static struct po__cmd cmd;
    struct po__mpr r;
    struct po__done d;
    po__mpr_init(&r, req->body.data, req->body.len);
    if (req->type == PO__REQ_COMMAND) {
        po__cmd_decode(&r, &cmd, false);
    } else if (req->type == PO__REQ_BATCH) {
        uint32_t n = po__mpr_array(&r, PO__BATCH_MAX);
        FUZZ_CHECK(n <= PO__BATCH_MAX);
        while (n-- && po__cmd_decode(&r, &cmd, false) == 0)
            ;
    } else if (req->type == PO__REQ_POLL) {
        po__mpr_init(&r, req->poll.done.data, req->poll.done.len);
        FUZZ_CHECK(po__mpr_array(&r, PO__POLL_TASKS_MAX) == req->poll.done_count);
        for (uint32_t i = 0; i < req->poll.done_count && po__done_decode(&r, &d) == 0; i++)
            ;
        po__mpr_init(&r, req->poll.held.data, req->poll.held.len);
        FUZZ_CHECK(po__mpr_array(&r, PO__POLL_HELD_MAX) == req->poll.held_count);
        for (uint32_t i = 0; i < req->poll.held_count && !r.err; i++)
            po__mpr_uint(&r, UINT64_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__request req;
    if (po__request_decode(data, len, &req) == 0)
        read_inside(&req);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

static void add(struct po__buf *b)
{
    FUZZ_CHECK(b->err == 0);
    fuzz_seed(b->data, b->len);
    po__buf_reset(b);
}

void fuzz_seeds(void)
{
    static struct po__cmd cmd;
    struct po__buf b = {0}, steps = {0}, done = {0}, held = {0};
    struct po__query q = {.what = 6, .id = 9, .name = po__str("running"), .limit = 10};
    struct po__done d = {7, 8, PO__DONE_COMPLETE, po__str("{\"a\":1}"), 0};
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        po__request_command(&b, 1000, &cmd);
        add(&b);
    }
    po__request_begin(&b, PO__REQ_BATCH, 1000, 1);
    po__mpw_array(&b, 2);
    for (unsigned i = 5; i < 7; i++) {
        sample(&cmd, i, &steps);
        po__cmd_encode(&b, &cmd);
    }
    add(&b);
    po__request_query(&b, 1000, &q);
    add(&b);
    po__request_wait(&b, 1000, 1, 77);
    add(&b);
    struct po__request req = {.type = PO__REQ_POLL, .timeout_ms = 1000};
    req.poll.has_load = true;
    req.poll.load = (struct po__worker_load){1, 2, 150, 1u << 30, 1u << 31, 250, 90};
    po__request_heartbeat(&b, 1000, po__str("w1"), 5, &req.poll.load);
    add(&b);
    po__request_barrier(&b, 1000);
    add(&b);
    po__mpw_array(&done, 2);
    po__done_encode(&done, &d);
    po__done_encode(&done, &d);
    po__mpw_array(&held, 3);
    for (unsigned i = 1; i <= 3; i++)
        po__mpw_uint(&held, i * 1000);
    req.poll.worker_id = po__str("w1");
    req.poll.incarnation = 5;
    req.poll.ack_seq = 3;
    req.poll.wait_ms = 1000;
    req.poll.tasks_max = 64;
    req.poll.held = po__buf_slice(&held);
    req.poll.done = po__buf_slice(&done);
    po__request_poll(&b, &req);
    add(&b);
    req = (struct po__request){.type = PO__REQ_WATCH, .timeout_ms = 1000};
    req.watch.after_index = 17;
    req.watch.after_position = 2;
    req.watch.wait_ms = 1000;
    req.watch.kinds = 0x7e;
    req.watch.worker = po__str("w1");
    po__request_watch(&b, &req);
    add(&b);
    po__buf_fini(&b);
    po__buf_fini(&steps);
    po__buf_fini(&done);
    po__buf_fini(&held);
}
