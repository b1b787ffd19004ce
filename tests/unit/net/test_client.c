/* The calls of client.h over a channel that records the request and answers what a test prepared.
 */
#include "wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pipeorch/client.h>

#include "node/channel.h"

#define SCRIPT_MAX 4

struct fake {
    struct po__channel base;
    po_client *client;
    struct po__buf request; /* the last one */
    uint32_t timeout_ms;
    unsigned calls, closed;
    int refuse;                        /* what call() returns */
    int channel_code;                  /* given to the callback instead of a response */
    struct po__buf script[SCRIPT_MAX]; /* the n-th response; the last one is repeated */
    unsigned script_count;
    bool calling_back;
};

static int fake_call(struct po__channel *ch, const void *req, size_t len, uint32_t timeout_ms,
                     po__call_cb cb, void *arg)
{
    struct fake *f = (struct fake *)ch;
    if (f->refuse)
        return f->refuse;
    po__buf_reset(&f->request);
    po__buf_append(&f->request, req, len);
    f->timeout_ms = timeout_ms;
    unsigned n = f->calls++;
    if (n >= f->script_count)
        n = f->script_count - 1;
    bool outer = f->calling_back;
    f->calling_back = true;
    if (f->channel_code)
        cb(arg, f->channel_code, NULL, 0);
    else
        cb(arg, 0, f->script[n].data, f->script[n].len);
    f->calling_back = outer;
    return 0;
}

static int fake_on_thread(struct po__channel *ch)
{
    return ((struct fake *)ch)->calling_back;
}

static void fake_close(struct po__channel *ch)
{
    ((struct fake *)ch)->closed++;
}

static const struct po__channel_ops ops = {fake_call, fake_on_thread, fake_close};

static int setup(void **state)
{
    struct fake *f = calloc(1, sizeof *f);
    f->base.ops = &ops;
    assert_int_equal(po__client_over(&f->client, &f->base), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fake *f = *state;
    po_client_close(f->client);
    assert_int_equal(f->closed, 1);
    for (unsigned i = 0; i < f->script_count; i++)
        po__buf_fini(&f->script[i]);
    po__buf_fini(&f->request);
    free(f);
    return 0;
}

static struct po__buf *next_response(struct fake *f)
{
    return &f->script[f->script_count++];
}

static void script_id(struct fake *f, uint64_t id)
{
    struct po__buf *b = next_response(f);
    po__response_begin(b, 0, po__str(""), po__str(""), 77, 2);
    po__mpw_uint(b, id);
    po__mpw_bin(b, po__slice("", 0));
}

static void script_error(struct fake *f, int code, const char *message)
{
    po__response_begin(next_response(f), code, po__str(message), po__str(""), 0, 0);
}

static void script_task(struct fake *f)
{
    struct po__buf *b = next_response(f);
    po__response_begin(b, 0, po__str(""), po__str(""), 77, 2);
    po__mpw_uint(b, 3); /* term */
    po__mpw_map(b, 8);
    po__mpw_cstr(b, "attempts");
    po__mpw_uint(b, 2);
    po__mpw_cstr(b, "error");
    po__mpw_nil(b);
    po__mpw_cstr(b, "id");
    po__mpw_uint(b, 9);
    po__mpw_cstr(b, "later");
    po__mpw_array(b, 0); /* a key that this version does not know */
    po__mpw_cstr(b, "result");
    po__mpw_cstr(b, "{ \"x\": 0.3884 }");
    po__mpw_cstr(b, "state");
    po__mpw_cstr(b, "succeeded");
    po__mpw_cstr(b, "worker_id");
    po__mpw_cstr(b, "w1");
    po__mpw_cstr(b, "zone");
    po__mpw_cstr(b, "aws");
}

static struct po__request sent(struct fake *f)
{
    struct po__request req;
    assert_int_equal(po__request_decode(f->request.data, f->request.len, &req), 0);
    return req;
}

static struct po__cmd sent_command(struct fake *f)
{
    struct po__request req = sent(f);
    struct po__mpr r;
    struct po__cmd cmd;
    assert_int_equal(req.type, PO__REQ_COMMAND);
    po__mpr_init(&r, req.body.data, req.body.len);
    assert_int_equal(po__cmd_decode(&r, &cmd, true), 0);
    return cmd;
}

static void submit_draws_a_key_or_takes_the_callers(void **state)
{
    struct fake *f = *state;
    struct po_task_opts task = {.size = sizeof task, .capability = "do:it", .timeout_ms = 1000};
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = 500, .key = "k1", .key_len = 2};
    uint64_t id = 0;
    char first[16];
    script_id(f, 42);
    assert_int_equal(po_submit_task(f->client, &task, NULL, &id), 0);
    assert_int_equal(id, 42);
    struct po__cmd cmd = sent_command(f);
    assert_int_equal(cmd.type, PO__CMD_TASK_SUBMIT);
    assert_int_equal(cmd.submit.key.len, sizeof first);
    memcpy(first, cmd.submit.key.data, sizeof first);
    assert_int_equal(f->timeout_ms, 10000);
    assert_int_equal(po_submit_task(f->client, &task, NULL, NULL), 0);
    assert_memory_not_equal(sent_command(f).submit.key.data, first, sizeof first);
    assert_int_equal(po_submit_task(f->client, &task, &opts, NULL), 0);
    assert_true(po__slice_eq(sent_command(f).submit.key, po__str("k1")));
    assert_int_equal(f->timeout_ms, 500);
}

