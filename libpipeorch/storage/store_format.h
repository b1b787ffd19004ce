/* Bytes of the files in a data directory. Old files stay readable for ever: a layout here never
 * changes, a new one gets a new format version, and a version above ours is refused (PO_EVERSION)
 * and not guessed at.
 *
 * Everything is little-endian and in units of a 4 KiB block, the smallest write that bypasses the
 * page cache everywhere. Every structure begins with po__fmt_head; its checksum covers the rest of
 * the structure's whole blocks, so that it can be checked before anything else is believed, the
 * version included. That rule holds for all future versions too.
 *
 *   identity       one block. Its presence is what makes a directory bootstrapped; it is renamed
 * into place last. meta           two blocks (slots), each 8 sectors with the same record. Versions
 * alternate between the slots, so a torn write hits the older one. A record per sector survives the
 * damage of a single sector: a bit flip in the newest vote must not bring back the vote before it.
 *   wal-<number>   a header block, then batches; see below. Numbers are 16 hexadecimal digits
 * without gaps. snap-<index>-<term>  header (3 blocks), frames of 256 KiB (the last one shorter, in
 * whole blocks), footer (1 block).
 *
 * Log. A batch is what one write carries: a header, then whole records, zero-padded to whole
 * blocks. It never shares a block with another batch, so no write ever touches bytes that are
 * already durable. Batches carry the epoch of their segment and a sequence number that runs on
 * across segments.
 *
 * Why a torn tail can be told from damage: the next batch is written only after the one before it
 * is durable. So when a batch is invalid and the header of a later one exists anywhere (in this
 * segment or in a later one), the invalid batch was durable once: that is damage, PO_ECORRUPT. If
 * no later one exists it may have been torn by a crash, and nobody was told that it is durable: it
 * is cut, and its blocks are zeroed before anything is written after it. (Damage of the very last
 * batch cannot be told from a torn write; every other replica still has it.) The batch header has a
 * checksum of its own, so that the first sector of a torn batch already proves that the batch
 * before it was durable.
 *
 * Why recycled segments resurrect nothing: the epoch is derived from the directory's random id and
 * the segment number, which is never used twice; a batch of the segment's former life carries
 * another one. Payloads cannot fake a header: a client does not know the epoch. */
#ifndef PO__STORE_FORMAT_H
#define PO__STORE_FORMAT_H

#include <stdint.h>
#include "store.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and frames are little-endian");

#define PO__FORMAT_VERSION 1
#define PO__BLOCK_BYTES    ((size_t)PO__DISK_ALIGN)
#define PO__SECTOR_BYTES   ((size_t)512)

#define PO__MAGIC_IDENTITY UINT64_C(0x3130444945504f50) /* "POPEID01" */
#define PO__MAGIC_JOIN     UINT64_C(0x31304e494f4a4f50) /* "POJOIN01" */
#define PO__MAGIC_META     UINT64_C(0x31304154454d4f50) /* "POMETA01" */
#define PO__MAGIC_WAL      UINT64_C(0x31304c4157504f50) /* "POPWAL01" */
#define PO__MAGIC_SNAPSHOT UINT64_C(0x313050414e534f50) /* "POSNAP01" */
#define PO__MAGIC_FOOTER   UINT64_C(0x3130544f4f464f50) /* "POFOOT01" */
#define PO__MAGIC_BATCH    UINT32_C(0x48435442)         /* "BTCH" */
#define PO__MAGIC_FRAME    UINT32_C(0x4d415246)         /* "FRAM" */

struct po__fmt_head {
    uint64_t magic;
    uint32_t crc; /* CRC-32C of everything after this field, to the end of the structure's blocks */
    uint32_t version;
};

struct po__fmt_identity { /* one block */
    struct po__fmt_head head;
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint8_t directory_id[PO__DIRECTORY_ID_BYTES];
    uint64_t node_id;
    uint32_t name_len;
    uint8_t name[PO__BLOCK_BYTES - 60];
};

struct po__fmt_meta { /* one sector, eight times per slot */
    struct po__fmt_head head;
    uint64_t serial; /* the higher one counts; slot = serial % 2 */
    uint64_t term;
    uint64_t vote;
    uint8_t reserved[PO__SECTOR_BYTES - 40];
};

