/* Commands and entries: encoding, decoding, and what is refused before it reaches the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "model/command.h"
#include "samples.h"

static struct po__cmd cmd, copy;

static int decode(const void *data, size_t len, bool strict)
{
    struct po__mpr r;
    memset(&copy, 0xa5, sizeof copy); /* decoding must not rely on zeroed memory */
    po__mpr_init(&r, data, len);
    int rv = po__cmd_decode(&r, &copy, strict);
    return rv ? rv : po__mpr_end(&r);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct po__buf steps = {0}, a = {0}, b = {0};
    char message[256];
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        if (po__cmd_check(&cmd, message, sizeof message))
            fail_msg("sample %u: %s", i, message);
        po__buf_reset(&a);
        po__buf_reset(&b);
        po__cmd_encode(&a, &cmd);
        assert_int_equal(a.err, 0);
        assert_int_equal(decode(a.data, a.len, true), 0);
        assert_int_equal(copy.type, cmd.type);
        po__cmd_encode(&b, &copy);
        assert_true(po__slice_eq(po__buf_slice(&a), po__buf_slice(&b)));
        assert_int_equal(po__cmd_check(&copy, message, sizeof message), 0);
    }
    po__buf_fini(&a);
    po__buf_fini(&b);
    po__buf_fini(&steps);
}

static void test_fields_survive(void **state)
{
    (void)state;
    struct po__buf steps = {0}, a = {0};
    sample(&cmd, 2, &steps);
    cmd.worker_register.label_keys[0] = po__str("zz"); /* encoded behind the other */
    po__cmd_encode(&a, &cmd);
    assert_int_equal(decode(a.data, a.len, true), 0);
    assert_true(po__slice_eq(copy.worker_register.label_keys[0], po__str("gpu")));
    assert_true(po__slice_eq(copy.worker_register.label_keys[1], po__str("zz")));
    assert_true(po__slice_eq(copy.worker_register.label_values[1], po__str("nvme")));
    assert_int_equal(copy.worker_register.caps_count, 2);
    assert_true(copy.worker_register.caps[0].requires_gpu);
    assert_int_equal(copy.worker_register.caps[0].max_concurrency, 4);
    assert_true(po__slice_eq(copy.worker_register.caps[0].output_schema, po__str("{}")));
    po__buf_reset(&a);
    sample(&cmd, 5, &steps);
    po__cmd_encode(&a, &cmd);
    assert_int_equal(decode(a.data, a.len, true), 0);
    assert_true(po__slice_eq(copy.submit.key, po__slice("key\0", 4)));
    assert_true(po__slice_eq(copy.submit.zone, po__str("gcp")));
    assert_int_equal(copy.submit.attempts_max, 5);
    assert_int_equal(copy.submit.timeout_ms, 30000);
    po__buf_fini(&a);
    po__buf_fini(&steps);
}

static void test_truncated_and_unknown(void **state)
{
    (void)state;
    struct po__buf steps = {0}, a = {0};
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        po__buf_reset(&a);
        po__cmd_encode(&a, &cmd);
        for (size_t n = 0; n < a.len; n++) {
            void *cut = po__memdup(a.data, n);
            assert_int_equal(decode(cut, n, n & 1), PO_EPROTO);
            po__free(cut);
        }
        a.data[0]++; /* one more field than this version knows */
        po__mpw_cstr(&a, "from the future");
        assert_int_equal(decode(a.data, a.len, false), 0);
        assert_int_equal(decode(a.data, a.len, true), PO_EVERSION);
        a.data[0] = (uint8_t)(a.data[0] - 2);
        if (a.data[0] > 0x90) {
            assert_int_equal(decode(a.data, a.len, false), PO_EPROTO);
            assert_int_equal(decode(a.data, a.len, true), PO_EVERSION);
        }
    }
    assert_int_equal(decode("\x91\x63", 2, false), PO_EVERSION);
    assert_int_equal(decode("\x91\x63", 2, true), PO_EVERSION);
    assert_int_equal(decode("\x90", 1, false), PO_EPROTO);
    assert_int_equal(decode("\x01", 1, false), PO_EPROTO);
    po__buf_fini(&a);
    po__buf_fini(&steps);
}

