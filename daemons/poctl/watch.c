/* watch: one line per event, until somebody ends it. */
#include <errno.h>
#include <pipeorch/watch.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "log.h"
#include "table.h"

#define LOOK_MS 200 /* how often a signal is looked for while nothing happens */

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

/* Being interrupted is how this command ends; so is the end of whoever reads its output. */
static void take_signals(void)
{
    struct sigaction end = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* ---- options ---- */

static const struct {
    const char *word;
    uint64_t kinds;
} sets[] = {{"tasks", PO_WATCH_TASKS},
            {"workers", PO_WATCH_WORKERS},
            {"runs", PO_WATCH_RUNS},
            {"leader", PO_WATCH_BIT(PO_WATCH_LEADER)},
            {"members", PO_WATCH_MEMBERS}};

static int read_kinds(const struct ctl *ctl, uint64_t *kinds)
{
    const char *p = ctl->s->kinds;
    while (p && *p) {
        size_t len = strcspn(p, ","), i = 0;
        while (i < sizeof sets / sizeof *sets &&
               (strlen(sets[i].word) != len || memcmp(sets[i].word, p, len) != 0))
            i++;
        if (i == sizeof sets / sizeof *sets)
            return ctl_usage(ctl,
                             "--kinds: \"%.*s\" is no kind of event; expected tasks, workers, "
                             "runs, leader or members, separated by commas",
                             (int)(len < 64 ? len : 64), p);
        *kinds |= sets[i].kinds;
        p += len + (p[len] == ',');
    }
    return EXIT_DONE;
}

/* INDEX:POSITION, as the lines begin. */
static int read_resume(const struct ctl *ctl, struct po_watch_opts *o)
{
    char *end = NULL;
    const char *text = ctl->s->resume;
    unsigned long long position = 0;
    if (!text)
        return EXIT_DONE;
    errno = 0;
    o->after_index = *text >= '1' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (o->after_index && *end == ':' && end[1] >= '0' && end[1] <= '9')
        position = strtoull(end + 1, &end, 10);
    else
        end = NULL;
    o->after_position = (uint32_t)position;
    if (end && *end == '\0' && !errno && position <= UINT32_MAX)
        return EXIT_DONE;
    return ctl_usage(ctl,
                     "--resume: \"%.64s\" is no position; expected INDEX:POSITION, as each line "
                     "begins",
                     text);
}

static int read_opts(const struct ctl *ctl, struct po_watch_opts *o)
{
    *o = (struct po_watch_opts){.size = sizeof *o,
                                .after_index = ctl->s->from,
                                .task_id = ctl->s->task,
                                .run_id = ctl->s->run,
                                .worker_id = ctl->s->worker,
                                .pipeline = ctl->s->pipeline};
    if (ctl->s->resume && opt_given(ctl->run, "from"))
        return ctl_usage(ctl, "--from and --resume exclude each other; give one");
    int rv = read_kinds(ctl, &o->kinds);
    return rv ? rv : read_resume(ctl, o);
}

/* ---- events ---- */

static bool shown(const char *key)
{
    return strcmp(key, "index") != 0 && strcmp(key, "position") != 0 &&
           strcmp(key, "time_ms") != 0 && strcmp(key, "event") != 0;
}

static void print_line(const json_t *e)
{
    char when[LOG_TIME_BYTES], at[64];
    const char *key;
    const json_t *value;
    log_time(when, number_of(e, "time_ms"));
    snprintf(at, sizeof at, "%lld:%lld", (long long)number_of(e, "index"),
             (long long)number_of(e, "position"));
    printf("%-12s %-23s  %-17s", at, when, text_of(e, "event"));
    json_object_foreach((json_t *)e, key, value)
    {
        if (!shown(key))
            continue;
        printf(" %s=", key);
        if (json_is_string(value))
            print_clean(stdout, json_string_value(value), false);
        else
            printf("%lld", (long long)number_of(e, key));
    }
    putchar('\n');
}

static int print_event(const struct ctl *ctl, const struct po_watch_event *event)
{
    char *text;
    json_error_t error;
    int rv = po_watch_event_json(event, &text);
    if (rv)
        return ctl_fail(ctl, rv);
    if (ctl_json(ctl)) {
        puts(text);
    } else {
        json_t *e = json_loads(text, 0, &error);
        if (e)
            print_line(e);
        else
            puts(text); /* out of memory for the better form */
        json_decref(e);
    }
    po_free(text);
    if (event->kind == PO_WATCH_GONE)
        fprintf(stderr, "poctl watch: the events up to here are not kept any more\n");
    return EXIT_DONE;
}

/* Nobody to ask is a state of the cluster, not the end of a watch. */
static bool is_waited_out(int rv)
{
    return rv == PO_ETIMEDOUT || rv == PO_ENOLEADER || rv == PO_EUNREACHABLE || rv == PO_EUNKNOWN;
}

static int follow(const struct ctl *ctl, po_watch *watch)
{
    struct po_watch_event event = {.size = sizeof event};
    bool cut_off = false;
    while (!ended) {
        int rv = po_watch_next(watch, LOOK_MS, &event);
        if (rv && !is_waited_out(rv))
            return ctl_fail(ctl, rv);
        if (rv && rv != PO_ETIMEDOUT && !cut_off)
            fprintf(stderr, "poctl watch: %s; going on when there is a leader\n",
                    po_client_error());
        cut_off = rv ? cut_off || rv != PO_ETIMEDOUT : false;
        if (rv == 0 && (rv = print_event(ctl, &event)) != 0)
            return rv;
        if (fflush(stdout) || ferror(stdout))
            return errno == EPIPE ? EXIT_DONE : ctl_out(ctl, 0);
    }
    return EXIT_DONE;
}

static int watch(struct ctl *ctl)
{
    struct po_watch_opts o;
    struct po_call_opts call = ctl_opts(ctl);
    po_watch *w;
    int code = read_opts(ctl, &o);
    if (code)
        return code;
    take_signals();
    int rv = po_watch_open(&w, ctl->client, &o, &call);
    if (rv)
        return ended ? EXIT_DONE : ctl_fail(ctl, rv);
    code = follow(ctl, w);
    po_watch_close(w);
    return code;
}

const struct verb watch_verbs[] = {
    {"watch", NULL, "from resume kinds task run worker pipeline",
     "Show what happens in the cluster, one line per event, until it is interrupted: tasks, "
     "workers, "
     "runs, leaders, members, in the order of the log, each event once and none left out, "
     "whichever "
     "node leads meanwhile. Each line begins with the event's position, INDEX:POSITION; with "
     "--resume and the last one seen, another watch goes on behind it. The nodes keep the latest "
     "events only: if some that were asked for are not kept any more, the event \"gone\" says so, "
     "and "
     "the watch goes on with those that are. --from 1 shows all that is kept. With -o json each "
     "line "
     "is one JSON object.",
     watch},
    {NULL},
};
