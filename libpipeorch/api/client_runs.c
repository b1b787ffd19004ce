/* The calls of client.h that define pipelines and change runs. */
#include <pipeorch/client.h>

#include "../base/alloc.h"
#include "../spec/spec.h"
#include "call.h"

static struct po__slice text_or(const char *text, const char *otherwise)
{
    return po__str(text ? text : otherwise);
}

/* ---- pipelines ---- */

int po_pipeline_validate(const char *json, size_t len, const char *file_name, char **problems)
{
    struct po__doc d = {.file = file_name};
    struct po__cmd cmd;
    struct po__buf steps = {0};
    json_t *keep = NULL;
    if (problems)
        *problems = NULL;
    if (!json && len > 0)
        return po__client_fail(PO_EINVAL, "the pipeline document is NULL");
    int rv = po__spec_pipeline(&d, json, len, &cmd, &keep, &steps);
    if (rv)
        po__client_fail(rv, "%.*s", (int)d.problems.len, (const char *)d.problems.data);
    else
        json_decref(keep);
    if (rv && problems && !(*problems = po__strndup((const char *)d.problems.data, d.problems.len)))
        rv = PO_ENOMEM;
    po__buf_fini(&steps);
    po__buf_fini(&d.problems);
    return rv;
}

static int prepare_define(struct po__call *call, const char *json, size_t len,
                          const struct po_call_opts *opts)
{
    struct po__doc d = {0};
    struct po__cmd cmd;
    struct po__buf steps = {0};
    json_t *keep = NULL;
    if (!json && len > 0)
        return po__client_fail(PO_EINVAL, "the pipeline document is NULL");
    int rv = po__spec_pipeline(&d, json, len, &cmd, &keep, &steps);
    if (rv) {
        po__client_fail(rv, "%.*s", (int)d.problems.len, (const char *)d.problems.data);
    } else {
        rv = po__call_command(call, &cmd, opts);
        json_decref(keep);
    }
    po__buf_fini(&steps);
    po__buf_fini(&d.problems);
    return rv;
}

int po_pipeline_define(po_client *client, const char *json, size_t len,
                       const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_define(&call, json, len, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_pipeline_define_async(po_client *client, const char *json, size_t len,
                             const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_define(&call, json, len, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

/* ---- runs ---- */

/* A start without a priority is the command that every release knows. */
static int prepare_run_start(struct po__call *call, const struct po_run_opts *run,
                             const struct po_call_opts *opts)
{
    struct po_run_opts r = {0};
    struct po__cmd cmd = {.type = PO__CMD_RUN_START};
    uint8_t drawn[PO__DRAWN_KEY_BYTES];
    int rv = run ? po__read_struct(&r, sizeof r, run, "po_run_opts")
                 : po__client_fail(PO_EINVAL, "the run is NULL");
    rv = rv ? rv : po__call_key(&cmd.run_start.key, drawn, opts);
    if (rv)
        return rv;
    if (r.priority)
        cmd.type = PO__CMD_RUN_START_MORE;
    cmd.run_start.pipeline = text_or(r.pipeline, "");
    cmd.run_start.params = text_or(r.params, "");
    cmd.run_start.zone = text_or(r.zone, "");
    cmd.run_start.priority = r.priority;
    return po__call_command(call, &cmd, opts);
}

int po_run_start_with(po_client *client, const struct po_run_opts *run,
                      const struct po_call_opts *opts, uint64_t *run_id)
{
    struct po__call call;
    int rv = prepare_run_start(&call, run, opts);
    return rv ? rv : po__call_wait_id(client, &call, run_id);
}

int po_run_start_with_async(po_client *client, const struct po_run_opts *run,
                            const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_run_start(&call, run, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

int po_run_start(po_client *client, const char *pipeline, const char *params, const char *zone,
                 const struct po_call_opts *opts, uint64_t *run_id)
{
    const struct po_run_opts run = {
        .size = sizeof run, .pipeline = pipeline, .params = params, .zone = zone};
    return po_run_start_with(client, &run, opts, run_id);
}

int po_run_start_async(po_client *client, const char *pipeline, const char *params,
                       const char *zone, const struct po_call_opts *opts, po_result_cb cb,
                       void *arg)
{
    const struct po_run_opts run = {
        .size = sizeof run, .pipeline = pipeline, .params = params, .zone = zone};
    return po_run_start_with_async(client, &run, opts, cb, arg);
}

static int prepare_run_resume(struct po__call *call, uint64_t run_id, const char *from_step,
                              const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_RUN_RESUME};
    uint8_t drawn[PO__DRAWN_KEY_BYTES];
    int rv = po__call_key(&cmd.run_resume.key, drawn, opts);
    if (rv)
        return rv;
    cmd.run_resume.run_id = run_id;
    cmd.run_resume.from_step = text_or(from_step, "");
    return po__call_command(call, &cmd, opts);
}

int po_run_resume(po_client *client, uint64_t run_id, const char *from_step,
                  const struct po_call_opts *opts, uint64_t *new_run_id)
{
    struct po__call call;
    int rv = prepare_run_resume(&call, run_id, from_step, opts);
    return rv ? rv : po__call_wait_id(client, &call, new_run_id);
}

int po_run_resume_async(po_client *client, uint64_t run_id, const char *from_step,
                        const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_run_resume(&call, run_id, from_step, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int prepare_run_cancel(struct po__call *call, uint64_t run_id,
                              const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_RUN_CANCEL, .run_cancel.run_id = run_id};
    return po__call_command(call, &cmd, opts);
}

int po_run_cancel(po_client *client, uint64_t run_id, const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_run_cancel(&call, run_id, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_run_cancel_async(po_client *client, uint64_t run_id, const struct po_call_opts *opts,
                        po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_run_cancel(&call, run_id, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}
