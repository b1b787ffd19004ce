/* Workers that are their own control plane: without a cluster, before one appears, and beside it.
 * All nodes are real ones, in this process. */
#include <arpa/inet.h>
#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pipeorch/pipeorch.h>
#include "wait.h"

#define SLOTS    2
#define LIMIT_MS 2500 /* of a task; a renewal may take half of it, on a busy machine */

struct fixture {
    char folder[64], temporary[80], data[80], cluster_data[80];
    int port_fd; /* keeps the cluster's port from everyone else */
    char cluster_address[32];
    po_node *cluster;
    po_worker *worker;
    pthread_t thread;
    bool running;
    int run_code;
    struct po_worker_opts opts;
    atomic_uint in_handlers, most_in_handlers, handled, submitted;
    atomic_int hold;
};

/* ---- the worker ---- */

static void handler(void *arg, po_task *task)
{
    struct fixture *f = arg;
    unsigned now = atomic_fetch_add(&f->in_handlers, 1) + 1,
             most = atomic_load(&f->most_in_handlers);
    while (now > most && !atomic_compare_exchange_weak(&f->most_in_handlers, &most, now))
        ;
    while (atomic_load(&f->hold) && !po_task_cancelled(task))
        wait_pause();
    atomic_fetch_add(&f->handled, 1);
    atomic_fetch_sub(&f->in_handlers, 1); /* before the answer, which frees the slot */
    po_task_complete(task, "{\"ok\":true}", 11);
}

static void *run(void *arg)
{
    struct fixture *f = arg;
    f->run_code = po_worker_run(f->worker);
    return NULL;
}

static void start(struct fixture *f)
{
    char error[512] = "";
    struct po_capability cap = {.size = sizeof cap, .name = "do:it", .max_concurrency = SLOTS};
    assert_int_equal(po_worker_open(&f->worker, &f->opts, error, sizeof error), 0);
    assert_int_equal(po_worker_handle(f->worker, &cap, handler, f), 0);
    assert_int_equal(po_worker_wait_ready(f->worker, 0), PO_ETIMEDOUT);
    assert_null(po_worker_client(f->worker));
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    f->running = true;
}

static void stop(struct fixture *f)
{
    if (!f->running)
        return;
    po_worker_stop(f->worker);
    pthread_join(f->thread, NULL);
    f->running = false;
    assert_int_equal(po_worker_wait_ready(f->worker, 0), PO_ECLOSED);
    assert_null(po_worker_client(f->worker));
}

static void start_ready(struct fixture *f)
{
    start(f);
    assert_int_equal(po_worker_wait_ready(f->worker, WAIT_GUARD_MS), 0);
}

/* Ready at once although no cluster answers: the worker's folder holds something from before. */
static void start_beside(struct fixture *f)
{
    f->opts.standalone_dir = f->data;
    start_ready(f);
    stop(f);
    po_worker_close(f->worker);
    f->opts.addresses = f->cluster_address;
    start_ready(f);
}

static po_client *open_client(const char *addresses)
{
    po_client *client;
    struct po_client_opts opts = {.size = sizeof opts};
    assert_int_equal(po_client_open(&client, addresses, &opts), 0);
    return client;
}

/* A client of the worker's own endpoint, as another process would have. */
static po_client *open_endpoint(struct fixture *f)
{
    char address[PO_ADDRESS_MAX_BYTES + 1];
    assert_int_equal(po_worker_standalone_address(f->worker, address, sizeof address), 0);
    return open_client(address);
}

static bool endpoint_is_gone(struct fixture *f)
{
    char address[PO_ADDRESS_MAX_BYTES + 1];
    return po_worker_standalone_address(f->worker, address, sizeof address) == PO_ENOTFOUND;
}

/* ---- tasks ---- */

static int submit_key(po_client *client, const char *capability, uint32_t timeout_ms,
                      const char *key, uint64_t *id)
{
    struct po_task_opts task = {
        .size = sizeof task, .capability = capability, .timeout_ms = timeout_ms};
    struct po_call_opts call = {.size = sizeof call, .key = key, .key_len = key ? strlen(key) : 0};
    return po_submit_task(client, &task, &call, id);
}

static uint64_t submit(po_client *client, uint32_t timeout_ms)
{
    uint64_t id = 0;
    assert_int_equal(submit_key(client, "do:it", timeout_ms, NULL, &id), 0);
    return id;
}

