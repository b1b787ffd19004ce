/* worker list, drain, resume, remove; workers */
#include <string.h>

#include "ctl.h"
#include "table.h"

/* "12.34" for 1234; "-" for null. */
static void centi(struct table *t, const json_t *value)
{
    char text[32];
    long long n = json_integer_value(value);
    snprintf(text, sizeof text, "%lld.%02lld", n / 100, n % 100);
    table_text(t, json_is_integer(value) ? text : NULL);
}

static void milliseconds(struct table *t, const json_t *us)
{
    char text[32];
    long long n = json_integer_value(us);
    snprintf(text, sizeof text, "%lld.%03lld", n / 1000, n % 1000);
    table_text(t, json_is_integer(us) ? text : NULL);
}

/* Tasks that may run at once: the sum over what is offered, or the worker's own limit. */
static json_int_t slots_of(const json_t *worker)
{
    const json_t *c, *limit = json_object_get(worker, "slots");
    json_int_t slots = 0;
    size_t i;
    json_array_foreach(json_object_get(worker, "capabilities"), i, c)
    {
        slots += number_of(c, "max_concurrency");
    }
    return json_is_integer(limit) && json_integer_value(limit) < slots ? json_integer_value(limit)
                                                                       : slots;
}

static void print_worker(struct table *t, const json_t *w)
{
    const json_t *c;
    json_t *names = json_array();
    size_t i;
    json_array_foreach(json_object_get(w, "capabilities"), i, c)
    {
        json_array_append(names, json_object_get(c, "name"));
    }
    table_text(t, text_of(w, "id"));
    table_text(t, text_of(w, "status"));
    table_text(t, text_of(w, "zone"));
    table_number(t, number_of(w, "running"));
    table_number(t, slots_of(w));
    centi(t, json_object_get(json_object_get(w, "load"), "cpu_load_centi"));
    milliseconds(t, json_object_get(w, "rtt_us"));
    table_text(t, text_of(w, "address"));
    table_json(t, names);
    json_decref(names);
}

static int list(struct ctl *ctl)
{
    return ctl_list(ctl, (struct po_query){.what = PO_QUERY_WORKERS}, "workers",
                    "WORKER|STATUS|ZONE|RUNNING|SLOTS|LOAD|RTT MS|ADDRESS|CAPABILITIES",
                    print_worker);
}

static int done(const struct ctl *ctl, int rv, const char *what)
{
    if (rv)
        return ctl_fail(ctl, rv);
    if (!ctl_json(ctl)) {
        printf("worker %s %s\n", ctl->arg, what);
        return ctl_out(ctl, 0);
    }
    json_t *out = json_pack("{s:s}", "id", ctl->arg);
    rv = out ? ctl_print_json(out) : EXIT_REFUSED;
    json_decref(out);
    return rv;
}

static int drain(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    return done(ctl, po_update_worker_status(ctl->client, ctl->arg, PO_WORKER_DRAINING, &opts),
                "drains: it finishes what it runs and gets nothing new");
}

static int resume(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    return done(ctl, po_update_worker_status(ctl->client, ctl->arg, PO_WORKER_ONLINE, &opts),
                "is online");
}

static int remove_worker(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    return done(ctl, po_deregister_worker(ctl->client, ctl->arg, 0, &opts), "is removed");
}

static const char list_help[] =
    "Show all workers: status, zone, tasks that run, slots (tasks that may run at once), the load "
    "average of their machines, the round trip of their messages in milliseconds, and what they "
    "offer.";

const struct verb worker_verbs[] = {
    {"workers", NULL, "stale", list_help, list},
    {"worker list", NULL, "stale", list_help, list},
    {"worker drain", "ID", "",
     "Let a worker finish what it runs and give it nothing new, until it is resumed or its process "
     "is started anew.",
     drain},
    {"worker resume", "ID", "", "Give a worker that drains new tasks again.", resume},
    {"worker remove", "ID", "",
     "Forget a worker; what it runs is given to others. This is for workers that will not come "
     "back: one whose process runs registers anew by itself, so stop that instead.",
     remove_worker},
    {NULL},
};
