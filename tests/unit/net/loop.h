/* Help for tests that run a libuv loop: run it until a condition holds, never for a fixed time. */
#ifndef PO__TEST_LOOP_H
#define PO__TEST_LOOP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <uv.h>

#define LOOP_GUARD_MS 20000 /* a condition that takes longer never comes */

static inline void loop_guard(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static inline void loop_until(uv_loop_t *loop, bool (*condition)(void *arg), void *arg)
{
    uv_timer_t guard;
    bool late = false, holds;
    uv_timer_init(loop, &guard);
    guard.data = &late;
    uv_timer_start(&guard, loop_guard, LOOP_GUARD_MS, 0);
    while (!(holds = condition(arg)) && !late) /* once true it is not asked again: it may consume */
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&guard, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    assert_true(holds);
}

#endif
