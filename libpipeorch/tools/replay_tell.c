/* What a command did, read off its effects and off the state before and after it. A command that
 * only repeats what was said before changes nothing; that is told too, as it may be what one looks
 * for. */
#include "replay_events.h"

#include <inttypes.h>
#include <stdio.h>

#define NOTE_BYTES 160

static const struct po__model *model_of(const struct po__events *e)
{
    return e->replay->content.model;
}

static struct po__about about_task(const struct po__task *t)
{
    return (struct po__about){.task_id = t->id,
                              .run_id = t->run_id,
                              .token = t->token,
                              .worker_id = t->origin ? t->origin->id : po__slice(NULL, 0)};
}

static struct po__about about_worker(struct po__slice id)
{
    return (struct po__about){.worker_id = id};
}

/* The worker's word about an attempt; the task may not be known. */
static struct po__about about_attempt(const struct po__events *e, uint64_t task_id, uint64_t token,
                                      struct po__slice worker_id)
{
    const struct po__task *t = po__model_task(model_of(e), task_id);
    return (struct po__about){
        .task_id = task_id, .run_id = t ? t->run_id : 0, .token = token, .worker_id = worker_id};
}

/* What becomes of a task whose attempt has ended. */
static const char *and_now(const struct po__events *e, const struct po__task *t,
                           char note[NOTE_BYTES])
{
    note[0] = '\0';
    if (t->state == PO_TASK_SCHEDULED)
        snprintf(note, NOTE_BYTES, "; it is tried again in %" PRIu64 " ms",
                 t->deadline_ms > e->time_ms ? t->deadline_ms - e->time_ms : 0);
    else if (t->state == PO_TASK_PENDING)
        snprintf(note, NOTE_BYTES, "; it waits for a worker");
    return note;
}

/* ---- before ---- */

void po__events_begin(struct po__events *e)
{
    const struct po__task *t = NULL;
    struct po__run_info run;
    while ((t = po__model_task_next(model_of(e), e->last_task)))
        e->last_task = t->id;
    while (po__model_run_next(model_of(e), e->last_run, &run))
        e->last_run = run.id;
    e->begun = true;
}

static void look_at_task(struct po__events *e, uint64_t id)
{
    const struct po__task *t = po__model_task(model_of(e), id);
    if (!t)
        return;
    e->before.task_known = true;
    e->before.task_state = t->state;
    e->before.token = t->token;
}

static void look_at_worker(struct po__events *e, struct po__slice id)
{
    const struct po__worker *w = po__model_worker(model_of(e), id);
    if (!w)
        return;
    e->before.worker_known = true;
    e->before.worker_status = w->status;
    e->before.incarnation = w->incarnation;
}

static void look_at_due(struct po__events *e)
{
    for (const struct po__task *t = po__model_task_due(model_of(e), NULL);
         t && t->deadline_ms <= e->time_ms; t = po__model_task_due(model_of(e), t))
        if (t->state == PO_TASK_SCHEDULED)
            po__buf_append(&e->due, &t->id, sizeof t->id);
}

void po__events_look(struct po__events *e, const struct po__cmd *cmd)
{
    e->before = (struct po__before){0};
    po__buf_reset(&e->due);
    switch (cmd->type) {
    case PO__CMD_TICK:
        look_at_due(e);
        break;
    case PO__CMD_TASK_COMPLETE:
        look_at_task(e, cmd->complete.task_id);
        break;
    case PO__CMD_TASK_FAIL:
        look_at_task(e, cmd->fail.task_id);
        break;
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        look_at_worker(e, cmd->worker_register.id);
        break;
    case PO__CMD_WORKER_STATUS:
        look_at_worker(e, cmd->worker_status.id);
        break;
    default:
        break;
    }
}

/* ---- refusals ---- */

