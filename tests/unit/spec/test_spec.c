#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "codec/json.h"
#include "spec/spec.h"

/* What checking `json` as a pipeline says; "" for nothing. The caller frees it. */
static char *problems_of(const char *json, const char *file)
{
    struct po__doc d = {.file = file};
    struct po__cmd cmd;
    json_t *keep;
    struct po__buf steps = {0};
    int rv = po__spec_pipeline(&d, json, strlen(json), &cmd, &keep, &steps);
    assert_int_equal(rv, d.count ? PO_EINVAL : 0);
    assert_int_equal(keep == NULL, rv != 0);
    char *text = po__strndup((const char *)d.problems.data, d.problems.len);
    assert_non_null(text);
    json_decref(keep);
    po__buf_fini(&steps);
    po__buf_fini(&d.problems);
    return text;
}

static void expect(const char *json, const char *problems)
{
    char *got = problems_of(json, "p.json");
    assert_string_equal(got, problems);
    po__free(got);
}

static const char good[] =
    "{\"name\": \"energy\", \"description\": \"x\", \"start_node\": \"a\", \"steps\": [\n"
    "  {\"name\": \"b\", \"capability\": \"clean:csv\", \"timeout_ms\": 60000},\n"
    "  {\"name\": \"a\", \"capability\": \"ingest:csv\", \"next_node\": \"b\", \"config\": {\"k\": "
    "[1.5, null]},"
    " \"attempts_max\": 2}]}";

static void good_pipeline_becomes_a_command(void **state)
{
    (void)state;
    struct po__doc d = {0};
    struct po__cmd cmd;
    json_t *keep;
    struct po__buf steps = {0};
    assert_int_equal(po__spec_pipeline(&d, good, strlen(good), &cmd, &keep, &steps), 0);
    assert_int_equal(cmd.type, PO__CMD_PIPELINE_DEFINE);
    assert_true(po__slice_eq(cmd.pipeline.name, po__str("energy")));
    assert_true(po__slice_eq(cmd.pipeline.start_node, po__str("a")));
    assert_int_equal(cmd.pipeline.steps_count, 2);
    struct po__mpr r;
    po__mpr_init(&r, cmd.pipeline.steps.data, cmd.pipeline.steps.len);
    assert_int_equal(po__mpr_array(&r, 10), 2);
    struct po__step s;
    assert_int_equal(po__step_decode(&r, &s), 0);
    assert_true(po__slice_eq(s.name, po__str("b")));
    assert_int_equal(s.timeout_ms, 60000);
    assert_int_equal(s.next_node.len, 0);
    assert_int_equal(s.config.len, 0);
    assert_int_equal(po__step_decode(&r, &s), 0);
    assert_true(po__slice_eq(s.capability, po__str("ingest:csv")));
    assert_true(po__slice_eq(s.next_node, po__str("b")));
    assert_true(po__slice_eq(s.config, po__str("{\"k\":[1.5,null]}")));
    assert_int_equal(s.attempts_max, 2);
    assert_int_equal(po__mpr_end(&r), 0);
    char message[256];
    assert_int_equal(po__cmd_check(&cmd, message, sizeof message), 0);
    json_decref(keep);
    po__buf_fini(&steps);
    po__buf_fini(&d.problems);
}

static void syntax_errors_have_line_and_column(void **state)
{
    (void)state;
    char *got = problems_of("{\n  \"name\": \"x\",\n  oops\n}", "p.json");
    assert_memory_equal(got, "p.json:3:", 9);
    assert_non_null(strstr(got, "not valid JSON"));
    po__free(got);
    got = problems_of("{\"name\": \"a\", \"name\": \"b\"}", "p.json");
    assert_non_null(strstr(got, "duplicate"));
    po__free(got);
    expect("", "p.json:1:1: not valid JSON: the document is empty");
    expect("{\"name\": \"a\\u0000b\"}",
           "p.json:1:19: not valid JSON: a string contains \\u0000, which is not allowed");
}

static void deep_and_large_documents_are_refused(void **state)
{
    (void)state;
    static char deep[100001];
    memset(deep, '[', sizeof deep - 1);
    expect(deep, "p.json: the document nests deeper than 256 levels");
    char *big = malloc(PO__SPEC_MAX_BYTES + 2);
    assert_non_null(big);
    memset(big, ' ', PO__SPEC_MAX_BYTES + 1);
    big[PO__SPEC_MAX_BYTES + 1] = '\0';
    expect(big, "p.json: the document has 1048577 bytes; at most 1048576 are allowed");
    free(big);
}

