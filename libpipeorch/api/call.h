/* One call of client.h, from its arguments to its result: what all of them share.
 *
 * A call is prepared (arguments checked, request encoded, PO_EINVAL and a sentence if that fails)
 * and then either started with a callback or waited for. The sentence of a failure is kept for the
 * calling thread (po_client_error). */
#ifndef PO__CALL_H
#define PO__CALL_H

#include <pipeorch/client.h>
#include "../base/log.h"
#include "../node/channel.h"

#define PO__CALL_TIMEOUT_DEFAULT_MS 10000
#define PO__CLIENT_ERROR_MAX_BYTES  4096
#define PO__ZONE_DEFAULT            "default"
#define PO__WAIT_SLICE_MS                                                                          \
    10000 /* a long wait is asked for in slices, so that a node that hangs is noticed */

struct po_client {
    struct po__channel *channel; /* owned */
    char name[PO_NAME_MAX_BYTES + 1];
};

/* A prepared call; consumed by po__call_start and po__call_wait, whatever they return. */
struct po__call {
    struct po__buf request;
    uint32_t timeout_ms;
    uint32_t type;      /* PO__REQ_* */
    uint32_t wait_kind; /* WAIT: 1 task, 2 run */
    uint64_t wait_id;
    bool raw; /* QUERY, WAIT: the result's data is the node's msgpack map instead of JSON */
};

/* What a blocking call got. data is NUL-terminated; released with po__outcome_fini. */
struct po__outcome {
    int code;
    uint64_t id, index;
    char *data; /* command: application result; batch: the array of outcomes; query and wait: JSON
                   text, or the raw map */
    size_t len;
};

/* Sets po_client_error() of this thread; returns code. */
int po__client_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Copies an option struct of the caller, whose first member is its size: what the caller's version
 * lacks is zero. NULL src: all zero. 0 or PO_EINVAL (a size that cannot be). `what` names the
 * struct in the sentence. */
int po__read_struct(void *dst, size_t dst_size, const void *src, const char *what);

int po__call_command(struct po__call *call, const struct po__cmd *cmd,
                     const struct po_call_opts *opts);
/* An array of `count` encoded commands, each of them checked. */
int po__call_batch(struct po__call *call, struct po__slice commands, uint32_t count,
                   const struct po_call_opts *opts);
int po__call_query(struct po__call *call, const struct po__query *query,
                   const struct po_call_opts *opts);
int po__call_wait_for(struct po__call *call, uint32_t kind, uint64_t id,
                      const struct po_call_opts *opts);
int po__call_heartbeat(struct po__call *call, const char *worker_id, uint64_t incarnation,
                       const struct po_call_opts *opts);

/* A piece of a snapshot (node/request.h); what is got is the answer's body. */
int po__call_snapshot(struct po__call *call, uint64_t stream, uint64_t offset,
                      const struct po_call_opts *opts);
int po__call_member(struct po__call *call, const struct po__member_request *m,
                    const struct po_call_opts *opts);

/* The caller's idempotency key, or one drawn into `drawn`. */
#define PO__DRAWN_KEY_BYTES 16
int po__call_key(struct po__slice *key, uint8_t drawn[PO__DRAWN_KEY_BYTES],
                 const struct po_call_opts *opts);

int po__call_start(po_client *client, struct po__call *call, po_result_cb cb, void *arg);
int po__call_wait(po_client *client, struct po__call *call,
                  struct po__outcome *out); /* out may be NULL */
/* A call whose result is an id; id may be NULL. */
int po__call_wait_id(po_client *client, struct po__call *call, uint64_t *id);
void po__outcome_fini(struct po__outcome *out);

/* result.c: the answer to a call as the public result. Returns the code. json receives the text
 * that result->data then points to; message (message_len bytes) the sentence. */
int po__result_decode(const struct po__call *call, const void *resp, size_t len,
                      struct po_result *result, struct po__buf *json, char *message,
                      size_t message_len);

/* client.c: the command of a registration, borrowing info's strings. 0 or PO_EINVAL. */
int po__register_command(struct po__cmd *cmd, const struct po_worker_info *info);

#endif
