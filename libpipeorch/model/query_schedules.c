/* Queries about schedules. When they tick next is not in the state: the node fills it in. */
#include "query.h"

static const char *overlap_word(uint32_t overlap)
{
    return overlap == PO_OVERLAP_SKIP ? "skip" : "allow";
}

static void put_ticks(const struct po__schedule *s, const struct po__query *q, struct po__buf *b,
                      bool whole)
{
    struct po__ticks t = {.wanted = whole ? PO__QUERY_TICKS_MAX : 1};
    if (q->ticks && !s->paused)
        q->ticks(q->ticks_arg, s, &t);
    po__mpw_cstr(b, "next_ms");
    po__mpw_array(b, t.count);
    for (uint32_t i = 0; i < t.count; i++)
        po__mpw_uint(b, t.at_ms[i]);
}

static void put_runs(const struct po__model *m, const struct po__schedule *s, struct po__buf *b)
{
    po__mpw_cstr(b, "runs");
    po__mpw_array(b, s->runs_count);
    for (uint32_t i = 0; i < s->runs_count; i++) {
        int state = po__model_run_state(m, s->runs[i].run_id);
        po__mpw_map(b, 3);
        po__kv_uint(b, "fire_ms", s->runs[i].fire_ms);
        po__kv_uint(b, "run_id", s->runs[i].run_id);
        po__kv_word(b, "state", state ? po__run_word((uint32_t)state) : NULL);
    }
}

static void put_schedule(const struct po__model *m, const struct po__schedule *s,
                         const struct po__query *q, struct po__buf *b, bool whole)
{
    po__mpw_map(b, 17 + (whole ? 2 : 0));
    po__kv_uint(b, "catch_up_ms", s->catch_up_ms);
    po__kv_text(b, "cron", s->cron);
    po__kv_text(b, "error", s->error);
    po__kv_time(b, "error_ms", s->error_ms);
    po__kv_uint(b, "fired", s->fired);
    po__kv_time(b, "last_fire_ms", s->last_fire_ms);
    po__kv_uint(b, "late", s->late);
    po__kv_text(b, "name", s->name);
    put_ticks(s, q, b, whole);
    po__kv_word(b, "overlap", overlap_word(s->overlap));
    if (whole)
        po__kv_text(b, "params", s->params);
    po__kv_bool(b, "paused", s->paused);
    po__kv_text(b, "pipeline", s->pipeline);
    po__kv_uint(b, "refused", s->refused);
    if (whole)
        put_runs(m, s, b);
    po__kv_time(b, "since_ms", s->since_ms);
    po__kv_uint(b, "skipped", s->skipped);
    po__kv_text(b, "time_zone", s->time_zone);
    po__kv_text(b, "zone", s->zone);
}

int po__query_schedules(const struct po__model *m, const struct po__query *q, struct po__buf *b)
{
    struct po__page p;
    po__page_begin(&p, q);
    for (const struct po__schedule *s = po__model_schedule_after(m, q->name); s;
         s = po__model_schedule_after(m, s->name)) {
        if (po__page_full(&p)) {
            p.more = true;
            break;
        }
        p.last_name = s->name;
        put_schedule(m, s, q, &p.items, false);
        p.count++;
    }
    po__mpw_map(b, 2);
    po__page_next_name(&p, b);
    po__page_items(&p, b, "schedules");
    return 0;
}

int po__query_schedule(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                       const char **message)
{
    const struct po__schedule *s = po__model_schedule(m, q->name);
    if (!s) {
        *message = "no such schedule is defined";
        return PO_ENOTFOUND;
    }
    put_schedule(m, s, q, b, true);
    return 0;
}
