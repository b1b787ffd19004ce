/* Writing: what is queued in one turn of the loop is gathered in `out` and leaves in one write.
 * What the network does not take at once moves to `leaving`, which libuv writes when it can; the
 * next write waits for that. So there are at most two runs of bytes, and no list of small ones.
 *
 * How far the network got is counted to the byte, because it decides what a lost connection means:
 * the other side acts on whole messages only, so a request whose last byte the network never took
 * was not executed. */
#include "sp_conn.h"

#include <stdarg.h>
#include <stdio.h>

#include <pipeorch/error.h>
#include "../base/assert.h"
#include "../base/fsm.h"
#include "address.h"
#include "tcp.h"

enum { INIT, CONNECTING, OPEN, CLOSED };

static const uint32_t allowed[] = {
    [INIT] = PO__TO(CONNECTING) | PO__TO(OPEN) | PO__TO(CLOSED),
    [CONNECTING] = PO__TO(OPEN) | PO__TO(CLOSED),
    [OPEN] = PO__TO(CLOSED),
    [CLOSED] = 0,
};

int po__sp_conn_init(struct po__sp_conn *c, uv_loop_t *loop, const struct po__sp_conn_ops *ops,
                     uint16_t protocol, size_t message_max, char *read_memory)
{
    memset(c, 0, sizeof *c);
    int rv = uv_tcp_init(loop, &c->tcp);
    if (rv)
        return rv;
    c->tcp.data = c->connect.data = c->write.data = c->shutdown.data = c;
    c->ops = ops;
    c->protocol = protocol;
    c->read_memory = read_memory;
    c->state = INIT;
    po__sp_reader_init(&c->in, protocol == PO__SP_REP ? PO__SP_REQ : PO__SP_REP, message_max);
    po__buf_init(&c->out, PO__SP_QUEUE_MAX_BYTES);
    snprintf(c->remote, sizeof c->remote, "?");
    return 0;
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct po__sp_conn *c = handle->data;
    po__sp_reader_fini(&c->in);
    po__buf_fini(&c->out);
    po__buf_fini(&c->leaving);
    c->ops->freed(c);
}

void po__sp_conn_close(struct po__sp_conn *c, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    if (c->state == CLOSED)
        return;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    po__fsm_move(&c->state, CLOSED, allowed);
    c->ops->down(c, why);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

bool po__sp_conn_closed(const struct po__sp_conn *c)
{
    return c->state == CLOSED;
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct po__sp_conn *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->read_memory, PO__SP_READ_BYTES);
}

static void malformed(struct po__sp_conn *c, int code)
{
    if (code == PO_ENOMEM)
        po__sp_conn_close(c, "out of memory for a message of %zu bytes", c->in.message_len);
    else if (code == PO_ETOOBIG)
        po__sp_conn_close(c, "it announced a message longer than %zu bytes", c->in.message_max);
    else
        po__sp_conn_close(c, "it does not speak SP as %s",
                          c->protocol == PO__SP_REP ? "a requester (REQ)" : "a replier (REP)");
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct po__sp_conn *c = stream->data;
    struct po__slice message, input = po__slice(buf->base, n > 0 ? (size_t)n : 0);
    int event = PO__SP_GREETED; /* anything but MORE */
    if (n < 0) {
        c->lost = true;
        po__sp_conn_close(c, "%s", n == UV_EOF ? "closed by the other side" : uv_strerror((int)n));
        return;
    }
    while (event != PO__SP_MORE && c->state != CLOSED) {
        event = po__sp_read(&c->in, &input, &message);
        if (event < 0)
            malformed(c, event);
        else if (event == PO__SP_GREETED)
            c->ops->greeted(c);
        else if (event == PO__SP_MESSAGE)
            c->ops->message(c, message);
    }
    if (c->state != CLOSED)
        c->ops->received(c);
}

void po__sp_conn_pause(struct po__sp_conn *c)
{
    if (c->reading)
        uv_read_stop((uv_stream_t *)&c->tcp);
    c->reading = false;
}

void po__sp_conn_resume(struct po__sp_conn *c)
{
    if (!c->reading && c->state == OPEN)
        c->reading = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) == 0;
}

/* ---- writing ---- */

