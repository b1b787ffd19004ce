/* The calls of client.h that change workers and tasks, and the life of a client. Each call is
 * written once as a function that prepares it from its arguments; the blocking and the asynchronous
 * form only differ in how the prepared call is run (call.h). */
#include <pipeorch/client.h>

#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "../net/address.h"
#include "../net/peer.h"
#include "placement.h"

#define CALLS_DEFAULT 1024
#define CALLS_MAX     65536

/* ---- life ---- */

static int check_addresses(const char *addresses)
{
    char text[PO_ADDRESS_MAX_BYTES + 2], host[PO_ADDRESS_MAX_BYTES + 1],
        port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[512];
    struct po__slice s;
    if (!addresses || !addresses[0])
        return po__client_fail(PO_EINVAL, "no address of a control node is given; expected "
                                          "\"host:port,host:port\"");
    while (po__address_next(&addresses, &s)) {
        snprintf(text, sizeof text, "%.*s", (int)s.len, s.data);
        if (po__address_parse(text, host, sizeof host, port, sizeof port, error, sizeof error))
            return po__client_fail(PO_EADDR, "%s", error);
    }
    return 0;
}

int po__client_over(struct po_client **out, struct po__channel *ch)
{
    struct po_client *client = po__calloc(1, sizeof *client);
    if (!client)
        return PO_ENOMEM;
    client->channel = ch;
    *out = client;
    return 0;
}

struct po__channel *po__client_channel(struct po_client *client)
{
    return client->channel;
}

int po_client_open(po_client **out, const char *addresses, const struct po_client_opts *opts)
{
    struct po_client_opts o;
    if (!out)
        return po__client_fail(PO_EINVAL, "the place for the client is NULL");
    int rv = po__read_struct(&o, sizeof o, opts, "po_client_opts");
    rv = rv ? rv : check_addresses(addresses);
    if (rv)
        return rv;
    uint32_t calls_max = o.calls_max ? o.calls_max : CALLS_DEFAULT;
    if (calls_max > CALLS_MAX)
        return po__client_fail(PO_EINVAL, "calls_max is %u; expected 1..%d, or 0 for %d",
                               o.calls_max, CALLS_MAX, CALLS_DEFAULT);
    struct po__logger log = {.cb = o.log.cb,
                             .arg = o.log.arg,
                             .level = o.log.level ? o.log.level : PO_LOG_INFO,
                             .name = o.name ? o.name : "client"};
    struct po__channel *ch;
    rv = po__channel_net(&ch, addresses, calls_max, &log);
    if (rv)
        return po__client_fail(rv, "cannot set up connections to %s: %s", addresses,
                               rv == PO_ENOMEM ? "no memory, descriptor or thread is left"
                                               : po_strerror(rv));
    rv = po__client_over(out, ch);
    if (rv) {
        ch->ops->close(ch);
        return po__client_fail(rv, "out of memory for a client");
    }
    return 0;
}

void po_client_close(po_client *client)
{
    if (!client)
        return;
    client->channel->ops->close(client->channel);
    po__free(client);
}

void po_free(void *ptr)
{
    po__free(ptr);
}

/* ---- workers ---- */

static struct po__slice text_or(const char *text, const char *otherwise)
{
    return po__str(text ? text : otherwise);
}

/* Each element of the caller's array has the size that the first one says. */
static int add_capabilities(struct po__cmd *cmd, const struct po_worker_info *w)
{
    struct po_capability c;
    const char *at = (const char *)w->capabilities;
    if (w->capabilities_count < 1 || w->capabilities_count > PO_CAPABILITIES_MAX || !at)
        return po__client_fail(PO_EINVAL, "a worker has %zu capabilities; expected 1..%d",
                               w->capabilities_count, PO_CAPABILITIES_MAX);
    for (size_t i = 0; i < w->capabilities_count; i++, at += w->capabilities->size) {
        int rv = po__read_struct(&c, sizeof c, at, "po_capability");
        if (rv)
            return rv;
        cmd->worker_register.caps[i] = (struct po__cap){
            .name = text_or(c.name, ""),
            .version = text_or(c.version, "1.0.0"),
            .input_schema = text_or(c.input_schema, ""),
            .output_schema = text_or(c.output_schema, ""),
            .requires_gpu = c.requires_gpu != 0,
            .max_concurrency = c.max_concurrency ? c.max_concurrency : 1,
        };
    }
    cmd->worker_register.caps_count = (uint32_t)w->capabilities_count;
    return 0;
}

