/* The objects of a run that is a graph: its steps, what is under way, what it keeps, and everything
 * that is counted rather than recorded. */
#include "impl.h"

#define WORDS(steps) (((steps) + 63) / 64)

int po__graph_make(struct po__run *r)
{
    struct po__run_more *g = r->more;
    uint32_t n = r->def->steps_count;
    g->steps = po__calloc(n, sizeof *g->steps);
    g->ready = po__calloc(WORDS(n), sizeof *g->ready);
    if (!g->steps || !g->ready)
        return PO_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        g->steps[i].state = PO__STEP_WAITING;
        g->steps[i].needs_left = r->def->graph->nodes[i].needs_count;
    }
    g->left = n;
    return 0;
}

static void drop_jobs(struct po__tree *jobs)
{
    struct po__tree_node *n;
    while ((n = po__tree_first(jobs))) {
        po__tree_remove(jobs, n);
        po__free(po__container_of(n, struct po__job, by_id));
    }
}

void po__graph_free(struct po__model *m, struct po__run_more *g, uint32_t steps_count)
{
    if (!g)
        return;
    if (po__tree_linked(&g->todo))
        po__tree_remove(&m->runs_todo, &g->todo);
    for (uint32_t i = 0; g->steps && i < steps_count; i++) {
        struct po__step_state *s = &g->steps[i];
        po__origin_put(m, s->origin);
        po__free((void *)s->output.data);
        po__free((void *)s->error.data);
        po__map_free(s->map);
    }
    drop_jobs(&g->jobs);
    po__free(g->steps);
    po__free(g->ready);
    po__free((void *)g->output.data);
    po__free(g);
}

/* ---- jobs ---- */

struct job_key {
    bool child;
    uint64_t id;
};

static int job_key(const void *key, const struct po__tree_node *n)
{
    const struct job_key *k = key;
    const struct po__job *j = po__container_of(n, struct po__job, by_id);
    int c = (k->child > j->child) - (k->child < j->child);
    return c ? c : po__cmp_u64(k->id, j->id);
}

static int job_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__job *j = po__container_of(a, struct po__job, by_id);
    return job_key(&(struct job_key){j->child, j->id}, b);
}

struct po__job *po__job_find(const struct po__run *r, bool child, uint64_t id)
{
    struct po__tree_node *n = po__tree_find(&r->more->jobs, &(struct job_key){child, id}, job_key);
    return n ? po__container_of(n, struct po__job, by_id) : NULL;
}

int po__job_add(struct po__run *r, bool child, uint64_t id, uint32_t step, uint32_t item)
{
    struct po__job *j = po__calloc(1, sizeof *j);
    if (!j)
        return PO_ENOMEM;
    *j = (struct po__job){.id = id, .child = child, .step = step, .item = item};
    po__tree_node_init(&j->by_id);
    if (!po__tree_insert(&r->more->jobs, &j->by_id, job_cmp))
        return 0;
    po__free(j);
    return PO_ECORRUPT;
}

void po__job_drop(struct po__run *r, struct po__job *j)
{
    po__tree_remove(&r->more->jobs, &j->by_id);
    po__free(j);
}

/* ---- marks ---- */

bool po__graph_has_work(const struct po__run *r)
{
    const struct po__run_more *g = r->more;
    return r->state == PO_RUN_RUNNING &&
           (g->ending || g->left == 0 || po__graph_first_ready(r) != UINT32_MAX);
}

