/* Application commands, and the memory of those that carried an idempotency key.
 *
 * Every call through the public API carries a key, so this is on the path of every command of an
 * embedder and must be cheap: a ring in order of age (eviction is its head) and an open-addressing
 * index over it. The index is the only hash table of the state; it is looked up, never iterated, so
 * nothing observable depends on it. Keys chosen to collide cost their sender's cluster at most one
 * walk over the table per command. */
#include "impl.h"

#define RING_MIN 1024u

static uint32_t ring_at(const struct po__app_keys *k, uint64_t seq)
{
    return (uint32_t)(seq & (k->ring_cap - 1));
}

struct po__app_key *po__app_key_at(const struct po__app_keys *k, uint64_t seq)
{
    PO_PRE(seq >= k->first && seq < k->next);
    return k->ring[ring_at(k, seq)];
}

static struct po__slice key_of(const struct po__app_key *e)
{
    return po__slice(e->text, e->key_len);
}

struct po__slice po__app_key_result(const struct po__app_key *e)
{
    return po__slice(e->text + e->key_len, e->result_len);
}

/* A slot holds (hash << 32 | ring position + 1); 0 is empty. There are twice as many slots as
 * entries. */
static uint32_t slot_mask(const struct po__app_keys *k)
{
    return 2 * k->ring_cap - 1;
}

static void index_add(struct po__app_keys *k, const struct po__app_key *e)
{
    uint32_t mask = slot_mask(k), i = e->hash & mask;
    while (k->slots[i])
        i = (i + 1) & mask;
    k->slots[i] = (uint64_t)e->hash << 32 | (ring_at(k, e->seq) + 1);
}

/* Slot of the entry at that ring position, which is in the index. */
static uint32_t index_slot(const struct po__app_keys *k, const struct po__app_key *e)
{
    uint32_t mask = slot_mask(k), i = e->hash & mask;
    uint64_t wanted = (uint64_t)e->hash << 32 | (ring_at(k, e->seq) + 1);
    while (k->slots[i] != wanted) {
        PO_INVARIANT(k->slots[i] != 0);
        i = (i + 1) & mask;
    }
    return i;
}

/* Linear probing without tombstones: what follows the hole moves into it unless that would put it
 * before its home. */
static void index_remove(struct po__app_keys *k, const struct po__app_key *e)
{
    uint32_t mask = slot_mask(k), hole = index_slot(k, e);
    for (uint32_t i = (hole + 1) & mask; k->slots[i]; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)(k->slots[i] >> 32) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            k->slots[hole] = k->slots[i];
            hole = i;
        }
    }
    k->slots[hole] = 0;
}

const struct po__app_key *po__app_key_find(const struct po__app_keys *k, struct po__slice key)
{
    if (key.len == 0 || k->ring_cap == 0)
        return NULL;
    uint32_t mask = slot_mask(k), hash = (uint32_t)(po__hash(key) >> 32);
    for (uint32_t i = hash & mask; k->slots[i]; i = (i + 1) & mask) {
        if ((uint32_t)(k->slots[i] >> 32) != hash)
            continue;
        const struct po__app_key *e = k->ring[(uint32_t)k->slots[i] - 1];
        if (po__slice_eq(key_of(e), key))
            return e;
    }
    return NULL;
}

static int grow(struct po__app_keys *k)
{
    struct po__app_keys bigger = *k;
    bigger.ring_cap = k->ring_cap ? k->ring_cap * 2 : RING_MIN;
    bigger.ring = po__calloc(bigger.ring_cap, sizeof *bigger.ring);
    bigger.slots = po__calloc(2 * (size_t)bigger.ring_cap, sizeof *bigger.slots);
    if (!bigger.ring || !bigger.slots) {
        po__free(bigger.ring);
        po__free(bigger.slots);
        return PO_ENOMEM;
    }
    for (uint64_t seq = k->first; seq < k->next; seq++) {
        struct po__app_key *e = po__app_key_at(k, seq);
        bigger.ring[ring_at(&bigger, seq)] = e;
        index_add(&bigger, e);
    }
    po__free(k->ring);
    po__free(k->slots);
    *k = bigger;
    return 0;
}

static void evict(struct po__model *m)
{
    struct po__app_keys *k = &m->app_keys;
    struct po__app_key *e = po__app_key_at(k, k->first);
    po__touch_app_key(m, e);
    index_remove(k, e);
    k->bytes -= e->result_len;
    k->ring[ring_at(k, k->first)] = NULL;
    k->first++;
    po__free(e);
}

int po__app_key_add(struct po__model *m, struct po__slice key, struct po__slice result)
{
    struct po__app_keys *k = &m->app_keys;
    while (k->next - k->first >= PO__APP_KEYS_MAX ||
           (k->next > k->first && k->bytes + result.len > PO__APP_KEYS_MAX_BYTES))
        evict(m);
    struct po__app_key *e = po__malloc(sizeof *e + key.len + result.len);
    if (!e || (k->next - k->first == k->ring_cap && grow(k))) {
        po__free(e);
        po__oom(m);
        return PO_ENOMEM;
    }
    *e = (struct po__app_key){
        .seq = k->next,
        .hash = (uint32_t)(po__hash(key) >> 32),
        .key_len = (uint32_t)key.len,
        .result_len = (uint32_t)result.len,
    };
    memcpy(e->text, key.data, key.len);
    if (result.len)
        memcpy(e->text + key.len, result.data, result.len);
    k->ring[ring_at(k, k->next++)] = e;
    k->bytes += result.len;
    index_add(k, e);
    return 0;
}

void po__app_keys_fini(struct po__app_keys *k)
{
    for (uint64_t seq = k->first; seq < k->next; seq++)
        po__free(po__app_key_at(k, seq));
    po__free(k->ring);
    po__free(k->slots);
    *k = (struct po__app_keys){0};
}

void po__cmd_app(struct po__model *m, const struct po__cmd *cmd)
{
    const struct po__app_key *known = po__app_key_find(&m->app_keys, cmd->app.key);
    if (known) { /* a repeat: the same answer, and nothing is applied */
        m->result.data = po__app_key_result(known);
        return;
    }
    if (!m->sm || !m->sm->apply) {
        m->err = PO_EFAULT;
        return;
    }
    if (!m->app_result && !(m->app_result = po__malloc(PO_PAYLOAD_MAX_BYTES))) {
        po__oom(m);
        return;
    }
    size_t len = PO_PAYLOAD_MAX_BYTES;
    if (m->sm->apply(m->sm->arg, m->index, cmd->app.data.data, cmd->app.data.len, m->app_result,
                     &len) ||
        len > PO_PAYLOAD_MAX_BYTES) {
        m->err = PO_EFAULT;
        return;
    }
    m->result.data = po__slice(m->app_result, len);
    if (cmd->app.key.len)
        po__app_key_add(m, cmd->app.key, m->result.data);
}
