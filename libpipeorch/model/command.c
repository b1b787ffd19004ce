/* Encoding and decoding of commands. One function per shape of command in each direction; the order
 * of the fields on the wire is the order of the struct, and a test compares every command with its
 * decoded copy.
 *
 * struct po__cmd is several KiB because of worker_register, and decoding is on the path of every
 * command of every node: only the members of the type at hand are ever written. */
#include "command.h"

#include "../base/assert.h"

/* Number of fields of a type, its number included; 0: unknown. */
static uint32_t fields(uint32_t type)
{
    switch (type) {
    case PO__CMD_TICK:
        return 1;
    case PO__CMD_TASK_CANCEL:
    case PO__CMD_TASK_RETRY:
    case PO__CMD_RUN_CANCEL:
        return 2;
    case PO__CMD_WORKER_DEREGISTER:
    case PO__CMD_MEMBER_WISH:
    case PO__CMD_LEADER:
    case PO__CMD_SCHEDULE_CHANGE:
    case PO__CMD_APP:
        return 3;
    case PO__CMD_WORKER_STATUS:
    case PO__CMD_PIPELINE_DEFINE:
    case PO__CMD_RUN_RESUME:
        return 4;
    case PO__CMD_TASK_COMPLETE:
    case PO__CMD_TASK_EXTEND:
    case PO__CMD_RUN_START:
    case PO__CMD_SCHEDULE_FIRE:
        return 5;
    case PO__CMD_TASK_FAIL:
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
    case PO__CMD_RUN_START_MORE:
        return 6;
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_CHECKPOINT:
        return 7;
    case PO__CMD_MEMBER:
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_TASK_SUBMIT_MORE:
        return 8;
    case PO__CMD_WORKER_REGISTER_MORE:
    case PO__CMD_SCHEDULE_DEFINE:
        return 10;
    default:
        return 0;
    }
}

uint32_t po__cmd_level(uint32_t type)
{
    switch (type) {
    case PO__CMD_MEMBER_WISH:
        return PO__LEVEL_WISHES;
    case PO__CMD_LEADER:
    case PO__CMD_WORKER_REGISTER_MORE:
    case PO__CMD_TASK_SUBMIT_MORE:
    case PO__CMD_TASK_CHECKPOINT:
    case PO__CMD_TASK_RETRY:
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
    case PO__CMD_RUN_START_MORE:
    case PO__CMD_RUN_RESUME:
    case PO__CMD_SCHEDULE_DEFINE:
    case PO__CMD_SCHEDULE_CHANGE:
    case PO__CMD_SCHEDULE_FIRE:
        return PO__LEVEL_ORCHESTRATION;
    default:
        return 1;
    }
}

/* ---- encode ---- */

/* Labels go in the order of their keys, so that equal registrations are equal bytes. At most
 * PO_LABELS_MAX: insertion sort. */
static void encode_labels(struct po__buf *buf, const struct po__cmd *cmd)
{
    uint32_t order[PO_LABELS_MAX], n = cmd->worker_register.labels_count;
    const struct po__slice *keys = cmd->worker_register.label_keys;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && po__slice_cmp(keys[i], keys[order[at - 1]]) < 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    po__mpw_map(buf, n);
    for (uint32_t i = 0; i < n; i++) {
        po__mpw_str(buf, keys[order[i]]);
        po__mpw_str(buf, cmd->worker_register.label_values[order[i]]);
    }
}

