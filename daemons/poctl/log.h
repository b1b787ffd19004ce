/* log dump, and errors of what works on files. */
#ifndef PO_POCTL_LOG_H
#define PO_POCTL_LOG_H

#include "ctl.h"

int log_dump(struct ctl *ctl);
/* Says on stderr what the tools said; returns the exit code. */
int backup_fail(const struct ctl *ctl, int rv, const char *error);

#endif
