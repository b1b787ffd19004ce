/* IANA time zones, read from the system's TZif files (RFC 8536).
 *
 * A reader of our own, because what there is does not fit a library: libc's zone belongs to the
 * process (TZ, tzset) and a host may rely on it; ICU and GLib are heavier than all of pipeorch, and
 * every embedder would have to link them. What is needed is small: the offset from UTC as a
 * function of the instant.
 *
 * A zone is immutable once opened: any number of threads may use it, one closes it. Opening reads a
 * file; nothing else here touches the world. Where the files are is the caller's business: this
 * layer reads no environment. */
#ifndef PO__ZONE_H
#define PO__ZONE_H

#include <pipeorch/types.h>
#include "../base/slice.h"

#define PO__ZONE_NAME_MAX_BYTES PO_TIME_ZONE_MAX_BYTES
#define PO__ZONE_FILE_MAX_BYTES (64 * 1024)
#define PO__ZONE_DIR            "/usr/share/zoneinfo"

struct po__zone;

/* Parts of [A-Za-z0-9_+-] and '.', separated by single slashes, none of them "." or ".."; at most
 * PO__ZONE_NAME_MAX_BYTES. Whether there is such a zone is another question. */
bool po__zone_name_ok(struct po__slice name);

/* The zone of that name from its file under dir (NULL: PO__ZONE_DIR). "UTC" needs no file. Returns
 * 0, PO_EINVAL (no name of a zone), PO_ENOTFOUND (no such file), PO_ECORRUPT (no TZif file, or one
 * of before version 2), PO_EIO, PO_ENOMEM; *why then says what was wrong, where, and what was
 * expected. */
int po__zone_open(struct po__zone **zone, const char *dir, struct po__slice name, char *why,
                  size_t why_len);
/* The same from the bytes of a file. PO_ECORRUPT, PO_ENOMEM. */
int po__zone_parse(struct po__zone **zone, const void *data, size_t len, char *why, size_t why_len);
void po__zone_close(struct po__zone *zone); /* NULL is allowed */

/* The longest known run of time around an instant in which local time is UTC + offset_s. */
struct po__zone_span {
    int64_t from_s, to_s; /* [from, to); INT64_MIN, INT64_MAX: no end */
    int32_t offset_s;
    int32_t before_s; /* the offset until from_s */
};
struct po__zone_span po__zone_span(const struct po__zone *zone, int64_t at_s);

#endif
