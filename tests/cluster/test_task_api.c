/* One node and workers in one process, through the public interface alone: what a task may ask for,
 * ten thousand tasks in one call, checkpoints that pass from attempt to attempt, fencing.
 * Conditions are polled; one that does not come within GUARD_MS never comes. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "place.h"

#define MANY 10000

static void start_worker(struct place *p, const char *capability, const char *version,
                         po_task_handler handler, void *arg)
{
    const struct po_resource resources[] = {{"cpu_milli", 1000}, {"licences", 1}};
    struct po_capability c = {
        .size = sizeof c, .name = capability, .version = version, .max_concurrency = 8};
    open_worker(p,
                (struct po_worker_opts){.resources = resources, .resources_count = 2, .slots = 8});
    CHECK(po_worker_handle(p->worker, &c, handler, arg) == 0);
    run_worker(p);
}

/* ---- many tasks ---- */

static void echo(void *arg, po_task *task)
{
    size_t len;
    const void *input = po_task_input(task, &len);
    atomic_fetch_add((atomic_uint *)arg, 1);
    CHECK(po_task_complete(task, input, len) == 0);
}

static void test_many(struct place *p)
{
    static struct po_task_opts tasks[MANY];
    static uint64_t ids[MANY], again[MANY];
    static int codes[MANY];
    static char inputs[MANY][16];
    atomic_uint handled = 0;
    const struct po_call_opts keyed = {
        .size = sizeof keyed, .timeout_ms = GUARD_MS, .key = "many", .key_len = 4};
    for (int i = 0; i < MANY; i++) {
        snprintf(inputs[i], sizeof inputs[i], "%d", i);
        tasks[i] = (struct po_task_opts){.size = sizeof tasks[i],
                                         .capability = "echo:n",
                                         .input = inputs[i],
                                         .input_len = strlen(inputs[i])};
    }
    CHECK(po_submit_tasks(p->client, tasks, MANY, &keyed, ids, codes) == 0);
    CHECK(po_submit_tasks(p->client, tasks, MANY, &keyed, again, NULL) == 0);
    CHECK(memcmp(ids, again, sizeof ids) == 0);
    start_worker(p, "echo:n", "1.0.0", echo, &handled);
    for (int i = 0; i < MANY; i += 999) {
        struct po_task_info info = {.size = sizeof info};
        CHECK(po_task_wait(p->client, ids[i], &patient, &info) == 0);
        CHECK(info.state == PO_TASK_SUCCEEDED && strcmp(info.result, inputs[i]) == 0);
        po_free(info.result);
        po_free(info.error);
    }
    stop_worker(p);
    /* One that is wrong is refused alone. */
    tasks[1].input = "{";
    tasks[1].input_len = 1;
    CHECK(po_submit_tasks(p->client, tasks, 3, NULL, ids, codes) == PO_EINVAL);
    CHECK(strstr(po_client_error(), "task 2 of 3") && codes[0] == 0 && codes[1] == PO_EINVAL &&
          codes[2] == 0 && ids[0] && !ids[1] && ids[2]);
    CHECK(po_submit_tasks(p->client, tasks, 0, NULL, ids, codes) == PO_EINVAL);
}

/* ---- checkpoints and fences ---- */

struct steps {
    po_client *client;
    atomic_uint attempts;
    char left[64]; /* what the second attempt found */
};

/* The first attempt leaves something and fails; the second one finds it. */
static void stumble(void *arg, po_task *task)
{
    struct steps *s = arg;
    size_t len;
    const char *left = po_task_checkpoint_data(task, &len);
    CHECK(po_fence_check(s->client, po_task_id(task), po_task_token(task), NULL) == 0);
    CHECK(po_fence_check(s->client, po_task_id(task), po_task_token(task) + 1, NULL) == PO_ESTALE);
    if (atomic_fetch_add(&s->attempts, 1) == 0) {
        CHECK(!left && len == 0);
        CHECK(po_task_checkpoint(task, 100, "a", 1) == 0);
        CHECK(po_task_checkpoint(task, 400, "row\0 4000", 9) == 0);
        CHECK(po_task_checkpoint(task, 401, NULL, 0) == 0); /* keeps what was left */
        CHECK(po_task_checkpoint(task, 1002, NULL, 0) == PO_EINVAL);
        char *json;
        struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = po_task_id(task)};
        for (int seen = 0; !seen; po_free(json)) { /* delivered in the background */
            CHECK(po_query(s->client, &q, NULL, &json) == 0);
            seen = strstr(json, "\"progress\":401") && strstr(json, "\"checkpoint_bytes\":9");
        }
        CHECK(po_task_fail(task, "stumbled", 1) == 0);
        return;
    }
    CHECK(left && len == 9);
    memcpy(s->left, left, len);
    CHECK(po_task_complete(task, "\"done\"", 6) == 0);
}

