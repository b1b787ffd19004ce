/* Simulated workers: they speak the protocol of node/request.h as the library's own workers do.
 *
 * A worker registers, then keeps one poll under way; it runs what it is given for as long as its
 * capability says, reports outcomes with its next poll and keeps them until one is answered. A
 * crash forgets everything and comes back as a new incarnation. A zombie freezes with all that it
 * holds and goes on later as if no time had passed: what it then reports is old. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define HEARTBEAT_MS 400
#define POLL_WAIT_MS 300
#define RETRY_MIN_US 5000
#define RETRY_MAX_US 80000
#define REPORTS_MAX  32 /* outcomes in one poll */

enum { WAKE, THAW, REVIVE }; /* values of its events */

struct poll { /* what one poll carried */
    uint64_t number;
    bool resync;
    unsigned count, checkpoints;
    struct {
        uint64_t task_id, token;
        bool complete;
    } reports[REPORTS_MAX];
};

static void event(struct po__world *w, struct po__simworker *x, uint64_t us, uint64_t what)
{
    po__world_at(w, us, PO__EV_WORKER, x->index, x->stamp, what, NULL);
}

static void again(struct po__world *w, struct po__simworker *x)
{
    event(w, x, w->now_us + po__world_random(w, RETRY_MIN_US, RETRY_MAX_US), WAKE);
}

static void poll(struct po__world *w, struct po__simworker *x);

/* Whom to ask next: the leader if the answer names it, else somebody. */
static void turn_to(struct po__world *w, struct po__simworker *x, struct po__slice leader)
{
    unsigned before = x->target;
    x->target = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    for (unsigned i = 0; leader.len && i < w->nodes_count; i++)
        if (po__slice_eq(leader, po__str(w->nodes[i].worker_address)))
            x->target = i;
    if (x->target == before)
        return;
    if (x->conn) /* a connection of its own to each node; the old one is closed */
        po__world_at(w, w->now_us + po__world_random(w, 1000, 50000), PO__EV_CLOSED, before,
                     w->nodes[before].incarnation, x->conn, NULL);
    x->conn = ++w->next_conn;
}

/* ---- registering ---- */

static void registered(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                       size_t len)
{
    struct po__simworker *x = &w->workers[c->who];
    struct po__response r = {0};
    if (c->stamp != x->stamp || x->frozen)
        return;
    if (code == 0)
        code = po__response_decode(resp, len, &r);
    if (code == 0)
        code = r.code;
    if (code == 0) {
        x->registered = true;
        x->resync = true;
        po__world_trace(w, "is registered as incarnation %llu", x->id, x->incarnation);
        poll(w, x);
        return;
    }
    if (code == PO_ESTALE)
        x->incarnation++;
    else
        turn_to(w, x, r.leader_address);
    again(w, x);
}

static void enroll(struct po__world *w, struct po__simworker *x)
{
    struct po__buf b;
    struct po__cmd *cmd = po__sim_alloc(sizeof *cmd);
    cmd->type = PO__CMD_WORKER_REGISTER;
    cmd->worker_register.id = po__str(x->id);
    cmd->worker_register.address = po__str("");
    cmd->worker_register.zone = po__str(x->zone);
    cmd->worker_register.incarnation = x->incarnation;
    cmd->worker_register.heartbeat_ms = HEARTBEAT_MS;
    cmd->worker_register.caps_count = x->caps_count;
    for (unsigned i = 0; i < x->caps_count; i++)
        cmd->worker_register.caps[i] =
            (struct po__cap){.name = po__str(x->caps[i].name),
                             .version = po__str(*x->caps[i].version ? x->caps[i].version : "1.0.0"),
                             .max_concurrency = x->caps[i].concurrency};
    if (!w->opts.old_nodes) { /* which would know no more than the first release's command */
        cmd->type = PO__CMD_WORKER_REGISTER_MORE;
        cmd->worker_register.resources[0] = (struct po__resource){
            po__str("cpu_milli"), po__world_random(w, PO__SIM_CPU_MIN, 4 * PO__SIM_CPU_MIN)};
        cmd->worker_register.resources_count = 1;
        cmd->worker_register.slots = (uint32_t)po__world_random(w, 0, 4);
    }
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_command(&b, 1000, cmd);
    PO_INVARIANT(b.err == 0);
    struct po__simcall *c =
        po__simcall_make(w, x->place, x->target, b.data, b.len, 1000, registered);
    c->who = x->index;
    c->stamp = x->stamp;
    c->conn = x->conn;
    po__simcall_send(c);
    po__buf_fini(&b);
    free(cmd);
}

/* ---- polling ---- */

