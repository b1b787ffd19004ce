/* Worker sessions: which worker lives, which poll is parked, what it has been handed. Soft state of
 * the leader only.
 *
 * The replicated state says who runs what; a session makes sure that the worker hears of it. Every
 * grant gets a sequence number and stays in the outbox until a poll acknowledges it, so a lost
 * reply loses nothing. A session that does not know what the worker holds (new leader, new
 * registration, offline in between) is not synced: the first poll is answered PO_ESTALE, and the
 * worker's next one brings the tokens that it holds.
 *
 *                registered / new leader                     poll(resync)
 *      (none) ───────────────────────────▶ unsynced ───────────────────────────▶ synced
 *                                             ▲   new incarnation, offline          │
 *                                             └─────────────────────────────────────┘
 */
#include "internal.h"

#include <stdlib.h>

#include <pipeorch/error.h>

static int u64_cmp(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int number_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return u64_cmp(po__container_of(a, struct po__session, by_number)->number,
                   po__container_of(b, struct po__session, by_number)->number);
}

static int number_key_cmp(const void *key, const struct po__tree_node *node)
{
    return u64_cmp(*(const uint64_t *)key,
                   po__container_of(node, struct po__session, by_number)->number);
}

static int deadline_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__session *x = po__container_of(a, struct po__session, by_deadline);
    const struct po__session *y = po__container_of(b, struct po__session, by_deadline);
    int c = u64_cmp(x->deadline_ms, y->deadline_ms);
    return c ? c : u64_cmp(x->number, y->number);
}

static int conn_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__session *x = po__container_of(a, struct po__session, by_conn);
    const struct po__session *y = po__container_of(b, struct po__session, by_conn);
    int c = u64_cmp(x->conn, y->conn);
    return c ? c : u64_cmp(x->number, y->number);
}

static int conn_key_cmp(const void *key, const struct po__tree_node *node)
{
    uint64_t conn = po__container_of(node, struct po__session, by_conn)->conn;
    return *(const uint64_t *)key <= conn ? -1 : 1;
}

static struct po__session *find(struct po__node *n, uint64_t number)
{
    struct po__tree_node *node = po__tree_find(&n->sessions, &number, number_key_cmp);
    return node ? po__container_of(node, struct po__session, by_number) : NULL;
}

static void set_deadline(struct po__node *n, struct po__session *s, uint64_t deadline_ms)
{
    if (po__tree_linked(&s->by_deadline))
        po__tree_remove(&n->deadlines, &s->by_deadline);
    s->deadline_ms = deadline_ms;
    if (deadline_ms != UINT64_MAX)
        PO_INVARIANT(po__tree_insert(&n->deadlines, &s->by_deadline, deadline_cmp) == NULL);
}

static void set_conn(struct po__node *n, struct po__session *s, uint64_t conn)
{
    if (s->conn == conn)
        return;
    if (po__tree_linked(&s->by_conn))
        po__tree_remove(&n->conns, &s->by_conn);
    s->conn = conn;
    if (conn)
        PO_INVARIANT(po__tree_insert(&n->conns, &s->by_conn, conn_cmp) == NULL);
}

static void mark_dirty(struct po__node *n, struct po__session *s)
{
    po__list_remove(&s->dirty);
    po__list_push(&n->dirty, &s->dirty);
}

static struct po__session *get(struct po__node *n, const struct po__worker *w)
{
    struct po__session *s = find(n, w->number);
    if (s)
        return s;
    s = po__calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->number = w->number;
    s->next_seq = 1;
    po__list_init(&s->dirty);
    po__tree_node_init(&s->by_deadline);
    po__tree_node_init(&s->by_conn);
    PO_INVARIANT(po__tree_insert(&n->sessions, &s->by_number, number_cmp) == NULL);
    return s;
}

static void unpark(struct po__node *n, struct po__session *s, int code, const char *message)
{
    struct po__call *c = s->parked;
    s->parked = NULL;
    if (c) {
        po__call_error(n, c, code, message);
        po__call_unref(c);
    }
}

