/* The durable side of one node: identity, term and vote, write-ahead log, snapshots, in one locked
 * directory.
 *
 * Files: `lock`, `identity` (format version, cluster id, node id, directory id, name), `join` (the
 * same, before there are cluster and node id), `meta` (term and vote, two checksummed slots),
 * `wal-<n>` (segments), `snap-<index>-<term>`, and `tmp-*` (removed at open). Formats: see
 * store_format.h.
 *
 * What it promises: what a callback reported as durable is found again after a crash at any
 * instant. A torn tail is cut; damage that cannot be a torn tail is PO_ECORRUPT with file and
 * offset. After a failed write or sync the store is broken for good: every call returns PO_EIO /
 * PO_ENOSPACE (PO_ENOMEM if memory ran out where nothing could wait for it) and `fault` is called
 * once; it never retries an fsync.
 *
 * One owner thread. Callbacks run inside po__store_poll on it, never inside the call that asked. */
#ifndef PO__STORE_H
#define PO__STORE_H

#include "../base/log.h"
#include "../base/slice.h"
#include "disk.h"

#define PO__DIRECTORY_ID_BYTES      16
#define PO__CLUSTER_ID_BYTES        16
#define PO__RECORD_MAX_BYTES        (2 * 1024 * 1024) /* payload of one log record */
#define PO__SNAPSHOT_CONF_MAX_BYTES 8192

/* A log record: this header and the payload, padded with zeros to a multiple of 8. The same bytes
 * are stored and sent, and are checksummed once, by the leader. Little-endian. */
struct po__rec {
    uint32_t len; /* payload bytes */
    uint32_t crc; /* CRC-32C of len and of everything after this field, padding included */
    uint64_t index;
    uint64_t term;
    uint32_t type;     /* enum raft_entry_type's numbers: 1 command, 2 barrier, 3 configuration */
    uint32_t reserved; /* 0 */
};
#define PO__REC_BYTES(len) (sizeof(struct po__rec) + (((size_t)(len) + 7) & ~(size_t)7))
static inline const void *po__rec_payload(const struct po__rec *r)
{
    return r + 1;
}
void po__rec_seal(struct po__rec *r); /* zero the padding, compute crc */
/* 0 if `avail` bytes at r hold a whole, intact record; PO_ECORRUPT otherwise. */
int po__rec_check(const struct po__rec *r, size_t avail);

struct po__identity {
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint8_t directory_id[PO__DIRECTORY_ID_BYTES];
    uint64_t node_id;
    char name[PO_NAME_MAX_BYTES + 1];
};

struct po__snapshot_meta {
    uint64_t index, term;
    uint64_t conf_index;
    uint32_t conf_len;
    uint8_t conf[PO__SNAPSHOT_CONF_MAX_BYTES]; /* encoded raft configuration */
    uint64_t size_bytes;                       /* of the content */
    uint32_t crc;                              /* CRC-32C of the content */
};

struct po__store;

struct po__store_opts {
    uint64_t segment_bytes;  /* a multiple of 4096, at least 32 KiB */
    uint32_t segments_spare; /* ready ones to keep; 0: 2 */
    struct po__logger log;
    void (*fault)(void *arg, int code,
                  const char *message); /* broken for good; called once, from po__store_poll or the
                                           failing call */
    void *arg;
};

/* Open and lock the directory behind disk (which the store owns from now on, also on failure). */
int po__store_open(struct po__store **s, struct po__disk *disk, const struct po__store_opts *opts,
                   char *error, size_t error_len);
void po__store_close(struct po__store *s); /* waits for the write in flight; drops what is queued */

/* 1 and *id filled if the directory was bootstrapped, 0 if it is empty. */
int po__store_identity(const struct po__store *s, struct po__identity *id);
/* Bootstrap an empty directory: identity, term `term`, and the first records, all durable on
 * return; atomic (the identity file comes last). records may be NULL (a node that joins).
 * PO_EEXISTS if bootstrapped already. Synchronous. */
int po__store_bootstrap(struct po__store *s, const struct po__identity *id, uint64_t term,
                        const struct po__rec *first);

/* A directory that is to join a cluster is given its directory id, durably, before it asks for a
 * node id: whoever asks twice is recognised, and no node id ever belongs to two directories. Only
 * directory_id and name of the identity count. The bootstrap that follows ends it.
 * PO_EEXISTS if bootstrapped. Synchronous. */
int po__store_join_begin(struct po__store *s, const struct po__identity *id);
/* 1 and *id filled if a join was begun and not ended, else 0. */
int po__store_joining(const struct po__store *s, struct po__identity *id);

/* Recover: newest good snapshot's meta (index 0: none), term and vote, then every record above what
 * the snapshot made useless, in order, by callback (bytes are valid during the call). A record
 * supersedes earlier ones with the same or a higher index. A log that ends below, or does not
 * match, the snapshot is discarded (reported with no records). Call once, before anything else. */
struct po__recovery {
    uint64_t term, vote;
    struct po__snapshot_meta snapshot;
    uint64_t first_index; /* of the records; snapshot.index + 1 if none */
    uint64_t last_index;
};
int po__store_recover(struct po__store *s, struct po__recovery *rec,
                      int (*cb)(void *arg, const struct po__rec *r), void *arg, char *error,
                      size_t error_len);

