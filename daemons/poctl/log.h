/* log dump, and errors of what works on files. */
#ifndef PO_POCTL_LOG_H
#define PO_POCTL_LOG_H

#include "ctl.h"

#define LOG_TIME_BYTES 64
/* Leader milliseconds as a date and time, UTC; "-" for 0. */
void log_time(char when[LOG_TIME_BYTES], json_int_t ms);

int log_dump(struct ctl *ctl);
/* Says on stderr what the tools said; returns the exit code. */
int backup_fail(const struct ctl *ctl, int rv, const char *error);

#endif
