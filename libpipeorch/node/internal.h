/* The node's private structures, shared by the files of node/ only. Everything here belongs to the
 * node thread unless it says otherwise. */
#ifndef PO__NODE_INTERNAL_H
#define PO__NODE_INTERNAL_H

#include <pthread.h>
#include "../base/alloc.h"
#include "../base/tree.h"
#include "../model/state.h"
#include "core.h"
#include "mailbox.h"
#include "watch_ring.h"

#define PO__CALLS_MAX         131072 /* requests that wait for something on one node */
#define PO__CALL_DEFAULT_MS   10000  /* timeout of a request that names none */
#define PO__STAGE_MAX_COUNT   65536  /* commands that wait to be proposed */
#define PO__STAGE_MAX_BYTES   ((size_t)32 << 20)
#define PO__SWEEP_MS          50 /* how often timeouts are looked for: their resolution */
#define PO__MISSED_HEARTBEATS 3
/* A poll's answer takes no further task above this */
#define PO__POLL_REPLY_MAX_BYTES ((size_t)2 << 20)

/* ---- calls (call.c) ---- */

enum po__call_origin {
    PO__FROM_APPLY,
    PO__FROM_LOCAL,
    PO__FROM_ENDPOINT,
    PO__FROM_PEER,
    PO__FROM_NODE
};

/* One request under way. It is in exactly one list (`link`), or in none while commands of it are
 * staged or proposed. refs: 1 for being unanswered, and 1 for each staged or proposed command of
 * it. */
struct po__call {
    struct po__mail mail; /* how it arrived; first */
    struct po__node *node;
    struct po__list link;
    struct po__list all; /* node->calls: every unanswered call, oldest first */
    enum po__call_origin origin;
    uint32_t refs;
    bool answered;
    bool
        sent; /* it may have taken effect: a timeout is PO_EUNKNOWN from now on, not PO_ETIMEDOUT */
    bool uncertain; /* it was sent before, in vain as far as we know: whatever keeps it from being
                       sent again, its outcome is unknown */
    bool mutating;
    bool repeatable;      /* repeating it is safe: it has a key, or needs none */
    uint32_t type;        /* PO__REQ_* */
    uint64_t deadline_ms; /* before it is admitted: the timeout */
    union {
        struct po__reply_to to;
        struct {
            po_result_cb cb;
            void *arg;
        } apply;
        struct {
            uint64_t peer_id, call_id;
        } peer;
    };
    bool handed_over; /* MEMBER, transfer: leadership was being handed over for it */
    uint64_t conn;
    uint64_t forward_id; /* while it waits for another node's answer */
    uint64_t forward_peer;
    struct po__tree_node by_forward;
    /* WAIT */
    uint32_t wait_kind;
    uint64_t wait_id;
    /* WATCH: all up to here was looked at */
    struct po__watch_pos watch_pos;
    bool watching; /* it is parked */
    /* QUERY, BARRIER. 0: linearizable; else how stale the state of this node may be (stale.c) */
    uint32_t stale_ms;
    uint64_t stale_round; /* the first confirmation that began after it came */
    struct po__tree_node by_wait;
    /* BATCH and POLL: outcomes still to come, and those that came */
    uint32_t pending;
    struct po__batch_result {
        int code;
        uint64_t id;
        char *message;
        void *data;
        size_t len;
    } * results;
    uint32_t results_count;
    uint64_t worker_number; /* POLL */
    uint32_t tasks_max;
    uint64_t index;
    struct po__buf keyed; /* APPLY that left this node: the same command as a request with an
                             idempotency key */
    size_t len;           /* of the request's bytes, which follow */
    uint8_t data[];       /* APPLY: an encoded command; else a whole request */
};

/* ---- commit (commit.c) ---- */

/* Who waits for one staged or proposed command. call NULL: nobody (a command of the node's own). */
struct po__slot {
    struct po__call *call;
    uint32_t sub; /* which outcome of a BATCH or POLL */
    uint32_t len; /* encoded bytes */
    bool sent;    /* of the call, before this command was staged */
};

struct po__batch { /* the slots of one proposed entry, in the order of its commands */
    struct po__list link;
    uint32_t count;
    struct po__slot slots[];
};

struct po__stage {
    struct po__buf bytes; /* encoded commands, one after the other, from `head` */
    size_t head;
    struct po__slot *slots;
    uint32_t first, count, cap; /* ring */
};

/* ---- worker sessions (session.c): soft state of the leader ---- */