static void wrong_arguments_are_explained_and_send_nothing(void **state)
{
    struct fake *f = *state;
    struct po_task_opts task = {.size = sizeof task, .capability = "nocolon"};
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = PO_TIMEOUT_MAX_MS + 1};
    struct po_query q = {.size = sizeof q, .what = 99};
    struct po_worker_info w = {.size = sizeof w, .id = "w1", .incarnation = 1};
    struct po_route_info route = {0};
    assert_int_equal(po_submit_task(f->client, &task, NULL, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "nocolon"));
    task.capability = "do:it", task.input = "{", task.input_len = 1;
    assert_int_equal(po_submit_task(f->client, &task, NULL, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "JSON"));
    assert_int_equal(po_task_cancel(f->client, 1, &opts), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "timeout_ms"));
    opts.timeout_ms = 1, opts.key = "", opts.key_len = 0;
    assert_int_equal(po_run_start(f->client, "p", NULL, NULL, &opts, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "key"));
    opts.size = 0;
    assert_int_equal(po_task_cancel(f->client, 1, &opts), PO_EINVAL);
    assert_int_equal(po_task_cancel(f->client, 0, NULL), PO_EINVAL);
    assert_int_equal(po_query(f->client, &q, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_register_worker(f->client, &w, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "capabilities"));
    assert_int_equal(po_update_worker_status(f->client, "w1", PO_WORKER_OFFLINE, NULL), PO_EINVAL);
    assert_int_equal(po_heartbeat(f->client, "w 1", 1, NULL), PO_EINVAL);
    assert_int_equal(po_heartbeat(f->client, "w1", 0, NULL), PO_EINVAL);
    assert_int_equal(po_route(f->client, "do:it", NULL, NULL, &route), PO_EINVAL); /* no size */
    assert_int_equal(po_task_wait(f->client, 0, NULL, NULL), PO_EINVAL);
    assert_int_equal(po_task_cancel(NULL, 1, NULL), PO_EINVAL);
    assert_int_equal(po_pipeline_define(f->client, "{}", 2, NULL), PO_EINVAL);
    assert_non_null(strstr(po_client_error(), "steps"));
    assert_int_equal(f->calls, 0);
}

