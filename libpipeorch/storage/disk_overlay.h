/* A disk in front of another one that keeps every change in memory.
 *
 * For tools that look at a directory with the very code that a node starts with, and change
 * nothing; and for tools that change much of one, and must do all of it or nothing: what was
 * changed is committed to the disk behind in one step (rewrite.h), or forgotten.
 *
 * Jobs run in po__disk_ops.poll, on the caller's thread. Changes are bounded: PO_ENOSPACE beyond
 * PO__OVERLAY_MAX_BYTES. */
#ifndef PO__DISK_OVERLAY_H
#define PO__DISK_OVERLAY_H

#include "disk.h"

#define PO__OVERLAY_MAX_BYTES ((size_t)64 << 20)

struct po__overlay;

/* base is the overlay's from now on, also on failure. */
int po__overlay_new(struct po__overlay **ov, struct po__disk *base);
void po__overlay_free(struct po__overlay *ov); /* nobody may be attached; destroys base */
/* The directory with its changes so far, for one user at a time; destroy detaches. */
struct po__disk *po__overlay_attach(struct po__overlay *ov);
struct po__disk *po__overlay_base(struct po__overlay *ov);
/* All changes at once, durable on return. A crash in between leaves the directory as it was, or
 * with a journal that the next to open it carries out. The base must have been locked. */
int po__overlay_commit(struct po__overlay *ov, char *error, size_t error_len);

#endif