static bool is_recent(const struct po__simworker *x, uint64_t token)
{
    for (unsigned i = 0; i < sizeof x->recent / sizeof *x->recent; i++)
        if (x->recent[i] == token)
            return true;
    return false;
}

static struct po__simheld *find_held(struct po__simworker *x, uint64_t token)
{
    for (unsigned i = 0; i < x->held_count; i++)
        if (x->held[i].token == token)
            return &x->held[i];
    return NULL;
}

static void let_go(struct po__simworker *x, struct po__simheld *h)
{
    x->recent[x->recent_next++ % (sizeof x->recent / sizeof *x->recent)] = h->token;
    *h = x->held[--x->held_count];
}

static const struct po__simcap *capability(const struct po__simworker *x, struct po__slice name)
{
    for (unsigned i = 0; i < x->caps_count; i++)
        if (po__slice_eq(name, po__str(x->caps[i].name)))
            return &x->caps[i];
    return NULL;
}

static void take(struct po__world *w, struct po__simworker *x, const struct po__task_offer *t)
{
    const struct po__simcap *cap = capability(x, t->capability);
    if (!cap) {
        po__world_fail(w, "%s was given task %llu of a capability that it does not offer", x->id,
                       (unsigned long long)t->task_id);
        return;
    }
    po__checks_granted(w, x, t->task_id, t->token, t->attempt);
    if (t->checkpoint.len && strtoull(t->checkpoint.data, NULL, 10) >= t->token) {
        po__world_fail(w, "task %llu: token %llu is handed a checkpoint of no earlier attempt",
                       (unsigned long long)t->task_id, (unsigned long long)t->token);
        return;
    }
    if (find_held(x, t->token) || is_recent(x, t->token) || x->held_count == PO__SIM_HELD_MAX)
        return;
    struct po__simheld *h = &x->held[x->held_count++];
    *h = (struct po__simheld){.task_id = t->task_id, .token = t->token, .output = cap->output};
    h->done_us = w->now_us + po__world_random(w, cap->min_ms * 1000, cap->max_ms * 1000);
    h->fails = po__world_percent(w, cap->failure_percent);
    h->retryable = !po__world_percent(w, 2);
    po__world_trace(w, "runs task %llu, attempt %llu, token %llu", x->id, t->task_id, t->attempt,
                    t->token);
    event(w, x, h->done_us, WAKE);
}

/* An outcome was answered: the worker is through with the task whatever the answer says, unless
 * it is to be given again. */
static void reported(struct po__world *w, struct po__simworker *x, uint64_t task_id, uint64_t token,
                     bool complete, int code)
{
    struct po__simheld *h = find_held(x, token);
    if (code == 0 && complete)
        po__checks_completed(w, x, task_id, token);
    if (code == 0)
        w->stats.failed += !complete;
    else if (code == PO_ESTALE)
        w->stats.stale++;
    if (!h)
        return;
    if (code == 0 || !po_err_retryable(code))
        let_go(x, h);
    else
        h->reporting = false;
}

/* Answers get lost and overtake each other: only what came without a gap is acknowledged. Sequence
 * numbers begin anew with each resync: those of polls before it mean nothing. */
static void acknowledge(struct po__simworker *x, const struct poll *p, uint64_t seq)
{
    if (p->number < x->synced_poll || seq <= x->ack_seq || seq - x->ack_seq > PO__SIM_SEQ_WINDOW)
        return;
    x->seen[seq % PO__SIM_SEQ_WINDOW] = true;
    while (x->seen[(x->ack_seq + 1) % PO__SIM_SEQ_WINDOW])
        x->seen[++x->ack_seq % PO__SIM_SEQ_WINDOW] = false;
}

static int read_answer(struct po__world *w, struct po__simworker *x, const struct poll *p,
                       const struct po__response *resp)
{
    struct po__mpr r;
    po__mpr_init(&r, resp->body.data, resp->body.len);
    uint32_t count = po__mpr_array(&r, PO__BATCH_MAX);
    for (uint32_t i = 0; i < count && !r.err; i++) {
        int code = (int)po__mpr_int(&r);
        if (i < p->count)
            reported(w, x, p->reports[i].task_id, p->reports[i].token, p->reports[i].complete,
                     code);
    }
    count = po__mpr_array(&r, PO__POLL_TASKS_MAX);
    for (uint32_t i = 0; i < count && !r.err; i++) {
        struct po__task_offer t;
        if (po__task_offer_decode(&r, &t))
            break;
        take(w, x, &t);
        acknowledge(x, p, t.seq);
    }
    count = po__mpr_array(&r, PO__POLL_HELD_MAX);
    for (uint32_t i = 0; i < count && !r.err; i++) {
        struct po__simheld *h = find_held(x, po__mpr_uint(&r, UINT64_MAX));
        if (h)
            let_go(x, h);
    }
    return r.err ? r.err : po__mpr_end(&r);
}

