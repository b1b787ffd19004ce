/* Checked state machines: a lifecycle is an enum and a table of the transitions that are allowed.
 *
 * allowed[from] is a bit mask of states that may follow. A transition that is not in the table is a
 * bug and aborts. */
#ifndef PO__FSM_H
#define PO__FSM_H

#include <stdint.h>
#include "assert.h"

#define PO__TO(state) (UINT32_C(1) << (state))

static inline void po__fsm_move(int *state, int next, const uint32_t *allowed)
{
    PO_INVARIANT(allowed[*state] & PO__TO(next));
    *state = next;
}

#endif
