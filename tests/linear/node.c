/* A control node as an embedder writes one: a replicated register per key rides in its log, and
 * threads of the same process write, compare-and-swap and read the registers through the public
 * interface, recording what they saw; one more uses the control plane through the node's own
 * client (control.h). Three such processes are a cluster under test.
 *
 *   SIGUSR1  stop writing; read every register once more, whatever it takes; say so in PREFIX.done
 *   SIGTERM  stop
 *
 * The node's role and term are kept in PREFIX.role for whoever wants to hit the leader. */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

#define REGISTERS        12
#define THREADS_MAX      16
#define TRIES_MAX        8 /* of one operation whose outcome is unknown */
#define TIMEOUT_MIN_MS   200
#define TIMEOUT_MAX_MS   2000
#define FINAL_LIMIT_MS   20000 /* to read every register at the end */
#define STATUS_EVERY_MS  20
#define CONTROL_THINK_US 20000

/* ---- the replicated state ---- */

enum { OP_WRITE = 1, OP_CAS = 2 };

struct command {
    uint64_t op, reg, a, b;
};

struct reg {
    uint64_t value, version; /* version: how often it was changed */
};

struct answer {
    uint64_t applied; /* 0: the comparison of a CAS failed */
    struct reg reg;   /* after the command */
};

static struct registers {
    pthread_mutex_t lock; /* the node thread applies, client threads read */
    struct reg regs[REGISTERS];
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    struct registers *s = arg;
    struct command c;
    (void)index;
    if (len != sizeof c)
        return -1;
    memcpy(&c, cmd, sizeof c);
    if (c.reg >= REGISTERS || (c.op != OP_WRITE && c.op != OP_CAS))
        return -1;
    struct reg *r = &s->regs[c.reg];
    struct answer a = {.applied = c.op == OP_WRITE || r->value == c.a};
    pthread_mutex_lock(&s->lock);
    if (a.applied) {
        r->value = c.op == OP_WRITE ? c.a : c.b;
        r->version++;
    }
    a.reg = *r;
    pthread_mutex_unlock(&s->lock);
    memcpy(result, &a, *result_len = sizeof a);
    return 0;
}

static int snapshot(void *arg, int (*emit)(void *ctx, const void *data, size_t len), void *ctx)
{
    const struct registers *s = arg;
    return emit(ctx, s->regs, sizeof s->regs);
}

static int restore(void *arg, const void *data, size_t len)
{
    struct registers *s = arg;
    if (len != 0 && len != sizeof s->regs)
        return -1;
    pthread_mutex_lock(&s->lock);
    memset(s->regs, 0, sizeof s->regs);
    if (len)
        memcpy(s->regs, data, len);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* ---- the clients ---- */

static struct {
    const char *prefix;
    uint64_t seed, think_us, threads;
    bool stale_reads; /* wrong on purpose: the checker must notice */
} options = {.think_us = 20000, .threads = 3};

static po_node *node;
static struct linear_history history;
static _Atomic(bool) finishing;

static void pause_us(struct linear_random *r, uint64_t mean_us)
{
    if (mean_us)
        usleep((useconds_t)linear_below(r, 2 * mean_us));
}

/* Returns 0, a refusal (it did not take place), or PO_EUNKNOWN. */
static int change(struct linear_random *r, const struct command *c, struct answer *answer)
{
    uint64_t key[2] = {linear_now_ns(), linear_below(r, UINT64_MAX)};
    struct po_call_opts opts = {.size = sizeof opts};
    int rv = 0;
    bool unsure = false, again = linear_below(r, 2) == 0;
    opts.timeout_ms = TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS - TIMEOUT_MIN_MS);
    if (again) {
        opts.key = key;
        opts.key_len = sizeof key;
    }
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        size_t len = sizeof *answer;
        rv = po_apply(node, c, sizeof *c, &opts, answer, &len);
        if (rv == 0)
            return len == sizeof *answer ? 0 : PO_EPROTO;
        unsure = unsure || rv == PO_EUNKNOWN;
        if (!unsure || !again || finishing)
            break;
    }
    return unsure ? PO_EUNKNOWN : rv;
}