static void wait_succeeded(po_client *client, uint64_t id, uint32_t attempts)
{
    struct po_task_info info = {.size = sizeof info};
    assert_int_equal(po_task_wait(client, id, NULL, &info), 0);
    assert_int_equal(info.state, PO_TASK_SUCCEEDED);
    assert_int_equal(info.attempts, attempts);
    assert_string_equal(info.result, "{\"ok\":true}");
    po_free(info.result);
    po_free(info.error);
}

/* ---- the cluster ---- */

static void start_cluster(struct fixture *f)
{
    char error[512] = "";
    struct po_node_opts opts = {.size = sizeof opts,
                                .name = "cp",
                                .data_dir = f->cluster_data,
                                .worker_listen = f->cluster_address,
                                .bootstrap = 1};
    if (po_node_start(&f->cluster, &opts, error, sizeof error))
        fail_msg("%s", error);
}

static bool answer_has(po_client *client, int what, const char *text)
{
    struct po_query q = {.size = sizeof q, .what = what};
    char *json = NULL;
    bool found = po_query(client, &q, NULL, &json) == 0 && strstr(json, text) != NULL;
    po_free(json);
    return found;
}

/* ---- fixture ---- */

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static int is_entry(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static unsigned entries(const char *folder)
{
    struct dirent **list;
    int n = scandir(folder, &list, is_entry, NULL);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return (unsigned)n;
}

static void reserve_port(struct fixture *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int one = 1;
    f->port_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(f->port_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    assert_int_equal(bind(f->port_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(f->port_fd, (struct sockaddr *)&a, &len), 0);
    snprintf(f->cluster_address, sizeof f->cluster_address, "127.0.0.1:%u", ntohs(a.sin_port));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/po-standalone-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->temporary, sizeof f->temporary, "%s/tmp", f->folder);
    snprintf(f->data, sizeof f->data, "%s/data", f->folder);
    snprintf(f->cluster_data, sizeof f->cluster_data, "%s/cp", f->folder);
    assert_int_equal(mkdir(f->temporary, 0700), 0);
    assert_int_equal(setenv("TMPDIR", f->temporary, 1), 0);
    reserve_port(f);
    f->opts = (struct po_worker_opts){.size = sizeof f->opts,
                                      .id = "w1",
                                      .heartbeat_ms = 1000,
                                      .drain_ms = 10000,
                                      .standalone_listen = "127.0.0.1:0"};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 0);
    stop(f);
    po_worker_close(f->worker);
    po_node_stop(f->cluster);
    close(f->port_fd);
    nftw(f->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* ---- tests ---- */

static void without_a_cluster_tasks_are_served_all_the_same(void **state)
{
    struct fixture *f = *state;
    start_ready(f);
    po_client *inside = po_worker_client(f->worker), *outside = open_endpoint(f);
    assert_non_null(inside);
    wait_succeeded(inside, submit(inside, 0), 1);
    wait_succeeded(outside, submit(outside, 0), 1);
    assert_true(answer_has(outside, PO_QUERY_WORKERS, "\"id\":\"w1\""));
    assert_int_equal(entries(f->temporary), 1);
    po_client_close(outside);
    stop(f);
    assert_int_equal(f->run_code, 0);
    assert_int_equal(entries(f->temporary), 0); /* nothing is left behind */
}

static void *submit_to_the_end(void *arg)
{
    struct fixture *f = arg;
    po_client *inside = po_worker_client(f->worker);
    uint64_t id;
    int rv;
    while ((rv = submit_key(inside, "do:it", 0, NULL, &id)) != PO_ECLOSED) {
        assert_true(rv == 0 || rv == PO_EUNKNOWN);
        atomic_fetch_add(&f->submitted, 1);
    }
    return inside;
}

/* The run ends when it must, not when the host's threads are ready for it. */
static void the_client_may_be_called_while_the_worker_ends_and_after(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[3];
    void *inside;
    uint64_t id;
    start_ready(f);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_to_the_end, f), 0);
    wait_until(atomic_load(&f->submitted) > 20);
    stop(f);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], &inside);
    assert_int_equal(submit_key(inside, "do:it", 0, NULL, &id), PO_ECLOSED);
    assert_int_equal(po_task_wait(inside, 1, NULL, NULL), PO_ECLOSED);
    assert_null(po_worker_client(f->worker));
}

static void no_endpoint_is_opened_that_was_not_asked_for(void **state)
{
    struct fixture *f = *state;
    f->opts.standalone_listen = NULL;
    start_ready(f);
    assert_true(endpoint_is_gone(f));
    po_client *inside = po_worker_client(f->worker);
    wait_succeeded(inside, submit(inside, 0), 1);
}

