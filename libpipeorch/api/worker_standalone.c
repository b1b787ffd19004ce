/* A worker that is its own control plane.
 *
 * Without a cluster a worker carries a single control node: the same library, the same durable
 * queue, the same endpoint for clients, of one node. It is started
 *   - at once, if no cluster is configured;
 *   - when the first attempt to register with the cluster got no answer, if somebody could give the
 *     node work (PO_STANDALONE_AUTO: an endpoint or a data directory is named) or that is asked for
 *     (PO_STANDALONE_ALWAYS);
 *   - at once, if its data directory holds something: work that was accepted is not left lying
 *     because the cluster answers today.
 *
 * When the cluster does answer, the worker serves both. Its own node takes nothing new from then
 * on, and says where to submit instead: a redirect would be more comfortable and wrong, because
 * the ids of tasks are each plane's own, and a client that follows would ask the cluster for a task
 * of this node. When all that it has is finished, and whoever waited has had time to fetch the
 * result, the node stops; a later loss of the cluster does not bring it back. What nobody here can
 * execute (a capability that this worker does not offer) keeps it until the worker stops; in a data
 * directory it waits for the next start.
 *
 * How slots are shared stands in worker_task.c. */
#include <stdio.h>

#include "../base/alloc.h"
#include "../storage/folder.h"
#include "call.h"
#include "node_internal.h"
#include "worker_internal.h"

/* Small: it serves one worker. */
#define SEGMENT_BYTES  (UINT64_C(2) << 20)
#define SNAPSHOT_BYTES (UINT64_C(4) << 20)

/* ---- whether ---- */

static bool allowed_beside_cluster(const struct po__standalone *s)
{
    return s->mode == PO_STANDALONE_ALWAYS ||
           (s->mode == PO_STANDALONE_AUTO && (s->listen || s->dir));
}

/* The last attempt to register found nobody. */
static bool nobody_answers(const struct po__plane *p)
{
    if (p->registered || p->failures == 0)
        return false;
    switch (p->call_code) {
    case PO_EUNREACHABLE:
    case PO_ETIMEDOUT:
    case PO_EUNKNOWN:
    case PO_ENOLEADER:
        return true;
    default:
        return false;
    }
}

bool po__standalone_wanted(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    if (s->node || s->over)
        return false;
    if (!w->addresses)
        return true;
    if (!allowed_beside_cluster(s))
        return false;
    if (!s->dir_looked_at) { /* once: nobody fills it meanwhile */
        s->dir_looked_at = true;
        if (s->dir && po__folder_holds_files(s->dir))
            return true;
    }
    return nobody_answers(&w->cluster);
}

/* ---- starting ---- */

static int start_node(struct po_worker *w, po_node **node, char *error, size_t error_len)
{
    struct po__standalone *s = &w->standalone;
    int rv = s->dir ? 0 : po__folder_temporary(&s->temporary, w->id, error, error_len);
    if (rv)
        return rv;
    struct po_node_opts opts = {.size = sizeof opts,
                                .name = w->id,
                                .data_dir = s->dir ? s->dir : s->temporary,
                                .zone = w->zone,
                                .worker_listen = s->listen,
                                .bootstrap = 1,
                                .insecure = s->insecure,
                                .segment_bytes = SEGMENT_BYTES,
                                .snapshot_bytes = SNAPSHOT_BYTES,
                                .log = {w->log.cb, w->log.arg, w->log.level}};
    return po_node_start(node, &opts, error, error_len);
}

/* With the lock given up: nobody else touches it. */
static void remove_temporary(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    if (s->temporary && po__folder_remove(s->temporary))
        po__warn(&w->log, "worker.standalone", "%s could not be removed; remove it by hand",
                 s->temporary);
    po__free(s->temporary);
    s->temporary = NULL;
}

static void say_started(struct po_worker *w)
{
    const struct po__standalone *s = &w->standalone;
    po__info(&w->log, "worker.standalone",
             "worker %s is its own control node: clients at %s, data in %s (%s)", w->id,
             s->address[0] ? s->address : "no address", s->dir ? s->dir : s->temporary,
             s->dir ? "durable" : "not durable: it is removed when the worker stops");
}

int po__standalone_start(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    char error[PO__WORKER_MESSAGE_BYTES] = "";
    po_node *node = NULL;
    pthread_mutex_unlock(&w->lock);
    int rv = start_node(w, &node, error, sizeof error);
    if (rv)
        remove_temporary(w);
    pthread_mutex_lock(&w->lock);
    if (rv) {
        s->over = true;
        return po__client_fail(rv, "the control node of worker %s cannot start: %s", w->id, error);
    }
    s->node = node;
    if (po_node_worker_address(node, s->address, sizeof s->address))
        s->address[0] = '\0';
    say_started(w);
    po__plane_open(&w->local, po__client_channel(po_node_client(node)));
    return 0;
}

/* ---- finishing ---- */

/* What a look found: tasks and runs that are not over. */
static int read_status(struct po__slice body, uint64_t *left, uint64_t *moving)
{
    static const char *const counts[] = {"tasks_running", "tasks_scheduled", "tasks_pending",
                                         "runs_running"};
    struct po__mpr r;
    po__mpr_init(&r, body.data, body.len);
    po__mpr_skip(&r); /* the term */
    *left = *moving = 0;
    for (uint32_t n = po__mpr_map(&r, UINT32_MAX); n && !r.err; n--) {
        struct po__slice key = po__mpr_str(&r, PO_NAME_MAX_BYTES);
        unsigned i = 0;
        while (i < 4 && !po__slice_eq(key, po__str(counts[i])))
            i++;
        if (i == 4) {
            po__mpr_skip(&r);
            continue;
        }
        uint64_t count = po__mpr_uint(&r, UINT64_MAX);
        *left += count;
        *moving += i < 2 ? count : 0;
    }
    return r.err;
}

