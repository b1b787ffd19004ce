/* Linearizable reads without a log entry (ReadIndex), and waits for an index.
 *
 * The core has no such thing, so it is done here: note the commit index, ask every voter of the
 * current configuration for its term, and when a majority (this leader included) answered with
 * ours, nobody else can have committed anything before the question was asked. All reads that wait
 * share one round; those that come during a round wait for the next, because its index was noted
 * before they came. A leader starts no round before an entry of its own term is applied: until then
 * its commit index may lie behind what its predecessor acknowledged. No clock is involved. */
#include "replica_impl.h"

#include <pipeorch/node.h>
#include "../base/alloc.h"
#include "../base/assert.h"

static struct po__read *read_of(struct po__list *link)
{
    return po__container_of(link, struct po__read, link);
}

void po__reads_init(struct po__reads *q)
{
    po__list_init(&q->waiting);
    po__list_init(&q->round);
    po__list_init(&q->confirmed);
}

static int add(struct po__replica *r, struct po__list *list, uint64_t index, po__read_cb cb,
               void *arg)
{
    if (r->reads.count == PO__READS_MAX)
        return PO_EBUSY;
    struct po__read *read = po__malloc(sizeof *read);
    if (!read)
        return PO_ENOMEM;
    *read = (struct po__read){.cb = cb, .arg = arg, .index = index};
    po__list_push(list, &read->link);
    r->reads.count++;
    return 0;
}

static void finish(struct po__replica *r, struct po__read *read, int code)
{
    struct po__read done = *read;

    po__list_remove(&read->link);
    po__free(read);
    r->reads.count--;
    done.cb(done.arg, code, code ? 0 : done.index);
}

static void fail_all(struct po__replica *r, struct po__list *list, int code)
{
    struct po__list *link;
    while ((link = po__list_first(list)))
        finish(r, read_of(link), code);
}

int po__replica_read(struct po__replica *r, po__read_cb cb, void *arg, uint64_t now_ms)
{
    int rv = po__enter(r, now_ms);
    if (rv)
        return rv;
    rv = po__is_leader(r) ? add(r, &r->reads.waiting, 0, cb, arg) : PO_ENOTLEADER;
    return po__leave(r, rv);
}

int po__replica_wait_applied(struct po__replica *r, uint64_t index, po__read_cb cb, void *arg)
{
    if (r->fault)
        return PO_EFAULT;
    return add(r, &r->reads.confirmed, index, cb, arg);
}

void po__reads_applied(struct po__replica *r)
{
    struct po__list *head = &r->reads.confirmed, *link = head->next, *next;

    for (; link != head; link = next) {
        next = link->next;
        if (read_of(link)->index <= r->applied)
            finish(r, read_of(link), 0);
    }
}

void po__reads_lost(struct po__replica *r)
{
    r->reads.active = false;
    fail_all(r, &r->reads.waiting, PO_ENOTLEADER);
    fail_all(r, &r->reads.round, PO_ENOTLEADER);
}

void po__reads_stop(struct po__replica *r, int code)
{
    r->reads.active = false;
    fail_all(r, &r->reads.waiting, code);
    fail_all(r, &r->reads.round, code);
    fail_all(r, &r->reads.confirmed, code);
}

static void send_pings(struct po__replica *r)
{
    struct po__msg m = {.type = PO__MSG_PING, .term = r->reads.term};

    m.ping.sequence = r->reads.sequence;
    r->reads.sent_ms = r->now_ms;
    for (unsigned i = 0; i < r->servers.count; i++)
        if (r->servers.servers[i].role == PO__VOTER && r->servers.servers[i].id != r->o.id)
            po__send(r, r->servers.servers[i].id, &m);
}

/* Counted against the configuration of this moment, ourselves included if we vote. */
static void check_majority(struct po__replica *r)
{
    struct po__reads *q = &r->reads;
    unsigned answers = po__conf_is_voter(&r->servers, r->o.id);
    struct po__list *link;

    for (unsigned i = 0; i < q->acks_count; i++)
        answers += po__conf_is_voter(&r->servers, q->acks[i]);
    if (answers <= po__conf_voters(&r->servers) / 2)
        return;
    q->active = false;
    while ((link = po__list_pop(&q->round))) {
        read_of(link)->index = q->index;
        po__list_push(&q->confirmed, link);
    }
}

void po__reads_tick(struct po__replica *r)
{
    struct po__reads *q = &r->reads;
    struct po__list *link;

    if (q->active && q->term == po__core_term(r->core) &&
        r->now_ms >= q->sent_ms + r->o.heartbeat_ms)
        send_pings(r);
    if (!q->active && r->ready && po__is_leader(r) && !po__list_empty(&q->waiting)) {
        while ((link = po__list_pop(&q->waiting)))
            po__list_push(&q->round, link);
        q->active = true;
        q->sequence++;
        q->index = po__core_commit(r->core);
        q->term = po__core_term(r->core);
        q->acks_count = 0;
        send_pings(r);
        check_majority(r);
    }
    po__reads_applied(r);
}

uint64_t po__reads_deadline(const struct po__replica *r)
{
    const struct po__reads *q = &r->reads;

    if (q->active)
        return q->sent_ms + r->o.heartbeat_ms;
    return r->ready && !po__list_empty(&q->waiting) ? 0 : UINT64_MAX;
}

void po__reads_ping(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__msg pong = {.type = PO__MSG_PONG, .term = po__core_term(r->core)};
    pong.ping.sequence = m->ping.sequence;
    po__send(r, peer, &pong);
}

void po__reads_pong(struct po__replica *r, uint64_t peer, const struct po__msg *m)
{
    struct po__reads *q = &r->reads;

    po__membership_pong(r, peer, m->ping.sequence);
    if (!q->active || m->ping.sequence != q->sequence || m->term != q->term ||
        q->term != po__core_term(r->core) || !po__is_leader(r) || q->acks_count == PO_MEMBERS_MAX)
        return;
    for (unsigned i = 0; i < q->acks_count; i++)
        if (q->acks[i] == peer)
            return;
    q->acks[q->acks_count++] = peer;
    check_majority(r);
    po__reads_applied(r);
}
