/* The msgpack writer and reader: against msgpack-c, and against everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <msgpack.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "codec/mp.h"

static const uint64_t uints[] = {
    0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
static const int64_t ints[] = {
    0,         5,        -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN, INT64_C(-2147483649),
    INT64_MIN, INT64_MAX};
static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static char text[65536];

static void write_all(struct po__buf *b)
{
    po__mpw_array(b, 8);
    po__mpw_array(b, COUNT(uints));
    for (size_t i = 0; i < COUNT(uints); i++)
        po__mpw_uint(b, uints[i]);
    po__mpw_array(b, COUNT(ints));
    for (size_t i = 0; i < COUNT(ints); i++)
        po__mpw_int(b, ints[i]);
    po__mpw_array(b, COUNT(lengths));
    for (size_t i = 0; i < COUNT(lengths); i++)
        po__mpw_str(b, po__slice(text, lengths[i]));
    po__mpw_array(b, COUNT(lengths));
    for (size_t i = 0; i < COUNT(lengths); i++)
        po__mpw_bin(b, po__slice(text, lengths[i]));
    po__mpw_bool(b, true);
    po__mpw_bool(b, false);
    po__mpw_nil(b);
    po__mpw_map(b, 1);
    po__mpw_cstr(b, "key");
    po__mpw_array(b, 0);
}

static void read_all(struct po__mpr *r)
{
    assert_int_equal(po__mpr_peek(r), PO__MP_ARRAY);
    assert_int_equal(po__mpr_array(r, 8), 8);
    assert_int_equal(po__mpr_array(r, 100), COUNT(uints));
    for (size_t i = 0; i < COUNT(uints); i++)
        assert_true(po__mpr_uint(r, UINT64_MAX) == uints[i]);
    assert_int_equal(po__mpr_array(r, 100), COUNT(ints));
    for (size_t i = 0; i < COUNT(ints); i++)
        assert_true(po__mpr_int(r) == ints[i]);
    po__mpr_array(r, 100);
    for (size_t i = 0; i < COUNT(lengths); i++)
        assert_true(po__slice_eq(po__mpr_str(r, lengths[i]), po__slice(text, lengths[i])));
    po__mpr_array(r, 100);
    for (size_t i = 0; i < COUNT(lengths); i++)
        assert_true(po__slice_eq(po__mpr_bin(r, lengths[i]), po__slice(text, lengths[i])));
    assert_true(po__mpr_bool(r));
    assert_false(po__mpr_bool(r));
    assert_int_equal(po__mpr_peek(r), PO__MP_NIL);
    po__mpr_nil(r);
    assert_int_equal(po__mpr_map(r, 1), 1);
    assert_true(po__slice_eq(po__mpr_str(r, 3), po__str("key")));
    assert_int_equal(po__mpr_array(r, 0), 0);
    assert_int_equal(po__mpr_end(r), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct po__buf b = {0};
    struct po__mpr r;
    memset(text, 'x', sizeof text);
    write_all(&b);
    assert_int_equal(b.err, 0);
    po__mpr_init(&r, b.data, b.len);
    read_all(&r);
    po__mpr_init(&r, b.data, b.len);
    assert_true(po__slice_eq(po__mpr_raw(&r), po__buf_slice(&b)));
    assert_int_equal(po__mpr_end(&r), 0);

    /* msgpack-c reads the same bytes, and packs what it read into the same bytes. */
    msgpack_unpacked u;
    size_t off = 0;
    msgpack_unpacked_init(&u);
    assert_int_equal(msgpack_unpack_next(&u, (char *)b.data, b.len, &off), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(off, b.len);
    msgpack_sbuffer out;
    msgpack_packer pk;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&pk, &out, msgpack_sbuffer_write);
    assert_int_equal(msgpack_pack_object(&pk, u.data), 0);
    assert_int_equal(out.size, b.len);
    assert_memory_equal(out.data, b.data, b.len);
    msgpack_sbuffer_destroy(&out);
    msgpack_unpacked_destroy(&u);
    po__buf_fini(&b);
}

static void test_truncated(void **state)
{
    (void)state;
    struct po__buf b = {0};
    memset(text, 'x', sizeof text);
    po__mpw_array(&b, 5);
    po__mpw_uint(&b, UINT64_MAX);
    po__mpw_int(&b, -70000);
    po__mpw_str(&b, po__slice(text, 300));
    po__mpw_bin(&b, po__slice(text, 40));
    po__mpw_map(&b, 20);
    for (unsigned i = 0; i < 20; i++) {
        po__mpw_uint(&b, i);
        po__mpw_nil(&b);
    }
    for (size_t n = 0; n < b.len; n++) {
        struct po__mpr r;
        uint8_t *copy = po__memdup(b.data, n); /* so that a checker sees a read behind the end */
        po__mpr_init(&r, copy, n);
        po__mpr_skip(&r);
        assert_int_equal(po__mpr_end(&r), PO_EPROTO);
        po__mpr_init(&r, copy, n);
        po__mpr_array(&r, 5);
        po__mpr_uint(&r, UINT64_MAX);
        po__mpr_int(&r);
        po__mpr_str(&r, 300);
        po__mpr_bin(&r, 40);
        uint32_t pairs = po__mpr_map(&r, 20);
        for (uint32_t i = 0; i < pairs; i++) {
            po__mpr_uint(&r, 20);
            po__mpr_nil(&r);
        }
        assert_int_equal(po__mpr_end(&r), PO_EPROTO);
        po__free(copy);
    }
    po__buf_fini(&b);
}

