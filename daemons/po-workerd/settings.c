#include "settings.h"

#include "../common/logging.h"

#define AT(member) offsetof(struct workerd_settings, member)

static const struct opt options[] = {
    {"id", OPT_NAME, AT(id), "NAME", NULL, "This worker's id, unique in the cluster.",
     .flags = OPT_REQUIRED},
    {"controllers", OPT_ADDRESSES, AT(controllers), "HOST:PORT,...", NULL,
     "Worker addresses of the control nodes; one that lives is enough. Without it the worker is "
     "its own control node: see Standalone below."},
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
    {"standalone", OPT_CHOICE, AT(standalone), "auto|never|always", "auto",
     "Whether the worker may be its own control node while no other answers. auto: if "
     "--controllers is not given, or --standalone-listen or --standalone-dir is."},
    {"standalone_listen", OPT_ADDRESS, AT(standalone_listen), "HOST:PORT", "127.0.0.1:0",
     "While standalone, bind here for clients. Port 0 picks a free one (see the log)."},
    {"standalone_dir", OPT_PATH, AT(standalone_dir), "DIR", NULL,
     "While standalone, keep tasks in this folder; created if missing. Without it they are kept in "
     "a temporary one, which is removed at the end."},
    {"insecure", OPT_BOOL, AT(insecure), NULL, "false",
     "Allow a --standalone-listen other than loopback although connections are not encrypted and "
     "anyone who reaches it can command the worker."},
    {"log_level", OPT_CHOICE, AT(log_level), LOG_LEVELS, "info", "Events to write."},
    {"log_format", OPT_CHOICE, AT(log_format), LOG_FORMATS, "text",
     "Form of the events on standard error, one per line."},
    {"check_config", OPT_BOOL, AT(check_config), NULL, "false",
     "Check all options and the capabilities file, list every problem, and exit.",
     .flags = OPT_FLAG_ONLY},
};

const struct opt_tool workerd_tool = {
    .name = "po-workerd",
    .synopsis = "--id NAME [--controllers HOST:PORT,...] --capabilities FILE [OPTION...]",
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
        "the file may have labels, an object of strings; resources that the worker has, of which "
        "tasks may take some, as {\"cpus\": 2.5, \"memory\": \"8GiB\", \"gpus\": 1, \"licences\": "
        "3} "
        "(counted as cpu_milli, memory_bytes and by their names); and slots, the number of tasks "
        "at once over all capabilities.\n"
        "\n"
        "Commands:\n"
        "A command reads the task's input as JSON from standard input and writes its result as one "
        "JSON text to standard output. Exit code 0 is success. The final_exit_codes fail the task "
        "at once: the input is bad, trying again would not help. Every other exit code or signal "
        "fails the attempt, and the task is tried again while it has attempts. The end of standard "
        "error becomes part of the error. When time is up or the task is cancelled, the command's "
        "process group gets SIGTERM and 2 s later SIGKILL. The environment has PO_TASK_ID, "
        "PO_ATTEMPT, PO_FENCING_TOKEN, PO_CAPABILITY and PO_WORKER_ID. The command may tell how "
        "far "
        "it is by writing lines such as {\"progress\": 0.42, \"checkpoint\": {\"row\": 4200}, "
        "\"extend_ms\": 60000} to the descriptor in PO_PROGRESS_FD; a later attempt finds the last "
        "checkpoint in the file named by PO_CHECKPOINT, which is empty if there is none.\n"
        "\n"
        "Standalone:\n"
        "Without --controllers the worker is its own control node: poctl --controllers with the "
        "address in its log submits tasks to it as to a cluster. With --controllers that is what "
        "it does, if --standalone allows, when none of them answers its first attempt to register "
        "(5 s); it goes on trying. Once they answer, it serves the cluster: its own node takes "
        "nothing new and says where to submit, finishes what it has, and ends. Pipelines and "
        "results that it knew are not carried over.\n"
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
