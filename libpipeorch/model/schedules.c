/* Schedules: which ticks of a schedule were decided, and how.
 *
 * A schedule is a cron expression that the model does not understand: when it ticks is computed by
 * the leader (node/schedule.c), who proposes each tick with SCHEDULE_FIRE. What becomes of it is
 * decided here, so it does not matter who proposes, how often, or whose clock is right:
 *
 *   - A tick is decided once. last_fire_ms only rises, and a tick that is not above it is refused;
 *     so is one that is not above the time of the definition, or of another generation.
 *   - Whether it is too late (beyond catch_up_ms) is told by the stamp of the entry that decides
 *     it. One proposal may pass over several ticks that are too late; one that is not, never.
 *   - The run starts in the same command. It is started as by RUN_START, under a key made of the
 *     generation, which stands for the schedule's name and definition, and the tick.
 *
 * Generations are drawn from the same numbers as fencing tokens: strictly increasing, never
 * reused, and already in the header of every snapshot. */
#include "impl.h"

#include <inttypes.h>
#include <stdio.h>

static struct po__schedule *named(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__schedule, by_name);
}

static struct po__schedule *numbered(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__schedule, by_generation);
}

static int name_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(named(a)->name, named(b)->name);
}

static int name_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key, named(n)->name);
}

static int generation_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(numbered(a)->generation, numbered(b)->generation);
}

static int generation_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, numbered(n)->generation);
}

const struct po__schedule *po__model_schedule(const struct po__model *m, struct po__slice name)
{
    struct po__tree_node *n = po__tree_find(&m->schedules, &name, name_key);
    return n ? named(n) : NULL;
}

const struct po__schedule *po__model_schedule_after(const struct po__model *m,
                                                    struct po__slice name)
{
    struct po__tree_node *n = po__tree_lower_bound(&m->schedules, &name, name_key);
    if (n && name.len && po__slice_eq(named(n)->name, name))
        n = po__tree_next(n);
    return n ? named(n) : NULL;
}

struct po__tree_node *po__schedule_after_generation(const struct po__model *m, uint64_t generation)
{
    uint64_t from = generation + 1;
    return generation == UINT64_MAX
               ? NULL
               : po__tree_lower_bound(&m->schedules_by_generation, &from, generation_key);
}

/* ---- objects ---- */

struct po__schedule *po__schedule_make(struct po__model *m, uint64_t generation,
                                       const struct po__cmd *cmd)
{
    struct po__slice params = cmd->schedule.params.len ? cmd->schedule.params : po__str("null");
    size_t text = cmd->schedule.name.len + cmd->schedule.pipeline.len + cmd->schedule.cron.len +
                  cmd->schedule.time_zone.len + params.len + cmd->schedule.zone.len + 6;
    struct po__schedule *s = po__calloc(1, sizeof *s + text);
    if (!s) {
        po__oom(m);
        return NULL;
    }
    char *at = s->text;
    s->generation = generation;
    s->epoch = m->snap.epoch;
    s->name = po__put(&at, cmd->schedule.name);
    s->pipeline = po__put(&at, cmd->schedule.pipeline);
    s->cron = po__put(&at, cmd->schedule.cron);
    s->time_zone = po__put(&at, cmd->schedule.time_zone);
    s->params = po__put(&at, params);
    s->zone = po__put(&at, cmd->schedule.zone);
    s->overlap = cmd->schedule.overlap;
    s->catch_up_ms = cmd->schedule.catch_up_ms;
    s->paused = cmd->schedule.paused;
    po__tree_node_init(&s->by_name);
    po__tree_node_init(&s->by_generation);
    return s;
}

bool po__schedule_link(struct po__model *m, struct po__schedule *s)
{
    if (po__tree_insert(&m->schedules_by_generation, &s->by_generation, generation_cmp))
        return false;
    if (!po__tree_insert(&m->schedules, &s->by_name, name_cmp))
        return true;
    po__tree_remove(&m->schedules_by_generation, &s->by_generation);
    return false;
}

void po__schedule_free(struct po__model *m, struct po__schedule *s)
{
    if (po__tree_linked(&s->by_name))
        po__tree_remove(&m->schedules, &s->by_name);
    if (po__tree_linked(&s->by_generation))
        po__tree_remove(&m->schedules_by_generation, &s->by_generation);
    po__free((void *)s->error.data);
    po__free(s);
}

/* ---- definitions ---- */

static bool same(const struct po__schedule *s, const struct po__cmd *cmd)
{
    struct po__slice params = cmd->schedule.params.len ? cmd->schedule.params : po__str("null");
    return po__slice_eq(s->pipeline, cmd->schedule.pipeline) &&
           po__slice_eq(s->cron, cmd->schedule.cron) &&
           po__slice_eq(s->time_zone, cmd->schedule.time_zone) && po__slice_eq(s->params, params) &&
           po__slice_eq(s->zone, cmd->schedule.zone) && s->overlap == cmd->schedule.overlap &&
           s->catch_up_ms == cmd->schedule.catch_up_ms && s->paused == cmd->schedule.paused;
}

