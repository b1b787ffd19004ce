/* What a stranger can say to the worker endpoint, and a node to a client: SP, cut anywhere. */
#include "fuzz.h"

#include "net/sp.h"

#define MESSAGE_MAX 4096

/* The first byte says in pieces of which size the rest arrives. The outcome must not depend on it:
 * the same events, the same messages, the same end. */
struct outcome {
    unsigned events;
    int end;
    uint32_t sum;
};

static struct outcome read_in_pieces(const uint8_t *data, size_t len, size_t piece)
{
    struct po__sp_reader r;
    struct outcome o = {0};
    po__sp_reader_init(&r, PO__SP_REQ, MESSAGE_MAX);
    for (size_t off = 0; off < len && o.end >= 0; off += piece) {
        struct po__slice m, input = po__slice(data + off, len - off < piece ? len - off : piece);
        while ((o.end = po__sp_read(&r, &input, &m)) > PO__SP_MORE) {
            o.events++;
            if (o.end != PO__SP_MESSAGE)
                continue;
            FUZZ_CHECK(m.len <= MESSAGE_MAX);
            size_t ids_len = po__sp_ids_len(m);
            FUZZ_CHECK(ids_len <= m.len && ids_len <= PO__SP_IDS_MAX_BYTES);
            for (size_t i = 0; i < m.len; i++)
                o.sum = o.sum * 31 + (uint8_t)m.data[i];
            o.sum = o.sum * 31 + (uint32_t)ids_len;
        }
        FUZZ_CHECK(o.end < 0 || input.len == 0);
        FUZZ_CHECK(r.body.cap <= 2 * MESSAGE_MAX);
    }
    po__sp_reader_fini(&r);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct outcome whole = read_in_pieces(data + 1, len - 1, len - 1);
    struct outcome cut = read_in_pieces(data + 1, len - 1, (size_t)data[0] + 1);
    FUZZ_CHECK(whole.end == cut.end && whole.events == cut.events && whole.sum == cut.sum);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    if (len > PO__SP_HELLO_BYTES) /* few mutations would leave the hello whole */
        po__sp_hello(data + 1, PO__SP_REQ);
}

void fuzz_seeds(void)
{
    struct po__buf b = {0};
    uint8_t head[PO__SP_LENGTH_BYTES], id[PO__SP_ID_BYTES];
    po__buf_append(&b, "\5", 1);
    po__sp_hello(head, PO__SP_REQ);
    po__buf_append(&b, head, sizeof head);
    fuzz_seed(b.data, b.len);
    for (unsigned i = 0; i < 4; i++) {
        size_t body = i * i * i * 10;
        po__sp_length(head, sizeof id + body);
        po__buf_append(&b, head, sizeof head);
        po__sp_put_id(id, i | PO__SP_REQUEST_ID_BIT);
        po__buf_append(&b, id, sizeof id);
        for (size_t k = 0; k < body; k++)
            po__buf_append(&b, "x", 1);
        fuzz_seed(b.data, b.len);
    }
    po__buf_fini(&b);
}
