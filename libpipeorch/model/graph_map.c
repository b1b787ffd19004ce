/* Fan-out: a step that runs once for each element of a list. The list is made when the step begins
 * and kept as text; elements are started in its order, so many at once as the step allows, and
 * their outputs kept until all are there. */
#include "impl.h"

#include <inttypes.h>
#include <stdio.h>

struct po__map_run *po__map_make(struct po__slice list, uint32_t total)
{
    struct po__map_run *map = po__calloc(1, sizeof *map + total * sizeof *map->items);
    char *text = map ? po__strndup(list.data, list.len) : NULL;
    if (!text) {
        po__free(map);
        return NULL;
    }
    map->list = po__slice(text, list.len);
    map->total = total;
    po__json_iter(&map->next, po__json_root(map->list));
    return map;
}

void po__map_free(struct po__map_run *map)
{
    if (!map)
        return;
    for (uint32_t i = 0; i < map->started; i++)
        po__free((void *)map->items[i].output.data);
    po__free((void *)map->list.data);
    po__free(map);
}

static uint64_t frame_bytes(const struct po__map_run *map)
{
    return map->list.len + (uint64_t)map->total * PO__ITEM_BYTES;
}

uint64_t po__map_bytes(const struct po__map_run *map)
{
    uint64_t bytes = frame_bytes(map);
    for (uint32_t i = 0; i < map->started; i++)
        bytes += map->items[i].output.len;
    return bytes;
}

void po__map_drop(struct po__model *m, struct po__run *r, uint32_t step)
{
    struct po__step_state *s = &r->more->steps[step];
    s->items_total = s->map->total;
    s->items_succeeded = s->map->succeeded;
    s->items_failed = s->map->failed;
    po__graph_refund(m, r, po__map_bytes(s->map));
    po__map_free(s->map);
    s->map = NULL;
}

bool po__map_has_room(const struct po__run *r, uint32_t step)
{
    const struct po__map_run *map = r->more->steps[step].map;
    uint32_t parallel = r->def->graph->nodes[step].step.map_parallel;
    return map && r->more->steps[step].state == PO__STEP_RUNNING && map->started < map->total &&
           map->running < (parallel ? parallel : PO__MAP_PARALLEL);
}

static void failed(struct po__model *m, struct po__run *r, uint32_t step, const char *why)
{
    const struct po__ending e = {
        .state = PO__STEP_FAILED, .started_ms = m->now_ms, .error = po__str(why)};
    po__graph_step_over(m, r, step, &e);
}

/* The step has become running. */
void po__map_open(struct po__model *m, struct po__run *r, uint32_t step)
{
    static const struct po__ending none = {.state = PO__STEP_SUCCEEDED, .output = {"[]", 2}};
    struct po__step_state *s = &r->more->steps[step];
    struct po__error_text e;
    const char *full = NULL;
    int rv = po__graph_list(m, r, step, &m->scratch, &e);
    if (m->err)
        return;
    if (rv) {
        failed(m, r, step, e.text);
        return;
    }
    struct po__slice list = po__buf_slice(&m->scratch);
    size_t total = po__json_count(po__json_root(list));
    if (total > PO__MAP_MAX) {
        snprintf(e.text, sizeof e.text, "map: the array has %zu elements; at most %d are allowed",
                 total, PO__MAP_MAX);
        failed(m, r, step, e.text);
        return;
    }
    if (total == 0) {
        po__graph_step_over(m, r, step, &none);
        return;
    }
    struct po__map_run *map = po__map_make(list, (uint32_t)total);
    if (!map) {
        po__oom(m);
    } else if (!po__graph_charge(m, r, frame_bytes(map), &full)) {
        po__map_free(map);
        failed(m, r, step, full);
        po__graph_end_with_step(m, r, step, PO_RUN_FAILED, po__str(full));
    } else {
        s->map = map;
        po__graph_mark(r, step);
        po__news_graph_step(m, PO_WATCH_STEP_STARTED, r, step);
    }
}

void po__map_next(struct po__model *m, struct po__run *r, uint32_t step)
{
    struct po__map_run *map = r->more->steps[step].map;
    PO_INVARIANT(po__json_next(&map->next));
    uint32_t item = map->started++;
    map->items[item] = (struct po__item){.state = PO__STEP_RUNNING};
    map->running++;
    po__graph_start_part(m, r, step, item, map->next.value);
    po__graph_mark(r, step);
}

