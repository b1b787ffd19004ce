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

static uint64_t retry_delay_ms(uint32_t failures)
{
    uint64_t delay = PO__RETRY_DELAY_MIN_MS;
    while (--failures > 0 && delay < PO__RETRY_DELAY_MAX_MS)
        delay *= 2;
    return delay < PO__RETRY_DELAY_MAX_MS ? delay : PO__RETRY_DELAY_MAX_MS;
}

/* The attempt was the task's fault; its lease is released. */
static void attempt_failed(struct po__model *m, struct po__task *t, struct po__slice error,
                           bool retryable)
{
    uint32_t failures = t->attempt - t->lost;
    if (po__task_set_text(m, t, &t->error, error))
        return;
    if (retryable && failures < t->attempts_max)
        po__task_move(m, t, PO_TASK_SCHEDULED, m->now_ms + retry_delay_ms(failures));
    else
        po__task_finish(m, t, PO_TASK_FAILED);
}

/* The attempt's worker is gone; its lease is released. */
void po__attempt_lost(struct po__model *m, struct po__task *t)
{
    char error[PO_NAME_MAX_BYTES + 160];
    t->outcome = PO__OUTCOME_NONE;
    t->lost++;
    if (t->lost < t->attempts_max + PO__TASK_LOST_MAX) {
        po__task_move(m, t, PO_TASK_PENDING, 0);
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
        po__task_set_text(m, t, &t->error, po__slice(NULL, 0)))
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

void po__cmd_task_extend(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__task *t = po__task_find(m, cmd->extend.task_id);
    if (judge(m, t, cmd->extend.task_id, cmd->extend.token, cmd->extend.worker_id,
              PO__OUTCOME_NONE) != WORD_CURRENT)
        return;
    po__touch_task(m, t);
    po__tree_remove(&m->due, &t->queue);
    t->deadline_ms = m->now_ms + cmd->extend.extend_ms;
    PO_INVARIANT(!po__tree_insert(&m->due, &t->queue, po__task_due_cmp));
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

void po__cmd_tick(struct po__model *m)
{
    for (uint32_t i = 0; i < PO__TICK_TASKS_MAX && !m->err; i++) {
        struct po__tree_node *n = po__tree_first(&m->due);
        struct po__task *t = n ? po__container_of(n, struct po__task, queue) : NULL;
        if (!t || t->deadline_ms > m->now_ms)
            return;
        po__touch_task(m, t);
        if (t->state == PO_TASK_SCHEDULED)
            po__task_move(m, t, PO_TASK_PENDING, 0);
        else
            time_out(m, t);
    }
}

uint64_t po__model_next_due_ms(const struct po__model *m)
{
    struct po__tree_node *n = po__tree_first(&m->due);
    return n ? po__container_of(n, struct po__task, queue)->deadline_ms : UINT64_MAX;
}
