/* The exported functions of node.h: options are checked, the node is assembled from store, network
 * and core, and calls are handed to the core. */
#include <pipeorch/client.h>
#include <pipeorch/node.h>

#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

#include "../base/alloc.h"
#include "../net/peer.h"
#include "../net/worker_endpoint.h"
#include "../node/node.h"
#include "call.h"
#include "identity.h"
#include "node_internal.h"
#include "node_opts.h"
#include "out.h"

#define CALL_TIMEOUT_DEFAULT_MS 10000

struct po_node {
    struct po__node *core;
    struct po__peers *peers; /* NULL: alone */
    struct po__endpoint *endpoint;
    unsigned closing; /* parts of the network that have not yet closed */
    void (*closed)(void *arg);
    void *closed_arg;
    struct po_client *client;
    struct po__node_net net;
    struct po_node_opts
        opts; /* with defaults filled in; strings are the caller's and only used while starting */
    struct po__identity identity;
    struct po__logger log;
    char name[PO_NAME_MAX_BYTES + 1];
    char peer_address[PO_ADDRESS_MAX_BYTES + 1], worker_address[PO_ADDRESS_MAX_BYTES + 1];
    char bound_address[PO_ADDRESS_MAX_BYTES + 1]; /* of the endpoint; "": none */
    bool has_state_machine;
};

/* ---- peers ---- */

