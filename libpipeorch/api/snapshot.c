/* The exported functions of snapshot.h. What works on files and directories is in tools/; here a
 * running cluster's snapshot is fetched, piece by piece, into such a file. */
#include <pipeorch/snapshot.h>

#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "../node/channel.h"
#include "../net/address.h"
#include "../net/peer.h"
#include "../tools/backup.h"
#include "../tools/tools.h"
#include "call.h"

#define TIMEOUT_DEFAULT_MS 60000
#define ATTEMPTS_MAX       5 /* of fetching one whole snapshot, when the leader changes meanwhile */

/* Where sentences go when the caller wants none. */
struct sentence {
    char own[512];
    char *text;
    size_t len;
};

static void sentence_init(struct sentence *s, char *error, size_t error_len)
{
    s->own[0] = '\0';
    s->text = error && error_len ? error : s->own;
    s->len = error && error_len ? error_len : sizeof s->own;
    s->text[0] = '\0';
}

static int say(struct sentence *s, int code, const char *text)
{
    snprintf(s->text, s->len, "%s", text);
    return code;
}

/* The answer becomes the caller's. */
static int give(char **json, struct po__buf *b, struct sentence *s, int rv)
{
    if (!rv && json) {
        *json = po__strndup((const char *)b->data, b->len);
        if (!*json)
            rv = say(s, PO_ENOMEM, "out of memory for the answer");
    }
    po__buf_fini(b);
    return rv;
}

/* ---- from a running cluster ---- */

struct fetch {
    const struct po_snapshot_save_opts *o;
    struct po__backup_info info;
    struct po__backup_writer *writer;
    uint64_t stream, offset, size_bytes;
    struct sentence *s;
};

static int begin_file(struct fetch *f, const struct po__snapshot_piece *p)
{
    struct po__backup_info *i = &f->info;
    if (!p->first || p->conf.len > sizeof i->snapshot.conf || p->index == 0 ||
        p->cluster_id.len != sizeof i->cluster_id)
        return say(f->s, PO_EPROTO, "the node's answer is malformed; does it run another version?");
    *i = (struct po__backup_info){.source = PO__BACKUP_ONLINE,
                                  .time_ms = p->time_ms,
                                  .committed_index = p->index,
                                  .snapshot = {.index = p->index,
                                               .term = p->term,
                                               .conf_index = p->conf_index,
                                               .conf_len = (uint32_t)p->conf.len}};
    memcpy(i->snapshot.conf, p->conf.data, p->conf.len);
    memcpy(i->cluster_id, p->cluster_id.data, p->cluster_id.len);
    snprintf(i->node_name, sizeof i->node_name, "%.*s", (int)p->node_name.len, p->node_name.data);
    f->stream = p->stream;
    f->size_bytes = p->size_bytes;
    return po__backup_create(&f->writer, f->o->path, f->o->overwrite, i, f->s->text, f->s->len);
}

static int take_piece(struct fetch *f, const struct po__outcome *out)
{
    struct po__snapshot_piece p;
    int rv = po__snapshot_piece_decode(po__slice(out->data, out->len), &p);
    if (rv)
        return say(f->s, rv, "the node's answer is malformed; does it run another version?");
    rv = f->stream ? 0 : begin_file(f, &p);
    if (rv)
        return rv;
    if (p.size_bytes != f->size_bytes || p.data.len > f->size_bytes - f->offset ||
        (p.data.len == 0 && f->offset < f->size_bytes))
        return say(f->s, PO_EPROTO, "the node's pieces do not fit together");
    f->offset += p.data.len;
    return po__backup_write(f->writer, p.data.data, p.data.len);
}

static int fetch_piece(struct fetch *f)
{
    struct po_call_opts co = {
        .size = sizeof co, .timeout_ms = f->o->timeout_ms ? f->o->timeout_ms : TIMEOUT_DEFAULT_MS};
    struct po__call call;
    struct po__outcome out = {0};
    int rv = po__call_snapshot(&call, f->stream, f->offset, &co);
    rv = rv ? rv : po__call_wait(f->o->client, &call, &out);
    if (rv)
        return say(f->s, rv, po_client_error());
    rv = take_piece(f, &out);
    po__outcome_fini(&out);
    return rv;
}

static int fetch_all(struct fetch *f)
{
    int rv;
    f->stream = f->offset = f->size_bytes = 0;
    do
        rv = fetch_piece(f);
    while (!rv && f->offset < f->size_bytes);
    if (!rv)
        return po__backup_finish(f->writer);
    po__backup_abort(f->writer);
    f->writer = NULL;
    return rv;
}

