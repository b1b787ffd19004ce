/* What goes wrong in a simulated world: the presets, by name, and what draws from them.
 *
 * A preset says how the world is (delays, clocks) and how often which fault strikes while there is
 * chaos. Everything else is drawn from the seed. All in one table, in faults.c. */
#ifndef PO__SIM_FAULTS_H
#define PO__SIM_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* Kinds of fault; a preset gives each a weight. */
enum po__fault_kind {
    PO__FAULT_CRASH,         /* a node dies and comes back */
    PO__FAULT_CRASH_LEADER,  /* likewise, the leader */
    PO__FAULT_CRASH_ALL,     /* several at once */
    PO__FAULT_CUT,           /* a node dies inside one of its next disk calls */
    PO__FAULT_PARTITION,     /* the nodes fall into two halves */
    PO__FAULT_ISOLATE,       /* one node hears nobody, or nobody hears it, or both */
    PO__FAULT_FLAP,          /* one link comes and goes */
    PO__FAULT_HEAL,          /* all links whole again */
    PO__FAULT_WEATHER,       /* loss, copies, order and delay of the network change */
    PO__FAULT_SLOW,          /* narrow links for a time */
    PO__FAULT_PAUSE,         /* a node's process is stopped for a time, and goes on */
    PO__FAULT_STALL,         /* a disk hangs for a time */
    PO__FAULT_EIO,           /* one of the next disk calls of a node fails */
    PO__FAULT_FULL,          /* likewise, for want of space */
    PO__FAULT_MISREAD,       /* one of the next reads of a node delivers wrong bytes */
    PO__FAULT_MEMORY,        /* an allocation of a node fails */
    PO__FAULT_WORKER_CRASH,  /* a worker dies and comes back as a new incarnation */
    PO__FAULT_WORKER_ZOMBIE, /* a worker freezes, and goes on later as if nothing had happened */
    PO__FAULT_CLOCK,         /* a node's clock changes its pace */
    PO__FAULT_KINDS
};

struct po__preset {
    const char *name, *what; /* one sentence */
    uint32_t election_ms, heartbeat_ms;
    uint64_t zone_us[3]; /* one-way delays between the zones 0-1, 0-2, 1-2; within one: local_us */
    uint64_t local_us, jitter_us;
    double drift_percent;  /* clocks run this much faster or slower, at most */
    uint64_t skew_ms;      /* wall clocks are this far off, at most */
    uint64_t disk_max_us;  /* of one disk job */
    double inside_percent; /* crash at a frame sent or an answer given */
    uint64_t fault_us;     /* mean pause between two faults; 0: none */
    uint8_t weights[PO__FAULT_KINDS];
};

const struct po__preset *po__preset_find(const char *name); /* NULL: no such */
const struct po__preset *po__preset_at(unsigned i);         /* NULL: beyond the last */

struct po__world;
void po__faults_strike(struct po__world *w); /* one fault, drawn by weight */
void po__faults_heal(struct po__world *w);   /* all ends, all nodes and workers come back */
const char *po__fault_name(enum po__fault_kind kind);

#endif
