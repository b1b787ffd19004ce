/* Commands and configurations in readable form: every field by its name. */
#include <pipeorch/error.h>
#include "../model/command.h"
#include "../spec/spec.h"
#include "out.h"

int po__out_json(struct po__buf *json, struct po__buf *mp)
{
    int rv = mp->err;
    if (!rv)
        rv = po__spec_json_from_mp(json, mp->data, mp->len);
    if (!rv)
        rv = po__buf_append(json, "", 1);
    if (!rv)
        json->len--; /* the NUL is not counted */
    po__buf_fini(mp);
    return rv;
}

void po__describe_conf(struct po__buf *b, const struct po__conf *conf)
{
    po__mpw_array(b, conf->count);
    for (unsigned i = 0; i < conf->count; i++) {
        po__mpw_map(b, 3);
        po__out_uint(b, "id", conf->servers[i].id);
        po__out_cstr(b, "address", conf->servers[i].address);
        po__out_cstr(b, "role", po__role_word(conf->servers[i].role));
    }
}

static void key(struct po__buf *b, struct po__slice k)
{
    bool text = true; /* keys are bytes, but most people use words */
    for (size_t i = 0; i < k.len; i++)
        text = text && k.data[i] >= ' ' && k.data[i] <= '~';
    if (text)
        po__out_text(b, "key", k);
    else
        po__out_bin(b, "key", k.data, k.len);
}

static void begin(struct po__buf *b, const char *type, uint32_t fields)
{
    po__mpw_map(b, fields + 1);
    po__out_cstr(b, "type", type);
}

static void member(struct po__buf *b, const struct po__cmd *c)
{
    begin(b, "member", 7);
    po__out_uint(b, "node_id", c->member.node_id);
    po__out_text(b, "name", c->member.name);
    po__out_text(b, "zone", c->member.zone);
    po__out_text(b, "peer_address", c->member.peer_address);
    po__out_text(b, "worker_address", c->member.worker_address);
    po__out_bin(b, "directory_id", c->member.directory_id.data, c->member.directory_id.len);
    po__out_uint(b, "feature_level", c->member.feature_level);
}

static void member_wish(struct po__buf *b, const struct po__cmd *c)
{
    static const char *const words[] = {"voter", "standby", "voter now", "gone"};
    begin(b, "member_wish", 2);
    po__out_uint(b, "node_id", c->member_wish.node_id);
    po__out_cstr(b, "wish", c->member_wish.wish < 4 ? words[c->member_wish.wish] : "unknown");
}

static void capability(struct po__buf *b, const struct po__cap *c)
{
    po__mpw_map(b, 6);
    po__out_text(b, "name", c->name);
    po__out_text(b, "version", c->version);
    po__out_text(b, "input_schema", c->input_schema);
    po__out_text(b, "output_schema", c->output_schema);
    po__out_bool(b, "requires_gpu", c->requires_gpu);
    po__out_uint(b, "max_concurrency", c->max_concurrency);
}

static void worker_register(struct po__buf *b, const struct po__cmd *c)
{
    bool more = c->type == PO__CMD_WORKER_REGISTER_MORE;
    begin(b, "worker_register", 7 + (more ? 2 : 0));
    po__out_text(b, "worker_id", c->worker_register.id);
    po__out_text(b, "address", c->worker_register.address);
    po__out_text(b, "zone", c->worker_register.zone);
    po__out_uint(b, "incarnation", c->worker_register.incarnation);
    po__out_uint(b, "heartbeat_ms", c->worker_register.heartbeat_ms);
    po__mpw_cstr(b, "labels");
    po__mpw_map(b, c->worker_register.labels_count);
    for (uint32_t i = 0; i < c->worker_register.labels_count; i++) {
        po__mpw_str(b, c->worker_register.label_keys[i]);
        po__mpw_str(b, c->worker_register.label_values[i]);
    }
    po__mpw_cstr(b, "capabilities");
    po__mpw_array(b, c->worker_register.caps_count);
    for (uint32_t i = 0; i < c->worker_register.caps_count; i++)
        capability(b, &c->worker_register.caps[i]);
    if (!more)
        return;
    po__out_uint(b, "slots", c->worker_register.slots);
    po__mpw_cstr(b, "resources");
    po__describe_resources(b, c->worker_register.resources, c->worker_register.resources_count);
}

static void worker_status(struct po__buf *b, const struct po__cmd *c)
{
    static const char *const words[] = {"unknown", "online", "offline", "draining"};
    begin(b, "worker_status", 3);
    po__out_text(b, "worker_id", c->worker_status.id);
    po__out_uint(b, "incarnation", c->worker_status.incarnation);
    po__out_cstr(b, "status", words[c->worker_status.status < 4 ? c->worker_status.status : 0]);
}