static void polled(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                   size_t len)
{
    struct po__simworker *x = &w->workers[c->who];
    const struct poll *p = c->extra;
    struct po__response r = {0};
    if (c->stamp != x->stamp || x->frozen)
        return;
    bool latest = p->number == x->poll;
    if (latest)
        x->polling = false;
    if (code == 0)
        code = po__response_decode(resp, len, &r);
    if (code == 0)
        code = r.code;
    if (code == 0) {
        int rv = read_answer(w, x, p, &r);
        if (rv)
            po__world_fail(w, "%s cannot read the answer of a poll: %s", x->id, po_err_name(rv));
        if (latest)
            poll(w, x);
        return;
    }
    for (unsigned i = 0; i < p->count; i++) { /* not answered: it goes with the next poll */
        struct po__simheld *h = find_held(x, p->reports[i].token);
        if (h)
            h->reporting = false;
    }
    if (!latest)
        return;
    if (code == PO_ESTATE) {
        x->resync = true;
    } else if (code == PO_ENOTREGISTERED) {
        x->registered = false;
    } else if (code == PO_ESTALE) {
        x->registered = false;
        x->incarnation++;
    } else {
        turn_to(w, x, r.leader_address);
    }
    again(w, x);
}

/* Some of what runs leaves something for its next attempt: its token, in decimal digits. Behind the
 * outcomes, where the library's workers put it, too. */
static void leave_checkpoints(struct po__world *w, const struct po__simworker *x, struct poll *p,
                              struct po__buf *done)
{
    for (unsigned i = 0; i < x->held_count && !w->opts.old_nodes; i++) {
        const struct po__simheld *h = &x->held[i];
        char text[24];
        if (h->finished || p->count + p->checkpoints == REPORTS_MAX || !po__world_percent(w, 20))
            continue;
        int n = snprintf(text, sizeof text, "%llu", (unsigned long long)h->token);
        po__done_encode(
            done, &(struct po__done){.task_id = h->task_id,
                                     .token = h->token,
                                     .kind = PO__DONE_CHECKPOINT,
                                     .payload = po__slice(text, (size_t)n),
                                     .flag = po__world_random(w, 0, 1000) | PO__DONE_HAS_DATA});
        p->checkpoints++;
    }
}

/* The outcomes that wait, and what is held if the node asked for it. */
static void fill(struct po__world *w, struct po__simworker *x, struct poll *p, struct po__buf *held,
                 struct po__buf *done)
{
    for (unsigned i = 0; i < x->held_count; i++) {
        struct po__simheld *h = &x->held[i];
        h->finished = h->finished || w->now_us >= h->done_us;
        if (!h->finished || h->reporting || p->count == REPORTS_MAX)
            continue;
        char text[48];
        snprintf(text, sizeof text, "{\"token\":%llu}", (unsigned long long)h->token);
        po__done_encode(
            done, &(struct po__done){.task_id = h->task_id,
                                     .token = h->token,
                                     .kind = h->fails ? PO__DONE_FAIL : PO__DONE_COMPLETE,
                                     .payload = po__str(h->output && !h->fails ? h->output : text),
                                     .flag = h->retryable});
        p->reports[p->count].task_id = h->task_id;
        p->reports[p->count].token = h->token;
        p->reports[p->count++].complete = !h->fails;
        h->reporting = true;
    }
    leave_checkpoints(w, x, p, done);
    if (!x->resync)
        return;
    po__mpw_array(held, x->held_count);
    for (unsigned i = 0; i < x->held_count; i++)
        po__mpw_uint(held, x->held[i].token);
}

