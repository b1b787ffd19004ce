#include "directory.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../storage/rewrite.h"

#define READ_BYTES ((size_t)256 << 10)

static void note(void *arg, const struct po_log_event *e)
{
    struct po__directory *d = arg;
    if (d->notes_count < PO__NOTES_MAX)
        snprintf(d->notes[d->notes_count++], sizeof d->notes[0], "%s", e->message);
}

static int ignore_record(void *arg, const struct po__rec *r)
{
    (void)arg, (void)r;
    return 0;
}

static int learn_record(void *arg, const struct po__rec *r, uint64_t segment, uint64_t offset)
{
    struct po__directory *d = arg;
    (void)segment, (void)offset;
    if (!d->first_index)
        d->first_index = r->index;
    d->last_term = r->term;
    if (r->type != 3)
        return 0;
    d->conf_index = r->index;
    return po__conf_decode(&d->conf, po__rec_payload(r), r->len) ? PO_ECORRUPT : 0;
}

/* A node writes its term before entries of that term: older metadata than log has been lost and
 * replaced. It could vote twice. */
static int check_term(const struct po__directory *d, char *error, size_t error_len)
{
    uint64_t term =
        d->recovery.snapshot.term > d->last_term ? d->recovery.snapshot.term : d->last_term;
    if (term <= d->recovery.term)
        return 0;
    snprintf(error, error_len,
             "meta: its term is %llu, but the log or snapshot holds entries of term %llu: newer "
             "metadata was lost, and without it this node could vote twice; rejoin the cluster as "
             "a new node",
             (unsigned long long)d->recovery.term, (unsigned long long)term);
    return PO_ECORRUPT;
}

static int learn(struct po__directory *d, char *error, size_t error_len)
{
    const struct po__snapshot_meta *snap = &d->recovery.snapshot;
    d->last_term = snap->term;
    d->conf_index = snap->conf_index;
    if (snap->index && po__conf_decode(&d->conf, snap->conf, snap->conf_len)) {
        snprintf(error, error_len, "the snapshot at %llu has a malformed configuration",
                 (unsigned long long)snap->index);
        return PO_ECORRUPT;
    }
    int rv = po__store_each_record(d->store, learn_record, d, error, error_len);
    if (rv == PO_ECORRUPT && error[0] == '\0')
        snprintf(error, error_len, "the entry %llu is a malformed configuration",
                 (unsigned long long)d->conf_index);
    return rv ? rv : check_term(d, error, error_len);
}

static int look_for_journal(void *arg, const char *name)
{
    struct po__directory *d = arg;
    d->rewrite_pending = d->rewrite_pending || !strcmp(name, PO__REWRITE_NAME);
    return 0;
}

int po__directory_open_disk(struct po__directory *d, struct po__disk *disk, char *error,
                            size_t error_len)
{
    struct po__store_opts opts = {.segment_bytes = PO__TOOL_SEGMENT_BYTES,
                                  .segments_spare = 1,
                                  .log = {.cb = note, .arg = d, .level = PO_LOG_WARN}};
    int rv = po__overlay_new(&d->overlay, disk);
    error[0] = '\0';
    if (rv) {
        snprintf(error, error_len, "out of memory");
        return rv;
    }
    rv = disk->ops->list(disk, look_for_journal, d);
    if (rv) {
        snprintf(error, error_len, "%s", disk->last_error);
        return rv;
    }
    rv = po__store_open(&d->store, po__overlay_attach(d->overlay), &opts, error, error_len);
    if (rv) {
        d->store = NULL;
        return rv;
    }
    if (!po__store_identity(d->store, &d->identity)) {
        snprintf(error, error_len, "the directory holds no node: none was ever started with it");
        return PO_ENOTBOOTSTRAPPED;
    }
    rv = po__store_recover(d->store, &d->recovery, ignore_record, d, error, error_len);
    return rv ? rv : learn(d, error, error_len);
}

int po__directory_open(struct po__directory *d, const char *path, bool look, char *error,
                       size_t error_len)
{
    struct po__disk *disk;
    memset(d, 0, sizeof *d);
    /* Also when it is to be changed: the real disk would make a directory that is not there. */
    int rv = po__disk_real_readonly(&disk, path, error, error_len);
    if (rv == 0 && !look) {
        disk->ops->destroy(disk);
        rv = po__disk_real(&disk, path, NULL, NULL, error, error_len);
    }
    return rv ? rv : po__directory_open_disk(d, disk, error, error_len);
}

void po__directory_detach(struct po__directory *d)
{
    po__store_close(d->store);
    d->store = NULL;
}

void po__directory_close(struct po__directory *d)
{
    po__directory_detach(d);
    po__overlay_free(d->overlay);
    d->overlay = NULL;
}