/* A poll that has nothing to say: it was replaced by a newer one, or its time is over. */
void po__session_poll_empty(struct po__node *n, struct po__call *c)
{
    static const uint8_t nothing[] = {0x90, 0x90, 0x90}; /* three empty arrays */
    po__call_answer(n, c, 0, "", po__model_index(n->model), po__slice(nothing, sizeof nothing), 3);
}

/* What the worker was told is void: the next poll has to say what it holds. */
static void forget(struct po__session *s)
{
    s->synced = false;
    s->outbox_first = s->outbox_count = s->revoked_count = 0;
    s->next_seq = 1;
}

static void drop(struct po__node *n, struct po__session *s, int code)
{
    unpark(n, s, code, NULL);
    set_deadline(n, s, UINT64_MAX);
    set_conn(n, s, 0);
    po__list_remove(&s->dirty);
    po__tree_remove(&n->sessions, &s->by_number);
    po__free(s->outbox);
    po__free(s->revoked);
    po__free(s);
}

static int outbox_push(struct po__session *s, uint64_t task_id, uint64_t token)
{
    if (s->outbox_first && s->outbox_first + s->outbox_count == s->outbox_cap) {
        memmove(s->outbox, s->outbox + s->outbox_first, s->outbox_count * sizeof *s->outbox);
        s->outbox_first = 0;
    }
    if (s->outbox_first + s->outbox_count == s->outbox_cap) {
        uint32_t cap = s->outbox_cap ? s->outbox_cap * 2 : 16;
        struct po__handout *p = po__realloc(s->outbox, cap * sizeof *p);
        if (!p)
            return PO_ENOMEM;
        s->outbox = p;
        s->outbox_cap = cap;
    }
    s->outbox[s->outbox_first + s->outbox_count++] =
        (struct po__handout){.seq = s->next_seq++, .task_id = task_id, .token = token};
    return 0;
}

static int revoked_push(struct po__session *s, uint64_t token)
{
    if (s->revoked_count == s->revoked_cap) {
        uint32_t cap = s->revoked_cap ? s->revoked_cap * 2 : 16;
        uint64_t *p = po__realloc(s->revoked, cap * sizeof *p);
        if (!p)
            return PO_ENOMEM;
        s->revoked = p;
        s->revoked_cap = cap;
    }
    s->revoked[s->revoked_count++] = token;
    return 0;
}

/* Out of memory for soft state: start over with the worker instead of telling it half. */
static void tell(struct po__node *n, struct po__session *s, int rv)
{
    if (rv) {
        forget(s);
        unpark(n, s, PO_ESTALE,
               "the node lost track of the worker's tasks; poll again with resync");
    } else {
        mark_dirty(n, s);
    }
}

static const struct po__worker *worker_of(struct po__node *n, const struct po__session *s)
{
    return po__model_worker_by_number(n->model, s->number);
}

static uint64_t grace_ms(const struct po__worker *w)
{
    return (uint64_t)PO__MISSED_HEARTBEATS * w->heartbeat_ms;
}

static void worker_changed(struct po__node *n, uint64_t number)
{
    const struct po__worker *w = po__model_worker_by_number(n->model, number);
    struct po__session *s = w ? get(n, w) : find(n, number);
    if (!s)
        return; /* gone, or out of memory: its next poll makes a session */
    if (!w) {
        drop(n, s, PO_ENOTREGISTERED);
        return;
    }
    s->going_online = false;
    if (w->status == PO_WORKER_OFFLINE) {
        forget(s);
        unpark(n, s, PO_ESTALE, "the worker was marked offline; poll again with resync");
        set_deadline(n, s, UINT64_MAX);
    } else if (s->incarnation != w->incarnation) {
        forget(s);
        unpark(n, s, PO_ESTALE, "a newer incarnation of the worker registered");
        s->incarnation = w->incarnation;
        set_deadline(n, s, po__node_now(n) + grace_ms(w));
    } else if (!po__tree_linked(&s->by_deadline)) {
        set_deadline(n, s, po__node_now(n) + grace_ms(w));
    }
}

