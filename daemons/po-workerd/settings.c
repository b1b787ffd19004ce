#include "settings.h"

#include "../common/logging.h"

#define AT(member) offsetof(struct workerd_settings, member)

static const struct opt options[] = {
    {"id", OPT_NAME, AT(id), "NAME", NULL, "This worker's id, unique in the cluster.",
     .flags = OPT_REQUIRED},
    {"controllers", OPT_ADDRESSES, AT(controllers), "HOST:PORT,...", NULL,
     "Worker addresses of the control nodes; one that lives is enough.", .flags = OPT_REQUIRED},
    {"capabilities", OPT_PATH, AT(capabilities), "FILE", NULL,
     "What this worker can do: a JSON file, described below.", .flags = OPT_REQUIRED},
    {"zone", OPT_NAME, AT(zone), "NAME", "default",
     "Where this worker lives: aws, gcp, azure, ..."},
    {"address", OPT_ADDRESS, AT(address), "HOST:PORT", NULL,
     "Where the worker's own service can be reached, for information."},
    {"heartbeat_ms", OPT_UINT, AT(heartbeat_ms), "MS", "5000",
     "Interval of heartbeats; after three missed ones the worker counts as offline.", 100, 60000},
    {"drain_ms", OPT_UINT, AT(drain_ms), "MS", "5000",
     "On a stop, running tasks get so long to finish; then they are ended and handed back to the "
     "cluster. Up to 5000 the worker is gone within 10 s.",
     1, 3000000},
    {"log_level", OPT_CHOICE, AT(log_level), LOG_LEVELS, "info", "Events to write."},
    {"log_format", OPT_CHOICE, AT(log_format), LOG_FORMATS, "text",
     "Form of the events on standard error, one per line."},
    {"check_config", OPT_BOOL, AT(check_config), NULL, "false",
     "Check all options and the capabilities file, list every problem, and exit.",
     .flags = OPT_FLAG_ONLY},
};

const struct opt_tool workerd_tool = {
    .name = "po-workerd",
    .synopsis = "--id NAME --controllers HOST:PORT,... --capabilities FILE [OPTION...]",
    .about =
        "Run one worker: it offers capabilities to the cluster and executes a command for each "
        "task it is given.",
    .after =
        "Capabilities file:\n"
        "{\"capabilities\": [{\"name\": \"ingest:csv\", \"command\": [\"python3\", "
        "\"ingest.py\"]}]}\n"
        "Each capability has a name (verb:name) and a command (program and arguments), and may "
        "have "
        "version (\"1.0.0\"), description, cwd (default: the file's folder; relative ones start "
        "there), env (an object of strings), timeout_ms (100 to 86400000; the task's own limit "
        "holds too), max_concurrency (1 to 1024, default 1), requires_gpu (false), "
        "final_exit_codes (default [64, 65]), input_schema and output_schema (JSON Schema "
        "2020-12; what breaks them is refused). Beside capabilities "
        "the file may have labels, an object of strings.\n"
        "\n"
        "Commands:\n"
        "A command reads the task's input as JSON from standard input and writes its result as one "
        "JSON text to standard output. Exit code 0 is success. The final_exit_codes fail the task "
        "at once: the input is bad, trying again would not help. Every other exit code or signal "
        "fails the attempt, and the task is tried again while it has attempts. The end of standard "
        "error becomes part of the error. When time is up or the task is cancelled, the command's "
        "process group gets SIGTERM and 2 s later SIGKILL. The environment has PO_TASK_ID, "
        "PO_ATTEMPT, PO_FENCING_TOKEN, PO_CAPABILITY and PO_WORKER_ID.\n"
        "\n"
        "Signals:\n"
        "SIGTERM and SIGINT drain the worker and stop it.\n"
        "\n"
        "Exit status:\n"
        "0 after a stop, 1 after a fault (see the last event), 2 if an option or the capabilities "
        "file is wrong.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .config_file = true,
};
