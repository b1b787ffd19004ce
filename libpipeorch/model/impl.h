/* Inside of the model: its structures and what its files offer each other. Not for other layers.
 *
 * Memory: whatever allocates reports failure through m->err (sticky, PO_ENOMEM) and leaves the
 * structures consistent enough to be closed; po__model_apply returns it at the end of the
 * command. So no function below has to undo half a command.
 *
 * Snapshots: whoever changes or frees an object calls its po__touch_* function first (see
 * snapshot.c). */
#ifndef PO__MODEL_IMPL_H
#define PO__MODEL_IMPL_H

#include <pipeorch/node.h>
#include <pipeorch/watch.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "graph_run.h"
#include "state.h"

#define PO__TICK_TASKS_MAX 4096 /* tasks that one tick moves; the rest stays due for the next */
#define PO__TASK_LOST_MAX                                                                          \
    16 /* attempts beyond attempts_max that may end with the death of their worker */
#define PO__MESSAGE_MAX_BYTES         512
#define PO__SNAPSHOT_FORMAT           1
#define PO__SNAPSHOT_RECORD_MAX_BYTES (8u << 20) /* one object in a snapshot */

/* What ended the last attempt of a task, if it was its worker's word: the same word again is
 * answered 0. */
enum po__outcome { PO__OUTCOME_NONE = 0, PO__OUTCOME_COMPLETED = 1, PO__OUTCOME_FAILED = 2 };

/* ---- capabilities and offers ---- */

struct po__group { /* the offers of one capability that agree in zone, version and gpu */
    struct po__tree_node by_profile;
    struct po__tree free;     /* po__offer.free_group */
    struct po__offer *sample; /* one of them, with room or not */
    uint32_t offers_count;
    uint32_t running;      /* tasks that hold one of these offers */
    uint32_t online_count; /* of workers that are online */
    bool gpu;
    struct po__slice zone, version;
    char text[];
};

struct po__capability { /* exists as long as a class or an offer names it */
    struct po__tree_node by_name;
    struct po__tree classes;          /* po__class.by_placement */
    struct po__tree waiting, blocked; /* po__class.queue: see assign.c */
    struct po__tree free;             /* po__offer.free_any: with a free slot, best first */
    struct po__tree groups;           /* po__group.by_profile */
    struct po__tree offers;           /* po__offer.by_worker, by worker number */
    struct po__list dirty;            /* in po__model.dirty: may have something to assign */
    uint64_t refs, pending_count;
    uint32_t classes_active; /* those with unfinished tasks */
    struct po__slice name;
    char text[];
};

struct po__offer {                    /* one capability of one worker */
    struct po__tree_node free_any;    /* linked while the worker is online and has room for it */
    uint64_t load_token, load_number; /* what the worker's place is decided by, beside the nodes
                                         that are compared; */
    uint32_t load_running;            /* copied whenever they are linked */
    uint32_t slots, running;
    bool requires_gpu, online;       /* online: counted in its group */
    struct po__tree_node free_group; /* as free_any */
    struct po__tree_node by_worker;
    struct po__worker *worker;
    struct po__capability *cap;
    struct po__group *group;
    struct po__slice version, input_schema, output_schema; /* in worker->text */
};

struct po__stock {         /* a resource of a worker */
    struct po__slice name; /* in worker->text */
    uint64_t amount, used;
};

/* ---- queues of tasks; see queue.c ---- */

struct po__rank { /* the order in which tasks go: lowest first */
    int64_t rank_ms;
    uint64_t id;
};

struct po__class { /* the tasks of one capability that may run in the same places */
    struct po__tree_node by_placement;
    struct po__tree_node queue; /* in waiting or blocked of its capability, while a lane is ready */
    struct po__rank head;       /* of the first ready lane, while queued */
    bool blocked;               /* queued in blocked */
    struct po__worker *hint;    /* waiting, and only this worker can have room for it; or NULL */
    struct po__capability *cap;
    struct po__tree lanes; /* po__lane.by_gate */
    struct po__tree ready; /* po__lane.ready */
    uint64_t refs, unfinished_count;
    struct po__placement place;
    struct po__slice placement; /* its bytes */
    char text[];
};

