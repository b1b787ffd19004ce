/* Task objects: one block each (input, key and zone behind the struct), in the index of ids, in
 * that of idempotency keys, and in exactly one queue, which its state decides: its lane while it is
 * pending (queue.c), the due ones while it is scheduled or running, the finished ones afterwards;
 * of these, failed tasks of the newer form stand apart, as dead letters that successes do not crowd
 * out. */
#include "impl.h"

#include "../base/fsm.h"

static const uint32_t allowed[] = {
    [PO_TASK_PENDING] =
        PO__TO(PO_TASK_RUNNING) | PO__TO(PO_TASK_FAILED) | PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_SCHEDULED] =
        PO__TO(PO_TASK_PENDING) | PO__TO(PO_TASK_FAILED) | PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_RUNNING] = PO__TO(PO_TASK_PENDING) | PO__TO(PO_TASK_SCHEDULED) |
                        PO__TO(PO_TASK_SUCCEEDED) | PO__TO(PO_TASK_FAILED) |
                        PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_SUCCEEDED] = 0,
    [PO_TASK_FAILED] = PO__TO(PO_TASK_PENDING), /* an operator's retry */
    [PO_TASK_CANCELLED] = PO__TO(PO_TASK_PENDING) | PO__TO(PO_TASK_SCHEDULED),
};

static bool is_finished(uint32_t state)
{
    return state >= PO_TASK_SUCCEEDED;
}

/* ---- indexes ---- */

static struct po__task *queued(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__task, queue);
}

static int id_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(po__container_of(a, struct po__task, by_id)->id,
                       po__container_of(b, struct po__task, by_id)->id);
}

static int id_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, po__container_of(n, struct po__task, by_id)->id);
}

int po__task_due_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    int c = po__cmp_u64(queued(a)->deadline_ms, queued(b)->deadline_ms);
    return c ? c : po__cmp_u64(queued(a)->id, queued(b)->id);
}

struct po__task *po__task_find(const struct po__model *m, uint64_t id)
{
    struct po__tree_node *n = po__tree_find(&m->tasks, &id, id_key);
    return n ? po__container_of(n, struct po__task, by_id) : NULL;
}

/* By id; po__tree_next would do for a walk, but a walk may also start at an id that is gone. */
struct po__task *po__task_after(const struct po__model *m, uint64_t id)
{
    uint64_t from = id + 1;
    struct po__tree_node *n =
        id == UINT64_MAX ? NULL : po__tree_lower_bound(&m->tasks, &from, id_key);
    return n ? po__container_of(n, struct po__task, by_id) : NULL;
}

const struct po__task *po__model_task(const struct po__model *m, uint64_t id)
{
    return po__task_find(m, id);
}

const struct po__task *po__model_task_next(const struct po__model *m, uint64_t id)
{
    return po__task_after(m, id);
}

const struct po__task *po__model_task_due(const struct po__model *m, const struct po__task *t)
{
    struct po__tree_node *n = t ? po__tree_next(&t->queue) : po__tree_first(&m->due);
    return n ? queued(n) : NULL;
}

/* ---- objects ---- */

/* Its lane, by what the extra says. NULL: no memory, or refused. */
static struct po__lane *lane_for(struct po__model *m, const struct po__task_spec *spec,
                                 const struct po__extra *extra)
{
    struct po__gate *gate = NULL;
    if (extra->gate.len) /* in a snapshot they come before the tasks, with limits of their own */
        gate = m->restore ? po__gate_find(m, extra->gate) : po__gate_get(m, extra);
    if (extra->gate.len && !gate)
        return NULL;
    struct po__lane *lane = po__lane_get(m, spec->capability, extra->placement, gate);
    if (!lane && gate)
        po__gate_unused(m, gate);
    return lane;
}

