/* Task objects: one block each (input, key and zone behind the struct), in the index of ids, in
 * that of idempotency keys, and in exactly one queue, which its state decides. */
#include "impl.h"

#include "../base/fsm.h"

static const uint32_t allowed[] = {
    [PO_TASK_PENDING] = PO__TO(PO_TASK_RUNNING) | PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_SCHEDULED] = PO__TO(PO_TASK_PENDING) | PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_RUNNING] = PO__TO(PO_TASK_PENDING) | PO__TO(PO_TASK_SCHEDULED) |
                        PO__TO(PO_TASK_SUCCEEDED) | PO__TO(PO_TASK_FAILED) |
                        PO__TO(PO_TASK_CANCELLED),
    [PO_TASK_SUCCEEDED] = 0,
    [PO_TASK_FAILED] = 0,
    [PO_TASK_CANCELLED] = 0,
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

int po__task_queue_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(queued(a)->id, queued(b)->id);
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

/* ---- objects ---- */

struct po__task *po__task_make(struct po__model *m, const struct po__task_spec *spec)
{
    struct po__slice input = spec->input.len ? spec->input : po__str("null");
    struct po__task *t = po__malloc(sizeof *t + input.len + spec->key.len + spec->zone.len + 3);
    struct po__capability *cap = t ? po__cap_get(m, spec->capability) : NULL;
    if (!cap) {
        po__oom(m);
        po__free(t);
        return NULL;
    }
    char *at = (char *)(t + 1);
    *t = (struct po__task){
        .epoch = m->snap.epoch, .state = PO_TASK_PENDING, .cap = cap, .capability = cap->name};
    t->input = po__put(&at, input);
    t->key = po__put(&at, spec->key);
    t->zone = po__put(&at, spec->zone);
    t->key_hash = po__hash(t->key);
    t->attempts_max = spec->attempts_max ? spec->attempts_max : PO__TASK_ATTEMPTS_DEFAULT;
    t->timeout_ms = spec->timeout_ms ? spec->timeout_ms : PO__TASK_TIMEOUT_DEFAULT_MS;
    t->run_id = spec->run_id;
    po__tree_node_init(&t->by_id);
    po__tree_node_init(&t->by_key);
    po__tree_node_init(&t->queue);
    po__list_init(&t->worker_link);
    return t;
}

void po__task_free(struct po__model *m, struct po__task *t)
{
    po__free((void *)t->result.data);
    po__free((void *)t->error.data);
    po__origin_put(m, t->origin);
    po__cap_put(m, t->cap);
    po__free(t);
}

uint64_t po__task_bytes(const struct po__task *t)
{
    return t->input.len + t->key.len + t->result.len + t->error.len;
}

static uint64_t *bytes_counter(struct po__model *m, const struct po__task *t)
{
    return is_finished(t->state) ? &m->finished_bytes : &m->unfinished_bytes;
}

/* result or error of a task that is in the indexes; an empty text frees it. */
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

static void enqueue(struct po__model *m, struct po__task *t)
{
    struct po__tree_node *other;
    if (t->state == PO_TASK_PENDING) {
        other = po__tree_insert(&t->cap->pending, &t->queue, po__task_queue_cmp);
        po__cap_dirty(m, t->cap);
    } else {
        other = po__tree_insert(is_finished(t->state) ? &m->finished : &m->due, &t->queue,
                                po__task_due_cmp);
    }
    PO_INVARIANT(!other);
    m->tasks_count[t->state]++;
    *bytes_counter(m, t) += po__task_bytes(t);
}

static void dequeue(struct po__model *m, struct po__task *t)
{
    if (t->state == PO_TASK_PENDING)
        po__tree_remove(&t->cap->pending, &t->queue);
    else
        po__tree_remove(is_finished(t->state) ? &m->finished : &m->due, &t->queue);
    m->tasks_count[t->state]--;
    *bytes_counter(m, t) -= po__task_bytes(t);
}

bool po__task_link(struct po__model *m, struct po__task *t)
{
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

struct po__task *po__task_start(struct po__model *m, const struct po__task_spec *spec)
{
    if (unfinished_count(m) >= PO__TASKS_UNFINISHED_MAX) {
        po__refuse(m, PO_EQUOTA,
                   "%d tasks are unfinished, which is the limit; retry when some are done",
                   PO__TASKS_UNFINISHED_MAX);
        return NULL;
    }
    if (m->unfinished_bytes + spec->input.len + spec->key.len > PO__TASKS_MAX_BYTES) {
        po__refuse(m, PO_EQUOTA,
                   "unfinished tasks hold %llu bytes of input, the limit is %llu; retry when some "
                   "are done",
                   (unsigned long long)m->unfinished_bytes,
                   (unsigned long long)PO__TASKS_MAX_BYTES);
        return NULL;
    }
    struct po__task *t = po__task_make(m, spec);
    if (!t)
        return NULL;
    t->id = m->next_task++;
    t->created_ms = m->now_ms;
    if (po__task_link(m, t))
        return t;
    PO_INVARIANT(m->err); /* the id is new and the key was looked for */
    po__task_free(m, t);
    return NULL;
}

/* The lease, if there was one, is released. */
void po__task_finish(struct po__model *m, struct po__task *t, uint32_t state)
{
    po__task_move(m, t, state, m->now_ms);
    po__fx(m, PO__FX_TASK_FINISHED, t->id, 0, 0);
    if (t->run_id)
        po__run_task_finished(m, t);
}

/* At the end of a command, when nobody holds a task any more. */
void po__tasks_prune(struct po__model *m)
{
    while (m->finished.count > PO__TASKS_FINISHED_MAX ||
           m->finished_bytes > PO__TASKS_FINISHED_MAX_BYTES) {
        struct po__task *t = queued(po__tree_first(&m->finished));
        po__touch_task(m, t);
        po__task_drop(m, t);
    }
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
    };
    t = po__task_start(m, &spec);
    if (t)
        m->result.id = t->id;
}