struct po__handout {
    uint64_t seq, task_id, token;
    uint64_t sent_ms, sent_conn; /* 0: not yet */
};
#define PO__HANDOUT_RESEND_MS                                                                      \
    1000 /* a hand-out is repeated on another connection at once, on the same one after this */

struct po__session {
    struct po__tree_node by_number, by_deadline, by_conn;
    struct po__list dirty; /* in node->dirty while it has something to tell */
    uint64_t number;
    uint64_t incarnation;
    uint64_t conn;
    uint64_t deadline_ms; /* offline after it */
    bool synced;
    bool going_online; /* its status command is under way */
    bool draining;     /* what it was when it was last seen: it comes back as that */
    struct po__call *parked;
    uint64_t next_seq;
    struct po__handout *outbox; /* ring would be overkill: acknowledged from the front, compacted */
    uint32_t outbox_first, outbox_count, outbox_cap;
    uint64_t *revoked;
    uint32_t revoked_count, revoked_cap;
    bool has_load;
    struct po__worker_load load; /* as the worker last told it */
};

/* A snapshot that is being handed out (stream.c). */
struct po__stream {
    uint64_t id; /* 0: free */
    struct po__snapshot_reader *reader;
    struct po__snapshot_meta meta;
    uint64_t used_ms;
};

/* ---- members (membership.c, membership_auto.c, handover.c) ---- */

#define PO__MEMBERS_IDLE_MS   500 /* how often members are looked at when nothing is to be done */
#define PO__MEMBER_TEXT_BYTES (PO_NAME_MAX_BYTES + 32)

struct po__changes {
    struct po__list waiting;     /* MEMBER calls whose goal is not reached, oldest first */
    struct po__list transferred; /* of these, transfers: the next leader is not known yet */
    bool look;                   /* something happened */
    uint64_t look_ms;            /* else look at them then */
    bool running;                /* a change of the configuration that this leader began */
    struct po__call *call;       /* for whom, with a reference; NULL: by itself, */
    uint64_t about;              /* then of this member */
    uint64_t retry_ms;           /* by itself: not before */
    uint64_t record_ms;          /* a record was staged: no other before it is applied, or this */
    uint64_t departed_ms;        /* when to look for peers that were removed */
    uint64_t prefer_ms, prefer_again_ms, preferred_ms; /* see membership_auto.c */
};

struct po__handover {
    enum { PO__HANDOVER_IDLE, PO__HANDOVER_SETTLING, PO__HANDOVER_TRANSFERRING } state;
    uint64_t target, deadline_ms;
};

struct po__members_view { /* Raft's configuration, committed or not */
    struct po__server servers[PO_MEMBERS_MAX];
    unsigned count, voters;
};

/* ---- schedules (schedule.c): soft state of the leader; the zones, everybody's ---- */

struct po__schedules {
    bool look;               /* something happened */
    uint64_t next_ms;        /* else look at them when the stamp reaches this */
    uint64_t round;          /* of looking */
    struct po__tree entries; /* what is known of each */
    struct po__tree zones;   /* those that were read */
    uint64_t zones_ms;       /* when the first of them was, on the monotonic clock */
};

/* What is known of the age of the state here (stale.c). */
struct po__freshness {
    bool known;
    uint64_t at_ms; /* all that was acknowledged anywhere by then is in the state here */
    bool asking;    /* a confirmation is under way */
    uint64_t asked_ms;
    uint64_t round;          /* confirmations begun */
    struct po__list waiting; /* stale reads for which the state is too old */
};

/* Events, and those who wait for more (watch.c). */
struct po__watching {
    struct po__watch_ring ring;
    struct po__watch_pos at; /* of the latest event of the entry that is being applied */
    uint64_t time_ms;        /* of that entry */
    bool news;               /* an event was added since the parked ones were looked at */
    bool announce;           /* this leader has still to say that it leads */
    struct po__list parked;  /* WATCH calls */
    uint32_t parked_count;
};

struct po__node {
    /* set before the first turn */
    struct po__node_env env;
    struct po__store *store;
    struct po__identity identity;
    char zone[PO_NAME_MAX_BYTES + 1], peer_address[PO_ADDRESS_MAX_BYTES + 1],
        worker_address[PO_ADDRESS_MAX_BYTES + 1];
    struct po__app app;
    struct po__node_net *net;
    struct po__logger log;
    struct po__node_opts opts;

    bool net_open;
    struct po__mailbox mailbox;

    struct po__replica *replica;
    struct po__model *model;
    struct po__model *restoring;
    uint64_t restoring_index;
    struct po__effects fx;

