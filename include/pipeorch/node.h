/* A control node: this process becomes a member of a Raft-replicated control plane.
 * SPDX-License-Identifier: MIT
 *
 * po_node_start() opens (or bootstraps) a data directory, starts one node thread and the disk
 * threads, and listens for its peers and, if asked, for workers and clients. A cluster of one
 * node needs no network at all.
 *
 * Threads of a node: the node thread, which also serves peers and workers, a log writer and a disk
 * helper; resolving the name of a peer for the first time starts libuv's pool of 4. Callbacks of a
 * node run on the node thread unless stated otherwise; they must not block. */
#ifndef PIPEORCH_NODE_H
#define PIPEORCH_NODE_H

#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct po_node po_node;
typedef struct po_client po_client;

/* One founding member. Strings are borrowed for the call. */
struct po_member {
    const char *name;    /* unique in the cluster */
    const char *address; /* advertised peer address, "host:port" */
};

/* The caller's own replicated state, carried by the same log (see po_apply). All functions run
 * on the node thread, one at a time. They must be deterministic: no clock, no random number, no
 * environment. A non-zero return of apply, snapshot or restore stops the node (PO_EFAULT):
 * replicas that disagree are worse than one that stops. */
struct po_state_machine {
    size_t size;
    void *arg;
    /* Apply the committed command. To answer the caller, write at most *result_len bytes to
     * result (its capacity on entry, PO_PAYLOAD_MAX_BYTES) and set *result_len to the number
     * written; set it to 0 for no result. */
    int (*apply)(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len);
    /* Serialise the whole state by calling write any number of times; return the first non-zero
     * return of write. */
    int (*snapshot)(void *arg, int (*write)(void *ctx, const void *data, size_t len), void *ctx);
    /* Replace the whole state by what snapshot wrote. data is valid during the call. len 0 with
     * data NULL: the empty state. */
    int (*restore)(void *arg, const void *data, size_t len);
};

struct po_node_opts {
    size_t size;
    const char *name;     /* required; this node's unique name, [A-Za-z0-9._-]+ */
    const char *data_dir; /* required; created if missing; one process at a time */
    const char *zone;     /* e.g. "aws"; NULL: "default" */
    const char *cluster;  /* cluster name, part of the cluster id; NULL: "pipeorch" */
    /* Peer bind address "host:port" or "[v6]:port"; NULL: none (cluster of one node). */
    const char *listen;
    /* Peer address that others use, stored verbatim; NULL: same as listen. */
    const char *advertise;
    /* Bind address for workers and clients; NULL: none. Port 0 picks one
     * (po_node_worker_address). */
    const char *worker_listen;
    /* Address handed out in redirects, verbatim; NULL: same as worker_listen. */
    const char *worker_advertise;
    /* 1: an empty data_dir is bootstrapped as a founding member; 0: an empty one is refused. */
    int bootstrap;
    /* Founding members including this node; NULL: this node alone. Used at bootstrap, and
     * compared with the directory when given later. */
    const struct po_member *members;
    size_t members_count; /* 0..PO_MEMBERS_MAX */
    /* 1: allow non-loopback listen addresses although there is no TLS yet. */
    int insecure;
    uint32_t election_ms;  /* 0: 1000; 50..60000 */
    uint32_t heartbeat_ms; /* 0: 100; 5..election_ms/3 */
    /* Take a snapshot after so many bytes of log; 0: 16 MiB; 64 KiB..64 MiB. */
    uint64_t snapshot_bytes;
    /* Log kept behind a snapshot for slow followers; 0: 8 MiB; 0..snapshot_bytes * 4. */
    uint64_t trailing_bytes;
    /* Size of a log segment file; 0: 8 MiB; 1 MiB..256 MiB, a multiple of 4096. */
    uint64_t segment_bytes;
    /* Borrowed until po_node_stop; NULL: po_apply is refused. */
    const struct po_state_machine *state_machine;
    struct po_log_opts log;
    /* 0: when the leader's process has ended (its connections close, and connecting to it is
     * refused or finds a new process there) a new leader is elected at once. 1: only after
     * election_ms without a word from it. Since 0.1. */
    int failover_hint_off;
    /* Worker addresses of members of a cluster that runs, "host:port,host:port": an empty data_dir
     * joins it as a new member (see member.h), under an id that the cluster gives. One of them that
     * lives is enough. Needs listen; excludes bootstrap; harmless once the directory belongs to a
     * cluster. NULL: do not join. */
    const char *join;
    int join_standby; /* 1: stay a standby until promoted; 0: become a voter when caught up */
    /* While this node leads and lives in another zone, it hands leadership to a voter of this zone
     * that is connected and has caught up. The same on all nodes; damped. NULL: no preference. */
    const char *prefer_zone;
    /* Directory of the IANA time zones' files (TZif), in which schedules' zones are looked for; at
     * most 1023 bytes; NULL: /usr/share/zoneinfo. The library does not read TZDIR; a host that
     * wants it passes it here. "UTC" needs no file. The same zones should be on all nodes: each may
     * lead. Since 0.2. */
    const char *time_zone_dir;
};

