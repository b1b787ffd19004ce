#include "settings.h"

#include <pipeorch/types.h>

#define AT(member) offsetof(struct poctl_settings, member)

static const struct opt options[] = {
    {"controllers", OPT_ADDRESSES, AT(controllers), "HOST:PORT,...", NULL,
     "Worker addresses of the control nodes; one that lives is enough.",
     .flags = OPT_FLAG_ONLY | OPT_ENV_TOO},
    {"output", OPT_CHOICE, AT(output), "table|json", "table", "Form of the answer.", .letter = 'o',
     .flags = OPT_FLAG_ONLY | OPT_ENV_TOO},
    {"timeout", OPT_DURATION, AT(timeout), "TIME", "10s",
     "Give up after so long. A wait (wait, --wait) has 1h unless the flag is given.", 1,
     PO_TIMEOUT_MAX_MS, .flags = OPT_FLAG_ONLY | OPT_ENV_TOO},
    {"stale", OPT_DURATION, AT(stale), "TIME", NULL,
     "Be content with an answer that is at most so old, from whichever control node is asked, "
     "leader or not; name one with --controllers. Refused if the node's state is older. Default: "
     "linearizable.",
     1, PO_TIMEOUT_MAX_MS, .flags = OPT_FLAG_ONLY},
    {"zone", OPT_NAME, AT(zone), "NAME", NULL,
     "route, task submit, pipeline run, schedule define: prefer workers of this zone.",
     .flags = OPT_FLAG_ONLY},
    {"input", OPT_TEXT, AT(input), "JSON", NULL, "task submit: the task's input. Default: null.",
     .flags = OPT_FLAG_ONLY},
    {"input_file", OPT_PATH, AT(input_file), "FILE", NULL,
     "task submit: read the input from a file; - is standard input.", .flags = OPT_FLAG_ONLY},
    {"attempts", OPT_UINT, AT(attempts), "N", "3", "task submit: attempts before the task fails.",
     1, 100, .flags = OPT_FLAG_ONLY},
    {"timeout_ms", OPT_UINT, AT(timeout_ms), "MS", "600000",
     "task submit: time that one attempt has.", 100, 86400000, .flags = OPT_FLAG_ONLY},
    {"batch", OPT_PATH, AT(batch), "FILE", NULL,
     "task submit: one task for each line of the file, which is its input as JSON; - is standard "
     "input. Prints the ids, one to a line.",
     .flags = OPT_FLAG_ONLY},
    {"require_zone", OPT_NAME, AT(require_zone), "NAME", NULL,
     "task submit: only workers of this zone.", .flags = OPT_FLAG_ONLY},
    {"gpu", OPT_CHOICE, AT(gpu), "any|required|forbidden", "any",
     "task submit: only workers whose capability requires a gpu, or only others.",
     .flags = OPT_FLAG_ONLY},
    {"labels", OPT_TEXT, AT(labels), "LIST", NULL,
     "task submit: demands on workers' labels: key=value, key!=value, key (is there), !key (is "
     "not), separated by commas.",
     .flags = OPT_FLAG_ONLY},
    {"resources", OPT_TEXT, AT(resources), "LIST", NULL,
     "task submit: what the task takes while it runs: cpu_milli=500,memory_bytes=8GiB,gpus=1, or "
     "any name that workers register.",
     .flags = OPT_FLAG_ONLY},
    {"prefer", OPT_CHOICE, AT(prefer), "balance|spread|binpack|local", "balance",
     "task submit: of the workers that fit, the least loaded; the zone with the fewest such tasks; "
     "the most loaded; or --zone as long as it has room.",
     .flags = OPT_FLAG_ONLY},
    {"priority", OPT_UINT, AT(priority), "N", "0",
     "task submit, pipeline run: 9 goes first; one level is worth ten minutes of waiting.", 0,
     PO_PRIORITY_MAX, .flags = OPT_FLAG_ONLY},
    {"run_at", OPT_TEXT, AT(run_at), "TIME", NULL,
     "task submit: not before this time: UTC as 2026-12-24T18:00:00Z, or +90m from now.",
     .flags = OPT_FLAG_ONLY},
    {"deadline", OPT_TEXT, AT(deadline), "TIME", NULL,
     "task submit: it fails if it is not finished by then. As --run-at.", .flags = OPT_FLAG_ONLY},
    {"retry_delay", OPT_DURATION, AT(retry_delay), "TIME", NULL,
     "task submit: wait before the second attempt; doubles for each further one. Default: 500ms.",
     1, 86400000, .flags = OPT_FLAG_ONLY},
    {"retry_delay_max", OPT_DURATION, AT(retry_delay_max), "TIME", NULL,
     "task submit: longest wait between attempts. Default: 60s.", 1, 86400000,
     .flags = OPT_FLAG_ONLY},
    {"concurrency_key", OPT_NAME, AT(concurrency_key), "KEY", NULL,
     "task submit: tasks with the same key share --concurrency and --rate.",
     .flags = OPT_FLAG_ONLY},
    {"concurrency", OPT_UINT, AT(concurrency), "N", "0",
     "task submit: at most so many tasks of --concurrency-key run at a time; 0: any number.", 0,
     UINT32_MAX, .flags = OPT_FLAG_ONLY},
    {"rate", OPT_TEXT, AT(rate), "N/TIME", NULL,
     "task submit: at most so many starts of --concurrency-key in that time, as 100/1m, on "
     "average: what an idle time left over is spent at once, up to N.",
     .flags = OPT_FLAG_ONLY},
    {"keep", OPT_DURATION, AT(keep), "TIME", NULL,
     "task submit: forget the task so long after its end. Default: when others need the room.", 1,
     31622400000, .flags = OPT_FLAG_ONLY},
    {"token", OPT_UINT, AT(token), "N", NULL, "fence: the fencing token of the attempt.", 1,
     UINT64_MAX, .flags = OPT_FLAG_ONLY},
    {"params", OPT_TEXT, AT(params), "JSON", NULL,
     "pipeline run, schedule define, sim: parameters of the run. Default: null.",
     .flags = OPT_FLAG_ONLY},
    {"params_file", OPT_PATH, AT(params_file), "FILE", NULL,
     "pipeline run, schedule define, sim: read the parameters from a file; - is standard input.",
     .flags = OPT_FLAG_ONLY},
    {"key", OPT_NAME, AT(key), "KEY", NULL,
     "task submit, pipeline run, pipeline resume: idempotency key of at most 64 bytes; repeated "
     "with the same key, the command answers with the same task or run.",
     .flags = OPT_FLAG_ONLY},
    {"wait", OPT_BOOL, AT(wait), NULL, "false",
     "task submit, pipeline run, pipeline resume: wait for the end and show the outcome.",
     .flags = OPT_FLAG_ONLY},
    {"state", OPT_CHOICE, AT(state), "pending|scheduled|running|succeeded|failed|cancelled", NULL,
     "task list, pipeline runs: only those in this state.", .flags = OPT_FLAG_ONLY},
    {"after", OPT_UINT, AT(after), "ID", "0", "task list, pipeline runs: only ids above this one.",
     0, UINT64_MAX, .flags = OPT_FLAG_ONLY},
    {"limit", OPT_UINT, AT(limit), "N", "100", "task list, pipeline runs: at most so many.", 1,
     1000, .flags = OPT_FLAG_ONLY},
    {"graph", OPT_CHOICE, AT(graph), "text|dot|svg", NULL,
     "pipeline show: draw the steps, with their states if it is a run. As text, steps that do not "
     "fit the terminal become an indented list. Text if no form follows.",
     .flags = OPT_FLAG_ONLY | OPT_BARE},
    {"from_step", OPT_NAME, AT(from_step), "STEP", NULL,
     "pipeline resume: run this step and all that follow it again.", .flags = OPT_FLAG_ONLY},
    {"cron", OPT_TEXT, AT(cron), "CRON", NULL,
     "schedule define: \"MINUTE HOUR DAY_OF_MONTH MONTH DAY_OF_WEEK\", each a list of *, values, "
     "ranges and steps, as in \"30 6 * * MON-FRI\" or \"*/15 * * * *\"; or @hourly, @daily, "
     "@weekly, @monthly, @yearly.",
     .flags = OPT_FLAG_ONLY},
    {"time_zone", OPT_TEXT, AT(time_zone), "NAME", "UTC",
     "schedule define: IANA time zone of the expression, as Europe/Berlin.",
     .flags = OPT_FLAG_ONLY},
    {"overlap", OPT_CHOICE, AT(overlap), "allow|skip", "allow",
     "schedule define: what to do with a tick while a run of the schedule is under way.",
     .flags = OPT_FLAG_ONLY},
    {"catch_up", OPT_DURATION, AT(catch_up), "TIME", "1h",
     "schedule define: how late a tick may still be fired, after a time without a leader, at most "
     "168h; 0: not at all.",
     0, PO_CATCH_UP_MAX_MS, .flags = OPT_FLAG_ONLY},
    {"paused", OPT_BOOL, AT(paused), NULL, "false", "schedule define: without ticks until resumed.",
     .flags = OPT_FLAG_ONLY},
    {"pipeline", OPT_PATH, AT(pipeline), "FILE|NAME", NULL,
     "sim: the pipeline's document. schedule define: the pipeline's name. watch: only this "
     "pipeline "
     "and its runs.",
     .flags = OPT_FLAG_ONLY},
    {"workers", OPT_PATH, AT(workers), "FILE", NULL,
     "sim: the workers, as JSON: [{\"id\": \"gpu-1\", \"zone\": \"aws\", \"capabilities\": "
     "[{\"name\": \"train:net\", \"concurrency\": 1, \"min_ms\": 500, \"max_ms\": 9000, "
     "\"failure_percent\": 2, \"version\": \"1.2.0\", \"output\": {\"loss\": 0.1}}]}]. Default: "
     "three "
     "that offer everything and never fail.",
     .flags = OPT_FLAG_ONLY},
    {"faults", OPT_CHOICE, AT(faults), "none|lan|three-clouds|disk|memory|chaos", "lan",
     "sim: what goes wrong.", .flags = OPT_FLAG_ONLY},
    {"seed", OPT_UINT, AT(seed), "N", "1", "sim: everything is drawn from it.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"nodes", OPT_UINT, AT(nodes), "N", "3", "sim: control nodes.", 1, PO_MEMBERS_MAX,
     .flags = OPT_FLAG_ONLY},
    {"runs", OPT_UINT, AT(runs), "N", "1", "sim: runs of the pipeline, one after the other.", 1,
     1000, .flags = OPT_FLAG_ONLY},
    {"dir", OPT_PATH, AT(dir), "DIR", NULL,
     "snapshot save, recover, log dump: data directory of a stopped node. snapshot restore: the "
     "new one.",
     .flags = OPT_FLAG_ONLY},
    {"force", OPT_BOOL, AT(force), NULL, "false", "snapshot save: replace FILE if it exists.",
     .flags = OPT_FLAG_ONLY},
    {"name", OPT_NAME, AT(name), "NAME", NULL,
     "snapshot restore: name of the node that will start with the directory.",
     .flags = OPT_FLAG_ONLY},
    {"members", OPT_MEMBERS, AT(members), "NAME=HOST:PORT,...", NULL,
     "snapshot restore: all nodes of the new cluster with their peer addresses. Default: this node "
     "alone.",
     .flags = OPT_FLAG_ONLY},
    {"cluster_id", OPT_NAME, AT(cluster_id), "ID", NULL,
     "snapshot restore: the new cluster's id, as the first member's restore printed it. Default: a "
     "new one.",
     .flags = OPT_FLAG_ONLY},
    {"accept_data_loss", OPT_UINT, AT(accept_data_loss), "INDEX", NULL,
     "recover: do it. INDEX is the last index that recover shows without this option.", 1,
     UINT64_MAX, .flags = OPT_FLAG_ONLY},
    {"backup", OPT_PATH, AT(backup), "DIR", NULL,
     "recover: copy the directory here first. Default: --dir with .before-recover behind it.",
     .flags = OPT_FLAG_ONLY},
    {"address", OPT_ADDRESS, AT(address), "HOST:PORT", NULL,
     "recover: the node's peer address from now on. Default: as it was.", .flags = OPT_FLAG_ONLY},
    {"from", OPT_UINT, AT(from), "INDEX", "0",
     "log dump, replay events, watch: begin here. watch without it: from now on.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"to", OPT_UINT, AT(to), "INDEX", NULL, "log dump: end here.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"data_dir", OPT_PATH, AT(data_dir), "DIR", NULL,
     "replay: data directory of a stopped node. Nothing in it changes.", .flags = OPT_FLAG_ONLY},
    {"until", OPT_UINT, AT(until), "INDEX", NULL,
     "replay: the state as it was after this entry. Default: the last one.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"task", OPT_UINT, AT(task), "ID", "0", "replay events, watch: only this task.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"run", OPT_UINT, AT(run), "ID", "0",
     "replay events, watch: only this run, its steps and their tasks.", 0, UINT64_MAX,
     .flags = OPT_FLAG_ONLY},
    {"worker", OPT_NAME, AT(worker), "NAME", NULL,
     "replay events, watch: only this worker and the attempts that it runs.",
     .flags = OPT_FLAG_ONLY},
    {"resume", OPT_TEXT, AT(resume), "INDEX:POSITION", NULL,
     "watch: go on behind this event, as its line begins.", .flags = OPT_FLAG_ONLY},
    {"kinds", OPT_TEXT, AT(kinds), "KIND,...", NULL,
     "watch: only these: tasks, workers, runs (with pipelines), leader, members (leader included). "
     "Default: all.",
     .flags = OPT_FLAG_ONLY},
};

