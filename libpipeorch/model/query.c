/* Queries: one function per kind, keys in byte order. Lists are bounded in elements, bytes and
 * objects looked at, because they are answered on the node thread between two log entries. */
#include "query.h"

#include <stdio.h>

static const char *const worker_words[] = {NULL, "online", "offline", "draining"};
static const char *const task_words[] = {NULL,        "pending", "scheduled", "running",
                                         "succeeded", "failed",  "cancelled"};
static const char *const run_words[] = {NULL, "running", "succeeded", "failed", "cancelled"};

const char *po__worker_word(uint32_t status)
{
    return worker_words[status];
}

const char *po__task_word(uint32_t state)
{
    return task_words[state];
}

const char *po__run_word(uint32_t state)
{
    return run_words[state];
}

/* ---- values ---- */

void po__kv_uint(struct po__buf *b, const char *key, uint64_t v)
{
    po__mpw_cstr(b, key);
    po__mpw_uint(b, v);
}

void po__kv_time(struct po__buf *b, const char *key, uint64_t ms)
{
    po__mpw_cstr(b, key);
    if (ms)
        po__mpw_uint(b, ms);
    else
        po__mpw_nil(b);
}

void po__kv_text(struct po__buf *b, const char *key, struct po__slice s)
{
    po__mpw_cstr(b, key);
    if (s.len)
        po__mpw_str(b, s);
    else
        po__mpw_nil(b);
}

void po__kv_word(struct po__buf *b, const char *key, const char *word)
{
    po__mpw_cstr(b, key);
    if (word)
        po__mpw_cstr(b, word);
    else
        po__mpw_nil(b);
}

void po__kv_bool(struct po__buf *b, const char *key, bool v)
{
    po__mpw_cstr(b, key);
    po__mpw_bool(b, v);
}

/* ---- lists ---- */

void po__page_begin(struct po__page *p, const struct po__query *q)
{
    *p = (struct po__page){.limit = q->limit ? q->limit : PO__QUERY_LIMIT_DEFAULT};
}

bool po__page_full(struct po__page *p)
{
    return p->count >= p->limit || p->items.len >= PO__QUERY_TARGET_BYTES ||
           ++p->looked_at > PO__QUERY_SCAN_MAX || p->items.err;
}

void po__page_items(struct po__page *p, struct po__buf *out, const char *key)
{
    po__mpw_cstr(out, key);
    po__mpw_array(out, p->count);
    po__mpw_raw(out, po__buf_slice(&p->items));
    if (p->items.err && !out->err)
        out->err = p->items.err;
    po__buf_fini(&p->items);
}

void po__page_next_id(const struct po__page *p, struct po__buf *out)
{
    po__mpw_cstr(out, "next");
    if (p->more)
        po__mpw_uint(out, p->last_id);
    else
        po__mpw_nil(out);
}

void po__page_next_name(const struct po__page *p, struct po__buf *out)
{
    po__kv_text(out, "next", p->more ? p->last_name : po__slice(NULL, 0));
}

/* ---- the cluster ---- */

static void query_counts(const struct po__model *m, struct po__buf *b)
{
    struct po__model_counts c;
    po__model_counts(m, &c);
    po__mpw_cstr(b, "counts");
    po__mpw_map(b, 9);
    po__kv_uint(b, "pipelines", c.pipelines);
    po__kv_uint(b, "runs_finished", c.runs_finished);
    po__kv_uint(b, "runs_running", c.runs_running);
    po__kv_uint(b, "tasks_finished", c.tasks_finished);
    po__kv_uint(b, "tasks_pending", c.tasks_pending);
    po__kv_uint(b, "tasks_running", c.tasks_running);
    po__kv_uint(b, "tasks_scheduled", c.tasks_scheduled);
    po__kv_uint(b, "workers", c.workers);
    po__kv_uint(b, "workers_online", c.workers_online);
}

