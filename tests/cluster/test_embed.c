/* Three nodes in one process, through the public interface alone: threads that apply commands on
 * all of them, and a worker with its tasks, while nodes stop and start again in turn, the leader
 * first.
 *
 * Nothing here asserts how long something takes; conditions are polled, and one that does not come
 * within GUARD_MS never comes. */
#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pipeorch/pipeorch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NODES        3
#define WRITERS      4
#define COMMANDS_MAX 65536 /* distinct commands of a run; writers pause before it */
#define TASKS        40
#define STOPS        5
#define GUARD_MS     60000
#define PROGRESS     40 /* commands acknowledged between two disturbances */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        uint64_t until_ms = now_ms() + GUARD_MS;                                                   \
        while (!(condition)) {                                                                     \
            CHECK(now_ms() < until_ms && #condition);                                              \
            pause_ms(1);                                                                           \
        }                                                                                          \
    } while (0)

/* ---- the state machine: the ids of all commands, in the order in which they were applied ---- */

struct machine {
    pthread_mutex_t lock; /* applied by the node's thread, looked at by ours */
    uint64_t ids[COMMANDS_MAX];
    uint64_t count, digest;
};

static void take_in(struct machine *m, uint64_t id)
{
    CHECK(m->count < COMMANDS_MAX);
    m->ids[m->count++] = id;
    m->digest = (m->digest ^ id) * UINT64_C(1099511628211);
}

/* The result is the command's position. */
static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    struct machine *m = arg;
    uint64_t id, at;
    (void)index;
    CHECK(len == sizeof id);
    memcpy(&id, cmd, sizeof id);
    pthread_mutex_lock(&m->lock);
    at = m->count;
    take_in(m, id);
    pthread_mutex_unlock(&m->lock);
    memcpy(result, &at, sizeof at);
    *result_len = sizeof at;
    return 0;
}

static int snapshot(void *arg, int (*write)(void *, const void *, size_t), void *ctx)
{
    struct machine *m = arg;
    return m->count ? write(ctx, m->ids, m->count * sizeof *m->ids) : 0;
}

static int restore(void *arg, const void *data, size_t len)
{
    struct machine *m = arg;
    uint64_t id;
    pthread_mutex_lock(&m->lock);
    m->count = m->digest = 0;
    for (size_t at = 0; at < len; at += sizeof id) {
        memcpy(&id, (const char *)data + at, sizeof id);
        take_in(m, id);
    }
    pthread_mutex_unlock(&m->lock);
    return 0;
}

/* ---- the cluster ---- */

static struct member {
    pthread_rwlock_t lock; /* held for reading to begin a call, for writing to start and stop */
    po_node *node;         /* NULL while stopped */
    unsigned generation;
    char name[8], dir[128], peer[32], worker[32];
    struct machine machine;
    struct po_state_machine sm;
} members[NODES];

static char root[] = "/tmp/po-embed.XXXXXX";

/* Distinct free ports: all are held at once before any is given back. */
static void choose_addresses(void)
{
    int fds[2 * NODES];
    for (int i = 0; i < 2 * NODES; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&a, sizeof a) == 0);
        CHECK(getsockname(fds[i], (struct sockaddr *)&a, &len) == 0);
        struct member *m = &members[i / 2];
        snprintf(i % 2 ? m->worker : m->peer, sizeof m->peer, "127.0.0.1:%u", ntohs(a.sin_port));
    }
    for (int i = 0; i < 2 * NODES; i++)
        close(fds[i]);
}

static void start(struct member *m)
{
    struct po_member founding[NODES];
    char error[512] = "";
    for (int i = 0; i < NODES; i++)
        founding[i] = (struct po_member){members[i].name, members[i].peer};
    struct po_node_opts o = {.size = sizeof o,
                             .name = m->name,
                             .data_dir = m->dir,
                             .listen = m->peer,
                             .worker_listen = m->worker,
                             .bootstrap = 1,
                             .members = founding,
                             .members_count = NODES,
                             .election_ms = 150,
                             .heartbeat_ms = 15,
                             .snapshot_bytes = 64 << 10,
                             .trailing_bytes = 32 << 10,
                             .segment_bytes = 1 << 20,
                             .state_machine = &m->sm};
    pthread_rwlock_wrlock(&m->lock);
    m->machine.count = m->machine.digest = 0; /* the node brings everything back */
    m->generation++;
    if (po_node_start(&m->node, &o, error, sizeof error)) {
        fprintf(stderr, "%s: %s\n", m->name, error);
        abort();
    }
    pthread_rwlock_unlock(&m->lock);
}

