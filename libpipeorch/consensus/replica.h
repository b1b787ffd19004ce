/* One Raft replica: libraft's sans-I/O core with its guards, driven over a store, a transport and a
 * state machine.
 *
 * No sockets, threads or clock here: the owner passes the time in, calls po__replica_poll after the
 * store polled, and gives received frames in; the replica sends frames through the transport vtable
 * and asks for a wake-up time. One thread. Calls are not re-entrant from the callbacks below,
 * unless stated.
 *
 * Frames are this module's own bytes (wire.h): the transport moves them and never looks inside. */
#ifndef PO__REPLICA_H
#define PO__REPLICA_H

#include "../base/buf.h"
#include "../storage/store.h"

struct po__replica;

/* A reference-counted run of bytes to send: `parts` point into blocks that the frame keeps alive.
 */
#define PO__FRAME_MAX_BYTES (4u << 20) /* the transport refuses longer ones */
struct po__frame {
    uint32_t refs;
    uint32_t bytes; /* sum of the parts */
    uint32_t parts_count;
    struct po__slice *parts;
    void (*free)(struct po__frame *f); /* when refs drops to 0 */
};
static inline struct po__frame *po__frame_ref(struct po__frame *f)
{
    f->refs++;
    return f;
}
static inline void po__frame_unref(struct po__frame *f)
{
    if (--f->refs == 0)
        f->free(f);
}

struct po__server {
    uint64_t id;
    const char *address; /* peer address, as configured */
    int role;            /* PO__VOTER, PO__STANDBY, PO__SPARE */
};
enum { PO__STANDBY = 0, PO__VOTER = 1, PO__SPARE = 2 }; /* libraft's numbers */

struct po__transport_ops {
    /* Queue a frame to a peer; takes over one reference; may drop it (peer away, queue full); never
     * blocks, never calls back. */
    void (*send)(void *arg, uint64_t peer_id, struct po__frame *frame);
    /* The servers to be connected to; called at start and whenever the configuration changes. */
    void (*servers)(void *arg, const struct po__server *servers, unsigned count);
    /* Bytes queued to the peer and not yet written (flow control of snapshots). */
    size_t (*queued_bytes)(void *arg, uint64_t peer_id);
};

struct po__state_ops {
    /* A committed command entry. token: what po__replica_propose was given if this very entry was
     * proposed by this replica in its current leadership, else NULL. Non-zero stops the replica. */
    int (*apply)(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                 void *token);
    /* A proposal that will never be reported by apply on this node (leadership lost, node
     * stopping): its outcome is unknown. */
    void (*dropped)(void *arg, void *token);
    /* Snapshot of the state as of the last applied entry, produced in slices
     * (po__model_snapshot_*). step: 1 done, 0 more, < 0 error. */
    int (*snapshot_begin)(void *arg);
    int (*snapshot_step)(void *arg, struct po__buf *out, size_t budget_bytes);
    void (*snapshot_abort)(void *arg);
    /* Replace the state. begin makes a fresh one, end switches over. index: what it is as of. */
    int (*restore_begin)(void *arg, uint64_t index);
    int (*restore_chunk)(void *arg, const void *data, size_t len);
    int (*restore_end)(void *arg);
    /* Role, leader or term changed. role: PO_ROLE_*. leader_ready: an entry of this leader's own
     * term is applied here. */
    void (*role_changed)(void *arg, int role, uint64_t leader_id, uint64_t term, bool leader_ready);
    /* The replica stopped for good; nothing else is called but dropped. */
    void (*fault)(void *arg, int code, const char *message);
};

struct po__replica_opts {
    struct po__store *store; /* owned by the caller, open and bootstrapped, not yet recovered */
    const struct po__transport_ops *transport;
    void *transport_arg;
    const struct po__state_ops *state;
    void *state_arg;
    struct po__logger log;
    uint64_t id;
    const char *address;
    uint32_t election_ms, heartbeat_ms;
    uint64_t snapshot_bytes, trailing_bytes; /* see po_node_opts */
    uint64_t seed;                           /* of the election timer's randomness */
    bool hint;             /* po__replica_peer_gone counts, and round trips are measured for it */
    uint32_t inflight_max; /* proposed and uncommitted entries beyond which propose says PO_EBUSY;
                              0: 2 */
};

/* Recover from the store, restore the newest snapshot, start as follower (or leader, if sole
 * voter). */
int po__replica_start(struct po__replica **r, const struct po__replica_opts *opts, uint64_t now_ms,
                      char *error, size_t error_len);
/* Drops all proposals, frees. The store stays the caller's, who closes it without polling it again:
 * callbacks that it still holds belonged to the replica. */
void po__replica_stop(struct po__replica *r);

/* Time passed. Call at or after po__replica_deadline_ms, and after every batch of events below: it
 * also flushes the store, takes the next slice of a snapshot under way, and sends its chunks.
 * now_ms is monotonic. */
void po__replica_tick(struct po__replica *r, uint64_t now_ms);
uint64_t po__replica_deadline_ms(
    const struct po__replica *r); /* UINT64_MAX: never; may be <= now: call tick again soon */

