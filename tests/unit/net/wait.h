/* Help for tests with threads: poll for a condition, never sleep and hope. */
#ifndef PO__TEST_WAIT_H
#define PO__TEST_WAIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <time.h>

#define WAIT_GUARD_MS 20000 /* a condition that takes longer never comes */

static inline uint64_t wait_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline void wait_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

#define wait_until(condition)                                                                      \
    do {                                                                                           \
        uint64_t wait_start_ms = wait_now_ms();                                                    \
        while (!(condition)) {                                                                     \
            if (wait_now_ms() - wait_start_ms > WAIT_GUARD_MS)                                     \
                fail_msg("never true: %s", #condition);                                            \
            wait_pause();                                                                          \
        }                                                                                          \
    } while (0)

#endif
