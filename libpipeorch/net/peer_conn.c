/* One connection between two nodes.
 *
 *   CONNECTING ──▶ HELLO ──▶ UP        dialled: connect, send our hello, wait for the peer's
 *        │           │        │        accepted: begins in HELLO, waits for the peer's, then sends
 * ours └───────────┴────────┴──▶ CLOSED
 *
 * The accepting side says nothing before it has read a hello that fits, so a stranger learns
 * nothing from it, and a dialler that gets no hello back knows that it was refused.
 *
 * Two nodes may dial each other at the same time. The dial of the higher id wins, and the accepting
 * side decides it: it refuses a connection while its own dial to that peer is in the handshake, or
 * was accepted within the handshake's time, if its own id is the higher one. In every other case a
 * node that dials has no connection any more, whatever we believe, so its new connection replaces
 * the old one. (A refused dial is repeated after the backoff, so a wrong guess costs milliseconds.)
 *
 * Writing: frames are queued as references; one writev takes all of them straight from the blocks
 * that they point into. What the kernel does not take at once goes to uv_write, and the next writev
 * waits for it. A failed write only marks the connection; the timer closes it, because
 * po__peers_send and po__peers_flush promise their caller not to call back. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "../base/crc32c.h"
#include "../base/fsm.h"
#include "../codec/mp.h"
#include "address.h"
#include "peer_internal.h"

static const uint32_t allowed[] = {
    [PO__CONN_CONNECTING] = PO__TO(PO__CONN_HELLO) | PO__TO(PO__CONN_CLOSED),
    [PO__CONN_HELLO] = PO__TO(PO__CONN_UP) | PO__TO(PO__CONN_CLOSED),
    [PO__CONN_UP] = PO__TO(PO__CONN_CLOSED),
    [PO__CONN_CLOSED] = 0,
};

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- life ---- */

struct po__peer_conn *po__peer_conn_new(struct po__peers *p)
{
    struct po__peer_conn *c = po__calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->in_cap = PO__PEER_HEADER_BYTES + PO__HELLO_MAX_BYTES;
    c->in = po__malloc(c->in_cap);
    if (!c->in || uv_tcp_init(p->loop, &c->tcp)) {
        po__free(c->in);
        po__free(c);
        return NULL;
    }
    c->owner = p;
    c->tcp.data = c->connect.data = c->write.data = c;
    c->state = PO__CONN_CONNECTING;
    po__list_init(&c->out);
    po__list_init(&c->dirty);
    po__list_push(&p->conns, &c->link);
    p->open_count++;
    snprintf(c->remote, sizeof c->remote, "?");
    return c;
}

static void freed(uv_handle_t *handle)
{
    struct po__peer_conn *c = handle->data;
    struct po__peers *p = c->owner;
    struct po__list *it;
    while ((it = po__list_pop(&c->out))) {
        struct po__peer_out *o = po__container_of(it, struct po__peer_out, link);
        po__frame_unref(o->frame);
        po__free(o);
    }
    po__list_remove(&c->link);
    po__free(c->in);
    po__free(c);
    po__peers_release(p);
}

void po__peer_conn_close(struct po__peer_conn *c, const char *fmt, ...)
{
    struct po__peers *p = c->owner;
    struct po__peer *peer = c->peer;
    struct po__peer_dial *dial = c->dial;
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    bool stranger = !c->dialled && c->state == PO__CONN_HELLO;
    po__fsm_move(&c->state, PO__CONN_CLOSED, allowed);
    po__list_remove(&c->dirty);
    c->peer = NULL;
    c->dial = NULL;
    uv_close((uv_handle_t *)&c->tcp, freed);
    if (stranger) {
        p->pending_count--;
        if (!p->closing && !c->spare)
            po__peers_log_stranger(p, c->remote, why);
    }
    if (dial) {
        snprintf(dial->why, sizeof dial->why, "%s", why);
        po__peer_dial_next(dial);
    }
    if (peer) {
        po__info(&p->opts.log, "peer.down", "connection with node %llu (%s) ended: %s",
                 (unsigned long long)peer->id, c->remote, why);
        if (peer->up == c) {
            peer->up = NULL;
            uint64_t id = peer->id;
            po__peer_lost(peer, p, uv_now(p->loop) - c->up_ms);
            if (!p->closing)
                p->opts.down(p->opts.arg, id);
        }
    }
}

