/* The whole-state check of tasks, pipelines and runs. See check.c. */
#include "impl.h"

#include <inttypes.h>

static bool finished(uint32_t state)
{
    return state >= PO_TASK_SUCCEEDED;
}

/* Of the current step; 0 if the run's own numbers are impossible, which check_run reports. */
static uint64_t current_task(const struct po__run *r)
{
    bool possible = r->started_count > 0 && r->started_count <= r->def->steps_count;
    return possible ? r->steps[r->started_count - 1].task_id : 0;
}

static bool dead(const struct po__task *t)
{
    return t->modern && t->state == PO_TASK_FAILED;
}

static int check_history(const struct po__checker *c, const struct po__task *t)
{
    bool started = t->attempt > 0;
    if (started != (t->origin != NULL) || started != (t->token != 0) || t->lost > t->attempt)
        return po__broken(c,
                          "task %" PRIu64 ": attempt %u, token %" PRIu64 " and lost %u do not fit",
                          t->id, t->attempt, t->token, t->lost);
    if (t->token > c->m->last_token || t->created_ms > c->m->now_ms || t->granted_ms > c->m->now_ms)
        return po__broken(c, "task %" PRIu64 ": token or times are in the future", t->id);
    if (t->attempts_max < 1 || t->attempts_max > PO__ATTEMPTS_MAX ||
        t->timeout_ms < PO__ATTEMPT_MIN_MS || t->timeout_ms > PO__ATTEMPT_MAX_MS)
        return po__broken(c, "task %" PRIu64 ": attempts_max or timeout_ms out of range", t->id);
    uint64_t forgiven = t->more ? t->more->forgiven : 0;
    if (t->lost + forgiven > t->attempt || t->attempt - t->lost - forgiven > t->attempts_max ||
        t->lost > t->attempts_max + PO__TASK_LOST_MAX)
        return po__broken(c, "task %" PRIu64 ": %u attempts, %u lost, %u allowed", t->id,
                          t->attempt, t->lost, t->attempts_max);
    if (t->outcome == PO__OUTCOME_COMPLETED && t->state != PO_TASK_SUCCEEDED)
        return po__broken(c, "task %" PRIu64 " was completed but did not succeed", t->id);
    return 0;
}

static int check_state(const struct po__checker *c, const struct po__task *t)
{
    const struct po__model *m = c->m;
    if ((t->state == PO_TASK_RUNNING) != (t->worker != NULL))
        return po__broken(c, "task %" PRIu64 ": state %u with%s a worker", t->id, t->state,
                          t->worker ? "" : "out");
    if (t->worker && !po__slice_eq(t->worker->origin->id, t->origin->id))
        return po__broken(c, "task %" PRIu64 " runs on %s, its last attempt says %s", t->id,
                          t->worker->id, t->origin->id.data);
    if (t->state == PO_TASK_RUNNING && t->outcome != PO__OUTCOME_NONE)
        return po__broken(c, "task %" PRIu64 " runs and has an outcome", t->id);
    if (t->state == PO_TASK_SUCCEEDED ? t->result.len == 0 || t->outcome != PO__OUTCOME_COMPLETED
                                      : t->result.len != 0)
        return po__broken(c, "task %" PRIu64 ": state %u does not go with its result", t->id,
                          t->state);
    if (finished(t->state) && t->deadline_ms > m->now_ms)
        return po__broken(c, "task %" PRIu64 " finished in the future", t->id);
    bool timed = t->more && (finished(t->state) ? t->more->extra.keep_ms != 0
                                                : t->more->extra.deadline_ms != 0);
    if (timed != (t->more && po__tree_linked(&t->more->timer)))
        return po__broken(c, "task %" PRIu64 " has a timer or not, against its state", t->id);
    if (!po__tree_linked(&t->queue) || po__tree_linked(&t->by_key) != (t->key.len > 0))
        return po__broken(c, "task %" PRIu64 " is missing in an index", t->id);
    if (t->run_id && !finished(t->state)) {
        const struct po__run *r = po__run_find(m, t->run_id);
        bool works = r && (r->def->graph ? r->more && po__job_find(r, false, t->id) != NULL
                                         : current_task(r) == t->id);
        if (!works || r->state != PO_RUN_RUNNING)
            return po__broken(c, "task %" PRIu64 " is not the current step of run %" PRIu64, t->id,
                              t->run_id);
    }
    return 0;
}

