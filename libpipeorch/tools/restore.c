/* A new cluster from a backup.
 *
 * Each of its members restores the same file into a directory of its own, with the same list of
 * members. All then hold the same snapshot, at the same index and term, with a configuration that
 * makes all of them voters, and an empty log: exactly what they would hold had the cluster just
 * replicated that snapshot to everybody. Any of them may be elected. Restoring only one and letting
 * the others found the cluster with empty directories would not be sound: two empty ones are a
 * majority of three, and could elect each other and agree on having nothing.
 *
 * The new cluster has a new id, so no node of the old one can mix with it. The first restore draws
 * it: 8 random bytes, and 8 bytes of a hash over those, the file's digest and the members. The
 * others are told it, and the hash refuses them if they come with another file or another list;
 * without it they would be nodes of another cluster, which their peers refuse. A name or address
 * alone must not do: whoever restores twice would get two histories under one id.
 *
 * The index goes on STEP further than the backup's. Fencing tokens are never below the index of the
 * entry that grants them, so no token of the old cluster after the backup is given again, unless it
 * granted more than STEP leases since.
 *
 * Everything appears in the directory in one step (disk_overlay.h). */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../model/command.h"
#include "backup.h"
#include "directory.h"
#include "out.h"
#include "tools.h"

#define STEP         UINT64_C(1000000000000)
#define RANDOM_BYTES 8
#define TMP_NAME     "tmp-restore"

struct restore {
    const struct po__tool_restore *o;
    struct po__content content;
    struct po__backup_info info;
    struct po__identity identity;
    struct po__conf conf;
    struct po__snapshot_meta meta;
    struct po_member members[PO_MEMBERS_MAX]; /* sorted by name */
    unsigned count;
    struct po__overlay *overlay;
    char *error;
    size_t error_len;
};

static int refuse(struct restore *r, int code, const char *what, const char *value)
{
    snprintf(r->error, r->error_len, "%s%s", what, value);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct po_member *)a)->name, ((const struct po_member *)b)->name);
}

/* Node ids are the ranks by name, as when a cluster is founded. A lone node needs no address. */
static int settle_members(struct restore *r)
{
    const struct po__tool_restore *o = r->o;
    r->count = (unsigned)o->members_count;
    if (!o->name || !po__name_ok(po__str(o->name)))
        return refuse(r, PO_EINVAL, "name is required: 1 to 128 of A-Z a-z 0-9 . _ -", "");
    if (o->members_count > PO_MEMBERS_MAX)
        return refuse(r, PO_EINVAL, "members: a cluster has at most 7 control nodes", "");
    if (r->count)
        memcpy(r->members, o->members, r->count * sizeof *r->members);
    else
        r->members[r->count++] = (struct po_member){o->name, o->name};
    for (unsigned i = 0; i < r->count; i++)
        if (!r->members[i].name || !po__name_ok(po__str(r->members[i].name)))
            return refuse(r, PO_EINVAL, "members: not a node name: ",
                          r->members[i].name ? r->members[i].name : "(null)");
    qsort(r->members, r->count, sizeof *r->members, by_name);
    for (unsigned i = 0; i < r->count; i++) {
        const struct po_member *m = &r->members[i];
        const char *address = m->address && *m->address ? m->address : r->count == 1 ? m->name : "";
        if (i && !strcmp(m->name, r->members[i - 1].name))
            return refuse(r, PO_EINVAL, "members: given twice: ", m->name);
        if (!strcmp(m->name, o->name))
            r->identity.node_id = i + 1;
        if (po__conf_add(&r->conf, i + 1, address, PO__VOTER))
            return refuse(r, PO_EINVAL, "members: no address of its own \"host:port\": ", m->name);
    }
    if (!r->identity.node_id)
        return refuse(r, PO_EINVAL, "members: this node is not among them: ", o->name);
    snprintf(r->identity.name, sizeof r->identity.name, "%s", o->name);
    return 0;
}

