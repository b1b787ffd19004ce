/* A simulated world: control nodes, workers and clients in one thread, from one seed.
 *
 * The nodes are the production core (node/core.h) with its replica, store and model; what is
 * simulated is everything that they stand on: clocks, network, disks, memory, and those who talk to
 * them. Nothing is read from outside and every choice is drawn from one stream of random numbers,
 * so a seed replays exactly.
 *
 *   world.c    virtual time: the loop over events; beginning and end of a run
 *   control.c  a control node: start, turn, crash, restart; its clock and its disk
 *   peers.c    connections between nodes: hello, frames, forwarded calls
 *   growth.c   nodes that join while the cluster runs
 *   calls.c    what workers and clients ask of a node, there and back
 *   workers.c  workers: register, poll, run, complete; crashes and zombies
 *   clients.c  clients: submit, cancel, wait, apply, with keys and retries
 *   operators.c  administrators who change the members, rolling upgrades
 *   app.c      the application state machine that the nodes carry
 *   faults.c   presets, and what goes wrong when
 *   checks.c   what must hold, after every entry and at the end
 *   disk_sim.c, network.c, events.c, trace.c  the parts of the world, each usable alone
 *
 * Memory of the world itself comes from po__sim_alloc (events.h): starving nodes of memory starves
 * nobody else. Out of memory there aborts; so do broken preconditions. A broken promise does not:
 * it ends the run and is told by po__world_failure. */
#ifndef PO__SIM_WORLD_H
#define PO__SIM_WORLD_H

#include "../node/internal.h"
#include "disk_sim.h"
#include "events.h"
#include "faults.h"
#include "network.h"
#include "trace.h"

#define PO__SIM_NODES_MAX   PO_MEMBERS_MAX
#define PO__SIM_WORKERS_MAX 32
#define PO__SIM_CLIENTS_MAX 16
#define PO__SIM_TASKS_MAX   65536                   /* ids of tasks that a run may reach */
#define PO__SIM_INDEX_MAX   262144                  /* log entries of one run */
#define PO__SIM_APP_MAX     4096                    /* application commands of one run */
#define PO__SIM_CPU_MIN     300                     /* cpu_milli that every worker has at least */
#define PO__SIM_HELD_MAX    64                      /* tasks that one worker holds */
#define PO__SIM_SEQ_WINDOW  1024                    /* hand-outs that may come out of order */
#define PO__SIM_WALL_MS     UINT64_C(1760000000000) /* wall clock at virtual time 0 */

enum po__event_kind {
    PO__EV_TURN,    /* who: node */
    PO__EV_DISK,    /* who: node, value: channel */
    PO__EV_RESTART, /* who: node */
    PO__EV_FRAME,   /* data */
    PO__EV_LINK,    /* value: pair of nodes */
    PO__EV_ARRIVE,  /* a call reaches its node; data */
    PO__EV_RETURN,  /* its answer reaches the caller; data */
    PO__EV_TIMEOUT, /* its caller gives up; data */
    PO__EV_WORKER,  /* who: worker, value: enum of workers.c */
    PO__EV_CLOSED,  /* a node learns that a worker's connection ended; value: node and conn */
    PO__EV_CLIENT,  /* who: client */
    PO__EV_JOIN,    /* who: node without an id */
    PO__EV_FAULT,
    PO__EV_ADMIN,
    PO__EV_UPGRADE, /* who: node */
};

/* ---- control nodes (control.c, peers.c) ---- */

/* The application's state: which commands were applied, and in which order. */
struct po__simapp {
    uint64_t count, digest, doubled; /* doubled: a command that came twice; 0: none */
    uint8_t seen[PO__SIM_APP_MAX / 8];
};

