/* Until when a pthread_cond_t of CLOCK_MONOTONIC is waited for. */
#ifndef PO__DEADLINE_H
#define PO__DEADLINE_H

#include <stdint.h>
#include <time.h>

static inline struct timespec po__time_after(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

#endif
