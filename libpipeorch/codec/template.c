/* One pass over the text. Outside of strings it is copied without its white space; a string that is
 * followed by a colon is a key; any other one is decoded and taken apart into pieces. */
#include "template.h"

#include <pipeorch/error.h>

/* What a decoded string consists of. */
enum piece { PIECE_END, PIECE_TEXT, PIECE_REFERENCE, PIECE_BAD };
struct pieces {
    const char *start, *p, *end;
    bool reference;        /* the dollar of a reference has been read; its `{` is next */
    struct po__slice text; /* of a PIECE_TEXT */
    struct po__path *path; /* of a PIECE_REFERENCE */
    const char *from;      /* its dollar */
    size_t offset;         /* of the path, in the decoded string; of a PIECE_BAD: of the mistake */
    struct po__template_error *e;
};

static void blanks(struct pieces *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\t'))
        in->p++;
}

static enum piece reference(struct pieces *in)
{
    size_t used = 0;
    in->reference = false;
    in->from = in->p - 1;
    in->p++; /* the brace */
    blanks(in);
    in->offset = (size_t)(in->p - in->start);
    if (po__path_parse(in->path, po__slice(in->p, (size_t)(in->end - in->p)), &used, in->e)) {
        in->offset += in->e->offset;
        return PIECE_BAD;
    }
    in->p += used;
    blanks(in);
    if (in->p < in->end && *in->p == '}') {
        in->p++;
        return PIECE_REFERENCE;
    }
    in->offset = (size_t)(in->p - in->start);
    po__template_fail(in->e, in->p == in->end
                                 ? "the reference has no closing }; write $${ for the text ${"
                                 : "the path goes on with a character that belongs to none; "
                                   "write [\"...\"] for a key of other characters than "
                                   "letters, digits, _ and -");
    return PIECE_BAD;
}

static enum piece next_piece(struct pieces *in)
{
    if (in->reference)
        return reference(in);
    if (in->p == in->end)
        return PIECE_END;
    const char *from = in->p, *p = from;
    while ((p = memchr(p, '$', (size_t)(in->end - p))) != NULL) {
        size_t dollars = 0;
        while (p + dollars < in->end && p[dollars] == '$')
            dollars++;
        if (p + dollars == in->end || p[dollars] != '{') {
            p += dollars;
            continue;
        }
        in->text = po__slice(from, (size_t)(p - from) + dollars / 2);
        in->reference = dollars % 2 != 0;
        in->p = p + dollars;
        if (in->text.len == 0)
            return reference(in);
        return PIECE_TEXT;
    }
    in->text = po__slice(from, (size_t)(in->end - from));
    in->p = in->end;
    return PIECE_TEXT;
}

/* Keys and strings of a template. */
struct strings {
    const char *p, *end;
    struct po__slice token;
    bool key;
    struct po__buf decoded;
    struct po__path path;
};

