/* Completion queues.
 *
 * A ticket holds what its item will be: completing a call cannot fail for want of a place, and if
 * there is no memory for the outcome's bytes, the item says so. Tickets of watches and logs bring
 * many items, each allocated when it comes; how many of them wait is bounded per ticket, because
 * their source can be held up (a watch), or can spare them (a log).
 *
 * Items that were taken are kept until the next take: so what they point to needs no release by the
 * host. The eventfd is written when the first item comes and read when the last one is taken, both
 * under the lock, so that it is readable exactly while there are items.
 *
 * The queue is shared by its user and the tickets out for calls: the last one frees it. */
#include <pipeorch/queue.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/list.h"
#include "call.h"
#include "out.h"
#include "watch_internal.h"

#define ITEMS_DEFAULT 65536
/* Watches that one call of po_queue_take lets go on. */
#define WATCHES_AT_ONCE 16

enum { TICKET_CALL, TICKET_WATCH, TICKET_LOG };

struct item {
    struct po__list link;
    struct po_ticket
        *stream; /* of which it is one of many; NULL: of a call, or its ticket is gone */
    struct po_queue_item public;
    char *bytes; /* what public points to */
};

struct po_ticket {
    struct po_queue *queue;
    int kind;
    struct item *item; /* CALL: to be filled in. WATCH: kept for the case that there is no memory */
    uint64_t tag;
    unsigned waiting; /* streams: items untaken */
    uint32_t lost;    /* LOG: lines dropped since the last one that was kept */
    po_watch *watch;
    bool held; /* WATCH: it stands still until its items are taken */
};

struct po_queue {
    pthread_mutex_t lock;
    int fd;
    unsigned refs;    /* the user, and tickets of calls that are out */
    uint32_t out_max; /* tickets of calls that are out, and their untaken items */
    uint32_t out_count;
    bool closed;
    struct po__list items, taken;
};

/* ---- life ---- */

static void free_item(struct item *i)
{
    if (!i)
        return;
    po__free(i->bytes);
    po__free(i);
}

static void free_items(struct po__list *list)
{
    struct po__list *l;
    while ((l = po__list_pop(list)))
        free_item(po__container_of(l, struct item, link));
}

/* With the lock, which it gives up. */
static void unref(struct po_queue *q)
{
    bool last = --q->refs == 0;
    pthread_mutex_unlock(&q->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&q->lock);
    close(q->fd);
    po__free(q);
}

int po_queue_open(po_queue **queue, const struct po_queue_opts *opts)
{
    struct po_queue_opts o;
    if (!queue)
        return po__client_fail(PO_EINVAL, "the place for the queue is NULL");
    int rv = po__read_struct(&o, sizeof o, opts, "po_queue_opts");
    if (!rv && o.items_max > PO_QUEUE_ITEMS_MAX)
        rv = po__client_fail(PO_EINVAL, "items_max is %u; expected 1..%d, or 0 for %d", o.items_max,
                             PO_QUEUE_ITEMS_MAX, ITEMS_DEFAULT);
    if (rv)
        return rv;
    struct po_queue *q = po__calloc(1, sizeof *q);
    if (!q)
        return po__client_fail(PO_ENOMEM, "out of memory for a queue");
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0 || pthread_mutex_init(&q->lock, NULL)) {
        if (q->fd >= 0)
            close(q->fd);
        po__free(q);
        return po__client_fail(PO_ENOMEM, "no descriptor or lock is left for a queue");
    }
    q->refs = 1;
    q->out_max = o.items_max ? o.items_max : ITEMS_DEFAULT;
    po__list_init(&q->items);
    po__list_init(&q->taken);
    *queue = q;
    return 0;
}

void po_queue_close(po_queue *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    free_items(&q->items);
    free_items(&q->taken);
    unref(q);
}

int po_queue_fd(const po_queue *q)
{
    return q ? q->fd : -1;
}

/* ---- putting ---- */

/* With the lock. */
static void put(struct po_queue *q, struct item *i)
{
    uint64_t one = 1;
    bool first = po__list_empty(&q->items);
    po__list_push(&q->items, &i->link);
    /* The counter was 0, so that it takes the 1. */
    if (first && write(q->fd, &one, sizeof one) != sizeof one)
        PO_INVARIANT(!"an eventfd takes a 1");
}

/* One allocation for all texts of an item, each with a final NUL. False: no memory. */
static bool put_texts(struct item *i, const void *data, size_t len, const char *message,
                      const char *name)
{
    size_t message_len = message ? strlen(message) + 1 : 0, name_len = name ? strlen(name) + 1 : 0;
    size_t data_len = data ? len + 1 : 0;
    if (data_len + message_len + name_len == 0)
        return true;
    char *at = i->bytes = po__malloc(data_len + message_len + name_len);
    if (!at)
        return false;
    if (data) {
        memcpy(at, data, len);
        at[len] = '\0';
        i->public.data = at;
        i->public.len = len;
    }
    if (message)
        i->public.message = memcpy(at + data_len, message, message_len);
    if (name)
        i->public.name = memcpy(at + data_len + message_len, name, name_len);
    return true;
}

