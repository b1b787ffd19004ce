/* Requests: what clients, workers and other nodes ask of a node, and its answers.
 *
 * The same bytes travel over TCP (net/sp.h), in-process, and from a follower to the leader. A
 * request is the msgpack array
 *   [PO__REQUEST_VERSION, type, timeout_ms, body...]
 *   COMMAND: command                          one command of model/command.h (its idempotency
 *     key is inside where it has one)
 *   BATCH:   [command, ...]                   up to PO__BATCH_MAX commands, each with its own
 *     result
 *   QUERY:   what, id, name, name2, limit, stale_ms [, placement, token]     see PO_QUERY_*;
 *     stale_ms > 0: the node that is asked answers, leader or not, with a state at most so old, or
 *     PO_ESTALE_READ
 *   WAIT:    kind (1 task, 2 run), id         answers when it is finished, or PO_ETIMEDOUT
 *   HEARTBEAT: worker_id, incarnation [, load]
 *   POLL:    worker_id, incarnation, resync, held, ack_seq, wait_ms, tasks_max, done [, load]
 *     load = [running, queued, cpu_load_centi, memory_used_bytes, memory_available_bytes, rtt_us,
 *       rtt_min_us]: see struct po__worker_load; or nil
 *   BARRIER:                                  linearizable no-op: index of a confirmed read
 *   MEMBER:  op, node_id, from, name, zone, address, directory_id, feature_level, wish
 *     see "Members" below
 *   SNAPSHOT: stream, offset                  stream 0: begin; see "Snapshots" below
 *   WATCH:   after_index, after_position, limit, wait_ms, kinds, task_id, run_id, worker, pipeline
 *     see "Watching" below
 * and a response
 *   [PO__REQUEST_VERSION, code, message, leader_address, index, body...]
 *   COMMAND: id, data            BATCH: [[code, id, message, data], ...]
 *   QUERY: term, map, staleness_ms (absent: 0)     WAIT: term, map (as QUERY of the object)
 *   POLL: [result code of each `done`], [task, ...], [revoked token, ...]
 *     task = [seq, task_id, attempt, token, capability, input, timeout_ms, run_id [, checkpoint]]
 *   MEMBER: node_id, cluster_id               cluster_id: ADD and JOIN
 *   SNAPSHOT: stream, size_bytes, data, info  info: nil, or of a stream's first answer
 *     info = [index, term, time_ms, conf_index, conf, cluster_id, node_name]
 *   WATCH: gone, index, position, [event, ...]     event: po__watch_event_encode (watch_ring.c)
 * With PO_ENOTLEADER, leader_address is the leader's advertised worker address exactly as
 * configured ("" if unknown).
 *
 * Polling. A poll is a heartbeat. `done` = [[task_id, token, kind, payload, flag], ...]: kind 1
 * complete (payload: result), 2 fail (error text; flag: retryable), 3 extend (flag:
 * milliseconds), 4 checkpoint (flag: progress in its low 16 bits, and PO__DONE_HAS_DATA if the
 * payload is to be kept). It is answered at once if it carried `done` or if there are tasks or
 * revocations to tell; else it is parked until there are, or until wait_ms passed. The node
 * numbers the tasks that it hands to a worker incarnation (seq 1, 2, ...) and repeats those
 * above ack_seq, so that a lost reply loses nothing; the worker drops a token that it has. A
 * node that has no session for the worker (new leader) answers PO_ESTATE; the worker polls again
 * with resync = true and `held` = the tokens that it holds, ack_seq = 0; the node then hands out
 * what the state says is the worker's and it does not hold, and revokes what it holds and is not
 * its own. Unknown worker: PO_ENOTREGISTERED; a newer incarnation: PO_ESTALE. A new poll of the
 * same incarnation replaces a parked one (the old one is answered empty). A result that breaks
 * the output_schema that the worker offers is taken as a retryable failure. A completed result is
 * accepted once: a repeat of an accepted `done` is answered 0 again while the task is kept, a
 * late one PO_ESTALE.
 *
 * Members. Each op names a goal, so that repeating it is safe: it is answered when the goal is
 * reached. ADD address: a spare with that peer address, for a node that will JOIN. JOIN name, zone,
 * address, directory_id: likewise, and the id is the directory's from now on. PROMOTE, DEMOTE,
 * REMOVE node_id. TRANSFER node_id (0: whoever is fit): that node leads; `from`, unless 0, is the
 * node that is to lead no more, and is all that is asked if it does not lead.
 *
 * Snapshots. The leader confirms its leadership, makes a snapshot that holds everything committed
 * before the request, and hands it out piece by piece: each answer carries the bytes from `offset`
 * on, as many as it likes but none only at the end. All pieces of a stream are of one snapshot,
 * whatever is committed meanwhile. A stream lives on one node, in one leadership, and ends when
 * nobody asks for PO__STREAM_IDLE_MS: PO_ESTALE then, begin anew. PO_EBUSY: PO__STREAMS_MAX are
 * open.
 *
 * Watching. The answer has the events behind (after_index, after_position) that fit the filters, at
 * once if there are any, else as soon as there are, or when wait_ms passed; `index` and `position`
 * say how far was looked, and are what to ask with next. after_index 0: from now on, answered at
 * once with where that is; UINT64_MAX: from the oldest event kept. gone: the events behind the
 * position asked for are not kept any more; what is kept goes on behind `index` and `position`.
 * PO_EBUSY: PO__WATCHES_MAX are waiting. A position ahead of the log is PO_EINVAL. */
