/* Folders as a whole: for a data directory that lives no longer than its process. */
#ifndef PO__FOLDER_H
#define PO__FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* A new folder of this process alone (0700) in the system's place for temporary files, named after
 * `name`. *path is released with po__free. 0, PO_ENOMEM, PO_EIO, PO_ENOSPACE; error says why. */
int po__folder_temporary(char **path, const char *name, char *error, size_t error_len);

/* Remove the folder with the files in it; it has no folders. Returns 0, or PO_EIO: something is
 * left. */
int po__folder_remove(const char *path);

/* Is there such a folder, with anything in it? */
bool po__folder_holds_files(const char *path);

#endif
