/* The log in memory: the records behind the newest snapshot (minus the trailing ones kept for slow
 * followers).
 *
 * Records live in reference-counted blocks: a proposal is a block of one record, a received
 * AppendEntries is one block of many. The log, frames on their way out and the step under way each
 * hold references, so a record is copied once at most (from the network) and sent without a copy
 * even after the log has dropped it.
 *
 * Each slot remembers the number of the write that carries it to disk. "Durable" is then a
 * comparison: a slot is durable if its write is not above the last completed one. A slot that was
 * truncated and written again has a higher number, so the completion of the old write says nothing
 * about it. */
#ifndef PO__CONSENSUS_LOG_H
#define PO__CONSENSUS_LOG_H

#include "../storage/store.h"

struct po__block {
    uint32_t refs;
    uint32_t bytes;  /* of data */
    uint64_t data[]; /* records; 8-aligned */
};
struct po__block *
po__block_new(size_t bytes); /* one reference; NULL: out of memory. bytes <= UINT32_MAX */
static inline struct po__block *po__block_ref(struct po__block *b)
{
    b->refs++;
    return b;
}
void po__block_unref(struct po__block *b); /* NULL is fine */

struct po__log_slot {
    struct po__block *block;
    const struct po__rec *rec; /* inside block */
    uint64_t write;            /* number of the write; 0: durable from the start (recovered) */
};

struct po__log {
    struct po__log_slot *slots; /* ring */
    size_t cap, head, count;    /* cap is 0 or a power of 2 */
    uint64_t first; /* index of slot `head`; also where the next append goes if the log is empty */
    uint64_t bytes; /* of all records, headers and padding included */
};

void po__log_init(struct po__log *l, uint64_t first);
void po__log_fini(struct po__log *l);
/* Room for so many appends, so that none of them can fail. PO_ENOMEM. */
int po__log_reserve(struct po__log *l, size_t extra_count);
/* rec->index must be the next one; takes a reference on block; room must have been reserved. */
void po__log_append(struct po__log *l, struct po__block *block, const struct po__rec *rec,
                    uint64_t write);
void po__log_truncate(struct po__log *l, uint64_t index); /* drop index and everything after it */
void po__log_trim(struct po__log *l,
                  uint64_t index); /* drop everything up to and including index */
void po__log_reset(struct po__log *l, uint64_t first); /* drop everything; go on at `first` */

static inline uint64_t po__log_last(const struct po__log *l) /* first - 1 if empty */
{
    return l->first + l->count - 1;
}
const struct po__log_slot *po__log_get(const struct po__log *l,
                                       uint64_t index); /* NULL if not in memory */
/* The highest index that is covered by completed writes, given that `from` is. */
uint64_t po__log_durable(const struct po__log *l, uint64_t from, uint64_t completed_write);
/* How many records before and including `index` fit into `bytes`; 0 if index is not in memory. */
uint64_t po__log_count_back(const struct po__log *l, uint64_t index, uint64_t bytes);

#endif
