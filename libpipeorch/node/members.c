/* Who the members are: what peers say of themselves when they connect, and the replicated table
 * made of it.
 *
 * The table binds a node id to a data directory. A node that lost its disk and comes back under its
 * old id could vote twice in one term; its peers refuse it because it presents another directory.
 */
#include "internal.h"

#include <pipeorch/error.h>

static struct po__node_peer_copy *find_peer(struct po__node *n, uint64_t id)
{
    for (unsigned i = 0; i < n->peers_count; i++)
        if (n->peers[i].node_id == id)
            return &n->peers[i];
    return NULL;
}

static bool is_server(struct po__node *n, uint64_t id)
{
    struct po__members_view v;
    po__members_view(n, &v);
    return po__members_server(&v, id) != NULL;
}

static void stage_member(struct po__node *n, const struct po__node_peer_copy *p)
{
    struct po__member_info info;
    if (!is_server(n, p->node_id)) /* removed, and still connected: its record is not made anew */
        return;
    struct po__slice dir = po__slice(p->directory_id, sizeof p->directory_id);
    if (po__model_member(n->model, p->node_id, &info) &&
        po__slice_eq(info.name, po__str(p->name)) && po__slice_eq(info.zone, po__str(p->zone)) &&
        po__slice_eq(info.peer_address, po__str(p->peer_address)) &&
        po__slice_eq(info.worker_address, po__str(p->worker_address)) &&
        po__slice_eq(info.directory_id, dir) && info.feature_level == p->feature_level)
        return;
    n->cmd.type = PO__CMD_MEMBER;
    n->cmd.member.node_id = p->node_id;
    n->cmd.member.name = po__str(p->name);
    n->cmd.member.zone = po__str(p->zone);
    n->cmd.member.peer_address = po__str(p->peer_address);
    n->cmd.member.worker_address = po__str(p->worker_address);
    n->cmd.member.directory_id = dir;
    n->cmd.member.feature_level = p->feature_level;
    char message[256];
    int rv = po__cmd_check(&n->cmd, message, sizeof message);
    if (rv == 0)
        rv = po__stage_command(n, &n->cmd, NULL, 0);
    if (rv)
        po__warn(&n->log, "member.info", "cannot record what node %s says of itself: %s", p->name,
                 rv == PO_EINVAL ? message : po_strerror(rv));
}

static void copy_text(char *dst, size_t cap, const char *src)
{
    snprintf(dst, cap, "%s", src ? src : "");
}

void po__members_sync(struct po__node *n)
{
    if (!n->ready)
        return;
    struct po__node_peer_copy self = {.node_id = n->identity.node_id,
                                      .feature_level = n->opts.feature_level};
    copy_text(self.name, sizeof self.name, n->identity.name);
    copy_text(self.zone, sizeof self.zone, n->zone);
    copy_text(self.peer_address, sizeof self.peer_address, n->peer_address);
    copy_text(self.worker_address, sizeof self.worker_address, n->worker_address);
    memcpy(self.directory_id, n->identity.directory_id, sizeof self.directory_id);
    stage_member(n, &self);
    for (unsigned i = 0; i < n->peers_count; i++)
        if (n->peers[i].up) /* else its record may be newer than its hello: it was upgraded since */
            stage_member(n, &n->peers[i]);
}

/* Is the peer a member, as far as this node can know? PO_EREMOVED: certainly not. A leader knows.
 * Another node may lag behind, and whom it does not know may be the very leader that would tell it:
 * were it refused, this node would never learn who joined while it was away. */
static int check_member(struct po__node *n, const struct po__node_peer *peer, char *why,
                        size_t why_len)
{
    struct po__members_view v;
    po__members_view(n, &v);
    if (v.count == 0 || po__members_server(&v, peer->node_id))
        return 0; /* a node that joins knows nobody yet */
    bool left = po__replica_has_left(n->replica, peer->node_id);
    if (!left && !n->ready)
        return 0;
    snprintf(why, why_len,
             left
                 ? "node %s (id %llu) was removed from this cluster; a node that is to be a member "
                   "again joins with an empty directory, under a new id"
                 : "node %s (id %llu) is not a member of this cluster",
             peer->name, (unsigned long long)peer->node_id);
    return left ? PO_EREMOVED : PO_EREFUSED;
}

/* A slot for a peer's hello. Those of nodes that are members no more make room. */
static struct po__node_peer_copy *add_peer(struct po__node *n)
{
    for (unsigned i = 0; i < n->peers_count; i++)
        if (!n->peers[i].up && !is_server(n, n->peers[i].node_id))
            return &n->peers[i];
    return n->peers_count < PO_MEMBERS_MAX ? &n->peers[n->peers_count++] : NULL;
}

