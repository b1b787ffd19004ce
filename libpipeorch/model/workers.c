/* The registry. A worker keeps its object and its number from its first registration to its
 * deregistration, whatever its incarnations; what it says about itself (address, zone, labels,
 * offers) is one block that a new registration replaces. */
#include "impl.h"

#include <stdlib.h>

#define ZONE_DEFAULT    "default"
#define VERSION_DEFAULT "1.0.0"

/* ---- origins ---- */

struct origin_key {
    struct po__slice id, zone;
};

static struct po__origin *origin_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__origin, by_name);
}

static int origin_key_cmp(const void *key, const struct po__tree_node *n)
{
    const struct origin_key *k = key;
    int c = po__slice_cmp(k->id, origin_of(n)->id);
    return c ? c : po__slice_cmp(k->zone, origin_of(n)->zone);
}

static int origin_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    struct origin_key key = {origin_of(a)->id, origin_of(a)->zone};
    return origin_key_cmp(&key, b);
}

struct po__origin *po__origin_get(struct po__model *m, struct po__slice id, struct po__slice zone)
{
    struct origin_key key = {id, zone};
    struct po__tree_node *n = po__tree_find(&m->origins, &key, origin_key_cmp);
    struct po__origin *o = n ? origin_of(n) : po__calloc(1, sizeof *o + id.len + zone.len + 2);
    if (!o) {
        po__oom(m);
        return NULL;
    }
    if (!n) {
        char *at = o->text;
        o->id = po__put(&at, id);
        o->zone = po__put(&at, zone);
        po__tree_insert(&m->origins, &o->by_name, origin_cmp);
    }
    o->refs++;
    return o;
}

void po__origin_put(struct po__model *m, struct po__origin *o)
{
    if (!o || --o->refs)
        return;
    po__tree_remove(&m->origins, &o->by_name);
    po__free(o);
}

/* ---- indexes ---- */

static int id_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(po__container_of(a, struct po__worker, by_id)->origin->id,
                         po__container_of(b, struct po__worker, by_id)->origin->id);
}

static int id_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key,
                         po__container_of(n, struct po__worker, by_id)->origin->id);
}

static int number_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(po__container_of(a, struct po__worker, by_number)->number,
                       po__container_of(b, struct po__worker, by_number)->number);
}

static int number_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key,
                       po__container_of(n, struct po__worker, by_number)->number);
}

static struct po__worker *find(const struct po__model *m, struct po__slice id)
{
    struct po__tree_node *n = po__tree_find(&m->workers, &id, id_key);
    return n ? po__container_of(n, struct po__worker, by_id) : NULL;
}

struct po__tree_node *po__worker_after_number(const struct po__model *m, uint64_t number)
{
    uint64_t from = number + 1;
    return number == UINT64_MAX ? NULL
                                : po__tree_lower_bound(&m->workers_by_number, &from, number_key);
}

const struct po__worker *po__worker_after(const struct po__model *m, struct po__slice id)
{
    struct po__tree_node *n = po__tree_lower_bound(&m->workers, &id, id_key);
    const struct po__worker *w = n ? po__container_of(n, struct po__worker, by_id) : NULL;
    return w && id.len && po__slice_eq(w->origin->id, id) ? po__model_worker_next(m, w) : w;
}

const struct po__worker *po__model_worker(const struct po__model *m, struct po__slice id)
{
    return find(m, id);
}

const struct po__worker *po__model_worker_by_number(const struct po__model *m, uint64_t number)
{
    struct po__tree_node *n = po__tree_find(&m->workers_by_number, &number, number_key);
    return n ? po__container_of(n, struct po__worker, by_number) : NULL;
}

const struct po__worker *po__model_worker_next(const struct po__model *m,
                                               const struct po__worker *w)
{
    struct po__tree_node *n = w ? po__tree_next(&w->by_id) : po__tree_first(&m->workers);
    return n ? po__container_of(n, struct po__worker, by_id) : NULL;
}

/* ---- what a worker says about itself ---- */

static int cap_order(const void *a, const void *b)
{
    const struct po__cap *const *x = a, *const *y = b;
    return po__slice_cmp((*x)->name, (*y)->name);
}

