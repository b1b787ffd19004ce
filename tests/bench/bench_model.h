/* Benchmarks of the state machine alone: a model, and scripts of encoded commands that are replayed
 * under the clock. */
#ifndef PO__BENCH_MODEL_H
#define PO__BENCH_MODEL_H

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <pipeorch/node.h>
#include "base/alloc.h"
#include "base/assert.h"
#include "model/model.h"
#include "model/state.h"
#include "node/watch_ring.h"

struct bench {
    struct po__model *m;
    struct po__effects fx;
    struct po__watch_ring ring;
    struct po__watch_pos at;
    uint64_t index, now_ms;
    uint64_t tasks; /* unfinished, before measuring */
    double bytes_per_task, bytes_per_worker;
    struct po__buf script; /* encoded commands */
    uint32_t script_count;
    uint64_t seed;
    uint64_t granted, last_id; /* grants seen, and the highest task id answered */
    struct po__cmd cmd;
};

/* The thread's own time: the machine may be busy with something else, and nothing here waits. */
static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline uint64_t pick(struct bench *b, uint64_t n)
{
    b->seed ^= b->seed << 13;
    b->seed ^= b->seed >> 7;
    b->seed ^= b->seed << 17;
    return (b->seed >> 11) % n;
}

static inline size_t heap_bytes(void)
{
    return mallinfo2().uordblks;
}

/* ---- scripts: commands are encoded first, then replayed under the clock ---- */

static inline void script_begin(struct bench *b)
{
    po__buf_reset(&b->script);
    b->script_count = 0;
}

static inline void script_add(struct bench *b)
{
    po__cmd_encode(&b->script, &b->cmd);
    b->script_count++;
}

/* As every node does. */
static inline void keep_event(void *arg, const struct po__news *e)
{
    struct bench *b = arg;
    if (b->at.index != b->index)
        b->at = (struct po__watch_pos){b->index, 0};
    b->at.position++;
    po__watch_ring_add(&b->ring, b->at, b->now_ms, e);
}

static inline void keep_events(struct bench *b)
{
    po__watch_ring_init(&b->ring);
    b->fx.event = keep_event;
    b->fx.event_arg = b;
}

static inline void replay(struct bench *b, bool apply)
{
    struct po__mpr r;
    struct po__cmd_result result;
    const char *at = (const char *)b->script.data;
    size_t left = b->script.len;
    for (uint32_t i = 0; i < b->script_count; i++) {
        po__mpr_init(&r, at, left);
        PO_INVARIANT(po__cmd_decode(&r, &b->cmd, true) == 0);
        left -= (size_t)((const char *)r.p - at);
        at = (const char *)r.p;
        if (!apply)
            continue;
        b->fx.count = 0;
        PO_INVARIANT(po__model_apply(b->m, ++b->index, b->now_ms, &b->cmd, &result, &b->fx) == 0);
        PO_INVARIANT(result.code == 0);
        for (size_t k = 0; k < b->fx.count; k++)
            b->granted += b->fx.items[k].type == PO__FX_ASSIGNED;
        if (b->cmd.type == PO__CMD_TASK_SUBMIT_MORE && result.id > b->last_id)
            b->last_id = result.id;
    }
}

#endif
