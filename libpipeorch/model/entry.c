/* Log entries: [format, now_ms, [command, ...]]. The head has a fixed width (array of three,
 * one-byte format, 64-bit time, 32-bit count), so that commands can be appended to a buffer before
 * their number is known. */
#include "command.h"

#include "../base/assert.h"

#define TIME_AT  2 /* 0x93, format, 0xcf */
#define COUNT_AT 11
#define ARRAY3   0x93
#define UINT64   0xcf
#define ARRAY32  0xdd

static void put_be(uint8_t *p, uint64_t v, unsigned bytes)
{
    while (bytes--) {
        p[bytes] = (uint8_t)v;
        v >>= 8;
    }
}

void po__entry_begin(struct po__buf *buf, uint64_t now_ms)
{
    uint8_t head[PO__ENTRY_HEADER_BYTES] = {ARRAY3, PO__ENTRY_FORMAT};
    head[TIME_AT] = UINT64;
    put_be(head + TIME_AT + 1, now_ms, 8);
    head[COUNT_AT] = ARRAY32;
    po__buf_append(buf, head, sizeof head);
}

void po__entry_finish(struct po__buf *buf, size_t begin_offset, uint32_t count)
{
    PO_PRE(count <= PO__ENTRY_COMMANDS_MAX);
    if (buf->err)
        return;
    PO_PRE(begin_offset + PO__ENTRY_HEADER_BYTES <= buf->len);
    put_be(buf->data + begin_offset + COUNT_AT + 1, count, 4);
}

int po__entry_open(struct po__entry_reader *er, const void *data, size_t len)
{
    po__mpr_init(&er->r, data, len);
    er->left = 0;
    er->now_ms = 0;
    uint32_t n = po__mpr_array(&er->r, UINT32_MAX);
    uint64_t format = po__mpr_uint(&er->r, UINT64_MAX);
    if (er->r.err)
        return PO_EPROTO;
    if (format != PO__ENTRY_FORMAT || n != 3) {
        po__mpr_fail(&er->r);
        return PO_EVERSION;
    }
    er->now_ms = po__mpr_uint(&er->r, UINT64_MAX);
    er->left = po__mpr_array(&er->r, PO__ENTRY_COMMANDS_MAX);
    return er->r.err;
}

int po__entry_next(struct po__entry_reader *er, struct po__cmd *cmd)
{
    if (er->left == 0)
        return po__mpr_end(&er->r);
    er->left--;
    int rv = po__cmd_decode(&er->r, cmd, true);
    return rv ? rv : 1;
}