int po__node_peer_hello(struct po__node *n, const struct po__node_peer *peer, char *why,
                        size_t why_len)
{
    struct po__member_info info;
    if (n->stopping || n->fault)
        return PO_ECLOSED;
    if (peer->node_id == n->identity.node_id) {
        snprintf(
            why, why_len,
            "node %s presents our own node id %llu: two nodes were started with the same identity",
            peer->name, (unsigned long long)peer->node_id);
        return PO_EIDENTITY;
    }
    int rv = check_member(n, peer, why, why_len);
    if (rv)
        return rv;
    if (po__model_member(n->model, peer->node_id, &info) &&
        info.directory_id.len == PO__DIRECTORY_ID_BYTES &&
        memcmp(info.directory_id.data, peer->directory_id, PO__DIRECTORY_ID_BYTES) != 0) {
        snprintf(why, why_len,
                 "node %s (id %llu) comes with another data directory than the one the cluster "
                 "knows: its disk was replaced. "
                 "Add it under a new identity instead",
                 peer->name, (unsigned long long)peer->node_id);
        return PO_EIDENTITY;
    }
    struct po__node_peer_copy *p = find_peer(n, peer->node_id);
    if (!p && !(p = add_peer(n))) {
        snprintf(why, why_len, "%d peers are connected already", PO_MEMBERS_MAX);
        return PO_EBUSY;
    }
    *p = (struct po__node_peer_copy){
        .node_id = peer->node_id, .feature_level = peer->feature_level, .up = true};
    copy_text(p->name, sizeof p->name, peer->name);
    copy_text(p->zone, sizeof p->zone, peer->zone);
    copy_text(p->peer_address, sizeof p->peer_address, peer->peer_address);
    copy_text(p->worker_address, sizeof p->worker_address, peer->worker_address);
    memcpy(p->directory_id, peer->directory_id, sizeof p->directory_id);
    n->changes.look = true;
    if (n->ready)
        stage_member(n, p);
    return 0;
}

void po__node_peer_down(struct po__node *n, uint64_t peer_id)
{
    struct po__node_peer_copy *p = find_peer(n, peer_id);
    if (p) /* it may have connected anew before its old connection ended */
        p->up = n->net && n->net->up && n->net->up(n->net->arg, peer_id);
    if (!n->stopping)
        po__forward_peer_down(n, peer_id);
}

void po__node_peer_gone(struct po__node *n, uint64_t peer_id)
{
    if (!n->stopping && !n->fault)
        po__replica_peer_gone(n->replica, peer_id, po__node_now(n));
}

void po__members_dismiss(struct po__node *n)
{
    char why[256];
    for (unsigned i = 0; i < n->peers_count; i++) {
        const struct po__node_peer_copy *p = &n->peers[i];
        if (!p->up || !n->net || !n->net->refuse || !po__replica_has_left(n->replica, p->node_id))
            continue;
        snprintf(why, sizeof why, "node %s (id %llu) was removed from this cluster", p->name,
                 (unsigned long long)p->node_id);
        n->net->refuse(n->net->arg, p->node_id, PO_EREMOVED, why);
    }
}

void po__node_peer_refused(struct po__node *n, uint64_t peer_id, int code, const char *why)
{
    char message[256];
    if (n->stopping || n->fault)
        return;
    if (code != PO_EREMOVED) {
        po__warn(&n->log, "peer.refused", "node %llu refuses this node: %s",
                 (unsigned long long)peer_id, why);
        return;
    }
    snprintf(message, sizeof message,
             "node %.64s (id %llu) was removed from the cluster, says node %llu; to be a member "
             "again, it joins with an empty directory",
             n->identity.name, (unsigned long long)n->identity.node_id,
             (unsigned long long)peer_id);
    po__node_fault(n, PO_EREMOVED, message);
}

static const char *role_name(int role)
{
    return role == PO__VOTER ? "voter" : role == PO__STANDBY ? "standby" : "spare";
}

static void describe(struct po__node *n, const struct po__server *sv, struct po__member_info *info)
{
    const struct po__node_peer_copy *p = find_peer(n, sv->id);
    bool self = sv->id == n->identity.node_id;
    *info = (struct po__member_info){0};
    if (!po__model_member(n->model, sv->id, info)) { /* not recorded yet */
        info->name = po__str(self ? n->identity.name : p ? p->name : "");
        info->zone = po__str(self ? n->zone : p ? p->zone : "");
        info->worker_address = po__str(self ? n->worker_address : p ? p->worker_address : "");
    }
    if (!info->peer_address.len)
        info->peer_address = po__str(sv->address);
}

