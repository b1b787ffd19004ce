/* How attempts end.
 *
 *            submit                     grant                    complete
 *   (none) ─────────▶ pending ───────────────────────▶ running ──────────▶ succeeded
 *                      ▲   ▲      worker lost            │  │
 *                      │   └─────────────────────────────┤  ├──────────▶ failed      (not
 * retryable, or attempts used up) due  │          retryable failure      │  │ └───────── scheduled
 * ◀────────────┘  └──────────▶ cancelled   (also from pending and scheduled)
 *
 * The fencing token decides whose word counts: only the holder of the task's current token ends its
 * attempt. A repeat of the word that was accepted is answered 0, because its sender may not have
 * seen the first answer; everything else is stale.
 *
 * A worker's death is not the task's fault, so it does not use up attempts_max; but a task that
 * kills its workers must not go on for ever, so those losses have a bound of their own. */
#include "impl.h"

#include <stdio.h>

enum word { WORD_CURRENT, WORD_REPEATED, WORD_STALE };

/* Does (token, worker) hold the lease, or did it end the last attempt with this very outcome? Sets
 * the refusal if stale. */
static enum word judge(struct po__model *m, const struct po__task *t, uint64_t task_id,
                       uint64_t token, struct po__slice worker_id, enum po__outcome outcome)
{
    unsigned long long id = task_id;
    m->result.id = task_id;
    if (!t) {
        po__refuse(m, PO_ESTALE,
                   "task %llu is not known; it was finished long ago or never existed", id);
        return WORD_STALE;
    }
    if (t->token == token && t->origin && po__slice_eq(t->origin->id, worker_id)) {
        if (t->state == PO_TASK_RUNNING)
            return WORD_CURRENT;
        if (outcome != PO__OUTCOME_NONE && t->outcome == (uint8_t)outcome)
            return WORD_REPEATED;
    }
    po__refuse(m, PO_ESTALE,
               "task %llu: token %llu of worker \"%.*s\" is not its lease; drop this attempt", id,
               (unsigned long long)token, (int)worker_id.len, worker_id.data);
    return WORD_STALE;
}

/* Attempts that count against attempts_max. */
static uint32_t failures_of(const struct po__task *t)
{
    return t->attempt - t->lost - (t->more ? t->more->forgiven : 0);
}

/* Exponential. Tasks of the newer form wait a part of it that is different for each, so that what
 * failed together does not come back together: from the upper half, drawn from the index of the
 * entry, which is the same on every node and known to nobody before. */
static uint64_t retry_delay_ms(const struct po__model *m, const struct po__task *t)
{
    const struct po__extra *e = t->more ? &t->more->extra : NULL;
    uint64_t delay = e && e->retry_ms ? e->retry_ms : PO__RETRY_DELAY_MIN_MS;
    uint64_t max = e && e->retry_max_ms ? e->retry_max_ms : PO__RETRY_DELAY_MAX_MS;
    if (max < delay)
        max = delay; /* a first wait above the default of the longest */
    for (uint32_t n = failures_of(t); n > 1 && delay < max; n--)
        delay *= 2;
    delay = delay < max ? delay : max;
    if (!t->modern)
        return delay;
    uint64_t drawn = m->index * UINT64_C(0x9e3779b97f4a7c15) + t->id; /* splitmix64 */
    drawn = (drawn ^ drawn >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    drawn = (drawn ^ drawn >> 27) * UINT64_C(0x94d049bb133111eb);
    return delay - (drawn ^ drawn >> 31) % (delay / 2 + 1);
}

/* The attempt was the task's fault; its lease is released. */
static void attempt_failed(struct po__model *m, struct po__task *t, struct po__slice error,
                           bool retryable)
{
    if (po__task_set_text(m, t, &t->error, error))
        return;
    if (!retryable || failures_of(t) >= t->attempts_max) {
        po__task_finish(m, t, PO_TASK_FAILED);
        return;
    }
    po__task_move(m, t, PO_TASK_SCHEDULED, m->now_ms + retry_delay_ms(m, t));
    po__news_task(m, PO_WATCH_TASK_RETRY, t);
}

/* The attempt's worker is gone; its lease is released. */
void po__attempt_lost(struct po__model *m, struct po__task *t)
{
    char error[PO_NAME_MAX_BYTES + 160];
    t->outcome = PO__OUTCOME_NONE;
    t->lost++;
    if (t->lost < t->attempts_max + PO__TASK_LOST_MAX) {
        po__task_move(m, t, PO_TASK_PENDING, 0);
        po__news_task(m, PO_WATCH_TASK_LOST, t);
        return;
    }
    snprintf(
        error, sizeof error,
        "%u attempts ended with the loss of their worker (the last on \"%s\"); not tried again",
        (unsigned)t->lost, t->origin->id.data);
    if (!po__task_set_text(m, t, &t->error, po__str(error)))
        po__task_finish(m, t, PO_TASK_FAILED);
}

void po__cmd_task_complete(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->complete.task_id);
    struct po__slice result = cmd->complete.result.len ? cmd->complete.result : po__str("null");
    if (judge(m, t, cmd->complete.task_id, cmd->complete.token, cmd->complete.worker_id,
              PO__OUTCOME_COMPLETED) != WORD_CURRENT)
        return;
    po__touch_task(m, t);
    po__lease_release(m, t, false);
    t->outcome = PO__OUTCOME_COMPLETED;
    if (po__task_set_text(m, t, &t->result, result) ||
        po__task_set_text(m, t, &t->error, po__slice(NULL, 0)) ||
        (t->more && po__task_set_text(m, t, &t->more->checkpoint, po__slice(NULL, 0))))
        return;
    po__task_finish(m, t, PO_TASK_SUCCEEDED);
}