/* Role of a node. */
#define PO_ROLE_FOLLOWER  1
#define PO_ROLE_CANDIDATE 2
#define PO_ROLE_LEADER    3
#define PO_ROLE_STOPPED   4 /* a fault stopped it; see message */

struct po_node_status {
    size_t size; /* in: sizeof the caller's struct */
    uint64_t id;
    uint64_t leader_id; /* 0: none known */
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t last_index;
    uint64_t snapshot_index;
    int role;               /* PO_ROLE_* */
    uint64_t log_bytes;     /* log held in memory */
    uint64_t mailbox_count; /* calls waiting for the node thread */
    char message[256];      /* the fault, if role is PO_ROLE_STOPPED */
    int code;               /* its code: PO_EREMOVED, PO_EFAULT, PO_EIO, ...; 0 while it runs */
};

/* Open the data directory and start the node. On return the node is recovered and runs; it may
 * not have a leader yet.
 *
 * Blocks while the log is recovered. Thread-safe. *node is set on success only. On failure
 * `error`, if not NULL, receives a sentence (at most error_len bytes with the final NUL) saying
 * what was wrong, where, what was expected, and what to do. Returns 0, PO_EINVAL, PO_ENOMEM,
 * PO_EIO, PO_ENOSPACE, PO_ECORRUPT, PO_ELOCKED, PO_EIDENTITY, PO_ENOTBOOTSTRAPPED, PO_EADDR,
 * PO_EREFUSED (non-loopback without insecure), PO_EVERSION. With join, blocks for up to 5 s until
 * the cluster has answered, and returns also PO_EEXISTS (name or address are a member's),
 * PO_EQUOTA, and what is worth another try, at once and however often: PO_EUNREACHABLE,
 * PO_ETIMEDOUT, PO_ENOLEADER, PO_EUNKNOWN, PO_EBUSY. Since 0.1. */
PO_API int po_node_start(po_node **node, const struct po_node_opts *opts, char *error,
                         size_t error_len);

/* Stop the node, wait for its threads, release everything. Calls still waiting complete with
 * PO_ECLOSED (never submitted) or PO_EUNKNOWN. Data stays. Not from a callback of this node.
 * NULL is allowed. All clients of the node must be closed before. Since 0.1. */
PO_API void po_node_stop(po_node *node);

/* Make ready for a stop without a failed call anywhere: if this node leads and another voter could,
 * hand leadership over and wait, at most timeout_ms (1..PO_TIMEOUT_MAX_MS), until that one leads.
 * Calls go on being served, by way of the next leader. Returns 0 (also if this node does not lead),
 * PO_EREFUSED (no other voter is connected), PO_EUNREACHABLE (nobody took over), PO_ETIMEDOUT,
 * PO_EINVAL, PO_ECLOSED, PO_EFAULT. Any thread but the node's. Since 0.1. */
