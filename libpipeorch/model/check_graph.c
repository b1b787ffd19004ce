/* The whole-state check of runs that are graphs, and of the results that are kept. See check.c. */
#include "impl.h"

#include <inttypes.h>

static bool over(uint32_t state)
{
    return state > PO__STEP_RUNNING;
}

/* Of a step, or of an element of its map: who works on it. */
static int check_job(const struct po__checker *c, const struct po__run *r, uint64_t id,
                     uint32_t step, uint32_t item)
{
    bool child = r->def->graph->nodes[step].step.pipeline.len > 0;
    const struct po__job *j = po__job_find(r, child, id);
    if (!j || j->step != step || j->item != item)
        return po__broken(c, "run %" PRIu64 ": nothing is under way for step %u", r->id, step);
    const struct po__task *t = child ? NULL : po__task_find(c->m, id);
    const struct po__run *sub = child ? po__run_find(c->m, id) : NULL;
    if (child ? !sub || sub->state != PO_RUN_RUNNING || !sub->more || sub->more->parent != r->id ||
                    sub->more->parent_step != step || sub->more->parent_item != item ||
                    sub->more->depth != r->more->depth + 1
              : !t || t->state >= PO_TASK_SUCCEEDED || t->run_id != r->id)
        return po__broken(c,
                          "run %" PRIu64 ": step %u waits for %s %" PRIu64 ", which is not its own",
                          r->id, step, child ? "run" : "task", id);
    return 0;
}

static int check_map(const struct po__checker *c, const struct po__run *r, uint32_t step,
                     uint64_t *jobs)
{
    const struct po__map_run *map = r->more->steps[step].map;
    uint32_t count[PO__STEP_CANCELLED + 1] = {0};
    if (map->started > map->total || map->total > PO__MAP_MAX || map->total == 0)
        return po__broken(c, "run %" PRIu64 ": the map of step %u has %u of %u elements", r->id,
                          step, map->started, map->total);
    for (uint32_t i = 0; i < map->started; i++) {
        const struct po__item *it = &map->items[i];
        if (it->state < PO__STEP_RUNNING || it->state > PO__STEP_CANCELLED ||
            (it->state == PO__STEP_SUCCEEDED) != (it->output.len > 0))
            return po__broken(c, "run %" PRIu64 ": element %u of step %u is impossible", r->id, i,
                              step);
        count[it->state]++;
        if (it->state == PO__STEP_RUNNING && check_job(c, r, it->id, step, i))
            return -1;
    }
    *jobs += map->running;
    if (count[PO__STEP_RUNNING] != map->running || count[PO__STEP_SUCCEEDED] != map->succeeded ||
        count[PO__STEP_FAILED] != map->failed || (count[PO__STEP_CANCELLED] && !r->more->ending))
        return po__broken(c, "run %" PRIu64 ": the map of step %u miscounts its elements", r->id,
                          step);
    bool done = map->succeeded + map->failed == map->total;
    if (done && !r->more->ending)
        return po__broken(c, "run %" PRIu64 ": the map of step %u is over and still there", r->id,
                          step);
    return 0;
}

static int check_counters(const struct po__checker *c, const struct po__run *r, uint32_t i)
{
    const struct po__graph_node *n = &r->def->graph->nodes[i];
    const struct po__step_state *s = &r->more->steps[i];
    uint32_t left = 0, bad = 0;
    for (uint32_t k = 0; k < n->needs_count; k++) {
        uint32_t state = r->more->steps[n->needs[k]].state;
        left += !over(state);
        bad += over(state) && state != PO__STEP_SUCCEEDED;
    }
    if (left != s->needs_left || bad != s->needs_bad)
        return po__broken(c,
                          "run %" PRIu64 ": step %u waits for %u and misses %u, counted %u and %u",
                          r->id, i, left, bad, s->needs_left, s->needs_bad);
    if (left && s->state != PO__STEP_WAITING)
        return po__broken(c, "run %" PRIu64 ": step %u went ahead of those before it", r->id, i);
    bool ready = (s->state == PO__STEP_WAITING && left == 0) || po__map_has_room(r, i);
    if (ready != (r->more->ready[i / 64] >> (i % 64) & 1))
        return po__broken(c, "run %" PRIu64 ": step %u is %smarked as ready", r->id, i,
                          ready ? "not " : "");
    return 0;
}

