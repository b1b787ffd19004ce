/* Why: which worker a task would get and how that falls (ROUTE), and what a task waits for
 * (EXPLAIN). Both ask the scheduler's own functions, so what they say is what it does. */
#include "query.h"

#include <inttypes.h>
#include <stdio.h>

#define WHY_MAX_BYTES 512

static const char *const words[] = {
    [PO__FITS] = "fits",
    [PO__MISFIT_OFFLINE] = "offline",
    [PO__MISFIT_DRAINING] = "draining",
    [PO__MISFIT_ZONE] = "zone",
    [PO__MISFIT_GPU] = "gpu",
    [PO__MISFIT_VERSION] = "version",
    [PO__MISFIT_LABEL] = "label",
    [PO__MISFIT_SLOTS] = "slots",
    [PO__MISFIT_WORKER_SLOTS] = "worker_slots",
    [PO__MISFIT_RESOURCE] = "resource",
};
#define REASONS (sizeof words / sizeof *words)

#define SHOWN(s) (int)(s).len, (s).data

static void describe_label(char *out, size_t len, const struct po__label_wish *wish,
                           const struct po__worker *w)
{
    static const char *const ops[] = {"=", "!=", "must be there", "must not be there"};
    bool present;
    struct po__slice value = po__label_of(w, wish->key, &present);
    if (wish->op >= PO__LABEL_PRESENT)
        snprintf(out, len, "label %.*s %s", SHOWN(wish->key), ops[wish->op]);
    else if (present)
        snprintf(out, len, "label %.*s is \"%.*s\"; %s \"%.*s\" is asked for", SHOWN(wish->key),
                 SHOWN(value), ops[wish->op], SHOWN(wish->value));
    else
        snprintf(out, len, "label %.*s is missing; %s \"%.*s\" is asked for", SHOWN(wish->key),
                 ops[wish->op], SHOWN(wish->value));
}

static void describe_resource(char *out, size_t len, const struct po__resource *want,
                              const struct po__worker *w)
{
    const struct po__stock *s = po__stock_of(w, want->name);
    uint64_t free = s && s->amount > s->used ? s->amount - s->used : 0;
    snprintf(out, len, "%" PRIu64 " of %.*s are asked for; %" PRIu64 " of %" PRIu64 " are free",
             want->amount, SHOWN(want->name), free, s ? s->amount : 0);
}

/* One sentence about a worker that was turned down, or was not. */
static void describe(char *out, size_t len, enum po__misfit why, const struct po__placement *p,
                     const struct po__offer *o, uint32_t which)
{
    const struct po__worker *w = o->worker;
    switch (why) {
    case PO__MISFIT_OFFLINE:
        snprintf(out, len, "the worker is offline");
        break;
    case PO__MISFIT_DRAINING:
        snprintf(out, len, "the worker drains: it takes nothing new");
        break;
    case PO__MISFIT_ZONE:
        snprintf(out, len, "zone is %s; %.*s is asked for", w->zone, SHOWN(p->zone));
        break;
    case PO__MISFIT_GPU:
        snprintf(out, len, "it runs %s a gpu; that is %s", o->requires_gpu ? "on" : "without",
                 p->gpu == PO__GPU_REQUIRED ? "required" : "forbidden");
        break;
    case PO__MISFIT_VERSION:
        snprintf(out, len, "version %.*s is not in %.*s", SHOWN(o->version), SHOWN(p->range));
        break;
    case PO__MISFIT_LABEL:
        describe_label(out, len, &p->labels[which], w);
        break;
    case PO__MISFIT_SLOTS:
        snprintf(out, len, "%u of %u slots of the capability are taken", o->running, o->slots);
        break;
    case PO__MISFIT_WORKER_SLOTS:
        snprintf(out, len, "%u of %u slots of the worker are taken", w->running, w->slots);
        break;
    case PO__MISFIT_RESOURCE:
        describe_resource(out, len, &p->resources[which], w);
        break;
    default:
        snprintf(out, len, "it has room: %u of %u slots are taken", o->running, o->slots);
    }
}

/* ---- route ---- */

struct tally {
    uint32_t count[REASONS]; /* offers, by what was found */
    uint32_t looked_at;
};

