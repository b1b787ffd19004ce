/* Responses, as a client and a worker read them. */
#include "fuzz.h"

#include "api/call.h"
#include "api/watch_event.h"

static void read_poll(const struct po__response *resp)
{
    struct po__mpr r;
    struct po__task_offer t;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    for (uint32_t n = po__mpr_array(&r, PO__POLL_TASKS_MAX); n && !r.err; n--)
        po__mpr_int(&r);
    for (uint32_t n = po__mpr_array(&r, PO__POLL_TASKS_MAX); n && !r.err; n--)
        po__task_offer_decode(&r, &t);
    for (uint32_t n = po__mpr_array(&r, PO__POLL_HELD_MAX); n && !r.err; n--)
        po__mpr_uint(&r, UINT64_MAX);
}

static void read_watch(const struct po__response *resp)
{
    struct po__mpr r;
    struct po__watch_event e;
    struct po__watch_texts texts;
    struct po_watch_event event;
    char *json;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    po__mpr_bool(&r);
    po__mpr_uint(&r, UINT64_MAX);
    po__mpr_uint(&r, UINT32_MAX);
    for (uint32_t n = po__mpr_array(&r, PO__WATCH_LIMIT_MAX); n && !r.err; n--) {
        if (po__watch_event_decode(&r, &e))
            return;
        po__watch_event_public(&e, &texts, &event);
        FUZZ_CHECK(po_watch_event_json(&event, &json) == 0);
        po_free(json);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint32_t types[] = {PO__REQ_COMMAND, PO__REQ_QUERY, PO__REQ_WAIT};
    struct po__response resp;
    struct po_result result;
    char message[256];
    if (po__response_decode(data, len, &resp) == 0) {
        read_poll(&resp);
        read_watch(&resp);
    }
    for (unsigned i = 0; i < 4; i++) {
        struct po__call call = {.type = types[i % 3], .raw = i == 3};
        struct po__buf json = {.max_bytes = 16 * 1024 * 1024};
        int rv = po__result_decode(&call, data, len, &result, &json, message, sizeof message);
        FUZZ_CHECK(rv == result.code);
        FUZZ_CHECK((rv == 0) == (message[0] == '\0'));
        FUZZ_CHECK(rv == 0 || result.len == 0);
        po__buf_fini(&json);
    }
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
    struct po__buf b = {0};
    struct po__watch_event e = {.at = {17, 2}, .time_ms = 5};
    struct po__task_offer t = {.seq = 1, .task_id = 2, .token = 3, .attempt = 1, .timeout_ms = 9};
    po__response_begin(&b, PO_ENOTLEADER, po__str("not the leader"), po__str("host:7002"), 0, 0);
    add(&b);
    po__response_begin(&b, 0, po__str(""), po__str(""), 500, 2);
    po__mpw_uint(&b, 42);
    po__mpw_bin(&b, po__str("data"));
    add(&b);
    po__response_begin(&b, 0, po__str(""), po__str(""), 500, 2);
    po__mpw_uint(&b, 3);
    po__mpw_map(&b, 3);
    po__mpw_cstr(&b, "input");
    po__mpw_cstr(&b, "{\"a\":[1,2]}");
    po__mpw_cstr(&b, "state");
    po__mpw_cstr(&b, "running");
    po__mpw_cstr(&b, "steps");
    po__mpw_array(&b, 2);
    po__mpw_nil(&b);
    po__mpw_map(&b, 0);
    add(&b);
    e.event = (struct po__news){.kind = PO_WATCH_TASK_RETRY,
                                .id = 7,
                                .worker = po__str("w1"),
                                .name = po__str("do:it"),
                                .error = po__str("no")};
    po__response_begin(&b, 0, po__str(""), po__str(""), 500, PO__WATCH_ANSWER_FIELDS);
    po__mpw_bool(&b, false);
    po__mpw_uint(&b, 17);
    po__mpw_uint(&b, 2);
    po__mpw_array(&b, 2);
    po__watch_event_encode(&b, &e);
    po__watch_event_encode(&b, &e);
    add(&b);
    t.capability = po__str("do:it");
    t.input = po__str("{}");
    po__response_begin(&b, 0, po__str(""), po__str(""), 500, 3);
    po__mpw_array(&b, 2);
    po__mpw_int(&b, 0);
    po__mpw_int(&b, PO_ESTALE);
    po__mpw_array(&b, 2);
    po__task_offer_encode(&b, &t);
    po__task_offer_encode(&b, &t);
    po__mpw_array(&b, 1);
    po__mpw_uint(&b, 77);
    add(&b);
    po__buf_fini(&b);
}
