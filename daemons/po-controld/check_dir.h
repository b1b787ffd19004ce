/* --check-dir: the state of a data folder. */
#ifndef PO_CONTROLD_CHECK_DIR_H
#define PO_CONTROLD_CHECK_DIR_H

#include <stdbool.h>

/* Prints the report on standard output. Returns the exit code: 0 healthy, 1 damaged but usable, 2 a
 * start would be refused. */
int check_dir(const char *path, bool as_json);

#endif
