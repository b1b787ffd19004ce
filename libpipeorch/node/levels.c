/* Which feature level the cluster is at: that of the oldest program among its members.
 *
 * Everybody applies every entry, so a command that one member's program does not know would stop
 * that member with a fault, for good. Hence nothing enters the log that the oldest of them does not
 * know. What a member's program knows is in its record, and in its hello, which may be newer; the
 * lower of the two counts, as the record may be on its way still. A member of which neither is
 * known was never started. The level only rises: who joins must know all that the members know by
 * then, as it may be in the log. */
#include "internal.h"

static uint32_t level_of(struct po__node *n, uint64_t id)
{
    struct po__member_info info;
    uint32_t level = id == n->identity.node_id ? n->opts.feature_level : UINT32_MAX;
    for (unsigned i = 0; i < n->peers_count; i++)
        if (n->peers[i].node_id == id)
            level = n->peers[i].feature_level;
    if (po__model_member(n->model, id, &info) && info.feature_level < level)
        level = info.feature_level;
    return level;
}

bool po__level_reached(struct po__node *n, uint32_t level)
{
    if (n->level_reached == 0) {
        struct po__members_view v;
        po__members_view(n, &v);
        n->level_reached = PO__FEATURE_LEVEL;
        while (n->level_reached > 1 && po__level_held_back(n, &v, n->level_reached, 0))
            n->level_reached--;
    }
    return n->level_reached >= level;
}

uint32_t po__level_to_join(struct po__node *n)
{
    uint32_t level = PO__LEVEL_WISHES;
    while (level < PO__FEATURE_LEVEL && po__level_reached(n, level + 1))
        level++;
    return level;
}

uint64_t po__level_held_back(struct po__node *n, const struct po__members_view *v, uint32_t level,
                             uint64_t except)
{
    for (unsigned i = 0; i < v->count; i++)
        if (v->servers[i].id != except && level_of(n, v->servers[i].id) < level)
            return v->servers[i].id;
    return 0;
}
