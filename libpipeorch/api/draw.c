/* Pictures: see draw.h. */
#include <pipeorch/draw.h>

#include "../base/alloc.h"
#include "../draw/draw.h"
#include "call.h"

static int draw(struct po__buf *out, const struct po__drawing *d, int form, uint32_t columns)
{
    switch (form) {
    case PO_DRAW_DOT:
        return po__draw_dot(out, d);
    case PO_DRAW_SVG:
        return po__draw_svg(out, d);
    default:
        return po__draw_text(out, d, columns ? columns : PO_DRAW_COLUMNS_DEFAULT);
    }
}

static int fail(int rv)
{
    return rv == PO_EINVAL ? po__client_fail(rv, "there is no step, or one follows a step that "
                                                 "does not exist, or itself")
           : rv == PO_ETOOBIG
               ? po__client_fail(rv,
                                 "more than %d steps, or too many lines pass too many steps: dot "
                                 "leaves those to Graphviz",
                                 PO_STEPS_MAX)
               : po__client_fail(rv, "out of memory for the picture");
}

int po_draw(const char *json, size_t len, int form, uint32_t columns, char **picture)
{
    struct po__buf out = {0};
    struct po__drawing d;
    json_error_t error;
    if (!json || !picture)
        return po__client_fail(PO_EINVAL, "the JSON, or the place for the picture, is NULL");
    *picture = NULL;
    if (form < PO_DRAW_TEXT || form > PO_DRAW_SVG || columns > PO_DRAW_COLUMNS_MAX)
        return po__client_fail(PO_EINVAL,
                               "form is %d, columns %u; expected a PO_DRAW_*, and 0..%d columns",
                               form, columns, PO_DRAW_COLUMNS_MAX);
    /* Numbers are not drawn, and may be of any size. */
    json_t *root = json_loadb(json, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (!root)
        return json_error_code(&error) == json_error_out_of_memory
                   ? fail(PO_ENOMEM)
                   : po__client_fail(PO_EINVAL, "line %d, column %d: %s; expected a JSON object",
                                     error.line, error.column, error.text);
    int rv = po__draw_read(&d, root);
    rv = rv ? rv : draw(&out, &d, form, columns);
    if (!rv && !(*picture = po__strndup((const char *)out.data, out.len)))
        rv = PO_ENOMEM;
    po__draw_fini(&d);
    po__buf_fini(&out);
    json_decref(root);
    return rv ? fail(rv) : 0;
}