size_t po__sp_conn_waiting_bytes(const struct po__sp_conn *c)
{
    return c->out.len + uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

uint64_t po__sp_conn_taken_bytes(const struct po__sp_conn *c)
{
    return c->offered_bytes - uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
}

int po__sp_conn_queue(struct po__sp_conn *c, struct po__slice ids, struct po__slice body)
{
    uint8_t length[PO__SP_LENGTH_BYTES];
    size_t bytes = sizeof length + ids.len + body.len;
    PO_PRE(c->state == OPEN && !c->ended);
    if (po__sp_conn_waiting_bytes(c) + bytes > PO__SP_QUEUE_MAX_BYTES)
        return PO_EBUSY;
    if (po__buf_reserve(&c->out, bytes)) {
        c->out.err = 0; /* what was queued before still is */
        return PO_ENOMEM;
    }
    po__sp_length(length, ids.len + body.len);
    po__buf_append(&c->out, length, sizeof length);
    po__buf_append(&c->out, ids.data, ids.len);
    po__buf_append(&c->out, body.data, body.len);
    c->queued_bytes += bytes;
    return 0;
}

static void write_failed(struct po__sp_conn *c, int code)
{
    c->lost = true;
    po__sp_conn_close(c, "write failed: %s", uv_strerror(code));
}

static void on_written(uv_write_t *req, int status)
{
    struct po__sp_conn *c = req->data;
    c->writing = false;
    po__buf_fini(&c->leaving);
    if (c->state == CLOSED)
        return;
    if (status) {
        write_failed(c, status);
        return;
    }
    po__sp_conn_flush(c);
    if (c->state != CLOSED)
        c->ops->written(c);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req,
        (void)status; /* the other side's end of the connection follows, or the owner's time */
}

/* The network's buffer is full: libuv writes the rest when it is not. */
static void write_rest(struct po__sp_conn *c, size_t taken)
{
    c->leaving = c->out;
    c->out = (struct po__buf){.max_bytes = PO__SP_QUEUE_MAX_BYTES};
    uv_buf_t part =
        uv_buf_init((char *)c->leaving.data + taken, (unsigned)(c->leaving.len - taken));
    int rv = uv_write(&c->write, (uv_stream_t *)&c->tcp, &part, 1, on_written);
    c->writing = rv == 0;
    if (rv)
        write_failed(c, rv);
}

void po__sp_conn_flush(struct po__sp_conn *c)
{
    if (c->writing || c->state != OPEN)
        return;
    if (c->out.len) {
        uv_buf_t part = uv_buf_init((char *)c->out.data, (unsigned)c->out.len);
        int rv = uv_try_write((uv_stream_t *)&c->tcp, &part, 1);
        if (rv < 0 && rv != UV_EAGAIN) {
            write_failed(c, rv);
            return;
        }
        c->offered_bytes += c->out.len;
        if (rv < 0 || (size_t)rv < c->out.len) {
            write_rest(c, rv > 0 ? (size_t)rv : 0);
            return;
        }
        po__buf_fini(&c->out); /* an idle connection holds no memory */
    }
    if (c->ended && uv_is_writable((uv_stream_t *)&c->tcp))
        uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown);
}

void po__sp_conn_end(struct po__sp_conn *c)
{
    c->ended = true;
    po__sp_conn_flush(c);
}

/* ---- the beginning ---- */

int po__sp_conn_open(struct po__sp_conn *c)
{
    struct sockaddr_storage sa;
    uint8_t hello[PO__SP_HELLO_BYTES];
    int len = sizeof sa;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&sa, &len) == 0)
        po__address_format((struct sockaddr *)&sa, c->remote, sizeof c->remote);
    po__tcp_tune(&c->tcp);
    po__fsm_move(&c->state, OPEN, allowed);
    po__sp_hello(hello, c->protocol);
    if (po__buf_append(&c->out, hello, sizeof hello))
        return UV_ENOMEM;
    c->queued_bytes += sizeof hello;
    int rv = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    c->reading = rv == 0;
    return rv;
}

static void on_connected(uv_connect_t *req, int status)
{
    struct po__sp_conn *c = req->data;
    if (c->state == CLOSED)
        return;
    if (status == 0)
        status = po__sp_conn_open(c);
    if (status)
        po__sp_conn_close(c, "%s", uv_strerror(status));
    else
        po__sp_conn_flush(c);
}

int po__sp_conn_connect(struct po__sp_conn *c, const struct sockaddr *sa)
{
    po__address_format(sa, c->remote, sizeof c->remote);
    po__fsm_move(&c->state, CONNECTING, allowed);
    return uv_tcp_connect(&c->connect, &c->tcp, sa, on_connected);
}
