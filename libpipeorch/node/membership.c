/* Changing who the members are: what operators and joining nodes ask of the leader.
 *
 *              add, join              connected        caught up
 *   (nobody) ─────────────▶ spare ──────────────▶ standby ───────▶ voter
 *                             ◀──── remove ──────────┴─── demote ────┘
 *
 * Three things have to survive the leader that began with them, and each is kept where it is safe:
 *
 * - Who is a member in which role is Raft's configuration. One change of it is under way at a time
 *   (consensus/membership.c).
 * - What a member is to be is a wish in the replicated table (model/members.c). The leader fulfils
 *   wishes by itself, step by step (membership_auto.c); a new leader goes on where the old one
 *   stopped. Promotion and demotion only set the wish and wait.
 * - Which directory owns a node id is in the same table. A directory draws its own id and makes it
 *   durable before it asks to join; the leader commits the spare, then the record that binds the
 *   spare's fresh node id to the directory, and only then answers. A crash of either side anywhere
 *   leaves a spare without a record, which nobody was told of, so that the next one who asks from
 *   that address may have it; or a record, by which the directory is recognised when it asks again.
 *   A directory without the record gets nothing: an id never has a second life.
 *
 * A request is kept until its goal is reached and looked at again whenever something happened,
 * which makes every request repeatable: after a lost answer or leader it is simply asked again. */
#include "internal.h"

#include <stdarg.h>

#include <pipeorch/error.h>

#define RECORD_MS 1000 /* a record that was staged and not seen by then is staged again */

/* ---- what is known ---- */

void po__members_view(struct po__node *n, struct po__members_view *v)
{
    v->count = po__replica_servers(n->replica, v->servers, PO_MEMBERS_MAX);
    v->voters = 0;
    for (unsigned i = 0; i < v->count; i++)
        v->voters += v->servers[i].role == PO__VOTER;
}

const struct po__server *po__members_server(const struct po__members_view *v, uint64_t id)
{
    for (unsigned i = 0; i < v->count; i++)
        if (v->servers[i].id == id)
            return &v->servers[i];
    return NULL;
}

/* "cp-3 (id 3)" */
static const char *describe(struct po__node *n, uint64_t id, char text[PO__MEMBER_TEXT_BYTES])
{
    struct po__member_info info;
    if (po__model_member(n->model, id, &info) && info.name.len)
        snprintf(text, PO__MEMBER_TEXT_BYTES, "%.*s (id %llu)", (int)info.name.len, info.name.data,
                 (unsigned long long)id);
    else
        snprintf(text, PO__MEMBER_TEXT_BYTES, "id %llu", (unsigned long long)id);
    return text;
}

/* ---- records and wishes ---- */

static bool may_stage(struct po__node *n)
{
    return po__node_now(n) >= n->changes.record_ms;
}

static void staged(struct po__node *n)
{
    n->changes.record_ms = po__node_now(n) + RECORD_MS;
}

void po__members_wish(struct po__node *n, uint64_t id, uint32_t wish)
{
    struct po__members_view v;
    po__members_view(n, &v);
    if (!may_stage(n) || po__level_held_back(n, &v, PO__LEVEL_WISHES, 0))
        return;
    n->cmd.type = PO__CMD_MEMBER_WISH;
    n->cmd.member_wish.node_id = id;
    n->cmd.member_wish.wish = wish;
    if (po__stage_command(n, &n->cmd, NULL, 0) == 0)
        staged(n); /* else the stage is full: with the next look */
}

void po__members_recorded(struct po__node *n)
{
    n->changes.record_ms = 0;
    n->changes.look = true;
    po__members_sync(n); /* a hello that came meanwhile was compared with the record before this */
}

static void record_joiner(struct po__node *n, uint64_t id, const struct po__member_request *m)
{
    if (!may_stage(n))
        return;
    n->cmd.type = PO__CMD_MEMBER;
    n->cmd.member.node_id = id;
    n->cmd.member.name = m->name;
    n->cmd.member.zone = m->zone;
    n->cmd.member.peer_address = m->address;
    n->cmd.member.worker_address = po__str(""); /* its hello will say */
    n->cmd.member.directory_id = m->directory_id;
    n->cmd.member.feature_level = m->feature_level;
    if (po__stage_command(n, &n->cmd, NULL, 0) == 0)
        staged(n);
}

/* ---- changes of the configuration ---- */

