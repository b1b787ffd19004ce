/* A model under test: commands go through the encoding of the log, and the whole state is checked
 * after each. */
#ifndef PO__TEST_FIXTURE_H
#define PO__TEST_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pipeorch/client.h>
#include <pipeorch/error.h>
#include "base/alloc.h"
#include "model/model.h"
#include "model/state.h"

struct world {
    struct po__model *m;
    struct po__effects fx;
    struct po__cmd_result result;
    uint64_t index, now_ms;
    struct po__cmd cmd;     /* filled by the functions below */
    struct po__cmd decoded; /* what was applied last */
    struct po__buf bytes;
    struct po__buf steps;
    bool unchecked; /* skip po__model_check */
};

static inline void world_open(struct world *w, const struct po_state_machine *sm)
{
    *w = (struct world){.now_ms = 1000000};
    assert_int_equal(po__model_open(&w->m, &(struct po__app){sm}), 0);
}

static inline void world_close(struct world *w)
{
    po__model_close(w->m);
    po__effects_fini(&w->fx);
    po__buf_fini(&w->bytes);
    po__buf_fini(&w->steps);
}

static inline void world_check(struct world *w)
{
    char message[512];
    if (po__model_check(w->m, message, sizeof message))
        fail_msg("index %llu: %s", (unsigned long long)w->index, message);
}

/* Apply w->cmd as the next entry. Returns the command's own code. */
static inline int apply(struct world *w)
{
    char message[512];
    struct po__mpr r;
    po__buf_reset(&w->bytes);
    po__cmd_encode(&w->bytes, &w->cmd);
    po__mpr_init(&r, w->bytes.data, w->bytes.len);
    assert_int_equal(po__cmd_decode(&r, &w->decoded, true), 0);
    assert_int_equal(po__mpr_end(&r), 0);
    if (po__cmd_check(&w->decoded, message, sizeof message))
        fail_msg("refused before the log: %s", message);
    w->fx.count = 0;
    assert_int_equal(po__model_apply(w->m, ++w->index, w->now_ms, &w->decoded, &w->result, &w->fx),
                     0);
    assert_non_null(w->result.message);
    assert_int_equal(w->result.code != 0, w->result.message[0] != '\0');
    if (!w->unchecked)
        world_check(w);
    return w->result.code;
}

static inline unsigned effects(const struct world *w, enum po__fx_type type)
{
    unsigned n = 0;
    for (size_t i = 0; i < w->fx.count; i++)
        n += w->fx.items[i].type == type;
    return n;
}

static inline const struct po__fx *effect(const struct world *w, enum po__fx_type type)
{
    for (size_t i = 0; i < w->fx.count; i++)
        if (w->fx.items[i].type == type)
            return &w->fx.items[i];
    fail_msg("no effect of type %d", type);
    return NULL;
}

static inline int do_register(struct world *w, const char *id, uint64_t incarnation,
                              const char *zone, const char *caps, uint32_t slots)
{
    static char names[PO_CAPABILITIES_MAX][PO_NAME_MAX_BYTES + 1];
    w->cmd.type = PO__CMD_WORKER_REGISTER;
    w->cmd.worker_register.id = po__str(id);
    w->cmd.worker_register.address = po__str("10.0.0.1:1");
    w->cmd.worker_register.zone = po__str(zone);
    w->cmd.worker_register.incarnation = incarnation;
    w->cmd.worker_register.heartbeat_ms = 1000;
    w->cmd.worker_register.labels_count = 0;
    uint32_t n = 0;
    while (*caps) { /* separated by spaces */
        size_t len = strcspn(caps, " ");
        snprintf(names[n], sizeof names[n], "%.*s", (int)len, caps);
        w->cmd.worker_register.caps[n] =
            (struct po__cap){.name = po__str(names[n]), .max_concurrency = slots};
        caps += len + (caps[len] == ' ');
        n++;
    }
    w->cmd.worker_register.caps_count = n;
    return apply(w);
}

static inline int do_status(struct world *w, const char *id, uint64_t incarnation, uint32_t status)
{
    w->cmd.type = PO__CMD_WORKER_STATUS;
    w->cmd.worker_status.id = po__str(id);
    w->cmd.worker_status.incarnation = incarnation;
    w->cmd.worker_status.status = status;
    return apply(w);
}

static inline int do_deregister(struct world *w, const char *id, uint64_t incarnation)
{
    w->cmd.type = PO__CMD_WORKER_DEREGISTER;
    w->cmd.worker_deregister.id = po__str(id);
    w->cmd.worker_deregister.incarnation = incarnation;
    return apply(w);
}

