/* Watching: the events of the log, kept by every node, told by the leader.
 *
 * Every node, leader or not, keeps the events that it derives while it applies entries
 * (watch_ring.c), so whoever leads next has the same ones at the same positions; a node that just
 * started has those since its snapshot. A watcher holds no state here: each request names the
 * position that it has seen, and the answer the one that it has seen then. If there is nothing yet,
 * the request is parked, at most for its wait_ms. So a failover is a request to another node, and a
 * lost answer is a repeated question.
 *
 * Only committed entries are applied, so a leader that is deposed and does not know it tells
 * nothing wrong, only late: no confirmation is needed. Except where it would have to say what is
 * not yet: "from now on", and that a position is ahead of the log.
 *
 * Who leads is an event, too, and must be the same one on every node. The entry that begins a term
 * does not say whose it is; so a new leader says it by a command that changes nothing
 * (PO__CMD_LEADER), as soon as every member's program knows that. */
#include "internal.h"

#include <pipeorch/error.h>

static void on_event(void *arg, const struct po__news *e)
{
    struct po__node *n = arg;
    n->watch.at.position++;
    po__watch_ring_add(&n->watch.ring, n->watch.at, n->watch.time_ms, e);
    n->watch.news = true;
}

void po__watch_init(struct po__node *n)
{
    po__watch_ring_init(&n->watch.ring);
    po__list_init(&n->watch.parked);
    n->fx.event = on_event;
    n->fx.event_arg = n;
}

void po__watch_fini(struct po__node *n)
{
    po__watch_ring_reset(&n->watch.ring, 0);
}

void po__watch_entry(struct po__node *n, uint64_t index, uint64_t time_ms)
{
    n->watch.at = (struct po__watch_pos){index, 0};
    n->watch.time_ms = time_ms;
}

void po__watch_applied(struct po__node *n, uint64_t index)
{
    po__watch_ring_advance(&n->watch.ring, index);
}

void po__watch_restored(struct po__node *n, uint64_t index)
{
    po__watch_ring_reset(&n->watch.ring, index);
}

/* ---- who leads ---- */

void po__watch_tick(struct po__node *n)
{
    if (!n->watch.announce || !po__level_reached(n, PO__LEVEL_ORCHESTRATION))
        return;
    n->cmd.type = PO__CMD_LEADER;
    n->cmd.leader.node_id = n->identity.node_id;
    n->cmd.leader.term = n->term;
    n->watch.announce = po__stage_command(n, &n->cmd, NULL, 0) != 0; /* no room: the next turn */
}

/* ---- answers ---- */

static struct po__watch_filter filter_of(const struct po__request *req)
{
    return (struct po__watch_filter){.kinds = req->watch.kinds,
                                     .task_id = req->watch.task_id,
                                     .run_id = req->watch.run_id,
                                     .worker = req->watch.worker,
                                     .pipeline = req->watch.pipeline};
}

/* The call is seen up to c->watch_pos; the events are in n->tasks. */
static void answer(struct po__node *n, struct po__call *c, bool gone, uint32_t count)
{
    po__buf_reset(&n->body);
    po__mpw_bool(&n->body, gone);
    po__mpw_uint(&n->body, c->watch_pos.index);
    po__mpw_uint(&n->body, c->watch_pos.position);
    po__mpw_array(&n->body, count);
    if (count)
        po__buf_append(&n->body, n->tasks.data, n->tasks.len);
    int err = n->body.err ? n->body.err : n->tasks.err;
    if (err)
        po__call_error(n, c, err, "the events do not fit into memory");
    else
        po__call_answer(n, c, 0, "", po__model_index(n->model), po__buf_slice(&n->body),
                        PO__WATCH_ANSWER_FIELDS);
}

/* What is behind c->watch_pos, if anything. */
static uint32_t look(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    uint32_t limit = req->watch.limit ? req->watch.limit : PO__WATCH_LIMIT_DEFAULT;
    const struct po__watch_filter f = filter_of(req);
    po__buf_reset(&n->tasks);
    return po__watch_ring_read(&n->watch.ring, &c->watch_pos, &f,
                               limit < PO__WATCH_LIMIT_MAX ? limit : PO__WATCH_LIMIT_MAX,
                               PO__WATCH_REPLY_MAX_BYTES, &n->tasks);
}