/* ---- frames out ---- */

static void seal(struct po__peer_out *o, enum po__peer_channel chan)
{
    put_u32(o->header, o->frame->bytes + 1);
    o->header[8] = (uint8_t)chan;
    uint32_t crc = po__crc32c(0, o->header, 4);
    crc = po__crc32c(crc, o->header + 8, 1);
    for (uint32_t i = 0; i < o->frame->parts_count; i++)
        crc = po__crc32c(crc, o->frame->parts[i].data, o->frame->parts[i].len);
    put_u32(o->header + 4, crc);
}

/* Takes over the reference on success. */
int po__peer_conn_queue(struct po__peer_conn *c, enum po__peer_channel chan, struct po__frame *f)
{
    size_t bytes = (size_t)f->bytes + PO__PEER_HEADER_BYTES;
    PO_PRE(f->bytes <= PO__PEER_PAYLOAD_MAX_BYTES);
    if (c->out_bytes + bytes > PO__PEER_QUEUE_MAX_BYTES)
        return PO_EBUSY;
    struct po__peer_out *o = po__malloc(sizeof *o);
    if (!o)
        return PO_ENOMEM;
    o->frame = f;
    o->bytes = (uint32_t)bytes;
    seal(o, chan);
    po__list_push(&c->out, &o->link);
    c->out_bytes += bytes;
    if (po__list_empty(&c->dirty))
        po__list_push(&c->owner->dirty, &c->dirty);
    return 0;
}

/* Adds what is left of [data, data + len) behind the first *skip bytes. */
static unsigned add_part(uv_buf_t *iov, unsigned n, const void *data, size_t len, size_t *skip)
{
    if (*skip >= len) {
        *skip -= len;
        return n;
    }
    iov[n] = uv_buf_init((char *)data + *skip, (unsigned)(len - *skip));
    *skip = 0;
    return n + 1;
}

static unsigned gather(struct po__peer_conn *c, uv_buf_t *iov, size_t *bytes)
{
    unsigned n = 0;
    size_t skip = c->head_written;
    struct po__list *it;
    po__list_each(it, &c->out)
    {
        struct po__peer_out *o = po__container_of(it, struct po__peer_out, link);
        if (n == PO__PEER_IOV_MAX)
            break;
        n = add_part(iov, n, o->header, sizeof o->header, &skip);
        for (uint32_t i = 0; i < o->frame->parts_count && n < PO__PEER_IOV_MAX; i++)
            n = add_part(iov, n, o->frame->parts[i].data, o->frame->parts[i].len, &skip);
    }
    *bytes = 0;
    for (unsigned i = 0; i < n; i++)
        *bytes += iov[i].len;
    return n;
}

static void written(struct po__peer_conn *c, size_t bytes)
{
    c->out_bytes -= bytes;
    bytes += c->head_written;
    struct po__list *it;
    while ((it = po__list_first(&c->out))) {
        struct po__peer_out *o = po__container_of(it, struct po__peer_out, link);
        if (bytes < o->bytes)
            break;
        bytes -= o->bytes;
        po__list_remove(it);
        po__frame_unref(o->frame);
        po__free(o);
    }
    c->head_written = bytes;
}

static void write_failed(struct po__peer_conn *c)
{
    c->broken = true;
    po__peers_arm(c->owner);
}

static void write_done(uv_write_t *req, int status)
{
    struct po__peer_conn *c = req->data;
    c->writing = false;
    if (c->state == PO__CONN_CLOSED)
        return;
    if (status) {
        po__peer_conn_close(c, "write failed: %s", uv_strerror(status));
        return;
    }
    written(c, c->write_bytes);
    po__peer_conn_flush(c);
}

void po__peer_conn_flush(struct po__peer_conn *c)
{
    uv_buf_t *iov = c->owner->iov;
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    size_t bytes;
    po__list_remove(&c->dirty);
    if (c->broken || (c->peer && po__peers_is_cut(c->owner, c->peer->id)))
        return;
    while (!c->writing && !po__list_empty(&c->out)) {
        unsigned n = gather(c, iov, &bytes);
        int rv = uv_try_write(stream, iov, n);
        if (rv < 0 && rv != UV_EAGAIN) {
            write_failed(c);
            return;
        }
        if (rv > 0)
            written(c, (size_t)rv);
        if (rv >= 0 && (size_t)rv == bytes)
            continue;
        n = gather(c, iov, &c->write_bytes); /* the kernel's buffer is full */
        if (uv_write(&c->write, stream, iov, n, write_done)) {
            write_failed(c);
            return;
        }
        c->writing = true;
    }
}

