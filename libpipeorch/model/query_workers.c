/* Queries about workers and what they offer. */
#include "query.h"

static void put_offer(struct po__buf *b, const struct po__offer *o)
{
    po__mpw_map(b, 5);
    po__kv_uint(b, "max_concurrency", o->slots);
    po__kv_text(b, "name", o->cap->name);
    po__kv_bool(b, "requires_gpu", o->requires_gpu);
    po__kv_uint(b, "running", o->running);
    po__kv_text(b, "version", o->version);
}

static void put_stocks(struct po__buf *b, const struct po__worker *w)
{
    po__mpw_cstr(b, "resources");
    po__mpw_map(b, w->stocks_count);
    for (uint32_t i = 0; i < w->stocks_count; i++) {
        po__mpw_str(b, w->stocks[i].name);
        po__mpw_map(b, 2);
        po__kv_uint(b, "amount", w->stocks[i].amount);
        po__kv_uint(b, "used", w->stocks[i].used);
    }
}

static void put_load(struct po__buf *b, const struct po__worker_load *l)
{
    po__mpw_map(b, 6);
    po__kv_uint(b, "cpu_load_centi", l->cpu_load_centi);
    po__kv_time(b, "memory_available_bytes", l->memory_available_bytes);
    po__kv_time(b, "memory_used_bytes", l->memory_used_bytes);
    po__kv_uint(b, "queued", l->queued);
    po__kv_time(b, "rtt_min_us", l->rtt_min_us);
    po__kv_uint(b, "running", l->running);
}

static void put_worker(struct po__buf *b, const struct po__worker *w, const struct po__soft *soft)
{
    const struct po__worker_load *load = soft ? soft->load(soft->arg, w->number) : NULL;
    po__mpw_map(b, 14);
    po__kv_text(b, "address", po__str(w->address));
    po__mpw_cstr(b, "capabilities");
    po__mpw_array(b, w->offers_count);
    for (uint32_t i = 0; i < w->offers_count; i++)
        put_offer(b, &w->offers[i]);
    po__kv_uint(b, "heartbeat_ms", w->heartbeat_ms);
    po__kv_text(b, "id", w->origin->id);
    po__kv_uint(b, "incarnation", w->incarnation);
    po__mpw_cstr(b, "labels");
    po__mpw_raw(b, w->labels);
    po__mpw_cstr(b, "load");
    if (load)
        put_load(b, load);
    else
        po__mpw_nil(b);
    po__kv_uint(b, "number", w->number);
    put_stocks(b, w);
    po__kv_time(b, "rtt_us", load ? load->rtt_us : 0);
    po__kv_uint(b, "running", w->running);
    if (w->slots)
        po__kv_uint(b, "slots", w->slots);
    else
        po__kv_time(b, "slots", 0);
    po__kv_word(b, "status", po__worker_word(w->status));
    po__kv_text(b, "zone", w->origin->zone);
}

int po__query_workers(const struct po__model *m, const struct po__query *q, struct po__buf *b)
{
    struct po__page p;
    po__page_begin(&p, q);
    for (const struct po__worker *w = po__worker_after(m, q->name); w;
         w = po__model_worker_next(m, w)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_name = w->origin->id;
        put_worker(&p.items, w, q->soft);
        p.count++;
    }
    po__mpw_map(b, 2);
    po__page_next_name(&p, b);
    po__page_items(&p, b, "workers");
    return 0;
}

struct totals {
    uint64_t slots, running, free_slots, online;
    bool gpu;
};

static const struct po__offer *offer_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__offer, by_worker);
}

/* What workers offer under one name, by version and gpu, in order of first appearance by worker
 * number. Workers that offer the same version are taken to mean the same schemas. */
#define KINDS_MAX 16
struct kind {
    const struct po__offer *first;
    uint32_t workers;
};