static int query_status(const struct po__model *m, struct po__buf *b)
{
    po__mpw_map(b, 2);
    query_counts(m, b);
    po__mpw_cstr(b, "members");
    po__mpw_array(b, (uint32_t)m->members.count);
    for (struct po__tree_node *n = po__tree_first(&m->members); n; n = po__tree_next(n)) {
        const struct po__member_info *i = &po__container_of(n, struct po__member, by_id)->info;
        po__mpw_map(b, 6);
        po__kv_uint(b, "feature_level", i->feature_level);
        po__kv_uint(b, "id", i->node_id);
        po__kv_text(b, "name", i->name);
        po__kv_text(b, "peer_address", i->peer_address);
        po__kv_text(b, "worker_address", i->worker_address);
        po__kv_text(b, "zone", i->zone);
    }
    return 0;
}

/* ---- tasks ---- */

static void put_resources(struct po__buf *b, const struct po__placement *p)
{
    po__mpw_cstr(b, "resources");
    po__mpw_map(b, p->resources_count);
    for (uint32_t i = 0; i < p->resources_count; i++) {
        po__mpw_str(b, p->resources[i].name);
        po__mpw_uint(b, p->resources[i].amount);
    }
}

/* Labels in the form in which poctl takes them. */
static void put_label(struct po__buf *b, const struct po__label_wish *l)
{
    static const char *const forms[] = {"%.*s=%.*s", "%.*s!=%.*s", "%.*s%.*s", "!%.*s%.*s"};
    char text[2 * PO__LABEL_MAX_BYTES + 4];
    int n = snprintf(text, sizeof text, forms[l->op], (int)l->key.len, l->key.data,
                     (int)l->value.len, l->value.len ? l->value.data : "");
    po__mpw_str(b, po__slice(text, (size_t)n));
}

void po__kv_placement(struct po__buf *b, const struct po__placement *p)
{
    static const char *const gpu[] = {NULL, "required", "forbidden"};
    static const char *const prefer[] = {"balance", "spread", "binpack", "local"};
    po__mpw_cstr(b, "placement");
    if (po__placement_empty(p)) {
        po__mpw_nil(b);
        return;
    }
    po__mpw_map(b, 6);
    po__kv_word(b, "gpu", gpu[p->gpu]);
    po__mpw_cstr(b, "labels");
    po__mpw_array(b, p->labels_count);
    for (uint32_t i = 0; i < p->labels_count; i++)
        put_label(b, &p->labels[i]);
    po__kv_word(b, "prefer", prefer[p->prefer]);
    put_resources(b, p);
    po__kv_text(b, "version", p->range);
    po__kv_text(b, "zone", p->zone);
}

#define TASK_LIST_FIELDS 23

/* whole: with input and result. */
static void put_task(struct po__buf *b, const struct po__task *t, bool whole)
{
    bool finished = t->state >= PO_TASK_SUCCEEDED;
    bool told = t->more && t->more->progress != PO__PROGRESS_NONE;
    struct po__extra e;
    po__task_extra(t, &e);
    po__mpw_map(b, TASK_LIST_FIELDS + (whole ? 2 : 0));
    po__kv_uint(b, "attempts", t->attempt);
    po__kv_uint(b, "attempts_max", t->attempts_max);
    po__kv_text(b, "capability", t->capability);
    po__kv_uint(b, "checkpoint_bytes", t->more ? t->more->checkpoint.len : 0);
    po__kv_text(b, "concurrency_key", e.gate);
    po__kv_time(b, "created_ms", t->created_ms);
    po__kv_time(b, "deadline_ms", finished ? 0 : t->deadline_ms);
    po__kv_time(b, "due_by_ms", e.deadline_ms);
    po__kv_text(b, "error", t->error);
    po__kv_time(b, "finished_ms", finished ? t->deadline_ms : 0);
    po__kv_time(b, "granted_ms", t->granted_ms);
    po__kv_uint(b, "id", t->id);
    if (whole)
        po__kv_text(b, "input", t->input);
    po__kv_uint(b, "lost_attempts", t->lost);
    po__kv_placement(b, t->lane->cls->place);
    po__kv_text(b, "preferred_zone", t->zone);
    po__kv_uint(b, "priority", e.priority);
    po__mpw_cstr(b, "progress");
    if (told)
        po__mpw_uint(b, t->more->progress);
    else
        po__mpw_nil(b);
    if (whole)
        po__kv_text(b, "result", t->result);
    po__kv_time(b, "run_id", t->run_id);
    po__kv_word(b, "state", po__task_word(t->state));
    po__kv_uint(b, "timeout_ms", t->timeout_ms);
    po__kv_time(b, "token", t->token);
    po__kv_text(b, "worker_id", t->origin ? t->origin->id : po__slice(NULL, 0));
    po__kv_text(b, "zone", t->origin ? t->origin->zone : po__slice(NULL, 0));
}