static void elements_of_arrays_may_be_of_an_older_version(void **state)
{
    struct fake *f = *state;
    /* As a caller whose po_capability ended after `version` would lay them out. */
    struct old {
        size_t size;
        const char *name, *version;
    } caps[2] = {{sizeof *caps, "a:x", "2.0.0"}, {sizeof *caps, "b:y", NULL}};
    struct po_label label = {"gpu", "no"};
    struct po_worker_info w = {.size = sizeof w, .id = "w1", .incarnation = 5};
    w.capabilities = (const struct po_capability *)(const void *)caps;
    w.capabilities_count = 2;
    w.labels = &label;
    w.labels_count = 1;
    script_id(f, 1);
    assert_int_equal(po_register_worker(f->client, &w, NULL), 0);
    struct po__cmd cmd = sent_command(f);
    assert_int_equal(cmd.worker_register.caps_count, 2);
    assert_true(po__slice_eq(cmd.worker_register.caps[0].version, po__str("2.0.0")));
    assert_true(po__slice_eq(cmd.worker_register.caps[1].name, po__str("b:y")));
    assert_true(po__slice_eq(cmd.worker_register.caps[1].version, po__str("1.0.0")));
    assert_int_equal(cmd.worker_register.caps[1].max_concurrency, 1);
    assert_int_equal(cmd.worker_register.heartbeat_ms, 5000);
    assert_true(po__slice_eq(cmd.worker_register.zone, po__str("default")));
    assert_true(po__slice_eq(cmd.worker_register.label_values[0], po__str("no")));
}

static void refusals_of_the_node_keep_their_sentence(void **state)
{
    struct fake *f = *state;
    script_error(f, PO_ESTATE, "task 7 is finished already");
    assert_int_equal(po_task_cancel(f->client, 7, NULL), PO_ESTATE);
    assert_string_equal(po_client_error(), "task 7 is finished already");
    f->channel_code = PO_EUNREACHABLE;
    assert_int_equal(po_task_cancel(f->client, 7, NULL), PO_EUNREACHABLE);
    assert_non_null(strstr(po_client_error(), "no control node"));
    f->channel_code = 0;
    f->refuse = PO_EBUSY;
    assert_int_equal(po_task_cancel(f->client, 7, NULL), PO_EBUSY);
}

static void malformed_answers_are_not_believed(void **state)
{
    struct fake *f = *state;
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_STATUS};
    struct po_task_info info = {.size = sizeof info};
    char *json = NULL;
    po__buf_append(next_response(f), "\x93\x01", 2);
    assert_int_equal(po_query(f->client, &q, NULL, &json), PO_EPROTO);
    assert_null(json);
    struct po__buf *b = &f->script[0];
    po__buf_reset(b);
    po__response_begin(b, 0, po__str(""), po__str(""), 1, 2);
    po__mpw_uint(b, 1);
    po__mpw_uint(b, 1); /* no map */
    assert_int_equal(po_query(f->client, &q, NULL, &json), PO_EPROTO);
    assert_int_equal(po_task_wait(f->client, 1, NULL, &info), PO_EPROTO);
    assert_non_null(strstr(po_client_error(), "another version"));
}

static void queries_are_json_with_their_index(void **state)
{
    struct fake *f = *state;
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = 9};
    char *json = NULL;
    script_task(f);
    assert_int_equal(po_query(f->client, &q, NULL, &json), 0);
    assert_string_equal(json, "{\"index\":77,\"term\":3,\"staleness_ms\":0,\"attempts\":2,"
                              "\"error\":null,\"id\":9,\"later\":[],\"result\":{ \"x\": 0.3884 },"
                              "\"state\":\"succeeded\",\"worker_id\":\"w1\",\"zone\":\"aws\"}");
    po_free(json);
    assert_int_equal(sent(f).query.id, 9);
}

