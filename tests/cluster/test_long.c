/* Large pipelines on three nodes in one process, through the public interface alone: a chain of a
 * thousand steps, each of which begins in the commit that ends the one before, and a step with a
 * task for each of ten thousand elements.
 *
 * Nothing here asserts how long something takes; what does not come within GUARD_MS never comes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GUARD_MS 120000
#include "check.h"

#define NODES 3
#define STEPS 1000
#define WIDTH 10000

static char root[] = "/tmp/po-long.XXXXXX";

struct member {
    po_node *node;
    char name[8], dir[128], peer[32], worker[32];
};

/* Distinct free ports: all are held at once before any is given back. */
static void choose_addresses(struct member members[NODES])
{
    int fds[2 * NODES];
    for (int i = 0; i < 2 * NODES; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&a, sizeof a) == 0);
        CHECK(getsockname(fds[i], (struct sockaddr *)&a, &len) == 0);
        snprintf(i % 2 ? members[i / 2].worker : members[i / 2].peer, sizeof members->peer,
                 "127.0.0.1:%u", ntohs(a.sin_port));
    }
    for (int i = 0; i < 2 * NODES; i++)
        close(fds[i]);
}

static void open_cluster(struct member members[NODES])
{
    struct po_member founding[NODES];
    char error[512] = "";
    CHECK(mkdtemp(root));
    choose_addresses(members);
    for (int i = 0; i < NODES; i++) {
        snprintf(members[i].name, sizeof members[i].name, "cp%d", i + 1);
        snprintf(members[i].dir, sizeof members[i].dir, "%s/cp%d", root, i + 1);
        founding[i] = (struct po_member){members[i].name, members[i].peer};
    }
    for (int i = 0; i < NODES; i++) {
        struct po_node_opts o = {.size = sizeof o,
                                 .name = members[i].name,
                                 .data_dir = members[i].dir,
                                 .listen = members[i].peer,
                                 .worker_listen = members[i].worker,
                                 .bootstrap = 1,
                                 .members = founding,
                                 .members_count = NODES};
        if (po_node_start(&members[i].node, &o, error, sizeof error)) {
            fprintf(stderr, "%s: %s\n", members[i].name, error);
            abort();
        }
    }
    CHECK(po_node_wait_leader(members[0].node, GUARD_MS) == 0);
}

static void close_cluster(struct member members[NODES])
{
    for (int i = 0; i < NODES; i++)
        po_node_stop(members[i].node);
    remove_tree(root);
}

/* ---- the worker ---- */

struct counts {
    unsigned steps; /* of the chain that have ended. One at a time: nobody else looks at it */
    atomic_uint elements, sums;
};

static void complete(po_task *task, unsigned long long number)
{
    char result[24];
    snprintf(result, sizeof result, "%llu", number);
    CHECK(po_task_complete(task, result, strlen(result)) == 0);
}

/* Steps are called s0, s1, ... Each results in one more than the step before. */
static void count_up(void *arg, po_task *task)
{
    struct counts *c = arg;
    char step[32];
    const char *input = po_task_input(task, NULL), *before = strstr(input, "\"input\":");
    snprintf(step, sizeof step, "\"step\":\"s%u\"", c->steps);
    CHECK(before && strstr(input, step));
    CHECK(strtoul(before + 8, NULL, 10) == c->steps); /* null reads as 0 */
    CHECK(po_task_attempt(task) == 1);
    complete(task, ++c->steps);
}

/* {"n": 7} gives 7 * 7. */
static void square(void *arg, po_task *task)
{
    struct counts *c = arg;
    const char *number = strchr(po_task_input(task, NULL), ':');
    CHECK(number && po_task_attempt(task) == 1);
    unsigned long long n = strtoull(number + 1, NULL, 10);
    atomic_fetch_add(&c->elements, 1);
    complete(task, n * n);
}

/* The outputs of all elements must be there, each at its place. */
static void add_up(void *arg, po_task *task)
{
    struct counts *c = arg;
    char *at = (char *)po_task_input(task, NULL);
    unsigned long long sum = 0;
    for (unsigned long long n = 0; n < WIDTH; n++) {
        CHECK(*at == (n ? ',' : '['));
        unsigned long long squared = strtoull(at + 1, &at, 10);
        CHECK(squared == n * n);
        sum += squared;
    }
    CHECK(strcmp(at, "]") == 0);
    atomic_fetch_add(&c->sums, 1);
    complete(task, sum);
}

static void *run(void *arg)
{
    CHECK(po_worker_run(arg) == 0);
    return NULL;
}

