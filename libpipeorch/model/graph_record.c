/* What a run has beyond the first release, as the last field of its snapshot record, and the
 * results that are kept: written and read here, side by side.
 *
 *   [parent, parent_step, parent_item, depth, priority, scheduled_ms, resumed_from, reused_count,
 *    ending, output, [step, ...]]           no steps: a chain
 *   step: nil (waiting) or [state, cached, reused, id, attempts, started_ms, finished_ms,
 *    origin id, origin zone, output, error, [total, succeeded, failed], map]
 *   map: nil or [list, [[state, id, output], ...]]     the elements that have started
 *
 * A kept result is [section, id of its task, made_ms, used_ms, capability, version, input, output].
 */
#include "impl.h"

#define MORE_FIELDS 11
#define STEP_FIELDS 13
#define ITEM_FIELDS 3

/* ---- write ---- */

static void put_map(struct po__buf *b, const struct po__map_run *map)
{
    if (!map) {
        po__mpw_nil(b);
        return;
    }
    po__mpw_array(b, 2);
    po__mpw_str(b, map->list);
    po__mpw_array(b, map->started);
    for (uint32_t i = 0; i < map->started; i++) {
        po__mpw_array(b, ITEM_FIELDS);
        po__mpw_uint(b, map->items[i].state);
        po__mpw_uint(b, map->items[i].id);
        po__mpw_str(b, map->items[i].output);
    }
}

static void put_step(struct po__buf *b, const struct po__step_state *s)
{
    if (s->state == PO__STEP_WAITING) {
        po__mpw_nil(b);
        return;
    }
    po__mpw_array(b, STEP_FIELDS);
    po__mpw_uint(b, s->state);
    po__mpw_bool(b, s->cached);
    po__mpw_bool(b, s->reused);
    po__mpw_uint(b, s->id);
    po__mpw_uint(b, s->attempts);
    po__mpw_uint(b, s->started_ms);
    po__mpw_uint(b, s->finished_ms);
    po__mpw_str(b, s->origin ? s->origin->id : po__slice(NULL, 0));
    po__mpw_str(b, s->origin ? s->origin->zone : po__slice(NULL, 0));
    po__mpw_str(b, s->output);
    po__mpw_str(b, s->error);
    po__mpw_array(b, 3);
    po__mpw_uint(b, s->items_total);
    po__mpw_uint(b, s->items_succeeded);
    po__mpw_uint(b, s->items_failed);
    put_map(b, s->map);
}

void po__record_more(struct po__buf *b, const struct po__run *r)
{
    const struct po__run_more *g = r->more;
    po__mpw_array(b, MORE_FIELDS);
    po__mpw_uint(b, g->parent);
    po__mpw_uint(b, g->parent_step);
    po__mpw_uint(b, g->parent_item);
    po__mpw_uint(b, g->depth);
    po__mpw_uint(b, g->priority);
    po__mpw_uint(b, g->scheduled_ms);
    po__mpw_uint(b, g->resumed_from);
    po__mpw_uint(b, g->reused_count);
    po__mpw_uint(b, g->ending);
    po__mpw_str(b, g->output);
    po__mpw_array(b, g->steps ? r->def->steps_count : 0);
    for (uint32_t i = 0; g->steps && i < r->def->steps_count; i++)
        put_step(b, &g->steps[i]);
}

/* ---- read; each returns 0, PO_ECORRUPT, PO_ENOMEM ---- */

static uint64_t u64(struct po__mpr *r)
{
    return po__mpr_uint(r, UINT64_MAX);
}

static uint32_t u32(struct po__mpr *r)
{
    return (uint32_t)po__mpr_uint(r, UINT32_MAX);
}

static int own(struct po__run *run, struct po__slice *field, struct po__slice text)
{
    *field = po__slice(text.len ? po__strndup(text.data, text.len) : NULL, text.len);
    run->more->bytes += text.len;
    return text.len && !field->data ? PO_ENOMEM : 0;
}

