/* The mailbox of the node thread: many threads post, the node thread takes everything at once.
 *
 * Bounded in messages and in bytes; a full mailbox refuses (PO_EBUSY) and never grows. One mutex,
 * held for a few instructions: posting links a message, taking swaps the list. The first post after
 * a take signals the node thread; later ones need not. */
#ifndef PO__MAILBOX_H
#define PO__MAILBOX_H

#include <pthread.h>
#include "../base/list.h"

#define PO__MAILBOX_MAX_COUNT 65536
#define PO__MAILBOX_MAX_BYTES ((size_t)64 << 20)

struct po__mail {
    struct po__list link;
    void (*deliver)(void *node,
                    struct po__mail *mail); /* node thread; owns the mail from then on */
    size_t bytes;                           /* what it counts against the byte bound */
};

struct po__mailbox {
    pthread_mutex_t lock; /* guards everything below */
    struct po__list queue;
    size_t count, bytes;
    int closed;
    /* From the posting thread, under the lock: once the mailbox is closed nobody is in it any more,
     * and what it signals may be freed. Must not post. */
    void (*signal)(void *arg);
    void *arg;
};

int po__mailbox_init(struct po__mailbox *mb, void (*signal)(void *arg),
                     void *arg); /* 0 or PO_ENOMEM */
void po__mailbox_fini(struct po__mailbox *mb);
/* 0, PO_EBUSY or PO_ECLOSED; on error the mail stays the caller's. */
int po__mailbox_post(struct po__mailbox *mb, struct po__mail *mail);
/* As post, beyond the bounds: for the few messages that must not be lost and whose number is
 * bounded by other means (one per connection). */
int po__mailbox_post_always(struct po__mailbox *mb, struct po__mail *mail);
/* Move everything to `out` (an initialised list head). Returns the number. */
size_t po__mailbox_take(struct po__mailbox *mb, struct po__list *out);
size_t po__mailbox_count(struct po__mailbox *mb);
/* From now on posts are refused with PO_ECLOSED. */
void po__mailbox_close(struct po__mailbox *mb);

#endif
