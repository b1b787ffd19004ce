/* Strict, bounded msgpack.
 *
 * Writer: msgpack-c's packer over a po__buf; shortest forms, no floats, no maps with unsorted
 * keys. Errors are sticky in the buffer. Reader: a cursor that is told by its caller which type
 * comes next. It allocates nothing, checks every count against the bytes that are left, bounds
 * depth and the number of nodes, and keeps the first error (PO_EPROTO); after an error every
 * read returns zero or an empty slice, so a decoder reads all its fields and checks once.
 * po__mpr_end() must be called: trailing bytes are an error. Slices point into the input. */
#ifndef PO__MP_H
#define PO__MP_H

#include "../base/buf.h"
#include "../base/slice.h"

#define PO__MP_DEPTH_MAX 16
#define PO__MP_NODES_MAX (1u << 20) /* objects in one message */

void po__mpw_array(struct po__buf *b, uint32_t count);
void po__mpw_map(struct po__buf *b, uint32_t count);
void po__mpw_uint(struct po__buf *b, uint64_t v);
void po__mpw_int(struct po__buf *b, int64_t v);
void po__mpw_bool(struct po__buf *b, bool v);
void po__mpw_nil(struct po__buf *b);
void po__mpw_str(struct po__buf *b, struct po__slice s);
void po__mpw_cstr(struct po__buf *b, const char *s);
void po__mpw_bin(struct po__buf *b, struct po__slice s);
void po__mpw_raw(struct po__buf *b, struct po__slice s); /* an already encoded object */

struct po__mpr {
    const uint8_t *p;
    const uint8_t *end;
    uint32_t nodes_left;
    int err; /* 0 or PO_EPROTO */
};

enum po__mp_type {
    PO__MP_NIL,
    PO__MP_BOOL,
    PO__MP_UINT,
    PO__MP_INT,
    PO__MP_STR,
    PO__MP_BIN,
    PO__MP_ARRAY,
    PO__MP_MAP,
    PO__MP_BAD
};

void po__mpr_init(struct po__mpr *r, const void *data, size_t len);
enum po__mp_type po__mpr_peek(const struct po__mpr *r);
uint32_t po__mpr_array(struct po__mpr *r,
                       uint32_t max_count); /* count; an error if above max_count */
uint32_t po__mpr_map(struct po__mpr *r, uint32_t max_count);
uint64_t po__mpr_uint(struct po__mpr *r, uint64_t max);
int64_t po__mpr_int(struct po__mpr *r);
bool po__mpr_bool(struct po__mpr *r);
void po__mpr_nil(struct po__mpr *r);
struct po__slice po__mpr_str(struct po__mpr *r, size_t max_bytes); /* valid UTF-8, no NUL */
struct po__slice po__mpr_bin(struct po__mpr *r, size_t max_bytes);
struct po__slice po__mpr_raw(
    struct po__mpr *r); /* the bytes of the next object, skipped (depth and counts checked) */
void po__mpr_skip(struct po__mpr *r);
void po__mpr_skip_all(struct po__mpr *r, uint32_t count);
/* An array of at least `known` fields: returns how many follow those, to be skipped behind them. */
uint32_t po__mpr_fields(struct po__mpr *r, uint32_t known);
void po__mpr_fail(struct po__mpr *r);
int po__mpr_end(struct po__mpr *r); /* 0, or PO_EPROTO: an earlier error, or bytes left */

#endif
