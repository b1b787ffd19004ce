/* The msgpack reader: whatever po__mpr_skip accepts ends where it says, and reading it object by
 * object accepts it too. */
#include "fuzz.h"

#include "codec/mp.h"

static void walk(struct po__mpr *r, unsigned depth)
{
    uint32_t n;
    switch (po__mpr_peek(r)) {
    case PO__MP_NIL:
        po__mpr_nil(r);
        break;
    case PO__MP_BOOL:
        po__mpr_bool(r);
        break;
    case PO__MP_UINT:
        po__mpr_uint(r, UINT64_MAX);
        break;
    case PO__MP_INT:
        po__mpr_int(r);
        break;
    case PO__MP_STR:
        po__mpr_str(r, SIZE_MAX);
        break;
    case PO__MP_BIN:
        po__mpr_bin(r, SIZE_MAX);
        break;
    case PO__MP_ARRAY:
        n = po__mpr_array(r, UINT32_MAX);
        for (; n && !r->err && depth <= PO__MP_DEPTH_MAX; n--)
            walk(r, depth + 1);
        break;
    case PO__MP_MAP:
        n = po__mpr_map(r, UINT32_MAX);
        for (; n && !r->err && depth <= PO__MP_DEPTH_MAX; n--) {
            walk(r, depth + 1);
            walk(r, depth + 1);
        }
        break;
    default:
        po__mpr_fail(r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__mpr a, b;
    po__mpr_init(&a, data, len);
    po__mpr_init(&b, data, len);
    struct po__slice s = po__mpr_raw(&a);
    walk(&b, 1);
    if (!a.err) {
        FUZZ_CHECK(s.data == (const char *)data && s.len <= len);
        FUZZ_CHECK(a.p == data + s.len);
        FUZZ_CHECK(b.err || b.p == a.p);
    }
    FUZZ_CHECK(a.p <= data + len && b.p <= data + len);
    po__mpr_skip(&a);
    po__mpr_end(&a);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    struct po__buf b = {0};
    po__mpw_array(&b, 7);
    po__mpw_uint(&b, 300);
    po__mpw_int(&b, -70000);
    po__mpw_cstr(&b, "text \xc3\xa9");
    po__mpw_bin(&b, po__slice("\0\1\2", 3));
    po__mpw_bool(&b, true);
    po__mpw_nil(&b);
    po__mpw_map(&b, 2);
    po__mpw_cstr(&b, "a");
    po__mpw_array(&b, 0);
    po__mpw_cstr(&b, "b");
    po__mpw_uint(&b, UINT64_MAX);
    fuzz_seed(b.data, b.len);
    po__buf_reset(&b);
    for (unsigned i = 0; i < PO__MP_DEPTH_MAX; i++)
        po__mpw_array(&b, 1);
    po__mpw_uint(&b, 1);
    fuzz_seed(b.data, b.len);
    fuzz_seed("\xdd\xff\xff\xff\xff", 5);
    fuzz_seed("\xdd\x05\xf5\xe1\x00", 5);
    fuzz_seed("\xdf\xff\xff\xff\xff\xc0", 6);
    fuzz_seed("\xc6\xff\xff\xff\xff\x00", 6);
    po__buf_fini(&b);
}
