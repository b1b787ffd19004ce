/* Changing who the members are, one committed step at a time.
 *
 *   (nobody) --add--> spare --> standby --probe, catch up--> voter
 *
 * A change begins only on a leader that has applied an entry of its own term, with no other change
 * uncommitted and no catch-up running (guard 4). A server that is to receive entries must answer
 * first; one that is to vote must have caught up, for a voter that is away can block even its own
 * removal. A leader never removes or demotes itself: it hands over first and the caller repeats the
 * call at the new leader. The cluster never shrinks to one voter: that one would lead terms in
 * which others have voted (guard 3). An id is for one directory's life: a fresh one is made of the
 * index of the very entry that adds the server (po__fresh_id), hence never given again. */
#include "replica_impl.h"

#include <string.h>

#include "../base/assert.h"

/* Keeps the answers to probes apart from those to reads. */
#define PROBE_SEQUENCE ((uint64_t)1 << 63)

static void end(struct po__replica *r, int code, uint64_t index)
{
    struct po__membership done = r->change;

    r->change = (struct po__membership){.sequence = done.sequence};
    if (done.cb)
        done.cb(done.arg, code, index);
}

static void commit(struct po__replica *r)
{
    struct po__membership *c = &r->change;
    uint8_t bytes[PO__CONF_MAX_BYTES];
    size_t len = po__conf_encode(&c->next, bytes);
    int rv = po__submit(r, 3, bytes, len, &c->index);

    if (rv)
        end(r, rv, 0);
    else
        c->state = PO__CHANGE_COMMITTING;
}

static void probe(struct po__replica *r)
{
    struct po__msg m = {.type = PO__MSG_PING, .term = po__core_term(r->core)};

    m.ping.sequence = r->change.sequence | PROBE_SEQUENCE;
    r->change.ping_ms = r->now_ms;
    po__send(r, r->change.id, &m);
}

/* What every change asks of the moment; *conf: the present configuration. */
static int may_change(struct po__replica *r, struct po__conf *conf)
{
    if (!po__is_leader(r) || !r->ready)
        return PO_ENOTLEADER;
    if (r->change.state != PO__CHANGE_IDLE || po__core_uncommitted_conf(r->core) != 0 ||
        po__core_transferee(r->core) != 0)
        return PO_EBUSY;
    *conf = r->servers;
    return 0;
}

static void begin(struct po__replica *r, const struct po__conf *next, uint64_t id, bool must_answer,
                  po__read_cb cb, void *arg)
{
    struct po__membership *c = &r->change;

    c->next = *next;
    c->id = id;
    c->cb = cb;
    c->arg = arg;
    c->answered = false;
    c->sequence++;
    if (!must_answer) {
        commit(r);
        return;
    }
    c->state = PO__CHANGE_PROBING;
    c->deadline_ms = r->now_ms + 2 * (uint64_t)r->o.election_ms;
    probe(r);
}

/* May this voter be taken away? */
static int may_lose_voter(struct po__replica *r, const struct po__conf *conf, uint64_t id)
{
    if (id == r->o.id) {
        int rv = po__core_transfer(r->core, r->now_ms, 0);
        po__check_core(r, rv);
        return rv == PO_ENOTFOUND ? PO_EREFUSED : PO_ENOTLEADER;
    }
    return po__conf_is_voter(conf, id) && po__conf_voters(conf) <= 2 ? PO_EREFUSED : 0;
}

int po__replica_add_spare(struct po__replica *r, uint64_t id, const char *address, po__read_cb cb,
                          void *arg, uint64_t now_ms)
{
    struct po__conf conf;
    int rv = po__enter(r, now_ms);

    if (rv)
        return rv;
    rv = may_change(r, &conf);
    if (id == 0) /* what begin() submits at once is the next entry */
        id = po__fresh_id(po__core_last(r->core) + 1);
    if (rv == 0)
        rv = po__conf_add(&conf, id, address, PO__SPARE);
    if (rv == 0)
        begin(r, &conf, id, false, cb, arg);
    return po__leave(r, rv);
}

static int set_role(struct po__replica *r, uint64_t id, int role, po__read_cb cb, void *arg)
{
    struct po__conf conf;
    int rv = may_change(r, &conf);
    if (rv)
        return rv;
    struct po__conf_server *s = (struct po__conf_server *)po__conf_find(&conf, id);
    if (!s)
        return PO_ENOTFOUND;
    if (role != PO__VOTER && role != PO__STANDBY && role != PO__SPARE)
        return PO_EINVAL;
    if (s->role == role || (s->role == PO__SPARE && role == PO__VOTER))
        return PO_ESTATE; /* nothing to do; or: make it a standby first */
    if (s->role == PO__VOTER) {
        rv = may_lose_voter(r, &conf, id);
        if (rv)
            return rv;
    }
    s->role = role;
    begin(r, &conf, id,
          role == PO__VOTER || (role == PO__STANDBY && !po__conf_is_voter(&r->servers, id)), cb,
          arg);
    return 0;
}

