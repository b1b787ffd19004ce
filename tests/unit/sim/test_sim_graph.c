/* Graphs on the simulator: results that the templates can live with, and refusals before anything
 * runs where there can be none. Documents are written with ' for ". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <pipeorch/client.h>
#include <pipeorch/sim.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *quoted(const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    for (char *p = copy; p && *p; p++)
        if (*p == '\'')
            *p = '"';
    return copy;
}

struct given {
    const char *pipeline, *params, *workers, *faults;
    uint64_t seed;
};

/* The report, or NULL and the refusal. */
static json_t *simulate(struct given g, char *error, size_t error_len)
{
    char *pipeline = quoted(g.pipeline), *params = quoted(g.params), *workers = quoted(g.workers);
    char *text = NULL;
    struct po_sim_opts o = {.size = sizeof o,
                            .pipeline = pipeline,
                            .pipeline_len = strlen(pipeline),
                            .params = params,
                            .workers = workers,
                            .workers_len = workers ? strlen(workers) : 0,
                            .faults = g.faults ? g.faults : "none",
                            .seed = g.seed};
    int rv = po_sim_run(&o, &text, error, error_len);
    json_t *report = rv ? NULL : json_loads(text, 0, NULL);
    assert_int_equal(rv, report ? 0 : PO_EINVAL);
    po_free(text);
    free(pipeline);
    free(params);
    free(workers);
    return report;
}

static json_t *run_of(const json_t *report)
{
    return json_array_get(json_object_get(report, "runs"), 0);
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* The report of a simulation whose run succeeded. */
static json_t *succeeded(struct given g)
{
    char error[2048] = "";
    json_t *report = simulate(g, error, sizeof error);
    if (!report)
        print_error("%s\n", error);
    assert_non_null(report);
    assert_true(json_is_true(json_object_get(report, "kept")));
    if (strcmp(text_of(run_of(report), "state"), "succeeded") != 0)
        print_error("%s\n", text_of(run_of(report), "error"));
    assert_string_equal(text_of(run_of(report), "state"), "succeeded");
    return report;
}

static void refused(struct given g, const char *what)
{
    char error[2048] = "";
    json_t *report = simulate(g, error, sizeof error);
    assert_null(report);
    if (!strstr(error, what))
        print_error("\"%s\" is not in: %s\n", what, error);
    assert_non_null(strstr(error, what));
}

static const json_t *step_of(const json_t *report, const char *name)
{
    size_t i;
    const json_t *step;
    json_array_foreach(json_object_get(run_of(report), "steps"), i, step)
    {
        if (strcmp(text_of(step, "name"), name) == 0)
            return step;
    }
    fail_msg("no step %s", name);
    return NULL;
}

#define FANOUT                                                                                     \
    "{'name': 'p', 'params': {'more': {'type': 'integer', 'default': 2}}, 'steps': ["              \
    "{'name': 'list', 'capability': 'list:parts'},"                                                \
    "{'name': 'work', 'capability': 'work:part@^1', 'depends_on': ['list'],"                       \
    " 'map': '${steps.list.output.parts}',"                                                        \
    " 'input': {'file': '${item.file.name}', 'size': '${item.size}', 'n': '${index}'}},"           \
    "{'name': 'join', 'capability': 'join:parts', 'depends_on': ['work'],"                         \
    " 'when': 'steps.work.output[1].rows >= 1 && len(steps.list.output.others) > params.more',"    \
    " 'input': ['${steps.work.output}', '${steps.work.output[0].first[1]}']}],"                    \
    "'output': {'sum': '${steps.join.output.sum}'}}"

static void results_have_what_templates_name(void **state)
{
    (void)state;
    json_t *r = succeeded((struct given){.pipeline = FANOUT, .seed = 1});
    const json_t *items = json_object_get(step_of(r, "work"), "items");
    assert_int_equal(json_integer_value(json_object_get(items, "succeeded")), 3);
    assert_string_equal(text_of(step_of(r, "join"), "state"), "succeeded");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(run_of(r), "result"), "sum")), 1);
    json_decref(r);
}

static void graphs_survive_faults(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        json_t *r = succeeded((struct given){.pipeline = FANOUT, .seed = seed, .faults = "chaos"});
        json_decref(r);
    }
}

#define CHECKED                                                                                    \
    "{'name': 'p', 'steps': [{'name': 'check', 'capability': 'check:it'},"                         \
    "{'name': 'go', 'capability': 'go:on', 'depends_on': ['check'],"                               \
    " 'when': 'steps.check.output.verdict && true'}]}"

static void workers_say_what_they_return(void **state)
{
    (void)state;
    static const char workers[] =
        "[{'id': 'w', 'capabilities': [{'name': 'check:it', 'output': {'verdict': %s}},"
        " {'name': 'go:on', 'version': '2.1.0'}]}]";
    const char *const verdicts[] = {"true", "false"}, *const states[] = {"succeeded", "skipped"};
    refused((struct given){.pipeline = CHECKED}, "step \"go\": when: ");
    refused((struct given){.pipeline = CHECKED}, "give the capability an \"output\"");
    for (unsigned i = 0; i < 2; i++) {
        char text[256];
        snprintf(text, sizeof text, workers, verdicts[i]);
        json_t *r = succeeded((struct given){.pipeline = CHECKED, .workers = text, .seed = 1});
        assert_string_equal(text_of(step_of(r, "go"), "state"), states[i]);
        json_decref(r);
    }
}

#define ONE(more) "{'name': 'p', 'steps': [{'name': 'a', 'capability': 'v:n" more "}]}"

static void what_cannot_run_is_refused_at_once(void **state)
{
    (void)state;
    refused((struct given){.pipeline = "{'name': 'p', 'steps': [{'name': 'a', 'pipeline': 'q'}]}"},
            "step \"a\" runs another pipeline");
    refused((struct given){.pipeline = ONE("@^2'")}, "step \"a\": no worker offers v:n@^2");
    refused((struct given){.pipeline = ONE("', 'placement': {'zone': 'aws'}")}, "no worker offers");
    refused((struct given){.pipeline = ONE("', 'placement': {'gpu': 'required'}")},
            "no worker offers");
    refused((struct given){.pipeline = ONE("', 'placement': {'labels': {'disk': 'ssd'}}")},
            "no worker offers");
    refused((struct given){.pipeline = FANOUT, .params = "{'more': 'x'}"},
            "param \"more\" is a string, expected integer");
    json_t *r = succeeded((struct given){
        .pipeline = ONE("@^2', 'placement': {'zone': 'aws'}"),
        .seed = 1,
        .workers = "[{'id': 'w', 'zone': 'aws', 'capabilities': [{'name': 'v:n', 'version': "
                   "'2.0.0'}]}]"});
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_what_templates_name),
        cmocka_unit_test(graphs_survive_faults),
        cmocka_unit_test(workers_say_what_they_return),
        cmocka_unit_test(what_cannot_run_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