/* A queue of tasks in order, each in a state that belongs there. */
static int check_queue(const struct po__checker *c, const struct po__tree *tree, const char *name,
                       bool of_finished)
{
    const struct po__tree_node *before = NULL;
    uint64_t n = 0;
    for (struct po__tree_node *it = po__tree_first(tree); it;
         before = it, it = po__tree_next(it), n++) {
        const struct po__task *t = po__container_of(it, struct po__task, queue);
        bool due = t->state == PO_TASK_RUNNING || t->state == PO_TASK_SCHEDULED;
        if (of_finished ? !finished(t->state) : !due)
            return po__broken(c, "task %" PRIu64 " of state %u is in the queue of %s tasks", t->id,
                              t->state, name);
        if (before && po__task_due_cmp(before, it) >= 0)
            return po__broken(c, "task %" PRIu64 " is out of order among the %s tasks", t->id,
                              name);
    }
    return n == tree->count
               ? 0
               : po__broken(c, "%" PRIu64 " %s tasks, counted %" PRIu64, n, name, tree->count);
}

int po__check_tasks(const struct po__checker *c)
{
    const struct po__model *m = c->m;
    uint64_t count[PO_TASK_CANCELLED + 1] = {0}, bytes[3] = {0}, keys = 0, last = 0, unfinished = 0;
    uint64_t timers = 0;
    for (struct po__tree_node *n = po__tree_first(&m->tasks); n; n = po__tree_next(n)) {
        const struct po__task *t = po__container_of(n, struct po__task, by_id);
        if (t->id <= last || t->id >= m->next_task || t->state < PO_TASK_PENDING ||
            t->state > PO_TASK_CANCELLED)
            return po__broken(c, "task %" PRIu64 ": id or state is impossible", t->id);
        if (check_history(c, t) || check_state(c, t))
            return -1;
        last = t->id;
        count[t->state]++;
        bytes[finished(t->state) + dead(t)] += po__task_bytes(t);
        timers += t->more && po__tree_linked(&t->more->timer);
        unfinished += !finished(t->state);
        keys += t->key.len > 0;
    }
    for (uint32_t s = PO_TASK_PENDING; s <= PO_TASK_CANCELLED; s++)
        if (count[s] != m->tasks_count[s])
            return po__broken(c, "%" PRIu64 " tasks of state %u, counted %" PRIu64, count[s], s,
                              m->tasks_count[s]);
    if (bytes[0] != m->unfinished_bytes || bytes[1] != m->finished_bytes ||
        bytes[2] != m->dead_bytes || timers != m->timers.count || keys != m->task_keys.count)
        return po__broken(c, "counters of task bytes or keys are wrong");
    if (unfinished > PO__TASKS_UNFINISHED_MAX || m->finished.count > PO__TASKS_FINISHED_MAX ||
        m->finished_bytes > PO__TASKS_FINISHED_MAX_BYTES || m->dead.count > PO__TASKS_DEAD_MAX ||
        m->dead_bytes > PO__TASKS_DEAD_MAX_BYTES)
        return po__broken(c, "more tasks are kept than is allowed");
    if (m->due.count != count[PO_TASK_RUNNING] + count[PO_TASK_SCHEDULED])
        return po__broken(c, "the queue of due tasks holds %" PRIu64, m->due.count);
    if (m->finished.count + m->dead.count != m->tasks.count - unfinished)
        return po__broken(c, "the queues of finished tasks hold %" PRIu64,
                          m->finished.count + m->dead.count);
    return check_queue(c, &m->due, "due", false) ||
                   check_queue(c, &m->finished, "finished", true) ||
                   check_queue(c, &m->dead, "dead", true)
               ? -1
               : 0;
}

static int check_defs(const struct po__checker *c)
{
    const struct po__model *m = c->m;
    uint64_t refs = 0, current = 0;
    for (struct po__tree_node *n = po__tree_first(&m->defs); n; n = po__tree_next(n)) {
        const struct po__def *d = po__container_of(n, struct po__def, by_number);
        bool is_current = po__tree_linked(&d->by_name);
        if (d->number == 0 || d->number >= m->next_def || d->refs == 0)
            return po__broken(c,
                              "definition %" PRIu64 " of %s: number or references are impossible",
                              d->number, d->name.data);
        if (is_current && po__pipeline_find(m, d->name) != d)
            return po__broken(c, "pipeline %s is not found by its name", d->name.data);
        refs += d->refs;
        current += is_current;
    }
    if (current != m->pipelines.count || current > PO__PIPELINES_MAX ||
        refs != current + m->runs.count)
        return po__broken(c,
                          "%" PRIu64 " references to definitions from %" PRIu64
                          " pipelines and %" PRIu64 " runs",
                          refs, current, m->runs.count);
    return 0;
}

