/* Whole files into memory, bounded. */
#ifndef PO_DAEMONS_FILES_H
#define PO_DAEMONS_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"

/* Read path ("-": standard input) into out. false: why says what was wrong (without the path). */
bool file_read(struct po__buf *out, const char *path, size_t max_bytes, char *why, size_t why_len);

#endif
