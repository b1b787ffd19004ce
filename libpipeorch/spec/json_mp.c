/* msgpack -> JSON text, for the answers of queries.
 *
 * The text is written directly, without a tree: payloads of up to PO_PAYLOAD_MAX_BYTES are embedded
 * as the very bytes that their author wrote, and integers keep all 64 bits. */
#include "spec.h"

#include <pipeorch/error.h>
#include "../codec/json.h"

static void write_hex(struct po__buf *out, struct po__slice s)
{
    po__buf_append(out, "\"", 1);
    for (size_t i = 0; i < s.len; i++)
        po__buf_printf(out, "%02x", (unsigned char)s.data[i]);
    po__buf_append(out, "\"", 1);
}

static bool holds_json(struct po__slice key)
{
    static const char *const keys[] = {"input",  "result",       "params",
                                       "config", "input_schema", "output_schema",
                                       "output", "map",          "default"};
    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
        if (po__slice_eq(key, po__str(keys[i])))
            return true;
    return false;
}

/* A payload is JSON because it was checked on its way in. Should it not be, it is shown as a string
 * rather than breaking the answer. */
static void write_payload(struct po__buf *out, struct po__slice s, bool text)
{
    if (s.len == 0)
        po__buf_append(out, "null", 4);
    else if (po__spec_json_ok(s.data, s.len))
        po__buf_append(out, s.data, s.len);
    else if (text)
        po__json_string(out, s);
    else
        write_hex(out, s);
}

static void write_value(struct po__buf *out, struct po__mpr *r, unsigned depth, bool payload);

static void write_array(struct po__buf *out, struct po__mpr *r, unsigned depth)
{
    uint32_t n = po__mpr_array(r, PO__MP_NODES_MAX);
    po__buf_append(out, "[", 1);
    for (uint32_t i = 0; i < n && !r->err && !out->err; i++) {
        if (i)
            po__buf_append(out, ",", 1);
        write_value(out, r, depth + 1, false);
    }
    po__buf_append(out, "]", 1);
}

static void write_map(struct po__buf *out, struct po__mpr *r, unsigned depth)
{
    uint32_t n = po__mpr_map(r, PO__MP_NODES_MAX);
    po__buf_append(out, "{", 1);
    for (uint32_t i = 0; i < n && !r->err && !out->err; i++) {
        if (i)
            po__buf_append(out, ",", 1);
        struct po__slice key = po__mpr_str(r, PO_NAME_MAX_BYTES);
        po__json_string(out, key);
        po__buf_append(out, ":", 1);
        write_value(out, r, depth + 1, holds_json(key));
    }
    po__buf_append(out, "}", 1);
}

static void write_value(struct po__buf *out, struct po__mpr *r, unsigned depth, bool payload)
{
    struct po__slice s;
    if (depth > PO__MP_DEPTH_MAX) {
        po__mpr_fail(r);
        return;
    }
    switch (po__mpr_peek(r)) {
    case PO__MP_NIL:
        po__mpr_nil(r);
        po__buf_append(out, "null", 4);
        break;
    case PO__MP_BOOL:
        po__buf_printf(out, "%s", po__mpr_bool(r) ? "true" : "false");
        break;
    case PO__MP_UINT:
        po__buf_printf(out, "%llu", (unsigned long long)po__mpr_uint(r, UINT64_MAX));
        break;
    case PO__MP_INT:
        po__buf_printf(out, "%lld", (long long)po__mpr_int(r));
        break;
    case PO__MP_STR:
        s = po__mpr_str(r, PO__BUF_MAX_BYTES);
        if (payload)
            write_payload(out, s, true);
        else
            po__json_string(out, s);
        break;
    case PO__MP_BIN:
        s = po__mpr_bin(r, PO__BUF_MAX_BYTES);
        if (payload)
            write_payload(out, s, false);
        else
            write_hex(out, s);
        break;
    case PO__MP_ARRAY:
        write_array(out, r, depth);
        break;
    case PO__MP_MAP:
        write_map(out, r, depth);
        break;
    case PO__MP_BAD:
        po__mpr_fail(r);
        break;
    }
}

int po__spec_json_from_mp(struct po__buf *out, const void *data, size_t len)
{
    struct po__mpr r;
    po__mpr_init(&r, data, len);
    write_value(out, &r, 0, false);
    int rv = po__mpr_end(&r);
    return out->err ? out->err : rv; /* out of memory, the rest was not read */
}