/* The second half of the cluster id, from the first. */
static int bind_cluster_id(const struct restore *r, const uint8_t *random, uint8_t *half)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
             EVP_DigestUpdate(ctx, "pipeorch restore", 17) &&
             EVP_DigestUpdate(ctx, random, RANDOM_BYTES) &&
             EVP_DigestUpdate(ctx, r->info.digest, sizeof r->info.digest);
    for (unsigned i = 0; ok && i < r->count; i++)
        ok = EVP_DigestUpdate(ctx, r->members[i].name, strlen(r->members[i].name) + 1) &&
             EVP_DigestUpdate(ctx, r->conf.servers[i].address,
                              strlen(r->conf.servers[i].address) + 1);
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    if (ok)
        memcpy(half, digest, PO__CLUSTER_ID_BYTES - RANDOM_BYTES);
    return ok ? 0 : PO_ENOMEM;
}

static bool parse_hex(uint8_t *out, size_t bytes, const char *hex)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned v = 0;
        for (int k = 0; k < 2; k++, hex++) {
            if (*hex >= '0' && *hex <= '9')
                v = v << 4 | (unsigned)(*hex - '0');
            else if (*hex >= 'a' && *hex <= 'f')
                v = v << 4 | (unsigned)(*hex - 'a' + 10);
            else
                return false;
        }
        out[i] = (uint8_t)v;
    }
    return *hex == '\0';
}

static int settle_cluster_id(struct restore *r)
{
    uint8_t *id = r->identity.cluster_id, half[PO__CLUSTER_ID_BYTES - RANDOM_BYTES];
    const char *given = r->o->cluster_id;
    if (given && !parse_hex(id, PO__CLUSTER_ID_BYTES, given))
        return refuse(r, PO_EINVAL,
                      "cluster id: 32 hexadecimal digits (0-9 a-f) are expected, not ", given);
    if (getrandom(r->identity.directory_id, PO__DIRECTORY_ID_BYTES, 0) != PO__DIRECTORY_ID_BYTES ||
        (!given && getrandom(id, RANDOM_BYTES, 0) != RANDOM_BYTES))
        return refuse(r, PO_EIO, "the system's random numbers cannot be read", "");
    if (bind_cluster_id(r, id, half))
        return refuse(r, PO_ENOMEM, "out of memory", "");
    if (given && memcmp(id + RANDOM_BYTES, half, sizeof half) != 0)
        return refuse(r, PO_EIDENTITY,
                      "cluster id: it belongs to another file or another list of members; restore "
                      "the same file with the same members on each of them, cluster id ",
                      given);
    memcpy(id + RANDOM_BYTES, half, sizeof half);
    return 0;
}

static int load(struct restore *r)
{
    int rv = po__backup_read(r->o->path, &r->info, po__content_feed, &r->content, r->error,
                             r->error_len);
    if (rv)
        return rv;
    rv = po__content_end(&r->content);
    if (rv)
        return refuse(r, rv, "the file is intact, but its content is no state: ", po_strerror(rv));
    if (r->info.snapshot.index > UINT64_MAX / 2)
        return refuse(r, PO_EQUOTA, "the index in the file is too high to go on from", "");
    po__model_forget_members(r->content.model);
    r->meta.index = r->info.snapshot.index + STEP;
    r->meta.term = r->info.snapshot.term;
    r->meta.conf_index = r->meta.index;
    r->meta.conf_len = (uint32_t)po__conf_encode(&r->conf, r->meta.conf);
    po__model_set_index(r->content.model, r->meta.index);
    return 0;
}

/* Nobody may have been here. */
static int check_empty(struct restore *r, const struct po__store *store)
{
    struct po__identity there;
    if (!po__store_identity(store, &there) && !po__store_joining(store, &there))
        return 0;
    snprintf(r->error, r->error_len,
             "%s holds the data of node %s already; restore into a new directory", r->o->data_dir,
             there.name);
    return PO_EEXISTS;
}

static int write_snapshot(struct restore *r)
{
    struct po__disk *base = po__overlay_base(r->overlay);
    int rv = po__content_begin(&r->content);
    if (rv)
        return refuse(r, rv, "serialising the state: ", po_strerror(rv));
    rv = po__snapshot_put(base, TMP_NAME, r->identity.cluster_id, &r->meta, po__content_read,
                          &r->content);
    return rv ? refuse(r, rv, "writing the snapshot: ",
                       base->last_error[0] ? base->last_error : po_strerror(rv))
              : 0;
}

