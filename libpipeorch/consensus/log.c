#include "log.h"

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../base/assert.h"

#define LOG_SLOTS_MIN 64

struct po__block *po__block_new(size_t bytes)
{
    PO_PRE(bytes <= UINT32_MAX);
    struct po__block *b = po__malloc(sizeof *b + bytes);
    if (!b)
        return NULL;
    b->refs = 1;
    b->bytes = (uint32_t)bytes;
    return b;
}

void po__block_unref(struct po__block *b)
{
    if (b && --b->refs == 0)
        po__free(b);
}

static struct po__log_slot *slot_at(const struct po__log *l, size_t i)
{
    return &l->slots[(l->head + i) & (l->cap - 1)];
}

void po__log_init(struct po__log *l, uint64_t first)
{
    *l = (struct po__log){.first = first};
}

void po__log_fini(struct po__log *l)
{
    po__log_reset(l, l->first);
    po__free(l->slots);
    *l = (struct po__log){0};
}

int po__log_reserve(struct po__log *l, size_t extra_count)
{
    size_t cap = l->cap ? l->cap : LOG_SLOTS_MIN;

    if (l->cap - l->count >= extra_count)
        return 0;
    while (cap - l->count < extra_count)
        cap *= 2;
    struct po__log_slot *slots = po__calloc(cap, sizeof *slots);
    if (!slots)
        return PO_ENOMEM;
    for (size_t i = 0; i < l->count; i++)
        slots[i] = *slot_at(l, i);
    po__free(l->slots);
    l->slots = slots;
    l->cap = cap;
    l->head = 0;
    return 0;
}

void po__log_append(struct po__log *l, struct po__block *block, const struct po__rec *rec,
                    uint64_t write)
{
    PO_PRE(l->count < l->cap);
    PO_PRE(rec->index == l->first + l->count);
    *slot_at(l, l->count++) = (struct po__log_slot){po__block_ref(block), rec, write};
    l->bytes += PO__REC_BYTES(rec->len);
}

static void drop(struct po__log *l, struct po__log_slot *s)
{
    l->bytes -= PO__REC_BYTES(s->rec->len);
    po__block_unref(s->block);
    *s = (struct po__log_slot){0};
}

void po__log_truncate(struct po__log *l, uint64_t index)
{
    PO_PRE(index >= l->first);
    while (l->count && l->first + l->count > index)
        drop(l, slot_at(l, --l->count));
}

void po__log_trim(struct po__log *l, uint64_t index)
{
    while (l->count && l->first <= index) {
        drop(l, slot_at(l, 0));
        l->head = (l->head + 1) & (l->cap - 1);
        l->first++;
        l->count--;
    }
}

void po__log_reset(struct po__log *l, uint64_t first)
{
    while (l->count)
        drop(l, slot_at(l, --l->count));
    l->head = 0;
    l->first = first;
}

const struct po__log_slot *po__log_get(const struct po__log *l, uint64_t index)
{
    if (index < l->first || index - l->first >= l->count)
        return NULL;
    return slot_at(l, index - l->first);
}

uint64_t po__log_durable(const struct po__log *l, uint64_t from, uint64_t completed_write)
{
    const struct po__log_slot *s;
    while ((s = po__log_get(l, from + 1)) && s->write <= completed_write)
        from++;
    return from;
}

uint64_t po__log_count_back(const struct po__log *l, uint64_t index, uint64_t bytes)
{
    const struct po__log_slot *s;
    uint64_t count = 0;
    while ((s = po__log_get(l, index - count)) && PO__REC_BYTES(s->rec->len) <= bytes) {
        bytes -= PO__REC_BYTES(s->rec->len);
        count++;
    }
    return count;
}