struct po__simnode {
    struct po__world *world;
    unsigned place; /* its index, and its place in the network */
    uint64_t id;    /* founders: place + 1; who joins is given one; 0: none yet */
    char name[16], zone[8], address[24], worker_address[24];
    uint32_t level; /* feature level of the program that its next process runs */
    bool voter;     /* founding member; else it joins */
    bool alive;     /* the process runs */
    bool dying;     /* crashed inside the call under way: nothing that it does has any effect */
    bool starved;   /* an allocation of its failed in this incarnation */
    bool hurt;      /* its disk failed or lied in this incarnation: it may stop with a fault */
    uint64_t incarnation;
    /* Clock: ms = anchor_ms + (now - anchor_us) * rate. */
    uint64_t anchor_us;
    double anchor_ms, rate;
    int64_t skew_ms; /* of the wall clock */
    int next_start;  /* how its disk fails while it starts: 0, PO_EIO, PO_ENOSPACE, PO_ECORRUPT for
                        a wrong read */
    uint64_t memory_fails_in; /* at which allocation of its next turn; 0: none */
    uint64_t turn_us;         /* when its next turn is due */
    uint64_t turn_stamp;
    uint64_t paused_us;  /* the process is stopped until then */
    uint64_t ready_us;   /* since when it is a ready leader; 0: it is not */
    uint64_t stalled_us; /* its disk hangs until then */
    struct po__disk_sim *medium;
    struct po__disk *disk;
    struct po__store *store;
    struct po__node *core;
    struct po__node_net net;
    struct po_state_machine machine;
    struct po__simapp app;
    unsigned servers;                /* bit i: node of place i is in its configuration */
    bool up[PO__SIM_NODES_MAX];      /* it believes to be connected to that place */
    uint64_t met[PO__SIM_NODES_MAX]; /* incarnation of the process that it was connected to, until
                                        it was told of its end; 0: none */
    uint64_t queued_bytes[PO__SIM_NODES_MAX];
    /* checks.c: what was last seen of it */
    uint64_t seen_term, seen_index;
    bool seen_leader, seen_ready;
};

struct po__simpair { /* a connection between two nodes */
    bool up;
    uint64_t generation;
    uint64_t blocked_us; /* since when nothing passes; 0: it does */
    uint64_t patience_us;
};

/* ---- calls (calls.c) ---- */

struct po__simcall;
/* code 0: resp is a whole response. PO_EUNREACHABLE: nothing was done. PO_EUNKNOWN: no answer. */
typedef void (*po__simcall_done)(struct po__world *w, struct po__simcall *c, int code,
                                 const void *resp, size_t len);
struct po__simcall {
    struct po__world *world;
    unsigned refs;
    bool finished;
    unsigned from; /* place of the caller */
    unsigned node;
    uint64_t conn;
    bool local; /* as by a client inside the node's process */
    bool apply; /* data is an application command, key_len bytes of key before it */
    size_t key_len;
    unsigned who;                       /* caller: index of worker or client */
    uint64_t stamp;                     /* its incarnation */
    uint64_t started_us, started_acked; /* for reads: the highest index acknowledged then */
    po__simcall_done done;
    void *extra; /* the caller's; freed with the call */
    uint32_t timeout_ms;
    size_t len;
    uint8_t data[];
};

/* ---- workers (workers.c) ---- */

struct po__simcap {
    char name[PO_NAME_MAX_BYTES + 1];
    uint32_t concurrency;
    uint64_t min_ms, max_ms;             /* how long a task takes */
    double failure_percent;              /* of its attempts */
    char version[PO_NAME_MAX_BYTES + 1]; /* empty: 1.0.0 */
    const char *output;                  /* JSON text of every result; NULL: the attempt's token */
};

struct po__simheld { /* a task that a worker runs */
    uint64_t task_id, token, done_us;
    const char *output; /* of its capability */
    bool finished;      /* its outcome waits to be reported, or is under way */
    bool reporting;     /* under way */
    bool fails, retryable;
};

