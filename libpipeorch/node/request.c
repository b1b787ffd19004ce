/* Encoding and decoding of requests and responses. Readers skip fields that a newer peer appended.
 */
#include "request.h"

#include "../base/assert.h"

#define HEAD_FIELDS          3 /* version, type, timeout_ms */
#define RESPONSE_HEAD_FIELDS 5 /* version, code, message, leader_address, index */
#define QUERY_FIELDS         5 /* and stale_ms, which came later */
#define WAIT_FIELDS          2
#define HEARTBEAT_FIELDS     2
#define POLL_FIELDS          8 /* and load, which came later; likewise HEARTBEAT */
#define MEMBER_FIELDS        9
#define LOAD_FIELDS          7
#define DONE_FIELDS          5
#define OFFER_FIELDS         8
#define SNAPSHOT_FIELDS      2
#define SNAPSHOT_INFO_FIELDS 7
#define WATCH_FIELDS         9
#define CLUSTER_ID_MAX_BYTES 64

static struct po__slice name(struct po__mpr *r)
{
    return po__mpr_str(r, PO_NAME_MAX_BYTES);
}

static uint32_t u32(struct po__mpr *r)
{
    return (uint32_t)po__mpr_uint(r, UINT32_MAX);
}

static uint64_t u64(struct po__mpr *r)
{
    return po__mpr_uint(r, UINT64_MAX);
}

/* May be nil: nothing is said. */
static bool decode_load(struct po__mpr *r, struct po__worker_load *l)
{
    if (po__mpr_peek(r) == PO__MP_NIL) {
        po__mpr_skip(r);
        return false;
    }
    uint32_t extra = po__mpr_fields(r, LOAD_FIELDS);
    l->running = u32(r);
    l->queued = u32(r);
    l->cpu_load_centi = u32(r);
    l->memory_used_bytes = u64(r);
    l->memory_available_bytes = u64(r);
    l->rtt_us = u32(r);
    l->rtt_min_us = u32(r);
    po__mpr_skip_all(r, extra);
    return !r->err;
}

static void encode_load(struct po__buf *b, const struct po__worker_load *l)
{
    po__mpw_array(b, LOAD_FIELDS);
    po__mpw_uint(b, l->running);
    po__mpw_uint(b, l->queued);
    po__mpw_uint(b, l->cpu_load_centi);
    po__mpw_uint(b, l->memory_used_bytes);
    po__mpw_uint(b, l->memory_available_bytes);
    po__mpw_uint(b, l->rtt_us);
    po__mpw_uint(b, l->rtt_min_us);
}

/* The bytes of the next object, which must be an array of at most max elements. */
static struct po__slice raw_array(struct po__mpr *r, uint32_t *count, uint32_t max)
{
    struct po__mpr at = *r;
    *count = po__mpr_array(&at, max);
    if (at.err)
        po__mpr_fail(r);
    return po__mpr_raw(r);
}

/* ---- requests ---- */

/* Number of body fields of a type that this code knows; UINT32_MAX: unknown type. */
static uint32_t body_fields(uint32_t type)
{
    switch (type) {
    case PO__REQ_COMMAND:
    case PO__REQ_BATCH:
        return 1;
    case PO__REQ_QUERY:
        return QUERY_FIELDS;
    case PO__REQ_WAIT:
        return WAIT_FIELDS;
    case PO__REQ_HEARTBEAT:
        return HEARTBEAT_FIELDS;
    case PO__REQ_POLL:
        return POLL_FIELDS;
    case PO__REQ_BARRIER:
        return 0;
    case PO__REQ_MEMBER:
        return MEMBER_FIELDS;
    case PO__REQ_SNAPSHOT:
        return SNAPSHOT_FIELDS;
    case PO__REQ_WATCH:
        return WATCH_FIELDS;
    default:
        return UINT32_MAX;
    }
}

static void decode_query(struct po__mpr *r, struct po__query *q)
{
    q->what = (int)po__mpr_uint(r, INT32_MAX);
    q->id = u64(r);
    q->name = name(r);
    q->name2 = name(r);
    q->limit = u32(r);
}

