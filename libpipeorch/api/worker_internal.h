/* What the files of a worker share.
 *
 *   worker.c             the handle: options, capabilities, opening and closing
 *   worker_run.c         the thread of po_worker_run: serving, draining
 *   worker_plane.c       registration with a control plane, and leaving it
 *   worker_poll.c        the conversation with a control plane: polls out, tasks and revocations in
 *   worker_task.c        tasks in hand, and their answers
 *   worker_slots.c       when a task begins: handler threads and slots
 *   worker_pull.c        tasks that the host takes itself, without handler threads
 *   worker_standalone.c  the control node inside of a worker that has no other
 *   worker_load.c        what heartbeats say about this machine, and how far the plane is
 *
 * A worker talks with at most two control planes (struct po__plane): the cluster that its addresses
 * name, and the single node that it carries itself while it is standalone. Each plane has a
 * registration, polls, tasks in hand and answers of its own; handlers, threads and slots are the
 * worker's, shared by both.
 *
 * One lock protects all of it. It may be held while a channel is called (a channel never calls back
 * from within a call) and while an event is logged (log callbacks must not call the library); never
 * while a handler runs.
 *
 * Who moves things on: an answer of a plane is handled on its channel's callback thread, which
 * queues the tasks and wakes handler threads; a handler's answer is queued and, if no other answers
 * are on their way, sent by the very thread that gave it. So a warm task passes no thread of ours
 * but the handler's. The run thread only keeps time: registration, heartbeats, retries, draining.
 * It sleeps on an eventfd, because po_worker_stop may be called from a signal handler. */
#ifndef PO__WORKER_INTERNAL_H
#define PO__WORKER_INTERNAL_H

#include <pipeorch/node.h>
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
#define PO__WORKER_CALLS_MAX 16 /* two polls, a heartbeat, registration, status, deregistration */
#define PO__WORKER_CALL_MS   30000
#define PO__WORKER_BUSY_POLL_MS                                                                    \
    100 /* all slots taken: an answer is likely to carry the next poll, so wait for one */
#define PO__WORKER_RETRY_MS    200 /* after a poll that failed for a reason that waiting may cure */
#define PO__WORKER_REGISTER_MS 5000 /* one attempt to register */
/* Between two attempts; doubles, and of each a random part of at least a half is waited. */
#define PO__WORKER_REGISTER_RETRY_MIN_MS 500
#define PO__WORKER_REGISTER_RETRY_MAX_MS 5000
/* Payloads of answers in one poll; leaves room for the tokens of a resync */
#define PO__WORKER_DONE_MAX_BYTES (3u << 20)
#define PO__WORKER_SEQ_WINDOW                                                                      \
    4096 /* tasks received beyond the first gap in the node's numbering                            \
          */
#define PO__WORKER_LOAD_MS       1000  /* how old the machine's figures may be */
#define PO__WORKER_RTT_WINDOW_MS 60000 /* of the smallest round trip that is told */
#define PO__WORKER_MESSAGE_BYTES 512
#define PO__STANDALONE_LINGER_MS                                                                   \
    5000 /* after it finished everything: callers may still ask for results */
#define PO__STANDALONE_LAST_LOOK_MS 500 /* at what is lost with a temporary folder */
#define PO__STANDALONE_LOOK_MS      200 /* how often a node that is to end is asked what is left */

/* A task's way through this process. */
enum { PO__TASK_QUEUED, PO__TASK_IN_HANDLER, PO__TASK_ANSWERED };
extern const uint32_t po__task_moves[];

/* Something to tell the cluster about a task. */
struct po__outcome_out {
    struct po__list link; /* plane->done or poll->sent */
    struct po_task *task; /* NULL: EXTEND, CHECKPOINT */
    uint64_t task_id, token;
    uint32_t life; /* the task's */
    uint32_t kind; /* PO__DONE_* */
    uint64_t flag;
    size_t len;
    char payload[];
};

struct po_task {
    struct po__tree_node by_token;
    struct po__list link; /* worker->queue while QUEUED */
    struct po__list lost; /* worker->lost: pulled, its lease is lost, and nobody was told yet */
    struct po__plane *plane;
    int state;
    atomic_int cancelled;
    uint64_t id, token;
    uint32_t life; /* of the plane, when the task came */
    uint32_t attempt, timeout_ms;
    uint64_t renew_ms; /* QUEUED: when to ask for more time, if its slot is the other plane's */
    bool renewed;
    struct po__offered *offered;
    char *input; /* NUL-terminated */
    size_t input_len;
    char *checkpoint; /* what an earlier attempt left; NULL: nothing */
    size_t checkpoint_len;
};

struct po__offered {
    struct po_capability capability; /* strings owned */
    po_task_handler handler;         /* NULL: tasks are pulled */
    void *arg;
    uint32_t in_handler_count; /* of both planes: at most max_concurrency */
};

