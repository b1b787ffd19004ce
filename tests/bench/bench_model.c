/* What one command costs in the state machine, decoding included, when the state is big.
 *
 *   bench_model            10^5 workers, with 10^4 and with 10^6 unfinished tasks
 *
 * One JSON line per command type and size: ns_per_command (CPU time of decode and apply, the events
 * kept for watches included), decode_ns of it, bytes_per_task and bytes_per_worker of the state it
 * was measured in. Nothing here is a test. */
#include "bench_model.h"

#define WORKERS      100000u
#define CAPABILITIES 100u
#define SLOTS        16u

static void measure(struct bench *b, const char *command, uint32_t units)
{
    uint64_t t0 = now_ns();
    replay(b, false);
    uint64_t t1 = now_ns();
    replay(b, true);
    uint64_t t2 = now_ns();
    printf("{\"bench\":\"model\",\"command\":\"%s\",\"tasks\":%llu,\"workers\":%u,\"ns_per_"
           "command\":%.0f,\"decode_ns\":%.0f,"
           "\"bytes_per_task\":%.0f,\"bytes_per_worker\":%.0f}\n",
           command, (unsigned long long)b->tasks, WORKERS, (double)(t2 - t1) / units,
           (double)(t1 - t0) / units, b->bytes_per_task, b->bytes_per_worker);
    fflush(stdout);
}

/* ---- commands ---- */

static void add_register(struct bench *b, uint64_t worker, uint64_t incarnation)
{
    char id[32], cap[32];
    snprintf(id, sizeof id, "worker-%llu", (unsigned long long)worker);
    snprintf(cap, sizeof cap, "run:%llu", (unsigned long long)(worker % CAPABILITIES));
    b->cmd.type = PO__CMD_WORKER_REGISTER;
    b->cmd.worker_register.id = po__str(id);
    b->cmd.worker_register.address = po__str("10.1.2.3:9000");
    b->cmd.worker_register.zone = po__str(worker % 3 == 0   ? "aws"
                                          : worker % 3 == 1 ? "gcp"
                                                            : "azure");
    b->cmd.worker_register.incarnation = incarnation;
    b->cmd.worker_register.heartbeat_ms = 5000;
    b->cmd.worker_register.labels_count = 0;
    b->cmd.worker_register.caps_count = 1;
    b->cmd.worker_register.caps[0] = (struct po__cap){
        .name = po__str(cap), .version = po__str("1.0.0"), .max_concurrency = SLOTS};
    script_add(b);
}

/* verb "run": workers take it at once; "wait": nobody offers it. */
static void add_submit(struct bench *b, const char *verb)
{
    char cap[32];
    uint64_t key[2] = {pick(b, UINT64_MAX), pick(b, UINT64_MAX)};
    snprintf(cap, sizeof cap, "%s:%llu", verb, (unsigned long long)pick(b, CAPABILITIES));
    b->cmd.type = PO__CMD_TASK_SUBMIT;
    b->cmd.submit.key = po__slice(key, sizeof key);
    b->cmd.submit.capability = po__str(cap);
    b->cmd.submit.input = po__str("{\"path\":\"s3://bucket/object-0000000000000\"}");
    b->cmd.submit.zone = po__str("gcp");
    b->cmd.submit.attempts_max = 3;
    b->cmd.submit.timeout_ms = 3600000;
    script_add(b);
}

/* A random task of that state which no earlier call of this round took. */
static const struct po__task *random_task(struct bench *b, uint32_t state, uint8_t *taken)
{
    for (;;) {
        uint64_t id = 1 + pick(b, b->tasks);
        const struct po__task *t = po__model_task(b->m, id);
        if (t && t->state == state && !t->run_id && !taken[id]) {
            taken[id] = 1;
            return t;
        }
    }
}

