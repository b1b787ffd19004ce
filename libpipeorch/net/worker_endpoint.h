/* Where workers and clients reach a node: a server of requests (node/request.h) and responses.
 *
 * SP REP over TCP in the clear (worker_endpoint.c): any REQ socket of nng or nanomsg can ask. A TLS
 * front door comes later behind the same interface. Frames from the network are bounded by
 * PO__REQUEST_MAX_BYTES before memory is reserved for them.
 *
 * One thread, the loop's, unless it says otherwise. Callbacks run from the loop, never from inside
 * a function of this header, except po__endpoint_flush and _close, which may call `closed`. */
#ifndef PO__WORKER_ENDPOINT_H
#define PO__WORKER_ENDPOINT_H

#include <uv.h>

#include "../base/log.h"
#include "../node/request.h"

struct po__endpoint;
struct po__endpoint_call; /* one request that waits for its answer */

struct po__endpoint_opts {
    const char *listen; /* "host:port", "[v6]:port"; port 0 picks one */
    struct po__logger log;
    /* A request arrived. The bytes are valid until this returns. conn identifies the connection
     * and is not 0; the callee answers `call` exactly once with po__endpoint_answer, now or later,
     * or drops it. */
    void (*request)(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                    size_t len);
    /* A connection ended; answers to it vanish, but still have to be given. No request comes from
     * it any more. */
    void (*closed)(void *arg, uint64_t conn);
    void *arg;
};

/* Binds and listens before it returns; connections wait until po__endpoint_start. Any thread. 0,
 * PO_EADDR ("address in use: ..." if another process listens there), PO_ENOMEM, with a sentence.
 * Whether a non-loopback address is allowed is the caller's to check (po__address_may_listen).
 * Beyond its bounds of unanswered requests (named in the implementation) the endpoint answers
 * PO_EBUSY by itself. */
int po__endpoint_open(struct po__endpoint **e, const struct po__endpoint_opts *opts, char *error,
                      size_t error_len);
/* The bound address, "host:port" with the real port. Any thread. */
const char *po__endpoint_address(const struct po__endpoint *e);
/* From now on it serves, on this loop; once. 0 or PO_EADDR with a sentence. Whoever starts it calls
 * po__endpoint_flush before the loop sleeps, as often as there may be answers. */
int po__endpoint_start(struct po__endpoint *e, uv_loop_t *loop, char *error, size_t error_len);

/* data is copied and leaves with the next flush. */
void po__endpoint_answer(struct po__endpoint_call *call, const void *data, size_t len);
void po__endpoint_drop(struct po__endpoint_call *call);
void po__endpoint_flush(struct po__endpoint *e); /* one write per connection */

/* As if the process had been killed: connections end now, with whatever is to leave on them, and
 * there are no others. No callback runs any more; the end is po__endpoint_close's. After start. */
void po__endpoint_sever(struct po__endpoint *e);

/* Every call must have been answered or dropped. Requests are turned away from now on, answers
 * still leave; then everything is closed, within PO__ENDPOINT_LINGER_MS, and closed(arg) called
 * (may be NULL), e being freed; no other callback runs any more. Without a loop (never started): at
 * once, on any thread. */
#define PO__ENDPOINT_LINGER_MS 500
void po__endpoint_close(struct po__endpoint *e, void (*closed)(void *arg), void *arg);

#endif
