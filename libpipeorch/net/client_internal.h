/* What the two files of the network client share.
 *
 *   client_nng.c   the engine: calls, retries, redirects, deadlines
 *   client_lane.c  lanes: one nng REQ socket with one connection each
 *
 * A target is one control node's address. It has lanes, because a server's nng queues only 64 answers per connection and
 * silently drops those beyond: a lane never has more requests under way than that, and another is opened when all are full.
 *
 * Raw REQ is used: its requests carry ids of our own choice, so that one socket has many under way without an nng context for
 * each, and nng never sends a request again by itself (RESENDTIME does not exist in raw mode). All retries are the engine's.
 *
 * Locking: everything here is protected by the channel's lock. Sending with it held is safe, because the send operation has no
 * callback and a zero timeout: it never blocks and never calls back. Opening is, too: dialling goes on in the background. */
#ifndef PO__CLIENT_INTERNAL_H
#define PO__CLIENT_INTERNAL_H

#include <nng/nng.h>

#include "../base/assert.h"
#include "../base/list.h"
#include "../base/tree.h"
#include "../node/channel.h"

#define PO__LANE_CALLS_MAX      64   /* under way on one connection: nng's queue of answers in the server */
#define PO__LANES_MAX           64   /* of one target: 4096 calls under way */
#define PO__TARGETS_MAX         32   /* addresses given and learned from redirects */
#define PO__LANE_QUEUE_MSGS     128  /* nng's own queues */
#define PO__RECONNECT_MIN_MS    50   /* nng draws each pause at random below a bound that doubles */
#define PO__RECONNECT_MAX_MS    1000

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
};

struct po__target {
    char address[PO_ADDRESS_MAX_BYTES + 1]; /* as given, or verbatim from a redirect */
    bool was_up;
    unsigned lanes_count;
    struct po__lane *lanes[PO__LANES_MAX];
};

/* client_lane.c */
int po__lane_open(struct po__lane **lane, struct po__nng_channel *channel,
                  struct po__target *target); /* with the lock; 0, PO_ENOMEM, PO_EADDR */
int po__lane_send(struct po__lane *lane, uint32_t id, const void *data, size_t len); /* with the lock */
void po__lane_stop(struct po__lane *lane); /* without the lock; waits for the lane's callbacks */
void po__lane_free(struct po__lane *lane); /* after every lane was stopped: callbacks look at all lanes of a target */

/* client_nng.c: events of a lane, on nng's threads, without the lock. */
void po__channel_on_reply(struct po__lane *lane, uint32_t id, const void *data, size_t len);
void po__channel_on_up(struct po__lane *lane, uint32_t pipe);
void po__channel_on_down(struct po__lane *lane, uint32_t pipe);

#endif
