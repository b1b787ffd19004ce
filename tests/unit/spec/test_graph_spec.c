#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "spec/spec.h"

/* Documents are written with ' for ", and steps one to a line. */
static char *quoted(const char *text)
{
    char *copy = po__strndup(text, strlen(text));
    assert_non_null(copy);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    return copy;
}

struct made {
    char *text;
    struct po__doc d;
    struct po__cmd cmd;
    json_t *keep;
    struct po__buf buf;
    int rv;
};

static void make(struct made *m, const char *json)
{
    *m = (struct made){.text = quoted(json)};
    m->rv = po__spec_pipeline(&m->d, m->text, strlen(m->text), &m->cmd, &m->keep, &m->buf);
    assert_int_equal(m->keep == NULL, m->rv != 0);
}

static void drop(struct made *m)
{
    json_decref(m->keep);
    po__buf_fini(&m->buf);
    po__buf_fini(&m->d.problems);
    po__free(m->text);
}

static void refused(const char *json, const char *problems)
{
    struct made m;
    make(&m, json);
    char *got = po__strndup((const char *)m.d.problems.data, m.d.problems.len);
    if (strcmp(got, problems) != 0) /* cmocka cuts long texts */
        fprintf(stderr, "got:\n%s\n", got);
    assert_string_equal(got, problems);
    assert_int_equal(m.rv, PO_EINVAL);
    po__free(got);
    drop(&m);
}

static void accepted(struct made *m, const char *json)
{
    make(m, json);
    if (m->rv)
        print_error("%.*s\n", (int)m->d.problems.len, (const char *)m->d.problems.data);
    assert_int_equal(m->rv, 0);
}

static struct po__graph_step step_at(const struct made *m, uint32_t place)
{
    struct po__mpr r;
    struct po__graph_step s;
    po__mpr_init(&r, m->cmd.graph.steps.data, m->cmd.graph.steps.len);
    assert_int_equal(po__mpr_array(&r, PO_STEPS_MAX), m->cmd.graph.steps_count);
    for (uint32_t i = 0; i <= place; i++)
        assert_int_equal(po__graph_step_decode(&r, &s), 0);
    return s;
}

static void is(struct po__slice s, const char *text)
{
    char *expected = quoted(text);
    if (!po__slice_eq(s, po__str(expected)))
        print_error("got %.*s\n", (int)s.len, s.data);
    assert_true(po__slice_eq(s, po__str(expected)));
    po__free(expected);
}

/* ---- accepted ---- */

static const char whole[] =
    "{'name': 'daily', 'version': '2026-07', 'description': 'x',\n"
    " 'params': {'files': {'type': 'array', 'required': true},\n"
    "            'limit': {'type': 'number', 'default': 1.10, 'description': 'of rows'}},\n"
    " 'service_registry': {'sizer': 'measure:file@^1.2'},\n"
    " 'steps': [\n"
    "  {'name': 'report', 'capability': 'report:sizes', 'depends_on': ['size', 'check'],\n"
    "   'join': 'all_done', 'input': {'sizes': '${steps.size.output}', 'n': 0.10}},\n"
    "  {'name': 'size', 'capability': 'sizer', 'map': '${params.files}', 'map_parallel': 4,\n"
    "   'input': {'file': '${item}', 'at': '${index}'}, 'config': {'k': [1.50, null]},\n"
    "   'attempts_max': 2, 'timeout_ms': 60000, 'retry': {'delay_ms': 500, 'delay_max_ms': 900},\n"
    "   'priority': 7, 'cache': {'ttl_ms': 1000}, 'on_failure': 'continue',\n"
    "   'placement': {'zone': 'aws', 'labels': {'disk': 'ssd', 'old': false, 'arch': {'not': "
    "'arm'},\n"
    "                 'net': true}, 'gpu': 'forbidden', 'resources': {'memory_bytes': 1024},\n"
    "                 'prefer': 'spread'}},\n"
    "  {'name': 'check', 'pipeline': 'checks', 'when': 'params.limit > 1', 'input': {'a': 1}}],\n"
    " 'output': {'report': '${steps.report.output}', 'run': '${run.id}'}}";

