#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>

#include "../base/alloc.h"
#include "client_internal.h"
#include "nng_close.h"

#define REQUEST_ID_BIT UINT32_C(0x80000000) /* SP: marks the last id of a request's header */

static void on_received(void *arg)
{
    struct po__lane *lane = arg;
    uint32_t id;
    if (nng_aio_result(lane->recv))
        return; /* closing */
    nng_msg *msg = nng_aio_get_msg(lane->recv);
    nng_aio_set_msg(lane->recv, NULL);
    if (nng_msg_header_trim_u32(msg, &id) == 0)
        po__channel_on_reply(lane, id & ~REQUEST_ID_BIT, nng_msg_body(msg), nng_msg_len(msg));
    nng_msg_free(msg);
    nng_recv_aio(lane->socket, lane->recv);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct po__lane *lane = arg;
    /* ADD_PRE, because ADD_POST may come after REM_POST; what is sent before the pipe runs waits in
     * nng's queue. */
    if (ev == NNG_PIPE_EV_ADD_PRE)
        po__channel_on_up(lane, (uint32_t)nng_pipe_id(pipe));
    else
        po__channel_on_down(lane, (uint32_t)nng_pipe_id(pipe));
}

static int set_options(struct po__lane *lane)
{
    nng_socket s = lane->socket;
    int rv = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, PO__REQUEST_MAX_BYTES);
    if (!rv)
        rv = nng_socket_set_int(s, NNG_OPT_RECVBUF, PO__LANE_QUEUE_MSGS);
    if (!rv)
        rv = nng_socket_set_int(s, NNG_OPT_SENDBUF, PO__LANE_QUEUE_MSGS);
    if (!rv)
        rv = nng_socket_set_ms(s, NNG_OPT_RECONNMINT, PO__RECONNECT_MIN_MS);
    if (!rv)
        rv = nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, PO__RECONNECT_MAX_MS);
    if (!rv)
        rv = nng_pipe_notify(s, NNG_PIPE_EV_ADD_PRE, on_pipe, lane);
    if (!rv)
        rv = nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, on_pipe, lane);
    return rv;
}

static int dial(struct po__lane *lane)
{
    char url[PO_ADDRESS_MAX_BYTES + 16];
    nng_dialer dialer;
    snprintf(url, sizeof url, "tcp://%s", lane->target->address);
    int rv = nng_dialer_create(&dialer, lane->socket, url);
    if (rv)
        return rv;
    nng_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);
    nng_dialer_set_bool(dialer, NNG_OPT_TCP_KEEPALIVE, true);
    return nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
}

int po__lane_open(struct po__lane **out, struct po__nng_channel *channel, struct po__target *target)
{
    struct po__lane *lane = po__calloc(1, sizeof *lane);
    if (!lane)
        return PO_ENOMEM;
    lane->channel = channel;
    lane->target = target;
    po__list_init(&lane->calls);
    int rv = nng_req0_open_raw(&lane->socket);
    if (rv)
        goto err_after_alloc;
    rv = set_options(lane);
    if (!rv)
        rv = nng_aio_alloc(&lane->recv, on_received, lane);
    if (!rv)
        rv = nng_aio_alloc(&lane->send, NULL, NULL);
    if (rv)
        goto err_after_open;
    nng_aio_set_timeout(lane->send, NNG_DURATION_ZERO);
    rv = dial(lane);
    if (rv)
        goto err_after_open;
    nng_recv_aio(lane->socket, lane->recv);
    *out = lane;
    return 0;

err_after_open:
    nng_close(lane->socket); /* nothing was dialled, so nothing waits for the channel's lock */
    nng_aio_free(lane->recv);
    nng_aio_free(lane->send);
err_after_alloc:
    po__free(lane);
    return rv == NNG_ENOMEM ? PO_ENOMEM : PO_EADDR;
}

int po__lane_send(struct po__lane *lane, uint32_t id, const void *data, size_t len)
{
    nng_msg *msg;
    if (nng_msg_alloc(&msg, len))
        return PO_ENOMEM;
    memcpy(nng_msg_body(msg), data, len);
    int rv = nng_msg_header_append_u32(msg, id | REQUEST_ID_BIT);
    if (!rv) {
        nng_aio_set_msg(lane->send, msg);
        nng_send_aio(lane->socket, lane->send);
        nng_aio_wait(lane->send); /* decided already: no callback, no timeout */
        rv = nng_aio_result(lane->send);
    }
    if (!rv)
        return 0;
    nng_aio_set_msg(lane->send, NULL);
    nng_msg_free(msg);
    return rv == NNG_ENOMEM ? PO_ENOMEM : PO_EBUSY;
}

int po__lane_stop(struct po__lane *lane)
{
    /* In this order: a receive that is posted while nng closes the socket would wait on its freed
     * queue. */
    nng_aio_stop(lane->recv); /* waits for its callback */
    return po__nng_close(lane->socket);
}

void po__lane_free(struct po__lane *lane)
{
    nng_aio_free(lane->recv);
    nng_aio_free(lane->send);
    po__free(lane);
}
