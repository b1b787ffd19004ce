/* A data directory as text, so that one which a released version wrote can lie in the tree:
 *
 *   file <name> <bytes>
 *   <offset, hex> <bytes, hex>     a run; what no run covers is zero
 *
 * Files of a data directory are mostly zeros (blocks are padded, segments are preallocated). */
#ifndef TEST_STORAGE_IMAGE_H
#define TEST_STORAGE_IMAGE_H

#include "fixture.h"

#include <fcntl.h>
#include <inttypes.h>

#define IMAGE_RUN_BYTES 64 /* of one line */

static inline bool image_blank(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

/* One file, as initialisers of an array of lines. */
static inline void image_write(FILE *out, const char *name, const uint8_t *data, uint64_t size)
{
    fprintf(out, "\"file %s %" PRIu64 "\",\n", name, size);
    for (uint64_t at = 0; at < size; at += IMAGE_RUN_BYTES) {
        size_t len = size - at < IMAGE_RUN_BYTES ? (size_t)(size - at) : IMAGE_RUN_BYTES;
        if (image_blank(data + at, len))
            continue;
        while (data[at + len - 1] == 0)
            len--;
        fprintf(out, "\"%" PRIx64 " ", at);
        for (size_t i = 0; i < len; i++)
            fprintf(out, "%02x", data[at + i]);
        fprintf(out, "\",\n");
    }
}

static inline void image_run(int fd, const char *line)
{
    uint8_t bytes[IMAGE_RUN_BYTES];
    size_t len = 0;
    int used;
    uint64_t at;
    assert_int_equal(sscanf(line, "%" SCNx64 " %n", &at, &used), 1);
    for (const char *p = line + used; *p; p += 2, len++) {
        unsigned byte;
        assert_true(len < sizeof bytes);
        assert_int_equal(sscanf(p, "%2x", &byte), 1);
        bytes[len] = (uint8_t)byte;
    }
    assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
}

/* Lay the image down in the folder `path`. */
static inline void image_unpack(const char *const *lines, size_t count, const char *path)
{
    int fd = -1;
    for (size_t i = 0; i < count; i++) {
        char name[64], file[256];
        uint64_t size;
        if (sscanf(lines[i], "file %63s %" SCNu64, name, &size) != 2) {
            assert_true(fd >= 0);
            image_run(fd, lines[i]);
            continue;
        }
        if (fd >= 0)
            close(fd);
        snprintf(file, sizeof file, "%s/%s", path, name);
        fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
    }
    assert_true(fd >= 0);
    close(fd);
}

#endif
