/* The core's inside, shared by the files that drive libraft:
 *   core.c          one step and its work; life; every event but messages
 *   core_receive.c  messages in
 *   core_state.c    what the core knows, and libraft's allocator
 * They and guard.c are the only ones that see <raft.h> (core_raft.h). */
#ifndef PO__CORE_IMPL_H
#define PO__CORE_IMPL_H

#include "core_raft.h"

#include "core.h"

#define PO__CORE_CAPACITY 60000 /* what we report; the threshold is 0, so it is never judged */

struct po__core {
    struct raft raft;
    const struct po__core_ops *ops;
    void *arg;
    uint64_t commit;          /* highest seen (guard 11) */
    uint64_t last_append_ms;  /* when a leader was last heard of (guard 7) */
    uint64_t last_timeout_ms; /* when RAFT_TIMEOUT was last stepped (guard 10); UINT64_MAX: never */
    uint64_t own_term_committed; /* guard 4 */
    uint64_t gone;               /* the leader whose process ended (hint.c); 0: none */
    uint32_t election_ms;
    const struct po__core_entry
        *given; /* entries of the step under way: what update.entries refers to */
    unsigned given_count;
    bool answers_past; /* the step under way receives from a leader of an earlier term */
    bool dead;
    char error[256];
    struct po__core *buried; /* the one before it in `graveyard` */
};

/* One step: po__core_begin, raft_step, po__core_finish. What lies between belongs to the caller: a
 * disguise of the core's state must be off again before the step's work is done. */
void po__core_begin(struct po__core *c, uint64_t now, struct raft_event *e, struct raft_update *u);
int po__core_finish(struct po__core *c, const struct raft_event *e, int rv,
                    const struct raft_update *u);
int po__core_step(struct po__core *c, uint64_t now, struct raft_event *e); /* all three */
void po__core_conf_decode(struct raft_configuration *to, const void *data, size_t len);

#endif
