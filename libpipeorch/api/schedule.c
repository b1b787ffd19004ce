/* The calls of client.h about schedules. Whether cron expression and time zone mean anything is the
 * leader's to say; the sentence comes from there. */
#include "call.h"

#include <string.h>

static struct po__slice text_or(const char *text, const char *otherwise)
{
    return po__str(text ? text : otherwise);
}

static int prepare_define(struct po__call *call, const struct po_schedule_opts *schedule,
                          const struct po_call_opts *opts)
{
    struct po_schedule_opts s = {0};
    struct po__cmd cmd = {.type = PO__CMD_SCHEDULE_DEFINE};
    int rv = schedule ? po__read_struct(&s, sizeof s, schedule, "po_schedule_opts")
                      : po__client_fail(PO_EINVAL, "the schedule is NULL");
    if (rv)
        return rv;
    if (s.overlap != PO_OVERLAP_ALLOW && s.overlap != PO_OVERLAP_SKIP)
        return po__client_fail(PO_EINVAL, "overlap is %d; expected PO_OVERLAP_ALLOW or _SKIP",
                               s.overlap);
    cmd.schedule.name = text_or(s.name, "");
    cmd.schedule.pipeline = text_or(s.pipeline, "");
    cmd.schedule.cron = text_or(s.cron, "");
    cmd.schedule.time_zone = text_or(s.time_zone, "UTC");
    cmd.schedule.params = text_or(s.params, "");
    cmd.schedule.zone = text_or(s.zone, "");
    cmd.schedule.overlap = (uint32_t)s.overlap;
    cmd.schedule.catch_up_ms = s.catch_up_ms == 0                  ? PO_CATCH_UP_DEFAULT_MS
                               : s.catch_up_ms == PO_CATCH_UP_NONE ? 0
                                                                   : s.catch_up_ms;
    cmd.schedule.paused = s.paused != 0;
    return po__call_command(call, &cmd, opts);
}

int po_schedule_define(po_client *client, const struct po_schedule_opts *schedule,
                       const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_define(&call, schedule, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_schedule_define_async(po_client *client, const struct po_schedule_opts *schedule,
                             const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_define(&call, schedule, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int prepare_change(struct po__call *call, const char *name, enum po__schedule_change change,
                          const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_SCHEDULE_CHANGE};
    cmd.schedule_change.name = text_or(name, "");
    cmd.schedule_change.change = change;
    return po__call_command(call, &cmd, opts);
}

int po_schedule_delete(po_client *client, const char *name, const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_change(&call, name, PO__SCHEDULE_DELETE, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_schedule_delete_async(po_client *client, const char *name, const struct po_call_opts *opts,
                             po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_change(&call, name, PO__SCHEDULE_DELETE, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static enum po__schedule_change pause_or_resume(int paused)
{
    return paused ? PO__SCHEDULE_PAUSE : PO__SCHEDULE_RESUME;
}

int po_schedule_pause(po_client *client, const char *name, int paused,
                      const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_change(&call, name, pause_or_resume(paused), opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_schedule_pause_async(po_client *client, const char *name, int paused,
                            const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_change(&call, name, pause_or_resume(paused), opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}
