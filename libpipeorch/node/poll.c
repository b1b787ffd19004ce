/* Polls: what a worker brings (outcomes, acknowledgements, what it holds) and what it is told
 * (tasks, revocations). The protocol is described in request.h. */
#include "internal.h"

#include <stdlib.h>

#include <pipeorch/error.h>

/* A poll that has nothing to say: it was replaced by a newer one, or its time is over. */
void po__session_poll_empty(struct po__node *n, struct po__call *c)
{
    static const uint8_t nothing[] = {0x90, 0x90, 0x90}; /* three empty arrays */
    po__call_answer(n, c, 0, "", po__model_index(n->model), po__slice(nothing, sizeof nothing), 3);
}

static int token_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool has_token(const uint64_t *tokens, uint32_t count, uint64_t token)
{
    return count && bsearch(&token, tokens, count, sizeof token, token_cmp);
}

/* Compare what the worker holds with what the state says is its own. */
static int resync(struct po__session *s, const struct po__worker *w, const struct po__request *req)
{
    struct po__mpr r;
    uint32_t held_count = 0, own_count = 0;
    int rv = PO_ENOMEM;
    uint64_t *held = po__malloc((req->poll.held_count + 1) * sizeof *held);
    uint64_t *own = po__malloc((w->running + 1) * sizeof *own);
    if (!held || !own)
        goto out;
    po__mpr_init(&r, req->poll.held.data, req->poll.held.len);
    uint32_t count = po__mpr_array(&r, PO__POLL_HELD_MAX);
    PO_INVARIANT(count == req->poll.held_count);
    while (held_count < count)
        held[held_count++] = po__mpr_uint(&r, UINT64_MAX);
    rv = r.err;
    if (rv)
        goto out;
    qsort(held, held_count, sizeof *held, token_cmp);
    po__session_forget(s);
    struct po__list *it;
    po__list_each(it, &w->tasks)
    {
        const struct po__task *t = po__container_of(it, struct po__task, worker_link);
        PO_INVARIANT(own_count < w->running);
        own[own_count++] = t->token;
        if (rv == 0 && !has_token(held, held_count, t->token))
            rv = po__outbox_push(s, t->id, t->token);
    }
    qsort(own, own_count, sizeof *own, token_cmp);
    for (uint32_t i = 0; rv == 0 && i < held_count; i++)
        if (!has_token(own, own_count, held[i]))
            rv = po__revoked_push(s, held[i]);
    s->synced = rv == 0;
out:
    po__free(held);
    po__free(own);
    return rv;
}

static void acknowledge(struct po__session *s, uint64_t seq)
{
    while (s->outbox_count && s->outbox[s->outbox_first].seq <= seq &&
           s->outbox[s->outbox_first].sent_ms) {
        s->outbox_first++;
        s->outbox_count--;
    }
    if (s->outbox_count == 0)
        s->outbox_first = 0;
}

static bool due(const struct po__handout *h, uint64_t conn, uint64_t now)
{
    return h->sent_ms == 0 || h->sent_conn != conn || now >= h->sent_ms + PO__HANDOUT_RESEND_MS;
}

static bool anything_to_tell(const struct po__session *s, uint64_t conn, uint64_t now)
{
    if (s->revoked_count)
        return true;
    for (uint32_t i = 0; i < s->outbox_count; i++)
        if (due(&s->outbox[s->outbox_first + i], conn, now))
            return true;
    return false;
}

/* Append the tasks that are due to `out`. Hand-outs whose lease ended meanwhile are forgotten. */
static uint32_t encode_tasks(struct po__node *n, struct po__session *s, const struct po__call *c,
                             struct po__buf *out)
{
    uint64_t now = po__node_now(n);
    uint32_t count = 0, kept = 0;
    struct po__handout *box = s->outbox + s->outbox_first;
    for (uint32_t i = 0; i < s->outbox_count; i++) {
        struct po__handout h = box[i];
        if (count < c->tasks_max && due(&h, c->conn, now) &&
            n->body.len + out->len < PO__POLL_REPLY_MAX_BYTES) {
            const struct po__task *t = po__model_task(n->model, h.task_id);
            if (!t || t->state != PO_TASK_RUNNING || t->token != h.token)
                continue;
            po__task_offer_encode(out,
                                  &(struct po__task_offer){.seq = h.seq,
                                                           .task_id = t->id,
                                                           .token = t->token,
                                                           .run_id = t->run_id,
                                                           .attempt = t->attempt,
                                                           .timeout_ms = t->timeout_ms,
                                                           .capability = t->capability,
                                                           .input = t->input,
                                                           .checkpoint = po__model_checkpoint(t)});
            h.sent_ms = now + 1;
            h.sent_conn = c->conn;
            count++;
        }
        box[kept++] = h;
    }
    s->outbox_count = kept;
    return count;
}

/* Answer a poll with its outcomes' codes, tasks and revocations. s may be NULL (the session went
 * away meanwhile). */
static void answer_poll(struct po__node *n, struct po__session *s, struct po__call *c)
{
    po__buf_reset(&n->body);
    po__buf_reset(&n->tasks);
    po__mpw_array(&n->body, c->results_count);
    for (uint32_t i = 0; i < c->results_count; i++)
        po__mpw_int(&n->body, c->results[i].code);
    bool tell_it = s && s->synced;
    uint32_t count = tell_it ? encode_tasks(n, s, c, &n->tasks) : 0;
    po__mpw_array(&n->body, count);
    po__buf_append(&n->body, n->tasks.data, n->tasks.len);
    po__mpw_array(&n->body, tell_it ? s->revoked_count : 0);
    for (uint32_t i = 0; tell_it && i < s->revoked_count; i++)
        po__mpw_uint(&n->body, s->revoked[i]);
    if (tell_it)
        s->revoked_count = 0;
    int err = n->body.err ? n->body.err : n->tasks.err;
    if (err)
        po__call_error(n, c, err, "the answer does not fit into memory");
    else
        po__call_answer(n, c, 0, "", po__model_index(n->model), po__buf_slice(&n->body), 3);
}