static void add_end(struct bench *b, uint32_t type, const struct po__task *t)
{
    b->cmd.type = type;
    switch (type) {
    case PO__CMD_TASK_COMPLETE:
        b->cmd.complete.task_id = t->id;
        b->cmd.complete.token = t->token;
        b->cmd.complete.worker_id = po__str(t->worker->id);
        b->cmd.complete.result = po__str("{\"rows\":1234567}");
        break;
    case PO__CMD_TASK_FAIL:
        b->cmd.fail.task_id = t->id;
        b->cmd.fail.token = t->token;
        b->cmd.fail.worker_id = po__str(t->worker->id);
        b->cmd.fail.error = po__str("connection reset");
        b->cmd.fail.retryable = true;
        break;
    case PO__CMD_TASK_EXTEND:
        b->cmd.extend.task_id = t->id;
        b->cmd.extend.token = t->token;
        b->cmd.extend.worker_id = po__str(t->worker->id);
        b->cmd.extend.extend_ms = 60000;
        break;
    default:
        b->cmd.cancel.task_id = t->id;
    }
    script_add(b);
}

static void measure_tasks(struct bench *b, const char *name, uint32_t type, uint32_t state,
                          uint32_t n)
{
    uint8_t *taken = po__calloc(b->tasks + 1, 1);
    PO_INVARIANT(taken);
    script_begin(b);
    for (uint32_t i = 0; i < n; i++)
        add_end(b, type, random_task(b, state, taken));
    po__free(taken);
    measure(b, name, n);
}

static void measure_submit(struct bench *b, const char *name, const char *verb, uint32_t n)
{
    script_begin(b);
    for (uint32_t i = 0; i < n; i++)
        add_submit(b, verb);
    measure(b, name, n);
}

static void measure_workers(struct bench *b, uint32_t n)
{
    char id[32];
    script_begin(b);
    for (uint32_t i = 0; i < n; i++)
        add_register(b, pick(b, WORKERS), 1);
    measure(b, "worker_register_again", n);
    script_begin(b);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "worker-%llu", (unsigned long long)pick(b, WORKERS));
        b->cmd.type = PO__CMD_WORKER_STATUS;
        b->cmd.worker_status.id = po__str(id);
        b->cmd.worker_status.incarnation = 0;
        b->cmd.worker_status.status = PO_WORKER_DRAINING;
        script_add(b);
        b->cmd.worker_status.status = PO_WORKER_ONLINE;
        script_add(b);
    }
    measure(b, "worker_status", 2 * n);
    script_begin(b);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "worker-%llu", (unsigned long long)i);
        b->cmd.type = PO__CMD_WORKER_DEREGISTER;
        b->cmd.worker_deregister.id = po__str(id);
        b->cmd.worker_deregister.incarnation = 0;
        script_add(b);
    }
    measure(b, "worker_deregister", n); /* their leases are requeued and assigned anew */
    script_begin(b);
    for (uint32_t i = 0; i < n; i++)
        add_register(b, i, 1);
    measure(b, "worker_register", n);
}

static void measure_runs(struct bench *b, uint32_t n)
{
    struct po__buf steps = {0};
    po__mpw_array(&steps, 2);
    po__step_encode(&steps, &(struct po__step){.name = po__str("a"),
                                               .capability = po__str("run:1"),
                                               .next_node = po__str("b")});
    po__step_encode(&steps,
                    &(struct po__step){.name = po__str("b"), .capability = po__str("run:2")});
    script_begin(b);
    b->cmd.type = PO__CMD_PIPELINE_DEFINE;
    b->cmd.pipeline.name = po__str("p");
    b->cmd.pipeline.start_node = po__str("a");
    b->cmd.pipeline.steps = po__buf_slice(&steps);
    b->cmd.pipeline.steps_count = 2;
    script_add(b);
    replay(b, true);
    script_begin(b);
    for (uint32_t i = 0; i < n; i++) {
        b->cmd.type = PO__CMD_RUN_START;
        b->cmd.run_start.key = po__slice(&i, sizeof i);
        b->cmd.run_start.pipeline = po__str("p");
        b->cmd.run_start.params = po__str("{\"year\":2018}");
        b->cmd.run_start.zone = po__str("aws");
        script_add(b);
    }
    measure(b, "run_start", n);
    po__buf_fini(&steps);
}

