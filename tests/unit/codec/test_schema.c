/* Schemas: which are of the subset, what they allow, and what is said about what they do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "codec/schema.h"

/* JSON with ' for ", which no case here needs otherwise, in a block of exactly its size. */
static struct po__slice json(const char *text)
{
    static char *blocks[4];
    static unsigned next;
    char **block = &blocks[next++ % 4];
    size_t len = strlen(text);
    po__free(*block);
    *block = po__memdup(text, len);
    assert_non_null(*block);
    for (size_t i = 0; i < len; i++)
        if ((*block)[i] == '\'')
            (*block)[i] = '"';
    if (!po__json_ok(po__slice(*block, len)))
        fail_msg("not JSON: %s", text);
    return po__slice(*block, len);
}

static const struct {
    const char *schema, *value;
    const char *rule;    /* that is broken; NULL: none */
    const char *pointer; /* to where */
} cases[] = {
    /* booleans and empty schemas */
    {"true", "1", NULL, NULL},
    {"false", "1", "false", ""},
    {" {} ", " [ 1 ] ", NULL, NULL},
    {"{'title': 't', 'description': 'd', 'default': 1, 'examples': [1], '$comment': 'c',"
     " 'format': 'email', 'deprecated': true, 'readOnly': true, 'writeOnly': false,"
     " 'contentMediaType': 'a/b', 'contentEncoding': 'base64', '$id': 'https://example.com/s',"
     " '$schema': 'https://json-schema.org/draft/2020-12/schema'}",
     "'x'", NULL, NULL},

    /* type */
    {"{'type': 'integer'}", "1", NULL, NULL},
    {"{'type': 'integer'}", "1.0", NULL, NULL},
    {"{'type': 'integer'}", "1e400", NULL, NULL},
    {"{'type': 'integer'}", "1.1", "type", ""},
    {"{'type': 'integer'}", "'1'", "type", ""},
    {"{'type': 'number'}", "1", NULL, NULL},
    {"{'type': 'number'}", "1.5", NULL, NULL},
    {"{'type': 'number'}", "true", "type", ""},
    {"{'type': 'string'}", "''", NULL, NULL},
    {"{'type': 'string'}", "null", "type", ""},
    {"{'type': 'object'}", "{}", NULL, NULL},
    {"{'type': 'object'}", "[]", "type", ""},
    {"{'type': 'array'}", "[]", NULL, NULL},
    {"{'type': 'array'}", "{}", "type", ""},
    {"{'type': 'boolean'}", "false", NULL, NULL},
    {"{'type': 'boolean'}", "0", "type", ""},
    {"{'type': 'null'}", "null", NULL, NULL},
    {"{'type': 'null'}", "''", "type", ""},
    {"{'type': ['integer', 'null']}", "null", NULL, NULL},
    {"{'type': ['integer', 'null']}", "3", NULL, NULL},
    {"{'type': ['integer', 'null']}", "3.5", "type", ""},
    {"{'\\u0074ype': 'null'}", "1", "type", ""}, /* an escaped keyword is that keyword */

    /* enum, const: equal by value */
    {"{'enum': [1, 'two', [3], {'four': 4}, null]}", "{'four': 4.0}", NULL, NULL},
    {"{'enum': [1, 'two', [3], {'four': 4}, null]}", "null", NULL, NULL},
    {"{'enum': [1, 'two', [3], {'four': 4}, null]}", "[3, 3]", "enum", ""},
    {"{'enum': [false]}", "0", "enum", ""},
    {"{'enum': [[false]]}", "[0]", "enum", ""},
    {"{'enum': [1]}", "true", "enum", ""},
    {"{'enum': [0]}", "-0.0", NULL, NULL},
    {"{'const': {'a': 1, 'b': [2, 'x']}}", "{'b': [2e0, '\\u0078'], 'a': 1.0}", NULL, NULL},
    {"{'const': {'a': 1}}", "{'a': 1, 'b': 1}", "const", ""},
    {"{'const': 9007199254740992}", "9007199254740993", "const", ""},
    {"{'const': null}", "0", "const", ""},

    /* numbers */
    {"{'minimum': 1.1}", "1.1", NULL, NULL},
    {"{'minimum': 1.1}", "0.6", "minimum", ""},
    {"{'minimum': -2}", "-2.0001", "minimum", ""},
    {"{'minimum': 1}", "'x'", NULL, NULL},
    {"{'maximum': 3.0}", "3.00", NULL, NULL},
    {"{'maximum': 3.0}", "3.5", "maximum", ""},
    {"{'maximum': 18446744073709551615}", "18446744073709551616", "maximum", ""},
    {"{'exclusiveMinimum': 1.1}", "1.2", NULL, NULL},
    {"{'exclusiveMinimum': 1.1}", "1.10", "exclusiveMinimum", ""},
    {"{'exclusiveMaximum': 3}", "2.999999999999999999999999", NULL, NULL},
    {"{'exclusiveMaximum': 3}", "3", "exclusiveMaximum", ""},
    {"{'multipleOf': 2}", "10", NULL, NULL},
    {"{'multipleOf': 2}", "7", "multipleOf", ""},
    {"{'multipleOf': 1.5}", "4.5", NULL, NULL},
    {"{'multipleOf': 0.0001}", "0.0075", NULL, NULL},
    {"{'multipleOf': 0.0001}", "0.00751", "multipleOf", ""},
    {"{'multipleOf': 0.01}", "19.99", NULL, NULL},
    {"{'multipleOf': 0.5}", "1e308", NULL, NULL},
    {"{'multipleOf': 0.123456789}", "1e308", "multipleOf", ""},

    /* strings: characters, not bytes, not units */
    {"{'minLength': 2}", "'fo'", NULL, NULL},
    {"{'minLength': 2}", "'f'", "minLength", ""},
    {"{'minLength': 2}", "'\\ud83d\\udca9'", "minLength", ""},
    {"{'maxLength': 2}", "'\\ud83d\\udca9\xf0\x9f\x92\xa9'", NULL, NULL},
    {"{'maxLength': 2}", "'foo'", "maxLength", ""},
    {"{'maxLength': 2.0}", "'foo'", "maxLength", ""},
    {"{'maxLength': 2}", "100", NULL, NULL},

    /* objects */
    {"{'properties': {'foo': {'type': 'integer'}, 'bar': {'type': 'string'}}}",
     "{'foo': 1, 'bar': 'baz', 'quux': []}", NULL, NULL},
    {"{'properties': {'foo': {'type': 'integer'}, 'bar': {'type': 'string'}}}",
     "{'bar': {}, 'foo': 1}", "type", "/bar"},
    {"{'properties': {'foo': {}}}", "[]", NULL, NULL},
    {"{'properties': {'foo': false}}", "{'foo': 1}", "false", "/foo"},
    {"{'properties': {'a/b~c\\n': {'type': 'null'}}}", "{'a/b~c\\u000a': 1}", "type", "/a~1b~0c\n"},
    {"{'properties': {'': {'properties': {'\\u00e9': {'type': 'null'}}}}}", "{'': {'\xc3\xa9': 1}}",
     "type", "//\xc3\xa9"},
    {"{'properties': {'$ref': {'type': 'string'}}}", "{'$ref': 1}", "type", "/$ref"},
    {"{'properties': {'__proto__': {'type': 'number'}}}", "{'__proto__': 'x'}", "type",
     "/__proto__"},
    {"{'properties': {'foo': {}, 'bar': {}}, 'additionalProperties': false}", "{'foo': 1}", NULL,
     NULL},
    {"{'properties': {'foo': {}, 'bar': {}}, 'additionalProperties': false}", "{'fooo': 1}",
     "additionalProperties", "/fooo"},
    {"{'additionalProperties': false}", "{}", NULL, NULL},
    {"{'additionalProperties': false}", "'x'", NULL, NULL},
    {"{'properties': {'a': {}}, 'additionalProperties': {'type': 'boolean'}}",
     "{'a': 1, 'b': true}", NULL, NULL},
    {"{'additionalProperties': {'type': 'boolean'}, 'properties': {'a': {}}}", "{'a': 1, 'b': 12}",
     "type", "/b"},
    {"{'allOf': [{'properties': {'foo': {}}}], 'additionalProperties': {'type': 'boolean'}}",
     "{'foo': 1}", "type", "/foo"}, /* does not look into allOf */
    {"{'required': ['foo']}", "{'foo': null}", NULL, NULL},
    {"{'required': ['foo', 'bar']}", "{'foo': 1}", "required", ""},
    {"{'required': ['f\\u006fo']}", "{'\\u0066oo': 1}", NULL, NULL},
    {"{'required': ['foo']}", "[]", NULL, NULL},
    {"{'required': []}", "{}", NULL, NULL},
    {"{'required': ['b', 'a', 'c', 'a\\\\']}", "{'a': 1, 'a\\\\': 0, 'b': 1, 'c': 1}", NULL, NULL},
    {"{'propertyNames': {'maxLength': 3}}", "{'f': {}, 'foo': {}}", NULL, NULL},
    {"{'propertyNames': {'maxLength': 3}}", "{'foo': {}, 'foobar': {}}", "maxLength", "/foobar"},
    {"{'propertyNames': {'enum': ['a']}}", "[1]", NULL, NULL},
    {"{'propertyNames': false}", "{}", NULL, NULL},
    {"{'minProperties': 1}", "{}", "minProperties", ""},
    {"{'minProperties': 1}", "[]", NULL, NULL},
    {"{'maxProperties': 2}", "{'a': 1, 'b': {'c': 1, 'd': 1}}", NULL, NULL},
    {"{'maxProperties': 0}", "{'a': 1}", "maxProperties", ""},
    {"{'dependentRequired': {'bar': ['foo']}}", "{'foo': 1}", NULL, NULL},
    {"{'dependentRequired': {'bar': ['foo']}}", "{'foo': 1, 'bar': 2}", NULL, NULL},
    {"{'dependentRequired': {'bar': ['foo']}}", "{'bar': 2}", "dependentRequired", ""},
    {"{'dependentRequired': {'bar': ['foo']}}", "['bar']", NULL, NULL},
    {"{'dependentRequired': {'quux': ['foo', 'bar'], 'x': []}}", "{'x': 1, 'bar': 1, 'quux': 2}",
     "dependentRequired", ""},

    /* arrays */
    {"{'items': {'type': 'integer'}}", "[1, 2, 3]", NULL, NULL},
    {"{'items': {'type': 'integer'}}", "[1, 'x']", "type", "/1"},
    {"{'items': {'type': 'integer'}}", "{'length': 'x'}", NULL, NULL},
    {"{'items': false}", "[]", NULL, NULL},
    {"{'items': false}", "[1]", "items", "/0"},
    {"{'items': {'items': {'items': {'type': 'number'}}}}", "[[[1], [2, 'x']]]", "type", "/0/1/1"},
    {"{'prefixItems': [{'type': 'integer'}, {'type': 'string'}]}", "[1, 'foo', true]", NULL, NULL},
    {"{'prefixItems': [{'type': 'integer'}, {'type': 'string'}]}", "[1]", NULL, NULL},
    {"{'prefixItems': [{'type': 'integer'}, {'type': 'string'}]}", "['foo', 1]", "type", "/0"},
    {"{'items': {'type': 'integer'}, 'prefixItems': [{'type': 'string'}]}", "['x', 2, 3]", NULL,
     NULL},
    {"{'prefixItems': [{'type': 'string'}], 'items': {'type': 'integer'}}", "['x', 'y']", "type",
     "/1"},
    {"{'prefixItems': [{}, {}], 'items': false}", "[1, 2]", NULL, NULL},
    {"{'prefixItems': [{}, {}], 'items': false}", "[1, 2, 3]", "items", "/2"},
    {"{'minItems': 1}", "[1]", NULL, NULL},
    {"{'minItems': 1}", "[]", "minItems", ""},
    {"{'maxItems': 2}", "[[1, 2, 3], 2]", NULL, NULL},
    {"{'maxItems': 2}", "[1, 2, 3]", "maxItems", ""},
    {"{'uniqueItems': true}", "[1, true, '1', [1], [true], {}, null, false, 0]", NULL, NULL},
    {"{'uniqueItems': true}", "[1, 2, 1.0]", "uniqueItems", ""},
    {"{'uniqueItems': true}", "[{'a': 1, 'b': 2}, {'b': 2, 'a': 1}]", "uniqueItems", ""},
    {"{'uniqueItems': true}", "[[['foo']], [['foo']]]", "uniqueItems", ""},
    {"{'uniqueItems': true}", "['a', '\\u0061']", "uniqueItems", ""},
    {"{'uniqueItems': true}", "[{'a': false}, {'a': 0}, [false], [0]]", NULL, NULL},
    {"{'uniqueItems': false}", "[1, 1]", NULL, NULL},
    {"{'contains': {'minimum': 5}}", "[3, 4, 5]", NULL, NULL},
    {"{'contains': {'minimum': 5}}", "[2, 3, 4]", "contains", ""},
    {"{'contains': {'minimum': 5}}", "[]", "contains", ""},
    {"{'contains': {'minimum': 5}}", "{}", NULL, NULL},
    {"{'contains': true, 'minContains': 2}", "[1]", "minContains", ""},
    {"{'contains': {'const': 1}, 'minContains': 2}", "[1, 2, 1]", NULL, NULL},
    {"{'contains': {'const': 1}, 'minContains': 0}", "[]", NULL, NULL},
    {"{'maxContains': 1, 'contains': {'const': 1}}", "[1, 1]", "maxContains", ""},
    {"{'contains': {'const': 1}, 'maxContains': 1}", "[1, 2]", NULL, NULL},
    {"{'contains': {'const': 1}, 'minContains': 0, 'maxContains': 1}", "[1, 1]", "maxContains", ""},
    {"{'maxContains': 1, 'minContains': 3}", "[1, 1]", NULL, NULL}, /* nothing without contains */

    /* schemas put together */
    {"{'allOf': [{'minimum': 2}, {'maximum': 5}]}", "3", NULL, NULL},
    {"{'allOf': [{'minimum': 2}, {'maximum': 5}]}", "6", "maximum", ""},
    {"{'allOf': [true, false]}", "1", "false", ""},
    {"{'anyOf': [{'type': 'integer'}, {'minimum': 2}]}", "2.5", NULL, NULL},
    {"{'anyOf': [{'type': 'integer'}, {'minimum': 2}]}", "1.5", "anyOf", ""},
    {"{'properties': {'a': {'anyOf': [{'type': 'null'}, {'type': 'string'}]}}}", "{'a': 1}",
     "anyOf", "/a"},
    {"{'oneOf': [{'type': 'integer'}, {'minimum': 2}]}", "1", NULL, NULL},
    {"{'oneOf': [{'type': 'integer'}, {'minimum': 2}]}", "3", "oneOf", ""},
    {"{'oneOf': [{'type': 'integer'}, {'minimum': 2}]}", "1.5", "oneOf", ""},
    {"{'oneOf': [{'required': ['a', 'b']}, {'required': ['a', 'c']}]}", "{'a': 1, 'c': 1}", NULL,
     NULL},
    {"{'not': {'type': 'integer'}}", "'x'", NULL, NULL},
    {"{'not': {'type': 'integer'}}", "1", "not", ""},
    {"{'not': {'not': {}}}", "1", NULL, NULL},
    {"{'properties': {'foo': {'not': {}}}}", "{'foo': 1}", "not", "/foo"},
    {"{'if': {'exclusiveMaximum': 0}, 'then': {'minimum': -10}, 'else': {'multipleOf': 2}}", "-1",
     NULL, NULL},
    {"{'then': {'minimum': -10}, 'else': {'multipleOf': 2}, 'if': {'exclusiveMaximum': 0}}", "-100",
     "minimum", ""},
    {"{'if': {'exclusiveMaximum': 0}, 'then': {'minimum': -10}, 'else': {'multipleOf': 2}}", "3",
     "multipleOf", ""},
    {"{'if': false, 'else': {'const': 1}}", "2", "const", ""},
    {"{'if': true, 'else': {'const': 1}}", "2", NULL, NULL},
    {"{'then': {'const': 1}, 'else': {'const': 2}}", "3", NULL, NULL},
    {"{'if': {'const': 1}}", "2", NULL, NULL},

    /* references */
    {"{'properties': {'foo': {'$ref': '#'}}, 'additionalProperties': false}",
     "{'foo': {'foo': {'foo': {}}}}", NULL, NULL},
    {"{'properties': {'foo': {'$ref': '#'}}, 'additionalProperties': false}",
     "{'foo': {'bar': false}}", "additionalProperties", "/foo/bar"},
    {"{'$ref': '#/$defs/a', '$defs': {'a': {'type': 'integer'}}}", "'x'", "type", ""},
    {"{'$ref': '#/$defs/a', 'maximum': 5, '$defs': {'a': {'type': 'integer'}}}", "7", "maximum",
     ""}, /* beside $ref, others count */
    {"{'$ref': '#/$defs/a', '$defs': {'a': {'$ref': '#/$defs/b'}, 'b': {'const': 1}}}", "2",
     "const", ""},
    {"{'$defs': {'tilde~field': {'type': 'integer'}, 'slash/field': {'type': 'integer'},"
     " 'percent%field': {'type': 'integer'}, 'a b': {'type': 'null'}},"
     " 'properties': {'t': {'$ref': '#/$defs/tilde~0field'},"
     " 's': {'$ref': '#/$defs/slash~1field'}, 'p': {'$ref': '#/$defs/percent%25field'},"
     " 'b': {'$ref': '#/$defs/a%20b'}}}",
     "{'t': 1, 's': 2, 'p': 'x', 'b': 1}", "type", "/p"},
    {"{'$defs': {'node': {'properties': {'kids': {'items': {'$ref': '#/$defs/node'}},"
     " 'v': {'type': 'number'}}}}, '$ref': '#/$defs/node'}",
     "{'v': 1, 'kids': [{'v': 2}, {'kids': [{'v': 'x'}]}]}", "type", "/kids/1/kids/0/v"},
    {"{'const': {'$ref': '#/x'}}", "{'$ref': '#/x'}", NULL, NULL}, /* no reference: a value */
};

