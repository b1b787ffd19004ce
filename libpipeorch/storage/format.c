#include "store_format.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/crc32c.h"

#define REC_CRC_START offsetof(struct po__rec, index)

/* The length is summed too: without it, a flipped low bit of it would go unseen within the padding.
 */
static uint32_t rec_crc(const struct po__rec *r)
{
    uint32_t crc = po__crc32c(0, &r->len, sizeof r->len);
    return po__crc32c(crc, (const uint8_t *)r + REC_CRC_START,
                      PO__REC_BYTES(r->len) - REC_CRC_START);
}

void po__rec_seal(struct po__rec *r)
{
    size_t bytes = PO__REC_BYTES(r->len);
    memset((uint8_t *)(r + 1) + r->len, 0, bytes - sizeof *r - r->len);
    r->reserved = 0;
    r->crc = rec_crc(r);
}

int po__rec_check(const struct po__rec *r, size_t avail)
{
    if (avail < sizeof *r || r->len > PO__RECORD_MAX_BYTES || PO__REC_BYTES(r->len) > avail)
        return PO_ECORRUPT;
    return rec_crc(r) == r->crc ? 0 : PO_ECORRUPT;
}

#define HEAD_CRC_START offsetof(struct po__fmt_head, version)

static uint32_t structure_crc(const void *structure, size_t bytes)
{
    return po__crc32c(0, (const uint8_t *)structure + HEAD_CRC_START, bytes - HEAD_CRC_START);
}

void po__fmt_seal(void *structure, size_t bytes, uint64_t magic)
{
    struct po__fmt_head *h = structure;
    h->magic = magic;
    h->version = PO__FORMAT_VERSION;
    h->crc = structure_crc(structure, bytes);
}

int po__fmt_check(const void *structure, size_t bytes, uint64_t magic)
{
    const struct po__fmt_head *h = structure;
    if (h->magic != magic || h->crc != structure_crc(structure, bytes))
        return PO_ECORRUPT;
    return h->version == PO__FORMAT_VERSION ? 0 : PO_EVERSION;
}

#define BATCH_CRC_START offsetof(struct po__fmt_batch, epoch)

static uint32_t batch_header_crc(const struct po__fmt_batch *b)
{
    return po__crc32c(0, (const uint8_t *)b + BATCH_CRC_START, sizeof *b - BATCH_CRC_START);
}

void po__fmt_batch_seal(struct po__fmt_batch *b)
{
    b->magic = PO__MAGIC_BATCH;
    b->crc = po__crc32c(0, b + 1, b->len);
    b->header_crc = batch_header_crc(b);
}

int po__fmt_batch_header_ok(const struct po__fmt_batch *b, uint64_t epoch)
{
    return b->magic == PO__MAGIC_BATCH && b->epoch == epoch && b->header_crc == batch_header_crc(b);
}

/* FNV-1a over the id and the number, then a finaliser (splitmix64) that spreads every bit over all
 * others. */
uint64_t po__fmt_epoch(const uint8_t directory_id[PO__DIRECTORY_ID_BYTES], uint64_t number)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < PO__DIRECTORY_ID_BYTES; i++)
        h = (h ^ directory_id[i]) * UINT64_C(0x100000001b3);
    for (unsigned i = 0; i < 64; i += 8)
        h = (h ^ ((number >> i) & 0xff)) * UINT64_C(0x100000001b3);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

void po__wal_name(char name[PO__FILE_NAME_BYTES], uint64_t number)
{
    snprintf(name, PO__FILE_NAME_BYTES, "wal-%016" PRIx64, number);
}

void po__snap_name(char name[PO__FILE_NAME_BYTES], uint64_t index, uint64_t term)
{
    snprintf(name, PO__FILE_NAME_BYTES, "snap-%016" PRIx64 "-%016" PRIx64, index, term);
}

/* Sixteen lower-case hexadecimal digits; returns what follows them, or NULL. */
static const char *parse_hex(const char *p, uint64_t *value)
{
    *value = 0;
    for (int i = 0; i < 16; i++, p++) {
        unsigned digit;
        if (*p >= '0' && *p <= '9')
            digit = (unsigned)(*p - '0');
        else if (*p >= 'a' && *p <= 'f')
            digit = (unsigned)(*p - 'a') + 10;
        else
            return NULL;
        *value = *value << 4 | digit;
    }
    return p;
}

int po__wal_parse(const char *name, uint64_t *number)
{
    if (strncmp(name, "wal-", 4) != 0)
        return 0;
    const char *end = parse_hex(name + 4, number);
    return end && *end == '\0';
}

int po__snap_parse(const char *name, uint64_t *index, uint64_t *term)
{
    if (strncmp(name, "snap-", 5) != 0)
        return 0;
    const char *p = parse_hex(name + 5, index);
    if (!p || *p != '-')
        return 0;
    p = parse_hex(p + 1, term);
    return p && *p == '\0';
}
