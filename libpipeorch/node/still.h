/* A loop's thread that can be made to stand still, between whatever it does: for tests.
 *
 * Paused, it stands until it is resumed. A visitor has it stand for as long as he stays, and may
 * meanwhile touch what belongs to it; there is one at a time. Costs a handle of the loop, and
 * nothing as long as nobody asks. */
#ifndef PO__STILL_H
#define PO__STILL_H

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

struct po__still {
    uv_async_t ask; /* the owner closes it, after po__still_end */
    pthread_mutex_t lock;
    pthread_cond_t cond; /* any of these changed */
    unsigned visitors;   /* inside, or at the door */
    bool inside;         /* one of them is */
    bool paused;
    bool standing;
    bool over;
};

int po__still_init(struct po__still *s, uv_loop_t *loop); /* 0, PO_ENOMEM */
void po__still_fini(struct po__still *s);
/* Nobody comes in any more, and the thread goes on once the visitors inside have left. Any thread.
 */
void po__still_end(struct po__still *s);

/* Any thread but the loop's. 0; PO_ECLOSED after the end. */
int po__still_pause(struct po__still *s, bool paused);
int po__still_enter(struct po__still *s);
void po__still_leave(struct po__still *s);

#endif
