/* Events lie one after the other in chunks, each as a fixed head with its texts behind it: adding
 * one is a copy, without an allocation in most cases, because it is on the path of every command of
 * every node. Nothing is encoded before somebody asks. Forgetting drops the oldest chunk as a
 * whole, so the ring always holds a run without a gap, which `kept` bounds. Who asks finds his
 * chunk by walking back from the newest: most ask for what has just come. */
#include "watch_ring.h"

#include "../base/alloc.h"
#include "../base/assert.h"

#define EVENT_FIELDS 13
#define CHUNKS_MAX   (PO__WATCH_RING_MAX_BYTES / PO__WATCH_CHUNK_BYTES)

struct record { /* followed by the texts: worker, name, step, error */
    struct po__watch_pos at;
    uint64_t time_ms, id, run_id, token;
    uint32_t kind, attempt, state;
    uint16_t worker_len, name_len, step_len, error_len;
};

struct chunk {
    struct po__list link;
    struct po__watch_pos last;
    uint32_t count;
    uint32_t used; /* bytes */
    uint8_t bytes[PO__WATCH_CHUNK_BYTES - sizeof(struct po__list) - 32];
};

static struct chunk *chunk_of(struct po__list *l)
{
    return po__container_of(l, struct chunk, link);
}

static void forget_oldest(struct po__watch_ring *r)
{
    struct chunk *c = chunk_of(po__list_first(&r->chunks));
    r->kept = c->last;
    r->count -= c->count;
    r->chunks_count--;
    po__list_remove(&c->link);
    po__free(c);
}

void po__watch_ring_init(struct po__watch_ring *r)
{
    *r = (struct po__watch_ring){.kept = {1, 0}, .end = {1, 0}};
    po__list_init(&r->chunks);
}

void po__watch_ring_reset(struct po__watch_ring *r, uint64_t index)
{
    while (r->chunks_count)
        forget_oldest(r);
    r->kept = r->end = (struct po__watch_pos){index + 1, 0};
}

void po__watch_ring_advance(struct po__watch_ring *r, uint64_t index)
{
    struct po__watch_pos end = {index + 1, 0};
    if (po__watch_pos_cmp(r->end, end) < 0)
        r->end = end;
}

/* ---- adding ---- */

static size_t record_bytes(const struct record *rec)
{
    size_t n = sizeof *rec + rec->worker_len + rec->name_len + rec->step_len + rec->error_len;
    return (n + 7) & ~(size_t)7; /* the next one is aligned */
}

/* The chunk with room for so many bytes; NULL: no memory. */
static struct chunk *room(struct po__watch_ring *r, size_t bytes)
{
    PO_INVARIANT(r->chunks.prev); /* it was initialised */
    struct chunk *c = r->chunks_count ? chunk_of(r->chunks.prev) : NULL;
    if (c && c->used + bytes <= sizeof c->bytes)
        return c;
    if (r->chunks_count == CHUNKS_MAX)
        forget_oldest(r);
    c = po__malloc(sizeof *c);
    if (!c)
        return NULL;
    c->count = c->used = 0;
    po__list_push(&r->chunks, &c->link);
    r->chunks_count++;
    return c;
}

static uint8_t *put(uint8_t *at, struct po__slice s)
{
    if (s.len)
        memcpy(at, s.data, s.len);
    return at + s.len;
}

void po__watch_ring_add(struct po__watch_ring *r, struct po__watch_pos at, uint64_t time_ms,
                        const struct po__news *e)
{
    struct record rec = {.at = at,
                         .time_ms = time_ms,
                         .id = e->id,
                         .run_id = e->run_id,
                         .token = e->token,
                         .kind = e->kind,
                         .attempt = e->attempt,
                         .state = e->state,
                         .worker_len = (uint16_t)e->worker.len,
                         .name_len = (uint16_t)e->name.len,
                         .step_len = (uint16_t)e->step.len,
                         .error_len = (uint16_t)e->error.len};
    PO_PRE(po__watch_pos_cmp(r->end, at) < 0);
    PO_PRE(e->worker.len <= PO_NAME_MAX_BYTES && e->name.len <= PO_NAME_MAX_BYTES &&
           e->step.len <= PO_NAME_MAX_BYTES && e->error.len <= PO__NEWS_ERROR_MAX_BYTES);
    r->end = at;
    while (r->count >= PO_WATCH_EVENTS_MAX)
        forget_oldest(r);
    struct chunk *c = room(r, record_bytes(&rec));
    if (!c) {
        while (r->chunks_count)
            forget_oldest(r);
        r->kept = at;
        return;
    }
    uint8_t *p = put(c->bytes + c->used, po__slice(&rec, sizeof rec));
    put(put(put(put(p, e->worker), e->name), e->step), e->error);
    c->used += (uint32_t)record_bytes(&rec);
    c->last = at;
    c->count++;
    r->count++;
}

/* ---- reading ---- */

static struct po__slice text(const char **at, uint16_t len)
{
    struct po__slice s = po__slice(*at, len);
    *at += len;
    return s;
}

