/* The node: one thread that owns the replica, the model and every timer of a control node.
 *
 * api/ assembles it: opens the store, gives it a network (net/ behind struct po__node_net), and
 * hands requests in. Other threads only post to the mailbox (po__node_request, po__node_apply,
 * po__node_conn_closed).
 *
 * One turn (po__node_turn in node.c): take the mailbox -> decode, check and stage commands -> ONE
 * log entry of everything staged -> replica (store, sends, apply) -> answers and effects. Nothing
 * is delayed by a timer when idle. The turn and what it works on, without the thread, is core.h;
 * node_thread.c is the thread. */
#ifndef PO__NODE_H
#define PO__NODE_H

#include <uv.h>

#include <pipeorch/node.h>
#include "../consensus/replica.h"
#include "channel.h"
#include "request.h"

struct po__node;

#define PO__FINISH_REASON_MAX_BYTES 511

/* What this program knows: the levels of model/command.h. */
#define PO__FEATURE_LEVEL PO__LEVEL_ORCHESTRATION

#define PO__ZONE_DIR_MAX_BYTES 1023

/* What the node needs from the network. All on the node thread (open: before it starts). NULL
 * functions are not allowed; a node that nobody connects to is given no `struct po__node_net` at
 * all. flush: what was sent and answered in this turn leaves. close: answers still do; every
 * request has its answer by then. */
struct po__node_net {
    const struct po__transport_ops *transport; /* with `arg`; NULL: without peers */
    int (*open)(void *arg, uv_loop_t *loop, struct po__node *node, char *error, size_t error_len);
    /* Forward a request to another node, or a response back. 0 or PO_E* (nothing was sent). */
    int (*forward)(void *arg, uint64_t peer_id, bool reply, uint64_t call_id, const void *data,
                   size_t len);
    void (*flush)(void *arg);
    void (*close)(void *arg, void (*closed)(void *arg), void *closed_arg);
    void *arg;
    /* These two may be NULL. Tell a connected peer that it is not wanted, and why (PO_EREMOVED). */
    void (*refuse)(void *arg, uint64_t peer_id, int code, const char *why);
    bool (*up)(void *arg, uint64_t peer_id); /* is there a connection with it now? */
    /* Before close, on po__node_crash: connections with workers and clients end now, and answers
     * given from here on are lost. May be NULL. */
    void (*sever)(void *arg);
};

struct po__node_opts {
    struct po__store
        *store; /* open, bootstrapped, not recovered; the node's from now on, also on failure */
    struct po__identity identity;
    const char *zone, *peer_address, *worker_address; /* advertised; "" if none; copied */
    const struct po_state_machine *state_machine;     /* or NULL */
    struct po__node_net *net;                         /* or NULL; borrowed */
    struct po__logger log;
    uint32_t election_ms, heartbeat_ms;
    uint64_t snapshot_bytes, trailing_bytes;
    bool hint;               /* of po__replica_opts */
    uint32_t feature_level;  /* what it announces and behaves as; 0: PO__FEATURE_LEVEL */
    const char *prefer_zone; /* leaders elsewhere hand over to a voter there; NULL: none; copied */
    const char *time_zone_dir; /* of TZif files, at most PO__ZONE_DIR_MAX_BYTES; NULL: the
                                  system's; copied */
};

/* Recover, open the network, start the thread. The store's disk must wake the node with
 * po__node_disk_wakeup. */
int po__node_create(struct po__node **n); /* before the disk, which needs it for its wakeup */
void po__node_disk_wakeup(void *node);
int po__node_start(struct po__node *n, const struct po__node_opts *opts, char *error,
                   size_t error_len);
/* From now on the node takes no new tasks, runs or definitions: PO_EREFUSED, with this sentence. It
 * finishes what it has. 0, PO_ENOMEM, PO_ECLOSED. Any thread. */
int po__node_finish_only(struct po__node *n, const char *why);
/* Stop the thread if started. Whoever calls the node from now on, or at this moment, gets
 * PO_ECLOSED. Again: nothing. One thread at a time, not the node's. */
void po__node_end(struct po__node *n);
/* For tests. As po__node_end, by a kill: nothing leaves any more. */
void po__node_crash(struct po__node *n);
/* Its thread stands still between two turns, or goes on. Any thread but its own. 0; PO_ECLOSED. */
int po__node_pause(struct po__node *n, bool paused);
/* Likewise from when this returns 0 until po__node_leave; what belongs to the thread, the network
 * above all, is the caller's meanwhile. */
int po__node_visit(struct po__node *n);
void po__node_leave(struct po__node *n);
/* End it and free everything; nobody calls it any more. */
void po__node_destroy(struct po__node *n);
const struct po__identity *po__node_identity(const struct po__node *n);
bool po__node_on_thread(const struct po__node *n);
void po__node_status(struct po__node *n, struct po_node_status *st);
int po__node_wait_leader(struct po__node *n, uint32_t timeout_ms);
/* The worker address that status and redirects show is known only after the endpoint bound its
 * port. Before start. */

/* ---- from any thread ---- */

/* How a request is answered. Exactly one answer; on the node thread. `answer`: resp is a whole
 * response; code as for po__call_cb. */
struct po__reply_to {
    void (*answer)(void *arg, int code, const void *resp, size_t len);
    void *arg;
};
/* A request in its wire form, copied. local: in-process caller, to be forwarded when this node does
 * not lead; otherwise the caller follows redirects. conn: see worker_endpoint.h (0: none). 0,
 * PO_EBUSY, PO_ECLOSED, PO_ETOOBIG, PO_ENOMEM: then `answer` never runs. */
int po__node_request(struct po__node *n, const void *data, size_t len, bool local, uint64_t conn,
                     struct po__reply_to to);
int po__node_conn_closed(struct po__node *n, uint64_t conn);
int po__node_apply(struct po__node *n, const void *cmd, size_t len, struct po__slice key,
                   uint32_t timeout_ms, po_result_cb cb, void *arg);
int po__node_read_barrier(struct po__node *n, uint32_t timeout_ms, po_result_cb cb, void *arg);
/* Likewise, and at most stale_ms (1..) old is good enough. */
int po__node_read_stale(struct po__node *n, uint32_t stale_ms, uint32_t timeout_ms, po_result_cb cb,
                        void *arg);
/* The in-process channel of this node. */
int po__channel_local(struct po__channel **ch, struct po__node *n);

/* ---- from the network, on the node thread ---- */
struct po__node_peer {
    uint64_t node_id;
    const char *name, *zone, *peer_address, *worker_address;
    const uint8_t *directory_id;
    uint32_t feature_level;
};
/* 0, or why the peer is refused. PO_EREMOVED and PO_EIDENTITY are for its ears, too. */
int po__node_peer_hello(struct po__node *n, const struct po__node_peer *peer, char *why,
                        size_t why_len);
void po__node_peer_down(struct po__node *n, uint64_t peer_id);
void po__node_peer_gone(struct po__node *n,
                        uint64_t peer_id); /* its process: po__replica_peer_gone */
/* A peer refuses this node. code PO_EREMOVED: the cluster removed it, and it stops. Other codes are
 * only logged. */
void po__node_peer_refused(struct po__node *n, uint64_t peer_id, int code, const char *why);
int po__node_peer_frame(struct po__node *n, uint64_t peer_id, const void *data,
                        size_t len); /* Raft; PO_EPROTO: drop the connection */
void po__node_peer_forward(struct po__node *n, uint64_t peer_id, bool reply, uint64_t call_id,
                           const void *data, size_t len);

#endif
