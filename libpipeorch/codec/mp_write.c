/* The writer is msgpack-c's packer with a po__buf behind it: it picks the shortest form of every
 * integer and length, which is what makes equal values equal bytes on every node. A packer is two
 * words, so one lives on the stack per call. */
#include "mp.h"

#include <msgpack/pack.h>

/* The buffer keeps the first error; msgpack-c only needs to know that it should not go on. */
static int append(void *arg, const char *data, size_t len)
{
    return po__buf_append(arg, data, len) ? -1 : 0;
}

static msgpack_packer packer(struct po__buf *b)
{
    return (msgpack_packer){.data = b, .callback = append};
}

void po__mpw_array(struct po__buf *b, uint32_t count)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_array(&pk, count);
}

void po__mpw_map(struct po__buf *b, uint32_t count)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_map(&pk, count);
}

void po__mpw_uint(struct po__buf *b, uint64_t v)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_uint64(&pk, v);
}

void po__mpw_int(struct po__buf *b, int64_t v)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_int64(&pk, v);
}

void po__mpw_bool(struct po__buf *b, bool v)
{
    msgpack_packer pk = packer(b);
    if (v)
        msgpack_pack_true(&pk);
    else
        msgpack_pack_false(&pk);
}

void po__mpw_nil(struct po__buf *b)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_nil(&pk);
}

void po__mpw_str(struct po__buf *b, struct po__slice s)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_str(&pk, s.len);
    msgpack_pack_str_body(&pk, s.data, s.len);
}

void po__mpw_cstr(struct po__buf *b, const char *s)
{
    po__mpw_str(b, po__str(s));
}

void po__mpw_bin(struct po__buf *b, struct po__slice s)
{
    msgpack_packer pk = packer(b);
    msgpack_pack_bin(&pk, s.len);
    msgpack_pack_bin_body(&pk, s.data, s.len);
}

void po__mpw_raw(struct po__buf *b, struct po__slice s)
{
    po__buf_append(b, s.data, s.len);
}
