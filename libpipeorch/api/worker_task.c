/* Tasks in hand.
 *
 *   QUEUED ──▶ IN_HANDLER ──▶ ANSWERED ──▶ forgotten
 *      │         (or with whoever the handler gave it to)     when the cluster accepted or refused
 * the answer └──────────────────────────────────────▶ forgotten     when its lease was revoked
 * before a handler took it
 *
 * A task stays in hand, and its token in the list that a new leader is told, until the cluster has
 * decided about its answer. */
#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "../codec/utf8.h"
#include "../spec/spec.h"
#include "call.h"
#include "worker_internal.h"

#define EXTEND_MIN_MS 100
#define EXTEND_MAX_MS 86400000

const uint32_t po__task_moves[] = {
    [PO__TASK_QUEUED] = PO__TO(PO__TASK_IN_HANDLER),
    [PO__TASK_IN_HANDLER] = PO__TO(PO__TASK_ANSWERED),
    [PO__TASK_ANSWERED] = 0,
};

/* ---- the table of tasks ---- */

struct key {
    uint32_t life;
    uint64_t token;
};

static int cmp_keys(struct key x, struct key y)
{
    if (x.life != y.life)
        return x.life < y.life ? -1 : 1;
    return x.token < y.token ? -1 : x.token > y.token;
}

static struct key key_of(const struct po__tree_node *n)
{
    const struct po_task *t = po__container_of(n, struct po_task, by_token);
    return (struct key){t->life, t->token};
}

static int cmp_token(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return cmp_keys(key_of(a), key_of(b));
}

static int cmp_key(const void *key, const struct po__tree_node *n)
{
    return cmp_keys(*(const struct key *)key, key_of(n));
}

struct po_task *po__worker_find(struct po__plane *p, uint64_t token)
{
    struct key key = {p->life, token};
    struct po__tree_node *n = po__tree_find(&p->tasks, &key, cmp_key);
    return n ? po__container_of(n, struct po_task, by_token) : NULL;
}

static void forget(struct po_task *t)
{
    struct po__plane *p = t->plane;
    struct po_worker *w = p->worker;
    p->unanswered_count -= t->state != PO__TASK_ANSWERED;
    if (t->state == PO__TASK_IN_HANDLER)
        po__worker_release_slot(t);
    po__tree_remove(&p->tasks, &t->by_token);
    po__list_remove(&t->link);
    po__list_remove(&t->lost);
    po__free(t->input);
    po__free(t->checkpoint);
    po__free(t);
    if (p == &w->local && p->tasks.count == 0 && !po__list_empty(&w->queue))
        pthread_cond_broadcast(&w->work), po__worker_raise(w); /* who waited for the last of them */
}

static struct po__offered *offered(struct po_worker *w, struct po__slice name)
{
    for (size_t i = 0; i < w->offered_count; i++)
        if (po__slice_eq(name, po__str(w->offered[i].capability.name)))
            return &w->offered[i];
    return NULL;
}

int po__worker_take(struct po__plane *p, const struct po__task_offer *offer)
{
    struct po_worker *w = p->worker;
    struct po__offered *o = offered(w, offer->capability);
    if (po__worker_find(p, offer->token))
        return 0; /* repeated */
    if (!o) {
        po__error(&w->log, "worker.capability",
                  "task %llu needs %.*s, which this worker never "
                  "offered; its lease will expire",
                  (unsigned long long)offer->task_id, (int)offer->capability.len,
                  offer->capability.data);
        return 0;
    }
    struct po__slice input = offer->input.len ? offer->input : po__str("null");
    struct po_task *t = po__calloc(1, sizeof *t);
    if (!t)
        return PO_ENOMEM;
    t->input = po__strndup(input.data, input.len);
    t->checkpoint = po__strndup(offer->checkpoint.data, offer->checkpoint.len);
    t->checkpoint_len = offer->checkpoint.len;
    if (!t->input || !t->checkpoint) {
        po__free(t->input);
        po__free(t->checkpoint);
        po__free(t);
        return PO_ENOMEM;
    }
    t->plane = p;
    t->state = PO__TASK_QUEUED;
    t->id = offer->task_id;
    t->token = offer->token;
    t->life = p->life;
    t->attempt = offer->attempt;
    t->timeout_ms = offer->timeout_ms;
    t->renew_ms = po__worker_now_ms() + t->timeout_ms / 2;
    t->offered = o;
    t->input_len = input.len;
    po__list_init(&t->lost);
    po__tree_node_init(&t->by_token);
    PO_INVARIANT(po__tree_insert(&p->tasks, &t->by_token, cmp_token) == NULL);
    po__list_push(&w->queue, &t->link);
    p->unanswered_count++;
    if (o->handler)
        pthread_cond_signal(&w->work);
    else
        po__worker_raise(w);
    return 0;
}

