#include "wire.h"

#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/crc32c.h"
#include "le.h"

#define VERSION  1
#define CRC_AT   8
#define CRC_FROM 12

static const uint8_t magic[4] = {'P', 'O', 'R', 'F'};

/* Number of 64-bit fields of each type; 0: no such type. */
static const uint8_t fields_of[] = {
    [PO__MSG_VOTE] = 5,          [PO__MSG_VOTE_RESULT] = 2, [PO__MSG_APPEND] = 5,
    [PO__MSG_APPEND_RESULT] = 3, [PO__MSG_TIMEOUT_NOW] = 3, [PO__MSG_SNAPSHOT] = 9,
    [PO__MSG_SNAPSHOT_ACK] = 5,  [PO__MSG_PING] = 2,        [PO__MSG_PONG] = 2,
};
#define TYPES_COUNT (sizeof fields_of / sizeof fields_of[0])

static size_t pad8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static uint32_t frame_crc(const uint8_t *p, size_t summed)
{
    return po__crc32c(po__crc32c(0, p, CRC_AT), p + CRC_FROM, summed - CRC_FROM);
}

/* ---- fixed fields, one place for each direction ---- */

static void fields_put(const struct po__msg *m, uint64_t *f)
{
    f[0] = m->term;
    switch (m->type) {
    case PO__MSG_VOTE:
        f[1] = m->vote.candidate;
        f[2] = m->vote.last_index;
        f[3] = m->vote.last_term;
        f[4] = (m->vote.disrupt_leader ? 1u : 0) | (m->vote.pre_vote ? 2u : 0);
        break;
    case PO__MSG_VOTE_RESULT:
        f[1] = (m->vote_result.granted ? 1u : 0) | (m->vote_result.pre_vote ? 2u : 0);
        break;
    case PO__MSG_APPEND:
        f[1] = m->append.prev_index;
        f[2] = m->append.prev_term;
        f[3] = m->append.commit;
        f[4] = m->append.count;
        break;
    case PO__MSG_APPEND_RESULT:
        f[1] = m->append_result.rejected;
        f[2] = m->append_result.last_index;
        break;
    case PO__MSG_TIMEOUT_NOW:
        f[1] = m->timeout_now.last_index;
        f[2] = m->timeout_now.last_term;
        break;
    case PO__MSG_SNAPSHOT:
        f[1] = m->snapshot.index;
        f[2] = m->snapshot.last_term;
        f[3] = m->snapshot.conf_index;
        f[4] = m->snapshot.conf_len;
        f[5] = m->snapshot.size_bytes;
        f[6] = m->snapshot.crc;
        f[7] = m->snapshot.offset;
        f[8] = m->snapshot.data_len;
        break;
    case PO__MSG_SNAPSHOT_ACK:
        f[1] = m->snapshot_ack.index;
        f[2] = m->snapshot_ack.last_term;
        f[3] = m->snapshot_ack.offset;
        f[4] = m->snapshot_ack.refused ? 1 : 0;
        break;
    default:
        f[1] = m->ping.sequence;
    }
}

/* Each case checks what the core would only assert. All fields are below PO__WIRE_NUMBER_MAX
 * already. */
static int fields_get(struct po__msg *m, const uint64_t *f)
{
    bool ok = true;

    m->term = f[0];
    switch (m->type) {
    case PO__MSG_VOTE:
        m->vote.candidate = f[1];
        m->vote.last_index = f[2];
        m->vote.last_term = f[3];
        m->vote.disrupt_leader = f[4] & 1;
        m->vote.pre_vote = f[4] & 2;
        ok = m->term > 0 && f[1] > 0 && f[4] <= 3 && f[3] <= m->term && (f[2] == 0) == (f[3] == 0);
        break;
    case PO__MSG_VOTE_RESULT:
        m->vote_result.granted = f[1] & 1;
        m->vote_result.pre_vote = f[1] & 2;
        ok = f[1] <= 3;
        break;
    case PO__MSG_APPEND:
        m->append.prev_index = f[1];
        m->append.prev_term = f[2];
        m->append.commit = f[3];
        m->append.count = (uint32_t)f[4];
        ok = m->term > 0 && (f[1] == 0) == (f[2] == 0) && f[2] <= m->term &&
             f[4] <= PO__WIRE_RECORDS_MAX;
        break;
    case PO__MSG_APPEND_RESULT:
        m->append_result.rejected = f[1];
        m->append_result.last_index = f[2];
        break;
    case PO__MSG_TIMEOUT_NOW:
        m->timeout_now.last_index = f[1];
        m->timeout_now.last_term = f[2];
        ok = m->term > 0 && f[1] > 0 && f[2] > 0 && f[2] <= m->term;
        break;
    case PO__MSG_SNAPSHOT:
        m->snapshot.index = f[1];
        m->snapshot.last_term = f[2];
        m->snapshot.conf_index = f[3];
        m->snapshot.conf_len = (uint32_t)f[4];
        m->snapshot.size_bytes = f[5];
        m->snapshot.crc = (uint32_t)f[6];
        m->snapshot.offset = f[7];
        m->snapshot.data_len = (uint32_t)f[8];
        ok = m->term > 0 && f[1] > 0 && f[2] > 0 && f[2] <= m->term && f[3] > 0 && f[3] <= f[1] &&
             f[4] > 0 && f[4] <= PO__CONF_MAX_BYTES && f[6] <= UINT32_MAX &&
             f[8] <= PO__SNAPSHOT_CHUNK_MAX_BYTES && f[7] <= f[5] && f[8] <= f[5] - f[7] &&
             (f[8] > 0 || f[5] == 0);
        break;
    case PO__MSG_SNAPSHOT_ACK:
        m->snapshot_ack.index = f[1];
        m->snapshot_ack.last_term = f[2];
        m->snapshot_ack.offset = f[3];
        m->snapshot_ack.refused = f[4] == 1;
        ok = f[1] > 0 && f[2] > 0 && f[4] <= 1;
        break;
    default:
        m->ping.sequence = f[1];
    }
    return ok ? 0 : PO_EPROTO;
}