static void submit(struct po__buf *b, const struct po__cmd *c)
{
    bool more = c->type == PO__CMD_TASK_SUBMIT_MORE;
    begin(b, "task_submit", 6 + (more ? 1 : 0));
    key(b, c->submit.key);
    po__out_text(b, "capability", c->submit.capability);
    po__out_text(b, "input", c->submit.input);
    po__out_text(b, "zone", c->submit.zone);
    po__out_uint(b, "attempts_max", c->submit.attempts_max);
    po__out_uint(b, "timeout_ms", c->submit.timeout_ms);
    if (more) {
        po__mpw_cstr(b, "extra");
        po__describe_extra(b, c->submit.extra);
    }
}

static void attempt(struct po__buf *b, const char *type, uint64_t task_id, uint64_t token,
                    struct po__slice worker_id, uint32_t more)
{
    begin(b, type, 3 + more);
    po__out_uint(b, "task_id", task_id);
    po__out_uint(b, "token", token);
    po__out_text(b, "worker_id", worker_id);
}

static void checkpoint(struct po__buf *b, const struct po__cmd *c)
{
    attempt(b, "task_checkpoint", c->checkpoint.task_id, c->checkpoint.token,
            c->checkpoint.worker_id, 4);
    po__out_uint(b, "progress", c->checkpoint.progress);
    po__out_bool(b, "has_data", c->checkpoint.has_data);
    po__out_uint(b, "bytes", c->checkpoint.data.len);
    po__out_uint(b, "extend_ms", c->checkpoint.extend_ms);
}

static void pipeline(struct po__buf *b, const struct po__cmd *c)
{
    struct po__mpr r;
    struct po__step s;
    po__mpr_init(&r, c->pipeline.steps.data, c->pipeline.steps.len);
    uint32_t n = po__mpr_array(&r, PO_STEPS_MAX);
    begin(b, "pipeline_define", 3);
    po__out_text(b, "name", c->pipeline.name);
    po__out_text(b, "start_node", c->pipeline.start_node);
    po__mpw_cstr(b, "steps");
    po__mpw_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        if (po__step_decode(&r, &s))
            s = (struct po__step){.name = po__str("malformed")};
        po__mpw_map(b, 6);
        po__out_text(b, "name", s.name);
        po__out_text(b, "capability", s.capability);
        po__out_text(b, "next_node", s.next_node);
        po__out_text(b, "config", s.config);
        po__out_uint(b, "timeout_ms", s.timeout_ms);
        po__out_uint(b, "attempts_max", s.attempts_max);
    }
}

static void run_start(struct po__buf *b, const struct po__cmd *c)
{
    bool more = c->type == PO__CMD_RUN_START_MORE;
    begin(b, more ? "run_start_more" : "run_start", 4 + more);
    key(b, c->run_start.key);
    po__out_text(b, "pipeline", c->run_start.pipeline);
    po__out_text(b, "params", c->run_start.params);
    po__out_text(b, "zone", c->run_start.zone);
    if (more)
        po__out_uint(b, "priority", c->run_start.priority);
}

static void run_resume(struct po__buf *b, const struct po__cmd *c)
{
    begin(b, "run_resume", 3);
    key(b, c->run_resume.key);
    po__out_uint(b, "run_id", c->run_resume.run_id);
    po__out_text(b, "from_step", c->run_resume.from_step);
}

static void schedule_define(struct po__buf *b, const struct po__cmd *c)
{
    begin(b, "schedule_define", 9);
    po__out_text(b, "schedule", c->schedule.name);
    po__out_text(b, "pipeline", c->schedule.pipeline);
    po__out_text(b, "cron", c->schedule.cron);
    po__out_text(b, "time_zone", c->schedule.time_zone);
    po__out_text(b, "params", c->schedule.params);
    po__out_text(b, "zone", c->schedule.zone);
    po__out_text(b, "overlap", po__str(c->schedule.overlap == PO_OVERLAP_SKIP ? "skip" : "allow"));
    po__out_uint(b, "catch_up_ms", c->schedule.catch_up_ms);
    po__out_bool(b, "paused", c->schedule.paused);
}