/* Fields that a later version adds are counted; one that is missing is refused. */
static void test_fields(void **state)
{
    (void)state;
    struct po__buf b = {0};
    struct po__mpr r;
    po__mpw_array(&b, 3);
    for (unsigned i = 0; i < 3; i++)
        po__mpw_uint(&b, i);
    for (uint32_t known = 0; known <= 3; known++) {
        po__mpr_init(&r, b.data, b.len);
        assert_int_equal(po__mpr_fields(&r, known), 3 - known);
        po__mpr_skip_all(&r, known);
        po__mpr_skip_all(&r, 3 - known);
        assert_int_equal(po__mpr_end(&r), 0);
    }
    po__mpr_init(&r, b.data, b.len);
    assert_int_equal(po__mpr_fields(&r, 4), 0);
    assert_int_equal(r.err, PO_EPROTO);
    po__buf_fini(&b);
}

static void refused(const char *bytes, size_t len)
{
    struct po__mpr r;
    po__mpr_init(&r, bytes, len);
    po__mpr_skip(&r);
    assert_int_equal(po__mpr_end(&r), PO_EPROTO);
}
#define REFUSED(s) refused(s, sizeof(s) - 1)

static void test_malformed(void **state)
{
    (void)state;
    REFUSED("");
    REFUSED("\xc1");
    REFUSED("\xca\x00\x00\x00\x00");                 /* float */
    REFUSED("\xcb\x00\x00\x00\x00\x00\x00\x00\x00"); /* double */
    REFUSED("\xd4\x01\x00");                         /* extension */
    REFUSED("\xc7\x01\x01\x00");
    REFUSED("\xdd\xff\xff\xff\xff"); /* huge counts */
    REFUSED("\xdd\x05\xf5\xe1\x00");
    REFUSED("\xdf\xff\xff\xff\xff\x01\x01");
    REFUSED("\xdf\x80\x00\x00\x00\x01\x01");
    REFUSED("\xdb\xff\xff\xff\xff"
            "abc");
    REFUSED("\xc6\xff\xff\xff\xff"
            "abc");
    REFUSED("\x01\x01"); /* trailing byte */
    REFUSED("\x92\x01");
}

static void test_depth_and_nodes(void **state)
{
    (void)state;
    uint8_t deep[PO__MP_DEPTH_MAX + 2];
    struct po__mpr r;
    memset(deep, 0x91, sizeof deep);
    deep[PO__MP_DEPTH_MAX] = 0xc0;
    po__mpr_init(&r, deep, PO__MP_DEPTH_MAX + 1);
    po__mpr_skip(&r);
    assert_int_equal(po__mpr_end(&r), 0);
    deep[PO__MP_DEPTH_MAX] = 0x91;
    deep[PO__MP_DEPTH_MAX + 1] = 0xc0;
    refused((char *)deep, sizeof deep);

    size_t n = (size_t)PO__MP_NODES_MAX + 5;
    uint8_t *wide = po__calloc(1, n);
    memcpy(wide, "\xdd\x00\x10\x00\x00",
           5); /* PO__MP_NODES_MAX elements, with the array itself one too many */
    refused((char *)wide, n);
    memcpy(wide, "\xdd\x00\x0f\xff\xff", 5);
    po__mpr_init(&r, wide, n - 1);
    po__mpr_skip(&r);
    assert_int_equal(po__mpr_end(&r), 0);
    po__free(wide);
}