static void mutate(struct linear_random *r, uint64_t reg, struct reg *seen)
{
    char key[LINEAR_TEXT_MAX_BYTES];
    uint64_t fresh = linear_now_ns() << 8 | linear_below(r, 256); /* no two writes are alike */
    struct command c = {linear_below(r, 5) < 3 ? OP_WRITE : OP_CAS, reg, fresh, 0};
    struct answer answer;
    if (c.op == OP_CAS) {
        c.a = seen->value;
        c.b = fresh;
    }
    snprintf(key, sizeof key, "r%llu", (unsigned long long)reg);
    uint64_t id =
        linear_call(&history, "register", c.op == OP_WRITE ? "write" : "cas", key, c.a, c.b);
    int rv = change(r, &c, &answer);
    if (rv == PO_EUNKNOWN)
        return;
    if (rv) {
        linear_refused(&history, id);
        return;
    }
    *seen = answer.reg;
    linear_return(&history, id,
                  &(struct linear_outcome){.value = answer.reg.value,
                                           .version = answer.reg.version,
                                           .state = answer.applied ? "applied" : "differs"});
}

static int look(uint64_t reg, uint32_t timeout_ms, struct reg *seen)
{
    char key[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    snprintf(key, sizeof key, "r%llu", (unsigned long long)reg);
    uint64_t id = linear_call(&history, "register", "read", key, 0, 0);
    int rv = options.stale_reads ? 0 : po_read_barrier(node, &opts);
    if (rv) {
        linear_refused(&history, id);
        return rv;
    }
    pthread_mutex_lock(&state.lock);
    *seen = state.regs[reg];
    pthread_mutex_unlock(&state.lock);
    linear_return(&history, id,
                  &(struct linear_outcome){.value = seen->value, .version = seen->version});
    return 0;
}

static void *client(void *arg)
{
    struct linear_random r = linear_random(options.seed, linear_now_ns() + (uintptr_t)arg);
    struct reg seen[REGISTERS] = {{0}};
    while (!finishing) {
        uint64_t reg = linear_below(&r, REGISTERS);
        if (linear_below(&r, 5) < 2)
            (void)look(reg, TIMEOUT_MIN_MS + (uint32_t)linear_below(&r, TIMEOUT_MAX_MS),
                       &seen[reg]);
        else
            mutate(&r, reg, &seen[reg]);
        pause_us(&r, options.think_us);
    }
    return NULL;
}

/* Through the node itself, which forwards what only the leader can do. */
static void *control(void *arg)
{
    struct linear_random r = linear_random(options.seed, linear_now_ns());
    uint64_t seen[LINEAR_WORKERS] = {0};
    (void)arg;
    while (!finishing) {
        linear_control_use(&r, seen);
        pause_us(&r, CONTROL_THINK_US);
    }
    return NULL;
}

/* ---- the process ---- */

static void log_event(void *arg, const struct po_log_event *event)
{
    (void)arg;
    fprintf(stderr, "%llu.%03llu %d %s %s\n", (unsigned long long)(event->time_ms / 1000),
            (unsigned long long)(event->time_ms % 1000), event->level, event->id, event->message);
}

static void publish(const char *suffix, const char *text)
{
    char path[512], fresh[520];
    snprintf(path, sizeof path, "%s.%s", options.prefix, suffix);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) || rename(fresh, path)) {
        perror(path);
        exit(1);
    }
}

static void finish(pthread_t *threads)
{
    finishing = true;
    for (uint64_t i = 0; i <= options.threads; i++)
        pthread_join(threads[i], NULL);
    uint64_t until = linear_now_ns() + FINAL_LIMIT_MS * UINT64_C(1000000);
    for (uint64_t reg = 0; reg < REGISTERS; reg++) {
        struct reg seen;
        while (look(reg, 1000, &seen)) {
            if (linear_now_ns() < until)
                continue;
            fprintf(stderr, "register %llu could not be read at the end\n",
                    (unsigned long long)reg);
            exit(1);
        }
    }
    const char *lost = linear_control_look(until);
    if (lost) {
        fprintf(stderr, "%s could not be read at the end\n", lost);
        exit(1);
    }
    publish("done", "done\n");
}

/* Until SIGTERM or a fault; returns the exit code. */
static int serve(const sigset_t *signals, pthread_t *threads)
{
    const struct timespec every = {.tv_nsec = STATUS_EVERY_MS * 1000000L};
    char text[64], published[64] = "";
    for (;;) {
        struct po_node_status status = {.size = sizeof status};
        int sig = sigtimedwait(signals, NULL, &every);
        if (sig == SIGTERM)
            return 0;
        if (sig == SIGUSR1 && !finishing)
            finish(threads);
        po_node_status(node, &status);
        if (status.role == PO_ROLE_STOPPED) {
            fprintf(stderr, "the node stopped: %s\n", status.message);
            return 1;
        }
        snprintf(text, sizeof text, "%d %llu\n", status.role, (unsigned long long)status.term);
        if (strcmp(text, published) != 0)
            publish("role", strcpy(published, text));
    }
}

