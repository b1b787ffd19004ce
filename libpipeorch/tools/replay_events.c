/* The events of a log: which of them are asked for, and their lines. */
#include "replay_events.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "out.h"

static bool wanted(const struct po__events *e, const struct po__about *a)
{
    const struct po__tool_events *w = e->which;
    return e->index >= w->from && (!w->task_id || w->task_id == a->task_id) &&
           (!w->run_id || w->run_id == a->run_id) &&
           (!w->worker_id || po__slice_eq(po__str(w->worker_id), a->worker_id));
}

static void put_number(struct po__buf *b, const char *key, uint64_t v)
{
    po__mpw_cstr(b, key);
    if (v)
        po__mpw_uint(b, v);
    else
        po__mpw_nil(b);
}

static int write_line(struct po__events *e, const char *word, const struct po__about *a)
{
    struct po__buf mp = {0}, json = {0};
    po__mpw_map(&mp, 9);
    po__out_uint(&mp, "index", e->index);
    po__out_uint(&mp, "term", e->term);
    put_number(&mp, "time_ms", e->time_ms);
    po__out_cstr(&mp, "event", word);
    put_number(&mp, "task_id", a->task_id);
    put_number(&mp, "run_id", a->run_id);
    po__mpw_cstr(&mp, "worker_id");
    if (a->worker_id.len)
        po__mpw_str(&mp, a->worker_id);
    else
        po__mpw_nil(&mp);
    put_number(&mp, "token", a->token);
    po__out_text(&mp, "text", po__buf_slice(&e->text));
    int rv = po__out_json(&json, &mp);
    rv = rv ? rv : e->emit(e->arg, (const char *)json.data, json.len);
    po__buf_fini(&json);
    return rv;
}

void po__event(struct po__events *e, const char *word, struct po__about about, const char *fmt, ...)
{
    char fixed[1024];
    va_list ap, again;
    if (e->err || !wanted(e, &about))
        return;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(fixed, sizeof fixed, fmt, ap);
    po__buf_reset(&e->text);
    if (n >= 0 && (size_t)n < sizeof fixed) {
        po__buf_append(&e->text, fixed, (size_t)n);
    } else if (n >= 0 && po__buf_reserve(&e->text, (size_t)n + 1) == 0) { /* a long error text */
        vsnprintf((char *)e->text.data, (size_t)n + 1, fmt, again);
        e->text.len = (size_t)n;
    }
    va_end(again);
    va_end(ap);
    e->err = n < 0 ? PO_EINVAL : e->text.err ? e->text.err : write_line(e, word, &about);
}

/* ---- the walk ---- */

static int begin_entry(void *arg, const struct po__rec *rec)
{
    struct po__events *e = arg;
    const struct po__replay *r = e->replay;
    struct po__about nothing = {0};
    e->index = rec->index;
    if (rec->term != e->term) {
        e->term = rec->term;
        po__event(e, "term", nothing, "term %" PRIu64 " begins%s", e->term,
                  rec->type == 2 ? ": a leader was elected" : "");
    }
    if (rec->type == 3) {
        unsigned voters = po__conf_voters(&r->conf);
        po__event(e, "members", nothing, "nodes of the cluster: %u, of them voters: %u",
                  r->conf.count, voters);
    }
    return e->err;
}

static int do_command(void *arg, const struct po__rec *rec, uint64_t now_ms,
                      const struct po__cmd *cmd)
{
    struct po__events *e = arg;
    struct po__model *m = e->replay->content.model;
    if (!e->begun)
        po__events_begin(e);
    e->cmd = cmd;
    e->time_ms = now_ms > po__model_now_ms(m) ? now_ms : po__model_now_ms(m);
    e->fx.count = 0;
    po__events_look(e, cmd);
    int rv = e->due.err;
    rv = rv ? rv : po__model_apply(m, rec->index, now_ms, cmd, &e->result, &e->fx);
    if (!rv)
        po__events_tell(e);
    return rv ? rv : e->err;
}

static int run(struct po__events *e, char *error, size_t error_len)
{
    const struct po__tool_events *w = e->which;
    uint64_t first = po__replay_first(e->replay), from = w->from ? w->from - 1 : first;
    if (w->from && w->from > w->until) {
        snprintf(error, error_len, "from %" PRIu64 " to %" PRIu64 " is nothing", w->from, w->until);
        return PO_EINVAL;
    }
    const struct po__snapshot_meta *snap = &e->replay->dir.recovery.snapshot;
    e->term = from < snap->index ? 0 : snap->term;
    int rv =
        po__replay_run(e->replay, from, w->until, begin_entry, do_command, e, error, error_len);
    if (rv && rv == e->err)
        snprintf(error, error_len, "entry %" PRIu64 " cannot be told: %s", e->index,
                 po_strerror(rv));
    return rv;
}

int po__replay_events(struct po__replay *r, const struct po__tool_events *which,
                      int (*emit)(void *arg, const char *line, size_t len), void *arg, char *error,
                      size_t error_len)
{
    struct po__events *e = po__calloc(1, sizeof *e);
    int rv = PO_ENOMEM;
    snprintf(error, error_len, "out of memory");
    if (!e)
        return rv;
    *e = (struct po__events){.replay = r, .which = which, .emit = emit, .arg = arg};
    rv = run(e, error, error_len);
    po__effects_fini(&e->fx);
    po__buf_fini(&e->due);
    po__buf_fini(&e->text);
    po__free(e);
    return rv;
}

int po__tool_replay_events(const struct po__tool_events *which,
                           int (*emit)(void *arg, const char *line, size_t len), void *arg,
                           struct po__buf *notes, char *error, size_t error_len)
{
    struct po__replay *r = po__calloc(1, sizeof *r);
    snprintf(error, error_len, "out of memory");
    if (!r)
        return PO_ENOMEM;
    int rv = po__replay_init(r, which->data_dir, error, error_len);
    rv = rv ? rv : po__replay_events(r, which, emit, arg, error, error_len);
    po__replay_notes(r, notes);
    po__replay_fini(r);
    po__free(r);
    return rv;
}
