/* One node with its client and, if asked for, a worker, all in this process. */
#ifndef PLACE_H
#define PLACE_H

#include <pthread.h>

#include "check.h"

struct place {
    char dir[64], address[64];
    po_node *node;
    po_client *client;
    po_worker *worker; /* its capabilities are the test's: between open_worker and run_worker */
    pthread_t thread;
};

static inline void open_place(struct place *p)
{
    char error[512];
    snprintf(p->dir, sizeof p->dir, "/tmp/po-place-XXXXXX");
    CHECK(mkdtemp(p->dir));
    struct po_node_opts opts = {.size = sizeof opts,
                                .name = "solo",
                                .bootstrap = 1,
                                .data_dir = p->dir,
                                .worker_listen = "127.0.0.1:0"};
    if (po_node_start(&p->node, &opts, error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    CHECK(po_node_wait_leader(p->node, GUARD_MS) == 0);
    CHECK(po_node_worker_address(p->node, p->address, sizeof p->address) == 0);
    p->client = po_node_client(p->node);
}

static inline void close_place(struct place *p)
{
    po_node_stop(p->node);
    remove_tree(p->dir);
}

static inline void open_worker(struct place *p, struct po_worker_opts opts)
{
    char error[512];
    opts.size = sizeof opts;
    opts.id = "w1";
    opts.addresses = p->address;
    opts.heartbeat_ms = 200;
    CHECK(po_worker_open(&p->worker, &opts, error, sizeof error) == 0);
}

static void *place_run(void *worker)
{
    CHECK(po_worker_run(worker) == 0);
    return NULL;
}

static inline void run_worker(struct place *p)
{
    CHECK(pthread_create(&p->thread, NULL, place_run, p->worker) == 0);
}

static inline void stop_worker(struct place *p)
{
    po_worker_stop(p->worker);
    pthread_join(p->thread, NULL);
    po_worker_close(p->worker);
}

#endif
