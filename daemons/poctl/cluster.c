/* status, capabilities, route */
#include <string.h>

#include "ctl.h"
#include "table.h"

static void print_members(const json_t *status, struct table *t)
{
    size_t i;
    const json_t *m;
    json_array_foreach(json_object_get(status, "members"), i, m)
    {
        table_text(t, text_of(m, "name"));
        table_text(t, text_of(m, "zone"));
        table_text(t, json_is_true(json_object_get(m, "leader")) ? "leader" : text_of(m, "role"));
        table_json(t, json_object_get(m, "up")); /* yes, no, or not known */
        table_text(t, text_of(m, "address"));
        table_text(t, text_of(m, "worker_address"));
    }
}

static int status(struct ctl *ctl)
{
    json_t *a;
    int rv = ctl_ask(ctl, (struct po_query){.what = PO_QUERY_STATUS}, NULL, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
    } else {
        struct table t;
        const char *leader = text_of(a, "leader");
        printf("cluster   %.12s, term %lld, index %lld, leader %s\n", text_of(a, "cluster_id"),
               (long long)number_of(a, "term"), (long long)number_of(a, "index"),
               *leader ? leader : "-");
        if (ctl->replay)
            printf("state     of %s; the log reaches from %lld to %lld\n", text_of(a, "node"),
                   (long long)number_of(a, "first_index"), (long long)number_of(a, "last_index"));
        if (ctl->s->stale)
            printf("state     at most %lld ms old, as %s has it\n",
                   (long long)number_of(a, "staleness_ms"), text_of(a, "node"));
        printf("workers   %lld, %lld online\n", (long long)number_of(a, "workers"),
               (long long)number_of(a, "workers_online"));
        printf("tasks     %lld pending, %lld scheduled, %lld running, %lld finished\n",
               (long long)number_of(a, "tasks_pending"), (long long)number_of(a, "tasks_scheduled"),
               (long long)number_of(a, "tasks_running"), (long long)number_of(a, "tasks_finished"));
        printf("pipelines %lld; runs: %lld running, %lld finished\n\n",
               (long long)number_of(a, "pipelines"), (long long)number_of(a, "runs_running"),
               (long long)number_of(a, "runs_finished"));
        table_open(&t, "NODE|ZONE|ROLE|UP|ADDRESS|WORKER ADDRESS");
        print_members(a, &t);
        rv = ctl_out(ctl, table_close(&t, stdout));
    }
    json_decref(a);
    return rv;
}

static void capability_row(struct table *t, const json_t *c)
{
    table_text(t, text_of(c, "name"));
    table_json(t, json_object_get(c, "versions"));
    table_json(t, json_object_get(c, "workers"));
    table_json(t, json_object_get(c, "workers_online"));
    table_json(t, json_object_get(c, "slots"));
    table_json(t, json_object_get(c, "free_slots"));
    table_json(t, json_object_get(c, "running"));
    table_json(t, json_object_get(c, "pending"));
    table_json(t, json_object_get(c, "requires_gpu"));
}

static int capabilities(struct ctl *ctl)
{
    return ctl_list(ctl, (struct po_query){.what = PO_QUERY_CAPABILITIES}, "capabilities",
                    "CAPABILITY|VERSIONS|WORKERS|ONLINE|SLOTS|FREE|RUNNING|PENDING|GPU",
                    capability_row);
}

static int route(struct ctl *ctl)
{
    json_t *a;
    struct po_query q = {.what = PO_QUERY_ROUTE, .name = ctl->arg, .name2 = ctl->s->zone};
    int rv = ctl_ask(ctl, q, NULL, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
    } else {
        struct table t;
        table_open(&t, "WORKER|ZONE|ADDRESS|VERSION|RUNNING|FREE");
        table_text(&t, text_of(a, "worker_id"));
        table_text(&t, text_of(a, "zone"));
        table_text(&t, text_of(a, "address"));
        table_text(&t, text_of(a, "version"));
        table_json(&t, json_object_get(a, "running"));
        table_json(&t, json_object_get(a, "free_slots"));
        rv = ctl_out(ctl, table_close(&t, stdout));
        if (*text_of(a, "why"))
            printf("\n%s\n", text_of(a, "why"));
    }
    json_decref(a);
    return rv;
}

const struct verb cluster_verbs[] = {
    {"status", NULL, "stale",
     "Show the cluster: leader, members with their addresses, and how many workers, tasks and runs "
     "it has.",
     status},
    {"capabilities", NULL, "stale",
     "Show what can be executed: versions, workers that offer it, slots, and tasks that run or "
     "wait "
     "for it. One with pending tasks and no online worker waits for a worker to register it.",
     capabilities},
    {"route", "CAPABILITY", "zone stale",
     "Show which worker a task for CAPABILITY (verb:name, or verb:name@RANGE with a range of "
     "versions) would go to now, and how the choice falls: the one with the fewest tasks; among "
     "equals one in --zone. Nothing is reserved.",
     route},
    {NULL},
};