static struct tally tally(const struct po__capability *cap, const struct po__placement *p)
{
    struct tally t = {{0}, 0};
    uint32_t which;
    for (struct po__tree_node *n = po__tree_first(&cap->offers);
         n && t.looked_at < PO__QUERY_SCAN_MAX; n = po__tree_next(n), t.looked_at++)
        t.count[po__misfit(p, po__container_of(n, struct po__offer, by_worker), &which)]++;
    return t;
}

static void put_tally(struct po__buf *b, const struct tally *t)
{
    uint32_t kinds = 0;
    for (unsigned i = PO__MISFIT_OFFLINE; i < REASONS; i++)
        kinds += t->count[i] > 0;
    po__mpw_cstr(b, "turned_down");
    po__mpw_map(b, kinds);
    static const enum po__misfit sorted[] = {
        PO__MISFIT_DRAINING, PO__MISFIT_GPU,          PO__MISFIT_LABEL,
        PO__MISFIT_OFFLINE,  PO__MISFIT_RESOURCE,     PO__MISFIT_SLOTS,
        PO__MISFIT_VERSION,  PO__MISFIT_WORKER_SLOTS, PO__MISFIT_ZONE};
    for (unsigned i = 0; i < sizeof sorted / sizeof *sorted; i++)
        if (t->count[sorted[i]])
            po__kv_uint(b, words[sorted[i]], t->count[sorted[i]]);
}

static const char *const preferences[] = {"balance", "spread", "binpack", "local"};

static void put_why(struct po__buf *b, const struct po__offer *o, const struct po__placement *p,
                    struct po__slice zone, uint32_t fitting)
{
    static const char *const rules[] = {"the least loaded", "in the zone with the fewest tasks",
                                        "the most loaded that has room",
                                        "in the preferred zone if possible"};
    char why[WHY_MAX_BYTES];
    bool near = zone.len && po__slice_eq(o->worker->origin->zone, zone);
    snprintf(why, sizeof why, "%s of %u that fit (%s): it runs %u%s", rules[p->prefer], fitting,
             preferences[p->prefer], o->worker->running,
             !zone.len ? ""
             : near    ? ", in the preferred zone"
                       : ", not in the preferred zone");
    po__kv_text(b, "why", po__str(why));
}

static int refuse_route(const struct po__capability *cap, const struct tally *t,
                        const char **message)
{
    uint32_t online = t->looked_at - t->count[PO__MISFIT_OFFLINE];
    uint32_t full = t->count[PO__MISFIT_SLOTS] + t->count[PO__MISFIT_WORKER_SLOTS] +
                    t->count[PO__MISFIT_RESOURCE];
    if (cap && full) {
        *message = "all slots of the workers that offer this capability are taken; retry later";
        return PO_EBUSY;
    }
    *message = cap && online ? "no online worker that offers this capability satisfies the "
                               "version range and the placement; relax them, or register one"
                             : "no online worker offers this capability; register one";
    return PO_ENOCAPABILITY;
}

int po__query_route(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                    const char **message)
{
    static const struct tally nobody;
    struct po__placement p;
    if (!po__capability_ok(q->name)) {
        *message = "malformed capability; expected \"verb:name\"";
        return PO_EINVAL;
    }
    if (po__placement_decode(q->placement, &p) || po__placement_check(&p, NULL, 0)) {
        *message = "malformed placement";
        return PO_EINVAL;
    }
    const struct po__capability *cap = po__cap_find(m, q->name);
    const struct tally t = cap ? tally(cap, &p) : nobody;
    const struct po__offer *o = cap ? po__choose(cap, &p, q->name2) : NULL;
    if (!o)
        return refuse_route(cap, &t, message);
    po__mpw_map(b, 10);
    po__kv_text(b, "address", po__str(o->worker->address));
    po__kv_uint(b, "candidates", t.count[PO__FITS]);
    po__kv_text(b, "capability", cap->name);
    po__kv_uint(b, "free_slots", o->slots - o->running);
    po__kv_uint(b, "running", o->worker->running);
    put_tally(b, &t);
    po__kv_text(b, "version", o->version);
    put_why(b, o, &p, q->name2, t.count[PO__FITS]);
    po__kv_text(b, "worker_id", o->worker->origin->id);
    po__kv_text(b, "zone", o->worker->origin->zone);
    return 0;
}

/* ---- explain ---- */

