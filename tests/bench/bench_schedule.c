/* What a decision of the scheduler costs when much waits and tasks are choosy.
 *
 *   bench_schedule         5,000 workers with 10^4 and with 10^6 pending tasks of one capability
 *
 * Half of the workers have a gpu; they differ in version, zone, labels and resources. Tasks require
 * a gpu, forbid it, or do not care; some demand versions, labels or resources, some have a priority
 * or a concurrency key. A decision is the completion of a task and the grant that it causes. CPU
 * time of decode and apply; one JSON line per measure. Nothing here is a test. */
#include "bench_model.h"

#define WORKERS 5000u
#define SLOTS   4u
#define BATCH   1000u

static const char *const zones[] = {"aws", "gcp", "azure"};
static const char *const versions[] = {"1.2.0", "1.2.7", "1.3.0", "2.0.0"};

static void report(const struct bench *b, const char *what, uint64_t ns, uint64_t units)
{
    printf("{\"bench\":\"schedule\",\"command\":\"%s\",\"tasks\":%llu,\"workers\":%u,"
           "\"ns_per_command\":%.0f,\"per_s\":%.0f,\"bytes_per_task\":%.0f}\n",
           what, (unsigned long long)b->tasks, WORKERS, (double)ns / (double)units,
           (double)units * 1e9 / (double)ns, b->bytes_per_task);
    fflush(stdout);
}

static uint64_t timed_replay(struct bench *b)
{
    uint64_t t0 = now_ns();
    replay(b, true);
    return now_ns() - t0;
}

static void add_worker(struct bench *b, uint64_t i)
{
    char id[32];
    snprintf(id, sizeof id, "worker-%llu", (unsigned long long)i);
    b->cmd.type = PO__CMD_WORKER_REGISTER_MORE;
    b->cmd.worker_register.id = po__str(id);
    b->cmd.worker_register.address = po__str("10.0.0.1:9000");
    b->cmd.worker_register.zone = po__str(zones[i % 3]);
    b->cmd.worker_register.incarnation = 1;
    b->cmd.worker_register.heartbeat_ms = 5000;
    b->cmd.worker_register.labels_count = 1;
    b->cmd.worker_register.label_keys[0] = po__str("disk");
    b->cmd.worker_register.label_values[0] = po__str(i % 5 ? "hdd" : "nvme");
    b->cmd.worker_register.caps_count = 1;
    b->cmd.worker_register.caps[0] = (struct po__cap){.name = po__str("run:job"),
                                                      .version = po__str(versions[i / 2 % 4]),
                                                      .requires_gpu = i % 2,
                                                      .max_concurrency = SLOTS};
    b->cmd.worker_register.resources_count = 1;
    b->cmd.worker_register.resources[0] = (struct po__resource){po__str("memory_bytes"), 16};
    b->cmd.worker_register.slots = 0;
    script_add(b);
}

struct kind { /* of tasks */
    unsigned gpu, range, priority, gate;
    bool labels, resources;
    unsigned tenant; /* not 0: not together with that tenant */
};

static struct kind any_kind(struct bench *b)
{
    static const unsigned gpu[10] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2};
    return (struct kind){.gpu = gpu[pick(b, 10)],
                         .range = pick(b, 2) ? (unsigned)pick(b, 3) : 0,
                         .priority = pick(b, 5) ? 0 : (unsigned)pick(b, 10),
                         .labels = pick(b, 10) == 0,
                         .resources = pick(b, 5) == 0,
                         .gate = pick(b, 20) ? 0 : 1 + (unsigned)pick(b, 1000)};
}

static void add_task(struct bench *b, const struct kind *k)
{
    static const char *const ranges[] = {"", "^1.2", "~1.2.3 || >=2"};
    static struct po__buf placement, extra;
    struct po__placement p = {.gpu = k->gpu, .range = po__str(ranges[k->range])};
    char gate[24], tenant[24];
    uint64_t key[2] = {pick(b, UINT64_MAX), pick(b, UINT64_MAX)};
    if (k->labels)
        p.labels[p.labels_count++] =
            (struct po__label_wish){po__str("disk"), po__str("nvme"), PO__LABEL_EQUAL};
    if (k->tenant) {
        snprintf(tenant, sizeof tenant, "tenant-%u", k->tenant);
        p.labels[p.labels_count++] =
            (struct po__label_wish){.key = po__str(tenant), .op = PO__LABEL_ABSENT};
    }
    if (k->resources)
        p.resources[p.resources_count++] = (struct po__resource){po__str("memory_bytes"), 6};
    po__buf_reset(&placement);
    po__buf_reset(&extra);
    po__placement_encode(&placement, &p);
    struct po__extra e = {.placement = po__buf_slice(&placement), .priority = k->priority};
    if (k->gate) {
        snprintf(gate, sizeof gate, "key-%u", k->gate);
        e.gate = po__str(gate);
        e.gate_max = 10;
    }
    po__extra_encode(&extra, &e);
    b->cmd.type = PO__CMD_TASK_SUBMIT_MORE;
    b->cmd.submit.key = po__slice(key, sizeof key);
    b->cmd.submit.capability = po__str("run:job");
    b->cmd.submit.input = po__str("{\"path\":\"s3://bucket/object-0000000000000\"}");
    b->cmd.submit.zone = po__str(zones[pick(b, 3)]);
    b->cmd.submit.attempts_max = 3;
    b->cmd.submit.timeout_ms = 3600000;
    b->cmd.submit.extra = po__buf_slice(&extra);
    script_add(b);
}

