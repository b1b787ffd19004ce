/* From a response of node/request.h to a public result: the one place that knows both. */
#include <stdio.h>

#include "../spec/spec.h"
#include "call.h"

/* Every answer of a query is the map of the node with the state it was read from in front. A node
 * that names no staleness knows only linearizable answers. */
static int query_json(struct po__mpr *r, const struct po__response *resp, struct po_result *result,
                      struct po__buf *json)
{
    struct po__buf map = {0};
    uint64_t term = po__mpr_uint(r, UINT64_MAX);
    struct po__slice raw = po__mpr_raw(r);
    uint32_t staleness_ms = resp->body_fields > 2 ? (uint32_t)po__mpr_uint(r, UINT32_MAX) : 0;
    if (r->err)
        return PO_EPROTO;
    result->term = term;
    result->staleness_ms = staleness_ms;
    int rv = po__spec_json_from_mp(&map, raw.data, raw.len);
    if (!rv && (map.len < 2 || map.data[0] != '{'))
        rv = PO_EPROTO;
    if (!rv) {
        po__buf_printf(json, "{\"index\":%llu,\"term\":%llu,\"staleness_ms\":%u",
                       (unsigned long long)resp->index, (unsigned long long)term, staleness_ms);
        if (map.len > 2)
            po__buf_append(json, ",", 1);
        po__buf_append(json, map.data + 1, map.len - 1);
        po__buf_append(json, "", 1); /* the final NUL, not counted */
        rv = json->err;
    }
    po__buf_fini(&map);
    return rv;
}

static int raw_map(struct po__mpr *r, struct po_result *result)
{
    po__mpr_uint(r, UINT64_MAX); /* term */
    struct po__slice map = po__mpr_raw(r);
    result->data = map.data;
    result->len = map.len;
    return r->err;
}

static int decode_body(const struct po__call *call, const struct po__response *resp,
                       struct po_result *result, struct po__buf *json)
{
    struct po__mpr r;
    int rv = 0;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    if (call->type == PO__REQ_COMMAND || call->type == PO__REQ_MEMBER) {
        result->id = po__mpr_uint(&r, UINT64_MAX);
        struct po__slice data = po__mpr_bin(&r, PO_PAYLOAD_MAX_BYTES);
        rv = r.err;
        result->data = data.len ? data.data : NULL;
        result->len = data.len;
    } else if (call->type == PO__REQ_SNAPSHOT || call->type == PO__REQ_BATCH) {
        result->data = resp->body.data;
        result->len = resp->body.len;
    } else if (call->raw) {
        rv = raw_map(&r, result);
    } else if (call->type == PO__REQ_QUERY || call->type == PO__REQ_WAIT) {
        rv = query_json(&r, resp, result, json);
        result->data = rv ? NULL : json->data;
        result->len = rv ? 0 : json->len - 1;
    }
    return rv;
}

int po__result_decode(const struct po__call *call, const void *data, size_t len,
                      struct po_result *result, struct po__buf *json, char *message,
                      size_t message_len)
{
    struct po__response resp;
    *result = (struct po_result){.size = sizeof *result, .message = message};
    message[0] = '\0';
    int rv = po__response_decode(data, len, &resp);
    if (!rv) {
        rv = resp.code;
        result->index = resp.index;
        if (rv)
            snprintf(message, message_len, "%.*s", (int)resp.message.len, resp.message.data);
        else if ((rv = decode_body(call, &resp, result, json)))
            result->data = NULL, result->len = 0;
        if (resp.code == 0 && rv)
            snprintf(message, message_len,
                     "the answer of the node cannot be used: %s; does it run "
                     "another version?",
                     po_strerror(rv));
    } else {
        snprintf(message, message_len,
                 "the node sent a malformed answer of %zu bytes; does it run "
                 "another version?",
                 len);
    }
    if (rv && !message[0])
        snprintf(message, message_len, "%s", po_strerror(rv));
    return result->code = rv;
}
