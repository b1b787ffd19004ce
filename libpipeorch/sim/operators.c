/* Those who run the cluster, while everything else goes wrong: an administrator who promotes,
 * demotes, removes and transfers, and rolling upgrades.
 *
 * A node that starts at level 1 plays the release before membership changes, until its process is
 * replaced. Meanwhile what needs level 2 has to be refused, naming such a node. In a cluster of one
 * or two voters whatever would shrink it has to be refused with that reason, and change nothing
 * (checks.c looks at the members). Nobody is removed: the end of a run wants every node there. */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "checks.h"

#define CALL_MS      1500
#define PAUSE_MIN_US 100000
#define PAUSE_MAX_US 900000

struct asked {
    uint32_t op;
    uint64_t id;
};

bool po__operators_shrink_refused(const struct po__world *w)
{
    return w->opts.administrator && w->opts.voters <= 2 && w->opts.joiners == 0;
}

/* ---- answers ---- */

static bool says(const struct po__response *r, const char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0; i + len <= r->message.len; i++)
        if (memcmp(r->message.data + i, text, len) == 0)
            return true;
    return false;
}

static bool names_an_old_node(const struct po__world *w, const struct po__response *r)
{
    char named[32], numbered[32];
    for (unsigned i = 0; i < w->opts.voters; i++) {
        snprintf(named, sizeof named, "node %s (id", w->nodes[i].name);
        snprintf(numbered, sizeof numbered, "node id %u runs", i + 1);
        if (w->opts.old_nodes >> i & 1 && (says(r, named) || says(r, numbered)))
            return true;
    }
    return false;
}

static bool says_why(const struct asked *a, const struct po__response *r)
{
    if (a->op == PO__MEMBER_TRANSFER)
        return says(r, "no voter and cannot lead") || says(r, "no other voter");
    return says(r, "it is the only voter") || says(r, "one voter would be left");
}

static void answered(struct po__world *w, struct po__simcall *c, int code, const void *resp,
                     size_t len)
{
    const struct asked *a = c->extra;
    bool shrinks = a->op == PO__MEMBER_DEMOTE || a->op == PO__MEMBER_REMOVE, right = true;
    struct po__response r = {0};
    code = code ? code : po__response_decode(resp, len, &r);
    code = code ? code : r.code;
    if (code == 0) {
        w->stats.changes++;
        right = !shrinks || !po__operators_shrink_refused(w);
    } else if (code == PO_EREFUSED) {
        w->stats.changes_refused++;
        right = a->op != PO__MEMBER_PROMOTE && says_why(a, &r);
    } else if (code == PO_EVERSION) {
        w->stats.changes_held_back++;
        right = a->op != PO__MEMBER_TRANSFER && names_an_old_node(w, &r);
    } else if (code == PO_EINVAL || code == PO_EPROTO || code == PO_ENOTFOUND) {
        right = false; /* what is asked is well-formed, and about members */
    }
    po__world_trace(w, "operation %llu on id %llu ends with code -%llu", "administrator", a->op,
                    a->id, (uint64_t)-code);
    if (!right)
        po__world_fail(w, "operation %u on node id %llu was answered with %s: %.*s", a->op,
                       (unsigned long long)a->id, po_err_name(code), (int)r.message.len,
                       r.message.data ? r.message.data : "");
}

/* ---- the administrator ---- */

static uint32_t draw(struct po__world *w)
{
    uint64_t d = po__world_random(w, 0, 99);
    if (d < 35)
        return PO__MEMBER_DEMOTE;
    if (d < 60)
        return po__operators_shrink_refused(w) ? PO__MEMBER_REMOVE : PO__MEMBER_PROMOTE;
    return d < 80 ? PO__MEMBER_PROMOTE : PO__MEMBER_TRANSFER;
}

void po__administrator_event(struct po__world *w)
{
    struct po__member_request m = {0};
    struct po__buf b;
    if (w->now_us >= w->opts.chaos_us)
        return;
    m.op = draw(w);
    /* A founder: those who join are to be voters at the end. */
    m.node_id = po__world_random(w, 1, w->opts.voters);
    unsigned target = (unsigned)po__world_random(w, 0, w->opts.voters - 1);
    struct asked *a = po__sim_alloc(sizeof *a);
    *a = (struct asked){m.op, m.node_id};
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_member(&b, CALL_MS, &m);
    PO_INVARIANT(b.err == 0);
    /* In-process, so that whichever node it is forwards it to the leader. */
    struct po__simcall *c = po__simcall_make(w, target, target, b.data, b.len, CALL_MS, answered);
    c->local = true;
    c->extra = a;
    po__simcall_send(c);
    po__buf_fini(&b);
    po__world_at(w, w->now_us + po__world_random(w, PAUSE_MIN_US, PAUSE_MAX_US), PO__EV_ADMIN, 0, 0,
                 0, NULL);
}

/* ---- upgrades ---- */

void po__upgrade_event(struct po__simnode *n)
{
    n->level = PO__FEATURE_LEVEL;
    n->world->stats.upgrades++;
    po__world_trace(n->world, "is upgraded", n->name, 0);
    po__control_crash(n, true); /* if it is down, its next process is the new one */
}

void po__operators_begin(struct po__world *w)
{
    if (w->opts.administrator)
        po__world_at(w, po__world_random(w, 300000, 900000), PO__EV_ADMIN, 0, 0, 0, NULL);
    for (unsigned i = 0; i < w->opts.voters; i++)
        if (w->opts.old_nodes >> i & 1)
            po__world_at(w, po__world_random(w, w->opts.chaos_us / 4, w->opts.chaos_us * 3 / 4),
                         PO__EV_UPGRADE, i, 0, 0, NULL);
}