struct po__simworker {
    unsigned index, place;
    char id[PO_NAME_MAX_BYTES + 1], zone[PO_NAME_MAX_BYTES + 1];
    const struct po__simcap *caps;
    unsigned caps_count;
    bool alive, frozen, registered, resync;
    bool polling;         /* its latest poll is under way */
    uint64_t incarnation; /* of its registration */
    uint64_t silent_us;   /* since when it is dead or frozen */
    uint64_t stamp;       /* changes when the process dies: its events are void */
    uint64_t conn;
    unsigned target;               /* node that it asks */
    uint64_t ack_seq;              /* all hand-outs up to here came */
    bool seen[PO__SIM_SEQ_WINDOW]; /* ring: came beyond ack_seq */
    uint64_t poll;                 /* number of its latest poll */
    uint64_t synced_poll;          /* number of its latest poll with resync */
    unsigned held_count;
    struct po__simheld held[PO__SIM_HELD_MAX];
    uint64_t recent[64]; /* tokens that it is through with */
    unsigned recent_next;
};

/* ---- clients (clients.c) ---- */

struct po__simclient {
    unsigned index, place;
    unsigned target;
    uint64_t stamp;
    int op;             /* enum of clients.c; 0: idle */
    uint64_t number;    /* of its operation: the key */
    uint64_t id;        /* object of it */
    uint64_t last_task; /* its latest task, for cancel and wait */
    unsigned left;      /* operations still to do */
    unsigned tries;
    struct po__buf request;
    bool local;
};

/* ---- what a run is given, and what it tells ---- */

struct po__world_opts {
    uint64_t seed;
    const struct po__preset *preset;
    bool hint;          /* nodes act on the end of a peer's process (po__node_opts.hint) */
    unsigned voters;    /* 1..7 */
    unsigned joiners;   /* nodes that are added, one at a time, while it runs */
    bool administrator; /* members are promoted, demoted, transferred to while it runs */
    unsigned old_nodes; /* bit i: founder of place i starts at feature level 1, is upgraded later */
    unsigned workers_count;
    struct po__simworker *workers; /* id, zone, caps, caps_count are used; copied */
    unsigned clients;
    unsigned operations; /* of each client */
    uint64_t chaos_us;   /* how long faults strike */
    /* A pipeline to be run instead of the clients' mixed load: */
    const struct po__cmd *pipeline;
    struct po__slice params;
    unsigned runs;
    uint64_t limit_us; /* of virtual time, before the run is given up as hanging */
    struct po_log_opts log;
    const int *stop; /* of po_sim_opts */
};

struct po__world_stats {
    uint64_t events, frames, frames_lost, calls, calls_lost, crashes, crashes_inside, starts,
        faults, disk_faults, misreads, misreads_caught, memory_faults, partitions, elections,
        failovers, submitted, acked, unknown, reads, runs, runs_finished, runs_failed, granted,
        completed, failed, stale, requeued, worker_crashes, zombies, snapshots, installs, grown,
        changes, changes_refused, changes_held_back, upgrades, virtual_ms;
};

struct po__checks; /* checks.c */

struct po__world {
    struct po__world_opts opts;
    struct po__rng rng;
    uint64_t now_us;
    bool chaos, draining;
    struct po__events events;
    struct po__simnet net;
    struct po__trace trace;
    struct po__simnode nodes[PO__SIM_NODES_MAX];
    unsigned nodes_count;
    struct po__simpair pairs[PO__SIM_NODES_MAX][PO__SIM_NODES_MAX]; /* [lower][higher] */
    struct po__simworker workers[PO__SIM_WORKERS_MAX];
    unsigned workers_count;
    struct po__simclient clients[PO__SIM_CLIENTS_MAX];
    unsigned clients_count;
    uint64_t next_conn, next_number, next_app;
    struct po__checks *checks;
    struct po__world_stats stats;
    bool failed;
    char failure[512];
};

