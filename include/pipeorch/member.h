/* Who the control nodes are, changed while the cluster runs. SPDX-License-Identifier: MIT
 *
 * A spare replicates nothing, a standby replicates without a vote, a voter votes. A new node is
 * started with po_node_opts.join (po-controld --join): it becomes a spare, a standby as soon as it
 * is connected, and a voter by itself once it has caught up. Of several that have, the one whose
 * zone has the fewest voters comes first. One voter alone is not made two, which survive the loss
 * of neither: the first newcomer stays a standby until a second one has caught up (or until it is
 * promoted by a call), and both are promoted back to back.
 *
 * One change is under way at a time; calls that come meanwhile wait for their turn. Each call names
 * a goal, and returns 0 when it is reached, by this call or by an earlier one: repeating a call
 * whose outcome is unknown is always safe. After PO_ETIMEDOUT the cluster goes on pursuing the goal
 * of promote and demote; po_member_list shows how far it is.
 *
 * Node ids are never given twice. A node that lost its disk does not come back under its old id:
 * remove it, and let it join with an empty directory.
 *
 * Threads: any client, in-process or over the network, on any thread; blocking calls are refused
 * with PO_EINVAL in callbacks of the same client, and the callback of an _async twin runs as
 * client.h says. Ownership: all inputs are copied before return. Units: opts->timeout_ms bounds the
 * whole call, the wait for its turn and its goal included (1..PO_TIMEOUT_MAX_MS; NULL or 0: the
 * default of po_call_opts). Node ids are from 1 on. Errors: an _async twin returns as client.h
 * says, and gives its result the codes that the blocking call returns. `as po_apply` is meant as in
 * client.h and includes PO_EVERSION: the leader, or a member, runs a release without these calls.
 */
#ifndef PIPEORCH_MEMBER_H
#define PIPEORCH_MEMBER_H

#include <pipeorch/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The members (at most PO_MEMBERS_MAX) as JSON text in *json, set on success only, the caller's, to
 * be released with po_free; the twin's result->data is valid in the callback only:
 *   {"change_pending": bool, "leader_id": n, "members": [{"address", "id", "lag", "leader", "name",
 *    "note", "role", "up", "worker_address", "zone"}, ...], "voters": n}
 * role: "spare", "standby" or "voter"; lag: log entries that the leader does not know to be on the
 * node; up: connected with the leader; note: what keeps the node from becoming what it is to be, ""
 * if nothing does. Linearizable. Any thread. Returns as po_query. Since 0.1. */
PO_API int po_member_list(po_client *client, const struct po_call_opts *opts, char **json);
PO_API int po_member_list_async(po_client *client, const struct po_call_opts *opts, po_result_cb cb,
                                void *arg);

/* Make a place for a node that is not there yet: a spare with the advertised peer address
 * ("host:port", at most PO_ADDRESS_MAX_BYTES) and a fresh id in *node_id (may be NULL; result->id
 * of the twin). The node that joins from that address takes the place. Nodes join without it, too;
 * it tells their ids beforehand. Returns 0, PO_EINVAL, PO_EEXISTS (the address is a member's),
 * PO_EQUOTA (PO_MEMBERS_MAX nodes), or as po_apply. Any thread. Since 0.1. */
PO_API int po_member_add(po_client *client, const char *address, const struct po_call_opts *opts,
                         uint64_t *node_id);
PO_API int po_member_add_async(po_client *client, const char *address,
                               const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Make a standby a voter, and wait until it is one: it has to be connected and to catch up.
 * Returns 0, PO_ENOTFOUND (no member has this id), PO_ESTATE (nobody has joined under it yet),
 * PO_ETIMEDOUT (it goes on), PO_EINVAL (node_id is 0), or as po_apply. Any thread. Since 0.1. */
PO_API int po_member_promote(po_client *client, uint64_t node_id, const struct po_call_opts *opts);
PO_API int po_member_promote_async(po_client *client, uint64_t node_id,
                                   const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Make a voter a standby, which it stays until it is promoted. A leader hands over first. Returns
 * 0, PO_ENOTFOUND, PO_EREFUSED (one voter would be left), PO_ETIMEDOUT (it goes on),
 * PO_EINVAL (node_id is 0), or as po_apply. Any thread. Since 0.1. */
PO_API int po_member_demote(po_client *client, uint64_t node_id, const struct po_call_opts *opts);
PO_API int po_member_demote_async(po_client *client, uint64_t node_id,
                                  const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Remove a node for good. A leader hands over first. The node, if it runs, is told and stops
 * (PO_ROLE_STOPPED with code PO_EREMOVED); its directory is of no use any more. The node need not
 * be reachable. Returns 0 (also for an id that is no member's, as of one removed before),
 * PO_EREFUSED (one voter would be left), PO_EINVAL (node_id is 0), or as po_apply. Any thread.
 * Since 0.1. */
PO_API int po_member_remove(po_client *client, uint64_t node_id, const struct po_call_opts *opts);
PO_API int po_member_remove_async(po_client *client, uint64_t node_id,
                                  const struct po_call_opts *opts, po_result_cb cb, void *arg);

/* Hand leadership to a voter, 0: to the fittest other one, and wait until it leads. What is under
 * way commits before, what comes meanwhile goes to the next leader: no call fails. *leader_id (may
 * be NULL) receives who leads then. Returns 0, PO_ENOTFOUND, PO_EREFUSED (no voter, or no other one
 * is connected), PO_EUNREACHABLE (it did not take over within an election timeout; the old leader
 * goes on), PO_ESTATE (another node became the leader), or as po_apply. Any thread. Since 0.1. */
PO_API int po_member_transfer(po_client *client, uint64_t node_id, const struct po_call_opts *opts,
                              uint64_t *leader_id);
PO_API int po_member_transfer_async(po_client *client, uint64_t node_id,
                                    const struct po_call_opts *opts, po_result_cb cb, void *arg);

#ifdef __cplusplus
}
#endif
#endif
