/* What must hold in a simulated world. Each function is told of something that happened and fails
 * the run (po__world_fail) if it breaks a promise.
 *
 *   before a command    no member's program is too old to know it
 *   after every entry   equal digests at equal index; terms and indexes never fall; one leader of
 *                       a term; the model's own invariant (po__model_check)
 *   at every answer     an acknowledged key keeps its id; a read sees what was acknowledged before
 *                       it was asked; one accepted result per task, and never from an old token
 *   at every grant      tokens are granted once, and rise from attempt to attempt
 *   at the end          a leader in time, every task and run finished, every acknowledged command
 *                       there and there once, all members of one state */
#ifndef PO__SIM_CHECKS_H
#define PO__SIM_CHECKS_H

#include "world.h"

void po__checks_begin(struct po__world *w);
void po__checks_free(struct po__world *w);

/* Before every command of every node. */
void po__checks_applying(struct po__simnode *n, uint64_t index, const struct po__cmd *cmd);
/* After every entry of every node, and after every turn. */
void po__checks_applied(struct po__simnode *n, uint64_t index);
void po__checks_turn(struct po__simnode *n);
void po__checks_started(struct po__simnode *n);
/* A node stopped itself with this code: may it? */
void po__checks_fault(struct po__simnode *n, int code, const char *message);

/* A command that was answered with code 0: its key's number, the id and the index. */
enum po__acked_kind { PO__ACKED_TASK, PO__ACKED_RUN, PO__ACKED_APP };
void po__checks_acked(struct po__world *w, enum po__acked_kind kind, uint64_t number, uint64_t id,
                      uint64_t index);
uint64_t po__checks_acked_index(const struct po__world *w); /* highest */
void po__checks_read(struct po__world *w, uint64_t index, uint64_t acked_before);
void po__checks_granted(struct po__world *w, const struct po__simworker *x, uint64_t task_id,
                        uint64_t token, uint32_t attempt);
void po__checks_completed(struct po__world *w, const struct po__simworker *x, uint64_t task_id,
                          uint64_t token);

/* A worker that was silent since silent_us speaks again: it must have been marked offline in time.
 */
void po__checks_silent(struct po__world *w, const struct po__simworker *x);

bool po__checks_quiet(struct po__world *w); /* every task and run is finished, on a ready leader */
void po__checks_end(struct po__world *w);

#endif