struct po__fmt_wal { /* one block */
    struct po__fmt_head head;
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint8_t directory_id[PO__DIRECTORY_ID_BYTES];
    uint64_t node_id;
    uint64_t number;
    uint64_t epoch;
    uint8_t reserved[PO__BLOCK_BYTES - 72];
};

enum po__fmt_batch_flags {
    PO__BATCH_RESET = 1, /* everything before this batch is void; the log goes on at reset_next */
};

struct po__fmt_batch {
    uint32_t magic;
    uint32_t header_crc; /* of the rest of this header */
    uint64_t epoch;
    uint64_t sequence;
    uint64_t reset_next;
    uint32_t flags;
    uint32_t len; /* bytes of records after this header */
    uint32_t crc; /* CRC-32C of them */
    uint32_t reserved[5];
};

#define PO__SNAPSHOT_HEADER_BYTES (3 * PO__BLOCK_BYTES)
struct po__fmt_snapshot { /* three blocks */
    struct po__fmt_head head;
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint64_t index;
    uint64_t term;
    uint64_t conf_index;
    uint32_t conf_len;
    uint32_t reserved0;
    uint8_t conf[PO__SNAPSHOT_CONF_MAX_BYTES];
    uint8_t reserved[PO__SNAPSHOT_HEADER_BYTES - 64 - PO__SNAPSHOT_CONF_MAX_BYTES];
};

#define PO__FRAME_BYTES ((size_t)256 * 1024)
struct po__fmt_frame {
    uint32_t magic;
    uint32_t crc;    /* of the rest of this header and of the content */
    uint64_t number; /* 0, 1, ... */
    uint64_t index;  /* of the snapshot: a frame of another one is not accepted */
    uint32_t len; /* content bytes after this header: PO__FRAME_CONTENT_BYTES but in the last one */
    uint32_t reserved;
};
#define PO__FRAME_CONTENT_BYTES (PO__FRAME_BYTES - sizeof(struct po__fmt_frame))

struct po__fmt_footer { /* one block, the last of the file */
    struct po__fmt_head head;
    uint64_t index;
    uint64_t term;
    uint64_t size_bytes;
    uint32_t crc; /* CRC-32C of the whole content */
    uint8_t reserved[PO__BLOCK_BYTES - 44];
};

_Static_assert(sizeof(struct po__rec) == 32, "record header");
_Static_assert(sizeof(struct po__fmt_head) == 16, "head");
_Static_assert(sizeof(struct po__fmt_identity) == PO__BLOCK_BYTES, "identity");
_Static_assert(sizeof(struct po__fmt_meta) == PO__SECTOR_BYTES, "meta");
_Static_assert(sizeof(struct po__fmt_wal) == PO__BLOCK_BYTES, "wal header");
_Static_assert(sizeof(struct po__fmt_batch) == 64, "batch header");
_Static_assert(sizeof(struct po__fmt_snapshot) == PO__SNAPSHOT_HEADER_BYTES, "snapshot header");
_Static_assert(sizeof(struct po__fmt_frame) == 32, "frame header");
_Static_assert(sizeof(struct po__fmt_footer) == PO__BLOCK_BYTES, "snapshot footer");

static inline size_t po__block_round(size_t bytes) /* up to whole blocks */
{
    return (bytes + PO__BLOCK_BYTES - 1) & ~(PO__BLOCK_BYTES - 1);
}

/* Fill in the head of a structure of `bytes` bytes. */
void po__fmt_seal(void *structure, size_t bytes, uint64_t magic);
/* 0; PO_ECORRUPT: wrong magic or checksum; PO_EVERSION: intact, but of a newer format. */
int po__fmt_check(const void *structure, size_t bytes, uint64_t magic);

void po__fmt_batch_seal(
    struct po__fmt_batch *b); /* the checksums of header and records, which follow it */
int po__fmt_batch_header_ok(const struct po__fmt_batch *b, uint64_t epoch);

uint64_t po__fmt_epoch(const uint8_t directory_id[PO__DIRECTORY_ID_BYTES], uint64_t number);

#define PO__FILE_NAME_BYTES 64
void po__wal_name(char name[PO__FILE_NAME_BYTES], uint64_t number);
void po__snap_name(char name[PO__FILE_NAME_BYTES], uint64_t index, uint64_t term);
int po__wal_parse(const char *name, uint64_t *number); /* 1 if it is such a name */
int po__snap_parse(const char *name, uint64_t *index, uint64_t *term);

#endif