static void encode_register(struct po__buf *buf, const struct po__cmd *cmd)
{
    PO_PRE(cmd->worker_register.labels_count <= PO_LABELS_MAX);
    PO_PRE(cmd->worker_register.caps_count <= PO_CAPABILITIES_MAX);
    po__mpw_str(buf, cmd->worker_register.id);
    po__mpw_str(buf, cmd->worker_register.address);
    po__mpw_str(buf, cmd->worker_register.zone);
    po__mpw_uint(buf, cmd->worker_register.incarnation);
    po__mpw_uint(buf, cmd->worker_register.heartbeat_ms);
    encode_labels(buf, cmd);
    po__mpw_array(buf, cmd->worker_register.caps_count);
    for (uint32_t i = 0; i < cmd->worker_register.caps_count; i++) {
        const struct po__cap *cap = &cmd->worker_register.caps[i];
        po__mpw_array(buf, 6);
        po__mpw_str(buf, cap->name);
        po__mpw_str(buf, cap->version);
        po__mpw_str(buf, cap->input_schema);
        po__mpw_str(buf, cap->output_schema);
        po__mpw_bool(buf, cap->requires_gpu);
        po__mpw_uint(buf, cap->max_concurrency);
    }
    if (cmd->type == PO__CMD_WORKER_REGISTER)
        return;
    po__resources_encode(buf, cmd->worker_register.resources, cmd->worker_register.resources_count);
    po__mpw_uint(buf, cmd->worker_register.slots);
}

void po__step_encode(struct po__buf *buf, const struct po__step *step)
{
    po__mpw_array(buf, 6);
    po__mpw_str(buf, step->name);
    po__mpw_str(buf, step->capability);
    po__mpw_str(buf, step->next_node);
    po__mpw_str(buf, step->config);
    po__mpw_uint(buf, step->timeout_ms);
    po__mpw_uint(buf, step->attempts_max);
}

/* The steps come encoded by somebody else, perhaps not in the shortest form: decode and encode
 * again. */
static void encode_pipeline(struct po__buf *buf, const struct po__cmd *cmd)
{
    struct po__mpr r;
    struct po__step step;
    po__mpw_str(buf, cmd->pipeline.name);
    po__mpw_str(buf, cmd->pipeline.start_node);
    po__mpw_array(buf, cmd->pipeline.steps_count);
    po__mpr_init(&r, cmd->pipeline.steps.data, cmd->pipeline.steps.len);
    po__mpr_array(&r, PO_STEPS_MAX);
    for (uint32_t i = 0; i < cmd->pipeline.steps_count; i++) {
        if (po__step_decode(&r, &step)) {
            buf->err = buf->err ? buf->err : PO_EPROTO;
            return;
        }
        po__step_encode(buf, &step);
    }
}

static void encode_submit(struct po__buf *buf, const struct po__cmd *cmd)
{
    po__mpw_bin(buf, cmd->submit.key);
    po__mpw_str(buf, cmd->submit.capability);
    po__mpw_str(buf, cmd->submit.input);
    po__mpw_str(buf, cmd->submit.zone);
    po__mpw_uint(buf, cmd->submit.attempts_max);
    po__mpw_uint(buf, cmd->submit.timeout_ms);
    if (cmd->type == PO__CMD_TASK_SUBMIT_MORE)
        po__extra_recode(buf, cmd->submit.extra);
}

static void encode_task(struct po__buf *buf, const struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        encode_submit(buf, cmd);
        break;
    case PO__CMD_TASK_COMPLETE:
        po__mpw_uint(buf, cmd->complete.task_id);
        po__mpw_uint(buf, cmd->complete.token);
        po__mpw_str(buf, cmd->complete.worker_id);
        po__mpw_str(buf, cmd->complete.result);
        break;
    case PO__CMD_TASK_FAIL:
        po__mpw_uint(buf, cmd->fail.task_id);
        po__mpw_uint(buf, cmd->fail.token);
        po__mpw_str(buf, cmd->fail.worker_id);
        po__mpw_str(buf, cmd->fail.error);
        po__mpw_bool(buf, cmd->fail.retryable);
        break;
    case PO__CMD_TASK_CANCEL:
        po__mpw_uint(buf, cmd->cancel.task_id);
        break;
    case PO__CMD_TASK_RETRY:
        po__mpw_uint(buf, cmd->retry.task_id);
        break;
    case PO__CMD_TASK_CHECKPOINT:
        po__mpw_uint(buf, cmd->checkpoint.task_id);
        po__mpw_uint(buf, cmd->checkpoint.token);
        po__mpw_str(buf, cmd->checkpoint.worker_id);
        po__mpw_uint(buf, cmd->checkpoint.progress);
        if (cmd->checkpoint.has_data)
            po__mpw_bin(buf, cmd->checkpoint.data);
        else
            po__mpw_nil(buf);
        po__mpw_uint(buf, cmd->checkpoint.extend_ms);
        break;
    default:
        PO_PRE(cmd->type == PO__CMD_TASK_EXTEND);
        po__mpw_uint(buf, cmd->extend.task_id);
        po__mpw_uint(buf, cmd->extend.token);
        po__mpw_str(buf, cmd->extend.worker_id);
        po__mpw_uint(buf, cmd->extend.extend_ms);
    }
}