/* ---- the state ---- */

#define ENOUGH 1 /* of what walks the records: the walk is at its end */

struct walk {
    const struct po__walk *w;
    uint64_t index;     /* applied */
    struct po__cmd cmd; /* too big for the stack */
    char *error;
    size_t error_len;
};

int po__directory_restore(struct po__directory *d, struct po__content *c)
{
    struct po__snapshot_meta *meta = po__malloc(sizeof *meta);
    uint8_t *buf = po__malloc(READ_BYTES);
    struct po__snapshot_reader *r = NULL;
    int rv = meta && buf ? po__store_snapshot_open(d->store, &r, meta) : PO_ENOMEM;
    for (uint64_t at = 0; !rv && at < meta->size_bytes;) {
        uint64_t left = meta->size_bytes - at;
        size_t n = left < READ_BYTES ? (size_t)left : READ_BYTES;
        rv = po__store_snapshot_read(r, at, buf, n);
        if (!rv)
            rv = po__content_feed(c, buf, n);
        at += n;
    }
    po__store_snapshot_close(r);
    po__free(buf);
    po__free(meta);
    return rv ? rv : po__content_end(c);
}

static int apply_entry(struct walk *p, const struct po__rec *r)
{
    const struct po__walk *w = p->w;
    struct po__entry_reader er;
    int more = 0;
    int rv = po__entry_open(&er, po__rec_payload(r), r->len);
    while (rv == 0 && (more = po__entry_next(&er, &p->cmd)) == 1) {
        rv = po__cmd_check(&p->cmd, NULL, 0);
        if (!rv)
            rv = w->command
                     ? w->command(w->arg, r, er.now_ms, &p->cmd)
                     : po__model_apply(w->c->model, r->index, er.now_ms, &p->cmd, NULL, NULL);
    }
    rv = rv ? rv : more;
    if (rv == PO_EFAULT)
        snprintf(
            p->error, p->error_len,
            "entry %llu holds a command of the application, which this program cannot apply: "
            "save the snapshot of the running cluster, or with the application's state machine",
            (unsigned long long)r->index);
    else if (rv < 0)
        snprintf(p->error, p->error_len, "entry %llu cannot be applied: %s",
                 (unsigned long long)r->index, po_strerror(rv));
    return rv == PO_EFAULT ? PO_EREFUSED : rv;
}

static int walk_record(void *arg, const struct po__rec *r, uint64_t segment, uint64_t offset)
{
    struct walk *p = arg;
    const struct po__walk *w = p->w;
    (void)segment, (void)offset;
    if (r->index > w->until)
        return ENOUGH;
    if (r->index <= p->index)
        return 0; /* kept behind the snapshot for slow followers */
    if (r->index != p->index + 1) {
        snprintf(p->error, p->error_len, "entries between %llu and %llu are missing",
                 (unsigned long long)p->index, (unsigned long long)r->index);
        return PO_ECORRUPT;
    }
    int rv = w->entry ? w->entry(w->arg, r) : 0;
    if (!rv && r->type == 1)
        rv = apply_entry(p, r);
    if (!rv)
        po__model_set_index(w->c->model, r->index);
    p->index = r->index;
    return rv;
}

int po__directory_walk(struct po__directory *d, const struct po__walk *w, char *error,
                       size_t error_len)
{
    uint64_t from = w->from_nothing ? 0 : d->recovery.snapshot.index;
    struct walk *p = po__calloc(1, sizeof *p);
    snprintf(error, error_len, "out of memory");
    if (!p)
        return PO_ENOMEM;
    *p = (struct walk){.w = w, .index = from, .error = error, .error_len = error_len};
    int rv = from ? po__directory_restore(d, w->c) : 0;
    if (rv)
        snprintf(error, error_len, "the snapshot at %llu cannot be restored: %s",
                 (unsigned long long)from, po_strerror(rv));
    if (!rv && from)
        po__model_set_index(w->c->model, from);
    if (!rv)
        rv = po__store_each_record(d->store, walk_record, p, error, error_len);
    po__free(p);
    return rv == ENOUGH ? 0 : rv;
}

uint64_t po__directory_committed(const struct po__directory *d)
{
    /* A sole voter's log is committed as soon as it is durable. */
    return po__conf_voters(&d->conf) == 1 ? d->recovery.last_index : d->recovery.snapshot.index;
}

int po__directory_replay(struct po__directory *d, struct po__content *c, uint64_t *committed,
                         char *error, size_t error_len)
{
    struct po__walk w = {.c = c, .until = UINT64_MAX};
    *committed = po__directory_committed(d);
    return po__directory_walk(d, &w, error, error_len);
}
