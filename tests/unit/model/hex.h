/* Golden files: bytes in hexadecimal, one entry or snapshot per line of a C string. */
#ifndef PO__TEST_HEX_H
#define PO__TEST_HEX_H

#include "fixture.h"

static inline void hex(FILE *f, const void *data, size_t len)
{
    fputs("    \"", f);
    for (size_t i = 0; i < len; i++)
        fprintf(f, "%02x%s", ((const uint8_t *)data)[i],
                i % 56 == 55 && i + 1 < len ? "\"\n    \"" : "");
    fputs("\\n\"\n", f);
}

/* w->cmd was applied at w->index; write it as an entry of its own. */
static inline void record(FILE *f, struct world *w)
{
    struct po__buf e = {0};
    po__entry_begin(&e, w->now_ms);
    po__cmd_encode(&e, &w->decoded);
    po__entry_finish(&e, 0, 1);
    hex(f, e.data, e.len);
    po__buf_fini(&e);
}

static inline FILE *open_in(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    return f;
}

static inline void unhex_line(const char **at, struct po__buf *out)
{
    po__buf_reset(out);
    while (**at && **at != '\n') {
        unsigned byte;
        assert_int_equal(sscanf(*at, "%2x", &byte), 1);
        uint8_t b = (uint8_t)byte;
        po__buf_append(out, &b, 1);
        *at += 2;
    }
    *at += **at == '\n';
}

#endif