static void encode_run(struct po__buf *buf, const struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_RUN_CANCEL:
        po__mpw_uint(buf, cmd->run_cancel.run_id);
        break;
    case PO__CMD_RUN_RESUME:
        po__mpw_bin(buf, cmd->run_resume.key);
        po__mpw_uint(buf, cmd->run_resume.run_id);
        po__mpw_str(buf, cmd->run_resume.from_step);
        break;
    default:
        po__mpw_bin(buf, cmd->run_start.key);
        po__mpw_str(buf, cmd->run_start.pipeline);
        po__mpw_str(buf, cmd->run_start.params);
        po__mpw_str(buf, cmd->run_start.zone);
        if (cmd->type == PO__CMD_RUN_START_MORE)
            po__mpw_uint(buf, cmd->run_start.priority);
    }
}

void po__cmd_encode(struct po__buf *buf, const struct po__cmd *cmd)
{
    PO_PRE(fields(cmd->type) != 0);
    po__mpw_array(buf, fields(cmd->type));
    po__mpw_uint(buf, cmd->type);
    switch (cmd->type) {
    case PO__CMD_TICK:
        break;
    case PO__CMD_MEMBER:
        po__mpw_uint(buf, cmd->member.node_id);
        po__mpw_str(buf, cmd->member.name);
        po__mpw_str(buf, cmd->member.zone);
        po__mpw_str(buf, cmd->member.peer_address);
        po__mpw_str(buf, cmd->member.worker_address);
        po__mpw_bin(buf, cmd->member.directory_id);
        po__mpw_uint(buf, cmd->member.feature_level);
        break;
    case PO__CMD_MEMBER_WISH:
        po__mpw_uint(buf, cmd->member_wish.node_id);
        po__mpw_uint(buf, cmd->member_wish.wish);
        break;
    case PO__CMD_LEADER:
        po__mpw_uint(buf, cmd->leader.node_id);
        po__mpw_uint(buf, cmd->leader.term);
        break;
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        encode_register(buf, cmd);
        break;
    case PO__CMD_WORKER_STATUS:
        po__mpw_str(buf, cmd->worker_status.id);
        po__mpw_uint(buf, cmd->worker_status.incarnation);
        po__mpw_uint(buf, cmd->worker_status.status);
        break;
    case PO__CMD_WORKER_DEREGISTER:
        po__mpw_str(buf, cmd->worker_deregister.id);
        po__mpw_uint(buf, cmd->worker_deregister.incarnation);
        break;
    case PO__CMD_PIPELINE_DEFINE:
        encode_pipeline(buf, cmd);
        break;
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        po__graph_encode(buf, &cmd->graph);
        break;
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
    case PO__CMD_RUN_CANCEL:
    case PO__CMD_RUN_RESUME:
        encode_run(buf, cmd);
        break;
    case PO__CMD_APP:
        po__mpw_bin(buf, cmd->app.key);
        po__mpw_bin(buf, cmd->app.data);
        break;
    case PO__CMD_SCHEDULE_DEFINE:
    case PO__CMD_SCHEDULE_CHANGE:
    case PO__CMD_SCHEDULE_FIRE:
        po__schedule_cmd_encode(buf, cmd);
        break;
    default:
        encode_task(buf, cmd);
    }
}