static void decode_poll(struct po__mpr *r, struct po__request *req)
{
    req->poll.worker_id = name(r);
    req->poll.incarnation = u64(r);
    req->poll.resync = po__mpr_bool(r);
    req->poll.held = raw_array(r, &req->poll.held_count, PO__POLL_HELD_MAX);
    req->poll.ack_seq = u64(r);
    req->poll.wait_ms = u32(r);
    req->poll.tasks_max = u32(r);
    req->poll.done = raw_array(r, &req->poll.done_count, PO__POLL_TASKS_MAX);
}

static void decode_member(struct po__mpr *r, struct po__member_request *m)
{
    m->op = u32(r);
    m->node_id = u64(r);
    m->from = u64(r);
    m->name = name(r);
    m->zone = name(r);
    m->address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
    m->directory_id = po__mpr_bin(r, PO__DIRECTORY_ID_BYTES);
    m->feature_level = u32(r);
    m->wish = u32(r);
}

static void decode_watch(struct po__mpr *r, struct po__request *req)
{
    req->watch.after_index = u64(r);
    req->watch.after_position = u32(r);
    req->watch.limit = u32(r);
    req->watch.wait_ms = u32(r);
    req->watch.kinds = u64(r);
    req->watch.task_id = u64(r);
    req->watch.run_id = u64(r);
    req->watch.worker = name(r);
    req->watch.pipeline = name(r);
}

static void decode_body(struct po__mpr *r, struct po__request *req)
{
    uint32_t count;
    switch (req->type) {
    case PO__REQ_COMMAND:
        req->body = po__mpr_raw(r);
        break;
    case PO__REQ_BATCH:
        req->body = raw_array(r, &count, PO__BATCH_MAX);
        break;
    case PO__REQ_QUERY:
        decode_query(r, &req->query);
        break;
    case PO__REQ_WAIT:
        req->wait.kind = u32(r);
        req->wait.id = u64(r);
        break;
    case PO__REQ_HEARTBEAT:
        req->poll.worker_id = name(r);
        req->poll.incarnation = u64(r);
        break;
    case PO__REQ_POLL:
        decode_poll(r, req);
        break;
    case PO__REQ_MEMBER:
        decode_member(r, &req->member);
        break;
    case PO__REQ_SNAPSHOT:
        req->snapshot.stream = u64(r);
        req->snapshot.offset = u64(r);
        break;
    case PO__REQ_WATCH:
        decode_watch(r, req);
        break;
    default:
        break;
    }
}

/* Fields that later programs appended, of `left` that there are. Returns how many were read. */
static uint32_t decode_later(struct po__mpr *r, struct po__request *req, uint32_t left)
{
    if (left == 0)
        return 0;
    switch (req->type) {
    case PO__REQ_QUERY:
        req->query.stale_ms = u32(r);
        if (left < 3)
            return 1;
        req->query.placement = po__mpr_bin(r, PO__QUERY_PLACEMENT_MAX_BYTES); /* later still */
        req->query.token = u64(r);
        return 3;
    case PO__REQ_HEARTBEAT:
    case PO__REQ_POLL:
        req->poll.has_load = decode_load(r, &req->poll.load);
        return 1;
    default:
        return 0;
    }
}

int po__request_decode(const void *data, size_t len, struct po__request *req)
{
    struct po__mpr r;
    memset(req, 0, sizeof *req);
    po__mpr_init(&r, data, len);
    uint32_t n = po__mpr_array(&r, UINT32_MAX);
    uint64_t version = n ? u64(&r) : 0;
    if (n && !r.err && version != PO__REQUEST_VERSION)
        return PO_EVERSION;
    if (n < HEAD_FIELDS)
        return PO_EPROTO;
    req->type = u32(&r);
    req->timeout_ms = u32(&r);
    uint32_t known = body_fields(req->type);
    if (r.err)
        return PO_EPROTO;
    if (known == UINT32_MAX)
        return PO_EVERSION;
    if (n - HEAD_FIELDS < known)
        return PO_EPROTO;
    decode_body(&r, req);
    known += decode_later(&r, req, n - HEAD_FIELDS - known);
    po__mpr_skip_all(&r, n - HEAD_FIELDS - known);
    return po__mpr_end(&r);
}

