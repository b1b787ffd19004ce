/* Where workers and clients reach a node: a server of requests (node/request.h) and responses.
 *
 * One interface, several implementations: nng raw REP in the clear (worker_endpoint_nng.c) now,
 * a TLS front door later. Frames from the network are bounded by PO__REQUEST_MAX_BYTES before
 * they are read. */
#ifndef PO__WORKER_ENDPOINT_H
#define PO__WORKER_ENDPOINT_H

#include "../base/log.h"
#include "../node/request.h"

struct po__endpoint;
struct po__endpoint_call; /* one request that waits for its answer */

struct po__endpoint_opts {
    const char *listen; /* "host:port", "[v6]:port"; port 0 picks one */
    struct po__logger log;
    /* A request arrived: on a thread of the endpoint; must not block. The bytes are the
     * endpoint's and valid until the call is answered or dropped. conn identifies the
     * connection; the callee answers `call` exactly once with po__endpoint_answer, or drops it. */
    void (*request)(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                    size_t len);
    /* A connection ended; answers to it vanish. A request that had been received before may
     * still come. Any thread of the endpoint; must not block. */
    void (*closed)(void *arg, uint64_t conn);
    void *arg;
};

/* Binds before it returns. 0, PO_EADDR ("address in use: ..." if another process listens there),
 * PO_ENOMEM, with a sentence. Whether a non-loopback address is allowed is the caller's to check
 * (po__address_may_listen). Beyond its bounds of unanswered requests (named in the
 * implementation) the endpoint answers PO_EBUSY by itself. */
int po__endpoint_open(struct po__endpoint **e, const struct po__endpoint_opts *opts, char *error,
                      size_t error_len);
/* The bound address, "host:port" with the real port. */
const char *po__endpoint_address(const struct po__endpoint *e);
/* Not from a callback. Stops accepting and receiving; connections stay, so that answers still
 * leave; after it returns no callback runs. Calls not yet answered must still be answered or
 * dropped before close. */
void po__endpoint_stop(struct po__endpoint *e);
void po__endpoint_close(struct po__endpoint *e); /* NULL is allowed */

/* Any thread; never blocks. data is copied. */
void po__endpoint_answer(struct po__endpoint_call *call, const void *data, size_t len);
void po__endpoint_drop(struct po__endpoint_call *call);

#endif
