/* Cron expressions. What is read as one ticks, if ever more rarely, and each tick is a whole minute
 * later than the one before. */
#include "fuzz.h"

#include "../unit/calendar/zones.h"
#include "calendar/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct po__zone *berlin;
    char why[512] = "";
    struct po__cron c;
    uint64_t at_ms = UINT64_C(1700000000123), next_ms;
    if (!berlin)
        FUZZ_CHECK(po__zone_parse(&berlin, zone_file("Europe/Berlin")->data,
                                  zone_file("Europe/Berlin")->len, why, sizeof why) == 0);
    if (po__cron_parse(&c, po__slice(data, len), why, sizeof why)) {
        FUZZ_CHECK(why[0]);
        return 0;
    }
    for (int i = 0; i < 5; i++) { /* one that never ticks is no expression */
        FUZZ_CHECK(po__cron_next(&c, berlin, at_ms, &next_ms) == 0);
        FUZZ_CHECK(next_ms > at_ms && next_ms % 60000 == 0);
        at_ms = next_ms;
    }
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    static const char *const texts[] = {"*/15 * * * *", "30 2 * * MON-FRI", "0 8-18/2 1,15 * *",
                                        "0 0 29 2 *",   "0 0 13 * FRI",     "@hourly",
                                        "@daily",       "@weekly",          "@monthly",
                                        "@yearly",      "59 23 31 12 7",    "1,2,3-5 * * JAN *"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        fuzz_seed(texts[i], strlen(texts[i]));
}