static void test_validate(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct po__schema_error e = {{0}, {0}, {0}};
        struct po__slice schema = json(cases[i].schema), value = json(cases[i].value);
        int rv = po__schema_check(schema, &e);
        if (rv)
            fail_msg("%s: %s: %s: %s", cases[i].schema, e.pointer, e.rule, e.text);
        rv = po__schema_validate(schema, value, &e);
        if (!cases[i].rule) {
            if (rv)
                fail_msg("%s: %s: %s: %s", cases[i].schema, cases[i].value, e.pointer, e.text);
            continue;
        }
        if (rv != PO_EINVAL || strcmp(e.rule, cases[i].rule) != 0 ||
            strcmp(e.pointer, cases[i].pointer) != 0 || !e.text[0])
            fail_msg("%s: %s: %d, %s at '%s': %s", cases[i].schema, cases[i].value, rv, e.rule,
                     e.pointer, e.text);
    }
}

static void test_sentences(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *value, *place, *text;
    } said[] = {
        {"{'properties': {'age': {'maximum': 150}}}", "{'age': 200}", "/age",
         "200 is above the maximum 150"},
        {"{'type': ['string', 'null']}", "[1]", "the top level",
         "[1] is an array; expected is one of [\"string\", \"null\"]"},
        {"{'properties': {'label': {}}, 'additionalProperties': false}", "{'lable': 1}", "/lable",
         "no property of that name is allowed; the nearest is \"label\""},
        {"{'required': ['a']}", "{}", "the top level", "\"a\" is missing"},
        {"{'dependentRequired': {'a': ['b']}}", "{'a': 1}", "the top level",
         "\"b\" is missing; it goes with \"a\""},
        {"{'minLength': 3}", "'ab'", "the top level",
         "there are 2 characters; at least 3 are allowed"},
        {"{'enum': ['a', 'b']}", "'0123456789012345678901234567890123456789012345678'",
         "the top level",
         "\"0123456789012345678901234567890123456789012... is none of [\"a\", \"b\"]"},
        {"{'uniqueItems': true}", "[0, 1, 2, 1]", "the top level",
         "the elements 1 and 3 (from 0) are the same"},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct po__schema_error e;
        assert_int_equal(po__schema_validate(json(said[i].schema), json(said[i].value), &e),
                         PO_EINVAL);
        assert_string_equal(po__schema_place(&e), said[i].place);
        assert_string_equal(e.text, said[i].text);
    }
}

