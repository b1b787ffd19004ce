/* Registration with a control plane, and leaving it.
 *
 *   CLOSED ──▶ REGISTER ──▶ SERVE ──▶ DRAIN ──▶ LEAVE ──▶ LEFT
 *                 ▲           │                            ▲
 *                 └───────────┘                            │ from anywhere: nothing to leave,
 *            it does not know us any more                  │ or nobody listens
 *
 * An attempt to register may be repeated: it is of the same incarnation, and says the same. One
 * that got no answer in time may have been carried out all the same.
 *
 * Nothing in here waits: the run thread calls po__plane_step whenever something was answered or is
 * due. */
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

#include "call.h"
#include "worker_internal.h"

static const uint32_t allowed[] = {
    [PO__PLANE_CLOSED] = PO__TO(PO__PLANE_REGISTER) | PO__TO(PO__PLANE_LEFT),
    [PO__PLANE_REGISTER] =
        PO__TO(PO__PLANE_SERVE) | PO__TO(PO__PLANE_LEAVE) | PO__TO(PO__PLANE_LEFT),
    [PO__PLANE_SERVE] = PO__TO(PO__PLANE_REGISTER) | PO__TO(PO__PLANE_DRAIN) |
                        PO__TO(PO__PLANE_LEAVE) | PO__TO(PO__PLANE_LEFT),
    [PO__PLANE_DRAIN] = PO__TO(PO__PLANE_LEAVE) | PO__TO(PO__PLANE_LEFT),
    [PO__PLANE_LEAVE] = PO__TO(PO__PLANE_LEFT),
    [PO__PLANE_LEFT] = 0,
};

void po__plane_init(struct po__plane *p, struct po_worker *w, const char *what)
{
    p->worker = w;
    p->what = what;
    p->parked.plane = p->carrying.plane = p;
    po__list_init(&p->done);
    po__list_init(&p->parked.sent);
    po__list_init(&p->carrying.sent);
}

void po__plane_open(struct po__plane *p, struct po__channel *channel)
{
    p->channel = channel;
    po__fsm_move(&p->phase, PO__PLANE_REGISTER, allowed);
}

void po__plane_fail(struct po__plane *p, int code, const char *fmt, ...)
{
    va_list ap;
    if (p->fatal)
        return;
    p->fatal = code;
    va_start(ap, fmt);
    vsnprintf(p->fatal_message, sizeof p->fatal_message, fmt, ap);
    va_end(ap);
    po__worker_wake(p->worker);
}

/* ---- the worker's own commands: one at a time ---- */

static void on_command(void *arg, int code, const void *data, size_t len)
{
    struct po__plane *p = arg;
    struct po__response resp = {0};
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    pthread_mutex_lock(&p->worker->lock);
    p->call_under_way = false;
    p->call_answered = true;
    p->call_code = code;
    snprintf(p->call_message, sizeof p->call_message, "%.*s", (int)resp.message.len,
             resp.message.len ? resp.message.data : "");
    if (code && !p->call_message[0])
        snprintf(p->call_message, sizeof p->call_message, "%s", po_strerror(code));
    po__worker_wake(p->worker);
    pthread_mutex_unlock(&p->worker->lock);
}

static int send_command(struct po__plane *p, const struct po__cmd *cmd, uint32_t timeout_ms,
                        po__call_cb cb)
{
    struct po__buf request;
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_command(&request, timeout_ms, cmd);
    int rv = request.err;
    if (!rv)
        rv = p->channel->ops->call(p->channel, request.data, request.len, timeout_ms, cb, p);
    po__buf_fini(&request);
    return rv;
}

static void start_command(struct po__plane *p, const struct po__cmd *cmd, uint32_t timeout_ms)
{
    p->call_under_way = true;
    p->call_answered = false;
    int rv = send_command(p, cmd, timeout_ms, on_command);
    if (rv) {
        p->call_under_way = false;
        p->call_answered = true;
        p->call_code = rv;
        snprintf(p->call_message, sizeof p->call_message, "%s", po_strerror(rv));
    }
}

/* ---- registration ---- */

static void start_registration(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    struct po_capability caps[PO_CAPABILITIES_MAX];
    for (size_t i = 0; i < w->offered_count; i++)
        caps[i] = w->offered[i].capability;
    struct po_worker_info info = {.size = sizeof info,
                                  .id = w->id,
                                  .address = w->address,
                                  .zone = w->zone,
                                  .incarnation = w->incarnation,
                                  .heartbeat_ms = w->heartbeat_ms,
                                  .labels = w->labels,
                                  .labels_count = w->labels_count,
                                  .capabilities = caps,
                                  .capabilities_count = w->offered_count,
                                  .resources = w->resources,
                                  .resources_count = w->resources_count,
                                  .slots = w->slots_limit};
    struct po__cmd cmd;
    char message[PO__WORKER_MESSAGE_BYTES] = "";
    int rv = po__register_command(&cmd, &info);
    if (rv)
        snprintf(message, sizeof message, "%s", po_client_error());
    else
        rv = po__cmd_check(&cmd, message, sizeof message);
    if (rv)
        po__plane_fail(p, rv, "%s", message);
    else
        start_command(p, &cmd, PO__WORKER_REGISTER_MS);
}

/* Trying again would not help. (PO_EVERSION is no such case: the cluster is being upgraded.) */
static bool refused_for_good(int code)
{
    return code == PO_ESTALE || code == PO_EINVAL || code == PO_ETOOBIG || code == PO_EPROTO;
}

