/* Reaching out to a peer.
 *
 * The name is resolved for every dial, because addresses of a name change while a cluster lives;
 * literal addresses do not wait for libuv's thread pool. All addresses are tried in the resolver's
 * order; if none answers, the next dial waits a doubling time, drawn from its upper half so that
 * nodes that lost each other together do not return together. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "../base/alloc.h"
#include "address.h"
#include "peer_internal.h"

static uint64_t backoff_ms(struct po__peers *p, uint32_t failures)
{
    uint64_t ms = PO__BACKOFF_MIN_MS;
    for (uint32_t i = 1; i < failures && ms < PO__BACKOFF_MAX_MS; i++)
        ms *= 2;
    if (ms > PO__BACKOFF_MAX_MS)
        ms = PO__BACKOFF_MAX_MS;
    return ms / 2 + po__peers_random(p) % (ms / 2 + 1);
}

static void dial_free(struct po__peer_dial *dial)
{
    if (dial->addresses)
        freeaddrinfo(dial->addresses);
    po__free(dial);
}

void po__peer_dial_later(struct po__peer *peer, struct po__peers *p)
{
    uint64_t ms;
    peer->failures++;
    if (peer->lost && peer->redials) {
        /* A process that ends closes its connections one by one: its listener may still have
         * accepted the last dial, to reset it. It will not take long. */
        ms = (uint64_t)PO__REDIAL_FIRST_MS << (PO__REDIALS_MAX - peer->redials);
        peer->redials--;
    } else {
        ms = backoff_ms(p, peer->failures);
    }
    peer->dial_at_ms = uv_now(p->loop) + ms;
    po__peers_arm(p);
}

static void failed(struct po__peer *peer, struct po__peers *p, const char *why)
{
    po__peer_dial_later(peer, p);
    /* The first failure is news; that it goes on is not. */
    po__log(&p->opts.log, peer->failures == 1 ? PO_LOG_INFO : PO_LOG_DEBUG, "peer.unreachable",
            "node %llu at %s: %s; trying again", (unsigned long long)peer->id, peer->address, why);
}

void po__peer_dial_next(struct po__peer_dial *dial)
{
    struct po__peers *p = dial->owner;
    struct po__peer *peer = dial->peer;
    dial->conn = NULL;
    while (dial->next) {
        struct addrinfo *ai = dial->next;
        dial->next = ai->ai_next;
        struct po__peer_conn *c = po__peer_conn_new(p);
        if (!c) {
            snprintf(dial->why, sizeof dial->why, "out of memory");
            break;
        }
        c->dialled = true;
        dial->tried++;
        int rv = po__peer_conn_connect(c, ai->ai_addr);
        if (rv == 0) {
            c->dial = dial;
            dial->conn = c;
            po__peers_arm(p);
            return;
        }
        snprintf(dial->why, sizeof dial->why, "cannot connect to %s: %s", c->remote,
                 uv_strerror(rv));
        po__peer_conn_close(c, "%s", dial->why);
    }
    peer->dial = NULL;
    failed(peer, p, dial->why);
    bool gone = peer->lost && dial->tried && dial->refused == dial->tried;
    dial_free(dial);
    if (!gone)
        return;
    peer->lost = false; /* once */
    if (p->opts.gone)
        p->opts.gone(p->opts.arg, peer->id);
}

static void resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addresses)
{
    struct po__peer_dial *dial = req->data;
    struct po__peers *p = dial->owner;
    dial->resolving = false;
    dial->addresses = dial->next = addresses;
    if (!dial->peer) {
        dial_free(dial);
    } else {
        if (status)
            snprintf(dial->why, sizeof dial->why, "the name cannot be resolved: %s",
                     uv_strerror(status));
        po__peer_dial_next(dial);
    }
    po__peers_release(p);
}

/* Literal addresses at once, names through libuv's resolver threads. 0 or a libuv error. */
static int resolve(struct po__peer_dial *dial, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (getaddrinfo(host, port, &hints, &dial->addresses) == 0) {
        dial->next = dial->addresses;
        po__peer_dial_next(dial);
        return 0;
    }
    dial->addresses = NULL;
    hints.ai_flags = AI_NUMERICSERV;
    int rv = uv_getaddrinfo(dial->owner->loop, &dial->req, resolved, host, port, &hints);
    if (rv == 0) {
        dial->resolving = true;
        dial->owner->open_count++;
    }
    return rv;
}

void po__peer_dial(struct po__peer *peer, struct po__peers *p)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[512];
    PO_PRE(!peer->dial && !peer->up);
    if (po__address_parse(peer->address, host, sizeof host, port, sizeof port, error,
                          sizeof error)) {
        failed(peer, p, error);
        return;
    }
    struct po__peer_dial *dial = po__calloc(1, sizeof *dial);
    if (!dial) {
        failed(peer, p, "out of memory");
        return;
    }
    dial->owner = p;
    dial->peer = peer;
    dial->req.data = dial;
    snprintf(dial->why, sizeof dial->why, "the name has no address");
    peer->dial = dial;
    int rv = resolve(dial, host, port);
    if (rv) {
        peer->dial = NULL;
        failed(peer, p, uv_strerror(rv));
        dial_free(dial);
    }
}

void po__peer_dial_done(struct po__peer_dial *dial)
{
    dial->peer->dial = NULL;
    dial_free(dial);
}

void po__peer_dial_abandon(struct po__peer_dial *dial)
{
    dial->peer->dial = NULL;
    dial->peer = NULL;
    if (dial->conn) {
        dial->conn->dial = NULL;
        po__peer_conn_close(dial->conn, "not needed any more");
    }
    if (dial->resolving)
        uv_cancel((uv_req_t *)&dial->req); /* if it runs already, resolved() frees it later */
    else
        dial_free(dial);
}