struct po__lane {                 /* the tasks of one class and one concurrency key */
    struct po__tree_node by_gate; /* in its class */
    struct po__tree_node in_gate; /* in its gate */
    struct po__tree_node ready;   /* while it has pending tasks and its gate is open */
    struct po__rank head;         /* of its first task, while ready */
    struct po__class *cls;
    struct po__gate *gate; /* NULL: no key */
    struct po__tree tasks; /* po__task.queue */
    uint64_t refs;         /* tasks */
};

struct po__gate { /* a concurrency key; exists while tasks name it or its rate has a memory */
    struct po__tree_node by_name, by_number;
    struct po__tree_node due; /* in gates_due while time will change something, at due_ms */
    uint64_t due_ms, number;
    uint64_t full_us; /* of its rate: when the bucket is full again, see gates.c */
    uint32_t epoch;
    uint32_t max, rate_max, rate_ms; /* 0: no such limit */
    uint32_t running;
    bool open;
    uint64_t refs;         /* lanes */
    struct po__tree lanes; /* po__lane.in_gate */
    struct po__slice name;
    char text[];
};

struct po__more { /* of a task that asked for something that few ask for; see more.c */
    struct po__tree_node timer; /* unfinished: its deadline; finished: when it is forgotten */
    uint64_t timer_ms;
    struct po__task *task;
    struct po__extra extra;      /* slices belong to its class and its gate */
    uint32_t progress;           /* thousandths; PO__PROGRESS_NONE: none told */
    uint32_t forgiven;           /* attempts before an operator's retry */
    struct po__slice checkpoint; /* owned */
};

/* ---- pipelines and runs ---- */

struct po__def { /* one definition; runs keep theirs when the pipeline is defined anew */
    struct po__tree_node by_number;
    struct po__tree_node by_name; /* linked while it is the pipeline's current one */
    uint64_t number;
    uint64_t refs; /* runs; and one while it is current */
    uint32_t epoch;
    uint32_t steps_count;
    uint64_t defined_ms;
    struct po__slice name, start_node, steps; /* steps: canonical bytes as in the command */
    struct po__step *chain;      /* in order of execution, slices into steps; NULL: a graph */
    struct po__def_graph *graph; /* NULL: a chain */
    char text[];
};

struct po__step_run { /* one step of a run, from its start on */
    uint64_t task_id;
    uint64_t started_ms, finished_ms; /* of the first attempt; 0: not yet */
    uint32_t state;                   /* PO_TASK_* of its task; final once finished_ms is set */
    uint32_t attempts;
    struct po__origin *origin;
    struct po__slice error;
};

struct po__run {
    struct po__tree_node by_id, by_key, finished;
    uint64_t id;
    uint32_t state; /* PO_RUN_* */
    uint32_t epoch;
    uint32_t started_count; /* steps started; the last of them is the current one */
    uint64_t key_hash;
    uint64_t started_ms, finished_ms;
    struct po__def *def;
    struct po__step_run *steps; /* of a chain: started_count used of def->steps_count */
    struct po__run_more *more;  /* of a graph, and what feature level 2 does not know; or NULL */
    struct po__slice params, zone, key, error;
    char text[];
};

struct po__member {
    struct po__tree_node by_id;
    uint32_t epoch;
    struct po__member_info info;
    char text[];
};

/* ---- keys ---- */

struct po__key_index { /* of tasks; see key_index.c */
    struct po__tree **segments;
    uint32_t buckets, base; /* base: largest power of two that is not above buckets */
    uint64_t count;
};

struct po__app_key {
    uint64_t seq;
    uint32_t hash;
    uint32_t result_len;
    uint32_t key_len;
    char text[]; /* key, result */
};

struct po__app_keys {
    struct po__app_key **ring; /* entry seq is at ring[seq & (ring_cap - 1)] */
    uint64_t *slots;           /* index by key: twice ring_cap, see app.c */
    uint32_t ring_cap;         /* power of two */
    uint64_t first, next;      /* seq of the oldest entry, and of the next one */
    uint64_t bytes;            /* of results */
};