static inline int do_submit(struct world *w, const char *key, const char *cap, const char *input,
                            const char *zone, uint32_t attempts_max, uint32_t timeout_ms)
{
    w->cmd.type = PO__CMD_TASK_SUBMIT;
    w->cmd.submit.key = po__str(key);
    w->cmd.submit.capability = po__str(cap);
    w->cmd.submit.input = po__str(input);
    w->cmd.submit.zone = po__str(zone);
    w->cmd.submit.attempts_max = attempts_max;
    w->cmd.submit.timeout_ms = timeout_ms;
    return apply(w);
}

static inline int do_complete(struct world *w, uint64_t id, uint64_t token, const char *worker,
                              const char *result)
{
    w->cmd.type = PO__CMD_TASK_COMPLETE;
    w->cmd.complete.task_id = id;
    w->cmd.complete.token = token;
    w->cmd.complete.worker_id = po__str(worker);
    w->cmd.complete.result = po__str(result);
    return apply(w);
}

static inline int do_fail(struct world *w, uint64_t id, uint64_t token, const char *worker,
                          const char *error, bool retryable)
{
    w->cmd.type = PO__CMD_TASK_FAIL;
    w->cmd.fail.task_id = id;
    w->cmd.fail.token = token;
    w->cmd.fail.worker_id = po__str(worker);
    w->cmd.fail.error = po__str(error);
    w->cmd.fail.retryable = retryable;
    return apply(w);
}

static inline int do_extend(struct world *w, uint64_t id, uint64_t token, const char *worker,
                            uint32_t extend_ms)
{
    w->cmd.type = PO__CMD_TASK_EXTEND;
    w->cmd.extend.task_id = id;
    w->cmd.extend.token = token;
    w->cmd.extend.worker_id = po__str(worker);
    w->cmd.extend.extend_ms = extend_ms;
    return apply(w);
}

static inline int do_cancel(struct world *w, uint64_t id)
{
    w->cmd.type = PO__CMD_TASK_CANCEL;
    w->cmd.cancel.task_id = id;
    return apply(w);
}

static inline int do_tick(struct world *w)
{
    w->cmd.type = PO__CMD_TICK;
    return apply(w);
}

/* Steps are named s1, s2, ... and want the capabilities given. */
static inline int do_define(struct world *w, const char *name, const char *const *caps, uint32_t n,
                            const char *config)
{
    char names[64][8];
    po__buf_reset(&w->steps);
    po__mpw_array(&w->steps, n);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "s%u", i + 1);
        struct po__step s = {.capability = po__str(caps[i]), .config = po__str(config)};
        s.name = po__str(names[i]);
        char next[16]; /* copied by the encoder below */
        snprintf(next, sizeof next, "s%u", i + 2);
        s.next_node = po__str(i + 1 < n ? next : "");
        po__step_encode(&w->steps, &s);
    }
    w->cmd.type = PO__CMD_PIPELINE_DEFINE;
    w->cmd.pipeline.name = po__str(name);
    w->cmd.pipeline.start_node = po__str("s1");
    w->cmd.pipeline.steps = po__buf_slice(&w->steps);
    w->cmd.pipeline.steps_count = n;
    return apply(w);
}

static inline int do_run(struct world *w, const char *key, const char *pipeline, const char *params,
                         const char *zone)
{
    w->cmd.type = PO__CMD_RUN_START;
    w->cmd.run_start.key = po__str(key);
    w->cmd.run_start.pipeline = po__str(pipeline);
    w->cmd.run_start.params = po__str(params);
    w->cmd.run_start.zone = po__str(zone);
    return apply(w);
}

/* Of pipeline "p", every minute as far as the texts go. */
static inline int do_schedule(struct world *w, const char *name, const char *cron, uint32_t overlap,
                              uint32_t catch_up_ms, bool paused)
{
    w->cmd.type = PO__CMD_SCHEDULE_DEFINE;
    w->cmd.schedule.name = po__str(name);
    w->cmd.schedule.pipeline = po__str("p");
    w->cmd.schedule.cron = po__str(cron);
    w->cmd.schedule.time_zone = po__str("Europe/Berlin");
    w->cmd.schedule.params = po__str("{\"n\":1}");
    w->cmd.schedule.zone = po__str("aws");
    w->cmd.schedule.overlap = overlap;
    w->cmd.schedule.catch_up_ms = catch_up_ms;
    w->cmd.schedule.paused = paused;
    return apply(w);
}

static inline int do_unschedule(struct world *w, const char *name)
{
    w->cmd.type = PO__CMD_SCHEDULE_CHANGE;
    w->cmd.schedule_change.name = po__str(name);
    w->cmd.schedule_change.change = PO__SCHEDULE_DELETE;
    return apply(w);
}