/* A step with more fields than we know: skipped on the wire, made canonical by encoding, refused in
 * the log. */
static void test_future_step(void **state)
{
    (void)state;
    struct po__buf a = {0}, b = {0};
    po__mpw_array(&a, 4);
    po__mpw_uint(&a, PO__CMD_PIPELINE_DEFINE);
    po__mpw_cstr(&a, "p");
    po__mpw_cstr(&a, "s");
    po__mpw_array(&a, 1);
    po__mpw_array(&a, 7);
    po__mpw_cstr(&a, "s");
    po__mpw_cstr(&a, "a:b");
    po__mpw_cstr(&a, "");
    po__mpw_cstr(&a, "");
    po__buf_append(&a, "\xcd\x00\x07", 3); /* 7, not in its shortest form */
    po__mpw_uint(&a, 1);
    po__mpw_nil(&a);
    assert_int_equal(decode(a.data, a.len, true), PO_EVERSION);
    assert_int_equal(decode(a.data, a.len, false), 0);
    po__cmd_encode(&b, &copy);
    assert_int_equal(b.len, a.len - 3);
    assert_int_equal(decode(b.data, b.len, true), 0);
    po__buf_fini(&a);
    po__buf_fini(&b);
}

static void test_entry(void **state)
{
    (void)state;
    struct po__buf steps = {0}, e = {0};
    struct po__entry_reader er;
    po__buf_append(&e, "before", 6);
    po__entry_begin(&e, UINT64_C(1795000000000));
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        po__cmd_encode(&e, &cmd);
    }
    po__entry_finish(&e, 6, SAMPLES_COUNT);
    assert_int_equal(po__entry_open(&er, e.data + 6, e.len - 6), 0);
    assert_true(er.now_ms == UINT64_C(1795000000000));
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        assert_int_equal(po__entry_next(&er, &copy), 1);
        assert_int_equal(copy.type, cmd.type);
    }
    assert_int_equal(po__entry_next(&er, &copy), 0);
    for (size_t n = 0; n < e.len - 6; n++) { /* a cut entry never ends well */
        int rv = po__entry_open(&er, e.data + 6, n);
        while (rv == 0 && (rv = po__entry_next(&er, &copy)) == 1)
            rv = 0;
        assert_int_equal(rv, PO_EPROTO);
    }
    po__buf_append(&e, "\x01", 1);
    assert_int_equal(po__entry_open(&er, e.data + 6, e.len - 6), 0);
    int rv;
    while ((rv = po__entry_next(&er, &copy)) == 1)
        ;
    assert_int_equal(rv, PO_EPROTO);
    e.data[7] = PO__ENTRY_FORMAT + 1;
    assert_int_equal(po__entry_open(&er, e.data + 6, e.len - 6), PO_EVERSION);
    po__buf_fini(&e);
    po__buf_fini(&steps);
}

