#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>

#include "common/logging.h"

static struct po_log_event event = {
    .size = sizeof event,
    .level = PO_LOG_WARN,
    .time_ms = UINT64_C(1700000000123),
    .id = "raft.leader",
    .name = "cp-aws-1",
    .message = "it said \"hi\"\n\x1b[31m",
};

static void text_lines(void **state)
{
    (void)state;
    struct po__buf out = {0};
    logging_format(&out, false, &event);
    po__buf_append(&out, "", 1);
    assert_string_equal(
        (char *)out.data,
        "2023-11-14T22:13:20.123Z warn  raft.leader cp-aws-1 it said \"hi\"??[31m\n");
    po__buf_fini(&out);
}

static void json_lines(void **state)
{
    (void)state;
    struct po_log_event broken = event;
    broken.message = "bytes \xff\xfe";
    broken.name = NULL;
    struct po__buf out = {0};
    logging_format(&out, true, &broken);
    assert_int_equal(out.data[out.len - 1], '\n');
    json_t *root = json_loadb((char *)out.data, out.len, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "time")),
                        "2023-11-14T22:13:20.123Z");
    assert_string_equal(json_string_value(json_object_get(root, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(root, "id")), "raft.leader");
    assert_string_equal(json_string_value(json_object_get(root, "name")), "");
    assert_string_equal(json_string_value(json_object_get(root, "message")), "bytes ??");
    json_decref(root);
    po__buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