/* world.c */
struct po__world *po__world_new(const struct po__world_opts *opts);
void po__world_run(struct po__world *w); /* to its end, or to its failure */
bool po__world_stopped(const struct po__world *w);
/* For who steers a world by hand instead: start everybody; let time pass until then. */
void po__world_begin(struct po__world *w);
void po__world_run_until(struct po__world *w, uint64_t us);
const char *po__world_failure(const struct po__world *w); /* NULL: every promise was kept */
void po__world_free(struct po__world *w);
void po__world_fail(struct po__world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* the first one counts */
uint64_t po__world_random(struct po__world *w, uint64_t low, uint64_t high);
bool po__world_percent(struct po__world *w, double percent);
void po__world_at(struct po__world *w, uint64_t us, enum po__event_kind kind, unsigned who,
                  uint64_t stamp, uint64_t value, void *data);
/* what: printf format of the name, then of up to five numbers as %llu */
#define po__world_trace(w, what, who, ...)                                                         \
    po__world_trace_((w), "%s: " what, (who), (uint64_t[PO__TRACE_VALUES]){__VA_ARGS__})
static inline void po__world_trace_(struct po__world *w, const char *what, const char *who,
                                    const uint64_t v[PO__TRACE_VALUES])
{
    po__trace_add(&w->trace, w->now_us, what, who, v[0], v[1], v[2], v[3], v[4]);
}

/* control.c */
void po__control_init(struct po__world *w, unsigned place);
void po__control_bootstrap(struct po__simnode *n); /* its directory; after all are initialised */
void po__control_start(struct po__simnode *n);
void po__control_crash(struct po__simnode *n, bool restart);
void po__control_turn(struct po__simnode *n);
void po__control_turn_by(struct po__simnode *n, uint64_t us); /* at the latest */
void po__control_disk(struct po__simnode *n, enum po__disk_channel c);
void po__control_die_perhaps(struct po__simnode *n); /* a point at which it may crash */
bool po__control_died(struct po__simnode *n);
uint64_t po__control_ms(const struct po__simnode *n); /* its monotonic clock */
void po__control_set_rate(struct po__simnode *n, double rate);
void po__control_free(struct po__simnode *n);
int po__control_store(struct po__simnode *n, char *error, size_t error_len); /* opens it */
int po__place_of(const struct po__world *w, uint64_t id);                    /* -1: nobody's */
struct po__simnode *po__world_leader(struct po__world *w); /* ready, of the highest term; or NULL */

/* peers.c */
extern const struct po__transport_ops po__peers_transport;
void po__peers_net(struct po__simnode *n); /* fills n->net */
void po__peers_frame(struct po__world *w, void *data);
void po__peers_link(struct po__world *w, uint64_t pair);
void po__peers_begin(struct po__world *w);
void po__peers_lost(struct po__simnode *n); /* the process is gone: so are its connections */
void po__peers_drop(struct po__world *w, void *data); /* a frame that is not delivered */

/* growth.c */
void po__joiner_init(struct po__simnode *n);  /* a directory that began to join */
void po__joiner_event(struct po__simnode *n); /* it asks for a node id, again and again */
bool po__joiners_vote(struct po__world *w);   /* every one of them, says the leader */

/* operators.c */
void po__operators_begin(struct po__world *w);
void po__administrator_event(struct po__world *w);
void po__upgrade_event(struct po__simnode *n);
/* Nothing may make its members fewer: whoever asks for it is refused, at all times. */
bool po__operators_shrink_refused(const struct po__world *w);

/* calls.c */
struct po__simcall *po__simcall_make(struct po__world *w, unsigned from, unsigned node,
                                     const void *data, size_t len, uint32_t timeout_ms,
                                     po__simcall_done done);
void po__simcall_send(struct po__simcall *c);
void po__simcall_arrive(struct po__simcall *c);
void po__simcall_return(struct po__world *w, void *data);
void po__simcall_timeout(struct po__simcall *c);
void po__simcall_drop(struct po__world *w, struct po__event *e); /* an event that is not run */

/* workers.c */
void po__worker_begin(struct po__world *w, unsigned index);
void po__worker_event(struct po__world *w, unsigned index, uint64_t value);
void po__worker_crash(struct po__world *w, struct po__simworker *x);
void po__worker_freeze(struct po__world *w, struct po__simworker *x);
void po__worker_heal(struct po__world *w, struct po__simworker *x);

/* clients.c */
void po__client_begin(struct po__world *w, unsigned index);
void po__client_event(struct po__world *w, unsigned index);
bool po__clients_idle(const struct po__world *w);

/* app.c */
void po__simapp_init(struct po__simnode *n);

#endif