static int json(struct po__run *run, struct po__mpr *r, struct po__slice *field)
{
    struct po__slice text = po__mpr_str(r, PO__RUN_MAX_BYTES);
    if (r->err || (text.len && !po__json_ok(text)))
        return PO_ECORRUPT;
    return own(run, field, text);
}

static int read_item(struct po__run *run, struct po__mpr *r, struct po__map_run *map)
{
    struct po__item *it = &map->items[map->started++];
    if (po__mpr_array(r, ITEM_FIELDS) != ITEM_FIELDS)
        po__mpr_fail(r);
    it->state = (uint32_t)po__mpr_uint(r, PO__STEP_CANCELLED);
    it->id = u64(r);
    int rv = json(run, r, &it->output);
    map->running += it->state == PO__STEP_RUNNING;
    map->succeeded += it->state == PO__STEP_SUCCEEDED;
    map->failed += it->state == PO__STEP_FAILED;
    if (!rv && (it->state < PO__STEP_RUNNING || it->state == PO__STEP_SKIPPED ||
                !po__json_next(&map->next)))
        rv = PO_ECORRUPT;
    return rv;
}

static int read_map(struct po__run *run, struct po__mpr *r, struct po__step_state *s)
{
    if (po__mpr_peek(r) == PO__MP_NIL) {
        po__mpr_nil(r);
        return r->err ? PO_ECORRUPT : 0;
    }
    if (po__mpr_array(r, 2) != 2)
        po__mpr_fail(r);
    struct po__slice list = po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
    bool expected = s->state == PO__STEP_RUNNING || run->more->ending;
    if (r->err || !expected || !po__json_ok(list) ||
        po__json_type(po__json_root(list)) != PO__JSON_ARRAY)
        return PO_ECORRUPT;
    size_t total = po__json_count(po__json_root(list));
    uint32_t started = po__mpr_array(r, PO__MAP_MAX);
    if (r->err || total == 0 || total > PO__MAP_MAX || started > total)
        return PO_ECORRUPT;
    s->map = po__map_make(list, (uint32_t)total);
    if (!s->map)
        return PO_ENOMEM;
    run->more->bytes += po__map_bytes(s->map);
    int rv = 0;
    for (uint32_t i = 0; i < started && !rv; i++)
        rv = read_item(run, r, s->map);
    return rv;
}

static int read_origin(struct po__model *m, struct po__mpr *r, struct po__step_state *s)
{
    struct po__slice id = po__mpr_str(r, PO_NAME_MAX_BYTES);
    struct po__slice zone = po__mpr_str(r, PO_NAME_MAX_BYTES);
    if (r->err || (id.len == 0 && zone.len == 0))
        return 0;
    if (!po__name_ok(id) || !po__name_ok(zone))
        return PO_ECORRUPT;
    s->origin = po__origin_get(m, id, zone);
    return s->origin ? 0 : PO_ENOMEM;
}

static int read_step(struct po__model *m, struct po__mpr *r, struct po__run *run, uint32_t i)
{
    struct po__step_state *s = &run->more->steps[i];
    if (po__mpr_peek(r) == PO__MP_NIL) {
        po__mpr_nil(r);
        return r->err ? PO_ECORRUPT : 0;
    }
    if (po__mpr_array(r, STEP_FIELDS) != STEP_FIELDS)
        po__mpr_fail(r);
    s->state = (uint32_t)po__mpr_uint(r, PO__STEP_CANCELLED);
    s->cached = po__mpr_bool(r);
    s->reused = po__mpr_bool(r);
    s->id = u64(r);
    s->attempts = u32(r);
    s->started_ms = u64(r);
    s->finished_ms = u64(r);
    int rv = read_origin(m, r, s);
    rv = rv ? rv : json(run, r, &s->output);
    rv = rv ? rv : own(run, &s->error, po__mpr_str(r, PO__STEP_ERROR_MAX_BYTES));
    if (po__mpr_array(r, 3) != 3)
        po__mpr_fail(r);
    s->items_total = (uint32_t)po__mpr_uint(r, PO__MAP_MAX);
    s->items_succeeded = (uint32_t)po__mpr_uint(r, PO__MAP_MAX);
    s->items_failed = (uint32_t)po__mpr_uint(r, PO__MAP_MAX);
    rv = rv ? rv : read_map(run, r, s);
    return rv ? rv : r->err || s->state < PO__STEP_RUNNING ? PO_ECORRUPT : 0;
}