void po__schedule_inherit(struct po__schedule *s, struct po__schedule *old)
{
    s->last_fire_ms = old->last_fire_ms;
    s->fired = old->fired;
    s->skipped = old->skipped;
    s->late = old->late;
    s->refused = old->refused;
    s->error_ms = old->error_ms;
    s->error = old->error;
    old->error = po__slice(NULL, 0);
    s->runs_count = old->runs_count;
    memcpy(s->runs, old->runs, sizeof s->runs);
}

/* What happened under the name so far remains its history. A tick that is due and not decided yet
 * remains due if the times are the same: the change of something else leaves none out. */
static void replace(struct po__model *m, struct po__schedule *old, struct po__schedule *s)
{
    po__touch_schedule(m, old);
    po__schedule_inherit(s, old);
    if (!s->paused && !old->paused && po__slice_eq(s->cron, old->cron) &&
        po__slice_eq(s->time_zone, old->time_zone))
        s->since_ms = old->since_ms;
    po__schedule_free(m, old);
}

void po__cmd_schedule_define(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__schedule *old = (struct po__schedule *)po__model_schedule(m, cmd->schedule.name);
    if (old && same(old, cmd)) {
        m->result.id = old->generation;
        return;
    }
    if (!old && m->schedules.count >= PO__SCHEDULES_MAX) {
        po__refuse(m, PO_EQUOTA, "%d schedules are defined, which is the limit; delete one",
                   PO__SCHEDULES_MAX);
        return;
    }
    uint64_t generation = m->last_token + 1 > m->index ? m->last_token + 1 : m->index;
    struct po__schedule *s = po__schedule_make(m, generation, cmd);
    if (!s)
        return;
    m->last_token = generation;
    s->since_ms = m->now_ms;
    if (old)
        replace(m, old, s);
    PO_INVARIANT(po__schedule_link(m, s));
    m->result.id = generation;
    po__fx(m, PO__FX_SCHEDULE, generation, 0, 0);
}

/* What would have ticked during a pause is not made up for. */
static void set_paused(struct po__model *m, struct po__schedule *s, bool paused)
{
    if (s->paused == paused)
        return;
    s->paused = paused;
    s->since_ms = paused ? s->since_ms : m->now_ms;
}

void po__cmd_schedule_change(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__slice name = cmd->schedule_change.name;
    struct po__schedule *s = (struct po__schedule *)po__model_schedule(m, name);
    if (!s) {
        po__refuse(m, PO_ENOTFOUND, "no schedule \"%.*s\" is defined", (int)name.len, name.data);
        return;
    }
    m->result.id = s->generation;
    po__touch_schedule(m, s);
    po__fx(m, PO__FX_SCHEDULE, s->generation, 0, 0);
    if (cmd->schedule_change.change == PO__SCHEDULE_DELETE)
        po__schedule_free(m, s);
    else
        set_paused(m, s, cmd->schedule_change.change == PO__SCHEDULE_PAUSE);
}

/* ---- ticks ---- */

uint64_t po__schedule_decided_ms(const struct po__schedule *s)
{
    return s->last_fire_ms > s->since_ms ? s->last_fire_ms : s->since_ms;
}

uint64_t po__schedule_late_after_ms(const struct po__schedule *s)
{
    return (uint64_t)s->catch_up_ms + PO__SCHEDULE_ON_TIME_MS;
}

static bool under_way(const struct po__model *m, const struct po__schedule *s)
{
    for (uint32_t i = 0; i < s->runs_count; i++)
        if (po__model_run_state(m, s->runs[i].run_id) == PO_RUN_RUNNING)
            return true;
    return false;
}

static void keep_error(struct po__model *m, struct po__schedule *s, uint64_t fire_ms,
                       const char *text)
{
    size_t len = strlen(text);
    char *copy = po__strndup(text, len < PO_ERROR_TEXT_MAX_BYTES ? len : PO_ERROR_TEXT_MAX_BYTES);
    if (!copy) {
        po__oom(m);
        return;
    }
    po__free((void *)s->error.data);
    s->error = po__str(copy);
    s->error_ms = fire_ms;
}

static void keep_run(struct po__schedule *s, uint64_t fire_ms, uint64_t run_id)
{
    if (s->runs_count == PO__SCHEDULE_RUNS_KEPT)
        memmove(s->runs, s->runs + 1, --s->runs_count * sizeof *s->runs);
    s->runs[s->runs_count++] = (struct po__schedule_run){fire_ms, run_id};
}