static void stage_done(struct po__node *n, struct po__call *c, const struct po__done *d,
                       struct po__slice worker_id, uint32_t sub)
{
    char message[PO__SENTENCE_MAX_BYTES];
    struct po__cmd *cmd = &n->cmd;
    if (d->kind == PO__DONE_COMPLETE) {
        cmd->type = PO__CMD_TASK_COMPLETE;
        cmd->complete.task_id = d->task_id;
        cmd->complete.token = d->token;
        cmd->complete.worker_id = worker_id;
        cmd->complete.result = d->payload;
    } else if (d->kind == PO__DONE_FAIL) {
        cmd->type = PO__CMD_TASK_FAIL;
        cmd->fail.task_id = d->task_id;
        cmd->fail.token = d->token;
        cmd->fail.worker_id = worker_id;
        cmd->fail.error = d->payload;
        cmd->fail.retryable = d->flag != 0;
    } else if (d->kind == PO__DONE_CHECKPOINT) {
        cmd->type = PO__CMD_TASK_CHECKPOINT;
        cmd->checkpoint.task_id = d->task_id;
        cmd->checkpoint.token = d->token;
        cmd->checkpoint.worker_id = worker_id;
        cmd->checkpoint.progress = d->flag & UINT16_MAX;
        cmd->checkpoint.has_data = (d->flag & PO__DONE_HAS_DATA) != 0;
        cmd->checkpoint.data = d->payload;
        cmd->checkpoint.extend_ms = 0;
    } else {
        cmd->type = PO__CMD_TASK_EXTEND;
        cmd->extend.task_id = d->task_id;
        cmd->extend.token = d->token;
        cmd->extend.worker_id = worker_id;
        cmd->extend.extend_ms = (uint32_t)(d->flag > UINT32_MAX ? UINT32_MAX : d->flag);
    }
    int rv = d->kind < PO__DONE_COMPLETE || d->kind > PO__DONE_CHECKPOINT ||
                     !po__level_reached(n, po__cmd_level(cmd->type))
                 ? PO_EVERSION
                 : po__cmd_check(cmd, message, sizeof message);
    if (rv == 0)
        rv = po__schemas_enforce(n, cmd, message, sizeof message);
    if (rv == 0)
        rv = po__stage_command(n, cmd, c, sub);
    if (rv) {
        c->results[sub].code = rv;
        c->pending--;
    }
}

/* A poll that brings outcomes: they are committed first. */
static void poll_with_done(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__mpr r;
    po__mpr_init(&r, req->poll.done.data, req->poll.done.len);
    uint32_t count = po__mpr_array(&r, PO__BATCH_MAX);
    c->results = po__calloc(count ? count : 1, sizeof *c->results);
    if (!c->results) {
        po__call_error(n, c, PO_ENOMEM, NULL);
        return;
    }
    c->results_count = c->pending = count;
    for (uint32_t i = 0; i < count; i++) {
        struct po__done d;
        if (po__done_decode(&r, &d)) { /* the rest cannot be read either */
            for (; i < count; i++, c->pending--)
                c->results[i].code = PO_EPROTO;
            break;
        }
        stage_done(n, c, &d, req->poll.worker_id, i);
    }
    if (c->pending == 0)
        po__session_poll_done(n, c);
}

static void park(struct po__node *n, struct po__session *s, struct po__call *c, uint32_t wait_ms)
{
    if (s->parked) {
        po__session_poll_empty(n, s->parked);
        po__call_unref(s->parked);
    }
    s->parked = c;
    c->refs++;
    c->deadline_ms = po__node_now(n) + (wait_ms < PO_TIMEOUT_MAX_MS ? wait_ms : PO_TIMEOUT_MAX_MS);
}

void po__session_poll(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__session *s;
    const struct po__worker *w = po__session_identify(n, c, req, &s);
    if (!w)
        return;
    c->worker_number = w->number;
    c->tasks_max =
        req->poll.tasks_max < PO__POLL_TASKS_MAX ? req->poll.tasks_max : PO__POLL_TASKS_MAX;
    if (req->poll.resync) {
        int rv = resync(s, w, req);
        if (rv) {
            po__call_error(n, c, rv, NULL);
            return;
        }
    } else if (!s->synced && req->poll.done_count == 0) {
        po__call_error(n, c, PO_ESTATE,
                       "this node does not know what the worker holds; poll again with resync");
        return;
    } else if (s->synced) {
        acknowledge(s, req->poll.ack_seq);
    }
    if (req->poll.done_count)
        poll_with_done(n, c, req);
    else if (req->poll.wait_ms == 0 || anything_to_tell(s, c->conn, po__node_now(n)))
        answer_poll(n, s, c);
    else
        park(n, s, c, req->poll.wait_ms);
}

void po__session_poll_done(struct po__node *n, struct po__call *c)
{
    po__list_push(&n->polls_ready, &c->link); /* leaves it when it is answered, by whom ever */
}

void po__sessions_answer(struct po__node *n)
{
    struct po__list *it;
    while ((it = po__list_pop(&n->polls_ready))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        answer_poll(n, po__session_find(n, c->worker_number), c);
    }
    while ((it = po__list_pop(&n->dirty))) {
        struct po__session *s = po__container_of(it, struct po__session, dirty);
        struct po__call *c = s->parked;
        if (!c)
            continue;
        s->parked = NULL;
        if (!c->answered)
            answer_poll(n, s, c);
        po__call_unref(c);
    }
}