static struct po_ticket *new_ticket(struct po_queue *q, int kind, uint64_t tag)
{
    struct po_ticket *t = po__calloc(1, sizeof *t);
    if (!t) {
        po__client_fail(PO_ENOMEM, "out of memory for a ticket");
        return NULL;
    }
    *t = (struct po_ticket){.queue = q, .kind = kind, .tag = tag};
    return t;
}

/* ---- calls ---- */

int po_queue_ticket(po_queue *q, uint64_t tag, po_ticket **ticket)
{
    if (!q || !ticket)
        return po__client_fail(PO_EINVAL, "the queue, or the place for the ticket, is NULL");
    struct po_ticket *t = new_ticket(q, TICKET_CALL, tag);
    struct item *i = t ? po__calloc(1, sizeof *i) : NULL;
    if (!i) {
        po__free(t);
        return po__client_fail(PO_ENOMEM, "out of memory for a ticket");
    }
    pthread_mutex_lock(&q->lock);
    bool full = q->out_count >= q->out_max;
    if (!full) {
        q->out_count++;
        q->refs++;
    }
    uint32_t max = q->out_max;
    pthread_mutex_unlock(&q->lock);
    if (full) {
        free_item(i);
        po__free(t);
        return po__client_fail(PO_EBUSY,
                               "the queue has %u calls under way or untaken, as many as it allows; "
                               "take some",
                               max);
    }
    po__list_init(&i->link);
    t->item = i;
    *ticket = t;
    return 0;
}

void po_queue_on_result(void *ticket, const struct po_result *r)
{
    struct po_ticket *t = ticket;
    struct po_queue *q = t->queue;
    struct item *i = t->item;
    i->public = (struct po_queue_item){.what = PO_ITEM_RESULT,
                                       .code = r->code,
                                       .tag = t->tag,
                                       .id = r->id,
                                       .index = r->index,
                                       .term = r->term,
                                       .staleness_ms = r->staleness_ms};
    if (!put_texts(i, r->data, r->len, r->code ? r->message : NULL, NULL)) {
        i->public.code = PO_ENOMEM;
        i->public.message = "out of memory for the outcome of the call, which it has had";
    }
    po__free(t);
    pthread_mutex_lock(&q->lock);
    if (q->closed)
        free_item(i);
    else
        put(q, i);
    unref(q);
}

/* ---- watches ---- */

static struct item *event_item(const struct po_ticket *t, const struct po_watch_event *e)
{
    struct item *i = po__calloc(1, sizeof *i);
    char *json = NULL;
    bool made = i && po_watch_event_json(e, &json) == 0;
    if (made) {
        i->public = (struct po_queue_item){.what = PO_ITEM_EVENT,
                                           .tag = t->tag,
                                           .index = e->index,
                                           .position = e->position,
                                           .time_ms = e->time_ms};
        made = put_texts(i, json, strlen(json), NULL, NULL);
    }
    po_free(json);
    if (made)
        return i;
    free_item(i);
    return NULL;
}

/* The last item of a watch, for which there is always memory. */
static struct item *end_item(struct po_ticket *t, int code)
{
    struct item *i = t->item;
    t->item = NULL;
    i->public = (struct po_queue_item){
        .what = PO_ITEM_EVENT, .code = code, .tag = t->tag, .message = po_strerror(code)};
    po_watch_position(t->watch, &i->public.index, &i->public.position);
    return i;
}

/* On the thread of the client's callbacks. */
static void on_event(void *arg, int code, const struct po_watch_event *e)
{
    struct po_ticket *t = arg;
    struct po_queue *q = t->queue;
    struct item *i = e ? event_item(t, e) : NULL;
    pthread_mutex_lock(&q->lock);
    if (!i) {
        if (e) /* whoever goes on behind the last item gets this event again */
            po__watch_hold(t->watch, true);
        i = end_item(t, e ? PO_ENOMEM : code);
    } else if (t->waiting + 1 >= PO_QUEUE_STREAM_MAX) {
        po__watch_hold(t->watch, false);
        t->held = true;
    }
    i->stream = t;
    t->waiting++;
    put(q, i);
    pthread_mutex_unlock(&q->lock);
}

int po_queue_watch(po_queue *q, uint64_t tag, po_watch *watch, po_ticket **ticket)
{
    if (!q || !watch || !ticket)
        return po__client_fail(PO_EINVAL,
                               "the queue, the watch or the place for the ticket is NULL");
    struct po_ticket *t = new_ticket(q, TICKET_WATCH, tag);
    if (!t)
        return PO_ENOMEM;
    t->item = po__calloc(1, sizeof *t->item);
    t->watch = watch;
    int rv = t->item ? po_watch_start(watch, on_event, t)
                     : po__client_fail(PO_ENOMEM, "out of memory for a ticket");
    if (rv) {
        free_item(t->item);
        po__free(t);
        return rv;
    }
    *ticket = t;
    return 0;
}

