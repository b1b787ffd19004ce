/* What the replica tells the node: entries to apply, snapshots to take and restore, roles, faults.
 */
#include "internal.h"

#include <pipeorch/error.h>

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    (void)term;
    return po__commit_apply(arg, index, data, len, token);
}

static void on_dropped(void *arg, void *token)
{
    po__commit_dropped(arg, token);
}

static int on_snapshot_begin(void *arg)
{
    return po__model_snapshot_begin(((struct po__node *)arg)->model);
}

static int on_snapshot_step(void *arg, struct po__buf *out, size_t budget_bytes)
{
    return po__model_snapshot_step(((struct po__node *)arg)->model, out, budget_bytes);
}

static void on_snapshot_abort(void *arg)
{
    po__model_snapshot_abort(((struct po__node *)arg)->model);
}

static int on_restore_begin(void *arg, uint64_t index)
{
    struct po__node *n = arg;
    po__model_close(n->restoring);
    n->restoring = NULL;
    n->restoring_index = index;
    return po__model_open(&n->restoring, &n->app);
}

static int on_restore_chunk(void *arg, const void *data, size_t len)
{
    return po__model_restore_chunk(((struct po__node *)arg)->restoring, data, len);
}

static int on_restore_end(void *arg)
{
    struct po__node *n = arg;
    int rv = po__model_restore_end(n->restoring);
    if (rv)
        return rv;
    po__model_close(n->model);
    n->model = n->restoring;
    n->restoring = NULL;
    po__model_set_index(n->model, n->restoring_index);
    po__watch_restored(n, n->restoring_index);
    return 0;
}

/* From the first own entry on, the leader's clock goes on from the highest stamp of its
 * predecessors, at the pace of the monotonic clock: it neither jumps with the wall clock nor goes
 * back. */
static void start_clock(struct po__node *n)
{
    uint64_t wall = n->env.wall_ms(n->env.arg);
    uint64_t last = po__model_now_ms(n->model);
    n->clock_base_ms = wall > last ? wall : last;
    n->clock_base_mono = po__node_now(n);
    n->last_stamp_ms = n->clock_base_ms;
}

void po__lose_leadership(struct po__node *n)
{
    struct po__tree_node *node;
    n->ready = false;
    po__members_lost(n);
    po__stage_drop(n);
    po__sessions_clear(n);
    po__schedules_clear(n);
    po__streams_clear(n);
    po__watches_lost(n);
    while ((node = po__tree_first(&n->waits))) {
        struct po__call *c = po__container_of(node, struct po__call, by_wait);
        po__wait_remove(n, c);
        po__call_retry(n, c);
    }
}

static void on_role(void *arg, int role, uint64_t leader_id, uint64_t term, bool leader_ready)
{
    struct po__node *n = arg;
    bool news =
        role != n->role || leader_id != n->leader_id || term != n->term || leader_ready != n->ready;
    n->role = role;
    n->leader_id = leader_id;
    n->term = term;
    if (n->ready && !leader_ready)
        po__lose_leadership(n);
    if (!n->ready && leader_ready) {
        n->ready = true;
        start_clock(n);
        if (po__sessions_start(n))
            po__warn(&n->log, "node.memory",
                     "out of memory for worker sessions: silent workers may stay online until they "
                     "poll");
        po__members_sync(n);
        po__members_elected(n);
        n->watch.announce = true;
        po__info(&n->log, "raft.leader", "leader of term %llu", (unsigned long long)term);
    } else if (news && leader_id && role == PO_ROLE_FOLLOWER) {
        po__info(&n->log, "raft.follower", "follows node %llu in term %llu",
                 (unsigned long long)leader_id, (unsigned long long)term);
    }
    n->redispatch = n->redispatch || news;
}

void po__node_fault(struct po__node *n, int code, const char *message)
{
    if (n->fault)
        return;
    n->fault = code ? code : PO_EFAULT;
    snprintf(n->fault_message, sizeof n->fault_message, "%s",
             message && *message ? message : po_strerror(code));
    n->ready = false;
    n->leader_id = 0;
    po__error(&n->log, "node.fault", "the node stopped: %s", n->fault_message);
}

static void on_fault(void *arg, int code, const char *message)
{
    po__node_fault(arg, code, message);
}

const struct po__state_ops po__node_state_ops = {
    .apply = on_apply,
    .dropped = on_dropped,
    .snapshot_begin = on_snapshot_begin,
    .snapshot_step = on_snapshot_step,
    .snapshot_abort = on_snapshot_abort,
    .restore_begin = on_restore_begin,
    .restore_chunk = on_restore_chunk,
    .restore_end = on_restore_end,
    .role_changed = on_role,
    .fault = on_fault,
};