static void test_checkpoint(struct place *p)
{
    struct steps s = {.client = p->client};
    struct po_task_opts task = {
        .size = sizeof task, .capability = "long:job", .retry_ms = 1, .retry_max_ms = 1};
    struct po_task_info info = {.size = sizeof info};
    uint64_t id;
    CHECK(po_submit_task(p->client, &task, NULL, &id) == 0);
    start_worker(p, "long:job", "1.0.0", stumble, &s);
    CHECK(po_task_wait(p->client, id, &patient, &info) == 0);
    CHECK(info.state == PO_TASK_SUCCEEDED && info.attempts == 2);
    CHECK(memcmp(s.left, "row\0 4000", 9) == 0);
    po_free(info.result);
    po_free(info.error);
    CHECK(po_fence_check(p->client, id, 1, NULL) == PO_ESTALE);
    CHECK(po_task_retry(p->client, id, NULL) == PO_ESTATE);
    CHECK(po_task_retry(p->client, 999999, NULL) == PO_ENOTFOUND);
    stop_worker(p);
}

/* ---- placement ---- */

static int submits(struct place *p, const struct po_placement *placement, const char *capability)
{
    struct po_task_opts task = {
        .size = sizeof task, .capability = capability, .placement = placement};
    return po_submit_task(p->client, &task, NULL, NULL);
}

static void test_placement(struct place *p)
{
    atomic_uint handled = 0;
    const struct po_resource one[] = {{"licences", 1}}, two[] = {{"licences", 2}};
    struct po_placement where = {
        .size = sizeof where, .version = "^1.4", .resources = one, .resources_count = 1};
    struct po_route_opts what = {.size = sizeof what, .capability = "echo:n", .placement = &where};
    struct po_route_info route = {.size = sizeof route};
    CHECK(po_route_with(p->client, &what, NULL, &route) == PO_ENOCAPABILITY);
    start_worker(p, "echo:n", "1.4.2", echo, &handled);
    while (po_route_with(p->client, &what, NULL, &route))
        ;
    CHECK(strcmp(route.worker_id, "w1") == 0 && strcmp(route.version, "1.4.2") == 0 &&
          route.candidates == 1 && strstr(route.why, "least loaded"));
    where.resources = two;
    CHECK(po_route_with(p->client, &what, NULL, &route) == PO_EBUSY);
    where.resources = one;
    CHECK(po_route(p->client, "echo:n@^2", NULL, NULL, &route) == PO_ENOCAPABILITY);
    CHECK(po_route(p->client, "echo:n@1.x", NULL, NULL, &route) == 0);
    CHECK(submits(p, &where, "echo:n") == 0);
    CHECK(submits(p, &where, "echo:n@1") == PO_EINVAL);
    CHECK(strstr(po_client_error(), "given twice"));
    CHECK(submits(p, NULL, "echo:n@") == PO_EINVAL);
    CHECK(submits(p, NULL, "echo:n@1.2.3.4") == PO_EINVAL);
    where.gpu = 3;
    CHECK(submits(p, &where, "echo:n") == PO_EINVAL);
    where.gpu = PO_GPU_ANY;
    where.labels_count = PO_PLACEMENT_LABELS_MAX + 1;
    CHECK(submits(p, &where, "echo:n") == PO_EINVAL);
    stop_worker(p);
}

int main(void)
{
    struct place p = {.node = NULL};
    open_place(&p);
    test_many(&p);
    test_checkpoint(&p);
    test_placement(&p);
    close_place(&p);
    return 0;
}