/* ---- logs ---- */

int po_queue_log(po_queue *q, uint64_t tag, po_ticket **ticket)
{
    if (!q || !ticket)
        return po__client_fail(PO_EINVAL, "the queue, or the place for the ticket, is NULL");
    *ticket = new_ticket(q, TICKET_LOG, tag);
    return *ticket ? 0 : PO_ENOMEM;
}

void po_queue_on_log(void *ticket, const struct po_log_event *e)
{
    struct po_ticket *t = ticket;
    struct po_queue *q = t->queue;
    struct item *i = po__calloc(1, sizeof *i);
    if (i) {
        i->stream = t;
        i->public = (struct po_queue_item){
            .what = PO_ITEM_LOG, .code = e->level, .tag = t->tag, .time_ms = e->time_ms};
        if (!put_texts(i, e->message, strlen(e->message), e->id, e->name)) {
            free_item(i);
            i = NULL;
        }
    }
    pthread_mutex_lock(&q->lock);
    if (i && t->waiting < PO_QUEUE_STREAM_MAX && !q->closed) {
        i->public.lost = t->lost;
        t->lost = 0;
        t->waiting++;
        put(q, i);
    } else {
        t->lost++;
        free_item(i);
    }
    pthread_mutex_unlock(&q->lock);
}

/* ---- giving back ---- */

static void forget_stream(struct po__list *list, const struct po_ticket *t)
{
    struct po__list *it;
    po__list_each(it, list)
    {
        struct item *i = po__container_of(it, struct item, link);
        if (i->stream == t)
            i->stream = NULL;
    }
}

void po_ticket_drop(po_ticket *t)
{
    if (!t)
        return;
    struct po_queue *q = t->queue;
    po_watch_close(t->watch); /* its callback does not run any more; NULL for others */
    pthread_mutex_lock(&q->lock);
    forget_stream(&q->items, t);
    free_item(t->item);
    if (t->kind == TICKET_CALL) {
        q->out_count--;
        unref(q);
    } else {
        pthread_mutex_unlock(&q->lock);
    }
    po__free(t);
}

/* ---- taking ---- */

/* With the lock. Returns the watch that may go on now; NULL: none. */
static struct po_ticket *let_go(struct po_queue *q, struct item *i)
{
    struct po_ticket *t = i->stream;
    if (!t) {
        q->out_count -= i->public.what == PO_ITEM_RESULT;
        return NULL;
    }
    i->stream = NULL;
    t->waiting--;
    return t->held && t->waiting == 0 ? t : NULL;
}

/* It goes on behind the last event that was taken; what is in the way is told as its end. */
static void go_on(struct po_ticket *t)
{
    t->held = false;
    int rv = po_watch_start(t->watch, on_event, t);
    if (rv)
        on_event(t, rv, NULL);
}

static bool wait_for_items(const struct po_queue *q, uint32_t timeout_ms)
{
    struct pollfd p = {.fd = q->fd, .events = POLLIN};
    return poll(&p, 1, (int)timeout_ms) > 0;
}

static void hand_out(struct po_queue *q, struct po__rows *rows)
{
    struct po_ticket *held[WATCHES_AT_ONCE];
    size_t held_count = 0;
    struct po__list *l;
    uint64_t counter;
    pthread_mutex_lock(&q->lock);
    free_items(&q->taken);
    while (!po__rows_full(rows) && held_count < WATCHES_AT_ONCE && (l = po__list_pop(&q->items))) {
        struct item *i = po__container_of(l, struct item, link);
        struct po_ticket *t = let_go(q, i);
        if (t)
            held[held_count++] = t;
        po__list_push(&q->taken, &i->link);
        po__rows_add(rows, &i->public, sizeof i->public);
    }
    if (*rows->count && po__list_empty(&q->items) && read(q->fd, &counter, sizeof counter) < 0)
        PO_INVARIANT(!"an eventfd that was written can be read");
    pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < held_count; i++)
        go_on(held[i]);
}

int po_queue_take(po_queue *q, struct po_queue_item *items, size_t max, uint32_t timeout_ms,
                  size_t *count)
{
    struct po__rows rows;
    if (!q || timeout_ms > PO_TIMEOUT_MAX_MS)
        return po__client_fail(PO_EINVAL, "the queue is NULL, or timeout_ms is %u; expected 0..%d",
                               timeout_ms, PO_TIMEOUT_MAX_MS);
    int rv = po__rows_begin(&rows, items, max, count, "po_queue_item");
    if (rv)
        return rv;
    hand_out(q, &rows);
    if (*count == 0 && timeout_ms && wait_for_items(q, timeout_ms))
        hand_out(q, &rows);
    return *count ? 0 : po__client_fail(PO_ETIMEDOUT, "nothing came");
}
