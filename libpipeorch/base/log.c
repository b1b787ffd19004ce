#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define MESSAGE_MAX_BYTES 1024

void po__log(const struct po__logger *l, int level, const char *id, const char *fmt, ...)
{
    if (!l || !l->cb || level > l->level)
        return;
    char message[MESSAGE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    for (char *p = message; *p; p++) /* one event is one line */
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    struct po_log_event ev = {
        .size = sizeof ev,
        .level = level,
        .time_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000,
        .id = id,
        .name = l->name,
        .message = message,
    };
    l->cb(l->arg, &ev);
}