static int check_step(const struct po__checker *c, const struct po__run *r, uint32_t i,
                      uint64_t *jobs)
{
    const struct po__step_state *s = &r->more->steps[i];
    bool running = r->state == PO_RUN_RUNNING;
    if (s->state < PO__STEP_WAITING || s->state > PO__STEP_CANCELLED ||
        s->finished_ms > c->m->now_ms || over(s->state) != (s->finished_ms != 0))
        return po__broken(c, "run %" PRIu64 ": state or times of step %u are impossible", r->id, i);
    if ((s->state == PO__STEP_SUCCEEDED && s->output.len == 0) ||
        s->items_succeeded + s->items_failed > s->items_total)
        return po__broken(c, "run %" PRIu64 ": step %u succeeded without an output", r->id, i);
    if (s->map && !(running && (s->state == PO__STEP_RUNNING || r->more->ending)))
        return po__broken(c, "run %" PRIu64 ": step %u keeps a map that is over", r->id, i);
    if (s->map && (r->def->graph->nodes[i].step.map.len == 0 || check_map(c, r, i, jobs)))
        return r->def->graph->nodes[i].step.map.len
                   ? -1
                   : po__broken(c, "run %" PRIu64 ": step %u has a map of its own", r->id, i);
    if (!s->map && s->state == PO__STEP_RUNNING) {
        ++*jobs;
        if (!running)
            return po__broken(c, "run %" PRIu64 " is over and step %u is not", r->id, i);
        if (check_job(c, r, s->id, i, PO__NO_ITEM))
            return -1;
    }
    return check_counters(c, r, i);
}

static uint64_t kept_bytes(const struct po__run *r)
{
    uint64_t bytes = r->more->output.len;
    for (uint32_t i = 0; i < r->def->steps_count; i++) {
        const struct po__step_state *s = &r->more->steps[i];
        bytes += s->output.len + s->error.len + (s->map ? po__map_bytes(s->map) : 0);
    }
    return bytes;
}

int po__check_graph(const struct po__checker *c, const struct po__run *r)
{
    const struct po__run_more *g = r->more;
    uint64_t jobs = 0;
    uint32_t left = 0;
    if (!g || !g->steps || r->steps || r->started_count || g->reused_count)
        return po__broken(c, "run %" PRIu64 " of a graph is that of a chain", r->id);
    for (uint32_t i = 0; i < r->def->steps_count; i++) {
        if (check_step(c, r, i, &jobs))
            return -1;
        left += !over(g->steps[i].state);
    }
    if (jobs != g->jobs.count || left != g->left)
        return po__broken(c,
                          "run %" PRIu64 ": %" PRIu64 " under way and %u steps left, counted "
                          "%" PRIu64 " and %u",
                          r->id, jobs, left, g->jobs.count, g->left);
    if (kept_bytes(r) != g->bytes || g->bytes > PO__RUN_MAX_BYTES)
        return po__broken(c, "run %" PRIu64 " keeps %" PRIu64 " bytes, counted %" PRIu64, r->id,
                          kept_bytes(r), g->bytes);
    if (g->ending == PO_RUN_RUNNING || g->ending > PO_RUN_CANCELLED ||
        (g->ending && r->state != PO_RUN_RUNNING && g->ending != r->state))
        return po__broken(c, "run %" PRIu64 " ends as %u", r->id, g->ending);
    if (po__graph_has_work(r) != po__tree_linked(&g->todo))
        return po__broken(c, "run %" PRIu64 " is listed or not, against what it has to do", r->id);
    if (r->state == PO_RUN_RUNNING && !po__graph_has_work(r) && jobs == 0)
        return po__broken(c, "run %" PRIu64 " runs, and nothing will move it", r->id);
    return 0;
}

int po__check_cache(const struct po__checker *c)
{
    const struct po__cache *k = &c->m->cache;
    uint64_t bytes = 0, n = 0;
    for (struct po__tree_node *it = po__tree_first(&k->by_id); it; it = po__tree_next(it), n++) {
        const struct po__cached *e = po__container_of(it, struct po__cached, by_id);
        if (!po__tree_linked(&e->by_key) || !po__tree_linked(&e->by_use) ||
            e->used_ms > c->m->now_ms || e->made_ms > e->used_ms || e->id >= c->m->next_task)
            return po__broken(c, "the kept result of task %" PRIu64 " is impossible", e->id);
        bytes += po__cached_bytes(e);
    }
    if (n != k->by_id.count || n != k->by_key.count || n != k->by_use.count || bytes != k->bytes ||
        n > PO__CACHE_MAX || bytes > PO__CACHE_MAX_BYTES)
        return po__broken(c, "%" PRIu64 " kept results of %" PRIu64 " bytes, counted %" PRIu64, n,
                          bytes, k->bytes);
    return 0;
}