static int on_hello(void *arg, const struct po__peer_hello *h, char *why, size_t why_len)
{
    struct po_node *n = arg;
    struct po__node_peer p = {.node_id = h->node_id,
                              .name = h->name,
                              .zone = h->zone,
                              .peer_address = h->peer_address,
                              .worker_address = h->worker_address,
                              .directory_id = h->directory_id,
                              .feature_level = h->feature_level};
    return po__node_peer_hello(n->core, &p, why, why_len);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void on_frame(void *arg, uint64_t peer_id, enum po__peer_channel chan, const void *data,
                     size_t len)
{
    struct po_node *n = arg;
    const uint8_t *p = data;
    if (chan == PO__CHAN_RAFT) {
        int rv = po__node_peer_frame(n->core, peer_id, data, len);
        if (rv == PO_EPROTO)
            po__warn(&n->log, "peer.frame",
                     "node %llu sent a malformed frame of %zu bytes; it is ignored",
                     (unsigned long long)peer_id, len);
    } else if (len >= 8) {
        po__node_peer_forward(n->core, peer_id, chan == PO__CHAN_FORWARD_REPLY, get_u64(p), p + 8,
                              len - 8);
    }
}

static void on_down(void *arg, uint64_t peer_id)
{
    po__node_peer_down(((struct po_node *)arg)->core, peer_id);
}

static void on_gone(void *arg, uint64_t peer_id)
{
    po__node_peer_gone(((struct po_node *)arg)->core, peer_id);
}

static void on_refused(void *arg, uint64_t peer_id, int code, const char *why)
{
    po__node_peer_refused(((struct po_node *)arg)->core, peer_id, code, why);
}

static void part_closed(void *arg)
{
    struct po_node *n = arg;
    if (--n->closing == 0 && n->closed)
        n->closed(n->closed_arg);
}

static void net_close(void *arg, void (*closed)(void *arg), void *closed_arg)
{
    struct po_node *n = arg;
    struct po__peers *peers = n->peers;
    struct po__endpoint *endpoint = n->endpoint;
    n->peers = NULL;
    n->endpoint = NULL;
    n->closed = closed;
    n->closed_arg = closed_arg;
    n->closing = 1;
    if (peers) {
        n->closing++;
        po__peers_close(peers, part_closed, n);
    }
    if (endpoint) {
        n->closing++;
        po__endpoint_close(endpoint, part_closed, n);
    }
    part_closed(n); /* the one that the others cannot overtake */
}

static int open_peers(struct po_node *n, uv_loop_t *loop, char *error, size_t error_len)
{
    struct po__peers_opts po = {.loop = loop,
                                .listen = n->opts.listen,
                                .insecure = n->opts.insecure,
                                .log = n->log,
                                .hello = on_hello,
                                .frame = on_frame,
                                .down = on_down,
                                .gone = on_gone,
                                .refused = on_refused,
                                .arg = n};
    struct po__peer_hello *h = &po.self;
    memcpy(h->cluster_id, n->identity.cluster_id, sizeof h->cluster_id);
    memcpy(h->directory_id, n->identity.directory_id, sizeof h->directory_id);
    h->node_id = n->identity.node_id;
    h->feature_level = PO__FEATURE_LEVEL;
    if (getrandom(&h->incarnation, sizeof h->incarnation, 0) != (ssize_t)sizeof h->incarnation)
        return po__refuse_start(error, error_len, PO_EIO,
                                "the system's random numbers cannot be read");
    snprintf(h->name, sizeof h->name, "%s", n->opts.name);
    snprintf(h->zone, sizeof h->zone, "%s", n->opts.zone);
    snprintf(h->peer_address, sizeof h->peer_address, "%s", n->peer_address);
    snprintf(h->worker_address, sizeof h->worker_address, "%s", n->worker_address);
    return po__peers_open(&n->peers, &po, error, error_len);
}

static int net_open(void *arg, uv_loop_t *loop, struct po__node *core, char *error,
                    size_t error_len)
{
    struct po_node *n = arg;
    (void)core;
    int rv = n->opts.listen ? open_peers(n, loop, error, error_len) : 0;
    if (rv == 0 && n->endpoint)
        rv = po__endpoint_start(n->endpoint, loop, error, error_len);
    if (rv)
        net_close(n, NULL, NULL); /* the loop has still to see to it */
    return rv;
}

static int net_forward(void *arg, uint64_t peer_id, bool reply, uint64_t call_id, const void *data,
                       size_t len)
{
    struct po_node *n = arg;
    if (!n->peers)
        return PO_EUNREACHABLE;
    return po__peers_send_bytes(
        n->peers, peer_id, reply ? PO__CHAN_FORWARD_REPLY : PO__CHAN_FORWARD, call_id, data, len);
}

static void net_flush(void *arg)
{
    struct po_node *n = arg;
    if (n->peers)
        po__peers_flush(n->peers);
    if (n->endpoint)
        po__endpoint_flush(n->endpoint);
}

static void net_refuse(void *arg, uint64_t peer_id, int code, const char *why)
{
    struct po_node *n = arg;
    if (n->peers)
        po__peers_refuse(n->peers, peer_id, code, why);
}

static bool net_up(void *arg, uint64_t peer_id)
{
    struct po_node *n = arg;
    return n->peers && po__peers_up(n->peers, peer_id);
}

static void transport_send(void *arg, uint64_t peer_id, struct po__frame *frame)
{
    po__peers_send(((struct po_node *)arg)->peers, peer_id, PO__CHAN_RAFT, frame);
}

static void transport_servers(void *arg, const struct po__server *servers, unsigned count)
{
    po__peers_set(((struct po_node *)arg)->peers, servers, count);
}

static size_t transport_queued(void *arg, uint64_t peer_id)
{
    return po__peers_queued_bytes(((struct po_node *)arg)->peers, peer_id);
}

static void net_sever(void *arg)
{
    struct po_node *n = arg;
    if (n->endpoint)
        po__endpoint_sever(n->endpoint);
}

/* ---- workers and clients ---- */

static void answer_endpoint(void *arg, int code, const void *resp, size_t len)
{
    if (code || !resp)
        po__endpoint_drop(arg); /* no answer: the asker tries another node */
    else
        po__endpoint_answer(arg, resp, len);
}

static void answer_busy(struct po__endpoint_call *call, int code)
{
    uint8_t small[512];
    struct po__buf b = {.data = small, .cap = sizeof small, .max_bytes = sizeof small};
    po__response_begin(&b, code, po__str(po_strerror(code)), po__str(""), 0, 0);
    if (b.err)
        po__endpoint_drop(call);
    else
        po__endpoint_answer(call, b.data, b.len);
}

static void on_request(void *arg, struct po__endpoint_call *call, uint64_t conn, const void *data,
                       size_t len)
{
    struct po_node *n = arg;
    int rv = po__node_request(n->core, data, len, false, conn,
                              (struct po__reply_to){answer_endpoint, call});
    if (rv)
        answer_busy(call, rv);
}

static void on_closed(void *arg, uint64_t conn)
{
    (void)po__node_conn_closed(((struct po_node *)arg)->core,
                               conn); /* else its heartbeats are missed */
}

static int open_endpoint(struct po_node *n, char *error, size_t error_len)
{
    if (!n->opts.worker_listen)
        return 0;
    struct po__endpoint_opts eo = {.listen = n->opts.worker_listen,
                                   .log = n->log,
                                   .request = on_request,
                                   .closed = on_closed,
                                   .arg = n};
    int rv = po__endpoint_open(&n->endpoint, &eo, error, error_len);
    if (rv)
        return rv;
    snprintf(n->bound_address, sizeof n->bound_address, "%s", po__endpoint_address(n->endpoint));
    snprintf(n->worker_address, sizeof n->worker_address, "%s",
             n->opts.worker_advertise ? n->opts.worker_advertise : n->bound_address);
    return 0;
}

/* ---- start and stop ---- */

static void on_store_fault(void *arg, int code, const char *message)
{
    struct po_node *n =
        arg; /* the replica learns it from the store and stops; here it is only logged */
    po__error(&n->log, "store.fault", "%s: %s", po_err_name(code), message);
}

static int open_store(struct po_node *n, struct po__store **store, char *error, size_t error_len)
{
    struct po__disk *disk;
    int rv =
        po__disk_real(&disk, n->opts.data_dir, po__node_disk_wakeup, n->core, error, error_len);
    if (rv)
        return rv;
    struct po__store_opts so = {
        .segment_bytes = n->opts.segment_bytes, .log = n->log, .fault = on_store_fault, .arg = n};
    rv = po__store_open(store, disk, &so, error, error_len);
    if (rv)
        return rv;
    rv = po__identity_settle(&n->identity, *store, &n->opts, n->peer_address, error, error_len);
    if (rv) {
        po__store_close(*store);
        *store = NULL;
    }
    return rv;
}

static int assemble(struct po_node *n, char *error, size_t error_len)
{
    static const struct po__transport_ops transport = {transport_send, transport_servers,
                                                       transport_queued};
    struct po__store *store;
    struct po__channel *channel;
    int rv = po__node_create(&n->core);
    if (rv)
        return rv;
    rv = open_store(n, &store, error, error_len);
    if (rv)
        return rv;
    rv = open_endpoint(n, error, error_len);
    if (rv) {
        po__store_close(store);
        return rv;
    }
    n->net = (struct po__node_net){n->opts.listen ? &transport : NULL,
                                   net_open,
                                   net_forward,
                                   net_flush,
                                   net_close,
                                   n,
                                   net_refuse,
                                   net_up,
                                   net_sever};
    struct po__node_opts no = {.store = store,
                               .identity = n->identity,
                               .zone = n->opts.zone,
                               .peer_address = n->peer_address,
                               .worker_address = n->worker_address,
                               .state_machine = n->opts.state_machine,
                               .net = n->opts.listen || n->endpoint ? &n->net : NULL,
                               .log = n->log,
                               .election_ms = n->opts.election_ms,
                               .heartbeat_ms = n->opts.heartbeat_ms,
                               .snapshot_bytes = n->opts.snapshot_bytes,
                               .trailing_bytes = n->opts.trailing_bytes,
                               .hint = !n->opts.failover_hint_off,
                               .prefer_zone = n->opts.prefer_zone,
                               .time_zone_dir = n->opts.time_zone_dir};
    rv = po__channel_local(&channel, n->core);
    if (rv == 0) {
        rv = po__client_over(&n->client, channel);
        if (rv)
            channel->ops->close(channel);
    }
    if (rv) {
        po__store_close(store);
        return rv;
    }
    return po__node_start(n->core, &no, error, error_len);
}

PO_API int po_node_start(po_node **node, const struct po_node_opts *opts, char *error,
                         size_t error_len)
{
    char ignored[512];
    if (!error || error_len == 0) {
        error = ignored;
        error_len = sizeof ignored;
    }
    error[0] = '\0';
    if (!node || !opts || opts->size < offsetof(struct po_node_opts, zone))
        return po__refuse_start(
            error, error_len, PO_EINVAL,
            "node and opts are required, and opts->size must be sizeof(struct po_node_opts)");
    struct po_node *n = po__calloc(1, sizeof *n);
    if (!n)
        return po__refuse_start(error, error_len, PO_ENOMEM, po_strerror(PO_ENOMEM));
    memcpy(&n->opts, opts, opts->size < sizeof n->opts ? opts->size : sizeof n->opts);
    int rv = po__node_opts_check(&n->opts, error, error_len);
    if (rv) {
        po__free(n);
        return rv;
    }
    snprintf(n->name, sizeof n->name, "%s", n->opts.name);
    n->log = (struct po__logger){n->opts.log.cb, n->opts.log.arg,
                                 n->opts.log.level ? n->opts.log.level : PO_LOG_INFO, n->name};
    n->has_state_machine = n->opts.state_machine != NULL;
    const char *advertise = n->opts.advertise ? n->opts.advertise : n->opts.listen;
    snprintf(n->peer_address, sizeof n->peer_address, "%s", advertise ? advertise : "");
    rv = assemble(n, error, error_len);
    if (rv) {
        if (error[0] == '\0')
            snprintf(error, error_len, "node %s cannot start: %s", n->name, po_strerror(rv));
        po_node_stop(n);
        return rv;
    }
    *node = n;
    return 0;
}

PO_API void po_node_stop(po_node *n)
{
    if (!n)
        return;
    po__node_destroy(n->core);
    if (n->endpoint) /* the node did not get as far as to start it */
        po__endpoint_close(n->endpoint, NULL, NULL);
    po_client_close(n->client);
    po__free(n);
}

struct po__node *po__api_node_core(po_node *node)
{
    return node->core;
}

struct po__peers *po__api_node_peers(po_node *node)
{
    return node->peers;
}

void po__api_node_end(po_node *node)
{
    po__node_end(node->core);
}

int po__api_node_finish_only(po_node *node, const char *why)
{
    return po__node_finish_only(node->core, why);
}

PO_API int po_node_hand_over(po_node *n, uint32_t timeout_ms)
{
    struct po_node_status st = {.size = sizeof st};
    const struct po_call_opts opts = {.size = sizeof opts, .timeout_ms = timeout_ms};
    struct po__call call;
    if (!n || !timeout_ms || timeout_ms > PO_TIMEOUT_MAX_MS || po__node_on_thread(n->core))
        return PO_EINVAL;
    po__node_status(n->core, &st);
    if (st.role != PO_ROLE_LEADER)
        return st.role == PO_ROLE_STOPPED ? PO_EFAULT : 0;
    const struct po__member_request m = {.op = PO__MEMBER_TRANSFER, .from = st.id};
    int rv = po__call_member(&call, &m, &opts);
    return rv ? rv : po__call_wait(n->client, &call, NULL);
}

/* ---- calls ---- */

PO_API int po_node_status(po_node *n, struct po_node_status *status)
{
    if (!n || !status || status->size < 2 * sizeof(uint64_t))
        return PO_EINVAL;
    po__node_status(n->core, status);
    return 0;
}

PO_API int po_node_worker_address(po_node *n, char *address, size_t len)
{
    if (!n || !address)
        return PO_EINVAL;
    if (!n->bound_address[0])
        return PO_ENOTFOUND;
    size_t size = strlen(n->bound_address) + 1;
    if (size > len)
        return PO_ETOOBIG;
    memcpy(address, n->bound_address, size);
    return 0;
}

PO_API int po_node_wait_leader(po_node *n, uint32_t timeout_ms)
{
    return !n || po__node_on_thread(n->core) ? PO_EINVAL
                                             : po__node_wait_leader(n->core, timeout_ms);
}

PO_API po_client *po_node_client(po_node *n)
{
    return n ? n->client : NULL;
}

/* Timeout and key of a call, checked. */
static int call_opts(const struct po_call_opts *opts, uint32_t *timeout_ms, struct po__slice *key)
{
    *timeout_ms = CALL_TIMEOUT_DEFAULT_MS;
    *key = po__slice(NULL, 0);
    if (!opts)
        return 0;
    if (opts->size < sizeof *opts || opts->timeout_ms > PO_TIMEOUT_MAX_MS ||
        opts->key_len > PO_KEY_MAX_BYTES || (opts->key && !opts->key_len) ||
        (!opts->key && opts->key_len))
        return PO_EINVAL;
    if (opts->timeout_ms)
        *timeout_ms = opts->timeout_ms;
    *key = po__slice(opts->key, opts->key_len);
    return 0;
}

PO_API int po_apply_async(po_node *n, const void *cmd, size_t len, const struct po_call_opts *opts,
                          po_result_cb cb, void *arg)
{
    uint32_t timeout_ms;
    struct po__slice key;
    if (!n || !cmd || !len || !cb || call_opts(opts, &timeout_ms, &key))
        return po__client_fail(PO_EINVAL, "the node, the command or the callback is NULL, the "
                                          "command is empty, or the options are wrong");
    if (len > PO_PAYLOAD_MAX_BYTES)
        return po__client_fail(PO_ETOOBIG, "the command has %zu bytes; expected 1..%d", len,
                               PO_PAYLOAD_MAX_BYTES);
    if (!n->has_state_machine)
        return po__client_fail(PO_EREFUSED, "the node has no state machine; give it one when it is "
                                            "started");
    return po__node_apply(n->core, cmd, len, key, timeout_ms, cb, arg);
}

PO_API int po_read_barrier_async(po_node *n, const struct po_call_opts *opts, po_result_cb cb,
                                 void *arg)
{
    uint32_t timeout_ms;
    struct po__slice key;
    if (!n || !cb || call_opts(opts, &timeout_ms, &key))
        return PO_EINVAL;
    return po__node_read_barrier(n->core, timeout_ms, cb, arg);
}

PO_API int po_read_stale_async(po_node *n, uint32_t stale_ms, const struct po_call_opts *opts,
                               po_result_cb cb, void *arg)
{
    uint32_t timeout_ms;
    struct po__slice key;
    if (!n || !cb || !stale_ms || stale_ms > PO_TIMEOUT_MAX_MS ||
        call_opts(opts, &timeout_ms, &key))
        return PO_EINVAL;
    return po__node_read_stale(n->core, stale_ms, timeout_ms, cb, arg);
}

/* A caller that blocks until its callback ran. */
struct blocked {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int code;
    void *result;
    size_t cap, len;
    struct po_read_info read;
};

static void wake_blocked(void *arg, const struct po_result *r)
{
    struct blocked *b = arg;
    pthread_mutex_lock(&b->lock);
    b->code = r->code;
    b->len = r->len;
    b->read = (struct po_read_info){sizeof b->read, r->index, r->term, r->staleness_ms};
    if (b->result && r->len)
        memcpy(b->result, r->data, r->len < b->cap ? r->len : b->cap);
    b->done = true;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static int wait_blocked(struct blocked *b, int rv)
{
    pthread_mutex_lock(&b->lock);
    while (rv == 0 && !b->done)
        pthread_cond_wait(&b->cond, &b->lock);
    pthread_mutex_unlock(&b->lock);
    pthread_cond_destroy(&b->cond);
    pthread_mutex_destroy(&b->lock);
    return rv ? rv : b->code;
}

PO_API int po_apply(po_node *n, const void *cmd, size_t len, const struct po_call_opts *opts,
                    void *result, size_t *result_len)
{
    struct blocked b = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .cond = PTHREAD_COND_INITIALIZER,
                        .result = result,
                        .cap = result && result_len ? *result_len : 0};
    if (!n || po__node_on_thread(n->core) || (result && !result_len))
        return PO_EINVAL;
    int rv = wait_blocked(&b, po_apply_async(n, cmd, len, opts, wake_blocked, &b));
    if (result_len)
        *result_len = rv ? 0 : b.len;
    return rv;
}

PO_API int po_read_barrier(po_node *n, const struct po_call_opts *opts)
{
    struct blocked b = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    if (!n || po__node_on_thread(n->core))
        return PO_EINVAL;
    return wait_blocked(&b, po_read_barrier_async(n, opts, wake_blocked, &b));
}

PO_API int po_read_stale(po_node *n, uint32_t stale_ms, const struct po_call_opts *opts,
                         struct po_read_info *info)
{
    struct blocked b = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    if (!n || po__node_on_thread(n->core) || (info && info->size < sizeof info->size))
        return PO_EINVAL;
    int rv = wait_blocked(&b, po_read_stale_async(n, stale_ms, opts, wake_blocked, &b));
    if (rv || !info)
        return rv;
    po__out_write(info, &b.read, sizeof b.read);
    return 0;
}
