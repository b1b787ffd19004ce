/* The objects of the state as snapshot records: msgpack arrays [section, fields...], everything
 * that cannot be derived and nothing else. Read back by restore.c; the two change together, with
 * PO__SNAPSHOT_FORMAT. */
#include "impl.h"

void po__record_header(struct po__buf *b, const struct po__model *m)
{
    po__mpw_array(b, 11);
    po__mpw_uint(b, PO__SECTION_HEADER);
    po__mpw_uint(b, PO__SNAPSHOT_FORMAT);
    po__mpw_uint(b, m->index);
    po__mpw_uint(b, m->now_ms);
    po__mpw_uint(b, m->last_token);
    po__mpw_uint(b, m->next_worker);
    po__mpw_uint(b, m->next_task);
    po__mpw_uint(b, m->next_run);
    po__mpw_uint(b, m->next_def);
    po__mpw_uint(b, m->app_keys.first);
    po__mpw_uint(b, m->app_keys.next);
}

static void put_member(struct po__buf *b, const struct po__member *mb)
{
    const struct po__member_info *i = &mb->info;
    po__mpw_array(b,
                  i->wish ? 9 : 8); /* as it was before there were wishes, while nobody has one */
    po__mpw_uint(b, PO__SECTION_MEMBERS);
    po__mpw_uint(b, i->node_id);
    po__mpw_str(b, i->name);
    po__mpw_str(b, i->zone);
    po__mpw_str(b, i->peer_address);
    po__mpw_str(b, i->worker_address);
    po__mpw_bin(b, i->directory_id);
    po__mpw_uint(b, i->feature_level);
    if (i->wish)
        po__mpw_uint(b, i->wish);
}

/* What the worker said about itself has the form of the command that said it. */
static void put_worker(struct po__buf *b, const struct po__worker *w)
{
    po__mpw_array(b, 5);
    po__mpw_uint(b, PO__SECTION_WORKERS);
    po__mpw_uint(b, w->number);
    po__mpw_uint(b, w->status);
    po__mpw_uint(b, w->last_token);
    po__mpw_array(b, w->more ? 10 : 8);
    po__mpw_uint(b, w->more ? PO__CMD_WORKER_REGISTER_MORE : PO__CMD_WORKER_REGISTER);
    po__mpw_str(b, w->origin->id);
    po__mpw_cstr(b, w->address);
    po__mpw_str(b, w->origin->zone);
    po__mpw_uint(b, w->incarnation);
    po__mpw_uint(b, w->heartbeat_ms);
    po__mpw_raw(b, w->labels);
    po__mpw_array(b, w->offers_count);
    for (uint32_t i = 0; i < w->offers_count; i++) {
        const struct po__offer *o = &w->offers[i];
        po__mpw_array(b, 6);
        po__mpw_str(b, o->cap->name);
        po__mpw_str(b, o->version);
        po__mpw_str(b, o->input_schema);
        po__mpw_str(b, o->output_schema);
        po__mpw_bool(b, o->requires_gpu);
        po__mpw_uint(b, o->slots);
    }
    if (!w->more)
        return;
    po__mpw_map(b, w->stocks_count);
    for (uint32_t i = 0; i < w->stocks_count; i++) {
        po__mpw_str(b, w->stocks[i].name);
        po__mpw_uint(b, w->stocks[i].amount);
    }
    po__mpw_uint(b, w->slots);
}

static void put_def(struct po__buf *b, const struct po__def *d)
{
    po__mpw_array(b, 5);
    po__mpw_uint(b, PO__SECTION_DEFS);
    po__mpw_uint(b, d->number);
    po__mpw_bool(b, po__tree_linked(&d->by_name));
    po__mpw_uint(b, d->defined_ms);
    po__mpw_array(b, d->graph ? 6 : 4);
    po__mpw_uint(b, d->graph ? PO__CMD_PIPELINE_DEFINE_GRAPH : PO__CMD_PIPELINE_DEFINE);
    po__mpw_str(b, d->name);
    if (d->graph) {
        po__mpw_str(b, d->graph->version);
        po__mpw_raw(b, d->graph->params);
        po__mpw_str(b, d->graph->output);
    } else {
        po__mpw_str(b, d->start_node);
    }
    po__mpw_raw(b, d->steps);
}

static void put_origin(struct po__buf *b, const struct po__origin *o)
{
    po__mpw_str(b, o ? o->id : po__slice(NULL, 0));
    po__mpw_str(b, o ? o->zone : po__slice(NULL, 0));
}

static void put_run(struct po__buf *b, const struct po__run *r)
{
    po__mpw_array(b, r->more ? 12 : 11);
    po__mpw_uint(b, PO__SECTION_RUNS);
    po__mpw_uint(b, r->id);
    po__mpw_uint(b, r->def->number);
    po__mpw_uint(b, r->state);
    po__mpw_uint(b, r->started_ms);
    po__mpw_uint(b, r->finished_ms);
    po__mpw_str(b, r->params);
    po__mpw_str(b, r->zone);
    po__mpw_bin(b, r->key);
    po__mpw_str(b, r->error);
    po__mpw_array(b, r->started_count);
    for (uint32_t i = 0; i < r->started_count; i++) {
        const struct po__step_run *s = &r->steps[i];
        po__mpw_array(b, 8);
        po__mpw_uint(b, s->task_id);
        po__mpw_uint(b, s->state);
        po__mpw_uint(b, s->attempts);
        po__mpw_uint(b, s->started_ms);
        po__mpw_uint(b, s->finished_ms);
        put_origin(b, s->origin);
        po__mpw_str(b, s->error);
    }
    if (r->more)
        po__record_more(b, r);
}

