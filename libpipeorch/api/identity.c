/* The founding members bootstrap independently, each from the same options, and must come to the
 * same cluster: the cluster id is a hash of the cluster's name and its members, node ids are the
 * members' ranks by name, and the first log record is the same configuration everywhere. The
 * directory id is random: it tells a directory from another one made for the same node id. */
#include "identity.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "../base/alloc.h"
#include "../consensus/replica.h"
#include "join.h"
#include "../model/command.h"

#define CLUSTER_DEFAULT "pipeorch"

struct founding {
    struct po_member members[PO_MEMBERS_MAX]; /* sorted by name */
    unsigned count;
    unsigned self; /* rank of this node */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct po_member *)a)->name, ((const struct po_member *)b)->name);
}

static int check_member(const struct founding *f, unsigned i, char *error, size_t error_len)
{
    const struct po_member *m = &f->members[i];
    if (!m->name || !po__name_ok(po__str(m->name))) {
        snprintf(error, error_len,
                 "members: \"%s\" is not a node name; use 1 to %d of A-Z a-z 0-9 . _ -",
                 m->name ? m->name : "(null)", PO_NAME_MAX_BYTES);
        return PO_EINVAL;
    }
    for (unsigned j = 0; j < i; j++) {
        if (strcmp(f->members[j].name, m->name) == 0) {
            snprintf(error, error_len,
                     "members: the name %s is given twice; names are unique in a cluster", m->name);
            return PO_EINVAL;
        }
        if (f->count > 1 && m->address && f->members[j].address &&
            strcmp(f->members[j].address, m->address) == 0) {
            snprintf(error, error_len, "members: %s and %s have the same address %s",
                     f->members[j].name, m->name, m->address);
            return PO_EINVAL;
        }
    }
    if (f->count > 1 &&
        (!m->address || !*m->address || strlen(m->address) > PO_ADDRESS_MAX_BYTES)) {
        snprintf(error, error_len, "members: %s needs an address \"host:port\" of at most %d bytes",
                 m->name, PO_ADDRESS_MAX_BYTES);
        return PO_EINVAL;
    }
    return 0;
}

static int collect(struct founding *f, const struct po_node_opts *opts, const char *advertise,
                   char *error, size_t error_len)
{
    *f = (struct founding){0};
    if (opts->members_count > PO_MEMBERS_MAX) {
        snprintf(error, error_len, "members: %zu given, a cluster has at most %d control nodes",
                 opts->members_count, PO_MEMBERS_MAX);
        return PO_EINVAL;
    }
    if (opts->members_count == 0) {
        f->members[0] = (struct po_member){opts->name, advertise};
        f->count = 1;
        return 0;
    }
    f->count = (unsigned)opts->members_count;
    memcpy(f->members, opts->members, f->count * sizeof *f->members);
    for (unsigned i = 0; i < f->count; i++) {
        int rv = check_member(f, i, error, error_len);
        if (rv)
            return rv;
    }
    if (f->count == 1 && !f->members[0].address) /* optional for a node alone */
        f->members[0].address = advertise;
    qsort(f->members, f->count, sizeof *f->members, by_name);
    for (f->self = 0; f->self < f->count; f->self++)
        if (strcmp(f->members[f->self].name, opts->name) == 0)
            break;
    if (f->self == f->count) {
        snprintf(error, error_len,
                 "members: this node's name %s is not among them; the founding members include the "
                 "node itself",
                 opts->name);
        return PO_EINVAL;
    }
    if (f->count > 1 && strcmp(f->members[f->self].address, advertise) != 0) {
        snprintf(error, error_len,
                 "members: %s has the address %s there, but the node advertises %s; they must be "
                 "the same",
                 opts->name, f->members[f->self].address,
                 *advertise ? advertise : "nothing (listen is not set)");
        return PO_EINVAL;
    }
    return 0;
}

/* First 16 bytes of SHA-256 over the cluster's name and the sorted members, each string with its
 * final NUL. */
