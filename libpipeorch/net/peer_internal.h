/* What the files of the peer transport share: its objects, and who owns them.
 *
 *   peer.c        the transport: listening, the table of peers, sending, the one timer, closing
 *   peer_dial.c   reaching out: resolve the name, try each address, back off
 *   peer_conn.c   one connection: handshake, frames in, frames out
 *   peer_hello.c  the bytes of a hello
 *
 * A peer is a row of a fixed table. It has at most one connection that is up and at most one
 * dial under way. A connection belongs to the transport's list until libuv has closed its
 * handle, which is when it is freed; `peer` and `dial` are cleared as soon as it is closed, so
 * that nobody meets a dying connection through them. Everything runs on the loop's thread. */
#ifndef PO__PEER_INTERNAL_H
#define PO__PEER_INTERNAL_H

#include "../base/assert.h"
#include "../base/buf.h"
#include "../base/list.h"
#include "peer.h"
#include "tcp.h"

#define PO__PEERS_MAX                                                                              \
    16 /* members and those who join or leave; connections of further ids are refused */
#define PO__PEER_HEADER_BYTES                                                                      \
    9 /* u32 length of channel and payload, u32 crc32c, u8 channel; little endian */
/* Before the bytes of a FORWARD or FORWARD_REPLY, little endian */
#define PO__PEER_CALL_ID_BYTES     8
#define PO__PEER_PAYLOAD_MAX_BYTES (PO__FRAME_MAX_BYTES + PO__PEER_CALL_ID_BYTES)
/* Receive buffer of a connection that is up; a longer frame grows it */
#define PO__PEER_READ_BYTES (64u * 1024)
/* A receive buffer grown beyond this is given back once it is empty */
#define PO__PEER_READ_KEEP_BYTES (1024u * 1024)
#define PO__PEER_IOV_MAX         1024 /* parts in one writev */
#define PO__BACKOFF_MIN_MS       50   /* before the second dial; doubles */
#define PO__BACKOFF_MAX_MS       1000
#define PO__REDIAL_MS            1000 /* a lost peer is dialled at once, no more often than this */
#define PO__REDIALS_MAX          5    /* after it, until somebody is met or dialling is refused, */
#define PO__REDIAL_FIRST_MS      2 /* the first of them after this, each next after twice the time */
#define PO__STRANGER_LOG_MS      1000 /* at most one line about refused strangers in this time */

enum { PO__CONN_CONNECTING, PO__CONN_HELLO, PO__CONN_UP, PO__CONN_CLOSED };

/* A frame that waits to be written. */
struct po__peer_out {
    struct po__list link;
    struct po__frame *frame;
    uint32_t bytes; /* header and parts */
    uint8_t header[PO__PEER_HEADER_BYTES];
};

struct po__peer_conn {
    struct po__list link;  /* in owner->conns */
    struct po__list dirty; /* in owner->dirty: has frames that no write was asked for */
    struct po__peers *owner;
    struct po__peer *peer;      /* UP only */
    struct po__peer_dial *dial; /* dialled and not yet UP */
    int state;
    bool dialled;
    bool spare;   /* refused because the other dial of a pair is kept */
    bool broken;  /* a write failed; the timer closes it, so that sending never calls back */
    bool writing; /* `write` is under way and covers the first write_bytes of `out` */
    uint64_t deadline_ms; /* CONNECTING, HELLO */
    uint64_t up_ms;
    uint64_t incarnation; /* of the peer's process; UP only */
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    size_t write_bytes;
    struct po__list out; /* struct po__peer_out */
    size_t out_bytes;    /* not yet written, PO__PEER_QUEUE_MAX_BYTES at most */
    size_t head_written; /* of the first of `out` */
    uint8_t *in;
    size_t in_len, in_cap;
    char remote[64];
};

/* An attempt to reach a peer: all addresses of its name, one after the other. */
struct po__peer_dial {
    struct po__peers *owner;
    struct po__peer *peer; /* NULL: given up while resolving */
    bool resolving;
    uv_getaddrinfo_t req;
    struct addrinfo *addresses, *next;
    struct po__peer_conn *conn;
    unsigned tried, refused; /* addresses */
    char why[256];           /* the last failure */
};