static inline int do_pause(struct world *w, const char *name, bool pause)
{
    w->cmd.type = PO__CMD_SCHEDULE_CHANGE;
    w->cmd.schedule_change.name = po__str(name);
    w->cmd.schedule_change.change = pause ? PO__SCHEDULE_PAUSE : PO__SCHEDULE_RESUME;
    return apply(w);
}

static inline int do_fire(struct world *w, const char *name, uint64_t generation, uint64_t fire_ms,
                          uint32_t late_count)
{
    w->cmd.type = PO__CMD_SCHEDULE_FIRE;
    w->cmd.schedule_fire.name = po__str(name);
    w->cmd.schedule_fire.generation = generation;
    w->cmd.schedule_fire.fire_ms = fire_ms;
    w->cmd.schedule_fire.late_count = late_count;
    return apply(w);
}

static inline int do_run_cancel(struct world *w, uint64_t id)
{
    w->cmd.type = PO__CMD_RUN_CANCEL;
    w->cmd.run_cancel.run_id = id;
    return apply(w);
}

static inline int do_app(struct world *w, const char *key, const char *data)
{
    w->cmd.type = PO__CMD_APP;
    w->cmd.app.key = po__str(key);
    w->cmd.app.data = po__str(data);
    return apply(w);
}

static inline int do_member(struct world *w, uint64_t id, const char *name, const char *directory)
{
    w->cmd.type = PO__CMD_MEMBER;
    w->cmd.member.node_id = id;
    w->cmd.member.name = po__str(name);
    w->cmd.member.zone = po__str("aws");
    w->cmd.member.peer_address = po__str("peer:1");
    w->cmd.member.worker_address = po__str("worker:2");
    w->cmd.member.directory_id = po__str(directory);
    w->cmd.member.feature_level = 1;
    return apply(w);
}

static inline int do_wish(struct world *w, uint64_t id, uint32_t wish)
{
    w->cmd.type = PO__CMD_MEMBER_WISH;
    w->cmd.member_wish.node_id = id;
    w->cmd.member_wish.wish = wish;
    return apply(w);
}

static inline uint64_t digest(struct po__model *m)
{
    uint64_t d;
    assert_int_equal(po__model_digest(m, &d), 0);
    return d;
}

/* The whole snapshot at once. */
static inline void snapshot(struct po__model *m, struct po__buf *out)
{
    int rv;
    po__buf_reset(out);
    assert_int_equal(po__model_snapshot_begin(m), 0);
    while ((rv = po__model_snapshot_step(m, out, 4096)) == 0)
        ;
    assert_int_equal(rv, 1);
}

static inline int restore(struct po__model *m, const void *data, size_t len, size_t chunk)
{
    const char *p = data;
    while (len > 0) {
        size_t n = len < chunk ? len : chunk;
        int rv = po__model_restore_chunk(m, p, n);
        if (rv)
            return rv;
        p += n;
        len -= n;
    }
    return po__model_restore_end(m);
}

/* An application: a text that every command is appended to; its length is the answer. */
struct journal {
    char text[4096];
    size_t len;
    bool broken;
};

static inline int journal_apply(void *arg, uint64_t index, const void *cmd, size_t len,
                                void *result, size_t *result_len)
{
    struct journal *j = arg;
    (void)index;
    if (j->broken)
        return -1;
    for (size_t i = 0; i < len; i++)
        j->text[j->len++ % sizeof j->text] = ((const char *)cmd)[i];
    assert_int_equal(*result_len, PO_PAYLOAD_MAX_BYTES);
    *result_len = (size_t)snprintf(result, *result_len, "%zu", j->len);
    return 0;
}

static inline int journal_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len),
                                   void *ctx)
{
    struct journal *j = arg;
    if (j->broken)
        return -1;
    int rv = write(ctx, &j->len, sizeof j->len);
    return rv ? rv : write(ctx, j->text, j->len < sizeof j->text ? j->len : sizeof j->text);
}

static inline int journal_restore(void *arg, const void *data, size_t len)
{
    struct journal *j = arg;
    memset(j, 0, sizeof *j);
    if (len == 0)
        return 0;
    if (len < sizeof j->len || len > sizeof j->len + sizeof j->text)
        return -1;
    memcpy(&j->len, data, sizeof j->len);
    memcpy(j->text, (const char *)data + sizeof j->len, len - sizeof j->len);
    return 0;
}

static inline struct po_state_machine journal_machine(struct journal *j)
{
    return (struct po_state_machine){sizeof(struct po_state_machine), j, journal_apply,
                                     journal_snapshot, journal_restore};
}

#endif
