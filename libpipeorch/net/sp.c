#include "sp.h"

#include <pipeorch/error.h>

void po__sp_hello(uint8_t hello[PO__SP_HELLO_BYTES], uint16_t protocol)
{
    static const uint8_t fixed[PO__SP_HELLO_BYTES] = {0, 'S', 'P', 0};
    memcpy(hello, fixed, sizeof fixed);
    hello[4] = (uint8_t)(protocol >> 8);
    hello[5] = (uint8_t)protocol;
}

void po__sp_length(uint8_t length[PO__SP_LENGTH_BYTES], uint64_t message_bytes)
{
    for (unsigned i = 0; i < PO__SP_LENGTH_BYTES; i++)
        length[i] = (uint8_t)(message_bytes >> (56 - 8 * i));
}

static uint64_t get_length(const uint8_t length[PO__SP_LENGTH_BYTES])
{
    uint64_t n = 0;
    for (unsigned i = 0; i < PO__SP_LENGTH_BYTES; i++)
        n = n << 8 | length[i];
    return n;
}

void po__sp_put_id(uint8_t bytes[PO__SP_ID_BYTES], uint32_t id)
{
    for (unsigned i = 0; i < PO__SP_ID_BYTES; i++)
        bytes[i] = (uint8_t)(id >> (24 - 8 * i));
}

uint32_t po__sp_get_id(const void *bytes)
{
    const uint8_t *p = bytes;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

size_t po__sp_ids_len(struct po__slice message)
{
    for (size_t off = 0; off < PO__SP_IDS_MAX_BYTES && off + PO__SP_ID_BYTES <= message.len;
         off += PO__SP_ID_BYTES)
        if (po__sp_get_id(message.data + off) & PO__SP_REQUEST_ID_BIT)
            return off + PO__SP_ID_BYTES;
    return 0;
}

void po__sp_reader_init(struct po__sp_reader *r, uint16_t protocol, size_t message_max)
{
    *r = (struct po__sp_reader){.protocol = protocol, .message_max = message_max};
    po__buf_init(&r->body, message_max);
}

void po__sp_reader_fini(struct po__sp_reader *r)
{
    po__buf_fini(&r->body);
}

static struct po__slice take(struct po__slice *input, size_t len)
{
    struct po__slice taken = po__slice(input->data, len);
    input->data += len;
    input->len -= len;
    return taken;
}

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The hello or a length; both have 8 bytes. */
static int read_head(struct po__sp_reader *r, struct po__slice *input)
{
    struct po__slice s = take(input, min(input->len, sizeof r->head - r->head_len));
    memcpy(r->head + r->head_len, s.data, s.len);
    r->head_len += s.len;
    /* What cannot become a hello is refused at its first wrong byte: a stranger who waits for an
     * answer to fewer bytes learns at once that there is none. */
    if (!r->greeted) {
        uint8_t expected[PO__SP_HELLO_BYTES];
        po__sp_hello(expected, r->protocol);
        if (memcmp(r->head, expected, r->head_len) != 0)
            return PO_EPROTO;
    }
    if (r->head_len < sizeof r->head)
        return PO__SP_MORE;
    r->head_len = 0;
    if (!r->greeted) {
        r->greeted = true;
        return PO__SP_GREETED;
    }
    uint64_t len = get_length(r->head);
    if (len > r->message_max)
        return PO_ETOOBIG;
    r->message_len = (size_t)len;
    r->in_message = true;
    return PO__SP_MORE;
}

/* A message that arrived in one piece is handed out where it lies. */
static int read_body(struct po__sp_reader *r, struct po__slice *input, struct po__slice *message)
{
    if (r->body.len == 0 && input->len >= r->message_len) {
        *message = take(input, r->message_len);
        r->in_message = false;
        return PO__SP_MESSAGE;
    }
    struct po__slice s = take(input, min(input->len, r->message_len - r->body.len));
    if (po__buf_append(&r->body, s.data, s.len))
        return r->body.err;
    if (r->body.len < r->message_len)
        return PO__SP_MORE;
    *message = po__buf_slice(&r->body);
    r->in_message = false;
    return PO__SP_MESSAGE;
}

int po__sp_read(struct po__sp_reader *r, struct po__slice *input, struct po__slice *message)
{
    int rv = PO__SP_MORE;
    if (!r->in_message)
        po__buf_fini(&r->body); /* the message that was handed out before */
    while (rv == PO__SP_MORE && (input->len || (r->in_message && r->message_len == 0)))
        rv = r->in_message ? read_body(r, input, message) : read_head(r, input);
    return rv;
}