/* What came with later releases, where it says something: the extra of a task of the newer form,
 * and what an attempt left behind. */
static void put_more(struct po__buf *b, const struct po__task *t, uint32_t count)
{
    struct po__extra extra;
    if (count > 0 && t->modern) {
        po__task_extra(t, &extra);
        po__extra_encode(b, &extra);
    } else if (count > 0) {
        po__mpw_nil(b);
    }
    if (count > 1) {
        po__mpw_array(b, 3);
        po__mpw_uint(b, t->more->progress);
        po__mpw_bin(b, t->more->checkpoint);
        po__mpw_uint(b, t->more->forgiven);
    }
}

static void put_task(struct po__buf *b, const struct po__task *t)
{
    const struct po__more *x = t->more;
    bool left = x && (x->progress != PO__PROGRESS_NONE || x->checkpoint.len || x->forgiven);
    uint32_t more = left ? 2 : t->modern;
    po__mpw_array(b, 22 + more);
    po__mpw_uint(b, PO__SECTION_TASKS);
    po__mpw_uint(b, t->id);
    po__mpw_str(b, t->capability);
    po__mpw_str(b, t->input);
    po__mpw_str(b, t->zone);
    po__mpw_bin(b, t->key);
    po__mpw_uint(b, t->attempts_max);
    po__mpw_uint(b, t->timeout_ms);
    po__mpw_uint(b, t->run_id);
    po__mpw_uint(b, t->state);
    po__mpw_uint(b, t->attempt);
    po__mpw_uint(b, t->lost);
    po__mpw_uint(b, t->outcome);
    po__mpw_uint(b, t->token);
    po__mpw_uint(b, t->deadline_ms);
    po__mpw_uint(b, t->created_ms);
    po__mpw_uint(b, t->granted_ms);
    po__mpw_uint(b, t->worker ? t->worker->number : 0);
    put_origin(b, t->origin);
    po__mpw_str(b, t->result);
    po__mpw_str(b, t->error);
    put_more(b, t, more);
}

static void put_gate(struct po__buf *b, const struct po__gate *g)
{
    po__mpw_array(b, 9);
    po__mpw_uint(b, PO__SECTION_GATES);
    po__mpw_uint(b, g->number);
    po__mpw_str(b, g->name);
    po__mpw_uint(b, g->max);
    po__mpw_uint(b, g->rate_max);
    po__mpw_uint(b, g->rate_ms);
    po__mpw_uint(b, g->full_us);
    po__mpw_uint(b, g->due_ms);
    po__mpw_bool(b, g->open);
}

static void put_schedule(struct po__buf *b, const struct po__schedule *s)
{
    po__mpw_array(b, 12);
    po__mpw_uint(b, PO__SECTION_SCHEDULES);
    po__mpw_uint(b, s->generation);
    po__mpw_uint(b, s->since_ms);
    po__mpw_uint(b, s->last_fire_ms);
    po__mpw_uint(b, s->fired);
    po__mpw_uint(b, s->skipped);
    po__mpw_uint(b, s->late);
    po__mpw_uint(b, s->refused);
    po__mpw_uint(b, s->error_ms);
    po__mpw_str(b, s->error);
    po__mpw_array(b, s->runs_count);
    for (uint32_t i = 0; i < s->runs_count; i++) {
        po__mpw_array(b, 2);
        po__mpw_uint(b, s->runs[i].fire_ms);
        po__mpw_uint(b, s->runs[i].run_id);
    }
    po__cmd_encode(b, &(struct po__cmd){.type = PO__CMD_SCHEDULE_DEFINE,
                                        .schedule = {.name = s->name,
                                                     .pipeline = s->pipeline,
                                                     .cron = s->cron,
                                                     .time_zone = s->time_zone,
                                                     .params = s->params,
                                                     .zone = s->zone,
                                                     .overlap = s->overlap,
                                                     .catch_up_ms = s->catch_up_ms,
                                                     .paused = s->paused}});
}

static void put_app_key(struct po__buf *b, const struct po__app_key *k)
{
    po__mpw_array(b, 4);
    po__mpw_uint(b, PO__SECTION_APP_KEYS);
    po__mpw_uint(b, k->seq);
    po__mpw_bin(b, po__slice(k->text, k->key_len));
    po__mpw_bin(b, po__app_key_result(k));
}

void po__record(struct po__buf *b, enum po__section section, const void *object)
{
    switch (section) {
    case PO__SECTION_MEMBERS:
        put_member(b, object);
        break;
    case PO__SECTION_WORKERS:
        put_worker(b, object);
        break;
    case PO__SECTION_DEFS:
        put_def(b, object);
        break;
    case PO__SECTION_RUNS:
        put_run(b, object);
        break;
    case PO__SECTION_TASKS:
        put_task(b, object);
        break;
    case PO__SECTION_CACHE:
        po__record_cached(b, object);
        break;
    case PO__SECTION_GATES:
        put_gate(b, object);
        break;
    case PO__SECTION_SCHEDULES:
        put_schedule(b, object);
        break;
    default:
        PO_INVARIANT(section == PO__SECTION_APP_KEYS);
        put_app_key(b, object);
    }
}
