/* One node and a worker in one process, through the public interface alone: a graph is defined, its
 * runs start with a priority, fail, and go on; blocking and asynchronous. Conditions are waited
 * for; one that does not come within GUARD_MS never comes. */
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "place.h"

static const char document[] =
    "{\"name\": \"p\", \"params\": {\"n\": {\"type\": \"integer\"}}, \"steps\": ["
    "{\"name\": \"a\", \"capability\": \"do:it\", \"input\": [\"a\", \"${params.n}\"]},"
    "{\"name\": \"b\", \"capability\": \"do:it\", \"depends_on\": [\"a\"], \"attempts_max\": 1,"
    " \"input\": [\"b\", \"${steps.a.output[1]}\"]}]}";

/* Answers with its input; those of step b fail while `failing` is set. */
struct work {
    atomic_bool failing;
    atomic_uint of_a;
};

static void handle(void *arg, po_task *task)
{
    struct work *w = arg;
    size_t len;
    const char *input = po_task_input(task, &len);
    bool is_a = len > 4 && memcmp(input, "[\"a\"", 4) == 0;
    atomic_fetch_add(&w->of_a, is_a);
    if (!is_a && atomic_load(&w->failing))
        CHECK(po_task_fail(task, "not today", 0) == 0);
    else
        CHECK(po_task_complete(task, input, len) == 0);
}

/* ---- an asynchronous call's end ---- */

struct reply {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool there;
    int code;
    uint64_t id;
};

static void replied(void *arg, const struct po_result *result)
{
    struct reply *r = arg;
    pthread_mutex_lock(&r->mutex);
    r->there = true;
    r->code = result->code;
    r->id = result->id;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->mutex);
}

static uint64_t id_of(struct reply *r)
{
    pthread_mutex_lock(&r->mutex);
    while (!r->there)
        pthread_cond_wait(&r->cond, &r->mutex);
    pthread_mutex_unlock(&r->mutex);
    CHECK(r->code == 0 && r->id);
    return r->id;
}

#define REPLY                                                                                      \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0                           \
    }

/* ---- the test ---- */

static void ends(po_client *client, uint64_t run, int expected, const char *part)
{
    char *json;
    int state;
    CHECK(po_run_wait(client, run, &patient, &state, &json) == 0);
    if (state != expected || !strstr(json, part)) {
        fprintf(stderr, "run %llu: state %d, no %s in %s\n", (unsigned long long)run, state, part,
                json);
        abort();
    }
    po_free(json);
}

static void test_runs(po_client *client, struct work *w)
{
    const struct po_run_opts run = {
        .size = sizeof run, .pipeline = "p", .params = "{\"n\": 7}", .priority = 5};
    const struct po_call_opts keyed = {
        .size = sizeof keyed, .timeout_ms = GUARD_MS, .key = "k", .key_len = 1};
    struct reply start = REPLY, resume = REPLY;
    uint64_t first, again, resumed;
    CHECK(po_pipeline_define(client, document, strlen(document), &patient) == 0);
    CHECK(po_run_start_with(client, NULL, &patient, &first) == PO_EINVAL);
    CHECK(po_run_start(client, "p", "{\"n\": \"x\"}", NULL, &patient, &first) == PO_EINVAL);
    CHECK(strstr(po_client_error(), "\"n\" is a string, expected integer"));

    atomic_store(&w->failing, true);
    CHECK(po_run_start_with(client, &run, &keyed, &first) == 0);
    CHECK(po_run_start_with(client, &run, &keyed, &again) == 0 && again == first);
    ends(client, first, PO_RUN_FAILED, "not today");
    ends(client, first, PO_RUN_FAILED, "\"priority\":5");
    CHECK(po_run_resume(client, first, "nowhere", &patient, &resumed) == PO_EINVAL);
    CHECK(strstr(po_client_error(), "nowhere"));
    CHECK(po_run_resume(client, 4711, NULL, &patient, &resumed) == PO_ENOTFOUND);

    atomic_store(&w->failing, false);
    CHECK(po_run_resume(client, first, NULL, &patient, &resumed) == 0 && resumed > first);
    ends(client, resumed, PO_RUN_SUCCEEDED, "\"result\":[\"b\",7]");
    CHECK(atomic_load(&w->of_a) == 1); /* taken over */
    CHECK(po_run_resume_async(client, resumed, "a", &patient, replied, &resume) == 0);
    ends(client, id_of(&resume), PO_RUN_SUCCEEDED, "\"result\":[\"b\",7]");
    CHECK(atomic_load(&w->of_a) == 2);
    CHECK(po_run_start_with_async(client, &run, &patient, replied, &start) == 0);
    ends(client, id_of(&start), PO_RUN_SUCCEEDED, "\"result\":[\"b\",7]");
}

int main(void)
{
    struct work w = {false, 0};
    struct place p;
    struct po_capability c = {.size = sizeof c, .name = "do:it"};
    open_place(&p);
    open_worker(&p, (struct po_worker_opts){0});
    CHECK(po_worker_handle(p.worker, &c, handle, &w) == 0);
    run_worker(&p);
    test_runs(p.client, &w);
    stop_worker(&p);
    close_place(&p);
    return 0;
}