static int add_labels(struct po__cmd *cmd, const struct po_worker_info *w)
{
    if (w->labels_count > PO_LABELS_MAX || (w->labels_count && !w->labels))
        return po__client_fail(PO_EINVAL, "a worker has %zu labels; expected 0..%d",
                               w->labels_count, PO_LABELS_MAX);
    for (size_t i = 0; i < w->labels_count; i++) {
        cmd->worker_register.label_keys[i] = text_or(w->labels[i].key, "");
        cmd->worker_register.label_values[i] = text_or(w->labels[i].value, "");
    }
    cmd->worker_register.labels_count = (uint32_t)w->labels_count;
    return 0;
}

int po__register_command(struct po__cmd *cmd, const struct po_worker_info *info)
{
    struct po_worker_info w = {0};
    int rv = info ? po__read_struct(&w, sizeof w, info, "po_worker_info")
                  : po__client_fail(PO_EINVAL, "the worker is NULL");
    if (rv)
        return rv;
    memset(cmd, 0, sizeof *cmd);
    cmd->type = PO__CMD_WORKER_REGISTER;
    cmd->worker_register.id = text_or(w.id, "");
    cmd->worker_register.address = text_or(w.address, "");
    cmd->worker_register.zone = text_or(w.zone, PO__ZONE_DEFAULT);
    cmd->worker_register.incarnation = w.incarnation;
    cmd->worker_register.heartbeat_ms = w.heartbeat_ms ? w.heartbeat_ms : PO__HEARTBEAT_DEFAULT_MS;
    cmd->worker_register.slots = w.slots;
    rv = po__resources_read(cmd->worker_register.resources, &cmd->worker_register.resources_count,
                            w.resources, w.resources_count);
    if (w.slots || w.resources_count) /* what the first release did not know */
        cmd->type = PO__CMD_WORKER_REGISTER_MORE;
    rv = rv ? rv : add_labels(cmd, &w);
    return rv ? rv : add_capabilities(cmd, &w);
}

static int prepare_register(struct po__call *call, const struct po_worker_info *worker,
                            const struct po_call_opts *opts)
{
    struct po__cmd cmd;
    int rv = po__register_command(&cmd, worker);
    return rv ? rv : po__call_command(call, &cmd, opts);
}

int po_register_worker(po_client *client, const struct po_worker_info *worker,
                       const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_register(&call, worker, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_register_worker_async(po_client *client, const struct po_worker_info *worker,
                             const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_register(&call, worker, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

int po_heartbeat(po_client *client, const char *worker_id, uint64_t incarnation,
                 const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = po__call_heartbeat(&call, worker_id, incarnation, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_heartbeat_async(po_client *client, const char *worker_id, uint64_t incarnation,
                       const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = po__call_heartbeat(&call, worker_id, incarnation, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int prepare_status(struct po__call *call, const char *worker_id, int status,
                          const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_WORKER_STATUS};
    if (status != PO_WORKER_ONLINE && status != PO_WORKER_DRAINING)
        return po__client_fail(PO_EINVAL,
                               "worker status is %d; expected %d (online) or %d (draining)", status,
                               PO_WORKER_ONLINE, PO_WORKER_DRAINING);
    cmd.worker_status.id = text_or(worker_id, "");
    cmd.worker_status.status = (uint32_t)status;
    return po__call_command(call, &cmd, opts);
}

int po_update_worker_status(po_client *client, const char *worker_id, int status,
                            const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_status(&call, worker_id, status, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_update_worker_status_async(po_client *client, const char *worker_id, int status,
                                  const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_status(&call, worker_id, status, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}

static int prepare_deregister(struct po__call *call, const char *worker_id, uint64_t incarnation,
                              const struct po_call_opts *opts)
{
    struct po__cmd cmd = {.type = PO__CMD_WORKER_DEREGISTER};
    cmd.worker_deregister.id = text_or(worker_id, "");
    cmd.worker_deregister.incarnation = incarnation;
    return po__call_command(call, &cmd, opts);
}

int po_deregister_worker(po_client *client, const char *worker_id, uint64_t incarnation,
                         const struct po_call_opts *opts)
{
    struct po__call call;
    int rv = prepare_deregister(&call, worker_id, incarnation, opts);
    return rv ? rv : po__call_wait(client, &call, NULL);
}

int po_deregister_worker_async(po_client *client, const char *worker_id, uint64_t incarnation,
                               const struct po_call_opts *opts, po_result_cb cb, void *arg)
{
    struct po__call call;
    int rv = prepare_deregister(&call, worker_id, incarnation, opts);
    return rv ? rv : po__call_start(client, &call, cb, arg);
}