static void submit_many(struct bench *b, const char *what, uint64_t n, unsigned priority)
{
    uint64_t ns = 0;
    for (uint64_t done = 0; done < n; done += BATCH) {
        script_begin(b);
        for (unsigned i = 0; i < BATCH; i++) {
            struct kind k = any_kind(b);
            k.priority = priority ? priority : k.priority;
            add_task(b, &k);
        }
        b->now_ms += 3;
        ns += timed_replay(b);
    }
    report(b, what, ns, n);
}

static void add_complete(struct bench *b, const struct po__task *t)
{
    b->cmd.type = PO__CMD_TASK_COMPLETE;
    b->cmd.complete.task_id = t->id;
    b->cmd.complete.token = t->token;
    b->cmd.complete.worker_id = po__str(t->worker->id);
    b->cmd.complete.result = po__str("{\"rows\":1234567}");
    script_add(b);
}

/* One task of each of so many workers ends; what that lets run runs. */
static void decide(struct bench *b, const char *what, uint64_t n)
{
    uint64_t ns = 0, ended = 0, granted = 0;
    while (ended < n) {
        uint64_t from = pick(b, WORKERS);
        script_begin(b);
        for (uint64_t i = 0; i < BATCH; i++) {
            const struct po__worker *w =
                po__model_worker_by_number(b->m, 1 + (from + i * 4) % WORKERS);
            if (w && w->running)
                add_complete(b, po__container_of(w->tasks.next, struct po__task, worker_link));
        }
        b->now_ms += 20;
        ended += b->script_count;
        uint64_t before = b->granted;
        ns += timed_replay(b);
        granted += b->granted - before;
    }
    PO_INVARIANT(granted * 10 > ended * 8); /* it was decisions that were measured */
    report(b, what, ns, granted < ended ? granted : ended);
}

static void cancel_pending(struct bench *b, uint64_t n)
{
    uint64_t last = b->last_id;
    uint8_t *taken = po__calloc(last + 1, 1);
    PO_INVARIANT(taken);
    script_begin(b);
    while (b->script_count < n) {
        uint64_t id = 1 + pick(b, last);
        const struct po__task *t = po__model_task(b->m, id);
        if (!t || t->state != PO_TASK_PENDING || taken[id])
            continue;
        taken[id] = 1;
        b->cmd.type = PO__CMD_TASK_CANCEL;
        b->cmd.cancel.task_id = id;
        script_add(b);
    }
    po__free(taken);
    report(b, "task_cancel", timed_replay(b), n);
}

static void workers_again(struct bench *b, uint64_t n)
{
    script_begin(b);
    for (uint64_t i = 0; i < n; i++)
        add_worker(b, pick(b, WORKERS));
    report(b, "worker_register_again", timed_replay(b), n);
}

static void begin(struct bench *b, uint64_t tasks)
{
    *b = (struct bench){.tasks = tasks, .seed = 88172645463325252u, .now_ms = 1000000};
    PO_INVARIANT(po__model_open(&b->m, NULL) == 0);
    keep_events(b);
    script_begin(b);
    for (uint64_t i = 0; i < WORKERS; i++)
        add_worker(b, i);
    replay(b, true);
}

static void end(struct bench *b)
{
    po__model_close(b->m);
    po__effects_fini(&b->fx);
    po__watch_ring_reset(&b->ring, 0);
    po__buf_fini(&b->script);
}

/* As many different placements as there may be. */
static void run_classes(void)
{
    static struct bench b;
    begin(&b, 100000);
    for (uint64_t done = 0; done < b.tasks; done += BATCH) {
        script_begin(&b);
        for (uint64_t i = done; i < done + BATCH; i++)
            add_task(&b, &(struct kind){.tenant = (unsigned)(1 + i % (PO__CLASSES_MAX - 1))});
        replay(&b, true);
    }
    decide(&b, "decision_4095_placements", 5000);
    end(&b);
}

static void run(uint64_t tasks)
{
    static struct bench b;
    begin(&b, tasks);
    size_t heap = heap_bytes();
    uint64_t n = tasks + WORKERS * SLOTS;
    submit_many(&b, "task_submit_fill", n, 0);
    b.bytes_per_task = (double)(heap_bytes() - heap - b.script.cap) / (double)n;
    decide(&b, "decision", tasks >= 1000000 ? 200000 : 5000);
    submit_many(&b, "task_submit_priority", 20000, 9);
    cancel_pending(&b, tasks >= 1000000 ? 20000 : 2000);
    workers_again(&b, 2000);
    decide(&b, "decision_after_priorities", 2000);
    end(&b);
}

int main(void)
{
    run(10000);
    run(1000000);
    run_classes();
    return 0;
}
