/* What the files of the network client share.
 *
 *   client_channel.c  the channel: its operations, its thread and loop, opening and closing
 *   client_engine.c   calls on their way: sending, answers, retries, redirects, deadlines
 *   client_targets.c  which node is asked
 *   client_dial.c     the connection to a target: dialled, lost, dialled again
 *
 * A target is one control node's address, with one connection, which carries all calls to it: a
 * request's id leads its answer back, in whatever order answers come.
 *
 * Threads: everything belongs to the channel's own thread, which runs a libuv loop, except what
 * `lock` protects: calls that other threads hand in, and the wish to close. */
#ifndef PO__CLIENT_INTERNAL_H
#define PO__CLIENT_INTERNAL_H

#include <netdb.h>
#include <pthread.h>
#include <uv.h>

#include "../base/assert.h"
#include "../base/list.h"
#include "../base/log.h"
#include "../base/tree.h"
#include "../node/channel.h"
#include "sp_conn.h"

#define PO__TARGETS_MAX      32   /* addresses given and learned from redirects */
#define PO__TARGET_CALLS_MAX 4096 /* under way on one connection */
#define PO__DIAL_MS          5000 /* for one address, from connecting to the hello */
#define PO__RECONNECT_MIN_MS 50   /* before the second dial; doubles */
#define PO__RECONNECT_MAX_MS 1000

struct po__net_channel;
struct po__target;

/* A connection, or an attempt at one. Lives until libuv lets go of it. */
struct po__link {
    struct po__sp_conn sp; /* first */
    struct po__net_channel *channel;
    struct po__target *target; /* NULL: it has ended */
};

struct po__target {
    struct po__net_channel *channel;
    char address[PO_ADDRESS_MAX_BYTES + 1]; /* as given, or verbatim from a redirect */
    struct po__link *link;                  /* NULL: none, and none under way */
    bool up;                                /* its hello came: calls may be sent */
    bool was_up;
    bool resolving;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses, *next_address; /* while it is dialled */
    uint64_t due_ms; /* link, not up: until when it may take; no link: when to dial */
    uint64_t up_ms;
    unsigned failures;     /* in a row */
    struct po__list calls; /* under way, in the order in which they were sent */
    unsigned calls_count;
};

enum { PO__CALL_NEW, PO__CALL_READY, PO__CALL_SENT, PO__CALL_BACKOFF };

struct po__net_call {
    struct po__list link;     /* NEW: channel->inbox; READY: channel->ready; SENT: target->calls;
                                 finished: a local list */
    struct po__tree_node due; /* in channel->due, by due_ms and id */
    uint64_t due_ms;
    uint64_t deadline_ms;
    uint32_t id;
    int state;
    struct po__target *target; /* SENT */
    uint64_t sent_to;          /* SENT: where its last byte is in the connection's stream */
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

struct po__net_channel {
    struct po__channel base;
    struct po__logger log;
    char name[PO_NAME_MAX_BYTES + 1];
    pthread_t thread;

    pthread_mutex_t lock; /* for the next four, and the use of `wake` by other threads */
    struct po__list inbox;
    uint32_t calls_count, calls_max; /* not answered */
    bool closing;

    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t prepare; /* runs the engine's turn, whatever woke the loop */
    uv_timer_t timer;
    struct po__target *targets[PO__TARGETS_MAX];
    unsigned targets_count, current;
    uint64_t patience_until_ms; /* `current` may still be connecting; 0: no patience */
    struct po__call_slot *slots;
    uint32_t *free_slots; /* a stack */
    uint32_t free_count;
    struct po__list ready;
    struct po__tree due;
    bool changed; /* something happened that another look at what is ready should follow */
    bool stopped;
    uint64_t random;
    char read_memory[PO__SP_READ_BYTES];
};

/* client_targets.c */
int po__target_index(struct po__net_channel *ch,
                     struct po__slice address); /* added if it is new; -1: no room */
void po__target_move_on(struct po__net_channel *ch,
                        const struct po__target *from); /* `from` does not serve */
/* The target to send to, if it can take a call now. NULL: something has to happen first, of which
 * the engine is told, or patience to end. */
struct po__target *po__target_for_call(struct po__net_channel *ch, uint64_t now);

/* client_dial.c */
void po__target_tend(struct po__target *t, uint64_t now); /* what is due of it */
void po__target_close(struct po__target *t, const char *why);

/* client_engine.c */
uint64_t po__net_now_ms(void);
uint64_t po__net_random(struct po__net_channel *ch);
/* What kind of request is it? 0, PO_EPROTO, PO_EVERSION. Any thread. */
int po__net_call_classify(struct po__net_call *c);
/* One turn: takes what was handed in, sends, times out. Then the timer is set. */
void po__net_turn(struct po__net_channel *ch);
void po__net_abandon(struct po__net_channel *ch); /* completes all calls; the thread has ended */
bool po__net_calling_back(const struct po__net_channel *ch);
/* Events of a target's connection. */
void po__net_on_reply(struct po__target *t, uint32_t id, struct po__slice answer);
void po__net_on_up(struct po__target *t);
void po__net_on_down(struct po__target *t, uint64_t taken_bytes);

#endif
