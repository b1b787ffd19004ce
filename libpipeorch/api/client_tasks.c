/* The calls of client.h about tasks that change something, and the check of a fencing token. */
#include <pipeorch/client.h>

#include <stdio.h>
#include <string.h>

#include "placement.h"

/* A submission as the model has it: borrows from the caller's struct, the demand and the extra. */
struct submission {
    struct po__demand demand;
    struct po__buf extra;
    struct po__cmd cmd;
    uint8_t drawn[PO__DRAWN_KEY_BYTES];
};

static void submission_fini(struct submission *s)
{
    po__demand_fini(&s->demand);
    po__buf_fini(&s->extra);
}

static struct po__slice text_of(const char *text)
{
    return po__str(text ? text : "");
}

/* Does it ask for anything that the first release did not know? */
static bool asks_for_more(const struct submission *s, const struct po_task_opts *t)
{
    return s->demand.placement.len || t->priority || t->run_at_ms || t->deadline_ms ||
           t->retry_ms || t->retry_max_ms || t->concurrency_key || t->concurrency_max ||
           t->rate_max || t->rate_period_ms || t->keep_ms;
}

static int read_extra(struct submission *s, const struct po_task_opts *t)
{
    const struct po__extra e = {.placement = po__buf_slice(&s->demand.placement),
                                .priority = t->priority,
                                .run_at_ms = t->run_at_ms,
                                .deadline_ms = t->deadline_ms,
                                .retry_ms = t->retry_ms,
                                .retry_max_ms = t->retry_max_ms,
                                .gate = text_of(t->concurrency_key),
                                .gate_max = t->concurrency_max,
                                .rate_max = t->rate_max,
                                .rate_ms = t->rate_period_ms,
                                .keep_ms = t->keep_ms};
    char message[512];
    int rv = po__extra_check(&e, message, sizeof message);
    if (rv)
        return po__client_fail(rv, "%s", message);
    po__extra_encode(&s->extra, &e);
    if (s->extra.err)
        return po__client_fail(s->extra.err, "out of memory for a submission");
    s->cmd.type = PO__CMD_TASK_SUBMIT_MORE;
    s->cmd.submit.extra = po__buf_slice(&s->extra);
    return 0;
}

/* All but the idempotency key. Nothing is to be released after an error. */
static int read_task(struct submission *s, const struct po_task_opts *t)
{
    s->extra = (struct po__buf){0};
    int rv = po__demand_read(&s->demand, t->capability, t->placement);
    if (rv)
        return rv;
    s->cmd.type = PO__CMD_TASK_SUBMIT;
    s->cmd.submit.extra = po__slice(NULL, 0);
    s->cmd.submit.capability = s->demand.capability;
    s->cmd.submit.input = po__slice(t->input, t->input ? t->input_len : 0);
    s->cmd.submit.zone = text_of(t->zone);
    s->cmd.submit.attempts_max = t->attempts_max;
    s->cmd.submit.timeout_ms = t->timeout_ms;
    if (s->cmd.submit.input.len > PO_PAYLOAD_MAX_BYTES)
        rv =
            po__client_fail(PO_ETOOBIG,
                            "the input has %zu bytes; at most %d go inline. Keep it as an artifact "
                            "(a file or an object that workers can read) and submit its name",
                            s->cmd.submit.input.len, PO_PAYLOAD_MAX_BYTES);
    if (!rv && asks_for_more(s, t))
        rv = read_extra(s, t);
    if (rv)
        submission_fini(s);
    return rv;
}

static int prepare_submit(struct po__call *call, const struct po_task_opts *task,
                          const struct po_call_opts *opts)
{
    struct po_task_opts t = {0};
    struct submission s;
    int rv = task ? po__read_struct(&t, sizeof t, task, "po_task_opts")
                  : po__client_fail(PO_EINVAL, "the task is NULL");
    rv = rv ? rv : read_task(&s, &t);
    if (rv)
        return rv;
    rv = po__call_key(&s.cmd.submit.key, s.drawn, opts);
    rv = rv ? rv : po__call_command(call, &s.cmd, opts);
    submission_fini(&s);
    return rv;
}

