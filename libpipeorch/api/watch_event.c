#include "watch_event.h"

#include <stdio.h>

#include "../base/alloc.h"
#include "../codec/json.h"
#include "call.h"

enum about {
    ABOUT_NOTHING,
    ABOUT_TASK,
    ABOUT_WORKER,
    ABOUT_PIPELINE,
    ABOUT_RUN,
    ABOUT_STEP,
    ABOUT_NODE
};

static const struct {
    const char *word;
    enum about about;
} kinds[] = {
    [PO_WATCH_GONE] = {"gone", ABOUT_NOTHING},
    [PO_WATCH_TASK_SUBMITTED] = {"task_submitted", ABOUT_TASK},
    [PO_WATCH_TASK_GRANTED] = {"task_granted", ABOUT_TASK},
    [PO_WATCH_TASK_RETRY] = {"task_retry", ABOUT_TASK},
    [PO_WATCH_TASK_LOST] = {"task_lost", ABOUT_TASK},
    [PO_WATCH_TASK_FINISHED] = {"task_finished", ABOUT_TASK},
    [PO_WATCH_TASK_REVIVED] = {"task_revived", ABOUT_TASK},
    [PO_WATCH_WORKER_REGISTERED] = {"worker_registered", ABOUT_WORKER},
    [PO_WATCH_WORKER_STATUS] = {"worker_status", ABOUT_WORKER},
    [PO_WATCH_WORKER_GONE] = {"worker_gone", ABOUT_WORKER},
    [PO_WATCH_PIPELINE_DEFINED] = {"pipeline_defined", ABOUT_PIPELINE},
    [PO_WATCH_RUN_STARTED] = {"run_started", ABOUT_RUN},
    [PO_WATCH_STEP_STARTED] = {"step_started", ABOUT_STEP},
    [PO_WATCH_STEP_FINISHED] = {"step_finished", ABOUT_STEP},
    [PO_WATCH_RUN_FINISHED] = {"run_finished", ABOUT_RUN},
    [PO_WATCH_LEADER] = {"leader", ABOUT_NODE},
    [PO_WATCH_MEMBER_CHANGED] = {"member_changed", ABOUT_NODE},
    [PO_WATCH_MEMBER_GONE] = {"member_gone", ABOUT_NODE},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static enum about about(int kind)
{
    return kind >= 0 && kind < KINDS ? kinds[kind].about : ABOUT_NOTHING;
}

static const char *copy(char *to, size_t to_len, struct po__slice s)
{
    snprintf(to, to_len, "%.*s", (int)s.len, s.len ? s.data : "");
    return to;
}

void po__watch_event_public(const struct po__watch_event *from, struct po__watch_texts *texts,
                            struct po_watch_event *to)
{
    const struct po__news *e = &from->event;
    enum about a = about((int)e->kind);
    const char *name = copy(texts->name, sizeof texts->name, e->name);
    *to = (struct po_watch_event){.size = sizeof *to,
                                  .kind = (int)e->kind,
                                  .position = from->at.position,
                                  .index = from->at.index,
                                  .time_ms = from->time_ms,
                                  .run_id = e->run_id,
                                  .attempt = e->attempt,
                                  .state = (int)e->state,
                                  .worker_id = copy(texts->worker, sizeof texts->worker, e->worker),
                                  .capability = "",
                                  .pipeline = "",
                                  .step = copy(texts->step, sizeof texts->step, e->step),
                                  .name = "",
                                  .error = copy(texts->error, sizeof texts->error, e->error)};
    if (a == ABOUT_NODE) {
        to->node_id = e->id;
        to->term = e->token;
    } else {
        to->task_id = e->id;
        to->token = e->token;
    }
    if (a == ABOUT_TASK)
        to->capability = name;
    else if (a == ABOUT_PIPELINE || a == ABOUT_RUN || a == ABOUT_STEP)
        to->pipeline = name;
    else
        to->name = name;
}

/* ---- JSON ---- */

static const char *state_word(const struct po_watch_event *e)
{
    static const char *const tasks[] = {"pending", "scheduled", "running", "succeeded",
                                        "failed",  "cancelled", "skipped"};
    static const char *const runs[] = {"running", "succeeded", "failed", "cancelled"};
    static const char *const workers[] = {"online", "offline", "draining"};
    enum about a = about(e->kind);
    int s = e->state - 1;
    if (a == ABOUT_TASK || a == ABOUT_STEP)
        return s >= 0 && s < (a == ABOUT_STEP ? 7 : 6) ? tasks[s] : NULL;
    if (a == ABOUT_RUN)
        return s >= 0 && s < 4 ? runs[s] : NULL;
    return a == ABOUT_WORKER && s >= 0 && s < 3 ? workers[s] : NULL;
}

static void put_number(struct po__buf *b, const char *key, uint64_t value)
{
    if (value)
        po__buf_printf(b, ", \"%s\": %llu", key, (unsigned long long)value);
}

static void put_text(struct po__buf *b, const char *key, const char *text)
{
    if (!text || !*text)
        return;
    po__buf_printf(b, ", \"%s\": ", key);
    po__json_string(b, po__str(text));
}

static void put_event(struct po__buf *b, const struct po_watch_event *e)
{
    po__buf_printf(b, "{\"index\": %llu, \"position\": %u", (unsigned long long)e->index,
                   e->position);
    put_number(b, "time_ms", e->time_ms);
    if (e->kind > 0 && e->kind < KINDS)
        put_text(b, "event", kinds[e->kind].word);
    else
        po__buf_printf(b, ", \"event\": \"kind_%d\"", e->kind); /* of a newer release */
    put_number(b, "task_id", e->task_id);
    put_number(b, "run_id", e->run_id);
    put_text(b, "capability", e->capability);
    put_text(b, "pipeline", e->pipeline);
    put_text(b, "step", e->step);
    put_text(b, "state", state_word(e));
    put_number(b, "attempt", e->attempt);
    put_number(b, "token", e->token);
    put_text(b, "worker_id", e->worker_id);
    put_number(b, "node_id", e->node_id);
    put_text(b, "name", e->name);
    put_number(b, "term", e->term);
    put_text(b, "error", e->error);
    po__buf_append(b, "}", 2); /* with its final NUL */
}

int po_watch_event_json(const struct po_watch_event *event, char **json)
{
    struct po_watch_event e;
    struct po__buf b = {0};
    if (!event || !json)
        return po__client_fail(PO_EINVAL, "the event, or the place for its text, is NULL");
    int rv = po__read_struct(&e, sizeof e, event, "po_watch_event");
    if (rv)
        return rv;
    put_event(&b, &e);
    if (b.err) {
        rv = b.err;
        po__buf_fini(&b);
        return po__client_fail(rv, "out of memory for the text of an event");
    }
    *json = (char *)b.data; /* po_free takes it: po__buf allocates as everything does */
    return 0;
}