static int cluster_id(uint8_t id[PO__CLUSTER_ID_BYTES], const struct founding *f,
                      const char *cluster)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    int ok = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx)
        return PO_ENOMEM;
    ok = EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
         EVP_DigestUpdate(ctx, cluster, strlen(cluster) + 1);
    for (unsigned i = 0; ok && i < f->count; i++)
        ok = EVP_DigestUpdate(ctx, f->members[i].name, strlen(f->members[i].name) + 1) &&
             EVP_DigestUpdate(ctx, f->members[i].address, strlen(f->members[i].address) + 1);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return PO_ENOMEM;
    memcpy(id, digest, PO__CLUSTER_ID_BYTES);
    return 0;
}

static int bootstrap(struct po__identity *id, struct po__store *store, const struct founding *f,
                     const struct po_node_opts *opts)
{
    struct po__server servers[PO_MEMBERS_MAX];
    struct po__rec *first;
    if (getrandom(id->directory_id, sizeof id->directory_id, 0) != (ssize_t)sizeof id->directory_id)
        return PO_EIO;
    id->node_id = f->self + 1;
    snprintf(id->name, sizeof id->name, "%s", opts->name);
    for (unsigned i = 0; i < f->count;
         i++) /* a lone node without peers has no address: its name stands for it */
        servers[i] = (struct po__server){
            i + 1, *f->members[i].address ? f->members[i].address : f->members[i].name, PO__VOTER};
    int rv = po__replica_bootstrap_record(&first, servers, f->count);
    if (rv)
        return rv;
    rv = po__store_bootstrap(store, id, 1, first);
    po__free(first);
    return rv;
}

int po__identity_settle(struct po__identity *id, struct po__store *store,
                        const struct po_node_opts *opts, const char *advertise, char *error,
                        size_t error_len)
{
    struct founding f;
    const char *cluster = opts->cluster ? opts->cluster : CLUSTER_DEFAULT;
    struct po__identity joining;
    int known = po__store_identity(store, id);
    if (!known && opts->join)
        return po__join(id, store, opts, advertise, error, error_len);
    if (!known && po__store_joining(store, &joining)) {
        snprintf(error, error_len,
                 "data_dir %s began to join a cluster as node %s and did not get to the end: start "
                 "with join to go on, or empty the directory",
                 opts->data_dir, joining.name);
        return PO_EIDENTITY;
    }
    if (!known && !opts->bootstrap) {
        snprintf(error, error_len,
                 "data_dir %s is empty: set bootstrap the first time a founding member starts, or "
                 "join to become a member of a cluster that runs (is it the right directory?)",
                 opts->data_dir);
        return PO_ENOTBOOTSTRAPPED;
    }
    int rv = collect(&f, opts, advertise, error, error_len);
    uint8_t wanted[PO__CLUSTER_ID_BYTES];
    if (rv == 0)
        rv = cluster_id(wanted, &f, cluster);
    if (rv)
        return rv;
    if (!known) {
        memset(id, 0, sizeof *id);
        memcpy(id->cluster_id, wanted, sizeof wanted);
        rv = bootstrap(id, store, &f, opts);
        if (rv)
            snprintf(error, error_len, "data_dir %s cannot be bootstrapped: %s", opts->data_dir,
                     po_strerror(rv));
        return rv;
    }
    if (strcmp(id->name, opts->name) != 0) {
        snprintf(error, error_len,
                 "data_dir %s belongs to node %s, not to %s; give each node its own directory",
                 opts->data_dir, id->name, opts->name);
        return PO_EIDENTITY;
    }
    bool says_which = opts->members_count || opts->bootstrap;
    if (says_which && memcmp(id->cluster_id, wanted, sizeof wanted) != 0) {
        snprintf(error, error_len,
                 "data_dir %s belongs to another cluster than \"%s\" with these members (or with "
                 "other addresses); "
                 "correct the options or use another directory; one that was restored or recovered "
                 "is started without bootstrap and members",
                 opts->data_dir, cluster);
        return PO_EIDENTITY;
    }
    return 0;
}