void po__cmd_task_fail(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->fail.task_id);
    if (judge(m, t, cmd->fail.task_id, cmd->fail.token, cmd->fail.worker_id, PO__OUTCOME_FAILED) !=
        WORD_CURRENT)
        return;
    po__touch_task(m, t);
    po__lease_release(m, t, false);
    t->outcome = PO__OUTCOME_FAILED;
    attempt_failed(m, t, cmd->fail.error, cmd->fail.retryable);
}

static void extend(struct po__model *m, struct po__task *t, uint32_t extend_ms)
{
    po__tree_remove(&m->due, &t->queue);
    t->deadline_ms = m->now_ms + extend_ms;
    PO_INVARIANT(!po__tree_insert(&m->due, &t->queue, po__task_due_cmp));
}

void po__cmd_task_extend(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->extend.task_id);
    if (judge(m, t, cmd->extend.task_id, cmd->extend.token, cmd->extend.worker_id,
              PO__OUTCOME_NONE) != WORD_CURRENT)
        return;
    po__touch_task(m, t);
    extend(m, t, cmd->extend.extend_ms);
}

void po__cmd_task_checkpoint(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->checkpoint.task_id);
    if (judge(m, t, cmd->checkpoint.task_id, cmd->checkpoint.token, cmd->checkpoint.worker_id,
              PO__OUTCOME_NONE) != WORD_CURRENT)
        return;
    if (cmd->checkpoint.has_data &&
        m->unfinished_bytes + cmd->checkpoint.data.len > PO__TASKS_MAX_BYTES) {
        po__refuse(m, PO_EQUOTA,
                   "unfinished tasks hold %llu bytes, the limit is %llu; the checkpoint was not "
                   "taken",
                   (unsigned long long)m->unfinished_bytes,
                   (unsigned long long)PO__TASKS_MAX_BYTES);
        return;
    }
    po__touch_task(m, t);
    struct po__more *more = po__more_get(m, t);
    if (!more)
        return;
    if (cmd->checkpoint.progress < PO__PROGRESS_NONE)
        more->progress = cmd->checkpoint.progress;
    if (cmd->checkpoint.has_data &&
        po__task_set_text(m, t, &more->checkpoint, cmd->checkpoint.data))
        return;
    if (cmd->checkpoint.extend_ms)
        extend(m, t, cmd->checkpoint.extend_ms);
}

static bool deadline_passed(const struct po__model *m, const struct po__task *t)
{
    uint64_t deadline_ms = t->more ? t->more->extra.deadline_ms : 0;
    return deadline_ms && deadline_ms <= m->now_ms;
}

static void start_again(struct po__model *m, struct po__task *t)
{
    po__touch_task(m, t);
    struct po__more *more = po__more_get(m, t);
    if (!more)
        return;
    more->forgiven = t->attempt;
    t->lost = 0;
    t->outcome = PO__OUTCOME_NONE;
    if (more->extra.run_at_ms > m->now_ms) /* cancelled before its time came */
        po__task_move(m, t, PO_TASK_SCHEDULED, more->extra.run_at_ms);
    else
        po__task_move(m, t, PO_TASK_PENDING, 0);
    t->modern = true; /* what it gets is of the newer form; not before it has left its queue */
    po__news_task(m, PO_WATCH_TASK_REVIVED, t);
}