uint32_t po__graph_first_ready(const struct po__run *r)
{
    for (uint32_t w = 0; w < WORDS(r->def->steps_count); w++) {
        uint64_t bits = r->more->ready[w];
        if (bits)
            return w * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return UINT32_MAX;
}

void po__graph_mark(struct po__run *r, uint32_t step)
{
    const struct po__step_state *s = &r->more->steps[step];
    bool ready = (s->state == PO__STEP_WAITING && s->needs_left == 0) || po__map_has_room(r, step);
    uint64_t bit = UINT64_C(1) << (step % 64);
    if (ready)
        r->more->ready[step / 64] |= bit;
    else
        r->more->ready[step / 64] &= ~bit;
}

static bool over(const struct po__step_state *s)
{
    return s->state > PO__STEP_RUNNING;
}

static int derive_jobs(struct po__run *r, uint32_t i)
{
    const struct po__step_state *s = &r->more->steps[i];
    bool child = r->def->graph->nodes[i].step.pipeline.len > 0;
    int rv = 0;
    if (!s->map)
        return s->state == PO__STEP_RUNNING ? po__job_add(r, child, s->id, i, PO__NO_ITEM) : 0;
    for (uint32_t k = 0; k < s->map->started && !rv; k++)
        if (s->map->items[k].state == PO__STEP_RUNNING)
            rv = po__job_add(r, child, s->map->items[k].id, i, k);
    return rv;
}

int po__graph_derive(struct po__run *r)
{
    struct po__run_more *g = r->more;
    int rv = 0;
    g->left = 0;
    for (uint32_t i = 0; i < r->def->steps_count; i++) {
        const struct po__graph_node *n = &r->def->graph->nodes[i];
        struct po__step_state *s = &g->steps[i];
        s->needs_left = s->needs_bad = 0;
        for (uint32_t k = 0; k < n->needs_count; k++) {
            const struct po__step_state *before = &g->steps[n->needs[k]];
            s->needs_left += !over(before);
            s->needs_bad += over(before) && before->state != PO__STEP_SUCCEEDED;
        }
        g->left += !over(s);
        po__graph_mark(r, i);
        if (r->state == PO_RUN_RUNNING && !rv)
            rv = derive_jobs(r, i);
    }
    return rv;
}

/* ---- bytes ---- */

uint64_t po__run_bytes(const struct po__run *r)
{
    if (!r->more || !r->more->steps)
        return 0;
    return r->more->bytes + r->params.len + (uint64_t)r->def->steps_count * PO__STEP_BYTES;
}

static uint64_t *counter(struct po__model *m, const struct po__run *r)
{
    return r->state == PO_RUN_RUNNING ? &m->runs_bytes : &m->runs_finished_bytes;
}

_Static_assert(PO__RUN_MAX_BYTES / 1048576 == 4 && PO__RUNS_MAX_BYTES / 1073741824 == 1,
               "the sentences below name the limits");

bool po__graph_charge(struct po__model *m, struct po__run *r, uint64_t bytes, const char **full)
{
    if (r->more->bytes + bytes > PO__RUN_MAX_BYTES) {
        *full = "the outputs that the run keeps are more than 4 MiB; let steps hand on references "
                "to big data";
        return false;
    }
    if (*counter(m, r) + bytes > PO__RUNS_MAX_BYTES) {
        *full =
            "the runs that are under way keep more than 1 GiB of params and outputs; retry when "
            "some are done";
        return false;
    }
    r->more->bytes += bytes;
    *counter(m, r) += bytes;
    return true;
}

void po__graph_refund(struct po__model *m, struct po__run *r, uint64_t bytes)
{
    r->more->bytes -= bytes;
    *counter(m, r) -= bytes;
}

bool po__graph_keep(struct po__model *m, struct po__run *r, struct po__slice *field,
                    struct po__slice text, const char **full)
{
    if (text.len == 0)
        return true;
    if (!po__graph_charge(m, r, text.len, full))
        return false;
    char *copy = po__strndup(text.data, text.len);
    if (!copy) {
        po__graph_refund(m, r, text.len);
        po__oom(m);
        return false;
    }
    *field = po__slice(copy, text.len);
    return true;
}

void po__graph_release(struct po__model *m, struct po__run *r, struct po__slice *field)
{
    po__graph_refund(m, r, field->len);
    po__free((void *)field->data);
    *field = po__slice(NULL, 0);
}