static void a_graph_becomes_a_command(void **state)
{
    (void)state;
    struct made m;
    accepted(&m, whole);
    assert_int_equal(m.cmd.type, PO__CMD_PIPELINE_DEFINE_GRAPH);
    is(m.cmd.graph.name, "daily");
    is(m.cmd.graph.version, "2026-07");
    is(m.cmd.graph.output, "{'report':'${steps.report.output}','run':'${run.id}'}");
    assert_int_equal(m.cmd.graph.steps_count, 3);
    struct po__graph_step s = step_at(&m, 2); /* report comes last: it depends on the others */
    uint32_t places[PO_STEPS_MAX];
    is(s.name, "report");
    assert_int_equal(s.join, PO__JOIN_ALL_DONE);
    assert_int_equal(s.depends_count, 2);
    assert_int_equal(po__depends_decode(&s, places), 0);
    assert_int_equal(places[0], 0);
    assert_int_equal(places[1], 1);
    is(s.input, "{'sizes':'${steps.size.output}','n':0.10}");
    s = step_at(&m, 1);
    is(s.name, "check");
    is(s.pipeline, "checks");
    is(s.when, "params.limit > 1");
    assert_int_equal(s.capability.len, 0);
    assert_int_equal(s.on_failure, PO__ON_FAILURE_FAIL);
    drop(&m);
}

static void a_step_asks_for_its_place(void **state)
{
    (void)state;
    struct made m;
    struct po__extra e;
    struct po__placement p;
    accepted(&m, whole);
    struct po__graph_step s = step_at(&m, 0);
    is(s.name, "size");
    is(s.capability, "measure:file");
    is(s.map, "'${params.files}'");
    assert_int_equal(s.map_parallel, 4);
    is(s.config, "{'k':[1.50,null]}");
    assert_int_equal(s.attempts_max, 2);
    assert_int_equal(s.timeout_ms, 60000);
    assert_int_equal(s.on_failure, PO__ON_FAILURE_CONTINUE);
    assert_true(s.cache);
    assert_int_equal(s.cache_ms, 1000);
    assert_int_equal(po__extra_decode(s.extra, &e), 0);
    assert_int_equal(e.priority, 7);
    assert_int_equal(e.retry_ms, 500);
    assert_int_equal(e.retry_max_ms, 900);
    assert_int_equal(po__placement_decode(e.placement, &p), 0);
    is(p.range, "^1.2");
    is(p.zone, "aws");
    assert_int_equal(p.gpu, PO__GPU_FORBIDDEN);
    assert_int_equal(p.prefer, PO__PREFER_SPREAD);
    assert_int_equal(p.labels_count, 4); /* sorted by key */
    assert_int_equal(p.labels[0].op, PO__LABEL_UNEQUAL);
    is(p.labels[0].value, "arm");
    assert_int_equal(p.labels[1].op, PO__LABEL_EQUAL);
    assert_int_equal(p.labels[2].op, PO__LABEL_PRESENT);
    assert_int_equal(p.labels[3].op, PO__LABEL_ABSENT);
    assert_int_equal(p.resources_count, 1);
    assert_int_equal(p.resources[0].amount, 1024);
    drop(&m);
}

static void params_keep_their_types_and_defaults(void **state)
{
    (void)state;
    struct made m;
    struct po__mpr r;
    struct po__param p;
    accepted(&m, whole);
    assert_int_equal(m.cmd.graph.params_count, 2);
    po__mpr_init(&r, m.cmd.graph.params.data, m.cmd.graph.params.len);
    po__mpr_array(&r, 2);
    assert_int_equal(po__param_decode(&r, &p), 0);
    is(p.name, "files");
    assert_int_equal(p.type, PO__PARAM_ARRAY);
    assert_true(p.required);
    assert_int_equal(po__param_decode(&r, &p), 0);
    is(p.name, "limit");
    assert_int_equal(p.type, PO__PARAM_NUMBER);
    assert_false(p.required);
    is(p.value, "1.10"); /* as it was written */
    drop(&m);
}