static po_worker *start_worker(const struct member members[NODES], pthread_t *thread,
                               struct counts *counts)
{
    char error[512] = "", addresses[NODES * 32];
    po_worker *worker;
    snprintf(addresses, sizeof addresses, "%s,%s,%s", members[0].worker, members[1].worker,
             members[2].worker);
    struct po_worker_opts opts = {.size = sizeof opts, .id = "w1", .addresses = addresses};
    const struct {
        const char *name;
        po_task_handler handler;
        uint32_t concurrency;
    } offered[] = {{"count:up", count_up, 1}, {"square:n", square, 64}, {"add:up", add_up, 1}};
    CHECK(po_worker_open(&worker, &opts, error, sizeof error) == 0);
    for (size_t i = 0; i < sizeof offered / sizeof *offered; i++) {
        struct po_capability c = {
            .size = sizeof c, .name = offered[i].name, .max_concurrency = offered[i].concurrency};
        CHECK(po_worker_handle(worker, &c, offered[i].handler, counts) == 0);
    }
    CHECK(pthread_create(thread, NULL, run, worker) == 0);
    return worker;
}

/* ---- the chain ---- */

static void define_chain(po_client *client)
{
    static char document[STEPS * 96];
    int len = snprintf(document, sizeof document,
                       "{\"name\":\"chain\",\"start_node\":\"s0\",\"steps\":[");
    for (unsigned i = 0; i < STEPS; i++) {
        len += snprintf(document + len, sizeof document - (size_t)len,
                        "%s{\"name\":\"s%u\",\"capability\":\"count:up\"", i ? "," : "", i);
        if (i + 1 < STEPS)
            len += snprintf(document + len, sizeof document - (size_t)len, ",\"next_node\":\"s%u\"",
                            i + 1);
        len += snprintf(document + len, sizeof document - (size_t)len, "}");
    }
    len += snprintf(document + len, sizeof document - (size_t)len, "]}");
    CHECK((size_t)len < sizeof document);
    CHECK(po_pipeline_define(client, document, (size_t)len, &patient) == 0);
}

/* The three nodes are asked in turn: any of them starts a run and tells its end. */
static void test_chain(struct member members[NODES], const struct counts *counts)
{
    define_chain(po_node_client(members[0].node));
    uint64_t id;
    int state;
    char *json;
    CHECK(po_run_start(po_node_client(members[1].node), "chain", NULL, NULL, &patient, &id) == 0);
    CHECK(po_run_wait(po_node_client(members[2].node), id, &patient, &state, &json) == 0);
    CHECK(state == PO_RUN_SUCCEEDED && counts->steps == STEPS);
    CHECK(strstr(json, "\"result\":1000"));
    unsigned succeeded = 0;
    for (const char *at = json; (at = strstr(at, "\"attempts\":1")); at++)
        succeeded++;
    CHECK(succeeded == STEPS);
    po_free(json);
}

/* ---- the map ---- */

static void test_map(struct member members[NODES], const struct counts *counts)
{
    static const char document[] =
        "{\"name\": \"wide\", \"params\": {\"list\": {\"type\": \"array\", \"required\": true}},"
        " \"steps\": [{\"name\": \"each\", \"capability\": \"square:n\", \"map\": "
        "\"${params.list}\","
        "              \"map_parallel\": 1024, \"input\": {\"n\": \"${item}\"}},"
        "             {\"name\": \"all\", \"capability\": \"add:up\", \"depends_on\": [\"each\"],"
        "              \"input\": \"${steps.each.output}\"}],"
        " \"output\": {\"sum\": \"${steps.all.output}\"}}";
    static char params[WIDTH * 6 + 32];
    int len = snprintf(params, sizeof params, "{\"list\":[0");
    for (unsigned i = 1; i < WIDTH; i++)
        len += snprintf(params + len, sizeof params - (size_t)len, ",%u", i);
    len += snprintf(params + len, sizeof params - (size_t)len, "]}");
    CHECK((size_t)len < sizeof params);
    po_client *client = po_node_client(members[0].node);
    uint64_t id;
    int state;
    char *json;
    CHECK(po_pipeline_define(client, document, strlen(document), &patient) == 0);
    CHECK(po_run_start(client, "wide", params, NULL, &patient, &id) == 0);
    CHECK(po_run_wait(client, id, &patient, &state, &json) == 0);
    CHECK(state == PO_RUN_SUCCEEDED);
    CHECK(atomic_load(&counts->elements) == WIDTH && atomic_load(&counts->sums) == 1);
    CHECK(strstr(json, "{\"sum\":333283335000}"));
    po_free(json);
}

int main(void)
{
    struct member members[NODES] = {{NULL}};
    struct counts counts = {.steps = 0};
    pthread_t thread;
    open_cluster(members);
    po_worker *worker = start_worker(members, &thread, &counts);
    test_chain(members, &counts);
    test_map(members, &counts);
    po_worker_stop(worker);
    pthread_join(thread, NULL);
    po_worker_close(worker);
    close_cluster(members);
    return 0;
}
