/* The node without its thread: mailbox, stage, replica, sessions and calls, driven by whoever owns
 * it.
 *
 * node_thread.c owns one on a thread of its own, with a libuv loop; the simulator owns several on
 * one thread, in virtual time. The owner takes a turn whenever something came (mail, a frame of a
 * peer, a finished disk job) and when the deadline that the last turn named has passed. Clocks,
 * random numbers and the wake-up come in through struct po__node_env: the core itself reads no
 * clock and knows no loop.
 *
 *   po__node_core_create -> po__node_core_open -> po__node_turn ... -> po__node_core_stop
 *                                                                   -> po__node_core_free
 * stop may also follow an open that failed, or a create alone. */
#ifndef PO__NODE_CORE_H
#define PO__NODE_CORE_H

#include "node.h"

struct po__node_env {
    /* Monotonic milliseconds. Need not move within a turn. Owner's thread only. */
    uint64_t (*now_ms)(void *arg);
    /* Milliseconds since 1970. Where a new leader's clock starts, unless its predecessors' was
     * ahead. Owner's thread only. */
    uint64_t (*wall_ms)(void *arg);
    /* Unpredictable bytes: seeds, idempotency keys. 0 or PO_EIO. Owner's thread only. */
    int (*random)(void *arg, void *bytes, size_t len);
    /* Mail came: take a turn soon. From any thread, under the mailbox's lock. */
    void (*wake)(void *arg);
    /* Is the calling thread the owner's? From any thread. */
    bool (*on_thread)(void *arg);
    /* The state is as of this entry: applied, answered, not yet acted upon. For those who check;
     * may be NULL. Must not call the node. */
    void (*applied)(void *arg, uint64_t index);
    void *arg;
    /* The clock of now_ms, read anew. NULL: now_ms does that. Owner's thread only. */
    uint64_t (*exact_ms)(void *arg);
    /* This command is applied next. As `applied`, of which it is one part; may be NULL. */
    void (*applying)(void *arg, uint64_t index, const struct po__cmd *cmd);
};

int po__node_core_create(struct po__node **n, const struct po__node_env *env); /* PO_ENOMEM */
/* Recover, open the network, start the replica. loop: handed to opts->net->open. */
int po__node_core_open(struct po__node *n, const struct po__node_opts *opts, uv_loop_t *loop,
                       char *error, size_t error_len);
/* Do everything that is to be done now. Returns when the next turn is due on the clock of now_ms:
 * UINT64_MAX: only when something comes; not after now: at once. */
uint64_t po__node_turn(struct po__node *n);
/* Answer every call, refuse all further ones, stop the replica, close the store: env.wake is not
 * called any more after it. The network is the owner's to close, if po__node_core_has_net says
 * that it was opened. */
void po__node_core_stop(struct po__node *n);
bool po__node_core_has_net(const struct po__node *n);
/* Wait for those inside po__node_wait_leader, then free. After stop, and after the network is
 * closed. */
void po__node_core_free(struct po__node *n);

#endif
