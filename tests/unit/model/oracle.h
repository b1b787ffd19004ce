/* What the scheduler ought to do, written from the rules in model.h and command.h and not from the
 * code: plain arrays, everything looked for from scratch. Whoever uses it tells it each command and
 * then shows it the effects; it judges every grant, and compares all tasks. */
#ifndef PO__TEST_ORACLE_H
#define PO__TEST_ORACLE_H

#include "sched.h"

#define O_TASKS 4096
#define O_HOSTS 5
#define O_CAPS  3
#define O_GATES 4

static const char *const o_caps[O_CAPS] = {"a:x", "b:y", "c:z"};
/* The first is nowhere in particular for a task, "default" for a worker; runs say the last. */
static const char *const o_zones[] = {"", "aws", "gcp", "default"};
static const char *const o_hosts[O_HOSTS] = {"w1", "w2", "w3", "w4", "w5"};
static const char *const o_gates[O_GATES] = {NULL, "db", "api", "mail"};

/* Ranges and versions, with verdicts worked out by hand. */
static const char *const o_versions[] = {"1.2.0", "1.3.0", "2.0.0-rc.1", "0.9.0", ""};
static const char *const o_ranges[] = {NULL, "^1.2", "~1.2", ">=1.3 || 0.9.x", ">=2.0.0-rc.0", "*"};
static const bool o_in_range[6][5] = {{1, 1, 1, 1, 1}, {1, 1, 0, 0, 0}, {1, 0, 0, 0, 0},
                                      {0, 1, 0, 1, 0}, {0, 0, 1, 0, 0}, {1, 1, 0, 1, 1}};

/* Labels: disk is absent, nvme or hdd; arm is absent or there. */
static const char *const o_labels[6] = {NULL,    "disk=nvme",       "disk=hdd",
                                        "arm=1", "arm=1 disk=nvme", "arm=1 disk=hdd"};
static const char *const o_demands[6] = {NULL,  "disk=nvme", "disk!=nvme",
                                         "arm", "!arm",      "disk=hdd !arm"};

static inline bool o_label_fits(unsigned labels, unsigned demand)
{
    unsigned disk = labels % 3;
    bool arm = labels >= 3;
    switch (demand) {
    case 0:
        return true;
    case 1:
        return disk == 1;
    case 2:
        return disk != 1;
    case 3:
        return arm;
    case 4:
        return !arm;
    default:
        return disk == 2 && !arm;
    }
}

struct otask {
    uint64_t id, run_id, created, run_at, deadline, keep, due, finished, token;
    uint32_t state, attempt, lost, forgiven, attempts_max, timeout, retry_ms, retry_max_ms;
    unsigned cap, range, zone, gpu, prefer, labels, gpus, mem, near, priority, gate;
    int host; /* runs there; -1 */
    bool known, modern;
};

struct ohost {
    bool known;
    uint32_t status;
    uint64_t incarnation, number, last_token;
    unsigned zone, labels, gpus, mem, slots;
    struct {
        unsigned slots, version; /* slots 0: not offered */
        bool gpu;
    } offers[O_CAPS];
};

struct ogate {
    uint32_t max, rate_max, rate_ms;
    uint64_t full_us;
    bool shut;
};

struct oracle {
    struct otask tasks[O_TASKS]; /* by id */
    struct ohost hosts[O_HOSTS];
    struct ogate gates[O_GATES];
    uint64_t last_id, last_token, now_ms;
    const struct po__model *m; /* for what cannot be foretold: the length of a wait with jitter */
};

static inline bool o_finished(const struct otask *t)
{
    return t->state >= PO_TASK_SUCCEEDED;
}

/* The first that is known behind t; NULL starts, NULL ends. */
static inline struct otask *o_after(struct oracle *o, struct otask *t)
{
    for (t = t ? t + 1 : o->tasks + 1; t <= o->tasks + o->last_id; t++)
        if (t->known)
            return t;
    return NULL;
}

#define O_EACH(o, t) for (struct otask *t = NULL; (t = o_after(o, t));)