/* ---- snapshot in progress ---- */

enum po__section { /* numbers in the snapshot format: frozen */
                   PO__SECTION_HEADER = 1,
                   PO__SECTION_MEMBERS = 2,
                   PO__SECTION_WORKERS = 3,
                   PO__SECTION_DEFS = 4,
                   PO__SECTION_RUNS = 5,
                   PO__SECTION_TASKS = 6,
                   PO__SECTION_APP_KEYS = 7,
                   PO__SECTION_APP = 8,
                   PO__SECTION_END = 9,
                   PO__SECTION_SCHEDULES = 10,
                   PO__SECTION_CACHE = 11,
                   PO__SECTION_GATES = 12,
};
#define PO__SECTIONS_COUNT 13 /* numbers below it */

struct po__snap {
    bool active;
    int err;        /* the snapshot (not the model) failed: reported by the next step */
    uint32_t epoch; /* objects with this epoch are written, saved, or younger than the view */
    uint32_t section;
    uint64_t cursor;                      /* key of the last object written in this section */
    uint64_t app_keys_next, app_keys_end; /* those of the view that are not written yet */
    uint64_t records;                     /* written so far */
    struct po__buf header;
    struct po__buf app;
    size_t app_at;
    struct po__tree images; /* objects that were changed before their turn, as they were */
};

struct po__restore; /* restore.c */
struct po__checker; /* check.c */

/* ---- the model ---- */

struct po__model {
    const struct po_state_machine *sm;
    uint64_t index, now_ms;
    uint64_t last_token;
    uint64_t next_worker, next_task, next_run, next_def; /* numbers to give next; start at 1 */

    struct po__tree workers, workers_by_number;
    struct po__tree tasks, due, finished;
    struct po__tree dead;   /* failed tasks of the newer form, as finished: kept longer */
    struct po__tree timers; /* po__more.timer */
    struct po__key_index task_keys;
    struct po__tree caps, origins;
    struct po__tree gates, gates_by_number, gates_due;
    struct po__tree defs, pipelines;
    struct po__tree runs, run_keys, runs_finished, children_finished;
    struct po__tree runs_todo; /* po__run_more.todo */
    struct po__cache cache;
    struct po__tree members;
    struct po__tree schedules, schedules_by_generation;
    struct po__app_keys app_keys;
    struct po__list dirty; /* capabilities to assign at the end of the command */

    uint64_t workers_online, workers_bytes;
    uint64_t tasks_count[PO_TASK_CANCELLED + 1]; /* by state */
    uint64_t unfinished_bytes, finished_bytes, dead_bytes;
    uint64_t runs_active, runs_bytes, runs_finished_bytes;

    /* the command in progress */
    struct po__effects *fx;
    struct po__cmd_result result;
    int err;
    char message[PO__MESSAGE_MAX_BYTES];
    struct po__buf scratch, params, extra;
    uint64_t run_work_bytes; /* what templates have looked at and written */
    void *app_result; /* PO_PAYLOAD_MAX_BYTES, allocated with the first application command */

    struct po__snap snap;
    struct po__restore *restore;
};

/* model.c */
void po__fx(struct po__model *m, enum po__fx_type type, uint64_t id, uint64_t token,
            uint64_t worker);
