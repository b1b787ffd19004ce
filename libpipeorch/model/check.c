/* Every relation of the whole state that the code relies on, recomputed from the objects: workers
 * and capabilities here, tasks and runs in check_tasks.c. O(n log n); after a restore, in tests,
 * and in the simulator. */
#include "impl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

int po__broken(const struct po__checker *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (c->message_len)
        vsnprintf(c->message, c->message_len, fmt, ap);
    va_end(ap);
    return -1;
}

static int check_leases(const struct po__checker *c, const struct po__worker *w)
{
    uint64_t n = 0, token = 0;
    struct po__list *l;
    po__list_each(l, &w->tasks)
    {
        const struct po__task *t = po__container_of(l, struct po__task, worker_link);
        if (t->state != PO_TASK_RUNNING || t->worker != w)
            return po__broken(c, "worker %s: task %" PRIu64 " in its list is not its own", w->id,
                              t->id);
        if (t->token <= token || t->token > w->last_token)
            return po__broken(c, "worker %s: task %" PRIu64 " is not in order of grant", w->id,
                              t->id);
        if (!po__offer_of(w, t->cap))
            return po__broken(c, "worker %s: task %" PRIu64 " holds no offer", w->id, t->id);
        token = t->token;
        n++;
    }
    if (n != w->running)
        return po__broken(c, "worker %s: %" PRIu64 " leases, but running is %u", w->id, n,
                          w->running);
    if (w->status == PO_WORKER_OFFLINE && n)
        return po__broken(c, "worker %s is offline and holds leases", w->id);
    return 0;
}

static uint32_t leases_of(const struct po__offer *o)
{
    uint32_t n = 0;
    struct po__list *l;
    po__list_each(l, &o->worker->tasks) n +=
        po__container_of(l, struct po__task, worker_link)->cap == o->cap;
    return n;
}

static int check_offer(const struct po__checker *c, const struct po__worker *w,
                       const struct po__offer *o)
{
    bool free = w->status == PO_WORKER_ONLINE && o->running < o->slots &&
                (!w->slots || w->running < w->slots);
    if (o->worker != w || !po__tree_linked(&o->by_worker))
        return po__broken(c, "worker %s: an offer of %s is detached", w->id, o->cap->name.data);
    if (o->running > o->slots || leases_of(o) != o->running)
        return po__broken(c, "worker %s: %s runs %u of %u, leases say %u", w->id, o->cap->name.data,
                          o->running, o->slots, leases_of(o));
    if (free != po__tree_linked(&o->free_any) || free != po__tree_linked(&o->free_group))
        return po__broken(c, "worker %s: %s is %sfree but %slisted", w->id, o->cap->name.data,
                          free ? "" : "not ", free ? "not " : "");
    if (!o->group->sample || o->group->sample->group != o->group)
        return po__broken(c, "worker %s: the group of its offer of %s has no sample", w->id,
                          o->cap->name.data);
    if (!po__slice_eq(o->group->zone, w->origin->zone) ||
        !po__slice_eq(o->group->version, o->version) || o->group->gpu != o->requires_gpu)
        return po__broken(c, "worker %s: %s is listed in a group of zone %s, version %s", w->id,
                          o->cap->name.data, o->group->zone.data, o->group->version.data);
    return 0;
}

/* What is used of each resource is what the leases take. */
static int check_stocks(const struct po__checker *c, const struct po__worker *w)
{
    for (uint32_t i = 0; i < w->stocks_count; i++) {
        uint64_t used = 0;
        struct po__list *l;
        po__list_each(l, &w->tasks)
        {
            const struct po__placement *p =
                po__container_of(l, struct po__task, worker_link)->lane->cls->place;
            for (uint32_t k = 0; k < p->resources_count; k++)
                if (po__slice_eq(p->resources[k].name, w->stocks[i].name))
                    used += p->resources[k].amount;
        }
        if (used != w->stocks[i].used)
            return po__broken(c, "worker %s: %" PRIu64 " of %s are used, counted %" PRIu64, w->id,
                              used, w->stocks[i].name.data, w->stocks[i].used);
    }
    return 0;
}

static int check_workers(const struct po__checker *c, uint64_t *offers)
{
    const struct po__model *m = c->m;
    uint64_t online = 0, bytes = 0, sharing = 0, n = 0;
    for (const struct po__worker *w = NULL; (w = po__model_worker_next(m, w)); n++) {
        if (po__model_worker_by_number(m, w->number) != w || w->number == 0 ||
            w->number >= m->next_worker)
            return po__broken(c, "worker %s: number %" PRIu64 " is not its own", w->id, w->number);
        if (w->status < PO_WORKER_ONLINE || w->status > PO_WORKER_DRAINING || !w->incarnation ||
            !w->offers_count)
            return po__broken(c, "worker %s: status, incarnation or offers are impossible", w->id);
        if (w->last_token > m->last_token)
            return po__broken(c, "worker %s: its last token is above the last token granted",
                              w->id);
        for (uint32_t i = 0; i < w->offers_count; i++) {
            if (i && po__slice_cmp(w->offers[i - 1].cap->name, w->offers[i].cap->name) >= 0)
                return po__broken(c, "worker %s: offers are not in order", w->id);
            if (check_offer(c, w, &w->offers[i]))
                return -1;
        }
        if (check_leases(c, w) || check_stocks(c, w))
            return -1;
        online += w->status == PO_WORKER_ONLINE;
        bytes += w->bytes;
        sharing += po__worker_shares(w);
        *offers += w->offers_count;
    }
    if (n != m->workers.count || n != m->workers_by_number.count || n > PO__WORKERS_MAX)
        return po__broken(c, "%" PRIu64 " workers, the indexes hold %" PRIu64 " and %" PRIu64, n,
                          m->workers.count, m->workers_by_number.count);
    if (online != m->workers_online || sharing != m->workers_sharing || bytes != m->workers_bytes ||
        bytes > PO__WORKERS_MAX_BYTES)
        return po__broken(c, "counters of online workers or of their bytes are wrong");
    return 0;
}

