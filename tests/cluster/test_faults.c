/* Three nodes in one process whose faults are made with testing.h, while two threads submit tasks
 * over the network: the leader is paused, cut off, and killed in turn. Whatever was acknowledged is
 * there in the end, and who was cut off acknowledged nothing meanwhile.
 *
 * Nothing here asserts how long something takes; conditions are polled. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pipeorch/testing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define NODES     3
#define PROGRESS  20     /* tasks acknowledged between two faults */
#define TASKS_MAX 100000 /* acknowledged in all */
#define SHORT_MS  1000   /* longer than an election; what has no quorum has none for so long */

static struct node {
    po_node *node;
    uint64_t id;
    char name[8], dir[64], peer[32], worker[32];
} nodes[NODES];

static char root[] = "/tmp/po-faults.XXXXXX", controllers[128];
static uint64_t ids[TASKS_MAX]; /* of the tasks that were acknowledged */
static atomic_uint acknowledged;
static atomic_bool done;

static struct po_node_status status_of(int i)
{
    struct po_node_status st = {.size = sizeof st};
    CHECK(po_node_status(nodes[i].node, &st) == 0);
    return st;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

#define WAIT_UNTIL(condition)                                                                      \
    for (unsigned waited = 0; !(condition); waited++) {                                            \
        CHECK(waited < GUARD_MS && #condition);                                                    \
        pause_ms(1);                                                                               \
    }

/* Of the nodes that `among` has a bit for. */
static int leader_of(unsigned among)
{
    for (int i = 0; i < NODES; i++)
        if ((among >> i & 1) && nodes[i].node && status_of(i).role == PO_ROLE_LEADER)
            return i;
    return -1;
}

static int wait_leader(unsigned among)
{
    WAIT_UNTIL(leader_of(among) >= 0);
    return leader_of(among);
}

static void choose_addresses(void)
{
    int fds[2 * NODES], one = 1;
    for (int i = 0; i < 2 * NODES; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fds[i] >= 0 && setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
        CHECK(bind(fds[i], (struct sockaddr *)&a, sizeof a) == 0);
        CHECK(getsockname(fds[i], (struct sockaddr *)&a, &len) == 0);
        struct node *n = &nodes[i / 2];
        snprintf(i % 2 ? n->worker : n->peer, sizeof n->peer, "127.0.0.1:%u", ntohs(a.sin_port));
        if (i % 2)
            snprintf(controllers + strlen(controllers), sizeof controllers - strlen(controllers),
                     "%s%s", i > 1 ? "," : "", n->worker);
    }
    /* The sockets stay, and keep others from the ports. */
}

static void start(int i)
{
    struct po_member members[NODES];
    char error[512];
    for (int k = 0; k < NODES; k++)
        members[k] = (struct po_member){nodes[k].name, nodes[k].peer};
    struct po_node_opts o = {.size = sizeof o,
                             .name = nodes[i].name,
                             .data_dir = nodes[i].dir,
                             .listen = nodes[i].peer,
                             .worker_listen = nodes[i].worker,
                             .bootstrap = 1,
                             .members = members,
                             .members_count = NODES,
                             .election_ms = 300,
                             .heartbeat_ms = 30,
                             .segment_bytes = 1 << 20};
    if (po_node_start(&nodes[i].node, &o, error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        abort();
    }
    nodes[i].id = status_of(i).id;
}

static const struct po_task_opts task = {.size = sizeof task, .capability = "nobody:home"};

static void submit(po_client *client)
{
    uint64_t id = 0;
    CHECK(po_submit_task(client, &task, &patient, &id) == 0);
    unsigned n = atomic_fetch_add(&acknowledged, 1);
    CHECK(n < TASKS_MAX);
    ids[n] = id;
}

static void *keep_submitting(void *arg)
{
    while (!atomic_load(&done))
        submit(arg);
    return NULL;
}

static void progress(void)
{
    unsigned from = atomic_load(&acknowledged);
    WAIT_UNTIL(atomic_load(&acknowledged) >= from + PROGRESS);
}

/* A call that this node cannot serve. */
static void expect_none(int i)
{
    const struct po_call_opts brief = {.size = sizeof brief, .timeout_ms = SHORT_MS};
    int rv = po_submit_task(po_node_client(nodes[i].node), &task, &brief, NULL);
    CHECK(rv == PO_EUNKNOWN || rv == PO_ENOLEADER || rv == PO_ETIMEDOUT);
}

static void pause_the_leader(void)
{
    int old = wait_leader(7);
    CHECK(po_testing_pause(nodes[old].node, 1) == 0);
    CHECK(po_testing_pause(nodes[old].node, 1) == 0);
    struct po_node_status before = status_of(old);
    int next = wait_leader(7u & ~(1u << old));
    submit(po_node_client(nodes[next].node)); /* clients in the network need a while to notice */
    struct po_node_status after = status_of(old);
    CHECK(after.role == PO_ROLE_LEADER && after.term == before.term &&
          after.applied_index == before.applied_index);
    CHECK(po_testing_pause(nodes[old].node, 0) == 0);
    WAIT_UNTIL(status_of(old).term >= status_of(next).term &&
               status_of(old).role == PO_ROLE_FOLLOWER);
    progress();
}

static void cut_the_leader_off(void)
{
    int old = wait_leader(7), next;
    uint64_t others[NODES], own = nodes[old].id;
    size_t count = 0;
    for (int i = 0; i < NODES; i++)
        if (i != old)
            others[count++] = nodes[i].id;
    CHECK(po_testing_cut(nodes[old].node, others, count) == 0);
    next = wait_leader(7u & ~(1u << old));
    WAIT_UNTIL(status_of(old).role != PO_ROLE_LEADER);
    uint64_t commit = status_of(old).commit_index;
    expect_none(old);
    progress();
    CHECK(status_of(old).commit_index == commit);
    CHECK(po_testing_cut(nodes[old].node, NULL, 0) == 0);
    WAIT_UNTIL(status_of(old).commit_index > commit && status_of(old).role == PO_ROLE_FOLLOWER);
    /* One direction's worth of a cut is a cut, whoever makes it. */
    CHECK(po_testing_cut(nodes[next].node, &own, 1) == 0);
    progress();
    CHECK(po_testing_cut(nodes[next].node, NULL, 0) == 0);
    progress();
}

static void kill_the_leader(void)
{
    int old = wait_leader(7);
    CHECK(po_testing_pause(nodes[old].node, 1) == 0); /* a frozen process can be killed, too */
    CHECK(po_testing_crash(nodes[old].node) == 0);
    CHECK(po_testing_crash(nodes[old].node) == 0);
    CHECK(po_testing_pause(nodes[old].node, 1) == PO_ECLOSED);
    CHECK(po_testing_cut(nodes[old].node, &nodes[old].id, 1) == PO_ECLOSED);
    CHECK(po_submit_task(po_node_client(nodes[old].node), &task, &patient, NULL) == PO_ECLOSED);
    po_node_stop(nodes[old].node);
    nodes[old].node = NULL;
    wait_leader(7);
    progress();
    start(old);
    progress();
}

static void wrong_arguments_are_refused(void)
{
    uint64_t none = 0;
    CHECK(po_testing_pause(NULL, 1) == PO_EINVAL);
    CHECK(po_testing_crash(NULL) == PO_EINVAL);
    CHECK(po_testing_cut(nodes[0].node, NULL, 1) == PO_EINVAL);
    CHECK(po_testing_cut(nodes[0].node, &none, 1) == PO_EINVAL);
    CHECK(po_testing_cut(nodes[0].node, &none, PO_MEMBERS_MAX + 1) == PO_EINVAL);
}

static void everything_is_there(po_client *client)
{
    for (unsigned i = 0; i < atomic_load(&acknowledged); i++) {
        const struct po_query query = {.size = sizeof query, .what = PO_QUERY_TASK, .id = ids[i]};
        char *json = NULL;
        CHECK(po_query(client, &query, &patient, &json) == 0);
        po_free(json);
    }
}

int main(void)
{
    pthread_t threads[2];
    po_client *client;
    CHECK(mkdtemp(root));
    choose_addresses();
    for (int i = 0; i < NODES; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "n%d", i);
        snprintf(nodes[i].dir, sizeof nodes[i].dir, "%s/n%d", root, i);
    }
    for (int i = 0; i < NODES; i++)
        start(i);
    CHECK(po_client_open(&client, controllers, NULL) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, keep_submitting, client) == 0);
    wrong_arguments_are_refused();
    progress();
    pause_the_leader();
    cut_the_leader_off();
    kill_the_leader();
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    everything_is_there(client);
    po_client_close(client);
    CHECK(po_testing_pause(nodes[0].node, 1) == 0);
    for (int i = 0; i < NODES; i++) /* a paused one, too */
        po_node_stop(nodes[i].node);
    remove_tree(root);
    printf("%u tasks acknowledged, none lost\n", atomic_load(&acknowledged));
    return 0;
}
