/* The public simulator: a seed tells one story, documents are checked as a whole, and what the
 * workers are told shows in the report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <pipeorch/client.h>
#include <pipeorch/sim.h>
#include <string.h>

static const char pipeline[] =
    "{\"name\": \"p\", \"start_node\": \"a\", \"steps\": ["
    "{\"name\": \"a\", \"capability\": \"do:a\", \"next_node\": \"b\"},"
    "{\"name\": \"b\", \"capability\": \"do:b\", \"attempts_max\": 3, \"timeout_ms\": 5000}]}";

static struct po_sim_opts opts(uint64_t seed, const char *faults)
{
    return (struct po_sim_opts){.size = sizeof(struct po_sim_opts),
                                .pipeline = pipeline,
                                .pipeline_len = strlen(pipeline),
                                .faults = faults,
                                .seed = seed};
}

static json_t *simulate(const struct po_sim_opts *o)
{
    char *text = NULL, error[1024];
    int rv = po_sim_run(o, &text, error, sizeof error);
    if (rv)
        print_error("%s: %s\n", po_err_name(rv), error);
    assert_int_equal(rv, 0);
    json_t *report = json_loads(text, 0, NULL);
    assert_non_null(report);
    po_free(text);
    return report;
}

static const char *state_of_run(const json_t *report, size_t i)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(report, "runs"), i), "state"));
}

static long long count_of(const json_t *report, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(report, "counts"), key));
}

static void test_calm(void **state)
{
    (void)state;
    struct po_sim_opts o = opts(1, "none");
    o.runs = 3;
    json_t *r = simulate(&o);
    assert_true(json_is_true(json_object_get(r, "kept")));
    assert_int_equal(json_array_size(json_object_get(r, "runs")), 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(state_of_run(r, i), "succeeded");
    assert_int_equal(count_of(r, "attempts"), 6);
    assert_int_equal(count_of(r, "crashes"), 0);
    json_decref(r);
}

static void test_one_seed_one_story(void **state)
{
    (void)state;
    struct po_sim_opts o = opts(5, "chaos"), other = opts(6, "chaos");
    json_t *a = simulate(&o), *b = simulate(&o), *c = simulate(&other);
    assert_true(json_equal(a, b));
    assert_string_not_equal(json_string_value(json_object_get(a, "trace")),
                            json_string_value(json_object_get(c, "trace")));
    assert_true(count_of(a, "faults") > 0);
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void test_every_preset_and_size(void **state)
{
    (void)state;
    const char *name, *what;
    for (unsigned i = 0; (name = po_sim_preset(i, &what)) != NULL; i++) {
        assert_true(strlen(what) > 0);
        for (uint32_t nodes = 1; nodes <= PO_MEMBERS_MAX; nodes += 2) {
            struct po_sim_opts o = opts(nodes, name);
            o.nodes = nodes;
            json_t *r = simulate(&o);
            assert_true(json_is_true(json_object_get(r, "kept")));
            assert_int_equal(json_integer_value(json_object_get(r, "nodes")), nodes);
            json_decref(r);
        }
    }
}

/* A worker that always fails: the run fails after attempts_max, and nothing is lost. */
static void test_workers_of_ones_own(void **state)
{
    (void)state;
    struct po_sim_opts o = opts(1, "none");
    o.workers = "[{\"id\": \"good\", \"capabilities\": [{\"name\": \"do:a\", \"min_ms\": 40, "
                "\"max_ms\": 40}]}, {\"id\": \"bad\", \"capabilities\": [{\"name\": \"do:b\", "
                "\"failure_percent\": 100}]}]";
    o.workers_len = strlen(o.workers);
    json_t *r = simulate(&o);
    assert_true(json_is_true(json_object_get(r, "kept")));
    assert_string_equal(state_of_run(r, 0), "failed");
    assert_true(count_of(r, "attempts_failed") >= 1);
    json_decref(r);
}

static void refused(struct po_sim_opts o, int code, const char *what)
{
    char *text = (char *)&o, error[2048] = "";
    assert_int_equal(po_sim_run(&o, &text, error, sizeof error), code);
    assert_null(text);
    if (!strstr(error, what))
        print_error("\"%s\" is not in: %s\n", what, error);
    assert_non_null(strstr(error, what));
}

static void test_refusals(void **state)
{
    (void)state;
    struct po_sim_opts o = opts(1, "storm");
    refused(o, PO_ENOTFOUND, "three-clouds");
    o = opts(1, NULL);
    o.pipeline = "{\"name\": \"p\"}";
    o.pipeline_len = strlen(o.pipeline);
    refused(o, PO_EINVAL, "the key \"steps\" is missing");
    o = opts(1, NULL);
    o.params = "{";
    refused(o, PO_EINVAL, "params");
    o = opts(1, NULL);
    o.nodes = PO_MEMBERS_MAX + 1;
    refused(o, PO_EINVAL, "nodes");
    o = opts(1, NULL);
    o.workers = "[{\"id\": \"w\", \"capabilities\": [{\"name\": \"do:a\", \"min_msec\": 1}]}]";
    o.workers_len = strlen(o.workers);
    refused(o, PO_EINVAL, "did you mean \"min_ms\"");
    o.workers = "[{\"id\": \"w\", \"capabilities\": [{\"name\": \"do:a\"}]}]";
    o.workers_len = strlen(o.workers);
    refused(o, PO_EINVAL, "no worker offers do:b");
    o.workers = "[{\"id\": \"w\", \"capabilities\": [{\"name\": \"do:a\", \"min_ms\": 9, "
                "\"max_ms\": 1}]}]";
    o.workers_len = strlen(o.workers);
    refused(o, PO_EINVAL, "max_ms is less than min_ms");
    const int stop = 1;
    o = opts(1, NULL);
    o.stop = &stop;
    refused(o, PO_ECANCELLED, "stopped");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calm),
        cmocka_unit_test(test_one_seed_one_story),
        cmocka_unit_test(test_every_preset_and_size),
        cmocka_unit_test(test_workers_of_ones_own),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