/* "[...]" of the outputs, null for an element that has none. */
static void put_outputs(struct po__buf *b, const struct po__map_run *map)
{
    po__buf_reset(b);
    b->max_bytes = 0;
    po__buf_append(b, "[", 1);
    for (uint32_t i = 0; i < map->total; i++) {
        struct po__slice output = map->items[i].output;
        if (i)
            po__buf_append(b, ",", 1);
        po__buf_append(b, output.len ? output.data : "null", output.len ? output.len : 4);
    }
    po__buf_append(b, "]", 1);
}

/* The last element is over. */
static void all_over(struct po__model *m, struct po__run *r, uint32_t step)
{
    struct po__step_state *s = &r->more->steps[step];
    char text[PO__STEP_ERROR_MAX_BYTES + 64];
    struct po__ending e = {
        .state = PO__STEP_SUCCEEDED, .attempts = s->attempts, .started_ms = s->started_ms};
    put_outputs(&m->scratch, s->map);
    if (m->scratch.err) {
        po__oom(m);
        return;
    }
    e.output = po__buf_slice(&m->scratch);
    bool deep = !po__json_ok(e.output); /* one level more than the elements' own */
    if (deep)
        e.output = po__slice(NULL, 0);
    if (s->map->failed) {
        snprintf(text, sizeof text, "%u of %u elements failed; %.*s", s->map->failed, s->map->total,
                 (int)s->error.len, s->error.data);
        e.state = PO__STEP_FAILED;
        e.error = po__str(text);
    } else if (deep) {
        e.state = PO__STEP_FAILED;
        e.error = po__str("the outputs of the elements are too deep for an array of them");
    }
    if (s->error.len)
        po__graph_release(m, r, &s->error);
    po__map_drop(m, r, step);
    po__graph_step_over(m, r, step, &e);
}

/* Remembers the first failure; false: it is one more than the run can keep. */
static bool note_failure(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                         const struct po__ending *e, const char **full)
{
    struct po__step_state *s = &r->more->steps[step];
    struct po__slice why = po__utf8_cut(e->error, PO__STEP_ERROR_MAX_BYTES);
    char text[PO__STEP_ERROR_MAX_BYTES + 32];
    if (s->error.len)
        return true;
    snprintf(text, sizeof text, "element %u: %.*s", item, (int)why.len, why.data);
    return po__graph_keep(m, r, &s->error, po__utf8_cut(po__str(text), PO__STEP_ERROR_MAX_BYTES),
                          full);
}

/* The step fails before all its elements are over. Its run ends, and the map stays until what is
 * under way has been cancelled. */
static void give_up(struct po__model *m, struct po__run *r, uint32_t step, uint32_t state,
                    const char *full)
{
    struct po__step_state *s = &r->more->steps[step];
    struct po__error_text text; /* a copy: what it is a copy of is released */
    snprintf(text.text, sizeof text.text, "%.*s", full ? (int)strlen(full) : (int)s->error.len,
             full ? full : s->error.data);
    const struct po__ending e = {.state = state,
                                 .attempts = s->attempts,
                                 .started_ms = s->started_ms,
                                 .error = po__str(text.text)};
    if (s->error.len)
        po__graph_release(m, r, &s->error);
    po__graph_step_over(m, r, step, &e);
    if (full)
        po__graph_end_with_step(m, r, step, PO_RUN_FAILED, e.error);
}

void po__map_item_dropped(struct po__run *r, uint32_t step, uint32_t item)
{
    struct po__map_run *map = r->more->steps[step].map;
    map->items[item].state = PO__STEP_CANCELLED;
    map->running--;
}

void po__map_item_over(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                       const struct po__ending *e)
{
    struct po__step_state *s = &r->more->steps[step];
    const struct po__graph_step *d = &r->def->graph->nodes[step].step;
    struct po__map_run *map = s->map;
    struct po__item *it = &map->items[item];
    bool good = e->state == PO__STEP_SUCCEEDED;
    const char *full = NULL;
    it->state = good ? PO__STEP_SUCCEEDED : PO__STEP_FAILED;
    it->id = e->id;
    s->attempts += e->attempts;
    map->running--;
    map->succeeded += good;
    map->failed += !good;
    bool kept = good ? po__graph_keep(m, r, &it->output, e->output, &full)
                     : note_failure(m, r, step, item, e, &full);
    if (m->err)
        return;
    if (!kept && good) { /* what is not kept did not succeed, as far as anybody can tell */
        it->state = PO__STEP_FAILED;
        map->succeeded--;
        map->failed++;
    }
    if (!kept)
        give_up(m, r, step, PO__STEP_FAILED, full);
    else if (!good && d->on_failure == PO__ON_FAILURE_FAIL)
        give_up(m, r, step, e->state, NULL);
    else if (map->succeeded + map->failed == map->total)
        all_over(m, r, step);
    else
        po__graph_mark(r, step);
}