static void revoke(struct po_task *t)
{
    po__info(&t->plane->worker->log, "worker.revoked",
             "the lease of task %llu (token %llu) is lost", (unsigned long long)t->id,
             (unsigned long long)t->token);
    atomic_store(&t->cancelled, 1);
    if (t->state == PO__TASK_QUEUED)
        forget(t);
    else if (t->state == PO__TASK_IN_HANDLER && !t->offered->handler)
        po__worker_tell_lost(t);
}

void po__worker_revoke(struct po__plane *p, uint64_t token)
{
    struct po_task *t = po__worker_find(p, token);
    if (t)
        revoke(t);
}

/* Who does not know us gave us no lease. If it was founded anew, its ids and tokens begin from
 * the start, and it may soon give out one that is in hand here: that is another task. */
void po__worker_disown(struct po__plane *p)
{
    struct po__tree_node *next;
    for (struct po__tree_node *n = po__tree_first(&p->tasks); n; n = next) {
        struct po_task *t = po__container_of(n, struct po_task, by_token);
        next = po__tree_next(n);
        if (t->life == p->life)
            revoke(t);
    }
    p->life++;
}

void po__worker_outcome_over(struct po__outcome_out *o)
{
    po__list_remove(&o->link);
    if (o->task)
        forget(o->task);
    po__free(o);
}

void po__worker_forget_all(struct po__plane *p)
{
    struct po__list *l;
    struct po__tree_node *n;
    while ((l = po__list_first(&p->done)))
        po__worker_outcome_over(po__container_of(l, struct po__outcome_out, link));
    while ((n = po__tree_first(&p->tasks)))
        forget(po__container_of(n, struct po_task, by_token));
}

/* ---- outcomes ---- */

struct po__outcome_out *po__worker_outcome(const struct po_task *t, uint32_t kind, uint64_t flag,
                                           const void *payload, size_t len)
{
    struct po__outcome_out *o = po__malloc(sizeof *o + len);
    if (!o)
        return NULL;
    *o = (struct po__outcome_out){.task_id = t->id,
                                  .token = t->token,
                                  .life = t->life,
                                  .kind = kind,
                                  .flag = flag,
                                  .len = len};
    po__list_init(&o->link);
    if (len)
        memcpy(o->payload, payload, len);
    return o;
}

/* Checkpoints stand behind everything else: a node that does not know them reads no further. But
 * the failure of an attempt stands behind its own checkpoint, or that would come too late for the
 * next attempt; should the node not know it, the failure is told again (worker_poll.c). */
static bool may_pass(const struct po__outcome_out *o, const struct po__list *l)
{
    const struct po__outcome_out *other = po__container_of(l, struct po__outcome_out, link);
    return o->kind != PO__DONE_CHECKPOINT && other->kind == PO__DONE_CHECKPOINT &&
           !(o->kind == PO__DONE_FAIL && o->token == other->token);
}

void po__worker_say(struct po__plane *p, struct po__outcome_out *o)
{
    struct po__list *at = p->done.prev;
    while (at != &p->done && may_pass(o, at))
        at = at->prev;
    po__list_push(at->next, &o->link); /* behind `at` */
    po__worker_poll(p);
    po__worker_wake_if_due(p);
}

