/* The file of a backup: one snapshot of the replicated state, with what is needed to check it and
 * to go on from it.
 *
 *   header   3 blocks of 4 KiB: format version, cluster id, index, term, time, configuration
 *   frames   256 KiB of content each, but for the last one; as in a data directory's snapshots
 *   footer   1 block: size, and SHA-256 over every byte before the footer
 *
 * Everything is little-endian; header and footer begin with po__fmt_head. The frames' checksums
 * tell where a file is damaged, the digest that it is the very file that was written. A released
 * layout never changes; a new one gets a new version, and a version above ours is refused. The
 * content is the model's canonical snapshot (model/snapshot.c), which has a version of its own. */
#ifndef PO__TOOLS_BACKUP_H
#define PO__TOOLS_BACKUP_H

#include <pipeorch/types.h>
#include "../base/buf.h"
#include "../storage/store.h"

#define PO__BACKUP_VERSION      1
#define PO__BACKUP_DIGEST_BYTES 32

enum po__backup_source { PO__BACKUP_ONLINE = 1, PO__BACKUP_OFFLINE = 2 };

struct po__backup_info {
    uint32_t source; /* enum po__backup_source */
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    char node_name[PO_NAME_MAX_BYTES + 1]; /* who gave it */
    uint64_t time_ms;                      /* when; wall clock */
    uint64_t committed_index;              /* known to be committed; at most the snapshot's index */
    struct po__snapshot_meta snapshot; /* index, term, configuration; size and crc: when complete */
    /* when read: */
    uint64_t file_bytes;
    uint8_t digest[PO__BACKUP_DIGEST_BYTES];
};

/* Written under a temporary name beside `path`, renamed when complete and durable. overwrite false:
 * PO_EEXISTS if the file is there, at the beginning and at the end. */
struct po__backup_writer;
int po__backup_create(struct po__backup_writer **w, const char *path, bool overwrite,
                      const struct po__backup_info *info, char *error, size_t error_len);
int po__backup_write(struct po__backup_writer *w, const void *data, size_t len);
int po__backup_finish(struct po__backup_writer *w); /* w is gone, also on an error */
void po__backup_abort(struct po__backup_writer *w); /* removes what was written; NULL is fine */

/* Read and check the whole file; content comes in order by callback, in pieces that passed their
 * own check. Nothing is to be done with it before 0 is returned. PO_ECORRUPT: damaged or cut off;
 * error says where. PO_EVERSION. */
int po__backup_read(const char *path, struct po__backup_info *info,
                    int (*cb)(void *arg, const void *data, size_t len), void *arg, char *error,
                    size_t error_len);

/* backup_info.c: the answer of save, inspect and restore, as a msgpack map. `more` fields follow,
 * which the caller appends. */
struct po__content;
void po__backup_describe(struct po__buf *b, const char *path, const struct po__backup_info *info,
                         const struct po__content *content, uint32_t more);

#endif
