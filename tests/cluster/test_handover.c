/* Three nodes in one process; each leader in turn hands over and stops, while a thread on a
 * follower applies commands without an idempotency key (whose outcome must never be in doubt) and
 * another one submits tasks over the network, back to back. Not one call may fail, and every
 * command is applied once. Two watches see every task once and in order: one over the network, and
 * one that goes on at another node, in-process, again and again.
 *
 * Nothing here asserts how long something takes. */
#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NODES     3
#define HAND_OVER 12
#define PROGRESS  30 /* calls of each kind that succeed between two hand-overs */
#define GUARD_MS  60000

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s: ", __FILE__, __LINE__, #condition);              \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct node {
    po_node *node;
    atomic_ullong applied; /* commands, on this node */
    struct po_state_machine sm;
    char name[8], dir[64], peer[32], worker[32];
} nodes[NODES];

static char root[] = "/tmp/po-handover.XXXXXX", controllers[128];
/* `writer` names a node that is not stopping. Whoever changes it comes first: others always read.
 */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static int writer;
static atomic_ullong applies, submits;
static atomic_int done;
static atomic_ullong watched[2]; /* by each watch: the latest task */

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    struct node *n = arg;
    (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    atomic_fetch_add(&n->applied, 1);
    return 0;
}

static int snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    uint64_t count = atomic_load(&((struct node *)arg)->applied);
    return write(ctx, &count, sizeof count);
}

static int restore(void *arg, const void *data, size_t len)
{
    uint64_t count = 0;
    if (len == sizeof count)
        memcpy(&count, data, len);
    atomic_store(&((struct node *)arg)->applied, count);
    return 0;
}

static void choose_addresses(void)
{
    int fds[2 * NODES];
    for (int i = 0; i < 2 * NODES; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&a, sizeof a) == 0 &&
                  getsockname(fds[i], (struct sockaddr *)&a, &len) == 0,
              "no free port");
        struct node *n = &nodes[i / 2];
        snprintf(i % 2 ? n->worker : n->peer, sizeof n->peer, "127.0.0.1:%u", ntohs(a.sin_port));
    }
    for (int i = 0; i < 2 * NODES; i++)
        close(fds[i]);
}

static void start(struct node *n)
{
    struct po_member members[NODES];
    char error[512];
    for (int i = 0; i < NODES; i++)
        members[i] = (struct po_member){nodes[i].name, nodes[i].peer};
    n->sm = (struct po_state_machine){sizeof n->sm, n, apply, snapshot, restore};
    struct po_node_opts o = {.size = sizeof o,
                             .name = n->name,
                             .data_dir = n->dir,
                             .listen = n->peer,
                             .worker_listen = n->worker,
                             .bootstrap = 1,
                             .members = members,
                             .members_count = NODES,
                             .state_machine = &n->sm};
    atomic_store(&n->applied, 0);
    int rv = po_node_start(&n->node, &o, error, sizeof error);
    CHECK(rv == 0, "%s", error);
}

static void *run_applies(void *arg)
{
    (void)arg;
    while (!atomic_load(&done)) {
        pthread_rwlock_rdlock(&lock);
        const struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = GUARD_MS};
        int rv = po_apply(nodes[writer].node, "x", 1, &opts, NULL, NULL);
        CHECK(rv == 0, "apply on %s: %s", nodes[writer].name, po_err_name(rv));
        pthread_rwlock_unlock(&lock);
        atomic_fetch_add(&applies, 1);
    }
    return NULL;
}

static void *run_submits(void *arg)
{
    po_client *client = arg;
    const struct po_task_opts task = {.size = sizeof task, .capability = "nobody:home"};
    const struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = GUARD_MS};
    while (!atomic_load(&done)) {
        int rv = po_submit_task(client, &task, &opts, NULL);
        CHECK(rv == 0, "submit: %s: %s", po_err_name(rv), po_client_error());
        atomic_fetch_add(&submits, 1);
    }
    return NULL;
}

/* ---- watching: task ids are given one after the other ---- */

static void see(int which, const struct po_watch_event *e)
{
    CHECK(e->kind == PO_WATCH_TASK_SUBMITTED, "kind %d at %llu:%u", e->kind,
          (unsigned long long)e->index, e->position);
    CHECK(e->task_id == atomic_load(&watched[which]) + 1, "watch %d: task %llu after %llu", which,
          (unsigned long long)e->task_id, (unsigned long long)atomic_load(&watched[which]));
    atomic_store(&watched[which], e->task_id);
}

static void on_event(void *arg, int code, const struct po_watch_event *e)
{
    (void)arg;
    CHECK(code == 0, "watch: %s", po_err_name(code));
    see(0, e);
}

