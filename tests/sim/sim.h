/* Whole clusters in one thread, from one seed.
 *
 * Virtual time; a network that delays, reorders, loses, duplicates and partitions; disks that lose
 * what was not synced and tear what was being written; nodes that crash at any call to disk or
 * network and come back; clocks of different speed. Everything that may vary is drawn from the
 * seed, nothing is read from outside, so a seed replays exactly.
 *
 *   cluster.c   virtual time, network, nodes, crash and restart
 *   peers.c     what a transport learns of the processes behind its connections
 *   chaos.c     what goes wrong and what the administrators do, and when
 *   machine.c   the little replicated state machine under test
 *   oracle.c    what must never happen, checked after every event
 *   trace.c     the last events, for the report of a failure
 *   test_sim.c  runs seeds */
#ifndef PO__SIM_H
#define PO__SIM_H

#include <stdio.h>

#include "base/alloc.h"
#include "consensus/replica_impl.h"
#include "sim/disk_sim.h"
#include "sim/events.h"
#include "sim/random.h"

#define SIM_NODES_MAX     PO_MEMBERS_MAX
#define SIM_INDEX_MAX     65536    /* log entries of one run */
#define SIM_COMMAND_MAX   65536    /* commands of one run */
#define SIM_EVENTS_MAX    2000000u /* of one run */
#define SIM_TIMERS_MAX    5000     /* of one node in a second */
#define SIM_SEGMENT_BYTES (64 * 1024)
#define SIM_ELECTION_MS   300
#define SIM_HEARTBEAT_MS  50
#define SIM_RATE_MIN      0.85 /* the slowest clock against ours */

/* ---- the state machine: counts commands, digests their order, and carries ballast so that its
 * snapshots have many slices ---- */
struct machine {
    uint64_t index;    /* of the last command applied */
    uint64_t commands; /* applied */
    uint64_t digest;
};
#define MACHINE_HEAD_BYTES 24
struct machine_snapshot {
    struct machine frozen;
    size_t offset, size;
    bool active;
};
struct machine_restore {
    struct machine fresh;
    uint64_t index; /* of the snapshot */
    uint8_t head[MACHINE_HEAD_BYTES];
    size_t offset;
    bool bad;
};
extern size_t machine_ballast_per_command; /* drawn per run */
void machine_init(struct machine *m);
void machine_apply(struct machine *m, uint64_t index, uint64_t command);
size_t machine_snapshot_size(const struct machine *m);
int machine_snapshot_step(struct machine_snapshot *s, struct po__buf *out, size_t budget);
int machine_restore_chunk(struct machine_restore *r, const uint8_t *data, size_t len);
int machine_restore_end(struct machine_restore *r, struct machine *m);

/* ---- what the oracle remembers of a node from one event to the next; the second half survives
 * its crashes ---- */
struct oracle_node {
    bool compared;        /* the log of this incarnation has been compared once */
    uint64_t write;       /* log entries written by later writes have not been compared yet */
    uint64_t commit;      /* of this incarnation */
    uint64_t led_term;    /* led at the last event in this term, ... */
    uint64_t led_last;    /* ... with a log that ended here, ... */
    uint64_t led_write;   /* ... whose last entry was written by this write */
    uint64_t term, vote;  /* reported durable */
    uint64_t stored;      /* index reported durable, ... */
    uint64_t stored_term; /* ... and the term of its entry */
    uint64_t snapshot;    /* index of the newest durable snapshot */
};

/* ---- a node ---- */
struct sim_node {
    uint64_t id; /* 1.. */
    char address[16];
    bool alive;
    bool dying; /* crashed inside the call under way: nothing it does from here on has any effect */
    uint64_t incarnation; /* of the process */
    double rate;          /* of its clock */
    uint64_t base_ms;
    struct po__disk_sim *medium; /* what survives a crash */
    struct po__disk *disk;       /* this incarnation's; the store's */
    uint64_t stalled_us;         /* its log writes hang until then */
    struct po__store *store;
    struct po__replica *replica;
    struct machine machine;
    struct machine_snapshot snapshot;
    struct machine_restore restore;
    int role;
    bool ready;
    uint64_t term;
    struct oracle_node seen; /* by the oracle */
    uint64_t timer;          /* generation of its timer event */
    bool changing;           /* a membership call is under way */
    unsigned proposals;
    uint64_t timers_second; /* timer events: this many in that second */
    unsigned timers;
};

struct sim_stats {
    uint64_t events, messages, lost, duplicated, crashes, crashes_inside, restarts, partitions,
        elections, commands, acked, unknown, reads, reads_failed, snapshots, installs, changes,
        transfers, stalls, closes_spurious, gone, gone_wrong, hinted, healthy, deposed, damaged,
        simulated_us;
};

