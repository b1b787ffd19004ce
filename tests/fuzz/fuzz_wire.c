/* Frames between replicas: a frame is taken whole or refused whole, and one that is taken encodes
 * to the same bytes. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include "base/crc32c.h"
#include "consensus/le.h"
#include "consensus/wire.h"

#define CRC_AT 8
#define APPEND_HEAD_BYTES                                                                          \
    (PO__WIRE_HEAD_BYTES + 5 * 8) /* the sum does not cover the records, which have their own */

static void same_bytes(const struct po__msg *m, const uint8_t *data, size_t len)
{
    struct po__frame *f = po__wire_encode(m, NULL);
    size_t at = 0;
    FUZZ_CHECK(f && f->bytes == len);
    for (uint32_t i = 0; i < f->parts_count; at += f->parts[i].len, i++)
        FUZZ_CHECK(memcmp(data + at, f->parts[i].data, f->parts[i].len) == 0);
    FUZZ_CHECK(at == len);
    po__frame_unref(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__msg m;
    int rv = po__wire_decode(&m, data, len);
    FUZZ_CHECK(rv == 0 || rv == PO_EPROTO);
    if (rv)
        return 0;
    if (m.type != PO__MSG_APPEND)
        same_bytes(&m, data, len);
    for (uint32_t i = 0; m.type == PO__MSG_APPEND && i < m.append.count; i++)
        FUZZ_CHECK(m.append.recs[i]->index == m.append.prev_index + 1 + i);
    po__msg_fini(&m);
    return 0;
}

/* The records of an APPEND carry sums of their own. data is aligned. */
static void mend_records(uint8_t *data, size_t len)
{
    for (size_t at = APPEND_HEAD_BYTES; at + sizeof(struct po__rec) <= len;) {
        struct po__rec *r = (void *)(data + at);
        if (r->len > len || PO__REC_BYTES((size_t)r->len) > len - at)
            return;
        po__rec_seal(r);
        at += PO__REC_BYTES((size_t)r->len);
    }
}

void fuzz_mend(uint8_t *data, size_t len)
{
    bool append = len > 5 && data[5] == PO__MSG_APPEND;
    size_t summed = append ? APPEND_HEAD_BYTES : len;
    if (len < PO__WIRE_HEAD_BYTES || summed > len)
        return;
    if (append)
        mend_records(data, len);
    uint32_t crc = po__crc32c(0, data, CRC_AT);
    po__le32_put(data + CRC_AT, po__crc32c(crc, data + CRC_AT + 4, summed - CRC_AT - 4));
}

static void add(const struct po__msg *m, const struct po__log *log)
{
    uint8_t bytes[4096];
    size_t at = 0;
    struct po__frame *f = po__wire_encode(m, log);
    FUZZ_CHECK(f && f->bytes <= sizeof bytes);
    for (uint32_t i = 0; i < f->parts_count; at += f->parts[i].len, i++)
        memcpy(bytes + at, f->parts[i].data, f->parts[i].len);
    fuzz_seed(bytes, at);
    po__frame_unref(f);
}

static size_t configuration(uint8_t *bytes)
{
    struct po__conf c = {0};
    FUZZ_CHECK(po__conf_add(&c, 1, "a:1", PO__VOTER) == 0);
    FUZZ_CHECK(po__conf_add(&c, 2, "[::1]:7000", PO__STANDBY) == 0);
    return po__conf_encode(&c, bytes);
}

static void put(struct po__log *log, uint64_t index, uint64_t term, uint32_t type, const void *data,
                size_t len)
{
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    FUZZ_CHECK(b && po__log_reserve(log, 1) == 0);
    struct po__rec *r = (void *)b->data;
    *r = (struct po__rec){.len = (uint32_t)len, .index = index, .term = term, .type = type};
    memcpy(r + 1, data, len);
    po__rec_seal(r);
    po__log_append(log, b, r, index);
    po__block_unref(b);
}

static void add_append(const uint8_t *conf, size_t conf_len)
{
    struct po__msg m = {.type = PO__MSG_APPEND, .term = 3};
    struct po__log log;
    po__log_init(&log, 1);
    put(&log, 1, 1, 3, conf, conf_len); /* a configuration */
    put(&log, 2, 1, 1, "hello", 5);     /* commands */
    put(&log, 3, 3, 1, "", 0);
    put(&log, 4, 3, 1, "12345678", 8);
    m.append.commit = 2;
    for (m.append.count = 1; m.append.count <= 4; m.append.count++)
        add(&m, &log);
    po__log_fini(&log);
}

static void add_snapshot(const uint8_t *conf, size_t conf_len)
{
    struct po__msg m = {.type = PO__MSG_SNAPSHOT, .term = 5};
    m.snapshot.index = 9;
    m.snapshot.last_term = 4;
    m.snapshot.conf_index = 1;
    m.snapshot.size_bytes = 10;
    m.snapshot.conf = conf;
    m.snapshot.conf_len = (uint32_t)conf_len;
    m.snapshot.data = "0123456789";
    m.snapshot.data_len = 10;
    add(&m, NULL);
}

void fuzz_seeds(void)
{
    uint8_t conf[PO__CONF_MAX_BYTES];
    size_t conf_len = configuration(conf);
    add_append(conf, conf_len);
    add_snapshot(conf, conf_len);
    struct po__msg m = {.type = PO__MSG_VOTE, .term = 5};
    m.vote.candidate = 2, m.vote.last_index = 9, m.vote.last_term = 4, m.vote.pre_vote = true;
    add(&m, NULL);
    m = (struct po__msg){.type = PO__MSG_VOTE_RESULT, .term = 5, .vote_result = {true, false}};
    add(&m, NULL);
    m = (struct po__msg){.type = PO__MSG_APPEND_RESULT, .term = 5, .append_result = {0, 9}};
    add(&m, NULL);
    m = (struct po__msg){.type = PO__MSG_TIMEOUT_NOW, .term = 5, .timeout_now = {9, 4}};
    add(&m, NULL);
    m = (struct po__msg){
        .type = PO__MSG_SNAPSHOT_ACK, .term = 5, .snapshot_ack = {9, 4, 100, false}};
    add(&m, NULL);
    m = (struct po__msg){.type = PO__MSG_PING, .term = 5, .ping = {3}};
    add(&m, NULL);
    m.type = PO__MSG_PONG;
    add(&m, NULL);
    m = (struct po__msg){.type = PO__MSG_APPEND, .term = 5}; /* a heartbeat */
    add(&m, NULL);
}
