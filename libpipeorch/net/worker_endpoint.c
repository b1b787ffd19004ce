/* The worker endpoint: SP REP (sp.h) in the clear, on the owner's loop.
 *
 * Why it is our own: a request costs 9 us of a node's processor here against 16 us with nng 1.5,
 * there is one descriptor for a connection and no thread pool in the process, a fork harms nothing,
 * and above all a dying connection ends. In nng 1.5 (and the TCP transport of all 1.x of that
 * shape) a transfer that was cut in two is continued on an operation which closing the pipe may
 * have stopped in the meantime; that is neither carried out nor reported, and nng's only reaper
 * thread waits for it for ever: from then on no connection of the process is ever closed, reported
 * lost or dialled again. A controller that dies while a large result leaves is enough.
 *
 * A request is handed to the owner while it is in the read buffer, and then forgotten but for its
 * stack of ids: a poll that is parked for hours costs one struct po__endpoint_call. The answer is
 * appended to its connection's queue, and leaves with all others of this turn of the loop.
 *
 * Bounds. Requests without an answer are counted, and their bytes, because the owner holds a copy:
 * in total and for each connection; beyond them the endpoint itself answers PO_EBUSY. A connection
 * with much unread is not read from until that has left, and is closed if answers to what it asked
 * before exceed PO__SP_QUEUE_MAX_BYTES, or all connections' QUEUED_MAX_BYTES; one that takes
 * nothing for PO__USER_TIMEOUT_MS is closed by the kernel. A stranger can hold a connection
 * without a hello for PO__SP_HELLO_MS, and only PENDING_MAX of those are held (the longest silent
 * one makes room). A message that arrives in pieces is held as far as it came, all of them together
 * up to ARRIVING_MAX_BYTES.
 *
 * Closing: for QUIET_MS requests are turned away with PO_ECLOSED, so that those who ask now know
 * that nothing was done; then each connection's end is announced behind its last answer, and the
 * other side closes it. Closing at once would reset connections with unread requests, and with them
 * answers that are still under way. */
#include "worker_endpoint.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../base/alloc.h"
#include "../base/assert.h"
#include "../base/list.h"
#include "address.h"
#include "peer.h"
#include "sp_conn.h"
#include "tcp.h"

#define LISTEN_BACKLOG       1024
#define CONNECTIONS_MAX      32768
#define DESCRIPTORS_RESERVED 128   /* of what the process may open: for the log, peers, the owner */
#define PENDING_MAX          1024  /* connections without a hello */
#define CALLS_MAX            65536 /* requests without an answer */
#define CONN_CALLS_MAX       8192  /* of one connection: twice what our own clients send */
#define CALLS_MAX_BYTES      (256u << 20) /* of those requests */
#define PAUSE_BYTES          (1u << 20)   /* unread by a connection: its requests wait */
#define RESUME_BYTES         (256u << 10)
#define QUEUED_MAX_BYTES     (256u << 20) /* unread by all of them */
#define ARRIVING_MAX_BYTES   (256u << 20) /* of incomplete requests */
#define QUIET_MS             20
#define STRANGER_LOG_MS      1000 /* at most one line about refused connections in this time */
#define MESSAGE_MAX_BYTES    (PO__REQUEST_MAX_BYTES + PO__SP_IDS_MAX_BYTES)

struct conn {
    struct po__sp_conn sp; /* first */
    struct po__endpoint *endpoint;
    struct po__list link;    /* in `conns` */
    struct po__list pending; /* in `pending`, until its hello */
    struct po__list dirty;   /* in `dirty`: something to flush */
    struct po__list calls;
    unsigned calls_count;
    uint64_t id;
    uint64_t hello_until_ms;
    const char *doomed;      /* why flush closes it; NULL: it does not */
    size_t counted_queued;   /* its part of queued_bytes */
    size_t counted_arriving; /* its part of arriving_bytes */
};

struct po__endpoint_call {
    struct po__list link; /* in its connection's calls; alone once that has ended */
    struct po__endpoint *endpoint;
    struct conn *conn; /* NULL: has ended */
    size_t request_bytes;
    size_t ids_len;
    char ids[PO__SP_IDS_MAX_BYTES];
};

