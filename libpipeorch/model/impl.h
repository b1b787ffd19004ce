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
#include "../base/alloc.h"
#include "../base/assert.h"
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

struct po__cap_zone { /* the offers of one capability in one zone */
    struct po__tree_node by_name;
    struct po__tree free;
    uint32_t offers_count;
    struct po__slice name;
    char text[];
};

struct po__capability { /* exists as long as a task or an offer names it */
    struct po__tree_node by_name;
    struct po__tree pending; /* po__task.queue by id: oldest first */
    struct po__tree free;    /* po__offer.free_any: with a free slot, best first */
    struct po__tree zones;   /* po__cap_zone */
    struct po__tree offers;  /* po__offer.by_worker, by worker number */
    struct po__list dirty;   /* in po__model.dirty: may have something to assign */
    uint64_t refs;
    struct po__slice name;
    char text[];
};

struct po__offer {                    /* one capability of one worker */
    struct po__tree_node free_any;    /* linked while the worker is online and a slot is free */
    uint64_t load_token, load_number; /* what the worker's place is decided by, beside the nodes
                                         that are compared; */
    uint32_t load_running;            /* copied whenever they are linked */
    uint32_t slots, running;
    bool requires_gpu;
    struct po__tree_node free_zone; /* as free_any */
    struct po__tree_node by_worker;
    struct po__worker *worker;
    struct po__capability *cap;
    struct po__cap_zone *zone;
    struct po__slice version, input_schema, output_schema; /* in worker->text */
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
    struct po__step *chain;                   /* in order of execution, slices into steps */
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
    struct po__step_run *steps; /* started_count used of def->steps_count */
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

/* ---- the model ---- */

struct po__model {
    const struct po_state_machine *sm;
    uint64_t index, now_ms;
    uint64_t last_token;
    uint64_t next_worker, next_task, next_run, next_def; /* numbers to give next; start at 1 */

    struct po__tree workers, workers_by_number;
    struct po__tree tasks, due, finished;
    struct po__key_index task_keys;
    struct po__tree caps, origins;
    struct po__tree defs, pipelines;
    struct po__tree runs, run_keys, runs_finished;
    struct po__tree members;
    struct po__app_keys app_keys;
    struct po__list dirty; /* capabilities to assign at the end of the command */

    uint64_t workers_online, workers_bytes;
    uint64_t tasks_count[PO_TASK_CANCELLED + 1]; /* by state */
    uint64_t unfinished_bytes, finished_bytes;
    uint64_t runs_active;

    /* the command in progress */
    struct po__effects *fx;
    struct po__cmd_result result;
    int err;
    char message[PO__MESSAGE_MAX_BYTES];
    struct po__buf scratch;
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
struct po__offer *po__offer_best(const struct po__capability *cap, struct po__slice zone);

/* assign.c */
void po__cap_dirty(struct po__model *m, struct po__capability *cap);
void po__assign_all(struct po__model *m); /* what the dirty capabilities allow */
void po__lease_bind(struct po__task *t, struct po__worker *w,
                    struct po__offer *o); /* count it; also used by restore */
void po__lease_release(struct po__model *m, struct po__task *t, bool revoke);

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
/* A new pending task; NULL: refused (quota; the message is set) or no memory (m->err). */
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
struct po__run *po__run_make(struct po__model *m, struct po__def *def, struct po__slice params,
                             struct po__slice zone, struct po__slice key);
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
static inline void po__touch_member(struct po__model *m, struct po__member *mb)
{
    if (m->snap.active && mb->epoch != m->snap.epoch)
        po__touch(m, PO__SECTION_MEMBERS, mb->info.node_id, &mb->epoch, mb);
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

/* check.c: report the first broken relation. */
struct po__checker {
    const struct po__model *m;
    char *message;
    size_t message_len;
};
int po__broken(const struct po__checker *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* -1 */
int po__check_tasks(const struct po__checker *c);
int po__check_runs(const struct po__checker *c);

/* restore.c */
void po__restore_free(struct po__model *m);

/* Tree orders shared by several files. */
int po__task_due_cmp(const struct po__tree_node *a,
                     const struct po__tree_node *b); /* po__task.queue by (deadline_ms, id) */
int po__task_queue_cmp(const struct po__tree_node *a,
                       const struct po__tree_node *b); /* po__task.queue by id */

#define po__cmp_u64(a, b) (((a) > (b)) - ((a) < (b)))

#endif
