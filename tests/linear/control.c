#include "control.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASK_RECENT      256 /* tasks that threads come back to */
#define TIMEOUT_MIN_MS   300
#define TIMEOUT_MAX_MS   3000
#define FINAL_TIMEOUT_MS 1000
#define ATTEMPT_MS       2000
#define ATTEMPTS_MAX     100   /* attempts that are lost never make a task fail */
#define HEARTBEAT_MS     60000 /* of the workers under test: none goes offline by itself */

static po_client *client;
static struct linear_history *history;
static char family[LINEAR_TEXT_MAX_BYTES / 2 + 1]; /* of this process's keys: NAME-CLOCK */

void linear_control_init(po_client *c, struct linear_history *h, const char *name)
{
    client = c;
    history = h;
    snprintf(family, sizeof family, "%.4s-%llu", name, (unsigned long long)linear_now_ns());
}

static struct po_call_opts some_timeout(struct linear_random *r)
{
    struct po_call_opts o = {.size = sizeof o};
    o.timeout_ms = TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS - TIMEOUT_MIN_MS);
    return o;
}

/* The value of "name": NUMBER or "name": "word" in an answer; NULL if it is not there. */
static const char *member(const char *json, const char *name)
{
    char quoted[LINEAR_TEXT_MAX_BYTES];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(json, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static uint64_t number(const char *json, const char *name)
{
    const char *at = member(json, name);
    return at ? strtoull(at, NULL, 10) : 0;
}

static void word(char *out, size_t cap, const char *json, const char *name)
{
    const char *at = member(json, name);
    *out = '\0';
    if (at && *at == '"')
        snprintf(out, cap, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
}

/* ---- tasks ---- */

static struct {
    pthread_mutex_t lock;
    uint64_t count; /* keys ever used by this process */
    struct recent {
        uint64_t number, id; /* id 0: no submission was answered yet */
    } ring[TASK_RECENT];
} recent = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void key_of(char *key, uint64_t n)
{
    snprintf(key, LINEAR_TEXT_MAX_BYTES, "%s-%llu", family, (unsigned long long)n);
}

static uint64_t fresh_key(void)
{
    pthread_mutex_lock(&recent.lock);
    uint64_t n = recent.count++;
    recent.ring[n % TASK_RECENT] = (struct recent){n, 0};
    pthread_mutex_unlock(&recent.lock);
    return n;
}

static bool recent_at(uint64_t back, struct recent *out)
{
    pthread_mutex_lock(&recent.lock);
    bool found = back < recent.count && back < TASK_RECENT;
    if (found)
        *out = recent.ring[(recent.count - 1 - back) % TASK_RECENT];
    pthread_mutex_unlock(&recent.lock);
    return found;
}

static void learn(uint64_t n, uint64_t id)
{
    pthread_mutex_lock(&recent.lock);
    if (recent.ring[n % TASK_RECENT].number == n)
        recent.ring[n % TASK_RECENT].id = id;
    pthread_mutex_unlock(&recent.lock);
}

static void submit(struct linear_random *r, uint64_t n)
{
    char key[LINEAR_TEXT_MAX_BYTES], input[LINEAR_TEXT_MAX_BYTES + 4];
    uint64_t id = 0;
    struct po_call_opts opts = some_timeout(r);
    key_of(key, n);
    opts.key = key;
    opts.key_len = strlen(key);
    struct po_task_opts task = {.size = sizeof task,
                                .capability = LINEAR_CAPABILITY,
                                .input = input,
                                .input_len = (size_t)snprintf(input, sizeof input, "\"%s\"", key),
                                .attempts_max = ATTEMPTS_MAX,
                                .timeout_ms = ATTEMPT_MS};
    uint64_t op = linear_call(history, "task", "submit", key, 0, 0);
    int rv = po_submit_task(client, &task, &opts, &id);
    if (rv == PO_EUNKNOWN)
        return;
    if (rv) {
        linear_refused(history, op);
        return;
    }
    learn(n, id);
    linear_return(history, op, &(struct linear_outcome){.value = id});
}

static void cancel(struct linear_random *r, const struct recent *t)
{
    char key[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = some_timeout(r);
    key_of(key, t->number);
    uint64_t op = linear_call(history, "task", "cancel", key, t->id, 0);
    int rv = po_task_cancel(client, t->id, &opts);
    if (rv == PO_EUNKNOWN)
        return;
    if (rv == 0 || rv == PO_ESTATE || rv == PO_ENOTFOUND)
        linear_return(history, op, &(struct linear_outcome){.code = rv});
    else
        linear_refused(history, op);
}

/* Which attempt ended the task: the worker wrote its token into the result or the error. */
static uint64_t ended_by(const char *json)
{
    const char *at = strstr(json, "token ");
    return at ? strtoull(at + 6, NULL, 10) : 0;
}

static int show(const struct recent *t, uint32_t timeout_ms)
{
    char key[LINEAR_TEXT_MAX_BYTES], status[LINEAR_TEXT_MAX_BYTES], *json = NULL;
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = t->id};
    key_of(key, t->number);
    uint64_t op = linear_call(history, "task", "show", key, t->id, 0);
    int rv = po_query(client, &q, &opts, &json);
    if (rv == PO_ENOTFOUND) {
        linear_return(history, op, &(struct linear_outcome){.code = rv});
        return 0;
    }
    if (rv) {
        linear_refused(history, op);
        return rv;
    }
    word(status, sizeof status, json, "state");
    linear_return(history, op,
                  &(struct linear_outcome){.value = ended_by(json),
                                           .version = number(json, "attempts"),
                                           .state = status});
    po_free(json);
    return 0;
}

/* A list of one: the first task after the id before. */
static void list(struct linear_random *r, const struct recent *t)
{
    char key[LINEAR_TEXT_MAX_BYTES], status[LINEAR_TEXT_MAX_BYTES], *json = NULL;
    struct po_call_opts opts = some_timeout(r);
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASKS, .id = t->id - 1, .limit = 1};
    key_of(key, t->number);
    uint64_t op = linear_call(history, "task", "list", key, t->id, 0);
    if (po_query(client, &q, &opts, &json)) {
        linear_refused(history, op);
        return;
    }
    word(status, sizeof status, json, "state");
    bool listed = number(json, "id") == t->id;
    linear_return(history, op,
                  &(struct linear_outcome){.code = listed ? 0 : PO_ENOTFOUND,
                                           .version = number(json, "attempts"),
                                           .state = status});
    po_free(json);
}

static void use_tasks(struct linear_random *r)
{
    struct recent t;
    uint64_t dice = linear_below(r, 100);
    if (dice < 25) {
        submit(r, fresh_key());
        return;
    }
    if (!recent_at(linear_below(r, 12), &t))
        return;
    if (dice < 40 || t.id == 0)
        submit(r, t.number); /* again */
    else if (dice < 50)
        cancel(r, &t);
    else if (dice < 60)
        list(r, &t);
    else
        (void)show(&t, TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS));
}

/* ---- the registry ---- */

static void names(uint64_t i, char *id, char *capability)
{
    snprintf(id, LINEAR_TEXT_MAX_BYTES, "w%llu", (unsigned long long)i);
    snprintf(capability, LINEAR_TEXT_MAX_BYTES, "registry:w%llu", (unsigned long long)i);
}

static void note(uint64_t op, int rv)
{
    if (rv == 0 || rv == PO_ESTALE || rv == PO_ENOTFOUND)
        linear_return(history, op, &(struct linear_outcome){.code = rv});
    else if (rv != PO_EUNKNOWN)
        linear_refused(history, op);
}

static void enroll(struct linear_random *r, uint64_t i)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES], address[32];
    uint64_t incarnation = linear_now_ns();
    struct po_call_opts opts = some_timeout(r);
    names(i, id, capability);
    snprintf(address, sizeof address, "%llu", (unsigned long long)incarnation);
    struct po_capability offer = {.size = sizeof offer, .name = capability};
    struct po_worker_info info = {.size = sizeof info,
                                  .id = id,
                                  .address = address,
                                  .incarnation = incarnation,
                                  .heartbeat_ms = HEARTBEAT_MS,
                                  .capabilities = &offer,
                                  .capabilities_count = 1};
    uint64_t op = linear_call(history, "registry", "register", id, incarnation, 0);
    note(op, po_register_worker(client, &info, &opts));
}

