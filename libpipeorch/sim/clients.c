/* Simulated clients: one operation at a time, repeated with the same bytes, somewhere else each
 * time, until its outcome is known.
 *
 * Mixed load: tasks submitted under a key, cancelled, waited for; runs of a small pipeline;
 * application commands; confirmed reads. Half of the calls are made in-process, by a client that
 * shares the node's process and lets it forward; the others follow redirects. With a pipeline of
 * the caller's (po__world_opts), one client defines it and starts and awaits its runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define CALL_MS      1500
#define THINK_MIN_US 1000
#define THINK_MAX_US 60000
#define BACK_MIN_US  2000
#define BACK_MAX_US  150000
#define WAITS_MAX    4 /* tries of a wait in the mixed load */

enum op { IDLE, DEFINE, SUBMIT, CANCEL, WAIT_TASK, RUN, CANCEL_RUN, WAIT_RUN, APPLY, BARRIER };

static void later(struct po__world *w, struct po__simclient *x, uint64_t min_us, uint64_t max_us)
{
    po__world_at(w, w->now_us + po__world_random(w, min_us, max_us), PO__EV_CLIENT, x->index,
                 ++x->stamp, 0, NULL);
}

/* ---- making a request ---- */

static void define_mixed(struct po__cmd *cmd, struct po__buf *steps)
{
    static const char *const names[] = {"first", "second", "third"};
    const unsigned count = sizeof names / sizeof *names;
    cmd->type = PO__CMD_PIPELINE_DEFINE;
    cmd->pipeline.name = po__str("chain");
    cmd->pipeline.start_node = po__str(names[0]);
    po__mpw_array(steps, count);
    for (unsigned i = 0; i < count; i++)
        po__step_encode(steps,
                        &(struct po__step){.name = po__str(names[i]),
                                           .capability = po__str("work:plain"),
                                           .next_node = po__str(i + 1 < count ? names[i + 1] : ""),
                                           .attempts_max = 5});
    cmd->pipeline.steps = po__buf_slice(steps);
    cmd->pipeline.steps_count = count;
}

static struct po__slice name_of(const struct po__cmd *definition)
{
    return definition->type == PO__CMD_PIPELINE_DEFINE_GRAPH ? definition->graph.name
                                                             : definition->pipeline.name;
}

/* What a task may ask for beyond the essentials. Whatever is drawn, some worker can meet it, and
 * every task comes to an end; a task that is not finished by its deadline ends, too. */
static void ask_for_more(struct po__world *w, struct po__cmd *cmd, struct po__buf *extra)
{
    static const char *const keys[] = {"k-one", "k-two", "k-three"};
    struct po__placement p = {.range = po__str(po__world_percent(w, 50) ? "^1.0" : ""),
                              .prefer = (uint32_t)po__world_random(w, 0, PO__PREFER_LOCAL)};
    struct po__extra e = {.priority = (uint32_t)po__world_random(w, 0, PO_PRIORITY_MAX)};
    struct po__buf placement = {0};
    if (po__world_percent(w, 50))
        p.resources[p.resources_count++] =
            (struct po__resource){po__str("cpu_milli"), po__world_random(w, 1, PO__SIM_CPU_MIN)};
    po__placement_encode(&placement, &p);
    e.placement = po__buf_slice(&placement);
    if (po__world_percent(w, 40)) {
        e.gate = po__str(keys[po__world_random(w, 0, 2)]);
        e.gate_max = (uint32_t)po__world_random(w, 1, 3);
        e.rate_max = po__world_percent(w, 50) ? (uint32_t)po__world_random(w, 5, 50) : 0;
        e.rate_ms = e.rate_max ? 1000 : 0;
    }
    if (po__world_percent(w, 20))
        e.retry_ms = (uint32_t)po__world_random(w, 1, 500);
    po__extra_encode(extra, &e);
    PO_INVARIANT(!placement.err && !extra->err);
    cmd->type = PO__CMD_TASK_SUBMIT_MORE;
    cmd->submit.extra = po__buf_slice(extra);
    po__buf_fini(&placement);
}

