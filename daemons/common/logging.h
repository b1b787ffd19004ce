/* Where the programs write events: standard error, one line each, as text or JSON.
 *
 * text: TIME LEVEL ID NAME MESSAGE. json: {"time", "level", "id", "name", "message"}. A line is one
 * write(2), so lines of several threads do not mix. */
#ifndef PO_DAEMONS_LOGGING_H
#define PO_DAEMONS_LOGGING_H

#include <pipeorch/types.h>
#include <stdbool.h>
#include "base/buf.h"
#include "base/log.h"

#define LOG_FORMATS "text|json"
#define LOG_LEVELS  "error|warn|info|debug"

/* Set up once, before any thread runs. name is borrowed. */
void logging_init(const char *format, const char *level, const char *name);

struct po_log_opts logging_opts(void); /* for the library */
const struct po__logger *
logging(void); /* for the program itself: po__info(logging(), "id", "...") */

/* One event as its line, line break included. */
void logging_format(struct po__buf *out, bool json, const struct po_log_event *event);

#endif