struct po__endpoint {
    struct po__endpoint_opts opts; /* listen is not kept */
    char address[PO_ADDRESS_MAX_BYTES + 1];
    int fd; /* until it is the loop's; -1 */
    uv_loop_t *loop;
    uv_tcp_t listener;
    uv_timer_t timer;
    unsigned handles; /* listener, timer and connections that libuv has not let go */
    struct po__list conns, pending, dirty;
    unsigned conns_count, conns_max, pending_count;
    size_t calls_count, calls_bytes, queued_bytes, arriving_bytes;
    uint64_t next_conn;
    uint64_t stranger_log_ms, strangers_unlogged;
    bool severed, closing, ending;
    uint64_t ending_ms, closed_ms;
    void (*closed)(void *arg);
    void *closed_arg;
    struct po__buf busy;    /* the encoded answer to requests beyond the bounds */
    struct po__buf stopped; /* and to those that come while it closes */
    char read_memory[PO__SP_READ_BYTES];
};

static struct conn *conn_of(struct po__sp_conn *sp)
{
    return po__container_of(sp, struct conn, sp);
}

static void arm(struct po__endpoint *e);

/* ---- calls and answers ---- */

static void account(struct conn *c)
{
    struct po__endpoint *e = c->endpoint;
    size_t queued = po__sp_conn_waiting_bytes(&c->sp), arriving = c->sp.in.body.len;
    e->queued_bytes += queued - c->counted_queued;
    e->arriving_bytes += arriving - c->counted_arriving;
    c->counted_queued = queued;
    c->counted_arriving = arriving;
}

/* Closed by the next flush, because whoever answers is not called back. */
static void doom(struct conn *c, const char *why)
{
    c->doomed = why;
}

static void queue(struct conn *c, struct po__slice ids, struct po__slice body)
{
    struct po__endpoint *e = c->endpoint;
    if (c->doomed || c->sp.ended)
        return;
    int rv = po__sp_conn_queue(&c->sp, ids, body);
    account(c);
    if (rv == PO_ENOMEM)
        doom(c, "out of memory for an answer");
    else if (rv || e->queued_bytes > QUEUED_MAX_BYTES)
        doom(c, "it does not read the answers to what it asks");
    else if (c->counted_queued > PAUSE_BYTES)
        po__sp_conn_pause(&c->sp);
    if (po__list_empty(&c->dirty))
        po__list_push(&e->dirty, &c->dirty);
}

static void call_free(struct po__endpoint_call *call)
{
    struct po__endpoint *e = call->endpoint;
    if (call->conn)
        call->conn->calls_count--;
    po__list_remove(&call->link);
    e->calls_count--;
    e->calls_bytes -= call->request_bytes;
    po__free(call);
}

void po__endpoint_answer(struct po__endpoint_call *call, const void *data, size_t len)
{
    if (call->conn)
        queue(call->conn, po__slice(call->ids, call->ids_len), po__slice(data, len));
    call_free(call);
}

void po__endpoint_drop(struct po__endpoint_call *call)
{
    call_free(call);
}

static struct po__endpoint_call *call_new(struct conn *c, struct po__slice ids, size_t bytes)
{
    struct po__endpoint *e = c->endpoint;
    if (e->calls_count >= CALLS_MAX || c->calls_count >= CONN_CALLS_MAX ||
        e->calls_bytes + bytes > CALLS_MAX_BYTES)
        return NULL;
    struct po__endpoint_call *call = po__malloc(sizeof *call);
    if (!call)
        return NULL;
    *call = (struct po__endpoint_call){
        .endpoint = e, .conn = c, .request_bytes = bytes, .ids_len = ids.len};
    memcpy(call->ids, ids.data, ids.len);
    po__list_push(&c->calls, &call->link);
    c->calls_count++;
    e->calls_count++;
    e->calls_bytes += bytes;
    return call;
}

/* ---- connections ---- */

static void log_stranger(struct po__endpoint *e, const char *remote, const char *why)
{
    uint64_t now = uv_now(e->loop);
    if (e->stranger_log_ms && now - e->stranger_log_ms < STRANGER_LOG_MS) {
        e->strangers_unlogged++;
        return;
    }
    e->stranger_log_ms = now ? now : 1;
    po__warn(&e->opts.log, "worker.refused",
             "connection from %s closed: %s (%llu more since the last such line)", remote, why,
             (unsigned long long)e->strangers_unlogged);
    e->strangers_unlogged = 0;
}

