#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"

int po__folder_temporary(char **path, const char *name, char *error, size_t error_len)
{
    const char *place = getenv("TMPDIR");
    if (!place || !*place)
        place = "/tmp";
    size_t len = strlen(place) + strlen(name) + sizeof "/pipeorch--XXXXXX";
    char *made = po__malloc(len);
    if (!made) {
        snprintf(error, error_len, "out of memory for the name of a temporary folder");
        return PO_ENOMEM;
    }
    snprintf(made, len, "%s/pipeorch-%s-XXXXXX", place, name);
    if (mkdtemp(made)) {
        *path = made;
        return 0;
    }
    int code = errno == ENOSPC || errno == EDQUOT ? PO_ENOSPACE : PO_EIO;
    snprintf(error, error_len,
             "no temporary folder can be made in %s: %s; set TMPDIR to a folder "
             "that can be written, or name one for the data",
             place, strerror(errno));
    po__free(made);
    return code;
}

/* Calls for each entry until one returns false; false also if the folder cannot be read. */
static bool each(const char *path, bool (*entry)(int dir_fd, const char *name))
{
    DIR *dir = opendir(path);
    bool ok = dir != NULL;
    struct dirent *e;
    while (ok && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = entry(dirfd(dir), e->d_name);
    if (dir)
        closedir(dir);
    return ok;
}

static bool remove_entry(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0) == 0;
}

static bool stop_at_entry(int dir_fd, const char *name)
{
    (void)dir_fd, (void)name;
    return false;
}

int po__folder_remove(const char *path)
{
    return each(path, remove_entry) && rmdir(path) == 0 ? 0 : PO_EIO;
}

bool po__folder_holds_files(const char *path)
{
    return access(path, F_OK) == 0 && !each(path, stop_at_entry);
}
