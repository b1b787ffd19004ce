/* Completion queues: outcomes of calls, events and log lines as data, for hosts that cannot be
 * called back on a foreign thread: language runtimes, event loops. SPDX-License-Identifier: MIT
 *
 * In place of a callback of its own a host hands over po_queue_on_result with a ticket of a queue
 * as its argument. What would have been told to the callback is copied into the queue, an eventfd
 * becomes readable, and the host takes many items at a time with po_queue_take on a thread of its
 * own:
 *
 *   po_queue_ticket(queue, tag, &ticket);
 *   if (po_query_async(client, &query, NULL, po_queue_on_result, ticket))
 *       po_ticket_drop(ticket);
 *   ... poll(po_queue_fd(queue)) ...
 *   po_queue_take(queue, items, 64, &count);   an item with that tag is among them, some day
 *
 * Threads: tickets are made and completed on any thread. po_queue_take, po_queue_watch and
 * po_ticket_drop of a watch are called by one thread at a time, never in callbacks. */
#ifndef PIPEORCH_QUEUE_H
#define PIPEORCH_QUEUE_H

#include <pipeorch/types.h>
#include <pipeorch/watch.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct po_queue po_queue;
typedef struct po_ticket po_ticket; /* the right to put something into a queue */

#define PO_QUEUE_ITEMS_MAX 1048576
/* Items of one watch, and log lines of one ticket, that wait in a queue. A watch stands still until
 * they are taken; of log lines the newer ones are dropped, and counted. */
#define PO_QUEUE_STREAM_MAX 1024

struct po_queue_opts {
    size_t size;
    uint32_t items_max; /* tickets and untaken results together, beyond it PO_EBUSY; 0: 65536;
                           1..PO_QUEUE_ITEMS_MAX */
};

/* What an item is. */
#define PO_ITEM_RESULT 1 /* the outcome of a call, as struct po_result says it */
#define PO_ITEM_EVENT                                                                              \
    2                 /* data: the JSON of po_watch_event_json; or code: the watch stands still    \
                       */
#define PO_ITEM_LOG 3 /* data: the message; message: the event's stable id; code: its PO_LOG_* */

struct po_queue_item {
    size_t size; /* in, of the first of an array: that of each */
    int what;    /* PO_ITEM_* */
    int code;
    uint64_t tag; /* of the ticket */
    uint64_t id, index, term;
    uint64_t time_ms;      /* EVENT, LOG */
    uint32_t staleness_ms; /* RESULT */
    uint32_t lost;         /* LOG: lines dropped right before this one */
    uint32_t position;     /* EVENT */
    const void *data;      /* NUL-terminated; NULL if there is none */
    size_t len;
    const char *message; /* RESULT and EVENT with code != 0: what was wrong; else see above */
    const char *name;    /* LOG: of the node, worker or client that speaks; may be NULL */
};

/* Open a queue. opts may be NULL. Returns 0, PO_EINVAL, PO_ENOMEM. Any thread. Since 0.3. */
PO_API int po_queue_open(po_queue **queue, const struct po_queue_opts *opts);

/* Close: what is in it, and what tickets still bring, is dropped. Tickets of watches and logs must
 * have been dropped before. NULL is allowed. Since 0.3. */
PO_API void po_queue_close(po_queue *queue);

/* A descriptor that is readable while items wait; for poll, epoll and event loops; not to be read
 * or closed. Any thread. Since 0.3. */
PO_API int po_queue_fd(const po_queue *queue);

/* Take up to max (1..) items, at most waiting timeout_ms (0..PO_TIMEOUT_MAX_MS; 0: not at all) for
 * the first. What items point to is the queue's, and valid until the next call of this function or
 * of po_queue_close. Returns 0 with *count >= 1, PO_ETIMEDOUT (*count is 0), PO_EINVAL. Since 0.3.
 */
PO_API int po_queue_take(po_queue *queue, struct po_queue_item *items, size_t max,
                         uint32_t timeout_ms, size_t *count);

/* A ticket for one call; tag is given back with its item. It is used up by po_queue_on_result, or
 * has to be dropped if the call was not accepted. Returns 0, PO_EINVAL, PO_EBUSY, PO_ENOMEM. Any
 * thread. Since 0.3. */
PO_API int po_queue_ticket(po_queue *queue, uint64_t tag, po_ticket **ticket);

/* A po_result_cb; arg is the ticket. Since 0.3. */
PO_API void po_queue_on_result(void *ticket, const struct po_result *result);

/* Have a watch put its events into the queue; it is the ticket's from now on, and must not be used
 * otherwise. An item with a code other than 0 is the last one, as with po_watch_cb: drop the
 * ticket, and open another watch where this one came to (index and position of the item). On
 * failure the watch stays the caller's. Returns 0, PO_EINVAL, PO_ENOMEM, or as po_watch_start.
 * Since 0.3. */
PO_API int po_queue_watch(po_queue *queue, uint64_t tag, po_watch *watch, po_ticket **ticket);

/* A ticket for log lines: give po_queue_on_log and the ticket to struct po_log_opts. Drop it when
 * whatever logs with it is closed. Returns 0, PO_EINVAL, PO_ENOMEM. Any thread. Since 0.3. */
PO_API int po_queue_log(po_queue *queue, uint64_t tag, po_ticket **ticket);

/* A po_log_cb; arg is the ticket. Since 0.3. */
PO_API void po_queue_on_log(void *ticket, const struct po_log_event *event);

/* Give a ticket back that was not used; one of a watch closes the watch. Items that it brought stay
 * in the queue. NULL is allowed. Since 0.3. */
PO_API void po_ticket_drop(po_ticket *ticket);

#ifdef __cplusplus
}
#endif
#endif
