/* Long pipelines on three nodes in one process, through the public interface alone: a chain of a
 * thousand steps, each of which begins in the commit that ends the one before.
 *
 * Nothing here asserts how long something takes; what does not come within GUARD_MS never comes. */
#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NODES    3
#define STEPS    1000
#define GUARD_MS 120000

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s (%s)\n", __FILE__, __LINE__, #condition,          \
                    po_client_error());                                                            \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static const struct po_call_opts patient = {.size = sizeof patient, .timeout_ms = GUARD_MS};
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

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void close_cluster(struct member members[NODES])
{
    for (int i = 0; i < NODES; i++)
        po_node_stop(members[i].node);
    nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- the worker ---- */

/* Steps are called s0, s1, ... Each results in one more than the step before. There is one slot,
 * so that nobody else looks at *next. */
static void count_up(void *arg, po_task *task)
{
    unsigned *next = arg;
    size_t len;
    char step[32], result[16];
    const char *input = po_task_input(task, &len);
    const char *before = strstr(input, "\"input\":");
    snprintf(step, sizeof step, "\"step\":\"s%u\"", *next);
    CHECK(before && strstr(input, step));
    CHECK(strtoul(before + 8, NULL, 10) == *next); /* null reads as 0 */
    CHECK(po_task_attempt(task) == 1);
    ++*next;
    snprintf(result, sizeof result, "%u", *next);
    CHECK(po_task_complete(task, result, strlen(result)) == 0);
}

static void *run(void *arg)
{
    CHECK(po_worker_run(arg) == 0);
    return NULL;
}

static po_worker *start_worker(const struct member members[NODES], pthread_t *thread,
                               unsigned *next)
{
    char error[512] = "", addresses[NODES * 32];
    po_worker *worker;
    snprintf(addresses, sizeof addresses, "%s,%s,%s", members[0].worker, members[1].worker,
             members[2].worker);
    struct po_worker_opts opts = {.size = sizeof opts, .id = "w1", .addresses = addresses};
    struct po_capability c = {.size = sizeof c, .name = "count:up", .max_concurrency = 1};
    CHECK(po_worker_open(&worker, &opts, error, sizeof error) == 0);
    CHECK(po_worker_handle(worker, &c, count_up, next) == 0);
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
static void test_chain(struct member members[NODES], unsigned *next)
{
    define_chain(po_node_client(members[0].node));
    uint64_t id;
    int state;
    char *json;
    CHECK(po_run_start(po_node_client(members[1].node), "chain", NULL, NULL, &patient, &id) == 0);
    CHECK(po_run_wait(po_node_client(members[2].node), id, &patient, &state, &json) == 0);
    CHECK(state == PO_RUN_SUCCEEDED && *next == STEPS);
    CHECK(strstr(json, "\"result\":1000"));
    unsigned succeeded = 0;
    for (const char *at = json; (at = strstr(at, "\"attempts\":1")); at++)
        succeeded++;
    CHECK(succeeded == STEPS);
    po_free(json);
}

int main(void)
{
    struct member members[NODES] = {{NULL}};
    pthread_t thread;
    unsigned next = 0;
    open_cluster(members);
    po_worker *worker = start_worker(members, &thread, &next);
    test_chain(members, &next);
    po_worker_stop(worker);
    pthread_join(thread, NULL);
    po_worker_close(worker);
    close_cluster(members);
    return 0;
}
