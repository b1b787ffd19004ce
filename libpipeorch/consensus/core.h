/* libraft's sans-I/O core behind an interface of our own types: one step in, one step's work out,
 * in the order that safety asks for.
 *
 * A step is: what the guards must change -> raft_step -> the work, by these callbacks, in this
 * order: vote (durable before anything else) -> role -> append (queued to the store) -> install ->
 * send -> settled (apply). The next step never begins before `settled` has returned; `settled`
 * itself may make steps (a committed configuration is reported back to the core while applying).
 *
 * A step that fails in a way the core does not survive marks it dead: every later call returns
 * PO_EFAULT and po__core_error says why. */
#ifndef PO__CORE_H
#define PO__CORE_H

#include "conf.h"
#include "log.h"
#include "wire.h"

struct po__core;

struct po__core_entry { /* a record in its block; the callee takes its own reference */
    struct po__block *block;
    const struct po__rec *rec;
};

struct po__core_ops {
    /* Make term and vote durable now. An error kills the core; nothing of the step has left yet. */
    int (*vote)(void *arg, uint64_t term, uint64_t vote);
    /* Role changed (po__core_role). Before append: a new leader's first entry comes in the same
     * step. */
    void (*role)(void *arg);
    /* Drop the log from entries[0].rec->index on, append these, queue them to the store. Room is
     * reserved. An error kills the core. */
    int (*append)(void *arg, const struct po__core_entry *entries, unsigned count);
    /* The snapshot given to po__core_receive_snapshot is wanted: make it durable, restore it, then
     * po__core_installed. The log is void. */
    void (*install)(void *arg);
    /* AppendEntries without its records, InstallSnapshot as a request to send one (only index,
     * last_term filled in). */
    void (*send)(void *arg, uint64_t peer, const struct po__msg *m);
    void (*settled)(void *arg);
};

struct po__core_opts {
    uint64_t id;
    const char *address;
    uint32_t election_ms, heartbeat_ms;
    uint64_t seed;
    const struct po__core_ops *ops;
    void *arg;
};

#define PO__INFLIGHT_ENTRIES 4096 /* entries on their way to one peer, as the core counts */

int po__core_create(struct po__core **core, const struct po__core_opts *opts); /* PO_ENOMEM */
/* A dead core's own memory cannot be trusted and is left alone (leaked). */
void po__core_destroy(struct po__core *core);

/* Guard 12: must this log be thrown away, as it does not continue that snapshot? */
bool po__core_discard_log(const struct po__snapshot_meta *snapshot, const struct po__log *log);
/* Once. snapshot->index 0: none. The log must agree with the snapshot. A sole
 * voter takes a new term first (guard 3). */
int po__core_start(struct po__core *core, uint64_t now, uint64_t term, uint64_t vote,
                   const struct po__snapshot_meta *snapshot, const struct po__log *log);
/* Everything but snapshots. For APPEND, one step per run of entries (guard 5), with room reserved
 * for all. address: of the peer, or "" if unknown. PO_EPROTO: no honest peer says this. */
int po__core_receive(struct po__core *core, uint64_t now, uint64_t peer, const char *address,
                     const struct po__msg *m, const struct po__log *log);
/* A whole snapshot is at hand. *wanted false: the core has it already (and has answered). */
int po__core_receive_snapshot(struct po__core *core, uint64_t now, uint64_t peer,
                              const char *address, uint64_t term,
                              const struct po__snapshot_meta *meta, bool *wanted);
int po__core_installed(struct po__core *core, uint64_t now, const struct po__snapshot_meta *meta);
int po__core_persisted(struct po__core *core, uint64_t now, uint64_t index);
int po__core_timeout(struct po__core *core, uint64_t now);
/* Leader: append entry->rec, which has the next index, the current term, and room reserved.
 * PO_ENOTLEADER, PO_EBUSY, PO_ESTATE (a CHANGE that guard 4 refuses). */
int po__core_submit(struct po__core *core, uint64_t now, const struct po__core_entry *entry);
/* The configuration at `index` has been applied. */
int po__core_configuration(struct po__core *core, uint64_t now, uint64_t index, const void *conf,
                           size_t len);
/* A snapshot of our own is durable. *skipped: an install overtook it (guard 9); keep the log as it
 * is. */
int po__core_snapshot(struct po__core *core, uint64_t now, const struct po__snapshot_meta *meta,
                      uint64_t trailing_count, bool *skipped);
int po__core_catch_up(struct po__core *core, uint64_t now,
                      uint64_t id); /* leader; id not current yet */
int po__core_transfer(struct po__core *core, uint64_t now,
                      uint64_t id); /* PO_ENOTLEADER, PO_ENOTFOUND */

/* For the closed-connection hint (hint.c). The process of the leader that we follow is gone: until
 * a leader is heard of again, requests for votes are answered as though there were none. */
void po__core_leader_gone(struct po__core *core, uint64_t id);
uint64_t po__core_gone(const struct po__core *core); /* 0: none, or heard of since */
enum po__campaign {
    PO__CAMPAIGN_NO,    /* no voter, leading, or past the pre-vote already */
    PO__CAMPAIGN_LATER, /* entries or a snapshot are on their way to the disk */
    PO__CAMPAIGN_NOW
};
enum po__campaign po__core_may_campaign(const struct po__core *core);
/* Stand for election, or ask for pre-votes once more, as though the election timer had run out;
 * po__core_may_campaign must allow it. *begun false: not in the milliseconds after a leader's word.
 */
int po__core_campaign(struct po__core *core, uint64_t now, bool *begun);

/* An entry of the term that this leader leads has been applied (index), or leadership changed (0):
 * guard 4. */
void po__core_own_term_committed(struct po__core *core, uint64_t index);

int po__core_role(const struct po__core *core);        /* PO_ROLE_* */
uint64_t po__core_leader(const struct po__core *core); /* 0: unknown */
uint64_t po__core_term(const struct po__core *core);
uint64_t po__core_vote(const struct po__core *core);
uint64_t po__core_commit(const struct po__core *core);
uint64_t po__core_last(const struct po__core *core);
uint64_t po__core_stored(const struct po__core *core);
bool po__core_installing(const struct po__core *core);
uint64_t po__core_uncommitted_conf(const struct po__core *core);   /* index, or 0 */
uint64_t po__core_match(const struct po__core *core, uint64_t id); /* leader; 0 if unknown */
enum po__catch_up {
    PO__CATCH_UP_NONE,
    PO__CATCH_UP_RUNNING,
    PO__CATCH_UP_FAILED,
    PO__CATCH_UP_DONE
};
enum po__catch_up po__core_catch_up_state(const struct po__core *core, uint64_t id);
uint64_t po__core_transferee(const struct po__core *core);
void po__core_conf(const struct po__core *core,
                   struct po__conf *conf);               /* committed or not; count 0: none */
uint64_t po__core_deadline(const struct po__core *core); /* of the next po__core_timeout */
const char *po__core_error(const struct po__core *core);

/* libraft's process-global allocator; see heap.h. */
struct po__heap_functions {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t count, size_t size);
    void *(*realloc)(void *ptr, size_t size);
    void (*free)(void *ptr);
};
void po__core_set_heap(const struct po__heap_functions *f);

#endif