/* p is at the opening quote. */
static void read_string(struct strings *in)
{
    const char *from = in->p++;
    while (*in->p != '"')
        in->p += *in->p == '\\' ? 2 : 1;
    in->p++;
    in->token = po__slice(from, (size_t)(in->p - from));
    const char *p = in->p;
    while (p < in->end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    in->key = p < in->end && *p == ':';
}

static bool has_mark(struct po__slice text)
{
    const char *p = text.data, *end = text.data + text.len;
    while (p < end && (p = memchr(p, '$', (size_t)(end - p))) != NULL) {
        if (++p < end && *p == '{')
            return true;
    }
    return false;
}

/* Decode the string if it may hold references. 1: it does; 0: it does not; or an error. */
static int decode(struct strings *in)
{
    if (in->key || (!memchr(in->token.data, '\\', in->token.len) && !has_mark(in->token)))
        return 0;
    po__buf_reset(&in->decoded);
    if (po__json_decode(&in->decoded, in->token))
        return in->decoded.err;
    return has_mark(po__buf_slice(&in->decoded));
}

static void pieces_init(struct pieces *in, struct strings *strings, struct po__template_error *e)
{
    const char *data = (const char *)strings->decoded.data;
    *in = (struct pieces){.start = data,
                          .p = data,
                          .end = data + strings->decoded.len,
                          .path = &strings->path,
                          .e = e};
}

static size_t offset_in(struct po__slice text, const struct strings *in, size_t decoded)
{
    return (size_t)(in->token.data - text.data) + po__json_token_offset(in->token, decoded);
}

/* ---- references ---- */

static int refs_of_string(struct po__slice text, struct strings *in, po__ref_fn ref, void *arg,
                          struct po__template_error *e)
{
    struct pieces pieces;
    pieces_init(&pieces, in, e);
    for (;;) {
        enum piece piece = next_piece(&pieces);
        size_t offset = offset_in(text, in, pieces.offset);
        if (piece == PIECE_END)
            return 0;
        if (piece == PIECE_BAD) {
            e->offset = offset;
            return PO_EINVAL;
        }
        if (piece == PIECE_TEXT || !ref)
            continue;
        e->offset = offset;
        int rv = ref(arg, pieces.path, offset, e);
        if (rv)
            return rv;
    }
}

int po__template_refs(struct po__slice text, po__ref_fn ref, void *arg,
                      struct po__template_error *e)
{
    struct strings in = {.p = text.data, .end = text.data + text.len};
    int rv = 0;
    e->offset = 0;
    e->text[0] = '\0';
    while (!rv && (in.p = memchr(in.p, '"', (size_t)(in.end - in.p))) != NULL) {
        read_string(&in);
        rv = decode(&in);
        if (rv == 1)
            rv = refs_of_string(text, &in, ref, arg, e);
        else if (rv == PO_ENOMEM)
            po__template_fail(e, "%s", po_strerror(rv));
    }
    po__buf_fini(&in.decoded);
    return rv;
}

/* ---- rendering ---- */

struct render {
    struct po__buf *out;
    struct po__slice text;
    struct strings in;
    struct po__buf joined; /* what a string becomes */
    const struct po__scope *scope;
    struct po__template_error *e;
    unsigned depth; /* arrays and objects that are open */
};

static int buffer_failed(struct render *r, int rv)
{
    if (rv == PO_ETOOBIG)
        po__template_fail(r->e,
                          "the text becomes too long with its values put in (%zu bytes at most)",
                          r->out->max_bytes ? r->out->max_bytes : PO__BUF_MAX_BYTES);
    else if (rv)
        po__template_fail(r->e, "%s", po_strerror(rv));
    return rv;
}

static int put_whole(struct render *r, struct po__slice value)
{
    if (po__json_compact(r->out, value) + r->depth <= PO__JSON_DEPTH_MAX)
        return buffer_failed(r, r->out->err);
    po__template_fail(r->e,
                      "with its values put in, the text is more than %d arrays and objects deep",
                      PO__JSON_DEPTH_MAX);
    return PO_ETOOBIG;
}

static int put_part(struct render *r, struct po__slice value)
{
    if (po__json_type(value) == PO__JSON_STRING)
        po__json_decode(&r->joined, value);
    else
        po__json_compact(&r->joined, value);
    return buffer_failed(r, r->joined.err);
}

static int put_reference(struct render *r, const struct pieces *pieces, bool *whole)
{
    struct po__slice value;
    int rv = po__path_value(&value, pieces->path, r->scope, r->e);
    if (rv) {
        r->e->offset = offset_in(r->text, &r->in, pieces->offset + r->e->offset);
        return rv;
    }
    r->e->offset = offset_in(r->text, &r->in, pieces->offset);
    *whole = pieces->from == pieces->start && pieces->p == pieces->end;
    return *whole ? put_whole(r, value) : put_part(r, value);
}

static int render_string(struct render *r)
{
    struct pieces pieces;
    bool whole = false;
    pieces_init(&pieces, &r->in, r->e);
    po__buf_reset(&r->joined);
    for (;;) {
        int rv = 0;
        switch (next_piece(&pieces)) {
        case PIECE_BAD:
            r->e->offset = offset_in(r->text, &r->in, pieces.offset);
            return PO_EINVAL;
        case PIECE_TEXT:
            rv = buffer_failed(r, po__buf_append(&r->joined, pieces.text.data, pieces.text.len));
            break;
        case PIECE_REFERENCE:
            rv = put_reference(r, &pieces, &whole);
            break;
        case PIECE_END:
            if (!whole)
                po__json_string(r->out, po__buf_slice(&r->joined));
            return buffer_failed(r, r->out->err);
        }
        if (rv)
            return rv;
    }
}

static int render(struct render *r)
{
    struct strings *in = &r->in;
    while (in->p < in->end) {
        const char c = *in->p;
        if (c != '"') {
            r->depth += c == '[' || c == '{';
            r->depth -= c == ']' || c == '}';
            if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
                po__buf_append(r->out, &c, 1);
            in->p++;
            continue;
        }
        read_string(in);
        int rv = decode(in);
        if (rv < 0)
            return buffer_failed(r, rv);
        if (rv == 0)
            po__buf_append(r->out, in->token.data, in->token.len);
        else if ((rv = render_string(r)) != 0)
            return rv;
    }
    return buffer_failed(r, r->out->err);
}

int po__template_render(struct po__buf *out, struct po__slice text, const struct po__scope *scope,
                        struct po__template_error *e)
{
    struct render r = {.out = out,
                       .text = text,
                       .in = {.p = text.data, .end = text.data + text.len},
                       .joined = {.max_bytes = out->max_bytes},
                       .scope = scope,
                       .e = e};
    e->offset = 0;
    e->text[0] = '\0';
    int rv = render(&r);
    po__buf_fini(&r.in.decoded);
    po__buf_fini(&r.joined);
    return rv;
}
