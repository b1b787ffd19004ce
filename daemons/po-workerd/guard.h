/* A worker that dies must not leave its commands running: a second process that outlives it kills
 * their groups.
 *
 * PR_SET_PDEATHSIG reaches only the command itself, not what it has started. The guard holds the
 * reading end of a pipe through which it is told which groups there are; the pipe ends when the
 * worker is gone, however that came about. */
#ifndef PO_WORKERD_GUARD_H
#define PO_WORKERD_GUARD_H

#include <sys/types.h>

#define GUARD_GROUPS_MAX                                                                           \
    4096 /* at once; more are not guarded. A worker runs at most 1024 commands at once */

/* Start it; before any thread runs. 0 or an errno. */
int guard_start(void);

/* The group of a new process, told by that process before it executes anything (async-signal-safe);
 * and that it is about to be reaped, after which its number may belong to a stranger. Without
 * guard_start they do nothing. */
void guard_add(pid_t group);
void guard_remove(pid_t group);

/* End the guard and wait for it. No command may run any more. */
void guard_stop(void);

#endif
