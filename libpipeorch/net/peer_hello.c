/* A hello is [version, cluster_id, directory_id, node_id, incarnation, feature_level, name, zone,
 * peer_address, worker_address]. New fields are appended; a reader skips those that it does not
 * know. A refusal is [code, sentence]. */
#include <string.h>

#include <pipeorch/error.h>

#include "../codec/mp.h"
#include "peer_internal.h"

#define HELLO_VERSION    1
#define HELLO_FIELDS     10
#define HELLO_FIELDS_MAX 32

void po__peer_hello_encode(struct po__buf *b, const struct po__peer_hello *hello)
{
    po__mpw_array(b, HELLO_FIELDS);
    po__mpw_uint(b, HELLO_VERSION);
    po__mpw_bin(b, po__slice(hello->cluster_id, sizeof hello->cluster_id));
    po__mpw_bin(b, po__slice(hello->directory_id, sizeof hello->directory_id));
    po__mpw_uint(b, hello->node_id);
    po__mpw_uint(b, hello->incarnation);
    po__mpw_uint(b, hello->feature_level);
    po__mpw_cstr(b, hello->name);
    po__mpw_cstr(b, hello->zone);
    po__mpw_cstr(b, hello->peer_address);
    po__mpw_cstr(b, hello->worker_address);
}

static void read_id(struct po__mpr *r, uint8_t *id, size_t id_len)
{
    struct po__slice s = po__mpr_bin(r, id_len);
    if (s.len == id_len)
        memcpy(id, s.data, id_len);
    else
        po__mpr_fail(r);
}

static void read_text(struct po__mpr *r, char *text, size_t text_len)
{
    struct po__slice s = po__mpr_str(r, text_len - 1);
    if (s.len)
        memcpy(text, s.data, s.len);
    text[s.len] = '\0';
}

int po__peer_hello_decode(const void *data, size_t len, struct po__peer_hello *hello)
{
    struct po__mpr r;
    *hello = (struct po__peer_hello){0};
    po__mpr_init(&r, data, len);
    uint32_t fields = po__mpr_array(&r, HELLO_FIELDS_MAX);
    uint64_t version = po__mpr_uint(&r, UINT64_MAX);
    if (r.err)
        return PO_EPROTO;
    if (version != HELLO_VERSION)
        return PO_EVERSION;
    if (fields < HELLO_FIELDS)
        return PO_EPROTO;
    read_id(&r, hello->cluster_id, sizeof hello->cluster_id);
    read_id(&r, hello->directory_id, sizeof hello->directory_id);
    hello->node_id = po__mpr_uint(&r, UINT64_MAX);
    hello->incarnation = po__mpr_uint(&r, UINT64_MAX);
    hello->feature_level = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    read_text(&r, hello->name, sizeof hello->name);
    read_text(&r, hello->zone, sizeof hello->zone);
    read_text(&r, hello->peer_address, sizeof hello->peer_address);
    read_text(&r, hello->worker_address, sizeof hello->worker_address);
    for (uint32_t i = HELLO_FIELDS; i < fields; i++)
        po__mpr_skip(&r);
    return po__mpr_end(&r);
}

struct po__frame *po__peer_refusal(int code, const char *why)
{
    uint8_t bytes[PO__REFUSAL_MAX_BYTES + 16];
    struct po__buf b = {.data = bytes, .cap = sizeof bytes, .max_bytes = sizeof bytes};
    po__mpw_array(&b, 2);
    po__mpw_int(&b, code);
    po__mpw_str(&b, po__slice(why, strnlen(why, PO__REFUSAL_MAX_BYTES - 1)));
    PO_INVARIANT(b.err == 0);
    return po__peer_frame_copy(NULL, 0, b.data, b.len);
}

int po__peer_refusal_decode(const void *data, size_t len, int *code, char *why, size_t why_len)
{
    struct po__mpr r;
    po__mpr_init(&r, data, len);
    uint32_t fields = po__mpr_array(&r, HELLO_FIELDS_MAX);
    int64_t c = po__mpr_int(&r);
    if (fields < 2 || c >= 0 || c < INT32_MIN)
        return PO_EPROTO;
    read_text(&r, why, why_len);
    for (uint32_t i = 2; i < fields; i++)
        po__mpr_skip(&r);
    *code = (int)c;
    return po__mpr_end(&r);
}
