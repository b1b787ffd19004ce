/* What completion queues need of a watch. */
#ifndef PO__WATCH_INTERNAL_H
#define PO__WATCH_INTERNAL_H

#include <pipeorch/watch.h>
#include <stdbool.h>

/* In the callback of the watch: it calls back no more until po_watch_start. again: the event that
 * the callback was given comes once more then. */
void po__watch_hold(po_watch *watch, bool again);

#endif
