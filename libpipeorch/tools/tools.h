/* Tools that work on files: backups, and the data directories of stopped nodes.
 *
 * Nothing here talks to a cluster; what does (saving a snapshot of a running one) is in api/ and
 * writes the same files. Answers are JSON text. Errors are codes with a sentence in `error`: what
 * was wrong, in which file and where, and what to do. All functions block, may be called from any
 * thread, and keep a directory locked for as long as they look at it. */
#ifndef PO__TOOLS_H
#define PO__TOOLS_H

#include <pipeorch/node.h>
#include "../base/buf.h"

/* Save the state of a stopped node: its snapshot and what its log holds beyond. Changes nothing in
 * the directory. What only a majority can know is not known here: the last entries may not have
 * been committed, and others may be missing (see committed_index of the answer).
 * sm: the application's state machine, needed only if the log holds application commands; its
 * state is replaced. NULL: none. */
int po__tool_save_dir(const char *path, bool overwrite, const char *data_dir,
                      const struct po_state_machine *sm, struct po__buf *json, char *error,
                      size_t error_len);

/* What a backup holds; every byte of it is checked. */
int po__tool_inspect(const char *path, struct po__buf *json, char *error, size_t error_len);

/* Make the data directory of one member of a new cluster from a backup. cluster_id: NULL draws a
 * new one; else 32 hexadecimal digits, as the first member's restore returned them. */
struct po__tool_restore {
    const char *path, *data_dir, *name;
    const struct po_member *members;
    size_t members_count;
    const char *cluster_id;
};
int po__tool_restore(const struct po__tool_restore *r, struct po__buf *json, char *error,
                     size_t error_len);

/* Make a node whose majority is lost a cluster of its own. accept: the last index, as a dry run
 * (0) told it; anything else is refused. backup_dir: where the directory is copied to before
 * anything is changed. address: the node's peer address from now on, NULL: as it was. */
struct po__tool_recover {
    const char *data_dir, *backup_dir, *address;
    uint64_t accept;
};
int po__tool_recover(const struct po__tool_recover *r, struct po__buf *json, char *error,
                     size_t error_len);

/* What is in a directory, and what a start would find. Returns 0 (healthy), 1 (damaged but usable:
 * what a crash may leave behind) or 2 (a start would be refused; also if it cannot be looked at);
 * json is filled in any case. */
int po__tool_check_dir(const char *data_dir, struct po__buf *json);

/* Each log entry of a directory from..to, in order, as one line of JSON. emit's first non-zero
 * return ends it and is returned. Memory is bounded whatever the log's size. */
int po__tool_log_dump(const char *data_dir, uint64_t from, uint64_t to,
                      int (*emit)(void *arg, const char *line, size_t len), void *arg, char *error,
                      size_t error_len);

/* Time travel: the state of a stopped node as it was after the entry `until` (UINT64_MAX: the last
 * one). PO_EINVAL: the log does not reach there; error says from where to where it does. Changes
 * nothing in the directory, which stays locked until close. */
struct po__replay;
struct po_query;
int po__tool_replay_open(struct po__replay **r, const char *data_dir, uint64_t until, char *error,
                         size_t error_len);
void po__tool_replay_close(struct po__replay *r);
/* The answer of po_query as JSON: with time_ms, the leader's time of the state, for the staleness.
 * Of the status only what a directory knows: null for who led and who was up. */
int po__tool_replay_query(const struct po__replay *r, const struct po_query *query,
                          struct po__buf *json, char *error, size_t error_len);
/* What one has to know about the answers, a sentence to a line: what may not be committed, what
 * was repaired, what was left out. */
void po__tool_replay_notes(const struct po__replay *r, struct po__buf *text);

/* What happened, and why: each change that a command of the log made, as one line of JSON with
 * index, term, time_ms, event (a word), task_id, run_id, worker_id, token (null where there is
 * none) and text. emit as for a log dump. */
struct po__tool_events {
    const char *data_dir;
    uint64_t from, until;     /* entries; 0: the first one, UINT64_MAX: the last one */
    uint64_t task_id, run_id; /* 0: whichever; a run's events are also those of its tasks */
    const char *worker_id;    /* NULL: whichever */
};
/* notes: as po__tool_replay_notes, also after an error. */
int po__tool_replay_events(const struct po__tool_events *which,
                           int (*emit)(void *arg, const char *line, size_t len), void *arg,
                           struct po__buf *notes, char *error, size_t error_len);

/* The two that change a directory, on a disk of the caller's, which is theirs from now on. */
struct po__disk;
int po__tool_restore_disk(const struct po__tool_restore *r, struct po__disk *disk,
                          struct po__buf *json, char *error, size_t error_len);
/* backup: NULL: none is made. */
int po__tool_recover_disk(const struct po__tool_recover *r, struct po__disk *disk,
                          struct po__disk *backup, struct po__buf *json, char *error,
                          size_t error_len);

#endif