/* Who or what a command is about, and its name. */
static const char *subject(const struct po__events *e, struct po__about *a)
{
    const struct po__cmd *c = e->cmd;
    *a = (struct po__about){0};
    switch (c->type) {
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        *a = about_worker(c->worker_register.id);
        return "registration";
    case PO__CMD_WORKER_STATUS:
        *a = about_worker(c->worker_status.id);
        return "change of status";
    case PO__CMD_WORKER_DEREGISTER:
        *a = about_worker(c->worker_deregister.id);
        return "deregistration";
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        a->task_id = e->result.id;
        return "submission";
    case PO__CMD_TASK_COMPLETE:
        *a = about_attempt(e, c->complete.task_id, c->complete.token, c->complete.worker_id);
        return "result";
    case PO__CMD_TASK_FAIL:
        *a = about_attempt(e, c->fail.task_id, c->fail.token, c->fail.worker_id);
        return "failure";
    case PO__CMD_TASK_EXTEND:
        *a = about_attempt(e, c->extend.task_id, c->extend.token, c->extend.worker_id);
        return "extension";
    case PO__CMD_TASK_CHECKPOINT:
        *a = about_attempt(e, c->checkpoint.task_id, c->checkpoint.token, c->checkpoint.worker_id);
        return "checkpoint";
    case PO__CMD_TASK_CANCEL:
        *a = about_attempt(e, c->cancel.task_id, 0, po__slice(NULL, 0));
        return "cancellation";
    case PO__CMD_TASK_RETRY:
        *a = about_attempt(e, c->retry.task_id, 0, po__slice(NULL, 0));
        return "retry";
    case PO__CMD_RUN_START:
        a->run_id = e->result.id;
        return "start of a run";
    case PO__CMD_RUN_CANCEL:
        a->run_id = c->run_cancel.run_id;
        return "cancellation";
    case PO__CMD_PIPELINE_DEFINE:
        return "pipeline";
    default:
        return "command";
    }
}

static void tell_refusal(struct po__events *e)
{
    struct po__about a;
    const char *what = subject(e, &a);
    po__event(e, "refused", a, "%s refused: %s", what, e->result.message);
}

static void tell_repeat(struct po__events *e)
{
    struct po__about a;
    const char *what = subject(e, &a);
    po__event(e, "repeated", a, "%s repeated; it had been accepted before", what);
}

/* ---- commands ---- */

static void tell_registration(struct po__events *e)
{
    const struct po__cmd *c = e->cmd;
    struct po__slice zone = c->worker_register.zone;
    const char *how = !e->before.worker_known ? "registered"
                      : c->worker_register.incarnation > e->before.incarnation
                          ? "registered as a new process; what the old one ran is lost"
                          : "registered again";
    po__event(e, "worker_registered", about_worker(c->worker_register.id),
              "%s in zone \"%.*s\", capabilities: %u, incarnation %" PRIu64, how, (int)zone.len,
              zone.data, (unsigned)c->worker_register.caps_count, c->worker_register.incarnation);
}

static void tell_status(struct po__events *e)
{
    static const char *const words[] = {"unknown", "online", "offline", "draining"};
    static const char *const events[] = {"worker_unknown", "worker_online", "worker_offline",
                                         "worker_draining"};
    uint32_t now = e->cmd->worker_status.status, was = e->before.worker_status;
    if (now != was && now < 4 && was < 4)
        po__event(e, events[now], about_worker(e->cmd->worker_status.id), "%s; it was %s",
                  words[now], words[was]);
}

static void tell_failure(struct po__events *e)
{
    const struct po__cmd *c = e->cmd;
    const struct po__task *t = po__model_task(model_of(e), c->fail.task_id);
    char note[NOTE_BYTES];
    if (e->before.task_state != PO_TASK_RUNNING) {
        tell_repeat(e);
    } else if (t && t->state != PO_TASK_FAILED) { /* else its end is told */
        struct po__about a = {t->id, t->run_id, c->fail.token, c->fail.worker_id};
        po__event(e, "attempt_failed", a, "attempt failed: %.*s%s", (int)c->fail.error.len,
                  c->fail.error.data, and_now(e, t, note));
    }
}

static void tell_attempt_word(struct po__events *e)
{
    const struct po__cmd *c = e->cmd;
    struct po__about a;
    subject(e, &a);
    char progress[48] = "";
    if (c->type == PO__CMD_TASK_EXTEND) {
        po__event(e, "task_extended", a, "has %u ms from now on", (unsigned)c->extend.extend_ms);
        return;
    }
    if (c->checkpoint.progress <= 1000)
        snprintf(progress, sizeof progress, "progress %u of 1000; ",
                 (unsigned)c->checkpoint.progress);
    if (c->checkpoint.has_data)
        po__event(e, "task_checkpoint", a, "%scheckpoint of %zu bytes", progress,
                  c->checkpoint.data.len);
    else
        po__event(e, "task_checkpoint", a, "%scheckpoint as it was", progress);
}