#define STEP(name, more) "{'name': '" name "', 'capability': 'v:n'" more "}"
#define STEPS(...)       "{'name': 'p', 'steps': [\n" __VA_ARGS__ "]}"

static void expect_order(const char *json, const char *order)
{
    struct made m;
    char got[256] = "";
    accepted(&m, json);
    assert_int_equal(m.cmd.type, PO__CMD_PIPELINE_DEFINE_GRAPH);
    for (uint32_t i = 0; i < m.cmd.graph.steps_count; i++) {
        struct po__graph_step s = step_at(&m, i);
        uint32_t places[PO_STEPS_MAX];
        size_t len = strlen(got);
        assert_int_equal(po__depends_decode(&s, places), 0);
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%.*s(", i ? " " : "",
                                (int)s.name.len, s.name.data);
        for (uint32_t k = 0; k < s.depends_count; k++)
            len += (size_t)snprintf(got + len, sizeof got - len, "%s%u", k ? "," : "", places[k]);
        snprintf(got + len, sizeof got - len, ")");
    }
    assert_string_equal(got, order);
    drop(&m);
}

static void steps_stand_in_order_of_the_document_as_far_as_they_may(void **state)
{
    (void)state;
    expect_order(STEPS(STEP("a", "") ",\n" STEP("b", "") ",\n" STEP("c", "")), "a() b() c()");
    expect_order(STEPS(STEP("c", ", 'depends_on': ['a', 'b']") ",\n" STEP("b", "") ",\n" STEP(
                     "d", ", 'depends_on': ['c']") ",\n" STEP("a", "")),
                 "b() a() c(0,1) d(2)");
    /* next_node and depends_on say the same; both ends may say it */
    expect_order(STEPS(STEP("a", ", 'next_node': 'c'") ",\n" STEP(
                     "b", ", 'next_node': 'c'") ",\n" STEP("c", ", 'depends_on': ['b']")),
                 "a() b() c(0,1)");
    expect_order("{'name': 'p', 'start_node': 'a', 'steps': [" STEP(
                     "b", ", 'depends_on': ['a']") "," STEP("a", "") "]}",
                 "a() b(0)");
}

static void chains_stay_what_they_were(void **state)
{
    (void)state;
    struct made m;
    make(&m, "{'name': 'p', 'start_node': 'a', 'steps': [" STEP("a", ", 'next_node': 'b'") "," STEP(
                 "b", "") "]}");
    assert_int_equal(m.rv, 0);
    assert_int_equal(m.cmd.type, PO__CMD_PIPELINE_DEFINE);
    drop(&m);
    const char *const graphs[] = {", 'when': 'true'", ", 'depends_on': []", ", 'priority': 0",
                                  ", 'join': 'all_done'", ", 'input': 1"};
    for (unsigned i = 0; i < sizeof graphs / sizeof *graphs; i++) {
        char json[256];
        snprintf(
            json, sizeof json,
            "{'name': 'p', 'start_node': 'a', 'steps': [{'name': 'a', 'capability': 'v:n'%s}]}",
            graphs[i]);
        make(&m, json);
        assert_int_equal(m.rv, 0);
        assert_int_equal(m.cmd.type, PO__CMD_PIPELINE_DEFINE_GRAPH);
        drop(&m);
    }
    make(&m, "{'name': 'p', 'start_node': 'a', 'steps': [{'name': 'a', 'capability': 'v:n@1'}]}");
    assert_int_equal(m.cmd.type, PO__CMD_PIPELINE_DEFINE_GRAPH);
    drop(&m);
}

/* ---- refused ---- */