/* The one of that kind about that task that waits to be sent. */
static struct po__outcome_out *waiting(struct po__plane *p, uint32_t kind, uint64_t token,
                                       uint32_t life)
{
    struct po__list *it;
    po__list_each(it, &p->done)
    {
        struct po__outcome_out *o = po__container_of(it, struct po__outcome_out, link);
        if (o->kind == kind && o->token == token && o->life == life)
            return o;
    }
    return NULL;
}

void po__worker_say_extend(struct po__plane *p, struct po__outcome_out *o)
{
    struct po__outcome_out *old = waiting(p, PO__DONE_EXTEND, o->token, o->life);
    if (old) {
        old->flag = o->flag;
        po__free(o);
    } else {
        po__worker_say(p, o);
    }
}

/* ---- answers ---- */

/* The task is the library's again, and its answer on its way. */
static int answer(struct po_task *t, uint32_t kind, uint64_t flag, const void *payload, size_t len)
{
    struct po__plane *p = t->plane;
    struct po_worker *w = p->worker;
    struct po__outcome_out *o = po__worker_outcome(t, kind, flag, payload, len), *left;
    if (!o)
        return po__client_fail(PO_ENOMEM, "out of memory for the answer of task %llu; try again",
                               (unsigned long long)t->id);
    pthread_mutex_lock(&w->lock);
    po__fsm_move(&t->state, PO__TASK_ANSWERED, po__task_moves);
    po__list_remove(&t->lost);
    p->unanswered_count--;
    po__worker_release_slot(t);
    o->task = t;
    if (kind == PO__DONE_COMPLETE && (left = waiting(p, PO__DONE_CHECKPOINT, t->token, t->life)))
        po__worker_outcome_over(left); /* nobody goes on from there any more */
    po__free(t->input);
    t->input = NULL;
    if (atomic_load(&t->cancelled) || p->phase >= PO__PLANE_LEAVE)
        po__worker_outcome_over(o); /* it would be refused, or cannot be told any more */
    else
        po__worker_say(p, o);
    if (p->phase >= PO__PLANE_DRAIN)
        po__worker_wake(w);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int po_task_complete(po_task *task, const void *result, size_t len)
{
    if (!task)
        return po__client_fail(PO_EINVAL, "the task is NULL");
    if (!result) {
        result = "null";
        len = 4;
    }
    if (len > PO_PAYLOAD_MAX_BYTES)
        return po__client_fail(PO_ETOOBIG, "the result of task %llu has %zu bytes; at most %d",
                               (unsigned long long)task->id, len, PO_PAYLOAD_MAX_BYTES);
    if (!po__spec_json_ok(result, len))
        return po__client_fail(PO_EINVAL,
                               "the result of task %llu is not a JSON text; expected exactly one "
                               "JSON value in UTF-8",
                               (unsigned long long)task->id);
    char why[PO__WORKER_SENTENCE_MAX_BYTES];
    int rv = po__worker_validate(task, "output", task->offered->capability.output_schema,
                                 po__slice(result, len), why, sizeof why);
    if (rv)
        return po__client_fail(rv, "%s", why);
    return answer(task, PO__DONE_COMPLETE, 0, result, len);
}

/* Length of text cut at max bytes, not within a UTF-8 character. */
static size_t cut(const char *text, size_t max)
{
    size_t len = strnlen(text, max + 1);
    if (len <= max)
        return len;
    for (len = max; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
        len--;
    return len;
}

/* What a program writes to stderr may be anything; the cluster keeps text. */
static void mend_utf8(char *text, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        for (n = 1; n <= 4 && i + n <= len && !po__utf8_ok(po__slice(text + i, n)); n++)
            ;
        if (n <= 4 && i + n <= len)
            continue;
        text[i] = '?';
        n = 1;
    }
}

int po_task_fail(po_task *task, const char *error, int retryable)
{
    if (!task)
        return po__client_fail(PO_EINVAL, "the task is NULL");
    if (!error)
        error = "";
    char text[PO_ERROR_TEXT_MAX_BYTES + 1];
    size_t len = cut(error, PO_ERROR_TEXT_MAX_BYTES);
    memcpy(text, error, len);
    mend_utf8(text, len);
    return answer(task, PO__DONE_FAIL, retryable != 0, text, len);
}

/* Of those that wait to be sent, only the newest counts: a newer one takes over what it does not
 * say. */
static void say_checkpoint(struct po__plane *p, struct po__outcome_out *o)
{
    struct po__outcome_out *old = waiting(p, PO__DONE_CHECKPOINT, o->token, o->life);
    if (old && old->flag & PO__DONE_HAS_DATA && !(o->flag & PO__DONE_HAS_DATA)) {
        if ((o->flag & UINT16_MAX) != PO_PROGRESS_UNCHANGED)
            old->flag = (o->flag & UINT16_MAX) | PO__DONE_HAS_DATA;
        po__free(o);
        return;
    }
    if (old) {
        if ((o->flag & UINT16_MAX) == PO_PROGRESS_UNCHANGED)
            o->flag = (o->flag & ~(uint64_t)UINT16_MAX) | (old->flag & UINT16_MAX);
        po__worker_outcome_over(old);
    }
    po__worker_say(p, o);
}

int po_task_checkpoint(po_task *task, uint32_t progress, const void *data, size_t len)
{
    if (!task || progress > PO_PROGRESS_UNCHANGED)
        return po__client_fail(
            PO_EINVAL,
            "the task is NULL, or progress is %u; expected 0..1000, or %d to leave "
            "it",
            progress, PO_PROGRESS_UNCHANGED);
    if (data && len > PO_CHECKPOINT_MAX_BYTES)
        return po__client_fail(PO_ETOOBIG,
                               "the checkpoint of task %llu has %zu bytes; at most %d. Keep it "
                               "elsewhere and leave its name",
                               (unsigned long long)task->id, len, PO_CHECKPOINT_MAX_BYTES);
    struct po__plane *p = task->plane;
    uint64_t flag = progress | (data ? PO__DONE_HAS_DATA : 0);
    struct po__outcome_out *o =
        po__worker_outcome(task, PO__DONE_CHECKPOINT, flag, data, data ? len : 0);
    if (!o)
        return po__client_fail(PO_ENOMEM, "out of memory for a checkpoint");
    pthread_mutex_lock(&p->worker->lock);
    if (p->phase >= PO__PLANE_LEAVE || atomic_load(&task->cancelled))
        po__free(o); /* nobody would take it */
    else
        say_checkpoint(p, o);
    pthread_mutex_unlock(&p->worker->lock);
    return 0;
}

int po_task_extend(po_task *task, uint32_t extend_ms)
{
    if (!task || extend_ms < EXTEND_MIN_MS || extend_ms > EXTEND_MAX_MS)
        return po__client_fail(PO_EINVAL, "the task is NULL, or extend_ms is %u; expected %d..%d",
                               extend_ms, EXTEND_MIN_MS, EXTEND_MAX_MS);
    struct po__plane *p = task->plane;
    struct po__outcome_out *o = po__worker_outcome(task, PO__DONE_EXTEND, extend_ms, NULL, 0);
    if (!o)
        return po__client_fail(PO_ENOMEM, "out of memory for an extension");
    pthread_mutex_lock(&p->worker->lock);
    if (p->phase >= PO__PLANE_LEAVE)
        po__free(o);
    else
        po__worker_say_extend(p, o);
    pthread_mutex_unlock(&p->worker->lock);
    return 0;
}

/* ---- properties ---- */

uint64_t po_task_id(const po_task *task)
{
    return task->id;
}

uint32_t po_task_attempt(const po_task *task)
{
    return task->attempt;
}

uint64_t po_task_token(const po_task *task)
{
    return task->token;
}

const char *po_task_capability(const po_task *task)
{
    return task->offered->capability.name;
}

const void *po_task_input(const po_task *task, size_t *len)
{
    if (len)
        *len = task->input_len;
    return task->input;
}

uint32_t po_task_timeout_ms(const po_task *task)
{
    return task->timeout_ms;
}

int po_task_cancelled(const po_task *task)
{
    return atomic_load(&((po_task *)task)->cancelled);
}

const void *po_task_checkpoint_data(const po_task *task, size_t *len)
{
    if (len)
        *len = task->checkpoint_len;
    return task->checkpoint_len ? task->checkpoint : NULL;
}
