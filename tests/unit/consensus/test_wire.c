/* Frames: every message survives the trip; nothing that is cut off, flipped or absurd is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "consensus/le.h"
#include "consensus/wire.h"

struct bytes {
    uint8_t *data;
    size_t len;
};

static struct bytes flatten(struct po__frame *f)
{
    struct bytes b = {malloc(f->bytes), 0};
    assert_non_null(b.data);
    for (uint32_t i = 0; i < f->parts_count; i++) {
        memcpy(b.data + b.len, f->parts[i].data, f->parts[i].len);
        b.len += f->parts[i].len;
    }
    assert_int_equal(b.len, f->bytes);
    po__frame_unref(f);
    return b;
}

/* The checksum of a frame that was tampered with on purpose: fixed fields only, or all of it. */
static void reseal(struct bytes b, size_t summed)
{
    po__le32_put(b.data + 8, po__crc32c(po__crc32c(0, b.data, 8), b.data + 12, summed - 12));
}

static size_t conf_bytes(uint8_t *buf)
{
    struct po__conf c = {0};
    assert_int_equal(po__conf_add(&c, 1, "a:1", PO__VOTER), 0);
    assert_int_equal(po__conf_add(&c, 2, "b:2", PO__STANDBY), 0);
    return po__conf_encode(&c, buf);
}

static void log_put(struct po__log *log, uint64_t index, uint64_t term, uint32_t type,
                    const void *data, size_t len)
{
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    struct po__rec *r = (void *)b->data;
    *r = (struct po__rec){.len = (uint32_t)len, .index = index, .term = term, .type = type};
    memcpy(r + 1, data, len);
    po__rec_seal(r);
    assert_int_equal(po__log_reserve(log, 1), 0);
    po__log_append(log, b, r, index);
    po__block_unref(b);
}

/* A configuration at 1, commands at 2 (term 1), 3 and 4 (term 3). */
static void log_make(struct po__log *log)
{
    uint8_t conf[PO__CONF_MAX_BYTES];
    po__log_init(log, 1);
    size_t len = conf_bytes(conf);
    log_put(log, 1, 1, 3, conf, len);
    log_put(log, 2, 1, 1, "hello", 5);
    log_put(log, 3, 3, 1, "", 0);
    log_put(log, 4, 3, 1, "12345678", 8);
}

static struct bytes append_frame(void)
{
    struct po__msg m = {.type = PO__MSG_APPEND, .term = 3};
    struct po__log log;

    log_make(&log);
    m.append.commit = 2;
    m.append.count = 4;
    struct po__frame *f = po__wire_encode(&m, &log);
    assert_non_null(f);
    po__log_fini(&log); /* the frame keeps the blocks */
    return flatten(f);
}

static struct bytes frame_of(int type)
{
    struct po__msg m = {.type = type, .term = 7};
    static uint8_t conf[PO__CONF_MAX_BYTES];

    switch (type) {
    case PO__MSG_VOTE:
        m.vote.candidate = UINT64_MAX; /* ids are opaque */
        m.vote.last_index = 9;
        m.vote.last_term = 6;
        m.vote.pre_vote = true;
        break;
    case PO__MSG_VOTE_RESULT:
        m.vote_result.granted = true;
        break;
    case PO__MSG_APPEND:
        return append_frame();
    case PO__MSG_APPEND_RESULT:
        m.append_result.rejected = 5;
        m.append_result.last_index = 4;
        break;
    case PO__MSG_TIMEOUT_NOW:
        m.timeout_now.last_index = 9;
        m.timeout_now.last_term = 7;
        break;
    case PO__MSG_SNAPSHOT:
        m.snapshot.index = 50;
        m.snapshot.last_term = 6;
        m.snapshot.conf_index = 3;
        m.snapshot.conf = conf;
        m.snapshot.conf_len = (uint32_t)conf_bytes(conf);
        m.snapshot.size_bytes = 100;
        m.snapshot.crc = 0xdeadbeef;
        m.snapshot.offset = 10;
        m.snapshot.data = "snapshot";
        m.snapshot.data_len = 8;
        break;
    case PO__MSG_SNAPSHOT_ACK:
        m.snapshot_ack.index = 50;
        m.snapshot_ack.last_term = 6;
        m.snapshot_ack.offset = 18;
        m.snapshot_ack.refused = true;
        break;
    default:
        m.ping.sequence = UINT64_MAX;
    }
    struct po__frame *f = po__wire_encode(&m, NULL);
    assert_non_null(f);
    return flatten(f);
}