/* The free offers of one tree are in order and all belong there. */
static int check_free(const struct po__checker *c, const struct po__capability *cap,
                      const struct po__group *g)
{
    const struct po__worker *before = NULL;
    const struct po__tree *tree = g ? &g->free : &cap->free;
    uint64_t n = 0;
    for (struct po__tree_node *it = po__tree_first(tree); it; it = po__tree_next(it), n++) {
        const struct po__offer *o = g ? po__container_of(it, struct po__offer, free_group)
                                      : po__container_of(it, struct po__offer, free_any);
        const struct po__worker *w = o->worker;
        if (o->cap != cap || (g && o->group != g))
            return po__broken(c, "capability %s: a free offer is of another one", cap->name.data);
        if (before && (before->running > w->running ||
                       (before->running == w->running && before->last_token > w->last_token)))
            return po__broken(c, "capability %s: free offers are not in order of load",
                              cap->name.data);
        before = w;
    }
    if (n != tree->count)
        return po__broken(c, "capability %s: %" PRIu64 " free offers, counted %" PRIu64,
                          cap->name.data, n, tree->count);
    return 0;
}

static int check_groups(const struct po__checker *c, const struct po__capability *cap)
{
    uint64_t offers = 0, free = 0, running = 0, leases = 0;
    for (struct po__tree_node *n = po__tree_first(&cap->groups); n; n = po__tree_next(n)) {
        const struct po__group *g = po__container_of(n, struct po__group, by_profile);
        if (g->offers_count == 0)
            return po__broken(c, "capability %s: an empty group is kept", cap->name.data);
        if (check_free(c, cap, g))
            return -1;
        offers += g->offers_count;
        free += g->free.count;
        running += g->running;
    }
    for (struct po__tree_node *n = po__tree_first(&cap->offers); n; n = po__tree_next(n))
        leases += po__container_of(n, struct po__offer, by_worker)->running;
    if (offers != cap->offers.count || free != cap->free.count || running != leases)
        return po__broken(c, "capability %s: groups hold %" PRIu64 " offers of %" PRIu64,
                          cap->name.data, offers, cap->offers.count);
    return 0;
}

static int check_cap(const struct po__checker *c, const struct po__capability *cap)
{
    if (check_groups(c, cap) || check_free(c, cap, NULL))
        return -1;
    if (!po__list_empty(&cap->dirty))
        return po__broken(c, "capability %s: still marked for assignment", cap->name.data);
    if (!po__capability_ok(cap->name))
        return po__broken(c, "a capability has a malformed name");
    return po__check_queues(c, cap);
}

static int check_caps(const struct po__checker *c, uint64_t offers)
{
    const struct po__model *m = c->m;
    uint64_t refs = 0, attached = 0, pending = 0, classes = 0;
    for (struct po__tree_node *n = po__tree_first(&m->caps); n; n = po__tree_next(n)) {
        const struct po__capability *cap = po__container_of(n, struct po__capability, by_name);
        if (check_cap(c, cap))
            return -1;
        refs += cap->refs;
        attached += cap->offers.count;
        pending += cap->pending_count;
        classes += cap->classes.count;
    }
    if (attached != offers || refs != offers + classes)
        return po__broken(c,
                          "%" PRIu64 " references to capabilities from %" PRIu64
                          " offers and %" PRIu64 " classes of tasks",
                          refs, offers, classes);
    if (pending != m->tasks_count[PO_TASK_PENDING])
        return po__broken(c, "queues hold %" PRIu64 " pending tasks, counted %" PRIu64, pending,
                          m->tasks_count[PO_TASK_PENDING]);
    return po__check_gates(c);
}

static int check_app_keys(const struct po__checker *c)
{
    const struct po__app_keys *k = &c->m->app_keys;
    uint64_t bytes = 0;
    if (k->next - k->first > PO__APP_KEYS_MAX)
        return po__broken(c, "%" PRIu64 " application keys are kept", k->next - k->first);
    for (uint64_t seq = k->first; seq < k->next; seq++) {
        const struct po__app_key *e = po__app_key_at(k, seq);
        if (e->seq != seq || po__app_key_find(k, po__slice(e->text, e->key_len)) != e)
            return po__broken(c, "application key %" PRIu64 " is not found by its key", seq);
        bytes += e->result_len;
    }
    if (bytes != k->bytes || bytes > PO__APP_KEYS_MAX_BYTES)
        return po__broken(c, "results of application keys hold %" PRIu64 " bytes, counted %" PRIu64,
                          bytes, k->bytes);
    return 0;
}

int po__model_check(const struct po__model *m, char *message, size_t message_len)
{
    const struct po__checker c = {m, message, message_len};
    uint64_t offers = 0;
    if (message_len)
        message[0] = '\0';
    if (m->err)
        return po__broken(&c, "the model stopped with error %d", m->err);
    if (m->members.count > PO_MEMBERS_MAX)
        return po__broken(&c, "%" PRIu64 " members", m->members.count);
    int rv = check_workers(&c, &offers);
    rv = rv ? rv : check_caps(&c, offers);
    rv = rv ? rv : po__check_tasks(&c);
    rv = rv ? rv : po__check_runs(&c);
    rv = rv ? rv : po__check_schedules(&c);
    rv = rv ? rv : po__check_cache(&c);
    return rv ? rv : check_app_keys(&c);
}
