/* Time travel: the state as of an entry, and questions to it.
 *
 * The state is built by the very code that a node runs, from the snapshot or, where the log still
 * begins with the first entry, from nothing; so also indexes before the snapshot can be had as long
 * as the log was not cut. Application commands are handed to a state machine that does nothing:
 * what they mean is their program's business, and nothing else in the state depends on it. */
#include "replay.h"

#include <stdio.h>
#include <string.h>

#include <pipeorch/client.h>
#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../spec/spec.h"
#include "out.h"

/* ---- in the application's place ---- */

static int skip_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                      size_t *result_len)
{
    struct po__replay *r = arg;
    (void)index, (void)cmd, (void)len, (void)result;
    r->app_commands++;
    *result_len = 0;
    return 0;
}

static int skip_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len),
                         void *ctx)
{
    (void)arg, (void)write, (void)ctx;
    return 0;
}

static int skip_restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

/* ---- life ---- */

static int prepare(struct po__replay *r, char *error, size_t error_len)
{
    memset(r, 0, sizeof *r);
    r->nothing = (struct po_state_machine){.size = sizeof r->nothing,
                                           .arg = r,
                                           .apply = skip_apply,
                                           .snapshot = skip_snapshot,
                                           .restore = skip_restore};
    int rv = po__content_init(&r->content, &r->nothing);
    if (rv)
        snprintf(error, error_len, "out of memory");
    return rv;
}

int po__replay_init(struct po__replay *r, const char *data_dir, char *error, size_t error_len)
{
    int rv = prepare(r, error, error_len);
    return rv ? rv : po__directory_open(&r->dir, data_dir, true, error, error_len);
}

int po__replay_init_disk(struct po__replay *r, struct po__disk *disk, char *error, size_t error_len)
{
    int rv = prepare(r, error, error_len);
    if (rv) {
        disk->ops->destroy(disk);
        return rv;
    }
    return po__directory_open_disk(&r->dir, disk, error, error_len);
}

void po__replay_fini(struct po__replay *r)
{
    po__directory_close(&r->dir);
    po__content_fini(&r->content);
}

/* ---- the way through the log ---- */

uint64_t po__replay_first(const struct po__replay *r)
{
    return r->dir.first_index == 1 ? 0 : r->dir.recovery.snapshot.index;
}

struct hooks {
    struct po__replay *r;
    int (*entry)(void *arg, const struct po__rec *rec);
    int (*command)(void *arg, const struct po__rec *rec, uint64_t now_ms,
                   const struct po__cmd *cmd);
    void *arg;
};

static int note_entry(void *arg, const struct po__rec *rec)
{
    struct hooks *h = arg;
    h->r->index = rec->index;
    h->r->term = rec->term;
    if (rec->type == 3 && po__conf_decode(&h->r->conf, po__rec_payload(rec), rec->len))
        return PO_ECORRUPT;
    return h->entry ? h->entry(h->arg, rec) : 0;
}

static int check_range(const struct po__replay *r, uint64_t from, uint64_t until, char *error,
                       size_t error_len)
{
    unsigned long long first = po__replay_first(r), last = r->dir.recovery.last_index;
    uint64_t earliest = from < until ? from : until;
    if (until != UINT64_MAX && until > last) {
        snprintf(error, error_len, "the log ends with the entry %llu; there is no %llu", last,
                 (unsigned long long)until);
        return PO_EINVAL;
    }
    if (earliest < first) {
        snprintf(error, error_len,
                 "the log does not reach back to %llu: the state can be had as of %llu, where the "
                 "snapshot was taken, to %llu",
                 (unsigned long long)earliest, first, last);
        return PO_EINVAL;
    }
    return 0;
}

static int give_command(void *arg, const struct po__rec *rec, uint64_t now_ms,
                        const struct po__cmd *cmd)
{
    struct hooks *h = arg;
    return h->command(h->arg, rec, now_ms, cmd);
}

