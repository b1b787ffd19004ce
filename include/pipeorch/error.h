/* Error codes of libpipeorch. SPDX-License-Identifier: MIT
 *
 * Every int-returning function of the library returns 0 on success or one of these negative
 * codes. The numbers are frozen: they appear on the wire and in logs, are never reused, and new
 * ones are only appended.
 *
 * PO_ERRORS(X) lists them once as X(name, number, retryable, text). `retryable` is 1 if the same
 * call may succeed later without anything being changed by the caller. */
#ifndef PIPEORCH_ERROR_H
#define PIPEORCH_ERROR_H

#include <pipeorch/version.h>

#define PO_ERRORS(X)                                                                               \
    X(EINVAL, -1, 0, "invalid argument")                                                           \
    X(ENOMEM, -2, 1, "out of memory")                                                              \
    X(EBUSY, -3, 1, "a bounded queue is full; retry later")                                        \
    X(ETOOBIG, -4, 0, "the value exceeds its documented limit")                                    \
    X(ECLOSED, -5, 0, "the handle is closed or stopping")                                          \
    X(ETIMEDOUT, -6, 1, "no answer within the timeout; nothing was started")                       \
    X(EUNKNOWN, -7, 1, "outcome unknown; retry with the same idempotency key")                     \
    X(ENOTLEADER, -8, 1, "this node is not the leader")                                            \
    X(ENOLEADER, -9, 1, "no leader is known")                                                      \
    X(ENOTFOUND, -10, 0, "no such object")                                                         \
    X(EEXISTS, -11, 0, "the object exists with other content")                                     \
    X(ESTALE, -12, 0, "the lease, incarnation or fencing token is no longer current")              \
    X(ENOTREGISTERED, -13, 1, "the cluster does not know this worker; register again")             \
    X(ENOCAPABILITY, -14, 1, "no registered worker offers this capability")                        \
    X(ESTATE, -15, 0, "the object's state does not allow this")                                    \
    X(EQUOTA, -16, 1, "a bounded table of the cluster is full")                                    \
    X(EPROTO, -17, 0, "malformed message")                                                         \
    X(EVERSION, -18, 0, "unknown version or type")                                                 \
    X(EIO, -19, 0, "input/output error")                                                           \
    X(ENOSPACE, -20, 0, "no space left on the disk")                                               \
    X(ECORRUPT, -21, 0, "stored data is corrupt")                                                  \
    X(ELOCKED, -22, 0, "the data directory is in use by another process")                          \
    X(EIDENTITY, -23, 0, "the data directory or peer belongs to another cluster or node")          \
    X(ENOTBOOTSTRAPPED, -24, 0, "the data directory is empty and bootstrap was not requested")     \
    X(EADDR, -25, 0, "the address cannot be parsed, resolved or bound")                            \
    X(EUNREACHABLE, -26, 1, "no control node can be reached")                                      \
    X(EFAULT, -27, 0, "the node stopped because of a fault that it could not survive honestly")    \
    X(ECANCELLED, -28, 0, "the operation was cancelled")                                           \
    X(EREFUSED, -29, 0, "refused")                                                                 \
    X(ESTALE_READ, -30, 1, "the state is staler than the bound that the caller set")               \
    X(EREMOVED, -31, 0, "the node was removed from its cluster")

enum po_error {
#define X(name, number, retryable, text) PO_##name = number,
    PO_ERRORS(X)
#undef X
};

#ifdef __cplusplus
extern "C" {
#endif

/* The symbolic name of a code ("PO_EBUSY"), "0" for 0, "PO_E?" for an unknown one. Static
 * storage. Any thread. Since 0.1. */
PO_API const char *po_err_name(int code);

/* One sentence saying what the code means. Static storage. Any thread. Since 0.1. */
PO_API const char *po_strerror(int code);

/* 1 if the same call may succeed later unchanged, 0 otherwise (and for unknown codes). Any
 * thread. Since 0.1. */
PO_API int po_err_retryable(int code);

#ifdef __cplusplus
}
#endif
#endif