PO_API int po_node_hand_over(po_node *node, uint32_t timeout_ms);

/* A copy of the node's status; any thread, never blocks on I/O. Returns 0 or PO_EINVAL. Since
 * 0.1. */
PO_API int po_node_status(po_node *node, struct po_node_status *status);

/* The worker address that this node bound (with the port chosen for port 0). Returns 0,
 * PO_ENOTFOUND if it has none, PO_ETOOBIG. Any thread. Since 0.1. */
PO_API int po_node_worker_address(po_node *node, char *address, size_t len);

/* Wait until a leader is known, at most timeout_ms. Returns 0, PO_ETIMEDOUT, PO_ECLOSED,
 * PO_EFAULT. Any thread but the node's. Since 0.1. */
PO_API int po_node_wait_leader(po_node *node, uint32_t timeout_ms);

/* The node's own client: calls made with it (see client.h) go to this node in-process and from
 * there to the leader. Owned by the node; do not close. Any
 * thread. Since 0.1. */
PO_API po_client *po_node_client(po_node *node);

/* Replicate a command of the application state machine and wait for its result.
 *
 * Works on any node: a follower forwards to the leader. cmd (1..PO_PAYLOAD_MAX_BYTES) is copied
 * before return. At most *result_len bytes of the result are written to result (may be NULL),
 * *result_len receives its full length (may be NULL). With opts->key the command applies once
 * however often it is repeated, among the last 65536 keyed commands. Returns 0, PO_EINVAL,
 * PO_EBUSY, PO_ETOOBIG, PO_ETIMEDOUT, PO_ENOLEADER, PO_EUNKNOWN (may or may not have been
 * applied: retry with the same key), PO_ECLOSED, PO_EFAULT, PO_EREFUSED (no state machine). Any
 * thread but the node's. Since 0.1. */
PO_API int po_apply(po_node *node, const void *cmd, size_t len, const struct po_call_opts *opts,
                    void *result, size_t *result_len);

/* As po_apply, without waiting. cmd is copied before return; never blocks; any thread, callbacks
 * included. cb runs exactly once on the node thread unless this returns non-zero, in which case
 * it never runs. Since 0.1. */
PO_API int po_apply_async(po_node *node, const void *cmd, size_t len,
                          const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Wait until everything committed before this call, anywhere in the cluster, is applied on this
 * node: a read of the application's own state afterwards is linearizable. Costs no log entry. cb
 * runs on the node thread, in the same order as apply. Returns as po_apply_async. Since 0.1. */
PO_API int po_read_barrier_async(po_node *node, const struct po_call_opts *opts, po_result_cb cb,
                                 void *arg);
PO_API int po_read_barrier(po_node *node, const struct po_call_opts *opts);

/* Of which state an application reads. */
struct po_read_info {
    size_t size;           /* in */
    uint64_t index;        /* applied on this node */
    uint64_t term;         /* as this node knows it */
    uint32_t staleness_ms; /* everything acknowledged anywhere until so long ago is applied */
};

/* As po_read_barrier, for reads that may be a little stale: succeeds at once, on any node, if the
 * application's state here is at most stale_ms (1..PO_TIMEOUT_MAX_MS) old, without asking anybody.
 * Else a leader is asked. What is promised, and how it is measured: see po_query in client.h. The
 * callback runs on the node thread, in the same order as apply: a read of the application's state
 * in it is of exactly result->index, with result->term and result->staleness_ms. info may be NULL.
 * Returns 0, PO_ESTALE_READ (no leader confirms this node's state, and it is older), PO_EINVAL,
 * PO_EBUSY, PO_ENOMEM, PO_ECLOSED, PO_EFAULT. Since 0.1. */
PO_API int po_read_stale_async(po_node *node, uint32_t stale_ms, const struct po_call_opts *opts,
                               po_result_cb cb, void *arg);
PO_API int po_read_stale(po_node *node, uint32_t stale_ms, const struct po_call_opts *opts,
                         struct po_read_info *info);

#ifdef __cplusplus
}
#endif
#endif
