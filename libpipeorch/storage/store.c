/* Opening, identity, bootstrap, and the one place where a store breaks.
 *
 * After a failed write or sync nobody knows what the disk holds: the kernel may have dropped the
 * dirty pages and reports the error once. So the store never retries; it stops, and recovery
 * decides what is there at the next start. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "rewrite.h"
#include "store_internal.h"

#define LOCK_NAME     "lock"
#define IDENTITY_NAME "identity"
#define JOIN_NAME     "join"

int po__aligned_alloc(struct po__aligned *a, size_t bytes)
{
    a->raw = po__malloc(bytes + PO__DISK_ALIGN);
    if (!a->raw)
        return PO_ENOMEM;
    uintptr_t p = ((uintptr_t)a->raw + PO__DISK_ALIGN - 1) & ~(uintptr_t)(PO__DISK_ALIGN - 1);
    a->data = (uint8_t *)p;
    return 0;
}

int po__aligned_calloc(struct po__aligned *a, size_t bytes)
{
    int rv = po__aligned_alloc(a, bytes);
    if (!rv)
        memset(a->data, 0, bytes);
    return rv;
}

void po__aligned_free(struct po__aligned *a)
{
    po__free(a->raw);
    *a = (struct po__aligned){0};
}

int po__store_fail(struct po__store *s, int code, const char *what)
{
    if (s->broken)
        return s->broken;
    s->broken = code == PO_ENOSPACE ? PO_ENOSPACE : code == PO_ENOMEM ? PO_ENOMEM : PO_EIO;
    snprintf(s->broken_message, sizeof s->broken_message, "%.60s: %s", what,
             code == PO_ENOMEM ? po_strerror(code) : s->disk->last_error);
    po__error(&s->opts.log, "store.fault", "%s", s->broken_message);
    if (s->opts.fault)
        s->opts.fault(s->opts.arg, s->broken, s->broken_message);
    return s->broken;
}

int po__store_broken(const struct po__store *s)
{
    return s->broken;
}

int po__store_open_error(struct po__store *s, int code, const char *what, char *error,
                         size_t error_len)
{
    /* Memory runs out here, too, where the disk has nothing to say or speaks of something older. */
    snprintf(error, error_len, "%s: %s", what,
             code == PO_ENOMEM ? po_strerror(code) : s->disk->last_error);
    return code;
}

int po__store_put_file(struct po__store *s, const char *name, const void *data, size_t len)
{
    const struct po__disk_ops *ops = s->ops;
    char tmp[PO__FILE_NAME_BYTES];
    struct po__file *f;
    snprintf(tmp, sizeof tmp, "tmp-%s", name);
    int rv = ops->open(s->disk, &f, tmp, PO__FILE_CREATE);
    if (rv)
        return rv;
    rv = ops->write(f, data, len, 0);
    if (!rv)
        rv = ops->sync(f);
    ops->close(f);
    if (!rv)
        rv = ops->rename(s->disk, tmp, name);
    if (!rv)
        rv = ops->sync_dir(s->disk);
    return rv;
}

/* What lies in the directory, gathered by name. */
struct contents {
    struct po__buf tmp;    /* names, each with its NUL */
    struct po__buf data;   /* wal-*, meta, snap-*: what a bootstrapped directory owns */
    bool beyond_bootstrap; /* there is more than an interrupted bootstrap leaves behind */
};

static int note_name(void *arg, const char *name)
{
    struct contents *c = arg;
    uint64_t n, m;
    if (strlen(name) >= PO__FILE_NAME_BYTES)
        return 0; /* none of ours */
    if (!strncmp(name, "tmp-", 4))
        return po__buf_append(&c->tmp, name, strlen(name) + 1);
    if (po__wal_parse(name, &n)) {
        c->beyond_bootstrap |= n != 1;
        return po__buf_append(&c->data, name, strlen(name) + 1);
    }
    if (po__snap_parse(name, &n, &m)) {
        c->beyond_bootstrap = true;
        return 0;
    }
    if (!strcmp(name, "meta"))
        return po__buf_append(&c->data, name, strlen(name) + 1);
    return 0;
}

static int unlink_all(struct po__store *s, const struct po__buf *names)
{
    for (size_t at = 0; at < names->len;) {
        const char *name = (const char *)names->data + at;
        int rv = s->ops->unlink(s->disk, name);
        if (rv)
            return rv;
        at += strlen(name) + 1;
    }
    return names->len ? s->ops->sync_dir(s->disk) : 0;
}

