/* Reading tasks, their leases and their concurrency keys back from a snapshot; as restore.c, which
 * calls this. */
#include "restore.h"

/* Into the worker's list in order of grant. Tasks come by id, which is nearly that order. */
static int restore_lease(struct po__model *m, struct po__task *t, uint64_t number)
{
    struct po__worker *w = (struct po__worker *)po__model_worker_by_number(m, number);
    struct po__offer *o = w ? po__offer_of(w, t->cap) : NULL;
    if (!o || o->running >= o->slots || w->status == PO_WORKER_OFFLINE || !t->origin ||
        !po__slice_eq(t->origin->id, w->origin->id))
        return PO_ECORRUPT;
    po__lease_bind(t, w, o);
    if (t->lane->gate)
        t->lane->gate->running++;
    struct po__list *at = t->worker_link.prev;
    while (at != &w->tasks && po__container_of(at, struct po__task, worker_link)->token > t->token)
        at = at->prev;
    po__list_remove(&t->worker_link);
    po__list_push(at->next, &t->worker_link); /* behind at */
    return 0;
}

static void read_task_fields(struct po__mpr *r, struct po__task *t, uint64_t *worker)
{
    t->state = (uint32_t)po__mpr_uint(r, PO_TASK_CANCELLED);
    t->attempt = u32(r);
    t->lost = (uint16_t)po__mpr_uint(r, UINT16_MAX);
    t->outcome = (uint8_t)po__mpr_uint(r, PO__OUTCOME_FAILED);
    t->token = u64(r);
    t->deadline_ms = u64(r);
    t->created_ms = u64(r);
    t->granted_ms = u64(r);
    *worker = u64(r);
}

/* The extra stands at the end of a record but is needed first: look for it with a cursor of its
 * own. r stands behind the key of the record. False: malformed, or not as a command would have it.
 */
static bool find_extra(struct po__mpr r, uint32_t more, struct po__slice *extra)
{
    struct po__extra e;
    *extra = po__slice(NULL, 0);
    for (uint32_t i = 0; i < PO__TASK_FIELDS - 2 && more; i++)
        po__mpr_skip(&r);
    if (!more || r.err || po__mpr_peek(&r) == PO__MP_NIL)
        return !r.err && more != 1;
    *extra = po__mpr_raw(&r);
    return !r.err && !po__extra_decode(*extra, &e) && !po__extra_check(&e, NULL, 0);
}

/* What attempts left behind. */
static int read_left(struct po__model *m, struct po__mpr *r, struct po__task *t)
{
    struct po__more *more = po__more_get(m, t);
    if (!more)
        return PO_ENOMEM;
    if (po__mpr_array(r, 3) != 3)
        po__mpr_fail(r);
    more->progress = (uint32_t)po__mpr_uint(r, PO__PROGRESS_NONE);
    struct po__slice checkpoint = po__mpr_bin(r, PO_CHECKPOINT_MAX_BYTES);
    more->forgiven = u32(r);
    if (r->err || (more->progress == PO__PROGRESS_NONE && !checkpoint.len && !more->forgiven))
        return PO_ECORRUPT;
    return own(&more->checkpoint, checkpoint) ? 0 : PO_ENOMEM;
}

static int read_task_rest(struct po__model *m, struct po__mpr *r, struct po__task *t,
                          uint64_t *worker, uint32_t more)
{
    int err = 0;
    read_task_fields(r, t, worker);
    t->origin = po__restore_origin(m, r, &err);
    if (!own(&t->result, payload(r)) || !own(&t->error, error_text(r)))
        err = PO_ENOMEM;
    if (more > 0)
        po__mpr_skip(r); /* the extra */
    if (!err && more > 1)
        err = read_left(m, r, t);
    if (!err && (r->err || t->state < PO_TASK_PENDING || t->token > m->last_token ||
                 (t->state == PO_TASK_RUNNING) != (*worker != 0)))
        err = PO_ECORRUPT;
    if (!err && !po__task_link(m, t))
        err = m->err ? m->err : PO_ECORRUPT;
    return err;
}

int po__restore_task(struct po__model *m, struct po__mpr *r, uint64_t id, uint32_t more)
{
    struct po__task_spec spec = {0};
    uint64_t worker = 0;
    if (!find_extra(*r, more, &spec.extra))
        return PO_ECORRUPT;
    spec.capability = name(r);
    spec.input = payload(r);
    spec.zone = name(r);
    spec.key = key(r);
    spec.attempts_max = (uint32_t)po__mpr_uint(r, PO__ATTEMPTS_MAX);
    spec.timeout_ms = (uint32_t)po__mpr_uint(r, PO__ATTEMPT_MAX_MS);
    spec.run_id = u64(r);
    if (r->err || !po__capability_ok(spec.capability) ||
        (spec.zone.len && !po__name_ok(spec.zone)) || id >= m->next_task || !spec.attempts_max ||
        !spec.timeout_ms)
        return PO_ECORRUPT;
    struct po__task *t = po__task_make(m, &spec);
    if (!t)
        return m->err ? m->err : PO_ECORRUPT; /* a concurrency key that no gate has */
    t->id = id;
    int err = read_task_rest(m, r, t, &worker, more);
    if (err) {
        po__task_free(m, t);
        return err;
    }
    return worker ? restore_lease(m, t, worker) : 0;
}

int po__restore_gate(struct po__model *m, struct po__mpr *r, uint64_t number)
{
    struct po__gate_record g = {.number = number};
    struct po__extra e = {0};
    g.name = e.gate = name(r);
    g.max = e.gate_max = u32(r);
    g.rate_max = e.rate_max = u32(r);
    g.rate_ms = e.rate_ms = u32(r);
    g.full_us = u64(r);
    g.due_ms = u64(r);
    g.open = po__mpr_bool(r);
    if (r->err || !g.name.len || po__extra_check(&e, NULL, 0) || m->gates.count >= PO__GATES_MAX)
        return PO_ECORRUPT;
    return po__gate_make(m, &g) ? 0 : m->err ? m->err : PO_ECORRUPT;
}
