/* Start a process in a group of its own, with pipes, and with no descriptor or signal state of ours
 * leaking into it. */
#ifndef PO_WORKERD_SPAWN_H
#define PO_WORKERD_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#define SPAWN_PROGRESS_FD 3 /* in the new process. One digit: dash knows no others */

struct spawned {
    pid_t pid;
    int pidfd; /* readable when it has exited; -1 if the kernel has none: ask waitid now and then */
    int in, out, err; /* our ends of its standard streams; non-blocking, close-on-exec */
    int progress;     /* likewise our end of SPAWN_PROGRESS_FD, -1 if it was not wanted */
};

/* progress: the process gets a pipe at SPAWN_PROGRESS_FD. Returns 0, or an errno with *what naming
 * the step that failed. */
int spawn(struct spawned *child, char *const *argv, char *const *envp, const char *cwd,
          bool progress, const char **what);

#endif
