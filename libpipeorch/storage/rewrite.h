/* Changing several files of a directory in one step: a redo journal.
 *
 * The journal is a file `rewrite` that says what is to be done: rename, remove, create, write. It
 * gets its name when it is complete and durable; from that instant on the change has happened, and
 * whoever opens the directory next carries it out before it looks at anything else. Carrying it out
 * is idempotent, so it may be interrupted and begun again at any point. */
#ifndef PO__REWRITE_H
#define PO__REWRITE_H

#include "../base/buf.h"
#include "disk.h"

#define PO__REWRITE_NAME      "rewrite"
#define PO__REWRITE_MAX_BYTES ((size_t)256 << 20) /* of a journal; it is read as a whole */

enum po__rewrite_op {
    PO__REWRITE_RENAME = 1, /* name becomes `to`, which is replaced */
    PO__REWRITE_REMOVE = 2,
    PO__REWRITE_CREATE = 3, /* an empty file, whatever was there */
    PO__REWRITE_WRITE = 4,  /* data at offset */
};

void po__rewrite_begin(struct po__buf *journal);
/* Errors are sticky in the buffer. */
void po__rewrite_add(struct po__buf *journal, enum po__rewrite_op op, const char *name,
                     const char *to, uint64_t offset, const void *data, size_t len);
/* Make the journal durable under its name. On an error nothing has happened. */
int po__rewrite_commit(struct po__disk *d, struct po__buf *journal);
/* Carry out the journal that is there, and remove it; 0 also if there is none. The directory is
 * locked. */
int po__rewrite_finish(struct po__disk *d, char *error, size_t error_len);

#endif
