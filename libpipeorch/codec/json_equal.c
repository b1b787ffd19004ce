/* Whether two values mean the same. Objects are mostly written by the same program, with their
 * members in the same order: then nothing is allocated. Otherwise the members of both are sorted.
 */
#include "json_value.h"

#include <stdlib.h>

#include <pipeorch/error.h>

/* Depth is bounded by po__json_ok: recursion is, too. */
static int equal(struct po__slice a, struct po__slice b, uint64_t *work);

static bool take(uint64_t *work, size_t bytes)
{
    if (*work < bytes) {
        *work = 0;
        return false;
    }
    *work -= bytes;
    return true;
}

static int equal_in_order(struct po__slice a, struct po__slice b, uint64_t *work)
{
    struct po__json_iter x, y;
    po__json_iter(&x, a);
    po__json_iter(&y, b);
    for (;;) {
        bool more_x = po__json_next(&x), more_y = po__json_next(&y);
        if (!more_x || !more_y)
            return more_x == more_y;
        int rv = equal(x.value, y.value, work);
        if (rv != 1)
            return rv;
    }
}

enum order { OTHER_COUNT, OTHER_ORDER, SAME_ORDER };

static enum order compare_keys(struct po__slice a, struct po__slice b)
{
    struct po__json_iter x, y;
    enum order order = SAME_ORDER;
    po__json_iter(&x, a);
    po__json_iter(&y, b);
    for (;;) {
        bool more_x = po__json_next(&x), more_y = po__json_next(&y);
        if (!more_x || !more_y)
            return more_x == more_y ? order : OTHER_COUNT;
        if (order == SAME_ORDER && po__json_string_cmp(x.key, y.key) != 0)
            order = OTHER_ORDER;
    }
}

struct member {
    struct po__slice key, value;
};

static int by_key(const void *a, const void *b)
{
    return po__json_string_cmp(((const struct member *)a)->key, ((const struct member *)b)->key);
}

static void sorted(struct po__buf *b, struct po__slice object)
{
    struct po__json_iter it;
    for (po__json_iter(&it, object); po__json_next(&it);) {
        struct member m = {it.key, it.value};
        po__buf_append(b, &m, sizeof m);
    }
    if (!b->err && b->len)
        qsort(b->data, b->len / sizeof(struct member), sizeof(struct member), by_key);
}

static int equal_sorted(const struct member *x, const struct member *y, size_t count,
                        uint64_t *work)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && by_key(&x[i - 1], &x[i]) == 0)
            return 0; /* twice */
        if (by_key(&x[i], &y[i]) != 0)
            return 0;
    }
    for (size_t i = 0; i < count; i++) {
        int rv = equal(x[i].value, y[i].value, work);
        if (rv != 1)
            return rv;
    }
    return 1;
}

static int equal_objects(struct po__slice a, struct po__slice b, uint64_t *work)
{
    enum order order = compare_keys(a, b);
    if (order != OTHER_ORDER)
        return order == SAME_ORDER ? equal_in_order(a, b, work) : 0;
    struct po__buf x = {0}, y = {0};
    int rv = PO_ETOOBIG;
    if (take(work, (a.len + b.len) * 8)) { /* what sorting costs, roughly */
        sorted(&x, a);
        sorted(&y, b);
        rv = x.err ? x.err : y.err;
        if (!rv)
            rv = equal_sorted((const struct member *)(const void *)x.data,
                              (const struct member *)(const void *)y.data,
                              x.len / sizeof(struct member), work);
    }
    po__buf_fini(&x);
    po__buf_fini(&y);
    return rv;
}

static int equal(struct po__slice a, struct po__slice b, uint64_t *work)
{
    enum po__json_type type = po__json_type(a);
    if (!take(work, a.len + b.len))
        return PO_ETOOBIG;
    if (type != po__json_type(b))
        return 0;
    switch (type) {
    case PO__JSON_NULL:
        return 1;
    case PO__JSON_BOOLEAN:
        return po__json_is_true(a) == po__json_is_true(b);
    case PO__JSON_NUMBER:
        return po__json_number_cmp(a, b) == 0;
    case PO__JSON_STRING:
        return po__json_string_cmp(a, b) == 0;
    case PO__JSON_ARRAY:
        return equal_in_order(a, b, work);
    case PO__JSON_OBJECT:
        return equal_objects(a, b, work);
    }
    return 0;
}

int po__json_equal(struct po__slice a, struct po__slice b, uint64_t *work)
{
    return equal(a, b, work);
}

/* ---- hashes ---- */

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

/* Members are added up: their order does not count. */
static uint64_t hash_nested(struct po__slice value, uint64_t *work)
{
    struct po__json_iter it;
    uint64_t h = 0;
    for (po__json_iter(&it, value); po__json_next(&it);) {
        uint64_t one = mix(po__json_hash(it.value, work));
        if (it.object)
            h += mix(one + po__json_string_hash(it.key));
        else
            h = mix(h + one);
    }
    return h;
}

uint64_t po__json_hash(struct po__slice value, uint64_t *work)
{
    enum po__json_type type = po__json_type(value);
    uint64_t h = 0;
    if (!take(work, value.len))
        return 0;
    switch (type) {
    case PO__JSON_NULL:
        break;
    case PO__JSON_BOOLEAN:
        h = po__json_is_true(value);
        break;
    case PO__JSON_NUMBER:
        h = po__json_number_hash(value);
        break;
    case PO__JSON_STRING:
        h = po__json_string_hash(value);
        break;
    case PO__JSON_ARRAY:
    case PO__JSON_OBJECT:
        h = hash_nested(value, work);
        break;
    }
    return mix(h * 8 + type);
}