/* ---- counting ---- */

static inline unsigned o_running(struct oracle *o, unsigned host, int cap)
{
    unsigned n = 0;
    O_EACH(o, t)
    n +=
        t->state == PO_TASK_RUNNING && t->host == (int)host && (cap < 0 || t->cap == (unsigned)cap);
    return n;
}

static inline unsigned o_running_in_zone(struct oracle *o, unsigned zone, unsigned cap)
{
    unsigned n = 0;
    O_EACH(o, t)
    n += t->state == PO_TASK_RUNNING && t->cap == cap && o->hosts[t->host].zone == zone;
    return n;
}

static inline unsigned o_running_of_gate(struct oracle *o, unsigned gate)
{
    unsigned n = 0;
    O_EACH(o, t)
    n += t->state == PO_TASK_RUNNING && t->gate == gate;
    return n;
}

/* ---- gates ---- */

static inline uint64_t o_token_us(const struct ogate *g)
{
    return ((uint64_t)g->rate_ms * 1000 + g->rate_max - 1) / g->rate_max;
}

static inline void o_gate_look(struct oracle *o, unsigned gate)
{
    struct ogate *g = &o->gates[gate];
    bool full = g->max && o_running_of_gate(o, gate) >= g->max;
    bool dry =
        g->rate_max && g->full_us + o_token_us(g) > o->now_ms * 1000 + (uint64_t)g->rate_ms * 1000;
    g->shut = full || dry;
}

static inline void o_gate_start(struct oracle *o, unsigned gate)
{
    struct ogate *g = &o->gates[gate];
    uint64_t now_us = o->now_ms * 1000;
    if (g->rate_max)
        g->full_us = (g->full_us > now_us ? g->full_us : now_us) + o_token_us(g);
    o_gate_look(o, gate);
}

/* ---- who fits ---- */

static inline bool o_fits(struct oracle *o, const struct otask *want, unsigned host)
{
    const struct ohost *h = &o->hosts[host];
    unsigned gpus = 0, mem = 0;
    if (!h->known || h->status != PO_WORKER_ONLINE || !h->offers[want->cap].slots)
        return false;
    if (o_running(o, host, (int)want->cap) >= h->offers[want->cap].slots ||
        (h->slots && o_running(o, host, -1) >= h->slots))
        return false;
    if ((want->zone && want->zone != h->zone) ||
        (want->gpu == PO__GPU_REQUIRED && !h->offers[want->cap].gpu) ||
        (want->gpu == PO__GPU_FORBIDDEN && h->offers[want->cap].gpu) ||
        !o_in_range[want->range][h->offers[want->cap].version] ||
        !o_label_fits(h->labels, want->labels))
        return false;
    O_EACH(o, t)
    if (t->state == PO_TASK_RUNNING && t->host == (int)host) {
        gpus += t->gpus;
        mem += t->mem;
    }
    return (!want->gpus || gpus + want->gpus <= h->gpus) &&
           (!want->mem || mem + want->mem <= h->mem);
}

/* Is host a to be preferred to b for t? */
static inline bool o_better(struct oracle *o, const struct otask *t, unsigned a, unsigned b)
{
    const struct ohost *x = &o->hosts[a], *y = &o->hosts[b];
    bool near_x = t->near && x->zone == t->near % 3, near_y = t->near && y->zone == t->near % 3;
    unsigned load_x = o_running(o, a, -1), load_y = o_running(o, b, -1);
    unsigned zone_x = o_running_in_zone(o, x->zone, t->cap);
    unsigned zone_y = o_running_in_zone(o, y->zone, t->cap);
    bool most = t->prefer == PO__PREFER_BINPACK;
    if (t->prefer == PO__PREFER_LOCAL && near_x != near_y)
        return near_x;
    if (t->prefer == PO__PREFER_SPREAD && zone_x != zone_y)
        return zone_x < zone_y;
    if (load_x != load_y)
        return most ? load_x > load_y : load_x < load_y;
    if (near_x != near_y)
        return near_x;
    if (x->last_token != y->last_token)
        return most ? x->last_token > y->last_token : x->last_token < y->last_token;
    return most ? x->number > y->number : x->number < y->number;
}