static void measure_app(struct bench *b, bool keyed, uint32_t n)
{
    static char data[128];
    script_begin(b);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t key[2] = {pick(b, UINT64_MAX), i};
        b->cmd.type = PO__CMD_APP;
        b->cmd.app.key = po__slice(key, keyed ? sizeof key : 0);
        b->cmd.app.data = po__slice(data, sizeof data);
        script_add(b);
    }
    measure(b, keyed ? "app" : "app_without_key", n);
}

static void measure_snapshot(struct bench *b)
{
    struct po__buf out = {0};
    uint64_t t0 = now_ns(), bytes = 0, longest = 0;
    int rv;
    PO_INVARIANT(po__model_snapshot_begin(b->m) == 0);
    do {
        uint64_t t = now_ns();
        po__buf_reset(&out);
        rv = po__model_snapshot_step(b->m, &out, 64 * 1024);
        bytes += out.len;
        longest = now_ns() - t > longest ? now_ns() - t : longest;
    } while (rv == 0);
    PO_INVARIANT(rv == 1);
    printf("{\"bench\":\"model\",\"command\":\"snapshot\",\"tasks\":%llu,\"workers\":%u,\"bytes\":%"
           "llu,\"mib_per_s\":%.0f,"
           "\"longest_64kib_step_us\":%.0f}\n",
           (unsigned long long)b->tasks, WORKERS, (unsigned long long)bytes,
           (double)bytes / 1048576 / ((double)(now_ns() - t0) / 1e9), (double)longest / 1000);
    po__buf_fini(&out);
}

static int app_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                     size_t *result_len)
{
    (void)arg;
    (void)index;
    (void)cmd;
    memcpy(result, &len, sizeof len);
    *result_len = sizeof len;
    return 0;
}

static void fill(struct bench *b)
{
    size_t heap = heap_bytes();
    for (uint64_t i = 0; i < WORKERS; i++) {
        script_begin(b);
        add_register(b, i, 1);
        replay(b, true);
    }
    b->bytes_per_worker = (double)(heap_bytes() - heap) / WORKERS;
    heap = heap_bytes();
    for (uint64_t i = 0; i < b->tasks; i++) {
        script_begin(b);
        add_submit(b, i % 2 ? "run" : "wait");
        replay(b, true);
    }
    b->bytes_per_task = (double)(heap_bytes() - heap) / (double)b->tasks;
}

static void run(uint64_t tasks)
{
    static struct bench b;
    struct po_state_machine sm = {.size = sizeof sm, .apply = app_apply};
    uint32_t n = tasks >= 1000000 ? 20000 : 1000;
    b = (struct bench){.tasks = tasks, .seed = 88172645463325252u, .now_ms = 1000000};
    PO_INVARIANT(po__model_open(&b.m, &(struct po__app){&sm}) == 0);
    keep_events(&b);
    fill(&b);
    measure_submit(&b, "task_submit", "run", n);
    measure_submit(&b, "task_submit_pending", "wait", n);
    measure_tasks(&b, "task_complete", PO__CMD_TASK_COMPLETE, PO_TASK_RUNNING, n);
    measure_tasks(&b, "task_extend", PO__CMD_TASK_EXTEND, PO_TASK_RUNNING, n);
    measure_tasks(&b, "task_fail", PO__CMD_TASK_FAIL, PO_TASK_RUNNING, n);
    b.now_ms += PO__RETRY_DELAY_MAX_MS;
    script_begin(&b);
    b.cmd.type = PO__CMD_TICK;
    for (uint32_t i = 0; i < 8; i++) /* each moves up to 4096 due tasks */
        script_add(&b);
    measure(&b, "tick_per_due_task", 2 * n); /* retries, and leases that were extended to end now */
    measure_tasks(&b, "task_cancel", PO__CMD_TASK_CANCEL, PO_TASK_PENDING, n);
    measure_runs(&b, n < 5000 ? n : 5000);
    measure_workers(&b, n < 10000 ? n : 10000);
    measure_app(&b, true, 100000);
    measure_app(&b, false, 100000);
    measure_snapshot(&b);
    po__model_close(b.m);
    po__effects_fini(&b.fx);
    po__watch_ring_reset(&b.ring, 0);
    po__buf_fini(&b.script);
}

int main(void)
{
    run(10000);
    run(1000000);
    return 0;
}
