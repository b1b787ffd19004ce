/* Random numbers of a simulation: one stream, from one seed, the same on every machine. */
#ifndef PO__SIM_RANDOM_H
#define PO__SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct po__rng {
    uint64_t state; /* never 0 */
};

static inline uint64_t po__rng_next(struct po__rng *r)
{
    r->state ^= r->state << 13;
    r->state ^= r->state >> 7;
    r->state ^= r->state << 17;
    return r->state * UINT64_C(2685821657736338717);
}

static inline void po__rng_init(struct po__rng *r, uint64_t seed)
{
    r->state = seed * UINT64_C(0x9E3779B97F4A7C15) + 12345;
    if (r->state == 0)
        r->state = 1;
    for (int i = 0; i < 5; i++) /* neighbouring seeds begin alike */
        (void)po__rng_next(r);
}

/* Both bounds included. */
static inline uint64_t po__rng_range(struct po__rng *r, uint64_t low, uint64_t high)
{
    return low + (po__rng_next(r) >> 11) % (high - low + 1);
}

static inline bool po__rng_percent(struct po__rng *r, double percent)
{
    return (double)po__rng_range(r, 0, 999999) < percent * 10000;
}

#endif