/* Of an interrupted restore; before the store sees it and plans to remove it, too. */
static int remove_leftover(struct restore *r, struct po__disk *disk)
{
    struct po__disk *base = po__overlay_base(r->overlay);
    int rv = disk->ops->lock(disk, "lock");
    if (rv)
        return refuse(r, rv, disk->last_error, "");
    rv = base->ops->unlink(base, TMP_NAME);
    return rv == PO_ENOTFOUND || rv == 0 ? 0 : refuse(r, rv, base->last_error, "");
}

static int build(struct restore *r, struct po__disk *disk)
{
    struct po__store_opts opts = {.segment_bytes = PO__TOOL_SEGMENT_BYTES};
    struct po__store *store = NULL;
    char name[64];
    int rv = remove_leftover(r, disk);
    if (rv) {
        disk->ops->destroy(disk);
        return rv;
    }
    rv = po__store_open(&store, disk, &opts, r->error, r->error_len);
    if (rv)
        return rv;
    rv = check_empty(r, store);
    if (!rv)
        rv = write_snapshot(r);
    if (!rv) {
        rv = po__store_bootstrap(store, &r->identity, r->meta.term, NULL);
        if (!rv) {
            po__snap_name_of(name, &r->meta);
            rv = disk->ops->rename(disk, TMP_NAME, name);
        }
        if (rv)
            refuse(r, rv, "making the directory: ", disk->last_error);
    }
    po__store_close(store);
    return rv;
}

static int answer(struct restore *r, struct po__buf *json)
{
    struct po__buf b = {0};
    po__backup_describe(&b, r->o->path, &r->info, &r->content, 5);
    po__out_cstr(&b, "directory", r->o->data_dir);
    po__out_bin(&b, "new_cluster_id", r->identity.cluster_id, sizeof r->identity.cluster_id);
    po__out_uint(&b, "new_index", r->meta.index);
    po__out_uint(&b, "node_id", r->identity.node_id);
    po__mpw_cstr(&b, "new_members");
    po__mpw_array(&b, r->count);
    for (unsigned i = 0; i < r->count; i++) {
        po__mpw_map(&b, 3);
        po__out_uint(&b, "id", i + 1);
        po__out_cstr(&b, "name", r->members[i].name);
        po__out_cstr(&b, "address", r->conf.servers[i].address);
    }
    int rv = po__out_json(json, &b);
    return rv ? refuse(r, rv, "the answer: ", po_strerror(rv)) : 0;
}

int po__tool_restore_disk(const struct po__tool_restore *o, struct po__disk *disk,
                          struct po__buf *json, char *error, size_t error_len)
{
    struct restore *r = po__calloc(1, sizeof *r);
    int rv = PO_ENOMEM;
    snprintf(error, error_len, "out of memory");
    if (!r) {
        disk->ops->destroy(disk);
        return rv;
    }
    r->o = o;
    r->error = error;
    r->error_len = error_len;
    rv = po__content_init(&r->content, NULL);
    int taken = po__overlay_new(&r->overlay, disk);
    rv = rv ? rv : taken;
    rv = rv ? rv : settle_members(r);
    rv = rv ? rv : load(r);
    rv = rv ? rv : settle_cluster_id(r);
    rv = rv ? rv : build(r, po__overlay_attach(r->overlay));
    rv = rv ? rv : po__overlay_commit(r->overlay, error, error_len);
    rv = rv ? rv : answer(r, json);
    po__overlay_free(taken ? NULL : r->overlay);
    po__content_fini(&r->content);
    po__free(r);
    return rv;
}

int po__tool_restore(const struct po__tool_restore *o, struct po__buf *json, char *error,
                     size_t error_len)
{
    struct po__disk *disk;
    /* Before a directory is made for it. */
    int rv = po__tool_inspect(o->path, json, error, error_len);
    po__buf_reset(json);
    if (!rv)
        rv = po__disk_real(&disk, o->data_dir, NULL, NULL, error, error_len);
    return rv ? rv : po__tool_restore_disk(o, disk, json, error, error_len);
}