const struct opt_tool poctl_tool = {
    .name = "poctl",
    .synopsis = "COMMAND [ARGUMENT...] [OPTION...]",
    .about =
        "Ask and command a cluster.\n"
        "\n"
        "Commands:\n"
        "  status                       members, leader and counts of the cluster\n"
        "  member list                  control nodes with role, zone and lag\n"
        "  member add HOST:PORT         make a place for a node that will join\n"
        "  member promote NAME|ID       make a standby a voter\n"
        "  member demote NAME|ID        make a voter a standby\n"
        "  member remove NAME|ID        remove a control node for good\n"
        "  member transfer [NAME|ID]    hand leadership over\n"
        "  workers                      workers with status, zone and load\n"
        "  worker list                  the same\n"
        "  worker drain ID              let it finish what it runs and take nothing new\n"
        "  worker resume ID             give it new tasks again\n"
        "  worker remove ID             forget a worker\n"
        "  capabilities                 what the workers offer\n"
        "  route CAPABILITY             the worker that a task would go to now\n"
        "  task submit CAPABILITY       submit a task; prints its id\n"
        "  task show ID                 one task with result or error\n"
        "  task wait ID                 wait for its end and show it\n"
        "  task cancel ID               cancel it\n"
        "  task explain ID              what it waits for, and what turned each worker down\n"
        "  task retry ID                a failed or cancelled task gets all its attempts again\n"
        "  fence ID                     is --token still the right to act for the task?\n"
        "  task list                    tasks by id\n"
        "  pipeline validate FILE       check a pipeline without a cluster\n"
        "  pipeline define FILE         define or replace a pipeline\n"
        "  pipeline run NAME            start a run; prints its id\n"
        "  pipeline export NAME         its document, as the cluster has it\n"
        "  pipeline show NAME|RUN_ID    a pipeline's definition, or a run with its steps\n"
        "  pipeline wait RUN_ID         wait for the run's end and show it\n"
        "  pipeline resume RUN_ID       go on where a run failed, in a new run\n"
        "  pipeline cancel RUN_ID       cancel a run\n"
        "  pipeline list                pipelines\n"
        "  pipeline runs [NAME]         runs by id\n"
        "  schedule define NAME         run a pipeline at the times of a cron expression\n"
        "  schedule list                schedules with their next and last ticks\n"
        "  schedule show NAME           one schedule, its next ticks and latest runs\n"
        "  schedule pause NAME          no ticks from now on\n"
        "  schedule resume NAME         ticks again\n"
        "  schedule delete NAME         delete it; runs that it started go on\n"
        "  watch                        what happens, event by event\n"
        "  sim                          run a pipeline on a simulated cluster\n"
        "  snapshot save FILE           back up a running cluster, or a stopped node (--dir)\n"
        "  snapshot inspect FILE        check a backup and say what it holds\n"
        "  snapshot restore FILE        make a member of a new cluster from a backup\n"
        "  recover                      let one node go on without its lost majority\n"
        "  log dump                     the log of a stopped node in readable form\n"
        "  replay [COMMAND]             a stopped node's state as it was after any entry\n"
        "  replay events                what happened in its log, and why\n"
        "\n"
        "poctl COMMAND --help says more about one command. FILE may be -, standard input.",
    .after =
        "Exit status:\n"
        "0 done; 1 refused, not found, or the task or run that was waited for did not succeed; "
        "2 wrong usage or wrong document; 3 no control node answered, or no answer in time.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .words = true,
};