struct po__poll {
    struct po__plane *plane;
    bool under_way;
    bool resync;
    uint64_t session;
    struct po__list sent; /* the answers that it carries */
};

/* Round trips of messages that a node answers at once. */
struct po__rtt {
    uint32_t smoothed_us; /* 0: none measured */
    uint32_t min_us[2];   /* of the half of the window that runs, and of the one before */
    uint64_t half_ms;     /* when the one that runs began */
};

enum {
    PO__PLANE_CLOSED,   /* there is none, or none yet */
    PO__PLANE_REGISTER, /* must register before it polls */
    PO__PLANE_SERVE,
    PO__PLANE_DRAIN, /* the worker starts nothing new */
    PO__PLANE_LEAVE, /* deregisters */
    PO__PLANE_LEFT,  /* says nothing more */
};

/* The conversation with one control plane. */
struct po__plane {
    struct po_worker *worker;
    const char *what; /* for messages: "the cluster" */
    struct po__channel *channel;
    int phase;
    int fatal; /* code that makes going on with this plane useless */
    char fatal_message[PO__WORKER_MESSAGE_BYTES];

    uint32_t life; /* counts how often the plane had forgotten us; it may number anew then */
    struct po__tree tasks;     /* in hand, by life and token */
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

    bool registered;      /* it was, at least once: there is something to leave */
    unsigned failures;    /* attempts to register that failed, in a row */
    uint64_t register_ms; /* not before */
    int call_code;        /* of the one registration or deregistration under way */
    bool call_under_way, call_answered;
    bool leaving; /* that one is the deregistration */
    char call_message[PO__WORKER_MESSAGE_BYTES];

    struct po__rtt rtt;
    bool beat_under_way; /* a heartbeat, by which round trips are measured */
    uint64_t beat_at_ms, beat_sent_us;
};

/* The control node inside of a standalone worker (worker_standalone.c). */
struct po__standalone {
    int mode;           /* PO_STANDALONE_* */
    char *dir, *listen; /* NULL: a temporary folder; no endpoint */
    bool insecure, dir_looked_at;
    char *temporary; /* the folder made, to be removed */
    po_node *node;   /* NULL: none */
    po_node *ended;  /* one that has, and whose client the host may still call; NULL: none */
    char address[PO_ADDRESS_MAX_BYTES + 1];
    bool over;         /* it was, and will not be again */
    bool finishing;    /* takes no new work */
    bool client_taken; /* the host has its client: the node runs until the run ends, and what is
                          called then is refused until the worker is closed */
    bool look_under_way, said_left;
    unsigned looks_empty; /* in a row, that found nothing unfinished */
    uint64_t left_count;  /* tasks and runs unfinished, as of the last look */
    uint64_t look_ms;
    uint64_t finished_ms; /* 0: there is something left */
};

enum {
    PO__WORKER_IDLE, /* not run yet */
    PO__WORKER_RUN,
    PO__WORKER_DRAIN, /* starts nothing new */
    PO__WORKER_STOPPED,
};

struct po_worker {
    /* settings, fixed once it runs */
    char id[PO_NAME_MAX_BYTES + 1], zone[PO_NAME_MAX_BYTES + 1], address[PO_ADDRESS_MAX_BYTES + 1];
    char *addresses;                       /* NULL: no cluster, standalone */
    struct po_label labels[PO_LABELS_MAX]; /* strings owned */
    size_t labels_count;
    struct po__offered offered[PO_CAPABILITIES_MAX];
    size_t offered_count;
    struct po_resource resources[PO_RESOURCES_MAX]; /* strings owned */
    size_t resources_count;
    uint32_t slots_limit; /* of all capabilities together; 0: none */
    uint32_t heartbeat_ms, threads_max, batch_max, drain_ms;
    uint32_t slots; /* the sum of max_concurrency, within that limit */
    struct po__logger log;

    atomic_int stop;
    int event_fd;

    pthread_mutex_t lock;
    pthread_cond_t work;    /* a task may begin, or the handler threads must end */
    pthread_cond_t changed; /* ready, or the run is over */
    pthread_cond_t pull;    /* as pull_fd says */
    int pull_fd;            /* readable: there may be something for po_worker_take */
    bool pull_raised;       /* pull_fd is readable */
    int phase;
    bool ready; /* registered somewhere, once */
    uint64_t incarnation;
    pthread_t *threads;
    unsigned threads_count;
    bool threads_end;

    struct po__plane cluster, local;
    struct po__standalone standalone;

    struct po__list queue;      /* tasks that no handler has yet, in the order of their coming */
    struct po__list lost;       /* pulled tasks whose lease is lost */
    unsigned in_handler_count;  /* of both planes */
    uint64_t sleeping_until_ms; /* the run thread; UINT64_MAX: until it is woken, 0: it is awake */

    struct po__worker_load load; /* of the machine, as of load_ms */
    uint64_t load_ms;
};

