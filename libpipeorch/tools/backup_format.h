/* Bytes of a backup file; see backup.h. */
#ifndef PO__TOOLS_BACKUP_FORMAT_H
#define PO__TOOLS_BACKUP_FORMAT_H

#include "../storage/store_format.h"
#include "backup.h"

#define PO__MAGIC_BACKUP     UINT64_C(0x3130504b42504f50) /* "POPBKP01" */
#define PO__MAGIC_BACKUP_END UINT64_C(0x3130444e45424f50) /* "POBEND01" */

#define PO__BACKUP_HEADER_BYTES (3 * PO__BLOCK_BYTES)
struct po__fmt_backup { /* three blocks */
    struct po__fmt_head head;
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint64_t index, term;
    uint64_t committed_index;
    uint64_t time_ms;
    uint64_t conf_index;
    uint32_t conf_len;
    uint32_t source;
    uint8_t node_name[136]; /* NUL-terminated */
    uint8_t conf[PO__SNAPSHOT_CONF_MAX_BYTES];
    uint8_t reserved[PO__BACKUP_HEADER_BYTES - 216 - PO__SNAPSHOT_CONF_MAX_BYTES];
};

struct po__fmt_backup_end { /* one block */
    struct po__fmt_head head;
    uint64_t size_bytes; /* of the content */
    uint8_t digest[PO__BACKUP_DIGEST_BYTES];
    uint8_t reserved[PO__BLOCK_BYTES - 56];
};

_Static_assert(sizeof(struct po__fmt_backup) == PO__BACKUP_HEADER_BYTES, "backup header");
_Static_assert(sizeof(struct po__fmt_backup_end) == PO__BLOCK_BYTES, "backup footer");

#endif
