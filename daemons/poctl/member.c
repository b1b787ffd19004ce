/* member list, add, promote, demote, remove, transfer */
#include <pipeorch/member.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "table.h"

static int fetch(struct ctl *ctl, json_t **answer)
{
    return ctl_ask(ctl, (struct po_query){.what = PO_QUERY_MEMBERS}, NULL, answer);
}

static void print_table(const json_t *answer, struct table *t)
{
    size_t i;
    const json_t *m;
    table_open(t, "ID|NODE|ZONE|ROLE|UP|LAG|ADDRESS|WORKER ADDRESS|NOTE");
    json_array_foreach(json_object_get(answer, "members"), i, m)
    {
        table_number(t, number_of(m, "id"));
        table_text(t, text_of(m, "name"));
        table_text(t, text_of(m, "zone"));
        table_text(t, json_is_true(json_object_get(m, "leader")) ? "leader" : text_of(m, "role"));
        table_text(t, json_is_true(json_object_get(m, "up")) ? "yes" : "no");
        table_number(t, number_of(m, "lag"));
        table_text(t, text_of(m, "address"));
        table_text(t, text_of(m, "worker_address"));
        table_text(t, text_of(m, "note"));
    }
}

static int list(struct ctl *ctl)
{
    json_t *a;
    struct table t;
    int rv = fetch(ctl, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
    } else {
        print_table(a, &t);
        rv = ctl_out(ctl, table_close(&t, stdout));
    }
    json_decref(a);
    return rv;
}

/* The id of the node that the argument names, or is. An id that no member has is taken as it is:
 * what is to be done with it is idempotent, and the leader knows. */
static int node_id(struct ctl *ctl, uint64_t *id)
{
    json_t *a;
    const json_t *m;
    size_t i;
    char *end;
    *id = 0;
    int rv = fetch(ctl, &a);
    if (rv)
        return rv;
    json_array_foreach(json_object_get(a, "members"), i, m)
    {
        if (strcmp(text_of(m, "name"), ctl->arg) == 0)
            *id = (uint64_t)number_of(m, "id");
    }
    json_decref(a);
    if (!*id && strspn(ctl->arg, "0123456789") == strlen(ctl->arg))
        *id = strtoull(ctl->arg, &end, 10);
    if (*id)
        return EXIT_DONE;
    fprintf(stderr,
            "poctl %s: no member is named %s; poctl member list shows their names and ids\n",
            ctl->verb->words, ctl->arg);
    return EXIT_REFUSED;
}

static int done(struct ctl *ctl, uint64_t id, const char *what)
{
    if (!ctl_json(ctl)) {
        printf("node %llu %s\n", (unsigned long long)id, what);
        return ctl_out(ctl, 0);
    }
    json_t *out = json_pack("{s:I}", "id", (json_int_t)id);
    int rv = out ? ctl_print_json(out) : EXIT_REFUSED;
    json_decref(out);
    return rv;
}

static int add(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id = 0;
    int rv = po_member_add(ctl->client, ctl->arg, &opts, &id);
    return rv ? ctl_fail(ctl, rv) : done(ctl, id, "is expected; start it there with --join");
}

static int with_id(struct ctl *ctl,
                   int (*call)(po_client *client, uint64_t id, const struct po_call_opts *opts),
                   const char *what)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id;
    int rv = node_id(ctl, &id);
    if (rv)
        return rv;
    rv = call(ctl->client, id, &opts);
    return rv ? ctl_fail(ctl, rv) : done(ctl, id, what);
}

static int promote(struct ctl *ctl)
{
    return with_id(ctl, po_member_promote, "is a voter");
}

static int demote(struct ctl *ctl)
{
    return with_id(ctl, po_member_demote, "is a standby");
}

static int remove_node(struct ctl *ctl)
{
    return with_id(ctl, po_member_remove, "is no member any more");
}

static int transfer(struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id = 0, leader = 0;
    int rv = ctl->arg ? node_id(ctl, &id) : EXIT_DONE;
    if (rv)
        return rv;
    rv = po_member_transfer(ctl->client, id, &opts, &leader);
    return rv ? ctl_fail(ctl, rv) : done(ctl, leader, "leads");
}

const struct verb member_verbs[] = {
    {"member list", NULL, "",
     "Show the control nodes: role, zone, whether the leader is connected with them, how many log "
     "entries they lack, and what keeps them from becoming what they are to be.",
     list},
    {"member add", "HOST:PORT", "",
     "Make a place for a node that advertises this peer address, and print its id. Start the node "
     "with --join then. Nodes that join make their own place if there is none.",
     add},
    {"member promote", "NAME|ID", "",
     "Make a standby a voter and wait until it is one. Nodes that join become voters by "
     "themselves when they have caught up; this is for those that were demoted or joined as "
     "standby, and for the second voter of a cluster of one, which by itself grows to three.",
     promote},
    {"member demote", "NAME|ID", "",
     "Make a voter a standby, which stays one until it is promoted. A leader hands over first. "
     "Refused if one voter would be left.",
     demote},
    {"member remove", "NAME|ID", "",
     "Remove a node for good, whether it runs or not. It is told and stops; its data folder is of "
     "no use any more. A leader hands over first. Refused if one voter would be left.",
     remove_node},
    {"member transfer", "NAME|ID", "",
     "Hand leadership to this voter, or without an argument to the fittest other one. No call "
     "fails meanwhile.",
     transfer, .optional = true},
    {NULL},
};
