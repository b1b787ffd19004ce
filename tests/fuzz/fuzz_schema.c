/* Schemas: the text is an array [schema, value]. Checking and validating end, an error has its
 * sentence, and a value that a schema allows is one that "not" of it refuses. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include "codec/schema.h"

static void check_error(int rv, const struct po__schema_error *e)
{
    FUZZ_CHECK(rv == PO_EINVAL || rv == PO_ETOOBIG);
    FUZZ_CHECK(e->text[0] && strlen(e->text) < sizeof e->text);
    FUZZ_CHECK(strlen(e->pointer) < sizeof e->pointer && strlen(e->rule) < sizeof e->rule);
    FUZZ_CHECK(e->pointer[0] == '\0' || e->pointer[0] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__schema_error e;
    struct po__slice text = po__slice(data, len), schema, value;
    if (!po__json_ok(text))
        return 0;
    struct po__slice pair = po__json_root(text);
    if (po__json_type(pair) != PO__JSON_ARRAY || !po__json_element(pair, 0, &schema) ||
        !po__json_element(pair, 1, &value))
        return 0;
    int checked = po__schema_check(schema, &e);
    if (checked)
        check_error(checked, &e);
    int rv = po__schema_validate(schema, value, &e);
    if (rv)
        check_error(rv, &e);
    if (checked || memmem(schema.data, schema.len, "$", 1) ||
        memmem(schema.data, schema.len, "\\", 1))
        return 0; /* what is inside another one refers to something else */
    struct po__buf b = {0};
    po__buf_append(&b, "{\"not\":", 7);
    po__buf_append(&b, schema.data, schema.len);
    po__buf_append(&b, "}", 1);
    int inverse = po__schema_validate(po__buf_slice(&b), value, &e);
    FUZZ_CHECK(rv == PO_ETOOBIG || inverse == PO_ETOOBIG || (rv == 0) == (inverse == PO_EINVAL));
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
        "[{\"type\":[\"object\",\"null\"],\"required\":[\"a\"],\"properties\":{\"a\":{\"minimum\":"
        "1},"
        "\"b\":{\"maxLength\":3}},\"additionalProperties\":false},{\"a\":2,\"b\":\"xyz\"}]",
        "[{\"prefixItems\":[{\"type\":\"integer\"}],\"items\":{\"enum\":[1,\"a\",{\"b\":[2]}]},"
        "\"uniqueItems\":true,\"contains\":{\"const\":1},\"minContains\":1,\"maxContains\":2},"
        "[1,\"a\",{\"b\":[2.0]}]]",
        "[{\"$defs\":{\"n\":{\"properties\":{\"k\":{\"items\":{\"$ref\":\"#/$defs/n\"}}}}},"
        "\"$ref\":\"#/$defs/n\"},{\"k\":[{\"k\":[]},{\"k\":[{}]}]}]",
        "[{\"anyOf\":[{\"multipleOf\":0.25},{\"minLength\":2}],\"oneOf\":[{\"maximum\":9},true],"
        "\"not\":{\"const\":7},\"allOf\":[{},{\"exclusiveMinimum\":-1}]},8.75]",
        "[{\"if\":{\"required\":[\"x\"]},\"then\":{\"maxProperties\":2},\"else\":{"
        "\"minProperties\":1},"
        "\"dependentRequired\":{\"x\":[\"y\"]},\"propertyNames\":{\"maxLength\":5}},"
        "{\"x\":1,\"y\":[2]}]",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
}
