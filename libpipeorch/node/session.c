/* Worker sessions: which worker lives, which poll is parked, what it has been handed. Soft state of
 * the leader only.
 *
 * The replicated state says who runs what; a session makes sure that the worker hears of it. Every
 * grant gets a sequence number and stays in the outbox until a poll acknowledges it, so a lost
 * reply loses nothing. A session that does not know what the worker holds (new leader, new
 * registration, offline in between) is not synced: the first poll is answered PO_ESTATE, and the
 * worker's next one brings the tokens that it holds.
 *
 *                registered / new leader                     poll(resync)
 *      (none) ───────────────────────────▶ unsynced ───────────────────────────▶ synced
 *                                             ▲   new incarnation, offline          │
 *                                             └─────────────────────────────────────┘
 */
#include "internal.h"

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

struct po__session *po__session_find(struct po__node *n, uint64_t number)
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
    struct po__session *s = po__session_find(n, w->number);
    if (s)
        return s;
    s = po__calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->number = w->number;
    s->incarnation = w->incarnation; /* a new leader has seen no registration of it */
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

const struct po__worker_load *po__session_load(void *node, uint64_t number)
{
    const struct po__session *s = po__session_find(node, number);
    return s && s->has_load ? &s->load : NULL;
}

/* What the worker was told is void: the next poll has to say what it holds. */
void po__session_forget(struct po__session *s)
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

int po__outbox_push(struct po__session *s, uint64_t task_id, uint64_t token)
{
    if (s->outbox_count >= PO__SESSION_QUEUE_MAX)
        return PO_EBUSY;
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

int po__revoked_push(struct po__session *s, uint64_t token)
{
    if (s->revoked_count >= PO__SESSION_QUEUE_MAX)
        return PO_EBUSY;
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

/* Out of memory or room for soft state: start over with the worker instead of telling it half. */
static void tell(struct po__node *n, struct po__session *s, int rv)
{
    if (rv) {
        po__session_forget(s);
        unpark(n, s, PO_ESTATE,
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
    struct po__session *s = w ? get(n, w) : po__session_find(n, number);
    if (!s)
        return; /* gone, or out of memory: its next poll makes a session */
    if (!w) {
        drop(n, s, PO_ENOTREGISTERED);
        return;
    }
    s->going_online = false;
    if (w->status != PO_WORKER_OFFLINE)
        s->draining = w->status == PO_WORKER_DRAINING;
    if (w->status == PO_WORKER_OFFLINE) {
        po__session_forget(s);
        s->has_load = false;
        unpark(n, s, PO_ESTATE, "the worker was marked offline; poll again with resync");
        set_deadline(n, s, UINT64_MAX);
    } else if (s->incarnation != w->incarnation) {
        po__session_forget(s);
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
        s = po__session_find(n, fx->worker);
        if (s && s->synced)
            tell(n, s, po__outbox_push(s, fx->id, fx->token));
        break;
    case PO__FX_REVOKED:
        s = po__session_find(n, fx->worker);
        if (s && s->synced)
            tell(n, s, po__revoked_push(s, fx->token));
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
        s->draining = w->status == PO_WORKER_DRAINING;
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
const struct po__worker *po__session_identify(struct po__node *n, struct po__call *c,
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
    if (req->poll.has_load) {
        (*s)->has_load = true;
        (*s)->load = req->poll.load;
    }
    set_conn(n, *s, c->conn);
    if (w->status == PO_WORKER_OFFLINE) {
        if (!(*s)->going_online)
            (*s)->going_online =
                stage_status(n, w, (*s)->draining ? PO_WORKER_DRAINING : PO_WORKER_ONLINE);
    } else {
        set_deadline(n, *s, po__node_now(n) + grace_ms(w));
    }
    return w;
}

void po__session_heartbeat(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__session *s;
    if (po__session_identify(n, c, req, &s))
        po__call_answer(n, c, 0, "", po__model_index(n->model), po__slice(NULL, 0), 0);
}