static void work_in_a_data_directory_survives_the_worker(void **state)
{
    struct fixture *f = *state;
    f->opts.standalone_dir = f->data;
    f->opts.drain_ms = 1;
    atomic_store(&f->hold, 1);
    start_ready(f);
    po_client *inside = po_worker_client(f->worker);
    uint64_t first = submit(inside, 0), second = submit(inside, 0), third = submit(inside, 0);
    wait_until(atomic_load(&f->in_handlers) == SLOTS);
    stop(f);
    po_worker_close(f->worker);
    atomic_store(&f->hold, 0);
    start_ready(f);
    inside = po_worker_client(f->worker);
    wait_succeeded(inside, first, 2); /* it was given back */
    wait_succeeded(inside, second, 2);
    wait_succeeded(inside, third, 1);
    assert_int_equal(entries(f->temporary), 0);
}

/* The worker goes over: what its own node has is finished, new work goes to the cluster, and both
 * together never have more handlers than there are slots. */
static void a_cluster_that_appears_takes_over(void **state)
{
    struct fixture *f = *state;
    uint64_t id = 0, again = 0;
    f->opts.addresses = f->cluster_address;
    atomic_store(&f->hold, 1);
    start_ready(f);
    po_client *own = open_endpoint(f);
    uint64_t local[6];
    for (int i = 0; i < 6; i++)
        local[i] = submit(own, 0);
    assert_int_equal(submit_key(own, "do:it", 0, "once", &id), 0);
    wait_until(atomic_load(&f->in_handlers) == SLOTS);
    start_cluster(f);
    po_client *cluster = open_client(f->cluster_address);
    wait_until(answer_has(cluster, PO_QUERY_WORKERS, "\"status\":\"online\""));
    uint64_t remote[6];
    for (int i = 0; i < 6; i++)
        remote[i] = submit(cluster, 0);
    wait_until(submit_key(own, "do:it", 0, NULL, NULL) == PO_EREFUSED);
    assert_non_null(strstr(po_client_error(), f->cluster_address));
    assert_int_equal(submit_key(own, "do:it", 0, "once", &again), 0); /* it was accepted before */
    assert_int_equal(again, id);
    atomic_store(&f->hold, 0);
    for (int i = 0; i < 6; i++)
        wait_succeeded(cluster, remote[i], 1);
    wait_until(endpoint_is_gone(f)); /* the node has ended */
    wait_until(entries(f->temporary) == 0);
    wait_succeeded(cluster, submit(cluster, 0), 1);
    assert_int_equal(atomic_load(&f->handled), 6 + 1 + 6 + 1);
    assert_in_range(atomic_load(&f->most_in_handlers), 1, SLOTS);
    (void)local;
    po_client_close(own);
    po_client_close(cluster);
}

/* The cluster's task waits for slots that the worker's own tasks have, longer than its time limit,
 * and is not taken for dead. */