/* `name` is the identity or the join file, which have the same form. */
static int load_identity(struct po__store *s, const char *name, uint64_t magic,
                         struct po__identity *id, bool *found, char *error, size_t error_len)
{
    const struct po__disk_ops *ops = s->ops;
    struct po__fmt_identity *fi;
    struct po__aligned block;
    struct po__file *f;
    uint64_t size = 0;
    int rv = ops->open(s->disk, &f, name, 0);
    if (rv == PO_ENOTFOUND)
        return 0;
    if (rv)
        return po__store_open_error(s, rv, "reading the identity", error, error_len);
    rv = po__aligned_calloc(&block, sizeof *fi);
    if (rv) {
        snprintf(error, error_len, "reading the identity: out of memory");
        goto err_after_open;
    }
    rv = ops->size(f, &size);
    if (!rv && size >= sizeof *fi)
        rv = ops->read(f, block.data, sizeof *fi, 0);
    if (rv) {
        po__store_open_error(s, rv, "reading the identity", error, error_len);
        goto err_after_alloc;
    }
    fi = (struct po__fmt_identity *)(void *)block.data;
    rv = size < sizeof *fi ? PO_ECORRUPT : po__fmt_check(fi, sizeof *fi, magic);
    if (!rv && fi->name_len > PO_NAME_MAX_BYTES)
        rv = PO_ECORRUPT;
    if (rv == PO_EVERSION)
        snprintf(error, error_len,
                 "%s: format version %u, this program knows up to %d; "
                 "use the program that wrote the directory, or a later one",
                 name, (unsigned)fi->head.version, PO__FORMAT_VERSION);
    else if (rv)
        snprintf(error, error_len, "%s: damaged at offset 0 (size %llu)", name,
                 (unsigned long long)size);
    if (rv)
        goto err_after_alloc;
    memcpy(id->cluster_id, fi->cluster_id, sizeof id->cluster_id);
    memcpy(id->directory_id, fi->directory_id, sizeof id->directory_id);
    id->node_id = fi->node_id;
    memcpy(id->name, fi->name, fi->name_len);
    id->name[fi->name_len] = '\0';
    *found = true;

err_after_alloc:
    po__aligned_free(&block);
err_after_open:
    ops->close(f);
    return rv;
}

static int drop_join(struct po__store *s)
{
    int rv = s->ops->unlink(s->disk, JOIN_NAME);
    if (!rv)
        rv = s->ops->sync_dir(s->disk);
    s->has_join = s->has_join && rv != 0;
    return rv;
}

/* Lock, read the identity, remove what an interrupted run left behind. */
static int open_directory(struct po__store *s, char *error, size_t error_len)
{
    const struct po__disk_ops *ops = s->ops;
    struct contents c = {0};
    po__buf_init(&c.tmp, 1 << 20);
    po__buf_init(&c.data, 1 << 20);
    int rv = ops->lock(s->disk, LOCK_NAME);
    if (rv) {
        snprintf(error, error_len, "%s", s->disk->last_error);
        goto out;
    }
    /* A process that was killed between a rename and its sync leaves names that can be seen but may
     * still vanish with the power. Nothing may be built on them before they are durable. */
    rv = ops->sync_dir(s->disk);
    if (rv) {
        po__store_open_error(s, rv, "syncing the data directory", error, error_len);
        goto out;
    }
    rv = po__rewrite_finish(s->disk, error, error_len);
    if (rv)
        goto out;
    rv = ops->list(s->disk, note_name, &c);
    if (rv) {
        po__store_open_error(s, rv, "listing the data directory", error, error_len);
        goto out;
    }
    rv = load_identity(s, IDENTITY_NAME, PO__MAGIC_IDENTITY, &s->identity, &s->has_identity, error,
                       error_len);
    if (!rv)
        rv = load_identity(s, JOIN_NAME, PO__MAGIC_JOIN, &s->joining, &s->has_join, error,
                           error_len);
    if (rv)
        goto out;
    if (!s->has_identity && c.beyond_bootstrap) {
        snprintf(error, error_len,
                 "identity: missing, but the directory holds a log or a snapshot; "
                 "restore the file, or start with an empty directory as a new node");
        rv = PO_ECORRUPT;
        goto out;
    }
    rv = unlink_all(s, &c.tmp);
    if (!rv && !s->has_identity) /* a bootstrap that did not get to its end */
        rv = unlink_all(s, &c.data);
    if (!rv && s->has_identity && s->has_join) /* the join did get to its end */
        rv = drop_join(s);
    if (rv)
        po__store_open_error(s, rv, "removing leftovers", error, error_len);
out:
    po__buf_fini(&c.tmp);
    po__buf_fini(&c.data);
    return rv;
}