static void test_round_trip(void **state)
{
    struct po__msg m;
    (void)state;

    for (int type = PO__MSG_VOTE; type <= PO__MSG_PONG; type++) {
        struct bytes b = frame_of(type);
        assert_int_equal(po__wire_decode(&m, b.data, b.len), 0);
        assert_int_equal(m.type, type);
        switch (type) {
        case PO__MSG_VOTE:
            assert_true(m.term == 7 && m.vote.candidate == UINT64_MAX && m.vote.last_index == 9 &&
                        m.vote.last_term == 6 && m.vote.pre_vote && !m.vote.disrupt_leader);
            break;
        case PO__MSG_VOTE_RESULT:
            assert_true(m.vote_result.granted && !m.vote_result.pre_vote);
            break;
        case PO__MSG_APPEND:
            assert_true(m.term == 3 && m.append.count == 4 && m.append.commit == 2);
            assert_memory_equal(po__rec_payload(m.append.recs[1]), "hello", 5);
            assert_int_equal(m.append.recs[3]->index, 4);
            assert_int_equal(m.append.recs[3]->term, 3);
            break;
        case PO__MSG_APPEND_RESULT:
            assert_true(m.append_result.rejected == 5 && m.append_result.last_index == 4);
            break;
        case PO__MSG_TIMEOUT_NOW:
            assert_true(m.timeout_now.last_index == 9 && m.timeout_now.last_term == 7);
            break;
        case PO__MSG_SNAPSHOT:
            assert_true(m.snapshot.index == 50 && m.snapshot.offset == 10 &&
                        m.snapshot.size_bytes == 100 && m.snapshot.crc == 0xdeadbeef &&
                        m.snapshot.data_len == 8);
            assert_memory_equal(m.snapshot.data, "snapshot", 8);
            break;
        case PO__MSG_SNAPSHOT_ACK:
            assert_true(m.snapshot_ack.refused && m.snapshot_ack.offset == 18);
            break;
        default:
            assert_true(m.ping.sequence == UINT64_MAX);
        }
        po__msg_fini(&m);
        free(b.data);
    }
}

static void test_every_truncation(void **state)
{
    struct po__msg m;
    (void)state;

    for (int type = PO__MSG_VOTE; type <= PO__MSG_PONG; type++) {
        struct bytes b = frame_of(type);
        for (size_t len = 0; len < b.len; len++) {
            uint8_t *cut = malloc(len ? len : 1); /* exactly so long, for the sanitizer */
            memcpy(cut, b.data, len);
            assert_int_equal(po__wire_decode(&m, cut, len), PO_EPROTO);
            free(cut);
        }
        uint8_t *longer = calloc(1, b.len + 8);
        memcpy(longer, b.data, b.len);
        assert_int_equal(po__wire_decode(&m, longer, b.len + 8), PO_EPROTO);
        assert_int_equal(po__wire_decode(&m, longer, b.len + 1), PO_EPROTO);
        free(longer);
        free(b.data);
    }
}