int po__replica_set_role(struct po__replica *r, uint64_t id, int role, po__read_cb cb, void *arg,
                         uint64_t now_ms)
{
    int rv = po__enter(r, now_ms);
    return rv ? rv : po__leave(r, set_role(r, id, role, cb, arg));
}

int po__replica_remove(struct po__replica *r, uint64_t id, po__read_cb cb, void *arg,
                       uint64_t now_ms)
{
    struct po__conf conf;
    int rv = po__enter(r, now_ms);

    if (rv)
        return rv;
    rv = may_change(r, &conf);
    if (rv == 0 && !po__conf_find(&conf, id))
        rv = PO_ENOTFOUND;
    if (rv == 0)
        rv = may_lose_voter(r, &conf, id);
    if (rv == 0) {
        po__conf_remove(&conf, id);
        begin(r, &conf, id, false, cb, arg);
    }
    return po__leave(r, rv);
}

int po__replica_transfer(struct po__replica *r, uint64_t id, uint64_t now_ms)
{
    int rv = po__enter(r, now_ms);
    if (rv)
        return rv;
    rv = po__core_transfer(r->core, r->now_ms, id);
    po__check_core(r, rv);
    return po__leave(r, rv);
}

/* ---- what is known of others ---- */

uint64_t po__replica_match(const struct po__replica *r, uint64_t id)
{
    return po__is_leader(r) ? po__core_match(r->core, id) : 0;
}

bool po__replica_has_left(const struct po__replica *r, uint64_t id)
{
    struct po__conf applied;
    uint64_t added = id <= PO_MEMBERS_MAX ? 1 : id - PO_MEMBERS_MAX;

    if (r->fault || r->conf.len == 0 || r->applied < added || po__conf_find(&r->servers, id))
        return false;
    PO_INVARIANT(po__conf_decode(&applied, r->conf.bytes, r->conf.len) == 0);
    return !po__conf_find(&applied, id);
}

/* ---- as time goes by ---- */

static void catch_up(struct po__replica *r)
{
    struct po__membership *c = &r->change;

    if (po__core_match(r->core, c->id) == po__core_last(r->core)) {
        commit(r); /* current already: the core would wait for news that never come */
        return;
    }
    c->state = PO__CHANGE_CATCHING_UP;
    int rv = po__core_catch_up(r->core, r->now_ms, c->id);
    po__check_core(r, rv);
}

void po__membership_tick(struct po__replica *r)
{
    struct po__membership *c = &r->change;

    if (c->state == PO__CHANGE_PROBING) {
        if (c->answered && po__conf_is_voter(&c->next, c->id))
            catch_up(r);
        else if (c->answered)
            commit(r);
        else if (r->now_ms >= c->deadline_ms)
            end(r, PO_EUNREACHABLE, 0);
        else if (r->now_ms >= c->ping_ms + r->o.heartbeat_ms)
            probe(r);
    }
    if (c->state == PO__CHANGE_CATCHING_UP) {
        enum po__catch_up state = po__core_catch_up_state(r->core, c->id);
        if (state == PO__CATCH_UP_DONE)
            commit(r);
        else if (state != PO__CATCH_UP_RUNNING)
            end(r, PO_EUNREACHABLE, 0); /* too slow, or away */
    }
}

uint64_t po__membership_deadline(const struct po__replica *r)
{
    const struct po__membership *c = &r->change;

    if (c->state == PO__CHANGE_PROBING)
        return c->answered ? 0 : c->ping_ms + r->o.heartbeat_ms;
    if (c->state == PO__CHANGE_CATCHING_UP &&
        po__core_catch_up_state(r->core, c->id) != PO__CATCH_UP_RUNNING)
        return 0;
    return UINT64_MAX;
}

void po__membership_pong(struct po__replica *r, uint64_t peer, uint64_t sequence)
{
    struct po__membership *c = &r->change;

    if (c->state == PO__CHANGE_PROBING && peer == c->id &&
        sequence == (c->sequence | PROBE_SEQUENCE))
        c->answered = true;
}

void po__membership_applied(struct po__replica *r, uint64_t index)
{
    if (r->change.state == PO__CHANGE_COMMITTING && r->change.index == index)
        end(r, 0, index);
}

void po__membership_lost(struct po__replica *r, int code)
{
    if (r->change.state == PO__CHANGE_COMMITTING)
        end(r, PO_EUNKNOWN, 0);
    else if (r->change.state != PO__CHANGE_IDLE)
        end(r, code, 0);
}