static void change_done(void *arg, int code, uint64_t index)
{
    struct po__node *n = arg;
    struct po__changes *g = &n->changes;
    struct po__call *c = g->call;
    (void)index; /* what it reached is looked up: see the top */
    g->call = NULL;
    g->running = false;
    g->look = true;
    if (code && !c)
        po__members_change_failed(n, code);
    if (!c)
        return;
    /* A lost leadership is not the change's fault: whoever leads next is asked again. */
    if (code && code != PO_EUNKNOWN && code != PO_ENOTLEADER && !c->answered)
        po__call_error(n, c, code, NULL);
    po__call_unref(c);
}

/* Before the replica is asked: change_done may run before it returns. */
static bool begin_change(struct po__node *n, struct po__call *c)
{
    struct po__changes *g = &n->changes;
    if (g->running)
        return false;
    g->running = true;
    g->call = c;
    if (c)
        c->refs++;
    return true;
}

/* The replica was asked and said rv; if that is an error, change_done does not run. */
static bool begun(struct po__node *n, struct po__call *c, int rv)
{
    if (rv == 0)
        return true;
    n->changes.running = false;
    n->changes.call = NULL;
    if (c && rv != PO_EBUSY && rv != PO_ENOTLEADER)
        po__call_error(n, c, rv, NULL);
    if (c)
        po__call_unref(c);
    return false;
}

static void begin_add(struct po__node *n, struct po__call *c, const char *address)
{
    if (begin_change(n, c))
        begun(n, c, po__replica_add_spare(n->replica, 0, address, change_done, n, po__node_now(n)));
}

static void begin_remove(struct po__node *n, struct po__call *c, uint64_t id)
{
    if (begin_change(n, c))
        begun(n, c, po__replica_remove(n->replica, id, change_done, n, po__node_now(n)));
}

bool po__members_set_role(struct po__node *n, uint64_t id, int role)
{
    return begin_change(n, NULL) &&
           begun(n, NULL,
                 po__replica_set_role(n->replica, id, role, change_done, n, po__node_now(n)));
}

/* ---- answers ---- */

static void reached(struct po__node *n, struct po__call *c, uint64_t id, bool cluster)
{
    po__buf_reset(&n->body);
    po__mpw_uint(&n->body, id);
    po__mpw_bin(&n->body, cluster ? po__slice(n->identity.cluster_id, PO__CLUSTER_ID_BYTES)
                                  : po__slice(NULL, 0));
    if (n->body.err)
        po__call_error(n, c, n->body.err, NULL);
    else
        po__call_answer(n, c, 0, "", po__model_index(n->model), po__buf_slice(&n->body), 2);
}