/* ---- decode ---- */

static struct po__slice name(struct po__mpr *r)
{
    return po__mpr_str(r, PO_NAME_MAX_BYTES);
}

static struct po__slice payload(struct po__mpr *r)
{
    return po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
}

static uint32_t u32(struct po__mpr *r)
{
    return (uint32_t)po__mpr_uint(r, UINT32_MAX);
}

static uint64_t u64(struct po__mpr *r)
{
    return po__mpr_uint(r, UINT64_MAX);
}

uint32_t po__cmd_fields(struct po__mpr *r, uint32_t known, bool strict, bool *version)
{
    uint32_t n = po__mpr_array(r, UINT32_MAX);
    if (!r->err && strict && n != known) {
        *version = true;
        po__mpr_fail(r);
    }
    if (n < known)
        po__mpr_fail(r);
    return r->err ? 0 : n - known;
}

static void decode_register(struct po__mpr *r, struct po__cmd *cmd, bool strict, bool *version)
{
    cmd->worker_register.id = name(r);
    cmd->worker_register.address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
    cmd->worker_register.zone = name(r);
    cmd->worker_register.incarnation = u64(r);
    cmd->worker_register.heartbeat_ms = u32(r);
    uint32_t labels = po__mpr_map(r, PO_LABELS_MAX);
    cmd->worker_register.labels_count = labels;
    for (uint32_t i = 0; i < labels; i++) {
        cmd->worker_register.label_keys[i] = name(r);
        cmd->worker_register.label_values[i] = name(r);
    }
    uint32_t caps = po__mpr_array(r, PO_CAPABILITIES_MAX);
    cmd->worker_register.caps_count = caps;
    for (uint32_t i = 0; i < caps && !r->err; i++) {
        struct po__cap *cap = &cmd->worker_register.caps[i];
        uint32_t extra = po__cmd_fields(r, 6, strict, version);
        cap->name = name(r);
        cap->version = name(r);
        cap->input_schema = po__mpr_str(r, PO__SCHEMA_MAX_BYTES);
        cap->output_schema = po__mpr_str(r, PO__SCHEMA_MAX_BYTES);
        cap->requires_gpu = po__mpr_bool(r);
        cap->max_concurrency = u32(r);
        po__mpr_skip_all(r, extra);
    }
    bool more = cmd->type == PO__CMD_WORKER_REGISTER_MORE;
    cmd->worker_register.resources_count =
        more ? po__resources_decode(r, cmd->worker_register.resources) : 0;
    cmd->worker_register.slots = more ? u32(r) : 0;
}

static void decode_step(struct po__mpr *r, struct po__step *step, bool strict, bool *version)
{
    uint32_t extra = po__cmd_fields(r, 6, strict, version);
    step->name = name(r);
    step->capability = name(r);
    step->next_node = name(r);
    step->config = po__mpr_str(r, PO__PIPELINE_MAX_BYTES);
    step->timeout_ms = u32(r);
    step->attempts_max = u32(r);
    po__mpr_skip_all(r, extra);
}

int po__step_decode(struct po__mpr *r, struct po__step *step)
{
    bool version = false;
    decode_step(r, step, false, &version);
    return r->err;
}

/* The steps are walked here, so that whoever holds a decoded command may rely on them, and handed
 * on as bytes. */
