#include "nng_close.h"

#include <pthread.h>
#include <time.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"

static void *closer(void *arg)
{
    nng_socket *socket = arg;
    nng_close(*socket);
    po__free(socket);
    return NULL;
}

int po__nng_close(nng_socket socket)
{
    pthread_t thread;
    struct timespec until;
    nng_socket *copy = po__memdup(&socket, sizeof socket);
    if (!copy || pthread_create(&thread, NULL, closer, copy)) {
        po__free(copy);
        nng_close(socket); /* no thread to watch it with */
        return 0;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PO__NNG_CLOSE_MS / 1000;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0)
        return 0;
    pthread_detach(thread);
    return PO_EBUSY;
}
