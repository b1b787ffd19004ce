/* Pipeline documents: what is accepted is a command that the model takes and that survives its
 * encoding; what is refused is told, one line for each problem, without control characters. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include "spec/spec.h"

static void check_command(const struct po__cmd *cmd)
{
    static struct po__cmd again;
    struct po__buf first = {0}, second = {0};
    struct po__mpr r;
    char message[512];
    FUZZ_CHECK(po__cmd_check(cmd, message, sizeof message) == 0);
    po__cmd_encode(&first, cmd);
    FUZZ_CHECK(first.err == 0);
    po__mpr_init(&r, first.data, first.len);
    FUZZ_CHECK(po__cmd_decode(&r, &again, true) == 0 && po__mpr_end(&r) == 0);
    po__cmd_encode(&second, &again);
    FUZZ_CHECK(second.err == 0 && second.len == first.len);
    FUZZ_CHECK(memcmp(first.data, second.data, first.len) == 0);
    po__buf_fini(&first);
    po__buf_fini(&second);
}

static void check_problems(const struct po__doc *d)
{
    unsigned lines = 1;
    FUZZ_CHECK(d->count > 0 && d->problems.len > 0);
    for (size_t i = 0; i < d->problems.len; i++) {
        lines += d->problems.data[i] == '\n';
        FUZZ_CHECK(d->problems.data[i] == '\n' || d->problems.data[i] >= ' ');
    }
    FUZZ_CHECK(lines == (d->count > PO__SPEC_PROBLEMS_MAX ? PO__SPEC_PROBLEMS_MAX + 1 : d->count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__cmd cmd;
    struct po__doc d = {0};
    struct po__buf steps = {0};
    json_t *keep;
    int rv = po__spec_pipeline(&d, (const char *)data, len, &cmd, &keep, &steps);
    FUZZ_CHECK(rv == 0 || rv == PO_EINVAL);
    FUZZ_CHECK((keep != NULL) == (rv == 0));
    if (rv == 0)
        check_command(&cmd);
    else
        check_problems(&d);
    json_decref(keep);
    po__buf_fini(&steps);
    po__buf_fini(&d.problems);
    return 0;
}

/* Most random bytes have no business in JSON; they become what has. */
void fuzz_mend(uint8_t *data, size_t len)
{
    static const char instead[] = "\"\"\\,,:[]{}${}..()!=<>&|@09abe ";
    for (size_t i = 0; i < len; i++)
        if (data[i] < ' ' || data[i] > '~')
            data[i] = (uint8_t)instead[data[i] % (sizeof instead - 1)];
}

void fuzz_seeds(void)
{
    static const char *const seeds[] = {
        "{\"name\":\"p\",\"start_node\":\"a\",\"steps\":[{\"name\":\"a\",\"capability\":\"v:n\","
        "\"next_node\":\"b\",\"config\":{\"k\":[1.5,null]},\"timeout_ms\":500},{\"name\":\"b\","
        "\"capability\":\"v:m\",\"attempts_max\":2}]}",
        "{\"name\":\"p\",\"version\":\"1\",\"params\":{\"a\":{\"type\":\"array\",\"required\":true}"
        ","
        "\"n\":{\"type\":\"number\",\"default\":1e2}},\"service_registry\":{\"x\":\"v:n@^1.2\"},"
        "\"steps\":[{\"name\":\"a\",\"capability\":\"x\",\"map\":\"${params.a}\",\"input\":["
        "\"${item}\",\"${index}\"],\"map_parallel\":3},{\"name\":\"b\",\"pipeline\":\"q\","
        "\"depends_on\":[\"a\"],\"when\":\"len(steps.a.output) > 1 && params.n < 3\"}],"
        "\"output\":\"${steps.b.output} of ${run.id}\"}",
        "{\"name\":\"p\",\"steps\":[{\"name\":\"a\",\"capability\":\"v:n\",\"next_node\":\"c\"},"
        "{\"name\":\"b\",\"capability\":\"v:n\",\"placement\":{\"zone\":\"z\",\"labels\":{\"k\":"
        "\"v\",\"m\":{\"not\":\"w\"},\"o\":true},\"gpu\":\"required\",\"resources\":{\"gpus\":1},"
        "\"prefer\":\"local\"},\"retry\":{\"delay_ms\":5,\"delay_max_ms\":9},\"priority\":9},"
        "{\"name\":\"c\",\"capability\":\"v:n\",\"depends_on\":[\"b\"],\"join\":\"all_done\","
        "\"on_failure\":\"continue\",\"cache\":{\"ttl_ms\":5},\"input\":\"${steps.a.state}\"}]}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
}