#ifndef PO__REQUEST_H
#define PO__REQUEST_H

#include "../model/command.h"
#include "../model/model.h"

#define PO__REQUEST_VERSION   1
#define PO__BATCH_MAX         1024
#define PO__POLL_TASKS_MAX    1024
#define PO__POLL_HELD_MAX     (PO_CAPABILITIES_MAX * PO_CONCURRENCY_MAX)
#define PO__REQUEST_MAX_BYTES (4u << 20) /* one request, and one response */
#define PO__STREAMS_MAX       4          /* snapshots that one node hands out at a time */
#define PO__STREAM_IDLE_MS    60000

#define PO__WATCHES_MAX         1024 /* watches that wait on one node */
#define PO__WATCH_LIMIT_DEFAULT 1000 /* events of one answer */
#define PO__WATCH_LIMIT_MAX     10000
#define PO__WATCH_REPLY_MAX_BYTES                                                                  \
    ((size_t)1 << 20) /* an answer takes no further event above this */

enum po__request_type {
    PO__REQ_COMMAND = 1,
    PO__REQ_BATCH = 2,
    PO__REQ_QUERY = 3,
    PO__REQ_WAIT = 4,
    PO__REQ_HEARTBEAT = 5,
    PO__REQ_POLL = 6,
    PO__REQ_BARRIER = 7,
    PO__REQ_MEMBER = 8,
    PO__REQ_SNAPSHOT = 12,
    PO__REQ_WATCH = 13,
};

enum po__member_op {
    PO__MEMBER_ADD = 1,
    PO__MEMBER_JOIN = 2,
    PO__MEMBER_PROMOTE = 3,
    PO__MEMBER_DEMOTE = 4,
    PO__MEMBER_REMOVE = 5,
    PO__MEMBER_TRANSFER = 6,
};

struct po__member_request {
    uint32_t op; /* enum po__member_op */
    uint64_t node_id, from;
    struct po__slice name, zone, address, directory_id;
    uint32_t feature_level;
    uint32_t wish; /* JOIN: PO__WISH_VOTER or PO__WISH_STANDBY */
};

struct po__request {
    uint32_t type;
    uint32_t timeout_ms;
    struct po__slice body; /* COMMAND: the command's bytes; BATCH: the array's bytes */
    union {
        struct po__query query;
        struct {
            uint32_t kind;
            uint64_t id;
        } wait;
        struct po__member_request member;
        struct {
            uint64_t stream, offset;
        } snapshot;
        struct {
            uint64_t after_index;
            uint32_t after_position, limit, wait_ms;
            uint64_t kinds, task_id, run_id;
            struct po__slice worker, pipeline;
        } watch;
        struct {
            struct po__slice worker_id;
            uint64_t incarnation;
            bool resync;
            uint64_t ack_seq;
            uint32_t wait_ms, tasks_max;
            struct po__slice held; /* msgpack array of tokens */
            struct po__slice done; /* msgpack array of outcomes; read with po__done_decode */
            uint32_t held_count, done_count;
            bool has_load;
            struct po__worker_load load;
        } poll; /* also HEARTBEAT: worker_id, incarnation and load only */
    };
};

