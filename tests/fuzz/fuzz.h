/* One mutation fuzzer for all decoders.
 *
 * A target is a file with the three functions below. Linked with fuzz.c it is a test: seeded, so
 * that a failure replays, and bounded in inputs, so that it takes seconds. Linked with libFuzzer
 * instead (clang -fsanitize=fuzzer,address) the same file is a libFuzzer target. A target aborts
 * (FUZZ_CHECK) when a property does not hold; memory errors are for ASan and valgrind to see: every
 * input lies in a block of exactly its size.
 *
 *   PO_FUZZ_SEED=<n> PO_FUZZ_INPUTS=<n> tests/fuzz_<target>      another or a longer run
 *   tests/fuzz_<target> <file>...                               run files, e.g. one that libFuzzer
 * found */
#ifndef PO__FUZZ_H
#define PO__FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define FUZZ_INPUT_MAX_BYTES 65536
#define FUZZ_SEEDS_MAX       128

#define FUZZ_CHECK(expr)                                                                           \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #expr);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The target. fuzz_seeds adds valid inputs with fuzz_seed(). fuzz_mend repairs what a mutation
 * breaks and no decoder would look behind: a checksum. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
void fuzz_seeds(void);
void fuzz_mend(uint8_t *data, size_t len);

void fuzz_seed(const void *data, size_t len);

#endif
