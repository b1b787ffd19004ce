/* One node goes on without its majority.
 *
 * What it has is kept, log and state; it becomes the only voter of a new cluster. That is a
 * decision for people: entries that only the lost nodes had are gone, and entries that were never
 * committed become so. Raft's promises do not span it; what must hold all the same is that the old
 * cluster and the new one can never be taken for each other. Hence a new cluster id, in every file
 * that carries one, so that peers refuse each other's connections and files cannot be mixed.
 *
 *   1. dry run: says what would be kept and what may be lost; the last index is what has to be
 *      typed to accept it
 *   2. the directory is copied, as it is
 *   3. behind an overlay: term + 1, no vote; a configuration entry with this node as the only voter
 *      and an entry that forgets the others; the new cluster id everywhere
 *   4. all of it is committed in one step (storage/rewrite.h): before, the directory is what it
 * was; after, whoever opens it finishes it
 *
 * Other members are not taken along: a configuration of several voters of which only one has the
 * log could elect one that has nothing. They join the new cluster as new nodes. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../model/command.h"
#include "directory.h"
#include "out.h"
#include "tools.h"

#define COPY_BYTES ((size_t)1 << 20)

struct recover {
    const struct po__tool_recover *o;
    struct po__directory dir;
    uint64_t last_index, last_term, committed;
    struct po__conf old_conf;
    uint8_t new_cluster_id[PO__CLUSTER_ID_BYTES];
    char address[PO_ADDRESS_MAX_BYTES + 1];
    struct po__cmd cmd;
    bool durable;
    char *error;
    size_t error_len;
};

static int check(struct recover *r)
{
    struct po__directory *d = &r->dir;
    const struct po__conf_server *self = po__conf_find(&d->conf, d->identity.node_id);
    const char *address = r->o->address ? r->o->address : self ? self->address : "";
    r->last_index = d->recovery.last_index;
    r->last_term = d->last_term;
    r->old_conf = d->conf;
    if (d->conf.count == 0) {
        snprintf(r->error, r->error_len, "%s holds no state: there is nothing to go on from",
                 r->o->data_dir);
        return PO_ENOTFOUND;
    }
    if (po__conf_voters(&d->conf) == 1 && po__conf_is_voter(&d->conf, d->identity.node_id)) {
        snprintf(r->error, r->error_len,
                 "node %s is the only voter of its cluster already: start it, there is nothing to "
                 "recover",
                 d->identity.name);
        return PO_ESTATE;
    }
    if (!*address || strlen(address) > PO_ADDRESS_MAX_BYTES) {
        snprintf(r->error, r->error_len,
                 "node %s is no member of its last configuration: give its peer address",
                 d->identity.name);
        return PO_EINVAL;
    }
    snprintf(r->address, sizeof r->address, "%s", address);
    r->committed = d->recovery.snapshot.index;
    return 0;
}

static int check_accepted(struct recover *r)
{
    if (r->o->accept == r->last_index)
        return 0;
    snprintf(r->error, r->error_len,
             "the acknowledgement does not fit: the last index here is %llu, not %llu; run it "
             "without one and read what may be lost",
             (unsigned long long)r->last_index, (unsigned long long)r->o->accept);
    return PO_EREFUSED;
}

/* ---- the copy ---- */

struct copy {
    struct po__disk *from, *to;
    bool identity; /* the last round: the file that makes it a whole directory */
    uint8_t *buf;
};

static int copy_file(struct copy *c, const char *name)
{
    struct po__file *in, *out;
    uint64_t bytes = 0;
    int rv = c->to->ops->unlink(c->to, name); /* of an interrupted attempt */
    if (rv && rv != PO_ENOTFOUND)
        return rv;
    rv = c->from->ops->open(c->from, &in, name, 0);
    if (rv)
        return rv;
    rv = c->to->ops->open(c->to, &out, name, PO__FILE_CREATE);
    if (rv)
        goto err_after_in;
    rv = c->from->ops->size(in, &bytes);
    for (uint64_t at = 0; at < bytes && !rv;) {
        size_t n = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES;
        rv = c->from->ops->read(in, c->buf, n, at);
        if (!rv)
            rv = c->to->ops->write(out, c->buf, n, at);
        at += n;
    }
    if (!rv)
        rv = c->to->ops->sync(out);
    c->to->ops->close(out);
err_after_in:
    c->from->ops->close(in);
    return rv;
}