/* ---- decoding ---- */

/* The record at `at`: whole, intact, the next index, a term that neither falls nor exceeds the
 * sender's, a known type. */
static int record_check(const struct po__msg *m, const struct po__rec *r, size_t avail,
                        uint64_t index, uint64_t term_before)
{
    struct po__conf conf;

    if (avail < sizeof *r || r->len > PO__RECORD_MAX_BYTES || PO__REC_BYTES(r->len) > avail)
        return PO_EPROTO;
    if (po__rec_check(r, avail))
        return PO_EPROTO;
    if (r->index != index || r->term == 0 || r->term < term_before || r->term > m->term ||
        r->type < 1 || r->type > 3 || r->reserved != 0)
        return PO_EPROTO;
    if (index == 1 && r->type != 3) /* every log begins with a configuration */
        return PO_EPROTO;
    if (r->type == 3 && po__conf_decode(&conf, po__rec_payload(r), r->len))
        return PO_EPROTO;
    return 0;
}

static int records_get(struct po__msg *m, const uint8_t *data, size_t len)
{
    uint32_t count = m->append.count;
    uint64_t term = m->append.prev_term;
    size_t at = 0;
    int rv = PO_EPROTO;

    if (count == 0)
        return len == 0 ? 0 : PO_EPROTO;
    if (len / sizeof(struct po__rec) < count) /* before anything is allocated for the count */
        return PO_EPROTO;
    m->append.block = po__block_new(len);
    m->append.recs = po__calloc(count, sizeof *m->append.recs);
    if (!m->append.block || !m->append.recs) {
        rv = PO_ENOMEM;
        goto err;
    }
    memcpy(m->append.block->data, data, len);
    for (uint32_t i = 0; i < count; i++) {
        const struct po__rec *r = (const void *)((const uint8_t *)m->append.block->data + at);
        if (record_check(m, r, len - at, m->append.prev_index + 1 + i, term))
            goto err;
        m->append.recs[i] = r;
        term = r->term;
        at += PO__REC_BYTES(r->len);
    }
    if (at != len)
        goto err;
    return 0;

err:
    po__msg_fini(m);
    return rv;
}

static int snapshot_get(struct po__msg *m, const uint8_t *data, size_t len)
{
    size_t conf_padded = pad8(m->snapshot.conf_len);
    struct po__conf conf;

    if (len != conf_padded + m->snapshot.data_len)
        return PO_EPROTO;
    for (size_t i = m->snapshot.conf_len; i < conf_padded; i++)
        if (data[i])
            return PO_EPROTO;
    if (po__conf_decode(&conf, data, m->snapshot.conf_len))
        return PO_EPROTO;
    m->snapshot.conf = data;
    m->snapshot.data = data + conf_padded;
    return 0;
}

int po__wire_decode(struct po__msg *m, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t f[PO__WIRE_FIELDS_MAX] = {0};

    memset(m, 0, sizeof *m);
    if (len < PO__WIRE_HEAD_BYTES || len > PO__FRAME_MAX_BYTES || memcmp(p, magic, 4) != 0 ||
        p[4] != VERSION || p[5] >= TYPES_COUNT || fields_of[p[5]] == 0 || p[6] || p[7] ||
        po__le32_get(p + 12) != 0)
        return PO_EPROTO;
    m->type = p[5];
    unsigned count = fields_of[m->type];
    size_t fixed = PO__WIRE_HEAD_BYTES + 8 * (size_t)count;
    if (len < fixed)
        return PO_EPROTO;
    size_t summed = m->type == PO__MSG_APPEND ? fixed : len;
    if (frame_crc(p, summed) != po__le32_get(p + CRC_AT))
        return PO_EPROTO;
    for (unsigned i = 0; i < count; i++) {
        f[i] = po__le64_get(p + PO__WIRE_HEAD_BYTES + 8 * i);
        /* Server ids and sequence numbers are opaque; everything else is a quantity. */
        bool opaque = i == 1 && (m->type == PO__MSG_VOTE || m->type >= PO__MSG_PING);
        if (!opaque && f[i] >= PO__WIRE_NUMBER_MAX)
            return PO_EPROTO;
    }
    if (fields_get(m, f))
        return PO_EPROTO;
    if (m->type == PO__MSG_APPEND)
        return records_get(m, p + fixed, len - fixed);
    if (m->type == PO__MSG_SNAPSHOT)
        return snapshot_get(m, p + fixed, len - fixed);
    return len == fixed ? 0 : PO_EPROTO;
}

