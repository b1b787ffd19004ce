/* replay: the state of a stopped node as of an entry, and the events of its log.
 *
 * Every command that only asks (it has --stale) can be put behind the word replay: it is the same
 * command with another source of answers, so its tables, its JSON and its options are the same. */
#include "replay.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "log.h"
#include "table.h"
#include "tools/tools.h"

#define WORDS_MAX_BYTES   64
#define OPTIONS_MAX_BYTES 256
#define HELP_MAX_BYTES    1024
#define ERROR_BYTES       1024

static const char own_options[] = "data_dir until";

int replay_ask(const struct ctl *ctl, const struct po_query *query, struct po__buf *json)
{
    char error[ERROR_BYTES] = "";
    int rv = po__tool_replay_query(ctl->replay, query, json, error, sizeof error);
    return rv ? backup_fail(ctl, rv, error) : EXIT_DONE;
}

static void print_notes(const struct ctl *ctl, struct po__buf *notes)
{
    const char *p = (const char *)notes->data, *end = p + notes->len;
    for (const char *nl; p < end; p = nl + 1) {
        char line[ERROR_BYTES];
        nl = memchr(p, '\n', (size_t)(end - p));
        PO_INVARIANT(nl);
        snprintf(line, sizeof line, "%.*s", (int)(nl - p), p);
        fprintf(stderr, "poctl %s: ", ctl->verb->words);
        print_clean(stderr, line, false);
        fputc('\n', stderr);
    }
    po__buf_fini(notes);
}

/* ---- a question ---- */

static uint64_t last_entry(const struct ctl *ctl)
{
    return opt_given(ctl->run, "until") ? ctl->s->until : UINT64_MAX;
}

static int ask_directory(struct ctl *ctl, int (*execute)(struct ctl *ctl))
{
    struct po__buf notes = {0};
    char error[ERROR_BYTES] = "";
    if (!ctl->s->data_dir)
        return ctl_usage(ctl, "--data-dir is missing");
    int rv =
        po__tool_replay_open(&ctl->replay, ctl->s->data_dir, last_entry(ctl), error, sizeof error);
    if (rv)
        return backup_fail(ctl, rv, error);
    int code = execute(ctl);
    po__tool_replay_notes(ctl->replay, &notes);
    print_notes(ctl, &notes);
    po__tool_replay_close(ctl->replay);
    ctl->replay = NULL;
    return code;
}

static const struct verb *asked; /* what the command made below is made of */

static int ask(struct ctl *ctl)
{
    return ask_directory(ctl, asked->execute);
}

const struct verb *replay_of(const struct verb *live)
{
    static char words[WORDS_MAX_BYTES], options[OPTIONS_MAX_BYTES], help[HELP_MAX_BYTES];
    static struct verb made;
    const char *stale = strstr(live->options, "stale");
    if (!stale)
        return NULL;
    int before = (int)(stale - live->options);
    snprintf(words, sizeof words, "replay %s", live->words);
    snprintf(options, sizeof options, "%s %.*s%s", own_options, before, live->options,
             stale + strlen("stale"));
    snprintf(help, sizeof help,
             "%s\n\nThe answer is that of a stopped node's --data-dir, as of the entry --until of "
             "its log.",
             live->help);
    asked = live;
    made = (struct verb){.words = words,
                         .argument = live->argument,
                         .options = options,
                         .help = help,
                         .execute = ask,
                         .offline = true,
                         .optional = live->optional};
    return &made;
}

static int status(struct ctl *ctl)
{
    return ask_directory(ctl, cluster_verbs[0].execute);
}

/* ---- events ---- */

static int emit_json(void *arg, const char *text, size_t len)
{
    (void)arg;
    return fwrite(text, 1, len, stdout) == len && putchar('\n') != EOF ? 0 : PO_EIO;
}

static void print_cell(const json_t *e, const char *key, int width)
{
    const json_t *v = json_object_get(e, key);
    if (json_is_string(v))
        printf("  %-*s", width, json_string_value(v)); /* names: plain characters */
    else if (json_is_number(v))
        printf("  %-*lld", width, (long long)number_of(e, key));
    else
        printf("  %-*s", width, "-");
}

static int emit_table(void *arg, const char *text, size_t len)
{
    char when[LOG_TIME_BYTES];
    (void)arg;
    json_t *e = ctl_parse(text, len);
    if (!e)
        return PO_ENOMEM;
    log_time(when, number_of(e, "time_ms"));
    printf("%8lld  %-23s", (long long)number_of(e, "index"), when);
    print_cell(e, "event", 19);
    print_cell(e, "task_id", 6);
    print_cell(e, "run_id", 4);
    print_cell(e, "worker_id", 12);
    printf("  ");
    print_clean(stdout, text_of(e, "text"), false);
    putchar('\n');
    json_decref(e);
    return ferror(stdout) ? PO_EIO : 0;
}

static int events(struct ctl *ctl)
{
    char error[ERROR_BYTES] = "";
    struct po__buf notes = {0};
    const struct po__tool_events which = {.data_dir = ctl->s->data_dir,
                                          .from = ctl->s->from,
                                          .until = last_entry(ctl),
                                          .task_id = ctl->s->task,
                                          .run_id = ctl->s->run,
                                          .worker_id = ctl->s->worker};
    if (!ctl->s->data_dir)
        return ctl_usage(ctl, "--data-dir is missing");
    if (!ctl_json(ctl))
        printf("%8s  %-23s  %-19s  %-6s  %-4s  %-12s  %s\n", "INDEX", "TIME (UTC)", "EVENT", "TASK",
               "RUN", "WORKER", "WHAT");
    int rv = po__tool_replay_events(&which, ctl_json(ctl) ? emit_json : emit_table, NULL, &notes,
                                    error, sizeof error);
    int code = ctl_out(ctl, 0);
    print_notes(ctl, &notes);
    return rv && !ferror(stdout) ? backup_fail(ctl, rv, error) : code;
}

const struct verb replay_verbs[] = {
    {"replay events", NULL, "data_dir from until task run worker",
     "Show what happened in the log of a stopped node's --data-dir, and why: one line for each "
     "task "
     "submitted, granted, failed, tried again or ended, each worker that came, went or was "
     "refused, "
     "each run, pipeline and leader. With --task, --run or --worker only what concerns it. With -o "
     "json one object per line.",
     events, true},
    {"replay", "COMMAND", own_options,
     "Show the cluster as it was after the entry --until of the log in a stopped node's "
     "--data-dir, "
     "and how far that log reaches. Nothing in the directory changes. Each command that only asks "
     "can follow: poctl replay task show 17, replay workers, replay pipeline show 3, replay task "
     "list --state failed. An embedder's own state (po_apply) is not shown.",
     status, true, .optional = true, .alone = true},
    {NULL},
};