static void test_wrong_types_and_bounds(void **state)
{
    (void)state;
    struct po__buf b = {0};
    struct po__mpr r;
    po__mpw_array(&b, 3);
    po__mpw_uint(&b, 300);
    po__mpw_cstr(&b, "four");
    po__mpw_int(&b, -1);
#define OPEN po__mpr_init(&r, b.data, b.len)
    OPEN;
    assert_int_equal(po__mpr_array(&r, 2), 0);
    assert_int_equal(r.err, PO_EPROTO);
    OPEN;
    po__mpr_map(&r, 3);
    assert_int_equal(r.err, PO_EPROTO);
    OPEN;
    po__mpr_array(&r, 3);
    assert_int_equal(po__mpr_uint(&r, 299), 0);
    assert_int_equal(r.err, PO_EPROTO);
    assert_int_equal(po__mpr_str(&r, 4).len, 0); /* after an error everything reads as nothing */
    assert_int_equal(po__mpr_int(&r), 0);
    assert_int_equal(po__mpr_peek(&r), PO__MP_BAD);
    OPEN;
    po__mpr_array(&r, 3);
    po__mpr_uint(&r, 300);
    po__mpr_str(&r, 3);
    assert_int_equal(r.err, PO_EPROTO);
    OPEN;
    po__mpr_array(&r, 3);
    po__mpr_uint(&r, 300);
    po__mpr_bin(&r, 4);
    assert_int_equal(r.err, PO_EPROTO);
    OPEN;
    po__mpr_array(&r, 3);
    po__mpr_uint(&r, 300);
    po__mpr_str(&r, 4);
    po__mpr_uint(&r, UINT64_MAX); /* negative */
    assert_int_equal(po__mpr_end(&r), PO_EPROTO);
    OPEN;
    po__mpr_bool(&r);
    assert_int_equal(r.err, PO_EPROTO);
    OPEN;
    po__mpr_nil(&r);
    assert_int_equal(r.err, PO_EPROTO);
    po__buf_fini(&b);
    po__mpr_init(&r, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    po__mpr_int(&r); /* does not fit */
    assert_int_equal(r.err, PO_EPROTO);
    po__mpr_init(&r, "\xd1\x00\x05", 3); /* a positive number in a signed form */
    assert_int_equal(po__mpr_uint(&r, 5), 5);
    assert_int_equal(po__mpr_end(&r), 0);
    po__mpr_init(&r, NULL, 0);
    assert_int_equal(po__mpr_end(&r), 0);
}

static int str_err(const char *s, size_t len)
{
    struct po__buf b = {0};
    struct po__mpr r;
    po__mpw_str(&b, po__slice(s, len));
    po__mpr_init(&r, b.data, b.len);
    po__mpr_str(&r, 100);
    int err = po__mpr_end(&r);
    po__buf_fini(&b);
    return err;
}
#define UTF8(s) str_err(s, sizeof(s) - 1)

static void test_utf8(void **state)
{
    (void)state;
    assert_int_equal(UTF8("plain ascii of more than eight bytes"), 0);
    assert_int_equal(UTF8("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \xee\x80\x80"),
                     0);
    assert_int_equal(UTF8("a\0b"), PO_EPROTO);
    assert_int_equal(UTF8("eight byt\0es and more"), PO_EPROTO);
    assert_int_equal(UTF8("\x80"), PO_EPROTO);
    assert_int_equal(UTF8("\xc0\x80"), PO_EPROTO); /* overlong */
    assert_int_equal(UTF8("\xe0\x9f\xbf"), PO_EPROTO);
    assert_int_equal(UTF8("\xf0\x8f\xbf\xbf"), PO_EPROTO);
    assert_int_equal(UTF8("\xed\xa0\x80"), PO_EPROTO);     /* surrogate */
    assert_int_equal(UTF8("\xf4\x90\x80\x80"), PO_EPROTO); /* above U+10FFFF */
    assert_int_equal(UTF8("\xf5\x80\x80\x80"), PO_EPROTO);
    assert_int_equal(UTF8("abc\xe2\x82"), PO_EPROTO); /* cut */
    assert_int_equal(UTF8("\xe2\x28\xa1"), PO_EPROTO);
}

/* Whatever the bytes, reading ends and stays inside; what we accept, msgpack-c accepts. */
static void test_random_bytes(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252u;
    unsigned accepted = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[24];
        for (size_t k = 0; k < sizeof bytes; k += 8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            memcpy(bytes + k, &seed, 8);
        }
        size_t len = seed % sizeof bytes + 1;
        if (i & 1)
            bytes[0] = (uint8_t)(0x90 | (seed & 7));
        uint8_t *copy = po__memdup(bytes, len);
        struct po__mpr r;
        po__mpr_init(&r, copy, len);
        struct po__slice first = po__mpr_raw(&r);
        if (!r.err) {
            msgpack_unpacked u;
            size_t off = 0;
            msgpack_unpacked_init(&u);
            assert_int_equal(msgpack_unpack_next(&u, (char *)copy, len, &off),
                             MSGPACK_UNPACK_SUCCESS);
            assert_int_equal(off, first.len);
            msgpack_unpacked_destroy(&u);
            accepted++;
        }
        po__free(copy);
    }
    assert_true(accepted > 1000);
}

static void test_allocation_failure(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct po__buf b = {0};
        memset(text, 'x', sizeof text);
        po__alloc_fail_at(n);
        write_all(&b);
        bool failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_int_equal(b.err, failed ? PO_ENOMEM : 0);
        po__buf_fini(&b);
        if (!failed) {
            assert_true(n > 3);
            break;
        }
    }
    struct po__buf small;
    po__buf_init(&small, 4);
    po__mpw_cstr(&small, "too long");
    assert_int_equal(small.err, PO_ETOOBIG);
    po__buf_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_depth_and_nodes),
        cmocka_unit_test(test_wrong_types_and_bounds),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