static size_t text_bytes(const struct po__cmd *cmd)
{
    size_t n = cmd->worker_register.address.len + 1;
    n += 8; /* heads of the labels */
    for (uint32_t i = 0; i < cmd->worker_register.labels_count; i++)
        n += cmd->worker_register.label_keys[i].len + cmd->worker_register.label_values[i].len + 8;
    for (uint32_t i = 0; i < cmd->worker_register.resources_count; i++)
        n += cmd->worker_register.resources[i].name.len + 1;
    for (uint32_t i = 0; i < cmd->worker_register.caps_count; i++) {
        const struct po__cap *c = &cmd->worker_register.caps[i];
        n += c->version.len + sizeof VERSION_DEFAULT + c->input_schema.len + c->output_schema.len +
             3;
    }
    return n;
}

/* What a registration counts for against PO__WORKERS_MAX_BYTES. Every node must agree, whatever its
 * program's structures are: the sizes are those of the first release, for ever. */
#define WORKER_BYTES   200
#define OFFER_BYTES    200
#define RESOURCE_BYTES 40
static uint64_t registration_bytes(const struct po__cmd *cmd)
{
    return WORKER_BYTES + text_bytes(cmd) + cmd->worker_register.caps_count * OFFER_BYTES +
           cmd->worker_register.resources_count * RESOURCE_BYTES;
}

/* The labels as canonical msgpack; they were sorted by the encoder of the command. */
static struct po__slice put_labels(struct po__model *m, char **at, const struct po__cmd *cmd)
{
    struct po__buf *b = &m->scratch;
    po__buf_reset(b);
    po__mpw_map(b, cmd->worker_register.labels_count);
    for (uint32_t i = 0; i < cmd->worker_register.labels_count; i++) {
        po__mpw_str(b, cmd->worker_register.label_keys[i]);
        po__mpw_str(b, cmd->worker_register.label_values[i]);
    }
    if (b->err) {
        po__oom(m);
        return po__slice(*at, 0);
    }
    return po__put(at, po__buf_slice(b));
}

/* The labels once more, as the scheduler reads them: slices into the encoded ones. */
static void read_labels(struct po__worker *w, uint32_t count)
{
    struct po__mpr r;
    po__mpr_init(&r, w->labels.data, w->labels.len);
    w->labels_count = po__mpr_map(&r, count);
    for (uint32_t i = 0; i < w->labels_count; i++) {
        w->label_pairs[i].key = po__mpr_str(&r, PO__LABEL_MAX_BYTES);
        w->label_pairs[i].value = po__mpr_str(&r, PO__LABEL_MAX_BYTES);
    }
    PO_INVARIANT(po__mpr_end(&r) == 0);
}

static void put_stocks(struct po__worker *w, char **at, const struct po__cmd *cmd)
{
    for (uint32_t i = 0; i < cmd->worker_register.resources_count; i++) /* sorted by the encoder */
        w->stocks[i] = (struct po__stock){
            .name = po__put(at, cmd->worker_register.resources[i].name),
            .amount = cmd->worker_register.resources[i].amount,
        };
    w->stocks_count = cmd->worker_register.resources_count;
}

static void put_offers(struct po__offer *offers, char **at, const struct po__cmd *cmd,
                       const struct po__cap **order)
{
    for (uint32_t i = 0; i < cmd->worker_register.caps_count; i++) {
        const struct po__cap *c = order[i];
        offers[i].slots = c->max_concurrency ? c->max_concurrency : 1;
        offers[i].requires_gpu = c->requires_gpu;
        offers[i].version = po__put(at, c->version.len ? c->version : po__str(VERSION_DEFAULT));
        offers[i].input_schema = po__put(at, c->input_schema);
        offers[i].output_schema = po__put(at, c->output_schema);
    }
}

/* Forget what the worker said; its leases were taken care of. */
static void withdraw(struct po__model *m, struct po__worker *w)
{
    po__offers_unlink(w);
    while (w->offers_count > 0)
        po__offer_detach(m, &w->offers[--w->offers_count]);
    m->workers_sharing -= w->bytes && po__worker_shares(w); /* it was announced */
    po__free(w->offers);
    po__free(w->label_pairs);
    po__free(w->stocks);
    po__free(w->text);
    w->offers = NULL;
    w->label_pairs = NULL;
    w->stocks = NULL;
    w->text = NULL;
    w->labels_count = w->stocks_count = w->slots = 0;
    m->workers_bytes -= w->bytes;
    w->bytes = 0;
}

/* Take what a registration says. The worker has no offers now, and its offers are not yet linked
 * for scheduling. */
