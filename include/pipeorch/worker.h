/* A worker: this process executes tasks. SPDX-License-Identifier: MIT
 *
 * po_worker_open() sets up, po_worker_handle() names the function for each capability,
 * po_worker_run() registers, polls, executes and answers until po_worker_stop(). It follows
 * redirects, survives the death of control nodes, and registers again by itself when the cluster
 * does not know it. Without a cluster it is its own (PO_STANDALONE_*). */
#ifndef PIPEORCH_WORKER_H
#define PIPEORCH_WORKER_H

#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct po_worker po_worker;
typedef struct po_client po_client;
typedef struct po_task po_task; /* one attempt in the hands of a worker */

/* When a worker is its own control plane: it carries a control node of its own (a cluster of one in
 * this process, see node.h for its threads), registers there, and executes what is submitted to it.
 * Without addresses it always does. With addresses the cluster comes first, and the node is started
 * only if no control node answers the first attempt to register (5 s), or if standalone_dir holds
 * work from before. As soon as the cluster answers, the worker serves both: its node takes nothing
 * new (PO_EREFUSED), finishes what it has, and ends. It does not come back if the cluster is lost
 * later. Slots are shared: never more than max_concurrency handlers of a capability at a time. */
#define PO_STANDALONE_AUTO   0 /* with addresses: if standalone_dir or standalone_listen is given */
#define PO_STANDALONE_NEVER  1 /* addresses are required */
#define PO_STANDALONE_ALWAYS 2 /* with addresses: also without those two */

struct po_worker_opts {
    size_t size;
    const char *id;        /* required; unique in the cluster, [A-Za-z0-9._-]+ */
    const char *addresses; /* control nodes' worker addresses, comma-separated; NULL or "":
                              standalone */
    const char *zone;      /* NULL: "default" */
    const char *address;   /* advertised address of the worker, for information; NULL: "" */
    const struct po_label *labels;
    size_t labels_count;
    uint32_t heartbeat_ms; /* 0: 5000; 100..60000 */
    uint32_t
        threads; /* threads that run handlers; 0: the sum of max_concurrency, at most 64; 1..1024 */
    uint32_t batch_max; /* tasks carried by one poll or completion message; 0: 64; 1..1024 */
    uint32_t drain_ms;  /* how long po_worker_stop lets running handlers finish; 0:
                           8000; 1..PO_TIMEOUT_MAX_MS */
    struct po_log_opts log;
    const struct po_resource *resources; /* what the worker has; see types.h. Since 0.2, as below */
    size_t resources_count;              /* 0..PO_RESOURCES_MAX */
    uint32_t slots; /* tasks at a time over all capabilities; 0: only their own limits count */
    int standalone; /* PO_STANDALONE_* */
    const char *standalone_dir;    /* data directory of the worker's own control node; NULL: a
                                      temporary one, removed at the end: nothing is durable */
    const char *standalone_listen; /* its endpoint for clients, "host:port"; port 0 picks one;
                                      NULL: none, for calls within the process only */
    int insecure; /* 1: allow a standalone_listen that is not loopback, without TLS */
};

/* Runs on one of the worker's threads; several at once up to the capability's max_concurrency.
 * Answer with exactly one of po_task_complete and po_task_fail, in the handler or later from any
 * thread. A handler that returns without having answered keeps the task (and its slot) until it
 * is answered. */
typedef void (*po_task_handler)(void *arg, po_task *task);

/* Set a worker up; nothing runs yet. error as in po_node_start. Returns 0, PO_EINVAL, PO_EADDR,
 * PO_EREFUSED (a standalone endpoint beyond loopback without `insecure`), PO_ENOMEM. Any thread.
 * Since 0.1. */
PO_API int po_worker_open(po_worker **worker, const struct po_worker_opts *opts, char *error,
                          size_t error_len);

/* Offer a capability, served by handler(arg, task); handler NULL (since 0.3): its tasks are taken
 * with po_worker_take. Before po_worker_run only, one thread at a
 * time. Strings are copied. Returns 0, PO_EINVAL (also a schema outside of the subset that types.h
 * names; po_client_error says which keyword), PO_EEXISTS, PO_EQUOTA (more than
 * PO_CAPABILITIES_MAX), PO_ENOMEM. Since 0.1. */
PO_API int po_worker_handle(po_worker *worker, const struct po_capability *capability,
                            po_task_handler handler, void *arg);

/* Register and serve on the calling thread until po_worker_stop; then drain and deregister. An
 * attempt to register that is not answered within 5 s is repeated, after 0.25 to 5 s.
 * Returns 0 after a stop, or the error that makes going on useless: PO_ESTALE (another process
 * took this id over), PO_EINVAL, PO_EADDR, PO_ETOOBIG, PO_EPROTO (the cluster cannot read the
 * registration), PO_ENOMEM; standalone without addresses also those of po_node_start, and
 * PO_EFAULT (the node stopped). Since 0.1. */
PO_API int po_worker_run(po_worker *worker);

/* Wait until the worker is registered with the cluster or with its own node, once, at most
 * timeout_ms (0..PO_TIMEOUT_MAX_MS). Any thread but the one in po_worker_run and those of handlers
 * and callbacks. Returns 0, PO_ETIMEDOUT, PO_ECLOSED (po_worker_run has returned), PO_EINVAL. Since
 * 0.2. */
PO_API int po_worker_wait_ready(po_worker *worker, uint32_t timeout_ms);