static int query_task(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                      const char **message)
{
    const struct po__task *t = po__task_find(m, q->id);
    if (!t) {
        *message = "no such task; it never existed, or it was finished long ago and forgotten";
        return PO_ENOTFOUND;
    }
    put_task(b, t, true);
    return 0;
}

/* 0: any state; UINT32_MAX: no such state. */
static uint32_t state_named(struct po__slice word)
{
    if (word.len == 0)
        return 0;
    for (uint32_t s = PO_TASK_PENDING; s <= PO_TASK_CANCELLED; s++)
        if (po__slice_eq(word, po__str(po__task_word(s))))
            return s;
    return UINT32_MAX;
}

static int query_tasks(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                       const char **message)
{
    struct po__page p;
    uint32_t state = state_named(q->name);
    if (state == UINT32_MAX) {
        *message = "unknown task state; expected pending, scheduled, running, succeeded, failed or "
                   "cancelled";
        return PO_EINVAL;
    }
    po__page_begin(&p, q);
    for (const struct po__task *t = po__task_after(m, q->id); t; t = po__task_after(m, t->id)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_id = t->id;
        if (state && t->state != state)
            continue;
        put_task(&p.items, t, false);
        p.count++;
    }
    po__mpw_map(b, 2);
    po__page_next_id(&p, b);
    po__page_items(&p, b, "tasks");
    return 0;
}

int po__model_query(const struct po__model *m, const struct po__query *q, struct po__buf *out,
                    const char **message)
{
    int rv;
    *message = "";
    if (q->limit > PO__QUERY_LIMIT_MAX) {
        *message = "limit is too large; expected 0..1000";
        return PO_EINVAL;
    }
    switch (q->what) {
    case PO_QUERY_STATUS:
        rv = query_status(m, out);
        break;
    case PO_QUERY_WORKERS:
        rv = po__query_workers(m, q, out);
        break;
    case PO_QUERY_CAPABILITIES:
        rv = po__query_capabilities(m, q, out);
        break;
    case PO_QUERY_ROUTE:
        rv = po__query_route(m, q, out, message);
        break;
    case PO_QUERY_EXPLAIN:
        rv = po__query_explain(m, q, out, message);
        break;
    case PO_QUERY_FENCE:
        rv = po__query_fence(m, q, out, message);
        break;
    case PO_QUERY_TASK:
        rv = query_task(m, q, out, message);
        break;
    case PO_QUERY_TASKS:
        rv = query_tasks(m, q, out, message);
        break;
    case PO_QUERY_PIPELINES:
        rv = po__query_pipelines(m, q, out);
        break;
    case PO_QUERY_PIPELINE:
        rv = po__query_pipeline(m, q, out, message);
        break;
    case PO_QUERY_RUN:
        rv = po__query_run(m, q, out, message);
        break;
    case PO_QUERY_RUNS:
        rv = po__query_runs(m, q, out, message);
        break;
    case PO_QUERY_SCHEDULES:
        rv = po__query_schedules(m, q, out);
        break;
    case PO_QUERY_SCHEDULE:
        rv = po__query_schedule(m, q, out, message);
        break;
    default:
        *message = "unknown kind of query";
        rv = PO_EINVAL;
    }
    return rv ? rv : out->err;
}