static void fields(void **state)
{
    (void)state;
    refused(
        "{'name': 'p q', 'version': 'a b', 'parms': {}, 'steps': [\n"
        "  {'name': 'a', 'capability': 'v:n', 'depend_on': [], 'retry': {'delay_ms': 9,\n"
        "   'delay_max_ms': 8}, 'priority': 10},\n"
        "  {'name': 'b', 'capability': 'v:n', 'pipeline': 'x', 'join': 'all', 'on_failure': "
        "'go'},\n"
        "  {'name': 'c', 'map_parallel': 3, 'cache': 1, 'depends_on': [7, '']},\n"
        "  {'name': 'd', 'pipeline': 'p q', 'config': 1, 'cache': true, 'input': 1},\n"
        "  {'name': 'e', 'capability': 'v:n', 'cache': true, 'map': 7}, 3]}",
        "1:35: /parms: unknown key \"parms\"; did you mean \"params\"?\n"
        "1:2: /name: \"p q\" is not a name; use letters, digits, '.', '_' and '-'\n"
        "1:17: /version: \"a b\" is not a name; use letters, digits, '.', '_' and '-'\n"
        "2:38: /steps/0/depend_on: unknown key \"depend_on\"; did you mean \"depends_on\"?\n"
        "3:24: /steps/0/priority: is 10; must be 0 to 9\n"
        "2:55: /steps/0/retry: delay_ms 9 is above delay_max_ms 8\n"
        "4:55: /steps/1/join: \"all\" is not known; write \"all_succeeded\", \"all_done\" or "
        "\"any_succeeded\"\n"
        "4:70: /steps/1/on_failure: \"go\" is not known; write \"fail\" or \"continue\"\n"
        "4:3: /steps/1: has both \"capability\" and \"pipeline\"; leave one out\n"
        "5:3: /steps/2: has nothing to do; give it \"capability\", or \"pipeline\" to run another "
        "pipeline\n"
        "5:63: /steps/2/depends_on/0: must be the name of a step\n"
        "5:66: /steps/2/depends_on/1: must be the name of a step\n"
        "5:17: /steps/2/map_parallel: says how many elements of \"map\" run at a time, but there "
        "is no \"map\"\n"
        "5:36: /steps/2/cache: must be true, false, or {\"ttl_ms\": MILLISECONDS}\n"
        "5:36: /steps/2/cache: has no effect without \"input\": what a step gets by default names "
        "its run, so no two are equal; give it an input\n"
        "6:36: /steps/3/config: \"config\" belongs to steps with a capability; this one runs a "
        "pipeline, whose own steps have it\n"
        "6:49: /steps/3/cache: \"cache\" belongs to steps with a capability; this one runs a "
        "pipeline, whose own steps have it\n"
        "6:17: /steps/3/pipeline: \"p q\" is not a name; use letters, digits, '.', '_' and '-'\n"
        "6:17: /steps/3/pipeline: pipeline \"p q\" would run itself, without end; name another "
        "one\n"
        "7:53: /steps/4/map: must be an array, or a reference to one such as \"${params.files}\"\n"
        "7:38: /steps/4/cache: has no effect without \"input\": what a step gets by default names "
        "its run, so no two are equal; give it an input\n"
        "7:64: /steps/5: must be an object, not an integer");
}

static void capabilities_and_aliases(void **state)
{
    (void)state;
    refused(
        "{'name': 'p', 'service_registry': {'sizer': 'measure', 'a b': 'v:n', 'old': 'v:n@^x.y',\n"
        "  'n': 7},\n"
        " 'steps': [\n"
        "  {'name': 'a', 'capability': 'sizr'},\n"
        "  {'name': 'b', 'capability': 'Measure:file'},\n"
        "  {'name': 'c', 'capability': 'measure:file@'},\n"
        "  {'name': 'd', 'capability': 'measure:file@^one'},\n"
        "  {'name': 'e', 'capability': 'quite-another'},\n"
        "  {'name': 'f', 'capability': ''}]}",
        "1:36: /service_registry/sizer: \"measure\" is not a capability; write \"verb:name\" or "
        "\"verb:name@^1.2\", each part of a-z, 0-9, '.', '_' and '-'\n"
        "1:56: /service_registry/a b: \"a b\" is not an alias; use letters, digits, '.', '_' and "
        "'-'\n"
        "1:70: /service_registry/old: \"^x.y\" is not a range of versions; write such as \"^1.2\", "
        "\"~1.2.3\" or \">=1.2 <2\"\n"
        "2:3: /service_registry/n: must be a string, the capability that the alias stands for: "
        "\"verb:name\" or \"verb:name@^1.2\"\n"
        "4:17: /steps/0/capability: no alias \"sizr\" stands in service_registry; did you mean "
        "\"sizer\"?\n"
        "5:17: /steps/1/capability: \"Measure:file\" is not a capability; write \"verb:name\" or "
        "\"verb:name@^1.2\", each part of a-z, 0-9, '.', '_' and '-'\n"
        "6:17: /steps/2/capability: \"\" is not a range of versions; write such as \"^1.2\", "
        "\"~1.2.3\" or \">=1.2 <2\"\n"
        "7:17: /steps/3/capability: \"^one\" is not a range of versions; write such as \"^1.2\", "
        "\"~1.2.3\" or \">=1.2 <2\"\n"
        "8:17: /steps/4/capability: \"quite-another\" is neither a capability nor an alias; write "
        "\"verb:name\", or add \"quite-another\" to service_registry\n"
        "9:17: /steps/5/capability: is empty; give it a value, or leave it out");
}

