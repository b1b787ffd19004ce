/* Faults on demand, for tests of programs that embed control nodes. SPDX-License-Identifier: MIT
 *
 * PROVISIONAL. What is declared here may change or go in any release; its symbols carry the
 * version PIPEORCH_PROVISIONAL, and a program that uses them is to be compiled anew for each one.
 *
 * A cluster of several nodes in one process can be treated here as machines and networks treat
 * processes: each node can be stopped in its tracks, cut off from others, and killed. Each fault
 * acts on one node and is over when it is taken back or the node is stopped. A node costs nothing
 * more as long as none is asked for.
 *
 * Threads: any but the node's own (PO_EINVAL in its callbacks). A call waits for the end of the
 * node's turn under way, milliseconds unless a callback of the application blocks. */
#ifndef PIPEORCH_TESTING_H
#define PIPEORCH_TESTING_H

#include <pipeorch/node.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As SIGSTOP (paused not 0) and SIGCONT (0) of the node's process: when this returns, the node
 * stands still between two turns, or goes on. It answers nobody, and its clocks have gone on when
 * it does; the system goes on accepting connections and data for it until buffers are full. Calls
 * made in-process wait until it goes on, their timeouts too. What the disk was given before is
 * written. Twice is once; stopping or crashing the node ends it. Returns 0, PO_EINVAL, PO_ECLOSED
 * (it crashed before).
 * Since 0.3. */
PO_API int po_testing_pause(po_node *node, int paused);

/* No link with these peers, named by node id, from now on; one with all others. count 0: with all.
 * As behind a router that drops packets: nothing passes, in either direction and although the peer
 * knows nothing of it, nothing is refused, and no connection is seen to end. What was under way on
 * a connection arrives late, when the link is back. Workers and clients still reach the node.
 * peer_ids (at most PO_MEMBERS_MAX, each from 1 on; may be unknown to the node) is borrowed for the
 * call. A paused node can be cut. Returns 0 (also if the node has no peers), PO_EINVAL, PO_ECLOSED
 * (it crashed before).
 * Since 0.3. */
PO_API int po_testing_cut(po_node *node, const uint64_t *peer_ids, size_t count);

/* As kill -9 of the node's process: all its connections end at once, whatever was to leave on them;
 * nothing that waits for the disk is written; nobody is told. What has been written stays, as it
 * does when a process dies and its machine does not. Unlike a killed process it finishes the write
 * that the disk is busy with, and calls in-process that wait are answered: PO_EUNKNOWN or
 * PO_ECLOSED, as later ones are. Blocks until all that is done. The node is to be released
 * with po_node_stop, after which its directory may be opened again. Twice is once, one call at a
 * time. Returns 0, PO_EINVAL.
 * Since 0.3. */
PO_API int po_testing_crash(po_node *node);

#ifdef __cplusplus
}
#endif

#endif
