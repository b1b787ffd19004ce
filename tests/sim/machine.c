#include "sim.h"

#include "consensus/le.h"

/* Ballast: so many bytes per command applied, up to a bound; a function of the digest, so that a
 * wrong byte shows. */
#define BALLAST_PER_COMMAND 32
#define BALLAST_MAX         (48 * 1024)

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
    size_t ballast = (size_t)m->commands * BALLAST_PER_COMMAND;
    return MACHINE_HEAD_BYTES + (ballast < BALLAST_MAX ? ballast : BALLAST_MAX);
}

static uint8_t byte_at(const struct machine *m, size_t i)
{
    uint8_t head[MACHINE_HEAD_BYTES];
    if (i >= MACHINE_HEAD_BYTES)
        return (uint8_t)(mix(m->digest, i / 8) >> (i % 8 * 8));
    po__le64_put(head, m->index);
    po__le64_put(head + 8, m->commands);
    po__le64_put(head + 16, m->digest);
    return head[i];
}

int machine_snapshot_step(struct machine_snapshot *s, struct po__buf *out, size_t budget)
{
    for (size_t i = 0; i < budget && s->offset < s->size; i++, s->offset++) {
        uint8_t b = byte_at(&s->frozen, s->offset);
        if (po__buf_append(out, &b, 1))
            return out->err;
    }
    if (s->offset < s->size)
        return 0;
    s->active = false;
    return 1;
}

int machine_restore_chunk(struct machine_restore *r, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++, r->offset++) {
        if (r->offset < MACHINE_HEAD_BYTES) {
            r->head[r->offset] = data[i];
            if (r->offset + 1 == MACHINE_HEAD_BYTES) {
                r->fresh.index = po__le64_get(r->head);
                r->fresh.commands = po__le64_get(r->head + 8);
                r->fresh.digest = po__le64_get(r->head + 16);
            }
        } else if (data[i] != byte_at(&r->fresh, r->offset)) {
            r->bad = true;
        }
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
