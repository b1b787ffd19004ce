/* A node with an empty directory becomes a member of a cluster that runs.
 *
 *   empty ──▶ `join` file: directory id ──▶ the leader answers node id and cluster id ──▶ identity
 *
 * Each arrow is durable before the next begins, and each may be cut by a crash: the next start
 * finds the directory id and asks again, and the leader recognises it (node/membership.c). Only the
 * identity makes the directory a node's, and it is written in one piece. */
#include "join.h"

#include <pipeorch/client.h>
#include <stdio.h>
#include <sys/random.h>

#include "../model/command.h"
#include "../node/node.h"
#include "call.h"

static int prepare(struct po__identity *id, struct po__store *store,
                   const struct po_node_opts *opts, char *error, size_t error_len)
{
    if (po__store_joining(store, id)) {
        if (strcmp(id->name, opts->name) == 0)
            return 0;
        snprintf(error, error_len,
                 "data_dir %s began to join as node %s, not as %s; use that name, or another "
                 "directory",
                 opts->data_dir, id->name, opts->name);
        return PO_EIDENTITY;
    }
    *id = (struct po__identity){0};
    snprintf(id->name, sizeof id->name, "%s", opts->name);
    int rv =
        getrandom(id->directory_id, sizeof id->directory_id, 0) == (ssize_t)sizeof id->directory_id
            ? po__store_join_begin(store, id)
            : PO_EIO;
    if (rv)
        snprintf(error, error_len, "data_dir %s cannot be prepared to join: %s", opts->data_dir,
                 po_strerror(rv));
    return rv;
}

/* Ask whoever leads for a node id. */
static int ask(struct po__identity *id, const struct po_node_opts *opts, const char *advertise,
               char *error, size_t error_len)
{
    const struct po__member_request m = {
        .op = PO__MEMBER_JOIN,
        .name = po__str(opts->name),
        .zone = po__str(opts->zone),
        .address = po__str(advertise),
        .directory_id = po__slice(id->directory_id, sizeof id->directory_id),
        .feature_level = PO__FEATURE_LEVEL,
        .wish = opts->join_standby ? PO__WISH_STANDBY : PO__WISH_VOTER};
    const struct po_client_opts co = {.size = sizeof co, .name = opts->name, .log = opts->log};
    const struct po_call_opts limit = {.size = sizeof limit, .timeout_ms = PO__JOIN_MS};
    struct po__call call;
    struct po__outcome out;
    po_client *client;
    int rv = po_client_open(&client, opts->join, &co);
    if (rv) {
        snprintf(error, error_len, "join: %s", po_client_error());
        return rv;
    }
    rv = po__call_member(&call, &m, &limit);
    rv = rv ? rv : po__call_wait(client, &call, &out);
    if (rv) {
        snprintf(error, error_len, "cannot join the cluster at %s: %s", opts->join,
                 po_client_error());
    } else if (out.len != PO__CLUSTER_ID_BYTES || out.id == 0) {
        rv = PO_EPROTO;
        snprintf(error, error_len, "cannot join the cluster at %s: its answer is malformed",
                 opts->join);
        po__outcome_fini(&out);
    } else {
        id->node_id = out.id;
        memcpy(id->cluster_id, out.data, sizeof id->cluster_id);
        po__outcome_fini(&out);
    }
    po_client_close(client);
    return rv;
}

int po__join(struct po__identity *id, struct po__store *store, const struct po_node_opts *opts,
             const char *advertise, char *error, size_t error_len)
{
    if (!*advertise) {
        snprintf(error, error_len,
                 "join needs listen: the members must be able to reach the new node");
        return PO_EINVAL;
    }
    int rv = prepare(id, store, opts, error, error_len);
    rv = rv ? rv : ask(id, opts, advertise, error, error_len);
    if (rv)
        return rv;
    rv = po__store_bootstrap(store, id, 1, NULL);
    if (rv)
        snprintf(error, error_len,
                 "data_dir %s: the identity (node id %llu) cannot be written: %s; start again",
                 opts->data_dir, (unsigned long long)id->node_id, po_strerror(rv));
    return rv;
}
