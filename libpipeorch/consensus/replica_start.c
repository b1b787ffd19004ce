/* A replica's life: the first record of a cluster, recovery from the store, start, stop. */
#include "replica_impl.h"

#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "../base/assert.h"

/* ---- start and stop ---- */

struct recover {
    struct po__replica *r;
    int rv;
    uint64_t index; /* of the record that failed */
};

static int recover_record(void *arg, const struct po__rec *rec)
{
    struct recover *rc = arg;
    struct po__log *log = &rc->r->log;
    struct po__conf conf;

    rc->index = rec->index;
    if (rec->type == 3 && po__conf_decode(&conf, po__rec_payload(rec), rec->len))
        return rc->rv = PO_ECORRUPT;
    /* Below what we have: it supersedes all of it, and what it continued is trimmed already, being
     * covered by the snapshot. */
    if (log->count == 0 || rec->index < log->first)
        po__log_reset(log, rec->index);
    if (rec->index > po__log_last(log) + 1)
        return rc->rv = PO_ECORRUPT;
    po__log_truncate(log, rec->index);
    struct po__block *b = po__block_new(PO__REC_BYTES(rec->len));
    if (!b || po__log_reserve(log, 1)) {
        po__block_unref(b);
        return rc->rv = PO_ENOMEM;
    }
    memcpy(b->data, rec, b->bytes);
    po__log_append(log, b, (const struct po__rec *)(void *)b->data, 0);
    po__block_unref(b);
    return 0;
}

static int recover(struct po__replica *r, struct po__recovery *rec, char *error, size_t error_len)
{
    struct recover rc = {r, 0, 0};
    const struct po__snapshot_meta *snap = &rec->snapshot;

    int rv = po__store_recover(r->o.store, rec, recover_record, &rc, error, error_len);
    if (rc.rv) {
        rv = rc.rv;
        snprintf(error, error_len, "recovery: log record %llu, after %llu..%llu: %s",
                 (unsigned long long)rc.index, (unsigned long long)r->log.first,
                 (unsigned long long)po__log_last(&r->log),
                 rv == PO_ENOMEM ? "no memory left"
                                 : "a malformed configuration, or a gap in the log");
    }
    if (rv)
        return rv;
    if (r->log.count == 0)
        po__log_reset(&r->log, snap->index + 1);
    if (po__core_discard_log(snap, &r->log)) {
        po__warn(&r->o.log, "raft.discard",
                 "the log does not continue the snapshot at %llu and is discarded: a snapshot was "
                 "being installed when this node stopped",
                 (unsigned long long)snap->index);
        po__store_reset_log(r->o.store, snap->index + 1);
        po__log_reset(&r->log, snap->index + 1);
    }
    /* A node writes its term before it writes entries of that term. So metadata that is older than
     * the log is not the one that was written last, and its vote means nothing. */
    const struct po__log_slot *last = po__log_get(&r->log, po__log_last(&r->log));
    uint64_t log_term = last ? last->rec->term : 0;
    if (rec->term < log_term || rec->term < snap->term) {
        snprintf(
            error, error_len,
            "meta: its term is %llu, but the log or snapshot holds entries of term %llu: newer "
            "metadata was lost, and without it this node could vote twice; rejoin the cluster "
            "as a new node",
            (unsigned long long)rec->term,
            (unsigned long long)(log_term > snap->term ? log_term : snap->term));
        return PO_ECORRUPT;
    }
    if (snap->index == 0 && r->log.count && r->log.first != 1) {
        snprintf(error, error_len,
                 "recovery: the log begins at %llu and there is no snapshot of what came before",
                 (unsigned long long)r->log.first);
        return PO_ECORRUPT;
    }
    if (snap->index == 0)
        return 0;
    r->applied = r->snapshot_index = snap->index;
    r->conf.index = snap->conf_index;
    r->conf.len = snap->conf_len;
    struct po__conf conf;
    if (snap->conf_len > PO__CONF_MAX_BYTES || po__conf_decode(&conf, snap->conf, snap->conf_len)) {
        snprintf(error, error_len, "recovery: the snapshot at %llu has a malformed configuration",
                 (unsigned long long)snap->index);
        return PO_ECORRUPT;
    }
    memcpy(r->conf.bytes, snap->conf, snap->conf_len);
    rv = po__snapshot_restore_now(r, snap);
    if (rv)
        snprintf(error, error_len, "recovery: the snapshot at %llu could not be restored: %s",
                 (unsigned long long)snap->index, po_strerror(rv));
    return rv;
}

