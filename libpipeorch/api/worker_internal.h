/* What the files of a worker share.
 *
 *   worker.c       the handle: options, capabilities, opening and closing
 *   worker_run.c   the thread of po_worker_run: registration, serving, draining
 *   worker_poll.c  the conversation with the cluster: polls out, tasks and revocations in
 *   worker_task.c  tasks in hand: handler threads, answers
 *
 * One lock protects all of it. It may be held while the channel is called (the channel never calls
 * back from within a call) and while an event is logged (log callbacks must not call the library);
 * never while a handler runs.
 *
 * Who moves things on: an answer of the cluster is handled on the channel's callback thread, which
 * queues the tasks and wakes handler threads; a handler's answer is queued and, if no other answers
 * are on their way, sent by the very thread that gave it. So a warm task passes no thread of ours
 * but the handler's. The run thread only keeps time: registration, heartbeats, retries, draining.
 * It sleeps on an eventfd, because po_worker_stop may be called from a signal handler. */
#ifndef PO__WORKER_INTERNAL_H
#define PO__WORKER_INTERNAL_H

#include <pipeorch/worker.h>
#include <pthread.h>
#include <stdatomic.h>

#include "../base/fsm.h"
#include "../base/list.h"
#include "../base/log.h"
#include "../base/tree.h"
#include "../node/channel.h"

#define PO__WORKER_BATCH_DEFAULT       64
#define PO__WORKER_THREADS_DEFAULT_MAX 64
#define PO__WORKER_THREADS_MAX         1024
#define PO__WORKER_DRAIN_DEFAULT_MS    8000
#define PO__WORKER_GOODBYE_MS                                                                      \
    1500                        /* for the last answers and the deregistration, after the drain */
#define PO__WORKER_CALLS_MAX 16 /* two polls, registration, status, deregistration */
#define PO__WORKER_CALL_MS   30000
#define PO__WORKER_BUSY_POLL_MS                                                                    \
    100 /* all slots taken: an answer is likely to carry the next poll, so wait for one */
#define PO__WORKER_RETRY_MS          200 /* after a poll that failed for a reason that waiting may cure */
#define PO__WORKER_REGISTER_RETRY_MS 1000
/* Payloads of answers in one poll; leaves room for the tokens of a resync */
#define PO__WORKER_DONE_MAX_BYTES (3u << 20)
#define PO__WORKER_SEQ_WINDOW                                                                      \
    4096 /* tasks received beyond the first gap in the node's numbering                            \
          */

/* A task's way through this process. */
enum { PO__TASK_QUEUED, PO__TASK_IN_HANDLER, PO__TASK_ANSWERED };

/* Something to tell the cluster about a task. */
struct po__outcome_out {
    struct po__list link; /* worker->done or poll->sent */
    struct po_task *task; /* NULL: EXTEND, CHECKPOINT */
    uint64_t task_id, token;
    uint32_t kind; /* PO__DONE_* */
    uint64_t flag;
    size_t len;
    char payload[];
};

struct po_task {
    struct po__tree_node by_token;
    struct po__list link; /* worker->queue while QUEUED */
    struct po_worker *worker;
    int state;
    atomic_int cancelled;
    uint64_t id, token;
    uint32_t attempt, timeout_ms;
    const struct po__offered *offered;
    char *input; /* NUL-terminated */
    size_t input_len;
    char *checkpoint; /* what an earlier attempt left; NULL: nothing */
    size_t checkpoint_len;
};

struct po__offered {
    struct po_capability capability; /* strings owned */
    po_task_handler handler;
    void *arg;
};

struct po__poll {
    struct po_worker *worker;
    bool under_way;
    bool resync;
    uint64_t session;
    struct po__list sent; /* the answers that it carries */
};

enum {
    PO__WORKER_IDLE,     /* not run yet */
    PO__WORKER_REGISTER, /* must register before it polls */
    PO__WORKER_SERVE,
    PO__WORKER_DRAIN, /* starts nothing new */
    PO__WORKER_STOPPED,
};

struct po_worker {
    /* settings, fixed once it runs */
    char id[PO_NAME_MAX_BYTES + 1], zone[PO_NAME_MAX_BYTES + 1], address[PO_ADDRESS_MAX_BYTES + 1];
    char *addresses;
    struct po_label labels[PO_LABELS_MAX]; /* strings owned */
    size_t labels_count;
    struct po__offered offered[PO_CAPABILITIES_MAX];
    size_t offered_count;
    struct po_resource resources[PO_RESOURCES_MAX]; /* strings owned */
    size_t resources_count;
    uint32_t slots_limit; /* of all capabilities together; 0: none */
    uint32_t heartbeat_ms, threads_max, batch_max, drain_ms, slots;
    struct po__logger log;

    atomic_int stop;
    int event_fd;

    pthread_mutex_t lock;
    pthread_cond_t work; /* the queue has a task, or the handler threads must end */
    int phase;
    int fatal; /* code with which po_worker_run returns */
    struct po__channel *channel;
    uint64_t incarnation;
    pthread_t *threads;
    unsigned threads_count;
    bool threads_end;

    struct po__tree tasks;     /* in hand, by token */
    struct po__list queue;     /* tasks that no handler has yet */
    unsigned in_handler_count; /* a handler, or whoever it gave them to, has them */
    unsigned unanswered_count; /* those and the queued ones: slots taken */
    struct po__list done;      /* outcomes to be sent */

    struct po__poll parked, carrying; /* at most one poll of each kind is under way */
    bool resync;                      /* the node must be told what we hold */
    uint64_t session; /* counts resyncs; answers to polls of an earlier one bring no tasks */
    uint64_t ack_seq; /* all tasks up to here were received */
    uint8_t seen[PO__WORKER_SEQ_WINDOW / 8]; /* ring of bits: received beyond ack_seq */
    uint64_t poll_at_ms;                     /* not before; 0: at once */
    uint64_t polled_ms;                      /* when the last poll was answered */
    uint64_t sleeping_until_ms; /* the run thread; UINT64_MAX: until it is woken, 0: it is awake */

    int call_code; /* of the one registration or deregistration under way; 1: none yet */
    bool call_under_way;
    char call_message[512];
};

uint64_t po__worker_now_ms(void);
void po__worker_wake(struct po_worker *w); /* the run thread; any thread, signal handlers */

/* worker_run.c, with the lock: the cluster does not know this worker */
void po__worker_unknown(struct po_worker *w);

/* worker_poll.c; all with the lock */
void po__worker_wake_if_due(struct po_worker *w);
void po__worker_poll(struct po_worker *w); /* send what should be sent now */
uint64_t po__worker_poll_due_ms(
    const struct po_worker *w); /* when to call po__worker_poll again; UINT64_MAX: no need */

/* worker_task.c; all with the lock, except start and end */
int po__worker_start_threads(struct po_worker *w);
void po__worker_end_threads(struct po_worker *w); /* waits for handlers that run */
int po__worker_take(struct po_worker *w, const struct po__task_offer *offer); /* 0, PO_ENOMEM */
void po__worker_revoke(struct po_worker *w, uint64_t token);
void po__worker_outcome_over(struct po_worker *w,
                             struct po__outcome_out *o); /* accepted or refused: forget it */
struct po_task *po__worker_find(struct po_worker *w, uint64_t token);
void po__worker_say(struct po_worker *w, struct po__outcome_out *o); /* queue it, send it soon */
struct po__outcome_out *po__worker_outcome(const struct po_task *t, uint32_t kind, uint64_t flag,
                                           const void *payload, size_t len); /* NULL: no memory */
void po__worker_forget_all(struct po_worker *w);

#endif