struct sim {
    uint64_t seed;
    struct po__rng random;
    uint64_t hash; /* of all events so far: the same in every run of a seed */
    uint64_t now_us;
    bool verbose, chaos;
    struct po__events events;
    struct sim_node nodes[SIM_NODES_MAX];
    unsigned count; /* nodes that exist */
    /* network */
    bool blocked[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* [from][to], one way */
    double loss_percent, duplicate_percent, damage_percent;
    uint64_t delay_min_us, delay_max_us;
    uint64_t far_us[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* added to it, between two nodes */
    uint32_t election_ms, heartbeat_ms;
    bool ordered;        /* each link keeps its order */
    double late_percent; /* of the frames of a link that does not: overtaken by many */
    uint64_t link_last_us[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    size_t link_queued[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    /* what this seed drew */
    double crash_percent; /* at each frame sent and each command applied */
    bool disk_crashes;    /* also inside calls to the disk */
    uint64_t disk_max_us; /* of one disk job */
    uint64_t snapshot_bytes, trailing_bytes;
    uint32_t inflight_max;
    unsigned command_bytes_max;
    bool hint;         /* replicas elect at once when the leader's process is gone */
    bool lying;        /* some of what they are told of that is wrong */
    bool growth;       /* from one node to several, with the leader killed around each CHANGE */
    bool membership;   /* administrators at work */
    uint64_t admin_us; /* mean pause between their calls */
    uint64_t next_command;
    struct sim_stats stats;
};

/* cluster.c */
uint64_t sim_random(struct sim *s, uint64_t low, uint64_t high); /* both included */
bool sim_percent(struct sim *s, double percent);
void sim_boot(struct sim *s, unsigned voters, unsigned others);
void sim_free(struct sim *s);
void sim_run_until(struct sim *s, uint64_t us);
void sim_start(struct sim *s, struct sim_node *n);
void sim_crash(struct sim *s, struct sim_node *n, bool restart);
void sim_cut_soon(struct sim *s, struct sim_node *n); /* crash inside one of its next disk calls */
uint64_t sim_node_ms(const struct sim *s, const struct sim_node *n);
struct sim_node *sim_leader(struct sim *s); /* the one of the highest term, or NULL */
void sim_settle(
    struct sim *s,
    struct sim_node *n); /* after a call into a replica: its ticks, its crash, its timer */
enum sim_event_kind {
    SIM_FRAME,
    SIM_TIMER,
    SIM_DISK,
    SIM_RESTART,
    SIM_CLIENT,
    SIM_READ,
    SIM_FAULT,
    SIM_ADMIN,
    SIM_CLOSED,
    SIM_CONFIRM,
    SIM_LIE,
    SIM_KILL
};
void sim_at(struct sim *s, uint64_t us, enum sim_event_kind kind, struct sim_node *n,
            uint64_t value);

/* trace.c: note an event of node n (NULL: of none) as a literal format and up to six numbers of
 * type unsigned long long, at least one. Printed at once if the run is verbose. */
#define SIM_NUMBERS 6
#define sim_note(s, n, format, ...)                                                                \
    trace_numbers(s, n, format, (const unsigned long long[SIM_NUMBERS]){__VA_ARGS__})
void trace_numbers(struct sim *s, const struct sim_node *n, const char *format,
                   const unsigned long long numbers[SIM_NUMBERS]);
void trace_text(struct sim *s, const struct sim_node *n, const char *id, const char *message);
void trace_reset(void);
void trace_print(FILE *to); /* the last 200 */

/* peers.c */
void peers_closed(struct sim *s, struct sim_node *n); /* all connections of n end */
void peers_event(struct sim *s, enum sim_event_kind kind, struct sim_node *n, uint64_t value);
void peers_healthy(struct sim *s); /* connections end, processes live: does the leader stay? */

/* chaos.c */
bool chaos_profile(const char *name); /* growth, late, snapshots, members; false: no such */
void chaos_draw(struct sim *s);       /* the character of this run */
void chaos_begin(struct sim *s);      /* its first events */
void chaos_event(struct sim *s, enum sim_event_kind kind, uint64_t value);
void chaos_heal(struct sim *s, unsigned voters);

/* oracle.c: each of these ends the process with a report if what it is told breaks a promise */
void oracle_reset(void);
_Noreturn void oracle_fail(struct sim *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void oracle_report(struct sim *s, const char *what); /* prints; s may be between runs */
void oracle_replay_with(const char *command);        /* what replays a run, but for its seed */
void oracle_started(struct sim *s, struct sim_node *n);
void oracle_stands(uint64_t term); /* somebody is a candidate or leads in it */
void oracle_leader(struct sim *s, struct sim_node *n, uint64_t term);
void oracle_ready(struct sim *s, struct sim_node *n);
void oracle_applied(struct sim *s, struct sim_node *n, uint64_t before, uint64_t index,
                    uint64_t term, uint64_t command);
void oracle_acked(struct sim *s, uint64_t index, uint64_t command);
void oracle_restored(struct sim *s, struct sim_node *n, uint64_t index);
void oracle_settled(struct sim *s, struct sim_node *n); /* after every event of n */
uint64_t oracle_acked_index(void);
void oracle_read(struct sim *s, struct sim_node *n, uint64_t index, uint64_t acked_before);
void oracle_end(struct sim *s); /* after healing: everybody has everything */

/* One whole run. Returns the hash of its events. */
uint64_t sim_run(uint64_t seed, bool verbose, struct sim_stats *total);
extern struct sim *sim_running; /* NULL between runs; for reports of what aborts the process */

#endif