static int save_online(const struct po_snapshot_save_opts *o, struct po__buf *json,
                       struct sentence *s)
{
    struct fetch *f = po__calloc(1, sizeof *f);
    int rv = PO_ESTALE;
    if (!f)
        return say(s, PO_ENOMEM, "out of memory");
    *f = (struct fetch){.o = o, .s = s};
    for (unsigned i = 0; i < ATTEMPTS_MAX && rv == PO_ESTALE; i++)
        rv = fetch_all(f);
    po__free(f);
    if (rv == PO_ESTALE)
        return say(s, rv,
                   "the leader changed each time before the snapshot was complete; try again when "
                   "the cluster is calm");
    return rv ? rv : po__tool_inspect(o->path, json, s->text, s->len);
}

/* ---- exported ---- */

/* As the blocking calls of client.h. These read, write and sync whole files, which no callback
 * thread may wait for, whatever client or node it belongs to. */
static int refuse_callbacks(struct sentence *s, const char *function)
{
    if (!po__on_callback_thread())
        return 0;
    snprintf(s->text, s->len,
             "%s was called in a callback, which must not block; call it on a thread of your own",
             function);
    return PO_EINVAL;
}

PO_API int po_snapshot_save(const struct po_snapshot_save_opts *opts, char **json, char *error,
                            size_t error_len)
{
    struct po_snapshot_save_opts o;
    struct sentence s;
    struct po__buf b = {0};
    sentence_init(&s, error, error_len);
    int rv = refuse_callbacks(&s, "po_snapshot_save");
    if (rv)
        return rv;
    rv = opts ? po__read_struct(&o, sizeof o, opts, "po_snapshot_save_opts") : PO_EINVAL;
    if (rv)
        return say(&s, rv, opts ? po_client_error() : "the options are NULL");
    if (!o.path || !*o.path || !o.client == !o.data_dir || o.timeout_ms > PO_TIMEOUT_MAX_MS)
        return say(&s, PO_EINVAL,
                   "path is required, and one of client and data_dir; timeout_ms is at most "
                   "3600000");
    if (o.client)
        rv = save_online(&o, &b, &s);
    else
        rv = po__tool_save_dir(o.path, o.overwrite, o.data_dir, o.state_machine, &b, s.text, s.len);
    return give(json, &b, &s, rv);
}

PO_API int po_snapshot_inspect(const char *path, char **json, char *error, size_t error_len)
{
    struct sentence s;
    struct po__buf b = {0};
    sentence_init(&s, error, error_len);
    int rv = refuse_callbacks(&s, "po_snapshot_inspect");
    if (rv)
        return rv;
    if (!path)
        return say(&s, PO_EINVAL, "the path is NULL");
    return give(json, &b, &s, po__tool_inspect(path, &b, s.text, s.len));
}

/* The form of the addresses, which only this layer knows; the rest is checked below. */
static int check_addresses(const struct po_snapshot_restore_opts *o, struct sentence *s)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], why[256];
    for (size_t i = 0; i < o->members_count; i++) {
        const char *address = o->members[i].address;
        if (!address && o->members_count == 1)
            continue;
        if (!address ||
            po__address_parse(address, host, sizeof host, port, sizeof port, why, sizeof why)) {
            snprintf(s->text, s->len, "members: %s: %s",
                     o->members[i].name ? o->members[i].name : "(null)",
                     address ? why : "no address");
            return PO_EINVAL;
        }
    }
    return 0;
}

PO_API int po_snapshot_restore(const struct po_snapshot_restore_opts *opts, char **json,
                               char *error, size_t error_len)
{
    struct po_snapshot_restore_opts o;
    struct sentence s;
    struct po__buf b = {0};
    sentence_init(&s, error, error_len);
    int rv = refuse_callbacks(&s, "po_snapshot_restore");
    if (rv)
        return rv;
    rv = opts ? po__read_struct(&o, sizeof o, opts, "po_snapshot_restore_opts") : PO_EINVAL;
    if (rv)
        return say(&s, rv, opts ? po_client_error() : "the options are NULL");
    if (!o.path || !o.data_dir || !*o.data_dir || !o.name || o.members_count > PO_MEMBERS_MAX ||
        (o.members_count && !o.members))
        return say(&s, PO_EINVAL,
                   "path, data_dir and name are required; members are at most 7 and not NULL");
    rv = check_addresses(&o, &s);
    if (rv)
        return rv;
    struct po__tool_restore r = {.path = o.path,
                                 .data_dir = o.data_dir,
                                 .name = o.name,
                                 .members = o.members,
                                 .members_count = o.members_count,
                                 .cluster_id = o.cluster_id};
    return give(json, &b, &s, po__tool_restore(&r, &b, s.text, s.len));
}
