/* The application state machine of simulated nodes: a set of numbers and a digest of their order.
 *
 * Each command is a number that a client used once, under one idempotency key. Were it applied
 * twice, the set would show it: then the machine remembers the number, and checks.c fails the run.
 */
#include <string.h>

#include "world.h"

#define HEAD_WORDS 3

static int app_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                     size_t *result_len)
{
    struct po__simapp *a = arg;
    uint64_t number = 0;
    if (len < sizeof number)
        return -1;
    memcpy(&number, cmd, sizeof number);
    if (number >= PO__SIM_APP_MAX)
        return -1;
    if (a->seen[number / 8] >> number % 8 & 1)
        a->doubled = number;
    a->seen[number / 8] |= (uint8_t)(1u << number % 8);
    a->count++;
    a->digest = (a->digest ^ number ^ index << 20) * UINT64_C(0xBF58476D1CE4E5B9);
    memcpy(result, &a->count, sizeof a->count);
    *result_len = sizeof a->count;
    return 0;
}

static int app_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len), void *ctx)
{
    const struct po__simapp *a = arg;
    uint64_t head[HEAD_WORDS] = {a->count, a->digest, a->doubled};
    int rv = write(ctx, head, sizeof head);
    return rv ? rv : write(ctx, a->seen, sizeof a->seen);
}

static int app_restore(void *arg, const void *data, size_t len)
{
    struct po__simapp *a = arg;
    uint64_t head[HEAD_WORDS] = {0};
    if (len && len != sizeof head + sizeof a->seen)
        return -1;
    if (len) {
        memcpy(head, data, sizeof head);
        memcpy(a->seen, (const uint8_t *)data + sizeof head, sizeof a->seen);
    } else {
        memset(a->seen, 0, sizeof a->seen);
    }
    a->count = head[0];
    a->digest = head[1];
    a->doubled = head[2];
    return 0;
}

void po__simapp_init(struct po__simnode *n)
{
    memset(&n->app, 0, sizeof n->app);
    n->machine =
        (struct po_state_machine){sizeof n->machine, &n->app, app_apply, app_snapshot, app_restore};
}