static bool is_gone(const struct po__node *n, const struct po__call *c)
{
    return po__watch_pos_cmp(c->watch_pos, n->watch.ring.kept) < 0;
}

static void answer_gone(struct po__node *n, struct po__call *c)
{
    c->watch_pos = n->watch.ring.kept;
    answer(n, c, true, 0);
}

/* ---- parked ---- */

static void park(struct po__node *n, struct po__call *c, uint32_t wait_ms)
{
    if (n->watch.parked_count == PO__WATCHES_MAX) {
        po__call_error(n, c, PO_EBUSY,
                       "the leader has as many watches waiting as it allows; retry later");
        return;
    }
    n->watch.parked_count++;
    c->watching = true;
    po__list_push(&n->watch.parked, &c->link);
    c->deadline_ms = po__node_now(n) + (wait_ms < PO_TIMEOUT_MAX_MS ? wait_ms : PO_TIMEOUT_MAX_MS);
}

void po__watch_remove(struct po__node *n, struct po__call *c)
{
    if (!c->watching)
        return;
    c->watching = false;
    n->watch.parked_count--;
    po__list_remove(&c->link);
}

void po__watches_answer(struct po__node *n)
{
    struct po__list *it = n->watch.parked.next;
    if (!n->watch.news)
        return;
    n->watch.news = false;
    while (it != &n->watch.parked) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        struct po__request req;
        it = it->next;
        int rv = po__request_decode(c->data, c->len, &req);
        PO_INVARIANT(rv == 0); /* it was decoded when it came */
        uint32_t count = 0;
        if (is_gone(n, c))
            answer_gone(n, c); /* one entry had more events than the ring holds */
        else if ((count = look(n, c, &req)) || n->tasks.err)
            answer(n, c, false, count);
    }
}

void po__watch_expired(struct po__node *n, struct po__call *c)
{
    po__buf_reset(&n->tasks);
    answer(n, c, false, 0);
}

void po__watches_lost(struct po__node *n)
{
    struct po__list *it;
    n->watch.announce = false;
    while ((it = po__list_first(&n->watch.parked))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        po__watch_remove(n, c);
        po__call_retry(n, c);
    }
}

void po__watches_conn_closed(struct po__node *n, uint64_t conn)
{
    struct po__list *it = n->watch.parked.next;
    while (it != &n->watch.parked) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        it = it->next;
        if (c->conn == conn)
            po__call_error(n, c, PO_ECLOSED, NULL);
    }
}

/* ---- requests ---- */

static void serve(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    uint32_t count;
    if (is_gone(n, c))
        answer_gone(n, c);
    else if ((count = look(n, c, req)) || n->tasks.err || req->watch.wait_ms == 0)
        answer(n, c, false, count);
    else
        park(n, c, req->watch.wait_ms);
}

static bool is_ahead(struct po__node *n, const struct po__call *c)
{
    struct po__replica_status st;
    po__replica_status(n->replica, &st);
    return po__watch_pos_cmp((struct po__watch_pos){st.applied_index + 1, 0}, c->watch_pos) < 0;
}

void po__watch_request(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    c->watch_pos = (struct po__watch_pos){req->watch.after_index, req->watch.after_position};
    if (req->watch.after_index == PO_WATCH_OLDEST)
        c->watch_pos = n->watch.ring.kept;
    if (req->watch.after_index == 0 || is_ahead(n, c))
        po__read_barrier(n, c); /* goes on in po__watch_confirmed */
    else
        serve(n, c, req);
}

void po__watch_confirmed(struct po__node *n, struct po__call *c)
{
    char message[200];
    struct po__request req;
    int rv = po__request_decode(c->data, c->len, &req);
    PO_INVARIANT(rv == 0); /* it was decoded when it came */
    if (req.watch.after_index == 0) {
        c->watch_pos = n->watch.ring.end;
        po__watch_expired(n, c);
    } else if (is_ahead(n, c)) {
        snprintf(message, sizeof message,
                 "position %llu is ahead of the log, which is applied up to index %llu; is it "
                 "another cluster's, or from before a restore?",
                 (unsigned long long)c->watch_pos.index,
                 (unsigned long long)po__model_index(n->model));
        po__call_error(n, c, PO_EINVAL, message);
    } else {
        serve(n, c, &req);
    }
}