static void test_names(void **state)
{
    (void)state;
    char longest[PO_NAME_MAX_BYTES + 2];
    memset(longest, 'a', sizeof longest);
    assert_true(po__name_ok(po__str("cp-aws_1.X")));
    assert_true(po__name_ok(po__slice(longest, PO_NAME_MAX_BYTES)));
    assert_false(po__name_ok(po__slice(longest, PO_NAME_MAX_BYTES + 1)));
    assert_false(po__name_ok(po__str("")));
    assert_false(po__name_ok(po__str("a b")));
    assert_false(po__name_ok(po__str("a/b")));
    assert_false(po__name_ok(po__slice("a\0b", 3)));
    assert_true(po__capability_ok(po__str("classify:image_category")));
    static const char *const bad_caps[] = {"",      "a",   ":",     "a:",  ":b",
                                           "a:b:c", "A:b", "a:b c", "a :b"};
    for (size_t i = 0; i < sizeof bad_caps / sizeof *bad_caps; i++)
        assert_false(po__capability_ok(po__str(bad_caps[i])));
    static const char *const versions[] = {"0.0.0",         "1.2.3",       "10.20.30",
                                           "1.0.0-alpha.1", "1.0.0-0.3.7", "1.0.0+build.01",
                                           "1.0.0-a-b+c"};
    static const char *const bad_versions[] = {
        "",       "1",        "1.2",    "1.2.3.4",    "01.2.3", "1.02.3", "v1.2.3",
        "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "1.2.x",  "1..2",   "1.2.3+a_b"};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        assert_true(po__semver_ok(po__str(versions[i])));
    for (size_t i = 0; i < sizeof bad_versions / sizeof *bad_versions; i++)
        if (po__semver_ok(po__str(bad_versions[i])))
            fail_msg("accepted %s", bad_versions[i]);
}

static void expect(int code, const char *part)
{
    char message[300];
    assert_int_equal(po__cmd_check(&cmd, message, sizeof message), code);
    if (code && !strstr(message, part))
        fail_msg("\"%s\" does not say \"%s\"", message, part);
}

static void test_check_workers(void **state)
{
    (void)state;
    struct po__buf steps = {0};
#define SAMPLE(n) sample(&cmd, n, &steps)
    SAMPLE(1), cmd.member.node_id = 0, expect(PO_EINVAL, "node_id");
    SAMPLE(14), cmd.member_wish.node_id = 0, expect(PO_EINVAL, "node_id");
    SAMPLE(14), cmd.member_wish.wish = PO__WISH_GONE + 1, expect(PO_EINVAL, "wish");
    SAMPLE(1), cmd.member.directory_id.len = 15, expect(PO_EINVAL, "directory_id");
    SAMPLE(1), cmd.member.peer_address = po__str("a b"), expect(PO_EINVAL, "peer address");
    SAMPLE(2), cmd.worker_register.id = po__str("a b"), expect(PO_EINVAL, "\"a b\"");
    SAMPLE(2), cmd.worker_register.incarnation = 0, expect(PO_EINVAL, "incarnation");
    SAMPLE(2), cmd.worker_register.heartbeat_ms = 99, expect(PO_EINVAL, "heartbeat_ms");
    SAMPLE(2), cmd.worker_register.heartbeat_ms = 0, expect(0, "");
    SAMPLE(2), cmd.worker_register.caps_count = 0, expect(PO_EINVAL, "capabilities");
    SAMPLE(2), cmd.worker_register.caps[1].name = cmd.worker_register.caps[0].name,
               expect(PO_EINVAL, "twice");
    SAMPLE(2), cmd.worker_register.caps[1].version = po__str("1"),
               expect(PO_EINVAL, "semantic version");
    SAMPLE(2), cmd.worker_register.caps[1].input_schema = po__str("{"),
               expect(PO_EINVAL, "input_schema");
    SAMPLE(2), cmd.worker_register.caps[1].max_concurrency = 1025,
               expect(PO_EINVAL, "max_concurrency");
    SAMPLE(2), cmd.worker_register.label_keys[1] = po__str("disk"), expect(PO_EINVAL, "twice");
    SAMPLE(2), cmd.worker_register.label_keys[1] = po__str(""), expect(PO_EINVAL, "empty key");
    SAMPLE(3), cmd.worker_status.status = 4, expect(PO_EINVAL, "status");
    SAMPLE(4), cmd.worker_deregister.id = po__str(""), expect(PO_EINVAL, "worker id");
    po__buf_fini(&steps);
}

static void test_check_tasks(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    static char big[PO_PAYLOAD_MAX_BYTES + 1];
    memset(big, ' ', sizeof big);
    SAMPLE(5), cmd.submit.capability = po__str("nope"), expect(PO_EINVAL, "verb:name");
    SAMPLE(5), cmd.submit.input = po__str("{"), expect(PO_EINVAL, "input");
    SAMPLE(5), cmd.submit.input = po__str(""), expect(0, "");
    SAMPLE(5), cmd.submit.input = po__slice(big, sizeof big),
               expect(PO_ETOOBIG, "input has 1048577");
    SAMPLE(5), cmd.submit.attempts_max = 101, expect(PO_EINVAL, "attempts_max");
    SAMPLE(5), cmd.submit.timeout_ms = 99, expect(PO_EINVAL, "timeout_ms");
    SAMPLE(5), cmd.submit.key = po__slice(big, 65), expect(PO_ETOOBIG, "idempotency key");
    SAMPLE(6), cmd.complete.token = 0, expect(PO_EINVAL, "token");
    SAMPLE(6), cmd.complete.result = po__str("not json"), expect(PO_EINVAL, "result");
    SAMPLE(7), cmd.fail.error = po__slice(big, PO_ERROR_TEXT_MAX_BYTES + 1),
               expect(PO_ETOOBIG, "error text");
    SAMPLE(8), cmd.cancel.task_id = 0, expect(PO_EINVAL, "task_id");
    SAMPLE(9), cmd.extend.extend_ms = 0, expect(PO_EINVAL, "extend_ms");
    SAMPLE(13), cmd.app.data.len = 0, expect(PO_EINVAL, "empty");
    SAMPLE(13), cmd.app.data = po__slice(big, sizeof big),
                expect(PO_ETOOBIG, "application command");
    SAMPLE(11), cmd.run_start.params = po__str("nul"), expect(PO_EINVAL, "params");
    SAMPLE(12), cmd.run_cancel.run_id = 0, expect(PO_EINVAL, "run_id");
    cmd.type = 99, expect(PO_EINVAL, "99");
    po__buf_fini(&steps);
}

static void test_check_resources_and_checkpoints(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    SAMPLE(22), cmd.worker_register.slots = PO__SLOTS_MAX + 1, expect(PO_EINVAL, "slots");
    SAMPLE(22), cmd.worker_register.slots = 0, expect(0, "");
    SAMPLE(22), cmd.worker_register.resources[1].name = po__str("cpu_milli"),
                expect(PO_EINVAL, "\"cpu_milli\" is named twice");
    SAMPLE(22), cmd.worker_register.resources[1].name = po__str("a b"),
                expect(PO_EINVAL, "\"a b\" is not a name");
    SAMPLE(22), cmd.worker_register.resources[1].amount = 0, expect(PO_EINVAL, "the amount 0");
    SAMPLE(22), cmd.worker_register.resources[1].amount = PO__RESOURCE_MAX + 1,
                expect(PO_EINVAL, "the amount 4611686018427387905");
    SAMPLE(22), cmd.worker_register.resources_count = PO_RESOURCES_MAX + 1,
                expect(PO_EINVAL, "17 resources");
    static char big[PO_CHECKPOINT_MAX_BYTES + 1];
    SAMPLE(24), cmd.checkpoint.token = 0, expect(PO_EINVAL, "token");
    SAMPLE(24), cmd.checkpoint.extend_ms = 99, expect(PO_EINVAL, "extend_ms");
    SAMPLE(24), cmd.checkpoint.extend_ms = 0, expect(0, "");
    SAMPLE(24), cmd.checkpoint.data = po__slice(big, sizeof big),
                expect(PO_ETOOBIG, "checkpoint has 262145");
    SAMPLE(25), cmd.retry.task_id = 0, expect(PO_EINVAL, "task_id");
    SAMPLE(23), cmd.submit.extra = po__str("\xc1"), expect(PO_EINVAL, "cannot be read");
    po__buf_fini(&steps);
}

/* The level of the cluster that each command needs. */
static void test_levels(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        SAMPLE(i);
        assert_int_equal(po__cmd_level(cmd.type), i < 14    ? 1
                                                  : i == 14 ? PO__LEVEL_WISHES
                                                            : PO__LEVEL_ORCHESTRATION);
    }
    po__buf_fini(&steps);
}