void po__session_effect(struct po__node *n, const struct po__fx *fx)
{
    struct po__session *s;
    switch (fx->type) {
    case PO__FX_ASSIGNED:
        s = find(n, fx->worker);
        if (s && s->synced)
            tell(n, s, outbox_push(s, fx->id, fx->token));
        break;
    case PO__FX_REVOKED:
        s = find(n, fx->worker);
        if (s && s->synced)
            tell(n, s, revoked_push(s, fx->token));
        break;
    case PO__FX_WORKER_CHANGED:
    case PO__FX_WORKER_GONE:
        worker_changed(n, fx->worker);
        break;
    default:
        break;
    }
}

int po__sessions_start(struct po__node *n)
{
    const struct po__worker *w = NULL;
    uint64_t now = po__node_now(n);
    while ((w = po__model_worker_next(n->model, w))) {
        if (w->status == PO_WORKER_OFFLINE)
            continue;
        struct po__session *s = get(n, w);
        if (!s)
            return PO_ENOMEM;
        s->incarnation = w->incarnation;
        set_deadline(n, s, now + grace_ms(w));
    }
    return 0;
}

void po__sessions_clear(struct po__node *n)
{
    struct po__tree_node *node;
    while ((node = po__tree_first(&n->sessions)))
        drop(n, po__container_of(node, struct po__session, by_number),
             n->stopping ? PO_ECLOSED : PO_ENOTLEADER);
    struct po__list *it;
    while ((it = po__list_pop(&n->polls_ready))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        po__call_error(n, c, PO_ENOTLEADER, NULL);
        po__call_unref(c);
    }
}

void po__sessions_conn_closed(struct po__node *n, uint64_t conn)
{
    uint64_t now = po__node_now(n);
    struct po__tree_node *node;
    while ((node = po__tree_lower_bound(&n->conns, &conn, conn_key_cmp))) {
        struct po__session *s = po__container_of(node, struct po__session, by_conn);
        if (s->conn != conn)
            return;
        set_conn(n, s, 0);
        unpark(n, s, PO_ECLOSED, NULL);
        const struct po__worker *w = worker_of(n, s);
        if (w && po__tree_linked(&s->by_deadline) && s->deadline_ms > now + w->heartbeat_ms)
            set_deadline(n, s, now + w->heartbeat_ms);
    }
}

/* Stage a status command of the node's own. Not staged now (the stage is full): the next tick or
 * poll tries again. */
static bool stage_status(struct po__node *n, const struct po__worker *w, uint32_t status)
{
    n->cmd.type = PO__CMD_WORKER_STATUS;
    n->cmd.worker_status.id = po__str(w->id);
    n->cmd.worker_status.incarnation = w->incarnation;
    n->cmd.worker_status.status = status;
    return po__stage_command(n, &n->cmd, NULL, 0) == 0;
}

void po__sessions_tick(struct po__node *n, uint64_t now)
{
    struct po__tree_node *node = po__tree_first(&n->deadlines);
    while (node) {
        struct po__session *s = po__container_of(node, struct po__session, by_deadline);
        if (s->deadline_ms > now)
            return;
        const struct po__worker *w = worker_of(n, s);
        PO_INVARIANT(w != NULL); /* its session goes with it */
        po__warn(&n->log, "worker.silent",
                 "worker %s missed its heartbeats of %u ms: marking it offline", w->id,
                 w->heartbeat_ms);
        (void)stage_status(n, w, PO_WORKER_OFFLINE);
        set_deadline(n, s, now + w->heartbeat_ms); /* tried again then, if the stage was full */
        node = po__tree_first(&n->deadlines);
    }
}

