/* Idempotency keys of tasks: millions of random keys, looked up by every submission.
 *
 * One tree would cost a cache miss per level, one hash table a long stop whenever it grows, and
 * degrade to a list under keys that were chosen to collide. So: linear hashing, which splits one
 * bucket per insertion, with a small tree in each bucket. Two tasks per bucket on average; O(log n)
 * whatever the keys. Buckets live in segments and are never merged again; their number is bounded
 * by that of the tasks. Nothing observable depends on the order in here. */
#include "impl.h"

#define SEGMENT_BUCKETS  1024u
#define TASKS_PER_BUCKET 2u
#define SEGMENTS_MAX                                                                               \
    ((PO__TASKS_UNFINISHED_MAX + PO__TASKS_FINISHED_MAX) / (TASKS_PER_BUCKET * SEGMENT_BUCKETS) + 1)

struct key {
    uint64_t hash;
    struct po__slice key;
};

static struct po__task *task_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__task, by_key);
}

static int key_key(const void *key, const struct po__tree_node *n)
{
    const struct key *k = key;
    const struct po__task *t = task_of(n);
    int c = po__cmp_u64(k->hash, t->key_hash);
    return c ? c : po__slice_cmp(k->key, t->key);
}

static int key_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct key key = {task_of(a)->key_hash, task_of(a)->key};
    return key_key(&key, b);
}

static struct po__tree *bucket_at(const struct po__key_index *x, uint32_t i)
{
    return &x->segments[i / SEGMENT_BUCKETS][i % SEGMENT_BUCKETS];
}

/* Buckets below `buckets - base` are split already and need one more bit of the hash. */
static struct po__tree *bucket(const struct po__key_index *x, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (2 * x->base - 1);
    return bucket_at(x, i < x->buckets ? i : i - x->base);
}

/* Makes room for bucket number x->buckets. */
static bool add_segment(struct po__key_index *x)
{
    uint32_t s = x->buckets / SEGMENT_BUCKETS;
    if (!x->segments && !(x->segments = po__calloc(SEGMENTS_MAX, sizeof *x->segments)))
        return false;
    if (s == SEGMENTS_MAX)
        return false;
    if (!x->segments[s])
        x->segments[s] = po__calloc(SEGMENT_BUCKETS, sizeof **x->segments);
    return x->segments[s] != NULL;
}

/* One bucket more: the tasks of its sibling that belong into it move. Without memory the index only
 * gets slower. */
static void split(struct po__key_index *x)
{
    if (!add_segment(x))
        return;
    struct po__tree *from = bucket_at(x, x->buckets - x->base), *to = bucket_at(x, x->buckets);
    struct po__tree_node *next;
    x->buckets++;
    for (struct po__tree_node *n = po__tree_first(from); n; n = next) {
        next = po__tree_next(n);
        if (bucket(x, task_of(n)->key_hash) != to)
            continue;
        po__tree_remove(from, n);
        PO_INVARIANT(!po__tree_insert(to, n, key_cmp));
    }
    if (x->buckets == 2 * x->base)
        x->base *= 2;
}

struct po__task *po__key_find(const struct po__key_index *x, struct po__slice key)
{
    if (key.len == 0 || x->buckets == 0)
        return NULL;
    const struct key k = {po__hash(key), key};
    struct po__tree_node *n = po__tree_find(bucket(x, k.hash), &k, key_key);
    return n ? task_of(n) : NULL;
}

int po__key_add(struct po__key_index *x, struct po__task *t)
{
    if (x->buckets == 0) {
        if (!add_segment(x))
            return PO_ENOMEM;
        x->buckets = x->base = 1;
    }
    if (po__tree_insert(bucket(x, t->key_hash), &t->by_key, key_cmp))
        return PO_EEXISTS;
    if (++x->count > (uint64_t)TASKS_PER_BUCKET * x->buckets)
        split(x);
    return 0;
}

void po__key_remove(struct po__key_index *x, struct po__task *t)
{
    po__tree_remove(bucket(x, t->key_hash), &t->by_key);
    x->count--;
}

void po__key_index_fini(struct po__key_index *x)
{
    for (uint32_t s = 0; s * SEGMENT_BUCKETS < x->buckets; s++)
        po__free(x->segments[s]);
    po__free(x->segments);
    *x = (struct po__key_index){0};
}