int po__replay_run(struct po__replay *r, uint64_t from, uint64_t until,
                   int (*entry)(void *arg, const struct po__rec *rec),
                   int (*command)(void *arg, const struct po__rec *rec, uint64_t now_ms,
                                  const struct po__cmd *cmd),
                   void *arg, char *error, size_t error_len)
{
    const struct po__snapshot_meta *snap = &r->dir.recovery.snapshot;
    struct hooks hooks = {r, entry, command, arg};
    struct po__walk w = {.c = &r->content,
                         .from_nothing = from < snap->index || until < snap->index,
                         .until = until,
                         .entry = note_entry,
                         .command = command ? give_command : NULL,
                         .arg = &hooks};
    int rv = check_range(r, from, until, error, error_len);
    if (rv)
        return rv;
    if (!w.from_nothing && snap->index) {
        r->index = snap->index;
        r->term = snap->term;
        rv = po__conf_decode(&r->conf, snap->conf, snap->conf_len); /* it was decoded before */
    }
    rv = rv ? rv : po__directory_walk(&r->dir, &w, error, error_len);
    r->time_ms = po__model_now_ms(r->content.model);
    return rv;
}

void po__replay_notes(const struct po__replay *r, struct po__buf *text)
{
    const struct po__directory *d = &r->dir;
    uint64_t committed = po__directory_committed(d);
    for (unsigned i = 0; i < d->notes_count; i++)
        po__buf_printf(text, "%s\n", d->notes[i]);
    if (d->rewrite_pending)
        po__buf_printf(text, "a change of the whole directory was interrupted; what is shown is "
                             "what the next start makes of it\n");
    if (r->index > committed)
        po__buf_printf(text,
                       "committed for certain up to %llu; the directory of one node cannot tell "
                       "whether the entries behind it, up to %llu, were\n",
                       (unsigned long long)committed, (unsigned long long)r->index);
    if (r->app_commands)
        po__buf_printf(text,
                       "%llu commands of the application are left out: its state is not known "
                       "here\n",
                       (unsigned long long)r->app_commands);
}

/* ---- questions ---- */

static void put_member(struct po__buf *b, const struct po__replay *r,
                       const struct po__conf_server *s)
{
    struct po__member_info info = {0};
    po__model_member(r->content.model, s->id, &info); /* not known: nothing was recorded yet */
    po__mpw_map(b, 8);
    po__out_text(b, "address", info.peer_address.len ? info.peer_address : po__str(s->address));
    po__out_uint(b, "id", s->id);
    po__out_bool(b, "leader", false);
    po__out_text(b, "name", info.name);
    po__out_cstr(b, "role", po__role_word(s->role));
    po__mpw_cstr(b, "up"); /* who led, and who was connected, is in nobody's log */
    po__mpw_nil(b);
    po__out_text(b, "worker_address", info.worker_address);
    po__out_text(b, "zone", info.zone);
}

/* The keys of a running cluster's status, as far as a directory knows them. */
static void put_status(struct po__buf *b, const struct po__replay *r)
{
    const struct po__directory *d = &r->dir;
    struct po__model_counts k;
    po__model_counts(r->content.model, &k);
    po__mpw_map(b, 17);
    po__out_bin(b, "cluster_id", d->identity.cluster_id, sizeof d->identity.cluster_id);
    po__out_uint(b, "commit_index", po__directory_committed(d));
    po__out_uint(b, "first_index", po__replay_first(r));
    po__out_uint(b, "last_index", d->recovery.last_index);
    po__mpw_cstr(b, "leader");
    po__mpw_nil(b);
    po__mpw_cstr(b, "members");
    po__mpw_array(b, r->conf.count);
    for (unsigned i = 0; i < r->conf.count; i++)
        put_member(b, r, &r->conf.servers[i]);
    po__out_cstr(b, "node", d->identity.name);
    po__out_uint(b, "pipelines", k.pipelines);
    po__out_uint(b, "runs_finished", k.runs_finished);
    po__out_uint(b, "runs_running", k.runs_running);
    po__out_uint(b, "snapshot_index", d->recovery.snapshot.index);
    po__out_uint(b, "tasks_finished", k.tasks_finished);
    po__out_uint(b, "tasks_pending", k.tasks_pending);
    po__out_uint(b, "tasks_running", k.tasks_running);
    po__out_uint(b, "tasks_scheduled", k.tasks_scheduled);
    po__out_uint(b, "workers", k.workers);
    po__out_uint(b, "workers_online", k.workers_online);
}

