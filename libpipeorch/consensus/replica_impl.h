/* The replica's inside, shared by the files that implement replica.h:
 *   replica.c        entering and leaving, proposing, receiving, time, status
 *   replica_start.c  bootstrap record, recovery, start and stop
 *   replica_step.c   the work of a step, applying
 *   snapshot*.c      taking, sending and receiving snapshots
 *   read.c           linearizable reads and waits
 *   hint.c           an election at once when the leader's process is gone
 *   membership.c     changing who the members are
 *
 * Every public call is: po__enter (time, still alive?) -> what it does -> po__leave (report a
 * fault, roles, callbacks). Callbacks into the owner are made only while no structure is half
 * changed. */
#ifndef PO__REPLICA_IMPL_H
#define PO__REPLICA_IMPL_H

#include "conf.h"
#include "core.h"
#include "log.h"
#include "replica.h"
#include "wire.h"

#include "../base/buf.h"

/* Bounds. The log in memory holds what is behind the newest snapshot, what it keeps trailing, and
 * what arrives while the next one is being written; proposals and entries from the leader are
 * refused beyond. */
#define PO__LOG_SLACK_BYTES ((uint64_t)8 << 20)
/* Entries wait beyond; half the store's own bound */
#define PO__STORE_BACKLOG_BYTES   ((size_t)16 << 20)
#define PO__APPEND_WINDOW_BYTES   ((size_t)8 << 20) /* queued to one peer, not yet written */
#define PO__INFLIGHT_DEFAULT      2
#define PO__INFLIGHT_MAX          1024
#define PO__READS_MAX             65536               /* waiting reads and waits, together */
#define PO__SNAPSHOT_SLICE_BYTES  ((size_t)256 << 10) /* serialised, or restored, per tick */
#define PO__SNAPSHOT_QUEUED_BYTES ((size_t)1 << 20)   /* given to the store and not yet written */
#define PO__SNAPSHOT_WINDOW_BYTES                                                                  \
    ((uint64_t)1 << 20) /* sent to a peer and not yet acknowledged                                 \
                         */
/* Chunks wait while more than this is queued to the peer */
#define PO__SNAPSHOT_PEER_BYTES ((size_t)512 << 10)

struct po__pending { /* a proposal of this leadership */
    uint64_t index;
    void *token;
};

/* Our own snapshot on its way to the store. */
struct po__snapshot_take {
    enum { PO__TAKE_IDLE, PO__TAKE_WRITING, PO__TAKE_FINISHING, PO__TAKE_DURABLE } state;
    struct po__snapshot_writer *writer;
    struct po__snapshot_meta meta;
    struct po__buf buf;   /* a slice the store had no room for yet */
    bool last;            /* buf is the last slice */
    uint64_t bytes;       /* of log that it covers beyond its predecessor */
    uint64_t retry_at_ms; /* not before, after a failure that passes */
    uint64_t wanted;      /* the owner asked for one that is not older than this index */
};

/* A leader's snapshot on its way in. Bytes go straight to the store; the core hears of it when it
 * is whole. */
struct po__snapshot_in {
    enum {
        PO__IN_IDLE,
        PO__IN_RECEIVING,
        PO__IN_FINISHING, /* the core installs; the store makes it durable */
        PO__IN_DURABLE,   /* next: restore the state from the store */
        PO__IN_RESTORING
    } state;
    struct po__snapshot_writer *writer;
    struct po__snapshot_reader *reader; /* RESTORING */
    struct po__snapshot_meta meta; /* as the leader told; size and crc are what we check against */
    uint64_t offset;               /* received, or restored */
    uint32_t crc;                  /* of what was received */
};

/* A snapshot on its way to one peer. */
struct po__snapshot_out {
    uint64_t peer; /* 0: unused */
    struct po__snapshot_reader
        *reader; /* NULL: delivered; kept to ignore repeated requests until quiet_until_ms */
    struct po__snapshot_meta meta;
    uint64_t term;
    uint64_t sent, acked;
    bool begun;           /* something is on its way */
    uint64_t progress_ms; /* last new acknowledgement or start */
    uint64_t sent_ms;     /* last chunk */
    uint64_t quiet_until_ms;
};

struct po__read {
    struct po__list link;
    po__read_cb cb;
    void *arg;
    uint64_t index; /* confirmed and wait lists: call when applied */
};

struct po__reads {
    struct po__list waiting;   /* for a round to begin */
    struct po__list round;     /* asked in the round under way */
    struct po__list confirmed; /* wait for applied >= index; also po__replica_wait_applied */
    unsigned count;
    bool active;
    uint64_t sequence, index, term;
    uint64_t sent_ms;
    unsigned acks_count;
    uint64_t acks[PO_MEMBERS_MAX];
};

/* A leader whose process ended, and what this voter does about it. */
struct po__hint {
    bool armed; /* to stand for election at due_ms */
    uint64_t leader, term;
    uint64_t due_ms;
    unsigned tries;
    uint64_t probe_sequence, probe_ms; /* the last one sent */
    struct po__rtt {
        uint64_t peer; /* 0: unused */
        uint64_t ms;   /* 0: not measured yet */
    } rtt[PO_MEMBERS_MAX];
};