/* Changes of what is neither a task nor a run nor a worker. */
static void tell_other(struct po__events *e)
{
    static const char *const wishes[] = {"a voter", "a standby", "a voter at once", "gone"};
    const struct po__cmd *c = e->cmd;
    struct po__about nothing = {0};
    switch (c->type) {
    case PO__CMD_TICK:
        break;
    case PO__CMD_MEMBER:
        po__event(e, "member", nothing, "node %" PRIu64 " is \"%.*s\" at %.*s, zone \"%.*s\"",
                  c->member.node_id, (int)c->member.name.len, c->member.name.data,
                  (int)c->member.peer_address.len, c->member.peer_address.data,
                  (int)c->member.zone.len, c->member.zone.data);
        break;
    case PO__CMD_MEMBER_WISH:
        po__event(e, "member_wish", nothing, "node %" PRIu64 " is to be %s", c->member_wish.node_id,
                  c->member_wish.wish < 4 ? wishes[c->member_wish.wish] : "something else");
        break;
    case PO__CMD_PIPELINE_DEFINE:
        po__event(e, "pipeline_defined", nothing, "pipeline \"%.*s\" has %u steps now",
                  (int)c->pipeline.name.len, c->pipeline.name.data,
                  (unsigned)c->pipeline.steps_count);
        break;
    case PO__CMD_APP:
        po__event(e, "application", nothing, "a command of the application, %zu bytes",
                  c->app.data.len);
        break;
    default:
        po__event(e, "command", nothing, "a command of type %u", (unsigned)c->type);
        break;
    }
}

static void tell_command(struct po__events *e)
{
    const struct po__cmd *c = e->cmd;
    switch (c->type) {
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        tell_registration(e);
        break;
    case PO__CMD_WORKER_STATUS:
        tell_status(e);
        break;
    case PO__CMD_WORKER_DEREGISTER:
        po__event(e, "worker_deregistered", about_worker(c->worker_deregister.id), "deregistered");
        break;
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        if (e->result.id <= e->last_task)
            tell_repeat(e);
        break;
    case PO__CMD_TASK_COMPLETE:
        if (e->before.task_state != PO_TASK_RUNNING)
            tell_repeat(e);
        break;
    case PO__CMD_TASK_FAIL:
        tell_failure(e);
        break;
    case PO__CMD_TASK_EXTEND:
    case PO__CMD_TASK_CHECKPOINT:
        tell_attempt_word(e);
        break;
    case PO__CMD_TASK_RETRY: {
        struct po__about a;
        subject(e, &a);
        po__event(e, "task_retried", a, "is to be tried once more");
        break;
    }
    case PO__CMD_RUN_START:
        if (e->result.id <= e->last_run)
            tell_repeat(e);
        break;
    case PO__CMD_TASK_CANCEL: /* what they end is told as its end */
    case PO__CMD_RUN_CANCEL:
        break;
    default:
        tell_other(e);
        break;
    }
}

/* ---- effects ---- */

static void tell_grant(struct po__events *e, const struct po__fx *fx)
{
    const struct po__task *t = po__model_task(model_of(e), fx->id);
    const struct po__worker *w = po__model_worker_by_number(model_of(e), fx->worker);
    if (!t || !w)
        return;
    struct po__about a = {t->id, t->run_id, fx->token, po__str(w->id)};
    po__event(e, "task_granted", a,
              "attempt %u granted to \"%s\" with token %" PRIu64 " for %" PRIu64 " ms",
              (unsigned)t->attempt, w->id, fx->token,
              t->deadline_ms > e->time_ms ? t->deadline_ms - e->time_ms : 0);
}

/* Why a lease ended before its worker ended it. */
static const char *reason(const struct po__events *e)
{
    switch (e->cmd->type) {
    case PO__CMD_TICK:
        return "its time is up";
    case PO__CMD_WORKER_STATUS:
        return "the worker went offline";
    case PO__CMD_WORKER_DEREGISTER:
        return "the worker deregistered";
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        return "the worker registered anew without it";
    default:
        return "it was cancelled";
    }
}

static void tell_revocation(struct po__events *e, const struct po__fx *fx)
{
    const struct po__task *t = po__model_task(model_of(e), fx->id);
    const struct po__worker *w = po__model_worker_by_number(model_of(e), fx->worker);
    struct po__slice id = w ? po__str(w->id) : po__slice(NULL, 0);
    char note[NOTE_BYTES] = "";
    if (!w && e->cmd->type == PO__CMD_WORKER_DEREGISTER)
        id = e->cmd->worker_deregister.id;
    struct po__about a = {fx->id, t ? t->run_id : 0, fx->token, id};
    po__event(e, e->cmd->type == PO__CMD_TICK ? "attempt_timed_out" : "attempt_lost", a,
              "\"%.*s\" lost the lease with token %" PRIu64 ": %s%s", (int)id.len, id.data,
              fx->token, reason(e), t ? and_now(e, t, note) : "");
}

