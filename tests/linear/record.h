/* Histories of concurrent operations, written so that a checker can judge them.
 *
 * An operation is two lines of JSON in its process's file: one written before the call, one after
 * its return, both with the machine's monotonic clock, which is the same for all processes. Each
 * line is one write(2): what was written survives the kill of the process. An operation without a
 * second line may have taken effect at any time after its first, or never.
 *
 * Functions may be called from any thread. A failed write ends the process: a history with holes
 * would accuse or acquit wrongly. */
#ifndef LINEAR_RECORD_H
#define LINEAR_RECORD_H

#include <stdint.h>

#define LINEAR_TEXT_MAX_BYTES 48 /* keys and names in a history */

uint64_t linear_now_ns(void);

/* xorshift64*; each thread has its own. */
struct linear_random {
    uint64_t state;
};
struct linear_random linear_random(uint64_t seed, uint64_t stream);
uint64_t linear_below(struct linear_random *r, uint64_t bound); /* 0..bound-1 */

struct linear_history {
    int fd;
    uint64_t next_id; /* atomic */
};

/* A new file, PREFIX.CLOCK.jsonl. */
void linear_open(struct linear_history *h, const char *prefix);

/* Before the call: model, operation, key and up to two arguments. Returns the operation's id. */
uint64_t linear_call(struct linear_history *h, const char *model, const char *op, const char *key,
                     uint64_t a, uint64_t b);

/* What is known of an operation that ended. */
struct linear_outcome {
    int code; /* 0 or the PO_E* that belongs to the object, as PO_ENOTFOUND */
    uint64_t value, version;
    const char *state; /* NULL: none */
};
void linear_return(struct linear_history *h, uint64_t id, const struct linear_outcome *outcome);

/* It certainly did not take place. */
void linear_refused(struct linear_history *h, uint64_t id);

#endif