static void test_check_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *pointer, *text; /* a part of the sentence */
    } bad[] = {
        {"1", "", "an object, true or false; here is a number"},
        {"[]", "", "here is an array"},
        {"{'propertys': {}}", "/propertys", "the nearest is properties"},
        {"{'maxlength': 1}", "/maxlength", "the nearest is maxLength"},
        {"{'x-vendor': 1}", "/x-vendor", "no keyword of the supported subset"},
        {"{'properties': {'a': {'pattern': '^a'}}}", "/properties/a/pattern",
         "regular expressions are not supported"},
        {"{'patternProperties': {}}", "/patternProperties", "regular expressions"},
        {"{'definitions': {}}", "/definitions", "write $defs"},
        {"{'unevaluatedProperties': false}", "/unevaluatedProperties", "additionalProperties"},
        {"{'dependentSchemas': {}}", "/dependentSchemas", "if and then"},
        {"{'$anchor': 'a'}", "/$anchor", "$defs/NAME"},
        {"{'nullable': true}", "/nullable", "null"},
        {"{'type': 'int'}", "/type", "a type is"},
        {"{'type': 5}", "/type", "here is a number"},
        {"{'type': []}", "/type", "names no type"},
        {"{'type': ['string', 'x']}", "/type/1", "here is \"x\""},
        {"{'type': ['string', 'string']}", "/type", "elements 0 and 1"},
        {"{'enum': []}", "/enum", "at least one value"},
        {"{'enum': 5}", "/enum", "at least one value"},
        {"{'properties': []}", "/properties", "object of schemas, not an array"},
        {"{'properties': {'a': 5}}", "/properties/a", "here is a number"},
        {"{'properties': {'a': {}, '\\u0061': {}}}", "/properties",
         "0 and 1 (from 0) are the same"},
        {"{'type': 'null', 'type': 'null'}", "", "0 and 1 (from 0) are the same"},
        {"{'required': 'a'}", "/required", "an array of names"},
        {"{'required': ['a', 1]}", "/required/1", "strings"},
        {"{'required': ['a', 'b', 'a']}", "/required", "0 and 2"},
        {"{'dependentRequired': {'a': 'b'}}", "/dependentRequired/a", "array of names"},
        {"{'items': [{}]}", "/items", "prefixItems"},
        {"{'prefixItems': []}", "/prefixItems", "at least one schema"},
        {"{'anyOf': {}}", "/anyOf", "at least one schema"},
        {"{'anyOf': [{}, {'oneOf': [5]}]}", "/anyOf/1/oneOf/0", "here is a number"},
        {"{'minItems': -1}", "/minItems", "whole number"},
        {"{'minItems': 1.5}", "/minItems", "whole number"},
        {"{'maxItems': 1e400}", "/maxItems", "whole number"},
        {"{'maxItems': '1'}", "/maxItems", "is a number, not a string"},
        {"{'minimum': '1'}", "/minimum", "is a number, not a string"},
        {"{'multipleOf': 0}", "/multipleOf", "above 0"},
        {"{'multipleOf': -1}", "/multipleOf", "above 0"},
        {"{'multipleOf': 1.234567890123456789}", "/multipleOf", "significant digits"},
        {"{'uniqueItems': 1}", "/uniqueItems", "true or false"},
        {"{'not': 1}", "/not", "here is a number"},
        {"{'$ref': 5}", "/$ref", "is a string"},
        {"{'$ref': '#/$defs/a'}", "/$ref", "names nothing"},
        {"{'$ref': '#/$defs/b', '$defs': {'a': {}}}", "/$ref", "names nothing"},
        {"{'$ref': '#/properties/a', 'properties': {'a': {}}}", "/$ref", "#/$defs/NAME"},
        {"{'$ref': '#/$defs/a/b', '$defs': {'a': {'b': {}}}}", "/$ref", "names nothing"},
        {"{'$ref': '#/$defs/%4', '$defs': {'%4': {}}}", "/$ref", "names nothing"},
        {"{'$ref': '#/$defs/~', '$defs': {'~': {}}}", "/$ref", "names nothing"},
        {"{'$ref': 'https://example.com/s.json'}", "/$ref", "names nothing"},
        {"{'$schema': 'http://json-schema.org/draft-07/schema#'}", "/$schema", "2020-12"},
        {"{'$schema': 5}", "/$schema", "is a string"},
        {"{'properties': {'a': {'$id': 'x'}}}", "/properties/a/$id", "at the top"},
        {"{'$defs': {'a': {'typ': 1}}}", "/$defs/a/typ", "the nearest is type"},
        {"{'$ref': '#'}", "", "refers to itself"},
        {"{'allOf': [{'$ref': '#'}]}", "", "refers to itself"},
        {"{'not': {'if': true, 'then': {'$ref': '#'}}}", "", "refers to itself"},
        {"{'$defs': {'a': {'$ref': '#/$defs/b'}, 'b': {'anyOf': [{}, {'$ref': '#/$defs/a'}]}}}",
         "/$defs/a", "refers to itself"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct po__schema_error e = {{0}, {0}, {0}};
        int rv = po__schema_check(json(bad[i].schema), &e);
        if (rv != PO_EINVAL || strcmp(e.pointer, bad[i].pointer) != 0 ||
            !strstr(e.text, bad[i].text))
            fail_msg("%s: %d at '%s': %s", bad[i].schema, rv, e.pointer, e.text);
        /* stored by an older program, it must not do harm */
        rv = po__schema_validate(json(bad[i].schema), json("{'a': [1, 'x', {}]}"), &e);
        assert_true(rv == 0 || rv == PO_EINVAL || rv == PO_ETOOBIG);
    }
}