/* A frame from a peer whose identity the transport has established. Malformed: PO_EPROTO and
 * nothing happened (drop the connection). */
int po__replica_receive(struct po__replica *r, uint64_t peer_id, const void *data, size_t len,
                        uint64_t now_ms);

/* The process behind a peer's last connection has ended: reconnecting was refused, or another
 * incarnation of the peer said hello. Call it after everything that the connection brought was
 * received. If that peer leads, the voters elect the next leader without waiting for the election
 * timeout (hint.c). Never on the end of a connection alone. */
void po__replica_peer_gone(struct po__replica *r, uint64_t peer_id, uint64_t now_ms);

/* Bytes for an entry that needs no copy: header space, then payload. Freed by propose or
 * po__proposal_free. */
struct po__proposal {
    void *payload;
    size_t cap;
};
int po__proposal_alloc(struct po__proposal *p, size_t cap);
void po__proposal_free(struct po__proposal *p);
/* Append payload[0..len) as one entry. Leader only, and only when leader_ready. Takes over p on
 * success. Returns 0, PO_ENOTLEADER, PO_EBUSY (inflight_max, or the log in memory is at its bound),
 * PO_ETOOBIG, PO_ENOMEM, PO_EFAULT. */
int po__replica_propose(struct po__replica *r, struct po__proposal *p, size_t len, void *token,
                        uint64_t now_ms);
unsigned po__replica_inflight(const struct po__replica *r);

/* Linearizable read (ReadIndex): cb(arg, 0, index) once this replica, a leader, has confirmed its
 * leadership after the call and applied everything committed before it; or cb(arg, PO_ENOTLEADER,
 * 0). All reads waiting share one round. Costs no log entry. On a follower: returns PO_ENOTLEADER
 * (the owner asks the leader, see po__replica_wait_applied). */
typedef void (*po__read_cb)(void *arg, int code, uint64_t index);
int po__replica_read(struct po__replica *r, po__read_cb cb, void *arg, uint64_t now_ms);
/* cb once this replica has applied `index`. */
int po__replica_wait_applied(struct po__replica *r, uint64_t index, po__read_cb cb, void *arg);

/* Take a snapshot of the state as of `index`, which is applied, or later, as soon as possible
 * instead of after snapshot_bytes. Done when the status' snapshot_index is not below it; a failure
 * that passes is tried again. */
void po__replica_want_snapshot(struct po__replica *r, uint64_t index);

struct po__replica_status {
    int role;
    bool leader_ready;
    uint64_t leader_id, term, vote, commit_index, applied_index, last_index, stored_index,
        snapshot_index, log_bytes;
    bool membership_change_pending; /* a configuration is in the log and not committed */
    bool membership_busy;           /* or on its way there: a new change is refused with PO_EBUSY */
    uint64_t transferee;            /* leadership is being handed to it; 0: to nobody */
};
void po__replica_status(const struct po__replica *r, struct po__replica_status *st);
unsigned po__replica_servers(const struct po__replica *r, struct po__server *servers,
                             unsigned max); /* current configuration */

/* Membership, one step at a time (guards of the design notes apply; used by tests now). cb(arg,
 * code, index) when committed or refused. */
/* id 0: draw a fresh one; the callback's index tells it (po__fresh_id). */
int po__replica_add_spare(struct po__replica *r, uint64_t id, const char *address, po__read_cb cb,
                          void *arg, uint64_t now_ms);
int po__replica_set_role(struct po__replica *r, uint64_t id, int role, po__read_cb cb, void *arg,
                         uint64_t now_ms); /* to standby; to voter catches up first */
int po__replica_remove(struct po__replica *r, uint64_t id, po__read_cb cb, void *arg,
                       uint64_t now_ms);
int po__replica_transfer(struct po__replica *r, uint64_t id,
                         uint64_t now_ms); /* 0: pick one; PO_ENOTLEADER, PO_ENOTFOUND */
/* The id of a server that the configuration at this index of the log adds. Committed entries never
 * share an index, and founders have the ids 1..PO_MEMBERS_MAX, so no id is ever given twice:
 * nothing has to be remembered of those who left. */
static inline uint64_t po__fresh_id(uint64_t index)
{
    return index + PO_MEMBERS_MAX;
}
/* Is it certain that this server is no member, and never will be again? True if neither the
 * configuration applied here nor a later one in the log knows it, although this replica has applied
 * the entry that added it. A replica that lags behind says false. */
bool po__replica_has_left(const struct po__replica *r, uint64_t id);
/* The last entry that this leader knows to be durable on the server; 0: none, or not a leader. */
uint64_t po__replica_match(const struct po__replica *r, uint64_t id);

/* The first record of a new cluster: its configuration with `servers` as voters (or as given),
 * index 1, term 1. *rec is to be freed with po__free. */
int po__replica_bootstrap_record(struct po__rec **rec, const struct po__server *servers,
                                 unsigned count);

/* Process-global: route libraft's allocations through ours, with a reserve set aside once (see
 * heap.h). Called by start; idempotent. */
int po__heap_install(void);

#endif