static inline int o_best_host(struct oracle *o, const struct otask *t)
{
    int best = -1;
    for (unsigned h = 0; h < O_HOSTS; h++)
        if (o_fits(o, t, h) && (best < 0 || o_better(o, t, h, (unsigned)best)))
            best = (int)h;
    return best;
}

static inline int64_t o_rank(const struct otask *t)
{
    uint64_t from = t->run_at > t->created ? t->run_at : t->created;
    return (int64_t)from - (int64_t)t->priority * 600000;
}

/* The task of the capability that is to go next; NULL: none can. */
static inline struct otask *o_next(struct oracle *o, unsigned cap)
{
    struct otask *best = NULL;
    O_EACH(o, t)
    if (t->state == PO_TASK_PENDING && t->cap == cap && !(t->gate && o->gates[t->gate].shut) &&
        (!best || o_rank(t) < o_rank(best)) && o_best_host(o, t) >= 0)
        best = t; /* by id, where ranks are equal */
    return best;
}

/* ---- attempts ---- */

static inline void o_release(struct oracle *o, struct otask *t, uint32_t state)
{
    bool ran = t->state == PO_TASK_RUNNING;
    t->state = state;
    t->host = -1;
    if (state >= PO_TASK_SUCCEEDED)
        t->finished = o->now_ms;
    if (ran && t->gate)
        o_gate_look(o, t->gate);
}

static inline void o_attempt_failed(struct oracle *o, struct otask *t, bool retryable)
{
    uint64_t base = t->retry_ms ? t->retry_ms : PO__RETRY_DELAY_MIN_MS;
    uint64_t max = t->retry_max_ms ? t->retry_max_ms : PO__RETRY_DELAY_MAX_MS;
    uint32_t failures = t->attempt - t->lost - t->forgiven;
    if (!retryable || failures >= t->attempts_max) {
        o_release(o, t, PO_TASK_FAILED);
        return;
    }
    max = max < base ? base : max;
    for (uint32_t i = 1; i < failures && base < max; i++)
        base *= 2;
    base = base < max ? base : max;
    o_release(o, t, PO_TASK_SCHEDULED);
    t->due = o->now_ms + base;
    const struct po__task *p = po__model_task(o->m, t->id);
    if (p->state != PO_TASK_SCHEDULED) /* the same tick found its deadline passed */
        return;
    t->due = p->deadline_ms;
    uint64_t wait = t->due - o->now_ms;
    if (wait > base || wait < (t->modern ? base - base / 2 : base))
        fail_msg("task %llu waits %llu ms, expected up to %llu", (unsigned long long)t->id,
                 (unsigned long long)wait, (unsigned long long)base);
}

static inline void o_attempt_lost(struct oracle *o, struct otask *t)
{
    t->lost++;
    o_release(o, t, t->lost < t->attempts_max + 16 ? PO_TASK_PENDING : PO_TASK_FAILED);
}

/* keep: of each capability, the leases that the new registration has slots for stay, oldest first.
 */
static inline void o_lose(struct oracle *o, unsigned host, bool keep)
{
    unsigned kept[O_CAPS] = {0};
    for (uint64_t token = 0;;) {
        struct otask *next = NULL;
        O_EACH(o, t)
        if (t->state == PO_TASK_RUNNING && t->host == (int)host && t->token > token &&
            (!next || t->token < next->token))
            next = t;
        if (!next)
            return;
        token = next->token;
        if (!keep || kept[next->cap]++ >= o->hosts[host].offers[next->cap].slots)
            o_attempt_lost(o, next);
    }
}