static void about_schedule(struct po__buf *b, const struct po__cmd *c)
{
    static const char *const changes[] = {"schedule_delete", "schedule_pause", "schedule_resume"};
    switch (c->type) {
    case PO__CMD_SCHEDULE_DEFINE:
        schedule_define(b, c);
        break;
    case PO__CMD_SCHEDULE_CHANGE:
        begin(b, changes[c->schedule_change.change % 3], 1);
        po__out_text(b, "schedule", c->schedule_change.name);
        break;
    default:
        begin(b, "schedule_fire", 4);
        po__out_text(b, "schedule", c->schedule_fire.name);
        po__out_uint(b, "generation", c->schedule_fire.generation);
        po__out_uint(b, "fire_ms", c->schedule_fire.fire_ms);
        po__out_uint(b, "late_count", c->schedule_fire.late_count);
    }
}

/* An application's bytes are its own: the first of them, and how many there are. */
static void app(struct po__buf *b, const struct po__cmd *c)
{
    size_t shown = c->app.data.len < 256 ? c->app.data.len : 256;
    begin(b, "app", 3);
    key(b, c->app.key);
    po__out_uint(b, "bytes", c->app.data.len);
    po__out_bin(b, "data", c->app.data.data, shown);
}

static void about_task(struct po__buf *b, const struct po__cmd *c)
{
    switch (c->type) {
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        submit(b, c);
        break;
    case PO__CMD_TASK_COMPLETE:
        attempt(b, "task_complete", c->complete.task_id, c->complete.token, c->complete.worker_id,
                1);
        po__out_text(b, "result", c->complete.result);
        break;
    case PO__CMD_TASK_FAIL:
        attempt(b, "task_fail", c->fail.task_id, c->fail.token, c->fail.worker_id, 2);
        po__out_text(b, "error", c->fail.error);
        po__out_bool(b, "retryable", c->fail.retryable);
        break;
    case PO__CMD_TASK_CANCEL:
        begin(b, "task_cancel", 1);
        po__out_uint(b, "task_id", c->cancel.task_id);
        break;
    case PO__CMD_TASK_CHECKPOINT:
        checkpoint(b, c);
        break;
    case PO__CMD_TASK_RETRY:
        begin(b, "task_retry", 1);
        po__out_uint(b, "task_id", c->retry.task_id);
        break;
    default:
        attempt(b, "task_extend", c->extend.task_id, c->extend.token, c->extend.worker_id, 1);
        po__out_uint(b, "extend_ms", c->extend.extend_ms);
        break;
    }
}

void po__describe_command(struct po__buf *b, const struct po__cmd *c)
{
    switch (c->type) {
    case PO__CMD_TICK:
        begin(b, "tick", 0);
        break;
    case PO__CMD_MEMBER:
        member(b, c);
        break;
    case PO__CMD_MEMBER_WISH:
        member_wish(b, c);
        break;
    case PO__CMD_LEADER:
        begin(b, "leader", 2);
        po__out_uint(b, "node_id", c->leader.node_id);
        po__out_uint(b, "term", c->leader.term);
        break;
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        worker_register(b, c);
        break;
    case PO__CMD_WORKER_STATUS:
        worker_status(b, c);
        break;
    case PO__CMD_WORKER_DEREGISTER:
        begin(b, "worker_deregister", 2);
        po__out_text(b, "worker_id", c->worker_deregister.id);
        po__out_uint(b, "incarnation", c->worker_deregister.incarnation);
        break;
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_COMPLETE:
    case PO__CMD_TASK_FAIL:
    case PO__CMD_TASK_CANCEL:
    case PO__CMD_TASK_EXTEND:
    case PO__CMD_TASK_SUBMIT_MORE:
    case PO__CMD_TASK_CHECKPOINT:
    case PO__CMD_TASK_RETRY:
        about_task(b, c);
        break;
    case PO__CMD_PIPELINE_DEFINE:
        pipeline(b, c);
        break;
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        begin(b, "pipeline_define_graph", 5);
        po__describe_graph(b, &c->graph);
        break;
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
        run_start(b, c);
        break;
    case PO__CMD_RUN_RESUME:
        run_resume(b, c);
        break;
    case PO__CMD_RUN_CANCEL:
        begin(b, "run_cancel", 1);
        po__out_uint(b, "run_id", c->run_cancel.run_id);
        break;
    case PO__CMD_SCHEDULE_DEFINE:
    case PO__CMD_SCHEDULE_CHANGE:
    case PO__CMD_SCHEDULE_FIRE:
        about_schedule(b, c);
        break;
    case PO__CMD_APP:
        app(b, c);
        break;
    default: /* of a newer program */
        begin(b, "unknown", 1);
        po__out_uint(b, "number", c->type);
        break;
    }
}
