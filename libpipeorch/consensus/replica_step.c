/* The work of a step: what the core asks for, in the order in which it asks (core.h), and applying
 * what is committed. */
#include "replica_impl.h"

#include <string.h>

#include <pipeorch/node.h>
#include "../base/assert.h"

/* ---- sending ---- */

static void send_frame(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    if (!r->o.transport)
        return;
    struct po__frame *f = po__wire_encode(m, &r->log);
    if (f) /* out of memory is a lost message: everything is sent again */
        r->o.transport->send(r->o.transport_arg, peer, f);
}

/* The core counts entries, networks count bytes: what does not fit into one frame goes into
 * several, what does not fit into the window stays here, and the peer's next answer brings the core
 * back to it. */
static void send_append(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__msg part = *m;
    uint32_t left = m->append.count;
    size_t queued = r->o.transport ? r->o.transport->queued_bytes(r->o.transport_arg, peer) : 0;

    do {
        size_t bytes = 0;
        part.append.count = 0;
        while (part.append.count < left && part.append.count < PO__WIRE_RECORDS_MAX &&
               bytes < PO__APPEND_FRAME_BYTES && queued + bytes < PO__APPEND_WINDOW_BYTES) {
            uint64_t index = part.append.prev_index + 1 + part.append.count;
            const struct po__log_slot *s = po__log_get(&r->log, index);
            PO_INVARIANT(s);
            bytes += PO__REC_BYTES(s->rec->len);
            part.append.count++;
        }
        send_frame(r, peer, &part);
        if (part.append.count == 0)
            return;
        left -= part.append.count;
        queued += bytes;
        part.append.prev_index += part.append.count;
        part.append.prev_term = po__log_get(&r->log, part.append.prev_index)->rec->term;
    } while (left && queued < PO__APPEND_WINDOW_BYTES);
}

void po__send(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    if (m->type == PO__MSG_APPEND)
        send_append(r, peer, m);
    else
        send_frame(r, peer, m);
}

/* ---- the work of a step (struct po__core_ops) ---- */

static int on_vote(void *arg, uint64_t term, uint64_t vote)
{
    struct po__replica *r = arg;
    return po__store_set_vote(r->o.store, term, vote);
}

static void on_role(void *arg)
{
    struct po__replica *r = arg;

    r->ready = false;
    po__core_own_term_committed(r->core, 0);
    r->barrier_needed = po__is_leader(r);
    po__info(&r->o.log, "raft.role", "%s in term %llu",
             po__is_leader(r)                              ? "leader"
             : po__core_role(r->core) == PO_ROLE_CANDIDATE ? "candidate"
                                                           : "follower",
             (unsigned long long)po__core_term(r->core));
}

static void write_done(void *arg, uint64_t token)
{
    struct po__replica *r = arg;
    if (token > r->write_durable)
        r->write_durable = token;
}

static int on_append(void *arg, const struct po__core_entry *entries, unsigned count)
{
    struct po__replica *r = arg;
    uint64_t first = entries[0].rec->index;

    PO_INVARIANT(first <= po__log_last(&r->log) + 1);
    if (first <= r->applied) {
        po__fault(r, PO_ECORRUPT,
                  "the leader's log contradicts the entry %llu, which is committed here: its data "
                  "or ours is damaged; "
                  "do not restart this node before that is understood",
                  (unsigned long long)first);
        return PO_ECORRUPT;
    }
    if (first <= po__log_last(&r->log)) {
        po__log_truncate(&r->log, first);
        r->servers_stale = true;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct po__rec *rec = entries[i].rec;
        po__log_append(&r->log, entries[i].block, rec, ++r->write_last);
        int rv = po__store_append(r->o.store, rec, write_done, r, r->write_last);
        if (rv)
            return rv;
        r->servers_stale |= rec->type == 3;
        if (po__is_leader(r) && rec->term == po__core_term(r->core))
            r->barrier_needed = false;
    }
    if (po__is_leader(r)) /* on its way to the disk before it is on its way to the peers */
        po__store_flush(r->o.store);
    return 0;
}