void po__msg_fini(struct po__msg *m)
{
    if (m->type != PO__MSG_APPEND)
        return;
    po__block_unref(m->append.block);
    po__free(m->append.recs);
    m->append.block = NULL;
    m->append.recs = NULL;
}

/* ---- encoding ---- */

/* The frame, its parts, the blocks they point into, and the bytes that belong to no block: one
 * allocation. */
struct wire_frame {
    struct po__frame base;
    struct po__block **blocks;
    uint32_t blocks_count;
    uint64_t own[]; /* header and fixed fields, configuration and data of a snapshot chunk; then
                       parts; then blocks */
};

static void frame_free(struct po__frame *f)
{
    struct wire_frame *w = po__container_of(f, struct wire_frame, base);
    for (uint32_t i = 0; i < w->blocks_count; i++)
        po__block_unref(w->blocks[i]);
    po__free(w);
}

static struct wire_frame *frame_new(size_t own_bytes, size_t records_max)
{
    size_t parts_at = pad8(own_bytes);
    size_t blocks_at = parts_at + (1 + records_max) * sizeof(struct po__slice);
    struct wire_frame *w =
        po__malloc(sizeof *w + blocks_at + records_max * sizeof(struct po__block *));

    if (!w)
        return NULL;
    w->base = (struct po__frame){.refs = 1, .free = frame_free, .parts_count = 1};
    w->base.parts = (void *)((uint8_t *)w->own + parts_at);
    w->blocks = (void *)((uint8_t *)w->own + blocks_at);
    w->blocks_count = 0;
    w->base.parts[0] = po__slice(w->own, own_bytes);
    w->base.bytes = (uint32_t)own_bytes;
    return w;
}

/* Records next to each other in one block become one part. */
static void frame_add_record(struct wire_frame *w, const struct po__log_slot *s)
{
    struct po__slice *last = &w->base.parts[w->base.parts_count - 1];
    size_t len = PO__REC_BYTES(s->rec->len);

    w->base.bytes += (uint32_t)len;
    if (w->blocks_count && w->blocks[w->blocks_count - 1] == s->block &&
        last->data + last->len == (const char *)s->rec) {
        last->len += len;
        return;
    }
    if (w->blocks_count == 0 || w->blocks[w->blocks_count - 1] != s->block)
        w->blocks[w->blocks_count++] = po__block_ref(s->block);
    w->base.parts[w->base.parts_count++] = po__slice(s->rec, len);
}

struct po__frame *po__wire_encode(const struct po__msg *m, const struct po__log *log)
{
    uint64_t f[PO__WIRE_FIELDS_MAX] = {0};
    unsigned count = fields_of[m->type];
    size_t fixed = PO__WIRE_HEAD_BYTES + 8 * (size_t)count, own = fixed;
    size_t conf_padded = 0;

    if (m->type == PO__MSG_SNAPSHOT) {
        conf_padded = pad8(m->snapshot.conf_len);
        own += conf_padded + m->snapshot.data_len;
    }
    struct wire_frame *w = frame_new(own, m->type == PO__MSG_APPEND ? m->append.count : 0);
    if (!w)
        return NULL;
    uint8_t *p = (uint8_t *)w->own;
    memcpy(p, magic, 4);
    p[4] = VERSION;
    p[5] = (uint8_t)m->type;
    p[6] = p[7] = 0;
    po__le32_put(p + 12, 0);
    fields_put(m, f);
    for (unsigned i = 0; i < count; i++)
        po__le64_put(p + PO__WIRE_HEAD_BYTES + 8 * i, f[i]);
    if (m->type == PO__MSG_SNAPSHOT) {
        memset(p + fixed, 0, conf_padded);
        memcpy(p + fixed, m->snapshot.conf, m->snapshot.conf_len);
        if (m->snapshot.data_len)
            memcpy(p + fixed + conf_padded, m->snapshot.data, m->snapshot.data_len);
    }
    po__le32_put(p + CRC_AT, frame_crc(p, own));
    if (m->type == PO__MSG_APPEND) {
        for (uint32_t i = 0; i < m->append.count; i++) {
            const struct po__log_slot *s = po__log_get(log, m->append.prev_index + 1 + i);
            PO_INVARIANT(s);
            frame_add_record(w, s);
        }
    }
    PO_INVARIANT(w->base.bytes <= PO__FRAME_MAX_BYTES);
    return &w->base;
}