/* What a gate holds its tasks back for. */
static void why_gate(char *why, size_t len, const struct po__gate *g)
{
    if (g->max && g->running >= g->max)
        snprintf(why, len, "concurrency key %.*s: %u of %u tasks run", SHOWN(g->name), g->running,
                 g->max);
    else
        snprintf(why, len,
                 "concurrency key %.*s: its rate of %u per %u ms is used up until %" PRIu64,
                 SHOWN(g->name), g->rate_max, g->rate_ms, g->due_ms);
}

/* One sentence about the task as a whole. */
static const char *waits_for(const struct po__task *t, char *why, size_t len)
{
    const struct po__gate *g = t->lane->gate;
    switch (t->state) {
    case PO_TASK_SCHEDULED:
        snprintf(why, len, "it waits for its %s at %" PRIu64, t->attempt ? "next attempt" : "time",
                 t->deadline_ms);
        return "time";
    case PO_TASK_PENDING:
        break;
    case PO_TASK_RUNNING:
        snprintf(why, len, "it runs on %s since its attempt %u was granted", t->worker->id,
                 t->attempt);
        return NULL;
    default:
        snprintf(why, len, "it is finished: %s", po__task_word(t->state));
        return NULL;
    }
    if (g && !g->open) {
        why_gate(why, len, g);
        return "key";
    }
    const struct po__task *head = po__class_head(t->lane->cls);
    if (head == t)
        snprintf(why, len, "it is the next of its kind; no worker can take it now");
    else
        snprintf(why, len,
                 "no worker can take it now, and task %" PRIu64 " of the same kind is ahead",
                 head->id);
    return "worker";
}

static void put_candidate(struct po__buf *b, const struct po__worker *w, const struct po__task *t)
{
    char why[WHY_MAX_BYTES];
    uint32_t which = 0;
    const struct po__placement *p = t->lane->cls->place;
    const struct po__offer *o = po__offer_of(w, t->cap);
    enum po__misfit misfit = o ? po__misfit(p, o, &which) : PO__FITS;
    if (o)
        describe(why, sizeof why, misfit, p, o, which);
    else
        snprintf(why, sizeof why, "it does not offer %.*s", SHOWN(t->capability));
    po__mpw_map(b, 3);
    po__kv_text(b, "reason", po__str(o ? words[misfit] : "capability"));
    po__kv_text(b, "why", po__str(why));
    po__kv_text(b, "worker_id", w->origin->id);
}

int po__query_explain(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                      const char **message)
{
    struct po__page page;
    char why[WHY_MAX_BYTES];
    const struct po__task *t = po__task_find(m, q->id);
    if (!t) {
        *message = "no such task; it never existed, or it was finished long ago and forgotten";
        return PO_ENOTFOUND;
    }
    const char *what = waits_for(t, why, sizeof why);
    po__page_begin(&page, q);
    for (const struct po__worker *w = po__worker_after(m, q->name);
         t->state == PO_TASK_PENDING && w; w = po__model_worker_next(m, w)) {
        if (po__page_full(&page)) {
            page.more = true;
            break;
        }
        page.last_name = w->origin->id;
        put_candidate(&page.items, w, t);
        page.count++;
    }
    po__mpw_map(b, 7);
    po__kv_text(b, "capability", t->capability);
    po__kv_uint(b, "id", t->id);
    po__page_next_name(&page, b);
    po__kv_word(b, "state", po__task_word(t->state));
    po__kv_word(b, "waits_for", what);
    po__kv_text(b, "why", po__str(why));
    po__page_items(&page, b, "workers");
    return 0;
}

/* Is that token the right to act for the task now? */
int po__query_fence(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                    const char **message)
{
    const struct po__task *t = po__task_find(m, q->id);
    if (!t || t->state != PO_TASK_RUNNING || t->token != q->token) {
        *message = "the token is not the task's lease: it was given to another attempt, or the "
                   "task is finished; stop, and leave no side effects";
        return PO_ESTALE;
    }
    po__mpw_map(b, 4);
    po__kv_uint(b, "attempt", t->attempt);
    po__kv_time(b, "deadline_ms", t->deadline_ms);
    po__kv_uint(b, "token", t->token);
    po__kv_text(b, "worker_id", t->origin->id);
    return 0;
}