static void refuse(struct po__node *n, struct po__call *c, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void refuse(struct po__node *n, struct po__call *c, int code, const char *fmt, ...)
{
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    po__call_error(n, c, code, message);
}

/* Wishes are needed for it: are they known to every member's program, but for `except`, which goes?
 * True: not, and the call was refused. */
static bool too_old(struct po__node *n, struct po__call *c, const struct po__members_view *v,
                    uint64_t except)
{
    char text[PO__MEMBER_TEXT_BYTES];
    uint64_t id = po__level_held_back(n, v, PO__LEVEL_WISHES, except);
    if (id)
        refuse(n, c, PO_EVERSION,
               "node %s runs a version that knows no membership changes (its feature level is "
               "below %d); upgrade it first",
               describe(n, id, text), PO__LEVEL_WISHES);
    return id != 0;
}

/* ---- add, join ---- */

static bool recorded_by(struct po__node *n, struct po__slice directory_id,
                        struct po__member_info *info)
{
    for (uint64_t id = 0; po__model_member_next(n->model, id, info); id = info->node_id)
        if (po__slice_eq(info->directory_id, directory_id))
            return true;
    return false;
}

static bool recorded_as(struct po__node *n, struct po__slice name, struct po__member_info *info)
{
    for (uint64_t id = 0; po__model_member_next(n->model, id, info); id = info->node_id)
        if (po__slice_eq(info->name, name))
            return true;
    return false;
}

/* Somebody is at that address already: who asks, or in its way. */
static void meet_server(struct po__node *n, struct po__call *c, const struct po__member_request *m,
                        const struct po__server *sv)
{
    char text[PO__MEMBER_TEXT_BYTES];
    struct po__member_info info;
    bool known = po__model_member(n->model, sv->id, &info);
    if (!known && sv->role == PO__SPARE && m->op == PO__MEMBER_ADD)
        reached(n, c, sv->id, true);
    else if (!known && sv->role == PO__SPARE)
        record_joiner(n, sv->id, m); /* nobody has this id yet */
    else
        refuse(n, c, PO_EEXISTS,
               "the address %s is that of node %s already. If that node lost its disk, remove it "
               "first (poctl member remove), then let it join under a new identity; else give the "
               "new node another address",
               sv->address, describe(n, sv->id, text));
}

static void admit(struct po__node *n, struct po__call *c, const struct po__member_request *m,
                  const struct po__members_view *v)
{
    char address[PO_ADDRESS_MAX_BYTES + 1];
    struct po__member_info info;
    snprintf(address, sizeof address, "%.*s", (int)m->address.len, m->address.data);
    for (unsigned i = 0; i < v->count; i++) {
        if (strcmp(v->servers[i].address, address) == 0) {
            meet_server(n, c, m, &v->servers[i]);
            return;
        }
    }
    if (m->op == PO__MEMBER_JOIN && recorded_as(n, m->name, &info))
        refuse(n, c, PO_EEXISTS,
               "the name %.*s is that of node id %llu already. If that node lost its disk, remove "
               "it first (poctl member remove); else give the new node another name",
               (int)m->name.len, m->name.data, (unsigned long long)info.node_id);
    else if (v->count >= PO_MEMBERS_MAX)
        refuse(n, c, PO_EQUOTA,
               "the cluster has %d nodes, which is the limit; remove one before another is added",
               PO_MEMBERS_MAX);
    else if (!too_old(n, c, v, 0))
        begin_add(n, c, address);
}

static void joined(struct po__node *n, struct po__call *c, const struct po__member_request *m,
                   const struct po__members_view *v, const struct po__member_info *info)
{
    const struct po__server *sv = po__members_server(v, info->node_id);
    if (!sv)
        return; /* removed before it began; its record goes next */
    if (sv->role == PO__SPARE && m->wish == PO__WISH_STANDBY && info->wish != PO__WISH_STANDBY) {
        if (!too_old(n, c, v, 0))
            po__members_wish(n, sv->id, PO__WISH_STANDBY);
    } else {
        reached(n, c, sv->id, true);
    }
}

static void add_or_join(struct po__node *n, struct po__call *c, const struct po__member_request *m)
{
    struct po__members_view v;
    struct po__member_info info;
    po__members_view(n, &v);
    uint32_t needed = po__level_to_join(n);
    if (m->op == PO__MEMBER_JOIN && m->feature_level < needed)
        refuse(n, c, PO_EVERSION,
               "node %.*s, which is to join, has feature level %u; this cluster's log needs %u: "
               "start a newer version of it",
               (int)m->name.len, m->name.data, m->feature_level, needed);
    else if (m->op == PO__MEMBER_JOIN && recorded_by(n, m->directory_id, &info))
        joined(n, c, m, &v, &info);
    else
        admit(n, c, m, &v);
}

/* ---- promote, demote, remove ---- */

static void promote(struct po__node *n, struct po__call *c, const struct po__member_request *m)
{
    struct po__members_view v;
    struct po__member_info info;
    po__members_view(n, &v);
    const struct po__server *sv = po__members_server(&v, m->node_id);
    uint32_t wish = v.voters == 1 ? PO__WISH_VOTER_NOW : PO__WISH_VOTER;
    bool known = sv && po__model_member(n->model, sv->id, &info);
    if (!sv)
        refuse(n, c, PO_ENOTFOUND, "no member has id %llu; poctl member list shows them",
               (unsigned long long)m->node_id);
    else if (!known && sv->role != PO__VOTER)
        refuse(n, c, PO_ESTATE,
               "nobody has joined at %s yet; start the node with --join, it is promoted by itself",
               sv->address);
    else if (known &&
             (sv->role == PO__VOTER ? info.wish == PO__WISH_STANDBY
                                    : info.wish != wish && info.wish != PO__WISH_VOTER_NOW)) {
        if (!too_old(n, c, &v, 0))
            po__members_wish(n, sv->id, wish);
    } else if (sv->role == PO__VOTER) {
        reached(n, c, sv->id, false);
    }
}

/* Shrinking to one voter cannot be done safely: that one would lead terms in which others voted. */
static bool last_but_one(struct po__node *n, struct po__call *c, const struct po__members_view *v,
                         const struct po__server *sv, const char *what)
{
    char text[PO__MEMBER_TEXT_BYTES];
    if (sv->role != PO__VOTER || v->voters > 2)
        return false;
    refuse(n, c, PO_EREFUSED,
           "node %s cannot be %s: %s. Let another node join and become a voter first",
           describe(n, sv->id, text), what,
           v->voters == 1 ? "it is the only voter"
                          : "one voter would be left, which would decide alone what the other one "
                            "may have voted against");
    return true;
}

static void demote(struct po__node *n, struct po__call *c, const struct po__member_request *m)
{
    struct po__members_view v;
    struct po__member_info info;
    po__members_view(n, &v);
    const struct po__server *sv = po__members_server(&v, m->node_id);
    if (!sv)
        refuse(n, c, PO_ENOTFOUND, "no member has id %llu; poctl member list shows them",
               (unsigned long long)m->node_id);
    else if (!po__model_member(n->model, sv->id, &info))
        refuse(n, c, PO_ESTATE, "the node at %s has never been started", sv->address);
    else if (info.wish == PO__WISH_STANDBY && sv->role != PO__VOTER)
        reached(n, c, sv->id, false);
    else if (!last_but_one(n, c, &v, sv, "demoted") && info.wish != PO__WISH_STANDBY &&
             !too_old(n, c, &v, 0))
        po__members_wish(n, sv->id, PO__WISH_STANDBY);
}

static void remove_member(struct po__node *n, struct po__call *c,
                          const struct po__member_request *m)
{
    struct po__members_view v;
    po__members_view(n, &v);
    const struct po__server *sv = po__members_server(&v, m->node_id);
    struct po__replica_status st;
    po__replica_status(n->replica, &st);
    if (!sv && !st.membership_change_pending)
        reached(n, c, m->node_id, false); /* ids are not reused: it is and stays removed */
    else if (!sv || last_but_one(n, c, &v, sv, "removed") || too_old(n, c, &v, sv->id))
        return;
    else if (sv->id == n->identity.node_id)
        (void)po__handover_begin(n, 0); /* the next leader is asked again, and removes this one */
    else
        begin_remove(n, c, sv->id);
}

/* ---- transfer ---- */

static void transfer(struct po__node *n, struct po__call *c, const struct po__member_request *m)
{
    struct po__members_view v;
    char text[PO__MEMBER_TEXT_BYTES];
    uint64_t self = n->identity.node_id;
    po__members_view(n, &v);
    const struct po__server *sv = po__members_server(&v, m->node_id);
    if ((m->from && m->from != self) || m->node_id == self)
        reached(n, c, self, false);
    else if (m->node_id && !sv)
        refuse(n, c, PO_ENOTFOUND, "no member has id %llu; poctl member list shows them",
               (unsigned long long)m->node_id);
    else if (m->node_id && sv->role != PO__VOTER)
        refuse(n, c, PO_EREFUSED, "node %s is no voter and cannot lead; promote it first",
               describe(n, sv->id, text));
    else if (m->node_id && !po__members_up(n, m->node_id))
        refuse(n, c, PO_EUNREACHABLE, "node %s is not connected with the leader; is it running?",
               describe(n, sv->id, text));
    else if (n->handover.state != PO__HANDOVER_IDLE)
        return;
    else if (c->handed_over)
        refuse(n, c, PO_EUNREACHABLE,
               "the node did not take over within an election timeout; this one goes on leading");
    else {
        int rv = po__handover_begin(n, m->node_id);
        c->handed_over = rv == 0;
        if (rv == PO_EREFUSED)
            refuse(n, c, rv, "no other voter is connected that could lead");
    }
}

/* Leadership was handed on: once the next leader is known, whoever asked for it is answered. */
static void answer_transferred(struct po__node *n)
{
    struct po__list *it = n->changes.transferred.next;
    while (it != &n->changes.transferred && n->leader_id) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        struct po__request req;
        char text[PO__MEMBER_TEXT_BYTES];
        it = it->next;
        PO_INVARIANT(po__request_decode(c->data, c->len, &req) == 0); /* it was served before */
        if (req.member.node_id ? req.member.node_id == n->leader_id
                               : n->leader_id != n->identity.node_id)
            reached(n, c, n->leader_id, false);
        else
            refuse(n, c, PO_ESTATE, "node %s became the leader instead",
                   describe(n, n->leader_id, text));
    }
}