static void decode_pipeline(struct po__mpr *r, struct po__cmd *cmd, bool strict, bool *version)
{
    struct po__step step;
    cmd->pipeline.name = name(r);
    cmd->pipeline.start_node = name(r);
    const uint8_t *start = r->p;
    uint32_t n = po__mpr_array(r, PO_STEPS_MAX);
    for (uint32_t i = 0; i < n && !r->err; i++)
        decode_step(r, &step, strict, version);
    cmd->pipeline.steps = po__slice(start, (size_t)(r->p - start));
    cmd->pipeline.steps_count = n;
}

static void decode_submit(struct po__mpr *r, struct po__cmd *cmd)
{
    struct po__extra extra;
    cmd->submit.key = po__mpr_bin(r, PO_KEY_MAX_BYTES);
    cmd->submit.capability = name(r);
    cmd->submit.input = payload(r);
    cmd->submit.zone = name(r);
    cmd->submit.attempts_max = u32(r);
    cmd->submit.timeout_ms = u32(r);
    cmd->submit.extra = po__slice(NULL, 0);
    if (cmd->type == PO__CMD_TASK_SUBMIT)
        return;
    cmd->submit.extra = po__mpr_raw(r);
    if (!r->err && po__extra_decode(cmd->submit.extra, &extra))
        po__mpr_fail(r);
}

static void decode_checkpoint(struct po__mpr *r, struct po__cmd *cmd)
{
    cmd->checkpoint.task_id = u64(r);
    cmd->checkpoint.token = u64(r);
    cmd->checkpoint.worker_id = name(r);
    cmd->checkpoint.progress = u32(r);
    cmd->checkpoint.has_data = po__mpr_peek(r) != PO__MP_NIL;
    cmd->checkpoint.data = po__slice(NULL, 0);
    if (cmd->checkpoint.has_data)
        cmd->checkpoint.data = po__mpr_bin(r, PO_CHECKPOINT_MAX_BYTES);
    else
        po__mpr_nil(r);
    cmd->checkpoint.extend_ms = u32(r);
}

static void decode_task(struct po__mpr *r, struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        decode_submit(r, cmd);
        break;
    case PO__CMD_TASK_CHECKPOINT:
        decode_checkpoint(r, cmd);
        break;
    case PO__CMD_TASK_RETRY:
        cmd->retry.task_id = u64(r);
        break;
    case PO__CMD_TASK_COMPLETE:
        cmd->complete.task_id = u64(r);
        cmd->complete.token = u64(r);
        cmd->complete.worker_id = name(r);
        cmd->complete.result = payload(r);
        break;
    case PO__CMD_TASK_FAIL:
        cmd->fail.task_id = u64(r);
        cmd->fail.token = u64(r);
        cmd->fail.worker_id = name(r);
        cmd->fail.error = payload(r);
        cmd->fail.retryable = po__mpr_bool(r);
        break;
    case PO__CMD_TASK_CANCEL:
        cmd->cancel.task_id = u64(r);
        break;
    default:
        PO_INVARIANT(cmd->type == PO__CMD_TASK_EXTEND);
        cmd->extend.task_id = u64(r);
        cmd->extend.token = u64(r);
        cmd->extend.worker_id = name(r);
        cmd->extend.extend_ms = u32(r);
    }
}

static void decode_run(struct po__mpr *r, struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_RUN_CANCEL:
        cmd->run_cancel.run_id = u64(r);
        break;
    case PO__CMD_RUN_RESUME:
        cmd->run_resume.key = po__mpr_bin(r, PO_KEY_MAX_BYTES);
        cmd->run_resume.run_id = u64(r);
        cmd->run_resume.from_step = name(r);
        break;
    default:
        cmd->run_start.key = po__mpr_bin(r, PO_KEY_MAX_BYTES);
        cmd->run_start.pipeline = name(r);
        cmd->run_start.params = payload(r);
        cmd->run_start.zone = name(r);
        cmd->run_start.priority = cmd->type == PO__CMD_RUN_START_MORE ? u32(r) : 0;
    }
}