struct po__membership {
    enum {
        PO__CHANGE_IDLE,
        PO__CHANGE_PROBING,     /* does the server answer at all? */
        PO__CHANGE_CATCHING_UP, /* a standby on its way to a vote */
        PO__CHANGE_COMMITTING
    } state;
    struct po__conf next; /* what to commit */
    uint64_t id;          /* the server it is about */
    uint64_t index;       /* COMMITTING: of the CHANGE */
    uint64_t sequence;    /* PROBING: of the ping */
    uint64_t deadline_ms; /* PROBING */
    uint64_t ping_ms;
    bool answered;
    po__read_cb cb;
    void *arg;
};

struct po__replica {
    struct po__replica_opts o;
    char address[PO_ADDRESS_MAX_BYTES + 1];
    struct po__core *core;
    struct po__log log;
    uint64_t now_ms;

    uint64_t applied, applied_bytes; /* bytes: applied since the last snapshot began */
    uint64_t snapshot_index;
    struct { /* the last configuration applied: goes into snapshots */
        uint64_t index;
        uint32_t len;
        uint8_t bytes[PO__CONF_MAX_BYTES];
    } conf;
    struct po__conf servers; /* last told to the transport */
    bool servers_stale;

    uint64_t write_last, write_durable; /* numbers of writes: queued, completed */
    bool settling;
    bool barrier_needed; /* a new leader has no entry of its own term yet */
    bool ready;          /* leader_ready */

    struct po__pending *pending; /* ring of o.inflight_max */
    unsigned pending_head, pending_count;

    struct { /* as last reported */
        int role;
        uint64_t leader, term;
        bool ready;
    } told;

    struct po__snapshot_take take;
    struct po__snapshot_in in;
    struct po__snapshot_out out[PO_MEMBERS_MAX];
    struct po__reads reads;
    struct po__membership change;
    struct po__hint hint;

    int fault;
    bool fault_told;
    char fault_message[512];
};

/* replica.c */
extern const struct po__core_ops po__core_work; /* replica_step.c */
void po__drop_pending(struct po__replica *r);
int po__enter(struct po__replica *r, uint64_t now_ms); /* 0 or PO_EFAULT */
int po__leave(struct po__replica *r, int rv);          /* rv, or PO_EFAULT if a fault happened */
void po__fault(struct po__replica *r, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); /* the first one counts */
void po__send(struct po__replica *r, uint64_t peer, const struct po__msg *m);
const char *po__peer_address(const struct po__replica *r, uint64_t id);
bool po__is_leader(const struct po__replica *r);
int po__reserve(struct po__replica *r, size_t entries_count); /* room in the log for a step */
int po__submit(struct po__replica *r, uint32_t type, const void *data, size_t len, uint64_t *index);
void po__check_core(struct po__replica *r, int rv); /* a dead core is a fault */

/* snapshot.c */
void po__snapshot_tick(struct po__replica *r);
uint64_t po__snapshot_deadline(const struct po__replica *r);
void po__snapshot_stop(struct po__replica *r);
void po__snapshot_installing(struct po__replica *r); /* the core took the snapshot */
void po__snapshot_wanted(struct po__replica *r, uint64_t peer);
int po__snapshot_chunk(struct po__replica *r, uint64_t peer, const struct po__msg *m);
void po__snapshot_ack(struct po__replica *r, uint64_t peer, const struct po__msg *m);
int po__snapshot_restore_now(struct po__replica *r,
                             const struct po__snapshot_meta *meta); /* at start */

/* snapshot_take.c */
void po__take_tick(struct po__replica *r);
uint64_t po__take_deadline(const struct po__replica *r);
void po__take_abort(struct po__replica *r);
/* snapshot_send.c */
void po__out_tick(struct po__replica *r);
uint64_t po__out_deadline(const struct po__replica *r);
void po__out_stop(struct po__replica *r);
/* snapshot_receive.c */
void po__in_tick(struct po__replica *r);
void po__in_abort(struct po__replica *r);

/* read.c */
void po__reads_init(struct po__reads *q);
void po__reads_tick(struct po__replica *r);
uint64_t po__reads_deadline(const struct po__replica *r);
void po__reads_applied(struct po__replica *r);
void po__reads_lost(struct po__replica *r);           /* leadership is gone */
void po__reads_stop(struct po__replica *r, int code); /* everything that waits */
void po__reads_ping(struct po__replica *r, uint64_t peer, const struct po__msg *m);
void po__reads_pong(struct po__replica *r, uint64_t peer, const struct po__msg *m);

/* hint.c */
void po__hint_tick(struct po__replica *r);
uint64_t
po__hint_probe_ms(const struct po__replica *r); /* when the next round trips are measured */
uint64_t po__hint_deadline(const struct po__replica *r);
void po__hint_pong(struct po__replica *r, uint64_t peer, uint64_t sequence);

/* membership.c */
void po__membership_tick(struct po__replica *r);
uint64_t po__membership_deadline(const struct po__replica *r);
void po__membership_applied(struct po__replica *r, uint64_t index);
void po__membership_pong(struct po__replica *r, uint64_t peer, uint64_t sequence);
void po__membership_lost(struct po__replica *r, int code);

#endif
