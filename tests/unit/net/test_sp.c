/* The bytes of SP, in every way that they can arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "net/sp.h"

#define MAX 1000

/* A hello, and messages of 0, 1, 300 and MAX bytes. */
static const size_t sizes[] = {0, 1, 300, MAX, 0, 7};
#define SIZES (sizeof sizes / sizeof *sizes)

static struct po__buf stream(void)
{
    struct po__buf b = {0};
    uint8_t hello[PO__SP_HELLO_BYTES], length[PO__SP_LENGTH_BYTES];
    po__sp_hello(hello, PO__SP_REQ);
    po__buf_append(&b, hello, sizeof hello);
    for (unsigned i = 0; i < SIZES; i++) {
        po__sp_length(length, sizes[i]);
        po__buf_append(&b, length, sizeof length);
        for (size_t k = 0; k < sizes[i]; k++)
            po__buf_append(&b, &(char){(char)(i + k)}, 1);
    }
    assert_int_equal(b.err, 0);
    return b;
}

struct seen {
    unsigned greeted, messages;
};

static int feed(struct po__sp_reader *r, struct seen *s, const void *data, size_t len)
{
    struct po__slice input = po__slice(data, len), m;
    for (;;) {
        int event = po__sp_read(r, &input, &m);
        if (event < 0 || event == PO__SP_MORE)
            return event;
        s->greeted += event == PO__SP_GREETED;
        if (event != PO__SP_MESSAGE)
            continue;
        assert_int_equal(s->greeted, 1);
        assert_true(s->messages < SIZES);
        assert_int_equal(m.len, sizes[s->messages]);
        for (size_t k = 0; k < m.len; k++)
            assert_int_equal(m.data[k], (char)(s->messages + k));
        s->messages++;
    }
}

static void pieces_of_every_size_give_the_same(void **state)
{
    struct po__buf all = stream();
    (void)state;
    for (size_t piece = 1; piece <= all.len; piece++) {
        struct po__sp_reader r;
        struct seen s = {0};
        po__sp_reader_init(&r, PO__SP_REQ, MAX);
        for (size_t off = 0; off < all.len; off += piece) {
            size_t n = all.len - off < piece ? all.len - off : piece;
            void *copy = po__memdup(all.data + off, n); /* so that reading beyond it is seen */
            assert_int_equal(feed(&r, &s, copy, n), PO__SP_MORE);
            po__free(copy);
        }
        assert_int_equal(s.greeted, 1);
        assert_int_equal(s.messages, SIZES);
        assert_null(r.body.data); /* nothing is held between messages */
        po__sp_reader_fini(&r);
    }
    po__buf_fini(&all);
}

static void a_length_alone_reserves_nothing(void **state)
{
    struct po__sp_reader r;
    struct seen s = {0};
    uint8_t bytes[PO__SP_HELLO_BYTES + PO__SP_LENGTH_BYTES + 1] = {0};
    (void)state;
    po__sp_hello(bytes, PO__SP_REQ);
    po__sp_length(bytes + PO__SP_HELLO_BYTES, 4u << 20);
    po__sp_reader_init(&r, PO__SP_REQ, 4u << 20);
    assert_int_equal(feed(&r, &s, bytes, sizeof bytes), PO__SP_MORE);
    assert_true(r.in_message && r.body.cap <= 4096);
    po__sp_reader_fini(&r);
}

static void what_is_not_sp_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } inputs[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18, PO_EPROTO},
        {"\0SP\1", 4, PO_EPROTO},
        {"\0SP\0\0\x31\0\0", 8, PO_EPROTO}, /* another protocol */
        {"\0SP\0\0\x30\0\1", 8, PO_EPROTO},
        {"\0SP\0\0\x30\0\0\0\0\0\0\0\0\3\xe9", 16, PO_ETOOBIG}, /* MAX + 1 */
        {"\0SP\0\0\x30\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16, PO_ETOOBIG},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        struct po__sp_reader r;
        struct seen s = {0};
        po__sp_reader_init(&r, PO__SP_REQ, MAX);
        assert_int_equal(feed(&r, &s, inputs[i].bytes, inputs[i].len), inputs[i].code);
        assert_int_equal(s.messages, 0);
        po__sp_reader_fini(&r);
    }
}

static void stacks_of_ids_are_bounded(void **state)
{
    uint8_t ids[PO__SP_IDS_MAX_BYTES + PO__SP_ID_BYTES] = {0};
    (void)state;
    assert_int_equal(po__sp_ids_len(po__slice("", 0)), 0);
    assert_int_equal(po__sp_ids_len(po__slice("\x80\0\0", 3)), 0);
    for (unsigned n = 1; n <= PO__SP_IDS_MAX + 1; n++) {
        memset(ids, 0, sizeof ids);
        po__sp_put_id(ids + (n - 1) * PO__SP_ID_BYTES, 5 | PO__SP_REQUEST_ID_BIT);
        size_t expected = n <= PO__SP_IDS_MAX ? n * PO__SP_ID_BYTES : 0;
        assert_int_equal(po__sp_ids_len(po__slice(ids, sizeof ids)), expected);
        assert_int_equal(po__sp_ids_len(po__slice(ids, n * PO__SP_ID_BYTES - 1)), 0);
        if (n <= PO__SP_IDS_MAX)
            assert_int_equal(po__sp_get_id(ids + expected - 4), 5 | PO__SP_REQUEST_ID_BIT);
    }
}

static void memory_that_is_not_there_is_told(void **state)
{
    struct po__buf all = stream();
    bool whole = false;
    (void)state;
    for (uint64_t n = 1; !whole; n++) {
        struct po__sp_reader r;
        struct seen s = {0};
        int rv = PO__SP_MORE;
        po__sp_reader_init(&r, PO__SP_REQ, MAX);
        po__alloc_fail_at(n);
        for (size_t off = 0; off < all.len && rv == PO__SP_MORE; off++)
            rv = feed(&r, &s, all.data + off, 1);
        po__alloc_fail_at(0);
        whole = rv == PO__SP_MORE;
        if (!whole)
            assert_int_equal(rv, PO_ENOMEM);
        assert_int_equal(s.messages == SIZES, whole);
        po__sp_reader_fini(&r);
    }
    po__buf_fini(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_every_size_give_the_same),
        cmocka_unit_test(a_length_alone_reserves_nothing),
        cmocka_unit_test(what_is_not_sp_is_refused),
        cmocka_unit_test(stacks_of_ids_are_bounded),
        cmocka_unit_test(memory_that_is_not_there_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