static void every_problem_is_listed_with_its_place(void **state)
{
    (void)state;
    expect(
        "{\"name\": \"\", \"start\": \"a\",\n"
        " \"steps\": [\n"
        "  {\"name\": \"a\", \"capability\": \"Ingest\", \"timout_ms\": 5},\n"
        "  {\"capability\": 7, \"timeout_ms\": 5, \"attempts_max\": 1.0}\n"
        "]}",
        "p.json:1:2: /name: is empty; give it a value\n"
        "p.json:1:14: /start: unknown key \"start\"; did you mean \"start_node\"?\n"
        "p.json:3:41: /steps/0/timout_ms: unknown key \"timout_ms\"; did you mean \"timeout_ms\"?\n"
        "p.json:3:17: /steps/0/capability: \"Ingest\" is neither a capability nor an alias; write "
        "\"verb:name\", or add \"Ingest\" to service_registry\n"
        "p.json:4:4: /steps/1/capability: must be a string, not an integer\n"
        "p.json:4:21: /steps/1/timeout_ms: is 5; must be 100 to 86400000\n"
        "p.json:4:38: /steps/1/attempts_max: must be an integer, not a number with a fraction or "
        "exponent\n"
        "p.json:4:3: /steps/1: the key \"name\" is missing; it must be a string");
}

static void chains_are_told_what_graphs_have(void **state)
{
    (void)state;
    expect("{\"name\": \"p\", \"start_node\": \"a\", \"steps\": [\n"
           "  {\"name\": \"a\", \"capability\": \"Ingest\", \"depend_on\": []},\n"
           "  {\"name\": \"b\"}]}",
           "p.json:2:41: /steps/0/depend_on: unknown key \"depend_on\"; did you mean "
           "\"depends_on\"?\n"
           "p.json:2:17: /steps/0/capability: \"Ingest\" is not a capability; write "
           "\"verb:name\", each part of a-z, 0-9, '.', '_' and '-'\n"
           "p.json:3:3: /steps/1: the key \"capability\" is missing; it must be a string\n"
           "p.json:3:3: /steps/1: step \"b\" can never run: no path leads to it from start_node "
           "\"a\"; link it or remove it");
}

#define STEP(name, next)   "{\"name\":\"" name "\",\"capability\":\"v:n\"" next "}"
#define NEXT(name)         ",\"next_node\":\"" name "\""
#define PIPE(start, steps) "{\"name\":\"p\",\"start_node\":\"" start "\",\n\"steps\":[\n" steps "]}"

static void references_must_name_steps(void **state)
{
    (void)state;
    expect(PIPE("ingset", STEP("ingest", NEXT("claen")) ",\n" STEP("clean", "")),
           "p.json:3:37: /steps/0/next_node: no step is named \"claen\"; did you mean \"clean\"?\n"
           "p.json:1:13: /start_node: no step is named \"ingset\"; did you mean \"ingest\"?");
    expect(PIPE("a", STEP("a", NEXT("zzz"))),
           "p.json:3:32: /steps/0/next_node: no step is named \"zzz\"; add it or correct the name");
    expect(PIPE("a", STEP("a", "") ",\n" STEP("a", "")),
           "p.json:4:2: /steps/1/name: step \"a\" is already defined at /steps/0; names must be "
           "unique");
}

static void the_shape_must_be_a_chain(void **state)
{
    (void)state;
    expect(PIPE("a", STEP("a", NEXT("bb")) ",\n" STEP("b", "")), /* whether b runs is not known */
           "p.json:3:32: /steps/0/next_node: no step is named \"bb\"; add it or correct the name");
    expect(PIPE("a", STEP("a", NEXT("b")) ",\n" STEP("b", NEXT("c")) ",\n" STEP("c", NEXT("b"))),
           "p.json:5:32: /steps/2/next_node: the steps form a cycle: b -> c -> b; a pipeline must "
           "come "
           "to an end");
    expect(
        PIPE("ghost", STEP("a", NEXT("a"))), /* whatever else is wrong */
        "p.json:1:13: /start_node: no step is named \"ghost\"; add it or correct the name\n"
        "p.json:3:32: /steps/0/next_node: the steps form a cycle: a -> a; a pipeline must come to "
        "an end");
    expect(PIPE("a", STEP("a", NEXT("a"))), "p.json:3:32: /steps/0/next_node: the steps form a "
                                            "cycle: a -> a; a pipeline must come to an "
                                            "end");
    expect(
        PIPE("a", STEP("a", NEXT("c")) ",\n" STEP("b", NEXT("c")) ",\n" STEP("c", "")),
        "p.json:4:32: /steps/1/next_node: step \"c\" already follows step \"a\"; a pipeline is a "
        "chain, each step follows one other\n"
        "p.json:4:1: /steps/1: step \"b\" can never run: no path leads to it from start_node "
        "\"a\"; "
        "link it or remove it");
    expect(PIPE("b", STEP("a", NEXT("b")) ",\n" STEP("b", "")),
           "p.json:3:1: /steps/0: step \"a\" can never run: no path leads to it from start_node "
           "\"b\"; "
           "link it or remove it");
    expect(PIPE("a", ""),
           "p.json:2:1: /steps: is empty; it needs at least one entry\n"
           "p.json:1:13: /start_node: no step is named \"a\"; add it or correct the name");
}