struct po__task *po__task_make(struct po__model *m, const struct po__task_spec *spec)
{
    struct po__slice input = spec->input.len ? spec->input : po__str("null");
    struct po__extra extra = {0};
    if (spec->extra.len)
        PO_INVARIANT(po__extra_decode(spec->extra, &extra) == 0);
    struct po__lane *lane = lane_for(m, spec, &extra);
    if (!lane)
        return NULL;
    struct po__task *t = po__malloc(sizeof *t + input.len + spec->key.len + spec->zone.len + 3);
    if (!t) {
        po__oom(m);
        po__lane_put(m, lane);
        return NULL;
    }
    char *at = (char *)(t + 1);
    *t = (struct po__task){.epoch = m->snap.epoch,
                           .state = PO_TASK_PENDING,
                           .lane = lane,
                           .cap = lane->cls->cap,
                           .capability = lane->cls->cap->name};
    t->input = po__put(&at, input);
    t->key = po__put(&at, spec->key);
    t->zone = po__put(&at, spec->zone);
    t->key_hash = po__hash(t->key);
    t->attempts_max = spec->attempts_max ? spec->attempts_max : PO__TASK_ATTEMPTS_DEFAULT;
    t->timeout_ms = spec->timeout_ms ? spec->timeout_ms : PO__TASK_TIMEOUT_DEFAULT_MS;
    t->run_id = spec->run_id;
    t->modern = spec->extra.len > 0;
    po__tree_node_init(&t->by_id);
    po__tree_node_init(&t->by_key);
    po__tree_node_init(&t->queue);
    po__list_init(&t->worker_link);
    if (po__more_needed(&extra) && po__more_get(m, t)) {
        t->more->extra = extra;
        t->more->extra.placement = t->more->extra.gate =
            po__slice(NULL, 0); /* see po__task_extra */
    }
    if (m->err) {
        po__task_free(m, t);
        return NULL;
    }
    return t;
}

/* When it is made, and when it is restored. */
static void set_rank(struct po__task *t)
{
    const struct po__extra *e = t->more ? &t->more->extra : NULL;
    uint64_t from_ms = e && e->run_at_ms > t->created_ms ? e->run_at_ms : t->created_ms;
    t->rank_ms = (int64_t)from_ms - (int64_t)(e ? e->priority : 0) * PO__AGEING_MS;
}

void po__task_free(struct po__model *m, struct po__task *t)
{
    po__free((void *)t->result.data);
    po__free((void *)t->error.data);
    po__origin_put(m, t->origin);
    po__more_free(t->more);
    po__lane_put(m, t->lane);
    po__free(t);
}

uint64_t po__task_bytes(const struct po__task *t)
{
    return t->input.len + t->key.len + t->result.len + t->error.len + t->lane->cls->placement.len +
           (t->more ? t->more->checkpoint.len : 0);
}

static bool is_dead(const struct po__task *t)
{
    return t->modern && t->state == PO_TASK_FAILED;
}

static uint64_t *bytes_counter(struct po__model *m, const struct po__task *t)
{
    return is_dead(t)              ? &m->dead_bytes
           : is_finished(t->state) ? &m->finished_bytes
                                   : &m->unfinished_bytes;
}

/* result, error or checkpoint of a task that is in the indexes; an empty text frees it. */
int po__task_set_text(struct po__model *m, struct po__task *t, struct po__slice *field,
                      struct po__slice text)
{
    char *copy = NULL;
    if (text.len && !(copy = po__strndup(text.data, text.len))) {
        po__oom(m);
        return PO_ENOMEM;
    }
    *bytes_counter(m, t) += text.len - field->len;
    po__free((void *)field->data);
    *field = po__slice(copy, text.len);
    return 0;
}

static struct po__tree *queue_of(struct po__model *m, const struct po__task *t)
{
    return is_dead(t) ? &m->dead : is_finished(t->state) ? &m->finished : &m->due;
}

