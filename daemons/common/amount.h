/* Amounts as people write them: 4096, 64KiB, 16MiB, 8GiB, 1TiB. */
#ifndef PO_DAEMONS_AMOUNT_H
#define PO_DAEMONS_AMOUNT_H

#include <stdbool.h>
#include <stdint.h>

bool amount_read(const char *text, uint64_t *amount); /* false: it is none, or too large */

#endif
