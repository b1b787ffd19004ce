/* One command of every type with every field set, for the tests of encodings. */
#ifndef PO__TEST_SAMPLES_H
#define PO__TEST_SAMPLES_H

#include "model/command.h"

#define SAMPLES_COUNT 22

/* Every field of a graph, its params behind its steps in one buffer. */
static inline void sample_graph(struct po__cmd *cmd, struct po__buf *steps)
{
    static const uint8_t needs[] = {0x91, 0x00}; /* [0] */
    po__buf_reset(steps);
    po__mpw_array(steps, 3);
    po__graph_step_encode(steps, &(struct po__graph_step){.name = po__str("ingest"),
                                                          .capability = po__str("ingest:csv"),
                                                          .config = po__str("{\"path\":\"x\"}"),
                                                          .timeout_ms = 60000,
                                                          .attempts_max = 2,
                                                          .on_failure = PO__ON_FAILURE_CONTINUE});
    po__graph_step_encode(
        steps, &(struct po__graph_step){.name = po__str("clean"),
                                        .capability = po__str("clean:table"),
                                        .depends = po__slice(needs, sizeof needs),
                                        .depends_count = 1,
                                        .join = PO__JOIN_ANY_SUCCEEDED,
                                        .when = po__str("steps.ingest.output.n > 0"),
                                        .map = po__str("\"${steps.ingest.output.list}\""),
                                        .map_parallel = 9,
                                        .input = po__str("[\"${item}\"]"),
                                        .cache = true,
                                        .cache_ms = 1000});
    po__graph_step_encode(steps, &(struct po__graph_step){.name = po__str("report"),
                                                          .pipeline = po__str("reports"),
                                                          .depends = po__slice(needs, sizeof needs),
                                                          .depends_count = 1,
                                                          .join = PO__JOIN_ALL_DONE});
    size_t len = steps->len;
    po__mpw_array(steps, 2);
    po__param_encode(steps,
                     &(struct po__param){po__str("year"), PO__PARAM_INTEGER, true, po__str("")});
    po__param_encode(steps,
                     &(struct po__param){po__str("tags"), PO__PARAM_ARRAY, false, po__str("[]")});
    cmd->graph = (struct po__graph){.name = po__str("energy"),
                                    .version = po__str("2018-11"),
                                    .params = po__slice(steps->data + len, steps->len - len),
                                    .params_count = 2,
                                    .output = po__str("\"${steps.clean.output}\""),
                                    .steps = po__slice(steps->data, len),
                                    .steps_count = 3};
}