bool po__request_repeatable(const struct po__request *req)
{
    struct po__mpr r;
    bool repeatable = true;
    if (req->type == PO__REQ_COMMAND)
        return po__cmd_repeatable(req->body);
    if (req->type != PO__REQ_BATCH)
        return true;
    po__mpr_init(&r, req->body.data, req->body.len);
    uint32_t count = po__mpr_array(&r, PO__BATCH_MAX);
    for (uint32_t i = 0; i < count && !r.err && repeatable; i++)
        repeatable = po__cmd_repeatable(po__mpr_raw(&r));
    return repeatable;
}

void po__request_begin(struct po__buf *b, uint32_t type, uint32_t timeout_ms, uint32_t fields)
{
    po__mpw_array(b, HEAD_FIELDS + fields);
    po__mpw_uint(b, PO__REQUEST_VERSION);
    po__mpw_uint(b, type);
    po__mpw_uint(b, timeout_ms);
}

void po__request_command(struct po__buf *b, uint32_t timeout_ms, const struct po__cmd *cmd)
{
    po__request_begin(b, PO__REQ_COMMAND, timeout_ms, 1);
    po__cmd_encode(b, cmd);
}

void po__request_batch(struct po__buf *b, uint32_t timeout_ms, struct po__slice commands,
                       uint32_t count)
{
    po__request_begin(b, PO__REQ_BATCH, timeout_ms, 1);
    po__mpw_array(b, count);
    po__buf_append(b, commands.data, commands.len);
}

void po__request_query(struct po__buf *b, uint32_t timeout_ms, const struct po__query *q)
{
    PO_PRE(q->what >= 0);
    bool more = q->placement.len || q->token; /* not for nodes that know none of it */
    po__request_begin(b, PO__REQ_QUERY, timeout_ms, QUERY_FIELDS + (more ? 3 : 1));
    po__mpw_uint(b, (uint64_t)q->what);
    po__mpw_uint(b, q->id);
    po__mpw_str(b, q->name);
    po__mpw_str(b, q->name2);
    po__mpw_uint(b, q->limit);
    po__mpw_uint(b, q->stale_ms);
    if (!more)
        return;
    po__mpw_bin(b, q->placement);
    po__mpw_uint(b, q->token);
}

void po__request_wait(struct po__buf *b, uint32_t timeout_ms, uint32_t kind, uint64_t id)
{
    po__request_begin(b, PO__REQ_WAIT, timeout_ms, WAIT_FIELDS);
    po__mpw_uint(b, kind);
    po__mpw_uint(b, id);
}

void po__request_heartbeat(struct po__buf *b, uint32_t timeout_ms, struct po__slice worker_id,
                           uint64_t incarnation, const struct po__worker_load *load)
{
    po__request_begin(b, PO__REQ_HEARTBEAT, timeout_ms, HEARTBEAT_FIELDS + (load != NULL));
    po__mpw_str(b, worker_id);
    po__mpw_uint(b, incarnation);
    if (load)
        encode_load(b, load);
}

void po__request_barrier(struct po__buf *b, uint32_t timeout_ms)
{
    po__request_begin(b, PO__REQ_BARRIER, timeout_ms, 0);
}

void po__request_snapshot(struct po__buf *b, uint32_t timeout_ms, uint64_t stream, uint64_t offset)
{
    po__request_begin(b, PO__REQ_SNAPSHOT, timeout_ms, SNAPSHOT_FIELDS);
    po__mpw_uint(b, stream);
    po__mpw_uint(b, offset);
}

