/* snapshot save, inspect, restore; recover; log dump */
#include <pipeorch/snapshot.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl.h"
#include "log.h"
#include "table.h"
#include "tools/tools.h"

#define ERROR_BYTES 1024

int backup_fail(const struct ctl *ctl, int rv, const char *error)
{
    fprintf(stderr, "poctl %s: ", ctl->verb->words);
    print_clean(stderr, *error ? error : po_strerror(rv), true);
    fprintf(stderr, " (%s)\n", po_err_name(rv));
    return rv == PO_EUNREACHABLE || rv == PO_ENOLEADER || rv == PO_ETIMEDOUT ? EXIT_UNREACHABLE
           : rv == PO_EINVAL                                                 ? EXIT_USAGE
                                                                             : EXIT_REFUSED;
}

static void line(const char *title, const char *text)
{
    printf("%-12s ", title);
    print_clean(stdout, *text ? text : "-", false);
    putchar('\n');
}

static void line_number(const char *title, json_int_t n)
{
    printf("%-12s %lld\n", title, (long long)n);
}

static void line_time(const char *title, json_int_t ms)
{
    char text[64];
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&s, &tm));
    line(title, text);
}

static json_t *parse(const struct ctl *ctl, const char *text)
{
    json_error_t e;
    json_t *root = json_loads(text, JSON_ALLOW_NUL, &e);
    if (!root)
        fprintf(stderr, "poctl %s: the answer cannot be read: %s\n", ctl->verb->words, e.text);
    return root;
}

static void print_members(const char *title, const json_t *members)
{
    size_t i;
    const json_t *m;
    json_array_foreach(members, i, m)
    {
        const char *name = text_of(m, "name"), *role = text_of(m, "role");
        printf("%-12s ", i ? "" : title);
        printf("%lld %s at %s%s%s\n", (long long)number_of(m, "id"), *name ? name : "-",
               text_of(m, "address"), *role ? ", " : "", role);
    }
}

static void print_backup(const json_t *a)
{
    line("file", text_of(a, "file"));
    printf("%-12s %lld bytes, format %lld, every byte checked\n", "",
           (long long)number_of(a, "file_bytes"), (long long)number_of(a, "format"));
    line("sha256", text_of(a, "sha256"));
    line("state", text_of(a, "state_sha256"));
    line("cluster", text_of(a, "cluster_id"));
    printf("%-12s %s, %s\n", "taken from", text_of(a, "node"), text_of(a, "source"));
    line_time("at", number_of(a, "time_ms"));
    printf("%-12s %lld, term %lld, known to be committed up to %lld\n", "index",
           (long long)number_of(a, "index"), (long long)number_of(a, "term"),
           (long long)number_of(a, "committed_index"));
    print_members("members", json_object_get(a, "members"));
    printf("%-12s %lld, %lld online\n", "workers", (long long)number_of(a, "workers"),
           (long long)number_of(a, "workers_online"));
    printf("%-12s %lld pending, %lld scheduled, %lld running, %lld finished\n", "tasks",
           (long long)number_of(a, "tasks_pending"), (long long)number_of(a, "tasks_scheduled"),
           (long long)number_of(a, "tasks_running"), (long long)number_of(a, "tasks_finished"));
    line_number("pipelines", number_of(a, "pipelines"));
    printf("%-12s %lld running, %lld finished\n", "runs", (long long)number_of(a, "runs_running"),
           (long long)number_of(a, "runs_finished"));
    printf("%-12s %lld bytes of the application's own state\n", "application",
           (long long)number_of(a, "application_bytes"));
}

/* Prints the answer in its form and releases it. */
static int print_answer(struct ctl *ctl, char *text, void (*print)(const json_t *a))
{
    json_t *a = parse(ctl, text);
    po_free(text);
    if (!a)
        return EXIT_REFUSED;
    int code;
    if (ctl_json(ctl)) {
        code = ctl_print_json(a);
    } else {
        print(a);
        code = ctl_out(ctl, 0);
    }
    json_decref(a);
    return code;
}

static int save(struct ctl *ctl)
{
    char error[ERROR_BYTES] = "", *json = NULL;
    struct po_snapshot_save_opts o = {.size = sizeof o,
                                      .path = ctl->arg,
                                      .client = ctl->s->dir ? NULL : ctl->client,
                                      .data_dir = ctl->s->dir,
                                      .overwrite = ctl->s->force};
    if (opt_given(ctl->run, "timeout"))
        o.timeout_ms = (uint32_t)ctl->s->timeout;
    int rv = po_snapshot_save(&o, &json, error, sizeof error);
    return rv ? backup_fail(ctl, rv, error) : print_answer(ctl, json, print_backup);
}

static int inspect(struct ctl *ctl)
{
    char error[ERROR_BYTES] = "", *json = NULL;
    int rv = po_snapshot_inspect(ctl->arg, &json, error, sizeof error);
    return rv ? backup_fail(ctl, rv, error) : print_answer(ctl, json, print_backup);
}

/* ---- restore ---- */

/* The form of each item was checked by the option. */
static size_t split_members(char *text, struct po_member *members)
{
    size_t n = 0;
    char *item;
    while ((item = strsep(&text, ",")) && n < PO_MEMBERS_MAX + 1) {
        char *eq = strchr(item, '=');
        *eq = '\0';
        members[n++] = (struct po_member){.name = item, .address = eq + 1};
    }
    return n;
}