struct po__peer {
    bool used;
    bool wanted; /* by po__peers_set: dialled. Others stay while they are connected */
    uint64_t id;
    char address[PO_ADDRESS_MAX_BYTES + 1];
    struct po__peer_conn *up;
    struct po__peer_dial *dial;
    uint64_t dial_at_ms;
    uint32_t failures;     /* dials in a row */
    uint64_t dropped;      /* frames */
    uint64_t incarnation;  /* of the process that was last up; 0: none yet */
    bool lost;             /* its connection ended, and nobody has been met there since */
    uint32_t redials;      /* left of PO__REDIALS_MAX */
    uint64_t redialled_ms; /* when it was last dialled at once */
    int refused_code;      /* why it refused this node last; 0: it did not */
};

struct po__peers {
    uv_loop_t *loop;
    struct po__peers_opts opts; /* listen is not kept */
    uv_tcp_t listener;
    bool listening;
    uint16_t port;
    uv_timer_t timer;     /* dials and deadlines */
    uv_prepare_t prepare; /* writes what was queued in this turn of the loop */
    uv_idle_t idle; /* runs while something is queued, so that the loop does not sleep on it */
    struct po__peer peers[PO__PEERS_MAX];
    uint64_t cut[PO__PEERS_MAX]; /* ids: po__peers_cut */
    unsigned cut_count;
    struct po__list conns;
    struct po__list dirty;
    unsigned pending_count; /* accepted and not yet UP */
    unsigned open_count;    /* handles and resolver requests that must end before the memory goes */
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
    uint64_t random;
    uint64_t stranger_log_ms;
    uint64_t strangers_unlogged;
    uv_buf_t iov[PO__PEER_IOV_MAX];
};

/* peer.c */
/* A frame of its own copy of prefix and data; NULL: out of memory. */
struct po__frame *po__peer_frame_copy(const void *prefix, size_t prefix_len, const void *data,
                                      size_t len);
struct po__peer *po__peers_find(struct po__peers *p, uint64_t id);
bool po__peers_is_cut(const struct po__peers *p, uint64_t id);
struct po__peer *po__peers_find_or_add(struct po__peers *p,
                                       uint64_t id); /* NULL: the table is full */
void po__peers_arm(struct po__peers *p);             /* set the timer to what is due next */
void po__peers_release(struct po__peers *p);         /* one handle or request ended */
/* Its connection, which was up for lived_ms, is gone: dial again, or forget it. */
void po__peer_lost(struct po__peer *peer, struct po__peers *p, uint64_t lived_ms);
uint64_t po__peers_random(struct po__peers *p);
void po__peers_log_stranger(struct po__peers *p, const char *remote, const char *why);

/* peer_dial.c */
void po__peer_dial_later(struct po__peer *peer, struct po__peers *p); /* after the backoff */
void po__peer_dial(struct po__peer *peer, struct po__peers *p);
void po__peer_dial_next(
    struct po__peer_dial *dial); /* the current address failed; dial->why says how */
void po__peer_dial_done(struct po__peer_dial *dial); /* its connection is up */
void po__peer_dial_abandon(struct po__peer_dial *dial);

/* peer_conn.c */
struct po__peer_conn *po__peer_conn_new(struct po__peers *p);
int po__peer_conn_connect(struct po__peer_conn *c, const struct sockaddr *sa);
void po__peer_conn_accepted(struct po__peer_conn *c);
void po__peer_conn_close(struct po__peer_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
int po__peer_conn_queue(struct po__peer_conn *c, enum po__peer_channel chan, struct po__frame *f);
void po__peer_conn_flush(struct po__peer_conn *c);
void po__peer_conn_hold(struct po__peer_conn *c, bool held); /* UP; held: its peer is cut off */

/* peer_hello.c: the payload of a hello frame. */
void po__peer_hello_encode(struct po__buf *b, const struct po__peer_hello *hello);
int po__peer_hello_decode(const void *data, size_t len,
                          struct po__peer_hello *hello); /* 0, PO_EPROTO, PO_EVERSION */
/* The payload of a refusal. */
#define PO__REFUSAL_MAX_BYTES 512
struct po__frame *po__peer_refusal(int code, const char *why); /* NULL: no memory */
int po__peer_refusal_decode(const void *data, size_t len, int *code, char *why, size_t why_len);

#endif
