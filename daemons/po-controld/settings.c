#include "settings.h"

#include "../common/logging.h"

#define AT(member) offsetof(struct controld_settings, member)
#define KIB        (UINT64_C(1) << 10)
#define MIB        (UINT64_C(1) << 20)

static const struct opt options[] = {
    {"name", OPT_NAME, AT(name), "NAME", NULL, "This node's name, unique in the cluster.",
     .flags = OPT_REQUIRED},
    {"data_dir", OPT_PATH, AT(data_dir), "DIR", NULL,
     "Folder of this node's log, snapshots and identity; created if missing. One process at a "
     "time.",
     .flags = OPT_REQUIRED},
    {"zone", OPT_NAME, AT(zone), "NAME", "default", "Where this node lives: aws, gcp, azure, ..."},
    {"cluster", OPT_NAME, AT(cluster), "NAME", "pipeorch",
     "Name of the cluster; nodes of another one are refused."},
    {"listen", OPT_ADDRESS, AT(listen), "HOST:PORT", NULL,
     "Bind here for the other control nodes. Without it the node is a cluster of its own."},
    {"advertise", OPT_ADDRESS, AT(advertise), "HOST:PORT", NULL,
     "The address that other control nodes use for this one, kept as written. Default: --listen."},
    {"worker_listen", OPT_ADDRESS, AT(worker_listen), "HOST:PORT", NULL,
     "Bind here for workers and clients. Port 0 picks a free one (see the log)."},
    {"worker_advertise", OPT_ADDRESS, AT(worker_advertise), "HOST:PORT", NULL,
     "The address that workers and clients are sent to, kept as written. Default: "
     "--worker-listen."},
    {"bootstrap", OPT_BOOL, AT(bootstrap), NULL, "false",
     "Found a cluster if the data folder is empty; without it an empty folder is refused. Harmless "
     "on later starts."},
    {"initial_members", OPT_MEMBERS, AT(initial_members), "NAME=HOST:PORT,...", NULL,
     "All founding nodes, this one included, with their advertised addresses. Default: this node "
     "alone."},
    {"join", OPT_ADDRESSES, AT(join), "HOST:PORT,...", NULL,
     "Become a member of the cluster whose nodes have these worker addresses (as --controllers of "
     "poctl and po-workerd; one that lives is enough), if the data folder is empty. Needs "
     "--listen. "
     "Harmless on later starts."},
    {"join_as", OPT_CHOICE, AT(join_as), "voter|standby", "voter",
     "With --join: become a voter as soon as the log has caught up, or stay a standby until poctl "
     "member promote."},
    {"prefer_zone", OPT_NAME, AT(prefer_zone), "NAME", NULL,
     "A leader elsewhere hands leadership to a voter of this zone that has caught up. The same on "
     "all nodes."},
    {"insecure", OPT_BOOL, AT(insecure), NULL, "false",
     "Allow listen addresses other than loopback although connections are not encrypted and anyone "
     "who reaches them can command the cluster."},
    {"election_ms", OPT_UINT, AT(election_ms), "MS", "1000",
     "Followers elect a new leader after so long without a word from it.", 50, 60000},
    {"heartbeat_ms", OPT_UINT, AT(heartbeat_ms), "MS", "100",
     "A leader speaks at least so often; at most a third of --election-ms, and so is the default.",
     5, 20000},
    {"failover_hint", OPT_BOOL, AT(failover_hint), NULL, "true",
     "Elect a new leader at once when the leader's process has ended; false: only after "
     "--election-ms."},
    {"snapshot_bytes", OPT_BYTES, AT(snapshot_bytes), "BYTES", "16MiB",
     "Take a snapshot after so much log.", 64 * KIB, 64 * MIB},
    {"trailing_bytes", OPT_BYTES, AT(trailing_bytes), "BYTES", "8MiB",
     "Log kept behind a snapshot for slow followers; at most four times --snapshot-bytes, and so "
     "is "
     "the default.",
     1, 256 * MIB},
    {"segment_bytes", OPT_BYTES, AT(segment_bytes), "BYTES", "8MiB",
     "Size of one log file; a multiple of 4096.", MIB, 256 * MIB},
    {"log_level", OPT_CHOICE, AT(log_level), LOG_LEVELS, "info", "Events to write."},
    {"log_format", OPT_CHOICE, AT(log_format), LOG_FORMATS, "text",
     "Form of the events on standard error, one per line."},
    {"check_config", OPT_BOOL, AT(check_config), NULL, "false",
     "Check flags, environment and config file, list every problem, and exit.",
     .flags = OPT_FLAG_ONLY},
    {"check_dir", OPT_PATH, AT(check_dir), "DIR", NULL,
     "Look at the data folder of a stopped node, change nothing in it, and exit: 0 healthy, 1 "
     "damaged but usable, 2 a start would be refused. With --log-format json the report is JSON.",
     .flags = OPT_FLAG_ONLY | OPT_ALONE},
};

const struct opt_tool controld_tool = {
    .name = "po-controld",
    .synopsis = "--name NAME --data-dir DIR [OPTION...]",
    .about = "Run one control node: a member of the replicated control plane that keeps the "
             "registry of workers, the task queue and the running pipelines. Logs go to standard "
             "error; nothing else is printed.",
    .after =
        "Signals:\n"
        "SIGTERM and SIGINT stop the node cleanly; a leader hands over first. Its data stays.\n"
        "\n"
        "Exit status:\n"
        "0 after a stop, 1 after a fault (see the last event), 2 if an option or the state of "
        "the data folder does not allow a start, 3 if the cluster removed this node.\n"
        "\n"
        "A cluster of three on one machine; the first of three commands:\n"
        "po-controld --name cp1 --data-dir /var/lib/cp1 --bootstrap --listen 127.0.0.1:7101 "
        "--worker-listen 127.0.0.1:7201 --initial-members "
        "cp1=127.0.0.1:7101,cp2=127.0.0.1:7102,cp3=127.0.0.1:7103\n"
        "\n"
        "A fourth one joins them:\n"
        "po-controld --name cp4 --data-dir /var/lib/cp4 --join 127.0.0.1:7201 "
        "--listen 127.0.0.1:7104 --worker-listen 127.0.0.1:7204",
    .options = options,
    .count = sizeof options / sizeof *options,
    .config_file = true,
};