static void poll(struct po__world *w, struct po__simworker *x)
{
    struct po__buf b, held, done, array;
    struct poll *p = po__sim_alloc(sizeof *p);
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__buf_init(&held, PO__REQUEST_MAX_BYTES);
    po__buf_init(&done, PO__REQUEST_MAX_BYTES);
    po__buf_init(&array, PO__REQUEST_MAX_BYTES);
    p->number = ++x->poll;
    p->resync = x->resync;
    fill(w, x, p, &held, &done);
    po__mpw_array(&array, p->count + p->checkpoints);
    po__buf_append(&array, done.data, done.len);
    if (x->resync) {
        x->ack_seq = 0;
        x->synced_poll = p->number;
        memset(x->seen, 0, sizeof x->seen);
    }
    struct po__request req = {.timeout_ms = 1500};
    req.poll.worker_id = po__str(x->id);
    req.poll.incarnation = x->incarnation;
    req.poll.resync = x->resync;
    req.poll.held = po__buf_slice(&held);
    req.poll.ack_seq = x->ack_seq;
    req.poll.wait_ms = POLL_WAIT_MS;
    req.poll.tasks_max = 16;
    req.poll.done = po__buf_slice(&array);
    po__request_poll(&b, &req);
    PO_INVARIANT(b.err == 0 && array.err == 0 && held.err == 0);
    x->resync = false;
    struct po__simcall *c = po__simcall_make(w, x->place, x->target, b.data, b.len, 1500, polled);
    c->who = x->index;
    c->stamp = x->stamp;
    c->conn = x->conn;
    c->extra = p;
    x->polling = true;
    po__simcall_send(c);
    po__buf_fini(&b);
    po__buf_fini(&held);
    po__buf_fini(&done);
    po__buf_fini(&array);
}

/* ---- life ---- */

static bool news(const struct po__world *w, const struct po__simworker *x)
{
    for (unsigned i = 0; i < x->held_count; i++)
        if (!x->held[i].reporting && w->now_us >= x->held[i].done_us)
            return true;
    return false;
}

static void wake(struct po__world *w, struct po__simworker *x)
{
    if (!x->registered)
        enroll(w, x);
    else if (!x->polling || news(w, x))
        poll(w, x);
}

void po__worker_begin(struct po__world *w, unsigned index)
{
    struct po__simworker *x = &w->workers[index];
    x->index = index;
    x->place = PO__SIM_NODES_MAX + index;
    x->alive = true;
    x->incarnation = 1;
    x->conn = ++w->next_conn;
    x->target = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    event(w, x, w->now_us + po__world_random(w, 0, 200000), WAKE);
}

static void revive(struct po__world *w, struct po__simworker *x)
{
    po__checks_silent(w, x);
    x->alive = true;
    x->frozen = x->registered = x->resync = false;
    x->held_count = 0;
    x->polling = false;
    x->ack_seq = 0;
    x->incarnation++;
    x->stamp++;
    x->conn = ++w->next_conn;
    po__world_trace(w, "is back", x->id, 0);
    wake(w, x);
}

/* It goes on where it stopped; answers that came meanwhile were missed. */
static void thaw(struct po__world *w, struct po__simworker *x)
{
    po__checks_silent(w, x);
    x->frozen = false;
    x->stamp++;
    x->polling = false;
    for (unsigned i = 0; i < x->held_count; i++)
        x->held[i].reporting = false;
    po__world_trace(w, "goes on with %llu tasks", x->id, x->held_count);
    for (unsigned i = 0; i < x->held_count; i++)
        event(w, x, x->held[i].done_us > w->now_us ? x->held[i].done_us : w->now_us + 1, WAKE);
    wake(w, x);
}

void po__worker_event(struct po__world *w, unsigned index, uint64_t what)
{
    struct po__simworker *x = &w->workers[index];
    if (what == REVIVE)
        revive(w, x);
    else if (what == THAW)
        thaw(w, x);
    else if (x->alive && !x->frozen)
        wake(w, x);
}

/* Most are back soon; some are missed. */
static uint64_t silence_max_us(struct po__world *w)
{
    return po__world_percent(w, 70) ? 4000000 : 15000000;
}

void po__worker_crash(struct po__world *w, struct po__simworker *x)
{
    if (!x->alive || x->frozen)
        return;
    po__world_trace(w, "crashes with %llu tasks", x->id, x->held_count);
    w->stats.worker_crashes++;
    x->silent_us = w->now_us;
    x->alive = false;
    x->stamp++;
    po__world_at(w, w->now_us + po__world_random(w, 1000, 50000), PO__EV_CLOSED, x->target,
                 w->nodes[x->target].incarnation, x->conn, NULL);
    event(w, x, w->now_us + po__world_random(w, 50000, silence_max_us(w)), REVIVE);
}

void po__worker_freeze(struct po__world *w, struct po__simworker *x)
{
    if (!x->alive || x->frozen)
        return;
    po__world_trace(w, "freezes with %llu tasks", x->id, x->held_count);
    w->stats.zombies++;
    x->silent_us = w->now_us;
    x->frozen = true;
    x->stamp++;
    event(w, x, w->now_us + po__world_random(w, 500000, silence_max_us(w)), THAW);
}

void po__worker_heal(struct po__world *w, struct po__simworker *x)
{
    if (x->alive && !x->frozen)
        return;
    x->stamp++;
    event(w, x, w->now_us + 1, x->alive ? THAW : REVIVE);
}