int po__store_open(struct po__store **out, struct po__disk *disk, const struct po__store_opts *opts,
                   char *error, size_t error_len)
{
    PO_PRE(opts->segment_bytes % PO__BLOCK_BYTES == 0);
    PO_PRE(opts->segment_bytes >= PO__SEGMENT_BYTES_MIN);
    int rv = PO_ENOMEM;
    struct po__store *s = po__calloc(1, sizeof *s);
    if (!s) {
        disk->ops->destroy(disk);
        goto err_no_memory;
    }
    s->disk = disk;
    s->ops = disk->ops;
    s->opts = *opts;
    if (!s->opts.segments_spare)
        s->opts.segments_spare = 2;
    po__list_init(&s->segments);
    po__list_init(&s->retired);
    po__list_init(&s->spares);
    po__list_init(&s->queue);
    po__list_init(&s->pool);
    po__list_init(&s->writers);
    s->log_empty = true;
    if (po__aligned_calloc(&s->meta_block, PO__BLOCK_BYTES) ||
        po__aligned_calloc(&s->header_block, PO__BLOCK_BYTES) ||
        po__aligned_calloc(&s->zeros, PO__ZERO_CHUNK_BYTES) || po__wal_init(s)) {
        po__store_close(s);
        goto err_no_memory;
    }
    rv = open_directory(s, error, error_len);
    if (rv) {
        po__store_close(s);
        return rv;
    }
    *out = s;
    return 0;

err_no_memory:
    snprintf(error, error_len, "opening the store: out of memory");
    return rv;
}

static void free_segments(struct po__store *s, struct po__list *list)
{
    struct po__list *l;
    while ((l = po__list_pop(list)))
        po__segment_free(s, po__container_of(l, struct po__segment, link));
}

void po__store_close(struct po__store *s)
{
    if (!s)
        return;
    struct po__disk *disk = s->disk;
    const struct po__disk_ops *ops = s->ops;
    ops->destroy(disk); /* from here on no job runs; files may still be closed */
    po__snapshots_fini(s);
    po__wal_fini(s);
    if (s->task.tmp)
        ops->close(s->task.tmp);
    po__segment_free(s, s->task.segment);
    free_segments(s, &s->segments);
    free_segments(s, &s->retired);
    free_segments(s, &s->spares);
    if (s->meta)
        ops->close(s->meta);
    po__aligned_free(&s->meta_block);
    po__aligned_free(&s->header_block);
    po__aligned_free(&s->zeros);
    po__free(s);
}

int po__store_identity(const struct po__store *s, struct po__identity *id)
{
    if (s->has_identity)
        *id = s->identity;
    return s->has_identity;
}

int po__store_joining(const struct po__store *s, struct po__identity *id)
{
    bool joining = s->has_join && !s->has_identity;
    if (joining)
        *id = s->joining;
    return joining;
}

static int put_identity(struct po__store *s, const char *name, uint64_t magic,
                        const struct po__identity *id)
{
    struct po__aligned block;
    if (po__aligned_calloc(&block, sizeof(struct po__fmt_identity)))
        return PO_ENOMEM;
    struct po__fmt_identity *fi = (struct po__fmt_identity *)(void *)block.data;
    memcpy(fi->cluster_id, id->cluster_id, sizeof fi->cluster_id);
    memcpy(fi->directory_id, id->directory_id, sizeof fi->directory_id);
    fi->node_id = id->node_id;
    fi->name_len = (uint32_t)strnlen(id->name, PO_NAME_MAX_BYTES);
    memcpy(fi->name, id->name, fi->name_len);
    po__fmt_seal(fi, sizeof *fi, magic);
    int rv = po__store_put_file(s, name, fi, sizeof *fi);
    po__aligned_free(&block);
    return rv;
}

int po__store_join_begin(struct po__store *s, const struct po__identity *id)
{
    struct po__identity joining = *id;
    if (s->broken)
        return s->broken;
    if (s->has_identity)
        return PO_EEXISTS;
    joining.node_id = 0;
    memset(joining.cluster_id, 0, sizeof joining.cluster_id);
    int rv = put_identity(s, JOIN_NAME, PO__MAGIC_JOIN, &joining);
    if (rv)
        return po__store_fail(s, rv, "preparing the data directory to join");
    s->joining = joining;
    s->has_join = true;
    return 0;
}

int po__store_bootstrap(struct po__store *s, const struct po__identity *id, uint64_t term,
                        const struct po__rec *first)
{
    if (s->broken)
        return s->broken;
    if (s->has_identity)
        return PO_EEXISTS;
    PO_PRE(!first || po__rec_check(first, PO__REC_BYTES(first->len)) == 0);
    s->identity = *id;
    int rv = po__meta_create(s, term);
    if (!rv)
        rv = po__segment_create_first(s, first);
    if (!rv)
        rv = put_identity(s, IDENTITY_NAME, PO__MAGIC_IDENTITY, &s->identity);
    if (!rv && s->has_join) /* if the power goes first, the next start does it */
        rv = drop_join(s);
    if (rv)
        return po__store_fail(s, rv, "bootstrapping the data directory");
    s->has_identity = true;
    return 0;
}

void po__store_poll(struct po__store *s)
{
    s->ops->poll(s->disk);
    if (!s->broken && s->recovered)
        po__segments_maintain(s);
}
