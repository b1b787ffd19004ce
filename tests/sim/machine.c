#include <string.h>

#include "sim.h"

#include "consensus/le.h"

/* Ballast: so many bytes per command applied, up to a bound; a function of the digest, so that a
 * wrong byte shows. Some runs draw enough of it for snapshots of many chunks. */
#define BALLAST_MAX (3 * PO__SNAPSHOT_CHUNK_MAX_BYTES)

size_t machine_ballast_per_command;

static uint64_t mix(uint64_t a, uint64_t b)
{
    a ^= b + UINT64_C(0x9E3779B97F4A7C15) + (a << 6) + (a >> 2);
    a *= UINT64_C(0xBF58476D1CE4E5B9);
    return a ^ (a >> 29);
}

void machine_init(struct machine *m)
{
    *m = (struct machine){.digest = 1};
}

void machine_apply(struct machine *m, uint64_t index, uint64_t command)
{
    m->index = index;
    m->commands++;
    m->digest = mix(m->digest, mix(index, command));
}

size_t machine_snapshot_size(const struct machine *m)
{
    size_t ballast = (size_t)m->commands * machine_ballast_per_command;
    return MACHINE_HEAD_BYTES + (ballast < BALLAST_MAX ? ballast : BALLAST_MAX);
}

/* Bytes [from, from + len) of the snapshot of m. */
static void bytes_at(const struct machine *m, size_t from, uint8_t *to, size_t len)
{
    uint8_t word[8];
    size_t loaded = SIZE_MAX;

    for (size_t i = from; i < from + len; i++) {
        if (i / 8 != loaded) {
            loaded = i / 8;
            po__le64_put(word, loaded == 0   ? m->index
                               : loaded == 1 ? m->commands
                               : loaded == 2 ? m->digest
                                             : mix(m->digest, loaded));
        }
        *to++ = word[i % 8];
    }
}

int machine_snapshot_step(struct machine_snapshot *s, struct po__buf *out, size_t budget)
{
    size_t left = s->size - s->offset, len = left < budget ? left : budget;

    if (po__buf_reserve(out, len))
        return out->err;
    bytes_at(&s->frozen, s->offset, out->data + out->len, len);
    out->len += len;
    s->offset += len;
    if (s->offset < s->size)
        return 0;
    s->active = false;
    return 1;
}

int machine_restore_chunk(struct machine_restore *r, const uint8_t *data, size_t len)
{
    uint8_t expected[4096];

    for (; len && r->offset < MACHINE_HEAD_BYTES; len--)
        r->head[r->offset++] = *data++;
    if (r->offset == MACHINE_HEAD_BYTES) {
        r->fresh.index = po__le64_get(r->head);
        r->fresh.commands = po__le64_get(r->head + 8);
        r->fresh.digest = po__le64_get(r->head + 16);
    }
    while (len) {
        size_t n = len < sizeof expected ? len : sizeof expected;
        bytes_at(&r->fresh, r->offset, expected, n);
        r->bad |= memcmp(expected, data, n) != 0;
        r->offset += n;
        data += n;
        len -= n;
    }
    return 0;
}

int machine_restore_end(struct machine_restore *r, struct machine *m)
{
    if (r->bad || r->offset < MACHINE_HEAD_BYTES || r->offset != machine_snapshot_size(&r->fresh))
        return PO_ECORRUPT;
    *m = r->fresh;
    return 0;
}
