/* SP, the scalability protocols' REQ/REP over TCP: the bytes, apart from any socket.
 *
 * A connection begins with a hello of both sides, 8 bytes: 0 'S' 'P' 0, the sender's protocol
 * (u16) and 0 (u16). Then messages follow: a length (u64) and so many bytes. A request begins with
 * a stack of ids (u32 each): what routers on the way pushed in front, and last the id of the
 * request itself, the only one with its top bit set; the answer carries the same stack back.
 * Numbers are big endian. Any REQ or REP of nanomsg and nng speaks this. */
#ifndef PO__SP_H
#define PO__SP_H

#include <stdint.h>

#include "../base/buf.h"

#define PO__SP_HELLO_BYTES    8
#define PO__SP_LENGTH_BYTES   8
#define PO__SP_ID_BYTES       4
#define PO__SP_IDS_MAX        8 /* a request's own and those of 7 routers; nng's default, too */
#define PO__SP_IDS_MAX_BYTES  (PO__SP_IDS_MAX * PO__SP_ID_BYTES)
#define PO__SP_REQUEST_ID_BIT UINT32_C(0x80000000)

enum { PO__SP_REQ = 0x30, PO__SP_REP = 0x31 };

void po__sp_hello(uint8_t hello[PO__SP_HELLO_BYTES], uint16_t protocol);
void po__sp_length(uint8_t length[PO__SP_LENGTH_BYTES], uint64_t message_bytes);
void po__sp_put_id(uint8_t bytes[PO__SP_ID_BYTES], uint32_t id);
uint32_t po__sp_get_id(const void *bytes);

/* The bytes of the stack of ids that a message begins with; 0: it has none that ends within
 * PO__SP_IDS_MAX ids. */
size_t po__sp_ids_len(struct po__slice message);

/* Takes a stream of bytes apart, in whatever pieces it arrives. Holds memory only while a message
 * is incomplete, and never much more than what arrived of it: a length alone reserves nothing. */
struct po__sp_reader {
    uint16_t protocol;  /* that the other side must speak */
    size_t message_max; /* bytes */
    bool greeted;       /* its hello was read */
    bool in_message;
    uint8_t head[PO__SP_LENGTH_BYTES]; /* the hello or a length, incomplete */
    size_t head_len;
    size_t message_len; /* of the message that arrives */
    struct po__buf body;
};

enum po__sp_event {
    PO__SP_MORE,    /* everything was taken, something is incomplete */
    PO__SP_GREETED, /* the hello was read, once */
    PO__SP_MESSAGE,
};

void po__sp_reader_init(struct po__sp_reader *r, uint16_t protocol, size_t message_max);
void po__sp_reader_fini(struct po__sp_reader *r); /* zeroed memory is allowed */
/* Takes bytes off the front of *input. Returns what they completed; message is valid until the
 * next call or as long as the input is, whichever ends first. Below 0 the stream cannot be
 * continued: PO_EPROTO (no SP, or another protocol), PO_ETOOBIG, PO_ENOMEM. */
int po__sp_read(struct po__sp_reader *r, struct po__slice *input, struct po__slice *message);

#endif
