/* What is in a data directory, and what a start would find: recovery itself runs, in memory. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../model/command.h"
#include "../storage/store_format.h"
#include "directory.h"
#include "out.h"
#include "tools.h"

enum { HEALTHY = 0, USABLE = 1, REFUSED = 2 };

struct check {
    struct po__directory dir;
    struct po__content content;
    struct po__cmd cmd;
    struct po__buf segments;
    uint32_t segments_count;
    uint64_t records, commands, first_index;
    char error[640];
};

static int put_segment(void *arg, const struct po__segment_info *i)
{
    struct check *c = arg;
    char name[PO__FILE_NAME_BYTES];
    struct po__buf *b = &c->segments;
    po__wal_name(name, i->number);
    c->segments_count++;
    po__mpw_map(b, 10);
    po__out_cstr(b, "file", name);
    po__out_uint(b, "bytes", i->size_bytes);
    po__out_uint(b, "used_bytes", i->end_bytes);
    po__out_uint(b, "batches", i->batches);
    po__out_uint(b, "records", i->records);
    po__out_uint(b, "first_index", i->first_index);
    po__out_uint(b, "last_index", i->last_index);
    po__out_uint(b, "first_term", i->first_term);
    po__out_uint(b, "last_term", i->last_term);
    po__out_bool(b, "spare", i->spare);
    return b->err;
}

/* Checksums say that entries are what was written; this, that they can be understood. */
static int check_record(void *arg, const struct po__rec *r, uint64_t segment, uint64_t offset)
{
    struct check *c = arg;
    struct po__entry_reader er;
    char name[PO__FILE_NAME_BYTES], why[256] = "";
    int more = 0;
    if (!c->records++)
        c->first_index = r->index;
    if (r->type != 1)
        return 0;
    int rv = po__entry_open(&er, po__rec_payload(r), r->len);
    while (!rv && (more = po__entry_next(&er, &c->cmd)) == 1) {
        c->commands++;
        rv = po__cmd_check(&c->cmd, why, sizeof why);
    }
    rv = rv ? rv : more;
    if (!rv)
        return 0;
    po__wal_name(name, segment);
    snprintf(c->error, sizeof c->error, "%s: entry %llu, in the batch at offset %llu: %s", name,
             (unsigned long long)r->index, (unsigned long long)offset,
             *why ? why : po_strerror(rv));
    return rv == PO_ENOMEM ? rv : PO_ECORRUPT;
}

static int check_snapshot(struct check *c)
{
    int rv = po__directory_restore(&c->dir, &c->content);
    if (rv)
        snprintf(c->error, sizeof c->error, "the snapshot at %llu cannot be restored: %s",
                 (unsigned long long)c->dir.recovery.snapshot.index, po_strerror(rv));
    return rv;
}

static int examine(struct check *c, const char *path)
{
    struct po__directory *d = &c->dir;
    int rv = po__directory_open(d, path, true, c->error, sizeof c->error);
    if (!rv)
        rv = po__store_each_segment(d->store, put_segment, c, c->error, sizeof c->error);
    if (!rv)
        rv = po__store_each_record(d->store, check_record, c, c->error, sizeof c->error);
    if (!rv && d->recovery.snapshot.index)
        rv = check_snapshot(c);
    return rv;
}

static void put_problems(struct check *c, struct po__buf *b, int rv)
{
    struct po__directory *d = &c->dir;
    uint32_t count = d->notes_count + (d->rewrite_pending ? 1 : 0) + (rv ? 1 : 0);
    po__mpw_cstr(b, "problems");
    po__mpw_array(b, count);
    if (d->rewrite_pending)
        po__mpw_cstr(b, "rewrite: a change of the whole directory was interrupted; the next start "
                        "finishes it. What is shown here is what it will be");
    for (unsigned i = 0; i < d->notes_count; i++)
        po__mpw_cstr(b, d->notes[i]);
    if (rv)
        po__mpw_cstr(b, c->error[0] ? c->error : po_strerror(rv));
}

static void put_snapshot(struct check *c, struct po__buf *b)
{
    const struct po__snapshot_meta *m = &c->dir.recovery.snapshot;
    char name[64];
    po__mpw_cstr(b, "snapshot");
    if (!m->index) {
        po__mpw_nil(b);
        return;
    }
    po__snap_name_of(name, m);
    po__mpw_map(b, 5);
    po__out_cstr(b, "file", name);
    po__out_uint(b, "index", m->index);
    po__out_uint(b, "term", m->term);
    po__out_uint(b, "bytes", m->size_bytes);
    po__out_uint(b, "conf_index", m->conf_index);
}

/* What is known only when the directory could be recovered. */
static void put_recovered(struct check *c, struct po__buf *b)
{
    const struct po__directory *d = &c->dir;
    po__out_uint(b, "term", d->recovery.term);
    po__out_uint(b, "vote", d->recovery.vote);
    po__out_uint(b, "first_index", c->first_index);
    po__out_uint(b, "last_index", d->recovery.last_index);
    po__out_uint(b, "last_term", d->last_term);
    po__out_uint(b, "records", c->records);
    po__out_uint(b, "commands", c->commands);
    put_snapshot(c, b);
    po__mpw_cstr(b, "members");
    po__describe_conf(b, &d->conf);
    po__mpw_cstr(b, "segments");
    po__mpw_array(b, c->segments_count);
    po__buf_append(b, c->segments.data, c->segments.len);
}

static int report(struct check *c, const char *path, int rv, struct po__buf *json)
{
    static const char *const words[] = {"healthy", "usable", "refused"};
    const struct po__directory *d = &c->dir;
    int verdict = rv ? REFUSED : d->notes_count || d->rewrite_pending ? USABLE : HEALTHY;
    bool known = d->identity.node_id != 0;
    struct po__buf b = {0};
    po__mpw_map(&b, 4 + (known ? 5 : 0) + (rv ? 0 : 10));
    po__out_cstr(&b, "directory", path);
    po__out_cstr(&b, "verdict", words[verdict]);
    po__out_cstr(&b, "code", rv ? po_err_name(rv) : "0");
    put_problems(c, &b, rv);
    if (known) {
        po__out_uint(&b, "format", PO__FORMAT_VERSION);
        po__out_bin(&b, "cluster_id", d->identity.cluster_id, sizeof d->identity.cluster_id);
        po__out_bin(&b, "directory_id", d->identity.directory_id, sizeof d->identity.directory_id);
        po__out_uint(&b, "node_id", d->identity.node_id);
        po__out_cstr(&b, "name", d->identity.name);
    }
    if (!rv)
        put_recovered(c, &b);
    return po__out_json(json, &b) ? REFUSED : verdict;
}

int po__tool_check_dir(const char *data_dir, struct po__buf *json)
{
    struct check *c = po__calloc(1, sizeof *c);
    int rv = c ? po__content_init(&c->content, NULL) : PO_ENOMEM;
    if (!c)
        return REFUSED;
    rv = rv ? rv : examine(c, data_dir);
    int verdict = report(c, data_dir, rv, json);
    po__directory_close(&c->dir);
    po__content_fini(&c->content);
    po__buf_fini(&c->segments);
    po__free(c);
    return verdict;
}