uint64_t po__sessions_deadline(const struct po__node *n)
{
    struct po__tree_node *node = po__tree_first(&n->deadlines);
    return node ? po__container_of(node, struct po__session, by_deadline)->deadline_ms : UINT64_MAX;
}

/* The worker that a heartbeat or poll speaks for; answers the call if there is none. */
static const struct po__worker *identify(struct po__node *n, struct po__call *c,
                                         const struct po__request *req, struct po__session **s)
{
    const struct po__worker *w = po__model_worker(n->model, req->poll.worker_id);
    if (!w || req->poll.incarnation > w->incarnation) {
        po__call_error(n, c, PO_ENOTREGISTERED,
                       "the cluster does not know this worker; register it");
        return NULL;
    }
    if (req->poll.incarnation < w->incarnation) {
        po__call_error(n, c, PO_ESTALE,
                       "a newer incarnation of this worker is registered; is its id used twice?");
        return NULL;
    }
    *s = get(n, w);
    if (!*s) {
        po__call_error(n, c, PO_ENOMEM, NULL);
        return NULL;
    }
    (*s)->incarnation = w->incarnation;
    set_conn(n, *s, c->conn);
    if (w->status == PO_WORKER_OFFLINE) {
        if (!(*s)->going_online)
            (*s)->going_online = stage_status(n, w, PO_WORKER_ONLINE);
    } else {
        set_deadline(n, *s, po__node_now(n) + grace_ms(w));
    }
    return w;
}

void po__session_heartbeat(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__session *s;
    if (identify(n, c, req, &s))
        po__call_answer(n, c, 0, "", po__model_index(n->model), po__slice(NULL, 0), 0);
}

static int token_cmp(const void *a, const void *b)
{
    return u64_cmp(*(const uint64_t *)a, *(const uint64_t *)b);
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
    forget(s);
    struct po__list *it;
    po__list_each(it, &w->tasks)
    {
        const struct po__task *t = po__container_of(it, struct po__task, worker_link);
        PO_INVARIANT(own_count < w->running);
        own[own_count++] = t->token;
        if (rv == 0 && !has_token(held, held_count, t->token))
            rv = outbox_push(s, t->id, t->token);
    }
    qsort(own, own_count, sizeof *own, token_cmp);
    for (uint32_t i = 0; rv == 0 && i < held_count; i++)
        if (!has_token(own, own_count, held[i]))
            rv = revoked_push(s, held[i]);
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
            po__task_offer_encode(out, &(struct po__task_offer){.seq = h.seq,
                                                                .task_id = t->id,
                                                                .token = t->token,
                                                                .run_id = t->run_id,
                                                                .attempt = t->attempt,
                                                                .timeout_ms = t->timeout_ms,
                                                                .capability = t->capability,
                                                                .input = t->input});
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
    char message[256];
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
    } else {
        cmd->type = PO__CMD_TASK_EXTEND;
        cmd->extend.task_id = d->task_id;
        cmd->extend.token = d->token;
        cmd->extend.worker_id = worker_id;
        cmd->extend.extend_ms = (uint32_t)(d->flag > UINT32_MAX ? UINT32_MAX : d->flag);
    }
    int rv = d->kind < PO__DONE_COMPLETE || d->kind > PO__DONE_EXTEND
                 ? PO_EVERSION
                 : po__cmd_check(cmd, message, sizeof message);
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
    c->deadline_ms = po__node_now(n) + wait_ms;
}

void po__session_poll(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__session *s;
    const struct po__worker *w = identify(n, c, req, &s);
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
        po__call_error(n, c, PO_ESTALE,
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
    c->refs++;
    po__list_push(&n->polls_ready, &c->link);
}

void po__sessions_answer(struct po__node *n)
{
    struct po__list *it;
    while ((it = po__list_pop(&n->polls_ready))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        if (!c->answered)
            answer_poll(n, find(n, c->worker_number), c);
        po__call_unref(c);
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