    int role;
    bool ready; /* leader and ready to propose */
    uint64_t leader_id, term;
    bool stopping;
    bool redispatch; /* calls that wait for a leader are to be looked at again */
    bool fault_handled;
    int fault;
    char fault_message[256];

    uint64_t clock_base_ms, clock_base_mono; /* leader's stamp = base + monotonic time since */
    uint64_t last_stamp_ms;
    bool tick_staged;
    uint32_t level_reached; /* of the cluster, as of this turn; 0: not looked at yet */

    struct po__list calls; /* every unanswered call */
    uint32_t calls_count;
    struct po__list leaderless; /* local calls that wait for a leader */
    struct po__tree forwarded;
    uint64_t next_forward_id;
    struct po__tree waits;
    struct po__freshness freshness;
    struct po__stage stage;
    struct po__list batches;
    struct po__tree sessions, deadlines, conns;
    struct po__list dirty;
    struct po__watching watch;
    struct po__list snapshot_waits; /* SNAPSHOT calls whose snapshot is being written */
    struct po__stream streams[PO__STREAMS_MAX];
    struct po__list polls_ready; /* POLL calls whose outcomes are all in */
    uint64_t next_sweep_ms;
    struct po__buf out, body, tasks;  /* scratch for answers */
    struct po__cmd cmd;               /* scratch for decoding: large */
    struct po__node_peer_copy *peers; /* hellos of the others: PO_MEMBERS_MAX slots */
    unsigned peers_count;
    struct po__changes changes;
    struct po__handover handover;
    struct po__schedules schedules;
    char time_zone_dir[PO__ZONE_DIR_MAX_BYTES + 1]; /* "": the default */
    char prefer_zone[PO_NAME_MAX_BYTES + 1];
    char leader_address[PO_ADDRESS_MAX_BYTES + 1];

    pthread_mutex_t status_lock; /* guards status; status_cond signals leader changes */
    pthread_cond_t status_cond;
    struct po_node_status status;
    char finish_only[PO__FINISH_REASON_MAX_BYTES + 1]; /* why no new work is taken; "": it is */
    bool closed;                                       /* under status_lock */
    uint32_t watchers; /* threads inside po__node_wait_leader; under status_lock */
};

struct po__node_peer_copy {
    uint64_t node_id;
    char name[PO_NAME_MAX_BYTES + 1], zone[PO_NAME_MAX_BYTES + 1];
    char peer_address[PO_ADDRESS_MAX_BYTES + 1], worker_address[PO_ADDRESS_MAX_BYTES + 1];
    uint8_t directory_id[PO__DIRECTORY_ID_BYTES];
    uint32_t feature_level;
    bool up;
};

/* Entries of a session's outbox, and of its revocations: more than any worker can hold. A worker
 * that heartbeats and never polls would let them grow. */
#define PO__SESSION_QUEUE_MAX PO__POLL_HELD_MAX

uint64_t po__node_now(struct po__node *n); /* monotonic ms */

/* replica_ops.c */
extern const struct po__state_ops po__node_state_ops;
void po__lose_leadership(struct po__node *n);

/* call.c */
struct po__call *po__call_new(size_t len, enum po__call_origin origin);
/* Decode what it is, enter it into node->calls, dispatch it (or answer PO_EBUSY above
 * PO__CALLS_MAX). */
void po__call_admit(struct po__node *n, struct po__call *c);
void po__call_unref(struct po__call *c);
/* Answer once; later answers are ignored. body holds body_fields encoded objects. */
void po__call_answer(struct po__node *n, struct po__call *c, int code, const char *message,
                     uint64_t index, struct po__slice body, uint32_t body_fields);
void po__call_error(struct po__node *n, struct po__call *c, int code, const char *message);
/* Answer an APPLY or COMMAND with a command's result. */
void po__call_result(struct po__node *n, struct po__call *c, uint64_t index,
                     const struct po__cmd_result *r);
/* Answer an application's read with what r says. */
void po__call_answer_read(struct po__node *n, struct po__call *c, const struct po_result *r);
/* Deliver another node's response, whose code is given, as it is. */
void po__call_relay(struct po__node *n, struct po__call *c, int code, const void *resp, size_t len);
void po__calls_sweep(struct po__node *n, uint64_t now);
void po__calls_fail_all(struct po__node *n, int unsent_code, int sent_code, const char *message);
/* Leadership or the way to the leader was lost while the call was under way. */
void po__call_retry(struct po__node *n, struct po__call *c);