void po__request_member(struct po__buf *b, uint32_t timeout_ms, const struct po__member_request *m)
{
    po__request_begin(b, PO__REQ_MEMBER, timeout_ms, MEMBER_FIELDS);
    po__mpw_uint(b, m->op);
    po__mpw_uint(b, m->node_id);
    po__mpw_uint(b, m->from);
    po__mpw_str(b, m->name);
    po__mpw_str(b, m->zone);
    po__mpw_str(b, m->address);
    po__mpw_bin(b, m->directory_id);
    po__mpw_uint(b, m->feature_level);
    po__mpw_uint(b, m->wish);
}

/* An encoded array; none given stands for an empty one. */
static void put_array(struct po__buf *b, struct po__slice array)
{
    if (array.len)
        po__mpw_raw(b, array);
    else
        po__mpw_array(b, 0);
}

void po__request_poll(struct po__buf *b, const struct po__request *req)
{
    po__request_begin(b, PO__REQ_POLL, req->timeout_ms, POLL_FIELDS + req->poll.has_load);
    po__mpw_str(b, req->poll.worker_id);
    po__mpw_uint(b, req->poll.incarnation);
    po__mpw_bool(b, req->poll.resync);
    put_array(b, req->poll.held);
    po__mpw_uint(b, req->poll.ack_seq);
    po__mpw_uint(b, req->poll.wait_ms);
    po__mpw_uint(b, req->poll.tasks_max);
    put_array(b, req->poll.done);
    if (req->poll.has_load)
        encode_load(b, &req->poll.load);
}

void po__request_watch(struct po__buf *b, const struct po__request *req)
{
    po__request_begin(b, PO__REQ_WATCH, req->timeout_ms, WATCH_FIELDS);
    po__mpw_uint(b, req->watch.after_index);
    po__mpw_uint(b, req->watch.after_position);
    po__mpw_uint(b, req->watch.limit);
    po__mpw_uint(b, req->watch.wait_ms);
    po__mpw_uint(b, req->watch.kinds);
    po__mpw_uint(b, req->watch.task_id);
    po__mpw_uint(b, req->watch.run_id);
    po__mpw_str(b, req->watch.worker);
    po__mpw_str(b, req->watch.pipeline);
}

void po__done_encode(struct po__buf *b, const struct po__done *d)
{
    po__mpw_array(b, DONE_FIELDS);
    po__mpw_uint(b, d->task_id);
    po__mpw_uint(b, d->token);
    po__mpw_uint(b, d->kind);
    if (d->kind == PO__DONE_CHECKPOINT)
        po__mpw_bin(b, d->payload);
    else
        po__mpw_str(b, d->payload);
    po__mpw_uint(b, d->flag);
}

int po__done_decode(struct po__mpr *r, struct po__done *d)
{
    uint32_t extra = po__mpr_fields(r, DONE_FIELDS);
    d->task_id = u64(r);
    d->token = u64(r);
    d->kind = u32(r);
    d->payload = d->kind == PO__DONE_CHECKPOINT ? po__mpr_bin(r, PO_CHECKPOINT_MAX_BYTES)
                                                : po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
    d->flag = u64(r);
    po__mpr_skip_all(r, extra);
    if (!r->err && (d->kind < PO__DONE_COMPLETE || d->kind > PO__DONE_CHECKPOINT))
        po__mpr_fail(r);
    return r->err;
}

/* ---- responses ---- */

int po__response_decode(const void *data, size_t len, struct po__response *resp)
{
    struct po__mpr r;
    memset(resp, 0, sizeof *resp);
    po__mpr_init(&r, data, len);
    uint32_t n = po__mpr_array(&r, UINT32_MAX);
    uint64_t version = n ? u64(&r) : 0;
    if (n && !r.err && version != PO__REQUEST_VERSION)
        return PO_EVERSION;
    if (n < RESPONSE_HEAD_FIELDS)
        return PO_EPROTO;
    int64_t code = po__mpr_int(&r);
    if (code > 0 || code < INT32_MIN)
        po__mpr_fail(&r);
    resp->code = (int)code;
    resp->message = po__mpr_str(&r, PO__REQUEST_MAX_BYTES);
    resp->leader_address = po__mpr_str(&r, PO_ADDRESS_MAX_BYTES);
    resp->index = u64(&r);
    resp->body_fields = n - RESPONSE_HEAD_FIELDS;
    const uint8_t *start = r.p;
    po__mpr_skip_all(&r, resp->body_fields);
    resp->body = po__slice(start, (size_t)(r.p - start));
    return po__mpr_end(&r);
}

