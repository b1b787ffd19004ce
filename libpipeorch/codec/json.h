/* JSON texts as opaque payload: is it one whole text, and how does a string look inside one.
 *
 * The replicated state hands JSON through without looking into it, but it puts texts next to each
 * other (the input of a pipeline step), so each must be known to be complete. Nothing is allocated
 * and nothing is built. */
#ifndef PO__JSON_H
#define PO__JSON_H

#include "../base/buf.h"

#define PO__JSON_DEPTH_MAX 256

/* 1 if text is exactly one JSON text (RFC 8259, any type, white space around it allowed), valid
 * UTF-8, without a NUL, at most PO__JSON_DEPTH_MAX arrays and objects deep. Duplicate keys are not
 * looked for. */
bool po__json_ok(struct po__slice text);

/* Append text as a JSON string, quotes included. text is valid UTF-8. */
void po__json_string(struct po__buf *b, struct po__slice text);

#endif
