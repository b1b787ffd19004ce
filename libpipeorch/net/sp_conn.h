/* One connection that speaks SP, over a libuv stream: what the worker endpoint and the client
 * have in common.
 *
 *     (init) ──▶ CONNECTING ──▶ OPEN ──▶ CLOSED      po__sp_conn_connect
 *        └────────────────────▶ OPEN ──▶ CLOSED      uv_accept into .tcp, po__sp_conn_open
 *
 * Open: our hello has been queued, and messages may be; `greeted` tells that the other side's hello
 * came. Everything runs on the loop's thread. The owner embeds this struct and keeps its memory
 * until `freed`. No callback runs from inside po__sp_conn_queue, so an owner may queue while its
 * structures are half changed. */
#ifndef PO__SP_CONN_H
#define PO__SP_CONN_H

#include <uv.h>

#include "sp.h"

#define PO__SP_HELLO_MS        5000        /* for the other side's hello; the owner's to watch */
#define PO__SP_READ_BYTES      (64 * 1024) /* read at a time, shared by an owner's connections */
#define PO__SP_QUEUE_MAX_BYTES (32u << 20) /* waiting to be written on one connection */

struct po__sp_conn;

struct po__sp_conn_ops {
    void (*greeted)(struct po__sp_conn *c);
    /* A whole message; its bytes are valid until this returns. */
    void (*message)(struct po__sp_conn *c, struct po__slice message);
    /* Bytes arrived, and what they completed was told. */
    void (*received)(struct po__sp_conn *c);
    /* Bytes that had to wait for the network have left. */
    void (*written)(struct po__sp_conn *c);
    /* The connection ended, whoever ended it. Once; it may still be read from the struct how much
     * was handed to the network. */
    void (*down)(struct po__sp_conn *c, const char *why);
    /* libuv has let go of it; the memory is the owner's again. */
    void (*freed)(struct po__sp_conn *c);
};

struct po__sp_conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    const struct po__sp_conn_ops *ops;
    char *read_memory; /* PO__SP_READ_BYTES */
    int state;
    uint16_t protocol; /* ours */
    bool writing;      /* `write` is under way, with `leaving` */
    bool reading;
    bool ended; /* nothing is written any more: po__sp_conn_end */
    bool lost;  /* closed because the network or the other side ended it */
    struct po__sp_reader in;
    struct po__buf out;     /* queued, and not yet offered to the network */
    struct po__buf leaving; /* what the network did not take at once; libuv's */
    uint64_t queued_bytes;  /* ever */
    uint64_t offered_bytes; /* of these, to the network */
    char remote[64];        /* "1.2.3.4:80" */
};

/* read_memory: PO__SP_READ_BYTES, used only while a read is handled. message_max: bytes of a
 * message that arrives, ids included. 0 or a libuv error (then there is nothing to close). */
int po__sp_conn_init(struct po__sp_conn *c, uv_loop_t *loop, const struct po__sp_conn_ops *ops,
                     uint16_t protocol, size_t message_max, char *read_memory);
/* 0 or a libuv error, in both cases to be closed. The end of it is told by `greeted` or `down`. */
int po__sp_conn_connect(struct po__sp_conn *c, const struct sockaddr *sa);
/* Begins with a socket that was accepted into c->tcp. 0 or a libuv error. */
int po__sp_conn_open(struct po__sp_conn *c);

/* Queue a message of two parts. 0, PO_EBUSY (PO__SP_QUEUE_MAX_BYTES), PO_ENOMEM. */
int po__sp_conn_queue(struct po__sp_conn *c, struct po__slice ids, struct po__slice body);
/* Offer what is queued to the network, in one write. May call `down`. */
void po__sp_conn_flush(struct po__sp_conn *c);
/* Queued and not yet taken by the network. */
size_t po__sp_conn_waiting_bytes(const struct po__sp_conn *c);
/* How many of the bytes ever queued the network has taken; an upper bound after a failed write. */
uint64_t po__sp_conn_taken_bytes(const struct po__sp_conn *c);
/* A slow reader is not read from. Idempotent. */
void po__sp_conn_pause(struct po__sp_conn *c);
void po__sp_conn_resume(struct po__sp_conn *c);
/* Nothing more is written: once everything has left, the other side is told so. It still is read.
 */
void po__sp_conn_end(struct po__sp_conn *c);
/* Calls `down`, later `freed`. Nothing happens to one that is closed already. */
void po__sp_conn_close(struct po__sp_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool po__sp_conn_closed(const struct po__sp_conn *c);

#endif
