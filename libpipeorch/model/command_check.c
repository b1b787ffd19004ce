/* What can be said about a command without the state. The leader asks before a command enters the
 * log, so that apply need not have an opinion about names and ranges; whoever sent it reads the
 * sentence. */
#include "command.h"

#include <stdlib.h>

#include "../codec/json.h"
#include "refuse.h"

#define NAME_HINT       "expected 1.." STRINGIFY(PO_NAME_MAX_BYTES) " characters of A-Z a-z 0-9 . _ -"
#define CAPABILITY_HINT "expected \"verb:name\", each part of a-z 0-9 . _ -"
#define STRINGIFY(x)    STRINGIFY2(x)
#define STRINGIFY2(x)   #x

static int name(const struct po__refusal *c, const char *field, struct po__slice s)
{
    return po__name_ok(s) ? 0
                          : po__refuse(c, PO_EINVAL, "%s \"%.*s\" is not a name; " NAME_HINT, field,
                                       PO__SHOWN(s));
}

static int name_or_empty(const struct po__refusal *c, const char *field, struct po__slice s)
{
    return s.len ? name(c, field, s) : 0;
}

static int capability(const struct po__refusal *c, struct po__slice s)
{
    return po__capability_ok(s)
               ? 0
               : po__refuse(c, PO_EINVAL, "capability \"%.*s\" is malformed; " CAPABILITY_HINT,
                            PO__SHOWN(s));
}

static int in_range(const struct po__refusal *c, const char *field, uint64_t v, uint64_t min,
                    uint64_t max)
{
    if (v >= min && v <= max)
        return 0;
    return po__refuse(c, PO_EINVAL, "%s is %llu; expected %llu..%llu", field, (unsigned long long)v,
                      (unsigned long long)min, (unsigned long long)max);
}

static int in_range_or_0(const struct po__refusal *c, const char *field, uint64_t v, uint64_t min,
                         uint64_t max)
{
    return v ? in_range(c, field, v, min, max) : 0;
}

static int at_most(const struct po__refusal *c, const char *field, struct po__slice s,
                   size_t max_bytes)
{
    if (s.len <= max_bytes)
        return 0;
    return po__refuse(c, PO_ETOOBIG, "%s has %zu bytes; at most %zu are allowed", field, s.len,
                      max_bytes);
}

/* Empty stands for null. */
static int json(const struct po__refusal *c, const char *field, struct po__slice s,
                size_t max_bytes)
{
    int rv = at_most(c, field, s, max_bytes);
    if (!rv && s.len && !po__json_ok(s))
        rv = po__refuse(c, PO_EINVAL,
                        "%s is not a JSON text; expected exactly one JSON value in UTF-8", field);
    return rv;
}

/* Shown to people and put into redirects: no control characters, no spaces. */
static int address(const struct po__refusal *c, const char *field, struct po__slice s)
{
    int rv = at_most(c, field, s, PO_ADDRESS_MAX_BYTES);
    for (size_t i = 0; !rv && i < s.len; i++)
        if ((unsigned char)s.data[i] <= ' ' || s.data[i] == 0x7f)
            rv = po__refuse(c, PO_EINVAL, "%s holds a space or control character at byte %zu",
                            field, i);
    return rv;
}

static int member(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = in_range(c, "node_id", cmd->member.node_id, 1, UINT64_MAX);
    rv = rv ? rv : name(c, "node name", cmd->member.name);
    rv = rv ? rv : name(c, "zone", cmd->member.zone);
    rv = rv ? rv : address(c, "peer address", cmd->member.peer_address);
    rv = rv ? rv : address(c, "worker address", cmd->member.worker_address);
    if (!rv && cmd->member.directory_id.len != PO__DIRECTORY_ID_BYTES)
        rv = po__refuse(c, PO_EINVAL, "directory_id has %zu bytes; expected %d",
                        cmd->member.directory_id.len, PO__DIRECTORY_ID_BYTES);
    return rv;
}