struct edge {
    const char *name, *next;
};

static void define(struct po__buf *steps, const char *start, const struct edge *edges, uint32_t n)
{
    memset(&cmd, 0, sizeof cmd);
    cmd.type = PO__CMD_PIPELINE_DEFINE;
    po__buf_reset(steps);
    po__mpw_array(steps, n);
    for (uint32_t i = 0; i < n; i++) {
        struct po__step s = {.name = po__str(edges[i].name),
                             .capability = po__str("a:b"),
                             .next_node = po__str(edges[i].next)};
        po__step_encode(steps, &s);
    }
    cmd.pipeline.name = po__str("p");
    cmd.pipeline.start_node = po__str(start);
    cmd.pipeline.steps = po__buf_slice(steps);
    cmd.pipeline.steps_count = n;
}

static void test_check_pipelines(void **state)
{
    (void)state;
    struct po__buf steps = {0};
    define(&steps, "a", (struct edge[]){{"c", ""}, {"a", "b"}, {"b", "c"}}, 3), expect(0, "");
    define(&steps, "x", (struct edge[]){{"a", ""}}, 1), expect(PO_EINVAL, "start_node \"x\"");
    define(&steps, "a", (struct edge[]){{"a", "b"}}, 1), expect(PO_EINVAL, "next_node \"b\"");
    define(&steps, "a", (struct edge[]){{"a", "a"}}, 1), expect(PO_EINVAL, "cycle");
    define(&steps, "a", (struct edge[]){{"a", "b"}, {"b", "a"}}, 2), expect(PO_EINVAL, "cycle");
    define(&steps, "a", (struct edge[]){{"a", ""}, {"b", ""}}, 2),
        expect(PO_EINVAL, "\"b\" cannot be reached");
    define(&steps, "a", (struct edge[]){{"a", ""}, {"a", ""}}, 2), expect(PO_EINVAL, "twice");
    define(&steps, "a", NULL, 0), expect(PO_EINVAL, "number of steps");
    po__mpw_nil(&steps);
    define(&steps, "a", (struct edge[]){{"a", ""}}, 1);
    po__mpw_nil(&steps);
    cmd.pipeline.steps = po__buf_slice(&steps), expect(PO_EINVAL, "bytes follow");
    po__buf_fini(&steps);
}

