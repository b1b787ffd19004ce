/* replay: questions that a stopped node's directory answers, as of any entry of its log. */
#ifndef PO_POCTL_REPLAY_H
#define PO_POCTL_REPLAY_H

#include "ctl.h"

/* The command that asks `live`'s question of a directory: "replay task show" of "task show". NULL:
 * live is no question, but does something. Valid until the next call. */
const struct verb *replay_of(const struct verb *live);

/* As po_query, from the open directory. An exit code, after saying why. */
int replay_ask(const struct ctl *ctl, const struct po_query *query, struct po__buf *json);

#endif
