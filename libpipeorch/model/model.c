/* Opening, closing, and the frame around every command: what it may do is in the file named after
 * its object; what always happens around it (time, results, assignment, pruning) is here. */
#include "impl.h"

#include <stdarg.h>
#include <stdio.h>

int po__model_open(struct po__model **out, const struct po__app *app)
{
    struct po__model *m = po__calloc(1, sizeof *m);
    if (!m)
        return PO_ENOMEM;
    m->sm = app ? app->sm : NULL;
    m->next_worker = m->next_task = m->next_run = m->next_def = 1;
    po__list_init(&m->dirty);
    *out = m;
    return 0;
}

static struct po__tree_node *first(const struct po__tree *t)
{
    return po__tree_first(t);
}

void po__model_close(struct po__model *m)
{
    struct po__tree_node *n;
    if (!m)
        return;
    po__model_snapshot_abort(m);
    po__restore_free(m);
    while ((n = first(&m->tasks))) /* before the workers: their leases go with them */
        po__task_drop(m, po__container_of(n, struct po__task, by_id));
    while ((n = first(&m->workers)))
        po__worker_free(m, po__container_of(n, struct po__worker, by_id));
    while ((n = first(&m->runs)))
        po__run_free(m, po__container_of(n, struct po__run, by_id));
    while ((n = first(&m->cache.by_id)))
        po__cached_free(m, po__container_of(n, struct po__cached, by_id));
    while ((n = first(&m->defs)))
        po__def_free(m, po__container_of(n, struct po__def, by_number));
    while ((n = first(&m->gates)))
        po__gate_free(m, po__container_of(n, struct po__gate, by_name));
    while ((n = first(&m->schedules)))
        po__schedule_free(m, po__container_of(n, struct po__schedule, by_name));
    while ((n = first(&m->members))) {
        po__tree_remove(&m->members, n);
        po__free(po__container_of(n, struct po__member, by_id));
    }
    po__key_index_fini(&m->task_keys);
    po__app_keys_fini(&m->app_keys);
    po__buf_fini(&m->scratch);
    po__buf_fini(&m->params);
    po__buf_fini(&m->extra);
    po__buf_fini(&m->snap.header);
    po__buf_fini(&m->snap.app);
    po__free(m->app_result);
    po__free(m);
}

void po__effects_fini(struct po__effects *fx)
{
    po__free(fx->items);
    *fx = (struct po__effects){0};
}

void po__oom(struct po__model *m)
{
    if (!m->err)
        m->err = PO_ENOMEM;
}

void po__fx(struct po__model *m, enum po__fx_type type, uint64_t id, uint64_t token,
            uint64_t worker)
{
    struct po__effects *fx = m->fx;
    if (!fx)
        return;
    if (fx->count == fx->cap) {
        size_t cap = fx->cap ? fx->cap * 2 : 64;
        struct po__fx *items = po__realloc(fx->items, cap * sizeof *items);
        if (!items) {
            po__oom(m);
            return;
        }
        fx->items = items;
        fx->cap = cap;
    }
    fx->items[fx->count++] = (struct po__fx){type, id, token, worker};
}

void po__refuse(struct po__model *m, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->message, sizeof m->message, fmt, ap);
    va_end(ap);
    m->result.code = code;
    m->result.message = m->message;
}

uint64_t po__hash(struct po__slice key)
{
    const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t h = key.len * k;
    while (key.len > 0) {
        uint64_t v = 0;
        size_t n = key.len < 8 ? key.len : 8;
        memcpy(&v, key.data, n);
        h = (h ^ v) * k;
        h ^= h >> 29;
        key.data += n;
        key.len -= n;
    }
    return h * k;
}

struct po__slice po__put(char **at, struct po__slice s)
{
    struct po__slice copy = po__slice(*at, s.len);
    if (s.len)
        memcpy(*at, s.data, s.len);
    (*at)[s.len] = '\0';
    *at += s.len + 1;
    return copy;
}