static void on_greeted(struct po__sp_conn *sp)
{
    struct conn *c = conn_of(sp);
    po__list_remove(&c->pending);
    c->endpoint->pending_count--;
}

static void on_message(struct po__sp_conn *sp, struct po__slice message)
{
    struct conn *c = conn_of(sp);
    struct po__endpoint *e = c->endpoint;
    size_t ids_len = po__sp_ids_len(message);
    struct po__slice ids = po__slice(message.data, ids_len);
    struct po__slice body = po__slice(message.data + ids_len, message.len - ids_len);
    if (ids_len == 0) {
        po__sp_conn_close(sp, "a request of %zu bytes does not begin with request ids",
                          message.len);
        return;
    }
    if (c->doomed)
        return;
    struct po__endpoint_call *call = e->closing ? NULL : call_new(c, ids, body.len);
    if (call)
        e->opts.request(e->opts.arg, call, c->id, body.data, body.len);
    else
        queue(c, ids, po__buf_slice(e->closing ? &e->stopped : &e->busy));
    if (e->closing)
        po__endpoint_flush(e); /* the owner has stopped to */
}

static void on_received(struct po__sp_conn *sp)
{
    struct conn *c = conn_of(sp);
    account(c);
    if (c->endpoint->arriving_bytes > ARRIVING_MAX_BYTES)
        po__sp_conn_close(sp, "too many bytes of incomplete requests are held (%u)",
                          ARRIVING_MAX_BYTES);
}

static void on_written(struct po__sp_conn *sp)
{
    struct conn *c = conn_of(sp);
    account(c);
    if (!c->doomed && c->counted_queued < RESUME_BYTES)
        po__sp_conn_resume(sp);
}

static void on_down(struct po__sp_conn *sp, const char *why)
{
    struct conn *c = conn_of(sp);
    struct po__endpoint *e = c->endpoint;
    struct po__list *l;
    bool stranger = !sp->in.greeted;
    while ((l = po__list_pop(&c->calls)))
        po__container_of(l, struct po__endpoint_call, link)->conn = NULL;
    e->queued_bytes -= c->counted_queued;
    e->arriving_bytes -= c->counted_arriving;
    e->pending_count -= stranger;
    e->conns_count--;
    po__list_remove(&c->link);
    po__list_remove(&c->pending);
    po__list_remove(&c->dirty);
    bool over = e->closing || e->severed;
    if (!over && (stranger || !sp->lost))
        log_stranger(e, sp->remote, why);
    else
        po__debug(&e->opts.log, "worker.down", "connection from %s ended: %s", sp->remote, why);
    if (!stranger && !over)
        e->opts.closed(e->opts.arg, c->id);
}

static void release(struct po__endpoint *e);

static void on_freed(struct po__sp_conn *sp)
{
    struct conn *c = conn_of(sp);
    struct po__endpoint *e = c->endpoint;
    po__free(c);
    release(e);
}

static const struct po__sp_conn_ops conn_ops = {
    .greeted = on_greeted,
    .message = on_message,
    .received = on_received,
    .written = on_written,
    .down = on_down,
    .freed = on_freed,
};

