#include "mailbox.h"

#include <pipeorch/error.h>

int po__mailbox_init(struct po__mailbox *mb, void (*signal)(void *arg), void *arg)
{
    *mb = (struct po__mailbox){.signal = signal, .arg = arg};
    po__list_init(&mb->queue);
    return pthread_mutex_init(&mb->lock, NULL) == 0 ? 0 : PO_ENOMEM;
}

void po__mailbox_fini(struct po__mailbox *mb)
{
    pthread_mutex_destroy(&mb->lock);
}

static int post(struct po__mailbox *mb, struct po__mail *mail, int always)
{
    int rv = 0;
    pthread_mutex_lock(&mb->lock);
    if (mb->closed) {
        rv = PO_ECLOSED;
    } else if (!always && (mb->count >= PO__MAILBOX_MAX_COUNT ||
                           mail->bytes > PO__MAILBOX_MAX_BYTES - mb->bytes)) {
        rv = PO_EBUSY;
    } else {
        po__list_push(&mb->queue, &mail->link);
        mb->bytes += mail->bytes;
        if (mb->count++ == 0)
            mb->signal(mb->arg);
    }
    pthread_mutex_unlock(&mb->lock);
    return rv;
}

int po__mailbox_post(struct po__mailbox *mb, struct po__mail *mail)
{
    return post(mb, mail, 0);
}

int po__mailbox_post_always(struct po__mailbox *mb, struct po__mail *mail)
{
    mail->bytes = 0;
    return post(mb, mail, 1);
}

size_t po__mailbox_take(struct po__mailbox *mb, struct po__list *out)
{
    pthread_mutex_lock(&mb->lock);
    size_t n = mb->count;
    if (n) {
        mb->queue.next->prev = out;
        mb->queue.prev->next = out;
        out->next = mb->queue.next;
        out->prev = mb->queue.prev;
        po__list_init(&mb->queue);
        mb->count = mb->bytes = 0;
    }
    pthread_mutex_unlock(&mb->lock);
    return n;
}

size_t po__mailbox_count(struct po__mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    size_t n = mb->count;
    pthread_mutex_unlock(&mb->lock);
    return n;
}

void po__mailbox_close(struct po__mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    mb->closed = 1;
    pthread_mutex_unlock(&mb->lock);
}