/* Durable on return (about one disk write). Before any message of the step leaves. */
int po__store_set_vote(struct po__store *s, uint64_t term, uint64_t vote);

/* Queue records (copied before return) for the next write; consecutive indexes; an index not above
 * the last one truncates logically. cb(arg, token) runs when they are durable, in order.
 * po__store_flush starts a write if none is in flight; whatever is queued meanwhile goes together
 * in the next one. Bounded: PO_EBUSY above PO__STORE_QUEUE_MAX_BYTES (the caller keeps its own
 * backlog small). */
#define PO__STORE_QUEUE_MAX_BYTES ((size_t)32 << 20)
typedef void (*po__store_cb)(void *arg, uint64_t token);
int po__store_append(struct po__store *s, const struct po__rec *r, po__store_cb cb, void *arg,
                     uint64_t token);
void po__store_flush(struct po__store *s);
size_t po__store_queued_bytes(const struct po__store *s);

/* Forget records with an index <= index (a snapshot covers them; never more than the current one
 * does): recycles whole segments in the background. Does nothing while a reset is not yet durable.
 */
void po__store_trim(struct po__store *s, uint64_t index);
/* Discard the whole log (after a snapshot install); the next append may begin anywhere. Ordered
 * with appends; durable before any of those. */
void po__store_reset_log(struct po__store *s, uint64_t next_index);

/* Write a snapshot in the background, in chunks of any size (copied). finish makes it durable and
 * current, removes older ones, then calls cb(arg, token) (token: index). Two at a time (own,
 * installed), PO_EBUSY beyond; if they end in the wrong order, the one with the lower index is
 * dropped, and its cb called all the same: what it covers is durable. If meta gives size_bytes or
 * crc, finish checks the content against them: PO_ECORRUPT, abort it then. cb is not called after
 * abort; the writer is gone after cb or abort. */
struct po__snapshot_writer;
int po__store_snapshot_begin(struct po__store *s, struct po__snapshot_writer **w,
                             const struct po__snapshot_meta *meta);
int po__store_snapshot_write(struct po__snapshot_writer *w, const void *data,
                             size_t len); /* PO_EBUSY: too much queued, go on after poll */
size_t po__store_snapshot_queued(const struct po__snapshot_writer *w);
int po__store_snapshot_finish(struct po__snapshot_writer *w, po__store_cb cb, void *arg);
void po__store_snapshot_abort(struct po__snapshot_writer *w);

/* Read the current snapshot. The reader keeps its file even when a newer one takes its place. read
 * is synchronous and short (at most 1 MiB) and checks the chunk's checksum: PO_ECORRUPT. */
struct po__snapshot_reader;
int po__store_snapshot_open(struct po__store *s, struct po__snapshot_reader **r,
                            struct po__snapshot_meta *meta); /* PO_ENOTFOUND */
int po__store_snapshot_read(struct po__snapshot_reader *r, uint64_t offset, void *buf, size_t len);
void po__store_snapshot_close(struct po__snapshot_reader *r);

/* Write a whole snapshot under any name, durable but for the name, on the caller's thread. For
 * directories in the making. read gives the content in order (*len: in, room; out, bytes; 0: the
 * end); meta's size and crc are filled in. */
int po__snapshot_put(struct po__disk *d, const char *name, const uint8_t *cluster_id,
                     struct po__snapshot_meta *meta, int (*read)(void *arg, void *buf, size_t *len),
                     void *arg);
void po__snap_name_of(char name[64], const struct po__snapshot_meta *meta);

/* ---- looking at a recovered store to which nothing was appended (store_inspect.c) ---- */

struct po__segment_info {
    uint64_t number, size_bytes;
    uint64_t end_bytes; /* behind its last batch */
    uint64_t batches, records;
    uint64_t first_index, last_index, first_term, last_term; /* 0 if it holds no records */
    bool spare;                                              /* behind the end of the log */
};
int po__store_each_segment(struct po__store *s,
                           int (*cb)(void *arg, const struct po__segment_info *info), void *arg,
                           char *error, size_t error_len);

/* Every record that counts, in order of their indexes: those that were truncated, or voided by a
 * reset, are left out. Valid during the call. segment and offset: where its batch is. Reads the log
 * twice; memory: 16 bytes per truncation. */
int po__store_each_record(struct po__store *s,
                          int (*cb)(void *arg, const struct po__rec *r, uint64_t segment,
                                    uint64_t offset),
                          void *arg, char *error, size_t error_len);

/* Make the directory behind d, which no store has open, one of another cluster: identity, log
 * segments and snapshots. Not atomic: behind an overlay. */
int po__store_rebrand(struct po__disk *d, const uint8_t cluster_id[PO__CLUSTER_ID_BYTES],
                      char *error, size_t error_len);

void po__store_poll(struct po__store *s); /* runs callbacks; call when the disk's wakeup fired */
int po__store_broken(const struct po__store *s); /* 0 or the code */

#endif
