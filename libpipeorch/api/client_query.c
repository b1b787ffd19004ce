/* The calls of client.h that only read: queries, routes, waiting for the end of a task or a run.
 * Their answers are JSON; the structs of the blocking forms are filled from it. */
#include <pipeorch/client.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "out.h"
#include "placement.h"

#define QUERY_LIMIT_MAX 1000

/* ---- queries ---- */

static int query_name(struct po__slice *s, const char *text, const char *field)
{
    *s = po__str(text ? text : "");
    if (s->len > PO_NAME_MAX_BYTES)
        return po__client_fail(PO_EINVAL, "%s has %zu bytes; at most %d are allowed", field, s->len,
                               PO_NAME_MAX_BYTES);
    return 0;
}

static int prepare_query(struct po__call *call, const struct po_query *query,
                         const struct po_call_opts *opts)
{
    struct po_query q = {0};
    struct po__query out = {0};
    int rv = query ? po__read_struct(&q, sizeof q, query, "po_query")
                   : po__client_fail(PO_EINVAL, "the query is NULL");
    rv = rv ? rv : query_name(&out.name, q.name, "name");
    rv = rv ? rv : query_name(&out.name2, q.name2, "name2");
    if (rv)
        return rv;
    bool schedules = q.what == PO_QUERY_SCHEDULES || q.what == PO_QUERY_SCHEDULE;
    if ((q.what < PO_QUERY_STATUS || q.what > PO_QUERY_EXPLAIN) && !schedules)
        return po__client_fail(PO_EINVAL, "unknown kind of query %d; expected PO_QUERY_*", q.what);
    if (q.limit > QUERY_LIMIT_MAX)
        return po__client_fail(PO_EINVAL, "limit is %u; expected 1..%d, or 0 for 100", q.limit,
                               QUERY_LIMIT_MAX);
    if (q.stale_ms > PO_TIMEOUT_MAX_MS)
        return po__client_fail(PO_EINVAL, "stale_ms is %u; expected 1..%d, or 0 for linearizable",
                               q.stale_ms, PO_TIMEOUT_MAX_MS);
    struct po__demand demand = {.capability = out.name};
    if (q.what == PO_QUERY_ROUTE) /* the name may have a range of versions behind it */
        rv = po__demand_read(&demand, q.name ? q.name : "", NULL);
    if (rv)
        return rv;
    out.name = demand.capability;
    out.placement = po__buf_slice(&demand.placement);
    out.stale_ms = q.stale_ms;
    out.what = q.what;
    out.id = q.id;
    out.limit = q.limit;
    rv = po__call_query(call, &out, opts);
    po__demand_fini(&demand);
    return rv;
}

int po_query(po_client *client, const struct po_query *query, const struct po_call_opts *opts,
             char **json)
{
    struct po__call call;
    struct po__outcome out;
    int rv = prepare_query(&call, query, opts);
    rv = rv ? rv : po__call_wait(client, &call, &out);
    if (rv)
        return rv;
    if (json) {
        *json = out.data;
        out.data = NULL;
    }
    po__outcome_fini(&out);
    return 0;
}