static void leases_are_kept_while_slots_are_the_others(void **state)
{
    struct fixture *f = *state;
    atomic_store(&f->hold, 1);
    start_beside(f);
    po_client *own = po_worker_client(f->worker);
    uint64_t local[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        local[i] = submit(own, 0);
    wait_until(atomic_load(&f->in_handlers) == SLOTS);
    start_cluster(f);
    po_client *cluster = po_node_client(f->cluster);
    wait_until(answer_has(cluster, PO_QUERY_WORKERS, "\"status\":\"online\""));
    uint64_t began = wait_now_ms(), remote = submit(cluster, LIMIT_MS);
    wait_until(wait_now_ms() > began + 2 * LIMIT_MS + LIMIT_MS / 4);
    atomic_store(&f->hold, 0);
    wait_succeeded(cluster, remote, 1);
    for (int i = 0; i < SLOTS; i++)
        wait_succeeded(own, local[i], 1); /* the node lives as long as its client is held */
    assert_in_range(atomic_load(&f->most_in_handlers), 1, SLOTS);
}

/* What a task takes is known to the plane that gave it, and to no other: a worker with resources
 * does not begin the cluster's tasks beside its own, although a slot is free. */
static void resources_are_not_taken_twice(void **state)
{
    struct fixture *f = *state;
    const struct po_resource gpu = {"gpus", 1};
    f->opts.resources = &gpu;
    f->opts.resources_count = 1;
    atomic_store(&f->hold, 1);
    start_beside(f);
    po_client *own = po_worker_client(f->worker);
    uint64_t local = submit(own, 0);
    wait_until(atomic_load(&f->in_handlers) == 1);
    start_cluster(f);
    po_client *cluster = po_node_client(f->cluster);
    wait_until(answer_has(cluster, PO_QUERY_WORKERS, "\"queued\":0"));
    uint64_t remote = submit(cluster, 0);
    wait_until(answer_has(cluster, PO_QUERY_WORKERS, "\"queued\":1")); /* in hand, and waiting */
    assert_int_equal(atomic_load(&f->most_in_handlers), 1);
    atomic_store(&f->hold, 0);
    wait_succeeded(own, local, 1);
    wait_succeeded(cluster, remote, 1);
    assert_int_equal(atomic_load(&f->most_in_handlers), 1);
}

static void the_limit_of_the_whole_worker_holds_for_both(void **state)
{
    struct fixture *f = *state;
    f->opts.slots = 1;
    atomic_store(&f->hold, 1);
    start_beside(f);
    po_client *own = po_worker_client(f->worker);
    uint64_t local = submit(own, 0);
    wait_until(atomic_load(&f->in_handlers) == 1);
    start_cluster(f);
    po_client *cluster = po_node_client(f->cluster);
    uint64_t remote = submit(cluster, 0);
    wait_until(answer_has(cluster, PO_QUERY_WORKERS, "\"queued\":1"));
    atomic_store(&f->hold, 0);
    wait_succeeded(own, local, 1);
    wait_succeeded(cluster, remote, 1);
    assert_int_equal(atomic_load(&f->most_in_handlers), 1);
}

static void work_left_in_the_directory_is_finished_beside_the_cluster(void **state)
{
    struct fixture *f = *state;
    f->opts.standalone_dir = f->data;
    f->opts.drain_ms = 1;
    atomic_store(&f->hold, 1);
    start_ready(f);
    (void)submit(po_worker_client(f->worker), 0);
    wait_until(atomic_load(&f->in_handlers) == 1);
    stop(f);
    po_worker_close(f->worker);
    atomic_store(&f->hold, 0);
    start_cluster(f);
    unsigned before = atomic_load(&f->handled);
    f->opts.addresses = f->cluster_address;
    start_ready(f);
    wait_until(atomic_load(&f->handled) == before + 1);
    wait_until(endpoint_is_gone(f));
    po_client *cluster = po_node_client(f->cluster);
    wait_succeeded(cluster, submit(cluster, 0), 1);
}

/* Nobody could give its node work: it only goes on trying. */
static void no_node_is_started_that_nobody_can_reach(void **state)
{
    struct fixture *f = *state;
    f->opts.addresses = f->cluster_address;
    f->opts.standalone_listen = NULL;
    start(f);
    assert_int_equal(po_worker_wait_ready(f->worker, 6000), PO_ETIMEDOUT); /* one attempt is over */
    assert_int_equal(entries(f->temporary), 0);
    start_cluster(f);
    assert_int_equal(po_worker_wait_ready(f->worker, WAIT_GUARD_MS), 0);
}

static void what_cannot_start_is_explained(void **state)
{
    struct fixture *f = *state;
    char error[512];
    f->opts.standalone = PO_STANDALONE_NEVER;
    assert_int_equal(po_worker_open(&f->worker, &f->opts, error, sizeof error), PO_EINVAL);
    assert_non_null(strstr(error, "no address"));
    f->opts.standalone = 3;
    assert_int_equal(po_worker_open(&f->worker, &f->opts, error, sizeof error), PO_EINVAL);
    f->opts.standalone = PO_STANDALONE_AUTO;
    f->opts.standalone_listen = "0.0.0.0:0";
    assert_int_equal(po_worker_open(&f->worker, &f->opts, error, sizeof error), PO_EREFUSED);
    assert_non_null(strstr(error, "loopback"));
    f->opts.standalone_listen = NULL;
    f->opts.standalone_dir = "/nowhere/at/all";
    start(f);
    pthread_join(f->thread, NULL);
    f->running = false;
    assert_int_not_equal(f->run_code, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(without_a_cluster_tasks_are_served_all_the_same),
        T(the_client_may_be_called_while_the_worker_ends_and_after),
        T(no_endpoint_is_opened_that_was_not_asked_for),
        T(work_in_a_data_directory_survives_the_worker),
        T(a_cluster_that_appears_takes_over),
        T(leases_are_kept_while_slots_are_the_others),
        T(resources_are_not_taken_twice),
        T(the_limit_of_the_whole_worker_holds_for_both),
        T(work_left_in_the_directory_is_finished_beside_the_cluster),
        T(no_node_is_started_that_nobody_can_reach),
        T(what_cannot_start_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
