/* What a command tells while it runs, and what it finds of an earlier attempt.
 *
 * It tells by writing lines to a descriptor, each a JSON object:
 *
 *   {"progress": 0.42, "checkpoint": ANY JSON, "extend_ms": 60000}
 *
 * Every key may be left out. A line that is wrong is reported and skipped: how far a command is
 * must never decide whether it succeeds. */
#ifndef PO_WORKERD_PROGRESS_H
#define PO_WORKERD_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

#define PROGRESS_LINE_MAX_BYTES (512 * 1024) /* twice a checkpoint: JSON may be written loosely */

struct progress_line {
    uint32_t thousandths;   /* or PO_PROGRESS_UNCHANGED */
    const char *checkpoint; /* JSON text; NULL: none was given */
    size_t checkpoint_len;
    uint32_t extend_ms; /* 0: none was given */
};

struct progress {
    void (*said)(void *arg, const struct progress_line *line);
    void (*wrong)(void *arg, unsigned number, const char *why); /* lines count from 1 */
    void *arg;
    struct po__buf line; /* what there is of the next line */
    unsigned lines;      /* that have begun before it */
    bool too_long;       /* the rest of this line is skipped */
};

/* Zeroed memory with the callbacks set is ready for use. Both call back. */
void progress_feed(struct progress *p, const char *data, size_t len);
void progress_end(struct progress *p); /* there is no more; releases what feeding took */

/* A file in memory with a checkpoint, which nobody can change: it needs no place on a disk and is
 * gone with this process, however that ends. Returns a close-on-exec descriptor, or -1 and errno.
 */
int progress_checkpoint_file(const void *data, size_t len);
void progress_checkpoint_close(int fd); /* -1: none */

#endif
