/* Calls over a channel, and what became of them. */
#ifndef PO__TEST_ASKER_H
#define PO__TEST_ASKER_H

#include "wait.h"

#include <stdatomic.h>

#include "base/buf.h"
#include "node/channel.h"

struct answer {
    atomic_int done;
    int code;      /* of the channel */
    int resp_code; /* of the response */
    bool on_callback_thread;
    struct po__channel *ch;
};

static inline void on_answer(void *arg, int code, const void *resp, size_t len)
{
    struct answer *a = arg;
    struct po__response r;
    a->code = code;
    a->resp_code = 1;
    if (code == 0 && po__response_decode(resp, len, &r) == 0)
        a->resp_code = r.code;
    if (a->ch)
        a->on_callback_thread = a->ch->ops->on_callback_thread(a->ch);
    atomic_fetch_add(&a->done, 1);
}

/* A command that must not be executed twice, except that its key makes that safe. */
static inline struct po__buf submit(void)
{
    struct po__buf b = {0};
    struct po__cmd cmd = {.type = PO__CMD_TASK_SUBMIT};
    cmd.submit.key = po__str("the-key");
    cmd.submit.capability = po__str("do:it");
    cmd.submit.input = po__str("{}");
    po__request_command(&b, 5000, &cmd);
    assert_int_equal(b.err, 0);
    return b;
}

#endif
