/* A thread that runs the jobs of one channel of the real disk, in order. */
#ifndef PO__DISK_CHANNEL_H
#define PO__DISK_CHANNEL_H

#include <pthread.h>
#include "../base/assert.h"
#include "disk.h"

#define PO__DISK_ERROR_BYTES 256

/* Finished jobs of all channels, until the owner polls. Locking: `mutex` guards all fields. */
struct po__disk_done {
    pthread_mutex_t mutex;
    struct po__list jobs;
    char error[PO__DISK_ERROR_BYTES]; /* of the last job that failed; empty: none since the last
                                         poll */
    void (*wakeup)(void *arg);
    void *arg;
};

/* Locking: `mutex` guards queue and stop. error belongs to the thread. */
struct po__disk_channel_thread {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct po__list queue;
    bool stop;
    bool started;
    struct po__disk_done *done;
    char error[PO__DISK_ERROR_BYTES];
};

void po__disk_done_init(struct po__disk_done *d, void (*wakeup)(void *arg), void *arg);
void po__disk_done_fini(struct po__disk_done *d);
/* Run `done` of everything finished; the text of a failed job goes to last_error first. Owner
 * thread. */
void po__disk_done_poll(struct po__disk_done *d, char last_error[PO__DISK_ERROR_BYTES]);

int po__disk_channel_start(struct po__disk_channel_thread *c,
                           struct po__disk_done *done); /* PO_ENOMEM */
void po__disk_channel_submit(struct po__disk_channel_thread *c, struct po__disk_job *job);
void po__disk_channel_stop(
    struct po__disk_channel_thread *c); /* waits for the running job, forgets queued ones */

/* Where the calling thread must leave the text of a failing disk call: the channel's own buffer on
 * a channel's thread, else NULL. */
char *po__disk_channel_error(void);

#endif
