/* Events of a watch as callers see them (watch_event.c). */
#ifndef PO__API_WATCH_EVENT_H
#define PO__API_WATCH_EVENT_H

#include <pipeorch/watch.h>
#include "../node/watch_ring.h"

struct po__watch_texts { /* what the strings of an event point into */
    char worker[PO_NAME_MAX_BYTES + 1], name[PO_NAME_MAX_BYTES + 1], step[PO_NAME_MAX_BYTES + 1];
    char error[PO__NEWS_ERROR_MAX_BYTES + 1];
};

void po__watch_event_public(const struct po__watch_event *from, struct po__watch_texts *texts,
                            struct po_watch_event *to);

#endif