int po_submit_task(po_client *client, const struct po_task_opts *task,
                   const struct po_call_opts *opts, uint64_t *task_id)
{
    struct po__call call;
    int rv = prepare_submit(&call, task, opts);
    return rv ? rv : po__call_wait_id(client, &call, task_id);
}

int po_submit_task_async(po_client *client, const struct po_task_opts *task,
                         const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_submit(&call, task, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

/* ---- many at once ---- */

#define BATCH_BYTES (1u << 20) /* a message is closed at this size; one larger task goes alone */
#define KEY_MAX     (PO_KEY_MAX_BYTES - 8)

struct batch {
    const char *tasks; /* elements of `stride` bytes */
    size_t stride, count;
    uint8_t key[PO_KEY_MAX_BYTES];
    size_t key_len; /* the common part; each task's number follows */
    const struct po_call_opts *opts;
    uint64_t *ids;
    int *codes;
    int first_error;
    char first_text[PO__CLIENT_ERROR_MAX_BYTES];
};

static void tell(struct batch *b, size_t i, int code, uint64_t id, const char *why)
{
    if (b->codes)
        b->codes[i] = code;
    if (b->ids)
        b->ids[i] = id;
    if (!code || b->first_error)
        return;
    b->first_error = code;
    snprintf(b->first_text, sizeof b->first_text, "task %zu of %zu: %s", i + 1, b->count, why);
}

/* Appends task i to the array of commands. 0, or why it is no task: it was told. */
static int add_task(struct batch *b, struct po__buf *commands, size_t i)
{
    struct po_task_opts t;
    struct submission s;
    char message[512];
    int rv = po__read_struct(&t, sizeof t, b->tasks + i * b->stride, "po_task_opts");
    rv = rv ? rv : read_task(&s, &t);
    if (rv) {
        snprintf(message, sizeof message, "%s", po_client_error());
        tell(b, i, rv, 0, message);
        return rv;
    }
    for (unsigned k = 0; k < 8; k++)
        b->key[b->key_len + k] = (uint8_t)((uint64_t)i >> (8 * (7 - k)));
    s.cmd.submit.key = po__slice(b->key, b->key_len + 8);
    rv = po__cmd_check(&s.cmd, message, sizeof message);
    if (rv)
        tell(b, i, rv, 0, message);
    else
        po__cmd_encode(commands, &s.cmd);
    submission_fini(&s);
    return rv;
}

/* Hands out the outcomes of one message. places: which tasks were in it. */
static int read_results(struct batch *b, const struct po__outcome *out, const size_t *places,
                        uint32_t count)
{
    struct po__mpr r;
    po__mpr_init(&r, out->data, out->len);
    if (po__mpr_array(&r, count) != count)
        po__mpr_fail(&r);
    for (uint32_t k = 0; k < count && !r.err; k++) {
        uint32_t fields = po__mpr_array(&r, UINT32_MAX);
        int code = (int)po__mpr_int(&r);
        uint64_t id = po__mpr_uint(&r, UINT64_MAX);
        struct po__slice why = po__mpr_str(&r, PO__CLIENT_ERROR_MAX_BYTES);
        char text[512];
        for (uint32_t f = 3; f < fields; f++)
            po__mpr_skip(&r);
        snprintf(text, sizeof text, "%.*s", (int)why.len, why.len ? why.data : po_strerror(code));
        if (!r.err)
            tell(b, places[k], code, code ? 0 : id, text);
    }
    return r.err
               ? po__client_fail(r.err, "the answer of the node is malformed; does it run another "
                                        "version?")
               : 0;
}

/* Sends the tasks from *at on that fit into one message; *at moves behind them. */
static int send_some(po_client *client, struct batch *b, size_t *at)
{
    size_t places[PO__BATCH_MAX];
    struct po__buf commands = {0};
    struct po__call call;
    struct po__outcome out;
    uint32_t n = 0;
    while (*at < b->count && n < PO__BATCH_MAX && commands.len < BATCH_BYTES && !commands.err) {
        places[n] = *at;
        n += add_task(b, &commands, (*at)++) == 0;
    }
    int rv = commands.err ? po__client_fail(commands.err, "out of memory for a batch of tasks") : 0;
    if (!rv && n) {
        rv = po__call_batch(&call, po__buf_slice(&commands), n, b->opts);
        rv = rv ? rv : po__call_wait(client, &call, &out);
        if (!rv) {
            rv = read_results(b, &out, places, n);
            po__outcome_fini(&out);
        }
    }
    po__buf_fini(&commands);
    if (rv) { /* of the message as a whole */
        char why[512];
        snprintf(why, sizeof why, "%s", po_client_error());
        for (uint32_t k = 0; k < n; k++)
            tell(b, places[k], rv, 0, why);
    }
    return rv;
}

int po_submit_tasks(po_client *client, const struct po_task_opts *tasks, size_t count,
                    const struct po_call_opts *opts, uint64_t *ids, int *codes)
{
    struct batch b = {.tasks = (const char *)tasks, .count = count, .ids = ids, .codes = codes};
    struct po__slice key;
    uint8_t drawn[PO__DRAWN_KEY_BYTES];
    struct po_call_opts plain;
    if (!client || !tasks || count < 1 || count > PO_TASKS_BATCH_MAX)
        return po__client_fail(PO_EINVAL,
                               "the client or the tasks are NULL, or there are %zu tasks; expected "
                               "1..%d",
                               count, PO_TASKS_BATCH_MAX);
    int rv = po__call_key(&key, drawn, opts);
    rv = rv ? rv : po__read_struct(&plain, sizeof plain, opts, "po_call_opts");
    if (!rv && key.len > KEY_MAX)
        rv = po__client_fail(PO_EINVAL,
                             "the idempotency key has %zu bytes; for many tasks at most %d, each "
                             "task's place follows it",
                             key.len, KEY_MAX);
    if (rv) {
        for (size_t i = 0; i < count; i++)
            tell(&b, i, rv, 0, "");
        return rv;
    }
    memcpy(b.key, key.data, key.len);
    b.key_len = key.len;
    b.stride = tasks->size;
    plain.size = sizeof plain;
    plain.key = NULL;
    b.opts = &plain;
    for (size_t at = 0; at < count;) {
        char why[512];
        rv = send_some(client, &b, &at);
        if (!rv)
            continue;
        snprintf(why, sizeof why, "%s", po_client_error());
        for (; at < count; at++) /* the cluster is not to be had: the rest is not tried */
            tell(&b, at, rv, 0, why);
    }
    return b.first_error ? po__client_fail(b.first_error, "%s", b.first_text) : 0;
}

/* ---- one task ---- */

static int prepare_task_cancel(struct po__call *call, uint64_t task_id,
                               const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_TASK_CANCEL, .cancel.task_id = task_id};
    return po__call_command(call, &cmd, opts);
}

int po_task_cancel(po_client *client, uint64_t task_id, const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_task_cancel(&call, task_id, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_task_cancel_async(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                         po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_task_cancel(&call, task_id, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int prepare_task_retry(struct po__call *call, uint64_t task_id,
                              const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_TASK_RETRY, .retry.task_id = task_id};
    return po__call_command(call, &cmd, opts);
}

int po_task_retry(po_client *client, uint64_t task_id, const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_task_retry(&call, task_id, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_task_retry_async(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                        po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_task_retry(&call, task_id, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

/* ---- fencing ---- */

static int prepare_fence(struct po__call *call, uint64_t task_id, uint64_t token,
                         const struct po_call_opts *opts)
{
    const struct po__query q = {.what = PO_QUERY_FENCE, .id = task_id, .token = token};
    if (task_id == 0 || token == 0)
        return po__client_fail(PO_EINVAL,
                               "task id %llu and token %llu; neither is ever 0, see po_task_id and "
                               "po_task_token",
                               (unsigned long long)task_id, (unsigned long long)token);
    return po__call_query(call, &q, opts);
}

int po_fence_check(po_client *client, uint64_t task_id, uint64_t token,
                   const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_fence(&call, task_id, token, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_fence_check_async(po_client *client, uint64_t task_id, uint64_t token,
                         const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_fence(&call, task_id, token, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}