static void problems_are_bounded_and_one_line_each(void **state)
{
    (void)state;
    struct po__buf b = {0};
    po__buf_printf(&b, "{\"a\\nb\":1");
    for (int i = 0; i < 300; i++)
        po__buf_printf(&b, ",\"unknown%d\":1", i);
    po__buf_append(&b, "}", 2);
    assert_int_equal(b.err, 0);
    char *got = problems_of((const char *)b.data, NULL);
    assert_non_null(strstr(got, "/a?b: unknown key \"a?b\""));
    unsigned lines = 1;
    for (const char *p = got; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, PO__SPEC_PROBLEMS_MAX + 1);
    assert_non_null(strstr(got, "\nmore problems were found; correct these first"));
    po__free(got);
    po__buf_fini(&b);
}

static void pointers_are_escaped_and_located(void **state)
{
    (void)state;
    char at[PO__SPEC_POINTER_MAX_BYTES];
    po__doc_pointer_key(at, "/x", "a/b~c");
    assert_string_equal(at, "/x/a~1b~0c");
    po__doc_pointer_index(at, "/x", 12);
    assert_string_equal(at, "/x/12");
    struct po__slice text =
        po__str(" {\"s\": \"}]\\\"\", \"x\": [[], {\"é\\u0041\": {},\n \"a/b~c\" : true}]}");
    unsigned line, column;
    po__doc_locate(text, "", &line, &column);
    assert_int_equal(line, 1);
    assert_int_equal(column, 2);
    po__doc_locate(text, "/x/1/éA", &line, &column);
    assert_int_equal(line, 1);
    assert_int_equal(column, 27);
    po__doc_locate(text, "/x/1/a~1b~0c", &line, &column);
    assert_int_equal(line, 2);
    assert_int_equal(column, 2);
    po__doc_locate(text, "/x/7/nothing", &line, &column); /* the nearest parent: "x" */
    assert_int_equal(line, 1);
    assert_int_equal(column, 16);
    char *long_key = malloc(2000);
    assert_non_null(long_key);
    memset(long_key, '/', 1999);
    long_key[1999] = '\0';
    po__doc_pointer_key(at, "", long_key);
    assert_true(strlen(at) < sizeof at);
    free(long_key);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"listen", "worker_listen", "election_ms", "heartbeat_ms",
                                        "id"};
    assert_string_equal(po__nearest("lisen", names, 5), "listen");
    assert_string_equal(po__nearest("WORKER-LISTEN", names, 5), "worker_listen");
    assert_string_equal(po__nearest("electoin_ms", names, 5), "election_ms");
    assert_string_equal(po__nearest("ids", names, 5), "id");
    assert_string_equal(po__nearest("heartbeat", names, 5), "heartbeat_ms");
    static const char *const both[] = {"timeout_ms", "timeout_s"};
    assert_null(po__nearest("timeo", both, 2));
    assert_null(po__nearest("x", names, 5));
    assert_null(po__nearest("", names, 5));
    assert_null(po__nearest("completely_different", names, 5));
    char long_name[500];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_null(po__nearest(long_name, names, 5));
}

static void json_texts(void **state)
{
    (void)state;
    static const char *const valid[] = {
        "1", "null", "\"x\"", " [1, 2] ", "{}", "99999999999999999999", "1e300", "{\"a\":1}"};
    static const char *const invalid[] = {"",     " ",          "1 2",      "{",  "nul",
                                          "[1,]", "{\"a\":1}}", "\"\xff\"", "'a'"};
    for (unsigned i = 0; i < sizeof valid / sizeof *valid; i++)
        assert_int_equal(po__spec_json_ok(valid[i], strlen(valid[i])), 1);
    for (unsigned i = 0; i < sizeof invalid / sizeof *invalid; i++)
        assert_int_equal(po__spec_json_ok(invalid[i], strlen(invalid[i])), 0);
    char deep[2 * (PO__JSON_DEPTH_MAX + 1) + 1];
    for (unsigned n = PO__JSON_DEPTH_MAX; n <= PO__JSON_DEPTH_MAX + 1; n++) {
        memset(deep, '[', n);
        deep[n] = '1';
        memset(deep + n + 1, ']', n);
        assert_int_equal(po__spec_json_ok(deep, 2 * n + 1), n == PO__JSON_DEPTH_MAX);
    }
}

