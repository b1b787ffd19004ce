/* What the files of the store share. One owner thread; only the `work` functions of jobs run
 * elsewhere, and those touch nothing but their own job's fields and files. */
#ifndef PO__STORE_INTERNAL_H
#define PO__STORE_INTERNAL_H

#include <stdint.h>
#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/buf.h"
#include "store.h"
#include "store_format.h"

#define PO__BATCH_BYTES                                                                            \
    ((size_t)1 << 20)              /* bytes of one log write, unless one record is longer          \
                                    */
#define PO__BATCH_RECORDS_MAX 4096 /* records of one log write */
/* Of any batch on disk, in whole blocks */
#define PO__BATCH_BYTES_MAX   (PO__RECORD_MAX_BYTES + PO__BLOCK_BYTES)
#define PO__SEGMENT_BYTES_MIN (8 * PO__BLOCK_BYTES)
#define PO__SPARES_KEPT_FACTOR                                                                     \
    4 /* recycled segments are kept as spares up to this multiple of segments_spare */
#define PO__ZERO_CHUNK_BYTES         ((size_t)64 * 1024) /* one write of the zero-fill */
#define PO__SNAPSHOT_WRITERS_MAX     2                   /* one of our own, one installed */
#define PO__SNAPSHOT_QUEUE_MAX_BYTES ((size_t)4 << 20)

/* Memory whose address suits direct writes. */
struct po__aligned {
    void *raw;
    uint8_t *data;
};
int po__aligned_alloc(struct po__aligned *a, size_t bytes);  /* uninitialised; PO_ENOMEM */
int po__aligned_calloc(struct po__aligned *a, size_t bytes); /* zeroed */
void po__aligned_free(struct po__aligned *a);

struct po__segment {
    struct po__list link;
    uint64_t number;
    uint64_t epoch;
    struct po__file *file; /* direct and durable */
    uint64_t size_bytes;
    uint64_t end;       /* where the next batch goes */
    uint64_t max_index; /* highest index of a live durable record in it; 0: none */
};

struct po__batch_entry {
    po__store_cb cb;
    void *arg;
    uint64_t token;
};

/* Records gathered for one write, and that write. */
struct po__batch {
    struct po__disk_job job;
    struct po__list link;
    struct po__store *store;
    struct po__aligned memory;
    size_t cap;
    size_t len;    /* header included */
    bool standard; /* goes back to the pool */
    bool closed;   /* takes no more records */
    uint64_t low;  /* lowest and last index of its records; 0: no records */
    uint64_t last;
    struct po__segment *segment;
    uint64_t offset;
    uint32_t entries_count;
    struct po__batch_entry *entries;
};

/* The one segment task under way (zero-fill, recycle, remove), see store_segment.c. */
struct po__segment_task {
    struct po__disk_job job;
    bool running;
    bool parked; /* a zero-fill that waits for credit */
    struct po__segment *segment;
    struct po__file *tmp;
    uint64_t offset; /* zeroed so far */
    uint64_t from;   /* recycling, removing: the number it has now */
};

struct po__store {
    struct po__disk *disk;
    const struct po__disk_ops *ops; /* of disk; stays valid when disk is gone */
    struct po__store_opts opts;
    int broken;
    char broken_message[320];
    bool has_identity;
    bool has_join; /* `joining` was read from its file */
    bool recovered;
    struct po__identity identity;
    struct po__identity joining;

    struct po__file *meta;
    struct po__aligned meta_block;
    uint64_t meta_serial, term, vote;

    struct po__list segments; /* oldest first; the last one is written to */
    struct po__list retired;  /* oldest first: nothing in them is needed any more */
    struct po__list spares;   /* ready, in the order of their numbers */
    unsigned spares_count;
    uint64_t number_next; /* of the next segment made */
    struct po__segment_task task;
    struct po__aligned header_block; /* of the task */
    struct po__aligned zeros;        /* PO__ZERO_CHUNK_BYTES, never written to */
    uint64_t zero_credit_bytes;
    uint64_t writes_done;
    uint64_t writes_at_chunk; /* writes_done when the last zero chunk was submitted */

    struct po__list queue; /* batches not yet submitted */
    struct po__list pool;  /* standard batches */
    struct po__batch *in_flight;
    bool flush_wanted;
    bool reset_wanted; /* the next batch voids everything before it */
    uint64_t reset_next;
    unsigned resets_pending; /* not yet durable */
    size_t queued_bytes;     /* of queue and in_flight */
    uint64_t sequence_next;
    uint64_t last_index; /* of the last record appended */
    bool log_empty;      /* the next index may be anything */

    struct po__snapshot_meta snapshot; /* current; index 0: none */
    struct po__list writers;
    unsigned writers_count;
    struct po__snapshot_writer *finishing;
    uint64_t writer_serial;
};

static inline struct po__segment *po__store_active(struct po__store *s)
{
    return po__container_of(s->segments.prev, struct po__segment, link);
}

/* store.c */
/* Broken for good. what: a sentence about the call; the disk's text is added. Returns the code of
 * the first fault. */
int po__store_fail(struct po__store *s, int code, const char *what);
/* "<what>: <text of the disk>" into an open-time error buffer; returns code. */
int po__store_open_error(struct po__store *s, int code, const char *what, char *error,
                         size_t error_len);
/* Write a small file under a temporary name, durable, and rename it into place, durable.
 * Synchronous. */
int po__store_put_file(struct po__store *s, const char *name, const void *data, size_t len);

/* store_meta.c */
int po__meta_open(struct po__store *s, char *error, size_t error_len);
int po__meta_create(struct po__store *s, uint64_t term);

/* store_wal.c */
int po__wal_init(struct po__store *s);
void po__wal_fini(struct po__store *s);
void po__wal_start(struct po__store *s); /* start a write if one is wanted and possible */

/* store_segment.c */
int po__segment_alloc(struct po__segment **seg, uint64_t number, const struct po__store *s);
void po__segment_free(struct po__store *s,
                      struct po__segment *seg); /* closes its file; NULL is fine */
void po__segment_header(const struct po__store *s, void *block, uint64_t number);
void po__segments_maintain(
    struct po__store *s); /* start the next task, if one is due and none runs */
void po__segments_wrote(struct po__store *s,
                        uint64_t bytes); /* a log write ended: credit for zeroing */
void po__segments_retire(struct po__store *s,
                         uint64_t index); /* those with nothing live above index */
int po__segment_create_first(struct po__store *s, const struct po__rec *first);

/* store_recover.c, store_reader.c */
void po__snapshots_fini(struct po__store *s);
/* Read and check header and footer of a snapshot file. */
int po__snapshot_load_meta(struct po__store *s, struct po__file *f, struct po__snapshot_meta *meta);
/* Check every byte of it. */
int po__snapshot_verify(struct po__store *s, struct po__file *f,
                        const struct po__snapshot_meta *meta);

#endif
