/* Events: what a command did, in words. Inside of tools/. */
#ifndef PO__TOOLS_REPLAY_EVENTS_H
#define PO__TOOLS_REPLAY_EVENTS_H

#include "replay.h"

/* A task or a worker that a command names, as it was before. */
struct po__before {
    bool task_known, worker_known;
    uint32_t task_state, worker_status;
    uint64_t token, incarnation;
};

struct po__events {
    struct po__replay *replay;
    const struct po__tool_events *which;
    int (*emit)(void *arg, const char *line, size_t len);
    void *arg;
    /* the entry and the command at hand */
    uint64_t index, term, time_ms;
    const struct po__cmd *cmd;
    struct po__before before;
    struct po__buf
        due; /* uint64_t: ids of scheduled tasks whose time the tick finds to have come */
    struct po__cmd_result result;
    struct po__effects fx;
    bool begun;
    uint64_t last_task, last_run; /* highest ids seen: what is above is new */
    struct po__buf text;
    int err; /* the first of emitting; ends the replay */
};

/* What an event is about; zero: nothing of the kind. */
struct po__about {
    uint64_t task_id, run_id, token;
    struct po__slice worker_id;
};

/* Emit one event, if it is asked for. */
void po__event(struct po__events *e, const char *word, struct po__about about, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Every event of a replay that has not run. */
int po__replay_events(struct po__replay *r, const struct po__tool_events *which,
                      int (*emit)(void *arg, const char *line, size_t len), void *arg, char *error,
                      size_t error_len);

/* replay_tell.c: before the first command; look at what a command is about to change; tell what it
 * changed. */
void po__events_begin(struct po__events *e);
void po__events_look(struct po__events *e, const struct po__cmd *cmd);
void po__events_tell(struct po__events *e);

#endif
