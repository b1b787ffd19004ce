/* Nodes that join while the cluster runs, as po-controld --join does: a directory draws its own id
 * and keeps it, asks whoever leads for a node id, again and again, and starts when it has one. The
 * rest is the leader's: it makes the newcomer a standby and then a voter by itself. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define JOIN_MS      2000 /* timeout of one request */
#define AGAIN_MIN_US 50000
#define AGAIN_MAX_US 600000

static void ask_later(struct po__simnode *n)
{
    struct po__world *w = n->world;
    po__world_at(w, w->now_us + po__world_random(w, AGAIN_MIN_US, AGAIN_MAX_US), PO__EV_JOIN,
                 n->place, 0, 0, NULL);
}

static void close_store(struct po__simnode *n)
{
    if (n->store)
        po__store_close(n->store);
    n->store = NULL;
    n->disk = NULL;
    po__disk_sim_power_on(n->medium, po__world_random(n->world, 1, UINT32_MAX));
}

void po__joiner_init(struct po__simnode *n)
{
    struct po__identity id = {.node_id = 0};
    char error[256] = "";
    snprintf(id.name, sizeof id.name, "%s", n->name);
    id.directory_id[0] = (uint8_t)(n->place + 1);
    int rv = po__control_store(n, error, sizeof error);
    rv = rv ? rv : po__store_join_begin(n->store, &id);
    if (rv)
        po__world_fail(n->world, "%s cannot prepare to join: %s %s", n->name, po_err_name(rv),
                       error);
    close_store(n);
}

/* The cluster gave it an id: its directory is a member's from now on. */
static void settle(struct po__simnode *n, uint64_t id, struct po__slice cluster_id)
{
    struct po__world *w = n->world;
    struct po__identity identity = {0};
    char error[256] = "";
    int rv = po__control_store(n, error, sizeof error);
    if (rv == 0 && !po__store_joining(n->store, &identity))
        rv = PO_ESTATE;
    if (rv == 0) {
        identity.node_id = id;
        memcpy(identity.cluster_id, cluster_id.data, sizeof identity.cluster_id);
        rv = po__store_bootstrap(n->store, &identity, 1, NULL);
    }
    if (rv)
        po__world_fail(w, "%s was given id %llu and cannot keep it: %s %s", n->name,
                       (unsigned long long)id, po_err_name(rv), error);
    close_store(n);
    if (po__place_of(w, id) >= 0)
        po__world_fail(w, "%s was given id %llu, which is another's", n->name,
                       (unsigned long long)id);
    n->id = id;
    po__world_trace(w, "joins under id %llu", n->name, id);
    po__control_start(n);
}

static void answered(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                     size_t len)
{
    struct po__simnode *n = &w->nodes[c->who];
    struct po__response r = {0};
    struct po__mpr mr;
    if (n->id)
        return; /* an earlier try was answered late */
    code = code ? code : po__response_decode(resp, len, &r);
    code = code ? code : r.code;
    if (code) {
        ask_later(n);
        return;
    }
    po__mpr_init(&mr, r.body.data, r.body.len);
    uint64_t id = po__mpr_uint(&mr, UINT64_MAX);
    struct po__slice cluster_id = po__mpr_bin(&mr, PO__CLUSTER_ID_BYTES);
    if (mr.err || id == 0 || cluster_id.len != PO__CLUSTER_ID_BYTES)
        po__world_fail(w, "%s cannot read the answer to its wish to join", n->name);
    else
        settle(n, id, cluster_id);
}

void po__joiner_event(struct po__simnode *n)
{
    struct po__world *w = n->world;
    struct po__buf b;
    const uint8_t directory_id[PO__DIRECTORY_ID_BYTES] = {(uint8_t)(n->place + 1)};
    const struct po__member_request m = {.op = PO__MEMBER_JOIN,
                                         .name = po__str(n->name),
                                         .zone = po__str(n->zone),
                                         .address = po__str(n->address),
                                         .directory_id =
                                             po__slice(directory_id, sizeof directory_id),
                                         .feature_level = n->level,
                                         .wish = PO__WISH_VOTER};
    if (n->id)
        return;
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_member(&b, JOIN_MS, &m);
    PO_INVARIANT(b.err == 0);
    unsigned asked; /* any member, joined or founding: sooner or later the leader */
    do
        asked = (unsigned)po__world_random(w, 0, w->nodes_count - 1);
    while (w->nodes[asked].id == 0);
    struct po__simcall *c = po__simcall_make(w, n->place, asked, b.data, b.len, JOIN_MS, answered);
    c->who = n->place;
    po__simcall_send(c);
    po__buf_fini(&b);
}

bool po__joiners_vote(struct po__world *w)
{
    struct po__simnode *leader = po__world_leader(w);
    struct po__server servers[PO_MEMBERS_MAX];
    unsigned count =
        leader ? po__replica_servers(leader->core->replica, servers, PO_MEMBERS_MAX) : 0;
    w->stats.grown = 0;
    for (unsigned i = w->opts.voters; i < w->nodes_count; i++)
        for (unsigned k = 0; k < count; k++)
            w->stats.grown += servers[k].id == w->nodes[i].id && servers[k].role == PO__VOTER;
    return w->stats.grown == w->opts.joiners;
}
