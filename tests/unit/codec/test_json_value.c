/* Looking into JSON: members, strings, numbers by their exact value, equality. Numbers
 * are compared with what the machine's own arithmetic makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "codec/json_value.h"

/* The text in a block of exactly its size, so that ASan sees what is read beyond it. */
static struct po__slice hold(const char *text)
{
    static char *blocks[4];
    static unsigned next;
    size_t len = strlen(text);
    char **block = &blocks[next++ % 4];
    po__free(*block);
    *block = po__memdup(text, len);
    assert_non_null(*block);
    assert_true(po__json_ok(po__slice(*block, len)));
    return po__json_root(po__slice(*block, len));
}

static void assert_text(struct po__slice s, const char *text)
{
    if (!po__slice_eq(s, po__str(text)))
        fail_msg("%.*s is not %s", (int)s.len, s.data, text);
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum po__json_type type;
        const char *name, *a_type;
    } cases[] = {
        {" null ", PO__JSON_NULL, "null", "null"},
        {"\ttrue", PO__JSON_BOOLEAN, "boolean", "a boolean"},
        {"false\n", PO__JSON_BOOLEAN, "boolean", "a boolean"},
        {"-1", PO__JSON_NUMBER, "number", "a number"},
        {"0.5", PO__JSON_NUMBER, "number", "a number"},
        {"\"\"", PO__JSON_STRING, "string", "a string"},
        {"[ ]", PO__JSON_ARRAY, "array", "an array"},
        {"{}", PO__JSON_OBJECT, "object", "an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct po__slice v = hold(cases[i].text);
        assert_int_equal(po__json_type(v), cases[i].type);
        assert_string_equal(po__json_type_name(cases[i].type), cases[i].name);
        assert_string_equal(po__json_a_type(v), cases[i].a_type);
        assert_int_equal(po__json_is_true(v), i == 1);
    }
}

static void test_members(void **state)
{
    (void)state;
    struct po__slice v = hold(
                         " { \"a\" : [1, {\"x\":\"]}\"} , \"\\\\\\\"\" ] ,\n\"b\":{ },\"a\":3 , "
                         "\"\\u00e9\": \"e\", \"\":null}"),
                     got;
    assert_int_equal(po__json_count(v), 5);
    assert_true(po__json_member(v, po__str("a"), &got));
    assert_text(got, "[1, {\"x\":\"]}\"} , \"\\\\\\\"\" ]");
    struct po__slice a = got;
    assert_int_equal(po__json_count(a), 3);
    assert_true(po__json_element(a, 1, &got));
    assert_text(got, "{\"x\":\"]}\"}");
    assert_true(po__json_element(a, 2, &got));
    assert_text(got, "\"\\\\\\\"\"");
    assert_false(po__json_element(a, 3, &got));
    assert_true(po__json_member(v, po__str("b"), &got));
    assert_text(got, "{ }");
    assert_int_equal(po__json_count(got), 0);
    assert_true(po__json_member(v, po__str("\xc3\xa9"), &got));
    assert_text(got, "\"e\"");
    assert_true(po__json_member(v, po__str(""), &got));
    assert_text(got, "null");
    assert_int_equal(po__json_count(got), 0);
    assert_false(po__json_member(v, po__str("aa"), &got));
    assert_false(po__json_member(a, po__str("x"), &got));

    struct po__json_iter it;
    static const char *const keys[] = {"\"a\"", "\"b\"", "\"a\"", "\"\\u00e9\"", "\"\""};
    size_t n = 0;
    for (po__json_iter(&it, v); po__json_next(&it); n++) {
        assert_text(it.key, keys[n]);
        assert_int_equal(it.index, n);
    }
    assert_int_equal(n, 5);
    assert_false(po__json_next(&it));
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *token, *text;
        size_t length;
    } cases[] = {
        {"\"\"", "", 0},
        {"\"abc\"", "abc", 3},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00z\"", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 5},
        {"\"\xf0\x9f\x98\x80\\uD83D\\uDE00\"", "\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 2},
        {"\"a\\u0001\\u007f\"", "a\x01\x7f", 3},
    };
    struct po__buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct po__slice token = hold(cases[i].token);
        po__buf_reset(&b);
        assert_int_equal(po__json_decode(&b, token), 0);
        assert_text(po__buf_slice(&b), cases[i].text);
        assert_int_equal(po__json_string_length(token), cases[i].length);
        assert_true(po__json_string_is(token, po__str(cases[i].text)));
        assert_false(po__json_string_is(token, po__str("abcd")));
        po__buf_reset(&b);
        po__json_string(&b, po__str(cases[i].text)); /* written otherwise, the same string */
        assert_int_equal(po__json_string_cmp(token, po__buf_slice(&b)), 0);
        assert_true(po__json_string_hash(token) == po__json_string_hash(po__buf_slice(&b)));
    }
    po__buf_fini(&b);
    assert_true(po__json_string_cmp(po__str("\"a\""), po__str("\"\\u0061b\"")) < 0);
    assert_true(po__json_string_cmp(po__str("\"\\u0062\""), po__str("\"ab\"")) > 0);
    assert_true(po__json_string_cmp(po__str("\"\\u00e9\""), po__str("\"z\"")) > 0); /* bytes */
    assert_false(po__json_string_is(po__str("\"ab\""), po__str("a")));
    assert_false(po__json_string_is(po__str("\"a\""), po__str("ab")));
}

