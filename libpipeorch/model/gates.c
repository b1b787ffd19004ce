/* Concurrency keys: how many tasks of a key run at a time, and how many start in a period.
 *
 * The rate is a token bucket of rate_max tokens that fills evenly in rate_ms, kept as one number
 * (the "generic cell rate algorithm"): full_us, when the bucket would be full if nothing more were
 * taken. A start is allowed while that is at most one period, less one token's worth, away, and
 * moves it one token's worth on. Microseconds, whole numbers, leader time: the same on every node.
 *
 * A key's limits are those of the submission that named it last.
 *
 * Whether a gate is open, and when time opens it, is state of its own: time alone changes nothing
 * until a tick says so, or a node that restored a snapshot would see a gate open before the others
 * do. */
#include "impl.h"

static struct po__gate *named(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__gate, by_name);
}

static struct po__gate *numbered(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__gate, by_number);
}

static int name_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, named(n)->name);
}

static int name_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return name_key(&named(a)->name, b);
}

static int number_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, numbered(n)->number);
}

static int number_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return number_key(&numbered(a)->number, b);
}

static int due_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct po__gate *x = po__container_of(a, struct po__gate, due);
    const struct po__gate *y = po__container_of(b, struct po__gate, due);
    int c = po__cmp_u64(x->due_ms, y->due_ms);
    return c ? c : po__cmp_u64(x->number, y->number);
}

struct po__gate *po__gate_find(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_find(&m->gates, &name, name_key);
    return n ? named(n) : NULL;
}

struct po__tree_node *po__gate_after(const struct po__model *m, uint64_t number)
{
    uint64_t from = number + 1;
    return number == UINT64_MAX ? NULL
                                : po__tree_lower_bound(&m->gates_by_number, &from, number_key);
}

/* ---- rate ---- */

/* Rounded up: a bucket never holds more than rate_max. */
static uint64_t token_us(const struct po__gate *g)
{
    return ((uint64_t)g->rate_ms * 1000 + g->rate_max - 1) / g->rate_max;
}

/* When the next start is allowed, in microseconds; 0: now, as far as the rate goes. */
static uint64_t rate_opens_us(const struct po__model *m, const struct po__gate *g)
{
    uint64_t now_us = m->now_ms * 1000;
    if (!g->rate_max)
        return 0;
    uint64_t slack_us = (uint64_t)g->rate_ms * 1000 - token_us(g);
    return g->full_us <= now_us + slack_us ? 0 : g->full_us - slack_us;
}

/* due_ms 0: never. */
static void set_due(struct po__model *m, struct po__gate *g, uint64_t due_ms)
{
    if (due_ms == g->due_ms)
        return;
    po__touch_gate(m, g);
    if (g->due_ms)
        po__tree_remove(&m->gates_due, &g->due);
    g->due_ms = due_ms;
    if (due_ms)
        po__tree_insert(&m->gates_due, &g->due, due_cmp);
}

static uint64_t up_to_ms(uint64_t us)
{
    return us / 1000 + (us % 1000 != 0);
}

/* ---- objects ---- */

struct po__gate *po__gate_make(struct po__model *m, const struct po__gate_record *r)
{
    struct po__gate *g = po__calloc(1, sizeof *g + r->name.len + 1);
    if (!g) {
        po__oom(m);
        return NULL;
    }
    char *at = g->text;
    g->name = po__put(&at, r->name);
    g->number = r->number;
    g->epoch = m->snap.epoch;
    g->max = r->max;
    g->rate_max = r->rate_max;
    g->rate_ms = r->rate_ms;
    g->full_us = r->full_us;
    g->open = r->open;
    po__tree_node_init(&g->due);
    po__tree_node_init(&g->by_number);
    if (po__tree_insert(&m->gates, &g->by_name, name_cmp)) {
        po__free(g);
        return NULL;
    }
    if (po__tree_insert(&m->gates_by_number, &g->by_number, number_cmp)) {
        po__gate_free(m, g);
        return NULL;
    }
    set_due(m, g, r->due_ms);
    return g;
}