/* finish.c: may this command still enter? *why is set if not. */
bool po__finish_allows(const struct po__node *n, const struct po__cmd *cmd, const char **why);

/* dispatch.c: what a request asks for */
void po__dispatch(
    struct po__node *n,
    struct po__call *c); /* decides by role: serve, redirect, forward, wait for a leader */

#define PO__SENTENCE_MAX_BYTES 1024 /* why a command does not enter the log; longer is cut */

/* schemas.c: what a command carries satisfies the schemas that go with it. 0; PO_EINVAL, PO_ETOOBIG
 * or PO_ENOMEM with a sentence in message. A completion that breaks its schema becomes a failure,
 * whose text stands in message until the command is staged. cmd was checked. */
int po__schemas_enforce(struct po__node *n, struct po__cmd *cmd, char *message, size_t message_len);

/* stream.c */
void po__stream_request(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__stream_confirmed(struct po__node *n, struct po__call *c); /* as of now: linearizable */
void po__streams_tick(struct po__node *n, uint64_t now);
uint64_t po__streams_deadline(const struct po__node *n); /* UINT64_MAX: none */
void po__streams_clear(struct po__node *n); /* leadership lost, or stopping: before the store */

/* watch.c */
void po__watch_init(struct po__node *n);
void po__watch_fini(struct po__node *n);
void po__watch_entry(struct po__node *n, uint64_t index, uint64_t time_ms); /* is applied next */
void po__watch_applied(struct po__node *n, uint64_t index);
void po__watch_restored(struct po__node *n, uint64_t index); /* the state came from a snapshot */
void po__watch_tick(struct po__node *n);                     /* leader */
void po__watch_request(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__watch_confirmed(struct po__node *n, struct po__call *c); /* this node leads */
void po__watch_remove(struct po__node *n, struct po__call *c);
void po__watch_expired(struct po__node *n, struct po__call *c); /* nothing came in time */
void po__watches_answer(struct po__node *n);                    /* those with news */
void po__watches_lost(struct po__node *n);                      /* leadership is gone */
void po__watches_conn_closed(struct po__node *n, uint64_t conn);

/* commit.c */
bool po__stage_room(const struct po__node *n, uint32_t count,
                    size_t bytes); /* for so many commands more, all of them? */
int po__stage_command(struct po__node *n, const struct po__cmd *cmd, struct po__call *call,
                      uint32_t sub); /* 0, PO_EBUSY, PO_ENOMEM */
int po__stage_bytes(struct po__node *n, struct po__slice encoded, struct po__call *call,
                    uint32_t sub);
void po__stage_propose(
    struct po__node *n); /* one entry of everything staged, while the window allows */
void po__stage_drop(struct po__node *n); /* leadership lost: nothing of it was proposed */
int po__commit_apply(struct po__node *n, uint64_t index, const void *data, size_t len,
                     struct po__batch *batch);
void po__commit_dropped(struct po__node *n, struct po__batch *batch);
/* Answer a BATCH whose outcomes are all in. */
void po__batch_answer(struct po__node *n, struct po__call *c);
uint64_t po__stamp_ms(struct po__node *n);

/* session.c */
struct po__session *po__session_find(struct po__node *n, uint64_t number);   /* NULL: none */
const struct po__worker_load *po__session_load(void *node, uint64_t number); /* NULL: unknown */
void po__session_forget(struct po__session *s);                              /* no longer synced */
int po__outbox_push(struct po__session *s, uint64_t task_id,
                    uint64_t token); /* 0, PO_ENOMEM, PO_EBUSY */
int po__revoked_push(struct po__session *s, uint64_t token);
/* The worker that a heartbeat or poll speaks for, its session in *s; NULL: the call was answered
 * with the reason. */
const struct po__worker *po__session_identify(struct po__node *n, struct po__call *c,
                                              const struct po__request *req,
                                              struct po__session **s);

/* poll.c */
void po__session_poll(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__session_heartbeat(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__session_poll_done(struct po__node *n, struct po__call *c); /* all its outcomes are in */
void po__session_poll_empty(struct po__node *n, struct po__call *c);
void po__session_effect(struct po__node *n, const struct po__fx *fx);
void po__sessions_answer(struct po__node *n); /* those that have something to tell */
void po__sessions_tick(struct po__node *n, uint64_t now);
uint64_t po__sessions_deadline(const struct po__node *n);
void po__sessions_conn_closed(struct po__node *n, uint64_t conn);
int po__sessions_start(struct po__node *n); /* new leader: a fresh grace period for every worker */
void po__sessions_clear(struct po__node *n);

/* schedule.c */
/* Is the definition's cron expression one, and its time zone known here? 0, PO_EINVAL, PO_E* with a
 * sentence. */
int po__schedule_check(struct po__node *n, const struct po__cmd *cmd, char *message,
                       size_t message_len);
/* po__query.ticks; node: struct po__node. */
void po__schedule_ticks(void *node, const struct po__schedule *s, struct po__ticks *t);
void po__schedules_tick(struct po__node *n); /* leader: stage the ticks that are due */
uint64_t po__schedules_deadline(struct po__node *n, uint64_t now);
void po__schedules_effect(struct po__node *n, uint64_t generation);
void po__schedules_clear(struct po__node *n); /* leadership lost, or stopping */

/* read.c */
/* Answer in the state of this node, which is linearizable or staleness_ms old. */
void po__read_answer(struct po__node *n, struct po__call *c, const struct po__query *q,
                     uint64_t index, uint32_t staleness_ms);
void po__read_query(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__read_wait(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__read_barrier(struct po__node *n, struct po__call *c);
void po__read_finished(struct po__node *n, uint32_t kind, uint64_t id);
void po__wait_remove(struct po__node *n, struct po__call *c);

/* stale.c */
void po__stale_read(struct po__node *n, struct po__call *c);
void po__stale_expired(struct po__node *n, struct po__call *c); /* its timeout passed */

/* forward.c */
void po__forward(struct po__node *n, struct po__call *c); /* to the leader, or wait for one */
void po__forward_remove(struct po__node *n, struct po__call *c);
void po__forward_leader_changed(struct po__node *n);
void po__forward_peer_down(struct po__node *n, uint64_t peer_id);
const char *po__leader_worker_address(struct po__node *n); /* "" if unknown */

/* members.c */
void po__members_sync(
    struct po__node *n); /* leader: bring the replicated member table up to date with the hellos */
void po__status_encode(struct po__node *n, struct po__buf *out);
void po__status_publish(struct po__node *n);
void po__member_encode(struct po__node *n, const struct po__server *sv, uint64_t lag,
                       const char *note, struct po__buf *out);
/* Tell connected peers that were removed. */
void po__members_dismiss(struct po__node *n);

/* membership.c */
void po__members_view(struct po__node *n, struct po__members_view *v);
const struct po__server *po__members_server(const struct po__members_view *v,
                                            uint64_t id); /* NULL: none */
void po__members_request(struct po__node *n, struct po__call *c, const struct po__request *req);
void po__members_recorded(struct po__node *n); /* a record or wish was applied */
void po__members_timed_out(struct po__node *n, struct po__call *c);
void po__members_tick(struct po__node *n, uint64_t now);
uint64_t po__members_deadline(const struct po__node *n); /* 0: at once */
void po__members_lost(struct po__node *n);               /* leadership is gone */
/* A wish into the log, unless a record is on its way there already or a member's program knows no
 * wishes. */
void po__members_wish(struct po__node *n, uint64_t id, uint32_t wish);
bool po__members_set_role(struct po__node *n, uint64_t id, int role); /* true: begun */

/* levels.c */
/* A member, other than `except`, whose program is below that level: no command of it may enter the
 * log. 0: none. */
/* Whether the whole cluster is at that level now; looked at once in a turn. */
bool po__level_reached(struct po__node *n, uint32_t level);
/* What who joins must know: that of joining itself, and all that may be in the log by now. */
uint32_t po__level_to_join(struct po__node *n);
uint64_t po__level_held_back(struct po__node *n, const struct po__members_view *v, uint32_t level,
                             uint64_t except);

/* membership_auto.c */
bool po__members_up(const struct po__node *n, uint64_t id);
bool po__members_auto(struct po__node *n, uint64_t now); /* true: look again soon */
void po__members_change_failed(struct po__node *n, int code);
void po__members_elected(struct po__node *n); /* leader and ready */
void po__members_encode(struct po__node *n, struct po__buf *out);

/* handover.c. target 0: the fittest. 0, PO_EBUSY (later), PO_EREFUSED (nobody could lead). */
int po__handover_begin(struct po__node *n, uint64_t target);
void po__handover_tick(struct po__node *n, uint64_t now);
void po__handover_lost(struct po__node *n);

/* replica_ops.c */
void po__node_fault(struct po__node *n, int code, const char *message);

#endif