static struct conn *conn_new(struct po__endpoint *e)
{
    struct conn *c = po__calloc(1, sizeof *c);
    if (!c || po__sp_conn_init(&c->sp, e->loop, &conn_ops, PO__SP_REP, MESSAGE_MAX_BYTES,
                               e->read_memory)) {
        po__free(c);
        return NULL;
    }
    c->endpoint = e;
    c->id = ++e->next_conn;
    c->hello_until_ms = uv_now(e->loop) + PO__SP_HELLO_MS;
    po__list_init(&c->dirty);
    po__list_init(&c->calls);
    po__list_push(&e->conns, &c->link);
    po__list_push(&e->pending, &c->pending);
    e->conns_count++;
    e->pending_count++;
    e->handles++;
    return c;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct po__endpoint *e = listener->data;
    struct po__list *oldest = po__list_first(&e->pending);
    if (status || e->closing || e->severed)
        return; /* e.g. out of descriptors: libuv sheds the connection */
    if (e->pending_count >= PENDING_MAX)
        po__sp_conn_close(&po__container_of(oldest, struct conn, pending)->sp,
                          "too many connections without a hello (%d)", PENDING_MAX);
    struct conn *c = conn_new(e);
    if (!c) {
        po__error(&e->opts.log, "worker.memory", "out of memory for a connection");
        return;
    }
    int rv = uv_accept(listener, (uv_stream_t *)&c->sp.tcp);
    if (rv == 0)
        rv = po__sp_conn_open(&c->sp);
    if (rv)
        po__sp_conn_close(&c->sp, "accept failed: %s", uv_strerror(rv));
    else if (e->conns_count > e->conns_max)
        po__sp_conn_close(&c->sp, "the node has %u connections already", e->conns_max);
    else
        po__sp_conn_flush(&c->sp);
    arm(e);
}

/* ---- the turn of the loop, and time ---- */

void po__endpoint_flush(struct po__endpoint *e)
{
    struct po__list *l;
    while ((l = po__list_pop(&e->dirty))) {
        struct conn *c = po__container_of(l, struct conn, dirty);
        if (c->doomed) {
            po__sp_conn_close(&c->sp, "%s", c->doomed);
            continue;
        }
        po__sp_conn_flush(&c->sp);
        if (!po__sp_conn_closed(&c->sp))
            on_written(&c->sp);
    }
}

static void close_conns(struct po__endpoint *e)
{
    struct po__list *l;
    while ((l = po__list_first(&e->conns)))
        po__sp_conn_close(&po__container_of(l, struct conn, link)->sp, "the node has stopped");
}

static void end_conns(struct po__endpoint *e)
{
    struct po__list *l = e->conns.next;
    while (l != &e->conns) {
        struct conn *c = po__container_of(l, struct conn, link);
        l = l->next; /* a failed write ends the connection */
        po__list_remove(&c->dirty);
        po__sp_conn_resume(&c->sp); /* its end is waited for */
        po__sp_conn_end(&c->sp);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct po__endpoint *e = timer->data;
    uint64_t now = uv_now(e->loop);
    struct po__list *l;
    while ((l = po__list_first(&e->pending))) {
        struct conn *c = po__container_of(l, struct conn, pending);
        if (c->hello_until_ms > now)
            break;
        po__sp_conn_close(&c->sp, "no hello in %d ms", PO__SP_HELLO_MS);
    }
    if (e->closing && now >= e->ending_ms && !e->ending) {
        e->ending = true;
        end_conns(e);
    }
    if (e->closing && now >= e->closed_ms) {
        e->closed_ms =
            UINT64_MAX; /* nothing is due any more: libuv would run a timer without end */
        close_conns(e);
    }
    arm(e);
}

/* The timer is set to what is due next: a hello, or a step of closing. */
static void arm(struct po__endpoint *e)
{
    uint64_t now = uv_now(e->loop), due = UINT64_MAX;
    struct po__list *l = po__list_first(&e->pending);
    if (uv_is_closing((uv_handle_t *)&e->timer))
        return;
    if (l)
        due = po__container_of(l, struct conn, pending)->hello_until_ms;
    if (e->closing)
        due = e->ending ? e->closed_ms : e->ending_ms;
    if (due == UINT64_MAX)
        uv_timer_stop(&e->timer);
    else
        uv_timer_start(&e->timer, on_timer, due > now ? due - now : 0, 0);
}

/* ---- opening and closing ---- */

const char *po__endpoint_address(const struct po__endpoint *e)
{
    return e->address;
}

static void endpoint_free(struct po__endpoint *e)
{
    void (*closed)(void *) = e->closed;
    void *arg = e->closed_arg;
    PO_PRE(e->calls_count == 0); /* every call was answered or dropped */
    if (e->fd >= 0)
        close(e->fd);
    po__buf_fini(&e->busy);
    po__buf_fini(&e->stopped);
    po__free(e);
    if (closed)
        closed(arg);
}

static unsigned connections_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur <= 2 * DESCRIPTORS_RESERVED)
        return DESCRIPTORS_RESERVED;
    rlim_t max = limit.rlim_cur - DESCRIPTORS_RESERVED;
    return max < CONNECTIONS_MAX ? (unsigned)max : CONNECTIONS_MAX;
}