static int labels(const struct po__refusal *c, const struct po__cmd *cmd)
{
    uint32_t n = cmd->worker_register.labels_count;
    const struct po__slice *keys = cmd->worker_register.label_keys;
    int rv = in_range(c, "number of labels", n, 0, PO_LABELS_MAX);
    for (uint32_t i = 0; !rv && i < n; i++) {
        rv = at_most(c, "label key", keys[i], PO__LABEL_MAX_BYTES);
        rv = rv ? rv
                : at_most(c, "label value", cmd->worker_register.label_values[i],
                          PO__LABEL_MAX_BYTES);
        if (!rv && keys[i].len == 0)
            rv = po__refuse(c, PO_EINVAL, "label %u has an empty key", i + 1);
        for (uint32_t k = 0; !rv && k < i; k++)
            if (po__slice_eq(keys[i], keys[k]))
                rv = po__refuse(c, PO_EINVAL, "label \"%.*s\" is given twice", PO__SHOWN(keys[i]));
    }
    return rv;
}

static int caps(const struct po__refusal *c, const struct po__cmd *cmd)
{
    uint32_t n = cmd->worker_register.caps_count;
    int rv = in_range(c, "number of capabilities", n, 1, PO_CAPABILITIES_MAX);
    for (uint32_t i = 0; !rv && i < n; i++) {
        const struct po__cap *cap = &cmd->worker_register.caps[i];
        rv = capability(c, cap->name);
        if (!rv && cap->version.len && !po__semver_ok(cap->version))
            rv = po__refuse(
                c, PO_EINVAL,
                "version \"%.*s\" of capability \"%.*s\" is not a semantic version; expected "
                "MAJOR.MINOR.PATCH",
                PO__SHOWN(cap->version), PO__SHOWN(cap->name));
        rv = rv ? rv : json(c, "input_schema", cap->input_schema, PO__SCHEMA_MAX_BYTES);
        rv = rv ? rv : json(c, "output_schema", cap->output_schema, PO__SCHEMA_MAX_BYTES);
        rv = rv ? rv
                : in_range_or_0(c, "max_concurrency", cap->max_concurrency, 1, PO_CONCURRENCY_MAX);
        for (uint32_t k = 0; !rv && k < i; k++)
            if (po__slice_eq(cap->name, cmd->worker_register.caps[k].name))
                rv = po__refuse(c, PO_EINVAL, "capability \"%.*s\" is given twice",
                                PO__SHOWN(cap->name));
    }
    return rv;
}

static int worker_register(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = name(c, "worker id", cmd->worker_register.id);
    rv = rv ? rv : name_or_empty(c, "zone", cmd->worker_register.zone);
    rv = rv ? rv : address(c, "address", cmd->worker_register.address);
    rv = rv ? rv : in_range(c, "incarnation", cmd->worker_register.incarnation, 1, UINT64_MAX);
    rv = rv ? rv
            : in_range_or_0(c, "heartbeat_ms", cmd->worker_register.heartbeat_ms,
                            PO__HEARTBEAT_MIN_MS, PO__HEARTBEAT_MAX_MS);
    rv = rv ? rv : labels(c, cmd);
    rv = rv ? rv : caps(c, cmd);
    rv = rv ? rv : in_range(c, "slots", cmd->worker_register.slots, 0, PO__SLOTS_MAX);
    return rv ? rv
              : po__resources_check(cmd->worker_register.resources,
                                    cmd->worker_register.resources_count, c->message,
                                    c->message_len);
}

static int submit(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = at_most(c, "idempotency key", cmd->submit.key, PO_KEY_MAX_BYTES);
    rv = rv ? rv : capability(c, cmd->submit.capability);
    rv = rv ? rv : name_or_empty(c, "zone", cmd->submit.zone);
    rv = rv ? rv : in_range_or_0(c, "attempts_max", cmd->submit.attempts_max, 1, PO__ATTEMPTS_MAX);
    rv = rv ? rv
            : in_range_or_0(c, "timeout_ms", cmd->submit.timeout_ms, PO__ATTEMPT_MIN_MS,
                            PO__ATTEMPT_MAX_MS);
    struct po__extra extra;
    if (!rv && cmd->type == PO__CMD_TASK_SUBMIT_MORE)
        rv = po__extra_decode(cmd->submit.extra, &extra)
                 ? po__refuse(c, PO_EINVAL, "the extra of the task cannot be read")
                 : po__extra_check(&extra, c->message, c->message_len);
    return rv ? rv : json(c, "input", cmd->submit.input, PO_PAYLOAD_MAX_BYTES);
}