/* What may be sent twice has a key or a token, or ends something for good. */
static void test_repeatable(void **state)
{
    static const uint32_t no[] = {
        PO__CMD_WORKER_REGISTER, PO__CMD_WORKER_STATUS,        PO__CMD_WORKER_DEREGISTER,
        PO__CMD_PIPELINE_DEFINE, PO__CMD_WORKER_REGISTER_MORE, PO__CMD_TASK_RETRY,
        PO__CMD_SCHEDULE_DEFINE, PO__CMD_SCHEDULE_CHANGE,      PO__CMD_PIPELINE_DEFINE_GRAPH};
    static const uint32_t keyed[] = {PO__CMD_TASK_SUBMIT, PO__CMD_TASK_SUBMIT_MORE,
                                     PO__CMD_RUN_START,   PO__CMD_RUN_START_MORE,
                                     PO__CMD_RUN_RESUME,  PO__CMD_APP};
    (void)state;
    struct po__buf b = {0}, steps = {0};
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        bool expected = true;
        sample(&cmd, i, &steps);
        for (unsigned k = 0; k < sizeof no / sizeof *no; k++)
            expected = expected && cmd.type != no[k];
        for (unsigned k = 0; k < sizeof keyed / sizeof *keyed; k++) {
            if (cmd.type != keyed[k])
                continue;
            struct po__slice *key = cmd.type == PO__CMD_TASK_SUBMIT        ? &cmd.submit.key
                                    : cmd.type == PO__CMD_TASK_SUBMIT_MORE ? &cmd.submit.key
                                    : cmd.type == PO__CMD_RUN_RESUME       ? &cmd.run_resume.key
                                    : cmd.type == PO__CMD_APP              ? &cmd.app.key
                                                                           : &cmd.run_start.key;
            expected = key->len > 0;
            po__buf_reset(&b);
            po__cmd_encode(&b, &cmd);
            assert_int_equal(po__cmd_repeatable(po__buf_slice(&b)), expected);
            *key = expected ? po__slice(NULL, 0) : po__str("key"); /* and the other way round */
            expected = !expected;
        }
        po__buf_reset(&b);
        po__cmd_encode(&b, &cmd);
        if (po__cmd_repeatable(po__buf_slice(&b)) != expected)
            fail_msg("sample %u, type %u: expected %d", i, cmd.type, expected);
    }
    po__buf_fini(&b);
    po__buf_fini(&steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_fields_survive),
        cmocka_unit_test(test_truncated_and_unknown),
        cmocka_unit_test(test_future_step),
        cmocka_unit_test(test_entry),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_check_workers),
        cmocka_unit_test(test_check_tasks),
        cmocka_unit_test(test_check_resources_and_checkpoints),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_check_pipelines),
        cmocka_unit_test(test_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