/* The state that was asked in front, as in the answers of a cluster. */
static int answer(struct po__buf *json, const struct po__replay *r, struct po__buf *mp)
{
    struct po__buf map = {0};
    int rv = po__out_json(&map, mp);
    if (!rv && (map.len <= 2 || map.data[0] != '{'))
        rv = PO_EPROTO;
    if (!rv) {
        po__buf_printf(json, "{\"index\":%llu,\"term\":%llu,\"time_ms\":%llu,",
                       (unsigned long long)r->index, (unsigned long long)r->term,
                       (unsigned long long)r->time_ms);
        rv = po__buf_append(json, map.data + 1, map.len); /* with the final NUL */
        json->len -= json->err ? 0 : 1;
    }
    po__buf_fini(&map);
    return rv;
}

/* A route may name a range of versions: "verb:name@^1.2". */
static int read_range(struct po__query *q, struct po__buf *encoded, char *error, size_t error_len)
{
    struct po__placement p = {0};
    const char *at = memchr(q->name.data, '@', q->name.len);
    if (!at)
        return 0;
    p.range = po__slice(at + 1, (size_t)(q->name.data + q->name.len - at - 1));
    q->name.len = (size_t)(at - q->name.data);
    int rv = po__placement_check(&p, error, error_len);
    if (rv)
        return rv;
    po__placement_encode(encoded, &p);
    q->placement = po__buf_slice(encoded);
    if (encoded->err)
        snprintf(error, error_len, "out of memory for a placement");
    return encoded->err;
}

int po__replay_query(const struct po__replay *r, const struct po_query *query, struct po__buf *json,
                     char *error, size_t error_len)
{
    struct po__query q = {.what = query->what,
                          .id = query->id,
                          .name = po__str(query->name ? query->name : ""),
                          .name2 = po__str(query->name2 ? query->name2 : ""),
                          .limit = query->limit};
    struct po__buf mp = {0}, placement = {0};
    const char *message = "";
    int rv = q.what == PO_QUERY_ROUTE ? read_range(&q, &placement, error, error_len) : 0;
    if (rv) {
        po__buf_fini(&placement);
        return rv;
    }
    if (q.what == PO_QUERY_STATUS)
        put_status(&mp, r);
    else
        rv = po__model_query(r->content.model, &q, &mp, &message);
    po__buf_fini(&placement);
    if (rv)
        po__buf_fini(&mp);
    else
        rv = answer(json, r, &mp);
    if (rv)
        snprintf(error, error_len, "%s", *message ? message : po_strerror(rv));
    return rv;
}

/* ---- for others ---- */

int po__tool_replay_open(struct po__replay **out, const char *data_dir, uint64_t until, char *error,
                         size_t error_len)
{
    struct po__replay *r = po__calloc(1, sizeof *r);
    *out = NULL;
    snprintf(error, error_len, "out of memory");
    if (!r)
        return PO_ENOMEM;
    int rv = po__replay_init(r, data_dir, error, error_len);
    rv = rv ? rv : po__replay_run(r, UINT64_MAX, until, NULL, NULL, NULL, error, error_len);
    if (rv)
        po__tool_replay_close(r);
    else
        *out = r;
    return rv;
}

void po__tool_replay_close(struct po__replay *r)
{
    if (r)
        po__replay_fini(r);
    po__free(r);
}

void po__tool_replay_notes(const struct po__replay *r, struct po__buf *text)
{
    po__replay_notes(r, text);
}

int po__tool_replay_query(const struct po__replay *r, const struct po_query *query,
                          struct po__buf *json, char *error, size_t error_len)
{
    return po__replay_query(r, query, json, error, error_len);
}