static int copy_name(void *arg, const char *name)
{
    struct copy *c = arg;
    if (strlen(name) >= 64 || !strcmp(name, "lock") || !strncmp(name, "tmp-", 4) ||
        c->identity != !strcmp(name, "identity"))
        return 0;
    return copy_file(c, name);
}

static int has_identity(void *arg, const char *name)
{
    (void)arg;
    return !strcmp(name, "identity") ? PO_EEXISTS : 0;
}

static int copy_directory(struct recover *r, struct po__disk *to)
{
    struct copy c = {.from = po__overlay_base(r->dir.overlay), .to = to};
    int rv = to->ops->list(to, has_identity, NULL);
    if (rv == PO_EEXISTS) {
        snprintf(r->error, r->error_len,
                 "the directory for the copy, %s, holds one already; give another one",
                 r->o->backup_dir);
        return rv;
    }
    c.buf = po__malloc(COPY_BYTES);
    if (!c.buf)
        rv = PO_ENOMEM;
    for (int round = 0; round < 2 && !rv; round++) {
        c.identity = round == 1;
        rv = c.from->ops->list(c.from, copy_name, &c);
        if (!rv)
            rv = to->ops->sync_dir(to);
    }
    po__free(c.buf);
    if (rv)
        snprintf(r->error, r->error_len, "copying the directory: %s",
                 to->last_error[0] ? to->last_error : po_strerror(rv));
    return rv;
}

/* ---- the change ---- */

static void on_durable(void *arg, uint64_t token)
{
    (void)token;
    ((struct recover *)arg)->durable = true;
}

static int append(struct recover *r, uint64_t index, uint64_t term, uint32_t type,
                  const void *payload, size_t len)
{
    struct po__rec *rec = po__calloc(1, PO__REC_BYTES(len));
    if (!rec)
        return PO_ENOMEM;
    *rec = (struct po__rec){.len = (uint32_t)len, .index = index, .term = term, .type = type};
    memcpy(rec + 1, payload, len);
    po__rec_seal(rec);
    r->durable = false;
    int rv = po__store_append(r->dir.store, rec, on_durable, r, index);
    po__free(rec);
    if (!rv) {
        po__store_flush(r->dir.store);
        po__store_poll(r->dir.store); /* an overlay's jobs run here */
        rv = po__store_broken(r->dir.store);
    }
    return rv ? rv : r->durable ? 0 : PO_EIO;
}

static int append_conf(struct recover *r, uint64_t term)
{
    struct po__conf conf = {0};
    uint8_t bytes[PO__CONF_MAX_BYTES];
    int rv = po__conf_add(&conf, r->dir.identity.node_id, r->address, PO__VOTER);
    if (rv)
        return rv;
    return append(r, r->last_index + 1, term, 3, bytes, po__conf_encode(&conf, bytes));
}

/* The records of the lost members go: their names and places are free for those who join. */
static int append_wishes(struct recover *r, uint64_t term)
{
    struct po__buf entry = {0};
    uint32_t count = 0;
    po__entry_begin(&entry, (uint64_t)time(NULL) * 1000);
    for (unsigned i = 0; i < r->old_conf.count; i++) {
        if (r->old_conf.servers[i].id == r->dir.identity.node_id)
            continue;
        r->cmd.type = PO__CMD_MEMBER_WISH;
        r->cmd.member_wish.node_id = r->old_conf.servers[i].id;
        r->cmd.member_wish.wish = PO__WISH_GONE;
        po__cmd_encode(&entry, &r->cmd);
        count++;
    }
    po__entry_finish(&entry, 0, count);
    int rv = entry.err;
    if (!rv)
        rv = append(r, r->last_index + 2, term, 1, entry.data, entry.len);
    po__buf_fini(&entry);
    return rv;
}

static int change(struct recover *r)
{
    uint64_t term = r->dir.recovery.term + 1;
    int rv = po__store_set_vote(r->dir.store, term, 0);
    rv = rv ? rv : append_conf(r, term);
    rv = rv ? rv : append_wishes(r, term);
    if (rv) {
        snprintf(r->error, r->error_len, "preparing the change: %s", po_strerror(rv));
        return rv;
    }
    po__directory_detach(&r->dir);
    struct po__disk *disk = po__overlay_attach(r->dir.overlay);
    rv = po__store_rebrand(disk, r->new_cluster_id, r->error, r->error_len);
    disk->ops->destroy(disk);
    return rv ? rv : po__overlay_commit(r->dir.overlay, r->error, r->error_len);
}