static void encode_command(struct po__world *w, struct po__simclient *x)
{
    struct po__cmd *cmd = po__sim_alloc(sizeof *cmd);
    struct po__buf steps;
    char key[32], input[64];
    const struct po__cmd *given = w->opts.pipeline;
    po__buf_init(&steps, PO__PIPELINE_MAX_BYTES);
    snprintf(key, sizeof key, "k%llu", (unsigned long long)x->number);
    snprintf(input, sizeof input, "{\"n\":%llu}", (unsigned long long)x->number);
    switch (x->op) {
    case DEFINE:
        if (given)
            *cmd = *given;
        else
            define_mixed(cmd, &steps);
        break;
    case SUBMIT:
        cmd->type = PO__CMD_TASK_SUBMIT;
        cmd->submit.key = po__str(key);
        cmd->submit.capability = po__str(po__world_percent(w, 50) ? "work:plain" : "work:odd");
        cmd->submit.input = po__str(input);
        cmd->submit.attempts_max = (uint32_t)po__world_random(w, 1, 6);
        /* Half of them have all the time in the world: what is lost is not found by its timeout. */
        cmd->submit.timeout_ms =
            po__world_percent(w, 50) ? 0 : (uint32_t)po__world_random(w, 200, 3000);
        if (!w->opts.old_nodes && po__world_percent(w, 50))
            ask_for_more(w, cmd, &steps);
        break;
    case CANCEL:
        cmd->type = PO__CMD_TASK_CANCEL;
        cmd->cancel.task_id = x->last_task;
        break;
    case CANCEL_RUN:
        cmd->type = PO__CMD_RUN_CANCEL;
        cmd->run_cancel.run_id = x->id;
        break;
    default:
        cmd->type = PO__CMD_RUN_START;
        cmd->run_start.key = po__str(key);
        cmd->run_start.pipeline = given ? name_of(given) : po__str("chain");
        cmd->run_start.params = given ? w->opts.params : po__str(input);
    }
    po__request_command(&x->request, CALL_MS, cmd);
    po__buf_fini(&steps);
    free(cmd);
}

static void encode(struct po__world *w, struct po__simclient *x)
{
    po__buf_reset(&x->request);
    switch (x->op) {
    case WAIT_TASK:
        po__request_wait(&x->request, CALL_MS, 1, x->last_task);
        break;
    case WAIT_RUN:
        po__request_wait(&x->request, CALL_MS, 2, x->id);
        break;
    case BARRIER:
        po__request_barrier(&x->request, CALL_MS);
        break;
    case APPLY:
        x->number = w->next_app++;
        break;
    default:
        encode_command(w, x);
    }
    PO_INVARIANT(x->request.err == 0);
}

/* ---- one try ---- */

static void outcome(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                    size_t len);

static struct po__simcall *make_apply(struct po__world *w, struct po__simclient *x)
{
    char bytes[64];
    int key_len = snprintf(bytes, sizeof bytes, "a%llu", (unsigned long long)x->number);
    memcpy(bytes + key_len, &x->number, sizeof x->number);
    struct po__simcall *c = po__simcall_make(w, x->target, x->target, bytes,
                                             (size_t)key_len + sizeof x->number, CALL_MS, outcome);
    c->apply = c->local = true;
    c->key_len = (size_t)key_len;
    return c;
}

static void attempt(struct po__world *w, struct po__simclient *x)
{
    struct po__simcall *c;
    if (x->op == APPLY) {
        c = make_apply(w, x);
    } else {
        bool local = po__world_percent(w, 50);
        c = po__simcall_make(w, local ? x->target : x->place, x->target, x->request.data,
                             x->request.len, CALL_MS, outcome);
        c->local = local;
    }
    x->tries++;
    c->who = x->index;
    c->stamp = x->stamp;
    po__simcall_send(c);
}

/* ---- what comes of it ---- */

static void next(struct po__world *w, struct po__simclient *x)
{
    x->op = IDLE;
    if (x->left)
        later(w, x, THINK_MIN_US, THINK_MAX_US);
}

static void begin(struct po__world *w, struct po__simclient *x, enum op op)
{
    x->op = op;
    x->tries = 0;
    /* Reads go anywhere: a leader that was paused does not know yet that it leads no more. */
    if (op == BARRIER && po__world_percent(w, 60))
        x->target = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    if (op == SUBMIT || op == RUN)
        x->number = w->next_number++;
    encode(w, x);
    attempt(w, x);
}

static uint64_t id_of(const struct po__response *r)
{
    struct po__mpr mr;
    po__mpr_init(&mr, r->body.data, r->body.len);
    return r->body_fields ? po__mpr_uint(&mr, UINT64_MAX) : 0;
}

