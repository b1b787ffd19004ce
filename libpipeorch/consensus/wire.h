/* Frames between replicas.
 *
 *   offset  size
 *        0     4  magic "PORF"
 *        4     1  version, 1
 *        5     1  type, enum po__msg_type
 *        6     2  reserved, 0
 *        8     4  CRC-32C of everything but this field and log records (those carry their own)
 *       12     4  reserved, 0
 *       16   8*k  the type's fixed fields, 64 bits each
 *     then        APPEND: the records exactly as stored; SNAPSHOT: the configuration padded to 8,
 * then the data
 *
 * Numbers are little-endian. The decoder is strict: a frame is taken whole or refused whole
 * (PO_EPROTO), with every length, count, index, term and checksum verified, and each configuration
 * decoded, before anything reaches the consensus core, whose own checks are compiled out. Frames
 * are bounded by PO__FRAME_MAX_BYTES. */
#ifndef PO__WIRE_H
#define PO__WIRE_H

#include "conf.h"
#include "log.h"

#define PO__WIRE_HEAD_BYTES 16
#define PO__WIRE_FIELDS_MAX 9
#define PO__WIRE_NUMBER_MAX                                                                        \
    ((uint64_t)1 << 60)            /* terms, indexes and sizes stay below: sums cannot wrap */
#define PO__WIRE_RECORDS_MAX 65536 /* records of one frame */
/* A frame is closed when its records reach this (the last may be bigger) */
#define PO__APPEND_FRAME_BYTES       (1u << 20)
#define PO__SNAPSHOT_CHUNK_MAX_BYTES (256u << 10)

enum po__msg_type {
    PO__MSG_VOTE = 1,
    PO__MSG_VOTE_RESULT,
    PO__MSG_APPEND,
    PO__MSG_APPEND_RESULT,
    PO__MSG_TIMEOUT_NOW,
    PO__MSG_SNAPSHOT,
    PO__MSG_SNAPSHOT_ACK,
    PO__MSG_PING,
    PO__MSG_PONG,
};

/* One message, decoded or to be encoded. */
struct po__msg {
    int type;
    uint64_t term; /* of the sender (pre-votes: see vote.pre_vote) */
    union {
        struct {
            uint64_t candidate, last_index, last_term;
            bool disrupt_leader, pre_vote;
        } vote;
        struct {
            bool granted, pre_vote;
        } vote_result;
        struct {
            uint64_t prev_index, prev_term, commit;
            uint32_t count;
            /* Decoded: one block with all records and where each begins. Encoding takes the records
             * from the log. */
            struct po__block *block;
            const struct po__rec **recs;
        } append;
        struct {
            uint64_t rejected; /* 0: accepted */
            uint64_t last_index;
        } append_result;
        struct {
            uint64_t last_index, last_term;
        } timeout_now;
        struct {
            uint64_t index, last_term; /* of the snapshot */
            uint64_t conf_index, size_bytes, offset;
            uint32_t crc; /* of the whole content */
            uint32_t conf_len, data_len;
            const void *conf, *data; /* decoded: point into the frame */
        } snapshot;
        struct {
            uint64_t index, last_term; /* of the snapshot */
            uint64_t offset;           /* everything before it has arrived */
            bool refused; /* not wanted, or damaged: begin anew if it is still needed */
        } snapshot_ack;
        struct {
            uint64_t sequence;
        } ping; /* and pong */
    };
};

/* 0, PO_EPROTO, PO_ENOMEM. On success call po__msg_fini. data need not be aligned. */
int po__wire_decode(struct po__msg *m, const void *data, size_t len);
void po__msg_fini(struct po__msg *m);

/* NULL: out of memory. For APPEND the records prev_index + 1 .. prev_index + count are taken by
 * reference from the log, where they must be; the caller keeps them within PO__APPEND_FRAME_BYTES
 * (plus one). */
struct po__frame *po__wire_encode(const struct po__msg *m, const struct po__log *log);

#endif