static void on_install(void *arg)
{
    struct po__replica *r = arg;
    r->servers_stale = true;
    po__snapshot_installing(r);
}

static void on_send(void *arg, uint64_t peer, const struct po__msg *m)
{
    struct po__replica *r = arg;
    if (m->type == PO__MSG_SNAPSHOT)
        po__snapshot_wanted(r, peer);
    else
        po__send(r, peer, m);
}

/* ---- applying ---- */

static void *take_token(struct po__replica *r, uint64_t index)
{
    struct po__pending *p = &r->pending[r->pending_head];

    if (r->pending_count == 0 || p->index != index)
        return NULL;
    r->pending_head = (r->pending_head + 1) % r->o.inflight_max;
    r->pending_count--;
    return p->token;
}

static void apply_one(struct po__replica *r, const struct po__rec *rec)
{
    int rv = 0;

    r->applied_bytes += PO__REC_BYTES(rec->len);
    if (rec->type == 1) {
        void *token = take_token(r, rec->index);
        rv = r->o.state->apply(r->o.state_arg, rec->index, rec->term, po__rec_payload(rec),
                               rec->len, token);
        if (rv)
            po__fault(r, rv, "the state machine refused the committed entry %llu: %s",
                      (unsigned long long)rec->index, po_strerror(rv));
    }
    r->applied = rec->index;
    if (po__is_leader(r) && rec->term == po__core_term(r->core) && !r->ready) {
        r->ready = true;
        po__core_own_term_committed(r->core, rec->index);
    }
    if (rec->type == 3) {
        r->conf.index = rec->index;
        r->conf.len = rec->len;
        memcpy(r->conf.bytes, po__rec_payload(rec), rec->len);
        r->servers_stale = true;
        po__check_core(
            r, po__core_configuration(r->core, r->now_ms, rec->index, r->conf.bytes, r->conf.len));
        po__membership_applied(r, rec->index);
    }
}

/* What is committed is in the log, except while a snapshot replaces it. */
static void apply_committed(struct po__replica *r)
{
    while (!r->fault && !po__core_installing(r->core) && r->applied < po__core_commit(r->core)) {
        const struct po__log_slot *s = po__log_get(&r->log, r->applied + 1);
        PO_INVARIANT(s);
        struct po__block *keep = po__block_ref(s->block);
        apply_one(r, s->rec);
        po__block_unref(keep);
    }
}

static void tell_servers(struct po__replica *r)
{
    struct po__server list[PO_MEMBERS_MAX];
    struct po__conf conf;

    if (!r->servers_stale)
        return;
    r->servers_stale = false;
    po__core_conf(r->core, &conf);
    if (po__conf_equal(&conf, &r->servers))
        return;
    r->servers = conf;
    for (unsigned i = 0; i < r->servers.count; i++)
        list[i] = (struct po__server){r->servers.servers[i].id, r->servers.servers[i].address,
                                      r->servers.servers[i].role};
    if (r->o.transport)
        r->o.transport->servers(r->o.transport_arg, list, r->servers.count);
}

static void submit_barrier(struct po__replica *r)
{
    uint64_t zero = 0, index;

    r->barrier_needed = false;
    int rv = po__submit(r, 2, &zero, sizeof zero, &index);
    if (rv && !r->fault)
        po__fault(r, rv, "a new leader could not append its first entry: %s", po_strerror(rv));
}

/* Runs after each step; steps made in here do not run it again, the loops below see their results.
 */
static void on_settled(void *arg)
{
    struct po__replica *r = arg;

    if (r->settling)
        return;
    r->settling = true;
    if (!po__is_leader(r)) {
        po__drop_pending(r);
        po__reads_lost(r);
        po__membership_lost(r, PO_ENOTLEADER);
    }
    tell_servers(r);
    apply_committed(r);
    if (!r->fault && r->barrier_needed && po__is_leader(r))
        submit_barrier(r);
    apply_committed(r);
    tell_servers(r);
    if (!r->fault)
        po__reads_applied(r);
    r->settling = false;
}

const struct po__core_ops po__core_work = {on_vote,    on_role, on_append,
                                           on_install, on_send, on_settled};
