/* How the checks of commands say what they refuse. */
#ifndef PO__REFUSE_H
#define PO__REFUSE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <pipeorch/types.h>

struct po__refusal {
    char *message; /* one sentence for whoever sent the command */
    size_t message_len;
};

/* For a "%.*s" of at most a name's length: messages stay short whatever was sent. */
#define PO__SHOWN(s) (int)((s).len > PO_NAME_MAX_BYTES ? PO_NAME_MAX_BYTES : (s).len), (s).data

__attribute__((format(printf, 3, 4))) static inline int po__refuse(const struct po__refusal *r,
                                                                   int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->message_len)
        vsnprintf(r->message, r->message_len, fmt, ap);
    va_end(ap);
    return code;
}

#endif