static void announce(struct po__model *m, struct po__worker *w, const struct po__cmd *cmd)
{
    const struct po__cap *order[PO_CAPABILITIES_MAX];
    uint32_t n = cmd->worker_register.caps_count, labels = cmd->worker_register.labels_count;
    uint32_t stocks = cmd->worker_register.resources_count;
    struct po__slice zone = cmd->worker_register.zone;
    struct po__origin *origin =
        po__origin_get(m, cmd->worker_register.id, zone.len ? zone : po__str(ZONE_DEFAULT));
    if (!origin)
        return;
    po__origin_put(m, w->origin); /* of the same id: indexes keep their order */
    w->origin = origin;
    w->id = origin->id.data;
    w->zone = origin->zone.data;
    w->text = po__malloc(text_bytes(cmd));
    w->offers = po__calloc(n, sizeof *w->offers);
    w->label_pairs = po__calloc(labels ? labels : 1, sizeof *w->label_pairs);
    w->stocks = po__calloc(stocks ? stocks : 1, sizeof *w->stocks);
    if (!w->text || !w->offers || !w->label_pairs || !w->stocks) {
        po__oom(m);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        order[i] = &cmd->worker_register.caps[i];
    qsort(order, n, sizeof *order, cap_order);
    char *at = w->text;
    w->address = po__put(&at, cmd->worker_register.address).data;
    w->labels = put_labels(m, &at, cmd);
    put_offers(w->offers, &at, cmd, order);
    put_stocks(w, &at, cmd);
    if (m->err)
        return;
    read_labels(w, labels);
    w->slots = cmd->worker_register.slots;
    w->more = cmd->type == PO__CMD_WORKER_REGISTER_MORE;
    PO_INVARIANT((size_t)(at - w->text) <= text_bytes(cmd));
    w->bytes = registration_bytes(cmd);
    m->workers_bytes += w->bytes;
    m->workers_sharing += po__worker_shares(w);
    w->incarnation = cmd->worker_register.incarnation;
    w->heartbeat_ms = cmd->worker_register.heartbeat_ms ? cmd->worker_register.heartbeat_ms
                                                        : PO__HEARTBEAT_DEFAULT_MS;
    while (w->offers_count < n &&
           !po__offer_attach(m, &w->offers[w->offers_count], w, order[w->offers_count]->name))
        w->offers_count++;
}

struct po__worker *po__worker_make(struct po__model *m, uint64_t number, const struct po__cmd *cmd)
{
    struct po__worker *w = po__calloc(1, sizeof *w);
    if (!w) {
        po__oom(m);
        return NULL;
    }
    w->number = number;
    w->epoch = m->snap.epoch;
    w->status = PO_WORKER_OFFLINE;
    w->address = "";
    po__tree_node_init(&w->by_id);
    po__tree_node_init(&w->by_number);
    po__list_init(&w->tasks);
    announce(m, w, cmd);
    if (m->err) {
        po__worker_free(m, w);
        return NULL;
    }
    return w;
}

bool po__worker_link(struct po__model *m, struct po__worker *w)
{
    if (po__tree_insert(&m->workers, &w->by_id, id_cmp))
        return false;
    return !po__tree_insert(&m->workers_by_number, &w->by_number, number_cmp);
}

void po__worker_free(struct po__model *m, struct po__worker *w)
{
    withdraw(m, w);
    if (po__tree_linked(&w->by_number))
        po__tree_remove(&m->workers_by_number, &w->by_number);
    if (po__tree_linked(&w->by_id))
        po__tree_remove(&m->workers, &w->by_id);
    po__origin_put(m, w->origin);
    po__free(w);
}

/* ---- commands ---- */

void po__worker_set_status(struct po__model *m, struct po__worker *w, uint32_t status)
{
    po__offers_unlink(w);
    m->workers_online -= w->status == PO_WORKER_ONLINE;
    w->status = status;
    m->workers_online += w->status == PO_WORKER_ONLINE;
    po__offers_online(w);
    po__offers_link(w);
    if (status == PO_WORKER_ONLINE)
        po__worker_freed(m, w, NULL);
}

static void lose_leases(struct po__model *m, struct po__worker *w)
{
    struct po__list *l;
    while ((l = po__list_first(&w->tasks))) {
        struct po__task *t = po__container_of(l, struct po__task, worker_link);
        po__touch_task(m, t);
        po__lease_release(m, t, true);
        po__attempt_lost(m, t);
    }
}

static void lose_task(struct po__model *m, struct po__worker *w, struct po__task *t)
{
    po__list_remove(&t->worker_link);
    t->worker = NULL;
    if (t->lane->gate)
        po__gate_leave(m, t->lane->gate);
    po__fx(m, PO__FX_REVOKED, t->id, t->token, w->number);
    po__attempt_lost(m, t);
}

/* After a change of offers under the same incarnation: leases, oldest first, keep their slot if
 * there still is one. What they take of resources is counted anew, be it more than there is now. */
static void rebind_leases(struct po__model *m, struct po__worker *w)
{
    struct po__list *l = w->tasks.next;
    w->running = 0;
    while (l != &w->tasks) {
        struct po__task *t = po__container_of(l, struct po__task, worker_link);
        struct po__offer *o = po__offer_of(w, t->cap);
        l = l->next;
        if (o && o->running < o->slots) {
            po__lease_count(t, w, o, 1);
            continue;
        }
        po__touch_task(m, t);
        lose_task(m, w, t);
    }
}

static void register_again(struct po__model *m, struct po__worker *w, const struct po__cmd *cmd)
{
    uint32_t status = w->status;
    po__touch_worker(m, w);
    if (cmd->worker_register.incarnation > w->incarnation) {
        lose_leases(m, w);
        status = PO_WORKER_ONLINE;
    } else if (status == PO_WORKER_OFFLINE) {
        status = PO_WORKER_ONLINE; /* a draining worker goes on draining */
    }
    withdraw(m, w);
    announce(m, w, cmd);
    if (m->err)
        return;
    rebind_leases(m, w);
    po__worker_set_status(m, w, status);
}

void po__cmd_worker_register(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__worker *w = find(m, cmd->worker_register.id);
    uint64_t bytes = registration_bytes(cmd);
    if (w && cmd->worker_register.incarnation < w->incarnation) {
        po__refuse(m, PO_ESTALE,
                   "worker \"%s\": incarnation %llu is older than the registered %llu", w->id,
                   (unsigned long long)cmd->worker_register.incarnation,
                   (unsigned long long)w->incarnation);
        return;
    }
    if (!w && m->workers.count >= PO__WORKERS_MAX) {
        po__refuse(m, PO_EQUOTA, "%d workers are registered, which is the limit; deregister some",
                   PO__WORKERS_MAX);
        return;
    }
    if (m->workers_bytes - (w ? w->bytes : 0) + bytes > PO__WORKERS_MAX_BYTES) {
        po__refuse(
            m, PO_EQUOTA,
            "registrations hold %llu bytes, the limit is %llu; send smaller schemas and labels",
            (unsigned long long)m->workers_bytes, (unsigned long long)PO__WORKERS_MAX_BYTES);
        return;
    }
    if (w) {
        register_again(m, w, cmd);
    } else {
        w = po__worker_make(m, m->next_worker, cmd);
        if (!w)
            return;
        m->next_worker++;
        PO_INVARIANT(po__worker_link(m, w));
        po__worker_set_status(m, w, PO_WORKER_ONLINE);
    }
    m->result.id = w->number;
    po__fx(m, PO__FX_WORKER_CHANGED, 0, 0, w->number);
    po__news_worker(m, PO_WATCH_WORKER_REGISTERED, w);
}

/* The worker that a command means, or NULL with the refusal set. */
static struct po__worker *meant(struct po__model *m, struct po__slice id, uint64_t incarnation)
{
    struct po__worker *w = find(m, id);
    if (!w) {
        po__refuse(m, PO_ENOTFOUND, "no worker \"%.*s\" is registered", (int)id.len, id.data);
        return NULL;
    }
    if (incarnation && incarnation != w->incarnation) {
        po__refuse(m, PO_ESTALE, "worker \"%s\": incarnation %llu is not the registered %llu",
                   w->id, (unsigned long long)incarnation, (unsigned long long)w->incarnation);
        return NULL;
    }
    m->result.id = w->number;
    return w;
}

void po__cmd_worker_status(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__worker *w = meant(m, cmd->worker_status.id, cmd->worker_status.incarnation);
    if (!w || w->status == cmd->worker_status.status)
        return;
    po__touch_worker(m, w);
    po__worker_set_status(m, w, cmd->worker_status.status);
    if (w->status == PO_WORKER_OFFLINE)
        lose_leases(m, w);
    po__fx(m, PO__FX_WORKER_CHANGED, 0, 0, w->number);
    po__news_worker(m, PO_WATCH_WORKER_STATUS, w);
}

void po__cmd_worker_deregister(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__worker *w = meant(m, cmd->worker_deregister.id, cmd->worker_deregister.incarnation);
    if (!w)
        return;
    po__touch_worker(m, w);
    po__worker_set_status(m, w, PO_WORKER_OFFLINE);
    lose_leases(m, w);
    po__fx(m, PO__FX_WORKER_GONE, 0, 0, w->number);
    po__news_worker(m, PO_WATCH_WORKER_GONE, w);
    po__worker_free(m, w);
}
