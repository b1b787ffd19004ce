/* Log entries. */
#include "fuzz.h"

#include "../unit/model/samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__cmd cmd;
    struct po__entry_reader er;
    uint32_t read = 0;
    int rv;
    if (po__entry_open(&er, data, len))
        return 0;
    FUZZ_CHECK(er.left <= PO__ENTRY_COMMANDS_MAX);
    while ((rv = po__entry_next(&er, &cmd)) == 1)
        FUZZ_CHECK(++read <= PO__ENTRY_COMMANDS_MAX);
    FUZZ_CHECK(rv <= 0);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    static struct po__cmd cmd;
    struct po__buf b = {0}, steps = {0};
    for (unsigned from = 0; from < SAMPLES_COUNT; from += 3) {
        po__buf_reset(&b);
        po__entry_begin(&b, 1700000000000);
        for (unsigned i = 0; i < 5; i++) {
            sample(&cmd, (from + i) % SAMPLES_COUNT, &steps);
            po__cmd_encode(&b, &cmd);
        }
        po__entry_finish(&b, 0, 5);
        fuzz_seed(b.data, b.len);
    }
    po__buf_fini(&b);
    po__buf_fini(&steps);
}
