/* Peer transport: framed TCP between the control nodes of one cluster, on the owner's libuv loop
 * (the node thread).
 *
 * One connection per pair of nodes carries both directions. Both sides dial while they have
 * none, so that a node that comes back is connected at once; of two simultaneous dials the one
 * of the higher node id is kept, otherwise a new connection of a peer replaces its old one
 * (peer_conn.c says why this cannot lose both). A connection begins with a hello of both sides:
 * {protocol version, cluster id, directory id, node id, incarnation, feature level, name, zone,
 * advertised peer and worker addresses}; nothing else is read before a hello that fits. Frames:
 * [u32 length][u32 crc32c][u8 channel][bytes], little endian, length counts channel and bytes,
 * the sum covers all but itself; a wrong length, checksum or channel closes the connection. A node
 * of this cluster that is refused is told why; whoever cannot name the cluster is told nothing.
 * Every buffer is bounded; a stranger can make the node spend at most PO__HELLO_MAX_BYTES and
 * PO__HELLO_MS on it, and at most PO__PENDING_CONNECTIONS_MAX of them are held (the longest
 * silent one makes room). TCP_NODELAY, keepalive and TCP_USER_TIMEOUT set. Reconnect with
 * backoff and jitter, the first time at once. Names are resolved anew for each dial; IPv4 and IPv6;
 * all addresses of a name are tried. Until TLS exists a non-loopback listen address is refused
 * unless insecure.
 *
 * One thread, the loop's. Callbacks run from the loop, never from inside po__peers_send,
 * _send_bytes, _flush or _set. All functions may be called from the callbacks. */
#ifndef PO__PEER_H
#define PO__PEER_H

#include <uv.h>
#include "../base/log.h"
#include "../base/buf.h"
#include "../consensus/replica.h"

#define PO__HELLO_MAX_BYTES         2048
#define PO__HELLO_MS                5000
#define PO__PENDING_CONNECTIONS_MAX 32
/* Queued to one peer; beyond it frames are dropped (Raft sends again) */
#define PO__PEER_QUEUE_MAX_BYTES (64u << 20)

enum po__peer_channel {
    PO__CHAN_HELLO = 0,
    PO__CHAN_RAFT = 1,
    PO__CHAN_FORWARD = 2,       /* u64 call id (po__peer_call_id), request bytes */
    PO__CHAN_FORWARD_REPLY = 3, /* u64 call id, response bytes */
    PO__CHAN_REFUSED = 4,       /* [code, sentence]: instead of a hello, or later */
};

struct po__peer_hello {
    uint8_t cluster_id[PO__CLUSTER_ID_BYTES];
    uint8_t directory_id[PO__DIRECTORY_ID_BYTES];
    uint64_t node_id;
    uint64_t incarnation; /* random per process start */
    uint32_t feature_level;
    char name[PO_NAME_MAX_BYTES + 1], zone[PO_NAME_MAX_BYTES + 1];
    char peer_address[PO_ADDRESS_MAX_BYTES + 1], worker_address[PO_ADDRESS_MAX_BYTES + 1];
};

struct po__peers;

struct po__peers_opts {
    uv_loop_t *loop;
    const char *listen; /* NULL: do not listen */
    bool insecure;
    struct po__peer_hello self;
    struct po__logger log;
    /* hello: return 0 to accept the peer; non-zero refuses it and logs the sentence in `why`.
     * The peer is up when hello returned 0. frame: data of FORWARD and FORWARD_REPLY begins with
     * the call id (8 bytes at least). down: a connection that was up ended; what was queued or
     * under way on it is lost. If the peer connected anew before its old connection was seen to
     * end, down comes after the new one's hello, and po__peers_up stays true.
     * gone (may be NULL): the process behind a connection that was up has ended: after the
     * connection, a new one was refused by every address of the peer (nobody listens), or another
     * incarnation said hello. Once per process; never for a connection that merely ended, nor for a
     * peer that does not answer. What came on the connection was handed out before. A peer whose
     * address is not reachable from here while it dials us looks gone when its connection ends:
     * advertised addresses must be reachable by all members. */
    int (*hello)(void *arg, const struct po__peer_hello *peer, char *why, size_t why_len);
    void (*frame)(void *arg, uint64_t peer_id, enum po__peer_channel chan, const void *data,
                  size_t len);
    void (*down)(void *arg, uint64_t peer_id);
    void (*gone)(void *arg, uint64_t peer_id);
    void *arg;
    /* That peer refuses this node: a PO_E* code and a sentence. May be NULL. */
    void (*refused)(void *arg, uint64_t peer_id, int code, const char *why);
};

/* 0, PO_EADDR (cannot be parsed, resolved or bound; "address in use: ..." if another process
 * listens there), PO_EREFUSED, PO_ENOMEM, with a sentence. Resolves and binds before it returns. */
int po__peers_open(struct po__peers **p, const struct po__peers_opts *opts, char *error,
                   size_t error_len);
/* Asynchronous: closes all handles, then calls closed(arg) (may be NULL) on the loop, p being
 * freed. No other callback runs any more. */
void po__peers_close(struct po__peers *p, void (*closed)(void *arg), void *arg);
void po__peers_set(struct po__peers *p, const struct po__server *servers,
                   unsigned count); /* who to be connected to (self is skipped) */
/* For tests: there is no link with these peers, and one with all others. Nothing is read from or
 * written to their connections, none is dialled or accepted, none is seen to end. Never calls back.
 * Also while the loop's thread stands still, on another one. */
void po__peers_cut(struct po__peers *p, const uint64_t *peer_ids, size_t count);
/* Queue; takes over a reference; dropped (and counted) if the peer is down or its queue is full.
 * Written by po__peers_flush or at the end of the loop turn. */
void po__peers_send(struct po__peers *p, uint64_t peer_id, enum po__peer_channel chan,
                    struct po__frame *frame);
int po__peers_send_bytes(struct po__peers *p, uint64_t peer_id, enum po__peer_channel chan,
                         uint64_t call_id, const void *data,
                         size_t len); /* PO_EUNREACHABLE, PO_EBUSY, PO_ENOMEM */
/* Tell a connected peer that it is refused; the connection stays, it is the peer's to draw the
 * conclusion. Dropped if there is no room. */
void po__peers_refuse(struct po__peers *p, uint64_t peer_id, int code, const char *why);
uint64_t po__peer_call_id(
    const void *data); /* of a FORWARD or FORWARD_REPLY frame; the rest begins 8 bytes on */
void po__peers_flush(struct po__peers *p); /* one writev per peer */
bool po__peers_up(const struct po__peers *p, uint64_t peer_id);
size_t po__peers_queued_bytes(const struct po__peers *p, uint64_t peer_id);
uint64_t po__peers_dropped(const struct po__peers *p,
                           uint64_t peer_id);       /* frames not sent: peer down, queue full */
uint16_t po__peers_port(const struct po__peers *p); /* that it listens on; 0 if it does not */
/* Address parsing shared with the endpoint and the clients: "host:port", "[v6]:port". 0 or
 * PO_EADDR with a sentence. */
int po__address_parse(const char *address, char *host, size_t host_len, char *port, size_t port_len,
                      char *error, size_t error_len);
bool po__address_is_loopback(const char *address);

#endif
