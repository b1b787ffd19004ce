#include "content.h"

#include <string.h>

#include <pipeorch/error.h>
#include "../codec/mp.h"

#define RECORD_MAX_BYTES ((size_t)8 << 20) /* of one record; the model's own bound */
#define SLICE_BYTES      ((size_t)256 << 10)
#define FRAME_HEAD_BYTES 4
enum { SECTION_HEADER = 1, SECTION_MEMBERS = 2, SECTION_END = 9 }; /* frozen numbers */

/* ---- the application's state, carried along ---- */

static int keep_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                      size_t *result_len)
{
    (void)arg, (void)index, (void)cmd, (void)len, (void)result, (void)result_len;
    return PO_EFAULT; /* nobody here knows what the command means */
}

static int keep_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len),
                         void *ctx)
{
    const struct po__content *c = arg;
    return c->app_state.len ? write(ctx, c->app_state.data, c->app_state.len) : 0;
}

static int keep_restore(void *arg, const void *data, size_t len)
{
    struct po__content *c = arg;
    po__buf_reset(&c->app_state);
    return len ? po__buf_append(&c->app_state, data, len) : 0;
}

/* ---- digest of the objects ---- */

static int sum_record(struct po__content *c, const uint8_t *record, size_t len)
{
    struct po__mpr r;
    po__mpr_init(&r, record, len);
    po__mpr_array(&r, UINT8_MAX);
    uint64_t section = po__mpr_uint(&r, UINT8_MAX);
    if (r.err)
        return PO_ECORRUPT;
    if (section == SECTION_HEADER || section == SECTION_MEMBERS || section == SECTION_END)
        return 0;
    return EVP_DigestUpdate(c->digest, record, len) ? 0 : PO_ENOMEM;
}

/* Bytes come in pieces of any size. */
static int sum(struct po__content *c, const void *data, size_t len)
{
    struct po__buf *b = &c->pending;
    size_t used = 0;
    int rv = po__buf_append(b, data, len);
    while (!rv && b->len - used >= FRAME_HEAD_BYTES) {
        const uint8_t *p = b->data + used;
        size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (n > RECORD_MAX_BYTES)
            return PO_ECORRUPT;
        if (b->len - used - FRAME_HEAD_BYTES < n)
            break;
        rv = sum_record(c, p + FRAME_HEAD_BYTES, n);
        used += FRAME_HEAD_BYTES + n;
    }
    if (used) {
        memmove(b->data, b->data + used, b->len - used);
        b->len -= used;
    }
    return rv;
}

static int sum_end(struct po__content *c)
{
    if (c->pending.len)
        return PO_ECORRUPT;
    return EVP_DigestFinal_ex(c->digest, c->state_digest, NULL) &&
                   EVP_DigestInit_ex(c->digest, EVP_sha256(), NULL)
               ? 0
               : PO_ENOMEM;
}

/* ---- life ---- */

int po__content_init(struct po__content *c, const struct po_state_machine *sm)
{
    memset(c, 0, sizeof *c);
    po__buf_init(&c->pending, 2 * RECORD_MAX_BYTES);
    c->keeper = (struct po_state_machine){.size = sizeof c->keeper,
                                          .arg = c,
                                          .apply = keep_apply,
                                          .snapshot = keep_snapshot,
                                          .restore = keep_restore};
    c->app.sm = sm ? sm : &c->keeper;
    c->digest = EVP_MD_CTX_new();
    if (!c->digest || !EVP_DigestInit_ex(c->digest, EVP_sha256(), NULL))
        return PO_ENOMEM;
    return po__model_open(&c->model, &c->app);
}

int po__content_feed(void *content, const void *data, size_t len)
{
    struct po__content *c = content;
    int rv = po__model_restore_chunk(c->model, data, len);
    return rv ? rv : sum(c, data, len);
}

int po__content_end(struct po__content *c)
{
    int rv = po__model_restore_end(c->model);
    return rv ? rv : sum_end(c);
}

void po__content_fini(struct po__content *c)
{
    po__model_close(c->model);
    po__buf_fini(&c->app_state);
    po__buf_fini(&c->slice);
    po__buf_fini(&c->pending);
    EVP_MD_CTX_free(c->digest);
    memset(c, 0, sizeof *c);
}

int po__content_begin(struct po__content *c)
{
    po__buf_reset(&c->slice);
    c->slice_at = 0;
    c->slice_last = false;
    return po__model_snapshot_begin(c->model);
}

static int next_slice(struct po__content *c)
{
    po__buf_reset(&c->slice);
    c->slice_at = 0;
    int rv = po__model_snapshot_step(c->model, &c->slice, SLICE_BYTES);
    if (rv < 0)
        return rv;
    c->slice_last = rv == 1;
    rv = sum(c, c->slice.data, c->slice.len);
    return !rv && c->slice_last ? sum_end(c) : rv;
}

int po__content_read(void *content, void *buf, size_t *len)
{
    struct po__content *c = content;
    int rv = 0;
    while (!rv && c->slice_at == c->slice.len && !c->slice_last)
        rv = next_slice(c);
    size_t left = c->slice.len - c->slice_at;
    *len = rv ? 0 : left < *len ? left : *len;
    if (*len)
        memcpy(buf, c->slice.data + c->slice_at, *len);
    c->slice_at += *len;
    return rv;
}