/* What every answer of a worker about an attempt names. */
static int attempt(const struct po__refusal *c, uint64_t task_id, uint64_t token,
                   struct po__slice worker_id)
{
    int rv = in_range(c, "task_id", task_id, 1, UINT64_MAX);
    rv = rv ? rv : in_range(c, "token", token, 1, UINT64_MAX);
    return rv ? rv : name(c, "worker id", worker_id);
}

static int checkpoint(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = attempt(c, cmd->checkpoint.task_id, cmd->checkpoint.token, cmd->checkpoint.worker_id);
    rv = rv ? rv : at_most(c, "checkpoint", cmd->checkpoint.data, PO_CHECKPOINT_MAX_BYTES);
    return rv ? rv
              : in_range_or_0(c, "extend_ms", cmd->checkpoint.extend_ms, PO__ATTEMPT_MIN_MS,
                              PO__ATTEMPT_MAX_MS);
}

/* ---- pipelines ---- */

struct link {
    struct po__slice name, next;
    bool reached;
};

static int link_cmp(const void *a, const void *b)
{
    return po__slice_cmp(((const struct link *)a)->name, ((const struct link *)b)->name);
}

static struct link *link_find(struct link *links, uint32_t n, struct po__slice wanted)
{
    struct link key = {.name = wanted};
    return bsearch(&key, links, n, sizeof *links, link_cmp);
}

/* links are sorted by name. Follow the chain from the start: it must name every step exactly once.
 */
static int chain(const struct po__refusal *c, struct link *links, uint32_t n,
                 struct po__slice start)
{
    for (uint32_t i = 1; i < n; i++)
        if (po__slice_eq(links[i - 1].name, links[i].name))
            return po__refuse(c, PO_EINVAL, "step \"%.*s\" is defined twice",
                              PO__SHOWN(links[i].name));
    for (uint32_t i = 0; i < n; i++)
        if (links[i].next.len && !link_find(links, n, links[i].next))
            return po__refuse(c, PO_EINVAL, "step \"%.*s\": next_node \"%.*s\" names no step",
                              PO__SHOWN(links[i].name), PO__SHOWN(links[i].next));
    struct link *at = link_find(links, n, start);
    if (!at)
        return po__refuse(c, PO_EINVAL, "start_node \"%.*s\" names no step", PO__SHOWN(start));
    while (at && !at->reached) {
        at->reached = true;
        at = at->next.len ? link_find(links, n, at->next) : NULL;
    }
    if (at)
        return po__refuse(
            c, PO_EINVAL,
            "the steps form a cycle through \"%.*s\"; one step must have no next_node",
            PO__SHOWN(at->name));
    for (uint32_t i = 0; i < n; i++)
        if (!links[i].reached)
            return po__refuse(c, PO_EINVAL,
                              "step \"%.*s\" cannot be reached from start_node \"%.*s\"",
                              PO__SHOWN(links[i].name), PO__SHOWN(start));
    return 0;
}

static int step(const struct po__refusal *c, const struct po__step *s)
{
    int rv = name(c, "step name", s->name);
    rv = rv ? rv : capability(c, s->capability);
    rv = rv ? rv : name_or_empty(c, "next_node", s->next_node);
    rv = rv ? rv : json(c, "config", s->config, PO__PIPELINE_MAX_BYTES);
    rv = rv ? rv
            : in_range_or_0(c, "timeout_ms", s->timeout_ms, PO__ATTEMPT_MIN_MS, PO__ATTEMPT_MAX_MS);
    return rv ? rv : in_range_or_0(c, "attempts_max", s->attempts_max, 1, PO__ATTEMPTS_MAX);
}