static void *run_watch(void *arg)
{
    struct po_watch_opts o = {.size = sizeof o, .after_index = 1, .kinds = PO_WATCH_TASKS};
    struct po_watch_event e = {.size = sizeof e};
    (void)arg;
    while (!atomic_load(&done) || atomic_load(&watched[1]) < atomic_load(&submits)) {
        po_watch *w;
        pthread_rwlock_rdlock(&lock);
        int rv = po_watch_open(&w, po_node_client(nodes[writer].node), &o, NULL);
        CHECK(rv == 0, "open: %s", po_client_error());
        for (int i = 0; i < 50 && (rv = po_watch_next(w, 20, &e)) == 0; i++)
            see(1, &e);
        CHECK(rv == 0 || rv == PO_ETIMEDOUT, "next: %s", po_client_error());
        po_watch_position(w, &o.after_index, &o.after_position);
        po_watch_close(w);
        pthread_rwlock_unlock(&lock);
    }
    return NULL;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void progress(void)
{
    unsigned long long a = atomic_load(&applies) + PROGRESS, s = atomic_load(&submits) + PROGRESS;
    for (int i = 0; atomic_load(&applies) < a || atomic_load(&submits) < s; i++) {
        CHECK(i < GUARD_MS, "no progress");
        nap();
    }
}

static int leader(void)
{
    for (int t = 0; t < GUARD_MS; t++) {
        for (int i = 0; i < NODES; i++) {
            struct po_node_status st = {.size = sizeof st};
            if (po_node_status(nodes[i].node, &st) == 0 && st.role == PO_ROLE_LEADER)
                return i;
        }
        nap();
    }
    CHECK(0, "no leader");
    return -1;
}

/* The leader hands over, and every other time also stops and comes back. */
static void disturb(int round)
{
    int first = leader(), rv = PO_EREFUSED;
    pthread_rwlock_wrlock(&lock); /* the writer is on the leader, unless that one will stop */
    writer = (first + round % 2) % NODES;
    pthread_rwlock_unlock(&lock);
    for (int i = 0; i < GUARD_MS && rv == PO_EREFUSED; i++) { /* nobody is connected yet */
        rv = po_node_hand_over(nodes[first].node, GUARD_MS);
        nap();
    }
    CHECK(rv == 0, "hand over: %s: %s", po_err_name(rv), po_client_error());
    CHECK(leader() != first, "%s leads still", nodes[first].name);
    progress();
    if (round % 2) {
        po_node_stop(nodes[first].node);
        nodes[first].node = NULL;
        start(&nodes[first]);
    }
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int main(void)
{
    po_client *client;
    po_watch *watch;
    const struct po_watch_opts all = {
        .size = sizeof all, .after_index = 1, .kinds = PO_WATCH_TASKS};
    pthread_t threads[3];
    CHECK(mkdtemp(root), "no folder");
    choose_addresses();
    for (int i = 0; i < NODES; i++) {
        snprintf(nodes[i].name, sizeof nodes[i].name, "n%d", i + 1);
        snprintf(nodes[i].dir, sizeof nodes[i].dir, "%s/n%d", root, i + 1);
        snprintf(controllers + strlen(controllers), sizeof controllers - strlen(controllers),
                 "%s%s", i ? "," : "", nodes[i].worker);
    }
    for (int i = 0; i < NODES; i++)
        start(&nodes[i]);
    CHECK(po_client_open(&client, controllers, NULL) == 0, "%s", po_client_error());
    writer = (leader() + 1) % NODES;
    CHECK(pthread_create(&threads[0], NULL, run_applies, NULL) == 0, "no thread");
    CHECK(pthread_create(&threads[1], NULL, run_submits, client) == 0, "no thread");
    CHECK(pthread_create(&threads[2], NULL, run_watch, NULL) == 0, "no thread");
    CHECK(po_watch_open(&watch, client, &all, NULL) == 0, "%s", po_client_error());
    CHECK(po_watch_start(watch, on_event, NULL) == 0, "%s", po_client_error());
    progress();
    for (int round = 0; round < HAND_OVER; round++)
        disturb(round);
    atomic_store(&done, 1);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_join(threads[2], NULL);
    for (int i = 0; atomic_load(&watched[0]) < atomic_load(&submits); i++) {
        CHECK(i < GUARD_MS, "the watch misses the last tasks");
        nap();
    }
    po_watch_close(watch);
    for (int i = 0; i < NODES; i++) {
        CHECK(po_read_barrier(nodes[i].node, NULL) == 0, "no read");
        CHECK(atomic_load(&nodes[i].applied) == atomic_load(&applies), "%s applied %llu of %llu",
              nodes[i].name, (unsigned long long)atomic_load(&nodes[i].applied),
              (unsigned long long)atomic_load(&applies));
    }
    po_client_close(client);
    for (int i = 0; i < NODES; i++)
        po_node_stop(nodes[i].node);
    printf("%d hand-overs, %llu commands, %llu tasks, none failed\n", HAND_OVER,
           (unsigned long long)atomic_load(&applies), (unsigned long long)atomic_load(&submits));
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