int po_query_async(po_client *client, const struct po_query *query, const struct po_call_opts *opts,
                   po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_query(&call, query, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

/* ---- reading an answer ---- */

/* The blocking forms read the node's map itself: a task's result is handed on byte for byte. */
struct answer {
    struct po__outcome out;
    struct po__mpr r;
    uint32_t left; /* pairs */
};

static int open_answer(struct answer *a, po_client *client, struct po__call *call)
{
    call->raw = true;
    int rv = po__call_wait(client, call, &a->out);
    if (rv)
        return rv;
    po__mpr_init(&a->r, a->out.data, a->out.len);
    a->left = po__mpr_map(&a->r, PO__MP_NODES_MAX);
    return 0;
}

static bool next_key(struct answer *a, struct po__slice *key)
{
    if (a->r.err || a->left == 0)
        return false;
    a->left--;
    *key = po__mpr_str(&a->r, PO_NAME_MAX_BYTES);
    return a->r.err == 0;
}

static bool is(struct po__slice key, const char *name)
{
    return po__slice_eq(key, po__str(name));
}

static int close_answer(struct answer *a)
{
    int rv = po__mpr_end(&a->r);
    po__outcome_fini(&a->out);
    return rv ? po__client_fail(rv,
                                "the answer of the node is malformed; does it run another version?")
              : 0;
}

/* Text or nil. */
static struct po__slice get_slice(struct answer *a)
{
    enum po__mp_type t = po__mpr_peek(&a->r);
    if (t == PO__MP_NIL)
        po__mpr_nil(&a->r);
    return t == PO__MP_NIL   ? po__slice(NULL, 0)
           : t == PO__MP_BIN ? po__mpr_bin(&a->r, PO_PAYLOAD_MAX_BYTES)
                             : po__mpr_str(&a->r, PO_PAYLOAD_MAX_BYTES);
}

static void get_text(struct answer *a, char *text, size_t text_len)
{
    struct po__slice s = get_slice(a);
    snprintf(text, text_len, "%.*s", (int)s.len, s.len ? s.data : "");
}

static uint32_t get_u32(struct answer *a)
{
    return (uint32_t)po__mpr_uint(&a->r, UINT32_MAX);
}

static char *get_copy(struct answer *a, size_t *len, int *rv)
{
    struct po__slice s = get_slice(a);
    char *copy = s.data ? po__strndup(s.data, s.len) : NULL;
    if (s.data && !copy)
        *rv = PO_ENOMEM;
    if (len)
        *len = s.len;
    return copy;
}

/* The number of a state's word in its list, which begins with state 1; 0: unknown. */
static int state_of(struct po__slice word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (is(word, words[i]))
            return i + 1;
    return 0;
}

static bool knows(const void *to, size_t field_end)
{
    size_t size;
    memcpy(&size, to, sizeof size);
    return size >= field_end;
}

/* ---- routes ---- */

static int prepare_route(struct po__call *call, const struct po_route_opts *what,
                         const struct po_call_opts *opts)
{
    struct po__query q = {.what = PO_QUERY_ROUTE};
    struct po_route_opts w = {0};
    struct po__demand demand;
    int rv = what ? po__read_struct(&w, sizeof w, what, "po_route_opts")
                  : po__client_fail(PO_EINVAL, "what to route is NULL");
    rv = rv ? rv : query_name(&q.name2, w.zone, "zone");
    rv = rv ? rv : po__demand_read(&demand, w.capability, w.placement);
    if (rv)
        return rv;
    q.name = demand.capability;
    q.placement = po__buf_slice(&demand.placement);
    if (!po__capability_ok(q.name))
        rv = po__client_fail(PO_EINVAL,
                             "capability \"%.256s\" is malformed; expected \"verb:name\" or "
                             "\"verb:name@range\", each part of a-z 0-9 . _ -",
                             w.capability ? w.capability : "");
    rv = rv ? rv : po__call_query(call, &q, opts);
    po__demand_fini(&demand);
    return rv;
}

int po_route_with(po_client *client, const struct po_route_opts *what,
                  const struct po_call_opts *opts, struct po_route_info *route)
{
    struct po__call call;
    struct answer a;
    struct po__slice key;
    int rv = po__out_check(route, "po_route_info");
    rv = rv ? rv : prepare_route(&call, what, opts);
    rv = rv ? rv : open_answer(&a, client, &call);
    if (rv)
        return rv;
    struct po_route_info r = {.size = sizeof r, .index = a.out.index};
    while (next_key(&a, &key)) {
        if (is(key, "worker_id"))
            get_text(&a, r.worker_id, sizeof r.worker_id);
        else if (is(key, "address"))
            get_text(&a, r.address, sizeof r.address);
        else if (is(key, "zone"))
            get_text(&a, r.zone, sizeof r.zone);
        else if (is(key, "version"))
            get_text(&a, r.version, sizeof r.version);
        else if (is(key, "running"))
            r.running = get_u32(&a);
        else if (is(key, "free_slots"))
            r.free_slots = get_u32(&a);
        else if (is(key, "candidates"))
            r.candidates = get_u32(&a);
        else if (is(key, "why"))
            get_text(&a, r.why, sizeof r.why);
        else
            po__mpr_skip(&a.r);
    }
    rv = close_answer(&a);
    if (!rv)
        po__out_write(route, &r, sizeof r);
    return rv;
}

int po_route_with_async(po_client *client, const struct po_route_opts *what,
                        const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_route(&call, what, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

int po_route(po_client *client, const char *capability, const char *zone,
             const struct po_call_opts *opts, struct po_route_info *route)
{
    const struct po_route_opts what = {.size = sizeof what, .capability = capability, .zone = zone};
    return po_route_with(client, &what, opts, route);
}

int po_route_async(po_client *client, const char *capability, const char *zone,
                   const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    const struct po_route_opts what = {.size = sizeof what, .capability = capability, .zone = zone};
    return po_route_with_async(client, &what, opts, cb, arg);
}

/* ---- waiting ---- */

#define WAIT_TASK 1
#define WAIT_RUN  2

static const char *const task_words[] = {"pending",   "scheduled", "running",
                                         "succeeded", "failed",    "cancelled"};
static const char *const run_words[] = {"running", "succeeded", "failed", "cancelled"};

static int read_task(struct answer *a, struct po_task_info *t)
{
    struct po__slice key;
    int rv = 0;
    while (next_key(a, &key)) {
        if (is(key, "id"))
            t->id = po__mpr_uint(&a->r, UINT64_MAX);
        else if (is(key, "state"))
            t->state = state_of(get_slice(a), task_words, sizeof task_words / sizeof *task_words);
        else if (is(key, "attempts"))
            t->attempts = get_u32(a);
        else if (is(key, "worker_id"))
            get_text(a, t->worker_id, sizeof t->worker_id);
        else if (is(key, "zone"))
            get_text(a, t->zone, sizeof t->zone);
        else if (is(key, "error"))
            t->error = get_copy(a, NULL, &rv);
        else if (is(key, "result"))
            t->result = get_copy(a, &t->result_len, &rv);
        else
            po__mpr_skip(&a->r);
    }
    return rv ? po__client_fail(rv, "out of memory for the result of a task") : 0;
}

int po_task_wait(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                 struct po_task_info *info)
{
    struct po__call call;
    struct answer a;
    int rv = info ? po__out_check(info, "po_task_info") : 0;
    rv = rv ? rv : po__call_wait_for(&call, WAIT_TASK, task_id, opts);
    rv = rv ? rv : open_answer(&a, client, &call);
    if (rv)
        return rv;
    struct po_task_info t = {.size = sizeof t, .index = a.out.index};
    rv = read_task(&a, &t);
    int malformed = close_answer(&a);
    rv = rv ? rv : malformed;
    bool given = !rv && info;
    if (given)
        po__out_write(info, &t, sizeof t);
#define FIELD_END(field) (offsetof(struct po_task_info, field) + sizeof t.field)
    if (!given || !knows(info, FIELD_END(error)))
        po__free(t.error);
    if (!given || !knows(info, FIELD_END(result)))
        po__free(t.result);
#undef FIELD_END
    return rv;
}

int po_task_wait_async(po_client *client, uint64_t task_id, const struct po_call_opts *opts,
                       po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = po__call_wait_for(&call, WAIT_TASK, task_id, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int run_state(const struct po__outcome *out, int *state)
{
    json_error_t error;
    json_t *root = json_loadb(out->data, out->len, JSON_ALLOW_NUL, &error);
    const char *word = json_string_value(json_object_get(root, "state"));
    *state = word ? state_of(po__str(word), run_words, sizeof run_words / sizeof *run_words) : 0;
    json_decref(root);
    return *state ? 0
                  : po__client_fail(PO_EPROTO, "the answer of the node names no state of the run");
}

int po_run_wait(po_client *client, uint64_t run_id, const struct po_call_opts *opts, int *state,
                char **json)
{
    struct po__call call;
    struct po__outcome out;
    int rv = po__call_wait_for(&call, WAIT_RUN, run_id, opts);
    rv = rv ? rv : po__call_wait(client, &call, &out);
    if (rv)
        return rv;
    if (state && (rv = run_state(&out, state))) {
        po__outcome_fini(&out);
        return rv;
    }
    if (json) {
        *json = out.data;
        out.data = NULL;
    }
    po__outcome_fini(&out);
    return 0;
}

int po_run_wait_async(po_client *client, uint64_t run_id, const struct po_call_opts *opts,
                      po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = po__call_wait_for(&call, WAIT_RUN, run_id, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}