/* A class with unfinished tasks is active; their number is bounded. */
static void count_unfinished(struct po__task *t, int sign)
{
    struct po__class *c = t->lane->cls;
    bool was = c->unfinished_count > 0;
    c->unfinished_count += (uint64_t)sign;
    c->cap->classes_active += (uint32_t)((c->unfinished_count > 0) - was);
}

static void enqueue(struct po__model *m, struct po__task *t)
{
    if (!is_finished(t->state))
        count_unfinished(t, 1);
    if (t->state == PO_TASK_PENDING) {
        po__lane_insert(m, t);
        po__cap_dirty(m, t->cap); /* for each: the order of grants is that of the first release */
    } else
        PO_INVARIANT(!po__tree_insert(queue_of(m, t), &t->queue, po__task_due_cmp));
    m->tasks_count[t->state]++;
    *bytes_counter(m, t) += po__task_bytes(t);
    po__more_link(m, t);
}

static void dequeue(struct po__model *m, struct po__task *t)
{
    if (!is_finished(t->state))
        count_unfinished(t, -1);
    if (t->state == PO_TASK_PENDING)
        po__lane_remove(m, t);
    else
        po__tree_remove(queue_of(m, t), &t->queue);
    m->tasks_count[t->state]--;
    *bytes_counter(m, t) -= po__task_bytes(t);
    po__more_unlink(m, t);
}

bool po__task_link(struct po__model *m, struct po__task *t)
{
    set_rank(t);
    if (po__tree_insert(&m->tasks, &t->by_id, id_cmp))
        return false;
    int rv = t->key.len ? po__key_add(&m->task_keys, t) : 0;
    if (rv == PO_ENOMEM)
        po__oom(m);
    if (rv) {
        po__tree_remove(&m->tasks, &t->by_id);
        return false;
    }
    enqueue(m, t);
    return true;
}

void po__task_drop(struct po__model *m, struct po__task *t)
{
    dequeue(m, t);
    if (t->worker && t->lane->gate) /* the model is being closed */
        t->lane->gate->running--;
    if (po__tree_linked(&t->by_key))
        po__key_remove(&m->task_keys, t);
    po__tree_remove(&m->tasks, &t->by_id);
    po__task_free(m, t);
}

/* The caller has touched the task. */
void po__task_move(struct po__model *m, struct po__task *t, uint32_t state, uint64_t deadline_ms)
{
    int checked = (int)t->state;
    po__fsm_move(&checked, (int)state, allowed);
    dequeue(m, t);
    t->state = state;
    t->deadline_ms = deadline_ms;
    enqueue(m, t);
}

/* ---- life ---- */

static uint64_t unfinished_count(const struct po__model *m)
{
    return m->tasks_count[PO_TASK_PENDING] + m->tasks_count[PO_TASK_SCHEDULED] +
           m->tasks_count[PO_TASK_RUNNING];
}

static bool tasks_room(struct po__model *m, uint64_t bytes)
{
    if (unfinished_count(m) >= PO__TASKS_UNFINISHED_MAX) {
        po__refuse(m, PO_EQUOTA,
                   "%d tasks are unfinished, which is the limit; retry when some are done",
                   PO__TASKS_UNFINISHED_MAX);
        return false;
    }
    if (m->unfinished_bytes + bytes > PO__TASKS_MAX_BYTES) {
        po__refuse(m, PO_EQUOTA,
                   "unfinished tasks hold %llu bytes of input, the limit is %llu; retry when some "
                   "are done",
                   (unsigned long long)m->unfinished_bytes,
                   (unsigned long long)PO__TASKS_MAX_BYTES);
        return false;
    }
    return true;
}

/* Room for one more placement, if this is one? */
static bool class_room(struct po__model *m, struct po__slice capability, struct po__slice placement)
{
    if (!placement.len)
        return true;
    const struct po__capability *cap = po__cap_find(m, capability);
    const struct po__class *c = po__class_find(m, capability, placement);
    if (!cap || cap->classes_active < PO__CLASSES_MAX || (c && c->unfinished_count))
        return true;
    po__refuse(m, PO_EQUOTA,
               "unfinished tasks of %.*s have %u different placements, which is the limit; use "
               "fewer, or retry when some are done",
               (int)capability.len, capability.data, cap->classes_active);
    return false;
}