/* A client of the worker's own control node, for calls within the process (see client.h). NULL
 * while there is no such node: not standalone, not yet, or not any more. Once it was handed out,
 * the node lives until po_worker_run returns, also when the cluster has answered. The client may be
 * called until po_worker_close: once the node has ended its calls return PO_ECLOSED. (Of a library
 * older than 0.3 no call may be under way when po_worker_run returns.) Owned by the worker; do not
 * close. Any thread. Since 0.2. */
PO_API po_client *po_worker_client(po_worker *worker);

/* The address of the standalone endpoint, with the port that was picked. Returns 0, PO_ENOTFOUND
 * (there is none, not yet, or not any more), PO_ETOOBIG, PO_EINVAL. Any thread. Since 0.2. */
PO_API int po_worker_standalone_address(po_worker *worker, char *address, size_t len);

/* Ask po_worker_run to drain and return. Any thread, any number of times; async-signal-safe.
 * Since 0.1. */
PO_API void po_worker_stop(po_worker *worker);

/* Release; po_worker_run must have returned, and nobody may use the worker any more. Tasks that
 * were never answered are given up. NULL is allowed. Since 0.1. */
PO_API void po_worker_close(po_worker *worker);

/* ---- pulling, since 0.3 ----
 *
 * For hosts whose code cannot run on threads of the library (see also queue.h): tasks of
 * capabilities without a handler wait until the host takes them, many at a time, and are answered
 * with po_task_complete and po_task_fail like others. */

#define PO_GRANT_TASK 1 /* a task: it is the taker's until answered */
#define PO_GRANT_LOST                                                                              \
    2 /* the lease of a task that was taken and is not answered is lost: stop it;                  \
         it has to be answered all the same. Told once */

struct po_grant {
    size_t size;         /* in, of the first of an array: that of each */
    int what;            /* PO_GRANT_* */
    uint32_t capability; /* which: its place in the order of po_worker_handle, from 0 */
    po_task *task;       /* LOST: only to be compared, with id and token; another thread may have
                            answered it meanwhile */
    uint64_t id;
    uint64_t token; /* fencing token */
    uint32_t attempt, timeout_ms;
    const void *input; /* JSON text, NUL-terminated; as the next, valid until it is answered */
    size_t input_len;
    const void *checkpoint; /* NULL: nothing */
    size_t checkpoint_len;
};

/* Take what there is, up to max (1..), at most waiting timeout_ms (0..PO_TIMEOUT_MAX_MS) for the
 * first. Any threads, several at a time. Returns 0 with *count >= 1, PO_ETIMEDOUT (*count is 0;
 * also while po_worker_run has not begun, or drains), PO_ECLOSED (po_worker_run has returned),
 * PO_EINVAL. Since 0.3. */
PO_API int po_worker_take(po_worker *worker, struct po_grant *grants, size_t max,
                          uint32_t timeout_ms, size_t *count);

/* A descriptor that is readable while po_worker_take has something to give or to say; for poll,
 * epoll and event loops; not to be read or closed. Any thread. Since 0.3. */
PO_API int po_worker_fd(const po_worker *worker);

/* The attempt's properties; pointers are valid until it is answered. Any thread. Since 0.1. */
PO_API uint64_t po_task_id(const po_task *task);
PO_API uint32_t po_task_attempt(const po_task *task); /* 1, 2, ... */
PO_API uint64_t po_task_token(
    const po_task *task); /* fencing token: hand it to every sink that can refuse older ones */
PO_API const char *po_task_capability(const po_task *task);
PO_API const void *po_task_input(const po_task *task, size_t *len); /* JSON text, NUL-terminated */
PO_API uint32_t po_task_timeout_ms(const po_task *task); /* of the attempt, from its grant */
PO_API int po_task_cancelled(const po_task *task); /* 1 once the lease is known to be lost: stop,
                                                      the answer will be refused */

/* Answer. result is JSON text (NULL: "null") of at most PO_PAYLOAD_MAX_BYTES; error is UTF-8
 * text, cut at PO_ERROR_TEXT_MAX_BYTES. retryable 0: the task fails at once, whatever its
 * attempts. The bytes are copied; the task is the library's again. Delivery goes on in the
 * background until the cluster accepted or refused it. Any thread. Returns 0, PO_EINVAL (not JSON,
 * or since 0.2: the result breaks the capability's output_schema, and po_client_error says where
 * and how; the task is still yours), PO_ETOOBIG (likewise), PO_ENOMEM (likewise). Since 0.1. */
PO_API int po_task_complete(po_task *task, const void *result, size_t len);
PO_API int po_task_fail(po_task *task, const char *error, int retryable);

/* Ask for more time: the attempt's deadline becomes now + extend_ms (100..86400000). Returns at
 * once. Any thread. Since 0.1. */
PO_API int po_task_extend(po_task *task, uint32_t extend_ms);

/* Tell how far the attempt is, and leave something for the next one, should this one not come to
 * its end. progress: 0..1000 thousandths; PO_PROGRESS_UNCHANGED leaves what was told before. data
 * (NULL: what was left before stays) of at most PO_CHECKPOINT_MAX_BYTES is copied. Only the newest
 * counts, so telling often costs little; delivery goes on in the background. Returns 0, PO_EINVAL,
 * PO_ETOOBIG, PO_ENOMEM. Any thread, until the task is answered. Since 0.2. */
#define PO_PROGRESS_UNCHANGED 1001
PO_API int po_task_checkpoint(po_task *task, uint32_t progress, const void *data, size_t len);
/* What an earlier attempt of the task left; NULL and 0: nothing. Valid until it is answered. Any
 * thread. Since 0.2. */
PO_API const void *po_task_checkpoint_data(const po_task *task, size_t *len);

#ifdef __cplusplus
}
#endif
#endif