static void tell_end_of_task(struct po__events *e, const struct po__fx *fx)
{
    const struct po__task *t = po__model_task(model_of(e), fx->id);
    if (!t) {
        po__event(e, "task_forgotten", (struct po__about){.task_id = fx->id},
                  "ended, and was forgotten in the same moment");
        return;
    }
    if (t->state == PO_TASK_SUCCEEDED)
        po__event(e, "task_succeeded", about_task(t),
                  "attempt %u succeeded with a result of %zu bytes", (unsigned)t->attempt,
                  t->result.len);
    else if (t->state == PO_TASK_FAILED)
        po__event(e, "task_failed", about_task(t), "failed for good after %u attempts: %.*s",
                  (unsigned)t->attempt, (int)t->error.len, t->error.data);
    else
        po__event(e, "task_cancelled", about_task(t), "cancelled");
}

static void tell_end_of_run(struct po__events *e, const struct po__fx *fx)
{
    struct po__run_info r;
    if (!po__model_run_next(model_of(e), fx->id - 1, &r) || r.id != fx->id)
        return;
    struct po__about a = {.run_id = r.id};
    int len = (int)r.pipeline.len;
    if (r.state == PO_RUN_FAILED)
        po__event(e, "run_failed", a, "run of \"%.*s\" failed: %.*s", len, r.pipeline.data,
                  (int)r.error.len, r.error.data);
    else if (r.state == PO_RUN_SUCCEEDED)
        po__event(e, "run_succeeded", a, "run of \"%.*s\" succeeded", len, r.pipeline.data);
    else
        po__event(e, "run_cancelled", a, "run of \"%.*s\" cancelled", len, r.pipeline.data);
}

/* ---- what is new ---- */

static void tell_new_runs(struct po__events *e)
{
    struct po__run_info r;
    while (po__model_run_next(model_of(e), e->last_run, &r)) {
        e->last_run = r.id;
        po__event(e, "run_started", (struct po__about){.run_id = r.id},
                  "run of pipeline \"%.*s\" started", (int)r.pipeline.len, r.pipeline.data);
    }
}

static void tell_new_tasks(struct po__events *e)
{
    const struct po__task *t;
    while ((t = po__model_task_next(model_of(e), e->last_task))) {
        struct po__about a = {.task_id = t->id, .run_id = t->run_id};
        char note[NOTE_BYTES] = "";
        e->last_task = t->id;
        if (t->state == PO_TASK_SCHEDULED)
            snprintf(note, sizeof note, ", not before %" PRIu64 " ms have passed",
                     t->deadline_ms > e->time_ms ? t->deadline_ms - e->time_ms : 0);
        po__event(e, "task_submitted", a, "%.*s, at most %u attempts of %u ms each%s",
                  (int)t->capability.len, t->capability.data, (unsigned)t->attempts_max,
                  (unsigned)t->timeout_ms, note);
    }
}

static void tell_due(struct po__events *e)
{
    const uint64_t *ids = (const uint64_t *)(const void *)e->due.data;
    for (size_t i = 0; i < e->due.len / sizeof *ids; i++) {
        const struct po__task *t = po__model_task(model_of(e), ids[i]);
        if (t && (t->state == PO_TASK_PENDING || t->state == PO_TASK_RUNNING))
            po__event(e, "task_due", (struct po__about){.task_id = t->id, .run_id = t->run_id},
                      "its time has come: it waits for a worker");
    }
}

/* In the order in which the model does it: the command, what it ended, what it began, grants. */
void po__events_tell(struct po__events *e)
{
    if (e->result.code)
        tell_refusal(e);
    else
        tell_command(e);
    for (size_t i = 0; i < e->fx.count; i++) {
        const struct po__fx *fx = &e->fx.items[i];
        if (fx->type == PO__FX_REVOKED)
            tell_revocation(e, fx);
        else if (fx->type == PO__FX_TASK_FINISHED)
            tell_end_of_task(e, fx);
        else if (fx->type == PO__FX_RUN_FINISHED)
            tell_end_of_run(e, fx);
    }
    tell_new_runs(e);
    tell_new_tasks(e);
    tell_due(e);
    for (size_t i = 0; i < e->fx.count; i++)
        if (e->fx.items[i].type == PO__FX_ASSIGNED)
            tell_grant(e, &e->fx.items[i]);
}