/* Many workers lose their cluster at once; they are not to come back all at once. */
static uint32_t retry_delay_ms(unsigned failures)
{
    uint32_t ms = PO__WORKER_REGISTER_RETRY_MAX_MS, random = 0,
             first = PO__WORKER_REGISTER_RETRY_MIN_MS;
    if (failures < 8 && first << failures < ms)
        ms = first << failures;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (uint32_t)po__worker_now_ms();
    return ms / 2 + random % (ms / 2);
}

static void on_registered(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    po__info(&w->log, "worker.registered", "worker %s (zone %s) is registered with %s", w->id,
             w->zone, p->what);
    p->registered = w->ready = true;
    p->failures = 0;
    p->resync = true;
    p->poll_at_ms = p->beat_at_ms = 0;
    po__fsm_move(&p->phase, PO__PLANE_SERVE, allowed);
    pthread_cond_broadcast(&w->changed);
}

static void step_registration(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    if (p->call_under_way)
        return;
    if (p->call_answered) {
        p->call_answered = false;
        if (p->call_code == 0) {
            on_registered(p);
            return;
        }
        if (refused_for_good(p->call_code)) {
            po__plane_fail(p, p->call_code, "worker %s cannot be registered: %s", w->id,
                           p->call_message);
            return;
        }
        po__warn(&w->log, "worker.register", "worker %s is not registered with %s yet: %s", w->id,
                 p->what, p->call_message);
        p->register_ms = po__worker_now_ms() + retry_delay_ms(p->failures++);
    }
    if (po__worker_now_ms() >= p->register_ms)
        start_registration(p);
}

void po__plane_unknown(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    if (p->phase == PO__PLANE_SERVE) {
        po__info(&w->log, "worker.unknown", "%s does not know worker %s", p->what, w->id);
        p->register_ms = 0;
        po__worker_disown(p);
        po__fsm_move(&p->phase, PO__PLANE_REGISTER, allowed);
    } else if (p->phase == PO__PLANE_DRAIN) {
        po__plane_left(p); /* nobody waits for the answers, and there is nothing to deregister */
    }
    po__worker_wake(w);
}

/* ---- leaving ---- */

/* That the plane knows of the drain is a courtesy: it hands out nothing more. Nobody waits for it.
 */
static void on_draining(void *arg, int code, const void *data, size_t len)
{
    (void)arg, (void)code, (void)data, (void)len;
}

void po__plane_drain(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    struct po__cmd cmd = {.type = PO__CMD_WORKER_STATUS};
    po__fsm_move(&p->phase, PO__PLANE_DRAIN, allowed);
    if (!p->in_handler_count)
        return;
    cmd.worker_status.id = po__str(w->id);
    cmd.worker_status.incarnation = w->incarnation;
    cmd.worker_status.status = PO_WORKER_DRAINING;
    (void)send_command(p, &cmd, w->drain_ms, on_draining);
}

bool po__plane_drained(const struct po__plane *p)
{
    return p->phase != PO__PLANE_DRAIN || p->fatal ||
           (p->in_handler_count == 0 && po__list_empty(&p->done) &&
            po__list_empty(&p->carrying.sent));
}

void po__plane_left(struct po__plane *p)
{
    if (p->phase != PO__PLANE_LEFT)
        po__fsm_move(&p->phase, PO__PLANE_LEFT, allowed);
}

/* A registration that is still under way may succeed; it is undone then. */
void po__plane_leave(struct po__plane *p)
{
    if (p->phase == PO__PLANE_LEAVE || p->phase == PO__PLANE_LEFT)
        return;
    if (p->fatal || !p->channel || (!p->registered && !p->call_under_way)) {
        po__plane_left(p);
        return;
    }
    p->call_answered = false;
    po__fsm_move(&p->phase, PO__PLANE_LEAVE, allowed);
}

static void step_leave(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    struct po__cmd cmd = {.type = PO__CMD_WORKER_DEREGISTER};
    if (p->call_under_way)
        return;
    if (!p->call_answered || !p->leaving) {
        if (p->call_answered && (p->call_code == 0 || p->call_code == PO_EUNKNOWN))
            p->registered = true;
        if (!p->registered) {
            po__plane_left(p);
            return;
        }
        p->leaving = true;
        cmd.worker_deregister.id = po__str(w->id);
        cmd.worker_deregister.incarnation = w->incarnation;
        start_command(p, &cmd, PO__WORKER_GOODBYE_MS);
        if (!p->call_answered)
            return;
    }
    if (p->call_code)
        po__warn(&w->log, "worker.deregister",
                 "worker %s could not deregister from %s (%s); it is found out offline by its "
                 "silence",
                 w->id, p->what, p->call_message);
    else
        po__info(&w->log, "worker.deregistered", "worker %s is deregistered from %s", w->id,
                 p->what);
    po__plane_left(p);
}

/* ---- time ---- */

void po__plane_step(struct po__plane *p)
{
    if (p->fatal)
        return;
    if (p->phase == PO__PLANE_REGISTER)
        step_registration(p);
    else if (p->phase == PO__PLANE_LEAVE)
        step_leave(p);
    po__worker_poll(p);
    po__worker_beat(p);
}

uint64_t po__plane_due_ms(const struct po__plane *p)
{
    if (p->fatal || p->phase == PO__PLANE_CLOSED || p->phase == PO__PLANE_LEFT)
        return UINT64_MAX;
    if (p->phase == PO__PLANE_REGISTER)
        return p->call_under_way ? UINT64_MAX : p->call_answered ? 0 : p->register_ms;
    if (p->phase == PO__PLANE_LEAVE)
        return p->call_under_way ? UINT64_MAX : 0;
    uint64_t poll_ms = po__worker_poll_due_ms(p), beat_ms = po__worker_beat_due_ms(p);
    return poll_ms < beat_ms ? poll_ms : beat_ms;
}
