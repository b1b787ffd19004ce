/* Start a process in a group of its own, with pipes, and with no descriptor or signal state of ours
 * leaking into it. */
#ifndef PO_WORKERD_SPAWN_H
#define PO_WORKERD_SPAWN_H

#include <sys/types.h>

struct spawned {
    pid_t pid;
    int pidfd; /* readable when it has exited; -1 if the kernel has none: ask waitid now and then */
    int in, out, err; /* our ends of its standard streams; non-blocking, close-on-exec */
};

/* Returns 0, or an errno with *what naming the step that failed. */
int spawn(struct spawned *child, char *const *argv, char *const *envp, const char *cwd,
          const char **what);

#endif