void po__response_begin(struct po__buf *b, int code, struct po__slice message,
                        struct po__slice leader_address, uint64_t index, uint32_t fields)
{
    PO_PRE(code <= 0);
    po__mpw_array(b, RESPONSE_HEAD_FIELDS + fields);
    po__mpw_uint(b, PO__REQUEST_VERSION);
    po__mpw_int(b, code);
    po__mpw_str(b, message);
    po__mpw_str(b, leader_address);
    po__mpw_uint(b, index);
}

void po__snapshot_piece_encode(struct po__buf *b, const struct po__snapshot_piece *p)
{
    po__mpw_uint(b, p->stream);
    po__mpw_uint(b, p->size_bytes);
    po__mpw_bin(b, p->data);
    if (!p->first) {
        po__mpw_nil(b);
        return;
    }
    po__mpw_array(b, SNAPSHOT_INFO_FIELDS);
    po__mpw_uint(b, p->index);
    po__mpw_uint(b, p->term);
    po__mpw_uint(b, p->time_ms);
    po__mpw_uint(b, p->conf_index);
    po__mpw_bin(b, p->conf);
    po__mpw_bin(b, p->cluster_id);
    po__mpw_str(b, p->node_name);
}

int po__snapshot_piece_decode(struct po__slice body, struct po__snapshot_piece *p)
{
    struct po__mpr r;
    memset(p, 0, sizeof *p);
    po__mpr_init(&r, body.data, body.len);
    p->stream = u64(&r);
    p->size_bytes = u64(&r);
    p->data = po__mpr_bin(&r, PO__REQUEST_MAX_BYTES);
    if (po__mpr_peek(&r) == PO__MP_NIL)
        return r.err;
    uint32_t extra = po__mpr_fields(&r, SNAPSHOT_INFO_FIELDS);
    p->first = true;
    p->index = u64(&r);
    p->term = u64(&r);
    p->time_ms = u64(&r);
    p->conf_index = u64(&r);
    p->conf = po__mpr_bin(&r, PO__REQUEST_MAX_BYTES);
    p->cluster_id = po__mpr_bin(&r, CLUSTER_ID_MAX_BYTES);
    p->node_name = name(&r);
    po__mpr_skip_all(&r, extra);
    return r.err;
}

void po__task_offer_encode(struct po__buf *b, const struct po__task_offer *t)
{
    po__mpw_array(b, OFFER_FIELDS + (t->checkpoint.len > 0));
    po__mpw_uint(b, t->seq);
    po__mpw_uint(b, t->task_id);
    po__mpw_uint(b, t->attempt);
    po__mpw_uint(b, t->token);
    po__mpw_str(b, t->capability);
    po__mpw_str(b, t->input);
    po__mpw_uint(b, t->timeout_ms);
    po__mpw_uint(b, t->run_id);
    if (t->checkpoint.len)
        po__mpw_bin(b, t->checkpoint);
}

int po__task_offer_decode(struct po__mpr *r, struct po__task_offer *t)
{
    uint32_t extra = po__mpr_fields(r, OFFER_FIELDS);
    t->seq = u64(r);
    t->task_id = u64(r);
    t->attempt = u32(r);
    t->token = u64(r);
    t->capability = name(r);
    t->input = po__mpr_str(r, PO__REQUEST_MAX_BYTES);
    t->timeout_ms = u32(r);
    t->run_id = u64(r);
    t->checkpoint = extra ? po__mpr_bin(r, PO_CHECKPOINT_MAX_BYTES) : po__slice(NULL, 0);
    po__mpr_skip_all(r, extra ? extra - 1 : 0);
    return r->err;
}
