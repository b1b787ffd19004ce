/* The inside of the simulated disk: bytes, inodes and names of a medium, each as visible now, as
 * durable, and what lies between. */
#ifndef PO__DISK_MEDIUM_H
#define PO__DISK_MEDIUM_H

#include "disk_sim.h"

#define NAME_BYTES 64

/* A write that a power cut may still undo. */
struct pending {
    struct pending *next;
    uint64_t offset;
    size_t len;
    uint8_t data[];
};

struct bytes {
    uint8_t *data;
    size_t len, cap;
};

struct inode {
    unsigned refs;      /* names (visible, durable, in pending changes) and open handles */
    struct inode *twin; /* while cloning */
    struct bytes now, durable;
    struct pending *pending, **pending_tail;
};

struct entry {
    char name[NAME_BYTES];
    struct inode *inode;
};

struct names {
    struct entry *entries;
    unsigned count, cap;
};

enum change_kind { CREATE, RENAME, UNLINK };

struct change { /* of names, not yet followed by sync_dir */
    enum change_kind kind;
    char from[NAME_BYTES], to[NAME_BYTES];
    struct inode *inode;
};

struct po__disk_sim {
    uint64_t rng;
    struct names now, durable;
    struct change *changes;
    unsigned changes_count, changes_cap;
    unsigned attached;
    struct sim *locked_by;
    uint64_t calls, fail_at, cut_at;
    int fail_code;
    uint64_t reads, misread_at, misreads;
    bool misdirected;
    bool off;
    po__disk_sim_call_hook on_change;
    void *on_change_arg;
};

struct inode *po__medium_inode_new(void);
struct inode *po__medium_inode_ref(struct inode *i);
void po__medium_inode_unref(struct inode *i);
void po__medium_inode_add_pending(struct inode *i, const uint8_t *data, size_t len,
                                  uint64_t offset);
void po__medium_inode_commit_last(struct inode *i);
void po__medium_inode_sync(struct inode *i);
struct entry *po__medium_names_find(const struct names *n, const char *name);
void po__medium_names_set(struct names *n, const char *name, struct inode *inode);
void po__medium_names_remove(struct names *n, const char *name);
void po__medium_change_add(struct po__disk_sim *m, enum change_kind kind, const char *from,
                           const char *to, struct inode *inode);
void po__medium_change_apply(struct names *n, const struct change *c);
void po__medium_changes_clear(struct po__disk_sim *m);
void po__medium_bytes_write(struct bytes *b, const uint8_t *data, size_t len, uint64_t offset);
void *po__medium_must(void *p);

#endif