static void test_token_offset(void **state)
{
    (void)state;
    struct po__slice token = hold("\"ab\\u00e9c\\n\xc3\xa9\"");
    static const size_t at[] = {1, 2, 3, 3, 9, 10, 12, 13, 14};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        assert_int_equal(po__json_token_offset(token, i), at[i]);
}

/* ---- numbers ---- */

/* In ascending order; those of one line are equal. */
static const char *const ascending[][6] = {
    {"-1e999999999999999999999999", "-10e999999999999999999999998"},
    {"-1e400", "-10E+399"},
    {"-123456789012345678901234567890", "-123456789012345678901234567890.000"},
    {"-2", "-2.0", "-0.2e1", "-20e-1", "-0.02e+02"},
    {"-1.0000000000000000000000000000001"},
    {"-1", "-1.00"},
    {"-1e-400"},
    {"0", "-0", "0.0", "-0.000", "0e999999999999999999999", "-0e-5"},
    {"1e-999999999999999999999999"},
    {"2e-999999999999999999999999", "0.2e-999999999999999999999998"},
    {"1e-400", "0.1e-399", "10e-401"},
    {"0.1", "0.10", "1e-1", "1.0e-01", "100e-3"},
    {"0.100000000000000000000000000001"},
    {"0.3"},
    {"1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1"},
    {"1.5", "15e-1", "0.15E1"},
    {"9", "9.0", "900e-2"},
    {"10", "1e1", "1.0e1", "0.1e2"},
    {"99.99"},
    {"100", "1e2", "1e02", "1E+002", "10000e-2", "0.01e4"},
    {"9007199254740992"},
    {"9007199254740993", "9007199254740993.0"},
    {"1e400", "10e399", "0.1e401"},
    {"1e999999999999999999999998"},
    {"1e999999999999999999999999", "10e999999999999999999999998"},
};
#define ASCENDING (sizeof ascending / sizeof *ascending)

static void test_number_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < ASCENDING; i++)
        for (size_t x = 0; x < 6 && ascending[i][x]; x++)
            for (size_t j = 0; j < ASCENDING; j++)
                for (size_t y = 0; y < 6 && ascending[j][y]; y++) {
                    struct po__slice a = po__str(ascending[i][x]), b = po__str(ascending[j][y]);
                    int c = po__json_number_cmp(a, b), wanted = (i > j) - (i < j);
                    if ((c > 0) - (c < 0) != wanted)
                        fail_msg("%s %s: %d", a.data, b.data, c);
                    if (i == j)
                        assert_true(po__json_number_hash(a) == po__json_number_hash(b));
                }
}

/* Against the machine: numbers with few digits, which a double holds exactly when scaled. */
static void test_number_order_random(void **state)
{
    (void)state;
    uint64_t seed = 99;
    for (int i = 0; i < 40000; i++) {
        char text[2][64];
        int64_t value[2];
        for (int k = 0; k < 2; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            int64_t digits = (int64_t)(seed >> 40) % 2000 - 1000;
            unsigned scale = (unsigned)(seed >> 20) % 4;
            static const int64_t tens[] = {1, 10, 100, 1000};
            value[k] = digits * tens[scale]; /* in thousandths */
            snprintf(text[k], sizeof text[k], (seed >> 10) & 1 ? "%lld%.*se-%u" : "%lld.%.*se-%u",
                     (long long)digits, (seed >> 10) & 1 ? 0 : 2, "00", 3 - scale);
        }
        int c = po__json_number_cmp(po__str(text[0]), po__str(text[1]));
        if ((c > 0) - (c < 0) != (value[0] > value[1]) - (value[0] < value[1]))
            fail_msg("%s %s: %d", text[0], text[1], c);
        if (po__json_is_integer(po__str(text[0])) != (value[0] % 1000 == 0))
            fail_msg("%s: whole?", text[0]);
        if (value[1] > 0 &&
            po__json_is_multiple(po__str(text[0]), po__str(text[1])) != (value[0] % value[1] == 0))
            fail_msg("%s %s: multiple?", text[0], text[1]);
    }
}