static void decode_fields(struct po__mpr *r, struct po__cmd *cmd, bool strict, bool *version)
{
    switch (cmd->type) {
    case PO__CMD_TICK:
        break;
    case PO__CMD_MEMBER:
        cmd->member.node_id = u64(r);
        cmd->member.name = name(r);
        cmd->member.zone = name(r);
        cmd->member.peer_address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
        cmd->member.worker_address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
        cmd->member.directory_id = po__mpr_bin(r, PO__DIRECTORY_ID_BYTES);
        cmd->member.feature_level = u32(r);
        break;
    case PO__CMD_MEMBER_WISH:
        cmd->member_wish.node_id = u64(r);
        cmd->member_wish.wish = u32(r);
        break;
    case PO__CMD_LEADER:
        cmd->leader.node_id = u64(r);
        cmd->leader.term = u64(r);
        break;
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        decode_register(r, cmd, strict, version);
        break;
    case PO__CMD_WORKER_STATUS:
        cmd->worker_status.id = name(r);
        cmd->worker_status.incarnation = u64(r);
        cmd->worker_status.status = u32(r);
        break;
    case PO__CMD_WORKER_DEREGISTER:
        cmd->worker_deregister.id = name(r);
        cmd->worker_deregister.incarnation = u64(r);
        break;
    case PO__CMD_PIPELINE_DEFINE:
        decode_pipeline(r, cmd, strict, version);
        break;
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        po__graph_decode(r, &cmd->graph, strict, version);
        break;
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
    case PO__CMD_RUN_CANCEL:
    case PO__CMD_RUN_RESUME:
        decode_run(r, cmd);
        break;
    case PO__CMD_APP:
        cmd->app.key = po__mpr_bin(r, PO_KEY_MAX_BYTES);
        cmd->app.data = po__mpr_bin(r, PO_PAYLOAD_MAX_BYTES);
        break;
    case PO__CMD_SCHEDULE_DEFINE:
    case PO__CMD_SCHEDULE_CHANGE:
    case PO__CMD_SCHEDULE_FIRE:
        po__schedule_cmd_decode(r, cmd);
        break;
    default:
        decode_task(r, cmd);
    }
}

int po__cmd_decode(struct po__mpr *r, struct po__cmd *cmd, bool strict)
{
    uint32_t n = po__mpr_array(r, UINT32_MAX);
    if (n == 0)
        po__mpr_fail(r);
    cmd->type = u32(r);
    if (r->err)
        return PO_EPROTO;
    uint32_t known = fields(cmd->type);
    if (known == 0 || (strict && n != known)) {
        po__mpr_fail(r);
        return PO_EVERSION;
    }
    if (n < known) {
        po__mpr_fail(r);
        return PO_EPROTO;
    }
    bool version = false;
    decode_fields(r, cmd, strict, &version);
    po__mpr_skip_all(r, n - known);
    return version ? PO_EVERSION : r->err;
}

bool po__cmd_repeatable(struct po__slice encoded)
{
    struct po__mpr r;
    po__mpr_init(&r, encoded.data, encoded.len);
    po__mpr_array(&r, UINT32_MAX);
    switch (po__mpr_uint(&r, UINT32_MAX)) {
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
    case PO__CMD_WORKER_STATUS:
    case PO__CMD_WORKER_DEREGISTER:
    case PO__CMD_TASK_RETRY: /* it may have failed again meanwhile */
    case PO__CMD_PIPELINE_DEFINE:
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
    case PO__CMD_SCHEDULE_DEFINE:
    case PO__CMD_SCHEDULE_CHANGE:
        return false;
    case PO__CMD_TASK_SUBMIT_MORE:
    case PO__CMD_TASK_SUBMIT: /* the key is the first field of these */
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
    case PO__CMD_RUN_RESUME:
    case PO__CMD_APP:
        return po__mpr_bin(&r, PO_KEY_MAX_BYTES).len > 0 || r.err;
    default:
        return true;
    }
}
