/* What the two files of the network client share.
 *
 *   client_nng.c      the channel's operations, opening and closing
 *   client_engine.c   calls on their way: sending, answers, retries, redirects, deadlines
 *   client_targets.c  which node is asked, over which connection
 *   client_lane.c     lanes: one nng REQ socket with one connection each
 *
 * A target is one control node's address. It has lanes, because a server's nng queues only 64
 * answers per connection and silently drops those beyond: a lane never has more requests under way
 * than that, and another is opened when all are full.
 *
 * Raw REQ is used: its requests carry ids of our own choice, so that one socket has many under way
 * without an nng context for each, and nng never sends a request again by itself (RESENDTIME does
 * not exist in raw mode). All retries are the engine's.
 *
 * Locking: everything here is protected by the channel's lock. Sending with it held is safe,
 * because the send operation has no callback and a zero timeout: it never blocks and never calls
 * back. Opening is, too: dialling goes on in the background. */
#ifndef PO__CLIENT_INTERNAL_H
#define PO__CLIENT_INTERNAL_H

#include <nng/nng.h>
#include <pthread.h>

#include "../base/assert.h"
#include "../base/list.h"
#include "../base/tree.h"
#include "../base/log.h"
#include "../node/channel.h"

#define PO__LANE_CALLS_MAX                                                                         \
    64 /* under way on one connection: nng's queue of answers in the server */
#define PO__LANES_MAX        64  /* of one target: 4096 calls under way */
#define PO__TARGETS_MAX      32  /* addresses given and learned from redirects */
#define PO__LANE_QUEUE_MSGS  128 /* nng's own queues */
#define PO__RECONNECT_MIN_MS 50  /* nng draws each pause at random below a bound that doubles */
#define PO__RECONNECT_MAX_MS 1000

struct po__nng_channel;

struct po__lane {
    struct po__nng_channel *channel;
    struct po__target *target;
    nng_socket socket;
    nng_aio *recv, *send;
    bool up;
    uint32_t pipe; /* of the connection; 0: none */
    unsigned calls_count;
    struct po__list calls; /* under way */
    unsigned unanswered; /* requests that the connection took, those of abandoned calls included */
};

struct po__target {
    char address[PO_ADDRESS_MAX_BYTES + 1]; /* as given, or verbatim from a redirect */
    bool was_up;
    unsigned lanes_count;
    struct po__lane *lanes[PO__LANES_MAX];
};

enum { PO__CALL_READY, PO__CALL_SENT, PO__CALL_BACKOFF };

struct po__net_call {
    struct po__list link;     /* READY: channel->ready; SENT: lane->calls; finished: a local list */
    struct po__tree_node due; /* in channel->due, by due_ms and id */
    uint64_t due_ms;
    uint64_t deadline_ms;
    uint32_t id;
    int state;
    struct po__lane *lane; /* SENT */
    bool read_only;
    bool parks;          /* the node may take its time: WAIT and POLL */
    bool busy_is_answer; /* PO_EBUSY is about what was asked (a route), not about the node */
    bool repeatable;     /* although it may have been executed */
    bool maybe;          /* may have been executed */
    bool connected;      /* some connection took it */
    uint32_t try_ms;
    unsigned tries;
    uint8_t *refusal; /* the last one */
    size_t refusal_len;
    po__call_cb cb;
    void *arg;
    size_t len;
    uint8_t bytes[];
};

struct po__call_slot {
    struct po__net_call *call;
    uint16_t generation;
};

struct po__nng_channel {
    struct po__channel base;
    struct po__logger log;
    char name[PO_NAME_MAX_BYTES + 1];
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread has something earlier to do */
    pthread_mutex_t callbacks;
    pthread_t thread;
    bool closing;
    struct po__target *targets[PO__TARGETS_MAX];
    unsigned targets_count, current;
    uint64_t patience_until_ms; /* `current` may still be connecting; 0: no patience */
    unsigned lanes_max;         /* of one target */
    struct po__call_slot *slots;
    uint32_t *free_slots; /* a stack */
    uint32_t slots_count, free_count;
    struct po__list ready;
    struct po__tree due;
    uint64_t random;
};

/* client_lane.c */
int po__lane_open(struct po__lane **lane, struct po__nng_channel *channel,
                  struct po__target *target); /* with the lock; 0, PO_ENOMEM, PO_EADDR */
int po__lane_send(struct po__lane *lane, uint32_t id, const void *data,
                  size_t len);             /* with the lock */
int po__lane_stop(struct po__lane *lane);  /* without the lock; waits for its callbacks. PO_EBUSY:
                                              they may still run */
void po__lane_free(struct po__lane *lane); /* after every lane was stopped: callbacks look at all
                                              lanes of a target */

/* client_targets.c; all with the lock */
bool po__target_up(const struct po__target *t);
int po__target_index(struct po__nng_channel *ch,
                     struct po__slice address); /* added if it is new; -1: no room */
void po__target_move_on(struct po__nng_channel *ch,
                        const struct po__target *from); /* `from` does not serve */
struct po__lane *po__target_lane(struct po__nng_channel *ch, uint64_t now); /* NULL: not now */

/* client_engine.c */
uint64_t po__net_now_ms(void);
int po__net_call_classify(
    struct po__net_call *c); /* what kind of request is it? 0, PO_EPROTO, PO_EVERSION */
void po__net_call_begin(struct po__nng_channel *ch, struct po__net_call *c,
                        uint64_t now);            /* with the lock; it has an id */
void *po__net_run(void *channel);                 /* the channel's thread */
void po__net_abandon(struct po__nng_channel *ch); /* completes all calls; without the lock */
bool po__net_calling_back(const struct po__nng_channel *ch);

/* client_engine.c: events of a lane, on nng's threads, without the lock. */
void po__channel_on_reply(struct po__lane *lane, uint32_t id, const void *data, size_t len);
void po__channel_on_up(struct po__lane *lane, uint32_t pipe);
void po__channel_on_down(struct po__lane *lane, uint32_t pipe);

#endif
