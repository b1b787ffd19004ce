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

/* Every entry in order. Returns 0, or the first return of po__model_apply that is not. */
static inline int apply_entries(struct po__model *m, const char *entries, struct po__effects *fx)
{
    static struct po__cmd cmd;
    struct po__buf entry = {0};
    struct po__entry_reader er;
    uint64_t index = 0;
    int rv = 0;
    for (const char *at = entries; *at && !rv;) {
        unhex_line(&at, &entry);
        if (entry.err) {
            rv = entry.err;
            break;
        }
        assert_int_equal(po__entry_open(&er, entry.data, entry.len), 0);
        index++;
        while (!rv && po__entry_next(&er, &cmd) == 1)
            rv = po__model_apply(m, index, er.now_ms, &cmd, NULL, fx);
        assert_int_equal(rv ? 0 : po__mpr_end(&er.r), 0);
    }
    po__buf_fini(&entry);
    return rv;
}

/* The snapshot gives the state of this digest in w, which is open and empty; and this version still
 * writes this format. */
static inline void expect_snapshot(struct world *w, const char *hex_line, uint64_t expected)
{
    struct po__buf bytes = {0}, again = {0};
    unhex_line(&hex_line, &bytes);
    assert_int_equal(restore(w->m, bytes.data, bytes.len, 100), 0);
    assert_true(digest(w->m) == expected);
    snapshot(w->m, &again);
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.data, bytes.data, bytes.len);
    po__buf_fini(&bytes);
    po__buf_fini(&again);
}

#endif