static void done_run(struct po__world *w, struct po__simclient *x, const struct po__response *r)
{
    x->id = id_of(r);
    po__checks_acked(w, PO__ACKED_RUN, x->number, x->id, r->index);
    if (w->opts.pipeline)
        begin(w, x, WAIT_RUN);
    else if (po__world_percent(w, 20))
        begin(w, x, CANCEL_RUN);
    else
        next(w, x);
}

static void done(struct po__world *w, struct po__simclient *x, const struct po__simcall *c,
                 const struct po__response *r)
{
    switch (x->op) {
    case SUBMIT:
        x->last_task = id_of(r);
        po__checks_acked(w, PO__ACKED_TASK, x->number, x->last_task, r->index);
        break;
    case APPLY:
        po__checks_acked(w, PO__ACKED_APP, x->number, 0, r->index);
        break;
    case BARRIER:
    case WAIT_TASK:
    case WAIT_RUN:
        w->stats.reads++;
        po__checks_read(w, r->index, c->started_acked);
        break;
    case RUN:
        done_run(w, x, r);
        return;
    default:
        break;
    }
    next(w, x);
}

/* Known for good? A wait that found nothing in time is asked again. */
static bool definite(const struct po__world *w, const struct po__simclient *x, int code)
{
    if (code == 0)
        return true;
    if (x->op == WAIT_TASK && x->tries >= WAITS_MAX)
        return true;
    if (code == PO_ECLOSED || code == PO_EFAULT)
        return false;
    if (x->op == RUN && code == PO_ENOTFOUND) /* not defined yet */
        return !w->opts.pipeline;
    return !po_err_retryable(code);
}

static void outcome(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                    size_t len)
{
    struct po__simclient *x = &w->clients[c->who];
    struct po__response r = {0};
    if (c->stamp != x->stamp)
        return;
    if (code == 0)
        code = po__response_decode(resp, len, &r);
    if (code == 0)
        code = r.code;
    if (code == PO_EPROTO || code == PO_EINVAL || code == PO_EVERSION) {
        po__world_fail(w, "client-%u: a call was refused with %s: %.*s", x->index,
                       po_err_name(code), (int)r.message.len, r.message.data ? r.message.data : "");
        return;
    }
    w->stats.unknown += code == PO_EUNKNOWN;
    if (definite(w, x, code)) {
        x->stamp++; /* later answers to earlier tries say nothing new */
        if (code == 0)
            done(w, x, c, &r);
        else
            next(w, x);
        return;
    }
    x->target = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    for (unsigned i = 0; r.leader_address.len && i < w->nodes_count; i++)
        if (po__slice_eq(r.leader_address, po__str(w->nodes[i].worker_address)))
            x->target = i;
    later(w, x, BACK_MIN_US, BACK_MAX_US);
}

/* ---- what to do next ---- */

static enum op draw(struct po__world *w, struct po__simclient *x)
{
    uint64_t d = po__world_random(w, 0, 99);
    if (w->opts.pipeline)
        return RUN;
    if (d < 40)
        return SUBMIT;
    if (d < 50 && w->next_app < PO__SIM_APP_MAX)
        return APPLY;
    if (d < 60)
        return RUN;
    if (d < 82)
        return BARRIER;
    if (x->last_task == 0)
        return SUBMIT;
    return d < 91 ? CANCEL : WAIT_TASK;
}

void po__client_event(struct po__world *w, unsigned index)
{
    struct po__simclient *x = &w->clients[index];
    if (x->op != IDLE) {
        attempt(w, x);
        return;
    }
    x->left--;
    begin(w, x, draw(w, x));
}

void po__client_begin(struct po__world *w, unsigned index)
{
    struct po__simclient *x = &w->clients[index];
    x->index = index;
    x->place = PO__SIM_NODES_MAX + PO__SIM_WORKERS_MAX + index;
    x->left = w->opts.pipeline ? w->opts.runs : w->opts.operations;
    x->target = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    po__buf_init(&x->request, PO__REQUEST_MAX_BYTES);
    if (index == 0) { /* what the runs of everybody need */
        x->op = DEFINE;
        encode(w, x);
    }
    later(w, x, 1000, 100000);
}

bool po__clients_idle(const struct po__world *w)
{
    for (unsigned i = 0; i < w->clients_count; i++)
        if (w->clients[i].op != IDLE || w->clients[i].left)
            return false;
    return true;
}