/* With whatever is under way. */
static void stop(struct member *m)
{
    pthread_rwlock_wrlock(&m->lock);
    po_node_stop(m->node);
    m->node = NULL;
    pthread_rwlock_unlock(&m->lock);
}

static int find_leader(void)
{
    for (int i = 0; i < NODES; i++) {
        struct po_node_status st = {.size = sizeof st};
        if (members[i].node && po_node_status(members[i].node, &st) == 0 &&
            st.role == PO_ROLE_LEADER)
            return i;
    }
    return -1;
}

/* ---- calls ---- */

struct outcome {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int code;
    uint64_t value;
};

static void on_outcome(void *arg, const struct po_result *r)
{
    struct outcome *o = arg;
    pthread_mutex_lock(&o->lock);
    CHECK(!o->done); /* exactly once */
    o->done = true;
    o->code = r->code;
    if (r->code == 0 && r->len == sizeof o->value)
        memcpy(&o->value, r->data, sizeof o->value);
    pthread_cond_signal(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

/* A command, or with cmd NULL a read barrier. The node may be stopped while the call is under way.
 */
static int call(struct member *m, const uint64_t *cmd, const char *key, uint64_t *value,
                unsigned *generation)
{
    struct outcome o = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct po_call_opts opts = {
        .size = sizeof opts, .timeout_ms = 2000, .key = key, .key_len = key ? strlen(key) : 0};
    pthread_rwlock_rdlock(&m->lock);
    int rv = PO_ECLOSED;
    if (m->node)
        rv = cmd ? po_apply_async(m->node, cmd, sizeof *cmd, &opts, on_outcome, &o)
                 : po_read_barrier_async(m->node, &opts, on_outcome, &o);
    *generation = m->generation;
    pthread_rwlock_unlock(&m->lock);
    if (rv)
        return rv;
    pthread_mutex_lock(&o.lock);
    while (!o.done)
        pthread_cond_wait(&o.cond, &o.lock);
    pthread_mutex_unlock(&o.lock);
    pthread_mutex_destroy(&o.lock);
    pthread_cond_destroy(&o.cond);
    *value = o.value;
    return o.code;
}

static bool worth_repeating(struct member *m, int rv)
{
    if (!po_err_retryable(rv) && rv != PO_ECLOSED) {
        fprintf(stderr, "%s: %s\n", m->name, po_err_name(rv));
        abort();
    }
    return true;
}

/* ---- writers ---- */

static atomic_bool enough;
static atomic_uint acknowledged_count, barriers_count;
static uint64_t acknowledged[COMMANDS_MAX]; /* id at the position that was answered; 0: none */
static pthread_mutex_t acknowledged_lock = PTHREAD_MUTEX_INITIALIZER;

/* Everything acknowledged before a barrier is there after it. */
static void read_back(struct member *m, uint64_t at, uint64_t id)
{
    unsigned generation;
    uint64_t none;
    if (call(m, NULL, NULL, &none, &generation))
        return; /* its node is stopped, or has no leader now */
    pthread_rwlock_rdlock(&m->lock);
    if (m->node && m->generation == generation) {
        pthread_mutex_lock(&m->machine.lock);
        CHECK(m->machine.count > at && m->machine.ids[at] == id);
        pthread_mutex_unlock(&m->machine.lock);
        atomic_fetch_add(&barriers_count, 1);
    }
    pthread_rwlock_unlock(&m->lock);
}

static void *write_commands(void *arg)
{
    uint64_t writer = (uint64_t)(uintptr_t)arg;
    for (uint64_t i = 1; !atomic_load(&enough); i++) {
        uint64_t id = writer << 32 | i, at = 0, until_ms = now_ms() + GUARD_MS;
        char key[48];
        unsigned generation, to = (unsigned)(writer + i);
        snprintf(key, sizeof key, "writer %llu command %llu", (unsigned long long)writer,
                 (unsigned long long)i);
        for (int rv; (rv = call(&members[to % NODES], &id, key, &at, &generation)); to++) {
            CHECK(worth_repeating(&members[to % NODES], rv) && now_ms() < until_ms);
            if (rv == PO_ECLOSED)
                pause_ms(1);
        }
        pthread_mutex_lock(&acknowledged_lock);
        CHECK(at < COMMANDS_MAX && acknowledged[at] == 0);
        acknowledged[at] = id;
        pthread_mutex_unlock(&acknowledged_lock);
        if (atomic_fetch_add(&acknowledged_count, 1) > COMMANDS_MAX / 2)
            pause_ms(10);
        if (i % 4 == 0)
            read_back(&members[(to + 1) % NODES], at, id);
    }
    return NULL;
}

static void await_progress(void)
{
    unsigned goal = atomic_load(&acknowledged_count) + PROGRESS;
    WAIT_UNTIL(atomic_load(&acknowledged_count) >= goal);
}

/* ---- tasks ---- */

static atomic_uint task_runs;

static void handle(void *arg, po_task *task)
{
    char result[160];
    size_t len;
    (void)arg;
    int n = snprintf(result, sizeof result, "[%s, %llu]", (const char *)po_task_input(task, &len),
                     (unsigned long long)po_task_token(task));
    atomic_fetch_add(&task_runs, 1);
    CHECK(po_task_complete(task, result, (size_t)n) == 0);
}

static void *run_worker(void *arg)
{
    CHECK(po_worker_run(arg) == 0);
    return NULL;
}

static po_worker *open_worker(void)
{
    char addresses[128], error[512] = "";
    po_worker *w = NULL;
    snprintf(addresses, sizeof addresses, "%s,%s,%s", members[0].worker, members[1].worker,
             members[2].worker);
    struct po_worker_opts o = {.size = sizeof o,
                               .id = "embedded",
                               .addresses = addresses,
                               .heartbeat_ms = 500,
                               .threads = 2};
    struct po_capability cap = {.size = sizeof cap, .name = "test:echo", .max_concurrency = 4};
    if (po_worker_open(&w, &o, error, sizeof error)) {
        fprintf(stderr, "worker: %s\n", error);
        abort();
    }
    CHECK(po_worker_handle(w, &cap, handle, NULL) == 0);
    return w;
}

static uint64_t submit(unsigned number)
{
    char key[32], input[32];
    uint64_t id = 0, until_ms = now_ms() + GUARD_MS;
    snprintf(key, sizeof key, "task %u", number);
    struct po_task_opts t = {.size = sizeof t,
                             .capability = "test:echo",
                             .input = input,
                             .input_len = (size_t)snprintf(input, sizeof input, "%u", number),
                             .attempts_max = 100,
                             .timeout_ms = 10000};
    struct po_call_opts o = {
        .size = sizeof o, .timeout_ms = 2000, .key = key, .key_len = strlen(key)};
    for (unsigned to = number;; to++) {
        struct member *m = &members[to % NODES];
        int rv = m->node ? po_submit_task(po_node_client(m->node), &t, &o, &id) : PO_ECLOSED;
        if (rv == 0)
            return id;
        CHECK(worth_repeating(m, rv) && now_ms() < until_ms);
        pause_ms(1);
    }
}

/* The accepted result, read through one node. */
static void fetch(struct member *m, uint64_t id, char *result, size_t cap)
{
    struct po_task_info info = {.size = sizeof info};
    uint64_t until_ms = now_ms() + GUARD_MS;
    struct po_call_opts o = {.size = sizeof o, .timeout_ms = 10000};
    for (int rv; (rv = po_task_wait(po_node_client(m->node), id, &o, &info));)
        CHECK(worth_repeating(m, rv) && now_ms() < until_ms);
    CHECK(info.state == PO_TASK_SUCCEEDED && info.result && info.result_len < cap);
    snprintf(result, cap, "%s", info.result);
    po_free(info.result);
    po_free(info.error);
}

/* Each submission is one task, each task has one result, and all nodes say the same. */
static void check_tasks(const uint64_t *ids)
{
    for (unsigned i = 0; i < TASKS; i++) {
        char first[160], other[160], expected[16];
        for (unsigned j = 0; j < i; j++)
            CHECK(ids[i] != ids[j]);
        CHECK(submit(i) == ids[i]); /* the key is known: nothing new */
        fetch(&members[0], ids[i], first, sizeof first);
        int n = snprintf(expected, sizeof expected, "[%u,", i);
        CHECK(strncmp(first, expected, (size_t)n) == 0);
        for (unsigned j = 1; j < NODES; j++) {
            fetch(&members[j], ids[i], other, sizeof other);
            CHECK(strcmp(first, other) == 0);
        }
    }
}

/* ---- the run ---- */

/* Stop a node, the leader every second time, and start it again, with progress in between. Tasks
 * are submitted before, while it is away and after. */
static void disturb(uint64_t *ids)
{
    unsigned submitted = 0;
    for (unsigned i = 0; i < STOPS; i++) {
        int victim = -1;
        WAIT_UNTIL((victim = find_leader()) >= 0);
        if (i % 2)
            victim = (victim + 1) % NODES;
        for (unsigned k = 0; k < TASKS / STOPS / 2; k++, submitted++)
            ids[submitted] = submit(submitted);
        stop(&members[victim]);
        for (unsigned k = 0; k < TASKS / STOPS / 2; k++, submitted++)
            ids[submitted] = submit(submitted);
        await_progress();
        start(&members[victim]);
        await_progress();
        WAIT_UNTIL(po_read_barrier(members[victim].node, NULL) == 0); /* it has caught up */
    }
    CHECK(submitted == TASKS);
}

/* Every node has every acknowledged command once, at the position that was answered, and nothing
 * else. */
static void check_machines(void)
{
    unsigned total = atomic_load(&acknowledged_count);
    for (int i = 0; i < NODES; i++) {
        struct machine *m = &members[i].machine;
        WAIT_UNTIL(po_read_barrier(members[i].node, NULL) == 0);
        pthread_mutex_lock(&m->lock);
        CHECK(m->count == total); /* writers gave nothing up: every id was acknowledged once */
        CHECK(memcmp(m->ids, acknowledged, total * sizeof *m->ids) == 0);
        CHECK(m->digest == members[0].machine.digest);
        pthread_mutex_unlock(&m->lock);
    }
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int main(void)
{
    pthread_t writers[WRITERS], worker_thread;
    static uint64_t ids[TASKS];
    CHECK(mkdtemp(root));
    choose_addresses();
    for (int i = 0; i < NODES; i++) {
        struct member *m = &members[i];
        pthread_rwlock_init(&m->lock, NULL);
        pthread_mutex_init(&m->machine.lock, NULL);
        m->sm = (struct po_state_machine){sizeof m->sm, &m->machine, apply, snapshot, restore};
        snprintf(m->name, sizeof m->name, "n%d", i + 1);
        snprintf(m->dir, sizeof m->dir, "%s/%s", root, m->name);
    }
    for (int i = 0; i < NODES; i++) /* each names all the founding members */
        start(&members[i]);
    po_worker *worker = open_worker();
    CHECK(pthread_create(&worker_thread, NULL, run_worker, worker) == 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK(pthread_create(&writers[i], NULL, write_commands, (void *)(i + 1)) == 0);

    disturb(ids);
    WAIT_UNTIL(atomic_load(&barriers_count) > 0);
    atomic_store(&enough, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    check_machines();
    check_tasks(ids);

    po_worker_stop(worker);
    pthread_join(worker_thread, NULL);
    po_worker_close(worker);
    for (int i = 0; i < NODES; i++)
        stop(&members[i]);
    CHECK(nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
    printf("%u commands, %u barriers, %u runs of %d tasks\n", atomic_load(&acknowledged_count),
           atomic_load(&barriers_count), atomic_load(&task_runs), TASKS);
    return 0;
}
