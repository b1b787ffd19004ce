/* Logging: one event per line, with a level, a stable id and a sentence. The library only calls
 * back; it prints nothing.
 *
 * The id names the kind of event for ever ("raft.leader", "store.fault"); the sentence may change.
 * Callable from any thread (the callback must allow that). */
#ifndef PO__LOG_H
#define PO__LOG_H

#include <pipeorch/types.h>

struct po__logger {
    po_log_cb cb; /* NULL: discard */
    void *arg;
    int level;        /* events above this level are discarded unformatted */
    const char *name; /* name of the node, worker or client; borrowed */
};

void po__log(const struct po__logger *l, int level, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define po__error(l, ...) po__log(l, PO_LOG_ERROR, __VA_ARGS__)
#define po__warn(l, ...)  po__log(l, PO_LOG_WARN, __VA_ARGS__)
#define po__info(l, ...)  po__log(l, PO_LOG_INFO, __VA_ARGS__)
#define po__debug(l, ...) po__log(l, PO_LOG_DEBUG, __VA_ARGS__)

#endif