/* ---- handshake ---- */

static int send_hello(struct po__peer_conn *c)
{
    struct po__buf b;
    po__buf_init(&b, PO__HELLO_MAX_BYTES);
    po__peer_hello_encode(&b, &c->owner->opts.self);
    int rv = b.err;
    if (!rv) {
        struct po__frame *f = po__peer_frame_copy(NULL, 0, b.data, b.len);
        rv = f ? po__peer_conn_queue(c, PO__CHAN_HELLO, f) : PO_ENOMEM;
        if (rv && f)
            po__frame_unref(f);
    }
    po__buf_fini(&b);
    if (rv)
        po__peer_conn_close(c, "cannot send the hello: %s", po_strerror(rv));
    else
        po__peer_conn_flush(c);
    return rv;
}

/* The peer has shown that it is of this cluster: it may know why it is refused. */
static void send_refusal(struct po__peer_conn *c, int code, const char *why)
{
    struct po__frame *f = po__peer_refusal(code, why);
    if (f && po__peer_conn_queue(c, PO__CHAN_REFUSED, f))
        po__frame_unref(f);
    po__peer_conn_flush(c); /* into the kernel's buffer: the connection is closed next */
}

static void on_refused(struct po__peer_conn *c, uint64_t peer_id, const uint8_t *data, size_t len)
{
    struct po__peers *p = c->owner;
    char why[PO__REFUSAL_MAX_BYTES];
    int code;
    if (po__peer_refusal_decode(data, len, &code, why, sizeof why)) {
        po__peer_conn_close(c, "its refusal is malformed");
        return;
    }
    /* A dialled peer that refuses will be dialled again and says the same: news only once. */
    struct po__peer *peer = po__peers_find(p, peer_id);
    bool news = !peer || peer->refused_code != code;
    if (peer)
        peer->refused_code = code;
    if (c->state == PO__CONN_HELLO)
        po__peer_conn_close(c, "refused: %s", why);
    if (news && p->opts.refused)
        p->opts.refused(p->opts.arg, peer_id, code, why);
}

/* NULL, or why this hello cannot be from the peer that we want. */
static const char *mismatch(const struct po__peer_conn *c, const struct po__peer_hello *hello,
                            char *text, size_t text_len)
{
    const struct po__peer_hello *self = &c->owner->opts.self;
    if (memcmp(hello->cluster_id, self->cluster_id, sizeof self->cluster_id) != 0)
        return "it belongs to another cluster";
    if (hello->node_id == 0)
        return "its node id is 0";
    if (hello->node_id == self->node_id) {
        snprintf(text, text_len,
                 "it says that it is node %llu, which is this node: an address that leads "
                 "back here, or a second node with this identity",
                 (unsigned long long)self->node_id);
        return text;
    }
    if (c->dial && hello->node_id != c->dial->peer->id) {
        snprintf(text, text_len, "node %llu answered there instead of node %llu",
                 (unsigned long long)hello->node_id, (unsigned long long)c->dial->peer->id);
        return text;
    }
    return NULL;
}

/* See on top: both sides dialled at once and ours is the one to keep. */
static bool ours_wins(const struct po__peers *p, const struct po__peer *peer,
                      const struct po__peer_hello *hello)
{
    if (p->opts.self.node_id < hello->node_id)
        return false;
    if (peer->dial && peer->dial->conn && peer->dial->conn->state == PO__CONN_HELLO)
        return true;
    const struct po__peer_conn *up = peer->up;
    return up && up->dialled && up->incarnation == hello->incarnation &&
           uv_now(p->loop) - up->up_ms < PO__HELLO_MS;
}