/* A dead letter, or a cancelled task, gets all its attempts once more. */
void po__cmd_task_retry(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->retry.task_id);
    unsigned long long id = m->result.id = cmd->retry.task_id;
    if (!t) {
        po__refuse(m, PO_ENOTFOUND, "no task %llu is known", id);
    } else if (t->run_id) {
        po__refuse(m, PO_ESTATE, "task %llu belongs to run %llu; resume the run instead", id,
                   (unsigned long long)t->run_id);
    } else if (t->state == PO_TASK_SUCCEEDED) {
        po__refuse(m, PO_ESTATE, "task %llu succeeded; submit another one to do it again", id);
    } else if (t->state >= PO_TASK_SUCCEEDED && deadline_passed(m, t)) {
        po__refuse(m, PO_ESTATE,
                   "task %llu had to be finished by %llu, which is over; submit another", id,
                   (unsigned long long)t->more->extra.deadline_ms);
    } else if (t->state >= PO_TASK_SUCCEEDED && po__task_room(m, t)) {
        start_again(m, t);
    }
}

/* Whatever it is doing. */
void po__task_expired(struct po__model *m, struct po__task *t)
{
    if (t->state == PO_TASK_RUNNING)
        po__lease_release(m, t, true);
    t->outcome = PO__OUTCOME_NONE;
    if (!po__task_set_text(m, t, &t->error, po__str("not finished by its deadline")))
        po__task_finish(m, t, PO_TASK_FAILED);
}

/* A task that is not finished. */
void po__task_cancel(struct po__model *m, struct po__task *t)
{
    po__touch_task(m, t);
    if (t->state == PO_TASK_RUNNING)
        po__lease_release(m, t, true);
    t->outcome = PO__OUTCOME_NONE;
    po__task_finish(m, t, PO_TASK_CANCELLED);
}

void po__cmd_task_cancel(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->cancel.task_id);
    m->result.id = cmd->cancel.task_id;
    if (!t) {
        po__refuse(m, PO_ENOTFOUND, "no task %llu is known",
                   (unsigned long long)cmd->cancel.task_id);
    } else if (t->state == PO_TASK_SUCCEEDED || t->state == PO_TASK_FAILED) {
        po__refuse(m, PO_ESTATE, "task %llu is finished already", (unsigned long long)t->id);
    } else if (t->state != PO_TASK_CANCELLED) { /* a repeated cancel is answered 0 */
        po__task_cancel(m, t);
    }
}

static void time_out(struct po__model *m, struct po__task *t)
{
    char error[64];
    uint64_t after_ms = t->timeout_ms;
    po__lease_release(m, t, true);
    t->outcome = PO__OUTCOME_NONE;
    snprintf(error, sizeof error, "timed out after %llu ms", (unsigned long long)after_ms);
    attempt_failed(m, t, po__str(error), true);
}

/* Of tasks that wait for their time, and of attempts. False: nothing is due. */
static bool due_tick(struct po__model *m)
{
    struct po__tree_node *n = po__tree_first(&m->due);
    struct po__task *t = n ? po__container_of(n, struct po__task, queue) : NULL;
    if (!t || t->deadline_ms > m->now_ms)
        return false;
    po__touch_task(m, t);
    if (t->state == PO_TASK_SCHEDULED)
        po__task_move(m, t, PO_TASK_PENDING, 0);
    else
        time_out(m, t);
    return true;
}

void po__cmd_tick(struct po__model *m)
{
    for (uint32_t i = 0; i < PO__TICK_TASKS_MAX && !m->err; i++)
        if (!due_tick(m) && !po__more_tick(m) && !po__gates_tick(m))
            return;
}

uint64_t po__model_next_due_ms(const struct po__model *m)
{
    if (m->runs_todo.root) /* more than one command may do: the next one goes on */
        return m->now_ms;
    struct po__tree_node *n = po__tree_first(&m->due);
    uint64_t at = n ? po__container_of(n, struct po__task, queue)->deadline_ms : UINT64_MAX;
    uint64_t other = UINT64_MAX;
    if ((n = po__tree_first(&m->timers)))
        other = po__container_of(n, struct po__more, timer)->timer_ms;
    at = other < at ? other : at;
    if ((n = po__tree_first(&m->gates_due)))
        other = po__container_of(n, struct po__gate, due)->due_ms;
    return other < at ? other : at;
}