/* ---- hostile schemas and values ---- */

static void append(struct po__buf *b, const char *text)
{
    po__buf_append(b, text, strlen(text));
}

/* d0 wants d1 twice, d1 wants d2 twice, ...: 2^30 ways through it. */
static void test_exponential(void **state)
{
    (void)state;
    struct po__schema_error e;
    static const char *const joins[] = {"allOf", "anyOf", "oneOf"};
    for (size_t k = 0; k < 3; k++) {
        struct po__buf b = {0};
        append(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
        for (int i = 0; i < 30; i++)
            po__buf_printf(
                &b, "\"d%d\":{\"%s\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},", i,
                joins[k], i + 1, i + 1);
        append(&b, "\"d30\":{\"type\":\"null\"}}}");
        assert_true(po__json_ok(po__buf_slice(&b)));
        assert_int_equal(po__schema_check(po__buf_slice(&b), &e), PO_EINVAL);
        assert_non_null(strstr(e.text, "too complicated"));
        int rv = po__schema_validate(po__buf_slice(&b), po__str("null"), &e);
        /* anyOf is content with the first, oneOf has two at the bottom already */
        assert_int_equal(rv, k == 0 ? PO_ETOOBIG : k == 1 ? 0 : PO_ETOOBIG);
        po__buf_fini(&b);
    }
}

/* Doubling that goes into the value is not seen by the check: the value makes it long. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    struct po__schema_error e;
    struct po__slice schema = json("{'items': {'allOf': [{'$ref': '#'}, {'$ref': '#'}]}}");
    char deep[200] = {0};
    assert_int_equal(po__schema_check(schema, &e), 0);
    memset(deep, '[', 60);
    memset(deep + 60, ']', 60);
    assert_int_equal(po__schema_validate(schema, po__str(deep), &e), PO_ETOOBIG);
    assert_non_null(strstr(e.text, "MiB"));
    assert_int_equal(po__schema_validate(json("{'not': {'items': {'allOf': [{'$ref': '#'}, {'not': "
                                              "{'$ref': '#'}}]}}}"),
                                         po__str(deep), &e),
                     PO_ETOOBIG);
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    struct po__schema_error e;
    struct po__slice schema = json("{'items': {'$ref': '#'}}"); /* two schemas for each level */
    char deep[2 * PO__JSON_DEPTH_MAX + 1];
    for (size_t n = PO__SCHEMA_DEPTH_MAX / 2; n <= PO__SCHEMA_DEPTH_MAX / 2 + 1; n++) {
        memset(deep, '[', n);
        memset(deep + n, ']', n);
        int rv = po__schema_validate(schema, po__slice(deep, 2 * n), &e);
        assert_int_equal(rv, n == PO__SCHEMA_DEPTH_MAX / 2 ? 0 : PO_ETOOBIG);
    }
    assert_non_null(strstr(e.text, "inside of each other"));
    assert_true(strlen(e.pointer) > 200 && strlen(e.pointer) < sizeof e.pointer);
    assert_memory_equal(e.pointer, "/0/0/0/0", 8);
}