static void msgpack_to_json(void **state)
{
    (void)state;
    struct po__buf mp = {0}, out = {0};
    po__mpw_map(&mp, 6);
    po__mpw_cstr(&mp, "a");
    po__mpw_array(&mp, 3);
    po__mpw_uint(&mp, UINT64_MAX);
    po__mpw_int(&mp, -5);
    po__mpw_bool(&mp, true);
    po__mpw_cstr(&mp, "b");
    po__mpw_cstr(&mp, "q\"\\\x0a\x01é");
    po__mpw_cstr(&mp, "config");
    po__mpw_cstr(&mp, "");
    po__mpw_cstr(&mp, "input");
    po__mpw_cstr(&mp, "{\"x\": 1.50}");
    po__mpw_cstr(&mp, "raw");
    po__mpw_bin(&mp, po__slice("\x00\xab", 2));
    po__mpw_cstr(&mp, "result");
    po__mpw_nil(&mp);
    assert_int_equal(mp.err, 0);
    assert_int_equal(po__spec_json_from_mp(&out, mp.data, mp.len), 0);
    po__buf_append(&out, "", 1);
    assert_string_equal(
        (char *)out.data,
        "{\"a\":[18446744073709551615,-5,true],\"b\":\"q\\\"\\\\\\u000a\\u0001é\",\"config\":null,"
        "\"input\":{\"x\": 1.50},\"raw\":\"00ab\",\"result\":null}");
    for (size_t len = 0; len < mp.len;
         len++) { /* every truncation is an error, never a read beyond */
        char *copy = po__memdup(mp.data, len);
        assert_non_null(copy);
        po__buf_reset(&out);
        assert_int_equal(po__spec_json_from_mp(&out, copy, len), PO_EPROTO);
        po__free(copy);
    }
    po__buf_reset(&mp);
    po__mpw_nil(&mp);
    po__mpw_nil(&mp);
    po__buf_reset(&out);
    assert_int_equal(po__spec_json_from_mp(&out, mp.data, mp.len), PO_EPROTO);
    uint8_t deep[64];
    memset(deep, 0x91, sizeof deep);
    po__buf_reset(&out);
    assert_int_equal(po__spec_json_from_mp(&out, deep, sizeof deep), PO_EPROTO);
    po__buf_fini(&mp);
    po__buf_fini(&out);
}

/* Each allocation of ours fails once; the outcome is PO_ENOMEM or a whole result, never a half one.
 */
static void allocation_failures(void **state)
{
    (void)state;
    static const char *const documents[] = {good, PIPE("a", STEP("a", NEXT("b")))};
    for (unsigned i = 0; i < 2; i++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            struct po__doc d = {.file = "p.json"};
            struct po__cmd cmd;
            json_t *keep;
            struct po__buf steps = {0};
            po__alloc_fail_at(n);
            int rv = po__spec_pipeline(&d, documents[i], strlen(documents[i]), &cmd, &keep, &steps);
            failed = po__alloc_count() >= n;
            po__alloc_fail_at(0);
            if (!failed)
                assert_int_equal(rv, i ? PO_EINVAL : 0);
            else if (rv != PO_ENOMEM) /* only the search for a near name may be given up */
                assert_int_equal(rv, PO_EINVAL);
            json_decref(keep);
            po__buf_fini(&steps);
            po__buf_fini(&d.problems);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_pipeline_becomes_a_command),
        cmocka_unit_test(syntax_errors_have_line_and_column),
        cmocka_unit_test(deep_and_large_documents_are_refused),
        cmocka_unit_test(every_problem_is_listed_with_its_place),
        cmocka_unit_test(chains_are_told_what_graphs_have),
        cmocka_unit_test(references_must_name_steps),
        cmocka_unit_test(the_shape_must_be_a_chain),
        cmocka_unit_test(problems_are_bounded_and_one_line_each),
        cmocka_unit_test(pointers_are_escaped_and_located),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(json_texts),
        cmocka_unit_test(msgpack_to_json),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
