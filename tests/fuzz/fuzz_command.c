/* Commands: what is decoded encodes to bytes that decode to the same, and the canonical bytes are a
 * fixed point. */
#include "fuzz.h"

#include "../unit/model/samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__cmd cmd, again;
    struct po__mpr r;
    char message[256];
    po__mpr_init(&r, data, len);
    int loose = po__cmd_decode(&r, &cmd, false) || po__mpr_end(&r);
    po__mpr_init(&r, data, len);
    int strict = po__cmd_decode(&r, &again, true) || po__mpr_end(&r);
    FUZZ_CHECK(!loose || strict); /* strict never accepts more */
    if (loose)
        return 0;
    po__cmd_check(&cmd, message, sizeof message);
    struct po__buf once = {0}, twice = {0};
    po__cmd_encode(&once, &cmd);
    FUZZ_CHECK(once.err == 0);
    po__mpr_init(&r, once.data, once.len);
    FUZZ_CHECK(po__cmd_decode(&r, &again, true) == 0 && po__mpr_end(&r) == 0);
    po__cmd_encode(&twice, &again);
    FUZZ_CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    po__buf_fini(&once);
    po__buf_fini(&twice);
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
    for (unsigned i = 0; i < SAMPLES_COUNT; i++) {
        sample(&cmd, i, &steps);
        po__buf_reset(&b);
        po__cmd_encode(&b, &cmd);
        fuzz_seed(b.data, b.len);
    }
    po__buf_fini(&b);
    po__buf_fini(&steps);
}
