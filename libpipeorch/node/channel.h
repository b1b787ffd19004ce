/* How a po_client reaches the cluster: in-process through a node, or over the network. One
 * interface, so that every call of client.h is written once (api/client.c). */
#ifndef PO__CHANNEL_H
#define PO__CHANNEL_H

#include <stdbool.h>
#include "../base/log.h"
#include "request.h"

/* code 0: resp is a whole response of node/request.h (whose own code may be an error). Otherwise
 * the channel's own error, resp NULL: PO_ETIMEDOUT (never left), PO_EUNKNOWN (left, no answer),
 * PO_EUNREACHABLE, PO_ECLOSED, PO_EBUSY. Runs exactly once per accepted call. */
typedef void (*po__call_cb)(void *arg, int code, const void *resp, size_t len);

struct po__channel {
    const struct po__channel_ops *ops;
};

struct po__channel_ops {
    /* Copies the request; never blocks; any thread, callbacks included. Follows redirects and
     * retries the same bytes until timeout_ms. Non-zero: not accepted, cb never runs (PO_EBUSY,
     * PO_ETOOBIG, PO_ECLOSED, PO_ENOMEM). */
    int (*call)(struct po__channel *ch, const void *req, size_t len, uint32_t timeout_ms,
                po__call_cb cb, void *arg);
    /* 1 if called on the thread that runs this channel's callbacks (blocking calls are refused
     * there). */
    int (*on_callback_thread)(struct po__channel *ch);
    void (*close)(struct po__channel *ch); /* completes what waits, then frees */
};

/* net/client_channel.c: over TCP, one connection and one thread of its own; SP REQ (net/sp.h). */
int po__channel_net(struct po__channel **ch, const char *addresses, uint32_t calls_max,
                    const struct po__logger *log);

/* api/client.c: a client over any channel, which it owns. */
struct po_client;
int po__client_over(struct po_client **client, struct po__channel *ch);
struct po__channel *po__client_channel(struct po_client *client);

/* Threads that run the host's callbacks: a node's, a client's. What blocks for long, and is no call
 * on one channel, is refused on all of them: whoever waits for such a thread would wait for a disk.
 */
void po__callback_thread_begin(void); /* the calling thread is one, until it ends */
bool po__on_callback_thread(void);

#endif