static void dismiss(struct linear_random *r, uint64_t i, uint64_t incarnation)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = some_timeout(r);
    names(i, id, capability);
    uint64_t op = linear_call(history, "registry", "deregister", id, incarnation, 0);
    note(op, po_deregister_worker(client, id, incarnation, &opts));
}

static int route(uint64_t i, uint32_t timeout_ms, uint64_t *incarnation)
{
    char id[LINEAR_TEXT_MAX_BYTES], capability[LINEAR_TEXT_MAX_BYTES];
    struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    struct po_route_info info = {.size = sizeof info};
    names(i, id, capability);
    uint64_t op = linear_call(history, "registry", "route", id, 0, 0);
    int rv = po_route(client, capability, NULL, &opts, &info);
    if (rv && rv != PO_ENOCAPABILITY) {
        linear_refused(history, op);
        return rv;
    }
    *incarnation = rv ? 0 : strtoull(info.address, NULL, 10);
    linear_return(history, op, &(struct linear_outcome){.code = rv, .value = *incarnation});
    return 0;
}

/* seen: the incarnations that this thread saw last, to be dismissed by name */
static void use_registry(struct linear_random *r, uint64_t seen[LINEAR_WORKERS])
{
    uint64_t i = linear_below(r, LINEAR_WORKERS), dice = linear_below(r, 100);
    if (dice < 25)
        enroll(r, i);
    else if (dice < 35)
        dismiss(r, i, 0);
    else if (dice < 45 && seen[i])
        dismiss(r, i, seen[i]);
    else
        (void)route(i, TIMEOUT_MIN_MS + (uint32_t)linear_below(r, TIMEOUT_MAX_MS), &seen[i]);
}

/* ---- both ---- */

void linear_control_use(struct linear_random *r, uint64_t seen[LINEAR_WORKERS])
{
    if (linear_below(r, 3) < 2)
        use_tasks(r);
    else
        use_registry(r, seen);
}

const char *linear_control_look(uint64_t until_ns)
{
    struct recent t;
    uint64_t ignored;
    for (uint64_t i = 0; i < LINEAR_WORKERS; i++)
        while (route(i, FINAL_TIMEOUT_MS, &ignored))
            if (linear_now_ns() > until_ns)
                return "a worker's route";
    for (uint64_t i = 0; recent_at(i, &t); i++)
        while (t.id && show(&t, FINAL_TIMEOUT_MS))
            if (linear_now_ns() > until_ns)
                return "a task";
    return NULL;
}