/* The event at the record, its texts inside of the chunk. */
static void load(const struct record *rec, struct po__watch_event *e)
{
    const char *at = (const char *)(rec + 1);
    *e = (struct po__watch_event){.at = rec->at,
                                  .time_ms = rec->time_ms,
                                  .event = {.kind = rec->kind,
                                            .attempt = rec->attempt,
                                            .state = rec->state,
                                            .id = rec->id,
                                            .run_id = rec->run_id,
                                            .token = rec->token}};
    e->event.worker = text(&at, rec->worker_len);
    e->event.name = text(&at, rec->name_len);
    e->event.step = text(&at, rec->step_len);
    e->event.error = text(&at, rec->error_len);
}

static bool is_about_task(uint32_t kind)
{
    return (PO_WATCH_BIT(kind) & (PO_WATCH_TASKS | PO_WATCH_BIT(PO_WATCH_STEP_STARTED) |
                                  PO_WATCH_BIT(PO_WATCH_STEP_FINISHED))) != 0;
}

static bool wanted(const struct record *rec, const struct po__watch_filter *f)
{
    struct po__watch_event e;
    if (f->kinds && !(f->kinds & PO_WATCH_BIT(rec->kind)))
        return false;
    if (f->task_id && (rec->id != f->task_id || !is_about_task(rec->kind)))
        return false;
    if (f->run_id && rec->run_id != f->run_id)
        return false;
    if (!f->worker.len && !f->pipeline.len)
        return true;
    load(rec, &e);
    if (f->worker.len && !po__slice_eq(f->worker, e.event.worker))
        return false;
    return !f->pipeline.len ||
           ((PO_WATCH_BIT(rec->kind) & PO_WATCH_RUNS) && po__slice_eq(f->pipeline, e.event.name));
}

/* The oldest chunk with anything behind pos; the list's head: none. */
static const struct po__list *chunk_behind(const struct po__watch_ring *r, struct po__watch_pos pos)
{
    const struct po__list *l = &r->chunks;
    while (l->prev != &r->chunks && po__watch_pos_cmp(pos, chunk_of(l->prev)->last) < 0)
        l = l->prev;
    return l;
}

uint32_t po__watch_ring_read(const struct po__watch_ring *r, struct po__watch_pos *pos,
                             const struct po__watch_filter *f, uint32_t limit, size_t out_max_bytes,
                             struct po__buf *out)
{
    uint32_t count = 0;
    const struct po__list *l = chunk_behind(r, *pos);
    PO_PRE(po__watch_pos_cmp(r->kept, *pos) <= 0);
    for (; l != &r->chunks; l = l->next) {
        const struct chunk *c = chunk_of((struct po__list *)l);
        for (uint32_t at = 0; at < c->used;) {
            const struct record *rec = (const void *)(c->bytes + at);
            struct po__watch_event e;
            at += (uint32_t)record_bytes(rec);
            if (po__watch_pos_cmp(rec->at, *pos) <= 0)
                continue;
            if (wanted(rec, f)) {
                if (count == limit || (count && out->len >= out_max_bytes))
                    return count;
                load(rec, &e);
                po__watch_event_encode(out, &e);
                count++;
            }
            *pos = rec->at;
        }
    }
    if (po__watch_pos_cmp(*pos, r->end) < 0)
        *pos = r->end;
    return count;
}

/* ---- on the wire ---- */

void po__watch_event_encode(struct po__buf *b, const struct po__watch_event *e)
{
    po__mpw_array(b, EVENT_FIELDS);
    po__mpw_uint(b, e->at.index);
    po__mpw_uint(b, e->at.position);
    po__mpw_uint(b, e->time_ms);
    po__mpw_uint(b, e->event.kind);
    po__mpw_uint(b, e->event.id);
    po__mpw_uint(b, e->event.run_id);
    po__mpw_uint(b, e->event.token);
    po__mpw_uint(b, e->event.attempt);
    po__mpw_uint(b, e->event.state);
    po__mpw_str(b, e->event.worker);
    po__mpw_str(b, e->event.name);
    po__mpw_str(b, e->event.step);
    po__mpw_str(b, e->event.error);
}

int po__watch_event_decode(struct po__mpr *r, struct po__watch_event *e)
{
    uint32_t n = po__mpr_array(r, UINT32_MAX);
    memset(e, 0, sizeof *e);
    if (n < EVENT_FIELDS)
        po__mpr_fail(r);
    e->at.index = po__mpr_uint(r, UINT64_MAX);
    e->at.position = (uint32_t)po__mpr_uint(r, UINT32_MAX);
    e->time_ms = po__mpr_uint(r, UINT64_MAX);
    e->event.kind = (uint32_t)po__mpr_uint(r, INT32_MAX);
    e->event.id = po__mpr_uint(r, UINT64_MAX);
    e->event.run_id = po__mpr_uint(r, UINT64_MAX);
    e->event.token = po__mpr_uint(r, UINT64_MAX);
    e->event.attempt = (uint32_t)po__mpr_uint(r, UINT32_MAX);
    e->event.state = (uint32_t)po__mpr_uint(r, INT32_MAX);
    e->event.worker = po__mpr_str(r, PO_NAME_MAX_BYTES);
    e->event.name = po__mpr_str(r, PO_NAME_MAX_BYTES);
    e->event.step = po__mpr_str(r, PO_NAME_MAX_BYTES);
    e->event.error = po__mpr_str(r, PO__NEWS_ERROR_MAX_BYTES);
    for (; n > EVENT_FIELDS && !r->err; n--)
        po__mpr_skip(r);
    return r->err;
}