/* The hello was accepted: this is the connection with the peer from now on. */
static void become_up(struct po__peer_conn *c, struct po__peer *peer,
                      const struct po__peer_hello *hello)
{
    struct po__peers *p = c->owner;
    struct po__peer_conn *old = peer->up;
    if (c->dial) {
        po__peer_dial_done(c->dial);
        c->dial = NULL;
    } else {
        p->pending_count--;
        if (peer->dial)
            po__peer_dial_abandon(peer->dial);
    }
    po__fsm_move(&c->state, PO__CONN_UP, allowed);
    c->peer = peer;
    c->incarnation = hello->incarnation;
    c->up_ms = uv_now(p->loop);
    bool restarted = peer->incarnation && peer->incarnation != hello->incarnation;
    peer->incarnation = hello->incarnation;
    peer->lost = false;
    peer->up = c;
    peer->refused_code = 0;
    po__info(&p->opts.log, "peer.up", "connected with node %llu \"%s\" (zone %s) %s %s",
             (unsigned long long)hello->node_id, hello->name, hello->zone,
             c->dialled ? "at" : "from", c->remote);
    if (old) {
        po__peer_conn_close(old, "replaced by a new connection");
        p->opts.down(p->opts.arg, hello->node_id);
    }
    if (restarted && p->opts.gone && !p->closing)
        p->opts.gone(p->opts.arg, hello->node_id);
    po__peers_arm(p);
}

static void on_hello(struct po__peer_conn *c, const void *data, size_t len)
{
    struct po__peers *p = c->owner;
    struct po__peer_hello hello;
    char text[256] = "it was refused";
    int rv = po__peer_hello_decode(data, len, &hello);
    if (rv) {
        po__peer_conn_close(c, rv == PO_EVERSION ? "its hello has an unknown version"
                                                 : "its hello is malformed");
        return;
    }
    const char *why = mismatch(c, &hello, text, sizeof text);
    struct po__peer *peer = po__peers_find(p, hello.node_id);
    if (!why && po__peers_is_cut(p, hello.node_id)) {
        c->spare = true; /* no stranger */
        why = "a test has cut it off";
    }
    if (!why && !c->dialled && peer && ours_wins(p, peer, &hello)) {
        c->spare = true; /* everyday, and no stranger */
        why = "both nodes dialled at once, and the dial of the higher id is kept";
    }
    if (!why && (rv = p->opts.hello(p->opts.arg, &hello, text, sizeof text)) != 0) {
        why = text;
        if (!c->dialled)
            send_refusal(c, rv, text);
    }
    if (!why && !peer && !(peer = po__peers_find_or_add(p, hello.node_id)))
        why = "the table of peers is full";
    if (why) {
        po__peer_conn_close(c, "node %llu \"%s\": %s", (unsigned long long)hello.node_id,
                            hello.name, why);
        return;
    }
    /* Ours goes first: what the owner sends once the peer is up must not overtake it. */
    if (c->dialled || send_hello(c) == 0)
        become_up(c, peer, &hello);
}

/* ---- frames in ---- */

static void on_frame(struct po__peer_conn *c, uint8_t chan, const uint8_t *data, size_t len)
{
    struct po__peers *p = c->owner;
    if (c->state == PO__CONN_HELLO) {
        if (chan == PO__CHAN_HELLO)
            on_hello(c, data, len);
        else if (chan == PO__CHAN_REFUSED && c->dial)
            on_refused(c, c->dial->peer->id, data, len);
        else
            po__peer_conn_close(c, "a frame came before the hello");
        return;
    }
    bool forward = chan == PO__CHAN_FORWARD || chan == PO__CHAN_FORWARD_REPLY;
    if (chan == PO__CHAN_RAFT || (forward && len >= PO__PEER_CALL_ID_BYTES))
        p->opts.frame(p->opts.arg, c->peer->id, (enum po__peer_channel)chan, data, len);
    else if (chan == PO__CHAN_REFUSED)
        on_refused(c, c->peer->id, data, len);
    else
        po__peer_conn_close(c, "malformed frame: channel %u with %zu bytes", chan, len);
}

/* Takes one frame off [data, data + len). Returns its size, 0 if there is more to come (*need then
 * is the size that it will have), or 0 with the connection closed. */
static size_t take_frame(struct po__peer_conn *c, const uint8_t *data, size_t len, size_t *need)
{
    size_t payload_max =
        c->state == PO__CONN_HELLO ? PO__HELLO_MAX_BYTES : PO__PEER_PAYLOAD_MAX_BYTES;
    if (len < PO__PEER_HEADER_BYTES)
        return 0;
    uint32_t length = get_u32(data);
    if (length < 1 || length - 1 > payload_max) {
        po__peer_conn_close(c, "no frame of this protocol: length %u, expected 1 to %zu", length,
                            payload_max + 1);
        return 0;
    }
    *need = PO__PEER_HEADER_BYTES + (size_t)length - 1;
    if (len < *need)
        return 0;
    uint32_t crc = po__crc32c(0, data, 4);
    crc = po__crc32c(crc, data + 8, length);
    if (crc != get_u32(data + 4)) {
        po__peer_conn_close(c, "a frame of %u bytes has a wrong checksum", length);
        return 0;
    }
    on_frame(c, data[8], data + PO__PEER_HEADER_BYTES, length - 1);
    return *need;
}