static bool room(struct po__model *m, const struct po__task_spec *spec)
{
    struct po__extra extra = {0};
    if (spec->extra.len)
        PO_INVARIANT(po__extra_decode(spec->extra, &extra) == 0);
    return class_room(m, spec->capability, extra.placement) &&
           tasks_room(m, spec->input.len + spec->key.len + extra.placement.len);
}

bool po__task_room(struct po__model *m, const struct po__task *t)
{
    return class_room(m, t->capability, t->lane->cls->placement) &&
           tasks_room(m, po__task_bytes(t));
}

struct po__task *po__task_start(struct po__model *m, const struct po__task_spec *spec)
{
    if (!room(m, spec))
        return NULL;
    struct po__task *t = po__task_make(m, spec);
    if (!t)
        return NULL;
    t->id = m->next_task++;
    t->created_ms = m->now_ms;
    if (t->more && t->more->extra.run_at_ms > m->now_ms) {
        t->state = PO_TASK_SCHEDULED;
        t->deadline_ms = t->more->extra.run_at_ms;
    }
    if (po__task_link(m, t)) {
        po__news_task(m, PO_WATCH_TASK_SUBMITTED, t);
        return t;
    }
    PO_INVARIANT(m->err); /* the id is new and the key was looked for */
    po__task_free(m, t);
    return NULL;
}

/* The lease, if there was one, is released. */
void po__task_finish(struct po__model *m, struct po__task *t, uint32_t state)
{
    po__task_move(m, t, state, m->now_ms);
    po__fx(m, PO__FX_TASK_FINISHED, t->id, 0, 0);
    po__news_task(m, PO_WATCH_TASK_FINISHED, t);
    if (t->run_id)
        po__run_task_finished(m, t);
}

static void drop_oldest(struct po__model *m, struct po__tree *tree)
{
    struct po__task *t = queued(po__tree_first(tree));
    po__touch_task(m, t);
    po__task_drop(m, t);
}

/* At the end of a command, when nobody holds a task any more. */
void po__tasks_prune(struct po__model *m)
{
    while (m->finished.count > PO__TASKS_FINISHED_MAX ||
           m->finished_bytes > PO__TASKS_FINISHED_MAX_BYTES)
        drop_oldest(m, &m->finished);
    while (m->dead.count > PO__TASKS_DEAD_MAX || m->dead_bytes > PO__TASKS_DEAD_MAX_BYTES)
        drop_oldest(m, &m->dead);
}

const struct po__task *po__model_task_by_key(const struct po__model *m, struct po__slice key)
{
    return po__key_find(&m->task_keys, key);
}

void po__cmd_task_submit(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__key_find(&m->task_keys, cmd->submit.key);
    if (t) { /* a repeat */
        struct po__slice input = cmd->submit.input.len ? cmd->submit.input : po__str("null");
        m->result.id = t->id;
        if (!po__slice_eq(t->capability, cmd->submit.capability) || !po__slice_eq(t->input, input))
            po__refuse(
                m, PO_EEXISTS,
                "the idempotency key belongs to task %llu, which has another capability or input",
                (unsigned long long)t->id);
        return;
    }
    const struct po__task_spec spec = {
        .capability = cmd->submit.capability,
        .input = cmd->submit.input,
        .zone = cmd->submit.zone,
        .key = cmd->submit.key,
        .attempts_max = cmd->submit.attempts_max,
        .timeout_ms = cmd->submit.timeout_ms,
        .extra = cmd->submit.extra,
    };
    t = po__task_start(m, &spec);
    if (t)
        m->result.id = t->id;
}
