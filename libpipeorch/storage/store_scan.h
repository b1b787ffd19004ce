/* Reading the log back: which batches are there, where it ends, and whether that end is honest
 * (store_format.h says how). */
#ifndef PO__STORE_SCAN_H
#define PO__STORE_SCAN_H

#include "store_internal.h"

struct po__scan_position {
    struct po__segment *segment; /* in the store's list */
    uint64_t offset;
};

struct po__scan {
    struct po__store *store; /* its `segments` holds every wal file, oldest first */
    uint64_t sequence;       /* of the last batch accepted; 0: none yet, any may be the first */
    char *error;
    size_t error_len;
    struct po__aligned window; /* part of one segment */
    const struct po__segment *window_segment;
    uint64_t window_offset;
    size_t window_len;
};

int po__scan_init(struct po__scan *sc, struct po__store *s, char *error, size_t error_len);
void po__scan_fini(struct po__scan *sc);

/* Walk the intact batches from `at` on, in order; at ends behind the last one. batch and its
 * records are valid during the call. */
typedef int (*po__scan_cb)(void *arg, const struct po__scan_position *at,
                           const struct po__fmt_batch *batch);
int po__scan_walk(struct po__scan *sc, struct po__scan_position *at, po__scan_cb cb, void *arg);

/* Each record of a batch. A sealed batch whose records are malformed was written so: PO_ECORRUPT.
 */
int po__scan_records(
    struct po__scan *sc, const struct po__scan_position *at, const struct po__fmt_batch *b,
    int (*cb)(void *arg, const struct po__scan_position *at, const struct po__rec *r), void *arg);

/* After a walk: PO_ECORRUPT if anything proves that there was more log than the walk found. */
int po__scan_check_end(struct po__scan *sc, const struct po__scan_position *end);
/* Wipe what a torn write left behind the end, so that it can never be taken for log. Durable on
 * return. */
int po__scan_cut(struct po__scan *sc, const struct po__scan_position *end);

/* "<file>: <text>, at offset <n>" into the error buffer; returns PO_ECORRUPT. */
int po__scan_corrupt(struct po__scan *sc, const struct po__segment *seg, uint64_t offset,
                     const char *text);

#endif