/* ---- requests ---- */

static void look_at(struct po__node *n, struct po__call *c, bool *adding)
{
    struct po__request req;
    PO_INVARIANT(po__request_decode(c->data, c->len, &req) == 0);
    const struct po__member_request *m = &req.member;
    switch (m->op) {
    case PO__MEMBER_ADD:
    case PO__MEMBER_JOIN:
        if (!*adding) /* one after the other: the second must see the first one's record */
            add_or_join(n, c, m);
        *adding = true;
        break;
    case PO__MEMBER_PROMOTE:
        promote(n, c, m);
        break;
    case PO__MEMBER_DEMOTE:
        demote(n, c, m);
        break;
    case PO__MEMBER_REMOVE:
        remove_member(n, c, m);
        break;
    default:
        transfer(n, c, m);
    }
}

static bool well_formed(const struct po__member_request *m, char *message, size_t len)
{
    if (m->op < PO__MEMBER_ADD || m->op > PO__MEMBER_TRANSFER) {
        snprintf(message, len,
                 "unknown membership operation %u; is the client newer than this node?", m->op);
        return false;
    }
    if (m->op == PO__MEMBER_TRANSFER)
        return true;
    if (m->op >= PO__MEMBER_PROMOTE) {
        snprintf(message, len, "a node id is required; ids begin with 1");
        return m->node_id != 0;
    }
    /* An address goes into Raft's configuration as a C string. */
    if (m->address.len == 0 || memchr(m->address.data, 0, m->address.len)) {
        snprintf(message, len, "the new node needs a peer address \"host:port\"");
        return false;
    }
    snprintf(message, len, "a node that joins has a name, a zone and a directory id of %d bytes",
             PO__DIRECTORY_ID_BYTES);
    return m->op == PO__MEMBER_ADD ||
           (po__name_ok(m->name) && po__name_ok(m->zone) &&
            m->directory_id.len == PO__DIRECTORY_ID_BYTES && m->wish <= PO__WISH_STANDBY);
}