static void places(void **state)
{
    (void)state;
    refused(
        STEPS("{'name': 'a', 'capability': 'v:n', 'placement': {'zone': 'a b', 'gpu': 'requird',\n"
              "  'labels': {'': 'x', 'k': 7, 'm': {'no': 'x'}},\n"
              "  'resources': {'cpu_milli': 0, 'a b': 1, 'gpus': 1.5},\n"
              "  'prefer': 'cheapest', 'label': {}}}"),
        "5:25: /steps/0/placement/label: unknown key \"label\"; did you mean \"labels\"?\n"
        "2:50: /steps/0/placement/zone: \"a b\" is not a name; use letters, digits, '.', '_' and "
        "'-'\n"
        "2:65: /steps/0/placement/gpu: \"requird\" is not known; did you mean \"required\"?\n"
        "5:3: /steps/0/placement/prefer: \"cheapest\" is not known; write \"balance\", \"spread\", "
        "\"binpack\" or \"local\"\n"
        "3:14: /steps/0/placement/labels/: a label has a key of 1 to 128 bytes\n"
        "3:23: /steps/0/placement/labels/k: must be the value that the label has, {\"not\": "
        "VALUE}, or true or false for a label that is there or is not, whatever its value\n"
        "3:31: /steps/0/placement/labels/m: must be the value that the label has, {\"not\": "
        "VALUE}, or true or false for a label that is there or is not, whatever its value\n"
        "4:17: /steps/0/placement/resources/cpu_milli: must be a whole number, 1 to "
        "4611686018427387904\n"
        "4:33: /steps/0/placement/resources/a b: \"a b\" is not a resource; write cpu_milli, "
        "memory_bytes, gpus, or a name of your own\n"
        "4:43: /steps/0/placement/resources/gpus: must be a whole number, 1 to "
        "4611686018427387904");
}

static void params(void **state)
{
    (void)state;
    refused("{'name': 'p', 'params': {\n"
            "  'a': {'type': 'strng'},\n"
            "  'b': {'type': 'integer', 'default': 1.0},\n"
            "  'c': {'type': 'string', 'default': 7},\n"
            "  'd': {'type': 'array', 'default': [], 'required': true},\n"
            "  'e f': {},\n"
            "  'g': 7, 'h': {'typ': 'any'}},\n"
            " 'steps': [" STEP("a", "") "]}",
            "2:9: /params/a/type: \"strng\" is no type; did you mean \"string\"?\n"
            "3:28: /params/b/default: is a number with a fraction or exponent, but the param's "
            "type is integer\n"
            "4:27: /params/c/default: is a number, but the param's type is string\n"
            "5:26: /params/d/default: a required param is always given, so its default is never "
            "used; leave out one of the two\n"
            "6:3: /params/e f: \"e f\" is not a name; use letters, digits, '.', '_' and '-'\n"
            "7:3: /params/g: must be an object, not an integer\n"
            "7:17: /params/h/typ: unknown key \"typ\"; did you mean \"type\"?");
}