static void test_every_bit(void **state)
{
    struct po__msg m;
    (void)state;

    for (int type = PO__MSG_VOTE; type <= PO__MSG_PONG; type++) {
        struct bytes b = frame_of(type);
        for (size_t bit = 0; bit < 8 * b.len; bit++) {
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(po__wire_decode(&m, b.data, b.len), PO_EPROTO);
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(po__wire_decode(&m, b.data, b.len), 0);
        po__msg_fini(&m);
        free(b.data);
    }
}

/* Field by field, values that no honest peer sends, under a right checksum: the decoder's own
 * checks must refuse. */
static void test_absurd_fields(void **state)
{
    static const struct {
        int type;
        unsigned field;
        uint64_t value;
    } cases[] = {
        {PO__MSG_VOTE, 0, 0},            /* no term */
        {PO__MSG_VOTE, 0, UINT64_MAX},   /* a term that wraps */
        {PO__MSG_VOTE, 1, 0},            /* nobody */
        {PO__MSG_VOTE, 3, 8},            /* a last term from the future */
        {PO__MSG_VOTE, 2, 0},            /* a term without an entry */
        {PO__MSG_VOTE, 4, 4},            /* an unknown flag */
        {PO__MSG_VOTE_RESULT, 1, 4},     /* an unknown flag */
        {PO__MSG_APPEND, 0, 2},          /* entries from a later term than the sender's */
        {PO__MSG_APPEND, 1, 7},          /* entries that do not follow prev */
        {PO__MSG_APPEND, 2, 1},          /* a prev term without a prev */
        {PO__MSG_APPEND, 3, UINT64_MAX}, /* commit */
        {PO__MSG_APPEND, 4, 3},          /* fewer than there are */
        {PO__MSG_APPEND, 4, 5},          /* more than there are */
        {PO__MSG_APPEND, 4, PO__WIRE_RECORDS_MAX + 1},
        {PO__MSG_APPEND, 4, UINT32_MAX},
        {PO__MSG_APPEND, 4, UINT64_MAX},
        {PO__MSG_APPEND_RESULT, 1, UINT64_MAX},
        {PO__MSG_APPEND_RESULT, 2, UINT64_MAX},
        {PO__MSG_TIMEOUT_NOW, 1, 0},
        {PO__MSG_TIMEOUT_NOW, 2, 8},
        {PO__MSG_SNAPSHOT, 1, 0},                 /* no index */
        {PO__MSG_SNAPSHOT, 2, 8},                 /* from the future */
        {PO__MSG_SNAPSHOT, 3, 51},                /* a configuration behind the snapshot */
        {PO__MSG_SNAPSHOT, 4, 0},                 /* no configuration */
        {PO__MSG_SNAPSHOT, 4, 1u << 31},          /* a huge one */
        {PO__MSG_SNAPSHOT, 5, 17},                /* data beyond the end */
        {PO__MSG_SNAPSHOT, 6, UINT64_C(1) << 32}, /* not a CRC */
        {PO__MSG_SNAPSHOT, 7, 93},                /* data beyond the end */
        {PO__MSG_SNAPSHOT, 8, 0},                 /* an empty piece of something */
        {PO__MSG_SNAPSHOT, 8, UINT64_C(1) << 40}, /* a huge piece */
        {PO__MSG_SNAPSHOT_ACK, 1, 0},
        {PO__MSG_SNAPSHOT_ACK, 4, 2},
    };
    struct po__msg m;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes b = frame_of(cases[i].type);
        po__le64_put(b.data + PO__WIRE_HEAD_BYTES + 8 * cases[i].field, cases[i].value);
        reseal(b, cases[i].type == PO__MSG_APPEND ? PO__WIRE_HEAD_BYTES + 40 : b.len);
        if (po__wire_decode(&m, b.data, b.len) != PO_EPROTO)
            fail_msg("case %zu: type %d, field %u was accepted", i, cases[i].type, cases[i].field);
        free(b.data);
    }
}

/* A record with a right checksum that says something impossible. */
static void test_absurd_records(void **state)
{
    struct po__msg m;
    (void)state;

    for (int what = 0; what < 7; what++) {
        struct bytes b = append_frame();
        struct po__rec r;
        size_t at = PO__WIRE_HEAD_BYTES + 40;
        memcpy(&r, b.data + at, sizeof r);
        size_t second = at + PO__REC_BYTES(r.len);
        at = what < 2 ? at : second;
        memcpy(&r, b.data + at, sizeof r);
        switch (what) {
        case 0:
            r.type = 1; /* a log that does not begin with a configuration */
            break;
        case 1:
            b.data[at + sizeof r] = 9; /* a configuration of an unknown format */
            break;
        case 2:
            r.index = 9; /* not the next */
            break;
        case 3:
            r.term = 0;
            break;
        case 4:
            r.term = 4; /* later than the sender's */
            break;
        case 5:
            r.type = 4;
            break;
        default:
            r.type = 3; /* "hello" is no configuration */
        }
        size_t len = PO__REC_BYTES(r.len);
        struct po__rec *copy = malloc(len); /* aligned */
        memcpy(copy, b.data + at, len);
        *copy = r;
        po__rec_seal(copy);
        memcpy(b.data + at, copy, len);
        free(copy);
        if (po__wire_decode(&m, b.data, b.len) != PO_EPROTO)
            fail_msg("record case %d was accepted", what);
        free(b.data);
    }
}