void po__members_request(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    char message[256];
    if (!well_formed(&req->member, message, sizeof message)) {
        po__call_error(n, c, PO_EINVAL, message);
        return;
    }
    po__list_push(&n->changes.waiting, &c->link);
    n->changes.look = true;
    n->redispatch = true; /* another round of this turn looks */
}

void po__members_timed_out(struct po__node *n, struct po__call *c)
{
    po__call_error(n, c, PO_ETIMEDOUT,
                   "not reached within the timeout. What was asked for is remembered and goes on; "
                   "poctl member list shows how far it is");
}

/* ---- as time goes by ---- */

void po__members_lost(struct po__node *n)
{
    struct po__list *it, waiting;
    n->changes.record_ms = 0;
    po__list_init(&waiting);
    while ((it = po__list_pop(&n->changes.waiting)))
        po__list_push(&waiting, it);
    while ((it = po__list_pop(&waiting))) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        if (c->handed_over)
            po__list_push(&n->changes.transferred, &c->link);
        else
            po__call_retry(n, c);
    }
    po__handover_lost(n);
}

void po__members_tick(struct po__node *n, uint64_t now)
{
    struct po__changes *g = &n->changes;
    if (n->fault)
        return;
    if (now >= g->departed_ms) {
        g->departed_ms = now + PO__MEMBERS_IDLE_MS;
        po__members_dismiss(n);
    }
    answer_transferred(n);
    if (!n->ready)
        return;
    po__handover_tick(n, now);
    if (!g->look && now < g->look_ms)
        return;
    g->look = false;
    bool adding = false;
    struct po__list *it = g->waiting.next;
    while (it != &g->waiting) {
        struct po__call *c = po__container_of(it, struct po__call, link);
        it = it->next;
        look_at(n, c, &adding);
    }
    bool more = po__members_auto(n, now);
    g->look_ms = now + (more || !po__list_empty(&g->waiting) ? PO__SWEEP_MS : PO__MEMBERS_IDLE_MS);
}

uint64_t po__members_deadline(const struct po__node *n)
{
    const struct po__changes *g = &n->changes;
    if (n->fault)
        return UINT64_MAX;
    uint64_t at = n->peers_count ? g->departed_ms : UINT64_MAX;
    if (n->ready && (g->look ? 0 : g->look_ms) < at)
        at = g->look ? 0 : g->look_ms;
    return at;
}