/* What time brought about, as a tick finds it. */
static inline void o_tick(struct oracle *o)
{
    O_EACH(o, t)
    if (t->state == PO_TASK_SCHEDULED && t->due <= o->now_ms)
        t->state = PO_TASK_PENDING;
    else if (t->state == PO_TASK_RUNNING && t->due <= o->now_ms)
        o_attempt_failed(o, t, true);
    O_EACH(o, t)
    if (!o_finished(t) && t->deadline && t->deadline <= o->now_ms)
        o_release(o, t, PO_TASK_FAILED);
    O_EACH(o, t)
    if (o_finished(t) && t->keep && t->finished + t->keep <= o->now_ms)
        t->known = false;
    for (unsigned g = 1; g < O_GATES; g++)
        o_gate_look(o, g);
}

/* ---- judging ---- */

/* Capabilities share the room of a worker: then what goes next does so among all of them. */
static inline bool o_sharing(const struct oracle *o)
{
    for (unsigned h = 0; h < O_HOSTS; h++)
        if (o->hosts[h].known && (o->hosts[h].slots || o->hosts[h].gpus || o->hosts[h].mem))
            return true;
    return false;
}

static inline struct otask *o_next_of_all(struct oracle *o)
{
    struct otask *best = NULL;
    for (unsigned c = 0; c < O_CAPS; c++) {
        struct otask *t = o_next(o, c);
        if (t &&
            (!best || o_rank(t) < o_rank(best) || (o_rank(t) == o_rank(best) && t->id < best->id)))
            best = t;
    }
    return best;
}

static inline void o_grant(struct oracle *o, const struct po__fx *fx, uint64_t index)
{
    assert_true(fx->id <= o->last_id && o->tasks[fx->id].known);
    struct otask *t = &o->tasks[fx->id];
    struct otask *expected = o_sharing(o) ? o_next_of_all(o) : o_next(o, t->cap);
    if (expected != t)
        fail_msg("index %llu: task %llu was granted, expected %llu", (unsigned long long)index,
                 (unsigned long long)fx->id, (unsigned long long)(expected ? expected->id : 0));
    int host = o_best_host(o, t);
    if (o->hosts[host].number != fx->worker)
        fail_msg("index %llu: task %llu went to worker %llu, expected %llu (%s)",
                 (unsigned long long)index, (unsigned long long)fx->id,
                 (unsigned long long)fx->worker, (unsigned long long)o->hosts[host].number,
                 o_hosts[host]);
    o->last_token = o->last_token + 1 > index ? o->last_token + 1 : index;
    assert_true(fx->token == o->last_token);
    t->state = PO_TASK_RUNNING;
    t->host = host;
    t->attempt++;
    t->token = o->hosts[host].last_token = o->last_token;
    t->due = o->now_ms + t->timeout;
    if (t->gate)
        o_gate_start(o, t->gate);
}

static inline void o_compare(struct oracle *o, uint64_t index)
{
    O_EACH(o, t)
    {
        const struct po__task *p = po__model_task(o->m, t->id);
        if (!p || p->state != t->state || p->attempt != t->attempt || p->token != t->token ||
            p->lost != t->lost ||
            (t->state == PO_TASK_RUNNING && (!p->worker || p->deadline_ms != t->due)))
            fail_msg(
                "index %llu: task %llu has state %u, attempt %u, token %llu, expected %u %u %llu",
                (unsigned long long)index, (unsigned long long)t->id, p ? p->state : 0,
                p ? p->attempt : 0, (unsigned long long)(p ? p->token : 0), t->state, t->attempt,
                (unsigned long long)t->token);
    }
}

/* All that a command brought about. */
static inline void o_judge(struct oracle *o, const struct world *w)
{
    for (size_t i = 0; i < w->fx.count; i++)
        if (w->fx.items[i].type == PO__FX_ASSIGNED)
            o_grant(o, &w->fx.items[i], w->index);
    for (unsigned c = 0; c < O_CAPS; c++) {
        const struct otask *t = o_next(o, c);
        if (t)
            fail_msg("index %llu: task %llu waits while %s has room", (unsigned long long)w->index,
                     (unsigned long long)t->id, o_hosts[o_best_host(o, t)]);
    }
    o_compare(o, w->index);
}

#endif
