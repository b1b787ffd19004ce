/* A directory's log applied once more, up to any entry that it reaches back to. Inside of tools/;
 * the functions for others are in tools.h. */
#ifndef PO__TOOLS_REPLAY_H
#define PO__TOOLS_REPLAY_H

#include "directory.h"
#include "tools.h"

struct po__replay {
    struct po__directory dir;
    struct po__content content;
    struct po_state_machine nothing; /* in the application's place: its commands change nothing */
    uint64_t app_commands;           /* that it was given */
    uint64_t index, term, time_ms;   /* of the last entry applied; 0: none yet */
    struct po__conf conf;            /* as of index */
};

/* Open and learn how far the log reaches; nothing is applied yet. A disk of the caller's is the
 * replay's from now on. po__replay_fini in any case. The struct must not move. */
int po__replay_init(struct po__replay *r, const char *data_dir, char *error, size_t error_len);
int po__replay_init_disk(struct po__replay *r, struct po__disk *disk, char *error,
                         size_t error_len);
void po__replay_fini(struct po__replay *r);

/* The lowest index as of which the state can be had: 0 if the log begins with the entry 1. */
uint64_t po__replay_first(const struct po__replay *r);
/* Apply, once, up to `until` (UINT64_MAX: the last entry) from a state that is as of `from` or
 * earlier; whatever is newer than that if it is UINT64_MAX. Each command goes through `command`
 * (NULL: po__model_apply), `entry` (or NULL) is called before those of an entry. PO_EINVAL if the
 * log does not reach there. */
int po__replay_run(struct po__replay *r, uint64_t from, uint64_t until,
                   int (*entry)(void *arg, const struct po__rec *rec),
                   int (*command)(void *arg, const struct po__rec *rec, uint64_t now_ms,
                                  const struct po__cmd *cmd),
                   void *arg, char *error, size_t error_len);
/* What one has to know about the answers, a sentence to a line. */
void po__replay_notes(const struct po__replay *r, struct po__buf *text);
/* As po__tool_replay_query. */
int po__replay_query(const struct po__replay *r, const struct po_query *query, struct po__buf *json,
                     char *error, size_t error_len);

#endif