static void test_out_of_memory(void **state)
{
    struct bytes b = append_frame();
    struct po__msg m;
    (void)state;

    for (uint64_t n = 1;; n++) {
        po__alloc_fail_at(n);
        int rv = po__wire_decode(&m, b.data, b.len);
        po__alloc_fail_at(0);
        if (rv == 0)
            break;
        assert_int_equal(rv, PO_ENOMEM);
        assert_true(n < 100);
    }
    po__msg_fini(&m);
    free(b.data);
}

static void test_records_share_blocks(void **state)
{
    struct bytes b = append_frame();
    struct po__msg m, out = {.type = PO__MSG_APPEND, .term = 3};
    struct po__log log;
    (void)state;

    assert_int_equal(po__wire_decode(&m, b.data, b.len), 0);
    po__log_init(&log, 1);
    assert_int_equal(po__log_reserve(&log, 4), 0);
    for (unsigned i = 0; i < 4; i++)
        po__log_append(&log, m.append.block, m.append.recs[i], 1);
    po__msg_fini(&m);
    out.append.commit = 2;
    out.append.count = 4;
    struct po__frame *f = po__wire_encode(&out, &log);
    assert_int_equal(f->parts_count, 2); /* the header, and one run of records */
    po__log_fini(&log);
    struct bytes again = flatten(f);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
    free(again.data);
    free(b.data);
}

static void test_configurations(void **state)
{
    uint8_t buf[PO__CONF_MAX_BYTES + 8];
    struct po__conf c, d;
    (void)state;

    size_t len = conf_bytes(buf);
    assert_int_equal(po__conf_decode(&c, buf, len), 0);
    assert_int_equal(c.count, 2);
    assert_string_equal(c.servers[1].address, "b:2");
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(po__conf_decode(&d, buf, cut), PO_EPROTO);
    memset(buf + len, 0, 8);
    assert_int_equal(po__conf_decode(&d, buf, len + 8), PO_EPROTO);
    /* Bit flips either give another valid configuration or are refused; none reads out of bounds
     * (sanitizer). */
    for (size_t bit = 0; bit < 8 * len; bit++) {
        uint8_t *exact = malloc(len);
        memcpy(exact, buf, len);
        exact[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (po__conf_decode(&d, exact, len) == 0)
            assert_true(d.count == 2 && po__conf_voters(&d) > 0);
        free(exact);
    }
    po__le64_put(buf + 1, UINT64_MAX); /* count */
    assert_int_equal(po__conf_decode(&d, buf, len), PO_EPROTO);
    assert_int_equal(po__conf_add(&c, 2, "c:3", PO__VOTER), PO_EEXISTS);
    assert_int_equal(po__conf_add(&c, 3, "b:2", PO__VOTER), PO_EEXISTS);
    assert_int_equal(po__conf_add(&c, 0, "c:3", PO__VOTER), PO_EINVAL);
    assert_int_equal(po__conf_add(&c, 3, "", PO__VOTER), PO_EINVAL);
    assert_int_equal(po__conf_add(&c, 3, "c:3", 3), PO_EINVAL);
    for (uint64_t id = 3; c.count < PO_MEMBERS_MAX; id++) {
        char address[PO_ADDRESS_MAX_BYTES + 1];
        memset(address, 'x', sizeof address - 1);
        address[sizeof address - 1] = 0;
        address[0] = (char)('a' + id);
        assert_int_equal(po__conf_add(&c, id, address, PO__SPARE), 0);
    }
    assert_int_equal(po__conf_add(&c, 99, "z:9", PO__VOTER), PO_EQUOTA);
    len = po__conf_encode(&c, buf);
    assert_true(len <= PO__CONF_MAX_BYTES);
    assert_int_equal(po__conf_decode(&d, buf, len), 0);
    assert_true(po__conf_equal(&c, &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_absurd_fields),
        cmocka_unit_test(test_absurd_records),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_records_share_blocks),
        cmocka_unit_test(test_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
