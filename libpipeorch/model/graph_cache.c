/* Results that are kept for equal inputs: of steps that ask for it, by capability, version of the
 * worker that made the result, and the whole input.
 *
 * A look-up asks for the highest version that some worker offers now and the step allows: a result
 * of another version may be another one. It happens inside of apply, so which result was used last
 * is the same on every node, and the one that was not used for longest goes first. */
#include "impl.h"

static struct po__cached *keyed(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__cached, by_key);
}

static struct po__cached *used(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__cached, by_use);
}

static int id_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(po__container_of(a, struct po__cached, by_id)->id,
                       po__container_of(b, struct po__cached, by_id)->id);
}

static int id_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, po__container_of(n, struct po__cached, by_id)->id);
}

static int key_compare(const struct po__cached *a, const struct po__cached *b)
{
    int c = po__cmp_u64(a->hash, b->hash);
    c = c ? c : po__slice_cmp(a->capability, b->capability);
    c = c ? c : po__slice_cmp(a->version, b->version);
    return c ? c : po__slice_cmp(a->input, b->input);
}

static int key_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return key_compare(keyed(a), keyed(b));
}

static int key_key(const void *key, const struct po__tree_node *n)
{
    return key_compare(key, keyed(n));
}

static int use_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    int c = po__cmp_u64(used(a)->used_ms, used(b)->used_ms);
    return c ? c : po__cmp_u64(used(a)->id, used(b)->id);
}

struct po__tree_node *po__cached_after(const struct po__model *m, uint64_t id)
{
    uint64_t from = id + 1;
    return id == UINT64_MAX ? NULL : po__tree_lower_bound(&m->cache.by_id, &from, id_key);
}

uint64_t po__cached_bytes(const struct po__cached *c)
{
    return c->capability.len + c->version.len + c->input.len + c->output.len;
}

struct po__cached *po__cached_make(uint64_t id, struct po__slice capability,
                                   struct po__slice version, struct po__slice input,
                                   struct po__slice output)
{
    struct po__cached *c =
        po__calloc(1, sizeof *c + capability.len + version.len + input.len + output.len + 4);
    if (!c)
        return NULL;
    char *at = c->text;
    c->id = id;
    c->capability = po__put(&at, capability);
    c->version = po__put(&at, version);
    c->input = po__put(&at, input);
    c->output = po__put(&at, output);
    c->hash = po__hash(c->input);
    po__tree_node_init(&c->by_id);
    po__tree_node_init(&c->by_key);
    po__tree_node_init(&c->by_use);
    return c;
}

bool po__cached_link(struct po__model *m, struct po__cached *c)
{
    if (po__tree_insert(&m->cache.by_id, &c->by_id, id_cmp))
        return false;
    if (po__tree_insert(&m->cache.by_key, &c->by_key, key_cmp)) {
        po__tree_remove(&m->cache.by_id, &c->by_id);
        return false;
    }
    PO_INVARIANT(!po__tree_insert(&m->cache.by_use, &c->by_use, use_cmp)); /* ids differ */
    m->cache.bytes += po__cached_bytes(c);
    return true;
}

void po__cached_free(struct po__model *m, struct po__cached *c)
{
    if (po__tree_linked(&c->by_id)) {
        po__tree_remove(&m->cache.by_id, &c->by_id);
        po__tree_remove(&m->cache.by_key, &c->by_key);
        po__tree_remove(&m->cache.by_use, &c->by_use);
        m->cache.bytes -= po__cached_bytes(c);
    }
    po__free(c);
}

static void drop(struct po__model *m, struct po__cached *c)
{
    po__touch_cached(m, c);
    po__cached_free(m, c);
}

static void mark_used(struct po__model *m, struct po__cached *c)
{
    po__touch_cached(m, c);
    po__tree_remove(&m->cache.by_use, &c->by_use);
    c->used_ms = m->now_ms;
    PO_INVARIANT(!po__tree_insert(&m->cache.by_use, &c->by_use, use_cmp));
}

/* The highest version that is offered by somebody who is online and that the step allows; empty:
 * none. */
static struct po__slice version_now(const struct po__model *m, const struct po__graph_step *s)
{
    const struct po__capability *cap = po__cap_find(m, s->capability);
    struct po__slice best = po__slice(NULL, 0);
    struct po__extra extra = {0};
    struct po__placement place = {0};
    if (!cap)
        return best;
    PO_INVARIANT(s->extra.len == 0 || po__extra_decode(s->extra, &extra) == 0);
    PO_INVARIANT(po__placement_decode(extra.placement, &place) == 0);
    for (struct po__tree_node *n = po__tree_first(&cap->groups); n; n = po__tree_next(n)) {
        const struct po__group *g = po__container_of(n, struct po__group, by_profile);
        if (g->online_count && po__range_has(place.range, g->version) &&
            (best.len == 0 || po__semver_cmp(g->version, best) > 0))
            best = g->version;
    }
    return best;
}

static struct po__cached *find(const struct po__model *m, struct po__slice capability,
                               struct po__slice version, struct po__slice input)
{
    const struct po__cached key = {
        .capability = capability, .version = version, .input = input, .hash = po__hash(input)};
    struct po__tree_node *n = po__tree_find(&m->cache.by_key, &key, key_key);
    return n ? keyed(n) : NULL;
}

static bool too_old(const struct po__model *m, const struct po__graph_step *s,
                    const struct po__cached *c)
{
    return s->cache_ms && m->now_ms - c->made_ms > s->cache_ms;
}

const struct po__cached *po__cache_find(struct po__model *m, const struct po__graph_step *s,
                                        struct po__slice input)
{
    if (!s->cache)
        return NULL;
    struct po__slice version = version_now(m, s);
    struct po__cached *c = version.len ? find(m, s->capability, version, input) : NULL;
    if (!c || too_old(m, s, c)) /* others may take an older one: it stays */
        return NULL;
    mark_used(m, c);
    return c;
}

/* The version that the task's worker has now; empty: it is gone, or offers it no more. */
static struct po__slice version_of(const struct po__model *m, const struct po__task *t)
{
    const struct po__worker *w = po__model_worker(m, t->origin->id);
    const struct po__offer *o = w ? po__offer_of(w, t->cap) : NULL;
    return o ? o->version : po__slice(NULL, 0);
}

/* The task has just succeeded. A newer result for the same input takes the place of an older one.
 */
void po__cache_add(struct po__model *m, const struct po__graph_step *s, const struct po__task *t)
{
    struct po__slice version = s->cache ? version_of(m, t) : po__slice(NULL, 0);
    if (version.len == 0)
        return;
    struct po__cached *old = find(m, t->capability, version, t->input);
    if (old)
        drop(m, old);
    struct po__cached *c = po__cached_make(t->id, t->capability, version, t->input, t->result);
    if (!c) {
        po__oom(m);
        return;
    }
    c->epoch = m->snap.epoch;
    c->made_ms = c->used_ms = m->now_ms;
    PO_INVARIANT(po__cached_link(m, c));
    while (m->cache.by_use.count > PO__CACHE_MAX || m->cache.bytes > PO__CACHE_MAX_BYTES)
        drop(m, used(po__tree_first(&m->cache.by_use)));
}