static int read_graph(struct po__model *m, struct po__mpr *r, struct po__run *run)
{
    int rv = json(run, r, &run->more->output);
    uint32_t n = po__mpr_array(r, PO_STEPS_MAX);
    if (!rv && (r->err || n != (run->def->graph ? run->def->steps_count : 0)))
        rv = PO_ECORRUPT;
    for (uint32_t i = 0; i < n && !rv; i++)
        rv = read_step(m, r, run, i);
    if (!rv && run->more->bytes > PO__RUN_MAX_BYTES)
        rv = PO_ECORRUPT;
    return rv || !run->def->graph ? rv : po__graph_derive(run);
}

/* The fields that make the run come first: they are read before it is made. */
int po__restore_more_head(struct po__mpr *r, struct po__run_spec *spec, uint32_t *reused_count,
                          uint32_t *ending)
{
    if (po__mpr_array(r, MORE_FIELDS) != MORE_FIELDS)
        po__mpr_fail(r);
    spec->parent = u64(r);
    spec->parent_step = u32(r);
    spec->parent_item = u32(r);
    spec->depth = (uint32_t)po__mpr_uint(r, PO__RUN_DEPTH_MAX);
    spec->priority = (uint32_t)po__mpr_uint(r, PO_PRIORITY_MAX);
    spec->scheduled_ms = u64(r);
    spec->resumed_from = u64(r);
    *reused_count = (uint32_t)po__mpr_uint(r, PO_STEPS_MAX);
    *ending = (uint32_t)po__mpr_uint(r, PO_RUN_CANCELLED);
    return r->err ? PO_ECORRUPT : 0;
}

int po__restore_more(struct po__model *m, struct po__mpr *r, struct po__run *run)
{
    return read_graph(m, r, run);
}

/* ---- results that are kept ---- */

void po__record_cached(struct po__buf *b, const struct po__cached *c)
{
    po__mpw_array(b, 8);
    po__mpw_uint(b, PO__SECTION_CACHE);
    po__mpw_uint(b, c->id);
    po__mpw_uint(b, c->made_ms);
    po__mpw_uint(b, c->used_ms);
    po__mpw_str(b, c->capability);
    po__mpw_str(b, c->version);
    po__mpw_str(b, c->input);
    po__mpw_str(b, c->output);
}

int po__restore_cached(struct po__model *m, struct po__mpr *r, uint64_t id)
{
    uint64_t made_ms = u64(r), used_ms = u64(r);
    struct po__slice capability = po__mpr_str(r, PO_NAME_MAX_BYTES);
    struct po__slice version = po__mpr_str(r, PO_NAME_MAX_BYTES);
    struct po__slice input = po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
    struct po__slice output = po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
    if (r->err || id >= m->next_task || !po__capability_ok(capability) || !po__semver_ok(version) ||
        !po__json_ok(input) || !po__json_ok(output) || made_ms > used_ms || used_ms > m->now_ms)
        return PO_ECORRUPT;
    struct po__cached *c = po__cached_make(id, capability, version, input, output);
    if (!c)
        return PO_ENOMEM;
    c->made_ms = made_ms;
    c->used_ms = used_ms;
    if (po__cached_link(m, c))
        return 0;
    po__cached_free(m, c);
    return PO_ECORRUPT;
}