static uint32_t kinds_of(const struct po__capability *cap, struct kind *kinds)
{
    uint32_t count = 0, i;
    for (struct po__tree_node *n = po__tree_first(&cap->offers); n; n = po__tree_next(n)) {
        const struct po__offer *o = offer_of(n);
        for (i = 0; i < count; i++)
            if (kinds[i].first->requires_gpu == o->requires_gpu &&
                po__slice_eq(kinds[i].first->version, o->version))
                break;
        if (i == KINDS_MAX)
            continue;
        if (i == count)
            kinds[count++] = (struct kind){o, 0};
        kinds[i].workers++;
    }
    return count;
}

static void put_kinds(struct po__buf *b, const struct kind *kinds, uint32_t count)
{
    po__mpw_cstr(b, "kinds");
    po__mpw_array(b, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct po__offer *o = kinds[i].first;
        po__mpw_map(b, 5);
        po__kv_text(b, "input_schema", o->input_schema);
        po__kv_text(b, "output_schema", o->output_schema);
        po__kv_bool(b, "requires_gpu", o->requires_gpu);
        po__kv_text(b, "version", o->version);
        po__kv_uint(b, "workers", kinds[i].workers);
    }
}

static void put_versions(struct po__buf *b, const struct kind *kinds, uint32_t count)
{
    uint32_t distinct[KINDS_MAX], n = 0, k;
    for (uint32_t i = 0; i < count; i++) {
        for (k = 0; k < n; k++)
            if (po__slice_eq(kinds[distinct[k]].first->version, kinds[i].first->version))
                break;
        if (k == n)
            distinct[n++] = i;
    }
    po__mpw_cstr(b, "versions");
    po__mpw_array(b, n);
    for (k = 0; k < n; k++)
        po__mpw_str(b, kinds[distinct[k]].first->version);
}

static struct totals add_up(const struct po__capability *cap, uint32_t *looked_at)
{
    struct totals t = {0};
    for (struct po__tree_node *n = po__tree_first(&cap->offers); n; n = po__tree_next(n)) {
        const struct po__offer *o = offer_of(n);
        bool online = o->worker->status == PO_WORKER_ONLINE;
        t.slots += o->slots;
        t.running += o->running;
        t.online += online;
        t.free_slots += online ? o->slots - o->running : 0;
        t.gpu = t.gpu || o->requires_gpu;
        ++*looked_at;
    }
    return t;
}

static void put_capability(struct po__page *p, const struct po__capability *cap)
{
    struct po__buf *b = &p->items;
    struct kind kinds[KINDS_MAX];
    struct po__slice none = po__slice(NULL, 0);
    struct po__tree_node *n = po__tree_first(&cap->offers);
    uint32_t count = kinds_of(cap, kinds);
    struct totals t = add_up(cap, &p->looked_at);
    po__mpw_map(b, 12);
    po__kv_uint(b, "free_slots", t.free_slots);
    po__kv_text(b, "input_schema", n ? offer_of(n)->input_schema : none); /* of the first worker */
    put_kinds(b, kinds, count);
    po__kv_text(b, "name", cap->name);
    po__kv_text(b, "output_schema", n ? offer_of(n)->output_schema : none);
    po__kv_uint(b, "pending", cap->pending_count);
    po__kv_bool(b, "requires_gpu", t.gpu);
    po__kv_uint(b, "running", t.running);
    po__kv_uint(b, "slots", t.slots);
    put_versions(b, kinds, count);
    po__kv_uint(b, "workers", cap->offers.count);
    po__kv_uint(b, "workers_online", t.online);
}

/* Capabilities that only kept tasks name are listed too: something waits for them, or did. */
int po__query_capabilities(const struct po__model *m, const struct po__query *q, struct po__buf *b)
{
    struct po__page p;
    po__page_begin(&p, q);
    for (const struct po__capability *cap = po__cap_after(m, q->name); cap;
         cap = po__cap_after(m, cap->name)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_name = cap->name;
        put_capability(&p, cap);
        p.count++;
    }
    po__mpw_map(b, 2);
    po__page_items(&p, b, "capabilities");
    po__page_next_name(&p, b);
    return 0;
}
