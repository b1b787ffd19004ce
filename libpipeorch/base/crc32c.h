/* CRC-32C (Castagnoli), the checksum of every stored and sent record. Uses the CPU's instruction
 * where there is one. */
#ifndef PO__CRC32C_H
#define PO__CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc is 0 for a new sum, or the result of the previous call to continue it. */
uint32_t po__crc32c(uint32_t crc, const void *data, size_t len);
uint32_t po__crc32c_portable(uint32_t crc, const void *data,
                             size_t len); /* same result; for tests */

#endif