static void names(void **state)
{
    (void)state;
    refused(STEPS(STEP("a", "") ",\n" STEP("a", "") ",\n" STEP(
                "b", ", 'depends_on': ['aa', 'zzz']") ",\n" STEP("c", ", 'next_node': 'dd'")),
            "3:2: /steps/1/name: step \"a\" is already defined at /steps/0; names must be unique\n"
            "4:51: /steps/2/depends_on/0: no step is named \"aa\"; add it or correct the name\n"
            "4:57: /steps/2/depends_on/1: no step is named \"zzz\"; add it or correct the name\n"
            "5:36: /steps/3/next_node: no step is named \"dd\"; add it or correct the name");
    refused(STEPS(STEP("a", "") ",\n" STEP("b", ", 'depends_on': ['a', 'a']")),
            "3:56: /steps/1/depends_on/1: step \"a\" is named twice; once is enough");
}

static void shapes(void **state)
{
    (void)state;
    refused("{'name': 'p', 'start_node': 'a', 'steps': [\n" STEP("a", ", 'priority': 1") ",\n" STEP(
                "b", ", 'depends_on': ['ghost']") "]}", /* whether b runs is not known */
            "3:51: /steps/1/depends_on/0: no step is named \"ghost\"; add it or correct the name");
    refused(
        STEPS(STEP("a", ", 'depends_on': ['a']") ",\n" STEP(
            "b", ", 'depends_on': ['ghost']") ",\n" STEP("b", "")),
        "4:2: /steps/2/name: step \"b\" is already defined at /steps/1; names must be unique\n"
        "3:51: /steps/1/depends_on/0: no step is named \"ghost\"; add it or correct the name\n"
        "2:51: /steps/0/depends_on/0: the steps form a cycle: a -> a; a pipeline must come to an "
        "end");
    refused(
        STEPS(
            STEP("a", ", 'depends_on': ['c']") ",\n" STEP("b", ", 'depends_on': ['a']") ",\n" STEP(
                "c", ", 'depends_on': ['b']") ",\n" STEP("d", ", 'depends_on': ['c']")),
        "2:51: /steps/0/depends_on/0: the steps form a cycle: a -> b -> c -> a; a pipeline must "
        "come to an end");
    refused(STEPS(STEP("a", ", 'depends_on': ['a']") ",\n" STEP(
                "x", ", 'next_node': 'y'") ",\n" STEP("y", ", 'next_node': 'x'")),
            "2:51: /steps/0/depends_on/0: the steps form a cycle: a -> a; a pipeline must come to "
            "an end\n"
            "4:36: /steps/2/next_node: the steps form a cycle: x -> y -> x; a pipeline must come "
            "to an end");
    refused(
        STEPS(STEP("a", ", 'depends_on': ['b']") ",\n" STEP(
            "b",
            ", 'depends_on': ['a'], 'when': "
            "'steps.a.output > 1'") ",\n" STEP("c",
                                               ", 'when': 'steps.b.output > 1'")), /* what else is
                                                                                      wrong is told,
                                                                                      too */
        "2:51: /steps/0/depends_on/0: the steps form a cycle: a -> b -> a; a pipeline must "
        "come to an end\n"
        "4:45: /steps/2/when: steps.b.output is not there yet: add \"b\" to depends_on");
    refused("{'name': 'p', 'start_node': 'b', 'steps': [\n" STEP("a", ", 'priority': 1") ",\n" STEP(
                "b", ", 'depends_on': ['a']") "]}",
            "1:15: /start_node: step \"b\" depends on other steps, so nothing could start; name a "
            "step that depends on none, or leave start_node out");
    refused("{'name': 'p', 'start_node': 'a', 'steps': [\n" STEP("a", ", 'priority': 1") ",\n" STEP(
                "b", "") ",\n" STEP("c", ", 'depends_on': ['b']") "]}",
            "3:1: /steps/1: step \"b\" can never run: no path leads to it from start_node \"a\"; "
            "give it depends_on, remove it, or leave start_node out");
}

