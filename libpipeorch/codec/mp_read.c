/* A cursor instead of msgpack-c's unpacker: that one trusts counts (nine bytes make it allocate
 * gigabytes), builds a tree of 24 times the input and needs a zone. Here the caller knows what must
 * come next, so nothing is built and nothing is allocated. Every count is compared with the bytes
 * that are left before anybody loops over it: an object takes at least one byte, hence a count
 * above the number of bytes left is a lie. */
#include "mp.h"

#include <pipeorch/error.h>
#include "utf8.h"

void po__mpr_init(struct po__mpr *r, const void *data, size_t len)
{
    static const uint8_t nothing[1]; /* so that p and end are never NULL */
    r->p = data ? data : nothing;
    r->end = r->p + (data ? len : 0);
    r->nodes_left = PO__MP_NODES_MAX;
    r->err = 0;
}

void po__mpr_fail(struct po__mpr *r)
{
    r->err = PO_EPROTO;
    r->end = r->p; /* nothing is left to read */
}

static size_t left(const struct po__mpr *r)
{
    return (size_t)(r->end - r->p);
}

static uint64_t big_endian(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

/* The head of an object: its type, and its value, length or count. */
struct head {
    enum po__mp_type type;
    uint64_t value;
};

/* Argument widths of 0xc4..0xdf are a power of two that depends on the low bits; `first` is the
 * code of the narrowest form. */
static unsigned width(uint8_t c, uint8_t first, unsigned narrowest)
{
    return narrowest << (c - first);
}

static enum po__mp_type classify(uint8_t c, unsigned *arg_bytes)
{
    *arg_bytes = 0;
    if (c <= 0x7f)
        return PO__MP_UINT;
    if (c <= 0x8f)
        return PO__MP_MAP;
    if (c <= 0x9f)
        return PO__MP_ARRAY;
    if (c <= 0xbf)
        return PO__MP_STR;
    if (c >= 0xe0)
        return PO__MP_INT;
    switch (c) {
    case 0xc0:
        return PO__MP_NIL;
    case 0xc2:
    case 0xc3:
        return PO__MP_BOOL;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        *arg_bytes = width(c, 0xc4, 1);
        return PO__MP_BIN;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        *arg_bytes = width(c, 0xcc, 1);
        return PO__MP_UINT;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        *arg_bytes = width(c, 0xd0, 1);
        return PO__MP_INT;
    case 0xd9:
    case 0xda:
    case 0xdb:
        *arg_bytes = width(c, 0xd9, 1);
        return PO__MP_STR;
    case 0xdc:
    case 0xdd:
        *arg_bytes = width(c, 0xdc, 2);
        return PO__MP_ARRAY;
    case 0xde:
    case 0xdf:
        *arg_bytes = width(c, 0xde, 2);
        return PO__MP_MAP;
    default: /* 0xc1 is never used; floats and extensions are not part of the protocol */
        return PO__MP_BAD;
    }
}

/* The value that an INT head stands for, sign extended. */
static int64_t signed_value(uint8_t c, uint64_t v, unsigned bytes)
{
    if (bytes == 0)
        return (int8_t)c;
    unsigned shift = 64 - 8 * bytes;
    return (int64_t)(v << shift) >> shift;
}

/* Reads one head. Type PO__MP_BAD: the reader has failed. */
static struct head take(struct po__mpr *r)
{
    struct head h = {PO__MP_BAD, 0};
    unsigned bytes;
    if (r->p == r->end || r->nodes_left == 0) {
        po__mpr_fail(r);
        return h;
    }
    uint8_t c = *r->p;
    enum po__mp_type type = classify(c, &bytes);
    if (type == PO__MP_BAD || left(r) < 1 + bytes) {
        po__mpr_fail(r);
        return h;
    }
    h.type = type;
    if (bytes)
        h.value = big_endian(r->p + 1, bytes);
    else if (type == PO__MP_STR)
        h.value = c & 0x1f;
    else if (type == PO__MP_ARRAY || type == PO__MP_MAP)
        h.value = c & 0x0f;
    else if (type == PO__MP_BOOL)
        h.value = c & 1;
    else
        h.value = c;
    if (type == PO__MP_INT) {
        int64_t v = signed_value(c, h.value, bytes);
        h.value = (uint64_t)v;
        if (v >= 0)
            h.type = PO__MP_UINT; /* a positive number in a signed form */
    }
    r->nodes_left--;
    r->p += 1 + bytes;
    return h;
}

enum po__mp_type po__mpr_peek(const struct po__mpr *r)
{
    struct po__mpr copy = *r;
    return r->err ? PO__MP_BAD : take(&copy).type;
}

static uint64_t want(struct po__mpr *r, enum po__mp_type type, uint64_t max)
{
    struct head h = take(r);
    if (h.type == type && h.value <= max)
        return h.value;
    po__mpr_fail(r);
    return 0;
}

uint32_t po__mpr_array(struct po__mpr *r, uint32_t max_count)
{
    uint64_t n = want(r, PO__MP_ARRAY, max_count);
    if (n <= left(r) && n <= r->nodes_left)
        return (uint32_t)n;
    po__mpr_fail(r);
    return 0;
}

uint32_t po__mpr_map(struct po__mpr *r, uint32_t max_count)
{
    uint64_t n = want(r, PO__MP_MAP, max_count);
    if (n <= left(r) / 2 && n <= r->nodes_left / 2)
        return (uint32_t)n;
    po__mpr_fail(r);
    return 0;
}

uint64_t po__mpr_uint(struct po__mpr *r, uint64_t max)
{
    return want(r, PO__MP_UINT, max);
}

int64_t po__mpr_int(struct po__mpr *r)
{
    struct head h = take(r);
    if (h.type == PO__MP_INT || (h.type == PO__MP_UINT && h.value <= INT64_MAX))
        return (int64_t)h.value;
    po__mpr_fail(r);
    return 0;
}

bool po__mpr_bool(struct po__mpr *r)
{
    return want(r, PO__MP_BOOL, 1) != 0;
}

void po__mpr_nil(struct po__mpr *r)
{
    want(r, PO__MP_NIL, UINT64_MAX);
}

static struct po__slice bytes(struct po__mpr *r, enum po__mp_type type, size_t max_bytes)
{
    uint64_t n = want(r, type, max_bytes);
    if (r->err || n > left(r)) {
        po__mpr_fail(r);
        return po__slice(r->p, 0);
    }
    struct po__slice s = po__slice(r->p, (size_t)n);
    r->p += n;
    return s;
}

struct po__slice po__mpr_str(struct po__mpr *r, size_t max_bytes)
{
    struct po__slice s = bytes(r, PO__MP_STR, max_bytes);
    if (!r->err && !po__utf8_ok(s)) {
        po__mpr_fail(r);
        s.len = 0;
    }
    return s;
}

struct po__slice po__mpr_bin(struct po__mpr *r, size_t max_bytes)
{
    return bytes(r, PO__MP_BIN, max_bytes);
}

/* Iterative, with the number of objects still to come on each level: the input cannot grow our
 * stack. */
void po__mpr_skip(struct po__mpr *r)
{
    uint64_t pending[PO__MP_DEPTH_MAX + 1] = {1};
    unsigned depth = 0;
    for (;;) {
        while (pending[depth] == 0) {
            if (depth-- == 0)
                return;
        }
        pending[depth]--;
        struct head h = take(r);
        uint64_t children = h.value;
        switch (h.type) {
        case PO__MP_BAD:
            return;
        case PO__MP_STR:
        case PO__MP_BIN:
            if (h.value > left(r)) {
                po__mpr_fail(r);
                return;
            }
            r->p += h.value;
            break;
        case PO__MP_MAP:
            children *= 2;
            /* fall through */
        case PO__MP_ARRAY:
            if (children > left(r) || children > r->nodes_left || depth == PO__MP_DEPTH_MAX) {
                po__mpr_fail(r);
                return;
            }
            pending[++depth] = children;
            break;
        default:
            break;
        }
    }
}

void po__mpr_skip_all(struct po__mpr *r, uint32_t count)
{
    for (uint32_t i = 0; i < count && !r->err; i++)
        po__mpr_skip(r);
}

uint32_t po__mpr_fields(struct po__mpr *r, uint32_t known)
{
    uint32_t n = po__mpr_array(r, UINT32_MAX);
    if (n < known)
        po__mpr_fail(r);
    return r->err ? 0 : n - known;
}

struct po__slice po__mpr_raw(struct po__mpr *r)
{
    const uint8_t *start = r->p;
    po__mpr_skip(r);
    return po__slice(start, r->err ? 0 : (size_t)(r->p - start));
}

int po__mpr_end(struct po__mpr *r)
{
    if (!r->err && r->p != r->end)
        po__mpr_fail(r);
    return r->err;
}