uint64_t po__worker_now_ms(void);
void po__worker_wake(struct po_worker *w); /* the run thread; any thread, signal handlers */
/* Of the run thread, with the lock, which it gives up meanwhile. */
void po__worker_sleep_until(struct po_worker *w, uint64_t at_ms);

/* worker_plane.c; all with the lock */
void po__plane_init(struct po__plane *p, struct po_worker *w, const char *what);
void po__plane_open(struct po__plane *p, struct po__channel *channel); /* must register */
/* Do what is due on the run thread, and say when to call again; UINT64_MAX: no need. */
void po__plane_step(struct po__plane *p);
uint64_t po__plane_due_ms(const struct po__plane *p);
void po__plane_drain(struct po__plane *p); /* SERVE: the plane is told, answers are delivered */
bool po__plane_drained(const struct po__plane *p);
void po__plane_leave(struct po__plane *p);   /* deregisters; then LEFT */
void po__plane_left(struct po__plane *p);    /* at once */
void po__plane_unknown(struct po__plane *p); /* it does not know this worker */
void po__plane_fail(struct po__plane *p, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline bool po__plane_converses(const struct po__plane *p)
{
    return !p->fatal && (p->phase == PO__PLANE_SERVE || p->phase == PO__PLANE_DRAIN);
}

/* worker_poll.c; all with the lock */
void po__worker_wake_if_due(struct po__plane *p);
void po__worker_poll(struct po__plane *p);                  /* send what should be sent now */
uint64_t po__worker_poll_due_ms(const struct po__plane *p); /* when to call it again */

/* worker_load.c; all with the lock */
void po__worker_load(struct po__plane *p, struct po__worker_load *load);
void po__worker_beat(struct po__plane *p); /* sends a heartbeat if one is due */
uint64_t po__worker_beat_due_ms(const struct po__plane *p);
void po__rtt_sample(struct po__rtt *rtt, uint32_t us, uint64_t now_ms);
uint32_t po__rtt_min_us(const struct po__rtt *rtt, uint64_t now_ms);

/* worker_slots.c; all with the lock, except start and end */
int po__worker_start_threads(struct po_worker *w);
void po__worker_end_threads(struct po_worker *w); /* waits for handlers that run */
void po__worker_release_slot(struct po_task *t);  /* IN_HANDLER no more: others may begin */
/* Tasks that wait for a slot which the other plane's have: their leases are kept. Returns when to
 * call again. */
uint64_t po__worker_keep_leases(struct po_worker *w);

/* The next task that may begin, for a handler thread or to be pulled; NULL: there is none. */
struct po_task *po__worker_next_task(const struct po_worker *w, bool pulled);
void po__worker_give_slot(struct po_task *t); /* it has a slot now */

/* worker_pull.c; all with the lock, except fini */
int po__worker_pull_init(struct po_worker *w); /* 0, PO_ENOMEM */
void po__worker_pull_fini(struct po_worker *w);
void po__worker_raise(struct po_worker *w); /* wakes whoever takes, or polls the descriptor */
void po__worker_tell_lost(struct po_task *t);

/* worker_task.c; all with the lock */
int po__worker_take(struct po__plane *p, const struct po__task_offer *offer); /* 0, PO_ENOMEM */
void po__worker_revoke(struct po__plane *p, uint64_t token);
void po__worker_disown(struct po__plane *p);
void po__worker_outcome_over(struct po__outcome_out *o); /* accepted or refused: forget it */
struct po_task *po__worker_find(struct po__plane *p, uint64_t token);
void po__worker_forget_all(struct po__plane *p);
struct po__outcome_out *po__worker_outcome(const struct po_task *t, uint32_t kind, uint64_t flag,
                                           const void *payload, size_t len); /* NULL: no memory */
void po__worker_say(struct po__plane *p, struct po__outcome_out *o); /* queue it, send it soon */
void po__worker_say_extend(struct po__plane *p, struct po__outcome_out *o); /* only the newest */

/* worker_standalone.c; all on the run thread, with the lock, which start and end give up. */
int po__standalone_start(struct po_worker *w); /* its plane must register */
bool po__standalone_wanted(struct po_worker *w);
void po__standalone_step(struct po_worker *w); /* while the cluster knows this worker */
uint64_t po__standalone_due_ms(const struct po_worker *w);
void po__standalone_end(struct po_worker *w); /* stops the node, if there is one */

/* worker_schema.c; without the lock */
#define PO__WORKER_SENTENCE_MAX_BYTES 1024
/* 0, or why the value breaks the schema (NULL: there is none), with a sentence. */
int po__worker_validate(const struct po_task *t, const char *what, const char *schema,
                        struct po__slice value, char *message, size_t message_len);
/* Whether the handler may have the task; else it is answered. */
bool po__worker_input_allowed(struct po_task *t);

#endif
