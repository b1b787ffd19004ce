/* The JSON checker: what it accepts jansson accepts too, and the other way round (within its
 * documented limits). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>

#include "codec/json.h"

static bool jansson_ok(const char *text, size_t len)
{
    json_t *v = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    json_decref(v);
    return v != NULL;
}

static void test_known(void **state)
{
    (void)state;
    static const char *const good[] = {
        "null",
        "true",
        " false ",
        "0",
        "-0",
        "12",
        "-1.5e+10",
        "1E5",
        "0.25",
        "\"\"",
        "\"a\\u00e9\\n\\/\"",
        "\"\\ud83d\\ude00\"",
        "[]",
        "{}",
        "[ ]",
        "[1,2,[3]]",
        "{\"a\":{\"b\":[]},\"c\":1}",
        "\t[\r\n1 , 2 ] ",
        "\"\xc3\xa9\"",
    };
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nulll",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\u0000\"",
        "\"a\nb\"",
        "\"\xff\"",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[}",
        "{\"a\":1]",
        "1 2",
        "{} {}",
        "NaN",
        "tru",
        "\"\\ud83dx\"",
        "\"\\",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!po__json_ok(po__str(good[i])))
            fail_msg("refused %s", good[i]);
        assert_true(jansson_ok(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (po__json_ok(po__str(bad[i])))
            fail_msg("accepted %s", bad[i]);
        assert_false(jansson_ok(bad[i], strlen(bad[i])));
    }
    assert_false(po__json_ok(po__slice("\"a\0b\"", 5)));
}

/* `depth` arrays or objects around `inner`. */
static size_t nest(char *text, size_t depth, bool objects, const char *inner)
{
    static const char key[] = "{\"k\":";
    size_t len = 0;
    for (size_t i = 0; i < depth; i++) {
        memcpy(text + len, objects ? key : "[", objects ? sizeof key - 1 : 1);
        len += objects ? sizeof key - 1 : 1;
    }
    memcpy(text + len, inner, strlen(inner));
    len += strlen(inner);
    memset(text + len, objects ? '}' : ']', depth);
    return len + depth;
}

static void test_depth(void **state)
{
    (void)state;
    static const struct {
        const char *inner;
        size_t levels; /* of inner itself */
    } cases[] = {{"1", 0}, {"[]", 1}, {"{}", 1}, {"[ ]", 1}, {"[1]", 1}, {"{\"k\":{}}", 2}};
    char text[8 * (PO__JSON_DEPTH_MAX + 2)];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int objects = 0; objects < 2; objects++) {
            size_t outer = PO__JSON_DEPTH_MAX - cases[i].levels;
            size_t len = nest(text, outer, objects, cases[i].inner);
            assert_true(po__json_ok(po__slice(text, len)));
            len = nest(text, outer + 1, objects, cases[i].inner);
            assert_false(po__json_ok(po__slice(text, len)));
        }
}

static void test_random_agrees_with_jansson(void **state)
{
    (void)state;
    static const char *const parts[] = {"[", "]",     "{",    "}", ",",    ":",
                                        "1", "\"k\"", "null", " ", "-2.5", "true"};
    uint64_t seed = 2463534242u;
    unsigned accepted = 0;
    for (int i = 0; i < 30000; i++) {
        char text[128];
        size_t len = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        for (unsigned n = (unsigned)(seed >> 60) % 9 + 1; n > 0; n--) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            const char *part = parts[(seed >> 33) % (sizeof parts / sizeof *parts)];
            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        bool ours = po__json_ok(po__slice(text, len));
        if (ours != jansson_ok(text, len))
            fail_msg("%.*s: we say %d", (int)len, text, ours);
        accepted += ours;
    }
    assert_true(accepted > 500);
}

static void test_string(void **state)
{
    (void)state;
    static const char raw[] = "a\"b\\c\n\x01\xc3\xa9";
    struct po__buf b = {0};
    po__json_string(&b, po__str(raw));
    json_t *v = json_loadb((char *)b.data, b.len, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    assert_string_equal(json_string_value(v), raw);
    json_decref(v);
    po__buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_random_agrees_with_jansson),
        cmocka_unit_test(test_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