static void references(void **state)
{
    (void)state;
    refused(
        "{'name': 'p', 'params': {'files': {}},\n"
        " 'steps': [\n"
        "  {'name': 'a', 'capability': 'v:n', 'input': {'x': ['${params.fils}', '${item}']}},\n"
        "  {'name': 'b', 'capability': 'v:n', 'input': {'y': '${steps.a.output.n}, "
        "${steps.b.output}'}},\n"
        "  {'name': 'c', 'capability': 'v:n', 'depends_on': ['a'], 'input': "
        "'${steps.aa.output}'},\n"
        "  {'name': 'd', 'capability': 'v:n', 'depends_on': ['c'], 'map': '${steps.a.outptu}',\n"
        "   'input': ['${item.x}', '${index}', '${run.idd}', '${stps.a.output}', '${steps.a}']},\n"
        "  {'name': 'e', 'capability': 'v:n', 'map': 'all of ${params.files}'},\n"
        "  {'name': 'f', 'capability': 'v:n', 'map': ['${item}', '${params.files}']}],\n"
        " 'output': ['${steps.zzz.output}', '${steps.d.output}', '${index}']}",
        "3:57: /steps/0/input/x/0: no param is named \"fils\"; did you mean \"files\"?\n"
        "3:75: /steps/0/input/x/1: \"item\" is there for each element of a map: only in the "
        "\"input\" of a step with \"map\"\n"
        "4:56: /steps/1/input/y: steps.a.output is not there yet: add \"a\" to depends_on\n"
        "4:77: /steps/1/input/y: a step cannot use its own output\n"
        "5:71: /steps/2/input: no step is named \"aa\"; add it or correct the name\n"
        "6:69: /steps/3/map: \"steps.a.outptu\" is not a value; did you mean \"output\"?\n"
        "7:42: /steps/3/input/2: \"run.idd\" is not a value; did you mean \"id\"?\n"
        "7:56: /steps/3/input/3: nothing is named \"stps\"; did you mean \"steps\"?\n"
        "7:76: /steps/3/input/4: \"steps.a\" is not a value; a step has output, state and error\n"
        "8:45: /steps/4/map: is a text; a map needs an array, or one reference to an array and "
        "nothing else, such as \"${params.files}\"\n"
        "9:49: /steps/5/map/0: \"item\" is there for each element of a map: only in the \"input\" "
        "of a step with \"map\"\n"
        "10:16: /output/0: no step is named \"zzz\"; add it or correct the name\n"
        "10:60: /output/2: \"index\" is there for each element of a map: only in the \"input\" of "
        "a step with \"map\"");
}

static void syntax(void **state)
{
    (void)state;
    refused("{'name': 'p',\n"
            " 'steps': [\n"
            "  {'name': 'a', 'capability': 'v:n', 'input': {'x': 'a ${ b', 'y': '${params..x}'}},\n"
            "  {'name': 'b', 'capability': 'v:n', 'when': 'run.id == '},\n"
            "  {'name': 'c', 'capability': 'v:n', 'when': 'run.key == \\'x\\' &&& true'},\n"
            "  {'name': 'd', 'capability': 'v:n', 'when': 'steps.a.state == \\'failed\\''}]}",
            "3:60: /steps/0/input/x: the reference has no closing }; write $${ for the text ${\n"
            "3:78: /steps/0/input/y: after the dot, a name is missing; write [\"...\"] for a key "
            "of other characters than letters, digits, _ and -\n"
            "4:57: /steps/1/when: at the end of the condition: the condition ends where a value is "
            "due\n"
            "5:38: /steps/2/when: at \"& true\", character 18 of the condition: a path, a string, "
            "a number, true, false, null, exists(path), len(path) or a parenthesis is due\n"
            "6:38: /steps/3/when: steps.a.state is not there yet: add \"a\" to depends_on");
}