static void test_integers(void **state)
{
    (void)state;
    static const char *const whole[] = {"0",
                                        "-0.0",
                                        "1",
                                        "1.0",
                                        "-5",
                                        "10e-1",
                                        "1e400",
                                        "1.5e1",
                                        "0.0e-99999",
                                        "123.4500e2",
                                        "1e99999999999999999999999",
                                        "0e-99999999999999999999999"};
    static const char *const broken[] = {
        "0.5", "1e-1", "-1.01", "15e-2", "1.5e0", "1e-99999999999999999999999", "123.45e1"};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (!po__json_is_integer(po__str(whole[i])))
            fail_msg("%s", whole[i]);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (po__json_is_integer(po__str(broken[i])))
            fail_msg("%s", broken[i]);

    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"2.0", 2},
                {"1e3", 1000},
                {"1.25e2", 125},
                {"18446744073709551615", UINT64_MAX},
                {"18446744073709551615.0", UINT64_MAX},
                {"1844674407370955161.5e1", UINT64_MAX},
                {"10e18", UINT64_C(10000000000000000000)}};
    static const char *const none[] = {"-1",    "0.5",  "18446744073709551616",     "1e20",
                                       "1e400", "1e-5", "1e99999999999999999999999"};
    uint64_t v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(po__json_u64(po__str(good[i].text), &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(po__json_u64(po__str(none[i]), &v));
}

static void test_multiples(void **state)
{
    (void)state;
    static const struct {
        const char *number, *divisor;
        bool is;
    } cases[] = {
        {"10", "2", true},
        {"7", "2", false},
        {"0", "0.01", true},
        {"4.5", "1.5", true},
        {"35", "1.5", false},
        {"0.0075", "0.0001", true},
        {"0.00751", "0.0001", false},
        {"19.99", "0.01", true},
        {"0.3", "0.1", true}, /* what floating point gets wrong */
        {"1e308", "0.123456789", false},
        {"1e400", "0.5", true},
        {"1e99999999999999999999999", "1024", true},
        {"1e99999999999999999999999", "3", false},
        {"1e-99999999999999999999999", "3", false},
        {"-9", "3", true},
        {"12391239123", "1e-8", true},
        {"3e20", "999999999999999999", false},
        {"999999999999999999000", "999999999999999999", true},
        {"999999999999999999999999999999999999", "999999999999999999", true},
        {"1e60", "576460752303423488", true}, /* 2^59 */
        {"1e58", "576460752303423488", false},
        {"1e59", "576460752303423488", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (po__json_is_multiple(po__str(cases[i].number), po__str(cases[i].divisor)) !=
            cases[i].is)
            fail_msg("%s by %s", cases[i].number, cases[i].divisor);
    assert_true(po__json_divisor_ok(po__str("0.0001")));
    assert_true(po__json_divisor_ok(po__str("999999999999999999e7")));
    assert_true(po__json_divisor_ok(po__str("1000000000000000000000000000000")));
    assert_false(po__json_divisor_ok(po__str("1234567890123456789")));
    assert_false(po__json_divisor_ok(po__str("0.0")));
    assert_false(po__json_divisor_ok(po__str("-1")));
}

/* ---- equality ---- */

static int equal(const char *a, const char *b)
{
    uint64_t work = PO__JSON_WORK_MAX;
    struct po__slice x = hold(a), y = hold(b);
    int rv = po__json_equal(x, y, &work);
    uint64_t other = PO__JSON_WORK_MAX;
    assert_int_equal(po__json_equal(y, x, &other), rv);
    if (rv == 1 && po__json_hash(x, &work) != po__json_hash(y, &work))
        fail_msg("the hashes of %s and %s differ", a, b);
    return rv;
}

static void test_equal(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        int equal;
    } cases[] = {
        {"null", "null", 1},
        {"true", "true", 1},
        {"true", "false", 0},
        {"null", "false", 0},
        {"0", "false", 0},
        {"1", "1.0", 1},
        {"1", "\"1\"", 0},
        {"\"\\u0061\"", "\"a\"", 1},
        {"\"a\"", "\"b\"", 0},
        {"[]", "[ ]", 1},
        {"[]", "{}", 0},
        {"[1,2]", "[1.0, 2]", 1},
        {"[1,2]", "[2,1]", 0},
        {"[1,2]", "[1]", 0},
        {"[1]", "[1,2]", 0},
        {"{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":1}", 1},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"\\u0062\":2}", 1},
        {"{\"a\":1,\"b\":2}", "{\"b\":1,\"a\":2}", 0},
        {"{\"a\":1}", "{\"a\":1,\"b\":2}", 0},
        {"{\"a\":1,\"c\":2}", "{\"b\":1,\"c\":2}", 0},
        {"{\"x\":{\"a\":[{\"p\":1,\"q\":2}],\"b\":2},\"y\":3}",
         "{\"y\":3,\"x\":{\"b\":2,\"a\":[{\"q\":2,\"p\":1}]}}", 1},
        {"{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}", 1}, /* the same key twice: in order only */
        {"{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}", 0},
        {"{\"a\":1,\"a\":2,\"b\":0}", "{\"b\":0,\"a\":1,\"a\":2}", 0},
        {"{\"a\":1,\"a\":1,\"b\":0}", "{\"a\":1,\"b\":0,\"c\":1}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (equal(cases[i].a, cases[i].b) != cases[i].equal)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
}

static void test_equal_is_bounded(void **state)
{
    (void)state;
    char deep[2 * PO__JSON_DEPTH_MAX + 1] = {0};
    memset(deep, '[', PO__JSON_DEPTH_MAX);
    memset(deep + PO__JSON_DEPTH_MAX, ']', PO__JSON_DEPTH_MAX);
    uint64_t work = PO__JSON_WORK_MAX;
    assert_int_equal(po__json_equal(po__str(deep), po__str(deep), &work), 1);
    uint64_t used = PO__JSON_WORK_MAX - work;
    assert_true(used <= 2 * sizeof deep * PO__JSON_DEPTH_MAX);
    work = used - 1;
    assert_int_equal(po__json_equal(po__str(deep), po__str(deep), &work), PO_ETOOBIG);
    assert_true(work == 0);
    work = 10;
    po__json_hash(po__str(deep), &work);
    assert_true(work == 0);
}

static void test_equal_out_of_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        uint64_t work = PO__JSON_WORK_MAX;
        po__alloc_fail_at(n);
        int rv = po__json_equal(po__str("{\"a\":1,\"b\":{\"c\":1,\"d\":2}}"),
                                po__str("{\"b\":{\"d\":2,\"c\":1},\"a\":1}"), &work);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(rv, failed ? PO_ENOMEM : 1);
        if (!failed) {
            assert_true(n == 5); /* two buffers for each of the two pairs */
            return;
        }
    }
}

static void test_compact(void **state)
{
    (void)state;
    static const struct {
        const char *text, *compact;
        unsigned depth;
    } cases[] = {
        {" 12 ", "12", 0},
        {"\" a \\\" b \"", "\" a \\\" b \"", 0},
        {"[ ]", "[]", 1},
        {"[ 1 , [ 2,{ \"a b\" : [] } ]\t]\n", "[1,[2,{\"a b\":[]}]]", 4},
        {"{\"a\":1}", "{\"a\":1}", 1},
    };
    struct po__buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        po__buf_reset(&b);
        assert_int_equal(po__json_compact(&b, hold(cases[i].text)), cases[i].depth);
        assert_text(po__buf_slice(&b), cases[i].compact);
    }
    po__buf_fini(&b);
    po__buf_init(&b, 3);
    po__json_compact(&b, po__str("[1,2]"));
    assert_int_equal(b.err, PO_ETOOBIG);
    po__buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_token_offset),
        cmocka_unit_test(test_number_order),
        cmocka_unit_test(test_number_order_random),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_multiples),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_equal_is_bounded),
        cmocka_unit_test(test_equal_out_of_memory),
        cmocka_unit_test(test_compact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