int po__replica_start(struct po__replica **replica, const struct po__replica_opts *opts,
                      uint64_t now_ms, char *error, size_t error_len)
{
    struct po__recovery *rec = NULL;
    int rv = PO_ENOMEM;

    PO_PRE(opts->id && opts->address && opts->store && opts->state);
    PO_PRE(opts->election_ms > 0 && opts->heartbeat_ms > 0 &&
           opts->inflight_max <= PO__INFLIGHT_MAX);
    PO_PRE(strlen(opts->address) <= PO_ADDRESS_MAX_BYTES);
    snprintf(error, error_len, "no memory left");
    struct po__replica *r = po__calloc(1, sizeof *r);
    if (!r)
        return PO_ENOMEM;
    r->o = *opts;
    r->now_ms = now_ms;
    snprintf(r->address, sizeof r->address, "%s", opts->address);
    r->o.address = r->address;
    if (r->o.inflight_max == 0)
        r->o.inflight_max = PO__INFLIGHT_DEFAULT;
    po__log_init(&r->log, 1);
    po__reads_init(&r->reads);
    r->told.role = -1;
    r->servers_stale = true;
    r->pending = po__calloc(r->o.inflight_max, sizeof *r->pending);
    rec = po__calloc(1, sizeof *rec);
    if (!r->pending || !rec || po__heap_install())
        goto err;
    rv = recover(r, rec, error, error_len);
    if (rv)
        goto err;
    struct po__core_opts co = {.id = opts->id,
                               .address = r->address,
                               .election_ms = opts->election_ms,
                               .heartbeat_ms = opts->heartbeat_ms,
                               .seed = opts->seed,
                               .ops = &po__core_work,
                               .arg = r};
    snprintf(error, error_len, "no memory left");
    rv = po__core_create(&r->core, &co);
    if (rv == 0)
        rv = po__reserve(r, 0);
    if (rv)
        goto err;
    rv = po__core_start(r->core, now_ms, rec->term, rec->vote, &rec->snapshot, &r->log);
    po__check_core(r, rv);
    if (r->fault) {
        snprintf(error, error_len, "%s", r->fault_message);
        rv = r->fault;
        goto err;
    }
    po__free(rec);
    *replica = r;
    po__leave(r, 0);
    return 0;

err:
    r->fault_told = true; /* the caller hears of it by the return value */
    po__free(rec);
    po__replica_stop(r);
    return rv;
}

void po__replica_stop(struct po__replica *r)
{
    if (!r)
        return;
    if (!r->fault_told) {
        po__snapshot_stop(r);
        po__drop_pending(r);
        po__membership_lost(r, PO_ECLOSED);
        po__reads_stop(r, PO_ECLOSED);
    }
    po__core_destroy(r->core);
    po__log_fini(&r->log);
    po__free(r->pending);
    po__free(r);
}

int po__replica_bootstrap_record(struct po__rec **rec, const struct po__server *servers,
                                 unsigned count)
{
    uint8_t bytes[PO__CONF_MAX_BYTES];
    struct po__conf conf = {0};
    int rv;

    *rec = NULL;
    for (unsigned i = 0; i < count; i++) {
        rv = po__conf_add(&conf, servers[i].id, servers[i].address, servers[i].role);
        if (rv)
            return rv;
    }
    if (po__conf_voters(&conf) == 0)
        return PO_EINVAL;
    size_t len = po__conf_encode(&conf, bytes);
    struct po__rec *out = po__calloc(1, PO__REC_BYTES(len));
    if (!out)
        return PO_ENOMEM;
    *out = (struct po__rec){.len = (uint32_t)len, .index = 1, .term = 1, .type = 3};
    memcpy(out + 1, bytes, len);
    po__rec_seal(out);
    *rec = out;
    return 0;
}
