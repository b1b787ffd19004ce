/* Reading schedules back from a snapshot; as restore.c, which calls this. What is put together here
 * is looked at once more by po__check_schedules. */
#include "impl.h"

static uint64_t u64(struct po__mpr *r)
{
    return po__mpr_uint(r, UINT64_MAX);
}

static void read_runs(struct po__mpr *r, struct po__schedule *s)
{
    s->runs_count = po__mpr_array(r, PO__SCHEDULE_RUNS_KEPT);
    for (uint32_t i = 0; i < s->runs_count && !r->err; i++) {
        if (po__mpr_array(r, 2) != 2)
            po__mpr_fail(r);
        s->runs[i].fire_ms = u64(r);
        s->runs[i].run_id = u64(r);
    }
}

/* Everything but the definition, which comes last. The error is borrowed. */
static void read_history(struct po__mpr *r, struct po__schedule *s)
{
    s->since_ms = u64(r);
    s->last_fire_ms = u64(r);
    s->fired = u64(r);
    s->skipped = u64(r);
    s->late = u64(r);
    s->refused = u64(r);
    s->error_ms = u64(r);
    s->error = po__mpr_str(r, PO_ERROR_TEXT_MAX_BYTES);
    read_runs(r, s);
}

/* A text of its own; false: no memory. */
static bool own(struct po__slice *text)
{
    text->data = text->len ? po__strndup(text->data, text->len) : NULL;
    return text->len == 0 || text->data;
}

int po__restore_schedule(struct po__model *m, struct po__mpr *r, uint64_t generation,
                         struct po__cmd *cmd)
{
    struct po__schedule history = {0};
    read_history(r, &history);
    if (po__cmd_decode(r, cmd, true) || cmd->type != PO__CMD_SCHEDULE_DEFINE ||
        po__cmd_check(cmd, NULL, 0) || m->schedules.count >= PO__SCHEDULES_MAX)
        return PO_ECORRUPT;
    struct po__schedule *s = po__schedule_make(m, generation, cmd);
    if (!s)
        return PO_ENOMEM;
    if (!own(&history.error)) {
        po__schedule_free(m, s);
        return PO_ENOMEM;
    }
    po__schedule_inherit(s, &history);
    s->since_ms = history.since_ms;
    if (po__schedule_link(m, s))
        return 0;
    po__schedule_free(m, s);
    return PO_ECORRUPT;
}
