/* Control nodes as they described themselves: what redirects and status show. A node id belongs to
 * one data directory for ever; another directory that speaks under the same id is refused. */
#include "impl.h"

static struct po__member *member_of(const struct po__tree_node *n)
{
    return po__container_of(n, struct po__member, by_id);
}

static int id_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__cmp_u64(member_of(a)->info.node_id, member_of(b)->info.node_id);
}

static int id_key(const void *key, const struct po__tree_node *n)
{
    return po__cmp_u64(*(const uint64_t *)key, member_of(n)->info.node_id);
}

struct po__member *po__member_find(const struct po__model *m, uint64_t node_id)
{
    struct po__tree_node *n = po__tree_find(&m->members, &node_id, id_key);
    return n ? member_of(n) : NULL;
}

struct po__tree_node *po__member_after(const struct po__model *m, uint64_t node_id)
{
    uint64_t from = node_id + 1;
    return node_id == UINT64_MAX ? NULL : po__tree_lower_bound(&m->members, &from, id_key);
}

int po__model_member(const struct po__model *m, uint64_t node_id, struct po__member_info *info)
{
    struct po__member *mb = po__member_find(m, node_id);
    if (!mb)
        return 0;
    *info = mb->info;
    return 1;
}

int po__model_member_next(const struct po__model *m, uint64_t node_id, struct po__member_info *info)
{
    struct po__tree_node *n = po__member_after(m, node_id);
    if (!n)
        return 0;
    *info = member_of(n)->info;
    return 1;
}

void po__model_forget_members(struct po__model *m)
{
    struct po__tree_node *n;
    PO_PRE(!m->snap.active);
    while ((n = po__tree_first(&m->members))) {
        po__tree_remove(&m->members, n);
        po__free(member_of(n));
    }
}

struct po__member *po__member_make(struct po__model *m, const struct po__member_info *i)
{
    size_t text = i->name.len + i->zone.len + i->peer_address.len + i->worker_address.len +
                  i->directory_id.len + 5;
    struct po__member *mb = po__malloc(sizeof *mb + text);
    if (!mb) {
        po__oom(m);
        return NULL;
    }
    char *at = mb->text;
    mb->epoch = m->snap.epoch;
    mb->info = *i;
    mb->info.name = po__put(&at, i->name);
    mb->info.zone = po__put(&at, i->zone);
    mb->info.peer_address = po__put(&at, i->peer_address);
    mb->info.worker_address = po__put(&at, i->worker_address);
    mb->info.directory_id = po__put(&at, i->directory_id);
    po__tree_node_init(&mb->by_id);
    return mb;
}

bool po__member_link(struct po__model *m, struct po__member *mb)
{
    return !po__tree_insert(&m->members, &mb->by_id, id_cmp);
}

/* Another node of that name, if there is one. */
static const struct po__member *namesake(const struct po__model *m, const struct po__member_info *i)
{
    for (struct po__tree_node *n = po__tree_first(&m->members); n; n = po__tree_next(n))
        if (member_of(n)->info.node_id != i->node_id &&
            po__slice_eq(member_of(n)->info.name, i->name))
            return member_of(n);
    return NULL;
}

void po__cmd_member(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__member_info info = {
        .node_id = cmd->member.node_id,
        .name = cmd->member.name,
        .zone = cmd->member.zone,
        .peer_address = cmd->member.peer_address,
        .worker_address = cmd->member.worker_address,
        .directory_id = cmd->member.directory_id,
        .feature_level = cmd->member.feature_level,
    };
    struct po__member *old = po__member_find(m, info.node_id);
    const struct po__member *other = namesake(m, &info);
    m->result.id = info.node_id;
    if (old)
        info.wish =
            old->info.wish; /* what a node says of itself does not change what it is to be */
    if (old && !po__slice_eq(old->info.directory_id, info.directory_id)) {
        po__refuse(m, PO_EIDENTITY,
                   "node id %llu (\"%s\") belongs to another data directory; start the node with "
                   "the directory it had",
                   (unsigned long long)info.node_id, old->info.name.data);
        return;
    }
    if (other) {
        po__refuse(m, PO_EEXISTS,
                   "node id %llu is named \"%s\" already; give each node its own name",
                   (unsigned long long)other->info.node_id, other->info.name.data);
        return;
    }
    if (!old && m->members.count >= PO_MEMBERS_MAX) {
        po__refuse(m, PO_EQUOTA, "the cluster has %d nodes, which is the limit", PO_MEMBERS_MAX);
        return;
    }
    struct po__member *mb = po__member_make(m, &info);
    if (!mb)
        return;
    if (old) {
        po__touch_member(m, old);
        mb->epoch = old->epoch; /* the place in the view is the old one's */
        po__tree_remove(&m->members, &old->by_id);
        po__free(old);
    }
    PO_INVARIANT(po__member_link(m, mb));
    po__fx(m, PO__FX_MEMBER, info.node_id, 0, 0);
    po__news_node(m, PO_WATCH_MEMBER_CHANGED, info.node_id, 0);
}

void po__cmd_member_wish(struct po__model *m, const struct po__cmd *cmd)
{
    struct po__member *mb = po__member_find(m, cmd->member_wish.node_id);
    m->result.id = cmd->member_wish.node_id;
    if (cmd->member_wish.wish == PO__WISH_GONE) { /* repeated by every new leader: no error */
        if (!mb)
            return;
        po__touch_member(m, mb);
        po__tree_remove(&m->members, &mb->by_id);
        po__free(mb);
    } else if (!mb) {
        po__refuse(m, PO_ENOTFOUND, "node id %llu has no record; has the node been started?",
                   (unsigned long long)cmd->member_wish.node_id);
        return;
    } else {
        po__touch_member(m, mb);
        mb->info.wish = cmd->member_wish.wish;
    }
    po__fx(m, PO__FX_MEMBER, cmd->member_wish.node_id, 0, 0);
    po__news_node(
        m, cmd->member_wish.wish == PO__WISH_GONE ? PO_WATCH_MEMBER_GONE : PO_WATCH_MEMBER_CHANGED,
        cmd->member_wish.node_id, 0);
}
