/* Checksums, buffers, allocation failure, lists, error codes, log lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/crc32c.h"
#include "base/list.h"
#include "base/log.h"

/* RFC 3720, appendix B.4, and the check value of the CRC catalogue. */
static void test_crc_vectors(void **state)
{
    (void)state;
    uint8_t b[32] = {0};
    assert_int_equal(po__crc32c(0, b, 32), 0x8a9136aau);
    memset(b, 0xff, 32);
    assert_int_equal(po__crc32c(0, b, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(po__crc32c(0, b, 32), 0x46dd794eu);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(po__crc32c(0, b, 32), 0x113fdb5cu);
    assert_int_equal(po__crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(po__crc32c(0, "", 0), 0);
}

static void test_crc_portable_and_continued(void **state)
{
    (void)state;
    static uint8_t data[4200];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i * 31 + i);
    for (size_t len = 0; len < 300; len++) {
        const uint8_t *p = data + len % 9; /* unaligned starts too */
        uint32_t whole = po__crc32c(0, p, len);
        assert_int_equal(whole, po__crc32c_portable(0, p, len));
        size_t cut = len * 2 / 3;
        assert_int_equal(whole, po__crc32c(po__crc32c(0, p, cut), p + cut, len - cut));
        assert_int_equal(whole, po__crc32c_portable(po__crc32c(0, p, cut), p + cut, len - cut));
    }
    assert_int_equal(po__crc32c(0, data, sizeof data), po__crc32c_portable(0, data, sizeof data));
}

static void test_buf_bounds(void **state)
{
    (void)state;
    struct po__buf b;
    po__buf_init(&b, 100);
    assert_int_equal(po__buf_append(&b, "0123456789", 10), 0);
    assert_int_equal(po__buf_append(&b, NULL, 0), 0);
    assert_int_equal(po__buf_reserve(&b, 90), 0);
    assert_int_equal(po__buf_reserve(&b, 91), PO_ETOOBIG);
    assert_int_equal(po__buf_append(&b, "x", 1), PO_ETOOBIG); /* sticky, content untouched */
    assert_int_equal(b.len, 10);
    assert_memory_equal(b.data, "0123456789", 10);
    po__buf_reset(&b);
    assert_int_equal(b.err, 0);
    assert_int_equal(b.len, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(po__buf_append(&b, "0123456789", 10), 0);
    assert_int_equal(po__buf_append(&b, "x", 1), PO_ETOOBIG);
    po__buf_fini(&b);
    assert_int_equal(po__buf_append(&b, "again", 5), 0);
    po__buf_fini(&b);
    struct po__buf zero = {0};
    assert_int_equal(po__buf_reserve(&zero, PO__BUF_MAX_BYTES + 1), PO_ETOOBIG);
    assert_int_equal(zero.err, PO_ETOOBIG);
    po__buf_fini(&zero);
    struct po__buf wrap = {0};
    assert_int_equal(po__buf_append(&wrap, "x", 1), 0);
    assert_int_equal(po__buf_reserve(&wrap, SIZE_MAX), PO_ETOOBIG); /* no wrap-around */
    po__buf_fini(&wrap);
}

static void test_buf_printf(void **state)
{
    (void)state;
    struct po__buf b;
    char longer[1200];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    po__buf_init(&b, 2000);
    assert_int_equal(po__buf_printf(&b, "%s-%d", "x", 5), 0);
    assert_int_equal(po__buf_printf(&b, "%s", longer), 0);
    assert_int_equal(b.len, 3 + 1199);
    assert_memory_equal(b.data, "x-5aaa", 6);
    assert_int_equal(po__buf_printf(&b, "%s", longer), PO_ETOOBIG);
    assert_int_equal(b.len, 3 + 1199);
    po__buf_fini(&b);
}

static void test_allocation_failure(void **state)
{
    (void)state;
    struct po__buf b = {0};
    po__alloc_fail_at(1);
    assert_null(po__malloc(10));
    po__alloc_fail_at(2);
    void *p = po__malloc(10);
    assert_non_null(p);
    assert_null(po__realloc(p, 20));
    assert_int_equal(po__alloc_count(), 2);
    void *q = po__realloc(p, 30); /* only that one failed */
    assert_non_null(q);
    po__free(q);
    po__alloc_fail_at(1);
    assert_null(po__calloc(2, 3));
    po__alloc_fail_at(1);
    assert_null(po__memdup("abc", 3));
    po__alloc_fail_at(1);
    assert_null(po__strndup("abc", 3));
    po__alloc_fail_at(1);
    assert_int_equal(po__buf_append(&b, "abc", 3), PO_ENOMEM);
    assert_int_equal(po__buf_append(&b, "abc", 3), PO_ENOMEM); /* sticky */
    assert_int_equal(b.len, 0);
    po__alloc_fail_at(0);
    po__buf_reset(&b);
    assert_int_equal(po__buf_append(&b, "abc", 3), 0);
    po__buf_fini(&b);
    assert_null(po__calloc(SIZE_MAX / 2, 3)); /* overflow */
    p = po__malloc(0);
    assert_non_null(p);
    po__free(p);
    p = po__memdup("", 0);
    assert_non_null(p);
    po__free(p);
    char *s = po__strndup("abcdef", 3);
    assert_string_equal(s, "abc");
    po__free(s);
    po__free(NULL);
}

static void test_list(void **state)
{
    (void)state;
    struct po__list head, n[3], *it;
    po__list_init(&head);
    assert_null(po__list_pop(&head));
    for (int i = 0; i < 3; i++)
        po__list_init(&n[i]);
    po__list_push(&head, &n[1]);
    po__list_push(&head, &n[2]);
    po__list_push_front(&head, &n[0]);
    int i = 0;
    po__list_each(it, &head) assert_ptr_equal(it, &n[i++]);
    assert_int_equal(i, 3);
    po__list_remove(&n[1]);
    po__list_remove(&n[1]); /* harmless */
    assert_ptr_equal(po__list_pop(&head), &n[0]);
    assert_ptr_equal(po__list_first(&head), &n[2]);
    assert_ptr_equal(po__list_pop(&head), &n[2]);
    assert_true(po__list_empty(&head));
}

/* The numbers are on the wire and in other people's programs. */
static void test_error_codes_are_frozen(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
    } frozen[] = {
        {-1, "PO_EINVAL"},     {-2, "PO_ENOMEM"},       {-3, "PO_EBUSY"},
        {-4, "PO_ETOOBIG"},    {-5, "PO_ECLOSED"},      {-6, "PO_ETIMEDOUT"},
        {-7, "PO_EUNKNOWN"},   {-8, "PO_ENOTLEADER"},   {-9, "PO_ENOLEADER"},
        {-10, "PO_ENOTFOUND"}, {-11, "PO_EEXISTS"},     {-12, "PO_ESTALE"},
        {-19, "PO_EIO"},       {-20, "PO_ENOSPACE"},    {-21, "PO_ECORRUPT"},
        {-22, "PO_ELOCKED"},   {-23, "PO_EIDENTITY"},   {-24, "PO_ENOTBOOTSTRAPPED"},
        {-27, "PO_EFAULT"},    {-30, "PO_ESTALE_READ"},
    };
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        assert_string_equal(po_err_name(frozen[i].code), frozen[i].name);
        assert_true(strlen(po_strerror(frozen[i].code)) > 3);
    }
    assert_string_equal(po_err_name(0), "0");
    assert_string_equal(po_err_name(-9999), "PO_E?");
    assert_int_equal(po_err_retryable(PO_EBUSY), 1);
    assert_int_equal(po_err_retryable(PO_ECORRUPT), 0);
    assert_int_equal(po_err_retryable(-9999), 0);
}

static void on_log(void *arg, const struct po_log_event *ev)
{
    char *out = arg;
    strcat(out, ev->id);
    strcat(out, "=");
    strcat(out, ev->message);
    strcat(out, ";");
}

static void test_log(void **state)
{
    (void)state;
    char out[200] = "";
    struct po__logger l = {.cb = on_log, .arg = out, .level = PO_LOG_INFO, .name = "n"};
    po__info(&l, "a.b", "one\nline %d", 7);
    po__debug(&l, "a.c", "too detailed");
    po__error(&l, "a.d", "bad");
    assert_string_equal(out, "a.b=one line 7;a.d=bad;");
    l.cb = NULL;
    po__error(&l, "a.d", "nobody listens");
    po__error(NULL, "a.d", "nobody listens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc_vectors),
        cmocka_unit_test(test_crc_portable_and_continued),
        cmocka_unit_test(test_buf_bounds),
        cmocka_unit_test(test_buf_printf),
        cmocka_unit_test(test_allocation_failure),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_error_codes_are_frozen),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
