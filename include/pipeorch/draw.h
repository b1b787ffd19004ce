/* Pictures of pipelines and runs. SPDX-License-Identifier: MIT */
#ifndef PIPEORCH_DRAW_H
#define PIPEORCH_DRAW_H

#include <pipeorch/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PO_DRAW_TEXT                                                                               \
    1 /* box-drawing characters for a terminal; an indented list where the picture would be wider  \
         than `columns`, or too tangled */
#define PO_DRAW_DOT 2 /* for Graphviz */
#define PO_DRAW_SVG 3 /* an svg element with its styles, to be put into a page or a file */

#define PO_DRAW_COLUMNS_DEFAULT 120
#define PO_DRAW_COLUMNS_MAX     65535

/* Draw the steps of a pipeline, and of a run their states.
 *
 * json (len bytes): what po_query says for PO_QUERY_PIPELINE or PO_QUERY_RUN, or a pipeline
 * document (po_pipeline_validate tells what is wrong with one; here only the steps' names and order
 * count). form: PO_DRAW_*. columns: width of the terminal, 1..PO_DRAW_COLUMNS_MAX, 0:
 * PO_DRAW_COLUMNS_DEFAULT; TEXT alone looks at it. *picture: UTF-8, NUL-terminated, the same bytes
 * for the same steps; release with po_free.
 *
 * Returns 0, PO_EINVAL (no JSON; no step; a step that follows one that does not exist, or itself),
 * PO_ETOOBIG (more than PO_STEPS_MAX steps, or too many lines pass too many steps: PO_DRAW_DOT
 * leaves those to Graphviz), PO_ENOMEM; po_client_error() says what was wrong. Any thread. Since
 * 0.3. */
PO_API int po_draw(const char *json, size_t len, int form, uint32_t columns, char **picture);

#ifdef __cplusplus
}
#endif
#endif
