#include "worker_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "../base/deadline.h"
#include "../codec/json.h"
#include "../codec/schema.h"
#include "../net/address.h"
#include "../net/peer.h"
#include "placement.h"

#define HEARTBEAT_MIN_MS 100
#define HEARTBEAT_MAX_MS 60000
#define SCHEMA_MAX_BYTES (64 * 1024)

/* ---- options ---- */

static int fail(char *error, size_t error_len, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(char *error, size_t error_len, int code, const char *fmt, ...)
{
    char text[PO__CLIENT_ERROR_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (error && error_len)
        snprintf(error, error_len, "%s", text);
    return po__client_fail(code, "%s", text);
}

static int range(char *error, size_t error_len, const char *name, uint32_t v, uint32_t min,
                 uint32_t max)
{
    if (v == 0 || (v >= min && v <= max))
        return 0;
    return fail(error, error_len, PO_EINVAL, "%s is %u; expected %u..%u, or 0 for the default",
                name, v, min, max);
}

static int check_addresses(const char *addresses, char *error, size_t error_len)
{
    char text[PO_ADDRESS_MAX_BYTES + 2], host[PO_ADDRESS_MAX_BYTES + 1],
        port[PO__ADDRESS_PORT_MAX_BYTES + 1], why[512];
    struct po__slice s;
    while (po__address_next(&addresses, &s)) {
        snprintf(text, sizeof text, "%.*s", (int)s.len, s.data);
        if (po__address_parse(text, host, sizeof host, port, sizeof port, why, sizeof why))
            return fail(error, error_len, PO_EADDR, "%s", why);
    }
    return 0;
}

static int check_standalone(const struct po_worker_opts *o, char *error, size_t error_len)
{
    if (o->standalone < PO_STANDALONE_AUTO || o->standalone > PO_STANDALONE_ALWAYS)
        return fail(error, error_len, PO_EINVAL, "standalone is %d; expected PO_STANDALONE_*",
                    o->standalone);
    if (o->standalone_dir && !o->standalone_dir[0])
        return fail(error, error_len, PO_EINVAL,
                    "standalone_dir is empty; name a folder, or give NULL for a temporary one");
    if (!o->standalone_listen)
        return 0;
    int rv = check_addresses(o->standalone_listen, error, error_len);
    if (!rv && !o->insecure && !po__address_is_loopback(o->standalone_listen))
        rv =
            fail(error, error_len, PO_EREFUSED,
                 "standalone_listen: %s is not a loopback address, and there is no TLS yet: anyone "
                 "who reaches the port could command this worker. Set insecure to accept that on a "
                 "network that you trust",
                 o->standalone_listen);
    return rv;
}

static int check_options(const struct po_worker_opts *o, char *error, size_t error_len)
{
    int rv = 0;
    if (!o->id || !po__name_ok(po__str(o->id)))
        rv = fail(error, error_len, PO_EINVAL,
                  "worker id \"%.128s\" is missing or no name; expected 1..%d of A-Z a-z 0-9 . _ -",
                  o->id ? o->id : "", PO_NAME_MAX_BYTES);
    if (!rv && o->zone && !po__name_ok(po__str(o->zone)))
        rv = fail(error, error_len, PO_EINVAL,
                  "zone \"%.128s\" is no name; expected 1..%d of A-Z a-z 0-9 . _ -", o->zone,
                  PO_NAME_MAX_BYTES);
    if (!rv && o->address && strlen(o->address) > PO_ADDRESS_MAX_BYTES)
        rv = fail(error, error_len, PO_EINVAL, "the worker's address is longer than %d bytes",
                  PO_ADDRESS_MAX_BYTES);
    if (!rv && (o->labels_count > PO_LABELS_MAX || (o->labels_count && !o->labels)))
        rv = fail(error, error_len, PO_EINVAL, "%zu labels are given; expected 0..%d",
                  o->labels_count, PO_LABELS_MAX);
    rv = rv ? rv
            : range(error, error_len, "heartbeat_ms", o->heartbeat_ms, HEARTBEAT_MIN_MS,
                    HEARTBEAT_MAX_MS);
    rv = rv ? rv : range(error, error_len, "threads", o->threads, 1, PO__WORKER_THREADS_MAX);
    struct po__resource resources[PO_RESOURCES_MAX];
    uint32_t resources_count;
    if (!rv && po__resources_read(resources, &resources_count, o->resources, o->resources_count))
        rv = fail(error, error_len, PO_EINVAL, "%s", po_client_error());
    rv = rv ? rv : range(error, error_len, "slots", o->slots, 1, PO__SLOTS_MAX);
    rv = rv ? rv : range(error, error_len, "batch_max", o->batch_max, 1, PO__POLL_TASKS_MAX);
    rv = rv ? rv : range(error, error_len, "drain_ms", o->drain_ms, 1, PO_TIMEOUT_MAX_MS);
    return rv ? rv : check_standalone(o, error, error_len);
}

static char *copy_text(const char *text, bool *failed)
{
    char *copy = text ? po__strndup(text, strlen(text)) : NULL;
    if (text && !copy)
        *failed = true;
    return copy;
}

static void copy_options(struct po_worker *w, const struct po_worker_opts *o, bool *failed)
{
    snprintf(w->id, sizeof w->id, "%s", o->id);
    snprintf(w->zone, sizeof w->zone, "%s", o->zone ? o->zone : PO__ZONE_DEFAULT);
    snprintf(w->address, sizeof w->address, "%s", o->address ? o->address : "");
    w->addresses = copy_text(o->addresses && o->addresses[0] ? o->addresses : NULL, failed);
    w->standalone.mode = o->standalone;
    w->standalone.dir = copy_text(o->standalone_dir, failed);
    w->standalone.listen = copy_text(o->standalone_listen, failed);
    w->standalone.insecure = o->insecure != 0;
    for (size_t i = 0; i < o->labels_count; i++) {
        w->labels[i].key = copy_text(o->labels[i].key ? o->labels[i].key : "", failed);
        w->labels[i].value = copy_text(o->labels[i].value ? o->labels[i].value : "", failed);
    }
    w->labels_count = o->labels_count;
    for (size_t i = 0; i < o->resources_count; i++) {
        w->resources[i].name = copy_text(o->resources[i].name, failed);
        w->resources[i].amount = o->resources[i].amount;
    }
    w->resources_count = o->resources_count;
    w->slots_limit = o->slots;
    w->heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : PO__HEARTBEAT_DEFAULT_MS;
    w->threads_max = o->threads;
    w->batch_max = o->batch_max ? o->batch_max : PO__WORKER_BATCH_DEFAULT;
    w->drain_ms = o->drain_ms ? o->drain_ms : PO__WORKER_DRAIN_DEFAULT_MS;
    w->log = (struct po__logger){.cb = o->log.cb,
                                 .arg = o->log.arg,
                                 .level = o->log.level ? o->log.level : PO_LOG_INFO,
                                 .name = w->id};
}

/* ---- the handle ---- */

static void worker_free(struct po_worker *w)
{
    for (size_t i = 0; i < w->labels_count; i++) {
        po__free((char *)w->labels[i].key);
        po__free((char *)w->labels[i].value);
    }
    for (size_t i = 0; i < w->resources_count; i++)
        po__free((char *)w->resources[i].name);
    for (size_t i = 0; i < w->offered_count; i++) {
        struct po_capability *c = &w->offered[i].capability;
        po__free((char *)c->name);
        po__free((char *)c->version);
        po__free((char *)c->input_schema);
        po__free((char *)c->output_schema);
    }
    po__free(w->addresses);
    po__free(w->standalone.dir);
    po__free(w->standalone.listen);
    if (w->event_fd >= 0)
        close(w->event_fd);
    po__worker_pull_fini(w);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    po__free(w);
}

/* Its waits have an end, whatever happens to the wall clock. */
static void init_changed(struct po_worker *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
}

int po_worker_open(po_worker **out, const struct po_worker_opts *opts, char *error,
                   size_t error_len)
{
    struct po_worker_opts o;
    bool failed = false;
    if (!out || !opts)
        return fail(error, error_len, PO_EINVAL,
                    "the place for the worker or its options are NULL");
    if (po__read_struct(&o, sizeof o, opts, "po_worker_opts"))
        return fail(error, error_len, PO_EINVAL, "po_worker_opts: its size is not set");
    int rv = check_options(&o, error, error_len);
    if (!rv && o.addresses && o.addresses[0])
        rv = check_addresses(o.addresses, error, error_len);
    else if (!rv && o.standalone == PO_STANDALONE_NEVER)
        rv = fail(error, error_len, PO_EINVAL,
                  "no address of a control node is given, and standalone is PO_STANDALONE_NEVER; "
                  "expected \"host:port,host:port\"");
    if (rv)
        return rv;
    struct po_worker *w = po__calloc(1, sizeof *w);
    if (!w)
        return fail(error, error_len, PO_ENOMEM, "out of memory for worker %s", o.id);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    init_changed(w);
    po__list_init(&w->queue);
    po__plane_init(&w->cluster, w, "the cluster");
    po__plane_init(&w->local, w, "its own control node");
    w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    copy_options(w, &o, &failed);
    failed = po__worker_pull_init(w) || failed;
    if (failed || w->event_fd < 0) {
        rv = fail(error, error_len, PO_ENOMEM, "cannot set up worker %s: %s", o.id,
                  failed ? "out of memory" : strerror(errno));
        worker_free(w);
        return rv;
    }
    *out = w;
    return 0;
}

static int check_schema(const char *schema, const char *name, const char *which)
{
    if (!schema)
        return 0;
    size_t len = strlen(schema);
    if (len > SCHEMA_MAX_BYTES)
        return po__client_fail(PO_EINVAL, "%s of capability %s has %zu bytes; at most %d", which,
                               name, len, SCHEMA_MAX_BYTES);
    if (len && !po__json_ok(po__str(schema)))
        return po__client_fail(PO_EINVAL, "%s of capability %s is not a JSON text", which, name);
    struct po__schema_error e;
    int rv = len ? po__schema_check(po__str(schema), &e) : 0;
    if (rv)
        return po__client_fail(rv, "%s of capability %s, at %s: %s", which, name,
                               po__schema_place(&e), e.text);
    return 0;
}

static int check_capability(const struct po_worker *w, const struct po_capability *c)
{
    if (!c->name || !po__capability_ok(po__str(c->name)))
        return po__client_fail(PO_EINVAL,
                               "capability \"%.128s\" is malformed; expected \"verb:name\", each "
                               "part of a-z 0-9 . _ -",
                               c->name ? c->name : "");
    if (c->version && !po__semver_ok(po__str(c->version)))
        return po__client_fail(PO_EINVAL,
                               "version \"%.128s\" of capability %s is no semantic version; "
                               "expected MAJOR.MINOR.PATCH",
                               c->version, c->name);
    if (c->max_concurrency > PO_CONCURRENCY_MAX)
        return po__client_fail(PO_EINVAL, "max_concurrency of capability %s is %u; expected 1..%d",
                               c->name, c->max_concurrency, PO_CONCURRENCY_MAX);
    int rv = check_schema(c->input_schema, c->name, "input_schema");
    rv = rv ? rv : check_schema(c->output_schema, c->name, "output_schema");
    if (rv)
        return rv;
    for (size_t i = 0; i < w->offered_count; i++)
        if (strcmp(w->offered[i].capability.name, c->name) == 0)
            return po__client_fail(PO_EEXISTS, "capability %s has a handler already", c->name);
    if (w->offered_count == PO_CAPABILITIES_MAX)
        return po__client_fail(PO_EQUOTA, "a worker offers at most %d capabilities",
                               PO_CAPABILITIES_MAX);
    return 0;
}

int po_worker_handle(po_worker *w, const struct po_capability *capability, po_task_handler handler,
                     void *arg)
{
    struct po_capability c;
    bool failed = false;
    if (!w || !capability)
        return po__client_fail(PO_EINVAL, "the worker or the capability is NULL");
    int rv = po__read_struct(&c, sizeof c, capability, "po_capability");
    if (!rv && w->phase != PO__WORKER_IDLE)
        rv = po__client_fail(PO_EINVAL, "worker %s runs already; add capabilities before", w->id);
    rv = rv ? rv : check_capability(w, &c);
    if (rv)
        return rv;
    c.size = sizeof c;
    c.max_concurrency = c.max_concurrency ? c.max_concurrency : 1;
    c.name = copy_text(c.name, &failed);
    c.version = copy_text(c.version, &failed);
    c.input_schema = copy_text(c.input_schema, &failed);
    c.output_schema = copy_text(c.output_schema, &failed);
    if (failed) {
        po__free((char *)c.name);
        po__free((char *)c.version);
        po__free((char *)c.input_schema);
        po__free((char *)c.output_schema);
        return po__client_fail(PO_ENOMEM, "out of memory for a capability");
    }
    w->offered[w->offered_count++] =
        (struct po__offered){.capability = c, .handler = handler, .arg = arg};
    w->slots += c.max_concurrency;
    if (w->slots_limit && w->slots > w->slots_limit)
        w->slots = w->slots_limit;
    return 0;
}

void po__worker_wake(struct po_worker *w)
{
    uint64_t one = 1;
    int saved = errno; /* this runs in signal handlers */
    /* Fails only if the counter is full, and then the reader is awake. */
    if (write(w->event_fd, &one, sizeof one) < 0)
        errno = saved;
    errno = saved;
}

void po_worker_stop(po_worker *w)
{
    if (!w)
        return;
    atomic_store(&w->stop, 1);
    po__worker_wake(w);
}

void po_worker_close(po_worker *w)
{
    if (!w)
        return;
    PO_PRE(w->phase == PO__WORKER_IDLE || w->phase == PO__WORKER_STOPPED);
    po__worker_end_threads(w);
    po__worker_forget_all(&w->cluster);
    po__worker_forget_all(&w->local);
    po_node_stop(w->standalone.ended);
    worker_free(w);
}

/* ---- while it runs ---- */

int po_worker_wait_ready(po_worker *w, uint32_t timeout_ms)
{
    if (!w || timeout_ms > PO_TIMEOUT_MAX_MS)
        return PO_EINVAL;
    struct timespec until = po__time_after(timeout_ms);
    int rv = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->ready && w->phase != PO__WORKER_STOPPED && rv == 0)
        rv = pthread_cond_timedwait(&w->changed, &w->lock, &until);
    rv = w->phase == PO__WORKER_STOPPED ? PO_ECLOSED : w->ready ? 0 : PO_ETIMEDOUT;
    pthread_mutex_unlock(&w->lock);
    return rv;
}

po_client *po_worker_client(po_worker *w)
{
    po_client *client = NULL;
    if (!w)
        return NULL;
    pthread_mutex_lock(&w->lock);
    if (w->standalone.node) {
        w->standalone.client_taken = true;
        client = po_node_client(w->standalone.node);
    }
    pthread_mutex_unlock(&w->lock);
    return client;
}

int po_worker_standalone_address(po_worker *w, char *address, size_t len)
{
    int rv = 0;
    if (!w || !address)
        return PO_EINVAL;
    pthread_mutex_lock(&w->lock);
    if (!w->standalone.node || !w->standalone.address[0])
        rv = PO_ENOTFOUND;
    else if (strlen(w->standalone.address) >= len)
        rv = PO_ETOOBIG;
    else
        snprintf(address, len, "%s", w->standalone.address);
    pthread_mutex_unlock(&w->lock);
    return rv;
}