static void waits_are_asked_for_in_slices(void **state)
{
    struct fake *f = *state;
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = 60000};
    struct po_task_info info = {.size = sizeof info};
    script_error(f, PO_ETIMEDOUT, "not yet");
    script_error(f, PO_ETIMEDOUT, "not yet");
    script_task(f);
    assert_int_equal(po_task_wait(f->client, 9, &opts, &info), 0);
    assert_int_equal(f->calls, 3);
    assert_int_equal(sent(f).type, PO__REQ_WAIT);
    assert_int_equal(sent(f).timeout_ms, 10000);
    assert_int_equal(info.state, PO_TASK_SUCCEEDED);
    assert_int_equal(info.id, 9);
    assert_int_equal(info.attempts, 2);
    assert_int_equal(info.index, 77);
    assert_string_equal(info.worker_id, "w1");
    assert_string_equal(info.zone, "aws");
    assert_string_equal(info.result, "{ \"x\": 0.3884 }"); /* byte for byte */
    assert_null(info.error);
    po_free(info.result);
}

static void wait_ends_at_its_time(void **state)
{
    struct fake *f = *state;
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = 1};
    f->channel_code = PO_ETIMEDOUT;
    assert_int_equal(po_task_wait(f->client, 9, &opts, NULL), PO_ETIMEDOUT);
    assert_int_equal(po_run_wait(f->client, 9, &opts, NULL, NULL), PO_ETIMEDOUT);
}

static void result_structs_of_older_callers_are_not_overrun(void **state)
{
    struct fake *f = *state;
    struct {
        struct po_task_info info;
        char guard[8];
    } t;
    memset(&t, 0x55, sizeof t);
    t.info.size = offsetof(struct po_task_info, zone); /* what they know of it */
    script_task(f);
    assert_int_equal(po_task_wait(f->client, 9, NULL, &t.info), 0);
    assert_int_equal(t.info.state, PO_TASK_SUCCEEDED);
    assert_int_equal((unsigned char)t.info.zone[0], 0x55);
}

struct nested {
    struct fake *f;
    int blocking_code;
    int code;
    char message[200];
};

static void on_nested(void *arg, const struct po_result *result)
{
    struct nested *n = arg;
    n->code = result->code;
    assert_non_null(result->message);
    n->blocking_code = po_task_cancel(n->f->client, 1, NULL);
    snprintf(n->message, sizeof n->message, "%s", po_client_error());
}

static void blocking_calls_in_callbacks_are_refused(void **state)
{
    struct fake *f = *state;
    struct nested n = {.f = f};
    script_id(f, 1);
    assert_int_equal(po_task_cancel_async(f->client, 1, NULL, on_nested, &n), 0);
    assert_int_equal(n.code, 0);
    assert_int_equal(n.blocking_code, PO_EINVAL);
    assert_non_null(strstr(n.message, "_async"));
}

static void opening_checks_addresses(void **state)
{
    po_client *client = NULL;
    struct po_client_opts opts = {.size = sizeof opts, .calls_max = 65537};
    (void)state;
    assert_int_equal(po_client_open(&client, "", NULL), PO_EINVAL);
    assert_int_equal(po_client_open(&client, "a:1,b", NULL), PO_EADDR);
    assert_non_null(strstr(po_client_error(), "\"b\""));
    assert_int_equal(po_client_open(&client, "a:1", &opts), PO_EINVAL);
    assert_null(client);
    po_client_close(NULL);
    po_free(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(submit_draws_a_key_or_takes_the_callers),
        T(wrong_arguments_are_explained_and_send_nothing),
        T(elements_of_arrays_may_be_of_an_older_version),
        T(refusals_of_the_node_keep_their_sentence),
        T(malformed_answers_are_not_believed),
        T(queries_are_json_with_their_index),
        T(waits_are_asked_for_in_slices),
        T(wait_ends_at_its_time),
        T(result_structs_of_older_callers_are_not_overrun),
        T(blocking_calls_in_callbacks_are_refused),
        cmocka_unit_test(opening_checks_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
