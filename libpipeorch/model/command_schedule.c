/* Encoding and decoding of the commands about schedules; as command.c, which calls this. */
#include "command.h"

#include "../base/assert.h"

void po__schedule_cmd_encode(struct po__buf *buf, const struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_SCHEDULE_DEFINE:
        po__mpw_str(buf, cmd->schedule.name);
        po__mpw_str(buf, cmd->schedule.pipeline);
        po__mpw_str(buf, cmd->schedule.cron);
        po__mpw_str(buf, cmd->schedule.time_zone);
        po__mpw_str(buf, cmd->schedule.params);
        po__mpw_str(buf, cmd->schedule.zone);
        po__mpw_uint(buf, cmd->schedule.overlap);
        po__mpw_uint(buf, cmd->schedule.catch_up_ms);
        po__mpw_bool(buf, cmd->schedule.paused);
        break;
    case PO__CMD_SCHEDULE_CHANGE:
        po__mpw_str(buf, cmd->schedule_change.name);
        po__mpw_uint(buf, cmd->schedule_change.change);
        break;
    default:
        PO_PRE(cmd->type == PO__CMD_SCHEDULE_FIRE);
        po__mpw_str(buf, cmd->schedule_fire.name);
        po__mpw_uint(buf, cmd->schedule_fire.generation);
        po__mpw_uint(buf, cmd->schedule_fire.fire_ms);
        po__mpw_uint(buf, cmd->schedule_fire.late_count);
    }
}

void po__schedule_cmd_decode(struct po__mpr *r, struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_SCHEDULE_DEFINE:
        cmd->schedule.name = po__mpr_str(r, PO_NAME_MAX_BYTES);
        cmd->schedule.pipeline = po__mpr_str(r, PO_NAME_MAX_BYTES);
        cmd->schedule.cron = po__mpr_str(r, PO_CRON_MAX_BYTES);
        cmd->schedule.time_zone = po__mpr_str(r, PO_TIME_ZONE_MAX_BYTES);
        cmd->schedule.params = po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
        cmd->schedule.zone = po__mpr_str(r, PO_NAME_MAX_BYTES);
        cmd->schedule.overlap = (uint32_t)po__mpr_uint(r, UINT32_MAX);
        cmd->schedule.catch_up_ms = (uint32_t)po__mpr_uint(r, UINT32_MAX);
        cmd->schedule.paused = po__mpr_bool(r);
        break;
    case PO__CMD_SCHEDULE_CHANGE:
        cmd->schedule_change.name = po__mpr_str(r, PO_NAME_MAX_BYTES);
        cmd->schedule_change.change = (uint32_t)po__mpr_uint(r, UINT32_MAX);
        break;
    default:
        PO_INVARIANT(cmd->type == PO__CMD_SCHEDULE_FIRE);
        cmd->schedule_fire.name = po__mpr_str(r, PO_NAME_MAX_BYTES);
        cmd->schedule_fire.generation = po__mpr_uint(r, UINT64_MAX);
        cmd->schedule_fire.fire_ms = po__mpr_uint(r, UINT64_MAX);
        cmd->schedule_fire.late_count = (uint32_t)po__mpr_uint(r, UINT32_MAX);
    }
}