static void print_restored(const json_t *a)
{
    line("directory", text_of(a, "directory"));
    line("new cluster", text_of(a, "new_cluster_id"));
    print_members("members", json_object_get(a, "new_members"));
    printf("%-12s %lld; the backup's was %lld\n", "index", (long long)number_of(a, "new_index"),
           (long long)number_of(a, "index"));
    if (json_array_size(json_object_get(a, "new_members")) > 1)
        printf("\nOn each other member: the same command with its --name and --dir, and with\n"
               "  --cluster-id %s\n",
               text_of(a, "new_cluster_id"));
    printf("\nThen start po-controld with the directory, without --bootstrap and "
           "--initial-members.\n");
}

static int restore(struct ctl *ctl)
{
    char error[ERROR_BYTES] = "", *json = NULL, text[OPT_VALUE_MAX_BYTES + 1] = "";
    struct po_member members[PO_MEMBERS_MAX + 1];
    if (!ctl->s->dir || !ctl->s->name)
        return ctl_usage(ctl, "--%s is missing", ctl->s->dir ? "name" : "dir");
    if (ctl->s->members)
        snprintf(text, sizeof text, "%s", ctl->s->members);
    struct po_snapshot_restore_opts o = {.size = sizeof o,
                                         .path = ctl->arg,
                                         .data_dir = ctl->s->dir,
                                         .name = ctl->s->name,
                                         .members = ctl->s->members ? members : NULL,
                                         .members_count =
                                             ctl->s->members ? split_members(text, members) : 0,
                                         .cluster_id = ctl->s->cluster_id};
    int rv = po_snapshot_restore(&o, &json, error, sizeof error);
    return rv ? backup_fail(ctl, rv, error) : print_answer(ctl, json, print_restored);
}

/* ---- recover ---- */

static void print_recover(const json_t *a)
{
    bool done = json_is_true(json_object_get(a, "done"));
    line("directory", text_of(a, "directory"));
    printf("%-12s %s, id %lld\n", "node", text_of(a, "name"), (long long)number_of(a, "node_id"));
    print_members("members were", json_object_get(a, "members"));
    printf("%-12s up to %lld, term %lld\n", "log", (long long)number_of(a, "last_index"),
           (long long)number_of(a, "last_term"));
    printf("%-12s up to %lld for certain: the newest snapshot here; what follows may have been\n",
           "committed", (long long)number_of(a, "committed_index"));
    if (done) {
        line("copy", text_of(a, "backup"));
        line("new cluster", text_of(a, "new_cluster_id"));
        printf("\n%s is the only voter of a new cluster. Start it without --bootstrap and "
               "--initial-members;\nothers join it as new nodes, with empty directories. The old "
               "members are refused.\n",
               text_of(a, "name"));
        return;
    }
    printf("\nNothing was changed. If the majority is lost for good:\n"
           "  - what only the lost nodes had is lost: every command acknowledged after index %lld\n"
           "  - commands up to it that were never acknowledged become effective\n"
           "  - fencing tokens that only lost nodes granted may be granted again\n"
           "  - whatever the old members still do, this node will not know\n"
           "Prefer the surviving node with the highest term of its log, then the highest index.\n"
           "To go on, repeat the command with --accept-data-loss %lld\n",
           (long long)number_of(a, "last_index"), (long long)number_of(a, "last_index"));
}

static int recover(struct ctl *ctl)
{
    char error[ERROR_BYTES] = "", copy[OPT_VALUE_MAX_BYTES + 32];
    struct po__buf json = {0};
    if (!ctl->s->dir)
        return ctl_usage(ctl, "--dir is missing");
    size_t len = strlen(ctl->s->dir);
    while (len > 1 && ctl->s->dir[len - 1] == '/')
        len--;
    snprintf(copy, sizeof copy, "%.*s.before-recover", (int)len, ctl->s->dir);
    struct po__tool_recover r = {.data_dir = ctl->s->dir,
                                 .backup_dir = ctl->s->backup ? ctl->s->backup : copy,
                                 .address = ctl->s->address,
                                 .accept = ctl->s->accept_data_loss};
    int rv = po__tool_recover(&r, &json, error, sizeof error);
    if (rv) {
        po__buf_fini(&json);
        return backup_fail(ctl, rv, error);
    }
    json_t *a = parse(ctl, (const char *)json.data);
    po__buf_fini(&json);
    if (!a)
        return EXIT_REFUSED;
    int code = EXIT_DONE;
    if (ctl_json(ctl))
        code = ctl_print_json(a);
    else
        print_recover(a), code = ctl_out(ctl, 0);
    json_decref(a);
    return code;
}

const struct verb backup_verbs[] = {
    {"snapshot save", "FILE", "dir force",
     "Save the whole state to FILE: of the running cluster, as of this moment, while its work goes "
     "on; or with --dir of a stopped node. FILE appears complete and durable or not at all.",
     save, .offline_with = "dir"},
    {"snapshot inspect", "FILE", "", "Check every byte of a backup and say what it holds.", inspect,
     true},
    {"snapshot restore", "FILE", "dir name members cluster_id",
     "Make --dir the data directory of node --name of a new cluster. Each of --members restores "
     "the "
     "same FILE with the same --members: the first one draws the new cluster's id and prints it, "
     "the others are given it with --cluster-id.",
     restore, true},
    {"recover", NULL, "dir accept_data_loss backup address",
     "The majority of a cluster is lost for good: make a surviving node, which is stopped, the "
     "only "
     "voter of a new cluster that goes on with the log and the state in --dir. Without "
     "--accept-data-loss it says what may be lost and changes nothing.",
     recover, true},
    {"log dump", NULL, "dir from to",
     "Show the log entries in a stopped node's --dir: commands with their fields, changes of the "
     "membership. With -o json one object per line.",
     log_dump, true},
    {NULL},
};