/* ---- the answer ---- */

static int answer(struct recover *r, bool done, struct po__buf *json)
{
    const struct po__directory *d = &r->dir;
    struct po__buf b = {0};
    po__mpw_map(&b, 11 + (done ? 2 : 0));
    po__out_cstr(&b, "directory", r->o->data_dir);
    po__out_cstr(&b, "name", d->identity.name);
    po__out_uint(&b, "node_id", d->identity.node_id);
    po__out_bin(&b, "cluster_id", d->identity.cluster_id, sizeof d->identity.cluster_id);
    po__mpw_cstr(&b, "members");
    po__describe_conf(&b, &r->old_conf);
    po__out_cstr(&b, "address", r->address);
    po__out_uint(&b, "last_index", r->last_index);
    po__out_uint(&b, "last_term", r->last_term);
    po__out_uint(&b, "term", d->recovery.term);
    po__out_uint(&b, "committed_index", r->committed);
    po__out_bool(&b, "done", done);
    if (done) {
        po__out_bin(&b, "new_cluster_id", r->new_cluster_id, sizeof r->new_cluster_id);
        po__out_cstr(&b, "backup", r->o->backup_dir ? r->o->backup_dir : "");
    }
    int rv = po__out_json(json, &b);
    if (rv)
        snprintf(r->error, r->error_len, "the answer: %s", po_strerror(rv));
    return rv;
}

static struct recover *recover_new(const struct po__tool_recover *o, char *error, size_t error_len)
{
    struct recover *r = po__calloc(1, sizeof *r);
    snprintf(error, error_len, "out of memory");
    if (!r)
        return NULL;
    r->o = o;
    r->error = error;
    r->error_len = error_len;
    return r;
}

int po__tool_recover_disk(const struct po__tool_recover *o, struct po__disk *disk,
                          struct po__disk *backup, struct po__buf *json, char *error,
                          size_t error_len)
{
    struct recover *r = recover_new(o, error, error_len);
    int rv = PO_ENOMEM;
    if (!r) {
        disk->ops->destroy(disk);
        return rv;
    }
    rv = po__directory_open_disk(&r->dir, disk, error, error_len);
    rv = rv ? rv : check(r);
    rv = rv ? rv : check_accepted(r);
    rv = rv || !backup ? rv : copy_directory(r, backup);
    if (!rv && getrandom(r->new_cluster_id, sizeof r->new_cluster_id, 0) != PO__CLUSTER_ID_BYTES) {
        snprintf(error, error_len, "the system's random numbers cannot be read");
        rv = PO_EIO;
    }
    rv = rv ? rv : change(r);
    rv = rv ? rv : answer(r, true, json);
    po__directory_close(&r->dir);
    po__free(r);
    return rv;
}

static int dry_run(const struct po__tool_recover *o, struct po__buf *json, char *error,
                   size_t error_len)
{
    struct recover *r = recover_new(o, error, error_len);
    if (!r)
        return PO_ENOMEM;
    int rv = po__directory_open(&r->dir, o->data_dir, true, error, error_len);
    rv = rv ? rv : check(r);
    rv = rv || !o->accept ? rv : check_accepted(r);
    rv = rv ? rv : answer(r, false, json);
    po__directory_close(&r->dir);
    po__free(r);
    return rv;
}

int po__tool_recover(const struct po__tool_recover *o, struct po__buf *json, char *error,
                     size_t error_len)
{
    struct po__disk *disk, *backup;
    int rv = dry_run(o, json, error, error_len); /* also before directories are made */
    if (rv || !o->accept)
        return rv;
    po__buf_reset(json);
    if (!o->backup_dir || !*o->backup_dir) {
        snprintf(error, error_len, "a directory for the copy is required");
        return PO_EINVAL;
    }
    rv = po__disk_real(&backup, o->backup_dir, NULL, NULL, error, error_len);
    if (rv)
        return rv;
    rv = po__disk_real(&disk, o->data_dir, NULL, NULL, error, error_len);
    if (!rv)
        rv = po__tool_recover_disk(o, disk, backup, json, error, error_len);
    backup->ops->destroy(backup);
    return rv;
}