static void start_run(struct po__model *m, struct po__schedule *s, uint64_t fire_ms)
{
    char key[PO_KEY_MAX_BYTES + 1];
    snprintf(key, sizeof key, "schedule/%" PRIu64 "/%" PRIu64, s->generation, fire_ms);
    struct po__cmd cmd = {.type = PO__CMD_RUN_START};
    cmd.run_start.key = po__str(key);
    cmd.run_start.pipeline = s->pipeline;
    cmd.run_start.params = s->params;
    cmd.run_start.zone = s->zone;
    po__run_start(m, &cmd, fire_ms);
    if (m->err)
        return;
    if (m->result.code) {
        s->refused++;
        keep_error(m, s, fire_ms, m->result.message);
    } else {
        s->fired++;
        keep_run(s, fire_ms, m->result.id);
    }
}

/* Why the tick is not this command's to decide; false: it is. */
static bool refused(struct po__model *m, const struct po__schedule *s, const struct po__cmd *cmd)
{
    uint64_t fire_ms = cmd->schedule_fire.fire_ms;
    if (!s || s->generation != cmd->schedule_fire.generation)
        po__refuse(m, PO_ESTALE, "the schedule was deleted or defined anew meanwhile");
    else if (s->paused)
        po__refuse(m, PO_ESTATE, "the schedule is paused");
    else if (fire_ms <= po__schedule_decided_ms(s))
        po__refuse(m, PO_ESTALE, "the tick was decided before, or is older than the definition");
    else if (fire_ms > m->now_ms)
        po__refuse(m, PO_EINVAL, "the tick is still to come");
    else if (cmd->schedule_fire.late_count && m->now_ms - fire_ms <= po__schedule_late_after_ms(s))
        po__refuse(m, PO_EINVAL, "the tick is to be passed over, but it is not too late");
    return m->result.code != 0;
}

void po__cmd_schedule_fire(struct po__model *m, const struct po__cmd *cmd)
{
    uint64_t fire_ms = cmd->schedule_fire.fire_ms;
    struct po__schedule *s = (struct po__schedule *)po__model_schedule(m, cmd->schedule_fire.name);
    po__fx(m, PO__FX_SCHEDULE, cmd->schedule_fire.generation, 0, 0);
    if (refused(m, s, cmd))
        return;
    po__touch_schedule(m, s);
    s->last_fire_ms = fire_ms;
    if (m->now_ms - fire_ms > po__schedule_late_after_ms(s))
        s->late += cmd->schedule_fire.late_count ? cmd->schedule_fire.late_count : 1;
    else if (s->overlap == PO_OVERLAP_SKIP && under_way(m, s))
        s->skipped++;
    else
        start_run(m, s, fire_ms);
}

/* ---- check ---- */

static int check_runs(const struct po__checker *c, const struct po__schedule *s)
{
    uint64_t before_ms = 0;
    if (s->runs_count > PO__SCHEDULE_RUNS_KEPT || s->runs_count > s->fired)
        return po__broken(c, "schedule %s: %u runs of %" PRIu64 " ticks fired", s->name.data,
                          s->runs_count, s->fired);
    for (uint32_t i = 0; i < s->runs_count; i++) {
        const struct po__schedule_run *r = &s->runs[i];
        if (r->run_id == 0 || r->run_id >= c->m->next_run || r->fire_ms <= before_ms ||
            r->fire_ms > s->last_fire_ms)
            return po__broken(c, "schedule %s: run %" PRIu64 " of tick %" PRIu64 " is impossible",
                              s->name.data, r->run_id, r->fire_ms);
        before_ms = r->fire_ms;
    }
    return 0;
}

int po__check_schedules(const struct po__checker *c)
{
    const struct po__model *m = c->m;
    const struct po__schedule *s = NULL;
    uint64_t n = 0;
    for (struct po__tree_node *it = po__tree_first(&m->schedules_by_generation); it;
         it = po__tree_next(it), n++) {
        s = numbered(it);
        if (po__model_schedule(m, s->name) != s)
            return po__broken(c, "schedule %s is not found by its name", s->name.data);
        if (s->generation == 0 || s->generation > m->last_token)
            return po__broken(c, "schedule %s: generation %" PRIu64 " was never given",
                              s->name.data, s->generation);
        if (s->since_ms > m->now_ms || s->last_fire_ms > m->now_ms ||
            s->error_ms > s->last_fire_ms || (s->error.len != 0) != (s->error_ms != 0))
            return po__broken(c, "schedule %s: its times are impossible", s->name.data);
        if ((s->fired || s->skipped || s->late || s->refused) != (s->last_fire_ms != 0) ||
            (s->error.len && !s->refused))
            return po__broken(c, "schedule %s: its counts and its last tick disagree",
                              s->name.data);
        if (check_runs(c, s))
            return -1;
    }
    if (n != m->schedules.count || n > PO__SCHEDULES_MAX)
        return po__broken(c, "%" PRIu64 " schedules, the index of names holds %" PRIu64, n,
                          m->schedules.count);
    return 0;
}