static int pipeline(const struct po__refusal *c, const struct po__cmd *cmd)
{
    struct link links[PO_STEPS_MAX]; /* 40 KiB; this runs on threads of ours, never in apply */
    struct po__mpr r;
    struct po__step s;
    uint32_t n = cmd->pipeline.steps_count;
    int rv = name(c, "pipeline name", cmd->pipeline.name);
    rv = rv ? rv : name(c, "start_node", cmd->pipeline.start_node);
    rv = rv ? rv : at_most(c, "pipeline", cmd->pipeline.steps, PO__PIPELINE_MAX_BYTES);
    rv = rv ? rv : in_range(c, "number of steps", n, 1, PO_STEPS_MAX);
    if (rv)
        return rv;
    po__mpr_init(&r, cmd->pipeline.steps.data, cmd->pipeline.steps.len);
    if (po__mpr_array(&r, PO_STEPS_MAX) != n)
        return po__refuse(c, PO_EINVAL, "steps_count does not match the encoded steps");
    for (uint32_t i = 0; i < n; i++) {
        if (po__step_decode(&r, &s))
            return po__refuse(c, PO_EINVAL, "step %u is malformed", i + 1);
        rv = step(c, &s);
        if (rv)
            return rv;
        links[i] = (struct link){.name = s.name, .next = s.next_node};
    }
    if (po__mpr_end(&r))
        return po__refuse(c, PO_EINVAL, "bytes follow the last of %u steps", n);
    qsort(links, n, sizeof *links, link_cmp);
    return chain(c, links, n, cmd->pipeline.start_node);
}

static int run_start(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = at_most(c, "idempotency key", cmd->run_start.key, PO_KEY_MAX_BYTES);
    rv = rv ? rv : name(c, "pipeline name", cmd->run_start.pipeline);
    rv = rv ? rv : name_or_empty(c, "zone", cmd->run_start.zone);
    if (!rv && cmd->type == PO__CMD_RUN_START_MORE)
        rv = in_range(c, "priority", cmd->run_start.priority, 0, PO_PRIORITY_MAX);
    return rv ? rv : json(c, "params", cmd->run_start.params, PO_PAYLOAD_MAX_BYTES);
}

/* Whether the expression and the time zone mean anything is the leader's to say, who has the zones'
 * files; here they are texts that can be stored and shown. */
static int shown_text(const struct po__refusal *c, const char *field, struct po__slice s,
                      size_t max)
{
    if (s.len == 0)
        return po__refuse(c, PO_EINVAL, "%s is empty", field);
    int rv = at_most(c, field, s, max);
    for (size_t i = 0; !rv && i < s.len; i++)
        if ((s.data[i] < ' ' && s.data[i] != '\t') || s.data[i] > '~')
            rv = po__refuse(c, PO_EINVAL,
                            "%s holds a character that is not printable ASCII at byte %zu", field,
                            i);
    return rv;
}

static int schedule_define(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = name(c, "schedule name", cmd->schedule.name);
    rv = rv ? rv : name(c, "pipeline name", cmd->schedule.pipeline);
    rv = rv ? rv : shown_text(c, "cron", cmd->schedule.cron, PO_CRON_MAX_BYTES);
    rv = rv ? rv : shown_text(c, "time zone", cmd->schedule.time_zone, PO_TIME_ZONE_MAX_BYTES);
    rv = rv ? rv : name_or_empty(c, "zone", cmd->schedule.zone);
    rv = rv ? rv : json(c, "params", cmd->schedule.params, PO__SCHEDULE_PARAMS_MAX_BYTES);
    rv = rv ? rv : in_range(c, "overlap", cmd->schedule.overlap, PO_OVERLAP_ALLOW, PO_OVERLAP_SKIP);
    return rv ? rv : in_range(c, "catch_up_ms", cmd->schedule.catch_up_ms, 0, PO_CATCH_UP_MAX_MS);
}

static int schedule_fire(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = name(c, "schedule name", cmd->schedule_fire.name);
    rv = rv ? rv : in_range(c, "generation", cmd->schedule_fire.generation, 1, UINT64_MAX);
    return rv ? rv : in_range(c, "fire_ms", cmd->schedule_fire.fire_ms, 1, UINT64_MAX);
}

static int worker_status(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = name(c, "worker id", cmd->worker_status.id);
    return rv ? rv
              : in_range(c, "worker status", cmd->worker_status.status, PO_WORKER_ONLINE,
                         PO_WORKER_DRAINING);
}