static void dispatch(struct po__model *m, const struct po__cmd *cmd)
{
    switch (cmd->type) {
    case PO__CMD_TICK:
        po__cmd_tick(m);
        break;
    case PO__CMD_MEMBER:
        po__cmd_member(m, cmd);
        break;
    case PO__CMD_MEMBER_WISH:
        po__cmd_member_wish(m, cmd);
        break;
    case PO__CMD_LEADER:
        po__news_node(m, PO_WATCH_LEADER, cmd->leader.node_id, cmd->leader.term);
        break;
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
        po__cmd_worker_register(m, cmd);
        break;
    case PO__CMD_WORKER_STATUS:
        po__cmd_worker_status(m, cmd);
        break;
    case PO__CMD_WORKER_DEREGISTER:
        po__cmd_worker_deregister(m, cmd);
        break;
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        po__cmd_task_submit(m, cmd);
        break;
    case PO__CMD_TASK_COMPLETE:
        po__cmd_task_complete(m, cmd);
        break;
    case PO__CMD_TASK_FAIL:
        po__cmd_task_fail(m, cmd);
        break;
    case PO__CMD_TASK_CANCEL:
        po__cmd_task_cancel(m, cmd);
        break;
    case PO__CMD_TASK_EXTEND:
        po__cmd_task_extend(m, cmd);
        break;
    case PO__CMD_TASK_CHECKPOINT:
        po__cmd_task_checkpoint(m, cmd);
        break;
    case PO__CMD_TASK_RETRY:
        po__cmd_task_retry(m, cmd);
        break;
    case PO__CMD_PIPELINE_DEFINE:
    case PO__CMD_PIPELINE_DEFINE_GRAPH:
        po__cmd_pipeline_define(m, cmd);
        break;
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
        po__cmd_run_start(m, cmd);
        break;
    case PO__CMD_RUN_CANCEL:
        po__cmd_run_cancel(m, cmd);
        break;
    case PO__CMD_RUN_RESUME:
        po__cmd_run_resume(m, cmd);
        break;
    case PO__CMD_SCHEDULE_DEFINE:
        po__cmd_schedule_define(m, cmd);
        break;
    case PO__CMD_SCHEDULE_CHANGE:
        po__cmd_schedule_change(m, cmd);
        break;
    case PO__CMD_SCHEDULE_FIRE:
        po__cmd_schedule_fire(m, cmd);
        break;
    case PO__CMD_APP:
        po__cmd_app(m, cmd);
        break;
    default:
        PO_INVARIANT(!"a command of a type that the decoder does not know");
    }
}

int po__model_apply(struct po__model *m, uint64_t index, uint64_t now_ms, const struct po__cmd *cmd,
                    struct po__cmd_result *result, struct po__effects *fx)
{
    PO_PRE(!m->restore && index >= m->index);
    m->index = index;
    if (now_ms > m->now_ms)
        m->now_ms = now_ms;
    m->fx = fx;
    m->result = (struct po__cmd_result){.message = ""};
    if (!m->err)
        dispatch(m, cmd);
    if (!m->err)
        po__runs_advance(m);
    if (!m->err) {
        po__assign_all(m);
        po__tasks_prune(m);
        po__runs_prune(m);
    }
    m->fx = NULL;
    if (result)
        *result = m->result;
    return m->err;
}

uint64_t po__model_now_ms(const struct po__model *m)
{
    return m->now_ms;
}

uint64_t po__model_index(const struct po__model *m)
{
    return m->index;
}

void po__model_set_index(struct po__model *m, uint64_t index)
{
    PO_PRE(index >= m->index);
    m->index = index;
}

void po__model_counts(const struct po__model *m, struct po__model_counts *c)
{
    *c = (struct po__model_counts){
        .workers = m->workers.count,
        .workers_online = m->workers_online,
        .tasks_pending = m->tasks_count[PO_TASK_PENDING],
        .tasks_scheduled = m->tasks_count[PO_TASK_SCHEDULED],
        .tasks_running = m->tasks_count[PO_TASK_RUNNING],
        .tasks_finished = m->finished.count + m->dead.count,
        .runs_running = m->runs_active,
        .runs_finished = m->runs_finished.count + m->children_finished.count,
        .pipelines = m->pipelines.count,
    };
}
