#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pipeorch/worker.h>
#include "spec/spec.h"

#define EXTEND_MIN_MS 100
#define EXTEND_MAX_MS 86400000

static const struct po__doc_key keys[] = {
    {"progress", PO__DOC_ANY, false},
    {"checkpoint", PO__DOC_ANY, false},
    {"extend_ms", PO__DOC_INT, false, EXTEND_MIN_MS, EXTEND_MAX_MS},
};

static void read_progress(struct po__doc *d, struct progress_line *line, const json_t *value)
{
    double share = json_number_value(value);
    if (!value)
        return;
    if (!json_is_number(value) || !(share >= 0 && share <= 1))
        po__doc_problem(d, "/progress", "must be a number from 0 to 1");
    else
        line->thousandths = (uint32_t)(share * 1000 + 0.5);
}

/* keep: the checkpoint's text, to be freed by the caller. */
static void read_object(struct po__doc *d, struct progress_line *line, json_t *root, char **keep)
{
    const json_t *checkpoint = json_object_get(root, "checkpoint");
    if (po__doc_object(d, "", root, keys, sizeof keys / sizeof *keys))
        return;
    if (json_object_size(root) == 0)
        po__doc_problem(d, "", "says nothing; expected progress, checkpoint or extend_ms");
    read_progress(d, line, json_object_get(root, "progress"));
    line->extend_ms = (uint32_t)json_integer_value(json_object_get(root, "extend_ms"));
    if (!checkpoint || d->count)
        return;
    *keep = json_dumps(checkpoint, JSON_COMPACT | JSON_ENCODE_ANY);
    line->checkpoint = *keep;
    line->checkpoint_len = *keep ? strlen(*keep) : 0;
    if (!*keep)
        po__doc_problem(d, "/checkpoint", "cannot be kept: out of memory");
    else if (line->checkpoint_len > PO_CHECKPOINT_MAX_BYTES)
        po__doc_problem(d, "/checkpoint",
                        "has %zu bytes; at most %d are kept. Keep it elsewhere and leave its name",
                        line->checkpoint_len, PO_CHECKPOINT_MAX_BYTES);
}

static void read_line(struct progress *p, const char *text, size_t len)
{
    struct po__doc d = {0};
    struct progress_line line = {.thousandths = PO_PROGRESS_UNCHANGED};
    char *keep = NULL;
    json_t *root = po__doc_parse(&d, text, len);
    if (root)
        read_object(&d, &line, root, &keep);
    if (root && d.count == 0) {
        p->said(p->arg, &line);
    } else {
        po__buf_append(&d.problems, "", 1);
        char *why = (char *)d.problems.data;
        if (!d.problems.err)
            why[strcspn(why, "\n")] = '\0'; /* the first of them is enough */
        p->wrong(p->arg, p->lines, d.problems.err ? "out of memory" : why);
    }
    free(keep);
    json_decref(root);
    po__buf_fini(&d.problems);
}

/* A part of the line that stands in the buffer already, or begins here. */
static void gather(struct progress *p, const char *data, size_t len)
{
    p->line.max_bytes = PROGRESS_LINE_MAX_BYTES;
    if (p->too_long || po__buf_append(&p->line, data, len) == 0)
        return;
    p->wrong(p->arg, p->lines + 1,
             p->line.err == PO_ETOOBIG ? "it is longer than 512 KiB" : "out of memory");
    p->too_long = true;
}

static void end_of_line(struct progress *p)
{
    p->lines++;
    if (!p->too_long && p->line.len)
        read_line(p, (char *)p->line.data, p->line.len);
    p->too_long = false;
    po__buf_reset(&p->line);
}

void progress_feed(struct progress *p, const char *data, size_t len)
{
    while (len) {
        const char *stop = memchr(data, '\n', len);
        size_t part = stop ? (size_t)(stop - data) : len;
        gather(p, data, part);
        if (stop)
            end_of_line(p);
        part += stop != NULL;
        data += part;
        len -= part;
    }
}

void progress_end(struct progress *p)
{
    if (p->line.len && !p->too_long)
        p->wrong(p->arg, p->lines + 1, "it has no line break at its end");
    po__buf_fini(&p->line);
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

void progress_checkpoint_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

int progress_checkpoint_file(const void *data, size_t len)
{
    int fd = memfd_create("checkpoint", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (write_all(fd, data, len) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}
