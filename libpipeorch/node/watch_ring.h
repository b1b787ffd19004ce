/* The latest events of the cluster, in order, in bounded memory (watch_ring.c).
 *
 * A position is (index of the entry, number within it from 1 on); (index, 0) is in front of the
 * entry's first event. The ring holds every event behind `kept`, and none before. */
#ifndef PO__WATCH_RING_H
#define PO__WATCH_RING_H

#include <pipeorch/watch.h>
#include "../base/list.h"
#include "../codec/mp.h"
#include "../model/model.h"

#define PO__WATCH_RING_MAX_BYTES ((size_t)16 << 20)
#define PO__WATCH_CHUNK_BYTES    ((size_t)64 << 10) /* the unit in which it grows and forgets */

struct po__watch_pos {
    uint64_t index;
    uint32_t position;
};

static inline int po__watch_pos_cmp(struct po__watch_pos a, struct po__watch_pos b)
{
    if (a.index != b.index)
        return a.index < b.index ? -1 : 1;
    return (a.position > b.position) - (a.position < b.position);
}

/* What a watcher wants to see; zero or empty: whatever it is. */
struct po__watch_filter {
    uint64_t kinds, task_id, run_id;
    struct po__slice worker, pipeline;
};

struct po__watch_ring {
    struct po__list chunks; /* oldest first */
    size_t chunks_count;
    uint32_t count;            /* events */
    struct po__watch_pos kept; /* all behind it is here */
    struct po__watch_pos end;  /* all before it was looked at: the last event, or a whole entry */
};

void po__watch_ring_init(struct po__watch_ring *r);
/* Forget everything: history begins behind the entry `index`. */
void po__watch_ring_reset(struct po__watch_ring *r, uint64_t index);
/* The next event; positions never go back. Out of memory, the history ends here: the event and all
 * before it are forgotten, as `kept` says. */
void po__watch_ring_add(struct po__watch_ring *r, struct po__watch_pos at, uint64_t time_ms,
                        const struct po__news *e);
/* There is nothing more of the entries up to `index`. */
void po__watch_ring_advance(struct po__watch_ring *r, uint64_t index);
/* Appends the wanted events behind *pos to out, at most `limit` of them and, beyond the first, not
 * above out_max_bytes; *pos moves behind what was looked at. Returns their number; out->err: no
 * memory. *pos is not before `kept`. */
uint32_t po__watch_ring_read(const struct po__watch_ring *r, struct po__watch_pos *pos,
                             const struct po__watch_filter *f, uint32_t limit, size_t out_max_bytes,
                             struct po__buf *out);

/* One event as it travels: an array that only grows at its end. */
struct po__watch_event {
    struct po__watch_pos at;
    uint64_t time_ms;
    struct po__news event;
};
void po__watch_event_encode(struct po__buf *b, const struct po__watch_event *e);
int po__watch_event_decode(struct po__mpr *r, struct po__watch_event *e);

#endif
