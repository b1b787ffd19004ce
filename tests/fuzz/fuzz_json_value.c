/* Values in JSON: whatever po__json_ok accepts can be walked, is equal to itself and to its compact
 * form, and its strings and numbers agree with themselves written otherwise. */
#include "fuzz.h"

#include "codec/json_value.h"

static void check_string(struct po__slice token)
{
    struct po__buf text = {0}, again = {0};
    FUZZ_CHECK(po__json_decode(&text, token) == 0);
    struct po__slice decoded = po__buf_slice(&text);
    FUZZ_CHECK(po__json_string_is(token, decoded));
    FUZZ_CHECK(po__json_string_length(token) <= decoded.len);
    po__json_string(&again, decoded);
    FUZZ_CHECK(po__json_string_cmp(token, po__buf_slice(&again)) == 0);
    for (size_t i = 0; i <= decoded.len; i++)
        FUZZ_CHECK(po__json_token_offset(token, i) < token.len);
    po__buf_fini(&text);
    po__buf_fini(&again);
}

static void check_number(struct po__slice a)
{
    char scaled[64];
    uint64_t v;
    FUZZ_CHECK(po__json_number_cmp(a, a) == 0);
    if (po__json_u64(a, &v)) {
        snprintf(scaled, sizeof scaled, "%llu.0e-0", (unsigned long long)v);
        FUZZ_CHECK(po__json_number_cmp(a, po__str(scaled)) == 0);
        FUZZ_CHECK(po__json_number_hash(a) == po__json_number_hash(po__str(scaled)));
        FUZZ_CHECK(po__json_is_integer(a));
        FUZZ_CHECK(po__json_is_multiple(a, po__str("7")) == (v % 7 == 0));
    }
    FUZZ_CHECK(po__json_is_integer(a) == po__json_is_multiple(a, po__str("1")));
    if (po__json_divisor_ok(a))
        FUZZ_CHECK(po__json_is_multiple(a, a));
}

static void walk(struct po__slice value, unsigned depth)
{
    struct po__json_iter it;
    size_t count = 0;
    FUZZ_CHECK(depth <= PO__JSON_DEPTH_MAX);
    FUZZ_CHECK(po__json_ok(value));
    if (po__json_type(value) == PO__JSON_STRING)
        check_string(value);
    if (po__json_type(value) == PO__JSON_NUMBER)
        check_number(value);
    for (po__json_iter(&it, value); po__json_next(&it); count++) {
        FUZZ_CHECK(it.index == count);
        if (it.object)
            check_string(it.key);
        walk(it.value, depth + 1);
    }
    FUZZ_CHECK(po__json_count(value) == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__slice text = po__slice(data, len);
    struct po__buf b = {0};
    uint64_t work = PO__JSON_WORK_MAX;
    if (!po__json_ok(text))
        return 0;
    struct po__slice root = po__json_root(text);
    walk(root, 0);
    po__json_compact(&b, root);
    FUZZ_CHECK(b.err == 0 && po__json_ok(po__buf_slice(&b)));
    FUZZ_CHECK(po__json_equal(root, po__buf_slice(&b), &work) == 1);
    FUZZ_CHECK(po__json_hash(root, &work) == po__json_hash(po__buf_slice(&b), &work));
    po__buf_fini(&b);
    return 0;
}

/* Most random bytes have no business in JSON; of these, some become what has. */
void fuzz_mend(uint8_t *data, size_t len)
{
    static const char instead[] = "\"\"\\,,::[]{}0123456789.-+eEabu ";
    for (size_t i = 0; i < len; i++)
        if (data[i] < ' ' || data[i] > '~')
            data[i] = (uint8_t)instead[data[i] % (sizeof instead - 1)];
}

void fuzz_seeds(void)
{
    static const char *const seeds[] = {
        "[0, -0.0, 1.50, 12e3, -7E-2, 1e99999999999999999999, 0.000123e+4, 18446744073709551615]",
        "{\"a\": [true, false, null], \"\\u00e9\": {\"b\": \"x\\\\\\\"\\n\"}, \"c\": "
        "\"\\ud83d\\ude00\"}",
        " { \"key\" : [ [ [ ] , { } ] , \"]}\" ] , \"key\" : 1 } ",
        "\"\xc3\xa9 \xe2\x82\xac \\/\"",
        "100000000000000000000.00000000000000001e-30",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
}
