/* Queries of a model, and their answers as text: jansson is not below this layer, so a small
 * printer does. */
#ifndef PO__TEST_ANSWER_H
#define PO__TEST_ANSWER_H

#include "sched.h"

static struct world w;
static struct po__buf out, text;
static const char *message;

static inline int setup(void **state)
{
    (void)state;
    world_open(&w, NULL);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    world_close(&w);
    po__buf_fini(&out);
    po__buf_fini(&text);
    return 0;
}

/* Prints the next object, and insists that the keys of maps are sorted. */
static inline void print(struct po__mpr *r)
{
    struct po__slice key, before;
    uint32_t n;
    switch (po__mpr_peek(r)) {
    case PO__MP_NIL:
        po__mpr_nil(r);
        po__buf_printf(&text, "nil");
        break;
    case PO__MP_BOOL:
        po__buf_printf(&text, po__mpr_bool(r) ? "true" : "false");
        break;
    case PO__MP_UINT:
        po__buf_printf(&text, "%llu", (unsigned long long)po__mpr_uint(r, UINT64_MAX));
        break;
    case PO__MP_STR:
        key = po__mpr_str(r, SIZE_MAX);
        po__buf_printf(&text, "%.*s", (int)key.len, key.data);
        break;
    case PO__MP_ARRAY:
        n = po__mpr_array(r, UINT32_MAX);
        po__buf_printf(&text, "[");
        for (uint32_t i = 0; i < n; i++) {
            po__buf_printf(&text, i ? "," : "");
            print(r);
        }
        po__buf_printf(&text, "]");
        break;
    case PO__MP_MAP:
        n = po__mpr_map(r, UINT32_MAX);
        po__buf_printf(&text, "{");
        for (uint32_t i = 0; i < n; i++) {
            key = po__mpr_str(r, 64);
            assert_true(i == 0 || po__slice_cmp(before, key) < 0);
            before = key;
            po__buf_printf(&text, "%s%.*s=", i ? " " : "", (int)key.len, key.data);
            print(r);
        }
        po__buf_printf(&text, "}");
        break;
    default:
        fail_msg("unexpected object in an answer");
    }
}

static inline int ask_query(const struct po__query *q)
{
    struct po__mpr r;
    po__buf_reset(&out);
    po__buf_reset(&text);
    int rv = po__model_query(w.m, q, &out, &message);
    assert_int_equal(rv != 0, message[0] != '\0');
    if (rv)
        return rv;
    po__mpr_init(&r, out.data, out.len);
    print(&r);
    po__buf_append(&text, "", 1);
    assert_int_equal(po__mpr_end(&r), 0);
    return 0;
}

static inline int ask(int what, uint64_t id, const char *name, const char *name2, uint32_t limit)
{
    const struct po__query q = {
        .what = what, .id = id, .name = po__str(name), .name2 = po__str(name2), .limit = limit};
    return ask_query(&q);
}

static inline void expect(const char *expected)
{
    assert_string_equal((char *)text.data, expected);
}

static inline void expect_part(const char *part)
{
    if (!strstr((char *)text.data, part))
        fail_msg("\"%s\" does not contain \"%s\"", (char *)text.data, part);
}

#endif
