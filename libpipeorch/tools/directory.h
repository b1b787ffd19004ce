/* A data directory opened by the very code that a node starts with, behind an overlay: what that
 * code repairs is repaired in memory. */
#ifndef PO__TOOLS_DIRECTORY_H
#define PO__TOOLS_DIRECTORY_H

#include "../consensus/conf.h"
#include "../storage/disk_overlay.h"
#include "../storage/store.h"
#include "content.h"

#define PO__TOOL_SEGMENT_BYTES ((uint64_t)64 << 10) /* of segments that a tool itself makes */
#define PO__NOTES_MAX          16

struct po__directory {
    struct po__overlay *overlay;
    struct po__store *store;
    struct po__identity identity;
    struct po__recovery recovery;
    uint64_t first_index; /* of the log's records, 0: it has none */
    uint64_t last_term;   /* of the last entry, or of the snapshot */
    struct po__conf conf; /* the newest configuration, committed or not; count 0: none */
    uint64_t conf_index;
    bool rewrite_pending; /* an interrupted change of the directory was there, and is done now */
    char notes[PO__NOTES_MAX][512]; /* what was repaired */
    unsigned notes_count;
};

/* Open, recover, and read the log's configurations. look: nothing on disk may change (the real
 * disk is opened for reading only); else the caller may commit the overlay. The struct must not
 * move until close, which is to be called in any case. */
int po__directory_open(struct po__directory *d, const char *path, bool look, char *error,
                       size_t error_len);
/* The same with a disk of the caller's, which is the directory's from now on. */
int po__directory_open_disk(struct po__directory *d, struct po__disk *disk, char *error,
                            size_t error_len);
void po__directory_detach(struct po__directory *d); /* closes the store; the overlay stays */
void po__directory_close(struct po__directory *d);

/* The state as of the snapshot, which exists, into c, which is initialised and empty. */
int po__directory_restore(struct po__directory *d, struct po__content *c);

/* A way through the log. c is initialised and empty. */
struct po__walk {
    struct po__content *c;
    bool from_nothing; /* from an empty state and the entry 1, which the log holds; else from the
                          snapshot, if there is one */
    uint64_t until;    /* the last entry to apply */
    /* Each may be NULL. An error of theirs ends the walk; 1 does, too, and is no error. */
    int (*entry)(void *arg, const struct po__rec *r); /* before its commands */
    int (*command)(void *arg, const struct po__rec *r, uint64_t now_ms,
                   const struct po__cmd *cmd); /* instead of po__model_apply */
    void *arg;
};
int po__directory_walk(struct po__directory *d, const struct po__walk *w, char *error,
                       size_t error_len);
/* The highest index that is known to be committed. */
uint64_t po__directory_committed(const struct po__directory *d);
/* The state as of the last entry into c, which is initialised and empty. *committed: what is known
 * to be committed. */
int po__directory_replay(struct po__directory *d, struct po__content *c, uint64_t *committed,
                         char *error, size_t error_len);

#endif