static struct po__endpoint *endpoint_new(const struct po__endpoint_opts *opts)
{
    struct po__endpoint *e = po__calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->opts = *opts;
    e->opts.listen = NULL;
    e->fd = -1;
    e->conns_max = connections_max();
    po__list_init(&e->conns);
    po__list_init(&e->pending);
    po__list_init(&e->dirty);
    po__response_begin(&e->busy, PO_EBUSY,
                       po__str("the node has too many requests under way; try again later"),
                       po__str(""), 0, 0);
    po__response_begin(&e->stopped, PO_ECLOSED, po__str("the node is stopping; ask another one"),
                       po__str(""), 0, 0);
    if (e->busy.err || e->stopped.err) {
        endpoint_free(e);
        return NULL;
    }
    return e;
}

int po__endpoint_open(struct po__endpoint **out, const struct po__endpoint_opts *opts, char *error,
                      size_t error_len)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port_text[PO__ADDRESS_PORT_MAX_BYTES + 1];
    uint16_t port;
    PO_PRE(opts->request && opts->closed);
    int rv = po__address_parse(opts->listen, host, sizeof host, port_text, sizeof port_text, error,
                               error_len);
    if (rv)
        return rv;
    struct po__endpoint *e = endpoint_new(opts);
    if (!e) {
        snprintf(error, error_len, "out of memory for the worker endpoint");
        return PO_ENOMEM;
    }
    e->fd = po__tcp_listen(opts->listen, LISTEN_BACKLOG, &port, error, error_len);
    if (e->fd < 0) {
        endpoint_free(e);
        return PO_EADDR;
    }
    int len = snprintf(e->address, sizeof e->address, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
                       port);
    if (len >= (int)sizeof e->address) {
        snprintf(error, error_len, "address %s is too long with the port %u that it got",
                 opts->listen, port);
        endpoint_free(e);
        return PO_EADDR;
    }
    *out = e;
    return 0;
}

int po__endpoint_start(struct po__endpoint *e, uv_loop_t *loop, char *error, size_t error_len)
{
    PO_PRE(!e->loop);
    int rv = uv_tcp_init(loop, &e->listener);
    if (rv == 0) {
        e->loop = loop;
        uv_timer_init(loop, &e->timer);
        e->listener.data = e->timer.data = e;
        e->handles = 2;
        rv = uv_tcp_open(&e->listener, e->fd);
    }
    if (rv == 0) {
        e->fd = -1;
        rv = uv_listen((uv_stream_t *)&e->listener, LISTEN_BACKLOG, on_connection);
    }
    if (rv)
        snprintf(error, error_len, "cannot listen on %s: %s", e->address, uv_strerror(rv));
    return rv ? PO_EADDR : 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void release(struct po__endpoint *e)
{
    e->handles--;
    if (e->handles == 0)
        endpoint_free(e);
    else if (e->handles == 1 && e->closing && !uv_is_closing((uv_handle_t *)&e->timer))
        uv_close((uv_handle_t *)&e->timer, on_handle_closed); /* it outlives the connections */
}

void po__endpoint_sever(struct po__endpoint *e)
{
    PO_PRE(e->loop && !e->closing);
    e->severed = true;
    close_conns(e);
}

void po__endpoint_close(struct po__endpoint *e, void (*closed)(void *arg), void *arg)
{
    struct po__list *l;
    PO_PRE(!e->closing && e->calls_count == 0);
    e->closing = true;
    e->closed = closed;
    e->closed_arg = arg;
    if (!e->loop) {
        endpoint_free(e);
        return;
    }
    uv_close((uv_handle_t *)&e->listener, on_handle_closed);
    while ((l = po__list_first(&e->pending)))
        po__sp_conn_close(&po__container_of(l, struct conn, pending)->sp, "the node has stopped");
    po__endpoint_flush(e);
    uv_update_time(e->loop);
    e->ending_ms = uv_now(e->loop) + (e->conns_count ? QUIET_MS : 0);
    e->closed_ms = uv_now(e->loop) + PO__ENDPOINT_LINGER_MS;
    arm(e);
}
