/* The disk as storage sees it: one directory of files, a lock, synchronous calls, and two ordered
 * background channels.
 *
 * Two implementations: the real disk (disk_real.c: files, O_DIRECT where possible, one thread per
 * channel) and the simulated one of the tests and the simulator (virtual time, torn and lost
 * unsynced writes, faults at every call). Storage code is written once, against this.
 *
 * Synchronous calls may be made by the owner thread (at open, and for term and vote) and by jobs on
 * a channel's thread; never two at once on one file. All return 0 or PO_EIO, PO_ENOSPACE,
 * PO_ENOMEM, ...; `last_error` tells call, file and errno. */
#ifndef PO__DISK_H
#define PO__DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../base/list.h"

#define PO__DISK_ALIGN                                                                             \
    4096 /* unit of offsets, lengths and buffer addresses of files opened with PO__FILE_DIRECT */

enum po__file_flags {
    PO__FILE_CREATE = 1,
    PO__FILE_EXCL = 2,    /* with CREATE: fail with PO_EEXISTS if it is there */
    PO__FILE_DIRECT = 4,  /* bypass the page cache where the file system can */
    PO__FILE_DURABLE = 8, /* every write is durable when it returns (O_DSYNC) */
};

enum po__disk_channel {
    PO__CHANNEL_LOG,
    PO__CHANNEL_SLOW,
    PO__CHANNELS
}; /* log writes; everything that may take long */

struct po__disk;
struct po__file;

/* A job: work runs on the channel (FIFO per channel, one at a time), then done on the owner's
 * thread, inside po__disk_poll. */
struct po__disk_job {
    struct po__list link;
    int (*work)(struct po__disk_job *job); /* returns the status for done */
    void (*done)(struct po__disk_job *job, int status);
    int status; /* the disk's: what work returned, until done is run */
};

struct po__disk_ops {
    int (*lock)(struct po__disk *d,
                const char *name); /* exclusive; PO_ELOCKED; held until destroy */
    int (*list)(struct po__disk *d, int (*cb)(void *arg, const char *name), void *arg);
    int (*open)(struct po__disk *d, struct po__file **f, const char *name,
                int flags);            /* PO_ENOTFOUND */
    void (*close)(struct po__file *f); /* also after destroy */
    int (*size)(struct po__file *f, uint64_t *bytes);
    int (*read)(struct po__file *f, void *buf, size_t len,
                uint64_t offset); /* all of it, or an error */
    int (*write)(struct po__file *f, const void *buf, size_t len,
                 uint64_t offset); /* all of it, or an error */
    int (*sync)(struct po__file *f);
    int (*rename)(struct po__disk *d, const char *from,
                  const char *to); /* replaces `to`; durable after sync_dir */
    int (*unlink)(struct po__disk *d, const char *name);
    int (*sync_dir)(struct po__disk *d);
    void (*submit)(struct po__disk *d, enum po__disk_channel c, struct po__disk_job *job);
    void (*poll)(struct po__disk *d);    /* run `done` of finished jobs; owner thread */
    void (*destroy)(struct po__disk *d); /* waits for running jobs, drops queued ones without done,
                                            unlocks, frees */
};

struct po__disk {
    const struct po__disk_ops *ops;
    char last_error[256]; /* of the owner thread's last failing call or of the last failing job */
};

/* The real disk: creates `path` if missing (with its parents' last component only), 0700.
 * wakeup(arg) is called from a helper thread when po__disk_poll has something to do; it must only
 * signal. error: see po_node_start. */
int po__disk_real(struct po__disk **d, const char *path, void (*wakeup)(void *arg), void *arg,
                  char *error, size_t error_len);

/* The same directory, for looking only: nothing in it is changed, neither content nor times, not
 * even the lock file's (the lock is taken all the same, if there is one). PO_ENOTFOUND if there is
 * no such directory. Calls that change something fail, syncs do nothing, and jobs cannot be
 * submitted: put an overlay (disk_overlay.h) in front of it. */
int po__disk_real_readonly(struct po__disk **d, const char *path, char *error, size_t error_len);

#endif
