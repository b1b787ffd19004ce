/* Backups: the whole state of a cluster in one file, and new clusters made from it.
 * SPDX-License-Identifier: MIT
 *
 * A file holds one consistent snapshot: workers, tasks, pipelines, runs, idempotency keys and the
 * application's own state. It carries a format version, checksums that tell where it is damaged,
 * and a SHA-256 over every byte.
 *
 * Threads: all functions here block, on files and (save) on the network. Each may be called from
 * any thread of the caller's, several at once; in a callback of a node or a client they are refused
 * with PO_EINVAL. Ownership: options and what they point to are the caller's, and are read only
 * while the call lasts. *json receives JSON text that is the caller's, to be released with po_free;
 * it is set on success only, and json may be NULL. `error`, if not NULL, receives a sentence on
 * failure (at most error_len bytes with the final NUL, "" on success): what was wrong, in which
 * file and where, and what to do. Units: sizes in bytes, times of the answers in ms since 1970
 * (wall clock), paths relative to the working directory or absolute. The size of a file has no
 * bound but the disk; memory is bounded by the state itself, which is loaded to be checked. */
#ifndef PIPEORCH_SNAPSHOT_H
#define PIPEORCH_SNAPSHOT_H

#include <pipeorch/node.h>
#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct po_snapshot_save_opts {
    size_t size;
    const char *path; /* required; the file to write */
    /* Exactly one of the two: a running cluster (its leader gives a state as of a linearizable
     * point; work goes on meanwhile), or the data directory of a stopped node (nothing in it is
     * changed; it stays locked for as long as this takes). The client must not be closed
     * meanwhile. */
    po_client *client;
    const char *data_dir;
    int overwrite;       /* 1: an existing file is replaced; 0: PO_EEXISTS */
    uint32_t timeout_ms; /* of each piece of a running cluster's; 0: 60000; 1..PO_TIMEOUT_MAX_MS */
    /* With data_dir, if the log holds commands of po_apply: what applies them. Its state is
     * replaced. NULL: such a log is refused (PO_EREFUSED). */
    const struct po_state_machine *state_machine;
};

/* Save a snapshot. The file appears complete and durable, or not at all. When the leader changes
 * meanwhile, it begins anew by itself, a few times. A stopped node does not know of its last
 * entries whether they were committed, and may lack others: see "committed_index" of the answer,
 * which is that of po_snapshot_inspect.
 * Returns 0, PO_EINVAL (also: in a callback), PO_EEXISTS, PO_EIO, PO_ENOSPACE, PO_ENOMEM; of a
 * running cluster also PO_EBUSY (too many are saving), PO_ESTALE (the leader kept changing),
 * PO_EPROTO (a node's answer is malformed), or as po_apply in client.h; of a stopped node also
 * PO_ELOCKED (the node runs), PO_ENOTFOUND (no such directory, or no state in it), PO_ECORRUPT,
 * PO_EVERSION, PO_EREFUSED. Any thread but a callback's. Since 0.1. */
PO_API int po_snapshot_save(const struct po_snapshot_save_opts *opts, char **json, char *error,
                            size_t error_len);

/* Check every byte of a file and say what it holds: "format", "source" ("online", "offline"),
 * "cluster_id", "node", "index", "term", "time_ms", "committed_index", "members", counts of
 * workers, tasks, pipelines and runs, "application_bytes", "content_bytes", "file_bytes", "sha256"
 * of the file, and "state_sha256" of what a restore keeps. Changes nothing. Returns 0, PO_EINVAL
 * (path is NULL or no file; in a callback), PO_ENOTFOUND, PO_ECORRUPT (damaged or cut off; error
 * says where), PO_EVERSION (of a newer format), PO_EIO, PO_ENOMEM. Any thread but a callback's.
 * Since 0.1. */
PO_API int po_snapshot_inspect(const char *path, char **json, char *error, size_t error_len);

struct po_snapshot_restore_opts {
    size_t size;
    const char *path;     /* required; the file */
    const char *data_dir; /* required; a new or empty directory, made if missing */
    /* required; of the node that will start with it, 1..PO_NAME_MAX_BYTES */
    const char *name;
    /* All founding members of the new cluster, this one included; NULL: this node alone. */
    const struct po_member *members;
    size_t members_count; /* 0..PO_MEMBERS_MAX */
    /* NULL for the first member: a new cluster id is drawn, "new_cluster_id" of the answer. For the
     * others that id; the same file and the same members are required. */
    const char *cluster_id;
};

/* Make the data directory of one member of a new cluster. Each member restores the same file with
 * the same members, then all are started, without bootstrap. The directory appears whole or not at
 * all.
 * Returns 0, PO_EINVAL (also: in a callback), PO_EEXISTS (data_dir is not empty), PO_EIDENTITY
 * (cluster_id belongs to another file or list of members), PO_ELOCKED, PO_ENOTFOUND (the file is
 * not there), PO_ECORRUPT, PO_EVERSION, PO_EIO, PO_ENOSPACE, PO_ENOMEM. Any thread but a
 * callback's. Since 0.1. */
PO_API int po_snapshot_restore(const struct po_snapshot_restore_opts *opts, char **json,
                               char *error, size_t error_len);

#ifdef __cplusplus
}
#endif
#endif