static int app(const struct po__refusal *c, const struct po__cmd *cmd)
{
    int rv = at_most(c, "idempotency key", cmd->app.key, PO_KEY_MAX_BYTES);
    rv = rv ? rv : at_most(c, "application command", cmd->app.data, PO_PAYLOAD_MAX_BYTES);
    if (!rv && cmd->app.data.len == 0)
        rv = po__refuse(c, PO_EINVAL, "the application command is empty");
    return rv;
}

int po__cmd_check(const struct po__cmd *cmd, char *message, size_t message_len)
{
    struct po__refusal c = {message, message_len};
    int rv;
    if (message_len)
        message[0] = '\0';
    switch (cmd->type) {
    case PO__CMD_TICK:
        return 0;
    case PO__CMD_MEMBER:
        return member(&c, cmd);
    case PO__CMD_MEMBER_WISH:
        rv = in_range(&c, "node_id", cmd->member_wish.node_id, 1, UINT64_MAX);
        return rv ? rv : in_range(&c, "wish", cmd->member_wish.wish, 0, PO__WISH_GONE);
    case PO__CMD_LEADER:
        rv = in_range(&c, "node_id", cmd->leader.node_id, 1, UINT64_MAX);
        return rv ? rv : in_range(&c, "term", cmd->leader.term, 1, UINT64_MAX);
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        return worker_register(&c, cmd);
    case PO__CMD_WORKER_STATUS:
        return worker_status(&c, cmd);
    case PO__CMD_WORKER_DEREGISTER:
        return name(&c, "worker id", cmd->worker_deregister.id);
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        return submit(&c, cmd);
    case PO__CMD_TASK_CHECKPOINT:
        return checkpoint(&c, cmd);
    case PO__CMD_TASK_RETRY:
        return in_range(&c, "task_id", cmd->retry.task_id, 1, UINT64_MAX);
    case PO__CMD_TASK_COMPLETE:
        rv = attempt(&c, cmd->complete.task_id, cmd->complete.token, cmd->complete.worker_id);
        return rv ? rv : json(&c, "result", cmd->complete.result, PO_PAYLOAD_MAX_BYTES);
    case PO__CMD_TASK_FAIL:
        rv = attempt(&c, cmd->fail.task_id, cmd->fail.token, cmd->fail.worker_id);
        return rv ? rv : at_most(&c, "error text", cmd->fail.error, PO_ERROR_TEXT_MAX_BYTES);
    case PO__CMD_TASK_CANCEL:
        return in_range(&c, "task_id", cmd->cancel.task_id, 1, UINT64_MAX);
    case PO__CMD_TASK_EXTEND:
        rv = attempt(&c, cmd->extend.task_id, cmd->extend.token, cmd->extend.worker_id);
        return rv ? rv
                  : in_range(&c, "extend_ms", cmd->extend.extend_ms, PO__ATTEMPT_MIN_MS,
                             PO__ATTEMPT_MAX_MS);
    case PO__CMD_PIPELINE_DEFINE:
        return pipeline(&c, cmd);
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        return po__graph_check(&cmd->graph, message, message_len);
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
        return run_start(&c, cmd);
    case PO__CMD_RUN_RESUME:
        rv = at_most(&c, "idempotency key", cmd->run_resume.key, PO_KEY_MAX_BYTES);
        rv = rv ? rv : in_range(&c, "run_id", cmd->run_resume.run_id, 1, UINT64_MAX);
        return rv ? rv : name_or_empty(&c, "from_step", cmd->run_resume.from_step);
    case PO__CMD_RUN_CANCEL:
        return in_range(&c, "run_id", cmd->run_cancel.run_id, 1, UINT64_MAX);
    case PO__CMD_SCHEDULE_DEFINE:
        return schedule_define(&c, cmd);
    case PO__CMD_SCHEDULE_CHANGE:
        rv = name(&c, "schedule name", cmd->schedule_change.name);
        return rv ? rv
                  : in_range(&c, "change", cmd->schedule_change.change, PO__SCHEDULE_DELETE,
                             PO__SCHEDULE_RESUME);
    case PO__CMD_SCHEDULE_FIRE:
        return schedule_fire(&c, cmd);
    case PO__CMD_APP:
        return app(&c, cmd);
    default:
        return po__refuse(&c, PO_EINVAL, "unknown type of command %u", cmd->type);
    }
}