/* Fills cmd with sample number i; steps holds the bytes of a pipeline's steps and outlives cmd. */
static inline void sample(struct po__cmd *cmd, unsigned i, struct po__buf *steps)
{
    static const uint32_t types[SAMPLES_COUNT] = {
        PO__CMD_TICK,
        PO__CMD_MEMBER,
        PO__CMD_WORKER_REGISTER,
        PO__CMD_WORKER_STATUS,
        PO__CMD_WORKER_DEREGISTER,
        PO__CMD_TASK_SUBMIT,
        PO__CMD_TASK_COMPLETE,
        PO__CMD_TASK_FAIL,
        PO__CMD_TASK_CANCEL,
        PO__CMD_TASK_EXTEND,
        PO__CMD_PIPELINE_DEFINE,
        PO__CMD_RUN_START,
        PO__CMD_RUN_CANCEL,
        PO__CMD_APP,
        PO__CMD_MEMBER_WISH,
        PO__CMD_LEADER,
        PO__CMD_SCHEDULE_DEFINE,
        PO__CMD_SCHEDULE_CHANGE,
        PO__CMD_SCHEDULE_FIRE,
        PO__CMD_PIPELINE_DEFINE_GRAPH,
        PO__CMD_RUN_START_MORE,
        PO__CMD_RUN_RESUME,
    };
    memset(cmd, 0, sizeof *cmd);
    cmd->type = types[i];
    switch (cmd->type) {
    case PO__CMD_MEMBER:
        cmd->member.node_id = 7;
        cmd->member.name = po__str("cp-aws-1");
        cmd->member.zone = po__str("aws");
        cmd->member.peer_address = po__str("cp-aws-1.example:7001");
        cmd->member.worker_address = po__str("cp-aws-1.example:7002");
        cmd->member.directory_id = po__slice("0123456789abcde\0", PO__DIRECTORY_ID_BYTES);
        cmd->member.feature_level = 1;
        break;
    case PO__CMD_WORKER_REGISTER:
        cmd->worker_register.id = po__str("worker-aws-1");
        cmd->worker_register.address = po__str("10.0.0.1:9000");
        cmd->worker_register.zone = po__str("aws");
        cmd->worker_register.incarnation = UINT64_C(1) << 40;
        cmd->worker_register.heartbeat_ms = 1000;
        cmd->worker_register.labels_count = 2;
        cmd->worker_register.label_keys[0] = po__str("disk");
        cmd->worker_register.label_values[0] = po__str("nvme");
        cmd->worker_register.label_keys[1] = po__str("gpu");
        cmd->worker_register.label_values[1] = po__str("");
        cmd->worker_register.caps_count = 2;
        cmd->worker_register.caps[0] = (struct po__cap){po__str("classify:image_category"),
                                                        po__str("1.2.3"),
                                                        po__str("{\"type\":\"object\"}"),
                                                        po__str("{}"),
                                                        true,
                                                        4};
        cmd->worker_register.caps[1] = (struct po__cap){
            po__str("ingest:csv"), po__str("1.0.0"), po__str(""), po__str(""), false, 1};
        break;
    case PO__CMD_WORKER_STATUS:
        cmd->worker_status.id = po__str("worker-aws-1");
        cmd->worker_status.incarnation = 9;
        cmd->worker_status.status = PO_WORKER_DRAINING;
        break;
    case PO__CMD_WORKER_DEREGISTER:
        cmd->worker_deregister.id = po__str("worker-aws-1");
        cmd->worker_deregister.incarnation = 9;
        break;
    case PO__CMD_TASK_SUBMIT:
        cmd->submit.key = po__slice("key\0", 4);
        cmd->submit.capability = po__str("ingest:csv");
        cmd->submit.input = po__str("{\"file\":\"a.csv\"}");
        cmd->submit.zone = po__str("gcp");
        cmd->submit.attempts_max = 5;
        cmd->submit.timeout_ms = 30000;
        break;
    case PO__CMD_TASK_COMPLETE:
        cmd->complete.task_id = 11;
        cmd->complete.token = 12345678901u;
        cmd->complete.worker_id = po__str("worker-aws-1");
        cmd->complete.result = po__str("[1,2,3]");
        break;
    case PO__CMD_TASK_FAIL:
        cmd->fail.task_id = 11;
        cmd->fail.token = 12345678901u;
        cmd->fail.worker_id = po__str("worker-aws-1");
        cmd->fail.error = po__str("row 3: not a number");
        cmd->fail.retryable = true;
        break;
    case PO__CMD_TASK_CANCEL:
        cmd->cancel.task_id = 11;
        break;
    case PO__CMD_TASK_EXTEND:
        cmd->extend.task_id = 11;
        cmd->extend.token = 12345678901u;
        cmd->extend.worker_id = po__str("worker-aws-1");
        cmd->extend.extend_ms = 60000;
        break;
    case PO__CMD_PIPELINE_DEFINE:
        po__buf_reset(steps);
        po__mpw_array(steps, 2);
        po__step_encode(steps, &(struct po__step){po__str("ingest"), po__str("ingest:csv"),
                                                  po__str("clean"), po__str("{\"path\":\"x\"}"),
                                                  60000, 2});
        po__step_encode(steps, &(struct po__step){po__str("clean"), po__str("clean:table"),
                                                  po__str(""), po__str(""), 0, 0});
        cmd->pipeline.name = po__str("energy");
        cmd->pipeline.start_node = po__str("ingest");
        cmd->pipeline.steps = po__buf_slice(steps);
        cmd->pipeline.steps_count = 2;
        break;
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        sample_graph(cmd, steps);
        break;
    case PO__CMD_RUN_START_MORE:
        cmd->run_start.priority = 7;
        /* fall through */
    case PO__CMD_RUN_START:
        cmd->run_start.key = po__str("run-key");
        cmd->run_start.pipeline = po__str("energy");
        cmd->run_start.params = po__str("{\"year\":2018}");
        cmd->run_start.zone = po__str("aws");
        break;
    case PO__CMD_RUN_CANCEL:
        cmd->run_cancel.run_id = 3;
        break;
    case PO__CMD_RUN_RESUME:
        cmd->run_resume.key = po__str("resume-key");
        cmd->run_resume.run_id = 3;
        cmd->run_resume.from_step = po__str("clean");
        break;
    case PO__CMD_APP:
        cmd->app.key = po__str("k1");
        cmd->app.data = po__slice("\0\1\2\xff", 4);
        break;
    case PO__CMD_MEMBER_WISH:
        cmd->member_wish.node_id = 7;
        cmd->member_wish.wish = PO__WISH_VOTER_NOW;
        break;
    case PO__CMD_LEADER:
        cmd->leader.node_id = 7;
        cmd->leader.term = 12345678901u;
        break;
    case PO__CMD_SCHEDULE_DEFINE:
        cmd->schedule.name = po__str("nightly");
        cmd->schedule.pipeline = po__str("energy");
        cmd->schedule.cron = po__str("30 2 * * MON-FRI");
        cmd->schedule.time_zone = po__str("Europe/Berlin");
        cmd->schedule.params = po__str("{\"year\":2018}");
        cmd->schedule.zone = po__str("aws");
        cmd->schedule.overlap = PO_OVERLAP_SKIP;
        cmd->schedule.catch_up_ms = PO_CATCH_UP_MAX_MS;
        cmd->schedule.paused = true;
        break;
    case PO__CMD_SCHEDULE_CHANGE:
        cmd->schedule_change.name = po__str("nightly");
        cmd->schedule_change.change = PO__SCHEDULE_RESUME;
        break;
    case PO__CMD_SCHEDULE_FIRE:
        cmd->schedule_fire.name = po__str("nightly");
        cmd->schedule_fire.generation = 17;
        cmd->schedule_fire.fire_ms = UINT64_C(1760000040000);
        cmd->schedule_fire.late_count = 3;
        break;
    default:
        break;
    }
}

#endif