/* Keys are sorted. note NULL: as in the status, without what only the list of members has. */
void po__member_encode(struct po__node *n, const struct po__server *sv, uint64_t lag,
                       const char *note, struct po__buf *out)
{
    struct po__member_info info;
    describe(n, sv, &info);
    po__mpw_map(out, note ? 10 : 8);
    po__mpw_cstr(out, "address");
    po__mpw_str(out, info.peer_address);
    po__mpw_cstr(out, "id");
    po__mpw_uint(out, sv->id);
    if (note) {
        po__mpw_cstr(out, "lag");
        po__mpw_uint(out, sv->id == n->identity.node_id ? 0 : lag);
    }
    po__mpw_cstr(out, "leader");
    po__mpw_bool(out, sv->id == n->leader_id);
    po__mpw_cstr(out, "name");
    po__mpw_str(out, info.name);
    if (note) {
        po__mpw_cstr(out, "note");
        po__mpw_cstr(out, note);
    }
    po__mpw_cstr(out, "role");
    po__mpw_cstr(out, role_name(sv->role));
    po__mpw_cstr(out, "up");
    po__mpw_bool(out, po__members_up(n, sv->id));
    po__mpw_cstr(out, "worker_address");
    po__mpw_str(out, info.worker_address);
    po__mpw_cstr(out, "zone");
    po__mpw_str(out, info.zone);
}

/* "" if nobody has said it yet. */
static struct po__slice name_of(struct po__node *n, uint64_t id)
{
    struct po__member_info info;
    const struct po__node_peer_copy *p = find_peer(n, id);
    if (id == n->identity.node_id)
        return po__str(n->identity.name);
    if (po__model_member(n->model, id, &info))
        return info.name;
    return po__str(p ? p->name : "");
}

void po__status_encode(struct po__node *n, struct po__buf *out)
{
    static const char hex[] = "0123456789abcdef";
    char cluster_id[PO__CLUSTER_ID_BYTES * 2 + 1] = "";
    for (unsigned i = 0; i < PO__CLUSTER_ID_BYTES; i++) {
        cluster_id[i * 2] = hex[n->identity.cluster_id[i] >> 4];
        cluster_id[i * 2 + 1] = hex[n->identity.cluster_id[i] & 15];
    }
    struct po__server servers[PO_MEMBERS_MAX];
    unsigned count = po__replica_servers(n->replica, servers, PO_MEMBERS_MAX);
    struct po__replica_status st;
    struct po__model_counts k;
    po__replica_status(n->replica, &st);
    po__model_counts(n->model, &k);
    struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"log_bytes", st.log_bytes},
        {"pipelines", k.pipelines},
        {"runs_finished", k.runs_finished},
        {"runs_running", k.runs_running},
        {"snapshot_index", st.snapshot_index},
        {"tasks_finished", k.tasks_finished},
        {"tasks_pending", k.tasks_pending},
        {"tasks_running", k.tasks_running},
        {"tasks_scheduled", k.tasks_scheduled},
        {"workers", k.workers},
        {"workers_online", k.workers_online},
    };
    const unsigned numbers_count = sizeof numbers / sizeof *numbers;
    po__mpw_map(out, 7 + numbers_count); /* keys are sorted */
    po__mpw_cstr(out, "cluster_id");
    po__mpw_cstr(out, cluster_id);
    po__mpw_cstr(out, "commit_index");
    po__mpw_uint(out, st.commit_index);
    po__mpw_cstr(out, "leader");
    po__mpw_str(out, name_of(n, n->leader_id));
    po__mpw_cstr(out, "leader_id");
    po__mpw_uint(out, n->leader_id);
    po__mpw_cstr(out, numbers[0].key);
    po__mpw_uint(out, numbers[0].value);
    po__mpw_cstr(out, "members");
    po__mpw_array(out, count);
    for (unsigned i = 0; i < count; i++)
        po__member_encode(n, &servers[i], 0, NULL, out);
    po__mpw_cstr(out, "membership_change_pending");
    po__mpw_bool(out, st.membership_change_pending);
    po__mpw_cstr(out, "node"); /* who says so */
    po__mpw_cstr(out, n->identity.name);
    for (unsigned i = 1; i < numbers_count; i++) {
        po__mpw_cstr(out, numbers[i].key);
        po__mpw_uint(out, numbers[i].value);
    }
}

void po__status_publish(struct po__node *n)
{
    struct po__replica_status st = {0};
    if (n->replica)
        po__replica_status(n->replica, &st);
    size_t waiting = po__mailbox_count(&n->mailbox);
    pthread_mutex_lock(&n->status_lock);
    bool news = n->status.leader_id != n->leader_id || n->closed != n->stopping ||
                (n->fault && n->status.role != PO_ROLE_STOPPED);
    n->status = (struct po_node_status){.size = sizeof n->status,
                                        .id = n->identity.node_id,
                                        .leader_id = n->leader_id,
                                        .term = st.term,
                                        .commit_index = st.commit_index,
                                        .applied_index = st.applied_index,
                                        .last_index = st.last_index,
                                        .snapshot_index = st.snapshot_index,
                                        .role = n->fault ? PO_ROLE_STOPPED : n->role,
                                        .log_bytes = st.log_bytes,
                                        .mailbox_count = waiting,
                                        .code = n->fault};
    memcpy(n->status.message, n->fault_message, sizeof n->status.message);
    n->closed = n->stopping;
    if (news)
        pthread_cond_broadcast(&n->status_cond);
    pthread_mutex_unlock(&n->status_lock);
}
