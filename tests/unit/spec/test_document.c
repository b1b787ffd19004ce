/* A definition comes out of the cluster as a document that means the same. */
#include "../model/fixture.h"

#include "spec/spec.h"

static void encode(struct po__buf *out, const struct po__cmd *cmd)
{
    po__cmd_encode(out, cmd);
    assert_int_equal(out->err, 0);
}

/* Defines the document and asks for it. */
static json_t *asked(const char *document, struct po__buf *command)
{
    struct world w;
    struct po__doc d = {0};
    struct po__buf steps = {0}, mp = {0}, text = {0};
    json_t *keep;
    const char *message;
    world_open(&w, NULL);
    int rv = po__spec_pipeline(&d, document, strlen(document), &w.cmd, &keep, &steps);
    if (rv)
        print_error("%.*s\n", (int)d.problems.len, (const char *)d.problems.data);
    assert_int_equal(rv, 0);
    encode(command, &w.cmd);
    assert_int_equal(apply(&w), 0);
    struct po__query q = {.what = PO_QUERY_PIPELINE, .name = po__str("p")};
    assert_int_equal(po__model_query(w.m, &q, &mp, &message), 0);
    assert_int_equal(po__spec_json_from_mp(&text, mp.data, mp.len), 0);
    json_t *answer = json_loadb((const char *)text.data, text.len, 0, NULL);
    assert_non_null(answer);
    json_decref(keep);
    po__buf_fini(&steps);
    po__buf_fini(&mp);
    po__buf_fini(&text);
    po__buf_fini(&d.problems);
    world_close(&w);
    return answer;
}

static void there_and_back(const char *document)
{
    struct po__buf first = {0}, second = {0};
    json_t *answer = asked(document, &first);
    json_t *again = po__spec_document(answer);
    assert_non_null(again);
    char *text = json_dumps(again, JSON_COMPACT);
    json_decref(asked(text, &second));
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        print_error("%s\n", text);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    free(text);
    json_decref(again);
    json_decref(answer);
    po__buf_fini(&first);
    po__buf_fini(&second);
}

static void a_graph_comes_back(void **state)
{
    (void)state;
    there_and_back(
        "{\"name\": \"p\", \"version\": \"7\", \"params\": {\"a\": {\"type\": \"array\", "
        "\"required\": true}, \"n\": {\"default\": {\"x\": [1, \"two\"]}}, \"any\": {}},"
        "\"service_registry\": {\"fit\": \"fit:line@>=1.2 <2\"}, \"steps\": ["
        "{\"name\": \"one\", \"capability\": \"fit\", \"map\": \"${params.a}\", \"map_parallel\": "
        "3, \"input\": {\"x\": \"${item}\"}, \"config\": [1], \"timeout_ms\": 5000, "
        "\"attempts_max\": 7, \"retry\": {\"delay_ms\": 10, \"delay_max_ms\": 20}, \"priority\": "
        "4, \"cache\": {\"ttl_ms\": 99}, \"on_failure\": \"continue\", \"placement\": {\"zone\": "
        "\"aws\", \"gpu\": \"required\", \"labels\": {\"a\": \"=b\", \"c\": {\"not\": \"d\"}, "
        "\"e\": true, \"f\": false}, \"resources\": {\"cpu_milli\": 500}, \"prefer\": "
        "\"local\"}},"
        "{\"name\": \"two\", \"pipeline\": \"other\", \"depends_on\": [\"one\"], \"join\": "
        "\"any_succeeded\", \"when\": \"len(params.a) > 1\"},"
        "{\"name\": \"three\", \"capability\": \"v:n\", \"cache\": true, \"input\": \"x\", "
        "\"map\": [1, 2], \"depends_on\": [\"one\", \"two\"]}],"
        "\"output\": [\"${steps.three.output}\"]}");
}

static void a_bare_graph_comes_back(void **state)
{
    (void)state;
    there_and_back("{\"name\": \"p\", \"steps\": [{\"name\": \"a\", \"capability\": \"v:n\"}]}");
}

static void a_chain_comes_back(void **state)
{
    (void)state;
    there_and_back("{\"name\": \"p\", \"start_node\": \"a\", \"steps\": [{\"name\": \"a\", "
                   "\"capability\": \"v:n\", \"next_node\": \"b\", \"config\": {\"k\": null}, "
                   "\"timeout_ms\": 100}, {\"name\": \"b\", \"capability\": \"v:m\", "
                   "\"attempts_max\": 9}]}");
}

static void documents_leave_out_what_goes_without_saying(void **state)
{
    (void)state;
    struct po__buf command = {0};
    json_t *answer = asked("{\"name\": \"p\", \"steps\": [{\"name\": \"a\", \"capability\": "
                           "\"v:n\"}]}",
                           &command);
    json_t *document = po__spec_document(answer);
    char *text = json_dumps(document, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "{\"name\":\"p\",\"steps\":[{\"capability\":\"v:n\",\"name\":\"a\"}]}");
    free(text);
    json_decref(document);
    json_decref(answer);
    po__buf_fini(&command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_comes_back),
        cmocka_unit_test(a_bare_graph_comes_back),
        cmocka_unit_test(a_chain_comes_back),
        cmocka_unit_test(documents_leave_out_what_goes_without_saying),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