void po__gate_free(struct po__model *m, struct po__gate *g)
{
    set_due(m, g, 0);
    if (po__tree_linked(&g->by_number))
        po__tree_remove(&m->gates_by_number, &g->by_number);
    po__tree_remove(&m->gates, &g->by_name);
    po__free(g);
}

static struct po__gate *gate_new(struct po__model *m, const struct po__extra *e)
{
    struct po__tree_node *last = po__tree_last(&m->gates_by_number);
    const struct po__gate_record r = {.number = last ? numbered(last)->number + 1 : 1,
                                      .name = e->gate,
                                      .max = e->gate_max,
                                      .rate_max = e->rate_max,
                                      .rate_ms = e->rate_ms,
                                      .open = true};
    if (m->gates.count < PO__GATES_MAX)
        return po__gate_make(m, &r);
    po__refuse(m, PO_EQUOTA,
               "%d concurrency keys are in use, which is the limit; use fewer, or retry when tasks "
               "are forgotten",
               PO__GATES_MAX);
    return NULL;
}

/* A bucket that was slow to fill and is quick now is empty at most: what it remembers of the old
 * rate must not keep its tasks waiting for longer than the new one does. */
static void set_limits(struct po__model *m, struct po__gate *g, const struct po__extra *e)
{
    uint64_t empty_us = m->now_ms * 1000 + (uint64_t)e->rate_ms * 1000;
    po__touch_gate(m, g);
    g->max = e->gate_max;
    g->rate_max = e->rate_max;
    g->rate_ms = e->rate_ms;
    if (g->rate_max && g->full_us > empty_us)
        g->full_us = empty_us;
}

struct po__gate *po__gate_get(struct po__model *m, const struct po__extra *e)
{
    struct po__gate *g = po__gate_find(m, e->gate);
    if (!g)
        return gate_new(m, e);
    if (g->max != e->gate_max || g->rate_max != e->rate_max || g->rate_ms != e->rate_ms)
        set_limits(m, g, e);
    po__gate_refresh(m, g);
    return g;
}

/* Nobody names it any more: it goes when its rate has nothing to remember. */
void po__gate_unused(struct po__model *m, struct po__gate *g)
{
    if (g->refs)
        return;
    PO_INVARIANT(g->running == 0);
    if (g->rate_max && g->full_us > m->now_ms * 1000) {
        set_due(m, g, up_to_ms(g->full_us));
        return;
    }
    po__touch_gate(m, g);
    po__gate_free(m, g);
}

/* ---- opening and shutting ---- */

static bool is_open(const struct po__model *m, const struct po__gate *g)
{
    return (!g->max || g->running < g->max) && !rate_opens_us(m, g);
}

void po__gate_refresh(struct po__model *m, struct po__gate *g)
{
    bool open = is_open(m, g);
    set_due(m, g, up_to_ms(rate_opens_us(m, g)));
    if (open == g->open)
        return;
    po__touch_gate(m, g);
    g->open = open;
    for (struct po__tree_node *n = po__tree_first(&g->lanes); n; n = po__tree_next(n))
        po__lane_refresh(m, po__container_of(n, struct po__lane, in_gate));
}

void po__gate_enter(struct po__model *m, struct po__gate *g)
{
    uint64_t now_us = m->now_ms * 1000;
    g->running++;
    if (g->rate_max) {
        po__touch_gate(m, g);
        g->full_us = (g->full_us > now_us ? g->full_us : now_us) + token_us(g);
    }
    po__gate_refresh(m, g);
}

void po__gate_leave(struct po__model *m, struct po__gate *g)
{
    PO_INVARIANT(g->running > 0);
    g->running--;
    po__gate_refresh(m, g);
}

bool po__gates_tick(struct po__model *m)
{
    struct po__tree_node *n = po__tree_first(&m->gates_due);
    struct po__gate *g = n ? po__container_of(n, struct po__gate, due) : NULL;
    if (!g || g->due_ms > m->now_ms)
        return false;
    if (g->refs)
        po__gate_refresh(m, g);
    else
        po__gate_unused(m, g);
    return true;
}