static void say_left(struct po_worker *w, uint64_t left)
{
    if (w->standalone.said_left)
        return;
    w->standalone.said_left = true;
    po__warn(&w->log, "worker.left",
             "%llu tasks and runs of worker %s's own control node wait for capabilities that it "
             "does not offer; the node is kept until they are cancelled or the worker stops",
             (unsigned long long)left, w->id);
}

static void on_look(void *arg, int code, const void *data, size_t len)
{
    struct po_worker *w = arg;
    struct po__standalone *s = &w->standalone;
    struct po__response resp = {0};
    uint64_t left = UINT64_MAX, moving = 0;
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    if (code == 0)
        code = read_status(resp.body, &left, &moving);
    pthread_mutex_lock(&w->lock);
    s->look_under_way = false;
    s->looks_empty = !code && left == 0 ? s->looks_empty + 1 : 0;
    s->left_count = code ? 0 : left;
    if (s->finishing && !code && left && !moving && w->local.tasks.count == 0)
        say_left(w, left);
    po__worker_wake(w);
    pthread_mutex_unlock(&w->lock);
}

static void look(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    struct po__plane *p = &w->local;
    struct po__query q = {.what = PO_QUERY_STATUS};
    struct po__buf request;
    uint64_t now = po__worker_now_ms();
    if (s->look_under_way || now < s->look_ms)
        return;
    s->look_ms = now + PO__STANDALONE_LOOK_MS;
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_query(&request, PO__WORKER_CALL_MS, &q);
    s->look_under_way = true;
    if (request.err || p->channel->ops->call(p->channel, request.data, request.len,
                                             PO__WORKER_CALL_MS, on_look, w))
        s->look_under_way = false;
    po__buf_fini(&request);
}

/* Two looks: what was accepted just before the node stopped accepting is seen by the second. */
static bool finished(const struct po_worker *w)
{
    return w->standalone.looks_empty >= 2 && w->local.tasks.count == 0 &&
           po__list_empty(&w->local.done);
}

static void begin_to_finish(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    char why[PO__WORKER_MESSAGE_BYTES];
    snprintf(why, sizeof why,
             "this worker serves the cluster at %.300s now; submit there. What it was given before "
             "is finished",
             w->addresses);
    if (po__api_node_finish_only(s->node, why))
        return; /* out of memory: at the next look */
    s->finishing = true;
    po__info(&w->log, "worker.standalone",
             "worker %s serves the cluster; its own control node takes nothing new", w->id);
}

void po__standalone_step(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    struct po__plane *p = &w->local;
    if (!s->node || !w->addresses)
        return;
    if (p->fatal && p->phase != PO__PLANE_LEFT) {
        po__error(&w->log, "worker.standalone", "%s; only the cluster is served", p->fatal_message);
        po__worker_disown(p); /* nobody waits for what it gave out */
        po__plane_left(p);
        pthread_cond_broadcast(&w->work);
    }
    if (p->phase == PO__PLANE_LEFT) {
        if (!s->client_taken)
            po__standalone_end(w);
        return;
    }
    if (!w->cluster.registered || p->phase != PO__PLANE_SERVE)
        return;
    if (!s->finishing)
        begin_to_finish(w);
    if (!s->finishing)
        return;
    if (!finished(w))
        s->finished_ms = 0;
    else if (!s->finished_ms)
        s->finished_ms = po__worker_now_ms();
    if (s->finished_ms && po__worker_now_ms() >= s->finished_ms + PO__STANDALONE_LINGER_MS)
        po__plane_leave(p);
    else
        look(w);
}

uint64_t po__standalone_due_ms(const struct po_worker *w)
{
    const struct po__standalone *s = &w->standalone;
    const struct po__plane *p = &w->local;
    if (!s->node || !w->addresses)
        return UINT64_MAX;
    if (p->phase == PO__PLANE_LEFT)
        return s->client_taken ? UINT64_MAX : 0;
    if (p->fatal)
        return 0;
    if (!w->cluster.registered || p->phase != PO__PLANE_SERVE)
        return UINT64_MAX;
    return s->look_under_way ? UINT64_MAX : s->look_ms;
}

/* ---- the end ---- */

/* What was never durable may be lost, but not in silence. */
static void say_lost(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    uint64_t until_ms = po__worker_now_ms() + PO__STANDALONE_LAST_LOOK_MS;
    if (!s->temporary || w->local.fatal)
        return;
    s->left_count = 0;
    s->look_ms = 0;
    look(w);
    while (s->look_under_way && po__worker_now_ms() < until_ms)
        po__worker_sleep_until(w, until_ms);
    if (s->left_count)
        po__warn(&w->log, "worker.lost",
                 "%llu tasks and runs of worker %s's own control node were not finished, and are "
                 "lost with its temporary folder; name a standalone data directory to keep them",
                 (unsigned long long)s->left_count, w->id);
}

void po__standalone_end(struct po_worker *w)
{
    struct po__standalone *s = &w->standalone;
    po_node *node = s->node;
    if (!node)
        return;
    PO_PRE(w->local.phase == PO__PLANE_LEFT);
    s->node = NULL; /* first: nobody is handed a client of it while the lock is given up */
    s->over = true;
    say_lost(w);
    if (s->client_taken)
        s->ended = node;
    pthread_mutex_unlock(&w->lock);
    po__api_node_end(node); /* its callbacks take the lock */
    if (!s->client_taken)
        po_node_stop(node);
    remove_temporary(w);
    pthread_mutex_lock(&w->lock);
    w->local.channel = NULL;
    po__info(&w->log, "worker.standalone", "the control node of worker %s has ended", w->id);
}
