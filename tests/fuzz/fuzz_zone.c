/* Files of time zones. What is read as one answers for every instant, and schedules tick in it. */
#include "fuzz.h"

#include "../unit/calendar/zones.h"
#include "calendar/cron.h"

static void check_spans(const struct po__zone *z)
{
    int64_t at_s = -INT64_C(3000000000);
    for (int i = 0; i < 200 && at_s < INT64_C(9000000000); i++) {
        struct po__zone_span s = po__zone_span(z, at_s);
        FUZZ_CHECK(s.from_s <= at_s && at_s < s.to_s);
        FUZZ_CHECK(s.offset_s >= -100000 && s.offset_s <= 100000);
        at_s = s.to_s - at_s < 100000000 ? s.to_s : at_s + 100000000;
    }
}

static void check_ticks(const struct po__zone *z, const char *text)
{
    struct po__cron c;
    uint64_t at_ms = UINT64_C(1300000000123), next_ms;
    FUZZ_CHECK(po__cron_parse(&c, po__str(text), NULL, 0) == 0);
    for (int i = 0; i < 20 && po__cron_next(&c, z, at_ms, &next_ms) == 0; i++) {
        FUZZ_CHECK(next_ms > at_ms && next_ms < PO__CRON_END_MS);
        at_ms = next_ms;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char why[256];
    struct po__zone *z = NULL;
    if (po__zone_parse(&z, data, len, why, sizeof why)) {
        FUZZ_CHECK(z == NULL && why[0]);
        return 0;
    }
    check_spans(z);
    check_ticks(z, "30 2 * * *");
    check_ticks(z, "*/15 * * * *");
    check_ticks(z, "0 0 29 2 *");
    po__zone_close(z);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    for (size_t i = 0; i < ZONES; i++)
        fuzz_seed(zone_files[i].data, zone_files[i].len);
}