/* One outcome that a poll carries. */
enum { PO__DONE_COMPLETE = 1, PO__DONE_FAIL = 2, PO__DONE_EXTEND = 3, PO__DONE_CHECKPOINT = 4 };
#define PO__DONE_HAS_DATA (UINT64_C(1) << 16) /* flag of CHECKPOINT, beside its progress */
struct po__done {
    uint64_t task_id, token;
    uint32_t kind;
    struct po__slice payload;
    uint64_t flag;
};

int po__request_decode(const void *data, size_t len,
                       struct po__request *req); /* 0, PO_EPROTO, PO_EVERSION */
/* May it be sent again although it may have been executed? See po__cmd_repeatable. */
bool po__request_repeatable(const struct po__request *req);
void po__request_begin(struct po__buf *b, uint32_t type, uint32_t timeout_ms, uint32_t body_fields);
/* Whole requests; for COMMAND give cmd. */
void po__request_command(struct po__buf *b, uint32_t timeout_ms, const struct po__cmd *cmd);
/* commands: `count` of them, encoded one after the other. */
void po__request_batch(struct po__buf *b, uint32_t timeout_ms, struct po__slice commands,
                       uint32_t count);
void po__request_query(struct po__buf *b, uint32_t timeout_ms, const struct po__query *q);
void po__request_wait(struct po__buf *b, uint32_t timeout_ms, uint32_t kind, uint64_t id);
void po__request_heartbeat(struct po__buf *b, uint32_t timeout_ms, struct po__slice worker_id,
                           uint64_t incarnation,
                           const struct po__worker_load *load); /* NULL: none */
void po__request_barrier(struct po__buf *b, uint32_t timeout_ms);
void po__request_member(struct po__buf *b, uint32_t timeout_ms, const struct po__member_request *m);
void po__request_snapshot(struct po__buf *b, uint32_t timeout_ms, uint64_t stream, uint64_t offset);
void po__request_watch(struct po__buf *b, const struct po__request *req);
#define PO__WATCH_ANSWER_FIELDS 4
void po__done_encode(struct po__buf *b, const struct po__done *d);
int po__done_decode(struct po__mpr *r, struct po__done *d);
/* po__request_begin(PO__REQ_POLL) + fields: held and done are encoded arrays. */
void po__request_poll(struct po__buf *b, const struct po__request *req);

struct po__response {
    int code;
    struct po__slice message, leader_address;
    uint64_t index;
    struct po__slice body; /* the remaining fields' bytes */
    uint32_t body_fields;
};
int po__response_decode(const void *data, size_t len, struct po__response *resp);
void po__response_begin(struct po__buf *b, int code, struct po__slice message,
                        struct po__slice leader_address, uint64_t index, uint32_t body_fields);

/* Body of an answer to SNAPSHOT. */
struct po__snapshot_piece {
    uint64_t stream, size_bytes;
    struct po__slice data;
    bool first; /* the fields below are given */
    uint64_t index, term, time_ms, conf_index;
    struct po__slice conf, cluster_id, node_name;
};
#define PO__SNAPSHOT_PIECE_FIELDS 4
void po__snapshot_piece_encode(struct po__buf *b, const struct po__snapshot_piece *p);
int po__snapshot_piece_decode(struct po__slice body, struct po__snapshot_piece *p);

struct po__task_offer {
    uint64_t seq, task_id, token, run_id;
    uint32_t attempt, timeout_ms;
    struct po__slice capability, input;
    struct po__slice checkpoint; /* what an earlier attempt left; may be empty */
};
void po__task_offer_encode(struct po__buf *b, const struct po__task_offer *t);
int po__task_offer_decode(struct po__mpr *r, struct po__task_offer *t);

#endif