/* The command's own outcome, with a sentence. */
void po__refuse(struct po__model *m, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void po__oom(struct po__model *m);
uint64_t po__hash(struct po__slice key);
struct po__slice po__put(char **at,
                         struct po__slice s); /* copy with a final NUL into a block being filled */

/* news.c: what happened, for those who watch. After the change, and before what it entails. */
void po__news_task(struct po__model *m, uint32_t kind, const struct po__task *t);
void po__news_worker(struct po__model *m, uint32_t kind, const struct po__worker *w);
void po__news_node(struct po__model *m, uint32_t kind, uint64_t node_id, uint64_t term);
void po__news_pipeline(struct po__model *m, struct po__slice name);
void po__news_run(struct po__model *m, uint32_t kind, const struct po__run *r);
void po__news_step(struct po__model *m, uint32_t kind, const struct po__run *r,
                   struct po__slice step, const struct po__task *t);
void po__news_graph_step(struct po__model *m, uint32_t kind, const struct po__run *r,
                         uint32_t step); /* as its state is */

/* capability.c */
struct po__capability *po__cap_find(const struct po__model *m, struct po__slice name);
struct po__capability *po__cap_after(const struct po__model *m,
                                     struct po__slice name); /* the first behind name */
struct po__capability *
po__cap_get(struct po__model *m,
            struct po__slice name); /* found or made, one more ref; NULL: no memory */
void po__cap_put(struct po__model *m, struct po__capability *cap);
int po__offer_attach(struct po__model *m, struct po__offer *o, struct po__worker *w,
                     struct po__slice name); /* 0 or ENOMEM */
void po__offer_detach(struct po__model *m, struct po__offer *o);
struct po__offer *po__offer_of(const struct po__worker *w,
                               const struct po__capability *cap); /* NULL: not offered */
void po__offers_unlink(struct po__worker *w); /* before its load, status or slots change */
void po__offers_link(struct po__worker *w);   /* and after */
void po__offers_online(struct po__worker *w); /* its status changed: count them in their groups */
int po__load_cmp(const struct po__offer *a, const struct po__offer *b); /* less loaded first */

/* choose.c */
enum po__misfit { /* why an offer is not for a task; in the order in which it is looked for */
                  PO__FITS,
                  PO__MISFIT_OFFLINE,
                  PO__MISFIT_DRAINING,
                  PO__MISFIT_ZONE,
                  PO__MISFIT_GPU,
                  PO__MISFIT_VERSION,
                  PO__MISFIT_LABEL,
                  PO__MISFIT_SLOTS,        /* of the capability */
                  PO__MISFIT_WORKER_SLOTS, /* of the worker */
                  PO__MISFIT_RESOURCE,
};
/* *which: of the label or resource in p that does not fit. */
enum po__misfit po__misfit(const struct po__placement *p, const struct po__offer *o,
                           uint32_t *which);
const struct po__stock *po__stock_of(const struct po__worker *w,
                                     struct po__slice name); /* NULL: it has none */
struct po__slice po__label_of(const struct po__worker *w, struct po__slice key, bool *present);
struct po__offer *po__choose(const struct po__capability *cap, const struct po__placement *p,
                             struct po__slice zone); /* NULL: nobody has room */

/* assign.c */
void po__cap_dirty(struct po__model *m, struct po__capability *cap);
void po__assign_all(struct po__model *m); /* what the dirty capabilities allow */
/* The worker has room that it had not before (o: of this offer only): its blocked classes are
 * looked at again. */
void po__worker_freed(struct po__model *m, struct po__worker *w, struct po__offer *o);
void po__lease_bind(struct po__task *t, struct po__worker *w,
                    struct po__offer *o); /* count it; also used by restore */
void po__lease_count(struct po__task *t, struct po__worker *w, struct po__offer *o, int sign);
void po__lease_release(struct po__model *m, struct po__task *t, bool revoke);

/* queue.c */
struct po__lane *po__lane_get(struct po__model *m, struct po__slice capability,
                              struct po__slice placement, struct po__gate *gate); /* one more ref;
                                                                          NULL: no memory */
void po__lane_put(struct po__model *m, struct po__lane *l);
const struct po__class *po__class_find(const struct po__model *m, struct po__slice capability,
                                       struct po__slice placement);
void po__lane_insert(struct po__model *m, struct po__task *t); /* pending */
void po__lane_remove(struct po__model *m, struct po__task *t);
void po__lane_refresh(struct po__model *m, struct po__lane *l); /* its gate opened or shut */
struct po__task *po__class_head(const struct po__class *c);     /* which is queued */
void po__class_block(struct po__class *c, bool blocked);        /* queued: into the other queue */
int po__rank_cmp(const struct po__rank *a, const struct po__rank *b);
static inline struct po__rank po__rank_of(const struct po__task *t)
{
    return (struct po__rank){t->rank_ms, t->id};
}

/* gates.c */
struct po__gate *po__gate_find(const struct po__model *m, struct po__slice name);
/* Found or made, with the limits that e names from now on; NULL: no memory, or PO__GATES_MAX (the
 * message is set). */
struct po__gate *po__gate_get(struct po__model *m, const struct po__extra *e);
struct po__gate_record { /* a gate by itself */
    uint64_t number;
    struct po__slice name;
    uint32_t max, rate_max, rate_ms;
    uint64_t full_us, due_ms;
    bool open;
};
struct po__gate *po__gate_make(struct po__model *m,
                               const struct po__gate_record *r); /* NULL: no memory, or taken */
void po__gate_free(struct po__model *m, struct po__gate *g);
void po__gate_unused(struct po__model *m, struct po__gate *g); /* a lane of it is gone */
void po__gate_enter(struct po__model *m, struct po__gate *g);  /* a task of it starts */
void po__gate_leave(struct po__model *m, struct po__gate *g);  /* and ends */
void po__gate_refresh(struct po__model *m, struct po__gate *g);
bool po__gates_tick(struct po__model *m); /* false: nothing of theirs is due */

/* more.c */
#define PO__PROGRESS_NONE 1001
bool po__more_needed(const struct po__extra *e);
struct po__more *po__more_get(struct po__model *m, struct po__task *t); /* made if need be; NULL: no
                                                                           memory */
void po__more_free(struct po__more *more);
void po__more_link(struct po__model *m, struct po__task *t); /* its timer, by the task's state */
void po__more_unlink(struct po__model *m, struct po__task *t);
bool po__more_tick(struct po__model *m);                            /* false: no timer is due */
void po__task_extra(const struct po__task *t, struct po__extra *e); /* as it was submitted */

/* workers.c */
struct po__origin *po__origin_get(struct po__model *m, struct po__slice id, struct po__slice zone);
void po__origin_put(struct po__model *m, struct po__origin *o);
const struct po__worker *po__worker_after(const struct po__model *m,
                                          struct po__slice id); /* the first behind id */
struct po__worker *po__worker_make(struct po__model *m, uint64_t number,
                                   const struct po__cmd *cmd); /* offline, unlinked */
bool po__worker_link(struct po__model *m,
                     struct po__worker *w); /* false: its id or number is taken */
void po__worker_free(struct po__model *m, struct po__worker *w); /* which has no leases */
void po__worker_set_status(struct po__model *m, struct po__worker *w, uint32_t status);
void po__cmd_worker_register(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_worker_status(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_worker_deregister(struct po__model *m, const struct po__cmd *cmd);

/* tasks.c */
struct po__task_spec {
    struct po__slice capability, input, zone, key;
    uint32_t attempts_max, timeout_ms; /* 0: default */
    uint64_t run_id;
    struct po__slice extra; /* encoded; empty: a task of the older form, without jitter */
};
struct po__task *po__task_make(struct po__model *m,
                               const struct po__task_spec *spec); /* unlinked; NULL: no memory */
bool po__task_link(
    struct po__model *m,
    struct po__task *t); /* into the indexes and its queue; false: id or key is taken */
void po__task_drop(struct po__model *m, struct po__task *t); /* out of all of them, and freed */
void po__task_free(struct po__model *m, struct po__task *t); /* one that is in none */
void po__task_move(struct po__model *m, struct po__task *t, uint32_t state, uint64_t deadline_ms);
int po__task_set_text(struct po__model *m, struct po__task *t, struct po__slice *field,
                      struct po__slice text);
uint64_t po__task_bytes(const struct po__task *t);
struct po__task *po__task_after(const struct po__model *m, uint64_t id); /* the first above id */
struct po__task *po__task_find(const struct po__model *m, uint64_t id);
/* Room for a finished task to begin anew; false: refused, the message is set. */
bool po__task_room(struct po__model *m, const struct po__task *t);
/* A new task; NULL: refused (quota; the message is set) or no memory (m->err). */
struct po__task *po__task_start(struct po__model *m, const struct po__task_spec *spec);
void po__task_finish(struct po__model *m, struct po__task *t, uint32_t state);
void po__tasks_prune(struct po__model *m);
void po__cmd_task_submit(struct po__model *m, const struct po__cmd *cmd);

/* key_index.c */
struct po__task *po__key_find(const struct po__key_index *x,
                              struct po__slice key);          /* NULL also for the empty key */
int po__key_add(struct po__key_index *x, struct po__task *t); /* 0, PO_EEXISTS, PO_ENOMEM */
void po__key_remove(struct po__key_index *x, struct po__task *t);
void po__key_index_fini(struct po__key_index *x);

/* attempts.c */
void po__attempt_lost(struct po__model *m, struct po__task *t);
void po__task_cancel(struct po__model *m, struct po__task *t);
void po__cmd_task_complete(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_task_fail(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_task_cancel(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_task_extend(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_task_checkpoint(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_task_retry(struct po__model *m, const struct po__cmd *cmd);
void po__task_expired(struct po__model *m, struct po__task *t); /* its deadline has passed */
void po__cmd_tick(struct po__model *m);

/* pipelines.c */
struct po__def *po__def_make(struct po__model *m, uint64_t number,
                             const struct po__cmd *cmd);  /* unlinked */
void po__def_put(struct po__model *m, struct po__def *d); /* one reference less */
void po__def_free(struct po__model *m, struct po__def *d);
struct po__def *po__def_find(const struct po__model *m, uint64_t number);
struct po__def *
po__pipeline_after(const struct po__model *m,
                   struct po__slice name); /* the first behind name; "": the first */
struct po__def *po__pipeline_find(const struct po__model *m, struct po__slice name);
bool po__def_link(struct po__model *m, struct po__def *d,
                  bool current); /* false: its number or name is taken */
void po__cmd_pipeline_define(struct po__model *m, const struct po__cmd *cmd);

/* runs.c */
bool po__run_link(struct po__model *m, struct po__run *r); /* false: its id or key is taken */
void po__run_free(struct po__model *m, struct po__run *r);
struct po__run *po__run_after(const struct po__model *m, uint64_t id);
struct po__run *po__run_find(const struct po__model *m, uint64_t id);
void po__run_task_finished(struct po__model *m, struct po__task *t);
void po__runs_prune(struct po__model *m);
void po__cmd_run_start(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_run_cancel(struct po__model *m, const struct po__cmd *cmd);

/* members.c */
struct po__member *po__member_make(struct po__model *m, const struct po__member_info *info);
bool po__member_link(struct po__model *m, struct po__member *mb); /* false: its id is taken */
struct po__member *po__member_find(const struct po__model *m, uint64_t node_id);
void po__cmd_member(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_member_wish(struct po__model *m, const struct po__cmd *cmd);

/* schedules.c */
struct po__schedule *po__schedule_make(struct po__model *m, uint64_t generation,
                                       const struct po__cmd *cmd); /* unlinked */
bool po__schedule_link(struct po__model *m,
                       struct po__schedule *s); /* false: its name or generation is taken */
void po__schedule_free(struct po__model *m, struct po__schedule *s);
void po__schedule_inherit(struct po__schedule *s,
                          struct po__schedule *old); /* its history, whose error is s's then */
int po__restore_schedule(struct po__model *m, struct po__mpr *r, uint64_t generation,
                         struct po__cmd *cmd); /* restore_schedule.c; cmd: for its use */
struct po__tree_node *po__schedule_after_generation(const struct po__model *m, uint64_t generation);
void po__cmd_schedule_define(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_schedule_change(struct po__model *m, const struct po__cmd *cmd);
void po__cmd_schedule_fire(struct po__model *m, const struct po__cmd *cmd);
int po__check_schedules(const struct po__checker *c);

/* app.c */
void po__cmd_app(struct po__model *m, const struct po__cmd *cmd);
struct po__app_key *po__app_key_at(const struct po__app_keys *k,
                                   uint64_t seq); /* first <= seq < next */
const struct po__app_key *po__app_key_find(const struct po__app_keys *k, struct po__slice key);
struct po__slice po__app_key_result(const struct po__app_key *e);
int po__app_key_add(struct po__model *m, struct po__slice key, struct po__slice result);
void po__app_keys_fini(struct po__app_keys *k);

/* snapshot.c: save the object as it is for the view that is being written, if that view needs
 * it. */
void po__touch(struct po__model *m, enum po__section section, uint64_t key, uint32_t *epoch,
               const void *object);
static inline void po__touch_task(struct po__model *m, struct po__task *t)
{
    if (m->snap.active && t->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_TASKS, t->id, &t->epoch, t);
}
static inline void po__touch_worker(struct po__model *m, struct po__worker *w)
{
    if (m->snap.active && w->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_WORKERS, w->number, &w->epoch, w);
}
static inline void po__touch_run(struct po__model *m, struct po__run *r)
{
    if (m->snap.active && r->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_RUNS, r->id, &r->epoch, r);
}
static inline void po__touch_def(struct po__model *m, struct po__def *d)
{
    if (m->snap.active && d->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_DEFS, d->number, &d->epoch, d);
}
static inline void po__touch_cached(struct po__model *m, struct po__cached *c)
{
    if (m->snap.active && c->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_CACHE, c->id, &c->epoch, c);
}
static inline void po__touch_gate(struct po__model *m, struct po__gate *g)
{
    if (m->snap.active && g->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_GATES, g->number, &g->epoch, g);
}
static inline void po__touch_member(struct po__model *m, struct po__member *mb)
{
    if (m->snap.active && mb->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_MEMBERS, mb->info.node_id, &mb->epoch, mb);
}
static inline void po__touch_schedule(struct po__model *m, struct po__schedule *s)
{
    if (m->snap.active && s->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_SCHEDULES, s->generation, &s->epoch, s);
}
void po__touch_app_key(struct po__model *m, const struct po__app_key *k); /* before it is dropped */

/* records.c: one object as a snapshot record, without its frame. */
void po__record(struct po__buf *b, enum po__section section, const void *object);
void po__record_header(struct po__buf *b, const struct po__model *m);

/* sections.c. Sections stand in the stream by rank, which is not the order of their numbers: those
 * that came later have their place, too. Ranks count from 1; 0: no such section. */
uint32_t po__section_rank(uint32_t section);
uint32_t po__section_next(uint32_t section); /* which is not END */
bool po__section_is_tree(uint32_t section);  /* those that the functions below know */
/* The sections that are trees alike. Nodes are those of the tree in key order. */
struct po__tree_node *po__section_after(const struct po__model *m, enum po__section section,
                                        uint64_t key);
void *po__section_object(enum po__section section, struct po__tree_node *n, uint64_t *key,
                         uint32_t **epoch);
struct po__tree_node *po__section_node(enum po__section section, void *object);
struct po__tree_node *po__member_after(const struct po__model *m, uint64_t node_id);
struct po__tree_node *po__worker_after_number(const struct po__model *m, uint64_t number);
struct po__tree_node *po__def_after(const struct po__model *m, uint64_t number);
struct po__tree_node *po__gate_after(const struct po__model *m, uint64_t number);

/* check.c: report the first broken relation. */
struct po__checker {
    const struct po__model *m;
    char *message;
    size_t message_len;
};
int po__broken(const struct po__checker *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* -1 */
int po__check_queues(const struct po__checker *c, const struct po__capability *cap);
int po__check_gates(const struct po__checker *c);
int po__check_tasks(const struct po__checker *c);
int po__check_runs(const struct po__checker *c);
int po__check_graph(const struct po__checker *c, const struct po__run *r);
int po__check_cache(const struct po__checker *c);

/* restore.c */
void po__restore_free(struct po__model *m);

/* Tree orders shared by several files. */
int po__task_due_cmp(const struct po__tree_node *a,
                     const struct po__tree_node *b); /* po__task.queue by (deadline_ms, id) */

#define po__cmp_u64(a, b) (((a) > (b)) - ((a) < (b)))

#endif