/* Room for the frame that is arriving, and not for ever for the largest one that ever came. */
static int resize_in(struct po__peer_conn *c, size_t need)
{
    size_t want = c->in_cap;
    if (need > c->in_cap)
        want = need;
    else if (c->state == PO__CONN_UP && c->in_cap < PO__PEER_READ_BYTES)
        want = PO__PEER_READ_BYTES;
    else if (c->in_len == 0 && c->in_cap > PO__PEER_READ_KEEP_BYTES)
        want = PO__PEER_READ_BYTES;
    if (want == c->in_cap)
        return 0;
    uint8_t *in = po__realloc(c->in, want);
    if (!in)
        return PO_ENOMEM;
    c->in = in;
    c->in_cap = want;
    return 0;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct po__peer_conn *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init((char *)c->in + c->in_len, (unsigned)(c->in_cap - c->in_len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct po__peer_conn *c = stream->data;
    size_t off = 0, need = 0, took;
    (void)buf;
    if (n < 0) {
        if (n == UV_EOF && c->state == PO__CONN_HELLO && c->dialled)
            po__peer_conn_close(c,
                                "%s closed the connection without a hello: it refused this "
                                "node, its log says why",
                                c->remote);
        else
            po__peer_conn_close(c, "%s",
                                n == UV_EOF ? "closed by the other side" : uv_strerror((int)n));
        return;
    }
    c->in_len += (size_t)n;
    do {
        need = 0;
        took = take_frame(c, c->in + off, c->in_len - off, &need);
        if (c->state == PO__CONN_CLOSED)
            return;
        off += took;
    } while (took);
    c->in_len -= off;
    if (off && c->in_len)
        memmove(c->in, c->in + off, c->in_len);
    if (resize_in(c, need))
        po__peer_conn_close(c, "out of memory for a frame of %zu bytes", need);
}

void po__peer_conn_hold(struct po__peer_conn *c, bool held)
{
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    if (held) {
        uv_read_stop(stream);
        return;
    }
    int rv = uv_read_start(stream, on_alloc, on_read);
    if (rv && rv != UV_EALREADY)
        write_failed(c); /* the timer closes it */
    po__peer_conn_flush(c);
}

/* ---- beginnings ---- */

static void begin_hello(struct po__peer_conn *c)
{
    po__tcp_tune(&c->tcp);
    po__fsm_move(&c->state, PO__CONN_HELLO, allowed);
    c->deadline_ms = uv_now(c->owner->loop) + PO__HELLO_MS;
    if (!c->dialled)
        c->owner->pending_count++;
    int rv = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (rv) {
        po__peer_conn_close(c, "cannot read: %s", uv_strerror(rv));
        return;
    }
    po__peers_arm(c->owner);
    if (c->dialled)
        send_hello(c);
}

static void connected(uv_connect_t *req, int status)
{
    struct po__peer_conn *c = req->data;
    if (c->state == PO__CONN_CLOSED)
        return;
    if (status == UV_ECONNREFUSED && c->dial)
        c->dial->refused++;
    if (status)
        po__peer_conn_close(c, "cannot connect to %s: %s", c->remote, uv_strerror(status));
    else
        begin_hello(c);
}

int po__peer_conn_connect(struct po__peer_conn *c, const struct sockaddr *sa)
{
    po__address_format(sa, c->remote, sizeof c->remote);
    c->deadline_ms = uv_now(c->owner->loop) + PO__CONNECT_MS;
    return uv_tcp_connect(&c->connect, &c->tcp, sa, connected);
}

void po__peer_conn_accepted(struct po__peer_conn *c)
{
    struct sockaddr_storage sa;
    int len = sizeof sa;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&sa, &len) == 0)
        po__address_format((struct sockaddr *)&sa, c->remote, sizeof c->remote);
    begin_hello(c);
}