static int check_steps(const struct po__checker *c, const struct po__run *r)
{
    for (uint32_t i = 0; i < r->started_count; i++) {
        const struct po__step_run *s = &r->steps[i];
        bool open = r->state == PO_RUN_RUNNING && i + 1 == r->started_count;
        if (open != (s->finished_ms == 0 && !finished(s->state)))
            return po__broken(
                c, "run %" PRIu64 ": step %u is open or not, against the state of the run", r->id,
                i + 1);
        if (s->task_id == 0 || s->task_id >= c->m->next_task ||
            (i && s->task_id <= r->steps[i - 1].task_id))
            return po__broken(c, "run %" PRIu64 ": step %u has an impossible task", r->id, i + 1);
        if (i + 1 < r->started_count && s->state != PO_TASK_SUCCEEDED)
            return po__broken(c, "run %" PRIu64 " went on behind step %u, which did not succeed",
                              r->id, i + 1);
    }
    return 0;
}

/* A child that goes on has a parent that waits for it. */
static int check_parent(const struct po__checker *c, const struct po__run *r)
{
    const struct po__run_more *x = r->more;
    if (!x || !x->parent || r->state != PO_RUN_RUNNING || x->ending)
        return 0;
    const struct po__run *parent = po__run_find(c->m, x->parent);
    if (!parent || !parent->def->graph || !parent->more || !po__job_find(parent, true, r->id))
        return po__broken(c, "run %" PRIu64 " is a child of %" PRIu64 ", which does not know it",
                          r->id, x->parent);
    return 0;
}

static int check_chain(const struct po__checker *c, const struct po__run *r)
{
    if (r->more && (r->more->steps || r->more->ending || r->more->bytes ||
                    r->more->reused_count > r->started_count))
        return po__broken(c, "run %" PRIu64 " of a chain is that of a graph", r->id);
    if (r->started_count == 0 || r->started_count > r->def->steps_count)
        return po__broken(c, "run %" PRIu64 ": %u steps started of %u", r->id, r->started_count,
                          r->def->steps_count);
    if (check_steps(c, r))
        return -1;
    if (r->state != PO_RUN_RUNNING)
        return 0;
    const struct po__task *t = po__task_find(c->m, current_task(r));
    if (!t || finished(t->state) || t->run_id != r->id)
        return po__broken(c, "run %" PRIu64 " is running without a task", r->id);
    return 0;
}

static int check_run(const struct po__checker *c, const struct po__run *r)
{
    bool running = r->state == PO_RUN_RUNNING;
    if (r->state < PO_RUN_RUNNING || r->state > PO_RUN_CANCELLED || r->id == 0 ||
        r->id >= c->m->next_run)
        return po__broken(c, "run %" PRIu64 ": id or state is impossible", r->id);
    if (running == po__tree_linked(&r->finished) || po__tree_linked(&r->by_key) != (r->key.len > 0))
        return po__broken(c, "run %" PRIu64 " is missing in an index", r->id);
    if (r->def->graph ? po__check_graph(c, r) : check_chain(c, r))
        return -1;
    return check_parent(c, r);
}

int po__check_runs(const struct po__checker *c)
{
    const struct po__model *m = c->m;
    uint64_t active = 0, keys = 0, total = 0, todo = 0, bytes[2] = {0};
    for (struct po__tree_node *n = po__tree_first(&m->runs); n; n = po__tree_next(n), total++) {
        const struct po__run *r = po__container_of(n, struct po__run, by_id);
        if (check_run(c, r))
            return -1;
        active += r->state == PO_RUN_RUNNING;
        keys += r->key.len > 0;
        todo += r->more && po__tree_linked(&r->more->todo);
        bytes[r->state != PO_RUN_RUNNING] += po__run_bytes(r);
    }
    if (todo != m->runs_todo.count || bytes[0] != m->runs_bytes ||
        bytes[1] != m->runs_finished_bytes)
        return po__broken(c,
                          "counters of what runs keep, or the list of those to go on, are wrong");
    if (total != m->runs.count || active != m->runs_active || keys != m->run_keys.count ||
        m->runs_finished.count + m->children_finished.count != total - active)
        return po__broken(c, "counters of runs are wrong");
    if (active > PO__RUNS_ACTIVE_MAX || m->runs_finished.count > PO__RUNS_FINISHED_MAX ||
        m->children_finished.count > PO__RUNS_FINISHED_MAX ||
        m->runs_finished_bytes > PO__RUNS_FINISHED_MAX_BYTES)
        return po__broken(c, "more runs are kept than is allowed");
    return check_defs(c);
}
