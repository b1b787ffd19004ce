#include "channel.h"

static _Thread_local bool runs_callbacks;

void po__callback_thread_begin(void)
{
    runs_callbacks = true;
}

bool po__on_callback_thread(void)
{
    return runs_callbacks;
}