static void nothing(void **state)
{
    (void)state;
    refused("{'name': 'p', 'output': null, 'steps': [{'name': 'a', 'capability': 'v:n', 'input': "
            "null}]}",
            "1:15: /output: is null; leave it out for the default, or give it a value\n"
            "1:76: /steps/0/input: is null; leave it out for the default, or give it a value");
}

static void itself(void **state)
{
    (void)state;
    refused(
        "{'name': 'p', 'steps': [{'name': 'a', 'pipeline': 'p'}]}",
        "1:39: /steps/0/pipeline: pipeline \"p\" would run itself, without end; name another one");
    refused("{'name': 'p', 'steps': []}", "1:15: /steps: is empty; it needs at least one entry");
}

static bool says(const struct made *m, const char *text)
{
    return memmem(m->d.problems.data, m->d.problems.len, text, strlen(text)) != NULL;
}

static void limits(void **state)
{
    (void)state;
    struct po__buf b = {0};
    struct made m;
    po__buf_printf(&b, "{'name': 'p', 'steps': [");
    for (int i = 0; i <= PO_STEPS_MAX; i++)
        po__buf_printf(&b, "%s{'name': 's%d', 'capability': 'v:n'}", i ? "," : "", i);
    po__buf_append(&b, "]}", 3);
    make(&m, (const char *)b.data);
    assert_true(says(&m, "has 1025 steps; at most 1024"));
    drop(&m);
    po__buf_reset(&b); /* each step depends on all before it */
    po__buf_printf(&b, "{'name': 'p', 'steps': [");
    for (int i = 0; i < 200; i++) {
        po__buf_printf(&b, "%s{'name': '%d', 'capability': 'v:n', 'depends_on': [", i ? "," : "",
                       i);
        for (int k = 0; k < i; k++)
            po__buf_printf(&b, "%s'%d'", k ? "," : "", k);
        po__buf_printf(&b, "]}");
    }
    po__buf_append(&b, "]}", 3);
    assert_int_equal(b.err, 0);
    make(&m, (const char *)b.data);
    assert_int_equal(m.rv, PO_EINVAL);
    assert_true(says(&m, "19900 times; at most 16384"));
    drop(&m);
    po__buf_fini(&b);
}

static void allocation_failures(void **state)
{
    (void)state;
    static const char wrong[] =
        STEPS(STEP("a", ", 'depends_on': ['b'], 'input': ['${x}', {'k': "
                        "'${steps.b.output}'}]") ",\n" STEP("b", ", 'depends_on': ['a', 'c']"));
    const char *const documents[] = {whole, wrong};
    for (unsigned i = 0; i < 2; i++) {
        bool failed = true;
        char *text = quoted(documents[i]);
        for (uint64_t n = 1; failed; n++) {
            struct po__doc d = {.file = "p.json"};
            struct po__cmd cmd;
            json_t *keep;
            struct po__buf buf = {0};
            po__alloc_fail_at(n);
            int rv = po__spec_pipeline(&d, text, strlen(text), &cmd, &keep, &buf);
            failed = po__alloc_count() >= n;
            po__alloc_fail_at(0);
            if (!failed)
                assert_int_equal(rv, i ? PO_EINVAL : 0);
            else if (rv != PO_ENOMEM) /* only the search for a near name may be given up */
                assert_int_equal(rv, PO_EINVAL);
            json_decref(keep);
            po__buf_fini(&buf);
            po__buf_fini(&d.problems);
        }
        po__free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_becomes_a_command),
        cmocka_unit_test(a_step_asks_for_its_place),
        cmocka_unit_test(params_keep_their_types_and_defaults),
        cmocka_unit_test(steps_stand_in_order_of_the_document_as_far_as_they_may),
        cmocka_unit_test(chains_stay_what_they_were),
        cmocka_unit_test(fields),
        cmocka_unit_test(capabilities_and_aliases),
        cmocka_unit_test(places),
        cmocka_unit_test(params),
        cmocka_unit_test(names),
        cmocka_unit_test(shapes),
        cmocka_unit_test(references),
        cmocka_unit_test(syntax),
        cmocka_unit_test(nothing),
        cmocka_unit_test(itself),
        cmocka_unit_test(limits),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
