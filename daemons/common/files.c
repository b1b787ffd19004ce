#include "files.h"

#include <errno.h>
#include <pipeorch/error.h>
#include <stdio.h>
#include <string.h>

bool file_read(struct po__buf *out, const char *path, size_t max_bytes, char *why, size_t why_len)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rbe");
    if (!f) {
        snprintf(why, why_len, "cannot be opened: %s", strerror(errno));
        return false;
    }
    bool ok = true;
    char chunk[16384];
    size_t n;
    while (ok && (n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        po__buf_append(out, chunk, n);
        if (out->err || out->len > max_bytes) {
            if (out->err == PO_ENOMEM)
                snprintf(why, why_len, "cannot be read: out of memory");
            else
                snprintf(why, why_len, "is larger than %zu bytes", max_bytes);
            ok = false;
        }
    }
    if (ok && ferror(f)) {
        snprintf(why, why_len, "cannot be read: %s", strerror(errno));
        ok = false;
    }
    if (!standard)
        fclose(f);
    return ok;
}