static size_t split_members(char *text, struct po_member *members)
{
    size_t count = 0;
    char *item;
    while ((item = strsep(&text, ",")) != NULL && count < PO_MEMBERS_MAX) {
        char *equals = strchr(item, '=');
        if (!equals)
            return 0;
        *equals = '\0';
        members[count++] = (struct po_member){item, equals + 1};
    }
    return count;
}

static int usage(void)
{
    fputs("usage: linear_node --name N --data-dir D --members A=H:P,... --listen H:P --advertise "
          "H:P\n"
          "    --worker-listen H:P --worker-advertise H:P --history PREFIX --seed S\n"
          "    [--threads T] [--think-us U] [--election-ms E] [--heartbeat-ms B] [--stale-reads]\n",
          stderr);
    return 2;
}

static int parse(int argc, char **argv, struct po_node_opts *o, struct po_member *members)
{
    static const struct option known[] = {
        {"name", 1, 0, 'n'},         {"data-dir", 1, 0, 'd'},    {"members", 1, 0, 'm'},
        {"listen", 1, 0, 'l'},       {"advertise", 1, 0, 'a'},   {"worker-listen", 1, 0, 'w'},
        {"history", 1, 0, 'h'},      {"seed", 1, 0, 's'},        {"worker-advertise", 1, 0, 'v'},
        {"threads", 1, 0, 't'},      {"think-us", 1, 0, 'u'},    {"election-ms", 1, 0, 'e'},
        {"heartbeat-ms", 1, 0, 'b'}, {"stale-reads", 0, 0, 'x'}, {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'n':
            o->name = optarg;
            break;
        case 'd':
            o->data_dir = optarg;
            break;
        case 'm':
            o->members_count = split_members(optarg, members);
            break;
        case 'l':
            o->listen = optarg;
            break;
        case 'a':
            o->advertise = optarg;
            break;
        case 'w':
            o->worker_listen = optarg;
            break;
        case 'v':
            o->worker_advertise = optarg;
            break;
        case 'h':
            options.prefix = optarg;
            break;
        case 's':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.threads = strtoull(optarg, NULL, 10);
            break;
        case 'u':
            options.think_us = strtoull(optarg, NULL, 10);
            break;
        case 'e':
            o->election_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            o->heartbeat_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'x':
            options.stale_reads = true;
            break;
        default:
            return usage();
        }
    }
    if (!o->name || !o->data_dir || !options.prefix || options.threads > THREADS_MAX)
        return usage();
    o->members = members;
    return 0;
}

int main(int argc, char **argv)
{
    static struct po_member members[PO_MEMBERS_MAX];
    static const struct po_state_machine sm = {sizeof sm, &state, apply, snapshot, restore};
    /* Snapshots are small and frequent here, so that followers that come back need them. */
    struct po_node_opts o = {.size = sizeof o,
                             .bootstrap = 1,
                             .snapshot_bytes = 64 * 1024,
                             .trailing_bytes = 4096,
                             .segment_bytes = 1024 * 1024,
                             .state_machine = &sm,
                             .log = {.cb = log_event}};
    pthread_t threads[THREADS_MAX + 1]; /* the last one uses the control plane */
    sigset_t signals;
    char error[512];
    int rv = parse(argc, argv, &o, members);
    if (rv)
        return rv;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* every thread inherits it */
    linear_open(&history, options.prefix);
    rv = po_node_start(&node, &o, error, sizeof error);
    if (rv)
        return fprintf(stderr, "%s: %s\n", po_err_name(rv), error), 1;
    linear_control_init(po_node_client(node), &history, o.name);
    for (uintptr_t i = 0; i <= options.threads; i++)
        if (pthread_create(&threads[i], NULL, i < options.threads ? client : control, (void *)i))
            return perror("pthread_create"), 1;
    rv = serve(&signals, threads);
    if (!finishing) {
        finishing = true;
        for (uint64_t i = 0; i <= options.threads; i++)
            pthread_join(threads[i], NULL);
    }
    po_node_stop(node);
    return rv;
}