/* A flat value of the greatest size that a task may have, with a common schema, is no problem. */
static void test_great_values(void **state)
{
    (void)state;
    struct po__schema_error e;
    struct po__buf b = {0};
    append(&b, "{\"rows\":[");
    for (int i = 0; b.len < 1000000; i++)
        po__buf_printf(&b, "%s{\"hour\":%d,\"kwh\":%d.5}", i ? "," : "", i, i % 100);
    append(&b, "]}");
    struct po__slice schema =
        json("{'type': 'object', 'required': ['rows'], 'properties': {'rows': {'type': 'array',"
             " 'uniqueItems': true, 'items': {'type': 'object', 'additionalProperties': false,"
             " 'required': ['hour', 'kwh'], 'properties': {'hour': {'type': 'integer',"
             " 'minimum': 0}, 'kwh': {'type': 'number', 'maximum': 1000}}}}}}");
    int rv = po__schema_validate(schema, po__buf_slice(&b), &e);
    if (rv)
        fail_msg("%s: %s", e.pointer, e.text);
    po__buf_fini(&b);
}

static void test_long_pointers(void **state)
{
    (void)state;
    struct po__schema_error e;
    struct po__buf b = {0};
    append(&b, "{\"a\":{\"");
    for (int i = 0; i < 200; i++)
        append(&b, i % 2 ? "\\u20ac" : "\xe2\x82\xac");
    append(&b, "\":{\"b\":1}}}");
    assert_true(po__json_ok(po__buf_slice(&b)));
    assert_int_equal(po__schema_validate(json("{'additionalProperties': {'additionalProperties': "
                                              "{'additionalProperties': false}}}"),
                                         po__buf_slice(&b), &e),
                     PO_EINVAL);
    assert_memory_equal(e.pointer, "/a/\xe2\x82\xac", 6);
    struct po__buf quoted = {0};
    po__json_string(&quoted, po__str(e.pointer));
    assert_true(po__json_ok(po__buf_slice(&quoted))); /* cut between characters */
    po__buf_fini(&quoted);
    po__buf_fini(&b);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct po__schema_error e;
    struct po__slice schema = json(
        "{'uniqueItems': true, 'contains': {'const': {'a': 1, 'b': 2}}, 'required': ['1', '2',"
        " '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14', '15', '16', '17']}");
    struct po__slice value = json("[{'b': 1, 'a': 2}, {'b': 2, 'a': 1}]");
    for (int check = 0; check < 2; check++)
        for (uint64_t n = 1;; n++) {
            po__alloc_fail_at(n);
            int rv = check ? po__schema_check(schema, &e) : po__schema_validate(schema, value, &e);
            bool failed = po__alloc_count() >= n;
            po__alloc_fail_at(0);
            assert_int_equal(rv, failed ? PO_ENOMEM : 0);
            if (!failed) {
                assert_true(n > (check ? 1 : 2));
                break;
            }
            assert_string_equal(e.text, po_strerror(PO_ENOMEM));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_validate),        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_check_refuses),   cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_work_is_bounded), cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_great_values),    cmocka_unit_test(test_long_pointers),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
