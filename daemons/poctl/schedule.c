/* schedule define, list, show, pause, resume, delete */
#include <string.h>

#include "ctl.h"
#include "table.h"

static int define_with(const struct ctl *ctl, const char *params)
{
    const struct poctl_settings *s = ctl->s;
    struct po_call_opts opts = ctl_opts(ctl);
    struct po_schedule_opts o = {
        .size = sizeof o,
        .name = ctl->arg,
        .pipeline = s->pipeline,
        .cron = s->cron,
        .time_zone = s->time_zone,
        .params = params,
        .zone = s->zone,
        .overlap = strcmp(s->overlap, "skip") == 0 ? PO_OVERLAP_SKIP : PO_OVERLAP_ALLOW,
        .catch_up_ms = s->catch_up ? (uint32_t)s->catch_up : PO_CATCH_UP_NONE,
        .paused = s->paused,
    };
    int rv = po_schedule_define(ctl->client, &o, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

static int define(struct ctl *ctl)
{
    struct po__buf keep = {0};
    const char *params;
    if (!ctl->s->pipeline || !ctl->s->cron)
        return ctl_usage(ctl, "--%s is missing; it needs the pipeline's name and a cron expression",
                         ctl->s->pipeline ? "cron" : "pipeline");
    int rv = ctl_payload(ctl, "params", ctl->s->params, ctl->s->params_file, &keep, &params);
    if (!rv)
        rv = define_with(ctl, params);
    po__buf_fini(&keep);
    return rv;
}

static int set_paused(struct ctl *ctl, int paused)
{
    struct po_call_opts opts = ctl_opts(ctl);
    int rv = po_schedule_pause(ctl->client, ctl->arg, paused, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

static int pause_it(struct ctl *ctl)
{
    return set_paused(ctl, 1);
}

static int resume(struct ctl *ctl)
{
    return set_paused(ctl, 0);
}

static int delete_it(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    int rv = po_schedule_delete(ctl->client, ctl->arg, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

/* ---- showing ---- */

static const char *next_tick(char out[UTC_BYTES], const json_t *schedule)
{
    if (json_is_true(json_object_get(schedule, "paused")))
        return "paused";
    return utc_of(out, json_array_get(json_object_get(schedule, "next_ms"), 0));
}

static void row(struct table *t, const json_t *s)
{
    char time[UTC_BYTES];
    table_text(t, text_of(s, "name"));
    table_text(t, text_of(s, "pipeline"));
    table_text(t, text_of(s, "cron"));
    table_text(t, text_of(s, "time_zone"));
    table_text(t, next_tick(time, s));
    table_text(t, utc_of(time, json_object_get(s, "last_fire_ms")));
    table_json(t, json_object_get(s, "fired"));
    table_json(t, json_object_get(s, "skipped"));
    table_json(t, json_object_get(s, "late"));
    table_json(t, json_object_get(s, "refused"));
}

static const char heads[] =
    "SCHEDULE|PIPELINE|CRON|TIME ZONE|NEXT TICK|LAST TICK|FIRED|SKIPPED|LATE|REFUSED";

static int list(struct ctl *ctl)
{
    return ctl_list(ctl, (struct po_query){.what = PO_QUERY_SCHEDULES}, "schedules", heads, row);
}

/* The latest first. */
static int print_runs(const json_t *runs)
{
    struct table t;
    char time[UTC_BYTES];
    table_open(&t, "TICK|RUN|STATE");
    for (size_t i = json_array_size(runs); i-- > 0;) {
        const json_t *r = json_array_get(runs, i);
        table_text(&t, utc_of(time, json_object_get(r, "fire_ms")));
        table_json(&t, json_object_get(r, "run_id"));
        table_text(&t, *text_of(r, "state") ? text_of(r, "state") : "(forgotten)");
    }
    return table_close(&t, stdout);
}

static int print_schedule(const struct ctl *ctl, const json_t *s)
{
    struct table t;
    char time[UTC_BYTES];
    size_t i;
    const json_t *ms, *ticks = json_object_get(s, "next_ms");
    table_open(&t, heads);
    row(&t, s);
    int rv = table_close(&t, stdout);
    putchar('\n');
    if (json_array_size(ticks)) {
        table_open(&t, "NEXT TICKS");
        json_array_foreach(ticks, i, ms) table_text(&t, utc_of(time, ms));
        rv = table_close(&t, stdout) ? -1 : rv;
        putchar('\n');
    }
    if (json_array_size(json_object_get(s, "runs"))) {
        rv = print_runs(json_object_get(s, "runs")) ? -1 : rv;
        putchar('\n');
    }
    printf("overlap: %s\ncatch up: %lld ms\n", text_of(s, "overlap"),
           (long long)number_of(s, "catch_up_ms"));
    print_text(stdout, "preferred zone", text_of(s, "zone"));
    print_value("params", json_object_get(s, "params"));
    if (*text_of(s, "error")) {
        printf("refused at %s: ", utc_of(time, json_object_get(s, "error_ms")));
        print_clean(stdout, text_of(s, "error"), true);
        putchar('\n');
    }
    return ctl_out(ctl, rv);
}

static int show(struct ctl *ctl)
{
    json_t *a;
    int rv = ctl_ask(ctl, (struct po_query){.what = PO_QUERY_SCHEDULE, .name = ctl->arg}, NULL, &a);
    if (rv)
        return rv;
    rv = ctl_json(ctl) ? ctl_print_json(a) : print_schedule(ctl, a);
    json_decref(a);
    return rv;
}

const struct verb schedule_verbs[] = {
    {"schedule define", "NAME",
     "pipeline cron time_zone params params_file zone overlap catch_up paused",
     "Run a pipeline by itself, at the times that a cron expression names in the local time of a "
     "time zone; or replace the schedule of that name. Each tick starts exactly one run; while no "
     "such pipeline is defined, ticks are refused and counted. A tick of "
     "certain hours that the clocks skip fires at their jump, one that they show twice the first "
     "time; a schedule of all hours goes by the time that really passes.",
     define},
    {"schedule list", NULL, "stale",
     "Show all schedules with their next and last ticks (UTC) and what became of their ticks: "
     "fired, skipped because a run was still under way, too late to be caught up, refused because "
     "no run could be started.",
     list},
    {"schedule show", "NAME", "stale",
     "Show one schedule with its next five ticks (UTC) and its latest runs.", show},
    {"schedule pause", "NAME", "", "No ticks from now on.", pause_it},
    {"schedule resume", "NAME", "",
     "Ticks again, from now on; those of the pause are not made up for.", resume},
    {"schedule delete", "NAME", "", "Delete a schedule. Runs that it started go on.", delete_it},
    {NULL},
};
